//! A model that runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use modelark_artifact::{
    Artifact, Dialect, Entry, Error, Format, Limits, ObjectId, Place, Report, Result, SaveOptions, Training,
    Value, nearest,
};
use modelark_nn as nn;
use modelark_tensor::Tensor;

use crate::convert::{assemble, write};
use crate::runtime::Runtime;
use crate::{Argument, Callable, Endpoint, Inputs, Open, Outputs, Registry, formats, words};

/// A model that was loaded or built: it runs, its variables can be read and changed, and it can be saved in any format.
///
/// Many threads may call one model at once.
///
/// ```
/// # use modelark::nn::{Sequential, layers::{Dense, InputLayer}};
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// # let layers = Sequential::new("m").add(InputLayer::new([4])).add(Dense::new(2)).build()?;
/// # modelark::Model::from_layers(layers)?.save(folder.join("model.keras"))?;
/// let model = modelark::load(folder.join("model.keras"))?;
/// let x = ndarray::Array2::<f32>::zeros((1, 4));
/// let y = model.predict(&x)?.array::<f32>()?;
/// assert_eq!(y.shape(), [1, 2]);
///
/// let bias = model.variables().find(|path| path.ends_with("bias")).unwrap().to_owned();
/// model.assign(&bias, modelark::Tensor::from_vec(vec![1f32, 2.0], [2])?)?;
/// assert_eq!(model.predict(&x)?.array::<f32>()?[[0, 1]], 2.0);
/// model.save(folder.join("model.h5"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Model {
    artifact: Artifact,
    layers: Option<nn::Model>,
    runtime: Runtime,
    /// Variables by path, in the artifact's order.
    variables: Vec<(String, ObjectId)>,
}

impl Model {
    /// A model from its parts, which must hold functions, or an architecture with values for its weights.
    ///
    /// # Errors
    /// When there is nothing to run, or the parts don't fit each other.
    pub fn from_artifact(artifact: Artifact) -> Result<Self> {
        Model::within(artifact, &Limits::default())
    }

    /// The same, whose functions run within these limits.
    ///
    /// # Errors
    /// As [`Model::from_artifact`].
    pub fn within(artifact: Artifact, limits: &Limits) -> Result<Self> {
        let runtime = Runtime::new(&artifact, limits)?;
        let variables = artifact.objects.variables().into_iter().map(|(id, path, _)| (path, id)).collect();
        Ok(Model { artifact, layers: None, runtime, variables })
    }

    /// A model of layers, as the builder makes it.
    ///
    /// # Errors
    /// When a layer's call can't be traced.
    pub fn from_layers(layers: nn::Model) -> Result<Self> {
        Model::layers_within(layers, &Limits::default())
    }

    fn layers_within(layers: nn::Model, limits: &Limits) -> Result<Self> {
        layers.inputs()?;
        let (artifact, _) = layers.to_artifact(layers.dialect())?;
        let mut model = Model::within(artifact, limits)?;
        model.layers = Some(layers);
        Ok(model)
    }

    /// The layers, for a model that has them.
    pub fn layers(&self) -> Option<&nn::Model> {
        self.layers.as_ref()
    }

    /// The model's parts. Changes of variables since loading aren't in it.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }

