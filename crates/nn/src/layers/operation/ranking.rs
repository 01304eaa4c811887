//! Ops by the order of values: medians and quantiles, histograms, distinct values, places in sorted ones.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::reductions::rank;
use super::table::Form::{Many, One};
use super::table::{Row, row};
use crate::config::numbers;

/// What a quantile is taken of: values with those of a group in a row along the last axis, and the reduced axes.
fn grouped(args: &mut Args<'_, '_>) -> Result<(Sym, Vec<usize>, usize)> {
    let x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axes: Vec<usize> = args.axes("axis", rank)?.into_iter().filter_map(|a| usize::try_from(a).ok()).collect();
    let kept: Vec<usize> = (0..rank).filter(|a| !axes.contains(a)).collect();
    let order: Vec<usize> = kept.iter().chain(&axes).copied().collect();
    let moved = args.call.transpose(x, &order)?;
    let shape = args.call.apply("Shape", &[moved])?;
    let leading = args.call.slice(shape, &[(None, Some(kept.len() as i64), 1)])?;
    let rest = args.call.ints(&[-1])?;
    let shape = args.call.concat(&[leading, rest], 0)?;
    Ok((args.call.apply("Reshape", &[moved, shape])?, axes, rank))
}

/// Values in a row, the least first.
fn ascending(args: &mut Args<'_, '_>, x: Sym) -> Result<[Sym; 2]> {
    let shape = args.call.apply("Shape", &[x])?;
    let count = args.call.slice(shape, &[(Some(-1), None, 1)])?;
    let count = args.call.reshape(count, &[])?;
    let turned = args.call.apply("Neg", &[x])?;
    let both = args.call.op("TopKV2").inputs(&[turned, count]).all()?;
    let [values, places] = crate::layer::inputs(&both)?;
    Ok([args.call.apply("Neg", &[values])?, places])
}

/// Quantiles along axes; `scale` divides what is given, `skips` leaves out what is not a number.
fn quantiles(args: &mut Args<'_, '_>, given: Option<f64>, scale: f64, skips: bool) -> Result<Sym> {
    let (x, axes, all) = grouped(args)?;
    let missing = args.call.apply("IsNan", &[x])?;
    let most = args.call.scalar(f64::INFINITY, x)?;
    let shown = args.call.apply("SelectV2", &[missing, most, x])?;
    let [sorted, _] = ascending(args, shown)?;
    let there = args.call.apply("LogicalNot", &[missing])?;
    let there = args.call.cast(there, args.call.dtype(x))?;
    let count = args.call.reduce("Sum", there, &[-1], true)?;
    let one = args.call.scalar(1.0, x)?;
    let last = args.call.apply("Sub", &[count, one])?;
    let missed = args.call.reduce("Any", missing, &[-1], true)?;
    let unknown = args.call.scalar(f64::NAN, x)?;
    let listed = args.value("q").is_some_and(|v| v.is_array());
    let wanted = match given {
        Some(one) => vec![one],
        None => {
            let constant = || Error::unsupported("quantiles that aren't constant");
            match args.value("q").ok_or_else(constant)? {
                serde_json::Value::Array(all) => all.iter().filter_map(serde_json::Value::as_f64).collect(),
                one => vec![one.as_f64().ok_or_else(constant)?],
            }
        }
    };
    let method = args.text("method").unwrap_or_else(|| "linear".to_owned());
    let batch = (all - axes.len()) as i64;
    let mut made = Vec::with_capacity(wanted.len());
    for q in wanted {
        let share = args.call.scalar(q * scale, x)?;
        let place = args.call.apply("Mul", &[last, share])?;
        let (below, above) = (args.call.apply("Floor", &[place])?, args.call.apply("Ceil", &[place])?);
        let at = |args: &mut Args<'_, '_>, place: Sym| -> Result<Sym> {
            let zero = args.call.scalar(0.0, place)?;
            let place = args.call.apply("Maximum", &[place, zero])?;
            let place = args.call.cast(place, DType::I32)?;
            let axis = args.call.int(batch)?;
            Ok(args.call.op("GatherV2").inputs(&[sorted, place, axis]).attr("batch_dims", batch).one()?)
        };
        let y = match method.as_str() {
            "lower" => at(args, below)?,
            "higher" => at(args, above)?,
            "nearest" => {
                let near = args.call.apply("Round", &[place])?;
                at(args, near)?
            }
            "midpoint" | "linear" => {
                let (low, high) = (at(args, below)?, at(args, above)?);
                let share = match method.as_str() {
                    "linear" => args.call.apply("Sub", &[place, below])?,
                    _ => args.call.scalar(0.5, x)?,
                };
                let extent = args.call.apply("Sub", &[high, low])?;
                let more = args.call.apply("Mul", &[extent, share])?;
                // Where both are one value, its difference to itself may be not a number.
                let y = args.call.apply("AddV2", &[low, more])?;
                let same = args.call.apply("Equal", &[low, high])?;
                args.call.apply("SelectV2", &[same, low, y])?
            }
            other => return Err(Error::unsupported(format!("quantiles by the method {other:?}"))),
        };
        let unknowable = if skips {
            let zero = args.call.scalar(0.0, count)?;
            args.call.apply("Equal", &[count, zero])?
        } else {
            missed
        };
        let y = args.call.apply("SelectV2", &[unknowable, unknown, y])?;
        let mut y = args.call.op("Squeeze").input(y).attr("squeeze_dims", vec![-1i64]).one()?;
        if args.flag("keepdims") {
            for &axis in &axes {
                let axis = args.call.int(axis as i64)?;
                y = args.call.apply("ExpandDims", &[y, axis])?;
            }
        }
        made.push(y);
    }
    match made[..] {
        [one] if !listed => Ok(one),
        _ => Ok(args.call.op("Pack").inputs(&made).attr("axis", 0i64).one()?),
    }
}

