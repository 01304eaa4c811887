//! An architecture as YAML, as `model.to_yaml()` of Keras 1 and 2 gave it.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use modelark_artifact::{
    Artifact, Error, Format, Limits, Needs, Objects, Place, Report, Result, SaveOptions, Target, json_text,
    number_value,
};
use modelark_tensor::{DType, SharedBytes, kernels};
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

use crate::architecture;
use crate::array::{Bytes, Items, StoredArray};

/// `model.yaml`: the architecture alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Yaml;

impl Format for Yaml {
    fn name(&self) -> &'static str {
        "yaml"
    }

    fn description(&self) -> &'static str {
        "architecture as .yaml, no weights"
    }

    fn claims(&self, file_name: &str) -> bool {
        [".yaml", ".yml"].iter().any(|e| file_name.ends_with(e))
    }

    fn detect(&self, place: &Place) -> bool {
        let limits = Limits::default();
        self.claims(&place.name)
            && place.open().is_ok_and(|b| read(&b, &limits).and_then(architecture::of_node).is_ok())
    }

    fn read(&self, place: &Place, limits: &Limits) -> Result<Artifact> {
        let node = read(&place.open()?, limits).and_then(architecture::of_node);
        let architecture = node.map_err(|e| e.in_file(place.label()))?;
        let mut artifact = Artifact::default();
        let version = architecture.keras_version.iter();
        artifact.source.writers = version.map(|v| ("keras".to_owned(), v.clone())).collect();
        artifact.architecture = Some(architecture);
        Ok(artifact)
    }

    fn needs(&self) -> Needs {
        Needs { architecture: true, architecture_alone: true, ..Needs::default() }
    }

    fn write(&self, artifact: &Artifact, target: &Target, _: &SaveOptions) -> Result<Report> {
        let architecture = artifact.architecture.as_ref().ok_or_else(|| {
            Error::missing("there is no architecture to write as YAML").in_file(target.path())
        })?;
        // JSON is YAML, too, and leaves nothing to how a reader resolves bare words.
        target.write(&target.name(), architecture::write(architecture).as_bytes())?;
        let mut report = Report::default();
        if !artifact.objects.variables().is_empty() {
            report.note("the weights were left behind");
        }
        Ok(report)
    }

    fn bind(&self, _: &mut Objects, _: &Artifact) -> Result<Report> {
        Err(Error::missing("a .yaml has no weights")
            .help("name a file of weights, or have them drawn from a seed"))
    }
}

/// A config has far fewer values; aliases can make many of few bytes.
const MOST_VALUES: usize = 1 << 20;

/// Reads a document into the values that JSON has. Tags name types of Python's and are passed over: nothing is made of
/// them, but for the numbers of NumPy, which are numbers here, and TensorFlow's wrappers, which are what they wrap. An alias stands for a copy of what it refers to, within the limits.
///
/// # Errors
/// When it isn't YAML, or asks for more than the limits allow.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<Value> {
    if bytes.len() as u64 > limits.text_bytes {
        return Err(Error::limit(format!("the text has {} bytes", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::corrupt("this isn't UTF-8"))?;
    let mut reader =
        Reader { anchors: HashMap::new(), left: limits.items.min(MOST_VALUES), open: Vec::new(), root: None };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| Error::corrupt("this isn't YAML").because(e))?;
        let here = |e: Error| e.at(format!("line {}", span.start.line()));
        if reader.open.len() > limits.depth {
            return Err(here(Error::limit("its values nest too deep")));
        }
        reader.take(event).map_err(here)?;
    }
    reader.root.ok_or_else(|| Error::corrupt("this YAML is empty"))
}

/// A sequence or a mapping that isn't closed yet, with its anchor.
struct Open {
    anchor: usize,
    value: Value,
    /// Of a mapping: the key whose value comes next.
    key: Option<String>,
    /// What Python made of it.
    made: Option<Made>,
}

/// What a tag says that Python made of a value, of which nothing is made here.
#[derive(Clone, Copy)]
enum Made {
    /// `numpy.dtype`, made by its code.
    DType,
    /// A number of NumPy's, made of its dtype and its bytes.
    Scalar,
    /// `ListWrapper` and its kin, by which TensorFlow follows what a list or a dict holds; made of that list or dict.
    Wrapper,
}

impl Made {
    fn of_tag(tag: &str) -> Option<Self> {
        let (_, name) = tag.split_once("python/object/apply:")?;
        let (module, class) = name.rsplit_once('.')?;
        match class {
            "dtype" if module == "numpy" => Some(Made::DType),
            "scalar" if module.starts_with("numpy.") => Some(Made::Scalar),
            "ListWrapper" | "_DictWrapper" | "_TupleWrapper" => Some(Made::Wrapper),
            _ => None,
        }
    }

