//! From one dtype to another.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use num_complex::{Complex32, Complex64};

use super::small_float::Format;
use crate::kernels::parallel;
use crate::{Bool, DType, Element, Error, Result, Tensor, dispatch};

/// The elements as another dtype (`tf.cast`).
///
/// Floats become integers by dropping their fraction. What doesn't fit is what vectorised conversions on x86 (and so
/// most of TensorFlow's, whose results differ by an element's place) make of it: the least number of `int32` and
/// `int64`, saturated for narrower ones. Integers wrap. Complex numbers lose their imaginary
/// part. Anything but zero is `true`.
///
/// # Errors
/// When one of the dtypes isn't numeric or `bool`.
pub fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let from = x.dtype();
    if from == dtype {
        return Ok(x.clone());
    }
    if from.size().is_none() || dtype.size().is_none() {
        return Err(Error::unsupported(format!("{from} can't be cast to {dtype}")));
    }
    // Dtypes that others are computed in.
    if let Some(format) = Format::of(from) {
        let table: Vec<f32> = (0..=u8::MAX).map(|code| format.decode(code)).collect();
        return cast(&convert_bytes(x, DType::F32, |code| table[usize::from(code)])?, dtype);
    }
    match from {
        DType::F16 => {
            if dtype == DType::F32 {
                return convert_slices::<f16, f32>(x, |from, to| from.convert_to_f32_slice(to));
            }
            return cast(&cast(x, DType::F32)?, dtype);
        }
        DType::BF16 => return cast(&convert::<bf16, f32>(x, bf16::to_f32)?, dtype),
        DType::I4 => return cast(&convert_bytes(x, DType::I8, |b| ((b << 4) as i8) >> 4)?, dtype),
        DType::U4 => return cast(&convert_bytes(x, DType::U8, |b| b & 15)?, dtype),
        DType::I2 => return cast(&convert_bytes(x, DType::I8, |b| ((b << 6) as i8) >> 6)?, dtype),
        DType::U2 => return cast(&convert_bytes(x, DType::U8, |b| b & 3)?, dtype),
        DType::QI8 => return cast(&x.clone().bitcast_same_width(DType::I8)?, dtype),
        DType::QU8 => return cast(&x.clone().bitcast_same_width(DType::U8)?, dtype),
        DType::QI16 => return cast(&x.clone().bitcast_same_width(DType::I16)?, dtype),
        DType::QU16 => return cast(&x.clone().bitcast_same_width(DType::U16)?, dtype),
        DType::QI32 => return cast(&x.clone().bitcast_same_width(DType::I32)?, dtype),
        DType::Bool => {
            let bytes = convert::<Bool, u8>(x, |b| u8::from(b.get()))?;
            return if dtype == DType::U8 { Ok(bytes) } else { cast(&bytes, dtype) };
        }
        DType::C64 if dtype == DType::C128 => {
            return convert::<Complex32, Complex64>(x, |z| Complex64::new(f64::from(z.re), f64::from(z.im)));
        }
        DType::C128 if dtype == DType::C64 => {
            return convert::<Complex64, Complex32>(x, |z| Complex32::new(z.re as f32, z.im as f32));
        }
        DType::C64 if dtype == DType::Bool => {
            return convert::<Complex32, Bool>(x, |z| (z != Complex32::ZERO).into());
        }
        DType::C128 if dtype == DType::Bool => {
            return convert::<Complex64, Bool>(x, |z| (z != Complex64::ZERO).into());
        }
        DType::C64 => return cast(&convert::<Complex32, f32>(x, |z| z.re)?, dtype),
        DType::C128 => return cast(&convert::<Complex64, f64>(x, |z| z.re)?, dtype),
        _ => {}
    }
    // What is left to cast from is `f32`, `f64` and the integers.
    if let Some(format) = Format::of(dtype) {
        let values = cast(x, DType::F32)?;
        return convert::<f32, u8>(&values, |v| format.encode(v))?.bitcast_same_width(dtype);
    }
    match dtype {
        DType::F16 => {
            let values = cast(x, DType::F32)?;
            convert_slices::<f32, f16>(&values, |from, to| to.convert_from_f32_slice(from))
        }
        DType::BF16 => convert::<f32, bf16>(&cast(x, DType::F32)?, bf16::from_f32),
        DType::I4 => {
            convert::<i8, u8>(&cast(x, DType::I8)?, |v| ((v << 4) >> 4) as u8)?.bitcast_same_width(dtype)
        }
        DType::U4 => convert::<u8, u8>(&cast(x, DType::U8)?, |v| v & 15)?.bitcast_same_width(dtype),
        DType::I2 => {
            convert::<i8, u8>(&cast(x, DType::I8)?, |v| ((v << 6) >> 6) as u8)?.bitcast_same_width(dtype)
        }
        DType::U2 => convert::<u8, u8>(&cast(x, DType::U8)?, |v| v & 3)?.bitcast_same_width(dtype),
        DType::QI8 => cast(x, DType::I8)?.bitcast_same_width(dtype),
        DType::QU8 => cast(x, DType::U8)?.bitcast_same_width(dtype),
        DType::QI16 => cast(x, DType::I16)?.bitcast_same_width(dtype),
        DType::QU16 => cast(x, DType::U16)?.bitcast_same_width(dtype),
        DType::QI32 => cast(x, DType::I32)?.bitcast_same_width(dtype),
        DType::C64 => convert::<f32, Complex32>(&cast(x, DType::F32)?, |v| Complex32::new(v, 0.0)),
        DType::C128 => convert::<f64, Complex64>(&cast(x, DType::F64)?, |v| Complex64::new(v, 0.0)),
        DType::Bool => dispatch!(native_real from,
            T => convert::<T, Bool>(x, |v| (v != T::default()).into()),
            else => Err(Error::unsupported(format!("{from} can't be cast to {dtype}")))),
        _ => dispatch!(native_real from, T => dispatch!(native_real dtype,
            U => convert::<T, U>(x, <U as From2<T>>::from2),
            else => Err(Error::unsupported(format!("{from} can't be cast to {dtype}")))),
            else => Err(Error::unsupported(format!("{from} can't be cast to {dtype}")))),
    }
}

