//! The table of layers.

use std::collections::HashSet;

use modelark::artifact::{Architecture, Kind, Objects};
use modelark::{Registry, nn};
use serde_json::Value;

/// A layer as the table shows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) class: String,
    /// Unknown where the class is.
    pub(super) outputs: Vec<String>,
    pub(super) params: Option<u64>,
    pub(super) trainable: u64,
    pub(super) connected_to: Vec<String>,
}

/// The layers of an architecture; when a class isn't known, what the config alone tells, and why.
pub(super) fn layers(architecture: &Architecture) -> (Vec<Layer>, Option<String>) {
    let model = nn::Model::from_architecture(architecture, &Registry::default());
    match model.and_then(|m| m.summary()) {
        Ok(rows) => (rows.into_iter().map(of_row).collect(), None),
        Err(e) => (of_config(&architecture.config), Some(e.to_string())),
    }
}

fn of_row(row: nn::Row) -> Layer {
    Layer {
        name: row.name,
        class: row.class_name,
        outputs: row.outputs.iter().map(ToString::to_string).collect(),
        params: Some(row.params),
        trainable: row.trainable,
        connected_to: row.connected_to,
    }
}

/// The names and classes in a config, whatever its dialect.
fn of_config(node: &Value) -> Vec<Layer> {
    let config = node.get("config").unwrap_or(node);
    let list = config.get("layers").unwrap_or(config).as_array();
    let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or_default().to_owned();
    let layer = |node: &Value| {
        let name = node.get("name").or_else(|| node.get("config")?.get("name"));
        let mut sources = Vec::new();
        if let Some(nodes) = node.get("inbound_nodes") {
            inbound(nodes, &mut sources);
        }
        let (class, name) = (text(node.get("class_name")), text(name));
        Layer { name, class, outputs: Vec::new(), params: None, trainable: 0, connected_to: sources }
    };
    list.into_iter().flatten().map(layer).collect()
}

/// The layers that inbound nodes refer to, as lists (Keras 1 and 2) or tensors with a history (Keras 3).
fn inbound(node: &Value, found: &mut Vec<String>) {
    match node {
        Value::Array(items) => match items.as_slice() {
            [Value::String(name), Value::Number(_), Value::Number(_), ..] => found.push(name.clone()),
            items => items.iter().for_each(|i| inbound(i, found)),
        },
        Value::Object(entries) => match entries.get("keras_history").and_then(|h| h.get(0)) {
            Some(Value::String(name)) => found.push(name.clone()),
            _ => entries.values().for_each(|v| inbound(v, found)),
        },
        _ => {}
    }
}

/// The numbers of the variables that are trained, and of all.
pub(super) fn parameters(objects: &Objects) -> (u64, u64) {
    let mut seen = HashSet::new();
    let mut sums = (0u64, 0u64);
    for (id, object) in objects.iter() {
        if let Kind::Variable(v) = &object.kind
            && seen.insert(id)
        {
            let size = v.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64)).unwrap_or(u64::MAX);
            sums.1 = sums.1.saturating_add(size);
            sums.0 = sums.0.saturating_add(if v.trainable { size } else { 0 });
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use modelark::Dialect;
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_classes_are_listed_all_the_same() {
        let config = json!({"class_name": "Functional", "config": {"layers": [
            {"class_name": "InputLayer", "name": "i", "config": {"name": "i"}, "inbound_nodes": []},
            {"class_name": "Mystery", "config": {"name": "m"}, "inbound_nodes": [[["i", 0, 0, {}]]]},
            {"class_name": "Other", "config": {"name": "o"}, "inbound_nodes": [
                {"args": [{"class_name": "__keras_tensor__", "config": {"keras_history": ["m", 0, 0]}}], "kwargs": {}}]},
        ]}});
        let architecture = Architecture { config, dialect: Dialect::Keras3, keras_version: None };
        let (found, why) = layers(&architecture);
        let told: Vec<_> =
            found.iter().map(|l| (l.name.as_str(), l.class.as_str(), l.connected_to.join(" "))).collect();
        assert_eq!(
            told,
            [("i", "InputLayer", String::new()), ("m", "Mystery", "i".into()), ("o", "Other", "m".into())]
        );
        assert!(why.expect("a reason").contains("Mystery"));
    }
}
