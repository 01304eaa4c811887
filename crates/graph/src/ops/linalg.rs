//! Linear algebra: decompositions, solving, functions of matrices.

use super::args::{many, map1, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::linalg::{self, LeastSquares, Tridiagonal};
use crate::tensor::kernels::matmul::Form;
use crate::tensor::kernels::{array, elementwise as e};
use crate::tensor::{DType, Shape, Tensor};
use crate::{Error, Result};

/// The product of vectors in space, which lie in the last dimension.
fn cross() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [a, b] = tensors(inputs)?;
        if a.shape() != b.shape() || a.shape().last() != Some(&3) {
            return Err(Error::compute(format!(
                "cross products are of two like tensors of 3-element vectors, got shapes {:?} and {:?}",
                a.shape(),
                b.shape()
            )));
        }
        let last = a.rank() - 1;
        // Rolled on by one and by two places, so that factors meet.
        let rolled = |t: &Tensor, by: i64| array::roll(t, &[-by], &[last]);
        let first = e::mul(rolled(&a, 1)?, rolled(&b, 2)?)?;
        one(e::sub(first, e::mul(rolled(&a, 2)?, rolled(&b, 1)?)?)?)
    }))
}

fn adjoint(a: &NodeAttrs<'_>) -> Result<Form> {
    Ok(Form::adjoint(a.bool("adjoint")?))
}

fn solve(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let form = adjoint(a)?;
    Ok(kernel(move |_, inputs| {
        let [matrix, rhs] = tensors(inputs)?;
        one(linalg::solve(&matrix, form, &rhs)?)
    }))
}

fn inverse(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let form = adjoint(a)?;
    map1(move |x| linalg::inverse(&x, form))
}

type Triangular = fn(&Tensor, bool, Form, &Tensor) -> crate::tensor::Result<Tensor>;

fn triangular(a: &NodeAttrs<'_>, f: Triangular) -> Result<Box<dyn Kernel>> {
    let (lower, form) = (a.bool("lower")?, adjoint(a)?);
    Ok(kernel(move |_, inputs| {
        let [matrix, rhs] = tensors(inputs)?;
        one(f(&matrix, lower, form, &rhs)?)
    }))
}

fn least_squares(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let fast = a.bool("fast")?;
    Ok(kernel(move |_, inputs| {
        let [matrix, rhs, regularizer] = tensors(inputs)?;
        let regularizer = regularizer.item::<f64>()?;
        if regularizer.is_nan() || regularizer < 0.0 {
            return Err(Error::compute(format!("l2_regularizer must not be negative, got {regularizer}")));
        }
        let how = if fast { LeastSquares::Normal(regularizer) } else { LeastSquares::Decomposed };
        one(linalg::least_squares(&matrix, &rhs, how)?)
    }))
}

fn tridiagonal_solve(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let how = Tridiagonal { pivoting: a.bool("partial_pivoting")?, perturb: a.bool("perturb_singular")? };
    if how.perturb && !how.pivoting {
        return Err(Error::graph("perturb_singular goes with partial_pivoting only"));
    }
    Ok(kernel(move |_, inputs| {
        let [diagonals, rhs] = tensors(inputs)?;
        one(linalg::tridiagonal_solve(&diagonals, &rhs, how)?)
    }))
}

fn tridiagonal_product() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [above, main, below, rhs] = tensors(inputs)?;
        one(linalg::tridiagonal_product(&above, &main, &below, &rhs)?)
    }))
}

fn cholesky_grad() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [l, grad] = tensors(inputs)?;
        one(linalg::cholesky_grad(&l, &grad)?)
    }))
}

fn log_determinant() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x] = tensors(inputs)?;
        let (sign, log) = linalg::log_determinant(&x)?;
        many([sign, log])
    }))
}

fn lu(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("output_idx_type")?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let (packed, order) = linalg::lu(&x, dtype)?;
        many([packed, order])
    }))
}

fn qr(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let full = a.bool("full_matrices")?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let (q, r) = linalg::qr(&x, full)?;
        many([q, r])
    }))
}

fn svd(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let full = a.bool("full_matrices")?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        many(linalg::svd(&x, full)?)
    }))
}

fn eigh() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x] = tensors(inputs)?;
        let (values, vectors) = linalg::eigh(&x)?;
        many([values, vectors])
    }))
}

/// Values as a first row above the vectors, as the oldest version has them.
fn eigh_in_one() -> Result<Box<dyn Kernel>> {
    map1(|x| {
        let (values, vectors) = linalg::eigh(&x)?;
        let mut shape = Shape::from(values.shape());
        shape.insert(shape.len() - 1, 1);
        array::concat(&[&values.reshape(shape)?, &vectors], vectors.rank() - 2)
    })
}

