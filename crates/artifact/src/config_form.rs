//! The forms in which the files of Keras hold one config, and what generation wrote it.

use serde_json::{Map, Value};

use crate::Dialect;

/// The dialect of a model's node: the version's, or where the file names none, what its keys give away.
pub fn dialect_of(config: &Value, version: Option<&str>) -> Dialect {
    if let Some(version) = version {
        return Dialect::of_version(Some(version));
    }
    const KERAS3: &[&str] = &["batch_shape", "keras_history", "build_config", "registered_name"];
    const KERAS2: &[&str] =
        &["kernel_initializer", "units", "filters", "beta_initializer", "embeddings_initializer"];
    if has_key(config, KERAS3) && !has_key(config, &["batch_input_shape"]) {
        Dialect::Keras3
    } else if has_key(config, KERAS2) {
        Dialect::Keras2
    } else {
        Dialect::Keras1
    }
}

/// The class that Keras 3 exports under another name than its own: archives know it by the first, other files by the
/// second.
const EXPORTED: (&str, &str) = ("GroupQueryAttention", "GroupedQueryAttention");

fn rename(layer: &mut Map<String, Value>, from: &str, to: &str) {
    if layer.get("class_name").and_then(Value::as_str) == Some(from) {
        layer.insert("class_name".to_owned(), Value::from(to));
    }
}

fn has_key(value: &Value, keys: &[&str]) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(k, v)| keys.contains(&k.as_str()) || has_key(v, keys)),
        Value::Array(list) => list.iter().any(|v| has_key(v, keys)),
        _ => false,
    }
}

/// A model's node as `.h5` files have it: every layer is a class with its config, and nothing else.
pub fn legacy_form(node: &Value, dialect: Dialect) -> Value {
    let mut node = node.clone();
    // Within wrappers, such files have the new form, too.
    each_layer(&mut node, false, &mut |layer| {
        // Keras 3 finds its ops by their modules alone, in such files, too.
        let module = layer.get("module").and_then(Value::as_str).unwrap_or_default();
        if ["keras.src.ops.", "keras.ops."].iter().any(|ops| module.starts_with(ops)) {
            return;
        }
        // The old form knows a registered class by its registered name.
        let registered = layer.get("registered_name").and_then(Value::as_str).filter(|n| n.contains('>'));
        if let Some(name) = registered.map(str::to_owned) {
            layer.insert("class_name".to_owned(), Value::String(name));
        }
        // In such files Keras 3 takes this word for its function of that name; it is what goes without saying, too.
        if let Some(config) = layer.get_mut("config").and_then(Value::as_object_mut)
            && dialect == Dialect::Keras3
            && config.get("score_mode").and_then(Value::as_str) == Some("dot")
        {
            config.shift_remove("score_mode");
        }
        for key in ["module", "registered_name", "build_config", "compile_config", "shared_object_id"] {
            layer.shift_remove(key);
        }
        rename(layer, EXPORTED.0, EXPORTED.1);
    });
    node
}

/// The name of a loss or metric behind a shorthand: Keras 3 doesn't find its own shorthands again in some files, every
/// version the names.
pub fn full_name(name: &str) -> &str {
    match name {
        "mse" | "MSE" => "mean_squared_error",
        "mae" | "MAE" => "mean_absolute_error",
        "mape" | "MAPE" => "mean_absolute_percentage_error",
        "msle" | "MSLE" => "mean_squared_logarithmic_error",
        other => other,
    }
}

/// A config with lists of numbers for arrays, which Keras 2 wraps in archives alone.
pub fn plain_arrays(config: Value) -> Value {
    match config {
        Value::Object(mut node) => {
            let is_array =
                matches!(node.get("class_name").and_then(Value::as_str), Some("__numpy__" | "__tensor__"));
            match node.get_mut("config").and_then(|c| c.get_mut("value")).filter(|_| is_array) {
                Some(value) => value.take(),
                None => Value::Object(node.into_iter().map(|(k, v)| (k, plain_arrays(v))).collect()),
            }
        }
        Value::Array(items) => items.into_iter().map(plain_arrays).collect(),
        other => other,
    }
}

/// An optimizer's node as `.h5` files and SavedModels have it (`optimizer_config`). Keras 2.11 and later register their own
/// optimizers as custom ones there, and take a bare name for one of before.
pub fn legacy_optimizer(node: Value) -> Value {
    match node {
        Value::Object(mut node) => {
            let text = |key: &str| node.get(key).and_then(Value::as_str);
            let registered = text("registered_name").filter(|n| n.contains('>')).map(str::to_owned);
            let is_new =
                node.get("config").and_then(|c| c.get("is_legacy_optimizer")) == Some(&Value::Bool(false));
            let own =
                text("class_name").filter(|c| is_new && !c.contains('>')).map(|c| format!("Custom>{c}"));
            if let Some(name) = registered.or(own) {
                node.insert("class_name".to_owned(), Value::String(name));
            }
            for key in ["module", "registered_name", "shared_object_id"] {
                node.shift_remove(key);
            }
            Value::Object(node)
        }
        // The old form has no short names.
        Value::String(name) => serde_json::json!({ "class_name": name, "config": {} }),
        other => other,
    }
}

