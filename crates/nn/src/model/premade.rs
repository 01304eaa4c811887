//! Keras 2's premade models (`tf.keras.experimental.LinearModel`, `WideDeepModel`) as the Functional models that compute the
//! same, and where Keras keeps their weights.

use std::collections::BTreeSet;

use modelark_artifact::{Error, ErrorKind, Kind, Layer, ObjectId, Objects, Result, Role};
use serde_json::{Value, json};

use super::Model;
use crate::config::{Object, expected};

const LINEAR: &str = "LinearModel";
const WIDE_DEEP: &str = "WideDeepModel";

/// What a Functional model was, whose weights Keras keeps elsewhere than those of a Functional one.
#[derive(Debug, Clone)]
pub(super) enum Premade {
    /// A kernel for each input, and one bias of the model's own, which the last `Dense` has here.
    Linear {
        /// The `Dense` layers, by index.
        columns: Vec<usize>,
    },
    /// Two models whose outputs are added.
    WideDeep {
        /// The model's attribute, the layer's index, and what it was, if it was premade.
        parts: Vec<(&'static str, usize, Option<Premade>)>,
    },
}

/// The node of a Functional model for that of a premade one, with what it was; `None` for any other.
///
/// # Errors
/// When the node doesn't tell the inputs' shapes, or a part of it is neither premade nor made of layers.
pub(super) fn functional(node: &Value) -> Result<Option<(Value, Premade)>> {
    let Some(class) = class(node) else { return Ok(None) };
    let shapes = node.pointer("/build_config/input_shape").filter(|s| !s.is_null()).ok_or_else(|| {
        Error::new(
            ErrorKind::UnknownClass,
            format!(
                "the model is Keras's premade {class}, but nothing says what inputs it takes: it was never called"
            ),
        )
        .help("call it, or fit it, before it is saved")
    })?;
    made(node, shapes).map_err(|e| e.at(class))
}

/// The premade class that a node is of.
fn class(node: &Value) -> Option<&'static str> {
    let custom = node.get("registered_name").and_then(Value::as_str).is_some_and(|name| name.contains('>'));
    let class = node.get("class_name").and_then(Value::as_str).filter(|_| !custom)?;
    [LINEAR, WIDE_DEEP].into_iter().find(|known| *known == class)
}

fn made(node: &Value, shapes: &Value) -> Result<Option<(Value, Premade)>> {
    let Some(class) = class(node) else { return Ok(None) };
    let config = node.get("config").and_then(Value::as_object);
    let config = config.ok_or_else(|| expected("a model with a config", node))?;
    let parts = Parts { config, names: BTreeSet::new(), layers: Vec::new() };
    let made = if class == LINEAR { parts.linear(shapes) } else { parts.wide_deep(shapes) };
    made.map(Some)
}

/// Whether it is a shape, and not several.
fn is_shape(value: &Value) -> bool {
    value.as_array().is_some_and(|sizes| sizes.iter().all(|s| s.is_null() || s.is_u64()))
}

/// The layers of a Functional model.
struct Parts<'a> {
    config: &'a Object,
    names: BTreeSet<String>,
    layers: Vec<Value>,
}

