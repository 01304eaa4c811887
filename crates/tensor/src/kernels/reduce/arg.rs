//! Where the greatest and the least elements are.

use crate::kernels::array::cast;
use crate::kernels::elementwise::Real;
use crate::kernels::parallel;
use crate::{DType, Error, Result, Shape, Tensor, checked_elements, dispatch};

/// The indices of the greatest elements along `axis`, which goes (`tf.argmax`): the first of equal ones, NaN left out.
///
/// `dtype` is the indices'.
///
/// # Errors
/// When `axis` is out of range or has no elements, or a dtype isn't supported.
pub fn arg_max(x: &Tensor, axis: usize, dtype: DType) -> Result<Tensor> {
    arg(x, axis, dtype, true)
}

/// The indices of the least elements along `axis`, which goes (`tf.argmin`): the first of equal ones, NaN left out.
///
/// # Errors
/// As [`arg_max`].
pub fn arg_min(x: &Tensor, axis: usize, dtype: DType) -> Result<Tensor> {
    arg(x, axis, dtype, false)
}

fn arg(x: &Tensor, axis: usize, dtype: DType, greatest: bool) -> Result<Tensor> {
    match x.dtype() {
        DType::F16 | DType::BF16 => return arg(&cast(x, DType::F32)?, axis, dtype, greatest),
        DType::Bool => return arg(&cast(x, DType::U8)?, axis, dtype, greatest),
        _ => {}
    }
    if !dtype.is_integer() {
        return Err(Error::dtype("an integer one", dtype));
    }
    let shape = x.shape();
    let Some(&n) = shape.get(axis) else {
        return Err(Error::value(format!("axis {axis} is out of range for rank {}", x.rank())));
    };
    if n == 0 {
        return Err(Error::value(format!("Reduction axis {axis} is empty in shape {shape:?}")));
    }
    let inner = checked_elements(&shape[axis + 1..])?;
    let kept: Shape = shape[..axis].iter().chain(&shape[axis + 1..]).copied().collect();
    let out = dispatch!(native_real x.dtype(), T => {
        let values = x.elements::<T>()?;
        let mut out = Tensor::zeros(DType::I64, &kept)?;
        parallel::for_parts(out.make_mut::<i64>()?, 1, n, |start, part| {
            for (i, o) in part.iter_mut().enumerate() {
                let (row, column) = ((start + i) / inner, (start + i) % inner);
                let line = values[row * n * inner + column..].iter().step_by(inner).take(n);
                let mut best = if greatest { T::LEAST } else { T::GREATEST };
                for (j, v) in line.enumerate() {
                    if if greatest { *v > best } else { *v < best } {
                        best = *v;
                        *o = j as i64;
                    }
                }
            }
        });
        out
    }, else => return Err(Error::dtype("a real number's", x.dtype())));
    cast(&out, dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(t: Result<Tensor>) -> Vec<i64> {
        t.expect("indices").as_slice::<i64>().expect("i64").to_vec()
    }

    #[test]
    fn the_first_of_equals_is_found() {
        let x = Tensor::from_vec(vec![1i32, 3, 3, 0, -1, -1], [2, 3]).expect("tensor");
        assert_eq!(at(arg_max(&x, 1, DType::I64)), [1, 0]);
        assert_eq!(at(arg_min(&x, 1, DType::I64)), [0, 1]);
        assert_eq!(at(arg_max(&x, 0, DType::I64)), [0, 0, 0]);
        assert_eq!(arg_max(&x, 0, DType::I32).expect("i32").dtype(), DType::I32);
    }

    #[test]
    fn nan_is_left_out() {
        let x =
            Tensor::from_vec(vec![f32::NAN, 1.0, 2.0, f32::NAN, f32::NAN, f32::NAN], [2, 3]).expect("tensor");
        assert_eq!(at(arg_max(&x, 1, DType::I64)), [2, 0]);
        assert_eq!(at(arg_min(&x, 1, DType::I64)), [1, 0]);
    }

    #[test]
    fn empty_axes_are_refused() {
        let x = Tensor::zeros(DType::F32, [2, 0]).expect("tensor");
        assert!(arg_max(&x, 1, DType::I64).is_err() && arg_max(&x, 2, DType::I64).is_err());
        assert_eq!(arg_max(&x, 0, DType::I64).expect("none").shape(), [0]);
    }
}
