//! Combining the elements along axes, and running sums.
//!
//! Axes are counted from the front, in any order. Over no axes at all nothing is combined. Reduced dimensions go, or
//! stay with one element when asked to.

mod arg;
mod fold;
mod scan;

use self::fold::reduce;
use super::array::cast;
use super::elementwise::{self, Number, Real};
use crate::{Bool, DType, Error, Result, Tensor, dispatch};

pub use arg::{arg_max, arg_min};
pub use scan::{Order, cumulative_log_sum_exp, cumulative_product, cumulative_sum};

/// Reduced in `float32` and rounded.
fn half(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    cast(&f(&cast(x, DType::F32)?)?, x.dtype())
}

fn is_half(x: &Tensor) -> bool {
    matches!(x.dtype(), DType::F16 | DType::BF16)
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident: $group:ident, $wanted:literal, $init:ident, $f:expr;)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// When an axis is out of range or given twice, or the dtype isn't supported.
        pub fn $name(x: &Tensor, axes: &[usize], keep_dims: bool) -> Result<Tensor> {
            if is_half(x) {
                return half(x, |x| $name(x, axes, keep_dims));
            }
            dispatch!($group x.dtype(), T => reduce::<T>(x, axes, keep_dims, T::$init, #[inline(always)] |a, b| $f(a, b)),
                else => Err(Error::dtype($wanted, x.dtype())))
        }
    )* };
}

numbers! {
    /// The sum (`tf.reduce_sum`): integers wrap; 0 of no elements. Floats are summed in a tree, so that rounding errors
    /// stay small.
    sum: native, "a number's", ZERO, Number::plus;
    /// The product (`tf.reduce_prod`): integers wrap; 1 of no elements.
    product: native, "a number's", ONE, Number::times;
    /// The greatest element (`tf.reduce_max`), NaN if there is one; the least there is of no elements.
    max: native_real, "a real number's", LEAST, Real::greater;
    /// The least element (`tf.reduce_min`), NaN if there is one; the greatest there is of no elements.
    min: native_real, "a real number's", GREATEST, Real::lesser;
}

/// The mean (`tf.reduce_mean`); of integers rounded towards zero; of no floats NaN, of no complex numbers 0.
///
/// # Errors
/// When an axis is out of range or given twice, or the dtype isn't supported.
pub fn mean(x: &Tensor, axes: &[usize], keep_dims: bool) -> Result<Tensor> {
    if is_half(x) {
        return half(x, |x| mean(x, axes, keep_dims));
    }
    // Integers are added up without wrapping, where a wider dtype is there to do it.
    let wide = if matches!(x.dtype(), DType::U8 | DType::U16 | DType::U32 | DType::U64) {
        DType::U64
    } else {
        DType::I64
    };
    if x.dtype().is_integer() && x.dtype() != wide {
        return cast(&mean(&cast(x, wide)?, axes, keep_dims)?, x.dtype());
    }
    let total = sum(x, axes, keep_dims)?;
    let count: usize = axes.iter().map(|&a| x.shape()[a]).product();
    if (x.dtype().is_integer() || x.dtype().is_complex()) && count == 0 {
        return Ok(total);
    }
    let count = cast(&cast(&Tensor::scalar(count as u64), DType::F64)?, x.dtype())?;
    elementwise::div(total, count)
}

