//! Linear algebra: decompositions, solving, functions of matrices.

use super::Op;
use super::args::{one, tensors};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::{array, elementwise as e};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The product of vectors in space, which lie in the last dimension.
fn cross() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [a, b] = tensors(inputs)?;
        if a.shape() != b.shape() || a.shape().last() != Some(&3) {
            return Err(Error::compute(format!(
                "cross products are of two like tensors of 3-element vectors, got shapes {:?} and {:?}",
                a.shape(),
                b.shape()
            )));
        }
        let last = a.rank() - 1;
        // Rolled on by one and by two places, so that factors meet.
        let rolled = |t: &Tensor, by: i64| array::roll(t, &[-by], &[last]);
        let first = e::mul(rolled(&a, 1)?, rolled(&b, 2)?)?;
        one(e::sub(first, e::mul(rolled(&a, 2)?, rolled(&b, 1)?)?)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Cross(a: T, b: T) -> (product: T); T: type", |_| cross()),
];
