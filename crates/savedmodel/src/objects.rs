//! Objects: `SavedObjectGraph` and [`Objects`]. An object's id is its node's, in both directions.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use modelark_artifact::{
    ConcreteFunction, Error, FunctionObject, Kind, Limits, ObjectId, Objects, Restored, Result, Structure,
    Value, Variable,
    tensor::{PartialShape, Tensor},
};
use modelark_checkpoint::{Bundle, NamedSlot, wire};
use modelark_graph::{Attr, Graph};
use modelark_proto::trackable_object_graph::trackable_object::ObjectReference;
use modelark_proto::{
    FunctionSpec, SavedAsset, SavedBareConcreteFunction, SavedConcreteFunction, SavedConstant, SavedFunction,
    SavedObject, SavedObjectGraph, SavedResource, SavedUserObject, SavedVariable, StructuredValue,
    TrackableObjectGraph, VersionDef, saved_object,
};

use crate::graphdef::node_index;
use crate::saved_model::Missing;
use crate::structure::{structure_from_proto, structure_to_proto};

/// What the identifiers of plain containers mean.
const GENERIC: &str = "_generic_user_object";
const LIST: &str = "trackable_list_wrapper";
const DICT: &str = "trackable_dict_wrapper";
const TUPLE: &str = "trackable_tuple_wrapper";
const SIGNATURES: &str = "signature_map";

/// The attribute of a variable's node in a checkpoint's object graph that holds its value.
pub(crate) const VALUE: &str = "VARIABLE_VALUE";

/// Objects and concrete functions of a MetaGraph, variables bound to the checkpoint by its object graph.
///
/// Tensors of the checkpoint that belong to no variable (`save_counter`, the state of iterators and tables) follow as
/// objects that nothing holds, named by their keys.
///
/// # Errors
/// When a reference leads nowhere, a variable's shape isn't the checkpoint's, or there is more than the limits allow; the
/// message names the object.
pub(crate) fn objects_from_proto(
    graph: &SavedObjectGraph,
    nodes: &Graph,
    bundle: Result<&Bundle, &Missing>,
    checkpoint: Option<&TrackableObjectGraph>,
    limits: &Limits,
) -> Result<(Objects, BTreeMap<String, ConcreteFunction>)> {
    let missing = bundle.err();
    let bundle = bundle.ok();
    if graph.nodes.len() > limits.items {
        return Err(Error::limit(format!("there are {} objects, over the limit", graph.nodes.len())));
    }
    let keys = checkpoint.map(|c| checkpoint_keys(graph, c)).unwrap_or_default();
    let reader = Reader { nodes, bundle, missing, keys: &keys, index: OnceCell::new() };
    let mut objects: Option<Objects> = None;
    for (id, node) in graph.nodes.iter().enumerate() {
        let place = || format!("object {id}");
        let kind = reader.kind(id, node).map_err(|e| e.at(place()))?;
        let id = match &mut objects {
            None => {
                objects = Some(Objects::new(kind));
                Objects::ROOT
            }
            Some(objects) => objects.push(kind),
        };
        if let Some(object) = objects.as_mut().and_then(|o| o.get_mut(id)) {
            object.registered_name.clone_from(&node.registered_name);
            for child in &node.children {
                let to = node_id(child.node_id, graph).map_err(|e| e.at(place()))?;
                object.children.push((child.local_name.clone(), to));
            }
            if let Some(saved_object::Kind::UserObject(user)) = &node.kind {
                object.version = user.version.as_ref().map(|v| (v.producer, v.min_consumer));
            }
        }
    }
    let mut objects = objects.ok_or_else(|| Error::corrupt("the object graph is empty"))?;
    if let Some(bundle) = bundle {
        let bound: HashSet<&str> = keys.values().map(String::as_str).collect();
        let rest =
            bundle.keys().filter(|k| *k != modelark_checkpoint::OBJECT_GRAPH_KEY && !bound.contains(k));
        let mut unbound: HashMap<&str, ObjectId> = HashMap::new();
        for key in rest {
            unbound.insert(key, objects.push(Kind::Variable(bundle.variable(key)?.trainable(false))));
        }
        if let Some(checkpoint) = checkpoint {
            restore_tables(graph, checkpoint, &unbound, &mut objects);
        }
    }
    let concrete = graph
        .concrete_functions
        .iter()
        .map(|(name, f)| {
            let f = concrete_from_proto(f, graph).map_err(|e| e.at(format!("function {name:?}")))?;
            Ok((name.clone(), f))
        })
        .collect::<Result<_>>()?;
    Ok((objects, concrete))
}