    /// Everything that can be called by name: signatures, and functions of objects.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.runtime.endpoints()
    }

    /// What [`Model::predict`] takes and gives.
    ///
    /// # Errors
    /// When the model has no default function.
    pub fn default_endpoint(&self) -> Result<Endpoint> {
        Ok(self.default_function()?.endpoint())
    }

    /// What [`Model::predict`] calls, made ready for many calls.
    ///
    /// # Errors
    /// When the model has no default function.
    pub fn default_function(&self) -> Result<Callable> {
        self.function(&self.default_name()?)
    }

    /// What can be called under this name, a signature's or a function's path, made ready for many calls.
    ///
    /// # Errors
    /// When there is none of that name; the message lists those there are.
    pub fn function(&self, name: &str) -> Result<Callable> {
        self.runtime.callable(name)
    }

    /// The function at this path among the objects, also where a signature has the same name.
    ///
    /// # Errors
    /// When there is none at that path; the message lists those there are.
    pub fn method(&self, path: &str) -> Result<Callable> {
        self.runtime.method(path)
    }

    /// The part of a SavedModel's or frozen graph's graph that gives the tensors of these names, such as `logits:0`, from
    /// those: by default (for no names) from all placeholders to all tensors that nothing uses.
    ///
    /// # Errors
    /// When the graph has no such tensor (the message offers the nearest), or the model has no graph.
    pub fn between(&self, inputs: &[String], outputs: &[String]) -> Result<Callable> {
        self.runtime.between(inputs, outputs)
    }

    fn default_name(&self) -> Result<String> {
        // A model of layers keeps its inputs' and outputs' order in its call; a signature sorts them by name.
        if self.layers.is_some() { Ok("__call__".to_owned()) } else { self.runtime.default_endpoint() }
    }

    /// Runs the model in inference mode.
    ///
    /// # Errors
    /// When the inputs aren't what the model takes, or an op refuses them; the message names which.
    pub fn predict(&self, inputs: impl Into<Inputs>) -> Result<Outputs> {
        self.default_function()?.call_named(inputs)
    }

    /// Calls a signature, or a function by its path, with tensors alone.
    ///
    /// # Errors
    /// When there is none of that name (the message lists those there are), or as [`Model::predict`].
    pub fn call(&self, endpoint: &str, inputs: impl Into<Inputs>) -> Result<Outputs> {
        self.function(endpoint)?.call_named(inputs)
    }

    /// Calls a function by its path as Python would, with nested arguments, plain values and keywords. Which of its
    /// traces runs follows from the arguments' structure, dtypes and shapes.
    ///
    /// # Errors
    /// When no trace takes these arguments; the message lists those there are.
    pub fn call_with(
        &self,
        path: &str,
        positional: Vec<Argument>,
        keywords: BTreeMap<String, Argument>,
    ) -> Result<Outputs> {
        self.method(path)?.call_with(positional, keywords)
    }

    /// The paths of all variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|(path, _)| path.as_str())
    }

    /// The value of the variable at `path`.
    ///
    /// # Errors
    /// When there is none (the message offers the nearest), or it can't be read.
    pub fn variable(&self, path: &str) -> Result<Tensor> {
        self.run_time(path)?.read().map_err(|e| Error::mismatch(e.to_string()))
    }

    /// Replaces the value of the variable at `path`; the next call uses it.
    ///
    /// # Errors
    /// When there is none, or dtype or shape differ.
    pub fn assign(&self, path: &str, value: Tensor) -> Result<()> {
        self.run_time(path)?.assign(value).map_err(|e| Error::mismatch(e.to_string()))
    }

    /// Makes the states that stateful layers keep from one call to the next zeros again (Keras: `reset_states`).
    ///
    /// # Errors
    /// When one has a value that can't be set.
    pub fn reset_states(&self) -> Result<()> {
        for id in self.artifact.objects.states() {
            let (Some(state), Some(variable)) =
                (self.runtime.variable(id), self.artifact.objects.variable(id))
            else {
                continue;
            };
            let zeros = Tensor::zeros(variable.dtype, &variable.shape)?;
            state.assign(zeros).map_err(|e| Error::mismatch(e.to_string()))?;
        }
        Ok(())
    }

    fn run_time(&self, path: &str) -> Result<&Arc<modelark_graph::engine::Variable>> {
        let found =
            self.variables.iter().find(|(p, _)| p == path).and_then(|(_, id)| self.runtime.variable(*id));
        found.ok_or_else(|| {
            let help = nearest(path, self.variables());
            Error::invalid(format!("there is no variable {path:?}"))
                .help(help.unwrap_or_else(|| "`Model::variables` lists them".to_owned()))
        })
    }

    /// Saves the model, with the variables as they are now, in the format that the path's name asks for: `m.keras`,
    /// `m.h5`, `m.weights.h5`, a folder for a SavedModel.
    ///
    /// # Errors
    /// When the name asks for no format, the format can't hold the model, or writing fails; then what was there stays.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<Report> {
        self.save_with(path, &Save::new())
    }

    /// Saves as [`Model::save`], with options.
    ///
    /// # Errors
    /// As [`Model::save`].
    pub fn save_with(&self, path: impl AsRef<Path>, save: &Save) -> Result<Report> {
        let path = path.as_ref();
        let format = match &save.format {
            Some(name) => formats::format(name)?,
            None => formats::format_for_path(path)?,
        };
        let artifact = self.current()?;
        let mut report = Report::default();
        let artifact = assemble(artifact, self.layers.as_ref(), format, &save.options, &mut report)?;
        report.extend(write(&artifact, format, path, &save.options)?);
        Ok(report)
    }

    /// The artifact with the variables' present values.
    fn current(&self) -> Result<Artifact> {
        let mut artifact = self.artifact.clone();
        for (path, id) in &self.variables {
            let Some(now) = self.runtime.variable(*id) else { continue };
            // One that was never read still lies in the file, where the writer finds it.
            if let (Some(value), Some(variable)) = (now.in_memory(), artifact.objects.variable_mut(*id)) {
                if value.shape() != variable.shape {
                    variable.shape = value.shape().to_vec();
                }
                variable.value = Value::Tensor(value);
            } else if !now.is_initialized() {
                return Err(Error::missing(format!("variable {path:?} has no value to save")));
            }
        }
        Ok(artifact)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.artifact.source.path.display();
        write!(f, "Model({name}, {} variables, {} endpoints)", self.variables.len(), self.endpoints().len())
    }
}

