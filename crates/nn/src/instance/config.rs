//! A layer's config: read, written, and changed by an option.

use std::sync::Arc;

use modelark_artifact::{Dialect, Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::{Body, Inner, Instance};

use crate::config::{ConfigValue, DTypePolicy, Fields, Object, Reader, Writer, expected};
use crate::former::modern;
use crate::layer::LayerClone;
use crate::layers::{Foreign, Operation};
use crate::model::{MERGE, modern_merge};
use crate::registry::built_in;
use crate::{Model, Registry};

impl Instance {
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
            supposed: None,
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
