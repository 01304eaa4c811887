//! Rules for every written file: its length, its white space, and no trace of the machine it was written on.

use super::{Findings, Source};

const MAX_LINES: usize = 800;

/// Folders at the top of somebody's disk. Nothing in the tree may need them or tell of them.
const MACHINE_FOLDERS: &[&str] = &["Users", "home", "mnt", "opt", "root", "tmp", "work"];

/// Ends of host names that only one network can resolve.
const MACHINE_HOSTS: &[&str] = &[".corp", ".internal", ".intranet", ".lan", ".local", "localhost"];

/// Adds what is wrong with the text of a file.
pub fn check(source: &Source, findings: &mut Findings) {
    if source.is_generated() {
        return;
    }
    let lines = source.text.lines().count();
    if lines > MAX_LINES && source.has_extension(&["rs", "py", "proto", "sh"]) {
        let message = format!("{lines} lines; one concept a file, {MAX_LINES} lines at most");
        findings.push(source.finding(lines, &message));
    }
    if !source.text.is_empty() && !source.text.ends_with('\n') {
        findings.push(source.finding(lines, "no newline at the end"));
    }
    for (number, line) in (1..).zip(source.text.split_terminator('\n')) {
        let mut found = |message: &str| findings.push(source.finding(number, message));
        if line.contains('\t') {
            found("a tab");
        }
        if line.ends_with([' ', '\r']) {
            found("white space at the end of the line");
        }
        if let Some(folder) = MACHINE_FOLDERS.iter().find(|folder| names_folder(line, folder)) {
            found(&format!("a path of one machine (/{folder})"));
        }
        if let Some(host) = hosts(line).find(|host| is_machine_host(host)) {
            found(&format!("a host of one network ({host})"));
        }
    }
}

/// Whether an absolute path in the line starts with the folder. `a/home` and `/homes` do not.
fn names_folder(line: &str, folder: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || "_-.~}>)]$*/".contains(c);
    line.match_indices(&format!("/{folder}")).any(|(at, found)| {
        let before = line[..at].chars().next_back();
        let after = line[at + found.len()..].chars().next();
        !before.is_some_and(in_name) && after.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '-'))
    })
}

fn hosts(line: &str) -> impl Iterator<Item = &str> {
    line.split("://").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '.' || c == '-'));
        &rest[..end.unwrap_or(rest.len())]
    })
}

fn is_machine_host(host: &str) -> bool {
    let number = host.contains('.') && host.chars().all(|c| c.is_ascii_digit() || c == '.');
    number || MACHINE_HOSTS.iter().any(|end| host.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Findings {
        let mut findings = Vec::new();
        check(&Source { path: "a.rs".to_owned(), text: text.to_owned() }, &mut findings);
        findings
    }

    #[test]
    fn white_space_is_found_with_its_line() {
        assert_eq!(findings("fn a() {}\n"), Findings::new());
        assert_eq!(
            findings("a\nb \n\tc"),
            ["a.rs:3: no newline at the end", "a.rs:2: white space at the end of the line", "a.rs:3: a tab",]
        );
    }

    #[test]
    fn a_long_file_is_found_unless_generated() {
        let long = "x\n".repeat(MAX_LINES + 1);
        assert_eq!(findings(&long).len(), 1);
        assert_eq!(findings(&"x\n".repeat(MAX_LINES)), Findings::new());
        assert_eq!(findings(&format!("// @generated\n{long}")), Findings::new());
    }

    #[test]
    fn machine_paths_and_hosts_are_found() {
        for folder in MACHINE_FOLDERS {
            assert_eq!(findings(&format!("cd /{folder}/x\n")).len(), 1, "{folder}");
            assert_eq!(findings(&format!("\"/{folder}\"\n")).len(), 1, "{folder}");
            assert_eq!(findings(&format!("target/{folder}/x /{folder}s\n")), Findings::new());
            assert_eq!(findings(&format!("https://example.org/{folder}\n")), Findings::new());
        }
        for host in ["localhost", "10.1.2.3", "mirror.internal", "box.lan"] {
            assert_eq!(findings(&format!("http://{host}:80/x\n")).len(), 1, "{host}");
        }
        assert_eq!(findings("https://www.tensorflow.org/guide\n"), Findings::new());
    }
}
