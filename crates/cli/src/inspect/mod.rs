//! `modelark inspect`.

mod describe;
mod layers;
mod print;

use std::mem::ManuallyDrop;

use clap::Args;
use modelark::Result;

use crate::open::Source;
use crate::{Verdict, output};

/// Show what a file holds: layers, objects, signatures, variables, training config. Nothing is run
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    source: Source,
    /// Show all of a long tree or table
    #[arg(long)]
    full: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(crate) fn run(&self) -> Result<Verdict> {
        let (artifact, format) = self.source.artifact()?;
        // The process ends after this; taking a large model apart would only cost time.
        let artifact = ManuallyDrop::new(artifact);
        let description = describe::describe(&artifact, format, &self.source)?;
        if self.json {
            output::json(&description.to_json())?;
        } else {
            print::print(&description, &artifact, self.full)?;
        }
        Ok(Verdict::Good)
    }
}
