//! Numbers quantized uniformly: `(q - zero point) * scale`, with one scale for a tensor or one for each part along an axis.

use super::args::{one, tensors};
use super::quantized::{Kind, integers};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::matmul::{Form, matmul};
use crate::tensor::kernels::{array, broadcast_shape};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// What attributes say of a quantized tensor: the axis that scales go along, and what integers it may hold.
#[derive(Debug, Clone, Copy)]
struct Grid {
    axis: Option<usize>,
    least: i64,
    greatest: i64,
}

impl Grid {
    /// From attributes that begin with `of`: `input_`, `lhs_`, or nothing.
    fn read(a: &NodeAttrs<'_>, of: &str) -> Result<Self> {
        let int = |name: &str| a.int(&format!("{of}quantization_{name}"));
        let axis = match int("axis")? {
            -1 => None,
            axis => Some(usize::try_from(axis).map_err(|_| Error::graph(format!("quantization axis {axis}")))?),
        };
        Ok(Grid { axis, least: int("min_val")?, greatest: int("max_val")? })
    }

    fn clamp(&self, v: i64) -> i64 {
        v.min(self.greatest).max(self.least)
    }

    /// The scale and the zero point of every element of a tensor of this shape.
    fn steps<'a>(&self, shape: &'a [usize], scales: &Tensor, zeros: &Tensor) -> Result<Steps<'a>> {
        let wanted: &[usize] = match self.axis {
            None => &[],
            Some(axis) => shape.get(axis..=axis).ok_or_else(|| Error::compute(format!("axis {axis} of {shape:?}")))?,
        };
        if scales.shape() != wanted || zeros.shape() != wanted {
            let got = (scales.shape(), zeros.shape());
            return Err(Error::compute(format!("scales and zero points of shapes {got:?} in place of {wanted:?}")));
        }
        let scales = scales.elements::<f32>()?.to_vec();
        if let Some(odd) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(Error::compute(format!("scales must be positive, got {odd}")));
        }
        let inner = self.axis.map_or(1, |axis| shape[axis + 1..].iter().product());
        Ok(Steps { scales, zeros: zeros.to_i64_vec()?, inner, shape })
    }
}

/// Scales and zero points, and how many elements in a row have the same.
struct Steps<'a> {
    scales: Vec<f32>,
    zeros: Vec<i64>,
    inner: usize,
    shape: &'a [usize],
}

impl Steps<'_> {
    fn at(&self, element: usize) -> (f32, i64) {
        let part = element / self.inner.max(1) % self.scales.len().max(1);
        (self.scales.get(part).copied().unwrap_or(1.0), self.zeros.get(part).copied().unwrap_or(0))
    }

    fn map<A, B>(&self, values: impl IntoIterator<Item = A>, f: impl Fn(A, f32, i64) -> B) -> Vec<B> {
        let each = |(i, v)| {
            let (scale, zero) = self.at(i);
            f(v, scale, zero)
        };
        values.into_iter().enumerate().map(each).collect()
    }

    /// The floats that integers stand for.
    fn floats(&self, values: Vec<i64>) -> Result<Tensor> {
        let floats = self.map(values, |v, scale, zero| (v - zero) as f32 * scale);
        Ok(Tensor::from_vec(floats, self.shape)?)
    }
}

/// A factor as an integer of 31 bits and a power of two, as integers are multiplied by it (TensorFlow Lite's
/// `QuantizeMultiplier` and `MultiplyByQuantizedMultiplier`).
#[derive(Debug, Clone, Copy)]
struct Factor {
    integer: i64,
    shift: i32,
}

impl Factor {
    fn of(v: f64) -> Result<Self> {
        if !(v.is_finite() && v > 0.0) {
            return Err(Error::compute(format!("a quotient of scales is {v}")));
        }
        let (fraction, mut shift) = libm::frexp(v);
        let mut integer = (fraction * (1i64 << 31) as f64).round() as i64;
        if integer == 1 << 31 {
            (integer, shift) = (integer / 2, shift + 1);
        }
        if shift < -31 {
            (integer, shift) = (0, 0);
        }
        if shift > 30 {
            (integer, shift) = ((1 << 31) - 1, 30);
        }
        Ok(Factor { integer, shift })
    }

