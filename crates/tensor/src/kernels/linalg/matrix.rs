//! A dense matrix to compute with, and the batches that tensors hold of them.

use std::ops::{Add, Div, Index, IndexMut, Mul, Neg, Sub};

use num_complex::Complex64;
use rayon::prelude::*;

use crate::kernels::{array, parallel};
use crate::{DType, Element, Error, Result, Shape, Tensor, checked_elements};

/// A number that matrices are computed with.
pub(super) trait Scalar:
    Element
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    fn real(v: f64) -> Self;
    fn re(self) -> f64;
    fn im(self) -> f64;
    fn conj(self) -> Self;
    fn abs(self) -> f64;
    /// The squared magnitude.
    fn squared(self) -> f64;
    fn is_nan(self) -> bool;
}

impl Scalar for f64 {
    fn real(v: f64) -> Self {
        v
    }
    fn re(self) -> f64 {
        self
    }
    fn im(self) -> f64 {
        0.0
    }
    fn conj(self) -> Self {
        self
    }
    fn abs(self) -> f64 {
        f64::abs(self)
    }
    fn squared(self) -> f64 {
        self * self
    }
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }
}

impl Scalar for Complex64 {
    fn real(v: f64) -> Self {
        Complex64::new(v, 0.0)
    }
    fn re(self) -> f64 {
        self.re
    }
    fn im(self) -> f64 {
        self.im
    }
    fn conj(self) -> Self {
        Complex64::conj(&self)
    }
    fn abs(self) -> f64 {
        self.norm()
    }
    fn squared(self) -> f64 {
        self.norm_sqr()
    }
    fn is_nan(self) -> bool {
        self.re.is_nan() || self.im.is_nan()
    }
}

/// A matrix in C order.
#[derive(Clone, Debug)]
pub(super) struct Matrix<S> {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) data: Vec<S>,
}

impl<S> Index<(usize, usize)> for Matrix<S> {
    type Output = S;
    fn index(&self, (i, j): (usize, usize)) -> &S {
        &self.data[i * self.columns + j]
    }
}

impl<S> IndexMut<(usize, usize)> for Matrix<S> {
    fn index_mut(&mut self, (i, j): (usize, usize)) -> &mut S {
        &mut self.data[i * self.columns + j]
    }
}

impl<S: Scalar> Matrix<S> {
    pub(super) fn from_fn(rows: usize, columns: usize, mut f: impl FnMut(usize, usize) -> S) -> Self {
        let data = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| f(i, j)).collect();
        Matrix { rows, columns, data }
    }

    pub(super) fn full(rows: usize, columns: usize, value: S) -> Self {
        Matrix::from_fn(rows, columns, |_, _| value)
    }

    pub(super) fn zeros(rows: usize, columns: usize) -> Self {
        Matrix::full(rows, columns, S::real(0.0))
    }

    pub(super) fn identity(rows: usize, columns: usize) -> Self {
        Matrix::from_fn(rows, columns, |i, j| S::real(if i == j { 1.0 } else { 0.0 }))
    }

    pub(super) fn row(&self, i: usize) -> &[S] {
        &self.data[i * self.columns..][..self.columns]
    }

    pub(super) fn row_mut(&mut self, i: usize) -> &mut [S] {
        &mut self.data[i * self.columns..][..self.columns]
    }

    pub(super) fn adjoint(&self) -> Self {
        Matrix::from_fn(self.columns, self.rows, |i, j| self[(j, i)].conj())
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        let mut out = Matrix::zeros(self.rows, other.columns);
        for i in 0..self.rows {
            for (k, a) in self.row(i).iter().enumerate() {
                add_scaled(out.row_mut(i), other.row(k), *a);
            }
        }
        out
    }

    /// `self + other * factor`.
    pub(super) fn plus(mut self, other: &Self, factor: f64) -> Self {
        add_scaled(&mut self.data, &other.data, S::real(factor));
        self
    }

    pub(super) fn scaled(mut self, factor: f64) -> Self {
        self.data.iter_mut().for_each(|v| *v = *v * S::real(factor));
        self
    }

    pub(super) fn swap_rows(&mut self, i: usize, j: usize) {
        if i != j {
            let (low, high) = (i.min(j) * self.columns, i.max(j) * self.columns);
            let (head, tail) = self.data.split_at_mut(high);
            head[low..low + self.columns].swap_with_slice(&mut tail[..self.columns]);
        }
    }

    /// Two different rows: one to read, one to change.
    pub(super) fn row_pair(&mut self, from: usize, to: usize) -> (&[S], &mut [S]) {
        let n = self.columns;
        if from < to {
            let (head, tail) = self.data.split_at_mut(to * n);
            (&head[from * n..][..n], &mut tail[..n])
        } else {
            let (head, tail) = self.data.split_at_mut(from * n);
            (&tail[..n], &mut head[to * n..][..n])
        }
    }

    pub(super) fn largest(&self) -> f64 {
        self.data.iter().fold(0.0, |m, v| m.max(v.abs()))
    }

    pub(super) fn has_nan(&self) -> bool {
        self.data.iter().any(|v| v.is_nan())
    }
}

