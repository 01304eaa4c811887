//! A layer at every time step by itself.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Error, Result};

use super::{Dense, Entry};
use crate::config::Fields;
use crate::layer::Sublayer;
use crate::{Call, Inputs, Instance, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<TimeDistributed>(&["TimeDistributed"])];

/// Applies a layer to every time step, which is every index of the axis after the batch (Keras: `TimeDistributed`).
#[derive(Debug, Clone)]
pub struct TimeDistributed {
    layer: Instance,
    /// Whether the config was of a dialect in which the layer's own mask is the output's.
    keras2: bool,
}

impl Default for TimeDistributed {
    fn default() -> Self {
        TimeDistributed::new(Dense::default())
    }
}

impl TimeDistributed {
    /// This layer at every time step.
    pub fn new(layer: impl Into<Instance>) -> Self {
        TimeDistributed { layer: layer.into(), keras2: false }
    }
}

/// What one step gets of an input.
fn step(input: &Spec) -> Result<Spec> {
    match input.dims()? {
        [batch, _, rest @ ..] if !rest.is_empty() => {
            Ok(input.with_shape(std::iter::once(*batch).chain(rest.iter().copied()).collect::<Vec<_>>()))
        }
        _ => Err(Error::mismatch(format!("it takes at least 3 dimensions, but got {}", input.shape))),
    }
}

/// The tensor with its first `from` dimensions replaced by `leading`.
fn releaded(call: &mut Call<'_>, x: Sym, leading: &[Sym], from: i64) -> Result<Sym> {
    let shape = call.apply("Shape", &[x])?;
    let rest = call.slice(shape, &[(Some(from), None, 1)])?;
    let (leading, axis) = (call.shape(leading)?, call.int(0)?);
    let shape = call.apply("ConcatV2", &[leading, rest, axis])?;
    call.apply("Reshape", &[x, shape])
}

impl Layer for TimeDistributed {
    fn class_name(&self) -> &str {
        "TimeDistributed"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        if f.is_reading() {
            self.keras2 = f.dialect() != Dialect::Keras3;
        }
        f.required("layer", &mut self.layer);
    }

    fn masks_by_dialect(&self) -> bool {
        true
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        let steps = inputs.all().iter().map(step).collect::<Result<_>>()?;
        Ok(vec![Sublayer::new("layer", &self.layer, steps)])
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let steps = inputs.all().iter().map(step).collect::<Result<Vec<_>>>()?;
        let time = inputs.first()?.dims()?.get(1).copied().flatten();
        let every = |spec: Spec| {
            let mut dims = spec.dims()?.to_vec();
            dims.insert(dims.len().min(1), time);
            Ok(spec.with_shape(dims))
        };
        self.layer.output(&steps)?.into_iter().map(every).collect()
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let &x = given.first().ok_or_else(|| Error::mismatch("it takes at least one input"))?;
        let specs = call.inputs().all().iter().map(step).collect::<Result<Vec<_>>>()?;
        let all = call.int(-1)?;
        let mut steps = Vec::with_capacity(given.len());
        for (&x, spec) in given.iter().zip(specs) {
            let mut flat = spec.dims()?.to_vec();
            if let Some(batch) = flat.first_mut() {
                *batch = None;
            }
            let y = releaded(call, x, &[all], 2)?;
            call.describe(y, spec.with_shape(flat));
            if let Some(mask) = call.mask(x) {
                let mask = releaded(call, mask, &[all], 2)?;
                call.set_mask(y, Some(mask));
            }
            steps.push(y);
        }
        let batch = call.extent(x, 0)?;
        let time = call.extent(x, 1)?;
        let made = call.sublayer("layer", &self.layer, &steps)?;
        let mut outputs = Vec::with_capacity(made.len());
        for y in made {
            let out = releaded(call, y, &[batch, time], 1)?;
            if let Some(mask) = call.mask(y) {
                let mask = releaded(call, mask, &[batch, time], 1)?;
                call.set_mask(out, Some(mask));
            }
            outputs.push(out);
        }
        Ok(outputs)
    }

    fn takes_ragged(&self) -> bool {
        true
    }

    fn masks(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Option<Sym>>> {
        let Some(&x) = given.first() else { return Ok(Vec::new()) };
        let mask = call.mask(x);
        if !self.keras2 || call.row_ends(x).is_some() {
            return Ok(vec![mask]);
        }
        let outputs = call.outputs().to_vec();
        let own: Vec<Option<Sym>> = outputs.iter().map(|&y| call.mask(y)).collect();
        match mask {
            Some(mask) if own.iter().all(Option::is_none) => {
                // A step counts where any of what it is made of does.
                let (batch, time, rest) = (call.extent(x, 0)?, call.extent(x, 1)?, call.int(-1)?);
                let shape = call.shape(&[batch, time, rest])?;
                let mask = call.apply("Reshape", &[mask, shape])?;
                Ok(vec![Some(call.reduce("Any", mask, &[2], false)?)])
            }
            _ => Ok(own),
        }
    }
}
