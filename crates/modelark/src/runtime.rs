//! The functions of an artifact, ready to be called.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use modelark_artifact::{
    Artifact, ConcreteFunction, Error, ErrorKind, FunctionObject, Functions, Kind, ObjectId, Objects, Result,
    Session, Structure, TensorInfo, nearest,
};
use modelark_graph::Output;
use modelark_graph::engine::{Executable, Program, Resource, Resources, Value, Values, Variable};
use modelark_tensor::{DType, PartialShape, Tensor};

use crate::values::{Argument, Inputs, Outputs, describe};

/// What one tensor of a call is: its name and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// The name.
    pub name: String,
    /// The dtype.
    pub dtype: DType,
    /// What is known of the shape.
    pub shape: PartialShape,
}

/// Something that can be called by name: a signature, or a function of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// A signature's name, or the path of a function among the objects, such as `__call__` or `encoder/encode`.
    pub name: String,
    /// Its tensors, in the order in which they are given.
    pub inputs: Vec<Port>,
    /// Its results, in order.
    pub outputs: Vec<Port>,
}

/// What runs an artifact's functions: variables and tables, and what was compiled so far.
pub(crate) struct Runtime {
    functions: Functions,
    program: Program,
    /// Shared by all calls.
    resources: Resources,
    /// What each object that a function can close over is at run time.
    captured: HashMap<ObjectId, Value>,
    /// Functions of objects by path.
    restored: BTreeMap<String, FunctionObject>,
    /// Signatures by name: the concrete function behind each.
    signatures: BTreeMap<String, String>,
    compiled: Mutex<HashMap<String, Arc<Executable>>>,
}

