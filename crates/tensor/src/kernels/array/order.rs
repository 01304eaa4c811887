//! What depends on the order or equality of elements.
#![allow(clippy::unnecessary_fallible_conversions, reason = "the same text serves every width of integers")]

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::kernels::parallel;
use crate::{DType, Element, Error, Result, Shape, Tensor, dispatch};

/// The `k` greatest elements of each row in the last dimension, greatest first, and their indices as `int32`
/// (`tf.math.top_k`). Of equal elements the first comes first; NaN counts as less than every number.
///
/// # Errors
/// When the dtype isn't real, the rank is 0, or rows are shorter than `k`.
pub fn top_k(x: &Tensor, k: usize) -> Result<(Tensor, Tensor)> {
    let Some(&n) = x.shape().last() else { return Err(Error::shape("a scalar has no greatest elements")) };
    if k > n {
        return Err(Error::value(format!("input must have at least k = {k} columns, got {n}")));
    }
    let mut shape: Shape = x.shape().into();
    if let Some(last) = shape.last_mut() {
        *last = k;
    }
    dispatch!(real x.dtype(), T => {
        let values = x.elements::<T>()?;
        let (mut best, mut indices) = (Tensor::zeros(T::DTYPE, &shape)?, Tensor::zeros(DType::I32, &shape)?);
        let (to, at) = (best.make_mut::<T>()?, indices.make_mut::<i32>()?);
        if to.is_empty() {
            return Ok((best, indices));
        }
        parallel::for_parts(at, k, n, |start, part| {
            let mut order: Vec<u32> = Vec::new();
            for (i, at) in part.chunks_mut(k).enumerate() {
                let row = &values[(start / k + i) * n..][..n];
                largest(row, k, &mut order);
                at.iter_mut().zip(&order).for_each(|(a, &i)| *a = i as i32);
            }
        });
        for (i, (to, at)) in to.chunks_mut(k).zip(at.chunks(k)).enumerate() {
            to.iter_mut().zip(at).for_each(|(o, &a)| *o = values[i * n + a as usize]);
        }
        Ok((best, indices))
    }, else => Err(Error::dtype("a real number's", x.dtype())))
}

/// The indices of the `k` greatest elements of a row, in order.
fn largest<T: PartialOrd + Copy>(row: &[T], k: usize, order: &mut Vec<u32>) {
    let before = |a: &u32, b: &u32| {
        let (x, y) = (row[*a as usize], row[*b as usize]);
        descending(x, y).then(a.cmp(b))
    };
    order.clear();
    order.extend(0..row.len() as u32);
    if k < row.len() {
        order.select_nth_unstable_by(k, before);
        order.truncate(k);
    }
    order.sort_unstable_by(before);
}

/// Greater first, and what isn't a number last.
fn descending<T: PartialOrd>(x: T, y: T) -> Ordering {
    y.partial_cmp(&x).unwrap_or_else(|| {
        let not_a_number = |v: &T| v.partial_cmp(v).is_none();
        not_a_number(&x).cmp(&not_a_number(&y))
    })
}

/// The distinct slices along `axis` in order of appearance, for each slice the index of its like, and how often each
/// occurs (`tf.unique_with_counts`); indices and counts are `int64` vectors.
///
/// # Errors
/// When there is no such axis, or elements aren't plain numbers or strings.
pub fn unique(x: &Tensor, axis: usize) -> Result<(Tensor, Tensor, Tensor)> {
    if axis >= x.rank() {
        return Err(Error::shape(format!("shape {:?} has no axis {axis}", x.shape())));
    }
    let order: Shape = std::iter::once(axis).chain((0..x.rank()).filter(|d| *d != axis)).collect();
    let rows = super::transpose(x, &order)?;
    let count = x.shape()[axis];
    let keys = keys(&rows, count)?;
    let (mut firsts, mut indices, mut counts) =
        (Vec::<i64>::new(), Vec::with_capacity(count), Vec::<i64>::new());
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
    for (at, key) in keys.into_iter().enumerate() {
        let known = key.as_ref().and_then(|k| seen.get(k).copied());
        let id = known.unwrap_or(firsts.len());
        if known.is_none() {
            firsts.push(at as i64);
            counts.push(0);
            seen.extend(key.map(|k| (k, id)));
        }
        counts[id] += 1;
        indices.push(id as i64);
    }
    let n = firsts.len();
    let places = Tensor::from_vec(firsts, [n])?;
    Ok((
        super::gather(x, &places, axis, 0)?,
        Tensor::from_vec(indices, [count])?,
        Tensor::from_vec(counts, [n])?,
    ))
}

