//! Layers, their configs and how they connect, as Keras writes them.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::Error;

/// How a generation of Keras spells a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// Keras 1.x: `Convolution2D`, `border_mode`, bare lists.
    Keras1,
    /// Keras 2.x and `tf_keras`: `batch_input_shape`, nodes as lists.
    Keras2,
    /// Keras 3: `batch_shape`, `module` and `registered_name`, nodes as `args` and `kwargs`.
    Keras3,
}

impl Dialect {
    /// The dialect of a Keras version such as `2.2.4-tf`; a missing version means Keras 1, as Keras has it.
    pub fn of_version(version: Option<&str>) -> Self {
        match version.and_then(|v| v.split('.').next()).and_then(|v| v.parse::<u32>().ok()) {
            None | Some(0 | 1) => Dialect::Keras1,
            Some(2) => Dialect::Keras2,
            Some(_) => Dialect::Keras3,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Dialect::Keras1 => "keras1",
            Dialect::Keras2 => "keras2",
            Dialect::Keras3 => "keras3",
        })
    }
}

impl FromStr for Dialect {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "keras1" => Ok(Dialect::Keras1),
            "keras2" => Ok(Dialect::Keras2),
            "keras3" => Ok(Dialect::Keras3),
            _ => Err(Error::invalid(format!("there is no dialect {text:?}")).help("say keras2 or keras3")),
        }
    }
}

/// A model's config: a JSON node with `class_name` and `config`, in some dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// The model's node, as in `config.json` or the attribute `model_config`.
    pub config: Value,
    /// The dialect that it is in.
    pub dialect: Dialect,
    /// The version that wrote it, such as `2.15.0`, when the file says.
    pub keras_version: Option<String>,
}
