//! Keras layers and models: config to layer and back, weights, the trace of a call, model to artifact and back.
//!
//! A [`Layer`] is a class: typed fields, one declaration that both reads and writes its config, its weights, and its
//! call, which traces TensorFlow's ops. An [`Instance`] is a layer as it stands in a model, with its name and dtype
//! policy. A [`Model`] is instances and how they connect. A [`Registry`] knows the classes, and those that a user adds.
//!
//! Nothing here knows where bytes come from: a model is made of an [`Architecture`], and its weights are put into its
//! tree of objects by the format that read them.
//!
//! [`Architecture`]: modelark_artifact::Architecture
#![forbid(unsafe_code)]

mod adapter;
mod call;
pub mod config;
pub mod former;
mod image;
mod instance;
pub mod layer;
pub mod layers;
mod marshal;
mod model;
mod quantization;
mod random;
mod registry;
mod spatial;
pub mod training;

pub use call::{Call, Slice};
pub use config::{Activation, Constraint, Fields, Initializer, Regularizer};
pub use image::Interpolation;
pub use instance::Instance;
pub use layer::{Inputs, Layer, Spec, Sublayer, WeightSpec};
pub use model::{Apply, Argument, Model, Named, Row, Sequential, Tensor, Traced, input, input_named};
pub use modelark_artifact as artifact;
pub use modelark_artifact::graph::Sym;
pub use modelark_artifact::{Error, ErrorKind, Result};
pub use random::Random;
pub use registry::Registry;

pub(crate) use model::Tree;
