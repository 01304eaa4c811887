//! `keras_metadata.pb`: what Keras 2 needs to rebuild a model's layers beside its functions.

use std::collections::BTreeMap;

use modelark_artifact::tensor::PartialShape;
use modelark_artifact::{
    Architecture, Artifact, Dialect, Error, FunctionObject, Kind, Layer, ObjectId, Objects, OptimizerLayout,
    OptimizerState, OptimizerVariable, Result, Role, Slot, Structure, Training, legacy_optimizer,
    plain_arrays,
};
use modelark_checkpoint::NamedSlot;
use modelark_proto::keras::{SavedMetadata, SavedObject};
use modelark_proto::{Message, VersionDef};
use serde_json::{Map, Value, json};

use crate::plan::{Plan, arg_spec};

/// The name of the file.
pub(crate) const FILE: &str = "keras_metadata.pb";
/// What the identifiers of models begin with or are.
const MODELS: [&str; 3] = ["_tf_keras_sequential", "_tf_keras_network", "_tf_keras_model"];

/// The JSON of the root, from the file or, before TensorFlow 2.5, from the root object itself.
///
/// # Errors
/// When the file is damaged, or what it says of the root isn't JSON.
pub(crate) fn root_metadata(file: Option<&[u8]>, objects: &Objects) -> Result<Option<Value>> {
    let own = match objects.get(Objects::ROOT).map(|o| &o.kind) {
        Some(Kind::Object { identifier, metadata }) if MODELS.contains(&identifier.as_str()) => {
            metadata.clone()
        }
        _ => String::new(),
    };
    let text = match file {
        None => own,
        Some(bytes) => {
            let all = SavedMetadata::decode(bytes).map_err(|e| Error::corrupt("it is damaged").because(e))?;
            let root =
                all.nodes.into_iter().find(|n| n.node_id == 0 && MODELS.contains(&n.identifier.as_str()));
            root.map(|r| r.metadata).unwrap_or_default()
        }
    };
    if text.is_empty() {
        return Ok(None);
    }
    let value = serde_json::from_str(&text)
        .map_err(|e| Error::corrupt("what it says of the root isn't JSON").because(e))?;
    Ok(Some(plain(value)))
}

/// JSON without Keras's wrappers of tuples and shapes, as `.h5` files have it.
fn plain(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        Value::Object(map) => {
            let wrapper =
                matches!(map.get("class_name").and_then(Value::as_str), Some("__tuple__" | "TensorShape"));
            match map.get("items") {
                Some(items) if wrapper && map.len() == 2 => plain(items.clone()),
                _ => Value::Object(map.into_iter().map(|(k, v)| (k, plain(v))).collect()),
            }
        }
        other => other,
    }
}

/// The architecture that the root's metadata holds, if it holds one.
pub(crate) fn architecture(root: &Value) -> Option<Architecture> {
    let class = root.get("class_name")?.as_str()?;
    let config = root.get("config").filter(|c| c.as_object().is_some_and(|c| !c.is_empty()))?;
    let mut node = Map::from_iter([
        ("class_name".to_owned(), Value::from(class)),
        ("config".to_owned(), config.clone()),
    ]);
    // What isn't made of layers says here alone what it takes.
    let shape = root.get("build_input_shape").filter(|s| !s.is_null());
    if let (false, Some(shape)) = (matches!(class, "Sequential" | "Functional" | "Model"), shape) {
        node.insert("build_config".to_owned(), json!({"input_shape": shape}));
    }
    let version = root.get("keras_version").and_then(Value::as_str).map(str::to_owned);
    Some(Architecture { config: Value::Object(node), dialect: Dialect::Keras2, keras_version: version })
}

/// Compile config and optimizer state.
pub(crate) fn training(root: Option<&Value>, slots: &[NamedSlot], objects: &Objects) -> Option<Training> {
    let compile = root.and_then(|r| r.get("training_config")).filter(|c| !c.is_null()).cloned();
    let class = compile
        .as_ref()
        .and_then(|c| c.get("optimizer_config")?.get("class_name")?.as_str())
        .map(|c| c.rsplit('>').next().unwrap_or(c).to_owned());
    let optimizer = objects
        .get(Objects::ROOT)
        .and_then(|r| r.child("optimizer"))
        .and_then(|id| optimizer_variables(id, slots, objects))
        .filter(|(_, variables)| !variables.is_empty())
        .map(|(layout, variables)| OptimizerState { layout, class, variables });
    (compile.is_some() || optimizer.is_some()).then_some(Training { compile, optimizer })
}

