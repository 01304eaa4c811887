//! What Keras calls a model's objects in a checkpoint, by its generation.
//!
//! One tree serves both directions: writing stores it, binding finds its names in a file.

use std::collections::HashMap;

use modelark_artifact::{Dialect, Kind, Layer, ObjectId, Objects, Role};

use crate::trackable::{Node, NodeId, Tree, VALUE};

/// A model as a tree of trackables.
#[derive(Debug)]
pub(crate) struct Model {
    /// The tree, whose root is the model.
    pub(crate) tree: Tree,
    /// The node of every object that has one.
    pub(crate) nodes: HashMap<ObjectId, NodeId>,
}

impl Model {
    /// The names that this generation of Keras gives the objects of an architecture.
    ///
    /// - Keras 1 and 2: `layer_with_weights-0` and `layer-1` in a model, names of weights and attributes below.
    /// - Keras 3: `_operations/1` in a Functional model, where the name that a list has a layer under is its place, `_functional/_operations/1` in a Sequential one, whose input
    ///   counts; `_kernel` and `_embeddings` for `kernel` and `embeddings`, under which they are found as well, and `adapt_mean`
    ///   and `adapt_variance` for what Normalization learned.
    pub(crate) fn new(objects: &Objects, dialect: Dialect) -> Self {
        let mut builder = Builder {
            objects,
            dialect,
            model: Model { tree: Tree::new(), nodes: HashMap::new() },
            has_variables: has_variables(objects),
        };
        builder.model.nodes.insert(Objects::ROOT, Tree::ROOT);
        builder.fill(Objects::ROOT, Tree::ROOT, "");
        builder.model
    }

    /// The full name of a variable: `dense/kernel`.
    pub(crate) fn full_name(&self, id: ObjectId) -> &str {
        let node = self.nodes.get(&id).and_then(|n| self.tree.nodes.get(*n));
        node.and_then(|n| n.values.first()).map_or("", |(_, full_name, _)| full_name)
    }
}

struct Builder<'a> {
    objects: &'a Objects,
    dialect: Dialect,
    model: Model,
    has_variables: Vec<bool>,
}

