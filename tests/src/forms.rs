//! The answers of a fixture's files, form by form.

use std::collections::BTreeMap;
use std::path::Path;

use modelark::{Argument, DType, Load, Model, Open, Tensor};
use serde_json::Value;

use crate::compare::{self, Tolerance};
use crate::fixtures::{self, Case};
use crate::{Outcome, gated};

/// One file of a case, and how it is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A whole model of layers: `model.h5`, `model.keras`.
    Whole(String),
    /// An architecture with weights from another file.
    With(String, String),
    /// A SavedModel's folder, under one set of tags; the index in the case's `saved_models`.
    SavedModel(usize),
    /// A checkpoint by its prefix, tensor by tensor.
    Checkpoint(String),
    /// An array or an archive of arrays.
    Array(String),
    /// A frozen GraphDef.
    Frozen(String),
}

/// Weights that go with `model.json`.
const WEIGHTS: &[&str] = &[
    "model.weights.h5",
    "legacy_weights.h5",
    "model.h5",
    "model.keras",
    "save_weights/model",
    "checkpoint/model-1",
    "weights.npy",
    "weights.pkl",
];

/// The forms that a case has.
pub fn of(case: &Case) -> Vec<Form> {
    let mut forms = Vec::new();
    for file in ["model.h5", "model.keras"] {
        if case.has(file) {
            forms.push(Form::Whole(file.to_owned()));
        }
    }
    let architecture = ["model.json", "model.keras", "model.h5"].into_iter().find(|f| case.has(f));
    for weights in WEIGHTS.iter().filter(|w| case.has(w)) {
        match architecture {
            Some(architecture) if architecture != *weights => {
                forms.push(Form::With(architecture.to_owned(), (*weights).to_owned()));
            }
            _ => {}
        }
    }
    let list = |key: &str| case.meta.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    let saved = case.meta.get("saved_models").and_then(Value::as_array).map_or(0, Vec::len);
    forms.extend((0..saved).map(Form::SavedModel));
    forms.extend(list("checkpoints").keys().cloned().map(Form::Checkpoint));
    forms.extend(list("arrays").keys().cloned().map(Form::Array));
    forms.extend(list("graphs").keys().cloned().map(Form::Frozen));
    forms
}

impl Form {
    /// What it is called in a table.
    pub fn label(&self, case: &Case) -> String {
        match self {
            Form::Whole(file) | Form::Checkpoint(file) | Form::Array(file) | Form::Frozen(file) => {
                file.clone()
            }
            Form::With(architecture, weights) => format!("{architecture} + {weights}"),
            Form::SavedModel(index) => {
                let tags = saved(case, *index).and_then(|s| s.get("tags").cloned()).unwrap_or_default();
                format!("{} {tags}", saved_path(case, *index))
            }
        }
    }

    /// Reads the file and holds what it gives against what TensorFlow gave.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, case: &Case) -> Outcome {
        let outcome = self.compare(case);
        // A class that only Python has isn't rebuilt from its config, and the error says whose it is.
        let of_layers = matches!(self, Form::Whole(_) | Form::With(..));
        match outcome {
            Err(refusal)
                if case.model() == "subclassed" && of_layers && refusal.contains("Modelark>Tower") =>
            {
                Ok(refusal)
            }
            Ok(_) if case.model() == "subclassed" && of_layers => {
                Err("a class that isn't known was rebuilt".to_owned())
            }
            other => other,
        }
    }

    fn compare(&self, case: &Case) -> Outcome {
        match self {
            Form::Whole(file) => predicts(case, &load(Load::new(), case, file)?),
            Form::With(file, weights) => {
                predicts(case, &load(Load::new().weights(case.path(weights)), case, file)?)
            }
            Form::SavedModel(index) => saved_model(case, *index),
            Form::Checkpoint(prefix) => checkpoint(case, prefix),
            Form::Array(file) => array(case, file),
            Form::Frozen(file) => frozen(case, file),
        }
    }
}

/// Loads a case's file with the zoo's own layers known.
///
/// # Errors
/// When it can't be loaded.
pub fn load(how: Load, case: &Case, file: &str) -> Outcome<Model> {
    how.registry(gated::registry()).path(case.path(file)).map_err(|e| e.to_string())
}

/// Holds a model's outputs, in order, against the case's.
///
/// # Errors
/// When they differ.
pub fn predicts(case: &Case, model: &Model) -> Outcome {
    let outputs = model.predict(case.inputs()?).map_err(|e| e.to_string())?;
    let expected = case.outputs()?;
    if outputs.len() != expected.len() {
        return Err(format!("{} outputs instead of {}", outputs.len(), expected.len()));
    }
    let mut worst = 0.0f64;
    for (i, (name, actual)) in outputs.iter().enumerate() {
        let difference = compare::close(actual, &expected[i], Tolerance::FLOAT32);
        worst = worst.max(difference.map_err(|e| format!("output {i} ({name}): {e}"))?);
    }
    Ok(format!("{} outputs, at most {worst:.0e} apart", expected.len()))
}

