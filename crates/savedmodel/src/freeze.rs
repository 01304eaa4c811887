//! Freezing: what a signature computes as one graph whose variables have become constants, as TensorFlow's
//! `convert_variables_to_constants_v2` makes it of a model with objects and `freeze_graph` of a session's graph.

use std::collections::{BTreeMap, HashMap, HashSet};

use modelark_artifact::graph::{
    Attr, Attrs, FuncRef, Function, Graph, Library, Node, Output, inline_calls, ops,
};
use modelark_artifact::tensor::{Bool, DType, PartialShape, Tensor};
use modelark_artifact::{
    Artifact, Entry, Error, Functions, Kind, ObjectId, Objects, Report, Result, SaveOptions, Signature,
    Structure, Variable, nearest,
};

use crate::frozen::SIGNATURE;
use crate::graphdef::{find_tensor, node_index};
use crate::plan::Plan;
use crate::serving::{Serving, variable_keys};
use crate::session::{INIT_SIGNATURE, signature_from_proto};

/// A graph without variables, and the functions that it still calls.
pub(crate) struct Frozen {
    pub(crate) graph: Graph,
    pub(crate) library: Library,
}

/// Freezes the signature or the function that is asked for: by default the default signature, or the only one.
///
/// # Errors
/// When there is no such signature, it changes variables or needs a table, or a value can't be read; the message names the
/// node.
pub(crate) fn freeze(
    artifact: &Artifact,
    functions: &Functions,
    options: &SaveOptions,
    report: &mut Report,
) -> Result<Frozen> {
    // Beside objects, the graph's names tell variables of one name apart by their order alone.
    if let (Some(session), true) = (&functions.session, functions.concrete.is_empty()) {
        let root = artifact.objects.get(Objects::ROOT).into_iter().flat_map(|root| &root.children);
        let held: HashMap<&str, ObjectId> = root.rev().map(|(name, id)| (name.as_str(), *id)).collect();
        let names: HashMap<usize, &str> =
            session.variables.iter().rev().map(|(name, at)| (*at, name.as_str())).collect();
        let by_name = by_name(&artifact.objects);
        let variable = |index: usize, node: &Node| -> Option<&Variable> {
            let known = names.get(&index).and_then(|name| artifact.objects.variable(*held.get(name)?));
            known.or_else(|| by_name.get(handle_name(node)).copied())
        };
        let (name, signature) = match &options.entry {
            Some(Entry::Function(path)) => {
                return Err(Error::missing(format!(
                    "there is no function {path:?}: the model has signatures, but no objects"
                ))
                .help("name a signature instead"));
            }
            Some(Entry::Signature(name)) => chosen(&session.signatures, Some(name))?,
            None => chosen(&session.signatures, None)?,
        };
        return Signed { graph: &session.graph, library: &functions.library, signature, keeps_names: true }
            .freeze(variable, report)
            .map_err(|e| e.at(format!("signature {name:?}")));
    }
    let mut plan = Plan::new(artifact, options, report)?;
    let wanted = match &options.entry {
        Some(Entry::Function(path)) => {
            let called = traced(artifact, functions, path, report)?;
            Some(plan.sign(&called, path).map_err(|e| e.at(format!("function {path:?}")))?)
        }
        Some(Entry::Signature(name)) => Some(name.clone()),
        None => None,
    };
    let serving = Serving::new(&plan, artifact, &variable_keys(&plan.objects))?;
    let signatures: BTreeMap<String, Signature> =
        serving.signatures.iter().map(|(n, s)| (n.clone(), signature_from_proto(s))).collect();
    let (name, signature) = chosen(&signatures, wanted.as_deref())?;
    let by_name = by_name(&plan.objects);
    Signed { graph: &serving.graph, library: &plan.library, signature, keeps_names: false }
        .freeze(|_, node| by_name.get(handle_name(node)).copied(), report)
        .map_err(|e| e.at(format!("signature {name:?}")))
}

