//! Models with layers that can't be had here, of classes that nobody registered or of code that isn't executed: what is
//! known of such layers is what a file holds for them, which is enough to write other files.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use modelark_artifact::tensor::DType;
use modelark_artifact::{Architecture, Held, Objects, Result};
use serde_json::Value;

use super::{Model, objects::Tree};
use crate::config::Reader;
use crate::layer::Given;
use crate::layers::Foreign;
use crate::{Argument, Instance, Registry, Spec};

/// More dimensions than any layer's input has that has weights.
const MOST_DIMENSIONS: usize = 5;

/// A weight that a file holds, and whether training changes it.
pub(crate) type Weight = (Held, bool);

/// What a file holds for the layer or model whose config is read, in a model with stand-ins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StandIns<'a> {
    /// Its weights by their paths from it.
    pub held: &'a [Weight],
    /// Whether it is a model, each of whose weights is in a layer of its name.
    pub is_model: bool,
    /// The key of its config that is read.
    pub key: &'a str,
    /// What is to be told of the layers that are stood in for.
    pub notes: &'a RefCell<Vec<String>>,
}

impl StandIns<'_> {
    /// The weights of a layer of this name within it, by their paths from that layer. Files have a wrapped layer under its
    /// name, under the attribute that holds it, or leave both out; one of a list under both.
    pub fn of(&self, name: &str) -> Vec<Weight> {
        let key = self.key;
        let forward = |of: &str| vec![format!("forward_{of}")];
        let own = || vec![name.to_owned()];
        let listed = vec![key.to_owned(), name.to_owned()];
        let backward = vec![format!("backward_{name}")];
        let parts = [own(), listed, vec![key.to_owned()], forward(name), forward(key), backward];
        let under = |part: &Vec<String>| {
            let within = |(held, trained): &Weight| {
                let path = held.path.strip_prefix(&part[..]).filter(|rest| !rest.is_empty())?;
                Some((Held { path: path.to_vec(), ..held.clone() }, *trained))
            };
            let found: Vec<Weight> = self.held.iter().filter_map(within).collect();
            (!found.is_empty()).then_some(found)
        };
        let all = || if self.is_model { Vec::new() } else { self.held.to_vec() };
        let most = if self.is_model { 1 } else { parts.len() };
        parts.iter().take(most).find_map(under).unwrap_or_else(all)
    }

    /// The layer, or what stands in for it where it can't be had.
    pub fn stand_for(&self, layer: Instance, reader: &Reader<'_>) -> Instance {
        let stand_in = |f: &Foreign| f.standing_in(&within(f, self.held, reader));
        let Some(standing) = layer.downcast::<Foreign>().map(stand_in) else {
            // It may come behind a stand-in within one layer, as stacked cells do.
            let unknown = layer.given(&[Argument::Tensor(Spec::unknown(DType::F32))], &[]);
            return match fitting(&layer, &unknown, self.held) {
                Some(spec) => layer.supposing(spec),
                None => layer,
            };
        };
        let weights = match self.held.len() {
            0 => String::new(),
            1 => ", with the weight that the file holds for it".to_owned(),
            count if self.held.iter().all(|(_, trained)| *trained) => format!(
                ", with the {count} weights that the file holds for it, all as if training changed them"
            ),
            count => format!(", with the {count} weights that the file holds for it"),
        };
        let is_number = |name: &String| name.parse::<usize>().is_ok();
        let nameless = if self.held.iter().any(|(held, _)| held.path.last().is_some_and(is_number)) {
            "; the file numbers them without naming them, and so do forms that have names, such as a checkpoint"
        } else {
            ""
        };
        let note = format!(
            "{}: {}; its config was kept as it is{weights}{nameless}",
            layer.place(),
            standing.reason()
        );
        self.notes.borrow_mut().push(note);
        layer.of_layer(standing)
    }
}

/// The weights of a layer, in which those of a layer that its config has stand under that key: Keras 2 names them in an
/// `.h5` as if they were the wrapper's own.
fn within(wrapper: &Foreign, held: &[Weight], reader: &Reader<'_>) -> Vec<Weight> {
    let mut held = held.to_vec();
    if held.iter().any(|(weight, _)| weight.path.len() != 1) {
        return held;
    }
    let reader = Reader { stand_ins: None, ..*reader };
    for (key, node) in wrapper.config().iter().filter(|(_, node)| node.get("class_name").is_some()) {
        let Ok(layer) = Instance::read(node, &reader) else { continue };
        let own = candidates(&held, DType::F32).into_iter().find_map(|spec| held_by(&layer, spec, &held));
        for (weight, _) in
            held.iter_mut().filter(|(w, _)| own.as_ref().is_some_and(|own| own.contains(&w.path)))
        {
            weight.path.insert(0, key.clone());
        }
    }
    held
}

