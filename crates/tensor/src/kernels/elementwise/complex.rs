//! Complex numbers and their parts.

use num_complex::{Complex32, Complex64};

use super::map::{map1, map1_to, map2_to, same_dtype};
use crate::{DType, Error, Result, Tensor};

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident: $f:expr;)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        /// When the dtype isn't complex.
        pub fn $name(x: &Tensor) -> Result<Tensor> {
            match x.dtype() {
                DType::C64 => map1_to::<Complex32, f32>(x, |_, z| $f(z)),
                DType::C128 => map1_to::<Complex64, f64>(x, |_, z| $f(z)),
                d => Err(Error::dtype("a complex one", d)),
            }
        }
    )* };
}

parts! {
    /// The real parts (`tf.math.real`).
    real: |z: num_complex::Complex<_>| z.re;
    /// The imaginary parts (`tf.math.imag`).
    imag: |z: num_complex::Complex<_>| z.im;
    /// The distances from zero (`tf.abs` of a complex tensor).
    magnitude: num_complex::Complex::norm;
    /// The angles in radians (`tf.math.angle`).
    angle: num_complex::Complex::arg;
}

/// The same numbers with their imaginary parts negated (`tf.math.conj`); real tensors stay as they are.
///
/// # Errors
/// Never for a numeric tensor.
pub fn conj(x: Tensor) -> Result<Tensor> {
    match x.dtype() {
        DType::C64 => map1::<Complex32>(x, |_, z| z.conj()),
        DType::C128 => map1::<Complex64>(x, |_, z| z.conj()),
        _ => Ok(x),
    }
}

/// Complex numbers from their parts (`tf.complex`), which broadcast.
///
/// # Errors
/// When dtypes differ or aren't `float32` or `float64`, or shapes don't broadcast.
pub fn complex(re: &Tensor, im: &Tensor) -> Result<Tensor> {
    same_dtype(re, im)?;
    match re.dtype() {
        DType::F32 => map2_to::<f32, f32, Complex32>(re, im, |_, re, im| Complex32 { re, im }),
        DType::F64 => map2_to::<f64, f64, Complex64>(re, im, |_, re, im| Complex64 { re, im }),
        d => Err(Error::dtype("float32 or float64", d)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_apart_and_together() {
        let re = Tensor::from_vec(vec![3.0f32, -1.0], [2]).expect("tensor");
        let im = Tensor::from_vec(vec![4.0f32, 0.0], [2]).expect("tensor");
        let z = complex(&re, &im).expect("complex");
        assert!(real(&z).expect("real").bit_eq(&re) && imag(&z).expect("imag").bit_eq(&im));
        assert_eq!(magnitude(&z).expect("abs").as_slice::<f32>().expect("f32"), [5.0, 1.0]);
        assert_eq!(angle(&z).expect("angle").as_slice::<f32>().expect("f32")[1], std::f32::consts::PI);
        let c = conj(z).expect("conj");
        assert_eq!(c.as_slice::<Complex32>().expect("c64")[0], Complex32 { re: 3.0, im: -4.0 });
        assert!(conj(re.clone()).expect("conj").bit_eq(&re));
        assert!(real(&re).is_err());
    }
}
