//! Systems whose matrices are triangles or bands.

use super::matrix::{Matrix, Scalar, add_scaled, batched, single};
use super::{Form, epsilon, is_adjoint, matrices, same_rows, square};
use crate::kernels::array;
use crate::kernels::broadcast::broadcast_shape;
use crate::{Error, Result, Tensor};

/// What a triangle of `n` rows has beside zeros.
pub(super) struct Shape {
    n: usize,
    /// Below the diagonal, rather than above it.
    lower: bool,
    /// Whether the diagonal is all ones.
    unit: bool,
    /// How far from the diagonal.
    band: usize,
}

impl Shape {
    pub(super) fn lower(n: usize) -> Self {
        Shape { n, lower: true, unit: false, band: n }
    }

    pub(super) fn upper(n: usize) -> Self {
        Shape { lower: false, ..Shape::lower(n) }
    }

    pub(super) fn unit_lower(n: usize) -> Self {
        Shape { unit: true, ..Shape::lower(n) }
    }
}

/// Solves the triangle whose elements `at` gives, in place of its right hand side.
pub(super) fn substitute<S: Scalar>(shape: &Shape, at: impl Fn(usize, usize) -> S, x: &mut Matrix<S>) {
    let Shape { n, lower, unit, band } = *shape;
    for step in 0..n {
        let i = if lower { step } else { n - 1 - step };
        let known = if lower { i.saturating_sub(band)..i } else { i + 1..i.saturating_add(band + 1).min(n) };
        for j in known {
            let factor = at(i, j);
            if factor != S::real(0.0) {
                let (from, to) = x.row_pair(j, i);
                add_scaled(to, from, -factor);
            }
        }
        if !unit {
            let pivot = at(i, i);
            x.row_mut(i).iter_mut().for_each(|v| *v = *v / pivot);
        }
    }
}

/// The solutions `x` of `matrix x = rhs` for triangles (`tf.linalg.triangular_solve`), lower or upper, or for their adjoints;
/// what is on the other side of the diagonal isn't read. Batches broadcast.
///
/// # Errors
/// When matrices aren't square, or shapes or dtypes don't fit.
pub fn triangular_solve(matrix: &Tensor, lower: bool, form: Form, rhs: &Tensor) -> Result<Tensor> {
    fn one<S: Scalar>(m: &[Matrix<S>], lower: bool, adjoint: bool) -> Result<Vec<Matrix<S>>> {
        let (a, mut x) = (&m[0], m[1].clone());
        let shape = if lower != adjoint { Shape::lower(a.rows) } else { Shape::upper(a.rows) };
        if adjoint {
            substitute(&shape, |i, j| a[(j, i)].conj(), &mut x);
        } else {
            substitute(&shape, |i, j| a[(i, j)], &mut x);
        }
        Ok(vec![x])
    }
    let (batch, n) = square(matrix)?;
    let (other, rows, columns) = matrices(rhs)?;
    if rows != n {
        return Err(Error::shape(format!("a right hand side of {rows} rows for matrices of {n}")));
    }
    let batch = broadcast_shape(batch, other)?;
    let spread = |t: &Tensor, rows: usize, columns: usize| {
        array::broadcast_to(t, &batch.iter().copied().chain([rows, columns]).collect::<crate::Shape>())
    };
    let (matrix, rhs) = (spread(matrix, n, n)?, spread(rhs, n, columns)?);
    let adjoint = is_adjoint(form);
    single(batched(
        &[&matrix, &rhs],
        &[(n, columns)],
        |m| one(m, lower, adjoint),
        |m| one(m, lower, adjoint),
    )?)
}

/// As [`triangular_solve`], for triangles given by their diagonals: `[.., diagonals, n]`, the main one first for lower
/// triangles and last for upper ones (`tf.linalg.banded_triangular_solve`).
///
/// # Errors
/// When a main diagonal has a zero, or shapes or dtypes don't fit.
pub fn banded_solve(diagonals: &Tensor, lower: bool, form: Form, rhs: &Tensor) -> Result<Tensor> {
    fn one<S: Scalar>(m: &[Matrix<S>], lower: bool, adjoint: bool) -> Result<Vec<Matrix<S>>> {
        let (a, mut x) = (&m[0], m[1].clone());
        let (bands, n) = (a.rows, a.columns);
        let at = |i: usize, j: usize| {
            let away = i.abs_diff(j);
            a[(if lower { away } else { bands - 1 - away }, i)]
        };
        if (0..n).any(|i| at(i, i) == S::real(0.0)) {
            return Err(Error::value("input matrix is not invertible"));
        }
        let shape = Shape { n, lower: lower != adjoint, unit: false, band: bands - 1 };
        if adjoint {
            substitute(&shape, |i, j| at(j, i).conj(), &mut x);
        } else {
            substitute(&shape, at, &mut x);
        }
        Ok(vec![x])
    }
    let ((batch, bands, n), (other, rows, columns)) = (matrices(diagonals)?, matrices(rhs)?);
    if bands == 0 || bands > n.max(1) || rows != n {
        return Err(Error::shape(format!(
            "diagonals of shape {:?} and right hand sides of {:?} are incompatible",
            diagonals.shape(),
            rhs.shape()
        )));
    }
    let batch = broadcast_shape(batch, other)?;
    let spread = |t: &Tensor, rows: usize, columns: usize| {
        array::broadcast_to(t, &batch.iter().copied().chain([rows, columns]).collect::<crate::Shape>())
    };
    let (diagonals, rhs) = (spread(diagonals, bands, n)?, spread(rhs, n, columns)?);
    let adjoint = is_adjoint(form);
    single(batched(
        &[&diagonals, &rhs],
        &[(n, columns)],
        |m| one(m, lower, adjoint),
        |m| one(m, lower, adjoint),
    )?)
}

