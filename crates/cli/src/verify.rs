//! `modelark verify`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use modelark::artifact::{ErrorKind, Kind, Objects, Value, Variable};
use modelark::graph::ops;
use modelark::tensor::dispatch;
use modelark::{Artifact, DType, Error, Limits, Model, Result, Tensor};
use serde_json::json;

use crate::Verdict;
use crate::open::Source;
use crate::output::{self, Style, Text};
use crate::progress::Progress;
use crate::salvage::Salvage;
use crate::tensors;

/// Read every byte of a model and check it: checksums, shapes, structure, values that aren't numbers
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    source: Source,
    /// Write every tensor that is intact into this folder, as .npy files and an index.json with their names
    #[arg(long, value_name = "FOLDER")]
    salvage: Option<PathBuf>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    /// What is wrong.
    faults: Vec<String>,
    /// What deserves attention.
    warnings: Vec<String>,
    /// What was checked, one line each.
    checked: Vec<String>,
}

impl Verify {
    pub(crate) fn run(&self) -> Result<Verdict> {
        let mut findings = Findings::default();
        let mut salvage = self.salvage.as_ref().map(Salvage::new).transpose()?;
        match self.source.artifact() {
            Ok((artifact, format)) => {
                findings.checked.push(format!("it is a {} ({})", format.name(), format.description()));
                findings.tensors(&self.source, &artifact, format, salvage.as_mut())?;
                findings.structure(&artifact);
                findings.runs(&self.source, artifact);
            }
            // That nothing is there, or that the call is wrong, says nothing about a model.
            Err(e) if matches!(e.kind(), ErrorKind::Missing | ErrorKind::Io | ErrorKind::Invalid) => {
                return Err(e);
            }
            Err(e) => {
                findings.faults.push(e.to_string());
                if let Some(salvage) = &mut salvage {
                    findings.salvage(&self.source, salvage)?;
                }
            }
        }
        if let (Some(salvage), Some(folder)) = (salvage, &self.salvage) {
            let kept = salvage.finish()?;
            findings.checked.push(format!(
                "{} kept in {}",
                output::count(kept, "intact tensor"),
                folder.display()
            ));
        }
        findings.print(self.json)?;
        Ok(if findings.faults.is_empty() { Verdict::Good } else { Verdict::Bad })
    }
}

impl Findings {
    /// Reads every tensor, which compares its checksum where the format has one.
    fn tensors(
        &mut self,
        source: &Source,
        artifact: &Artifact,
        format: &dyn modelark::artifact::Format,
        mut salvage: Option<&mut Salvage>,
    ) -> Result<()> {
        let found = match tensors::of_file(artifact, format, &source.place(), &Limits::default()) {
            Ok(found) => found,
            Err(e) => {
                self.faults.push(e.to_string());
                return Ok(());
            }
        };
        let total = tensors::total_bytes(&found);
        let progress = Progress::new("verifying", total);
        let mut read = 0;
        // Files that aren't there, with what the first variable in them says and how many there are.
        let mut missing: BTreeMap<PathBuf, (String, usize)> = BTreeMap::new();
        for (name, variable) in found.iter().filter(|(_, v)| !matches!(v.value, Value::None)) {
            match variable.load() {
                Ok(tensor) => {
                    read += 1;
                    self.warnings.extend(odd_values(name, &tensor));
                    if let Some(salvage) = &mut salvage {
                        salvage.keep(name, &tensor)?;
                    }
                }
                Err(e) => {
                    if let Some(salvage) = &mut salvage {
                        salvage.lose(name, e.to_string());
                    }
                    match e.file().filter(|_| e.kind() == ErrorKind::Missing) {
                        Some(file) => {
                            missing.entry(file.to_owned()).or_insert_with(|| (e.to_string(), 0)).1 += 1;
                        }
                        None => self.faults.push(e.to_string()),
                    }
                }
            }
            progress.advance(variable.nbytes().unwrap_or(0));
        }
        drop(progress);
        self.faults.extend(missing.into_values().map(|(first, count)| match count - 1 {
            0 => first,
            more => format!("{first} ({} more are lost with it)", output::count(more, "tensor")),
        }));
        self.checked.push(format!("{} read, {}", output::count(read, "tensor"), output::bytes(total)));
        let absent = |v: &Variable| matches!(v.value, Value::None);
        let absent: Vec<&str> = found.iter().filter(|(_, v)| absent(v)).map(|(n, _)| n.as_str()).collect();
        if let Some(first) = absent.first() {
            let what = output::count(absent.len(), "variable");
            self.warnings.push(format!("{what} without a value, such as {first:?}"));
        }
        Ok(())
    }

