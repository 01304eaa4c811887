//! `modelark ops`.

use clap::Args;
use modelark::Result;
use modelark::graph::ops;
use serde_json::json;

use crate::Verdict;
use crate::output::{self, Text};

/// List the TensorFlow ops that can run here, with the dtypes that they take
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
            let op = |name: &&str| {
                let dtypes: serde_json::Map<String, serde_json::Value> =
                    ops::dtypes(name).iter().map(|(attr, d)| ((*attr).to_owned(), json!(d))).collect();
                json!({"name": name, "dtypes": dtypes})
            };
            output::json(&names.iter().map(op).collect())?;
        } else {
            let row = |name: &&str| {
                let attrs = ops::dtypes(name).iter();
                let attrs = attrs.map(|(attr, dtypes)| format!("{attr}: {}", dtypes.join(" ")));
                vec![(*name).to_owned(), attrs.collect::<Vec<_>>().join("; ")]
            };
            let mut text = Text::new();
            text.table(
                &["op", "dtypes, where not any or always the same"],
                &[],
                &names.iter().map(row).collect::<Vec<_>>(),
            );
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
