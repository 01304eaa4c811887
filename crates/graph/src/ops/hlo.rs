//! Ops of our own, which StableHLO modules become where no op of TensorFlow's says what an operation means.
//!
//! They stand in no graph that is saved: a module is lowered when it is called.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::args::{all_tensors, binary, extents, many, map1, one, tensors, unary};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, kernel};
use crate::tensor::kernels::random::{Philox, ThreeFry};
use crate::tensor::kernels::{array, elementwise as e};
use crate::tensor::{self, DType, Shape, Tensor, checked_elements};
use crate::{Error, Result};

/// `ModelarkHloPad`: elements put apart, and a border that may be negative.
fn pad(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (low, high, interior) = (a.ints("low")?, a.ints("high")?, a.ints("interior")?);
    Ok(kernel(move |_, inputs| {
        let [x, value] = tensors(inputs)?;
        let rank = x.rank();
        if [low.len(), high.len(), interior.len()].iter().any(|n| *n != rank) {
            return Err(Error::graph(format!("the padding doesn't have {rank} dimensions")));
        }
        let wrong = || Error::compute(format!("the padding doesn't fit shape {:?}", x.shape()));
        // What is left of the elements, where the first of them goes, and the whole.
        let (mut from, mut size, mut at, mut steps, mut shape) =
            (Shape::new(), Shape::new(), Vec::new(), Vec::new(), Shape::new());
        for d in 0..rank {
            let n = i64::try_from(x.shape()[d]).map_err(|_| wrong())?;
            let step = interior[d].checked_add(1).filter(|s| *s > 0).ok_or_else(wrong)?;
            let long = step.checked_mul((n - 1).max(0)).and_then(|v| v.checked_add(n.min(1))).ok_or_else(wrong)?;
            let whole = long.checked_add(low[d]).and_then(|v| v.checked_add(high[d])).filter(|v| *v >= 0);
            let whole = whole.ok_or_else(wrong)?;
            let cut = i128::from(low[d]).min(0).abs();
            let skipped = ((cut + i128::from(step) - 1) / i128::from(step)).min(n.into()) as i64;
            let first = low[d] + skipped * step;
            let room = if whole > first { (whole - first - 1) / step + 1 } else { 0 };
            from.push(skipped as usize);
            size.push(room.min(n - skipped) as usize);
            at.push(first);
            steps.push(step);
            shape.push(whole as usize);
        }
        let whole = array::fill(&shape, &value)?;
        if size.contains(&0) || whole.is_empty() {
            return one(whole);
        }
        one(array::strided_put(&whole, &at, &steps, &array::slice(&x, &from, &size)?)?)
    }))
}

/// Where a slice begins, moved so that it lies inside.
fn inside(starts: &Tensor, shape: &[usize], size: &[usize]) -> Result<Vec<usize>> {
    let starts = starts.to_i64_vec()?;
    if starts.len() != shape.len() || size.len() != shape.len() {
        return Err(Error::compute(format!("{} indices for shape {shape:?}", starts.len())));
    }
    starts
        .iter()
        .zip(shape.iter().zip(size))
        .map(|(s, (n, k))| {
            let most = n.checked_sub(*k).ok_or_else(|| Error::compute(format!("a slice of {size:?} of shape {shape:?}")))?;
            Ok(usize::try_from(*s).unwrap_or(0).min(most))
        })
        .collect()
}

fn slice() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, starts, size] = tensors(inputs)?;
        let size = extents(&size, "the slice's shape")?;
        one(array::slice(&x, &inside(&starts, x.shape(), &size)?, &size)?)
    }))
}

fn update_slice() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, update, starts] = tensors(inputs)?;
        let begin = inside(&starts, x.shape(), update.shape())?;
        one(array::put_slice(x, &begin, &update)?)
    }))
}

fn reduce_precision(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let bits = |name: &str| u32::try_from(a.int(name)?).map_err(|_| Error::graph(format!("{name} must be a number of bits")));
    let (exponent, mantissa) = (bits("exponent_bits")?, bits("mantissa_bits")?);
    map1(move |x| e::reduce_precision(x, exponent, mantissa))
}

fn to_integer(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("DstT")?;
    map1(move |x| e::to_integer(&x, dtype))
}

