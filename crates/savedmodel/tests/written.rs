//! SavedModels that are written from objects and functions made here, and read again.
//!
//! They stay under the target's folder of temporary files; `interop` lets TensorFlow load such models.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use modelark_artifact::graph::{Builder, Library, Sym};
use modelark_artifact::tensor::{DType, PartialShape, Tensor};
use modelark_artifact::{
    Architecture, Artifact, Asset, ConcreteFunction, Dialect, Format, FunctionObject, Functions, Kind, Layer,
    Limits, ObjectId, Objects, OptimizerLayout, OptimizerState, OptimizerVariable, Place, Role, SaveOptions,
    Structure, Target, Training, Variable,
};
use modelark_savedmodel::SavedModelFormat;
use serde_json::json;

fn tensor(name: &str, dims: &[Option<usize>]) -> Structure {
    Structure::Tensor { name: name.into(), shape: PartialShape::new(dims.to_vec()), dtype: DType::F32 }
}

fn arguments(positional: Vec<Structure>) -> Structure {
    Structure::Tuple(vec![Structure::Tuple(positional), Structure::Dict(BTreeMap::new())])
}

fn arg_spec(args: &[&str], defaults: Structure) -> Option<Structure> {
    let fields = [
        ("args", Structure::List(args.iter().map(|a| Structure::String((*a).into())).collect())),
        ("varargs", Structure::None),
        ("varkw", Structure::None),
        ("defaults", defaults),
        ("kwonlyargs", Structure::List(Vec::new())),
        ("kwonlydefaults", Structure::None),
        ("annotations", Structure::Dict(BTreeMap::new())),
    ];
    let fields = fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
    Some(Structure::NamedTuple { name: "FullArgSpec".into(), fields })
}

/// Numbers that are small, of both signs, and all different.
fn numbers(shape: &[usize], seed: f32) -> Tensor {
    let n = shape.iter().product::<usize>();
    let values = (0..n).map(|i| ((i as f32 * 0.37 + seed).sin()) * 0.5).collect();
    Tensor::from_vec(values, shape).unwrap()
}

fn variable(objects: &mut Objects, parent: ObjectId, name: &str, shape: &[usize], seed: f32) -> ObjectId {
    objects.add(parent, name, Kind::Variable(Variable::new(name, numbers(shape, seed))))
}

/// `activation(x @ kernel + bias)`, the two read from handles.
fn dense(b: &mut Builder, x: Sym, kernel: Sym, bias: Sym, activation: &str) -> Sym {
    let kernel = b.op("ReadVariableOp").input(kernel).attr("dtype", DType::F32).one().unwrap();
    let bias = b.op("ReadVariableOp").input(bias).attr("dtype", DType::F32).one().unwrap();
    let y = b.op("MatMul").inputs(&[x, kernel]).one().unwrap();
    let y = b.op("BiasAdd").inputs(&[y, bias]).one().unwrap();
    b.op(activation).input(y).one().unwrap()
}

/// A function of `x` and handles, made of dense layers.
fn stack(library: &mut Library, name: &str, activations: &[&str]) {
    let mut b = Builder::new(name);
    let x = b.arg("x", DType::F32).unwrap();
    let handles: Vec<Sym> =
        (0..activations.len() * 2).map(|i| b.arg(&format!("v{i}"), DType::Resource).unwrap()).collect();
    let y = activations.iter().zip(handles.chunks(2)).fold(x, |x, (a, h)| dense(&mut b, x, h[0], h[1], a));
    let (function, _) = b.finish(&[("y", y)]).unwrap();
    library.insert(function);
}

/// Two dense layers under plain objects; no signature.
fn module() -> Artifact {
    let mut objects = Objects::default();
    let first = objects.add(Objects::ROOT, "custom", Kind::object());
    let w = variable(&mut objects, first, "w", &[10, 6], 0.1);
    let b = variable(&mut objects, first, "b", &[6], 0.2);
    let second = objects.add(Objects::ROOT, "dense", Kind::object());
    let kernel = variable(&mut objects, second, "kernel", &[6, 3], 0.3);
    let bias = variable(&mut objects, second, "bias", &[3], 0.4);
    let mut library = Library::new();
    stack(&mut library, "call", &["Tanh", "Relu"]);
    let call = ConcreteFunction {
        captures: vec![w, b, kernel, bias],
        input: arguments(vec![tensor("x", &[None, Some(10)])]),
        output: tensor("y", &[None, Some(3)]),
    };
    let function = FunctionObject { concrete: vec!["call".into()], ..Default::default() };
    objects.add(Objects::ROOT, "__call__", Kind::Function(function));
    let concrete = BTreeMap::from([("call".to_owned(), call)]);
    Artifact {
        objects,
        functions: Some(Functions { library, concrete, session: None }),
        ..Default::default()
    }
}