fn optimizer_variables(
    id: ObjectId,
    slots: &[NamedSlot],
    objects: &Objects,
) -> Option<(OptimizerLayout, Vec<OptimizerVariable>)> {
    let optimizer = objects.get(id)?;
    let variable =
        |id: ObjectId, slot| Some(OptimizerVariable { variable: objects.variable(id)?.clone(), slot });
    if let Some(list) = optimizer.child("_variables") {
        let children = &objects.get(list)?.children;
        let all = children.iter().filter_map(|(_, id)| variable(*id, None)).collect();
        return Some((OptimizerLayout::Keras2, all));
    }
    let mut all: Vec<OptimizerVariable> =
        optimizer.child("iter").and_then(|id| variable(id, None)).into_iter().collect();
    let slots: Vec<&NamedSlot> = slots.iter().filter(|s| s.optimizer == id).collect();
    let mut names: Vec<&str> = Vec::new();
    for slot in &slots {
        if !names.contains(&slot.name.as_str()) {
            names.push(&slot.name);
        }
    }
    for name in names {
        for slot in slots.iter().filter(|s| s.name == name) {
            all.extend(variable(slot.slot, Some(Slot { name: name.to_owned(), weight: slot.variable })));
        }
    }
    Some((OptimizerLayout::Legacy, all))
}

/// The child of a layer's `keras_api` that runs it.
const CALL_AND_LOSSES: &str = "call_and_return_conditional_losses";

/// Gives the layers of a plan Keras's identifiers, and those that bring a function of their own what lets Keras run them
/// without their class.
///
/// # Errors
/// When a layer's function doesn't exist.
pub(crate) fn prepare(plan: &mut Plan) -> Result<()> {
    let layers: Vec<(ObjectId, Role)> =
        plan.layers.iter().map(|(id, (layer, _))| (*id, layer.role)).collect();
    for (id, role) in layers {
        if let Some(object) = plan.objects.get_mut(id) {
            object.kind = Kind::Object { identifier: identifier(role).to_owned(), metadata: String::new() };
        }
        let call = plan.objects.get(id).and_then(|o| o.child("__call__")).filter(|_| id != Objects::ROOT);
        let function = call.and_then(|c| match &plan.objects.get(c)?.kind {
            Kind::Function(f) => Some(f.clone()),
            _ => None,
        });
        if let Some(function) = function {
            let function = with_losses(plan, &function)?;
            let held = plan.objects.get(id).and_then(|o| o.child("keras_api"));
            let api = held.unwrap_or_else(|| plan.objects.add(id, "keras_api", Kind::object()));
            let call = plan.objects.add(api, CALL_AND_LOSSES, Kind::Function(function));
            plan.objects.link(id, "call_and_return_all_conditional_losses", call);
        }
    }
    Ok(())
}

/// A function that gives what `function` gives, and an empty list of losses.
///
/// One that was traced once doesn't depend on `training`, so that it takes tensors alone: Keras then calls it in training
/// as well.
fn with_losses(plan: &mut Plan, function: &FunctionObject) -> Result<FunctionObject> {
    let mut made = FunctionObject { concrete: Vec::new(), ..function.clone() };
    for name in &function.concrete {
        let missing = || Error::missing(format!("there is no function {name:?}"));
        let mut concrete = plan.concrete.get(name).cloned().ok_or_else(missing)?;
        let mut copy = modelark_graph::Function::clone(plan.library.read(name)?);
        copy.name = format!("{name}_{CALL_AND_LOSSES}");
        concrete.output = Structure::Tuple(vec![concrete.output, Structure::List(Vec::new())]);
        if function.concrete.len() == 1 {
            let tensors = tensor_arguments(&concrete.input);
            let names =
                (0..tensors.len()).map(|i| if i == 0 { "inputs".into() } else { format!("inputs_{i}") });
            made.arg_spec = Some(arg_spec(names.collect(), Vec::new()));
            made.is_method = false;
            concrete.input =
                Structure::Tuple(vec![Structure::Tuple(tensors), Structure::Dict(BTreeMap::new())]);
        }
        made.concrete.push(copy.name.clone());
        plan.concrete.insert(copy.name.clone(), concrete);
        plan.library.insert(copy);
    }
    Ok(made)
}