/// The trace of the function at a path that is frozen: of several, the first for inference.
fn traced(artifact: &Artifact, functions: &Functions, path: &str, report: &mut Report) -> Result<String> {
    let objects = &artifact.objects;
    let found = objects.find(path).and_then(|id| objects.get(id));
    let traces: &[String] = match found.map(|o| &o.kind) {
        Some(Kind::Function(f)) => &f.concrete,
        Some(Kind::ConcreteFunction { name, .. }) => std::slice::from_ref(name),
        _ => {
            let mut known: Vec<String> = Vec::new();
            for (id, way) in objects.walk() {
                let is_function = matches!(objects.get(id).map(|o| &o.kind), Some(Kind::Function(f)) if !f.concrete.is_empty());
                known.extend(is_function.then(|| way.join("/")));
            }
            let there = if known.is_empty() {
                "there are none".into()
            } else {
                format!("there are {}", known.join(", "))
            };
            let help = nearest(path, known.iter().map(String::as_str));
            return Err(Error::invalid(format!("there is no function {path:?}; {there}"))
                .help(help.unwrap_or_else(|| "name one of these".to_owned())));
        }
    };
    let trains = |name: &&String| functions.concrete.get(*name).map_or(0, |c| count_true(&c.input));
    let found = traces.iter().min_by_key(trains).cloned();
    if let (Some(_), true) = (&found, traces.len() > 1) {
        report.note(format!(
            "{path:?} has {} traces, of which the first for inference was taken",
            traces.len()
        ));
    }
    found.ok_or_else(|| {
        Error::missing(format!("function {path:?} was never traced, so that there is no graph of it"))
            .help("call it once in Python before the model is saved")
    })
}

/// How many of a structure's plain values are true, as `training` is.
fn count_true(structure: &Structure) -> usize {
    match structure {
        Structure::Bool(flag) => usize::from(*flag),
        Structure::List(items) | Structure::Tuple(items) => items.iter().map(count_true).sum(),
        Structure::Dict(items) => items.values().map(count_true).sum(),
        _ => 0,
    }
}

fn chosen<'a>(
    signatures: &'a BTreeMap<String, Signature>,
    wanted: Option<&str>,
) -> Result<(&'a str, &'a Signature)> {
    let mut own = signatures.iter().filter(|(name, _)| !name.starts_with(INIT_SIGNATURE));
    let names: Vec<&str> = own.clone().map(|(name, _)| name.as_str()).collect();
    if let Some(wanted) = wanted {
        let help = nearest(wanted, names.iter().copied()).unwrap_or_else(|| "name one of these".to_owned());
        let there = if names.is_empty() {
            "there are none".into()
        } else {
            format!("there are {}", names.join(", "))
        };
        return own
            .find(|(name, _)| *name == wanted)
            .map(|(name, signature)| (name.as_str(), signature))
            .ok_or_else(|| Error::invalid(format!("there is no signature {wanted:?}; {there}")).help(help));
    }
    if let Some(found) = signatures.get(SIGNATURE) {
        return Ok((SIGNATURE, found));
    }
    match (own.next(), names.len()) {
        (Some((name, signature)), 1) => Ok((name, signature)),
        (None, _) => Err(Error::missing("the model has no signature that could be frozen")),
        _ => Err(Error::unsupported(format!(
            "the model has several signatures and none is {SIGNATURE:?}: {}",
            names.join(", ")
        ))
        .help("say which one is meant")),
    }
}

/// The variables by name; of several, the first.
fn by_name(objects: &Objects) -> HashMap<&str, &Variable> {
    let mut found = HashMap::new();
    for (_, object) in objects.iter() {
        if let Kind::Variable(v) = &object.kind {
            found.entry(v.name.as_str()).or_insert(v);
        }
    }
    found
}

/// The name of the variable that a handle's node is for.
fn handle_name(node: &Node) -> &str {
    node.attr("shared_name").and_then(Attr::as_str).filter(|s| !s.is_empty()).unwrap_or(&node.name)
}

