//! Windows with what goes before or after them in one op: bias, normalisation, activation, padding, resizing.

use super::args::{all_tensors, many, one, tensors};
use super::moves::{mirror, paddings};
use super::products::{fused_activation, fused_ops};
use super::windows::Window;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::activation::Activation;
use crate::tensor::kernels::image::{Sampling, resize_bilinear};
use crate::tensor::kernels::window::Slide;
use crate::tensor::kernels::{array, conv, elementwise as e, norm, reduce};
use crate::tensor::{self, Tensor};
use crate::{Error, Result};

/// What follows a convolution, as the list attribute `fused_ops` names it.
struct After {
    /// Scale, offset, mean and variance are the extra inputs; otherwise there is one, the bias.
    normalised: Option<f32>,
    activation: Activation,
}

impl After {
    fn read(a: &NodeAttrs<'_>) -> Result<After> {
        let names = fused_ops(a);
        let (normalised, activation) = match names[..] {
            ["BiasAdd", ref rest @ ..] => (None, rest),
            ["FusedBatchNorm", ref rest @ ..] => (Some(a.float("epsilon")?), rest),
            _ => return Err(Error::unsupported(format!("fused ops {names:?}"))),
        };
        let activation = match activation {
            [] => Activation::Linear,
            [name] => fused_activation(name, a.float("leakyrelu_alpha")?)?,
            _ => return Err(Error::unsupported(format!("fused ops {names:?}"))),
        };
        Ok(After { normalised, activation })
    }

    /// Calls `convolve` with the bias, if there is one, and applies the rest.
    fn apply(
        &self,
        convolve: impl FnOnce(Option<&Tensor>) -> tensor::Result<Tensor>,
        args: &[Tensor],
    ) -> tensor::Result<Tensor> {
        let y = match (self.normalised, args) {
            (None, [bias]) => convolve(Some(bias))?,
            (Some(epsilon), [scale, offset, mean, variance]) => {
                norm::batch_norm(convolve(None)?, scale, offset, mean, variance, epsilon)?
            }
            _ => return Err(tensor::Error::value(format!("has {} extra inputs", args.len()))),
        };
        self.activation.apply(y)
    }
}

type Convolve = fn(&Tensor, &Tensor, &Slide, Option<&Tensor>) -> tensor::Result<Tensor>;

fn depthwise(x: &Tensor, filter: &Tensor, slide: &Slide, bias: Option<&Tensor>) -> tensor::Result<Tensor> {
    let y = conv::depthwise_conv(x, filter, slide)?;
    match bias {
        Some(bias) => e::add(y, bias.clone()),
        None => Ok(y),
    }
}

/// A convolution with what follows it.
fn convolution(a: &NodeAttrs<'_>, convolve: Convolve) -> Result<Box<dyn Kernel>> {
    let (window, after) = (Window::read(a)?, After::read(a)?);
    Ok(kernel(move |_, inputs| {
        let mut inputs = all_tensors(inputs)?;
        if inputs.len() < 3 {
            return Err(Error::graph(format!("takes at least 3 inputs, got {}", inputs.len())));
        }
        let args = inputs.split_off(2);
        let filter = inputs.remove(1);
        let x = inputs.remove(0);
        one(window.apply(x, |x| after.apply(|bias| convolve(x, &filter, &window.slide, bias), &args))?)
    }))
}

/// A convolution of an image that is resized, if it is, and mirrored at its edges.
fn padded_convolution(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (window, mirror) = (Window::read(a)?, mirror(a)?);
    let sampling = match a.get("resize_align_corners").and_then(|c| c.as_bool()) {
        Some(true) => Sampling::AlignCorners,
        _ => Sampling::Corner,
    };
    Ok(kernel(move |_, mut inputs| {
        let size = if inputs.len() > 3 { Some(inputs.remove(1).into_tensor()?) } else { None };
        let [mut x, pads, filter] = tensors(inputs)?;
        if let Some(size) = size {
            let dtype = x.dtype();
            x = array::cast(&resize_bilinear(&x, super::images::size(&size)?, sampling)?, dtype)?;
        }
        let pads = paddings(&pads, x.rank())?;
        one(conv::conv(&array::mirror_pad(&x, &pads, mirror)?, &filter, &window.slide, None)?)
    }))
}

