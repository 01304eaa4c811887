//! The format-neutral model: object tree, lazy variables, configs, and what a format is.
//!
//! An [`Artifact`] has four parts, each optional: an [`Architecture`], [`Objects`] with variables among them,
//! [`Functions`], and [`Training`] state. A [`Format`] reads bytes into an artifact and writes an artifact as bytes.
//! No format knows another; nothing here knows any one format or any layer's class.
#![deny(unsafe_code)]

mod architecture;
mod artifact;
mod config_form;
mod error;
mod files;
mod format;
mod functions;
mod json;
mod limits;
mod objects;
mod opened;
mod output;
mod session;
mod target;
mod training;
mod variable;

pub use architecture::{Architecture, Dialect};
pub use artifact::{Artifact, Asset, Source};
pub use config_form::{archive_form, dialect_of, full_name, legacy_form, legacy_optimizer, plain_arrays};
pub use error::{Error, ErrorKind, Result, nearest};
pub use files::{Files, Folder, Memory, Place};
pub use format::{Entry, Format, Held, Needs, Report, Salvage, SaveOptions};
pub use functions::{ConcreteFunction, Functions, Structure};
pub use json::{json_text, number, number_value, parse_json};
pub use limits::Limits;
pub use modelark_graph as graph;
pub use modelark_tensor as tensor;
pub use objects::{FunctionObject, Kind, Layer, Object, ObjectId, Objects, Restored, Role};
pub use opened::Opened;
pub use output::Output;
pub use session::{Session, Signature, TensorInfo};
pub use target::{STAGING_PREFIX, Target};
pub use training::{OptimizerLayout, OptimizerState, OptimizerVariable, Slot, Training};
pub use variable::{TensorSource, Value, Variable};
