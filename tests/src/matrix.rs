//! One cell of the matrix: a model from one format to another and back, compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use modelark::artifact::{Artifact, Dialect};
use modelark::{Argument, Convert, ErrorKind, Load, Model, Place, Save, Tensor, nn};

use crate::compare::{self, Tolerance};
use crate::models::{Source, Subject};
use crate::{Outcome, fixtures, gated};

/// A format to convert to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The format's name.
    pub format: &'static str,
    /// The name of the file that is written.
    file: &'static str,
    holds: Holds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Layers and their weights, and what training left.
    Whole,
    /// Functions and variables.
    Functions,
    /// Weights alone.
    Weights,
    /// Layers alone.
    Architecture,
}

/// Every format that can hold a model or its weights.
pub const TARGETS: &[Target] = &[
    Target { format: "saved_model", file: "saved", holds: Holds::Functions },
    Target { format: "keras", file: "model.keras", holds: Holds::Whole },
    Target { format: "h5", file: "model.h5", holds: Holds::Whole },
    Target { format: "weights_h5", file: "model.weights.h5", holds: Holds::Weights },
    Target { format: "checkpoint", file: "model", holds: Holds::Weights },
    Target { format: "json", file: "model.json", holds: Holds::Architecture },
    Target { format: "npy", file: "weights.npy", holds: Holds::Weights },
    Target { format: "npz", file: "weights.npz", holds: Holds::Weights },
];

/// The dialects to write.
pub const DIALECTS: &[Dialect] = &[Dialect::Keras2, Dialect::Keras3];

/// What came of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Everything that was compared is equal; what that was.
    Passed(String),
    /// The source lacks what the target needs, and the error says so.
    Refused(String),
    /// What is wrong.
    Failed(String),
}

/// A source once read, to compare with.
#[derive(Debug)]
pub struct Reference<'a> {
    subject: &'a Subject,
    source: &'a Source,
    artifact: Artifact,
    /// Weights by path, where the source has layers.
    weights: Vec<(String, Tensor)>,
    /// Whether the source says how layers connect.
    layered: bool,
    /// Whether it runs through its layers, rather than by functions of its own.
    of_layers: bool,
    /// Whether it runs at all.
    runs: bool,
}

