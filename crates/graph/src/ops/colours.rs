//! Colours of images.

use super::Op;
use super::args::{one, tensors, unary};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::{array, colour, elementwise as e};
use crate::tensor::{self, Tensor};
use crate::Result;

/// A kernel that changes images by one number.
fn adjust(f: fn(Tensor, f32) -> tensor::Result<Tensor>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [images, by] = tensors(inputs)?;
        one(f(images, by.item::<f32>()?)?)
    }))
}

fn contrast(images: Tensor, factor: f32) -> tensor::Result<Tensor> {
    array::cast(&colour::adjust_contrast(&images, factor)?, images.dtype())
}

/// The first version, whose results are floats between two bounds.
fn bounded_contrast() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [images, factor, least, greatest] = tensors(inputs)?;
        let images = colour::adjust_contrast(&images, factor.item::<f32>()?)?;
        one(e::minimum(e::maximum(images, least)?, greatest)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("RGBToHSV(images: T) -> (output: T); T: type = float32", |_| unary(colour::rgb_to_hsv)),
    Op::new("HSVToRGB(images: T) -> (output: T); T: type = float32", |_| unary(colour::hsv_to_rgb)),
    Op::new("AdjustHue(images: T, delta: float32) -> (output: T); T: type = float32", |_| adjust(colour::adjust_hue)).ranks("3+ 0"),
    Op::new("AdjustSaturation(images: T, scale: float32) -> (output: T); T: type = float32", |_| adjust(colour::adjust_saturation)).ranks("3+ 0"),
    Op::new("AdjustContrastv2(images: T, contrast_factor: float32) -> (output: T); T: type = float32", |_| adjust(contrast)),
    Op::new("AdjustContrast(images: T, contrast_factor: float32, min_value: float32, max_value: float32) -> (output: float32); T: type", |_| bounded_contrast()),
];
