//! `cargo xtask tidy`: the rules of the workspace that no compiler knows.

mod crates;
mod links;
mod rust;
mod text;

use std::fs;
use std::process::Command;

use crate::workspace::{Outcome, packages, root};

/// What is wrong, and where: `path:line: message`.
type Findings = Vec<String>;

/// A checked file: its path from the top of the workspace, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn has_extension(&self, extensions: &[&str]) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
    }

    /// Whether a program wrote it. Such a file says so in its first line.
    fn is_generated(&self) -> bool {
        self.text.lines().next().is_some_and(|line| line.contains("@generated"))
    }

    fn finding(&self, line: usize, message: &str) -> String {
        format!("{}:{line}: {message}", self.path)
    }
}

/// Checks the crates, then every file, and fails if anything was found.
pub fn run(args: &[String]) -> Outcome {
    if let Some(arg) = args.first() {
        return Err(format!("takes no arguments, got {arg}").into());
    }
    let mut findings = crates::check(&packages()?)?;
    for source in sources()? {
        text::check(&source, &mut findings);
        if source.has_extension(&["rs"]) {
            rust::check(&source, &mut findings);
        }
        if source.has_extension(&["md"]) {
            links::check(&source, &root(), &mut findings);
        }
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        n => Err(format!("{n} findings").into()),
    }
}

/// The files that people write, committed or about to be. Data is not among them.
fn sources() -> Outcome<Vec<Source>> {
    let root = root();
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(&root)
        .output()?;
    if !listed.status.success() {
        return Err(String::from_utf8_lossy(&listed.stderr).into());
    }
    let mut sources = Vec::new();
    for path in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        let Ok(bytes) = fs::read(root.join(path)) else {
            continue; // deleted, and not yet committed so
        };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let source = Source { path: path.to_owned(), text };
        let written = ["rs", "toml", "md", "proto", "py", "sh", "yml", "yaml"];
        if source.has_extension(&written) || source.text.starts_with("#!/") {
            sources.push(source);
        }
    }
    Ok(sources)
}
