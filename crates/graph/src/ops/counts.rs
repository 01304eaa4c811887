//! Counting how often numbers occur in rows, dense, sparse or ragged.

use std::collections::BTreeMap;

use super::args::{extents, int, many, one, tensors};
use super::coordinates::{Coordinates, Sparse, vector};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array::{self, Scatter};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// Numbers, and the row that each is in; without rows there is but one.
struct Counted {
    numbers: Vec<i64>,
    row_of: Vec<i64>,
    rows: Option<usize>,
}

impl Counted {
    fn new(numbers: &Tensor, row_of: Vec<i64>, rows: Option<usize>) -> Result<Self> {
        let numbers = numbers.to_i64_vec()?;
        if numbers.iter().any(|v| *v < 0) {
            return Err(Error::compute("input values must all be non-negative"));
        }
        Ok(Counted { numbers, row_of, rows })
    }

    fn dense(x: &Tensor) -> Result<Self> {
        match *x.shape() {
            [0, _] | [_, 0] => Err(Error::compute(format!("there is nothing to count in shape {:?}", x.shape()))),
            [n] => Counted::new(x, vec![0; n], None),
            [rows, n] => Counted::new(x, (0..rows * n).map(|i| (i / n) as i64).collect(), Some(rows)),
            _ => Err(Error::compute(format!("counting takes a vector or a matrix, got shape {:?}", x.shape()))),
        }
    }

    fn sparse(indices: &Tensor, values: Tensor, shape: &Tensor) -> Result<Self> {
        let x = Sparse::of(indices, values, shape)?;
        x.indices.check(&x.shape, false)?;
        match x.extents()?[..] {
            [_] => Counted::new(&x.values, vec![0; x.indices.len()], None),
            [rows, _] => Counted::new(&x.values, x.indices.rows().map(|row| row[0]).collect(), Some(rows)),
            _ => Err(Error::compute(format!("counting takes a vector or a matrix, got shape {:?}", x.shape))),
        }
    }

    fn ragged(splits: &Tensor, values: &Tensor) -> Result<Self> {
        let splits = extents(splits, "splits")?;
        let ends = splits.first() == Some(&0) && splits.last() == Some(&values.len());
        if !ends || !splits.is_sorted() {
            return Err(Error::compute(format!("splits must rise from 0 to the number of values, {}", values.len())));
        }
        let rows = splits.windows(2).enumerate();
        let row_of = rows.flat_map(|(row, w)| std::iter::repeat_n(row as i64, w[1] - w[0])).collect();
        Counted::new(values, row_of, Some(splits.len() - 1))
    }

    fn weighed(&self, weights: &Tensor) -> Result<bool> {
        if !weights.is_empty() && weights.len() != self.numbers.len() {
            return Err(Error::compute(format!("{} weights for {} values", weights.len(), self.numbers.len())));
        }
        Ok(!weights.is_empty())
    }

    /// Counts of the numbers under `size`, or sums of their weights: a row of them for each row.
    fn bins(&self, size: i64, weights: &Tensor, binary: bool) -> Result<Values> {
        let size = usize::try_from(size).map_err(|_| Error::compute(format!("size ({size}) must be non-negative")))?;
        let shape: Vec<usize> = self.rows.into_iter().chain([size]).collect();
        let out = Tensor::zeros(weights.dtype(), &shape)?;
        let kept: Vec<usize> = (0..self.numbers.len()).filter(|i| (self.numbers[*i] as usize) < size).collect();
        let place = |i: &usize| -> Vec<i64> {
            self.rows.map(|_| self.row_of[*i]).into_iter().chain([self.numbers[*i]]).collect()
        };
        let places = Coordinates::from_rows(shape.len(), kept.iter().map(place)).tensor()?;
        let weighed = self.weighed(weights)? && !binary;
        let weights = if weighed {
            super::coordinates::pick(&weights.clone().reshape([weights.len()])?, &kept)?
        } else {
            ones(weights.dtype(), kept.len())?
        };
        one(array::scatter(out, &places, &weights, if binary { Scatter::Update } else { Scatter::Add })?)
    }

