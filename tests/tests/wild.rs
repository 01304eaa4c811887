//! Models that strangers published, where `MODELARK_WILD` names a folder of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use modelark::{Argument, Load, Tensor};
use modelark_tests::Outcome;
use modelark_tests::compare::{self, Tolerance};
use modelark_tests::fixtures::{self, Case};
use serde_json::Value;

/// What a model of a kind that isn't covered yet may lack; it is reported, and doesn't fail the test.
const COVERED: &[&str] = &[
    "Model",
    "Functional",
    "Sequential",
    "InputLayer",
    "Dense",
    "Activation",
    "Dropout",
    "Flatten",
    "Reshape",
    "Embedding",
    "Concatenate",
    "Add",
    "BatchNormalization",
    "LayerNormalization",
    "Conv2D",
    "MaxPooling2D",
    "GlobalAveragePooling2D",
    "LSTM",
];

#[test]
fn models_from_the_wild_agree() {
    let Some(folder) = std::env::var_os("MODELARK_WILD").map(PathBuf::from) else {
        eprintln!("MODELARK_WILD isn't set: nothing to check");
        return;
    };
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("the folder").filter_map(|e| Some(e.ok()?.path())).collect();
    names.retain(|p| p.join("meta.json").is_file());
    names.sort();
    let mut failures = Vec::new();
    for path in &names {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let case = Case::open(name, path.clone()).expect("meta.json");
        let format = text(&case.meta, "format");
        let outcome = match format {
            "h5" | "keras" | "json_h5" => keras(&case),
            "savedmodel" => saved_model(&case),
            "ckpt" | "h5_weights" => tensors(&case),
            "json_only" | "savedmodel_graphonly" => opens(&case),
            "negative" => refused(&case),
            "frozen_pb" => frozen(&case),
            other => Err(format!("nothing reads {other} yet")),
        };
        let covered = covered(&case);
        let verdict = match (&outcome, covered) {
            (Ok(_), _) => "ok",
            (Err(_), false) => "not yet",
            (Err(_), true) => "FAILED",
        };
        let seen = outcome.as_deref().unwrap_or_else(|e| e);
        println!("{verdict:<8} {:<50} {}", case.name, seen.replace('\n', " "));
        if verdict == "FAILED" {
            failures.push(case.name);
        }
    }
    assert!(!names.is_empty(), "no models in {}", folder.display());
    assert!(failures.is_empty(), "{} failed: {failures:?}", failures.len());
}

fn text<'a>(meta: &'a Value, key: &str) -> &'a str {
    meta.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether the model is of layers that are covered, or of a format without any.
fn covered(case: &Case) -> bool {
    let layers = case.meta.get("layers").and_then(Value::as_object);
    layers.is_none_or(|l| l.keys().all(|k| COVERED.contains(&k.as_str())))
}

fn first_of(case: &Case, names: &[&str]) -> Outcome<PathBuf> {
    let files: Vec<String> = case
        .meta
        .get("files")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|f| f.keys().cloned())
        .collect();
    let found = names.iter().find_map(|ending| files.iter().find(|f| f.ends_with(ending)));
    found.map(|f| case.path(f)).ok_or_else(|| format!("no {names:?} among {files:?}"))
}

fn keras(case: &Case) -> Outcome {
    let model = match text(&case.meta, "format") {
        "json_h5" => {
            Load::new().weights(first_of(case, &[".h5", ".hdf5"])?).path(first_of(case, &[".json"])?)
        }
        _ => modelark::load(first_of(case, &[".h5", ".hdf5", ".keras"])?),
    };
    let model = match model {
        Ok(model) => model,
        // One that nobody ever built has nothing to run.
        Err(error)
            if error.to_string().contains("doesn't say its input's shape") && !case.has("expected.npz") =>
        {
            return Ok(format!("refused: {error}"));
        }
        Err(error) => return Err(error.to_string()),
    };
    if !case.has("expected.npz") {
        return Ok("loads".to_owned());
    }
    let outputs = model.predict(case.inputs()?).map_err(|e| e.to_string())?.into_tensors();
    agree(&outputs, &case.outputs()?)
}

