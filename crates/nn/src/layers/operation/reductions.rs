//! Ops along axes that give fewer values, or as many that depend on those before.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};
use serde_json::Value;

use super::arguments::Args;
use super::table::Form::{Many, One, Reduce};
use super::table::{Row, row};

/// The number of dimensions of a tensor that an argument is.
pub(super) fn rank(args: &Args<'_, '_>, name: &str, x: Sym) -> Result<usize> {
    let spec = args.find(name).and_then(|a| a.tensors().first().copied()).and_then(|i| args.given.get(i));
    match spec {
        Some(&given) => args.call.spec(given).rank(),
        None => match args.value(name).as_ref().and_then(depth) {
            Some(depth) => Ok(depth),
            None => args.call.spec(x).rank(),
        },
    }
}

/// How many dimensions numbers in lists have.
fn depth(value: &Value) -> Option<usize> {
    let mut depth = 0;
    let mut inner = value;
    while let Some(items) = inner.as_array() {
        depth += 1;
        inner = items.first()?;
    }
    inner.is_number().then_some(depth)
}

/// `x` as floats, with the axes that `axis` names.
fn along(args: &mut Args<'_, '_>) -> Result<(Sym, Vec<i64>, bool)> {
    let x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    Ok((x, args.axes("axis", rank)?, args.flag("keepdims")))
}

fn moments(args: &mut Args<'_, '_>, x: Sym, axes: &[i64], keep: bool) -> Result<[Sym; 2]> {
    let mean = args.call.reduce("Mean", x, axes, true)?;
    let apart = args.call.apply("SquaredDifference", &[x, mean])?;
    let variance = args.call.reduce("Mean", apart, axes, keep)?;
    let mean = if keep { mean } else { args.call.reduce("Mean", x, axes, false)? };
    Ok([mean, variance])
}

fn variance(args: &mut Args<'_, '_>) -> Result<Sym> {
    let (x, axes, keep) = along(args)?;
    Ok(moments(args, x, &axes, keep)?[1])
}

fn deviation(args: &mut Args<'_, '_>) -> Result<Sym> {
    let y = variance(args)?;
    args.call.apply("Sqrt", &[y])
}

fn both_moments(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axes = args.axes("axes", rank)?;
    let keep = args.flag("keepdims");
    moments(args, x, &axes, keep).map(Vec::from)
}

fn log_sum_exp(args: &mut Args<'_, '_>) -> Result<Sym> {
    let (x, axes, keep) = along(args)?;
    let most = args.call.reduce("Max", x, &axes, true)?;
    let finite = args.call.apply("IsFinite", &[most])?;
    let zeros = args.call.apply("ZerosLike", &[most])?;
    let most = args.call.apply("SelectV2", &[finite, most, zeros])?;
    let y = args.call.apply("Sub", &[x, most])?;
    let y = args.call.apply("Exp", &[y])?;
    let y = args.call.reduce("Sum", y, &axes, keep)?;
    let y = args.call.apply("Log", &[y])?;
    let most = if keep { most } else { args.call.reduce("Max", most, &axes, false)? };
    args.call.apply("AddV2", &[y, most])
}

/// The index of the largest or smallest value: Keras 3 flattens without an axis, TensorFlow takes the first.
fn arg(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let mut x = args.tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axis = match (args.int("axis"), args.keras2) {
        (None, false) => {
            x = args.call.reshape(x, &[-1])?;
            0
        }
        (axis, _) => crate::config::resolve_axis(axis.unwrap_or(0), rank)? as i64,
    };
    let dtype = args.dtype("output_type")?.unwrap_or(if args.keras2 { DType::I64 } else { DType::I32 });
    let at = args.call.int(axis)?;
    let y = args.call.op(op).inputs(&[x, at]).attr("output_type", dtype).one()?;
    if !args.flag("keepdims") {
        return Ok(y);
    }
    if args.int("axis").is_none() {
        return args.call.reshape(y, &vec![1; rank]);
    }
    args.call.apply("ExpandDims", &[y, at])
}

