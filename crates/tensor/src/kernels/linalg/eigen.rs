//! Eigenvalues and eigenvectors.

use num_complex::Complex64;

use super::matrix::{Matrix, Scalar, batched, flattened};
use super::qr::Reflection;
use super::schur::Schur;
use super::{epsilon, square};
use crate::kernels::array;
use crate::{DType, Error, Result, Tensor};

/// The eigenvalues of self-adjoint matrices, rising, and in the columns their eigenvectors (`tf.linalg.eigh`). Only the
/// lower triangles of `x` are read.
///
/// # Errors
/// When matrices aren't square or have NaN, or the dtype isn't a float or complex one.
pub fn eigh(x: &Tensor) -> Result<(Tensor, Tensor)> {
    fn one<S: Scalar>(a: &Matrix<S>, noise: f64) -> Result<Vec<Matrix<S>>> {
        let (values, vectors) = self_adjoint(a, noise)?;
        Ok(vec![Matrix::from_fn(1, values.len(), |_, i| S::real(values[i])), vectors])
    }
    let (_, n) = square(x)?;
    let noise = epsilon(x.dtype());
    pair(batched(&[x], &[(1, n), (n, n)], |m| one(&m[0], noise), |m| one(&m[0], noise))?)
}

fn pair(results: Vec<Tensor>) -> Result<(Tensor, Tensor)> {
    let [values, vectors]: [Tensor; 2] =
        results.try_into().map_err(|_| Error::value("two results were expected"))?;
    Ok((flattened(values, 1)?, vectors))
}

/// Steps of the iteration that one eigenvalue may take.
const STEPS: usize = 40;

fn failed() -> Error {
    Error::value("the eigen decomposition was not successful: the input might not be valid")
}

/// Reflected to three diagonals, which rotations then reduce to one. The signs of vectors depend on the number of
/// rotations, so these end where they would in the dtype whose `noise` it is.
fn self_adjoint<S: Scalar>(a: &Matrix<S>, noise: f64) -> Result<(Vec<f64>, Matrix<S>)> {
    let n = a.rows;
    let lower = |i: usize, j: usize| if j <= i { a[(i, j)] } else { a[(j, i)].conj() };
    let mut m = Matrix::from_fn(n, n, |i, j| if i == j { S::real(a[(i, i)].re()) } else { lower(i, j) });
    let size = m.largest();
    if m.has_nan() || size.is_infinite() {
        return Err(failed());
    }
    let scale = if size == 0.0 { 1.0 } else { size };
    m = m.scaled(1.0 / scale);
    let mut reflections = Vec::new();
    for k in 0..n.saturating_sub(1) {
        let column: Vec<S> = (k + 1..n).map(|i| m[(i, k)]).collect();
        let (reflection, beta) = Reflection::of(&column);
        reflection.apply_left(&mut m, k + 1, k + 1);
        reflection.apply_adjoint_right(&mut m, k + 1);
        m[(k + 1, k)] = S::real(beta);
        reflections.push(reflection);
    }
    let mut diagonal: Vec<f64> = (0..n).map(|i| m[(i, i)].re()).collect();
    let mut beside: Vec<f64> = (1..n).map(|i| m[(i, i - 1)].re()).collect();
    let mut q = Matrix::identity(n, n);
    for (k, reflection) in reflections.iter().enumerate().rev() {
        reflection.apply_adjoint_left(&mut q, k + 1, 0);
    }
    // Columns lie as rows while they are rotated.
    let mut vectors = Matrix::from_fn(n, n, |i, j| q[(j, i)]);
    let (mut end, mut steps) = (n.saturating_sub(1), 0);
    while end > 0 {
        for i in 0..end {
            let noise = noise * (diagonal[i].abs() + diagonal[i + 1].abs()).sqrt();
            if beside[i].abs() < f64::MIN_POSITIVE || beside[i].abs() <= noise {
                beside[i] = 0.0;
            }
        }
        while end > 0 && beside[end - 1] == 0.0 {
            end -= 1;
        }
        if end == 0 {
            break;
        }
        steps += 1;
        if steps > STEPS * n {
            return Err(failed());
        }
        let mut start = end - 1;
        while start > 0 && beside[start - 1] != 0.0 {
            start -= 1;
        }
        implicit_step(&mut diagonal, &mut beside, start, end, &mut vectors);
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| diagonal[*a].total_cmp(&diagonal[*b]));
    let values = order.iter().map(|i| diagonal[*i] * scale).collect();
    Ok((values, Matrix::from_fn(n, n, |i, j| vectors[(order[j], i)])))
}

/// The cosine and sine that turn `(x, z)` onto the first axis, its positive side.
fn givens(x: f64, z: f64) -> (f64, f64) {
    let length = x.hypot(z);
    if length == 0.0 { (1.0, 0.0) } else { (x / length, -z / length) }
}

