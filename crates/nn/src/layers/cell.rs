//! What the cells of recurrent layers share.

use modelark_artifact::{Dialect, Error, Result};
use serde_json::Value;

use crate::config::{Activation, Fields, Initializer};
use crate::former::{self, FormerWeights, JOINED, Layout, Origin};
use crate::layer::{WeightOptions, WeightSpec};

/// Options that all of Keras's cells have.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CellOptions {
    pub activation: Activation,
    pub use_bias: bool,
    pub kernel: WeightOptions,
    pub recurrent: WeightOptions,
    pub bias: WeightOptions,
    /// Only training drops anything.
    pub dropout: f64,
    pub recurrent_dropout: f64,
    pub seed: Option<i64>,
    /// Which of several ways Keras 2 computes the same in; only the gated cells say.
    pub implementation: usize,
    /// Whether the config is one of Keras 1 that saved time by having the weights of all gates in one.
    keras1_joined: bool,
}

impl Default for CellOptions {
    fn default() -> Self {
        CellOptions {
            activation: "tanh".into(),
            use_bias: true,
            kernel: WeightOptions::new(Initializer::glorot_uniform()),
            recurrent: WeightOptions::new(Initializer::orthogonal()),
            bias: WeightOptions::new(Initializer::Zeros),
            dropout: 0.0,
            recurrent_dropout: 0.0,
            seed: None,
            implementation: 2,
            keras1_joined: false,
        }
    }
}

impl CellOptions {
    pub fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("activation", &mut self.activation);
        f.field("use_bias", &mut self.use_bias);
        self.kernel.visit("kernel", f);
        self.recurrent.visit("recurrent", f);
        self.bias.visit("bias", f);
        f.field("dropout", &mut self.dropout);
        f.field("recurrent_dropout", &mut self.recurrent_dropout);
        f.keras3("seed", &mut self.seed);
    }

    /// The weights as older files have them. `order` says which of Keras 1's gates each of today's is.
    pub fn former_weights(
        &self,
        weights: Vec<WeightSpec>,
        origin: &Origin,
        order: &'static [usize],
        channels_first: bool,
    ) -> Result<Option<FormerWeights>> {
        let is_keras1 = matches!(origin.layout, Some(Layout::Keras1 | Layout::EarlyKeras1));
        if is_keras1 && self.keras1_joined {
            return Ok(None);
        }
        Ok(former::recurrent(&weights, origin, order, channels_first))
    }

    pub fn visit_implementation(&mut self, f: &mut Fields<'_>) {
        match f.dialect() {
            Dialect::Keras3 => f.constant("implementation", &[], Value::Null),
            _ => f.field("implementation", &mut self.implementation),
        }
        if f.is_reading() {
            self.keras1_joined =
                f.dialect() == Dialect::Keras1 && f.has("implementation") && self.implementation == JOINED;
        }
    }

    /// The weights of these shapes.
    pub fn weights(&self, kernel: Vec<usize>, recurrent: Vec<usize>, bias: Vec<usize>) -> Vec<WeightSpec> {
        let mut weights =
            vec![self.kernel.weight("kernel", kernel), self.recurrent.weight("recurrent_kernel", recurrent)];
        if self.use_bias {
            weights.push(self.bias.weight("bias", bias));
        }
        weights
    }

    /// The same with a bias that is one for the second of four gates.
    pub fn remember(&self, weights: &mut [WeightSpec]) {
        if let (true, Some(bias)) = (self.use_bias, weights.last_mut()) {
            let own = || self.bias.initializer.clone();
            bias.initializer = Initializer::Blocks(vec![own(), Initializer::Ones, own(), own()]);
        }
    }
}

/// `units` times `gates`.
pub(super) fn times(units: usize, gates: usize) -> Result<usize> {
    units.checked_mul(gates).ok_or_else(|| Error::limit("the layer has more units than memory"))
}

/// The methods that set the options of a cell, which has them as `options`.
macro_rules! cell_methods {
    ($cell:ty) => {
        impl $cell {
            /// The same with this activation function of the state.
            pub fn activation(mut self, activation: impl Into<crate::config::Activation>) -> Self {
                self.options.activation = activation.into();
                self
            }

            /// The same with or without a bias.
            pub fn use_bias(mut self, use_bias: bool) -> Self {
                self.options.use_bias = use_bias;
                self
            }

            /// The same with these options of the inputs' weights.
            pub fn kernel(mut self, options: crate::layer::WeightOptions) -> Self {
                self.options.kernel = options;
                self
            }

            /// The same with these options of the state's weights.
            pub fn recurrent_kernel(mut self, options: crate::layer::WeightOptions) -> Self {
                self.options.recurrent = options;
                self
            }

            /// The same with these options of the bias.
            pub fn bias(mut self, options: crate::layer::WeightOptions) -> Self {
                self.options.bias = options;
                self
            }

            /// The same with these parts of the inputs and of the state dropped in training.
            pub fn dropout(mut self, inputs: f64, state: f64) -> Self {
                (self.options.dropout, self.options.recurrent_dropout) = (inputs, state);
                self
            }
        }
    };
}
pub(super) use cell_methods;
