//! Checkpoints as one of the formats of models.

use std::collections::BTreeSet;

use modelark_artifact::{
    Artifact, Dialect, Error, Format, Kind, Limits, Needs, Objects, OptimizerLayout, Place, Report, Result,
    Salvage, SaveOptions, Source, Target, Training, Variable,
};
use modelark_proto::{BundleEntryProto, Message};
use modelark_tensor::{DType, SharedBytes, Tensor};

use crate::bundle::{BundleWriter, beside};
use crate::keras::Model;
use crate::reader::{Located, Reader, has_data, locate, names_checkpoint, prefix_of};
use crate::state::{self, CheckpointState, STATE_FILE};
use crate::table::is_table;
use crate::trackable::{Node, Tree, Written};
use crate::{Bundle, NamedSlot, V1, bind, named, object_graph, optimizer};

/// Where an artifact keeps the object graph that it was read with.
const KEPT_GRAPH: &str = "checkpoint/object_graph";
/// What the names of the records, and of the bytes, of its variants start with.
const KEPT_RECORD: &str = "checkpoint/record/";
const KEPT_BYTES: &str = "checkpoint/bytes/";

/// TensorFlow checkpoints: `save_weights("x.ckpt")` of Keras 2, `tf.train.Checkpoint`, `tf.compat.v1.train.Saver`.
///
/// What is read has the tree of the object graph, or all tensors under their keys when there is none. What is written:
///
/// - a model with layers, as Keras 2's `save_weights` writes it. With [`SaveOptions::save_counter`] it is instead what
///   `tf.train.Checkpoint(model=model).save` writes, in the given dialect of Keras; the root holds the model as `model`
///   and all that the model holds, so that `tf.train.Checkpoint(model).restore` takes it as well.
/// - what was read from an object-based checkpoint, under the same graph and keys;
/// - variables that are the root's own, under their names, as `tf.compat.v1.train.Saver` does;
/// - any other tree, as `tf.train.Checkpoint` would name it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checkpoint;

