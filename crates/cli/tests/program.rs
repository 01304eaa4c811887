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

/// What the program says where a call goes wrong: arguments behind the model, the inputs' names and shapes, and the text.
#[test]
fn a_wrong_call_is_told_apart() {
    type Wrong<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a [usize])], &'a [&'a str]);
    let mlp = "tf215/mlp/model_save";
    let flow = "tf215/control_flow/module";
    let two = "tf215/tf1_saved_models/two_tags";
    let fits: &[(&str, &[usize])] = &[("features", &[2, 6])];
    let flow_fits: &[(&str, &[usize])] = &[("x", &[2, 3])];
    let cases: &[Wrong<'_>] = &[
        // Names and counts of inputs.
        (
            mlp,
            &[],
            &[],
            &["serving_default takes 1 input, but the file has 0 arrays", "the inputs are features"],
        ),
        (
            flow,
            &["--signature", "loop"],
            &[("x", &[2, 3]), ("time", &[])],
            &[
                "\"loop\": no input \"times\" was given, but \"x\", \"time\"",
                "it takes times: int32(), x: float32(None, 3)",
            ],
        ),
        (
            mlp,
            &[],
            &[("features", &[2, 6]), ("more", &[2])],
            &["there is no input \"more\"", "it takes features: float32(None, 6)"],
        ),
        // Ranks and dimensions.
        (
            mlp,
            &[],
            &[("features", &[2, 6, 1])],
            &[
                "\"serving_default\", input \"features\"",
                "it takes float32 of shape (None, 6), got float32 of shape (2, 6, 1)",
            ],
        ),
        (mlp, &[], &[("features", &[2, 5])], &["got float32 of shape (2, 5)"]),
        // Dtypes.
        (
            two,
            &["--tags", "serve,cpu"],
            &[("words", &[1, 1])],
            &["input \"words\": it takes string, but the array is float32"],
        ),
        // What is called.
        (
            mlp,
            &["--signature", "serving_defaul"],
            fits,
            &[
                "no signature or function \"serving_defaul\"",
                "there are serving_default, __call__,",
                "did you mean \"serving_default\"?",
            ],
        ),
        (
            mlp,
            &["--function", "__cal__"],
            fits,
            &["no signature or function \"__cal__\"", "did you mean \"__call__\"?"],
        ),
        (
            mlp,
            &["--tags", "gpu"],
            fits,
            &["no MetaGraph has the tags [\"gpu\"]", "one of these: [\"serve\"]"],
        ),
        (two, &["--tags", "serve"], fits, &["[\"serve\"]", "[\"train\"], [\"serve\", \"cpu\"]"]),
        (
            mlp,
            &["--output-names", "nothing_like_it:0"],
            fits,
            &["the graph has no tensor \"nothing_like_it:0\"", "it goes from serving_default_features:0"],
        ),
        // The structure of arguments.
        (
            mlp,
            &["--function", "__call__", "--arg", "trainin=true"],
            fits,
            &[
                "\"__call__\" can't be called with (",
                "trainin=True",
                "(inputs: float32(None, 6), training=False, mask=None) or",
            ],
        ),
        (
            flow,
            &["--function", "loop", "--arg", "times=many"],
            flow_fits,
            &[
                "\"loop\" can't be called with (float32(2, 3), \"many\")",
                "(x: float32(None, 3), times: int32())",
            ],
        ),
        // What can't be called at all.
        ("tf221/mlp/weights.npz", &[], fits, &["weights alone", "load the architecture"]),
        (
            "tf221/mlp/model.keras",
            &["--signature", "classify"],
            fits,
            &["no signature or function \"classify\"", "there are "],
        ),
    ];
    let dir = tempfile::tempdir().expect("temp dir");
    let mut missing = String::new();
    for (model, args, inputs, wanted) in cases {
        let folder = dir.path().join("inputs.npz");
        let file = std::fs::File::create(&folder).expect("file");
        let mut archive = modelark::json::npz::Writer::new(file, false);
        for (name, shape) in *inputs {
            archive.add(name, &Tensor::zeros(modelark::DType::F32, shape).expect("tensor")).expect("array");
        }
        archive.finish().expect("archive");
        let model = fixture(model);
        let output = modelark(["run", text(&model), "--inputs", text(&folder)].iter().chain(*args));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        for part in wanted.iter().filter(|part| !said.contains(**part)) {
            missing.push_str(&format!(
                "{} {args:?}: {part:?} isn't said: {said}
",
                model.display()
            ));
        }
    }
    assert!(missing.is_empty(), "{missing}");
}

#[test]
fn a_function_of_choice_is_frozen() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (model, graph) = (fixture("tf215/control_flow/module"), dir.path().join("graph.pb"));
    let convert = |args: &[&str]| modelark(["convert", text(&model), text(&graph)].iter().chain(args));
    for (flag, name) in [("--signature", "running"), ("--function", "running")] {
        let output = convert(&[flag, name]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // It gives what the model gives.
        let inputs = dir.path().join("x.npy");
        std::fs::write(&inputs, X_NPY).expect("inputs");
        let (own, frozen) = (dir.path().join("own.npz"), dir.path().join("frozen.npz"));
        printed([
            "run",
            text(&model),
            "--signature",
            name,
            "--inputs",
            text(&inputs),
            "--outputs",
            text(&own),
        ]);
        printed(["run", text(&graph), "--inputs", text(&inputs), "--outputs", text(&frozen)]);
        let values = |path: &Path| arrays(path).into_iter().map(|(_, t)| t).collect::<Vec<_>>();
        let (own, frozen) = (values(&own), values(&frozen));
        assert!(own.iter().all(|t| frozen.iter().any(|f| f.bit_eq(t))), "{own:?} and {frozen:?}");
    }
    for (args, wanted) in [
        (["--signature", "runing"], "did you mean \"running\"?"),
        (["--function", "runing"], "there is no function \"runing\"; there are "),
    ] {
        let output = convert(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(wanted), "{said}");
    }
    let folder = dir.path().join("folder");
    let output = modelark(["convert", text(&model), text(&folder), "--signature", "running"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("none can be chosen"));
}

/// An array of float32 of shape (1, 3), as NumPy writes it.
const X_NPY: &[u8] = b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }          \n\x00\x00\x80\x3f\x00\x00\x00\xc0\x00\x00\x40\x40";
