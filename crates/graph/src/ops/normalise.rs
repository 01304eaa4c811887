//! Softmax and batch normalisation.

use super::args::{many, tensors, unary};
use super::windows::{channels_to_back, channels_to_front};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::Tensor;
use crate::tensor::kernels::{elementwise as e, norm, reduce};
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
    let x = crate::tensor::kernels::array::cast(x, crate::tensor::DType::F32)?;
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

pub(super) const OPS: &[Op] = &[
    Op::new("Softmax(logits: T) -> (softmax: T); T: type", |_| unary(norm::softmax)),
    Op::new("LogSoftmax(logits: T) -> (logsoftmax: T); T: type", |_| unary(norm::log_softmax)),
    Op::new("FusedBatchNorm(x: T, scale: T, offset: T, mean: T, variance: T) -> (y: T, batch_mean: T, batch_variance: T, reserve_space_1: T, reserve_space_2: T); T: type; epsilon: float = 0.0001; exponential_avg_factor: float = 1; data_format: string = \"NHWC\"; is_training: bool = true", |a| batch_norm(a, 5)),
    Op::new("FusedBatchNormV2(x: T, scale: U, offset: U, mean: U, variance: U) -> (y: T, batch_mean: U, batch_variance: U, reserve_space_1: U, reserve_space_2: U); T: type; U: type; epsilon: float = 0.0001; exponential_avg_factor: float = 1; data_format: string = \"NHWC\"; is_training: bool = true", |a| batch_norm(a, 5)),
    Op::new("FusedBatchNormV3(x: T, scale: U, offset: U, mean: U, variance: U) -> (y: T, batch_mean: U, batch_variance: U, reserve_space_1: U, reserve_space_2: U, reserve_space_3: U); T: type; U: type; epsilon: float = 0.0001; exponential_avg_factor: float = 1; data_format: string = \"NHWC\"; is_training: bool = true", |a| batch_norm(a, 6)),
];
