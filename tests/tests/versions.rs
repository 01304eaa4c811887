//! Models that Keras 1.0 to 2.3 saved (`fixtures/versions`): they give the numbers that they gave there, and so do the
//! files of today that are made of them.

use std::fs;
use std::path::Path;

use modelark::{Dialect, Model, Save, Tensor};
use modelark_tests::Outcome;
use modelark_tests::compare::{self, Tolerance};
use modelark_tests::fixtures;

const TOLERANCE: Tolerance = Tolerance { absolute: 1e-4, relative: 1e-4 };

#[test]
fn models_of_old_versions_agree() {
    let (mut count, mut failures) = (0, Vec::new());
    // `fixtures/versions/wide.py` makes a folder of many more.
    let wide = std::env::var_os("MODELARK_VERSIONS").map(std::path::PathBuf::from);
    let folders = [fixtures::folder().join("versions")].into_iter().chain(wide);
    for path in folders.flat_map(|f| fs::read_dir(f).expect("a folder").flatten()).map(|e| e.path()) {
        if path.extension().is_none_or(|e| e != "zip") {
            continue;
        }
        let temporary = tempfile::tempdir().expect("a folder");
        for case in fixtures::unpack(&path, temporary.path(), |_| true).expect("an archive") {
            count += 1;
            if let Err(wrong) = check(&case) {
                let case = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
                failures.push(format!("{} {case}: {wrong}", path.display()));
            }
        }
    }
    println!("{count} cases");
    assert!(count > 0 && failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

fn check(case: &Path) -> Outcome<()> {
    let said = |e: modelark::Error| e.to_string();
    let model = modelark::load(case.join("model.h5")).map_err(said)?;
    let inputs = arrays(case, "inputs.npz")?;
    let expected = arrays(case, "expected.npz")?;
    gives(&model, &inputs, &expected)?;
    for (name, dialect) in [
        ("keras2.keras", Dialect::Keras2),
        ("keras2.h5", Dialect::Keras2),
        ("keras3.keras", Dialect::Keras3),
        ("saved_model", Dialect::Keras2),
    ] {
        // What a dialect has no word for is told, and may change the outputs; a SavedModel has it as a graph.
        const TOLD: [&str; 4] = ["mode ", "hard_sigmoid", "before Keras 2.4", "alone has this class"];
        let path = case.join(name);
        let report = model.save_with(&path, &Save::new().dialect(dialect)).map_err(said)?;
        let told = |note: &String| TOLD.iter().any(|t| note.contains(t));
        if name != "saved_model" && report.notes.iter().any(told) {
            continue;
        }
        let again = modelark::load(&path).map_err(said)?;
        gives(&again, &inputs, &expected).map_err(|wrong| format!("{name}: {wrong}"))?;
    }
    Ok(())
}

/// The arrays of a case, in the order of their numbers.
fn arrays(case: &Path, file: &str) -> Outcome<Vec<Tensor>> {
    let mut named = fixtures::tensors(&case.join(file))?;
    named.sort_by_key(|(name, _)| (name.len(), name.clone()));
    Ok(named.into_iter().map(|(_, tensor)| tensor).collect())
}

fn gives(model: &Model, inputs: &[Tensor], expected: &[Tensor]) -> Outcome<()> {
    let outputs = match model.layers() {
        Some(_) => model.predict(inputs.to_vec()),
        None => {
            let mut inputs: Vec<modelark::Argument> = inputs.iter().cloned().map(Into::into).collect();
            let one = if inputs.len() == 1 { inputs.remove(0) } else { modelark::Argument::Sequence(inputs) };
            model.call_with("__call__", vec![one], Default::default())
        }
    };
    let outputs = outputs.map_err(|e| e.to_string())?.into_tensors();
    if outputs.len() != expected.len() {
        return Err(format!("{} outputs instead of {}", outputs.len(), expected.len()));
    }
    for (i, (actual, expected)) in outputs.iter().zip(expected).enumerate() {
        compare::close(actual, expected, TOLERANCE).map_err(|wrong| format!("output {i}: {wrong}"))?;
    }
    Ok(())
}
