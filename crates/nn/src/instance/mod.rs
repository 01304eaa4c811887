//! A layer as it stands in a model.

mod attach;
mod config;
mod trace;

use std::fmt;
use std::sync::Arc;

use modelark_artifact::{Dialect, Error, Result};

use crate::config::{DTypePolicy, Object};
use crate::layer::Given;
use crate::registry::is_built_in;
use crate::{Argument, Inputs, Layer, Model, Spec, WeightSpec};

/// A layer, or a model used as one, with its name and dtype policy. Cloning an instance gives the same one: applied
/// twice, it shares its weights.
#[derive(Clone)]
pub struct Instance(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    /// Empty until a model gives one.
    name: String,
    trainable: bool,
    dtype: DTypePolicy,
    /// Keras 2 lets the first layer of a Sequential say the input's shape.
    batch_input_shape: Option<Vec<Option<usize>>>,
    /// The class's name and the name it is registered under (`Package>Class`), for classes that aren't Keras's own.
    custom: Option<(String, String)>,
    /// Keys of the config that the class doesn't have.
    unknown: Object,
    /// The dialect that the config was read in.
    dialect: Option<Dialect>,
    /// In a model with stand-ins, whose tensors aren't all known: what to take for inputs that aren't.
    assumed: Option<Vec<Spec>>,
    /// What to take for an input of which nothing is known.
    supposed: Option<Spec>,
    /// What it gives there, where the file tells.
    gives: Option<Spec>,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Layer(Box<dyn Layer>),
    Model(Box<Model>),
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.class_name(), self.0.name)
    }
}

impl<L: Layer> From<L> for Instance {
    fn from(layer: L) -> Self {
        let class = (!is_built_in(&layer)).then(|| layer.class_name().to_owned());
        let instance = Instance::of(Body::Layer(Box::new(layer)));
        match class {
            Some(class) => instance.registered(class),
            None => instance,
        }
    }
}

impl From<Model> for Instance {
    fn from(model: Model) -> Self {
        let name = model.name().to_owned();
        Instance::of(Body::Model(Box::new(model))).named(&name)
    }
}

impl Instance {
    fn of(body: Body) -> Self {
        Instance(Arc::new(Inner {
            name: String::new(),
            trainable: true,
            dtype: DTypePolicy::default(),
            batch_input_shape: None,
            custom: None,
            unknown: Object::new(),
            dialect: None,
            assumed: None,
            supposed: None,
            gives: None,
            body,
        }))
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        Instance(Arc::new(inner))
    }

    /// A layer that holds this model instead of its own.
    pub(crate) fn holding(self, model: Model) -> Self {
        self.with(|i| i.body = Body::Model(model.into()))
    }

    /// A layer that is this one instead.
    pub(crate) fn of_layer(self, layer: impl Layer) -> Self {
        self.with(|i| i.body = Body::Layer(Box::new(layer)))
    }

    /// A layer of a model with stand-ins, which is given these where its inputs aren't known.
    pub(crate) fn assuming(self, inputs: Vec<Spec>) -> Self {
        self.with(|i| i.assumed = Some(inputs))
    }

    /// A layer within another one of such a model, which is given this where nothing is known of its input.
    pub(crate) fn supposing(self, input: Spec) -> Self {
        self.with(|i| i.supposed = Some(input))
    }

    /// A stand-in of which the file tells what it gives.
    pub(crate) fn giving(self, output: Spec) -> Self {
        self.with(|i| i.gives = Some(output))
    }

    /// A layer of this name; it must be unique in its model.
    pub fn named(self, name: &str) -> Self {
        self.with(|i| i.name = name.to_owned())
    }

    /// A layer of this dtype policy: a dtype's name, `mixed_float16` or `mixed_bfloat16`.
    pub fn dtype(self, policy: impl Into<String>) -> Self {
        self.with(|i| i.dtype = DTypePolicy::new(policy))
    }

    /// A layer whose weights training may change, or not.
    pub fn trainable(self, trainable: bool) -> Self {
        self.with(|i| i.trainable = trainable)
    }