/// A signature of a graph.
struct Signed<'a> {
    graph: &'a Graph,
    library: &'a Library,
    signature: &'a Signature,
    /// Whether outputs keep the names of the graph's tensors, rather than take those of the signature.
    keeps_names: bool,
}

impl Signed<'_> {
    fn freeze<'v>(
        self,
        variable: impl Fn(usize, &Node) -> Option<&'v Variable>,
        report: &mut Report,
    ) -> Result<Frozen> {
        let nodes = node_index(self.graph);
        let find = |name: &str| {
            find_tensor(name, &nodes)
                .ok_or_else(|| Error::corrupt(format!("the graph has no tensor {name:?}")))
        };
        let feeds = self.signature.inputs.values().map(|i| find(&i.name)).collect::<Result<Vec<_>>>()?;
        let fetches = self.signature.outputs.values().map(|o| find(&o.name)).collect::<Result<Vec<_>>>()?;
        let mut graph = inline_calls(self.graph, self.library, &feeds, &fetches);
        let needed = needed(&graph, &feeds, &fetches);
        let mut held: HashMap<Output, DType> = HashMap::new();
        for &index in &needed {
            let node = &graph.nodes[index];
            if !["VarHandleOp", "VariableV2", "Variable"].contains(&node.op.as_str()) {
                continue;
            }
            let place = || format!("node {:?} ({})", node.name, node.op);
            let found = variable(index, node);
            let value =
                found.ok_or_else(|| Error::missing("it is no variable of the model").at(place()))?.load()?;
            if node.op == "VarHandleOp" {
                held.insert(Output::new(index, 0), value.dtype());
            }
            constant(&mut graph.nodes[index], value);
        }
        // What was never initialized here holds nothing: tables and the like.
        let mut freezer = Freezer { library: self.library, made: Library::new(), names: HashMap::new() };
        freezer.rewrite(&mut graph, &held, &needed)?;
        let mut graph = pruned(&graph, &feeds, &fetches);
        for node in &mut graph.graph.nodes {
            node.attrs.remove("_class");
        }
        let mut names: Vec<String> = Vec::new();
        for ((key, info), output) in self.signature.outputs.iter().zip(&graph.fetches) {
            if self.keeps_names {
                names.push(info.name.clone());
                continue;
            }
            let name = free_name(&graph.graph, key);
            names.push(format!("{name}:0"));
            graph.graph.nodes.push(Node {
                name,
                op: "Identity".to_owned(),
                inputs: vec![*output],
                attrs: Attrs::from([("T".to_owned(), Attr::Type(info.dtype))]),
                ..Node::default()
            });
        }
        let inputs: Vec<&str> = self.signature.inputs.values().map(|i| i.name.as_str()).collect();
        report.note(format!("feed {}; fetch {}", inputs.join(", "), names.join(", ")));
        let library = freezer.called(&graph.graph)?;
        Ok(Frozen { graph: graph.graph, library })
    }
}

/// Makes a node a constant.
fn constant(node: &mut Node, value: Tensor) {
    node.op = "Const".to_owned();
    node.attrs = Attrs::from([
        ("dtype".to_owned(), Attr::Type(value.dtype())),
        ("value".to_owned(), Attr::from(value)),
    ]);
    node.inputs.clear();
}

/// A name that no node has, made of a signature's key.
fn free_name(graph: &Graph, key: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || "_./-".contains(c) { c } else { '_' };
    let base: String = key.chars().map(legal).collect();
    let base = if base.starts_with(|c: char| c.is_ascii_alphanumeric()) { base } else { format!("n{base}") };
    let names = std::iter::once(base.clone()).chain((1..).map(|n| format!("{base}_{n}")));
    let mut free = names.filter(|name| graph.find(name).is_none());
    free.next().unwrap_or(base)
}