/// Says of each table that the checkpoint holds by which function its keys and values go there.
fn restore_tables(
    graph: &SavedObjectGraph,
    checkpoint: &TrackableObjectGraph,
    tensors: &HashMap<&str, ObjectId>,
    objects: &mut Objects,
) {
    let tables = graph.nodes.iter().enumerate().filter(|(_, n)| !n.saveable_objects.is_empty());
    let tables: Vec<_> =
        tables.filter(|(_, n)| matches!(n.kind, Some(saved_object::Kind::Resource(_)))).collect();
    if tables.is_empty() {
        return;
    }
    let matched = matched(graph, checkpoint);
    for (id, node) in tables {
        let there = matched.get(&id).and_then(|there| checkpoint.nodes.get(*there));
        let found = there.into_iter().flat_map(|n| &n.attributes).find_map(|attribute| {
            let function = node.saveable_objects.get(&attribute.name)?.restore_function;
            let name = match &graph.nodes.get(usize::try_from(function).ok()?)?.kind {
                Some(saved_object::Kind::BareConcreteFunction(f)) => &f.concrete_function_name,
                Some(saved_object::Kind::Function(f)) => f.concrete_functions.first()?,
                _ => return None,
            };
            let tensor = |part: &str| tensors.get(&*format!("{}-{part}", attribute.checkpoint_key)).copied();
            Some(Restored { function: name.clone(), tensors: vec![tensor("keys")?, tensor("values")?] })
        });
        if let (Some(found), Some(Kind::Resource { restored, .. })) =
            (found, objects.get_mut(id).map(|o| &mut o.kind))
        {
            *restored = Some(found);
        }
    }
}

fn node_id(id: i32, graph: &SavedObjectGraph) -> Result<ObjectId> {
    usize::try_from(id)
        .ok()
        .filter(|i| *i < graph.nodes.len())
        .ok_or_else(|| Error::corrupt(format!("it refers to object {id}, which doesn't exist")))
}

struct Reader<'a> {
    /// The graph, whose nodes are the constants' values.
    nodes: &'a Graph,
    bundle: Option<&'a Bundle>,
    missing: Option<&'a Missing>,
    keys: &'a BTreeMap<ObjectId, String>,
    /// Its nodes by name, once a constant is asked for.
    index: OnceCell<HashMap<&'a str, usize>>,
}

