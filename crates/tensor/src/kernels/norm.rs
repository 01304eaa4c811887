//! Normalizations: softmax along the last axis, and batch normalization of the last one.

use super::elementwise::math::{exp_f32, log_f32};
use super::parallel;
use super::simd;
use crate::{DType, Error, Result, Tensor};

/// `exp(x) / sum(exp(x))` along the last axis (`tf.nn.softmax`).
///
/// # Errors
/// When the dtype isn't a float, or there is no axis.
pub fn softmax(x: Tensor) -> Result<Tensor> {
    rows(x, softmax_f32, |row| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.iter_mut().for_each(|v| *v = (*v - max).exp());
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|v| *v /= sum);
    })
}

/// `x - log(sum(exp(x)))` along the last axis (`tf.nn.log_softmax`).
///
/// # Errors
/// When the dtype isn't a float, or there is no axis.
pub fn log_softmax(x: Tensor) -> Result<Tensor> {
    rows(x, log_softmax_f32, |row| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|v| (*v - max).exp()).sum();
        row.iter_mut().for_each(|v| *v -= max + sum.ln());
    })
}

fn rows(mut x: Tensor, f: fn(&mut [f32]), g: fn(&mut [f64])) -> Result<Tensor> {
    let Some(&n) = x.shape().last() else {
        return Err(Error::shape("a softmax needs an axis, got a scalar"));
    };
    if n == 0 {
        return Ok(x);
    }
    match x.dtype() {
        DType::F32 => {
            parallel::for_parts(x.make_mut::<f32>()?, n, 8, |_, part| part.chunks_exact_mut(n).for_each(f))
        }
        DType::F64 => {
            parallel::for_parts(x.make_mut::<f64>()?, n, 8, |_, part| part.chunks_exact_mut(n).for_each(g))
        }
        half @ (DType::F16 | DType::BF16) => {
            let wide = rows(super::array::cast(&x, DType::F32)?, f, g)?;
            return super::array::cast(&wide, half);
        }
        other => return Err(Error::dtype("a float", other)),
    }
    Ok(x)
}

const LANES: usize = 16;

/// Folds a row lane by lane, so that it vectorises.
#[inline(always)]
fn fold(row: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for l in 0..LANES {
            lanes[l] = f(lanes[l], chunk[l]);
        }
    }
    lanes.iter().chain(rest).fold(start, |a, &b| f(a, b))
}

