//! Copies of elements that lie at regular distances: transposing, slicing, reversing, repeating.

use smallvec::SmallVec;

use super::mover::{Mover, rearrange};
use crate::kernels::parallel;
use crate::{Error, Result, Shape, Tensor, checked_elements, contiguous_strides, dispatch};

/// For each dimension an extent, and the distance from an element to the next.
type Dims = SmallVec<[(usize, isize); 6]>;

/// Where the elements of a result lie in its input: a start, and for each dimension an extent and a distance.
struct Strided {
    start: usize,
    dims: Dims,
}

impl Strided {
    fn new(start: usize, dims: impl IntoIterator<Item = (usize, isize)>) -> Self {
        let mut merged: Dims = SmallVec::new();
        for (extent, stride) in dims {
            match merged.last_mut() {
                _ if extent == 1 => {}
                Some((e, s)) if *s == stride.wrapping_mul(extent as isize) => {
                    *e = e.saturating_mul(extent);
                    *s = stride;
                }
                _ => merged.push((extent, stride)),
            }
        }
        Strided { start, dims: merged }
    }

    /// Whether the result is a run of the input.
    fn is_run(&self) -> bool {
        matches!(self.dims[..], [] | [(_, 1)])
    }

    fn make(&self, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
        let n = checked_elements(shape)?;
        if self.is_run()
            && let (Some(size), Ok(bytes)) = (x.dtype().size(), x.bytes())
            && let Some(run) = bytes.slice(self.start * size..(self.start + n) * size)
        {
            return Tensor::from_bytes(x.dtype(), shape, run);
        }
        rearrange(&[x], shape, self)
    }
}

impl Mover for Strided {
    fn run<T: Clone + Send + Sync>(&self, inputs: &[&[T]], out: &mut [T]) {
        let Some(&src) = inputs.first() else { return };
        if out.is_empty() {
            return;
        }
        let Some((&(inner, step), outer)) = self.dims.split_last() else {
            out[0] = src[self.start].clone();
            return;
        };
        // A transposed matrix is copied in square blocks, so that reads stay in the cache too.
        if let Some((&(rows, 1), before)) = outer.split_last()
            && step > 1
            && rows > 1
        {
            let plane = rows * inner;
            if plane >= parallel::THRESHOLD && before.is_empty() {
                parallel::for_parts(out, inner, 1, |start, part| {
                    transpose_block(&src[self.start + start / inner..], step as usize, part, inner);
                });
            } else {
                parallel::for_parts(out, plane, 1, |start, part| {
                    for (i, plane_out) in part.chunks_mut(plane).enumerate() {
                        let base = offset(self.start, before, start / plane + i);
                        transpose_block(&src[base..], step as usize, plane_out, inner);
                    }
                });
            }
            return;
        }
        parallel::for_parts(out, inner, 1, |start, part| {
            for (row, run) in (start / inner..).zip(part.chunks_mut(inner)) {
                let base = offset(self.start, outer, row);
                match step {
                    1 => run.clone_from_slice(&src[base..base + inner]),
                    0 => run.fill(src[base].clone()),
                    _ => run.iter_mut().enumerate().for_each(|(i, o)| {
                        *o = src[base.wrapping_add_signed(i as isize * step)].clone();
                    }),
                }
            }
        });
    }
}

/// The place of the `row`-th run, counted in C order over `outer`.
#[inline]
fn offset(start: usize, outer: &[(usize, isize)], mut row: usize) -> usize {
    let mut at = start;
    for &(extent, stride) in outer.iter().rev() {
        at = at.wrapping_add_signed((row % extent) as isize * stride);
        row /= extent;
    }
    at
}

/// `out[r][c] = src[r + c * step]`, rows of `columns`.
fn transpose_block<T: Clone>(src: &[T], step: usize, out: &mut [T], columns: usize) {
    const BLOCK: usize = 16;
    let rows = out.len() / columns;
    for r0 in (0..rows).step_by(BLOCK) {
        let r1 = (r0 + BLOCK).min(rows);
        for c0 in (0..columns).step_by(BLOCK) {
            let c1 = (c0 + BLOCK).min(columns);
            for r in r0..r1 {
                let to = &mut out[r * columns + c0..r * columns + c1];
                to.iter_mut()
                    .zip(src[r + c0 * step..].iter().step_by(step))
                    .for_each(|(o, v)| o.clone_from(v));
            }
        }
    }
}

