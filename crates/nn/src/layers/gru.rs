//! GRU and its cell.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Result};

use super::Entry;
use super::cell::{CellOptions, cell_methods, times};
use super::lstm::state;
use super::rnn::{Fused, layer_over};
use crate::config::{Activation, Fields};
use crate::former::{Former, FormerWeights, Origin};
use crate::layer::{WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] =
    &[Entry::of::<GRU>(&["GRU", "CuDNNGRU"]).formerly(FORMER), Entry::of::<GRUCell>(&["GRUCell"]).formerly(FORMER)];

const FORMER: &[Former] = &[("units", &["output_dim"])];

/// One step of a GRU (Keras: `GRUCell`): gates in the order update, reset, candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct GRUCell {
    units: usize,
    recurrent_activation: Activation,
    reset_after: bool,
    options: CellOptions,
}

impl Default for GRUCell {
    fn default() -> Self {
        GRUCell {
            units: 1,
            recurrent_activation: "sigmoid".into(),
            reset_after: true,
            options: CellOptions::default(),
        }
    }
}

cell_methods!(GRUCell);

impl GRUCell {
    /// A cell of this many units.
    pub fn new(units: usize) -> Self {
        GRUCell { units, ..GRUCell::default() }
    }

    /// The same with this activation function of the gates.
    pub fn recurrent_activation(mut self, activation: impl Into<Activation>) -> Self {
        self.recurrent_activation = activation.into();
        self
    }

    /// The same with a reset gate that acts after the state was multiplied by its weights, or before.
    pub fn reset_after(mut self, reset_after: bool) -> Self {
        self.reset_after = reset_after;
        self
    }

    pub(super) fn fused(&self) -> Fused<'_> {
        Fused {
            op: "ModelarkGRU",
            use_bias: self.options.use_bias,
            activation: &self.options.activation,
            recurrent_activation: Some(&self.recurrent_activation),
            reset_after: Some(self.reset_after),
        }
    }
}

impl Layer for GRUCell {
    fn class_name(&self) -> &str {
        "GRUCell"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        if f.is_reading() && f.dialect() != Dialect::Keras3 {
            // Before there was a choice, the reset gate acted before; but for CuDNN, whose configs name no activation.
            self.reset_after = !f.has("activation");
            if f.dialect() == Dialect::Keras1 {
                self.recurrent_activation = Activation::hard_sigmoid_of_keras2();
            }
        }
        f.required("units", &mut self.units);
        f.field("recurrent_activation", &mut self.recurrent_activation);
        self.options.visit(f);
        f.field("reset_after", &mut self.reset_after);
        self.options.visit_implementation(f);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let (features, gates) = (inputs.first()?.known(-1)?, times(self.units, 3)?);
        let bias = if self.reset_after { vec![2, gates] } else { vec![gates] };
        Ok(self.options.weights(vec![features, gates], vec![self.units, gates], bias))
    }

    fn former_weights(&self, inputs: &Inputs, origin: &Origin) -> Result<Option<FormerWeights>> {
        self.options.former_weights(self.weights(inputs)?, origin, &[0, 1, 2], false)
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
        let spec = state(call.inputs(), self.units)?;
        let (kernel, recurrent) = (call.weight("kernel")?, call.weight("recurrent_kernel")?);
        let axis = call.int(1)?;
        let three = |call: &mut Call<'_>, z: Sym| -> Result<[Sym; 3]> {
            let parts = call.op("Split").inputs(&[axis, z]).attr("num_split", 3i64).all()?;
            for &part in &parts {
                call.describe(part, spec.clone());
            }
            inputs(&parts)
        };
        let mut from_x = call.apply("MatMul", &[x, kernel])?;
        if self.options.use_bias {
            let bias = if self.reset_after { bias_row(call, 0)? } else { call.weight("bias")? };
            from_x = call.apply("BiasAdd", &[from_x, bias])?;
        }
        let [xz, xr, xh] = three(call, from_x)?;
        let [hz, hr, hh] = if self.reset_after {
            let mut from_h = call.apply("MatMul", &[h, recurrent])?;
            if self.options.use_bias {
                let bias = bias_row(call, 1)?;
                from_h = call.apply("BiasAdd", &[from_h, bias])?;
            }
            three(call, from_h)?
        } else {
            // The candidate's weights wait for the reset gate.
            let [z, r, candidate] = three(call, recurrent)?;
            [call.apply("MatMul", &[h, z])?, call.apply("MatMul", &[h, r])?, candidate]
        };
        let sum = |call: &mut Call<'_>, a: Sym, b: Sym| -> Result<Sym> {
            let sum = call.apply("AddV2", &[a, b])?;
            call.describe(sum, spec.clone());
            Ok(sum)
        };
        let (z, r) = (sum(call, xz, hz)?, sum(call, xr, hr)?);
        let z = self.recurrent_activation.call(call, z)?;
        let r = self.recurrent_activation.call(call, r)?;
        let from_h = if self.reset_after {
            call.apply("Mul", &[r, hh])?
        } else {
            let reset = call.apply("Mul", &[r, h])?;
            call.apply("MatMul", &[reset, hh])?
        };
        let candidate = sum(call, xh, from_h)?;
        let candidate = self.options.activation.call(call, candidate)?;
        let one = call.scalar(1.0, z)?;
        let (kept, rest) = (call.apply("Mul", &[z, h])?, call.apply("Sub", &[one, z])?);
        let new = call.apply("Mul", &[rest, candidate])?;
        let h = call.apply("AddV2", &[kept, new])?;
        let y = call.apply("Identity", &[h])?;
        Ok(vec![y, h])
    }
}

/// A row of the bias, of which there are two where the reset gate acts after.
fn bias_row(call: &mut Call<'_>, row: i64) -> Result<Sym> {
    let bias = call.weight("bias")?;
    let row = call.slice(bias, &[(Some(row), Some(row + 1), 1)])?;
    call.reshape(row, &[-1])
}

layer_over! {
    /// Runs a GRU over a sequence (Keras: `GRU`, and `CuDNNGRU`); its state is the output.
    GRU: GRUCell, "gru_cell"
}
