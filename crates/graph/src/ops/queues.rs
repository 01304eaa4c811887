//! Queues, which runs of one model share.
//!
//! Nobody waits here: where TensorFlow would, until another thread puts something in or takes something out, the op fails.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::args::{int, one, take, take_first, types};
use super::random::entropy;
use super::shared::{Named, held, locked};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, kernel};
use crate::tensor::kernels::array;
use crate::tensor::kernels::random::{Philox, Words};
use crate::tensor::{Bool, DType, PartialShape, Tensor};
use crate::{Attr, Error, Result};

/// More elements than this are no queue's, only an attack's.
pub(super) const MOST: usize = 1 << 24;

/// In what order elements leave.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    First,
    /// As [`Order::First`]; where many leave at once, the smaller are filled up with zeros.
    Padded,
    /// By the first component, the least first.
    Priority,
    /// By chance, of more than so many, as long as the queue isn't closed.
    Random(usize),
}

#[derive(Debug)]
struct State {
    items: VecDeque<Vec<Tensor>>,
    words: Words,
    closed: bool,
}

/// Elements of several tensors each.
#[derive(Debug)]
struct Queue {
    name: String,
    dtypes: Vec<DType>,
    shapes: Vec<PartialShape>,
    capacity: usize,
    order: Order,
    state: Mutex<State>,
}

impl Queue {
    fn of(handle: &Value) -> Result<Arc<Queue>> {
        held(handle, "a queue")
    }

    /// Puts elements in, all or none.
    fn put(&self, elements: Vec<Vec<Tensor>>) -> Result<()> {
        for element in &elements {
            if element.len() != self.dtypes.len() {
                let (got, want) = (element.len(), self.dtypes.len());
                return Err(Error::compute(format!("queue {:?} takes {want} components, not {got}", self.name)));
            }
            for (i, (t, dtype)) in element.iter().zip(&self.dtypes).enumerate() {
                if t.dtype() != *dtype || self.shapes.get(i).is_some_and(|s| !s.matches(t.shape())) {
                    return Err(Error::compute(format!(
                        "component {i} of queue {:?} is {dtype} {}, not {} {:?}",
                        self.name,
                        self.shapes.get(i).unwrap_or(&PartialShape::UNKNOWN),
                        t.dtype(),
                        t.shape()
                    )));
                }
            }
        }
        let mut state = locked(&self.state);
        if state.closed {
            return Err(Error::compute(format!("queue {:?} is closed", self.name)));
        }
        if state.items.len().saturating_add(elements.len()) > self.capacity {
            return Err(Error::compute(format!(
                "queue {:?} has room for {}, and nobody takes anything out meanwhile",
                self.name, self.capacity
            )));
        }
        for element in elements {
            let at = match self.order {
                Order::Priority => {
                    let rank = |e: &Vec<Tensor>| Reverse(e.first().and_then(|t| t.item::<i64>().ok()));
                    let new = rank(&element);
                    state.items.iter().position(|e| rank(e) < new).unwrap_or(state.items.len())
                }
                _ => state.items.len(),
            };
            state.items.insert(at, element);
        }
        Ok(())
    }

    /// Takes `n` elements out, or as many as there are where the queue is closed and fewer will do.
    fn get(&self, n: usize, fewer: bool) -> Result<Vec<Vec<Tensor>>> {
        let mut state = locked(&self.state);
        let there = state.items.len();
        let stays = match self.order {
            Order::Random(least) if !state.closed => least,
            _ => 0,
        };
        let n = if fewer && state.closed && there > 0 { n.min(there) } else { n };
        if n.saturating_add(stays) > there {
            let why = if state.closed { "is closed" } else { "would be waited for, and nobody fills it meanwhile" };
            return Err(Error::compute(format!("queue {:?} has {there} elements, not {n}; it {why}", self.name)));
        }
        let mut out = Vec::with_capacity(n);
        for _ in 0..n {
            let at = match self.order {
                Order::Random(_) => state.words.word() as usize % state.items.len().max(1),
                _ => 0,
            };
            out.extend(state.items.remove(at));
        }
        Ok(out)
    }

