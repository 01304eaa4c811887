//! An optimizer's variables in the order of each generation.

use std::collections::HashMap;

use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{
    Dialect, Error, Kind, ObjectId, Objects, OptimizerLayout, OptimizerState, OptimizerVariable, Report,
    Result, Slot, Variable,
};
use serde_json::Value;

use super::Optimizer;
use super::classes::Accumulator;

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
    let node = compile.and_then(|c| c.get("optimizer").or_else(|| c.get("optimizer_config")));
    let scaled = node.and_then(|n| n.pointer("/config/inner_optimizer"));
    if target == state.layout {
        let mut state = state.clone();
        // What scales losses has variables of its own in Keras 3, which not every file keeps.
        if let (Some(node), true) = (node.filter(|_| scaled.is_some()), target == OptimizerLayout::Keras3)
            && state.scaling() == 0
        {
            state.variables.splice(..0, scales(node));
        }
        return Some(state);
    }
    let mut state = state.clone();
    if scaled.is_some() && state.layout == OptimizerLayout::Keras3 {
        let own = state.scaling();
        if own > 0 {
            report
                .note("optimizer: the scale of losses was left behind: Keras 2 keeps it in no file of these");
        }
        state.variables.drain(..own);
    }
    let source = if state.layout == OptimizerLayout::Keras3 { Dialect::Keras3 } else { Dialect::Keras2 };
    let Some(Ok(optimizer)) = scaled.or(node).and_then(|n| Optimizer::read(n, source)) else {
        // Whoever writes the state may still know its order.
        return Some(state);
    };
    match reorder(&state, &optimizer, objects, target) {
        Ok(mut state) => {
            if let (Some(node), true) = (node.filter(|_| scaled.is_some()), target == OptimizerLayout::Keras3)
            {
                state.variables.splice(..0, scales(node));
            }
            report.note("the optimizer's variables are in the order of the other dialect");
            Some(state)
        }
        Err(error) => {
            report.note(format!("the optimizer's state was left behind: {error}"));
            None
        }
    }
}

/// The variables of Keras 3's LossScaleOptimizer before its first step.
fn scales(node: &Value) -> Vec<OptimizerVariable> {
    let scale = node.pointer("/config/initial_scale").and_then(Value::as_f64).unwrap_or(32768.0);
    [
        ("iteration", Tensor::scalar(0i64)),
        ("learning_rate", Tensor::scalar(0f32)),
        ("step_counter", Tensor::scalar(0i32)),
        ("dynamic_scale", Tensor::scalar(scale as f32)),
    ]
    .map(|(name, value)| OptimizerVariable {
        variable: Variable::new(name, value).trainable(false),
        slot: None,
    })
    .into()
}

