//! Gradients of the steps of LSTM and GRU layers, and of LSTM layers over whole sequences.

use super::args::{int, many, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::matmul::{Form, matmul};
use crate::tensor::kernels::{array, elementwise as e, reduce};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

fn wide(t: &Tensor) -> Result<Tensor> {
    Ok(array::cast(t, DType::F32)?)
}

fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(e::mul(a.clone(), b.clone())?)
}

fn add(a: Tensor, b: Tensor) -> Result<Tensor> {
    Ok(e::add(a, b)?)
}

/// `g y (1 - y)`, what comes before a sigmoid that gave `y`.
fn before_sigmoid(g: &Tensor, y: &Tensor) -> Result<Tensor> {
    mul(g, &mul(y, &e::sub(Tensor::scalar(1.0f32), y.clone())?)?)
}

/// `g (1 - y^2)`, what comes before a tangent that gave `y`.
fn before_tanh(g: &Tensor, y: &Tensor) -> Result<Tensor> {
    mul(g, &e::sub(Tensor::scalar(1.0f32), mul(y, y)?)?)
}

fn same(all: &[&Tensor]) -> Result<()> {
    let shape = all.first().map(|t| t.shape()).unwrap_or_default();
    match all.iter().find(|t| t.shape() != shape || t.rank() != 2) {
        Some(odd) => Err(Error::compute(format!("states of shapes {shape:?} and {:?}, not alike matrices", odd.shape()))),
        None => Ok(()),
    }
}

/// What a step of an LSTM gave and used, and its peepholes.
struct Step<'a> {
    cs_prev: &'a Tensor,
    /// Input gate, state, forget gate, output gate, new value, activated state.
    gates: [&'a Tensor; 6],
    peepholes: Option<[&'a Tensor; 3]>,
}

impl Step<'_> {
    /// Gradients of the state before, and of the four gates before their activations: input, new value, forget, output.
    fn back(&self, cs_grad: &Tensor, h_grad: &Tensor) -> Result<(Tensor, [Tensor; 4])> {
        let [i, _, f, o, ci, co] = self.gates;
        same(&[self.cs_prev, i, f, o, ci, co, cs_grad, h_grad])?;
        let d_o = before_sigmoid(&mul(h_grad, co)?, o)?;
        let mut d_cs = add(before_tanh(&mul(h_grad, o)?, co)?, cs_grad.clone())?;
        if let Some([_, _, wco]) = self.peepholes {
            d_cs = add(d_cs, mul(&d_o, wco)?)?;
        }
        let d_ci = before_tanh(&mul(&d_cs, i)?, ci)?;
        let d_i = before_sigmoid(&mul(&d_cs, ci)?, i)?;
        let d_f = before_sigmoid(&mul(&d_cs, self.cs_prev)?, f)?;
        let mut back = mul(&d_cs, f)?;
        if let Some([wci, wcf, _]) = self.peepholes {
            back = add(back, add(mul(&d_i, wci)?, mul(&d_f, wcf)?)?)?;
        }
        Ok((back, [d_i, d_ci, d_f, d_o]))
    }

    /// Gradients of the peepholes.
    fn peephole_grads(&self, gates: &[Tensor; 4]) -> Result<[Tensor; 3]> {
        let cs = self.gates[1];
        let sum = |a: &Tensor, b: &Tensor| -> Result<Tensor> { Ok(reduce::sum(&mul(a, b)?, &[0], false)?) };
        Ok([sum(&gates[0], self.cs_prev)?, sum(&gates[2], self.cs_prev)?, sum(&gates[3], cs)?])
    }
}

/// The gates side by side, as weights have them.
fn joined(gates: &[Tensor; 4], order: [usize; 4]) -> Result<Tensor> {
    let mut placed: [&Tensor; 4] = [&gates[0], &gates[1], &gates[2], &gates[3]];
    for (gate, at) in gates.iter().zip(order) {
        placed[at] = gate;
    }
    Ok(array::concat(&placed, 1)?)
}

