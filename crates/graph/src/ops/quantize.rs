//! Quantization: rounding floats to what few bits hold, and floats of quantized integers.

use super::args::{axis, int, many, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::{array, elementwise as e};
use crate::tensor::{DType, Shape, Tensor};
use crate::{Error, Result};

/// How floats are rounded to integers and back.
#[derive(Debug, Clone, Copy)]
struct Steps {
    signed: bool,
    bits: i64,
    narrow: bool,
    half_up: bool,
}

impl Steps {
    fn bounds(self) -> Result<(f64, f64)> {
        if !(1..=63).contains(&self.bits) || (self.signed && self.narrow && self.bits < 2) {
            return Err(Error::compute(format!("{} bits to quantize to", self.bits)));
        }
        Ok(if self.signed {
            let half = (1i64 << (self.bits - 1)) as f64;
            (-half + f64::from(u8::from(self.narrow)), half - 1.0)
        } else {
            (0.0, (1u64 << self.bits) as f64 - 1.0)
        })
    }

    /// Rounds values to steps between the bounds of their range, one step being as wide as the wider side needs.
    fn round(self, values: impl Iterator<Item = f64>, range: (f64, f64), clamps: bool) -> Result<Vec<f64>> {
        let (low, high) = self.bounds()?;
        let (mut min, mut max) = range;
        let side = |bound: f64, end: f64| if bound * end > 0.0 { bound / end } else { f64::from(f32::MAX) };
        let (scale, inverse) = if side(low, min) < side(high, max) {
            max = high * (min / low);
            (side(low, min), min / low)
        } else {
            min = low * (max / high);
            (side(high, max), max / high)
        };
        let round = |v: f64| if self.half_up { (v + 0.5).floor() } else { v.round_ties_even() };
        let fit = |v: f64| if clamps { v.max(min).min(max) } else { v };
        Ok(values.map(|v| round(fit(v) * scale) * inverse).collect())
    }
}

/// A tensor with one axis in front, and how to put it back.
fn to_front(x: &Tensor, at: usize) -> Result<(Tensor, Shape)> {
    let mut order: Shape = (0..x.rank()).collect();
    order[..=at].rotate_right(1);
    let mut back: Shape = (0..x.rank()).collect();
    back[..=at].rotate_left(1);
    Ok((array::transpose(x, &order)?, back))
}

fn numbers(t: &Tensor) -> Result<Vec<f64>> {
    Ok(array::cast(t, DType::F64)?.elements::<f64>()?.into_owned())
}

/// Quantizes and gives floats again, with one range or one for each part along `at`.
fn quantize(x: &Tensor, low: &Tensor, high: &Tensor, at: i64, given: bool, steps: Steps) -> Result<Tensor> {
    let dtype = x.dtype();
    steps.bounds()?;
    let (parts, back) = if at == -1 { (x.clone(), None) } else { to_front(x, axis(at, x.rank())?).map(|(x, b)| (x, Some(b)))? };
    let count = if back.is_some() { parts.shape().first().copied().unwrap_or(1) } else { 1 };
    let (lows, highs) = (numbers(low)?, numbers(high)?);
    if given && (lows.len() != count || highs.len() != count) {
        return Err(Error::compute(format!("{} and {} bounds for {count} ranges", lows.len(), highs.len())));
    }
    let values = numbers(&parts)?;
    let mut out = Vec::with_capacity(values.len());
    let len = (values.len() / count.max(1)).max(1);
    for (i, part) in values.chunks(len).enumerate() {
        let range = if given {
            let range = (lows[i], highs[i]);
            if range.0 > range.1 {
                return Err(Error::compute(format!("the range {range:?} is empty")));
            }
            range
        } else {
            (part.iter().copied().fold(f64::INFINITY, f64::min), part.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        };
        out.extend(steps.round(part.iter().copied(), range, given)?);
    }
    let out = array::cast(&Tensor::from_vec(out, parts.shape())?, dtype)?;
    Ok(match back {
        Some(back) => array::transpose(&out, &back)?,
        None => out,
    })
}

fn quantize_and_dequantize(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (signed, given) = (a.bool("signed_input")?, a.bool("range_given")?);
    let (narrow, at) = (a.bool("narrow_range")?, a.int("axis")?);
    let bits = a.get("num_bits").and_then(|b| b.as_int());
    let half_up = a.get("round_mode").and_then(|m| m.as_str()) == Some("HALF_UP");
    Ok(kernel(move |_, inputs| {
        let inputs = super::args::all_tensors(inputs)?;
        let (x, low, high, bits) = match (&inputs[..], bits) {
            ([x, low, high], Some(bits)) => (x, low, high, bits),
            ([x, low, high, bits], _) => (x, low, high, int(bits, "num_bits")?),
            _ => return Err(Error::graph("takes a tensor and its bounds")),
        };
        one(quantize(x, low, high, at, given, Steps { signed, bits, narrow, half_up })?)
    }))
}

/// The first version, whose bounds are attributes.
fn with_fixed_bounds(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (signed, given, bits) = (a.bool("signed_input")?, a.bool("range_given")?, a.int("num_bits")?);
    let (low, high) = (Tensor::scalar(a.float("input_min")?), Tensor::scalar(a.float("input_max")?));
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        one(quantize(&x, &low, &high, -1, given, Steps { signed, bits, narrow: false, half_up: false })?)
    }))
}

