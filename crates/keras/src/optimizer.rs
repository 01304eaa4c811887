//! The state of optimizers: which of the two containers calls its variables what.

use std::collections::{HashMap, HashSet};

use modelark_artifact::tensor::Tensor;
use modelark_artifact::{
    Dialect, ObjectId, Objects, OptimizerLayout, OptimizerState, OptimizerVariable, Report, Slot, Training,
    Variable,
};

use crate::{config, naming};

/// What an optimizer accumulates for each weight, in Keras 2's words and in Keras 3's, in order.
struct Accumulators {
    names: &'static [(&'static str, &'static str)],
    /// Whether all weights' first accumulators come before all second ones.
    grouped: bool,
}

fn accumulators(class: &str) -> Accumulators {
    let interleaved = |names| Accumulators { names, grouped: false };
    match class.to_ascii_lowercase().as_str() {
        "adamax" => interleaved(&[("m", "momentum"), ("u", "norm")]),
        "sgd" | "lion" => interleaved(&[("m", "momentum")]),
        "adagrad" => interleaved(&[("accumulator", "accumulator")]),
        "adadelta" => interleaved(&[
            ("accumulated_grad", "accumulated_grad"),
            ("accumulated_delta_var", "accumulated_delta_var"),
        ]),
        "ftrl" => interleaved(&[("accumulator", "accumulator"), ("linear", "linear")]),
        "rmsprop" => Accumulators {
            names: &[
                ("velocity", "velocity"),
                ("momentum", "momentum"),
                ("average_gradient", "average_gradient"),
            ],
            grouped: true,
        },
        _ => interleaved(&[("m", "momentum"), ("v", "velocity")]),
    }
}

/// The layout that the names of a `.h5` file's `optimizer_weights` follow.
pub(crate) fn layout_of_names(names: &[String]) -> OptimizerLayout {
    let legacy = |n: &String| n.ends_with("/iter:0") || n.ends_with("/iterations:0");
    if names.iter().any(legacy) {
        OptimizerLayout::Legacy
    } else if names.iter().any(|n| n == "iteration:0" || n.ends_with("/iteration:0")) {
        OptimizerLayout::Keras2
    } else if names.iter().all(|n| !n.contains(':')) {
        OptimizerLayout::Keras3
    } else {
        OptimizerLayout::Legacy
    }
}

/// The slot that a name of a `.h5` file means, where it names one of `weights`, known by their names without `:0`.
pub(crate) fn slot_of_name(
    name: &str,
    layout: OptimizerLayout,
    weights: &HashMap<String, ObjectId>,
) -> Option<Slot> {
    let bare = name.split_once(':').map_or(name, |(n, _)| n);
    let slot = |name: &str, weight: &str| Some(Slot { name: name.to_owned(), weight: *weights.get(weight)? });
    match layout {
        // Adam/m/dense/kernel
        OptimizerLayout::Keras2 => {
            let (_, rest) = bare.split_once('/')?;
            let (kind, weight) = rest.split_once('/')?;
            slot(kind, weight)
        }
        // Adam/dense/kernel/m, or training/Adam/dense/kernel/m
        OptimizerLayout::Legacy => {
            let (path, kind) = bare.rsplit_once('/')?;
            let (_, weight) = path.split_once('/')?;
            slot(kind, weight).or_else(|| slot(kind, weight.split_once('/')?.1))
        }
        // adam/dense_kernel_momentum
        OptimizerLayout::Keras3 => {
            let (_, rest) = bare.split_once('/')?;
            weights.iter().find_map(|(weight, id)| {
                let kind = rest.strip_prefix(&weight.replace('/', "_"))?.strip_prefix('_')?;
                Some(Slot { name: kind.to_owned(), weight: *id })
            })
        }
    }
}

/// A state whose variables are known by their order alone, as `.weights.h5` files have them.
pub(crate) fn of_order(
    variables: Vec<Variable>,
    class: Option<String>,
    dialect: Option<Dialect>,
) -> OptimizerState {
    // Keras 3 keeps the learning rate after the count of steps.
    let rate = variables.get(1).is_some_and(|v| v.shape.is_empty() && v.dtype.is_float());
    let layout = match dialect {
        Some(Dialect::Keras3) => OptimizerLayout::Keras3,
        Some(_) => OptimizerLayout::Keras2,
        None if rate => OptimizerLayout::Keras3,
        None => OptimizerLayout::Keras2,
    };
    let variables =
        variables.into_iter().map(|variable| OptimizerVariable { variable, slot: None }).collect();
    OptimizerState { layout, class, variables }
}

