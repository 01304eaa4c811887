//! Sparse tensors: ordering, cutting, joining, filling up.

use std::collections::HashMap;

use super::args::{all_tensors, axis, int, many, one, tensors};
use super::coordinates::{Coordinates, Sparse, extents, pick, vector};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array::{self, Scatter};
use crate::tensor::kernels::reduce;
use crate::tensor::{Bool, Tensor};
use crate::{Error, Result};

fn to_dense(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let validate = a.bool("validate_indices")?;
    Ok(kernel(move |_, inputs| {
        let [indices, shape, values, default] = tensors(inputs)?;
        let extents = super::args::extents(&shape, "output_shape")?;
        // One index alone, or one a row in a single dimension, may come without the dimensions that say so.
        let indices = match *indices.shape() {
            [] => indices.reshape([1, 1])?,
            [n] => indices.reshape([n, 1])?,
            _ => indices,
        };
        let places = Coordinates::of(&indices)?;
        if places.rank() != extents.len() {
            return Err(Error::compute(format!("indices of {} numbers for {} dimensions", places.rank(), extents.len())));
        }
        places.check(&shape.to_i64_vec()?, validate)?;
        let values = array::broadcast_to(&values, &[places.len()])?;
        one(array::scatter(array::fill(&extents, &default)?, &indices, &values, Scatter::Update)?)
    }))
}

fn reorder() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [indices, values, shape] = tensors(inputs)?;
        let [indices, values, _] = Sparse::of(&indices, values, &shape)?.sorted()?.tensors()?;
        many([indices, values])
    }))
}

/// What an extent's neighbours are apart, in elements.
fn strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1i64; shape.len()];
    for d in (1..shape.len()).rev() {
        strides[d - 1] = strides[d].saturating_mul(shape[d].max(1));
    }
    strides
}

fn reshape(indices: &Tensor, shape: &Tensor, wanted: &Tensor) -> Result<Values> {
    let places = Coordinates::of(indices)?;
    let (shape, mut wanted) = (shape.to_i64_vec()?, wanted.to_i64_vec()?);
    let product = |s: &[i64]| s.iter().try_fold(1i64, |n, d| n.checked_mul(*d));
    let refuse = || Error::compute(format!("a sparse tensor of shape {shape:?} can't take the shape {wanted:?}"));
    let total = product(&shape).filter(|_| shape.len() == places.rank() && shape.iter().all(|n| *n >= 0));
    let total = total.ok_or_else(refuse)?;
    let unknown: Vec<usize> = (0..wanted.len()).filter(|d| wanted[*d] == -1).collect();
    match unknown[..] {
        [] => {}
        [d] => {
            let rest: Vec<i64> = wanted.iter().copied().filter(|n| *n != -1).collect();
            let rest = product(&rest).filter(|n| *n > 0 && total % n == 0).ok_or_else(refuse)?;
            wanted[d] = total / rest;
        }
        _ => return Err(refuse()),
    }
    if wanted.iter().any(|n| *n < 0) || product(&wanted) != Some(total) {
        return Err(Error::compute(format!("a sparse tensor of shape {shape:?} can't take the shape {wanted:?}")));
    }
    let (from, to) = (strides(&shape), strides(&wanted));
    let moved = places.rows().map(|row| {
        let mut flat = row.iter().zip(&from).fold(0i64, |n, (v, s)| n.wrapping_add(v.wrapping_mul(*s)));
        let mut next = |s: &i64| {
            let v = flat / s;
            flat %= s;
            v
        };
        to.iter().map(&mut next).collect::<Vec<_>>()
    });
    many([Coordinates::from_rows(wanted.len(), moved).tensor()?, vector(wanted)?])
}

/// Those of `x` from `start` on, `size` of them along each dimension or fewer where there aren't as many.
fn cut(x: &Sparse, start: &[i64], size: &[i64]) -> Result<Sparse> {
    if start.len() != x.shape.len() || size.len() != x.shape.len() || size.iter().any(|n| *n < 0) {
        return Err(Error::compute(format!("start {start:?} and size {size:?} for the shape {:?}", x.shape)));
    }
    let inside = |row: &[i64]| {
        row.iter().zip(start).zip(size).all(|((v, s), n)| v >= s && v.saturating_sub(*s) < *n)
    };
    let kept: Vec<usize> = (0..x.indices.len()).filter(|i| inside(x.indices.row(*i))).collect();
    let mut out = x.pick(&kept)?;
    out.indices = out.indices.map(|row| row.iter().zip(start).map(|(v, s)| v.wrapping_sub(*s)).collect());
    out.shape = x.shape.iter().zip(start).zip(size).map(|((n, s), k)| n.saturating_sub(*s).clamp(0, *k)).collect();
    Ok(out)
}

