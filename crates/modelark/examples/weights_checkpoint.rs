//! Weights alone: a checkpoint for Keras 2's `load_weights`, one for `tf.train.Checkpoint.restore`, and `.weights.h5`.
//!
//! `cargo run -p modelark --example weights_checkpoint -- OUT [keras2|keras3]`

mod common;

use modelark::nn::layers::{Dense, InputLayer};
use modelark::nn::{Instance, Sequential};
use modelark::{Load, Model, Result, Save};

fn layers(seed: u64) -> Result<modelark::nn::Model> {
    Sequential::new("mlp")
        .add(InputLayer::new([8]))
        .add(Instance::from(Dense::new(6).activation("relu")).named("hidden"))
        .add(Instance::from(Dense::new(4)).named("scores"))
        .seed(seed)
        .build()
}

fn main() -> Result<()> {
    let args = common::arguments()?;
    let model = Model::from_layers(layers(11)?)?;
    let save = Save::new().dialect(args.dialect);

    // Keras: model.load_weights("ckpt/model").assert_consumed()
    let keras = args.folder.join("ckpt/model");
    model.save_with(&keras, &save.clone().format("checkpoint"))?;
    // TensorFlow: tf.train.Checkpoint(model=model).restore("restore/model").assert_consumed()
    let restore = args.folder.join("restore/model");
    model.save_with(&restore, &save.clone().format("checkpoint").save_counter())?;
    let h5 = args.folder.join("model.weights.h5");
    model.save_with(&h5, &save)?;
    // The architecture, for whoever wants to build the same model.
    let json = args.folder.join("model.json");
    model.save_with(&json, &save)?;
    println!("wrote {}, {}, {} and {}", keras.display(), restore.display(), h5.display(), json.display());

    let x = common::input(&[5, 8])?;
    common::write_example(&model, &x, &args.folder)?;
    let expected = model.predict(&x)?;
    for weights in [&keras, &restore, &h5] {
        let loaded = Load::new().weights(weights).path(&json)?;
        let same = expected.single()?.bit_eq(loaded.predict(&x)?.single()?);
        println!("{}: {}", weights.display(), if same { "the same output" } else { "ANOTHER output" });
    }
    Ok(())
}