/// `ModelarkHloOrder`: for each row of keys, where its elements come from once it is sorted; equal ones stay in order.
fn order(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let descending: Vec<bool> = a.ints("descending")?.iter().map(|d| *d != 0).collect();
    Ok(kernel(move |_, inputs| {
        let keys = all_tensors(inputs)?;
        let Some(first) = keys.first() else { return Err(Error::graph("takes keys")) };
        let shape = Shape::from(first.shape());
        let long = shape.last().copied().unwrap_or(1);
        if keys.iter().any(|k| k.shape() != &shape[..]) || keys.len() != descending.len() {
            return Err(Error::compute("the keys' shapes differ"));
        }
        let keys = keys.iter().map(Tensor::elements::<i64>).collect::<tensor::Result<Vec<_>>>()?;
        let mut order = Vec::with_capacity(first.len());
        for row in 0..first.len() / long.max(1) {
            let mut places: Vec<i64> = (0..long as i64).collect();
            let at = |key: &[i64], place: &i64| key[row * long + *place as usize];
            places.sort_by(|a, b| {
                let sides = keys.iter().zip(&descending).map(|(k, d)| {
                    let order = at(k, a).cmp(&at(k, b));
                    if *d { order.reverse() } else { order }
                });
                sides.fold(Ordering::Equal, Ordering::then)
            });
            order.extend(places);
        }
        one(Tensor::from_vec(order, shape)?)
    }))
}

/// `ModelarkHloOrderBy`: as `ModelarkHloOrder`, in the order of a function that is asked about many pairs at once.
fn order_by(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let comparator = a.func("comparator")?.clone();
    let count = usize::try_from(a.int("count")?).map_err(|_| Error::graph("the values can't be counted"))?;
    Ok(kernel(move |context, inputs| {
        let inputs = all_tensors(inputs)?;
        let Some((values, captured)) = inputs.split_at_checked(count).filter(|(v, _)| !v.is_empty()) else {
            return Err(Error::graph("takes values"));
        };
        let shape = Shape::from(values[0].shape());
        let long = shape.last().copied().unwrap_or(1);
        if values.iter().any(|v| v.shape() != &shape[..]) {
            return Err(Error::compute("the values' shapes differ"));
        }
        let rows = values[0].len() / long.max(1);
        let flat = values.iter().map(|v| v.clone().reshape([rows * long])).collect::<tensor::Result<Vec<_>>>()?;
        let whole = long.next_power_of_two();
        let half = (whole / 2).max(1);
        // A network of comparisons. Places behind the last element are greater than all, and of equals the first comes first.
        let mut order: Vec<usize> = (0..rows).flat_map(|_| 0..whole).collect();
        let mut less = |pairs: &[(usize, usize)], turned: bool| -> Result<Vec<bool>> {
            let mut args = Values::new();
            for v in &flat {
                let side = |first: bool| -> Result<Value> {
                    let place = |(i, p): (usize, &(usize, usize))| {
                        let row = i / half;
                        (row * long + if first { p.0 } else { p.1 }.min(long - 1)) as i64
                    };
                    let places: Vec<i64> = pairs.iter().enumerate().map(place).collect();
                    let places = Tensor::from_vec(places, [pairs.len()])?;
                    Ok(array::gather(v, &places, 0, 0)?.into())
                };
                args.push(side(!turned)?);
                args.push(side(turned)?);
            }
            args.extend(captured.iter().cloned().map(Value::from));
            let given = context.call(&comparator, args)?;
            let given = given.first().ok_or_else(|| Error::graph("the comparator gives nothing"))?.tensor()?;
            Ok(given.elements::<tensor::Bool>()?.iter().map(|b| b.get()).collect())
        };
        let mut size = 2;
        while size <= whole {
            let mut step = size / 2;
            while step > 0 {
                let places: Vec<(usize, usize)> =
                    (0..whole).filter(|i| i & step == 0).map(|i| (i, i | step)).collect();
                let pairs: Vec<(usize, usize)> = (0..rows)
                    .flat_map(|r| places.iter().map(move |(i, j)| (r * whole + i, r * whole + j)))
                    .map(|(i, j)| (order[i], order[j]))
                    .collect();
                let (before, after) = (less(&pairs, false)?, less(&pairs, true)?);
                for (n, &(a, b)) in pairs.iter().enumerate() {
                    let (row, (i, j)) = (n / half, places[n % half]);
                    let first = match (a < long, b < long) {
                        (true, true) => before.get(n) == Some(&true) || after.get(n) == Some(&false) && a < b,
                        (inside, _) => inside || a < b && b >= long,
                    };
                    let rising = i & size == 0;
                    if first != rising {
                        order.swap(row * whole + i, row * whole + j);
                    }
                }
                step /= 2;
            }
            size *= 2;
        }
        let kept = order.chunks(whole).flat_map(|row| row.iter().take(long).map(|p| *p as i64)).collect();
        one(Tensor::from_vec(kept, shape)?)
    }))
}

