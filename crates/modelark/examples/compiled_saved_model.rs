//! A compiled model in a SavedModel: its functions run anywhere, and Keras 2's `load_model` rebuilds the model itself.
//!
//! `cargo run -p modelark --example compiled_saved_model -- OUT [keras2|keras3]`

mod common;

use modelark::{Dialect, Result, Save};

#[path = "common/compiled.rs"]
mod compiled;

fn main() -> Result<()> {
    let args = common::arguments()?;
    let model = compiled::model()?;
    let path = args.folder.join("saved_model");
    model.save_with(&path, &Save::new().format("saved_model").dialect(args.dialect))?;
    println!("wrote {} in the dialect {}", path.display(), args.dialect);
    if args.dialect == Dialect::Keras2 {
        println!("keras_metadata.pb beside it lets tf_keras.models.load_model rebuild the compiled model");
    }
    compiled::check(&model, &path, &args.folder)
}
