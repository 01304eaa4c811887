//! Ops that filter images, compare them by filters, and cut or pad them.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::pictures::{batched, has_channels_first};
use super::reductions::rank;
use super::table::Form::One;
use super::table::{Row, row};
use crate::config::numbers;

/// Weights of a bell of this width over so many pixels.
fn bell(size: usize, sigma: f64) -> Vec<f64> {
    let middle = (size as f64 - 1.0) / 2.0;
    let heights: Vec<f64> = (0..size).map(|i| (-0.5 * ((i as f64 - middle) / sigma).powi(2)).exp()).collect();
    let sum: f64 = heights.iter().sum();
    heights.into_iter().map(|h| h / sum).collect()
}

/// A size of a filter that is no mistake.
fn checked(size: i64) -> Result<usize> {
    const MOST: i64 = 1 << 10;
    usize::try_from(size)
        .ok()
        .filter(|s| (1..=MOST).contains(&(*s as i64)))
        .ok_or_else(|| Error::invalid(format!("a filter of {size} pixels")))
}

fn blurred(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("images")?;
    let twice = |v: Vec<i64>| if let [one] = v[..] { vec![one, one] } else { v };
    let sizes = twice(args.ints("kernel_size")?.unwrap_or_else(|| vec![3, 3]));
    let widths: Vec<f64> = match args.value("sigma") {
        Some(serde_json::Value::Array(items)) => items.iter().filter_map(serde_json::Value::as_f64).collect(),
        Some(one) => one.as_f64().map_or(Vec::new(), |s| vec![s, s]),
        None => vec![1.0, 1.0],
    };
    let (&[a, b], &[s, t]) = (&sizes[..], &widths[..]) else {
        return Err(Error::invalid("a blur has two sizes and two widths"));
    };
    let (a, b) = (checked(a)?, checked(b)?);
    let (first, second) = (bell(a, s), bell(b, t));
    // The second direction is the outer one, whatever the kernel's shape says.
    let kernel: Vec<f64> = second.iter().flat_map(|v| first.iter().map(move |u| u * v)).collect();
    batched(args, x, |args, x| {
        let channels = args.call.spec(x).known(-1)?;
        let each: Vec<f64> = kernel.iter().flat_map(|k| std::iter::repeat_n(*k, channels)).collect();
        let kernel = args.call.constant(numbers(&each, &[a, b, channels, 1], args.call.dtype(x))?)?;
        let conv = args.call.op("DepthwiseConv2dNative").inputs(&[x, kernel]).attr("strides", vec![1i64; 4]);
        Ok(conv.attr("padding", "SAME").one()?)
    })
}

/// How fast each channel changes downwards and to the right (TensorFlow: `tf.image.sobel_edges`).
fn edges(args: &mut Args<'_, '_>) -> Result<Sym> {
    const DOWN: [f64; 9] = [-1.0, -2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 1.0];
    const RIGHT: [f64; 9] = [-1.0, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0];
    let mut x = args.float_tensor("images")?;
    let channels = args.call.spec(x).known(if has_channels_first(args) { 1 } else { -1 })?;
    if has_channels_first(args) {
        x = args.call.transpose(x, &[0, 2, 3, 1])?;
    }
    let both = || DOWN.iter().zip(RIGHT);
    let each: Vec<f64> = both().flat_map(|(d, r)| (0..channels).flat_map(move |_| [*d, r])).collect();
    let kernel = args.call.constant(numbers(&each, &[3, 3, channels, 2], args.call.dtype(x))?)?;
    let shape = args.call.apply("Shape", &[x])?;
    let around = args.call.ints(&[0, 0, 1, 1, 1, 1, 0, 0])?;
    let around = args.call.reshape(around, &[4, 2])?;
    let padded = args.call.op("MirrorPad").inputs(&[x, around]).attr("mode", "REFLECT").one()?;
    let conv = args.call.op("DepthwiseConv2dNative").inputs(&[padded, kernel]).attr("strides", vec![1i64; 4]);
    let y = conv.attr("padding", "VALID").one()?;
    let two = args.call.ints(&[2])?;
    let shape = args.call.concat(&[shape, two], 0)?;
    let y = args.call.apply("Reshape", &[y, shape])?;
    if has_channels_first(args) { args.call.transpose(y, &[0, 3, 1, 2, 4]) } else { Ok(y) }
}

