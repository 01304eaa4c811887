//! Gradients gathered over several steps, which runs of one model share (`tf.compat.v1.ConditionalAccumulator`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::args::{int, many, one, take};
use super::shared::{Named, held, locked};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, kernel};
use crate::tensor::kernels::{array, elementwise as e};
use crate::tensor::{DType, PartialShape, Tensor};
use crate::{Error, Result};

#[derive(Debug, Default)]
struct State {
    /// The sum so far.
    sum: Option<Tensor>,
    /// The sums of rows, of gradients that have but some, and how many each is of.
    rows: BTreeMap<i64, (Tensor, usize)>,
    count: usize,
    step: i64,
}

#[derive(Debug)]
struct Accumulator {
    dtype: DType,
    shape: PartialShape,
    mean: bool,
    state: Mutex<State>,
}

impl Accumulator {
    fn of(handle: &Value) -> Result<Arc<Accumulator>> {
        held(handle, "an accumulator")
    }

    /// How many gradients there are, if they are enough; then it begins anew, a step later.
    fn taken(&self, wanted: &Value) -> Result<State> {
        let wanted = int(wanted.tensor()?, "the number of gradients")?;
        let mut state = locked(&self.state);
        if wanted < 1 || (state.count as i64) < wanted {
            return Err(Error::compute(format!(
                "{} gradients are gathered, not {wanted}, and nobody adds any meanwhile",
                state.count
            )));
        }
        let step = state.step + 1;
        Ok(std::mem::replace(&mut *state, State { step, ..State::default() }))
    }

    /// A sum as what it is asked for.
    fn reduced(&self, sum: Tensor, count: usize) -> Result<Tensor> {
        if !self.mean {
            return Ok(sum);
        }
        let count = array::cast(&Tensor::scalar(count as i64), self.dtype)?;
        Ok(e::div(sum, count)?)
    }
}

fn accumulator(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("dtype")?;
    let shape = a.get("shape").and_then(|s| s.as_shape()).cloned().unwrap_or(PartialShape::UNKNOWN);
    let name = Named::read(a, "accumulator")?;
    let mean = match a.str("reduction_type")? {
        "MEAN" => true,
        "SUM" => false,
        other => return Err(Error::graph(format!("there is no reduction type {other:?}"))),
    };
    Ok(kernel(move |context, _| {
        one(name.get(context, |_| Accumulator { dtype, shape: shape.clone(), mean, state: Mutex::default() })?)
    }))
}

fn apply(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle, step, gradient] = take(inputs)?;
        let (to, step) = (Accumulator::of(&handle)?, int(step.tensor()?, "the step")?);
        let gradient = gradient.into_tensor()?;
        let mut state = locked(&to.state);
        let fits = to.shape.matches(gradient.shape())
            && gradient.dtype() == to.dtype
            && state.sum.as_ref().is_none_or(|s| s.shape() == gradient.shape());
        if !fits {
            return Err(Error::compute(format!(
                "a gradient {} {:?} doesn't go with {} {}",
                gradient.dtype(),
                gradient.shape(),
                to.dtype,
                to.shape
            )));
        }
        // What comes from a step before is too late.
        if step >= state.step {
            let sum = match state.sum.take() {
                Some(sum) => e::add(sum, gradient)?,
                None => gradient,
            };
            state.sum = Some(sum);
            state.count += 1;
        }
        Ok(Values::new())
    }))
}

fn take_gradient(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle, wanted] = take(inputs)?;
        let from = Accumulator::of(&handle)?;
        let state = from.taken(&wanted)?;
        let sum = state.sum.ok_or_else(|| Error::compute("the gradients have but some rows"))?;
        one(from.reduced(sum, state.count)?)
    }))
}

