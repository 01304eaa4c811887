//! An optimizer's variables in a checkpoint, by the generation that named them.
//!
//! - `OptimizerV2`: `iter` and hyperparameters are the optimizer's; slots belong to their weights.
//! - Keras 2.11 and later: all in the list `_variables`, the first of which is `_iterations`.
//! - Keras 3: the same, and `_learning_rate` is the second.

use std::collections::HashMap;

use modelark_artifact::{
    ObjectId, Objects, OptimizerLayout, OptimizerState, OptimizerVariable, Report, Slot, Training, Variable,
};
use modelark_proto::TrackableObjectGraph;
use modelark_tensor::Tensor;

use crate::keras::Model;
use crate::trackable::{Node, NodeId, VALUE};

const HYPERPARAMETERS: &[&str] = OptimizerVariable::HYPERPARAMETERS;

/// What Nadam of `OptimizerV2` keeps after its count of steps.
const MOMENTUM_CACHE: &str = "momentum_cache";

/// The optimizer's state in the objects of a graph, whose ids are the graph's nodes.
pub(crate) fn read(objects: &Objects, graph: &TrackableObjectGraph) -> Option<OptimizerState> {
    let (id, _) = objects
        .walk()
        .into_iter()
        .find(|(_, path)| path.last() == Some(&"optimizer") || path.last() == Some(&"_optimizer"))?;
    let own = Optimizer { id, objects };
    let state = if own.child("_variables").is_some() { own.listed() } else { own.slots(graph) }?;
    (!state.variables.is_empty()).then_some(state)
}

struct Optimizer<'a> {
    id: ObjectId,
    objects: &'a Objects,
}

impl Optimizer<'_> {
    fn child(&self, name: &str) -> Option<ObjectId> {
        self.objects.get(self.id)?.child(name)
    }

    /// The ids in a list, in order.
    fn list(&self, id: ObjectId) -> Vec<ObjectId> {
        let mut items: Vec<(usize, ObjectId)> = self
            .objects
            .get(id)
            .map_or(&[][..], |o| &o.children)
            .iter()
            .filter_map(|(name, id)| Some((name.parse().ok()?, *id)))
            .collect();
        items.sort_unstable();
        items.into_iter().map(|(_, id)| id).collect()
    }

    fn variable(&self, id: ObjectId, slot: Option<Slot>) -> Option<OptimizerVariable> {
        Some(OptimizerVariable { variable: self.objects.variable(id)?.clone().trainable(false), slot })
    }

    /// State as `OptimizerV2` keeps it.
    fn slots(&self, graph: &TrackableObjectGraph) -> Option<OptimizerState> {
        let iterations = self.child("iter")?;
        let mut variables = vec![self.variable(iterations, None)?];
        let slots = &graph.nodes.get(self.id)?.slot_variables;
        variables.extend(self.child(MOMENTUM_CACHE).and_then(|id| self.variable(id, None)));
        let class = self.class(iterations);
        // The places of names and weights, by where they come first.
        let (mut names, mut weights) = (HashMap::new(), HashMap::new());
        for slot in slots {
            let (next_name, next_weight) = (names.len(), weights.len());
            names.entry(slot.slot_name.as_str()).or_insert(next_name);
            weights.entry(slot.original_variable_node_id).or_insert(next_weight);
        }
        let mut ordered: Vec<_> = slots.iter().collect();
        // Slot by slot; Ftrl alone makes both of a weight's before the next weight's.
        let by_weight = class.as_deref() == Some("Ftrl");
        ordered.sort_by_key(|s| {
            let weight = weights.get(&s.original_variable_node_id).filter(|_| by_weight);
            (weight, names.get(s.slot_name.as_str()))
        });
        for slot in ordered {
            let weight = usize::try_from(slot.original_variable_node_id).ok()?;
            let id = usize::try_from(slot.slot_variable_node_id).ok()?;
            variables.extend(self.variable(id, Some(Slot { name: slot.slot_name.clone(), weight })));
        }
        for (name, id) in &self.objects.get(self.id)?.children {
            if *id != iterations && HYPERPARAMETERS.contains(&name.as_str()) {
                variables.extend(self.variable(*id, None));
            }
        }
        Some(OptimizerState { layout: OptimizerLayout::Legacy, class, variables })
    }

    /// State as Keras 2.11 and later keep it.
    fn listed(&self) -> Option<OptimizerState> {
        let all = self.list(self.child("_variables")?);
        let learning_rate = self.child("_learning_rate");
        let keras3 = self.child("_trainable_variables").is_some()
            || (learning_rate.is_some() && all.get(1).copied() == learning_rate);
        let trainable = self.child("_trainable_variables").map(|id| self.list(id)).unwrap_or_default();
        // Which of its lists a slot is in, and where.
        let mut lists = HashMap::new();
        for (name, id) in &self.objects.get(self.id)?.children {
            if !matches!(name.as_str(), "_variables" | "_trainable_variables") {
                for (i, slot) in self.list(*id).into_iter().enumerate() {
                    lists.entry(slot).or_insert((name.as_str(), i));
                }
            }
        }
        let mut by_name: HashMap<&str, Option<ObjectId>> = HashMap::new();
        for (id, _, variable) in self.objects.variables() {
            // A name that two variables have tells nothing.
            by_name.entry(&variable.name).and_modify(|id| *id = None).or_insert(Some(id));
        }
        let slot_of = |id: ObjectId| -> Option<Slot> {
            let full_name = &self.objects.variable(id)?.name;
            let (class, rest) = full_name.split_once('/')?;
            if let Some((name, weight)) = rest.split_once('/')
                && let Some(Some(weight)) = by_name.get(weight)
                && !class.is_empty()
            {
                return Some(Slot { name: name.to_owned(), weight: *weight });
            }
            let (list, i) = lists.get(&id)?;
            let weight = *trainable.get(*i)?;
            let start = format!("{}_", self.objects.variable(weight)?.name.replace('/', "_"));
            let name = rest.strip_prefix(&start).unwrap_or_else(|| list.trim_matches('_'));
            Some(Slot { name: name.to_owned(), weight })
        };
        let mut variables: Vec<OptimizerVariable> = Vec::new();
        let mut class = None;
        for (i, id) in all.iter().enumerate() {
            let slot = if i == 0 || Some(*id) == learning_rate { None } else { slot_of(*id) };
            if slot.is_some() && class.is_none() && !keras3 {
                class = self.class(*id);
            }
            variables.extend(self.variable(*id, slot));
        }
        if !keras3 && let Some(id) = learning_rate {
            variables.extend(self.variable(id, None));
        }
        let layout = if keras3 { OptimizerLayout::Keras3 } else { OptimizerLayout::Keras2 };
        Some(OptimizerState { layout, class, variables })
    }

    /// The class that a full name starts with: `Adam/iter`.
    fn class(&self, id: ObjectId) -> Option<String> {
        let (class, _) = self.objects.variable(id)?.name.split_once('/')?;
        Some(class.to_owned()).filter(|c| !c.is_empty())
    }
}

