//! Keras 2's premade models where they stand within other models, as layers.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Error, Result, Role};

use super::{Dense, Entry};
use crate::config::{Activation, Fields, Initializer, Regularizer};
use crate::layer::{Sublayer, WeightSpec};
use crate::{Argument, Call, Inputs, Instance, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<LinearModel>(&["LinearModel"]).within(MODULE),
    Entry::of::<WideDeepModel>(&["WideDeepModel"]).within(MODULE),
];

const MODULE: &str = "keras.experimental";

/// A product for each of one or more inputs, their sum, a bias and an activation (Keras 2: `tf.keras.experimental.LinearModel`).
/// Keras 3 has no such class.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearModel {
    units: usize,
    activation: Activation,
    use_bias: bool,
    kernel_initializer: Initializer,
    bias_initializer: Initializer,
    kernel_regularizer: Option<Regularizer>,
    bias_regularizer: Option<Regularizer>,
}

impl Default for LinearModel {
    fn default() -> Self {
        LinearModel {
            units: 1,
            activation: Activation::default(),
            use_bias: true,
            kernel_initializer: Initializer::Zeros,
            bias_initializer: Initializer::Zeros,
            kernel_regularizer: None,
            bias_regularizer: None,
        }
    }
}

impl LinearModel {
    /// A model with this many outputs.
    pub fn new(units: usize) -> Self {
        LinearModel { units, ..LinearModel::default() }
    }

    /// For each input its layer's attribute, the layer, and which of the call's tensors it takes. Of a dict Keras takes the
    /// inputs by their names.
    fn columns(&self, inputs: &Inputs) -> Vec<(String, Instance, usize)> {
        let first = inputs.arguments().first().map(|(_, argument)| argument);
        let mut names: Vec<String> = match first {
            Some(Argument::Dict(items)) => items.iter().map(|(name, _)| name.clone()).collect(),
            _ => Vec::new(),
        };
        names.sort();
        let tensors = first.map_or_else(|| (0..inputs.all().len()).collect(), Argument::sorted);
        let column = |(i, tensor): (usize, usize)| {
            let dense = Dense::new(self.units).use_bias(false).kernel_initializer(self.kernel_initializer.clone());
            let dense = match &self.kernel_regularizer {
                Some(regularizer) => dense.kernel_regularizer(regularizer.clone()),
                None => dense,
            };
            let counted = || if i == 0 { "dense".to_owned() } else { format!("dense_{i}") };
            let name = names.get(i).cloned().unwrap_or_else(counted);
            (format!("dense_layers/{i}"), Instance::from(dense).named(&name), tensor)
        };
        tensors.into_iter().enumerate().map(column).collect()
    }
}

impl Layer for LinearModel {
    fn class_name(&self) -> &str {
        "LinearModel"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("units", &mut self.units);
        f.field("activation", &mut self.activation);
        f.field("use_bias", &mut self.use_bias);
        f.field("kernel_initializer", &mut self.kernel_initializer);
        f.field("bias_initializer", &mut self.bias_initializer);
        f.field("kernel_regularizer", &mut self.kernel_regularizer);
        f.field("bias_regularizer", &mut self.bias_regularizer);
        tell_of_absence(f, "LinearModel");
    }

    fn role(&self) -> Role {
        Role::Subclassed
    }

    fn weights(&self, _: &Inputs) -> Result<Vec<WeightSpec>> {
        let bias = || WeightSpec::new("bias", vec![self.units], &self.bias_initializer);
        Ok(self.use_bias.then(bias).into_iter().collect())
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        let held = |(attribute, dense, tensor): (String, Instance, usize)| {
            Ok(Sublayer::new(attribute, &dense, vec![inputs.get(tensor)?.clone()]))
        };
        self.columns(inputs).into_iter().map(held).collect()
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Dense::new(self.units).output(inputs)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let mut sum = None;
        for (attribute, dense, tensor) in self.columns(call.inputs()) {
            let x = given.get(tensor).ok_or_else(|| Error::mismatch("an input that isn't given"))?;
            let y = one(call.sublayer(&attribute, &dense, &[*x])?)?;
            sum = Some(added(call, sum, y)?);
        }
        let mut y = sum.ok_or_else(|| Error::mismatch("it takes at least one input"))?;
        if self.use_bias {
            let bias = call.weight("bias")?;
            y = call.apply("BiasAdd", &[y, bias])?;
        }
        Ok(vec![self.activation.call(call, y)?])
    }
}

/// The sum of a linear model and another one, with an activation (Keras 2: `tf.keras.experimental.WideDeepModel`). Two inputs
/// are one for each, anything else is for both. Keras 3 has no such class.
#[derive(Debug, Clone)]
pub struct WideDeepModel {
    linear_model: Instance,
    dnn_model: Instance,
    activation: Activation,
}

impl Default for WideDeepModel {
    fn default() -> Self {
        WideDeepModel::new(LinearModel::default(), Dense::default())
    }
}

