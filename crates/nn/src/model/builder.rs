//! Building Functional models as Keras's functional API does: layers are applied to tensors.

use std::collections::HashMap;
use std::sync::Arc;

use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};
use serde_json::Value;

use super::objects::name_layers;
use super::{Argument, Edge, Graph, Model, Step};
use crate::config::Object;
use crate::layers::InputLayer;
use crate::{Instance, Layer, Spec};

/// A tensor of a model that is being built (Keras: `KerasTensor`).
#[derive(Debug, Clone)]
pub struct Tensor {
    made: Arc<Made>,
    output: usize,
    spec: Spec,
}

#[derive(Debug)]
struct Made {
    layer: Instance,
    args: Vec<Argument<Tensor>>,
    keywords: Vec<(String, Argument<Tensor>)>,
}

impl Tensor {
    /// What is known of it.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    fn key(&self) -> usize {
        Arc::as_ptr(&self.made) as usize
    }
}

/// An input of any batch, each of whose rows is of this shape: `float32`, named by the model.
///
/// ```
/// use modelark_nn::{Apply, Model, input, layers::{Add, Dense}};
///
/// let x = input([8]);
/// let a = Dense::new(4).activation("relu").apply(&x)?;
/// let b = Dense::new(4).apply(&x)?;
/// let y = Add::new().apply_all(&[a, b])?;
/// let model = Model::functional("two_ways", &[x], &[y])?;
/// assert_eq!(model.outputs()?[0].0, "add");
/// # Ok::<(), modelark_nn::Error>(())
/// ```
pub fn input(shape: impl IntoIterator<Item = impl Into<Option<usize>>>) -> Tensor {
    input_of(InputLayer::new(shape))
}

/// An input of this dtype and name.
pub fn input_named(
    name: &str,
    shape: impl IntoIterator<Item = impl Into<Option<usize>>>,
    dtype: DType,
) -> Tensor {
    input_of(Instance::from(InputLayer::new(shape).dtype(dtype)).named(name))
}

fn input_of(layer: impl Into<Instance>) -> Tensor {
    let layer = layer.into();
    let spec = layer.downcast::<InputLayer>().and_then(|i| i.spec().ok());
    let spec = spec.unwrap_or_else(|| Spec::unknown(DType::F32));
    Tensor { made: Arc::new(Made { layer, args: Vec::new(), keywords: Vec::new() }), output: 0, spec }
}

/// Applies layers to tensors. An [`Instance`] applied twice shares its weights.
pub trait Apply {
    /// Applies the layer to one tensor.
    ///
    /// # Errors
    /// When the tensor doesn't fit, or the layer gives several.
    fn apply(self, x: &Tensor) -> Result<Tensor>;

    /// Applies a layer that merges tensors to a list of them.
    ///
    /// # Errors
    /// When the tensors don't fit, or the layer gives several.
    fn apply_all(self, tensors: &[Tensor]) -> Result<Tensor>;

    /// Applies the layer to any arguments, and gives back all that it gives.
    ///
    /// # Errors
    /// When the arguments don't fit.
    fn apply_with(
        self,
        args: Vec<Argument<Tensor>>,
        keywords: Vec<(String, Argument<Tensor>)>,
    ) -> Result<Vec<Tensor>>;
}

impl<L: Into<Instance>> Apply for L {
    fn apply(self, x: &Tensor) -> Result<Tensor> {
        one(self.apply_with(vec![Argument::Tensor(x.clone())], Vec::new())?)
    }

    fn apply_all(self, tensors: &[Tensor]) -> Result<Tensor> {
        let list = tensors.iter().cloned().map(Argument::Tensor).collect();
        one(self.apply_with(vec![Argument::List(list)], Vec::new())?)
    }

    fn apply_with(
        self,
        args: Vec<Argument<Tensor>>,
        keywords: Vec<(String, Argument<Tensor>)>,
    ) -> Result<Vec<Tensor>> {
        let layer: Instance = self.into();
        let given = layer.given(&args, &keywords).map(|t| t.spec.clone());
        let outputs = layer.output_of(&given)?;
        let made = Arc::new(Made { layer, args, keywords });
        let tensor = |(output, spec)| Tensor { made: made.clone(), output, spec };
        Ok(outputs.into_iter().enumerate().map(tensor).collect())
    }
}

fn one(mut tensors: Vec<Tensor>) -> Result<Tensor> {
    match (tensors.pop(), tensors.is_empty()) {
        (Some(tensor), true) => Ok(tensor),
        _ => Err(Error::invalid("the layer doesn't give exactly one tensor").help("use `apply_with`")),
    }
}

