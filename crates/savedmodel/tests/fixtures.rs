//! SavedModels that TensorFlow wrote, read and written again: what is read from the copy is what was read before.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

use std::path::{Path, PathBuf};

use modelark_artifact::{Artifact, Format, Kind, Limits, Place, SaveOptions, Target};
use modelark_savedmodel::{FrozenGraph, ReadOptions, SavedModel, SavedModelFormat};

/// The folders under the fixtures that hold a file of this name.
fn folders(file: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let mut queue = vec![root];
    let mut found = Vec::new();
    while let Some(folder) = queue.pop() {
        if folder.join(file).is_file() {
            found.push(folder.clone());
        }
        let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        queue.extend(entries.filter(|p| p.is_dir()));
    }
    found.sort();
    found
}

fn assert_same(a: &Artifact, b: &Artifact) {
    assert_eq!(a.objects.len(), b.objects.len());
    for ((id, x), (_, y)) in a.objects.iter().zip(b.objects.iter()) {
        assert_eq!(x.children, y.children, "object {id}");
        if let (Kind::Variable(x), Kind::Variable(y)) = (&x.kind, &y.kind) {
            assert_eq!((&x.name, &x.shape, x.trainable), (&y.name, &y.shape, y.trainable));
            if x.dtype.size().is_some() || x.dtype.name() == "string" {
                assert!(x.load().unwrap().bit_eq(&y.load().unwrap()), "{}", x.name);
            }
        }
    }
    let (f, g) = (a.functions.as_ref().unwrap(), b.functions.as_ref().unwrap());
    assert_eq!(f.concrete, g.concrete);
    assert_eq!(f.library.len(), g.library.len());
    for (x, y) in f.library.iter().zip(g.library.iter()) {
        assert_eq!(x.expect("read"), y.expect("read"));
    }
    let (s, t) = (f.session.as_ref().unwrap(), g.session.as_ref().unwrap());
    assert_eq!(s.graph, t.graph);
    assert_eq!(
        (&s.signatures, &s.init, &s.assets, &s.variables),
        (&t.signatures, &t.init, &t.assets, &t.variables)
    );
    assert_eq!(a.assets, b.assets);
    assert_eq!(a.architecture, b.architecture);
    assert_eq!(a.extras.keys().collect::<Vec<_>>(), b.extras.keys().collect::<Vec<_>>());
}

#[test]
fn every_saved_model_survives() {
    let folders = folders("saved_model.pb");
    assert!(folders.len() > 20, "{folders:?}");
    let format = SavedModelFormat::default();
    let scratch = tempfile::tempdir().unwrap();
    for folder in folders {
        let place = Place::of_path(&folder);
        assert!(format.detect(&place) && format.detect(&Place::of_path(folder.join("saved_model.pb"))));
        assert!(!FrozenGraph.detect(&Place::of_path(folder.join("saved_model.pb"))));
        let read = format.read(&place, &Limits::default()).unwrap();
        let path = scratch.path().join("copy");
        let target = Target::new(&path).unwrap();
        format.write(&read, &target, &SaveOptions::default()).unwrap();
        target.commit().unwrap();
        let again = format.read(&Place::of_path(&path), &Limits::default()).unwrap();
        assert_same(&read, &again);
    }
}

#[test]
fn another_meta_graph_is_kept_and_can_be_chosen() {
    let folder = folders("saved_model.pb").into_iter().find(|f| f.ends_with("two_tags")).unwrap();
    let all: Vec<Vec<String>> = SavedModel::open(&Place::of_path(&folder), &ReadOptions::default())
        .unwrap()
        .tags()
        .into_iter()
        .map(<[String]>::to_vec)
        .collect();
    assert_eq!(all.len(), 2);
    for tags in all {
        let format = SavedModelFormat { tags: Some(tags.clone()) };
        let read = format.read(&Place::of_path(&folder), &Limits::default()).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("copy");
        let target = Target::new(&path).unwrap();
        format.write(&read, &target, &SaveOptions::default()).unwrap();
        target.commit().unwrap();
        for tags in SavedModel::open(&Place::of_path(&path), &ReadOptions::default()).unwrap().tags() {
            let format = SavedModelFormat { tags: Some(tags.to_vec()) };
            let (a, b) = (Place::of_path(&folder), Place::of_path(&path));
            let limits = Limits::default();
            assert_same(&format.read(&a, &limits).unwrap(), &format.read(&b, &limits).unwrap());
        }
    }
}

#[test]
fn frozen_graphs_are_read() {
    for (file, inputs, output) in
        [("frozen_v1.pb", &["times:0", "x:0"][..], "chosen:0"), ("frozen_v2.pb", &["x:0"], "Identity:0")]
    {
        for folder in folders(file) {
            let place = Place::of_path(folder.join(file));
            let format = FrozenGraph;
            assert!(format.detect(&place) && !SavedModelFormat::default().detect(&place));
            let functions = format.read(&place, &Limits::default()).unwrap().functions.unwrap();
            let signature = &functions.session.unwrap().signatures["serving_default"];
            assert_eq!(signature.inputs.keys().collect::<Vec<_>>(), inputs);
            assert!(signature.outputs.contains_key(output), "{:?}", signature.outputs.keys());
        }
    }
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let folder = folders("saved_model.pb").into_iter().find(|f| f.ends_with("mlp/model_save")).unwrap();
    let bytes = std::fs::read(folder.join("saved_model.pb")).unwrap();
    let read = |bytes: Vec<u8>| {
        let mut files = modelark_artifact::Memory::new();
        files.insert("saved_model.pb", bytes);
        for name in
            ["variables/variables.index", "variables/variables.data-00000-of-00001", "keras_metadata.pb"]
        {
            files.insert(name, std::fs::read(folder.join(name)).unwrap());
        }
        SavedModelFormat::default().read(&Place::in_memory(files, ""), &Limits::default())
    };
    assert!(read(bytes.clone()).is_ok());
    let mut failed = 0;
    for i in 0..60usize {
        let mut damaged = bytes.clone();
        let at = i.wrapping_mul(2_654_435_761) % damaged.len();
        damaged[at] ^= 1 << (i % 8);
        failed += usize::from(read(damaged).is_err());
        failed += usize::from(read(bytes[..at].to_vec()).is_err());
    }
    assert!(failed > 30, "{failed}");
}