impl WideDeepModel {
    /// The sum of these.
    pub fn new(linear: impl Into<Instance>, deep: impl Into<Instance>) -> Self {
        WideDeepModel { linear_model: linear.into(), dnn_model: deep.into(), activation: Activation::default() }
    }

    /// Each model by its attribute, with which of the call's tensors it takes.
    fn parts(&self, inputs: &Inputs) -> [(&'static str, &Instance, Vec<usize>); 2] {
        let all: Vec<usize> = (0..inputs.all().len()).collect();
        let [wide, deep] = match inputs.arguments().first() {
            Some((_, Argument::List(both))) if both.len() == 2 => {
                [0, 1].map(|i| both.get(i).map(Argument::sorted).unwrap_or_default())
            }
            _ => [all.clone(), all],
        };
        [("linear_model", &self.linear_model, wide), ("dnn_model", &self.dnn_model, deep)]
    }
}

/// Those of some items that have these places.
fn chosen<T: Clone>(items: &[T], places: &[usize]) -> Vec<T> {
    places.iter().filter_map(|i| items.get(*i).cloned()).collect()
}

impl Layer for WideDeepModel {
    fn class_name(&self) -> &str {
        "WideDeepModel"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("linear_model", &mut self.linear_model);
        f.required("dnn_model", &mut self.dnn_model);
        f.field("activation", &mut self.activation);
        tell_of_absence(f, "WideDeepModel");
    }

    fn role(&self) -> Role {
        Role::Subclassed
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        let held = |(attribute, model, places): (&str, &Instance, Vec<usize>)| {
            Sublayer::new(attribute, model, chosen(inputs.all(), &places))
        };
        Ok(self.parts(inputs).into_iter().map(held).collect())
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let [_, (_, deep, places)] = self.parts(inputs);
        deep.output(&chosen(inputs.all(), &places))
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let mut sum = None;
        for (attribute, model, places) in self.parts(&call.inputs().clone()) {
            let y = one(call.sublayer(attribute, model, &chosen(given, &places))?)?;
            sum = Some(added(call, sum, y)?);
        }
        let y = sum.ok_or_else(|| Error::mismatch("it takes at least one input"))?;
        Ok(vec![self.activation.call(call, y)?])
    }
}

fn tell_of_absence(f: &mut Fields<'_>, class: &str) {
    if !f.is_reading() && f.dialect() == Dialect::Keras3 {
        f.note(format!("Keras 3 has no class {class:?}"));
    }
}

fn one(made: Vec<Sym>) -> Result<Sym> {
    let [y] = crate::layer::inputs(&made)?;
    Ok(y)
}

fn added(call: &mut Call<'_>, sum: Option<Sym>, y: Sym) -> Result<Sym> {
    match sum {
        Some(sum) => Ok(call.apply("AddV2", &[sum, y])?),
        None => Ok(y),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Apply, Model, Registry, input};

    #[test]
    fn a_linear_model_has_a_kernel_for_each_input() {
        let (a, b) = (input([3]), input([2]));
        let y = LinearModel::new(2).apply_all(&[a.clone(), b.clone()]).expect("applies");
        let model = Model::functional("m", &[a, b], &[y]).expect("a model");
        let found: Vec<_> = model.objects().variables().into_iter().map(|(_, p, v)| (p, v.shape.clone())).collect();
        let at = |path: &str| found.iter().find(|(p, _)| p.ends_with(path)).map(|(_, s)| s.clone());
        assert_eq!(at("dense_layers/0/kernel"), Some(vec![3, 2]));
        assert_eq!(at("dense_layers/1/kernel"), Some(vec![2, 2]));
        assert_eq!(at("/bias"), Some(vec![2]));
        assert_eq!(model.outputs().expect("known").len(), 1);
        model.trace("f").expect("traced");
    }

    #[test]
    fn a_wide_and_deep_model_is_read_and_adds_its_parts() {
        let layer = |class: &str, config: serde_json::Value| json!({"class_name": class, "config": config});
        let dense = layer("Dense", json!({"name": "d", "units": 2}));
        let deep = layer("Sequential", json!({"name": "s", "layers": [dense]}));
        let wide = layer("LinearModel", json!({"name": "l", "units": 2}));
        let both = json!({"name": "w", "linear_model": wide, "dnn_model": deep, "activation": "tanh"});
        let config = json!({"class_name": "Sequential", "config": {"name": "m", "layers": [
            layer("InputLayer", json!({"name": "x", "batch_input_shape": [null, 3]})), layer("WideDeepModel", both),
        ]}});
        let architecture = modelark_artifact::Architecture { config, dialect: Dialect::Keras2, keras_version: None };
        let model = Model::from_architecture(&architecture, &Registry::default()).expect("reads");
        assert_eq!(model.objects().variables().len(), 4);
        model.trace("f").expect("traced");
        assert!(model.changes(Dialect::Keras3).iter().any(|n| n.contains("WideDeepModel")));
    }
}
