//! Resizing and cropping images.

use super::args::{extents, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::image::{self, Method, Sampling};
use crate::tensor::{self, Tensor};
use crate::{Error, Result};

type Resize = fn(&Tensor, [usize; 2], Sampling) -> tensor::Result<Tensor>;

fn size(t: &Tensor) -> Result<[usize; 2]> {
    extents(t, "the size")?.try_into().map_err(|_| Error::compute("a size is a height and a width"))
}

fn resize(a: &NodeAttrs<'_>, f: Resize) -> Result<Box<dyn Kernel>> {
    let sampling = match (a.bool("align_corners")?, a.bool("half_pixel_centers")?) {
        (false, false) => Sampling::Corner,
        (true, false) => Sampling::AlignCorners,
        (false, true) => Sampling::HalfPixel,
        (true, true) => {
            return Err(Error::graph("half_pixel_centers and align_corners exclude each other"));
        }
    };
    Ok(kernel(move |_, inputs| {
        let [images, to] = tensors(inputs)?;
        one(f(&images, size(&to)?, sampling)?)
    }))
}

fn crop_and_resize(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let method = match a.str("method")? {
        "bilinear" => Method::Bilinear,
        "nearest" => Method::Nearest,
        other => return Err(Error::graph(format!("there is no method {other:?}"))),
    };
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
];
