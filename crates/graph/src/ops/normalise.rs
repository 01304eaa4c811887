//! Softmax and batch normalisation.

use super::args::{all_tensors, many, map1, one, tensors, unary};
use super::windows::{channels_to_back, channels_to_front};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::activation::Activation;
use crate::tensor::kernels::local_norm::{self, LocalNorm};
use crate::tensor::kernels::{array, elementwise as e, norm, reduce};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// `FusedBatchNorm` in its versions: `outputs` of them are there.
fn batch_norm(a: &NodeAttrs<'_>, outputs: usize) -> Result<Box<dyn Kernel>> {
    let epsilon = a.float("epsilon")?;
    let momentum = a.float("exponential_avg_factor")?;
    let training = a.bool("is_training")?;
    let format = a.str("data_format")?;
    if !["NHWC", "NCHW", "NDHWC", "NCDHW"].contains(&format) {
        return Err(Error::unsupported(format!("data format {format:?}")));
    }
    let channels_first = format.starts_with("NC");
    Ok(kernel(move |_, inputs| {
        let [x, scale, offset, mean, variance] = tensors(inputs)?;
        let x = if channels_first { channels_to_back(x)? } else { x };
        let (mean, variance, shown) = if training {
            statistics(&x, &mean, &variance, momentum)?
        } else {
            (mean.clone(), variance.clone(), [mean, variance])
        };
        let y = norm::batch_norm(x, &scale, &offset, &mean, &variance, epsilon)?;
        let y = if channels_first { channels_to_front(y)? } else { y };
        let [shown_mean, shown_variance] = shown;
        let mut all = vec![y, shown_mean, shown_variance, mean, variance];
        if outputs > all.len() {
            all.push(Tensor::scalar(0.0f32));
        }
        many(all)
    }))
}

/// Mean and variance of this batch, and what the running ones become.
fn statistics(x: &Tensor, mean: &Tensor, variance: &Tensor, momentum: f32) -> Result<(Tensor, Tensor, [Tensor; 2])> {
    let x = array::cast(x, DType::F32)?;
    let axes: Vec<usize> = (0..x.rank().saturating_sub(1)).collect();
    let samples = axes.iter().map(|a| x.shape()[*a]).product::<usize>();
    let batch_mean = reduce::mean(&x, &axes, false)?;
    let centred = e::squared_difference(x, batch_mean.clone())?;
    let batch_variance = reduce::mean(&centred, &axes, false)?;
    // The running variance takes the unbiased estimate.
    let unbiased = samples as f32 / samples.saturating_sub(1).max(1) as f32;
    let shown_variance = e::mul(batch_variance.clone(), Tensor::scalar(unbiased))?;
    let blend = |old: &Tensor, new: Tensor| -> Result<Tensor> {
        if momentum == 1.0 {
            return Ok(new);
        }
        let old = e::mul(old.clone(), Tensor::scalar(1.0 - momentum))?;
        Ok(e::add(old, e::mul(new, Tensor::scalar(momentum))?)?)
    };
    let shown = [blend(mean, batch_mean.clone())?, blend(variance, shown_variance)?];
    Ok((batch_mean, batch_variance, shown))
}

