//! A Keras model's checkpoints: bound to its objects, written as Keras writes them.

use std::path::{Path, PathBuf};

use modelark_artifact::{
    Artifact, Dialect, Error, Format, Kind, Layer, Limits, ObjectId, Objects, OptimizerLayout, Place, Report,
    Role, SaveOptions, Target, Variable,
};
use modelark_checkpoint::{Bundle, Checkpoint, OBJECT_GRAPH_KEY};
use modelark_tensor::{DType, Tensor};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn read(path: &Path) -> Artifact {
    Checkpoint.read(&Place::of_path(path), &Limits::default()).expect("read")
}

fn layer(class: &str, name: &str, role: Role) -> Kind {
    Kind::Layer(Layer { class: class.into(), name: name.into(), role, config: String::new() })
}

fn add_layer(objects: &mut Objects, list: ObjectId, index: &str, name: &str, weights: &[(&str, &[usize])]) {
    let id = objects.add(list, index, layer("Layer", name, Role::Layer));
    for (name, shape) in weights {
        let value = Tensor::zeros(DType::F32, shape).expect("zeros");
        objects.add(id, *name, Kind::Variable(Variable::new(*name, value)));
    }
}

/// The model of the golden files, with `units` in the first layer.
fn model(units: usize) -> Objects {
    let mut o = Objects::new(layer("Sequential", "sequential", Role::Sequential));
    let layers = o.add(Objects::ROOT, "layers", Kind::List);
    add_layer(&mut o, layers, "0", "dense", &[("kernel", &[4, units]), ("bias", &[units])]);
    let n: &[usize] = &[units];
    let norm = [("gamma", n), ("beta", n), ("moving_mean", n), ("moving_variance", n)];
    add_layer(&mut o, layers, "1", "batch_normalization", &norm);
    add_layer(&mut o, layers, "2", "re_lu", &[]);
    add_layer(&mut o, layers, "3", "dense_1", &[("kernel", &[units, 2]), ("bias", &[2])]);
    o
}

/// The artifact with its values in the model's objects.
fn bound(mut artifact: Artifact) -> Artifact {
    let mut objects = model(3);
    Checkpoint.bind(&mut objects, &artifact).expect("bind");
    if let Some(training) = &mut artifact.training {
        training.follow(&artifact.objects, &objects);
    }
    Artifact { objects, training: artifact.training, ..Artifact::default() }
}

fn write(artifact: &Artifact, path: &Path, options: &SaveOptions) -> Report {
    let target = Target::new(path).expect("target");
    let report = Checkpoint.write(artifact, &target, options).expect("write");
    target.commit().expect("commit");
    report
}

fn with_counter(dialect: Dialect) -> SaveOptions {
    let mut options = SaveOptions::default();
    options.dialect = Some(dialect);
    options.save_counter = true;
    options
}

