//! Ops that arrange, join and pick elements.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::reductions::rank;
use super::table::Form::{Many, One};
use super::table::{Row, row};
use crate::config::resolve_axis;

fn reshape(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let shape = args.shape("newshape")?;
    args.call.apply("Reshape", &[x, shape])
}

fn expand(args: &mut Args<'_, '_>) -> Result<Sym> {
    let mut x = args.tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axes = args.ints("axis")?.ok_or_else(|| Error::missing("the op has no axis"))?;
    let mut axes = axes.iter().map(|&a| resolve_axis(a, rank + axes.len())).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    for axis in axes {
        let axis = args.call.int(axis as i64)?;
        x = args.call.apply("ExpandDims", &[x, axis])?;
    }
    Ok(x)
}

fn squeeze(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let axes = match args.ints("axis")? {
        Some(axes) => axes,
        // What is 1 without doubt.
        None => {
            let spec = args.call.spec(x);
            let ones = spec.dims()?.iter().enumerate().filter(|(_, d)| **d == Some(1));
            ones.map(|(i, _)| i as i64).collect()
        }
    };
    Ok(args.call.op("Squeeze").input(x).attr("squeeze_dims", axes).one()?)
}

fn transpose(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let rank = rank(args, "x", x)?;
    let order = match args.ints("axes")? {
        Some(axes) => axes.iter().map(|&a| resolve_axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    args.call.transpose(x, &order)
}

fn swap(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let rank = rank(args, "x", x)?;
    let (a, b) = (args.axis("axis1", 0, rank)?, args.axis("axis2", 1, rank)?);
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(a, b);
    args.call.transpose(x, &order)
}

fn move_axis(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axes = |name: &str| -> Result<Vec<usize>> {
        Ok(args.axes(name, rank)?.into_iter().filter_map(|a| usize::try_from(a).ok()).collect())
    };
    let order = moved(rank, &axes("source")?, &axes("destination")?);
    let order = order.ok_or_else(|| Error::invalid("as many axes go as places are given"))?;
    args.call.transpose(x, &order)
}

/// The order of so many axes of which some go to other places (NumPy: `moveaxis`).
pub(super) fn moved(rank: usize, from: &[usize], to: &[usize]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..rank).filter(|a| !from.contains(a)).collect();
    let mut moves: Vec<(usize, usize)> = to.iter().copied().zip(from.iter().copied()).collect();
    moves.sort_unstable();
    for (to, from) in moves {
        order.insert(to.min(order.len()), from);
    }
    (from.len() == to.len() && order.len() == rank).then_some(order)
}

fn concatenate(args: &mut Args<'_, '_>, name: &str, axis: i64) -> Result<Sym> {
    let parts = args.list(name)?;
    let dtype = parts.iter().map(|&p| args.call.dtype(p)).reduce(super::promote);
    let dtype = dtype.ok_or_else(|| Error::mismatch("it takes at least one tensor"))?;
    let parts = parts.into_iter().map(|p| args.call.cast(p, dtype)).collect::<Result<Vec<_>>>()?;
    let axis = args.int("axis").unwrap_or(axis);
    args.call.concat(&parts, axis)
}

fn stack(args: &mut Args<'_, '_>) -> Result<Sym> {
    let parts = args.list("x")?;
    let axis = args.int("axis").unwrap_or(0);
    Ok(args.call.op("Pack").inputs(&parts).attr("axis", axis).one()?)
}

fn unstack(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.tensor("x")?;
    let axis = args.int("axis").unwrap_or(0);
    let count = match args.int("num") {
        Some(count) => count,
        None => args.call.spec(x).known(axis)? as i64,
    };
    Ok(args.call.op("Unpack").input(x).attr("num", count).attr("axis", axis).all()?)
}

/// Parts along an axis. NumPy's lists say where to cut, TensorFlow's how long each part is.
fn split(args: &mut Args<'_, '_>, axis: Option<i64>) -> Result<Vec<Sym>> {
    let x = args.tensor("x")?;
    let axis = axis.or(args.int("axis")).unwrap_or(0);
    let at = args.call.int(axis)?;
    if let Some(count) = args.int("indices_or_sections") {
        return Ok(args.call.op("Split").inputs(&[at, x]).attr("num_split", count).all()?);
    }
    let mut sizes = args.ints("indices_or_sections")?.unwrap_or_default();
    if !args.keras2 {
        let extent = args.call.spec(x).known(axis)? as i64;
        let bounds: Vec<i64> = std::iter::once(0).chain(sizes).chain([extent]).collect();
        sizes = bounds.windows(2).map(|w| w[1] - w[0]).collect();
    }
    let (lengths, count) = (args.call.ints(&sizes)?, sizes.len() as i64);
    Ok(args.call.op("SplitV").inputs(&[x, lengths, at]).attr("num_split", count).all()?)
}

/// Parts along the second axis, or the only one.
fn columns(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.tensor("x")?;
    let rank = rank(args, "x", x)?;
    split(args, Some(if rank == 1 { 0 } else { 1 }))
}

/// A quarter turn from one axis to another, so many times.
fn rotated(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("array")?;
    let rank = rank(args, "array", x)?;
    let axes = args.ints("axes")?.unwrap_or_else(|| vec![0, 1]);
    let &[from, to] = &axes[..] else { return Err(Error::invalid("a turn has two axes")) };
    let (from, to) = (resolve_axis(from, rank)?, resolve_axis(to, rank)?);
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(from, to);
    let flip = |args: &mut Args<'_, '_>, x: Sym, axis: usize| {
        let axis = args.call.ints(&[axis as i64])?;
        args.call.apply("ReverseV2", &[x, axis])
    };
    match args.int("k").unwrap_or(1).rem_euclid(4) {
        0 => Ok(x),
        1 => {
            let x = flip(args, x, to)?;
            args.call.transpose(x, &order)
        }
        2 => {
            let x = flip(args, x, from)?;
            flip(args, x, to)
        }
        _ => {
            let x = args.call.transpose(x, &order)?;
            flip(args, x, to)
        }
    }
}

/// Coordinates of a grid: each vector along an axis of its own.
fn mesh(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let all: Vec<Sym> = args.given.to_vec();
    let swaps = args.text("indexing").as_deref() != Some("ij") && all.len() > 1;
    let mut ones = Vec::new();
    for (i, &x) in all.iter().enumerate() {
        let axis = if swaps && i < 2 { 1 - i } else { i };
        let mut shape = vec![1i64; all.len()];
        shape[axis] = -1;
        ones.push(args.call.reshape(x, &shape)?);
    }
    let mut shape: Option<Sym> = None;
    for &x in &ones {
        let own = args.call.apply("Shape", &[x])?;
        shape = Some(match shape {
            Some(shape) => args.call.apply("Maximum", &[shape, own])?,
            None => own,
        });
    }
    let shape = shape.ok_or_else(|| Error::mismatch("it takes at least one vector"))?;
    ones.into_iter().map(|x| args.call.apply("BroadcastTo", &[x, shape])).collect()
}

/// For each axis the places of what isn't zero.
fn nonzero(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.tensor("x")?;
    let rank = rank(args, "x", x)?;
    let places = args.call.apply("Where", &[x])?;
    let places = args.call.cast(places, DType::I32)?;
    Ok(args.call.op("Unpack").input(places).attr("num", rank as i64).attr("axis", 1i64).all()?)
}

/// For each axis of a shape where places in the flat tensor are.
fn unraveled(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.indices("indices")?;
    let shape = args.ints("shape")?.ok_or_else(|| Error::missing("the op has no shape"))?;
    let mut rest = x;
    let mut made = Vec::new();
    // Of several axes of indices Keras takes the extents the other way round.
    let turned = rank(args, "indices", x)? == 1;
    let extents: Vec<i64> = if turned { shape.into_iter().rev().collect() } else { shape };
    for extent in extents {
        let extent = args.call.scalar(extent as f64, rest)?;
        made.push(args.call.apply("FloorMod", &[rest, extent])?);
        rest = args.call.apply("FloorDiv", &[rest, extent])?;
    }
    made.reverse();
    Ok(made)
}

/// The first choice whose condition holds.
fn selected(args: &mut Args<'_, '_>) -> Result<Sym> {
    let (conditions, choices) = (args.list("condlist")?, args.list("choicelist")?);
    let first = *choices.first().ok_or_else(|| Error::mismatch("it takes at least one choice"))?;
    let mut y = match args.find("default") {
        Some(_) => args.like("default", first)?,
        None => args.call.scalar(0.0, first)?,
    };
    for (condition, choice) in conditions.into_iter().zip(choices).rev() {
        y = args.call.apply("SelectV2", &[condition, choice, y])?;
    }
    Ok(y)
}

fn scattered(args: &mut Args<'_, '_>) -> Result<Sym> {
    let (indices, values) = (args.indices("indices")?, args.tensor("values")?);
    let shape = args.shape("shape")?;
    let shape = args.call.cast(shape, args.call.dtype(indices))?;
    args.call.apply("ScatterNd", &[indices, values, shape])
}

fn scatter_update(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("inputs")?;
    let (indices, updates) = (args.indices("indices")?, args.like("updates", x)?);
    let op = match args.text("reduction").as_deref() {
        None => "TensorScatterUpdate",
        Some("add") => "TensorScatterAdd",
        Some("max") => "TensorScatterMax",
        Some("min") => "TensorScatterMin",
        Some(other) => return Err(Error::unsupported(format!("updates by {other:?}"))),
    };
    args.call.apply(op, &[x, indices, updates])
}

/// Writes a block into a tensor; one that would reach over its end begins before.
fn slice_update(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("inputs")?;
    let (updates, start) = (args.like("updates", x)?, args.shape("start_indices")?);
    let (whole, part) = (args.call.apply("Shape", &[x])?, args.call.apply("Shape", &[updates])?);
    let free = args.call.apply("Sub", &[whole, part])?;
    let start = args.call.apply("Minimum", &[start, free])?;
    let zero = args.call.int(0)?;
    let start = args.call.apply("Maximum", &[start, zero])?;
    let after = args.call.apply("Sub", &[free, start])?;
    let paddings = args.call.op("Pack").inputs(&[start, after]).attr("axis", 1i64).one()?;
    let block = args.call.apply("Pad", &[updates, paddings])?;
    let ones = args.call.cast(updates, DType::Bool)?;
    let ones = args.call.apply("OnesLike", &[ones])?;
    let no = args.call.constant(crate::config::numbers(&[0.0], &[], DType::Bool)?)?;
    let there = args.call.apply("PadV2", &[ones, paddings, no])?;
    args.call.apply("SelectV2", &[there, block, x])
}

fn tile(args: &mut Args<'_, '_>) -> Result<Sym> {
    let mut x = args.tensor("x")?;
    if let Some(counts) = args.ints("repeats")? {
        let rank = rank(args, "x", x)?;
        for _ in rank..counts.len() {
            let zero = args.call.int(0)?;
            x = args.call.apply("ExpandDims", &[x, zero])?;
        }
        let ones = vec![1; rank.saturating_sub(counts.len())];
        let counts: Vec<i64> = ones.into_iter().chain(counts).collect();
        let counts = args.call.ints(&counts)?;
        return args.call.apply("Tile", &[x, counts]);
    }
    let counts = args.shape("repeats")?;
    args.call.apply("Tile", &[x, counts])
}

fn repeat(args: &mut Args<'_, '_>) -> Result<Sym> {
    let mut x = args.tensor("x")?;
    let mut rank = rank(args, "x", x)?;
    let axis = match args.int("axis") {
        Some(axis) => resolve_axis(axis, rank)?,
        None => {
            x = args.call.reshape(x, &[-1])?;
            rank = 1;
            0
        }
    };
    let counts = args.ints("repeats")?.unwrap_or_default();
    if let [count] = counts[..] {
        let count = usize::try_from(count).map_err(|_| Error::mismatch("a negative count"))?;
        return super::super::upsampling::repeat(args.call, x, axis, count, rank);
    }
    let total = counts.iter().try_fold(0i64, |sum, &n| sum.checked_add(n));
    if total.is_none_or(|t| t > 1 << 24) {
        return Err(Error::limit("too many repetitions"));
    }
    let indices: Vec<i64> = counts
        .iter()
        .enumerate()
        .flat_map(|(i, &n)| std::iter::repeat_n(i as i64, usize::try_from(n).unwrap_or(0)))
        .collect();
    let (indices, axis) = (args.call.ints(&indices)?, args.call.int(axis as i64)?);
    args.call.apply("GatherV2", &[x, indices, axis])
}

fn broadcast_to(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let shape = args.shape("shape")?;
    args.call.apply("BroadcastTo", &[x, shape])
}

fn flip(args: &mut Args<'_, '_>, axis: Option<i64>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axes = match axis {
        Some(axis) => vec![axis],
        None => args.axes("axis", rank)?,
    };
    let axes = args.call.ints(&axes)?;
    args.call.apply("ReverseV2", &[x, axes])
}

fn roll(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let shifts = args.ints("shift")?.unwrap_or_default();
    let shift = args.call.ints(&shifts)?;
    match args.ints("axis")? {
        Some(axes) => {
            let axes = args.call.ints(&axes)?;
            args.call.apply("Roll", &[x, shift, axes])
        }
        None => {
            let (flat, shape, axis) =
                (args.call.reshape(x, &[-1])?, args.call.apply("Shape", &[x])?, args.call.ints(&[0])?);
            let rolled = args.call.apply("Roll", &[flat, shift, axis])?;
            args.call.apply("Reshape", &[rolled, shape])
        }
    }
}

fn take(args: &mut Args<'_, '_>) -> Result<Sym> {
    let mut x = args.tensor("x")?;
    let mut indices = args.indices("indices")?;
    let batch = args.int("batch_dims").unwrap_or(0);
    let axis = match (args.int("axis"), args.keras2) {
        (Some(axis), _) => axis,
        (None, true) => batch,
        (None, false) => {
            x = args.call.reshape(x, &[-1])?;
            0
        }
    };
    if !args.keras2 {
        // Negative indices count from the end.
        let rank = args.call.spec(x).rank().unwrap_or(1);
        let extent = args.call.extent(x, resolve_axis(axis, rank)?)?;
        let (extent, zero) = (args.call.cast(extent, args.call.dtype(indices))?, args.call.scalar(0.0, indices)?);
        let negative = args.call.apply("Less", &[indices, zero])?;
        let wrapped = args.call.apply("AddV2", &[indices, extent])?;
        indices = args.call.apply("SelectV2", &[negative, wrapped, indices])?;
    }
    let axis = args.call.int(axis)?;
    Ok(args.call.op("GatherV2").inputs(&[x, indices, axis]).attr("batch_dims", batch).one()?)
}

fn take_along(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let indices = args.indices("indices")?;
    let rank = rank(args, "x", x)?;
    let axis = args.axis("axis", -1, rank)?;
    let mut order: Vec<usize> = (0..rank).filter(|a| *a != axis).collect();
    order.push(axis);
    let (x, indices) = (args.call.transpose(x, &order)?, args.call.transpose(indices, &order)?);
    let last = args.call.int(rank as i64 - 1)?;
    let gather = args.call.op("GatherV2").inputs(&[x, indices, last]);
    let taken = gather.attr("batch_dims", rank as i64 - 1).one()?;
    let mut back = vec![0; rank];
    for (to, &from) in order.iter().enumerate() {
        back[from] = to;
    }
    args.call.transpose(taken, &back)
}

fn gather_nd(args: &mut Args<'_, '_>) -> Result<Sym> {
    let (x, indices) = (args.tensor("x")?, args.indices("indices")?);
    args.call.apply("GatherNd", &[x, indices])
}

fn choose(args: &mut Args<'_, '_>) -> Result<Sym> {
    let condition = args.tensor("condition")?;
    let condition = args.call.cast(condition, DType::Bool)?;
    if args.find("x1").is_none() {
        return args.call.apply("Where", &[condition]);
    }
    let [a, b] = args.pair("x1", "x2")?;
    args.call.apply("SelectV2", &[condition, a, b])
}

fn pad(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let rank = rank(args, "x", x)?;
    let given = args.value("pad_width").ok_or_else(|| Error::unsupported("paddings that aren't constant"))?;
    let pair = |v: &serde_json::Value| match v {
        serde_json::Value::Array(both) => Some([both.first()?.as_i64()?, both.last()?.as_i64()?]),
        one => Some([one.as_i64()?; 2]),
    };
    let items = given.as_array().cloned().unwrap_or_default();
    let flat_pair = items.len() == 2 && items.iter().all(serde_json::Value::is_i64);
    let pairs: Option<Vec<[i64; 2]>> = match () {
        () if items.is_empty() || flat_pair => pair(&given).map(|p| vec![p; rank]),
        () if items.len() == 1 => pair(&items[0]).map(|p| vec![p; rank]),
        () => items.iter().map(pair).collect(),
    };
    let pairs = pairs.ok_or_else(|| crate::config::expected("pairs of paddings", &given))?;
    let paddings = args.call.ints(&pairs.concat())?;
    let paddings = args.call.reshape(paddings, &[-1, 2])?;
    match args.text("mode").unwrap_or_default().to_ascii_lowercase().as_str() {
        "reflect" => Ok(args.call.op("MirrorPad").inputs(&[x, paddings]).attr("mode", "REFLECT").one()?),
        "symmetric" => Ok(args.call.op("MirrorPad").inputs(&[x, paddings]).attr("mode", "SYMMETRIC").one()?),
        "constant" | "" => {
            let value = match args.find("constant_values") {
                Some(_) => args.like("constant_values", x)?,
                None => args.call.scalar(0.0, x)?,
            };
            args.call.apply("PadV2", &[x, paddings, value])
        }
        other => Err(Error::unsupported(format!("padding of mode {other:?}"))),
    }
}

/// One-hot vectors, or their union over an axis.
fn one_hot(args: &mut Args<'_, '_>, x: &str, many: bool) -> Result<Sym> {
    let indices = args.tensor(x)?;
    let wide = args.call.dtype(indices).is_integer();
    let indices = if wide { indices } else { args.call.cast(indices, DType::I64)? };
    let dtype = args.dtype("dtype")?.unwrap_or(DType::F32);
    let unit = args.call.constant(crate::config::numbers(&[1.0], &[], dtype)?)?;
    let zero = args.call.constant(crate::config::numbers(&[0.0], &[], dtype)?)?;
    let on = if args.find("on_value").is_some() { args.like("on_value", unit)? } else { unit };
    let off = if args.find("off_value").is_some() { args.like("off_value", unit)? } else { zero };
    let depth = args.indices("num_classes")?;
    let axis = args.int("axis").unwrap_or(-1);
    let hot = args.call.op("OneHot").inputs(&[indices, depth, on, off]).attr("axis", if many { -1 } else { axis }).one()?;
    if !many {
        return Ok(hot);
    }
    let rank = rank(args, x, indices)?;
    args.call.reduce("Max", hot, &[(rank as i64 - 1).max(0)], false)
}

fn shape_of(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let dtype = args.dtype("out_type")?.unwrap_or(DType::I32);
    Ok(args.call.op("Shape").input(x).attr("out_type", dtype).one()?)
}

fn size_of(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    args.call.apply("Size", &[x])
}

fn filled(args: &mut Args<'_, '_>) -> Result<Sym> {
    let mut x = args.tensor("x")?;
    if let Some(dtype) = args.dtype("dtype")? {
        x = args.call.cast(x, dtype)?;
    }
    let ones = args.call.apply("OnesLike", &[x])?;
    let value = args.like("fill_value", x)?;
    args.call.apply(if args.call.dtype(x) == DType::Bool { "LogicalAnd" } else { "Mul" }, &[ones, value])
}

fn fill(args: &mut Args<'_, '_>, value: f64) -> Result<Sym> {
    let shape = args.shape("shape")?;
    let dtype = args.dtype("dtype")?.unwrap_or(DType::F32);
    let value = args.call.constant(crate::config::numbers(&[value], &[], dtype)?)?;
    args.call.apply("Fill", &[shape, value])
}

fn fill_with(args: &mut Args<'_, '_>) -> Result<Sym> {
    let shape = args.shape("shape")?;
    let value = args.tensor("fill_value")?;
    args.call.apply("Fill", &[shape, value])
}

fn range(args: &mut Args<'_, '_>) -> Result<Sym> {
    let dtype = args.dtype("dtype")?;
    let first = args.tensor("start")?;
    let dtype = dtype.unwrap_or(args.call.dtype(first));
    let first = args.call.cast(first, dtype)?;
    let step = if args.find("step").is_some() { args.like("step", first)? } else { args.call.scalar(1.0, first)? };
    let (start, stop) = match args.find("stop") {
        Some(_) => (first, args.like("stop", first)?),
        None => (args.call.scalar(0.0, first)?, first),
    };
    args.call.apply("Range", &[start, stop, step])
}

fn diagonal_part(args: &mut Args<'_, '_>, upper: bool) -> Result<Sym> {
    let x = args.tensor("x")?;
    let k = args.int("k").unwrap_or(0);
    let all = args.call.int(-1)?;
    let (low, high) = match upper {
        true if k <= 0 => (args.call.int(-k)?, all),
        false if k >= 0 => (all, args.call.int(k)?),
        // What the band keeps is what the other one leaves.
        true => {
            let high = args.call.int(k - 1)?;
            let rest = args.call.apply("MatrixBandPart", &[x, all, high])?;
            return args.call.apply("Sub", &[x, rest]);
        }
        false => {
            let low = args.call.int(-k - 1)?;
            let rest = args.call.apply("MatrixBandPart", &[x, low, all])?;
            return args.call.apply("Sub", &[x, rest]);
        }
    };
    args.call.apply("MatrixBandPart", &[x, low, high])
}

fn band_part(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let (low, high) = (args.indices("num_lower")?, args.indices("num_upper")?);
    args.call.apply("MatrixBandPart", &[x, low, high])
}

fn sort(args: &mut Args<'_, '_>, indices: bool) -> Result<Sym> {
    let mut x = args.tensor("x")?;
    if indices && args.call.dtype(x) == DType::Bool {
        x = args.call.cast(x, DType::I32)?;
    }
    let rank = rank(args, "x", x)?;
    let axis = args.axis("axis", -1, rank)?;
    let descends = args.text("direction").is_some_and(|d| d.eq_ignore_ascii_case("DESCENDING"));
    let mut order: Vec<usize> = (0..rank).filter(|a| *a != axis).collect();
    order.push(axis);
    let mut back = vec![0; rank];
    for (to, &from) in order.iter().enumerate() {
        back[from] = to;
    }
    let moved = args.call.transpose(x, &order)?;
    let count = args.call.extent(x, axis)?;
    let ranked = if descends { moved } else { args.call.apply("Neg", &[moved])? };
    let both = args.call.op("TopKV2").inputs(&[ranked, count]).all()?;
    let [values, places] = crate::layer::inputs(&both)?;
    let y = match (indices, descends) {
        (true, _) => places,
        (false, true) => values,
        (false, false) => args.call.apply("Neg", &[values])?,
    };
    args.call.transpose(y, &back)
}

fn top_k(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.tensor("x")?;
    let k = if args.find("k").is_some() { args.indices("k")? } else { args.call.int(1)? };
    let sorted = args.find("sorted").is_none() || args.flag("sorted");
    Ok(args.call.op("TopKV2").inputs(&[x, k]).attr("sorted", sorted).all()?)
}

fn in_top_k(args: &mut Args<'_, '_>) -> Result<Sym> {
    let (targets, predictions) = (args.indices("targets")?, args.tensor("predictions")?);
    let k = args.indices("k")?;
    let k = args.call.cast(k, args.call.dtype(targets))?;
    args.call.apply("InTopKV2", &[predictions, targets, k])
}

fn sequence_mask(args: &mut Args<'_, '_>) -> Result<Sym> {
    let lengths = args.tensor("x")?;
    let most = match args.find("maxlen") {
        Some(_) => args.like("maxlen", lengths)?,
        None => {
            let rank = rank(args, "x", lengths)?;
            let axes: Vec<i64> = (0..rank as i64).collect();
            args.call.reduce("Max", lengths, &axes, false)?
        }
    };
    let (zero, one) = (args.call.scalar(0.0, lengths)?, args.call.scalar(1.0, lengths)?);
    let steps = args.call.apply("Range", &[zero, most, one])?;
    let last = args.call.int(-1)?;
    let lengths = args.call.apply("ExpandDims", &[lengths, last])?;
    let mask = args.call.apply("Less", &[steps, lengths])?;
    match args.dtype("dtype")? {
        Some(dtype) => args.call.cast(mask, dtype),
        None => Ok(mask),
    }
}

fn difference(args: &mut Args<'_, '_>) -> Result<Sym> {
    let mut x = args.tensor("a")?;
    let rank = rank(args, "a", x)?;
    let axis = args.axis("axis", -1, rank)?;
    let times = args.int("n").unwrap_or(1);
    if times > 64 {
        return Err(Error::limit(format!("{times} differences of differences")));
    }
    for _ in 0..times {
        let mut slices = vec![(None, None, 1); axis];
        slices.push((Some(1), None, 1));
        let after = args.call.slice(x, &slices)?;
        slices.pop();
        slices.push((None, Some(-1), 1));
        let before = args.call.slice(x, &slices)?;
        let op = if args.call.dtype(x) == DType::Bool { "NotEqual" } else { "Sub" };
        x = args.call.apply(op, &[after, before])?;
    }
    Ok(x)
}

fn bucketed(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    // A list, or an array of NumPy's in a wrapping of its own.
    let bins = args.value("bins").and_then(|v| {
        let all = v.pointer("/config/value").unwrap_or(&v).as_array()?;
        all.iter().map(|bin| bin.as_f64().map(|f| f as f32)).collect::<Option<Vec<f32>>>()
    });
    let bins = bins.ok_or_else(|| Error::unsupported("bins that aren't constant"))?;
    Ok(args.call.op("Bucketize").input(x).attr("boundaries", bins).one()?)
}

pub(super) const ROWS: &[Row] = &[
    row("numpy.Reshape(x; newshape) = reshape(tensor:x shape:newshape) | compat.v1.reshape(tensor:x shape:newshape)", One(reshape)),
    row("numpy.Ravel(x)", One(|a| { let x = a.tensor("x")?; a.call.reshape(x, &[-1]) })),
    row("numpy.ExpandDims(x; axis) = expand_dims(input:x axis) | compat.v1.expand_dims(input:x axis)", One(expand)),
    row("numpy.Squeeze(x; axis) = squeeze(input:x axis) | compat.v1.squeeze(input:x axis)", One(squeeze)),
    row("numpy.Transpose(x; axes) = transpose(a:x perm:axes conjugate) | compat.v1.transpose(a:x perm:axes conjugate)", One(transpose)),
    row("= linalg.matrix_transpose(a:x conjugate)", One(|a| {
        let x = a.tensor("x")?;
        let rank = rank(a, "x", x)?;
        let mut order: Vec<usize> = (0..rank).collect();
        if rank > 1 {
            order.swap(rank - 1, rank - 2);
        }
        a.call.transpose(x, &order)
    })),
    row("numpy.Swapaxes(x; axis1 axis2)", One(swap)),
    row("numpy.Moveaxis(x; source destination)", One(move_axis)),
    row("numpy.Concatenate(xs; axis) = concat(values:xs axis) | compat.v1.concat(values:xs axis)", One(|a| concatenate(a, "xs", 0))),
    row("numpy.Append(x1 x2; axis)", One(|a| {
        let (mut x, mut y) = (a.tensor("x1")?, a.tensor("x2")?);
        if a.int("axis").is_none() {
            x = a.call.reshape(x, &[-1])?;
            y = a.call.reshape(y, &[-1])?;
        }
        let axis = a.int("axis").unwrap_or(0);
        a.call.concat(&[x, y], axis)
    })),
    row("numpy.Hstack(xs)", One(|a| concatenate(a, "xs", 1))),
    row("numpy.Vstack(xs)", One(|a| concatenate(a, "xs", 0))),
    row("numpy.Stack(x; axis) = stack(values:x axis)", One(stack)),
    row("core.Unstack(x; num axis) = unstack(value:x num axis)", Many(unstack)),
    row("numpy.Split(x; indices_or_sections axis) = split(value:x num_or_size_splits:indices_or_sections axis)", Many(|a| split(a, None))),
    row("numpy.ArraySplit(x; indices_or_sections axis)", Many(|a| split(a, None))),
    row("numpy.Hsplit(x; indices_or_sections)", Many(columns)),
    row("numpy.Vsplit(x; indices_or_sections)", Many(|a| split(a, Some(0)))),
    row("numpy.Dsplit(x; indices_or_sections)", Many(|a| split(a, Some(2)))),
    row("numpy.Dstack(xs)", One(|a| concatenate(a, "xs", 2))),
    row("numpy.Rot90(array; k axes)", One(rotated)),
    row("numpy.Meshgrid(x; indexing)", Many(mesh)),
    row("numpy.Nonzero(x)", Many(nonzero)),
    row("numpy.UnravelIndex(indices; shape)", Many(unraveled)),
    row("numpy.Select(condlist choicelist default)", One(selected)),
    row("core.Scatter(indices values; shape) = scatter_nd(indices updates:values shape)", One(scattered)),
    row("core.ScatterUpdate(inputs indices updates; reduction)", One(scatter_update)),
    row("core.SliceUpdate(inputs start_indices updates)", One(slice_update)),
    row("numpy.Tile(x; repeats) = tile(input:x multiples:repeats)", One(tile)),
    row("numpy.Repeat(x; repeats axis) = repeat(input:x repeats axis)", One(repeat)),
    row("numpy.BroadcastTo(x; shape) = broadcast_to(input:x shape)", One(broadcast_to)),
    row("numpy.Flip(x; axis) = reverse(tensor:x axis)", One(|a| flip(a, None))),
    row("numpy.Fliplr(x)", One(|a| flip(a, Some(1)))),
    row("numpy.Flipud(x)", One(|a| flip(a, Some(0)))),
    row("numpy.Roll(x; shift axis) = roll(input:x shift axis)", One(roll)),
    row("numpy.Take(x indices; axis) = gather(params:x indices validate_indices axis batch_dims) | compat.v1.gather(params:x indices validate_indices axis batch_dims)", One(take)),
    row("numpy.TakeAlongAxis(x indices; axis)", One(take_along)),
    row("= gather_nd(params:x indices batch_dims) | compat.v1.gather_nd(params:x indices batch_dims)", One(gather_nd)),
    row("numpy.Where(condition x1 x2) = where(condition x:x1 y:x2) | compat.v1.where(condition x:x1 y:x2)", One(choose)),
    row("numpy.Pad(x constant_values; pad_width mode) = pad(tensor:x paddings:pad_width mode constant_values) | compat.v1.pad(tensor:x paddings:pad_width mode constant_values)", One(pad)),
    row("nn.OneHot(x; num_classes axis dtype sparse) = one_hot(indices:x depth:num_classes on_value off_value axis dtype)", One(|a| one_hot(a, "x", false))),
    row("nn.MultiHot(inputs; num_classes axis dtype sparse)", One(|a| one_hot(a, "inputs", true))),
    row("numpy.Shape(x) = shape(input:x out_type) | compat.v1.shape(input:x out_type)", One(shape_of)),
    row("numpy.Size(x) = size(input:x out_type) | compat.v1.size(input:x out_type)", One(size_of)),
    row("numpy.Ndim(x) = rank(input:x)", One(|a| { let x = a.tensor("x")?; a.call.apply("Rank", &[x]) })),
    row("numpy.FullLike(x fill_value; dtype)", One(filled)),
    row("numpy.Full(fill_value; shape dtype) = fill(dims:shape value:fill_value)", One(fill_with)),
    row("numpy.Zeros(; shape dtype) = zeros(shape dtype)", One(|a| fill(a, 0.0))),
    row("numpy.Ones(; shape dtype) = ones(shape dtype)", One(|a| fill(a, 1.0))),
    row("numpy.Arange(start stop step; dtype) = range(start limit:stop delta:step dtype)", One(range)),
    row("numpy.Tril(x; k)", One(|a| diagonal_part(a, false))),
    row("numpy.Triu(x; k)", One(|a| diagonal_part(a, true))),
    row("= linalg.band_part(input:x num_lower num_upper)", One(band_part)),
    row("numpy.Sort(x; axis) = sort(values:x axis direction)", One(|a| sort(a, false))),
    row("numpy.Argsort(x; axis) = argsort(values:x axis direction stable)", One(|a| sort(a, true))),
    row("math.TopK(x; k sorted) = math.top_k(input:x k sorted) | nn.top_k(input:x k sorted)", Many(top_k)),
    row("math.InTopK(targets predictions; k) = math.in_top_k(targets predictions k) | nn.in_top_k(targets predictions k)", One(in_top_k)),
    row("= sequence_mask(lengths:x maxlen dtype)", One(sequence_mask)),
    row("numpy.Diff(a; n axis)", One(difference)),
    row("numpy.Digitize(x bins)", One(bucketed)),
];