fn saved(case: &Case, index: usize) -> Option<&Value> {
    case.meta.get("saved_models")?.get(index)
}

fn saved_path(case: &Case, index: usize) -> &str {
    saved(case, index).and_then(|s| s.get("path")).and_then(Value::as_str).unwrap_or_default()
}

fn saved_model(case: &Case, index: usize) -> Outcome {
    let about = saved(case, index).ok_or("no such SavedModel")?;
    let tags: Vec<&str> = strings(about.get("tags"));
    let model = with_tags(&case.path(saved_path(case, index)), &tags).map_err(|e| e.to_string())?;
    let (inputs, expected) = (case.arrays("inputs.npz")?, case.arrays("expected.npz")?);
    let mut count = 0;
    for (name, signature) in about.get("signatures").and_then(Value::as_object).into_iter().flatten() {
        let fed: Vec<(String, Tensor)> = strings(signature.get("inputs"))
            .into_iter()
            .filter_map(|i| Some((i.to_owned(), inputs.get(&format!("sig/{name}/{i}"))?.clone())))
            .collect();
        let outputs = model.call(name, fed).map_err(|e| format!("signature {name:?}: {e}"))?;
        let wanted = strings(signature.get("outputs"));
        if outputs.len() != wanted.len() {
            return Err(format!("signature {name:?}: {} outputs instead of {wanted:?}", outputs.len()));
        }
        for output in wanted {
            let actual =
                outputs.get(output).ok_or_else(|| format!("signature {name:?}: no output {output:?}"))?;
            let right = expected.get(&format!("sig/{name}/{output}")).ok_or("an answer is missing")?;
            compare::close(actual, right, Tolerance::FLOAT32)
                .map_err(|e| format!("signature {name:?}, output {output:?}: {e}"))?;
            count += 1;
        }
    }
    for function in about.get("functions").and_then(Value::as_array).into_iter().flatten() {
        count += call(&model, function, &inputs, &expected)?;
    }
    if count == 0 { Err("there is nothing to compare".to_owned()) } else { Ok(format!("{count} outputs")) }
}

/// Runs a frozen graph from the tensors to the tensors that its case names.
fn frozen(case: &Case, file: &str) -> Outcome {
    let about = case.meta.get("graphs").and_then(|g| g.get(file)).ok_or("no such graph")?;
    let names = |key: &str| strings(about.get(key)).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let (given, wanted) = (names("inputs"), names("outputs"));
    let open = Open::new().inputs(given.clone()).outputs(wanted.clone());
    let model = Load::new().open(open).path(case.path(file)).map_err(|e| e.to_string())?;
    let (inputs, expected) = (case.arrays("inputs.npz")?, case.arrays("expected.npz")?);
    let fed = given.into_iter().filter_map(|name| Some((name.clone(), inputs.get(&name)?.clone())));
    let outputs = model.predict(fed.collect::<Vec<_>>()).map_err(|e| e.to_string())?;
    for name in &wanted {
        let actual = outputs.get(name).ok_or_else(|| format!("no output {name:?}"))?;
        let right = expected.get(name).ok_or("an answer is missing")?;
        compare::close(actual, right, Tolerance::FLOAT32).map_err(|e| format!("{name}: {e}"))?;
    }
    if wanted.is_empty() {
        Err("there is nothing to compare".to_owned())
    } else {
        Ok(format!("{} outputs", wanted.len()))
    }
}

/// Loads the graph of a SavedModel that has these tags.
fn with_tags(path: &Path, tags: &[&str]) -> modelark::Result<Model> {
    if tags == ["serve"] {
        return modelark::load(path);
    }
    Load::new().open(Open::new().tags(tags.iter().copied())).path(path)
}

