//! Combining slices that belong together: segments, sorted or not, of all slices or of those picked by index.

use super::args::{extents, int, many, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array::{self, Scatter};
use crate::tensor::kernels::elementwise as e;
use crate::tensor::{self, ByteString, DType, Shape, Tensor, dispatch};
use crate::{Error, Result};

/// How the slices of a segment become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Combine {
    Sum,
    Mean,
    /// The sum over the square root of their number.
    SqrtN,
    Prod,
    Min,
    Max,
}

impl Combine {
    fn scatter(self) -> Scatter {
        match self {
            Combine::Sum | Combine::Mean | Combine::SqrtN => Scatter::Add,
            Combine::Prod => Scatter::Mul,
            Combine::Min => Scatter::Min,
            Combine::Max => Scatter::Max,
        }
    }

    /// What combined with any number leaves it as it is.
    fn neutral(self, dtype: DType) -> tensor::Result<Tensor> {
        let bound = |least: bool| {
            dispatch!(real dtype, T => Ok(Tensor::scalar(if least { T::MIN } else { T::MAX })),
                else => Err(tensor::Error::dtype("a real number's", dtype)))
        };
        match self {
            Combine::Prod => array::cast(&Tensor::scalar(1.0f32), dtype),
            Combine::Min => bound(false),
            Combine::Max => bound(true),
            _ => Tensor::zeros(dtype, []),
        }
    }
}

/// `data`'s slices under `lead` dimensions, one after another.
fn rows(data: &Tensor, lead: usize) -> Result<Tensor> {
    let (outer, inner) = data.shape().split_at(lead);
    let shape: Shape = [tensor::checked_elements(outer)?].into_iter().chain(inner.iter().copied()).collect();
    Ok(data.clone().reshape(shape)?)
}

fn column(values: Vec<i64>) -> Result<Tensor> {
    let n = values.len();
    Ok(Tensor::from_vec(values, [n, 1])?)
}

/// The rows of `data` combined by the segment that each belongs to; what no row belongs to is `start`.
fn combine(data: &Tensor, ids: Vec<i64>, count: usize, how: Combine, start: &Tensor) -> Result<Tensor> {
    let mut shape = Shape::from(data.shape());
    if let Some(first) = shape.first_mut() {
        *first = count;
    }
    let target = array::fill(&shape, start)?;
    Ok(array::scatter(target, &column(ids)?, data, how.scatter())?)
}

/// How often each segment occurs, as what sums of `how` are divided by, in a shape that broadcasts with slices.
fn divisor(ids: &[usize], count: usize, how: Combine, dtype: DType, rank: usize) -> Result<Tensor> {
    let mut times = Tensor::zeros(DType::F64, [count])?;
    let slots = times.make_mut::<f64>()?;
    for id in ids {
        if let Some(slot) = slots.get_mut(*id) {
            *slot += 1.0;
        }
    }
    for t in slots {
        *t = if how == Combine::SqrtN { t.max(1.0).sqrt() } else { t.max(1.0) };
    }
    let mut shape: Shape = std::iter::repeat_n(1, rank.max(1)).collect();
    shape[0] = count;
    Ok(array::cast(&times, dtype)?.reshape(shape)?)
}

/// Half precision is combined in `float32`, so that means are rounded once.
fn wide(dtype: DType) -> DType {
    if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype }
}

/// Segment numbers that never fall, each under `count` where that is given, else up to whatever comes last.
fn sorted_ids(ids: &Tensor, count: Option<usize>) -> Result<(Vec<usize>, usize)> {
    let ids = extents(ids, "segment_ids")?;
    if let Some(at) = ids.windows(2).position(|w| w[0] > w[1]) {
        return Err(Error::compute(format!("segment ids are not increasing: {} then {}", ids[at], ids[at + 1])));
    }
    let last = ids.last().copied();
    if let (Some(last), Some(count)) = (last.filter(|l| Some(*l) >= count), count) {
        return Err(Error::compute(format!("segment id {last} is not under num_segments {count}")));
    }
    let count = count.or_else(|| last.map_or(Some(0), |l| l.checked_add(1)));
    Ok((ids, count.ok_or_else(|| Error::compute("a segment id is too large"))?))
}

