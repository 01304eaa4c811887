//! Normalization by the neighbours along the last axis (`tf.nn.local_response_normalization`).

use super::array::cast;
use super::parallel;
use crate::{DType, Error, Result, Tensor};

/// `x / (bias + alpha * s) ^ beta`, where `s` sums the squares of an element's neighbours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalNorm {
    /// How many neighbours count on each side.
    pub radius: usize,
    /// What is added, so that nothing is divided by zero.
    pub bias: f32,
    /// The factor of the sum.
    pub alpha: f32,
    /// The exponent.
    pub beta: f32,
}

impl LocalNorm {
    /// `bias + alpha * s` for each element of a row.
    fn norms(&self, row: &[f32], norms: &mut Vec<f32>) {
        norms.clear();
        norms.extend((0..row.len()).map(|i| {
            let squares = row[self.about(i, row.len())].iter().map(|v| v * v);
            self.bias + self.alpha * squares.sum::<f32>()
        }));
    }

    fn about(&self, i: usize, len: usize) -> std::ops::Range<usize> {
        i.saturating_sub(self.radius)..i.saturating_add(self.radius).saturating_add(1).min(len)
    }
}

/// The normalized tensor (`LRN`).
///
/// # Errors
/// When the dtype isn't a float, or there is no axis.
pub fn local_norm(x: &Tensor, how: LocalNorm) -> Result<Tensor> {
    let depth = depth(x)?;
    let mut out = cast(x, DType::F32)?;
    parallel::for_parts(out.make_mut::<f32>()?, depth, how.radius.min(depth) * 2 + 8, |_, part| {
        let mut norms = Vec::with_capacity(depth);
        for row in part.chunks_exact_mut(depth) {
            how.norms(row, &mut norms);
            row.iter_mut().zip(&norms).for_each(|(v, n)| *v *= n.powf(-how.beta));
        }
    });
    cast(&out, x.dtype())
}

/// The gradient of [`local_norm`] by its input (`LRNGrad`), from that of its output, its input and its output.
///
/// # Errors
/// When the dtype isn't a float, there is no axis, or shapes differ.
pub fn local_norm_grad(grad: &Tensor, x: &Tensor, y: &Tensor, how: LocalNorm) -> Result<Tensor> {
    let depth = depth(x)?;
    if grad.shape() != x.shape() || y.shape() != x.shape() {
        return Err(Error::shape(format!(
            "gradient {:?}, input {:?} and output {:?} must have one shape",
            grad.shape(),
            x.shape(),
            y.shape()
        )));
    }
    let (grad, xs, ys) = (cast(grad, DType::F32)?, cast(x, DType::F32)?, cast(y, DType::F32)?);
    let (gs, xs, ys) = (grad.elements::<f32>()?, xs.elements::<f32>()?, ys.elements::<f32>()?);
    let mut out = Tensor::zeros(DType::F32, x.shape())?;
    let factor = -2.0 * how.alpha * how.beta;
    parallel::for_parts(out.make_mut::<f32>()?, depth, how.radius.min(depth) * 2 + 8, |start, part| {
        let mut norms = Vec::with_capacity(depth);
        for (r, to) in part.chunks_exact_mut(depth).enumerate() {
            let at = start + r * depth;
            let (gs, xs, ys) = (&gs[at..at + depth], &xs[at..at + depth], &ys[at..at + depth]);
            how.norms(xs, &mut norms);
            for j in 0..depth {
                for k in how.about(j, depth) {
                    let own = if k == j { norms[j].powf(-how.beta) } else { 0.0 };
                    to[k] += (factor * xs[k] * ys[j] / norms[j] + own) * gs[j];
                }
            }
        }
    });
    cast(&out, x.dtype())
}

fn depth(x: &Tensor) -> Result<usize> {
    if !matches!(x.dtype(), DType::F32 | DType::F16 | DType::BF16) {
        return Err(Error::dtype("a float of 32 bits or less", x.dtype()));
    }
    match x.shape().last() {
        Some(&n) => Ok(n.max(1)),
        None => Err(Error::shape("a normalization needs an axis, got a scalar")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_the_slope() {
        let how = LocalNorm { radius: 1, bias: 1.0, alpha: 0.5, beta: 0.75 };
        let at = |d: f32| Tensor::from_vec(vec![1.0, -2.0 + d, 0.5, 3.0], [1, 4]).expect("tensor");
        let sum = |t: Tensor| t.elements::<f32>().expect("f32").iter().sum::<f32>();
        let up = sum(local_norm(&at(0.01), how).expect("norm"));
        let down = sum(local_norm(&at(-0.01), how).expect("norm"));
        let x = at(0.0);
        let y = local_norm(&x, how).expect("norm");
        let ones = Tensor::full(1.0f32, [1, 4]).expect("ones");
        let g = local_norm_grad(&ones, &x, &y, how).expect("gradient");
        assert!((g.elements::<f32>().expect("f32")[1] - (up - down) / 0.02).abs() < 1e-3);
        assert!(
            local_norm(&Tensor::scalar(1.0f32), how).is_err()
                && local_norm(&Tensor::scalar(1i32), how).is_err()
        );
    }
}