    /// A layer of a class of the user's own, registered under this name: `Package>Class`, as Keras's
    /// `register_keras_serializable` has it, or the class's name alone.
    pub fn registered(self, name: impl Into<String>) -> Self {
        let name = name.into();
        let class = name.rsplit('>').next().unwrap_or(&name).to_owned();
        self.with(|i| i.custom = Some((class, name)))
    }

    /// The layer's name; empty while no model has it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The class's name.
    pub fn class_name(&self) -> &str {
        match (&self.0.custom, &self.0.body) {
            (Some((class, _)), _) => class,
            (None, Body::Layer(layer)) => layer.class_name(),
            (None, Body::Model(model)) => model.class_name(),
        }
    }

    /// Whether training may change its weights.
    pub fn is_trainable(&self) -> bool {
        self.0.trainable
    }

    /// The dtype policy.
    pub fn policy(&self) -> &DTypePolicy {
        &self.0.dtype
    }

    /// The layer as its class, when it is of that class.
    pub fn downcast<L: Layer>(&self) -> Option<&L> {
        match &self.0.body {
            Body::Layer(layer) => (&**layer as &dyn std::any::Any).downcast_ref(),
            Body::Model(_) => None,
        }
    }

    /// The model, when a model is used as a layer.
    pub fn model(&self) -> Option<&Model> {
        match &self.0.body {
            Body::Layer(_) => None,
            Body::Model(model) => Some(model),
        }
    }

    /// The dialect of the config that the layer was read from; none for one that was made here.
    pub(crate) fn read_in(&self) -> Option<Dialect> {
        self.0.dialect
    }

    /// The layer, unless it is a model.
    pub fn layer(&self) -> Option<&dyn Layer> {
        match &self.0.body {
            Body::Layer(layer) => Some(&**layer),
            Body::Model(_) => None,
        }
    }

    /// Keys of the config that its class doesn't have; they are kept and written back.
    pub fn unknown_keys(&self) -> &Object {
        &self.0.unknown
    }

    /// The shape of the input with its batch, which Keras 2 lets the first layer say.
    pub fn batch_input_shape(&self) -> Option<&[Option<usize>]> {
        self.0.batch_input_shape.as_deref()
    }

    /// Whether two handles mean one layer.
    pub fn is(&self, other: &Instance) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn key(&self) -> usize {
        Arc::as_ptr(&self.0) as *const () as usize
    }

    /// `layer "dense_1" (Dense)`.
    pub(crate) fn place(&self) -> String {
        format!("layer {:?} ({})", self.0.name, self.class_name())
    }

    /// Shapes and dtypes of the outputs for tensors as positional arguments.
    ///
    /// # Errors
    /// When the inputs don't fit.
    pub fn output(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        self.output_of(&self.positional(inputs.to_vec()))
    }

    /// Shapes and dtypes of the outputs of a call.
    pub(crate) fn output_of(&self, given: &Given<Spec>) -> Result<Vec<Spec>> {
        // More outputs than any layer has.
        const UNKNOWN: usize = 16;
        let assumed = self.assumed(given);
        let given = assumed.as_ref().unwrap_or(given);
        let outputs = match &self.0.body {
            Body::Layer(layer) => self.inputs(given).and_then(|inputs| layer.output(&inputs)),
            Body::Model(model) => model.output(&given.tensors),
        };
        match outputs {
            Err(_) if self.0.assumed.is_some() => {
                let unknown = Spec::unknown(self.0.dtype.compute()?);
                let rest = std::iter::repeat_n(unknown, UNKNOWN);
                Ok(self.0.gives.clone().into_iter().chain(rest).collect())
            }
            outputs => outputs.map_err(|e| e.at(self.place())),
        }
    }

