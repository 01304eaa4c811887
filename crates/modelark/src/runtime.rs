//! The functions of an artifact, ready to be called.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use modelark_artifact::{
    Artifact, Error, ErrorKind, FunctionObject, Functions, Kind, Limits, ObjectId, Objects, Result, Session,
    Signature, Structure, TensorInfo, nearest,
};
use modelark_graph::Output;
use modelark_graph::engine::{Program, Resource, Resources, Value, Values, Variable};
use modelark_tensor::{DType, PartialShape, Tensor};

use crate::callable::{Callable, Code, Trace, run_error};
use crate::dispatch::Parameters;
use crate::endpoint::{Endpoint, Port, inputs_of, outputs_of};

/// What runs an artifact's functions: variables and tables, and what was made ready so far.
pub(crate) struct Runtime {
    functions: Arc<Functions>,
    program: Program,
    /// Shared by all calls.
    resources: Arc<Resources>,
    /// What each object that a function can close over is at run time.
    captured: HashMap<ObjectId, Value>,
    /// Why an object has no value at run time.
    failed: HashMap<ObjectId, (ErrorKind, String)>,
    /// Functions of objects by path.
    restored: BTreeMap<String, FunctionObject>,
    /// Signatures by name: the concrete function behind each.
    signatures: BTreeMap<String, String>,
    /// How a session is begun: what to feed, and whether that went well once it was tried.
    assets: Vec<(Output, Tensor)>,
    begun: OnceLock<Result<(), (ErrorKind, String)>>,
    callables: RwLock<HashMap<String, Callable>>,
}

fn program(library: modelark_graph::Library, limits: &Limits) -> Program {
    let made =
        if limits.run_as_written { Program::with_passes(library, false) } else { Program::new(library) };
    made.within(limits.run_options())
}

