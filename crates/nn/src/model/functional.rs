//! Functional models: a graph of layers, as each dialect writes it.

use std::collections::{BTreeMap, HashMap};

use modelark_artifact::{Dialect, Error, Objects, Report, Result};
use serde_json::{Value, json};

use super::apart::EdgeSpecs;
use super::objects::name_layers;
use super::{Argument, Edge, Graph, Kind, Model, Step};
use crate::config::{Object, Reader, Writer, expected};
use crate::layers::{InputLayer, Operation, TensorFlowOpLayer};
use crate::{Instance, Layer};

/// A tensor as a config names it: the layer, which of its calls, which of the call's outputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Reference {
    layer: usize,
    node: usize,
    output: usize,
}

/// A layer and which of its calls.
type Key = (usize, usize);

/// A call as a config has it.
struct Call {
    args: Vec<Argument<Reference>>,
    keywords: Vec<(String, Argument<Reference>)>,
}

impl Model {
    /// A Functional model of these layers, already named.
    pub(super) fn functional_of(
        name: String,
        layers: Vec<Instance>,
        inputs: Vec<usize>,
        graph: Graph,
        unknown: Object,
    ) -> Self {
        Model {
            name,
            kind: Kind::Functional { inputs },
            layers,
            graph,
            unknown,
            objects: Objects::default(),
            source: None,
            premade: None,
            training: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn read_functional(config: &Object, reader: &Reader<'_>) -> Result<Self> {
        let missing = |key: &str| Error::corrupt(format!("a Functional model without {key:?}"));
        let nodes = config.get("layers").and_then(Value::as_array).ok_or_else(|| missing("layers"))?;
        let mut layers = nodes.iter().map(|n| Instance::read(n, reader)).collect::<Result<Vec<_>>>()?;
        // A layer's name stands beside its config too, and it is this one that calls refer to. The config may have none,
        // and that of a `TensorFlowOpLayer` lacks the prefix that Keras puts before it.
        for (layer, node) in layers.iter_mut().zip(nodes) {
            let name = node.get("name").and_then(Value::as_str);
            if let Some(name) = name.filter(|name| *name != layer.name()) {
                *layer = layer.clone().named(name);
            }
        }
        let layers = name_layers(layers)?;
        let held = layers.clone();
        let names = Names::new(&held, nodes, reader.dialect)?;

        let key = "input_layers";
        let input = names.structure(config.get(key).ok_or_else(|| missing(key))?).map_err(|e| e.at(key))?;
        let mut inputs = Vec::new();
        let input = input.map(&mut |r: &Reference| {
            let layer = layers.get(r.layer).filter(|l| l.downcast::<InputLayer>().is_some());
            layer.ok_or_else(|| Error::corrupt("it names a layer that isn't an InputLayer").at(key))?;
            inputs.push(r.layer);
            Ok(inputs.len() - 1)
        })?;

        let mut calls: Vec<(Key, Call)> = Vec::new();
        for (i, (layer, node)) in held.iter().zip(nodes).enumerate() {
            let inbound =
                node.get("inbound_nodes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            if layer.downcast::<InputLayer>().is_some() {
                continue;
            }
            for (n, call) in inbound.iter().enumerate() {
                let call =
                    names.call(call).map_err(|e| e.at(format!("inbound_nodes {n}")).at(layer.place()))?;
                calls.push(((i, n), states_by_keyword(layer, call)));
            }
        }
        let (steps, edges) = order(&layers, &inputs, calls)?;
        let key = "output_layers";
        let output = names.structure(config.get(key).ok_or_else(|| missing(key))?).map_err(|e| e.at(key))?;
        let output = output.map(&mut |r: &Reference| {
            // Of the outputs alone, Keras 3 counts the call that made a nested Functional model, too.
            let made = reader.dialect == Dialect::Keras3 && layers.get(r.layer).is_some_and(is_functional);
            let node = r.node.saturating_sub(usize::from(made));
            edges.get(&(r.layer, node)).map(|e| e.output(r.output)).ok_or_else(|| {
                let name = layers.get(r.layer).map(Instance::name).unwrap_or_default();
                Error::corrupt(format!("layer {name:?} has no call {}", r.node)).at(key)
            })
        })?;

        const KNOWN: &[&str] = &["name", "trainable", "dtype", "layers", "input_layers", "output_layers"];
        let unknown = config.iter().filter(|(k, _)| !KNOWN.contains(&k.as_str()));
        let unknown = unknown.map(|(k, v)| (k.clone(), v.clone())).collect();
        let name = config.get("name").and_then(Value::as_str).unwrap_or("model").to_owned();
        Ok(Model::functional_of(name, layers, inputs, Graph { steps, input, output }, unknown))
    }

    pub(super) fn write_functional(&self, name: &str, writer: &mut Writer) -> Result<Value> {
        let Kind::Functional { inputs } = &self.kind else { return Ok(Value::Null) };
        let keras3 = writer.is_keras3();
        let specs = if keras3 { self.edge_specs() } else { None };
        let spell = Spelling { model: self, inputs, keras3, specs };
        let mut layers = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let mut node = layer.write(writer)?;
            let mut steps: Vec<&Step> = self.graph.steps.iter().filter(|s| s.layer == i).collect();
            steps.sort_by_key(|s| s.node);
            let calls =
                steps.into_iter().map(|s| spell.call(s, &mut writer.report)).collect::<Result<Vec<_>>>()?;
            // What one dialect gives an op with its call, the other has in its config.
            let first = self.graph.steps.iter().find(|s| s.layer == i);
            if let (Some(operation), Some(step)) = (layer.downcast::<Operation>(), first) {
                let (_, _, options) =
                    operation.spell(&step.args, &step.keywords, keras3).map_err(|e| e.at(layer.place()))?;
                if let Some(config) = node.get_mut("config").and_then(Value::as_object_mut) {
                    config.extend(options);
                }
            }
            if let (Some(_), Some(given)) =
                (layer.downcast::<TensorFlowOpLayer>(), node.pointer_mut("/config/name"))
            {
                *given = json!(TensorFlowOpLayer::given_name(layer.name()));
            }
            if let Value::Object(node) = &mut node {
                node.insert("name".to_owned(), json!(layer.name()));
                node.insert("inbound_nodes".to_owned(), Value::Array(calls));
            }
            layers.push(node);
        }
        let input = spell.structure(&self.graph.input, &|i| json!([self.input_name(inputs, *i), 0, 0]));
        let output = spell.structure(&self.graph.output, &|e| spell.output(*e));
        let mut config = Object::new();
        config.insert("name".into(), json!(name));
        config.insert("trainable".into(), json!(true));
        config.insert("layers".into(), Value::Array(layers));
        config.insert("input_layers".into(), input);
        config.insert("output_layers".into(), output);
        config.extend(self.unknown.clone());
        let module = if keras3 { "keras.src.models.functional" } else { "keras.src.engine.functional" };
        Ok(
            json!({"module": module, "class_name": "Functional", "config": config, "registered_name": "Functional"}),
        )
    }

    fn input_name(&self, inputs: &[usize], index: usize) -> &str {
        inputs.get(index).and_then(|&i| self.layers.get(i)).map(Instance::name).unwrap_or_default()
    }
}

/// The names of a model's layers, to find what a config refers to.
struct Names<'a> {
    index: HashMap<&'a str, usize>,
    /// For each layer the number of the first call that the config numbers.
    first: Vec<usize>,
}