impl Format for Checkpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn description(&self) -> &'static str {
        "TensorFlow checkpoint"
    }

    fn claims(&self, file_name: &str) -> bool {
        file_name.ends_with(".ckpt") || file_name.contains(".ckpt-") || file_name.ends_with(".index")
    }

    fn detect(&self, place: &Place) -> bool {
        if place.is_folder() && place.files.exists(&place.child("saved_model.pb").name) {
            return false;
        }
        match locate(place, &Limits::default()) {
            Ok(Located::V1(_)) => true,
            // With its data beside it, an index that is cut short is still one, and reading it says what is wrong.
            Ok(Located::Bundle(prefix)) => {
                beside(&prefix, ".index").open().is_ok_and(|index| is_table(&index)) || has_data(&prefix)
            }
            // A state file whose checkpoint is missing.
            Err(_) if names_checkpoint(place) => true,
            // Data whose index is missing.
            Err(_) if place.is_folder() => {
                let names = place.files.list(&place.name).unwrap_or_default();
                names.iter().filter_map(|n| prefix_of(&place.child(n))).any(|prefix| has_data(&prefix))
            }
            Err(_) => has_data(&prefix_of(place).unwrap_or_else(|| place.clone())),
        }
    }

    fn read(&self, place: &Place, limits: &Limits) -> Result<Artifact> {
        let reader = Reader::open(place, limits)?;
        let read = || -> Result<Artifact> {
            let graph = reader.object_graph()?;
            let objects = object_graph::read(&reader, graph.as_ref(), limits)?;
            let mut artifact = Artifact {
                source: Source { format: self.name(), path: place.label(), writers: Vec::new() },
                ..Artifact::default()
            };
            if let Some(graph) = graph {
                let optimizer = optimizer::read(&objects, &graph);
                artifact.training = optimizer.map(|o| Training { compile: None, optimizer: Some(o) });
                artifact.extras.insert(KEPT_GRAPH.to_owned(), SharedBytes::from(graph.encode_to_vec()));
            }
            if let Reader::Bundle(bundle) = &reader {
                // An iterator's state means something to TensorFlow alone, but it is kept.
                for key in
                    bundle.keys().filter(|k| bundle.variable(k).is_ok_and(|v| v.dtype == DType::Variant))
                {
                    let (record, bytes) = bundle.raw(key)?;
                    artifact.extras.insert(format!("{KEPT_RECORD}{key}"), record.encode_to_vec().into());
                    artifact.extras.insert(format!("{KEPT_BYTES}{key}"), bytes);
                }
            }
            artifact.objects = objects;
            Ok(artifact)
        };
        read().map_err(|e| e.in_file(place.label()))
    }

    fn salvage(&self, place: &Place, limits: &Limits) -> Result<Salvage> {
        match locate(place, limits)? {
            Located::Bundle(prefix) => Bundle::intact(prefix, limits),
            Located::V1(files) => {
                let variables = Reader::V1(V1::open(&files, limits)?).variables()?;
                let variables = variables.into_iter().map(|v| (v.name.clone(), v)).collect();
                Ok(Salvage { variables, damage: Vec::new() })
            }
        }
    }

    fn needs(&self) -> Needs {
        Needs { words: true, ..Needs::default() }
    }

    fn write(&self, artifact: &Artifact, target: &Target, options: &SaveOptions) -> Result<Report> {
        let mut report = Report::default();
        let name = target.name();
        let prefix = name.strip_suffix(".index").unwrap_or(&name);
        let objects = &artifact.objects;
        let is_model = objects.get(Objects::ROOT).is_some_and(|r| matches!(r.kind, Kind::Layer(_)));
        let kept = artifact.extras.get(KEPT_GRAPH).filter(|_| !is_model);
        let kept = match kept {
            Some(graph) => object_graph::rewrite(objects, graph)?,
            None => None,
        };
        if is_model {
            let written = model_tree(artifact, options, &mut report).write();
            save(artifact, target, prefix, written, &mut report)?;
        } else if let Some(written) = kept {
            if options.save_counter
                && objects.get(Objects::ROOT).is_none_or(|r| r.child("save_counter").is_none())
            {
                report.note(
                    "the checkpoint keeps the object graph that it was read with, which has no save_counter",
                );
            }
            save(artifact, target, prefix, written, &mut report)?;
        } else if object_graph::is_flat(objects) {
            let mut tensors: Vec<(String, Variable)> =
                objects.variables().into_iter().map(|(_, path, v)| (path, v.clone())).collect();
            if tensors.is_empty() {
                return Err(Error::missing("there are no variables to save").in_file(target.path()));
            }
            tensors.sort_by(|a, b| a.0.cmp(&b.0));
            save(artifact, target, prefix, Written { graph: None, tensors }, &mut report)?;
        } else {
            let mut tree = plain_tree(artifact, options);
            if options.save_counter {
                add_save_counter(&mut tree);
            }
            save(artifact, target, prefix, tree.write(), &mut report)?;
        }
        let state = CheckpointState {
            model_checkpoint_path: prefix.to_owned(),
            all_model_checkpoint_paths: vec![prefix.to_owned()],
            ..CheckpointState::default()
        };
        target.write(STATE_FILE, state::to_text(&state).as_bytes())?;
        if artifact.architecture.is_some() {
            report.note("the architecture was left out: a checkpoint holds none");
        }
        if artifact.functions.is_some() {
            report.note("the functions were left out: a checkpoint holds none");
        }
        if !options.without_training && artifact.training.as_ref().is_some_and(|t| t.compile.is_some()) {
            report.note("the compile config was left out: a checkpoint holds none");
        }
        Ok(report)
    }

    fn bind(&self, model: &mut Objects, read: &Artifact) -> Result<Report> {
        bind::bind(model, read).map_err(|e| e.in_file(read.source.path.clone()))
    }
}

