//! The tensors of a file under the names that they have in it.

use std::collections::HashSet;

use modelark::artifact::{Format, Variable};
use modelark::checkpoint::Reader;
use modelark::{Artifact, Limits, Place, Result};

/// Every tensor of a file: by key for checkpoints (a SavedModel's variables are one), else by path in the file.
///
/// # Errors
/// When the checkpoint within can't be read.
pub(crate) fn of_file(
    artifact: &Artifact,
    format: &dyn Format,
    place: &Place,
    limits: &Limits,
) -> Result<Vec<(String, Variable)>> {
    let checkpoint = match format.name() {
        "checkpoint" => Some(place.clone()),
        "saved_model" => variables_of(place),
        _ => None,
    };
    if let Some(prefix) = checkpoint {
        let variables = Reader::open(&prefix, limits)?.variables()?;
        return Ok(variables.into_iter().map(|v| (v.name.clone(), v)).collect());
    }
    Ok(of_artifact(artifact))
}

/// The prefix of the checkpoint in a SavedModel, if it has variables.
fn variables_of(place: &Place) -> Option<Place> {
    const PREFIX: &str = "variables/variables";
    let root = if place.is_folder() { place.clone() } else { place.sibling("") };
    let prefix = if root.name.trim_end_matches('/').is_empty() {
        Place { name: PREFIX.to_owned(), ..root }
    } else {
        Place { name: format!("{}/{PREFIX}", root.name.trim_end_matches('/')), ..root }
    };
    prefix.files.exists(&format!("{}.index", prefix.name)).then_some(prefix)
}

/// Every variable of an artifact by its path, then those of the optimizer.
pub(crate) fn of_artifact(artifact: &Artifact) -> Vec<(String, Variable)> {
    let mut found: Vec<(String, Variable)> =
        artifact.objects.variables().into_iter().map(|(_, path, v)| (path, v.clone())).collect();
    let whole: HashSet<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    let ends: HashSet<&str> = found.iter().flat_map(|(path, _)| ends(path)).collect();
    let mut more = Vec::new();
    let optimizer = artifact.training.as_ref().and_then(|t| t.optimizer.as_ref());
    for (i, state) in optimizer.iter().flat_map(|o| &o.variables).enumerate() {
        let name = match state.variable.name.as_str() {
            "" => format!("optimizer/{i}"),
            // A path already, where the format has one.
            name if name.starts_with("optimizer") => name.to_owned(),
            name => format!("optimizer_weights/{name}"),
        };
        // A format whose objects hold the optimizer has listed it already.
        let own = state.variable.name.as_str();
        let listed = ends.contains(own) || self::ends(&name).any(|end| whole.contains(end));
        if !listed {
            more.push((name, state.variable.clone()));
        }
    }
    found.extend(more);
    found
}

/// A path and what is left of it without its first part, the first two, and so on.
fn ends(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |rest| rest.split_once('/').map(|(_, rest)| rest))
}

/// The tensors of one kind as a sum: bytes where the dtype tells.
pub(crate) fn total_bytes(tensors: &[(String, Variable)]) -> u64 {
    tensors.iter().filter_map(|(_, v)| v.nbytes()).sum()
}
