//! `cargo xtask hostile`: damaged files of every format.

use crate::workspace::{Outcome, test_program};

/// Builds and runs the torturer; arguments go to it.
pub fn run(args: &[String]) -> Outcome {
    test_program("hostile", args)
}