    /// Elements as one tensor for each component.
    fn joined(&self, elements: &[Vec<Tensor>]) -> Result<Values> {
        let mut out = Values::new();
        for (i, dtype) in self.dtypes.iter().enumerate() {
            let mut parts: Vec<Tensor> = elements.iter().filter_map(|e| e.get(i).cloned()).collect();
            if parts.is_empty() {
                let known = self.shapes.get(i).and_then(PartialShape::dims).unwrap_or_default();
                let shape = std::iter::once(0).chain(known.iter().map(|d| d.unwrap_or(0)));
                out.push(Tensor::zeros(*dtype, shape.collect::<Vec<_>>())?.into());
                continue;
            }
            if self.order == Order::Padded {
                let rank = parts.iter().map(Tensor::rank).max().unwrap_or_default();
                let longest = |axis: usize| parts.iter().filter_map(|p| p.shape().get(axis).copied()).max();
                let shape: Vec<usize> = (0..rank).map(|axis| longest(axis).unwrap_or_default()).collect();
                let filler = Tensor::zeros(*dtype, [])?;
                for part in parts.iter_mut().filter(|p| p.rank() == rank) {
                    let by: Vec<(usize, usize)> =
                        part.shape().iter().zip(&shape).map(|(have, want)| (0, want - have)).collect();
                    *part = array::pad(part, &by, &filler)?;
                }
            }
            out.push(array::stack(&parts.iter().collect::<Vec<_>>(), 0)?.into());
        }
        Ok(out)
    }
}

/// The queue that goes by the node's name, or the one that it shares.
fn queue(a: &NodeAttrs<'_>, order: Order) -> Result<Box<dyn Kernel>> {
    let mut dtypes = types(a, "component_types")?;
    let list = a.get("shapes").and_then(Attr::as_list).unwrap_or_default();
    let shapes: Option<Vec<PartialShape>> = list.iter().map(|s| s.as_shape().cloned()).collect();
    let mut shapes = shapes.ok_or_else(|| Error::graph("attribute \"shapes\" must list shapes"))?;
    if order == Order::Priority {
        dtypes.insert(0, DType::I64);
        shapes.insert(0, PartialShape::scalar());
    }
    let capacity = usize::try_from(a.int("capacity")?).unwrap_or(MOST).min(MOST);
    let name = Named::read(a, "queue")?;
    let seeds = match a.get("seed") {
        Some(_) => (a.int("seed")? as u64, a.int("seed2")? as u64),
        None => (0, 0),
    };
    Ok(kernel(move |context, _| {
        one(name.get(context, |name| {
            let seeds = if seeds == (0, 0) { (entropy(), entropy()) } else { seeds };
            let words = Words::new(Philox::from_seeds(seeds.0, seeds.1));
            Queue {
                name: name.to_owned(),
                dtypes: dtypes.clone(),
                shapes: shapes.clone(),
                capacity,
                order,
                state: Mutex::new(State { items: VecDeque::new(), words, closed: false }),
            }
        })?)
    }))
}

fn random(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let least = usize::try_from(a.int("min_after_dequeue")?);
    queue(a, Order::Random(least.map_err(|_| Error::graph("min_after_dequeue is negative"))?))
}

fn tensors_of(values: Vec<Value>) -> Result<Vec<Tensor>> {
    values.into_iter().map(Value::into_tensor).collect()
}

fn enqueue(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let mut inputs = inputs.into_vec();
        let [handle] = take_first(&mut inputs)?;
        Queue::of(&handle)?.put(vec![tensors_of(inputs)?])?;
        Ok(Values::new())
    }))
}

/// Puts the slices of tensors in, one element each.
fn enqueue_many(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let mut inputs = inputs.into_vec();
        let [handle] = take_first(&mut inputs)?;
        let components = tensors_of(inputs)?;
        let count = components.first().and_then(|t| t.shape().first().copied());
        let count = count.filter(|n| components.iter().all(|t| t.shape().first() == Some(n)));
        let count = count.ok_or_else(|| Error::compute("the components aren't as many slices each"))?;
        let mut elements: Vec<Vec<Tensor>> = (0..count).map(|_| Vec::with_capacity(components.len())).collect();
        for t in &components {
            for (element, slice) in elements.iter_mut().zip(array::unstack(t, 0)?) {
                element.push(slice);
            }
        }
        Queue::of(&handle)?.put(elements)?;
        Ok(Values::new())
    }))
}

fn dequeue(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle] = take(inputs)?;
        let elements = Queue::of(&handle)?.get(1, false)?;
        Ok(elements.into_iter().flatten().map(Value::from).collect())
    }))
}