/// The elements of the vector `x` that aren't in the vector `y`, and their indices as `int64` (`tf.setdiff1d`).
///
/// # Errors
/// When one isn't a vector, dtypes differ, or elements aren't plain numbers or strings.
pub fn list_diff(x: &Tensor, y: &Tensor) -> Result<(Tensor, Tensor)> {
    crate::kernels::elementwise::same_dtype(x, y)?;
    if x.rank() != 1 || y.rank() != 1 {
        return Err(Error::shape(format!(
            "expected vectors, got shapes {:?} and {:?}",
            x.shape(),
            y.shape()
        )));
    }
    let gone: std::collections::HashSet<Vec<u8>> = keys(y, y.len())?.into_iter().flatten().collect();
    let stays = |key: &Option<Vec<u8>>| key.as_ref().is_none_or(|k| !gone.contains(k));
    let kept: Vec<i64> =
        keys(x, x.len())?.iter().enumerate().filter(|(_, k)| stays(k)).map(|(i, _)| i as i64).collect();
    let n = kept.len();
    let kept = Tensor::from_vec(kept, [n])?;
    Ok((super::gather(x, &kept, 0, 0)?, kept))
}

/// The `n`-th least element of each row in the last dimension, or the `n`-th greatest with `reverse`, counted from 0
/// (`tf.nn.nth_element`).
///
/// # Errors
/// When the dtype isn't real, the rank is 0, or rows aren't longer than `n`.
pub fn nth_element(x: &Tensor, n: usize, reverse: bool) -> Result<Tensor> {
    let Some((&len, outer)) = x.shape().split_last() else {
        return Err(Error::shape("a scalar has no n-th element"));
    };
    if n >= len {
        return Err(Error::value(format!("input must have last dimension > n = {n}, got {len}")));
    }
    let at = if reverse { n } else { len - 1 - n };
    dispatch!(real x.dtype(), T => {
        let mut values = x.elements::<T>()?.into_owned();
        let nth = values.chunks_mut(len).map(|row| *row.select_nth_unstable_by(at, |a, b| descending(*a, *b)).1);
        Tensor::from_vec::<T>(nth.collect(), outer)
    }, else => Err(Error::dtype("a real number's", x.dtype())))
}

/// Bytes for each of `count` rows that are the same for equal ones; none for a row that equals no other.
fn keys(rows: &Tensor, count: usize) -> Result<Vec<Option<Vec<u8>>>> {
    let width = rows.len().checked_div(count).unwrap_or(0);
    if rows.dtype() == DType::String {
        let strings = rows.strings()?;
        let key = |row: &[crate::ByteString]| match row {
            [one] => one.to_vec(),
            _ => {
                row.iter().flat_map(|s| s.len().to_le_bytes().into_iter().chain(s.iter().copied())).collect()
            }
        };
        return Ok((0..count).map(|i| Some(key(&strings[i * width..][..width]))).collect());
    }
    let size = rows.dtype().size().ok_or_else(|| Error::dtype("numbers or strings", rows.dtype()))?;
    // Equality of numbers: both zeros are one, and no NaN equals another.
    let nan = crate::kernels::elementwise::is_nan(rows).ok();
    let nan = nan.as_ref().map(|t| t.as_slice::<crate::Bool>()).transpose()?;
    let bytes = rows.bytes()?;
    let key = |i: usize| {
        if nan.is_some_and(|nan| nan[i * width..][..width].iter().any(|b| b.get())) {
            return None;
        }
        let mut key = bytes[i * width * size..][..width * size].to_vec();
        if rows.dtype().is_float() {
            for element in key.chunks_mut(size) {
                if let Some((last, [..])) =
                    element.split_last_mut().filter(|(l, r)| **l == 0x80 && r.iter().all(|b| *b == 0))
                {
                    *last = 0;
                }
            }
        }
        Some(key)
    };
    Ok((0..count).map(key).collect())
}