/// How to save a model: the format and its options.
#[derive(Debug, Clone, Default)]
pub struct Save {
    pub(crate) format: Option<String>,
    pub(crate) options: SaveOptions,
}

impl Save {
    /// The format that the name asks for, in the model's own dialect.
    pub fn new() -> Self {
        Save::default()
    }

    /// Writes this format, whatever the name.
    pub fn format(mut self, name: impl Into<String>) -> Self {
        self.format = Some(name.into());
        self
    }

    /// Writes configs in this dialect.
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.options.dialect = Some(dialect);
        self
    }

    /// Leaves compile config and optimizer state out.
    pub fn without_training(mut self) -> Self {
        self.options.without_training = true;
        self
    }

    /// Writes a checkpoint for `tf.train.Checkpoint.restore` rather than for Keras's `load_weights`.
    pub fn save_counter(mut self) -> Self {
        self.options.save_counter = true;
        self
    }

    /// Parts `.weights.json` into files of at most this many bytes of weights each (Keras 3: `max_shard_size`).
    pub fn max_shard_size(mut self, bytes: u64) -> Self {
        self.options.max_shard_size = Some(bytes);
        self
    }

    /// Takes this signature, or function of an object, where the format holds one function alone: a frozen graph.
    pub fn entry(mut self, entry: Entry) -> Self {
        self.options.entry = Some(entry);
        self
    }

    /// Compresses where the format can.
    pub fn compress(mut self) -> Self {
        self.options.compress = true;
        self
    }
}

/// How to load a model that runs: what [`Open`] takes, custom layers, and weights from another file.
///
/// ```
/// # use modelark::nn::{Sequential, layers::{Dense, InputLayer}};
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// # let layers = Sequential::new("m").add(InputLayer::new([4])).add(Dense::new(2)).build()?;
/// # modelark::Model::from_layers(layers)?.save(folder.join("model.keras"))?;
/// modelark::convert(folder.join("model.keras"), folder.join("model.weights.h5"))?;
/// modelark::convert(folder.join("model.keras"), folder.join("model.json"))?;
/// let model = modelark::Load::new().weights(folder.join("model.weights.h5")).path(folder.join("model.json"))?;
/// assert_eq!(model.variables().count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Load {
    open: Open,
    registry: Option<Arc<Registry>>,
    weights: Option<PathBuf>,
    initialize: Option<u64>,
    /// Whether layers that don't fit are skipped, where weights go to layers by name.
    by_name: Option<bool>,
}

impl Load {
    /// Default limits, Keras's own layers.
    pub fn new() -> Self {
        Load::default()
    }

    /// How to read the files.
    pub fn open(mut self, open: Open) -> Self {
        self.open = open;
        self
    }

