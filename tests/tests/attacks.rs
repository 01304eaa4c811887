//! Files that attack their reader, each in a known way (`hostile/generate.py` makes them), are refused by name:
//! soon, without following or executing anything, and with an error that says what was wrong where.

use std::path::Path;
use std::time::Instant;

use modelark::{Limits, Load, Open, Place};
use modelark_tests::{fixtures, hostile};

/// Limits so low that the archives' bombs needn't be large.
fn limits() -> Limits {
    let mut limits = hostile::limits();
    limits.expanded_bytes = 8 << 20;
    limits.tensor_bytes = 16 << 20;
    limits.run_bytes = 16 << 20;
    limits.run_steps = Some(10_000);
    limits
}

/// How a file is refused.
fn refusal(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile").join(file);
    let start = Instant::now();
    let outcome = hostile::use_all(Open::new(), Load::new(), &Place::of_path(&path), &limits());
    assert!(start.elapsed() < hostile::PATIENCE, "{file} took {:?}", start.elapsed());
    outcome.expect_err("an attack").to_string()
}

/// A test for each file: what its refusal says.
macro_rules! attacks {
    ($($(#[$about:meta])* $name:ident: $file:literal says $($text:literal)+;)+) => {$(
        $(#[$about])*
        #[test]
        fn $name() {
            let error = refusal($file);
            for text in [$($text),+] {
                assert!(error.contains(text), "the error doesn't say {text:?}: {error}");
            }
        }
    )+};
}

mod archives {
    use super::*;

    attacks! {
        a_member_above_the_archive: "traversal.keras" says "../../../evil.txt" "leads out";
        a_member_with_an_absolute_name: "absolute.keras" says "/elsewhere/evil.txt" "leads out";
        a_member_on_a_drive: "drive.keras" says "C:/evil.txt" "leads out";
        a_symbolic_link: "symlink.keras" says "assets/vocabulary.txt" "symbolic link";
        a_bomb: "bomb.keras" says "assets/zeros" "expands to 25165824 bytes";
        members_that_share_their_bytes: "overlap.npz" says "overlap.npz" "expands to more than";
        a_member_larger_than_declared: "understated.keras" says "assets/zeros" "declared";
        two_members_of_one_name: "twice.keras" says "two members of one name";
    }
}

mod configs {
    use super::*;

    attacks! {
        /// CVE-2024-3660.
        bytecode: "lambda.keras" says "\"evil\" (Lambda)" "system" "register";
        bytecode_as_an_activation: "lambda_activation.keras" says "\"dense\" (Dense)" "__lambda__";
        /// CVE-2025-9905.
        bytecode_in_hdf5: "lambda.h5" says "\"evil\" (Lambda)" "system" "register";
        /// CVE-2025-1550.
        a_function_of_any_module: "module.keras" says "\"evil\" (Lambda)" "system";
        a_class_of_any_module: "module_class.keras" says "Popen" "subprocess";
        /// CVE-2025-9906.
        turning_safety_off: "unsafe.keras" says "enable_unsafe_deserialization";
        /// CVE-2025-12058.
        a_vocabulary_that_is_a_path: "vocabulary.keras" says "\"lookup\" (StringLookup)" "/etc/passwd";
        a_vocabulary_that_is_an_address: "vocabulary_url.keras" says "http://example.org/x";
        deep_json: "deep.json" says "deep.json" "recursion limit";
        deep_models: "nested.json" says "nested.json" "recursion limit";
        deep_yaml: "deep.yaml" says "deep.yaml" "recursion limit";
        yaml_that_multiplies: "laughs.yaml" says "line 8" "too many values";
    }
}

mod hdf5 {
    use super::*;

    attacks! {
        an_external_link: "external_link.keras" says "layers/dense/vars";
        external_storage: "external_storage.weights.h5" says "layers/dense/vars/0" "other files";
        external_storage_in_an_archive: "external_storage.keras" says "layers/dense/vars/0" "other files";
        a_virtual_dataset: "virtual.weights.h5" says "layers/dense/vars/0" "virtual dataset";
        a_bomb: "bomb.weights.h5" says "layers/dense/vars/0" "over the limit";
        a_dataset_that_was_never_written: "absent.weights.h5" says "layers/dense/vars/0" "over the limit";
        a_link_to_itself: "loop.weights.h5" says "HDF5 path \"/layers/dense/vars\"";
        a_group_within_itself: "cycle.weights.h5" says "may hold each other";
    }
}

mod arrays {
    use super::*;

    attacks! {
        a_shape_beyond_memory: "huge.npy" says "huge.npy" "1099511627776";
        a_shape_beyond_the_file: "large.npy" says "large.npy" "the file has 64";
        a_negative_shape: "negative.npy" says "negative.npy" "isn't a shape";
        code_in_a_header: "code.npy" says "code.npy" "isn't a Python literal";
        /// What a pickle of `os.system` is.
        a_call_in_a_pickle: "system.pkl" says "system.pkl" "posix.system";
        a_call_in_an_array: "object.npy" says "object.npy" "posix.system";
        a_call_in_an_archive: "object.npz" says "array \"w\"" "posix.system";
        a_deep_pickle: "deep.pkl" says "deep.pkl" "too deep";
        a_pickle_that_multiplies: "memo.pkl" says "memo.pkl";
        a_length_beyond_a_pickle: "bytes.pkl" says "breaks off";
        offsets_beyond_safetensors: "offsets.safetensors" says "tensor \"w\"" "offsets";
        a_header_beyond_safetensors: "header.safetensors" says "4611686018427387904 bytes";
    }
}

/// Ops that allocate by a number in the file.
mod sizes {
    use super::*;

    attacks! {
        bincount: "bincount.pb" says "Bincount" "over the limit";
        broadcast: "broadcast.pb" says "BroadcastTo" "over the limit";
        diagonal: "diagonal.pb" says "Diag" "over the limit";
        fill: "fill.pb" says "Fill" "over the limit";
        lin_space: "lin_space.pb" says "LinSpace" "over the limit";
        one_hot: "one_hot.pb" says "OneHot" "over the limit";
        pad: "pad.pb" says "Pad" "over the limit";
        random: "random.pb" says "RandomUniform" "over the limit";
        range: "range.pb" says "Range" "over the limit";
        reserve: "reserve.pb" says "TensorListReserve" "2000000000";
        resize: "resize.pb" says "ResizeBilinear" "over the limit";
        scatter: "scatter.pb" says "ScatterNd" "over the limit";
        sparse: "sparse.pb" says "SparseToDense" "over the limit";
        tile: "tile.pb" says "Tile" "over the limit";
    }
}

mod loops {
    use super::*;

    attacks! {
        a_loop_without_end: "while.pb" says "StatelessWhile" "10000 loop iterations";
        a_loop_of_tensorflow_1_without_end: "loop_v1.pb" says "while/Enter" "10000 loop iterations";
        a_value_that_doubles: "doubling.pb" says "ConcatV2" "over the limit";
        a_string_that_doubles: "strings.pb" says "StringJoin" "over the limit";
        a_function_that_calls_itself: "recursion.pb" says "function \"f\"" "128 deep";
    }
}

mod graphs {
    use super::*;

    attacks! {
        a_circle: "circle.pb" says "cycle" "\"a\"";
        an_output_that_is_not_there: "no_such_output.pb" says "node \"c\" has no output 7";
        a_constant_beyond_memory: "const.pb" says "node \"c\" (Const)" "memory";
        deep_messages: "deep.pb" says "deep.pb" "recursion limit";
        deep_text: "deep.pbtxt" says "deep.pbtxt" "nest more than 64 deep";
    }
}

/// Ops that touch files, or call Python.
mod files {
    use super::*;

    attacks! {
        reading: "read_file.pb" says "ReadFile" "may not read or write files";
        reading_lines: "lines.pb" says "TextLineReaderV2";
        listing: "matching_files.pb" says "MatchingFiles" "may not read or write files";
        writing: "write_file.pb" says "WriteFile" "may not read or write files";
        printing: "print_file.pb" says "PrintV2" "file:///elsewhere/owned";
        dumping: "debug.pb" says "DebugIdentityV2";
        saving: "save.pb" says "SaveV2" "may not read or write files";
        restoring: "restore.pb" says "RestoreV2" "may not read or write files";
        a_table_from_a_file: "table.pb" says "InitializeTableFromTextFileV2" "/etc/passwd";
        python: "py_func.pb" says "PyFunc";
        python_eagerly: "eager_py_func.pb" says "EagerPyFunc";
    }
}

mod folders {
    use super::*;

    attacks! {
        an_asset_above_the_model: "asset" says "../../../../../../etc/passwd" "leads out";
        a_checkpoint_above_its_state: "state/checkpoint" says "etc/passwd";
        a_checkpoint_elsewhere: "state_absolute/checkpoint" says "passwd";
        countless_data_files: "shards/ckpt" says "ckpt.data-00000-of-2147483647" "isn't there";
        a_tensor_beyond_memory: "shape/ckpt" says "model/v" "over the limit";
    }

    /// A SavedModel whose variables are a link to another folder.
    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_model() {
        let folder = tempfile::tempdir().expect("folder");
        let model = folder.path().join("model");
        let real = fixtures::folder().join("tf221/mlp/export");
        std::fs::create_dir(&model).expect("folder");
        std::fs::copy(real.join("saved_model.pb"), model.join("saved_model.pb")).expect("copy");
        std::os::unix::fs::symlink(real.join("variables"), model.join("variables")).expect("link");
        let error = modelark::load(&model).expect_err("a link").to_string();
        assert!(error.contains("variables") && error.contains("leads out"), "{error}");
        // The caller may name a link: it is his own.
        let named = folder.path().join("named");
        std::os::unix::fs::symlink(&real, &named).expect("link");
        modelark::load(&named).expect("the model");
        let named = folder.path().join("named.keras");
        std::os::unix::fs::symlink(fixtures::folder().join("tf221/mlp/model.keras"), &named).expect("link");
        modelark::load(&named).expect("the model");
    }
}
