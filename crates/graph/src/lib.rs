//! TensorFlow graphs: ops, the builder that traces, functions, and the engine that runs them.
//!
//! A [`Graph`] is nodes of TensorFlow ops; a [`Function`] is a graph with arguments and results; a [`Library`] holds
//! functions that call each other by name. Graphs come from a SavedModel or from the [`Builder`], and are the same kind
//! of thing either way. Nothing here knows files or layers.
#![forbid(unsafe_code)]

mod attr;
mod builder;
mod composite;
pub mod engine;
mod error;
mod graph;
mod hlo;
mod library;
mod names;
pub mod ops;
mod passes;
mod signature;
mod sugar;

pub use attr::{Attr, Attrs, FuncRef};
pub use builder::{Builder, OpCall, Sym};
pub use composite::expand_composites;
pub use error::{Error, ErrorKind, Result};
pub use graph::{ARG, Function, FunctionResult, Graph, Node, Output};
pub use library::{Deferred, Library};
pub use modelark_tensor as tensor;
pub use names::Names;
pub use passes::inline_calls;
pub use signature::{ArgDef, ArgType, AttrDef, OpSignature};