impl Reader<'_> {
    fn kind(&self, id: ObjectId, node: &SavedObject) -> Result<Kind> {
        use saved_object::Kind as Saved;
        Ok(match &node.kind {
            None | Some(Saved::CapturedTensor(_)) => {
                Kind::Object { identifier: String::new(), metadata: String::new() }
            }
            Some(Saved::UserObject(user)) => match user.identifier.as_str() {
                LIST => Kind::List,
                DICT => Kind::Dict,
                TUPLE => Kind::Tuple,
                SIGNATURES => Kind::Signatures,
                _ => Kind::Object { identifier: user.identifier.clone(), metadata: user.metadata.clone() },
            },
            Some(Saved::Asset(asset)) => Kind::Asset(
                usize::try_from(asset.asset_file_def_index)
                    .map_err(|_| Error::corrupt("the index of its asset is negative"))?,
            ),
            Some(Saved::Function(f)) => {
                let spec = f.function_spec.as_ref();
                Kind::Function(FunctionObject {
                    concrete: f.concrete_functions.clone(),
                    arg_spec: spec.and_then(|s| s.fullargspec.as_ref()).map(structure_from_proto),
                    is_method: spec.is_some_and(|s| s.is_method),
                    input_signature: spec.and_then(|s| s.input_signature.as_ref()).map(structure_from_proto),
                })
            }
            Some(Saved::BareConcreteFunction(f)) => Kind::ConcreteFunction {
                name: f.concrete_function_name.clone(),
                argument_keywords: f.argument_keywords.clone(),
                allowed_positional: usize::try_from(f.allowed_positional_arguments).unwrap_or(0),
            },
            Some(Saved::Constant(constant)) => Kind::Constant(self.constant(&constant.operation)?),
            Some(Saved::Resource(resource)) => {
                Kind::Resource { device: resource.device.clone(), restored: None }
            }
            Some(Saved::Variable(variable)) => Kind::Variable(self.variable(id, variable)?),
        })
    }

    fn constant(&self, operation: &str) -> Result<Tensor> {
        let index = self.index.get_or_init(|| node_index(self.nodes));
        let node = index.get(operation).and_then(|node| self.nodes.nodes.get(*node)).ok_or_else(|| {
            Error::corrupt(format!("its constant is node {operation:?}, which isn't in the graph"))
        })?;
        match node.attr("value") {
            Some(Attr::Tensor(tensor)) => Ok(Tensor::clone(tensor)),
            _ => Err(Error::unsupported(format!(
                "its constant is node {operation:?}, whose value is no tensor that can be read"
            ))),
        }
    }

    fn variable(&self, id: ObjectId, saved: &SavedVariable) -> Result<Variable> {
        let dtype = wire::dtype_from_proto(saved.dtype)?;
        let told = saved.shape.as_ref().map_or(PartialShape::UNKNOWN, wire::partial_shape_from_proto);
        let name = saved.name.strip_suffix(":0").unwrap_or(&saved.name).to_owned();
        let place = || format!("variable {name:?}");
        let (shape, value) = match self.keys.get(&id).zip(self.bundle) {
            Some((key, bundle)) => {
                let found = bundle.variable(key).map_err(|e| e.at(place()))?;
                if found.dtype != dtype || !told.matches(&found.shape) {
                    return Err(Error::mismatch(format!(
                        "it is {dtype} of shape {told}, but the checkpoint's {key:?} is {} of shape {:?}",
                        found.dtype, found.shape
                    ))
                    .at(place()));
                }
                (found.shape, found.value)
            }
            None => {
                let dims = told.dims().unwrap_or_default();
                (dims.iter().map(|d| d.unwrap_or(0)).collect(), self.absent())
            }
        };
        Ok(Variable { name, dtype, shape, trainable: saved.trainable, value })
    }

    /// The value of a variable that the checkpoint doesn't have: none, or why there is no checkpoint.
    fn absent(&self) -> Value {
        match self.missing.cloned() {
            None => Value::None,
            Some(missing) => Value::Lazy(std::sync::Arc::new(move || Err(missing.error()))),
        }
    }
}

/// The key of every variable's value in the checkpoint, found as TensorFlow's loader does: by walking both object
/// graphs from their roots along edges of the same names.
pub(crate) fn checkpoint_keys(
    graph: &SavedObjectGraph,
    checkpoint: &TrackableObjectGraph,
) -> BTreeMap<ObjectId, String> {
    matched(graph, checkpoint)
        .into_iter()
        .filter(|(id, _)| {
            graph.nodes.get(*id).is_some_and(|n| matches!(n.kind, Some(saved_object::Kind::Variable(_))))
        })
        .filter_map(|(id, there)| Some((id, value_key(checkpoint, there)?.to_owned())))
        .collect()
}

/// The key of a node's value.
fn value_key(checkpoint: &TrackableObjectGraph, node: usize) -> Option<&str> {
    let value = checkpoint.nodes.get(node)?.attributes.iter().find(|a| a.name == VALUE)?;
    Some(&value.checkpoint_key)
}

/// The slots that the checkpoint keeps for optimizers of the older kind.
///
/// TensorFlow's loader refuses slots of an optimizer whose class it doesn't have, so that a model may list them in its
/// checkpoint alone; `objects` then holds them by their keys.
pub(crate) fn slots(
    graph: &SavedObjectGraph,
    checkpoint: &TrackableObjectGraph,
    objects: &Objects,
) -> Vec<NamedSlot> {
    let matched = matched(graph, checkpoint);
    let back: HashMap<usize, ObjectId> = matched.iter().map(|(id, there)| (*there, *id)).collect();
    let by_key: HashMap<&str, ObjectId> = objects
        .iter()
        .skip(graph.nodes.len())
        .filter_map(|(id, _)| Some((objects.variable(id)?.name.as_str(), id)))
        .collect();
    let mut optimizers: Vec<(usize, ObjectId)> = back.iter().map(|(there, id)| (*there, *id)).collect();
    optimizers.sort_unstable();
    let mut found = Vec::new();
    for (there, optimizer) in optimizers {
        for slot in checkpoint.nodes.get(there).map_or(&[][..], |n| &n.slot_variables) {
            let index = |id: i32| usize::try_from(id).ok();
            let own = index(slot.slot_variable_node_id).and_then(|there| {
                back.get(&there).or_else(|| by_key.get(value_key(checkpoint, there)?)).copied()
            });
            let variable = index(slot.original_variable_node_id).and_then(|there| back.get(&there).copied());
            if let (Some(own), Some(variable)) = (own, variable) {
                found.push(NamedSlot { optimizer, variable, name: slot.slot_name.clone(), slot: own });
            }
        }
    }
    found
}

