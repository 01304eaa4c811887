//! Steps of LSTM and GRU layers, and LSTM layers over whole sequences, as TensorFlow 1's fused ops.

use super::args::{int, many, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::matmul::{Form, matmul};
use crate::tensor::kernels::{array, elementwise as e};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Numbers of whatever float dtype, to be computed with.
fn wide(t: &Tensor) -> Result<Tensor> {
    Ok(array::cast(t, DType::F32)?)
}

/// `[x, h] w + b`, where all must be matrices but the bias, of `parts` parts of the state's width.
fn gates(x: &Tensor, h: &Tensor, w: &Tensor, b: &Tensor, parts: usize) -> Result<Tensor> {
    let (&[batch, inputs], &[rows, units]) = (x.shape(), h.shape()) else {
        return Err(Error::compute(format!("x and h are matrices, not {:?} and {:?}", x.shape(), h.shape())));
    };
    let columns = units.checked_mul(parts);
    let fits = rows == batch
        && w.shape().first().copied() == inputs.checked_add(units)
        && w.rank() == 2
        && w.shape().last().copied() == columns
        && b.rank() == 1
        && b.shape().first().copied() == columns;
    if !fits {
        return Err(Error::compute(format!(
            "x {:?} and h {:?} don't go with weights {:?} and bias {:?}",
            x.shape(),
            h.shape(),
            w.shape(),
            b.shape()
        )));
    }
    let product = matmul(&array::concat(&[x, h], 1)?, Form::Plain, w, Form::Plain)?;
    Ok(e::add(product, b.clone())?)
}

/// An LSTM's cell.
#[derive(Clone, Copy)]
struct Cell {
    /// Where among the four gates the input's, the new value's, the forget and the output gate stand.
    order: [usize; 4],
    forget_bias: f32,
    /// What a state is clipped to, where it is positive.
    clip: f32,
    peephole: bool,
}

/// What an LSTM's step works with, beside `x` and the states: weights, peepholes and bias.
struct Weights {
    w: Tensor,
    peepholes: [Tensor; 3],
    b: Tensor,
}

impl Cell {
    fn read(a: &NodeAttrs<'_>, order: [usize; 4]) -> Result<Cell> {
        let forget_bias = if a.get("forget_bias").is_some() { a.float("forget_bias")? } else { 0.0 };
        Ok(Cell { order, forget_bias, clip: a.float("cell_clip")?, peephole: a.bool("use_peephole")? })
    }

    /// One step: input gate, state, forget gate, output gate, new value, activated state, output.
    fn step(self, x: &Tensor, cs: &Tensor, h: &Tensor, weights: &Weights) -> Result<[Tensor; 7]> {
        let gates = gates(x, h, &weights.w, &weights.b, 4)?;
        if cs.shape() != h.shape() {
            return Err(Error::compute(format!("states have shapes {:?} and {:?}", cs.shape(), h.shape())));
        }
        let units = h.shape().get(1).copied().unwrap_or(0);
        if self.peephole && weights.peepholes.iter().any(|p| p.shape() != [units]) {
            return Err(Error::compute(format!("peepholes must have the shape [{units}]")));
        }
        let (gates, cs) = (gates.elements::<f32>()?, cs.elements::<f32>()?);
        let peepholes =
            weights.peepholes.iter().map(|p| p.elements::<f32>()).collect::<Result<Vec<_>, _>>()?;
        let mut out: [Vec<f32>; 7] = std::array::from_fn(|_| Vec::with_capacity(cs.len()));
        for (n, &old) in cs.iter().enumerate() {
            let (row, unit) = (n / units, n % units);
            let gate = |g: usize| gates[(row * 4 + self.order[g]) * units + unit];
            let peep = |p: usize, state: f32| if self.peephole { peepholes[p][unit] * state } else { 0.0 };
            let i = sigmoid(gate(0) + peep(0, old));
            let ci = gate(1).tanh();
            let f = sigmoid(gate(2) + self.forget_bias + peep(1, old));
            let mut new = ci * i + old * f;
            if self.clip > 0.0 {
                new = new.clamp(-self.clip, self.clip);
            }
            let o = sigmoid(gate(3) + peep(2, new));
            let co = new.tanh();
            for (out, v) in out.iter_mut().zip([i, new, f, o, ci, co, co * o]) {
                out.push(v);
            }
        }
        let mut failed = None;
        let tensors = out.map(|v| {
            Tensor::from_vec(v, h.shape()).unwrap_or_else(|e| {
                failed = Some(e);
                Tensor::scalar(0.0f32)
            })
        });
        failed.map_or(Ok(tensors), |e| Err(e.into()))
    }
}

fn lstm_cell(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let cell = Cell::read(a, [0, 1, 2, 3])?;
    Ok(kernel(move |_, inputs| {
        let [x, cs, h, w, wci, wcf, wco, b] = tensors(inputs)?;
        let weights =
            Weights { w: wide(&w)?, peepholes: [wide(&wci)?, wide(&wcf)?, wide(&wco)?], b: wide(&b)? };
        let out = cell.step(&wide(&x)?, &wide(&cs)?, &wide(&h)?, &weights)?;
        many(out.iter().map(|t| array::cast(t, x.dtype())).collect::<Result<Vec<_>, _>>()?)
    }))
}

/// Steps over the first dimension of `x`; after `seq_len_max` of them all is zero.
fn lstm_block(a: &NodeAttrs<'_>, order: [usize; 4]) -> Result<Box<dyn Kernel>> {
    let cell = Cell::read(a, order)?;
    Ok(kernel(move |context, inputs| {
        let [steps, x, cs, h, w, wci, wcf, wco, b] = tensors(inputs)?;
        let weights =
            Weights { w: wide(&w)?, peepholes: [wide(&wci)?, wide(&wcf)?, wide(&wco)?], b: wide(&b)? };
        if x.rank() != 3 {
            return Err(Error::compute(format!("x has rank 3, not the shape {:?}", x.shape())));
        }
        let steps = int(&steps, "seq_len_max")?;
        let xs = array::unstack(&wide(&x)?, 0)?;
        let steps = usize::try_from(steps).ok().filter(|n| *n <= xs.len()).ok_or_else(|| {
            Error::compute(format!("seq_len_max is {steps} for a sequence of {}", xs.len()))
        })?;
        let (mut cs, mut h) = (wide(&cs)?, wide(&h)?);
        let rest = Tensor::zeros(DType::F32, h.shape())?;
        let mut all: [Vec<Tensor>; 7] = Default::default();
        for (t, x) in xs.iter().enumerate() {
            context.check()?;
            if t >= steps {
                all.iter_mut().for_each(|out| out.push(rest.clone()));
                continue;
            }
            let out = cell.step(x, &cs, &h, &weights)?;
            (cs, h) = (out[1].clone(), out[6].clone());
            all.iter_mut().zip(out).for_each(|(all, out)| all.push(out));
        }
        let whole = |steps: &Vec<Tensor>| -> Result<Tensor> {
            if steps.is_empty() {
                let shape: Vec<usize> = std::iter::once(0).chain(h.shape().iter().copied()).collect();
                return Ok(Tensor::zeros(x.dtype(), shape)?);
            }
            Ok(array::cast(&array::stack(&steps.iter().collect::<Vec<_>>(), 0)?, x.dtype())?)
        };
        many(all.iter().map(whole).collect::<Result<Vec<_>>>()?)
    }))
}

fn gru_cell(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, h, w_ru, w_c, b_ru, b_c] = tensors(inputs)?;
        let ru = e::sigmoid(gates(&x, &h, &w_ru, &b_ru, 2)?)?;
        let units = h.shape().last().copied().unwrap_or(0);
        let [r, u] = &array::split(&ru, 1, &[units, units])?[..] else {
            return Err(Error::compute("there are two gates"));
        };
        let c = e::tanh(gates(&x, &e::mul(h.clone(), r.clone())?, &w_c, &b_c, 1)?)?;
        // u h + (1 - u) c
        let new = e::add(c.clone(), e::mul(u.clone(), e::sub(h, c.clone())?)?)?;
        many([r.clone(), u.clone(), c, new])
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new(
        "LSTMBlockCell(x: T, cs_prev: T, h_prev: T, w: T, wci: T, wcf: T, wco: T, b: T) -> (i: T, cs: T, f: T, o: T, ci: T, co: T, h: T); forget_bias: float = 1; cell_clip: float = 3; use_peephole: bool = false; T: type",
        lstm_cell,
    ),
    Op::new(
        "BlockLSTM(seq_len_max: int64, x: T, cs_prev: T, h_prev: T, w: T, wci: T, wcf: T, wco: T, b: T) -> (i: T, cs: T, f: T, o: T, ci: T, co: T, h: T); forget_bias: float = 1; cell_clip: float = 3; use_peephole: bool = false; T: type",
        |a| lstm_block(a, [0, 1, 2, 3]),
    ),
    Op::new(
        "BlockLSTMV2(seq_len_max: int64, x: T, cs_prev: T, h_prev: T, w: T, wci: T, wcf: T, wco: T, b: T) -> (i: T, cs: T, f: T, o: T, ci: T, co: T, h: T); cell_clip: float = 0; use_peephole: bool = false; T: type",
        |a| lstm_block(a, [0, 2, 1, 3]),
    ),
    Op::new(
        "GRUBlockCell(x: T, h_prev: T, w_ru: T, w_c: T, b_ru: T, b_c: T) -> (r: T, u: T, c: T, h: T); T: type",
        gru_cell,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;
    use crate::engine::{Executable, Resources, Values};

    /// The outputs of an LSTM of 2 units over 3 steps of one sequence.
    fn run(steps: i64, rows: usize) -> Result<Vec<Vec<f32>>> {
        let wave = |shape: &[usize]| -> Result<Tensor> {
            let n: usize = shape.iter().product();
            Ok(Tensor::from_vec((0..n).map(|i| (i as f32).sin()).collect(), shape)?)
        };
        let mut b = Builder::new("f");
        let mut inputs = vec![b.constant(Tensor::scalar(steps))?];
        for shape in [&[3, 1, 2][..], &[1, 2], &[1, 2], &[rows, 8], &[2], &[2], &[2], &[8]] {
            inputs.push(b.constant(wave(shape)?)?);
        }
        let out = b.op("BlockLSTMV2").inputs(&inputs).all()?;
        let (f, library) = b.finish(&[("cs", out[1]), ("h", out[6])])?;
        let fetches: Vec<_> = f.results.iter().map(|r| r.output).collect();
        let run = Executable::new(&f.graph, &library, &[], &fetches, &[])?;
        let out = run.run(&Resources::new(), Values::new())?;
        out.iter().map(|v| Ok(v.tensor()?.elements::<f32>()?.to_vec())).collect()
    }

    #[test]
    fn steps_after_the_last_are_zero() {
        let (all, two) = (run(3, 4).expect("runs"), run(2, 4).expect("runs"));
        for (all, two) in all.iter().zip(&two) {
            assert_eq!((&all[..4], &two[4..]), (&two[..4], &[0.0; 2][..]));
            assert!(all[4..].iter().all(|v| *v != 0.0));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(run(4, 4).is_err() && run(-1, 4).is_err() && run(3, 5).is_err());
    }
}
