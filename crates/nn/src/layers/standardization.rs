//! Normalization by means and variances that were measured before training.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};
use serde_json::Value;

use super::Entry;
use crate::config::{Axes, Fields, Initializer, numbers};
use crate::layer::{WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<Normalization>(&["Normalization"])];

/// `(x - mean) / sqrt(variance)`, of the config or of weights (Keras: `Normalization`).
#[derive(Debug, Clone, PartialEq)]
pub struct Normalization {
    axis: Option<Axes>,
    mean: Value,
    variance: Value,
    invert: bool,
}

impl Default for Normalization {
    fn default() -> Self {
        let axis = Some(Axes { axes: vec![-1], listed: true });
        Normalization { axis, mean: Value::Null, variance: Value::Null, invert: false }
    }
}

impl Normalization {
    /// With the mean and variance of each feature.
    pub fn new(mean: &[f64], variance: &[f64]) -> Self {
        Normalization { mean: mean.into(), variance: variance.into(), ..Self::default() }
    }

    /// The same the other way round.
    pub fn invert(mut self) -> Self {
        self.invert = true;
        self
    }

    fn axes(&self, input: &Spec) -> Result<Vec<usize>> {
        self.axis.as_ref().map_or(Ok(Vec::new()), |axis| axis.resolve(input.rank()?))
    }

    /// A number of the config, or an array of any rank, aligned with the kept axes from the last.
    fn constant(&self, call: &mut Call<'_>, value: &Value, spec: &Spec, dtype: DType) -> Result<Sym> {
        let (mut shape, mut flat) = (Vec::new(), Vec::new());
        collect(value, 0, &mut shape, &mut flat)?;
        let rank = spec.rank()?;
        let mut full = vec![1; rank];
        // Dimensions of 1 before the rest mean nothing.
        let from = shape.iter().position(|d| *d != 1).unwrap_or(shape.len());
        for (axis, extent) in self.axes(spec)?.iter().rev().zip(shape[from..].iter().rev()) {
            if let Some(d) = full.get_mut(*axis) {
                *d = *extent;
            }
        }
        call.constant(numbers(&flat, &full, dtype)?)
    }

    fn statistic(&self, call: &mut Call<'_>, name: &str, spec: &Spec, dtype: DType) -> Result<Sym> {
        let value = if name == "mean" { &self.mean } else { &self.variance };
        if !value.is_null() {
            return self.constant(call, value, spec, dtype);
        }
        let weight = call.raw_weight(name)?;
        let weight = call.cast(weight, dtype)?;
        let mut shape = vec![1i64; spec.rank()?];
        for axis in self.axes(spec)? {
            if let Some(d) = shape.get_mut(axis) {
                *d = spec.known(axis as i64)? as i64;
            }
        }
        call.reshape(weight, &shape)
    }
}

fn collect(value: &Value, depth: usize, shape: &mut Vec<usize>, flat: &mut Vec<f64>) -> Result<()> {
    match value {
        Value::Array(items) => {
            match shape.get(depth) {
                None if depth == shape.len() && flat.is_empty() => shape.push(items.len()),
                Some(extent) if *extent == items.len() => {}
                _ => return Err(Error::corrupt("rows of different lengths")),
            }
            items.iter().try_for_each(|item| collect(item, depth + 1, shape, flat))
        }
        one => {
            flat.push(one.as_f64().ok_or_else(|| crate::config::expected("a number", one))?);
            Ok(())
        }
    }
}

impl Layer for Normalization {
    fn class_name(&self) -> &str {
        "Normalization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("axis", &mut self.axis);
        f.field("invert", &mut self.invert);
        f.field("mean", &mut self.mean);
        f.field("variance", &mut self.variance);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        if !self.mean.is_null() {
            return Ok(Vec::new());
        }
        let input = inputs.first()?;
        let shape = self.axes(input)?.iter().map(|&a| input.known(a as i64)).collect::<Result<Vec<_>>>()?;
        let count = WeightSpec::new("count", Vec::new(), &Initializer::Zeros).fixed();
        Ok(vec![
            WeightSpec::new("mean", shape.clone(), &Initializer::Zeros).fixed(),
            WeightSpec::new("variance", shape, &Initializer::Ones).fixed(),
            count.dtype(DType::I64),
        ])
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![Spec { shape: inputs.first()?.shape.clone(), dtype: inputs.compute_dtype() }])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let spec = call.spec(x);
        let dtype = call.inputs().compute_dtype();
        let x = call.cast(x, dtype)?;
        let (mean, variance) =
            (self.statistic(call, "mean", &spec, dtype)?, self.statistic(call, "variance", &spec, dtype)?);
        let deviation = call.apply("Sqrt", &[variance])?;
        let least = call.scalar(1e-7, deviation)?;
        let deviation = call.apply("Maximum", &[deviation, least])?;
        if self.invert {
            let y = call.apply("Mul", &[x, deviation])?;
            return Ok(vec![call.apply("AddV2", &[y, mean])?]);
        }
        let y = call.apply("Sub", &[x, mean])?;
        Ok(vec![call.apply("RealDiv", &[y, deviation])?])
    }
}
