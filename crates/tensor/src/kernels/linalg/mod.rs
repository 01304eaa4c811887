//! Linear algebra on matrices in the last two dimensions; those before them are a batch.
//!
//! Everything is computed in double precision, real or complex, and rounded once. What TensorFlow leaves open (signs of
//! vectors, the order of complex eigenvalues) is as its own methods mostly give it.

mod cholesky;
mod eigen;
mod functions;
mod lu;
mod matrix;
mod qr;
mod schur;
mod svd;
mod triangular;

use super::matmul::Form;
use crate::{DType, Error, Result, Tensor};

pub use cholesky::{cholesky, cholesky_grad};
pub use eigen::{eig, eigh};
pub use functions::{exponential, logarithm, square_root};
pub use lu::{determinant, inverse, log_determinant, lu, solve};
pub use qr::qr;
pub use svd::{LeastSquares, least_squares, svd};
pub use triangular::{Tridiagonal, banded_solve, triangular_solve, tridiagonal_product, tridiagonal_solve};

/// The extents of the matrices of `x`: batch, rows, columns.
fn matrices(x: &Tensor) -> Result<(&[usize], usize, usize)> {
    match x.shape() {
        [batch @ .., rows, columns] => Ok((batch, *rows, *columns)),
        _ => Err(Error::shape(format!("a matrix has two dimensions, got shape {:?}", x.shape()))),
    }
}

/// As [`matrices`], for square ones: batch and extent.
fn square(x: &Tensor) -> Result<(&[usize], usize)> {
    match matrices(x)? {
        (batch, n, m) if n == m => Ok((batch, n)),
        (_, rows, columns) => Err(Error::shape(format!("matrices must be square, got {rows} by {columns}"))),
    }
}

fn same_rows(matrix: &Tensor, rhs: &Tensor) -> Result<()> {
    let ((a, n, _), (b, m, _)) = (matrices(matrix)?, matrices(rhs)?);
    if a == b && n == m {
        return Ok(());
    }
    Err(Error::shape(format!(
        "matrices {:?} and right hand sides {:?} are incompatible",
        matrix.shape(),
        rhs.shape()
    )))
}

/// The relative step between numbers of a dtype, for deciding what is noise.
fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F64 | DType::C128 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    }
}

fn is_adjoint(form: Form) -> bool {
    form == Form::Adjoint
}
