//! What a file holds for each layer, whatever the layer's class.

use std::collections::{BTreeMap, HashMap, HashSet};

use modelark_artifact::{Architecture, Artifact, Dialect, Held, ObjectId, Objects, Result};
use serde_json::Value;

use crate::{h5, naming, weights};

/// The weights of each layer of an `.h5` file in its order, named as there within the layer.
pub(crate) fn by_list(read: &Artifact, architecture: &Architecture) -> Result<BTreeMap<String, Vec<Held>>> {
    let (layers, _) = h5::order(read)?;
    let nodes: HashMap<&str, &Value> = layers_of(&architecture.config).collect();
    let layer = |(name, paths): (String, Vec<String>)| {
        let mut inner = HashSet::new();
        if let Some(config) = nodes.get(name.as_str()).and_then(|node| node.get("config")) {
            names(config, &mut inner);
        }
        let weight = |path: &String| {
            let variable = read.objects.find(path).and_then(|id| read.objects.variable(id))?;
            let path = within(path, &name, &inner);
            Some(Held { path, shape: variable.shape.clone(), dtype: variable.dtype })
        };
        let held = paths.iter().filter_map(weight).collect();
        (name, held)
    };
    Ok(layers.into_iter().map(layer).collect())
}

/// The layers of a model's node by their names.
fn layers_of(node: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let layers = node.pointer("/config/layers").and_then(Value::as_array);
    layers.into_iter().flatten().filter_map(named)
}

/// A layer's node with the layer's name.
fn named(layer: &Value) -> Option<(&str, &Value)> {
    let name = layer.pointer("/config/name").or(layer.get("name")).and_then(Value::as_str)?;
    Some((name, layer))
}

/// The names of all layers within a config.
fn names<'a>(config: &'a Value, found: &mut HashSet<&'a str>) {
    let mut waiting = vec![config];
    while let Some(value) = waiting.pop() {
        match value {
            Value::Object(node) => {
                found.extend(value.pointer("/config/name").and_then(Value::as_str));
                waiting.extend(node.values());
            }
            Value::Array(items) => waiting.extend(items),
            _ => {}
        }
    }
}

/// A weight's name within its layer: `model_weights/block/block/inner/kernel:0` is `inner/kernel` of `block`. `inner` are the
/// names of the layers within it.
fn within(path: &str, layer: &str, inner: &HashSet<&str>) -> Vec<String> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let own: usize = layer.split('/').count();
    // The group is named after the layer, and then the weight mostly is again, perhaps in the scope of a model.
    let group = parts.windows(own).position(|w| w.join("/") == layer).map_or(0, |at| at + own);
    let rest = parts.get(group..).unwrap_or_default();
    let again = rest.windows(own).position(|w| w.join("/") == layer).map(|at| at + own);
    // A scope of another name is the layer's, too, unless it is that of a layer within.
    let is_inner = rest.first().is_some_and(|first| inner.contains(first));
    let start = again.unwrap_or(usize::from(rest.len() > 1 && !is_inner));
    let inner = rest.get(start..).filter(|inner| !inner.is_empty()).unwrap_or(rest);
    inner.iter().map(|part| part.split(':').next().unwrap_or(part).to_owned()).collect()
}

/// The weights of each layer of a file laid out by the paths of objects: its classes, counted, are the layers' groups.
/// Layers within models are named in the paths of their weights, those within other layers by the attribute.
pub(crate) fn by_path(read: &Objects, architecture: &Architecture) -> BTreeMap<String, Vec<Held>> {
    let dialect = if architecture.dialect == Dialect::Keras3 { Dialect::Keras3 } else { Dialect::Keras2 };
    let mut found: BTreeMap<String, Vec<Held>> = BTreeMap::new();
    let mut held = Vec::new();
    // An object, its path, and its node in the architecture.
    let mut waiting: Vec<(ObjectId, Vec<String>, Option<&Value>)> =
        vec![(Objects::ROOT, Vec::new(), Some(&architecture.config))];
    while let Some((id, path, node)) = waiting.pop() {
        let children = read.get(id).map(|o| o.children.as_slice()).unwrap_or_default();
        let model = node.filter(|n| n.pointer("/config/layers").is_some_and(Value::is_array));
        // Stacked cells are in a list, by their classes.
        if let Some(list) = node.and_then(Value::as_array) {
            for (group, layer, node) in groups(list.iter().filter_map(named), dialect) {
                if let Some(inner) = read.get(id).and_then(|list| list.child(&group)) {
                    waiting.insert(0, (inner, under(&path, layer), Some(node)));
                }
            }
            continue;
        }
        // A group's own weights come before those of its parts.
        for (name, child) in children {
            match (read.variable(*child), model) {
                (Some(variable), _) => {
                    held.push(Held {
                        path: under(&path, name),
                        shape: variable.shape.clone(),
                        dtype: variable.dtype,
                    });
                }
                (None, _) if name == weights::VARS => waiting.push((*child, path.clone(), None)),
                (None, Some(model)) if [weights::LAYERS, weights::OLD_LAYERS].contains(&name.as_str()) => {
                    for (group, layer, node) in groups(layers_of(model), dialect) {
                        if let Some(inner) = read.get(*child).and_then(|list| list.child(&group)) {
                            waiting.insert(0, (inner, under(&path, layer), Some(node)));
                        }
                    }
                }
                (None, _) => {
                    let part = node.and_then(|n| part(n, name));
                    waiting.insert(0, (*child, under(&path, name), part));
                }
            }
        }
    }
    for mut weight in held {
        if weight.path.len() > 1 {
            let layer = weight.path.remove(0);
            found.entry(layer).or_default().push(weight);
        }
    }
    found
}

