//! Arithmetic on tensors that broadcast.

use super::lists::add_like;
use super::{NodeAttrs, Op};
use super::args::{binary, comparing, map1, one, reading, tensors, unary};
use crate::engine::{Kernel, kernel};
use crate::tensor::DType;
use crate::tensor::kernels::{array, elementwise as e};
use crate::{Error, Result, tensor};

fn add_n(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let mut all = inputs.into_iter();
        let first = all.next().ok_or_else(|| Error::graph("needs at least one input"))?;
        one(all.try_fold(first, add_like)?)
    }))
}

/// A bound that isn't a number doesn't bound.
fn bound(t: tensor::Tensor, instead: f32) -> Result<tensor::Tensor> {
    if !t.dtype().is_float() {
        return Ok(t);
    }
    let nan = e::is_nan(&t)?;
    if !nan.elements::<tensor::Bool>()?.iter().any(|b| b.get()) {
        return Ok(t);
    }
    let instead = array::cast(&tensor::Tensor::scalar(instead), t.dtype())?;
    Ok(array::select(&nan, &instead, &t)?)
}

pub(super) const OPS: &[Op] = &[
    Op::new("Add(x: T, y: T) -> (z: T); T: type", |_| binary(e::add)),
    Op::new("AddV2(x: T, y: T) -> (z: T); T: type", |_| binary(e::add)),
    Op::new("AddN(inputs: N * T) -> (sum: T); N: int; T: type", add_n),
    Op::new("AccumulateNV2(inputs: N * T) -> (sum: T); N: int; T: type; shape: shape", add_n),
    Op::new("Sub(x: T, y: T) -> (z: T); T: type", |_| binary(e::sub)),
    Op::new("Mul(x: T, y: T) -> (z: T); T: type", |_| binary(e::mul)),
    Op::new("MulNoNan(x: T, y: T) -> (z: T); T: type", |_| binary(e::mul_no_nan)),
    Op::new("Div(x: T, y: T) -> (z: T); T: type", |_| binary(e::div)),
    Op::new("RealDiv(x: T, y: T) -> (z: T); T: type", |_| binary(e::div)),
    Op::new("TruncateDiv(x: T, y: T) -> (z: T); T: type", |_| {
        binary(|x, y| {
            let quotient = e::div(x, y)?;
            if quotient.dtype().is_float() { e::truncate(quotient) } else { Ok(quotient) }
        })
    }),
    Op::new("DivNoNan(x: T, y: T) -> (z: T); T: type", |_| binary(e::div_no_nan)),
    Op::new("FloorDiv(x: T, y: T) -> (z: T); T: type", |_| binary(e::floor_div)),
    Op::new("FloorMod(x: T, y: T) -> (z: T); T: type", |_| binary(e::floor_mod)),
    Op::new("Mod(x: T, y: T) -> (z: T); T: type", |_| binary(e::truncated_mod)),
    Op::new("TruncateMod(x: T, y: T) -> (z: T); T: type", |_| binary(e::truncated_mod)),
    Op::new("Maximum(x: T, y: T) -> (z: T); T: type", |_| binary(e::maximum)),
    Op::new("Minimum(x: T, y: T) -> (z: T); T: type", |_| binary(e::minimum)),
    Op::new("Pow(x: T, y: T) -> (z: T); T: type", |_| binary(e::pow)),
    Op::new("SquaredDifference(x: T, y: T) -> (z: T); T: type", |_| binary(e::squared_difference)),
    Op::new("Atan2(y: T, x: T) -> (z: T); T: type", |_| binary(e::atan2)),
    Op::new("Xlogy(x: T, y: T) -> (z: T); T: type", |_| binary(e::xlogy)),
    Op::new("Xlog1py(x: T, y: T) -> (z: T); T: type", |_| binary(e::xlog1py)),
    Op::new("Xdivy(x: T, y: T) -> (z: T); T: type", |_| binary(e::xdivy)),
    Op::new("NextAfter(x1: T, x2: T) -> (output: T); T: type = float32", |_| binary(e::next_after)),
    Op::new("Complex(real: T, imag: T) -> (out: Tout); T: type = float32; Tout: type = complex64", |_| comparing(e::complex)),
    Op::new("Abs(x: T) -> (y: T); T: type", |_| unary(e::abs)),
    Op::new("ComplexAbs(x: T) -> (y: Tout); T: type = complex64; Tout: type = float32", |a| {
        match (a.dtype("T")?, a.dtype("Tout")?) {
            (DType::C64, DType::F32) | (DType::C128, DType::F64) => reading(e::magnitude),
            (from, to) => Err(Error::graph(format!("magnitudes of {from} aren't {to}"))),
        }
    }),
    Op::new("Real(input: T) -> (output: Tout); T: type = complex64; Tout: type = float32", |_| reading(e::real)),
    Op::new("Imag(input: T) -> (output: Tout); T: type = complex64; Tout: type = float32", |_| reading(e::imag)),
    Op::new("Angle(input: T) -> (output: Tout); T: type = complex64; Tout: type = float32", |_| reading(e::angle)),
    Op::new("Conj(input: T) -> (output: T); T: type = complex64", |_| unary(e::conj)),
    Op::new("Neg(x: T) -> (y: T); T: type", |_| unary(e::neg)),
    Op::new("Sign(x: T) -> (y: T); T: type", |_| unary(e::sign)),
    Op::new("Square(x: T) -> (y: T); T: type", |_| unary(e::square)),
    Op::new("ClipByValue(t: T, clip_value_min: T, clip_value_max: T) -> (output: T); T: type", |_| {
        Ok(kernel(|_, inputs| {
            let [t, low, high] = tensors(inputs)?;
            let clip = |t, low, high| e::maximum(e::minimum(t, high)?, low);
            if !t.dtype().is_complex() {
                return one(clip(t, bound(low, f32::NEG_INFINITY)?, bound(high, f32::INFINITY)?)?);
            }
            // Part by part.
            let of = |part: fn(&tensor::Tensor) -> tensor::Result<tensor::Tensor>| {
                clip(part(&t)?, part(&low)?, part(&high)?)
            };
            one(e::complex(&of(e::real)?, &of(e::imag)?)?)
        }))
    }).ranks("_ =0 =0"),
    Op::new("Cast(x: SrcT) -> (y: DstT); SrcT: type; DstT: type; Truncate: bool = false", |a| {
        let to = a.dtype("DstT")?;
        if a.bool("Truncate")? && matches!(to, DType::F16 | DType::BF16) {
            return Err(Error::unsupported(format!("a cast to {to} that truncates")));
        }
        map1(move |x| if x.dtype() == to { Ok(x) } else { array::cast(&x, to) })
    }),
];
