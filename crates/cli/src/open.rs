//! What verbs that read a model have in common.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use modelark::artifact::{Format, Salvage};
use modelark::{Artifact, Limits, Load, Model, Open, Place, Result};

/// How to read a model.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// The model: a file, a SavedModel's folder, a checkpoint's prefix
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) how: How,
}

/// What the path alone doesn't tell.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Read as this format, whatever the content looks like
    #[arg(long, value_name = "FORMAT")]
    pub(crate) from: Option<String>,
    /// Take the weights from this file (.h5, .weights.h5, .npy, .npz, .pkl, .safetensors, a checkpoint)
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,
    /// Give the weights of --weights, an .h5 file, to the layers of the same names, and leave the others as they are
    #[arg(long, requires = "weights")]
    pub(crate) by_name: bool,
    /// With --by-name: leave layers as they are whose weights don't fit
    #[arg(long, requires = "by_name")]
    pub(crate) skip_mismatch: bool,
    /// Draw weights that no file gives from this seed
    #[arg(long, value_name = "SEED")]
    pub(crate) initialize: Option<u64>,
    /// Read the MetaGraph of a SavedModel that has exactly these tags, such as serve,gpu
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    pub(crate) tags: Option<Vec<String>>,
    /// Don't compare checksums
    #[arg(long)]
    pub(crate) no_verify: bool,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
}

/// What a file may ask for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Bounds {
    /// Bytes of memory for one tensor, for all that a file expands to, and for a run, with K, M or G (default 64G; 16G for a run)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
    /// Seconds that a run may take (default: as long as it takes)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_time: Option<Duration>,
    /// Loop iterations and calls of functions that a run may make (default: any number)
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,
    /// Tensors, objects or nodes that a file may list
    #[arg(long, value_name = "N")]
    max_items: Option<usize>,
    /// How deep what is in a file may nest
    #[arg(long, value_name = "N")]
    max_depth: Option<usize>,
    /// Run graphs as they are written, without the passes that make them faster
    #[arg(long)]
    no_passes: bool,
}

impl Bounds {
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        if let Some(bytes) = self.max_memory {
            limits.tensor_bytes = bytes;
            limits.expanded_bytes = bytes;
            limits.text_bytes = limits.text_bytes.min(bytes);
            limits.run_bytes = bytes;
        }
        limits.run_time = self.max_time;
        limits.run_steps = self.max_steps;
        limits.run_as_written = self.no_passes;
        limits.items = self.max_items.unwrap_or(limits.items);
        limits.depth = self.max_depth.unwrap_or(limits.depth);
        limits
    }
}

/// A number of bytes, such as `500M`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase().trim_end_matches("IB")
    {
        "" | "B" => 0,
        "K" | "KB" => 10,
        "M" | "MB" => 20,
        "G" | "GB" => 30,
        "T" | "TB" => 40,
        _ => return Err("a size is a number, with K, M, G or T behind it".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "a size begins with a whole number".to_owned())?;
    number.checked_mul(1 << unit).ok_or_else(|| "no machine has that much".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

impl How {
    pub(crate) fn open(&self) -> Open {
        let mut open = Open::new().limits(self.bounds.limits()).verify(!self.no_verify);
        if let Some(format) = &self.from {
            open = open.format(format);
        }
        if let Some(tags) = &self.tags {
            open = open.tags(tags.iter().filter(|t| !t.is_empty()));
        }
        open
    }

    pub(crate) fn load(&self) -> Load {
        let mut load = Load::new().open(self.open());
        if let Some(weights) = &self.weights {
            load = load.weights(weights);
        }
        if self.by_name {
            load = load.by_name(self.skip_mismatch);
        }
        if let Some(seed) = self.initialize {
            load = load.initialize(seed);
        }
        load
    }
}

impl Source {
    /// The parts of the model, nothing run.
    pub(crate) fn artifact(&self) -> Result<(Artifact, &'static dyn Format)> {
        self.how.open().place(&self.place())
    }

    pub(crate) fn place(&self) -> Place {
        Place::of_path(&self.path)
    }

    /// What is intact of the model's tensors.
    pub(crate) fn salvage(&self) -> Result<Salvage> {
        self.how.open().salvage(&self.path)
    }

    /// The model, to be run at once.
    pub(crate) fn model(&self) -> Result<Model> {
        self.how.load().open(self.how.open().ahead(true)).path(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!((size("12"), size("3k"), size("2GiB")), (Ok(12), Ok(3 << 10), Ok(2 << 30)));
        assert!(size("lots").is_err() && size("1X").is_err() && size("99999999T").is_err());
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("-1").is_err());
    }
}
