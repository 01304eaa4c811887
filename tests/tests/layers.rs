//! Every class of layers over its options, as real Keras saved and computed it (`fixtures/layers`): read, run, and
//! written in every form.
//!
//! `MODELARK_LAYERS` names a part of cases' names to take these alone; `MODELARK_LAYERS_OUT` a folder to keep what is
//! written in, for `fixtures/layers/check.py`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use modelark::nn::Model as Layers;
use modelark::nn::config::{Writer, plain};
use modelark::tensor::bf16;
use modelark::{Argument, DType, Dialect, Load, Model, Save, Tensor};
use modelark_tests::Outcome;
use modelark_tests::compare::{self, Tolerance};
use modelark_tests::fixtures;
use serde_json::Value;

/// Sums of many float32 products, and functions that TensorFlow's kernels approximate.
const TOLERANCE: Tolerance = Tolerance { absolute: 1e-4, relative: 1e-4 };

/// Half precision, rounded at other places.
const HALF: Tolerance = Tolerance { absolute: 1e-2, relative: 1e-2 };

#[test]
fn every_case_agrees_with_keras() {
    let only = std::env::var("MODELARK_LAYERS").unwrap_or_default();
    let kept = std::env::var_os("MODELARK_LAYERS_OUT").map(PathBuf::from);
    let folder = fixtures::folder().join("layers");
    let (mut count, mut failures) = (0, Vec::new());
    for dialect in [Dialect::Keras2, Dialect::Keras3] {
        let name = if dialect == Dialect::Keras2 { "keras2" } else { "keras3" };
        let mut groups: Vec<PathBuf> =
            fs::read_dir(folder.join(name)).expect("groups").flatten().map(|e| e.path()).collect();
        groups.sort();
        for group in groups {
            let temporary = tempfile::tempdir().expect("a folder");
            let stem = group.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let out = match &kept {
                Some(kept) => kept.join(name).join(&stem),
                None => temporary.path().to_owned(),
            };
            for case in fixtures::unpack(&group, &out, |case| format!("{stem}/{case}").contains(&only))
                .expect("an archive")
            {
                count += 1;
                let failed = check(&case, dialect);
                let case = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
                failures.extend(failed.into_iter().map(|f| format!("{name} {stem}/{case}: {f}")));
            }
        }
    }
    println!("{count} cases");
    assert!(count > 0 && failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// What is wrong with a case.
fn check(case: &Path, dialect: Dialect) -> Vec<String> {
    let mut failures = Vec::new();
    let file = case.join("model.keras");
    let model = match modelark::load(&file) {
        Ok(model) => model,
        Err(error) => return vec![error.to_string()],
    };
    if let Err(wrong) = predicts(&model, case) {
        failures.push(wrong);
    }
    let Some(layers) = model.layers() else { return vec!["it has no layers".to_owned()] };
    let unknown = layers.unknown_keys();
    if !unknown.is_empty() {
        failures.push(format!("keys that aren't known: {unknown:?}"));
    }
    failures.extend(rewritten(layers, dialect));
    for form in ["same.keras", "same.h5", "saved_model"] {
        let again = model.save(case.join(form)).map_err(|e| e.to_string()).and_then(|_| {
            let model = modelark::load(case.join(form)).map_err(|e| e.to_string())?;
            predicts(&model, case)
        });
        failures.extend(again.err().map(|wrong| format!("{form}: {wrong}")));
    }
    failures.extend(in_other_dialect(&model, layers, case, dialect));
    failures.extend(separately(&model, case).err().map(|wrong| format!("json + npy: {wrong}")));
    failures
}

/// What goes wrong in the dialect that the model isn't of, where that can say all that the model is.
fn in_other_dialect(model: &Model, layers: &Layers, case: &Path, dialect: Dialect) -> Option<String> {
    let other = if dialect == Dialect::Keras2 { Dialect::Keras3 } else { Dialect::Keras2 };
    match layers.architecture(other) {
        Ok((_, report)) if report.notes.is_empty() => {}
        _ => return None,
    }
    let path = case.join("other.keras");
    let again =
        model.save_with(&path, &Save::new().dialect(other)).map_err(|e| e.to_string()).and_then(|_| {
            let model = modelark::load(&path).map_err(|e| e.to_string())?;
            // What masks do in merges, wrappers and attention differs between the versions.
            if layers.layers().iter().any(|l| ["Embedding", "Masking"].contains(&l.class_name())) {
                return Ok(String::new());
            }
            predicts(&model, case)
        });
    again.err().map(|wrong| format!("as {other}: {wrong}"))
}

/// An architecture as JSON, the weights as a list.
fn separately(model: &Model, case: &Path) -> Outcome {
    let (json, npy) = (case.join("same.json"), case.join("same.npy"));
    model.save(&json).map_err(|e| e.to_string())?;
    let load = Load::new();
    let load = if model.variables().next().is_some() {
        model.save(&npy).map_err(|e| e.to_string())?;
        load.weights(npy)
    } else {
        load
    };
    predicts(&load.path(json).map_err(|e| e.to_string())?, case)
}

fn predicts(model: &Model, case: &Path) -> Outcome {
    let arrays = |file: &str, prefix: &str| -> Outcome<Vec<Tensor>> {
        let all = fixtures::tensors(&case.join(file))?;
        let named =
            |i: usize| all.iter().find(|(n, _)| *n == format!("{prefix}_{i}")).map(|(_, t)| t.clone());
        Ok((0..).map_while(named).collect())
    };
    let inputs = arrays("inputs.npz", "in")?;
    // A signature would sort inputs and outputs by name.
    let call = || {
        let outputs = match model.layers() {
            Some(_) => model.predict(inputs.clone()),
            None => {
                let mut inputs: Vec<Argument> = inputs.iter().cloned().map(Argument::from).collect();
                let one = if inputs.len() == 1 { inputs.remove(0) } else { Argument::Sequence(inputs) };
                model.call_with("__call__", vec![one], BTreeMap::new())
            }
        };
        outputs.map(modelark::Outputs::into_tensors).map_err(|e| e.to_string())
    };
    let expected = arrays("expected.npz", "out")?;
    let mut outputs = call()?;
    // A model that keeps states was called twice.
    if expected.len() == 2 * outputs.len() {
        outputs.extend(call()?);
        model.reset_states().map_err(|e| e.to_string())?;
    }
    if outputs.len() != expected.len() {
        return Err(format!("{} outputs instead of {}", outputs.len(), expected.len()));
    }
    let half = case.file_name().is_some_and(|n| n.to_string_lossy().contains("half_precision"));
    let tolerance = if half { HALF } else { TOLERANCE };
    let mut wrong = Vec::new();
    for (i, (actual, expected)) in outputs.iter().zip(&expected).enumerate() {
        let tolerance = if actual.dtype() == DType::BF16 { HALF } else { tolerance };
        let actual = widened(actual).map_err(|e| e.to_string())?;
        if let Err(difference) = compare::close(&actual, expected, tolerance) {
            wrong.push(format!("output {i}: {difference}"));
        }
    }
    if wrong.is_empty() { Ok(String::new()) } else { Err(wrong.join("; ")) }
}

/// NumPy has no bfloat16, and its files hold float32 instead.
fn widened(x: &Tensor) -> Result<Tensor, modelark::tensor::Error> {
    if x.dtype() != DType::BF16 {
        return Ok(x.clone());
    }
    let values: Vec<f32> = x.elements::<bf16>()?.iter().map(|&v| v.into()).collect();
    Tensor::from_vec(values, x.shape())
}

/// What differs between the config of each layer as it was read and as it is written.
fn rewritten(model: &Layers, dialect: Dialect) -> Vec<String> {
    let Ok((architecture, _)) = model.architecture(dialect) else {
        return vec!["no architecture".to_owned()];
    };
    let source = plain(&architecture.config);
    let mut wrong = Vec::new();
    for layer in model.layers() {
        let nodes = source.pointer("/config/layers").and_then(Value::as_array);
        let node = nodes
            .into_iter()
            .flatten()
            .find(|n| n.pointer("/config/name").and_then(Value::as_str) == Some(layer.name()));
        let Some(read) = node.and_then(|n| n.get("config")) else { continue };
        match layer.write(&mut Writer::new(dialect)) {
            Ok(written) => differences(layer.name(), read, &written["config"], &mut wrong),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    wrong
}

/// Every key that is written must have been there with that value; keys that are left out are those that every reader
/// takes as their defaults.
fn differences(place: &str, read: &Value, written: &Value, wrong: &mut Vec<String>) {
    match (read, written) {
        (Value::Object(read), Value::Object(written)) => {
            for (key, value) in written {
                let place = format!("{place}.{key}");
                match read.get(key) {
                    Some(read) => differences(&place, read, value, wrong),
                    None => wrong.push(format!("{place} wasn't there")),
                }
            }
        }
        // A dtype policy may be its name.
        (Value::Object(policy), Value::String(name))
            if policy.get("config").and_then(|c| c.get("name")).and_then(Value::as_str) == Some(name) => {}
        (Value::Array(read), Value::Array(written)) if read.len() == written.len() => {
            for (i, (r, w)) in read.iter().zip(written).enumerate() {
                differences(&format!("{place}[{i}]"), r, w, wrong);
            }
        }
        (Value::Number(r), Value::Number(w)) if r.as_f64() == w.as_f64() => {}
        (r, w) if r == w => {}
        (r, w) => wrong.push(format!("{place} is {w} instead of {r}")),
    }
}
