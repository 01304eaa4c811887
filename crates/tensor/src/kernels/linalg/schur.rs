//! Any matrix as a triangle in other axes.

use num_complex::Complex64;

use super::matrix::Matrix;
use super::qr::Reflection;

/// `a = q t qᴴ`, with orthonormal columns in `q` and an upper triangle `t`.
pub(super) struct Schur {
    pub(super) q: Matrix<Complex64>,
    pub(super) t: Matrix<Complex64>,
}

/// Steps of the iteration that one eigenvalue may take.
const STEPS: usize = 60;

impl Schur {
    /// By reflections to one diagonal below the main one, which shifted rotations then remove; `None` when they don't.
    pub(super) fn new(a: &Matrix<Complex64>) -> Option<Schur> {
        let n = a.rows;
        if a.data.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let mut t = a.clone();
        let mut q = Matrix::identity(n, n);
        for k in 0..n.saturating_sub(2) {
            let column: Vec<Complex64> = (k + 1..n).map(|i| t[(i, k)]).collect();
            let (reflection, beta) = Reflection::of(&column);
            reflection.apply_left(&mut t, k + 1, k + 1);
            t[(k + 1, k)] = Complex64::new(beta, 0.0);
            (k + 2..n).for_each(|i| t[(i, k)] = Complex64::ZERO);
            reflection.apply_adjoint_right(&mut t, k + 1);
            reflection.apply_adjoint_right(&mut q, k + 1);
        }
        let mut end = n;
        let mut steps = 0;
        while end > 1 {
            let mut start = end - 1;
            while start > 0 {
                let near = t[(start, start)].l1_norm() + t[(start - 1, start - 1)].l1_norm();
                let near = if near == 0.0 { t.largest() } else { near };
                if t[(start, start - 1)].l1_norm() <= f64::EPSILON * near {
                    t[(start, start - 1)] = Complex64::ZERO;
                    break;
                }
                start -= 1;
            }
            if start == end - 1 {
                end -= 1;
                steps = 0;
                continue;
            }
            steps += 1;
            if steps > STEPS {
                return None;
            }
            step(&mut t, &mut q, start, end, steps);
        }
        Some(Schur { q, t })
    }
}

/// Of the two eigenvalues of the last two rows the one nearer to the last element; now and then something else, against
/// going in circles.
fn shift(t: &Matrix<Complex64>, end: usize, steps: usize) -> Complex64 {
    let (a, b) = (t[(end - 2, end - 2)], t[(end - 2, end - 1)]);
    let (c, d) = (t[(end - 1, end - 2)], t[(end - 1, end - 1)]);
    if steps.is_multiple_of(10) {
        return Complex64::new(c.norm() + if end > 2 { t[(end - 2, end - 3)].norm() } else { 0.0 }, 0.0);
    }
    let half = (a - d) * 0.5;
    let root = (half * half + b * c).sqrt();
    let far = if (half + root).norm() > (half - root).norm() { half + root } else { half - root };
    if far == Complex64::ZERO { d } else { d - b * c / far }
}

/// One shifted step on the rows from `start` up to `end`.
fn step(t: &mut Matrix<Complex64>, q: &mut Matrix<Complex64>, start: usize, end: usize, steps: usize) {
    let n = t.rows;
    let shift = shift(t, end, steps);
    let (mut x, mut z) = (t[(start, start)] - shift, t[(start + 1, start)]);
    for k in start..end - 1 {
        let length = (x.norm_sqr() + z.norm_sqr()).sqrt();
        let (c, s) = if length == 0.0 { (Complex64::ONE, Complex64::ZERO) } else { (x / length, z / length) };
        // Rows k and k + 1, from the left.
        for j in k.saturating_sub(1)..n {
            let (a, b) = (t[(k, j)], t[(k + 1, j)]);
            t[(k, j)] = c.conj() * a + s.conj() * b;
            t[(k + 1, j)] = c * b - s * a;
        }
        // And the columns, from the right, down to where the diagonal below reaches.
        for i in 0..(k + 3).min(end) {
            rotate(t, i, k, c, s);
        }
        for i in 0..n {
            rotate(q, i, k, c, s);
        }
        if k + 2 < end {
            (x, z) = (t[(k + 1, k)], t[(k + 2, k)]);
        }
    }
}

fn rotate(m: &mut Matrix<Complex64>, i: usize, k: usize, c: Complex64, s: Complex64) {
    let (a, b) = (m[(i, k)], m[(i, k + 1)]);
    m[(i, k)] = a * c + b * s;
    m[(i, k + 1)] = b * c.conj() - a * s.conj();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &Matrix<Complex64>) {
        let n = a.rows;
        let Schur { q, t } = Schur::new(a).expect("converges");
        let size = a.largest().max(1.0);
        assert!(q.times(&t).times(&q.adjoint()).plus(a, -1.0).largest() < 1e-12 * size);
        assert!(q.adjoint().times(&q).plus(&Matrix::identity(n, n), -1.0).largest() < 1e-12);
        assert!((0..n).all(|i| (0..i).all(|j| t[(i, j)].norm() < 1e-12 * size)));
    }

    #[test]
    fn the_factors_give_the_matrix() {
        let entry = |i: usize, j: usize| {
            Complex64::new(((i * 7 + j * 3) % 11) as f64 - 5.0, ((i + j * j) % 5) as f64)
        };
        (0..9).for_each(|n| check(&Matrix::from_fn(n, n, entry)));
        check(&Matrix::zeros(4, 4));
        // Rotations, that a plain shift would turn for ever.
        check(&Matrix::from_fn(4, 4, |i, j| Complex64::new(if (i + 1) % 4 == j { 1.0 } else { 0.0 }, 0.0)));
        check(&Matrix::from_fn(3, 3, |i, j| Complex64::new(if j == i + 1 { 1.0 } else { 0.0 }, 0.0)));
    }
}