/// Adds the optimizer to a model's tree, below the model.
pub(crate) fn write(model: &mut Model, training: &Training, keras3: bool, report: &mut Report) {
    let Some(state) = &training.optimizer else { return };
    let config = config_of(training);
    let scaled = training.compile.as_ref().is_some_and(|c| optimizer_of(c).is_some_and(is_scaled));
    let own = if scaled { state.scaling() } else { 0 };
    if own > 0 {
        report.note("the scale of losses was left out: the checkpoint has the optimizer within");
    }
    let variables = state.variables.get(own..).unwrap_or_default();
    let Some((iterations, rest)) = variables.split_first() else { return };
    let class = state
        .class
        .clone()
        .or_else(|| Some(config?.get("class_name")?.as_str()?.rsplit('>').next()?.to_owned()))
        .unwrap_or_else(|| "optimizer".to_owned());
    let number = |name: &str| {
        let value = match config? {
            serde_json::Value::String(class) if name == "learning_rate" => default_learning_rate(class)?,
            config => config.get("config")?.get(name)?.as_f64()?,
        };
        Some(Variable::new(name, Tensor::scalar(value as f32)))
    };
    // In Keras 3's layout the place tells what the learning rate is, whatever a format calls it.
    let second = rest.first().filter(|v| {
        state.layout == OptimizerLayout::Keras3 && v.slot.is_none() && v.variable.shape.is_empty()
    });
    let rest = if second.is_some() { rest.get(1..).unwrap_or_default() } else { rest };
    let (slots, own): (Vec<_>, Vec<_>) = rest.iter().partition(|v| v.hyperparameter().is_none());
    let hyperparameter = |name: &str| {
        let kept = own.iter().copied().find(|v| v.hyperparameter() == Some(name));
        let kept = kept.or(second.filter(|_| name == "learning_rate"));
        kept.map(|v| v.variable.clone()).or_else(|| number(name))
    };
    let legacy = state.layout == OptimizerLayout::Legacy;
    if keras3 && legacy {
        report.note("the optimizer's state was left out: its layout is older than Keras 3");
        return;
    }
    let learning_rate = hyperparameter("learning_rate");
    if keras3 && learning_rate.is_none() {
        report.note("the optimizer's state was left out: its learning rate isn't known");
        return;
    }
    let optimizer = model.tree.add(crate::trackable::Tree::ROOT, "optimizer", Node::default());
    if legacy {
        let kept = |v: &&&OptimizerVariable| match &v.slot {
            Some(slot) => model.nodes.contains_key(&slot.weight),
            None => is_momentum_cache(v),
        };
        let lost: Vec<&str> = slots.iter().filter(|v| !kept(v)).map(|v| v.variable.name.as_str()).collect();
        if !lost.is_empty() {
            report.note(format!("optimizer variables of no known weight were left out: {}", lost.join(", ")));
        }
        write_slots(model, optimizer, &class, iterations, &slots, &hyperparameter);
        return;
    }
    let list = model.tree.add(optimizer, "_variables", Node::default());
    let scope = if keras3 { format!("{}/", class.to_lowercase()) } else { String::new() };
    let first = value(model, &format!("{scope}iteration"), &iterations.variable);
    model.tree.link(list, "0", first);
    model.tree.link(optimizer, "_iterations", first);
    let mut position = 1;
    if let Some(learning_rate) = learning_rate {
        let node = value(model, &format!("{scope}learning_rate"), &learning_rate);
        if keras3 {
            model.tree.link(list, "1", node);
            position += 1;
        }
        model.tree.link(optimizer, "_learning_rate", node);
    }
    for v in slots {
        let full_name = match &v.slot {
            Some(slot) if keras3 => {
                format!("{scope}{}_{}", model.full_name(slot.weight).replace('/', "_"), slot.name)
            }
            Some(slot) => format!("{class}/{}/{}", slot.name, model.full_name(slot.weight)),
            None => v.variable.name.strip_suffix(":0").unwrap_or(&v.variable.name).to_owned(),
        };
        let node = value(model, &full_name, &v.variable);
        model.tree.link(list, &position.to_string(), node);
        position += 1;
    }
}

