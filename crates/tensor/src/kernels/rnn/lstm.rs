//! Long short-term memory.

use super::sequence::{Cell, Number, Recurrence, Sequence, in_precision, run};
use super::state::StateWeights;
use crate::kernels::activation::Activation;
use crate::kernels::elementwise::math::{sigmoid_f32, tanh_f32};
use crate::kernels::simd;
use crate::{Element, Result};

/// The activations of an LSTM.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lstm {
    /// Of the candidate and the output; Keras's default is the hyperbolic tangent.
    pub activation: Activation,
    /// Of the three gates; Keras's default is the sigmoid.
    pub recurrent_activation: Activation,
}

impl Default for Lstm {
    fn default() -> Self {
        Lstm { activation: Activation::Tanh, recurrent_activation: Activation::Sigmoid }
    }
}

/// An LSTM over a sequence (`tf.keras.layers.LSTM`): gates in the order input, forget, cell, output; the bias is
/// `[4 * units]`; the states are h and c.
///
/// # Errors
/// When dtypes differ or aren't floats, or shapes don't fit.
pub fn lstm(r: Recurrence<'_>, options: Lstm) -> Result<Sequence> {
    fn go<T: Number>(r: Recurrence<'_>, options: Lstm) -> Result<Sequence> {
        run::<T, _>(r, r.bias, &LstmCell { recurrent: StateWeights::of(r)?, options })
    }
    in_precision(r, |r| go::<f32>(r, options), |r| go::<f64>(r, options))
}

struct LstmCell<'a, T: Number> {
    recurrent: StateWeights<'a, T>,
    options: Lstm,
}

impl<T: Number> Cell<T> for LstmCell<'_, T> {
    const GATES: usize = 4;
    const STATES: usize = 2;

    fn step(&self, units: usize, gates: &mut [T], states: &mut [Vec<T>], scratch: &mut Vec<T>) {
        let [h, c] = states else { return };
        self.recurrent.accumulate(units, 4 * units, h, gates);
        // What nearly every model uses is one pass.
        if self.options == Lstm::default()
            && T::DTYPE == f32::DTYPE
            && let (Ok(gates), Ok(c), Ok(h)) = (
                bytemuck::try_cast_slice_mut::<T, f32>(gates),
                bytemuck::try_cast_slice_mut::<T, f32>(c),
                bytemuck::try_cast_slice_mut::<T, f32>(h),
            )
        {
            for ((gates, c), h) in gates.chunks(4 * units).zip(c.chunks_mut(units)).zip(h.chunks_mut(units)) {
                usual(gates, c, h);
            }
            return;
        }
        for row in gates.chunks_mut(4 * units) {
            T::activate(self.options.recurrent_activation, &mut row[..2 * units]);
            T::activate(self.options.activation, &mut row[2 * units..3 * units]);
            T::activate(self.options.recurrent_activation, &mut row[3 * units..]);
        }
        for (gates, c) in gates.chunks(4 * units).zip(c.chunks_mut(units)) {
            for (j, c) in c.iter_mut().enumerate() {
                *c = gates[units + j] * *c + gates[j] * gates[2 * units + j];
            }
        }
        scratch.clear();
        scratch.extend_from_slice(c);
        T::activate(self.options.activation, scratch);
        for ((gates, a), h) in gates.chunks(4 * units).zip(scratch.chunks(units)).zip(h.chunks_mut(units)) {
            for (j, h) in h.iter_mut().enumerate() {
                *h = gates[3 * units + j] * a[j];
            }
        }
    }
}

/// A row's step with the default activations.
fn usual(gates: &[f32], c: &mut [f32], h: &mut [f32]) {
    simd::run(
        #[inline(always)]
        |isa| {
            let units = c.len();
            let (i, f) = (&gates[..units], &gates[units..2 * units]);
            let (g, o) = (&gates[2 * units..3 * units], &gates[3 * units..4 * units]);
            let h = &mut h[..units];
            for j in 0..units {
                let next = sigmoid_f32(isa, f[j]) * c[j] + sigmoid_f32(isa, i[j]) * tanh_f32(isa, g[j]);
                c[j] = next;
                h[j] = sigmoid_f32(isa, o[j]) * tanh_f32(isa, next);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::super::sequence::testing::{Case, ORDERS, close, sigmoid};
    use super::*;
    use crate::{DType, Tensor};

    /// The layer's definition, one number at a time.
    fn naive(case: &Case, options: Lstm) -> Sequence {
        let hard = options.recurrent_activation != Activation::Sigmoid;
        let gate = |v: f64| if hard { (0.2 * v + 0.5).clamp(0.0, 1.0) } else { sigmoid(v) };
        let act = |v: f64| if hard { v.max(0.0) } else { v.tanh() };
        case.naive(2, |x, states| {
            let units = case.units;
            let all: Vec<f64> = (0..4 * units)
                .map(|g| case.input_part(x, g) + case.bias(g) + case.state_part(&states[0], g))
                .collect();
            for j in 0..units {
                let at = |gate: usize| all[gate * units + j];
                states[1][j] = gate(at(1)) * states[1][j] + gate(at(0)) * act(at(2));
                states[0][j] = gate(at(3)) * act(states[1][j]);
            }
        })
    }

    #[test]
    fn sequences_are_what_the_definition_says() {
        let hard = Lstm {
            activation: Activation::Relu,
            recurrent_activation: Activation::HardSigmoid { slope: 0.2, offset: 0.5 },
        };
        for (batch, steps, features, units) in
            [(1, 3, 2, 4), (5, 7, 3, 6), (2, 0, 3, 2), (0, 4, 3, 2), (33, 20, 8, 17)]
        {
            for order in ORDERS {
                for options in [Lstm::default(), hard] {
                    let case = Case::new(4, batch, steps, features, units, order);
                    let want = naive(&case, options);
                    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-6), (DType::F16, 4e-3)] {
                        let got = case.run(dtype, |r| lstm(r, options));
                        close(&got, &want, tolerance);
                    }
                }
            }
        }
    }

    #[test]
    fn unfit_weights_are_refused() {
        let t = |s: &[usize]| Tensor::zeros(DType::F32, s).expect("zeros");
        let (x, k, r, h) = (t(&[2, 3, 4]), t(&[4, 20]), t(&[5, 20]), t(&[2, 5]));
        let base = Recurrence {
            inputs: &x,
            kernel: &k,
            recurrent_kernel: &r,
            packed: None,
            bias: None,
            initial: &[],
            mask: None,
            zero_output_for_mask: false,
            time_major: false,
            go_backwards: false,
            return_sequence: true,
        };
        fn run(r: Recurrence<'_>) -> Result<Sequence> {
            lstm(r, Lstm::default())
        }
        assert!(run(base).is_ok());
        assert!(run(Recurrence { kernel: &r, ..base }).is_err());
        assert!(run(Recurrence { recurrent_kernel: &k, ..base }).is_err());
        assert!(run(Recurrence { inputs: &h, ..base }).is_err());
        assert!(run(Recurrence { initial: &[&h], ..base }).is_err());
        assert!(run(Recurrence { initial: &[&h, &h], ..base }).is_ok());
        assert!(run(Recurrence { bias: Some(&h), ..base }).is_err());
        assert!(run(Recurrence { mask: Some(&h), ..base }).is_err());
        let wide = Tensor::zeros(DType::F64, [2, 3, 4]).expect("zeros");
        assert!(run(Recurrence { inputs: &wide, ..base }).is_err());
    }
}