/// A Sequential model of a custom layer, which brings its own function, and a Dense; compiled, with Adam's state.
fn sequential() -> Artifact {
    let layer = |class: &str, name: &str, role, config: serde_json::Value| {
        Kind::Layer(Layer { class: class.into(), name: name.into(), role, config: config.to_string() })
    };
    let (custom_config, dense_config) = (
        json!({"name": "custom", "trainable": true, "dtype": "float32", "units": 6}),
        json!({"name": "dense", "trainable": true, "dtype": "float32", "units": 3, "activation": "relu",
            "use_bias": true, "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": null}},
            "bias_initializer": {"class_name": "Zeros", "config": {}}, "kernel_regularizer": null,
            "bias_regularizer": null, "activity_regularizer": null, "kernel_constraint": null,
            "bias_constraint": null}),
    );
    let input = json!({"batch_input_shape": [null, 10], "dtype": "float32", "sparse": false, "ragged": false, "name": "x"});
    let config = json!({"name": "model", "layers": [
        {"class_name": "InputLayer", "config": input},
        {"class_name": "Squash", "config": custom_config},
        {"class_name": "Dense", "config": dense_config},
    ]});
    let mut objects = Objects::new(layer("Sequential", "model", Role::Sequential, config.clone()));
    let list = objects.add(Objects::ROOT, "layers", Kind::List);
    let custom = objects.add(list, "0", layer("Squash", "custom", Role::Layer, custom_config));
    let w = variable(&mut objects, custom, "w", &[10, 6], 0.1);
    let b = variable(&mut objects, custom, "b", &[6], 0.2);
    let dense = objects.add(list, "1", layer("Dense", "dense", Role::Layer, dense_config));
    let kernel = variable(&mut objects, dense, "kernel", &[6, 3], 0.3);
    let bias = variable(&mut objects, dense, "bias", &[3], 0.4);
    for (id, units) in [(custom, 10), (dense, 6)] {
        objects.get_mut(id).unwrap().input_shapes = vec![PartialShape::new([None, Some(units)])];
    }
    let mut library = Library::new();
    stack(&mut library, "call", &["Tanh", "Relu"]);
    stack(&mut library, "call_custom", &["Tanh"]);
    let call = |captures: Vec<ObjectId>, from: usize, to: usize| ConcreteFunction {
        captures,
        input: arguments(vec![tensor("x", &[None, Some(from)]), Structure::Bool(false), Structure::None]),
        output: tensor("y", &[None, Some(to)]),
    };
    let concrete = BTreeMap::from([
        ("call".to_owned(), call(vec![w, b, kernel, bias], 10, 3)),
        ("call_custom".to_owned(), call(vec![w, b], 10, 6)),
    ]);
    for (id, name) in [(Objects::ROOT, "call"), (custom, "call_custom")] {
        let function = FunctionObject {
            concrete: vec![name.into()],
            arg_spec: arg_spec(
                &["self", "inputs", "training", "mask"],
                Structure::Tuple(vec![Structure::Bool(false), Structure::None]),
            ),
            is_method: true,
            input_signature: None,
        };
        objects.add(id, "__call__", Kind::Function(function));
    }
    let slot = |name: &str, shape: &[usize]| OptimizerVariable {
        variable: Variable::new(name, numbers(shape, 0.7)).trainable(false),
        slot: None,
    };
    let iterations = Variable::new("iteration", Tensor::scalar(5i64)).trainable(false);
    let mut variables = vec![OptimizerVariable { variable: iterations, slot: None }];
    for (name, shape) in [("w", &[10, 6][..]), ("b", &[6]), ("kernel", &[6, 3]), ("bias", &[3])] {
        variables.extend([slot(&format!("m_{name}"), shape), slot(&format!("v_{name}"), shape)]);
    }
    let optimizer = OptimizerState { layout: OptimizerLayout::Keras2, class: Some("Adam".into()), variables };
    let compile = json!({"loss": "mse", "metrics": ["mae"], "optimizer_config":
        {"class_name": "Adam", "config": {"name": "Adam", "learning_rate": 0.01}}});
    Artifact {
        architecture: Some(Architecture {
            config: json!({"class_name": "Sequential", "config": config}),
            dialect: Dialect::Keras2,
            keras_version: None,
        }),
        objects,
        functions: Some(Functions { library, concrete, session: None }),
        training: Some(Training { compile: Some(compile), optimizer: Some(optimizer) }),
        ..Default::default()
    }
}