impl Runtime {
    /// Makes variables (not read yet), tables and constants for what the functions close over; whatever runs, now or
    /// later, does so within these limits.
    pub(crate) fn new(artifact: &Artifact, limits: &Limits) -> Result<Self> {
        let functions = Arc::new(artifact.functions.clone().unwrap_or_default());
        let mut resources = Resources::new();
        for asset in &artifact.assets {
            resources.add_asset(&asset.name, asset.bytes.clone());
        }
        let (restored, signatures) = named_functions(&artifact.objects);
        let assets = functions.session.iter().flat_map(|s| &s.assets);
        let assets = assets
            .filter_map(|(output, i)| {
                let name = artifact.assets.get(*i)?.name.as_bytes();
                Some((*output, Tensor::scalar_string(name)))
            })
            .collect();
        let mut runtime = Runtime {
            program: program(functions.library.clone(), limits),
            resources: Arc::new(resources),
            captured: HashMap::new(),
            failed: HashMap::new(),
            restored,
            signatures,
            assets,
            begun: OnceLock::new(),
            callables: RwLock::default(),
            functions,
        };
        runtime.capture(artifact)?;
        runtime.share_variables(&artifact.objects);
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
                    None => {
                        let why = "this asset isn't in the model's folder".to_owned();
                        self.failed.insert(id, (ErrorKind::Missing, why));
                        continue;
                    }
                },
                Kind::Resource { .. } => {
                    tables.push(id);
                    continue;
                }
                _ => continue,
            };
            self.captured.insert(id, value);
        }
        // What can't be made is told when something needs it: the rest of the model may do without.
        for &id in &tables {
            match self.call_member(objects, id, "_create_resource") {
                Ok(values) => self.captured.extend(values.into_iter().next().map(|handle| (id, handle))),
                Err(e) => drop(self.failed.insert(id, (e.kind(), e.to_string()))),
            }
        }
        for id in tables {
            let filled = self.call_member(objects, id, "_initialize");
            if let Err(e) = filled.and_then(|_| self.restore(objects, id)) {
                self.failed.entry(id).or_insert_with(|| (e.kind(), e.to_string()));
            }
        }
        Ok(())
    }

    /// Puts into a resource what the checkpoint holds of it.
    fn restore(&self, objects: &Objects, id: ObjectId) -> Result<()> {
        let Some(Kind::Resource { restored: Some(restored), .. }) = objects.get(id).map(|o| &o.kind) else {
            return Ok(());
        };
        let tensors = restored.tensors.iter().filter_map(|id| objects.variable(*id));
        let mut args: Values = tensors.map(|v| Ok(v.load()?.into())).collect::<Result<_>>()?;
        args.extend(self.captures(&restored.function).map_err(|(kind, why)| Error::new(kind, why))?);
        let executable = self.program.function(&restored.function).map_err(run_error)?;
        executable.run(&self.resources, args).map(drop).map_err(run_error)
    }

    /// The keys and the values of the table that an object is; none for what is no table.
    pub(crate) fn table(&self, id: ObjectId) -> Result<Option<(Tensor, Tensor)>> {
        if let Some((kind, why)) = self.failed.get(&id) {
            return Err(Error::new(*kind, why.clone()));
        }
        let Some(handle) = self.captured.get(&id) else { return Ok(None) };
        modelark_graph::ops::table_entries(handle).map(Some).map_err(run_error)
    }

    /// Calls a method without arguments of an object, if it has it.
    fn call_member(&self, objects: &Objects, id: ObjectId, method: &str) -> Result<Values> {
        let function =
            objects.get(id).and_then(|o| o.child(method)).and_then(|f| match &objects.get(f)?.kind {
                Kind::Function(f) => f.concrete.first().cloned(),
                Kind::ConcreteFunction { name, .. } => Some(name.clone()),
                _ => None,
            });
        let Some(name) = function else { return Ok(Values::new()) };
        let args = self.captures(&name).map_err(|(kind, why)| Error::new(kind, why))?;
        let executable = self.program.function(&name).map_err(run_error)?;
        executable.run(&self.resources, args).map_err(run_error)
    }

    /// The values of what a concrete function closes over.
    fn captures(&self, name: &str) -> Result<Values, (ErrorKind, String)> {
        let Some(concrete) = self.functions.concrete.get(name) else {
            return Err((ErrorKind::Missing, format!("there is no concrete function {name:?}")));
        };
        let value = |id: &ObjectId| match (self.failed.get(id), self.captured.get(id)) {
            (Some(why), _) => Err(why.clone()),
            (None, Some(value)) => Ok(value.clone()),
            (None, None) => Err((
                ErrorKind::Mismatch,
                format!("function {name:?} closes over object {id}, which has no value"),
            )),
        };
        concrete.captures.iter().map(value).collect()
    }

    /// Puts the variables of the objects where the ops of the session's graph look for them.
    fn share_variables(&self, objects: &Objects) {
        let Some(session) = &self.functions.session else { return };
        let share = |shared: &str, id: ObjectId| {
            if let Some(Value::Resource(resource)) = self.captured.get(&id) {
                self.resources.insert("variable", shared, resource.clone());
            }
        };
        let root = objects.get(Objects::ROOT).into_iter().flat_map(|root| &root.children);
        let by_name: HashMap<&str, ObjectId> = root.rev().map(|(name, id)| (name.as_str(), *id)).collect();
        for (name, node) in &session.variables {
            let Some(&id) = by_name.get(name.as_str()) else { continue };
            // The graph's ops find a variable by the shared name of its handle, or else by the node's name.
            let node = session.graph.nodes.get(*node);
            let shared =
                node.and_then(|n| n.attr("shared_name")).and_then(|a| a.as_str()).filter(|s| !s.is_empty());
            share(shared.or(node.map(|n| n.name.as_str())).unwrap_or(name), id);
        }
        if session.variables.is_empty() {
            // A model with objects: the graph beside them calls its variables by their full names.
            for (id, object) in objects.iter() {
                if let Kind::Variable(variable) = &object.kind {
                    share(&variable.name, id);
                }
            }
        }
    }

    /// Runs what the session runs once, before its first call.
    fn begin(&self, session: &Session) -> Result<()> {
        let begin = || {
            if session.init.is_empty() {
                return Ok(());
            }
            let feeds: Vec<Output> = self.assets.iter().map(|(output, _)| *output).collect();
            let names: Values = self.assets.iter().map(|(_, name)| name.clone().into()).collect();
            let run = self.program.graph(&session.graph, &feeds, &[], &session.init);
            let run = run.and_then(|e| e.run(&self.resources, names)).map_err(run_error);
            run.map(drop).map_err(|e| (e.kind(), e.to_string()))
        };
        self.begun
            .get_or_init(begin)
            .as_ref()
            .map_err(|(kind, why)| Error::new(*kind, why.clone()).at("initialization"))
            .copied()
    }

    /// Everything that can be called: signatures first, then functions of objects.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let restored = self.restored.keys().filter(|p| !is_internal(p)).cloned();
        let names = self.signature_names().into_iter().chain(restored);
        names.filter_map(|n| Some(self.describe(&n).ok()??.endpoint())).collect()
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
        let callable = self.listed();
        Err(match &*callable {
            [] => Error::missing("this model has no functions to run"),
            _ => Error::invalid(format!("this model has no default; it has {}", callable.join(", ")))
                .help("name the signature or function to call"),
        })
    }

    /// The function at this path among the objects, or else what [`Runtime::callable`] gives.
    pub(crate) fn method(&self, path: &str) -> Result<Callable> {
        if self.signatures.contains_key(path)
            && let Some(function) = self.restored.get(path)
        {
            return self.restored_function(path, function).ok_or_else(|| self.unknown(path));
        }
        self.callable(path)
    }

    /// The callable of this name: a signature, or a function's path.
    pub(crate) fn callable(&self, name: &str) -> Result<Callable> {
        if let Some(found) = self.callables.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(found.clone());
        }
        let made = self.describe(name)?.ok_or_else(|| self.unknown(name))?;
        if let (Some(session), true) = (&self.functions.session, self.is_session(name)) {
            gives(session, session.signatures.get(name).map_or(0, |s| s.outputs.len()))?;
        }
        if let (Some(session), true) = (&self.functions.session, self.is_session(name)) {
            self.begin(session)?;
        }
        let mut callables = self.callables.write().unwrap_or_else(PoisonError::into_inner);
        Ok(callables.entry(name.to_owned()).or_insert(made).clone())
    }

    /// Whether a name means a signature of the session, not of the objects.
    fn is_session(&self, name: &str) -> bool {
        !self.signatures.contains_key(name)
            && self.functions.session.as_ref().is_some_and(|s| s.signatures.contains_key(name))
    }

    /// The callable of this name, nothing run yet.
    ///
    /// # Errors
    /// When a signature names tensors that the graph doesn't have.
    fn describe(&self, name: &str) -> Result<Option<Callable>> {
        let session = self.functions.session.as_ref();
        if let Some(concrete) = self.signatures.get(name) {
            let Some(mut trace) = self.trace(concrete, &[]) else { return Ok(None) };
            if let Some((session, signature)) = session.and_then(|s| Some((s, s.signatures.get(name)?))) {
                rename(&mut trace, session, signature, concrete);
            }
            return Ok(Some(self.make(name, Parameters::default(), vec![trace])));
        }
        if let Some((session, signature)) = session.and_then(|s| Some((s, s.signatures.get(name)?))) {
            let named = |infos: &BTreeMap<String, TensorInfo>| {
                infos.iter().map(|(name, info)| (name.clone(), info.clone())).collect::<Vec<_>>()
            };
            let trace = self.session_trace(session, named(&signature.inputs), named(&signature.outputs));
            return Ok(Some(self.make(name, Parameters::default(), vec![trace?])));
        }
        Ok(self.restored.get(name).and_then(|function| self.restored_function(name, function)))
    }

    fn restored_function(&self, name: &str, function: &FunctionObject) -> Option<Callable> {
        let parameters = Parameters::of(function);
        let mut known: Vec<(usize, Trace)> = function
            .concrete
            .iter()
            .filter_map(|c| {
                let distance = parameters.distance(self.functions.concrete.get(c)?);
                Some((distance, self.trace(c, &parameters.names)?))
            })
            .collect();
        known.sort_by_key(|(distance, _)| *distance);
        let traces: Vec<Trace> = known.into_iter().map(|(_, trace)| trace).collect();
        if traces.is_empty() { None } else { Some(self.make(name, parameters, traces)) }
    }

    /// A callable from the session's tensors of some names to those of others; where none are named, to all that nothing
    /// uses, from all placeholders.
    ///
    /// # Errors
    /// When there is no such tensor, or no graph.
    pub(crate) fn between(&self, inputs: &[String], outputs: &[String]) -> Result<Callable> {
        let session = self.functions.session.as_ref().ok_or_else(|| {
            Error::invalid("only a SavedModel or a frozen graph has tensors with names to feed and to fetch")
        })?;
        let keyed =
            |infos: Vec<TensorInfo>| infos.into_iter().map(|i| (i.name.clone(), i)).collect::<Vec<_>>();
        let inputs = if inputs.is_empty() { session.inputs() } else { session.named(inputs)? };
        let outputs = if outputs.is_empty() { session.outputs() } else { session.named(outputs)? };
        gives(session, outputs.len())?;
        let trace = self.session_trace(session, keyed(inputs), keyed(outputs))?;
        self.begin(session)?;
        Ok(self.make("the graph", Parameters::default(), vec![trace]))
    }

    fn make(&self, name: &str, parameters: Parameters, traces: Vec<Trace>) -> Callable {
        Callable::new(name.to_owned(), parameters, traces, self.program.clone(), self.resources.clone())
    }

    /// The trace that a concrete function is.
    fn trace(&self, name: &str, parameters: &[String]) -> Option<Trace> {
        let concrete = self.functions.concrete.get(name)?;
        let code =
            Code::Function { name: name.to_owned(), captures: self.captures(name).map(Values::into_vec) };
        let mut trace = Trace::new(inputs_of(concrete, parameters), outputs_of(concrete), code);
        trace.input = Some(concrete.input.clone());
        trace.output = Some(concrete.output.clone());
        Some(trace)
    }

    /// The trace from some tensors of the session to others.
    fn session_trace(
        &self,
        session: &Session,
        inputs: Vec<(String, TensorInfo)>,
        outputs: Vec<(String, TensorInfo)>,
    ) -> Result<Trace> {
        let resolve = |infos: &[(String, TensorInfo)]| {
            infos.iter().map(|(_, i)| session.tensor(&i.name)).collect::<Result<Vec<Output>>>()
        };
        let (feeds, fetches) = (resolve(&inputs)?, resolve(&outputs)?);
        let ports = |infos: Vec<(String, TensorInfo)>| {
            let port = |(name, info): (String, TensorInfo)| {
                let dtype = fed_as(session, &info);
                Port { name, dtype, shape: info.shape }
            };
            infos.into_iter().map(port).collect::<Vec<_>>()
        };
        let code = Code::Graph { functions: self.functions.clone(), feeds, fetches };
        let mut trace = Trace::new(ports(inputs), ports(outputs), code);
        // `x` means `x:0`.
        let short = |p: &Port| p.name.strip_suffix(":0").unwrap_or_default().to_owned();
        trace.aliases = trace.inputs.iter().map(short).collect();
        Ok(trace)
    }

    /// What can be called, for a message: a function stands for its traces.
    fn listed(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for endpoint in self.endpoints() {
            let is_trace = endpoint.name.rsplit('/').next().is_some_and(|last| last.starts_with("trace_"));
            if !is_trace && !names.contains(&endpoint.name) {
                names.push(endpoint.name);
            }
        }
        names
    }

    fn unknown(&self, name: &str) -> Error {
        let names = self.listed();
        let help = nearest(name, names.iter().map(String::as_str));
        let there = if names.is_empty() {
            "there are none".into()
        } else {
            format!("there are {}", names.join(", "))
        };
        Error::invalid(format!("there is no signature or function {name:?}; {there}"))
            .help(help.unwrap_or_else(|| "name one of these".to_owned()))
    }

    /// The variable that an object is at run time.
    pub(crate) fn variable(&self, id: ObjectId) -> Option<&Arc<Variable>> {
        self.captured.get(&id)?.resource().ok()?.variable().ok()
    }
}