/// What lies within the bounds passes; nothing reaches the bounds themselves.
fn quantize_grad(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let at = a.int("axis")?;
    let parts = usize::from(at != -1);
    Ok(kernel(move |_, inputs| {
        let [grad, x, low, high] = tensors(inputs)?;
        if grad.shape() != x.shape() || low.rank() != parts || high.rank() != parts {
            let shapes = [&grad, &x, &low, &high].map(|t| t.shape());
            return Err(Error::compute(format!("a gradient, an input and its bounds don't go together: {shapes:?}")));
        }
        let zeros = |t: &Tensor| Tensor::zeros(t.dtype(), t.shape());
        // Bounds for each part along an axis stand there.
        let spread = |t: &Tensor| -> Result<Tensor> {
            if at == -1 {
                return Ok(t.clone());
            }
            let mut shape: Shape = x.shape().iter().map(|_| 1).collect();
            shape[axis(at, x.rank())?] = t.len();
            Ok(t.clone().reshape(shape)?)
        };
        let beyond = e::logical_or(e::less(&x, &spread(&low)?)?, e::greater(&x, &spread(&high)?)?)?;
        many([array::select(&beyond, &zeros(&grad)?, &grad)?, zeros(&low)?, zeros(&high)?])
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("QuantizeAndDequantize(input: T) -> (output: T); signed_input: bool = true; num_bits: int = 8; range_given: bool = false; input_min: float = 0; input_max: float = 0; T: type", with_fixed_bounds),
    Op::new("QuantizeAndDequantizeV2(input: T, input_min: T, input_max: T) -> (output: T); signed_input: bool = true; num_bits: int = 8; range_given: bool = false; T: type; round_mode: string = \"HALF_TO_EVEN\"; narrow_range: bool = false; axis: int = -1", quantize_and_dequantize),
    Op::new("QuantizeAndDequantizeV3(input: T, input_min: T, input_max: T, num_bits: int32) -> (output: T); signed_input: bool = true; range_given: bool = true; T: type; narrow_range: bool = false; axis: int = -1", quantize_and_dequantize),
    Op::new("QuantizeAndDequantizeV4(input: T, input_min: T, input_max: T) -> (output: T); signed_input: bool = true; num_bits: int = 8; range_given: bool = false; T: type; round_mode: string = \"HALF_TO_EVEN\"; narrow_range: bool = false; axis: int = -1", quantize_and_dequantize),
    Op::new("QuantizeAndDequantizeV4Grad(gradients: T, input: T, input_min: T, input_max: T) -> (input_backprop: T, input_min_backprop: T, input_max_backprop: T); T: type; axis: int = -1", quantize_grad),
];
