//! Sparse tensors, which lie in a graph as indices, values and a shape.

use std::cmp::Ordering;

use super::args::many;
use crate::engine::Values;
use crate::tensor::kernels::array;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// The coordinates of values: as many numbers each as there are dimensions.
#[derive(Debug, Clone)]
pub(super) struct Coordinates {
    numbers: Vec<i64>,
    rank: usize,
    len: usize,
}

impl Coordinates {
    /// From a matrix of indices.
    pub(super) fn of(indices: &Tensor) -> Result<Self> {
        let &[len, rank] = indices.shape() else {
            return Err(Error::compute(format!("indices must be a matrix, got shape {:?}", indices.shape())));
        };
        Ok(Coordinates { numbers: indices.to_i64_vec()?, rank, len })
    }

    /// From rows, all of `rank` numbers.
    pub(super) fn from_rows<R: AsRef<[i64]>>(rank: usize, rows: impl IntoIterator<Item = R>) -> Self {
        let (mut numbers, mut len) = (Vec::new(), 0);
        for row in rows {
            numbers.extend_from_slice(row.as_ref());
            len += 1;
        }
        Coordinates { numbers, rank, len }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn rank(&self) -> usize {
        self.rank
    }

    pub(super) fn row(&self, i: usize) -> &[i64] {
        &self.numbers[i * self.rank..][..self.rank]
    }

    pub(super) fn rows(&self) -> impl DoubleEndedIterator<Item = &[i64]> + Clone {
        (0..self.len).map(|i| self.row(i))
    }

    /// The same coordinates with other numbers.
    pub(super) fn map(&self, f: impl FnMut(&[i64]) -> Vec<i64>) -> Self {
        let rows: Vec<Vec<i64>> = self.rows().map(f).collect();
        let rank = rows.first().map_or(self.rank, Vec::len);
        Coordinates::from_rows(rank, rows)
    }

    pub(super) fn tensor(&self) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.numbers, [self.len, self.rank])?)
    }

    /// In which order they would be sorted, equal ones as they come.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len).collect();
        order.sort_by(|a, b| self.row(*a).cmp(self.row(*b)));
        order
    }

    /// Refuses coordinates outside of `shape`, and with `sorted` those that don't rise.
    pub(super) fn check(&self, shape: &[i64], sorted: bool) -> Result<()> {
        let rows = || self.rows().enumerate();
        if let Some((i, row)) =
            rows().find(|(_, row)| row.iter().zip(shape).any(|(v, n)| !(0..*n).contains(v)))
        {
            return Err(Error::compute(format!(
                "indices[{i}] = {row:?} is out of bounds of shape {shape:?}"
            )));
        }
        if !sorted {
            return Ok(());
        }
        for i in 1..self.len {
            match self.row(i - 1).cmp(self.row(i)) {
                Ordering::Less => {}
                Ordering::Equal => {
                    return Err(Error::compute(format!("indices[{i}] = {:?} is repeated", self.row(i))));
                }
                Ordering::Greater => {
                    return Err(Error::compute(format!(
                        "indices[{i}] = {:?} is out of order: tf.sparse.reorder would sort them",
                        self.row(i)
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Indices, values and the shape of what they are in.
#[derive(Debug, Clone)]
pub(super) struct Sparse {
    pub(super) indices: Coordinates,
    pub(super) values: Tensor,
    pub(super) shape: Vec<i64>,
}

impl Sparse {
    /// From the three tensors that belong together.
    pub(super) fn of(indices: &Tensor, values: Tensor, shape: &Tensor) -> Result<Self> {
        let indices = Coordinates::of(indices)?;
        if values.shape() != [indices.len] || shape.shape() != [indices.rank] {
            return Err(Error::compute(format!(
                "{} indices of {} numbers don't go with values of shape {:?} and a shape of {:?}",
                indices.len,
                indices.rank,
                values.shape(),
                shape.shape()
            )));
        }
        let shape = shape.to_i64_vec()?;
        if shape.iter().any(|n| *n < 0) {
            return Err(Error::compute(format!("the dense shape {shape:?} has a negative extent")));
        }
        Ok(Sparse { indices, values, shape })
    }

    /// Those at `order`, in this order.
    pub(super) fn pick(&self, order: &[usize]) -> Result<Sparse> {
        let indices = Coordinates::from_rows(self.indices.rank, order.iter().map(|i| self.indices.row(*i)));
        Ok(Sparse { indices, values: pick(&self.values, order)?, shape: self.shape.clone() })
    }

    /// Sorted by index.
    pub(super) fn sorted(&self) -> Result<Sparse> {
        self.pick(&self.indices.order())
    }

    /// The three tensors.
    pub(super) fn tensors(self) -> Result<[Tensor; 3]> {
        Ok([self.indices.tensor()?, self.values, vector(self.shape)?])
    }

    /// As the outputs of an op.
    pub(super) fn outputs(self) -> Result<Values> {
        many(self.tensors()?)
    }

    /// The dense shape, as extents.
    pub(super) fn extents(&self) -> Result<Vec<usize>> {
        extents(&self.shape)
    }
}

/// Numbers of a file as extents of a tensor.
pub(super) fn extents(shape: &[i64]) -> Result<Vec<usize>> {
    let one = |n: &i64| {
        usize::try_from(*n).map_err(|_| Error::compute(format!("the dense shape {shape:?} isn't one")))
    };
    shape.iter().map(one).collect()
}

pub(super) fn vector(values: Vec<i64>) -> Result<Tensor> {
    let n = values.len();
    Ok(Tensor::from_vec(values, [n])?)
}

/// The slices of `x` at these places along the first dimension.
pub(super) fn pick(x: &Tensor, places: &[usize]) -> Result<Tensor> {
    Ok(array::gather(x, &super::args::ints(places.iter().copied(), DType::I64)?, 0, 0)?)
}