impl<'a> Names<'a> {
    fn new(layers: &'a [Instance], nodes: &[Value], dialect: Dialect) -> Result<Self> {
        let mut index = HashMap::new();
        for (i, layer) in layers.iter().enumerate() {
            if index.insert(layer.name(), i).is_some() {
                return Err(Error::corrupt(format!("two layers have the name {:?}", layer.name())));
            }
        }
        let first = layers.iter().map(|l| usize::from(skips_first(l, dialect))).collect();
        let mut names = Names { index, first };
        // Whoever wrote another numbering is taken at their word: a call that isn't there shows it.
        for node in nodes.iter().filter_map(|n| n.get("inbound_nodes")) {
            names.correct(node);
        }
        Ok(names)
    }

    /// Numbers a layer's calls from 0 where the config refers to its call 0.
    fn correct(&mut self, value: &Value) {
        match value {
            Value::Array(items) => {
                if let Some((layer, node, _)) = self.parts(items) {
                    if let (0, Some(first)) = (node, self.first.get_mut(layer)) {
                        *first = 0;
                    }
                } else {
                    items.iter().for_each(|i| self.correct(i));
                }
            }
            Value::Object(items) => items.values().for_each(|i| self.correct(i)),
            _ => {}
        }
    }

    /// `["layer", 0, 0]` or `["layer", 0, 0, {..}]`.
    fn parts(&self, items: &[Value]) -> Option<(usize, usize, usize)> {
        let (Some(Value::String(name)), Some(node), Some(output)) =
            (items.first(), items.get(1), items.get(2))
        else {
            return None;
        };
        let number = |v: &Value| v.as_u64().and_then(|v| usize::try_from(v).ok());
        Some((*self.index.get(name.as_str())?, number(node)?, number(output)?))
    }