fn convert<T: Element, U: Element>(x: &Tensor, f: impl Fn(T) -> U + Sync + Send) -> Result<Tensor> {
    convert_slices::<T, U>(x, |from, to| to.iter_mut().zip(from).for_each(|(o, v)| *o = f(*v)))
}

/// As [`convert`], from a dtype of one byte whatever it is called.
fn convert_bytes<U: Element>(x: &Tensor, to: DType, f: impl Fn(u8) -> U + Sync + Send) -> Result<Tensor> {
    debug_assert_eq!(U::DTYPE, to);
    convert::<u8, U>(&x.clone().bitcast_same_width(DType::U8)?, f)
}

fn convert_slices<T: Element, U: Element>(
    x: &Tensor,
    f: impl Fn(&[T], &mut [U]) + Sync + Send,
) -> Result<Tensor> {
    let values = x.elements::<T>()?;
    let mut out = Tensor::zeros(U::DTYPE, x.shape())?;
    parallel::for_parts(out.make_mut::<U>()?, 1, 1, |start, part| {
        if let Some(values) = values.get(start..start + part.len()) {
            f(values, part);
        }
    });
    Ok(out)
}

/// The conversion of one number as x86 does it.
trait From2<T> {
    fn from2(value: T) -> Self;
}

/// The instruction for 32-bit integers: their least value for all that they can't hold.
#[inline(always)]
fn truncate32(v: f64) -> i32 {
    if v > -2_147_483_649.0 && v < 2_147_483_648.0 { v as i32 } else { i32::MIN }
}

/// The instruction for 64-bit integers: their least value for all that they can't hold.
#[inline(always)]
fn truncate64(v: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&v) { v as i64 } else { i64::MIN }
}

/// Vectorised conversions to unsigned integers: the signed one, with that of the upper half mixed in where it fails.
#[inline(always)]
fn truncate_unsigned32(v: f64) -> u32 {
    let small = truncate32(v);
    let large = truncate32(v - 2_147_483_648.0);
    (small | (large & (small >> 31))) as u32
}

/// As [`truncate_unsigned32`], for 64 bits.
#[inline(always)]
fn truncate_unsigned64(v: f64) -> u64 {
    let small = truncate64(v);
    let large = truncate64(v - 9_223_372_036_854_775_808.0);
    (small | (large & (small >> 63))) as u64
}

