//! `TensorFlowOpLayer`: one of TensorFlow's ops as it stands in a graph, which Keras 2.0 to 2.3 of TensorFlow made of
//! ops between layers.

use std::collections::BTreeMap;

use modelark_artifact::graph::{Attr, Sym};
use modelark_artifact::tensor::{DType, PartialShape};
use modelark_artifact::{Dialect, Error, Result};
use serde_json::Value;

use super::probe::Probed;
use crate::config::{Fields, numbers};
use crate::{Call, Inputs, Layer, Spec};

/// A node of a graph, with constants among its inputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TensorFlowOpLayer {
    node_def: Value,
    constants: BTreeMap<usize, Value>,
    probed: Probed,
}

impl TensorFlowOpLayer {
    /// The name that Keras was given, to which it adds a prefix of its own.
    pub(crate) fn given_name(name: &str) -> &str {
        name.strip_prefix("tf_op_layer_").unwrap_or(name)
    }

    fn op(&self) -> Result<&str> {
        self.node_def.get("op").and_then(Value::as_str).ok_or_else(|| {
            Error::unsupported("a TensorFlowOpLayer whose node isn't written as JSON").help("save it as a SavedModel")
        })
    }

    /// An attribute's value, as protobuf's JSON has it.
    fn attr(value: &Value) -> Option<Attr> {
        let number = |v: &Value| v.as_i64().or_else(|| v.as_str()?.parse().ok());
        let dtype = |v: &Value| -> Option<DType> {
            let name = v.as_str()?.strip_prefix("DT_")?.to_ascii_lowercase();
            match name.as_str() {
                "float" => Some(DType::F32),
                "double" => Some(DType::F64),
                "half" => Some(DType::F16),
                other => other.parse().ok(),
            }
        };
        let (kind, value) = value.as_object()?.iter().next()?;
        Some(match kind.as_str() {
            "type" => Attr::Type(dtype(value)?),
            "b" => Attr::Bool(value.as_bool()?),
            "i" => Attr::Int(number(value)?),
            "f" => Attr::Float(value.as_f64()? as f32),
            "s" => Attr::String(base64(value.as_str()?)?),
            "shape" => {
                let dims = value.get("dim").and_then(Value::as_array).cloned().unwrap_or_default();
                let dims = dims.iter().map(|d| usize::try_from(number(d.get("size")?)?).ok());
                Attr::Shape(PartialShape::new(dims.collect::<Vec<_>>()))
            }
            "list" => {
                let (kind, items) = value.as_object()?.iter().next()?;
                let items = items.as_array()?.iter().map(|item| {
                    let mut one = serde_json::Map::new();
                    one.insert(kind.clone(), item.clone());
                    Self::attr(&Value::Object(one))
                });
                Attr::List(items.collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }
}

/// Bytes of text in base 64.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| -> Option<u32> {
        Some(match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        }
        .into())
    };
    let (mut out, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b'=') {
        held = (held << 6 | digit(c)?) & 0xff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    Some(out)
}

impl Layer for TensorFlowOpLayer {
    fn class_name(&self) -> &str {
        "TensorFlowOpLayer"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("node_def", &mut self.node_def);
        let mut constants = Value::Object(
            self.constants.iter().map(|(i, v)| (i.to_string(), v.clone())).collect(),
        );
        f.field("constants", &mut constants);
        let named = constants.as_object().into_iter().flatten();
        self.constants = named.filter_map(|(i, v)| Some((i.parse().ok()?, v.clone()))).collect();
        f.only_in(Dialect::Keras2);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let found = self.probed.output(inputs, &|call, given| self.call(call, given));
        // What can't be traced says so when the model is to run.
        Ok(found.unwrap_or_else(|_| vec![Spec::unknown(inputs.first().map_or(DType::F32, |s| s.dtype))]))
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let mut all: Vec<Sym> = given.to_vec();
        for (&index, value) in &self.constants {
            let dtype = given.first().map_or(DType::F32, |&x| call.dtype(x));
            let items = value.as_array().cloned();
            let flat: Vec<f64> = match &items {
                Some(items) => items.iter().filter_map(Value::as_f64).collect(),
                None => value.as_f64().into_iter().collect(),
            };
            // Axes and shapes are integers, whatever the input is.
            let whole = value.as_i64().is_some() || items.iter().flatten().all(Value::is_i64) && items.is_some();
            let arithmetic = matches!(self.op()?, "AddV2" | "Add" | "Mul" | "Sub" | "RealDiv" | "Pow" | "Maximum" | "Minimum");
            let dtype = if whole && !arithmetic { DType::I32 } else { dtype };
            let shape: Vec<usize> = items.iter().map(Vec::len).collect();
            let constant = call.constant(numbers(&flat, &shape, dtype)?)?;
            all.insert(index.min(all.len()), constant);
        }
        let op = self.op()?.to_owned();
        let mut made = call.op(&op).inputs(&all);
        for (name, value) in self.node_def.get("attr").and_then(Value::as_object).into_iter().flatten() {
            if let Some(attr) = Self::attr(value).filter(|_| !name.starts_with('_')) {
                made = made.attr(name, attr);
            }
        }
        Ok(made.all()?)
    }

    fn autocasts(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64_is_read() {
        assert_eq!(base64("VkFMSUQ=").as_deref(), Some(&b"VALID"[..]));
        assert_eq!(base64("a!"), None);
    }
}
