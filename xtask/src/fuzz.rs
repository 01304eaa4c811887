//! `cargo xtask fuzz`: every parser under libFuzzer for a while.

use std::path::Path;
use std::process::Command;

use crate::workspace::{Outcome, root, test_program, test_program_output};

const HELP: &str = "fuzz [--seconds N] [--only TARGET]...: N seconds for each parser (default 60); needs a nightly \
                    toolchain and cargo-fuzz";

/// Writes the seeds, then runs the targets one after the other; a find stays under `fuzz/artifacts`.
pub fn run(args: &[String]) -> Outcome {
    let (mut seconds, mut only) = (60u64, Vec::new());
    let mut rest = args.iter();
    while let Some(flag) = rest.next() {
        match (flag.as_str(), rest.next()) {
            ("--seconds", Some(n)) => seconds = n.parse().map_err(|_| HELP)?,
            ("--only", Some(target)) => only.push(target.as_str()),
            _ => return Err(HELP.into()),
        }
    }
    let fuzz = root().join("fuzz");
    let mut finds = Vec::new();
    let targets = test_program_output("hostile", &["--targets"])?;
    let targets = targets.lines().filter_map(|line| line.split_once(' '));
    for (target, dictionary) in targets.filter(|(t, _)| only.is_empty() || only.contains(t)) {
        let corpus = fuzz.join("corpus").join(target);
        let folder = corpus.to_str().ok_or("the path isn't UTF-8")?;
        test_program("hostile", &["--seeds", target, folder])?;
        if !one(&fuzz, target, dictionary, seconds)? {
            finds.push(target);
        }
    }
    if finds.is_empty() {
        Ok(())
    } else {
        Err(format!("finds in {}: see fuzz/artifacts", finds.join(", ")).into())
    }
}

/// Whether the target survived.
fn one(fuzz: &Path, target: &str, dictionary: &str, seconds: u64) -> Outcome<bool> {
    println!("{target}: {seconds} s");
    let status = Command::new("cargo")
        .args(["+nightly", "fuzz", "run", "--fuzz-dir", ".", target, "--"])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-dict=dictionaries/{dictionary}.dict"))
        // The patience of the tests, in seconds, and memory for the sanitizer besides the limits.
        .args(["-timeout=5", "-rss_limit_mb=2048", "-max_len=262144", "-print_final_stats=1"])
        .current_dir(fuzz)
        .status()?;
    Ok(status.success())
}
