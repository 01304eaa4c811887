//! Quantized integers: made of floats, made floats again, and computed with between two ranges.
//!
//! A quantized tensor goes with the least and the greatest float that its integers stand for.

use super::args::{all_tensors, axis, int, many, tensors};
use super::windows::Window;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::matmul::{Form, matmul};
use crate::tensor::kernels::{array, broadcast_shape, conv, pool};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// The integers that a quantized dtype has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) dtype: DType,
    pub(super) low: i64,
    pub(super) high: i64,
}

impl Kind {
    pub(super) fn of(dtype: DType) -> Result<Kind> {
        let (low, high) = match dtype {
            DType::QI8 => (i8::MIN.into(), i8::MAX.into()),
            DType::QU8 => (0, u8::MAX.into()),
            DType::QI16 => (i16::MIN.into(), i16::MAX.into()),
            DType::QU16 => (0, u16::MAX.into()),
            DType::QI32 => (i32::MIN.into(), i32::MAX.into()),
            other => return Err(Error::compute(format!("{other} isn't a quantized dtype"))),
        };
        Ok(Kind { dtype, low, high })
    }

    /// The plain dtype of the same bits.
    pub(super) fn plain(self) -> DType {
        match self.dtype {
            DType::QI8 => DType::I8,
            DType::QU8 => DType::U8,
            DType::QI16 => DType::I16,
            DType::QU16 => DType::U16,
            _ => DType::I32,
        }
    }

    fn signed(self) -> bool {
        self.low < 0
    }

    /// How many steps the integers make.
    fn steps(self) -> f64 {
        (self.high - self.low + 1) as f64
    }

    pub(super) fn tensor(self, values: Vec<i64>, shape: &[usize]) -> Result<Tensor> {
        let wide = Tensor::from_vec(values, shape)?;
        Ok(array::cast(&wide, self.plain())?.bitcast_same_width(self.dtype)?)
    }

    /// The integer that a float in a range is nearest to, however far beyond the ends (`FloatToQuantizedUnclamped`).
    fn unclamped(self, v: f32, (min, max): (f32, f32)) -> i64 {
        if min == max {
            return self.low;
        }
        let range = f64::from(max - min) * (self.steps() / (self.steps() - 1.0));
        let scale = self.steps() / range;
        let steps = (f64::from(v) * scale).round() - (f64::from(min) * scale).round();
        (steps as i64).saturating_add(self.low)
    }

    /// The integer that a float in a range is nearest to (`FloatToQuantized`).
    fn quantized(self, v: f32, range: (f32, f32)) -> i64 {
        self.unclamped(v, range).clamp(self.low, self.high)
    }

    /// The float that an integer stands for (`QuantizedToFloat`).
    fn float(self, v: i64, (min, max): (f32, f32)) -> f32 {
        if min == max {
            return min;
        }
        let range = f64::from(max - min) * (self.steps() / (self.steps() - 1.0));
        let scale = range / self.steps();
        let narrow = f64::from(scale as f32);
        ((f64::from(min) / narrow).round() * narrow + (v - self.low) as f64 * scale) as f32
    }

    /// As [`Kind::float`], for many (`QuantizedToFloatStruct`).
    fn floats(self, (min, max): (f32, f32)) -> impl Fn(i64) -> f32 {
        let scale = (f64::from(max - min) / (self.steps() - 1.0)) as f32;
        let least = if min == max { min } else { (min / scale).round() * scale };
        let low = self.low as f32;
        move |v| (v as f32 - low) * scale + least
    }

    /// As [`Kind::quantized`], for many (`FloatToQuantizedStruct`).
    fn quantizer(self, (min, max): (f32, f32)) -> impl Fn(f32) -> i64 {
        let scale = if min == max { 0.0 } else { ((self.steps() - 1.0) / f64::from(max - min)) as f32 };
        let offset = (min * scale).round() - self.low as f32;
        // No float lies between the greatest that fits 32 bits and 2^31.
        let (low, high) = (self.low as f32, (self.high as f32).min(2_147_483_520.0));
        move |v| ((v * scale).round() - offset).max(low).min(high) as i64
    }

    /// The width of one step of a range.
    fn step(self, (min, max): (f32, f32)) -> f32 {
        (max - min) / (self.high - self.low) as f32
    }
}

