//! Picking elements by index, and putting them back.
#![allow(clippy::unnecessary_fallible_conversions, reason = "the same text serves every width of integers")]

use super::mover::{Mover, rearrange};
use crate::kernels::elementwise::{self, Number, Real};
use crate::kernels::parallel;
use crate::{Complex32, Complex64, DType, Error, Result, Shape, Tensor, checked_elements, dispatch};

/// Slices of the input's elements, one after another: where each starts, and how long they are.
struct Runs {
    starts: Vec<usize>,
    len: usize,
}

impl Mover for Runs {
    fn run<T: Clone + Send + Sync>(&self, inputs: &[&[T]], out: &mut [T]) {
        let (Some(&src), 1..) = (inputs.first(), self.len) else { return };
        parallel::for_parts(out, self.len, 1, |begin, part| {
            let starts = &self.starts[begin / self.len..];
            if self.len == 1 {
                part.iter_mut().zip(starts).for_each(|(o, &s)| o.clone_from(&src[s]));
                return;
            }
            for (to, &s) in part.chunks_mut(self.len).zip(starts) {
                to.clone_from_slice(&src[s..s + self.len]);
            }
        });
    }
}

/// The slices of `params` along `axis` at `indices` (`tf.gather`). The first `batch_dims` dimensions, which both
/// have, go side by side.
///
/// The result has `params`' shape with the axis replaced by the dimensions of `indices` after `batch_dims`.
///
/// # Errors
/// When `indices` aren't integers, one is out of range, or shapes don't fit.
pub fn gather(params: &Tensor, indices: &Tensor, axis: usize, batch_dims: usize) -> Result<Tensor> {
    let (ps, is) = (params.shape(), indices.shape());
    if axis >= ps.len() || batch_dims > axis || batch_dims > is.len() || ps[..batch_dims] != is[..batch_dims]
    {
        return Err(Error::shape(format!(
            "indices of shape {is:?} can't pick along axis {axis} of shape {ps:?} with {batch_dims} batch dimensions"
        )));
    }
    let limit = ps[axis];
    let shape: Shape = ps[..axis].iter().chain(&is[batch_dims..]).chain(&ps[axis + 1..]).copied().collect();
    // Where there is nothing to pick, nobody looks at the indices.
    if checked_elements(&shape)? == 0 {
        return Tensor::zeros(params.dtype(), &shape);
    }
    let picks = resolve(indices, limit)?;
    let batches = checked_elements(&ps[..batch_dims])?;
    let outer = checked_elements(&ps[batch_dims..axis])?;
    let len = checked_elements(&ps[axis + 1..])?;
    let per_batch = picks.len() / batches;
    let mut starts = Vec::with_capacity(batches * outer * per_batch);
    for batch in 0..batches {
        let picks = &picks[batch * per_batch..][..per_batch];
        for o in 0..outer {
            let base = (batch * outer + o) * limit;
            starts.extend(picks.iter().map(|&i| (base + i) * len));
        }
    }
    rearrange(&[params], &shape, &Runs { starts, len })
}

/// The indices as `usize`, each under `limit`.
fn resolve(indices: &Tensor, limit: usize) -> Result<Vec<usize>> {
    dispatch!(integer indices.dtype(), T => {
        indices
            .elements::<T>()?
            .iter()
            .enumerate()
            .map(|(at, &i)| {
                usize::try_from(i).ok().filter(|&i| i < limit).ok_or_else(|| {
                    Error::value(format!("indices{:?} = {i} is not in [0, {limit})", place(at, indices.shape())))
                })
            })
            .collect()
    }, else => Err(Error::dtype("an integer one", indices.dtype())))
}

/// The index of an element, by its place in C order.
fn place(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, &n) in index.iter_mut().zip(shape).rev() {
        *i = at % n.max(1);
        at /= n.max(1);
    }
    index
}

/// How index tuples pick slices of a tensor: starts of the slices, their length, and the shape of all of them.
struct Tuples {
    starts: Vec<usize>,
    len: usize,
    shape: Shape,
}

