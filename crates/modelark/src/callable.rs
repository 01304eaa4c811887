//! A function ready to be called.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use modelark_artifact::{Error, ErrorKind, Functions, Result, Structure};
use modelark_graph::Output;
use modelark_graph::engine::{Executable, Program, Resources, RunOptions, Value, Values};
use modelark_tensor::{PartialShape, Tensor};

use crate::argument::Argument;
use crate::dispatch::{Parameters, describe_input};
use crate::endpoint::{Endpoint, Port};
use crate::values::{Inputs, Outputs, count};

/// A signature or a function of a model, ready to be called: nothing is looked up by name any more.
///
/// It shares the model's variables, and may outlive the model. Cloning is cheap, and many threads may call one.
///
/// ```
/// # use modelark::nn::{Sequential, layers::{Dense, InputLayer}};
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// # let layers = Sequential::new("m").add(InputLayer::new([4])).add(Dense::new(2)).build()?;
/// # modelark::Model::from_layers(layers)?.save(folder.join("model"))?;
/// let model = modelark::load(folder.join("model"))?;
/// let serve = model.function("serving_default")?;
/// let x = modelark::Tensor::zeros(modelark::DType::F32, [3, 4])?;
/// for _ in 0..2 {
///     assert_eq!(serve.call(&[x.clone()])?[0].shape(), [3, 2]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Callable(Arc<Inner>, Option<Arc<RunOptions>>);

struct Inner {
    name: String,
    parameters: Parameters,
    /// At least one; those that a call with tensors alone means go first.
    traces: Vec<Trace>,
    program: Program,
    resources: Arc<Resources>,
}

/// One graph that a callable may run.
pub(crate) struct Trace {
    pub(crate) inputs: Vec<Port>,
    /// Other names of the inputs; empty where one has none.
    pub(crate) aliases: Vec<String>,
    pub(crate) outputs: Vec<Port>,
    /// The arguments' structure; none for a graph that is fed and fetched.
    pub(crate) input: Option<Structure>,
    /// The result's structure, likewise.
    pub(crate) output: Option<Structure>,
    pub(crate) code: Code,
    names: Arc<[String]>,
    executable: OnceLock<Executable>,
}

/// What a trace runs.
pub(crate) enum Code {
    /// A function of the library, with the values of what it closes over, or why one of them has none.
    Function { name: String, captures: Result<Vec<Value>, (ErrorKind, String)> },
    /// A part of the graph of a session.
    Graph { functions: Arc<Functions>, feeds: Vec<Output>, fetches: Vec<Output> },
}

impl Trace {
    /// A trace whose tensors are these.
    pub(crate) fn new(inputs: Vec<Port>, outputs: Vec<Port>, code: Code) -> Self {
        Trace {
            names: outputs.iter().map(|p| p.name.clone()).collect(),
            aliases: vec![String::new(); inputs.len()],
            inputs,
            outputs,
            input: None,
            output: None,
            code,
            executable: OnceLock::new(),
        }
    }

    fn executable(&self, program: &Program) -> Result<&Executable> {
        if let Some(found) = self.executable.get() {
            return Ok(found);
        }
        let made = match &self.code {
            Code::Function { name, .. } => program.function(name),
            Code::Graph { functions, feeds, fetches } => match &functions.session {
                Some(session) => program.graph(&session.graph, feeds, fetches, &[]),
                None => return Err(Error::missing("this model has no graph to run")),
            },
        };
        let made = made.map_err(run_error)?;
        Ok(self.executable.get_or_init(|| made))
    }

    /// What it takes, for a message.
    fn wants(&self) -> String {
        let ports: Vec<String> =
            self.inputs.iter().map(|p| format!("{}: {}{}", p.name, p.dtype, p.shape)).collect();
        if ports.is_empty() {
            "it takes no inputs".to_owned()
        } else {
            format!("it takes {}", ports.join(", "))
        }
    }

    fn takes(&self, tensors: &[Tensor]) -> bool {
        self.inputs.len() == tensors.len()
            && self
                .inputs
                .iter()
                .zip(tensors)
                .all(|(p, t)| p.dtype == t.dtype() && p.shape.matches(t.shape()))
    }

