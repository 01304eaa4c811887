//! Models frozen to one graph: what the graph gives is what the model gives.

use std::path::{Path, PathBuf};

use modelark::{DType, Model, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Some input that the model's function takes.
fn inputs(model: &Model) -> Vec<Tensor> {
    let function = model.default_function().expect("a function");
    let one = |port: &modelark::Port| {
        let shape: Vec<usize> =
            port.shape.dims().unwrap_or_default().iter().map(|d| d.unwrap_or(2)).collect();
        let n = shape.iter().product::<usize>();
        let values = Tensor::from_vec((0..n).map(|i| (i as f32 * 0.7).sin()).collect(), shape);
        modelark::tensor::kernels::array::cast(&values.expect("tensor"), port.dtype).expect("numbers")
    };
    function.inputs().iter().map(one).collect()
}

/// All numbers that the model's function gives, its results in the order of their names.
fn run(model: &Model, inputs: &[Tensor]) -> Vec<f32> {
    let outputs = model.default_function().and_then(|f| f.call_named(inputs.to_vec())).expect("runs");
    let mut named: Vec<(&str, &Tensor)> = outputs.iter().collect();
    named.sort_by_key(|(name, _)| *name);
    assert!(named.iter().all(|(_, t)| t.dtype() == DType::F32));
    named.iter().flat_map(|(_, t)| t.elements::<f32>().expect("floats").to_vec()).collect()
}

#[test]
fn a_frozen_graph_gives_what_the_model_gives() {
    let folder = tempfile::tempdir().expect("folder");
    for name in ["tf215/lstm/export", "tf215/lstm/model.keras", "tf215/conv/export", "tf221/mlp/export"] {
        let model = modelark::load(fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let given = inputs(&model);
        let want = run(&model, &given);
        for file in ["m.pb", "m.pbtxt"] {
            let path = folder.path().join(file);
            let report = modelark::convert(fixture(name), &path).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(report.notes.iter().any(|n| n.to_string().contains("fetch")), "{:?}", report.notes);
            let frozen = modelark::load(&path).unwrap_or_else(|e| panic!("{name} as {file}: {e}"));
            assert_eq!(frozen.variables().count(), 0);
            let got = run(&frozen, &given);
            let near = want.iter().zip(&got).all(|(w, g)| (w - g).abs() < 1e-5);
            assert!(near && got.len() == want.len(), "{name} as {file}: {got:?}, not {want:?}");
        }
    }
}
