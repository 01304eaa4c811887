//! Activations as a value, for kernels that apply one as their last step.
#![allow(
    clippy::redundant_closure,
    reason = "a closure that is marked inline is vectorised where it is called; a function's name isn't"
)]

use super::elementwise::{self, math};
use super::simd::{self, Isa};
use crate::{DType, Error, Result, Tensor};

/// A function of one number that ends a layer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// The number itself.
    #[default]
    Linear,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x`, or this much of it where it is negative.
    LeakyRelu(f32),
    /// `x`, or `e^x - 1` where it is negative.
    Elu,
    /// The scaled variant of [`Activation::Elu`].
    Selu,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `max(0, min(1, slope * x + offset))`: slope 0.2 and offset 0.5 in Keras 2, 1/6 and 0.5 in Keras 3.
    HardSigmoid {
        /// The factor of `x`.
        slope: f64,
        /// What is added.
        offset: f64,
    },
    /// `x * max(0, min(1, x / 6 + 0.5))`, also called hard SiLU.
    HardSwish,
    /// The hyperbolic tangent.
    Tanh,
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `x / (1 + e^-x)`, also called SiLU.
    Swish,
    /// `x` times the normal distribution's share below it, exactly.
    Gelu,
    /// [`Activation::Gelu`] by the usual approximation with a tangent.
    GeluTanh,
    /// `e^x`.
    Exponential,
}

impl Activation {
    /// The activation of every element of a float tensor, in place when nobody else holds them.
    ///
    /// # Errors
    /// When the dtype isn't a float.
    pub fn apply(self, x: Tensor) -> Result<Tensor> {
        if self == Activation::Linear {
            return Ok(x);
        }
        match x.dtype() {
            DType::F32 => {
                let mut x = x;
                let values = x.make_mut::<f32>()?;
                super::parallel::for_parts(values, 1, 1, |_, part| self.apply_f32(part));
                Ok(x)
            }
            DType::F64 => {
                let mut x = x;
                let values = x.make_mut::<f64>()?;
                super::parallel::for_parts(values, 1, 1, |_, part| self.apply_f64(part));
                Ok(x)
            }
            DType::F16 | DType::BF16 => {
                let dtype = x.dtype();
                super::array::cast(&self.apply(super::array::cast(&x, DType::F32)?)?, dtype)
            }
            d => Err(Error::dtype("a float one", d)),
        }
    }

    /// The activation of every number, in place, on this thread.
    pub(crate) fn apply_f32(self, values: &mut [f32]) {
        #[inline(always)]
        fn each(values: &mut [f32], f: impl Fn(Isa, f32) -> f32) {
            simd::run(
                #[inline(always)]
                |isa| {
                    for v in values.iter_mut() {
                        *v = f(isa, *v);
                    }
                },
            );
        }
        match self {
            Activation::Linear => {}
            Activation::Relu => each(values, |_, v| if v < 0.0 { 0.0 } else { v }),
            Activation::Relu6 => each(values, |_, v| clip(v, 6.0)),
            Activation::LeakyRelu(alpha) => each(values, |_, v| if v > 0.0 { v } else { alpha * v }),
            Activation::Elu => each(
                values,
                #[inline(always)]
                |isa, v| math::elu_f32(isa, v),
            ),
            Activation::Selu => each(
                values,
                #[inline(always)]
                |isa, v| math::selu_f32(isa, v),
            ),
            Activation::Sigmoid => each(
                values,
                #[inline(always)]
                |isa, v| math::sigmoid_f32(isa, v),
            ),
            Activation::HardSigmoid { slope, offset } => {
                let (slope, offset) = (slope as f32, offset as f32);
                each(values, |_, v| clip(slope * v + offset, 1.0));
            }
            Activation::HardSwish => each(values, |_, v| v * clip(v * (1.0 / 6.0) + 0.5, 1.0)),
            Activation::Tanh => each(
                values,
                #[inline(always)]
                |isa, v| math::tanh_f32(isa, v),
            ),
            Activation::Softplus => each(
                values,
                #[inline(always)]
                |isa, v| math::softplus_f32(isa, v),
            ),
            Activation::Softsign => each(values, |_, v| v / (v.abs() + 1.0)),
            Activation::Swish => each(
                values,
                #[inline(always)]
                |isa, v| v * math::sigmoid_f32(isa, v),
            ),
            Activation::Gelu => each(
                values,
                #[inline(always)]
                |isa, v| 0.5 * v * (1.0 + math::erf_f32(isa, v * std::f32::consts::FRAC_1_SQRT_2)),
            ),
            Activation::GeluTanh => each(
                values,
                #[inline(always)]
                |isa, v| {
                    0.5 * v
                        * (1.0 + math::tanh_f32(isa, GELU_SCALE as f32 * (v + GELU_CUBE as f32 * v * v * v)))
                },
            ),
            Activation::Exponential => each(
                values,
                #[inline(always)]
                |isa, v| math::exp_f32(isa, v),
            ),
        }
    }

    /// The activation of every number, in place, on this thread.
    pub(crate) fn apply_f64(self, values: &mut [f64]) {
        fn each(values: &mut [f64], f: impl Fn(f64) -> f64) {
            values.iter_mut().for_each(|v| *v = f(*v));
        }
        let sigmoid = |v: f64| elementwise::sigmoid_f64(v);
        match self {
            Activation::Linear => {}
            Activation::Relu => each(values, |v| if v < 0.0 { 0.0 } else { v }),
            Activation::Relu6 => each(values, |v| clip(v, 6.0)),
            Activation::LeakyRelu(alpha) => each(values, |v| if v > 0.0 { v } else { f64::from(alpha) * v }),
            Activation::Elu => each(values, |v| if v < 0.0 { v.exp() - 1.0 } else { v }),
            Activation::Selu => each(values, elementwise::selu_f64),
            Activation::Sigmoid => each(values, sigmoid),
            Activation::HardSigmoid { slope, offset } => {
                each(values, |v| clip(slope * v + offset, 1.0));
            }
            Activation::HardSwish => each(values, |v| v * clip(v / 6.0 + 0.5, 1.0)),
            Activation::Tanh => each(values, f64::tanh),
            Activation::Softplus => each(values, elementwise::softplus_f64),
            Activation::Softsign => each(values, |v| v / (v.abs() + 1.0)),
            Activation::Swish => each(values, |v| v * sigmoid(v)),
            Activation::Gelu => {
                each(values, |v| 0.5 * v * (1.0 + libm::erf(v * std::f64::consts::FRAC_1_SQRT_2)))
            }
            Activation::GeluTanh => {
                each(values, |v| 0.5 * v * (1.0 + (GELU_SCALE * (v + GELU_CUBE * v * v * v)).tanh()));
            }
            Activation::Exponential => each(values, f64::exp),
        }
    }
}

/// A float that activations work on.
pub(crate) trait Activate: Sized {
    /// The activation of every number, in place, on this thread.
    fn activate(activation: Activation, values: &mut [Self]);
}

impl Activate for f32 {
    fn activate(activation: Activation, values: &mut [f32]) {
        activation.apply_f32(values);
    }
}

impl Activate for f64 {
    fn activate(activation: Activation, values: &mut [f64]) {
        activation.apply_f64(values);
    }
}

/// `√(2/π)`.
const GELU_SCALE: f64 = 0.797_884_560_802_865_4;
const GELU_CUBE: f64 = 0.044_715;

/// Between 0 and `top`; NaN stays.
#[inline(always)]
fn clip<T: PartialOrd + Default>(v: T, top: T) -> T {
    let v = if v < T::default() { T::default() } else { v };
    if v > top { top } else { v }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 15] = [
        Activation::Linear,
        Activation::Relu,
        Activation::Relu6,
        Activation::LeakyRelu(0.1),
        Activation::Elu,
        Activation::Selu,
        Activation::Sigmoid,
        Activation::HardSigmoid { slope: 0.2, offset: 0.5 },
        Activation::Tanh,
        Activation::Softplus,
        Activation::Softsign,
        Activation::Swish,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Exponential,
    ];

    #[test]
    fn single_and_double_precision_agree() {
        let x: Vec<f64> = (-80..=80).map(|i| f64::from(i) / 10.0).collect();
        for activation in ALL {
            let wide = activation.apply(Tensor::from_slice(&x, [x.len()]).expect("tensor")).expect("f64");
            let single: Vec<f32> = x.iter().map(|&v| v as f32).collect();
            let narrow = activation.apply(Tensor::from_vec(single, [x.len()]).expect("tensor")).expect("f32");
            for (i, (a, b)) in wide
                .as_slice::<f64>()
                .expect("f64")
                .iter()
                .zip(narrow.as_slice::<f32>().expect("f32"))
                .enumerate()
            {
                assert!(
                    (a - f64::from(*b)).abs() < 2e-6 * a.abs().max(1.0),
                    "{activation:?}({}): {a} {b}",
                    x[i]
                );
            }
        }
    }

    #[test]
    fn known_values() {
        let at =
            |a: Activation, v: f64| a.apply(Tensor::scalar(v)).expect("result").item::<f64>().expect("f64");
        assert_eq!(at(Activation::HardSigmoid { slope: 0.25, offset: 0.5 }, 1.0), 0.75);
        assert_eq!(at(Activation::HardSigmoid { slope: 0.25, offset: 0.5 }, 9.0), 1.0);
        assert!((at(Activation::Gelu, 1.0) - 0.841_344_746_068_542_9).abs() < 1e-12);
        assert!((at(Activation::Swish, 1.0) - 0.731_058_578_630_004_9).abs() < 1e-12);
        assert!(Activation::Relu.apply(Tensor::scalar(1i32)).is_err());
    }
}
