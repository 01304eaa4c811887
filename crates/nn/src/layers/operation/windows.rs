//! Ops of windows: convolutions by two kernels and transposed ones, pooling into as many parts as asked for, patches taken
//! apart and put together.

use modelark_artifact::graph::{Attr, Sym};
use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{Error, Result};

use super::super::convolution_transpose::excess;
use super::super::pooling::adaptive;
use super::arguments::Args;
use super::network::Window;
use super::reductions::rank;
use super::table::Form::One;
use super::table::{Row, row};

fn separable(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("inputs")?;
    let (depthwise, pointwise) = (args.like("depthwise_kernel", x)?, args.like("pointwise_kernel", x)?);
    let rank = rank(args, "inputs", x)?;
    let window = Window::read(args, rank, &[])?;
    let y = window.convolve(args, x, depthwise, true)?;
    let (strides, dilations) = (vec![1; window.spatial], vec![1; window.spatial]);
    let point = Window { strides, dilations, ..window };
    point.convolve(args, y, pointwise, false)
}

/// What a convolution that gave `x` may have been given, in this shape.
fn spread(args: &mut Args<'_, '_>, window: &Window, x: Sym, mut kernel: Sym, shape: Sym) -> Result<Sym> {
    if window.spatial == 1 {
        let axis = args.call.int(0)?;
        kernel = args.call.apply("ExpandDims", &[kernel, axis])?;
    }
    let op = if window.spatial == 3 { "Conv3DBackpropInputV2" } else { "Conv2DBackpropInput" };
    window.apply(args, x, |args, x| {
        let conv = args.call.op(op).inputs(&[shape, kernel, x]).attr("padding", window.padding.clone());
        Ok(conv.attr("strides", window.all(&window.strides)).attr("dilations", window.all(&window.dilations)).one()?)
    })
}

fn transposed(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("inputs")?;
    let given = args.tensor("kernel")?;
    let sizes = args.call.spec(given);
    let kernel = args.like("kernel", x)?;
    let rank = rank(args, "inputs", x)?;
    let window = Window::read(args, rank, &[])?;
    let padding = args.ints("output_padding")?;
    let mut shape = vec![args.call.extent(x, 0)?];
    if window.spatial == 1 {
        shape.push(args.call.int(1)?);
    }
    for axis in 0..window.spatial {
        let size = sizes.known(axis as i64)? as i64;
        let of = |all: &[i64]| all.get(axis).or(all.first()).copied();
        let (stride, dilation) = (of(&window.strides).unwrap_or(1), of(&window.dilations).unwrap_or(1));
        let more = excess(size, stride, dilation, padding.as_deref().and_then(of), window.padding == "SAME");
        let extent = args.call.extent(x, axis + if window.first { 2 } else { 1 })?;
        let (stride, more) = (args.call.int(stride)?, args.call.int(more)?);
        let extent = args.call.apply("Mul", &[extent, stride])?;
        shape.push(args.call.apply("AddV2", &[extent, more])?);
    }
    shape.push(args.call.int(sizes.known(-2)? as i64)?);
    let shape = args.call.shape(&shape)?;
    spread(args, &window, x, kernel, shape)
}

/// TensorFlow's own, which is told the output's shape.
fn transposed_to(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("inputs")?;
    let kernel = args.like("kernel", x)?;
    let rank = rank(args, "inputs", x)?;
    let mut window = Window::read(args, rank, &[])?;
    if args.find("padding").is_none() {
        "SAME".clone_into(&mut window.padding);
    }
    let mut shape = args.shape("output_shape")?;
    if window.first || window.spatial == 1 {
        let axes: Vec<i64> = match (window.first, window.spatial) {
            (true, 1) => vec![0, 2, 1],
            (true, n) => std::iter::once(0).chain(2..n as i64 + 2).chain([1]).collect(),
            _ => vec![0, 1, 2],
        };
        let (axes, zero) = (args.call.ints(&axes)?, args.call.int(0)?);
        shape = args.call.apply("GatherV2", &[shape, axes, zero])?;
    }
    if window.spatial == 1 {
        let (batch, one) = (args.call.slice(shape, &[(None, Some(1), 1)])?, args.call.ints(&[1])?);
        let rest = args.call.slice(shape, &[(Some(1), None, 1)])?;
        shape = args.call.concat(&[batch, one, rest], 0)?;
    }
    spread(args, &window, x, kernel, shape)
}

