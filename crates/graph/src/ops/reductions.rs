//! What combines elements along axes, and running sums.

use super::args::{axis, int, map1, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::reduce::{self, Order};
use crate::tensor::kernels::{array, elementwise as e};
use crate::tensor::{self, ByteString, DType, Shape, Tensor};
use crate::Result;

type Reduce = fn(&Tensor, &[usize], bool) -> tensor::Result<Tensor>;

fn axes(t: &Tensor, rank: usize) -> Result<Shape> {
    t.to_i64_vec()?.into_iter().map(|a| axis(a, rank)).collect()
}

fn reduction(a: &NodeAttrs<'_>, f: Reduce) -> Result<Box<dyn Kernel>> {
    let keep_dims = a.bool("keep_dims")?;
    Ok(kernel(move |_, inputs| {
        let [x, over] = tensors(inputs)?;
        let over = axes(&over, x.rank())?;
        one(f(&x, &over, keep_dims)?)
    }))
}

fn norm(x: &Tensor, axes: &[usize], keep_dims: bool) -> tensor::Result<Tensor> {
    if x.dtype().is_integer() {
        // The sum of squares wraps; what isn't a number becomes what C++ makes of it.
        let sum = reduce::sum(&e::square(x.clone())?, axes, keep_dims)?;
        let root = e::sqrt(array::cast(&sum, DType::F64)?)?;
        let narrow = matches!(x.dtype(), DType::I8 | DType::I16);
        let root = if narrow { array::cast(&root, DType::I32)? } else { root };
        return array::cast(&root, x.dtype());
    }
    let squares = if x.dtype().is_complex() { e::square(e::magnitude(x)?)? } else { e::square(x.clone())? };
    let norm = e::sqrt(reduce::sum(&squares, axes, keep_dims)?)?;
    if x.dtype().is_complex() { array::cast(&norm, x.dtype()) } else { Ok(norm) }
}

fn arg(
    a: &NodeAttrs<'_>,
    f: fn(&Tensor, usize, DType) -> tensor::Result<Tensor>,
) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("output_type")?;
    Ok(kernel(move |_, inputs| {
        let [x, along] = tensors(inputs)?;
        let along = axis(int(&along, "the dimension")?, x.rank())?;
        one(f(&x, along, dtype)?)
    }))
}

fn running(
    a: &NodeAttrs<'_>,
    f: fn(&Tensor, usize, Order) -> tensor::Result<Tensor>,
) -> Result<Box<dyn Kernel>> {
    let (exclusive, reverse) = (a.bool("exclusive")?, a.bool("reverse")?);
    Ok(kernel(move |_, inputs| {
        let [x, along] = tensors(inputs)?;
        let along = axis(int(&along, "the axis")?, x.rank())?;
        one(f(&x, along, Order { exclusive, reverse })?)
    }))
}

