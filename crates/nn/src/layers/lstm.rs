//! LSTM and its cell.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Error, Result};
use serde_json::{Value, json};

use super::Entry;
use crate::config::{Activation, Fields, Initializer, Regularizer};
use crate::layer::{Sublayer, WeightOptions, WeightSpec, inputs};
use crate::{Call, Inputs, Instance, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<LSTM>(&["LSTM"]), Entry::of::<LSTMCell>(&["LSTMCell"])];

/// One step of an LSTM (Keras: `LSTMCell`): gates in the order input, forget, cell, output.
#[derive(Debug, Clone, PartialEq)]
pub struct LSTMCell {
    units: usize,
    activation: Activation,
    recurrent_activation: Activation,
    use_bias: bool,
    unit_forget_bias: bool,
    kernel: WeightOptions,
    recurrent: WeightOptions,
    bias: WeightOptions,
    dropout: f64,
    recurrent_dropout: f64,
    seed: Option<i64>,
}

impl Default for LSTMCell {
    fn default() -> Self {
        LSTMCell {
            units: 1,
            activation: "tanh".into(),
            recurrent_activation: "sigmoid".into(),
            use_bias: true,
            unit_forget_bias: true,
            kernel: WeightOptions::new(Initializer::glorot_uniform()),
            recurrent: WeightOptions::new(Initializer::orthogonal()),
            bias: WeightOptions::new(Initializer::Zeros),
            dropout: 0.0,
            recurrent_dropout: 0.0,
            seed: None,
        }
    }
}

impl LSTMCell {
    /// A cell of this many units.
    pub fn new(units: usize) -> Self {
        LSTMCell { units, ..LSTMCell::default() }
    }
}

/// What the recurrent op calls an activation function.
fn op_name(activation: &Activation) -> &str {
    if activation.is_keras2s_own() { "hard_sigmoid_2" } else { activation.name() }
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
        f.field("activation", &mut self.activation);
        f.aliased("recurrent_activation", &["inner_activation"], &mut self.recurrent_activation);
        f.field("use_bias", &mut self.use_bias);
        self.kernel.visit("kernel", f);
        self.recurrent.visit("recurrent", f);
        self.bias.visit("bias", f);
        f.field("unit_forget_bias", &mut self.unit_forget_bias);
        f.field("dropout", &mut self.dropout);
        f.field("recurrent_dropout", &mut self.recurrent_dropout);
        f.keras3("seed", &mut self.seed);
        f.constant("implementation", &[Dialect::Keras2], json!(2));
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let gates =
            self.units.checked_mul(4).ok_or_else(|| Error::limit("the layer has more units than memory"))?;
        let mut weights = vec![
            self.kernel.weight("kernel", [inputs.first()?.known(-1)?, gates]),
            self.recurrent.weight("recurrent_kernel", [self.units, gates]),
        ];
        if self.use_bias {
            let mut bias = self.bias.weight("bias", [gates]);
            if self.unit_forget_bias {
                let own = || self.bias.initializer.clone();
                bias.initializer = Initializer::Blocks(vec![own(), Initializer::Ones, own(), own()]);
            }
            weights.push(bias);
        }
        Ok(weights)
    }

    fn arguments(&self) -> &[&str] {
        &["inputs", "states"]
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let out = input.with_shape([input.dims()?.first().copied().flatten(), Some(self.units)]);
        Ok(vec![out.clone(), out.clone(), out])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x, h, c] = inputs(given)?;
        let (kernel, recurrent) = (call.weight("kernel")?, call.weight("recurrent_kernel")?);
        let z = call.apply("MatMul", &[x, kernel])?;
        let from_state = call.apply("MatMul", &[h, recurrent])?;
        let mut z = call.apply("AddV2", &[z, from_state])?;
        if self.use_bias {
            let bias = call.weight("bias")?;
            z = call.apply("BiasAdd", &[z, bias])?;
        }
        let axis = call.int(1)?;
        let gates = call.op("Split").inputs(&[axis, z]).attr("num_split", 4i64).all()?;
        let [i, f, g, o] = inputs(&gates)?;
        let i = self.recurrent_activation.call(call, i)?;
        let f = self.recurrent_activation.call(call, f)?;
        let g = self.activation.call(call, g)?;
        let o = self.recurrent_activation.call(call, o)?;
        let (kept, new) = (call.apply("Mul", &[f, c])?, call.apply("Mul", &[i, g])?);
        let c = call.apply("AddV2", &[kept, new])?;
        let shown = self.activation.call(call, c)?;
        let h = call.apply("Mul", &[o, shown])?;
        // The output is the first state, but a tensor of its own.
        let y = call.apply("Identity", &[h])?;
        Ok(vec![y, h, c])
    }
}