    fn times(self, v: i64) -> i64 {
        let down = 31 - self.shift;
        let product = i128::from(v) * i128::from(self.integer) + (1i128 << (down - 1));
        i64::from((product >> down) as i32)
    }
}

/// The integer that a float comes nearest to, whatever range it is to lie in.
fn nearest(v: f32, scale: f32, zero: i64) -> i64 {
    i64::from((v * (1.0 / scale) + 0.5).floor() as i32) + zero
}

fn quantize(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (grid, kind) = (Grid::read(a, "")?, Kind::of(a.dtype("Tout")?)?);
    Ok(kernel(move |_, inputs| {
        let [x, scales, zeros] = tensors(inputs)?;
        let steps = grid.steps(x.shape(), &scales, &zeros)?;
        let near = |v: &f32, scale: f32, zero: i64| grid.clamp(nearest(*v, scale, zero));
        one(kind.tensor(steps.map(&*x.elements::<f32>()?, near), x.shape())?)
    }))
}

fn dequantize(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let grid = Grid::read(a, "")?;
    Ok(kernel(move |_, inputs| {
        let [x, scales, zeros] = tensors(inputs)?;
        one(grid.steps(x.shape(), &scales, &zeros)?.floats(integers(&x)?.1)?)
    }))
}

/// Integers of one grid as those of another: by the quotients of their scales.
fn moved(values: Vec<i64>, from: &Steps<'_>, to: &Steps<'_>, grid: &Grid) -> Result<Vec<i64>> {
    let parts = from.scales.len().max(to.scales.len());
    let along = if from.scales.len() == 1 { to } else { from };
    let pick = |v: &[f32], i: usize| f64::from(v.get(i).or(v.first()).copied().unwrap_or(1.0));
    let factors =
        (0..parts).map(|i| Factor::of(pick(&from.scales, i) / pick(&to.scales, i))).collect::<Result<Vec<_>>>()?;
    let each = |(i, v): (usize, i64)| {
        let part = i / along.inner.max(1) % parts.max(1);
        grid.clamp(factors[part].times(v - from.at(i).1) + to.at(i).1)
    };
    Ok(values.into_iter().enumerate().map(each).collect())
}

fn requantize(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (from, to, kind) = (Grid::read(a, "input_")?, Grid::read(a, "output_")?, Kind::of(a.dtype("Tout")?)?);
    Ok(kernel(move |_, inputs| {
        let [x, scales, zeros, out_scales, out_zeros] = tensors(inputs)?;
        let given = from.steps(x.shape(), &scales, &zeros)?;
        let wanted = to.steps(x.shape(), &out_scales, &out_zeros)?;
        if from.axis.is_some() && to.axis.is_some() && from.axis != to.axis {
            return Err(Error::compute("scales of input and output go along different axes"));
        }
        one(kind.tensor(moved(integers(&x)?.1, &given, &wanted, &to)?, x.shape())?)
    }))
}

/// Sums, both operands being moved to the result's grid first; the smaller one is repeated.
fn add(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let [left, right, out] = [Grid::read(a, "lhs_")?, Grid::read(a, "rhs_")?, Grid::read(a, "output_")?];
    let kind = Kind::of(a.dtype("T")?)?;
    Ok(kernel(move |_, inputs| {
        let [x, y, x_scales, x_zeros, y_scales, y_zeros, scales, zeros] = tensors(inputs)?;
        let shape = broadcast_shape(x.shape(), y.shape())?;
        let spread = |t: &Tensor, grid: &Grid, own: (&Tensor, &Tensor)| -> Result<Tensor> {
            // An axis of the sum is one of an operand counted from its end.
            let lacks = shape.len() - t.rank();
            let to = Grid { axis: out.axis.and_then(|axis| axis.checked_sub(lacks)), ..out };
            let wide = |d: &Tensor| -> Result<Tensor> {
                let n = to.axis.and_then(|axis| t.shape().get(axis).copied());
                // A dimension of one has the first part's scale alone.
                Ok(if n == Some(1) && d.len() > 1 { array::gather(d, &Tensor::from_vec(vec![0i64], [1])?, 0, 0)? } else { d.clone() })
            };
            let (to_scales, to_zeros) = (wide(&scales)?, wide(&zeros)?);
            let from = grid.steps(t.shape(), own.0, own.1)?;
            let unclamped = Grid { least: i32::MIN.into(), greatest: i32::MAX.into(), ..to };
            let values = moved(integers(t)?.1, &from, &to.steps(t.shape(), &to_scales, &to_zeros)?, &unclamped)?;
            Ok(array::broadcast_to(&Tensor::from_vec(values, t.shape())?, &shape)?)
        };
        let (x, y) = (spread(&x, &left, (&x_scales, &x_zeros))?, spread(&y, &right, (&y_scales, &y_zeros))?);
        let steps = out.steps(&shape, &scales, &zeros)?;
        let pairs = x.elements::<i64>()?.iter().zip(y.elements::<i64>()?.iter()).map(|(x, y)| x + y).collect::<Vec<_>>();
        one(kind.tensor(steps.map(pairs, |sum, _, zero| out.clamp(sum - zero)), &shape)?)
    }))
}

