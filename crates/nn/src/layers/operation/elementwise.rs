//! Ops element by element.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

use super::arguments::{Args, is_whole};
use super::table::Form::{Binary, Compare, Float, FloatBinary, Logical, One, Unary};
use super::table::{Row, row};
use crate::Activation;

/// An activation function of Keras 3's, by name.
fn activation(args: &mut Args<'_, '_>, name: &str) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    Activation::named(name).call(args.call, x)
}

macro_rules! activation {
    ($name:literal) => {
        One(|a| activation(a, $name))
    };
}

/// `x` times a factor.
fn times(args: &mut Args<'_, '_>, factor: f64) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let factor = args.call.scalar(factor, x)?;
    args.call.apply("Mul", &[x, factor])
}

/// The logarithm of this base.
fn log(args: &mut Args<'_, '_>, base: f64) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let (y, base) = (args.call.apply("Log", &[x])?, args.call.scalar(base.ln(), x)?);
    args.call.apply("RealDiv", &[y, base])
}

/// `x ^ y` of a tensor and a number.
fn bounded(args: &mut Args<'_, '_>) -> Result<Sym> {
    let mut x = args.tensor("x")?;
    for (name, op) in [("x_min", "Maximum"), ("x_max", "Minimum")] {
        if args.find(name).is_some() {
            let limit = args.like(name, x)?;
            x = args.call.apply(op, &[x, limit])?;
        }
    }
    Ok(x)
}

fn infinite(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let (infinite, zero) = (args.call.apply("IsInf", &[x])?, args.call.scalar(0.0, x)?);
    let side = args.call.apply(op, &[x, zero])?;
    args.call.apply("LogicalAnd", &[infinite, side])
}

/// The larger of two, or the other where one is not a number.
fn ignoring_nan(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let [a, b] = args.pair("x1", "x2")?;
    let y = args.call.apply(op, &[a, b])?;
    if is_whole(args.call.dtype(a)) {
        return Ok(y);
    }
    let (no_a, no_b) = (args.call.apply("IsNan", &[a])?, args.call.apply("IsNan", &[b])?);
    let y = args.call.apply("SelectV2", &[no_a, b, y])?;
    args.call.apply("SelectV2", &[no_b, a, y])
}

/// The logarithm of a sum of powers of this base.
fn log_add(args: &mut Args<'_, '_>, base: f64) -> Result<Sym> {
    let [a, b] = args.pair("x1", "x2")?;
    let scale = args.call.scalar(base.ln(), a)?;
    let largest = args.call.apply("Maximum", &[a, b])?;
    let apart = args.call.apply("Sub", &[a, b])?;
    let apart = args.call.apply("Abs", &[apart])?;
    let apart = args.call.apply("Mul", &[apart, scale])?;
    let apart = args.call.apply("Neg", &[apart])?;
    let y = args.call.apply("Exp", &[apart])?;
    let y = args.call.apply("Log1p", &[y])?;
    let y = args.call.apply("RealDiv", &[y, scale])?;
    args.call.apply("AddV2", &[largest, y])
}

/// TensorFlow's own quotient: of integers floats, `float64` in Keras 2.
fn quotient(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [a, b] = args.pair("x1", "x2")?;
    let dtype = args.call.dtype(a);
    if !is_whole(dtype) {
        return args.call.apply("RealDiv", &[a, b]);
    }
    let wide = if args.keras2 && dtype.size() >= Some(4) { DType::F64 } else { DType::F32 };
    let (a, b) = (args.call.cast(a, wide)?, args.call.cast(b, wide)?);
    args.call.apply("RealDiv", &[a, b])
}

