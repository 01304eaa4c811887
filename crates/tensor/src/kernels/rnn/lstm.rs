//! Long short-term memory.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::sequence::{Cell, Number, Recurrence, Row, Sequence, Shared, in_precision, run};
use super::state::StateWeights;
use crate::kernels::activation::Activation;
use crate::kernels::elementwise::math::{sigmoid_f32, tanh_f32};
use crate::kernels::packed::{Packed, accumulate, panel};
use crate::kernels::{simd, team};
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

    fn share(&self, row: &Row<'_, T>) -> Option<Shared<T>> {
        let packed = self.recurrent.packed().filter(|_| self.options == Lstm::default())?;
        fn single<T: Number>(values: &[T]) -> Option<&[f32]> {
            if T::DTYPE == f32::DTYPE { bytemuck::try_cast_slice(values).ok() } else { None }
        }
        let initial = row.initial.iter().map(|s| single(s)).collect::<Option<Vec<_>>>()?;
        let Row { units, steps, go_backwards, outputs, .. } = *row;
        let row = Row { units, steps, go_backwards, gates: single(row.gates)?, initial: &initial, outputs };
        let done = shared(packed, &row)?;
        let back = |values: Vec<f32>| bytemuck::try_cast_slice::<f32, T>(&values).map(<[T]>::to_vec).ok();
        Some(Shared {
            outputs: back(done.outputs)?,
            states: done.states.into_iter().map(back).collect::<Option<_>>()?,
        })
    }

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
                usual(gates, 0..units, c, h);
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

/// Multiplications a step under which threads had better not wait for each other.
const SHARED_STEP: usize = 32 * 1024;

/// Each thread has some of the units: their gates, and their columns of the weights, which stay in its core's cache.
fn shared(packed: &Packed, row: &Row<'_, f32>) -> Option<Shared<f32>> {
    let (units, threads) = (row.units, rayon::current_num_threads());
    let mine = units / threads;
    let whole = mine > 0 && mine * threads == units && mine.is_multiple_of(panel());
    if threads < 2 || !whole || packed.shape() != [units, 4 * units] || 4 * units * units < SHARED_STEP {
        return None;
    }
    let start = |s: usize| row.initial.get(s).map_or_else(|| vec![0.0; units], |state| state.to_vec());
    let (h, c) = (start(0), start(1));
    // Each step writes the one of these that the step before didn't.
    let states = [(); 2].map(|()| (0..units).map(|_| AtomicU32::new(0)).collect::<Vec<_>>());
    let parts = Mutex::new(Vec::new());
    let done = team::together(threads, &|index, barrier| {
        let some = index * mine..(index + 1) * mine;
        let (mut h, mut c, mut next) = (h.clone(), c[some.clone()].to_vec(), vec![0.0; mine]);
        let mut gates = vec![0.0; 4 * units];
        let mut outputs = Vec::with_capacity(if row.outputs { row.steps * mine } else { 0 });
        for step in 0..row.steps {
            let time = if row.go_backwards { row.steps - 1 - step } else { step };
            let from_inputs = &row.gates[time * 4 * units..][..4 * units];
            for gate in 0..4 {
                let columns = gate * units + some.start..gate * units + some.end;
                gates[columns.clone()].copy_from_slice(&from_inputs[columns.clone()]);
                accumulate(&h, packed, &mut gates, columns);
            }
            usual(&gates, some.clone(), &mut c, &mut next);
            let all = &states[step % 2];
            all[some.clone()].iter().zip(&next).for_each(|(to, v)| to.store(v.to_bits(), Ordering::Relaxed));
            if row.outputs {
                outputs.extend_from_slice(&next);
            }
            if !barrier.wait() {
                return;
            }
            h.iter_mut().zip(all).for_each(|(h, v)| *h = f32::from_bits(v.load(Ordering::Relaxed)));
        }
        parts.lock().unwrap_or_else(PoisonError::into_inner).push((some, next, c, outputs));
    });
    if !done {
        return None;
    }
    let (mut h, mut c) = (h, c);
    let mut outputs = vec![0.0; if row.outputs { row.steps * units } else { 0 }];
    for (some, last, state, sequence) in parts.into_inner().unwrap_or_else(PoisonError::into_inner) {
        h[some.clone()].copy_from_slice(&last);
        c[some.clone()].copy_from_slice(&state);
        for (to, from) in outputs.chunks_exact_mut(units).zip(sequence.chunks_exact(mine)) {
            to[some.clone()].copy_from_slice(from);
        }
    }
    Some(Shared { outputs, states: vec![h, c] })
}

/// A step of some of a row's units with the default activations; `c` and `h` are theirs alone.
fn usual(gates: &[f32], some: Range<usize>, c: &mut [f32], h: &mut [f32]) {
    simd::run(
        #[inline(always)]
        |isa| {
            let (units, count) = (gates.len() / 4, some.len());
            let gate = |index: usize| &gates[index * units + some.start..][..count];
            let (i, f, g, o) = (gate(0), gate(1), gate(2), gate(3));
            let (c, h) = (&mut c[..count], &mut h[..count]);
            for j in 0..count {
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
    fn a_row_that_threads_share_is_the_same() {
        let units = panel() * rayon::current_num_threads().max(2);
        let numbers = |shape: &[usize], seed: usize| {
            let count: usize = shape.iter().product();
            let values = (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 101.0 - 0.5);
            Tensor::from_vec(values.collect(), shape).expect("tensor")
        };
        let (x, kernel) = (numbers(&[1, 7, 3], 1), numbers(&[3, 4 * units], 2));
        let recurrent = numbers(&[units, 4 * units], 3);
        let (h, c) = (numbers(&[1, units], 4), numbers(&[1, units], 5));
        let pack = |t: &Tensor| {
            Packed::new(t, 1, false).expect("memory").expect("float32").laid_out().expect("memory")
        };
        let packed = [pack(&kernel), pack(&recurrent)];
        for (initial, go_backwards) in [(&[][..], false), (&[&h, &c][..], true)] {
            let plain = Recurrence {
                inputs: &x,
                kernel: &kernel,
                recurrent_kernel: &recurrent,
                packed: None,
                bias: None,
                initial,
                mask: None,
                zero_output_for_mask: false,
                time_major: false,
                go_backwards,
                return_sequence: true,
            };
            let want = lstm(plain, Lstm::default()).expect("layer");
            let laid_out = Recurrence { packed: Some([&packed[0], &packed[1]]), ..plain };
            for _ in 0..20 {
                let got = lstm(laid_out, Lstm::default()).expect("layer");
                assert_eq!(got.states.len(), 2);
                close(&got, &want, 1e-5);
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