fn dequeue_many(fewer: bool) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [handle, n] = take(inputs)?;
        let n = int(n.tensor()?, "the number of elements")?;
        let n = usize::try_from(n).map_err(|_| Error::compute(format!("{n} elements")))?;
        let queue = Queue::of(&handle)?;
        if queue.order != Order::Padded && queue.shapes.len() != queue.dtypes.len() {
            return Err(Error::compute(format!(
                "many elements of queue {:?} go together only where it has shapes",
                queue.name
            )));
        }
        let elements = queue.get(n, fewer)?;
        queue.joined(&elements)
    }))
}

/// A kernel that asks or changes the queue's state.
fn about(f: fn(&mut State) -> Option<Tensor>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [handle] = take(inputs)?;
        let found = f(&mut locked(&Queue::of(&handle)?.state));
        Ok(found.into_iter().map(Value::from).collect())
    }))
}

fn close(state: &mut State) -> Option<Tensor> {
    state.closed = true;
    None
}

fn size(state: &mut State) -> Option<Tensor> {
    Some(Tensor::scalar(i32::try_from(state.items.len()).unwrap_or(i32::MAX)))
}

fn is_closed(state: &mut State) -> Option<Tensor> {
    Some(Tensor::scalar(Bool::from(state.closed)))
}