    fn reference(&self, items: &[Value]) -> Option<Result<Reference>> {
        if items.len() > 4 {
            return None;
        }
        let (layer, node, output) = self.parts(items)?;
        let first = self.first.get(layer).copied().unwrap_or_default();
        let reference = node.checked_sub(first).map(|node| Reference { layer, node, output });
        Some(
            reference.ok_or_else(|| {
                Error::corrupt(format!("call {node} of a model that counts them from {first}"))
            }),
        )
    }

    /// Inputs or outputs of the model: a triple, a list of them, or a dict.
    fn structure(&self, value: &Value) -> Result<Argument<Reference>> {
        let argument = self.argument(value)?;
        let unknown = argument.tensors().is_empty();
        if unknown {
            return Err(expected("the names of layers", value));
        }
        // A list of one is how most versions write a single tensor.
        Ok(match argument {
            Argument::List(items) if items.len() == 1 => {
                items.into_iter().next().unwrap_or(Argument::List(Vec::new()))
            }
            other => other,
        })
    }

    /// Tensors and values in either dialect.
    fn argument(&self, value: &Value) -> Result<Argument<Reference>> {
        Ok(match value {
            Value::Array(items) => match self.reference(items) {
                Some(reference) => Argument::Tensor(reference?),
                None => Argument::List(items.iter().map(|i| self.argument(i)).collect::<Result<_>>()?),
            },
            Value::Object(items) => match value.get("class_name").and_then(Value::as_str) {
                Some("__keras_tensor__") => {
                    let history = value.pointer("/config/keras_history").and_then(Value::as_array);
                    let reference = history.and_then(|h| self.reference(h));
                    Argument::Tensor(
                        reference.ok_or_else(|| expected("a tensor of a layer of this model", value))??,
                    )
                }
                // Any other object of Python's: a dtype, a slice.
                Some(_) => Argument::Value(value.clone()),
                None => Argument::Dict(
                    items.iter().map(|(k, v)| Ok((k.clone(), self.argument(v)?))).collect::<Result<_>>()?,
                ),
            },
            other => Argument::Value(other.clone()),
        })
    }

    fn call(&self, value: &Value) -> Result<Call> {
        match value {
            Value::Object(node) if node.contains_key("args") || node.contains_key("kwargs") => {
                let args = node.get("args").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let keywords = node.get("kwargs").and_then(Value::as_object);
                Ok(Call {
                    args: args.iter().map(|a| self.argument(a)).collect::<Result<_>>()?,
                    keywords: self.keywords(keywords)?,
                })
            }
            Value::Array(items) => self.old_call(items),
            // A layer that is called with a dict of tensors.
            Value::Object(_) => {
                Ok(Call { args: vec![self.tensors_of_old_call(value)?], keywords: Vec::new() })
            }
            _ => Err(expected("a layer's call", value)),
        }
    }