fn pooled_to(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let x = args.tensor("inputs")?;
    let spatial = rank(args, "inputs", x)?.saturating_sub(2);
    let sizes = args.ints("output_size")?.ok_or_else(|| Error::missing("the op has no output_size"))?;
    let sizes = if sizes.len() == 1 { vec![sizes[0]; spatial] } else { sizes };
    let sizes: Option<Vec<usize>> = sizes.into_iter().map(|s| usize::try_from(s).ok()).collect();
    let sizes = sizes.filter(|s| s.len() == spatial);
    let sizes = sizes.ok_or_else(|| Error::invalid(format!("as many sizes as there are dimensions, {spatial}")))?;
    let first = args.text("data_format").is_some_and(|f| f == "channels_first");
    adaptive(args.call, x, op, if first { 2 } else { 1 }, &sizes)
}

/// One number for both directions of an image, or one for each.
fn pair(args: &Args<'_, '_>, name: &str, default: Option<i64>) -> Result<[i64; 2]> {
    const MOST: i64 = 1 << 16;
    let both = match args.ints(name)?.as_deref() {
        Some(&[one]) => Some([one; 2]),
        Some(&[a, b]) => Some([a, b]),
        Some(_) => None,
        None => default.map(|d| [d; 2]),
    };
    let both = both.filter(|b| b.iter().all(|v| (0..=MOST).contains(v)));
    both.ok_or_else(|| Error::invalid(format!("{name} must be one number or two that aren't negative")))
}

/// The patches under a sliding window, each a column (Keras: `unfold`).
fn unfold(args: &mut Args<'_, '_>) -> Result<Sym> {
    let mut x = args.tensor("x")?;
    let channels = args.call.spec(x).known(1)? as i64;
    let batch = args.call.extent(x, 0)?;
    let [size, rates] = [pair(args, "kernel_size", None)?, pair(args, "dilation", Some(1))?];
    let [padding, strides] = [pair(args, "padding", Some(0))?, pair(args, "stride", Some(1))?];
    if padding != [0, 0] {
        let [a, b] = padding;
        let paddings = args.call.ints(&[0, 0, 0, 0, a, a, b, b])?;
        let paddings = args.call.reshape(paddings, &[4, 2])?;
        x = args.call.apply("Pad", &[x, paddings])?;
    }
    let x = args.call.transpose(x, &[0, 2, 3, 1])?;
    let all = |[a, b]: [i64; 2]| Attr::from(vec![1, a, b, 1]);
    let op = args.call.op("ExtractImagePatches").input(x).attr("ksizes", all(size));
    let patches = op.attr("strides", all(strides)).attr("rates", all(rates)).attr("padding", "VALID").one()?;
    let (any, count) = (args.call.int(-1)?, args.call.int(size[0] * size[1])?);
    let own = args.call.int(channels)?;
    let shape = args.call.shape(&[batch, any, count, own])?;
    let apart = args.call.apply("Reshape", &[patches, shape])?;
    let columns = args.call.transpose(apart, &[0, 3, 2, 1])?;
    let rows = args.call.int(channels * size[0] * size[1])?;
    let shape = args.call.shape(&[batch, rows, any])?;
    args.call.apply("Reshape", &[columns, shape])
}

/// The sum of patches, each put where a sliding window took it from (Keras: `fold`).
fn fold(args: &mut Args<'_, '_>) -> Result<Sym> {
    /// More values to put in place than this are no model's.
    const MOST: i64 = 1 << 24;
    let x = args.tensor("x")?;
    let rows = args.call.spec(x).known(1)? as i64;
    let batch = args.call.extent(x, 0)?;
    let [output, size] = [pair(args, "output_size", None)?, pair(args, "kernel_size", None)?];
    let [rates, padding, strides] =
        [pair(args, "dilation", Some(1))?, pair(args, "padding", Some(0))?, pair(args, "stride", Some(1))?];
    let whole = [output[0] + 2 * padding[0], output[1] + 2 * padding[1]];
    let mut counts = [0; 2];
    for i in 0..2 {
        let free = whole[i] - rates[i] * (size[i] - 1) - 1;
        if size[i] == 0 || strides[i] == 0 || free < 0 {
            return Err(Error::mismatch("the patches don't fit into the output"));
        }
        counts[i] = free / strides[i] + 1;
    }
    let patch = size[0] * size[1];
    let places = patch * counts[0] * counts[1];
    if rows % patch != 0 || places > MOST {
        return Err(Error::mismatch(format!("{rows} rows of patches of {patch} values")));
    }
    let mut ids = Vec::new();
    for (i, j) in (0..size[0]).flat_map(|i| (0..size[1]).map(move |j| (i, j))) {
        for (y, x) in (0..counts[0]).flat_map(|y| (0..counts[1]).map(move |x| (y, x))) {
            let at = (y * strides[0] + i * rates[0]) * whole[1] + x * strides[1] + j * rates[1];
            ids.push(i32::try_from(at).map_err(|_| Error::limit(format!("place {at}")))?);
        }
    }
    let count = ids.len();
    let ids = args.call.constant(Tensor::from_vec(ids, [count])?)?;
    let (channels, each) = (args.call.int(rows / patch)?, args.call.int(places)?);
    let shape = args.call.shape(&[batch, channels, each])?;
    let flat = args.call.apply("Reshape", &[x, shape])?;
    let flat = args.call.transpose(flat, &[2, 0, 1])?;
    let all = args.call.int(whole[0] * whole[1])?;
    let sums = args.call.apply("UnsortedSegmentSum", &[flat, ids, all])?;
    let sums = args.call.transpose(sums, &[1, 2, 0])?;
    let (height, width) = (args.call.int(whole[0])?, args.call.int(whole[1])?);
    let shape = args.call.shape(&[batch, channels, height, width])?;
    let y = args.call.apply("Reshape", &[sums, shape])?;
    if padding == [0, 0] {
        return Ok(y);
    }
    let inner = |i: usize| (Some(padding[i]), Some(whole[i] - padding[i]), 1);
    args.call.slice(y, &[(None, None, 1), (None, None, 1), inner(0), inner(1)])
}