macro_rules! truth {
    ($($(#[$doc:meta])* $name:ident: $init:ident, $op:tt;)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// When an axis is out of range or given twice, or the dtype isn't `bool`.
        pub fn $name(x: &Tensor, axes: &[usize], keep_dims: bool) -> Result<Tensor> {
            reduce::<Bool>(x, axes, keep_dims, Bool::$init, |a, b| (a.get() $op b.get()).into())
        }
    )* };
}

truth! {
    /// Whether all elements are true (`tf.reduce_all`); true of none.
    all: TRUE, &;
    /// Whether an element is true (`tf.reduce_any`); false of none.
    any: FALSE, |;
}

/// The logarithm of the sum of exponentials (`tf.reduce_logsumexp`), without overflow on the way.
///
/// # Errors
/// When an axis is out of range or given twice, or the dtype isn't a float.
pub fn log_sum_exp(x: &Tensor, axes: &[usize], keep_dims: bool) -> Result<Tensor> {
    if is_half(x) {
        return half(x, |x| log_sum_exp(x, axes, keep_dims));
    }
    if !x.dtype().is_float() {
        return Err(Error::dtype("a float one", x.dtype()));
    }
    let most = max(x, axes, true)?;
    // Infinities can't be subtracted; they come out right without.
    let finite = elementwise::is_finite(&most)?;
    let shift = super::array::select(&finite, &most, &Tensor::zeros(x.dtype(), [])?)?;
    let rest = elementwise::exp(elementwise::sub(x.clone(), shift.clone())?)?;
    let total = elementwise::log(sum(&rest, axes, true)?)?;
    let out = elementwise::add(total, shift)?;
    out.reshape(fold::reduced_shape(x.shape(), axes, keep_dims)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Complex32;

    fn f(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape).expect("tensor")
    }

    fn item(t: Result<Tensor>) -> f32 {
        t.expect("result").item::<f32>().expect("f32")
    }

    #[test]
    fn no_elements_give_the_neutral_one() {
        let none = f(&[], &[0]);
        assert_eq!(item(sum(&none, &[0], false)), 0.0);
        assert_eq!(item(product(&none, &[0], false)), 1.0);
        assert_eq!(item(max(&none, &[0], false)), f32::NEG_INFINITY);
        assert_eq!(item(min(&none, &[0], false)), f32::INFINITY);
        assert!(item(mean(&none, &[0], false)).is_nan());
        assert_eq!(item(log_sum_exp(&none, &[0], false)), f32::NEG_INFINITY);
        let rows = sum(&f(&[], &[2, 0, 3]), &[1], true).expect("sum");
        assert_eq!((rows.shape(), rows.as_slice::<f32>().expect("f32")), (&[2, 1, 3][..], &[0.0; 6][..]));
        let ints = mean(&Tensor::zeros(DType::I32, [0]).expect("none"), &[0], false).expect("mean");
        assert_eq!(ints.item::<i32>().expect("i32"), 0);
    }

    #[test]
    fn nan_is_the_greatest_and_the_least() {
        let x = f(&[1.0, f32::NAN, 3.0], &[3]);
        assert!(item(max(&x, &[0], false)).is_nan() && item(min(&x, &[0], false)).is_nan());
        assert!(item(sum(&x, &[0], false)).is_nan());
    }

    #[test]
    fn means_of_integers_round_towards_zero() {
        let x = Tensor::from_vec(vec![-1i32, -2, -2], [3]).expect("tensor");
        assert_eq!(mean(&x, &[0], false).expect("mean").item::<i32>().expect("i32"), -1);
        let x = Tensor::from_vec(vec![200u8, 100], [2]).expect("tensor");
        assert_eq!(sum(&x, &[0], false).expect("sum").item::<u8>().expect("u8"), 44);
    }

    #[test]
    fn truth_is_combined() {
        let x = Tensor::from_vec([true, false, true, true].map(Bool::from).to_vec(), [2, 2]).expect("tensor");
        let bools = |t: Result<Tensor>| t.expect("bool").as_slice::<Bool>().expect("bool").to_vec();
        assert_eq!(bools(all(&x, &[1], false)), [false, true].map(Bool::from));
        assert_eq!(bools(any(&x, &[0, 1], false)), [Bool::TRUE]);
        assert!(all(&f(&[1.0], &[1]), &[0], false).is_err());
    }

    #[test]
    fn log_sum_exp_does_not_overflow() {
        let x = f(&[1000.0, 1000.0, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::INFINITY, 0.0], &[3, 2]);
        let got = log_sum_exp(&x, &[1], false).expect("result");
        let got = got.as_slice::<f32>().expect("f32");
        assert!((got[0] - 1_000.693_1).abs() < 1e-3);
        assert_eq!(got[1..], [f32::NEG_INFINITY, f32::INFINITY]);
    }

    #[test]
    fn half_precision_and_complex_numbers() {
        let x = cast(&Tensor::full(1.0f32, [5000]).expect("ones"), DType::F16).expect("f16");
        let got = cast(&sum(&x, &[0], false).expect("sum"), DType::F32).expect("f32");
        assert_eq!(got.item::<f32>().expect("f32"), 5000.0);
        let z = Tensor::from_vec(vec![Complex32::new(1.0, 1.0); 3], [3]).expect("tensor");
        let got = mean(&z, &[0], false).expect("mean").item::<Complex32>().expect("c64");
        assert_eq!(got, Complex32::new(1.0, 1.0));
        assert!(max(&z, &[0], false).is_err());
    }
}