/// The paths of a layer's weights, if it has some for this input and a file holds them all.
fn held_by(layer: &Instance, input: Spec, held: &[Weight]) -> Option<Vec<Vec<String>>> {
    let weights = layer.weights(&[input]).ok()?;
    let is_held =
        |name: &str, shape: &[usize]| held.iter().any(|(h, _)| h.path == [name] && h.shape == shape);
    let all = !weights.is_empty() && weights.iter().all(|w| is_held(&w.name, &w.shape));
    all.then(|| weights.into_iter().map(|w| vec![w.name]).collect())
}

/// The weights of a layer with whether training changes each.
///
/// Files list the weights that training changes before the others. So whatever follows a weight whose part of the layer was
/// left before isn't trained.
fn trained(held: &[Held]) -> Vec<Weight> {
    let part = |h: &Held| h.path.split_last().map(|(_, part)| part.to_vec()).unwrap_or_default();
    let mut left: BTreeSet<Vec<String>> = BTreeSet::new();
    let mut current: Option<Vec<String>> = None;
    let mut trained = true;
    let mut all = Vec::new();
    for weight in held {
        let now = part(weight);
        if let Some(before) = current.replace(now.clone()).filter(|before| *before != now) {
            left.insert(before);
        }
        trained = trained && !left.contains(&now);
        all.push((weight.clone(), trained));
    }
    all
}

impl Model {
    /// As [`Model::from_architecture`], with a stand-in for every layer whose class isn't known or whose computation isn't
    /// in its config, wherever it stands. It keeps its config and has the weights that a file holds for it: `held`, by the
    /// names of the model's layers, those of layers within them by their paths. What a stand-in gives isn't known; layers
    /// after it take the inputs that fit the weights held for them.
    ///
    /// Such a model can be written, but not run.
    ///
    /// # Errors
    /// As [`Model::from_architecture`], but for unknown classes.
    pub fn with_stand_ins(
        architecture: &Architecture,
        registry: &Registry,
        held: &BTreeMap<String, Vec<Held>>,
    ) -> Result<Self> {
        let mut all = Vec::new();
        for (name, held) in held {
            for (held, trained) in trained(held) {
                let path = std::iter::once(name.clone()).chain(held.path).collect();
                all.push((Held { path, ..held }, trained));
            }
        }
        let notes = RefCell::new(Vec::new());
        let stand_ins = StandIns { held: &all, is_model: true, key: "", notes: &notes };
        let reader = Reader { stand_ins: Some(stand_ins), ..Reader::of(architecture, registry) };
        let mut model = Model::read_architecture(architecture, &reader)?;
        model.inputs()?;
        model.notes.extend(notes.take());
        model.objects = model.empty_objects()?;
        Ok(model)
    }

    /// Gives each layer the inputs for which it has the weights that a file holds for it.
    pub(super) fn settle(&mut self, node: &Value, stand_ins: &StandIns<'_>) -> Result<()> {
        let mut told = BTreeMap::new();
        tensors(node, &mut told);
        for layer in &mut self.layers {
            let kept = layer.clone().assuming(Vec::new());
            *layer = match told.get(layer.name()) {
                Some(output) => kept.giving(output.clone()),
                None => kept,
            };
        }
        let inputs: Vec<Spec> = match self.inputs() {
            Ok(inputs) => inputs.into_iter().map(|(_, s)| s).collect(),
            // A model within another one may learn of them from the call alone.
            Err(_) => vec![Spec::unknown(DType::F32)],
        };
        let mut layers = self.layers.clone();
        self.graph.run(&inputs, |step, args, keywords| {
            let Some(layer) = layers.get_mut(step.layer) else { return Ok(Vec::new()) };
            let given = layer.given(args, keywords);
            if let Some(spec) = fitting(layer, &given, &stand_ins.of(layer.name())) {
                *layer = layer.clone().assuming(vec![spec]);
            }
            layer.output_of(&given)
        })?;
        self.layers = layers;
        Ok(())
    }
}

