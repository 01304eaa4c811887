//! What training left behind.

use std::collections::HashMap;

use modelark_tensor::DType;
use serde_json::Value;

use crate::{ObjectId, Objects, Variable};

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

impl OptimizerState {
    /// How many of the first variables are those of Keras 3's `LossScaleOptimizer`, for the state of one: before the count of
    /// steps and the learning rate of the optimizer within there are a count and a rate of its own, a counter, and the
    /// scale. None where a file keeps the optimizer within alone.
    pub fn scaling(&self) -> usize {
        const OWN: usize = 4;
        let is_scalar = |v: &&OptimizerVariable| v.slot.is_none() && v.variable.shape.is_empty();
        let scalars = self.variables.iter().take_while(is_scalar).count();
        let is_count = |i: usize| self.variables.get(i).is_some_and(|v| v.variable.dtype == DType::I64);
        match self.layout {
            OptimizerLayout::Keras3 if scalars > OWN => OWN,
            // Before it is built it has the count and the rate alone, and so has the other.
            OptimizerLayout::Keras3 if scalars == OWN && is_count(0) && is_count(2) => OWN / 2,
            _ => 0,
        }
    }
}

impl OptimizerVariable {
    /// What checkpoints keep as variables besides slots, when the optimizer's config has a number for it.
    pub const HYPERPARAMETERS: &[&'static str] =
        &["beta_1", "beta_2", "decay", "learning_rate", "momentum", "rho", "learning_rate_power"];

    /// The hyperparameter that the variable is, by the last part of its name, if it accumulates nothing.
    pub fn hyperparameter(&self) -> Option<&'static str> {
        let name = self.variable.name.strip_suffix(":0").unwrap_or(&self.variable.name);
        let last = name.rsplit('/').next().unwrap_or(name);
        let is_own = self.slot.is_none() && self.variable.shape.is_empty();
        Self::HYPERPARAMETERS.iter().copied().find(|h| is_own && *h == last)
    }
}

impl Training {
    /// Points the optimizer's slots, whose weights are among `read`, at the variables of `bound` with the same values,
    /// as [`Format::bind`](crate::Format::bind) put them there. A slot whose weight isn't among them loses it.
    pub fn follow(&mut self, read: &Objects, bound: &Objects) {
        let Some(state) = &mut self.optimizer else { return };
        let values: HashMap<usize, ObjectId> = bound
            .variables()
            .into_iter()
            .filter_map(|(id, _, variable)| Some((variable.value.address()?, id)))
            .collect();
        for variable in &mut state.variables {
            let weight = variable.slot.as_ref().and_then(|s| read.variable(s.weight)?.value.address());
            match weight.and_then(|address| values.get(&address)) {
                Some(&id) => variable.slot.iter_mut().for_each(|slot| slot.weight = id),
                None => variable.slot = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use modelark_tensor::Tensor;

    use super::*;
    use crate::Kind;

    #[test]
    fn slots_follow_their_weights_values() {
        let lazy = |name: &str| Variable::lazy(name, DType::F32, [], || Ok(Tensor::scalar(1f32)));
        let (a, b) = (lazy("a"), lazy("b"));
        let mut read = Objects::default();
        let ids = [&a, &b].map(|v| read.add(Objects::ROOT, v.name.clone(), Kind::Variable(v.clone())));
        let mut bound = Objects::default();
        let dense = bound.add(Objects::ROOT, "dense", Kind::object());
        let kernel =
            bound.add(dense, "kernel", Kind::Variable(Variable { value: b.value.clone(), ..lazy("kernel") }));
        let slot =
            |weight| OptimizerVariable { variable: lazy("m"), slot: Some(Slot { name: "m".into(), weight }) };
        let state =
            OptimizerState { layout: OptimizerLayout::Keras2, class: None, variables: ids.map(slot).into() };
        let mut training = Training { compile: None, optimizer: Some(state) };
        training.follow(&read, &bound);
        let slots: Vec<Option<ObjectId>> = training
            .optimizer
            .iter()
            .flat_map(|o| &o.variables)
            .map(|v| v.slot.as_ref().map(|s| s.weight))
            .collect();
        assert_eq!(slots, [None, Some(kernel)]);
    }
}
