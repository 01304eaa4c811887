//! Singular values, and least squares by them.

use super::matrix::{Matrix, Scalar, add_scaled, batched, flattened, single};
use super::{cholesky, epsilon, matrices, qr, same_rows};
use crate::{Error, Result, Tensor};

/// `a = u diag(s) vᴴ`, the singular values falling.
pub(super) struct Svd<S> {
    pub(super) u: Matrix<S>,
    pub(super) s: Vec<f64>,
    pub(super) v: Matrix<S>,
}

/// Sweeps over all pairs of columns, of which a handful suffice.
const SWEEPS: usize = 60;

impl<S: Scalar> Svd<S> {
    /// By rotations of pairs of columns until all are orthogonal. With `full`, `u` and `v` are square.
    pub(super) fn new(a: &Matrix<S>, full: bool) -> Self {
        if a.has_nan() {
            let (m, n, k) = (a.rows, a.columns, a.rows.min(a.columns));
            let nan = |rows, columns| Matrix::full(rows, columns, S::real(f64::NAN));
            let (mu, nv) = if full { (m, n) } else { (k, k) };
            return Svd { u: nan(m, mu), s: vec![f64::NAN; k], v: nan(n, nv) };
        }
        if a.rows < a.columns {
            let Svd { u, s, v } = Svd::new(&a.adjoint(), full);
            return Svd { u: v, s, v: u };
        }
        let n = a.columns;
        let (q, r) = qr::factor(a, n);
        // Columns lie as rows here, those of the triangle and those of v.
        let mut work = Matrix::from_fn(n, n, |i, j| r[(j, i)]);
        let mut v = Matrix::identity(n, n);
        for _ in 0..SWEEPS {
            let mut done = true;
            for i in 0..n {
                for j in i + 1..n {
                    done &= !orthogonalise(&mut work, &mut v, i, j);
                }
            }
            if done {
                break;
            }
        }
        let lengths: Vec<f64> = (0..n).map(|i| norm(work.row(i))).collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| lengths[*b].total_cmp(&lengths[*a]));
        let s: Vec<f64> = order.iter().map(|i| lengths[*i]).collect();
        let noise = s.first().map_or(0.0, |s| s * f64::EPSILON * n as f64);
        let mut columns = Matrix::zeros(n, n);
        for (at, i) in order.iter().enumerate() {
            if lengths[*i] > noise {
                add_scaled(columns.row_mut(at), work.row(*i), S::real(1.0 / lengths[*i]));
            } else {
                complete(&mut columns, at);
            }
        }
        let inner = Matrix::from_fn(n, n, |i, j| columns[(j, i)]);
        let mut u = q.times(&inner);
        if full {
            let m = a.rows;
            let mut whole = Matrix::from_fn(m, m, |i, j| if i < n { u[(j, i)] } else { S::real(0.0) });
            (n..m).for_each(|at| complete(&mut whole, at));
            u = Matrix::from_fn(m, m, |i, j| whole[(j, i)]);
        }
        Svd { u, s, v: Matrix::from_fn(n, n, |i, j| v[(order[j], i)]) }
    }
}

fn norm<S: Scalar>(x: &[S]) -> f64 {
    x.iter().map(|v| v.squared()).sum::<f64>().sqrt()
}

/// `aᴴ b`.
fn dot<S: Scalar>(a: &[S], b: &[S]) -> S {
    a.iter().zip(b).fold(S::real(0.0), |s, (x, y)| s + x.conj() * *y)
}

/// Rotates two columns (lying as rows) so that they become orthogonal; whether they weren't yet.
fn orthogonalise<S: Scalar>(work: &mut Matrix<S>, v: &mut Matrix<S>, i: usize, j: usize) -> bool {
    let (a, b) = (dot(work.row(i), work.row(i)).re(), dot(work.row(j), work.row(j)).re());
    let c = dot(work.row(i), work.row(j));
    let size = c.abs();
    if size == 0.0 || size <= f64::EPSILON * (a * b).sqrt() {
        return false;
    }
    let phase = c / S::real(size);
    let zeta = (b - a) / (2.0 * size);
    let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let cos = 1.0 / (1.0 + t * t).sqrt();
    let sin = cos * t;
    for m in [work, v] {
        let n = m.columns;
        let (head, tail) = m.data.split_at_mut(j * n);
        for (x, y) in head[i * n..][..n].iter_mut().zip(&mut tail[..n]) {
            let (p, q) = (*x, *y * phase.conj());
            *x = p * S::real(cos) - q * S::real(sin);
            *y = p * S::real(sin) + q * S::real(cos);
        }
    }
    true
}

/// Makes row `at` a unit vector that is orthogonal to those before it.
fn complete<S: Scalar>(rows: &mut Matrix<S>, at: usize) {
    let n = rows.columns;
    let mut best = (0.0, vec![S::real(0.0); n]);
    for axis in 0..n {
        let mut candidate = vec![S::real(0.0); n];
        candidate[axis] = S::real(1.0);
        // Twice, as the first time leaves rounding errors.
        for _ in 0..2 {
            for k in 0..at {
                let along = dot(rows.row(k), &candidate);
                add_scaled(&mut candidate, rows.row(k), -along);
            }
        }
        let left = norm(&candidate);
        if left > best.0 {
            best = (left, candidate);
        }
        if left > 0.5 {
            break;
        }
    }
    let scale = S::real(1.0 / best.0.max(f64::MIN_POSITIVE));
    rows.row_mut(at).iter_mut().zip(best.1).for_each(|(o, v)| *o = v * scale);
}

