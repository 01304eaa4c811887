//! Functions of floats, and activations.
#![allow(clippy::excessive_precision, reason = "constants are as published; the compiler rounds them")]

use num_complex::{Complex, Complex32, Complex64};

use super::map::{half1, half2, is_half, map1, map1_to, map2, same_dtype};
use super::{math, special};
use crate::kernels::simd::Isa;
use crate::{Bool, DType, Error, Result, Tensor, dispatch};

/// Tells the compiler what a closure takes.
#[inline(always)]
fn single<F: Fn(Isa, f32) -> f32>(f: F) -> F {
    f
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident: f32 $single:expr, f64 $double:expr $(, complex $complex:expr)?;)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// When the dtype isn't supported.
        pub fn $name(x: Tensor) -> Result<Tensor> {
            match x.dtype() {
                DType::F32 => map1::<f32>(
                    x,
                    #[inline(always)]
                    |isa, v| single($single)(isa, v),
                ),
                DType::F64 => map1::<f64>(x, $double),
                DType::F16 | DType::BF16 => half1(&x, $name),
                $(
                    DType::C64 => map1::<Complex32>(x, |_, z| ($complex)(z)),
                    DType::C128 => map1::<Complex64>(x, |_, z| ($complex)(z)),
                )?
                d => Err(Error::dtype("a float one", d)),
            }
        }
    )* };
}

functions! {
    /// `e^x` (`tf.exp`).
    exp: f32 math::exp_f32, f64 |_, v| v.exp(), complex Complex::exp;
    /// `e^x - 1` without cancellation near 0 (`tf.math.expm1`).
    expm1: f32 |_, v| v.exp_m1(), f64 |_, v| v.exp_m1(), complex complex_expm1;
    /// The natural logarithm (`tf.math.log`): -∞ at 0, NaN below.
    log: f32 math::log_f32, f64 |_, v| v.ln(), complex Complex::ln;
    /// `ln(1 + x)` without cancellation near 0 (`tf.math.log1p`).
    log1p: f32 |_, v| v.ln_1p(), f64 |_, v| v.ln_1p(), complex complex_log1p;
    /// The square root (`tf.sqrt`).
    sqrt: f32 |_, v| v.sqrt(), f64 |_, v| v.sqrt(), complex Complex::sqrt;
    /// `1 / √x` (`tf.math.rsqrt`).
    rsqrt: f32 |_, v| 1.0 / v.sqrt(), f64 |_, v| 1.0 / v.sqrt(), complex complex_rsqrt;
    /// `1 / x` (`tf.math.reciprocal`).
    reciprocal: f32 |_, v| 1.0 / v, f64 |_, v| 1.0 / v, complex complex_reciprocal;
    /// The sine (`tf.sin`).
    sin: f32 |_, v| v.sin(), f64 |_, v| v.sin(), complex Complex::sin;
    /// The cosine (`tf.cos`).
    cos: f32 |_, v| v.cos(), f64 |_, v| v.cos(), complex Complex::cos;
    /// The tangent (`tf.tan`).
    tan: f32 |_, v| v.tan(), f64 |_, v| v.tan(), complex Complex::tan;
    /// The inverse sine (`tf.asin`).
    asin: f32 |_, v| v.asin(), f64 |_, v| v.asin(), complex |z| wide(z, Complex::asin);
    /// The inverse cosine (`tf.acos`).
    acos: f32 |_, v| v.acos(), f64 |_, v| v.acos(), complex |z| wide(z, Complex::acos);
    /// The inverse tangent (`tf.atan`).
    atan: f32 |_, v| v.atan(), f64 |_, v| v.atan(), complex |z| wide(z, Complex::atan);
    /// The hyperbolic sine (`tf.sinh`).
    sinh: f32 |_, v| v.sinh(), f64 |_, v| v.sinh(), complex Complex::sinh;
    /// The hyperbolic cosine (`tf.cosh`).
    cosh: f32 |_, v| v.cosh(), f64 |_, v| v.cosh(), complex Complex::cosh;
    /// The hyperbolic tangent (`tf.tanh`).
    tanh: f32 math::tanh_f32, f64 |_, v| v.tanh(), complex complex_tanh;
    /// The inverse hyperbolic sine (`tf.asinh`).
    asinh: f32 |_, v| libm::asinhf(v), f64 |_, v| libm::asinh(v), complex |z| wide(z, Complex::asinh);
    /// The inverse hyperbolic cosine (`tf.acosh`).
    acosh: f32 |_, v| if v < 1.0 { f32::NAN } else { libm::acoshf(v) }, f64 |_, v| libm::acosh(v), complex |z| wide(z, Complex::acosh);
    /// The inverse hyperbolic tangent (`tf.atanh`).
    atanh: f32 |_, v| libm::atanhf(v), f64 |_, v| libm::atanh(v), complex |z| wide(z, Complex::atanh);
    /// The error function (`tf.math.erf`).
    erf: f32 math::erf_f32, f64 |_, v| libm::erf(v);
    /// One less the error function (`tf.math.erfc`).
    erfc: f32 |_, v| libm::erfcf(v), f64 |_, v| libm::erfc(v);
    /// The inverse of the error function (`tf.math.erfinv`).
    erfinv: f32 |_, v| special::erfinv(f64::from(v)) as f32, f64 |_, v| special::erfinv(v);
    /// The quantile of the standard normal distribution (`tf.math.ndtri`).
    ndtri: f32 |_, v| special::ndtri(f64::from(v)) as f32, f64 |_, v| special::ndtri(v);
    /// The logarithm of the gamma function's magnitude (`tf.math.lgamma`).
    lgamma: f32 |_, v| libm::lgamma(f64::from(v)) as f32, f64 |_, v| libm::lgamma(v);
    /// The derivative of [`lgamma`] (`tf.math.digamma`).
    digamma: f32 |_, v| special::digamma(f64::from(v)) as f32, f64 |_, v| special::digamma(v);
    /// `1 / (1 + e^-x)` (`tf.sigmoid`).
    sigmoid: f32 math::sigmoid_f32, f64 |_, v| sigmoid_f64(v), complex complex_sigmoid;
    /// `x`, or `e^x - 1` where `x` is negative (`tf.nn.elu`).
    elu: f32 math::elu_f32, f64 |_, v| if v < 0.0 { v.exp() - 1.0 } else { v };
    /// [`elu`] with the two scales of self-normalising networks (`tf.nn.selu`).
    selu: f32 math::selu_f32, f64 |_, v| selu_f64(v);
    /// `ln(1 + e^x)` (`tf.nn.softplus`).
    softplus: f32 math::softplus_f32, f64 |_, v| softplus_f64(v);
    /// `x / (1 + |x|)` (`tf.nn.softsign`).
    softsign: f32 |_, v| v / (v.abs() + 1.0), f64 |_, v| v / (v.abs() + 1.0);
}

