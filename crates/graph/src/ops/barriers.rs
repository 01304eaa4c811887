//! Barriers: elements whose components come one by one, under a key, and that leave when they are whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use super::args::{int, one, take, types};
use super::shared::{Named, held, locked};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{ByteString, DType, PartialShape, Tensor};
use crate::{Attr, Error, Result};

#[derive(Debug, Default)]
struct State {
    /// Elements that lack components, and when each began.
    begun: HashMap<ByteString, (i64, Vec<Option<Tensor>>)>,
    /// Whole elements, in the order in which they began.
    ready: BTreeMap<i64, (ByteString, Vec<Tensor>)>,
    /// How many elements ever began.
    count: i64,
    closed: bool,
    cancelled: bool,
}

#[derive(Debug)]
struct Barrier {
    name: String,
    dtypes: Vec<DType>,
    shapes: Vec<PartialShape>,
    state: Mutex<State>,
}

impl Barrier {
    fn put(&self, keys: &[ByteString], values: &Tensor, component: usize) -> Result<()> {
        let name = &self.name;
        let Some(dtype) = self.dtypes.get(component) else {
            let count = self.dtypes.len();
            return Err(Error::compute(format!("barrier {name:?} has {count} components, not one at {component}")));
        };
        let (&[n, ref rest @ ..], true) = (values.shape(), values.dtype() == *dtype) else {
            return Err(Error::compute(format!(
                "component {component} of barrier {name:?} is {dtype}, not {} {:?}",
                values.dtype(),
                values.shape()
            )));
        };
        if n != keys.len() || self.shapes.get(component).is_some_and(|s| !s.matches(rest)) {
            return Err(Error::compute(format!(
                "{} keys of barrier {name:?} for values of shape {:?}",
                keys.len(),
                values.shape()
            )));
        }
        let mut state = locked(&self.state);
        let state = &mut *state;
        if state.cancelled {
            return Err(Error::compute(format!("barrier {name:?} is closed")));
        }
        for (key, value) in keys.iter().zip(array::unstack(values, 0)?) {
            let shown = || String::from_utf8_lossy(key).into_owned();
            if !state.begun.contains_key(key) {
                if state.closed {
                    return Err(Error::compute(format!("barrier {name:?} is closed, and {:?} is a new key", shown())));
                }
                state.begun.insert(key.clone(), (i64::MIN.saturating_add(state.count), vec![None; self.dtypes.len()]));
                state.count += 1;
            }
            let Some((_, parts)) = state.begun.get_mut(key) else { continue };
            let Some(place) = parts.get_mut(component).filter(|p| p.is_none()) else {
                return Err(Error::compute(format!(
                    "key {:?} has a value for component {component} of barrier {name:?} already",
                    shown()
                )));
            };
            *place = Some(value);
            if parts.iter().all(Option::is_some)
                && let Some((at, parts)) = state.begun.remove(key)
            {
                state.ready.insert(at, (key.clone(), parts.into_iter().flatten().collect()));
            }
        }
        Ok(())
    }

    /// Takes the `n` elements out that began first, or as many as there are where the barrier is closed and fewer will do.
    fn get(&self, n: usize, fewer: bool) -> Result<Values> {
        let taken: Vec<(i64, (ByteString, Vec<Tensor>))> = {
            let mut state = locked(&self.state);
            let there = state.ready.len();
            let n = if fewer && state.closed && there > 0 { n.min(there) } else { n };
            if n > there {
                let why = if state.closed { "is closed" } else { "would be waited for, and nobody fills it meanwhile" };
                return Err(Error::compute(format!(
                    "barrier {:?} has {there} whole elements, not {n}; it {why}",
                    self.name
                )));
            }
            (0..n).filter_map(|_| state.ready.pop_first()).collect()
        };
        let count = taken.len();
        let places = Tensor::from_vec(taken.iter().map(|(at, _)| *at).collect(), [count])?;
        let keys = Tensor::from_strings(taken.iter().map(|(_, (key, _))| key.clone()).collect::<Vec<_>>(), [count])?;
        let mut out: Values = [places.into(), keys.into()].into_iter().collect();
        for (i, dtype) in self.dtypes.iter().enumerate() {
            let parts: Vec<&Tensor> = taken.iter().filter_map(|(_, (_, parts))| parts.get(i)).collect();
            if parts.is_empty() {
                let known = self.shapes.get(i).and_then(PartialShape::dims).unwrap_or_default();
                let shape = std::iter::once(0).chain(known.iter().map(|d| d.unwrap_or(0)));
                out.push(Tensor::zeros(*dtype, shape.collect::<Vec<_>>())?.into());
            } else {
                out.push(array::stack(&parts, 0)?.into());
            }
        }
        Ok(out)
    }
}

