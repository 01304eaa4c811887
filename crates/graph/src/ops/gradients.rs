//! Gradients of functions of one number, and of ops that move elements.

use super::args::{binary, extents, one, paired, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::array::{self, Scatter};
use crate::tensor::kernels::{elementwise as e, reduce};
use crate::tensor::{Shape, Tensor};
use crate::{Error, Result};

fn leaky_relu(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let alpha = a.float("alpha")?;
    Ok(kernel(move |_, inputs| {
        let [g, x] = tensors(inputs)?;
        one(e::leaky_relu_grad(g, x, alpha)?)
    }))
}

/// What was mirrored is added to what it is the image of.
fn mirror_pad(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let skip = match a.str("mode")? {
        "REFLECT" => 1,
        "SYMMETRIC" => 0,
        other => return Err(Error::graph(format!("there is no mode {other:?}"))),
    };
    Ok(kernel(move |_, inputs| {
        let [mut g, paddings] = tensors(inputs)?;
        if paddings.shape() != [g.rank(), 2] {
            return Err(Error::compute(format!("paddings {:?} don't fit {:?}", paddings.shape(), g.shape())));
        }
        let pads = extents(&paddings.reshape([g.rank() * 2])?, "paddings")?;
        for (axis, pad) in pads.chunks_exact(2).enumerate().filter(|(_, p)| **p != [0, 0]) {
            g = fold(&g, axis, pad[0], pad[1], skip)?;
        }
        one(g)
    }))
}

fn fold(g: &Tensor, axis: usize, before: usize, after: usize, skip: usize) -> Result<Tensor> {
    let whole = g.shape()[axis];
    let core = before.checked_add(after).and_then(|p| whole.checked_sub(p));
    let core = core.filter(|n| before.max(after).checked_add(skip).is_some_and(|p| p <= *n)).ok_or_else(|| {
        Error::compute(format!("paddings {before} and {after} don't fit dimension {axis} of {:?}", g.shape()))
    })?;
    let head = (0..before).map(|i| before - 1 - i + skip);
    let places: Vec<i64> =
        head.chain(0..core).chain((0..after).map(|i| core - 1 - i - skip)).map(|i| i as i64).collect();
    let mut order: Shape = (0..g.rank()).collect();
    order[..=axis].rotate_right(1);
    let rows = array::transpose(g, &order)?;
    let mut shape = Shape::from(rows.shape());
    shape[0] = core;
    let places = Tensor::from_vec(places, [whole, 1])?;
    let sums = array::scatter(Tensor::zeros(g.dtype(), &shape)?, &places, &rows, Scatter::Add)?;
    order = (0..g.rank()).collect();
    order[..=axis].rotate_left(1);
    Ok(array::transpose(&sums, &order)?)
}

/// Repetitions are added up.
fn tile(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [g, multiples] = tensors(inputs)?;
        let multiples = extents(&multiples, "multiples")?;
        let fits = multiples.len() == g.rank()
            && multiples.iter().zip(g.shape()).all(|(m, d)| *m > 0 && d.is_multiple_of(*m));
        if !fits {
            return Err(Error::compute(format!("multiples {multiples:?} don't divide {:?}", g.shape())));
        }
        let split: Shape = multiples.iter().zip(g.shape()).flat_map(|(m, d)| [*m, d / m]).collect();
        let over: Shape = (0..multiples.len()).map(|i| 2 * i).collect();
        one(reduce::sum(&g.reshape(split)?, &over, false)?)
    }))
}

fn symbolic(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Err(Error::unsupported("SymbolicGradient: a gradient of a function that isn't in the graph"))
}

pub(super) const OPS: &[Op] = &[
    Op::new("ReluGrad(gradients: T, features: T) -> (backprops: T); T: type", |_| binary(e::relu_grad)).ranks("_ ="),
    Op::new("Relu6Grad(gradients: T, features: T) -> (backprops: T); T: type", |_| binary(e::relu6_grad)).ranks("_ ="),
    Op::new("LeakyReluGrad(gradients: T, features: T) -> (backprops: T); alpha: float = 0.2; T: type = float32", leaky_relu).ranks("_ ="),
    Op::new("EluGrad(gradients: T, outputs: T) -> (backprops: T); T: type", |_| binary(e::elu_grad)).ranks("_ ="),
    Op::new("SeluGrad(gradients: T, outputs: T) -> (backprops: T); T: type", |_| binary(e::selu_grad)).ranks("_ ="),
    Op::new("SoftplusGrad(gradients: T, features: T) -> (backprops: T); T: type", |_| binary(e::softplus_grad)).ranks("_ ="),
    Op::new("SoftsignGrad(gradients: T, features: T) -> (backprops: T); T: type", |_| binary(e::softsign_grad)).ranks("_ ="),
    Op::new("SqrtGrad(y: T, dy: T) -> (z: T); T: type", |_| paired(e::sqrt_grad)),
    Op::new("RsqrtGrad(y: T, dy: T) -> (z: T); T: type", |_| paired(e::rsqrt_grad)),
    Op::new("ReciprocalGrad(y: T, dy: T) -> (z: T); T: type", |_| paired(e::reciprocal_grad)),
    Op::new("InvGrad(y: T, dy: T) -> (z: T); T: type", |_| paired(e::reciprocal_grad)),
    Op::new("MirrorPadGrad(input: T, paddings: Tpaddings) -> (output: T); T: type; Tpaddings: type = int32; mode: string", mirror_pad),
    Op::new("TileGrad(input: T, multiples: int32) -> (output: T); T: type", tile),
    Op::new("SymbolicGradient(input: [Tin]) -> (output: [Tout]); Tin: list(type); Tout: list(type); f: func", symbolic),
];