fn slice() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [indices, values, shape, start, size] = tensors(inputs)?;
        let x = Sparse::of(&indices, values, &shape)?;
        cut(&x, &start.to_i64_vec()?, &size.to_i64_vec()?)?.outputs()
    }))
}

/// The gradient of a slice for the values it was cut out of.
fn slice_grad() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [grad, indices, start, kept] = tensors(inputs)?;
        let (places, kept, start) = (Coordinates::of(&indices)?, Coordinates::of(&kept)?, start.to_i64_vec()?);
        if grad.shape() != [kept.len()] || start.len() != places.rank() || kept.rank() != places.rank() {
            return Err(Error::compute(format!("a gradient of shape {:?} for {} indices", grad.shape(), kept.len())));
        }
        let kept = kept.map(|row| row.iter().zip(&start).map(|(v, s)| v.wrapping_add(*s)).collect());
        one(values_at(&grad, &kept, &places)?)
    }))
}

/// For each of `wanted` the value at the same one of `held`, or zero.
pub(super) fn values_at(values: &Tensor, held: &Coordinates, wanted: &Coordinates) -> Result<Tensor> {
    let known: HashMap<&[i64], usize> = held.rows().enumerate().map(|(i, row)| (row, i)).collect();
    // The zero stands behind the values, where what isn't there points to.
    let padded = array::concat(&[values, &Tensor::zeros(values.dtype(), [1])?], 0)?;
    let places: Vec<usize> = wanted.rows().map(|row| known.get(row).copied().unwrap_or(held.len())).collect();
    pick(&padded, &places)
}

/// The parts of ops that take several sparse tensors: all indices, then all values, then all shapes.
fn several(all: &[Tensor]) -> Result<Vec<Sparse>> {
    let n = all.len() / 3;
    (0..n).map(|i| Sparse::of(&all[i], all[n + i].clone(), &all[2 * n + i])).collect()
}

fn concat(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let along = a.int("concat_dim")?;
    Ok(kernel(move |_, inputs| {
        let parts = several(&all_tensors(inputs)?)?;
        let Some(first) = parts.first() else { return Err(Error::graph("takes at least one sparse tensor")) };
        let along = axis(along, first.shape.len())?;
        let mut shape = first.shape.clone();
        shape[along] = 0;
        let mut rows = Vec::new();
        for part in &parts {
            let same = part.shape.len() == shape.len()
                && (0..shape.len()).all(|d| d == along || part.shape[d] == shape[d]);
            if !same {
                return Err(Error::compute(format!("shapes {:?} and {:?} don't go together", first.shape, part.shape)));
            }
            let before = shape[along];
            rows.extend(part.indices.rows().map(|row| {
                let mut row = row.to_vec();
                row[along] = row[along].wrapping_add(before);
                row
            }));
            let too_large = || Error::compute("the shapes together are too large");
            shape[along] = before.checked_add(part.shape[along]).ok_or_else(too_large)?;
        }
        let values = array::concat(&parts.iter().map(|p| &p.values).collect::<Vec<_>>(), 0)?;
        Sparse { indices: Coordinates::from_rows(shape.len(), rows), values, shape }.sorted()?.outputs()
    }))
}

fn split(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let count = a.int("num_split")?;
    Ok(kernel(move |_, inputs| {
        let [along, indices, values, shape] = tensors(inputs)?;
        let x = Sparse::of(&indices, values, &shape)?;
        let along = axis(int(&along, "split_dim")?, x.shape.len())?;
        let whole = x.shape[along];
        if count < 1 || count > whole {
            return Err(Error::compute(format!("num_split should be between 1 and {whole}, got {count}")));
        }
        // The first parts are one longer where the dimension can't be divided.
        let mut begin = 0;
        let mut parts = Vec::new();
        for i in 0..count {
            let size = whole / count + i64::from(i < whole % count);
            let (mut start, mut sizes) = (vec![0; x.shape.len()], x.shape.clone());
            (start[along], sizes[along]) = (begin, size);
            parts.push(cut(&x, &start, &sizes)?.tensors()?);
            begin += size;
        }
        let part = |which: usize| parts.iter().map(move |p| p[which].clone());
        many(part(0).chain(part(1)).chain(part(2)))
    }))
}

/// Rows without a value, to be given one.
struct Filled {
    /// For each of the new values the row that it is in, and the old value, if it isn't the default.
    values: Vec<(i64, Option<usize>)>,
    empty: Vec<Bool>,
    /// For each old value where it has gone.
    places: Vec<i64>,
}