fn scan(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let mut x = args.tensor("x")?;
    if let Some(dtype) = args.dtype("dtype")? {
        x = args.call.cast(x, dtype)?;
    }
    if args.call.dtype(x) == DType::Bool {
        x = args.call.cast(x, DType::I32)?;
    }
    let rank = rank(args, "x", x)?;
    let axis = match (args.int("axis"), args.keras2) {
        (None, false) => {
            x = args.call.reshape(x, &[-1])?;
            0
        }
        (axis, _) => crate::config::resolve_axis(axis.unwrap_or(0), rank)? as i64,
    };
    let axis = args.call.int(axis)?;
    let (exclusive, reverse) = (args.flag("exclusive"), args.flag("reverse"));
    let scan = args.call.op(op).inputs(&[x, axis]);
    Ok(scan.attr("exclusive", exclusive).attr("reverse", reverse).one()?)
}

fn count_nonzero(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axes = args.axes("axis", rank)?;
    let zero = args.call.scalar(0.0, x)?;
    let there = args.call.apply("NotEqual", &[x, zero])?;
    let dtype = args.dtype("dtype")?.unwrap_or(if args.keras2 { DType::I64 } else { DType::I32 });
    let there = args.call.cast(there, dtype)?;
    let keep = args.flag("keepdims");
    args.call.reduce("Sum", there, &axes, keep)
}

fn average(args: &mut Args<'_, '_>) -> Result<Sym> {
    let (x, axes, _) = along(args)?;
    let Some(_) = args.find("weights") else { return args.call.reduce("Mean", x, &axes, false) };
    let mut weights = args.like("weights", x)?;
    let rank = rank(args, "x", x)?;
    // Weights of one axis stand along it.
    if let ([axis], Ok(1)) = (&axes[..], args.call.spec(weights).rank()) {
        let mut shape = vec![1i64; rank];
        if let Some(extent) = usize::try_from(*axis).ok().and_then(|a| shape.get_mut(a)) {
            *extent = -1;
        }
        weights = args.call.reshape(weights, &shape)?;
    }
    let product = args.call.apply("Mul", &[x, weights])?;
    let sum = args.call.reduce("Sum", product, &axes, false)?;
    let ones = args.call.apply("OnesLike", &[x])?;
    let weights = args.call.apply("Mul", &[ones, weights])?;
    let count = args.call.reduce("Sum", weights, &axes, false)?;
    args.call.apply("RealDiv", &[sum, count])
}

fn spread(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let rank = rank(args, "x", x)?;
    let (axes, keep) = (args.axes("axis", rank)?, args.flag("keepdims"));
    let (most, least) = (args.call.reduce("Max", x, &axes, keep)?, args.call.reduce("Min", x, &axes, keep)?);
    args.call.apply("Sub", &[most, least])
}

/// A reduction that leaves out what is not a number.
fn without_nan(args: &mut Args<'_, '_>, op: &str, neutral: f64) -> Result<Sym> {
    let (x, axes, keep) = along(args)?;
    let missing = args.call.apply("IsNan", &[x])?;
    let neutral = args.call.scalar(neutral, x)?;
    let y = args.call.apply("SelectV2", &[missing, neutral, x])?;
    if op != "Mean" {
        return args.call.reduce(op, y, &axes, keep);
    }
    let there = args.call.apply("LogicalNot", &[missing])?;
    let there = args.call.cast(there, args.call.dtype(x))?;
    let (sum, count) = (args.call.reduce("Sum", y, &axes, keep)?, args.call.reduce("Sum", there, &axes, keep)?);
    args.call.apply("RealDiv", &[sum, count])
}

