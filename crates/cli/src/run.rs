//! `modelark run`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use modelark::artifact::{Target, Variable};
use modelark::json::{Arrays, npz};
use modelark::tensor::kernels::array::cast;
use modelark::{DType, Endpoint, Error, Inputs, Limits, Model, Outputs, Place, Result, Tensor};

use crate::Verdict;
use crate::open::Source;
use crate::output::{self, Text};
use crate::progress::Progress;

/// Run a model on the arrays of an .npz file (or a single .npy)
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    source: Source,
    /// The inputs: keys name the model's inputs; when none does, arrays are taken in order
    #[arg(long, value_name = "IN.npz")]
    inputs: PathBuf,
    /// Where the outputs go, in the model's order under their names; without, they are described on the terminal
    #[arg(long, value_name = "OUT.npz")]
    outputs: Option<PathBuf>,
    /// Call this signature rather than the default one
    #[arg(long, value_name = "NAME", conflicts_with = "function")]
    signature: Option<String>,
    /// Call this function of an object, by its path
    #[arg(long, value_name = "PATH")]
    function: Option<String>,
}

impl Run {
    pub(crate) fn run(&self) -> Result<Verdict> {
        let given = read_arrays(&self.inputs)?;
        let progress = Progress::new("running", 0);
        let model = self.source.model()?;
        let name = self.signature.as_deref().or(self.function.as_deref());
        let endpoint = match name {
            Some(name) => find(&model, name)?,
            None => model.default_endpoint()?,
        };
        let inputs = arrange(given, &endpoint).map_err(|e| e.in_file(&self.inputs))?;
        let outputs = match name {
            Some(name) => model.call(name, inputs)?,
            None => model.predict(inputs)?,
        };
        drop(progress);
        match &self.outputs {
            Some(path) => write_arrays(&outputs, path)?,
            None => describe(&outputs)?,
        }
        Ok(Verdict::Good)
    }
}

/// The endpoint of this name; the error lists those there are.
fn find(model: &Model, name: &str) -> Result<Endpoint> {
    let endpoints = model.endpoints();
    endpoints.iter().find(|e| e.name == name).cloned().ok_or_else(|| {
        let names: Vec<&str> = endpoints.iter().map(|e| e.name.as_str()).collect();
        let help = modelark::artifact::nearest(name, names.iter().copied());
        Error::invalid(format!("the model has no {name:?}; it has {}", names.join(", ")))
            .help(help.unwrap_or_else(|| "name one of these".to_owned()))
    })
}

/// The arrays of an `.npz`, or the one of an `.npy`, by name.
fn read_arrays(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let read = || -> Result<Vec<(String, Tensor)>> {
        let bytes = Place::of_path(path).open()?;
        let format = if bytes.starts_with(modelark::json::npy::MAGIC) { Arrays::Npy } else { Arrays::Npz };
        let weights = format.read_bytes(&bytes, &Limits::default())?;
        weights
            .paths()
            .into_iter()
            .map(|(name, variable): (String, &Variable)| {
                let tensor = variable.load().map_err(|e| e.at(format!("array {name:?}")))?;
                Ok((name, tensor))
            })
            .collect()
    };
    read().map_err(|e: Error| e.in_file(path))
}

/// The inputs of an endpoint: by name where a name fits, else in order. Numbers are converted where no value changes.
fn arrange(mut given: Vec<(String, Tensor)>, endpoint: &Endpoint) -> Result<Inputs> {
    let known = |name: &str| endpoint.inputs.iter().any(|p| p.name == name);
    let named = given.iter().any(|(name, _)| known(name));
    if !named {
        if given.len() < endpoint.inputs.len() {
            let names: Vec<&str> = endpoint.inputs.iter().map(|p| p.name.as_str()).collect();
            return Err(Error::invalid(format!(
                "{} takes {}, but the file has {}",
                endpoint.name,
                output::count(names.len(), "input"),
                output::count(given.len(), "array")
            ))
            .help(format!("the inputs are {}", names.join(", "))));
        }
        given.truncate(endpoint.inputs.len());
        for ((name, _), port) in given.iter_mut().zip(&endpoint.inputs) {
            *name = port.name.clone();
        }
    }
    for (name, tensor) in &mut given {
        if let Some(port) = endpoint.inputs.iter().find(|p| p.name == *name)
            && port.dtype != tensor.dtype()
        {
            *tensor = converted(tensor, port.dtype).map_err(|e| e.at(format!("input {name:?}")))?;
        }
    }
    Ok(Inputs::Named(given))
}