    /// The dtype's code, the number, or what is wrapped.
    fn value(self, made_of: &Value) -> Result<Value> {
        match self {
            Made::Wrapper => {
                let held = made_of.pointer("/args/0").or_else(|| made_of.get(0));
                held.cloned().ok_or_else(|| Error::corrupt("a wrapper of TensorFlow's wraps nothing"))
            }
            Made::DType => {
                let code = made_of.pointer("/args/0").or_else(|| made_of.get(0)).and_then(Value::as_str);
                let order = made_of.pointer("/state/1").and_then(Value::as_str).filter(|o| *o == ">");
                let code = code.ok_or_else(|| Error::corrupt("a dtype of NumPy's has no code"))?;
                Ok(Value::from(format!("{}{code}", order.unwrap_or_default())))
            }
            Made::Scalar => {
                let text = |i: usize| made_of.get(i).and_then(Value::as_str);
                let parts = text(0).zip(text(1));
                let (dtype, data) =
                    parts.ok_or_else(|| Error::corrupt("a number of NumPy's has no dtype or no bytes"))?;
                number(dtype, data).map_err(|e| e.at("a number of NumPy's"))
            }
        }
    }
}

/// The number of these bytes, which are in base64, or, as Python 2 wrote them, a character each.
fn number(dtype: &str, data: &str) -> Result<Value> {
    let dense: String = data.split_ascii_whitespace().collect();
    let raw = || data.chars().map(|c| u8::try_from(c).ok()).collect::<Option<Vec<u8>>>();
    let bytes = STANDARD.decode(dense).ok().or_else(raw);
    let bytes = bytes.ok_or_else(|| Error::corrupt("its bytes can't be read"))?;
    let bytes = Bytes::Here(SharedBytes::from(bytes));
    let tensor =
        StoredArray::new(Items::parse(dtype)?, Vec::new(), false, bytes, &Limits::default())?.tensor()?;
    let dtype = tensor.dtype();
    if dtype == DType::Bool || dtype.is_integer() {
        let number = kernels::array::cast(&tensor, DType::I64)?.item::<i64>()?;
        return Ok(if dtype == DType::Bool { Value::from(number != 0) } else { Value::from(number) });
    }
    Ok(number_value(kernels::array::cast(&tensor, DType::F64)?.item::<f64>()?))
}

struct Reader {
    anchors: HashMap<usize, (Value, usize)>,
    /// How many values more there may be.
    left: usize,
    open: Vec<Open>,
    root: Option<Value>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::Alias(anchor) => {
                let found = self.anchors.get(&anchor).cloned();
                let (value, size) =
                    found.ok_or_else(|| Error::corrupt("an alias refers to nothing before it"))?;
                self.count(size)?;
                self.put(value)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1)?;
                let is_text = tag.is_some_and(|t| t.suffix.ends_with("str") || t.suffix.ends_with("unicode"));
                let plain = style == ScalarStyle::Plain && !is_text;
                let value = if plain { scalar(&text) } else { Value::from(&*text) };
                self.close(anchor, value)
            }
            Event::SequenceStart(anchor, tag) => {
                let made = tag.and_then(|t| Made::of_tag(&t.suffix));
                self.begin(Open { anchor, value: Value::Array(Vec::new()), key: None, made })
            }
            Event::MappingStart(anchor, tag) => {
                let made = tag.and_then(|t| Made::of_tag(&t.suffix));
                self.begin(Open { anchor, value: Value::Object(Map::new()), key: None, made })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open { key: Some(key), .. }) => {
                    Err(Error::corrupt(format!("the key {key:?} has no value")))
                }
                Some(Open { anchor, value, made: Some(made), .. }) => self.close(anchor, made.value(&value)?),
                Some(Open { anchor, value, .. }) => self.close(anchor, value),
                None => Err(Error::corrupt("something ends that didn't begin")),
            },
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(Error::corrupt("there is more than one document"))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<()> {
        self.count(1)?;
        self.open.push(open);
        Ok(())
    }

    fn count(&mut self, values: usize) -> Result<()> {
        self.left = self.left.checked_sub(values).ok_or_else(|| Error::limit("it has too many values"))?;
        Ok(())
    }

    fn close(&mut self, anchor: usize, value: Value) -> Result<()> {
        if anchor != 0 {
            self.anchors.insert(anchor, (value.clone(), size(&value)));
        }
        self.put(value)
    }

    fn put(&mut self, value: Value) -> Result<()> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(value);
            return Ok(());
        };
        match (&mut open.value, open.key.take()) {
            (Value::Array(items), _) => items.push(value),
            (Value::Object(items), Some(key)) => drop(items.insert(key, value)),
            (_, None) => open.key = Some(key(value)),
            _ => {}
        }
        Ok(())
    }
}

