//! The engine: what flows along a graph's edges, what computes at its nodes, and what runs it all.

mod kernel;
mod resource;
mod value;

pub use kernel::{Context, Kernel, Values, kernel};
pub use resource::{Resource, Resources, Variable};
pub use value::{Value, Variant};