/// `ModelarkHloRandomBits`: what XLA's generators give, and their next state.
fn random_bits(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let threefry = a.str("algorithm")? == "THREE_FRY";
    let dtype = a.dtype("dtype")?;
    let shape = a.ints("shape")?.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| Error::graph("an extent is negative"))?;
    Ok(kernel(move |_, inputs| {
        let [state] = tensors(inputs)?;
        let state = state.elements::<u64>()?;
        let (Some(&key), Some(&low)) = (state.first(), state.get(1)) else {
            return Err(Error::compute("a generator's state has a key and a counter"));
        };
        let high = state.get(2).copied();
        let (next, bits) = if threefry {
            threefry_bits(key, low, dtype, &shape)?
        } else {
            // A state of two words has the key for the counter's upper half, too.
            philox_bits(key, u128::from(low) | u128::from(high.unwrap_or(key)) << 64, dtype, &shape)?
        };
        let after = [key, next as u64, (next >> 64) as u64];
        let next = Tensor::from_slice(&after[..state.len().min(3)], [state.len().min(3)])?;
        many([next, bits])
    }))
}

/// Bits of ThreeFry: those of fewer than 32 are cut from as many words.
fn threefry_bits(key: u64, counter: u64, dtype: DType, shape: &[usize]) -> Result<(u128, Tensor)> {
    let drawn = if dtype == DType::U64 { DType::U64 } else { DType::U32 };
    let bits = ThreeFry::new(counter, key).bits(drawn, shape)?;
    let used = if drawn == DType::U64 { bits.len() } else { ThreeFry::used(shape)? };
    Ok((u128::from(counter.wrapping_add(used as u64)), array::cast(&bits, dtype)?))
}

/// Bits of Philox, four words for each value of the counter.
fn philox_bits(key: u64, counter: u128, dtype: DType, shape: &[usize]) -> Result<(u128, Tensor)> {
    let count = checked_elements(shape)?;
    let mut generator = Philox::new(counter, key);
    let words = if dtype == DType::U64 { count.checked_mul(2) } else { Some(count) };
    let words = words.ok_or_else(|| Error::compute("too many random numbers"))?;
    tensor::memory::check(words.saturating_mul(4))?;
    let mut all: Vec<u32> = Vec::with_capacity(words.saturating_add(4));
    while all.len() < words {
        all.extend(generator.next_words());
    }
    all.truncate(words);
    let bits = if dtype == DType::U64 {
        let wide = all.chunks(2).map(|w| u64::from(w[0]) | u64::from(w.get(1).copied().unwrap_or(0)) << 32).collect();
        Tensor::from_vec(wide, shape)?
    } else {
        array::cast(&Tensor::from_vec(all, shape)?, dtype)?
    };
    Ok((generator.counter(), bits))
}

/// `ModelarkHloPivots`: the swaps, counted from one, that make an order of rows.
fn pivots() -> Result<Box<dyn Kernel>> {
    map1(|order| {
        let long = order.shape().last().copied().unwrap_or(0);
        let mut swaps = Vec::with_capacity(order.len());
        for row in order.elements::<i32>()?.chunks(long.max(1)) {
            let mut now: Vec<i32> = (0..long as i32).collect();
            for (i, want) in row.iter().enumerate() {
                let at = now.iter().position(|n| n == want).unwrap_or(i);
                now.swap(i, at);
                swaps.push(at as i32 + 1);
            }
        }
        Tensor::from_vec(swaps, order.shape())
    })
}

fn scatter_mul() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, indices, updates] = tensors(inputs)?;
        one(array::scatter(x, &indices, &updates, array::Scatter::Mul)?)
    }))
}

