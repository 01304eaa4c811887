//! Calls of functions: plain ones, conditions, cases and loops.

use super::args::{int, one, take};
use super::{NodeAttrs, Op};
use crate::engine::{Context, Kernel, Value, Values, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{DType, PartialShape, Tensor, dispatch};
use crate::{Attr, Error, FuncRef, Result};

/// `PartitionedCall` and its kin: the function of attribute `f`.
fn call(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let function = a.func("f")?.clone();
    Ok(kernel(move |context, inputs| context.call(&function, inputs)))
}

/// `MapDefun`: a function for each slice of its arguments along their first dimension; its results are stacked.
fn map(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let function = a.func("f")?.clone();
    let arguments = super::args::types(a, "Targuments")?.len();
    let results = super::args::types(a, "output_types")?;
    Ok(kernel(move |context, inputs| {
        let (sliced, captured) = inputs
            .split_at_checked(arguments)
            .ok_or_else(|| Error::graph(format!("takes {arguments} arguments, got {}", inputs.len())))?;
        let slices = sliced.iter().map(|v| Ok(array::unstack(v.tensor()?, 0)?)).collect::<Result<Vec<_>>>()?;
        let count = slices.first().map_or(0, Vec::len);
        if slices.iter().any(|s| s.len() != count) {
            return Err(Error::compute("the arguments' first dimensions differ"));
        }
        let mut columns: Vec<Vec<Tensor>> = vec![Vec::new(); results.len()];
        for i in 0..count {
            context.check()?;
            let mut args: Values = slices.iter().map(|s| Value::from(s[i].clone())).collect();
            args.extend(captured.iter().cloned());
            let given = context.call(&function, args)?;
            if given.len() != columns.len() {
                return Err(Error::graph(format!("the function gives {} values, not {}", given.len(), columns.len())));
            }
            for (column, value) in columns.iter_mut().zip(given) {
                column.push(value.into_tensor()?);
            }
        }
        let stacked = |(column, dtype): (&Vec<Tensor>, &DType)| match column.is_empty() {
            true => Ok(Tensor::zeros(*dtype, [0])?),
            false => Ok(array::stack(&column.iter().collect::<Vec<_>>(), 0)?),
        };
        super::args::many(columns.iter().zip(&results).map(stacked).collect::<Result<Vec<_>>>()?)
    }))
}

/// `RemoteCall`: there is but one device, so the target doesn't matter.
fn remote(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let function = a.func("f")?.clone();
    Ok(kernel(move |context, mut inputs| {
        if inputs.is_empty() {
            return Err(Error::graph("takes a target"));
        }
        inputs.remove(0);
        context.call(&function, inputs)
    }))
}

/// Whether a condition holds: a boolean, a number other than zero, a string that isn't empty, any tensor with
/// elements if it isn't a scalar.
fn holds(condition: &Value) -> Result<bool> {
    let t = condition.tensor()?;
    if t.rank() > 0 {
        return Ok(!t.is_empty());
    }
    match t.dtype() {
        DType::Bool => Ok(t.item::<crate::tensor::Bool>()?.get()),
        DType::String => Ok(t.strings()?.first().is_some_and(|s| !s.is_empty())),
        d => dispatch!(numeric d, T => Ok(t.item::<T>()? != <T as Default>::default()),
            else => Err(Error::compute(format!("a condition can't be {d}")))),
    }
}

fn if_else(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (then_branch, else_branch) = (a.func("then_branch")?.clone(), a.func("else_branch")?.clone());
    Ok(kernel(move |context, mut inputs| {
        if inputs.is_empty() {
            return Err(Error::graph("takes a condition"));
        }
        let condition = inputs.remove(0);
        context.call(if holds(&condition)? { &then_branch } else { &else_branch }, inputs)
    }))
}

fn case(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let branches: Option<Vec<FuncRef>> =
        a.get("branches").and_then(Attr::as_list).and_then(|l| l.iter().map(|f| f.as_func().cloned()).collect());
    let branches =
        branches.filter(|b| !b.is_empty()).ok_or_else(|| Error::graph("attribute \"branches\" must list functions"))?;
    Ok(kernel(move |context, mut inputs| {
        if inputs.is_empty() {
            return Err(Error::graph("takes a branch index"));
        }
        let index = int(inputs.remove(0).tensor()?, "the branch index")?;
        // An index out of range means the last branch.
        let branch = usize::try_from(index).ok().and_then(|i| branches.get(i)).or(branches.last());
        context.call(branch.ok_or_else(|| Error::graph("has no branches"))?, inputs)
    }))
}

fn while_loop(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (condition, body) = (a.func("cond")?.clone(), a.func("body")?.clone());
    Ok(kernel(move |context, inputs| repeat(context, &condition, &body, inputs)))
}

/// Calls `body` for as long as `condition` holds.
pub(super) fn repeat(
    context: &mut dyn Context,
    condition: &FuncRef,
    body: &FuncRef,
    inputs: Values,
) -> Result<Values> {
    let count = inputs.len();
    let mut state = inputs;
    loop {
        context.check()?;
        let goes_on = context.call(condition, state.clone())?;
        if !holds(goes_on.first().ok_or_else(|| Error::graph("the condition gives nothing"))?)? {
            return Ok(state);
        }
        state = context.call(body, state)?;
        if state.len() != count {
            return Err(Error::graph(format!("the body gives {} values, not {count}", state.len())));
        }
    }
}

/// `For`: the body for each integer from `start` to `limit`.
fn for_loop(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let body = a.func("body")?.clone();
    Ok(kernel(move |context, mut inputs| {
        if inputs.len() < 3 {
            return Err(Error::graph("takes a start, a limit and a step"));
        }
        let mut state: Values = inputs.drain(3..).collect();
        let [start, limit, step] = take(inputs)?;
        let (mut at, limit, step) =
            (int(start.tensor()?, "start")?, int(limit.tensor()?, "limit")?, int(step.tensor()?, "delta")?);
        if step == 0 || (step > 0 && at > limit) || (step < 0 && at < limit) {
            return Err(Error::compute(format!("from {at} by {step} never reaches {limit}")));
        }
        while (step > 0 && at < limit) || (step < 0 && at > limit) {
            context.check()?;
            let index = i32::try_from(at).map_err(|_| Error::compute("the index leaves the range of int32"))?;
            let mut args = Values::new();
            args.push(Tensor::scalar(index).into());
            args.extend(state);
            state = context.call(&body, args)?;
            at = at.checked_add(step).ok_or_else(|| Error::compute("the index overflows"))?;
        }
        Ok(state)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("PartitionedCall(args: [Tin]) -> (output: [Tout]); Tin: list(type); Tout: list(type); f: func; config: string = \"\"; config_proto: string = \"\"; executor_type: string = \"\"", call),
    Op::new("StatefulPartitionedCall(args: [Tin]) -> (output: [Tout]); Tin: list(type); Tout: list(type); f: func; config: string = \"\"; config_proto: string = \"\"; executor_type: string = \"\"; stateful", call),
    // Calls aren't gathered into batches: each is made at once.
    Op::new("BatchFunction(in_tensors: [Tin], captured_tensors: [Tcaptured]) -> (out_tensors: [Tout]); f: func; num_batch_threads: int; max_batch_size: int; batch_timeout_micros: int; max_enqueued_batches: int = 10; allowed_batch_sizes: list(int) = []; container: string = \"\"; shared_name: string = \"\"; batching_queue: string = \"\"; low_priority_max_batch_size: int = 0; low_priority_batch_timeout_micros: int = 0; low_priority_allowed_batch_sizes: list(int) = []; low_priority_max_enqueued_batches: int = 0; mixed_priority_policy: string = \"low_priority_padding_with_max_batch_size\"; batch_padding_policy: string = \"PAD_UP\"; Tin: list(type); Tcaptured: list(type); Tout: list(type); enable_large_batch_splitting: bool = false", call),
    Op::new("RemoteCall(target: string, args: [Tin]) -> (output: [Tout]); Tin: list(type); Tout: list(type); f: func; stateful", remote),
    Op::new("MapDefun(arguments: [Targuments], captured_inputs: [Tcaptured]) -> (output: [output_types]); Targuments: list(type); Tcaptured: list(type) = []; output_types: list(type); output_shapes: list(shape); f: func; max_intra_op_parallelism: int = 1", map),
    Op::new("If(cond: Tcond, input: [Tin]) -> (output: [Tout]); Tcond: type; Tin: list(type); Tout: list(type); then_branch: func; else_branch: func; output_shapes: list(shape) = []; stateful", if_else),
    Op::new("StatelessIf(cond: Tcond, input: [Tin]) -> (output: [Tout]); Tcond: type; Tin: list(type); Tout: list(type); then_branch: func; else_branch: func; output_shapes: list(shape) = []", if_else),
    Op::new("Case(branch_index: int32, input: [Tin]) -> (output: [Tout]); Tin: list(type); Tout: list(type); branches: list(func); output_shapes: list(shape) = []; stateful", case),
    Op::new("StatelessCase(branch_index: int32, input: [Tin]) -> (output: [Tout]); Tin: list(type); Tout: list(type); branches: list(func); output_shapes: list(shape) = []", case),
    Op::new("While(input: [T]) -> (output: [T]); T: list(type); cond: func; body: func; output_shapes: list(shape) = []; parallel_iterations: int = 10; stateful", while_loop),
    Op::new("StatelessWhile(input: [T]) -> (output: [T]); T: list(type); cond: func; body: func; output_shapes: list(shape) = []; parallel_iterations: int = 10", while_loop),
    Op::new("For(start: int32, limit: int32, delta: int32, input: [T]) -> (output: [T]); T: list(type); body: func", for_loop),
    Op::new("ToBool(input: T) -> (output: bool); T: type", |_| {
        Ok(kernel(|_, inputs| {
            let [x] = take(inputs)?;
            one(Tensor::from(holds(&x)?))
        }))
    }),
    Op::new("FakeParam() -> (output: dtype); dtype: type; shape: shape", |a| {
        let dtype = a.dtype("dtype")?;
        let shape = a.get("shape").and_then(Attr::as_shape).and_then(PartialShape::known).unwrap_or_else(|| [0].into_iter().collect());
        Ok(kernel(move |_, _| {
            // It stands for a value that the branch not taken would have made; nobody looks at it.
            one(Tensor::zeros(dtype, &shape)?)
        }))
    }),
];
