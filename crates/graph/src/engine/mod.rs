//! The engine: what flows along a graph's edges, what computes at its nodes, and what runs it all.

mod check;
mod compiled;
mod frames;
mod kernel;
pub(crate) mod plan;
mod program;
mod resource;
mod run;
mod value;

pub use frames::fetchable;
pub use kernel::{Context, Kernel, Values, kernel};
pub use program::{Executable, Program};
pub use resource::{Loader, Resource, Resources, Variable};
pub use run::{Printer, RunOptions};
pub use value::{Value, Variant};