/// A table from an asset and one from constants, looked up one after the other.
fn tables() -> Artifact {
    let mut objects = Objects::default();
    let mut library = Library::new();
    let mut concrete = BTreeMap::new();
    let asset = objects.add(Objects::ROOT, "vocabulary", Kind::Asset(0));
    let keys = Tensor::from_vec(vec![0i64, 1, 2], [3]).unwrap();
    let values = numbers(&[3], 0.5);
    let keys = objects.add(Objects::ROOT, "keys", Kind::Constant(keys));
    let values = objects.add(Objects::ROOT, "values", Kind::Constant(values));
    let mut captures = Vec::new();
    for (i, (from, to)) in [(DType::String, DType::I64), (DType::I64, DType::F32)].into_iter().enumerate() {
        let table = objects.add(
            Objects::ROOT,
            format!("table{i}"),
            Kind::Resource { device: String::new(), restored: None },
        );
        let mut b = Builder::new(format!("create{i}"));
        let handle = b.op("HashTableV2").attr("key_dtype", from).attr("value_dtype", to);
        let handle = handle.attr("shared_name", format!("table{i}")).one().unwrap();
        library.insert(b.finish(&[("table", handle)]).unwrap().0);
        let mut b = Builder::new(format!("initialize{i}"));
        let handle = b.arg("table", DType::Resource).unwrap();
        let given = if i == 0 {
            let file = b.arg("file", DType::String).unwrap();
            let init = b.op("InitializeTableFromTextFileV2").inputs(&[handle, file]);
            init.attr("key_index", -2i64).attr("value_index", -1i64).run().unwrap();
            vec![table, asset]
        } else {
            let k = b.arg("keys", from).unwrap();
            let v = b.arg("values", to).unwrap();
            b.op("LookupTableImportV2").inputs(&[handle, k, v]).run().unwrap();
            vec![table, keys, values]
        };
        let one = b.constant(Tensor::scalar(1i32)).unwrap();
        library.insert(b.finish(&[("done", one)]).unwrap().0);
        let output = |dtype| Structure::Tensor { name: String::new(), shape: PartialShape::scalar(), dtype };
        for (method, name, captures, dtype) in [
            ("_create_resource", format!("create{i}"), vec![], DType::Resource),
            ("_initialize", format!("initialize{i}"), given, DType::I32),
        ] {
            let f = ConcreteFunction { captures, input: arguments(vec![]), output: output(dtype) };
            concrete.insert(name.clone(), f);
            let f = FunctionObject {
                concrete: vec![name],
                arg_spec: arg_spec(&[], Structure::None),
                ..Default::default()
            };
            objects.add(table, method, Kind::Function(f));
        }
        captures.push(table);
    }
    let mut b = Builder::new("call");
    let words = b.arg("words", DType::String).unwrap();
    let handles: Vec<Sym> = (0..2).map(|i| b.arg(&format!("t{i}"), DType::Resource).unwrap()).collect();
    let none = b.constant(Tensor::scalar(-1i64)).unwrap();
    let ids = b.op("LookupTableFindV2").inputs(&[handles[0], words, none]).one().unwrap();
    let none = b.constant(Tensor::scalar(-1.0f32)).unwrap();
    let y = b.op("LookupTableFindV2").inputs(&[handles[1], ids, none]).one().unwrap();
    library.insert(b.finish(&[("y", y)]).unwrap().0);
    let words =
        Structure::Tensor { name: "words".into(), shape: PartialShape::new([None]), dtype: DType::String };
    let call = ConcreteFunction { captures, input: arguments(vec![words]), output: tensor("y", &[None]) };
    concrete.insert("call".into(), call);
    let function = FunctionObject {
        concrete: vec!["call".into()],
        arg_spec: arg_spec(&["words"], Structure::None),
        ..Default::default()
    };
    objects.add(Objects::ROOT, "__call__", Kind::Function(function));
    Artifact {
        objects,
        functions: Some(Functions { library, concrete, session: None }),
        assets: vec![Asset { name: "vocabulary.txt".into(), bytes: b"a\nb\nc\n"[..].into() }],
        ..Default::default()
    }
}

