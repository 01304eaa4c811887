//! Wrappers of cells of recurrent layers: DeviceWrapper, DropoutWrapper, ResidualWrapper.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Error, Result};
use serde_json::Value;

use super::{Entry, SimpleRNNCell};
use crate::config::Fields;
use crate::layer::Sublayer;
use crate::{Call, Inputs, Instance, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::made(&["DeviceWrapper"], || Box::new(CellWrapper::new(Wrapping::Device(Value::Null), SimpleRNNCell::default()))),
    Entry::made(&["DropoutWrapper"], || {
        Box::new(CellWrapper::new(Wrapping::Dropout(Kept::default()), SimpleRNNCell::default()))
    }),
    Entry::made(&["ResidualWrapper"], || {
        Box::new(CellWrapper::new(Wrapping::Residual(Value::Null), SimpleRNNCell::default()))
    }),
];

/// What a wrapper does to its cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Wrapping {
    /// The cell runs on a device of this name, which means nothing here (`tf.nn.RNNCellDeviceWrapper`).
    Device(Value),
    /// Inputs, states and outputs are dropped in every call, not in training alone (`tf.nn.RNNCellDropoutWrapper`): only
    /// one that keeps all of them can be run.
    Dropout(Kept),
    /// The input is added to the output (`tf.nn.RNNCellResidualWrapper`), unless a function of Python's does otherwise.
    Residual(Value),
}

/// Which parts a `DropoutWrapper` keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    inputs: f64,
    outputs: f64,
    states: f64,
    variational: bool,
    input_size: Value,
    seed: Value,
}

impl Default for Kept {
    fn default() -> Self {
        Kept { inputs: 1.0, outputs: 1.0, states: 1.0, variational: false, input_size: Value::Null, seed: Value::Null }
    }
}

/// A cell within another one, of TensorFlow's own (Keras 2: `tf.nn.RNNCellResidualWrapper` and its relations).
#[derive(Debug, Clone)]
pub struct CellWrapper {
    cell: Instance,
    wrapping: Wrapping,
}

const CELL: &str = "cell";

impl CellWrapper {
    /// This cell, wrapped so.
    pub fn new(wrapping: Wrapping, cell: impl Into<Instance>) -> Self {
        CellWrapper { cell: cell.into(), wrapping }
    }
}

impl Layer for CellWrapper {
    fn class_name(&self) -> &str {
        match self.wrapping {
            Wrapping::Device(_) => "DeviceWrapper",
            Wrapping::Dropout(_) => "DropoutWrapper",
            Wrapping::Residual(_) => "ResidualWrapper",
        }
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required(CELL, &mut self.cell);
        match &mut self.wrapping {
            Wrapping::Device(device) => f.field("device", device),
            Wrapping::Dropout(kept) => {
                f.field("input_keep_prob", &mut kept.inputs);
                f.field("output_keep_prob", &mut kept.outputs);
                f.field("state_keep_prob", &mut kept.states);
                f.field("variational_recurrent", &mut kept.variational);
                f.field("input_size", &mut kept.input_size);
                f.field("seed", &mut kept.seed);
            }
            Wrapping::Residual(function) => f.sparse("residual_fn", function),
        }
        f.only_in(Dialect::Keras2);
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        Ok(vec![Sublayer::new(CELL, &self.cell, vec![inputs.first()?.clone()])])
    }

    fn arguments(&self) -> &[&str] {
        &["inputs", "states"]
    }

    fn states(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        self.cell.states(inputs.first()?)
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        self.cell.output(inputs.all())
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        match &self.wrapping {
            Wrapping::Dropout(kept) if [kept.inputs, kept.outputs, kept.states].iter().any(|k| *k < 1.0) => {
                return Err(Error::unsupported("it drops parts at random in every call, not in training alone")
                    .help("set its keep_prob options to 1, as one does to predict"));
            }
            Wrapping::Residual(function) if !function.is_null() => {
                return Err(Error::unsupported("it joins input and output by a function of Python's"));
            }
            _ => {}
        }
        let mut made = call.sublayer(CELL, &self.cell, given)?;
        if let (Wrapping::Residual(_), Some(y), Some(&x)) = (&self.wrapping, made.first_mut(), given.first()) {
            *y = call.apply("AddV2", &[x, *y])?;
        }
        Ok(made)
    }
}
