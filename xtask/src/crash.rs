//! `cargo xtask crash`: saves of every format, killed at random moments.

use crate::workspace::{Outcome, cargo};

/// Builds and runs the killer; arguments go to it.
pub fn run(args: &[String]) -> Outcome {
    let mut command = vec!["run", "--quiet", "--package", "modelark-tests", "--bin", "crash", "--"];
    command.extend(args.iter().map(String::as_str));
    cargo(&command, &[])
}
