//! What a layer is.

use std::any::Any;
use std::fmt;

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::{DType, PartialShape};
use modelark_artifact::{Dialect, Error, Result, Role};

use crate::config::DTypePolicy;
use crate::former::{FormerWeights, Origin};
use crate::{Argument, Call, Constraint, Fields, Initializer, Instance, Regularizer};

/// What is known of a tensor before a call: its shape and dtype.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The shape, the batch first; unknown extents are `None`.
    pub shape: PartialShape,
    /// The dtype.
    pub dtype: DType,
}

impl Spec {
    /// A tensor of this shape and dtype.
    pub fn new(shape: impl Into<Vec<Option<usize>>>, dtype: DType) -> Self {
        Spec { shape: PartialShape::new(shape), dtype }
    }

    /// A tensor of which only the dtype is known.
    pub fn unknown(dtype: DType) -> Self {
        Spec { shape: PartialShape::UNKNOWN, dtype }
    }

    /// The same dtype with another shape.
    pub fn with_shape(&self, shape: impl Into<Vec<Option<usize>>>) -> Self {
        Spec::new(shape, self.dtype)
    }

    /// The extents.
    ///
    /// # Errors
    /// When not even the number of dimensions is known.
    pub fn dims(&self) -> Result<&[Option<usize>]> {
        self.shape.dims().ok_or_else(|| Error::mismatch("the number of the input's dimensions isn't known"))
    }

    /// The number of dimensions.
    ///
    /// # Errors
    /// When it isn't known.
    pub fn rank(&self) -> Result<usize> {
        self.dims().map(<[_]>::len)
    }

    /// The extent of an axis, where it must be known: negative axes count from the end.
    ///
    /// # Errors
    /// When there is no such axis, or its extent isn't known.
    pub fn known(&self, axis: i64) -> Result<usize> {
        let dims = self.dims()?;
        let at = crate::config::resolve_axis(axis, dims.len())?;
        dims.get(at).copied().flatten().ok_or_else(|| {
            Error::mismatch(format!("axis {axis} of the input, of shape {}, must be known", self.shape))
                .help("give the input's shape")
        })
    }
}

/// What a layer is given when its weights are made or its outputs' shapes are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    specs: Vec<Spec>,
    compute: DType,
    policy: DTypePolicy,
    /// The call's arguments by name, their tensors as indexes of `specs`.
    arguments: Vec<(String, Argument<usize>)>,
}

impl Inputs {
    /// Inputs for a layer that computes in `compute`.
    pub fn new(specs: Vec<Spec>, compute: DType) -> Self {
        Inputs { specs, compute, policy: compute.into(), arguments: Vec::new() }
    }

    /// The same for a layer of this policy, given in these arguments.
    pub(crate) fn of_call(mut self, policy: &DTypePolicy, arguments: Vec<(String, Argument<usize>)>) -> Self {
        self.policy = policy.clone();
        self.arguments = arguments;
        self
    }

    /// All inputs.
    pub fn all(&self) -> &[Spec] {
        &self.specs
    }

    /// The first input, which most layers have alone.
    ///
    /// # Errors
    /// When there is none.
    pub fn first(&self) -> Result<&Spec> {
        self.get(0)
    }

    /// The input of this index.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn get(&self, index: usize) -> Result<&Spec> {
        self.specs.get(index).ok_or_else(|| {
            Error::mismatch(format!("it takes at least {} inputs, but got {}", index + 1, self.specs.len()))
        })
    }

    /// The dtype in which the layer computes, by its dtype policy.
    pub fn compute_dtype(&self) -> DType {
        self.compute
    }

    /// The layer's dtype policy, which layers that it makes for itself have too.
    pub fn policy(&self) -> &DTypePolicy {
        &self.policy
    }

    /// All arguments by name, positional ones by the names that [`Layer::arguments`] gives.
    pub(crate) fn arguments(&self) -> &[(String, Argument<usize>)] {
        &self.arguments
    }

    /// The argument of this name, positional or by keyword, by the names that [`Layer::arguments`] gives. Its tensors
    /// are indexes of all tensors given.
    pub fn argument(&self, name: &str) -> Option<&Argument<usize>> {
        self.arguments.iter().find(|(n, _)| n == name).map(|(_, a)| a)
    }

    /// The index, among all tensors given, of the one that an argument is.
    pub fn position(&self, name: &str) -> Option<usize> {
        match self.argument(name)? {
            Argument::Tensor(index) => Some(*index),
            _ => None,
        }
    }

    /// Whether an argument is given and true.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.argument(name), Some(Argument::Value(serde_json::Value::Bool(true))))
    }
}