impl Tuples {
    fn new(shape: &[usize], indices: &Tensor) -> Result<Self> {
        let Some((&depth, outer)) = indices.shape().split_last() else {
            return Err(Error::shape("index tuples need at least one dimension"));
        };
        if depth > shape.len() {
            return Err(Error::shape(format!(
                "index tuples of {depth} numbers can't pick from shape {shape:?}"
            )));
        }
        let result: Shape = outer.iter().chain(&shape[depth..]).copied().collect();
        checked_elements(&result)?;
        let len = checked_elements(&shape[depth..])?;
        let count = checked_elements(outer)?;
        let values = indices.to_i64_vec()?;
        let starts = (0..count)
            .map(|t| {
                let tuple = &values[t * depth..][..depth];
                let mut start = 0;
                for (&i, &n) in tuple.iter().zip(shape) {
                    let i = usize::try_from(i).ok().filter(|&i| i < n).ok_or_else(|| {
                        Error::value(format!(
                            "indices{:?} = {tuple:?} does not index into shape {shape:?}",
                            place(t, outer)
                        ))
                    })?;
                    start = start * n + i;
                }
                Ok(start * len)
            })
            .collect::<Result<_>>()?;
        Ok(Tuples { starts, len, shape: result })
    }
}

/// The slices of `params` that the index tuples in the last dimension of `indices` pick (`tf.gather_nd`), the first
/// `batch_dims` dimensions, which both have, going side by side.
///
/// # Errors
/// When `indices` aren't integers, one is out of range, or shapes don't fit.
pub fn gather_nd(params: &Tensor, indices: &Tensor, batch_dims: usize) -> Result<Tensor> {
    let (ps, is) = (params.shape(), indices.shape());
    if batch_dims == 0 {
        let Tuples { starts, len, shape } = Tuples::new(ps, indices)?;
        return rearrange(&[params], &shape, &Runs { starts, len });
    }
    if batch_dims > ps.len() || batch_dims >= is.len() || ps[..batch_dims] != is[..batch_dims] {
        return Err(Error::shape(format!(
            "indices of shape {is:?} can't pick from shape {ps:?} with {batch_dims} batch dimensions"
        )));
    }
    let batches = checked_elements(&ps[..batch_dims])?;
    let rows: Shape = [batches].iter().chain(&is[batch_dims..]).copied().collect();
    let flat: Shape = [batches].iter().chain(&ps[batch_dims..]).copied().collect();
    let (params, indices) = (params.clone().reshape(&flat)?, indices.clone().reshape(&rows)?);
    let parts = super::unstack(&params, 0)?
        .iter()
        .zip(&super::unstack(&indices, 0)?)
        .map(|(p, i)| gather_nd(p, i, 0))
        .collect::<Result<Vec<_>>>()?;
    if parts.is_empty() {
        let depth = is[is.len() - 1];
        let rest = ps.get(batch_dims + depth..).unwrap_or_default();
        let shape: Shape = is[..is.len() - 1].iter().chain(rest).copied().collect();
        return Tensor::zeros(params.dtype(), shape);
    }
    let stacked = super::stack(&parts.iter().collect::<Vec<_>>(), 0)?;
    let shape: Shape = ps[..batch_dims].iter().chain(&stacked.shape()[1..]).copied().collect();
    stacked.reshape(shape)
}

/// What a scattered update does to the element it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scatter {
    /// Replaces it; of several updates to one element the last wins.
    Update,
    /// Is added to it.
    Add,
    /// Is subtracted from it.
    Sub,
    /// Multiplies it.
    Mul,
    /// Divides it.
    Div,
    /// Replaces it if greater.
    Max,
    /// Replaces it if less.
    Min,
}

struct Put<'a>(&'a Tuples);

impl Mover for Put<'_> {
    fn run<T: Clone + Send + Sync>(&self, inputs: &[&[T]], out: &mut [T]) {
        let [target, updates] = inputs else { return };
        out.clone_from_slice(target);
        let len = self.0.len;
        for (i, &s) in self.0.starts.iter().enumerate() {
            out[s..s + len].clone_from_slice(&updates[i * len..][..len]);
        }
    }
}

