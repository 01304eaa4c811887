//! Ops that move the pixels of images: by transforms, to places of their own, by a scale and a translation.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::pictures::batched;
use super::reductions::rank;
use super::table::Form::One;
use super::table::{Row, row};
use crate::config::resolve_axis;

/// A tensor as floats of 32 bits, with a batch of one where it has none.
fn batch_of(args: &mut Args<'_, '_>, name: &str, with_batch: usize) -> Result<Sym> {
    let x = args.tensor(name)?;
    let rank = rank(args, name, x)?;
    let x = args.call.cast(x, DType::F32)?;
    if rank >= with_batch {
        return Ok(x);
    }
    let zero = args.call.int(0)?;
    args.call.apply("ExpandDims", &[x, zero])
}

/// Images as transforms of eight numbers each say, in the size that they have.
fn transformed(args: &mut Args<'_, '_>, transforms: Sym) -> Result<Sym> {
    let x = args.tensor("images")?;
    let fill = args.float("fill_value").unwrap_or(0.0);
    let way = |name: &str, default: &str| args.text(name).unwrap_or_else(|| default.to_owned()).to_ascii_uppercase();
    let (interpolation, mode) = (way("interpolation", "bilinear"), way("fill_mode", "constant"));
    batched(args, x, |args, x| {
        let shape = args.call.apply("Shape", &[x])?;
        let size = args.call.slice(shape, &[(Some(1), Some(3), 1)])?;
        let fill = args.call.constant(crate::config::numbers(&[fill], &[], DType::F32)?)?;
        let op = args.call.op("ImageProjectiveTransformV3").inputs(&[x, transforms, size, fill]);
        Ok(op.attr("interpolation", interpolation).attr("fill_mode", mode).one()?)
    })
}

fn affine(args: &mut Args<'_, '_>) -> Result<Sym> {
    let transforms = batch_of(args, "transform", 2)?;
    transformed(args, transforms)
}

/// By the transform that takes four points to four others (Keras: `compute_homography_matrix`).
fn perspective(args: &mut Args<'_, '_>) -> Result<Sym> {
    let (from, to) = (batch_of(args, "start_points", 3)?, batch_of(args, "end_points", 3)?);
    let mut coordinate = |points: Sym, i: i64| {
        let strides = [(None, None, 1), (None, None, 1), (Some(i), Some(i + 1), 1)];
        let one = args.call.slice(points, &strides)?;
        Ok::<_, Error>(args.call.op("Squeeze").input(one).attr("squeeze_dims", vec![-1i64]).one()?)
    };
    let (x, y, u, v) = (coordinate(from, 0)?, coordinate(from, 1)?, coordinate(to, 0)?, coordinate(to, 1)?);
    let (one, zero) = (args.call.apply("OnesLike", &[x])?, args.call.apply("ZerosLike", &[x])?);
    let mut equations = Vec::with_capacity(2);
    for (own, left) in [(x, true), (y, false)] {
        let opposite = args.call.apply("Neg", &[own])?;
        let (a, b) = (args.call.apply("Mul", &[opposite, u])?, args.call.apply("Mul", &[opposite, v])?);
        let terms = match left {
            true => [u, v, one, zero, zero, zero, a, b],
            false => [zero, zero, zero, u, v, one, a, b],
        };
        equations.push(args.call.op("Pack").inputs(&terms).attr("axis", -1i64).one()?);
    }
    let matrix = args.call.op("Pack").inputs(&equations).attr("axis", 2i64).one()?;
    let matrix = args.call.reshape(matrix, &[-1, 8, 8])?;
    let wanted = args.call.reshape(from, &[-1, 8, 1])?;
    let solved = args.call.apply("MatrixSolve", &[matrix, wanted])?;
    let transforms = args.call.reshape(solved, &[-1, 8])?;
    transformed(args, transforms)
}

