//! JSON in Keras files: where it sits, in which form, and which generation wrote it.

use modelark_artifact::{Dialect, Error, Limits, Result};
use serde_json::{Map, Value};

/// The version that a file of a dialect claims when the artifact's own is of another.
pub(crate) fn version(dialect: Dialect, own: Option<&str>) -> String {
    match (own, dialect) {
        (Some(own), _) if Dialect::of_version(Some(own)) == dialect => own.to_owned(),
        (_, Dialect::Keras3) => "3.15.1".to_owned(),
        _ => "2.15.0".to_owned(),
    }
}

/// Parses a text of JSON as Python writes it.
pub(crate) fn parse(text: &[u8], limits: &Limits) -> Result<Value> {
    if text.len() as u64 > limits.text_bytes {
        return Err(Error::limit(format!("its text of {} bytes is over the limit", text.len())));
    }
    serde_json::from_slice(text).map_err(|e| Error::corrupt("this isn't valid JSON").because(e))
}

/// JSON in ASCII alone, as Python writes it by default: HDF5 attributes of old readers hold nothing else.
pub(crate) fn to_ascii(value: &Value) -> String {
    let mut ascii = String::new();
    for c in value.to_string().chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

/// The dialect of a model's node: the version's, or where the file names none, what its keys give away.
pub(crate) fn dialect(config: &Value, version: Option<&str>) -> Dialect {
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

fn has_key(value: &Value, keys: &[&str]) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(k, v)| keys.contains(&k.as_str()) || has_key(v, keys)),
        Value::Array(list) => list.iter().any(|v| has_key(v, keys)),
        _ => false,
    }
}

/// A model's node as `.h5` files have it: every layer is a class with its config, and nothing else.
pub(crate) fn legacy_form(node: &Value) -> Value {
    let mut node = node.clone();
    each_layer(&mut node, &mut |layer| {
        // The old form knows a registered class by its registered name.
        let registered = layer.get("registered_name").and_then(Value::as_str).filter(|n| n.contains('>'));
        if let Some(name) = registered.map(str::to_owned) {
            layer.insert("class_name".to_owned(), Value::String(name));
        }
        for key in ["module", "registered_name", "build_config", "compile_config", "shared_object_id"] {
            layer.shift_remove(key);
        }
    });
    node
}

