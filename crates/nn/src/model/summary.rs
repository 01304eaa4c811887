//! What a model consists of, as Keras's `model.summary()` shows it.

use std::collections::HashSet;

use modelark_artifact::tensor::PartialShape;
use modelark_artifact::{ObjectId, Objects, Result};

use super::{Argument, Edge, Model};
use crate::Spec;

/// A layer as `model.summary()` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The layer's name.
    pub name: String,
    /// Its class.
    pub class_name: String,
    /// What it gives, call by call: a shared layer is called several times.
    pub outputs: Vec<PartialShape>,
    /// How many numbers its weights have.
    pub params: u64,
    /// How many of these training changes.
    pub trainable: u64,
    /// The layers whose outputs it takes, call by call.
    pub connected_to: Vec<String>,
}

impl Model {
    /// The layers in the order of `model.layers` with their outputs' shapes, parameters and connections
    /// (Keras: `Model.summary`).
    ///
    /// # Errors
    /// When the model isn't built, or its layers don't fit each other.
    pub fn summary(&self) -> Result<Vec<Row>> {
        let inputs = self.inputs()?;
        let objects = self.skeleton()?.without_states();
        let mut rows: Vec<Row> = self
            .layers
            .iter()
            .enumerate()
            .map(|(i, layer)| {
                let (params, trainable) =
                    objects.find(&format!("layers/{i}")).map_or((0, 0), |id| params(&objects, id));
                let input = inputs.iter().filter(|(n, _)| n == layer.name());
                Row {
                    name: layer.name().to_owned(),
                    class_name: layer.class_name().to_owned(),
                    outputs: input.map(|(_, s)| s.shape.clone()).collect(),
                    params,
                    trainable: if layer.is_trainable() { trainable } else { 0 },
                    connected_to: Vec::new(),
                }
            })
            .collect();
        let specs: Vec<Spec> = inputs.iter().map(|(_, s)| s.clone()).collect();
        let (given, _) = self.graph.propagate(&self.layers, &specs)?;
        for (step, given) in self.graph.steps.iter().zip(&given) {
            let (Some(layer), Some(row)) = (self.layers.get(step.layer), rows.get_mut(step.layer)) else {
                continue;
            };
            row.outputs.extend(layer.output_of(given)?.into_iter().map(|s| s.shape));
            let sources =
                step.args.iter().chain(step.keywords.iter().map(|(_, a)| a)).flat_map(Argument::tensors);
            let names = sources.map(|edge| match edge {
                Edge::Input(i) => inputs.get(i).map(|(n, _)| n.clone()).unwrap_or_default(),
                Edge::Output(step, _) => {
                    let source = self.graph.steps.get(step).and_then(|s| self.layers.get(s.layer));
                    source.map(|l| l.name().to_owned()).unwrap_or_default()
                }
            });
            row.connected_to.extend(names);
        }
        Ok(rows)
    }
}

/// The numbers of the variables under an object, each counted once: all, and those that training changes.
fn params(objects: &Objects, id: ObjectId) -> (u64, u64) {
    let mut seen = HashSet::from([id]);
    let mut stack = vec![id];
    let mut sums = (0u64, 0u64);
    while let Some(id) = stack.pop() {
        if let Some(variable) = objects.variable(id) {
            let size = variable.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64));
            let size = size.unwrap_or(u64::MAX);
            sums.0 = sums.0.saturating_add(size);
            sums.1 = sums.1.saturating_add(if variable.trainable { size } else { 0 });
        }
        let children = objects.get(id).map(|o| o.children.as_slice()).unwrap_or_default();
        stack.extend(children.iter().map(|(_, child)| *child).filter(|child| seen.insert(*child)));
    }
    sums
}

#[cfg(test)]
mod tests {
    use modelark_artifact::{Architecture, Dialect};
    use serde_json::json;

    use super::*;
    use crate::Registry;

    #[test]
    fn shapes_parameters_and_connections_are_told() {
        let dense = |name: &str, units: u32, from: &[&str]| {
            let nodes: Vec<_> = from.iter().map(|f| json!([[f, 0, 0, {}]])).collect();
            json!({"class_name": "Dense", "name": name, "inbound_nodes": nodes,
                   "config": {"name": name, "units": units, "activation": "linear", "use_bias": true}})
        };
        let config = json!({"class_name": "Functional", "config": {"name": "m", "layers": [
            {"class_name": "InputLayer", "name": "i", "inbound_nodes": [],
             "config": {"name": "i", "batch_input_shape": [null, 3], "dtype": "float32"}},
            dense("a", 4, &["i"]),
            {"class_name": "Add", "name": "sum", "config": {"name": "sum"},
             "inbound_nodes": [[["a", 0, 0, {}], ["a", 0, 0, {}]]]},
        ], "input_layers": [["i", 0, 0]], "output_layers": [["sum", 0, 0]]}});
        let architecture = Architecture { config, dialect: Dialect::Keras2, keras_version: None };
        let model = Model::from_architecture(&architecture, &Registry::default()).expect("model");
        let rows = model.summary().expect("summary");
        let told: Vec<_> = rows
            .iter()
            .map(|r| (r.name.as_str(), r.outputs[0].to_string(), r.params, r.connected_to.join(" ")))
            .collect();
        assert_eq!(
            told,
            [
                ("i", "(None, 3)".to_owned(), 0, String::new()),
                ("a", "(None, 4)".to_owned(), 16, "i".to_owned()),
                ("sum", "(None, 4)".to_owned(), 0, "a a".to_owned()),
            ]
        );
    }
}