    /// Keras 2: a list of `["layer", node, output, {keywords}]`, or one such alone.
    fn old_call(&self, items: &[Value]) -> Result<Call> {
        let constant = |items: &[Value]| items.first().and_then(Value::as_str) == Some("_CONSTANT_VALUE");
        let keywords = |items: &[Value]| self.keywords(items.get(3).and_then(Value::as_object));
        if constant(items) {
            let value = items.get(2).cloned().unwrap_or_default();
            return Ok(Call { args: vec![Argument::Value(value)], keywords: keywords(items)? });
        }
        if let Some(reference) = self.reference(items) {
            return Ok(Call { args: vec![Argument::Tensor(reference?)], keywords: keywords(items)? });
        }
        let first = items.iter().find_map(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if items.len() == 1 && constant(first) {
            return self.old_call(first);
        }
        let tensors = items.iter().map(|i| self.tensors_of_old_call(i)).collect::<Result<Vec<_>>>()?;
        let args = if tensors.len() == 1 { tensors } else { vec![Argument::List(tensors)] };
        Ok(Call { args, keywords: keywords(first)? })
    }

    /// Tensors, which must be of this model; their keywords are left out.
    fn tensors_of_old_call(&self, value: &Value) -> Result<Argument<Reference>> {
        match value {
            Value::Array(items) => match self.reference(items) {
                Some(reference) => Ok(Argument::Tensor(reference?)),
                // Among tensors an op may have numbers.
                None if items.first().and_then(Value::as_str) == Some("_CONSTANT_VALUE") => {
                    Ok(Argument::Value(items.get(2).cloned().unwrap_or_default()))
                }
                None if items.first().is_some_and(Value::is_string) => {
                    Err(expected("a tensor of a layer of this model", value))
                }
                None => Ok(Argument::List(
                    items.iter().map(|i| self.tensors_of_old_call(i)).collect::<Result<_>>()?,
                )),
            },
            Value::Object(items) => Ok(Argument::Dict(
                items
                    .iter()
                    .map(|(k, v)| Ok((k.clone(), self.tensors_of_old_call(v)?)))
                    .collect::<Result<_>>()?,
            )),
            _ => Err(expected("a tensor of a layer of this model", value)),
        }
    }

    fn keywords(&self, keywords: Option<&Object>) -> Result<Vec<(String, Argument<Reference>)>> {
        keywords.into_iter().flatten().map(|(k, v)| Ok((k.clone(), self.argument(v)?))).collect()
    }
}

/// Keras 2 puts the states that a recurrent layer begins with, and constants, into a list with its input, Keras 3 beside it.
fn states_by_keyword(layer: &Instance, mut call: Call) -> Call {
    let states = layer.layer().and_then(|l| l.arguments().get(1).copied());
    if let (Some("initial_state"), [Argument::List(items)]) = (states, &mut call.args[..])
        && items.len() > 1
    {
        let count =
            layer.option("num_constants").and_then(|n| usize::try_from(n.as_u64()?).ok()).unwrap_or(0);
        let mut rest = items.split_off(1);
        let constants = rest.split_off(rest.len().saturating_sub(count));
        let input = items.pop().unwrap_or(Argument::List(Vec::new()));
        call.args = vec![input];
        for (name, tensors) in [("initial_state", rest), ("constants", constants)] {
            if !tensors.is_empty() {
                // Beside the list it may be said that there are none.
                call.keywords.retain(|(n, _)| n != name);
                call.keywords.push((name.to_owned(), Argument::List(tensors)));
            }
        }
    }
    call
}

fn is_functional(layer: &Instance) -> bool {
    layer.model().is_some_and(|m| matches!(m.kind, Kind::Functional { .. }))
}

/// Whether the numbering of a layer's calls begins at 1: Keras 2 counts the call that made a nested model.
fn skips_first(layer: &Instance, dialect: Dialect) -> bool {
    dialect != Dialect::Keras3
        && layer.model().is_some_and(|m| match &m.kind {
            Kind::Functional { .. } => true,
            Kind::Sequential { input, .. } => {
                input.is_some() || m.layers.first().is_some_and(|l| l.batch_input_shape().is_some())
            }
        })
}

/// What a call of a layer gave.
#[derive(Debug, Clone, Copy)]
enum Made {
    Input(usize),
    Step(usize),
}

impl Made {
    fn output(self, index: usize) -> Edge {
        match self {
            Made::Input(i) => Edge::Input(i),
            Made::Step(step) => Edge::Output(step, index),
        }
    }
}

/// Puts calls in an order in which each comes after those it needs.
fn order(
    layers: &[Instance],
    inputs: &[usize],
    calls: Vec<(Key, Call)>,
) -> Result<(Vec<Step>, HashMap<Key, Made>)> {
    let mut made: HashMap<Key, Made> =
        inputs.iter().enumerate().map(|(i, &layer)| ((layer, 0), Made::Input(i))).collect();
    let mut steps = Vec::with_capacity(calls.len());
    // Calls that wait, by the call they wait for; the rest in the file's order.
    let mut waiting: HashMap<Key, Vec<(Key, Call)>> = HashMap::new();
    let mut ready: Vec<(Key, Call)> = calls.into_iter().rev().collect();
    while let Some((key, call)) = ready.pop() {
        let all = call.args.iter().chain(call.keywords.iter().map(|(_, a)| a));
        let missing = all
            .flat_map(Argument::tensors)
            .map(|r| (r.layer, r.node))
            .find(|source| !made.contains_key(source));
        if let Some(source) = missing {
            waiting.entry(source).or_default().push((key, call));
            continue;
        }
        let mut edge = |r: &Reference| {
            made.get(&(r.layer, r.node))
                .map(|m| m.output(r.output))
                .ok_or_else(|| Error::corrupt("a call that isn't there"))
        };
        let args = call.args.iter().map(|a| a.map(&mut edge)).collect::<Result<_>>()?;
        let keywords =
            call.keywords.iter().map(|(k, a)| Ok((k.clone(), a.map(&mut edge)?))).collect::<Result<_>>()?;
        made.insert(key, Made::Step(steps.len()));
        steps.push(Step { layer: key.0, node: key.1, args, keywords });
        let mut next = waiting.remove(&key).unwrap_or_default();
        next.reverse();
        ready.extend(next);
    }
    let stuck: BTreeMap<usize, usize> = waiting
        .iter()
        .flat_map(|(source, calls)| calls.iter().map(|((layer, _), _)| (*layer, source.0)))
        .collect();
    if let Some((&layer, &source)) = stuck.iter().next() {
        let name = |i: usize| layers.get(i).map(Instance::name).unwrap_or_default().to_owned();
        return Err(Error::corrupt(format!(
            "layer {:?} waits for a call of layer {:?} that never comes",
            name(layer),
            name(source)
        )));
    }
    Ok((steps, made))
}

/// How a dialect spells the graph.
struct Spelling<'a> {
    model: &'a Model,
    inputs: &'a [usize],
    keras3: bool,
    /// What is known of the tensors, which Keras 3 writes down.
    specs: Option<EdgeSpecs>,
}

