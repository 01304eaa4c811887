//! `cargo xtask hostile`: damaged files of every format.

use crate::workspace::{Outcome, cargo};

/// Builds and runs the torturer; arguments go to it.
pub fn run(args: &[String]) -> Outcome {
    let mut command = vec!["run", "--quiet", "--package", "modelark-tests", "--bin", "hostile", "--"];
    command.extend(args.iter().map(String::as_str));
    cargo(&command, &[])
}
