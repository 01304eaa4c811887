//! What training left behind.

use serde_json::Value;

use crate::{ObjectId, Variable};

/// How a model was compiled, and its optimizer's state.
#[derive(Debug, Clone, Default)]
pub struct Training {
    /// The compile config as the file has it: `loss`, `metrics`, and the optimizer as `optimizer` (`.keras`) or
    /// `optimizer_config` (`.h5`, SavedModel).
    pub compile: Option<Value>,
    /// The optimizer's variables.
    pub optimizer: Option<OptimizerState>,
}

/// Which generation of optimizers a state's list of variables follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OptimizerLayout {
    /// `OptimizerV2` (before 2.11, and `optimizers.legacy`): iterations, then slot by slot over all weights.
    Legacy,
    /// Keras 2.11 and later: iterations, then the slots weight by weight.
    Keras2,
    /// Keras 3: iterations, learning rate, then the slots weight by weight.
    Keras3,
}

/// The variables of an optimizer in its own order.
#[derive(Debug, Clone)]
pub struct OptimizerState {
    /// Which order that is.
    pub layout: OptimizerLayout,
    /// The optimizer's class, such as `Adam`, when known.
    pub class: Option<String>,
    /// The variables.
    pub variables: Vec<OptimizerVariable>,
}

/// One variable of an optimizer.
#[derive(Debug, Clone)]
pub struct OptimizerVariable {
    /// The variable; its name is what the file calls it.
    pub variable: Variable,
    /// What it accumulates, when known.
    pub slot: Option<Slot>,
}

/// What a slot variable accumulates, and for which weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Such as `m`, `v`, `momentum`, `velocity`, as the layout calls it.
    pub name: String,
    /// The weight, among the artifact's objects.
    pub weight: ObjectId,
}