fn write_slots(
    model: &mut Model,
    optimizer: NodeId,
    class: &str,
    iterations: &OptimizerVariable,
    slots: &[&OptimizerVariable],
    hyperparameter: &dyn Fn(&str) -> Option<Variable>,
) {
    let node = value(model, &format!("{class}/iter"), &iterations.variable);
    model.tree.link(optimizer, "iter", node);
    for name in HYPERPARAMETERS {
        if let Some(variable) = hyperparameter(name) {
            let node = value(model, &format!("{class}/{name}"), &variable);
            model.tree.link(optimizer, name, node);
        }
    }
    for v in slots {
        if is_momentum_cache(v) {
            let node = value(model, &format!("{class}/{MOMENTUM_CACHE}"), &v.variable);
            model.tree.link(optimizer, MOMENTUM_CACHE, node);
        }
        let Some(slot) = &v.slot else { continue };
        let Some(&weight) = model.nodes.get(&slot.weight) else { continue };
        let full_name = format!("{class}/{}/{}", model.full_name(slot.weight), slot.name);
        let node = value(model, &full_name, &v.variable);
        if let Some(optimizer) = model.tree.nodes.get_mut(optimizer) {
            optimizer.slots.push((weight, slot.name.clone(), node));
        }
    }
}

fn is_momentum_cache(v: &OptimizerVariable) -> bool {
    let name = v.variable.name.strip_suffix(":0").unwrap_or(&v.variable.name);
    v.slot.is_none() && name.rsplit('/').next() == Some(MOMENTUM_CACHE)
}

fn value(model: &mut Model, full_name: &str, variable: &Variable) -> NodeId {
    let values = vec![(VALUE.to_owned(), full_name.to_owned(), variable.clone())];
    model.tree.push(Node { values, ..Node::default() })
}

/// The optimizer's node in a compile config, however it is spelled: the one within, where another scales losses around it.
fn config_of(training: &Training) -> Option<&serde_json::Value> {
    let node = optimizer_of(training.compile.as_ref()?)?;
    node.pointer(WITHIN).or(Some(node))
}

const WITHIN: &str = "/config/inner_optimizer";

fn is_scaled(node: &serde_json::Value) -> bool {
    node.pointer(WITHIN).is_some()
}

