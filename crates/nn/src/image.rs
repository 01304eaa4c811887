//! What layers over images share: resizing, in each of TensorFlow's ways.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{Error, Result};
use serde_json::{Value, json};

use crate::Call;
use crate::config::{ConfigValue, Reader, Writer, expected};

/// How values between pixels are found (TensorFlow: `tf.image.ResizeMethod`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpolation(String);

impl Default for Interpolation {
    fn default() -> Self {
        Interpolation::named("bilinear")
    }
}

impl Interpolation {
    /// The way of this name, such as `bilinear` or `nearest`.
    pub fn named(name: &str) -> Self {
        Interpolation(name.to_owned())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The images, `[batch, height, width, channels]`, in another size, an `int32` vector of two (`tf.image.resize`).
    pub(crate) fn resize(&self, call: &mut Call<'_>, images: Sym, size: Sym, antialias: bool) -> Result<Sym> {
        let op = match (self.0.to_ascii_lowercase().as_str(), antialias) {
            // Antialiasing changes nothing for these two.
            ("nearest", _) => "ResizeNearestNeighbor",
            ("area", _) => {
                return Ok(call.op("ResizeArea").inputs(&[images, size]).one()?);
            }
            ("bilinear", false) => "ResizeBilinear",
            ("bicubic", false) => "ResizeBicubic",
            ("bilinear", true) => return scaled(call, images, size, "triangle", true),
            ("bicubic", true) => return scaled(call, images, size, "keyscubic", true),
            ("lanczos3", _) => return scaled(call, images, size, "lanczos3", antialias),
            ("lanczos5", _) => return scaled(call, images, size, "lanczos5", antialias),
            ("gaussian", _) => return scaled(call, images, size, "gaussian", antialias),
            ("mitchellcubic", _) => return scaled(call, images, size, "mitchellcubic", antialias),
            (other, _) => return Err(Error::unsupported(format!("there is no interpolation {other:?}"))),
        };
        Ok(call.op(op).inputs(&[images, size]).attr("half_pixel_centers", true).one()?)
    }
}

/// By a kernel of its own.
fn scaled(call: &mut Call<'_>, images: Sym, size: Sym, kernel: &str, antialias: bool) -> Result<Sym> {
    let shape = call.apply("Shape", &[images])?;
    let old = call.slice(shape, &[(Some(1), Some(3), 1)])?;
    let (old, new) = (call.cast(old, DType::F32)?, call.cast(size, DType::F32)?);
    let scale = call.apply("RealDiv", &[new, old])?;
    let translation = call.constant(Tensor::zeros(DType::F32, [2])?)?;
    let op = call.op("ScaleAndTranslate").inputs(&[images, size, scale, translation]);
    Ok(op.attr("kernel_type", kernel).attr("antialias", antialias).one()?)
}

impl ConfigValue for Interpolation {
    fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
        value.as_str().map(Interpolation::named).ok_or_else(|| expected("an interpolation's name", value))
    }

    fn write(&self, _: &mut Writer) -> Value {
        json!(self.0)
    }
}