/// The norm of vectors along axes (TensorFlow: `tf.norm`), or of matrices as one.
fn norm(args: &mut Args<'_, '_>) -> Result<Sym> {
    let (x, axes, keep) = along(args)?;
    let order = args.value("ord");
    let number = order.as_ref().and_then(Value::as_f64);
    let text = order.as_ref().and_then(Value::as_str).unwrap_or("");
    let size = args.call.apply("Abs", &[x])?;
    match (text, number) {
        ("euclidean" | "fro" | "", None) => args.call.reduce("EuclideanNorm", x, &axes, keep),
        ("inf" | "Infinity", _) if axes.len() == 1 => args.call.reduce("Max", size, &axes, keep),
        ("-inf" | "-Infinity", _) if axes.len() == 1 => args.call.reduce("Min", size, &axes, keep),
        (_, Some(2.0)) if axes.len() == 1 => args.call.reduce("EuclideanNorm", x, &axes, keep),
        (_, Some(1.0)) if axes.len() == 1 => args.call.reduce("Sum", size, &axes, keep),
        (_, Some(order)) if axes.len() == 1 && order > 0.0 => {
            let (order, root) = (args.call.scalar(order, x)?, args.call.scalar(1.0 / order, x)?);
            let y = args.call.apply("Pow", &[size, order])?;
            let y = args.call.reduce("Sum", y, &axes, keep)?;
            args.call.apply("Pow", &[y, root])
        }
        _ => Err(Error::unsupported(format!("a norm of order {}", order.unwrap_or_default()))),
    }
}

/// `x` divided by its norm along an axis; TensorFlow's `l2_normalize` bounds the sum of squares.
fn normalize(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axes = if args.find("axis").is_some() { args.axes("axis", rank)? } else { vec![rank as i64 - 1] };
    let axes = if args.keras2 && args.find("axis").is_none() { (0..rank as i64).collect() } else { axes };
    match args.float("order").unwrap_or(2.0) {
        2.0 => super::super::merge::l2_normalized(args.call, x, &axes),
        order => {
            let (size, power) = (args.call.apply("Abs", &[x])?, args.call.scalar(order, x)?);
            let y = args.call.apply("Pow", &[size, power])?;
            let y = args.call.reduce("Sum", y, &axes, true)?;
            let root = args.call.scalar(1.0 / order, x)?;
            let y = args.call.apply("Pow", &[y, root])?;
            let least = args.call.scalar(1e-12, x)?;
            let y = args.call.apply("Maximum", &[y, least])?;
            args.call.apply("RealDiv", &[x, y])
        }
    }
}

fn softmax(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axes = if args.find("axis").is_some() { args.axes("axis", rank)? } else { vec![rank as i64 - 1] };
    if let [axis] = axes[..] {
        return crate::config::softmax(args.call, x, op, axis);
    }
    let most = args.call.reduce("Max", x, &axes, true)?;
    let y = args.call.apply("Sub", &[x, most])?;
    let power = args.call.apply("Exp", &[y])?;
    let sum = args.call.reduce("Sum", power, &axes, true)?;
    if op == "Softmax" {
        return args.call.apply("RealDiv", &[power, sum]);
    }
    let sum = args.call.apply("Log", &[sum])?;
    args.call.apply("Sub", &[y, sum])
}

