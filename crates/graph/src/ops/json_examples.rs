//! `tf.train.Example` as JSON, made the message that it stands for.

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::DecodePaddingMode;
use serde_json::{Map, Value};

use super::Op;
use super::args::map1;
use super::wire::Message;
use crate::tensor::{Error, Result, Tensor};

fn wrong(what: &str, got: &Value) -> Error {
    let shown: String = got.to_string().chars().take(60).collect();
    Error::value(format!("the JSON of an example has {shown} where {what} belongs"))
}

/// The members of an object; none where it is `null`.
fn members<'a>(value: &'a Value, what: &str) -> Result<Box<dyn Iterator<Item = (&'a String, &'a Value)> + 'a>> {
    match value {
        Value::Null => Ok(Box::new(std::iter::empty())),
        Value::Object(map) => Ok(Box::new(Map::iter(map).filter(|(_, v)| !v.is_null()))),
        other => Err(wrong(what, other)),
    }
}

/// A message of one field, if the object has it.
fn only(value: &Value, field: &str, read: impl Fn(&Value) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let mut m = Message::default();
    for (name, inner) in members(value, &format!("an object with {field:?}"))? {
        if name != field {
            return Err(Error::value(format!("the JSON of an example has {name:?} where {field:?} belongs")));
        }
        m.bytes(1, &read(inner)?);
    }
    Ok(m.finish())
}

fn example(text: &[u8]) -> Result<Vec<u8>> {
    let value: Value =
        serde_json::from_slice(text).map_err(|e| Error::value(format!("an example isn't JSON: {e}")))?;
    if !value.is_object() {
        return Err(wrong("an object", &value));
    }
    only(&value, "features", |features| {
        let mut m = Message::default();
        for (name, map) in members(features, "an object with \"feature\"")? {
            if name != "feature" {
                return Err(Error::value(format!("the JSON of an example has {name:?} where \"feature\" belongs")));
            }
            for (key, value) in members(map, "an object of features")? {
                let mut entry = Message::default();
                entry.bytes(1, key.as_bytes()).bytes(2, &feature(value)?);
                m.bytes(1, &entry.finish());
            }
        }
        Ok(m.finish())
    })
}

/// Adds a list's values to its message.
type Write = fn(&mut Message, &[Value]) -> Result<()>;

/// A feature: one of three lists.
fn feature(value: &Value) -> Result<Vec<u8>> {
    let mut m = Message::default();
    for (i, (name, list)) in members(value, "a feature")?.enumerate() {
        if i > 0 {
            return Err(Error::value("a feature of an example has two lists"));
        }
        let (field, write): (u64, Write) = match name.as_str() {
            "bytesList" | "bytes_list" => (1, bytes),
            "floatList" | "float_list" => (2, floats),
            "int64List" | "int64_list" => (3, ints),
            other => return Err(Error::value(format!("a feature of an example has no list {other:?}"))),
        };
        let mut inner = Message::default();
        for (name, values) in members(list, "an object with \"value\"")? {
            match values {
                Value::Array(values) if name == "value" => write(&mut inner, values)?,
                // One value is a list of one.
                one if name == "value" => write(&mut inner, std::slice::from_ref(one))?,
                other => return Err(wrong("a list \"value\"", other)),
            }
        }
        m.bytes(field, &inner.finish());
    }
    Ok(m.finish())
}

fn bytes(m: &mut Message, values: &[Value]) -> Result<()> {
    /// With padding or without.
    const LAX: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
    for value in values {
        let text = value.as_str().ok_or_else(|| wrong("text in base64", value))?;
        let alphabet = if text.contains(['-', '_']) { base64::alphabet::URL_SAFE } else { base64::alphabet::STANDARD };
        let decoded = GeneralPurpose::new(&alphabet, LAX).decode(text).map_err(|_| wrong("text in base64", value))?;
        m.bytes(1, &decoded);
    }
    Ok(())
}

fn floats(m: &mut Message, values: &[Value]) -> Result<()> {
    for value in values {
        let number = match value {
            Value::Null => Some(0.0),
            Value::Number(n) => n.as_f64(),
            Value::String(text) => match text.as_str() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                other => other.parse().ok(),
            },
            _ => None,
        };
        let number = number.filter(|v| !v.is_finite() || v.abs() <= f64::from(f32::MAX));
        m.float(1, number.ok_or_else(|| wrong("a float", value))? as f32);
    }
    Ok(())
}

fn ints(m: &mut Message, values: &[Value]) -> Result<()> {
    let whole = |v: f64| (v.fract() == 0.0 && v.abs() < 9.2e18).then_some(v as i64);
    for value in values {
        let number = match value {
            Value::Null => Some(0),
            Value::Number(n) => n.as_i64().or_else(|| n.as_f64().filter(|_| n.is_f64()).and_then(whole)),
            Value::String(text) => text.parse().ok().or_else(|| text.parse().ok().and_then(whole)),
            _ => None,
        };
        m.varint(1, number.ok_or_else(|| wrong("an integer of 64 bits", value))? as u64);
    }
    Ok(())
}

pub(super) const OPS: &[Op] = &[
    Op::new("DecodeJSONExample(json_examples: string) -> (binary_examples: string)", |_| {
        map1(|texts| {
            let messages = texts.strings()?.iter().map(|t| example(t)).collect::<Result<Vec<_>>>()?;
            Tensor::from_strings(messages, texts.shape())
        })
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_example_is_refused() {
        for text in [
            "",
            "[]",
            "{\"features\": 3}",
            "{\"feature\": {}}",
            "{\"features\": {\"features\": {}}}",
            "{\"features\": {\"feature\": {\"a\": {\"floats\": {}}}}}",
            "{\"features\": {\"feature\": {\"a\": {\"floatList\": {\"values\": [3]}}}}}",
            "{\"features\": {\"feature\": {\"a\": {\"int64List\": {\"value\": [0.5]}}}}}",
            "{\"features\": {\"feature\": {\"a\": {\"bytesList\": {\"value\": [\"?\"]}}}}}",
            "{\"features\": {\"feature\": {\"a\": {\"floatList\": {}, \"int64List\": {}}}}}",
        ] {
            assert!(example(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(example(b"{}").expect("an empty one"), b"");
    }
}