fn agree(actual: &[Tensor], expected: &[Tensor]) -> Outcome {
    if actual.len() != expected.len() {
        return Err(format!("{} outputs instead of {}", actual.len(), expected.len()));
    }
    let tolerance = Tolerance { absolute: 1e-4, relative: 1e-4 };
    let mut worst = 0.0f64;
    for (i, (a, b)) in actual.iter().zip(expected).enumerate() {
        worst = worst.max(compare::close(a, b, tolerance).map_err(|e| format!("output {i}: {e}"))?);
    }
    Ok(format!("{} outputs within {worst:.0e}", expected.len()))
}

fn saved_model(case: &Case) -> Outcome {
    let model = modelark::load(case.path("model")).map_err(|e| e.to_string())?;
    if !case.has("expected.npz") {
        return lacks(&model);
    }
    let (inputs, expected) = (case.arrays("inputs.npz")?, case.arrays("expected.npz")?);
    let mut endpoints: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for key in expected.keys() {
        let (endpoint, output) = key.rsplit_once('/').ok_or_else(|| format!("{key:?} names no output"))?;
        endpoints.entry(endpoint).or_default().push(output);
    }
    let mut count = 0;
    for (endpoint, outputs) in endpoints {
        let given: Vec<(String, Tensor)> = inputs
            .iter()
            .filter_map(|(k, t)| Some((k.strip_prefix(endpoint)?.strip_prefix('/')?.to_owned(), t.clone())))
            .collect();
        if let Some(signature) = endpoint.strip_prefix("sig/") {
            // What a graph without signatures takes and gives is found.
            let signature = if signature == "_placeholders" { "serving_default" } else { signature };
            let call = || model.call(signature, given.clone()).map_err(|e| format!("{endpoint}: {e}"));
            let actual = call()?;
            // The answers come from the first of two calls, which matters where the model counts.
            call()?;
            for output in outputs {
                let right = &expected[&format!("{endpoint}/{output}")];
                let got = actual.get(output).ok_or_else(|| format!("{endpoint}: no output {output:?}"))?;
                agree(std::slice::from_ref(got), std::slice::from_ref(right))
                    .map_err(|e| format!("{endpoint}/{output}: {e}"))?;
                count += 1;
            }
        } else {
            let mut tensors: Vec<Argument> = given.into_iter().map(|(_, t)| t.into()).collect();
            let one = if tensors.len() == 1 { tensors.remove(0) } else { Argument::Sequence(tensors) };
            let actual = model
                .call_with("__call__", vec![one], BTreeMap::new())
                .map_err(|e| format!("{endpoint}: {e}"))?;
            let right: Vec<Tensor> =
                (0..).map_while(|i| expected.get(&format!("{endpoint}/out_{i}")).cloned()).collect();
            agree(&actual.into_tensors(), &right).map_err(|e| format!("{endpoint}: {e}"))?;
            count += right.len();
        }
    }
    Ok(format!("{count} outputs agree"))
}

/// Checks that a model that can't run says why: it needs an op of another package, or its variables aren't there.
fn lacks(model: &modelark::Model) -> Outcome {
    let called = model.default_endpoint().and_then(|e| model.function(&e.name)?.call(&zeros(&e.inputs)?));
    let Err(error) = called else { return Ok(format!("runs, {} endpoints", model.endpoints().len())) };
    let said = error.to_string();
    let op = said.split_once("of the graph's ops: ").and_then(|(_, rest)| rest.split(' ').next());
    let foreign = op.is_some_and(|op| modelark::graph::ops::signature(op).is_err());
    if foreign || said.contains("variables.index") { Ok(format!("refused: {said}")) } else { Err(said) }
}

/// Inputs of zeros, two where a dimension is unknown.
fn zeros(ports: &[modelark::Port]) -> modelark::Result<Vec<Tensor>> {
    let zero = |port: &modelark::Port| {
        let dims = port.shape.dims().unwrap_or_default().iter().map(|d| d.unwrap_or(2)).collect::<Vec<_>>();
        Ok(Tensor::zeros(port.dtype, dims)?)
    };
    ports.iter().map(zero).collect()
}