    fn run(&self, callable: &Callable, tensors: impl Iterator<Item = Tensor>) -> Result<Vec<Tensor>> {
        let inner = &callable.0;
        let mut args: Values = tensors.map(Value::from).collect();
        if let Code::Function { captures, .. } = &self.code {
            let captures = captures.as_ref().map_err(|(kind, why)| Error::new(*kind, why.clone()))?;
            args.extend(captures.iter().cloned());
        }
        let executable = self.executable(&inner.program)?;
        let values = match &callable.1 {
            Some(options) => executable.run_with(&inner.resources, args, options),
            None => executable.run(&inner.resources, args),
        };
        let values = values.map_err(run_error)?;
        let tensor = |(i, value): (usize, Value)| {
            value.into_tensor().map_err(|e| {
                let name = self.outputs.get(i).map(|p| p.name.as_str()).unwrap_or_default();
                run_error(e).at(format!("output {name:?}"))
            })
        };
        values.into_iter().enumerate().map(tensor).collect()
    }
}

impl Callable {
    pub(crate) fn new(
        name: String,
        parameters: Parameters,
        traces: Vec<Trace>,
        program: Program,
        resources: Arc<Resources>,
    ) -> Self {
        Callable(Arc::new(Inner { name, parameters, traces, program, resources }), None)
    }

    /// The same function, whose calls keep to other limits than the model was loaded with, and can be
    /// [cancelled](RunOptions::cancel).
    pub fn within(&self, options: RunOptions) -> Self {
        Callable(self.0.clone(), Some(Arc::new(options)))
    }

    /// The signature's name or the function's path.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The tensors that it takes, in the order in which they are given. Where a function has several traces, these are
    /// the first's: the one that a call with tensors alone means.
    pub fn inputs(&self) -> &[Port] {
        self.0.traces.first().map_or(&[], |t| &t.inputs)
    }

    /// Its results in order, likewise.
    pub fn outputs(&self) -> &[Port] {
        self.0.traces.first().map_or(&[], |t| &t.outputs)
    }

    /// The input of this name, which may be its other one: `x` for `x:0`, an argument's for a signature's key.
    pub fn input(&self, name: &str) -> Option<&Port> {
        let trace = self.0.traces.first()?;
        let alias = || trace.aliases.iter().position(|a| a == name).filter(|_| !name.is_empty());
        trace.inputs.iter().find(|p| p.name == name).or_else(|| trace.inputs.get(alias()?))
    }

    /// Whether it takes these tensors as they are: their names, count, dtypes and shapes.
    pub fn takes(&self, inputs: &Inputs) -> bool {
        let ordered = match inputs {
            Inputs::Positional(tensors) => Ok(tensors.clone()),
            named => self.order(named.clone()),
        };
        ordered.is_ok_and(|tensors| self.0.traces.iter().any(|t| t.takes(&tensors)))
    }

    /// The structure that the results have in Python, likewise: `None` for a function that gives nothing; none at all for
    /// a graph that is fed and fetched.
    pub fn result(&self) -> Option<&Structure> {
        self.0.traces.first()?.output.as_ref()
    }

