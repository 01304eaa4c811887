//! `modelark convert`.

use std::path::PathBuf;

use clap::Args;
use modelark::artifact::Entry;
use modelark::{Dialect, Result, Save};
use serde_json::json;

use crate::Verdict;
use crate::open::How;
use crate::output::{self, Style, Text};
use crate::progress::Progress;

/// Convert a model to another format, named by the target: m.keras, m.h5, m.weights.h5, m.json, m.npz, a folder for a
/// SavedModel
#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// The model to read
    source: PathBuf,
    /// What to write; it is replaced only when the whole of it is written
    target: PathBuf,
    #[command(flatten)]
    how: How,
    /// Write this format, whatever the target's name (`modelark ops --formats` lists them)
    #[arg(long, value_name = "FORMAT")]
    to: Option<String>,
    /// Write configs for this Keras: keras2 or keras3
    #[arg(long, value_name = "DIALECT", value_parser = dialect)]
    dialect: Option<Dialect>,
    /// Freeze this signature rather than the default one
    #[arg(long, value_name = "NAME", conflicts_with = "function")]
    signature: Option<String>,
    /// Freeze this function of an object, by its path, such as __call__
    #[arg(long, value_name = "PATH")]
    function: Option<String>,
    /// Leave the compile config and the optimizer's state out
    #[arg(long)]
    without_training: bool,
    /// Write a checkpoint for tf.train.Checkpoint.restore rather than for Keras's load_weights
    #[arg(long)]
    save_counter: bool,
    /// Compress where the format can
    #[arg(long)]
    compress: bool,
    /// Write weights as .weights.json with files of at most this many bytes beside it.
    #[arg(long, value_name = "BYTES")]
    max_shard_size: Option<u64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn dialect(text: &str) -> Result<Dialect, String> {
    text.parse().map_err(|e: modelark::Error| e.to_string())
}

impl Convert {
    pub(crate) fn run(&self) -> Result<Verdict> {
        let mut convert = modelark::Convert::new().open(self.how.open()).save(self.save());
        if let Some(weights) = &self.how.weights {
            convert = convert.weights(weights);
        }
        if self.how.by_name {
            convert = convert.by_name(self.how.skip_mismatch);
        }
        if let Some(seed) = self.how.initialize {
            convert = convert.initialize(seed);
        }
        let progress = Progress::new("converting", 0);
        let report = convert.run(&self.source, &self.target)?;
        drop(progress);
        if self.json {
            let (source, target) = (self.source.display().to_string(), self.target.display().to_string());
            output::json(&json!({"source": source, "target": target, "notes": report.notes}))?;
            return Ok(Verdict::Good);
        }
        let mut text = Text::new();
        let done = text.paint("wrote", Style::Good);
        text.line(format!("{done} {}", self.target.display()));
        for note in &report.notes {
            text.line(format!("  {note}"));
        }
        text.print()?;
        Ok(Verdict::Good)
    }

    fn save(&self) -> Save {
        let mut save = Save::new();
        if let Some(format) = &self.to {
            save = save.format(format);
        }
        if let Some(dialect) = self.dialect {
            save = save.dialect(dialect);
        }
        if self.without_training {
            save = save.without_training();
        }
        if self.save_counter {
            save = save.save_counter();
        }
        let signature = self.signature.clone().map(Entry::Signature);
        if let Some(entry) = signature.or(self.function.clone().map(Entry::Function)) {
            save = save.entry(entry);
        }
        if let Some(bytes) = self.max_shard_size {
            save = save.max_shard_size(bytes);
        }
        if self.compress {
            save = save.compress();
        }
        save
    }
}