fn clip(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (grid, kind) = (Grid::read(a, "")?, Kind::of(a.dtype("T")?)?);
    Ok(kernel(move |_, inputs| {
        let [x, min, max, scales, zeros] = tensors(inputs)?;
        let steps = grid.steps(x.shape(), &scales, &zeros)?;
        if min.shape() != scales.shape() || max.shape() != scales.shape() {
            return Err(Error::compute(format!("bounds of {:?} and {:?} for scales of {:?}", min.shape(), max.shape(), scales.shape())));
        }
        let bounds = Steps { zeros: integers(&min)?.1, ..grid.steps(x.shape(), &scales, &zeros)? };
        let above = Steps { zeros: integers(&max)?.1, ..steps };
        let lifted = bounds.map(integers(&x)?.1, |v, _, least| v.max(least));
        one(kind.tensor(above.map(lifted, |v, _, most| v.min(most)), x.shape())?)
    }))
}

/// A matrix of how far integers lie from their zero points.
fn offsets(t: &Tensor, steps: &Steps<'_>) -> Result<Tensor> {
    let values = steps.map(integers(t)?.1, |v, _, zero| (v - zero) as f64);
    Ok(Tensor::from_vec(values, t.shape())?)
}

fn dot(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let [left, right, out] = [Grid::read(a, "lhs_")?, Grid::read(a, "rhs_")?, Grid::read(a, "output_")?];
    let kind = Kind::of(a.dtype("Tout")?)?;
    Ok(kernel(move |_, inputs| {
        let [x, y, x_scales, x_zeros, y_scales, y_zeros, scales, zeros] = tensors(inputs)?;
        let (mine, theirs) = (left.steps(x.shape(), &x_scales, &x_zeros)?, right.steps(y.shape(), &y_scales, &y_zeros)?);
        // Products of 8 bits are summed exactly in 53.
        let sums = matmul(&offsets(&x, &mine)?, Form::Plain, &offsets(&y, &theirs)?, Form::Plain)?;
        let shape = sums.shape();
        let own: Vec<f32> = theirs.scales.iter().map(|s| s * mine.scales.first().copied().unwrap_or(1.0)).collect();
        let from = Steps { zeros: vec![0; own.len()], scales: own, inner: 1, shape };
        let wanted = out.steps(shape, &scales, &zeros)?;
        let values = sums.elements::<f64>()?.iter().map(|v| i64::from(*v as i64 as i32)).collect();
        one(kind.tensor(moved(values, &from, &wanted, &out)?, shape)?)
    }))
    .and_then(|made| if left.axis.is_some() { Err(Error::graph("the left operand has one scale")) } else { Ok(made) })
}

/// How floats of a row are quantized to 8 bits so that 0 is a step (TensorFlow Lite's `ChooseQuantizationParams`).
fn fitted(row: &[f32]) -> (f32, i64) {
    let (least, greatest) = row.iter().fold((0f32, 0f32), |(l, g), v| (l.min(*v), g.max(*v)));
    let (least, greatest) = (f64::from(least), f64::from(greatest));
    if least == greatest {
        return (1.0, 0);
    }
    let scale = (greatest - least) / 255.0;
    let (from_least, from_greatest) = (-128.0 - least / scale, 127.0 - greatest / scale);
    // From whichever end loses less.
    let closer = 128.0 + (least / scale).abs() < 127.0 + (greatest / scale).abs();
    let zero = if closer { from_least } else { from_greatest };
    (scale as f32, zero.round().clamp(-128.0, 127.0) as i64)
}

