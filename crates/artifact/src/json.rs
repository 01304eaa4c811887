//! JSON as Python writes it: with numbers that aren't finite, which JSON hasn't, and in ASCII alone.

use serde_json::Value;

use crate::{Error, Limits, Result};

/// What stands before the name of a number that isn't finite, in a text of the parsed value. No text has it.
const MARK: char = '\u{fffe}';
const NAMES: [(&str, f64); 3] =
    [("-Infinity", f64::NEG_INFINITY), ("Infinity", f64::INFINITY), ("NaN", f64::NAN)];

/// Parses a text as Python's `json` does: `NaN`, `Infinity` and `-Infinity` are numbers, which [`number`] gives.
///
/// # Errors
/// When it isn't JSON, or longer than the limit.
pub fn parse_json(text: &[u8], limits: &Limits) -> Result<Value> {
    if text.len() as u64 > limits.text_bytes {
        return Err(Error::limit(format!("its text of {} bytes is over the limit", text.len())));
    }
    serde_json::from_slice(text).or_else(|e| {
        let marked = std::str::from_utf8(text).ok().and_then(marked);
        let parsed = marked.and_then(|t| serde_json::from_str(&t).ok());
        parsed.ok_or_else(|| Error::corrupt("this isn't valid JSON").because(e))
    })
}

/// The text with its bare numbers that aren't finite as marked strings, if it has some.
fn marked(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut found = false;
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            let mut escaped = false;
            let end = rest.char_indices().skip(1).find(|&(_, c)| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let (string, after) = rest.split_at_checked(end?.0 + 1)?;
            out.push_str(string);
            rest = after;
        } else if let Some((name, _)) = NAMES.iter().find(|(name, _)| rest.starts_with(name)) {
            out.extend(['"', MARK]);
            out.push_str(name);
            out.push('"');
            rest = rest.strip_prefix(name)?;
            found = true;
        } else {
            out.push(c);
            rest = rest.strip_prefix(c)?;
        }
    }
    found.then_some(out)
}

/// A number of a parsed JSON text, finite or not.
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::String(text) => {
            let name = text.strip_prefix(MARK)?;
            NAMES.iter().find(|(n, _)| *n == name).map(|(_, number)| *number)
        }
        _ => None,
    }
}

/// The value of a number, finite or not.
pub fn number_value(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or_else(
        || {
            let of = |n: f64| n == number || (n.is_nan() && number.is_nan());
            let name = NAMES.iter().find(|(_, n)| of(*n)).map_or("NaN", |(name, _)| name);
            Value::String(format!("{MARK}{name}"))
        },
        Value::Number,
    )
}

/// The text of a value in ASCII alone, as Python writes it by default.
pub fn json_text(value: &Value) -> String {
    let mut text = value.to_string();
    if text.contains(MARK) {
        for (name, _) in NAMES {
            text = text.replace(&format!("\"{MARK}{name}\""), name);
        }
    }
    if text.is_ascii() {
        return text;
    }
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_kept() {
        let text = r#"{"a": [NaN, -Infinity, 1.5], "NaN": "Infinity \" NaN", "b": Infinity}"#;
        let value = parse_json(text.as_bytes(), &Limits::default()).expect("JSON");
        assert_eq!(number(&value["b"]), Some(f64::INFINITY));
        assert_eq!(number(&value["a"][1]), Some(f64::NEG_INFINITY));
        assert!(number(&value["a"][0]).is_some_and(f64::is_nan));
        assert_eq!((number(&value["NaN"]), number(&json!("NaN"))), (None, None));
        assert_eq!(json_text(&value), text.replace(": ", ":").replace(", ", ","));
        assert_eq!(number_value(f64::INFINITY), value["b"]);
        assert_eq!(number_value(0.5), json!(0.5));
    }

    #[test]
    fn text_is_ascii_and_the_same_json() {
        let value = json!({"name": "naïve 🙂", "x": [1, 2.5, null]});
        let text = json_text(&value);
        assert!(text.is_ascii());
        assert_eq!(parse_json(text.as_bytes(), &Limits::default()).expect("JSON"), value);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["{", "NaN NaN", "\"NaN", "Infinit"] {
            assert!(parse_json(text.as_bytes(), &Limits::default()).is_err(), "{text}");
        }
    }
}