/// Whether `a` lies within tolerances of `b`; both are floats.
fn near(args: &mut Args<'_, '_>, a: Sym, b: Sym) -> Result<Sym> {
    let relative = args.float("rtol").unwrap_or(1e-5);
    let absolute = args.float("atol").unwrap_or(1e-8);
    let apart = args.call.apply("Sub", &[a, b])?;
    let apart = args.call.apply("Abs", &[apart])?;
    let size = args.call.apply("Abs", &[b])?;
    let (relative, absolute) = (args.call.scalar(relative, b)?, args.call.scalar(absolute, b)?);
    let limit = args.call.apply("Mul", &[relative, size])?;
    let limit = args.call.apply("AddV2", &[absolute, limit])?;
    args.call.apply("LessEqual", &[apart, limit])
}

/// Or whether neither is a number, where that counts as equal.
fn or_neither(args: &mut Args<'_, '_>, close: Sym, a: Sym, b: Sym) -> Result<Sym> {
    if !args.flag("equal_nan") {
        return Ok(close);
    }
    let (no_a, no_b) = (args.call.apply("IsNan", &[a])?, args.call.apply("IsNan", &[b])?);
    let neither = args.call.apply("LogicalAnd", &[no_a, no_b])?;
    args.call.apply("LogicalOr", &[close, neither])
}

fn is_close(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [a, b] = args.pair("x1", "x2")?;
    if is_whole(args.call.dtype(a)) {
        return args.call.apply("Equal", &[a, b]);
    }
    let close = near(args, a, b)?;
    or_neither(args, close, a, b)
}

/// Whether all of two tensors are close, or equal where they are infinite.
fn all_close(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [a, b] = args.pair("x1", "x2")?;
    let mut same = args.call.apply("Equal", &[a, b])?;
    if !is_whole(args.call.dtype(a)) {
        let (a_is, b_is) = (args.call.apply("IsFinite", &[a])?, args.call.apply("IsFinite", &[b])?);
        let finite = args.call.apply("LogicalAnd", &[a_is, b_is])?;
        let close = near(args, a, b)?;
        let close = args.call.apply("LogicalAnd", &[finite, close])?;
        same = args.call.apply("LogicalOr", &[close, same])?;
        same = or_neither(args, same, a, b)?;
    }
    let axes: Vec<i64> = (0..super::reductions::rank(args, "x1", same)? as i64).collect();
    args.call.reduce("All", same, &axes, false)
}

/// Two tensors as floats of Keras's: `float64` of `int64`.
fn wide_pair(args: &mut Args<'_, '_>) -> Result<[Sym; 2]> {
    let [a, b] = args.pair("x1", "x2")?;
    let dtype = match args.call.dtype(a) {
        DType::I64 => DType::F64,
        dtype if dtype.is_integer() => DType::F32,
        dtype => dtype,
    };
    Ok([args.call.cast(a, dtype)?, args.call.cast(b, dtype)?])
}

fn leaky(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let slope = args.float("negative_slope").unwrap_or(0.2);
    crate::config::leaky_relu(args.call, x, slope)
}

/// `x` above zero, `alpha * f(x)` below.
fn scaled_below(args: &mut Args<'_, '_>, celu: bool) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let (zero, alpha) = (args.call.scalar(0.0, x)?, args.float("alpha").unwrap_or(1.0));
    let alpha = args.call.scalar(alpha, x)?;
    let (above, low) = (args.call.apply("Maximum", &[x, zero])?, args.call.apply("Minimum", &[x, zero])?);
    let low = if celu { args.call.apply("RealDiv", &[low, alpha])? } else { low };
    let low = args.call.apply("Expm1", &[low])?;
    let low = args.call.apply("Mul", &[alpha, low])?;
    args.call.apply("AddV2", &[above, low])
}

