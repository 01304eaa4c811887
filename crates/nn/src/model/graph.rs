//! How a model's layers connect.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use modelark_artifact::{Error, Result};
use serde_json::Value;

use crate::layer::Given;
use crate::{Instance, Spec};

/// An argument of a call, or what a model takes or gives: tensors of kind `T`, perhaps nested, and plain values.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument<T> {
    /// A tensor.
    Tensor(T),
    /// A list (or tuple).
    List(Vec<Argument<T>>),
    /// A dict, in its own order.
    Dict(Vec<(String, Argument<T>)>),
    /// Anything that isn't a tensor: a number, `training`, a mask that isn't given.
    Value(Value),
}

impl<T: Clone> Argument<T> {
    /// The tensors within, in order.
    pub fn tensors(&self) -> Vec<T> {
        match self {
            Argument::Tensor(t) => vec![t.clone()],
            Argument::List(items) => items.iter().flat_map(Argument::tensors).collect(),
            Argument::Dict(items) => items.iter().flat_map(|(_, v)| v.tensors()).collect(),
            Argument::Value(_) => Vec::new(),
        }
    }

    /// The tensors within, as TensorFlow flattens them: dicts by key.
    pub(crate) fn sorted(&self) -> Vec<T> {
        match self {
            Argument::Dict(items) => {
                let mut items: Vec<_> = items.iter().collect();
                items.sort_by_key(|(key, _)| key);
                items.into_iter().flat_map(|(_, v)| v.sorted()).collect()
            }
            Argument::List(items) => items.iter().flat_map(Argument::sorted).collect(),
            other => other.tensors(),
        }
    }

    /// The same structure with other tensors.
    ///
    /// # Errors
    /// What `change` returns.
    pub fn map<U>(&self, change: &mut impl FnMut(&T) -> Result<U>) -> Result<Argument<U>> {
        Ok(match self {
            Argument::Tensor(t) => Argument::Tensor(change(t)?),
            Argument::List(items) => {
                Argument::List(items.iter().map(|i| i.map(change)).collect::<Result<_>>()?)
            }
            Argument::Dict(items) => Argument::Dict(
                items.iter().map(|(k, v)| Ok((k.clone(), v.map(change)?))).collect::<Result<_>>()?,
            ),
            Argument::Value(v) => Argument::Value(v.clone()),
        })
    }
}

/// Where a tensor of a model comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Edge {
    /// The model's input of this index.
    Input(usize),
    /// The output of a step: the step's index, the output's index.
    Output(usize, usize),
}

/// One call of one layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// The layer's index in the model.
    pub layer: usize,
    /// Which of the layer's calls this is; a layer that is called several times is shared.
    pub node: usize,
    /// Positional arguments.
    pub args: Vec<Argument<Edge>>,
    /// Keyword arguments.
    pub keywords: Vec<(String, Argument<Edge>)>,
}

impl Step {
    /// The same call of other tensors.
    ///
    /// # Errors
    /// What `change` returns.
    pub fn with_edges(&self, mut change: impl FnMut(&Edge) -> Result<Edge>) -> Result<Step> {
        let args = self.args.iter().map(|a| a.map(&mut change)).collect::<Result<_>>()?;
        let keywords =
            self.keywords.iter().map(|(k, a)| Ok((k.clone(), a.map(&mut change)?))).collect::<Result<_>>()?;
        Ok(Step { args, keywords, ..*self })
    }

    /// The tensors that it takes, as Keras goes through them: keyword arguments by name.
    fn edges(&self) -> Vec<Edge> {
        let mut named: Vec<_> = self.keywords.iter().collect();
        named.sort_by_key(|(name, _)| name);
        self.args.iter().chain(named.into_iter().map(|(_, a)| a)).flat_map(Argument::sorted).collect()
    }
}

/// The calls of a model's layers, in an order in which they can be made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Graph {
    pub steps: Vec<Step>,
    /// The structure of what the model takes.
    pub input: Argument<usize>,
    /// What the model gives.
    pub output: Argument<Edge>,
}

impl Graph {
    /// Layers one after the other.
    pub fn chain(layers: usize) -> Self {
        let edge = |i: usize| i.checked_sub(1).map_or(Edge::Input(0), |step| Edge::Output(step, 0));
        let steps = (0..layers)
            .map(|i| Step { layer: i, node: 0, args: vec![Argument::Tensor(edge(i))], keywords: Vec::new() })
            .collect();
        Graph { steps, input: Argument::Tensor(0), output: Argument::Tensor(edge(layers)) }
    }

