//! Updates of parts of variables and tensors: scattered, in place, counted.

use std::sync::Arc;

use super::args::{int, one, take, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Resource, Value, Values, Variable, kernel};
use crate::tensor::kernels::array::{self, Scatter};
use crate::tensor::kernels::elementwise as e;
use crate::tensor::{PartialShape, Shape, Tensor};
use crate::{Error, Result};

/// Updates of a variable's rows at indices along its first dimension; a scalar updates every one.
fn rows(old: Tensor, indices: &Tensor, updates: &Tensor, how: Scatter) -> Result<Tensor> {
    let mut whole = Shape::from(indices.shape());
    whole.extend(old.shape().iter().skip(1).copied());
    let updates = if updates.rank() == 0 { array::broadcast_to(updates, &whole)? } else { updates.clone() };
    let mut shape = Shape::from(indices.shape());
    shape.push(1);
    Ok(array::scatter(old, &indices.clone().reshape(shape)?, &updates, how)?)
}

/// Updates of a variable's slices that index tuples pick.
fn tuples(old: Tensor, indices: &Tensor, updates: &Tensor, how: Scatter) -> Result<Tensor> {
    // A vector of indices is one of tuples of one number each.
    if indices.rank() == 1 {
        return Ok(array::scatter(old, &indices.clone().reshape([indices.len(), 1])?, updates, how)?);
    }
    Ok(array::scatter(old, indices, updates, how)?)
}

type Update = fn(Tensor, &Tensor, &Tensor, Scatter) -> Result<Tensor>;

/// Changes a variable; gives a reference on where the op has an output.
fn scatter(a: &NodeAttrs<'_>, f: Update, how: Scatter) -> Result<Box<dyn Kernel>> {
    let gives = !a.signature.outputs.is_empty();
    Ok(kernel(move |_, inputs| {
        let [handle, indices, updates] = take(inputs)?;
        let (indices, updates) = (indices.into_tensor()?, updates.into_tensor()?);
        handle.resource()?.variable()?.update(|old| f(old, &indices, &updates, how))?;
        if gives { one(handle) } else { Ok(Values::new()) }
    }))
}

/// Updates of a tensor's rows; a row's number counts on from either end, as often as need be.
fn in_place(how: Scatter) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [x, at, v] = tensors(inputs)?;
        let Some(&rows) = x.shape().first().filter(|_| at.rank() == 1) else {
            return Err(Error::compute(format!("rows {:?} of a tensor of shape {:?}", at.shape(), x.shape())));
        };
        let at = at.to_i64_vec()?;
        if rows == 0 && !at.is_empty() {
            return Err(Error::compute("the tensor has no rows"));
        }
        let n = at.len();
        let at = at.into_iter().map(|i| i.rem_euclid(rows.max(1) as i64)).collect();
        one(array::scatter(x, &Tensor::from_vec(at, [n, 1])?, &v, how)?)
    }))
}

/// Gives a counter's value and adds one, up to a limit.
fn count_up(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let limit = a.int("limit")?;
    Ok(kernel(move |_, inputs| {
        let [handle] = take(inputs)?;
        let mut before = None;
        handle.resource()?.variable()?.update(|old| {
            if old.rank() != 0 {
                return Err(Error::compute(format!("a counter is a scalar, not of shape {:?}", old.shape())));
            }
            if int(&old, "the counter")? >= limit {
                return Err(Error::compute(format!("the counter reached its limit of {limit}")));
            }
            before = Some(old.clone());
            let step = array::cast(&Tensor::scalar(1i64), old.dtype())?;
            Ok(e::add(old, step)?)
        })?;
        one(before.ok_or_else(|| Error::compute("the counter has no value"))?)
    }))
}

/// A variable that lives as long as the run holds it.
fn temporary(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("dtype")?;
    let shape = a.get("shape").and_then(|s| s.as_shape()).cloned().unwrap_or(PartialShape::UNKNOWN);
    Ok(kernel(move |context, _| {
        one(Resource::Variable(Arc::new(Variable::new(context.node(), dtype, shape.clone()))))
    }))
}

