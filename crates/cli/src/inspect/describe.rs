//! What there is to say of a model, before it becomes text or JSON.

use std::collections::BTreeSet;

use modelark::artifact::{ConcreteFunction, Format, Functions, Kind, Objects, Structure, Variable};
use modelark::graph::ops::{self, HeldModule};
use modelark::savedmodel::meta_graph_tags;
use modelark::{Artifact, Limits, Port, Result};
use serde_json::{Value, json};

use super::layers::{self, Layer};
use crate::open::Source;
use crate::tensors;
use crate::verify::{MissingOp, missing_ops};

/// A signature or function with its tensors.
#[derive(Debug, Clone)]
pub(super) struct Callable {
    pub(super) name: String,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) path: String,
    pub(super) format: String,
    pub(super) writers: Vec<(String, String)>,
    /// The dialect, and the version that wrote it.
    pub(super) keras: Option<(String, Option<String>)>,
    pub(super) class: Option<String>,
    pub(super) layers: Vec<Layer>,
    /// Why the layers' shapes aren't known.
    pub(super) unread: Option<String>,
    /// Trained and all.
    pub(super) parameters: (u64, u64),
    pub(super) signatures: Vec<Callable>,
    pub(super) functions: Vec<(String, Vec<String>)>,
    pub(super) variables: Vec<(String, Variable)>,
    pub(super) compile: Option<Value>,
    pub(super) optimizer: Option<(String, usize)>,
    pub(super) assets: Vec<(String, usize)>,
    pub(super) missing_ops: Vec<MissingOp>,
    /// StableHLO modules among the functions' nodes.
    pub(super) modules: Vec<HeldModule>,
    /// The tags of each MetaGraph of a SavedModel.
    pub(super) meta_graphs: Vec<Vec<String>>,
}

/// Gathers it.
///
/// # Errors
/// When a checkpoint within can't be read, or a function is damaged.
pub(super) fn describe(artifact: &Artifact, format: &dyn Format, source: &Source) -> Result<Description> {
    let (layers, unread) = artifact.architecture.as_ref().map(layers::layers).unwrap_or_default();
    let functions = artifact.functions.as_ref();
    let class =
        artifact.architecture.as_ref().and_then(|a| a.config.get("class_name")?.as_str().map(str::to_owned));
    let training = artifact.training.as_ref();
    let optimizer = training.and_then(|t| t.optimizer.as_ref());
    // Objects may hold the optimizer's variables and metrics too, so the layers' own count goes first.
    let parameters = match layers.iter().map(|l| l.params).sum::<Option<u64>>() {
        Some(all) if !layers.is_empty() => (layers.iter().map(|l| l.trainable).sum(), all),
        _ => layers::parameters(&artifact.objects),
    };
    Ok(Description {
        path: source.path.display().to_string(),
        format: format!("{} ({})", format.name(), format.description()),
        writers: artifact.source.writers.clone(),
        keras: artifact.architecture.as_ref().map(|a| (a.dialect.to_string(), a.keras_version.clone())),
        class,
        layers,
        unread,
        parameters,
        signatures: functions.map(|f| signatures(&artifact.objects, f)).unwrap_or_default(),
        functions: functions.map(|f| restored(&artifact.objects, f)).unwrap_or_default(),
        variables: tensors::of_file(artifact, format, &source.place(), &Limits::default())?,
        compile: training.and_then(|t| t.compile.clone()),
        optimizer: optimizer.map(|o| (o.class.clone().unwrap_or_default(), o.variables.len())),
        assets: artifact.assets.iter().map(|a| (a.name.clone(), a.bytes.len())).collect(),
        missing_ops: functions.map(missing_ops).transpose()?.unwrap_or_default(),
        modules: functions.map(modules).transpose()?.unwrap_or_default(),
        meta_graphs: meta_graphs(format, source),
    })
}

/// The StableHLO modules that nodes of functions hold.
fn modules(functions: &Functions) -> Result<Vec<HeldModule>> {
    let mut holders = BTreeSet::new();
    functions.library.ops(|function, op| {
        if op == ops::XLA_CALL_MODULE {
            holders.insert(function);
        }
    })?;
    let holders = holders.into_iter().filter_map(|f| functions.library.get(f));
    Ok(holders.flat_map(|f| &f.graph.nodes).filter_map(ops::held_module).collect())
}

/// The tags of each MetaGraph.
fn meta_graphs(format: &dyn Format, source: &Source) -> Vec<Vec<String>> {
    if format.name() != "saved_model" {
        return Vec::new();
    }
    meta_graph_tags(&source.place(), &Limits::default()).unwrap_or_default()
}

