//! BatchNormalization and LayerNormalization.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};
use serde_json::Value;

use super::Entry;
use crate::config::{Axes, Fields, Initializer};
use crate::layer::{WeightOptions, WeightSpec, inputs};
use crate::{Call, Inputs, Layer};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<BatchNormalization>(&["BatchNormalization", "BatchNormalizationV1", "SyncBatchNormalization"]),
    Entry::of::<LayerNormalization>(&["LayerNormalization"]),
];

/// Mean, variance, scale and offset applied to `x`, the last two where there are any: all of shapes that broadcast.
fn normalize(
    call: &mut Call<'_>,
    x: Sym,
    [mean, variance]: [Sym; 2],
    [scale, offset]: [Option<Sym>; 2],
    epsilon: f64,
) -> Result<Sym> {
    let epsilon = call.scalar(epsilon, variance)?;
    let y = call.apply("AddV2", &[variance, epsilon])?;
    let mut factor = call.apply("Rsqrt", &[y])?;
    if let Some(scale) = scale {
        factor = call.apply("Mul", &[factor, scale])?;
    }
    let scaled = call.apply("Mul", &[x, factor])?;
    let shift = call.apply("Mul", &[mean, factor])?;
    match offset {
        Some(offset) => {
            let shift = call.apply("Sub", &[offset, shift])?;
            call.apply("AddV2", &[scaled, shift])
        }
        None => call.apply("Sub", &[scaled, shift]),
    }
}

