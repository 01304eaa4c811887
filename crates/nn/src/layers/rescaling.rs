//! Rescaling.

use modelark_artifact::Result;
use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::Tensor;
use serde_json::{Value, json};

use super::Entry;
use crate::config::{ConfigValue, Fields, Reader, Writer};
use crate::layer::inputs;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<Rescaling>(&["Rescaling"])];

/// One factor for all channels, or one for each.
#[derive(Debug, Clone, PartialEq)]
struct Factors(Vec<f64>);

impl ConfigValue for Factors {
    fn read(value: &Value, reader: &Reader<'_>) -> Result<Self> {
        match value {
            Value::Array(_) => Vec::read(value, reader).map(Factors),
            one => f64::read(one, reader).map(|f| Factors(vec![f])),
        }
    }

    fn write(&self, writer: &mut Writer) -> Value {
        match self.0[..] {
            [one] => one.write(writer),
            ref all => json!(all),
        }
    }
}

impl Factors {
    fn constant(&self, call: &mut Call<'_>, like: Sym) -> Result<Sym> {
        if let [one] = self.0[..] {
            return call.scalar(one, like);
        }
        let dtype = call.dtype(like);
        let all = call.constant(Tensor::from_slice(&self.0, [self.0.len()])?)?;
        call.cast(all, dtype)
    }
}

/// `x * scale + offset` (Keras: `Rescaling`).
#[derive(Debug, Clone, PartialEq)]
pub struct Rescaling {
    scale: Factors,
    offset: Factors,
}

impl Default for Rescaling {
    fn default() -> Self {
        Rescaling { scale: Factors(vec![1.0]), offset: Factors(vec![0.0]) }
    }
}

impl Rescaling {
    /// `x * scale + offset`.
    pub fn new(scale: f64, offset: f64) -> Self {
        Rescaling { scale: Factors(vec![scale]), offset: Factors(vec![offset]) }
    }
}

impl Layer for Rescaling {
    fn class_name(&self) -> &str {
        "Rescaling"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("scale", &mut self.scale);
        f.field("offset", &mut self.offset);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![Spec { shape: inputs.first()?.shape.clone(), dtype: inputs.compute_dtype() }])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let x = call.cast(x, call.inputs().compute_dtype())?;
        let (scale, offset) = (self.scale.constant(call, x)?, self.offset.constant(call, x)?);
        let y = call.apply("Mul", &[x, scale])?;
        Ok(vec![call.apply("AddV2", &[y, offset])?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}
