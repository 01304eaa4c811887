//! A layer as it stands in a model.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::Tensor;
use modelark_artifact::{Dialect, Error, ErrorKind, Kind, ObjectId, Result, Variable};
use serde_json::{Value, json};

use crate::call::Frame;
use crate::config::{ConfigValue, DTypePolicy, Fields, Object, Reader, Writer, expected};
use crate::former::modern;
use crate::layer::{Given, LayerClone};
use crate::layers::{Foreign, Operation};
use crate::model::{MERGE, modern_merge};
use crate::registry::{built_in, is_built_in};
use crate::{Argument, Call, Inputs, Layer, Model, Registry, Spec, Tree, WeightSpec};

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

    /// Reads a layer's or a model's node of a config.
    ///
    /// # Errors
    /// When the class isn't known, or the config isn't what the class takes; the message names the layer.
    pub fn read(node: &Value, reader: &Reader<'_>) -> Result<Self> {
        let merged;
        let node = if node.get("class_name").and_then(Value::as_str) == Some(MERGE)
            && !reader.registry.knows(MERGE)
        {
            merged = modern_merge(node)?;
            &merged
        } else {
            node
        };
        let text = |key: &str| node.get(key).and_then(Value::as_str);
        let class = text("class_name").ok_or_else(|| expected("a layer with a class_name", node))?;
        let empty = Object::new();
        let config = match node.get("config") {
            Some(Value::Object(config)) => config,
            // Keras 1 has a Sequential's config as a bare list of its layers.
            Some(Value::Array(_)) => &empty,
            _ => return Err(expected("a layer with a config", node)),
        };
        let name = config.get("name").and_then(Value::as_str).or(text("name")).unwrap_or_default();
        let at = |e: Error| e.at(format!("layer {name:?} ({class})"));
        let held = reader.stand_ins.map(|s| s.of(name));
        let reader = &reader.within(held.as_deref(), Model::is_class(class));
        if Model::is_class(class) {
            let model = Model::read(node, reader).map_err(at)?;
            let trainable = config.get("trainable").and_then(Value::as_bool).unwrap_or(true);
            return Ok(Instance::from(model).trainable(trainable).with(|i| i.name = name.to_owned()));
        }
        let registered = text("registered_name");
        // An `.h5` of Keras 3's leaves the modules out; ops aren't trainable or not, as layers are.
        let is_op = reader.dialect == Dialect::Keras3
            && text("module").is_none()
            && !config.contains_key("trainable")
            && Operation::is_class(class);
        let module = if is_op { Some("keras.src.ops.") } else { text("module") };
        let (mut layer, custom) = match reader.registry.make(class, registered, module) {
            Err(e) if reader.stand_ins.is_some() && e.kind() == ErrorKind::UnknownClass => {
                (Foreign::unknown(class).boxed(), true)
            }
            made => made.map_err(at)?,
        };
        let mut inner = Inner {
            name: name.to_owned(),
            trainable: true,
            dtype: DTypePolicy::default(),
            batch_input_shape: None,
            // A class of a package may be known by both alone.
            custom: custom.then(|| {
                let bare = class.rsplit('>').next().unwrap_or(class);
                (bare.to_owned(), registered.unwrap_or(class).to_owned())
            }),
            unknown: Object::new(),
            dialect: Some(reader.dialect),
            assumed: None,
            gives: None,
            body: Body::Layer(layer.clone()),
        };
        let former = reader.registry.former(class).filter(|_| reader.dialect == Dialect::Keras1 && !custom);
        let modern = former.map(|own| modern(config, own));
        let mut fields = Fields::reading(modern.as_ref().unwrap_or(config), *reader);
        inner.visit_base(&mut fields);
        layer.visit(&mut fields);
        inner.unknown = fields.finish_reading().map_err(at)?;
        inner.body = Body::Layer(layer);
        let read = Instance(Arc::new(inner));
        Ok(reader.stand_ins.map_or(read.clone(), |s| s.stand_for(read, reader)))
    }

    /// Writes the layer's node.
    ///
    /// # Errors
    /// When the dialect can't say what the layer is.
    pub fn write(&self, writer: &mut Writer) -> Result<Value> {
        let notes = writer.report.notes.len();
        let node = self.write_node(writer).map_err(|e| e.at(self.place()))?;
        for note in writer.report.notes.get_mut(notes..).unwrap_or_default() {
            if !note.starts_with("layer ") {
                *note = format!("{}: {note}", self.place());
            }
        }
        Ok(node)
    }

    fn write_node(&self, writer: &mut Writer) -> Result<Value> {
        let layer = match &self.0.body {
            Body::Model(model) => return model.write(&self.0.name, writer),
            Body::Layer(layer) => layer,
        };
        if let Some(operation) = self.downcast::<Operation>() {
            return operation.write(&self.0.name, writer);
        }
        let mut inner = (*self.0).clone();
        let stand_in = layer.written_as(writer.dialect);
        let class = stand_in.as_ref().map_or(self.class_name(), |s| s.class_name()).to_owned();
        let mut layer = stand_in.unwrap_or_else(|| layer.clone());
        if writer.dialect == Dialect::Keras2
            && inner.dialect != Some(Dialect::Keras2)
            && let Some(dtype) = layer.keras2_dtype()
        {
            inner.dtype = DTypePolicy::new(dtype);
        }
        let mut fields = Fields::writing(writer);
        inner.visit_base(&mut fields);
        layer.visit(&mut fields);
        let mut config = fields.finish_writing()?;
        for (key, value) in inner.unknown {
            // What a version doesn't know, it refuses; a class of the user's own may know more than its fields here say.
            if self.0.custom.is_some() || inner.dialect.is_none_or(|d| d == writer.dialect) {
                config.insert(key, value);
            } else if !value.is_null() && inner.dialect != Some(Dialect::Keras1) {
                writer.report.note(format!("{key:?} was left out: {} may not know it", writer.dialect));
            }
        }
        let custom = self.0.custom.as_ref().map(|(_, registered)| registered.as_str());
        let entry = built_in(&class).filter(|_| custom.is_none());
        // Keras 2 finds what it has registered without a module.
        let (module, registered) = match entry {
            Some(entry) if entry.registered.is_some() && !writer.is_keras3() => {
                (Value::Null, entry.registered)
            }
            // Keras has these by their names, too, so that a caller can give a class that lies elsewhere in its version.
            Some(entry) => (json!(entry.module), entry.is_elsewhere().then_some(class.as_str())),
            None => (Value::Null, custom),
        };
        Ok(json!({
            "module": module,
            "class_name": class,
            "config": config,
            "registered_name": registered,
        }))
    }

    /// The value that the layer has under a key of its config, as Keras 3 or else Keras 2 spells it.
    pub(crate) fn option(&self, key: &str) -> Option<Value> {
        let Body::Layer(layer) = &self.0.body else { return None };
        [Dialect::Keras3, Dialect::Keras2].into_iter().find_map(|dialect| {
            let mut writer = Writer::new(dialect);
            let mut fields = Fields::writing(&mut writer);
            layer.clone().visit(&mut fields);
            fields.finish_writing().ok()?.get(key).cloned()
        })
    }

    /// Whether an option of the config is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.option(key) == Some(Value::Bool(true))
    }

    /// The same layer with another value under a key of its config; itself when it has that value, or no such key.
    pub(crate) fn with_option(&self, key: &str, value: Value) -> Result<Self> {
        let Body::Layer(layer) = &self.0.body else { return Ok(self.clone()) };
        // What nobody knows has no options to change.
        if self.downcast::<Foreign>().is_some() || self.option(key).is_some_and(|v| v == value) {
            return Ok(self.clone());
        }
        let (mut layer, registry) = (layer.clone(), Registry::default());
        let config = Object::from_iter([(key.to_owned(), value)]);
        let mut fields = Fields::changing(&config, Reader::new(Dialect::Keras3, &registry));
        layer.visit(&mut fields);
        fields.finish_reading().map_err(|e| e.at(self.place()))?;
        Ok(self.clone().with(|i| i.body = Body::Layer(layer)))
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
        let spec = self.0.assumed.as_ref()?.first()?;
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
        let states = match &self.0.body {
            Body::Layer(layer) => layer.states(&self.inputs(&self.positional(vec![step.clone()]))?)?,
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

    /// Adds the layer's object, with its variables and sublayers, to a tree. The variables have no values yet.
    pub(crate) fn attach(&self, tree: &mut Tree<'_>, inputs: &Given<Spec>) -> Result<ObjectId> {
        let assumed = self.assumed(inputs);
        let inputs = assumed.as_ref().unwrap_or(inputs);
        if let Some(&id) = tree.known.get(&self.key()) {
            return Ok(id);
        }
        let role = match &self.0.body {
            Body::Model(model) => model.role(),
            Body::Layer(layer) => layer.role(),
        };
        let id = tree.objects.push(Kind::Layer(modelark_artifact::Layer {
            class: self.class_name().to_owned(),
            name: self.0.name.clone(),
            role,
            config: String::new(),
        }));
        tree.known.insert(self.key(), id);
        tree.attached.push((id, self.clone()));
        if let Some(object) = tree.objects.get_mut(id) {
            // Keras builds a layer by its call's first argument alone, sublayers too.
            let first = inputs.arguments.first().map(|(_, a)| a.tensors()).unwrap_or_default();
            let shapes = first.iter().filter_map(|&i| inputs.tensors.get(i));
            object.input_shapes = shapes.map(|s| s.shape.clone()).collect();
            let own = built_in(self.class_name()).and_then(|entry| entry.registered_name());
            if let Some(name) = self.0.custom.as_ref().map(|(_, name)| name.as_str()).or(own) {
                name.clone_into(&mut object.registered_name);
            }
        }
        tree.frozen += usize::from(!self.0.trainable);
        match &self.0.body {
            Body::Model(model) => model.attach(tree, id, &inputs.tensors),
            Body::Layer(layer) => self.attach_layer(&**layer, tree, id, inputs),
        }
        .map_err(|e| e.at(self.place()))?;
        tree.frozen -= usize::from(!self.0.trainable);
        Ok(id)
    }

    fn attach_layer(
        &self,
        layer: &dyn Layer,
        tree: &mut Tree<'_>,
        id: ObjectId,
        inputs: &Given<Spec>,
    ) -> Result<()> {
        if tree.is_bare {
            return Ok(());
        }
        let inputs = self.inputs(inputs)?;
        if let Some(shaped) = layer.with_shapes(&inputs)
            && let Some((_, attached)) = tree.attached.iter_mut().rfind(|(attached, _)| *attached == id)
        {
            *attached = attached.clone().with(|i| i.body = Body::Layer(shaped));
        }
        let former = match &tree.origin {
            Some(origin) => layer.former_weights(&inputs, origin)?,
            None => None,
        };
        let weights = match former {
            Some(former) => {
                let weights = former.weights.clone();
                tree.converted.push((id, former));
                weights
            }
            None => layer.weights(&inputs)?,
        };
        if let (Some(mode), false, false) =
            (inputs.policy().quantization(), layer.quantizes(), weights.is_empty())
        {
            return Err(Error::unsupported(format!(
                "weights of a {} that are quantized as {mode}",
                self.class_name()
            )));
        }
        for weight in weights {
            let dtype = match weight.dtype {
                Some(dtype) => dtype,
                None => inputs.policy().variable()?,
            };
            let variable = Variable {
                name: weight.name.clone(),
                dtype,
                trainable: weight.trainable && tree.frozen == 0,
                value: tree.initial(&weight, dtype)?,
                shape: weight.shape,
            };
            tree.objects.add(id, weight.name, Kind::Variable(variable));
        }
        for kept in layer.kept(&inputs)? {
            let known: Option<Vec<usize>> = kept.dims()?.iter().copied().collect();
            // What a batch of any size would leave can't be kept; the call says so.
            let Some(shape) = known else { continue };
            let zeros = Tensor::zeros(kept.dtype, &shape)?;
            tree.objects.add_state(id, Variable::new("rnn_state", zeros).trainable(false));
        }
        for sublayer in layer.sublayers(&inputs)? {
            let mut parent = id;
            let mut segments: Vec<&str> = sublayer.attribute.split('/').collect();
            let last = segments.pop().unwrap_or_default();
            for segment in segments {
                let known = tree.objects.get(parent).and_then(|o| o.child(segment));
                parent = known.unwrap_or_else(|| tree.objects.add(parent, segment, Kind::List));
            }
            let held = sublayer.layer.under(inputs.policy());
            let given = held.positional(sublayer.inputs);
            let known = if sublayer.copy { std::mem::take(&mut tree.known) } else { HashMap::new() };
            let child = held.attach(tree, &given)?;
            if sublayer.copy {
                tree.known = known;
            }
            tree.objects.link(parent, last, child);
        }
        for (attribute, path) in layer.aliases() {
            let held = path.split('/').try_fold(id, |id, name| tree.objects.get(id)?.child(name));
            let held = held.ok_or_else(|| Error::missing(format!("it holds no weight {path:?}")))?;
            tree.objects.link(id, attribute, held);
        }
        Ok(())
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

    /// Traces a call. `object` is the layer's own among the call's objects.
    pub(crate) fn trace(
        &self,
        call: &mut Call<'_>,
        object: ObjectId,
        positional: &[Argument<Sym>],
        keywords: &[(String, Argument<Sym>)],
    ) -> Result<Vec<Sym>> {
        let given = self.given(positional, keywords);
        let layer = match &self.0.body {
            Body::Model(model) => {
                return model.call(call, object, &given.tensors).map_err(|e| e.at(self.place()));
            }
            Body::Layer(layer) => layer,
        };
        self.trace_layer(&**layer, call, object, given, positional, keywords).map_err(|e| e.at(self.place()))
    }

    fn trace_layer(
        &self,
        layer: &dyn Layer,
        call: &mut Call<'_>,
        object: ObjectId,
        given: Given<Sym>,
        positional: &[Argument<Sym>],
        keywords: &[(String, Argument<Sym>)],
    ) -> Result<Vec<Sym>> {
        let specs: Vec<Spec> = given.tensors.iter().map(|&x| call.spec(x)).collect();
        let inputs = self.inputs(&Given { tensors: specs, arguments: given.arguments })?;
        let cast = given
            .tensors
            .iter()
            .zip(inputs.all())
            .map(|(&x, spec)| call.cast(x, spec.dtype))
            .collect::<Result<Vec<_>>>()?;
        // Masks given by keyword stand for those that the inputs carry.
        match keywords.iter().find(|(n, _)| n == "mask") {
            Some((_, Argument::List(masks))) => {
                for (&x, mask) in cast.iter().zip(masks) {
                    call.set_mask(x, mask.tensors().first().copied());
                }
            }
            Some((_, Argument::Tensor(mask))) => {
                if let Some(&x) = cast.first() {
                    call.masks.insert(x, *mask);
                }
            }
            _ => {}
        }
        let outputs_known = layer.output(&inputs)?;
        let (positional, keywords) = (positional.to_vec(), keywords.to_vec());
        let frame = Frame { object, inputs, positional, keywords, outputs: Vec::new() };
        let outer = std::mem::replace(&mut call.frame, frame);
        let result = call.builder_scope(&self.0.name, |call| {
            let outputs = layer.call(call, &cast)?;
            call.frame.outputs.clone_from(&outputs);
            let masks = layer.masks(call, &cast)?;
            Ok((outputs, masks))
        });
        call.frame = outer;
        let (outputs, masks) = result?;
        for (i, &y) in outputs.iter().enumerate() {
            // An output may be an input itself (identities), with what is known of it already.
            if let Some(spec) = outputs_known.get(i) {
                let dtype = call.dtype(y);
                call.specs.insert(y, Spec { dtype, ..spec.clone() });
            }
            call.set_mask(y, masks.get(i).copied().flatten());
        }
        Ok(outputs)
    }
}

/// A layer within another one's config.
impl ConfigValue for Instance {
    fn read(value: &Value, reader: &Reader<'_>) -> Result<Self> {
        Instance::read(value, reader)
    }

    fn write(&self, writer: &mut Writer) -> Value {
        Instance::write(self, writer).unwrap_or_else(|error| {
            writer.failed.get_or_insert(error);
            Value::Null
        })
    }
}

impl Inner {
    /// The keys that all layers have. An InputLayer has but some of them.
    fn visit_base(&mut self, f: &mut Fields<'_>) {
        let is_input = matches!(&self.body, Body::Layer(l) if l.class_name() == "InputLayer");
        let operation = match &self.body {
            Body::Layer(layer) => (&**layer as &dyn std::any::Any).downcast_ref::<Operation>(),
            Body::Model(_) => None,
        };
        // An op's `dtype` is an argument of its own.
        let is_op = operation.is_some_and(Operation::is_of_keras3);
        f.field("name", &mut self.name);
        if is_input || is_op {
            return;
        }
        f.field("trainable", &mut self.trainable);
        f.field("dtype", &mut self.dtype);
        if f.is_reading() {
            let mut shape: Option<Vec<Option<usize>>> = None;
            f.read_only("batch_input_shape", &mut self.batch_input_shape);
            f.read_only("input_shape", &mut shape);
            // `input_shape` has no batch.
            if let (Some(shape), None) = (shape, &self.batch_input_shape) {
                self.batch_input_shape = Some(std::iter::once(None).chain(shape).collect());
            }
        } else if self.batch_input_shape.is_some() {
            let mut shape = self.batch_input_shape.clone().unwrap_or_default();
            if f.dialect() != Dialect::Keras3 {
                f.field("batch_input_shape", &mut shape);
            }
        }
    }
}

impl Call<'_> {
    /// Calls a layer that this one holds, by the attribute under which [`Layer::sublayers`] names it.
    ///
    /// # Errors
    /// When there is no such sublayer, or its call fails.
    pub fn sublayer(&mut self, attribute: &str, layer: &Instance, inputs: &[Sym]) -> Result<Vec<Sym>> {
        self.sublayer_with(attribute, layer, inputs, &[])
    }

    /// As [`Call::sublayer`], with keyword arguments besides.
    ///
    /// # Errors
    /// As [`Call::sublayer`].
    pub fn sublayer_with(
        &mut self,
        attribute: &str,
        layer: &Instance,
        inputs: &[Sym],
        keywords: &[(String, Argument<Sym>)],
    ) -> Result<Vec<Sym>> {
        let object = attribute
            .split('/')
            .try_fold(self.frame.object, |id, name| self.objects.get(id)?.child(name))
            .ok_or_else(|| Error::missing(format!("the layer holds no layer {attribute:?}")))?;
        let arguments: Vec<Argument<Sym>> = inputs.iter().map(|&x| Argument::Tensor(x)).collect();
        let layer = layer.under(self.frame.inputs.policy());
        layer.trace(self, object, &arguments, keywords)
    }

    /// Puts the names of the nodes that `body` makes under `scope`.
    pub(crate) fn builder_scope<T>(
        &mut self,
        scope: &str,
        body: impl FnOnce(&mut Call<'_>) -> Result<T>,
    ) -> Result<T> {
        let Call { builder, objects, variables, specs, masks, frame } = self;
        builder.scoped(&node_name(scope), |builder| {
            let mut inner = Call {
                builder,
                objects,
                variables,
                specs: std::mem::take(specs),
                masks: std::mem::take(masks),
                frame: frame.clone(),
            };
            let result = body(&mut inner);
            *specs = inner.specs;
            *masks = inner.masks;
            Ok(result)
        })?
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