fn barrier(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtypes = types(a, "component_types")?;
    let list = a.get("shapes").and_then(Attr::as_list).unwrap_or_default();
    let shapes: Option<Vec<PartialShape>> = list.iter().map(|s| s.as_shape().cloned()).collect();
    let shapes = shapes.ok_or_else(|| Error::graph("attribute \"shapes\" must list shapes"))?;
    let name = Named::read(a, "barrier")?;
    Ok(kernel(move |context, _| {
        one(name.get(context, |name| Barrier {
            name: name.to_owned(),
            dtypes: dtypes.clone(),
            shapes: shapes.clone(),
            state: Mutex::default(),
        })?)
    }))
}

fn of(handle: &Value) -> Result<std::sync::Arc<Barrier>> {
    held(handle, "a barrier")
}

fn insert_many(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let component = a.int("component_index")?;
    let component = usize::try_from(component).map_err(|_| Error::graph(format!("component_index is {component}")))?;
    Ok(kernel(move |_, inputs| {
        let [handle, keys, values] = take(inputs)?;
        let keys = keys.into_tensor()?;
        if keys.rank() != 1 {
            return Err(Error::compute(format!("keys must have rank 1, got shape {:?}", keys.shape())));
        }
        of(&handle)?.put(keys.strings()?, values.tensor()?, component)?;
        Ok(Values::new())
    }))
}

fn take_many(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let fewer = a.bool("allow_small_batch")?;
    Ok(kernel(move |_, inputs| {
        let [handle, n] = take(inputs)?;
        let n = int(n.tensor()?, "the number of elements")?;
        let n = usize::try_from(n).map_err(|_| Error::compute(format!("{n} elements")))?;
        of(&handle)?.get(n, fewer)
    }))
}

fn close(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let cancel = a.bool("cancel_pending_enqueues")?;
    Ok(kernel(move |_, inputs| {
        let [handle] = take(inputs)?;
        let barrier = of(&handle)?;
        let mut state = locked(&barrier.state);
        state.closed = true;
        state.cancelled |= cancel;
        Ok(Values::new())
    }))
}

fn size(f: fn(&State) -> usize) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [handle] = take(inputs)?;
        let n = f(&locked(&of(&handle)?.state));
        one(Tensor::scalar(i32::try_from(n).unwrap_or(i32::MAX)))
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Barrier() -> (handle: &string); component_types: list(type); shapes: list(shape) = []; capacity: int = -1; container: string = \"\"; shared_name: string = \"\"; stateful", barrier),
    Op::new("BarrierClose(handle: &string) -> (); cancel_pending_enqueues: bool = false", close),
    Op::new("BarrierIncompleteSize(handle: &string) -> (size: int32)", |_| size(|s| s.begun.len())),
    Op::new("BarrierInsertMany(handle: &string, keys: string, values: T) -> (); T: type; component_index: int", insert_many),
    Op::new("BarrierReadySize(handle: &string) -> (size: int32)", |_| size(|s| s.ready.len())),
    Op::new("BarrierTakeMany(handle: &string, num_elements: int32) -> (indices: int64, keys: string, values: [component_types]); component_types: list(type); allow_small_batch: bool = false; wait_for_incomplete: bool = false; timeout_ms: int = -1", take_many),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_leave_when_they_are_whole() {
        let barrier = Barrier {
            name: "b".to_owned(),
            dtypes: vec![DType::I64, DType::F32],
            shapes: vec![PartialShape::scalar(), PartialShape::new([Some(2)])],
            state: Mutex::default(),
        };
        let keys = |k: &[&str]| k.iter().map(|k| ByteString::from(k.as_bytes())).collect::<Vec<_>>();
        let longs = |v: &[i64]| Tensor::from_slice(v, [v.len()]).expect("tensor");
        let rows = |n: usize| Tensor::from_vec((0..2 * n).map(|v| v as f32).collect(), [n, 2]).expect("tensor");
        barrier.put(&keys(&["a", "b", "c"]), &longs(&[1, 2, 3]), 0).expect("new keys");
        barrier.put(&keys(&["c", "a"]), &rows(2), 1).expect("their rest");
        assert!(barrier.put(&keys(&["b"]), &longs(&[4]), 0).is_err(), "it has that component");
        assert!(barrier.put(&keys(&["b"]), &longs(&[4]), 1).is_err(), "another dtype");
        assert!(barrier.put(&keys(&["b"]), &longs(&[4]), 2).is_err(), "no such component");
        assert!(barrier.get(3, true).is_err(), "it would be waited for");
        let out = barrier.get(2, false).expect("two are whole");
        let numbers = |i: usize| out[i].tensor().expect("tensor").to_i64_vec().expect("ints");
        assert_eq!((numbers(0), numbers(2)), (vec![i64::MIN, i64::MIN + 2], vec![1, 3]));
        assert_eq!(out[3].tensor().expect("tensor").as_slice::<f32>().expect("f32"), [2.0, 3.0, 0.0, 1.0]);
        locked(&barrier.state).closed = true;
        assert!(barrier.put(&keys(&["d"]), &longs(&[4]), 0).is_err(), "closed for new keys");
        barrier.put(&keys(&["b"]), &rows(1), 1).expect("open for the others");
        assert_eq!(barrier.get(5, true).expect("fewer")[0].tensor().expect("tensor").shape(), [1]);
    }
}