/// The checkpoint's node of each object that has one.
fn matched(graph: &SavedObjectGraph, checkpoint: &TrackableObjectGraph) -> HashMap<ObjectId, usize> {
    let at = |id: i32, len: usize| usize::try_from(id).ok().filter(|i| *i < len);
    let mut matched: HashMap<ObjectId, usize> = HashMap::new();
    if !graph.nodes.is_empty() && !checkpoint.nodes.is_empty() {
        matched.insert(Objects::ROOT, 0);
    }
    let mut queue: VecDeque<ObjectId> = matched.keys().copied().collect();
    while let Some(id) = queue.pop_front() {
        let (Some(node), Some(there)) =
            (graph.nodes.get(id), matched.get(&id).and_then(|c| checkpoint.nodes.get(*c)))
        else {
            continue;
        };
        let edges: HashMap<&str, i32> =
            there.children.iter().map(|c| (c.local_name.as_str(), c.node_id)).collect();
        for child in &node.children {
            if let (Some(to), Some(target)) = (
                at(child.node_id, graph.nodes.len()),
                edges.get(child.local_name.as_str()).and_then(|c| at(*c, checkpoint.nodes.len())),
            ) && !matched.contains_key(&to)
            {
                matched.insert(to, target);
                queue.push_back(to);
            }
        }
    }
    // Slots hang on the optimizer by the variable that they are for and their name.
    let mut slots = Vec::new();
    for (id, there) in &matched {
        let (Some(node), Some(there)) = (graph.nodes.get(*id), checkpoint.nodes.get(*there)) else {
            continue;
        };
        let own = there
            .slot_variables
            .iter()
            .rev()
            .map(|s| ((s.slot_name.as_str(), s.original_variable_node_id), s.slot_variable_node_id));
        let own: HashMap<(&str, i32), i32> = own.collect();
        for slot in &node.slot_variables {
            let original = at(slot.original_variable_node_id, graph.nodes.len());
            let original = original.and_then(|o| i32::try_from(*matched.get(&o)?).ok());
            let found = original.and_then(|o| own.get(&(slot.slot_name.as_str(), o)));
            if let (Some(found), Some(to)) = (found, at(slot.slot_variable_node_id, graph.nodes.len()))
                && let Some(target) = at(*found, checkpoint.nodes.len())
            {
                slots.push((to, target));
            }
        }
    }
    matched.extend(slots);
    matched
}

fn concrete_from_proto(f: &SavedConcreteFunction, graph: &SavedObjectGraph) -> Result<ConcreteFunction> {
    let structure = |s: &Option<StructuredValue>| s.as_ref().map_or(Structure::None, structure_from_proto);
    Ok(ConcreteFunction {
        captures: f.bound_inputs.iter().map(|i| node_id(*i, graph)).collect::<Result<_>>()?,
        input: structure(&f.canonicalized_input_signature),
        output: structure(&f.output_signature),
    })
}

/// The messages of objects that were not read from a SavedModel; `constants` names the graph's node of each constant.
///
/// # Errors
/// When an id is over what the format can say.
pub(crate) fn objects_to_proto(
    objects: &Objects,
    concrete: &BTreeMap<String, ConcreteFunction>,
    variable_names: &HashMap<ObjectId, String>,
    constants: &HashMap<ObjectId, String>,
) -> Result<SavedObjectGraph> {
    let node = |(id, object): (ObjectId, &modelark_artifact::Object)| -> Result<SavedObject> {
        let version = object.version.unwrap_or((1, 1));
        let kind = kind_to_proto(id, &object.kind, version, variable_names, constants)?;
        Ok(SavedObject {
            children: children_to_proto(&object.children)?,
            registered_name: object.registered_name.clone(),
            kind: Some(kind),
            ..SavedObject::default()
        })
    };
    Ok(SavedObjectGraph {
        nodes: objects.iter().map(node).collect::<Result<_>>()?,
        concrete_functions: concrete_to_proto(concrete)?,
    })
}

