//! Reads what real NumPy and Keras wrote, and writes what NumPy 1.26 writes, byte for byte.

use std::fs;
use std::path::{Path, PathBuf};

use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{Artifact, Dialect, Format, Limits, Place, SaveOptions, Target};
use modelark_json::weights::Weights;
use modelark_json::{Arrays, Json};
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Compares what was read with what the generator noted of it.
fn compare(found: &Weights, noted: &Value, place: &str) -> usize {
    if let Some(items) = noted.get("items").and_then(Value::as_array).or(noted.as_array()) {
        if noted.get("shape").and_then(Value::as_array).is_some_and(|s| s.len() > 1) {
            let found = found.flatten().into_iter().cloned().map(Weights::Array);
            return found.zip(items).map(|(f, n)| compare(&f, n, place)).sum();
        }
        let Weights::List(found) = found else { panic!("{place}: a list") };
        assert_eq!(found.len(), items.len(), "{place}");
        return found.iter().zip(items).map(|(f, n)| compare(f, n, place)).sum();
    }
    if noted.get("hex").is_none() {
        let named = noted.as_object().expect("a dict");
        let Weights::Named(found) = found else { panic!("{place}: {found:?} should be named") };
        assert_eq!(found.len(), named.len(), "{place}");
        return found.iter().map(|(name, f)| compare(f, &named[name], place)).sum();
    }
    let Weights::Array(variable) = found else { panic!("{place}: {found:?} should be an array") };
    let tensor = variable.load().unwrap_or_else(|e| panic!("{place}: {e}"));
    let shape: Vec<usize> = noted["shape"]
        .as_array()
        .expect("shape")
        .iter()
        .map(|n| n.as_u64().expect("extent") as usize)
        .collect();
    assert_eq!(tensor.shape(), shape, "{place}");
    let dtype = noted["dtype"].as_str().expect("dtype");
    assert_eq!(stored(&tensor, dtype), noted["hex"].as_str().expect("hex"), "{place}");
    1
}

/// The bytes of a tensor as an array of this dtype has them.
fn stored(tensor: &Tensor, dtype: &str) -> String {
    if tensor.dtype() == DType::String {
        let width: usize = dtype[2..].parse().expect("width");
        return tensor
            .strings()
            .expect("strings")
            .iter()
            .map(|s| match &dtype[1..2] {
                "S" => hex(s) + &"00".repeat(width - s.len()),
                _ => {
                    let text: Vec<char> = std::str::from_utf8(s).expect("UTF-8").chars().collect();
                    let codes: String = text.iter().map(|c| hex(&u32::from(*c).to_le_bytes())).collect();
                    codes + &"00000000".repeat(width - text.len())
                }
            })
            .collect();
    }
    let bytes = tensor.bytes().expect("bytes");
    if dtype.starts_with('>') {
        return bytes
            .chunks(tensor.dtype().size().expect("size"))
            .map(|c| hex(&c.iter().rev().copied().collect::<Vec<u8>>()))
            .collect();
    }
    hex(bytes)
}

#[test]
fn every_array_file_reads_as_its_writer_noted() {
    let mut compared = 0;
    for environment in ["tf215", "tf221"] {
        let folder = fixtures().join(environment).join("arrays");
        let meta = json(&folder.join("meta.json"));
        for (name, noted) in meta["arrays"].as_object().expect("arrays") {
            let place = Place::of_path(folder.join(name));
            let format =
                Arrays::ALL.into_iter().find(|f| f.detect(&place)).unwrap_or_else(|| panic!("{name}"));
            let read = format.read(&place, &Limits::default()).unwrap_or_else(|e| panic!("{e}"));
            let mut found = Weights::of_objects(&read.objects);
            if noted.get("hex").is_some() {
                let Weights::List(items) = &found else { panic!("{name}") };
                found = items[0].clone();
            }
            compared += compare(&found, noted, &format!("{environment}/{name}"));
        }
    }
    assert!(compared > 100, "only {compared} arrays were compared");
}

#[test]
fn architectures_read_with_the_weights_beside_them() {
    for (environment, dialect) in [("tf215", Dialect::Keras2), ("tf221", Dialect::Keras3)] {
        for case in ["mlp", "functional"] {
            let folder = fixtures().join(environment).join(case);
            let json = Json::ALL[0];
            let place = Place::of_path(folder.join("model.json"));
            assert!(json.detect(&place) && json.detect(&Place::of_path(&folder)), "{environment}/{case}");
            let read = json.read(&place, &Limits::default()).expect("read");
            assert_eq!(read.architecture.as_ref().expect("architecture").dialect, dialect);
            let npz = Arrays::Npz
                .read(&Place::of_path(folder.join("weights.npz")), &Limits::default())
                .expect("npz");
            let wanted: Vec<Tensor> = npz
                .objects
                .variables()
                .iter()
                .filter(|(_, name, _)| name.starts_with("w_"))
                .map(|(_, _, v)| v.load().expect("value"))
                .collect();
            let weights = Weights::of_objects(&read.objects);
            let found = weights.flatten();
            assert_eq!(found.len(), wanted.len());
            assert!(!found.is_empty());
            for (found, wanted) in found.iter().zip(&wanted) {
                assert!(found.load().expect("value").bit_eq(wanted));
            }
        }
    }
}

fn rewritten(artifact: &Artifact, format: Arrays, name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("temp dir");
    let target = Target::new(folder.path().join(name)).expect("target");
    format.write(artifact, &target, &SaveOptions::default()).expect("write");
    target.commit().expect("commit");
    fs::read(folder.path().join(name)).expect("read")
}

#[test]
fn lists_of_weights_are_written_as_numpy_1_26_writes_them() {
    for case in ["mlp", "functional"] {
        let path = fixtures().join("tf215").join(case).join("weights.npy");
        let read = Arrays::Npy.read(&Place::of_path(&path), &Limits::default()).expect("read");
        assert_eq!(rewritten(&read, Arrays::Npy, "w.npy"), fs::read(&path).expect("golden"), "{case}");
    }
    let path = fixtures().join("tf215/arrays/weights_protocol3.pkl");
    let read = Arrays::Pickle.read(&Place::of_path(&path), &Limits::default()).expect("read");
    let again = rewritten(&read, Arrays::Pickle, "w.pkl");
    let place = Place::in_memory(
        [("w.pkl", again)].into_iter().fold(
            Default::default(),
            |mut m: modelark_artifact::Memory, (n, b)| {
                m.insert(n, b);
                m
            },
        ),
        "w.pkl",
    );
    let back = Arrays::Pickle.read(&place, &Limits::default()).expect("read again");
    assert_eq!(back.objects.variables().len(), read.objects.variables().len());
}

#[test]
fn plain_arrays_are_written_as_numpy_writes_them() {
    let folder = fixtures().join("tf215/arrays");
    let mut written = 0;
    for entry in fs::read_dir(&folder).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        // Ours are in C order, little-endian, and texts become byte strings.
        let plain = name.starts_with("dtype_") && name != "dtype_U3.npy"
            || ["bfloat16.npy", "scalar.npy", "empty.npy", "specials.npy", "order_strided.npy"]
                .contains(&name.as_str());
        if plain {
            let read = Arrays::Npy.read(&Place::of_path(&path), &Limits::default()).expect("read");
            let tensor = read.objects.variables()[0].2.load().expect("value");
            let mut out = Vec::new();
            modelark_json::npy::write(&tensor, &mut out).expect("write");
            assert_eq!(out, fs::read(&path).expect("golden"), "{name}");
            written += 1;
        }
    }
    assert!(written >= 18, "only {written} files");
}
