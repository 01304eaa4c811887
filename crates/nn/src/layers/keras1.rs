//! Layers that only Keras 1 has: Highway, MaxoutDense, ParametricSoftplus, SReLU. Its `Merge` is read as the layers that
//! came after it.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::Tensor;
use modelark_artifact::{Dialect, Error, Result};

use super::Entry;
use crate::config::{Activation, Fields, Initializer};
use crate::former::{Former, FormerWeights, Layout, Origin};
use crate::layer::{WeightOptions, WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<Highway>(&["Highway"]),
    Entry::of::<MaxoutDense>(&["MaxoutDense"]).formerly(&[("units", &["output_dim"])]),
    Entry::of::<ParametricSoftplus>(&["ParametricSoftplus"])
        .formerly(&[("alpha_initializer", &["alpha_init"]), ("beta_initializer", &["beta_init"])]),
    Entry::of::<SReLU>(&["SReLU"]).formerly(SRELU),
];

const SRELU: &[Former] = &[
    ("t_left_initializer", &["t_left_init"]),
    ("a_left_initializer", &["a_left_init"]),
    ("t_right_initializer", &["t_right_init"]),
    ("a_right_initializer", &["a_right_init"]),
];

/// What the options of a dense layer of Keras 1 say beside its size.
#[derive(Debug, Clone, PartialEq)]
struct Options {
    activation: Activation,
    use_bias: bool,
    kernel: WeightOptions,
    bias: WeightOptions,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            activation: Activation::default(),
            use_bias: true,
            kernel: WeightOptions::new(Initializer::glorot_uniform()),
            bias: WeightOptions::new(Initializer::Zeros),
        }
    }
}

impl Options {
    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("activation", &mut self.activation);
        f.field("use_bias", &mut self.use_bias);
        self.kernel.visit("kernel", f);
        self.bias.visit("bias", f);
        for key in ["activity_regularizer", "input_dim"] {
            f.constant(key, &[], serde_json::Value::Null);
        }
        f.only_in(Dialect::Keras1);
    }
}

/// A dense layer whose output is mixed with its input, as a learned gate says (Keras 1: `Highway`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Highway {
    options: Options,
    transform_bias: f64,
}

impl Layer for Highway {
    fn class_name(&self) -> &str {
        "Highway"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        self.options.visit(f);
        f.field("transform_bias", &mut self.transform_bias);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let width = inputs.first()?.known(-1)?;
        let Options { kernel, bias, use_bias, .. } = &self.options;
        let mut weights = vec![kernel.weight("W", [width, width]), kernel.weight("W_carry", [width, width])];
        if *use_bias {
            weights.push(bias.weight("b", [width]));
            weights.push(WeightSpec::new("b_carry", [width], &Initializer::Ones));
        }
        Ok(weights)
    }

    fn former_weights(&self, inputs: &Inputs, origin: &Origin) -> Result<Option<FormerWeights>> {
        // Before Keras 1.2 each kernel had its bias after it.
        let weights = self.weights(inputs)?;
        Ok(match (&weights[..], origin.layout) {
            ([w, w_carry, b, b_carry], Some(Layout::EarlyKeras1)) => {
                let former = [w, b, w_carry, b_carry].map(Clone::clone).to_vec();
                Some(FormerWeights::new(former, |weights| {
                    let [w, b, w_carry, b_carry] = <[Tensor; 4]>::try_from(weights)
                        .map_err(|_| Error::mismatch("it takes two kernels and two biases"))?;
                    Ok(vec![w, w_carry, b, b_carry])
                }))
            }
            _ => None,
        })
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let spec = call.spec(x);
        let dense = |call: &mut Call<'_>, kernel: &str, bias: &str| {
            let kernel = call.weight(kernel)?;
            let y = call.apply("MatMul", &[x, kernel])?;
            let y = if self.options.use_bias {
                let bias = call.weight(bias)?;
                call.apply("BiasAdd", &[y, bias])?
            } else {
                y
            };
            call.describe(y, spec.clone());
            Ok::<_, Error>(y)
        };
        let gate = dense(call, "W_carry", "b_carry")?;
        let gate = call.apply("Sigmoid", &[gate])?;
        let y = dense(call, "W", "b")?;
        let y = self.options.activation.call(call, y)?;
        let y = call.apply("Mul", &[y, gate])?;
        let one = call.scalar(1.0, gate)?;
        let rest = call.apply("Sub", &[one, gate])?;
        let rest = call.apply("Mul", &[rest, x])?;
        Ok(vec![call.apply("AddV2", &[y, rest])?])
    }
}