/// Runs an LSTM over a sequence (Keras: `LSTM`).
///
/// It takes the sequence, and the two states to begin with where they are given. A stateful layer begins each call
/// with zeros: nothing is kept from one call to the next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LSTM {
    cell: LSTMCell,
    return_sequences: bool,
    return_state: bool,
    go_backwards: bool,
    stateful: bool,
    unroll: bool,
    time_major: bool,
    zero_output_for_mask: bool,
    activity_regularizer: Option<Regularizer>,
}

impl LSTM {
    /// An LSTM of this many units, which gives its last output.
    pub fn new(units: usize) -> Self {
        LSTM { cell: LSTMCell::new(units), ..LSTM::default() }
    }

    /// The same, giving the outputs of all time steps, or the last alone.
    pub fn return_sequences(mut self, return_sequences: bool) -> Self {
        self.return_sequences = return_sequences;
        self
    }

    /// The same, giving its two states beside its output, or not.
    pub fn return_state(mut self, return_state: bool) -> Self {
        self.return_state = return_state;
        self
    }

    /// The same, running from the end to the beginning, or not.
    pub fn go_backwards(mut self, go_backwards: bool) -> Self {
        self.go_backwards = go_backwards;
        self
    }

    fn cell_layer(&self) -> Instance {
        Instance::from(self.cell.clone()).named("lstm_cell")
    }
}

impl Layer for LSTM {
    fn class_name(&self) -> &str {
        "LSTM"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("return_sequences", &mut self.return_sequences);
        f.field("return_state", &mut self.return_state);
        f.field("go_backwards", &mut self.go_backwards);
        f.field("stateful", &mut self.stateful);
        f.field("unroll", &mut self.unroll);
        f.keras2("time_major", &mut self.time_major);
        f.keras3("zero_output_for_mask", &mut self.zero_output_for_mask);
        self.cell.visit(f);
        f.sparse("activity_regularizer", &mut self.activity_regularizer);
        for key in ["input_dim", "input_length", "consume_less"] {
            f.constant(key, &[], Value::Null);
        }
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        let input = inputs.first()?;
        let step = match input.dims()? {
            [batch, _, features] => input.with_shape([*batch, *features]),
            _ => return Err(Error::mismatch(format!("it takes 3 dimensions, but got {}", input.shape))),
        };
        Ok(vec![Sublayer::new("cell", &self.cell_layer(), vec![step])])
    }

    fn arguments(&self) -> &[&str] {
        &["sequence", "initial_state"]
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let [first, second, _] = input.dims()? else {
            return Err(Error::mismatch(format!("it takes 3 dimensions, but got {}", input.shape)));
        };
        let units = Some(self.cell.units);
        let batch = if self.time_major { *second } else { *first };
        let state = input.with_shape([batch, units]);
        let mut out = vec![match self.return_sequences {
            true => input.with_shape([*first, *second, units]),
            false => state.clone(),
        }];
        if self.return_state {
            out.extend([state.clone(), state]);
        }
        Ok(out)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let (x, h, c) = match *given {
            [x] => {
                let batch = call.extent(x, usize::from(self.time_major))?;
                let units = call.int(self.cell.units as i64)?;
                let (shape, zero) = (call.shape(&[batch, units])?, call.scalar(0.0, x)?);
                let zeros = call.apply("Fill", &[shape, zero])?;
                (x, zeros, zeros)
            }
            [x, h, c] => (x, h, c),
            _ => return Err(Error::mismatch(format!("it takes a sequence and 2 states, but got {} tensors", given.len()))),
        };
        let mut all = vec![x, h, c];
        for (name, there) in [("kernel", true), ("recurrent_kernel", true), ("bias", self.cell.use_bias)] {
            if there {
                all.push(call.weight_of("cell", name)?);
            }
        }
        let mask = call.mask(x);
        all.extend(mask);
        let run = call.op("ModelarkLSTM").inputs(&all).name("LSTM");
        let run = run.attr("use_bias", i64::from(self.cell.use_bias)).attr("masked", i64::from(mask.is_some()));
        let run = run.attr("activation", op_name(&self.cell.activation));
        let run = run.attr("recurrent_activation", op_name(&self.cell.recurrent_activation));
        let run = run.attr("go_backwards", self.go_backwards).attr("time_major", self.time_major);
        let outputs = run.attr("zero_output_for_mask", self.zero_output_for_mask).all()?;
        let [sequence, last, h, c] = inputs(&outputs)?;
        let mut out = vec![if self.return_sequences { sequence } else { last }];
        if self.return_state {
            out.extend([h, c]);
        }
        Ok(out)
    }

    fn masks(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Option<Sym>>> {
        let mask = given.first().and_then(|&x| call.mask(x));
        Ok(vec![mask.filter(|_| self.return_sequences)])
    }
}