    /// Keeps what is intact of a model that can't be read as a whole.
    fn salvage(&mut self, source: &Source, salvage: &mut Salvage) -> Result<()> {
        let found = match source.salvage() {
            Ok(found) => found,
            Err(e) => {
                self.fault(&e);
                return Ok(());
            }
        };
        found.damage.iter().for_each(|e| self.fault(e));
        for (name, variable) in &found.variables {
            match variable.load() {
                Ok(tensor) => salvage.keep(name, &tensor)?,
                Err(e) => {
                    salvage.lose(name, e.to_string());
                    self.fault(&e);
                }
            }
        }
        Ok(())
    }

    /// Adds a fault, unless it was found before.
    fn fault(&mut self, e: &Error) {
        let text = e.to_string();
        if !self.faults.contains(&text) {
            self.faults.push(text);
        }
    }

    /// Checks that the parts refer to what is there.
    fn structure(&mut self, artifact: &Artifact) {
        let objects = &artifact.objects;
        for (id, object) in objects.iter() {
            for (name, child) in &object.children {
                if objects.get(*child).is_none() {
                    self.faults.push(format!("object {id} holds {name:?}, which isn't there"));
                }
            }
            if let Kind::Asset(index) = &object.kind
                && artifact.assets.get(*index).is_none()
            {
                self.faults.push(format!("object {id} is an asset whose file isn't in the model's folder"));
            }
        }
        let Some(functions) = &artifact.functions else { return };
        for e in functions.library.iter().filter_map(Result::err).map(Error::from) {
            match e.kind() {
                ErrorKind::Unsupported => self.warnings.push(format!("a function can't be run here: {e}")),
                _ => self.fault(&e),
            }
        }
        for (name, function) in &functions.concrete {
            if !functions.library.contains(name) {
                self.faults.push(format!("function {name:?} has no graph"));
            }
            for id in function.captures.iter().filter(|id| objects.get(**id).is_none()) {
                self.faults.push(format!("function {name:?} closes over object {id}, which isn't there"));
            }
        }
        self.checked.push(format!(
            "{} and {} refer to what is there",
            output::count(objects.len(), "object"),
            output::count(functions.concrete.len(), "function")
        ));
    }

    /// Checks that the model can be made ready to run.
    fn runs(&mut self, source: &Source, artifact: Artifact) {
        if let Some(functions) = &artifact.functions {
            match missing_ops(functions) {
                Ok(missing) if missing.is_empty() => {}
                Ok(missing) => {
                    let names: Vec<&str> = missing.iter().map(|m| m.op.as_str()).collect();
                    self.warnings.push(format!("these ops can't run here: {}", names.join(", ")));
                }
                Err(e) => self.fault(&e),
            }
        }
        if artifact.functions.is_none() && artifact.architecture.is_none() {
            return;
        }
        let model = match artifact.functions {
            Some(_) => Model::from_artifact(artifact),
            None => source.model(),
        };
        match model {
            Ok(_) => self.checked.push("it loads".to_owned()),
            Err(e) if matches!(e.kind(), ErrorKind::UnknownClass | ErrorKind::Unsupported) => {
                self.warnings.push(format!("it can't be run here: {e}"));
            }
            // An architecture whose weights are somewhere else.
            Err(e) if has_no_weights(source) => self.warnings.push(e.to_string()),
            Err(e) => self.faults.push(e.to_string()),
        }
    }

    fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            let (faults, warnings, checked) = (&self.faults, &self.warnings, &self.checked);
            return output::json(&json!({
                "ok": faults.is_empty(), "faults": faults, "warnings": warnings, "checked": checked,
            }));
        }
        let mut text = Text::new();
        for line in &self.checked {
            text.line(line);
        }
        for line in &self.warnings {
            let label = text.paint("warning:", Style::Heading);
            text.line(format!("{label} {line}"));
        }
        for line in &self.faults {
            let label = text.paint("fault:", Style::Bad);
            text.line(format!("{label} {line}"));
        }
        let verdict = match self.faults.len() {
            0 => text.paint("no faults", Style::Good),
            n => text.paint(output::count(n, "fault"), Style::Bad),
        };
        text.line(verdict);
        text.print()
    }
}

fn has_no_weights(source: &Source) -> bool {
    source
        .artifact()
        .is_ok_and(|(a, _)| a.objects.variables().is_empty() && a.objects.len() <= Objects::default().len())
}

/// An op that has no kernel here, with the nodes that are of it: the function (none for the graph around them all), and
/// the node's name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MissingOp {
    pub(crate) op: String,
    pub(crate) nodes: Vec<(Option<String>, String)>,
}

/// The ops of a model's functions and graph that have no kernel here, by name.
///
/// # Errors
/// When a function is damaged.
pub(crate) fn missing_ops(functions: &modelark::artifact::Functions) -> Result<Vec<MissingOp>> {
    let lacks = |op: &str| ops::find(op).is_none() && !functions.library.contains(op);
    let mut incomplete = BTreeSet::new();
    functions.library.ops(|function, op| {
        if lacks(op) || op == ops::XLA_CALL_MODULE {
            incomplete.insert(function);
        }
    })?;
    let session = functions.session.iter().flat_map(|s| &s.graph.nodes).map(|n| (None, n));
    // The first nodes of a function only stand for its arguments.
    let bodies = incomplete
        .into_iter()
        .filter_map(|f| functions.library.get(f))
        .flat_map(|f| f.graph.nodes.iter().skip(f.arity).map(|n| (Some(f.name.clone()), n)));
    let mut missing: BTreeMap<String, Vec<(Option<String>, String)>> = BTreeMap::new();
    for (function, node) in bodies.chain(session).filter(|(_, node)| !functions.library.contains(&node.op)) {
        for op in ops::missing(node) {
            missing.entry(op).or_default().push((function.clone(), node.name.clone()));
        }
    }
    Ok(missing.into_iter().map(|(op, nodes)| MissingOp { op, nodes }).collect())
}

/// What is odd about a tensor's values: NaN and infinity.
fn odd_values(name: &str, tensor: &Tensor) -> Option<String> {
    let count = |tensor: &Tensor| -> Result<(usize, usize), Error> {
        dispatch!(float tensor.dtype(), T => {
            let values = tensor.elements::<T>()?;
            let nan = values.iter().filter(|v| v.is_nan()).count();
            Ok((nan, values.iter().filter(|v| v.is_infinite()).count()))
        }, else => Ok((0, 0)))
    };
    let (nan, infinite) = count(tensor).unwrap_or((0, 0));
    let parts = [(nan, "NaN"), (infinite, "infinite")].into_iter().filter(|(n, _)| *n > 0);
    let parts: Vec<String> = parts.map(|(n, what)| format!("{n} {what}")).collect();
    let values = output::count(tensor.len(), "value");
    (!parts.is_empty() && tensor.dtype() != DType::String)
        .then(|| format!("{name:?} has {} of {values}", parts.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_no_numbers_are_counted() {
        let t = Tensor::from_vec(vec![1.0f32, f32::NAN, f32::INFINITY, f32::NAN], [4]).expect("tensor");
        assert_eq!(odd_values("w", &t).as_deref(), Some("\"w\" has 2 NaN and 1 infinite of 4 values"));
        assert_eq!(odd_values("w", &Tensor::scalar(1i32)), None);
        assert_eq!(odd_values("w", &Tensor::scalar(0.5f64)), None);
    }
}