    /// What each trace takes, as one would write it in Python.
    pub fn traces(&self) -> Vec<String> {
        let parameters = &self.0.parameters.names;
        let describe = |t: &Trace| t.input.as_ref().map(|s| describe_input(s, parameters));
        self.0.traces.iter().filter_map(describe).collect()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            name: self.0.name.clone(),
            inputs: self.inputs().to_vec(),
            outputs: self.outputs().to_vec(),
        }
    }

    /// Compiles the trace that a call with tensors alone means, which the first call would do otherwise.
    ///
    /// # Errors
    /// When it needs ops that don't exist here, all of which are named, or isn't well formed.
    pub fn prepare(&self) -> Result<()> {
        match self.0.traces.first() {
            Some(trace) => trace.executable(&self.0.program).map(drop).map_err(|e| self.at(e)),
            None => Ok(()),
        }
    }

    /// Calls it with the tensors in order.
    ///
    /// # Errors
    /// When they aren't what it takes (the message names the first that isn't), or an op refuses them (the message
    /// names the node).
    pub fn call(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let trace = self.choose(inputs)?;
        trace.run(self, inputs.iter().cloned()).map_err(|e| self.at(e))
    }

    /// Calls it with tensors by position or by name.
    ///
    /// # Errors
    /// As [`Callable::call`].
    pub fn call_named(&self, inputs: impl Into<Inputs>) -> Result<Outputs> {
        let tensors = match inputs.into() {
            Inputs::Positional(tensors) => tensors,
            named => self.order(named)?,
        };
        let trace = self.choose(&tensors)?;
        let tensors = trace.run(self, tensors.into_iter()).map_err(|e| self.at(e))?;
        Ok(Outputs::new(trace.names.clone(), tensors))
    }

    /// Calls it as Python would, with nested arguments, plain values and keywords. Which of its traces runs follows from
    /// the arguments' structure, dtypes and shapes.
    ///
    /// # Errors
    /// When no trace takes these arguments (the message lists those there are), or as [`Callable::call`].
    pub fn call_with(
        &self,
        positional: Vec<Argument>,
        keywords: BTreeMap<String, Argument>,
    ) -> Result<Outputs> {
        if let Some(inputs) = self.by_name(&positional, &keywords) {
            return self.call_named(inputs);
        }
        let call = self.0.parameters.bind(positional, keywords);
        // A trace that takes the arguments as they are goes before one for which they must become tensors.
        for convert in [false, true] {
            for trace in &self.0.traces {
                let Some(tensors) = trace.input.as_ref().and_then(|input| call.fits(input, convert)) else {
                    continue;
                };
                let tensors = trace.run(self, tensors.into_iter()).map_err(|e| self.at(e))?;
                return Ok(Outputs::new(trace.names.clone(), tensors));
            }
        }
        Err(Error::invalid(format!("{:?} can't be called with {}", self.0.name, call.describe()))
            .help(format!("it can be called with {}", self.traces().join(" or "))))
    }

    /// The inputs of a signature, which takes all of them by name; by position they are in its order.
    fn by_name(&self, positional: &[Argument], keywords: &BTreeMap<String, Argument>) -> Option<Inputs> {
        let [trace] = &*self.0.traces else { return None };
        let is_signature = trace.input.as_ref().is_none_or(takes_keywords_alone);
        if !is_signature || positional.len() > trace.inputs.len() {
            return None;
        }
        let names = trace.inputs.iter().map(|p| &p.name);
        let mut named = Vec::with_capacity(positional.len() + keywords.len());
        for (name, argument) in names.zip(positional).chain(keywords) {
            let Argument::Tensor(tensor) = argument else { return None };
            named.push((name.clone(), tensor.clone()));
        }
        Some(Inputs::Named(named))
    }

    /// The tensors of a call by name, in the order of the first trace that has all of the names.
    fn order(&self, inputs: Inputs) -> Result<Vec<Tensor>> {
        let mut refused = None;
        for trace in &self.0.traces {
            let names: Vec<(&str, &str)> =
                trace.inputs.iter().zip(&trace.aliases).map(|(p, a)| (p.name.as_str(), a.as_str())).collect();
            match inputs.clone().in_order(&names, || trace.wants()) {
                Ok(tensors) => return Ok(tensors),
                Err(e) => refused = refused.or(Some(e)),
            }
        }
        Err(self.at(refused.unwrap_or_else(|| Error::missing("it has no graph to run"))))
    }

    /// The trace for these tensors: the first that takes them.
    fn choose(&self, tensors: &[Tensor]) -> Result<&Trace> {
        if let Some(found) = self.0.traces.iter().find(|t| t.takes(tensors)) {
            return Ok(found);
        }
        let shown = |tensors: &[Tensor]| {
            tensors
                .iter()
                .map(|t| format!("{}{}", t.dtype(), PartialShape::from(t.shape())))
                .collect::<Vec<_>>()
        };
        let same_count = || self.0.traces.iter().filter(|t| t.inputs.len() == tensors.len());
        match (same_count().next(), same_count().nth(1)) {
            (Some(only), None) => Err(self.at(refuse(only, tensors))),
            (None, _) => {
                let first = self.0.traces.first();
                let wanted = first.map_or(0, |t| t.inputs.len());
                let help = first.map_or_else(|| "it has no graph to run".to_owned(), Trace::wants);
                Err(self.at(count(tensors.len(), wanted)).help(help))
            }
            _ => Err(self
                .at(Error::invalid(format!("it can't be called with ({})", shown(tensors).join(", "))))
                .help(format!("it can be called with {}", self.traces().join(" or ")))),
        }
    }

    fn at(&self, e: Error) -> Error {
        e.at(format!("{:?}", self.0.name))
    }
}

impl fmt::Debug for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callable({:?}, {} traces)", self.0.name, self.0.traces.len())
    }
}