/// A model's node as `.keras` archives have it: every layer says where Python finds its class.
pub fn archive_form(node: &Value, dialect: Dialect) -> Value {
    let mut node = node.clone();
    each_layer(&mut node, true, &mut |layer| {
        rename(layer, EXPORTED.1, EXPORTED.0);
        if layer.contains_key("module") {
            return;
        }
        let class = layer.get("class_name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let config = layer.get("config");
        let has = |key: &str| config.is_some_and(|c| c.get(key).is_some());
        let (module, registered) = if class.contains('>') {
            (Value::Null, Value::String(class.clone()))
        } else if has("input_layers") {
            // Keras 3's own module differs from that of Keras 2, and each accepts only its own.
            let module = match dialect {
                Dialect::Keras3 => "keras.src.models.functional",
                Dialect::Keras1 | Dialect::Keras2 => "keras.src.engine.functional",
            };
            layer.insert("class_name".to_owned(), Value::from("Functional"));
            (Value::from(module), Value::from("Functional"))
        } else if has("layers") {
            (Value::from("keras"), Value::Null)
        } else {
            (Value::from("keras.layers"), Value::Null)
        };
        if let Value::String(name) = &registered
            && let Some((_, bare)) = name.split_once('>')
        {
            layer.insert("class_name".to_owned(), Value::from(bare));
        }
        let mut fresh = Map::new();
        fresh.insert("module".to_owned(), module);
        fresh.append(&mut std::mem::take(layer));
        fresh.insert("registered_name".to_owned(), registered);
        *layer = fresh;
    });
    node
}

/// Calls `change` with every node of a layer: the model's, its layers', and, where asked, those that other layers wrap.
fn each_layer(node: &mut Value, wrapped: bool, change: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Value::Object(map) = node else { return };
    if !map.contains_key("class_name") {
        return;
    }
    let sequential = map.get("class_name").and_then(Value::as_str).is_some_and(|c| c.ends_with("Sequential"));
    change(map);
    let Some(Value::Object(config)) = map.get_mut("config") else { return };
    for key in ["layer", "backward_layer", "cell"] {
        if let Some(inner) = config.get_mut(key).filter(|_| wrapped) {
            each_layer(inner, wrapped, change);
        }
    }
    for key in ["layers", "cells"] {
        if let Some(Value::Array(list)) = config.get_mut(key) {
            // A layer that holds several wraps them, too; a model's layers are called in it.
            let is_models =
                key == "layers" && (sequential || list.iter().any(|l| l.get("inbound_nodes").is_some()));
            if !wrapped && !is_models {
                continue;
            }
            list.iter_mut().for_each(|inner| each_layer(inner, wrapped, change));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_without_a_version_gives_its_dialect_away() {
        let node =
            |config: Value| json!({"class_name": "Sequential", "config": {"layers": [{"config": config}]}});
        assert_eq!(dialect_of(&node(json!({"batch_shape": [null, 4]})), None), Dialect::Keras3);
        assert_eq!(
            dialect_of(&node(json!({"batch_input_shape": [null, 4], "units": 3})), None),
            Dialect::Keras2
        );
        assert_eq!(dialect_of(&node(json!({"output_dim": 3, "init": "uniform"})), None), Dialect::Keras1);
        assert_eq!(dialect_of(&node(json!({})), Some("2.2.4-tf")), Dialect::Keras2);
    }

    #[test]
    fn arrays_are_lists_in_the_old_form() {
        let wrapped = json!({"class_name": "__numpy__", "config": {"value": [1.0, 3.0], "dtype": "float32"}});
        let metric =
            |array: Value| json!([{"class_name": "AUC", "config": {"label_weights": array, "name": "auc"}}]);
        assert_eq!(plain_arrays(metric(wrapped)), metric(json!([1.0, 3.0])));
    }

    #[test]
    fn both_forms_say_the_same() {
        let legacy = json!({"class_name": "Sequential", "config": {"layers": [
            {"class_name": "Dense", "config": {"units": 3}}, {"class_name": "Pkg>Own", "config": {}},
            {"class_name": "GroupedQueryAttention", "config": {}}]}});
        let archive = archive_form(&legacy, Dialect::Keras3);
        assert_eq!(archive.get("module"), Some(&json!("keras")));
        assert_eq!(archive.pointer("/config/layers/1/registered_name"), Some(&json!("Pkg>Own")));
        assert_eq!(archive.pointer("/config/layers/2/class_name"), Some(&json!("GroupQueryAttention")));
        assert_eq!(legacy_form(&archive, Dialect::Keras3), legacy);
    }
}
