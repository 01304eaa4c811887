//! Moving elements: reordering, joining, cutting, picking, repeating, and making tensors from nothing.
//!
//! Elements are moved by their width, whatever they mean; strings move too.

mod cast;
mod small_float;

pub use cast::cast;