impl Spelling<'_> {
    /// Layer, call and output of an edge.
    fn parts(&self, edge: Edge) -> (&str, usize, usize) {
        match edge {
            Edge::Input(i) => (self.model.input_name(self.inputs, i), 0, 0),
            Edge::Output(step, output) => {
                let step = self.model.graph.steps.get(step);
                let layer = step.and_then(|s| self.model.layers.get(s.layer));
                let dialect = if self.keras3 { Dialect::Keras3 } else { Dialect::Keras2 };
                let first = usize::from(layer.is_some_and(|l| skips_first(l, dialect)));
                let node = step.map_or(0, |s| s.node) + first;
                (layer.map(Instance::name).unwrap_or_default(), node, output)
            }
        }
    }

    /// An output of the model, where Keras 3 counts the call that made a nested Functional model.
    fn output(&self, edge: Edge) -> Value {
        let (name, node, output) = self.parts(edge);
        let made = self.keras3 && self.model.layer(name).is_some_and(is_functional);
        json!([name, node + usize::from(made), output])
    }

    fn triple(&self, edge: Edge) -> Value {
        let (layer, node, output) = self.parts(edge);
        json!([layer, node, output])
    }

    fn tensor(&self, edge: Edge) -> Value {
        let (layer, node, output) = self.parts(edge);
        let spec = self.specs.as_ref().and_then(|s| s.of(edge));
        // Keras reads no tensor of unknown rank, and goes by its history.
        let shape = spec.as_ref().and_then(|s| s.shape.dims().map(|d| json!(d)));
        let shape = shape.unwrap_or_else(|| json!([Value::Null]));
        let dtype = spec.map_or("float32", |s| s.dtype.name());
        json!({
            "class_name": "__keras_tensor__",
            "config": {"shape": shape, "dtype": dtype, "keras_history": [layer, node, output]},
        })
    }

    /// A model's inputs or outputs: a list of triples or a dict. Of one alone Keras 2 makes a list, too.
    fn structure<T>(&self, argument: &Argument<T>, triple: &impl Fn(&T) -> Value) -> Value {
        match argument {
            Argument::Tensor(t) if !self.keras3 => json!([triple(t)]),
            other => nested(other, triple),
        }
    }

    fn call(&self, step: &Step, report: &mut Report) -> Result<Value> {
        let layer = self.model.layers.get(step.layer);
        let operation = layer.and_then(|l| l.downcast::<Operation>());
        let place = || layer.map(Instance::place).unwrap_or_default();
        let (args, named) = match operation {
            Some(operation) => {
                let spelt =
                    operation.spell(&step.args, &step.keywords, self.keras3).map_err(|e| e.at(place()))?;
                (spelt.0, spelt.1)
            }
            None => (step.args.clone(), step.keywords.clone()),
        };
        let crosses =
            layer.and_then(Instance::read_in).is_some_and(|d| (d == Dialect::Keras3) != self.keras3);
        let mut named = named;
        named.retain(|(name, value)| match (name.as_str(), value) {
            // In Keras 3 whoever calls the model decides, and what is written here is what it was when it was made.
            ("training", Argument::Value(value)) if crosses => {
                if self.keras3 && *value == Value::Bool(true) {
                    report.note(format!(
                        "{}: it was called with training=True; in Keras 3 whoever calls the model decides",
                        place()
                    ));
                }
                false
            }
            ("constants", Argument::Value(Value::Null)) => !(crosses && self.keras3),
            // Keras 3 writes down that no mask came with an argument; attention in Keras 2 takes none by these names.
            ("query_mask" | "value_mask" | "key_mask", Argument::Value(Value::Null)) => {
                !crosses || self.keras3
            }
            _ => true,
        });
        if self.keras3 {
            let spell = |a: &Argument<Edge>| nested(a, &|e| self.tensor(*e));
            let args: Vec<Value> = args.iter().map(spell).collect();
            let keywords: Object = named.iter().map(|(k, a)| (k.clone(), spell(a))).collect();
            return Ok(json!({"args": args, "kwargs": keywords}));
        }
        // Further positional arguments have no place in Keras 2's form but as keywords of the layer's call.
        let mut keywords: Object =
            named.iter().map(|(k, a)| (k.clone(), nested(a, &|e| self.triple(*e)))).collect();
        let names: Vec<String> = layer
            .and_then(Instance::layer)
            .map(|l| l.arguments().iter().map(|a| (*a).to_owned()).collect())
            .unwrap_or_default();
        for (i, argument) in args.iter().enumerate().skip(1) {
            let name = names.get(i).ok_or_else(|| {
                Error::unsupported(format!("Keras 2 has no name for argument {i} of the call")).at(place())
            })?;
            keywords.insert(name.clone(), nested(argument, &|e| self.triple(*e)));
        }
        // The first argument goes by position, always.
        let mut first = args.first();
        if first.is_none()
            && let Some((name, argument)) = named.iter().find(|(k, _)| names.first() == Some(k))
        {
            keywords.shift_remove(name);
            first = Some(argument);
        }
        if operation.is_some_and(|o| o.class_name() == "TFOpLambda") && !keywords.contains_key("name") {
            keywords.insert("name".to_owned(), Value::Null);
        }
        let spell = |e: &Edge| {
            let (layer, node, output) = self.parts(*e);
            json!([layer, node, output, keywords])
        };
        Ok(match first {
            // An op's call stands alone, without a list around it.
            Some(Argument::Tensor(edge)) if operation.is_some() => spell(edge),
            Some(Argument::Tensor(edge)) => json!([spell(edge)]),
            Some(Argument::Value(value)) if operation.is_some() => {
                json!(["_CONSTANT_VALUE", -1, value, keywords])
            }
            Some(Argument::Value(value)) => json!([["_CONSTANT_VALUE", -1, value, keywords]]),
            Some(Argument::List(items)) if operation.is_some() => {
                let item = |item: &Argument<Edge>| match item {
                    Argument::Value(value) => json!(["_CONSTANT_VALUE", -1, value, keywords]),
                    other => nested(other, &spell),
                };
                items.iter().map(item).collect()
            }
            Some(other) => nested(other, &spell),
            None => json!([]),
        })
    }
}