/// `FusedBatchNormGrad` in its versions: `reserves` of its inputs are what the op kept.
fn batch_norm_grad(a: &NodeAttrs<'_>, reserves: usize) -> Result<Box<dyn Kernel>> {
    let (epsilon, training) = (a.float("epsilon")?, a.bool("is_training")?);
    let channels_first = a.str("data_format")?.starts_with("NC");
    Ok(kernel(move |_, inputs| {
        let inputs = all_tensors(inputs)?;
        let [grad, x, scale, mean, variance, rest @ ..] = &inputs[..] else {
            return Err(Error::graph(format!("takes {} inputs, got {}", 3 + reserves, inputs.len())));
        };
        if rest.len() + 2 != reserves {
            return Err(Error::graph(format!("takes {} inputs, got {}", 3 + reserves, inputs.len())));
        }
        let back = |t: &Tensor| if channels_first { channels_to_back(t.clone()) } else { Ok(t.clone()) };
        let (dtype, grad, x) = (x.dtype(), back(grad)?, back(x)?);
        let (grad, x) = (array::cast(&grad, DType::F32)?, array::cast(&x, DType::F32)?);
        let axes: Vec<usize> = (0..x.rank().saturating_sub(1)).collect();
        let centred = e::sub(x, mean.clone())?;
        let spread = e::add(variance.clone(), Tensor::scalar(epsilon))?;
        let inverse = e::rsqrt(spread.clone())?;
        let products = e::mul(grad.clone(), centred.clone())?;
        let by_scale = e::mul(reduce::sum(&products, &axes, false)?, inverse.clone())?;
        let by_offset = reduce::sum(&grad, &axes, false)?;
        let factor = e::mul(scale.clone(), inverse)?;
        let by_x = if training {
            // The batch's own mean and variance move with its elements.
            let rest = e::sub(grad.clone(), reduce::mean(&grad, &axes, false)?)?;
            let share = e::div(reduce::mean(&products, &axes, false)?, spread)?;
            e::mul(e::sub(rest, e::mul(centred, share)?)?, factor)?
        } else {
            e::mul(grad, factor)?
        };
        let by_x = array::cast(&by_x, dtype)?;
        let by_x = if channels_first { channels_to_front(by_x)? } else { by_x };
        let unused = Tensor::zeros(DType::F32, [0])?;
        many([by_x, by_scale, by_offset, unused.clone(), unused])
    }))
}

fn local_norm(a: &NodeAttrs<'_>) -> Result<LocalNorm> {
    let radius = a.int("depth_radius")?;
    let radius = usize::try_from(radius).map_err(|_| Error::graph(format!("the radius is {radius}")))?;
    Ok(LocalNorm { radius, bias: a.float("bias")?, alpha: a.float("alpha")?, beta: a.float("beta")? })
}