/// The signatures: those among the objects, and those of a TensorFlow 1 graph.
fn signatures(objects: &Objects, functions: &Functions) -> Vec<Callable> {
    let mut found = Vec::new();
    // The graph's own tell the names that servers and tools know.
    let session = functions.session.iter().flat_map(|s| &s.signatures);
    for (name, signature) in session.filter(|(name, _)| !name.starts_with("__saved_model")) {
        let ports = |infos: &std::collections::BTreeMap<String, modelark::artifact::TensorInfo>| {
            infos
                .iter()
                .map(|(n, i)| Port { name: n.clone(), dtype: i.dtype, shape: i.shape.clone() })
                .collect()
        };
        found.push(Callable {
            name: name.clone(),
            inputs: ports(&signature.inputs),
            outputs: ports(&signature.outputs),
        });
    }
    for (_, object) in objects.iter().filter(|(_, o)| matches!(o.kind, Kind::Signatures)) {
        for (name, id) in &object.children {
            if let Some(Kind::ConcreteFunction { name: function, .. }) = objects.get(*id).map(|o| &o.kind)
                && let Some(concrete) = functions.concrete.get(function)
                && found.iter().all(|c| c.name != *name)
            {
                found.push(callable(name, concrete));
            }
        }
    }
    found
}

fn callable(name: &str, concrete: &ConcreteFunction) -> Callable {
    let keyed = match &concrete.output {
        Structure::Dict(items) => items.keys().cloned().collect(),
        _ => Vec::new(),
    };
    let ports = |structure: &Structure, keys: &[String]| {
        let tensors = structure.flatten().into_iter().enumerate();
        tensors
            .map(|(i, (name, shape, dtype))| {
                let name = keys.get(i).map_or(name, |k| k.as_str());
                Port { name: name.to_owned(), dtype, shape: shape.clone() }
            })
            .collect()
    };
    Callable {
        name: name.to_owned(),
        inputs: ports(&concrete.input, &[]),
        outputs: ports(&concrete.output, &keyed),
    }
}

/// The functions that objects hold, by path, with what each trace takes and gives.
fn restored(objects: &Objects, functions: &Functions) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (id, path) in objects.walk() {
        if let Some(Kind::Function(function)) = objects.get(id).map(|o| &o.kind) {
            let traces =
                function.concrete.iter().filter_map(|name| functions.concrete.get(name)).map(|c| {
                    format!("{} -> {}", modelark::describe(&c.input), modelark::describe(&c.output))
                });
            found.push((path.join("/"), traces.collect()));
        }
    }
    found
}

impl Description {
    pub(super) fn to_json(&self) -> Value {
        let ports = |ports: &[Port]| -> Vec<Value> {
            let one = |p: &Port| json!({"name": p.name, "dtype": p.dtype.name(), "shape": p.shape.dims().map(<[_]>::to_vec)});
            ports.iter().map(one).collect()
        };
        json!({
            "path": self.path,
            "format": self.format.split(' ').next(),
            "writers": self.writers.iter().map(|(who, version)| json!({"name": who, "version": version})).collect::<Vec<_>>(),
            "dialect": self.keras.as_ref().map(|(d, _)| d),
            "keras_version": self.keras.as_ref().and_then(|(_, v)| v.as_ref()),
            "class_name": self.class,
            "layers": self.layers.iter().map(|l| json!({
                "name": l.name, "class_name": l.class, "outputs": l.outputs, "params": l.params,
                "connected_to": l.connected_to,
            })).collect::<Vec<_>>(),
            "params": {"trainable": self.parameters.0, "total": self.parameters.1},
            "signatures": self.signatures.iter().map(|s| json!({
                "name": s.name, "inputs": ports(&s.inputs), "outputs": ports(&s.outputs),
            })).collect::<Vec<_>>(),
            "functions": self.functions.iter().map(|(name, traces)| json!({"name": name, "traces": traces})).collect::<Vec<_>>(),
            "variables": self.variables.iter().map(|(name, v)| json!({
                "name": name, "dtype": v.dtype.name(), "shape": v.shape, "bytes": v.nbytes(), "trainable": v.trainable,
            })).collect::<Vec<_>>(),
            "compile": self.compile,
            "optimizer": self.optimizer.as_ref().map(|(class, n)| json!({"class_name": class, "variables": n})),
            "assets": self.assets.iter().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect::<Vec<_>>(),
            "missing_ops": self.missing_ops.iter().map(|m| json!({
                "op": m.op,
                "nodes": m.nodes.iter().map(|(f, n)| json!({"function": f, "node": n})).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "stablehlo": self.modules.iter().map(|m| json!({
                "producer": m.producer, "functions": m.functions, "operations": m.operations,
            })).collect::<Vec<_>>(),
            "meta_graphs": self.meta_graphs,
        })
    }
}
