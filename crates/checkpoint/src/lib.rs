//! TensorFlow checkpoints: TensorBundle, V1 files, object graphs, Saver.
//!
//! | to | use | in TensorFlow |
//! | --- | --- | --- |
//! | read any checkpoint's tensors by key | [`Reader`] | `tf.train.load_checkpoint` |
//! | save and restore variables by name | [`Saver`], [`latest_checkpoint`] | `tf.compat.v1.train.Saver` |
//! | keep the latest checkpoints of a training | [`CheckpointManager`] | `tf.train.CheckpointManager` |
//! | read and write models | [`Checkpoint`], a [`Format`](modelark_artifact::Format) | `save_weights`, `tf.train.Checkpoint` |
//! | write one tensor after another | [`BundleWriter`], [`v1::write`] | `SaveV2`, `SaveSlices` |
//! | write the checkpoint inside of another format | [`Named`], [`write_objects`] | |
//!
//! Reading copies nothing: the index is held in memory, data files are mapped, and a tensor is a view of its bytes.
//! Its checksum is compared when it is read (unless [`Limits::verify`](modelark_artifact::Limits::verify) is off), so
//! that only the tensors that are asked for are touched. Writing takes a tensor at a time and computes the checksum on
//! the way; given the same tensors in the same order, the files are TensorFlow's byte for byte.
//!
//! Every size, offset and count in a file is checked before it is used; nothing is allocated for what a file only
//! claims to hold.

#![forbid(unsafe_code)]

mod bind;
mod bundle;
mod crc;
mod format;
mod keras;
mod manager;
mod named;
mod object_graph;
mod optimizer;
mod payload;
mod reader;
mod region;
mod salvage;
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
pub use manager::CheckpointManager;
pub use named::{Named, NamedSlot, write_objects};
pub use reader::Reader;
pub use saver::{Saver, WriteVersion, latest_checkpoint};
pub use v1::V1;

/// The formats of this crate.
pub fn formats() -> Vec<Box<dyn modelark_artifact::Format>> {
    vec![Box::new(Checkpoint)]
}
