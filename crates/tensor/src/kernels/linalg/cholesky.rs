//! Cholesky's decomposition.

use super::matrix::{Matrix, Scalar, batched, single};
use super::square;
use super::triangular::{Shape as Triangle, substitute};
use crate::{Error, Result, Tensor};

/// The lower triangular matrices `L` with `L Lᴴ = x` (`tf.linalg.cholesky`). Only the lower triangles of `x` are read. Of
/// a matrix that isn't positive definite the lower triangle is NaN.
///
/// # Errors
/// When matrices aren't square, or the dtype isn't a float or complex one.
pub fn cholesky(x: &Tensor) -> Result<Tensor> {
    let (_, n) = square(x)?;
    single(batched(&[x], &[(n, n)], |m| Ok(vec![factor_or_nan(&m[0])]), |m| Ok(vec![factor_or_nan(&m[0])]))?)
}

fn factor_or_nan<S: Scalar>(a: &Matrix<S>) -> Matrix<S> {
    factor(a).unwrap_or_else(|| {
        // For complex numbers C++ has no NaN of its own, and TensorFlow's kernel gives zeros.
        let failed = if S::DTYPE.is_complex() { 0.0 } else { f64::NAN };
        Matrix::from_fn(a.rows, a.rows, |i, j| S::real(if j <= i { failed } else { 0.0 }))
    })
}

/// The factor of a positive definite matrix.
pub(super) fn factor<S: Scalar>(a: &Matrix<S>) -> Option<Matrix<S>> {
    let n = a.rows;
    let mut l = Matrix::<S>::zeros(n, n);
    for i in 0..n {
        for j in 0..=i {
            let dot =
                l.row(i)[..j].iter().zip(&l.row(j)[..j]).fold(S::real(0.0), |s, (x, y)| s + *x * y.conj());
            let rest = a[(i, j)] - dot;
            l[(i, j)] = if i != j {
                rest / l[(j, j)]
            } else if rest.re() <= 0.0 {
                return None;
            } else {
                // What isn't a number is none in the factor, too, and only from there on.
                S::real(rest.re().sqrt())
            };
        }
    }
    Some(l)
}

/// The gradient of [`cholesky`] for its input, from its result `l` and the gradient of that.
///
/// # Errors
/// When shapes differ, matrices aren't square, or the dtype isn't a float or complex one.
pub fn cholesky_grad(l: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let (_, n) = square(l)?;
    if l.shape() != grad.shape() {
        return Err(Error::shape(format!("a gradient of shape {:?} for {:?}", grad.shape(), l.shape())));
    }
    single(batched(
        &[l, grad],
        &[(n, n)],
        |m| Ok(vec![backward(&m[0], &m[1])]),
        |m| Ok(vec![backward(&m[0], &m[1])]),
    )?)
}

fn backward<S: Scalar>(l: &Matrix<S>, grad: &Matrix<S>) -> Matrix<S> {
    let n = l.rows;
    let lower = |m: &Matrix<S>| Matrix::from_fn(n, n, |i, j| if j <= i { m[(i, j)] } else { S::real(0.0) });
    let (l, grad) = (lower(l), lower(grad));
    let mut inner = lower(&l.adjoint().times(&grad));
    (0..n).for_each(|i| inner[(i, i)] = inner[(i, i)] * S::real(0.5));
    // Lᴴ from the left, L from the right, which is Lᴴ from the left of the adjoint.
    let up = |m: &mut Matrix<S>| substitute(&Triangle::upper(n), |i, j| l[(j, i)].conj(), m);
    up(&mut inner);
    let mut whole = inner.adjoint();
    up(&mut whole);
    let other = whole.adjoint();
    whole.plus(&other, 1.0).scaled(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lower_triangle_counts() {
        let x = Tensor::from_vec(vec![4.0f32, 9.0, 2.0, 5.0], [2, 2]).expect("tensor");
        let l = cholesky(&x).expect("factor");
        assert_eq!(l.as_slice::<f32>().expect("f32"), [2.0, 0.0, 1.0, 2.0]);
        let x = Tensor::from_vec(vec![1.0f32, 2.0, 2.0, 1.0], [2, 2]).expect("tensor");
        assert!(cholesky(&x).expect("factor").as_slice::<f32>().expect("f32")[0].is_nan());
    }
}
