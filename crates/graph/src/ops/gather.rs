//! Picking elements by index, and putting them.

use super::args::{all_tensors, axis, extents, int, many, map1, one, take, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array::{self, Scatter};
use crate::tensor::{Shape, Tensor};
use crate::{Error, Result};

/// The slices of `params` along `at` at `indices`; the first `batch_dims` dimensions go side by side.
fn gather(params: &Tensor, indices: &Tensor, at: Option<i64>, batch_dims: i64) -> Result<Values> {
    // A batch may have as many dimensions as the indices, which is one more than the last axis.
    let counted = if batch_dims < 0 { batch_dims.saturating_add_unsigned(indices.rank() as u64) } else { batch_dims };
    let batch_dims = usize::try_from(counted).ok().filter(|n| *n <= indices.rank());
    let batch_dims = batch_dims.ok_or_else(|| Error::compute(format!("batch_dims {counted} of {:?}", indices.shape())))?;
    let at = match at {
        Some(at) => axis(at, params.rank())?,
        None => batch_dims,
    };
    one(array::gather(params, indices, at, batch_dims)?)
}

fn scatter(how: Scatter) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [target, indices, updates] = tensors(inputs)?;
        one(array::scatter(target, &indices, &updates, how)?)
    }))
}

/// Puts slices of several tensors where their indices say; later ones win.
fn dynamic_stitch(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let all = all_tensors(inputs)?;
        let (indices, data) = all.split_at(all.len() / 2);
        let mut rest: Option<Shape> = None;
        let mut rows = Vec::new();
        let mut parts = Vec::new();
        for (i, d) in indices.iter().zip(data) {
            let slice = Shape::from(d.shape().get(i.rank()..).unwrap_or_default());
            if *rest.get_or_insert_with(|| slice.clone()) != slice || !d.shape().starts_with(i.shape()) {
                return Err(Error::compute(format!("indices {:?} don't fit data {:?}", i.shape(), d.shape())));
            }
            rows.extend(extents(&i.clone().reshape([i.len()])?, "an index")?);
            let mut flat: Shape = [i.len()].into_iter().collect();
            flat.extend(slice);
            parts.push(d.clone().reshape(flat)?);
        }
        let rest = rest.ok_or_else(|| Error::graph("takes at least one tensor"))?;
        let mut shape: Shape = [rows.iter().max().map_or(0, |m| m + 1)].into_iter().collect();
        shape.extend(rest);
        let data = array::concat(&parts.iter().collect::<Vec<_>>(), 0)?;
        let target = Tensor::zeros(data.dtype(), shape)?;
        let n = rows.len();
        let rows = super::args::ints(rows, crate::tensor::DType::I64)?.reshape([n, 1])?;
        one(array::scatter(target, &rows, &data, Scatter::Update)?)
    }))
}

/// The slices of a tensor sorted into several by number.
fn dynamic_partition(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let count = usize::try_from(a.int("num_partitions")?).unwrap_or_default();
    Ok(kernel(move |_, inputs| {
        let [data, parts] = tensors(inputs)?;
        if !data.shape().starts_with(parts.shape()) {
            return Err(Error::compute(format!("partitions {:?} don't fit {:?}", parts.shape(), data.shape())));
        }
        let mut flat: Shape = [parts.len()].into_iter().collect();
        flat.extend(data.shape()[parts.rank()..].iter().copied());
        let data = data.reshape(flat)?;
        let n = parts.len();
        let numbers = extents(&parts.reshape([n])?, "a partition")?;
        if let Some(odd) = numbers.iter().find(|p| **p >= count) {
            return Err(Error::compute(format!("partition {odd} is out of range for {count}")));
        }
        let pick = |p: usize| -> Result<Tensor> {
            let rows: Vec<i64> = (0..n).filter(|i| numbers[*i] == p).map(|i| i as i64).collect();
            let len = rows.len();
            Ok(array::gather(&data, &Tensor::from_vec(rows, [len])?, 0, 0)?)
        };
        many((0..count).map(pick).collect::<Result<Vec<_>>>()?)
    }))
}

