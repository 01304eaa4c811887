//! TensorFlow checkpoints: TensorBundle, V1 files, object graphs, Saver.

#![forbid(unsafe_code)]

mod bundle;
mod crc;
mod payload;
mod region;
pub mod slice;
mod table;
mod varint;
pub mod wire;

pub use bundle::{Bundle, BundleWriter, OBJECT_GRAPH_KEY};