/// `target` with `updates` applied to the slices that the index tuples of `indices` pick
/// (`tf.tensor_scatter_nd_update` and its kin).
///
/// # Errors
/// When dtypes or shapes don't fit, an index is out of range, or the dtype can't be combined so.
pub fn scatter(target: Tensor, indices: &Tensor, updates: &Tensor, how: Scatter) -> Result<Tensor> {
    elementwise::same_dtype(&target, updates)?;
    let tuples = Tuples::new(target.shape(), indices)?;
    if updates.shape() != &tuples.shape[..] {
        return Err(Error::shape(format!(
            "updates of shape {:?} where the indices ask for {:?}",
            updates.shape(),
            &tuples.shape[..]
        )));
    }
    let dtype = target.dtype();
    match how {
        Scatter::Update => {
            let shape: Shape = target.shape().into();
            rearrange(&[&target, updates], &shape, &Put(&tuples))
        }
        _ if matches!(dtype, DType::F16 | DType::BF16) => {
            let wide = |t: &Tensor| super::cast(t, DType::F32);
            super::cast(&scatter(wide(&target)?, indices, &wide(updates)?, how)?, dtype)
        }
        Scatter::Add | Scatter::Sub | Scatter::Mul => dispatch!(native dtype, T => {
            let combine = match how {
                Scatter::Add => <T as Number>::plus,
                Scatter::Sub => <T as Number>::minus,
                _ => <T as Number>::times,
            };
            combine_at::<T>(target, &tuples, updates, combine)
        }, else => Err(Error::dtype("a number's", dtype))),
        Scatter::Div if dtype == DType::C64 => {
            combine_at::<Complex32>(target, &tuples, updates, |a, b| a / b)
        }
        Scatter::Div if dtype == DType::C128 => {
            combine_at::<Complex64>(target, &tuples, updates, |a, b| a / b)
        }
        Scatter::Div => dispatch!(native_real dtype, T => {
            let zero = <T as Number>::ZERO;
            if dtype.is_integer() && updates.elements::<T>()?.contains(&zero) {
                return Err(Error::value("an integer is divided by zero"));
            }
            combine_at::<T>(target, &tuples, updates, <T as Real>::quotient)
        }, else => Err(Error::dtype("a real number's", dtype))),
        Scatter::Max | Scatter::Min => dispatch!(native_real dtype, T => {
            let combine = if how == Scatter::Max { <T as Real>::greater } else { <T as Real>::lesser };
            combine_at::<T>(target, &tuples, updates, combine)
        }, else => Err(Error::dtype("a real number's", dtype))),
    }
}

fn combine_at<T: crate::Element>(
    mut target: Tensor,
    tuples: &Tuples,
    updates: &Tensor,
    combine: impl Fn(T, T) -> T,
) -> Result<Tensor> {
    let updates = updates.elements::<T>()?;
    let out = target.make_mut::<T>()?;
    for (i, &s) in tuples.starts.iter().enumerate() {
        for (o, u) in out[s..s + tuples.len].iter_mut().zip(&updates[i * tuples.len..]) {
            *o = combine(*o, *u);
        }
    }
    Ok(target)
}

