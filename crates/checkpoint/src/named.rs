//! The objects of a model under the names that a checkpoint gives them, for formats that hold a checkpoint.

use std::collections::HashMap;

use modelark_artifact::{Artifact, Dialect, Kind, ObjectId, Objects, Report, Result};

use crate::BundleWriter;
use crate::keras::Model;
use crate::object_graph;
use crate::optimizer;
use crate::trackable::{Node, Tree, VALUE};

/// A variable that an optimizer keeps for another one, among the objects of [`Named`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSlot {
    /// The optimizer.
    pub optimizer: ObjectId,
    /// The variable that it is for.
    pub variable: ObjectId,
    /// What it accumulates.
    pub name: String,
    /// The slot itself, which nothing holds as a child.
    pub slot: ObjectId,
}

/// A model's objects as Keras 2 names them: `layer_with_weights-0`, `layer-1`, `optimizer`.
#[derive(Debug, Clone)]
pub struct Named {
    /// The objects: layers, containers and variables, and the optimizer with its own.
    pub objects: Objects,
    /// What the artifact's objects became.
    pub ids: HashMap<ObjectId, ObjectId>,
    /// Full names of variables, such as `dense/kernel`; not unique.
    pub full_names: HashMap<ObjectId, String>,
    /// Slots of an optimizer of the older kind.
    pub slots: Vec<NamedSlot>,
}

impl Named {
    /// The objects of an artifact whose root is a layer, with the optimizer's state unless it is left out.
    pub fn new(artifact: &Artifact, without_training: bool, report: &mut Report) -> Self {
        let mut model = Model::new(&artifact.objects, Dialect::Keras2);
        if let Some(training) = artifact.training.as_ref().filter(|_| !without_training) {
            optimizer::write(&mut model, training, false, report);
        }
        let mut named = Named {
            objects: Objects::default(),
            ids: HashMap::new(),
            full_names: HashMap::new(),
            slots: Vec::new(),
        };
        for (id, node) in model.tree.nodes.iter().enumerate() {
            let source = node.source.or((id == Objects::ROOT).then_some(Objects::ROOT));
            let object = source.and_then(|s| artifact.objects.get(s));
            let kind = match (object, node.values.first()) {
                (Some(object), _) => object.kind.clone(),
                (None, Some((_, _, variable))) => Kind::Variable(variable.clone().trainable(false)),
                (None, None) if is_list(&node.edges) => Kind::List,
                (None, None) => Kind::object(),
            };
            if id == Objects::ROOT {
                named.objects = Objects::new(kind);
            } else {
                named.objects.push(kind);
            }
            if let (Some(object), Some(new)) = (object, named.objects.get_mut(id)) {
                new.registered_name.clone_from(&object.registered_name);
                new.version = object.version;
                new.input_shapes.clone_from(&object.input_shapes);
            }
            if let Some(source) = source {
                named.ids.insert(source, id);
            }
            if let Some((_, full_name, _)) = node.values.first() {
                named.full_names.insert(id, full_name.clone());
            }
        }
        for (id, node) in model.tree.nodes.iter().enumerate() {
            for (name, child) in &node.edges {
                named.objects.link(id, name.clone(), *child);
            }
            let slots = node.slots.iter().map(|(variable, name, slot)| NamedSlot {
                optimizer: id,
                variable: *variable,
                name: name.clone(),
                slot: *slot,
            });
            named.slots.extend(slots);
        }
        named
    }
}

/// Whether children are numbered from 0.
fn is_list(edges: &[(String, usize)]) -> bool {
    !edges.is_empty() && edges.iter().enumerate().all(|(i, (name, _))| *name == i.to_string())
}

/// Writes objects as an object-based checkpoint: the tensors of all variables that can be reached, and the object graph.
///
/// # Errors
/// When a variable's value can't be read, or writing fails.
pub fn write_objects(objects: &Objects, slots: &[NamedSlot], writer: &mut BundleWriter<'_>) -> Result<()> {
    let written = tree(objects, slots).write();
    for (key, variable) in &written.tensors {
        writer.add(key, &variable.load()?)?;
    }
    match &written.graph {
        Some(graph) => writer.add_object_graph(graph),
        None => Ok(()),
    }
}

/// Objects and an optimizer's slots as a tree of trackables.
pub(crate) fn tree(objects: &Objects, slots: &[NamedSlot]) -> Tree {
    let mut tree = object_graph::tree(objects);
    let sources = tree.nodes.iter().enumerate().filter_map(|(i, n)| Some((n.source?, i)));
    let at: HashMap<ObjectId, usize> = sources.chain([(Objects::ROOT, Tree::ROOT)]).collect();
    for slot in slots {
        let (Some(&optimizer), Some(&variable), Some(value)) =
            (at.get(&slot.optimizer), at.get(&slot.variable), objects.variable(slot.slot))
        else {
            continue;
        };
        let values = vec![(VALUE.to_owned(), value.name.clone(), value.clone())];
        let node = tree.push(Node { values, ..Node::default() });
        if let Some(o) = tree.nodes.get_mut(optimizer) {
            o.slots.push((variable, slot.name.clone(), node));
        }
    }
    tree
}