fn lstm_cell(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let peephole = a.bool("use_peephole")?;
    Ok(kernel(move |_, inputs| {
        let all: [Tensor; 16] = tensors(inputs)?;
        let dtype = all[0].dtype();
        let wide: Vec<Tensor> = all.iter().map(wide).collect::<Result<_>>()?;
        let [_, cs_prev, _, _, wci, wcf, wco, _, i, cs, f, o, ci, co, cs_grad, h_grad] = &wide[..] else {
            return Err(Error::graph("takes 16 inputs"));
        };
        let peepholes = peephole.then_some([wci, wcf, wco]);
        let step = Step { cs_prev, gates: [i, cs, f, o, ci, co], peepholes };
        let (back, gates) = step.back(cs_grad, h_grad)?;
        let mut out = vec![back, joined(&gates, [0, 1, 2, 3])?];
        match peephole {
            true => out.extend(step.peephole_grads(&gates)?),
            false => {
                for w in [wci, wcf, wco] {
                    out.push(Tensor::zeros(DType::F32, w.shape())?);
                }
            }
        }
        many(out.iter().map(|t| array::cast(t, dtype)).collect::<Result<Vec<_>, _>>()?)
    }))
}

/// Steps back from the last, of gates in `order` along the weights' columns.
fn lstm_block(a: &NodeAttrs<'_>, order: [usize; 4]) -> Result<Box<dyn Kernel>> {
    let peephole = a.bool("use_peephole")?;
    Ok(kernel(move |context, inputs| {
        let all: [Tensor; 18] = tensors(inputs)?;
        let dtype = all[1].dtype();
        let steps = int(&all[0], "seq_len_max")?;
        let wide: Vec<Tensor> = all[1..].iter().map(wide).collect::<Result<_>>()?;
        let [x, cs_prev, h_prev, w, wci, wcf, wco, b, i, cs, f, o, ci, co, h, cs_grad, h_grad] = &wide[..] else {
            return Err(Error::graph("takes 18 inputs"));
        };
        let &[length, _, inputs] = x.shape() else {
            return Err(Error::compute(format!("x has rank 3, not the shape {:?}", x.shape())));
        };
        let steps = usize::try_from(steps).ok().filter(|n| *n <= length);
        let steps = steps.ok_or_else(|| Error::compute(format!("seq_len_max is beyond a sequence of {length}")))?;
        let each = |t: &Tensor| -> Result<Vec<Tensor>> {
            if t.rank() != 3 || t.shape()[0] != length {
                return Err(Error::compute(format!("{:?} isn't a sequence of {length} steps", t.shape())));
            }
            Ok(array::unstack(t, 0)?)
        };
        let xs = each(x)?;
        let series: Vec<Vec<Tensor>> =
            [i, cs, f, o, ci, co, h, cs_grad, h_grad].into_iter().map(each).collect::<Result<_>>()?;
        let units = h_prev.shape().last().copied().unwrap_or_default();
        if w.shape() != [inputs.saturating_add(units), units.saturating_mul(4)] {
            return Err(Error::compute(format!("weights of shape {:?} for {inputs} inputs and {units} units", w.shape())));
        }
        let zeros = |t: &Tensor| Tensor::zeros(DType::F32, t.shape());
        let (mut w_grad, mut b_grad) = (zeros(w)?, zeros(b)?);
        let mut peephole_grads = [zeros(wci)?, zeros(wcf)?, zeros(wco)?];
        let (mut back, mut h_back) = (zeros(cs_prev)?, zeros(h_prev)?);
        let mut x_grads: Vec<Tensor> = xs.iter().map(zeros).collect::<Result<_, _>>()?;
        for t in (0..steps).rev() {
            context.check()?;
            let (before, h_before) = if t == 0 { (cs_prev, h_prev) } else { (&series[1][t - 1], &series[6][t - 1]) };
            let [i, cs, f, o, ci, co] = std::array::from_fn(|k| &series[k][t]);
            let step =
                Step { cs_prev: before, gates: [i, cs, f, o, ci, co], peepholes: peephole.then_some([wci, wcf, wco]) };
            let state = add(series[7][t].clone(), back)?;
            let (cs_back, gates) = step.back(&state, &add(series[8][t].clone(), h_back)?)?;
            let gradient = joined(&gates, order)?;
            let inputs_grad = matmul(&gradient, Form::Plain, w, Form::transposed(true))?;
            let [x_grad, h_grad] = &array::split(&inputs_grad, 1, &[inputs, units])?[..] else {
                return Err(Error::compute("x and h aren't all that there is"));
            };
            x_grads[t] = x_grad.clone();
            let joint = array::concat(&[&xs[t], h_before], 1)?;
            w_grad = add(w_grad, matmul(&joint, Form::transposed(true), &gradient, Form::Plain)?)?;
            b_grad = add(b_grad, reduce::sum(&gradient, &[0], false)?)?;
            if peephole {
                for (sum, more) in peephole_grads.iter_mut().zip(step.peephole_grads(&gates)?) {
                    *sum = e::add(sum.clone(), more)?;
                }
            }
            (back, h_back) = (cs_back, h_grad.clone());
        }
        let x_grad = match x_grads.is_empty() {
            true => zeros(x)?,
            false => array::stack(&x_grads.iter().collect::<Vec<_>>(), 0)?,
        };
        let [wci_grad, wcf_grad, wco_grad] = peephole_grads;
        let out = [x_grad, back, h_back, w_grad, wci_grad, wcf_grad, wco_grad, b_grad];
        many(out.iter().map(|t| array::cast(t, dtype)).collect::<Result<Vec<_>, _>>()?)
    }))
}