    /// Bounds on what the file may ask for.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.open = self.open.limits(limits);
        self
    }

    /// Whether checksums are compared; they are by default.
    pub fn verify(mut self, verify: bool) -> Self {
        self.open = self.open.verify(verify);
        self
    }

    /// Reads as this format, whatever the content looks like.
    pub fn format(mut self, name: impl Into<String>) -> Self {
        self.open = self.open.format(name);
        self
    }

    /// Knows these custom layers beside Keras's own.
    pub fn registry(mut self, registry: impl Into<Arc<Registry>>) -> Self {
        self.registry = Some(registry.into());
        self
    }

    /// Takes the weights from this file: a checkpoint's prefix, `.h5`, `.npy` and so on.
    pub fn weights(mut self, path: impl Into<PathBuf>) -> Self {
        self.weights = Some(path.into());
        self
    }

    /// Gives the weights of [`Load::weights`], an `.h5` file, to the layers of the same names, and leaves the others as
    /// they are (Keras: `load_weights(by_name=True)`). With `skip_mismatch`, layers whose weights don't fit are left as
    /// they are, too, rather than being an error.
    pub fn by_name(mut self, skip_mismatch: bool) -> Self {
        self.by_name = Some(skip_mismatch);
        self
    }

    /// Draws weights that no file gives from this seed, as Keras does for a model that is made from its config alone.
    pub fn initialize(mut self, seed: u64) -> Self {
        self.initialize = Some(seed);
        self
    }

    /// Loads the model at `path`.
    ///
    /// # Errors
    /// When nothing is there, no format knows it, it is damaged, a class is unknown, or it holds weights alone.
    pub fn path(&self, path: impl AsRef<Path>) -> Result<Model> {
        self.place(&Place::of_path(path))
    }

    /// Loads the model at a place, which may be in memory.
    ///
    /// # Errors
    /// As [`Load::path`].
    pub fn place(&self, place: &Place) -> Result<Model> {
        let (artifact, format) = self.open.place(place)?;
        if artifact.functions.is_some() && self.weights.is_none() {
            return Model::within(artifact, self.open.bounds()).map_err(|e| e.in_file(place.label()));
        }
        if artifact.architecture.is_none() {
            return Err(Error::missing("this holds weights alone, no architecture and no functions to run")
                .in_file(place.label())
                .help(
                    "load the architecture (a .json, .h5 or .keras file) and name this file as its weights",
                ));
        }
        let layers = self.layers(artifact, format).map_err(|e| e.in_file(place.label()))?;
        let within = Model::layers_within(layers, self.open.bounds());
        let mut model = within.map_err(|e| e.in_file(place.label()))?;
        model.artifact.source.path = place.label();
        model.artifact.source.format = format.name();
        Ok(model)
    }

    #[cfg(feature = "keras")]
    fn bind_by_name(&self, layers: &mut nn::Model, weights: &Artifact) -> Result<()> {
        let mut objects = layers.objects().clone();
        let skip = self.by_name.unwrap_or_default();
        for note in modelark_keras::bind_by_name(&mut objects, weights, skip)?.notes {
            layers.note(note);
        }
        let missing = objects.variables().into_iter().find(|(_, _, v)| matches!(v.value, Value::None));
        if let Some((_, path, _)) = missing {
            return Err(Error::missing(format!("the file has no layer for the weight {path:?}"))
                .help("draw the weights that it doesn't have from a seed"));
        }
        layers.set_objects(objects)
    }

    #[cfg(not(feature = "keras"))]
    fn bind_by_name(&self, _: &mut nn::Model, _: &Artifact) -> Result<()> {
        Err(Error::unsupported("this build can't read .h5 files").help("build it with the feature `keras`"))
    }

    /// The layers of an architecture with their weights bound.
    pub(crate) fn layers(&self, artifact: Artifact, format: &'static dyn Format) -> Result<nn::Model> {
        self.bound(artifact, format, Without::Nothing)
    }

    /// The layers of an architecture alone.
    pub(crate) fn bare(&self, artifact: Artifact, format: &'static dyn Format) -> Result<nn::Model> {
        self.bound(artifact, format, Without::Weights)
    }

    /// The same, with stand-ins for layers that can't be had: to be written, not to be run.
    pub(crate) fn stand_ins(&self, artifact: Artifact, format: &'static dyn Format) -> Result<nn::Model> {
        self.bound(artifact, format, Without::Classes)
    }

    fn bound(&self, artifact: Artifact, format: &'static dyn Format, without: Without) -> Result<nn::Model> {
        let architecture = words::complete(&artifact, self.open.bounds())?;
        let registry = self.registry.clone().unwrap_or_default();
        let other = match &self.weights {
            Some(path) => {
                let place = Place::of_path(path);
                let (weights, format) = self.open.clone().any_format().place(&place)?;
                Some((weights, format, place.label()))
            }
            None => None,
        };
        let mut layers = if without == Without::Classes {
            let held = match &other {
                Some((weights, format, _)) => format.held(weights, &architecture)?,
                None => format.held(&artifact, &architecture)?,
            };
            nn::Model::with_stand_ins(&architecture, &registry, &held)?
        } else {
            nn::Model::from_architecture(&architecture, &registry)?
        };
        if let Some(seed) = self.initialize {
            layers.initialize(seed)?;
            layers.note(format!("weights that no file gives were drawn from the seed {seed}"));
        }
        let mut own = artifact.training.clone();
        let training = match other {
            Some((weights, _, label)) if self.by_name.is_some() => {
                if has_values(&artifact) {
                    own = bind(&mut layers, &artifact, format)?;
                }
                self.bind_by_name(&mut layers, &weights).map_err(|e| e.in_file(label))?;
                None
            }
            Some((weights, format, label)) => {
                bind(&mut layers, &weights, format).map_err(|e| e.in_file(label))?
            }
            None if self.initialize.is_some() && !has_values(&artifact) => None,
            None if without == Without::Weights => artifact.training.clone(),
            // An architecture of layers without weights stands for itself.
            None if layers.skeleton()?.variables().is_empty() => artifact.training.clone(),
            None => bind(&mut layers, &artifact, format)?,
        };
        // The optimizer's state comes with the weights that it belongs to; the compile config with the architecture.
        let training = match (own, training) {
            (Some(own), Some(other)) => {
                Some(Training { compile: own.compile.or(other.compile), optimizer: other.optimizer })
            }
            (own, other) => own.or(other),
        };
        layers.set_training(training);
        Ok(layers)
    }
}