impl Filled {
    fn new(rows_of: impl Iterator<Item = i64> + Clone, rows: i64) -> Result<Self> {
        let count = usize::try_from(rows).map_err(|_| Error::compute(format!("the number of rows is {rows}")))?;
        crate::tensor::checked_elements(&[count, 32])?;
        let mut held: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (i, row) in rows_of.clone().enumerate() {
            let row = usize::try_from(row).ok().and_then(|r| held.get_mut(r));
            row.ok_or_else(|| Error::compute(format!("value {i} is in a row that isn't one of {rows}")))?.push(i);
        }
        let (mut values, mut places) = (Vec::new(), vec![0; rows_of.count()]);
        for (row, held) in held.iter().enumerate() {
            if held.is_empty() {
                values.push((row as i64, None));
            }
            for i in held {
                places[*i] = values.len() as i64;
                values.push((row as i64, Some(*i)));
            }
        }
        Ok(Filled { values, empty: held.iter().map(|h| h.is_empty().into()).collect(), places })
    }

    /// The new values, those that there were and the default, and the two outputs that say what was done.
    fn outputs(self, values: &Tensor, default: &Tensor) -> Result<[Tensor; 3]> {
        let n = values.len();
        let padded = array::concat(&[values, &default.clone().reshape([1])?], 0)?;
        let places: Vec<usize> = self.values.iter().map(|(_, old)| old.unwrap_or(n)).collect();
        let rows = self.empty.len();
        Ok([pick(&padded, &places)?, Tensor::from_vec(self.empty, [rows])?, vector(self.places)?])
    }
}

fn fill_empty_rows() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [indices, values, shape, default] = tensors(inputs)?;
        let x = Sparse::of(&indices, values, &shape)?;
        let Some(&rows) = x.shape.first() else { return Err(Error::compute("a scalar has no rows")) };
        let filled = Filled::new(x.indices.rows().map(|row| row[0]), rows)?;
        let rank = x.shape.len();
        let new = filled.values.iter().map(|(row, old)| match old {
            Some(i) => x.indices.row(*i).to_vec(),
            None => std::iter::once(*row).chain(std::iter::repeat_n(0, rank - 1)).collect(),
        });
        let indices = Coordinates::from_rows(rank, new).tensor()?;
        let [values, empty, places] = filled.outputs(&x.values, &default)?;
        many([indices, values, empty, places])
    }))
}

fn fill_ragged_rows() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [ids, values, rows, default] = tensors(inputs)?;
        if ids.shape() != values.shape() || ids.rank() != 1 {
            return Err(Error::compute(format!("row ids of shape {:?} for values of {:?}", ids.shape(), values.shape())));
        }
        let filled = Filled::new(ids.to_i64_vec()?.into_iter(), int(&rows, "nrows")?)?;
        let ids = vector(filled.values.iter().map(|(row, _)| *row).collect())?;
        let [values, empty, places] = filled.outputs(&values, &default)?;
        many([ids, values, empty, places])
    }))
}

/// The gradients for the values that were moved, and the sum of all others, which the default had.
fn fill_empty_rows_grad() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [places, grad] = tensors(inputs)?;
        let kept = array::gather(&grad, &places, 0, 0)?;
        let mut others = vec![true; grad.len()];
        for place in places.to_i64_vec()? {
            if let Some(other) = usize::try_from(place).ok().and_then(|p| others.get_mut(p)) {
                *other = false;
            }
        }
        let others: Vec<usize> = (0..others.len()).filter(|i| others[*i]).collect();
        many([kept, reduce::sum(&pick(&grad, &others)?, &[0], false)?])
    }))
}

