//! The modelark program: inspect, convert, run, compare and check TensorFlow and Keras models.
//!
//! Exit codes: 0 for success, 1 when `diff` finds a difference or `verify` a fault, 2 for errors.
#![forbid(unsafe_code)]

mod completions;
mod convert;
mod diff;
mod inspect;
mod open;
mod ops;
mod output;
mod progress;
mod restore;
mod run;
mod salvage;
mod tensors;
mod verify;
mod weights;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use modelark::Result;

/// What a verb has to say at its end, apart from errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well.
    Good,
    /// Two models differ, or a model has a fault.
    Bad,
}

/// Save, load, run and convert TensorFlow and Keras models without TensorFlow.
#[derive(Parser)]
#[command(name = "modelark", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Inspect(inspect::Inspect),
    Convert(convert::Convert),
    Run(run::Run),
    Weights(weights::Weights),
    Diff(diff::Diff),
    Verify(verify::Verify),
    Ops(ops::Ops),
    Completions(completions::Completions),
}

impl Verb {
    fn run(&self) -> Result<Verdict> {
        match self {
            Verb::Inspect(v) => v.run(),
            Verb::Convert(v) => v.run(),
            Verb::Run(v) => v.run(),
            Verb::Weights(v) => v.run(),
            Verb::Diff(v) => v.run(),
            Verb::Verify(v) => v.run(),
            Verb::Ops(v) => v.run(),
            Verb::Completions(v) => v.run(),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().verb.run() {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(1),
        Err(e) => {
            output::error(&e);
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
