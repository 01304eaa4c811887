//! Layers that do something in training alone, and Identity: at inference they give what they are given.

use modelark_artifact::{Dialect, Result};
use modelark_artifact::graph::Sym;
use serde_json::Value;

use super::Entry;
use crate::config::{Fields, Regularizer};
use crate::layer::inputs;
use crate::{Call, Layer};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<Dropout>(&["Dropout"]),
    Entry::of::<SpatialDropout<1>>(&["SpatialDropout1D"]),
    Entry::of::<SpatialDropout<2>>(&["SpatialDropout2D"]),
    Entry::of::<SpatialDropout<3>>(&["SpatialDropout3D"]),
    Entry::of::<AlphaDropout>(&["AlphaDropout"]),
    Entry::of::<GaussianDropout>(&["GaussianDropout"]),
    Entry::of::<GaussianNoise>(&["GaussianNoise"]),
    Entry::of::<ActivityRegularization>(&["ActivityRegularization"]),
    Entry::of::<Identity>(&["Identity", "TFDIdentity"]),
];

/// What all layers of this file compute.
macro_rules! identity {
    () => {
        fn call(&self, _: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
            let [x] = inputs(given)?;
            Ok(vec![x])
        }

        fn passes_mask(&self) -> bool {
            true
        }
    };
}

/// Sets a share of its inputs to zero in training (Keras: `Dropout`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dropout {
    rate: f64,
    noise_shape: Option<Vec<Option<i64>>>,
    seed: Option<i64>,
}

impl Dropout {
    /// Drops this share, from 0 to 1.
    pub fn new(rate: f64) -> Self {
        Dropout { rate, ..Dropout::default() }
    }
}

impl Layer for Dropout {
    fn class_name(&self) -> &str {
        "Dropout"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("rate", &mut self.rate);
        f.field("noise_shape", &mut self.noise_shape);
        f.field("seed", &mut self.seed);
    }

    identity!();
}

/// Drops whole channels in training (Keras: `SpatialDropout1D` to `3D`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpatialDropout<const N: usize> {
    rate: f64,
    seed: Option<i64>,
    data_format: Option<String>,
}

impl<const N: usize> SpatialDropout<N> {
    /// Drops this share of the channels, from 0 to 1.
    pub fn new(rate: f64) -> Self {
        SpatialDropout { rate, ..SpatialDropout::default() }
    }
}

impl<const N: usize> Layer for SpatialDropout<N> {
    fn class_name(&self) -> &str {
        ["SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"].get(N.wrapping_sub(1)).unwrap_or(&"")
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("rate", &mut self.rate);
        f.sparse("seed", &mut self.seed);
        if N > 1 {
            f.sparse("data_format", &mut self.data_format);
        }
        f.constant("noise_shape", &[], Value::Null);
        f.without("trainable", Dialect::Keras3);
    }

    identity!();
}

/// Drops inputs but keeps their mean and variance in training (Keras: `AlphaDropout`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AlphaDropout {
    rate: f64,
    seed: Option<i64>,
    noise_shape: Option<Vec<Option<i64>>>,
}

impl Layer for AlphaDropout {
    fn class_name(&self) -> &str {
        "AlphaDropout"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("rate", &mut self.rate);
        f.sparse("seed", &mut self.seed);
        f.sparse("noise_shape", &mut self.noise_shape);
    }

    identity!();
}

/// Multiplies by noise around one in training (Keras: `GaussianDropout`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GaussianDropout {
    rate: f64,
    seed: Option<i64>,
}

impl Layer for GaussianDropout {
    fn class_name(&self) -> &str {
        "GaussianDropout"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("rate", &mut self.rate);
        f.sparse("seed", &mut self.seed);
    }

    identity!();
}

/// Adds noise in training (Keras: `GaussianNoise`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GaussianNoise {
    stddev: f64,
    seed: Option<i64>,
}

impl Layer for GaussianNoise {
    fn class_name(&self) -> &str {
        "GaussianNoise"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("stddev", &mut self.stddev);
        f.sparse("seed", &mut self.seed);
    }

    identity!();
}

/// Adds a penalty on its inputs in training (Keras: `ActivityRegularization`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActivityRegularization {
    l1: f64,
    l2: f64,
    activity_regularizer: Option<Regularizer>,
}

impl Layer for ActivityRegularization {
    fn class_name(&self) -> &str {
        "ActivityRegularization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("l1", &mut self.l1);
        f.field("l2", &mut self.l2);
        f.read_only("activity_regularizer", &mut self.activity_regularizer);
    }

    identity!();
}

/// Gives what it is given (Keras: `Identity`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Identity;

impl Layer for Identity {
    fn class_name(&self) -> &str {
        "Identity"
    }

    fn visit(&mut self, _: &mut Fields<'_>) {}

    identity!();
}