/// `x` where its size is over a limit, else another value.
fn kept(args: &mut Args<'_, '_>, shrinks: bool) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let limit = args.float("threshold").unwrap_or(0.5);
    let (limit, zero) = (args.call.scalar(limit, x)?, args.call.scalar(0.0, x)?);
    if shrinks {
        let (over, negative) = (args.call.apply("Sub", &[x, limit])?, args.call.apply("Neg", &[limit])?);
        let over = args.call.apply("Maximum", &[over, zero])?;
        let under = args.call.apply("Sub", &[x, negative])?;
        let under = args.call.apply("Minimum", &[under, zero])?;
        return args.call.apply("AddV2", &[over, under]);
    }
    let size = args.call.apply("Abs", &[x])?;
    let large = args.call.apply("Greater", &[size, limit])?;
    args.call.apply("SelectV2", &[large, x, zero])
}

fn above_threshold(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let (limit, other) = (args.like("threshold", x)?, args.like("default_value", x)?);
    let above = args.call.apply("Greater", &[x, limit])?;
    args.call.apply("SelectV2", &[above, x, other])
}

fn gelu(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    // Both default to the approximation's absence in TensorFlow, to its presence in Keras 3's op.
    let approximate = args.find("approximate").map_or(!args.keras2, |_| args.flag("approximate"));
    crate::config::gelu(args.call, x, approximate)
}

fn rounded(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let decimals = args.int("decimals").unwrap_or(0);
    if decimals == 0 {
        return args.call.apply("Round", &[x]);
    }
    let factor = args.call.scalar(10f64.powi(i32::try_from(decimals).unwrap_or(0)), x)?;
    let y = args.call.apply("Mul", &[x, factor])?;
    let y = args.call.apply("Round", &[y])?;
    args.call.apply("RealDiv", &[y, factor])
}

fn nan_to_num(args: &mut Args<'_, '_>) -> Result<Sym> {
    let mut x = args.float_tensor("x")?;
    let (least, most) = match args.call.dtype(x) {
        DType::F16 => (-65504.0, 65504.0),
        DType::F64 => (f64::MIN, f64::MAX),
        _ => (f64::from(f32::MIN), f64::from(f32::MAX)),
    };
    let values = [("nan", 0.0), ("posinf", most), ("neginf", least)];
    let values = values.map(|(name, default)| args.float(name).unwrap_or(default));
    let is_nan = args.call.apply("IsNan", &[x])?;
    let (high, low) = (infinite(args, "Greater")?, infinite(args, "Less")?);
    for (place, value) in [is_nan, high, low].into_iter().zip(values) {
        let value = args.call.scalar(value, x)?;
        x = args.call.apply("SelectV2", &[place, value, x])?;
    }
    Ok(x)
}

fn sinc(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let (pi, zero, one) = (
        args.call.scalar(std::f64::consts::PI, x)?,
        args.call.scalar(0.0, x)?,
        args.call.scalar(1.0, x)?,
    );
    let angle = args.call.apply("Mul", &[pi, x])?;
    let nothing = args.call.apply("Equal", &[x, zero])?;
    let safe = args.call.apply("SelectV2", &[nothing, one, angle])?;
    let y = args.call.apply("Sin", &[safe])?;
    let y = args.call.apply("RealDiv", &[y, safe])?;
    args.call.apply("SelectV2", &[nothing, one, y])
}

fn cast(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    match args.dtype("dtype")? {
        Some(dtype) => args.call.cast(x, dtype),
        None => Ok(x),
    }
}

/// A tensor like another one, filled with a value.
fn like(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let x = args.tensor("x")?;
    let y = args.call.apply(op, &[x])?;
    match args.dtype("dtype")? {
        Some(dtype) => args.call.cast(y, dtype),
        None => Ok(y),
    }
}

fn hypot(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [a, b] = wide_pair(args)?;
    let (a, b) = (args.call.apply("Abs", &[a])?, args.call.apply("Abs", &[b])?);
    let (most, least) = (args.call.apply("Maximum", &[a, b])?, args.call.apply("Minimum", &[a, b])?);
    // Squares of the ratio don't overflow.
    let ratio = args.call.apply("DivNoNan", &[least, most])?;
    let square = args.call.apply("Square", &[ratio])?;
    let one = args.call.scalar(1.0, square)?;
    let sum = args.call.apply("AddV2", &[one, square])?;
    let root = args.call.apply("Sqrt", &[sum])?;
    args.call.apply("Mul", &[most, root])
}

