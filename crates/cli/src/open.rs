//! What verbs that read a model have in common.

use std::path::PathBuf;

use clap::Args;
use modelark::artifact::Format;
use modelark::{Artifact, Load, Model, Open, Place, Result};

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
}

impl How {
    pub(crate) fn open(&self) -> Open {
        let mut open = Open::new().verify(!self.no_verify);
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

    /// The model, ready to run.
    pub(crate) fn model(&self) -> Result<Model> {
        self.how.load().path(&self.path)
    }
}
