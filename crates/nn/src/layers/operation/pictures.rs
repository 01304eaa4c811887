//! Ops on images.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::reductions::rank;
use super::table::Form::One;
use super::table::{Row, row};
use crate::{Interpolation, Spec};

/// Whether the op says that channels come before rows and columns.
pub(super) fn has_channels_first(args: &Args<'_, '_>) -> bool {
    args.text("data_format").is_some_and(|f| f == "channels_first")
}

/// Does something with a batch of images, their channels last, whatever images the op was given.
pub(super) fn batched(
    args: &mut Args<'_, '_>,
    x: Sym,
    body: impl FnOnce(&mut Args<'_, '_>, Sym) -> Result<Sym>,
) -> Result<Sym> {
    let rank = rank(args, "images", x)?;
    if !(3..=4).contains(&rank) {
        return Err(Error::mismatch(format!("images of {rank} dimensions")));
    }
    let (first, mut images, mut dims) = (has_channels_first(args), x, args.call.spec(x).dims()?.to_vec());
    if first {
        let order: &[usize] = if rank == 3 { &[1, 2, 0] } else { &[0, 2, 3, 1] };
        images = args.call.transpose(images, order)?;
        dims = order.iter().filter_map(|&a| dims.get(a).copied()).collect();
    }
    if rank == 3 {
        let zero = args.call.int(0)?;
        images = args.call.apply("ExpandDims", &[images, zero])?;
        dims.insert(0, Some(1));
    }
    let spec = Spec::new(dims, args.call.dtype(images));
    args.call.describe(images, spec);
    let mut y = body(args, images)?;
    if rank == 3 {
        y = args.call.op("Squeeze").input(y).attr("squeeze_dims", vec![0i64]).one()?;
    }
    if first {
        let order: &[usize] = if rank == 3 { &[2, 0, 1] } else { &[0, 3, 1, 2] };
        y = args.call.transpose(y, order)?;
    }
    Ok(y)
}

fn resize(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("images")?;
    for option in ["crop_to_aspect_ratio", "pad_to_aspect_ratio", "preserve_aspect_ratio"] {
        if args.flag(option) {
            return Err(Error::unsupported(format!("{option} in an op; the layer Resizing has it")));
        }
    }
    let size = args.shape("size")?;
    let way = args.text("interpolation").unwrap_or_else(|| "bilinear".to_owned());
    let antialias = args.flag("antialias");
    batched(args, x, |args, images| {
        let y = Interpolation::named(&way).resize(args.call, images, size, antialias)?;
        if args.keras2 { Ok(y) } else { args.call.cast(y, args.call.dtype(x)) }
    })
}

/// Resizing as TensorFlow 1 has it: corners, not centers, of pixels.
fn resize_old(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let (x, size) = (args.tensor("images")?, args.shape("size")?);
    let (corners, centers) = (args.flag("align_corners"), args.flag("half_pixel_centers"));
    let resize = args.call.op(op).inputs(&[x, size]);
    Ok(resize.attr("align_corners", corners).attr("half_pixel_centers", centers).one()?)
}

fn grayscale(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("images")?;
    let first = args.text("data_format").is_some_and(|f| f == "channels_first");
    let axis = if first { -3 } else { -1 };
    let wide = if args.call.dtype(x).is_float() { x } else { args.call.cast(x, DType::F32)? };
    let shape: &[usize] = if first { &[3, 1, 1] } else { &[3] };
    let weights = args.call.constant(crate::config::numbers(&[0.2989, 0.5870, 0.1140], shape, args.call.dtype(wide))?)?;
    let y = args.call.apply("Mul", &[wide, weights])?;
    let y = args.call.reduce("Sum", y, &[axis], true)?;
    args.call.cast(y, args.call.dtype(x))
}

fn flip(args: &mut Args<'_, '_>, axis: i64) -> Result<Sym> {
    let x = args.tensor("images")?;
    let axes = args.call.ints(&[axis])?;
    args.call.apply("ReverseV2", &[x, axes])
}

fn patches(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("images")?;
    let four = |v: Vec<i64>| match v[..] {
        [one] => vec![1, one, one, 1],
        [a, b] => vec![1, a, b, 1],
        _ => v,
    };
    let size = args.ints("size")?.ok_or_else(|| Error::missing("the op has no size"))?;
    let strides = args.ints("strides")?.unwrap_or_else(|| size.clone());
    let rates = args.ints("dilation_rate")?.unwrap_or_else(|| vec![1]);
    let padding = args.text("padding").unwrap_or_else(|| "valid".to_owned()).to_ascii_uppercase();
    let op = args.call.op("ExtractImagePatches").input(x).attr("ksizes", four(size));
    Ok(op.attr("strides", four(strides)).attr("rates", four(rates)).attr("padding", padding).one()?)
}

fn convert(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let x = args.tensor("images")?;
    args.call.apply(op, &[x])
}

pub(super) const ROWS: &[Row] = &[
    row("image.Resize(images; size interpolation antialias crop_to_aspect_ratio pad_to_aspect_ratio fill_mode fill_value data_format) = image.resize(images size method:interpolation preserve_aspect_ratio antialias)", One(resize)),
    row("= compat.v1.image.resize_bilinear(images size align_corners half_pixel_centers)", One(|a| resize_old(a, "ResizeBilinear"))),
    row("= compat.v1.image.resize_nearest_neighbor(images size align_corners half_pixel_centers)", One(|a| resize_old(a, "ResizeNearestNeighbor"))),
    row("image.RGBToGrayscale(images; data_format) = image.rgb_to_grayscale(images)", One(grayscale)),
    row("image.RGBToHSV(images; data_format) = image.rgb_to_hsv(images)", One(|a| convert(a, "RGBToHSV"))),
    row("image.HSVToRGB(images; data_format) = image.hsv_to_rgb(images)", One(|a| convert(a, "HSVToRGB"))),
    row("image.ExtractPatches(images; size strides dilation_rate padding data_format) = image.extract_patches(images sizes:size strides rates:dilation_rate padding)", One(patches)),
    row("= image.flip_left_right(image:images)", One(|a| flip(a, -2))),
    row("= image.flip_up_down(image:images)", One(|a| flip(a, -3))),
];