/// A quantized tensor's integers and what they stand for.
pub(super) struct Quantized {
    pub(super) kind: Kind,
    pub(super) values: Vec<i64>,
    pub(super) shape: Vec<usize>,
    pub(super) range: (f32, f32),
}

fn scalar(t: &Tensor, what: &str) -> Result<f32> {
    match t.elements::<f32>()?[..] {
        [v] => Ok(v),
        _ => Err(Error::compute(format!("{what} must be one number, got shape {:?}", t.shape()))),
    }
}

fn range(min: &Tensor, max: &Tensor) -> Result<(f32, f32)> {
    Ok((scalar(min, "the least of a range")?, scalar(max, "the greatest of a range")?))
}

pub(super) fn integers(t: &Tensor) -> Result<(Kind, Vec<i64>)> {
    let kind = Kind::of(t.dtype())?;
    Ok((kind, t.clone().bitcast_same_width(kind.plain())?.to_i64_vec()?))
}

impl Quantized {
    pub(super) fn new(t: &Tensor, min: &Tensor, max: &Tensor) -> Result<Self> {
        let (kind, values) = integers(t)?;
        Ok(Quantized { kind, values, shape: t.shape().to_vec(), range: range(min, max)? })
    }

    /// The integer that stands for 0.
    fn zero(&self) -> i64 {
        self.kind.unclamped(0.0, self.range)
    }

    /// How far the integers lie from the one that stands for 0, as doubles, with which sums stay exact.
    fn off_zero(&self) -> Result<Tensor> {
        let zero = self.zero();
        let values = self.values.iter().map(|v| (v - zero) as f64).collect();
        Ok(Tensor::from_vec(values, &self.shape)?)
    }

    /// The tensor, the least and the greatest float.
    pub(super) fn outputs(self) -> Result<Values> {
        let t = self.kind.tensor(self.values, &self.shape)?;
        many([t, Tensor::scalar(self.range.0), Tensor::scalar(self.range.1)])
    }
}

/// Sums of products as integers of 32 bits, with the range that products of two ranges have.
fn product(sums: &Tensor, a: &Quantized, b: &Quantized, to: DType) -> Result<Values> {
    let kind = Kind::of(to)?;
    let step = a.kind.step(a.range) * b.kind.step(b.range);
    let values = sums.elements::<f64>()?.iter().map(|v| i64::from(*v as i64 as i32)).collect();
    let range = (step * kind.low as f32, step * kind.high as f32);
    Quantized { kind, values, shape: sums.shape().to_vec(), range }.outputs()
}

/// Two quantized tensors, each followed or not by others, then their ranges.
fn two(inputs: Values) -> Result<(Quantized, Quantized)> {
    let [a, b, min_a, max_a, min_b, max_b] = tensors(inputs)?;
    Ok((Quantized::new(&a, &min_a, &max_a)?, Quantized::new(&b, &min_b, &max_b)?))
}

/// Ops of one element with another take no empty ranges.
fn rising(q: &Quantized) -> Result<()> {
    let (least, greatest) = q.range;
    if least < greatest {
        return Ok(());
    }
    Err(Error::compute(format!("the range from {least} to {greatest} is empty")))
}

