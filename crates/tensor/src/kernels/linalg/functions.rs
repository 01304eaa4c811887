//! Functions of matrices.

use num_complex::Complex64;

use super::lu::Lu;
use super::matrix::{Matrix, Scalar, batched, single};
use super::schur::Schur;
use super::square;
use crate::{Error, Result, Tensor};

/// `e` to the power of each matrix (`tf.linalg.expm`).
///
/// # Errors
/// When matrices aren't square, or the dtype isn't a float or complex one.
pub fn exponential(x: &Tensor) -> Result<Tensor> {
    let (_, n) = square(x)?;
    single(batched(&[x], &[(n, n)], |m| Ok(vec![exp(&m[0])]), |m| Ok(vec![exp(&m[0])]))?)
}

/// The coefficients of the rational approximation of degree 13, from the constant up.
const PADE: [f64; 14] = [
    64_764_752_532_480_000.0,
    32_382_376_266_240_000.0,
    7_771_770_303_897_600.0,
    1_187_353_796_428_800.0,
    129_060_195_264_000.0,
    10_559_470_521_600.0,
    670_442_572_800.0,
    33_522_128_640.0,
    1_323_241_920.0,
    40_840_800.0,
    960_960.0,
    16_380.0,
    182.0,
    1.0,
];

fn exp<S: Scalar>(a: &Matrix<S>) -> Matrix<S> {
    let n = a.rows;
    let norm = (0..n).map(|i| a.row(i).iter().map(|v| v.abs()).sum::<f64>()).fold(0.0, f64::max);
    if !norm.is_finite() {
        return Matrix::full(n, n, S::real(f64::NAN));
    }
    // Halved until the approximation holds, then squared as often.
    let halvings = (norm / 5.37).log2().ceil().clamp(0.0, 1100.0) as i32;
    let a = a.clone().scaled(0.5f64.powi(halvings));
    let squared = a.times(&a);
    let (mut odd, mut even) = (Matrix::zeros(n, n), Matrix::zeros(n, n));
    let mut power = Matrix::identity(n, n);
    for pair in PADE.chunks(2) {
        if let [e, o] = pair {
            even = even.plus(&power, *e);
            odd = odd.plus(&power, *o);
        }
        power = power.times(&squared);
    }
    let odd = a.times(&odd);
    let mut out = Lu::new(even.clone().plus(&odd, -1.0)).solve(&even.plus(&odd, 1.0));
    for _ in 0..halvings {
        out = out.times(&out);
    }
    out
}

/// Complex numbers are what other functions are made of.
fn complex(x: &Tensor, f: impl Fn(&Matrix<Complex64>) -> Result<Matrix<Complex64>> + Sync) -> Result<Tensor> {
    let (_, n) = square(x)?;
    let real = |m: &[Matrix<f64>]| {
        let widened = Matrix::from_fn(n, n, |i, j| Complex64::new(m[0][(i, j)], 0.0));
        let out = f(&widened)?;
        // What isn't real can't be said in real numbers.
        let noise = out.largest() * 1e-8;
        let part = |v: &Complex64| if v.im.abs() <= noise { v.re } else { f64::NAN };
        let whole = out.data.iter().all(|v| !part(v).is_nan());
        Ok(vec![Matrix::from_fn(n, n, |i, j| if whole { part(&out[(i, j)]) } else { f64::NAN })])
    };
    single(batched(&[x], &[(n, n)], real, |m| Ok(vec![f(&m[0])?]))?)
}

fn schur(a: &Matrix<Complex64>) -> Result<Schur> {
    Schur::new(a)
        .ok_or_else(|| Error::value("the matrix has no Schur decomposition: the input might not be valid"))
}

/// The principal square root of each matrix (`tf.linalg.sqrtm`); NaN where a real matrix has no real one.
///
/// # Errors
/// When matrices aren't square or have NaN, or the dtype isn't a float or complex one.
pub fn square_root(x: &Tensor) -> Result<Tensor> {
    complex(x, |a| {
        let Schur { q, t } = schur(a)?;
        Ok(q.times(&root(&t)).times(&q.adjoint()))
    })
}

