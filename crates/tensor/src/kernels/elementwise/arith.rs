//! Arithmetic.

use super::map::{half1, half2, is_half, map1, map2, same_dtype};
use super::number::{Integer, Number, Real};
use crate::{DType, Error, Result, Tensor, dispatch};

/// The dtypes that arithmetic on the real line is done in.
const REAL: &str = "a real number's";
const ANY: &str = "a number's";

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident: $group:ident, $wanted:expr, $f:expr;)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// When dtypes differ or aren't supported, or shapes don't broadcast.
        pub fn $name(a: Tensor, b: Tensor) -> Result<Tensor> {
            if is_half(a.dtype()) {
                return half2(&a, &b, $name);
            }
            dispatch!($group a.dtype(), T => map2::<T>(a, b, #[inline(always)] |_, x, y| $f(x, y)),
                else => Err(Error::dtype($wanted, a.dtype())))
        }
    )* };
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident: $group:ident, $wanted:expr, $f:expr;)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// When the dtype isn't supported.
        pub fn $name(x: Tensor) -> Result<Tensor> {
            if is_half(x.dtype()) {
                return half1(&x, $name);
            }
            dispatch!($group x.dtype(), T => map1::<T>(x, #[inline(always)] |_, v| $f(v)),
                else => Err(Error::dtype($wanted, x.dtype())))
        }
    )* };
}

binary! {
    /// `a - b` (`tf.subtract`); integers wrap.
    sub: native, ANY, Number::minus;
    /// `a * b` (`tf.multiply`); integers wrap.
    mul: native, ANY, Number::times;
    /// The greater of two (`tf.maximum`), NaN if either is.
    maximum: native_real, REAL, Real::greater;
    /// The lesser of two (`tf.minimum`), NaN if either is.
    minimum: native_real, REAL, Real::lesser;
    /// `(a - b)²`, for complex numbers `|a - b|²` (`tf.math.squared_difference`).
    squared_difference: native, ANY, |x, y| Number::squared_norm(Number::minus(x, y));
    /// `a / b`, or 0 where `b` is 0 (`tf.math.divide_no_nan`), for floats and complex numbers.
    div_no_nan: native_float, "a float or complex one",
        |x: T, y: T| if y == T::ZERO { T::ZERO } else { x / y };
    /// `a * b`, or 0 where `b` is 0 even if `a` isn't finite (`tf.math.multiply_no_nan`), for floats and complex numbers.
    mul_no_nan: native_float, "a float or complex one",
        |x: T, y: T| if y == T::ZERO { T::ZERO } else { x * y };
}

unary! {
    /// `-x` (`tf.negative`); integers wrap.
    neg: native, ANY, Number::negative;
    /// `x²` (`tf.square`); integers wrap.
    square: native, ANY, |v| Number::times(v, v);
}