macro_rules! from_floats {
    ($($f:ty),*) => { $(
        impl From2<$f> for i8 { #[inline(always)] fn from2(v: $f) -> i8 { truncate32(v.into()).clamp(i8::MIN.into(), i8::MAX.into()) as i8 } }
        impl From2<$f> for i16 { #[inline(always)] fn from2(v: $f) -> i16 { truncate32(v.into()).clamp(i16::MIN.into(), i16::MAX.into()) as i16 } }
        impl From2<$f> for i32 { #[inline(always)] fn from2(v: $f) -> i32 { truncate32(v.into()) } }
        impl From2<$f> for i64 { #[inline(always)] fn from2(v: $f) -> i64 { truncate64(v.into()) } }
        impl From2<$f> for u8 { #[inline(always)] fn from2(v: $f) -> u8 { truncate32(v.into()).clamp(u8::MIN.into(), u8::MAX.into()) as u8 } }
        impl From2<$f> for u16 { #[inline(always)] fn from2(v: $f) -> u16 { truncate32(v.into()).clamp(u16::MIN.into(), u16::MAX.into()) as u16 } }
        impl From2<$f> for u32 { #[inline(always)] fn from2(v: $f) -> u32 { truncate_unsigned32(v.into()) } }
        impl From2<$f> for u64 { #[inline(always)] fn from2(v: $f) -> u64 { truncate_unsigned64(v.into()) } }
        impl From2<$f> for f32 { #[inline(always)] fn from2(v: $f) -> f32 { v as f32 } }
        impl From2<$f> for f64 { #[inline(always)] fn from2(v: $f) -> f64 { v.into() } }
    )* };
}

from_floats!(f32, f64);

macro_rules! from_integers {
    ($($t:ty),*) => { $( from_integers!(@to $t: i8, i16, i32, i64, u8, u16, u32, u64, f32, f64); )* };
    (@to $t:ty: $($u:ty),*) => { $(
        impl From2<$t> for $u { #[inline(always)] fn from2(v: $t) -> $u { v as $u } }
    )* };
}

from_integers!(i8, i16, i32, i64, u8, u16, u32, u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn to<T: Element, U: Element>(values: &[T]) -> Vec<U> {
        let x = Tensor::from_slice(values, [values.len()]).expect("tensor");
        cast(&x, U::DTYPE).expect("cast").as_slice::<U>().expect("dtype").to_vec()
    }

    #[test]
    fn fractions_are_dropped_and_overflow_is_as_on_x86() {
        let v = [1.9f32, -1.9, f32::NAN, f32::INFINITY, 3e9, -3e9];
        assert_eq!(to::<_, i32>(&v), [1, -1, i32::MIN, i32::MIN, i32::MIN, i32::MIN]);
        assert_eq!(to::<_, i64>(&v), [1, -1, i64::MIN, i64::MIN, 3_000_000_000, -3_000_000_000]);
        assert_eq!(to::<_, u8>(&[300.7f32, -1.0, 255.0, 3e9]), [255, 0, 255, 0]);
        assert_eq!(to::<_, u32>(&[4e9f32, -1.0]), [4_000_000_000, u32::MAX]);
        assert_eq!(to::<_, u64>(&[1.5e19f64, -1.0]), [15_000_000_000_000_000_000, u64::MAX]);
    }

    #[test]
    fn integers_wrap() {
        assert_eq!(to::<_, i8>(&[200i32, -129]), [-56, 127]);
        assert_eq!(to::<_, f32>(&[u64::MAX]), [18_446_744_073_709_551_615.0]);
    }

    #[test]
    fn every_numeric_dtype_casts_to_every_other_and_keeps_one() {
        let numeric = |d: &&DType| d.size().is_some();
        for &from in DType::ALL.iter().filter(numeric) {
            let one = cast(&Tensor::full(1.0f32, [3]).expect("ones"), from).expect("cast");
            for &dtype in DType::ALL.iter().filter(numeric) {
                let cast_one = cast(&one, dtype).expect("cast");
                assert_eq!(cast_one.dtype(), dtype);
                let back = cast(&cast_one, DType::F32).expect("cast");
                // Two signed bits hold -2 to 1.
                assert_eq!(back.as_slice::<f32>().expect("f32"), [1.0; 3], "{from} to {dtype}");
            }
        }
        assert!(cast(&Tensor::scalar_string(&b"1"[..]), DType::F32).is_err());
    }

    #[test]
    fn half_precision_rounds_to_even() {
        let v = [1.0f32, 65504.0, 1e6, 1.0 + 1.0 / 2048.0, 6e-8];
        let h = to::<_, f16>(&v);
        assert_eq!(h, v.map(f16::from_f32));
        assert_eq!(to::<_, bf16>(&[1.0f32 + 1.0 / 256.0])[0].to_f32(), 1.0);
        assert_eq!(to::<_, Bool>(&[0.0f32, -0.0, f32::NAN, 2.0]).map_bool(), [false, false, true, true]);
    }

    trait MapBool {
        fn map_bool(&self) -> Vec<bool>;
    }
    impl MapBool for Vec<Bool> {
        fn map_bool(&self) -> Vec<bool> {
            self.iter().map(|b| b.get()).collect()
        }
    }

    #[test]
    fn small_integers_use_their_low_bits() {
        let x = Tensor::from_slice(&[7.0f32, -8.0, 9.0], [3]).expect("tensor");
        let four = cast(&x, DType::I4).expect("cast");
        assert_eq!(cast(&four, DType::F32).expect("cast").as_slice::<f32>().expect("f32"), [7.0, -8.0, -7.0]);
    }
}
