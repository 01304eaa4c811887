//! Layers whose computation is Python's own, or another library's: their configs are kept, they don't run.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, ErrorKind, Result};
use serde_json::Value;

use super::Entry;
use super::operation::base64;
use crate::config::{Fields, Object};
use crate::{Call, Inputs, Layer, Spec};

macro_rules! foreign {
    ($($class:literal: $what:literal;)*) => {
        pub(super) const LAYERS: &[Entry] = &[
            $(Entry::made(&[$class], || Box::new(Foreign { class: $class, what: $what, config: Object::new() })),)*
        ];
    };
}

foreign! {
    "DenseFeatures": "it computes what feature columns of TensorFlow 1 say";
    "FlaxLayer": "it calls a module of Flax's";
    "JaxLayer": "it calls a function of JAX's";
    "Lambda": "it calls a function of Python's";
    "TFSMLayer": "it calls a SavedModel at a path of the machine that it was made on";
    "TorchModuleWrapper": "it calls a module of PyTorch's";
}

/// A layer that can be read and written, but not run: its computation isn't in its config, or is code, which is never
/// executed (Keras: `Lambda`, `TFSMLayer` and others).
#[derive(Debug, Clone, PartialEq)]
pub struct Foreign {
    class: &'static str,
    what: &'static str,
    config: Object,
}

impl Foreign {
    fn refusal(&self) -> Error {
        let seen = self.seen();
        let about = if seen.is_empty() { String::new() } else { format!("; {seen}") };
        let message = format!("a {} doesn't run here: {}{about}", self.class, self.what);
        Error::new(ErrorKind::UnknownClass, message).help(format!(
            "implement `Layer` for a type of your own that computes it and add it with `registry.register({:?}, ..)`; \
             its config tells one from another",
            self.class
        ))
    }

    /// What the code seems to be, by the names and texts in it.
    fn seen(&self) -> String {
        let function = self.config.get("function");
        if let Some(name) = function.and_then(Value::as_str) {
            return format!("the function is called {name:?}");
        }
        // Keras 2 has the code first in a list, Keras 3 in an object.
        let code = function.and_then(|f| f.pointer("/config/code").or(f.get(0))).and_then(Value::as_str);
        let names = code.and_then(base64).map(|bytes| texts(&bytes)).unwrap_or_default();
        let named = function.and_then(|f| f.pointer("/config")).and_then(Value::as_str);
        match (named, names.is_empty()) {
            (Some(name), _) => format!("the function is called {name:?}"),
            (None, false) => format!("its bytecode has the names {}", names.join(", ")),
            (None, true) => String::new(),
        }
    }
}

/// The texts in marshalled code: names, constants, arguments. Nothing of it is executed.
fn texts(bytes: &[u8]) -> Vec<String> {
    const SHOWN: usize = 24;
    let mut found: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(kind) = bytes.get(at) {
        // A reference may be taken of any object: its highest bit says so.
        let (length, start) = match kind & 0x7f {
            b'z' | b'Z' => (bytes.get(at + 1).map(|&l| usize::from(l)), at + 2),
            b'a' | b'A' | b'u' | b't' => {
                let length = bytes.get(at + 1..at + 5).and_then(|l| l.try_into().ok());
                (length.map(|l| u32::from_le_bytes(l) as usize), at + 5)
            }
            _ => (None, at),
        };
        let text = length.filter(|l| (1..=64).contains(l)).and_then(|l| bytes.get(start..start.checked_add(l)?));
        match text.and_then(|t| std::str::from_utf8(t).ok()).filter(|t| t.bytes().all(|c| (b' '..=b'~').contains(&c))) {
            Some(text) => {
                at = start + text.len();
                // Where the code stood isn't what it does.
                let is_place = text.ends_with(".py") || text.starts_with('<') || text.contains('/');
                if !is_place && found.len() < SHOWN && !found.iter().any(|f| f == text) {
                    found.push(text.to_owned());
                }
            }
            None => at += 1,
        }
    }
    found
}

impl Layer for Foreign {
    fn class_name(&self) -> &str {
        self.class
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        if f.is_reading() {
            self.config = f.rest();
            return;
        }
        for (key, value) in &mut self.config {
            f.field(key, value);
        }
    }

    fn output(&self, _: &Inputs) -> Result<Vec<Spec>> {
        Err(self.refusal())
    }

    fn call(&self, _: &mut Call<'_>, _: &[Sym]) -> Result<Vec<Sym>> {
        Err(self.refusal())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lambda_says_what_its_code_names() {
        // `lambda x: tf.nn.relu(x) * scale`, as CPython 3.11 marshals it, shortened to its names.
        let code = "qQN6AnRm2gJublopcmVsdXoFc2NhbGV6AXg=";
        let function = json!({"class_name": "__lambda__", "config": {"code": code}});
        let config = Object::from_iter([("function".to_owned(), function)]);
        let lambda = Foreign { class: "Lambda", what: "it calls a function of Python's", config };
        let refusal = lambda.refusal();
        assert_eq!(refusal.kind(), ErrorKind::UnknownClass);
        assert!(refusal.to_string().contains("scale") && refusal.to_string().contains("registry.register"), "{refusal}");
        let named = json!({"class_name": "function", "config": "double", "module": "mine"});
        let config = Object::from_iter([("function".to_owned(), named)]);
        assert!(Foreign { config, ..lambda }.refusal().to_string().contains("\"double\""));
    }

    #[test]
    fn damaged_code_has_no_texts() {
        assert!(texts(b"z\xff").is_empty() && texts(b"a\x01\0\0").is_empty());
    }
}
