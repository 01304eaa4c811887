//! Gated recurrent units.

use super::sequence::{Cell, Number, Recurrence, Sequence, in_precision, run};
use super::state::StateWeights;
use crate::kernels::activation::Activation;
use crate::kernels::array::slice;
use crate::{Error, Result, Tensor};

/// How a GRU goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gru {
    /// Of the candidate; Keras's default is the hyperbolic tangent.
    pub activation: Activation,
    /// Of the two gates; Keras's default is the sigmoid.
    pub recurrent_activation: Activation,
    /// Whether the reset gate acts after the state was multiplied by its weights (Keras's default) or before.
    pub reset_after: bool,
}

impl Default for Gru {
    fn default() -> Self {
        Gru { activation: Activation::Tanh, recurrent_activation: Activation::Sigmoid, reset_after: true }
    }
}

/// A GRU over a sequence (`tf.keras.layers.GRU`): gates in the order update, reset, candidate. The bias is `[3 * units]`,
/// or `[2, 3 * units]`, inputs' then state's, when the reset gate acts after.
///
/// # Errors
/// When dtypes differ or aren't floats, or shapes don't fit.
pub fn gru(r: Recurrence<'_>, options: Gru) -> Result<Sequence> {
    in_precision(r, |r| go::<f32>(r, options), |r| go::<f64>(r, options))
}

fn go<T: Number>(r: Recurrence<'_>, options: Gru) -> Result<Sequence> {
    let recurrent = StateWeights::of(r)?;
    let wide = r.recurrent_kernel.shape().last().copied().unwrap_or_default();
    let (inputs, state): (Option<Tensor>, Option<Tensor>) = match (r.bias, options.reset_after) {
        (None, _) => (None, None),
        (Some(bias), false) => (Some(bias.clone()), None),
        (Some(bias), true) => {
            if bias.shape() != [2, wide] {
                return Err(Error::shape(format!(
                    "a bias of shape {:?} where [2, {wide}] is wanted",
                    bias.shape()
                )));
            }
            let row = |i| slice(bias, &[i, 0], &[1, wide])?.reshape([wide]);
            (Some(row(0)?), Some(row(1)?))
        }
    };
    let state = state.as_ref().map(|s| s.elements::<T>()).transpose()?;
    // Before the reset gate's product only two gates' weights are needed, then those of the candidate.
    let units = wide / 3;
    let (mut gates, mut candidate) = (Vec::new(), Vec::new());
    if !options.reset_after {
        for row in recurrent.plain().chunks_exact(wide.max(1)) {
            gates.extend_from_slice(&row[..2 * units]);
            candidate.extend_from_slice(&row[2 * units..]);
        }
    }
    let cell = GruCell { recurrent, gates, candidate, bias: state.as_deref(), options };
    run::<T, _>(r, inputs.as_ref(), &cell)
}

struct GruCell<'a, T: Number> {
    recurrent: StateWeights<'a, T>,
    /// `recurrent`'s columns of the two gates, when needed apart.
    gates: Vec<T>,
    /// `recurrent`'s columns of the candidate, when needed apart.
    candidate: Vec<T>,
    bias: Option<&'a [T]>,
    options: Gru,
}

impl<T: Number> Cell<T> for GruCell<'_, T> {
    const GATES: usize = 3;
    const STATES: usize = 1;

    fn step(&self, units: usize, inputs: &mut [T], states: &mut [Vec<T>], scratch: &mut Vec<T>) {
        let [h] = states else { return };
        let rows = h.len() / units;
        let Gru { activation, recurrent_activation, reset_after } = self.options;
        scratch.clear();
        scratch.resize(rows * 3 * units, T::zero());
        if reset_after {
            if let Some(bias) = self.bias {
                scratch.chunks_mut(3 * units).for_each(|row| row.copy_from_slice(bias));
            }
            self.recurrent.accumulate(units, 3 * units, h, scratch);
            for (x, s) in inputs.chunks_mut(3 * units).zip(scratch.chunks(3 * units)) {
                let (gates, candidate) = x.split_at_mut(2 * units);
                gates.iter_mut().zip(s).for_each(|(x, s)| *x = *x + *s);
                T::activate(recurrent_activation, gates);
                for (j, c) in candidate.iter_mut().enumerate() {
                    *c = *c + gates[units + j] * s[2 * units + j];
                }
                T::activate(activation, candidate);
            }
        } else {
            let (state_gates, rest) = scratch.split_at_mut(rows * 2 * units);
            T::accumulate(rows, 2 * units, units, h, &self.gates, state_gates);
            let reset_h = &mut rest[..rows * units];
            for (((x, s), h), reset_h) in inputs
                .chunks_mut(3 * units)
                .zip(state_gates.chunks(2 * units))
                .zip(h.chunks(units))
                .zip(reset_h.chunks_mut(units))
            {
                let gates = &mut x[..2 * units];
                gates.iter_mut().zip(s).for_each(|(x, s)| *x = *x + *s);
                T::activate(recurrent_activation, gates);
                for (j, o) in reset_h.iter_mut().enumerate() {
                    *o = gates[units + j] * h[j];
                }
            }
            let state_candidate = &mut state_gates[..rows * units];
            state_candidate.fill(T::zero());
            T::accumulate(rows, units, units, reset_h, &self.candidate, state_candidate);
            for (x, s) in inputs.chunks_mut(3 * units).zip(state_candidate.chunks(units)) {
                let candidate = &mut x[2 * units..];
                candidate.iter_mut().zip(s).for_each(|(x, s)| *x = *x + *s);
                T::activate(activation, candidate);
            }
        }
        for (x, h) in inputs.chunks(3 * units).zip(h.chunks_mut(units)) {
            for (j, h) in h.iter_mut().enumerate() {
                let z = x[j];
                *h = z * *h + (T::one() - z) * x[2 * units + j];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sequence::testing::{Case, ORDERS, close, sigmoid};
    use super::*;
    use crate::DType;

    fn naive(case: &Case, reset_after: bool) -> Sequence {
        let units = case.units;
        case.naive(1, |x, states| {
            let h = states[0].clone();
            let input = |g: usize| case.input_part(x, g) + case.bias(g);
            let state_bias = |g: usize| if reset_after { case.bias(3 * units + g) } else { 0.0 };
            let state = |g: usize| case.state_part(&h, g) + state_bias(g);
            let reset: Vec<f64> = (0..units).map(|j| sigmoid(input(units + j) + state(units + j))).collect();
            let reset_h: Vec<f64> = h.iter().zip(&reset).map(|(h, r)| h * r).collect();
            for j in 0..units {
                let z = sigmoid(input(j) + state(j));
                let g = 2 * units + j;
                let from_state = if reset_after { reset[j] * state(g) } else { case.state_part(&reset_h, g) };
                states[0][j] = z * h[j] + (1.0 - z) * (input(g) + from_state).tanh();
            }
        })
    }

    #[test]
    fn sequences_are_what_the_definition_says() {
        for reset_after in [true, false] {
            for (batch, steps, features, units) in [(1, 3, 2, 4), (5, 7, 3, 6), (2, 0, 3, 2), (33, 20, 8, 17)]
            {
                for order in ORDERS {
                    let case = Case::new(3, batch, steps, features, units, order)
                        .with_bias_rows(1 + usize::from(reset_after));
                    let want = naive(&case, reset_after);
                    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-6), (DType::BF16, 3e-2)] {
                        let got = case.run(dtype, |r| gru(r, Gru { reset_after, ..Gru::default() }));
                        close(&got, &want, tolerance);
                    }
                }
            }
        }
    }
}