fn reorder(
    state: &OptimizerState,
    optimizer: &Optimizer,
    objects: &Objects,
    target: OptimizerLayout,
) -> Result<OptimizerState> {
    let in_order =
        |v: &&OptimizerVariable| state.layout == OptimizerLayout::Keras3 || v.hyperparameter().is_none();
    let mut variables = state.variables.iter().filter(in_order).collect::<Vec<_>>().into_iter();
    let steps = variables.next().ok_or_else(|| Error::missing("it has no count of steps"))?.variable.clone();
    let mut rate = optimizer.learning_rate();
    if state.layout == OptimizerLayout::Keras3 && rate.is_some() {
        let variable = &variables.next().ok_or_else(|| Error::missing("it has no learning rate"))?.variable;
        // The variable is what training used last.
        rate = variable.load().ok().and_then(|t| t.item::<f32>().ok()).map(f64::from).or(rate);
    } else if let Some(kept) = state.variables.iter().find(|v| v.hyperparameter() == Some("learning_rate")) {
        let kept = kept.variable.load().ok().and_then(|t| t.item::<f32>().ok()).map(f64::from);
        rate = rate.and(kept).or(rate);
    }
    let mut known: HashMap<(&'static str, ObjectId), Variable> = HashMap::new();
    // An optimizer that was never built has no accumulators yet.
    if variables.len() > 0 {
        // Nadam's product of momenta, which follows from the count of steps.
        let product = is_nadam(optimizer);
        if product && state.layout == OptimizerLayout::Legacy {
            variables.next();
        }
        for (accumulator, weight, shape) in order(optimizer, state.layout, objects)? {
            let variable =
                &variables.next().ok_or_else(|| Error::mismatch("it has too few variables"))?.variable;
            if variable.shape != shape {
                return Err(Error::mismatch(format!(
                    "{:?} has the shape {:?} rather than {shape:?}",
                    variable.name, variable.shape
                )));
            }
            known.insert((accumulator.keras3, weight), variable.clone());
        }
        if product && state.layout == OptimizerLayout::Keras3 {
            variables.next();
        }
        let rest = variables.as_slice();
        // Where Adam doesn't keep maxima, Keras 2.1 to 2.3 has a number in the place of each.
        let places = state.layout == OptimizerLayout::Legacy
            && optimizer.class_name() == "Adam"
            && rest.len() == trainable(objects).len()
            && rest.iter().all(|v| v.variable.shape == [1]);
        if let Some(extra) = rest.first().filter(|_| !places) {
            return Err(Error::mismatch(format!("{:?} is one variable too many", extra.variable.name)));
        }
    }
    arrange(optimizer, objects, target, steps, rate, &mut known)
}

fn is_nadam(optimizer: &Optimizer) -> bool {
    optimizer.class_name() == "Nadam"
}

/// Accumulators with their weights and shapes, in a layout's order.
fn order(
    optimizer: &Optimizer,
    layout: OptimizerLayout,
    objects: &Objects,
) -> Result<Vec<(Accumulator, ObjectId, Vec<usize>)>> {
    let groups = optimizer.groups(layout).ok_or_else(|| {
        Error::unsupported(format!("what {} accumulates is known to Keras 3 alone", optimizer.class_name()))
    })?;
    let weights = trainable(objects);
    let mut found = Vec::new();
    for group in groups {
        for &weight in &weights {
            let of = objects.variable(weight).ok_or_else(|| Error::missing("the weight isn't there"))?;
            let there = group.iter().filter_map(|a| Some((*a, weight, a.shape(&of.shape, layout)?)));
            found.extend(there);
        }
    }
    Ok(found)
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
    let product = match is_nadam(optimizer) && layout != OptimizerLayout::Keras2 {
        true => Some(momentum_product(optimizer, &steps)?),
        false => None,
    };
    let plain = |variable| OptimizerVariable { variable, slot: None };
    let mut variables = vec![plain(steps)];
    if let (OptimizerLayout::Keras3, Some(rate)) = (layout, rate) {
        variables.push(plain(Variable::new("learning_rate", Tensor::scalar(rate as f32)).trainable(false)));
    }
    if let (OptimizerLayout::Legacy, Some(product)) = (layout, product) {
        variables.push(plain(Variable::new("momentum_cache", Tensor::scalar(product)).trainable(false)));
    }
    for (accumulator, weight, shape) in order(optimizer, layout, objects)? {
        let of = objects.variable(weight).ok_or_else(|| Error::missing("the weight isn't there"))?;
        let variable = match known.remove(&(accumulator.keras3, weight)).filter(|v| v.shape == shape) {
            Some(variable) => variable,
            None => {
                // Where there are no rows and columns, Keras 3 keeps an integer in their place.
                let dtype = if shape.is_empty() && !of.shape.is_empty() { DType::I32 } else { of.dtype };
                let start = optimizer.number("initial_accumulator_value");
                let value = match start.filter(|_| accumulator.keras3 == "accumulator") {
                    Some(start) if dtype == DType::F32 => Tensor::full(start as f32, &shape)?,
                    _ => Tensor::zeros(dtype, &shape)?,
                };
                Variable::new(format!("{}_{}", of.name, accumulator.keras3), value).trainable(false)
            }
        };
        let slot = Slot { name: accumulator.name(layout).to_owned(), weight };
        variables.push(OptimizerVariable { variable, slot: Some(slot) });
    }
    if let (OptimizerLayout::Keras3, Some(product)) = (layout, product) {
        variables.push(plain(Variable::new("u_product", Tensor::scalar(product)).trainable(false)));
    }
    Ok(OptimizerState { layout, class: Some(optimizer.class_name().to_owned()), variables })
}

/// The product of the momenta of all steps so far, which Nadam corrects its momentum by.
fn momentum_product(optimizer: &Optimizer, steps: &Variable) -> Result<f32> {
    let steps = steps.load()?.to_i64_vec()?.first().copied().unwrap_or_default();
    let beta = optimizer.number("beta_1").unwrap_or(0.9);
    let mut product = 1.0;
    for step in 1..=steps {
        product *= beta * (1.0 - 0.5 * 0.96f64.powf(step as f64));
        // It only shrinks.
        if product < 1e-300 {
            return Ok(0.0);
        }
    }
    Ok(product as f32)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::layers::{Dense, InputLayer};
    use crate::{Model, Sequential};

    fn model() -> Model {
        Sequential::new("m").add(InputLayer::new([3])).add(Dense::new(2)).build().expect("a model")
    }

    /// What Adam of Keras 2.2 kept of a layer of six weights and two biases, with `more` behind it.
    fn adam(more: &[&[usize]]) -> OptimizerState {
        let zeros = |shape: &[usize]| {
            let value = Tensor::zeros(DType::F32, shape).expect("zeros");
            OptimizerVariable { variable: Variable::new("v", value), slot: None }
        };
        let shapes: [&[usize]; 4] = [&[3, 2], &[2], &[3, 2], &[2]];
        let steps =
            OptimizerVariable { variable: Variable::new("iterations", Tensor::scalar(7i64)), slot: None };
        let slots = shapes.into_iter().chain(more.iter().copied()).map(zeros);
        let variables = std::iter::once(steps).chain(slots).collect();
        OptimizerState { layout: OptimizerLayout::Legacy, class: Some("Adam".to_owned()), variables }
    }

    fn upgraded(state: &OptimizerState) -> (Option<OptimizerState>, String) {
        let compile =
            json!({"optimizer_config": {"class_name": "Adam", "config": {"lr": 0.01, "amsgrad": false}}});
        let mut report = Report::default();
        let made = convert(state, Some(&compile), model().objects(), Dialect::Keras3, &mut report);
        (made, report.notes.join("; "))
    }

    #[test]
    fn places_of_maxima_that_nobody_keeps_are_passed_over() {
        for more in [vec![], vec![&[1][..]; 2]] {
            let (state, notes) = upgraded(&adam(&more));
            let state = state.unwrap_or_else(|| panic!("{notes}"));
            assert_eq!(state.variables.len(), 6, "steps, rate, two momenta and two velocities");
        }
        let (state, notes) = upgraded(&adam(&[&[1]]));
        assert!(state.is_none() && notes.contains("one variable too many"), "{notes}");
    }
}