/// How alike two images are in each neighbourhood, on average (Keras: `ssim`).
fn similarity(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [x, y] = args.pair("image1", "image2")?;
    let own = args.call.dtype(x);
    let given = rank(args, "image1", x)?;
    let option = |name: &str, default: f64| args.float(name).unwrap_or(default);
    let (most, width) = (option("max_val", 1.0), option("filter_sigma", 1.5));
    let (c1, c2) = ((option("k1", 0.01) * most).powi(2), (option("k2", 0.03) * most).powi(2));
    let size = checked(args.int("filter_size").unwrap_or(11))?;
    let line = bell(size, width);
    let plane: Vec<f64> = line.iter().flat_map(|v| line.iter().map(move |u| u * v)).collect();
    let first = has_channels_first(args);
    // Each channel as an image of its own.
    let mut planes = Vec::with_capacity(2);
    for x in [x, y] {
        let mut x = if own.is_float() { x } else { args.call.cast(x, DType::F32)? };
        if given == 3 {
            let zero = args.call.int(0)?;
            x = args.call.apply("ExpandDims", &[x, zero])?;
        }
        planes.push(if first { x } else { args.call.transpose(x, &[0, 3, 1, 2])? });
    }
    let shape = args.call.apply("Shape", &[planes[0]])?;
    let batch = args.call.slice(shape, &[(None, Some(2), 1)])?;
    let extents = args.call.slice(shape, &[(Some(2), None, 1)])?;
    let (all, one) = (args.call.ints(&[-1])?, args.call.ints(&[1])?);
    let each = args.call.concat(&[all, extents, one], 0)?;
    let (x, y) = (args.call.apply("Reshape", &[planes[0], each])?, args.call.apply("Reshape", &[planes[1], each])?);
    let kernel = args.call.constant(numbers(&plane, &[size, size, 1, 1], args.call.dtype(x))?)?;
    let filtered = |args: &mut Args<'_, '_>, x: Sym| -> Result<Sym> {
        let conv = args.call.op("Conv2D").inputs(&[x, kernel]).attr("strides", vec![1i64; 4]);
        Ok(conv.attr("padding", "VALID").one()?)
    };
    let (mean_x, mean_y) = (filtered(args, x)?, filtered(args, y)?);
    let mut means = Vec::with_capacity(3);
    let mut spreads = Vec::with_capacity(3);
    for ([a, b], [m, n]) in [([x, x], [mean_x, mean_x]), ([y, y], [mean_y, mean_y]), ([x, y], [mean_x, mean_y])] {
        let (product, mean) = (args.call.apply("Mul", &[a, b])?, args.call.apply("Mul", &[m, n])?);
        let product = filtered(args, product)?;
        means.push(mean);
        spreads.push(args.call.apply("Sub", &[product, mean])?);
    }
    let part = |args: &mut Args<'_, '_>, of: &[Sym], c: f64| -> Result<[Sym; 2]> {
        let (c, two) = (args.call.scalar(c, of[0])?, args.call.scalar(2.0, of[0])?);
        let above = args.call.apply("Mul", &[two, of[2]])?;
        let below = args.call.apply("AddV2", &[of[0], of[1]])?;
        Ok([args.call.apply("AddV2", &[above, c])?, args.call.apply("AddV2", &[below, c])?])
    };
    let ([a, b], [c, d]) = (part(args, &means, c1)?, part(args, &spreads, c2)?);
    let (above, below) = (args.call.apply("Mul", &[a, c])?, args.call.apply("Mul", &[b, d])?);
    let alike = args.call.apply("RealDiv", &[above, below])?;
    let alike = args.call.reduce("Mean", alike, &[1, 2, 3], false)?;
    let alike = args.call.apply("Reshape", &[alike, batch])?;
    let mut alike = args.call.reduce("Mean", alike, &[-1], false)?;
    if given == 3 {
        alike = args.call.reshape(alike, &[])?;
    }
    args.call.cast(alike, own)
}

