//! Reading a path into an artifact, whatever its format.

use std::path::Path;

use modelark_artifact::{Artifact, Error, Format, Limits, Opened, Place, Result, Salvage};

use crate::formats;

/// How to read a model: limits, and what the file alone doesn't tell.
///
/// ```
/// # use modelark::nn::{Sequential, layers::{Dense, InputLayer}};
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// # let layers = Sequential::new("m").add(InputLayer::new([4])).add(Dense::new(2)).build()?;
/// # modelark::Model::from_layers(layers)?.save(folder.join("model.keras"))?;
/// let artifact = modelark::Open::new().verify(false).artifact(folder.join("model.keras"))?;
/// assert_eq!(artifact.objects.variables().len(), 2);
/// assert!(artifact.architecture.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Open {
    limits: Limits,
    ahead: bool,
    format: Option<String>,
    tags: Option<Vec<String>>,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Open {
    /// The default limits, the format found by content.
    pub fn new() -> Self {
        Open::default()
    }

    /// Bounds on what the file may ask for.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn bounds(&self) -> &Limits {
        &self.limits
    }

    /// Whether checksums are compared; they are by default.
    pub fn verify(mut self, verify: bool) -> Self {
        self.limits.verify = verify;
        self
    }

    /// Whether the files are brought into memory by a thread of their own while the model is read, which has the first run wait
    /// less for them: for who is going to use all of their weights, at once. By default only what is used is ever read.
    pub fn ahead(mut self, ahead: bool) -> Self {
        self.ahead = ahead;
        self
    }

    /// Reads as this format, whatever the content looks like.
    pub fn format(mut self, name: impl Into<String>) -> Self {
        self.format = Some(name.into());
        self
    }

    /// Reads the MetaGraph of a SavedModel that has exactly these tags; by default the only one, or the one for serving.
    pub fn tags<S: Into<String>>(mut self, tags: impl IntoIterator<Item = S>) -> Self {
        self.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// Takes these tensors, such as `x:0`, as the inputs of a frozen graph, or of a TensorFlow 1 graph without
    /// signatures; by default every placeholder.
    pub fn inputs<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.inputs = names.into_iter().map(Into::into).collect();
        self
    }

    /// Takes these tensors as its outputs; by default every tensor that nothing uses and that follows from an input.
    pub fn outputs<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.outputs = names.into_iter().map(Into::into).collect();
        self
    }

    /// Finds the format by content again.
    pub(crate) fn any_format(self) -> Self {
        Open { limits: self.limits, ahead: self.ahead, ..Open::default() }
    }

    /// Reads the parts of the model at `path`. Variables stay in the file until they are asked for.
    ///
    /// # Errors
    /// When nothing is there, no format knows it, or it is damaged.
    pub fn artifact(&self, path: impl AsRef<Path>) -> Result<Artifact> {
        self.place(&Place::of_path(path)).map(|(artifact, _)| artifact)
    }

    /// Reads the parts of the model at a place, and tells its format.
    ///
    /// # Errors
    /// As [`Open::artifact`].
    pub fn place(&self, place: &Place) -> Result<(Artifact, &'static dyn Format)> {
        let place = &Opened::place(place, self.ahead);
        let format = match &self.format {
            Some(name) => formats::format(name)?,
            None => formats::detect(place)?,
        };
        let read = || {
            let mut artifact = self.read(format, place)?;
            self.name_tensors(&mut artifact)?;
            Ok(artifact)
        };
        let mut artifact = read().map_err(|e: Error| e.in_file(place.label()))?;
        artifact.source.format = format.name();
        artifact.source.path = place.label();
        Ok((artifact, format))
    }

    /// The tensors that are intact of a model that may be too damaged to be read as a whole, and what the damage is.
    ///
    /// # Errors
    /// When nothing of it can be read, or its format has no parts that could be read alone.
    pub fn salvage(&self, path: impl AsRef<Path>) -> Result<Salvage> {
        let place = Place::of_path(path);
        let format = match &self.format {
            Some(name) => formats::format(name)?,
            None => formats::detect(&place).or_else(|e| formats::claiming(&place.name).ok_or(e))?,
        };
        format.salvage(&place, &self.limits).map_err(|e| e.in_file(place.label()))
    }

    fn read(&self, format: &'static dyn Format, place: &Place) -> Result<Artifact> {
        match &self.tags {
            None => format.read(place, &self.limits),
            #[cfg(feature = "savedmodel")]
            Some(tags) if format.name() == "saved_model" => {
                let tags = Some(tags.clone());
                modelark_savedmodel::SavedModelFormat { tags }.read(place, &self.limits)
            }
            Some(_) => Err(Error::invalid("only a SavedModel has MetaGraphs that tags could choose from")),
        }
    }

    /// Lets the caller's names say what a graph takes and gives.
    fn name_tensors(&self, artifact: &mut Artifact) -> Result<()> {
        if self.inputs.is_empty() && self.outputs.is_empty() {
            return Ok(());
        }
        let functions = artifact.functions.as_mut().filter(|f| f.concrete.is_empty());
        let session = functions.and_then(|f| f.session.as_mut()).ok_or_else(|| {
            Error::invalid("only a graph without objects takes names of inputs and outputs")
                .help("name a signature or a function instead")
        })?;
        let names = |names: &[String]| if names.is_empty() { None } else { Some(names.to_vec()) };
        let signature = session.signature(names(&self.inputs).as_deref(), names(&self.outputs).as_deref())?;
        session.signatures = [("serving_default".to_owned(), signature)].into();
        Ok(())
    }
}

/// Reads the parts of the model at `path` with default limits, without needing any class or running anything.
///
/// ```
/// # use modelark::nn::{Sequential, layers::{Dense, InputLayer}};
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// # let layers = Sequential::new("m").add(InputLayer::new([4])).add(Dense::new(2)).build()?;
/// # modelark::Model::from_layers(layers)?.save(folder.join("model.keras"))?;
/// let artifact = modelark::open(folder.join("model.keras"))?;
/// for (_, path, variable) in artifact.objects.variables() {
///     println!("{path}: {} {:?}", variable.dtype, variable.shape);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When nothing is there, no format knows it, or it is damaged.
pub fn open(path: impl AsRef<Path>) -> Result<Artifact> {
    Open::new().artifact(path)
}
