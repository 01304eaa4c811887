//! A whole compiled model in one `.h5`, as `model.save("model.h5")` writes it.
//!
//! `cargo run -p modelark --example hdf5_model -- OUT [keras2|keras3]`

mod common;

use modelark::{Result, Save};

#[path = "common/compiled.rs"]
mod compiled;

fn main() -> Result<()> {
    let args = common::arguments()?;
    let model = compiled::model()?;
    let path = args.folder.join("model.h5");
    model.save_with(&path, &Save::new().dialect(args.dialect))?;
    println!("wrote {} in the dialect {}", path.display(), args.dialect);
    compiled::check(&model, &path, &args.folder)
}
