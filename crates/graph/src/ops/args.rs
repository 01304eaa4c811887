//! Taking a kernel's inputs apart, and kernels made of one function.

use crate::engine::{Kernel, Value, Values, kernel};
use crate::tensor::{self, DType, Tensor};
use crate::{Error, Result};

/// The inputs, when there are `N` of them.
pub(super) fn take<const N: usize>(inputs: Values) -> Result<[Value; N]> {
    let got = inputs.len();
    let mut inputs = inputs.into_iter();
    let taken: [Option<Value>; N] = std::array::from_fn(|_| inputs.next());
    if got != N || taken.iter().any(Option::is_none) {
        return Err(Error::graph(format!("takes {N} inputs, got {got}")));
    }
    Ok(taken.map(|v| v.unwrap_or_else(|| unreachable!("checked above"))))
}

/// The inputs as tensors, when there are `N` of them.
pub(super) fn tensors<const N: usize>(inputs: Values) -> Result<[Tensor; N]> {
    let got = inputs.len();
    let mut inputs = inputs.into_iter();
    let mut failed = None;
    let taken: [Option<Tensor>; N] = std::array::from_fn(|_| match inputs.next()?.into_tensor() {
        Ok(t) => Some(t),
        Err(e) => {
            failed = Some(e);
            None
        }
    });
    if let Some(e) = failed {
        return Err(e);
    }
    if got != N || taken.iter().any(Option::is_none) {
        return Err(Error::graph(format!("takes {N} inputs, got {got}")));
    }
    Ok(taken.map(|t| t.unwrap_or_else(|| unreachable!("checked above"))))
}

/// All inputs as tensors.
pub(super) fn all_tensors(inputs: Values) -> Result<Vec<Tensor>> {
    inputs.into_iter().map(Value::into_tensor).collect()
}

/// A single output.
pub(super) fn one(value: impl Into<Value>) -> Result<Values> {
    let mut values = Values::new();
    values.push(value.into());
    Ok(values)
}

/// Several outputs.
pub(super) fn many<V: Into<Value>>(values: impl IntoIterator<Item = V>) -> Result<Values> {
    Ok(values.into_iter().map(Into::into).collect())
}

/// A kernel from one tensor to one.
pub(super) fn unary(f: fn(Tensor) -> tensor::Result<Tensor>) -> Result<Box<dyn Kernel>> {
    map1(f)
}

/// A kernel from one tensor, which is only read, to one.
pub(super) fn reading(f: fn(&Tensor) -> tensor::Result<Tensor>) -> Result<Box<dyn Kernel>> {
    map1(move |x| f(&x))
}

/// A kernel from two tensors to one.
pub(super) fn binary(f: fn(Tensor, Tensor) -> tensor::Result<Tensor>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [a, b] = tensors(inputs)?;
        one(f(a, b)?)
    }))
}

/// A kernel from two tensors of as many elements to one of the first's shape.
pub(super) fn paired(
    f: impl Fn(Tensor, Tensor) -> tensor::Result<Tensor> + Send + Sync + 'static,
) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [a, b] = tensors(inputs)?;
        if a.len() != b.len() {
            return Err(Error::compute(format!("shapes {:?} and {:?} differ in size", a.shape(), b.shape())));
        }
        let b = b.reshape(a.shape())?;
        one(f(a, b)?)
    }))
}

/// A kernel from two tensors, which are only read, to one.
pub(super) fn comparing(f: fn(&Tensor, &Tensor) -> tensor::Result<Tensor>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [a, b] = tensors(inputs)?;
        one(f(&a, &b)?)
    }))
}

/// A kernel from one tensor to one, made of a closure.
pub(super) fn map1(
    f: impl Fn(Tensor) -> tensor::Result<Tensor> + Send + Sync + 'static,
) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        one(f(x)?)
    }))
}

/// The only integer of an integer tensor, such as an axis.
pub(super) fn int(t: &Tensor, what: &str) -> Result<i64> {
    match t.to_i64_vec()?[..] {
        [one] => Ok(one),
        _ => Err(Error::compute(format!("{what} must be one integer, got shape {:?}", t.shape()))),
    }
}

/// The extents that an integer tensor of rank 1 holds.
pub(super) fn extents(t: &Tensor, what: &str) -> Result<Vec<usize>> {
    if t.rank() > 1 {
        return Err(Error::compute(format!("{what} must have rank 1, got shape {:?}", t.shape())));
    }
    let check =
        |v| usize::try_from(v).map_err(|_| Error::compute(format!("{what} has the negative extent {v}")));
    t.to_i64_vec()?.into_iter().map(check).collect()
}

/// `axis` counted from the front, where -1 is the last of `rank`.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize> {
    let rank_i = rank as i64;
    let resolved = if axis < 0 { axis + rank_i } else { axis };
    if (0..rank_i).contains(&resolved) {
        Ok(resolved as usize)
    } else {
        Err(Error::compute(format!("axis {axis} is out of range for rank {rank}")))
    }
}

/// Integers as a tensor of rank 1 of dtype `int32` or `int64`.
pub(super) fn ints(values: impl IntoIterator<Item = usize>, dtype: DType) -> Result<Tensor> {
    let too_large = |v: usize| Error::compute(format!("{v} is over the range of {dtype}"));
    if dtype == DType::I32 {
        let values: Result<Vec<i32>> =
            values.into_iter().map(|v| i32::try_from(v).map_err(|_| too_large(v))).collect();
        let values = values?;
        let n = values.len();
        return Ok(Tensor::from_vec(values, [n])?);
    }
    let values: Result<Vec<i64>> =
        values.into_iter().map(|v| i64::try_from(v).map_err(|_| too_large(v))).collect();
    let values = values?;
    let n = values.len();
    Ok(Tensor::from_vec(values, [n])?)
}

/// The first `N` values, taken off the front.
pub(super) fn take_first<const N: usize>(values: &mut Vec<Value>) -> Result<[Value; N]> {
    if values.len() < N {
        return Err(Error::graph(format!("takes at least {N} inputs, got {}", values.len())));
    }
    take(values.drain(..N).collect())
}

/// A list of dtypes among the attributes.
pub(super) fn types(a: &super::NodeAttrs<'_>, name: &str) -> Result<Vec<DType>> {
    let list = a.get(name).and_then(crate::Attr::as_list).unwrap_or_default();
    let types: Option<Vec<DType>> = list.iter().map(crate::Attr::as_type).collect();
    types.ok_or_else(|| Error::graph(format!("attribute {name:?} must list dtypes")))
}