/// The nodes that give `fetches`, by index; a node that is fed needs nothing.
fn needed(graph: &Graph, feeds: &[Output], fetches: &[Output]) -> Vec<usize> {
    let mut met: HashSet<usize> = HashSet::new();
    let mut waiting: Vec<usize> = fetches.iter().map(|o| o.node).collect();
    while let Some(index) = waiting.pop() {
        let Some(node) = graph.nodes.get(index).filter(|_| met.insert(index)) else { continue };
        if !feeds.iter().any(|f| f.node == index) {
            waiting.extend(node.inputs.iter().map(|o| o.node).chain(node.controls.iter().copied()));
        }
    }
    let mut all: Vec<usize> = met.into_iter().filter(|i| *i < graph.nodes.len()).collect();
    all.sort_unstable();
    all
}

struct Pruned {
    graph: Graph,
    fetches: Vec<Output>,
}

/// The part of a graph that gives `fetches`.
fn pruned(graph: &Graph, feeds: &[Output], fetches: &[Output]) -> Pruned {
    let kept = needed(graph, feeds, fetches);
    let places: HashMap<usize, usize> = kept.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    let moved = |o: &Output| Some(Output::new(*places.get(&o.node)?, o.index));
    let mut taken: HashSet<String> = HashSet::new();
    let node = |old: &usize| -> Node {
        let mut node = graph.nodes[*old].clone();
        let base = node.name.clone();
        let mut count = 0;
        while !taken.insert(node.name.clone()) {
            count += 1;
            node.name = format!("{base}_{count}");
        }
        node.inputs = node.inputs.iter().filter_map(moved).collect();
        node.controls = node.controls.iter().filter_map(|c| places.get(c).copied()).collect();
        node
    };
    Pruned {
        graph: Graph { nodes: kept.iter().map(node).collect() },
        fetches: fetches.iter().filter_map(moved).collect(),
    }
}

/// Ops that give what they get, at the same place or at every one.
const PASSES: [&str; 8] =
    ["Identity", "IdentityN", "Enter", "Exit", "Switch", "Merge", "NextIteration", "LoopCond"];

/// Rewrites what takes variables to take their values.
struct Freezer<'a> {
    library: &'a Library,
    made: Library,
    /// The functions that were made, by the name and the arguments that are values now.
    names: HashMap<(String, Vec<Option<DType>>), String>,
}