/// The state in the layout of a dialect, and what was done to it.
///
/// Keras 3 has the learning rate among the variables, Keras 2 hasn't; a legacy state of Keras 2 stays one there.
pub(crate) fn for_dialect(
    training: &Training,
    dialect: Dialect,
    report: &mut Report,
) -> Option<OptimizerState> {
    let mut state = training.optimizer.clone().filter(|s| !s.variables.is_empty())?;
    let class = training.compile.as_ref().and_then(config::optimizer_class);
    state.class = state.class.or(class);
    if state.layout != OptimizerLayout::Keras3 {
        // Checkpoints have more than slots; files of HDF5 have these in the config alone.
        state.variables.retain(|v| v.hyperparameter().is_none());
    }
    match (state.layout, dialect) {
        (OptimizerLayout::Keras3, Dialect::Keras1 | Dialect::Keras2) => {
            if state.variables.get(1).is_some_and(|v| v.slot.is_none() && v.variable.shape.is_empty()) {
                state.variables.remove(1);
            }
            state.layout = OptimizerLayout::Keras2;
            report.note("the optimizer's learning rate is kept in its config alone, as Keras 2 has it");
        }
        (OptimizerLayout::Keras2, Dialect::Keras3) => add_rate(&mut state, training, report),
        (OptimizerLayout::Legacy, Dialect::Keras3) => {
            if interleave(&mut state) {
                add_rate(&mut state, training, report);
            } else {
                report.note("the optimizer's state was left behind: its legacy variables don't say what they accumulate");
                return None;
            }
        }
        _ => {}
    }
    Some(state)
}

fn add_rate(state: &mut OptimizerState, training: &Training, report: &mut Report) {
    state.layout = OptimizerLayout::Keras3;
    // With a schedule, Keras 3 has no such variable.
    if let Some(rate) = training.compile.as_ref().and_then(config::learning_rate) {
        let variable = Variable::new("learning_rate", Tensor::scalar(rate as f32)).trainable(false);
        state.variables.insert(1.min(state.variables.len()), OptimizerVariable { variable, slot: None });
        report.note(format!(
            "the optimizer's state has its learning rate {rate} among the variables, as Keras 3 has it"
        ));
    }
}

/// Puts a legacy state's variables, slot by slot, into weight by weight; whether every one could be placed.
fn interleave(state: &mut OptimizerState) -> bool {
    let class = state.class.clone().unwrap_or_default();
    let Accumulators { names, grouped } = accumulators(&class);
    let (header, slots): (Vec<_>, Vec<_>) = state.variables.drain(..).partition(|v| v.slot.is_none());
    let mut weights: Vec<ObjectId> = Vec::new();
    for slot in slots.iter().filter_map(|v| v.slot.as_ref()) {
        if !weights.contains(&slot.weight) {
            weights.push(slot.weight);
        }
    }
    let rank = |v: &OptimizerVariable| {
        let slot = v.slot.as_ref()?;
        // Legacy RMSprop says `rms`, legacy SGD `momentum`.
        let own = match slot.name.as_str() {
            "rms" => "velocity",
            "momentum" if names.len() == 1 => "m",
            "mg" => "average_gradient",
            other => other,
        };
        let kind = names.iter().position(|(keras2, _)| *keras2 == own)?;
        let weight = weights.iter().position(|w| *w == slot.weight)?;
        Some(if grouped { (kind, weight) } else { (weight, kind) })
    };
    let mut ranked: Vec<(Option<(usize, usize)>, OptimizerVariable)> =
        slots.into_iter().map(|v| (rank(&v), v)).collect();
    let complete = header.len() == 1 && ranked.iter().all(|(rank, _)| rank.is_some());
    ranked.sort_by_key(|(rank, _)| *rank);
    state.variables = header.into_iter().chain(ranked.into_iter().map(|(_, v)| v)).collect();
    complete
}

