//! TensorFlow checkpoints: TensorBundle, V1 files, object graphs, Saver.

#![forbid(unsafe_code)]

mod varint;
pub mod wire;