fn power_of(args: &mut Args<'_, '_>, base: f64) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let base = args.call.scalar(base, x)?;
    args.call.apply("Pow", &[base, x])
}

fn cube_root(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let (sign, size, third) =
        (args.call.apply("Sign", &[x])?, args.call.apply("Abs", &[x])?, args.call.scalar(1.0 / 3.0, x)?);
    let root = args.call.apply("Pow", &[size, third])?;
    args.call.apply("Mul", &[sign, root])
}

fn exclusive_or(args: &mut Args<'_, '_>) -> Result<Sym> {
    let (a, b) = (args.tensor("x1")?, args.tensor("x2")?);
    let (a, b) = (args.call.cast(a, DType::Bool)?, args.call.cast(b, DType::Bool)?);
    args.call.apply("NotEqual", &[a, b])
}

fn negative_sign(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let zero = args.call.scalar(0.0, x)?;
    args.call.apply("Less", &[x, zero])
}

fn truncated(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    if args.call.dtype(x).is_integer() {
        return Ok(x);
    }
    let (sign, size) = (args.call.apply("Sign", &[x])?, args.call.apply("Abs", &[x])?);
    let size = args.call.apply("Floor", &[size])?;
    args.call.apply("Mul", &[sign, size])
}

/// A cast of values that the dtype can't hold to the nearest that it can.
fn saturating(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let dtype = args.dtype("dtype")?.ok_or_else(|| Error::missing("the op has no dtype"))?;
    let bounds = match dtype {
        DType::I8 => Some((-128.0, 127.0)),
        DType::U8 => Some((0.0, 255.0)),
        DType::I16 => Some((-32768.0, 32767.0)),
        DType::U16 => Some((0.0, 65535.0)),
        DType::I32 => Some((-2_147_483_648.0, 2_147_483_520.0)),
        _ => None,
    };
    let Some((low, high)) = bounds else { return args.call.cast(x, dtype) };
    let (low, high) = (args.call.scalar(low, x)?, args.call.scalar(high, x)?);
    let x = args.call.apply("Maximum", &[x, low])?;
    let x = args.call.apply("Minimum", &[x, high])?;
    args.call.cast(x, dtype)
}

