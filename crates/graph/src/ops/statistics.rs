//! Order statistics, histograms and what else is fitted to data without a model.

use super::args::{axis, int, many, map1, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::{array, elementwise as e};
use crate::tensor::{DType, Shape, Tensor};
use crate::{Error, Result};

fn nth_element(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let reverse = a.bool("reverse")?;
    Ok(kernel(move |_, inputs| {
        let [x, n] = tensors(inputs)?;
        let n = int(&n, "n")?;
        let n = usize::try_from(n).map_err(|_| Error::compute(format!("n must not be negative, got {n}")))?;
        one(array::nth_element(&x, n, reverse)?)
    }))
}

/// The greatest or least along one dimension, which are found exactly here.
fn approximate_top_k(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (k, along, greatest) = (a.int("k")?, a.int("reduction_dimension")?, a.bool("is_max_k")?);
    let k = usize::try_from(k).map_err(|_| Error::graph(format!("k is {k}")))?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let along = axis(along, x.rank())?;
        let last = x.rank() - 1;
        let mut swap: Shape = (0..x.rank()).collect();
        swap.swap(along, last);
        let x = array::transpose(&if greatest { x } else { e::neg(x)? }, &swap)?;
        let (values, indices) = array::top_k(&x, k)?;
        let values = array::transpose(&values, &swap)?;
        many([if greatest { values } else { e::neg(values)? }, array::transpose(&indices, &swap)?])
    }))
}

/// How many values fall into each of as many bins of one width; those beyond fall into the outermost.
fn histogram(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("dtype")?;
    Ok(kernel(move |_, inputs| {
        let [values, range, bins] = tensors(inputs)?;
        let bins = int(&bins, "nbins")?;
        let count = usize::try_from(bins).ok().filter(|n| *n > 0);
        let count = count.ok_or_else(|| Error::compute(format!("nbins must be positive, got {bins}")))?;
        if range.shape() != [2] {
            return Err(Error::compute(format!("value_range has two elements, got shape {:?}", range.shape())));
        }
        let ends = array::unstack(&range, 0)?;
        let [low, high] = &ends[..] else { return Err(Error::compute("value_range has two elements")) };
        let number = |t: &Tensor| array::cast(t, DType::F64)?.item::<f64>();
        let width = number(&e::sub(high.clone(), low.clone())?)? / count as f64;
        if !(width > 0.0 && width.is_finite()) {
            return Err(Error::compute("value_range must be finite and rise"));
        }
        let over = e::sub(e::maximum(values, low.clone())?, low.clone())?;
        let over = array::cast(&over, DType::F64)?;
        let mut out = Tensor::zeros(DType::I64, [count])?;
        let slots = out.make_mut::<i64>()?;
        for v in &*over.elements::<f64>()? {
            if v.is_nan() {
                return Err(Error::compute("histogram values must not contain NaN"));
            }
            slots[((v / width) as usize).min(count - 1)] += 1;
        }
        one(array::cast(&out, dtype)?)
    }))
}

/// The nearest centers of each point, with their squared distances.
fn nearest(points: &Tensor, centers: &Tensor, k: i64, check: impl Fn() -> Result<()>) -> Result<Values> {
    let (&[n, width], &[m, depth]) = (points.shape(), centers.shape()) else {
        return Err(Error::compute(format!("points {:?} and centers {:?} aren't matrices", points.shape(), centers.shape())));
    };
    if width != depth {
        return Err(Error::compute(format!("points of {width} dimensions and centers of {depth}")));
    }
    let k = usize::try_from(k).map_err(|_| Error::compute(format!("k must not be negative, got {k}")))?.min(m);
    let (p, c) = (points.elements::<f32>()?, centers.elements::<f32>()?);
    let (mut indices, mut distances) = (Tensor::zeros(DType::I64, [n, k])?, Tensor::zeros(DType::F32, [n, k])?);
    if k == 0 {
        return many([indices, distances]);
    }
    let (to, near) = (indices.make_mut::<i64>()?, distances.make_mut::<f32>()?);
    for (i, (to, near)) in to.chunks_mut(k).zip(near.chunks_mut(k)).enumerate() {
        check()?;
        let point = &p[i * width..][..width];
        let distance = |j: usize| -> f32 { point.iter().zip(&c[j * width..]).map(|(a, b)| (a - b) * (a - b)).sum() };
        let mut all: Vec<(f32, usize)> = (0..m).map(|j| (distance(j), j)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        for ((to, near), (d, j)) in to.iter_mut().zip(near).zip(all) {
            (*to, *near) = (j as i64, d);
        }
    }
    many([indices, distances])
}

fn nearest_neighbors() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|context, inputs| {
        let [points, centers, k] = tensors(inputs)?;
        nearest(&points, &centers, int(&k, "k")?, || context.check())
    }))
}