/// Batch normalisation with a summand and an activation behind it, as TensorFlow's own optimiser writes it.
fn fused_batch_norm(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let plain = batch_norm(a, 6)?;
    let activation = match a.str("activation_mode")? {
        "Identity" => Activation::Linear,
        "Relu" => Activation::Relu,
        other => return Err(Error::unsupported(format!("activation {other:?} after a batch normalisation"))),
    };
    Ok(kernel(move |context, mut inputs| {
        let sides: Vec<_> = inputs.drain(5.min(inputs.len())..).collect();
        let mut outputs = plain.run(context, inputs)?;
        let Some(y) = outputs.first_mut() else { return Err(Error::graph("a batch normalisation gives nothing")) };
        let mut sum = y.tensor()?.clone();
        for side in sides {
            sum = e::add(sum, side.into_tensor()?)?;
        }
        *y = activation.apply(sum)?.into();
        Ok(outputs)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Softmax(logits: T) -> (softmax: T); T: type", |_| unary(norm::softmax)),
    Op::new("LogSoftmax(logits: T) -> (logsoftmax: T); T: type", |_| unary(norm::log_softmax)),
    Op::new("FusedBatchNorm(x: T, scale: T, offset: T, mean: T, variance: T) -> (y: T, batch_mean: T, batch_variance: T, reserve_space_1: T, reserve_space_2: T); T: type; epsilon: float = 0.0001; exponential_avg_factor: float = 1; data_format: string = \"NHWC\"; is_training: bool = true", |a| batch_norm(a, 5)),
    Op::new("FusedBatchNormV2(x: T, scale: U, offset: U, mean: U, variance: U) -> (y: T, batch_mean: U, batch_variance: U, reserve_space_1: U, reserve_space_2: U); T: type; U: type; epsilon: float = 0.0001; exponential_avg_factor: float = 1; data_format: string = \"NHWC\"; is_training: bool = true", |a| batch_norm(a, 5)),
    Op::new("FusedBatchNormV3(x: T, scale: U, offset: U, mean: U, variance: U) -> (y: T, batch_mean: U, batch_variance: U, reserve_space_1: U, reserve_space_2: U, reserve_space_3: U); T: type; U: type; epsilon: float = 0.0001; exponential_avg_factor: float = 1; data_format: string = \"NHWC\"; is_training: bool = true", |a| batch_norm(a, 6)),
    Op::new("FusedBatchNormGrad(y_backprop: T, x: T, scale: T, reserve_space_1: T, reserve_space_2: T) -> (x_backprop: T, scale_backprop: T, offset_backprop: T, reserve_space_3: T, reserve_space_4: T); T: type; epsilon: float = 0.0001; data_format: string = \"NHWC\"; is_training: bool = true", |a| batch_norm_grad(a, 2)).ranks("_ _ 1 1 1"),
    Op::new("FusedBatchNormGradV2(y_backprop: T, x: T, scale: float32, reserve_space_1: U, reserve_space_2: U) -> (x_backprop: T, scale_backprop: U, offset_backprop: U, reserve_space_3: U, reserve_space_4: U); T: type; U: type; epsilon: float = 0.0001; data_format: string = \"NHWC\"; is_training: bool = true", |a| batch_norm_grad(a, 2)).ranks("_ _ 1 1 1"),
    Op::new("FusedBatchNormGradV3(y_backprop: T, x: T, scale: float32, reserve_space_1: U, reserve_space_2: U, reserve_space_3: U) -> (x_backprop: T, scale_backprop: U, offset_backprop: U, reserve_space_4: U, reserve_space_5: U); T: type; U: type; epsilon: float = 0.0001; data_format: string = \"NHWC\"; is_training: bool = true", |a| batch_norm_grad(a, 3)).ranks("_ _ 1 1 1"),
    Op::new("LRN(input: T) -> (output: T); depth_radius: int = 5; bias: float = 1; alpha: float = 1; beta: float = 0.5; T: type = float32", |a| {
        let how = local_norm(a)?;
        map1(move |x| local_norm::local_norm(&x, how))
    }).ranks("4"),
    Op::new("LRNGrad(input_grads: T, input_image: T, output_image: T) -> (output: T); depth_radius: int = 5; bias: float = 1; alpha: float = 1; beta: float = 0.5; T: type = float32", |a| {
        let how = local_norm(a)?;
        Ok(kernel(move |_, inputs| {
            let [grad, x, y] = tensors(inputs)?;
            one(local_norm::local_norm_grad(&grad, &x, &y, how)?)
        }))
    }).ranks("4 4 4"),
    Op::new("_FusedBatchNormEx(x: T, scale: U, offset: U, mean: U, variance: U, side_input: num_side_inputs * T) -> (y: T, batch_mean: U, batch_variance: U, reserve_space_1: U, reserve_space_2: U, reserve_space_3: U); T: type; U: type; epsilon: float = 0.0001; exponential_avg_factor: float = 1; num_side_inputs: int = 0; activation_mode: string = \"Identity\"; data_format: string = \"NHWC\"; is_training: bool = true", fused_batch_norm),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;
    use crate::engine::{Executable, Resources, Values};

    #[test]
    fn a_summand_and_an_activation_follow() {
        let row = |v: [f32; 2]| Tensor::from_slice(&v, [2]).expect("tensor");
        let mut b = Builder::new("f");
        let mut inputs = vec![b.constant(row([3.0, 1.0]).reshape([1, 1, 1, 2]).expect("image")).expect("x")];
        for moment in [[2.0, 1.0], [0.5, 0.0], [1.0, 4.0], [1.0, 1.0]] {
            inputs.push(b.constant(row(moment)).expect("moment"));
        }
        inputs.push(b.constant(row([-1.0, 1.0]).reshape([1, 1, 1, 2]).expect("image")).expect("side"));
        let call = b.op("_FusedBatchNormEx").inputs(&inputs).attr("num_side_inputs", 1i64).attr("epsilon", 0.0f32);
        let out = call.attr("is_training", false).attr("activation_mode", "Relu").all().expect("a call");
        let (f, library) = b.finish(&[("y", out[0])]).expect("function");
        let run = Executable::new(&f.graph, &library, &[], &[f.results[0].output], &[]).expect("a plan");
        let out = run.run(&Resources::new(), Values::new()).expect("runs");
        // (3 - 1) * 2 + 0.5 - 1, and (1 - 4) + 1, which is negative.
        assert_eq!(out[0].tensor().expect("tensor").as_slice::<f32>().expect("f32"), [3.5, 0.0]);
    }
}
