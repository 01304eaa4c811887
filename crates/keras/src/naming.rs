//! The names of weights: how each layout finds its way through the tree of a model's objects.

use std::collections::{HashMap, HashSet};

use modelark_artifact::{Dialect, Kind, Layer, ObjectId, Objects, Role};

/// A layer as legacy `.h5` files list it: all weights of a top-level layer, whatever they are nested in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LegacyLayer {
    pub name: String,
    /// The weights' names within the layer's group, in order: trainable ones first.
    pub weights: Vec<(String, ObjectId)>,
}

/// The layers of a model with their weights, and the weights of the model itself, as a legacy `.h5` file has them.
///
/// The names are only labels, but each must be alone in its layer's group.
pub(crate) fn legacy(objects: &Objects, dialect: Dialect) -> (Vec<LegacyLayer>, Vec<(String, ObjectId)>) {
    let root = objects.get(Objects::ROOT);
    let mut seen = HashSet::new();
    let mut layers = Vec::new();
    for (attribute, id) in model_layers(objects, Objects::ROOT) {
        if !seen.insert(id) {
            continue;
        }
        let mut walk = LegacyWalk { objects, dialect, seen: HashSet::new(), found: Vec::new() };
        // A Sequential model builds its layers within its own scope.
        let scope = match layer(objects, Objects::ROOT) {
            Some(l) if dialect == Dialect::Keras3 && l.role == Role::Sequential => vec![l.name.clone()],
            _ => Vec::new(),
        };
        walk.layer(id, &attribute, &scope);
        let name = layer(objects, id).map_or(attribute, |l| l.name.clone());
        layers.push(LegacyLayer { name, weights: label(order(objects, walk.found), dialect) });
    }
    let own = root.map(|_| own_variables(objects, Objects::ROOT)).unwrap_or_default();
    let own = own.into_iter().filter_map(|id| Some((vec![objects.variable(id)?.name.clone()], id))).collect();
    (layers, label(order(objects, own), dialect))
}

/// The trainable weights of a model in the order in which an optimizer holds their slots.
pub(crate) fn trainable(objects: &Objects) -> Vec<ObjectId> {
    let (layers, own) = legacy(objects, Dialect::Keras2);
    let mut seen = HashSet::new();
    own.into_iter()
        .chain(layers.into_iter().flat_map(|l| l.weights))
        .map(|(_, id)| id)
        .filter(|id| objects.variable(*id).is_some_and(|v| v.trainable) && seen.insert(*id))
        .collect()
}

struct LegacyWalk<'a> {
    objects: &'a Objects,
    dialect: Dialect,
    seen: HashSet<ObjectId>,
    found: Vec<(Vec<String>, ObjectId)>,
}

impl LegacyWalk<'_> {
    fn layer(&mut self, id: ObjectId, attribute: &str, scope: &[String]) {
        if !self.seen.insert(id) {
            return;
        }
        let mut scope = scope.to_vec();
        // A model of Keras 2 lists its layers' weights before its own.
        let mut own_last = false;
        if let Some(layer) = layer(self.objects, id) {
            own_last = layer.role == Role::Subclassed && self.dialect != Dialect::Keras3;
            let is_model = layer.role != Role::Layer && layer.role != Role::Input;
            match self.dialect {
                // A model gives its layers no scope, and a wrapper its layer none beyond its own.
                Dialect::Keras1 | Dialect::Keras2 if is_model => scope.clear(),
                Dialect::Keras1 | Dialect::Keras2 if attribute == "layer" && !scope.is_empty() => {}
                _ if layer.name.is_empty() => scope.push(attribute.to_owned()),
                _ => scope.push(layer.name.clone()),
            }
        }
        if !own_last {
            self.own(id, &scope);
        }
        for (attribute, child) in model_layers(self.objects, id) {
            self.layer(child, &attribute, &scope);
        }
        if own_last {
            self.own(id, &scope);
        }
    }

    fn own(&mut self, id: ObjectId, scope: &[String]) {
        for variable in scales_first(self.objects, own_variables(self.objects, id)) {
            if let Some(v) = self.objects.variable(variable).filter(|_| self.seen.insert(variable)) {
                let mut path = scope.to_vec();
                path.push(v.name.clone());
                self.found.push((path, variable));
            }
        }
    }
}