/// The names of a state's variables in a `.h5` file. They are only labels; the order counts.
pub(crate) fn names(state: &OptimizerState, objects: &Objects, dialect: Dialect) -> Vec<String> {
    let class = state.class.clone().unwrap_or_else(|| "Optimizer".to_owned());
    let (layers, own) = naming::legacy(objects, dialect);
    let labels: HashMap<ObjectId, String> = own
        .into_iter()
        .chain(layers.into_iter().flat_map(|l| l.weights))
        .map(|(name, id)| (id, name.split_once(':').map_or(name.as_str(), |(n, _)| n).to_owned()))
        .collect();
    let slots = slots(state, objects, &class);
    let mut taken = HashSet::new();
    state
        .variables
        .iter()
        .enumerate()
        .map(|(i, v)| {
            let slot = slots.get(i).and_then(Option::as_ref);
            let label = slot.and_then(|s| Some((&s.name, labels.get(&s.weight)?)));
            let lower = class.to_ascii_lowercase();
            let name = match (state.layout, label) {
                (OptimizerLayout::Keras2, Some((slot, weight))) => format!("{class}/{slot}/{weight}:0"),
                (OptimizerLayout::Keras2, None) if i == 0 => "iteration:0".to_owned(),
                (OptimizerLayout::Keras2, None) => format!("{class}/variable_{i}:0"),
                (OptimizerLayout::Legacy, Some((slot, weight))) => format!("{class}/{weight}/{slot}:0"),
                (OptimizerLayout::Legacy, None) if i == 0 => format!("{class}/iter:0"),
                (OptimizerLayout::Legacy, None) => format!("{class}/variable_{i}:0"),
                (OptimizerLayout::Keras3, Some((slot, weight))) => {
                    format!("{lower}/{}_{slot}", weight.replace('/', "_"))
                }
                (OptimizerLayout::Keras3, None) if i == 0 => format!("{lower}/iteration"),
                (OptimizerLayout::Keras3, None) if i == 1 && v.variable.shape.is_empty() => {
                    format!("{lower}/learning_rate")
                }
                (OptimizerLayout::Keras3, None) => format!("{lower}/variable_{i}"),
            };
            if taken.insert(name.clone()) { name } else { format!("{name}_{i}") }
        })
        .collect()
}

/// Says of every variable what it accumulates and for which of the weights of `model`, where the file didn't.
///
/// `.weights.h5` and `.keras` files keep an optimizer's variables by their order alone; with the model that they were
/// bound to, and the optimizer's class, the order tells. A state that doesn't fit the model is left as it is.
pub fn infer_slots(training: &mut Training, model: &Objects) {
    let class = training.compile.as_ref().and_then(config::optimizer_class);
    let Some(state) = &mut training.optimizer else { return };
    let Some(class) = state.class.clone().or(class) else { return };
    let found = slots(state, model, &class);
    for (variable, slot) in state.variables.iter_mut().zip(found) {
        variable.slot = slot;
    }
}

/// What each variable accumulates: as the state knows, or, where it doesn't, as its class orders its accumulators.
fn slots(state: &OptimizerState, objects: &Objects, class: &str) -> Vec<Option<Slot>> {
    let own = |v: &OptimizerVariable| {
        let slot = v.slot.clone()?;
        (objects.variable(slot.weight)?.shape == v.variable.shape).then_some(slot)
    };
    let known: Vec<Option<Slot>> = state.variables.iter().map(own).collect();
    let weights = naming::trainable(objects);
    let Accumulators { names, grouped } = accumulators(class);
    let keras3 = state.layout == OptimizerLayout::Keras3;
    let grouped = grouped || state.layout == OptimizerLayout::Legacy;
    let header = known.len().checked_sub(weights.len().saturating_mul(
        // As many accumulators as there are, up to those that the class has.
        known.len().checked_div(weights.len()).unwrap_or(0).min(names.len()),
    ));
    let (Some(header @ 1..=2), true) = (header, known.iter().all(Option::is_none)) else { return known };
    let kinds = (known.len() - header) / weights.len();
    let derived = (0..known.len()).map(|i| {
        let at = i.checked_sub(header)?;
        let (kind, weight) =
            if grouped { (at / weights.len(), at % weights.len()) } else { (at % kinds, at / kinds) };
        let (name2, name3) = names.get(kind)?;
        let weight = *weights.get(weight)?;
        let fits = objects.variable(weight)?.shape == state.variables.get(i)?.variable.shape;
        fits.then(|| Slot { name: (if keras3 { name3 } else { name2 }).to_string(), weight })
    });
    derived.collect()
}

