//! An activation function as a layer.

use modelark_artifact::graph::Sym;
use modelark_artifact::Result;

use super::Entry;
use crate::config::{Activation, Fields};
use crate::layer::inputs;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<ActivationLayer>(&["Activation"])];

/// Applies an activation function (Keras: the layer `Activation`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActivationLayer {
    activation: Activation,
}

impl ActivationLayer {
    /// A layer that applies this function.
    pub fn new(activation: impl Into<Activation>) -> Self {
        ActivationLayer { activation: activation.into() }
    }
}

impl Layer for ActivationLayer {
    fn class_name(&self) -> &str {
        "Activation"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("activation", &mut self.activation);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        if self.activation.name() != "glu" {
            return Ok(vec![input.clone()]);
        }
        let mut dims = input.dims()?.to_vec();
        if let Some(last) = dims.last_mut() {
            *last = last.map(|d| d / 2);
        }
        Ok(vec![input.with_shape(dims)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        Ok(vec![self.activation.call(call, x)?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}
