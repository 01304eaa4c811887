//! Pictures in files: JPEG, PNG, GIF, BMP and WebP, decoded and encoded.

use super::Op;

#[cfg(feature = "images")]
mod bmp;
#[cfg(feature = "images")]
mod decode;
#[cfg(feature = "images")]
mod encode;
#[cfg(feature = "images")]
mod gif;
#[cfg(feature = "images")]
mod jpeg;
#[cfg(feature = "images")]
mod picture;
#[cfg(feature = "images")]
mod png;
#[cfg(feature = "images")]
mod summary;
#[cfg(feature = "images")]
mod webp;

#[cfg(feature = "images")]
use decode::{decode, jpeg_shape};
#[cfg(feature = "images")]
use encode::{encode_jpeg, encode_jpeg_of_quality, encode_png};
#[cfg(feature = "images")]
use summary::image_summary;

/// Which of the ops that decode.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Decoder {
    Any,
    Bmp,
    CropJpeg,
    Gif,
    Jpeg,
    Png,
    WebP,
}

/// Stands for every kernel of this family where the codecs are left out.
#[cfg(not(feature = "images"))]
mod without {
    use super::Decoder;
    use crate::engine::Kernel;
    use crate::ops::NodeAttrs;
    use crate::{Error, Result};

    fn refuse() -> Result<Box<dyn Kernel>> {
        Err(Error::unsupported("pictures in files, which this build leaves out: its feature \"images\" is off"))
    }

    pub(super) fn decode(_: &NodeAttrs<'_>, _: Decoder) -> Result<Box<dyn Kernel>> {
        refuse()
    }

    pub(super) fn jpeg_shape(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
        refuse()
    }

    pub(super) use {jpeg_shape as encode_jpeg, jpeg_shape as encode_jpeg_of_quality, jpeg_shape as encode_png, jpeg_shape as image_summary};
}
#[cfg(not(feature = "images"))]
use without::{decode, encode_jpeg, encode_jpeg_of_quality, encode_png, image_summary, jpeg_shape};

pub(super) const OPS: &[Op] = &[
    Op::new("DecodeImage(contents: string) -> (image: dtype); channels: int = 0; dtype: type = uint8; expand_animations: bool = true", |a| decode(a, Decoder::Any)),
    Op::new("DecodeBmp(contents: string) -> (image: uint8); channels: int = 0", |a| decode(a, Decoder::Bmp)),
    Op::new("DecodeAndCropJpeg(contents: string, crop_window: int32) -> (image: uint8); channels: int = 0; ratio: int = 1; fancy_upscaling: bool = true; try_recover_truncated: bool = false; acceptable_fraction: float = 1; dct_method: string = \"\"", |a| decode(a, Decoder::CropJpeg)),
    Op::new("DecodeGif(contents: string) -> (image: uint8)", |a| decode(a, Decoder::Gif)),
    Op::new("DecodeJpeg(contents: string) -> (image: uint8); channels: int = 0; ratio: int = 1; fancy_upscaling: bool = true; try_recover_truncated: bool = false; acceptable_fraction: float = 1; dct_method: string = \"\"", |a| decode(a, Decoder::Jpeg)),
    Op::new("DecodePng(contents: string) -> (image: dtype); channels: int = 0; dtype: type = uint8", |a| decode(a, Decoder::Png)),
    Op::new("DecodeWebP(contents: string) -> (image: dtype); channels: int = 0; dtype: type = uint8", |a| decode(a, Decoder::WebP)),
    Op::new("ExtractJpegShape(contents: string) -> (image_shape: output_type); output_type: type = int32", jpeg_shape),
    Op::new("EncodeJpeg(image: uint8) -> (contents: string); format: string = \"\"; quality: int = 95; progressive: bool = false; optimize_size: bool = false; chroma_downsampling: bool = true; density_unit: string = \"in\"; x_density: int = 300; y_density: int = 300; xmp_metadata: string = \"\"", encode_jpeg),
    Op::new("EncodeJpegVariableQuality(images: uint8, quality: int32) -> (contents: string)", encode_jpeg_of_quality),
    Op::new("EncodePng(image: T) -> (contents: string); compression: int = -1; T: type = uint8", encode_png),
    Op::new("ImageSummary(tag: string, tensor: T) -> (summary: string); max_images: int = 3; T: type; bad_color: tensor", image_summary),
];