/// The falling sequence nearest to each row in the last dimension, and which of its elements were pooled.
fn isotonic(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("output_dtype")?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let shape = Shape::from(x.shape());
        let n = shape.last().copied().unwrap_or(1);
        let x = array::cast(&x, DType::F64)?;
        let (mut out, mut segments) = (Tensor::zeros(DType::F64, &shape)?, Tensor::zeros(DType::I32, &shape)?);
        let (to, ids) = (out.make_mut::<f64>()?, segments.make_mut::<i32>()?);
        for (i, row) in x.elements::<f64>()?.chunks(n.max(1)).enumerate() {
            // Pools of neighbours: their sum and their number.
            let mut pools: Vec<(f64, usize)> = Vec::new();
            for v in row {
                let mut pool = (*v, 1);
                while let Some((sum, len)) = pools.pop_if(|(sum, len)| *sum / (*len as f64) < pool.0 / pool.1 as f64) {
                    pool = (pool.0 + sum, pool.1 + len);
                }
                pools.push(pool);
            }
            let mut at = i * n;
            for (id, (sum, len)) in pools.into_iter().enumerate() {
                to[at..at + len].fill(sum / len as f64);
                ids[at..at + len].fill(id as i32);
                at += len;
            }
        }
        many([array::cast(&out, dtype)?, segments])
    }))
}

/// What a calibration for quantizing gathers: the tensor as it is, its ends, and how often its values fall into bins whose
/// width is a power of two.
fn aggregate(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (method, bins) = (a.int("calibration_method")?, a.int("num_bins")?);
    if method == 0 {
        return Err(Error::graph("attribute \"calibration_method\" must be specified"));
    }
    let bins = usize::try_from(bins).map_err(|_| Error::graph(format!("there can't be {bins} bins")))?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let mut counts = Tensor::zeros(DType::I64, [bins])?;
        let values = x.elements::<f32>()?;
        let least = values.iter().copied().reduce(f32::min).unwrap_or(f32::INFINITY);
        let most = values.iter().copied().reduce(f32::max).unwrap_or(f32::NEG_INFINITY);
        if let Some(last) = bins.checked_sub(1) {
            let width = ((most - least) / bins as f32).log2().ceil().exp2();
            let start = (least / width).floor() * width;
            let slots = counts.make_mut::<i64>()?;
            for v in values.iter() {
                // All values are the same where the width is 0, which makes this NaN, and that the first bin.
                slots[(((v - start) / width) as usize).min(last)] += 1;
            }
        }
        many([x.clone(), Tensor::scalar(least), Tensor::scalar(most), counts])
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("CustomAggregator(input: float32) -> (output: float32, min: float32, max: float32, histogram: int64); id: string; calibration_method: int = 0; num_bins: int = 0; min_percentile: float = 0; max_percentile: float = 0", aggregate),
    Op::new("NthElement(input: T, n: int32) -> (values: T); reverse: bool = false; T: type", nth_element).ranks("1+ 0"),
    Op::new("ApproxTopK(input: T) -> (values: T, indices: int32); k: int; reduction_dimension: int = -1; recall_target: float = 0.95; is_max_k: bool = true; reduction_input_size_override: int = -1; aggregate_to_topk: bool = true; T: type", approximate_top_k),
    Op::new("HistogramFixedWidth(values: T, value_range: T, nbins: int32) -> (out: dtype); T: type; dtype: type = int32", histogram),
    Op::new("PopulationCount(x: T) -> (y: uint8); T: type", |_| map1(|x| e::population_count(&x))),
    Op::new("IsotonicRegression(input: T) -> (output: output_dtype, segments: int32); T: type; output_dtype: type = float32", isotonic),
    Op::new("NearestNeighbors(points: float32, centers: float32, k: int64) -> (nearest_center_indices: int64, nearest_center_distances: float32)", |_| nearest_neighbors()),
];