/// Rows, what they hold, and the whole shape, which may be left out.
fn apply_rows(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle, step, indices, values, _shape] = take(inputs)?;
        let (to, step) = (Accumulator::of(&handle)?, int(step.tensor()?, "the step")?);
        let (indices, values) = (indices.tensor()?.to_i64_vec()?, values.into_tensor()?);
        if values.shape().first() != Some(&indices.len()) || values.dtype() != to.dtype {
            return Err(Error::compute(format!(
                "{} indices for values {} {:?} of an accumulator of {}",
                indices.len(),
                values.dtype(),
                values.shape(),
                to.dtype
            )));
        }
        let mut state = locked(&to.state);
        if step < state.step {
            return Ok(Values::new());
        }
        for (index, row) in indices.into_iter().zip(array::unstack(&values, 0)?) {
            let (sum, n) = match state.rows.remove(&index) {
                Some((sum, n)) if sum.shape() == row.shape() => (e::add(sum, row)?, n + 1),
                Some(_) => return Err(Error::compute("rows differ in shape")),
                None => (row, 1),
            };
            state.rows.insert(index, (sum, n));
        }
        state.count += 1;
        Ok(Values::new())
    }))
}

fn take_rows(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle, wanted] = take(inputs)?;
        let from = Accumulator::of(&handle)?;
        let state = from.taken(&wanted)?;
        let indices: Vec<i64> = state.rows.keys().copied().collect();
        let rows: Vec<Tensor> =
            state.rows.into_values().map(|(sum, n)| from.reduced(sum, n)).collect::<Result<_>>()?;
        let values = array::stack(&rows.iter().collect::<Vec<_>>(), 0)?;
        let known = from.shape.dims().unwrap_or_default();
        let rest = values.shape().iter().skip(1).map(|d| *d as i64);
        let first = known.first().copied().flatten().map_or(-1, |d| d as i64);
        let shape: Vec<i64> = std::iter::once(first).chain(rest).collect();
        let (n, rank) = (indices.len(), shape.len());
        many([Tensor::from_vec(indices, [n])?, values, Tensor::from_vec(shape, [rank])?])
    }))
}

fn count(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle] = take(inputs)?;
        let n = locked(&Accumulator::of(&handle)?.state).count;
        one(Tensor::scalar(i32::try_from(n).unwrap_or(i32::MAX)))
    }))
}

fn set_step(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle, step] = take(inputs)?;
        locked(&Accumulator::of(&handle)?.state).step = int(step.tensor()?, "the step")?;
        Ok(Values::new())
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("AccumulatorApplyGradient(handle: &string, local_step: int64, gradient: dtype) -> (); dtype: type", apply),
    Op::new("AccumulatorNumAccumulated(handle: &string) -> (num_accumulated: int32)", count),
    Op::new("AccumulatorSetGlobalStep(handle: &string, new_global_step: int64) -> ()", set_step),
    Op::new("AccumulatorTakeGradient(handle: &string, num_required: int32) -> (average: dtype); dtype: type", take_gradient),
    Op::new("ConditionalAccumulator() -> (handle: &string); dtype: type; shape: shape; container: string = \"\"; shared_name: string = \"\"; reduction_type: string = \"MEAN\"; stateful", accumulator),
    Op::new("ResourceAccumulatorApplyGradient(handle: resource, local_step: int64, gradient: dtype) -> (); dtype: type; stateful", apply),
    Op::new("ResourceAccumulatorNumAccumulated(handle: resource) -> (num_accumulated: int32); stateful", count),
    Op::new("ResourceAccumulatorSetGlobalStep(handle: resource, new_global_step: int64) -> (); stateful", set_step),
    Op::new("ResourceAccumulatorTakeGradient(handle: resource, num_required: int32) -> (average: dtype); dtype: type; stateful", take_gradient),
    Op::new("ResourceConditionalAccumulator() -> (handle: resource); dtype: type; shape: shape; container: string = \"\"; shared_name: string = \"\"; reduction_type: string = \"MEAN\"; stateful", accumulator),
    Op::new("SparseAccumulatorApplyGradient(handle: &string, local_step: int64, gradient_indices: int64, gradient_values: dtype, gradient_shape: int64) -> (); dtype: type; has_known_shape: bool", apply_rows),
    Op::new("SparseAccumulatorTakeGradient(handle: &string, num_required: int32) -> (indices: int64, values: dtype, shape: int64); dtype: type", take_rows),
    Op::new("SparseConditionalAccumulator() -> (handle: &string); dtype: type; shape: shape; container: string = \"\"; shared_name: string = \"\"; reduction_type: string = \"MEAN\"; stateful", accumulator),
];