pub(crate) fn softplus_f64(v: f64) -> f64 {
    /// Beyond it, in either direction, the result is `x` or `e^x` to the last bit: `ln ε + 2`.
    const FAR: f64 = -34.043_653_389_117_155;
    if v > -FAR {
        v
    } else if v < FAR {
        v.exp()
    } else {
        v.exp().ln_1p()
    }
}

pub(crate) fn sigmoid_f64(v: f64) -> f64 {
    let e = (-v.abs()).exp();
    (if v >= 0.0 { 1.0 } else { e }) / (1.0 + e)
}

pub(crate) fn selu_f64(v: f64) -> f64 {
    if v < 0.0 { math::SELU_SCALE_ALPHA * (v.exp() - 1.0) } else { math::SELU_SCALE * v }
}

/// A function of a complex number that loses digits on its way, in double precision.
fn wide<F: num_traits::Float>(z: Complex<F>, f: fn(Complex64) -> Complex64) -> Complex<F> {
    let part = |v: F| v.to_f64().unwrap_or(f64::NAN);
    let narrow = |v: f64| F::from(v).unwrap_or_else(F::nan);
    let found = f(Complex64::new(part(z.re), part(z.im)));
    Complex::new(narrow(found.re), narrow(found.im))
}

fn complex_tanh<F: num_traits::Float>(z: Complex<F>) -> Complex<F> {
    // Where exponentials would overflow: ±1 + 4i sin y cos y / e^|2x|.
    let (least, four) = (F::from(20).unwrap_or_else(F::max_value), F::from(4).unwrap_or_else(F::one));
    if z.re.is_finite() && z.re.abs() > least {
        let shrunk = (-(z.re.abs() + z.re.abs())).exp();
        return Complex::new(F::one().copysign(z.re), four * z.im.sin() * z.im.cos() * shrunk);
    }
    z.tanh()
}

fn complex_expm1<F: num_traits::Float>(z: Complex<F>) -> Complex<F> {
    // e^z - 1 = expm1(x) cos y - 2 sin²(y/2) + i e^x sin y
    let two = F::one() + F::one();
    let s = (z.im / two).sin();
    Complex::new(z.re.exp_m1() * z.im.cos() - two * s * s, z.re.exp() * z.im.sin())
}

