//! Ops of whole numbers: what divides two, what two divide, and numbers of places.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::reductions::rank;
use super::table::Form::One;
use super::table::{Row, row};

/// Two of one shape and dtype, without their signs.
fn sizes(args: &mut Args<'_, '_>) -> Result<[Sym; 2]> {
    let mut both = args.pair("x1", "x2")?;
    if !both.iter().all(|&x| args.call.dtype(x).is_integer()) {
        return Err(Error::mismatch("it takes integers"));
    }
    let (a, b) = (args.call.apply("Shape", &[both[0]])?, args.call.apply("Shape", &[both[1]])?);
    let shape = args.call.apply("BroadcastArgs", &[a, b])?;
    for x in &mut both {
        *x = args.call.apply("BroadcastTo", &[*x, shape])?;
        if !matches!(args.call.dtype(*x), DType::U8 | DType::U16 | DType::U32 | DType::U64) {
            *x = args.call.apply("Abs", &[*x])?;
        }
    }
    Ok(both)
}

/// By Euclid's algorithm, for all pairs at once.
fn divisor(args: &mut Args<'_, '_>, both: [Sym; 2]) -> Result<Sym> {
    let zero = args.call.scalar(0.0, both[0])?;
    let one = args.call.scalar(1.0, both[0])?;
    let size = args.call.apply("Size", &[both[0]])?;
    let each = args.call.reshape(size, &[1])?;
    let left = |b: &mut modelark_artifact::graph::Builder, state: &[Sym], captures: &[Sym]| {
        let counts = b.op("NotEqual").inputs(&[state[1], captures[0]]).one()?;
        let flat = b.op("Reshape").inputs(&[counts, captures[2]]).one()?;
        let axis = b.scalar(0i32)?;
        b.op("Any").inputs(&[flat, axis]).one()
    };
    let done = args.call.while_loop(&both, &[zero, one, each], left, |call, state, captures| {
        let (&[a, b], &[zero, one, _]) = (state, captures) else {
            return Err(Error::mismatch("the loop has two numbers"));
        };
        let goes_on = call.apply("NotEqual", &[b, zero])?;
        let by = call.apply("SelectV2", &[goes_on, b, one])?;
        let rest = call.apply("FloorMod", &[a, by])?;
        Ok(vec![call.apply("SelectV2", &[goes_on, b, a])?, call.apply("SelectV2", &[goes_on, rest, zero])?])
    })?;
    done.first().copied().ok_or_else(|| Error::mismatch("the loop has two numbers"))
}

fn greatest_divisor(args: &mut Args<'_, '_>) -> Result<Sym> {
    let both = sizes(args)?;
    divisor(args, both)
}

fn least_multiple(args: &mut Args<'_, '_>) -> Result<Sym> {
    let both = sizes(args)?;
    let divisor = divisor(args, both)?;
    let (zero, one) = (args.call.scalar(0.0, divisor)?, args.call.scalar(1.0, divisor)?);
    let is_zero = args.call.apply("Equal", &[divisor, zero])?;
    let by = args.call.apply("SelectV2", &[is_zero, one, divisor])?;
    let part = args.call.apply("FloorDiv", &[both[1], by])?;
    let multiple = args.call.apply("Mul", &[both[0], part])?;
    args.call.apply("SelectV2", &[is_zero, zero, multiple])
}

/// The places of a vector's values, those of the smaller ones before that of the `kth`. As Keras has it, values count as
/// whole numbers.
fn partition(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let whole = args.named.iter().any(|(n, a)| *n == "axis" && matches!(a, crate::Argument::Value(v) if v.is_null()));
    if !whole && rank(args, "x", x)? != 1 {
        return Err(Error::unsupported("parts of several vectors at once, which Keras mixes up"));
    }
    let x = args.call.reshape(x, &[-1])?;
    let x = args.call.cast(x, DType::I32)?;
    let kth = args.int("kth").ok_or_else(|| Error::missing("the op has no kth"))?;
    let (count, zero, one) = (args.call.apply("Size", &[x])?, args.call.int(0)?, args.call.int(1)?);
    let last = args.call.apply("Sub", &[count, one])?;
    let kth = args.call.int(kth)?;
    let kth = args.call.apply("Maximum", &[kth, zero])?;
    let kth = args.call.apply("Minimum", &[kth, last])?;
    let (below, above) = (args.call.apply("AddV2", &[kth, one])?, args.call.apply("Sub", &[last, kth])?);
    let negative = args.call.apply("Neg", &[x])?;
    let places = |args: &mut Args<'_, '_>, of: Sym, k: Sym| -> Result<Sym> {
        let both = args.call.op("TopKV2").inputs(&[of, k]).all()?;
        let [_, places] = crate::layer::inputs(&both)?;
        Ok(places)
    };
    let first = places(args, negative, below)?;
    let (column, none) = (args.call.reshape(first, &[-1, 1])?, args.call.apply("ZerosLike", &[first])?);
    let rest = args.call.apply("TensorScatterUpdate", &[x, column, none])?;
    let rest = places(args, rest, above)?;
    args.call.concat(&[first, rest], 0)
}

pub(super) const ROWS: &[Row] = &[
    row("numpy.Gcd(x1 x2)", One(greatest_divisor)),
    row("numpy.Lcm(x1 x2)", One(least_multiple)),
    row("numpy.Argpartition(x; kth axis)", One(partition)),
];
