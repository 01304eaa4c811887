//! Batches of calls (`tf.nondifferentiable_batch_function`'s older ops): every call here is a batch of its own.

use super::args::{all_tensors, many, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::Tensor;
use crate::tensor::kernels::array;
use crate::{Error, Result};

/// The number of the only call in a batch.
const CALL: i64 = 1;

fn rows(t: &Tensor) -> Result<usize> {
    t.shape().first().copied().ok_or_else(|| Error::compute("takes tensors of rank 1 at least, got a scalar"))
}

/// The tensors as they are, which rows are of which call (call, start, end), and the call's number.
fn batch(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (most, allowed) = (a.int("max_batch_size")?, a.ints("allowed_batch_sizes")?);
    if allowed.last().is_some_and(|last| *last != most) || !allowed.is_sorted() {
        return Err(Error::graph(format!("the allowed batch sizes {allowed:?} must grow up to {most}")));
    }
    Ok(kernel(move |_, inputs| {
        let mut outputs = all_tensors(inputs)?;
        let counts = outputs.iter().map(rows).collect::<Result<Vec<_>>>()?;
        let count = counts.first().copied().unwrap_or(0);
        if counts.iter().any(|n| *n != count) {
            return Err(Error::compute(format!("tensors of {counts:?} rows make no batch")));
        }
        outputs.push(Tensor::from_vec(vec![CALL, 0, count as i64], [1, 3])?);
        outputs.push(Tensor::scalar(CALL));
        many(outputs)
    }))
}

/// The rows of `id` within a batch.
fn span(index: &Tensor, id: &Tensor, rows: usize) -> Result<Option<(usize, usize)>> {
    let [_, 3] = index.shape() else {
        return Err(Error::compute(format!("takes an index of shape [calls, 3], got {:?}", index.shape())));
    };
    let (index, id) = (index.elements::<i64>()?, id.item::<i64>()?);
    // Rows follow each other in the index's order.
    let mut at = 0usize;
    let mut found = None;
    for call in index.chunks_exact(3) {
        let &[number, start, end] = call else { continue };
        let size = end.checked_sub(start).and_then(|n| usize::try_from(n).ok());
        let to = size.and_then(|n| at.checked_add(n)).filter(|to| *to <= rows);
        let to = to.ok_or_else(|| Error::compute(format!("rows from {start} to {end} of a batch of {rows}")))?;
        if number == id {
            found = Some((at, to));
        }
        at = to;
    }
    Ok(found)
}

/// The rows of a batch that are of the call `id`.
fn unbatch(inputs: Values) -> Result<Values> {
    let [batch, index, id] = tensors(inputs)?;
    let (start, end) = span(&index, &id, rows(&batch)?)?
        .ok_or_else(|| Error::compute(format!("the batch holds no call {}", id.item::<i64>().unwrap_or_default())))?;
    let mut size = batch.shape().to_vec();
    let mut begin = vec![0; size.len()];
    if let (Some(begin), Some(size)) = (begin.first_mut(), size.first_mut()) {
        (*begin, *size) = (start, end - start);
    }
    one(array::slice(&batch, &begin, &size)?)
}

/// The gradient of a batch that holds nothing but the call whose gradient is given.
fn unbatch_gradient(inputs: Values) -> Result<Values> {
    let [batch, index, gradient, id] = tensors(inputs)?;
    let calls = index.shape().first().copied().unwrap_or(0);
    if calls != 1 || span(&index, &id, rows(&batch)?)?.is_none() {
        return Err(Error::unsupported(format!("the gradient of a batch of {calls} calls, of which one is told")));
    }
    one(gradient)
}

pub(super) const OPS: &[Op] = &[
    Op::new("Batch(in_tensors: [T]) -> (batched_tensors: [T], batch_index: int64, id: int64); num_batch_threads: int; max_batch_size: int; max_enqueued_batches: int = 10; batch_timeout_micros: int; allowed_batch_sizes: list(int) = []; grad_timeout_micros: int; container: string = \"\"; shared_name: string = \"\"; batching_queue: string = \"\"; T: list(type)", batch),
    Op::new("Unbatch(batched_tensor: T, batch_index: int64, id: int64) -> (unbatched_tensor: T); timeout_micros: int; container: string = \"\"; shared_name: string = \"\"; T: type", |_| Ok(kernel(|_, inputs| unbatch(inputs)))),
    Op::new("UnbatchGrad(original_input: T, batch_index: int64, grad: T, id: int64) -> (batched_grad: T); container: string = \"\"; shared_name: string = \"\"; T: type", |_| Ok(kernel(|_, inputs| unbatch_gradient(inputs)))),
];