/// The sums of products of one sequence with another at each shift between them (Keras: `correlate`).
fn correlated(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [x, y] = args.pair("x1", "x2")?;
    let dtype = match args.call.dtype(x) {
        DType::I64 | DType::F64 => DType::F64,
        half @ (DType::F16 | DType::BF16) => half,
        _ => DType::F32,
    };
    let (x, y) = (args.call.cast(x, dtype)?, args.call.cast(y, dtype)?);
    let mode = args.text("mode").unwrap_or_else(|| "valid".to_owned());
    let (n, m, one) = (args.call.extent(x, 0)?, args.call.extent(y, 0)?, args.call.int(1)?);
    let around = args.call.apply("Sub", &[m, one])?;
    let mut image = x;
    match mode.as_str() {
        "valid" => {}
        "full" | "same" => {
            let sides = args.call.shape(&[around, around])?;
            let sides = args.call.reshape(sides, &[1, 2])?;
            image = args.call.apply("Pad", &[x, sides])?;
        }
        other => return Err(Error::unsupported(format!("there is no mode {other:?}"))),
    }
    let (image, kernel) = (args.call.reshape(image, &[1, 1, -1, 1])?, args.call.reshape(y, &[1, -1, 1, 1])?);
    let conv = args.call.op("Conv2D").inputs(&[image, kernel]).attr("strides", vec![1i64; 4]);
    let sums = conv.attr("padding", "VALID").one()?;
    let sums = args.call.reshape(sums, &[-1])?;
    if mode != "same" {
        return Ok(sums);
    }
    let (both, most, two) = (args.call.apply("AddV2", &[n, around])?, args.call.apply("Maximum", &[n, m])?, args.call.int(2)?);
    let begin = args.call.apply("Sub", &[both, most])?;
    let begin = args.call.apply("FloorDiv", &[begin, two])?;
    let (begin, most) = (args.call.reshape(begin, &[1])?, args.call.reshape(most, &[1])?);
    args.call.apply("Slice", &[sums, begin, most])
}

pub(super) const ROWS: &[Row] = &[
    row("nn.SeparableConv(inputs depthwise_kernel pointwise_kernel; strides padding data_format dilation_rate) = nn.separable_conv2d(input:inputs depthwise_filter:depthwise_kernel pointwise_filter:pointwise_kernel strides padding data_format dilations:dilation_rate) | compat.v1.nn.separable_conv2d(input:inputs depthwise_filter:depthwise_kernel pointwise_filter:pointwise_kernel strides padding rate:dilation_rate data_format dilations:dilation_rate)", One(separable)),
    row("nn.ConvTranspose(inputs kernel; strides padding output_padding data_format dilation_rate)", One(transposed)),
    row("= nn.conv2d_transpose(input:inputs filters:kernel output_shape strides padding data_format dilations:dilation_rate) | nn.conv1d_transpose(input:inputs filters:kernel output_shape strides padding data_format dilations:dilation_rate) | nn.conv3d_transpose(input:inputs filters:kernel output_shape strides padding data_format dilations:dilation_rate) | nn.conv_transpose(input:inputs filters:kernel output_shape strides padding data_format dilations:dilation_rate)", One(transposed_to)),
    row("nn.AdaptiveAveragePool(inputs; output_size data_format)", One(|a| pooled_to(a, "Mean"))),
    row("nn.AdaptiveMaxPool(inputs; output_size data_format)", One(|a| pooled_to(a, "Max"))),
    row("nn.Unfold(x; kernel_size dilation padding stride)", One(unfold)),
    row("nn.Fold(x; output_size kernel_size dilation padding stride)", One(fold)),
    row("numpy.Correlate(x1 x2; mode)", One(correlated)),
];
