//! Activation functions that have layers of their own, with parameters.

use modelark_artifact::{Dialect, Result};
use modelark_artifact::graph::Sym;

use super::Entry;
use crate::config::{Axes, Fields, Initializer};
use crate::layer::{WeightOptions, WeightSpec, inputs};
use crate::{Call, Inputs, Layer};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<ReLU>(&["ReLU"]),
    Entry::of::<LeakyReLU>(&["LeakyReLU"]),
    Entry::of::<ELU>(&["ELU"]),
    Entry::of::<Softmax>(&["Softmax"]),
    Entry::of::<PReLU>(&["PReLU"]),
    Entry::of::<ThresholdedReLU>(&["ThresholdedReLU"]),
];

/// `x` between `threshold` and `max_value`, `negative_slope * (x - threshold)` below (Keras: `ReLU`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReLU {
    max_value: Option<f64>,
    negative_slope: f64,
    threshold: f64,
}

impl Layer for ReLU {
    fn class_name(&self) -> &str {
        "ReLU"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("max_value", &mut self.max_value);
        let mut slope = Some(self.negative_slope);
        f.field("negative_slope", &mut slope);
        self.negative_slope = slope.unwrap_or_default();
        let mut threshold = Some(self.threshold);
        f.field("threshold", &mut threshold);
        self.threshold = threshold.unwrap_or_default();
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let (threshold, zero) = (call.scalar(self.threshold, x)?, call.scalar(0.0, x)?);
        let mut y = if self.threshold == 0.0 {
            match self.max_value {
                Some(6.0) if self.negative_slope == 0.0 => return Ok(vec![call.apply("Relu6", &[x])?]),
                _ => call.apply("Relu", &[x])?,
            }
        } else {
            let above = call.apply("Greater", &[x, threshold])?;
            let above = call.cast(above, call.dtype(x))?;
            call.apply("Mul", &[x, above])?
        };
        if let Some(max) = self.max_value {
            let (max, low) = (call.scalar(max, x)?, zero);
            y = call.apply("Minimum", &[y, max])?;
            y = call.apply("Maximum", &[y, low])?;
        }
        if self.negative_slope != 0.0 {
            let (slope, below) = (call.scalar(self.negative_slope, x)?, call.apply("Sub", &[threshold, x])?);
            let below = call.apply("Relu", &[below])?;
            let below = call.apply("Mul", &[slope, below])?;
            y = call.apply("Sub", &[y, below])?;
        }
        Ok(vec![y])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}

/// `x` above zero, `negative_slope * x` below (Keras: `LeakyReLU`).
#[derive(Debug, Clone, PartialEq)]
pub struct LeakyReLU {
    negative_slope: f64,
}

impl Default for LeakyReLU {
    fn default() -> Self {
        LeakyReLU { negative_slope: 0.3 }
    }
}

impl LeakyReLU {
    /// A layer of this slope.
    pub fn new(negative_slope: f64) -> Self {
        LeakyReLU { negative_slope }
    }
}

impl Layer for LeakyReLU {
    fn class_name(&self) -> &str {
        "LeakyReLU"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.renamed("negative_slope", "alpha", &mut self.negative_slope);
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        Ok(vec![crate::config::leaky_relu(call, x, self.negative_slope)?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}

/// `x` above zero, `alpha * (exp(x) - 1)` below (Keras: `ELU`).
#[derive(Debug, Clone, PartialEq)]
pub struct ELU {
    alpha: f64,
}

impl Default for ELU {
    fn default() -> Self {
        ELU { alpha: 1.0 }
    }
}

impl Layer for ELU {
    fn class_name(&self) -> &str {
        "ELU"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("alpha", &mut self.alpha);
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let y = call.apply("Elu", &[x])?;
        if self.alpha == 1.0 {
            return Ok(vec![y]);
        }
        let (zero, alpha) = (call.scalar(0.0, x)?, call.scalar(self.alpha, x)?);
        let (above, scaled) = (call.apply("Greater", &[x, zero])?, call.apply("Mul", &[alpha, y])?);
        Ok(vec![call.apply("SelectV2", &[above, y, scaled])?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}

/// Softmax along one axis or several; what a mask excludes gets no share (Keras: `Softmax`).
#[derive(Debug, Clone, PartialEq)]
pub struct Softmax {
    axis: Axes,
}

impl Default for Softmax {
    fn default() -> Self {
        Softmax { axis: Axes::one(-1) }
    }
}

impl Layer for Softmax {
    fn class_name(&self) -> &str {
        "Softmax"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("axis", &mut self.axis);
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let x = *given.first().ok_or_else(|| modelark_artifact::Error::mismatch("it takes an input"))?;
        let mut logits = x;
        if let Some(mask) = call.keyword_tensor("mask").or(given.get(1).copied()) {
            let (mask, one, least) = (call.cast(mask, call.dtype(x))?, call.scalar(1.0, x)?, call.scalar(-1e9, x)?);
            let excluded = call.apply("Sub", &[one, mask])?;
            let adder = call.apply("Mul", &[excluded, least])?;
            logits = call.apply("AddV2", &[x, adder])?;
            let spec = call.spec(x);
            call.describe(logits, spec);
        }
        if let [axis] = self.axis.axes[..] {
            return Ok(vec![crate::config::softmax(call, logits, "Softmax", axis)?]);
        }
        let axes = self.axis.axes.clone();
        let max = call.reduce("Max", logits, &axes, true)?;
        let y = call.apply("Sub", &[logits, max])?;
        let y = call.apply("Exp", &[y])?;
        let sum = call.reduce("Sum", y, &axes, true)?;
        Ok(vec![call.apply("RealDiv", &[y, sum])?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}

/// `x` above zero, `alpha * x` below, with a learned `alpha` for each unit (Keras: `PReLU`).
#[derive(Debug, Clone, PartialEq)]
pub struct PReLU {
    alpha: WeightOptions,
    shared_axes: Option<Vec<i64>>,
}

impl Default for PReLU {
    fn default() -> Self {
        PReLU { alpha: WeightOptions::new(Initializer::Zeros), shared_axes: None }
    }
}

impl Layer for PReLU {
    fn class_name(&self) -> &str {
        "PReLU"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        self.alpha.visit("alpha", f);
        f.field("shared_axes", &mut self.shared_axes);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let input = inputs.first()?;
        let shared = self.shared_axes.as_deref().unwrap_or_default();
        let shape = (1..input.rank()?)
            .map(|axis| if shared.contains(&(axis as i64)) { Ok(1) } else { input.known(axis as i64) })
            .collect::<Result<Vec<_>>>()?;
        Ok(vec![self.alpha.weight("alpha", shape)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let alpha = call.weight("alpha")?;
        let above = call.apply("Relu", &[x])?;
        let below = call.apply("Neg", &[x])?;
        let below = call.apply("Relu", &[below])?;
        let slope = call.apply("Neg", &[alpha])?;
        let below = call.apply("Mul", &[slope, below])?;
        Ok(vec![call.apply("AddV2", &[above, below])?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}

/// `x` above `theta`, zero elsewhere (Keras 1 and 2: `ThresholdedReLU`).
#[derive(Debug, Clone, PartialEq)]
pub struct ThresholdedReLU {
    theta: f64,
}

impl Default for ThresholdedReLU {
    fn default() -> Self {
        ThresholdedReLU { theta: 1.0 }
    }
}

impl Layer for ThresholdedReLU {
    fn class_name(&self) -> &str {
        "ThresholdedReLU"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("theta", &mut self.theta);
    }

    fn written_as(&self, dialect: Dialect) -> Option<Box<dyn Layer>> {
        let like = ReLU { threshold: self.theta, ..ReLU::default() };
        (dialect == Dialect::Keras3).then(|| Box::new(like) as Box<dyn Layer>)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let theta = call.scalar(self.theta, x)?;
        let above = call.apply("Greater", &[x, theta])?;
        let above = call.cast(above, call.dtype(x))?;
        Ok(vec![call.apply("Mul", &[x, above])?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}