/// The oldest batch normalisation, of `t`, mean, variance, offset and scale.
fn global_normalisation(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (epsilon, scaled) = (a.float("variance_epsilon")?, a.bool("scale_after_normalization")?);
    Ok(kernel(move |_, inputs| {
        let [x, mean, variance, offset, scale] = tensors(inputs)?;
        let scale = if scaled { scale } else { Tensor::full(1.0f32, scale.shape())? };
        one(norm::batch_norm(x, &scale, &offset, &mean, &variance, epsilon)?)
    }))
}

/// Its gradients by each of its inputs.
fn global_normalisation_grad(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (epsilon, scaled) = (a.float("variance_epsilon")?, a.bool("scale_after_normalization")?);
    Ok(kernel(move |_, inputs| {
        let [x, mean, variance, scale, grad] = tensors(inputs)?;
        let axes: Vec<usize> = (0..x.rank().saturating_sub(1)).collect();
        let spread = e::add(variance, Tensor::scalar(epsilon))?;
        let inverse = e::rsqrt(spread.clone())?;
        let products = e::mul(grad.clone(), e::sub(x, mean)?)?;
        let (by_offset, sums) = (reduce::sum(&grad, &axes, false)?, reduce::sum(&products, &axes, false)?);
        let by_scale = if scaled { e::mul(sums.clone(), inverse.clone())? } else { Tensor::full(0.0f32, scale.shape())? };
        let factor = if scaled { e::mul(inverse, scale)? } else { inverse };
        let by_mean = e::neg(e::mul(by_offset.clone(), factor.clone())?)?;
        let halves = e::mul(sums, Tensor::scalar(-0.5f32))?;
        let by_variance = e::div(e::mul(halves, factor.clone())?, spread)?;
        many([e::mul(grad, factor)?, by_mean, by_variance, by_offset, by_scale])
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("_FusedConv2D(input: T, filter: T, args: [TArgs], host_args: num_host_args * float32) -> (output: T); T: type; TArgs: list(type); num_args: int; num_host_args: int = 0; strides: list(int); padding: string; explicit_paddings: list(int) = []; data_format: string = \"NHWC\"; filter_format: string = \"HWIO\"; dilations: list(int) = [1, 1, 1, 1]; use_cudnn_on_gpu: bool = true; fused_ops: list(string) = []; epsilon: float = 0.0001; leakyrelu_alpha: float = 0.2", |a| convolution(a, conv::conv)),
    Op::new("_FusedDepthwiseConv2dNative(input: T, filter: T, args: num_args * T) -> (output: T); T: type; num_args: int; strides: list(int); padding: string; data_format: string = \"NHWC\"; dilations: list(int) = [1, 1, 1, 1]; fused_ops: list(string) = []; epsilon: float = 0.0001; leakyrelu_alpha: float = 0.2", |a| convolution(a, depthwise)),
    Op::new("FusedPadConv2D(input: T, paddings: int32, filter: T) -> (output: T); T: type; mode: string; strides: list(int); padding: string", padded_convolution),
    Op::new("FusedResizeAndPadConv2D(input: T, size: int32, paddings: int32, filter: T) -> (output: T); T: type; resize_align_corners: bool = false; mode: string; strides: list(int); padding: string", padded_convolution),
    Op::new("BatchNormWithGlobalNormalization(t: T, m: T, v: T, beta: T, gamma: T) -> (result: T); T: type; variance_epsilon: float; scale_after_normalization: bool", global_normalisation),
    Op::new("BatchNormWithGlobalNormalizationGrad(t: T, m: T, v: T, gamma: T, backprop: T) -> (dx: T, dm: T, dv: T, db: T, dg: T); T: type; variance_epsilon: float; scale_after_normalization: bool", global_normalisation_grad),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_normalisation_follows_the_convolution() {
        let one = |v: f32| Tensor::from_vec(vec![v], [1]).expect("tensor");
        let after = After { normalised: Some(0.0), activation: Activation::Relu };
        let y = Tensor::from_vec(vec![1.0f32, 5.0], [2, 1]).expect("tensor");
        let args = [one(2.0), one(0.5), one(3.0), one(4.0)];
        let got = after.apply(|_| Ok(y.clone()), &args).expect("normalised");
        // (y - 3) / 2 * 2 + 0.5, without what is negative.
        assert_eq!(got.as_slice::<f32>().expect("f32"), [0.0, 2.5]);
        assert!(after.apply(|_| Ok(y), &args[..1]).is_err());
    }
}