impl Freezer<'_> {
    /// Rewrites these nodes of a graph, in which `held` are values instead of variables. Gives all outputs that are.
    fn rewrite(
        &mut self,
        graph: &mut Graph,
        held: &HashMap<Output, DType>,
        nodes: &[usize],
    ) -> Result<HashMap<Output, DType>> {
        let mut held = held.clone();
        loop {
            let before = held.len();
            for &index in nodes {
                let node = &graph.nodes[index];
                let all = node.op == "While" || node.op == "StatelessWhile";
                if !all && !PASSES.contains(&node.op.as_str()) {
                    continue;
                }
                for (i, input) in node.inputs.iter().enumerate() {
                    let Some(dtype) = held.get(input).copied() else { continue };
                    let outputs = match node.op.as_str() {
                        "Switch" if i == 0 => vec![0, 1],
                        "Merge" => vec![0],
                        "Switch" => Vec::new(),
                        _ => vec![i],
                    };
                    held.extend(outputs.into_iter().map(|o| (Output::new(index, o), dtype)));
                }
            }
            if held.len() == before {
                break;
            }
        }
        for &index in nodes {
            let node = &graph.nodes[index];
            if let Some(plain) = node.op.strip_prefix("Ref").filter(|op| PASSES.contains(op)) {
                let plain = plain.to_owned();
                graph.nodes[index].op = plain;
                continue;
            }
            let bound: Vec<Option<DType>> = node.inputs.iter().map(|o| held.get(o).copied()).collect();
            let place = format!("node {:?} ({})", node.name, node.op);
            if bound.iter().all(Option::is_none) {
                refuse_changes(graph, index).map_err(|e| e.at(place))?;
                continue;
            }
            let more = self.node(&mut graph.nodes[index], &bound).map_err(|e| e.at(place))?;
            if let Some(axis) = more {
                let name = format!("{}/axis", graph.nodes[index].name);
                let mut node = Node { name, ..Node::default() };
                constant(&mut node, Tensor::scalar(axis));
                graph.nodes.push(node);
                let at = graph.nodes.len() - 1;
                graph.nodes[index].inputs.push(Output::new(at, 0));
            }
        }
        Ok(held)
    }

    /// Rewrites one node, of whose inputs some are values now; gives an axis that it takes besides.
    fn node(&mut self, node: &mut Node, bound: &[Option<DType>]) -> Result<Option<i32>> {
        let dtype = bound.iter().flatten().next().copied().unwrap_or(DType::F32);
        let renamed = |node: &mut Node, op: &str, names: &[(&str, &str)], drop: &[&str]| {
            node.op = op.to_owned();
            drop.iter().for_each(|name| drop_attr(node, name));
            for (from, to) in names {
                if let Some(attr) = node.attrs.remove(from) {
                    node.attrs.insert((*to).to_owned(), attr);
                }
            }
        };
        match node.op.as_str() {
            "ReadVariableOp" => renamed(node, "Identity", &[("dtype", "T")], &[]),
            "ResourceGather" => {
                let axis = node.attr("batch_dims").and_then(Attr::as_int).unwrap_or(0);
                renamed(node, "GatherV2", &[("dtype", "Tparams")], &["validate_indices"]);
                node.attrs.insert("Taxis".to_owned(), Attr::Type(DType::I32));
                return Ok(Some(i32::try_from(axis).unwrap_or(0)));
            }
            "ResourceGatherNd" => renamed(node, "GatherNd", &[("dtype", "Tparams")], &[]),
            "VariableShape" => {
                renamed(node, "Shape", &[], &[]);
                node.attrs.insert("T".to_owned(), Attr::Type(dtype));
            }
            "VarIsInitializedOp" => constant(node, Tensor::scalar(Bool::TRUE)),
            "IdentityN" => retype(node, "T", bound, 0)?,
            op if PASSES.contains(&op) => drop(node.attrs.insert("T".to_owned(), Attr::Type(dtype))),
            "PartitionedCall" | "StatefulPartitionedCall" => {
                retype(node, "Tin", bound, 0)?;
                self.functions(node, bound)?;
            }
            "If" | "StatelessIf" | "Case" | "StatelessCase" => {
                retype(node, "Tin", bound, 1)?;
                self.functions(node, bound.get(1..).unwrap_or_default())?;
            }
            "While" | "StatelessWhile" => {
                retype(node, "T", bound, 0)?;
                if let Some(Attr::List(shapes)) = node.attrs.get_mut("output_shapes") {
                    let changed = shapes.iter_mut().zip(bound).filter(|(_, b)| b.is_some());
                    changed.for_each(|(s, _)| *s = Attr::Shape(PartialShape::UNKNOWN));
                }
                self.functions(node, bound)?;
            }
            op if ops::signature(op).is_err() && self.library.contains(op) => {
                node.op = self.function(&node.op.clone(), bound)?;
            }
            _ => {
                return Err(Error::unsupported("it changes a variable, or needs more than its value")
                    .help("write a SavedModel, which keeps variables"));
            }
        }
        Ok(None)
    }

    /// Puts functions that take values in place of those that a node calls.
    fn functions(&mut self, node: &mut Node, bound: &[Option<DType>]) -> Result<()> {
        for attr in node.attrs.values_mut() {
            let many = match attr {
                Attr::Func(_) => std::slice::from_mut(attr),
                Attr::List(items) => &mut items[..],
                _ => continue,
            };
            for attr in many {
                if let Attr::Func(f) = attr {
                    *f = FuncRef { name: self.function(&f.name, bound)?, attrs: f.attrs.clone() };
                }
            }
        }
        Ok(())
    }

    /// The function that takes values where `bound` says so.
    fn function(&mut self, name: &str, bound: &[Option<DType>]) -> Result<String> {
        let key = (name.to_owned(), bound.to_vec());
        if let Some(made) = self.names.get(&key) {
            return Ok(made.clone());
        }
        let mut function = Function::clone(self.library.read(name)?);
        let taken = |n: &String| self.library.contains(n) || self.made.contains(n);
        let mut names =
            (0..).map(|n| if n == 0 { format!("{name}_frozen") } else { format!("{name}_frozen_{n}") });
        function.name = names.find(|n| !taken(n)).unwrap_or_default();
        self.names.insert(key, function.name.clone());
        let mut held = HashMap::new();
        for (i, dtype) in bound.iter().enumerate().take(function.arity) {
            let Some(dtype) = dtype else { continue };
            function.arg_attrs.remove(&i);
            if let Some(arg) = function.graph.nodes.get_mut(i) {
                arg.attrs.insert("T".to_owned(), Attr::Type(*dtype));
            }
            held.insert(Output::new(i, 0), *dtype);
        }
        let nodes: Vec<usize> = (function.arity..function.graph.nodes.len()).collect();
        let held = self
            .rewrite(&mut function.graph, &held, &nodes)
            .map_err(|e| e.at(format!("function {name:?}")))?;
        for result in &mut function.results {
            if let Some(dtype) = held.get(&result.output) {
                result.dtype = *dtype;
            }
        }
        let name = function.name.clone();
        self.made.insert(function);
        Ok(name)
    }

    /// The functions that a graph calls, and those that these call.
    fn called(&self, graph: &Graph) -> Result<Library> {
        let mut library = Library::new();
        let mut waiting = names(graph);
        while let Some(name) = waiting.pop() {
            if library.contains(&name) || !(self.made.contains(&name) || self.library.contains(&name)) {
                continue;
            }
            let from = if self.made.contains(&name) { &self.made } else { self.library };
            let function = from.read(&name)?;
            waiting.extend(names(&function.graph));
            library.insert(Function::clone(function));
        }
        Ok(library)
    }
}

