//! A layer whose kernel training divides by its spectral norm.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, Result};

use super::{Dense, Embedding, Entry};
use crate::config::{Fields, Initializer};
use crate::layer::{Sublayer, WeightSpec};
use crate::{Call, Inputs, Instance, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<SpectralNormalization>(&["SpectralNormalization"]).revived()];

/// Holds the spectral norm of a layer's kernel to one (Keras: `SpectralNormalization`). Only training changes the
/// kernel; inference is the layer's own.
#[derive(Debug, Clone)]
pub struct SpectralNormalization {
    layer: Instance,
    power_iterations: usize,
}

impl Default for SpectralNormalization {
    fn default() -> Self {
        SpectralNormalization::new(Dense::default())
    }
}

impl SpectralNormalization {
    /// This layer, which has a kernel or embeddings.
    pub fn new(layer: impl Into<Instance>) -> Self {
        SpectralNormalization { layer: layer.into(), power_iterations: 1 }
    }

    /// The same with so many iterations a training step.
    pub fn power_iterations(mut self, power_iterations: usize) -> Self {
        self.power_iterations = power_iterations;
        self
    }

    /// The weight of the layer that is divided by its norm.
    fn divided(&self, inputs: &Inputs) -> Result<WeightSpec> {
        let weights = self.layer.weights(inputs.all())?;
        let kernel = ["kernel", "embeddings"].into_iter().find_map(|n| weights.iter().find(|w| w.name == n));
        kernel.cloned().ok_or_else(|| Error::invalid("its layer has neither a kernel nor embeddings"))
    }
}

impl Layer for SpectralNormalization {
    fn class_name(&self) -> &str {
        "SpectralNormalization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("layer", &mut self.layer);
        f.field("power_iterations", &mut self.power_iterations);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let columns = self.divided(inputs)?.shape.last().copied().unwrap_or(1);
        let start = Initializer::TruncatedNormal(0.0, 0.02, serde_json::Value::Null);
        Ok(vec![WeightSpec::new("vector_u", [1, columns], &start).fixed()])
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        Ok(vec![Sublayer::new("layer", &self.layer, inputs.all().to_vec())])
    }

    fn aliases(&self) -> Vec<(&str, String)> {
        let embeds = self.layer.downcast::<Embedding>().is_some();
        vec![("kernel", format!("layer/{}", if embeds { "embeddings" } else { "kernel" }))]
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        self.layer.output(inputs.all())
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        call.sublayer("layer", &self.layer, given)
    }

    fn autocasts(&self) -> bool {
        // Embeddings take integers as they are.
        self.layer.layer().is_none_or(Layer::autocasts)
    }
}