/// The dtype in which means and variances are taken: half precision isn't enough.
fn at_least_f32(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// Normalizes each channel by the mean and variance that training saw (Keras: `BatchNormalization`).
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNormalization {
    axis: Axes,
    momentum: f64,
    epsilon: f64,
    center: bool,
    scale: bool,
    beta: WeightOptions,
    gamma: WeightOptions,
    moving_mean: Initializer,
    moving_variance: Initializer,
    synchronized: bool,
    renorm: bool,
}

impl Default for BatchNormalization {
    fn default() -> Self {
        BatchNormalization {
            axis: Axes { axes: vec![-1], listed: true },
            momentum: 0.99,
            epsilon: 1e-3,
            center: true,
            scale: true,
            beta: WeightOptions::new(Initializer::Zeros),
            gamma: WeightOptions::new(Initializer::Ones),
            moving_mean: Initializer::Zeros,
            moving_variance: Initializer::Ones,
            synchronized: false,
            renorm: false,
        }
    }
}

impl BatchNormalization {
    /// Normalizes the last axis.
    pub fn new() -> Self {
        BatchNormalization::default()
    }

    /// The single axis; Keras 2 could once name several.
    fn axis(&self, rank: usize) -> Result<usize> {
        match self.axis.resolve(rank)?[..] {
            [axis] => Ok(axis),
            _ => Err(Error::unsupported("normalizing several axes at once")),
        }
    }
}

impl Layer for BatchNormalization {
    fn class_name(&self) -> &str {
        "BatchNormalization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("axis", &mut self.axis);
        f.field("momentum", &mut self.momentum);
        f.field("epsilon", &mut self.epsilon);
        f.field("center", &mut self.center);
        f.field("scale", &mut self.scale);
        f.field("beta_initializer", &mut self.beta.initializer);
        f.field("gamma_initializer", &mut self.gamma.initializer);
        f.field("moving_mean_initializer", &mut self.moving_mean);
        f.field("moving_variance_initializer", &mut self.moving_variance);
        f.field("beta_regularizer", &mut self.beta.regularizer);
        f.field("gamma_regularizer", &mut self.gamma.regularizer);
        f.field("beta_constraint", &mut self.beta.constraint);
        f.field("gamma_constraint", &mut self.gamma.constraint);
        f.keras3("synchronized", &mut self.synchronized);
        f.keras3("renorm", &mut self.renorm);
        for key in ["renorm_clipping", "renorm_momentum", "fused", "virtual_batch_size", "mode", "name_scope"] {
            f.constant(key, &[], Value::Null);
        }
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let input = inputs.first()?;
        let width = input.known(self.axis(input.rank()?)? as i64)?;
        let mut weights = Vec::new();
        if self.scale {
            weights.push(self.gamma.weight("gamma", [width]));
        }
        if self.center {
            weights.push(self.beta.weight("beta", [width]));
        }
        weights.push(WeightSpec::new("moving_mean", [width], &self.moving_mean).fixed());
        weights.push(WeightSpec::new("moving_variance", [width], &self.moving_variance).fixed());
        Ok(weights)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let spec = call.spec(x);
        let rank = spec.rank()?;
        let axis = self.axis(rank)?;
        let dtype = at_least_f32(spec.dtype);
        let wide = call.cast(x, dtype)?;
        let mut read = |name: &str, there: bool| -> Result<Option<Sym>> {
            if !there {
                return Ok(None);
            }
            let weight = call.raw_weight(name)?;
            let weight = call.cast(weight, dtype)?;
            if axis + 1 == rank {
                return Ok(Some(weight));
            }
            let mut shape = vec![1i64; rank];
            if let Some(extent) = shape.get_mut(axis) {
                *extent = -1;
            }
            call.reshape(weight, &shape).map(Some)
        };
        let (gamma, beta) = (read("gamma", self.scale)?, read("beta", self.center)?);
        let (Some(mean), Some(variance)) = (read("moving_mean", true)?, read("moving_variance", true)?) else {
            return Err(Error::missing("the layer has no statistics"));
        };
        let y = normalize(call, wide, [mean, variance], [gamma, beta], self.epsilon)?;
        Ok(vec![call.cast(y, spec.dtype)?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}

/// Normalizes each row by its own mean and variance (Keras: `LayerNormalization`).
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormalization {
    axis: Axes,
    epsilon: f64,
    center: bool,
    scale: bool,
    beta: WeightOptions,
    gamma: WeightOptions,
    rms_scaling: bool,
}

impl Default for LayerNormalization {
    fn default() -> Self {
        LayerNormalization {
            axis: Axes { axes: vec![-1], listed: true },
            epsilon: 1e-3,
            center: true,
            scale: true,
            beta: WeightOptions::new(Initializer::Zeros),
            gamma: WeightOptions::new(Initializer::Ones),
            rms_scaling: false,
        }
    }
}

impl LayerNormalization {
    /// Normalizes the last axis.
    pub fn new() -> Self {
        LayerNormalization::default()
    }

    /// The same with this added to the variance.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }
}

impl Layer for LayerNormalization {
    fn class_name(&self) -> &str {
        "LayerNormalization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("axis", &mut self.axis);
        f.field("epsilon", &mut self.epsilon);
        f.field("center", &mut self.center);
        f.field("scale", &mut self.scale);
        f.field("beta_initializer", &mut self.beta.initializer);
        f.field("gamma_initializer", &mut self.gamma.initializer);
        f.field("beta_regularizer", &mut self.beta.regularizer);
        f.field("gamma_regularizer", &mut self.gamma.regularizer);
        f.field("beta_constraint", &mut self.beta.constraint);
        f.field("gamma_constraint", &mut self.gamma.constraint);
        f.keras3("rms_scaling", &mut self.rms_scaling);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let input = inputs.first()?;
        let axes = self.axis.resolve(input.rank()?)?;
        let shape = axes.iter().map(|&a| input.known(a as i64)).collect::<Result<Vec<_>>>()?;
        let mut weights = Vec::new();
        if self.scale || self.rms_scaling {
            weights.push(self.gamma.weight("gamma", shape.clone()));
        }
        if self.center && !self.rms_scaling {
            weights.push(self.beta.weight("beta", shape));
        }
        Ok(weights)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let spec = call.spec(x);
        let rank = spec.rank()?;
        let axes = self.axis.resolve(rank)?;
        let dtype = at_least_f32(spec.dtype);
        let wide = call.cast(x, dtype)?;
        let mut read = |name: &str, there: bool| -> Result<Option<Sym>> {
            if !there {
                return Ok(None);
            }
            let weight = call.raw_weight(name)?;
            let weight = call.cast(weight, dtype)?;
            if axes[..] == [rank - 1] {
                return Ok(Some(weight));
            }
            let extent = |a: usize| if axes.contains(&a) { spec.known(a as i64).map(|d| d as i64) } else { Ok(1) };
            let shape = (0..rank).map(extent).collect::<Result<Vec<_>>>()?;
            call.reshape(weight, &shape).map(Some)
        };
        let gamma = read("gamma", self.scale || self.rms_scaling)?;
        let beta = read("beta", self.center && !self.rms_scaling)?;
        let along: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        let mean = call.reduce("Mean", wide, &along, true)?;
        let squares = call.apply("SquaredDifference", &[wide, mean])?;
        let variance = call.reduce("Mean", squares, &along, true)?;
        let y = if self.rms_scaling {
            let epsilon = call.scalar(self.epsilon, variance)?;
            let y = call.apply("AddV2", &[variance, epsilon])?;
            let factor = call.apply("Rsqrt", &[y])?;
            let y = call.apply("Mul", &[wide, factor])?;
            match gamma {
                Some(gamma) => call.apply("Mul", &[y, gamma])?,
                None => y,
            }
        } else {
            normalize(call, wide, [mean, variance], [gamma, beta], self.epsilon)?
        };
        Ok(vec![call.cast(y, spec.dtype)?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}