impl Model {
    /// A Functional model from its inputs to its outputs, with initialized weights (Keras: `Model(inputs, outputs)`).
    ///
    /// # Errors
    /// When an output depends on an input that isn't among the inputs, or two layers have one name.
    pub fn functional(name: &str, inputs: &[Tensor], outputs: &[Tensor]) -> Result<Self> {
        let list = |tensors: &[Tensor]| match tensors {
            [one] => Argument::Tensor(one.clone()),
            many => Argument::List(many.iter().cloned().map(Argument::Tensor).collect()),
        };
        Model::functional_with(name, list(inputs), list(outputs))
    }

    /// As [`Model::functional`], with inputs and outputs in any structure, such as dicts.
    ///
    /// # Errors
    /// As [`Model::functional`].
    pub fn functional_with(name: &str, inputs: Argument<Tensor>, outputs: Argument<Tensor>) -> Result<Self> {
        let mut build = Build::default();
        let mut indexes = Vec::new();
        let input = inputs.map(&mut |x| {
            if x.made.layer.downcast::<InputLayer>().is_none() {
                return Err(Error::invalid("an input of the model isn't made by `input`"));
            }
            let layer = build.layer(&x.made.layer);
            build.made.insert(x.key(), Source::Input(indexes.len()));
            build.kept.push(x.made.clone());
            indexes.push(layer);
            Ok(indexes.len() - 1)
        })?;
        for tensor in outputs.tensors() {
            build.visit(&tensor)?;
        }
        let output = outputs.map(&mut |y| build.edge(y))?;
        let layers = name_layers(build.layers)?;
        let graph = Graph { steps: build.steps, input, output };
        let mut model = Model::functional_of(name.to_owned(), layers, indexes, graph, Object::new());
        model.initialize(0)?;
        Ok(model)
    }
}

/// Where a call's outputs are found.
#[derive(Clone, Copy)]
enum Source {
    Input(usize),
    Step(usize),
}

#[derive(Default)]
struct Build {
    layers: Vec<Instance>,
    steps: Vec<Step>,
    made: HashMap<usize, Source>,
    /// Keeps what the keys of `made` point to.
    kept: Vec<Arc<Made>>,
}

impl Build {
    fn layer(&mut self, layer: &Instance) -> usize {
        self.layers.iter().position(|l| l.is(layer)).unwrap_or_else(|| {
            self.layers.push(layer.clone());
            self.layers.len() - 1
        })
    }

    /// Adds the calls that a tensor needs, those it depends on first; a stack of its own, for models of any depth.
    fn visit(&mut self, tensor: &Tensor) -> Result<()> {
        let mut stack = vec![tensor.made.clone()];
        while let Some(made) = stack.last().cloned() {
            let key = Arc::as_ptr(&made) as usize;
            if self.made.contains_key(&key) {
                stack.pop();
                continue;
            }
            if made.layer.downcast::<InputLayer>().is_some() {
                return Err(Error::invalid(
                    "an output depends on an input that isn't among the model's inputs",
                ));
            }
            let given =
                made.args.iter().chain(made.keywords.iter().map(|(_, a)| a)).flat_map(Argument::tensors);
            let missing: Vec<Arc<Made>> =
                given.filter(|t| !self.made.contains_key(&t.key())).map(|t| t.made).collect();
            if !missing.is_empty() {
                stack.extend(missing.into_iter().rev());
                continue;
            }
            let layer = self.layer(&made.layer);
            let node = self.steps.iter().filter(|s| s.layer == layer).count();
            let args = made.args.iter().map(|a| a.map(&mut |t| self.edge(t))).collect::<Result<_>>()?;
            let keywords = made
                .keywords
                .iter()
                .map(|(k, a)| Ok((k.clone(), a.map(&mut |t| self.edge(t))?)))
                .collect::<Result<_>>()?;
            self.made.insert(key, Source::Step(self.steps.len()));
            self.kept.push(made);
            self.steps.push(Step { layer, node, args, keywords });
            stack.pop();
        }
        Ok(())
    }

    fn edge(&self, tensor: &Tensor) -> Result<Edge> {
        match self.made.get(&tensor.key()) {
            Some(Source::Input(i)) => Ok(Edge::Input(*i)),
            Some(Source::Step(step)) => Ok(Edge::Output(*step, tensor.output)),
            None => Err(Error::invalid("a tensor that isn't part of the model")),
        }
    }
}

/// A plain value as an argument of a call.
impl<T> From<Value> for Argument<T> {
    fn from(value: Value) -> Self {
        Argument::Value(value)
    }
}

/// A layer of a type, with a name.
pub trait Named: Layer + Sized {
    /// The layer under this name, which must be unique in its model.
    fn named(self, name: &str) -> Instance {
        Instance::from(self).named(name)
    }
}

impl<L: Layer> Named for L {}
