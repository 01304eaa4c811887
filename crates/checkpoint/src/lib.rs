//! TensorFlow checkpoints: TensorBundle, V1 files, object graphs, Saver.

#![forbid(unsafe_code)]

mod bind;
mod bundle;
mod crc;
mod format;
mod keras;
mod named;
mod object_graph;
mod optimizer;
mod payload;
mod reader;
mod region;
mod saver;
pub mod slice;
pub mod state;
mod table;
mod trackable;
pub mod v1;
mod varint;
pub mod wire;

pub use bundle::{Bundle, BundleWriter, OBJECT_GRAPH_KEY};
pub use format::Checkpoint;
pub use named::{Named, NamedSlot, write_objects};
pub use reader::Reader;
pub use saver::{Saver, WriteVersion, latest_checkpoint};
pub use v1::V1;

/// The formats of this crate.
pub fn formats() -> Vec<Box<dyn modelark_artifact::Format>> {
    vec![Box::new(Checkpoint)]
}