/// A kernel of two quantized tensors that sums products of how far their integers lie from 0.
fn products(
    a: &NodeAttrs<'_>,
    to: &str,
    f: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Box<dyn Kernel>> {
    let (to, one_by_one) = (a.dtype(to)?, a.signature.name == "QuantizedMul");
    Ok(kernel(move |_, inputs| {
        let (a, b) = two(inputs)?;
        if one_by_one {
            [&a, &b].into_iter().try_for_each(rising)?;
        }
        product(&f(&a.off_zero()?, &b.off_zero()?)?, &a, &b, to)
    }))
}

fn quantized_matmul(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let forms = (Form::transposed(a.bool("transpose_a")?), Form::transposed(a.bool("transpose_b")?));
    products(a, "Toutput", move |x, y| {
        if x.rank() != 2 || y.rank() != 2 {
            return Err(Error::compute(format!("takes matrices, not {:?} and {:?}", x.shape(), y.shape())));
        }
        Ok(matmul(x, forms.0, y, forms.1)?)
    })
}

fn quantized_conv(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let window = Window::read(a)?;
    if a.dtype("Tfilter")? != DType::QU8 {
        return Err(Error::unsupported("QuantizedConv2D with a filter that isn't quint8"));
    }
    products(a, "out_type", move |x, filter| Ok(conv::conv(x, filter, &window.slide, None)?))
}

fn quantized_mul(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    products(a, "Toutput", |x, y| Ok(crate::tensor::kernels::elementwise::mul(x.clone(), y.clone())?))
}

/// Sums in a range that has room for many of them.
fn sums(a: &NodeAttrs<'_>, to: &str, bias: bool) -> Result<Box<dyn Kernel>> {
    let kind = Kind::of(a.dtype(to)?)?;
    Ok(kernel(move |_, inputs| {
        let (a, b) = two(inputs)?;
        let fits = !bias || b.shape.len() == 1 && b.shape.last() == a.shape.last();
        if !fits {
            return Err(Error::compute(format!("a bias of shape {:?} doesn't go with {:?}", b.shape, a.shape)));
        }
        if !bias {
            [&a, &b].into_iter().try_for_each(rising)?;
        }
        let ends = [a.range.0, a.range.1, b.range.0, b.range.1];
        // Room for so many sums.
        let room = if bias { 1 << 17 } else { 1 << 14 };
        let most = a.range.1.max(-a.range.0).max(b.range.1).max(-b.range.0) * room as f32;
        if ends.iter().any(|v| !v.is_finite()) {
            return Err(Error::compute("a range isn't finite"));
        }
        let range = (-most, most);
        let shape = broadcast_shape(&a.shape, &b.shape)?;
        let moved = |q: &Quantized, alone: bool| -> Result<Tensor> {
            // A single number that all others are added to is moved for itself.
            let values: Vec<i64> = if alone {
                q.values.iter().map(|v| kind.quantized(q.kind.float(*v, q.range), range)).collect()
            } else if bias {
                let (float, quantize) = (q.kind.floats(q.range), kind.quantizer(range));
                q.values.iter().map(|v| quantize(float(*v))).collect()
            } else {
                // One step is as wide as the first.
                let at = |v: i64| kind.quantized(q.kind.float(v, q.range), range);
                let (first, step) = (at(0), at(1) - at(0));
                q.values.iter().map(|v| first + v * step).collect()
            };
            Ok(array::broadcast_to(&Tensor::from_vec(values, &q.shape)?, &shape)?)
        };
        let alone = a.values.len() == 1;
        let (x, y) = (moved(&a, alone)?, moved(&b, !alone && b.values.len() == 1)?);
        let zero = if bias { kind.quantized(0.0, range) } else { 0 };
        let (x, y) = (x.elements::<i64>()?, y.elements::<i64>()?);
        let values = x.iter().zip(y.iter()).map(|(x, y)| i64::from((x + y + zero) as i32)).collect();
        Quantized { kind, values, shape: shape.to_vec(), range }.outputs()
    }))
}

/// Integers under the one that stands for 0 become it, likewise above the one for `most`.
fn relu(most: Option<f32>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [x, min, max] = tensors(inputs)?;
        let mut x = Quantized::new(&x, &min, &max)?;
        let low = x.kind.quantized(0.0, x.range);
        let high = most.map_or(x.kind.high, |most| x.kind.quantized(most, x.range));
        x.values.iter_mut().for_each(|v| *v = (*v).max(low).min(high));
        x.outputs()
    }))
}

/// Pools integers; the range stays.
fn pooled(a: &NodeAttrs<'_>, average: bool) -> Result<Box<dyn Kernel>> {
    let window = Window::read(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, min, max] = tensors(inputs)?;
        let x = Quantized::new(&x, &min, &max)?;
        let wide = Tensor::from_vec(x.values.iter().map(|v| *v as f64).collect(), &x.shape)?;
        let out = match average {
            true => pool::avg_pool(&wide, &window.size, &window.slide)?,
            false => pool::max_pool(&wide, &window.size, &window.slide)?,
        };
        // A mean that is whole may come out a hair below.
        let values = out.elements::<f64>()?.iter().map(|v| (v + v.signum() * 1e-9) as i64).collect();
        Quantized { values, shape: out.shape().to_vec(), ..x }.outputs()
    }))
}

