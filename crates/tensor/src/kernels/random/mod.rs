//! Random numbers, bit for bit as TensorFlow makes them from the same seeds.
//!
//! [`Philox`] gives four words for each value of a counter, so that any number of a sequence can be had at once, and
//! [`ThreeFry`] two;
//! [`fill`] makes tensors of the simple distributions, [`sample`] draws from those with parameters, and [`pick`] shuffles and
//! chooses.

pub mod fill;
mod philox;
pub mod pick;
pub mod sample;
mod threefry;

pub use philox::{Philox, Words};
pub use threefry::ThreeFry;
