//! Images seen through a transformation, and their windows laid out as depth.

use super::args::{extents, map1, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::patches::extract_patches;
use crate::tensor::kernels::resample::scale_and_translate_grad;
use crate::tensor::kernels::warp::{Beyond, Filter, Projection, projective, scale_and_translate};
use crate::tensor::kernels::window::{Padding, Slide};
use crate::tensor::Tensor;
use crate::{Error, Result};

fn two<T: Copy>(values: &[T], what: &str) -> Result<[T; 2]> {
    <[T; 2]>::try_from(values).map_err(|_| Error::compute(format!("{what} must be two numbers, for y and x")))
}

/// `ImageProjectiveTransformV2` and `V3`, which has the value beyond the edge as its last input.
fn transform(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let bilinear = match a.str("interpolation")? {
        "NEAREST" => false,
        "BILINEAR" => true,
        other => return Err(Error::graph(format!("there is no interpolation {other:?}"))),
    };
    let beyond = match a.str("fill_mode")? {
        "CONSTANT" => Beyond::Constant,
        "REFLECT" => Beyond::Reflect,
        "WRAP" => Beyond::Wrap,
        "NEAREST" => Beyond::Nearest,
        other => return Err(Error::graph(format!("there is no fill_mode {other:?}"))),
    };
    Ok(kernel(move |_, mut inputs| {
        let fill = if inputs.len() > 3 { inputs.pop() } else { None };
        let fill = fill.map_or(Ok(0.0), |f| Ok::<_, Error>(f.tensor()?.item::<f32>()?))?;
        let [images, transforms, size] = tensors(inputs)?;
        let size = two(&extents(&size, "the output shape")?, "the output shape")?;
        one(projective(&images, &transforms, &Projection { size, bilinear, beyond, fill })?)
    }))
}

/// Scaling with a filter, or its gradient by the image that is the second input.
fn scale(a: &NodeAttrs<'_>, gradient: bool) -> Result<Box<dyn Kernel>> {
    let name = a.str("kernel_type")?;
    let filter = Filter::of(name).ok_or_else(|| Error::graph(format!("there is no kernel_type {name:?}")))?;
    let antialias = a.bool("antialias")?;
    Ok(kernel(move |_, inputs| {
        let [images, other, scale, shift] = tensors(inputs)?;
        let (scale, shift) = (two(&scale.elements::<f32>()?, "the scale")?, two(&shift.elements::<f32>()?, "the translation")?);
        if gradient {
            let &[_, height, width, _] = other.shape() else {
                return Err(Error::compute(format!("images have rank 4, got shape {:?}", other.shape())));
            };
            return one(scale_and_translate_grad(&images, [height, width], scale, shift, filter, antialias)?);
        }
        let size = two(&extents(&other, "the size")?, "the size")?;
        one(scale_and_translate(&images, size, scale, shift, filter, antialias)?)
    }))
}

/// The spatial part of a list attribute of a window: of all but its first and last value, which must be 1.
fn spatial(a: &NodeAttrs<'_>, name: &str) -> Result<Vec<usize>> {
    let values = a.ints(name)?;
    let inner: Option<Vec<usize>> = match &values[..] {
        [1, inner @ .., 1] => inner.iter().map(|v| usize::try_from(*v).ok().filter(|v| *v > 0)).collect(),
        _ => None,
    };
    inner.ok_or_else(|| Error::graph(format!("attribute {name:?} must be positive, with 1 first and last: {values:?}")))
}

fn patches(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let window = spatial(a, "ksizes")?;
    let padding = match a.str("padding")? {
        "VALID" => Padding::Valid,
        "SAME" => Padding::Same,
        other => return Err(Error::graph(format!("there is no padding {other:?}"))),
    };
    let mut slide = Slide::new(spatial(a, "strides")?, padding);
    if a.get("rates").is_some() {
        slide = slide.dilated(spatial(a, "rates")?);
    }
    map1(move |x: Tensor| extract_patches(&x, &window, &slide))
}

pub(super) const OPS: &[Op] = &[
    Op::new("ImageProjectiveTransformV2(images: dtype, transforms: float32, output_shape: int32) -> (transformed_images: dtype); dtype: type; interpolation: string; fill_mode: string = \"CONSTANT\"", transform),
    Op::new("ImageProjectiveTransformV3(images: dtype, transforms: float32, output_shape: int32, fill_value: float32) -> (transformed_images: dtype); dtype: type; interpolation: string; fill_mode: string = \"CONSTANT\"", transform),
    Op::new("ScaleAndTranslate(images: T, size: int32, scale: float32, translation: float32) -> (resized_images: float32); T: type; kernel_type: string = \"lanczos3\"; antialias: bool = true", |a| scale(a, false)),
    Op::new("ScaleAndTranslateGrad(grads: T, original_image: T, scale: float32, translation: float32) -> (output: T); T: type; kernel_type: string = \"lanczos3\"; antialias: bool = true", |a| scale(a, true)),
    Op::new("ExtractImagePatches(images: T) -> (patches: T); ksizes: list(int); strides: list(int); rates: list(int); T: type; padding: string", patches),
    Op::new("ExtractVolumePatches(input: T) -> (patches: T); ksizes: list(int); strides: list(int); T: type; padding: string", patches),
];
