//! `modelark completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use modelark::Result;

use crate::{Cli, Verdict, output};

/// Print completions for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<Verdict> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "modelark", &mut script);
        output::write_out(&script)?;
        Ok(Verdict::Good)
    }
}
