//! Ragged tensors and other composite values as one variant, as loops pass them on.

use std::sync::Arc;

use super::args::{all_tensors, extents, ints, many, one, take, types};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Variant, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{DType, Shape, Tensor};
use crate::{Error, Result};

/// A ragged tensor: where the rows of each ragged dimension begin and end, and the values.
struct Ragged {
    splits: Vec<Vec<usize>>,
    values: Tensor,
}

impl Ragged {
    /// Of the row splits, outermost first, and the values.
    fn of(mut tensors: Vec<Tensor>) -> Result<Ragged> {
        let values = tensors.pop().ok_or_else(|| Error::compute("a ragged tensor without values"))?;
        let splits = tensors.iter().map(|t| extents(t, "row splits")).collect::<Result<Vec<_>>>()?;
        let ends = splits.iter().skip(1).map(|next| next.len().saturating_sub(1));
        let last = values.shape().first().copied().unwrap_or(0);
        for (level, end) in splits.iter().zip(ends.chain([last])) {
            let sorted = level.first() == Some(&0) && level.is_sorted();
            if !sorted || level.last() != Some(&end) {
                return Err(Error::compute(format!("row splits {level:?} don't partition {end} values")));
            }
        }
        Ok(Ragged { splits, values })
    }

    fn unpack(value: &Value) -> Result<Ragged> {
        let Value::Variant(Variant::Composite(parts)) = value else {
            return Err(Error::compute("expected a ragged tensor as a variant"));
        };
        Ragged::of(parts.iter().map(|part| part.tensor().cloned()).collect::<Result<_>>()?)
    }

    fn tensors(&self, dtype: DType) -> Result<Vec<Value>> {
        let splits = self.splits.iter().map(|s| Ok(ints(s.iter().copied(), dtype)?.into()));
        splits.chain([Ok(self.values.clone().into())]).collect()
    }

    fn pack(&self, dtype: DType) -> Result<Value> {
        Ok(Variant::Composite(Arc::new(self.tensors(dtype)?)).into())
    }

    /// The number of its rows.
    fn rows(&self) -> usize {
        match self.splits.first() {
            Some(outer) => outer.len().saturating_sub(1),
            None => self.values.shape().first().copied().unwrap_or(0),
        }
    }

    /// One of its rows.
    fn row(&self, at: usize) -> Result<Ragged> {
        let Some((outer, inner)) = self.splits.split_first() else {
            let row = part(&self.values, at, at + 1)?;
            let shape: Shape = row.shape().iter().skip(1).copied().collect();
            return Ok(Ragged { splits: Vec::new(), values: row.reshape(&shape)? });
        };
        let none = || Error::compute(format!("there is no row {at}"));
        let bounds = |splits: &[usize], i: usize| splits.get(i).copied().ok_or_else(none);
        let (mut from, mut to) = (bounds(outer, at)?, bounds(outer, at + 1)?);
        let mut splits = Vec::with_capacity(inner.len());
        for level in inner {
            let row = level.get(from..=to).ok_or_else(none)?;
            (from, to) = (bounds(row, 0)?, bounds(row, row.len() - 1)?);
            splits.push(row.iter().map(|s| s - from).collect());
        }
        Ok(Ragged { splits, values: part(&self.values, from, to)? })
    }

    /// A ragged tensor of these rows, each with `rank` ragged dimensions.
    fn of_rows(rows: &[Ragged], rank: usize, dtype: DType) -> Result<Ragged> {
        if let Some(odd) = rows.iter().find(|r| r.splits.len() != rank || r.values.dtype() != dtype) {
            return Err(Error::compute(format!(
                "a row of {} has {} ragged dimensions, not {rank} of {dtype}",
                odd.values.dtype(),
                odd.splits.len()
            )));
        }
        let mut splits = vec![vec![0]; rank + 1];
        for row in rows {
            let lens =
                [row.rows()].into_iter().chain(row.splits.iter().map(|s| s.last().copied().unwrap_or(0)));
            let mut start = lens.zip(splits.iter_mut());
            // The outermost dimension gains one row, each inner one as many as this row has.
            if let Some((len, outer)) = start.next() {
                outer.push(outer.last().copied().unwrap_or(0) + len);
            }
            for ((_, level), own) in start.zip(&row.splits) {
                let base = level.last().copied().unwrap_or(0);
                level.extend(own.iter().skip(1).map(|s| base + s));
            }
        }
        let values: Vec<&Tensor> = rows.iter().map(|r| &r.values).collect();
        let values = if values.is_empty() { Tensor::zeros(dtype, [0])? } else { array::concat(&values, 0)? };
        Ok(Ragged { splits, values })
    }
}

/// The part of a tensor along its first dimension.
fn part(x: &Tensor, from: usize, to: usize) -> Result<Tensor> {
    let mut begin: Shape = x.shape().iter().map(|_| 0).collect();
    let mut size: Shape = x.shape().into();
    let (Some(first), Some(len)) = (begin.first_mut(), size.first_mut()) else {
        return Err(Error::compute("a scalar has no rows"));
    };
    *first = from;
    *len = to.saturating_sub(from);
    Ok(array::slice(x, &begin, &size)?)
}

fn to_variant(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (dtype, batched) = (a.dtype("Tsplits")?, a.bool("batched_input")?);
    Ok(kernel(move |_, inputs| {
        let ragged = Ragged::of(all_tensors(inputs)?)?;
        if !batched {
            return one(ragged.pack(dtype)?);
        }
        if ragged.values.rank() == 0 {
            return Err(Error::compute("a scalar has no rows"));
        }
        let rows = (0..ragged.rows()).map(|i| ragged.row(i)?.pack(dtype)).collect::<Result<_>>()?;
        one(Variant::Vector(Arc::new(rows)))
    }))
}