/// The singular values of matrices, falling, and the vectors that go with them (`tf.linalg.svd`): `s`, `u`, `v` with
/// `x = u diag(s) vᴴ`. With `full`, `u` and `v` are square.
///
/// # Errors
/// When the rank is under 2, or the dtype isn't a float or complex one.
pub fn svd(x: &Tensor, full: bool) -> Result<[Tensor; 3]> {
    fn one<S: Scalar>(a: &Matrix<S>, full: bool) -> Vec<Matrix<S>> {
        let Svd { u, s, v } = Svd::new(a, full);
        vec![Matrix::from_fn(1, s.len(), |_, i| S::real(s[i])), u, v]
    }
    let (_, m, n) = matrices(x)?;
    let k = m.min(n);
    let (mu, nv) = if full { (m, n) } else { (k, k) };
    let out = batched(&[x], &[(1, k), (m, mu), (n, nv)], |a| Ok(one(&a[0], full)), |a| Ok(one(&a[0], full)))?;
    let [s, u, v]: [Tensor; 3] = out.try_into().map_err(|_| Error::value("three results were expected"))?;
    Ok([flattened(s, 1)?, u, v])
}

/// How least squares are solved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LeastSquares {
    /// By the normal equations, with this much of the identity added.
    Normal(f64),
    /// By singular values, of which those that are noise are left out.
    Decomposed,
}

/// The solutions of least length of `matrix x = rhs` in the least squares sense (`tf.linalg.lstsq`).
///
/// # Errors
/// When the normal equations have no solution, or shapes or dtypes don't fit.
pub fn least_squares(matrix: &Tensor, rhs: &Tensor, how: LeastSquares) -> Result<Tensor> {
    fn one<S: Scalar>(m: &[Matrix<S>], how: LeastSquares, noise: f64) -> Result<Vec<Matrix<S>>> {
        let (a, b) = (&m[0], &m[1]);
        let adjoint = a.adjoint();
        match how {
            LeastSquares::Normal(regularizer) => {
                let tall = a.rows >= a.columns;
                let gram = if tall { adjoint.times(a) } else { a.times(&adjoint) };
                let n = gram.rows;
                let gram = gram.plus(&Matrix::identity(n, n), regularizer);
                let l = cholesky::factor(&gram).ok_or_else(|| {
                    Error::value(
                        "the matrix was rank deficient or ill-conditioned: a larger l2_regularizer, or fast=False, would help",
                    )
                })?;
                let mut x = if tall { adjoint.times(b) } else { b.clone() };
                super::triangular::substitute(&super::triangular::Shape::lower(n), |i, j| l[(i, j)], &mut x);
                super::triangular::substitute(
                    &super::triangular::Shape::upper(n),
                    |i, j| l[(j, i)].conj(),
                    &mut x,
                );
                Ok(vec![if tall { x } else { adjoint.times(&x) }])
            }
            LeastSquares::Decomposed => {
                let Svd { u, s, v } = Svd::new(a, false);
                let least = s.first().map_or(0.0, |s| s * noise * a.rows.max(a.columns) as f64);
                let mut x = u.adjoint().times(b);
                for (i, s) in s.iter().enumerate() {
                    let scale = S::real(if *s > least { 1.0 / s } else { 0.0 });
                    x.row_mut(i).iter_mut().for_each(|v| *v = *v * scale);
                }
                Ok(vec![v.times(&x)])
            }
        }
    }
    let (_, _, n) = matrices(matrix)?;
    same_rows(matrix, rhs)?;
    let columns = rhs.shape()[rhs.rank() - 1];
    let noise = epsilon(matrix.dtype());
    single(batched(&[matrix, rhs], &[(n, columns)], |m| one(m, how, noise), |m| one(m, how, noise))?)
}

#[cfg(test)]
mod tests {
    use num_complex::Complex64;

    use super::*;

    fn check(a: &Matrix<Complex64>) {
        for full in [false, true] {
            let Svd { u, s, v } = Svd::new(a, full);
            let middle = Matrix::from_fn(u.columns, v.columns, |i, j| {
                Complex64::new(if i == j { s[i] } else { 0.0 }, 0.0)
            });
            assert!(u.times(&middle).times(&v.adjoint()).plus(a, -1.0).largest() < 1e-13);
            for q in [u, v] {
                let n = q.columns;
                assert!(q.adjoint().times(&q).plus(&Matrix::identity(n, n), -1.0).largest() < 1e-13);
            }
            assert!(s.is_sorted_by(|a, b| a >= b));
        }
    }

    #[test]
    fn the_factors_give_the_matrix() {
        let a =
            Matrix::from_fn(5, 3, |i, j| Complex64::new((i * 3 + j) as f64 % 5.0, (i + 2 * j) as f64 % 3.0));
        check(&a);
        check(&a.adjoint());
        check(&Matrix::zeros(3, 2));
        // Of rank 1.
        check(&Matrix::from_fn(4, 3, |i, j| Complex64::new((i * (j + 1)) as f64, 0.0)));
        check(&Matrix::zeros(0, 2));
    }
}
