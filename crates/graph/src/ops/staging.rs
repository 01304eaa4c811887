//! Staging areas: elements that one part of a graph puts down and another takes up, in order or by a key.
//!
//! Nobody waits here: where TensorFlow would, until another thread puts something down or takes something up, the op fails.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use super::args::{int, one, take, take_first, types};
use super::queues::MOST;
use super::shared::{Named, locked};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, kernel};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// What a node says of its area.
struct Area {
    capacity: usize,
    /// How many components an element has.
    width: usize,
}

/// A kernel that works on what an area of this kind holds.
fn area<T: Any + Send + Default>(
    a: &NodeAttrs<'_>,
    kind: &'static str,
    f: fn(&mut T, Values, &Area) -> Result<Values>,
) -> Result<Box<dyn Kernel>> {
    let name = Named::read(a, kind)?;
    let capacity = usize::try_from(a.int("capacity")?).unwrap_or_default();
    let area = Area { capacity: if capacity == 0 { MOST } else { capacity }, width: types(a, "dtypes")?.len() };
    Ok(kernel(move |context, inputs| {
        let held = name.get(context, |_| Mutex::<T>::default())?.downcast::<Mutex<T>>("a staging area")?;
        let mut held = locked(&held);
        f(&mut held, inputs, &area)
    }))
}

/// Elements in the order in which they came.
type Line = VecDeque<Values>;

fn line(a: &NodeAttrs<'_>, f: fn(&mut Line, Values, &Area) -> Result<Values>) -> Result<Box<dyn Kernel>> {
    area(a, "staging area", f)
}

fn full(area: &Area) -> Error {
    Error::compute(format!("{} elements are staged, and nobody takes one away meanwhile", area.capacity))
}

fn nothing_staged() -> Error {
    Error::compute("nothing is staged, and nobody puts anything there meanwhile")
}

fn count(n: usize) -> Result<Values> {
    one(Tensor::scalar(i32::try_from(n).unwrap_or(i32::MAX)))
}

fn stage(held: &mut Line, inputs: Values, area: &Area) -> Result<Values> {
    if held.len() >= area.capacity {
        return Err(full(area));
    }
    held.push_back(inputs);
    Ok(Values::new())
}

fn peek(held: &mut Line, inputs: Values, _: &Area) -> Result<Values> {
    let [index] = take(inputs)?;
    let index = usize::try_from(int(index.tensor()?, "the index")?).ok();
    index.and_then(|i| held.get(i)).cloned().ok_or_else(nothing_staged)
}

/// Components of an element, as far as they are there.
type Parts = Vec<Option<Value>>;

/// Elements by their keys.
#[derive(Default)]
struct Keyed {
    /// Elements that were whole once; of these, components may be gone.
    staged: BTreeMap<i64, Parts>,
    /// Elements that wait for components.
    begun: BTreeMap<i64, Parts>,
}

fn keyed(a: &NodeAttrs<'_>, ordered: bool, f: fn(&mut Keyed, Values, &Area) -> Result<Values>) -> Result<Box<dyn Kernel>> {
    area(a, if ordered { "ordered staging map" } else { "staging map" }, f)
}

/// Which components are meant.
fn places(indices: &Value, width: Option<usize>) -> Result<Vec<usize>> {
    let given = indices.tensor()?.to_i64_vec()?;
    let most = width.unwrap_or(usize::MAX);
    let places: Option<Vec<usize>> = given.iter().map(|i| usize::try_from(*i).ok().filter(|i| *i < most)).collect();
    let places = places.filter(|p| p.is_sorted_by(|a, b| a < b));
    places.ok_or_else(|| Error::compute(format!("indices must rise strictly and stay below {most}, got {given:?}")))
}

fn put(held: &mut Keyed, inputs: Values, area: &Area) -> Result<Values> {
    let mut values = inputs.into_vec();
    let [key, indices] = take_first(&mut values)?;
    let (key, indices) = (int(key.tensor()?, "the key")?, places(&indices, Some(area.width))?);
    if indices.len() != values.len() {
        return Err(Error::compute(format!("{} indices for {} components", indices.len(), values.len())));
    }
    if held.staged.len() >= area.capacity {
        return Err(full(area));
    }
    let mut parts = held.begun.get(&key).cloned().unwrap_or_else(|| vec![None; area.width]);
    for (index, value) in indices.into_iter().zip(values) {
        match parts.get_mut(index) {
            Some(place @ None) => *place = Some(value),
            _ => return Err(Error::compute(format!("component {index} of key {key} is there already"))),
        }
    }
    if parts.iter().all(Option::is_some) {
        held.begun.remove(&key);
        held.staged.entry(key).or_insert(parts);
    } else {
        held.begun.insert(key, parts);
    }
    Ok(Values::new())
}

/// These components of the element with this key, which are taken away or stay.
fn get(held: &mut Keyed, key: i64, indices: &Value, stay: bool) -> Result<Vec<Value>> {
    let parts = held.staged.get_mut(&key).ok_or_else(|| {
        Error::compute(format!("nothing whole is staged for key {key}, and nobody puts anything there meanwhile"))
    })?;
    let indices = places(indices, Some(parts.len()))?;
    let gone = |i: &usize| Error::compute(format!("component {i} of key {key} was taken away before"));
    let found: Vec<Value> =
        indices.iter().map(|i| parts.get(*i).cloned().flatten().ok_or_else(|| gone(i))).collect::<Result<_>>()?;
    if !stay {
        parts.iter_mut().enumerate().filter(|(i, _)| indices.contains(i)).for_each(|(_, part)| *part = None);
        if parts.iter().all(Option::is_none) {
            held.staged.remove(&key);
        }
    }
    Ok(found)
}

