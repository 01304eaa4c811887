//! Decomposition into triangles with exchanged rows, and what it solves.

use super::matrix::{Matrix, Scalar, add_scaled, batched, flattened, single};
use super::triangular::{Shape as Triangle, substitute};
use super::{Form, is_adjoint, same_rows, square};
use crate::kernels::array;
use crate::{DType, Error, Result, Shape, Tensor};

/// A matrix as the product of a lower triangle of unit diagonal and an upper one, both in one, its rows in another order.
pub(super) struct Lu<S> {
    packed: Matrix<S>,
    /// Which row of the matrix each row is.
    order: Vec<usize>,
    /// Whether rows were exchanged an odd number of times.
    odd: bool,
}

impl<S: Scalar> Lu<S> {
    pub(super) fn new(mut a: Matrix<S>) -> Self {
        let n = a.rows;
        let (mut order, mut odd): (Vec<usize>, bool) = ((0..n).collect(), false);
        for k in 0..n {
            let mut best = k;
            for i in k + 1..n {
                if a[(i, k)].abs() > a[(best, k)].abs() {
                    best = i;
                }
            }
            if best != k {
                a.swap_rows(k, best);
                order.swap(k, best);
                odd = !odd;
            }
            let pivot = a[(k, k)];
            if pivot == S::real(0.0) {
                continue;
            }
            for i in k + 1..n {
                let factor = a[(i, k)] / pivot;
                a[(i, k)] = factor;
                let (from, to) = a.row_pair(k, i);
                add_scaled(&mut to[k + 1..], &from[k + 1..], -factor);
            }
        }
        Lu { packed: a, order, odd }
    }

    fn pivots(&self) -> impl Iterator<Item = S> {
        (0..self.packed.rows).map(|i| self.packed[(i, i)])
    }

    /// Refuses a matrix that has no inverse.
    fn regular(self) -> Result<Self> {
        if self.pivots().all(|p| p.abs() > 0.0) {
            return Ok(self);
        }
        Err(Error::value("input matrix is not invertible"))
    }

    /// The solution `x` of `a x = rhs`.
    pub(super) fn solve(&self, rhs: &Matrix<S>) -> Matrix<S> {
        let n = self.packed.rows;
        let mut x = Matrix::from_fn(n, rhs.columns, |i, j| rhs[(self.order[i], j)]);
        substitute(&Triangle::unit_lower(n), |i, j| self.packed[(i, j)], &mut x);
        substitute(&Triangle::upper(n), |i, j| self.packed[(i, j)], &mut x);
        x
    }
}

/// The solutions `x` of `matrix x = rhs` (`tf.linalg.solve`), or of the adjoint of `matrix`.
///
/// # Errors
/// When a matrix isn't square or invertible, or shapes or dtypes don't fit.
pub fn solve(matrix: &Tensor, form: Form, rhs: &Tensor) -> Result<Tensor> {
    fn one<S: Scalar>(m: &[Matrix<S>], adjoint: bool) -> Result<Vec<Matrix<S>>> {
        let a = if adjoint { m[0].adjoint() } else { m[0].clone() };
        Ok(vec![Lu::new(a).regular()?.solve(&m[1])])
    }
    let (_, n) = square(matrix)?;
    same_rows(matrix, rhs)?;
    let columns = rhs.shape()[rhs.rank() - 1];
    let adjoint = is_adjoint(form);
    single(batched(&[matrix, rhs], &[(n, columns)], |m| one(m, adjoint), |m| one(m, adjoint))?)
}

/// The inverses of matrices (`tf.linalg.inv`), or of their adjoints.
///
/// # Errors
/// When a matrix isn't square or invertible, or the dtype isn't a float or complex one.
pub fn inverse(x: &Tensor, form: Form) -> Result<Tensor> {
    fn one<S: Scalar>(a: &Matrix<S>, adjoint: bool) -> Result<Vec<Matrix<S>>> {
        let a = if adjoint { a.adjoint() } else { a.clone() };
        let n = a.rows;
        Ok(vec![Lu::new(a).regular()?.solve(&Matrix::identity(n, n))])
    }
    let (_, n) = square(x)?;
    let adjoint = is_adjoint(form);
    single(batched(&[x], &[(n, n)], |m| one(&m[0], adjoint), |m| one(&m[0], adjoint))?)
}

