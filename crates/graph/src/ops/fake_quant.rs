//! Fake quantization: floats rounded to what so many bits hold between two bounds, as training for quantization does.

use super::args::{many, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// How many steps there are.
#[derive(Debug, Clone, Copy)]
struct Bits {
    lowest: f32,
    highest: f32,
}

/// Bounds moved so that zero is one of the steps, and how wide a step is (TensorFlow: `Nudge`).
#[derive(Debug, Clone, Copy)]
struct Range {
    min: f32,
    max: f32,
    step: f32,
}

impl Bits {
    fn of(a: &NodeAttrs<'_>) -> Result<Self> {
        let bits = a.int("num_bits")?;
        if !(2..=16).contains(&bits) {
            return Err(Error::graph(format!("num_bits must be from 2 to 16, not {bits}")));
        }
        let highest = ((1u32 << bits) - 1) as f32;
        Ok(Bits { lowest: if a.bool("narrow_range")? { 1.0 } else { 0.0 }, highest })
    }

    /// `None` for bounds that are both zero: everything is zero then.
    fn range(self, min: f32, max: f32) -> Option<Range> {
        if min == 0.0 && max == 0.0 {
            return None;
        }
        let step = (max - min) / (self.highest - self.lowest);
        let zero = self.lowest - min / step;
        let zero = if zero < self.lowest {
            self.lowest
        } else if zero > self.highest {
            self.highest
        } else {
            zero.round()
        };
        Some(Range { min: (self.lowest - zero) * step, max: (self.highest - zero) * step, step })
    }
}

impl Range {
    fn round(self, x: f32) -> f32 {
        let inverse = 1.0 / self.step;
        let zero = (-self.min * inverse + 0.5).floor();
        // What isn't a number stays so.
        let clamped = if self.max < x { self.max } else { x };
        let clamped = if clamped < self.min { self.min } else { clamped };
        ((clamped - self.min) * inverse - zero + 0.5).floor() * self.step
    }
}

/// Bounds for all elements, or for each of the last axis.
fn ranges(bits: Bits, x: &Tensor, min: &Tensor, max: &Tensor, per_channel: bool) -> Result<Vec<Option<Range>>> {
    let wanted: &[usize] = match (per_channel, x.shape().last()) {
        (false, _) => &[],
        (true, Some(channels)) => &[*channels],
        (true, None) => return Err(Error::compute("a scalar has no channels")),
    };
    if min.shape() != wanted || max.shape() != wanted {
        return Err(Error::compute(format!(
            "the bounds are of shape {:?} and {:?}, not {wanted:?}",
            min.shape(),
            max.shape()
        )));
    }
    let (min, max) = (min.elements::<f32>()?, max.elements::<f32>()?);
    Ok(min.iter().zip(max.iter()).map(|(&min, &max)| bits.range(min, max)).collect())
}

fn quantize(bits: Bits, x: &Tensor, min: &Tensor, max: &Tensor, per_channel: bool) -> Result<Tensor> {
    let ranges = ranges(bits, x, min, max, per_channel)?;
    let round = |(&x, range): (&f32, &Option<Range>)| range.map_or(0.0, |r| r.round(x));
    let out = x.elements::<f32>()?.iter().zip(ranges.iter().cycle()).map(round).collect();
    Ok(Tensor::from_vec::<f32>(out, x.shape())?)
}

/// The gradient of the inputs, and those of the bounds, to which all belongs that lies beyond.
fn gradients(
    bits: Bits,
    [g, x, min, max]: [&Tensor; 4],
    per_channel: bool,
) -> Result<[Tensor; 3]> {
    if g.shape() != x.shape() {
        return Err(Error::compute(format!(
            "the gradients are of shape {:?}, the inputs of {:?}",
            g.shape(),
            x.shape()
        )));
    }
    let ranges = ranges(bits, x, min, max, per_channel)?;
    let mut within = Vec::with_capacity(x.len());
    let (mut below, mut above) = (vec![0f32; ranges.len()], vec![0f32; ranges.len()]);
    for (i, (&g, &x)) in g.elements::<f32>()?.iter().zip(x.elements::<f32>()?.iter()).enumerate() {
        let channel = i % ranges.len();
        let Some(range) = ranges[channel] else {
            within.push(g);
            continue;
        };
        // A product each, so that what isn't a number shows wherever it is.
        let times = |holds: bool| g * f32::from(u8::from(holds));
        below[channel] += times(x < range.min);
        above[channel] += times(x > range.max);
        within.push(times(x >= range.min && x <= range.max));
    }
    Ok([
        Tensor::from_vec(within, x.shape())?,
        Tensor::from_vec(below, min.shape())?,
        Tensor::from_vec(above, max.shape())?,
    ])
}

/// The bounds of an op that has them as attributes.
fn bounds(a: &NodeAttrs<'_>) -> Result<(Tensor, Tensor)> {
    let (min, max) = (a.float("min")?, a.float("max")?);
    if min >= max {
        return Err(Error::graph(format!("min must be under max, but they are {min} and {max}")));
    }
    Ok((Tensor::scalar(min), Tensor::scalar(max)))
}

fn by_args(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (bits, (min, max)) = (Bits::of(a)?, bounds(a)?);
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        one(quantize(bits, &x, &min, &max, false)?)
    }))
}