/// The common range of tensors that are joined, as their dtype wants it.
fn common(kind: Kind, ranges: &[(f32, f32)]) -> (f32, f32) {
    let min = ranges.iter().fold(0.0f32, |m, r| m.min(r.0));
    let max = ranges.iter().fold(f32::MIN, |m, r| m.max(r.1));
    if kind.signed() {
        let most = min.abs().max(max.abs());
        return (-most, most);
    }
    (min, max)
}

fn concat(a: &NodeAttrs<'_>, axis_first: bool) -> Result<Box<dyn Kernel>> {
    let count = usize::try_from(a.int("N")?).unwrap_or_default();
    Ok(kernel(move |_, inputs| {
        let mut inputs = all_tensors(inputs)?;
        if inputs.len() != count.saturating_mul(3) + 1 || count == 0 {
            return Err(Error::graph(format!("takes {count} tensors, an axis and their ranges")));
        }
        let at = inputs.remove(if axis_first { 0 } else { count });
        let ranges: Vec<(f32, f32)> =
            (0..count).map(|i| range(&inputs[count + i], &inputs[2 * count + i])).collect::<Result<_>>()?;
        let rank = inputs[0].rank();
        if rank == 0 {
            return Err(Error::compute("scalars can't be concatenated"));
        }
        let at = axis(int(&at, "the axis")?, rank)?;
        let kind = Kind::of(inputs[0].dtype())?;
        let all = common(kind, &ranges);
        let mut parts = Vec::with_capacity(count);
        for (t, range) in inputs.iter().zip(&ranges) {
            let (_, mut values) = integers(t)?;
            if *range != all {
                let (float, quantize) = (kind.floats(*range), kind.quantizer(all));
                values.iter_mut().for_each(|v| *v = quantize(float(*v)));
            }
            parts.push(Tensor::from_vec(values, t.shape())?);
        }
        let joined = array::concat(&parts.iter().collect::<Vec<_>>(), at)?;
        let values = joined.elements::<i64>()?.into_owned();
        Quantized { kind, values, shape: joined.shape().to_vec(), range: all }.outputs()
    }))
}

fn reshape() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, shape, min, max] = tensors(inputs)?;
        range(&min, &max)?;
        let shape = super::shapes::new_shape(&shape, x.shape())?;
        many([x.reshape(shape)?, min, max])
    }))
}

/// The floats that a tensor's integers really span, 0 among them.
fn used(q: &Quantized) -> (f32, f32) {
    let (least, most) = (q.values.iter().min(), q.values.iter().max());
    // Of nothing, the least is the greatest that there is, and the other way round.
    let least = q.kind.float(least.copied().unwrap_or(q.kind.high), q.range).min(0.0);
    (least, q.kind.float(most.copied().unwrap_or(q.kind.low), q.range))
}

/// Integers of 32 bits as narrower ones in another range, by fixed-point numbers where these are unsigned bytes.
fn requantized(q: &Quantized, kind: Kind, to: (f32, f32)) -> Result<Quantized> {
    let values: Vec<i64> = match kind.dtype {
        DType::QU8 => {
            const SHIFT: f64 = 65536.0;
            let (from, wide) = (q.range.1 - q.range.0, to.1 - to.0);
            let scaled = |v: f64| if wide == 0.0 { 0 } else { v as i64 };
            let recip = if wide == 0.0 { 0.0 } else { (255.0 / f64::from(wide)) as f32 };
            let middle = ((f64::from(q.range.0) + f64::from(q.range.1)) / 2.0) as f32;
            let scale = scaled(255.0 * SHIFT * f64::from(from) / f64::from(wide));
            let offset = (middle * recip * SHIFT as f32) as i64;
            let origin = scaled((f64::from(to.0 * SHIFT as f32) * 255.0) / f64::from(wide));
            let one = |v: &i64| {
                let fixed = ((i128::from(*v) * i128::from(scale)) >> 32) as i64;
                (fixed.saturating_add(offset).saturating_sub(origin).saturating_add(1 << 15) >> 16).clamp(0, 255)
            };
            q.values.iter().map(one).collect()
        }
        _ => {
            let (float, quantize) = (q.kind.floats(q.range), kind.quantizer(to));
            q.values.iter().map(|v| quantize(float(*v))).collect()
        }
    };
    Ok(Quantized { kind, values, shape: q.shape.clone(), range: to })
}

