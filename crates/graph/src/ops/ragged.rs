//! Ragged tensors, which lie in a graph as their values and how these are partitioned into rows.

use super::args::{all_tensors, extents, int, many, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{DType, Shape, Tensor, checked_elements};
use crate::{Attr, Error, Result};

/// How one input says where rows begin.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Partition {
    /// The number of rows of the outermost dimension.
    FirstDimSize,
    /// For each value, which row it is in.
    ValueRowIds,
    /// Where each row begins, and where the last one ends.
    RowSplits,
}

fn partitions(attrs: &NodeAttrs<'_>) -> Result<Vec<Partition>> {
    let Some(Attr::List(names)) = attrs.get("row_partition_types") else {
        return Err(Error::unsupported("row_partition_types isn't a list of strings"));
    };
    let partition = |name: &Attr| match name.as_str() {
        Some("FIRST_DIM_SIZE") => Ok(Partition::FirstDimSize),
        Some("VALUE_ROWIDS") => Ok(Partition::ValueRowIds),
        Some("ROW_SPLITS") => Ok(Partition::RowSplits),
        _ => Err(Error::unsupported(format!("the row partition {name:?}"))),
    };
    names.iter().map(partition).collect()
}

/// Where the rows of each ragged dimension begin and end, outermost first.
fn splits(kinds: &[Partition], given: &[Tensor]) -> Result<Vec<Vec<usize>>> {
    let mut rows = None;
    let mut levels: Vec<Vec<usize>> = Vec::new();
    for (kind, tensor) in kinds.iter().zip(given) {
        let level = match kind {
            Partition::FirstDimSize => {
                let count = int(tensor, "the number of rows")?;
                rows = usize::try_from(count).ok();
                continue;
            }
            Partition::RowSplits => extents(tensor, "row splits")?,
            Partition::ValueRowIds => {
                let ids = extents(tensor, "row ids")?;
                let rows = rows.ok_or_else(|| Error::compute("row ids without a number of rows"))?;
                checked_elements(&[rows, size_of::<usize>()])?;
                let mut splits = vec![0; rows.saturating_add(1)];
                for id in &ids {
                    let end = splits.get_mut(id.saturating_add(1));
                    *end.ok_or_else(|| Error::compute(format!("row id {id} of {rows} rows")))? += 1;
                }
                for i in 1..splits.len() {
                    splits[i] += splits[i - 1];
                }
                splits
            }
        };
        if level.is_empty() || level.windows(2).any(|w| w[0] > w[1]) {
            return Err(Error::compute("row splits must not be empty and must not fall"));
        }
        rows = level.last().copied();
        levels.push(level);
    }
    Ok(levels)
}

/// The values side by side, rows filled up with the default value (`tf.RaggedTensor.to_tensor`).
fn to_tensor(
    kinds: &[Partition],
    shape: &Tensor,
    values: &Tensor,
    default: &Tensor,
    given: &[Tensor],
) -> Result<Tensor> {
    let levels = splits(kinds, given)?;
    let Some(first) = levels.first() else { return Err(Error::compute("no row partition")) };
    let Some((&count, inner)) = values.shape().split_first() else {
        return Err(Error::compute("ragged values must have a dimension"));
    };
    // A scalar -1 says nothing of the shape; -1 in a vector nothing of that extent.
    let asked = if shape.rank() == 0 { Vec::new() } else { shape.to_i64_vec()? };
    let extent =
        |at: usize, held: usize| asked.get(at).and_then(|&e| usize::try_from(e).ok()).unwrap_or(held);

    let rows = first.len() - 1;
    let mut outer = vec![extent(0, rows)];
    checked_elements(&outer)?;
    let mut places: Vec<Option<usize>> = (0..outer[0]).map(|i| (i < rows).then_some(i)).collect();
    for (level, splits) in levels.iter().enumerate() {
        let longest = splits.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
        let width = extent(level + 1, longest);
        outer.push(width);
        checked_elements(&outer)?;
        let row = |place: Option<usize>| {
            let bounds = place.and_then(|p| Some((*splits.get(p)?, *splits.get(p + 1)?)));
            (0..width).map(move |j| bounds.filter(|(start, end)| j < end - start).map(|(start, _)| start + j))
        };
        places = places.into_iter().flat_map(row).collect();
    }
    // The default stands behind the values, where what isn't there points to.
    let index = |place: Option<usize>| place.filter(|p| *p < count).unwrap_or(count) as i64;
    let indices: Vec<i64> = places.into_iter().map(index).collect();
    let indices = Tensor::from_vec(indices, outer.as_slice())?;
    let mut slice: Shape = Shape::from(&[1usize][..]);
    slice.extend(inner.iter().copied());
    let filler = array::broadcast_to(default, inner)?.reshape(&slice)?;
    let padded = array::concat(&[values, &filler], 0)?;
    Ok(array::gather(&padded, &indices, 0, 0)?)
}