fn as_i64(ids: &[usize]) -> Vec<i64> {
    ids.iter().map(|i| *i as i64).collect()
}

/// Sums of `how`'s kind, divided as it says.
fn reduce_sorted(data: &Tensor, ids: &[usize], count: usize, how: Combine) -> Result<Tensor> {
    let dtype = data.dtype();
    let data = array::cast(data, wide(dtype))?;
    // What gaps between segments hold: the empty product is 1, everything else 0.
    let start = if how == Combine::Prod { how.neutral(data.dtype())? } else { Tensor::zeros(data.dtype(), [])? };
    let mut out = if matches!(how, Combine::Min | Combine::Max) {
        // Infinity stays where a segment has nothing else.
        let end = if how == Combine::Min { f32::INFINITY } else { f32::NEG_INFINITY };
        let from = if data.dtype().is_float() { array::cast(&Tensor::scalar(end), data.dtype())? } else { how.neutral(data.dtype())? };
        let reduced = combine(&data, as_i64(ids), count, how, &from)?;
        let mut seen = vec![false; count];
        ids.iter().for_each(|i| seen[*i] = true);
        let mut shape: Shape = std::iter::repeat_n(1, data.rank()).collect();
        shape[0] = count;
        let seen = Tensor::from_vec(seen.into_iter().map(tensor::Bool::from).collect(), shape)?;
        array::select(&seen, &reduced, &start)?
    } else {
        combine(&data, as_i64(ids), count, how, &start)?
    };
    if matches!(how, Combine::Mean | Combine::SqrtN) {
        out = e::div(out, divisor(ids, count, how, data.dtype(), data.rank())?)?;
    }
    Ok(array::cast(&out, dtype)?)
}

/// `SegmentSum` and its kin.
fn sorted(how: Combine) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [data, ids] = tensors(inputs)?;
        let (ids, count) = sorted_ids(&ids, None)?;
        fits(&data, ids.len(), "segment_ids")?;
        one(reduce_sorted(&data, &ids, count, how)?)
    }))
}

fn fits(data: &Tensor, n: usize, what: &str) -> Result<()> {
    if data.shape().first() == Some(&n) {
        return Ok(());
    }
    Err(Error::compute(format!("{n} {what} for slices of shape {:?}", data.shape())))
}

/// `UnsortedSegmentSum` and its kin: negative segments are dropped. The newest sorted ones mean the same.
fn unsorted(how: Combine) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [data, ids, count] = tensors(inputs)?;
        let (ids, count) = unsorted_ids(&data, &ids, &count)?;
        let data = rows(&data, ids.1)?;
        let kept: Vec<i64> = (0..ids.0.len()).filter(|i| ids.0[*i] >= 0).map(|i| i as i64).collect();
        let ids: Vec<i64> = ids.0.into_iter().filter(|i| *i >= 0).collect();
        let n = kept.len();
        let data = if data.shape().first() == Some(&n) { data } else { array::gather(&data, &Tensor::from_vec(kept, [n])?, 0, 0)? };
        one(combine(&data, ids, count, how, &how.neutral(data.dtype())?)?)
    }))
}

/// Segment numbers with the number of dimensions that they have, and how many segments there are.
fn unsorted_ids(data: &Tensor, ids: &Tensor, count: &Tensor) -> Result<((Vec<i64>, usize), usize)> {
    let count = int(count, "num_segments")?;
    let count = usize::try_from(count).map_err(|_| Error::compute(format!("num_segments {count} must not be negative")))?;
    if !data.shape().starts_with(ids.shape()) {
        return Err(Error::compute(format!("segment_ids of shape {:?} for data of {:?}", ids.shape(), data.shape())));
    }
    let numbers = ids.to_i64_vec()?;
    // Where segments are empty, nobody looks at their numbers.
    if data.is_empty() {
        return Ok(((numbers.into_iter().map(|i| if i < count as i64 { i } else { -1 }).collect(), ids.rank()), count));
    }
    if let Some(odd) = numbers.iter().find(|i| usize::try_from(**i).is_ok_and(|i| i >= count)) {
        return Err(Error::compute(format!("segment id {odd} is out of range for {count} segments")));
    }
    Ok(((numbers, ids.rank()), count))
}

