//! Every checkpoint among the fixtures: read, checked against what TensorFlow said of it, and written again.

use std::path::{Path, PathBuf};

use modelark_artifact::{Format, Limits, Place, SaveOptions, Target};
use modelark_checkpoint::{Checkpoint, OBJECT_GRAPH_KEY, Reader};
use modelark_tensor::DType;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// All files below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn files_named(wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut all = Vec::new();
    files(&fixtures(), &mut all);
    all.retain(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(&wanted));
    all
}

fn open(path: &Path) -> Reader {
    Reader::open(&Place::of_path(path), &Limits::default())
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn keys_dtypes_and_shapes_are_what_tensorflow_lists() {
    let mut count = 0;
    for meta in files_named(|n| n == "meta.json") {
        let text = std::fs::read_to_string(&meta).expect("meta");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for (prefix, tensors) in json["checkpoints"].as_object().into_iter().flatten() {
            let reader = open(&meta.with_file_name(prefix));
            let ours: Vec<(String, String)> = reader
                .variables()
                .expect("variables")
                .into_iter()
                .map(|v| (v.name, format!("{}{:?}", v.dtype, v.shape)))
                .collect();
            let mut theirs: Vec<(String, String)> = tensors
                .as_object()
                .expect("tensors")
                .iter()
                .map(|(k, v)| (k.clone(), v.as_str().expect("text").to_owned()))
                .collect();
            theirs.sort();
            assert_eq!(ours, theirs, "{} {prefix}", meta.display());
            count += 1;
        }
    }
    assert!(count > 10, "{count} checkpoints");
}

#[test]
fn every_bundle_survives_being_written_again() {
    let indexes = files_named(|n| n.ends_with(".index"));
    assert!(indexes.len() > 30, "{} bundles", indexes.len());
    for index in indexes {
        let dir = tempfile::tempdir().expect("temp dir");
        let artifact = Checkpoint.read(&Place::of_path(&index), &Limits::default()).expect("read");
        let to = dir.path().join("written");
        let target = Target::new(&to).expect("target");
        let report = Checkpoint.write(&artifact, &target, &SaveOptions::default()).expect("write");
        target.commit().expect("commit");
        assert_eq!(report.notes, [""; 0], "{}", index.display());
        let (a, b) = (open(&index), open(&to));
        assert_eq!(a.keys(), b.keys(), "{}", index.display());
        for key in a.keys() {
            if a.variable(key).expect("variable").dtype != DType::Variant {
                let (a, b) = (a.tensor(key).expect(key), b.tensor(key).expect(key));
                assert!(a.bit_eq(&b), "{} {key}", index.display());
            }
        }
        // Keras stores a model's tensors in the order of its objects, as they are written.
        if a.keys().contains(&OBJECT_GRAPH_KEY) && index.parent().is_some_and(|p| p.ends_with("save_weights"))
        {
            let bytes = |p: &Path| std::fs::read(p.with_extension("data-00000-of-00001")).expect("data");
            assert!(bytes(&index) == bytes(&to), "{}", index.display());
        }
    }
}
