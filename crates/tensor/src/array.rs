//! To and from `ndarray`, the array type that users hand in and get back.

use ndarray::{Array, ArrayBase, ArrayD, ArrayViewD, Data, Dimension, IxDyn};

use crate::{Element, Error, Result, Tensor};

impl Tensor {
    /// The elements as an array, without copying.
    ///
    /// # Errors
    /// When `T` isn't the dtype's type, or the elements lie unaligned in a mapped file.
    pub fn view<T: Element>(&self) -> Result<ArrayViewD<'_, T>> {
        ArrayViewD::from_shape(IxDyn(self.shape()), self.as_slice::<T>()?)
            .map_err(|e| Error::shape(e.to_string()))
    }

    /// The elements copied into an array.
    ///
    /// # Errors
    /// When `T` isn't the dtype's type.
    pub fn to_array<T: Element>(&self) -> Result<ArrayD<T>> {
        ArrayD::from_shape_vec(IxDyn(self.shape()), self.elements::<T>()?.into_owned())
            .map_err(|e| Error::shape(e.to_string()))
    }
}

impl<T: Element, S: Data<Elem = T>, D: Dimension> From<&ArrayBase<S, D>> for Tensor {
    /// The array's elements, copied into C order.
    fn from(array: &ArrayBase<S, D>) -> Self {
        let mut tensor = match Tensor::zeros(T::DTYPE, array.shape()) {
            Ok(t) => t,
            // An array that exists has a shape that fits into memory, and an element type with bytes.
            Err(e) => unreachable!("{e}"),
        };
        if let Ok(out) = tensor.make_mut::<T>() {
            match array.as_slice() {
                Some(slice) => out.copy_from_slice(slice),
                None => out.iter_mut().zip(array.iter()).for_each(|(o, v)| *o = *v),
            }
        }
        tensor
    }
}

impl<T: Element, D: Dimension> From<Array<T, D>> for Tensor {
    fn from(array: Array<T, D>) -> Self {
        Tensor::from(&array)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn arrays_come_and_go() {
        let a = array![[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let t = Tensor::from(&a.t());
        assert_eq!(t.shape(), [3, 2]);
        assert_eq!(t.as_slice::<f32>().expect("f32"), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(t.view::<f32>().expect("view"), a.t().into_dyn());
        assert_eq!(Tensor::from(a.clone()).to_array::<f32>().expect("array"), a.into_dyn());
    }
}