/// Strings joined along axes.
fn join(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (keep_dims, separator) = (a.bool("keep_dims")?, a.str("separator")?.as_bytes().to_vec());
    Ok(kernel(move |_, inputs| {
        let [x, over] = tensors(inputs)?;
        let over = axes(&over, x.rank())?;
        let mut order: Shape = (0..x.rank()).filter(|d| !over.contains(d)).collect();
        let kept: Shape = order.iter().map(|d| x.shape()[*d]).collect();
        let out: Shape = if keep_dims {
            (0..x.rank()).map(|d| if over.contains(&d) { 1 } else { x.shape()[d] }).collect()
        } else {
            kept.clone()
        };
        // The first axis is joined first, so it is the innermost.
        order.extend(over.iter().rev().copied());
        let run: usize = over.iter().map(|d| x.shape()[*d]).product();
        let moved = array::transpose(&x, &order)?;
        let rows = tensor::checked_elements(&kept)?;
        let strings = moved.strings()?;
        let joined = (0..rows).map(|r| {
            let parts: Vec<&[u8]> = strings[r * run..(r + 1) * run].iter().map(|s: &ByteString| &**s).collect();
            parts.join(&separator[..])
        });
        one(Tensor::from_strings(joined, out)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Sum(input: T, reduction_indices: Tidx) -> (output: T); keep_dims: bool = false; T: type; Tidx: type = int32", |a| reduction(a, reduce::sum)),
    Op::new("Mean(input: T, reduction_indices: Tidx) -> (output: T); keep_dims: bool = false; T: type; Tidx: type = int32", |a| reduction(a, reduce::mean)),
    Op::new("Prod(input: T, reduction_indices: Tidx) -> (output: T); keep_dims: bool = false; T: type; Tidx: type = int32", |a| reduction(a, reduce::product)),
    Op::new("Max(input: T, reduction_indices: Tidx) -> (output: T); keep_dims: bool = false; T: type; Tidx: type = int32", |a| reduction(a, reduce::max)),
    Op::new("Min(input: T, reduction_indices: Tidx) -> (output: T); keep_dims: bool = false; T: type; Tidx: type = int32", |a| reduction(a, reduce::min)),
    Op::new("All(input: bool, reduction_indices: Tidx) -> (output: bool); keep_dims: bool = false; Tidx: type = int32", |a| reduction(a, reduce::all)),
    Op::new("Any(input: bool, reduction_indices: Tidx) -> (output: bool); keep_dims: bool = false; Tidx: type = int32", |a| reduction(a, reduce::any)),
    Op::new("EuclideanNorm(input: T, reduction_indices: Tidx) -> (output: T); keep_dims: bool = false; T: type; Tidx: type = int32", |a| reduction(a, norm)),
    Op::new("ArgMax(input: T, dimension: Tidx) -> (output: output_type); T: type; Tidx: type = int32; output_type: type = int64", |a| arg(a, reduce::arg_max)).ranks("_ 0"),
    Op::new("ArgMin(input: T, dimension: Tidx) -> (output: output_type); T: type; Tidx: type = int32; output_type: type = int64", |a| arg(a, reduce::arg_min)).ranks("_ 0"),
    Op::new("Cumsum(x: T, axis: Tidx) -> (out: T); exclusive: bool = false; reverse: bool = false; T: type; Tidx: type = int32", |a| running(a, reduce::cumulative_sum)).ranks("_ 0"),
    Op::new("Cumprod(x: T, axis: Tidx) -> (out: T); exclusive: bool = false; reverse: bool = false; T: type; Tidx: type = int32", |a| running(a, reduce::cumulative_product)).ranks("_ 0"),
    Op::new("CumulativeLogsumexp(x: T, axis: Tidx) -> (out: T); exclusive: bool = false; reverse: bool = false; T: type; Tidx: type = int32", |a| running(a, reduce::cumulative_log_sum_exp)).ranks("_ 0"),
    Op::new("ReduceJoin(inputs: string, reduction_indices: int32) -> (output: string); keep_dims: bool = false; separator: string = \"\"", join),
    Op::new("L2Loss(t: T) -> (output: T); T: type", |_| {
        map1(|x| {
            let all: Shape = (0..x.rank()).collect();
            let sum = reduce::sum(&e::square(x)?, &all, false)?;
            let half = array::cast(&Tensor::scalar(0.5f32), sum.dtype())?;
            e::mul(sum, half)
        })
    }),
    Op::new("BiasAddGrad(out_backprop: T) -> (output: T); T: type; data_format: string = \"NHWC\"", |a| {
        let channels_first = a.str("data_format")? == "NCHW";
        Ok(kernel(move |_, inputs| {
            let [x] = tensors(inputs)?;
            let channels = if channels_first { 1 } else { x.rank().saturating_sub(1) };
            let over: Shape = (0..x.rank()).filter(|d| *d != channels).collect();
            one(reduce::sum(&x, &over, false)?)
        }))
    }).ranks("2+"),
];
