//! Binding: the variables of a SavedModel have the names of its checkpoint, so that the checkpoint's naming serves.

use modelark_artifact::{Artifact, Format, Objects, Report, Result};
use modelark_checkpoint::Checkpoint;

/// Puts the values that a SavedModel holds into the objects of an architecture.
///
/// # Errors
/// When a weight finds no value, a value no weight, or shapes differ.
pub(crate) fn bind(model: &mut Objects, read: &Artifact) -> Result<Report> {
    Checkpoint.bind(model, read)
}