/// Strings of a segment joined.
fn join(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let separator = a.str("separator")?.as_bytes().to_vec();
    Ok(kernel(move |_, inputs| {
        let [data, ids, count] = tensors(inputs)?;
        let ((ids, lead), count) = unsorted_ids(&data, &ids, &count)?;
        let data = rows(&data, lead)?;
        let mut shape = Shape::from(data.shape());
        shape[0] = count;
        let width = tensor::checked_elements(&data.shape()[1..])?;
        let mut parts: Vec<Vec<&ByteString>> = vec![Vec::new(); tensor::checked_elements(&shape)?];
        let strings = data.strings()?;
        for (row, id) in ids.into_iter().enumerate() {
            let id = usize::try_from(id).map_err(|_| Error::compute(format!("segment id {id} is negative")))?;
            (0..width).for_each(|j| parts[id * width + j].push(&strings[row * width + j]));
        }
        let joined = parts.into_iter().map(|p| p.into_iter().map(|s| &s[..]).collect::<Vec<_>>().join(&separator[..]));
        one(Tensor::from_strings(joined, shape)?)
    }))
}

/// `SparseSegmentSum` and its kin: of the slices of `data` that `indices` pick.
fn picked(how: Combine, counted: bool) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let (data, indices, ids, count) = if counted {
            let [data, indices, ids, count] = tensors(inputs)?;
            let count = int(&count, "num_segments")?;
            let count = usize::try_from(count).map_err(|_| Error::compute(format!("num_segments is {count}")))?;
            (data, indices, ids, Some(count))
        } else {
            let [data, indices, ids] = tensors(inputs)?;
            (data, indices, ids, None)
        };
        let (ids, count) = sorted_ids(&ids, count)?;
        fits(&indices, ids.len(), "segment_ids")?;
        let data = array::gather(&data, &indices, 0, 0)?;
        one(reduce_sorted(&data, &ids, count, how)?)
    }))
}

/// The gradient of [`picked`] for its data: dense, or only the rows that `indices` name, and these.
fn picked_grad(how: Combine, dense: bool) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [grad, indices, ids, rows] = tensors(inputs)?;
        let dtype = grad.dtype();
        let index_dtype = indices.dtype();
        let rows = int(&rows, "the number of rows")?;
        let rows = usize::try_from(rows).map_err(|_| Error::compute(format!("the number of rows is {rows}")))?;
        if ids.shape() != indices.shape() {
            return Err(Error::compute(format!("{} segment_ids for {} indices", ids.len(), indices.len())));
        }
        if rows == 0 {
            // Nobody looks at the numbers then.
            let mut shape = Shape::from(grad.shape());
            shape.first_mut().map(|n| *n = 0).ok_or_else(|| Error::compute("a scalar has no segments"))?;
            let out = Tensor::zeros(dtype, &shape)?;
            return if dense { one(out) } else { pair(out, super::args::ints([], index_dtype)?) };
        }
        let (ids, indices) = (extents(&ids, "segment_ids")?, extents(&indices, "indices")?);
        if let Some(odd) = indices.iter().find(|i| **i >= rows) {
            return Err(Error::compute(format!("index {odd} is out of range for {rows} rows")));
        }
        let Some(&count) = grad.shape().first() else { return Err(Error::compute("a scalar has no segments")) };
        let mut grad = array::cast(&grad, wide(dtype))?;
        if how != Combine::Sum {
            let divisor = divisor(&ids, count, how, grad.dtype(), grad.rank())?;
            grad = e::div(grad, divisor)?;
        }
        let n = ids.len();
        let spread = array::gather(&grad, &Tensor::from_vec(as_i64(&ids), [n])?, 0, 0)?;
        let zero = Tensor::zeros(spread.dtype(), [])?;
        if dense {
            let out = combine(&spread, as_i64(&indices), rows, Combine::Sum, &zero)?;
            return one(array::cast(&out, dtype)?);
        }
        let mut distinct = indices.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let places = indices.iter().map(|i| distinct.partition_point(|d| d < i) as i64).collect();
        let out = combine(&spread, places, distinct.len(), Combine::Sum, &zero)?;
        pair(array::cast(&out, dtype)?, super::args::ints(distinct, index_dtype)?)
    }))
}