fn shrink(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let kind = Kind::of(a.dtype("out_type")?)?;
    Ok(kernel(move |_, inputs| {
        let [x, min, max] = tensors(inputs)?;
        let q = Quantized::new(&x, &min, &max)?;
        requantized(&q, kind, used(&q))?.outputs()
    }))
}

fn requantization_range() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, min, max] = tensors(inputs)?;
        let (min, max) = used(&Quantized::new(&x, &min, &max)?);
        many([Tensor::scalar(min), Tensor::scalar(max)])
    }))
}

fn requantize(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let kind = Kind::of(a.dtype("out_type")?)?;
    Ok(kernel(move |_, inputs| {
        let [x, min, max, least, greatest] = tensors(inputs)?;
        let q = Quantized::new(&x, &min, &max)?;
        let to = range(&least, &greatest)?;
        if !(to.0 <= 0.0 && to.1 >= to.0) {
            return Err(Error::compute(format!("the range {to:?} must hold 0 and not be empty")));
        }
        requantized(&q, kind, to)?.outputs()
    }))
}

/// How floats are quantized and made again.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Combined,
    First,
    Scaled,
}

impl Mode {
    fn read(a: &NodeAttrs<'_>) -> Result<Mode> {
        match a.str("mode")? {
            "MIN_COMBINED" => Ok(Mode::Combined),
            "MIN_FIRST" => Ok(Mode::First),
            "SCALED" => Ok(Mode::Scaled),
            other => Err(Error::graph(format!("there is no mode {other:?}"))),
        }
    }
}

/// Calls `f` on each part of a tensor that has a range of its own: all of it, or each slice along an axis.
fn by_range<T: Copy, U>(
    shape: &[usize],
    at: i64,
    values: &[T],
    count: usize,
    mut f: impl FnMut(usize, T) -> U,
) -> Result<Vec<U>> {
    let inner = if at == -1 { 1 } else { shape.iter().skip(axis(at, shape.len())? + 1).product() };
    let wanted = if at == -1 { 1 } else { shape.get(axis(at, shape.len())?).copied().unwrap_or(1) };
    if count != wanted {
        return Err(Error::compute(format!("{count} ranges for {wanted} parts")));
    }
    let inner = inner.max(1);
    Ok(values.iter().enumerate().map(|(i, v)| f(if at == -1 { 0 } else { i / inner % wanted }, *v)).collect())
}