/// Writes an artifact and reads it.
fn written(name: &str, artifact: &Artifact) -> (PathBuf, Artifact) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let format = SavedModelFormat::default();
    let target = Target::new(&path).unwrap();
    format.write(artifact, &target, &SaveOptions::default()).unwrap();
    target.commit().unwrap();
    let read = format.read(&Place::of_path(&path), &Limits::default()).unwrap();
    (path, read)
}

fn value(artifact: &Artifact, path: &str) -> Tensor {
    let id = artifact.objects.find(path).unwrap_or_else(|| panic!("{path}"));
    artifact.objects.variable(id).unwrap().load().unwrap()
}

#[test]
fn a_module_gets_a_signature_and_lists_of_variables() {
    let (_, read) = written("module", &module());
    assert!(value(&read, "custom/w").bit_eq(&numbers(&[10, 6], 0.1)));
    assert!(value(&read, "variables/3").bit_eq(&numbers(&[3], 0.4)));
    let functions = read.functions.unwrap();
    let session = functions.session.unwrap();
    let signature = &session.signatures["serving_default"];
    assert_eq!(signature.inputs["x"].name, "serving_default_x:0");
    assert_eq!(signature.outputs["output_0"].shape, PartialShape::new([None, Some(3)]));
    let root = read.objects.get(Objects::ROOT).unwrap();
    let signatures = read.objects.get(root.child("signatures").unwrap()).unwrap();
    assert!(matches!(signatures.kind, Kind::Signatures));
    let names: Vec<_> = session.graph.nodes.iter().map(|n| n.name.as_str()).collect();
    assert!(names.contains(&"custom/w") && names.contains(&"restore/all"), "{names:?}");
    assert_eq!(functions.concrete["call"].captures.len(), 4);
}

#[test]
fn a_compiled_keras_model_keeps_its_architecture_and_training() {
    let made = sequential();
    let (path, read) = written("sequential", &made);
    assert!(path.join("keras_metadata.pb").is_file());
    assert!(value(&read, "layer_with_weights-1/kernel").bit_eq(&numbers(&[6, 3], 0.3)));
    let architecture = read.architecture.as_ref().unwrap();
    assert_eq!(architecture.config, made.architecture.as_ref().unwrap().config);
    let training = read.training.as_ref().unwrap();
    assert_eq!(training.compile.as_ref().unwrap()["loss"], "mse");
    let state = training.optimizer.as_ref().unwrap();
    assert_eq!(state.variables.len(), 9);
    assert_eq!(state.variables[0].variable.load().unwrap().item::<i64>().unwrap(), 5);
    let mut skeleton = made.objects.clone();
    for id in 0..skeleton.len() {
        if let Some(v) = skeleton.variable_mut(id) {
            v.value = modelark_artifact::Value::None;
        }
    }
    SavedModelFormat::default().bind(&mut skeleton, &read).unwrap();
    for (id, path, v) in made.objects.variables() {
        let bound = skeleton.variable(id).unwrap().load().unwrap();
        assert!(bound.bit_eq(&v.load().unwrap()), "{path}");
    }
}

#[test]
fn tables_and_assets_are_written() {
    let (path, read) = written("tables", &tables());
    assert_eq!(std::fs::read(path.join("assets/vocabulary.txt")).unwrap(), b"a\nb\nc\n");
    let session = read.functions.unwrap().session.unwrap();
    assert_eq!((session.assets.len(), session.init.len()), (1, 1));
    assert_eq!(session.graph.nodes[session.init[0]].controls.len(), 2);
    assert_eq!(read.assets.len(), 1);
}

#[test]
fn an_op_that_is_not_tensorflows_is_refused_by_name() {
    let mut artifact = module();
    let functions = artifact.functions.as_mut().unwrap();
    let mut b = Builder::new("inner");
    let x = b.arg("x", DType::F32).unwrap();
    let mut f = b.finish(&[("x", x)]).unwrap().0;
    f.graph.nodes.push(modelark_artifact::graph::Node {
        name: "n".into(),
        op: "NobodysOp".into(),
        ..Default::default()
    });
    f.results[0].output.node = 1;
    functions.library.insert(f);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("refused");
    let target = Target::new(&path).unwrap();
    let e = SavedModelFormat::default().write(&artifact, &target, &SaveOptions::default()).unwrap_err();
    assert!(e.to_string().contains("function \"inner\"") && e.to_string().contains("NobodysOp"), "{e}");
    drop(target);
    assert!(!path.exists());
}