fn search_sorted(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [sorted, values] = args.pair("sorted_sequence", "values")?;
    let shape = args.call.apply("Shape", &[values])?;
    let (rows, all) = (args.call.reshape(sorted, &[1, -1])?, args.call.reshape(values, &[1, -1])?);
    let op = if args.text("side").as_deref() == Some("right") { "UpperBound" } else { "LowerBound" };
    let found = args.call.op(op).inputs(&[rows, all]).attr("out_type", DType::I32).one()?;
    args.call.apply("Reshape", &[found, shape])
}

fn bin_count(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.indices("x")?;
    if args.flag("sparse") {
        return Err(Error::unsupported("sparse counts"));
    }
    let rank = rank(args, "x", x)?;
    let axes: Vec<i64> = (0..rank as i64).collect();
    let most = args.call.reduce("Max", x, &axes, false)?;
    let one = args.call.scalar(1.0, most)?;
    let size = args.call.apply("AddV2", &[most, one])?;
    let least = args.call.scalar(args.float("minlength").unwrap_or(0.0), size)?;
    let size = args.call.apply("Maximum", &[size, least])?;
    let weights = match args.maybe("weights")? {
        Some(weights) => weights,
        None => args.call.constant(numbers(&[], &[0], DType::I32)?)?,
    };
    args.call.apply("DenseBincount", &[x, size, weights])
}

/// Counts of values in even ranges, and the ranges' edges.
fn histogram(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.float_tensor("x")?;
    let x = args.call.reshape(x, &[-1])?;
    let bins = args.int("bins").unwrap_or(10);
    if !(1..=1 << 20).contains(&bins) {
        return Err(Error::limit(format!("{bins} ranges")));
    }
    let [low, high] = match args.value("range").and_then(|r| Some([r.get(0)?.as_f64()?, r.get(1)?.as_f64()?])) {
        Some([low, high]) => [args.call.scalar(low, x)?, args.call.scalar(high, x)?],
        None => [args.call.reduce("Min", x, &[0], false)?, args.call.reduce("Max", x, &[0], false)?],
    };
    let steps: Vec<f64> = (0..=bins).map(|i| i as f64 / bins as f64).collect();
    let steps = args.call.constant(numbers(&steps, &[steps.len()], args.call.dtype(x))?)?;
    let extent = args.call.apply("Sub", &[high, low])?;
    let edges = args.call.apply("Mul", &[steps, extent])?;
    let edges = args.call.apply("AddV2", &[edges, low])?;
    let (rows, all) = (args.call.reshape(edges, &[1, -1])?, args.call.reshape(x, &[1, -1])?);
    let place = args.call.op("UpperBound").inputs(&[rows, all]).attr("out_type", DType::I32).one()?;
    let place = args.call.reshape(place, &[-1])?;
    let (one, end) = (args.call.int(1)?, args.call.int(bins - 1)?);
    let place = args.call.apply("Sub", &[place, one])?;
    // The last range has both of its edges.
    let place = args.call.apply("Minimum", &[place, end])?;
    let inside = [args.call.apply("GreaterEqual", &[x, low])?, args.call.apply("LessEqual", &[x, high])?];
    let inside = args.call.apply("LogicalAnd", &inside)?;
    let inside = args.call.cast(inside, DType::I32)?;
    let zero = args.call.int(0)?;
    let place = args.call.apply("Maximum", &[place, zero])?;
    let count = args.call.int(bins)?;
    Ok(vec![args.call.apply("UnsortedSegmentSum", &[inside, place, count])?, edges])
}