fn top_k(x: &Tensor, k: i64, dtype: crate::tensor::DType) -> Result<Values> {
    let k = usize::try_from(k).map_err(|_| Error::compute(format!("k is {k}")))?;
    let (values, indices) = array::top_k(x, k)?;
    many([values, array::cast(&indices, dtype)?])
}

/// For each row of predictions whether its target is among the `k` greatest.
fn in_top_k(predictions: &Tensor, targets: &Tensor, k: i64) -> Result<Tensor> {
    let &[rows, classes] = predictions.shape() else {
        return Err(Error::compute(format!("predictions have rank 2, got shape {:?}", predictions.shape())));
    };
    let targets = targets.to_i64_vec()?;
    if targets.len() != rows {
        return Err(Error::compute(format!("{} targets don't go with {rows} rows", targets.len())));
    }
    let values = predictions.elements::<f32>()?;
    let among = |i: usize| {
        let row = &values[i * classes..(i + 1) * classes];
        let target = usize::try_from(targets[i]).ok().and_then(|t| row.get(t)).copied();
        // A target that is out of range, or anything not finite in its way, is a miss.
        let hit = target.filter(|t| t.is_finite() && row.iter().all(|v| v.is_finite()));
        crate::tensor::Bool::from(hit.is_some_and(|t| (row.iter().filter(|v| **v > t).count() as i64) < k))
    };
    Ok(Tensor::from_vec((0..rows).map(among).collect(), [rows])?)
}

/// Where values would go into sorted rows.
fn search(a: &NodeAttrs<'_>, right: bool) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("out_type")?;
    Ok(kernel(move |_, inputs| {
        let [sorted, values] = tensors(inputs)?;
        one(array::cast(&array::search_sorted(&sorted, &values, right)?, dtype)?)
    }))
}

/// Which of the intervals between `boundaries` each number is in.
fn bucketize(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let boundaries: Option<Vec<f32>> = a
        .get("boundaries")
        .and_then(|b| b.as_list())
        .and_then(|l| l.iter().map(crate::Attr::as_float).collect());
    let boundaries = boundaries.ok_or_else(|| Error::graph("attribute \"boundaries\" must list floats"))?;
    if !boundaries.is_sorted() {
        return Err(Error::graph("attribute \"boundaries\" must be sorted"));
    }
    map1(move |x| {
        let wide = array::cast(&x, crate::tensor::DType::F64)?;
        let bucket = |v: &f64| boundaries.partition_point(|b| f64::from(*b) <= *v || v.is_nan()) as i32;
        Tensor::from_vec(wide.elements::<f64>()?.iter().map(bucket).collect(), x.shape())
    })
}

/// The indices of elements that are counted in C order: a row for each of `dims`.
fn unravel(indices: &Tensor, dims: &Tensor) -> Result<Tensor> {
    if dims.rank() != 1 || indices.rank() > 1 {
        return Err(Error::compute(format!(
            "dims must be a vector and indices at most one, got shapes {:?} and {:?}",
            dims.shape(),
            indices.shape()
        )));
    }
    let extents = dims.to_i64_vec()?;
    if extents.contains(&0) {
        return Err(Error::compute("dims can't contain a dimension of 0"));
    }
    let numbers = indices.to_i64_vec()?;
    // From the innermost dimension, what is left being counted in the next one's steps.
    let mut left = numbers.clone();
    let mut rows: Vec<Vec<i64>> = Vec::new();
    for (d, extent) in extents.iter().enumerate().rev() {
        let outermost = d == 0;
        let split = |v: &mut i64| {
            let here = if outermost { *v } else { v.wrapping_rem(*extent) };
            *v = v.wrapping_div(*extent);
            here
        };
        rows.push(left.iter_mut().map(split).collect());
    }
    if let Some(at) = left.iter().position(|v| *v > 0) {
        return Err(Error::compute(format!("index {} is out of range for dims {extents:?}", numbers[at])));
    }
    rows.reverse();
    let shape: Shape = std::iter::once(extents.len()).chain(indices.shape().iter().copied()).collect();
    Ok(array::cast(&Tensor::from_vec(rows.concat(), shape)?, indices.dtype())?)
}

