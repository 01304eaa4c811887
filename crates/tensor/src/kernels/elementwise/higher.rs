//! Higher functions, element by element: computed in double precision and rounded once.

use super::bessel::{self, Order};
use super::map::{half1, half2, is_half, map1, map2};
use super::{gamma, integrals};
use crate::kernels::array::{broadcast_to, cast};
use crate::kernels::broadcast::broadcast_shape;
use crate::{DType, Error, Result, Tensor};

fn apply1(x: Tensor, f: fn(f64) -> f64) -> Result<Tensor> {
    match x.dtype() {
        DType::F32 => map1::<f32>(x, |_, v| f(f64::from(v)) as f32),
        DType::F64 => map1::<f64>(x, |_, v| f(v)),
        d if is_half(d) => half1(&x, |x| apply1(x, f)),
        d => Err(Error::dtype("a float one", d)),
    }
}

fn apply2(a: Tensor, b: Tensor, f: fn(f64, f64) -> f64) -> Result<Tensor> {
    match a.dtype() {
        DType::F32 => map2::<f32>(a, b, |_, x, y| f(f64::from(x), f64::from(y)) as f32),
        DType::F64 => map2::<f64>(a, b, |_, x, y| f(x, y)),
        d if is_half(d) => half2(&a, &b, |a, b| apply2(a, b, f)),
        d => Err(Error::dtype("a float one", d)),
    }
}

macro_rules! higher {
    ($($(#[$doc:meta])* $name:ident($($arg:ident),*): $apply:ident $f:expr;)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// When dtypes aren't floats or differ, or shapes don't broadcast.
        pub fn $name($($arg: Tensor),*) -> Result<Tensor> {
            $apply($($arg,)* $f)
        }
    )* };
}

higher! {
    /// The modified Bessel function `I₀` (`tf.math.special.bessel_i0`).
    bessel_i0(x): apply1 |v| bessel::i(Order::Zero, v);
    /// `I₀(x) e^-|x|` (`tf.math.special.bessel_i0e`).
    bessel_i0e(x): apply1 |v| bessel::i_scaled(Order::Zero, v);
    /// The modified Bessel function `I₁` (`tf.math.special.bessel_i1`).
    bessel_i1(x): apply1 |v| bessel::i(Order::One, v);
    /// `I₁(x) e^-|x|` (`tf.math.special.bessel_i1e`).
    bessel_i1e(x): apply1 |v| bessel::i_scaled(Order::One, v);
    /// The Bessel function `J₀` (`tf.math.special.bessel_j0`).
    bessel_j0(x): apply1 |v| bessel::j(Order::Zero, v);
    /// The Bessel function `J₁` (`tf.math.special.bessel_j1`).
    bessel_j1(x): apply1 |v| bessel::j(Order::One, v);
    /// The modified Bessel function `K₀` (`tf.math.special.bessel_k0`).
    bessel_k0(x): apply1 |v| bessel::k(Order::Zero, v);
    /// `K₀(x) e^x` (`tf.math.special.bessel_k0e`).
    bessel_k0e(x): apply1 |v| bessel::k_scaled(Order::Zero, v);
    /// The modified Bessel function `K₁` (`tf.math.special.bessel_k1`).
    bessel_k1(x): apply1 |v| bessel::k(Order::One, v);
    /// `K₁(x) e^x` (`tf.math.special.bessel_k1e`).
    bessel_k1e(x): apply1 |v| bessel::k_scaled(Order::One, v);
    /// The Bessel function `Y₀` (`tf.math.special.bessel_y0`).
    bessel_y0(x): apply1 |v| bessel::y(Order::Zero, v);
    /// The Bessel function `Y₁` (`tf.math.special.bessel_y1`).
    bessel_y1(x): apply1 |v| bessel::y(Order::One, v);
    /// Spence's integral (`tf.math.special.spence`).
    spence(x): apply1 integrals::spence;
    /// Dawson's integral (`tf.math.special.dawsn`).
    dawsn(x): apply1 integrals::dawson;
    /// The exponential integral (`tf.math.special.expint`).
    expint(x): apply1 integrals::exponential;
    /// Fresnel's integral of the sine (`tf.math.special.fresnel_sin`).
    fresnel_sin(x): apply1 |v| integrals::fresnel(v).1;
    /// Fresnel's integral of the cosine (`tf.math.special.fresnel_cos`).
    fresnel_cos(x): apply1 |v| integrals::fresnel(v).0;
    /// The lower regularized incomplete gamma function (`tf.math.igamma`).
    igamma(a, x): apply2 gamma::lower;
    /// The upper regularized incomplete gamma function (`tf.math.igammac`).
    igammac(a, x): apply2 gamma::upper;
    /// The derivative of [`igamma`] for its first argument.
    igamma_grad_a(a, x): apply2 gamma::lower_slope;
    /// Hurwitz's zeta function (`tf.math.zeta`).
    zeta(x, q): apply2 gamma::zeta;
    /// The derivatives of the digamma function (`tf.math.polygamma`).
    polygamma(a, x): apply2 gamma::polygamma;
}

/// The regularized incomplete beta function (`tf.math.betainc`).
///
/// # Errors
/// When dtypes aren't `float32` or `float64` or differ, or shapes don't broadcast.
pub fn betainc(a: &Tensor, b: &Tensor, x: &Tensor) -> Result<Tensor> {
    let shape = broadcast_shape(&broadcast_shape(a.shape(), b.shape())?, x.shape())?;
    let dtype = x.dtype();
    if let Some(other) = [a, b].into_iter().find(|t| t.dtype() != dtype) {
        return Err(Error::dtype(dtype, other.dtype()));
    }
    if !matches!(dtype, DType::F32 | DType::F64) {
        return Err(Error::dtype("float32 or float64", dtype));
    }
    let spread = |t: &Tensor| cast(&broadcast_to(t, &shape)?, DType::F64);
    let (a, b, x) = (spread(a)?, spread(b)?, spread(x)?);
    let (a, b, x) = (a.elements::<f64>()?, b.elements::<f64>()?, x.elements::<f64>()?);
    let all = a.iter().zip(&*b).zip(&*x).map(|((a, b), x)| gamma::beta(*a, *b, *x));
    cast(&Tensor::from_vec(all.collect(), &shape)?, dtype)
}