fn from_variant(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (splits, dtype) = (a.dtype("Tsplits")?, a.dtype("Tvalues")?);
    let (inner, rank) = (a.int("input_ragged_rank")?, a.int("output_ragged_rank")?);
    Ok(kernel(move |_, inputs| {
        let [encoded] = take(inputs)?;
        let ragged = match &encoded {
            Value::Variant(Variant::Vector(rows)) => {
                let inner = if inner == -1 { rank - 1 } else { inner };
                let inner =
                    usize::try_from(inner).map_err(|_| Error::compute("a vector has a ragged dimension"))?;
                let rows = rows.iter().map(Ragged::unpack).collect::<Result<Vec<_>>>()?;
                Ragged::of_rows(&rows, inner, dtype)?
            }
            scalar => Ragged::unpack(scalar)?,
        };
        if ragged.splits.len() as i64 != rank || ragged.values.dtype() != dtype {
            return Err(Error::compute(format!(
                "the variant holds {} with {} ragged dimensions, not {dtype} with {rank}",
                ragged.values.dtype(),
                ragged.splits.len()
            )));
        }
        many(ragged.tensors(splits)?)
    }))
}

/// The gradient of a ragged tensor's values, from those of its rows.
fn to_variant_grad(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [encoded, _, shape] = take(inputs)?;
        let shape = extents(shape.tensor()?, "the values' shape")?;
        let values = match &encoded {
            Value::Variant(Variant::Vector(rows)) if !rows.is_empty() => {
                let flat = |row: &Value| -> Result<Tensor> {
                    let values = Ragged::unpack(row)?.values;
                    let len = values.len();
                    Ok(values.reshape([len])?)
                };
                let parts = rows.iter().map(flat).collect::<Result<Vec<_>>>()?;
                array::concat(&parts.iter().collect::<Vec<_>>(), 0)?
            }
            Value::Variant(Variant::Vector(_)) => return Err(Error::compute("a gradient without rows")),
            scalar => Ragged::unpack(scalar)?.values,
        };
        one(values.reshape(&shape)?)
    }))
}

fn to_components(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let wanted = types(a, "Tcomponents")?;
    Ok(kernel(move |_, inputs| {
        let [encoded] = take(inputs)?;
        let Value::Variant(Variant::Composite(parts)) = encoded else {
            return Err(Error::compute("expected a composite value as a variant"));
        };
        let got: Vec<DType> = parts.iter().map(Value::dtype).collect();
        if got != wanted {
            return Err(Error::compute(format!("the value consists of {got:?}, not {wanted:?}")));
        }
        many(parts.iter().cloned())
    }))
}

fn from_components(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| one(Variant::Composite(Arc::new(inputs.into_vec())))))
}

pub(super) const OPS: &[Op] = &[
    Op::new(
        "CompositeTensorVariantFromComponents(components: [Tcomponents]) -> (encoded: variant); metadata: string; Tcomponents: list(type)",
        from_components,
    ),
    Op::new(
        "CompositeTensorVariantToComponents(encoded: variant) -> (components: [Tcomponents]); metadata: string; Tcomponents: list(type)",
        to_components,
    ),
    Op::new(
        "RaggedTensorFromVariant(encoded_ragged: variant) -> (output_nested_splits: output_ragged_rank * Tsplits, output_dense_values: Tvalues); input_ragged_rank: int; output_ragged_rank: int; Tvalues: type; Tsplits: type = int64",
        from_variant,
    ),
    Op::new(
        "RaggedTensorToVariant(rt_nested_splits: RAGGED_RANK * Tsplits, rt_dense_values: Tvalues) -> (encoded_ragged: variant); RAGGED_RANK: int; Tvalues: type; Tsplits: type = int64; batched_input: bool",
        to_variant,
    ),
    Op::new(
        "RaggedTensorToVariantGradient(encoded_ragged_grad: variant, row_splits: Tsplits, dense_values_shape: int32) -> (dense_values_grad: Tvalues); Tvalues: type; Tsplits: type = int64",
        to_variant_grad,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_apart_and_joined() {
        let ints = |v: &[i64]| Tensor::from_slice(v, [v.len()]).expect("tensor");
        let whole = [ints(&[0, 2, 2, 3]), ints(&[0, 1, 3, 4]), ints(&[5, 6, 7, 8])];
        let ragged = Ragged::of(whole.to_vec()).expect("ragged");
        let rows: Vec<Ragged> = (0..3).map(|i| ragged.row(i).expect("row")).collect();
        assert_eq!((&rows[0].splits, rows[0].values.len()), (&vec![vec![0, 1, 3]], 3));
        assert_eq!((&rows[1].splits, rows[1].values.len()), (&vec![vec![0]], 0));
        assert_eq!(
            (&rows[2].splits, rows[2].values.to_i64_vec().expect("ints")),
            (&vec![vec![0, 1]], vec![8])
        );
        let joined = Ragged::of_rows(&rows, 1, DType::I64).expect("joined");
        assert_eq!(joined.splits, ragged.splits);
        assert!(joined.values.bit_eq(&ragged.values));
        assert!(Ragged::of_rows(&rows, 2, DType::I64).is_err());
        assert!(Ragged::of(vec![ints(&[0, 3]), ints(&[1, 2])]).is_err());
        assert!(Ragged::of(vec![ints(&[0, 2, 1, 2]), ints(&[1, 2])]).is_err());
    }
}