/// The places of one axis within its extent, and where they lie in it, if that counts.
fn within(args: &mut Args<'_, '_>, places: Sym, size: Sym, mode: &str) -> Result<(Sym, Option<Sym>)> {
    let zero = args.call.scalar(0.0, places)?;
    let clipped = |args: &mut Args<'_, '_>| {
        let one = args.call.scalar(1.0, places)?;
        let last = args.call.apply("Sub", &[size, one])?;
        let low = args.call.apply("Maximum", &[places, zero])?;
        args.call.apply("Minimum", &[low, last])
    };
    Ok(match mode {
        "constant" => {
            let begun = args.call.apply("GreaterEqual", &[places, zero])?;
            let before_end = args.call.apply("Less", &[places, size])?;
            let counts = args.call.apply("LogicalAnd", &[begun, before_end])?;
            (clipped(args)?, Some(counts))
        }
        "nearest" => (clipped(args)?, None),
        "wrap" => (args.call.apply("FloorMod", &[places, size])?, None),
        "mirror" | "reflect" => {
            let both = args.call.apply("AddV2", &[size, size])?;
            let places = args.call.apply("Abs", &[places])?;
            let rest = args.call.apply("FloorMod", &[places, both])?;
            let forth = args.call.apply("Less", &[rest, size])?;
            let mut back = args.call.apply("Sub", &[both, rest])?;
            if mode == "reflect" {
                let one = args.call.scalar(1.0, back)?;
                back = args.call.apply("Sub", &[back, one])?;
            }
            (args.call.apply("SelectV2", &[forth, rest, back])?, None)
        }
        other => return Err(Error::unsupported(format!("there is no fill mode {other:?}"))),
    })
}

/// A place's neighbours along one axis: where they are, whether they count, and their shares.
type Neighbour = (Sym, Option<Sym>, Option<Sym>);

fn neighbours(args: &mut Args<'_, '_>, places: Sym, size: Sym, order: i64, mode: &str) -> Result<Vec<Neighbour>> {
    if order == 0 {
        let whole = if args.call.dtype(places).is_integer() { places } else { args.call.apply("Round", &[places])? };
        let index = args.call.cast(whole, DType::I32)?;
        let (index, counts) = within(args, index, size, mode)?;
        return Ok(vec![(index, counts, None)]);
    }
    let lower = args.call.apply("Floor", &[places])?;
    let above = args.call.apply("Sub", &[places, lower])?;
    let one = args.call.scalar(1.0, above)?;
    let below = args.call.apply("Sub", &[one, above])?;
    let index = args.call.cast(lower, DType::I32)?;
    let one = args.call.int(1)?;
    let next = args.call.apply("AddV2", &[index, one])?;
    let mut found = Vec::with_capacity(2);
    for (index, share) in [(index, below), (next, above)] {
        let (index, counts) = within(args, index, size, mode)?;
        found.push((index, counts, Some(share)));
    }
    Ok(found)
}

/// The values at places between a tensor's elements (Keras: `map_coordinates`).
fn mapped(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("inputs")?;
    let places = args.tensor("coordinates")?;
    let count = rank(args, "inputs", x)?;
    let order = args.int("order").unwrap_or(1);
    if !(0..=1).contains(&order) || count == 0 || count > 6 {
        return Err(Error::unsupported(format!("values between the elements of {count} dimensions, of order {order}")));
    }
    let mode = args.text("fill_mode").unwrap_or_else(|| "constant".to_owned());
    let fill = args.float("fill_value").unwrap_or(0.0);
    let axes = args.call.op("Unpack").input(places).attr("num", count as i64).attr("axis", 0i64).all()?;
    let mut all = Vec::with_capacity(count);
    for (axis, &places) in axes.iter().enumerate() {
        let size = args.call.extent(x, axis)?;
        all.push(neighbours(args, places, size, order, &mode)?);
    }
    let dtype = args.call.dtype(places);
    let mut sum: Option<Sym> = None;
    // One corner for each choice of a neighbour along every axis.
    for corner in 0..1usize << (if order == 0 { 0 } else { count }) {
        let chosen: Vec<Neighbour> = all.iter().enumerate().filter_map(|(axis, n)| n.get(corner >> axis & 1).copied()).collect();
        let indices: Vec<Sym> = chosen.iter().map(|(index, ..)| *index).collect();
        let indices = args.call.op("Pack").inputs(&indices).attr("axis", -1i64).one()?;
        let values = args.call.apply("GatherNd", &[x, indices])?;
        let mut values = args.call.cast(values, dtype)?;
        let mut counts: Option<Sym> = None;
        for own in chosen.iter().filter_map(|(_, counts, _)| *counts) {
            counts = Some(match counts {
                Some(so_far) => args.call.apply("LogicalAnd", &[so_far, own])?,
                None => own,
            });
        }
        if let Some(counts) = counts {
            let fill = args.call.scalar(fill, values)?;
            values = args.call.apply("SelectV2", &[counts, values, fill])?;
        }
        for share in chosen.iter().filter_map(|(.., share)| *share) {
            values = args.call.apply("Mul", &[share, values])?;
        }
        sum = Some(match sum {
            Some(sum) => args.call.apply("AddV2", &[sum, values])?,
            None => values,
        });
    }
    let mut y = sum.ok_or_else(|| Error::mismatch("it takes places for every axis"))?;
    if args.call.dtype(x).is_integer() && args.call.dtype(y).is_float() {
        y = args.call.apply("Round", &[y])?;
    }
    args.call.cast(y, args.call.dtype(x))
}