impl Parts<'_> {
    /// A layer's place and a reference to what it gives.
    fn place(&mut self, mut layer: Value, name: &str, calls: Value) -> (usize, Value) {
        let mut free = name.to_owned();
        for count in 1.. {
            if self.names.insert(free.clone()) {
                break;
            }
            free = format!("{name}_{count}");
        }
        if let Some(config) = layer.get_mut("config").and_then(Value::as_object_mut) {
            config.insert("name".to_owned(), json!(free));
        }
        if let Value::Object(node) = &mut layer {
            node.insert("name".to_owned(), json!(free));
            node.insert("inbound_nodes".to_owned(), calls);
        }
        self.layers.push(layer);
        (self.layers.len() - 1, json!([free, 0, 0]))
    }

    /// An InputLayer for each shape; gives references to them in the shapes' structure.
    fn inputs(&mut self, shapes: &Value, name: &str) -> Result<Value> {
        Ok(match shapes {
            _ if is_shape(shapes) => {
                // Whatever the inputs are, Keras converts them to the layers' dtype.
                let dtype = self.config.get("dtype").filter(|d| {
                    d.as_str().is_some_and(|d| matches!(d, "float16" | "bfloat16" | "float32" | "float64"))
                });
                let dtype = dtype.cloned().unwrap_or(json!("float32"));
                let config = json!({"batch_input_shape": shapes, "dtype": dtype, "sparse": false});
                self.place(json!({"class_name": "InputLayer", "config": config}), name, json!([])).1
            }
            Value::Array(many) => {
                many.iter().map(|s| self.inputs(s, "input")).collect::<Result<Vec<_>>>()?.into()
            }
            Value::Object(many) => {
                let named = many.iter().map(|(name, s)| Ok((name.clone(), self.inputs(s, name)?)));
                named.collect::<Result<Object>>()?.into()
            }
            other => return Err(expected("the shapes of inputs", other)),
        })
    }

    fn linear(mut self, shapes: &Value) -> Result<(Value, Premade)> {
        let input = self.inputs(shapes, "input")?;
        let given: Vec<Value> = match (is_shape(shapes), &input) {
            (false, Value::Array(many)) => many.clone(),
            (false, Value::Object(many)) => {
                // Keras makes the layers in the order of the names.
                let mut many: Vec<_> = many.iter().collect();
                many.sort_by_key(|(name, _)| name.as_str());
                many.into_iter().map(|(_, given)| given.clone()).collect()
            }
            _ => vec![input.clone()],
        };
        let tensor = |v: &Value| v.pointer("/0").is_some_and(Value::is_string);
        if given.is_empty() || !given.iter().all(tensor) {
            return Err(expected("the shape of an input, or a list or a dict of such", shapes));
        }
        let mut columns = Vec::new();
        let mut sums = Vec::new();
        for (i, column) in given.iter().enumerate() {
            let of_model = |(key, _): &(&String, &Value)| {
                let key = key.as_str();
                !matches!(key, "name" | "activation" | "use_bias" | "batch_input_shape")
            };
            let mut dense: Object =
                self.config.iter().filter(of_model).map(|(k, v)| (k.clone(), v.clone())).collect();
            let use_bias = i + 1 == given.len() && self.flag("use_bias");
            dense.insert("use_bias".to_owned(), json!(use_bias));
            let layer = json!({"class_name": "Dense", "config": dense});
            let (index, sum) = self.place(layer, "dense", json!([[column]]));
            columns.push(index);
            sums.push(sum);
        }
        let model = self.sum(sums, input);
        Ok((model, Premade::Linear { columns }))
    }

    fn flag(&self, key: &str) -> bool {
        self.config.get(key).and_then(Value::as_bool).unwrap_or(true)
    }

    fn wide_deep(mut self, shapes: &Value) -> Result<(Value, Premade)> {
        // Two are one for each model; anything else is for both.
        let apart = match shapes {
            Value::Array(both) if !is_shape(shapes) => <&[Value; 2]>::try_from(both.as_slice()).ok(),
            _ => None,
        };
        let (input, given, shapes) = match apart {
            Some([wide, deep]) => {
                let given = [self.inputs(wide, "input")?, self.inputs(deep, "input")?];
                (json!(given), given, [wide, deep])
            }
            None => {
                let input = self.inputs(shapes, "input")?;
                (input.clone(), [input.clone(), input], [shapes, shapes])
            }
        };
        let mut parts = Vec::new();
        let mut sums = Vec::new();
        for ((attribute, given), shapes) in ["linear_model", "dnn_model"].into_iter().zip(given).zip(shapes) {
            let missing = || Error::missing(format!("it has no {attribute:?}"));
            let node = self.config.get(attribute).ok_or_else(missing)?;
            let (model, premade) = match made(node, shapes).map_err(|e| e.at(attribute))? {
                Some((model, premade)) => (model, Some(premade)),
                None => (node.clone(), None),
            };
            let class = model.get("class_name").and_then(Value::as_str).unwrap_or_default();
            if !Model::is_class(class) {
                let what = format!("it is of a class of its own, {class:?}");
                return Err(Error::new(ErrorKind::UnknownClass, what).at(attribute));
            }
            let name = model.pointer("/config/name").and_then(Value::as_str).unwrap_or(attribute).to_owned();
            let is_tensor = given.pointer("/0").is_some_and(Value::is_string);
            let call = if is_tensor { json!([given]) } else { given };
            let (index, sum) = self.place(model, &name, json!([call]));
            parts.push((attribute, index, premade));
            sums.push(sum);
        }
        let model = self.sum(sums, input);
        Ok((model, Premade::WideDeep { parts }))
    }

    /// The model that gives the sum of these with the activation applied.
    fn sum(mut self, sums: Vec<Value>, input: Value) -> Value {
        let dtype = self.config.get("dtype").cloned().unwrap_or(json!("float32"));
        let mut output = match sums.as_slice() {
            [one] => one.clone(),
            all => {
                let layer = json!({"class_name": "Add", "config": {"dtype": dtype}});
                self.place(layer, "add", json!([all])).1
            }
        };
        let activation = self.config.get("activation").filter(|a| !a.is_null() && *a != "linear");
        if let Some(activation) = activation {
            let config = json!({"activation": activation, "dtype": dtype});
            let layer = json!({"class_name": "Activation", "config": config});
            output = self.place(layer, "activation", json!([[output]])).1;
        }
        let input = if input.pointer("/0").is_some_and(Value::is_string) { json!([input]) } else { input };
        let name = self.config.get("name").cloned().unwrap_or(json!("model"));
        json!({"class_name": "Functional", "config": {
            "name": name, "layers": self.layers, "input_layers": input, "output_layers": [output],
        }})
    }
}

