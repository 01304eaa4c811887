//! The program from end to end.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use modelark_tests::compare::{Tolerance, close};
use modelark_tests::fixtures::{self, Case};

/// The program, which lies beside the folder of the tests' own programs once the workspace is built.
fn program() -> PathBuf {
    let mut path = std::env::current_exe().expect("this test");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let path = path.join(format!("modelark{}", std::env::consts::EXE_SUFFIX));
    if !path.is_file() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "modelark-cli"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().expect("cargo").success(), "the program doesn't build");
    }
    path
}

fn run(args: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(program());
    for arg in args {
        command.arg(arg);
    }
    command.output().expect("the program runs")
}

fn succeeds(args: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    let output = run(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn fails(args: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    let output = run(args);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn mlp() -> Case {
    fixtures::case("tf221/mlp").expect("fixture")
}

fn gives_the_answers(case: &Case, outputs: &Path) {
    let read = fixtures::tensors(outputs).expect("outputs");
    let expected = case.outputs().expect("answers");
    assert_eq!(read.len(), expected.len());
    for ((name, actual), expected) in read.iter().zip(&expected) {
        close(actual, expected, Tolerance::FLOAT32).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// The inputs of a case, without what else its archive has.
fn inputs(case: &Case, folder: &Path) -> PathBuf {
    let path = folder.join("in.npz");
    let tensors = case.inputs().expect("inputs");
    let mut objects = modelark::artifact::Objects::default();
    for (i, tensor) in tensors.into_iter().enumerate() {
        let variable = modelark::artifact::Variable::new(format!("in_{i}"), tensor);
        objects.add(
            modelark::artifact::Objects::ROOT,
            format!("in_{i}"),
            modelark::artifact::Kind::Variable(variable),
        );
    }
    let artifact = modelark::Artifact { objects, ..modelark::Artifact::default() };
    let target = modelark::artifact::Target::new(&path).expect("target");
    let npz = modelark::format("npz").expect("format");
    npz.write(&artifact, &target, &modelark::SaveOptions::default()).expect("written");
    target.commit().expect("landed");
    path
}

#[test]
fn runs_every_form_of_a_model() {
    let mlp = mlp();
    let folder = tempfile::tempdir().expect("folder");
    let (fed, given) = (inputs(&mlp, folder.path()), folder.path().join("out.npz"));
    for file in ["model.keras", "model.h5", "export", "saved_model", "export/saved_model.pb"] {
        succeeds(&[&"run", &mlp.path(file), &"--inputs", &fed, &"--outputs", &given]);
        gives_the_answers(&mlp, &given);
    }
    for weights in
        ["model.weights.h5", "weights.npy", "weights.pkl", "checkpoint/model-1", "model.keras", "model.h5"]
    {
        let args: &[&dyn AsRef<std::ffi::OsStr>] = &[
            &"run",
            &mlp.path("model.json"),
            &"--weights",
            &mlp.path(weights),
            &"--inputs",
            &fed,
            &"--outputs",
            &given,
        ];
        succeeds(args);
        gives_the_answers(&mlp, &given);
    }
}

#[test]
fn converts_and_tells_what_it_did() {
    let mlp = mlp();
    let folder = tempfile::tempdir().expect("folder");
    let (fed, given) = (inputs(&mlp, folder.path()), folder.path().join("out.npz"));
    for (to, options) in
        [("model.h5", &["--dialect", "keras2"][..]), ("saved", &["--to", "saved_model"]), ("m.keras", &[])]
    {
        let target = folder.path().join(to);
        let source = mlp.path("model.keras");
        let mut args: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"convert", &source, &target];
        args.extend(options.iter().map(|o| o as &dyn AsRef<std::ffi::OsStr>));
        succeeds(&args);
        succeeds(&[&"run", &target, &"--inputs", &fed, &"--outputs", &given]);
        gives_the_answers(&mlp, &given);
        succeeds(&[&"verify", &target]);
    }
}

#[test]
fn shows_what_is_in_a_file() {
    let mlp = mlp();
    let shown = succeeds(&[&"inspect", &mlp.path("model.keras")]);
    for wanted in ["hidden", "probabilities", "Dense", "3.15"] {
        assert!(shown.contains(wanted), "no {wanted} in {shown}");
    }
    let json = succeeds(&[&"inspect", &mlp.path("export"), &"--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(value.to_string().contains("serving_default"), "{json}");
    let listed =
        succeeds(&[&"weights", &fixtures::case("tf215/mlp").expect("fixture").path("legacy_weights.h5")]);
    assert!(listed.contains("hidden/hidden/kernel:0"), "{listed}");
    assert!(succeeds(&[&"ops"]).contains("MatMul"));
}

#[test]
fn extracts_every_tensor_under_its_name() {
    let case = fixtures::case("tf221/saver").expect("fixture");
    let folder = tempfile::tempdir().expect("folder");
    let out = folder.path().join("out.npz");
    succeeds(&[&"weights", &case.path("v2/model.ckpt-7"), &"--extract", &out]);
    let read = fixtures::tensors(&out).expect("outputs");
    let expected = case.arrays("expected.npz").expect("answers");
    for (name, tensor) in &read {
        if let Some(right) = expected.get(name) {
            close(tensor, right, Tolerance { absolute: 0.0, relative: 0.0 })
                .unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
    assert!(read.iter().any(|(n, _)| n == "dense/kernel"), "{read:?}");
}

#[test]
fn says_where_two_models_differ() {
    let mlp = mlp();
    let same = run(&[&"diff", &mlp.path("model.keras"), &mlp.path("model.keras")]);
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    let other = fixtures::case("tf221/deferred").expect("fixture");
    let differ = run(&[&"diff", &mlp.path("model.keras"), &other.path("model.keras")]);
    assert!(!differ.status.success());
}

#[test]
fn errors_name_the_file_and_end_with_a_code() {
    let said = fails(&[&"inspect", &"no/such/file.h5"]);
    assert!(said.contains("no/such/file.h5"), "{said}");
    let custom = fixtures::case("tf221/custom_unregistered").expect("fixture");
    let folder = tempfile::tempdir().expect("folder");
    let (fed, given) = (inputs(&custom, folder.path()), folder.path().join("out.npz"));
    let said = fails(&[&"run", &custom.path("model.keras"), &"--inputs", &fed, &"--outputs", &given]);
    assert!(said.contains("PlainGatedDense") && said.contains("gated"), "{said}");
    assert!(!given.exists());
}