/// The distinct values, sorted, and what is asked for beside them: first places, which one each is, counts.
fn unique(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    for option in ["axis", "size"] {
        if args.find(option).is_some() {
            return Err(Error::unsupported(format!("distinct values with {option}")));
        }
    }
    let x = args.tensor("x")?;
    let shape = args.call.apply("Shape", &[x])?;
    let flat = args.call.reshape(x, &[-1])?;
    let found = args.call.op("UniqueWithCounts").input(flat).all()?;
    let [values, which, counts] = crate::layer::inputs(&found)?;
    let [sorted, order] = ascending(args, values)?;
    let axis = args.call.int(0)?;
    let mut made = vec![sorted];
    if args.flag("return_index") {
        let (size, one) = (args.call.apply("Size", &[flat])?, args.call.int(1)?);
        let places = args.call.apply("Range", &[axis, size, one])?;
        let kinds = args.call.apply("Size", &[values])?;
        let first = args.call.apply("UnsortedSegmentMin", &[places, which, kinds])?;
        made.push(args.call.apply("GatherV2", &[first, order, axis])?);
    }
    if args.flag("return_inverse") {
        let back = args.call.apply("InvertPermutation", &[order])?;
        let inverse = args.call.apply("GatherV2", &[back, which, axis])?;
        made.push(args.call.apply("Reshape", &[inverse, shape])?);
    }
    if args.flag("return_counts") {
        made.push(args.call.apply("GatherV2", &[counts, order, axis])?);
    }
    Ok(made)
}

fn is_in(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [x, among] = args.pair("x1", "x2")?;
    let last = args.call.int(-1)?;
    let (x, among) = (args.call.apply("ExpandDims", &[x, last])?, args.call.reshape(among, &[-1])?);
    let same = args.call.apply("Equal", &[x, among])?;
    let found = args.call.reduce("Any", same, &[-1], false)?;
    if args.flag("invert") { args.call.apply("LogicalNot", &[found]) } else { Ok(found) }
}

/// The place of the largest or smallest value that is a number; -1 where there is none.
fn nan_arg(args: &mut Args<'_, '_>, op: &str, neutral: f64) -> Result<Sym> {
    let mut x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axis = match args.int("axis") {
        Some(axis) => crate::config::resolve_axis(axis, rank)? as i64,
        None => {
            x = args.call.reshape(x, &[-1])?;
            0
        }
    };
    let missing = args.call.apply("IsNan", &[x])?;
    let neutral = args.call.scalar(neutral, x)?;
    let shown = args.call.apply("SelectV2", &[missing, neutral, x])?;
    let at = args.call.int(axis)?;
    let found = args.call.op(op).inputs(&[shown, at]).attr("output_type", DType::I32).one()?;
    let none = args.call.reduce("All", missing, &[axis], false)?;
    let minus = args.call.int(-1)?;
    let y = args.call.apply("SelectV2", &[none, minus, found])?;
    if !args.flag("keepdims") {
        return Ok(y);
    }
    match args.int("axis") {
        Some(_) => args.call.apply("ExpandDims", &[y, at]),
        None => args.call.reshape(y, &vec![1; rank]),
    }
}

fn nan_scan(args: &mut Args<'_, '_>, op: &str, neutral: f64) -> Result<Sym> {
    let mut x = args.float_tensor("x")?;
    if let Some(dtype) = args.dtype("dtype")? {
        x = args.call.cast(x, dtype)?;
    }
    let rank = rank(args, "x", x)?;
    let axis = match args.int("axis") {
        Some(axis) => crate::config::resolve_axis(axis, rank)? as i64,
        None => {
            x = args.call.reshape(x, &[-1])?;
            0
        }
    };
    let (missing, neutral) = (args.call.apply("IsNan", &[x])?, args.call.scalar(neutral, x)?);
    let shown = args.call.apply("SelectV2", &[missing, neutral, x])?;
    let axis = args.call.int(axis)?;
    args.call.apply(op, &[shown, axis])
}