/// The tensors of a call in the order in which a layer takes them, and which argument each is.
#[derive(Debug, Clone)]
pub(crate) struct Given<T> {
    pub tensors: Vec<T>,
    pub arguments: Vec<(String, Argument<usize>)>,
}

impl<T> Given<T> {
    /// Other tensors in the same arguments.
    pub fn map<U>(&self, change: impl FnMut(&T) -> U) -> Given<U> {
        Given { tensors: self.tensors.iter().map(change).collect(), arguments: self.arguments.clone() }
    }
}

impl<T> Default for Given<T> {
    fn default() -> Self {
        Given { tensors: Vec::new(), arguments: Vec::new() }
    }
}

/// A weight that a layer has.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightSpec {
    /// The name by which the layer asks for it, Keras's own: `kernel`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its dtype; by default the one that the layer's dtype policy gives weights.
    pub dtype: Option<DType>,
    /// Whether training changes it.
    pub trainable: bool,
    /// What it starts from in a model that is made, not read.
    pub initializer: Initializer,
}

impl WeightSpec {
    /// A trainable weight.
    pub fn new(name: &str, shape: impl Into<Vec<usize>>, initializer: &Initializer) -> Self {
        WeightSpec {
            name: name.to_owned(),
            shape: shape.into(),
            dtype: None,
            trainable: true,
            initializer: initializer.clone(),
        }
    }

    /// The same weight, which training doesn't change by gradients.
    pub fn fixed(mut self) -> Self {
        self.trainable = false;
        self
    }

    /// The same weight with this dtype, whatever the policy.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }
}

/// A layer that another one holds.
#[derive(Debug, Clone)]
pub struct Sublayer {
    /// The attribute under which Keras 2 holds it: `cell`, `forward_layer`, `layer`; `cells/0` in a list.
    pub attribute: String,
    /// The layer.
    pub layer: Instance,
    /// What it is given.
    pub inputs: Vec<Spec>,
    /// Whether it is a copy with weights of its own, whatever else holds the same layer.
    pub copy: bool,
}

impl Sublayer {
    /// A layer under this attribute that is given these inputs.
    pub fn new(attribute: impl Into<String>, layer: &Instance, inputs: Vec<Spec>) -> Self {
        Sublayer { attribute: attribute.into(), layer: layer.clone(), inputs, copy: false }
    }

    /// The same as a copy with weights of its own.
    pub fn copied(self) -> Self {
        Sublayer { copy: true, ..self }
    }
}

/// A class of layers: its config, its weights, and what it computes.
///
/// Name, dtype policy and trainability are the [`Instance`]'s, which holds a layer as it stands in a model.
pub trait Layer: Any + fmt::Debug + Send + Sync + LayerClone {
    /// The class's name in a config.
    fn class_name(&self) -> &str;

    /// Names each field of the config once, for reading and for writing.
    fn visit(&mut self, fields: &mut Fields<'_>);

    /// What it is among a model's objects: formats order what it holds accordingly.
    fn role(&self) -> Role {
        Role::Layer
    }

    /// The weights that the layer itself has for these inputs, in the order in which Keras makes them.
    ///
    /// # Errors
    /// When the inputs don't fit, or don't say enough.
    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let _ = inputs;
        Ok(Vec::new())
    }

    /// The weights of [`Layer::weights`] as a file of this origin has them; `None` where they lie in it alike.
    ///
    /// # Errors
    /// When the inputs don't fit, or don't say enough.
    fn former_weights(&self, inputs: &Inputs, origin: &Origin) -> Result<Option<FormerWeights>> {
        let _ = (inputs, origin);
        Ok(None)
    }

    /// What the layer keeps from one call to the next, zeros at first (Keras: the `states` of a stateful recurrent layer).
    /// Its call reads it by [`Call::kept`] and changes it by [`Call::keep`].
    ///
    /// # Errors
    /// When the inputs don't fit, or don't say enough.
    fn kept(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let _ = inputs;
        Ok(Vec::new())
    }