/// The left operand is of floats, which are quantized row by row.
fn hybrid_dot(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let right = Grid::read(a, "rhs_")?;
    Ok(kernel(move |_, inputs| {
        let [x, y, scales, zeros] = tensors(inputs)?;
        let (&[rows, inner], &[_, columns]) = (x.shape(), y.shape()) else {
            return Err(Error::compute(format!("takes matrices, not {:?} and {:?}", x.shape(), y.shape())));
        };
        let mut offset = Vec::with_capacity(rows * inner);
        let mut steps = Vec::with_capacity(rows);
        for row in x.elements::<f32>()?.chunks(inner.max(1)) {
            let (scale, zero) = fitted(row);
            offset.extend(row.iter().map(|v| (nearest(*v, scale, zero).clamp(-128, 127) - zero) as f64));
            steps.push(scale);
        }
        let theirs = right.steps(y.shape(), &scales, &zeros)?;
        let left = Tensor::from_vec(offset, [rows, inner])?;
        let sums = matmul(&left, Form::Plain, &offsets(&y, &theirs)?, Form::Plain)?;
        let scale = |column: usize| theirs.scales.get(column).or(theirs.scales.first()).copied().unwrap_or(1.0);
        let each = |(i, sum): (usize, &f64)| *sum as f32 * (steps.get(i / columns).copied().unwrap_or(1.0) * scale(i % columns));
        one(Tensor::from_vec(sums.elements::<f64>()?.iter().enumerate().map(each).collect::<Vec<f32>>(), [rows, columns])?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("UniformDequantize(input: Tin, scales: float32, zero_points: int32) -> (output: Tout); Tin: type; Tout: type; quantization_axis: int = -1; quantization_min_val: int; quantization_max_val: int", dequantize),
    Op::new("UniformQuantize(input: Tin, scales: float32, zero_points: int32) -> (output: Tout); Tin: type; Tout: type; quantization_axis: int = -1; quantization_min_val: int; quantization_max_val: int", quantize),
    Op::new("UniformQuantizedAdd(lhs: T, rhs: T, lhs_scales: float32, lhs_zero_points: int32, rhs_scales: float32, rhs_zero_points: int32, output_scales: float32, output_zero_points: int32) -> (output: T); lhs_quantization_axis: int = -1; lhs_quantization_min_val: int; lhs_quantization_max_val: int; rhs_quantization_axis: int = -1; rhs_quantization_min_val: int; rhs_quantization_max_val: int; output_quantization_axis: int = -1; output_quantization_min_val: int; output_quantization_max_val: int; T: type", add),
    Op::new("UniformQuantizedClipByValue(operand: T, min: T, max: T, scales: float32, zero_points: int32) -> (output: T); T: type; quantization_axis: int = -1; quantization_min_val: int; quantization_max_val: int", clip),
    Op::new("UniformQuantizedDot(lhs: Tin, rhs: Tin, lhs_scales: float32, lhs_zero_points: int32, rhs_scales: float32, rhs_zero_points: int32, output_scales: float32, output_zero_points: int32) -> (output: Tout); Tin: type; Tout: type; lhs_quantization_axis: int = -1; lhs_quantization_min_val: int; lhs_quantization_max_val: int; rhs_quantization_axis: int = -1; rhs_quantization_min_val: int; rhs_quantization_max_val: int; output_quantization_axis: int = -1; output_quantization_min_val: int; output_quantization_max_val: int", dot).ranks("2 2"),
    Op::new("UniformQuantizedDotHybrid(lhs: Tlhs, rhs: Trhs, rhs_scales: float32, rhs_zero_points: int32) -> (output: Tout); Tlhs: type; Trhs: type; Tout: type; rhs_quantization_axis: int = -1; rhs_quantization_min_val: int; rhs_quantization_max_val: int", hybrid_dot).ranks("2 2"),
    Op::new("UniformRequantize(input: Tin, input_scales: float32, input_zero_points: int32, output_scales: float32, output_zero_points: int32) -> (output: Tout); Tin: type; Tout: type; input_quantization_axis: int = -1; input_quantization_min_val: int; input_quantization_max_val: int; output_quantization_axis: int = -1; output_quantization_min_val: int; output_quantization_max_val: int", requantize),
];
