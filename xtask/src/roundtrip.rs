//! `cargo xtask roundtrip`: the cross-format matrix, printed with its verdict.

use crate::workspace::{Outcome, cargo};

/// Builds and runs the matrix; arguments go to it.
pub fn run(args: &[String]) -> Outcome {
    let mut command = vec!["run", "--quiet", "--package", "modelark-tests", "--bin", "roundtrip", "--"];
    command.extend(args.iter().map(String::as_str));
    cargo(&command, &[])
}