fn pair(a: Tensor, b: Tensor) -> Result<Values> {
    many([a, b])
}

pub(super) const OPS: &[Op] = &[
    Op::new("SegmentSum(data: T, segment_ids: Tindices) -> (output: T); T: type; Tindices: type", |_| sorted(Combine::Sum)).ranks("_ 1"),
    Op::new("SegmentMean(data: T, segment_ids: Tindices) -> (output: T); T: type; Tindices: type", |_| sorted(Combine::Mean)).ranks("_ 1"),
    Op::new("SegmentProd(data: T, segment_ids: Tindices) -> (output: T); T: type; Tindices: type", |_| sorted(Combine::Prod)).ranks("_ 1"),
    Op::new("SegmentMin(data: T, segment_ids: Tindices) -> (output: T); T: type; Tindices: type", |_| sorted(Combine::Min)).ranks("_ 1"),
    Op::new("SegmentMax(data: T, segment_ids: Tindices) -> (output: T); T: type; Tindices: type", |_| sorted(Combine::Max)).ranks("_ 1"),
    Op::new("SegmentSumV2(data: T, segment_ids: Tindices, num_segments: Tnumsegments) -> (output: T); T: type; Tindices: type; Tnumsegments: type = int32", |_| unsorted(Combine::Sum)),
    Op::new("UnsortedSegmentSum(data: T, segment_ids: Tindices, num_segments: Tnumsegments) -> (output: T); T: type; Tindices: type; Tnumsegments: type = int32", |_| unsorted(Combine::Sum)).ranks("_ _ 0"),
    Op::new("SegmentProdV2(data: T, segment_ids: Tindices, num_segments: Tnumsegments) -> (output: T); T: type; Tindices: type; Tnumsegments: type = int32", |_| unsorted(Combine::Prod)),
    Op::new("UnsortedSegmentProd(data: T, segment_ids: Tindices, num_segments: Tnumsegments) -> (output: T); T: type; Tindices: type; Tnumsegments: type = int32", |_| unsorted(Combine::Prod)).ranks("_ _ 0"),
    Op::new("SegmentMinV2(data: T, segment_ids: Tindices, num_segments: Tnumsegments) -> (output: T); T: type; Tindices: type; Tnumsegments: type = int32", |_| unsorted(Combine::Min)),
    Op::new("UnsortedSegmentMin(data: T, segment_ids: Tindices, num_segments: Tnumsegments) -> (output: T); T: type; Tindices: type; Tnumsegments: type = int32", |_| unsorted(Combine::Min)).ranks("_ _ 0"),
    Op::new("SegmentMaxV2(data: T, segment_ids: Tindices, num_segments: Tnumsegments) -> (output: T); T: type; Tindices: type; Tnumsegments: type = int32", |_| unsorted(Combine::Max)),
    Op::new("UnsortedSegmentMax(data: T, segment_ids: Tindices, num_segments: Tnumsegments) -> (output: T); T: type; Tindices: type; Tnumsegments: type = int32", |_| unsorted(Combine::Max)).ranks("_ _ 0"),
    Op::new("SparseSegmentSum(data: T, indices: Tidx, segment_ids: Tsegmentids) -> (output: T); T: type; Tidx: type = int32; Tsegmentids: type = int32; sparse_gradient: bool = false", |_| picked(Combine::Sum, false)).ranks("1+ 1 1"),
    Op::new("SparseSegmentSumWithNumSegments(data: T, indices: Tidx, segment_ids: Tsegmentids, num_segments: Tnumsegments) -> (output: T); T: type; Tidx: type = int32; Tnumsegments: type = int32; Tsegmentids: type = int32; sparse_gradient: bool = false", |_| picked(Combine::Sum, true)).ranks("1+ 1 1"),
    Op::new("SparseSegmentSumGrad(grad: T, indices: Tidx, segment_ids: Tsegmentids, output_dim0: int32) -> (output: T); T: type; Tidx: type = int32; Tsegmentids: type = int32", |_| picked_grad(Combine::Sum, true)).ranks("_ 1 1 0"),
    Op::new("SparseSegmentSumGradV2(grad: T, indices: Tidx, segment_ids: Tsegmentids, dense_output_dim0: int32) -> (output: T, sorted_unique_indices: Tidx); T: type; Tidx: type = int32; Tsegmentids: type = int32", |_| picked_grad(Combine::Sum, false)).ranks("_ 1 1 0"),
    Op::new("SparseSegmentMean(data: T, indices: Tidx, segment_ids: Tsegmentids) -> (output: T); T: type; Tidx: type = int32; Tsegmentids: type = int32; sparse_gradient: bool = false", |_| picked(Combine::Mean, false)).ranks("1+ 1 1"),
    Op::new("SparseSegmentMeanWithNumSegments(data: T, indices: Tidx, segment_ids: Tsegmentids, num_segments: Tnumsegments) -> (output: T); T: type; Tidx: type = int32; Tnumsegments: type = int32; Tsegmentids: type = int32; sparse_gradient: bool = false", |_| picked(Combine::Mean, true)).ranks("1+ 1 1"),
    Op::new("SparseSegmentMeanGrad(grad: T, indices: Tidx, segment_ids: Tsegmentids, output_dim0: int32) -> (output: T); T: type; Tidx: type = int32; Tsegmentids: type = int32", |_| picked_grad(Combine::Mean, true)).ranks("_ 1 1 0"),
    Op::new("SparseSegmentMeanGradV2(grad: T, indices: Tidx, segment_ids: Tsegmentids, dense_output_dim0: int32) -> (output: T, sorted_unique_indices: Tidx); T: type; Tidx: type = int32; Tsegmentids: type = int32", |_| picked_grad(Combine::Mean, false)).ranks("_ 1 1 0"),
    Op::new("SparseSegmentSqrtN(data: T, indices: Tidx, segment_ids: Tsegmentids) -> (output: T); T: type; Tidx: type = int32; Tsegmentids: type = int32; sparse_gradient: bool = false", |_| picked(Combine::SqrtN, false)).ranks("1+ 1 1"),
    Op::new("SparseSegmentSqrtNWithNumSegments(data: T, indices: Tidx, segment_ids: Tsegmentids, num_segments: Tnumsegments) -> (output: T); T: type; Tidx: type = int32; Tnumsegments: type = int32; Tsegmentids: type = int32; sparse_gradient: bool = false", |_| picked(Combine::SqrtN, true)).ranks("1+ 1 1"),
    Op::new("SparseSegmentSqrtNGrad(grad: T, indices: Tidx, segment_ids: Tsegmentids, output_dim0: int32) -> (output: T); T: type; Tidx: type = int32; Tsegmentids: type = int32", |_| picked_grad(Combine::SqrtN, true)).ranks("_ 1 1 0"),
    Op::new("SparseSegmentSqrtNGradV2(grad: T, indices: Tidx, segment_ids: Tsegmentids, dense_output_dim0: int32) -> (output: T, sorted_unique_indices: Tidx); T: type; Tidx: type = int32; Tsegmentids: type = int32", |_| picked_grad(Combine::SqrtN, false)).ranks("_ 1 1 0"),
    Op::new("UnsortedSegmentJoin(inputs: string, segment_ids: Tindices, num_segments: Tnumsegments) -> (output: string); separator: string = \"\"; Tindices: type; Tnumsegments: type = int32", join),
];