fn complex_log1p<F: num_traits::Float>(z: Complex<F>) -> Complex<F> {
    // |1 + z|² - 1 = x (2 + x) + y²
    let two = F::one() + F::one();
    let over = z.re * (two + z.re) + z.im * z.im;
    Complex::new(over.ln_1p() / two, z.im.atan2(F::one() + z.re))
}

fn complex_rsqrt<F: num_traits::Float>(z: Complex<F>) -> Complex<F> {
    z.sqrt().inv()
}

fn complex_reciprocal<F: num_traits::Float>(z: Complex<F>) -> Complex<F> {
    z.inv()
}

fn complex_sigmoid<F: num_traits::Float>(z: Complex<F>) -> Complex<F> {
    let below = (-z).exp() + F::one();
    // The inverse of what overflowed would be no number.
    if below.re.is_infinite() || below.im.is_infinite() {
        Complex::new(F::zero(), F::zero())
    } else {
        below.inv()
    }
}

macro_rules! rounding {
    ($($(#[$doc:meta])* $name:ident: $f:ident;)*) => { $(
        $(#[$doc])*
        ///
        /// Integers stay as they are.
        ///
        /// # Errors
        /// When the dtype isn't a real number's.
        pub fn $name(x: Tensor) -> Result<Tensor> {
            match x.dtype() {
                DType::F32 => map1::<f32>(x, #[inline(always)] |_, v| v.$f()),
                DType::F64 => map1::<f64>(x, #[inline(always)] |_, v| v.$f()),
                DType::F16 | DType::BF16 => half1(&x, $name),
                d if d.is_integer() => Ok(x),
                d => Err(Error::dtype("a real number's", d)),
            }
        }
    )* };
}

rounding! {
    /// Rounded down (`tf.floor`).
    floor: floor;
    /// Rounded up (`tf.math.ceil`).
    ceil: ceil;
    /// Rounded to the nearest whole number, halves to the even one (`tf.round`, `tf.math.rint`).
    round_half_even: round_ties_even;
    /// Rounded towards zero.
    truncate: trunc;
}

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident: $f:ident;)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// When the dtype isn't a float.
        pub fn $name(x: &Tensor) -> Result<Tensor> {
            dispatch!(float x.dtype(), T => map1_to::<T, Bool>(x, |_, v| v.$f().into()),
                else => Err(Error::dtype("a float one", x.dtype())))
        }
    )* };
}

classes! {
    /// Where elements are NaN (`tf.math.is_nan`).
    is_nan: is_nan;
    /// Where elements are infinite (`tf.math.is_inf`).
    is_inf: is_infinite;
    /// Where elements are neither infinite nor NaN (`tf.math.is_finite`).
    is_finite: is_finite;
}

/// `max(x, 0)` (`tf.nn.relu`); NaN stays.
///
/// # Errors
/// When the dtype isn't a real number's.
pub fn relu(x: Tensor) -> Result<Tensor> {
    if is_half(x.dtype()) {
        return half1(&x, relu);
    }
    dispatch!(native_real x.dtype(), T => map1::<T>(x, #[inline(always)] |_, v| if v < T::default() { T::default() } else { v }),
        else => Err(Error::dtype("a real number's", x.dtype())))
}

/// `min(max(x, 0), 6)` (`tf.nn.relu6`); NaN stays.
///
/// # Errors
/// When the dtype isn't a real number's.
pub fn relu6(x: Tensor) -> Result<Tensor> {
    if is_half(x.dtype()) {
        return half1(&x, relu6);
    }
    dispatch!(native_real x.dtype(), T => {
        let (zero, six) = (T::default(), <T as num_traits::NumCast>::from(6).unwrap_or_default());
        map1::<T>(x, #[inline(always)] move |_, v| {
            let v = if v < zero { zero } else { v };
            if v > six { six } else { v }
        })
    }, else => Err(Error::dtype("a real number's", x.dtype())))
}

