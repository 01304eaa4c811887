//! `cargo xtask roundtrip`: the cross-format matrix, printed with its verdict.

use crate::workspace::{Outcome, test_program};

/// Builds and runs the matrix; arguments go to it.
pub fn run(args: &[String]) -> Outcome {
    test_program("roundtrip", args)
}