/// A ragged tensor's values with an index each; unused places at the end of rows count as absent.
fn from_ragged(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let levels = usize::try_from(a.int("RAGGED_RANK")?).unwrap_or_default();
    Ok(kernel(move |_, inputs| {
        let all = all_tensors(inputs)?;
        let Some((values, splits)) = all.split_last().filter(|(_, s)| s.len() == levels && levels > 0) else {
            return Err(Error::graph("takes row splits and values"));
        };
        let mut rows: Vec<Vec<i64>> = Vec::new();
        let mut shape = Vec::new();
        for (level, splits) in splits.iter().enumerate() {
            let splits = super::args::extents(splits, "row splits")?;
            let rising = splits.first() == Some(&0) && splits.is_sorted();
            if !rising || (level > 0 && splits.len() - 1 != rows.len()) {
                return Err(Error::compute("row splits must begin with 0, rise, and go with those around them"));
            }
            let last = splits.last().copied().unwrap_or_default();
            let below = all.get(level + 1).map_or(0, |t| t.shape().first().copied().unwrap_or_default());
            if last != if level + 1 == levels { below } else { below.saturating_sub(1) } {
                return Err(Error::compute(format!("row splits end with {last}, which isn't how much there is")));
            }
            if level == 0 {
                shape.push(splits.len() as i64 - 1);
                rows = (0..splits.len() as i64 - 1).map(|i| vec![i]).collect();
            }
            let lengths = splits.windows(2).map(|w| (w[1] - w[0]) as i64);
            shape.push(lengths.clone().max().unwrap_or_default());
            let inner = |(row, n): (Vec<i64>, i64)| (0..n).map(move |j| row.iter().copied().chain([j]).collect());
            rows = rows.into_iter().zip(lengths).flat_map(inner).collect();
        }
        let inner = values.shape().get(1..).unwrap_or_default();
        shape.extend(inner.iter().map(|n| *n as i64));
        let ones = Tensor::full(Bool::TRUE, inner)?;
        let within = Coordinates::of(&array::coordinates(&ones)?)?;
        let rows = rows.iter().flat_map(|row| within.rows().map(move |w| [row, w].concat()));
        let indices = Coordinates::from_rows(shape.len(), rows).tensor()?;
        many([indices, values.clone().reshape([values.len()])?, vector(shape)?])
    }))
}

/// A part of [`Sparse`] that several ops need: its extents checked against its indices.
pub(super) fn bounded(indices: &Tensor, values: Tensor, shape: &Tensor) -> Result<(Sparse, Vec<usize>)> {
    let x = Sparse::of(indices, values, shape)?;
    x.indices.check(&x.shape, false)?;
    let shape = extents(&x.shape)?;
    Ok((x, shape))
}

pub(super) const OPS: &[Op] = &[
    Op::new("SparseToDense(sparse_indices: Tindices, output_shape: Tindices, sparse_values: T, default_value: T) -> (dense: T); validate_indices: bool = true; T: type; Tindices: type", to_dense).ranks("_ 1"),
    Op::new("SparseReorder(input_indices: int64, input_values: T, input_shape: int64) -> (output_indices: int64, output_values: T); T: type", |_| reorder()),
    Op::new("SparseReshape(input_indices: int64, input_shape: int64, new_shape: int64) -> (output_indices: int64, output_shape: int64)", |_| Ok(kernel(|_, inputs| { let [indices, shape, wanted] = tensors(inputs)?; reshape(&indices, &shape, &wanted) }))),
    Op::new("SparseSlice(indices: int64, values: T, shape: int64, start: int64, size: int64) -> (output_indices: int64, output_values: T, output_shape: int64); T: type", |_| slice()),
    Op::new("SparseSliceGrad(backprop_val_grad: T, input_indices: int64, input_start: int64, output_indices: int64) -> (val_grad: T); T: type", |_| slice_grad()),
    Op::new("SparseConcat(indices: N * int64, values: N * T, shapes: N * int64) -> (output_indices: int64, output_values: T, output_shape: int64); concat_dim: int; N: int; T: type", concat),
    Op::new("SparseSplit(split_dim: int64, indices: int64, values: T, shape: int64) -> (output_indices: num_split * int64, output_values: num_split * T, output_shape: num_split * int64); num_split: int; T: type", split),
    Op::new("SparseFillEmptyRows(indices: int64, values: T, dense_shape: int64, default_value: T) -> (output_indices: int64, output_values: T, empty_row_indicator: bool, reverse_index_map: int64); T: type", |_| fill_empty_rows()),
    Op::new("SparseFillEmptyRowsGrad(reverse_index_map: int64, grad_values: T) -> (d_values: T, d_default_value: T); T: type", |_| fill_empty_rows_grad()).ranks("1 1"),
    Op::new("RaggedFillEmptyRows(value_rowids: int64, values: T, nrows: int64, default_value: T) -> (output_value_rowids: int64, output_values: T, empty_row_indicator: bool, reverse_index_map: int64); T: type", |_| fill_ragged_rows()),
    Op::new("RaggedFillEmptyRowsGrad(reverse_index_map: int64, grad_values: T) -> (d_values: T, d_default_value: T); T: type", |_| fill_empty_rows_grad()).ranks("1 1"),
    Op::new("RaggedTensorToSparse(rt_nested_splits: RAGGED_RANK * Tsplits, rt_dense_values: T) -> (sparse_indices: int64, sparse_values: T, sparse_dense_shape: int64); RAGGED_RANK: int; T: type; Tsplits: type = int64", from_ragged),
];