pub(super) const OPS: &[Op] = &[
    Op::new("FIFOQueue() -> (handle: &string); component_types: list(type); shapes: list(shape) = []; capacity: int = -1; container: string = \"\"; shared_name: string = \"\"; stateful", |a| queue(a, Order::First)),
    Op::new("FIFOQueueV2() -> (handle: resource); component_types: list(type); shapes: list(shape) = []; capacity: int = -1; container: string = \"\"; shared_name: string = \"\"; stateful", |a| queue(a, Order::First)),
    Op::new("PaddingFIFOQueue() -> (handle: &string); component_types: list(type); shapes: list(shape) = []; capacity: int = -1; container: string = \"\"; shared_name: string = \"\"; stateful", |a| queue(a, Order::Padded)),
    Op::new("PaddingFIFOQueueV2() -> (handle: resource); component_types: list(type); shapes: list(shape) = []; capacity: int = -1; container: string = \"\"; shared_name: string = \"\"; stateful", |a| queue(a, Order::Padded)),
    Op::new("PriorityQueue() -> (handle: &string); component_types: list(type) = []; shapes: list(shape); capacity: int = -1; container: string = \"\"; shared_name: string = \"\"; stateful", |a| queue(a, Order::Priority)),
    Op::new("PriorityQueueV2() -> (handle: resource); component_types: list(type) = []; shapes: list(shape); capacity: int = -1; container: string = \"\"; shared_name: string = \"\"; stateful", |a| queue(a, Order::Priority)),
    Op::new("QueueClose(handle: &string) -> (); cancel_pending_enqueues: bool = false", |_| about(close)),
    Op::new("QueueCloseV2(handle: resource) -> (); cancel_pending_enqueues: bool = false; stateful", |_| about(close)),
    Op::new("QueueDequeue(handle: &string) -> (components: [component_types]); component_types: list(type); timeout_ms: int = -1", dequeue),
    Op::new("QueueDequeueMany(handle: &string, n: int32) -> (components: [component_types]); component_types: list(type); timeout_ms: int = -1", |_| dequeue_many(false)),
    Op::new("QueueDequeueManyV2(handle: resource, n: int32) -> (components: [component_types]); component_types: list(type); timeout_ms: int = -1; stateful", |_| dequeue_many(false)),
    Op::new("QueueDequeueUpTo(handle: &string, n: int32) -> (components: [component_types]); component_types: list(type); timeout_ms: int = -1", |_| dequeue_many(true)),
    Op::new("QueueDequeueUpToV2(handle: resource, n: int32) -> (components: [component_types]); component_types: list(type); timeout_ms: int = -1; stateful", |_| dequeue_many(true)),
    Op::new("QueueDequeueV2(handle: resource) -> (components: [component_types]); component_types: list(type); timeout_ms: int = -1; stateful", dequeue),
    Op::new("QueueEnqueue(handle: &string, components: [Tcomponents]) -> (); Tcomponents: list(type); timeout_ms: int = -1", enqueue),
    Op::new("QueueEnqueueMany(handle: &string, components: [Tcomponents]) -> (); Tcomponents: list(type); timeout_ms: int = -1", enqueue_many),
    Op::new("QueueEnqueueManyV2(handle: resource, components: [Tcomponents]) -> (); Tcomponents: list(type); timeout_ms: int = -1; stateful", enqueue_many),
    Op::new("QueueEnqueueV2(handle: resource, components: [Tcomponents]) -> (); Tcomponents: list(type); timeout_ms: int = -1; stateful", enqueue),
    Op::new("QueueIsClosed(handle: &string) -> (is_closed: bool)", |_| about(is_closed)),
    Op::new("QueueIsClosedV2(handle: resource) -> (is_closed: bool); stateful", |_| about(is_closed)),
    Op::new("QueueSize(handle: &string) -> (size: int32)", |_| about(size)),
    Op::new("QueueSizeV2(handle: resource) -> (size: int32); stateful", |_| about(size)),
    Op::new("RandomShuffleQueue() -> (handle: &string); component_types: list(type); shapes: list(shape) = []; capacity: int = -1; min_after_dequeue: int = 0; seed: int = 0; seed2: int = 0; container: string = \"\"; shared_name: string = \"\"; stateful", random),
    Op::new("RandomShuffleQueueV2() -> (handle: resource); component_types: list(type); shapes: list(shape) = []; capacity: int = -1; min_after_dequeue: int = 0; seed: int = 0; seed2: int = 0; container: string = \"\"; shared_name: string = \"\"; stateful", random),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn made(order: Order, capacity: usize) -> Queue {
        Queue {
            name: "q".to_owned(),
            dtypes: vec![DType::I64],
            shapes: vec![PartialShape::UNKNOWN],
            capacity,
            order,
            state: Mutex::new(State {
                items: VecDeque::new(),
                words: Words::new(Philox::from_seeds(1, 2)),
                closed: false,
            }),
        }
    }

    fn numbers(elements: &[Vec<Tensor>]) -> Vec<i64> {
        elements.iter().map(|e| e[0].item::<i64>().expect("a number")).collect()
    }

    fn elements(values: &[i64]) -> Vec<Vec<Tensor>> {
        values.iter().map(|v| vec![Tensor::scalar(*v)]).collect()
    }

    #[test]
    fn elements_leave_in_the_queues_order() {
        for (order, want) in [(Order::First, [3, 1, 2]), (Order::Priority, [1, 2, 3])] {
            let q = made(order, 9);
            q.put(elements(&[3, 1, 2])).expect("room");
            assert_eq!(numbers(&q.get(3, false).expect("elements")), want);
        }
        let q = made(Order::Random(2), 99);
        q.put(elements(&(0..50).collect::<Vec<_>>())).expect("room");
        let mut got = numbers(&q.get(48, false).expect("elements"));
        assert!(q.get(1, false).is_err(), "two must stay");
        close(&mut locked(&q.state));
        got.extend(numbers(&q.get(2, false).expect("the rest")));
        assert_ne!(got, (0..50).collect::<Vec<_>>());
        got.sort_unstable();
        assert_eq!(got, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn nobody_waits() {
        let q = made(Order::First, 2);
        assert!(q.get(1, true).is_err() && q.put(elements(&[1, 2, 3])).is_err());
        q.put(elements(&[1, 2])).expect("room");
        assert!(q.put(elements(&[3])).is_err() && q.get(3, true).is_err());
        assert!(q.put(vec![vec![Tensor::scalar(1.0f32)]]).is_err() && q.put(vec![Vec::new()]).is_err());
        close(&mut locked(&q.state));
        assert!(q.put(elements(&[3])).is_err() && q.get(3, false).is_err());
        assert_eq!(numbers(&q.get(3, true).expect("fewer")), [1, 2]);
        assert!(q.get(1, true).is_err());
    }

    #[test]
    fn smaller_elements_are_filled_up() {
        let q = made(Order::Padded, 9);
        let list = |v: &[i64]| vec![Tensor::from_slice(v, [v.len()]).expect("list")];
        q.put(vec![list(&[1]), list(&[2, 3])]).expect("room");
        let out = q.joined(&q.get(2, false).expect("elements")).expect("one tensor");
        assert_eq!(out[0].tensor().expect("tensor").to_i64_vec().expect("ints"), [1, 0, 2, 3]);
    }
}
