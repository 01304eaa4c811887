//! The artifact.

use std::collections::BTreeMap;
use std::path::PathBuf;

use modelark_tensor::SharedBytes;

use crate::{Architecture, Functions, Objects, Training};

/// Where an artifact comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Source {
    /// The format's name, or empty for an artifact that was made.
    pub format: &'static str,
    /// What the caller named.
    pub path: PathBuf,
    /// Who wrote it, as the file says: `keras` `3.15.1`, `tensorflow` `2.15.1`.
    pub writers: Vec<(String, String)>,
}

/// A file that goes with a model, such as a vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Asset {
    /// Its name under the format's folder of assets.
    pub name: String,
    /// Its content.
    pub bytes: SharedBytes,
}

/// A persisted model in its four parts, each of which may be absent, whatever format it is in.
#[derive(Debug, Clone, Default)]
pub struct Artifact {
    /// Where it comes from.
    pub source: Source,
    /// Layers and how they connect.
    pub architecture: Option<Architecture>,
    /// The tree of objects with the variables.
    ///
    /// As a format read it, names are the format's own; [`Format::bind`](crate::Format::bind) puts the values into
    /// the tree of an architecture.
    pub objects: Objects,
    /// Graphs that can be called.
    pub functions: Option<Functions>,
    /// Compile config and optimizer state.
    pub training: Option<Training>,
    /// Files that go with it.
    pub assets: Vec<Asset>,
    /// What only the format that read it understands, so that it can write it again.
    pub extras: BTreeMap<String, SharedBytes>,
}
