//! Where Python finds the classes of a config, for files that don't say.

use serde_json::Value;

/// Says where each class of `config` is, as `spelled` does: the same config in the spelling of today. Nothing else of
/// `config` changes.
pub(super) fn place(config: &mut Value, spelled: &Value) {
    match (config, spelled) {
        (Value::Object(node), Value::Object(told)) => {
            let is_class = node.contains_key("class_name") && !node.contains_key("module");
            let (class, spelled) = (bare_class(node.get("class_name")), bare_class(told.get("class_name")));
            // Keras calls a model of layers that branch both; no other class has become another one.
            let is_same = class == spelled || (class == Some("Model") && spelled == Some("Functional"));
            for key in ["module", "class_name", "registered_name"] {
                if let Some(value) = told.get(key).filter(|_| is_class && is_same) {
                    node.insert(key.to_owned(), value.clone());
                }
            }
            for (key, value) in node {
                // What Keras 2 writes of Python's `...` in an `.h5` it doesn't read in a `.keras`.
                if let (Some(calls), true) = (told.get(key), key == "inbound_nodes" && has_ellipsis(value)) {
                    value.clone_from(calls);
                }
                if let Some(told) = told.get(key) {
                    place(value, told);
                }
            }
        }
        (Value::Array(items), Value::Array(told)) => {
            for (i, item) in items.iter_mut().enumerate() {
                let at = told.get(i).filter(|t| is_same(item, t));
                if let Some(told) = at.or_else(|| told.iter().find(|t| is_same(item, t))) {
                    place(item, told);
                }
            }
        }
        _ => {}
    }
}

fn has_ellipsis(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_ellipsis),
        Value::Object(items) => {
            items.get("class_name").and_then(Value::as_str) == Some("__ellipsis__")
                || items.values().any(has_ellipsis)
        }
        _ => false,
    }
}

/// Whether two nodes of a list are of one object: of the same name, or of the same class where they have none.
fn is_same(a: &Value, b: &Value) -> bool {
    let name = |v: &Value| v.pointer("/config/name").cloned();
    let class = |v: &Value| bare_class(v.get("class_name")).map(str::to_owned);
    name(a) == name(b) && (name(a).is_some() || (class(a).is_some() && class(a) == class(b)))
}

/// The name of a class without the package that it is registered in.
fn bare_class(class: Option<&Value>) -> Option<&str> {
    class.and_then(Value::as_str).map(|class| class.rsplit('>').next().unwrap_or(class))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_are_placed_and_all_else_stays() {
        let own = json!({"name": "a", "depth": {"class_name": "__tuple__", "items": [1]}, "zeal": null});
        let mut config = json!({"class_name": "Sequential", "config": {"dtype": "float32", "layers": [
            {"class_name": "Pkg>Own", "config": own, "build_config": {"input_shape": [2]}},
            {"class_name": "Dense", "config": {"name": "b", "activity_regularizer": null}},
        ]}});
        let spelled = json!({"module": "keras", "class_name": "Sequential", "registered_name": null, "config": {"layers": [
            {"module": "keras.layers", "class_name": "InputLayer", "config": {"name": "x"}, "registered_name": null},
            {"module": null, "class_name": "Own", "config": {"name": "a", "depth": [1]}, "registered_name": "Pkg>Own"},
            {"module": "keras.layers", "class_name": "Dense", "config": {"name": "b"}, "registered_name": null},
        ]}});
        place(&mut config, &spelled);
        let wanted = json!({"module": "keras", "class_name": "Sequential", "registered_name": null, "config": {"dtype": "float32", "layers": [
            {"module": null, "class_name": "Own", "registered_name": "Pkg>Own", "config": own, "build_config": {"input_shape": [2]}},
            {"module": "keras.layers", "class_name": "Dense", "registered_name": null, "config": {"name": "b", "activity_regularizer": null}},
        ]}});
        assert_eq!(config, wanted);
    }
}