/// The largest output of several dense layers (Keras 1: `MaxoutDense`).
#[derive(Debug, Clone, PartialEq)]
pub struct MaxoutDense {
    units: usize,
    nb_feature: usize,
    options: Options,
}

impl Default for MaxoutDense {
    fn default() -> Self {
        MaxoutDense { units: 1, nb_feature: 4, options: Options::default() }
    }
}

impl Layer for MaxoutDense {
    fn class_name(&self) -> &str {
        "MaxoutDense"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("units", &mut self.units);
        f.field("nb_feature", &mut self.nb_feature);
        self.options.visit(f);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let width = inputs.first()?.known(-1)?;
        let Options { kernel, bias, use_bias, .. } = &self.options;
        let mut weights = vec![kernel.weight("W", [self.nb_feature, width, self.units])];
        if *use_bias {
            weights.push(bias.weight("b", [self.nb_feature, self.units]));
        }
        Ok(weights)
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        Ok(vec![input.with_shape([input.dims()?.first().copied().flatten(), Some(self.units)])])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let kernel = call.weight("W")?;
        let mut y = call.op("Einsum").inputs(&[x, kernel]).attr("equation", "bi,fio->bfo").one()?;
        if self.options.use_bias {
            let bias = call.weight("b")?;
            y = call.apply("AddV2", &[y, bias])?;
        }
        Ok(vec![call.reduce("Max", y, &[1], false)?])
    }
}

/// The shape of a weight for each unit, those along shared axes in common.
fn units(inputs: &Inputs, shared: Option<&Vec<i64>>) -> Result<Vec<usize>> {
    let input = inputs.first()?;
    let is_shared = |axis: usize| shared.is_some_and(|s| s.contains(&(axis as i64)));
    (1..input.rank()?).map(|axis| if is_shared(axis) { Ok(1) } else { input.known(axis as i64) }).collect()
}

/// `alpha * softplus(beta * x)` with learned factors (Keras 1: `ParametricSoftplus`).
#[derive(Debug, Clone, PartialEq)]
pub struct ParametricSoftplus {
    alpha_initializer: f64,
    beta_initializer: f64,
    shared_axes: Option<Vec<i64>>,
}

impl Default for ParametricSoftplus {
    fn default() -> Self {
        ParametricSoftplus { alpha_initializer: 0.2, beta_initializer: 5.0, shared_axes: None }
    }
}

