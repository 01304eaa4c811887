//! What the formats' tests share: the model that the fixtures `mlp` are of, and ways to save and to damage files.

use std::path::PathBuf;

use modelark_artifact::{
    Artifact, Dialect, Format, Kind, Layer, Limits, Memory, ObjectId, Objects, Place, Result, Role,
    SaveOptions, Target, Variable, tensor::DType,
};
use proptest::prelude::*;

/// The file of a fixture that TensorFlow wrote: `tf215`, `mlp/model.h5`.
pub(crate) fn fixture(environment: &str, file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(environment).join(file)
}

/// The objects of the fixtures' `mlp`, without values: Dense of 5, Dropout, Dense of `outputs` (3 in the fixtures).
pub(crate) fn mlp(outputs: usize) -> Objects {
    let layer = |class: &str, name: &str, role| {
        Kind::Layer(Layer { class: class.into(), name: name.into(), role, config: String::new() })
    };
    let mut objects = Objects::new(layer("Sequential", "mlp", Role::Sequential));
    let layers = objects.add(Objects::ROOT, "layers", Kind::List);
    let mut dense = |at: &str, name: &str, inputs: usize, units: usize| {
        let id: ObjectId = objects.add(layers, at, layer("Dense", name, Role::Layer));
        for (name, shape) in [("kernel", vec![inputs, units]), ("bias", vec![units])] {
            let value = Default::default();
            let variable = Variable { name: name.into(), dtype: DType::F32, shape, trainable: true, value };
            objects.add(id, name, Kind::Variable(variable));
        }
    };
    dense("0", "hidden", 6, 5);
    dense("2", "probabilities", 5, outputs);
    objects.add(layers, "1", layer("Dropout", "drop", Role::Layer));
    // In the order of the model's layers.
    if let Some(list) = objects.get_mut(layers) {
        list.children.sort();
    }
    objects
}

/// A fixture as it is read, and the same bound to the model.
pub(crate) fn bound(format: &dyn Format, environment: &str, file: &str) -> (Artifact, Artifact) {
    let place = Place::of_path(fixture(environment, file));
    assert!(format.detect(&place), "{environment}/{file}");
    let read = format.read(&place, &Limits::default()).expect("reads");
    let mut objects = mlp(3);
    format.bind(&mut objects, &read).expect("binds");
    let mut model = Artifact { objects, ..read.clone() };
    if let Some(training) = &mut model.training {
        training.follow(&read.objects, &model.objects);
    }
    (read, model)
}

/// A save in a dialect.
pub(crate) fn options(dialect: Dialect) -> SaveOptions {
    let mut options = SaveOptions::default();
    options.dialect = Some(dialect);
    options
}

/// Saves an artifact as `name` and reads it again.
pub(crate) fn again(format: &dyn Format, model: &Artifact, name: &str, options: &SaveOptions) -> Artifact {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join(name);
    let target = Target::new(&path).expect("target");
    format.write(model, &target, options).expect("writes");
    target.commit().expect("commits");
    let mut files = Memory::new();
    files.insert(name, std::fs::read(&path).expect("is there"));
    let names: Vec<_> = std::fs::read_dir(dir.path()).expect("lists").collect();
    assert_eq!(names.len(), 1, "nothing but the file is left");
    format.read(&Place::in_memory(files, name), &Limits::default()).expect("reads")
}

/// The paths of all variables, and whether two artifacts hold the same bits there, the optimizers' included.
pub(crate) fn same(a: &Artifact, b: &Artifact) -> Vec<String> {
    let all = |artifact: &Artifact| -> Vec<(String, Variable)> {
        let optimizer =
            artifact.training.iter().filter_map(|t| t.optimizer.as_ref()).flat_map(|o| &o.variables);
        let own = artifact.objects.variables().into_iter().map(|(_, path, v)| (path, v.clone()));
        own.chain(optimizer.map(|v| (v.variable.name.clone(), v.variable.clone()))).collect()
    };
    let (a, b) = (all(a), all(b));
    let names = |list: &[(String, Variable)]| list.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for ((name, x), (_, y)) in a.iter().zip(&b) {
        assert!(x.load().expect("loads").bit_eq(&y.load().expect("loads")), "{name}");
    }
    names(&a)
}

/// Reads a file from memory with all its tensors.
pub(crate) fn read_all(format: &dyn Format, name: &str, bytes: Vec<u8>) -> Result<()> {
    let mut files = Memory::new();
    files.insert(name, bytes);
    let place = Place::in_memory(files, name);
    format.detect(&place);
    let read = format.read(&place, &Limits::default())?;
    for (_, _, variable) in read.objects.variables() {
        variable.load()?;
    }
    format.bind(&mut mlp(3), &read).map(drop)
}

/// A few bytes of a file changed, and perhaps its end cut off.
pub(crate) fn damaged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    (changes, 0.3f64..2.0).prop_map(move |(changes, keep)| {
        let mut bytes = bytes.clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate((bytes.len() as f64 * keep) as usize);
        bytes
    })
}
