//! Layers whose computation is Python's own, or another library's: their configs are kept, they don't run.

use std::borrow::Cow;

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, ErrorKind, Held, Result};
use serde_json::Value;

use super::Entry;
use super::operation::base64;
use crate::config::{Fields, Initializer, Object};
use crate::layer::Sublayer;
use crate::marshal::Code;
use crate::{Call, Inputs, Instance, Layer, Spec, WeightSpec};

macro_rules! foreign {
    ($($class:literal: $what:literal;)*) => {
        pub(super) const LAYERS: &[Entry] = &[
            $(Entry::made(&[$class], || Box::new(Foreign::new(Cow::Borrowed($class), $what))),)*
        ];
    };
}

foreign! {
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
    class: Cow<'static, str>,
    what: &'static str,
    config: Object,
    /// The weights that a file holds for it, and whether training changes each, where it stands in for a layer that can't be
    /// had here.
    held: Vec<(Held, bool)>,
}

impl Foreign {
    fn new(class: Cow<'static, str>, what: &'static str) -> Self {
        Foreign { class, what, config: Object::new(), held: Vec::new() }
    }

    /// A layer of a class that nobody registered.
    pub(crate) fn unknown(class: &str) -> Self {
        Foreign::new(Cow::Owned(class.to_owned()), "nothing here knows the class")
    }

    /// What its config says.
    pub(crate) fn config(&self) -> &Object {
        &self.config
    }

    /// Why it doesn't run.
    pub(crate) fn reason(&self) -> &'static str {
        self.what
    }

    /// The same layer with the weights that a file holds for it, in the file's order, and whether training changes each.
    pub(crate) fn standing_in(&self, held: &[(Held, bool)]) -> Self {
        Foreign { held: held.to_vec(), ..self.clone() }
    }

    /// The attribute that holds a part of the layer, and the part's name: a layer that its config has, under either name.
    fn part<'a>(&'a self, of: &'a str) -> (&'a str, &'a str) {
        let own = |(key, value): (&'a String, &'a Value)| {
            let name = value.pointer("/config/name")?.as_str()?;
            (name == of || key == of).then_some((key.as_str(), name))
        };
        self.config.iter().find_map(own).unwrap_or((of, of))
    }

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
        let is_code = self.config.get("function_type").and_then(Value::as_str) == Some("lambda");
        if let Some(name) = function.and_then(Value::as_str).filter(|_| !is_code) {
            return format!("the function is called {name:?}");
        }
        // Keras 2 has the code first in a list, Keras 3 in an object; the first versions had it alone.
        let code = function.and_then(|f| f.pointer("/config/code").or(f.get(0)).or(Some(f))).and_then(Value::as_str);
        let bytes = code.and_then(|code| base64(code).or_else(|| raw(code)));
        if let Some(name) = function.and_then(|f| f.pointer("/config")).and_then(Value::as_str) {
            return format!("the function is called {name:?}");
        }
        let Some(bytes) = bytes else { return String::new() };
        if let Some(code) = Code::read(&bytes) {
            return code.told();
        }
        // Where it is cut short, or of no known version, what looks like a text may be one.
        let names = texts(&bytes);
        if names.is_empty() { String::new() } else { format!("its bytecode has the names {}", names.join(", ")) }
    }
}

/// The bytes that Keras before 2.1 wrote as a character each.
fn raw(code: &str) -> Option<Vec<u8>> {
    code.chars().map(|c| u8::try_from(c).ok()).collect()
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
            // Names in code of Python 2 are `s` or `t`, and so is the code itself, which isn't text.
            b'a' | b'A' | b'u' | b't' | b's' => {
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
        &self.class
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

    fn weights(&self, _: &Inputs) -> Result<Vec<WeightSpec>> {
        let own = self.held.iter().filter_map(|(held, trained)| match &held.path[..] {
            [name] => {
                let weight = WeightSpec::new(name, held.shape.clone(), &Initializer::Zeros).dtype(held.dtype);
                Some(if *trained { weight } else { weight.fixed() })
            }
            _ => None,
        });
        Ok(own.collect())
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        let mut parts: Vec<(&str, Vec<(Held, bool)>)> = Vec::new();
        for (held, trained) in &self.held {
            let Some((first, rest)) = held.path.split_first().filter(|(_, rest)| !rest.is_empty()) else { continue };
            let inner = (Held { path: rest.to_vec(), ..held.clone() }, *trained);
            match parts.iter_mut().find(|(name, _)| name == first) {
                Some((_, list)) => list.push(inner),
                None => parts.push((first, vec![inner])),
            }
        }
        let part = |(of, held): (&str, Vec<(Held, bool)>)| {
            let (attribute, name) = self.part(of);
            let layer = Foreign { held, ..Foreign::new(Cow::Owned(name.to_owned()), self.what) };
            Sublayer::new(attribute, &Instance::from(layer).named(name), inputs.all().to_vec())
        };
        Ok(parts.into_iter().map(part).collect())
    }

    fn states(&self, _: &Inputs) -> Result<Vec<Spec>> {
        Err(self.refusal())
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
        let lambda = Foreign { config, ..Foreign::new(Cow::Borrowed("Lambda"), "it calls a function of Python's") };
        let refusal = lambda.refusal();
        assert_eq!(refusal.kind(), ErrorKind::UnknownClass);
        assert!(refusal.to_string().contains("scale") && refusal.to_string().contains("registry.register"), "{refusal}");
        let named = json!({"class_name": "function", "config": "double", "module": "mine"});
        let config = Object::from_iter([("function".to_owned(), named)]);
        assert!(Foreign { config, ..lambda }.refusal().to_string().contains("\"double\""));
    }

    #[test]
    fn code_of_the_first_versions_is_read_too() {
        // As Python 2.7 marshals it, a character a byte.
        let code = "c\u{1}\0\0\0s\u{4}\0\0\0|\0\0St\u{4}\0\0\0relut\u{1}\0\0\0xs\u{6}\0\0\0<here>";
        let config = |function| {
            let kind = ("function_type".to_owned(), json!("lambda"));
            Object::from_iter([("function".to_owned(), function), kind])
        };
        for function in [json!(code), json!([code, null, null])] {
            let lambda = Foreign { config: config(function), ..Foreign::new(Cow::Borrowed("Lambda"), "") };
            assert_eq!(lambda.seen(), "its bytecode has the names relu, x");
        }
    }

    #[test]
    fn damaged_code_has_no_texts() {
        assert!(texts(b"z\xff").is_empty() && texts(b"a\x01\0\0").is_empty());
    }
}
