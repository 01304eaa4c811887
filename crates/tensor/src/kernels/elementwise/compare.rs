//! Comparisons, to `bool`.

use super::map::{is_half, map2_to, same_dtype, widen};
use crate::kernels::broadcast::{Walk, broadcast_shape};
use crate::{Bool, ByteString, DType, Error, Result, Shape, Tensor, dispatch};

macro_rules! ordered {
    ($($(#[$doc:meta])* $name:ident: $op:tt;)*) => { $(
        $(#[$doc])*
        ///
        /// For real numbers; nothing compares with NaN. Strings compare byte by byte.
        ///
        /// # Errors
        /// When dtypes differ or have no order, or shapes don't broadcast.
        pub fn $name(a: &Tensor, b: &Tensor) -> Result<Tensor> {
            same_dtype(a, b)?;
            match a.dtype() {
                d if is_half(d) => $name(&widen(a)?, &widen(b)?),
                DType::String => strings(a, b, |x, y| x $op y),
                d => dispatch!(native_real d,
                    T => map2_to::<T, T, Bool>(a, b, #[inline(always)] |_, x, y| (x $op y).into()),
                    else => Err(Error::dtype("one with an order", d))),
            }
        }
    )* };
}

ordered! {
    /// `a < b` (`tf.less`).
    less: <;
    /// `a <= b` (`tf.less_equal`).
    less_equal: <=;
    /// `a > b` (`tf.greater`).
    greater: >;
    /// `a >= b` (`tf.greater_equal`).
    greater_equal: >=;
}

macro_rules! equality {
    ($($(#[$doc:meta])* $name:ident: $op:tt;)*) => { $(
        $(#[$doc])*
        ///
        /// For numbers, booleans and strings. NaN isn't equal to anything.
        ///
        /// # Errors
        /// When dtypes differ or aren't supported, or shapes don't broadcast.
        pub fn $name(a: &Tensor, b: &Tensor) -> Result<Tensor> {
            same_dtype(a, b)?;
            match a.dtype() {
                d if is_half(d) => $name(&widen(a)?, &widen(b)?),
                DType::String => strings(a, b, |x, y| x $op y),
                DType::QI8 | DType::QU8 | DType::QI16 | DType::QU16 | DType::QI32 => {
                    let plain = super::map::plain_integer(a.dtype());
                    $name(&a.clone().bitcast_same_width(plain)?, &b.clone().bitcast_same_width(plain)?)
                }
                d => dispatch!(pod d,
                    T => map2_to::<T, T, Bool>(a, b, #[inline(always)] |_, x, y| (x $op y).into()),
                    else => Err(Error::dtype("one with equality", d))),
            }
        }
    )* };
}

equality! {
    /// `a == b` (`tf.equal`).
    equal: ==;
    /// `a != b` (`tf.not_equal`).
    not_equal: !=;
}

/// `|a - b| < tolerance` (`tf.approximate_equal`; shapes must be the same).
///
/// # Errors
/// When shapes or dtypes differ, or the dtype isn't real.
pub fn approximate_equal(a: &Tensor, b: &Tensor, tolerance: f32) -> Result<Tensor> {
    if a.shape() != b.shape() {
        return Err(Error::shape(format!("shapes {:?} and {:?} differ", a.shape(), b.shape())));
    }
    let difference = super::abs(super::sub(a.clone(), b.clone())?)?;
    let tolerance = super::super::array::cast(&Tensor::scalar(tolerance), a.dtype())?;
    less(&difference, &tolerance)
}

fn strings(a: &Tensor, b: &Tensor, f: impl Fn(&[u8], &[u8]) -> bool) -> Result<Tensor> {
    let (values, shape) = map_strings(a, b, |x, y| Bool::from(f(x, y)))?;
    Tensor::from_vec(values, shape)
}

/// `f` of the strings of two tensors that broadcast, and the shape of the result.
pub(super) fn map_strings<O>(
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(&ByteString, &ByteString) -> O,
) -> Result<(Vec<O>, Shape)> {
    let shape = broadcast_shape(a.shape(), b.shape())?;
    let (xs, ys) = (a.strings()?, b.strings()?);
    let n = crate::checked_elements(&shape)?;
    let walk = Walk::new(&shape, [a.shape(), b.shape()]);
    let [sa, sb] = walk.inner_strides();
    let mut out = Vec::with_capacity(n);
    walk.for_runs(0, n, |_, len, [i, j]| {
        out.extend((0..len).map(|k| f(&xs[i + k * sa], &ys[j + k * sb])));
    });
    Ok((out, shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bools(t: Result<Tensor>) -> Vec<bool> {
        t.expect("result").as_slice::<Bool>().expect("bool").iter().map(|b| b.get()).collect()
    }

    #[test]
    fn nothing_compares_with_nan() {
        let a = Tensor::from_vec(vec![1.0f32, f32::NAN, -0.0], [3]).expect("tensor");
        let b = Tensor::from_vec(vec![2.0f32, f32::NAN, 0.0], [3]).expect("tensor");
        assert_eq!(bools(less(&a, &b)), [true, false, false]);
        assert_eq!(bools(greater_equal(&a, &b)), [false, false, true]);
        assert_eq!(bools(equal(&a, &b)), [false, false, true]);
        assert_eq!(bools(not_equal(&a, &b)), [true, true, false]);
        assert_eq!(bools(approximate_equal(&a, &b, 1.5)), [true, false, true]);
    }

    #[test]
    fn strings_compare_and_broadcast() {
        let a = Tensor::from_strings([&b"a"[..], b"bc"], [2, 1]).expect("tensor");
        let b = Tensor::from_strings([&b"a"[..], b"b", b"bc"], [3]).expect("tensor");
        assert_eq!(bools(equal(&a, &b)), [true, false, false, false, false, true]);
        assert_eq!(bools(less(&a, &b)), [false, true, true, false, false, false]);
        assert!(equal(&a, &Tensor::scalar(1i32)).is_err());
    }

    #[test]
    fn half_precision_and_bool_compare() {
        let h = |v: f32| Tensor::scalar(crate::f16::from_f32(v));
        assert_eq!(bools(less(&h(1.0), &h(2.0))), [true]);
        assert_eq!(bools(equal(&Tensor::from(true), &Tensor::from(false))), [false]);
        assert!(less(&Tensor::from(true), &Tensor::from(false)).is_err());
    }
}