fn by_args_gradient(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (bits, (min, max)) = (Bits::of(a)?, bounds(a)?);
    Ok(kernel(move |_, inputs| {
        let [g, x] = tensors(inputs)?;
        let [within, ..] = gradients(bits, [&g, &x, &min, &max], false)?;
        one(within)
    }))
}

fn by_vars(a: &NodeAttrs<'_>, per_channel: bool) -> Result<Box<dyn Kernel>> {
    let bits = Bits::of(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, min, max] = tensors(inputs)?;
        one(quantize(bits, &x, &min, &max, per_channel)?)
    }))
}

fn by_vars_gradient(a: &NodeAttrs<'_>, per_channel: bool) -> Result<Box<dyn Kernel>> {
    let bits = Bits::of(a)?;
    Ok(kernel(move |_, inputs| {
        let [g, x, min, max] = tensors(inputs)?;
        many(gradients(bits, [&g, &x, &min, &max], per_channel)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("FakeQuantWithMinMaxArgs(inputs: float32) -> (outputs: float32); min: float = -6; max: float = 6; num_bits: int = 8; narrow_range: bool = false", by_args),
    Op::new("FakeQuantWithMinMaxArgsGradient(gradients: float32, inputs: float32) -> (backprops: float32); min: float = -6; max: float = 6; num_bits: int = 8; narrow_range: bool = false", by_args_gradient),
    Op::new("FakeQuantWithMinMaxVars(inputs: float32, min: float32, max: float32) -> (outputs: float32); num_bits: int = 8; narrow_range: bool = false", |a| by_vars(a, false)),
    Op::new("FakeQuantWithMinMaxVarsGradient(gradients: float32, inputs: float32, min: float32, max: float32) -> (backprops_wrt_input: float32, backprop_wrt_min: float32, backprop_wrt_max: float32); num_bits: int = 8; narrow_range: bool = false", |a| by_vars_gradient(a, false)),
    Op::new("FakeQuantWithMinMaxVarsPerChannel(inputs: float32, min: float32, max: float32) -> (outputs: float32); num_bits: int = 8; narrow_range: bool = false", |a| by_vars(a, true)),
    Op::new("FakeQuantWithMinMaxVarsPerChannelGradient(gradients: float32, inputs: float32, min: float32, max: float32) -> (backprops_wrt_input: float32, backprop_wrt_min: float32, backprop_wrt_max: float32); num_bits: int = 8; narrow_range: bool = false", |a| by_vars_gradient(a, true)),
];
