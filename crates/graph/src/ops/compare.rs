//! Comparisons, logic and bits.

use super::args::{binary, comparing, one, tensors, unary};
use super::{NodeAttrs, Op};
use crate::Result;
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::{broadcast_shape, elementwise as e};
use crate::tensor::{self, Tensor};

/// `Equal` and `NotEqual` give one boolean for shapes that don't broadcast, where the node says so.
fn equality(
    a: &NodeAttrs<'_>,
    f: fn(&Tensor, &Tensor) -> tensor::Result<Tensor>,
    incompatible: bool,
) -> Result<Box<dyn Kernel>> {
    if a.bool("incompatible_shape_error")? {
        return comparing(f);
    }
    Ok(kernel(move |_, inputs| {
        let [a, b] = tensors(inputs)?;
        if broadcast_shape(a.shape(), b.shape()).is_err() {
            return one(Tensor::from(incompatible));
        }
        one(f(&a, &b)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Equal(x: T, y: T) -> (z: bool); T: type; incompatible_shape_error: bool = true", |a| equality(a, e::equal, false)),
    Op::new("NotEqual(x: T, y: T) -> (z: bool); T: type; incompatible_shape_error: bool = true", |a| equality(a, e::not_equal, true)),
    Op::new("Less(x: T, y: T) -> (z: bool); T: type", |_| comparing(e::less)),
    Op::new("LessEqual(x: T, y: T) -> (z: bool); T: type", |_| comparing(e::less_equal)),
    Op::new("Greater(x: T, y: T) -> (z: bool); T: type", |_| comparing(e::greater)),
    Op::new("GreaterEqual(x: T, y: T) -> (z: bool); T: type", |_| comparing(e::greater_equal)),
    Op::new("ApproximateEqual(x: T, y: T) -> (z: bool); T: type; tolerance: float = 1e-05", |a| {
        let tolerance = a.float("tolerance")?;
        Ok(kernel(move |_, inputs| {
            let [a, b] = tensors(inputs)?;
            one(e::approximate_equal(&a, &b, tolerance)?)
        }))
    }),
    Op::new("LogicalAnd(x: bool, y: bool) -> (z: bool)", |_| binary(e::logical_and)),
    Op::new("LogicalOr(x: bool, y: bool) -> (z: bool)", |_| binary(e::logical_or)),
    Op::new("LogicalNot(x: bool) -> (y: bool)", |_| unary(e::logical_not)),
    Op::new("BitwiseAnd(x: T, y: T) -> (z: T); T: type", |_| binary(e::bitwise_and)),
    Op::new("BitwiseOr(x: T, y: T) -> (z: T); T: type", |_| binary(e::bitwise_or)),
    Op::new("BitwiseXor(x: T, y: T) -> (z: T); T: type", |_| binary(e::bitwise_xor)),
    Op::new("Invert(x: T) -> (y: T); T: type", |_| unary(e::bitwise_not)),
    Op::new("LeftShift(x: T, y: T) -> (z: T); T: type", |_| binary(e::shift_left)),
    Op::new("RightShift(x: T, y: T) -> (z: T); T: type", |_| binary(e::shift_right)),
];