/// Whether a trace takes no argument by position.
fn takes_keywords_alone(input: &Structure) -> bool {
    matches!(input, Structure::Tuple(parts)
        if matches!(&**parts, [Structure::Tuple(positional), Structure::Dict(_)] if positional.is_empty()))
}

/// Says which of the tensors a trace doesn't take, and why.
fn refuse(trace: &Trace, tensors: &[Tensor]) -> Error {
    let wrong = trace
        .inputs
        .iter()
        .zip(tensors)
        .find(|(port, tensor)| port.dtype != tensor.dtype() || !port.shape.matches(tensor.shape()));
    match wrong {
        Some((port, tensor)) => Error::invalid(format!(
            "it takes {} of shape {}, got {} of shape {}",
            port.dtype,
            port.shape,
            tensor.dtype(),
            PartialShape::from(tensor.shape())
        ))
        .at(format!("input {:?}", port.name)),
        None => Error::invalid("its inputs aren't what it takes"),
    }
}

/// What the engine says, as the facade's error: whatever an op refuses, the caller gave.
pub(crate) fn run_error(e: modelark_graph::Error) -> Error {
    let kind = match e.kind() {
        modelark_graph::ErrorKind::Compute => ErrorKind::Invalid,
        _ => return e.into(),
    };
    Error::new(kind, e.to_string())
}

#[cfg(test)]
mod tests {
    use modelark_nn::Sequential;
    use modelark_nn::layers::{Dense, InputLayer};
    use modelark_tensor::DType;

    use super::*;
    use crate::Model;

    fn model() -> Model {
        let layers = Sequential::new("m").add(InputLayer::new([2])).add(Dense::new(1)).build();
        layers.and_then(Model::from_layers).expect("a model")
    }

    fn ones(shape: &[usize]) -> Tensor {
        Tensor::from_vec(vec![1f32; shape.iter().product()], shape).expect("tensor")
    }

    #[test]
    fn a_handle_sees_what_is_assigned_from_every_thread() {
        let model = model();
        let kernel = model.variables().find(|v| v.ends_with("kernel")).expect("a kernel").to_owned();
        let call = model.default_function().expect("callable");
        call.prepare().expect("compiled");
        for value in [1f32, 3.0] {
            model.assign(&kernel, Tensor::from_vec(vec![value; 2], [2, 1]).expect("tensor")).expect("fits");
            std::thread::scope(|scope| {
                let results: Vec<_> = (0..4).map(|_| scope.spawn(|| call.call(&[ones(&[3, 2])]))).collect();
                for result in results {
                    let outputs = result.join().expect("no panic").expect("runs");
                    assert_eq!(outputs[0].elements::<f32>().expect("f32").to_vec(), [2.0 * value; 3]);
                }
            });
        }
        drop(model);
        assert_eq!(call.call(&[ones(&[1, 2])]).expect("outlives it").len(), 1);
    }

    #[test]
    fn a_wrong_input_says_which_and_what_was_expected() {
        let call = model().default_function().expect("callable");
        let name = call.inputs()[0].name.clone();
        let error = |inputs: &[Tensor]| call.call(inputs).expect_err("wrong").to_string();
        let said = error(&[ones(&[3, 5])]);
        let wanted =
            format!("input {name:?}: it takes float32 of shape (None, 2), got float32 of shape (3, 5)");
        assert!(said.contains(&wanted), "{said}");
        let said = error(&[Tensor::zeros(DType::I64, [1, 2]).expect("tensor")]);
        assert!(said.contains("got int64 of shape (1, 2)"), "{said}");
        let said = error(&[ones(&[1, 2]), ones(&[1, 2])]);
        assert!(said.contains("2 inputs were given") && said.contains(&name), "{said}");
        let said = call.call_named([("nobody", ones(&[1, 2]))]).expect_err("no such input").to_string();
        assert!(said.contains("nobody") && said.contains(&name), "{said}");
        let said = model().function("serv").expect_err("no such function").to_string();
        assert!(said.contains("__call__"), "{said}");
        let said = model().method("__call__").and_then(|c| c.call_with(vec!["text".into()], BTreeMap::new()));
        let said = said.expect_err("text is no float").to_string();
        assert!(
            said.contains("can't be called with (\"text\"") && said.contains("float32(None, 2)"),
            "{said}"
        );
    }
}