/// The tensor with its dimensions reordered: the result's dimension `i` is `x`'s dimension `permutation[i]`
/// (`tf.transpose`).
///
/// # Errors
/// When `permutation` doesn't name every dimension once.
pub fn transpose(x: &Tensor, permutation: &[usize]) -> Result<Tensor> {
    let mut seen: SmallVec<[bool; 6]> = SmallVec::from_elem(false, x.rank());
    let valid = permutation.len() == x.rank()
        && permutation.iter().all(|&p| seen.get_mut(p).is_some_and(|s| !std::mem::replace(s, true)));
    if !valid {
        return Err(Error::value(format!("{permutation:?} doesn't reorder {} dimensions", x.rank())));
    }
    let strides = contiguous_strides(x.shape());
    let shape: Shape = permutation.iter().map(|&p| x.shape()[p]).collect();
    // Dimensions of one element, and order among nothing, don't matter.
    Strided::new(0, permutation.iter().map(|&p| (x.shape()[p], strides[p] as isize))).make(x, &shape)
}

/// The tensor with its last two dimensions swapped (`tf.linalg.matrix_transpose`).
///
/// # Errors
/// When the rank is under 2.
pub fn matrix_transpose(x: &Tensor) -> Result<Tensor> {
    let rank = x.rank();
    if rank < 2 {
        return Err(Error::shape(format!("a matrix has two dimensions, got shape {:?}", x.shape())));
    }
    let permutation: Shape = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    transpose(x, &permutation)
}

/// The part of `size` from `begin` on (`tf.slice`). A part that lies in one run shares `x`'s elements.
///
/// # Errors
/// When the part reaches beyond the tensor.
pub fn slice(x: &Tensor, begin: &[usize], size: &[usize]) -> Result<Tensor> {
    let fits = begin.len() == x.rank()
        && size.len() == x.rank()
        && begin
            .iter()
            .zip(size)
            .zip(x.shape())
            .all(|((b, s), d)| b.checked_add(*s).is_some_and(|e| e <= *d));
    if !fits {
        return Err(Error::value(format!(
            "a slice of {size:?} from {begin:?} reaches beyond shape {:?}",
            x.shape()
        )));
    }
    if checked_elements(size)? == 0 {
        return Tensor::zeros(x.dtype(), size);
    }
    let strides = contiguous_strides(x.shape());
    let start = begin.iter().zip(&strides).map(|(b, s)| b * s).sum();
    Strided::new(start, size.iter().zip(&strides).map(|(&n, &s)| (n, s as isize))).make(x, size)
}

/// Elements at `begin`, `begin + stride`, .. along each dimension, `extent` of them (`tf.strided_slice`, its masks
/// and bounds resolved).
///
/// # Errors
/// When an element lies outside the tensor.
pub fn strided_slice(x: &Tensor, begin: &[i64], stride: &[i64], extent: &[usize]) -> Result<Tensor> {
    let (start, dims) = places(x.shape(), begin, stride, extent)?;
    if checked_elements(extent)? == 0 {
        return Tensor::zeros(x.dtype(), extent);
    }
    Strided::new(start, dims).make(x, extent)
}

/// Where the elements at `begin`, `begin + stride`, .. lie: a start, and for each dimension an extent and a distance.
fn places(shape: &[usize], begin: &[i64], stride: &[i64], extent: &[usize]) -> Result<(usize, Dims)> {
    let outside = || {
        Error::value(format!(
            "{extent:?} elements from {begin:?} in steps of {stride:?} reach beyond shape {shape:?}"
        ))
    };
    if [begin.len(), stride.len(), extent.len()] != [shape.len(); 3] {
        return Err(outside());
    }
    let strides = contiguous_strides(shape);
    let mut start = 0;
    let mut dims: Dims = SmallVec::new();
    if checked_elements(extent)? == 0 {
        return Ok((start, dims));
    }
    for d in 0..shape.len() {
        let last = i64::try_from(extent[d] - 1)
            .ok()
            .and_then(|n| n.checked_mul(stride[d]))
            .and_then(|n| n.checked_add(begin[d]))
            .ok_or_else(outside)?;
        let within = |i: i64| usize::try_from(i).is_ok_and(|i| i < shape[d]);
        if !within(begin[d]) || !within(last) {
            return Err(outside());
        }
        start += begin[d] as usize * strides[d];
        // The step of a dimension of one element may be anything, even beyond what could be multiplied.
        let step = if extent[d] == 1 { 0 } else { stride[d] as isize * strides[d] as isize };
        dims.push((extent[d], step));
    }
    Ok((start, dims))
}

