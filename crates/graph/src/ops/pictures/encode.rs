//! The ops that encode.

use super::{jpeg, png};
use crate::engine::{Kernel, kernel};
use crate::ops::NodeAttrs;
use crate::ops::args::{int, one, tensors};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// The extents of images `[batch.., height, width, channels]`.
fn extents(images: &Tensor) -> Result<(&[usize], [usize; 2], usize)> {
    match images.shape() {
        [batch @ .., height, width, channels] if !images.is_empty() => Ok((batch, [*height, *width], *channels)),
        other => Err(Error::compute(format!("a picture has height, width and channels, got shape {other:?}"))),
    }
}

/// PNG files of images of `uint8` or `uint16`.
pub(super) fn encode_png(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let level = a.int("compression")?;
    if !(-1..=9).contains(&level) {
        return Err(Error::graph(format!("compression must be in [-1, 9], got {level}")));
    }
    Ok(kernel(move |context, inputs| {
        let [images] = tensors(inputs)?;
        let (batch, size, channels) = extents(&images)?;
        let wide = images.dtype() == DType::U16;
        let samples = match images.dtype() {
            DType::U8 => images.elements::<u8>()?.into_owned(),
            DType::U16 => images.elements::<u16>()?.iter().flat_map(|w| w.to_be_bytes()).collect(),
            other => return Err(Error::unsupported(format!("a PNG of {other}"))),
        };
        let len = size[0] * size[1] * channels * if wide { 2 } else { 1 };
        let file = |image: &[u8]| context.check().and_then(|()| png::encode(image, size, channels, wide, level));
        one(Tensor::from_strings(samples.chunks(len).map(file).collect::<Result<Vec<_>>>()?, batch)?)
    }))
}

fn quality(value: i64) -> Result<u8> {
    u8::try_from(value).ok().filter(|q| *q <= 100).ok_or_else(|| Error::compute(format!("the quality must be in [0, 100], got {value}")))
}

fn file(image: &Tensor, how: &jpeg::Settings) -> Result<Tensor> {
    let ([], size, channels) = extents(image)? else {
        return Err(Error::compute(format!("a picture has three dimensions, got shape {:?}", image.shape())));
    };
    Ok(Tensor::scalar_string(jpeg::encode(&image.elements::<u8>()?, size, channels, how)?))
}

/// A JPEG file of an image.
pub(super) fn encode_jpeg(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    // TensorFlow keeps the lower 16 bits of a density.
    let density = |name: &str| match i32::try_from(a.int(name)?) {
        Ok(n) => Ok(n as u16),
        Err(_) => Err(Error::graph(format!("{name} is out of range"))),
    };
    let how = jpeg::Settings {
        quality: quality(a.int("quality")?)?,
        progressive: a.bool("progressive")?,
        optimized: a.bool("optimize_size")?,
        coarse_colour: a.bool("chroma_downsampling")?,
        inches: match a.str("density_unit")? {
            "in" => true,
            "cm" => false,
            other => return Err(Error::graph(format!("density_unit must be \"in\" or \"cm\", got {other:?}"))),
        },
        density: [density("x_density")?, density("y_density")?],
        xmp: a.str("xmp_metadata")?.into(),
    };
    let channels = match a.str("format")? {
        "" => None,
        "grayscale" => Some(1),
        "rgb" => Some(3),
        other => return Err(Error::graph(format!("there is no format {other:?}"))),
    };
    Ok(kernel(move |_, inputs| {
        let [image] = tensors(inputs)?;
        if channels.is_some_and(|c| image.shape().last() != Some(&c)) {
            return Err(Error::compute(format!("the format doesn't fit shape {:?}", image.shape())));
        }
        one(file(&image, &how)?)
    }))
}

/// A JPEG file of an image, of a quality that is an input.
pub(super) fn encode_jpeg_of_quality(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [image, quality] = tensors(inputs)?;
        let quality = self::quality(int(&quality, "the quality")?)?;
        one(file(&image, &jpeg::Settings { quality, ..jpeg::Settings::default() })?)
    }))
}
