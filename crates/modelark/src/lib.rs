//! Save, load, run and convert TensorFlow and Keras models without TensorFlow.
//!
//! [`load`] takes a SavedModel's folder, an `.h5`, a `.keras`, or an architecture with weights beside it, finds the format
//! by content, and gives a [`Model`] that runs:
//!
//! ```
//! # use modelark::nn::{Sequential, layers::{Dense, InputLayer}};
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! # let layers = Sequential::new("m").add(InputLayer::new([4])).add(Dense::new(2)).build()?;
//! # modelark::Model::from_layers(layers)?.save(folder.join("model.keras"))?;
//! let model = modelark::load(folder.join("model.keras"))?;
//! let x = ndarray::Array2::<f32>::zeros((1, 4));
//! println!("{}", model.predict(&x)?.array::<f32>()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`convert`] moves a model from any format to any other, [`open`] reads a file's parts without running anything, and
//! [`nn`] builds models from layers, one's own included. Nothing in a file is ever executed.
#![forbid(unsafe_code)]

mod argument;
mod callable;
mod convert;
mod dispatch;
mod endpoint;
mod formats;
mod model;
mod open;
#[cfg(all(feature = "json", feature = "keras"))]
mod pickled;
mod runtime;
mod values;
mod words;

pub use argument::{Argument, describe};
pub use callable::Callable;
pub use convert::{Convert, convert};
pub use endpoint::{Endpoint, Port};
pub use formats::{detect, format, formats};
pub use model::{Load, Model, Save, load};
pub use modelark_artifact as artifact;
pub use modelark_artifact::{
    Artifact, Dialect, Error, ErrorKind, Format, Limits, Memory, Place, Report, Result, SaveOptions,
};
#[cfg(feature = "checkpoint")]
pub use modelark_checkpoint as checkpoint;
pub use modelark_graph as graph;
#[cfg(feature = "json")]
pub use modelark_json as json;
#[cfg(feature = "keras")]
pub use modelark_keras as keras;
pub use modelark_nn as nn;
pub use modelark_nn::Registry;
#[cfg(feature = "savedmodel")]
pub use modelark_savedmodel as savedmodel;
pub use modelark_tensor as tensor;
pub use modelark_tensor::{DType, PartialShape, Tensor};
pub use open::{Open, open};
pub use values::{Inputs, Outputs};