/// The maximum; not-a-number only if everything is, since what follows spreads it anyway.
#[inline(always)]
fn greatest(row: &[f32]) -> f32 {
    fold(row, f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
}

pub(crate) fn softmax_f32(row: &mut [f32]) {
    simd::run(
        #[inline(always)]
        |isa| {
            let max = greatest(row);
            row.iter_mut().for_each(|v| *v = exp_f32(isa, *v - max));
            let scale = 1.0 / fold(row, 0.0, |a, b| a + b);
            row.iter_mut().for_each(|v| *v *= scale);
        },
    );
}

fn log_softmax_f32(row: &mut [f32]) {
    simd::run(
        #[inline(always)]
        |isa| {
            let max = greatest(row);
            let mut lanes = [0f32; LANES];
            for chunk in row.chunks(LANES) {
                lanes.iter_mut().zip(chunk).for_each(|(l, v)| *l += exp_f32(isa, *v - max));
            }
            let shift = max + log_f32(isa, lanes.iter().sum());
            row.iter_mut().for_each(|v| *v -= shift);
        },
    );
}

/// Each row along the last axis less its mean, over its deviation, times `scale`, plus `offset`
/// (`tf.keras.layers.LayerNormalization` along the last axis), in place where nobody else holds `x`. All are `float32`; scale
/// and offset have an element for each of a row's.
///
/// # Errors
/// When dtypes or shapes aren't those.
pub fn layer_norm(mut x: Tensor, scale: &Tensor, offset: &Tensor, epsilon: f32) -> Result<Tensor> {
    let n = x.shape().last().copied().unwrap_or_default();
    let (scale, offset) = (scale.elements::<f32>()?, offset.elements::<f32>()?);
    if scale.len() != n || offset.len() != n {
        return Err(Error::shape(format!(
            "a scale of {} and an offset of {} elements don't fit rows of {n}",
            scale.len(),
            offset.len()
        )));
    }
    if n == 0 {
        return Ok(x);
    }
    parallel::for_parts(x.make_mut::<f32>()?, n, 8, |_, part| {
        simd::run(
            #[inline(always)]
            |_| {
                for row in part.chunks_exact_mut(n) {
                    let mean = fold(row, 0.0, |a, b| a + b) / n as f32;
                    row.iter_mut().for_each(|v| *v -= mean);
                    let mut lanes = [0f32; LANES];
                    for chunk in row.chunks(LANES) {
                        lanes.iter_mut().zip(chunk).for_each(|(l, v)| *l += v * v);
                    }
                    let variance = lanes.iter().sum::<f32>() / n as f32;
                    let factor = 1.0 / (variance + epsilon).sqrt();
                    for ((v, s), o) in row.iter_mut().zip(&scale[..]).zip(&offset[..]) {
                        *v = *v * factor * s + o;
                    }
                }
            },
        );
    });
    Ok(x)
}

/// `(x - mean) / sqrt(variance + epsilon) * scale + offset` for each channel of the last axis, in place where nobody else
/// holds `x` (`tf.nn.batch_normalization`, in inference). `x` may be of half precision; the others are `float32`.
///
/// # Errors
/// When the dtypes aren't those, or the others haven't one element a channel.
pub fn batch_norm(
    mut x: Tensor,
    scale: &Tensor,
    offset: &Tensor,
    mean: &Tensor,
    variance: &Tensor,
    epsilon: f32,
) -> Result<Tensor> {
    let Some(&channels) = x.shape().last() else {
        return Err(Error::shape("a batch normalization needs channels"));
    };
    for t in [scale, offset, mean, variance] {
        if t.shape() != [channels] {
            return Err(Error::shape(format!(
                "parameters of shape {:?} don't fit {channels} channels",
                t.shape()
            )));
        }
    }
    let (scale, offset) = (scale.elements::<f32>()?, offset.elements::<f32>()?);
    let (mean, variance) = (mean.elements::<f32>()?, variance.elements::<f32>()?);
    match x.dtype() {
        DType::F32 => {}
        half @ (DType::F16 | DType::BF16) => {
            let affine = |v: &[f32]| Tensor::from_slice(v, [channels]);
            let wide = super::array::cast(&x, DType::F32)?;
            let y = batch_norm(
                wide,
                &affine(&scale)?,
                &affine(&offset)?,
                &affine(&mean)?,
                &affine(&variance)?,
                epsilon,
            )?;
            return super::array::cast(&y, half);
        }
        other => return Err(Error::dtype(DType::F32, other)),
    }
    if x.is_empty() {
        return Ok(x);
    }
    let factor: Vec<f32> = scale.iter().zip(variance.iter()).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    let shift: Vec<f32> =
        offset.iter().zip(mean.iter()).zip(&factor).map(|((o, m), f)| (-m).mul_add(*f, *o)).collect();
    parallel::for_parts(x.make_mut::<f32>()?, channels, 1, |_, part| {
        simd::run(
            #[inline(always)]
            |isa| {
                for row in part.chunks_exact_mut(channels) {
                    for ((v, f), s) in row.iter_mut().zip(&factor).zip(&shift) {
                        *v = isa.mul_add(*v, *f, *s);
                    }
                }
            },
        );
    });
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape).expect("tensor")
    }

    #[test]
    fn softmax_sums_to_one_however_large_the_values() {
        let values: Vec<f32> = (0..74).map(|i| (i % 37) as f32 * 2.0 + 500.0).collect();
        let y = softmax(t(&values, &[2, 37])).expect("float");
        let log = log_softmax(t(&values, &[2, 37])).expect("float");
        for row in y.as_slice::<f32>().expect("f32").chunks(37) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        for (p, l) in y.as_slice::<f32>().expect("f32").iter().zip(log.as_slice::<f32>().expect("f32")) {
            assert!((p.ln() - l).abs() < 1e-4, "{p} {l}");
        }
        assert!(softmax(Tensor::scalar(1.0f32)).is_err() && softmax(Tensor::scalar(1i32)).is_err());
        let nan = softmax(t(&[f32::NAN, 1.0], &[2])).expect("float");
        assert!(nan.as_slice::<f32>().expect("f32").iter().all(|v| v.is_nan()));
    }

    #[test]
    fn channels_are_normalized_each_by_itself() {
        let y = batch_norm(
            t(&[1.0, 10.0, 3.0, 30.0], &[2, 2]),
            &t(&[1.0, 2.0], &[2]),
            &t(&[0.0, 1.0], &[2]),
            &t(&[2.0, 20.0], &[2]),
            &t(&[1.0, 4.0], &[2]),
            0.0,
        );
        assert_eq!(y.expect("fits").as_slice::<f32>().expect("f32"), [-1.0, -9.0, 1.0, 11.0]);
    }
}
