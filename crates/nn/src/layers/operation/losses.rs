//! Losses and normalizations that Keras 3 has as ops.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::reductions::rank;
use super::table::Form::One;
use super::table::{Row, row};
use crate::config::softmax;

/// Probabilities this far from zero and one are all that a logarithm is taken of (Keras: `backend.epsilon()`).
const EPSILON: f64 = 1e-7;

fn within(args: &mut Args<'_, '_>, x: Sym) -> Result<Sym> {
    let (low, high) = (args.call.scalar(EPSILON, x)?, args.call.scalar(1.0 - EPSILON, x)?);
    let x = args.call.apply("Maximum", &[x, low])?;
    args.call.apply("Minimum", &[x, high])
}

fn binary(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("output")?;
    let target = args.like("target", x)?;
    let one = args.call.scalar(1.0, x)?;
    if args.flag("from_logits") {
        let above = args.call.apply("Relu", &[x])?;
        let product = args.call.apply("Mul", &[x, target])?;
        let size = args.call.apply("Abs", &[x])?;
        let size = args.call.apply("Neg", &[size])?;
        let size = args.call.apply("Exp", &[size])?;
        let rest = args.call.apply("Log1p", &[size])?;
        let y = args.call.apply("Sub", &[above, product])?;
        return args.call.apply("AddV2", &[y, rest]);
    }
    let x = within(args, x)?;
    let (log, other) = (args.call.apply("Log", &[x])?, args.call.apply("Sub", &[one, x])?);
    let (other, without) = (args.call.apply("Log", &[other])?, args.call.apply("Sub", &[one, target])?);
    let (first, second) = (args.call.apply("Mul", &[target, log])?, args.call.apply("Mul", &[without, other])?);
    let y = args.call.apply("AddV2", &[first, second])?;
    args.call.apply("Neg", &[y])
}

/// The logarithms of the classes' probabilities along an axis.
fn logarithms(args: &mut Args<'_, '_>, x: Sym, axis: usize) -> Result<Sym> {
    if args.flag("from_logits") {
        return softmax(args.call, x, "LogSoftmax", axis as i64);
    }
    let sum = args.call.reduce("Sum", x, &[axis as i64], true)?;
    let x = args.call.apply("RealDiv", &[x, sum])?;
    let x = within(args, x)?;
    args.call.apply("Log", &[x])
}

fn categorical(args: &mut Args<'_, '_>, sparse: bool) -> Result<Sym> {
    let x = args.float_tensor("output")?;
    let rank = rank(args, "output", x)?;
    let axis = args.axis("axis", -1, rank)?;
    let log = if sparse && !args.flag("from_logits") {
        let x = within(args, x)?;
        args.call.apply("Log", &[x])?
    } else {
        logarithms(args, x, axis)?
    };
    let target = if sparse {
        let mut target = args.indices("target")?;
        if super::reductions::rank(args, "target", target)? == rank {
            target = args.call.op("Squeeze").input(target).attr("squeeze_dims", vec![-1i64]).one()?;
        }
        let depth = args.call.extent(log, axis)?;
        let shape = args.call.apply("Shape", &[x])?;
        let depth = if args.call.spec(log).rank().is_ok() {
            depth
        } else {
            let at = args.call.slice(shape, &[(Some(axis as i64), Some(axis as i64 + 1), 1)])?;
            args.call.reshape(at, &[])?
        };
        let (on, off) = (args.call.scalar(1.0, x)?, args.call.scalar(0.0, x)?);
        args.call.op("OneHot").inputs(&[target, depth, on, off]).attr("axis", axis as i64).one()?
    } else {
        args.like("target", x)?
    };
    let product = args.call.apply("Mul", &[target, log])?;
    let sum = args.call.reduce("Sum", product, &[axis as i64], false)?;
    args.call.apply("Neg", &[sum])
}

fn signal_to_noise(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [a, b] = args.pair("x1", "x2")?;
    let rank = rank(args, "x1", a)?;
    let most = args.float("max_val").ok_or_else(|| Error::missing("the op has no max_val"))?;
    let apart = args.call.apply("SquaredDifference", &[a, b])?;
    let axes: Vec<i64> = (0..rank as i64).collect();
    let error = args.call.reduce("Mean", apart, &axes, false)?;
    let log = args.call.apply("Log", &[error])?;
    let decibels = args.call.scalar(-10.0 / std::f64::consts::LN_10, log)?;
    let y = args.call.apply("Mul", &[log, decibels])?;
    let reference = args.call.scalar(20.0 * most.log10(), y)?;
    args.call.apply("AddV2", &[y, reference])
}

/// `x` over its size along axes, or its deviation, times a scale and with an offset where they are given.
fn normalized(args: &mut Args<'_, '_>, centers: bool, names: [&str; 2]) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axes = if args.find("axis").is_some() { args.axes("axis", rank)? } else { vec![rank as i64 - 1] };
    let epsilon = args.float("epsilon").unwrap_or(EPSILON);
    let middle = if centers && !args.flag("rms_scaling") { Some(args.call.reduce("Mean", x, &axes, true)?) } else { None };
    let apart = match middle {
        Some(middle) => args.call.apply("Sub", &[x, middle])?,
        None => x,
    };
    let square = args.call.apply("Square", &[apart])?;
    let mean = args.call.reduce("Mean", square, &axes, true)?;
    let epsilon = args.call.scalar(epsilon, mean)?;
    let mean = args.call.apply("AddV2", &[mean, epsilon])?;
    let inverse = args.call.apply("Rsqrt", &[mean])?;
    let mut y = args.call.apply("Mul", &[apart, inverse])?;
    for (name, op) in names.into_iter().zip(["Mul", "AddV2"]) {
        if name.is_empty() || args.find(name).is_none() {
            continue;
        }
        let by = args.like(name, y)?;
        y = args.call.apply(op, &[y, by])?;
    }
    Ok(y)
}

pub(super) const ROWS: &[Row] = &[
    row("nn.BinaryCrossentropy(target output; from_logits)", One(binary)),
    row("nn.CategoricalCrossentropy(target output; from_logits axis)", One(|a| categorical(a, false))),
    row("nn.SparseCategoricalCrossentropy(target output; from_logits axis)", One(|a| categorical(a, true))),
    row("nn.PSNR(x1 x2; max_val)", One(signal_to_noise)),
    row("nn.RMSNorm(x scale; axis epsilon)", One(|a| normalized(a, false, ["scale", ""]))),
    row("nn.LayerNorm(x gamma beta; axis epsilon rms_scaling)", One(|a| normalized(a, true, ["gamma", "beta"]))),
];
