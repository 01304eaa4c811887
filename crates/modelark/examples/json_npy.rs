//! The architecture as JSON and the weights as `.npy` and `.npz`.
//!
//! `cargo run -p modelark --example json_npy -- OUT [keras2|keras3]`

mod common;

use modelark::nn::Sequential;
use modelark::nn::layers::{Conv2D, Dense, Flatten, InputLayer, MaxPooling2D};
use modelark::{Load, Model, Result, Save};

fn main() -> Result<()> {
    let args = common::arguments()?;
    let layers = Sequential::new("digits")
        .add(InputLayer::new([8, 8, 1]))
        .add(Conv2D::new(4, [3, 3]).activation("relu"))
        .add(MaxPooling2D::new([2, 2]))
        .add(Flatten::default())
        .add(Dense::new(10).activation("softmax"))
        .seed(5)
        .build()?;
    let model = Model::from_layers(layers)?;

    let save = Save::new().dialect(args.dialect);
    let json = args.folder.join("model.json");
    model.save_with(&json, &save)?;
    let weights = [args.folder.join("weights.npy"), args.folder.join("weights.npz")];
    for path in &weights {
        model.save_with(path, &save)?;
    }
    println!("wrote {}, weights.npy and weights.npz in the dialect {}", json.display(), args.dialect);

    let x = common::input(&[3, 8, 8, 1])?;
    common::write_example(&model, &x, &args.folder)?;
    for path in &weights {
        let loaded = Load::new().weights(path).path(&json)?;
        let same = model.predict(&x)?.single()?.bit_eq(loaded.predict(&x)?.single()?);
        println!("{}: {}", path.display(), if same { "the same output" } else { "ANOTHER output" });
    }
    Ok(())
}
