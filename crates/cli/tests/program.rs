//! The program as a user meets it: on files that TensorFlow and Keras wrote.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use modelark::json::Arrays;
use modelark::{Limits, Place, Tensor};

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(path)
}

fn modelark<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_modelark")).args(args).output().expect("the program starts")
}

/// Runs the program, which must succeed, and gives what it printed.
fn printed<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let output = modelark(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> serde_json::Value {
    serde_json::from_str(&printed(args)).expect("JSON")
}

fn arrays(path: &Path) -> Vec<(String, Tensor)> {
    let bytes = Place::of_path(path).open().expect("open");
    let read = Arrays::Npz.read_bytes(&bytes, &Limits::default()).expect("read");
    read.paths().into_iter().map(|(n, v)| (n, v.load().expect("value"))).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn run_gives_what_keras_gave() {
    let dir = tempfile::tempdir().expect("temp dir");
    for case in
        ["tf215/mlp/model.keras", "tf221/mlp/model.h5", "tf215/functional/model.json", "tf221/mlp/export"]
    {
        let model = fixture(case);
        let folder = model.parent().expect("folder");
        let out = dir.path().join("out.npz");
        printed(["run", text(&model), "--inputs", text(&folder.join("inputs.npz")), "--outputs", text(&out)]);
        let wanted: Vec<_> =
            arrays(&folder.join("expected.npz")).into_iter().filter(|(n, _)| n.starts_with("out_")).collect();
        let given = arrays(&out);
        assert_eq!(given.len(), wanted.len(), "{case}");
        for ((_, given), (name, wanted)) in given.iter().zip(&wanted) {
            assert_eq!(given.shape(), wanted.shape(), "{case} {name}");
            let (given, wanted) =
                (given.elements::<f32>().expect("f32"), wanted.elements::<f32>().expect("f32"));
            let worst = given.iter().zip(wanted.iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{case} {name}: {worst}");
        }
    }
}

#[test]
fn inspect_tells_layers_signatures_and_variables() {
    let found = json(["inspect", "--json", text(&fixture("tf215/mlp/model_save"))]);
    assert_eq!(found["layers"][0]["params"], 35);
    assert_eq!(found["layers"][0]["outputs"][0], "(None, 5)");
    assert_eq!(found["params"]["total"], 53);
    assert_eq!(found["signatures"][0]["name"], "serving_default");
    assert_eq!(found["signatures"][0]["inputs"][0]["shape"], serde_json::json!([null, 6]));
    let text = printed(["inspect", text(&fixture("tf221/mlp/model.keras"))]);
    for wanted in ["keras 3.15.1", "hidden (Dense)", "learning_rate", "10 variables of Adam"] {
        assert!(text.contains(wanted), "{wanted} in\n{text}");
    }
    assert!(!text.contains('\x1b'), "no colours where nobody looks");
}

#[test]
fn weights_are_listed_and_extracted_by_their_names() {
    let dir = tempfile::tempdir().expect("temp dir");
    let checkpoint = fixture("tf215/mlp/save_weights/model");
    let listed = json(["weights", "--json", text(&checkpoint)]);
    let names: Vec<&str> =
        listed.as_array().expect("list").iter().filter_map(|e| e["name"].as_str()).collect();
    assert!(names.contains(&"layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE"), "{names:?}");
    let out = dir.path().join("out.npz");
    let legacy = fixture("tf215/mlp/legacy_weights.h5");
    printed(["weights", text(&legacy), "--extract", text(&out)]);
    let given = arrays(&out);
    assert!(given.iter().any(|(n, t)| n == "hidden/hidden/kernel:0" && t.shape() == [6, 5]), "{given:?}");
    printed(["weights", text(&legacy), "--extract", text(&dir.path().join("folder"))]);
    assert!(dir.path().join("folder/hidden/hidden/kernel_0.npy").is_file());
    printed(["weights", text(&legacy), "--extract", text(&dir.path().join("w.safetensors"))]);
    let again = json(["weights", "--json", text(&dir.path().join("w.safetensors"))]);
    assert_eq!(again.as_array().map(Vec::len), Some(4));
}

#[test]
fn converting_keeps_the_variables() {
    let dir = tempfile::tempdir().expect("temp dir");
    let source = fixture("tf221/mlp/model.keras");
    for name in ["m.json", "m.h5"] {
        let target = dir.path().join(name);
        printed(["convert", text(&source), text(&target)]);
        let output = modelark(["diff", "--variables", text(&source), text(&target)]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert!(dir.path().join("m.npy").is_file());
}

#[test]
fn exit_codes_tell_what_happened() {
    let (a, b) = (fixture("tf215/mlp/model.keras"), fixture("tf221/mlp/model.keras"));
    assert_eq!(modelark(["diff", text(&a), text(&a)]).status.code(), Some(0));
    let differing = modelark(["diff", "--json", text(&a), text(&b)]);
    assert_eq!(differing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&differing.stdout).contains("max difference"));
    let missing = modelark(["inspect", "no-such-model"]);
    assert_eq!(missing.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(
        stderr.starts_with("error: ") && stderr.contains("no-such-model") && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert_eq!(modelark(["verify", text(&a)]).status.code(), Some(0));
}

#[test]
fn verify_finds_damage() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("w.npz");
    printed(["weights", text(&fixture("tf221/mlp/model.h5")), "--extract", text(&path)]);
    assert_eq!(modelark(["verify", text(&path)]).status.code(), Some(0));
    let mut bytes = std::fs::read(&path).expect("read");
    // Within the first array, past its headers.
    bytes[300] ^= 0x55;
    std::fs::write(&path, bytes).expect("write");
    let output = modelark(["verify", "--json", text(&path)]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("checksum"));
}

#[test]
fn ops_and_completions_are_printed() {
    assert!(
        printed(["ops"]).lines().any(|l| l.trim_start().starts_with("MatMul ") && l.contains("complex64"))
    );
    assert!(printed(["ops", "--formats"]).contains("saved_model"));
    assert!(printed(["completions", "bash"]).contains("modelark"));
}
