//! A space of features (Keras: `keras.utils.FeatureSpace`) as the Functional model that computes the same: a column for each
//! feature, what preprocesses it, crosses of several, and what encodes them.

use modelark_artifact::{Error, Result};
use serde_json::{Value, json};

use crate::config::{Object, expected};

/// The class's name.
const CLASS: &str = "FeatureSpace";

/// The node of a Functional model for that of a space of features; `None` for any other.
///
/// # Errors
/// When a feature isn't one, or it isn't told how many values it has that is to be encoded.
pub(super) fn functional(node: &Value) -> Result<Option<Value>> {
    let custom = node.get("registered_name").and_then(Value::as_str).is_some_and(|name| name.contains('>'));
    if node.get("class_name").and_then(Value::as_str) != Some(CLASS) || custom {
        return Ok(None);
    }
    let config = node.get("config").and_then(Value::as_object);
    let config = config.ok_or_else(|| expected("a FeatureSpace with a config", node))?;
    let mut space = Space::default();
    let features = config.get("features").and_then(Value::as_object);
    for (name, feature) in features.ok_or_else(|| Error::missing("a FeatureSpace has features"))? {
        space.feature(name, feature).map_err(|e| e.at(format!("feature {name:?}")))?;
    }
    let crosses = config.get("crosses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (i, cross) in crosses.iter().enumerate() {
        space.cross(cross).map_err(|e| e.at(format!("cross {i}")))?;
    }
    let joins = config.get("output_mode").and_then(Value::as_str) != Some("dict");
    let name = config.get("name").and_then(Value::as_str).unwrap_or("feature_space");
    Ok(Some(space.model(name, joins)))
}

/// What a feature or a cross gives.
struct Column {
    name: String,
    /// The layer that gives it.
    layer: String,
    /// How many values it has, where they are to be encoded.
    values: Option<Value>,
}

#[derive(Default)]
struct Space {
    inputs: Vec<Value>,
    layers: Vec<Value>,
    /// Features by their names' order, and crosses.
    features: Vec<Column>,
    crosses: Vec<Column>,
}

fn reference(layer: &str) -> Value {
    json!([layer, 0, 0, {}])
}

impl Space {
    fn feature(&mut self, name: &str, node: &Value) -> Result<()> {
        let part = |key: &str| node.pointer(&format!("/config/{key}")).filter(|v| !v.is_null());
        let preprocessor =
            part("preprocessor").ok_or_else(|| expected("a feature with a preprocessor", node))?;
        let dtype = part("dtype").cloned().unwrap_or(json!("float32"));
        let input = json!({"name": name, "batch_shape": [null, 1], "dtype": dtype, "sparse": false});
        self.inputs
            .push(json!({"class_name": "InputLayer", "name": name, "config": input, "inbound_nodes": []}));
        let layer = format!("{name}_preprocessor");
        let mut placed = preprocessor.clone();
        let Some(own) = placed.get_mut("config").and_then(Value::as_object_mut) else {
            return Err(expected("a preprocessor with a config", preprocessor));
        };
        // Keras counts what preprocesses features of one kind; here a feature's name tells one from another.
        own.insert("name".to_owned(), json!(layer));
        own.shift_remove("batch_input_shape");
        let values = match part("output_mode").and_then(Value::as_str) == Some("one_hot") {
            true => Some(count(own).ok_or_else(|| {
                Error::missing(
                    "it is to be encoded, but its preprocessor doesn't tell how many values it has",
                )
            })?),
            false => None,
        };
        self.place(placed, &layer, json!([[reference(name)]]));
        self.features.push(Column { name: name.to_owned(), layer, values });
        Ok(())
    }

    fn cross(&mut self, node: &Value) -> Result<()> {
        let part = |key: &str| node.pointer(&format!("/config/{key}")).filter(|v| !v.is_null());
        let names = part("feature_names").and_then(Value::as_array);
        let names = names.ok_or_else(|| expected("a cross with the names of features", node))?;
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        let bins =
            part("crossing_dim").ok_or_else(|| expected("a cross with the number of its bins", node))?;
        let crossed = names.iter().map(|name| {
            let feature = self.features.iter().find(|f| f.name == *name);
            let feature = feature.ok_or_else(|| Error::missing(format!("there is no feature {name:?}")))?;
            Ok(reference(&feature.layer))
        });
        let crossed = crossed.collect::<Result<Vec<Value>>>()?;
        let name = names.join("_X_");
        let config = json!({"name": name, "num_bins": bins, "dtype": "int64"});
        let layer = json!({"class_name": "HashedCrossing", "config": config});
        let values = (part("output_mode").and_then(Value::as_str) != Some("int")).then(|| bins.clone());
        self.place(layer, &name, json!([crossed]));
        self.crosses.push(Column { layer: name.clone(), name, values });
        Ok(())
    }

    fn place(&mut self, mut layer: Value, name: &str, calls: Value) {
        if let Value::Object(node) = &mut layer {
            node.insert("name".to_owned(), json!(name));
            node.insert("inbound_nodes".to_owned(), calls);
        }
        self.layers.push(layer);
    }

