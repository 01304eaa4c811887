//! What is in a tensor once, and what is in one but not in another.

use super::args::{axis, int, many, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// Distinct slices along `along`, for each slice which of them it is, and, where asked for, how often each occurs.
fn distinct(x: &Tensor, along: usize, counts: bool, dtype: DType) -> Result<Values> {
    let (values, indices, times) = array::unique(x, along)?;
    let mut out = vec![values, array::cast(&indices, dtype)?];
    if counts {
        out.push(array::cast(&times, dtype)?);
    }
    many(out)
}

fn vector(x: &Tensor) -> Result<()> {
    if x.rank() == 1 {
        return Ok(());
    }
    Err(Error::compute(format!("unique expects a 1D vector, got shape {:?}", x.shape())))
}

fn unique(a: &NodeAttrs<'_>, counts: bool) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("out_idx")?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        vector(&x)?;
        distinct(&x, 0, counts, dtype)
    }))
}

fn unique_along(a: &NodeAttrs<'_>, counts: bool) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("out_idx")?;
    Ok(kernel(move |_, inputs| {
        let [x, along] = tensors(inputs)?;
        // No axis at all is that of a vector.
        let along = if along.is_empty() {
            vector(&x)?;
            0
        } else {
            axis(int(&along, "the axis")?, x.rank())?
        };
        distinct(&x, along, counts, dtype)
    }))
}

fn list_diff(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("out_idx")?;
    Ok(kernel(move |_, inputs| {
        let [x, y] = tensors(inputs)?;
        let (values, indices) = array::list_diff(&x, &y)?;
        many([values, array::cast(&indices, dtype)?])
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Unique(x: T) -> (y: T, idx: out_idx); T: type; out_idx: type = int32", |a| unique(a, false)),
    Op::new("UniqueWithCounts(x: T) -> (y: T, idx: out_idx, count: out_idx); T: type; out_idx: type = int32", |a| unique(a, true)),
    Op::new("UniqueV2(x: T, axis: Taxis) -> (y: T, idx: out_idx); T: type; Taxis: type = int64; out_idx: type = int32", |a| unique_along(a, false)).ranks("_ 1"),
    Op::new("UniqueWithCountsV2(x: T, axis: Taxis) -> (y: T, idx: out_idx, count: out_idx); T: type; Taxis: type = int64; out_idx: type = int32", |a| unique_along(a, true)).ranks("_ 1"),
    Op::new("ListDiff(x: T, y: T) -> (out: T, idx: out_idx); T: type; out_idx: type = int32", list_diff),
];
