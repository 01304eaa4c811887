//! LSTM and its cell.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Result};

use super::Entry;
use super::cell::{CellOptions, cell_methods, times};
use super::rnn::{Fused, layer_over};
use crate::config::{Activation, Fields};
use crate::former::{Former, FormerWeights, Origin};
use crate::layer::{WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<LSTM>(&["LSTM", "CuDNNLSTM"]).formerly(FORMER),
    Entry::of::<LSTMCell>(&["LSTMCell"]).formerly(FORMER),
];

const FORMER: &[Former] = &[("units", &["output_dim"]), ("unit_forget_bias", &["forget_bias_init"])];

/// One step of an LSTM (Keras: `LSTMCell`): gates in the order input, forget, cell, output.
#[derive(Debug, Clone, PartialEq)]
pub struct LSTMCell {
    units: usize,
    recurrent_activation: Activation,
    unit_forget_bias: bool,
    options: CellOptions,
}

impl Default for LSTMCell {
    fn default() -> Self {
        LSTMCell {
            units: 1,
            recurrent_activation: "sigmoid".into(),
            unit_forget_bias: true,
            options: CellOptions::default(),
        }
    }
}

cell_methods!(LSTMCell);

impl LSTMCell {
    /// A cell of this many units.
    pub fn new(units: usize) -> Self {
        LSTMCell { units, ..LSTMCell::default() }
    }

    /// The same with this activation function of the gates.
    pub fn recurrent_activation(mut self, activation: impl Into<Activation>) -> Self {
        self.recurrent_activation = activation.into();
        self
    }

    /// The same with a bias of the forget gate that starts from one, or as the others.
    pub fn unit_forget_bias(mut self, unit_forget_bias: bool) -> Self {
        self.unit_forget_bias = unit_forget_bias;
        self
    }

    pub(super) fn fused(&self) -> Fused<'_> {
        Fused {
            op: "ModelarkLSTM",
            use_bias: self.options.use_bias,
            activation: &self.options.activation,
            recurrent_activation: Some(&self.recurrent_activation),
            reset_after: None,
        }
    }
}

impl Layer for LSTMCell {
    fn class_name(&self) -> &str {
        "LSTMCell"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        // Keras 1 and the first of Keras 2 had the hard sigmoid as default.
        if f.is_reading() && f.dialect() == Dialect::Keras1 {
            self.recurrent_activation = Activation::hard_sigmoid_of_keras2();
        }
        f.required("units", &mut self.units);
        f.field("recurrent_activation", &mut self.recurrent_activation);
        self.options.visit(f);
        f.field("unit_forget_bias", &mut self.unit_forget_bias);
        self.options.visit_implementation(f);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let (features, gates) = (inputs.first()?.known(-1)?, times(self.units, 4)?);
        let mut weights = self.options.weights(vec![features, gates], vec![self.units, gates], vec![gates]);
        if self.unit_forget_bias {
            self.options.remember(&mut weights);
        }
        Ok(weights)
    }

    fn former_weights(&self, inputs: &Inputs, origin: &Origin) -> Result<Option<FormerWeights>> {
        // Keras 1 has its gates in the order input, cell, forget, output.
        self.options.former_weights(self.weights(inputs)?, origin, &[0, 2, 1, 3], false)
    }

    fn arguments(&self) -> &[&str] {
        &["inputs", "states"]
    }

    fn states(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![state(inputs, self.units)?; 2])
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![state(inputs, self.units)?; 3])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x, h, c] = inputs(given)?;
        let (kernel, recurrent) = (call.weight("kernel")?, call.weight("recurrent_kernel")?);
        let z = call.apply("MatMul", &[x, kernel])?;
        let from_state = call.apply("MatMul", &[h, recurrent])?;
        let mut z = call.apply("AddV2", &[z, from_state])?;
        if self.options.use_bias {
            let bias = call.weight("bias")?;
            z = call.apply("BiasAdd", &[z, bias])?;
        }
        gates(call, z, 1, c, &self.options.activation, &self.recurrent_activation)
    }
}

/// What one step of `units` keeps.
pub(super) fn state(inputs: &Inputs, units: usize) -> Result<Spec> {
    let input = inputs.first()?;
    Ok(input.with_shape([input.dims()?.first().copied().flatten(), Some(units)]))
}

/// The end of an LSTM's step, from the four gates along an axis and the state c: the output and both states.
pub(super) fn gates(
    call: &mut Call<'_>,
    z: Sym,
    axis: i64,
    c: Sym,
    activation: &Activation,
    recurrent_activation: &Activation,
) -> Result<Vec<Sym>> {
    let axis = call.int(axis)?;
    let gates = call.op("Split").inputs(&[axis, z]).attr("num_split", 4i64).all()?;
    let [i, f, g, o] = inputs(&gates)?;
    let like = call.spec(c);
    for gate in [i, f, g, o] {
        call.describe(gate, like.clone());
    }
    let i = recurrent_activation.call(call, i)?;
    let f = recurrent_activation.call(call, f)?;
    let g = activation.call(call, g)?;
    let o = recurrent_activation.call(call, o)?;
    let (kept, new) = (call.apply("Mul", &[f, c])?, call.apply("Mul", &[i, g])?);
    let c = call.apply("AddV2", &[kept, new])?;
    call.describe(c, like);
    let shown = activation.call(call, c)?;
    let h = call.apply("Mul", &[o, shown])?;
    // The output is the first state, but a tensor of its own.
    let y = call.apply("Identity", &[h])?;
    Ok(vec![y, h, c])
}

layer_over! {
    /// Runs an LSTM over a sequence (Keras: `LSTM`, and `CuDNNLSTM`); its states are the output and the memory.
    LSTM: LSTMCell, "lstm_cell"
}