fn quantize_v2(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (kind, mode, at) = (Kind::of(a.dtype("T")?)?, Mode::read(a)?, a.int("axis")?);
    let (even, narrow) = (a.str("round_mode")? == "HALF_TO_EVEN", a.bool("narrow_range")?);
    let nudge = a.float("ensure_minimum_range")?;
    if even && mode != Mode::Scaled {
        return Err(Error::graph("round mode HALF_TO_EVEN goes with mode SCALED"));
    }
    Ok(kernel(move |_, inputs| {
        let [x, min, max] = tensors(inputs)?;
        // One range, or one for each part along the axis.
        let parts = usize::try_from(at).ok().and_then(|at| x.shape().get(at));
        if at >= 0 && (min.rank() != 1 || max.rank() != 1 || Some(&min.len()) != parts) {
            return Err(Error::compute(format!("ranges of shape {:?} along axis {at} of {:?}", min.shape(), x.shape())));
        }
        let (mins, maxs) = (min.elements::<f32>()?, max.elements::<f32>()?);
        let mut ranges = Vec::with_capacity(mins.len());
        for (&min, &max) in mins.iter().zip(maxs.iter()) {
            if min > max || min.is_nan() || max.is_nan() {
                return Err(Error::compute(format!("the range from {min} to {max} is empty")));
            }
            let least = min.min(0.0);
            let epsilon = min.abs().max(max.abs()).max(1.0) * nudge;
            let most = max.max(least + epsilon).max(0.0);
            ranges.push(match mode {
                Mode::Scaled => {
                    let (low, high) = ((kind.low + i64::from(narrow)) as f32, kind.high as f32);
                    let side = |end: f32, bound: f32| if end * bound > 0.0 { end / bound } else { f32::MAX };
                    let scale = side(low, least).min(side(high, most));
                    (low / scale, high / scale, scale)
                }
                _ => (least, most, (kind.steps() - 1.0) as f32 / (most - least)),
            });
        }
        if maxs.len() != mins.len() {
            return Err(Error::compute("ranges have as many least as greatest numbers"));
        }
        let half = if kind.signed() { (kind.steps() / 2.0) as f32 } else { 0.0 };
        let first: Vec<_> = ranges.iter().map(|r| kind.quantizer((r.0, r.1))).collect();
        let values = by_range(x.shape(), at, &x.elements::<f32>()?, ranges.len(), |i, v| {
            let (least, most, scale) = ranges[i];
            let inside = v.min(most).max(least);
            let q = match mode {
                Mode::First => return first[i](v),
                Mode::Combined if kind.signed() => ((inside - least) * scale - half).round(),
                Mode::Combined => (inside - least) * scale + 0.5,
                Mode::Scaled if even => (inside * scale).round_ties_even(),
                Mode::Scaled => (inside * scale).round(),
            };
            (q as i64).clamp(kind.low, kind.high)
        })?;
        let ends = |f: fn(&(f32, f32, f32)) -> f32| Tensor::from_vec(ranges.iter().map(f).collect(), min.shape());
        many([kind.tensor(values, x.shape())?, ends(|r| r.0)?, ends(|r| r.1)?])
    }))
}

fn dequantize(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (mode, at, dtype) = (Mode::read(a)?, a.int("axis")?, a.dtype("dtype")?);
    let narrow = a.bool("narrow_range")?;
    Ok(kernel(move |_, inputs| {
        let [x, min, max] = tensors(inputs)?;
        let (kind, values) = integers(&x)?;
        let (mins, maxs) = (min.elements::<f32>()?, max.elements::<f32>()?);
        if mins.len() != maxs.len() {
            return Err(Error::compute("ranges have as many least as greatest numbers"));
        }
        let ranges: Vec<(f32, f32)> = mins.iter().copied().zip(maxs.iter().copied()).collect();
        let half = if kind.signed() { (kind.steps() / 2.0) as f32 } else { 0.0 };
        let first: Vec<_> = ranges.iter().map(|r| kind.floats(*r)).collect();
        let out = by_range(x.shape(), at, &values, ranges.len(), |i, v| {
            let (min, max) = ranges[i];
            match mode {
                Mode::First => first[i](v),
                Mode::Combined => {
                    let scale = (max - min) / (kind.high as f32 - kind.low as f32);
                    (v as f32 + half) * scale + min
                }
                Mode::Scaled => {
                    let low = (kind.low + i64::from(narrow)) as f32;
                    let high = max / kind.high as f32;
                    v as f32 * if kind.signed() { (min / low).max(high) } else { high }
                }
            }
        })?;
        let out = Tensor::from_vec(out, x.shape())?;
        many([array::cast(&out, dtype)?])
    }))
}

/// Images whose every channel gets mean 0 and variance 1, quantized again.
fn instance_norm(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let given = a.bool("output_range_given")?;
    let range = (a.float("given_y_min")?, a.float("given_y_max")?);
    let (epsilon, apart) = (a.float("variance_epsilon")?, a.float("min_separation")?);
    if given && range.0 >= range.1 {
        return Err(Error::graph(format!("the range {range:?} is empty")));
    }
    Ok(kernel(move |_, inputs| {
        let [x, min, max] = tensors(inputs)?;
        let q = Quantized::new(&x, &min, &max)?;
        let &[batch, rows, columns, channels] = &q.shape[..] else {
            return Err(Error::compute(format!("takes images of rank 4, got shape {:?}", q.shape)));
        };
        let float = q.kind.floats(q.range);
        let mut floats: Vec<f32> = q.values.iter().map(|v| float(*v)).collect();
        let size = rows * columns;
        for image in 0..batch {
            for channel in 0..channels {
                let places = || (0..size).map(|i| (image * size + i) * channels + channel);
                let n = size.max(1) as f64;
                let mean = places().map(|i| f64::from(floats[i])).sum::<f64>() / n;
                let variance = places().map(|i| (f64::from(floats[i]) - mean).powi(2)).sum::<f64>() / n;
                let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
                for i in places() {
                    floats[i] = ((f64::from(floats[i]) - mean) * scale) as f32;
                }
            }
        }
        let to = if given {
            range
        } else {
            let least = floats.iter().copied().fold(f32::INFINITY, f32::min);
            let most = floats.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            (least, most.max(least + apart))
        };
        let quantize = q.kind.quantizer(to);
        let values = floats.iter().map(|v| quantize(*v)).collect();
        Quantized { values, range: to, ..q }.outputs()
    }))
}

