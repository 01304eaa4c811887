//! StableHLO modules, read from the portable artifacts that JAX, TensorFlow and others write.
//!
//! A portable artifact is MLIR bytecode whose operations are those of VHLO, the versioned form of StableHLO: each operation
//! and attribute has a version in its name (`dot_general_v2`) and a fixed encoding. [`Module::read`] reads every version
//! since 0.9.0 into one small model, in which operations go by StableHLO's names (`dot_general`) and attributes by theirs,
//! however they were stored. It knows nothing of what operations compute, nor of TensorFlow.
#![forbid(unsafe_code)]

mod attr;
mod bytecode;
mod bytes;
mod error;
mod module;
mod properties;
mod types;

pub use attr::{Attr, Constant};
pub use error::{Error, Result};
pub use module::{Block, Function, Module, Op, Value};
pub use types::{Element, TensorType, Type};
