//! The walk through a sequence that all recurrent layers share.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use crate::kernels::activation::{Activate, Activation};
use crate::kernels::array::{cast, transpose};
use crate::kernels::elementwise::same_dtype;
use crate::kernels::matmul::{Accumulate, Form, matmul_bias};
use crate::kernels::packed::{After, Packed, product_after};
use crate::kernels::{parallel, team};
use crate::{Bool, DType, Error, Result, Tensor};

/// What a recurrent layer works on, and how it goes through it.
#[derive(Debug, Clone, Copy)]
pub struct Recurrence<'a> {
    /// The inputs: `[batch, steps, features]`, or `[steps, batch, features]` when time comes first.
    pub inputs: &'a Tensor,
    /// The weights of the inputs: `[features, gates * units]`.
    pub kernel: &'a Tensor,
    /// The weights of the state: `[units, gates * units]`.
    pub recurrent_kernel: &'a Tensor,
    /// Both laid out for products beforehand, where they were.
    pub packed: Option<[&'a Packed; 2]>,
    /// What is added to the gates; its shape is the layer's matter.
    pub bias: Option<&'a Tensor>,
    /// The states to start from, `[batch, units]` each, as many as the layer has; zeros when there are none.
    pub initial: &'a [&'a Tensor],
    /// Which steps count, `bool` of the inputs' shape without features. At one that doesn't, the state stays, and the
    /// output is that of the step before.
    pub mask: Option<&'a Tensor>,
    /// Whether the outputs of steps that don't count are zeros instead.
    pub zero_output_for_mask: bool,
    /// Whether steps come before batches in inputs, mask and outputs.
    pub time_major: bool,
    /// Whether the sequence is gone through from its end; outputs are in the order in which they were made.
    pub go_backwards: bool,
    /// Whether the outputs of all steps are wanted.
    pub return_sequence: bool,
}

/// What a recurrent layer made of a sequence.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// The outputs of all steps, if wanted: `[batch, steps, units]`, or time first as the inputs.
    pub outputs: Option<Tensor>,
    /// The last step's output: `[batch, units]`.
    pub last_output: Tensor,
    /// The states after the last step: `[batch, units]` each.
    pub states: Vec<Tensor>,
}

/// A float that recurrent layers compute with.
pub(super) trait Number: Accumulate + Activate + std::iter::Sum {}
impl Number for f32 {}
impl Number for f64 {}

/// One step of a layer for a few rows of a batch.
pub(super) trait Cell<T>: Sync {
    /// How many gates there are.
    const GATES: usize;
    /// How many states there are; the first one is the output too.
    const STATES: usize;

    /// Moves `states`, `[rows, units]` each, on by a step. `gates` holds what the inputs contribute, `[rows, GATES *
    /// units]`, and may be overwritten; `scratch` keeps its size from step to step.
    fn step(&self, units: usize, gates: &mut [T], states: &mut [Vec<T>], scratch: &mut Vec<T>);

    /// Goes through a sequence of one row on several threads, if that pays. Nothing is done otherwise.
    fn share(&self, _: &Row<'_, T>) -> Option<Shared<T>> {
        None
    }
}

/// A sequence of one row, all of whose steps count.
pub(super) struct Row<'a, T> {
    pub(super) units: usize,
    pub(super) steps: usize,
    pub(super) go_backwards: bool,
    /// What the inputs contribute, `[steps, gates * units]`.
    pub(super) gates: &'a [T],
    /// The states to start from; zeros when there are none.
    pub(super) initial: &'a [&'a [T]],
    /// Whether the outputs of all steps are wanted.
    pub(super) outputs: bool,
}

/// What threads made of a row.
pub(super) struct Shared<T> {
    /// `[steps, units]`, if wanted.
    pub(super) outputs: Vec<T>,
    /// `[units]` each, the output first.
    pub(super) states: Vec<Vec<T>>,
}