/// `x`, or `alpha * x` where `x` is negative (`tf.nn.leaky_relu`).
///
/// # Errors
/// When the dtype isn't a float.
pub fn leaky_relu(x: Tensor, alpha: f32) -> Result<Tensor> {
    match x.dtype() {
        DType::F32 => map1::<f32>(
            x,
            #[inline(always)]
            move |_, v| if v > 0.0 { v } else { alpha * v },
        ),
        DType::F64 => {
            let alpha = f64::from(alpha);
            map1::<f64>(
                x,
                #[inline(always)]
                move |_, v| if v > 0.0 { v } else { alpha * v },
            )
        }
        DType::F16 | DType::BF16 => half1(&x, |x| leaky_relu(x, alpha)),
        d => Err(Error::dtype("a float one", d)),
    }
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident: f32 $single:expr, f64 $double:expr $(, complex $complex:expr)?;)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// When dtypes differ or aren't supported, or shapes don't broadcast.
        pub fn $name(a: Tensor, b: Tensor) -> Result<Tensor> {
            match a.dtype() {
                DType::F32 => map2::<f32>(a, b, $single),
                DType::F64 => map2::<f64>(a, b, $double),
                DType::F16 | DType::BF16 => half2(&a, &b, $name),
                $(
                    DType::C64 => map2::<Complex32>(a, b, |_, x, y| $complex(x, y)),
                    DType::C128 => map2::<Complex64>(a, b, |_, x, y| $complex(x, y)),
                )?
                d => Err(Error::dtype("a float one", d)),
            }
        }
    )* };
}

pub(super) use binary;

binary! {
    /// The angle of the point `(b, a)` (`tf.atan2(a, b)`).
    atan2: f32 |_, y, x| y.atan2(x), f64 |_, y, x| y.atan2(x);
    /// `a ln b`, 0 where `a` is 0 (`tf.math.xlogy`).
    xlogy: f32 |isa, x, y| { let v = x * math::log_f32(isa, y); if x == 0.0 { 0.0 } else { v } },
        f64 |_, x, y| if x == 0.0 { 0.0 } else { x * y.ln() },
        complex |x: Complex<_>, y: Complex<_>| if x == Complex::ZERO { x } else { x * y.ln() };
    /// `a ln(1 + b)`, 0 where `a` is 0 (`tf.math.xlog1py`).
    xlog1py: f32 |_, x, y| if x == 0.0 { 0.0 } else { x * y.ln_1p() },
        f64 |_, x, y| if x == 0.0 { 0.0 } else { x * y.ln_1p() },
        complex |x: Complex<_>, y: Complex<_>| if x == Complex::ZERO { x } else { x * complex_log1p(y) };
    /// `a / b`, 0 where `a` is 0 (`tf.math.xdivy`).
    xdivy: f32 |_, x, y| if x == 0.0 { 0.0 } else { x / y },
        f64 |_, x, y| if x == 0.0 { 0.0 } else { x / y },
        complex |x: Complex<_>, y: Complex<_>| if x == Complex::ZERO { x } else { x / y };
}