fn optimizer_of(compile: &serde_json::Value) -> Option<&serde_json::Value> {
    ["optimizer_config", "optimizer"]
        .iter()
        .filter_map(|k| compile.get(k))
        .find(|v| v.is_object() || v.is_string())
}

/// What Keras uses for an optimizer that is given by its name alone.
fn default_learning_rate(name: &str) -> Option<f64> {
    match name.to_lowercase().as_str() {
        "sgd" => Some(0.01),
        "adadelta" | "adafactor" | "adagrad" | "adam" | "adamax" | "adamw" | "ftrl" | "nadam" | "rmsprop" => {
            Some(0.001)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::{Dialect, Kind};

    use super::*;
    use crate::keras::tests::functional;

    /// State of the test model with one slot for each of its weights.
    fn training(layout: OptimizerLayout, compile: Option<serde_json::Value>) -> Training {
        let own = |name: &str, slot| OptimizerVariable {
            variable: Variable::new(name, Tensor::scalar(1f32)),
            slot,
        };
        let mut variables = vec![own("iteration", None)];
        if layout == OptimizerLayout::Keras3 {
            variables.push(own("1", None));
        }
        for (id, path, _) in functional().variables() {
            variables.push(own(&path, Some(Slot { name: "m".into(), weight: id })));
        }
        Training {
            compile,
            optimizer: Some(OptimizerState { layout, class: Some("Adam".into()), variables }),
        }
    }

    fn keys(training: &Training, dialect: Dialect) -> (Vec<String>, Report) {
        let mut report = Report::default();
        let mut model = Model::new(&functional(), dialect);
        write(&mut model, training, dialect == Dialect::Keras3, &mut report);
        let tensors = model.tree.write().tensors;
        let own =
            tensors.into_iter().filter(|(key, _)| key.contains("ptimizer") || key.contains("OPTIMIZER"));
        (own.map(|(key, _)| key.replace("/.ATTRIBUTES/VARIABLE_VALUE", "")).collect(), report)
    }

    #[test]
    fn keys_are_those_of_the_layout() {
        let compile = serde_json::json!({"optimizer_config": {"class_name": "Adam", "config": {"learning_rate": 0.5, "epsilon": 1e-7}}});
        let (keras2, report) =
            keys(&training(OptimizerLayout::Keras2, Some(compile.clone())), Dialect::Keras2);
        assert_eq!(
            keras2[..3],
            ["optimizer/_iterations", "optimizer/_learning_rate", "optimizer/_variables/1"]
        );
        assert_eq!((keras2.len(), report), (5, Report::default()));
        let by_name = training(OptimizerLayout::Keras2, Some(serde_json::json!({"optimizer": "sgd"})));
        assert_eq!(keys(&by_name, Dialect::Keras2).0, keras2);
        let (keras3, _) = keys(&training(OptimizerLayout::Keras3, None), Dialect::Keras3);
        assert_eq!(
            keras3[..3],
            ["optimizer/_iterations", "optimizer/_learning_rate", "optimizer/_variables/2"]
        );
        let (older, _) = keys(&training(OptimizerLayout::Keras3, None), Dialect::Keras2);
        assert_eq!(older, keras2);
        let (legacy, _) = keys(&training(OptimizerLayout::Legacy, Some(compile)), Dialect::Keras2);
        assert_eq!(legacy[..2], ["optimizer/iter", "optimizer/learning_rate"]);
        assert!(
            legacy.contains(&"layer_with_weights-1/cell/kernel/.OPTIMIZER_SLOT/optimizer/m".to_owned()),
            "{legacy:?}"
        );
    }

    #[test]
    fn what_does_not_fit_the_dialect_is_reported() {
        for layout in [OptimizerLayout::Legacy, OptimizerLayout::Keras2] {
            let (keys, report) = keys(&training(layout, None), Dialect::Keras3);
            assert_eq!((keys.len(), report.notes.len()), (0, 1), "{layout:?}");
        }
        let mut lost = training(OptimizerLayout::Legacy, None);
        lost.optimizer.iter_mut().flat_map(|o| &mut o.variables).for_each(|v| v.slot = None);
        assert!(keys(&lost, Dialect::Keras2).1.notes[0].contains("no known weight"));
    }

    #[test]
    fn an_optimizer_without_variables_is_none() {
        let mut objects = Objects::default();
        objects.add(Objects::ROOT, "optimizer", Kind::object());
        assert!(read(&objects, &TrackableObjectGraph::default()).is_none());
    }
}
