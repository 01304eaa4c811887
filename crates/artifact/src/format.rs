//! What a format is.

use std::collections::BTreeMap;

use modelark_tensor::DType;

use crate::{Architecture, Artifact, Dialect, Error, Limits, Objects, Place, Result, Target, Variable};

/// What a target format can't do without; whoever converts derives what the source lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// An architecture.
    pub architecture: bool,
    /// Objects as an architecture describes them: [`Kind::Layer`](crate::Kind::Layer)s with their weights.
    pub layers: bool,
    /// Functions.
    pub functions: bool,
    /// An architecture that says where Python finds its classes, as Keras 2.13 and later write it.
    pub modules: bool,
    /// The weights of words (Keras: `idf_weights`) beside those of the layers, where a dialect counts them among these.
    pub words: bool,
    /// Nothing but an architecture: it is written, too, where there are no weights.
    pub architecture_alone: bool,
    /// To know which function is meant, since it holds but one: [`SaveOptions::entry`].
    pub entry: bool,
}

/// What a save is asked for.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SaveOptions {
    /// The dialect to write; by default the artifact's own.
    pub dialect: Option<Dialect>,
    /// Leaves training state out.
    pub without_training: bool,
    /// Writes a checkpoint that `tf.train.Checkpoint.restore(...).assert_consumed()` accepts (with `save_counter`)
    /// rather than Keras's `load_weights(...).assert_consumed()` (without): no file can satisfy both.
    pub save_counter: bool,
    /// Compresses where the format can; by default tensors lie in the file as they are, so that they can be mapped.
    pub compress: bool,
    /// The most bytes of weights that one file of a set may hold, where the format has sets of files (Keras 3:
    /// `max_shard_size`); by default five GiB.
    pub max_shard_size: Option<u64>,
    /// What a format that holds one function alone takes; by default the signature that serving programs call.
    pub entry: Option<Entry>,
}

/// What of a model is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A signature, by its name.
    Signature(String),
    /// A function of an object, by its path, such as `__call__` or `encoder/encode`.
    Function(String),
}

/// What was done beyond copying: derived, changed, left behind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// One line each.
    pub notes: Vec<String>,
}

impl Report {
    /// Adds a line.
    pub fn note(&mut self, line: impl Into<String>) {
        self.notes.push(line.into());
    }

    /// Adds the lines of another report.
    pub fn extend(&mut self, other: Report) {
        self.notes.extend(other.notes);
    }
}

/// What is intact of a damaged model.
#[derive(Debug, Default)]
pub struct Salvage {
    /// The tensors that can still be found, under the names that they have in the file. Whether one's own bytes are
    /// intact shows when it is loaded.
    pub variables: Vec<(String, Variable)>,
    /// What can't be read.
    pub damage: Vec<Error>,
}

impl Salvage {
    /// All variables of a model that is whole, by their paths.
    pub fn whole(objects: &Objects) -> Self {
        let variables = objects.variables().into_iter().map(|(_, path, v)| (path, v.clone()));
        Salvage { variables: variables.collect(), damage: Vec::new() }
    }
}

/// A weight that a file holds for a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name within the layer; before it the parts of the layer that it belongs to.
    pub path: Vec<String>,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its dtype.
    pub dtype: DType,
}

/// A way of persisting models: bytes to artifact, artifact to bytes.
pub trait Format: Send + Sync {
    /// Its name as users say it: `saved_model`, `checkpoint`, `h5`, `weights_h5`, `keras`, `npz` and so on.
    fn name(&self) -> &'static str;

    /// What it is, in a few words, for lists and messages.
    fn description(&self) -> &'static str;

    /// Whether the name of a file to be written asks for this format: `model.keras`, `x.weights.h5`.
    fn claims(&self, file_name: &str) -> bool;

    /// Whether what lies at `place` is of this format, judged by content.
    fn detect(&self, place: &Place) -> bool;

    /// Reads a model. Variables stay in the file until they are asked for.
    ///
    /// # Errors
    /// When the bytes aren't of this format, are damaged, or ask for more than the limits allow.
    fn read(&self, place: &Place, limits: &Limits) -> Result<Artifact>;

    /// Finds the tensors of a model that may be too damaged for [`Format::read`]: what can't be read is passed over.
    ///
    /// # Errors
    /// When nothing can be read. A format whose damage can't be passed over gives the error of [`Format::read`].
    fn salvage(&self, place: &Place, limits: &Limits) -> Result<Salvage> {
        self.read(place, limits).map(|artifact| Salvage::whole(&artifact.objects))
    }

    /// What must be there for [`Format::write`].
    fn needs(&self) -> Needs;

    /// Writes a model into `target`, one variable in memory at a time. Nothing lands before the target's commit.
    ///
    /// # Errors
    /// When the artifact lacks what the format needs or holds what it can't say, or when writing fails.
    fn write(&self, artifact: &Artifact, target: &Target, options: &SaveOptions) -> Result<Report>;

    /// Puts the values that this format read (`read`) into the objects of an architecture (`model`), by the same naming
    /// as [`Format::write`] uses, and the optimizer's variables likewise.
    ///
    /// # Errors
    /// When a weight finds no value, a value no weight, or shapes differ; the message names both sides.
    fn bind(&self, model: &mut Objects, read: &Artifact) -> Result<Report>;

    /// Whether it writes these objects as they are, though they are of no layers that anybody knows: they lie as in its own
    /// files.
    fn keeps(&self, artifact: &Artifact) -> bool {
        let _ = artifact;
        false
    }

    /// The weights that this format read (`read`) for each layer of an architecture, by the layer's name: what a layer of
    /// a class that nobody knows must have. Nothing where the format doesn't tell a layer's weights from another's.
    ///
    /// # Errors
    /// When `read` isn't what this format gives.
    fn held(&self, read: &Artifact, architecture: &Architecture) -> Result<BTreeMap<String, Vec<Held>>> {
        let _ = (read, architecture);
        Ok(BTreeMap::new())
    }
}