fn ragged_to_tensor(attrs: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let kinds = partitions(attrs)?;
    Ok(kernel(move |_, inputs: Values| {
        let inputs = all_tensors(inputs)?;
        let [shape, values, default, given @ ..] = &*inputs else {
            return Err(Error::compute("too few inputs"));
        };
        one(to_tensor(&kinds, shape, values, default, given)?)
    }))
}

/// For each row the numbers from a start on, in steps, up to but without a limit; a scalar serves all rows.
fn range(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("Tsplits")?;
    Ok(kernel(move |_, inputs: Values| {
        let given: [Tensor; 3] = tensors(inputs)?;
        let kind = given[0].dtype();
        let rows = given.iter().find(|t| t.rank() > 0).map_or(1, Tensor::len);
        if let Some(odd) = given.iter().find(|t| t.rank() > 1 || (t.rank() == 1 && t.len() != rows)) {
            return Err(Error::compute(format!("starts, limits and deltas must have one length, got {:?}", odd.shape())));
        }
        let [starts, limits, deltas] = given.map(|t| array::broadcast_to(&t, &[rows]));
        let (starts, limits, deltas) = (starts?, limits?, deltas?);
        let (starts, limits, deltas) =
            (array::unstack(&starts, 0)?, array::unstack(&limits, 0)?, array::unstack(&deltas, 0)?);
        let (mut splits, mut parts) = (vec![0], vec![Tensor::zeros(kind, [0])?]);
        for ((start, limit), delta) in starts.iter().zip(&limits).zip(&deltas) {
            let number = |t: &Tensor| array::cast(t, DType::F64)?.item::<f64>();
            let (from, to, step) = (number(start)?, number(limit)?, number(delta)?);
            // A limit on the wrong side gives no numbers.
            let part = if step != 0.0 && (to - from) * step <= 0.0 {
                Tensor::zeros(kind, [0])?
            } else {
                array::range(start, limit, delta)?
            };
            splits.push(splits.last().copied().unwrap_or(0) + part.len());
            parts.push(part);
        }
        let values = array::concat(&parts.iter().collect::<Vec<_>>(), 0)?;
        many([super::args::ints(splits, dtype)?, values])
    }))
}