/// Elements put where a strided slice lies.
struct Placed {
    start: usize,
    dims: Dims,
}

impl Mover for Placed {
    fn run<T: Clone + Send + Sync>(&self, inputs: &[&[T]], out: &mut [T]) {
        let [target, values] = inputs else { return };
        out.clone_from_slice(target);
        for (i, v) in values.iter().enumerate() {
            out[offset(self.start, &self.dims, i)].clone_from(v);
        }
    }
}

/// `x` with the elements at `begin`, `begin + stride`, .. along each dimension replaced by those of `value`
/// (`tf.raw_ops.TensorStridedSliceUpdate`, its masks and bounds resolved).
///
/// # Errors
/// When dtypes differ, or an element lies outside the tensor.
pub fn strided_put(x: &Tensor, begin: &[i64], stride: &[i64], value: &Tensor) -> Result<Tensor> {
    let (start, dims) = places(x.shape(), begin, stride, value.shape())?;
    rearrange(&[x, value], x.shape(), &Placed { start, dims })
}

/// `x` with the slice from `begin` on replaced by `update`; in place when nobody else holds its elements
/// (StableHLO: `dynamic_update_slice`).
///
/// # Errors
/// When dtypes differ, or the slice lies outside.
pub fn put_slice(mut x: Tensor, begin: &[usize], update: &Tensor) -> Result<Tensor> {
    crate::kernels::elementwise::same_dtype(&x, update)?;
    let begin: Vec<i64> = begin.iter().map(|b| i64::try_from(*b).unwrap_or(i64::MAX)).collect();
    let ones = vec![1; begin.len()];
    let (start, mut dims) = places(x.shape(), &begin, &ones, update.shape())?;
    if update.is_empty() {
        return Ok(x);
    }
    // The last dimension goes at once.
    let run = dims.pop().map_or(1, |(n, _)| n);
    dispatch!(pod x.dtype(), T => {
        let values = update.elements::<T>()?;
        let out = x.make_mut::<T>()?;
        for (i, row) in values.chunks(run).enumerate() {
            let at = offset(start, &dims, i);
            out[at..at + run].copy_from_slice(row);
        }
        Ok(x)
    }, else => strided_put(&x, &begin, &ones, update))
}

/// The tensor with the elements along `axes` in reverse order (`tf.reverse`).
///
/// # Errors
/// When an axis is out of range.
pub fn reverse(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    check_axes(axes, x.rank())?;
    let turned = |d: usize| axes.contains(&d);
    let begin: SmallVec<[i64; 6]> =
        x.shape().iter().enumerate().map(|(d, &n)| if turned(d) { n as i64 - 1 } else { 0 }).collect();
    let stride: SmallVec<[i64; 6]> = (0..x.rank()).map(|d| if turned(d) { -1 } else { 1 }).collect();
    strided_slice(x, &begin, &stride, x.shape())
}

/// The tensor with elements moved on by `shifts` along `axes`, those pushed out coming in again at the other end
/// (`tf.roll`). Shifts along the same axis add up.
///
/// # Errors
/// When an axis is out of range, or there aren't as many shifts as axes.
pub fn roll(x: &Tensor, shifts: &[i64], axes: &[usize]) -> Result<Tensor> {
    check_axes(axes, x.rank())?;
    if shifts.len() != axes.len() {
        return Err(Error::value(format!("{} shifts for {} axes", shifts.len(), axes.len())));
    }
    let mut x = x.clone();
    for (&shift, &axis) in shifts.iter().zip(axes) {
        let extent = x.shape()[axis];
        if x.is_empty() || extent < 2 {
            continue;
        }
        let by = shift.rem_euclid(extent as i64) as usize;
        if by == 0 {
            continue;
        }
        let parts = super::split(&x, axis, &[extent - by, by])?;
        let [head, tail] = &parts[..] else { continue };
        x = super::concat(&[tail, head], axis)?;
    }
    Ok(x)
}

