//! Sequential models: layers one after the other.

use modelark_artifact::{Objects, Result};
use serde_json::{Value, json};

use super::{Graph, Kind, Model};
use crate::Instance;
use crate::config::{ConfigValue, Object, Reader, Writer};
use crate::layers::InputLayer;
use crate::model::merged::branched;
use crate::model::objects::name_layers;

/// Builds a Sequential model (Keras: `Sequential`).
///
/// ```
/// use modelark_nn::{Sequential, layers::{Dense, Dropout, InputLayer}};
///
/// let model = Sequential::new("mlp")
///     .add(InputLayer::new([784]))
///     .add(Dense::new(128).activation("relu"))
///     .add(Dropout::new(0.2))
///     .add(Dense::new(10).activation("softmax"))
///     .build()?;
/// assert_eq!(model.outputs()?[0].1.shape.to_string(), "(None, 10)");
/// # Ok::<(), modelark_nn::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sequential {
    name: String,
    layers: Vec<Instance>,
    seed: u64,
}

impl Sequential {
    /// A model of this name, without layers.
    pub fn new(name: &str) -> Self {
        Sequential { name: name.to_owned(), layers: Vec::new(), seed: 0 }
    }

    /// Adds a layer, or a model. An [`InputLayer`] comes first.
    #[expect(clippy::should_implement_trait, reason = "Keras calls it so")]
    pub fn add(mut self, layer: impl Into<Instance>) -> Self {
        self.layers.push(layer.into());
        self
    }

    /// Draws the weights' first values from this seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Makes the model, with names for the layers that have none, and with initialized weights.
    ///
    /// # Errors
    /// When there is no InputLayer (use [`Sequential::build_for`] to say the shape), or the layers don't fit each other.
    pub fn build(self) -> Result<Model> {
        let seed = self.seed;
        let mut model = self.model(None)?;
        model.inputs()?;
        model.initialize(seed)?;
        Ok(model)
    }

    /// Makes a model without an InputLayer, for inputs of this shape with its batch.
    ///
    /// # Errors
    /// When the layers don't fit each other or the shape.
    pub fn build_for(self, batch_shape: impl Into<Vec<Option<usize>>>) -> Result<Model> {
        let seed = self.seed;
        let mut model = self.model(Some(batch_shape.into()))?;
        model.initialize(seed)?;
        Ok(model)
    }

    fn model(self, build: Option<Vec<Option<usize>>>) -> Result<Model> {
        let layers = name_layers(self.layers)?;
        Ok(Model::sequential(self.name, layers, build, Object::new()))
    }
}

impl Model {
    fn sequential(
        name: String,
        mut layers: Vec<Instance>,
        build: Option<Vec<Option<usize>>>,
        unknown: Object,
    ) -> Self {
        let begins_with_input = layers.first().is_some_and(|l| l.downcast::<InputLayer>().is_some());
        let input = begins_with_input.then(|| Box::new(layers.remove(0)));
        Model {
            name,
            graph: Graph::chain(layers.len()),
            kind: Kind::Sequential { input, build },
            layers,
            unknown,
            objects: Objects::default(),
            source: None,
            premade: None,
            training: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn read_sequential(config: &Object, layers: &[Value], reader: &Reader<'_>) -> Result<Self> {
        let name = config.get("name").and_then(Value::as_str).unwrap_or("sequential").to_owned();
        if let Some(functional) = branched(&name, layers)? {
            return Model::read_functional(&functional, reader);
        }
        let layers = layers.iter().map(|l| Instance::read(l, reader)).collect::<Result<Vec<_>>>()?;
        let build = config.get("build_input_shape").and_then(|v| shape(v, reader));
        const KNOWN: &[&str] = &["name", "trainable", "dtype", "layers", "build_input_shape"];
        let unknown = config.iter().filter(|(k, _)| !KNOWN.contains(&k.as_str()));
        let unknown = unknown.map(|(k, v)| (k.clone(), v.clone())).collect();
        // Keras 1 leaves out names of layers now and then.
        Ok(Model::sequential(name, name_layers(layers)?, build, unknown))
    }

    pub(super) fn write_sequential(&self, name: &str, writer: &mut Writer) -> Result<Value> {
        let Kind::Sequential { input, build } = &self.kind else { return Ok(Value::Null) };
        let mut layers = Vec::new();
        match input {
            Some(input) => layers.push(input.write(writer)?),
            // Keras 3 has no `batch_input_shape` in a layer: an InputLayer says it.
            None if writer.is_keras3() => {
                let batch_input_shape = self.layers.first().and_then(Instance::batch_input_shape);
                if let Some(shape) = batch_input_shape.or(build.as_deref())
                    && let Some((name, spec)) = self.inputs()?.into_iter().next()
                {
                    let input = InputLayer::with_batch(shape).dtype(spec.dtype);
                    layers.push(Instance::from(input).named(&name).write(writer)?);
                }
            }
            None => {}
        }
        for layer in &self.layers {
            layers.push(layer.write(writer)?);
        }
        let mut config = Object::new();
        config.insert("name".into(), json!(name));
        if writer.is_keras3() {
            config.insert("trainable".into(), json!(true));
        }
        config.insert("layers".into(), Value::Array(layers));
        let shape = self.inputs().ok().and_then(|i| Some(i.first()?.1.shape.dims()?.to_vec()));
        if let Some(shape) = build.clone().or(shape.filter(|_| writer.is_keras3())) {
            config.insert("build_input_shape".into(), json!(shape));
        }
        config.extend(self.unknown.clone());
        Ok(json!({"module": "keras", "class_name": "Sequential", "config": config, "registered_name": null}))
    }
}

/// A shape with its batch; `None` for anything else, such as the shapes of several inputs.
pub(super) fn shape(value: &Value, reader: &Reader<'_>) -> Option<Vec<Option<usize>>> {
    Vec::<Option<usize>>::read(value, reader).ok()
}