fn tensors(case: &Case) -> Outcome {
    let path = match text(&case.meta, "format") {
        // A V1 checkpoint is one file.
        "ckpt" => first_of(case, &[".index"]).or_else(|_| first_of(case, &["export"]))?,
        _ => first_of(case, &[".h5", ".hdf5"])?,
    };
    let read: BTreeMap<String, Tensor> = fixtures::tensors(&path)?.into_iter().collect();
    let mut count = 0;
    for (name, right) in case.arrays("expected.npz")? {
        // Keras's notes beside the weights: JSON, and the graph of objects.
        if name.contains("OBJECT_CONFIG_JSON") || name.contains("_CHECKPOINTABLE_OBJECT_GRAPH") {
            continue;
        }
        let Some(got) = read.get(&name) else {
            return Err(format!("no {name:?} among {:?}", read.keys().take(4).collect::<Vec<_>>()));
        };
        compare::close(got, &right, Tolerance { absolute: 0.0, relative: 0.0 })
            .map_err(|e| format!("{name}: {e}"))?;
        count += 1;
    }
    Ok(format!("{count} tensors"))
}

/// Runs a frozen graph; of the outputs that are known, those that nothing in the graph takes are its own.
fn frozen(case: &Case) -> Outcome {
    let model = modelark::load(first_of(case, &[".pb"])?).map_err(|e| e.to_string())?;
    if !case.has("expected.npz") {
        return Ok("loads".to_owned());
    }
    let endpoint = model.default_endpoint().map_err(|e| e.to_string())?;
    let inputs = case.arrays("inputs.npz")?;
    let given = endpoint.inputs.iter().filter_map(|p| Some((p.name.clone(), inputs.get(&p.name)?.clone())));
    let outputs = model.predict(given.collect::<Vec<_>>()).map_err(|e| e.to_string())?;
    let expected = case.arrays("expected.npz")?;
    let mut count = 0;
    for (name, actual) in outputs.iter() {
        let Some(right) = expected.get(name) else { continue };
        agree(std::slice::from_ref(actual), std::slice::from_ref(right))
            .map_err(|e| format!("{name}: {e}"))?;
        count += 1;
    }
    if count == 0 {
        Err("none of the outputs is known".to_owned())
    } else {
        Ok(format!("{count} outputs agree"))
    }
}

fn opens(case: &Case) -> Outcome {
    let path: &Path = &if text(&case.meta, "format") == "json_only" {
        first_of(case, &[".json"])?
    } else {
        case.path("model")
    };
    let artifact = modelark::open(path).map_err(|e| e.to_string())?;
    if artifact.architecture.is_none() && artifact.functions.is_none() {
        return Err("neither layers nor functions were found".to_owned());
    }
    if text(&case.meta, "format") == "json_only" {
        return Ok("opens".to_owned());
    }
    // The file with the values isn't there: the model loads all the same, and whatever reads one of them says so.
    let model = modelark::load(path).map_err(|e| e.to_string())?;
    let read = model.variables().next().map(|v| model.variable(v)).ok_or("it has no variables")?;
    let called = model.default_endpoint().and_then(|e| model.function(&e.name)?.call(&zeros(&e.inputs)?));
    for refused in [read.map(drop), called.map(drop)] {
        match refused {
            Err(e) if e.to_string().contains("variables/variables.") => {}
            Err(e) => return Err(e.to_string()),
            Ok(()) => return Err("a value was read that isn't there".to_owned()),
        }
    }
    Ok(format!("opens, {} endpoints", model.endpoints().len()))
}

fn refused(case: &Case) -> Outcome {
    let path = first_of(case, &[".keras", ".h5", ".pb"])?;
    match modelark::load(&path) {
        Err(error) if error.to_string().len() > 20 => Ok(format!("refused: {error}")),
        Err(error) => Err(format!("an error that says little: {error}")),
        Ok(_) => Err("it was loaded".to_owned()),
    }
}
