//! `modelark run`.

use std::collections::BTreeMap;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use clap::Args;
use modelark::artifact::graph::engine::{Printer, RunOptions};
use modelark::artifact::{Structure, Target, Variable};
use modelark::json::{Arrays, npz};
use modelark::tensor::kernels::array::cast;
use modelark::{Argument, Callable, DType, Error, Inputs, Limits, Model, Outputs, Place, Result, Tensor};

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
    /// Give the function this plain value, such as training=true, units=3, mode=fast or state=none
    #[arg(long = "arg", value_name = "NAME=VALUE", value_parser = plain)]
    args: Vec<(String, Structure)>,
    /// Feed these tensors of the graph, such as x:0,y:0
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with_all = ["signature", "function"])]
    input_names: Vec<String>,
    /// Fetch these tensors of the graph
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with_all = ["signature", "function"])]
    output_names: Vec<String>,
}

impl Run {
    pub(crate) fn run(&self) -> Result<Verdict> {
        let given = read_arrays(&self.inputs)?;
        let progress = Progress::new("running", 0);
        // The system takes the memory of a process back faster than a model gives up its parts.
        let model = ManuallyDrop::new(self.source.model()?);
        let options =
            RunOptions { print: Some(Printer::new(print)), ..self.source.how.bounds.limits().run_options() };
        let function = ManuallyDrop::new(self.callable(&model)?.within(options));
        let outputs = if self.args.is_empty() {
            let inputs = arrange(given, &function).map_err(|e| e.in_file(&self.inputs))?;
            function.call_named(inputs)?
        } else {
            self.call_with(given, &function)?
        };
        drop(progress);
        match &self.outputs {
            Some(path) => write_arrays(&outputs, path)?,
            None => describe(&outputs)?,
        }
        Ok(Verdict::Good)
    }

    /// Calls a function as Python would, with plain values: arrays go by their names where these are the function's, else in
    /// order.
    fn call_with(&self, given: Vec<(String, Tensor)>, function: &Callable) -> Result<Outputs> {
        let mut tensors = Vec::with_capacity(given.len());
        for (i, (name, tensor)) in given.into_iter().enumerate() {
            let port = function.input(&name).or_else(|| function.inputs().get(i));
            let tensor = match port {
                Some(port) if port.dtype != tensor.dtype() => converted(&tensor, port.dtype)
                    .map_err(|e| e.at(format!("input {name:?}")).in_file(&self.inputs))?,
                _ => tensor,
            };
            tensors.push((name, Argument::Tensor(tensor)));
        }
        let plain = || self.args.iter().map(|(name, value)| (name.clone(), Argument::Plain(value.clone())));
        let keywords: BTreeMap<String, Argument> = tensors.iter().cloned().chain(plain()).collect();
        function.call_with(Vec::new(), keywords).or_else(|by_name| {
            let positional = tensors.into_iter().map(|(_, t)| t).collect();
            function.call_with(positional, plain().collect()).map_err(|_| by_name)
        })
    }

    /// What is to be called.
    fn callable(&self, model: &Model) -> Result<Callable> {
        if !self.input_names.is_empty() || !self.output_names.is_empty() {
            return model.between(&self.input_names, &self.output_names);
        }
        match (&self.signature, &self.function) {
            (Some(name), _) => model.function(name),
            (None, Some(path)) => model.method(path),
            (None, None) => model.default_function(),
        }
    }
}

/// A plain value by name: `none`, `true`, `false`, a number, or else text.
fn plain(text: &str) -> Result<(String, Structure), String> {
    let (name, value) = text.split_once('=').ok_or("an argument is a name, =, and a value")?;
    let value = match value {
        "none" | "None" => Structure::None,
        "true" | "True" => Structure::Bool(true),
        "false" | "False" => Structure::Bool(false),
        other => match (other.parse(), other.parse()) {
            (Ok(whole), _) => Structure::Int(whole),
            (_, Ok(number)) => Structure::Float(number),
            _ => Structure::String(other.to_owned()),
        },
    };
    Ok((name.to_owned(), value))
}

/// Shows what a graph prints where TensorFlow would.
fn print(stream: &str, text: &[u8]) {
    // A terminal that is gone hears nothing; the outputs still count.
    let _ = match stream {
        "stdout" => std::io::stdout().write_all(text),
        _ => std::io::stderr().write_all(text),
    };
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

/// The inputs of a function: by name where a name fits, else in order. Numbers are converted where no value changes and no
/// trace of the function takes them as they are.
fn arrange(mut given: Vec<(String, Tensor)>, function: &Callable) -> Result<Inputs> {
    let ports = function.inputs();
    if !given.iter().any(|(name, _)| function.input(name).is_some()) {
        if given.len() < ports.len() {
            let names: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
            return Err(Error::invalid(format!(
                "{} takes {}, but the file has {}",
                function.name(),
                output::count(names.len(), "input"),
                output::count(given.len(), "array")
            ))
            .help(format!("the inputs are {}", names.join(", "))));
        }
        given.truncate(ports.len());
        for ((name, _), port) in given.iter_mut().zip(ports) {
            *name = port.name.clone();
        }
    }
    if function.takes(&Inputs::Named(given.clone())) {
        return Ok(Inputs::Named(given));
    }
    for (name, tensor) in &mut given {
        if let Some(port) = function.input(name)
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
        let file = target.create(&target.name())?;
        let mut archive = npz::Writer::new(file, false);
        for (name, tensor) in outputs.iter() {
            archive.add(name, tensor)?;
        }
        archive.finish()?.flush()?;
        target.commit_unflushed()
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
    use modelark::nn::Sequential;
    use modelark::nn::layers::{Dense, InputLayer};

    use super::*;

    #[test]
    fn names_go_before_positions() {
        let layers = Sequential::new("m").add(InputLayer::new([1])).add(Dense::new(1)).build();
        let model = layers.and_then(Model::from_layers).expect("model");
        let function = model.default_function().expect("callable");
        let own = function.inputs()[0].name.clone();
        let arranged = |names: &[&str]| {
            let x = Tensor::from_vec(vec![1.0f64], [1, 1]).expect("tensor");
            match arrange(names.iter().map(|n| ((*n).to_owned(), x.clone())).collect(), &function)? {
                Inputs::Named(named) => {
                    Ok(named.into_iter().map(|(n, t)| (n, t.dtype())).collect::<Vec<_>>())
                }
                Inputs::Positional(_) => Err(Error::invalid("names are known")),
            }
        };
        assert_eq!(arranged(&[&own]).expect("by name"), [(own.clone(), DType::F32)]);
        assert_eq!(arranged(&["arr_0", "arr_1"]).expect("by position"), [(own.clone(), DType::F32)]);
        assert!(arranged(&[]).expect_err("too few").to_string().contains(&own));
    }

    #[test]
    fn plain_values_are_told_apart() {
        let value = |text: &str| plain(text).map(|(_, v)| v);
        assert_eq!(plain("training=true"), Ok(("training".to_owned(), Structure::Bool(true))));
        assert_eq!((value("n=3"), value("x=0.5")), (Ok(Structure::Int(3)), Ok(Structure::Float(0.5))));
        assert_eq!(
            (value("s=a=b"), value("s=None")),
            (Ok(Structure::String("a=b".to_owned())), Ok(Structure::None))
        );
        assert!(plain("training").is_err());
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