/// Runs a layer in the inputs' precision, or in `float32` for half precision.
pub(super) fn in_precision(
    r: Recurrence<'_>,
    single: impl Fn(Recurrence<'_>) -> Result<Sequence>,
    double: impl Fn(Recurrence<'_>) -> Result<Sequence>,
) -> Result<Sequence> {
    for t in [r.kernel, r.recurrent_kernel].into_iter().chain(r.bias).chain(r.initial.iter().copied()) {
        same_dtype(r.inputs, t)?;
    }
    match r.inputs.dtype() {
        DType::F32 => single(r),
        DType::F64 => double(r),
        dtype @ (DType::F16 | DType::BF16) => {
            let wide = |t: &Tensor| cast(t, DType::F32);
            let initial = r.initial.iter().map(|t| wide(t)).collect::<Result<Vec<_>>>()?;
            let out = single(Recurrence {
                inputs: &wide(r.inputs)?,
                kernel: &wide(r.kernel)?,
                recurrent_kernel: &wide(r.recurrent_kernel)?,
                bias: r.bias.map(wide).transpose()?.as_ref(),
                initial: &initial.iter().collect::<Vec<_>>(),
                ..r
            })?;
            let narrow = |t: &Tensor| cast(t, dtype);
            Ok(Sequence {
                outputs: out.outputs.as_ref().map(narrow).transpose()?,
                last_output: narrow(&out.last_output)?,
                states: out.states.iter().map(narrow).collect::<Result<_>>()?,
            })
        }
        d => Err(Error::dtype("a float one", d)),
    }
}

/// Units of a layer with so many gates, its weights' shapes checked against each other and the inputs.
fn units_of(r: &Recurrence<'_>, gates: usize) -> Result<usize> {
    let wrong = || {
        Error::shape(format!(
            "inputs {:?}, kernel {:?} and recurrent kernel {:?} don't fit a layer of {gates} gates",
            r.inputs.shape(),
            r.kernel.shape(),
            r.recurrent_kernel.shape()
        ))
    };
    let &[_, _, features] = r.inputs.shape() else { return Err(wrong()) };
    let &[units, wide] = r.recurrent_kernel.shape() else { return Err(wrong()) };
    if units.checked_mul(gates) != Some(wide) || r.kernel.shape() != [features, wide] {
        return Err(wrong());
    }
    if r.packed.is_some_and(|[k, s]| k.shape() != r.kernel.shape() || s.shape() != r.recurrent_kernel.shape())
    {
        return Err(wrong());
    }
    Ok(units)
}

/// Goes through a sequence with `cell`. `input_bias` is what is added to the inputs' contribution.
pub(super) fn run<T: Number, C: Cell<T>>(
    r: Recurrence<'_>,
    input_bias: Option<&Tensor>,
    cell: &C,
) -> Result<Sequence> {
    let units = units_of(&r, C::GATES)?;
    let &[first, second, features] = r.inputs.shape() else {
        return Err(Error::shape("inputs of a recurrent layer have three dimensions"));
    };
    let (batch, steps) = if r.time_major { (second, first) } else { (first, second) };
    let wide = units * C::GATES;
    if !r.initial.is_empty() && r.initial.len() != C::STATES
        || r.initial.iter().any(|s| s.shape() != [batch, units])
    {
        let shapes: Vec<_> = r.initial.iter().map(|s| s.shape()).collect();
        return Err(Error::shape(format!(
            "initial states of shapes {shapes:?} where {} of [{batch}, {units}] are wanted",
            C::STATES
        )));
    }
    if let Some(mask) = r.mask
        && mask.shape() != [first, second]
    {
        return Err(Error::shape(format!(
            "a mask of shape {:?} for [{first}, {second}] steps",
            mask.shape()
        )));
    }

    let rows = r.inputs.clone().reshape([first * second, features])?;
    let pre = of_inputs(&rows, r.kernel, r.packed.map(|[kernel, _]| kernel), input_bias)?;
    let pre = pre.elements::<T>()?;
    let pre = &pre[..];
    let mask = r.mask.map(|m| m.elements::<Bool>()).transpose()?;
    let mask = mask.as_deref();
    let initial = r.initial.iter().map(|s| s.elements::<T>()).collect::<Result<Vec<_>>>()?;
    let initial: Vec<&[T]> = initial.iter().map(|s| &s[..]).collect();

    let kept = if r.return_sequence { steps } else { 0 };
    let mut outputs = Tensor::zeros(T::DTYPE, [batch, kept, units])?;
    let mut last_output = Tensor::zeros(T::DTYPE, [batch, units])?;
    let mut finals =
        (0..C::STATES).map(|_| Tensor::zeros(T::DTYPE, [batch, units])).collect::<Result<Vec<_>>>()?;

    if batch == 1 && steps > 0 && mask.is_none() {
        let row = Row {
            units,
            steps,
            go_backwards: r.go_backwards,
            gates: pre,
            initial: &initial,
            outputs: r.return_sequence,
        };
        if let Some(done) = cell.share(&row) {
            let tensor = |values: Vec<T>, shape: &[usize]| Tensor::from_vec(values, shape);
            let states: Result<Vec<_>> = done.states.into_iter().map(|s| tensor(s, &[1, units])).collect();
            let states = states?;
            let last_output =
                states.first().cloned().ok_or_else(|| Error::shape("a layer without states"))?;
            let shape = if r.time_major { [steps, 1, units] } else { [1, steps, units] };
            let outputs = r.return_sequence.then(|| tensor(done.outputs, &shape)).transpose()?;
            return Ok(Sequence { outputs, last_output, states });
        }
    }

    // Rows of a batch know nothing of each other, so each thread takes some through the whole sequence.
    let work = steps.saturating_mul(batch).saturating_mul(units).saturating_mul(wide);
    let threads = if parallel::worth(work / 8) { rayon::current_num_threads().min(batch) } else { 1 };
    let share = batch.div_ceil(threads.max(1)).max(1);
    let go = |start: usize, part: Part<'_, T>| {
        let count = part.last_output.len() / units.max(1);
        let mut states: Vec<Vec<T>> = (0..C::STATES)
            .map(|s| match initial.get(s) {
                Some(state) => state[start * units..(start + count) * units].to_vec(),
                None => vec![T::zero(); count * units],
            })
            .collect();
        let mut before: Vec<Vec<T>> = Vec::new();
        let mut gates = vec![T::zero(); count * wide];
        let mut scratch = Vec::new();
        for step in 0..steps {
            let time = if r.go_backwards { steps - 1 - step } else { step };
            let place = |row: usize| {
                if r.time_major { time * batch + start + row } else { (start + row) * steps + time }
            };
            for (row, to) in gates.chunks_exact_mut(wide).enumerate() {
                to.copy_from_slice(&pre[place(row) * wide..][..wide]);
            }
            let counts = |row: usize| mask.is_none_or(|m| m[place(row)].get());
            if mask.is_some() {
                before.clone_from(&states);
            }
            cell.step(units, &mut gates, &mut states, &mut scratch);
            for row in 0..count {
                let here = row * units..(row + 1) * units;
                if counts(row) {
                    part.last_output[here.clone()].copy_from_slice(&states[0][here.clone()]);
                } else {
                    for (state, before) in states.iter_mut().zip(&before) {
                        state[here.clone()].copy_from_slice(&before[here.clone()]);
                    }
                    if r.zero_output_for_mask {
                        part.last_output[here.clone()].fill(T::zero());
                    }
                }
                if kept > 0 {
                    part.outputs[(row * steps + step) * units..][..units]
                        .copy_from_slice(&part.last_output[here]);
                }
            }
        }
        for (to, state) in part.finals.into_iter().zip(&states) {
            to.copy_from_slice(state);
        }
    };
    if batch > 0 && units > 0 {
        let mut parts: Vec<Mutex<Option<Part<'_, T>>>> = Vec::new();
        let mut states: Vec<_> = finals
            .iter_mut()
            .map(|t| Ok(t.make_mut::<T>()?.chunks_mut(share * units)))
            .collect::<Result<_>>()?;
        let mut sequences = outputs.make_mut::<T>()?.chunks_mut((share * kept * units).max(1));
        for last_output in last_output.make_mut::<T>()?.chunks_mut(share * units) {
            parts.push(Mutex::new(Some(Part {
                outputs: sequences.next().unwrap_or_default(),
                last_output,
                finals: states.iter_mut().filter_map(Iterator::next).collect(),
            })));
        }
        team::each(parts.len(), &|i| {
            let part = parts[i].lock().unwrap_or_else(PoisonError::into_inner).take();
            part.into_iter().for_each(|part| go(i * share, part));
        });
    }
    let outputs = match r.return_sequence {
        false => None,
        true if r.time_major => Some(transpose(&outputs, &[1, 0, 2])?),
        true => Some(outputs),
    };
    Ok(Sequence { outputs, last_output, states: finals })
}

/// Rows of inputs under which laying out their weights costs more than it saves.
const MANY_ROWS: usize = 64;

/// What the inputs contribute to all steps: `rows x kernel + bias`.
fn of_inputs(
    rows: &Tensor,
    kernel: &Tensor,
    packed: Option<&Packed>,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let wide = kernel.shape().last().copied().unwrap_or_default();
    let fits = bias.is_none_or(|b| b.dtype() == DType::F32 && b.shape() == [wide]);
    if rows.dtype() == DType::F32 && fits {
        let many = rows.shape().first().is_some_and(|n| *n >= MANY_ROWS);
        let packed = match packed {
            Some(packed) => Some(Cow::Borrowed(packed)),
            None if many => Packed::new(kernel, 1, false)?.map(Cow::Owned),
            None => None,
        };
        if let Some(packed) = packed {
            let bias = bias.map(|b| b.elements::<f32>()).transpose()?;
            let after: Vec<After<'_>> = bias.as_deref().map(After::AddRow).into_iter().collect();
            return product_after(rows, &packed, 1, &after);
        }
    }
    matmul_bias(rows, Form::Plain, kernel, Form::Plain, bias, Activation::Linear)
}

/// Where some rows of a batch leave their results.
struct Part<'a, T> {
    outputs: &'a mut [T],
    last_output: &'a mut [T],
    finals: Vec<&'a mut [T]>,
}

