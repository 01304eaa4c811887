//! TensorFlow checkpoints: TensorBundle, V1 files, object graphs, Saver.

#![forbid(unsafe_code)]

mod bundle;
mod crc;
mod payload;
mod reader;
mod region;
pub mod slice;
pub mod state;
mod table;
pub mod v1;
mod varint;
pub mod wire;

pub use bundle::{Bundle, BundleWriter, OBJECT_GRAPH_KEY};
pub use reader::Reader;
pub use v1::V1;
