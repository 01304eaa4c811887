//! The plain recurrent layer.

use super::sequence::{Cell, Number, Recurrence, Sequence, in_precision, run};
use super::state::StateWeights;
use crate::Result;
use crate::kernels::activation::Activation;

/// A plain recurrent layer over a sequence (`tf.keras.layers.SimpleRNN`): its state is the activation of inputs and
/// state, each times its weights, and a bias `[units]`.
///
/// # Errors
/// When dtypes differ or aren't floats, or shapes don't fit.
pub fn simple_rnn(r: Recurrence<'_>, activation: Activation) -> Result<Sequence> {
    fn go<T: Number>(r: Recurrence<'_>, activation: Activation) -> Result<Sequence> {
        run::<T, _>(r, r.bias, &SimpleCell { recurrent: StateWeights::of(r)?, activation })
    }
    in_precision(r, |r| go::<f32>(r, activation), |r| go::<f64>(r, activation))
}

struct SimpleCell<'a, T: Number> {
    recurrent: StateWeights<'a, T>,
    activation: Activation,
}

impl<T: Number> Cell<T> for SimpleCell<'_, T> {
    const GATES: usize = 1;
    const STATES: usize = 1;

    fn step(&self, units: usize, gates: &mut [T], states: &mut [Vec<T>], _scratch: &mut Vec<T>) {
        let [h] = states else { return };
        self.recurrent.accumulate(units, units, h, gates);
        T::activate(self.activation, gates);
        h.copy_from_slice(gates);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sequence::testing::{Case, ORDERS, close};
    use super::*;
    use crate::DType;

    #[test]
    fn sequences_are_what_the_definition_says() {
        for (batch, steps, features, units) in [(1, 3, 2, 4), (5, 7, 3, 6)] {
            for order in ORDERS {
                let case = Case::new(1, batch, steps, features, units, order);
                let want = case.naive(1, |x, states| {
                    states[0] = (0..units)
                        .map(|g| {
                            (case.input_part(x, g) + case.bias(g) + case.state_part(&states[0], g)).tanh()
                        })
                        .collect();
                });
                for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-6)] {
                    close(&case.run(dtype, |r| simple_rnn(r, Activation::Tanh)), &want, tolerance);
                }
            }
        }
    }
}
