//! A tree of objects as a checkpoint describes it (TensorFlow: `TrackableObjectGraph`): named edges, values, slots.

use std::collections::{HashMap, VecDeque};

use modelark_artifact::{ObjectId, Variable};
use modelark_proto::{
    TrackableObjectGraph,
    trackable_object_graph::{TrackableObject, trackable_object as part},
};

/// The attribute under which a variable's value is stored.
pub(crate) const VALUE: &str = "VARIABLE_VALUE";
/// What stands between an object's path and its attribute in a key.
pub(crate) const ATTRIBUTES: &str = ".ATTRIBUTES";
/// What stands between a variable's path and the optimizer's in the key of a slot.
pub(crate) const SLOT: &str = ".OPTIMIZER_SLOT";

/// The index of a node; the root's is 0.
pub(crate) type NodeId = usize;

/// An object with what a checkpoint stores of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    /// Named references to other nodes, in order.
    pub(crate) edges: Vec<(String, NodeId)>,
    /// Tensors of the object: attribute, full name, variable.
    pub(crate) values: Vec<(String, String, Variable)>,
    /// Variables that this optimizer keeps for others: the variable, the slot's name, the slot.
    pub(crate) slots: Vec<(NodeId, String, NodeId)>,
    /// The object that this node stands for, when it stands for one.
    pub(crate) source: Option<ObjectId>,
}

/// The nodes, the root first.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    /// Further edges of the root, which give no paths: they are written after its own.
    pub(crate) later: Vec<(String, NodeId)>,
}

/// What is written for a tree: the message, if there is to be one, and the tensors by key in the order in which TensorFlow stores them.
pub(crate) struct Written {
    pub(crate) graph: Option<TrackableObjectGraph>,
    pub(crate) tensors: Vec<(String, Variable)>,
}

impl Tree {
    pub(crate) const ROOT: NodeId = 0;

    /// A root alone.
    pub(crate) fn new() -> Self {
        Tree { nodes: vec![Node::default()], later: Vec::new() }
    }

    /// Adds a node that nothing refers to yet.
    pub(crate) fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Adds a node under `name` of `parent`.
    pub(crate) fn add(&mut self, parent: NodeId, name: &str, node: Node) -> NodeId {
        let id = self.push(node);
        self.link(parent, name, id);
        id
    }

    /// Lets `parent` refer to `child` under `name` (also).
    pub(crate) fn link(&mut self, parent: NodeId, name: &str, child: NodeId) {
        if let Some(node) = self.nodes.get_mut(parent) {
            node.edges.push((name.to_owned(), child));
        }
    }

    /// Adds a variable under `name` of `parent`.
    pub(crate) fn variable(
        &mut self,
        parent: NodeId,
        name: &str,
        full_name: &str,
        value: Variable,
    ) -> NodeId {
        let values = vec![(VALUE.to_owned(), full_name.to_owned(), value)];
        self.add(parent, name, Node { values, ..Node::default() })
    }

    /// The nodes in TensorFlow's order, breadth first, each with its path; slots come last, by their variable's path.
    fn order(&self) -> Vec<(NodeId, String)> {
        let mut paths: HashMap<NodeId, String> = HashMap::from([(Self::ROOT, String::new())]);
        let mut queue = VecDeque::from([Self::ROOT]);
        let mut order = Vec::new();
        while let Some(id) = queue.pop_front() {
            order.push(id);
            let path = paths.get(&id).cloned().unwrap_or_default();
            for (name, child) in self.nodes.get(id).map_or(&[][..], |n| &n.edges) {
                if *child < self.nodes.len() && !paths.contains_key(child) {
                    paths.insert(*child, joined(&path, &escaped(name)));
                    queue.push_back(*child);
                }
            }
        }
        for optimizer in order.clone() {
            let Some(node) = self.nodes.get(optimizer) else { continue };
            for (variable, name, slot) in &node.slots {
                let (Some(of), Some(by)) = (paths.get(variable), paths.get(&optimizer)) else { continue };
                if *slot < self.nodes.len() && !paths.contains_key(slot) {
                    let path = format!("{of}/{SLOT}/{by}/{}", escaped(name));
                    paths.insert(*slot, path);
                    order.push(*slot);
                }
            }
        }
        order.into_iter().map(|id| (id, paths.remove(&id).unwrap_or_default())).collect()
    }

