//! The classes that the models of `keras.applications` bring with them.

use modelark_artifact::Result;
use modelark_artifact::graph::Sym;

use super::Entry;
use crate::config::{Fields, Initializer};
use crate::layer::{WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Spec};

const CONVNEXT: &str = "keras.src.applications.convnext";

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<LayerScale>(&["LayerScale"]).within(CONVNEXT),
    Entry::of::<StochasticDepth>(&["StochasticDepth"]).within(CONVNEXT),
    Entry::of::<CustomScaleLayer>(&["CustomScaleLayer", "Custom>CustomScaleLayer"])
        .within("keras.src.applications.inception_resnet_v2")
        .registered("Custom>CustomScaleLayer"),
];

/// Multiplies each channel by a learned factor (Keras: `keras.applications.convnext.LayerScale`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerScale {
    init_values: f64,
    projection_dim: usize,
}

impl LayerScale {
    /// Factors of so many channels, which start from this.
    pub fn new(init_values: f64, projection_dim: usize) -> Self {
        LayerScale { init_values, projection_dim }
    }
}

impl Layer for LayerScale {
    fn class_name(&self) -> &str {
        "LayerScale"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("init_values", &mut self.init_values);
        f.required("projection_dim", &mut self.projection_dim);
    }

    fn weights(&self, _: &Inputs) -> Result<Vec<WeightSpec>> {
        Ok(vec![WeightSpec::new("gamma", [self.projection_dim], &Initializer::Constant(self.init_values))])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let gamma = call.weight("gamma")?;
        Ok(vec![call.apply("Mul", &[x, gamma])?])
    }
}

/// Drops whole samples in training (Keras: `keras.applications.convnext.StochasticDepth`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StochasticDepth {
    drop_path_rate: f64,
}

impl StochasticDepth {
    /// Drops this share of the samples.
    pub fn new(drop_path_rate: f64) -> Self {
        StochasticDepth { drop_path_rate }
    }
}

impl Layer for StochasticDepth {
    fn class_name(&self) -> &str {
        "StochasticDepth"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("drop_path_rate", &mut self.drop_path_rate);
    }

    fn call(&self, _: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        Ok(vec![x])
    }
}

/// The first input and a multiple of the second (Keras:
/// `keras.applications.inception_resnet_v2.CustomScaleLayer`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CustomScaleLayer {
    scale: f64,
}

impl CustomScaleLayer {
    /// The second input is multiplied by this.
    pub fn new(scale: f64) -> Self {
        CustomScaleLayer { scale }
    }
}

impl Layer for CustomScaleLayer {
    fn class_name(&self) -> &str {
        "CustomScaleLayer"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("scale", &mut self.scale);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![inputs.first()?.with_shape(super::merge::broadcast(inputs, 0)?)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x, more] = inputs(given)?;
        let scale = call.scalar(self.scale, more)?;
        let more = call.apply("Mul", &[more, scale])?;
        Ok(vec![call.apply("AddV2", &[x, more])?])
    }
}