pub(super) const OPS: &[Op] = &[
    Op::new("Gather(params: Tparams, indices: Tindices) -> (output: Tparams); validate_indices: bool = true; Tparams: type; Tindices: type", |_| {
        Ok(kernel(|_, inputs| {
            let [params, indices] = tensors(inputs)?;
            gather(&params, &indices, None, 0)
        }))
    }),
    Op::new("GatherV2(params: Tparams, indices: Tindices, axis: Taxis) -> (output: Tparams); batch_dims: int = 0; Tparams: type; Tindices: type; Taxis: type", |a| {
        let batch_dims = a.int("batch_dims")?;
        Ok(kernel(move |_, inputs| {
            let [params, indices, at] = tensors(inputs)?;
            gather(&params, &indices, Some(int(&at, "the axis")?), batch_dims)
        }))
    }).ranks("_ _ 0"),
    Op::new("GatherNd(params: Tparams, indices: Tindices) -> (output: Tparams); Tparams: type; Tindices: type; bad_indices_policy: string = \"\"", |_| {
        Ok(kernel(|_, inputs| {
            let [params, indices] = tensors(inputs)?;
            one(array::gather_nd(&params, &indices, 0)?)
        }))
    }).ranks("1+"),
    Op::new("ResourceGather(resource: resource, indices: Tindices) -> (output: dtype); batch_dims: int = 0; validate_indices: bool = true; dtype: type; Tindices: type; stateful", |a| {
        let batch_dims = a.int("batch_dims")?;
        Ok(kernel(move |_, inputs| {
            let [handle, indices] = take(inputs)?;
            if batch_dims < 0 {
                return Err(Error::compute(format!("batch_dims is negative ({batch_dims})")));
            }
            gather(&handle.resource()?.variable()?.read()?, &indices.into_tensor()?, None, batch_dims)
        }))
    }),
    Op::new("ResourceGatherNd(resource: resource, indices: Tindices) -> (output: dtype); dtype: type; Tindices: type; stateful", |_| {
        Ok(kernel(|_, inputs| {
            let [handle, indices] = take(inputs)?;
            one(array::gather_nd(&handle.resource()?.variable()?.read()?, &indices.into_tensor()?, 0)?)
        }))
    }),
    Op::new("ScatterNd(indices: Tindices, updates: T, shape: Tindices) -> (output: T); T: type; Tindices: type; bad_indices_policy: string = \"\"", |_| {
        Ok(kernel(|_, inputs| {
            let [indices, updates, shape] = tensors(inputs)?;
            one(array::scatter_nd(&indices, &updates, &extents(&shape, "the shape")?)?)
        }))
    }).ranks("2+"),
    Op::new("TensorScatterUpdate(tensor: T, indices: Tindices, updates: T) -> (output: T); T: type; Tindices: type; bad_indices_policy: string = \"\"", |_| scatter(Scatter::Update)).ranks("_ 2+"),
    Op::new("TensorScatterAdd(tensor: T, indices: Tindices, updates: T) -> (output: T); T: type; Tindices: type; bad_indices_policy: string = \"\"", |_| scatter(Scatter::Add)).ranks("_ 2+"),
    Op::new("TensorScatterSub(tensor: T, indices: Tindices, updates: T) -> (output: T); T: type; Tindices: type; bad_indices_policy: string = \"\"", |_| scatter(Scatter::Sub)).ranks("_ 2+"),
    Op::new("TensorScatterMax(tensor: T, indices: Tindices, updates: T) -> (output: T); T: type; Tindices: type; bad_indices_policy: string = \"\"", |_| scatter(Scatter::Max)).ranks("_ 2+"),
    Op::new("TensorScatterMin(tensor: T, indices: Tindices, updates: T) -> (output: T); T: type; Tindices: type; bad_indices_policy: string = \"\"", |_| scatter(Scatter::Min)).ranks("_ 2+"),
    Op::new("DynamicStitch(indices: N * int32, data: N * T) -> (merged: T); N: int; T: type", dynamic_stitch),
    Op::new("ParallelDynamicStitch(indices: N * int32, data: N * T) -> (merged: T); N: int; T: type", dynamic_stitch),
    Op::new("DynamicPartition(data: T, partitions: int32) -> (outputs: num_partitions * T); num_partitions: int; T: type", dynamic_partition),
    Op::new("TopK(input: T) -> (values: T, indices: int32); k: int; sorted: bool = true; T: type", |a| {
        let k = a.int("k")?;
        Ok(kernel(move |_, inputs| {
            let [x] = tensors(inputs)?;
            top_k(&x, k, crate::tensor::DType::I32)
        }))
    }),
    Op::new("TopKV2(input: T, k: Tk) -> (values: T, indices: index_type); sorted: bool = true; T: type; Tk: type = int32; index_type: type = int32", |a| {
        let dtype = a.dtype("index_type")?;
        Ok(kernel(move |_, inputs| {
            let [x, k] = tensors(inputs)?;
            top_k(&x, int(&k, "k")?, dtype)
        }))
    }).ranks("1+ 0"),
    Op::new("InTopK(predictions: float32, targets: T) -> (precision: bool); k: int; T: type = int32", |a| {
        let k = a.int("k")?;
        Ok(kernel(move |_, inputs| {
            let [predictions, targets] = tensors(inputs)?;
            one(in_top_k(&predictions, &targets, k)?)
        }))
    }),
    Op::new("InTopKV2(predictions: float32, targets: T, k: T) -> (precision: bool); T: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let [predictions, targets, k] = tensors(inputs)?;
            one(in_top_k(&predictions, &targets, int(&k, "k")?)?)
        }))
    }),
    Op::new("LowerBound(sorted_inputs: T, values: T) -> (output: out_type); T: type; out_type: type = int32", |a| search(a, false)).ranks("2 2"),
    Op::new("UpperBound(sorted_inputs: T, values: T) -> (output: out_type); T: type; out_type: type = int32", |a| search(a, true)).ranks("2 2"),
    Op::new("Bucketize(input: T) -> (output: int32); T: type; boundaries: list(float)", bucketize),
    Op::new("Bincount(arr: int32, size: int32, weights: T) -> (bins: T); T: type", |_| {
        Ok(kernel(|_, inputs| {
            let [x, size, weights] = tensors(inputs)?;
            let size = usize::try_from(int(&size, "the size")?).map_err(|_| Error::compute("the size is negative"))?;
            let (n, flat) = (x.len(), weights.len());
            one(array::bin_count(&x.reshape([n])?, size, &weights.reshape([flat])?, false)?)
        }))
    }).ranks("_ 0"),
    Op::new("DenseBincount(input: Tidx, size: Tidx, weights: T) -> (output: T); Tidx: type; T: type; binary_output: bool = false", |a| {
        let binary = a.bool("binary_output")?;
        Ok(kernel(move |_, inputs| {
            let [x, size, weights] = tensors(inputs)?;
            let size = usize::try_from(int(&size, "the size")?).map_err(|_| Error::compute("the size is negative"))?;
            one(array::bin_count(&x, size, &weights, binary)?)
        }))
    }).ranks("_ 0"),
    Op::new("UnravelIndex(indices: Tidx, dims: Tidx) -> (output: Tidx); Tidx: type = int32", |_| Ok(kernel(|_, inputs| { let [indices, dims] = tensors(inputs)?; one(unravel(&indices, &dims)?) }))),
];
