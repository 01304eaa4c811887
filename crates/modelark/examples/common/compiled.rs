//! The compiled model that several examples save.

use std::path::Path;

use modelark::nn::layers::{BatchNormalization, Dense, Dropout, InputLayer};
use modelark::nn::training::{Adam, Compile};
use modelark::nn::Sequential;
use modelark::{Model, Result};

use crate::common;

/// A small classifier, compiled with Adam.
pub fn model() -> Result<Model> {
    let mut layers = Sequential::new("classifier")
        .add(InputLayer::new([12]))
        .add(Dense::new(16).activation("relu"))
        .add(BatchNormalization::default())
        .add(Dropout::new(0.25))
        .add(Dense::new(5).activation("softmax"))
        .seed(3)
        .build()?;
    layers.compile(Compile::new(Adam::new(0.002)).loss("categorical_crossentropy").metric("categorical_accuracy"))?;
    Model::from_layers(layers)
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