/// How much a value so far away counts, by the name of the way.
fn share(args: &mut Args<'_, '_>, method: &str, x: Sym) -> Result<Sym> {
    let (zero, one) = (args.call.scalar(0.0, x)?, args.call.scalar(1.0, x)?);
    let polynomial = |args: &mut Args<'_, '_>, [a, b, c, d]: [f64; 4]| -> Result<Sym> {
        let mut y = args.call.scalar(a, x)?;
        for term in [b, c, d] {
            let term = args.call.scalar(term, x)?;
            y = args.call.apply("Mul", &[y, x])?;
            y = args.call.apply("AddV2", &[y, term])?;
        }
        Ok(y)
    };
    match method {
        "linear" | "bilinear" | "trilinear" | "triangle" => {
            let y = args.call.apply("Sub", &[one, x])?;
            args.call.apply("Maximum", &[zero, y])
        }
        "cubic" | "bicubic" | "tricubic" => {
            let near = polynomial(args, [1.5, -2.5, 0.0, 1.0])?;
            let far = polynomial(args, [-0.5, 2.5, -4.0, 2.0])?;
            let two = args.call.scalar(2.0, x)?;
            let (is_far, is_out) = (args.call.apply("GreaterEqual", &[x, one])?, args.call.apply("GreaterEqual", &[x, two])?);
            let y = args.call.apply("SelectV2", &[is_far, far, near])?;
            args.call.apply("SelectV2", &[is_out, zero, y])
        }
        "lanczos3" | "lanczos5" => {
            let radius = if method == "lanczos3" { 3.0 } else { 5.0 };
            let wave = |args: &mut Args<'_, '_>, turn: f64| {
                let turn = args.call.scalar(turn, x)?;
                let turn = args.call.apply("Mul", &[turn, x])?;
                args.call.apply("Sin", &[turn])
            };
            let (fast, slow) = (wave(args, std::f64::consts::PI)?, wave(args, std::f64::consts::PI / radius)?);
            let product = args.call.apply("Mul", &[fast, slow])?;
            let square = args.call.apply("Square", &[x])?;
            let factor = args.call.scalar(radius / std::f64::consts::PI.powi(2), x)?;
            let product = args.call.apply("Mul", &[product, factor])?;
            let y = args.call.apply("DivNoNan", &[product, square])?;
            let (least, radius) = (args.call.scalar(1e-3, x)?, args.call.scalar(radius, x)?);
            let (apart, is_out) = (args.call.apply("Greater", &[x, least])?, args.call.apply("Greater", &[x, radius])?);
            let y = args.call.apply("SelectV2", &[apart, y, one])?;
            args.call.apply("SelectV2", &[is_out, zero, y])
        }
        other => Err(Error::unsupported(format!("there is no way of scaling {other:?}"))),
    }
}

