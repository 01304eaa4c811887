//! `modelark ops`.

use clap::Args;
use modelark::Result;
use modelark::graph::ops;
use serde_json::json;

use crate::Verdict;
use crate::output::{self, Text};

/// List the TensorFlow ops that can run here
#[derive(Debug, Args)]
pub(crate) struct Ops {
    /// Show only ops whose name contains this
    filter: Option<String>,
    /// List the formats that can be read and written instead
    #[arg(long, conflicts_with = "filter")]
    formats: bool,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

impl Ops {
    pub(crate) fn run(&self) -> Result<Verdict> {
        if self.formats {
            return self.list_formats();
        }
        let filter = self.filter.as_deref().unwrap_or_default().to_lowercase();
        let names: Vec<&str> =
            ops::names().into_iter().filter(|n| n.to_lowercase().contains(&filter)).collect();
        if self.json {
            output::json(&json!(names))?;
        } else {
            let mut text = Text::new();
            names.iter().for_each(|name| text.line(name));
            text.print()?;
        }
        Ok(Verdict::Good)
    }

    fn list_formats(&self) -> Result<Verdict> {
        if self.json {
            let formats =
                modelark::formats().map(|f| json!({"name": f.name(), "description": f.description()}));
            output::json(&formats.collect())?;
        } else {
            let rows: Vec<Vec<String>> =
                modelark::formats().map(|f| vec![f.name().to_owned(), f.description().to_owned()]).collect();
            let mut text = Text::new();
            text.table(&["format", "what it is"], &[], &rows);
            text.print()?;
        }
        Ok(Verdict::Good)
    }
}
