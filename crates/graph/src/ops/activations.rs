//! Biases and activation functions, with the gradients that are written as ops of their own.

use super::Op;
use super::args::{map1, one, paired, tensors, unary};
use crate::engine::kernel;
use crate::tensor::kernels::elementwise as e;
use crate::tensor::{self, Shape, Tensor};
use crate::{Error, Result};

/// The bias, shaped so that it adds to the channels of a value of this rank.
pub(super) fn bias_for(bias: Tensor, value: &[usize], channels_first: bool) -> Result<Tensor> {
    let channels = if channels_first { value.get(1) } else { value.last() };
    if bias.rank() != 1 || value.len() < 2 || channels != bias.shape().first() {
        return Err(Error::compute(format!(
            "a bias of shape {:?} doesn't fit a value of shape {value:?}",
            bias.shape()
        )));
    }
    if !channels_first || value.len() == 2 {
        return Ok(bias);
    }
    let mut shape: Shape = bias.shape().into();
    shape.resize(value.len() - 1, 1);
    Ok(bias.reshape(shape)?)
}

/// A constant of the tensor's dtype.
fn like(x: &Tensor, value: f32) -> tensor::Result<Tensor> {
    tensor::kernels::array::cast(&Tensor::scalar(value), x.dtype())
}

pub(super) const OPS: &[Op] = &[
    Op::new("BiasAdd(value: T, bias: T) -> (output: T); T: type; data_format: string = \"NHWC\"", |a| {
        let channels_first = a.str("data_format")? == "NCHW";
        Ok(kernel(move |_, inputs| {
            let [value, bias] = tensors(inputs)?;
            let bias = bias_for(bias, value.shape(), channels_first)?;
            one(e::add(value, bias)?)
        }))
    }),
    Op::new("BiasAddV1(value: T, bias: T) -> (output: T); T: type", |_| {
        Ok(kernel(move |_, inputs| {
            let [value, bias] = tensors(inputs)?;
            let bias = bias_for(bias, value.shape(), false)?;
            one(e::add(value, bias)?)
        }))
    }),
    Op::new("Relu(features: T) -> (activations: T); T: type", |_| unary(e::relu)),
    Op::new("Relu6(features: T) -> (activations: T); T: type", |_| unary(e::relu6)),
    Op::new("LeakyRelu(features: T) -> (activations: T); alpha: float = 0.2; T: type = float32", |a| {
        let alpha = a.float("alpha")?;
        map1(move |x| e::leaky_relu(x, alpha))
    }),
    Op::new("Elu(features: T) -> (activations: T); T: type", |_| unary(e::elu)),
    Op::new("Selu(features: T) -> (activations: T); T: type", |_| unary(e::selu)),
    Op::new("Sigmoid(x: T) -> (y: T); T: type", |_| unary(e::sigmoid)),
    Op::new("Softplus(features: T) -> (activations: T); T: type", |_| unary(e::softplus)),
    Op::new("Softsign(features: T) -> (activations: T); T: type", |_| unary(e::softsign)),
    Op::new("SigmoidGrad(y: T, dy: T) -> (z: T); T: type", |_| {
        paired(|y, dy| {
            let rest = e::sub(like(&y, 1.0)?, y.clone())?;
            e::mul(dy, e::mul(y, rest)?)
        })
    }),
    Op::new("TanhGrad(y: T, dy: T) -> (z: T); T: type", |_| {
        paired(|y, dy| {
            let one = like(&y, 1.0)?;
            e::mul(dy, e::sub(one, e::square(y)?)?)
        })
    }),
];