/// The tree of a model with layers, as the options ask.
fn model_tree(artifact: &Artifact, options: &SaveOptions, report: &mut Report) -> Tree {
    let own = artifact.architecture.as_ref().map(|a| a.dialect);
    let is_keras3 = options.dialect.or(own) == Some(Dialect::Keras3);
    let keras3 = options.save_counter && is_keras3;
    let mut model = Model::new(
        &artifact.objects.without_states(),
        if keras3 { Dialect::Keras3 } else { Dialect::Keras2 },
    );
    if let Some(training) = artifact.training.as_ref().filter(|_| !options.without_training) {
        // Its variables are in the order of the dialect, whoever is to load the weights.
        optimizer::write(&mut model, training, is_keras3, report);
    }
    let mut tree = model.tree;
    if !options.save_counter {
        tree.link(Tree::ROOT, "root", Tree::ROOT);
        return tree;
    }
    // The model becomes the root's `model`; references to the model itself follow it.
    let own = tree.nodes.first().cloned().unwrap_or_default();
    let edges = own.edges.clone();
    let moved = tree.push(own);
    if let Some(root) = tree.nodes.first_mut() {
        *root = Node::default();
    }
    tree.link(Tree::ROOT, "model", moved);
    add_save_counter(&mut tree);
    // Keys have the model's path, which is what `Checkpoint(model=model)` gives them: these come after.
    tree.later = edges;
    tree
}

/// The tree of objects that aren't layers, with the slots of an `OptimizerV2`, which no object holds.
fn plain_tree(artifact: &Artifact, options: &SaveOptions) -> Tree {
    let mut objects = artifact.objects.clone();
    let state = artifact.training.as_ref().and_then(|t| t.optimizer.as_ref());
    let state = state.filter(|s| s.layout == OptimizerLayout::Legacy && !options.without_training);
    let mut slots = Vec::new();
    if let (Some(state), Some(optimizer)) = (state, objects.find("optimizer")) {
        for v in &state.variables {
            if let Some(slot) = &v.slot {
                let id = objects.push(Kind::Variable(v.variable.clone()));
                slots.push(NamedSlot { optimizer, variable: slot.weight, name: slot.name.clone(), slot: id });
            }
        }
    }
    named::tree(&objects, &slots)
}

/// Counts this save as the first.
fn add_save_counter(tree: &mut Tree) {
    if tree.nodes.first().is_some_and(|root| root.edges.iter().any(|(name, _)| name == "save_counter")) {
        return;
    }
    let counter = Variable::new("save_counter", Tensor::scalar(1i64));
    tree.variable(Tree::ROOT, "save_counter", "save_counter", counter);
}

