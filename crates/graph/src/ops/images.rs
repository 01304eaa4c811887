//! Resizing and cropping images.

use super::args::{extents, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::image::{self, Method, Sampling};
use crate::tensor::kernels::resample::{self, Resized};
use crate::tensor::{self, Tensor};
use crate::{Error, Result};

type Resize = fn(&Tensor, [usize; 2], Sampling) -> tensor::Result<Tensor>;

/// A height and a width.
pub(super) fn size(t: &Tensor) -> Result<[usize; 2]> {
    extents(t, "the size")?.try_into().map_err(|_| Error::compute("a size is a height and a width"))
}

/// How the attributes of the resizing ops place pixels.
pub(super) fn sampling(a: &NodeAttrs<'_>) -> Result<Sampling> {
    Ok(match (a.bool("align_corners")?, a.bool("half_pixel_centers")?) {
        (false, false) => Sampling::Corner,
        (true, false) => Sampling::AlignCorners,
        (false, true) => Sampling::HalfPixel,
        (true, true) => {
            return Err(Error::graph("half_pixel_centers and align_corners exclude each other"));
        }
    })
}

fn resize(a: &NodeAttrs<'_>, f: Resize) -> Result<Box<dyn Kernel>> {
    let sampling = sampling(a)?;
    Ok(kernel(move |_, inputs| {
        let [images, to] = tensors(inputs)?;
        one(f(&images, size(&to)?, sampling)?)
    }))
}

/// The gradient of a resizing by its image; the second input is that image, or its size.
fn resize_grad(a: &NodeAttrs<'_>, how: Resized) -> Result<Box<dyn Kernel>> {
    let sampling = sampling(a)?;
    Ok(kernel(move |_, inputs| {
        let [grad, image] = tensors(inputs)?;
        let (to, dtype) = match (how, image.shape()) {
            (Resized::Nearest, _) => (size(&image)?, grad.dtype()),
            (_, &[_, height, width, _]) => ([height, width], image.dtype()),
            (_, other) => return Err(Error::compute(format!("images have rank 4, got shape {other:?}"))),
        };
        one(resample::resize_grad(&grad, to, how, sampling, dtype)?)
    }))
}

fn method(a: &NodeAttrs<'_>) -> Result<Method> {
    Ok(match a.str("method")? {
        "bilinear" => Method::Bilinear,
        "nearest" => Method::Nearest,
        other => return Err(Error::graph(format!("there is no method {other:?}"))),
    })
}

fn crop_grad_image(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (method, dtype) = (method(a)?, a.dtype("T")?);
    Ok(kernel(move |_, inputs| {
        let [grads, boxes, indices, shape] = tensors(inputs)?;
        let shape = extents(&shape, "the image's size")?;
        let shape = shape.try_into().map_err(|_| Error::compute("an image's size has four extents"))?;
        one(resample::crop_grad_image(&grads, &boxes, &indices, shape, method, dtype)?)
    }))
}

fn crop_grad_boxes(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    if method(a)? != Method::Bilinear {
        return Err(Error::graph("only linear interpolation has a gradient by its boxes"));
    }
    Ok(kernel(|_, inputs| {
        let [grads, images, boxes, indices] = tensors(inputs)?;
        one(resample::crop_grad_boxes(&grads, &images, &boxes, &indices)?)
    }))
}

fn crop_and_resize(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let method = method(a)?;
    let extrapolation = a.float("extrapolation_value")?;
    Ok(kernel(move |_, inputs| {
        let [images, boxes, indices, to] = tensors(inputs)?;
        one(image::crop_and_resize(&images, &boxes, &indices, size(&to)?, method, extrapolation)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("ResizeBilinear(images: T, size: int32) -> (resized_images: float32); T: type; align_corners: bool = false; half_pixel_centers: bool = false", |a| resize(a, image::resize_bilinear)),
    Op::new("ResizeNearestNeighbor(images: T, size: int32) -> (resized_images: T); T: type; align_corners: bool = false; half_pixel_centers: bool = false", |a| resize(a, image::resize_nearest)),
    Op::new("ResizeBicubic(images: T, size: int32) -> (resized_images: float32); T: type; align_corners: bool = false; half_pixel_centers: bool = false", |a| resize(a, image::resize_bicubic)),
    Op::new("ResizeArea(images: T, size: int32) -> (resized_images: float32); T: type; align_corners: bool = false", |a| {
        let align_corners = a.bool("align_corners")?;
        Ok(kernel(move |_, inputs| {
            let [images, to] = tensors(inputs)?;
            one(image::resize_area(&images, size(&to)?, align_corners)?)
        }))
    }),
    Op::new("CropAndResize(image: T, boxes: float32, box_ind: int32, crop_size: int32) -> (crops: float32); T: type; method: string = \"bilinear\"; extrapolation_value: float = 0", crop_and_resize),
    Op::new("ResizeBilinearGrad(grads: float32, original_image: T) -> (output: T); T: type; align_corners: bool = false; half_pixel_centers: bool = false", |a| resize_grad(a, Resized::Bilinear)),
    Op::new("ResizeBicubicGrad(grads: float32, original_image: T) -> (output: T); T: type; align_corners: bool = false; half_pixel_centers: bool = false", |a| resize_grad(a, Resized::Bicubic)),
    Op::new("ResizeNearestNeighborGrad(grads: T, size: int32) -> (output: T); T: type; align_corners: bool = false; half_pixel_centers: bool = false", |a| resize_grad(a, Resized::Nearest)),
    Op::new("CropAndResizeGradImage(grads: float32, boxes: float32, box_ind: int32, image_size: int32) -> (output: T); T: type; method: string = \"bilinear\"", crop_grad_image),
    Op::new("CropAndResizeGradBoxes(grads: float32, image: T, boxes: float32, box_ind: int32) -> (output: float32); T: type; method: string = \"bilinear\"", crop_grad_boxes),
];
