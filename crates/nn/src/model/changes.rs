//! What an upgrade spells otherwise: the configs of a model's layers as they were read, beside those that are written.

use std::collections::BTreeMap;

use serde_json::Value;

/// A line for each class of layers whose config is another one now, of two nodes of one model: classes and keys that were
/// renamed, came or went, and keys that have other values.
pub(super) fn respelled(read: &Value, written: &Value) -> Vec<String> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    collect(read, &mut before);
    collect(written, &mut after);
    let after: BTreeMap<String, &Value> = after.into_iter().collect();
    let mut classes: Vec<(String, Change)> = Vec::new();
    for (name, node) in before {
        let Some(now) = after.get(&name) else { continue };
        let title = match (class(node), class(now)) {
            (Some(one), Some(other)) if one != other => format!("{one} is {other}"),
            (Some(one), _) => one.to_owned(),
            _ => continue,
        };
        let change = match classes.iter().position(|(t, _)| *t == title).and_then(|i| classes.get_mut(i)) {
            Some((_, change)) => change,
            None => {
                classes.push((title, Change::default()));
                let Some((_, change)) = classes.last_mut() else { continue };
                change
            }
        };
        change.compare(node, now);
    }
    classes.into_iter().filter_map(|(title, change)| change.line(&title)).collect()
}

/// The keys that a class of layers has no more, has now, and has with other values.
#[derive(Debug, Default)]
struct Change {
    gone: Vec<String>,
    new: Vec<String>,
    other: Vec<String>,
}

impl Change {
    fn compare(&mut self, read: &Value, written: &Value) {
        let config =
            |node: &Value| node.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
        let (read, written) = (config(read), config(written));
        for (key, value) in &read {
            match written.get(key) {
                None => add(&mut self.gone, key),
                Some(now) if key != "name" && key != "layer" && !alike(value, now) => {
                    add(&mut self.other, key)
                }
                Some(_) => {}
            }
        }
        for key in written.keys().filter(|k| !read.contains_key(*k)) {
            add(&mut self.new, key);
        }
    }

    /// None for a class that only stays what it is.
    fn line(&self, title: &str) -> Option<String> {
        let parts = [("without", &self.gone), ("with", &self.new), ("spelled otherwise:", &self.other)];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, keys)| !keys.is_empty())
            .map(|(what, keys)| format!("{what} {}", keys.join(", ")))
            .collect();
        match (parts.is_empty(), title.contains(" is ")) {
            (true, false) => None,
            (true, true) => Some(title.to_owned()),
            (false, _) => Some(format!("{title}, {}", parts.join("; "))),
        }
    }
}

fn add(keys: &mut Vec<String>, key: &str) {
    if !keys.iter().any(|k| k == key) {
        keys.push(key.to_owned());
    }
}

/// Whether two values mean the same to every reader: numbers however they are written.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (a, b) => a == b,
    }
}

fn class(node: &Value) -> Option<&str> {
    node.get("class_name").and_then(Value::as_str)
}

/// The nodes of all layers by name, those within models and wrappers, too. A parser has bounded how deep they nest.
fn collect<'a>(node: &'a Value, out: &mut Vec<(String, &'a Value)>) {
    let config = node.get("config");
    let layers = config.and_then(|c| c.get("layers")).or(config).and_then(Value::as_array);
    if let Some(layers) = layers {
        layers.iter().for_each(|layer| collect(layer, out));
        return;
    }
    let name = config.and_then(|c| c.get("name")).or(node.get("name")).and_then(Value::as_str);
    if let (Some(name), Some(_)) = (name, class(node)) {
        out.push((name.replace('/', "_"), node));
    }
    if let Some(within) = config.and_then(|c| c.get("layer")) {
        collect(within, out);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_class_is_told_once_with_its_keys() {
        let old = |name: &str| json!({"class_name": "Convolution2D", "config": {"name": name, "nb_filter": 3, "strides": [1, 1]}});
        let new = |name: &str| json!({"class_name": "Conv2D", "config": {"name": name, "filters": 3, "strides": [1.0, 1.0]}});
        let wrapped =
            |layer: Value| json!({"class_name": "TimeDistributed", "config": {"name": "t", "layer": layer}});
        let read = json!({"class_name": "Sequential", "config": [old("a"), old("b"), wrapped(old("c"))]});
        let layers = [new("a"), new("b"), wrapped(new("c"))];
        let written = json!({"class_name": "Sequential", "config": {"name": "m", "layers": layers}});
        assert_eq!(respelled(&read, &written), ["Convolution2D is Conv2D, without nb_filter; with filters"]);
        assert!(respelled(&written, &written).is_empty());
    }

    #[test]
    fn other_values_are_told() {
        let node = |dtype: Value| {
            let dense = json!({"class_name": "Dense", "config": {"name": "d", "dtype": dtype}});
            json!({"class_name": "Functional", "config": {"layers": [dense]}})
        };
        let said = respelled(&node(json!("float32")), &node(json!({"class_name": "DTypePolicy"})));
        assert_eq!(said, ["Dense, spelled otherwise: dtype"]);
    }
}