impl Builder<'_> {
    /// The node of an object, made when it is first met; `scope` is what full names below it start with.
    fn node(&mut self, id: ObjectId, scope: &str) -> NodeId {
        if let Some(&known) = self.model.nodes.get(&id) {
            return known;
        }
        let node = self.model.tree.push(Node { source: Some(id), ..Node::default() });
        self.model.nodes.insert(id, node);
        self.fill(id, node, scope);
        node
    }

    fn fill(&mut self, id: ObjectId, node: NodeId, scope: &str) {
        let Some(object) = self.objects.get(id) else { return };
        let mut scope = scope.to_owned();
        let mut role = None;
        match &object.kind {
            Kind::Variable(v) => {
                let name = v.name.strip_suffix(":0").unwrap_or(&v.name);
                let value = (VALUE.to_owned(), format!("{scope}{name}"), v.clone());
                if let Some(n) = self.model.tree.nodes.get_mut(node) {
                    n.values.push(value);
                }
            }
            Kind::Layer(layer) => {
                role = Some(layer.role);
                if self.prefixes_names(layer) {
                    scope = format!("{scope}{}/", layer.name);
                }
            }
            _ => {}
        }
        let list =
            object.child("layers").filter(|_| matches!(role, Some(Role::Sequential | Role::Functional)));
        if let Some(list) = list {
            self.layers(list, node, role == Some(Role::Sequential), &scope);
        }
        for (name, child) in &object.children {
            if Some(*child) == list || !self.is_tracked(*child) {
                continue;
            }
            let child_node = self.node(*child, &scope);
            let is_variable = self.objects.variable(*child).is_some();
            if self.dialect == Dialect::Keras3 && is_variable {
                // A property of this name gives what the attribute holds; which layers have one is theirs to know.
                match name.as_str() {
                    "kernel" | "embeddings" => self.model.tree.link(node, &format!("_{name}"), child_node),
                    "mean" | "variance" => self.model.tree.link(node, &format!("adapt_{name}"), child_node),
                    _ => {}
                }
            }
            let is_only = || object.child("pointwise_kernel").is_none();
            if self.dialect == Dialect::Keras3 && is_variable && name == "depthwise_kernel" && is_only() {
                // Depthwise layers have their kernel under the plain name there.
                self.model.tree.link(node, "kernel", child_node);
            }
            self.model.tree.link(node, name, child_node);
        }
    }

    /// The edges from a model to its layers.
    fn layers(&mut self, list: ObjectId, node: NodeId, sequential: bool, scope: &str) {
        let layers = self.objects.get(list).map_or(&[][..], |l| &l.children);
        if self.dialect == Dialect::Keras3 {
            let holder =
                if sequential { self.model.tree.add(node, "_functional", Node::default()) } else { node };
            let operations = self.model.tree.add(holder, "_operations", Node::default());
            for (i, (place, layer)) in layers.iter().enumerate() {
                let layer = self.node(*layer, scope);
                // Ops between layers count, too, and the input that a Sequential model doesn't list is its first operation.
                let place = place.parse().unwrap_or(i) + usize::from(sequential);
                self.model.tree.link(operations, &place.to_string(), layer);
            }
            return;
        }
        let mut with_weights = 0;
        for (i, (_, id)) in layers.iter().enumerate() {
            let layer = self.node(*id, scope);
            if self.has_variables.get(*id) == Some(&true) {
                self.model.tree.link(node, &format!("layer_with_weights-{with_weights}"), layer);
                with_weights += 1;
            }
            self.model.tree.link(node, &format!("layer-{i}"), layer);
        }
    }

    /// Whether full names of variables start with this layer's name.
    fn prefixes_names(&self, layer: &Layer) -> bool {
        let by_role = match layer.role {
            Role::Functional => false,
            Role::Sequential => self.dialect == Dialect::Keras3,
            _ => true,
        };
        by_role && !layer.name.is_empty()
    }

    /// Whether a checkpoint has a node for this object.
    fn is_tracked(&self, id: ObjectId) -> bool {
        self.objects.get(id).is_some_and(|o| {
            matches!(
                o.kind,
                Kind::Layer(_)
                    | Kind::Variable(_)
                    | Kind::List
                    | Kind::Dict
                    | Kind::Tuple
                    | Kind::Object { .. }
            )
        })
    }
}

/// Whether each object is a variable or has one below it.
fn has_variables(objects: &Objects) -> Vec<bool> {
    let reachable = objects.walk();
    let count = reachable.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
    let mut parents = vec![Vec::new(); count];
    let mut queue = Vec::new();
    for (id, _) in &reachable {
        if objects.variable(*id).is_some() {
            queue.push(*id);
        }
        for (_, child) in objects.get(*id).map_or(&[][..], |o| &o.children) {
            if let Some(p) = parents.get_mut(*child) {
                p.push(*id);
            }
        }
    }
    let mut has = vec![false; count];
    while let Some(id) = queue.pop() {
        if let Some(h) = has.get_mut(id)
            && !std::mem::replace(h, true)
        {
            queue.extend(parents.get(id).into_iter().flatten());
        }
    }
    has
}

#[cfg(test)]
pub(crate) mod tests {
    use modelark_artifact::Variable;
    use modelark_tensor::{DType, Tensor};

    use super::*;

    pub(crate) fn layer(class: &str, name: &str, role: Role) -> Kind {
        Kind::Layer(Layer { class: class.into(), name: name.into(), role, config: String::new() })
    }

    pub(crate) fn weight(objects: &mut Objects, layer: ObjectId, name: &str, shape: &[usize]) -> ObjectId {
        let value = Tensor::zeros(DType::F32, shape).expect("zeros");
        objects.add(layer, name, Kind::Variable(Variable::new(name, value)))
    }