fn nested<T>(argument: &Argument<T>, tensor: &impl Fn(&T) -> Value) -> Value {
    match argument {
        Argument::Tensor(t) => tensor(t),
        Argument::List(items) => items.iter().map(|i| nested(i, tensor)).collect(),
        Argument::Dict(items) => {
            items.iter().map(|(k, v)| (k.clone(), nested(v, tensor))).collect::<Object>().into()
        }
        Argument::Value(v) => v.clone(),
    }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Architecture;

    use super::*;
    use crate::Registry;

    fn model(layers: &Value, dialect: Dialect) -> Model {
        let node = |name: &str| json!([[name, 0, 0]]);
        let config =
            json!({"name": "m", "layers": layers, "input_layers": node("x"), "output_layers": node("y")});
        let config = json!({"class_name": "Functional", "config": config});
        let architecture = Architecture { config, dialect, keras_version: None };
        Model::from_architecture(&architecture, &Registry::default()).expect("the layers fit")
    }

    fn written(model: &Model, dialect: Dialect) -> Value {
        let (artifact, _) = model.described(dialect).expect("it is written");
        artifact.architecture.expect("an architecture").config
    }

    #[test]
    fn inputs_that_are_more_than_dense_are_told() {
        for (form, told) in [("ragged", 1), ("sparse", 1), ("optional", 0)] {
            let layers = json!([
                {"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
                 "config": {"name": "x", "batch_input_shape": [null, 3], "dtype": "float32", form: true}},
                {"class_name": "Dense", "name": "y", "config": {"name": "y", "units": 2}, "inbound_nodes": [[["x", 0, 0, {}]]]},
            ]);
            let notes = model(&layers, Dialect::Keras2).changes(Dialect::Keras2);
            assert_eq!(
                notes.iter().filter(|n| n.contains(&format!("\"x\" is {form}"))).count(),
                told,
                "{notes:?}"
            );
        }
    }

    #[test]
    fn calls_refer_to_the_names_beside_the_configs() {
        let op = json!({
            "name": "Relu6_1", "constants": {},
            "node_def": {"name": "Relu6_1", "op": "Relu6", "attr": {"T": {"type": "DT_FLOAT"}}},
        });
        let layers = json!([
            {"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
             "config": {"name": "x", "batch_input_shape": [null, 3], "dtype": "float32"}},
            {"class_name": "TensorFlowOpLayer", "name": "tf_op_layer_Relu6_1", "config": op,
             "inbound_nodes": [[["x", 0, 0, {}]]]},
            {"class_name": "Dense", "name": "y", "config": {"name": "y", "units": 2},
             "inbound_nodes": [[["tf_op_layer_Relu6_1", 0, 0, {}]]]},
        ]);
        let model = model(&layers, Dialect::Keras2);
        let kernel = model.objects().weights().first().map(|(_, _, v)| v.shape.clone());
        assert_eq!(kernel, Some(vec![3, 2]), "the op gives what it takes");
        let config = written(&model, Dialect::Keras2);
        let at = |path: &str| config.pointer(path).cloned().unwrap_or_default();
        assert_eq!(at("/config/layers/1/name"), "tf_op_layer_Relu6_1");
        // Keras puts the prefix before what the config says.
        assert_eq!(at("/config/layers/1/config/name"), "Relu6_1");
        assert_eq!(at("/config/layers/2/inbound_nodes/0/0/0"), "tf_op_layer_Relu6_1");
    }

    #[test]
    fn masks_that_nobody_gave_stay_in_keras_3() {
        let tensor = |layer: &str| {
            json!({"class_name": "__keras_tensor__",
                   "config": {"shape": [null, 5, 4], "dtype": "float32", "keras_history": [layer, 0, 0]}})
        };
        let attention = json!({"name": "y", "num_heads": 2, "key_dim": 3});
        let layers = json!([
            {"module": "keras.layers", "class_name": "InputLayer", "name": "x", "inbound_nodes": [],
             "config": {"name": "x", "batch_shape": [null, 5, 4], "dtype": "float32"}},
            {"module": "keras.layers", "class_name": "MultiHeadAttention", "name": "y", "config": attention,
             "inbound_nodes": [{"args": [tensor("x"), tensor("x")],
                                "kwargs": {"query_mask": null, "value_mask": null, "use_causal_mask": true}}]},
        ]);
        let model = model(&layers, Dialect::Keras3);
        let config = written(&model, Dialect::Keras2);
        let keywords = config.pointer("/config/layers/1/inbound_nodes/0/0/3");
        assert_eq!(keywords, Some(&json!({"use_causal_mask": true, "value": ["x", 0, 0]})));
        let config = written(&model, Dialect::Keras3);
        let keywords = config.pointer("/config/layers/1/inbound_nodes/0/kwargs/query_mask");
        assert_eq!(keywords, Some(&Value::Null));
    }
}
