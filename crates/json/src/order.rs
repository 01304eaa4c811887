//! The order of `get_weights()`, and names, of the weights of a model's objects.
//!
//! Keras 2 and Keras 3 walk a model's layers alike, but order the weights within a layer that has sublayers
//! differently: Keras 3 gives a layer's own weights, trainable ones first, and then each sublayer's; Keras 2 gives the
//! trainable weights of the layer and all its sublayers, and then all the others.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use modelark_artifact::graph::Names;
use modelark_artifact::{Dialect, Kind, Layer, ObjectId, Objects, Role};

/// A layer of a model and its weights in the order of `layer.get_weights()`.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerWeights {
    /// The layer's name.
    pub name: String,
    /// The weights.
    pub weights: Vec<ObjectId>,
}

/// The layers of a model in the order of `model.layers`, each with its weights.
///
/// A model's own weights, which belong to none of its layers, come as a layer with an empty name: first in Keras 3,
/// last in Keras 2.
pub fn layers(model: &Objects, dialect: Dialect) -> Vec<LayerWeights> {
    let order = Order { model, keras2: dialect != Dialect::Keras3, depth: Cell::new(0) };
    let mut found: Vec<LayerWeights> = order
        .sublayers(Objects::ROOT)
        .into_iter()
        .map(|id| LayerWeights {
            name: order.layer(id).map_or_else(String::new, |l| l.name.clone()),
            weights: order.weights(id),
        })
        .collect();
    let (trainable, rest) = order.own(Objects::ROOT);
    let own = LayerWeights { name: String::new(), weights: [trainable, rest].concat() };
    if !own.weights.is_empty() {
        found.insert(if order.keras2 { found.len() } else { 0 }, own);
    }
    found
}

/// The weights of a model in the order of `model.get_weights()`, each once.
pub fn flat(layers: &[LayerWeights]) -> Vec<ObjectId> {
    let mut seen = HashSet::new();
    layers.iter().flat_map(|l| &l.weights).copied().filter(|id| seen.insert(*id)).collect()
}

/// Every weight of a model with a name made of the names of its layers, in the order of `get_weights()`:
/// `dense_1/kernel`, `bidirectional/forward_layer/cell/bias`, `inner_model/dense/kernel`.
pub fn names(model: &Objects, dialect: Dialect) -> Vec<(ObjectId, String)> {
    let mut paths = HashMap::new();
    name_children(model, Objects::ROOT, "", &mut paths);
    let mut taken = Names::default();
    flat(&layers(model, dialect))
        .into_iter()
        .map(|id| {
            let path = paths.get(&id).cloned().unwrap_or_default();
            (id, taken.unique(path))
        })
        .collect()
}

/// Gives every object under `id` its first path, where the layers of a model go by their names.
fn name_children(model: &Objects, id: ObjectId, path: &str, paths: &mut HashMap<ObjectId, String>) {
    let Some(object) = model.get(id) else { return };
    for (attribute, child) in &object.children {
        let layer = match model.get(*child).map(|o| &o.kind) {
            Some(Kind::Layer(layer)) => Some(layer),
            _ => None,
        };
        let in_list = matches!(object.kind, Kind::List | Kind::Tuple | Kind::Dict);
        let name = match layer {
            Some(layer) if in_list => layer.name.as_str(),
            // The list of a model's layers adds nothing to their names.
            None if attribute == "layers" => "",
            _ => attribute,
        };
        let joined = match (path, name) {
            (path, "") => path.to_owned(),
            ("", name) => name.to_owned(),
            (path, name) => format!("{path}/{name}"),
        };
        if !paths.contains_key(child) {
            paths.insert(*child, joined.clone());
            name_children(model, *child, &joined, paths);
        }
    }
}

struct Order<'a> {
    model: &'a Objects,
    keras2: bool,
    /// How deep in layers within layers this is; a tree of layers is shallow, but objects may form cycles.
    depth: Cell<usize>,
}