/// The ranges of the channels of 32-bit integers, clipped, as one range.
fn channel_range(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let most = a.float("clip_value_max")?;
    Ok(kernel(move |_, inputs| {
        let [x, min, max] = tensors(inputs)?;
        let (_, values) = integers(&x)?;
        let (mins, maxs) = (min.elements::<f32>()?, max.elements::<f32>()?);
        let depth = x.shape().last().copied().unwrap_or(1);
        if mins.len() != depth || maxs.len() != depth {
            return Err(Error::compute(format!("{} and {} bounds for {depth} channels", mins.len(), maxs.len())));
        }
        let half = (1i64 << 31) as f32;
        let (mut least, mut greatest) = (0.0f32, f32::MIN);
        let mut any_negative = false;
        for c in 0..depth {
            let scale = mins[c].abs().max(maxs[c].abs()) / half;
            let channel = || values.iter().skip(c).step_by(depth);
            let (low, high) = (channel().min().copied().unwrap_or(0), channel().max().copied().unwrap_or(0));
            any_negative |= low < 0;
            least = least.min(low as f32 * scale);
            greatest = greatest.max(high as f32 * scale);
        }
        let bound = if any_negative { greatest.max(least.abs()) } else { greatest };
        let bound = bound.min(most);
        many([Tensor::scalar(if any_negative { -bound } else { 0.0 }), Tensor::scalar(bound)])
    }))
}