/// Calls a function with its tensors, and what else its trace was given.
fn call(
    model: &Model,
    function: &Value,
    inputs: &BTreeMap<String, Tensor>,
    expected: &BTreeMap<String, Tensor>,
) -> Outcome<usize> {
    let text = |key: &str| function.get(key).and_then(Value::as_str).unwrap_or_default();
    let count = |key: &str| function.get(key).and_then(Value::as_u64).unwrap_or_default();
    let (attribute, prefix) = (text("attribute"), text("prefix"));
    let tensors: Vec<Tensor> =
        (0..count("inputs")).filter_map(|i| inputs.get(&format!("{prefix}/{i}")).cloned()).collect();
    let mut keywords = BTreeMap::new();
    for (name, value) in function.get("literals").and_then(Value::as_object).into_iter().flatten() {
        let argument = match value {
            Value::Bool(b) => Argument::from(*b),
            Value::Number(n) if n.is_i64() => Argument::from(n.as_i64().unwrap_or_default()),
            other => Argument::from(other.as_f64().ok_or_else(|| format!("{name}: {other}"))?),
        };
        keywords.insert(name.clone(), argument);
    }
    let outputs = if attribute == "nested" {
        let [one, left, right] =
            <[Tensor; 3]>::try_from(tensors).map_err(|_| "three tensors were expected")?;
        let pair = Argument::Sequence(vec![left.into(), right.into()]);
        let one = Argument::Sequence(vec![one.into()]);
        let given = Argument::Dict(BTreeMap::from([("one".to_owned(), one), ("pair".to_owned(), pair)]));
        model.call_with(attribute, vec![given], keywords)
    } else {
        let tensors: Vec<Argument> = tensors.into_iter().map(Argument::from).collect();
        // A Keras model of several inputs takes them as a list.
        let positional = if tensors.len() > 1 { vec![Argument::Sequence(tensors)] } else { tensors };
        model.call_with(attribute, positional, keywords)
    };
    let outputs = outputs.map_err(|e| format!("{attribute}: {e}"))?.into_tensors();
    if outputs.len() as u64 != count("outputs") {
        return Err(format!("{attribute}: {} outputs instead of {}", outputs.len(), count("outputs")));
    }
    for (i, actual) in outputs.iter().enumerate() {
        let right = expected.get(&format!("{prefix}/out_{i}")).ok_or("an answer is missing")?;
        compare::close(actual, right, Tolerance::FLOAT32)
            .map_err(|e| format!("{attribute} ({prefix}), output {i}: {e}"))?;
    }
    Ok(outputs.len())
}

fn checkpoint(case: &Case, prefix: &str) -> Outcome {
    let about =
        case.meta.pointer(&format!("/checkpoints/{}", prefix.replace('/', "~1"))).and_then(Value::as_object);
    let read: BTreeMap<String, Tensor> = fixtures::tensors(&case.path(prefix))?.into_iter().collect();
    let expected = case.arrays("expected.npz")?;
    let mut count = 0;
    for (key, kind) in about.into_iter().flatten() {
        // The object graph is no tensor of the model's.
        if key == "_CHECKPOINTABLE_OBJECT_GRAPH" || kind.as_str().is_some_and(|k| k.starts_with("variant")) {
            continue;
        }
        let actual = read.get(key).ok_or_else(|| {
            let some: Vec<&String> = read.keys().take(6).collect();
            format!("{key:?} isn't there, but {some:?}")
        })?;
        let shown = format!("{}{:?}", actual.dtype(), actual.shape());
        // NumPy has no int4, and holds it as int8.
        if kind.as_str() != Some(&shown) && actual.dtype() != DType::I4 {
            return Err(format!("{key:?} is {shown} instead of {kind}"));
        }
        let right = expected.get(&format!("{prefix}:{key}")).or_else(|| expected.get(key));
        if let Some(right) = right {
            compare::close(actual, right, Tolerance { absolute: 0.0, relative: 0.0 })
                .map_err(|e| format!("{key:?}: {e}"))?;
            count += 1;
        }
    }
    if count == 0 { Err("there is nothing to compare".to_owned()) } else { Ok(format!("{count} tensors")) }
}

fn array(case: &Case, file: &str) -> Outcome {
    let about = case.meta.pointer(&format!("/arrays/{}", file.replace('/', "~1"))).ok_or("not listed")?;
    let read = fixtures::tensors(&case.path(file))?;
    let mut wanted = Vec::new();
    collect(about, &mut wanted);
    if read.len() != wanted.len() {
        return Err(format!("{} arrays instead of {}", read.len(), wanted.len()));
    }
    for ((name, tensor), about) in read.iter().zip(&wanted) {
        let shape: Vec<usize> = about
            .get("shape")
            .and_then(Value::as_array)
            .map(|s| s.iter().filter_map(|d| d.as_u64()?.try_into().ok()).collect())
            .unwrap_or_default();
        if tensor.shape() != shape {
            return Err(format!("{name}: shape {:?} instead of {shape:?}", tensor.shape()));
        }
        let hex = about.get("hex").and_then(Value::as_str).unwrap_or_default();
        let dtype = about.get("dtype").and_then(Value::as_str).unwrap_or_default();
        // Text is kept as UTF-8, at a width of its own.
        if dtype.contains(['U', 'S']) {
            continue;
        }
        let size = tensor.dtype().size().unwrap_or(1).max(1);
        let component = if dtype.contains('c') { size / 2 } else { size };
        let mut bytes = tensor.bytes().map_err(|e| e.to_string())?.to_vec();
        if dtype.starts_with('>') {
            bytes.chunks_mut(component).for_each(<[u8]>::reverse);
        }
        let shown: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        if shown != hex {
            return Err(format!("{name}: {shown} instead of {hex}"));
        }
    }
    Ok(format!("{} arrays", wanted.len()))
}

/// The arrays of a listing, which may be nested as the file's lists are.
fn collect<'a>(about: &'a Value, into: &mut Vec<&'a Value>) {
    match about {
        Value::Object(one) if one.contains_key("hex") => into.push(about),
        Value::Object(named) => named.values().for_each(|v| collect(v, into)),
        Value::Array(items) => items.iter().for_each(|v| collect(v, into)),
        _ => {}
    }
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}