pub(super) const ROWS: &[Row] = &[
    row("numpy.Mean(x; axis keepdims) = math.reduce_mean(input_tensor:x axis keepdims) | reduce_mean(input_tensor:x axis keepdims)", Reduce("Mean")),
    row("numpy.Sum(x; axis keepdims) = math.reduce_sum(input_tensor:x axis keepdims) | reduce_sum(input_tensor:x axis keepdims)", Reduce("Sum")),
    row("numpy.Max(x; axis keepdims initial) = math.reduce_max(input_tensor:x axis keepdims) | reduce_max(input_tensor:x axis keepdims)", Reduce("Max")),
    row("numpy.Amax(x; axis keepdims)", Reduce("Max")),
    row("numpy.Min(x; axis keepdims initial) = math.reduce_min(input_tensor:x axis keepdims) | reduce_min(input_tensor:x axis keepdims)", Reduce("Min")),
    row("numpy.Amin(x; axis keepdims)", Reduce("Min")),
    row("numpy.Prod(x; axis keepdims dtype) = math.reduce_prod(input_tensor:x axis keepdims)", Reduce("Prod")),
    row("numpy.Any(x; axis keepdims) = math.reduce_any(input_tensor:x axis keepdims)", Reduce("Any")),
    row("numpy.All(x; axis keepdims) = math.reduce_all(input_tensor:x axis keepdims)", Reduce("All")),
    row("numpy.Var(x; axis keepdims) = math.reduce_variance(input_tensor:x axis keepdims)", One(variance)),
    row("numpy.Std(x; axis keepdims) = math.reduce_std(input_tensor:x axis keepdims)", One(deviation)),
    row("nn.Moments(x; axes keepdims synchronized) = nn.moments(x axes shift keepdims)", Many(both_moments)),
    row("math.Logsumexp(x; axis keepdims) = math.reduce_logsumexp(input_tensor:x axis keepdims)", One(log_sum_exp)),
    row("= math.reduce_euclidean_norm(input_tensor:x axis keepdims)", Reduce("EuclideanNorm")),
    row("linalg.Norm(x; ord axis keepdims) = norm(tensor:x ord axis keepdims) | linalg.norm(tensor:x ord axis keepdims) | compat.v1.norm(tensor:x ord axis keepdims keep_dims:keepdims)", One(norm)),
    row("nn.Normalize(x; axis order epsilon) = math.l2_normalize(x axis epsilon) | nn.l2_normalize(x axis epsilon) | linalg.l2_normalize(x axis epsilon)", One(normalize)),
    row("numpy.Argmax(x; axis keepdims) = math.argmax(input:x axis output_type) | argmax(input:x axis output_type) | compat.v1.argmax(input:x axis output_type)", One(|a| arg(a, "ArgMax"))),
    row("numpy.Argmin(x; axis keepdims) = math.argmin(input:x axis output_type) | argmin(input:x axis output_type)", One(|a| arg(a, "ArgMin"))),
    row("numpy.Cumsum(x; axis dtype) = math.cumsum(x axis exclusive reverse) | cumsum(x axis exclusive reverse)", One(|a| scan(a, "Cumsum"))),
    row("numpy.Cumprod(x; axis dtype) = math.cumprod(x axis exclusive reverse)", One(|a| scan(a, "Cumprod"))),
    row("= math.cumulative_logsumexp(x axis exclusive reverse)", One(|a| scan(a, "CumulativeLogsumexp"))),
    row("numpy.CountNonzero(x; axis) = math.count_nonzero(input:x axis keepdims dtype)", One(count_nonzero)),
    row("numpy.Average(x weights; axis)", One(average)),
    row("numpy.Ptp(x; axis keepdims)", One(spread)),
    row("numpy.Nansum(x; axis keepdims)", One(|a| without_nan(a, "Sum", 0.0))),
    row("numpy.Nanprod(x; axis keepdims)", One(|a| without_nan(a, "Prod", 1.0))),
    row("numpy.Nanmean(x; axis keepdims)", One(|a| without_nan(a, "Mean", 0.0))),
    row("numpy.Nanmax(x; axis keepdims)", One(|a| without_nan(a, "Max", f64::NEG_INFINITY))),
    row("numpy.Nanmin(x; axis keepdims)", One(|a| without_nan(a, "Min", f64::INFINITY))),
    row("nn.Softmax(x; axis) = nn.softmax(logits:x axis) | math.softmax(logits:x axis)", One(|a| softmax(a, "Softmax"))),
    row("nn.LogSoftmax(x; axis) = nn.log_softmax(logits:x axis) | math.log_softmax(logits:x axis)", One(|a| softmax(a, "LogSoftmax"))),
];
