//! Pipeline.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Error, Result};

use super::Entry;
use crate::config::Fields;
use crate::layer::{Sublayer, inputs};
use crate::{Call, Inputs, Instance, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<Pipeline>(&["Pipeline"])];

/// Layers one after the other, for preprocessing (Keras: `Pipeline`).
#[derive(Debug, Clone, Default)]
pub struct Pipeline {
    layers: Vec<Instance>,
}

impl Pipeline {
    /// These layers.
    pub fn new(layers: impl IntoIterator<Item = Instance>) -> Self {
        Pipeline { layers: layers.into_iter().collect() }
    }

    /// What each layer takes, and then what the last one gives.
    fn specs(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let mut specs = vec![inputs.first()?.clone()];
        for layer in &self.layers {
            let given = specs.last().cloned().into_iter().collect::<Vec<_>>();
            let made = layer.output(&given)?.into_iter().next();
            specs.push(made.ok_or_else(|| Error::mismatch("a layer that gives nothing").at(layer.place()))?);
        }
        Ok(specs)
    }
}

fn attribute(index: usize) -> String {
    format!("layers/{index}")
}

impl Layer for Pipeline {
    fn class_name(&self) -> &str {
        "Pipeline"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("layers", &mut self.layers);
        for key in ["trainable", "dtype"] {
            f.without(key, Dialect::Keras3);
        }
        f.only_in(Dialect::Keras3);
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        let held = self.layers.iter().zip(self.specs(inputs)?).enumerate();
        Ok(held.map(|(i, (layer, given))| Sublayer::new(attribute(i), layer, vec![given])).collect())
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(self.specs(inputs)?.pop().into_iter().collect())
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [mut x] = inputs(given)?;
        for (i, layer) in self.layers.iter().enumerate() {
            [x] = inputs(&call.sublayer(&attribute(i), layer, &[x])?)?;
        }
        Ok(vec![x])
    }

    fn autocasts(&self) -> bool {
        false
    }
}
