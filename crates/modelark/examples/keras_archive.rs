//! A whole compiled model in a `.keras` archive, as `model.save("model.keras")` writes it.
//!
//! `cargo run -p modelark --example keras_archive -- OUT [keras2|keras3]`

mod common;

use modelark::{Result, Save};

#[path = "common/compiled.rs"]
mod compiled;

fn main() -> Result<()> {
    let args = common::arguments()?;
    let model = compiled::model()?;
    let path = args.folder.join("model.keras");
    model.save_with(&path, &Save::new().dialect(args.dialect))?;
    println!("wrote {} in the dialect {}", path.display(), args.dialect);
    compiled::check(&model, &path, &args.folder)
}