/// Rows of a ragged tensor, picked by index.
fn gather(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let levels = usize::try_from(a.int("PARAMS_RAGGED_RANK")?).unwrap_or_default();
    let dtype = a.dtype("Tsplits")?;
    Ok(kernel(move |_, inputs: Values| {
        let all = all_tensors(inputs)?;
        let [given @ .., values, indices] = &*all else { return Err(Error::compute("too few inputs")) };
        if given.len() != levels || levels == 0 || indices.rank() == 0 {
            return Err(Error::compute(format!("{} row splits and indices of shape {:?}", given.len(), indices.shape())));
        }
        let splits = splits(&vec![Partition::RowSplits; levels], given)?;
        // How many rows each level's splits may reach: those of the next one, and of the values at last.
        let rows = splits.iter().skip(1).map(|s| s.len().saturating_sub(1)).chain(values.shape().first().copied());
        if let Some((level, rows)) = splits.iter().zip(rows).find(|(s, rows)| s.last() > Some(rows)) {
            return Err(Error::compute(format!("row splits {level:?} point past the {rows} rows below them")));
        }
        let mut out = Vec::new();
        // Dimensions of the indices are rows of one length.
        for d in 1..indices.rank() {
            let rows = checked_elements(&indices.shape()[..d])?;
            let length = indices.shape()[d];
            out.push(super::args::ints((0..=rows).map(|i| i * length), dtype)?);
        }
        let mut rows: Vec<usize> = extents(&indices.clone().reshape([indices.len()])?, "an index")?;
        for level in &splits {
            let (mut ends, mut inner, mut end) = (vec![0], Vec::new(), 0usize);
            for row in rows {
                let (Some(&from), Some(&to)) = (level.get(row), level.get(row.saturating_add(1))) else {
                    return Err(Error::compute(format!("row {row} is out of range for {}", level.len() - 1)));
                };
                end = end.saturating_add(to - from);
                ends.push(end);
                crate::tensor::memory::check(end.saturating_mul(size_of::<usize>()))?;
                inner.extend(from..to);
            }
            out.push(super::args::ints(ends, dtype)?);
            rows = inner;
        }
        out.push(array::gather(values, &super::args::ints(rows, DType::I64)?, 0, 0)?);
        many(out)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("RaggedGather(params_nested_splits: PARAMS_RAGGED_RANK * Tsplits, params_dense_values: Tvalues, indices: Tindices) -> (output_nested_splits: OUTPUT_RAGGED_RANK * Tsplits, output_dense_values: Tvalues); Tvalues: type; Tindices: type; Tsplits: type = int64; PARAMS_RAGGED_RANK: int; OUTPUT_RAGGED_RANK: int", gather),
    Op::new("RaggedRange(starts: T, limits: T, deltas: T) -> (rt_nested_splits: Tsplits, rt_dense_values: T); T: type = int32; Tsplits: type = int64", range),
    Op::new(
    "RaggedTensorToTensor(shape: Tshape, values: T, default_value: T, row_partition_tensors: num_row_partition_tensors * Tindex) -> (result: T); T: type; Tindex: type; Tshape: type; num_row_partition_tensors: int; row_partition_types: list(string)",
    ragged_to_tensor,
),];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_filled_up_or_cut_off() {
        let values = Tensor::from_vec(vec![1i32, 2, 3], [3]).expect("tensor");
        let splits = Tensor::from_vec(vec![0i64, 2, 2, 3], [4]).expect("tensor");
        let dense = |shape: Tensor| {
            to_tensor(
                &[Partition::RowSplits],
                &shape,
                &values,
                &Tensor::scalar(9i32),
                std::slice::from_ref(&splits),
            )
        };
        let whole = dense(Tensor::scalar(-1i64)).expect("dense");
        assert_eq!(
            (whole.shape(), whole.as_slice::<i32>().expect("i32")),
            (&[3, 2][..], &[1, 2, 9, 9, 3, 9][..])
        );
        let cut = dense(Tensor::from_vec(vec![2i64, 1], [2]).expect("shape")).expect("dense");
        assert_eq!((cut.shape(), cut.as_slice::<i32>().expect("i32")), (&[2, 1][..], &[1, 9][..]));
    }

    #[test]
    fn row_ids_say_the_same_as_splits() {
        let kinds = [Partition::FirstDimSize, Partition::ValueRowIds];
        let ids = Tensor::from_vec(vec![0i64, 0, 2], [3]).expect("ids");
        assert_eq!(splits(&kinds, &[Tensor::scalar(3i64), ids.clone()]).expect("splits"), [[0, 2, 2, 3]]);
        assert!(splits(&kinds, &[Tensor::scalar(2i64), ids]).is_err());
        let falling = Tensor::from_vec(vec![0i64, 2, 1], [3]).expect("splits");
        assert!(splits(&[Partition::RowSplits], &[falling]).is_err());
    }
}
