//! Objects within a config: a class and its own config, in the short, the old and the new form.

use std::borrow::Cow;

use modelark_artifact::Result;
use serde_json::{Value, json};

use super::{ConfigValue, Object, Reader, Writer, expected};

/// A class with its config: an initializer, a loss, an optimizer. All forms are read: `"zeros"`,
/// `{"class_name": .., "config": ..}`, and Keras 3's with `module` and `registered_name`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Serialized {
    /// The class, or a function's name.
    pub class: String,
    /// Its config.
    pub config: Object,
    /// Where Python has it, such as `keras.initializers`; empty when the file doesn't say.
    pub module: String,
    /// The name it is registered under, such as `Package>Class`, for custom ones.
    pub registered_name: Option<String>,
    /// Whether only the name was given.
    pub short: bool,
}

impl Serialized {
    /// A class of a module of Keras's own.
    pub fn new(module: &str, class: &str, config: Object) -> Self {
        Serialized { class: class.to_owned(), config, module: module.to_owned(), ..Serialized::default() }
    }

    /// The class without the package it is registered in: `Adam` of `Custom>Adam`.
    pub fn bare_class(&self) -> &str {
        self.class.rsplit('>').next().unwrap_or(&self.class)
    }
}

impl ConfigValue for Serialized {
    fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        match value {
            Value::String(name) => {
                Ok(Serialized { class: name.clone(), short: true, ..Serialized::default() })
            }
            Value::Object(node) => Ok(Serialized {
                class: text("class_name").ok_or_else(|| expected("an object with a class_name", value))?,
                config: match node.get("config") {
                    Some(Value::Object(config)) => config.clone(),
                    None | Some(Value::Null) => Object::new(),
                    // A function: its config is its name.
                    Some(name) => Object::from_iter([("name".to_owned(), name.clone())]),
                },
                module: text("module").unwrap_or_default(),
                registered_name: text("registered_name"),
                short: false,
            }),
            _ => Err(expected("a class with its config", value)),
        }
    }

    fn write(&self, _: &mut Writer) -> Value {
        if self.short {
            return json!(self.class);
        }
        let module = if self.module.is_empty() { Value::Null } else { json!(self.module) };
        if self.class == "function" {
            let name = self.config.get("name").cloned().unwrap_or_default();
            let registered = self.registered_name.clone().map_or_else(|| name.clone(), Value::String);
            return json!({"module": module, "class_name": "function", "config": name, "registered_name": registered});
        }
        json!({
            "module": module,
            "class_name": self.class,
            "config": self.config,
            "registered_name": self.registered_name,
        })
    }
}

/// The same JSON with the tuples and shapes of Keras 2 as plain lists.
///
/// Keras 2 writes `{"class_name": "__tuple__", "items": [..]}` and `{"class_name": "TensorShape", "items": [..]}`.
pub fn plain(value: &Value) -> Cow<'_, Value> {
    if is_plain(value) { Cow::Borrowed(value) } else { Cow::Owned(made_plain(value)) }
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(node) => items_of(node).is_none() && node.values().all(is_plain),
        _ => true,
    }
}

fn made_plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(made_plain).collect(),
        Value::Object(node) => match items_of(node) {
            Some(items) => made_plain(items),
            None => node.iter().map(|(k, v)| (k.clone(), made_plain(v))).collect::<Object>().into(),
        },
        other => other.clone(),
    }
}

/// The items of a tuple or shape.
fn items_of(node: &Object) -> Option<&Value> {
    let class = node.get("class_name").and_then(Value::as_str)?;
    if matches!(class, "__tuple__" | "TensorShape") { node.get("items") } else { None }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Dialect;

    use super::*;
    use crate::Registry;

    #[test]
    fn every_form_is_read_and_written_back() {
        let registry = Registry::default();
        let reader = Reader::new(Dialect::Keras3, &registry);
        for node in [
            json!("zeros"),
            json!({"module": "keras.losses", "class_name": "Huber", "config": {"delta": 0.5}, "registered_name": null}),
            json!({"module": "builtins", "class_name": "function", "config": "f", "registered_name": "f"}),
        ] {
            let value = Serialized::read(&node, &reader).unwrap();
            assert_eq!(value.write(&mut Writer::new(Dialect::Keras3)), node);
        }
        assert!(Serialized::read(&json!({"config": {}}), &reader).is_err());
    }

    #[test]
    fn tuples_become_lists() {
        let tuple = json!({"a": {"class_name": "__tuple__", "items": [1, {"class_name": "TensorShape", "items": [null]}]}});
        assert_eq!(*plain(&tuple), json!({"a": [1, [null]]}));
    }
}
