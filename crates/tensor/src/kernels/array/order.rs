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

/// The distinct elements of a vector in order of appearance, for each element the index of its like, and how often
/// each occurs (`tf.unique_with_counts`); indices and counts are `int64`.
///
/// # Errors
/// When `x` isn't a vector.
pub fn unique(x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    if x.rank() != 1 {
        return Err(Error::shape(format!("unique expects a 1D vector, got shape {:?}", x.shape())));
    }
    let (mut firsts, mut indices, mut counts) =
        (Vec::<i64>::new(), Vec::with_capacity(x.len()), Vec::<i64>::new());
    let mut see = |at: usize, known: Option<usize>| -> usize {
        let id = known.unwrap_or(firsts.len());
        if known.is_none() {
            firsts.push(at as i64);
            counts.push(0);
        }
        counts[id] += 1;
        indices.push(id as i64);
        id
    };
    if x.dtype() == DType::String {
        let mut seen: HashMap<&[u8], usize> = HashMap::new();
        for (at, s) in x.strings()?.iter().enumerate() {
            let id = see(at, seen.get(&s[..]).copied());
            seen.insert(s, id);
        }
    } else {
        let size = x.dtype().size().unwrap_or(1);
        let not_a_number = crate::kernels::elementwise::is_nan(x).ok();
        let mut seen: HashMap<Vec<u8>, usize> = HashMap::new();
        for (at, bytes) in x.bytes()?.chunks(size).enumerate() {
            // Equality of numbers: both zeros are one, and no NaN equals another.
            let lone = match &not_a_number {
                Some(t) => t.as_slice::<crate::Bool>()?[at].get(),
                None => false,
            };
            let mut key = bytes.to_vec();
            if x.dtype().is_float() && bytes[..size - 1].iter().all(|b| *b == 0) && bytes[size - 1] == 0x80 {
                key[size - 1] = 0;
            }
            let id = see(at, if lone { None } else { seen.get(&key).copied() });
            seen.insert(key, id);
        }
    }
    let n = firsts.len();
    let places = Tensor::from_vec(firsts, [n])?;
    let len = indices.len();
    Ok((super::gather(x, &places, 0, 0)?, Tensor::from_vec(indices, [len])?, Tensor::from_vec(counts, [n])?))
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
    if weighted && weights.shape() != x.shape() {
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
        let (values, at, counts) = unique(&x).expect("unique");
        assert_eq!(values.as_slice::<i32>().expect("i32"), [3, 1, 2]);
        assert_eq!(at.as_slice::<i64>().expect("i64"), [0, 1, 0, 2, 1]);
        assert_eq!(counts.as_slice::<i64>().expect("i64"), [2, 2, 1]);
        let x = Tensor::from_vec(vec![0.0f32, -0.0, f32::NAN, f32::NAN], [4]).expect("x");
        assert_eq!(unique(&x).expect("unique").0.len(), 3);
        let s = Tensor::from_strings([&b"b"[..], b"a", b"b"], [3]).expect("x");
        assert_eq!(unique(&s).expect("unique").0.strings().expect("strings").concat(), b"ba");
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