/// A path, and what is next on it.
fn under(path: &[String], name: &str) -> Vec<String> {
    path.iter().cloned().chain([name.to_owned()]).collect()
}

/// The group of each layer of a list, with the layer's name and node.
fn groups<'a>(
    layers: impl Iterator<Item = (&'a str, &'a Value)>,
    dialect: Dialect,
) -> Vec<(String, &'a str, &'a Value)> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let group = |(name, node)| {
        let class = Value::get(node, "class_name").and_then(Value::as_str).unwrap_or_default();
        let base = naming::snake_case(class, dialect);
        let count = counts.entry(base.clone()).or_default();
        let group = if *count == 0 { base } else { format!("{base}_{count}") };
        *count += 1;
        (group, name, node)
    };
    layers.map(group).collect()
}

/// The node of the layer that another one has as this attribute.
fn part<'a>(node: &'a Value, attribute: &str) -> Option<&'a Value> {
    let config = node.get("config")?;
    let both = ["forward_layer", "backward_layer"].contains(&attribute);
    let found = config.get(attribute).or_else(|| config.get("layer").filter(|_| both));
    let is_stack = node.get("class_name").is_some_and(|class| class == "StackedRNNCells");
    found.filter(|part| is_stack || !part.is_array())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_within_a_layer() {
        for (path, layer, wanted) in [
            ("model_weights/block/block/inner/kernel:0", "block", "inner/kernel"),
            ("model_weights/block/model/block/kernel", "block", "kernel"),
            ("model_weights/block_1/block/inner/bias:0", "block_1", "inner/bias"),
            ("dense_1/dense_1_W", "dense_1", "dense_1_W"),
            ("model_weights/a/b/a/b/scale:0", "a/b", "scale"),
            ("model_weights/block/inner/kernel:0", "block", "inner/kernel"),
            ("model_weights/block/scope/kernel:0", "block", "kernel"),
        ] {
            let names = HashSet::from(["inner"]);
            assert_eq!(within(path, layer, &names).join("/"), wanted, "{path}");
        }
    }

    #[test]
    fn groups_within_models_are_known_by_their_layers() {
        use modelark_artifact::tensor::DType;
        use modelark_artifact::{Kind, Variable};
        let layer = |class: &str, config: Value| serde_json::json!({"class_name": class, "config": config});
        let strange = |name: &str| layer("Strange", serde_json::json!({ "name": name }));
        let inner = serde_json::json!({"name": "inner", "layers": [strange("a"), strange("b")]});
        let each = serde_json::json!({"name": "each", "layer": layer("Sequential", inner.clone())});
        let stack =
            layer("StackedRNNCells", serde_json::json!({"name": "s", "cells": [strange("c"), strange("d")]}));
        let rnn = layer("RNN", serde_json::json!({"name": "rnn", "cell": stack}));
        let layers = [layer("Sequential", inner), layer("TimeDistributed", each), rnn];
        let config = layer("Sequential", serde_json::json!({"name": "m", "layers": layers}));
        let architecture = Architecture { config, dialect: Dialect::Keras3, keras_version: None };
        let mut objects = Objects::default();
        for path in [
            "layers/sequential/layers/strange/vars/0",
            "layers/sequential/layers/strange_1/vars/0",
            "layers/time_distributed/layer/layers/strange_1/vars/0",
            "layers/rnn/cell/cells/strange_1/vars/0",
        ] {
            let mut id = Objects::ROOT;
            let (last, groups) = path.rsplit_once('/').map(|(g, l)| (l, g.split('/'))).expect("a path");
            for group in groups {
                let known = objects.get(id).and_then(|o| o.child(group));
                id = known.unwrap_or_else(|| objects.add(id, group, Kind::object()));
            }
            let variable = Variable {
                name: last.to_owned(),
                shape: vec![2],
                dtype: DType::F32,
                trainable: true,
                value: modelark_artifact::Value::None,
            };
            objects.add(id, last, Kind::Variable(variable));
        }
        let found = by_path(&objects, &architecture);
        let paths = |layer: &str| found[layer].iter().map(|h| h.path.join("/")).collect::<Vec<_>>();
        assert_eq!(paths("inner"), ["a/0", "b/0"]);
        assert_eq!(paths("each"), ["layer/b/0"]);
        assert_eq!(paths("rnn"), ["cell/cells/d/0"]);
    }
}