    /// The inputs that are taken for those given, in a model with stand-ins.
    fn assumed(&self, given: &Given<Spec>) -> Option<Given<Spec>> {
        let is_unknown = || given.tensors.first().is_some_and(|spec| spec.dims().is_err());
        let supposed = || self.0.supposed.as_ref().filter(|_| is_unknown());
        let spec = self.0.assumed.as_ref().and_then(|all| all.first()).or_else(supposed)?;
        Some(given.map(|_| spec.clone()))
    }

    /// The weights that the layer itself has for these inputs, without its sublayers'.
    pub(crate) fn weights(&self, inputs: &[Spec]) -> Result<Vec<WeightSpec>> {
        match &self.0.body {
            Body::Layer(layer) => layer.weights(&self.inputs(&self.positional(inputs.to_vec()))?),
            Body::Model(_) => Ok(Vec::new()),
        }
    }

    /// What each of a cell's states is.
    ///
    /// # Errors
    /// When the layer isn't a cell, or the step's input doesn't fit.
    pub(crate) fn states(&self, step: &Spec) -> Result<Vec<Spec>> {
        let given = self.positional(vec![step.clone()]);
        let given = self.assumed(&given).unwrap_or(given);
        let states = match &self.0.body {
            Body::Layer(layer) => layer.states(&self.inputs(&given)?)?,
            Body::Model(_) => Vec::new(),
        };
        if states.is_empty() {
            return Err(Error::invalid("it isn't a cell of a recurrent layer").at(self.place()));
        }
        Ok(states)
    }

    /// Tensors as one positional argument each.
    fn positional<T: Clone>(&self, tensors: Vec<T>) -> Given<T> {
        self.given(&tensors.into_iter().map(Argument::Tensor).collect::<Vec<_>>(), &[])
    }

    /// The layer as one of this policy holds it: where policies go by paths, its own does, too.
    fn under(&self, policy: &DTypePolicy) -> Self {
        match policy.held(&self.0.dtype) {
            Some(dtype) => self.clone().with(|i| i.dtype = dtype),
            None => self.clone(),
        }
    }

    /// The inputs as the layer sees them: floats cast to the dtype in which it computes.
    fn inputs(&self, given: &Given<Spec>) -> Result<Inputs> {
        let policy = self.0.dtype.at(&self.0.name)?;
        let compute = policy.compute()?;
        let casts = compute.is_float() && self.layer().is_some_and(Layer::autocasts);
        let cast = |s: &Spec| match s.dtype.is_float() && casts {
            true => Spec { shape: s.shape.clone(), dtype: compute },
            false => s.clone(),
        };
        let inputs = Inputs::new(given.tensors.iter().map(cast).collect(), compute);
        Ok(inputs.of_call(&policy, given.arguments.clone()))
    }

    /// The tensors of a call in the order in which the layer takes them: positional ones, then keyword arguments by the
    /// order of [`Layer::arguments`]. Masks go beside.
    pub(crate) fn given<T: Clone>(
        &self,
        positional: &[Argument<T>],
        keywords: &[(String, Argument<T>)],
    ) -> Given<T> {
        let order = self.layer().map(Layer::arguments).unwrap_or_default();
        let mut named: Vec<_> = keywords.iter().filter(|(n, _)| n != "mask" && n != "training").collect();
        named.sort_by_key(|(n, _)| order.iter().position(|a| a == n).unwrap_or(usize::MAX));
        let place = |(i, a)| (order.get(i).copied().unwrap_or_default(), a);
        let all = positional.iter().enumerate().map(place);
        let mut given = Given::default();
        for (name, argument) in all.chain(named.into_iter().map(|(n, a)| (n.as_str(), a))) {
            let counted = argument.map(&mut |tensor| {
                given.tensors.push(tensor.clone());
                Ok(given.tensors.len() - 1)
            });
            given.arguments.extend(counted.map(|a| (name.to_owned(), a)));
        }
        given
    }
}

/// A name that TensorFlow takes for a node.
pub(crate) fn node_name(name: &str) -> String {
    let mut out: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/') { c } else { '_' })
        .collect();
    if !out.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.') {
        out.insert(0, 'x');
    }
    out
}