impl Order<'_> {
    fn layer(&self, id: ObjectId) -> Option<&Layer> {
        match &self.model.get(id)?.kind {
            Kind::Layer(layer) => Some(layer),
            _ => None,
        }
    }

    /// The layers directly under an object, those in lists and dicts included, each once.
    fn sublayers(&self, id: ObjectId) -> Vec<ObjectId> {
        let mut found = Vec::new();
        let mut seen = HashSet::from([id]);
        self.add_sublayers(id, &mut found, &mut seen);
        found
    }

    fn add_sublayers(&self, id: ObjectId, found: &mut Vec<ObjectId>, seen: &mut HashSet<ObjectId>) {
        let children = self.model.get(id).map(|o| o.children.as_slice()).unwrap_or_default();
        for (_, child) in children {
            match self.model.get(*child).map(|o| &o.kind) {
                Some(Kind::Layer(_)) if seen.insert(*child) => found.push(*child),
                Some(Kind::List | Kind::Tuple | Kind::Dict) if seen.insert(*child) => {
                    self.add_sublayers(*child, found, seen);
                }
                _ => {}
            }
        }
    }

    /// An object's own variables: the trainable ones, and the others.
    fn own(&self, id: ObjectId) -> (Vec<ObjectId>, Vec<ObjectId>) {
        let children = self.model.get(id).map(|o| o.children.as_slice()).unwrap_or_default();
        let variables = children.iter().filter_map(|(_, child)| Some((*child, self.model.variable(*child)?)));
        let (trainable, rest): (Vec<_>, Vec<_>) = variables.partition(|(_, v)| v.trainable);
        let ids = |list: Vec<(ObjectId, _)>| list.into_iter().map(|(id, _)| id).collect();
        (ids(trainable), ids(rest))
    }

    fn is_model(&self, id: ObjectId) -> bool {
        self.layer(id)
            .is_some_and(|l| matches!(l.role, Role::Sequential | Role::Functional | Role::Subclassed))
    }

    /// Whether the layer's config says that it isn't trained.
    fn is_frozen(&self, id: ObjectId) -> bool {
        let config = self.layer(id).map(|l| l.config.as_str()).unwrap_or_default();
        // Most configs say `true`; only those that may say otherwise are worth parsing.
        if !config.contains("false") {
            return false;
        }
        let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
        let inner = config.get("config").unwrap_or(&config);
        inner.get("trainable") == Some(&serde_json::Value::Bool(false))
    }

    fn over_sublayers(&self, id: ObjectId, weights: impl Fn(ObjectId) -> Vec<ObjectId>) -> Vec<ObjectId> {
        const DEEPEST: usize = 64;
        if self.depth.get() >= DEEPEST {
            return Vec::new();
        }
        self.depth.set(self.depth.get() + 1);
        let found = self.sublayers(id).into_iter().flat_map(weights).collect();
        self.depth.set(self.depth.get() - 1);
        found
    }

    /// `layer.weights`.
    fn weights(&self, id: ObjectId) -> Vec<ObjectId> {
        let (own, rest) = self.own(id);
        let all = if !self.keras2 {
            [own, rest, self.over_sublayers(id, |s| self.weights(s))].concat()
        } else if self.is_model(id) {
            [self.over_sublayers(id, |s| self.weights(s)), own, rest].concat()
        } else {
            [self.trainable(id), self.non_trainable(id)].concat()
        };
        let mut seen = HashSet::new();
        all.into_iter().filter(|id| seen.insert(*id)).collect()
    }

    /// Keras 2's `layer.trainable_weights`.
    fn trainable(&self, id: ObjectId) -> Vec<ObjectId> {
        if self.is_frozen(id) {
            return Vec::new();
        }
        let (own, _) = self.own(id);
        let inner = self.over_sublayers(id, |s| self.trainable(s));
        if self.is_model(id) { [inner, own].concat() } else { [own, inner].concat() }
    }

    /// Keras 2's `layer.non_trainable_weights`.
    fn non_trainable(&self, id: ObjectId) -> Vec<ObjectId> {
        let (own, rest) = self.own(id);
        let inner = self.over_sublayers(id, |s| self.non_trainable(s));
        match (self.is_model(id), self.is_frozen(id)) {
            (true, false) => [inner, rest].concat(),
            (true, true) => [self.over_sublayers(id, |s| self.trainable(s)), own, inner, rest].concat(),
            (false, false) => [rest, inner].concat(),
            (false, true) => [own, rest, self.over_sublayers(id, |s| self.weights(s))].concat(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use modelark_artifact::tensor::{DType, Tensor};
    use modelark_artifact::{Value, Variable};

    use super::*;

    /// Adds a layer under `name` of `parent`.
    pub(crate) fn layer(
        objects: &mut Objects,
        parent: ObjectId,
        name: &str,
        role: Role,
        child: &str,
    ) -> ObjectId {
        let layer = Layer { class: "Any".into(), name: name.into(), role, config: String::new() };
        objects.add(parent, child, Kind::Layer(layer))
    }

    /// Adds a variable of this shape without a value.
    pub(crate) fn weight(
        objects: &mut Objects,
        parent: ObjectId,
        name: &str,
        shape: &[usize],
        trainable: bool,
    ) {
        let value = Tensor::zeros(DType::F32, shape).expect("zeros");
        let variable = Variable { value: Value::None, ..Variable::new(name, value) }.trainable(trainable);
        objects.add(parent, name, Kind::Variable(variable));
    }

    /// Input, a custom layer (w, nt, b, a batch normalization inside, post), a nested Sequential, Dense.
    pub(crate) fn model() -> Objects {
        let root = Layer {
            class: "Functional".into(),
            name: "m".into(),
            role: Role::Functional,
            config: String::new(),
        };
        let mut o = Objects::new(Kind::Layer(root));
        let list = o.add(Objects::ROOT, "layers", Kind::List);
        layer(&mut o, list, "input", Role::Input, "0");
        let custom = layer(&mut o, list, "c", Role::Layer, "1");
        weight(&mut o, custom, "w", &[4, 4], true);
        weight(&mut o, custom, "nt", &[1], false);
        weight(&mut o, custom, "b", &[4], true);
        let norm = layer(&mut o, custom, "norm", Role::Layer, "sub");
        for (name, trainable) in
            [("gamma", true), ("beta", true), ("moving_mean", false), ("moving_variance", false)]
        {
            weight(&mut o, norm, name, &[4], trainable);
        }
        weight(&mut o, custom, "post", &[2], true);
        let inner = layer(&mut o, list, "inner", Role::Sequential, "2");
        let inner_list = o.add(inner, "layers", Kind::List);
        let dense = layer(&mut o, inner_list, "dense", Role::Layer, "0");
        weight(&mut o, dense, "kernel", &[4, 3], true);
        weight(&mut o, dense, "bias", &[3], true);
        let last = layer(&mut o, list, "dense_1", Role::Layer, "3");
        weight(&mut o, last, "kernel", &[3, 2], true);
        weight(&mut o, last, "bias", &[2], true);
        o
    }

    fn listed(dialect: Dialect) -> Vec<String> {
        names(&model(), dialect).into_iter().map(|(_, n)| n).collect()
    }

    #[test]
    fn keras_3_gives_own_weights_then_the_sublayers() {
        let custom = [
            "c/w",
            "c/b",
            "c/post",
            "c/nt",
            "c/sub/gamma",
            "c/sub/beta",
            "c/sub/moving_mean",
            "c/sub/moving_variance",
        ];
        let rest = ["inner/dense/kernel", "inner/dense/bias", "dense_1/kernel", "dense_1/bias"];
        assert_eq!(listed(Dialect::Keras3), [&custom[..], &rest[..]].concat());
    }

    #[test]
    fn keras_2_gives_what_is_trained_first() {
        let custom = [
            "c/w",
            "c/b",
            "c/post",
            "c/sub/gamma",
            "c/sub/beta",
            "c/nt",
            "c/sub/moving_mean",
            "c/sub/moving_variance",
        ];
        assert_eq!(&listed(Dialect::Keras2)[..8], custom);
    }

    #[test]
    fn a_frozen_layer_of_keras_2_gives_its_sublayers_weights_last() {
        let mut o = model();
        let custom = o.find("layers/1").expect("custom");
        if let Some(Kind::Layer(l)) = o.get_mut(custom).map(|o| &mut o.kind) {
            l.config = r#"{"name":"c","trainable":false}"#.into();
        }
        let found: Vec<String> = names(&o, Dialect::Keras2).into_iter().map(|(_, n)| n).take(8).collect();
        assert_eq!(
            found,
            [
                "c/w",
                "c/b",
                "c/post",
                "c/nt",
                "c/sub/gamma",
                "c/sub/beta",
                "c/sub/moving_mean",
                "c/sub/moving_variance"
            ]
        );
    }

    #[test]
    fn a_shared_layer_counts_once() {
        let mut o = model();
        let dense = o.find("layers/3").expect("dense");
        let inner = o.find("layers/2/layers").expect("inner");
        o.link(inner, "1", dense);
        let groups = layers(&o, Dialect::Keras3);
        assert_eq!(groups.iter().map(|g| g.weights.len()).collect::<Vec<_>>(), [0, 8, 4, 2]);
        assert_eq!(flat(&groups).len(), 12);
    }
}
