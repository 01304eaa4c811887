//! Functions of one number or a few, element by element.

use super::Op;
use super::args::{binary, one, reading, tensors, unary};
use crate::{Error, Result};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::{array, elementwise as e};
use crate::tensor::{DType, Tensor};

fn betainc() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [a, b, x] = tensors(inputs)?;
        let mut shapes = [&a, &b, &x].map(|t| t.shape()).into_iter().filter(|s| !s.is_empty());
        if let Some(first) = shapes.next()
            && let Some(other) = shapes.find(|s| *s != first)
        {
            return Err(Error::compute(format!("shapes {first:?} and {other:?} are neither the same nor a scalar's")));
        }
        one(e::betainc(&a, &b, &x)?)
    }))
}

/// How samples of gamma distributions move with their `alpha`: by the implicit derivative of the distribution function.
fn gamma_grad() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [alpha, sample] = tensors(inputs)?;
        let dtype = sample.dtype();
        let (alpha, sample) = (array::cast(&alpha, DType::F64)?, array::cast(&sample, DType::F64)?);
        let zero = Tensor::scalar(0.0f64);
        let powers = e::xlogy(e::sub(alpha.clone(), Tensor::scalar(1.0f64))?, sample.clone())?;
        let density = e::exp(e::sub(e::sub(powers, sample.clone())?, e::lgamma(alpha.clone())?)?)?;
        let slope = e::neg(e::div(e::igamma_grad_a(alpha, sample.clone())?, density)?)?;
        let at_zero = e::equal(&sample, &zero)?;
        one(array::cast(&array::select(&at_zero, &zero, &slope)?, dtype)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Exp(x: T) -> (y: T); T: type", |_| unary(e::exp)),
    Op::new("Expm1(x: T) -> (y: T); T: type", |_| unary(e::expm1)),
    Op::new("Log(x: T) -> (y: T); T: type", |_| unary(e::log)),
    Op::new("Log1p(x: T) -> (y: T); T: type", |_| unary(e::log1p)),
    Op::new("Sqrt(x: T) -> (y: T); T: type", |_| unary(e::sqrt)),
    Op::new("Rsqrt(x: T) -> (y: T); T: type", |_| unary(e::rsqrt)),
    Op::new("Reciprocal(x: T) -> (y: T); T: type", |_| unary(e::reciprocal)),
    Op::new("Inv(x: T) -> (y: T); T: type", |_| unary(e::reciprocal)),
    Op::new("Sin(x: T) -> (y: T); T: type", |_| unary(e::sin)),
    Op::new("Cos(x: T) -> (y: T); T: type", |_| unary(e::cos)),
    Op::new("Tan(x: T) -> (y: T); T: type", |_| unary(e::tan)),
    Op::new("Asin(x: T) -> (y: T); T: type", |_| unary(e::asin)),
    Op::new("Acos(x: T) -> (y: T); T: type", |_| unary(e::acos)),
    Op::new("Atan(x: T) -> (y: T); T: type", |_| unary(e::atan)),
    Op::new("Sinh(x: T) -> (y: T); T: type", |_| unary(e::sinh)),
    Op::new("Cosh(x: T) -> (y: T); T: type", |_| unary(e::cosh)),
    Op::new("Tanh(x: T) -> (y: T); T: type", |_| unary(e::tanh)),
    Op::new("Asinh(x: T) -> (y: T); T: type", |_| unary(e::asinh)),
    Op::new("Acosh(x: T) -> (y: T); T: type", |_| unary(e::acosh)),
    Op::new("Atanh(x: T) -> (y: T); T: type", |_| unary(e::atanh)),
    Op::new("Erf(x: T) -> (y: T); T: type", |_| unary(e::erf)),
    Op::new("Erfc(x: T) -> (y: T); T: type", |_| unary(e::erfc)),
    Op::new("Erfinv(x: T) -> (y: T); T: type", |_| unary(e::erfinv)),
    Op::new("Ndtri(x: T) -> (y: T); T: type", |_| unary(e::ndtri)),
    Op::new("Lgamma(x: T) -> (y: T); T: type", |_| unary(e::lgamma)),
    Op::new("Digamma(x: T) -> (y: T); T: type", |_| unary(e::digamma)),
    Op::new("Floor(x: T) -> (y: T); T: type", |_| unary(e::floor)),
    Op::new("Ceil(x: T) -> (y: T); T: type", |_| unary(e::ceil)),
    Op::new("Round(x: T) -> (y: T); T: type", |_| unary(e::round_half_even)),
    Op::new("Rint(x: T) -> (y: T); T: type", |_| unary(e::round_half_even)),
    Op::new("IsNan(x: T) -> (y: bool); T: type", |_| reading(e::is_nan)),
    Op::new("IsInf(x: T) -> (y: bool); T: type", |_| reading(e::is_inf)),
    Op::new("IsFinite(x: T) -> (y: bool); T: type", |_| reading(e::is_finite)),
    Op::new("BesselI0(x: T) -> (y: T); T: type", |_| unary(e::bessel_i0)),
    Op::new("BesselI0e(x: T) -> (y: T); T: type", |_| unary(e::bessel_i0e)),
    Op::new("BesselI1(x: T) -> (y: T); T: type", |_| unary(e::bessel_i1)),
    Op::new("BesselI1e(x: T) -> (y: T); T: type", |_| unary(e::bessel_i1e)),
    Op::new("BesselJ0(x: T) -> (y: T); T: type", |_| unary(e::bessel_j0)),
    Op::new("BesselJ1(x: T) -> (y: T); T: type", |_| unary(e::bessel_j1)),
    Op::new("BesselK0(x: T) -> (y: T); T: type", |_| unary(e::bessel_k0)),
    Op::new("BesselK0e(x: T) -> (y: T); T: type", |_| unary(e::bessel_k0e)),
    Op::new("BesselK1(x: T) -> (y: T); T: type", |_| unary(e::bessel_k1)),
    Op::new("BesselK1e(x: T) -> (y: T); T: type", |_| unary(e::bessel_k1e)),
    Op::new("BesselY0(x: T) -> (y: T); T: type", |_| unary(e::bessel_y0)),
    Op::new("BesselY1(x: T) -> (y: T); T: type", |_| unary(e::bessel_y1)),
    Op::new("Spence(x: T) -> (y: T); T: type", |_| unary(e::spence)),
    Op::new("Dawsn(x: T) -> (y: T); T: type", |_| unary(e::dawsn)),
    Op::new("Expint(x: T) -> (y: T); T: type", |_| unary(e::expint)),
    Op::new("FresnelSin(x: T) -> (y: T); T: type", |_| unary(e::fresnel_sin)),
    Op::new("FresnelCos(x: T) -> (y: T); T: type", |_| unary(e::fresnel_cos)),
    Op::new("Igamma(a: T, x: T) -> (z: T); T: type", |_| binary(e::igamma)),
    Op::new("Igammac(a: T, x: T) -> (z: T); T: type", |_| binary(e::igammac)),
    Op::new("IgammaGradA(a: T, x: T) -> (z: T); T: type", |_| binary(e::igamma_grad_a)),
    Op::new("Zeta(x: T, q: T) -> (z: T); T: type", |_| binary(e::zeta)),
    Op::new("Polygamma(a: T, x: T) -> (z: T); T: type", |_| binary(e::polygamma)),
    Op::new("Betainc(a: T, b: T, x: T) -> (z: T); T: type", |_| betainc()),
    Op::new("RandomGammaGrad(alpha: T, sample: T) -> (output: T); T: type", |_| gamma_grad()),
];