/// What Keras 3 makes before a layer's kernel where floats are rounded to eight bits; archives list it behind.
fn scales_first(objects: &Objects, mut variables: Vec<ObjectId>) -> Vec<ObjectId> {
    const SCALED: [&str; 3] = ["inputs", "kernel", "outputs_grad"];
    let name = |id: &ObjectId| objects.variable(*id).map_or("", |v| v.name.as_str());
    let scales = |name: &str| {
        let scaled = name.strip_suffix("_scale").or_else(|| name.strip_suffix("_amax_history"));
        scaled.is_some_and(|scaled| SCALED.contains(&scaled))
    };
    if variables.iter().any(|id| name(id) == "inputs_amax_history") {
        variables.sort_by_key(|id| !scales(name(id)));
    }
    variables
}

/// Trainable weights before the others, otherwise as they were.
fn order(objects: &Objects, mut found: Vec<(Vec<String>, ObjectId)>) -> Vec<(Vec<String>, ObjectId)> {
    found.sort_by_key(|(_, id)| !objects.variable(*id).is_some_and(|v| v.trainable));
    found
}

/// The paths as names, made different where two are alike or one would lead through another.
fn label(found: Vec<(Vec<String>, ObjectId)>, dialect: Dialect) -> Vec<(String, ObjectId)> {
    let suffix = if dialect == Dialect::Keras3 { "" } else { ":0" };
    let mut taken = HashSet::new();
    let mut labels = Vec::new();
    for (path, id) in found {
        let base = path.join("/");
        let name = (0..)
            .map(|n| if n == 0 { format!("{base}{suffix}") } else { format!("{base}_{n}{suffix}") })
            .find(|name| !taken.contains(name));
        let name = name.unwrap_or(base);
        taken.insert(name.clone());
        labels.push((name, id));
    }
    labels
}

/// An object that holds variables in `.weights.h5` files, at the path of its group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Holder {
    /// The group, of which `vars` holds the variables; empty for the model itself.
    pub path: String,
    /// The layer's name, which is a label.
    pub name: String,
    /// The variables in order.
    pub variables: Vec<ObjectId>,
}

/// Every layer that `.weights.h5` files have a group for, with its own variables.
pub(crate) fn holders(objects: &Objects, dialect: Dialect) -> Vec<Holder> {
    let mut walk = PathWalk { objects, dialect, seen: HashSet::new(), found: Vec::new() };
    walk.object(Objects::ROOT, "");
    walk.found
}

struct PathWalk<'a> {
    objects: &'a Objects,
    dialect: Dialect,
    seen: HashSet<ObjectId>,
    found: Vec<Holder>,
}