/// The objects of a premade model as Keras keeps them.
pub(super) struct Kept {
    pub objects: Objects,
    /// A variable here, and the Functional model's own.
    pairs: Vec<(ObjectId, ObjectId)>,
}

impl Kept {
    /// As Keras keeps the objects of this Functional model, which was premade.
    pub fn new(premade: &Premade, name: &str, own: &Objects) -> Kept {
        let mut kept = Kept { objects: Objects::new(premade.kind(name)), pairs: Vec::new() };
        kept.premade(premade, own, Objects::ROOT, Objects::ROOT);
        kept
    }

    /// Gives the model's own variables the values of those here.
    pub fn give(&self, own: &mut Objects) {
        for (here, there) in &self.pairs {
            if let (Some(value), Some(variable)) = (self.objects.variable(*here), own.variable_mut(*there)) {
                variable.value = value.value.clone();
            }
        }
    }

    fn premade(&mut self, premade: &Premade, own: &Objects, model: ObjectId, at: ObjectId) {
        let list = own.get(model).and_then(|m| m.child("layers")).and_then(|l| own.get(l));
        let layer = |i: usize| list.and_then(|l| l.child(&i.to_string()));
        match premade {
            Premade::Linear { columns } => {
                let dense = self.objects.add(at, "dense_layers", Kind::List);
                for (i, column) in columns.iter().enumerate() {
                    let Some(column) = layer(*column) else { continue };
                    let Some(object) = own.get(column) else { continue };
                    let kept = self.objects.add(dense, i.to_string(), object.kind.clone());
                    for (name, child) in &object.children {
                        self.copy(own, *child, if name == "bias" { at } else { kept }, name);
                    }
                }
            }
            Premade::WideDeep { parts } => {
                for (attribute, index, premade) in parts {
                    let Some(part) = layer(*index) else { continue };
                    let Some(premade) = premade else {
                        self.copy(own, part, at, attribute);
                        continue;
                    };
                    let name = match own.get(part).map(|o| &o.kind) {
                        Some(Kind::Layer(layer)) => layer.name.as_str(),
                        _ => attribute,
                    };
                    let kept = self.objects.add(at, *attribute, premade.kind(name));
                    self.premade(premade, own, part, kept);
                }
            }
        }
    }

    fn copy(&mut self, own: &Objects, id: ObjectId, parent: ObjectId, name: &str) {
        // A layer that is used twice stays one object.
        if let Some((kept, _)) = self.pairs.iter().find(|(_, known)| *known == id) {
            return self.objects.link(parent, name, *kept);
        }
        let Some(object) = own.get(id) else { return };
        let kept = self.objects.add(parent, name, object.kind.clone());
        self.pairs.push((kept, id));
        for (name, child) in &object.children {
            self.copy(own, *child, kept, name);
        }
    }
}

