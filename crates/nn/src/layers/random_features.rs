//! RandomFourierFeatures.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Result};
use serde_json::{Value, json};

use super::Entry;
use crate::config::{ConfigValue, Fields, Initializer, Reader};
use crate::layer::{WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Registry, Spec};

pub(super) const LAYERS: &[Entry] =
    &[Entry::of::<RandomFourierFeatures>(&["RandomFourierFeatures"]).within("keras.layers.experimental")];

/// Cosines of random projections, whose products are those of a kernel (Keras 2:
/// `keras.layers.experimental.RandomFourierFeatures`).
#[derive(Debug, Clone, PartialEq)]
pub struct RandomFourierFeatures {
    output_dim: usize,
    kernel_initializer: Value,
    scale: Option<f64>,
}

impl Default for RandomFourierFeatures {
    fn default() -> Self {
        RandomFourierFeatures { output_dim: 1, kernel_initializer: json!("gaussian"), scale: None }
    }
}

impl Layer for RandomFourierFeatures {
    fn class_name(&self) -> &str {
        "RandomFourierFeatures"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("output_dim", &mut self.output_dim);
        f.field("kernel_initializer", &mut self.kernel_initializer);
        f.field("scale", &mut self.scale);
        f.only_in(Dialect::Keras2);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let width = inputs.first()?.known(-1)?;
        let is_gaussian = self.kernel_initializer.as_str().is_some_and(|k| k.eq_ignore_ascii_case("gaussian"));
        let kernel = if is_gaussian {
            Initializer::RandomNormal(0.0, 1.0, Value::Null)
        } else {
            let registry = Registry::default();
            Initializer::read(&self.kernel_initializer, &Reader::new(Dialect::Keras2, &registry))?
        };
        let bias = Initializer::RandomUniform(0.0, std::f64::consts::TAU, Value::Null);
        let scale = self.scale.unwrap_or(if is_gaussian { (width as f64 / 2.0).sqrt() } else { 1.0 });
        // What may be trained comes first, also in a layer that isn't.
        Ok(vec![
            WeightSpec::new("kernel_scale", [1], &Initializer::Constant(scale)),
            WeightSpec::new("unscaled_kernel", [width, self.output_dim], &kernel).fixed(),
            WeightSpec::new("bias", [self.output_dim], &bias).fixed(),
        ])
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        Ok(vec![input.with_shape([input.dims()?.first().copied().flatten(), Some(self.output_dim)])])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let (kernel, scale, bias) =
            (call.weight("unscaled_kernel")?, call.weight("kernel_scale")?, call.weight("bias")?);
        let kernel = call.apply("RealDiv", &[kernel, scale])?;
        let y = call.apply("MatMul", &[x, kernel])?;
        let y = call.apply("BiasAdd", &[y, bias])?;
        Ok(vec![call.apply("Cos", &[y])?])
    }
}
