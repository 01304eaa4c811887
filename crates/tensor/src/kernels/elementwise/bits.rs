//! Logic on booleans, and on the bits of integers.

use super::map::{map1, map1_to, map2};
use super::number::Integer;
use crate::{Bool, Error, Result, Tensor, dispatch};

macro_rules! logical {
    ($($(#[$doc:meta])* $name:ident: $op:tt;)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// When a dtype isn't `bool`, or shapes don't broadcast.
        pub fn $name(a: Tensor, b: Tensor) -> Result<Tensor> {
            map2::<Bool>(a, b, |_, x, y| (x.get() $op y.get()).into())
        }
    )* };
}

logical! {
    /// Whether both are true (`tf.logical_and`).
    logical_and: &;
    /// Whether one or both are true (`tf.logical_or`).
    logical_or: |;
}

/// True where `x` is false (`tf.logical_not`).
///
/// # Errors
/// When the dtype isn't `bool`.
pub fn logical_not(x: Tensor) -> Result<Tensor> {
    map1::<Bool>(x, |_, v| (!v.get()).into())
}

/// Functions of two tensors of integers, element by element.
macro_rules! of_integers {
    ($($(#[$doc:meta])* $name:ident: $f:expr;)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// When dtypes differ or aren't integers, or shapes don't broadcast.
        pub fn $name(a: Tensor, b: Tensor) -> Result<Tensor> {
            dispatch!(integer a.dtype(), T => map2::<T>(a, b, |_, x, y| $f(x, y)),
                else => Err(Error::dtype("an integer one", a.dtype())))
        }
    )* };
}

pub(super) use of_integers;

of_integers! {
    /// Bits that both have (`tf.bitwise.bitwise_and`).
    bitwise_and: Integer::and;
    /// Bits that either has (`tf.bitwise.bitwise_or`).
    bitwise_or: Integer::or;
    /// Bits that just one has (`tf.bitwise.bitwise_xor`).
    bitwise_xor: Integer::xor;
    /// Bits moved up by `b` (`tf.bitwise.left_shift`), `b` kept between 0 and the width less one.
    shift_left: Integer::left;
    /// Bits moved down by `b` (`tf.bitwise.right_shift`), keeping the sign; `b` as for [`shift_left`].
    shift_right: Integer::right;
}

/// Every bit turned over (`tf.bitwise.invert`).
///
/// # Errors
/// When the dtype isn't an integer.
pub fn bitwise_not(x: Tensor) -> Result<Tensor> {
    dispatch!(integer x.dtype(), T => map1::<T>(x, |_, v| Integer::not(v)),
        else => Err(Error::dtype("an integer one", x.dtype())))
}

/// The number of bits that are set in each element, as `uint8` (`PopulationCount`).
///
/// # Errors
/// When the dtype isn't an integer.
pub fn population_count(x: &Tensor) -> Result<Tensor> {
    dispatch!(integer x.dtype(), T => map1_to::<T, u8>(x, |_, v| v.count_ones() as u8),
        else => Err(Error::dtype("an integer one", x.dtype())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logic_on_booleans() {
        let t = |v: [bool; 4]| Tensor::from_vec(v.map(Bool::from).to_vec(), [4]).expect("tensor");
        let (a, b) = (t([true, true, false, false]), t([true, false, true, false]));
        assert!(logical_and(a.clone(), b.clone()).expect("and").bit_eq(&t([true, false, false, false])));
        assert!(logical_or(a.clone(), b).expect("or").bit_eq(&t([true, true, true, false])));
        assert!(logical_not(a).expect("not").bit_eq(&t([false, false, true, true])));
        assert!(logical_not(Tensor::scalar(1i32)).is_err());
    }

    #[test]
    fn shifts_stay_within_the_width() {
        let a = Tensor::from_vec(vec![1i8, -128, 7, 5], [4]).expect("tensor");
        let b = Tensor::from_vec(vec![7i8, 3, -1, 100], [4]).expect("tensor");
        let left = shift_left(a.clone(), b.clone()).expect("left");
        assert_eq!(left.as_slice::<i8>().expect("i8"), [-128, 0, 7, -128]);
        let right = shift_right(a.clone(), b).expect("right");
        assert_eq!(right.as_slice::<i8>().expect("i8"), [0, -16, 7, 0]);
        assert_eq!(bitwise_not(a).expect("not").as_slice::<i8>().expect("i8"), [-2, 127, -8, -6]);
    }

    #[test]
    fn bits_combine() {
        let t = |v: u16| Tensor::scalar(v);
        let item = |t: Result<Tensor>| t.expect("result").item::<u16>().expect("u16");
        assert_eq!(item(bitwise_and(t(12), t(10))), 8);
        assert_eq!(item(bitwise_or(t(12), t(10))), 14);
        assert_eq!(item(bitwise_xor(t(12), t(10))), 6);
        assert!(bitwise_and(Tensor::scalar(1.0f32), Tensor::scalar(1.0f32)).is_err());
    }
}