/// `ModelarkHloScatterBy`: rows combined with updates by a function that is asked about all of them at once, as often as one
/// row has several updates.
fn scatter_by(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let combiner = a.func("combiner")?.clone();
    let count = usize::try_from(a.int("count")?).map_err(|_| Error::graph("the values can't be counted"))?;
    Ok(kernel(move |context, inputs| {
        let inputs = all_tensors(inputs)?;
        let few = || Error::graph("takes indices, rows and updates");
        let (at, rest) = inputs.split_first().ok_or_else(few)?;
        let (rows, rest) = rest.split_at_checked(count).ok_or_else(few)?;
        let (updates, captured) = rest.split_at_checked(count).ok_or_else(few)?;
        let mut rows = rows.to_vec();
        let places = at.to_i64_vec()?;
        // Which of its row's updates each is.
        let mut met: HashMap<i64, usize> = HashMap::new();
        let turns: Vec<usize> = places
            .iter()
            .map(|p| {
                let seen = met.entry(*p).or_default();
                *seen += 1;
                *seen - 1
            })
            .collect();
        for turn in 0..met.values().copied().max().unwrap_or(0) {
            context.check()?;
            let mut args = Values::new();
            for x in &rows {
                args.push(array::gather_nd(x, at, 0)?.into());
            }
            args.extend(updates.iter().chain(captured).cloned().map(Value::from));
            let made = context.call(&combiner, args)?;
            let now: Vec<i64> = (0..turns.len()).filter(|i| turns[*i] == turn).map(|i| i as i64).collect();
            let now = Tensor::from_slice(&now, [now.len()])?;
            let to = array::gather(at, &now, 0, 0)?;
            if made.len() < rows.len() {
                return Err(Error::graph("the combiner gives too few values"));
            }
            for (x, new) in rows.iter_mut().zip(made) {
                let new = array::gather(new.tensor()?, &now, 0, 0)?;
                *x = array::scatter(x.clone(), &to, &new, array::Scatter::Update)?;
            }
        }
        many(rows)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("ModelarkHloCbrt(x: T) -> (y: T); T: type", |_| unary(e::cubic_root)),
    Op::new("ModelarkHloCountLeadingZeros(x: T) -> (y: T); T: type", |_| unary(e::leading_zeros)),
    Op::new("ModelarkHloDivide(x: T, y: T) -> (z: T); T: type", |_| binary(e::divide)),
    Op::new("ModelarkHloOrder(keys: [T]) -> (order: int64); T: list(type); descending: list(int)", order),
    Op::new("ModelarkHloOrderBy(values: [T]) -> (order: int64); T: list(type); comparator: func; count: int", order_by),
    Op::new("ModelarkHloPad(x: T, value: T) -> (y: T); low: list(int); high: list(int); interior: list(int); T: type", pad),
    Op::new("ModelarkHloPivots(order: int32) -> (pivots: int32)", |_| pivots()),
    Op::new("ModelarkHloPower(x: T, y: T) -> (z: T); T: type", |_| binary(e::power)),
    Op::new("ModelarkHloRandomBits(state: uint64) -> (next: uint64, bits: dtype); algorithm: string; shape: list(int); dtype: type", random_bits),
    Op::new("ModelarkHloReducePrecision(x: T) -> (y: T); exponent_bits: int; mantissa_bits: int; T: type", reduce_precision),
    Op::new("ModelarkHloRemainder(x: T, y: T) -> (z: T); T: type", |_| binary(e::remainder)),
    Op::new("ModelarkHloRoundAwayFromZero(x: T) -> (y: T); T: type", |_| unary(e::round_half_away)),
    Op::new("ModelarkHloScatterBy(values: [T]) -> (y: [Tout]); T: list(type); Tout: list(type); combiner: func; count: int", scatter_by),
    Op::new("ModelarkHloScatterMul(x: T, indices: int64, updates: T) -> (y: T); T: type", |_| scatter_mul()),
    Op::new("ModelarkHloShiftLeft(x: T, y: T) -> (z: T); T: type", |_| binary(e::shift_out_left)),
    Op::new("ModelarkHloShiftRightArithmetic(x: T, y: T) -> (z: T); T: type", |_| binary(e::shift_out_right_signed)),
    Op::new("ModelarkHloShiftRightLogical(x: T, y: T) -> (z: T); T: type", |_| binary(e::shift_out_right)),
    Op::new("ModelarkHloSlice(x: T, starts: int64, size: int64) -> (y: T); T: type", |_| slice()),
    Op::new("ModelarkHloToInteger(x: SrcT) -> (y: DstT); SrcT: type; DstT: type", to_integer),
    Op::new("ModelarkHloUpdateSlice(x: T, update: T, starts: int64) -> (y: T); T: type", |_| update_slice()),
];