/// How a tridiagonal system is solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tridiagonal {
    /// Whether rows may be exchanged, which costs a little and keeps rounding errors small.
    pub pivoting: bool,
    /// Whether pivots that can't be divided by are replaced by a tiny number.
    pub perturb: bool,
}

/// The solutions of systems of three diagonals, `[.., 3, n]`: the one above the main one (its last element isn't read),
/// the main one, and the one below (its first element isn't read); NaN where there is none
/// (`tf.linalg.tridiagonal_solve`).
///
/// # Errors
/// When shapes or dtypes don't fit.
pub fn tridiagonal_solve(diagonals: &Tensor, rhs: &Tensor, how: Tridiagonal) -> Result<Tensor> {
    let ((batch, three, n), (other, rows, columns)) = (matrices(diagonals)?, matrices(rhs)?);
    if three != 3 || rows != n || batch != other {
        return Err(Error::shape(format!(
            "diagonals of shape {:?} and right hand sides of {:?} are incompatible",
            diagonals.shape(),
            rhs.shape()
        )));
    }
    let noise = epsilon(diagonals.dtype());
    let least = if noise == f64::EPSILON { f64::MIN_POSITIVE } else { f64::from(f32::MIN_POSITIVE) };
    let limits = (noise, least);
    single(batched(
        &[diagonals, rhs],
        &[(n, columns)],
        |m| Ok(vec![eliminate(&m[0], &m[1], how, limits)]),
        |m| Ok(vec![eliminate(&m[0], &m[1], how, limits)]),
    )?)
}

fn eliminate<S: Scalar>(
    d: &Matrix<S>,
    rhs: &Matrix<S>,
    how: Tridiagonal,
    (noise, least): (f64, f64),
) -> Matrix<S> {
    let n = d.columns;
    let zero = S::real(0.0);
    // Rows of the triangle that is made: the main diagonal and two above it.
    let mut rows: Vec<[S; 3]> =
        (0..n).map(|i| [d[(1, i)], if i + 1 < n { d[(0, i)] } else { zero }, zero]).collect();
    let mut x = rhs.clone();
    for i in 0..n.saturating_sub(1) {
        let below = d[(2, i + 1)];
        let next = rows[i + 1];
        if how.pivoting && below.abs() > rows[i][0].abs() {
            let [main, above, _] = rows[i];
            let factor = main / below;
            rows[i] = [below, next[0], next[1]];
            rows[i + 1] = [above - factor * next[0], zero - factor * next[1], zero];
            x.swap_rows(i, i + 1);
            let (from, to) = x.row_pair(i, i + 1);
            add_scaled(to, from, -factor);
        } else {
            let factor = if below == zero { zero } else { below / rows[i][0] };
            rows[i + 1][0] = next[0] - factor * rows[i][1];
            rows[i + 1][1] = next[1] - factor * rows[i][2];
            let (from, to) = x.row_pair(i, i + 1);
            add_scaled(to, from, -factor);
        }
    }
    if let (true, Some(first), Some(last)) = (how.perturb, rows.first(), rows.last()) {
        let size = first.iter().chain([&last[0]]).fold(0.0f64, |m, v| m.max(v.abs()));
        let tiny = S::real((size * noise).max(least));
        rows.iter_mut().filter(|r| r[0].abs() < least).for_each(|r| r[0] = tiny);
    }
    if rows.iter().any(|r| r[0] == zero) {
        return Matrix::full(n, rhs.columns, S::real(f64::NAN));
    }
    let shape = Shape { n, lower: false, unit: false, band: 2 };
    substitute(&shape, |i, j| rows[i][j - i], &mut x);
    x
}

/// The products of matrices of three diagonals with `rhs`, `[.., n, k]`; the diagonals are `[.., 1, n]` each and lie as in
/// [`tridiagonal_solve`] (`tf.linalg.tridiagonal_matmul`).
///
/// # Errors
/// When shapes or dtypes don't fit.
pub fn tridiagonal_product(above: &Tensor, main: &Tensor, below: &Tensor, rhs: &Tensor) -> Result<Tensor> {
    fn one<S: Scalar>(m: &[Matrix<S>]) -> Result<Vec<Matrix<S>>> {
        let (above, main, below, x) = (&m[0], &m[1], &m[2], &m[3]);
        let mut out = Matrix::zeros(x.rows, x.columns);
        for i in 0..x.rows {
            add_scaled(out.row_mut(i), x.row(i), main[(0, i)]);
            if i + 1 < x.rows {
                add_scaled(out.row_mut(i), x.row(i + 1), above[(0, i)]);
            }
            if i > 0 {
                add_scaled(out.row_mut(i), x.row(i - 1), below[(0, i)]);
            }
        }
        Ok(vec![out])
    }
    let (_, n, columns) = matrices(rhs)?;
    for diagonal in [above, main, below] {
        let (_, rows, length) = matrices(diagonal)?;
        same_rows(main, diagonal)?;
        if rows != 1 || length != n || main.shape()[..main.rank() - 2] != rhs.shape()[..rhs.rank() - 2] {
            return Err(Error::shape(format!(
                "a diagonal of shape {:?} and a right hand side of {:?} are incompatible",
                diagonal.shape(),
                rhs.shape()
            )));
        }
    }
    single(batched(&[rhs, above, main, below], &[(n, columns)], |m| one(&rotated(m)), |m| one(&rotated(m)))?)
}

/// The first behind the others.
fn rotated<S: Scalar>(m: &[Matrix<S>]) -> Vec<Matrix<S>> {
    let mut all = m.to_vec();
    all.rotate_left(1);
    all
}