fn by_key(held: &mut Keyed, inputs: Values, stay: bool) -> Result<Values> {
    let [key, indices] = take(inputs)?;
    let key = int(key.tensor()?, "the key")?;
    Ok(get(held, key, &indices, stay)?.into_iter().collect())
}

/// The element with the least key, and that key.
fn pop(held: &mut Keyed, inputs: Values, _: &Area) -> Result<Values> {
    let [indices] = take(inputs)?;
    let key = *held.staged.keys().next().ok_or_else(nothing_staged)?;
    let found = get(held, key, &indices, false)?;
    Ok(std::iter::once(Tensor::scalar(key).into()).chain(found).collect())
}

fn clear(held: &mut Keyed, _: Values, _: &Area) -> Result<Values> {
    *held = Keyed::default();
    Ok(Values::new())
}

pub(super) const OPS: &[Op] = &[
    Op::new("MapClear() -> (); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, false, clear)),
    Op::new("MapIncompleteSize() -> (size: int32); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, false, |held, _, _| count(held.begun.len()))),
    Op::new("MapPeek(key: int64, indices: int32) -> (values: [dtypes]); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, false, |held, inputs, _| by_key(held, inputs, true))),
    Op::new("MapSize() -> (size: int32); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, false, |held, _, _| count(held.staged.len()))),
    Op::new("MapStage(key: int64, indices: int32, values: [fake_dtypes]) -> (); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); fake_dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, false, put)),
    Op::new("MapUnstage(key: int64, indices: int32) -> (values: [dtypes]); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, false, |held, inputs, _| by_key(held, inputs, false))),
    Op::new("MapUnstageNoKey(indices: int32) -> (key: int64, values: [dtypes]); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, false, pop)),
    Op::new("OrderedMapClear() -> (); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, true, clear)),
    Op::new("OrderedMapIncompleteSize() -> (size: int32); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, true, |held, _, _| count(held.begun.len()))),
    Op::new("OrderedMapPeek(key: int64, indices: int32) -> (values: [dtypes]); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, true, |held, inputs, _| by_key(held, inputs, true))),
    Op::new("OrderedMapSize() -> (size: int32); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, true, |held, _, _| count(held.staged.len()))),
    Op::new("OrderedMapStage(key: int64, indices: int32, values: [fake_dtypes]) -> (); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); fake_dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, true, put)),
    Op::new("OrderedMapUnstage(key: int64, indices: int32) -> (values: [dtypes]); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, true, |held, inputs, _| by_key(held, inputs, false))),
    Op::new("OrderedMapUnstageNoKey(indices: int32) -> (key: int64, values: [dtypes]); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| keyed(a, true, pop)),
    Op::new("Stage(values: [dtypes]) -> (); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| line(a, stage)),
    Op::new("StageClear() -> (); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| line(a, |held, _, _| { held.clear(); Ok(Values::new()) })),
    Op::new("StagePeek(index: int32) -> (values: [dtypes]); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| line(a, peek)),
    Op::new("StageSize() -> (size: int32); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| line(a, |held, _, _| count(held.len()))),
    Op::new("Unstage() -> (values: [dtypes]); capacity: int = 0; memory_limit: int = 0; dtypes: list(type); container: string = \"\"; shared_name: string = \"\"; stateful", |a| line(a, |held, _, _| held.pop_front().ok_or_else(nothing_staged))),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn number(v: i64) -> Value {
        Tensor::scalar(v).into()
    }

    fn indices(v: &[i32]) -> Value {
        Tensor::from_slice(v, [v.len()]).expect("tensor").into()
    }

    fn staged(held: &mut Keyed, key: i64, at: &[i32], values: &[i64]) -> Result<Values> {
        let values = [number(key), indices(at)].into_iter().chain(values.iter().map(|v| number(*v)));
        put(held, values.collect(), &Area { capacity: 2, width: 2 })
    }

    #[test]
    fn components_come_and_go_one_by_one() {
        let mut held = Keyed::default();
        staged(&mut held, 7, &[1], &[71]).expect("the second component");
        assert_eq!((held.begun.len(), held.staged.len()), (1, 0));
        assert!(staged(&mut held, 7, &[1], &[72]).is_err(), "it is there");
        staged(&mut held, 7, &[0], &[70]).expect("the first");
        staged(&mut held, 3, &[0, 1], &[30, 31]).expect("both");
        assert!(staged(&mut held, 9, &[0], &[90]).is_err(), "no room");
        let of = |values: &[Value]| -> Vec<i64> {
            values.iter().map(|v| v.tensor().and_then(|t| Ok(t.item::<i64>()?)).expect("a number")).collect()
        };
        assert_eq!(of(&get(&mut held, 7, &indices(&[0, 1]), true).expect("whole")), [70, 71]);
        assert_eq!(of(&get(&mut held, 7, &indices(&[1]), false).expect("there")), [71]);
        assert!(get(&mut held, 7, &indices(&[1]), true).is_err(), "gone");
        let least = pop(&mut held, [indices(&[0, 1])].into_iter().collect(), &Area { capacity: 2, width: 2 });
        assert_eq!(of(&least.expect("the least")), [3, 30, 31]);
        assert_eq!(of(&get(&mut held, 7, &indices(&[0]), false).expect("the rest")), [70]);
        assert!(held.staged.is_empty());
    }

    #[test]
    fn indices_rise() {
        for wrong in [&[1, 0][..], &[0, 0], &[2], &[-1]] {
            assert!(places(&indices(wrong), Some(2)).is_err(), "{wrong:?}");
        }
    }
}