/// The messages of concrete functions.
///
/// # Errors
/// When an id is over what the format can say.
pub(crate) fn concrete_to_proto(
    concrete: &BTreeMap<String, ConcreteFunction>,
) -> Result<BTreeMap<String, SavedConcreteFunction>> {
    let one = |f: &ConcreteFunction| -> Result<SavedConcreteFunction> {
        Ok(SavedConcreteFunction {
            bound_inputs: f.captures.iter().map(|i| number(*i)).collect::<Result<_>>()?,
            canonicalized_input_signature: Some(structure_to_proto(&f.input)),
            output_signature: Some(structure_to_proto(&f.output)),
        })
    };
    concrete.iter().map(|(name, f)| Ok((name.clone(), one(f)?))).collect()
}

/// The edges to an object's children.
///
/// # Errors
/// When an id is over what the format can say.
pub(crate) fn children_to_proto(children: &[(String, ObjectId)]) -> Result<Vec<ObjectReference>> {
    let edge = |(name, id): &(String, ObjectId)| {
        Ok(ObjectReference { node_id: number(*id)?, local_name: name.clone() })
    };
    children.iter().map(edge).collect()
}

fn number(id: ObjectId) -> Result<i32> {
    i32::try_from(id).map_err(|_| Error::limit("there are more objects than a SavedModel can number"))
}