fn eig(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype: DType = a.dtype("Tout")?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let (values, vectors) = linalg::eig(&x, dtype)?;
        many([values, vectors])
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Cross(a: T, b: T) -> (product: T); T: type", |_| cross()),
    Op::new("Cholesky(input: T) -> (output: T); T: type", |_| map1(|x| linalg::cholesky(&x))),
    Op::new("BatchCholesky(input: T) -> (output: T); T: type", |_| map1(|x| linalg::cholesky(&x))),
    Op::new("CholeskyGrad(l: T, grad: T) -> (output: T); T: type", |_| cholesky_grad()),
    Op::new("BatchCholeskyGrad(l: T, grad: T) -> (output: T); T: type", |_| cholesky_grad()),
    Op::new("MatrixInverse(input: T) -> (output: T); adjoint: bool = false; T: type", inverse),
    Op::new("BatchMatrixInverse(input: T) -> (output: T); adjoint: bool = false; T: type", inverse),
    Op::new("MatrixDeterminant(input: T) -> (output: T); T: type", |_| map1(|x| linalg::determinant(&x))),
    Op::new("BatchMatrixDeterminant(input: T) -> (output: T); T: type", |_| map1(|x| linalg::determinant(&x))),
    Op::new("LogMatrixDeterminant(input: T) -> (sign: T, log_abs_determinant: T); T: type", |_| log_determinant()),
    Op::new("MatrixSolve(matrix: T, rhs: T) -> (output: T); adjoint: bool = false; T: type", solve),
    Op::new("BatchMatrixSolve(matrix: T, rhs: T) -> (output: T); adjoint: bool = false; T: type", solve),
    Op::new("MatrixSolveLs(matrix: T, rhs: T, l2_regularizer: float64) -> (output: T); T: type; fast: bool = true", least_squares),
    Op::new("BatchMatrixSolveLs(matrix: T, rhs: T, l2_regularizer: float64) -> (output: T); T: type; fast: bool = true", least_squares),
    Op::new("MatrixTriangularSolve(matrix: T, rhs: T) -> (output: T); lower: bool = true; adjoint: bool = false; T: type", |a| triangular(a, linalg::triangular_solve)),
    Op::new("BatchMatrixTriangularSolve(matrix: T, rhs: T) -> (output: T); lower: bool = true; adjoint: bool = false; T: type", |a| triangular(a, linalg::triangular_solve)),
    Op::new("BandedTriangularSolve(matrix: T, rhs: T) -> (output: T); lower: bool = true; adjoint: bool = false; T: type", |a| triangular(a, linalg::banded_solve)),
    Op::new("TridiagonalSolve(diagonals: T, rhs: T) -> (output: T); partial_pivoting: bool = true; perturb_singular: bool = false; T: type", tridiagonal_solve),
    Op::new("TridiagonalMatMul(superdiag: T, maindiag: T, subdiag: T, rhs: T) -> (output: T); T: type", |_| tridiagonal_product()),
    Op::new("Lu(input: T) -> (lu: T, p: output_idx_type); T: type; output_idx_type: type = int32", lu),
    Op::new("Qr(input: T) -> (q: T, r: T); full_matrices: bool = false; T: type", qr),
    Op::new("Svd(input: T) -> (s: T, u: T, v: T); compute_uv: bool = true; full_matrices: bool = false; T: type", svd),
    Op::new("BatchSvd(input: T) -> (s: T, u: T, v: T); compute_uv: bool = true; full_matrices: bool = false; T: type", svd),
    Op::new("SelfAdjointEigV2(input: T) -> (e: T, v: T); compute_v: bool = true; T: type", |_| eigh()),
    Op::new("BatchSelfAdjointEigV2(input: T) -> (e: T, v: T); compute_v: bool = true; T: type", |_| eigh()),
    Op::new("SelfAdjointEig(input: T) -> (output: T); T: type", |_| eigh_in_one()),
    Op::new("BatchSelfAdjointEig(input: T) -> (output: T); T: type", |_| eigh_in_one()),
    Op::new("Eig(input: T) -> (e: Tout, v: Tout); compute_v: bool = true; T: type; Tout: type", eig),
    Op::new("MatrixExponential(input: T) -> (output: T); T: type", |_| map1(|x| linalg::exponential(&x))),
    Op::new("MatrixLogarithm(input: T) -> (output: T); T: type", |_| map1(|x| linalg::logarithm(&x))),
    Op::new("MatrixSquareRoot(input: T) -> (output: T); T: type", |_| map1(|x| linalg::square_root(&x))),
];