impl<'a> Reference<'a> {
    /// Loads a source and checks that it gives what it must.
    ///
    /// # Errors
    /// When it can't be loaded or gives something else. A model of a class that only Python has can't run, and must be
    /// told so; its weights are there all the same.
    pub fn new(subject: &'a Subject, source: &'a Source) -> Outcome<Self> {
        let artifact = modelark::open(&source.path).map_err(|e| e.to_string())?;
        let buildable = artifact
            .architecture
            .as_ref()
            .is_some_and(|a| nn::Model::from_architecture(a, &gated::registry()).is_ok());
        match load(source, None) {
            Ok(model) => {
                answers(subject, &model)?;
                let weights = weights(&model)?;
                let of_layers = model.layers().is_some();
                Ok(Reference {
                    subject,
                    source,
                    artifact,
                    weights,
                    layered: of_layers || buildable,
                    of_layers,
                    runs: true,
                })
            }
            Err(error) if subject.name.ends_with("/subclassed") && error.contains("Tower") => {
                let mut weights = fixtures::tensors(source.weights.as_deref().unwrap_or(&source.path))?;
                weights.retain(|(name, _)| !is_training(name));
                Ok(Reference {
                    subject,
                    source,
                    artifact,
                    weights,
                    layered: false,
                    of_layers: false,
                    runs: false,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Converts to `target` and back under `folder`, which must be empty.
    pub fn cell(&self, target: &Target, dialect: Dialect, folder: &Path) -> Cell {
        match self.convert(target, dialect, folder) {
            Ok(Ok(seen)) => Cell::Passed(seen),
            Ok(Err(refusal)) => Cell::Refused(refusal),
            Err(wrong) => Cell::Failed(wrong),
        }
    }

    fn convert(&self, target: &Target, dialect: Dialect, folder: &Path) -> Outcome<Outcome> {
        let written = folder.join(target.file);
        let conversion = self.conversion().save(Save::new().format(target.format).dialect(dialect));
        let report = match conversion.run(&self.source.path, &written) {
            Ok(report) => report,
            Err(error) => {
                let kinds = [ErrorKind::Unsupported, ErrorKind::Missing, ErrorKind::UnknownClass];
                let lacks = !self.layered && kinds.contains(&error.kind());
                return if lacks { Ok(Err(error.to_string())) } else { Err(format!("convert: {error}")) };
            }
        };
        let mut seen = match self.holds(target, &written) {
            // Keras 3 has another function under the name; there is no telling the old one to it.
            Err(wrong) if report.notes.iter().any(|n| n.contains("hard_sigmoid")) => {
                vec![format!("{wrong}, as reported")]
            }
            other => vec![other?],
        };
        if self.layered && target.holds != Holds::Functions {
            seen.push(self.back(target, dialect, &written, folder)?);
        }
        Ok(Ok(seen.join(", ")))
    }

    fn conversion(&self) -> Convert {
        let convert = Convert::new().registry(gated::registry());
        match &self.source.weights {
            Some(weights) => convert.weights(weights),
            None => convert,
        }
    }

    /// What the written file gives and holds.
    fn holds(&self, target: &Target, written: &Path) -> Outcome {
        if !self.layered && target.holds == Holds::Architecture {
            let after = modelark::open(written).map_err(|e| e.to_string())?.architecture;
            let configs = self.artifact.architecture.as_ref().zip(after.as_ref()).ok_or("no architecture")?;
            return match difference(&configs.0.config, &configs.1.config, String::new()) {
                Some(place) => Err(format!("the config differs at {place}")),
                None => Ok("the config".to_owned()),
            };
        }
        if !self.runs || (target.holds == Holds::Weights && !self.layered) {
            let count = compare::all_among(&fixtures::tensors(written)?, &self.weights)?;
            return Ok(format!("{count} tensors"));
        }
        let model = match target.holds {
            Holds::Whole | Holds::Functions => {
                Load::new().registry(gated::registry()).path(written).map_err(|e| format!("load: {e}"))?
            }
            Holds::Weights => load(self.source, Some(written)).map_err(|e| format!("load: {e}"))?,
            Holds::Architecture => {
                let source = Source { path: written.to_owned(), ..self.source.clone() };
                let weights = self.source.weights.clone().unwrap_or_else(|| self.source.path.clone());
                load(&source, Some(&weights)).map_err(|e| format!("load: {e}"))?
            }
        };
        let apart = answers(self.subject, &model)?;
        let now = weights(&model)?;
        let count = if target.holds == Holds::Functions || !self.of_layers {
            compare::all_among(&now, &self.weights)?
        } else {
            same_weights(&now, &self.weights)?
        };
        Ok(format!("outputs within {apart:.0e}, {count} tensors"))
    }

    /// Converts back into the source's own format, which must hold the same under the same names. Where the source has
    /// its weights in another file, that file's format is what they go back to.
    fn back(&self, target: &Target, dialect: Dialect, written: &Path, folder: &Path) -> Outcome {
        if target.holds == Holds::Architecture && self.source.weights.is_none() {
            return Ok("no way back without weights".to_owned());
        }
        let original = self.source.weights.as_deref().unwrap_or(&self.source.path);
        let format = modelark::detect(&Place::of_path(original)).map_err(|e| e.to_string())?.name();
        if format == "pickle" {
            return Ok("pickles are read alone".to_owned());
        }
        let back: PathBuf = folder.join("back").join(original.file_name().unwrap_or_default());
        std::fs::create_dir_all(folder.join("back")).map_err(|e| e.to_string())?;
        let save = Save::new().format(format).dialect(self.source.dialect);
        let convert = Convert::new().registry(gated::registry()).save(save);
        let result = match target.holds {
            Holds::Weights => convert.weights(written).run(&self.source.path, &back),
            Holds::Architecture => convert.weights(original).run(written, &back),
            Holds::Whole | Holds::Functions => convert.run(written, &back),
        };
        result.map_err(|e| format!("back to {format}: {e}"))?;
        let (before, after) = (named(original)?, named(&back)?);
        let of_another_root = format == "checkpoint" && before.keys().any(|name| name.starts_with("model/"));
        if format == "saved_model" || of_another_root {
            // Other names may lead to the same objects; the values must be there.
            let after: Vec<(String, Tensor)> = after.into_iter().collect();
            let count =
                compare::all_among(&after, &self.weights).map_err(|e| format!("back in {format}: {e}"))?;
            return Ok(format!("back: {count} tensors"));
        }
        let training =
            target.holds == Holds::Whole && self.source.weights.is_none() && dialect == self.source.dialect;
        let mut count = 0;
        for (name, tensor) in &before {
            // Weights alone leave the optimizer behind; between generations its variables are arranged differently.
            if is_training(name) && (!training || name.starts_with("metrics/")) {
                continue;
            }
            // A file of weights alone becomes one of a whole model.
            let now =
                after.get(name).or_else(|| after.get(&format!("model_weights/{name}"))).ok_or_else(|| {
                    let some: Vec<&String> = after.keys().take(4).collect();
                    format!("back in {format} there is no {name:?}, but {some:?}")
                })?;
            compare::same(now, tensor).map_err(|e| format!("back in {format}, {name:?}: {e}"))?;
            count += 1;
        }
        if count == 0 {
            return Err(format!("back in {format}, there was nothing to compare"));
        }
        let config = if self.source.weights.is_none() {
            self.same_config(target, dialect, &back)?
        } else {
            String::new()
        };
        Ok(format!("back: {count} tensors{config}"))
    }

    fn same_config(&self, target: &Target, dialect: Dialect, back: &Path) -> Outcome {
        let Some(before) = &self.artifact.architecture else { return Ok(String::new()) };
        // Another dialect may say the same in other words.
        if dialect != self.source.dialect || target.holds == Holds::Weights {
            return Ok(String::new());
        }
        let after = modelark::open(back)
            .map_err(|e| e.to_string())?
            .architecture
            .ok_or("no architecture came back")?;
        match difference(&before.config, &after.config, String::new()) {
            Some(place) => Err(format!("back, the config differs at {place}")),
            None => Ok(" and the config".to_owned()),
        }
    }
}

/// Whether a tensor of this name in a file belongs to training: an optimizer's variable, or a counter.
fn is_training(name: &str) -> bool {
    ["optimizer", "metrics/", "save_counter", "OBJECT_GRAPH"].iter().any(|part| name.contains(part))
}

/// Where two configs differ first.
fn difference(a: &serde_json::Value, b: &serde_json::Value, place: String) -> Option<String> {
    use serde_json::Value::{Array, Object};
    match (a, b) {
        (Object(a), Object(b)) => {
            // Not every format tells where a class is from and what its layer was built with.
            let about = ["module", "registered_name", "build_config", "compile_config"];
            let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
            keys.filter(|k| !about.contains(&k.as_str())).find_map(|key| match (a.get(key), b.get(key)) {
                (Some(x), Some(y)) => difference(x, y, format!("{place}/{key}")),
                (x, y) => Some(format!("{place}/{key}: {x:?} and {y:?}")),
            })
        }
        (Array(a), Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (x, y))| difference(x, y, format!("{place}/{i}")))
        }
        _ => (a != b).then(|| format!("{place}: {a} and {b}")),
    }
}

fn load(source: &Source, weights: Option<&Path>) -> Outcome<Model> {
    let how = Load::new().registry(gated::registry());
    let how = match weights.or(source.weights.as_deref()) {
        Some(weights) => how.weights(weights),
        None => how,
    };
    how.path(&source.path).map_err(|e| e.to_string())
}

/// Runs a model on its inputs in order, and tells how far its outputs lie from those they must be.
fn answers(subject: &Subject, model: &Model) -> Outcome<f64> {
    let outputs = if model.layers().is_some() {
        model.predict(subject.inputs.clone())
    } else {
        // A signature sorts inputs and outputs by name; the functions keep the model's order.
        let function =
            ["__call__", "serve"].into_iter().find(|f| model.endpoints().iter().any(|e| e.name == *f));
        match function {
            Some(function) => {
                let mut tensors: Vec<Argument> = subject.inputs.iter().cloned().map(Argument::from).collect();
                let one = if tensors.len() == 1 { tensors.remove(0) } else { Argument::Sequence(tensors) };
                model.call_with(function, vec![one], BTreeMap::new())
            }
            None => model.predict(subject.inputs.clone()),
        }
    };
    let outputs = outputs.map_err(|e| format!("run: {e}"))?;
    let mut named: Vec<(String, Tensor)> = outputs.into_iter().collect();
    // Keras 3 numbers the outputs of a signature; by name, the tenth comes before the second.
    if named.iter().all(|(n, _)| n.starts_with("output_")) {
        named.sort_by_key(|(n, _)| n.trim_start_matches("output_").parse::<usize>().unwrap_or_default());
    }
    let outputs: Vec<Tensor> = named.into_iter().map(|(_, t)| t).collect();
    if outputs.len() != subject.outputs.len() {
        return Err(format!("{} outputs instead of {}", outputs.len(), subject.outputs.len()));
    }
    let mut worst = 0.0f64;
    for (i, (actual, expected)) in outputs.iter().zip(&subject.outputs).enumerate() {
        worst = worst.max(
            compare::close(actual, expected, Tolerance::FLOAT32).map_err(|e| format!("output {i}: {e}"))?,
        );
    }
    Ok(worst)
}

/// A model's weights by their paths.
fn weights(model: &Model) -> Outcome<Vec<(String, Tensor)>> {
    let paths: Vec<String> = model.variables().map(str::to_owned).collect();
    let value = |path: String| {
        let tensor = model.variable(&path).map_err(|e| e.to_string())?;
        Ok((path, tensor))
    };
    // Of a model's objects, those that are the optimizer's aren't weights.
    paths.into_iter().filter(|p| !p.contains("optimizer") && !p.contains("keras_api")).map(value).collect()
}

fn same_weights(actual: &[(String, Tensor)], expected: &[(String, Tensor)]) -> Outcome<usize> {
    let actual: BTreeMap<&String, &Tensor> = actual.iter().map(|(n, t)| (n, t)).collect();
    if actual.len() != expected.len() {
        return Err(format!("{} weights instead of {}", actual.len(), expected.len()));
    }
    for (path, tensor) in expected {
        let now = actual.get(path).ok_or_else(|| format!("there is no weight {path:?}"))?;
        compare::same(now, tensor).map_err(|e| format!("weight {path:?}: {e}"))?;
    }
    Ok(expected.len())
}

fn named(path: &Path) -> Outcome<BTreeMap<String, Tensor>> {
    Ok(fixtures::tensors(path)?.into_iter().collect())
}