    fn model(mut self, name: &str, joins: bool) -> Value {
        let inputs: Object = self
            .inputs
            .iter()
            .filter_map(|i| i.get("name").and_then(Value::as_str))
            .map(|name| (name.to_owned(), json!([name, 0, 0])))
            .collect();
        self.features.sort_by(|a, b| a.name.cmp(&b.name));
        self.crosses.sort_by(|a, b| a.name.cmp(&b.name));
        let columns: Vec<Column> = self.features.drain(..).chain(std::mem::take(&mut self.crosses)).collect();
        let mut given = Vec::new();
        for column in columns {
            let layer = match column.values {
                None => column.layer,
                Some(values) => {
                    let encoder = format!("{}_encoder", column.name);
                    let config = json!({"name": encoder, "num_tokens": values, "output_mode": "multi_hot"});
                    let node = json!({"class_name": "CategoryEncoding", "config": config});
                    self.place(node, &encoder, json!([[reference(&column.layer)]]));
                    encoder
                }
            };
            given.push((column.name, layer));
        }
        let outputs = if joins {
            let all: Vec<Value> = given.iter().map(|(_, layer)| reference(layer)).collect();
            let config = json!({"name": "features", "axis": -1});
            self.place(json!({"class_name": "Concatenate", "config": config}), "features", json!([all]));
            json!([["features", 0, 0]])
        } else {
            given.into_iter().map(|(name, layer)| (name, json!([layer, 0, 0]))).collect::<Object>().into()
        };
        let layers: Vec<Value> = self.inputs.into_iter().chain(self.layers).collect();
        json!({"class_name": "Functional", "config": {
            "name": name, "layers": layers, "input_layers": inputs, "output_layers": outputs,
        }})
    }
}

/// How many values a preprocessor gives: of words, of bins, of categories.
fn count(config: &Object) -> Option<Value> {
    let told = ["vocabulary_size", "num_bins", "num_tokens"].iter().find_map(|key| config.get(*key));
    if let Some(told) = told.filter(|v| !v.is_null()) {
        return Some(told.clone());
    }
    let words = config.get("vocabulary")?.as_array()?;
    let token = config.get("oov_token").cloned().unwrap_or_else(|| json!("[UNK]"));
    let unknown = config.get("num_oov_indices").and_then(Value::as_u64).unwrap_or(1);
    let masked = u64::from(config.get("mask_token").is_some_and(|t| !t.is_null()));
    // Words that were learned have those for unknown ones among them.
    let special = if words.contains(&token) { 0 } else { unknown.checked_add(masked)? };
    special.checked_add(u64::try_from(words.len()).ok()?).map(Value::from)
}

#[cfg(test)]
mod tests {
    use modelark_artifact::{Architecture, Dialect};

    use super::*;
    use crate::{Model, Registry};

    fn feature(dtype: &str, mode: &str, class: &str, config: Value) -> Value {
        json!({"class_name": "Feature", "config": {"dtype": dtype, "output_mode": mode,
            "preprocessor": {"class_name": class, "config": config}}})
    }

    fn space(output_mode: &str) -> Architecture {
        let words = json!({"name": "p", "vocabulary": ["[UNK]", "a", "b"], "num_oov_indices": 1});
        let config = json!({"class_name": "FeatureSpace", "config": {"output_mode": output_mode,
            "features": {
                "word": feature("string", "one_hot", "StringLookup", words),
                "age": feature("float32", "float", "Rescaling", json!({"name": "p", "scale": 0.5})),
                "n": feature("int64", "int", "Hashing", json!({"name": "q", "num_bins": 7})),
            },
            "crosses": [{"class_name": "Cross", "config": {"feature_names": ["word", "n"], "crossing_dim": 5,
                "output_mode": "one_hot"}}]}});
        Architecture { config, dialect: Dialect::Keras3, keras_version: None }
    }

    #[test]
    fn features_and_crosses_become_layers() {
        let model = Model::from_architecture(&space("dict"), &Registry::default()).expect("reads");
        let inputs: Vec<String> = model.inputs().expect("known").into_iter().map(|(name, _)| name).collect();
        assert_eq!(inputs, ["word", "age", "n"]);
        let outputs = model.outputs().expect("known");
        let shapes: Vec<String> =
            outputs.iter().map(|(name, spec)| format!("{name} {}", spec.shape)).collect();
        assert_eq!(shapes, ["age (None, 1)", "n (None, 1)", "word (None, 3)", "word_X_n (None, 5)"]);
        let (written, _) = model.architecture(Dialect::Keras3).expect("written");
        assert_eq!(written.config.get("class_name"), Some(&json!("Functional")));
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut architecture = space("concat");
        architecture.config["config"]["features"]["n"]["config"]["preprocessor"] = json!({});
        let error = Model::from_architecture(&architecture, &Registry::default()).expect_err("no config");
        assert!(error.to_string().contains("feature \"n\""), "{error}");
    }
}
