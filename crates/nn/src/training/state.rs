//! An optimizer's variables in the order of each generation.

use std::collections::HashMap;

use modelark_artifact::tensor::Tensor;
use modelark_artifact::{
    Dialect, Error, Kind, ObjectId, Objects, OptimizerLayout, OptimizerState, OptimizerVariable, Report,
    Result, Slot, Variable,
};
use serde_json::Value;

use super::Optimizer;
use super::optimizer::Accumulator;

/// The trainable variables in the order in which Keras's optimizers take them: a layer's own before its sublayers'.
fn trainable(objects: &Objects) -> Vec<ObjectId> {
    let mut found = Vec::new();
    let mut seen = vec![false; objects.len()];
    let mut stack = vec![Objects::ROOT];
    while let Some(id) = stack.pop() {
        match seen.get_mut(id) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        let Some(object) = objects.get(id) else { continue };
        if let Kind::Variable(variable) = &object.kind {
            if variable.trainable {
                found.push(id);
            }
            continue;
        }
        let is_variable = |id: &ObjectId| objects.variable(*id).is_some();
        let children = object.children.iter().map(|(_, id)| *id);
        let (own, held): (Vec<ObjectId>, Vec<ObjectId>) = children.partition(is_variable);
        stack.extend(held.into_iter().rev());
        stack.extend(own.into_iter().rev());
    }
    found
}

/// A state of zeros, as an optimizer has it before its first step.
pub(super) fn fresh(optimizer: &Optimizer, objects: &Objects) -> Result<OptimizerState> {
    let steps = Variable::new("iteration", Tensor::scalar(0i64)).trainable(false);
    arrange(
        optimizer,
        objects,
        OptimizerLayout::Keras3,
        steps,
        optimizer.learning_rate(),
        &mut HashMap::new(),
    )
}

/// The state in a dialect's order; `None` when it doesn't fit the model.
pub(super) fn convert(
    state: &OptimizerState,
    compile: Option<&Value>,
    objects: &Objects,
    dialect: Dialect,
    report: &mut Report,
) -> Option<OptimizerState> {
    let target = match (dialect, state.layout) {
        (Dialect::Keras3, _) => OptimizerLayout::Keras3,
        (_, OptimizerLayout::Legacy) => OptimizerLayout::Legacy,
        _ => OptimizerLayout::Keras2,
    };
    if target == state.layout {
        return Some(state.clone());
    }
    let node = compile.and_then(|c| c.get("optimizer").or_else(|| c.get("optimizer_config")));
    let source = if state.layout == OptimizerLayout::Keras3 { Dialect::Keras3 } else { Dialect::Keras2 };
    let Some(Ok(optimizer)) = node.and_then(|n| Optimizer::read(n, source)) else {
        // Whoever writes the state may still know its order.
        return Some(state.clone());
    };
    match reorder(state, &optimizer, objects, target) {
        Ok(state) => {
            report.note("the optimizer's variables are in the order of the other dialect");
            Some(state)
        }
        Err(error) => {
            report.note(format!("the optimizer's state was left behind: {error}"));
            None
        }
    }
}

fn reorder(
    state: &OptimizerState,
    optimizer: &Optimizer,
    objects: &Objects,
    target: OptimizerLayout,
) -> Result<OptimizerState> {
    let mut variables = state.variables.iter();
    let steps = variables.next().ok_or_else(|| Error::missing("it has no count of steps"))?.variable.clone();
    let mut rate = optimizer.learning_rate();
    if state.layout == OptimizerLayout::Keras3 && rate.is_some() {
        let variable = &variables.next().ok_or_else(|| Error::missing("it has no learning rate"))?.variable;
        // The variable is what training used last.
        rate = variable.load().ok().and_then(|t| t.item::<f32>().ok()).map(f64::from).or(rate);
    }
    let mut known: HashMap<(&'static str, ObjectId), Variable> = HashMap::new();
    let weights = trainable(objects);
    // An optimizer that was never built has no accumulators yet.
    if variables.len() > 0 {
        for (accumulator, weight) in order(optimizer, state.layout, &weights) {
            let variable =
                &variables.next().ok_or_else(|| Error::mismatch("it has too few variables"))?.variable;
            let shape = objects.variable(weight).map(|w| w.shape.clone()).unwrap_or_default();
            if variable.shape != shape {
                return Err(Error::mismatch(format!(
                    "{:?} has the shape {:?}, its weight {shape:?}",
                    variable.name, variable.shape
                )));
            }
            known.insert((accumulator.keras3, weight), variable.clone());
        }
        if let Some(extra) = variables.next() {
            return Err(Error::mismatch(format!("{:?} is one variable too many", extra.variable.name)));
        }
    }
    arrange(optimizer, objects, target, steps, rate, &mut known)
}

/// Accumulators with their weights, in a layout's order.
fn order(
    optimizer: &Optimizer,
    layout: OptimizerLayout,
    weights: &[ObjectId],
) -> Vec<(Accumulator, ObjectId)> {
    let groups = optimizer.groups(layout);
    let group = |group: Vec<Accumulator>| {
        weights.iter().flat_map(move |&w| group.clone().into_iter().map(move |a| (a, w))).collect::<Vec<_>>()
    };
    groups.into_iter().flat_map(group).collect()
}

/// All variables in a layout's order; accumulators that aren't known are zero.
fn arrange(
    optimizer: &Optimizer,
    objects: &Objects,
    layout: OptimizerLayout,
    steps: Variable,
    rate: Option<f64>,
    known: &mut HashMap<(&'static str, ObjectId), Variable>,
) -> Result<OptimizerState> {
    let mut variables = vec![OptimizerVariable { variable: steps, slot: None }];
    if let (OptimizerLayout::Keras3, Some(rate)) = (layout, rate) {
        let variable = Variable::new("learning_rate", Tensor::scalar(rate as f32)).trainable(false);
        variables.push(OptimizerVariable { variable, slot: None });
    }
    for (accumulator, weight) in order(optimizer, layout, &trainable(objects)) {
        let variable = match known.remove(&(accumulator.keras3, weight)) {
            Some(variable) => variable,
            None => {
                let of = objects.variable(weight).ok_or_else(|| Error::missing("the weight isn't there"))?;
                let zeros = Tensor::zeros(of.dtype, &of.shape)?;
                Variable::new(format!("{}_{}", of.name, accumulator.keras3), zeros).trainable(false)
            }
        };
        let name = match layout {
            OptimizerLayout::Keras3 => accumulator.keras3,
            OptimizerLayout::Keras2 => accumulator.keras2,
            OptimizerLayout::Legacy => accumulator.legacy,
        };
        variables.push(OptimizerVariable { variable, slot: Some(Slot { name: name.to_owned(), weight }) });
    }
    Ok(OptimizerState { layout, class: Some(optimizer.class_name().to_owned()), variables })
}
