//! Products of matrices, with what may be fused into them.

use super::args::{one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::{DType, Tensor};
use crate::tensor::kernels::activation::Activation;
use crate::tensor::kernels::array;
use crate::tensor::kernels::matmul::{Form, matmul, matmul_bias};
use crate::{Attr, Error, Result};

fn product(a_form: Form, b_form: Form) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [a, b] = tensors(inputs)?;
        one(matmul(&a, a_form, &b, b_form)?)
    }))
}

fn batch(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    product(Form::adjoint(a.bool("adj_x")?), Form::adjoint(a.bool("adj_y")?))
}

/// The first `BatchMatMul`, whose batches don't broadcast.
fn batch_alike(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (x_form, y_form) = (Form::adjoint(a.bool("adj_x")?), Form::adjoint(a.bool("adj_y")?));
    Ok(kernel(move |_, inputs| {
        let [x, y] = tensors(inputs)?;
        let batch = |t: &Tensor| t.shape().len().checked_sub(2).map(|n| t.shape()[..n].to_vec());
        if batch(&x) != batch(&y) {
            return Err(Error::compute(format!("batches of shapes {:?} and {:?} differ", x.shape(), y.shape())));
        }
        one(matmul(&x, x_form, &y, y_form)?)
    }))
}

/// `BatchMatMulV3`: operands may differ in dtype, the result has the one asked for.
fn batch_mixed(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (x_form, y_form) = (Form::adjoint(a.bool("adj_x")?), Form::adjoint(a.bool("adj_y")?));
    let to: DType = a.dtype("Tout")?;
    Ok(kernel(move |_, inputs| {
        let [x, y] = tensors(inputs)?;
        one(matmul(&array::cast(&x, to)?, x_form, &array::cast(&y, to)?, y_form)?)
    }))
}

/// The activation that a fused op names.
pub(super) fn fused_activation(name: &str, alpha: f32) -> Result<Activation> {
    Ok(match name {
        "Relu" => Activation::Relu,
        "Relu6" => Activation::Relu6,
        "LeakyRelu" => Activation::LeakyRelu(alpha),
        "Elu" => Activation::Elu,
        "Tanh" => Activation::Tanh,
        "Sigmoid" => Activation::Sigmoid,
        "GeluExact" => Activation::Gelu,
        "GeluApproximate" => Activation::GeluTanh,
        other => return Err(Error::unsupported(format!("fused op {other:?}"))),
    })
}

/// The names in the list attribute `fused_ops`.
pub(super) fn fused_ops<'a>(a: &NodeAttrs<'a>) -> Vec<&'a str> {
    a.get("fused_ops").and_then(Attr::as_list).unwrap_or_default().iter().filter_map(Attr::as_str).collect()
}

fn fused(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (a_form, b_form) =
        (Form::transposed(a.bool("transpose_a")?), Form::transposed(a.bool("transpose_b")?));
    let activation = match fused_ops(a)[..] {
        ["BiasAdd"] => Activation::Linear,
        ["BiasAdd", name] => fused_activation(name, a.float("leakyrelu_alpha")?)?,
        ref other => return Err(Error::unsupported(format!("fused ops {other:?}"))),
    };
    Ok(kernel(move |_, inputs| {
        let [a, b, bias] = tensors(inputs)?;
        one(matmul_bias(&a, a_form, &b, b_form, Some(&bias), activation)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("MatMul(a: T, b: T) -> (product: T); transpose_a: bool = false; transpose_b: bool = false; T: type; grad_a: bool = false; grad_b: bool = false", |a| {
        let (a_form, b_form) =
            (Form::transposed(a.bool("transpose_a")?), Form::transposed(a.bool("transpose_b")?));
        Ok(kernel(move |_, inputs| {
            let [a, b] = tensors(inputs)?;
            if a.rank() != 2 || b.rank() != 2 {
                return Err(Error::compute(format!(
                    "operands must be matrices, got shapes {:?} and {:?}",
                    a.shape(),
                    b.shape()
                )));
            }
            one(matmul(&a, a_form, &b, b_form)?)
        }))
    }),
    Op::new("BatchMatMul(x: T, y: T) -> (output: T); T: type; adj_x: bool = false; adj_y: bool = false; grad_x: bool = false; grad_y: bool = false", batch_alike),
    Op::new("BatchMatMulV2(x: T, y: T) -> (output: T); T: type; adj_x: bool = false; adj_y: bool = false; grad_x: bool = false; grad_y: bool = false", batch),
    Op::new("BatchMatMulV3(x: Ta, y: Tb) -> (output: Tout); Ta: type; Tb: type; Tout: type; adj_x: bool = false; adj_y: bool = false; grad_x: bool = false; grad_y: bool = false", batch_mixed),
    Op::new("_FusedMatMul(a: T, b: T, args: num_args * T) -> (product: T); transpose_a: bool = false; transpose_b: bool = false; T: type; num_args: int; fused_ops: list(string) = []; epsilon: float = 0.0001; leakyrelu_alpha: float = 0.2", fused),
];
