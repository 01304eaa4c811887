//! `cargo xtask crash`: saves of every format, killed at random moments.

use crate::workspace::{Outcome, test_program};

/// Builds and runs the killer; arguments go to it.
pub fn run(args: &[String]) -> Outcome {
    test_program("crash", args)
}