/// Zeros of `shape` with `updates` added at the index tuples of `indices` (`tf.scatter_nd`); strings replace.
///
/// # Errors
/// As [`scatter`].
pub fn scatter_nd(indices: &Tensor, updates: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let how = match updates.dtype() {
        DType::String | DType::Bool => Scatter::Update,
        _ => Scatter::Add,
    };
    scatter(Tensor::zeros(updates.dtype(), shape)?, indices, updates, how)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape).expect("tensor")
    }

    fn i(values: &[i32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape).expect("tensor")
    }

    fn counting(shape: &[usize]) -> Tensor {
        f(&(0..shape.iter().product::<usize>()).map(|v| v as f32).collect::<Vec<_>>(), shape)
    }

    fn values(t: &Tensor) -> &[f32] {
        t.as_slice().expect("f32")
    }

    #[test]
    fn rows_and_columns_are_picked() {
        let t = counting(&[3, 2]);
        let got = gather(&t, &i(&[2, 0, 2], &[3]), 0, 0).expect("rows");
        assert_eq!(values(&got), [4.0, 5.0, 0.0, 1.0, 4.0, 5.0]);
        let got = gather(&t, &i(&[1], &[1, 1]), 1, 0).expect("columns");
        assert_eq!((got.shape(), values(&got)), (&[3, 1, 1][..], &[1.0, 3.0, 5.0][..]));
        assert_eq!(gather(&t, &i(&[1], &[]), 0, 0).expect("one").shape(), [2]);
    }

    #[test]
    fn batches_go_side_by_side() {
        let t = counting(&[2, 2, 3]);
        let got = gather(&t, &i(&[0, 2, 1, 1], &[2, 2]), 2, 1).expect("picked");
        assert_eq!(got.shape(), [2, 2, 2]);
        assert_eq!(values(&got), [0.0, 2.0, 3.0, 5.0, 7.0, 7.0, 10.0, 10.0]);
        let got = gather_nd(&t, &i(&[1, 0], &[2, 1]), 1).expect("picked");
        assert_eq!(values(&got), [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let t = counting(&[3, 2]);
        let e = gather(&t, &i(&[0, 3], &[2]), 0, 0).expect_err("out of range").to_string();
        assert_eq!(e, "indices[1] = 3 is not in [0, 3)");
        assert!(gather(&t, &i(&[-1], &[1]), 0, 0).is_err());
        assert!(gather(&t, &f(&[0.0], &[1]), 0, 0).is_err());
        assert!(gather(&t, &i(&[0], &[1]), 2, 0).is_err());
        let e = gather_nd(&t, &i(&[0, 2], &[1, 2]), 0).expect_err("out of range").to_string();
        assert_eq!(e, "indices[0] = [0, 2] does not index into shape [3, 2]");
        assert!(gather(&counting(&[0, 2]), &i(&[0], &[1]), 0, 0).is_err());
        assert_eq!(gather(&counting(&[0, 2]), &i(&[], &[0]), 0, 0).expect("none").shape(), [0, 2]);
    }

    #[test]
    fn tuples_pick_and_put() {
        let t = counting(&[3, 2]);
        let at = i(&[2, 1, 0, 0], &[2, 2]);
        let got = gather_nd(&t, &at, 0).expect("picked");
        assert_eq!(values(&got), [5.0, 0.0]);
        let got = gather_nd(&t, &i(&[], &[2, 0]), 0).expect("whole");
        assert_eq!(got.shape(), [2, 3, 2]);
        let put = scatter_nd(&i(&[1, 1, 3], &[3, 1]), &f(&[1.0, 2.0, 4.0], &[3]), &[5]).expect("put");
        assert_eq!(values(&put), [0.0, 3.0, 0.0, 4.0, 0.0]);
        let rows =
            scatter(t.clone(), &i(&[1], &[1, 1]), &f(&[9.0, -9.0], &[1, 2]), Scatter::Max).expect("rows");
        assert_eq!(values(&rows), [0.0, 1.0, 9.0, 3.0, 4.0, 5.0]);
        let rows = scatter(t, &i(&[1], &[1, 1]), &f(&[9.0, -9.0], &[1, 2]), Scatter::Update).expect("rows");
        assert_eq!(values(&rows), [0.0, 1.0, 9.0, -9.0, 4.0, 5.0]);
    }

    #[test]
    fn strings_are_picked_and_put() {
        let t = Tensor::from_strings([&b"a"[..], b"b"], [2]).expect("strings");
        let got = gather(&t, &i(&[1, 1, 0], &[3]), 0, 0).expect("picked");
        assert_eq!(got.strings().expect("strings").concat(), b"bba");
        let put = scatter_nd(&i(&[2, 0], &[2, 1]), &t, &[3]).expect("put");
        assert_eq!(put.strings().expect("strings").concat(), b"ba");
    }
}