impl Layer for ParametricSoftplus {
    fn class_name(&self) -> &str {
        "ParametricSoftplus"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("alpha_initializer", &mut self.alpha_initializer);
        f.field("beta_initializer", &mut self.beta_initializer);
        f.field("shared_axes", &mut self.shared_axes);
        f.only_in(Dialect::Keras1);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let shape = units(inputs, self.shared_axes.as_ref())?;
        let weight = |name, value| WeightSpec::new(name, shape.clone(), &Initializer::Constant(value));
        Ok(vec![weight("alphas", self.alpha_initializer), weight("betas", self.beta_initializer)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let (alpha, beta) = (call.weight("alphas")?, call.weight("betas")?);
        let y = call.apply("Mul", &[x, beta])?;
        let y = call.apply("Softplus", &[y])?;
        Ok(vec![call.apply("Mul", &[y, alpha])?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}

/// A line in three parts, whose joints and outer slopes are learned (Keras 1: `SReLU`).
#[derive(Debug, Clone, PartialEq)]
pub struct SReLU {
    initializers: [Initializer; 4],
    shared_axes: Option<Vec<i64>>,
}

/// The weights of [`SReLU`] in order.
const PARTS: [&str; 4] = ["t_left", "a_left", "t_right", "a_right"];

impl Default for SReLU {
    fn default() -> Self {
        let (zero, glorot) = (Initializer::Zeros, Initializer::glorot_uniform());
        SReLU { initializers: [zero.clone(), glorot.clone(), glorot, Initializer::Ones], shared_axes: None }
    }
}

impl Layer for SReLU {
    fn class_name(&self) -> &str {
        "SReLU"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        for (name, initializer) in PARTS.iter().zip(&mut self.initializers) {
            f.field(&format!("{name}_initializer"), initializer);
        }
        f.field("shared_axes", &mut self.shared_axes);
        f.only_in(Dialect::Keras1);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let shape = units(inputs, self.shared_axes.as_ref())?;
        let weight = |(name, initializer)| WeightSpec::new(name, shape.clone(), initializer);
        Ok(PARTS.into_iter().zip(&self.initializers).map(weight).collect())
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let (left, slope) = (call.weight("t_left")?, call.weight("a_left")?);
        let (extent, right_slope) = (call.weight("t_right")?, call.weight("a_right")?);
        // The right joint is never left of the left one.
        let extent = call.apply("Abs", &[extent])?;
        let right = call.apply("AddV2", &[left, extent])?;
        let from = call.apply("Sub", &[x, left])?;
        let zero = call.scalar(0.0, from)?;
        let below = call.apply("Minimum", &[from, zero])?;
        let below = call.apply("Mul", &[below, slope])?;
        let middle = call.apply("Relu", &[from])?;
        let middle = call.apply("Minimum", &[middle, extent])?;
        let above = call.apply("Sub", &[x, right])?;
        let above = call.apply("Relu", &[above])?;
        let above = call.apply("Mul", &[above, right_slope])?;
        let y = call.apply("AddV2", &[left, middle])?;
        let y = call.apply("AddV2", &[y, below])?;
        Ok(vec![call.apply("AddV2", &[y, above])?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::{Architecture, tensor::DType};
    use serde_json::{Value, json};

    use super::*;
    use crate::{Model, Registry};

    fn read(layers: Value) -> Result<Model> {
        let config = json!({"class_name": "Sequential", "config": layers});
        let architecture = Architecture { config, dialect: Dialect::Keras1, keras_version: None };
        Model::from_architecture(&architecture, &Registry::default())
    }

    #[test]
    fn layers_of_keras_1_are_read() {
        let shape = json!([null, 3]);
        let model = read(json!([
            {"class_name": "MaxoutDense", "config": {"name": "a", "output_dim": 4, "nb_feature": 2, "bias": true,
                "init": "glorot_uniform", "batch_input_shape": shape}},
            {"class_name": "Highway", "config": {"name": "b", "activation": "tanh", "transform_bias": -2}},
            {"class_name": "SReLU", "config": {"name": "c", "t_left_init": "zero"}},
            {"class_name": "ParametricSoftplus", "config": {"name": "d", "alpha_init": 0.2, "beta_init": 5.0}},
        ]))
        .unwrap();
        let shapes: Vec<String> =
            model.skeleton().unwrap().variables().iter().map(|(_, p, v)| format!("{p} {:?}", v.shape)).collect();
        assert_eq!(shapes.len(), 2 + 4 + 4 + 2);
        assert_eq!(shapes[0], "layers/0/W [2, 3, 4]");
        assert_eq!(model.outputs().unwrap()[0].1, Spec::new([None, Some(4)], DType::F32));
        assert!(model.trace("f").is_ok());
    }

    #[test]
    fn branches_of_a_merge_become_inputs() {
        let branch = |name: &str, width: usize| {
            json!({"class_name": "Sequential", "config": [
                {"class_name": "Dense", "config": {"name": name, "output_dim": 4, "batch_input_shape": [null, width]}},
            ]})
        };
        let merged = |mode: Value| {
            read(json!([
                {"class_name": "Merge", "config": {"name": "m", "mode": mode, "concat_axis": -1, "dot_axes": -1,
                    "layers": [branch("a", 3), branch("b", 2)]}},
                {"class_name": "Dense", "config": {"name": "c", "output_dim": 1}},
            ]))
        };
        for (mode, class) in [("sum", "Add"), ("concat", "Concatenate"), ("dot", "Dot"), ("max", "Maximum")] {
            let model = merged(json!(mode)).unwrap();
            assert_eq!(model.inputs().unwrap().len(), 2);
            assert_eq!(model.layer("m").unwrap().class_name(), class);
            assert!(model.trace("f").is_ok(), "{mode}");
        }
        assert!(merged(json!("cos")).unwrap_err().to_string().contains("cos"));
    }
}
