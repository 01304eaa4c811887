//! `cargo xtask proto`: Rust types out of the .proto sources. Nobody installs a protobuf compiler:
//! protox parses, prost writes, and what they made is committed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use prost::Message;
use prost_types::{FileDescriptorSet, field_descriptor_proto};

use crate::workspace::{Outcome, root};

const SOURCES: &str = "proto";
const GENERATED: &str = "crates/proto/src/generated";
const DESCRIPTORS: &str = "descriptors.bin";
/// Fields whose messages stay encoded until somebody decodes them: a model has many, and most are never asked for.
const ENCODED: [(&str, &str); 3] =
    [("GraphDef", "node"), ("FunctionDefLibrary", "function"), ("FunctionDef", "node_def")];
/// The values of a constant in a graph.
const WEIGHTS: (&str, &str) = ("TensorProto", "tensor_content");

/// Writes the types, or with `--check` fails if what is committed is not what would be written.
pub fn run(args: &[String]) -> Outcome {
    match args {
        [] => write(),
        [flag] if flag == "--check" => check(),
        _ => Err("takes nothing, or --check".into()),
    }
}

/// Fails if the committed types are not what the sources give.
pub fn check() -> Outcome {
    let fresh = tempfile::tempdir()?;
    generate(fresh.path())?;
    let committed = root().join(GENERATED);
    let mut names = file_names(fresh.path())?;
    names.extend(file_names(&committed)?);
    let drifted: Vec<String> = names
        .into_iter()
        .filter(|name| fs::read(fresh.path().join(name)).ok() != fs::read(committed.join(name)).ok())
        .collect();
    if drifted.is_empty() {
        return Ok(());
    }
    Err(format!("{GENERATED} is not what {SOURCES}/ gives: {} (run `cargo xtask proto`)", drifted.join(", "))
        .into())
}

fn write() -> Outcome {
    let target = root().join(GENERATED);
    fs::create_dir_all(&target)?;
    // A file left over from a package that is gone would be drift.
    for name in file_names(&target)? {
        fs::remove_file(target.join(name))?;
    }
    generate(&target)
}

fn generate(target: &Path) -> Outcome {
    let sources = root().join(SOURCES);
    let files: Vec<String> =
        file_names(&sources)?.into_iter().filter(|name| name.ends_with(".proto")).collect();
    let descriptors = protox::compile(&files, [&sources])?;
    // What the messages' text form is read by.
    fs::write(target.join(DESCRIPTORS), descriptors.encode_to_vec())?;
    let descriptors = with_encoded(descriptors)?;
    prost_build::Config::new()
        .out_dir(target)
        // Ordered, so that the same value is always the same bytes.
        .btree_map(["."])
        // Views into the buffer that they were decoded from, no copies.
        .bytes(
            ENCODED.iter().chain([&WEIGHTS]).map(|(message, field)| format!(".tensorflow.{message}.{field}")),
        )
        // Most attributes are an integer or a type: the large kinds live elsewhere.
        .boxed(".tensorflow.AttrValue.value.list")
        .boxed(".tensorflow.AttrValue.value.tensor")
        .boxed(".tensorflow.AttrValue.value.func")
        .compile_fds(descriptors)?;
    Ok(())
}

/// The descriptors with the [`ENCODED`] fields as bytes, which a message is on the wire as well.
fn with_encoded(mut descriptors: FileDescriptorSet) -> Outcome<FileDescriptorSet> {
    for (message, field) in ENCODED {
        let mut messages = descriptors.file.iter_mut().flat_map(|file| &mut file.message_type);
        let found = messages.find(|m| m.name() == message);
        let found = found.and_then(|m| m.field.iter_mut().find(|f| f.name() == field));
        let found = found.ok_or_else(|| format!("there is no {message}.{field}"))?;
        found.set_type(field_descriptor_proto::Type::Bytes);
        found.type_name = None;
    }
    Ok(descriptors)
}

fn file_names(folder: &Path) -> Outcome<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        names.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}