impl PathWalk<'_> {
    /// What is reachable twice lies where it is found first.
    fn object(&mut self, id: ObjectId, path: &str) {
        let Some(object) = self.objects.get(id).filter(|_| self.seen.insert(id)) else { return };
        let (role, class) = match &object.kind {
            Kind::Layer(layer) => {
                self.found.push(Holder {
                    path: path.to_owned(),
                    name: layer.name.clone(),
                    variables: stored_variables(self.objects, id),
                });
                (layer.role, layer.class.as_str())
            }
            // A model that was never described by an architecture has no layers to name.
            _ => return,
        };
        let mut attributes: Vec<(String, ObjectId)> = object.children.clone();
        attributes.retain(|(_, child)| self.objects.variable(*child).is_none());
        if self.dialect == Dialect::Keras3 && class == "MultiHeadAttention" {
            // Keras 3 has these attributes as properties too, which come first.
            const PUBLIC: [&str; 4] = ["_query_dense", "_key_dense", "_value_dense", "_output_dense"];
            for (name, _) in attributes.iter_mut().filter(|(n, _)| PUBLIC.contains(&n.as_str())) {
                name.remove(0);
            }
        }
        const LAYERS: &str = "layers";
        let has_list = matches!(role, Role::Sequential | Role::Functional);
        let key = |name: &str| (name.starts_with('_'), name.to_owned());
        match self.dialect {
            Dialect::Keras3 => attributes.sort_by_key(|(n, _)| (!has_list || n != LAYERS, key(n))),
            Dialect::Keras1 | Dialect::Keras2 => attributes.sort_by(|(a, _), (b, _)| b.cmp(a)),
        }
        let mut listed = role != Role::Subclassed;
        for (name, child) in attributes {
            // A subclassed model has its layers once more in a property, which is met in its place among the others.
            let passed = match self.dialect {
                Dialect::Keras3 => key(&name) > key(LAYERS),
                Dialect::Keras1 | Dialect::Keras2 => name.as_str() < LAYERS,
            };
            if !listed && passed {
                listed = true;
                self.property(id, &join(path, LAYERS));
            }
            self.child(child, &join(path, &name));
        }
        if !listed {
            self.property(id, &join(path, LAYERS));
        }
    }

    fn property(&mut self, id: ObjectId, path: &str) {
        let layers = model_layers(self.objects, id).into_iter().map(|(_, layer)| layer).collect();
        self.members(layers, path);
    }

    fn child(&mut self, id: ObjectId, path: &str) {
        let Some(object) = self.objects.get(id) else { return };
        match object.kind {
            Kind::Layer(_) => self.object(id, path),
            Kind::List | Kind::Tuple | Kind::Dict if self.seen.insert(id) => {
                self.members(object.children.iter().map(|(_, child)| *child).collect(), path);
            }
            _ => {}
        }
    }

    /// The members of a list are named by their class, and counted.
    fn members(&mut self, members: Vec<ObjectId>, path: &str) {
        let mut counts: HashMap<String, usize> = HashMap::new();
        let mut unique = |base: String| {
            let count = counts.entry(base.clone()).or_default();
            *count += 1;
            if *count == 1 { base } else { format!("{base}_{}", *count - 1) }
        };
        let keras3 = self.dialect == Dialect::Keras3;
        for member in members {
            match self.objects.get(member).map(|o| &o.kind) {
                Some(Kind::Layer(layer)) => {
                    if !keras3 && self.seen.contains(&member) {
                        continue;
                    }
                    let name = unique(snake_case(&layer.class, self.dialect));
                    self.object(member, &join(path, &name));
                }
                Some(Kind::List | Kind::Tuple | Kind::Dict) if keras3 => {
                    let name = unique("container".to_owned());
                    self.child(member, &join(path, &name));
                }
                _ => {}
            }
        }
    }
}

