//! Models whose ops another dialect says otherwise: the same model of the ops that it has.

use std::collections::HashMap;

use modelark_artifact::graph::Names;
use modelark_artifact::{Dialect, Kind, ObjectId, Objects, Result, Role};

use super::{Edge, Graph, Kind as ModelKind, Model, Step};
use crate::layers::{OpPart, OpSource, Operation};
use crate::{Instance, Spec};

impl Model {
    /// The model with what a dialect has instead of ops that it lacks, those within models too; none where it has them all.
    ///
    /// # Errors
    /// When the layers don't fit each other.
    pub(super) fn apart(&self, dialect: Dialect) -> Result<Option<Model>> {
        let keras3 = dialect == Dialect::Keras3;
        if !self.has_ops_for(keras3) {
            return Ok(None);
        }
        let mut model = self.clone();
        let mut changed = false;
        for layer in &mut model.layers {
            if let Some(mut within) = layer.model().map(|m| m.apart(dialect)).transpose()?.flatten() {
                model.notes.append(&mut within.notes);
                *layer = layer.clone().holding(within);
                changed = true;
            }
        }
        changed |= model.take_apart(keras3)?;
        if !changed {
            return Ok(None);
        }
        if !self.objects.is_empty() {
            model.objects = model.empty_objects()?;
            give(&self.objects, &mut model.objects);
            if let Some(training) = &mut model.training {
                training.follow(&self.objects, &model.objects);
            }
        }
        Ok(Some(model))
    }

    /// Whether there are ops that a dialect may say otherwise.
    fn has_ops_for(&self, keras3: bool) -> bool {
        let is_such = |step: &Step| {
            let op = self.layers.get(step.layer).and_then(|l| l.downcast::<Operation>());
            op.is_some_and(|op| op.is_otherwise(keras3, &step.args, &step.keywords))
        };
        let within = |l: &Instance| l.model().is_some_and(|m| m.has_ops_for(keras3));
        self.graph.steps.iter().any(is_such) || self.layers.iter().any(within)
    }

    /// Puts several ops in the place of each that the dialect says so; tells whether there was any.
    fn take_apart(&mut self, keras3: bool) -> Result<bool> {
        let ModelKind::Functional { inputs } = &self.kind else { return Ok(false) };
        let specs = self.edge_specs();
        let known = |edge: Edge| specs.as_ref()?.of(edge);
        let parts = |step: &Step| {
            let operation = self.layers.get(step.layer)?.downcast::<Operation>()?;
            operation.parts(&step.args, &step.keywords, keras3, &known)
        };
        let parts: Vec<Option<Vec<OpPart<Edge>>>> = self.graph.steps.iter().map(parts).collect();
        if parts.iter().all(Option::is_none) {
            return Ok(false);
        }
        let told = self.graph.steps.iter().zip(&parts).filter_map(|(step, parts)| {
            let layer = self.layers.get(step.layer)?;
            let parts: Vec<&str> = parts.as_ref()?.iter().map(|p| p.operation.title()).collect();
            let title = layer.downcast::<Operation>()?.title();
            // The same op in other words is no news.
            (parts != [title]).then(|| format!("{}: {title} became {}", layer.place(), parts.join(", ")))
        });
        let told: Vec<String> = told.collect();
        self.notes.extend(told);
        let mut layers = self.layers.clone();
        let mut taken: Names = layers.iter().map(|l| l.name()).collect();
        let mut steps: Vec<Step> = Vec::new();
        // For each of the old steps the one that gives what it gave.
        let mut now: Vec<usize> = Vec::new();
        for (step, parts) in self.graph.steps.iter().zip(parts) {
            let Some(parts) = parts else {
                steps.push(step.with_edges(|e| Ok(moved(*e, &now)))?);
                now.push(steps.len() - 1);
                continue;
            };
            let (first, last) = (steps.len(), parts.len().saturating_sub(1));
            for (i, part) in parts.into_iter().enumerate() {
                let mut edge = |source: &OpSource<Edge>| {
                    Ok(match source {
                        OpSource::Given(edge) => moved(*edge, &now),
                        OpSource::Made(part) => Edge::Output(first + part, 0),
                    })
                };
                let args = part.args.iter().map(|a| a.map(&mut edge)).collect::<Result<_>>()?;
                let keywords = part
                    .keywords
                    .iter()
                    .map(|(n, a)| Ok((n.clone(), a.map(&mut edge)?)))
                    .collect::<Result<_>>()?;
                let old = layers.get(step.layer).map(|l| l.name().to_owned()).unwrap_or_default();
                // A result is named by the layer that gives it; a layer that is called again gets one more.
                let is_own = i == last && step.node == 0;
                let name = if is_own { old } else { taken.unique(old) };
                let layer = Instance::from(part.operation).named(&name);
                let at = match layers.get_mut(step.layer).filter(|_| is_own) {
                    Some(own) => {
                        *own = layer;
                        step.layer
                    }
                    None => {
                        layers.push(layer);
                        layers.len() - 1
                    }
                };
                steps.push(Step { layer: at, node: 0, args, keywords });
            }
            now.push(steps.len().saturating_sub(1));
        }
        let output = self.graph.output.map(&mut |e| Ok(moved(*e, &now)))?;
        let graph = Graph { steps, input: self.graph.input.clone(), output };
        let order = graph.order(layers.len(), inputs);
        let place: HashMap<usize, usize> = order.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        let placed = |layer: usize| place.get(&layer).copied().unwrap_or(layer);
        self.kind = ModelKind::Functional { inputs: inputs.iter().map(|i| placed(*i)).collect() };
        self.layers = order.iter().filter_map(|i| layers.get(*i).cloned()).collect();
        self.graph = graph;
        for step in &mut self.graph.steps {
            step.layer = placed(step.layer);
        }
        Ok(true)
    }