    /// The same as a sparse tensor of the counts that aren't zero.
    fn list(&self, weights: &Tensor, limits: &Limits) -> Result<Values> {
        let mut slots: BTreeMap<(i64, i64), Vec<usize>> = BTreeMap::new();
        for (i, (row, number)) in self.row_of.iter().zip(&self.numbers).enumerate() {
            if limits.most.is_none_or(|most| *number < most) {
                slots.entry((*row, *number)).or_default().push(i);
            }
        }
        let n = slots.len();
        let weighed = self.weighed(weights)? && !limits.binary;
        let values = if weighed {
            let mut slot_of = Vec::new();
            let mut order = Vec::new();
            for (slot, members) in slots.values().enumerate() {
                slot_of.extend(std::iter::repeat_n(slot as i64, members.len()));
                order.extend_from_slice(members);
            }
            let weights = super::coordinates::pick(&weights.clone().reshape([weights.len()])?, &order)?;
            let places = Tensor::from_vec(slot_of, [order.len(), 1])?;
            array::scatter(Tensor::zeros(weights.dtype(), [n])?, &places, &weights, Scatter::Add)?
        } else {
            let count = |m: &Vec<usize>| if limits.binary { 1 } else { m.len() as i64 };
            array::cast(&vector(slots.values().map(count).collect())?, weights.dtype())?
        };
        let longest = self.numbers.iter().max().map_or(1, |m| m.wrapping_add(1));
        let width = limits.most.unwrap_or(longest.max(limits.least));
        let index = |(row, number): &(i64, i64)| -> Vec<i64> { self.rows.map(|_| *row).into_iter().chain([*number]).collect() };
        let shape: Vec<i64> = self.rows.map(|r| r as i64).into_iter().chain([width]).collect();
        let indices = Coordinates::from_rows(shape.len(), slots.keys().map(index));
        many([indices.tensor()?, values, vector(shape)?])
    }
}

fn ones(dtype: DType, n: usize) -> Result<Tensor> {
    Ok(array::fill(&[n], &array::cast(&Tensor::scalar(1.0f32), dtype)?)?)
}

/// Which numbers are counted, and how.
struct Limits {
    /// Numbers have to be under it.
    most: Option<i64>,
    /// The result is at least as wide.
    least: i64,
    binary: bool,
}

impl Limits {
    fn of(a: &NodeAttrs<'_>) -> Result<Self> {
        let most = a.int("maxlength")?;
        Ok(Limits { most: Some(most).filter(|m| *m >= 0), least: a.int("minlength")?, binary: a.bool("binary_output")? })
    }
}

fn sparse_bins(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let binary = a.bool("binary_output")?;
    Ok(kernel(move |_, inputs| {
        let [indices, values, shape, size, weights] = tensors(inputs)?;
        Counted::sparse(&indices, values, &shape)?.bins(int(&size, "the size")?, &weights, binary)
    }))
}

fn ragged_bins(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let binary = a.bool("binary_output")?;
    Ok(kernel(move |_, inputs| {
        let [splits, values, size, weights] = tensors(inputs)?;
        Counted::ragged(&splits, &values)?.bins(int(&size, "the size")?, &weights, binary)
    }))
}

fn dense_list(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let limits = Limits::of(a)?;
    Ok(kernel(move |_, inputs| {
        let [values, weights] = tensors(inputs)?;
        Counted::dense(&values)?.list(&weights, &limits)
    }))
}

fn sparse_list(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let limits = Limits::of(a)?;
    Ok(kernel(move |_, inputs| {
        let [indices, values, shape, weights] = tensors(inputs)?;
        Counted::sparse(&indices, values, &shape)?.list(&weights, &limits)
    }))
}

fn ragged_list(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let limits = Limits::of(a)?;
    Ok(kernel(move |_, inputs| {
        let [splits, values, weights] = tensors(inputs)?;
        Counted::ragged(&splits, &values)?.list(&weights, &limits)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("SparseBincount(indices: int64, values: Tidx, dense_shape: int64, size: Tidx, weights: T) -> (output: T); Tidx: type; T: type; binary_output: bool = false", sparse_bins),
    Op::new("RaggedBincount(splits: int64, values: Tidx, size: Tidx, weights: T) -> (output: T); Tidx: type; T: type; binary_output: bool = false", ragged_bins),
    Op::new("DenseCountSparseOutput(values: T, weights: output_type) -> (output_indices: int64, output_values: output_type, output_dense_shape: int64); T: type; minlength: int = -1; maxlength: int = -1; binary_output: bool; output_type: type", dense_list),
    Op::new("SparseCountSparseOutput(indices: int64, values: T, dense_shape: int64, weights: output_type) -> (output_indices: int64, output_values: output_type, output_dense_shape: int64); T: type; minlength: int = -1; maxlength: int = -1; binary_output: bool; output_type: type", sparse_list),
    Op::new("RaggedCountSparseOutput(splits: int64, values: T, weights: output_type) -> (output_indices: int64, output_values: output_type, output_dense_shape: int64); T: type; minlength: int = -1; maxlength: int = -1; binary_output: bool; output_type: type", ragged_list),
];