#[cfg(test)]
mod tests {
    use modelark_artifact::{Kind, Role};
    use serde_json::json;

    use super::*;
    use crate::naming::tests::{add, model};

    fn dense() -> (Objects, HashMap<String, ObjectId>) {
        let mut o = model("Sequential", "s", Role::Sequential);
        let layers = o.add(Objects::ROOT, "layers", Kind::List);
        let d = add(&mut o, layers, "0", ("Dense", "d1"), &["kernel", "bias"]);
        let id = |n: &str| o.get(d).and_then(|d| d.child(n)).expect("weight");
        let weights =
            HashMap::from([("d1/kernel".to_owned(), id("kernel")), ("d1/bias".to_owned(), id("bias"))]);
        (o, weights)
    }

    fn state(layout: OptimizerLayout, names: &[&str], weights: &HashMap<String, ObjectId>) -> OptimizerState {
        let variables = names.iter().map(|n| OptimizerVariable {
            variable: Variable::new(*n, Tensor::scalar(0f32)),
            slot: slot_of_name(n, layout, weights),
        });
        OptimizerState { layout, class: Some("Adam".to_owned()), variables: variables.collect() }
    }

    const LEGACY: &[&str] =
        &["Adam/iter:0", "Adam/d1/kernel/m:0", "Adam/d1/bias/m:0", "Adam/d1/kernel/v:0", "Adam/d1/bias/v:0"];
    const KERAS2: &[&str] =
        &["iteration:0", "Adam/m/d1/kernel:0", "Adam/v/d1/kernel:0", "Adam/m/d1/bias:0", "Adam/v/d1/bias:0"];
    const KERAS3: &[&str] = &[
        "adam/iteration",
        "adam/learning_rate",
        "adam/s_d1_kernel_momentum",
        "adam/s_d1_kernel_velocity",
        "adam/s_d1_bias_momentum",
        "adam/s_d1_bias_velocity",
    ];

    #[test]
    fn layouts_are_judged_by_names_and_named_back() {
        let (o, weights) = dense();
        for (names, layout, dialect) in [
            (LEGACY, OptimizerLayout::Legacy, Dialect::Keras2),
            (KERAS2, OptimizerLayout::Keras2, Dialect::Keras2),
            (KERAS3, OptimizerLayout::Keras3, Dialect::Keras3),
        ] {
            let owned: Vec<String> = names.iter().map(|n| n.to_string()).collect();
            assert_eq!(layout_of_names(&owned), layout);
            let prefixed: HashMap<String, ObjectId> = match layout {
                OptimizerLayout::Keras3 => weights.iter().map(|(n, id)| (format!("s/{n}"), *id)).collect(),
                _ => weights.clone(),
            };
            let mut read = state(layout, names, &prefixed);
            assert_eq!(read.variables.iter().filter(|v| v.slot.is_some()).count(), 4, "{names:?}");
            assert_eq!(super::names(&read, &o, dialect), owned);
            // Without slots, the order says the same.
            read.variables.iter_mut().for_each(|v| v.slot = None);
            assert_eq!(super::names(&read, &o, dialect), owned);
        }
    }

    #[test]
    fn states_change_their_layout_with_the_dialect() {
        let (o, weights) = dense();
        let compile = json!({"optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.25}}});
        let convert = |state: OptimizerState, dialect| {
            let training = Training { compile: Some(compile.clone()), optimizer: Some(state) };
            let state = for_dialect(&training, dialect, &mut Report::default()).expect("state");
            names(&state, &o, dialect)
        };
        assert_eq!(convert(state(OptimizerLayout::Legacy, LEGACY, &weights), Dialect::Keras2), LEGACY);
        let from_legacy = convert(state(OptimizerLayout::Legacy, LEGACY, &weights), Dialect::Keras3);
        assert_eq!(from_legacy.len(), KERAS3.len());
        assert_eq!(convert(state(OptimizerLayout::Keras3, KERAS3, &HashMap::new()), Dialect::Keras2), KERAS2);
        let training = Training {
            compile: Some(compile.clone()),
            optimizer: Some(state(OptimizerLayout::Keras2, KERAS2, &weights)),
        };
        let keras3 = for_dialect(&training, Dialect::Keras3, &mut Report::default()).expect("state");
        assert_eq!(keras3.variables[1].variable.load().expect("rate").item::<f32>().expect("f32"), 0.25);
    }
}
