//! TensorFlow SavedModel folders and frozen graphs.
#![forbid(unsafe_code)]

mod attr;
mod function;
mod graphdef;
mod signatures;
mod structure;