/// A key of a mapping: JSON has texts alone.
fn key(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => json_text(&other),
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(items) => items.values().map(size).sum(),
        _ => 0,
    }
}

/// A bare word, as PyYAML resolves it.
fn scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "on" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "off" => return Value::Bool(false),
        ".inf" | "+.inf" => return number_value(f64::INFINITY),
        "-.inf" => return number_value(f64::NEG_INFINITY),
        ".nan" => return number_value(f64::NAN),
        _ => {}
    }
    if let Ok(integer) = text.parse::<i64>() {
        return Value::from(integer);
    }
    // Words such as `inf` are texts.
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    match text.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => number_value(number),
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Dialect;
    use serde_json::json;

    use super::*;

    const KERAS: &str = "backend: tensorflow
class_name: Sequential
config:
  layers:
  - class_name: Dense
    config:
      activation: relu
      batch_input_shape: !!python/tuple
      - null
      - 4
      kernel_initializer: &id001
        class_name: VarianceScaling
        config: {distribution: uniform, mode: fan_avg, scale: 1.0, seed: null}
      name: 'dense_1'
      units: 3
      use_bias: true
  - class_name: Dense
    config: {activation: linear, kernel_initializer: *id001, name: dense_2, units: 1, epsilon: 1.0e-07}
  name: sequential
keras_version: 2.2.4
";

    #[test]
    fn what_keras_wrote_is_read() {
        let node = read(KERAS.as_bytes(), &Limits::default()).expect("YAML");
        assert_eq!(node.pointer("/config/layers/0/config/batch_input_shape"), Some(&json!([null, 4])));
        let second = node.pointer("/config/layers/1/config").expect("config");
        assert_eq!(second["kernel_initializer"]["config"]["scale"], 1.0);
        assert_eq!(second["epsilon"], 1e-7);
        let architecture = architecture::of_node(node).expect("architecture");
        assert_eq!(
            (architecture.dialect, architecture.keras_version.as_deref()),
            (Dialect::Keras2, Some("2.2.4"))
        );
        let again = architecture::write(&architecture);
        let again =
            read(again.as_bytes(), &Limits::default()).and_then(architecture::of_node).expect("again");
        assert_eq!(again, architecture);
    }

    #[test]
    fn numbers_of_numpy_are_numbers() {
        let text = "rate: !!python/object/apply:numpy.core.multiarray.scalar
- &id001 !!python/object/apply:numpy.dtype
  args: [f8, 0, 1]
  state: !!python/tuple [3, '<', null, null, null, -1, -1, 0]
- !!binary |
  AAAAAAAA4D8=
units: !!python/object/apply:numpy._core.multiarray.scalar
- !!python/object/apply:numpy.dtype
  args: [i4, false, true]
  state: !!python/tuple [3, '>', null, null, null, -1, -1, 0]
- !!binary |
  AAAAAw==
again: !!python/object/apply:numpy.core.multiarray.scalar
- *id001
- \"\\0\\0\\0\\0\\0\\0\\xE0?\"
";
        let read_text = |text: &str| read(text.as_bytes(), &Limits::default());
        assert_eq!(read_text(text).expect("YAML"), json!({"rate": 0.5, "units": 3, "again": 0.5}));
        let short = text.replace("AAAAAw==", "AAAA");
        assert!(read_text(&short).expect_err("three bytes").to_string().contains("line"));
    }

    #[test]
    fn wrappers_are_what_they_wrap() {
        let text =
            "axis: !!python/object/apply:tensorflow.python.training.tracking.data_structures.ListWrapper
- [3]
held: !!python/object/apply:tensorflow.python.trackable.data_structures._DictWrapper
  args:
  - {a: 1}
pair: !!python/object/apply:tensorflow.python.training.tracking.data_structures._TupleWrapper
- !!python/tuple [1, null]
";
        let read_text = |text: &str| read(text.as_bytes(), &Limits::default());
        assert_eq!(read_text(text).expect("YAML"), json!({"axis": [3], "held": {"a": 1}, "pair": [1, null]}));
        assert!(read_text(&text.replace("- [3]", "[]")).is_err());
    }

    #[test]
    fn aliases_do_not_grow_without_bound() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let items = vec![format!("*a{}", i - 1); 9].join(", ");
            text += &format!("a{i}: &a{i} [{items}]\n");
        }
        let error = read(text.as_bytes(), &Limits::default()).expect_err("too large").to_string();
        assert!(error.contains("too many values"), "{error}");
    }

    #[test]
    fn damage_is_an_error() {
        for text in ["", "[1, 2", "a: *b", "a: 1\n---\nb: 2", "{a"] {
            assert!(read(text.as_bytes(), &Limits::default()).is_err(), "{text:?}");
        }
        assert!(read("[".repeat(10_000).as_bytes(), &Limits::default()).is_err());
    }
}