/// The layers of a model, or the sublayers of a layer, each with the attribute that leads to it: through lists, too.
fn model_layers(objects: &Objects, id: ObjectId) -> Vec<(String, ObjectId)> {
    fn gather(
        objects: &Objects,
        id: ObjectId,
        seen: &mut HashSet<ObjectId>,
        found: &mut Vec<(String, ObjectId)>,
    ) {
        let Some(object) = objects.get(id).filter(|_| seen.insert(id)) else { return };
        for (name, child) in &object.children {
            match objects.get(*child).map(|o| &o.kind) {
                Some(Kind::Layer(_)) => found.push((name.clone(), *child)),
                Some(Kind::List | Kind::Tuple | Kind::Dict) => gather(objects, *child, seen, found),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    gather(objects, id, &mut HashSet::new(), &mut found);
    found
}

/// An object's own variables in the order in which Keras 3 stores them by number: a quantized layer's as they were made.
fn stored_variables(objects: &Objects, id: ObjectId) -> Vec<ObjectId> {
    let Some(object) = objects.get(id).filter(|o| o.child("kernel_scale").is_some()) else {
        return own_variables(objects, id);
    };
    object
        .children
        .iter()
        .map(|(_, child)| *child)
        .filter(|child| objects.variable(*child).is_some())
        .collect()
}

/// An object's own variables, trainable ones first.
fn own_variables(objects: &Objects, id: ObjectId) -> Vec<ObjectId> {
    let children = objects.get(id).map(|o| o.children.as_slice()).unwrap_or_default();
    let mut own: Vec<ObjectId> = Vec::new();
    for (_, child) in children {
        if objects.variable(*child).is_some() && !own.contains(child) {
            own.push(*child);
        }
    }
    own.sort_by_key(|v| !objects.variable(*v).is_some_and(|v| v.trainable));
    own
}

pub(crate) fn layer(objects: &Objects, id: ObjectId) -> Option<&Layer> {
    match &objects.get(id)?.kind {
        Kind::Layer(layer) => Some(layer),
        _ => None,
    }
}

pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// A class's name as Keras (`to_snake_case`) spells it in paths: `Conv2DTranspose` is `conv2d_transpose`.
pub(crate) fn snake_case(class: &str, dialect: Dialect) -> String {
    // The package of a registered class isn't part of its name.
    let class = class.rsplit('>').next().unwrap_or(class);
    let chars: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    // A word of a capital and small letters parts from any letter before it.
    let mut words: Vec<char> = Vec::new();
    let mut i = 0;
    while let Some(&c) = chars.get(i) {
        words.push(c);
        i += 1;
        let word = chars.get(i..).unwrap_or_default();
        if word.first().is_some_and(char::is_ascii_uppercase)
            && word.get(1).is_some_and(char::is_ascii_lowercase)
        {
            words.push('_');
            let length = 1 + word.iter().skip(1).take_while(|c| c.is_ascii_lowercase()).count();
            words.extend(word.iter().take(length));
            i += length;
        }
    }
    let mut name = String::new();
    let mut before = ' ';
    for c in words {
        if before.is_ascii_lowercase() && c.is_ascii_uppercase() {
            name.push('_');
        }
        name.extend(c.to_lowercase());
        before = c;
    }
    if dialect != Dialect::Keras3 && name.starts_with('_') { format!("private{name}") } else { name }
}

#[cfg(test)]
pub(crate) mod tests {
    use modelark_artifact::Variable;
    use modelark_artifact::tensor::Tensor;

    use super::*;

    /// Adds a layer with weights, of which those that begin with `~` aren't trainable.
    pub(crate) fn add(
        objects: &mut Objects,
        parent: ObjectId,
        at: &str,
        of: (&str, &str),
        weights: &[&str],
    ) -> ObjectId {
        let (class, name) = of;
        let role = match class {
            "Sequential" => Role::Sequential,
            "Functional" => Role::Functional,
            "InputLayer" => Role::Input,
            "Model" => Role::Subclassed,
            _ => Role::Layer,
        };
        let kind = Kind::Layer(Layer { class: class.into(), name: name.into(), role, config: String::new() });
        let id = objects.add(parent, at, kind);
        for weight in weights {
            let (name, trainable) = weight.strip_prefix('~').map_or((*weight, true), |n| (n, false));
            let variable = Variable::new(name, Tensor::scalar(0f32)).trainable(trainable);
            objects.add(id, name, Kind::Variable(variable));
        }
        id
    }

    pub(crate) fn model(class: &str, name: &str, role: Role) -> Objects {
        Objects::new(Kind::Layer(Layer {
            class: class.into(),
            name: name.into(),
            role,
            config: String::new(),
        }))
    }

    fn sample() -> Objects {
        let mut o = model("Functional", "m", Role::Functional);
        let layers = o.add(Objects::ROOT, "layers", Kind::List);
        add(&mut o, layers, "0", ("InputLayer", "in"), &[]);
        let lstm = add(&mut o, layers, "1", ("LSTM", "l"), &[]);
        add(&mut o, lstm, "cell", ("LSTMCell", "lstm_cell"), &["kernel", "bias"]);
        let td = add(&mut o, layers, "2", ("TimeDistributed", "td"), &[]);
        add(&mut o, td, "layer", ("Dense", "dense_2"), &["kernel"]);
        let inner = add(&mut o, layers, "3", ("Sequential", "inner"), &[]);
        let list = o.add(inner, "layers", Kind::List);
        add(&mut o, list, "0", ("BatchNormalization", "bn"), &["gamma", "~moving_mean"]);
        let dense = add(&mut o, list, "1", ("Dense", "dense"), &["kernel"]);
        o.link(layers, "4", dense);
        let mha = add(&mut o, layers, "5", ("MultiHeadAttention", "mha"), &[]);
        add(&mut o, mha, "_query_dense", ("EinsumDense", "query"), &["kernel"]);
        o
    }

    #[test]
    fn legacy_names_are_those_of_keras() {
        let o = sample();
        let names = |dialect| -> Vec<String> {
            let (layers, own) = legacy(&o, dialect);
            assert!(own.is_empty());
            layers
                .iter()
                .map(|l| {
                    let weights: Vec<&str> = l.weights.iter().map(|(n, _)| n.as_str()).collect();
                    format!("{}: {}", l.name, weights.join(" "))
                })
                .collect()
        };
        assert_eq!(
            names(Dialect::Keras2),
            [
                "in: ",
                "l: l/lstm_cell/kernel:0 l/lstm_cell/bias:0",
                "td: td/kernel:0",
                "inner: bn/gamma:0 dense/kernel:0 bn/moving_mean:0",
                "dense: dense/kernel:0",
                "mha: mha/query/kernel:0",
            ]
        );
        assert_eq!(
            names(Dialect::Keras3),
            [
                "in: ",
                "l: l/lstm_cell/kernel l/lstm_cell/bias",
                "td: td/dense_2/kernel",
                "inner: inner/bn/gamma inner/dense/kernel inner/bn/moving_mean",
                "dense: dense/kernel",
                "mha: mha/query/kernel",
            ]
        );
    }

    #[test]
    fn paths_are_those_of_keras() {
        let o = sample();
        let paths = |dialect| -> Vec<String> {
            holders(&o, dialect).into_iter().filter(|h| !h.variables.is_empty()).map(|h| h.path).collect()
        };
        assert_eq!(
            paths(Dialect::Keras3),
            [
                "layers/lstm/cell",
                "layers/time_distributed/layer",
                "layers/sequential/layers/batch_normalization",
                "layers/sequential/layers/dense",
                "layers/multi_head_attention/query_dense",
            ]
        );
        assert_eq!(
            paths(Dialect::Keras2).last().map(String::as_str),
            Some("layers/multi_head_attention/_query_dense")
        );
    }

    #[test]
    fn a_quantized_layer_stores_its_weights_as_they_were_made() {
        let mut o = model("Functional", "m", Role::Functional);
        let layers = o.add(Objects::ROOT, "layers", Kind::List);
        let dense = add(&mut o, layers, "0", ("Dense", "d"), &["~kernel", "bias", "~kernel_scale"]);
        let names = |ids: &[ObjectId]| -> Vec<String> {
            ids.iter().filter_map(|id| o.variable(*id).map(|v| v.name.clone())).collect()
        };
        assert_eq!(names(&stored_variables(&o, dense)), ["kernel", "bias", "kernel_scale"]);
        assert_eq!(names(&own_variables(&o, dense)), ["bias", "kernel", "kernel_scale"]);
    }

    #[test]
    fn a_subclassed_model_lists_its_layers_among_its_attributes() {
        let mut o = model("Model", "m", Role::Subclassed);
        add(&mut o, Objects::ROOT, "zdense", ("Dense", "a"), &["kernel"]);
        let blocks = o.add(Objects::ROOT, "blocks", Kind::List);
        add(&mut o, blocks, "0", ("Dense", "b"), &["kernel"]);
        let paths = |dialect| -> Vec<(String, String)> {
            holders(&o, dialect).into_iter().map(|h| (h.path, h.name)).collect()
        };
        let expect = |list: &[(&str, &str)]| {
            list.iter().map(|(p, n)| (p.to_string(), n.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(
            paths(Dialect::Keras3),
            expect(&[("", "m"), ("blocks/dense", "b"), ("layers/dense", "a")])
        );
        assert_eq!(paths(Dialect::Keras2), expect(&[("", "m"), ("zdense", "a"), ("layers/dense", "b")]));
    }

    #[test]
    fn classes_are_spelled_as_keras_does() {
        for (class, name) in [
            ("Dense", "dense"),
            ("Conv2D", "conv2d"),
            ("Conv2DTranspose", "conv2d_transpose"),
            ("GlobalAveragePooling2D", "global_average_pooling2d"),
            ("BatchNormalization", "batch_normalization"),
            ("LSTM", "lstm"),
            ("LSTMCell", "lstm_cell"),
            ("GRUCell", "gru_cell"),
            ("RNN", "rnn"),
            ("InputLayer", "input_layer"),
            ("MyPkg>RegL", "reg_l"),
            ("StackedRNNCells", "stacked_rnn_cells"),
            ("PReLU", "p_re_lu"),
            ("TFOpLambda", "tf_op_lambda"),
        ] {
            assert_eq!(snake_case(class, Dialect::Keras3), name, "{class}");
        }
        assert_eq!(snake_case("_Own", Dialect::Keras2), "private__own");
        assert_eq!(snake_case("_Own", Dialect::Keras3), "__own");
    }
}
