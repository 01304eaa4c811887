//! What is intact of a damaged model can be had, and the damage is told with its place.

use std::fs;
use std::path::{Path, PathBuf};

use modelark::{Open, Tensor};
use modelark_tests::fixtures;

/// The tensors of a model that are intact, and what was said of the others.
fn salvage(path: &Path) -> (Vec<(String, Tensor)>, Vec<String>) {
    let found = Open::new().salvage(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut damage: Vec<String> = found.damage.iter().map(ToString::to_string).collect();
    let mut intact = Vec::new();
    for (name, variable) in found.variables {
        match variable.load() {
            Ok(tensor) => intact.push((name, tensor)),
            Err(e) => damage.push(e.to_string()),
        }
    }
    (intact, damage)
}

/// A copy of a file or folder of the fixture `mlp` with one file changed, and what is intact of it.
fn damaged(
    source: &str,
    file: &str,
    change: impl FnOnce(&mut Vec<u8>),
) -> (Vec<(String, Tensor)>, Vec<String>) {
    let folder = tempfile::tempdir().expect("folder");
    let from = fixtures::case("tf221/mlp").expect("fixture").path(source);
    let to = folder.path().join(Path::new(source).file_name().expect("name"));
    fixtures::copy(&from, &to).expect("copy");
    let path: PathBuf = if file.is_empty() { to.clone() } else { to.join(file) };
    let mut bytes = fs::read(&path).expect("file");
    change(&mut bytes);
    fs::write(&path, bytes).expect("written");
    salvage(&to)
}

/// How many tensors the whole file has.
fn whole(source: &str) -> usize {
    let (intact, damage) = salvage(&fixtures::case("tf221/mlp").expect("fixture").path(source));
    assert!(damage.is_empty(), "{source}: {damage:?}");
    intact.len()
}

fn says(damage: &[String], wanted: &str) {
    assert!(damage.iter().any(|d| d.contains(wanted)), "no damage says {wanted:?}: {damage:?}");
}

#[test]
fn a_bundle_whose_index_lost_its_end() {
    let (intact, damage) =
        damaged("export", "variables/variables.index", |bytes| bytes.truncate(bytes.len() - 60));
    assert_eq!(intact.len(), whole("export"));
    says(&damage, "magic number");
}

#[test]
fn a_bundle_with_a_damaged_tensor() {
    let (intact, damage) =
        damaged("export", "variables/variables.data-00000-of-00001", |bytes| bytes[100] ^= 1);
    assert_eq!(intact.len(), whole("export") - 1);
    says(&damage, "checksum");
}

#[test]
fn a_bundle_whose_object_graph_is_damaged() {
    let (intact, damage) = damaged("export", "variables/variables.data-00000-of-00001", |bytes| {
        let end = bytes.len() - 20;
        bytes[end] ^= 1;
    });
    assert_eq!(intact.len(), whole("export"));
    says(&damage, "_CHECKPOINTABLE_OBJECT_GRAPH");
}

#[test]
fn a_saved_model_whose_graph_is_damaged() {
    let (intact, damage) = damaged("export", "saved_model.pb", |bytes| bytes.truncate(bytes.len() / 2));
    assert_eq!(intact.len(), whole("export"));
    says(&damage, "saved_model.pb");
}

#[test]
fn archives_whose_directory_is_gone() {
    for file in ["model.keras", "weights.npz"] {
        let (intact, damage) = damaged(file, "", |bytes| bytes.truncate(bytes.len() - 30));
        assert_eq!(intact.len(), whole(file), "{file}");
        says(&damage, "archive");
    }
}

#[test]
fn an_archive_with_a_damaged_array() {
    let (intact, damage) = damaged("weights.npz", "", |bytes| bytes[200] ^= 1);
    assert_eq!(intact.len(), whole("weights.npz") - 1);
    assert!(!damage.is_empty());
}

#[test]
fn a_damaged_tensor_in_a_keras_archive_is_noticed() {
    let path = fixtures::case("tf221/mlp").expect("fixture").path("model.keras");
    let mut bytes = fs::read(&path).expect("file");
    let folder = tempfile::tempdir().expect("folder");
    let copy = folder.path().join("model.keras");
    // A byte of the weights' member, wherever HDF5 keeps elements: nothing but the archive's checksum tells.
    let signature = b"\x89HDF\r\n\x1a\n";
    let start = bytes.windows(8).position(|w| w == signature).expect("weights");
    let elements = modelark::open(&path).expect("opens");
    let (_, _, variable) = elements.objects.variables().into_iter().next().expect("weights");
    let tensor = variable.load().expect("loads");
    let wanted = tensor.bytes().expect("numbers");
    let at = bytes.windows(wanted.len()).position(|w| *w == **wanted).expect("its elements");
    assert!(at > start);
    bytes[at + 1] ^= 1;
    fs::write(&copy, bytes).expect("written");
    let artifact = modelark::open(&copy).expect("opens");
    let (_, _, variable) = artifact.objects.variables().into_iter().next().expect("weights");
    let error = variable.load().expect_err("damaged").to_string();
    assert!(error.contains("checksum") && error.contains("model.keras"), "{error}");
    let artifact = Open::new().verify(false).artifact(&copy).expect("opens");
    for (_, path, variable) in artifact.objects.variables() {
        variable.load().unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}

#[test]
fn an_hdf5_file_with_a_damaged_group() {
    // The signature of a group's heap of names: the group is lost, the others aren't.
    let (intact, damage) = damaged("model.h5", "", |bytes| {
        let at = bytes.windows(4).rposition(|w| w == b"HEAP").expect("a heap");
        bytes[at] ^= 1;
    });
    assert!(!damage.is_empty() && !intact.is_empty() && intact.len() < whole("model.h5"));
    says(&damage, "HDF5 path");
}
