//! Models with layers that can't be had here, of classes that nobody registered or of code that isn't executed: what is
//! known of such layers is what a file holds for them, which is enough to write other files.

use std::collections::{BTreeMap, BTreeSet};

use modelark_artifact::{Architecture, Held, Objects, Result};
use serde_json::Value;

use super::{Model, objects::Tree};
use crate::config::Reader;
use crate::layer::Given;
use crate::layers::Foreign;
use crate::{Instance, Registry, Spec};

/// More dimensions than any layer's input has that has weights.
const MOST_DIMENSIONS: usize = 5;

impl Model {
    /// As [`Model::from_architecture`], with a stand-in for every layer whose class isn't known or whose computation isn't
    /// in its config. It keeps its config and has the weights that a file holds for it: `held`, by the names of layers.
    /// What a stand-in gives isn't known; layers after it take the inputs that fit the weights held for them.
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
        let reader = Reader { stand_ins: true, ..Reader::of(architecture, registry) };
        let mut model = Model::read_architecture(architecture, &reader)?;
        let mut told = BTreeMap::new();
        tensors(&architecture.config, &mut told);
        let of = |layer: &Instance| held.get(layer.name()).map(Vec::as_slice).unwrap_or_default();
        for layer in &mut model.layers {
            let standing = layer.downcast::<Foreign>().map(|foreign| foreign.standing_in(of(layer)));
            let note = standing.as_ref().map(|s| {
                let weights = match of(layer).len() {
                    0 => String::new(),
                    count => format!(", with the {count} weights that the file holds for it"),
                };
                format!("{}: {}; its config was kept as it is{weights}", layer.place(), s.reason())
            });
            let kept = match standing {
                Some(standing) => layer.clone().of_layer(standing),
                None => layer.clone(),
            };
            let kept = kept.assuming(Vec::new());
            *layer = match told.get(layer.name()) {
                Some(output) => kept.giving(output.clone()),
                None => kept,
            };
            model.notes.extend(note);
        }
        let inputs: Vec<Spec> = model.inputs()?.into_iter().map(|(_, s)| s).collect();
        let mut layers = model.layers.clone();
        model.graph.run(&inputs, |step, args, keywords| {
            let Some(layer) = layers.get_mut(step.layer) else { return Ok(Vec::new()) };
            let given = layer.given(args, keywords);
            if let Some(spec) = fitting(layer, &given, of(layer)) {
                *layer = layer.clone().assuming(vec![spec]);
            }
            layer.output_of(&given)
        })?;
        model.layers = layers;
        model.objects = model.empty_objects()?;
        Ok(model)
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
fn fitting(layer: &Instance, given: &Given<Spec>, held: &[Held]) -> Option<Spec> {
    let mut wanted: Vec<&[usize]> = held.iter().map(|h| h.shape.as_slice()).collect();
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
    let extents: BTreeSet<usize> = wanted.iter().flat_map(|s| s.iter().copied()).collect();
    let by_last = (2..=MOST_DIMENSIONS).flat_map(|rank| {
        extents.iter().map(move |&last| {
            let mut dims = vec![None; rank];
            dims[rank - 1] = Some(last);
            dims
        })
    });
    // Some have a weight for each place of their input.
    let whole = wanted.iter().map(|shape| {
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
    by_last
        .chain(whole)
        .chain(by_first)
        .map(|dims| Spec::new(dims, dtype))
        .find(|spec| fits(&layer.clone().assuming(vec![spec.clone()])) == Some(true))
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