/// The tensor repeated to fill `shape` (`tf.broadcast_to`).
///
/// # Errors
/// When it doesn't broadcast to `shape`.
pub fn broadcast_to(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let offset = shape.len().checked_sub(x.rank());
    let fits = offset.is_some_and(|o| x.shape().iter().zip(&shape[o..]).all(|(&d, &s)| d == s || d == 1));
    let (true, Some(offset)) = (fits, offset) else {
        return Err(Error::shape(format!("shape {:?} can't be broadcast to {shape:?}", x.shape())));
    };
    if x.shape() == shape {
        return Ok(x.clone());
    }
    let strides = contiguous_strides(x.shape());
    let dims = shape.iter().enumerate().map(|(i, &extent)| match i.checked_sub(offset) {
        Some(j) if x.shape()[j] != 1 => (extent, strides[j] as isize),
        _ => (extent, 0),
    });
    Strided::new(0, dims).make(x, shape)
}

/// The tensor repeated `multiples[i]` times along dimension `i` (`tf.tile`).
///
/// # Errors
/// When there aren't as many multiples as dimensions, or the result is too large.
pub fn tile(x: &Tensor, multiples: &[usize]) -> Result<Tensor> {
    if multiples.len() != x.rank() {
        return Err(Error::value(format!("{} multiples for shape {:?}", multiples.len(), x.shape())));
    }
    let shape: Shape = multiples
        .iter()
        .zip(x.shape())
        .map(|(m, d)| m.checked_mul(*d).ok_or_else(|| Error::too_large(format!("{m} times {d} elements"))))
        .collect::<Result<_>>()?;
    if checked_elements(&shape)? == 0 {
        return Tensor::zeros(x.dtype(), &shape);
    }
    let strides = contiguous_strides(x.shape());
    let dims = (0..x.rank()).flat_map(|d| [(multiples[d], 0), (x.shape()[d], strides[d] as isize)]);
    Strided::new(0, dims).make(x, &shape)
}

