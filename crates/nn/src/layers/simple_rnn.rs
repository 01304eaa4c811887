//! SimpleRNN and its cell.

use modelark_artifact::Result;
use modelark_artifact::graph::Sym;

use super::Entry;
use super::cell::{CellOptions, cell_methods};
use super::lstm::state;
use super::rnn::{Fused, layer_over};
use crate::config::Fields;
use crate::layer::{WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] =
    &[
    Entry::of::<SimpleRNN>(&["SimpleRNN"]).formerly(&[("units", &["output_dim"])]),
    Entry::of::<SimpleRNNCell>(&["SimpleRNNCell"]).formerly(&[("units", &["output_dim"])]),
];

/// One step of a plain recurrent layer (Keras: `SimpleRNNCell`): the activation of the inputs and the state, each times
/// its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct SimpleRNNCell {
    units: usize,
    options: CellOptions,
}

impl Default for SimpleRNNCell {
    fn default() -> Self {
        SimpleRNNCell { units: 1, options: CellOptions::default() }
    }
}

cell_methods!(SimpleRNNCell);

impl SimpleRNNCell {
    /// A cell of this many units.
    pub fn new(units: usize) -> Self {
        SimpleRNNCell { units, ..SimpleRNNCell::default() }
    }

    pub(super) fn fused(&self) -> Fused<'_> {
        Fused {
            op: "ModelarkSimpleRNN",
            use_bias: self.options.use_bias,
            activation: &self.options.activation,
            recurrent_activation: None,
            reset_after: None,
        }
    }
}

impl Layer for SimpleRNNCell {
    fn class_name(&self) -> &str {
        "SimpleRNNCell"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("units", &mut self.units);
        self.options.visit(f);
        f.constant("implementation", &[], serde_json::Value::Null);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let (features, units) = (inputs.first()?.known(-1)?, self.units);
        Ok(self.options.weights(vec![features, units], vec![units, units], vec![units]))
    }

    fn arguments(&self) -> &[&str] {
        &["inputs", "states"]
    }

    fn states(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![state(inputs, self.units)?])
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![state(inputs, self.units)?; 2])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x, h] = inputs(given)?;
        let (kernel, recurrent) = (call.weight("kernel")?, call.weight("recurrent_kernel")?);
        let mut z = call.apply("MatMul", &[x, kernel])?;
        if self.options.use_bias {
            let bias = call.weight("bias")?;
            z = call.apply("BiasAdd", &[z, bias])?;
        }
        let from_state = call.apply("MatMul", &[h, recurrent])?;
        let z = call.apply("AddV2", &[z, from_state])?;
        let spec = state(call.inputs(), self.units)?;
        call.describe(z, spec);
        let h = self.options.activation.call(call, z)?;
        let y = call.apply("Identity", &[h])?;
        Ok(vec![y, h])
    }
}

layer_over! {
    /// Runs a plain recurrent layer over a sequence (Keras: `SimpleRNN`); its state is the output.
    SimpleRNN: SimpleRNNCell, "simple_rnn_cell"
}
