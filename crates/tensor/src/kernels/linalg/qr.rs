//! Decomposition by reflections.

use super::matrices;
use super::matrix::{Matrix, Scalar, batched};
use crate::{Error, Result, Tensor};

/// A reflection `I - tau v vᴴ` that turns a vector into one with a single, real element.
pub(super) struct Reflection<S> {
    tau: S,
    v: Vec<S>,
}

impl<S: Scalar> Reflection<S> {
    /// The reflection of `x`, and what becomes of its first element.
    pub(super) fn of(x: &[S]) -> (Self, f64) {
        let first = x.first().copied().unwrap_or(S::real(0.0));
        let tail: f64 = x.iter().skip(1).map(|v| v.squared()).sum();
        let mut v = x.to_vec();
        if let Some(v) = v.first_mut() {
            *v = S::real(1.0);
        }
        if tail <= f64::MIN_POSITIVE && first.im() * first.im() <= f64::MIN_POSITIVE {
            v.iter_mut().skip(1).for_each(|v| *v = S::real(0.0));
            return (Reflection { tau: S::real(0.0), v }, first.re());
        }
        // Of two such reflections the one that subtracts nothing alike.
        let length = (first.squared() + tail).sqrt();
        let beta = if first.re() >= 0.0 { -length } else { length };
        let scale = first - S::real(beta);
        v.iter_mut().skip(1).for_each(|v| *v = *v / scale);
        let tau = ((S::real(beta) - first) / S::real(beta)).conj();
        (Reflection { tau, v }, beta)
    }

    /// Reflects the columns from `column` on of the rows from `row` on.
    pub(super) fn apply_left(&self, m: &mut Matrix<S>, row: usize, column: usize) {
        self.left(self.tau, m, row, column);
    }

    /// As [`Reflection::apply_left`], by the adjoint.
    pub(super) fn apply_adjoint_left(&self, m: &mut Matrix<S>, row: usize, column: usize) {
        self.left(self.tau.conj(), m, row, column);
    }

    fn left(&self, tau: S, m: &mut Matrix<S>, row: usize, column: usize) {
        if tau == S::real(0.0) {
            return;
        }
        let mut dots = vec![S::real(0.0); m.columns - column];
        for (i, v) in self.v.iter().enumerate() {
            let factor = v.conj();
            dots.iter_mut().zip(&m.row(row + i)[column..]).for_each(|(d, x)| *d = *d + factor * *x);
        }
        for (i, v) in self.v.iter().enumerate() {
            let factor = tau * *v;
            m.row_mut(row + i)[column..].iter_mut().zip(&dots).for_each(|(x, d)| *x = *x - factor * *d);
        }
    }

    /// Reflects all rows, in their columns from `column` on, by the adjoint.
    pub(super) fn apply_adjoint_right(&self, m: &mut Matrix<S>, column: usize) {
        let tau = self.tau.conj();
        if tau == S::real(0.0) {
            return;
        }
        for i in 0..m.rows {
            let row = &mut m.row_mut(i)[column..];
            let dot = row.iter().zip(&self.v).fold(S::real(0.0), |s, (x, v)| s + *x * *v);
            row.iter_mut().zip(&self.v).for_each(|(x, v)| *x = *x - dot * tau * v.conj());
        }
    }
}

/// `a = q r`, with `q` of `width` orthonormal columns.
pub(super) fn factor<S: Scalar>(a: &Matrix<S>, width: usize) -> (Matrix<S>, Matrix<S>) {
    let (m, n) = (a.rows, a.columns);
    let mut r = a.clone();
    let mut reflections = Vec::new();
    for k in 0..m.min(n) {
        let column: Vec<S> = (k..m).map(|i| r[(i, k)]).collect();
        let (reflection, beta) = Reflection::of(&column);
        reflection.apply_left(&mut r, k, k + 1);
        r[(k, k)] = S::real(beta);
        (k + 1..m).for_each(|i| r[(i, k)] = S::real(0.0));
        reflections.push(reflection);
    }
    let mut q = Matrix::identity(m, width);
    for (k, reflection) in reflections.iter().enumerate().rev() {
        reflection.apply_adjoint_left(&mut q, k, 0);
    }
    let r = Matrix::from_fn(width, n, |i, j| r[(i, j)]);
    (q, r)
}

/// Matrices as products of orthonormal columns and upper triangles (`tf.linalg.qr`): `q` is square if `full`, else it has no
/// more columns than `x`.
///
/// # Errors
/// When the rank is under 2, or the dtype isn't a float or complex one.
pub fn qr(x: &Tensor, full: bool) -> Result<(Tensor, Tensor)> {
    fn one<S: Scalar>(a: &Matrix<S>, width: usize) -> Vec<Matrix<S>> {
        let (q, r) = factor(a, width);
        vec![q, r]
    }
    let (_, m, n) = matrices(x)?;
    let width = if full { m } else { m.min(n) };
    let out = batched(&[x], &[(m, width), (width, n)], |a| Ok(one(&a[0], width)), |a| Ok(one(&a[0], width)))?;
    out.try_into().map(|[q, r]: [Tensor; 2]| (q, r)).map_err(|_| Error::value("two results were expected"))
}

#[cfg(test)]
mod tests {
    use num_complex::Complex64;

    use super::*;

    #[test]
    fn the_factors_give_the_matrix() {
        let a =
            Matrix::from_fn(4, 3, |i, j| Complex64::new((i * 3 + j) as f64 % 5.0, (i + 2 * j) as f64 % 3.0));
        let (q, r) = factor(&a, 4);
        assert!(q.times(&r).plus(&a, -1.0).largest() < 1e-14);
        assert!(q.adjoint().times(&q).plus(&Matrix::identity(4, 4), -1.0).largest() < 1e-14);
        assert!((0..4).all(|i| (0..i.min(3)).all(|j| r[(i, j)].norm() == 0.0)));
    }
}