/// A model's node as `.keras` archives have it: every layer says where Python finds its class.
pub(crate) fn archive_form(node: &Value, dialect: Dialect) -> Value {
    let mut node = node.clone();
    each_layer(&mut node, &mut |layer| {
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

/// Calls `change` with every node of a layer: the model's, its layers', and those of layers that wrap others.
fn each_layer(node: &mut Value, change: &mut dyn FnMut(&mut Map<String, Value>)) {
    let Value::Object(map) = node else { return };
    if !map.contains_key("class_name") {
        return;
    }
    change(map);
    let Some(Value::Object(config)) = map.get_mut("config") else { return };
    for key in ["layer", "backward_layer", "cell"] {
        if let Some(inner) = config.get_mut(key) {
            each_layer(inner, change);
        }
    }
    for key in ["layers", "cells"] {
        if let Some(Value::Array(list)) = config.get_mut(key) {
            list.iter_mut().for_each(|inner| each_layer(inner, change));
        }
    }
}

/// How a model was compiled as `.h5` files say it (`training_config`): the optimizer is `optimizer_config`.
pub(crate) fn training_config(compile: &Value) -> Value {
    rekey(compile, "optimizer", "optimizer_config", |optimizer| match optimizer {
        Value::Object(mut node) => {
            let custom = node.get("registered_name").and_then(Value::as_str).filter(|n| n.contains('>'));
            if let Some(name) = custom.map(str::to_owned) {
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
    })
}

/// How a model was compiled as `.keras` archives say it (`compile_config`): the optimizer is a node.
pub(crate) fn compile_config(compile: &Value) -> Value {
    rekey(compile, "optimizer_config", "optimizer", |optimizer| match optimizer {
        Value::Object(mut node) if !node.contains_key("module") => {
            // Keras 2.11 and later registered its own optimizers as custom ones.
            let class = node.get("class_name").and_then(Value::as_str).map(str::to_owned).unwrap_or_default();
            let bare = class.strip_prefix("Custom>").unwrap_or(&class);
            let (module, registered) = if bare.contains('>') {
                (Value::Null, Value::from(bare))
            } else {
                (Value::from("keras.optimizers"), Value::Null)
            };
            node.insert("class_name".to_owned(), Value::from(bare.rsplit('>').next().unwrap_or(bare)));
            let mut fresh = Map::new();
            fresh.insert("module".to_owned(), module);
            fresh.append(&mut node);
            fresh.insert("registered_name".to_owned(), registered);
            Value::Object(fresh)
        }
        other => other,
    })
}

/// The object with the value at `from` changed and moved to `to`, in its place, all else as it was.
fn rekey(object: &Value, from: &str, to: &str, change: impl Fn(Value) -> Value) -> Value {
    let Value::Object(map) = object else { return object.clone() };
    if map.contains_key(to) {
        return object.clone();
    }
    let moved = map
        .iter()
        .map(|(k, v)| if k == from { (to.to_owned(), change(v.clone())) } else { (k.clone(), v.clone()) });
    Value::Object(moved.collect())
}

/// The class of the optimizer of either form, without its package.
pub(crate) fn optimizer_class(compile: &Value) -> Option<String> {
    let node = compile.get("optimizer_config").or_else(|| compile.get("optimizer"))?;
    let class = node.as_str().or_else(|| node.get("class_name")?.as_str())?;
    Some(class.rsplit('>').next().unwrap_or(class).to_owned())
}

/// The constant learning rate of the optimizer of either form.
pub(crate) fn learning_rate(compile: &Value) -> Option<f64> {
    let node = compile.get("optimizer_config").or_else(|| compile.get("optimizer"))?;
    let config = node.get("config")?;
    config.get("learning_rate").or_else(|| config.get("lr"))?.as_f64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_ascii_and_the_same_json() {
        let value = json!({"name": "naïve 🙂", "x": [1, 2.5, null]});
        let text = to_ascii(&value);
        assert!(text.is_ascii());
        assert_eq!(parse(text.as_bytes(), &Limits::default()).expect("json"), value);
        assert!(parse(b"{", &Limits::default()).is_err());
    }

    #[test]
    fn a_model_takes_both_forms() {
        let legacy = json!({"class_name": "Sequential", "config": {"name": "s", "layers": [
            {"class_name": "Dense", "config": {"units": 3}},
            {"class_name": "Pkg>Own", "config": {}},
            {"class_name": "Bidirectional", "config": {"layer": {"class_name": "LSTM", "config": {}}}},
            {"class_name": "Functional", "config": {"layers": [], "input_layers": []}},
        ]}});
        let archive = archive_form(&legacy, Dialect::Keras3);
        let layers = archive.pointer("/config/layers").expect("layers");
        assert_eq!(archive.get("module"), Some(&json!("keras")));
        assert_eq!(
            layers[0],
            json!({"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}, "registered_name": null})
        );
        assert_eq!(
            layers[1],
            json!({"module": null, "class_name": "Own", "config": {}, "registered_name": "Pkg>Own"})
        );
        assert_eq!(layers[2].pointer("/config/layer/module"), Some(&json!("keras.layers")));
        assert_eq!(layers[3].get("module"), Some(&json!("keras.src.models.functional")));
        assert_eq!(legacy_form(&archive), legacy);
    }

    #[test]
    fn compile_configs_are_rekeyed_in_place() {
        let training = json!({"loss": "mse", "optimizer_config": {"class_name": "Custom>Adam", "config": {"learning_rate": 0.5}}, "own": 1});
        let compile = compile_config(&training);
        assert_eq!(compile.to_string(), json!({"loss": "mse", "optimizer": {"module": "keras.optimizers", "class_name": "Adam", "config": {"learning_rate": 0.5}, "registered_name": null}, "own": 1}).to_string());
        assert_eq!(optimizer_class(&compile).as_deref(), Some("Adam"));
        assert_eq!(learning_rate(&training), Some(0.5));
        assert_eq!(
            training_config(&compile),
            json!({"loss": "mse", "optimizer_config": {"class_name": "Adam", "config": {"learning_rate": 0.5}}, "own": 1})
        );
        assert_eq!(compile_config(&compile), compile);
    }

    #[test]
    fn a_file_without_version_gives_itself_away() {
        let of = |v: Value| dialect(&v, None);
        assert_eq!(of(json!({"config": {"batch_shape": [null, 3]}})), Dialect::Keras3);
        assert_eq!(of(json!({"config": {"units": 3, "batch_input_shape": [null, 3]}})), Dialect::Keras2);
        assert_eq!(of(json!({"config": {"output_dim": 3, "init": "uniform"}})), Dialect::Keras1);
        assert_eq!(dialect(&json!({}), Some("2.2.4-tf")), Dialect::Keras2);
    }
}