/// Rows and columns before and after what is kept, or that are added: two of each pair of numbers say the third.
fn margins(args: &mut Args<'_, '_>, x: Sym, adds: bool) -> Result<Sym> {
    let count = rank(args, "images", x)?;
    if !(3..=4).contains(&count) {
        return Err(Error::mismatch(format!("images of {count} dimensions")));
    }
    let height = count - if has_channels_first(args) { 2 } else { 3 };
    let zero = args.call.int(0)?;
    let mut sides = vec![zero; 2 * count];
    let verb = if adds { "padding" } else { "cropping" };
    for (axis, before, after, target) in [
        (height, format!("top_{verb}"), format!("bottom_{verb}"), "target_height"),
        (height + 1, format!("left_{verb}"), format!("right_{verb}"), "target_width"),
    ] {
        let (first, last) = (args.int(&before), args.int(&after));
        let rest = |args: &mut Args<'_, '_>, known: i64| -> Result<Sym> {
            let target = args.int(target).ok_or_else(|| Error::missing(format!("the op has no {target}")))?;
            let (extent, wanted) = (args.call.extent(x, axis)?, args.call.int(target)?);
            let between = if adds { [wanted, extent] } else { [extent, wanted] };
            let all = args.call.apply("Sub", &between)?;
            let known = args.call.int(known)?;
            args.call.apply("Sub", &[all, known])
        };
        let both = match (first, last) {
            (Some(a), Some(b)) => [args.call.int(a)?, args.call.int(b)?],
            (Some(a), None) => [args.call.int(a)?, rest(args, a)?],
            (None, Some(b)) => [rest(args, b)?, args.call.int(b)?],
            (None, None) => return Err(Error::missing(format!("the op has neither {before} nor {after}"))),
        };
        for (place, side) in sides.iter_mut().skip(2 * axis).zip(both) {
            *place = side;
        }
    }
    let sides = args.call.shape(&sides)?;
    args.call.reshape(sides, &[count as i64, 2])
}

fn padded(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("images")?;
    let sides = margins(args, x, true)?;
    args.call.apply("Pad", &[x, sides])
}

fn cropped(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("images")?;
    let sides = margins(args, x, false)?;
    let both = args.call.op("Unpack").input(sides).attr("num", 2i64).attr("axis", 1i64).all()?;
    let [before, after] = crate::layer::inputs(&both)?;
    let size = args.call.apply("Shape", &[x])?;
    let size = args.call.apply("Sub", &[size, before])?;
    let size = args.call.apply("Sub", &[size, after])?;
    args.call.apply("Slice", &[x, before, size])
}

pub(super) const ROWS: &[Row] = &[
    row("image.GaussianBlur(images; kernel_size sigma data_format)", One(blurred)),
    row("image.SobelEdges(images; data_format) = image.sobel_edges(image:images)", One(edges)),
    row("image.SSIM(image1 image2; max_val filter_size filter_sigma k1 k2 data_format) = image.ssim(img1:image1 img2:image2 max_val filter_size filter_sigma k1 k2)", One(similarity)),
    row("image.PadImages(images; top_padding left_padding bottom_padding right_padding target_height target_width data_format)", One(padded)),
    row("image.CropImages(images; top_cropping left_cropping bottom_cropping right_cropping target_height target_width data_format)", One(cropped)),
];