/// For one axis, what each value has to do with each of the output's (Keras: `_compute_weight_mat`).
fn shares(args: &mut Args<'_, '_>, size: [Sym; 2], scale: Sym, shift: Sym, antialias: bool, method: &str) -> Result<Sym> {
    let (zero, one) = (args.call.int(0)?, args.call.int(1)?);
    let mut range = |count: Sym| {
        let steps = args.call.apply("Range", &[zero, count, one])?;
        args.call.cast(steps, args.call.dtype(scale))
    };
    let (from, to) = (range(size[0])?, range(size[1])?);
    let (one, half) = (args.call.scalar(1.0, scale)?, args.call.scalar(0.5, scale)?);
    let inverse = args.call.apply("RealDiv", &[one, scale])?;
    let middle = args.call.apply("AddV2", &[to, half])?;
    let middle = args.call.apply("Sub", &[middle, shift])?;
    let middle = args.call.apply("Mul", &[middle, inverse])?;
    let middle = args.call.apply("Sub", &[middle, half])?;
    let (rows, columns) = (args.call.reshape(middle, &[1, -1])?, args.call.reshape(from, &[-1, 1])?);
    let apart = args.call.apply("Sub", &[rows, columns])?;
    let mut apart = args.call.apply("Abs", &[apart])?;
    if antialias {
        let width = args.call.apply("Maximum", &[inverse, one])?;
        apart = args.call.apply("RealDiv", &[apart, width])?;
    }
    let shares = share(args, method, apart)?;
    let sum = args.call.reduce("Sum", shares, &[0], true)?;
    let (size_of_sum, least) = (args.call.apply("Abs", &[sum])?, args.call.scalar(1000.0 * f64::from(f32::EPSILON), sum)?);
    let counts = args.call.apply("Greater", &[size_of_sum, least])?;
    let (shares, none) = (args.call.apply("DivNoNan", &[shares, sum])?, args.call.scalar(0.0, sum)?);
    let shares = args.call.apply("SelectV2", &[counts, shares, none])?;
    // What would come from outside is nothing.
    let last = args.call.cast(size[0], args.call.dtype(scale))?;
    let (low, high) = (args.call.apply("Neg", &[half])?, args.call.apply("Sub", &[last, half])?);
    let (begun, before_end) = (args.call.apply("GreaterEqual", &[rows, low])?, args.call.apply("LessEqual", &[rows, high])?);
    let inside = args.call.apply("LogicalAnd", &[begun, before_end])?;
    args.call.apply("SelectV2", &[inside, shares, none])
}

/// Images in another size, some of their axes scaled and moved (Keras: `scale_and_translate`).
fn scaled(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("images")?;
    let count = rank(args, "images", x)?;
    let [scale, shift] = args.pair("scale", "translation")?;
    let axes = args.ints("spatial_dims")?.ok_or_else(|| Error::missing("the op has no spatial_dims"))?;
    let method = args.text("method").unwrap_or_else(|| "linear".to_owned());
    let antialias = args.find("antialias").is_none() || args.flag("antialias");
    let whole = args.call.dtype(x).is_integer();
    let mut y = if whole { args.call.cast(x, DType::F32)? } else { x };
    let shape = args.shape("output_shape")?;
    for (i, &axis) in (0i64..).zip(&axes) {
        let axis = resolve_axis(axis, count)?;
        let item = |args: &mut Args<'_, '_>, of: Sym, i: i64| {
            let one = args.call.slice(of, &[(Some(i), Some(i + 1), 1)])?;
            args.call.reshape(one, &[])
        };
        let (scale, shift) = (item(args, scale, i)?, item(args, shift, i)?);
        let size = [args.call.extent(x, axis)?, item(args, shape, axis as i64)?];
        let shares = shares(args, size, scale, shift, antialias, &method)?;
        let shares = args.call.cast(shares, args.call.dtype(y))?;
        // The axis last, its values shared out, and back.
        let mut order: Vec<usize> = (0..count).filter(|a| *a != axis).collect();
        order.push(axis);
        let mut back: Vec<usize> = (0..count - 1).collect();
        back.insert(axis, count - 1);
        let last = args.call.transpose(y, &order)?;
        let product = args.call.op("BatchMatMulV2").inputs(&[last, shares]).one()?;
        y = args.call.transpose(product, &back)?;
    }
    if !whole {
        return Ok(y);
    }
    let all: Vec<i64> = (0..count as i64).collect();
    let (least, most) = (args.call.reduce("Min", x, &all, false)?, args.call.reduce("Max", x, &all, false)?);
    let (least, most) = (args.call.cast(least, DType::F32)?, args.call.cast(most, DType::F32)?);
    let y = args.call.apply("Round", &[y])?;
    let y = args.call.apply("Maximum", &[y, least])?;
    let y = args.call.apply("Minimum", &[y, most])?;
    args.call.cast(y, args.call.dtype(x))
}

pub(super) const ROWS: &[Row] = &[
    row("image.AffineTransform(images transform; interpolation fill_mode fill_value data_format)", One(affine)),
    row("image.PerspectiveTransform(images start_points end_points; interpolation fill_value data_format)", One(perspective)),
    row("image.MapCoordinates(inputs coordinates; order fill_mode fill_value)", One(mapped)),
    row("image.ScaleAndTranslate(images output_shape scale translation; spatial_dims method antialias)", One(scaled)),
    row("image.ElasticTransform(images; alpha sigma interpolation fill_mode fill_value seed data_format)", One(|_| {
        Err(Error::unsupported("an elastic transform, which is drawn at random in every call"))
    })),
];
