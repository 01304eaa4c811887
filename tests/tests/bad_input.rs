//! Input that is damaged, or isn't what it claims to be: an error that names the file, the place and the remedy, or,
//! where it is plain what was meant, the model.

use std::fs;
use std::path::{Path, PathBuf};

use modelark::{Load, Save, Tensor};
use modelark_tests::fixtures::{self, Case};
use modelark_tests::forms;

fn case(name: &str) -> Case {
    fixtures::case(name).expect("fixture")
}

/// A checkpoint's files under a folder; returns the prefix.
fn copied_checkpoint(case: &Case, prefix: &str, folder: &Path) -> PathBuf {
    let path = case.path(prefix);
    let name = path.file_name().expect("name").to_string_lossy().into_owned();
    for entry in fs::read_dir(path.parent().expect("parent")).expect("entries") {
        let entry = entry.expect("entry");
        if entry.file_name().to_string_lossy().starts_with(&name) {
            fixtures::copy(&entry.path(), &folder.join(entry.file_name())).expect("copy");
        }
    }
    folder.join(name)
}

/// Reads every tensor, and gives the error's whole text.
fn refusal(path: &Path) -> String {
    let error = fixtures::tensors(path).and_then(|_| modelark::load(path).map_err(|e| e.to_string()));
    error.err().unwrap_or_else(|| panic!("{} was read", path.display()))
}

fn assert_says(error: &str, wanted: &[&str]) {
    for text in wanted {
        assert!(error.contains(text), "the error doesn't say {text:?}: {error}");
    }
}

#[test]
fn a_missing_shard_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let prefix = copied_checkpoint(&case("tf221/saver"), "sharded/model.ckpt-7", folder.path());
    fs::remove_file(folder.path().join("model.ckpt-7.data-00001-of-00002")).expect("removed");
    assert_says(&refusal(&prefix), &["model.ckpt-7.data-00001-of-00002"]);
}

#[test]
fn a_wrong_checksum_names_the_tensor_and_can_be_ignored() {
    let folder = tempfile::tempdir().expect("folder");
    let prefix = copied_checkpoint(&case("tf221/mlp"), "checkpoint/model-1", folder.path());
    let data = folder.path().join("model-1.data-00000-of-00001");
    let mut bytes = fs::read(&data).expect("data");
    // Among the first tensors; the object graph, without which nothing can be read, lies behind them.
    bytes[100] ^= 0x40;
    fs::write(&data, bytes).expect("written");
    let error = refusal(&prefix);
    assert_says(&error, &["checksum"]);
    let artifact = modelark::Open::new().verify(false).artifact(&prefix).expect("opens");
    for (_, path, variable) in artifact.objects.variables() {
        variable.load().unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}

#[test]
fn truncated_files_are_refused_wherever_they_end() {
    let mlp = case("tf221/mlp");
    let folder = tempfile::tempdir().expect("folder");
    for file in [
        "model.h5",
        "model.keras",
        "weights.npz",
        "weights.npy",
        "weights.pkl",
        "model.weights.h5",
        "model.json",
    ] {
        let whole = fs::read(mlp.path(file)).expect("fixture");
        for part in 1..8 {
            let path = folder.path().join(file);
            fs::write(&path, &whole[..whole.len() * part / 8]).expect("written");
            assert!(!refusal(&path).is_empty());
        }
    }
    for file in ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"] {
        let model = folder.path().join("model");
        fixtures::copy(&mlp.path("export"), &model).expect("copy");
        let path = model.join(file);
        let whole = fs::read(&path).expect("fixture");
        fs::write(&path, &whole[..whole.len() / 2]).expect("written");
        let error = refusal(&model);
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        assert_says(&error, &[&name]);
    }
}

#[test]
fn an_empty_file_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    for name in ["model.h5", "model.keras", "weights.npy", "model.json"] {
        let path = folder.path().join(name);
        fs::write(&path, b"").expect("written");
        assert_says(&refusal(&path), &["empty", name]);
    }
}

#[test]
fn weights_of_another_shape_name_both_sides() {
    let error = Load::new()
        .weights(case("tf221/deferred").path("model.h5"))
        .path(case("tf221/mlp").path("model.json"))
        .expect_err("other shapes")
        .to_string();
    assert!(error.contains("hidden") || error.contains("kernel") || error.contains("shape"), "{error}");
}

#[test]
fn an_unknown_class_is_named_with_its_layer_and_what_to_do() {
    for environment in ["tf215", "tf221"] {
        for file in ["model.h5", "model.keras"] {
            let case = case(&format!("{environment}/custom_unregistered"));
            let error = modelark::load(case.path(file)).expect_err("unknown").to_string();
            assert_says(&error, &["PlainGatedDense", "gated", "register"]);
            // With the class it runs.
            let model = forms::load(Load::new(), &case, file).expect("known");
            forms::predicts(&case, &model).expect("answers");
        }
    }
}