    /// The layers in the order in which Keras lists those of a Functional model, whose inputs these layers are: those that
    /// are farther from the outputs first; of those equally far the one first that is found first on the way back.
    pub fn order(&self, layers: usize, inputs: &[usize]) -> Vec<usize> {
        let layer = |edge: Edge| match edge {
            Edge::Input(i) => inputs.get(i).copied(),
            Edge::Output(step, _) => self.steps.get(step).map(|s| s.layer),
        };
        // How a call is known: inputs have but one.
        let node = |edge: Edge| match edge {
            Edge::Input(i) => Edge::Input(i),
            Edge::Output(step, _) => Edge::Output(step, 0),
        };
        let given = |edge: Edge| match edge {
            Edge::Input(_) => Vec::new(),
            Edge::Output(step, _) => self.steps.get(step).map(Step::edges).unwrap_or_default(),
        };
        let mut found: HashMap<usize, usize> = HashMap::new();
        let (mut entered, mut finished) = (HashSet::new(), Vec::new());
        let mut stack: Vec<(Edge, bool)> =
            self.output.sorted().into_iter().rev().map(|e| (node(e), false)).collect();
        while let Some((at, is_done)) = stack.pop() {
            if is_done {
                finished.push(at);
                continue;
            }
            if !entered.insert(at) {
                continue;
            }
            if let Some(layer) = layer(at) {
                let next = found.len();
                found.entry(layer).or_insert(next);
            }
            stack.push((at, true));
            stack.extend(given(at).into_iter().rev().map(|e| (node(e), false)));
        }
        let (mut depths, mut of_layers): (HashMap<Edge, usize>, HashMap<usize, usize>) = Default::default();
        for &at in finished.iter().rev() {
            let Some(layer) = layer(at) else { continue };
            let own = depths.get(&at).copied().unwrap_or(0).max(of_layers.get(&layer).copied().unwrap_or(0));
            of_layers.insert(layer, own);
            depths.insert(at, own);
            for before in given(at) {
                let depth = depths.entry(node(before)).or_default();
                *depth = (*depth).max(own + 1);
            }
        }
        // An input that nothing takes comes last, before the others that are as far.
        let far = |layer: &usize| Reverse(of_layers.get(layer).copied().unwrap_or(0));
        let rank = |layer: &usize| found.get(layer).map_or(0, |at| at + 1);
        let mut order: Vec<usize> = (0..layers).collect();
        order.sort_by_key(|layer| (far(layer), rank(layer)));
        order
    }

    /// Makes all calls in order, whatever a call is, and gives back what the model gives.
    pub fn run<T: Clone>(
        &self,
        inputs: &[T],
        mut call: impl FnMut(&Step, &[Argument<T>], &[(String, Argument<T>)]) -> Result<Vec<T>>,
    ) -> Result<Argument<T>> {
        let mut done: Vec<Vec<T>> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let mut find = |edge: &Edge| find(inputs, &done, *edge);
            let args = step.args.iter().map(|a| a.map(&mut find)).collect::<Result<Vec<_>>>()?;
            let keywords = step
                .keywords
                .iter()
                .map(|(k, a)| Ok((k.clone(), a.map(&mut find)?)))
                .collect::<Result<Vec<_>>>()?;
            done.push(call(step, &args, &keywords)?);
        }
        self.output.map(&mut |edge| find(inputs, &done, *edge))
    }

    /// Shapes and dtypes of every step's inputs and of what the model gives.
    pub fn propagate(
        &self,
        layers: &[Instance],
        inputs: &[Spec],
    ) -> Result<(Vec<Given<Spec>>, Argument<Spec>)> {
        let mut given = Vec::with_capacity(self.steps.len());
        let output = self.run(inputs, |step, args, keywords| {
            let layer = layer(layers, step)?;
            let specs = layer.given(args, keywords);
            let outputs = layer.output_of(&specs)?;
            given.push(specs);
            Ok(outputs)
        })?;
        Ok((given, output))
    }
}

/// The layer that a step calls.
pub(crate) fn layer<'a>(layers: &'a [Instance], step: &Step) -> Result<&'a Instance> {
    layers.get(step.layer).ok_or_else(|| Error::corrupt(format!("the model has no layer {}", step.layer)))
}

fn find<T: Clone>(inputs: &[T], done: &[Vec<T>], edge: Edge) -> Result<T> {
    match edge {
        Edge::Input(i) => inputs.get(i),
        Edge::Output(step, index) => done.get(step).and_then(|outputs| outputs.get(index)),
    }
    .cloned()
    .ok_or_else(|| match edge {
        Edge::Input(i) => Error::mismatch(format!("input {i} of the model isn't given")),
        Edge::Output(step, i) => Error::mismatch(format!("call {step} of the model has no output {i}")),
    })
}
