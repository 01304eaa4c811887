//! What goes through the matrix: fixtures with their sources, and models built in Rust.

use std::path::{Path, PathBuf};

use modelark::artifact::Dialect;
use modelark::nn::{self, Sequential, layers::*};
use modelark::{Model, Save, Tensor};

use crate::fixtures::{self, Case};
use crate::{Outcome, gated};

/// A model with what it gives for some inputs, and the files that hold it.
#[derive(Debug)]
pub struct Subject {
    /// Its name: a fixture's, or `rust/...`.
    pub name: String,
    /// Inputs in the model's order.
    pub inputs: Vec<Tensor>,
    /// What it must give, in the model's order.
    pub outputs: Vec<Tensor>,
    /// The files.
    pub sources: Vec<Source>,
}

/// A file that holds a whole model.
#[derive(Debug, Clone)]
pub struct Source {
    /// What it is called in the table.
    pub label: String,
    /// The file or folder.
    pub path: PathBuf,
    /// Where its weights are, if elsewhere.
    pub weights: Option<PathBuf>,
    /// The dialect that it is written in.
    pub dialect: Dialect,
}

/// Every fixture that is a Keras model.
///
/// # Errors
/// When the fixtures can't be read.
pub fn fixtures() -> Outcome<Vec<Subject>> {
    let cases = fixtures::cases()?;
    cases.iter().filter(|c| c.meta.get("class").is_some()).map(subject).collect()
}

fn subject(case: &Case) -> Outcome<Subject> {
    let dialect = if case.is_keras2() { Dialect::Keras2 } else { Dialect::Keras3 };
    let source = |label: &str, path: &str, weights: Option<&str>| Source {
        label: label.to_owned(),
        path: case.path(path),
        weights: weights.map(|w| case.path(w)),
        dialect,
    };
    let mut sources = Vec::new();
    for file in ["model.h5", "model.keras", "model_save", "saved_model", "export"] {
        if case.has(file) {
            sources.push(source(file, file, None));
        }
    }
    let beside = [
        "weights.npy",
        "weights.pkl",
        "save_weights/model",
        "checkpoint/model-1",
        "model.weights.h5",
        "legacy_weights.h5",
    ];
    for weights in beside {
        if case.has("model.json") && case.has(weights) {
            sources.push(source(&format!("json + {weights}"), "model.json", Some(weights)));
        }
    }
    Ok(Subject { name: case.name.clone(), inputs: case.inputs()?, outputs: case.outputs()?, sources })
}

/// Models that are built here, saved in `folder` in both dialects.
///
/// # Errors
/// When one can't be built, run or saved.
pub fn built(folder: &Path) -> Outcome<Vec<Subject>> {
    let models: Vec<(&str, modelark::Result<nn::Model>, Vec<usize>)> =
        vec![("mlp", mlp(), vec![3, 6]), ("custom", custom(), vec![3, 5]), ("cnn", cnn(), vec![2, 8, 8, 3])];
    models
        .into_iter()
        .map(|(name, model, shape)| {
            let at = |e: modelark::Error| format!("rust/{name}: {e}");
            let model = Model::from_layers(model.map_err(at)?).map_err(at)?;
            let input = ramp(&shape);
            let outputs = model.predict(&input).map_err(at)?.into_tensors();
            let mut sources = Vec::new();
            for (dialect, shown) in [(Dialect::Keras2, "keras2"), (Dialect::Keras3, "keras3")] {
                for extension in ["keras", "h5"] {
                    let path = folder.join(format!("{name}-{shown}.{extension}"));
                    let save = Save::new().dialect(dialect);
                    model.save_with(&path, &save).map_err(at)?;
                    sources.push(Source {
                        label: format!("{shown} .{extension}"),
                        path,
                        weights: None,
                        dialect,
                    });
                }
            }
            Ok(Subject { name: format!("rust/{name}"), inputs: vec![input], outputs, sources })
        })
        .collect()
}

fn mlp() -> modelark::Result<nn::Model> {
    Sequential::new("rust_mlp")
        .seed(1)
        .add(InputLayer::new([6]))
        .add(Dense::new(5).activation("relu"))
        .add(Dropout::new(0.5))
        .add(Dense::new(3).activation("softmax"))
        .build()
}

fn custom() -> modelark::Result<nn::Model> {
    Sequential::new("rust_custom")
        .seed(2)
        .add(InputLayer::new([5]))
        .add(gated::gated_dense(4))
        .add(Dense::new(2))
        .build()
}

fn cnn() -> modelark::Result<nn::Model> {
    Sequential::new("rust_cnn")
        .seed(3)
        .add(InputLayer::new([8, 8, 3]))
        .add(Conv2D::new(4, [3, 3]).activation("relu"))
        .add(BatchNormalization::default())
        .add(MaxPooling2D::new([2, 2]))
        .add(Flatten::default())
        .add(Dense::new(2))
        .build()
}

/// Numbers between -1 and 1 that differ from row to row.
fn ramp(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i * 37 % 101) as f32) / 50.0 - 1.0).collect();
    Tensor::from_vec(values, shape).unwrap_or_else(|_| Tensor::scalar(0.0f32))
}