/// The determinants of matrices (`tf.linalg.det`).
///
/// # Errors
/// When matrices aren't square, or the dtype isn't a float or complex one.
pub fn determinant(x: &Tensor) -> Result<Tensor> {
    fn one<S: Scalar>(a: &Matrix<S>) -> Vec<Matrix<S>> {
        let lu = Lu::new(a.clone());
        let start = S::real(if lu.odd { -1.0 } else { 1.0 });
        vec![Matrix::full(1, 1, lu.pivots().fold(start, |product, p| product * p))]
    }
    square(x)?;
    flattened(single(batched(&[x], &[(1, 1)], |m| Ok(one(&m[0])), |m| Ok(one(&m[0])))?)?, 0)
}

/// The signs of the determinants of matrices (numbers of magnitude 1, or 0) and the logarithms of their magnitudes
/// (`tf.linalg.slogdet`).
///
/// # Errors
/// When matrices aren't square, or the dtype isn't a float or complex one.
pub fn log_determinant(x: &Tensor) -> Result<(Tensor, Tensor)> {
    fn one<S: Scalar>(a: &Matrix<S>) -> Vec<Matrix<S>> {
        let lu = Lu::new(a.clone());
        let (mut sign, mut log) = (S::real(if lu.odd { -1.0 } else { 1.0 }), 0.0);
        for pivot in lu.pivots() {
            let magnitude = pivot.abs();
            if magnitude == 0.0 {
                (sign, log) = (S::real(0.0), f64::NEG_INFINITY);
                break;
            }
            sign = sign * pivot / S::real(magnitude);
            log += magnitude.ln();
        }
        vec![Matrix::full(1, 1, sign), Matrix::full(1, 1, S::real(log))]
    }
    square(x)?;
    let out = batched(&[x], &[(1, 1), (1, 1)], |m| Ok(one(&m[0])), |m| Ok(one(&m[0])))?;
    let [sign, log]: [Tensor; 2] = out.try_into().map_err(|_| Error::value("two results were expected"))?;
    Ok((flattened(sign, 0)?, flattened(log, 0)?))
}

/// The triangles of matrices, both in one, and the order of their rows as `dtype` (`tf.linalg.lu`).
///
/// # Errors
/// When a matrix isn't square or invertible, or the dtype isn't a float or complex one.
pub fn lu(x: &Tensor, dtype: DType) -> Result<(Tensor, Tensor)> {
    fn one<S: Scalar>(a: &Matrix<S>) -> Result<Vec<Matrix<S>>> {
        let lu = Lu::new(a.clone()).regular()?;
        let order = Matrix::from_fn(1, a.rows, |_, i| S::real(lu.order[i] as f64));
        Ok(vec![lu.packed, order])
    }
    let (batch, n) = square(x)?;
    let shape: Shape = batch.iter().copied().chain([n]).collect();
    let wide = if x.dtype().is_complex() { DType::C128 } else { DType::F64 };
    // Row numbers travel as numbers, which double precision holds exactly.
    let out = batched(&[&array::cast(x, wide)?], &[(n, n), (1, n)], |m| one(&m[0]), |m| one(&m[0]))?;
    let [packed, order]: [Tensor; 2] =
        out.try_into().map_err(|_| Error::value("two results were expected"))?;
    let order = array::cast(&array::cast(&order, DType::F64)?, dtype)?;
    Ok((array::cast(&packed, x.dtype())?, order.reshape(shape)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solutions_solve() {
        let a = Tensor::from_vec(vec![0.0f64, 2.0, 3.0, 4.0], [2, 2]).expect("tensor");
        let b = Tensor::from_vec(vec![2.0f64, 11.0], [2, 1]).expect("tensor");
        let x = solve(&a, Form::Plain, &b).expect("solution");
        assert_eq!(x.as_slice::<f64>().expect("f64"), [7.0 / 3.0, 1.0]);
        assert_eq!(determinant(&a).expect("determinant").item::<f64>().expect("f64"), -6.0);
        let flat = Tensor::from_vec(vec![1.0f64, 2.0, 2.0, 4.0], [2, 2]).expect("tensor");
        assert!(inverse(&flat, Form::Plain).is_err() && lu(&flat, DType::I32).is_err());
    }
}