#[test]
fn a_git_lfs_pointer_says_how_to_fetch_the_file() {
    let folder = tempfile::tempdir().expect("folder");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n";
    for name in ["model.h5", "model.keras", "weights.npz", "model.pb", "model.bin"] {
        let path = folder.path().join(name);
        fs::write(&path, pointer).expect("written");
        assert_says(&refusal(&path), &["LFS", "git lfs pull", name]);
    }
    let mlp = case("tf221/mlp");
    for file in ["saved_model.pb", "variables/variables.data-00000-of-00001"] {
        let model = folder.path().join("saved");
        fixtures::copy(&mlp.path("export"), &model).expect("copy");
        fs::write(model.join(file), pointer).expect("written");
        assert_says(&refusal(&model), &["LFS"]);
    }
}

#[test]
fn any_file_of_a_checkpoint_means_the_checkpoint() {
    let mlp = case("tf221/mlp");
    let expected = fixtures::tensors(&mlp.path("checkpoint/model-1")).expect("by its prefix");
    for file in ["checkpoint/model-1.index", "checkpoint/model-1.data-00000-of-00001", "checkpoint"] {
        let read = fixtures::tensors(&mlp.path(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(read.len(), expected.len(), "{file}");
    }
}

#[test]
fn a_saved_model_may_be_named_by_its_pb() {
    let mlp = case("tf221/mlp");
    let model = modelark::load(mlp.path("export/saved_model.pb")).expect("loads");
    forms::predicts(&mlp, &model).expect("answers");
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let error = modelark::load("no/such/model.keras").expect_err("missing").to_string();
    assert_says(&error, &["no/such/model.keras"]);
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("readme.txt"), "nothing").expect("written");
    assert_says(&refusal(folder.path()), &["readme.txt"]);
}

#[test]
fn a_failed_save_leaves_the_old_file_as_it_was() {
    let mlp = case("tf221/mlp");
    let model = modelark::load(mlp.path("model.keras")).expect("loads");
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("model.h5");
    fs::write(&path, b"the old file").expect("written");
    // No format for weights without values: the archive asks for tensors that are gone when it comes to reading them.
    let source = folder.path().join("source.npz");
    fixtures::copy(&mlp.path("weights.npz"), &source).expect("copy");
    let error = modelark::convert(&source, &path).expect_err("there are no layers");
    assert!(error.to_string().contains("architecture") || error.to_string().contains("layers"), "{error}");
    assert_eq!(fs::read(&path).expect("still there"), b"the old file");
    let left: Vec<_> =
        fs::read_dir(folder.path()).expect("entries").filter_map(Result::ok).map(|e| e.file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");

    // A checkpoint with a damaged tensor fails in the middle of writing.
    let prefix = copied_checkpoint(&mlp, "checkpoint/model-1", folder.path());
    let data = folder.path().join("model-1.data-00000-of-00001");
    let mut bytes = fs::read(&data).expect("data");
    bytes[100] ^= 1;
    fs::write(&data, bytes).expect("written");
    let npz = folder.path().join("old.npz");
    fs::write(&npz, b"the old archive").expect("written");
    modelark::convert(&prefix, &npz).expect_err("a wrong checksum");
    assert_eq!(fs::read(&npz).expect("still there"), b"the old archive");

    // And one that doesn't fail replaces it.
    model.save_with(&path, &Save::new()).expect("saved");
    forms::predicts(&mlp, &modelark::load(&path).expect("loads")).expect("answers");
}

#[test]
fn a_graph_without_outputs_says_what_it_could_give() {
    const FLOAT: &str = "attr { key: \"T\" value { type: DT_FLOAT } }";
    let input = "node { name: \"x\" op: \"Placeholder\" attr { key: \"dtype\" value { type: DT_FLOAT } } }";
    let used = format!(
        "node {{ name: \"y\" op: \"Relu\" input: \"x\" {FLOAT} }}
         node {{ name: \"ok\" op: \"Placeholder\" attr {{ key: \"dtype\" value {{ type: DT_BOOL }} }} }}
         node {{ name: \"check\" op: \"Assert\" input: \"ok\" input: \"y\"
                attr {{ key: \"T\" value {{ list {{ type: DT_FLOAT }} }} }} }}"
    );
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("graph.pbtxt");
    for (more, wanted) in [
        ("", "only constants and placeholders"),
        (&used, "--output-names`), one of its 1 tensors, of which the last are y"),
    ] {
        fs::write(&path, format!("{input}\n{more}")).expect("written");
        let model = modelark::load(&path).expect("loads");
        let error = model.default_function().expect_err("nothing to run it to").to_string();
        assert_says(&error, &["no outputs", wanted]);
    }
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let model = modelark::load(case("tf221/functional").path("model.keras")).expect("loads");
    let wrong = Tensor::zeros(modelark::DType::F32, [1, 2]).expect("tensor");
    let error = model.predict(vec![wrong.clone()]).expect_err("two inputs").to_string();
    assert_says(&error, &["tokens", "features"]);
    let error = model.predict(vec![wrong.clone(), wrong]).expect_err("other shapes").to_string();
    assert!(error.contains("(None") || error.contains('['), "{error}");
}