/// The next number from `a` towards `b` (`tf.math.nextafter`), for `float32` and `float64`.
///
/// # Errors
/// When dtypes differ or aren't supported, or shapes don't broadcast.
pub fn next_after(a: Tensor, b: Tensor) -> Result<Tensor> {
    same_dtype(&a, &b)?;
    match a.dtype() {
        DType::F32 => map2::<f32>(a, b, |_, x, y| libm::nextafterf(x, y)),
        DType::F64 => map2::<f64>(a, b, |_, x, y| libm::nextafter(x, y)),
        d => Err(Error::dtype("float32 or float64", d)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::f16;

    fn check(f: fn(Tensor) -> Result<Tensor>, x: &[f64], want: &[f64], tolerance: f64) {
        let t = Tensor::from_slice(x, [x.len()]).expect("tensor");
        let single = crate::kernels::array::cast(&t, DType::F32).expect("cast");
        let wide = f(t).expect("f64");
        let narrow = f(single).expect("f32");
        for (i, w) in want.iter().enumerate() {
            let (a, b) = (wide.as_slice::<f64>().expect("f64")[i], narrow.as_slice::<f32>().expect("f32")[i]);
            for (got, tolerance) in [(a, tolerance * 1e-9), (f64::from(b), tolerance)] {
                let same = got == *w || (got.is_nan() && w.is_nan());
                assert!(
                    same || (got - w).abs() <= tolerance * w.abs().max(1e-3),
                    "f({}) = {got}, not {w}",
                    x[i]
                );
            }
        }
    }

    #[test]
    fn activations() {
        let inf = f64::INFINITY;
        check(relu, &[-1.0, 0.0, 2.0, f64::NAN], &[0.0, 0.0, 2.0, f64::NAN], 0.0);
        check(relu6, &[-1.0, 3.0, 8.0, f64::NAN], &[0.0, 3.0, 6.0, f64::NAN], 0.0);
        check(elu, &[-1.0, 2.0, -inf], &[(-1f64).exp_m1(), 2.0, -1.0], 1e-6);
        check(selu, &[-1.0, 2.0], &[math::SELU_SCALE_ALPHA * (-1f64).exp_m1(), math::SELU_SCALE * 2.0], 1e-6);
        check(softsign, &[-1.0, 3.0], &[-0.5, 0.75], 1e-6);
        let sp = |v: f64| v.exp().ln_1p();
        check(
            softplus,
            &[-20.0, -5.0, 0.0, 1.0, 30.0],
            &[sp(-20.0), sp(-5.0), sp(0.0), sp(1.0), sp(30.0)],
            1e-6,
        );
        check(sigmoid, &[0.0, inf, -inf, 2.0], &[0.5, 1.0, 0.0, 0.880_797_077_977_882_3], 1e-6);
        let leaky =
            leaky_relu(Tensor::from_vec(vec![-2.0f32, 3.0], [2]).expect("tensor"), 0.25).expect("leaky");
        assert_eq!(leaky.as_slice::<f32>().expect("f32"), [-0.5, 3.0]);
    }

    #[test]
    fn special_values() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        check(exp, &[0.0, 1.0, -inf, inf, nan], &[1.0, std::f64::consts::E, 0.0, inf, nan], 1e-6);
        check(log, &[1.0, 0.0, -1.0, inf, nan], &[0.0, -inf, nan, inf, nan], 1e-6);
        check(sqrt, &[4.0, -1.0, 0.0], &[2.0, nan, 0.0], 1e-6);
        check(rsqrt, &[4.0, 0.0, inf], &[0.5, inf, 0.0], 1e-6);
        check(reciprocal, &[4.0, 0.0, -inf], &[0.25, inf, 0.0], 1e-6);
        check(erf, &[0.5, -inf], &[libm::erf(0.5), -1.0], 1e-6);
        check(erfc, &[0.5, 3.0], &[libm::erfc(0.5), libm::erfc(3.0)], 1e-6);
        check(lgamma, &[5.0, 0.5], &[24f64.ln(), std::f64::consts::PI.sqrt().ln()], 1e-6);
        check(round_half_even, &[0.5, 1.5, -2.5, 2.4], &[0.0, 2.0, -2.0, 2.0], 0.0);
        check(floor, &[-0.5, 1.5], &[-1.0, 1.0], 0.0);
        check(ceil, &[-0.5, 1.5], &[0.0, 2.0], 0.0);
    }

    #[test]
    fn classes_of_floats() {
        let x = Tensor::from_vec(
            vec![1.0, f32::NAN, f32::INFINITY].into_iter().map(f16::from_f32).collect(),
            [3],
        )
        .expect("tensor");
        let bools = |t: Result<Tensor>| t.expect("bool").as_slice::<Bool>().expect("bool").to_vec();
        assert_eq!(bools(is_nan(&x)), [false, true, false].map(Bool::from));
        assert_eq!(bools(is_inf(&x)), [false, false, true].map(Bool::from));
        assert_eq!(bools(is_finite(&x)), [true, false, false].map(Bool::from));
        assert!(is_nan(&Tensor::scalar(1i32)).is_err());
    }

    #[test]
    fn products_with_logarithms_are_zero_at_zero() {
        let t = |v: f32| Tensor::scalar(v);
        let item = |t: Result<Tensor>| t.expect("result").item::<f32>().expect("f32");
        assert_eq!(item(xlogy(t(0.0), t(0.0))), 0.0);
        assert_eq!(item(xlogy(t(2.0), t(1.0))), 0.0);
        assert_eq!(item(xdivy(t(0.0), t(0.0))), 0.0);
        assert_eq!(item(xlog1py(t(0.0), t(-1.0))), 0.0);
        assert_eq!(item(atan2(t(1.0), t(-1.0))), 0.75 * std::f32::consts::PI);
        assert_eq!(item(next_after(t(1.0), t(2.0))), 1.0 + f32::EPSILON);
    }

    #[test]
    fn complex_functions() {
        let z = Tensor::scalar(Complex64::new(0.3, -0.7));
        let item = |t: Result<Tensor>| t.expect("result").item::<Complex64>().expect("c128");
        let want = Complex64::new(0.3, -0.7);
        assert!((item(exp(log(z.clone()).expect("log"))) - want).norm() < 1e-14);
        assert!((item(expm1(z.clone())) - (want.exp() - 1.0)).norm() < 1e-14);
        assert!((item(log1p(z.clone())) - (want + 1.0).ln()).norm() < 1e-14);
        assert!((item(sigmoid(z)) - 1.0 / (1.0 + (-want).exp())).norm() < 1e-14);
    }
}
