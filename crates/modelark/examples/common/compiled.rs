//! The compiled model that several examples save.

use std::path::Path;

use modelark::artifact::{Training, Variable};
use modelark::nn::Sequential;
use modelark::nn::layers::{BatchNormalization, Dense, Dropout, InputLayer};
use modelark::nn::training::Adam;
use modelark::{DType, Model, Result, Tensor};

use crate::common;

/// A small classifier, compiled with Adam, whose state is that of some steps of training.
pub fn model() -> Result<Model> {
    let mut layers = Sequential::new("classifier")
        .add(InputLayer::new([12]))
        .add(Dense::new(16).activation("relu"))
        .add(BatchNormalization::default())
        .add(Dropout::new(0.25))
        .add(Dense::new(5).activation("softmax"))
        .seed(3)
        .build()?;
    layers.compile(Adam::new(0.002), "categorical_crossentropy", &["categorical_accuracy"])?;
    let training = layers.training().cloned().map(trained).transpose()?;
    layers.set_training(training);
    Model::from_layers(layers)
}

/// Adam's state as if it had taken seven steps: the count of them first, then moments of some size.
fn trained(mut training: Training) -> Result<Training> {
    for state in training.optimizer.iter_mut().flat_map(|o| &mut o.variables) {
        let Variable { name, dtype, shape, .. } = state.variable.clone();
        let value = match dtype {
            DType::I64 => Tensor::scalar(7i64),
            // The learning rate keeps the value that it was compiled with.
            _ if shape.is_empty() => continue,
            _ => Tensor::full(0.001f32, &shape)?,
        };
        state.variable = Variable::new(name, value).trainable(false);
    }
    Ok(training)
}

/// Writes an input and the output, and compares what the saved model gives.
pub fn check(model: &Model, saved: &Path, folder: &Path) -> Result<()> {
    let x = common::input(&[4, 12])?;
    common::write_example(model, &x, folder)?;
    let loaded = modelark::load(saved)?;
    let same = model.predict(&x)?.single()?.bit_eq(loaded.predict(&x)?.single()?);
    println!("loaded again: {}", if same { "the same output" } else { "ANOTHER output" });
    Ok(())
}