/// The square root of an upper triangle.
fn root(t: &Matrix<Complex64>) -> Matrix<Complex64> {
    let n = t.rows;
    let mut r = Matrix::zeros(n, n);
    for j in 0..n {
        r[(j, j)] = t[(j, j)].sqrt();
        for i in (0..j).rev() {
            let sum: Complex64 = (i + 1..j).map(|k| r[(i, k)] * r[(k, j)]).sum();
            let both = r[(i, i)] + r[(j, j)];
            let rest = t[(i, j)] - sum;
            r[(i, j)] = if rest == Complex64::ZERO { rest } else { rest / both };
        }
    }
    r
}

/// The principal logarithm of each complex matrix (`tf.linalg.logm`).
///
/// # Errors
/// When matrices aren't square or have NaN, or the dtype isn't a complex one.
pub fn logarithm(x: &Tensor) -> Result<Tensor> {
    if !x.dtype().is_complex() {
        return Err(Error::dtype("a complex one", x.dtype()));
    }
    complex(x, |a| {
        let Schur { q, t } = schur(a)?;
        Ok(q.times(&log(t)).times(&q.adjoint()))
    })
}

/// The logarithm of an upper triangle: roots until it is near one, then an integral of `(I + x T)⁻¹ T`.
fn log(mut t: Matrix<Complex64>) -> Matrix<Complex64> {
    let n = t.rows;
    let one = Matrix::identity(n, n);
    let exact: Vec<Complex64> = (0..n).map(|i| t[(i, i)].ln()).collect();
    let mut roots = 0;
    while roots < 100 && t.clone().plus(&one, -1.0).largest() * n as f64 > 0.25 {
        t = root(&t);
        roots += 1;
    }
    let t = t.plus(&one, -1.0);
    let mut out = Matrix::zeros(n, n);
    for (x, weight) in gauss_legendre() {
        let term = Lu::new(one.clone().plus(&t, x)).solve(&t);
        out = out.plus(&term, weight);
    }
    let mut out = out.scaled(2f64.powi(roots));
    (0..n).for_each(|i| out[(i, i)] = exact[i]);
    out
}

/// Places and weights for integrals over `0..1` by sixteen values.
fn gauss_legendre() -> Vec<(f64, f64)> {
    const N: usize = 16;
    (0..N)
        .map(|i| {
            let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (N as f64 + 0.5)).cos();
            let mut slope = 1.0;
            // Newton's method on Legendre's polynomial.
            for _ in 0..8 {
                let (mut p, mut before) = (x, 1.0);
                for k in 2..=N {
                    let k = k as f64;
                    (p, before) = (((2.0 * k - 1.0) * x * p - (k - 1.0) * before) / k, p);
                }
                slope = N as f64 * (x * p - before) / (x * x - 1.0);
                x -= p / slope;
            }
            ((1.0 + x) / 2.0, 1.0 / ((1.0 - x * x) * slope * slope))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn functions_undo_each_other() {
        let a = Matrix::from_fn(4, 4, |i, j| {
            Complex64::new(if i == j { 2.0 } else { 0.3 }, (i as f64 - j as f64) * 0.2)
        });
        let t = Schur::new(&a).expect("schur");
        let back = exp(&t.q.times(&log(t.t.clone())).times(&t.q.adjoint()));
        assert!(back.plus(&a, -1.0).largest() < 1e-12);
        let r = root(&t.t);
        assert!(r.times(&r).plus(&t.t, -1.0).largest() < 1e-12);
        let x = Tensor::from_vec(vec![-1.0f64], [1, 1]).expect("tensor");
        assert!(square_root(&x).expect("root").item::<f64>().expect("f64").is_nan());
        assert!(logarithm(&x).is_err());
        assert_eq!(
            square_root(&Tensor::zeros(DType::F32, [2, 2]).expect("zeros")).expect("root").shape(),
            [2, 2]
        );
        let one: f64 = gauss_legendre().iter().map(|(x, w)| w * x * x).sum();
        assert!((one - 1.0 / 3.0).abs() < 1e-15);
    }
}