/// One step of the iteration with Wilkinson's shift on the rows from `start` to `end`.
fn implicit_step<S: Scalar>(d: &mut [f64], e: &mut [f64], start: usize, end: usize, vectors: &mut Matrix<S>) {
    let half = (d[end - 1] - d[end]) * 0.5;
    let last = e[end - 1];
    let shift = if half == 0.0 {
        d[end] - last.abs()
    } else {
        d[end] - last * (last / (half + half.hypot(last).copysign(half)))
    };
    let (mut x, mut z) = (d[start] - shift, e[start]);
    for k in start..end {
        if z == 0.0 {
            break;
        }
        let (c, s) = givens(x, z);
        let (a, b, f) = (d[k], d[k + 1], e[k]);
        d[k] = c * (c * a - s * f) - s * (c * f - s * b);
        d[k + 1] = s * (s * a + c * f) + c * (s * f + c * b);
        e[k] = c * (s * a + c * f) - s * (s * f + c * b);
        if k > start {
            e[k - 1] = c * e[k - 1] - s * z;
        }
        x = e[k];
        if k + 1 < end {
            z = -s * e[k + 1];
            e[k + 1] *= c;
        }
        let n = vectors.columns;
        let (head, tail) = vectors.data.split_at_mut((k + 1) * n);
        for (p, q) in head[k * n..].iter_mut().zip(&mut tail[..n]) {
            let (a, b) = (*p, *q);
            *p = a * S::real(c) - b * S::real(s);
            *q = a * S::real(s) + b * S::real(c);
        }
    }
}

/// The eigenvalues of matrices as the complex `dtype`, and in the columns their eigenvectors of unit length
/// (`tf.linalg.eig`). Eigenvalues rise in magnitude.
///
/// # Errors
/// When matrices aren't square or have NaN, or a dtype isn't what it has to be.
pub fn eig(x: &Tensor, dtype: DType) -> Result<(Tensor, Tensor)> {
    fn one(a: &Matrix<Complex64>) -> Result<Vec<Matrix<Complex64>>> {
        let n = a.rows;
        let Schur { q, t } = Schur::new(a).ok_or_else(failed)?;
        let noise = (t.largest() * f64::EPSILON).max(f64::MIN_POSITIVE);
        let mut vectors: Vec<(Complex64, Vec<Complex64>)> = Vec::with_capacity(n);
        for k in 0..n {
            let value = t[(k, k)];
            let mut x = vec![Complex64::ZERO; n];
            x[k] = Complex64::ONE;
            for i in (0..k).rev() {
                let sum: Complex64 = (i + 1..=k).map(|j| t[(i, j)] * x[j]).sum();
                let gap = t[(i, i)] - value;
                let gap = if gap.norm() < noise { Complex64::new(noise, 0.0) } else { gap };
                x[i] = -sum / gap;
            }
            let vector: Vec<Complex64> =
                (0..n).map(|i| q.row(i).iter().zip(&x).map(|(q, x)| q * x).sum()).collect();
            let length = vector.iter().map(Complex64::norm_sqr).sum::<f64>().sqrt();
            vectors.push((value, vector.into_iter().map(|v| v / length).collect()));
        }
        vectors.sort_by(|a, b| a.0.norm().total_cmp(&b.0.norm()));
        let values = Matrix::from_fn(1, n, |_, i| vectors[i].0);
        Ok(vec![values, Matrix::from_fn(n, n, |i, j| vectors[j].1[i])])
    }
    if !dtype.is_complex() {
        return Err(Error::dtype("a complex one", dtype));
    }
    let (_, n) = square(x)?;
    let x = array::cast(x, DType::C128)?;
    let real = |_: &[Matrix<f64>]| Err(Error::dtype("a complex one", DType::F64));
    let (values, vectors) = pair(batched(&[&x], &[(1, n), (n, n)], real, |m| one(&m[0]))?)?;
    Ok((array::cast(&values, dtype)?, array::cast(&vectors, dtype)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_scaled_by_their_values() {
        let n = 6;
        let a = Matrix::from_fn(n, n, |i, j| Complex64::new((i * j) as f64 % 4.0, i as f64 - j as f64));
        let a = a.adjoint().plus(&a, 1.0);
        let (values, v) = self_adjoint(&a, f64::EPSILON).expect("decomposition");
        let scaled = Matrix::from_fn(n, n, |i, j| v[(i, j)] * values[j]);
        assert!(a.times(&v).plus(&scaled, -1.0).largest() < 1e-12);
        assert!(v.adjoint().times(&v).plus(&Matrix::identity(n, n), -1.0).largest() < 1e-13);
        assert!(values.is_sorted());
    }

    #[test]
    fn any_matrix_has_eigenvectors() {
        let x =
            Tensor::from_vec(vec![1.0f64, 2.0, -3.0, 0.5, 4.0, 1.0, 0.0, 1.0, -2.0], [3, 3]).expect("tensor");
        let (values, vectors) = eig(&x, DType::C128).expect("eig");
        let (e, v) =
            (values.as_slice::<Complex64>().expect("c"), vectors.as_slice::<Complex64>().expect("c"));
        let a = x.as_slice::<f64>().expect("f64");
        for k in 0..3 {
            for i in 0..3 {
                let product: Complex64 = (0..3).map(|j| v[j * 3 + k] * a[i * 3 + j]).sum();
                assert!((product - e[k] * v[i * 3 + k]).norm() < 1e-12);
            }
        }
        let nan = Tensor::full(f64::NAN, [2, 2]).expect("tensor");
        assert!(eig(&nan, DType::C128).is_err() && eigh(&nan).is_err());
    }
}