/// The functions of objects by every path, and the signatures by name.
fn named_functions(objects: &Objects) -> (BTreeMap<String, FunctionObject>, BTreeMap<String, String>) {
    let (mut restored, mut signatures) = (BTreeMap::new(), BTreeMap::new());
    for (id, path) in objects.walk() {
        let Some(object) = objects.get(id) else { continue };
        for (name, child) in &object.children {
            let below = || path.iter().copied().chain([name.as_str()]).collect::<Vec<_>>().join("/");
            match (objects.get(*child).map(|o| &o.kind), &object.kind) {
                (Some(Kind::ConcreteFunction { name: concrete, .. }), Kind::Signatures) => {
                    signatures.insert(name.clone(), concrete.clone());
                }
                (Some(Kind::ConcreteFunction { name: concrete, argument_keywords, .. }), _) => {
                    restored.insert(below(), bare(concrete, argument_keywords));
                }
                (Some(Kind::Function(f)), _) => {
                    restored.insert(below(), f.clone());
                }
                _ => {}
            }
        }
    }
    (restored, signatures)
}

/// A concrete function that an object holds by itself, as a function of one trace.
fn bare(concrete: &str, keywords: &[String]) -> FunctionObject {
    let names = keywords.iter().cloned().map(Structure::String).collect();
    let fields = vec![("args".to_owned(), Structure::List(names))];
    let arg_spec = Some(Structure::NamedTuple { name: "FullArgSpec".to_owned(), fields });
    FunctionObject { concrete: vec![concrete.to_owned()], arg_spec, ..FunctionObject::default() }
}