/// The inverse of a permutation given as a vector (`tf.math.invert_permutation`).
///
/// # Errors
/// When it isn't a permutation of the numbers under its length.
pub fn invert_permutation(x: &Tensor) -> Result<Tensor> {
    let wrong = || Error::value(format!("{x:?} isn't a permutation"));
    if x.rank() != 1 {
        return Err(wrong());
    }
    dispatch!(integer x.dtype(), T => {
        let values = x.elements::<T>()?;
        let mut out: Vec<Option<T>> = vec![None; values.len()];
        for (i, &v) in values.iter().enumerate() {
            let slot = usize::try_from(v).ok().and_then(|v| out.get_mut(v)).ok_or_else(wrong)?;
            if slot.replace(T::try_from(i).map_err(|_| wrong())?).is_some() {
                return Err(wrong());
            }
        }
        let n = out.len();
        Tensor::from_vec::<T>(out.into_iter().flatten().collect(), [n])
    }, else => Err(Error::dtype("an integer one", x.dtype())))
}

/// For each of `values`' rows, where its elements would go into the sorted row of `sorted`: before its equals, or
/// after them when `right` (`tf.searchsorted`). Both have the same dimensions before the last; the result is `int64`.
///
/// # Errors
/// When dtypes or leading dimensions differ, or the dtype isn't real.
pub fn search_sorted(sorted: &Tensor, values: &Tensor, right: bool) -> Result<Tensor> {
    crate::kernels::elementwise::same_dtype(sorted, values)?;
    let (Some((&n, a)), Some((&m, b))) = (sorted.shape().split_last(), values.shape().split_last()) else {
        return Err(Error::shape("searching needs at least one dimension"));
    };
    if a != b {
        return Err(Error::shape(format!("rows of {a:?} can't be searched for rows of {b:?}")));
    }
    dispatch!(real sorted.dtype(), T => {
        let (keys, values) = (sorted.elements::<T>()?, values.elements::<T>()?);
        let find = |i: usize, v: &T| {
            let row = keys.get(i / m * n..(i / m + 1) * n).unwrap_or_default();
            row.partition_point(|k| if right { k <= v } else { k < v }) as i64
        };
        let out = values.iter().enumerate().map(|(i, v)| find(i, v)).collect();
        let shape: Shape = b.iter().copied().chain([m]).collect();
        Tensor::from_vec::<i64>(out, shape)
    }, else => Err(Error::dtype("a real number's", sorted.dtype())))
}