/// What the layers of an architecture are made without.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// Weights, which nothing holds.
    Weights,
    /// Classes that nobody has.
    Classes,
}

pub(crate) fn has_values(artifact: &Artifact) -> bool {
    !artifact.objects.variables().is_empty()
}

/// Puts what a format read into the layers; gives the training state, its slots with the layers' weights.
fn bind(layers: &mut nn::Model, values: &Artifact, format: &'static dyn Format) -> Result<Option<Training>> {
    let mut training = values.training.clone();
    if !layers.is_built() {
        // Nobody ever called the model, so that it has no weights; or else it must say what it takes.
        if has_values(values) {
            layers.inputs()?;
        }
        return Ok(training);
    }
    let bound = layers.bind(&values.source, |objects| format.bind(objects, values))?;
    if let Some(training) = &mut training {
        match &bound {
            Some(objects) => training.follow(&values.objects, objects),
            // What an optimizer accumulated lies as the weights did.
            None => {
                if training.optimizer.take().is_some() {
                    layers.note("the optimizer's state was left behind, since the weights were converted");
                }
            }
        }
    }
    Ok(training)
}

/// Loads the model at `path`, whatever its format, ready to run.
///
/// ```
/// # use modelark::nn::{Sequential, layers::{Dense, InputLayer}};
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// # let layers = Sequential::new("m").add(InputLayer::new([4])).add(Dense::new(2)).build()?;
/// # modelark::Model::from_layers(layers)?.save(folder.join("model.keras"))?;
/// let model = modelark::load(folder.join("model.keras"))?;
/// assert_eq!(model.default_endpoint()?.inputs.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When nothing is there, no format knows it, it is damaged, or a class is unknown.
pub fn load(path: impl AsRef<Path>) -> Result<Model> {
    Load::new().path(path)
}