/// Sequences to test layers with, and the definition of going through one.
#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// How a sequence is gone through.
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct Way {
        time_major: bool,
        go_backwards: bool,
        mask: bool,
        zeros: bool,
        initial: bool,
    }

    const WAY: Way =
        Way { time_major: false, go_backwards: false, mask: false, zeros: false, initial: false };

    pub(crate) const ORDERS: [Way; 6] = [
        WAY,
        Way { initial: true, ..WAY },
        Way { time_major: true, go_backwards: true, ..WAY },
        Way { mask: true, initial: true, ..WAY },
        Way { mask: true, zeros: true, time_major: true, ..WAY },
        Way { mask: true, go_backwards: true, initial: true, ..WAY },
    ];

    pub(crate) fn sigmoid(v: f64) -> f64 {
        1.0 / (1.0 + (-v).exp())
    }

    /// Inputs and weights, with steps after batches.
    pub(crate) struct Case {
        batch: usize,
        steps: usize,
        features: usize,
        pub(crate) units: usize,
        way: Way,
        bias_rows: usize,
        inputs: Tensor,
        kernel: Tensor,
        recurrent: Tensor,
        bias: Tensor,
        states: [Tensor; 2],
        mask: Vec<bool>,
    }

    impl Case {
        pub(crate) fn new(
            gates: usize,
            batch: usize,
            steps: usize,
            features: usize,
            units: usize,
            way: Way,
        ) -> Case {
            let mut state = 12345u64;
            let mut random = |shape: &[usize]| {
                let n = shape.iter().product::<usize>();
                let values = (0..n).map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    // Few bits, so that every precision holds them exactly.
                    ((state >> 33) % 64) as f64 / 64.0 - 0.5
                });
                Tensor::from_vec(values.collect(), shape).expect("tensor")
            };
            Case {
                inputs: random(&[batch, steps, features]),
                kernel: random(&[features, gates * units]),
                recurrent: random(&[units, gates * units]),
                bias: random(&[2 * gates * units]),
                states: [random(&[batch, units]), random(&[batch, units])],
                mask: (0..batch * steps).map(|i| i * 7 % 3 != 0).collect(),
                bias_rows: 1,
                batch,
                steps,
                features,
                units,
                way,
            }
        }

        pub(crate) fn with_bias_rows(self, bias_rows: usize) -> Case {
            Case { bias_rows, ..self }
        }

        pub(crate) fn bias(&self, g: usize) -> f64 {
            self.bias.as_slice::<f64>().expect("f64")[g]
        }

        fn column(weights: &Tensor, x: &[f64], g: usize) -> f64 {
            let columns = weights.shape()[1];
            let w = weights.as_slice::<f64>().expect("f64");
            x.iter().enumerate().map(|(i, x)| x * w[i * columns + g]).sum()
        }

        pub(crate) fn input_part(&self, x: &[f64], g: usize) -> f64 {
            Case::column(&self.kernel, x, g)
        }

        pub(crate) fn state_part(&self, h: &[f64], g: usize) -> f64 {
            Case::column(&self.recurrent, h, g)
        }

        /// The sequence gone through one row and one step at a time.
        pub(crate) fn naive(&self, states: usize, step: impl Fn(&[f64], &mut [Vec<f64>])) -> Sequence {
            let (batch, steps, units) = (self.batch, self.steps, self.units);
            let x = self.inputs.as_slice::<f64>().expect("f64");
            let (mut outputs, mut last, mut finals) = (Vec::new(), Vec::new(), vec![Vec::new(); states]);
            for row in 0..batch {
                let mut state: Vec<Vec<f64>> = (0..states)
                    .map(|s| match self.way.initial {
                        true => {
                            self.states[s].as_slice::<f64>().expect("f64")[row * units..][..units].to_vec()
                        }
                        false => vec![0.0; units],
                    })
                    .collect();
                let mut output = vec![0.0; units];
                for t in 0..steps {
                    let t = if self.way.go_backwards { steps - 1 - t } else { t };
                    if !self.way.mask || self.mask[row * steps + t] {
                        step(&x[(row * steps + t) * self.features..][..self.features], &mut state);
                        output.clone_from(&state[0]);
                    } else if self.way.zeros {
                        output.fill(0.0);
                    }
                    outputs.extend_from_slice(&output);
                }
                last.extend_from_slice(&output);
                finals.iter_mut().zip(&state).for_each(|(f, s)| f.extend_from_slice(s));
            }
            let t = |v: Vec<f64>, shape: &[usize]| Tensor::from_vec(v, shape).expect("tensor");
            let outputs = t(outputs, &[batch, steps, units]);
            Sequence {
                outputs: Some(if self.way.time_major {
                    transpose(&outputs, &[1, 0, 2]).expect("t")
                } else {
                    outputs
                }),
                last_output: t(last, &[batch, units]),
                states: finals.into_iter().map(|f| t(f, &[batch, units])).collect(),
            }
        }

        /// The layer on this case, in a precision.
        pub(crate) fn run(
            &self,
            dtype: DType,
            layer: impl Fn(Recurrence<'_>) -> Result<Sequence>,
        ) -> Sequence {
            let to = |t: &Tensor| cast(t, dtype).expect("cast");
            let wide = self.kernel.shape()[1];
            let bias =
                crate::kernels::array::slice(&self.bias, &[0], &[self.bias_rows * wide]).expect("rows");
            let bias =
                if self.bias_rows > 1 { bias.reshape([self.bias_rows, wide]).expect("rows") } else { bias };
            let mask = Tensor::from_vec(
                self.mask.iter().map(|&m| Bool::from(m)).collect(),
                [self.batch, self.steps],
            );
            let (mut inputs, mut mask) = (to(&self.inputs), mask.expect("mask"));
            if self.way.time_major {
                inputs = transpose(&inputs, &[1, 0, 2]).expect("time first");
                mask = transpose(&mask, &[1, 0]).expect("time first");
            }
            let states = [to(&self.states[0]), to(&self.states[1])];
            // As many states as weights have room for: one, or two for four gates.
            let count = if wide == 4 * self.units { 2 } else { 1 };
            let initial: Vec<&Tensor> = states[..count].iter().collect();
            let (kernel, recurrent) = (to(&self.kernel), to(&self.recurrent));
            let pack = |t: &Tensor| Packed::new(t, 1, false).expect("memory");
            // Weights that can be laid out are, every second time.
            let packed = match (pack(&kernel), pack(&recurrent)) {
                (Some(kernel), Some(recurrent)) if self.way.initial => Some([kernel, recurrent]),
                _ => None,
            };
            layer(Recurrence {
                inputs: &inputs,
                kernel: &kernel,
                recurrent_kernel: &recurrent,
                packed: packed.as_ref().map(|[kernel, recurrent]| [kernel, recurrent]),
                bias: Some(&to(&bias)),
                initial: if self.way.initial { &initial } else { &[] },
                mask: self.way.mask.then_some(&mask),
                zero_output_for_mask: self.way.zeros,
                time_major: self.way.time_major,
                go_backwards: self.way.go_backwards,
                return_sequence: true,
            })
            .expect("layer")
        }
    }

    pub(crate) fn close(got: &Sequence, want: &Sequence, tolerance: f64) {
        let same = |g: &Tensor, w: &Tensor| {
            assert_eq!(g.shape(), w.shape());
            let [g, w] = [g, w].map(|t| cast(t, DType::F64).expect("cast"));
            for (g, w) in g.as_slice::<f64>().expect("f64").iter().zip(w.as_slice::<f64>().expect("f64")) {
                assert!((g - w).abs() <= tolerance, "{g} isn't {w}");
            }
        };
        same(got.outputs.as_ref().expect("outputs"), want.outputs.as_ref().expect("outputs"));
        same(&got.last_output, &want.last_output);
        assert_eq!(got.states.len(), want.states.len());
        got.states.iter().zip(&want.states).for_each(|(g, w)| same(g, w));
    }
}