/// What each layer that gives one tensor gives, as the calls of others in a file of Keras 3 tell it.
fn tensors(config: &Value, found: &mut BTreeMap<String, Spec>) {
    match config {
        Value::Object(node) => {
            let tensor = node.get("class_name").and_then(Value::as_str) == Some("__keras_tensor__");
            let history = config.pointer("/config/keras_history").filter(|_| tensor);
            let layer = history.and_then(|h| h.get(0)).and_then(Value::as_str);
            let first = history.is_some_and(|h| h.get(2).and_then(Value::as_u64) == Some(0));
            let dims = config.pointer("/config/shape").and_then(Value::as_array).map(|dims| {
                dims.iter().map(|d| d.as_u64().and_then(|d| usize::try_from(d).ok())).collect::<Vec<_>>()
            });
            let dtype = config.pointer("/config/dtype").and_then(Value::as_str).and_then(|d| d.parse().ok());
            if let (Some(layer), true, Some(dims), Some(dtype)) = (layer, first, dims, dtype) {
                found.insert(layer.to_owned(), Spec::new(dims, dtype));
            }
            node.values().for_each(|v| tensors(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| tensors(v, found)),
        _ => {}
    }
}

/// The input for which a layer has the weights that a file holds for it, where it hasn't for the one given.
fn fitting(layer: &Instance, given: &Given<Spec>, held: &[Weight]) -> Option<Spec> {
    let mut wanted: Vec<&[usize]> = held.iter().map(|(h, _)| h.shape.as_slice()).collect();
    wanted.sort_unstable();
    let fits = |layer: &Instance| {
        let mut tree = Tree::alone();
        layer.attach(&mut tree, given).ok()?;
        Some(shapes(&tree.objects) == wanted)
    };
    if wanted.is_empty() || fits(layer) == Some(true) {
        return None;
    }
    let dtype = given.tensors.first()?.dtype;
    let fitting = |spec: &Spec| fits(&layer.clone().assuming(vec![spec.clone()])) == Some(true);
    candidates(held, dtype).into_iter().find(fitting)
}

/// The inputs for which a layer may have such weights.
fn candidates(held: &[Weight], dtype: DType) -> Vec<Spec> {
    let extents: BTreeSet<usize> = held.iter().flat_map(|(h, _)| h.shape.iter().copied()).collect();
    let by_last = (2..=MOST_DIMENSIONS).flat_map(|rank| {
        extents.iter().map(move |&last| {
            let mut dims = vec![None; rank];
            dims[rank - 1] = Some(last);
            dims
        })
    });
    // Some have a weight for each place of their input.
    let shapes: BTreeSet<&[usize]> = held.iter().map(|(h, _)| h.shape.as_slice()).collect();
    let whole = shapes.into_iter().map(|shape| {
        let dims = shape.iter().map(|&d| Some(d));
        std::iter::once(None).chain(dims).collect::<Vec<_>>()
    });
    let by_first = (3..=MOST_DIMENSIONS).flat_map(|rank| {
        extents.iter().map(move |&channels| {
            let mut dims = vec![None; rank];
            dims[1] = Some(channels);
            dims
        })
    });
    by_last.chain(whole).chain(by_first).map(|dims| Spec::new(dims, dtype)).collect()
}

fn shapes(objects: &Objects) -> Vec<&[usize]> {
    let mut shapes: Vec<&[usize]> =
        objects.iter().filter_map(|(id, _)| objects.variable(id)).map(|v| v.shape.as_slice()).collect();
    shapes.sort_unstable();
    shapes
}

#[cfg(test)]
mod tests {
    use modelark_artifact::tensor::DType;
    use modelark_artifact::{Dialect, ErrorKind};
    use serde_json::json;

    use super::*;

    fn held(path: &[&str], shape: &[usize]) -> Held {
        let path = path.iter().map(|p| (*p).to_owned()).collect();
        Held { path, shape: shape.to_vec(), dtype: DType::F32 }
    }

    fn architecture() -> Architecture {
        let layer = |class: &str, config: Value| json!({"class_name": class, "config": config});
        let config = json!({"class_name": "Sequential", "config": {"name": "s", "layers": [
            layer("InputLayer", json!({"batch_input_shape": [null, 4], "name": "x"})),
            layer("Strange", json!({"name": "strange", "depth": 3})),
            layer("LSTM", json!({"name": "lstm", "units": 2})),
            layer("Dense", json!({"name": "dense", "units": 5})),
        ]}});
        Architecture { config, dialect: Dialect::Keras2, keras_version: Some("2.15.0".to_owned()) }
    }

    #[test]
    fn what_stands_within_other_layers_has_its_weights() {
        let layer = |class: &str, name: &str, config: Value| {
            let mut config = config;
            config["name"] = json!(name);
            json!({"class_name": class, "config": config})
        };
        let strange = |name: &str| layer("Strange", name, json!({"depth": 3}));
        let inner = json!([strange("own"), layer("Dense", "last", json!({"units": 2}))]);
        let layers = json!([
            layer("InputLayer", "x", json!({"batch_input_shape": [null, 5, 4]})),
            layer("TimeDistributed", "each", json!({"layer": strange("wrapped")})),
            layer(
                "Bidirectional",
                "both",
                json!({"layer": layer("RNN", "rnn", json!({"cell": strange("cell"), "return_sequences": true}))})
            ),
            layer("Sequential", "inner", json!({"layers": inner})),
            layer("Dense", "end", json!({"units": 1})),
        ]);
        let config = json!({"class_name": "Sequential", "config": {"name": "s", "layers": layers}});
        let architecture =
            Architecture { config, dialect: Dialect::Keras2, keras_version: Some("2.15.0".to_owned()) };
        let found = BTreeMap::from([
            ("each".to_owned(), vec![held(&["kernel"], &[4, 3])]),
            (
                "both".to_owned(),
                vec![
                    held(&["forward_rnn", "cell", "kernel"], &[3, 6]),
                    held(&["backward_rnn", "cell", "kernel"], &[3, 6]),
                ],
            ),
            (
                "inner".to_owned(),
                vec![
                    held(&["own", "scale"], &[6]),
                    held(&["last", "kernel"], &[7, 2]),
                    held(&["last", "bias"], &[2]),
                    held(&["own", "mean"], &[6]),
                ],
            ),
            ("end".to_owned(), vec![held(&["kernel"], &[2, 1]), held(&["bias"], &[1])]),
        ]);
        let model = Model::with_stand_ins(&architecture, &Registry::default(), &found).expect("stands in");
        let shape = |path: &str| {
            let variable = model.objects().find(path).and_then(|id| model.objects().variable(id));
            let variable = variable.unwrap_or_else(|| panic!("no {path}"));
            (variable.shape.clone(), variable.trainable)
        };
        for (path, wanted, trained) in [
            ("layers/0/layer/kernel", &[4, 3][..], true),
            ("layers/1/forward_layer/cell/kernel", &[3, 6], true),
            ("layers/1/backward_layer/cell/kernel", &[3, 6], true),
            ("layers/2/layers/0/scale", &[6], true),
            ("layers/2/layers/0/mean", &[6], false),
            ("layers/2/layers/1/kernel", &[7, 2], true),
            ("layers/3/kernel", &[2, 1], true),
        ] {
            assert_eq!(shape(path), (wanted.to_vec(), trained), "{path}");
        }
        assert_eq!(model.changes(Dialect::Keras2).iter().filter(|n| n.contains("Strange")).count(), 3);
        let (same, _) = model.architecture(Dialect::Keras2).expect("written");
        assert_eq!(same.config, architecture.config);
    }

    #[test]
    fn cells_before_and_behind_one_that_nobody_has_keep_their_weights() {
        let cell =
            |class: &str, name: &str| json!({"class_name": class, "config": {"name": name, "units": 3}});
        let cells = json!([cell("GRUCell", "a"), cell("Strange", "b"), cell("LSTMCell", "c")]);
        let stack = json!({"class_name": "StackedRNNCells", "config": {"name": "stack", "cells": cells}});
        let layers = json!([
            {"class_name": "InputLayer", "config": {"batch_input_shape": [null, 5, 4], "name": "x"}},
            {"class_name": "RNN", "config": {"name": "rnn", "cell": stack}},
        ]);
        let config = json!({"class_name": "Sequential", "config": {"name": "s", "layers": layers}});
        let architecture = Architecture { config, dialect: Dialect::Keras2, keras_version: None };
        // By names, as an `.h5` has them, and by numbers, as an archive has them.
        for (root, names) in [(&["stack"][..], true), (&["cell", "cells"], false)] {
            let weight = |cell: &str, number: usize, name: &str, shape: &[usize]| {
                let last = if names { name.to_owned() } else { number.to_string() };
                let path: Vec<&str> = root.iter().copied().chain([cell, &last]).collect();
                held(&path, shape)
            };
            let weights = vec![
                weight("a", 0, "kernel", &[4, 9]),
                weight("a", 1, "recurrent_kernel", &[3, 9]),
                weight("a", 2, "bias", &[2, 9]),
                weight("b", 0, "scale", &[7]),
                weight("c", 0, "kernel", &[6, 12]),
                weight("c", 1, "recurrent_kernel", &[3, 12]),
                weight("c", 2, "bias", &[12]),
            ];
            let found = BTreeMap::from([("rnn".to_owned(), weights)]);
            let model =
                Model::with_stand_ins(&architecture, &Registry::default(), &found).expect("stands in");
            let shape = |path: &str| {
                let variable = model.objects().find(path).and_then(|id| model.objects().variable(id));
                variable.unwrap_or_else(|| panic!("no {path}")).shape.clone()
            };
            assert_eq!(shape("layers/0/cell/cells/0/kernel"), [4, 9]);
            assert_eq!(shape(&format!("layers/0/cell/cells/1/{}", if names { "scale" } else { "0" })), [7]);
            assert_eq!(shape("layers/0/cell/cells/2/kernel"), [6, 12]);
            let told = model.changes(Dialect::Keras2);
            assert_eq!(told.iter().any(|n| n.contains("numbers them")), !names, "{told:?}");
        }
    }

    #[test]
    fn a_wrapper_has_the_weights_of_what_it_wraps_under_its_key() {
        let dense = json!({"class_name": "Dense", "config": {"name": "in", "units": 3}});
        let layer = |class: &str, config: Value| json!({"class_name": class, "config": config});
        let config = json!({"class_name": "Sequential", "config": {"name": "s", "layers": [
            layer("InputLayer", json!({"batch_input_shape": [null, 4], "name": "x"})),
            layer("Mine", json!({"name": "w", "layer": dense})),
        ]}});
        let architecture =
            Architecture { config, dialect: Dialect::Keras2, keras_version: Some("2.15.0".to_owned()) };
        let weights = vec![held(&["scale"], &[1]), held(&["kernel"], &[4, 3]), held(&["bias"], &[3])];
        let found = BTreeMap::from([("w".to_owned(), weights)]);
        let model = Model::with_stand_ins(&architecture, &Registry::default(), &found).expect("stands in");
        let paths: Vec<String> = model.objects().variables().into_iter().map(|(_, path, _)| path).collect();
        for path in ["layers/0/scale", "layers/0/layer/kernel", "layers/0/layer/bias"] {
            assert!(paths.iter().any(|p| p == path), "{path}: {paths:?}");
        }
    }

    #[test]
    fn layers_after_a_stand_in_have_the_weights_of_the_file() {
        let held = BTreeMap::from([
            (
                "strange".to_owned(),
                vec![held(&["scale"], &[4]), held(&["inner", "kernel"], &[4, 7]), held(&["count"], &[])],
            ),
            (
                "lstm".to_owned(),
                vec![held(&["kernel"], &[7, 8]), held(&["recurrent_kernel"], &[2, 8]), held(&["bias"], &[8])],
            ),
            ("dense".to_owned(), vec![held(&["kernel"], &[2, 5]), held(&["bias"], &[5])]),
        ]);
        let registry = Registry::default();
        let error = Model::from_architecture(&architecture(), &registry).expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::UnknownClass);
        let model = Model::with_stand_ins(&architecture(), &registry, &held).expect("stands in");
        let paths: Vec<String> = model.objects().variables().into_iter().map(|(_, path, _)| path).collect();
        for path in ["layers/0/scale", "layers/0/inner/kernel", "layers/1/cell/kernel", "layers/2/kernel"] {
            assert!(paths.iter().any(|p| p == path), "{path}: {paths:?}");
        }
        // What comes again after a part of the layer isn't trained: it is listed behind all that is.
        let count = model.objects().find("layers/0/count").and_then(|id| model.objects().variable(id));
        assert!(!count.expect("count").trainable);
        let (other, _) = model.architecture(Dialect::Keras3).expect("written");
        assert_eq!(other.config.pointer("/config/layers/1/config/depth"), Some(&json!(3)));
        assert_eq!(other.config.pointer("/config/layers/1/registered_name"), Some(&json!("Strange")));
        assert!(model.changes(Dialect::Keras2).iter().any(|n| n.contains("\"strange\"")));
        assert_eq!(model.to_artifact(Dialect::Keras2).expect_err("no call").kind(), ErrorKind::UnknownClass);
    }
}