/// `to += from * factor`.
pub(super) fn add_scaled<S: Scalar>(to: &mut [S], from: &[S], factor: S) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t = *t + *f * factor);
}

/// Calls `f` with the matrices of every batch of `inputs`, which all have the dtype of `S` and the same batch, and
/// gathers what it gives: matrices of the extents `outputs`.
fn run<S: Scalar>(
    inputs: &[Tensor],
    batch: &[usize],
    outputs: &[(usize, usize)],
    f: impl Fn(&[Matrix<S>]) -> Result<Vec<Matrix<S>>> + Sync,
) -> Result<Vec<Tensor>> {
    let count = checked_elements(batch)?;
    let sources = inputs
        .iter()
        .map(|t| {
            let (_, rows, columns) = super::matrices(t)?;
            Ok((rows, columns, t.elements::<S>()?))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut results = outputs
        .iter()
        .map(|&(rows, columns)| {
            let shape: Shape = batch.iter().copied().chain([rows, columns]).collect();
            Tensor::zeros(S::DTYPE, shape)
        })
        .collect::<Result<Vec<_>>>()?;
    let one = |b: usize| {
        let matrix = |(rows, columns, data): &(usize, usize, std::borrow::Cow<'_, [S]>)| {
            let n = rows * columns;
            Matrix { rows: *rows, columns: *columns, data: data[b * n..][..n].to_vec() }
        };
        f(&sources.iter().map(matrix).collect::<Vec<_>>())
    };
    let cost = sources.iter().map(|(m, n, _)| m.saturating_mul(*n).saturating_mul(*m.max(n))).sum::<usize>();
    let all: Vec<Vec<Matrix<S>>> = if count > 1 && parallel::worth(cost.saturating_mul(count)) {
        (0..count).into_par_iter().map(one).collect::<Result<_>>()?
    } else {
        (0..count).map(one).collect::<Result<_>>()?
    };
    for (o, result) in results.iter_mut().enumerate() {
        let n = outputs[o].0 * outputs[o].1;
        let to = result.make_mut::<S>()?;
        for (b, matrices) in all.iter().enumerate() {
            to[b * n..][..n].copy_from_slice(&matrices[o].data);
        }
    }
    Ok(results)
}

/// Calls `real` or `complex`, whichever the dtype of the first input asks for, with the matrices of every batch of
/// `inputs`, and gives the results in that dtype.
pub(super) fn batched(
    inputs: &[&Tensor],
    outputs: &[(usize, usize)],
    real: impl Fn(&[Matrix<f64>]) -> Result<Vec<Matrix<f64>>> + Sync,
    complex: impl Fn(&[Matrix<Complex64>]) -> Result<Vec<Matrix<Complex64>>> + Sync,
) -> Result<Vec<Tensor>> {
    let Some(first) = inputs.first() else { return Err(Error::value("at least one matrix is needed")) };
    let dtype = first.dtype();
    let wide = match dtype {
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => DType::F64,
        DType::C64 | DType::C128 => DType::C128,
        other => return Err(Error::dtype("a float or complex one", other)),
    };
    if let Some(other) = inputs.iter().find(|t| t.dtype() != dtype) {
        return Err(Error::dtype(dtype, other.dtype()));
    }
    let (batch, ..) = super::matrices(first)?;
    let widened = inputs.iter().map(|t| array::cast(t, wide)).collect::<Result<Vec<_>>>()?;
    let results = if wide == DType::F64 {
        run::<f64>(&widened, batch, outputs, real)?
    } else {
        run::<Complex64>(&widened, batch, outputs, complex)?
    };
    results.iter().map(|t| array::cast(t, dtype)).collect()
}

/// The only one of several results.
pub(super) fn single(results: Vec<Tensor>) -> Result<Tensor> {
    results.into_iter().next().ok_or_else(|| Error::value("a result is missing"))
}

/// A result without its last dimension but one, or without both.
pub(super) fn flattened(x: Tensor, keep: usize) -> Result<Tensor> {
    let mut shape = Shape::from(x.shape());
    let last = shape.pop();
    shape.pop();
    shape.extend(last.filter(|_| keep == 1));
    x.reshape(shape)
}
