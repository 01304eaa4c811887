//! When tensors count as equal.

use modelark::tensor::{Complex32, Complex64, Element, bf16, f16};
use modelark::{DType, Tensor};

use crate::Outcome;

/// How far outputs may lie apart: `absolute + relative * |expected|`.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Around zero.
    pub absolute: f64,
    /// Elsewhere.
    pub relative: f64,
}

impl Tolerance {
    /// For float32 computations in another order.
    pub const FLOAT32: Tolerance = Tolerance { absolute: 1e-5, relative: 1e-4 };
}

/// The largest difference between numbers; strings and integers must be the same.
///
/// # Errors
/// When dtype or shape differ, or an element lies further away than allowed.
pub fn close(actual: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Outcome<f64> {
    if actual.shape() != expected.shape() {
        return Err(format!("shape {:?} instead of {:?}", actual.shape(), expected.shape()));
    }
    if actual.dtype() == DType::String && expected.dtype() == DType::String {
        return same_strings(actual, expected);
    }
    // NumPy has no int4: where TensorFlow gives one, it holds an int8 of the same value.
    if matches!(actual.dtype(), DType::I4 | DType::U4) && expected.dtype().size() == Some(1) {
        let nibbles =
            |t: &Tensor| Ok(t.bytes().map_err(|e| e.to_string())?.iter().map(|b| b & 15).collect::<Vec<_>>());
        let same: Outcome<bool> = nibbles(actual).and_then(|a| Ok(a == nibbles(expected)?));
        return if same? { Ok(0.0) } else { Err(differ(actual, expected)) };
    }
    // Files of NumPy hold bfloat16 as the integers of its bits.
    if actual.dtype() != expected.dtype() && actual.dtype().size() == expected.dtype().size() {
        let bits = |t: &Tensor| t.bytes().map(|b| b.to_vec()).map_err(|e| e.to_string());
        return if bits(actual)? == bits(expected)? { Ok(0.0) } else { Err(differ(actual, expected)) };
    }
    let (a, b) = (numbers(actual)?, numbers(expected)?);
    let mut worst = 0.0f64;
    for (i, (x, y)) in a.iter().zip(&b).enumerate() {
        if (x.is_nan() && y.is_nan()) || x == y {
            continue;
        }
        let difference = (x - y).abs();
        // Also what isn't comparable, such as a NaN on one side.
        // Not a number is never within.
        let within = difference <= tolerance.absolute + tolerance.relative * y.abs();
        if !within {
            return Err(format!("element {i} is {x} instead of {y}"));
        }
        worst = worst.max(difference);
    }
    Ok(worst)
}

/// Checks that two tensors hold the same bits.
///
/// # Errors
/// When they differ in dtype, shape or any bit.
pub fn same(actual: &Tensor, expected: &Tensor) -> Outcome<()> {
    if actual.bit_eq(expected) { Ok(()) } else { Err(differ(actual, expected)) }
}

/// Checks that every expected tensor, under whatever name, is among the actual ones bit for bit.
///
/// # Errors
/// When one isn't; the message names it.
pub fn all_among(actual: &[(String, Tensor)], expected: &[(String, Tensor)]) -> Outcome<usize> {
    let mut left: Vec<&Tensor> = actual.iter().map(|(_, t)| t).collect();
    for (name, tensor) in expected {
        match left.iter().position(|t| t.bit_eq(tensor)) {
            Some(at) => drop(left.swap_remove(at)),
            None => return Err(format!("{name:?} {:?} isn't among the tensors", tensor.shape())),
        }
    }
    Ok(expected.len())
}

fn differ(actual: &Tensor, expected: &Tensor) -> String {
    let kind = |t: &Tensor| format!("{}{:?}", t.dtype(), t.shape());
    if kind(actual) == kind(expected) {
        format!("{} of other content", kind(actual))
    } else {
        format!("{} instead of {}", kind(actual), kind(expected))
    }
}

/// Byte strings; those of a NumPy file have lost what NULs they ended with.
fn same_strings(actual: &Tensor, expected: &Tensor) -> Outcome<f64> {
    let texts = |t: &Tensor| t.strings().map(<[_]>::to_vec).map_err(|e| e.to_string());
    for (i, (a, b)) in texts(actual)?.iter().zip(texts(expected)?).enumerate() {
        let trim = |s: &[u8]| s.iter().rposition(|&c| c != 0).map_or(0, |end| end + 1);
        let (a, b): (&[u8], &[u8]) = (a.as_ref(), b.as_ref());
        if a[..trim(a)] != b[..trim(b)] {
            let shown = |s: &[u8]| String::from_utf8_lossy(s).into_owned();
            return Err(format!("element {i} is {:?} instead of {:?}", shown(a), shown(b)));
        }
    }
    Ok(0.0)
}

/// The elements as numbers; complex ones as pairs.
fn numbers(t: &Tensor) -> Outcome<Vec<f64>> {
    fn all<T: Element>(t: &Tensor, number: impl Fn(T) -> f64) -> Outcome<Vec<f64>> {
        let elements = t.elements::<T>().map_err(|e| e.to_string())?;
        Ok(elements.iter().map(|&x| number(x)).collect())
    }
    match t.dtype() {
        DType::F32 => all(t, |x: f32| x.into()),
        DType::F64 => all(t, |x: f64| x),
        DType::F16 => all(t, |x: f16| x.into()),
        DType::BF16 => all(t, |x: bf16| x.into()),
        DType::I8 => all(t, |x: i8| x.into()),
        DType::I16 => all(t, |x: i16| x.into()),
        DType::I32 => all(t, |x: i32| x.into()),
        DType::I64 => all(t, |x: i64| x as f64),
        DType::U8 => all(t, |x: u8| x.into()),
        DType::U16 => all(t, |x: u16| x.into()),
        DType::U32 => all(t, |x: u32| x.into()),
        DType::U64 => all(t, |x: u64| x as f64),
        DType::C64 => {
            let pairs = t.elements::<Complex32>().map_err(|e| e.to_string())?;
            Ok(pairs.iter().flat_map(|x| [f64::from(x.re), f64::from(x.im)]).collect())
        }
        DType::C128 => {
            let pairs = t.elements::<Complex64>().map_err(|e| e.to_string())?;
            Ok(pairs.iter().flat_map(|x| [x.re, x.im]).collect())
        }
        _ => Ok(t.bytes().map_err(|e| e.to_string())?.iter().map(|&b| f64::from(b)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, [values.len()]).expect("tensor")
    }

    #[test]
    fn what_is_close_and_what_is_not() {
        assert!(close(&t(&[1.0, f32::NAN]), &t(&[1.00005, f32::NAN]), Tolerance::FLOAT32).is_ok());
        assert!(close(&t(&[1.0]), &t(&[1.001]), Tolerance::FLOAT32).is_err());
        assert!(close(&t(&[f32::NAN]), &t(&[1.0]), Tolerance::FLOAT32).is_err());
        assert!(close(&t(&[1.0, 2.0]), &t(&[1.0]), Tolerance::FLOAT32).is_err());
        assert!(close(&t(&[f32::INFINITY]), &t(&[f32::INFINITY]), Tolerance::FLOAT32).is_ok());
        assert!(close(&Tensor::scalar(1i64), &Tensor::scalar(1.0f64), Tolerance::FLOAT32).is_err());
    }

    #[test]
    fn strings_are_compared_without_the_end_that_numpy_drops() {
        let strings = |s: &[&str]| {
            Tensor::from_strings(s.iter().map(|s| s.as_bytes()).collect::<Vec<_>>(), [s.len()])
                .expect("tensor")
        };
        assert!(close(&strings(&["a", "bc"]), &strings(&["a\0", "bc"]), Tolerance::FLOAT32).is_ok());
        assert!(close(&strings(&["a"]), &strings(&["b"]), Tolerance::FLOAT32).is_err());
    }

    #[test]
    fn bits_and_not_values_are_the_same() {
        assert!(same(&t(&[0.0]), &t(&[-0.0])).is_err());
        let named = |n: &str, v: &[f32]| (n.to_owned(), t(v));
        let actual = [named("a", &[1.0]), named("b", &[2.0])];
        assert_eq!(all_among(&actual, &[named("x", &[2.0])]), Ok(1));
        assert!(all_among(&actual, &[named("x", &[2.0]), named("y", &[2.0])]).is_err());
    }
}
