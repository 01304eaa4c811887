//! Arithmetic as XLA compiles it, where TensorFlow's own ops refuse a number or mean something else: integers divided by
//! zero, bits shifted out, floats too large for an integer.

use super::bits::of_integers;
use super::map::{map1, map1_to, map2};
use crate::kernels::array;
use crate::{DType, Error, Result, Tensor, bf16, dispatch, f16};

/// What integers lack in common.
trait Bits: crate::Element + Copy {
    fn quotient(self, other: Self) -> Self;
    fn rest(self, other: Self) -> Self;
    fn left(self, by: Self) -> Self;
    fn right(self, by: Self) -> Self;
    fn right_signed(self, by: Self) -> Self;
    fn zeros(self) -> Self;
    fn power(self, exponent: Self) -> Self;
}

macro_rules! bits {
    ($($t:ty, $unsigned:ty, $signed:ty;)*) => { $(
        impl Bits for $t {
            #[inline(always)]
            fn quotient(self, other: Self) -> Self {
                if other == 0 { !0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            fn rest(self, other: Self) -> Self {
                if other == 0 { self } else { self.wrapping_rem(other) }
            }
            #[inline(always)]
            fn left(self, by: Self) -> Self {
                let by = by as $unsigned;
                if u64::from(by) < u64::from(<$t>::BITS) { self << by } else { 0 }
            }
            #[inline(always)]
            fn right(self, by: Self) -> Self {
                let by = by as $unsigned;
                if u64::from(by) < u64::from(<$t>::BITS) { (self as $unsigned >> by) as $t } else { 0 }
            }
            #[inline(always)]
            fn right_signed(self, by: Self) -> Self {
                let by = u64::from(by as $unsigned).min(u64::from(<$t>::BITS) - 1);
                (self as $signed >> by) as $t
            }
            #[inline(always)]
            fn zeros(self) -> Self {
                self.leading_zeros() as $t
            }
            #[inline(always)]
            fn power(self, exponent: Self) -> Self {
                #[allow(unused_comparisons, reason = "the same text serves unsigned numbers")]
                if exponent < 0 {
                    return match self {
                        1 => 1,
                        // Only -1 is one less than zero, and a number without a sign has no such exponent.
                        v if v == (0 as $t).wrapping_sub(1) => if exponent & 1 == 0 { 1 } else { v },
                        _ => 0,
                    };
                }
                let (mut base, mut left, mut made) = (self, exponent, 1 as $t);
                while left != 0 {
                    if left & 1 == 1 {
                        made = made.wrapping_mul(base);
                    }
                    base = base.wrapping_mul(base);
                    left >>= 1;
                }
                made
            }
        }
    )* };
}

bits! {
    i8, u8, i8; i16, u16, i16; i32, u32, i32; i64, u64, i64;
    u8, u8, i8; u16, u16, i16; u32, u32, i32; u64, u64, i64;
}

of_integers! {
    /// The quotient towards zero; by zero, all bits (StableHLO: `divide`).
    divide: Bits::quotient;
    /// The remainder with the dividend's sign; by zero, the dividend (StableHLO: `remainder`).
    remainder: Bits::rest;
    /// Bits moved up, and out (StableHLO: `shift_left`).
    shift_out_left: Bits::left;
    /// Bits moved down, and out, zeros moving in (StableHLO: `shift_right_logical`).
    shift_out_right: Bits::right;
    /// Bits moved down, and out, the sign moving in (StableHLO: `shift_right_arithmetic`).
    shift_out_right_signed: Bits::right_signed;
    /// The power, wrapping; of a negative exponent what is left of it in integers (StableHLO: `power`).
    power: Bits::power;
}

/// How many bits before the first that is set (StableHLO: `count_leading_zeros`).
///
/// # Errors
/// When the dtype isn't an integer.
pub fn leading_zeros(x: Tensor) -> Result<Tensor> {
    dispatch!(integer x.dtype(), T => map1::<T>(x, |_, v| Bits::zeros(v)),
        else => Err(Error::dtype("an integer one", x.dtype())))
}

/// `f` of floats, halves by way of `float32`.
fn floats(x: Tensor, single: fn(f32) -> f32, double: fn(f64) -> f64) -> Result<Tensor> {
    match x.dtype() {
        DType::F32 => map1::<f32>(x, |_, v| single(v)),
        DType::F64 => map1::<f64>(x, |_, v| double(v)),
        half @ (DType::F16 | DType::BF16) => {
            array::cast(&floats(array::cast(&x, DType::F32)?, single, double)?, half)
        }
        other => Err(Error::dtype("a float", other)),
    }
}

/// The nearest integer, of two the one farther from zero (StableHLO: `round_nearest_afz`).
///
/// # Errors
/// When the dtype isn't a float.
pub fn round_half_away(x: Tensor) -> Result<Tensor> {
    floats(x, f32::round, f64::round)
}

/// The cubic root (StableHLO: `cbrt`).
///
/// # Errors
/// When the dtype isn't a float.
pub fn cubic_root(x: Tensor) -> Result<Tensor> {
    floats(x, |v| f64::from(v).cbrt() as f32, f64::cbrt)
}

/// Integers of floats: towards zero, no further than the dtype reaches, of not-a-number zero (StableHLO: `convert`).
///
/// # Errors
/// When `x` isn't of floats or `dtype` no integer's.
pub fn to_integer(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let wide = array::cast(x, DType::F64)?;
    dispatch!(integer dtype, T => map1_to::<f64, T>(&wide, |_, v| v as T),
        else => Err(Error::dtype("an integer", dtype)))
}

/// Floats as a dtype of so many bits of exponent and mantissa would have them (StableHLO: `reduce_precision`).
///
/// # Errors
/// When the dtype isn't a float, or there is no such number of bits.
pub fn reduce_precision(x: Tensor, exponent: u32, mantissa: u32) -> Result<Tensor> {
    if !(1..=11).contains(&exponent) || mantissa > 52 {
        return Err(Error::value(format!(
            "floats have no {exponent} bits of exponent and {mantissa} of mantissa"
        )));
    }
    let dtype = x.dtype();
    let (own_exponent, own_mantissa) = match dtype {
        DType::F32 => (8, 23),
        DType::F64 => (11, 52),
        DType::F16 => (5, f16::MANTISSA_DIGITS - 1),
        DType::BF16 => (8, bf16::MANTISSA_DIGITS - 1),
        other => return Err(Error::dtype("a float", other)),
    };
    let wide = array::cast(&x, DType::F64)?;
    let (exponent, mantissa) = (exponent.min(own_exponent), mantissa.min(own_mantissa));
    let bias = (1i64 << (exponent - 1)) - 1;
    let narrowed = map1::<f64>(wide, |_, v| narrow(v, exponent < own_exponent, bias, mantissa))?;
    array::cast(&narrowed, dtype)
}

fn narrow(v: f64, fewer_exponents: bool, bias: i64, mantissa: u32) -> f64 {
    if !v.is_finite() || v == 0.0 {
        return v;
    }
    let bits = v.to_bits();
    let drop = 52 - mantissa;
    let rounded = if drop == 0 {
        bits
    } else {
        // To the nearest, of two to the even one.
        let odd = bits >> drop & 1;
        (bits + ((1 << (drop - 1)) - 1) + odd) & !((1u64 << drop) - 1)
    };
    let scale = (rounded >> 52 & 0x7ff) as i64 - 1023;
    let sign = f64::from_bits(bits & 1 << 63);
    if fewer_exponents && scale > bias {
        return f64::INFINITY.copysign(f64::from_bits(bits));
    }
    // What would have no leading one is flushed.
    if fewer_exponents && scale < 1 - bias {
        return sign;
    }
    f64::from_bits(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_a_result_for_every_operand() {
        let t = |v: &[i32]| Tensor::from_slice(v, [v.len()]).expect("tensor");
        let check = |f: fn(Tensor, Tensor) -> Result<Tensor>, a: &[i32], b: &[i32], want: &[i32]| {
            assert_eq!(f(t(a), t(b)).expect("result").as_slice::<i32>().expect("i32"), want);
        };
        check(divide, &[7, -7, 5, i32::MIN], &[2, 2, 0, -1], &[3, -3, -1, i32::MIN]);
        check(remainder, &[7, -7, 5, i32::MIN], &[2, 2, 0, -1], &[1, -1, 5, 0]);
        check(shift_out_left, &[1, 1, 1], &[3, 32, -1], &[8, 0, 0]);
        check(shift_out_right, &[-1, -1, -1], &[28, 32, -1], &[15, 0, 0]);
        check(shift_out_right_signed, &[-8, -8, 8], &[1, 32, 99], &[-4, -1, 0]);
        check(power, &[3, -1, -1, 2, 0], &[4, -3, -2, -1, 0], &[81, -1, 1, 0, 1]);
    }

    #[test]
    fn floats_become_what_integers_can_hold() {
        let x = Tensor::from_slice(&[1.9f32, -1.9, 3e10, f32::NAN, -1e3], [5]).expect("tensor");
        let got = to_integer(&x, DType::I32).expect("cast");
        assert_eq!(got.as_slice::<i32>().expect("i32"), [1, -1, i32::MAX, 0, -1000]);
        let got = to_integer(&x, DType::U8).expect("cast");
        assert_eq!(got.as_slice::<u8>().expect("u8"), [1, 0, 255, 0, 0]);
        assert!(to_integer(&x, DType::F32).is_err());
    }
}