/// The positional arguments that hold tensors.
fn tensor_arguments(input: &Structure) -> Vec<Structure> {
    let positional = match input {
        Structure::Tuple(parts) => parts.first(),
        _ => None,
    };
    let Some(Structure::Tuple(positional)) = positional else { return Vec::new() };
    positional.iter().filter(|p| !p.flatten().is_empty()).cloned().collect()
}

fn identifier(role: Role) -> &'static str {
    match role {
        Role::Layer => "_tf_keras_layer",
        Role::Input => "_tf_keras_input_layer",
        Role::Sequential => "_tf_keras_sequential",
        Role::Functional => "_tf_keras_network",
        Role::Subclassed => "_tf_keras_model",
    }
}

/// The message that lets Keras 2 rebuild a plan's layers.
pub(crate) fn metadata(artifact: &Artifact, plan: &Plan) -> SavedMetadata {
    let mut paths: Vec<(ObjectId, String)> = plan
        .objects
        .walk()
        .into_iter()
        .filter(|(id, _)| plan.layers.contains_key(id))
        .map(|(id, path)| (id, std::iter::once("root").chain(path).collect::<Vec<_>>().join(".")))
        .collect();
    paths.sort();
    let entry = |(id, path): (ObjectId, String)| {
        let (layer, shapes) = plan.layers.get(&id)?;
        let metadata = if id == Objects::ROOT {
            root_entry(artifact, layer)
        } else {
            layer_entry(layer, shapes, traces(plan, id) > 1)
        };
        Some(SavedObject {
            node_id: i32::try_from(id).ok()?,
            node_path: path,
            identifier: identifier(layer.role).to_owned(),
            metadata: metadata.to_string(),
            version: Some(VersionDef { producer: 2, min_consumer: 1, bad_consumers: Vec::new() }),
        })
    };
    SavedMetadata { nodes: paths.into_iter().filter_map(entry).collect() }
}

fn root_entry(artifact: &Artifact, layer: &Layer) -> Value {
    let architecture = artifact.architecture.as_ref();
    let model = architecture.map_or(Value::Null, |a| with_tuples(a.config.clone()));
    let config = model.get("config").cloned().unwrap_or_else(|| own_config(layer));
    let version = architecture.and_then(|a| a.keras_version.clone()).filter(|v| v.starts_with("2."));
    let mut entry = json!({
        "name": layer.name,
        "trainable": true,
        "expects_training_arg": true,
        "dtype": "float32",
        "batch_input_shape": null,
        "must_restore_from_config": false,
        "preserve_input_structure_in_config": false,
        "autocast": false,
        "class_name": layer.class,
        "config": config,
        "is_graph_network": matches!(layer.role, Role::Sequential | Role::Functional),
        "keras_version": version.unwrap_or_else(|| KERAS_VERSION.to_owned()),
        "backend": "tensorflow",
        "model_config": model,
    });
    let training = artifact.training.as_ref();
    let layout = training.and_then(|t| t.optimizer.as_ref()).map(|o| o.layout);
    let compile = training.and_then(|t| t.compile.clone());
    if let (Some(compile), Some(entry)) = (compile, entry.as_object_mut()) {
        entry.insert("training_config".to_owned(), training_config(compile, layout));
    }
    entry
}

/// The version of Keras whose metadata is written.
const KERAS_VERSION: &str = "2.15.0";

/// A compile config as SavedModels and `.h5` files have it: the optimizer under `optimizer_config`.
fn training_config(compile: Value, layout: Option<OptimizerLayout>) -> Value {
    let compile = plain_arrays(compile);
    let Value::Object(mut compile) = compile else { return compile };
    if let Some(optimizer) = compile.shift_remove("optimizer") {
        compile.entry("optimizer_config").or_insert(legacy_optimizer(optimizer));
    }
    let config = compile.get_mut("optimizer_config").and_then(|o| o.get_mut("config"));
    let config = config.and_then(Value::as_object_mut).filter(|c| !c.is_empty());
    if let (Some(config), Some(OptimizerLayout::Keras2 | OptimizerLayout::Keras3)) = (config, layout) {
        // Keras takes an optimizer that doesn't say so for one of the older kind, which refuses the key.
        config.entry("is_legacy_optimizer").or_insert(json!(false));
    }
    for key in ["loss", "metrics", "weighted_metrics", "loss_weights"] {
        compile.entry(key).or_insert(Value::Null);
    }
    Value::Object(compile)
}

fn own_config(layer: &Layer) -> Value {
    let config = serde_json::from_str(&layer.config).unwrap_or_else(|_| json!({ "name": layer.name }));
    with_tuples(config)
}