    /// What is known of every tensor of the model; none where its layers don't tell.
    pub(super) fn edge_specs(&self) -> Option<EdgeSpecs> {
        let inputs: Vec<Spec> = self.inputs().ok()?.into_iter().map(|(_, s)| s).collect();
        let (given, _) = self.graph.propagate(&self.layers, &inputs).ok()?;
        let outputs = self.graph.steps.iter().zip(given).map(|(step, given)| {
            let layer = self.layers.get(step.layer);
            layer.and_then(|l| l.output_of(&given).ok()).unwrap_or_default()
        });
        let outputs = outputs.collect();
        Some(EdgeSpecs { inputs, outputs })
    }
}

/// What is known of the tensors of a model.
#[derive(Debug)]
pub(super) struct EdgeSpecs {
    inputs: Vec<Spec>,
    outputs: Vec<Vec<Spec>>,
}

impl EdgeSpecs {
    pub(super) fn of(&self, edge: Edge) -> Option<Spec> {
        match edge {
            Edge::Input(i) => self.inputs.get(i).cloned(),
            Edge::Output(step, index) => self.outputs.get(step)?.get(index).cloned(),
        }
    }
}

/// The edge after steps were put between, where for each of the old steps it is told which gives what it gave.
fn moved(edge: Edge, now: &[usize]) -> Edge {
    match edge {
        Edge::Output(step, output) => Edge::Output(now.get(step).copied().unwrap_or(step), output),
        input => input,
    }
}

/// Gives the variables of a tree the values that they have in another one, which lists its layers in another order.
fn give(from: &Objects, to: &mut Objects) {
    let values: HashMap<Vec<String>, ObjectId> =
        named(from).into_iter().map(|(id, path)| (path, id)).collect();
    for (id, path) in named(to) {
        let Some(value) = values.get(&path).and_then(|id| from.variable(*id)).map(|v| v.value.clone()) else {
            continue;
        };
        if let Some(variable) = to.variable_mut(id) {
            variable.value = value;
        }
    }
}