fn drop_attr(node: &mut Node, name: &str) {
    node.attrs.remove(name);
}

/// Sets the dtypes of what is bound in a list of dtypes, which leaves out the first inputs.
fn retype(node: &mut Node, name: &str, bound: &[Option<DType>], skip: usize) -> Result<()> {
    let Some(Attr::List(types)) = node.attrs.get_mut(name) else {
        return Err(Error::corrupt(format!("attribute {name:?} must list dtypes")));
    };
    for (dtype, now) in types.iter_mut().zip(bound.iter().skip(skip)) {
        if let Some(now) = now {
            *dtype = Attr::Type(*now);
        }
    }
    Ok(())
}

/// Refuses a node that would change what is now a constant.
fn refuse_changes(graph: &Graph, index: usize) -> Result<()> {
    let node = &graph.nodes[index];
    let Ok(signature) = ops::signature(&node.op) else { return Ok(()) };
    let takes_ref = (0..node.inputs.len()).any(|i| signature.input_is_ref(&node.attrs, i));
    let of_constant = node.inputs.iter().any(|o| graph.nodes.get(o.node).is_some_and(|n| n.op == "Const"));
    if takes_ref && of_constant {
        return Err(
            Error::unsupported("it changes a variable").help("write a SavedModel, which keeps variables")
        );
    }
    Ok(())
}

/// The functions that a graph's nodes name.
fn names(graph: &Graph) -> Vec<String> {
    fn of(attr: &Attr, into: &mut Vec<String>) {
        match attr {
            Attr::Func(f) => into.push(f.name.clone()),
            Attr::List(items) => items.iter().for_each(|a| of(a, into)),
            _ => {}
        }
    }
    let mut all: Vec<String> = graph.nodes.iter().map(|n| n.op.clone()).collect();
    graph.nodes.iter().flat_map(|n| n.attrs.values()).for_each(|a| of(a, &mut all));
    all
}
