//! Configs: one declaration that reads and writes each, and the values within them as types.

mod activation;
mod draw;
mod dtype;
mod fields;
mod initializer;
mod options;
mod penalty;
mod serialized;
mod value;

pub use activation::Activation;
pub(crate) use activation::{gelu, leaky_relu, softmax};
pub use dtype::DTypePolicy;
pub use fields::{ConfigValue, Fields, Object, Reader, Writer};
pub use initializer::Initializer;
pub(crate) use initializer::numbers;
pub use options::{DataFormat, Padding};
pub use penalty::{Constraint, Regularizer};
pub use serialized::{Serialized, plain};
pub(crate) use value::expected;
pub use value::{Axes, Listed, resolve_axis};