fn destroy_temporary(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle]: [Value; 1] = take(inputs)?;
        one(handle.resource()?.variable()?.read()?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("ResourceScatterUpdate(resource: resource, indices: Tindices, updates: dtype) -> (); dtype: type; Tindices: type; stateful", |a| scatter(a, rows, Scatter::Update)),
    Op::new("ResourceScatterAdd(resource: resource, indices: Tindices, updates: dtype) -> (); dtype: type; Tindices: type; stateful", |a| scatter(a, rows, Scatter::Add)),
    Op::new("ResourceScatterSub(resource: resource, indices: Tindices, updates: dtype) -> (); dtype: type; Tindices: type; stateful", |a| scatter(a, rows, Scatter::Sub)),
    Op::new("ResourceScatterMul(resource: resource, indices: Tindices, updates: dtype) -> (); dtype: type; Tindices: type; stateful", |a| scatter(a, rows, Scatter::Mul)),
    Op::new("ResourceScatterDiv(resource: resource, indices: Tindices, updates: dtype) -> (); dtype: type; Tindices: type; stateful", |a| scatter(a, rows, Scatter::Div)),
    Op::new("ResourceScatterMax(resource: resource, indices: Tindices, updates: dtype) -> (); dtype: type; Tindices: type; stateful", |a| scatter(a, rows, Scatter::Max)),
    Op::new("ResourceScatterMin(resource: resource, indices: Tindices, updates: dtype) -> (); dtype: type; Tindices: type; stateful", |a| scatter(a, rows, Scatter::Min)),
    Op::new("ScatterUpdate(ref: &T, indices: Tindices, updates: T) -> (output_ref: &T); T: type; Tindices: type; use_locking: bool = true", |a| scatter(a, rows, Scatter::Update)),
    Op::new("ScatterAdd(ref: &T, indices: Tindices, updates: T) -> (output_ref: &T); T: type; Tindices: type; use_locking: bool = false", |a| scatter(a, rows, Scatter::Add)),
    Op::new("ScatterSub(ref: &T, indices: Tindices, updates: T) -> (output_ref: &T); T: type; Tindices: type; use_locking: bool = false", |a| scatter(a, rows, Scatter::Sub)),
    Op::new("ScatterMul(ref: &T, indices: Tindices, updates: T) -> (output_ref: &T); T: type; Tindices: type; use_locking: bool = false", |a| scatter(a, rows, Scatter::Mul)),
    Op::new("ScatterDiv(ref: &T, indices: Tindices, updates: T) -> (output_ref: &T); T: type; Tindices: type; use_locking: bool = false", |a| scatter(a, rows, Scatter::Div)),
    Op::new("ScatterMax(ref: &T, indices: Tindices, updates: T) -> (output_ref: &T); T: type; Tindices: type; use_locking: bool = false", |a| scatter(a, rows, Scatter::Max)),
    Op::new("ScatterMin(ref: &T, indices: Tindices, updates: T) -> (output_ref: &T); T: type; Tindices: type; use_locking: bool = false", |a| scatter(a, rows, Scatter::Min)),
    Op::new("ResourceScatterNdUpdate(ref: resource, indices: Tindices, updates: T) -> (); T: type; Tindices: type; use_locking: bool = true; bad_indices_policy: string = \"\"; stateful", |a| scatter(a, tuples, Scatter::Update)),
    Op::new("ResourceScatterNdAdd(ref: resource, indices: Tindices, updates: T) -> (); T: type; Tindices: type; use_locking: bool = true; bad_indices_policy: string = \"\"; stateful", |a| scatter(a, tuples, Scatter::Add)),
    Op::new("ResourceScatterNdSub(ref: resource, indices: Tindices, updates: T) -> (); T: type; Tindices: type; use_locking: bool = true; bad_indices_policy: string = \"\"; stateful", |a| scatter(a, tuples, Scatter::Sub)),
    Op::new("ResourceScatterNdMax(ref: resource, indices: Tindices, updates: T) -> (); T: type; Tindices: type; use_locking: bool = true; bad_indices_policy: string = \"\"; stateful", |a| scatter(a, tuples, Scatter::Max)),
    Op::new("ResourceScatterNdMin(ref: resource, indices: Tindices, updates: T) -> (); T: type; Tindices: type; use_locking: bool = true; bad_indices_policy: string = \"\"; stateful", |a| scatter(a, tuples, Scatter::Min)),
    Op::new("ScatterNdUpdate(ref: &T, indices: Tindices, updates: T) -> (output_ref: &T); T: type; Tindices: type; use_locking: bool = true; bad_indices_policy: string = \"\"", |a| scatter(a, tuples, Scatter::Update)),
    Op::new("ScatterNdAdd(ref: &T, indices: Tindices, updates: T) -> (output_ref: &T); T: type; Tindices: type; use_locking: bool = false; bad_indices_policy: string = \"\"", |a| scatter(a, tuples, Scatter::Add)),
    Op::new("ScatterNdSub(ref: &T, indices: Tindices, updates: T) -> (output_ref: &T); T: type; Tindices: type; use_locking: bool = false; bad_indices_policy: string = \"\"", |a| scatter(a, tuples, Scatter::Sub)),
    Op::new("ScatterNdMax(ref: &T, indices: Tindices, updates: T) -> (output_ref: &T); T: type; Tindices: type; use_locking: bool = false; bad_indices_policy: string = \"\"", |a| scatter(a, tuples, Scatter::Max)),
    Op::new("ScatterNdMin(ref: &T, indices: Tindices, updates: T) -> (output_ref: &T); T: type; Tindices: type; use_locking: bool = false; bad_indices_policy: string = \"\"", |a| scatter(a, tuples, Scatter::Min)),
    Op::new("ScatterNdNonAliasingAdd(input: T, indices: Tindices, updates: T) -> (output: T); T: type; Tindices: type; bad_indices_policy: string = \"\"", |_| {
        Ok(kernel(|_, inputs| {
            let [x, indices, updates] = tensors(inputs)?;
            one(array::scatter(x, &indices, &updates, Scatter::Add)?)
        }))
    }).ranks("1+"),
    Op::new("InplaceAdd(x: T, i: int32, v: T) -> (y: T); T: type", |_| in_place(Scatter::Add)),
    Op::new("InplaceSub(x: T, i: int32, v: T) -> (y: T); T: type", |_| in_place(Scatter::Sub)),
    Op::new("InplaceUpdate(x: T, i: int32, v: T) -> (y: T); T: type", |_| in_place(Scatter::Update)),
    Op::new("CountUpTo(ref: &T) -> (output: T); limit: int; T: type", count_up),
    Op::new("ResourceCountUpTo(resource: resource) -> (output: T); limit: int; T: type; stateful", count_up),
    Op::new("TemporaryVariable() -> (ref: &dtype); shape: shape; dtype: type; var_name: string = \"\"; stateful", temporary),
    Op::new("DestroyTemporaryVariable(ref: &T) -> (value: T); T: type; var_name: string", destroy_temporary),
];