/// Writes the tensors, and the graph when there is one; a variable is in memory while it is written.
fn save(
    artifact: &Artifact,
    target: &Target,
    prefix: &str,
    mut written: Written,
    report: &mut Report,
) -> Result<()> {
    let mut writer = BundleWriter::new(target, prefix)?;
    let mut left = BTreeSet::new();
    for (key, variable) in &written.tensors {
        if !matches!(variable.dtype, DType::Variant | DType::Resource) {
            writer.add(key, &variable.load().map_err(|e| e.in_file(target.path()))?)?;
            continue;
        }
        let kept = |start: &str| artifact.extras.get(&format!("{start}{key}"));
        match (kept(KEPT_RECORD).map(|r| BundleEntryProto::decode(&**r)), kept(KEPT_BYTES)) {
            (Some(Ok(record)), Some(bytes)) => writer.add_raw(key, record, bytes)?,
            _ => {
                left.insert(key.clone());
            }
        }
    }
    if let Some(graph) = &mut written.graph {
        for node in &mut graph.nodes {
            node.attributes.retain(|a| !left.contains(&a.checkpoint_key));
        }
        writer.add_object_graph(graph)?;
    }
    if !left.is_empty() {
        let keys: Vec<String> = left.into_iter().collect();
        report.note(format!("variants, which hold no plain values, were left out: {}", keys.join(", ")));
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use modelark_artifact::{Memory, OptimizerState, OptimizerVariable, Slot};

    use super::*;

    fn detect(files: &[(&str, &[u8])], name: &str) -> bool {
        let mut memory = Memory::new();
        for (name, bytes) in files {
            memory.insert(*name, *bytes);
        }
        Checkpoint.detect(&Place::in_memory(memory, name))
    }

    #[test]
    fn checkpoints_are_known_by_content() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let read = |name: &str| std::fs::read(golden.join(name)).expect("golden");
        let (index, v1) = (read("partitioned.index"), read("v1"));
        for name in ["m", "m.index", ""] {
            assert!(detect(&[("m.index", &index)], name), "{name:?}");
            assert!(!detect(&[("m.index", b"another kind of index")], name), "{name:?}");
            assert!(detect(&[("m.index", b""), ("m.data-00000-of-00001", b"")], name), "{name:?}");
            assert!(!detect(&[("m.index", &index), ("saved_model.pb", b"")], ""));
        }
        for name in ["m", "m.data-00000-of-00001", ""] {
            assert!(detect(&[("m.data-00000-of-00001", b"")], name), "{name:?}");
        }
        assert!(detect(&[("export", &v1)], "export"));
        assert!(!detect(&[("export", b"{}")], "export") && !detect(&[], ""));
        assert!(Checkpoint.claims("x.ckpt") && Checkpoint.claims("x.ckpt-7") && !Checkpoint.claims("x.h5"));
    }

    #[test]
    fn what_a_checkpoint_cannot_hold_is_reported() {
        let dir = tempfile::tempdir().expect("temp dir");
        let write = |artifact: &Artifact| {
            let target = Target::new(dir.path().join("m.index")).expect("target");
            let report = Checkpoint.write(artifact, &target, &SaveOptions::default());
            target.commit().map(|()| report).expect("commit")
        };
        assert!(write(&Artifact::default()).expect_err("nothing").to_string().contains("no variables"));
        let mut artifact = Artifact { functions: Some(Default::default()), ..Artifact::default() };
        let variable = |name: &str, dtype| Variable::lazy(name, dtype, [], || Ok(Tensor::scalar(1f32)));
        let inner = artifact.objects.add(Objects::ROOT, "a", Kind::object());
        artifact.objects.add(inner, "v", Kind::Variable(variable("v", DType::F32)));
        artifact.objects.add(inner, "iterator", Kind::Variable(variable("iterator", DType::Variant)));
        let notes = write(&artifact).expect("write").notes;
        assert!(
            notes.iter().any(|n| n.contains("functions")) && notes.iter().any(|n| n.contains("a/iterator"))
        );
        let again = Checkpoint.read(&Place::of_path(dir.path()), &Limits::default()).expect("read");
        assert!(again.training.is_none());
        let names: Vec<String> = again.objects.variables().into_iter().map(|(_, path, _)| path).collect();
        assert_eq!(names, ["a/v"]);
    }
    #[test]
    fn slots_of_plain_objects_are_kept() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("m");
        let variable = |name: &str| Variable::new(name, Tensor::scalar(1f32));
        let mut artifact = Artifact::default();
        let layer = artifact.objects.add(Objects::ROOT, "layer", Kind::object());
        let weight = artifact.objects.add(layer, "kernel", Kind::Variable(variable("layer/kernel")));
        let optimizer = artifact.objects.add(Objects::ROOT, "optimizer", Kind::object());
        artifact.objects.add(optimizer, "iter", Kind::Variable(variable("Adam/iter")));
        let own = |name: &str, slot| OptimizerVariable { variable: variable(name), slot };
        let variables =
            vec![own("Adam/iter", None), own("Adam/layer/kernel/m", Some(Slot { name: "m".into(), weight }))];
        let state = OptimizerState { layout: OptimizerLayout::Legacy, class: None, variables };
        artifact.training = Some(Training { compile: None, optimizer: Some(state) });
        let target = Target::new(&path).expect("target");
        Checkpoint.write(&artifact, &target, &SaveOptions::default()).expect("write");
        target.commit().expect("commit");
        let reader = Reader::open(&Place::of_path(&path), &Limits::default()).expect("open");
        assert!(
            reader.keys().contains(&"layer/kernel/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE")
        );
        let again = Checkpoint.read(&Place::of_path(&path), &Limits::default()).expect("read");
        assert_eq!(again.training.and_then(|t| t.optimizer).expect("optimizer").variables.len(), 2);
    }
}