fn kind_to_proto(
    id: ObjectId,
    kind: &Kind,
    version: (i32, i32),
    variable_names: &HashMap<ObjectId, String>,
    constants: &HashMap<ObjectId, String>,
) -> Result<saved_object::Kind> {
    use saved_object::Kind as Saved;
    let user = |identifier: &str, metadata: &str| {
        let (producer, min_consumer) = version;
        Saved::UserObject(SavedUserObject {
            identifier: identifier.to_owned(),
            version: Some(VersionDef { producer, min_consumer, bad_consumers: Vec::new() }),
            metadata: metadata.to_owned(),
        })
    };
    Ok(match kind {
        Kind::Object { identifier, .. } if identifier.is_empty() => user(GENERIC, ""),
        Kind::Object { identifier, metadata } => user(identifier, metadata),
        Kind::Layer(_) => user(GENERIC, ""),
        Kind::List => user(LIST, ""),
        Kind::Dict => user(DICT, ""),
        Kind::Tuple => user(TUPLE, ""),
        Kind::Signatures => user(SIGNATURES, ""),
        Kind::Variable(v) => Saved::Variable(SavedVariable {
            dtype: wire::dtype_to_proto(v.dtype),
            shape: Some(wire::shape_to_proto(&v.shape)),
            trainable: v.trainable,
            name: variable_names.get(&id).unwrap_or(&v.name).clone(),
            ..SavedVariable::default()
        }),
        Kind::Function(f) => Saved::Function(SavedFunction {
            concrete_functions: f.concrete.clone(),
            function_spec: Some(FunctionSpec {
                fullargspec: f.arg_spec.as_ref().map(structure_to_proto),
                is_method: f.is_method,
                input_signature: Some(structure_to_proto(
                    f.input_signature.as_ref().unwrap_or(&Structure::None),
                )),
                ..FunctionSpec::default()
            }),
        }),
        Kind::ConcreteFunction { name, argument_keywords, allowed_positional } => {
            Saved::BareConcreteFunction(SavedBareConcreteFunction {
                concrete_function_name: name.clone(),
                argument_keywords: argument_keywords.clone(),
                allowed_positional_arguments: i64::try_from(*allowed_positional).unwrap_or(i64::MAX),
                function_spec: None,
            })
        }
        Kind::Constant(_) => Saved::Constant(SavedConstant {
            operation: constants
                .get(&id)
                .cloned()
                .ok_or_else(|| Error::invalid(format!("object {id} is a constant without a node")))?,
        }),
        Kind::Asset(index) => Saved::Asset(SavedAsset { asset_file_def_index: number(*index)? }),
        Kind::Resource { device, .. } => Saved::Resource(SavedResource { device: device.clone() }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelark_artifact::tensor::DType;
    use modelark_graph::{Attrs, Node};
    use modelark_proto::trackable_object_graph::{TrackableObject, trackable_object};

    fn edges(children: &[(&str, i32)]) -> Vec<ObjectReference> {
        children.iter().map(|(n, i)| ObjectReference { node_id: *i, local_name: (*n).into() }).collect()
    }

    fn slot(original: i32, name: &str, node: i32) -> trackable_object::SlotVariableReference {
        trackable_object::SlotVariableReference {
            original_variable_node_id: original,
            slot_name: name.into(),
            slot_variable_node_id: node,
        }
    }

    fn variable() -> Option<saved_object::Kind> {
        Some(saved_object::Kind::Variable(SavedVariable { dtype: 1, ..Default::default() }))
    }

    #[test]
    fn values_are_found_by_names_of_edges_and_by_slots() {
        let graph = SavedObjectGraph {
            nodes: vec![
                SavedObject { children: edges(&[("l", 1), ("optimizer", 3)]), ..Default::default() },
                SavedObject { children: edges(&[("kernel", 2), ("root", 0)]), ..Default::default() },
                SavedObject { kind: variable(), ..Default::default() },
                SavedObject { slot_variables: vec![slot(2, "m", 4), slot(2, "v", 5)], ..Default::default() },
                SavedObject { kind: variable(), ..Default::default() },
                SavedObject { kind: variable(), ..Default::default() },
            ],
            ..Default::default()
        };
        let value = |key: &str| {
            vec![trackable_object::SerializedTensor {
                name: VALUE.into(),
                checkpoint_key: key.into(),
                ..Default::default()
            }]
        };
        let checkpoint = TrackableObjectGraph {
            nodes: vec![
                TrackableObject { children: edges(&[("optimizer", 1), ("l", 2)]), ..Default::default() },
                TrackableObject { slot_variables: vec![slot(3, "m", 4)], ..Default::default() },
                TrackableObject { children: edges(&[("kernel", 3)]), ..Default::default() },
                TrackableObject { attributes: value("k"), ..Default::default() },
                TrackableObject { attributes: value("k-m"), ..Default::default() },
            ],
        };
        let keys = checkpoint_keys(&graph, &checkpoint);
        assert_eq!(keys, BTreeMap::from([(2, "k".to_owned()), (4, "k-m".to_owned())]));
    }

    #[test]
    fn objects_survive() {
        let mut objects = Objects::default();
        let list = objects.add(Objects::ROOT, "variables", Kind::List);
        let v = Variable::new("w", Tensor::scalar(1.0f32));
        let v = objects.add(list, "0", Kind::Variable(v));
        let c = objects.add(Objects::ROOT, "c", Kind::Constant(Tensor::scalar(2i64)));
        let f = FunctionObject { concrete: vec!["f".into()], ..Default::default() };
        objects.add(Objects::ROOT, "__call__", Kind::Function(f));
        let spec = Structure::Tensor { name: "x".into(), shape: PartialShape::UNKNOWN, dtype: DType::F32 };
        let concrete = BTreeMap::from([(
            "f".to_owned(),
            ConcreteFunction {
                captures: vec![v, c],
                input: Structure::Tuple(vec![spec.clone()]),
                output: spec,
            },
        )]);
        let constants = HashMap::from([(c, "Const".to_owned())]);
        let proto = objects_to_proto(&objects, &concrete, &HashMap::new(), &constants).expect("messages");
        let value = Attrs::from([("value".to_owned(), Attr::from(Tensor::scalar(2i64)))]);
        let node = Node { name: "Const".into(), attrs: value, ..Node::default() };
        let nodes = Graph { nodes: vec![node] };
        let (read, functions) =
            objects_from_proto(&proto, &nodes, Err(&Missing::default()), None, &Limits::default())
                .expect("objects");
        assert_eq!(functions, concrete);
        assert_eq!(read.len(), objects.len());
        assert!(matches!(read.get(list).expect("list").kind, Kind::List));
        assert!(read.variable(v).expect("variable").load().is_err());
        let again = objects_to_proto(&read, &functions, &HashMap::new(), &constants).expect("messages");
        assert_eq!(again, proto);
    }

    #[test]
    fn what_leads_nowhere_is_named() {
        let graph = SavedObjectGraph {
            nodes: vec![SavedObject { children: edges(&[("x", 7)]), ..Default::default() }],
            ..Default::default()
        };
        let e =
            objects_from_proto(&graph, &Graph::default(), Err(&Missing::default()), None, &Limits::default());
        assert!(e.expect_err("bad edge").to_string().contains("object 0: it refers to object 7"));
    }
}