/// A tensor as another dtype. NumPy makes 64-bit numbers by itself, so these may become narrower: floats lose digits,
/// but an integer that doesn't fit is an error.
fn converted(tensor: &Tensor, dtype: DType) -> Result<Tensor> {
    let from = tensor.dtype();
    let kind = |d: DType| (d.is_float(), d.is_integer(), d.is_complex());
    let widens = from.is_integer() && dtype.is_float() || from == DType::Bool && dtype != DType::String;
    if kind(from) == kind(dtype) && kind(from) != (false, false, false) || widens {
        let narrowed = cast(tensor, dtype)?;
        if dtype.is_integer() && !cast(&narrowed, from)?.bit_eq(tensor) {
            return Err(Error::mismatch(format!(
                "it takes {dtype}, which can't hold every value of the array ({from})"
            )));
        }
        return Ok(narrowed);
    }
    Err(Error::mismatch(format!("it takes {dtype}, but the array is {from}"))
        .help(format!("save the array as {dtype}, such as with .astype")))
}

fn write_arrays(outputs: &Outputs, path: &Path) -> Result<()> {
    let write = || {
        let target = Target::new(path)?;
        let file: std::io::BufWriter<File> = target.create(&target.name())?;
        let mut archive = npz::Writer::new(file, false);
        for (name, tensor) in outputs.iter() {
            archive.add(name, tensor)?;
        }
        archive.finish()?.flush()?;
        target.commit()
    };
    write().map_err(|e: Error| e.in_file(path))
}

fn describe(outputs: &Outputs) -> Result<()> {
    let mut text = Text::new();
    for (name, tensor) in outputs.iter() {
        text.line(format!("{name}: {tensor:?}"));
    }
    text.print()
}

#[cfg(test)]
mod tests {
    use modelark::{PartialShape, Port};

    use super::*;

    fn endpoint(names: &[&str]) -> Endpoint {
        let port = |n: &&str| Port { name: (*n).to_owned(), dtype: DType::F32, shape: PartialShape::UNKNOWN };
        Endpoint { name: "f".into(), inputs: names.iter().map(port).collect(), outputs: Vec::new() }
    }

    fn arranged(names: &[&str], endpoint_names: &[&str]) -> Result<Vec<String>> {
        let given = names.iter().map(|n| ((*n).to_owned(), Tensor::scalar(1.0f64))).collect();
        match arrange(given, &endpoint(endpoint_names))? {
            Inputs::Named(named) => {
                assert!(
                    named
                        .iter()
                        .all(|(n, t)| !endpoint_names.contains(&n.as_str()) || t.dtype() == DType::F32)
                );
                Ok(named.into_iter().map(|(n, _)| n).collect())
            }
            Inputs::Positional(_) => panic!("names are known"),
        }
    }

    #[test]
    fn names_go_before_positions() {
        assert_eq!(arranged(&["b", "a"], &["a", "b"]).expect("by name"), ["b", "a"]);
        assert_eq!(arranged(&["arr_0", "arr_1", "arr_2"], &["a", "b"]).expect("by position"), ["a", "b"]);
        assert!(arranged(&["x"], &["a", "b"]).is_err());
    }

    #[test]
    fn only_harmless_conversions_are_made() {
        assert_eq!(converted(&Tensor::scalar(3i64), DType::F32).expect("widens").dtype(), DType::F32);
        assert_eq!(
            converted(&Tensor::scalar(3i64), DType::I32).expect("fits").item::<i32>().expect("i32"),
            3
        );
        assert!(converted(&Tensor::scalar(1i64 << 40), DType::I32).is_err());
        assert!(converted(&Tensor::scalar(3.5f32), DType::I32).is_err());
        assert!(converted(&Tensor::scalar_string(&b"x"[..]), DType::I32).is_err());
    }
}
