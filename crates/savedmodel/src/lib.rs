//! TensorFlow SavedModel folders and frozen graphs.
#![forbid(unsafe_code)]

mod attr;
mod bind;
mod fields;
mod format;
mod freeze;
mod frozen;
mod function;
mod graphdef;
mod keras_metadata;
mod library;
mod objects;
mod plan;
mod residue;
mod saved_model;
mod serving;
mod session;
mod signatures;
mod structure;
mod text;
mod write;

use modelark_artifact::Format;

pub use format::SavedModelFormat;
pub use frozen::FrozenGraph;
pub use saved_model::{ReadOptions, SavedModel, meta_graph_tags};

/// The formats of this crate.
pub fn formats() -> Vec<Box<dyn Format>> {
    vec![Box::new(SavedModelFormat::default()), Box::new(FrozenGraph)]
}