    /// Input, a nested Sequential of a Dense, an LSTM, and a Flatten without weights.
    pub(crate) fn functional() -> Objects {
        let mut o = Objects::new(layer("Functional", "model", Role::Functional));
        let layers = o.add(Objects::ROOT, "layers", Kind::List);
        o.add(layers, "0", layer("InputLayer", "x", Role::Input));
        let inner = o.add(layers, "1", layer("Sequential", "inner", Role::Sequential));
        let inner_layers = o.add(inner, "layers", Kind::List);
        let dense = o.add(inner_layers, "0", layer("Dense", "dense", Role::Layer));
        weight(&mut o, dense, "kernel", &[2, 3]);
        weight(&mut o, dense, "bias", &[3]);
        let lstm = o.add(layers, "2", layer("LSTM", "lstm", Role::Layer));
        let cell = o.add(lstm, "cell", layer("LSTMCell", "lstm_cell", Role::Layer));
        weight(&mut o, cell, "kernel", &[3, 8]);
        o.add(layers, "3", layer("Flatten", "flatten", Role::Layer));
        o
    }

    fn names(dialect: Dialect) -> Vec<(String, String)> {
        let written = Model::new(&functional(), dialect).tree.write();
        let graph = written.graph.expect("graph");
        let attributes = graph.nodes.iter().flat_map(|n| &n.attributes);
        let key = |k: &str| k.trim_end_matches("/.ATTRIBUTES/VARIABLE_VALUE").to_owned();
        attributes.map(|a| (key(&a.checkpoint_key), a.full_name.clone())).collect()
    }

    #[test]
    fn names_are_those_of_the_generation() {
        let pairs = |list: [(&str, &str); 3]| list.map(|(a, b)| (a.to_owned(), b.to_owned()));
        let mut keras2 = names(Dialect::Keras2);
        keras2.sort();
        assert_eq!(
            keras2,
            pairs([
                ("layer_with_weights-0/layer_with_weights-0/bias", "dense/bias"),
                ("layer_with_weights-0/layer_with_weights-0/kernel", "dense/kernel"),
                ("layer_with_weights-1/cell/kernel", "lstm/lstm_cell/kernel"),
            ])
        );
        let mut keras3 = names(Dialect::Keras3);
        keras3.sort();
        assert_eq!(
            keras3,
            pairs([
                ("_operations/1/_functional/_operations/1/_kernel", "inner/dense/kernel"),
                ("_operations/1/_functional/_operations/1/bias", "inner/dense/bias"),
                ("_operations/2/cell/_kernel", "lstm/lstm_cell/kernel"),
            ])
        );
    }

    #[test]
    fn what_was_learned_has_the_name_of_its_attribute() {
        let mut o = Objects::new(layer("Sequential", "model", Role::Sequential));
        let layers = o.add(Objects::ROOT, "layers", Kind::List);
        let normal = o.add(layers, "0", layer("Normalization", "normal", Role::Layer));
        weight(&mut o, normal, "mean", &[3]);
        let key = |dialect| {
            let graph = Model::new(&o, dialect).tree.write().graph.expect("graph");
            graph
                .nodes
                .iter()
                .flat_map(|n| &n.attributes)
                .map(|a| a.checkpoint_key.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(key(Dialect::Keras3), ["_functional/_operations/1/adapt_mean/.ATTRIBUTES/VARIABLE_VALUE"]);
        assert_eq!(key(Dialect::Keras2), ["layer_with_weights-0/mean/.ATTRIBUTES/VARIABLE_VALUE"]);
    }

    #[test]
    fn every_layer_has_its_plain_edge_too() {
        let written = Model::new(&functional(), Dialect::Keras2).tree.write();
        let graph = written.graph.expect("graph");
        let root: Vec<&str> = graph.nodes[0].children.iter().map(|c| c.local_name.as_str()).collect();
        assert_eq!(
            root,
            ["layer-0", "layer_with_weights-0", "layer-1", "layer_with_weights-1", "layer-2", "layer-3"]
        );
    }
}