/// A config with tuples for what Keras takes as a tuple and not as a list.
fn with_tuples(config: Value) -> Value {
    match config {
        Value::Array(items) => items.into_iter().map(with_tuples).collect(),
        Value::Object(map) => {
            let entry = |(key, value): (String, Value)| {
                let value = if key == "ngrams" { tuple(&value) } else { with_tuples(value) };
                (key, value)
            };
            Value::Object(map.into_iter().map(entry).collect())
        }
        other => other,
    }
}

/// How many functions an object's call chooses from.
fn traces(plan: &Plan, id: ObjectId) -> usize {
    let call = plan.objects.get(id).and_then(|o| plan.objects.get(o.child("__call__")?));
    call.map_or(0, |c| if let Kind::Function(f) = &c.kind { f.concrete.len() } else { 0 })
}

fn layer_entry(layer: &Layer, shapes: &[PartialShape], trains: bool) -> Value {
    let config = own_config(layer);
    let of_config = |key: &str, default: Value| config.get(key).cloned().unwrap_or(default);
    if layer.role == Role::Input {
        return json!({
            "class_name": layer.class,
            "name": layer.name,
            "dtype": of_config("dtype", json!("float32")),
            "sparse": of_config("sparse", json!(false)),
            "ragged": of_config("ragged", json!(false)),
            "batch_input_shape": tuple(&of_config("batch_input_shape", Value::Null)),
            "config": config,
        });
    }
    let is_model = matches!(layer.role, Role::Sequential | Role::Functional);
    let mut entry = json!({
        "name": layer.name,
        "trainable": of_config("trainable", json!(true)),
        "expects_training_arg": trains || is_model,
        "dtype": of_config("dtype", json!("float32")),
        "batch_input_shape": null,
        "stateful": of_config("stateful", json!(false)),
        "must_restore_from_config": false,
        "preserve_input_structure_in_config": false,
        "autocast": !is_model,
        "class_name": layer.class,
        "config": config,
    });
    if let Some(map) = entry.as_object_mut() {
        if is_model {
            map.insert("is_graph_network".to_owned(), json!(true));
        }
        let shapes: Option<Vec<Value>> = shapes.iter().map(shape).collect();
        match shapes.as_deref() {
            None | Some([]) => {}
            Some([one]) => drop(map.insert("build_input_shape".to_owned(), one.clone())),
            Some(many) => drop(map.insert("build_input_shape".to_owned(), json!(many))),
        }
    }
    entry
}

/// A shape as Keras's metadata spells it.
fn shape(shape: &PartialShape) -> Option<Value> {
    Some(json!({ "class_name": "TensorShape", "items": shape.dims()? }))
}

/// A list as Keras's metadata spells a tuple.
fn tuple(list: &Value) -> Value {
    if list.is_array() { json!({ "class_name": "__tuple__", "items": list }) } else { list.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelark_proto::keras::SavedObject;

    fn file(metadata: &str) -> Vec<u8> {
        SavedMetadata {
            nodes: vec![SavedObject {
                identifier: MODELS[0].into(),
                node_path: "root".into(),
                metadata: metadata.into(),
                ..Default::default()
            }],
        }
        .encode_to_vec()
    }

    #[test]
    fn the_root_tells_architecture_and_training() {
        let text = r#"{"class_name": "Sequential", "keras_version": "2.15.0",
            "config": {"name": "m", "layers": [{"class_name": "InputLayer", "config":
                {"batch_input_shape": {"class_name": "__tuple__", "items": [null, 6]}}}]},
            "training_config": {"loss": "mse", "optimizer_config": {"class_name": "Custom>Adam", "config": {}}}}"#;
        let root = root_metadata(Some(&file(text)), &Objects::default()).expect("metadata").expect("a root");
        let architecture = architecture(&root).expect("architecture");
        assert_eq!(
            architecture.config["config"]["layers"][0]["config"]["batch_input_shape"],
            serde_json::json!([null, 6])
        );
        assert_eq!(architecture.keras_version.as_deref(), Some("2.15.0"));
        let training = training(Some(&root), &[], &Objects::default()).expect("training");
        assert_eq!(training.compile.expect("compile")["loss"], "mse");
    }

    #[test]
    fn a_damaged_file_is_named_and_none_is_no_error() {
        assert!(root_metadata(Some(b"\xff"), &Objects::default()).is_err());
        assert!(root_metadata(Some(&file("{")), &Objects::default()).is_err());
        assert!(root_metadata(None, &Objects::default()).expect("none").is_none());
    }
}