fn nan_variance(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    let (axes, keep) = (args.axes("axis", rank)?, args.flag("keepdims"));
    let missing = args.call.apply("IsNan", &[x])?;
    let zeros = args.call.apply("ZerosLike", &[x])?;
    let there = args.call.apply("LogicalNot", &[missing])?;
    let there = args.call.cast(there, args.call.dtype(x))?;
    let mean = |args: &mut Args<'_, '_>, y: Sym, keep: bool| -> Result<Sym> {
        let y = args.call.apply("SelectV2", &[missing, zeros, y])?;
        let both = [args.call.reduce("Sum", y, &axes, keep)?, args.call.reduce("Sum", there, &axes, keep)?];
        args.call.apply("RealDiv", &both)
    };
    let middle = mean(args, x, true)?;
    let apart = args.call.apply("SquaredDifference", &[x, middle])?;
    mean(args, apart, keep)
}

fn sparsemax(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axis = args.axis("axis", -1, rank)?;
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(axis, rank - 1);
    let x = args.call.transpose(x, &order)?;
    let shape = args.call.apply("Shape", &[x])?;
    let count = args.call.slice(shape, &[(Some(-1), None, 1)])?;
    let count = args.call.reshape(count, &[])?;
    let both = args.call.op("TopKV2").inputs(&[x, count]).all()?;
    let [sorted, _] = crate::layer::inputs(&both)?;
    let last = args.call.int(-1)?;
    let sums = args.call.apply("Cumsum", &[sorted, last])?;
    let one = args.call.scalar(1.0, x)?;
    let (zero, step) = (args.call.int(1)?, args.call.int(1)?);
    let end = args.call.apply("AddV2", &[count, step])?;
    let places = args.call.apply("Range", &[zero, end, step])?;
    let places = args.call.cast(places, args.call.dtype(x))?;
    let reach = args.call.apply("Mul", &[places, sorted])?;
    let reach = args.call.apply("AddV2", &[reach, one])?;
    let supports = args.call.apply("Greater", &[reach, sums])?;
    let supports = args.call.cast(supports, args.call.dtype(x))?;
    let support = args.call.reduce("Sum", supports, &[-1], true)?;
    // Keras sums the sums, not the values.
    let held = args.call.apply("Mul", &[sums, supports])?;
    let sum = args.call.reduce("Sum", held, &[-1], true)?;
    let over = args.call.apply("Sub", &[sum, one])?;
    let threshold = args.call.apply("RealDiv", &[over, support])?;
    let y = args.call.apply("Sub", &[x, threshold])?;
    let y = args.call.apply("Relu", &[y])?;
    args.call.transpose(y, &order)
}

pub(super) const ROWS: &[Row] = &[
    row("numpy.Median(x; axis keepdims)", One(|a| quantiles(a, Some(0.5), 1.0, false))),
    row("numpy.Nanmedian(x; axis keepdims)", One(|a| quantiles(a, Some(0.5), 1.0, true))),
    // This class of Keras's has a method, but interpolates whatever it says.
    row("numpy.Quantile(x q; axis keepdims)", One(|a| quantiles(a, None, 1.0, false))),
    row("numpy.Nanquantile(x q; axis method keepdims)", One(|a| quantiles(a, None, 1.0, true))),
    row("numpy.Percentile(x q; axis method keepdims)", One(|a| quantiles(a, None, 0.01, false))),
    row("numpy.Nanpercentile(x q; axis method keepdims)", One(|a| quantiles(a, None, 0.01, true))),
    row("numpy.SearchSorted(sorted_sequence values; side) = searchsorted(sorted_sequence values side)", One(search_sorted)),
    row("numpy.Bincount(x weights; minlength sparse)", One(bin_count)),
    row("numpy.Histogram(x; bins range)", Many(histogram)),
    row("numpy.Unique(x; sorted return_index return_inverse return_counts axis size fill_value)", Many(unique)),
    row("numpy.IsIn(x1 x2; assume_unique invert)", One(is_in)),
    row("numpy.Nanargmax(x; axis keepdims)", One(|a| nan_arg(a, "ArgMax", f64::NEG_INFINITY))),
    row("numpy.Nanargmin(x; axis keepdims)", One(|a| nan_arg(a, "ArgMin", f64::INFINITY))),
    row("numpy.Nancumsum(x; axis dtype)", One(|a| nan_scan(a, "Cumsum", 0.0))),
    row("numpy.Nancumprod(x; axis dtype)", One(|a| nan_scan(a, "Cumprod", 1.0))),
    row("numpy.Nanvar(x; axis keepdims)", One(nan_variance)),
    row("numpy.Nanstd(x; axis keepdims)", One(|a| { let y = nan_variance(a)?; a.call.apply("Sqrt", &[y]) })),
    row("nn.Sparsemax(x; axis)", One(sparsemax)),
];