/// How often each number under `size` occurs in `x`, or the sum of its `weights` (`tf.math.bincount`); numbers that
/// aren't under `size` are left out. With `binary`, 1 where a number occurs. `x` is a vector, or a matrix for a row
/// of counts each. The result has the weights' dtype, which `weights` without elements merely name.
///
/// # Errors
/// When a number is negative, or dtypes or shapes don't fit.
pub fn bin_count(x: &Tensor, size: usize, weights: &Tensor, binary: bool) -> Result<Tensor> {
    let (rows, columns) = match *x.shape() {
        [] => (1, 1),
        [n] => (1, n),
        [m, n] => (m, n),
        _ => {
            return Err(Error::shape(format!(
                "counting takes a vector or a matrix, got shape {:?}",
                x.shape()
            )));
        }
    };
    let weighted = !weights.is_empty() && !binary;
    if !weights.is_empty() && weights.shape() != x.shape() {
        return Err(Error::shape(format!("weights of shape {:?} for {:?}", weights.shape(), x.shape())));
    }
    let numbers = x.to_i64_vec()?;
    if numbers.iter().any(|&v| v < 0) {
        return Err(Error::value("input arr must be non-negative"));
    }
    let shape: Shape =
        if x.rank() == 2 { [rows, size].into_iter().collect() } else { [size].into_iter().collect() };
    fn count<T: Element + crate::kernels::elementwise::Number>(
        numbers: &[i64],
        columns: usize,
        size: usize,
        weights: Option<&[T]>,
        binary: bool,
        out: &mut [T],
    ) {
        for (i, &v) in numbers.iter().enumerate() {
            let Some(v) = usize::try_from(v).ok().filter(|&v| v < size) else { continue };
            let slot = &mut out[i / columns * size + v];
            let weight = weights.map_or(T::ONE, |w| w[i]);
            *slot = if binary { T::ONE } else { slot.plus(weight) };
        }
    }
    dispatch!(native weights.dtype(), T => {
        let mut out = Tensor::zeros(T::DTYPE, &shape)?;
        let all = weights.elements::<T>()?;
        count::<T>(&numbers, columns, size, weighted.then_some(&all[..]), binary, out.make_mut::<T>()?);
        Ok(out)
    }, else => Err(Error::dtype("a number's", weights.dtype())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_come_first_and_ties_in_order() {
        let x = Tensor::from_vec(vec![1.0f32, 5.0, 5.0, f32::NAN, -1.0, 7.0, 7.0, 0.0, 7.0, 2.0], [2, 5])
            .expect("x");
        let (best, at) = top_k(&x, 3).expect("top");
        assert_eq!(best.as_slice::<f32>().expect("f32"), [5.0, 5.0, 1.0, 7.0, 7.0, 7.0]);
        assert_eq!(at.as_slice::<i32>().expect("i32"), [1, 2, 0, 0, 1, 3]);
        assert!(top_k(&x, 6).is_err());
        assert_eq!(top_k(&x, 0).expect("none").0.shape(), [2, 0]);
    }

    #[test]
    fn top_k_agrees_with_sorting() {
        let values: Vec<i32> = (0..4000).map(|i: i32| i.wrapping_mul(7919) % 501).collect();
        let x = Tensor::from_slice(&values, [40, 100]).expect("x");
        let (best, _) = top_k(&x, 17).expect("top");
        for (row, got) in values.chunks(100).zip(best.as_slice::<i32>().expect("i32").chunks(17)) {
            let mut sorted = row.to_vec();
            sorted.sort_by(|a, b| b.cmp(a));
            assert_eq!(got, &sorted[..17]);
        }
    }

    #[test]
    fn distinct_elements_in_order_of_appearance() {
        let x = Tensor::from_vec(vec![3i32, 1, 3, 2, 1], [5]).expect("x");
        let (values, at, counts) = unique(&x, 0).expect("unique");
        assert_eq!(values.as_slice::<i32>().expect("i32"), [3, 1, 2]);
        assert_eq!(at.as_slice::<i64>().expect("i64"), [0, 1, 0, 2, 1]);
        assert_eq!(counts.as_slice::<i64>().expect("i64"), [2, 2, 1]);
        let x = Tensor::from_vec(vec![0.0f32, -0.0, f32::NAN, f32::NAN], [4]).expect("x");
        assert_eq!(unique(&x, 0).expect("unique").0.len(), 3);
        let s = Tensor::from_strings([&b"b"[..], b"a", b"b"], [3]).expect("x");
        assert_eq!(unique(&s, 0).expect("unique").0.strings().expect("strings").concat(), b"ba");
    }

    #[test]
    fn permutations_invert() {
        let x = Tensor::from_vec(vec![2i32, 0, 1], [3]).expect("x");
        assert_eq!(invert_permutation(&x).expect("inverse").as_slice::<i32>().expect("i32"), [1, 2, 0]);
        for wrong in [[0i32, 0, 1], [0, 1, 3], [-1, 0, 1]] {
            assert!(invert_permutation(&Tensor::from_slice(&wrong, [3]).expect("x")).is_err());
        }
    }

    #[test]
    fn places_in_a_sorted_row() {
        let keys = Tensor::from_vec(vec![1.0f32, 3.0, 3.0, 9.0], [1, 4]).expect("x");
        let values = Tensor::from_vec(vec![0.0f32, 3.0, 10.0], [1, 3]).expect("x");
        let left = search_sorted(&keys, &values, false).expect("left");
        assert_eq!(left.as_slice::<i64>().expect("i64"), [0, 1, 4]);
        let right = search_sorted(&keys, &values, true).expect("right");
        assert_eq!(right.as_slice::<i64>().expect("i64"), [0, 3, 4]);
    }

    #[test]
    fn numbers_are_counted() {
        let x = Tensor::from_vec(vec![0i32, 2, 2, 7], [4]).expect("x");
        let none = Tensor::zeros(DType::F32, [0]).expect("none");
        let got = bin_count(&x, 4, &none, false).expect("counts");
        assert_eq!(got.as_slice::<f32>().expect("f32"), [1.0, 0.0, 2.0, 0.0]);
        let got = bin_count(&x, 4, &none, true).expect("counts");
        assert_eq!(got.as_slice::<f32>().expect("f32"), [1.0, 0.0, 1.0, 0.0]);
        let weights = Tensor::from_vec(vec![0.5f32, 1.0, 2.0, 4.0], [4]).expect("weights");
        let got = bin_count(&x, 4, &weights, false).expect("sums");
        assert_eq!(got.as_slice::<f32>().expect("f32"), [0.5, 0.0, 3.0, 0.0]);
        assert!(bin_count(&Tensor::scalar(-1i32), 4, &none, false).is_err());
    }
}