impl Runtime {
    /// Makes variables (not read yet), tables and constants for what the functions close over.
    pub(crate) fn new(artifact: &Artifact) -> Result<Self> {
        let functions = artifact.functions.clone().unwrap_or_default();
        let mut runtime = Runtime {
            program: Program::new(functions.library.clone()),
            resources: Resources::new(),
            captured: HashMap::new(),
            restored: BTreeMap::new(),
            signatures: BTreeMap::new(),
            compiled: Mutex::new(HashMap::new()),
            functions,
        };
        for asset in &artifact.assets {
            runtime.resources.add_asset(&asset.name, asset.bytes.clone());
        }
        for (id, path) in artifact.objects.walk() {
            let Some(object) = artifact.objects.get(id) else { continue };
            match &object.kind {
                Kind::Function(f) => {
                    runtime.restored.insert(path.join("/"), f.clone());
                }
                Kind::Signatures => {
                    for (name, child) in &object.children {
                        if let Some(Kind::ConcreteFunction { name: concrete, .. }) =
                            artifact.objects.get(*child).map(|o| &o.kind)
                        {
                            runtime.signatures.insert(name.clone(), concrete.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        runtime.capture(artifact)?;
        if let Some(session) = &runtime.functions.session
            && runtime.functions.concrete.is_empty()
        {
            runtime.begin_session(artifact, session)?;
        }
        Ok(runtime)
    }

    /// Gives every object that some function closes over its run-time value.
    fn capture(&mut self, artifact: &Artifact) -> Result<()> {
        let objects = &artifact.objects;
        let mut tables = Vec::new();
        for (id, object) in objects.iter() {
            let value = match &object.kind {
                Kind::Variable(_) => Resource::Variable(Arc::new(run_time_variable(objects, id)?)).into(),
                Kind::Constant(tensor) => tensor.clone().into(),
                Kind::Asset(index) => match artifact.assets.get(*index) {
                    Some(asset) => Tensor::scalar_string(asset.name.as_bytes()).into(),
                    None => continue,
                },
                Kind::Resource { .. } => {
                    tables.push(id);
                    continue;
                }
                _ => continue,
            };
            self.captured.insert(id, value);
        }
        for &id in &tables {
            if let Some(handle) = self.call_member(objects, id, "_create_resource")?.into_iter().next() {
                self.captured.insert(id, handle);
            }
        }
        for id in tables {
            self.call_member(objects, id, "_initialize")?;
        }
        Ok(())
    }

    /// Calls a method without arguments of an object, if it has it.
    fn call_member(&self, objects: &Objects, id: ObjectId, method: &str) -> Result<Values> {
        let function =
            objects.get(id).and_then(|o| o.child(method)).and_then(|f| match &objects.get(f)?.kind {
                Kind::Function(f) => f.concrete.first().cloned(),
                Kind::ConcreteFunction { name, .. } => Some(name.clone()),
                _ => None,
            });
        match function {
            Some(name) => self.run_concrete(&name, Vec::new()),
            None => Ok(Values::new()),
        }
    }

    /// Puts the variables of a TensorFlow 1 graph in place and runs what it runs once.
    fn begin_session(&self, artifact: &Artifact, session: &Session) -> Result<()> {
        for (name, node) in &session.variables {
            let Some(id) = artifact.objects.get(Objects::ROOT).and_then(|r| r.child(name)) else { continue };
            let variable = Arc::new(run_time_variable(&artifact.objects, id)?);
            // The graph's ops find a variable by the shared name of its handle, or else by the node's name.
            let node = session.graph.nodes.get(*node);
            let shared =
                node.and_then(|n| n.attr("shared_name")).and_then(|a| a.as_str()).filter(|s| !s.is_empty());
            let shared = shared.or(node.map(|n| n.name.as_str())).unwrap_or(name);
            self.resources.insert("variable", shared, Resource::Variable(variable));
        }
        if session.init.is_empty() {
            return Ok(());
        }
        let feeds: Vec<Output> = session.assets.iter().map(|(o, _)| *o).collect();
        let names: Values = session
            .assets
            .iter()
            .filter_map(|(_, i)| Some(Tensor::scalar_string(artifact.assets.get(*i)?.name.as_bytes()).into()))
            .collect();
        let run = self.program.graph(&session.graph, &feeds, &[], &session.init);
        run.and_then(|e| e.run(&self.resources, names))
            .map(drop)
            .map_err(|e| run_error(e).at("initialization"))
    }

    /// Everything that can be called: signatures first, then functions of objects.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let mut endpoints: Vec<Endpoint> =
            self.signature_names().into_iter().filter_map(|n| self.endpoint(&n)).collect();
        let restored = self.restored.keys().filter(|p| !is_internal(p));
        endpoints.extend(restored.filter_map(|p| self.endpoint(p)));
        endpoints
    }

    fn signature_names(&self) -> Vec<String> {
        let session = self.functions.session.iter().flat_map(|s| s.signatures.keys());
        // A model that keeps both has the same signatures twice.
        let names = if self.signatures.is_empty() {
            session.cloned().collect()
        } else {
            self.signatures.keys().cloned().collect::<Vec<_>>()
        };
        names.into_iter().filter(|n| !n.starts_with("__saved_model")).collect()
    }

    /// The endpoint of this name: a signature, or a function's path.
    pub(crate) fn endpoint(&self, name: &str) -> Option<Endpoint> {
        if let Some(concrete) = self.signatures.get(name) {
            return Some(describe_concrete(name, self.functions.concrete.get(concrete)?));
        }
        if let Some(session) = &self.functions.session
            && let Some(signature) = session.signatures.get(name)
        {
            let ports = |infos: &BTreeMap<String, TensorInfo>| {
                infos
                    .iter()
                    .map(|(name, i)| Port {
                        name: name.clone(),
                        dtype: fed_as(session, i),
                        shape: i.shape.clone(),
                    })
                    .collect()
            };
            let (inputs, outputs) = (ports(&signature.inputs), ports(&signature.outputs));
            return Some(Endpoint { name: name.to_owned(), inputs, outputs });
        }
        let concrete = self.restored.get(name)?.concrete.first()?;
        Some(describe_concrete(name, self.functions.concrete.get(concrete)?))
    }

    /// The endpoint that a plain `predict` means: `serving_default`, the only signature, `serve`, or `__call__`.
    pub(crate) fn default_endpoint(&self) -> Result<String> {
        let signatures = self.signature_names();
        if let Some(name) = signatures.iter().find(|n| *n == "serving_default") {
            return Ok(name.clone());
        }
        if let [one] = &*signatures {
            return Ok(one.clone());
        }
        if let Some(name) = ["serve", "__call__"].iter().find(|n| self.restored.contains_key(**n)) {
            return Ok((*name).to_owned());
        }
        let callable: Vec<String> = self.endpoints().into_iter().map(|e| e.name).collect();
        Err(match &*callable {
            [] => Error::missing("this model has no functions to run"),
            _ => Error::invalid(format!("this model has no default; it has {}", callable.join(", ")))
                .help("name the signature or function to call"),
        })
    }

    /// Calls an endpoint by its tensors alone.
    pub(crate) fn call(&self, name: &str, inputs: Inputs) -> Result<Outputs> {
        let endpoint = self.endpoint(name).ok_or_else(|| self.unknown(name))?;
        let names: Vec<&str> = endpoint.inputs.iter().map(|p| p.name.as_str()).collect();
        let tensors = inputs.in_order(&names).map_err(|e| e.at(format!("{name:?}")))?;
        if let Some(concrete) = self.signatures.get(name) {
            return self.run_checked(&endpoint, concrete, tensors);
        }
        if self.restored.contains_key(name) {
            // Several concrete functions may differ in dtypes or shapes alone.
            let function = &self.restored[name];
            let fitting = function.concrete.iter().find(|c| {
                self.functions.concrete.get(*c).is_some_and(|c| {
                    let specs = c.input.flatten();
                    specs.len() == tensors.len()
                        && specs
                            .iter()
                            .zip(&tensors)
                            .all(|((_, s, d), t)| t.dtype() == *d && s.matches(t.shape()))
                })
            });
            let concrete = fitting.or(function.concrete.first()).ok_or_else(|| self.unknown(name))?;
            return self.run_checked(&endpoint, concrete, tensors);
        }
        self.call_session(&endpoint, tensors)
    }

    /// Calls a function of an object as Python would: choosing the concrete function by the arguments' structure.
    pub(crate) fn call_with(
        &self,
        path: &str,
        positional: Vec<Argument>,
        keywords: BTreeMap<String, Argument>,
    ) -> Result<Outputs> {
        let function = self.restored.get(path).ok_or_else(|| self.unknown(path))?;
        let (positional, keywords) = canonical(function, positional, keywords);
        for name in &function.concrete {
            let Some(concrete) = self.functions.concrete.get(name) else { continue };
            let mut tensors = Vec::new();
            if fits(&concrete.input, &positional, &keywords, &mut tensors) {
                return self.run_checked(&describe_concrete(path, concrete), name, tensors);
            }
        }
        let shown: Vec<String> = positional
            .iter()
            .map(ToString::to_string)
            .chain(keywords.iter().map(|(k, v)| format!("{k}={v}")))
            .collect();
        let choices: Vec<String> = function
            .concrete
            .iter()
            .filter_map(|n| self.functions.concrete.get(n))
            .map(|c| describe(&c.input))
            .collect();
        Err(Error::invalid(format!("{path:?} can't be called with ({})", shown.join(", ")))
            .help(format!("it can be called with {}", choices.join(" or "))))
    }

    fn unknown(&self, name: &str) -> Error {
        let endpoints = self.endpoints();
        let names: Vec<&str> = endpoints.iter().map(|e| e.name.as_str()).collect();
        let help = nearest(name, names.iter().copied());
        Error::invalid(format!("there is no signature or function {name:?}; there are {}", names.join(", ")))
            .help(help.unwrap_or_else(|| "name one of these".to_owned()))
    }

    fn run_checked(&self, endpoint: &Endpoint, concrete: &str, tensors: Vec<Tensor>) -> Result<Outputs> {
        check(endpoint, &tensors)?;
        let outputs = self.run_concrete(concrete, tensors)?;
        name_outputs(endpoint, outputs)
    }

    /// Runs a concrete function on its tensors and what it closes over.
    fn run_concrete(&self, name: &str, tensors: Vec<Tensor>) -> Result<Values> {
        let concrete = self
            .functions
            .concrete
            .get(name)
            .ok_or_else(|| Error::missing(format!("there is no concrete function {name:?}")))?;
        let mut args: Values = tensors.into_iter().map(Value::from).collect();
        for id in &concrete.captures {
            args.push(self.captured.get(id).cloned().ok_or_else(|| {
                Error::mismatch(format!("function {name:?} closes over object {id}, which has no value"))
            })?);
        }
        let executable = self.executable(name)?;
        executable.run(&self.resources, args).map_err(run_error)
    }

    fn executable(&self, name: &str) -> Result<Arc<Executable>> {
        let cached = |compiled: &HashMap<String, Arc<Executable>>| compiled.get(name).cloned();
        if let Some(found) = cached(&self.compiled.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(found);
        }
        // Compiled outside the lock, so that calls of other functions don't wait; the first one in stays.
        let made = self.program.function(name).map_err(run_error)?;
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(compiled.entry(name.to_owned()).or_insert_with(|| Arc::new(made)).clone())
    }

    fn call_session(&self, endpoint: &Endpoint, tensors: Vec<Tensor>) -> Result<Outputs> {
        check(endpoint, &tensors)?;
        let session = self
            .functions
            .session
            .as_ref()
            .ok_or_else(|| Error::missing("this model has no graph to run"))?;
        let signature = session.signatures.get(&endpoint.name).ok_or_else(|| self.unknown(&endpoint.name))?;
        let key = format!("signature {:?}", endpoint.name);
        let found = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let executable = match found {
            Some(executable) => executable,
            None => {
                let resolve = |infos: &BTreeMap<String, TensorInfo>| {
                    infos.values().map(|i| resolve(session, &i.name)).collect::<Result<Vec<Output>>>()
                };
                let (feeds, fetches) = (resolve(&signature.inputs)?, resolve(&signature.outputs)?);
                let made = self.program.graph(&session.graph, &feeds, &fetches, &[]);
                let made = made.map_err(|e| run_error(e).at(key.clone()))?;
                let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
                compiled.entry(key.clone()).or_insert_with(|| Arc::new(made)).clone()
            }
        };
        let inputs = tensors.into_iter().map(Value::from).collect();
        let outputs = executable.run(&self.resources, inputs).map_err(|e| run_error(e).at(key))?;
        name_outputs(endpoint, outputs)
    }

    /// The variable that an object is at run time.
    pub(crate) fn variable(&self, id: ObjectId) -> Option<&Arc<Variable>> {
        self.captured.get(&id)?.resource().ok()?.variable().ok()
    }
}

/// A variable whose value is read from the artifact when first used.
fn run_time_variable(objects: &Objects, id: ObjectId) -> Result<Variable> {
    let variable = objects
        .variable(id)
        .cloned()
        .ok_or_else(|| Error::mismatch(format!("object {id} is not a variable")))?;
    let (name, dtype) = (variable.name.clone(), variable.dtype);
    let shape = PartialShape::from(&variable.shape[..]);
    if matches!(variable.value, modelark_artifact::Value::None) {
        return Ok(Variable::new(name, dtype, shape));
    }
    let load = move || variable.load().map_err(|e| modelark_graph::Error::compute(e.to_string()));
    Ok(Variable::lazy(name, dtype, shape, Box::new(load)))
}

/// Functions that restore, save or make things for TensorFlow, not for users.
fn is_internal(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or(path);
    matches!(last, "_create_resource" | "_initialize" | "_destroy_resource")
        || path.split('/').any(|part| part == "keras_api" || part == "regularization_losses")
        || path.starts_with("layer_with_weights-")
        || path.starts_with("layer-")
        || path.starts_with("keras_api")
}

fn describe_concrete(name: &str, concrete: &ConcreteFunction) -> Endpoint {
    let ports = |structure: &Structure, prefix: &str| {
        structure
            .flatten()
            .into_iter()
            .enumerate()
            .map(|(i, (name, shape, dtype))| Port {
                name: if name.is_empty() { format!("{prefix}_{i}") } else { name.to_owned() },
                dtype,
                shape: shape.clone(),
            })
            .collect::<Vec<Port>>()
    };
    let mut endpoint = Endpoint {
        name: name.to_owned(),
        inputs: ports(&concrete.input, "input"),
        outputs: ports(&concrete.output, "output"),
    };
    // A dict's keys are the names; those inside the specs are only what TensorFlow calls the tensors.
    let keyed = |structure: &Structure| match structure {
        Structure::Dict(items) if items.values().all(|v| v.flatten().len() == 1) => {
            Some(items.keys().cloned().collect::<Vec<_>>())
        }
        _ => None,
    };
    if let Structure::Tuple(parts) = &concrete.input
        && let [Structure::Tuple(positional), keywords] = &**parts
        && positional.iter().all(|p| p.flatten().is_empty())
        && let Some(keys) = keyed(keywords)
    {
        endpoint.inputs.iter_mut().zip(keys).for_each(|(p, k)| p.name = k);
    }
    if let Some(keys) = keyed(&concrete.output) {
        endpoint.outputs.iter_mut().zip(keys).for_each(|(p, k)| p.name = k);
    }
    endpoint
}

/// Refuses tensors that the endpoint doesn't take, naming the first.
fn check(endpoint: &Endpoint, tensors: &[Tensor]) -> Result<()> {
    for (port, tensor) in endpoint.inputs.iter().zip(tensors) {
        if port.dtype != tensor.dtype() || !port.shape.matches(tensor.shape()) {
            return Err(Error::invalid(format!(
                "input {:?} of {:?} takes {} of shape {}, got {} of shape {}",
                port.name,
                endpoint.name,
                port.dtype,
                port.shape,
                tensor.dtype(),
                PartialShape::from(tensor.shape())
            )));
        }
    }
    Ok(())
}

fn name_outputs(endpoint: &Endpoint, values: Values) -> Result<Outputs> {
    let named = values.into_iter().enumerate().map(|(i, value)| {
        let name = endpoint.outputs.get(i).map_or_else(|| format!("output_{i}"), |p| p.name.clone());
        Ok((name, value.into_tensor().map_err(run_error)?))
    });
    Ok(Outputs(named.collect::<Result<_>>()?))
}

/// The dtype of a signature's tensor: what its placeholder says, for a signature may say another (TensorFlow 1 didn't
/// compare them).
fn fed_as(session: &Session, info: &TensorInfo) -> DType {
    let node = resolve(session, &info.name).ok().and_then(|o| session.graph.nodes.get(o.node));
    let placeholder = node.filter(|n| n.op == "Placeholder").and_then(|n| n.attr("dtype")?.as_type());
    placeholder.unwrap_or(info.dtype)
}

/// The output that a tensor's name such as `dense/Relu:0` means.
fn resolve(session: &Session, name: &str) -> Result<Output> {
    let (node, index) = name.rsplit_once(':').unwrap_or((name, "0"));
    let index = index.parse().map_err(|_| Error::corrupt(format!("{name:?} is no tensor's name")))?;
    let node = session.graph.find(node).ok_or_else(|| {
        let help = nearest(node, session.graph.nodes.iter().map(|n| n.name.as_str()));
        Error::missing(format!("the graph has no node {node:?}")).help(help.unwrap_or_default())
    })?;
    Ok(Output::new(node, index))
}

/// What the engine says, as the facade's error: whatever an op refuses, the caller gave.
fn run_error(e: modelark_graph::Error) -> Error {
    let kind = match e.kind() {
        modelark_graph::ErrorKind::Compute => ErrorKind::Invalid,
        _ => return e.into(),
    };
    Error::new(kind, e.to_string())
}

/// Arguments as TensorFlow sorts them: by position as far as the Python signature names them, defaults filled in.
fn canonical(
    function: &FunctionObject,
    mut positional: Vec<Argument>,
    mut keywords: BTreeMap<String, Argument>,
) -> (Vec<Argument>, BTreeMap<String, Argument>) {
    let Some(Structure::NamedTuple { fields, .. }) = &function.arg_spec else {
        return (positional, keywords);
    };
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v);
    let sequence = |s: Option<&Structure>| match s {
        Some(Structure::List(items) | Structure::Tuple(items)) => items.clone(),
        _ => Vec::new(),
    };
    let mut names: Vec<String> = sequence(field("args"))
        .into_iter()
        .filter_map(|s| if let Structure::String(s) = s { Some(s) } else { None })
        .collect();
    let defaults = sequence(field("defaults"));
    if function.is_method && !names.is_empty() {
        names.remove(0);
    }
    let first_default = names.len().saturating_sub(defaults.len());
    for (i, name) in names.iter().enumerate().skip(positional.len()) {
        if let Some(given) = keywords.remove(name) {
            positional.push(given);
        } else if let Some(default) = i.checked_sub(first_default).and_then(|d| defaults.get(d)) {
            positional.push(Argument::Plain(default.clone()));
        } else {
            break;
        }
    }
    (positional, keywords)
}

/// Whether arguments are what a concrete function's input describes; their tensors in order.
fn fits(
    input: &Structure,
    positional: &[Argument],
    keywords: &BTreeMap<String, Argument>,
    tensors: &mut Vec<Tensor>,
) -> bool {
    let Structure::Tuple(parts) = input else { return false };
    let [Structure::Tuple(wanted), Structure::Dict(wanted_keywords)] = &**parts else { return false };
    positional.len() == wanted.len()
        && keywords.len() == wanted_keywords.len()
        && positional.iter().zip(wanted).all(|(a, w)| a.flatten_as(w, tensors))
        && wanted_keywords.iter().all(|(k, w)| keywords.get(k).is_some_and(|a| a.flatten_as(w, tensors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: &[Option<usize>]) -> Structure {
        Structure::Tensor { name: "x".into(), shape: PartialShape::new(shape), dtype: DType::F32 }
    }

    #[test]
    fn defaults_and_keywords_become_positions() {
        let text = |s: &str| Structure::String(s.into());
        let fields = vec![
            (
                "args".to_owned(),
                Structure::List(vec![text("self"), text("x"), text("training"), text("mask")]),
            ),
            ("defaults".to_owned(), Structure::Tuple(vec![Structure::Bool(false), Structure::None])),
        ];
        let function = FunctionObject {
            arg_spec: Some(Structure::NamedTuple { name: "FullArgSpec".into(), fields }),
            is_method: true,
            ..FunctionObject::default()
        };
        let x = Argument::from(Tensor::zeros(DType::F32, [7, 3]).expect("tensor"));
        let keywords = BTreeMap::from([("training".to_owned(), true.into())]);
        let (positional, keywords) = canonical(&function, vec![x], keywords);
        assert!(keywords.is_empty());
        let wanted = |training| {
            Structure::Tuple(vec![
                Structure::Tuple(vec![spec(&[None, Some(3)]), Structure::Bool(training), Structure::None]),
                Structure::Dict(BTreeMap::new()),
            ])
        };
        let mut tensors = Vec::new();
        assert!(fits(&wanted(true), &positional, &keywords, &mut tensors));
        assert_eq!(tensors.len(), 1);
        assert!(!fits(&wanted(false), &positional, &keywords, &mut Vec::new()));
    }

    #[test]
    fn the_keys_of_dicts_name_inputs_and_outputs() {
        let concrete = ConcreteFunction {
            captures: Vec::new(),
            input: Structure::Tuple(vec![
                Structure::Tuple(vec![]),
                Structure::Dict(BTreeMap::from([("images".to_owned(), spec(&[None]))])),
            ]),
            output: Structure::Dict(BTreeMap::from([("scores".to_owned(), spec(&[None]))])),
        };
        let endpoint = describe_concrete("serving_default", &concrete);
        assert_eq!(
            (endpoint.inputs[0].name.as_str(), endpoint.outputs[0].name.as_str()),
            ("images", "scores")
        );
        let wrong = Tensor::zeros(DType::F64, [2]).expect("tensor");
        assert!(check(&endpoint, &[wrong]).expect_err("dtype").to_string().contains("\"images\""));
    }
}
