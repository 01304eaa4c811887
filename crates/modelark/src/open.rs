//! Reading a path into an artifact, whatever its format.

use std::path::Path;

use modelark_artifact::{Artifact, Format, Limits, Place, Result};

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
    format: Option<String>,
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

    /// Whether checksums are compared; they are by default.
    pub fn verify(mut self, verify: bool) -> Self {
        self.limits.verify = verify;
        self
    }

    /// Reads as this format, whatever the content looks like.
    pub fn format(mut self, name: impl Into<String>) -> Self {
        self.format = Some(name.into());
        self
    }

    /// Finds the format by content again.
    pub(crate) fn any_format(mut self) -> Self {
        self.format = None;
        self
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
        let format = match &self.format {
            Some(name) => formats::format(name)?,
            None => formats::detect(place)?,
        };
        let mut artifact = format.read(place, &self.limits).map_err(|e| e.in_file(place.label()))?;
        artifact.source.format = format.name();
        artifact.source.path = place.label();
        Ok((artifact, format))
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