/// An error unless every axis is under `rank`.
pub(super) fn check_axes(axes: &[usize], rank: usize) -> Result<()> {
    match axes.iter().find(|&&a| a >= rank) {
        Some(a) => Err(Error::value(format!("axis {a} is out of range for rank {rank}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, Axis, IxDyn};
    use proptest::prelude::*;

    use super::*;
    use crate::{Bool, Complex64, DType};

    fn counting(shape: &[usize]) -> (Tensor, ArrayD<i32>) {
        let n: usize = shape.iter().product();
        let t = Tensor::from_vec((0..n as i32).collect(), shape).expect("tensor");
        let a = t.to_array::<i32>().expect("array");
        (t, a)
    }

    fn same(got: Result<Tensor>, want: &ArrayD<i32>) {
        assert_eq!(&got.expect("result").to_array::<i32>().expect("i32"), want);
    }

    proptest! {
        #[test]
        fn transposing_is_ndarrays(dims in prop::collection::vec(0usize..6, 0..5), seed: u64) {
            let (t, a) = counting(&dims);
            let mut order: Vec<usize> = (0..dims.len()).collect();
            for i in (1..order.len()).rev() {
                order.swap(i, (seed >> (8 * i)) as usize % (i + 1));
            }
            same(transpose(&t, &order), &a.permuted_axes(IxDyn(&order)).as_standard_layout().into_owned());
        }

        #[test]
        fn slicing_is_indexing(dims in prop::collection::vec((1usize..6, 0usize..6, 0i64..6, 1i64..4, any::<bool>()), 0..4)) {
            let shape: Vec<usize> = dims.iter().map(|d| d.0).collect();
            let (t, a) = counting(&shape);
            let (mut begin, mut stride, mut extent) = (vec![], vec![], vec![]);
            let mut want = a;
            for (axis, &(n, _, from, step, back)) in dims.iter().enumerate() {
                let from = from % n as i64;
                let step = if back { -step } else { step };
                let indices: Vec<usize> =
                    (0..).map(|i| from + i * step).take_while(|i| (0..n as i64).contains(i)).map(|i| i as usize).collect();
                begin.push(from);
                stride.push(step);
                extent.push(indices.len());
                want = want.select(Axis(axis), &indices);
            }
            same(strided_slice(&t, &begin, &stride, &extent), &want);
        }

        #[test]
        fn tiling_repeats(dims in prop::collection::vec((0usize..4, 0usize..4), 0..4)) {
            let (shape, multiples): (Vec<_>, Vec<_>) = dims.into_iter().unzip();
            let (t, a) = counting(&shape);
            let mut want = a;
            for (axis, &m) in multiples.iter().enumerate() {
                let n = shape[axis];
                let indices: Vec<usize> = (0..m * n).map(|i| i % n).collect();
                want = want.select(Axis(axis), &indices);
            }
            same(tile(&t, &multiples), &want);
        }
    }

    #[test]
    fn large_matrices_transpose() {
        let (t, a) = counting(&[300, 411]);
        same(transpose(&t, &[1, 0]), &a.t().as_standard_layout().into_owned());
        let (t, a) = counting(&[7, 100, 90]);
        same(matrix_transpose(&t), &a.permuted_axes(IxDyn(&[0, 2, 1])).as_standard_layout().into_owned());
    }

    #[test]
    fn every_width_and_strings_move() {
        for &dtype in DType::ALL.iter().filter(|d| d.size().is_some()) {
            let bytes = (0..12 * dtype.size().expect("plain")).map(|b| b as u8).collect::<Vec<_>>();
            let t = Tensor::from_bytes(dtype, [3, 4], bytes.into()).expect("tensor");
            let back = transpose(&transpose(&t, &[1, 0]).expect("there"), &[1, 0]).expect("back");
            assert!(back.bit_eq(&t), "{dtype}");
        }
        let t = Tensor::from_strings([&b"a"[..], b"b", b"c", b"d"], [2, 2]).expect("strings");
        let got = transpose(&t, &[1, 0]).expect("transpose");
        assert_eq!(got.strings().expect("strings").iter().map(|s| s[0]).collect::<Vec<_>>(), *b"acbd");
        assert_eq!(&*slice(&t, &[1, 0], &[1, 1]).expect("slice").strings().expect("strings")[0], b"c");
    }

    #[test]
    fn a_run_shares_its_elements() {
        let (t, a) = counting(&[4, 3]);
        let part = slice(&t, &[1, 0], &[2, 3]).expect("slice");
        assert_eq!(part.bytes().expect("bytes").as_ptr(), t.bytes().expect("bytes")[12..].as_ptr());
        same(Ok(part), &a.select(Axis(0), &[1, 2]));
    }

    #[test]
    fn reversing_and_rolling() {
        let (t, a) = counting(&[3, 4]);
        same(reverse(&t, &[0]), &a.select(Axis(0), &[2, 1, 0]));
        same(reverse(&t, &[0, 1]), &a.select(Axis(0), &[2, 1, 0]).select(Axis(1), &[3, 2, 1, 0]));
        same(roll(&t, &[1, -5], &[0, 1]), &a.select(Axis(0), &[2, 0, 1]).select(Axis(1), &[1, 2, 3, 0]));
        same(roll(&t, &[i64::MIN], &[0]), &a.select(Axis(0), &[2, 0, 1]));
        assert!(reverse(&t, &[2]).is_err());
        assert_eq!(reverse(&Tensor::zeros(DType::F32, [0]).expect("empty"), &[0]).expect("empty").len(), 0);
    }

    #[test]
    fn broadcasting_repeats() {
        let (t, a) = counting(&[3, 1]);
        same(broadcast_to(&t, &[2, 3, 4]), &a.broadcast(IxDyn(&[2, 3, 4])).expect("fits").into_owned());
        assert!(broadcast_to(&t, &[3]).is_err() && broadcast_to(&t, &[4, 4]).is_err());
        let one = Tensor::scalar(Bool::TRUE);
        assert_eq!(broadcast_to(&one, &[0, 3]).expect("empty").shape(), [0, 3]);
        assert_eq!(broadcast_to(&Tensor::scalar(Complex64::ONE), &[5]).expect("five").len(), 5);
    }

    #[test]
    fn what_lies_outside_is_refused() {
        let (t, _) = counting(&[3, 4]);
        assert!(slice(&t, &[2, 0], &[2, 4]).is_err());
        assert!(slice(&t, &[usize::MAX, 0], &[2, 4]).is_err());
        assert!(strided_slice(&t, &[0, 0], &[i64::MAX, 1], &[3, 1]).is_err());
        assert!(strided_slice(&t, &[-1, 0], &[1, 1], &[1, 1]).is_err());
        assert!(strided_slice(&t, &[2, 0], &[i64::MAX, i64::MIN], &[1, 1]).is_ok());
        assert!(
            transpose(&t, &[0, 0]).is_err()
                && transpose(&t, &[0]).is_err()
                && transpose(&t, &[0, 2]).is_err()
        );
        assert!(tile(&t, &[usize::MAX, 1]).is_err());
    }
}