fn requantize_channels(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let kind = Kind::of(a.dtype("out_type")?)?;
    Ok(kernel(move |_, inputs| {
        let [x, min, max, least, greatest] = tensors(inputs)?;
        let (_, values) = integers(&x)?;
        let (mins, maxs) = (min.elements::<f32>()?, max.elements::<f32>()?);
        let to = range(&least, &greatest)?;
        let depth = x.shape().last().copied().unwrap_or(1);
        if mins.len() != depth || maxs.len() != depth {
            return Err(Error::compute(format!("{} and {} bounds for {depth} channels", mins.len(), maxs.len())));
        }
        let bound = to.0.abs().max(to.1.abs());
        let parts = if kind.signed() { 127.0 } else { 255.0 } / bound;
        let one = |(i, v): (usize, &i64)| {
            let c = i % depth.max(1);
            let scale = mins[c].abs().max(maxs[c].abs()) / (1i64 << 31) as f32;
            ((*v as f32 * (scale * parts)).round_ties_even() as i64).clamp(kind.low, kind.high)
        };
        let values = values.iter().enumerate().map(one).collect();
        Quantized { kind, values, shape: x.shape().to_vec(), range: to }.outputs()
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Dequantize(input: T, min_range: float32, max_range: float32) -> (output: dtype); T: type; mode: string = \"MIN_COMBINED\"; narrow_range: bool = false; axis: int = -1; dtype: type = float32", dequantize),
    Op::new("QuantizeDownAndShrinkRange(input: Tinput, input_min: float32, input_max: float32) -> (output: out_type, output_min: float32, output_max: float32); Tinput: type; out_type: type", shrink),
    Op::new("QuantizeV2(input: float32, min_range: float32, max_range: float32) -> (output: T, output_min: float32, output_max: float32); T: type; mode: string = \"MIN_COMBINED\"; round_mode: string = \"HALF_AWAY_FROM_ZERO\"; narrow_range: bool = false; axis: int = -1; ensure_minimum_range: float = 0.01", quantize_v2),
    Op::new("QuantizedAdd(x: T1, y: T2, min_x: float32, max_x: float32, min_y: float32, max_y: float32) -> (z: Toutput, min_z: float32, max_z: float32); T1: type; T2: type; Toutput: type = qint32", |a| sums(a, "Toutput", false)),
    Op::new("QuantizedAvgPool(input: T, min_input: float32, max_input: float32) -> (output: T, min_output: float32, max_output: float32); T: type; ksize: list(int); strides: list(int); padding: string", |a| pooled(a, true)),
    Op::new("QuantizedBiasAdd(input: T1, bias: T2, min_input: float32, max_input: float32, min_bias: float32, max_bias: float32) -> (output: out_type, min_out: float32, max_out: float32); T1: type; T2: type; out_type: type", |a| sums(a, "out_type", true)),
    Op::new("QuantizedConcat(concat_dim: int32, values: N * T, input_mins: N * float32, input_maxes: N * float32) -> (output: T, output_min: float32, output_max: float32); N: int; T: type", |a| concat(a, true)),
    Op::new("QuantizedConcatV2(values: N * T, axis: Tidx, input_mins: N * float32, input_maxes: N * float32) -> (output: T, output_min: float32, output_max: float32); N: int; T: type; Tidx: type = int32", |a| concat(a, false)),
    Op::new("QuantizedConv2D(input: Tinput, filter: Tfilter, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; out_type: type = qint32; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]", quantized_conv),
    Op::new("QuantizedInstanceNorm(x: T, x_min: float32, x_max: float32) -> (y: T, y_min: float32, y_max: float32); T: type; output_range_given: bool = false; given_y_min: float = 0; given_y_max: float = 0; variance_epsilon: float = 1e-05; min_separation: float = 0.001", instance_norm),
    Op::new("QuantizedMatMul(a: T1, b: T2, min_a: float32, max_a: float32, min_b: float32, max_b: float32) -> (out: Toutput, min_out: float32, max_out: float32); T1: type; T2: type; Toutput: type = qint32; transpose_a: bool = false; transpose_b: bool = false; Tactivation: type = quint8", quantized_matmul),
    Op::new("QuantizedMaxPool(input: T, min_input: float32, max_input: float32) -> (output: T, min_output: float32, max_output: float32); T: type; ksize: list(int); strides: list(int); padding: string", |a| pooled(a, false)),
    Op::new("QuantizedMul(x: T1, y: T2, min_x: float32, max_x: float32, min_y: float32, max_y: float32) -> (z: Toutput, min_z: float32, max_z: float32); T1: type; T2: type; Toutput: type = qint32", quantized_mul),
    Op::new("QuantizedRelu(features: Tinput, min_features: float32, max_features: float32) -> (activations: out_type, min_activations: float32, max_activations: float32); Tinput: type; out_type: type = quint8", |_| relu(None)).ranks("_ 0 0"),
    Op::new("QuantizedRelu6(features: Tinput, min_features: float32, max_features: float32) -> (activations: out_type, min_activations: float32, max_activations: float32); Tinput: type; out_type: type = quint8", |_| relu(Some(6.0))).ranks("_ 0 0"),
    Op::new("QuantizedReshape(tensor: T, shape: Tshape, input_min: float32, input_max: float32) -> (output: T, output_min: float32, output_max: float32); T: type; Tshape: type = int32", |_| reshape()),
    Op::new("RequantizationRange(input: Tinput, input_min: float32, input_max: float32) -> (output_min: float32, output_max: float32); Tinput: type", |_| requantization_range()),
    Op::new("RequantizationRangePerChannel(input: T, input_min: float32, input_max: float32) -> (output_min: float32, output_max: float32); T: type = qint32; clip_value_max: float", channel_range).ranks("_ 1 1"),
    Op::new("Requantize(input: Tinput, input_min: float32, input_max: float32, requested_output_min: float32, requested_output_max: float32) -> (output: out_type, output_min: float32, output_max: float32); Tinput: type; out_type: type", requantize),
    Op::new("RequantizePerChannel(input: T, input_min: float32, input_max: float32, requested_output_min: float32, requested_output_max: float32) -> (output: out_type, output_min: float32, output_max: float32); T: type = qint32; out_type: type = quint8", requantize_channels).ranks("4"),
];