fn gru_cell(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, h, w_ru, w_c, _, _, r, u, c, d_h] = tensors(inputs)?;
        same(&[&h, &r, &u, &c, &d_h])?;
        let (&[_, inputs], units) = (x.shape(), h.shape()[1]) else {
            return Err(Error::compute(format!("x is a matrix, not {:?}", x.shape())));
        };
        // new = u h + (1 - u) c
        let d_c = before_tanh(&mul(&d_h, &e::sub(Tensor::scalar(1.0f32), u.clone())?)?, &c)?;
        let d_u = before_sigmoid(&mul(&d_h, &e::sub(h.clone(), c.clone())?)?, &u)?;
        let parts = |t: &Tensor| -> Result<[Tensor; 2]> {
            let parts = array::split(t, 1, &[inputs, units])?;
            parts.try_into().map_err(|_| Error::compute("x and h aren't all that there is"))
        };
        let [x_of_c, hr] = parts(&matmul(&d_c, Form::Plain, &w_c, Form::transposed(true))?)?;
        let d_r = before_sigmoid(&mul(&hr, &h)?, &r)?;
        let d_ru = array::concat(&[&d_r, &d_u], 1)?;
        let [x_of_ru, h_of_ru] = parts(&matmul(&d_ru, Form::Plain, &w_ru, Form::transposed(true))?)?;
        let d_x = add(x_of_c, x_of_ru)?;
        let d_h_prev = add(add(mul(&hr, &r)?, mul(&d_h, &u)?)?, h_of_ru)?;
        many([d_x, d_h_prev, d_c, d_ru])
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("BlockLSTMGrad(seq_len_max: int64, x: T, cs_prev: T, h_prev: T, w: T, wci: T, wcf: T, wco: T, b: T, i: T, cs: T, f: T, o: T, ci: T, co: T, h: T, cs_grad: T, h_grad: T) -> (x_grad: T, cs_prev_grad: T, h_prev_grad: T, w_grad: T, wci_grad: T, wcf_grad: T, wco_grad: T, b_grad: T); use_peephole: bool; T: type", |a| lstm_block(a, [0, 1, 2, 3])),
    Op::new("BlockLSTMGradV2(seq_len_max: int64, x: T, cs_prev: T, h_prev: T, w: T, wci: T, wcf: T, wco: T, b: T, i: T, cs: T, f: T, o: T, ci: T, co: T, h: T, cs_grad: T, h_grad: T) -> (x_grad: T, cs_prev_grad: T, h_prev_grad: T, w_grad: T, wci_grad: T, wcf_grad: T, wco_grad: T, b_grad: T); use_peephole: bool; T: type", |a| lstm_block(a, [0, 2, 1, 3])),
    Op::new("GRUBlockCellGrad(x: T, h_prev: T, w_ru: T, w_c: T, b_ru: T, b_c: T, r: T, u: T, c: T, d_h: T) -> (d_x: T, d_h_prev: T, d_c_bar: T, d_r_bar_u_bar: T); T: type", gru_cell),
    Op::new("LSTMBlockCellGrad(x: T, cs_prev: T, h_prev: T, w: T, wci: T, wcf: T, wco: T, b: T, i: T, cs: T, f: T, o: T, ci: T, co: T, cs_grad: T, h_grad: T) -> (cs_prev_grad: T, dicfo: T, wci_grad: T, wcf_grad: T, wco_grad: T); use_peephole: bool; T: type", lstm_cell),
];