    /// The layers that this one holds, in the order in which Keras makes them.
    ///
    /// # Errors
    /// When the inputs don't fit, or don't say enough.
    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        let _ = inputs;
        Ok(Vec::new())
    }

    /// Weights of sublayers that the layer holds itself too, each by its attribute here and its path from here.
    fn aliases(&self) -> Vec<(&str, String)> {
        Vec::new()
    }

    /// Shapes and dtypes of the outputs, as far as they follow from the inputs'. By default those of the first input.
    ///
    /// # Errors
    /// When the inputs don't fit.
    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![inputs.first()?.clone()])
    }

    /// Traces what the layer computes in inference, as TensorFlow's ops.
    ///
    /// `inputs` are the tensors of the positional arguments and then of the keyword arguments, the latter in the order
    /// of [`Layer::arguments`].
    ///
    /// # Errors
    /// When the inputs don't fit, or something isn't supported.
    fn call(&self, call: &mut Call<'_>, inputs: &[Sym]) -> Result<Vec<Sym>>;

    /// The names of the call's arguments that take tensors, in order; they sort tensors given by keyword.
    fn arguments(&self) -> &[&str] {
        &["inputs"]
    }

    /// The dtype that a config of Keras 2 must have where a float's policy stands in other dialects: that of integers or
    /// strings which the layer gives or takes.
    fn keras2_dtype(&self) -> Option<&'static str> {
        None
    }

    /// The layer of another class that computes the same, for a dialect that lacks this one.
    fn written_as(&self, _dialect: Dialect) -> Option<Box<dyn Layer>> {
        None
    }

    /// The layer with the shapes of its inputs, where Keras 2 keeps them in the config and this one has none.
    fn with_shapes(&self, _inputs: &Inputs) -> Option<Box<dyn Layer>> {
        None
    }

    /// Whether Keras 2 and 3 make different things of the masks that reach it.
    fn masks_by_dialect(&self) -> bool {
        false
    }

    /// Whether it says which steps count (Keras: `mask_zero`, `Masking`).
    fn makes_mask(&self) -> bool {
        false
    }

    /// Whether a mask goes through to the output (Keras: `supports_masking`).
    fn passes_mask(&self) -> bool {
        false
    }

    /// Whether it takes rows that end where their mask does (TensorFlow: ragged tensors) as Keras 2 does. By default those that
    /// masks pass do.
    fn takes_ragged(&self) -> bool {
        self.passes_mask()
    }

    /// For a cell of a recurrent layer, what each of its states is, given a step's input (Keras: `state_size`); nothing
    /// for any other layer.
    ///
    /// A cell's call takes the input and the states, and gives the output and the next states.
    ///
    /// # Errors
    /// When the input doesn't fit, or doesn't say enough.
    fn states(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let _ = inputs;
        Ok(Vec::new())
    }

    /// The masks of the outputs (Keras: `compute_mask`). By default the first input's, if masks pass.
    ///
    /// # Errors
    /// When the masks don't fit.
    fn masks(&self, call: &mut Call<'_>, inputs: &[Sym]) -> Result<Vec<Option<Sym>>> {
        let mask = inputs.first().and_then(|&x| call.mask(x));
        Ok(if self.passes_mask() { vec![mask] } else { Vec::new() })
    }

    /// Whether the layer's weights may be quantized (Keras 3: `quantize("int8")`), as its policy then says.
    fn quantizes(&self) -> bool {
        false
    }

    /// Whether float inputs are cast to the dtype in which the layer computes.
    fn autocasts(&self) -> bool {
        true
    }
}

/// Clones a boxed layer; every layer that is `Clone` has it.
pub trait LayerClone {
    /// A copy.
    fn boxed(&self) -> Box<dyn Layer>;
}

impl<L: Layer + Clone> LayerClone for L {
    fn boxed(&self) -> Box<dyn Layer> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Layer> {
    fn clone(&self) -> Self {
        (**self).boxed()
    }
}

/// The exact number of inputs that a layer takes, taken apart.
///
/// # Errors
/// When there are more or fewer.
pub fn inputs<const N: usize>(given: &[Sym]) -> Result<[Sym; N]> {
    given
        .try_into()
        .map_err(|_| Error::mismatch(format!("it takes {N} inputs, but is called with {}", given.len())))
}

/// Options that most layers' weights have: what they start from, and what training does to them.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightOptions {
    /// What the weight starts from.
    pub initializer: Initializer,
    /// Its penalty in training.
    pub regularizer: Option<Regularizer>,
    /// What training holds it to.
    pub constraint: Option<Constraint>,
}

impl WeightOptions {
    /// This initializer, no penalty and no constraint.
    pub fn new(initializer: Initializer) -> Self {
        WeightOptions { initializer, regularizer: None, constraint: None }
    }

    /// Visits `{prefix}_initializer`, `{prefix}_regularizer` and `{prefix}_constraint`.
    pub fn visit(&mut self, prefix: &str, fields: &mut Fields<'_>) {
        fields.field(&format!("{prefix}_initializer"), &mut self.initializer);
        fields.field(&format!("{prefix}_regularizer"), &mut self.regularizer);
        fields.field(&format!("{prefix}_constraint"), &mut self.constraint);
    }

    /// A weight with these options.
    pub fn weight(&self, name: &str, shape: impl Into<Vec<usize>>) -> WeightSpec {
        WeightSpec::new(name, shape, &self.initializer)
    }
}
