//! Gradients of functions of one number: what a function's gradient `g` makes of its input's, element by element.
#![allow(clippy::excessive_precision, reason = "constants are as published; the compiler rounds them")]

use num_complex::{Complex, Complex32, Complex64};
use num_traits::Float;

use super::float::binary;
use super::map::{half2, is_half, map2};
use super::number::Number;
use crate::{DType, Error, Result, Tensor, dispatch};

macro_rules! gradients {
    ($($(#[$doc:meta])* $name:ident: $f:expr $(, complex $complex:expr)?;)*) => {
        binary! { $($(#[$doc])* $name: f32 $f, f64 $f $(, complex $complex)?;)* }
    };
}

gradients! {
    /// Of `elu`, from its gradient and its output (`EluGrad`).
    elu_grad: |_, g, y| if y < 0.0 { (y + 1.0) * g } else { g };
    /// Of `selu`, from its gradient and its output (`SeluGrad`).
    selu_grad: |_, g, y| if y < 0.0 { g * (y + 1.758_099_340_847_376_9) } else { g * 1.050_700_987_355_480_5 };
    /// Of `softplus`, from its gradient and its input (`SoftplusGrad`).
    softplus_grad: |_, g, x| g / ((-x).exp() + 1.0);
    /// Of `softsign`, from its gradient and its input (`SoftsignGrad`).
    softsign_grad: |_, g, x| { let d = 1.0 + x.abs(); g / (d * d) };
    /// Of the square root, from its output and its gradient (`SqrtGrad`).
    sqrt_grad: |_, y, g| g * 0.5 / y,
        complex complex_sqrt_grad;
    /// Of the reciprocal square root, from its output and its gradient (`RsqrtGrad`).
    rsqrt_grad: |_, y, g| g * y * y * (y * -0.5),
        complex complex_rsqrt_grad;
    /// Of the reciprocal, from its output and its gradient (`ReciprocalGrad`).
    reciprocal_grad: |_, y, g| -g * y * y,
        complex complex_reciprocal_grad;
}

fn complex_sqrt_grad<T: Float>(y: Complex<T>, g: Complex<T>) -> Complex<T> {
    g / (y + y).conj()
}

fn complex_rsqrt_grad<T: Float>(y: Complex<T>, g: Complex<T>) -> Complex<T> {
    let y = y.conj();
    -g * y * y * y / (T::one() + T::one())
}

fn complex_reciprocal_grad<T: Float>(y: Complex<T>, g: Complex<T>) -> Complex<T> {
    let y = y.conj();
    -g * y * y
}

/// Of `relu`, from its gradient and its input or output (`ReluGrad`).
///
/// # Errors
/// When dtypes differ or aren't real numbers', or shapes don't broadcast.
pub fn relu_grad(g: Tensor, x: Tensor) -> Result<Tensor> {
    if is_half(g.dtype()) {
        return half2(&g, &x, relu_grad);
    }
    dispatch!(native_real g.dtype(), T => {
        let zero = T::default();
        map2::<T>(g, x, #[inline(always)] move |_, g, x| if x > zero { g } else { Number::times(g, zero) })
    }, else => Err(Error::dtype("a real number's", g.dtype())))
}

/// Of `relu6`, from its gradient and its input or output (`Relu6Grad`).
///
/// # Errors
/// When dtypes differ or aren't real numbers', or shapes don't broadcast.
pub fn relu6_grad(g: Tensor, x: Tensor) -> Result<Tensor> {
    if is_half(g.dtype()) {
        return half2(&g, &x, relu6_grad);
    }
    dispatch!(native_real g.dtype(), T => {
        let (zero, six) = (T::default(), <T as num_traits::NumCast>::from(6).unwrap_or_default());
        map2::<T>(g, x, #[inline(always)] move |_, g, x| if x > zero && x < six { g } else { Number::times(g, zero) })
    }, else => Err(Error::dtype("a real number's", g.dtype())))
}

/// Of `leaky_relu`, from its gradient and its input or output (`LeakyReluGrad`).
///
/// # Errors
/// When dtypes differ or aren't floats, or shapes don't broadcast.
pub fn leaky_relu_grad(g: Tensor, x: Tensor, alpha: f32) -> Result<Tensor> {
    if is_half(g.dtype()) {
        return half2(&g, &x, |g, x| leaky_relu_grad(g, x, alpha));
    }
    dispatch!(wide_float g.dtype(), T => {
        let alpha = T::from(alpha);
        map2::<T>(g, x, #[inline(always)] move |_, g, x| if x > 0.0 { g } else { g * alpha })
    }, else => Err(Error::dtype("a float one", g.dtype())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::elementwise as e;

    /// A gradient is what a small step changes.
    #[test]
    fn gradients_are_slopes() {
        type F = fn(Tensor) -> Result<Tensor>;
        type G = fn(Tensor, Tensor) -> Result<Tensor>;
        // Whether the gradient comes first, and whether it is taken from the output.
        let cases: [(F, G, bool, bool); 9] = [
            (e::relu, relu_grad, true, false),
            (e::relu6, relu6_grad, true, false),
            (e::elu, elu_grad, true, true),
            (e::selu, selu_grad, true, true),
            (e::softplus, softplus_grad, true, false),
            (e::softsign, softsign_grad, true, false),
            (e::sqrt, sqrt_grad, false, true),
            (e::rsqrt, rsqrt_grad, false, true),
            (e::reciprocal, reciprocal_grad, false, true),
        ];
        let step = 1e-6;
        for (i, (f, grad, first, from_output)) in cases.into_iter().enumerate() {
            let low = if first { -3.0 } else { 0.4 };
            let xs: Vec<f64> = (0..9).map(|k| low + f64::from(k) * 0.71).collect();
            let t = |d: f64| Tensor::from_vec(xs.iter().map(|x| x + d).collect(), [9]).expect("tensor");
            let (up, down) = (f(t(step)).expect("up"), f(t(-step)).expect("down"));
            let base = if from_output { f(t(0.0)).expect("base") } else { t(0.0) };
            let ones = Tensor::full(1.0f64, [9]).expect("ones");
            let got = if first { grad(ones, base) } else { grad(base, ones) }.expect("gradient");
            let slice = |t: &Tensor| t.elements::<f64>().expect("f64").to_vec();
            for ((g, u), d) in slice(&got).iter().zip(slice(&up)).zip(slice(&down)) {
                assert!((g - (u - d) / (2.0 * step)).abs() < 1e-5, "gradient {i}: {g}");
            }
        }
    }
}