    /// The message and the tensors. Nodes that can't be reached are left out.
    pub(crate) fn write(&self) -> Written {
        let order = self.order();
        let number: HashMap<NodeId, i32> =
            order.iter().enumerate().map(|(i, (id, _))| (*id, i as i32)).collect();
        let has_values = self.has_values();
        let mut graph = TrackableObjectGraph::default();
        let mut tensors = Vec::new();
        for (id, path) in &order {
            let Some(node) = self.nodes.get(*id) else { continue };
            let mut object = TrackableObject {
                has_checkpoint_values: Some(has_values.get(*id).copied().unwrap_or_default()),
                ..TrackableObject::default()
            };
            let later = if *id == Self::ROOT { &self.later[..] } else { &[] };
            for (name, child) in node.edges.iter().chain(later) {
                if let Some(&node_id) = number.get(child) {
                    object.children.push(part::ObjectReference { node_id, local_name: name.clone() });
                }
            }
            for (name, full_name, variable) in &node.values {
                let key = joined(path, &format!("{ATTRIBUTES}/{name}"));
                object.attributes.push(part::SerializedTensor {
                    name: name.clone(),
                    full_name: full_name.clone(),
                    checkpoint_key: key.clone(),
                });
                tensors.push((key, variable.clone()));
            }
            for (variable, name, slot) in &node.slots {
                if let (Some(&of), Some(&slot)) = (number.get(variable), number.get(slot)) {
                    object.slot_variables.push(part::SlotVariableReference {
                        original_variable_node_id: of,
                        slot_name: name.clone(),
                        slot_variable_node_id: slot,
                    });
                }
            }
            graph.nodes.push(object);
        }
        Written { graph: Some(graph), tensors }
    }

    /// Whether each node, or anything below it, has a value.
    pub(crate) fn has_values(&self) -> Vec<bool> {
        let mut parents: Vec<Vec<NodeId>> = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            let slots = node.slots.iter().map(|(_, _, slot)| slot);
            for child in node.edges.iter().map(|(_, child)| child).chain(slots) {
                if let Some(p) = parents.get_mut(*child) {
                    p.push(id);
                }
            }
        }
        let mut has = vec![false; self.nodes.len()];
        let with_values = self.nodes.iter().enumerate().filter(|(_, n)| !n.values.is_empty());
        let mut queue: Vec<NodeId> = with_values.map(|(id, _)| id).collect();
        while let Some(id) = queue.pop() {
            if let Some(h) = has.get_mut(id)
                && !std::mem::replace(h, true)
            {
                queue.extend(parents.get(id).into_iter().flatten());
            }
        }
        has
    }
}

fn joined(path: &str, part: &str) -> String {
    if path.is_empty() { part.to_owned() } else { format!("{path}/{part}") }
}

/// A local name as it stands in keys.
pub(crate) fn escaped(name: &str) -> String {
    name.replace('.', "..").replace('/', ".S")
}

#[cfg(test)]
mod tests {
    use modelark_tensor::Tensor;

    use super::*;

    #[test]
    fn keys_are_escaped_first_paths_and_slots_come_last() {
        let value = |v: f32| Variable::new("v", Tensor::scalar(v));
        let mut tree = Tree::new();
        let dict = tree.add(Tree::ROOT, "d", Node::default());
        let v = tree.variable(dict, "a/b.c", "v", value(1.0));
        tree.add(Tree::ROOT, "empty", Node::default());
        let optimizer = tree.add(Tree::ROOT, "optimizer", Node::default());
        tree.link(optimizer, "again", v);
        tree.link(Tree::ROOT, "root", Tree::ROOT);
        let slot = tree
            .push(Node { values: vec![(VALUE.into(), "Adam/v/m".into(), value(2.0))], ..Node::default() });
        tree.nodes[optimizer].slots.push((v, "m".into(), slot));
        let written = tree.write();
        let keys: Vec<&str> = written.tensors.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(
            keys,
            [
                "d/a.Sb..c/.ATTRIBUTES/VARIABLE_VALUE",
                "d/a.Sb..c/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE"
            ]
        );
        let graph = written.graph.expect("graph");
        let has: Vec<_> = graph.nodes.iter().map(|n| n.has_checkpoint_values).collect();
        assert_eq!(has, [true, true, false, true, true, true].map(Some));
        assert_eq!(graph.nodes[3].slot_variables[0].slot_variable_node_id, 5);
    }
}
