//! What the examples share: their arguments, and the input and output that they write beside a model.
#![allow(dead_code, reason = "each example uses what it needs of it")]

use std::path::{Path, PathBuf};

use modelark::artifact::Target;
use modelark::{Dialect, Model, Result, Tensor};

/// The folder and the dialect that an example was asked for.
pub struct Arguments {
    /// Where to write.
    pub folder: PathBuf,
    /// `keras2` or `keras3`, the default.
    pub dialect: Dialect,
}

/// Reads `OUT [keras2|keras3]`.
pub fn arguments() -> Result<Arguments> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().unwrap_or_else(|| "out".to_owned()));
    let dialect = args.next().map_or(Ok(Dialect::Keras3), |text| text.parse())?;
    Ok(Arguments { folder, dialect })
}

/// An input of this shape whose values are spread over -1 to 1.
pub fn input(shape: &[usize]) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0).collect();
    Ok(Tensor::from_vec(values, shape)?)
}

/// Runs the model on `x` and writes `x.npy` and `y.npy` into the folder.
pub fn write_example(model: &Model, x: &Tensor, folder: &Path) -> Result<()> {
    let y = model.predict(x)?;
    for (name, tensor) in [("x.npy", x), ("y.npy", y.single()?)] {
        write_npy(tensor, &folder.join(name))?;
    }
    println!("wrote x.npy and y.npy: an input of shape {:?} and what the model gives for it", x.shape());
    Ok(())
}

/// Writes one array as `.npy`.
pub fn write_npy(tensor: &Tensor, path: &Path) -> Result<()> {
    let target = Target::new(path)?;
    modelark::json::npy::write(tensor, &mut target.create(&target.name())?)?;
    target.commit()
}