/// Calls a signature's inputs as the graph's own signature does, which is what servers and tools know; the names of the
/// function's arguments serve as well.
fn rename(trace: &mut Trace, session: &Session, signature: &Signature, concrete: &str) {
    let calls =
        |n: &&modelark_graph::Node| n.attr("f").and_then(|f| f.as_func()).is_some_and(|f| f.name == concrete);
    let Some(call) = session.graph.nodes.iter().find(calls) else { return };
    for (key, info) in &signature.inputs {
        let Ok(tensor) = session.tensor(&info.name) else { continue };
        if let Some(at) = call.inputs.iter().position(|i| *i == tensor)
            && let (Some(port), Some(alias)) = (trace.inputs.get_mut(at), trace.aliases.get_mut(at))
        {
            *alias = std::mem::replace(&mut port.name, key.clone());
        }
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

/// The dtype of a signature's tensor: what its placeholder says, for a signature may say another (TensorFlow 1 didn't
/// compare them).
fn fed_as(session: &Session, info: &TensorInfo) -> DType {
    let node = session.tensor(&info.name).ok().and_then(|o| session.graph.nodes.get(o.node));
    let placeholder = node.filter(|n| n.op == "Placeholder").and_then(|n| n.attr("dtype")?.as_type());
    placeholder.unwrap_or(info.dtype)
}

/// Refuses to run a graph to nothing, and tells what it could be run to.
fn gives(session: &Session, outputs: usize) -> Result<()> {
    if outputs > 0 {
        return Ok(());
    }
    let computed: Vec<String> = session.computed().into_iter().map(|i| i.name).collect();
    let shown = computed.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
    let error =
        Error::invalid("the graph has no outputs: no tensor that nothing uses is computed from its inputs");
    Err(match computed.len() {
        0 => error.help("it has only constants and placeholders"),
        n => error.help(format!(
            "name what to fetch (`--output-names`), one of its {n} tensors, of which the last are {shown}"
        )),
    })
}