fn assert_same_tensors(a: &Path, b: &Path) {
    let open = |p: &Path| Bundle::open(Place::of_path(p), &Limits::default()).expect("open");
    let (a, b) = (open(a), open(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for key in a.keys().filter(|k| *k != OBJECT_GRAPH_KEY) {
        assert!(a.tensor(key).expect(key).bit_eq(&b.tensor(key).expect(key)), "{key}");
    }
}

#[test]
fn what_keras_2_wrote_is_written_again() {
    let dir = tempfile::tempdir().expect("temp dir");
    for (name, layout, slots) in [
        ("keras2_adam", OptimizerLayout::Keras2, ["m", "v", "m"]),
        ("keras2_legacy_adam", OptimizerLayout::Legacy, ["m", "m", "m"]),
    ] {
        let artifact = bound(read(&golden(name)));
        let state = artifact.training.as_ref().and_then(|t| t.optimizer.as_ref()).expect("optimizer");
        assert_eq!((state.layout, state.class.as_deref()), (layout, Some("Adam")));
        let first: Vec<_> =
            state.variables[1..4].iter().map(|v| v.slot.clone().expect("slot").name).collect();
        assert_eq!(first, slots);
        let to = dir.path().join(name);
        assert_eq!(write(&artifact, &to, &SaveOptions::default()).notes, [""; 0]);
        assert_same_tensors(&golden(name), &to);
        let state = std::fs::read_to_string(dir.path().join("checkpoint")).expect("state");
        assert_eq!(
            state,
            format!("model_checkpoint_path: \"{name}\"\nall_model_checkpoint_paths: \"{name}\"\n")
        );
    }
}

#[test]
fn an_object_graph_that_was_read_is_kept() {
    let dir = tempfile::tempdir().expect("temp dir");
    for name in ["keras2_adam", "keras2_legacy_adam"] {
        let to = dir.path().join(name);
        write(&read(&golden(name)), &to, &SaveOptions::default());
        for suffix in [".index", ".data-00000-of-00001"] {
            let bytes = |p: &Path| std::fs::read(format!("{}{suffix}", p.display())).expect("read");
            assert!(bytes(&golden(name)) == bytes(&to), "{name}{suffix}");
        }
    }
}

#[test]
fn every_root_and_generation_binds_alike() {
    let dir = tempfile::tempdir().expect("temp dir");
    let weights = |a: &Artifact| -> Vec<Tensor> {
        a.objects.variables().into_iter().map(|(_, _, v)| v.load().expect("load")).collect()
    };
    for (name, dialect) in [("keras2_adam", Dialect::Keras2), ("keras3_adam-1", Dialect::Keras3)] {
        let artifact = bound(read(&golden(name)));
        let to = dir.path().join(name);
        write(&artifact, &to, &with_counter(dialect));
        let again = read(&to);
        let root = again.objects.get(Objects::ROOT).expect("root");
        let edges: Vec<&str> = root.children.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(edges[..2], ["model", "save_counter"]);
        assert!(edges.contains(&"optimizer"), "{edges:?}");
        let bundle = Bundle::open(Place::of_path(&to), &Limits::default()).expect("open");
        assert!(
            bundle.keys().all(|k| k.starts_with("model/") || k.starts_with("save_") || k == OBJECT_GRAPH_KEY)
        );
        for (a, b) in weights(&artifact).iter().zip(weights(&bound(again))) {
            assert!(a.bit_eq(&b));
        }
    }
    let state = read(&golden("keras3_adam-1")).training.and_then(|t| t.optimizer).expect("optimizer");
    assert_eq!((state.layout, state.variables.len()), (OptimizerLayout::Keras3, 14));
    assert_eq!(state.variables[3].slot.as_ref().expect("slot").name, "velocity");
}

#[test]
fn a_file_by_names_binds_by_full_names() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut flat = Objects::default();
    for (name, shape) in [
        ("dense/kernel", vec![4, 3]),
        ("dense/bias", vec![3]),
        ("batch_normalization/gamma", vec![3]),
        ("batch_normalization/beta", vec![3]),
        ("batch_normalization/moving_mean", vec![3]),
        ("batch_normalization/moving_variance", vec![3]),
        ("dense_1/kernel", vec![3, 2]),
        ("dense_1/bias", vec![2]),
        ("global_step", vec![]),
    ] {
        let value = Tensor::full(7f32, &shape).expect("full");
        flat.add(Objects::ROOT, name, Kind::Variable(Variable::new(name, value)));
    }
    let path = dir.path().join("model.ckpt");
    write(&Artifact { objects: flat, ..Artifact::default() }, &path, &SaveOptions::default());
    let bundle = Bundle::open(Place::of_path(&path), &Limits::default()).expect("open");
    assert!(bundle.entry("dense_1/bias").is_some() && bundle.entry(OBJECT_GRAPH_KEY).is_none());
    let mut objects = model(3);
    let report = Checkpoint.bind(&mut objects, &read(&path)).expect("bind");
    assert!(report.notes.iter().any(|n| n.contains("global_step")), "{report:?}");
    for (_, path, variable) in objects.variables() {
        let value = variable.load().expect("load");
        assert!(value.as_slice::<f32>().expect("f32").iter().all(|&v| v == 7.0), "{path}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let message = |r: Result<Report, Error>| r.expect_err("an error").to_string();
    let file = read(&golden("keras2_adam"));
    let e = message(Checkpoint.bind(&mut model(5), &file));
    assert!(e.contains("layers/0/kernel") && e.contains("[4, 5]") && e.contains("[4, 3]"), "{e}");
    assert!(e.contains("keras2_adam"), "{e}");
    let mut larger = model(3);
    let layers = larger.find("layers").expect("layers");
    add_layer(&mut larger, layers, "4", "dense_2", &[("kernel", &[2, 2])]);
    let e = message(Checkpoint.bind(&mut larger, &file));
    assert!(e.contains("no value for 1") && e.contains("layers/4/kernel"), "{e}");
    let mut smaller = Objects::new(layer("Sequential", "sequential", Role::Sequential));
    let layers = smaller.add(Objects::ROOT, "layers", Kind::List);
    add_layer(&mut smaller, layers, "0", "dense", &[("kernel", &[4, 3]), ("bias", &[3])]);
    let e = message(Checkpoint.bind(&mut smaller, &file));
    assert!(e.contains("6 tensors") && e.contains("layer_with_weights-1/gamma"), "{e}");
}

#[test]
fn plain_trees_go_by_their_paths() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("module");
    let mut objects = Objects::default();
    let dict = objects.add(Objects::ROOT, "d", Kind::Dict);
    let v = objects.add(dict, "a/b", Kind::Variable(Variable::new("scope/v:0", Tensor::scalar(5f32))));
    objects.link(Objects::ROOT, "again", v);
    write(
        &Artifact { objects: objects.clone(), ..Artifact::default() },
        &path,
        &with_counter(Dialect::Keras2),
    );
    let again = read(&path);
    assert_eq!(
        again.objects.find("again"),
        again.objects.get(Objects::ROOT).and_then(|r| { again.objects.get(r.child("d")?)?.child("a/b") })
    );
    let (_, _, variable) =
        again.objects.variables().into_iter().find(|(_, p, _)| p == "again").expect("again");
    assert_eq!(variable.name, "scope/v");
    let cleared = Variable::new("scope/v:0", Tensor::scalar(0f32));
    objects.get_mut(v).expect("v").kind = Kind::Variable(cleared);
    Checkpoint.bind(&mut objects, &again).expect("bind");
    assert_eq!(objects.variable(v).expect("v").load().expect("load").item::<f32>().expect("f32"), 5.0);
}