impl Premade {
    fn kind(&self, name: &str) -> Kind {
        let class = match self {
            Premade::Linear { .. } => LINEAR,
            Premade::WideDeep { .. } => WIDE_DEEP,
        };
        Kind::Layer(Layer {
            class: class.to_owned(),
            name: name.to_owned(),
            role: Role::Subclassed,
            config: String::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::tensor::Tensor;
    use modelark_artifact::{Architecture, Dialect, Report, Source};

    use super::*;
    use crate::Registry;

    fn read(mut config: Value, shapes: Value) -> Result<Model> {
        if !shapes.is_null() {
            config["build_config"] = json!({"input_shape": shapes});
        }
        let architecture = Architecture { config, dialect: Dialect::Keras2, keras_version: None };
        Model::from_architecture(&architecture, &Registry::default())
    }

    fn linear(units: usize) -> Value {
        json!({"class_name": "LinearModel", "config": {"name": "lm", "units": units, "activation": "linear",
            "use_bias": true}})
    }

    fn wide_deep() -> Value {
        let deep = json!({"class_name": "Sequential", "config": {"name": "deep", "layers": [
            {"class_name": "Dense", "config": {"name": "d", "units": 1}}]}});
        json!({"class_name": "WideDeepModel", "config": {"name": "wd", "activation": "tanh",
            "linear_model": linear(1), "dnn_model": deep}})
    }

    /// The names of what a model takes, and the values of its variables after a file gave 0, 1, .. by the order of the
    /// paths where Keras keeps them; and these paths.
    fn bound(model: &mut Model) -> (Vec<String>, Vec<(String, f32)>) {
        let paths = std::cell::RefCell::new(Vec::new());
        let fill = |objects: &mut Objects| {
            let mut found: Vec<(String, ObjectId, Vec<usize>)> =
                objects.variables().into_iter().map(|(id, path, v)| (path, id, v.shape.clone())).collect();
            found.sort();
            for (i, (_, id, shape)) in found.iter().enumerate() {
                let count = shape.iter().product();
                let value = Tensor::from_vec(vec![i as f32; count], shape.clone())?;
                objects.variable_mut(*id).expect("known").value = modelark_artifact::Value::Tensor(value);
            }
            *paths.borrow_mut() = found.into_iter().map(|(path, ..)| path).collect();
            Ok(Report::default())
        };
        model.bind(&Source::default(), fill).expect("binds");
        let value =
            |v: &modelark_artifact::Variable| v.load().expect("loads").as_slice::<f32>().expect("f32")[0];
        let own = model.objects().variables();
        let mut own: Vec<_> = own.into_iter().map(|(_, path, v)| (path, value(v))).collect();
        own.sort_by_key(|(path, _)| path.clone());
        (paths.into_inner(), own)
    }

    #[test]
    fn each_column_has_a_kernel_and_the_last_the_bias() {
        let mut model = read(linear(3), json!({"b": [null, 4], "a": [null, 2]})).expect("reads");
        let inputs: Vec<String> = model.inputs().expect("known").into_iter().map(|(name, _)| name).collect();
        assert_eq!(inputs, ["b", "a"]);
        assert_eq!(model.outputs().expect("known")[0].1.shape.to_string(), "(None, 3)");
        let (kept, own) = bound(&mut model);
        assert_eq!(kept, ["bias", "dense_layers/0/kernel", "dense_layers/1/kernel"]);
        // `a` comes first; the layers behind the two InputLayers are the kernels'.
        let own: Vec<(&str, f32)> = own.iter().map(|(path, v)| (path.as_str(), *v)).collect();
        assert_eq!(own, [("layers/2/kernel", 1.0), ("layers/3/bias", 0.0), ("layers/3/kernel", 2.0)]);
    }

    #[test]
    fn both_models_keep_their_weights() {
        for shapes in [json!([[null, 3], [null, 2]]), json!([null, 3])] {
            let mut model = read(wide_deep(), shapes.clone()).expect("reads");
            let apart = shapes.pointer("/0/1").is_some();
            assert_eq!(model.inputs().expect("known").len(), if apart { 2 } else { 1 });
            let (kept, own) = bound(&mut model);
            assert_eq!(
                kept,
                [
                    "dnn_model/layers/0/bias",
                    "dnn_model/layers/0/kernel",
                    "linear_model/bias",
                    "linear_model/dense_layers/0/kernel",
                ]
            );
            let values: Vec<f32> = own.into_iter().map(|(_, v)| v).collect();
            assert_eq!(values, [2.0, 3.0, 0.0, 1.0]);
            let (written, _) = model.architecture(Dialect::Keras2).expect("written");
            assert_eq!(written.config.get("class_name"), Some(&json!("Functional")));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = read(linear(1), Value::Null).expect_err("no shapes").to_string();
        assert!(error.contains("LinearModel") && error.contains("never called"), "{error}");
        let mut own = wide_deep();
        own["config"]["dnn_model"]["class_name"] = json!("Deep");
        let error = read(own, json!([null, 3])).expect_err("a class of its own");
        assert_eq!(error.kind(), ErrorKind::UnknownClass);
        assert!(error.to_string().contains("dnn_model"), "{error}");
        let nested = read(linear(1), json!([[[null, 3]], [null, 2]])).expect_err("nested");
        assert!(nested.to_string().contains("LinearModel"), "{nested}");
        assert!(read(linear(1), json!([])).is_err());
    }
}
