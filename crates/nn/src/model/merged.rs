//! Keras 1's `Merge`: the layers that came after it, and a Sequential model that begins with one as a Functional model.

use modelark_artifact::{Error, Result};
use serde_json::{Value, json};

use crate::config::{Object, expected};

/// The class of Keras 1's layer of several inputs.
pub(crate) const MERGE: &str = "Merge";

/// A `Merge` as the layer that does the same in Keras 2.
///
/// # Errors
/// When it merges by a function of Python's, or in a way that no later layer has.
pub(crate) fn modern(node: &Value) -> Result<Value> {
    let config = node.get("config").and_then(Value::as_object);
    let config = config.ok_or_else(|| expected("a layer with a config", node))?;
    let mode = config.get("mode").and_then(Value::as_str).unwrap_or("sum");
    let function = config.get("mode_type").and_then(Value::as_str).is_some_and(|t| t != "raw");
    let mut options = Object::new();
    let class = match mode {
        _ if function => return Err(Error::unsupported("it merges by a function of Python's")),
        "sum" => "Add",
        "mul" => "Multiply",
        "ave" => "Average",
        "max" => "Maximum",
        "concat" => {
            options.insert("axis".to_owned(), config.get("concat_axis").cloned().unwrap_or(json!(-1)));
            "Concatenate"
        }
        "dot" => {
            let axes = config.get("dot_axes").filter(|a| !a.is_null()).cloned().unwrap_or(json!(-1));
            let flat =
                |axes: &Vec<Value>| axes.iter().map(|a| a.get(0).unwrap_or(a).clone()).collect::<Vec<_>>();
            let axes = axes.as_array().map(flat).map_or(axes.clone(), Value::from);
            options.insert("axes".to_owned(), axes);
            "Dot"
        }
        other => {
            return Err(Error::unsupported(format!(
                "a Merge of mode {other:?} has no like among later layers"
            )));
        }
    };
    let known = ["name", "trainable", "dtype"].into_iter();
    options.extend(known.filter_map(|key| Some((key.to_owned(), config.get(key)?.clone()))));
    let name = node.get("name").or(config.get("name")).cloned().unwrap_or_default();
    let mut modern = json!({"class_name": class, "name": name, "config": options});
    if let (Some(calls), Value::Object(modern)) = (node.get("inbound_nodes"), &mut modern) {
        modern.insert("inbound_nodes".to_owned(), calls.clone());
    }
    Ok(modern)
}

/// The config of the Functional model that a Sequential one is whose first layer merges others; `None` for any other.
///
/// # Errors
/// When a branch doesn't say its input's shape, or isn't a Sequential model.
pub(super) fn branched(name: &str, layers: &[Value]) -> Result<Option<Object>> {
    if branches(layers).is_none() {
        return Ok(None);
    }
    let mut flat = Flat::default();
    let output = flat.chain(layers, 0)?;
    let inputs: Vec<Value> = flat.inputs.iter().map(|input| json!([input, 0, 0])).collect();
    let mut config = Object::new();
    config.insert("name".to_owned(), json!(name));
    config.insert("layers".to_owned(), Value::Array(flat.layers));
    config.insert("input_layers".to_owned(), Value::Array(inputs));
    config.insert("output_layers".to_owned(), json!([[output, 0, 0]]));
    Ok(Some(config))
}

/// The layers that the first one merges.
fn branches(layers: &[Value]) -> Option<&Vec<Value>> {
    let first = layers.first().filter(|l| l.get("class_name").and_then(Value::as_str) == Some(MERGE))?;
    first.pointer("/config/layers").and_then(Value::as_array).filter(|held| !held.is_empty())
}

#[derive(Default)]
struct Flat {
    layers: Vec<Value>,
    inputs: Vec<String>,
}

impl Flat {
    /// Adds layers one after the other; gives the last one's name.
    fn chain(&mut self, layers: &[Value], depth: usize) -> Result<String> {
        const DEEPEST: usize = 64;
        if depth > DEEPEST {
            return Err(Error::limit("branches within branches, too deep"));
        }
        let mut last: Option<String> = None;
        for (i, layer) in layers.iter().enumerate() {
            let class = layer.get("class_name").and_then(Value::as_str).unwrap_or_default();
            let sources = match (class, &last) {
                (MERGE, None) => {
                    let held = branches(layers.get(i..).unwrap_or_default());
                    let held = held.ok_or_else(|| Error::corrupt("a Merge that merges nothing"))?;
                    held.iter().map(|branch| self.branch(branch, depth)).collect::<Result<Vec<_>>>()?
                }
                ("Sequential", None) => {
                    last = Some(self.branch(layer, depth)?);
                    continue;
                }
                ("InputLayer", None) => {
                    last = Some(self.input(layer)?);
                    continue;
                }
                (_, Some(last)) => vec![last.clone()],
                (_, None) => vec![self.input(layer)?],
            };
            last = Some(self.push(layer, &sources)?);
        }
        last.ok_or_else(|| Error::corrupt("a branch without layers"))
    }

    fn branch(&mut self, branch: &Value, depth: usize) -> Result<String> {
        match (branch.get("class_name").and_then(Value::as_str), branch.get("config")) {
            (Some("Sequential"), Some(Value::Array(layers))) => self.chain(layers, depth + 1),
            (Some("Sequential"), Some(Value::Object(config))) => {
                let layers = config.get("layers").and_then(Value::as_array);
                self.chain(layers.ok_or_else(|| expected("a Sequential model's layers", branch))?, depth + 1)
            }
            (Some("Model" | "Functional"), _) => {
                Err(Error::unsupported("a Merge of a model that isn't Sequential"))
            }
            _ => self.chain(std::slice::from_ref(branch), depth + 1),
        }
    }

    /// Adds the InputLayer that a branch's first layer says.
    fn input(&mut self, layer: &Value) -> Result<String> {
        let config = layer.get("config").and_then(Value::as_object);
        let config = config.ok_or_else(|| expected("a layer with a config", layer))?;
        let shape = config.get("batch_input_shape").cloned();
        let shape =
            shape.ok_or_else(|| Error::missing("a branch of a Merge doesn't say its input's shape"))?;
        let dtype = config.get("input_dtype").or(config.get("dtype")).cloned().unwrap_or(json!("float32"));
        let name = format!("{}_input", self.name(layer));
        let config = json!({"name": name, "batch_input_shape": shape, "dtype": dtype});
        self.layers
            .push(json!({"class_name": "InputLayer", "name": name, "config": config, "inbound_nodes": []}));
        self.inputs.push(name.clone());
        Ok(name)
    }

    fn name(&self, layer: &Value) -> String {
        let named = layer.pointer("/config/name").or(layer.get("name")).and_then(Value::as_str);
        let class = layer.get("class_name").and_then(Value::as_str).unwrap_or("layer");
        named.map_or_else(|| format!("{}_{}", class.to_ascii_lowercase(), self.layers.len()), str::to_owned)
    }

    fn push(&mut self, layer: &Value, sources: &[String]) -> Result<String> {
        let name = self.name(layer);
        let Value::Object(mut node) = layer.clone() else { return Err(expected("a layer", layer)) };
        let call: Vec<Value> = sources.iter().map(|s| json!([s, 0, 0])).collect();
        node.insert("name".to_owned(), json!(name));
        node.insert("inbound_nodes".to_owned(), json!([call]));
        if let Some(Value::Object(config)) = node.get_mut("config") {
            config.insert("name".to_owned(), json!(name));
            config.shift_remove("layers");
        }
        self.layers.push(Value::Object(node));
        Ok(name)
    }
}