/// `a + b` (`tf.add`); integers wrap, strings are joined.
///
/// # Errors
/// When dtypes differ or aren't supported, or shapes don't broadcast.
pub fn add(a: Tensor, b: Tensor) -> Result<Tensor> {
    if is_half(a.dtype()) {
        return half2(&a, &b, add);
    }
    if a.dtype() == DType::String {
        let (strings, shape) = super::compare::map_strings(&a, &b, |x, y| [&x[..], &y[..]].concat())?;
        return Tensor::from_strings(strings, shape);
    }
    dispatch!(native a.dtype(), T => map2::<T>(a, b, #[inline(always)] |_, x, y| x.plus(y)),
        else => Err(Error::dtype(ANY, a.dtype())))
}

/// `|x|` (`tf.abs`) of a real tensor; of a complex one, see [`magnitude`](super::magnitude).
///
/// The least integer has no positive counterpart and stays as it is.
///
/// # Errors
/// When the dtype isn't supported.
pub fn abs(x: Tensor) -> Result<Tensor> {
    if x.dtype().is_complex() {
        return super::magnitude(&x);
    }
    if is_half(x.dtype()) {
        return half1(&x, abs);
    }
    dispatch!(native_real x.dtype(), T => map1::<T>(x, #[inline(always)] |_, v| v.magnitude()),
        else => Err(Error::dtype(ANY, x.dtype())))
}

/// -1, 0 or 1 by the sign (`tf.sign`); NaN stays NaN; `z / |z|` for complex numbers.
///
/// # Errors
/// When the dtype isn't supported.
pub fn sign(x: Tensor) -> Result<Tensor> {
    use num_complex::{Complex32, Complex64};
    match x.dtype() {
        d if is_half(d) => half1(&x, sign),
        DType::C64 => map1::<Complex32>(x, |_, z| if z == Complex32::ZERO { z } else { z / z.norm() }),
        DType::C128 => map1::<Complex64>(x, |_, z| if z == Complex64::ZERO { z } else { z / z.norm() }),
        d => dispatch!(native_real d, T => map1::<T>(x, #[inline(always)] |_, v| Real::signum(v)),
            else => Err(Error::dtype(ANY, d))),
    }
}

/// `a / b` (`tf.realdiv`, and `tf.truncatediv` for integers, which round towards zero).
///
/// # Errors
/// When dtypes differ or aren't supported, shapes don't broadcast, or an integer is divided by zero.
pub fn div(a: Tensor, b: Tensor) -> Result<Tensor> {
    match a.dtype() {
        d if is_half(d) => half2(&a, &b, div),
        d if d.is_complex() => dispatch!(native_float d,
            T => map2::<T>(a, b, #[inline(always)] |_, x, y| x / y),
            else => Err(Error::dtype(ANY, d))),
        d => {
            refuse_integer_zero(&a, &b)?;
            dispatch!(native_real d, T => map2::<T>(a, b, #[inline(always)] |_, x, y| x.quotient(y)),
                else => Err(Error::dtype(ANY, d)))
        }
    }
}

macro_rules! dividing {
    ($($(#[$doc:meta])* $name:ident: $f:expr;)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// When dtypes differ or aren't supported, shapes don't broadcast, or an integer is divided by zero.
        pub fn $name(a: Tensor, b: Tensor) -> Result<Tensor> {
            if is_half(a.dtype()) {
                return half2(&a, &b, $name);
            }
            refuse_integer_zero(&a, &b)?;
            dispatch!(native_real a.dtype(), T => map2::<T>(a, b, #[inline(always)] |_, x, y| $f(x, y)),
                else => Err(Error::dtype(REAL, a.dtype())))
        }
    )* };
}

/// The quotient rounded down (`tf.math.floordiv`); that of half precision is rounded to its precision before.
///
/// # Errors
/// When dtypes differ or aren't supported, shapes don't broadcast, or an integer is divided by zero.
pub fn floor_div(a: Tensor, b: Tensor) -> Result<Tensor> {
    if is_half(a.dtype()) {
        return super::floor(div(a, b)?);
    }
    refuse_integer_zero(&a, &b)?;
    dispatch!(native_real a.dtype(), T => map2::<T>(a, b, |_, x, y| Real::floor_div(x, y)),
        else => Err(Error::dtype(REAL, a.dtype())))
}

dividing! {
    /// The remainder with the divisor's sign (`tf.math.floormod`).
    floor_mod: Real::floor_mod;
    /// The remainder with the dividend's sign (`tf.truncatemod`).
    truncated_mod: Real::truncated_mod;
}

/// `a` to the power of `b` (`tf.pow`); integers wrap.
///
/// # Errors
/// When dtypes differ or aren't supported, shapes don't broadcast, or an integer's exponent is negative.
pub fn pow(a: Tensor, b: Tensor) -> Result<Tensor> {
    use num_complex::{Complex32, Complex64};
    same_dtype(&a, &b)?;
    match a.dtype() {
        DType::F32 => map2::<f32>(a, b, |_, x, y| x.powf(y)),
        DType::F64 => map2::<f64>(a, b, |_, x, y| x.powf(y)),
        DType::F16 | DType::BF16 => half2(&a, &b, pow),
        DType::C64 => map2::<Complex32>(a, b, |_, x, y| complex_power(x, y)),
        DType::C128 => map2::<Complex64>(a, b, |_, x, y| complex_power(x, y)),
        d => dispatch!(integer d, T => {
            #[allow(clippy::absurd_extreme_comparisons, reason = "the same text serves unsigned numbers")]
            if b.elements::<T>()?.iter().any(|e| *e < T::ZERO) && !a.is_empty() {
                return Err(Error::value("integers to negative integer powers are not allowed"));
            }
            map2::<T>(a, b, |_, x, y| x.power(y))
        }, else => Err(Error::dtype(ANY, d))),
    }
}

fn complex_power<F: num_traits::Float>(
    x: num_complex::Complex<F>,
    y: num_complex::Complex<F>,
) -> num_complex::Complex<F> {
    x.powc(y)
}

fn refuse_integer_zero(a: &Tensor, b: &Tensor) -> Result<()> {
    same_dtype(a, b)?;
    dispatch!(integer b.dtype(), T => {
        if !a.is_empty() && b.elements::<T>()?.contains(&T::ZERO) {
            return Err(Error::value("Integer division by zero"));
        }
        Ok(())
    }, else => Ok(()))
}

#[cfg(test)]
mod tests {
    use num_complex::Complex32;

    use super::*;
    use crate::{Element, f16};

    fn check<T: Element, const N: usize>(
        f: fn(Tensor, Tensor) -> Result<Tensor>,
        a: [T; N],
        b: [T; N],
        want: [T; N],
    ) {
        let t = |v: [T; N]| Tensor::from_vec(v.to_vec(), [N]).expect("tensor");
        assert_eq!(f(t(a), t(b)).expect("result").as_slice::<T>().expect("dtype"), want);
    }

    #[test]
    fn integers_wrap() {
        check(add, [i8::MAX, 1], [1, 2], [i8::MIN, 3]);
        check(sub, [0u8, 5], [1, 2], [255, 3]);
        check(mul, [i32::MAX, -3], [2, 4], [-2, -12]);
        check(pow, [2i32, -3, 2], [10, 3, 33], [1024, -27, 0]);
        assert_eq!(abs(Tensor::scalar(i64::MIN)).expect("abs").item::<i64>().expect("i64"), i64::MIN);
        check(div, [i32::MIN, -7], [-1, 2], [i32::MIN, -3]);
    }

    #[test]
    fn quotients_round_as_their_names_say() {
        let (a, b) = ([7i32, -7, 7, -7], [2, 2, -2, -2]);
        check(div, a, b, [3, -3, -3, 3]);
        check(floor_div, a, b, [3, -4, -4, 3]);
        check(floor_mod, a, b, [1, 1, -1, -1]);
        check(truncated_mod, a, b, [1, -1, 1, -1]);
        let (a, b) = ([7.5f32, -7.5, 7.5, -7.5], [2.0f32, 2.0, -2.0, -2.0]);
        check(floor_div, a, b, [3.0, -4.0, -4.0, 3.0]);
        check(floor_mod, a, b, [1.5, 0.5, -0.5, -1.5]);
        check(truncated_mod, a, b, [1.5, -1.5, 1.5, -1.5]);
        check(floor_div, [200u8, 7], [3, 7], [66, 1]);
    }

    #[test]
    fn integers_refuse_division_by_zero() {
        for f in [div, floor_div, floor_mod, truncated_mod] {
            let e = f(Tensor::scalar(1i32), Tensor::scalar(0i32)).expect_err("by zero");
            assert_eq!(e.to_string(), "Integer division by zero");
        }
        assert!(pow(Tensor::scalar(2i32), Tensor::scalar(-1i32)).is_err());
        check(div, [1.0f32, -1.0], [0.0, 0.0], [f32::INFINITY, f32::NEG_INFINITY]);
        check(div_no_nan, [1.0f32, 4.0], [0.0, 2.0], [0.0, 2.0]);
        check(mul_no_nan, [f32::INFINITY, 4.0], [0.0, 2.0], [0.0, 8.0]);
    }

    #[test]
    fn nan_wins_maximum_and_minimum() {
        for f in [maximum, minimum] {
            for (a, b) in [(f32::NAN, 1.0), (1.0, f32::NAN)] {
                let t = f(Tensor::scalar(a), Tensor::scalar(b)).expect("result");
                assert!(t.item::<f32>().expect("f32").is_nan());
            }
        }
        check(maximum, [1.0f32, -2.0], [0.5, 3.0], [1.0, 3.0]);
        check(minimum, [1i64, -2], [0, 3], [0, -2]);
    }

    #[test]
    fn half_precision_is_rounded_once() {
        let h = |v: f32| Tensor::scalar(f16::from_f32(v));
        let got = add(h(2048.0), h(1.0)).expect("sum").item::<f16>().expect("f16");
        assert_eq!(got.to_f32(), 2048.0);
        assert_eq!(square(h(3.0)).expect("square").dtype(), DType::F16);
    }

    #[test]
    fn complex_numbers_and_strings() {
        let z = |re, im| Complex32::new(re, im);
        check(mul, [z(1.0, 2.0)], [z(3.0, -1.0)], [z(5.0, 5.0)]);
        check(squared_difference, [z(1.0, 2.0)], [z(0.0, 0.0)], [z(5.0, 0.0)]);
        let sum = add(Tensor::scalar_string(&b"ab"[..]), Tensor::scalar_string(&b"c"[..])).expect("sum");
        assert_eq!(&*sum.strings().expect("strings")[0], b"abc");
        assert!(maximum(Tensor::scalar(z(1.0, 0.0)), Tensor::scalar(z(1.0, 0.0))).is_err());
    }

    #[test]
    fn signs() {
        let t = Tensor::from_vec(vec![-3.0f32, 0.0, 5.0, f32::NAN], [4]).expect("tensor");
        let s = sign(t).expect("sign");
        assert_eq!(s.as_slice::<f32>().expect("f32")[..3], [-1.0, 0.0, 1.0]);
        assert!(s.as_slice::<f32>().expect("f32")[3].is_nan());
        assert_eq!(neg(Tensor::scalar(3u8)).expect("neg").item::<u8>().expect("u8"), 253);
    }
}