pub(super) const ROWS: &[Row] = &[
    row("numpy.Heaviside(x1 x2)", One(|a| {
        let [x, at_zero] = wide_pair(a)?;
        let zero = a.call.scalar(0.0, x)?;
        let (same, above) = (a.call.apply("Equal", &[x, zero])?, a.call.apply("Greater", &[x, zero])?);
        let above = a.call.cast(above, a.call.dtype(x))?;
        a.call.apply("SelectV2", &[same, at_zero, above])
    })),
    row("numpy.Ldexp(x1 x2)", One(|a| {
        let x = a.float_tensor("x1")?;
        let exponent = a.like("x2", x)?;
        let two = a.call.scalar(2.0, x)?;
        let power = a.call.apply("Pow", &[two, exponent])?;
        a.call.apply("Mul", &[x, power])
    })),
    row("numpy.Isreal(x)", One(|a| {
        let x = a.tensor("x")?;
        let y = a.call.cast(x, DType::Bool)?;
        a.call.apply("OnesLike", &[y])
    })),
    row("numpy.Array(x; dtype)", One(|a| {
        let (x, dtype) = (a.tensor("x")?, a.dtype("dtype")?);
        match dtype {
            Some(dtype) => a.call.cast(x, dtype),
            None => a.call.apply("Identity", &[x]),
        }
    })),
    row("numpy.View(x; dtype) = bitcast(input:x type:dtype)", One(|a| {
        let (x, dtype) = (a.tensor("x")?, a.dtype("dtype")?);
        let dtype = dtype.unwrap_or(a.call.dtype(x));
        Ok(a.call.op("Bitcast").input(x).attr("type", dtype).one()?)
    })),
    row("numpy.AllClose(x1 x2; rtol atol equal_nan)", One(all_close)),
    row("core.SaturateCast(x; dtype) = dtypes.saturate_cast(value:x dtype)", One(saturating)),
    row("numpy.Add(x1 x2) = __operators__.add(x:x1 y:x2) | math.add(x:x1 y:x2) | add(x:x1 y:x2)", Binary("AddV2")),
    row("numpy.Subtract(x1 x2) = math.subtract(x:x1 y:x2) | subtract(x:x1 y:x2) | __operators__.sub(x:x1 y:x2)", Binary("Sub")),
    row("numpy.Multiply(x1 x2) = math.multiply(x:x1 y:x2) | multiply(x:x1 y:x2) | __operators__.mul(x:x1 y:x2)", Binary("Mul")),
    row("numpy.TrueDivide(x1 x2) = math.truediv(x:x1 y:x2) | truediv(x:x1 y:x2) | compat.v1.truediv(x:x1 y:x2)", One(quotient)),
    row("numpy.Divide(x1 x2) = math.divide(x:x1 y:x2) | divide(x:x1 y:x2) | realdiv(x:x1 y:x2)", One(quotient)),
    row("numpy.DivideNoNan(x1 x2) = math.divide_no_nan(x:x1 y:x2)", FloatBinary("DivNoNan")),
    row("numpy.FloorDivide(x1 x2) = math.floordiv(x:x1 y:x2) | compat.v1.floordiv(x:x1 y:x2) | compat.v1.floor_div(x:x1 y:x2) | floordiv(x:x1 y:x2)", Binary("FloorDiv")),
    row("numpy.Mod(x1 x2) = math.floormod(x:x1 y:x2) | math.mod(x:x1 y:x2) | compat.v1.floormod(x:x1 y:x2)", Binary("FloorMod")),
    row("numpy.Fmod(x1 x2)", Binary("TruncateMod")),
    row("numpy.Power(x1 x2) = math.pow(x:x1 y:x2) | pow(x:x1 y:x2)", Binary("Pow")),
    row("numpy.Maximum(x1 x2) = math.maximum(x:x1 y:x2) | maximum(x:x1 y:x2)", Binary("Maximum")),
    row("numpy.Minimum(x1 x2) = math.minimum(x:x1 y:x2) | minimum(x:x1 y:x2)", Binary("Minimum")),
    row("numpy.Fmax(x1 x2)", One(|a| ignoring_nan(a, "Maximum"))),
    row("numpy.Fmin(x1 x2)", One(|a| ignoring_nan(a, "Minimum"))),
    row("numpy.Arctan2(x1 x2) = math.atan2(y:x1 x:x2) | atan2(y:x1 x:x2)", FloatBinary("Atan2")),
    row("numpy.Hypot(x1 x2)", One(hypot)),
    row("numpy.Logaddexp(x1 x2)", One(|a| log_add(a, std::f64::consts::E))),
    row("numpy.Logaddexp2(x1 x2)", One(|a| log_add(a, 2.0))),
    row("numpy.Nextafter(x1 x2) = math.nextafter(x1 x2)", Binary("NextAfter")),
    row("= math.squared_difference(x:x1 y:x2) | math.squared_difference_(x:x1 y:x2)", One(|a| {
        let both = a.pair("x1", "x2")?;
        a.call.apply("SquaredDifference", &both)
    })),
    row("numpy.BitwiseAnd(x y) = bitwise.bitwise_and(x y)", Binary("BitwiseAnd")),
    row("numpy.BitwiseOr(x y) = bitwise.bitwise_or(x y)", Binary("BitwiseOr")),
    row("numpy.BitwiseXor(x y) = bitwise.bitwise_xor(x y)", Binary("BitwiseXor")),
    row("numpy.BitwiseNot(x) = bitwise.invert(x)", Unary("Invert")),
    row("numpy.BitwiseInvert(x)", Unary("Invert")),
    row("numpy.BitwiseLeftShift(x y) = bitwise.left_shift(x y)", Binary("LeftShift")),
    row("numpy.LeftShift(x y)", Binary("LeftShift")),
    row("numpy.BitwiseRightShift(x y) = bitwise.right_shift(x y)", Binary("RightShift")),
    row("numpy.RightShift(x y)", Binary("RightShift")),
    row("numpy.Equal(x1 x2) = math.equal(x:x1 y:x2) | __operators__.eq(x:x1 y:x2) | equal(x:x1 y:x2)", Compare("Equal")),
    row("numpy.NotEqual(x1 x2) = math.not_equal(x:x1 y:x2) | __operators__.ne(x:x1 y:x2) | not_equal(x:x1 y:x2)", Compare("NotEqual")),
    row("numpy.Greater(x1 x2) = math.greater(x:x1 y:x2) | greater(x:x1 y:x2)", Compare("Greater")),
    row("numpy.GreaterEqual(x1 x2) = math.greater_equal(x:x1 y:x2) | greater_equal(x:x1 y:x2)", Compare("GreaterEqual")),
    row("numpy.Less(x1 x2) = math.less(x:x1 y:x2) | less(x:x1 y:x2)", Compare("Less")),
    row("numpy.LessEqual(x1 x2) = math.less_equal(x:x1 y:x2) | less_equal(x:x1 y:x2)", Compare("LessEqual")),
    row("numpy.Isclose(x1 x2 rtol atol; equal_nan)", One(is_close)),
    row("numpy.LogicalAnd(x1 x2) = math.logical_and(x:x1 y:x2) | logical_and(x:x1 y:x2)", Logical("LogicalAnd")),
    row("numpy.LogicalOr(x1 x2) = math.logical_or(x:x1 y:x2) | logical_or(x:x1 y:x2)", Logical("LogicalOr")),
    row("numpy.LogicalXor(x1 x2) = math.logical_xor(x:x1 y:x2)", One(exclusive_or)),
    row("numpy.LogicalNot(x) = math.logical_not(x) | logical_not(x)", Logical("LogicalNot")),
    row("numpy.Isnan(x) = math.is_nan(x)", One(|a| { let x = a.float_tensor("x")?; a.call.apply("IsNan", &[x]) })),
    row("numpy.Isinf(x) = math.is_inf(x)", One(|a| { let x = a.float_tensor("x")?; a.call.apply("IsInf", &[x]) })),
    row("numpy.Isfinite(x) = math.is_finite(x)", One(|a| { let x = a.float_tensor("x")?; a.call.apply("IsFinite", &[x]) })),
    row("numpy.Isposinf(x)", One(|a| infinite(a, "Greater"))),
    row("numpy.Isneginf(x)", One(|a| infinite(a, "Less"))),
    row("numpy.Signbit(x)", One(negative_sign)),
    row("numpy.Negative(x) = math.negative(x) | negative(x)", Unary("Neg")),
    row("numpy.Absolute(x) = math.abs(x) | abs(x)", Unary("Abs")),
    row("numpy.Abs(x)", Unary("Abs")),
    row("numpy.Fabs(x)", Float("Abs")),
    row("numpy.Sign(x) = math.sign(x) | sign(x)", Unary("Sign")),
    row("numpy.Square(x) = math.square(x) | square(x)", Unary("Square")),
    row("numpy.Sqrt(x) = math.sqrt(x) | sqrt(x)", Float("Sqrt")),
    row("math.Rsqrt(x) = math.rsqrt(x)", Float("Rsqrt")),
    row("numpy.Cbrt(x)", One(cube_root)),
    row("numpy.Reciprocal(x) = math.reciprocal(x)", Float("Reciprocal")),
    row("numpy.Exp(x) = math.exp(x) | exp(x)", Float("Exp")),
    row("numpy.Exp2(x)", One(|a| power_of(a, 2.0))),
    row("numpy.Expm1(x) = math.expm1(x)", Float("Expm1")),
    row("numpy.Log(x) = math.log(x)", Float("Log")),
    row("numpy.Log1p(x) = math.log1p(x)", Float("Log1p")),
    row("numpy.Log2(x)", One(|a| log(a, 2.0))),
    row("numpy.Log10(x)", One(|a| log(a, 10.0))),
    row("numpy.Sin(x) = math.sin(x) | sin(x)", Float("Sin")),
    row("numpy.Cos(x) = math.cos(x) | cos(x)", Float("Cos")),
    row("numpy.Tan(x) = math.tan(x) | tan(x)", Float("Tan")),
    row("numpy.Arcsin(x) = math.asin(x) | asin(x)", Float("Asin")),
    row("numpy.Arccos(x) = math.acos(x) | acos(x)", Float("Acos")),
    row("numpy.Arctan(x) = math.atan(x) | atan(x)", Float("Atan")),
    row("numpy.Sinh(x) = math.sinh(x) | sinh(x)", Float("Sinh")),
    row("numpy.Cosh(x) = math.cosh(x) | cosh(x)", Float("Cosh")),
    row("numpy.Tanh(x) = math.tanh(x) | nn.tanh(x) | tanh(x)", Float("Tanh")),
    row("numpy.Arcsinh(x) = math.asinh(x)", Float("Asinh")),
    row("numpy.Arccosh(x) = math.acosh(x)", Float("Acosh")),
    row("numpy.Arctanh(x) = math.atanh(x)", Float("Atanh")),
    row("numpy.Sinc(x)", One(sinc)),
    row("numpy.Deg2rad(x)", One(|a| times(a, std::f64::consts::PI / 180.0))),
    row("numpy.Rad2deg(x)", One(|a| times(a, 180.0 / std::f64::consts::PI))),
    row("numpy.Floor(x) = math.floor(x) | floor(x)", Float("Floor")),
    row("numpy.Ceil(x) = math.ceil(x)", Float("Ceil")),
    row("numpy.Round(x; decimals) = math.round(x) | round(x)", One(rounded)),
    row("numpy.Trunc(x)", One(truncated)),
    row("math.Erf(x) = math.erf(x)", Float("Erf")),
    row("math.Erfc(x) = math.erfc(x)", Float("Erfc")),
    row("math.Erfinv(x) = math.erfinv(x)", Float("Erfinv")),
    row("= math.lgamma(x)", Unary("Lgamma")),
    row("= math.digamma(x)", Unary("Digamma")),
    row("numpy.Real(x) = math.real(input:x)", One(|a| part(a, "Real"))),
    row("numpy.Imag(x) = math.imag(input:x)", One(|a| part(a, "Imag"))),
    row("numpy.Angle(x) = math.angle(input:x)", One(angle)),
    row("numpy.Conjugate(x) = math.conj(x)", One(conjugate)),
    row("numpy.Conj(x)", One(conjugate)),
    row("numpy.Copy(x)", Unary("Identity")),
    row("= identity(input:x) | compat.v1.identity(input:x)", One(|a| a.tensor("x"))),
    row("core.StopGradient(variable) = stop_gradient(input:variable)", Unary("StopGradient")),
    row("numpy.Clip(x; x_min x_max) = clip_by_value(t:x clip_value_min:x_min clip_value_max:x_max)", One(bounded)),
    row("numpy.NanToNum(x; nan posinf neginf)", One(nan_to_num)),
    row("core.Cast(x; dtype) = cast(x dtype) | compat.v1.cast(x dtype)", One(cast)),
    row("core.ConvertToTensor(x; dtype sparse ragged) = convert_to_tensor(value:x dtype) | constant(value:x dtype)", One(cast)),
    row("= compat.v1.to_float(x)", One(|a| { let x = a.tensor("x")?; a.call.cast(x, DType::F32) })),
    row("= compat.v1.to_int32(x)", One(|a| { let x = a.tensor("x")?; a.call.cast(x, DType::I32) })),
    row("numpy.ZerosLike(x; dtype) = zeros_like(input:x dtype) | compat.v1.zeros_like(tensor:x dtype optimize)", One(|a| like(a, "ZerosLike"))),
    row("numpy.EmptyLike(x; dtype)", One(|a| like(a, "ZerosLike"))),
    row("numpy.OnesLike(x; dtype) = ones_like(input:x dtype) | compat.v1.ones_like(tensor:x dtype optimize)", One(|a| like(a, "OnesLike"))),
    row("nn.Relu(x) = nn.relu(features:x)", Float("Relu")),
    row("nn.Relu6(x) = nn.relu6(features:x)", Float("Relu6")),
    row("nn.LeakyRelu(x; negative_slope) = nn.leaky_relu(features:x alpha:negative_slope)", One(leaky)),
    row("nn.Elu(x; alpha) = nn.elu(features:x)", One(|a| scaled_below(a, false))),
    row("nn.Celu(x; alpha)", One(|a| scaled_below(a, true))),
    row("nn.Selu(x) = nn.selu(features:x)", Float("Selu")),
    row("nn.Gelu(x; approximate) = nn.gelu(features:x approximate)", One(gelu)),
    row("nn.Silu(x) = nn.silu(features:x) | nn.swish(features:x)", activation!("silu")),
    row("nn.Sigmoid(x) = math.sigmoid(x) | nn.sigmoid(x) | sigmoid(x)", Float("Sigmoid")),
    row("nn.LogSigmoid(x) = math.log_sigmoid(x)", activation!("log_sigmoid")),
    row("nn.Softplus(x) = math.softplus(features:x) | nn.softplus(features:x)", Float("Softplus")),
    row("nn.Softsign(x) = nn.softsign(features:x) | math.softsign(features:x)", Float("Softsign")),
    row("nn.SoftShrink(x; threshold)", One(|a| kept(a, true))),
    row("nn.HardShrink(x; threshold)", One(|a| kept(a, false))),
    row("nn.Threshold(x; threshold default_value)", One(above_threshold)),
    row("nn.TanhShrink(x)", activation!("tanh_shrink")),
    row("nn.HardSigmoid(x)", activation!("hard_sigmoid")),
    row("nn.HardSilu(x)", activation!("hard_silu")),
    row("nn.HardTanh(x)", activation!("hard_tanh")),
    row("nn.SparsePlus(x)", activation!("sparse_plus")),
    row("nn.SparseSigmoid(x)", activation!("sparse_sigmoid")),
    row("nn.Squareplus(x; b)", activation!("squareplus")),
];

/// A part of complex numbers; real ones are their own real part.
fn part(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let x = args.tensor("x")?;
    if args.call.dtype(x).is_complex() {
        let dtype = if args.call.dtype(x) == DType::C128 { DType::F64 } else { DType::F32 };
        return Ok(args.call.op(op).input(x).attr("Tout", dtype).one()?);
    }
    if op == "Real" { Ok(x) } else { args.call.apply("ZerosLike", &[x]) }
}

/// The angle in the plane; a negative number's is a half turn.
fn angle(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    if args.call.dtype(x).is_complex() {
        return part(args, "Angle");
    }
    let x = args.float_tensor("x")?;
    let (zero, half) = (args.call.scalar(0.0, x)?, args.call.scalar(std::f64::consts::PI, x)?);
    let is_negative = args.call.apply("Less", &[x, zero])?;
    args.call.apply("SelectV2", &[is_negative, half, zero])
}

fn conjugate(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    if args.call.dtype(x).is_complex() { args.call.apply("Conj", &[x]) } else { Ok(x) }
}