/// The variables with their paths, in which the layers of models stand by name.
fn named(objects: &Objects) -> Vec<(ObjectId, Vec<String>)> {
    let name = |id: ObjectId, segment: &str| match objects.get(id).map(|o| &o.kind) {
        Some(Kind::Layer(layer)) if !layer.name.is_empty() => layer.name.clone(),
        _ => segment.to_owned(),
    };
    let is_model = |id: ObjectId| {
        let role = objects.get(id).and_then(|o| match &o.kind {
            Kind::Layer(layer) => Some(layer.role),
            _ => None,
        });
        matches!(role, Some(Role::Functional | Role::Sequential))
    };
    let variables = objects.walk().into_iter().filter(|(id, _)| objects.variable(*id).is_some());
    let path = |path: Vec<&str>| {
        let (mut at, mut is_listed) = (Objects::ROOT, false);
        let mut out = Vec::with_capacity(path.len());
        for segment in path {
            let Some(child) = objects.get(at).and_then(|o| o.child(segment)) else { break };
            out.push(if is_listed { name(child, segment) } else { segment.to_owned() });
            is_listed = segment == "layers" && is_model(at);
            at = child;
        }
        out
    };
    variables.map(|(id, segments)| (id, path(segments))).collect()
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Architecture;
    use modelark_artifact::tensor::Tensor;
    use serde_json::{Value, json};

    use super::*;
    use crate::Registry;

    /// `d(x @ transpose(e(y)))`, as Keras 2 writes it.
    fn model() -> Model {
        let input = |name: &str| {
            json!({"class_name": "InputLayer", "name": name, "inbound_nodes": [],
            "config": {"name": name, "batch_input_shape": [null, 4, 5], "dtype": "float32"}})
        };
        let dense = |name: &str, from: Value, units: i64| {
            json!({"class_name": "Dense", "name": name,
            "config": {"name": name, "units": units}, "inbound_nodes": [[from]]})
        };
        let product = json!({"class_name": "TFOpLambda", "name": "tf.linalg.matmul",
            "config": {"name": "tf.linalg.matmul", "function": "linalg.matmul"},
            "inbound_nodes": [["c", 0, 0, {"b": ["e", 0, 0], "transpose_b": true, "name": null}]]});
        let layers = [
            input("x"),
            input("y"),
            dense("c", json!(["x", 0, 0, {}]), 3),
            dense("e", json!(["y", 0, 0, {}]), 3),
            product,
            dense("d", json!(["tf.linalg.matmul", 0, 0, {}]), 2),
        ];
        let config = json!({"class_name": "Functional", "config": {"name": "m", "layers": layers,
            "input_layers": [["x", 0, 0], ["y", 0, 0]], "output_layers": [["d", 0, 0]]}});
        let architecture =
            Architecture { config, dialect: Dialect::Keras2, keras_version: Some("2.15.0".to_owned()) };
        let mut model = Model::from_architecture(&architecture, &Registry::default()).unwrap();
        model.initialize(1).unwrap();
        model
    }

    #[test]
    fn a_transposed_factor_is_an_op_of_its_own() {
        let model = model();
        let (artifact, report) = model.described(Dialect::Keras3).unwrap();
        assert!(
            report.notes.iter().any(|n| n.ends_with("linalg.matmul became Transpose, Matmul")),
            "{report:?}"
        );
        let config = artifact.architecture.unwrap().config;
        let layers = config["config"]["layers"].as_array().unwrap();
        let names: Vec<&str> = layers.iter().map(|l| l["name"].as_str().unwrap()).collect();
        // As Keras 3 orders them when it reads them: the branch that is longer now goes first.
        assert_eq!(names, ["y", "x", "e", "c", "tf.linalg.matmul_1", "tf.linalg.matmul", "d"]);
    }

    #[test]
    fn weights_go_with_their_layers() {
        let model = model();
        let apart = model.apart(Dialect::Keras3).unwrap().unwrap();
        let value = |model: &Model, name: &str| -> Tensor {
            let at = model.layers().iter().position(|l| l.name() == name).unwrap();
            let id = model.objects().find(&format!("layers/{at}/kernel")).unwrap();
            model.objects().variable(id).unwrap().load().unwrap()
        };
        for name in ["c", "e", "d"] {
            assert!(value(&model, name).bytes().unwrap() == value(&apart, name).bytes().unwrap());
        }
        assert!(apart.apart(Dialect::Keras3).unwrap().is_none());
        assert!(model.apart(Dialect::Keras2).unwrap().is_none());
    }
}
