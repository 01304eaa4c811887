//! Decompositions of matrices, and what is found by them.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::reductions::rank;
use super::table::Form::{Many, One};
use super::table::{Row, row};

/// A matrix with its last two axes swapped.
fn turned(args: &mut Args<'_, '_>, x: Sym, rank: usize) -> Result<Sym> {
    let mut order: Vec<usize> = (0..rank).collect();
    if rank > 1 {
        order.swap(rank - 1, rank - 2);
    }
    args.call.transpose(x, &order)
}

/// Singular values and both bases of `x`.
fn singular(args: &mut Args<'_, '_>, x: Sym, full: bool) -> Result<[Sym; 3]> {
    let made = args.call.op("Svd").input(x).attr("compute_uv", true).attr("full_matrices", full).all()?;
    crate::layer::inputs(&made)
}

fn svd(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    let asks = |name: &str| args.find(name).is_none() || args.flag(name);
    let (full, bases) = (asks("full_matrices"), asks("compute_uv"));
    let [s, u, v] = singular(args, x, full)?;
    if !bases {
        return Ok(vec![s]);
    }
    let v = turned(args, v, rank)?;
    Ok(vec![u, s, v])
}

fn qr(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.float_tensor("x")?;
    let full = args.text("mode").as_deref() == Some("complete");
    Ok(args.call.op("Qr").input(x).attr("full_matrices", full).all()?)
}

fn eigen(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.float_tensor("x")?;
    Ok(args.call.op("SelfAdjointEigV2").input(x).attr("compute_v", true).all()?)
}

/// Of any square matrix: complex values and vectors.
fn eigen_of_any(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.float_tensor("x")?;
    let complex = if args.call.dtype(x) == DType::F64 { DType::C128 } else { DType::C64 };
    Ok(args.call.op("Eig").input(x).attr("compute_v", true).attr("Tout", complex).all()?)
}

fn lu(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.float_tensor("x")?;
    let made = args.call.op("Lu").input(x).all()?;
    let [lu, order] = crate::layer::inputs(&made)?;
    if rank(args, "x", x)? != 2 {
        return Err(Error::unsupported("factors of several matrices at once"));
    }
    Ok(vec![lu, args.call.apply("InvertPermutation", &[order])?])
}

/// How small a singular value is that counts as zero, as a share of the largest one.
fn negligible(args: &mut Args<'_, '_>, x: Sym, factor: f64) -> Result<f64> {
    let spec = args.call.spec(x);
    let most = spec.known(-1)?.max(spec.known(-2)?);
    let epsilon = if args.call.dtype(x) == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    Ok(factor * most as f64 * epsilon)
}

fn pseudo_inverse(args: &mut Args<'_, '_>, x: Sym, name: &str) -> Result<Sym> {
    let rank = rank(args, name, x)?;
    let share = match args.float("rcond") {
        Some(share) => share,
        None => negligible(args, x, 10.0)?,
    };
    let [s, u, v] = singular(args, x, false)?;
    let most = args.call.reduce("Max", s, &[-1], true)?;
    let share = args.call.scalar(share, s)?;
    let least = args.call.apply("Mul", &[most, share])?;
    let (counts, one) = (args.call.apply("Greater", &[s, least])?, args.call.scalar(1.0, s)?);
    let inverse = args.call.apply("RealDiv", &[one, s])?;
    let zeros = args.call.apply("ZerosLike", &[s])?;
    let inverse = args.call.apply("SelectV2", &[counts, inverse, zeros])?;
    let row = args.call.int(-2)?;
    let inverse = args.call.apply("ExpandDims", &[inverse, row])?;
    let v = args.call.apply("Mul", &[v, inverse])?;
    let u = turned(args, u, rank)?;
    args.call.apply("BatchMatMulV2", &[v, u])
}

fn least_squares(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [a, mut b] = args.pair("a", "b")?;
    let inverse = pseudo_inverse(args, a, "a")?;
    let vector = rank(args, "b", b)? + 1 == rank(args, "a", a)?;
    let last = args.call.int(-1)?;
    if vector {
        b = args.call.apply("ExpandDims", &[b, last])?;
    }
    let y = args.call.apply("BatchMatMulV2", &[inverse, b])?;
    if !vector {
        return Ok(y);
    }
    Ok(args.call.op("Squeeze").input(y).attr("squeeze_dims", vec![-1i64]).one()?)
}

fn matrix_rank(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let [s, ..] = singular(args, x, false)?;
    let least = match args.maybe("tol")? {
        Some(least) => args.call.cast(least, args.call.dtype(s))?,
        None => {
            let share = negligible(args, x, 1.0)?;
            let (most, share) = (args.call.reduce("Max", s, &[-1], true)?, args.call.scalar(share, s)?);
            args.call.apply("Mul", &[most, share])?
        }
    };
    let counts = args.call.apply("Greater", &[s, least])?;
    let counts = args.call.cast(counts, DType::I32)?;
    args.call.reduce("Sum", counts, &[-1], false)
}

/// The inverse of a matrix, from its Cholesky factor.
fn cholesky_inverse(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    let lower = if args.flag("upper") { turned(args, x, rank)? } else { x };
    // What is above the factor's diagonal doesn't count.
    let (all, none) = (args.call.int(-1)?, args.call.int(0)?);
    let lower = args.call.apply("MatrixBandPart", &[lower, all, none])?;
    let inverse = args.call.apply("MatrixInverse", &[lower])?;
    Ok(args.call.op("BatchMatMulV2").inputs(&[inverse, inverse]).attr("adj_x", true).one()?)
}

fn log_determinant(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let made = args.call.op("LogMatrixDeterminant").input(x).all()?;
    let [_, log] = crate::layer::inputs(&made)?;
    Ok(log)
}

/// A number for each pair of rows: how far apart they are.
fn distances(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [x, y] = args.float_pair("x", "y")?;
    let (before, last) = (args.call.int(-2)?, args.call.int(-3)?);
    let (x, y) = (args.call.apply("ExpandDims", &[x, before])?, args.call.apply("ExpandDims", &[y, last])?);
    let apart = args.call.apply("SquaredDifference", &[x, y])?;
    let sum = args.call.reduce("Sum", apart, &[-1], false)?;
    args.call.apply("Sqrt", &[sum])
}

/// Each block of the second, as often as the first has numbers, times that number.
fn kronecker(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [mut x, mut y] = args.pair("x1", "x2")?;
    let count = rank(args, "x1", x)?;
    if rank(args, "x2", y)? != count {
        return Err(Error::unsupported("products of tensors of different numbers of dimensions"));
    }
    let both = [args.call.apply("Shape", &[x])?, args.call.apply("Shape", &[y])?];
    let shape = args.call.apply("Mul", &both)?;
    for axis in 0..count as i64 {
        let (after, before) = (args.call.int(2 * axis + 1)?, args.call.int(2 * axis)?);
        x = args.call.apply("ExpandDims", &[x, after])?;
        y = args.call.apply("ExpandDims", &[y, before])?;
    }
    let product = args.call.apply("Mul", &[x, y])?;
    args.call.apply("Reshape", &[product, shape])
}

/// The product of vectors that stands upright on both, along the last axis.
/// The product of vectors in space; one in the plane stands there with a zero, and two of those give the third number alone.
fn cross(args: &mut Args<'_, '_>) -> Result<Sym> {
    let pair = args.pair("x1", "x2")?;
    let mut rank_of_both = 0;
    let mut in_plane = true;
    let mut spatial = Vec::with_capacity(pair.len());
    for (x, given, option) in [(pair[0], "x1", "axisa"), (pair[1], "x2", "axisb")] {
        let rank = rank(args, given, x)?;
        let option = if args.int("axis").is_some() { "axis" } else { option };
        let axis = args.axis(option, -1, rank)?;
        let order: Vec<usize> = (0..rank).filter(|a| *a != axis).chain([axis]).collect();
        let x = args.call.transpose(x, &order)?;
        let x = match args.call.spec(x).known(-1)? {
            2 => padded(args, x, rank)?,
            3 => {
                in_plane = false;
                x
            }
            other => return Err(Error::mismatch(format!("{given} has vectors of {other} numbers")).help("give vectors of two or three")),
        };
        rank_of_both = rank.max(rank_of_both);
        spatial.push(x);
    }
    let mut shifted = |i: usize, by: i64| {
        let (by, axis) = (args.call.int(by)?, args.call.int(-1)?);
        args.call.apply("Roll", &[spatial[i], by, axis])
    };
    let (x1, x2, y1, y2) = (shifted(0, -1)?, shifted(0, -2)?, shifted(1, -1)?, shifted(1, -2)?);
    let (first, second) = (args.call.apply("Mul", &[x1, y2])?, args.call.apply("Mul", &[x2, y1])?);
    let product = args.call.apply("Sub", &[first, second])?;
    if in_plane {
        let (third, axis) = (args.call.int(2)?, args.call.int(-1)?);
        return args.call.apply("GatherV2", &[product, third, axis]);
    }
    let axis = args.axis(if args.int("axis").is_some() { "axis" } else { "axisc" }, -1, rank_of_both)?;
    let mut order: Vec<usize> = (0..rank_of_both.saturating_sub(1)).collect();
    order.insert(axis, rank_of_both.saturating_sub(1));
    args.call.transpose(product, &order)
}

/// Vectors of one number more, zero.
fn padded(args: &mut Args<'_, '_>, x: Sym, rank: usize) -> Result<Sym> {
    let mut widths = vec![0; 2 * rank];
    if let Some(after) = widths.last_mut() {
        *after = 1;
    }
    let widths = args.call.ints(&widths)?;
    let widths = args.call.reshape(widths, &[-1, 2])?;
    args.call.apply("Pad", &[x, widths])
}

/// A diagonal as a matrix, `k` above the middle.
fn with_diagonal(args: &mut Args<'_, '_>, flat: bool) -> Result<Sym> {
    let mut x = args.tensor("x")?;
    if flat {
        x = args.call.reshape(x, &[-1])?;
    } else if rank(args, "x", x)? == 2 {
        return diagonal(args, "k", x);
    }
    let (k, all) = (args.call.int(args.int("k").unwrap_or(0))?, args.call.int(-1)?);
    let padding = args.call.scalar(0.0, x)?;
    args.call.apply("MatrixDiagV3", &[x, k, all, all, padding])
}

fn diagonal(args: &mut Args<'_, '_>, offset: &str, x: Sym) -> Result<Sym> {
    let k = args.call.int(args.int(offset).unwrap_or(0))?;
    let padding = args.call.scalar(0.0, x)?;
    args.call.apply("MatrixDiagPartV3", &[x, k, padding])
}

fn diagonal_of(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let rank = rank(args, "x", x)?;
    let (a, b) = (args.axis("axis1", 0, rank)?, args.axis("axis2", 1, rank)?);
    let order: Vec<usize> = (0..rank).filter(|i| *i != a && *i != b).chain([a, b]).collect();
    let x = args.call.transpose(x, &order)?;
    diagonal(args, "offset", x)
}

fn correlations(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let mean = args.call.reduce("Mean", x, &[-1], true)?;
    let apart = args.call.apply("Sub", &[x, mean])?;
    let products = args.call.op("BatchMatMulV2").inputs(&[apart, apart]).attr("adj_y", true).one()?;
    let squares = args.call.apply("Square", &[apart])?;
    let sizes = args.call.reduce("Sum", squares, &[-1], true)?;
    let sizes = args.call.apply("Sqrt", &[sizes])?;
    let both = args.call.op("BatchMatMulV2").inputs(&[sizes, sizes]).attr("adj_y", true).one()?;
    args.call.apply("RealDiv", &[products, both])
}

pub(super) const ROWS: &[Row] = &[
    row("linalg.SVD(x; full_matrices compute_uv)", Many(svd)),
    row("linalg.Qr(x; mode)", Many(qr)),
    row("linalg.Eig(x) = linalg.eig(tensor:x) | eig(tensor:x)", Many(eigen_of_any)),
    row("linalg.Eigh(x)", Many(eigen)),
    row("linalg.LuFactor(x)", Many(lu)),
    row("linalg.Pinv(x; rcond)", One(|a| { let x = a.float_tensor("x")?; pseudo_inverse(a, x, "x") })),
    row("linalg.Lstsq(a b; rcond)", One(least_squares)),
    row("linalg.MatrixRank(x; tol)", One(matrix_rank)),
    row("linalg.CholeskyInverse(x; upper)", One(cholesky_inverse)),
    row("numpy.Slogdet(x) = linalg.slogdet(input:x)", Many(|a| {
        let x = a.float_tensor("x")?;
        Ok(a.call.op("LogMatrixDeterminant").input(x).all()?)
    })),
    row("math.Logdet(x) = linalg.logdet(matrix:x)", One(log_determinant)),
    row("math.CDist(x y)", One(distances)),
    row("numpy.Kron(x1 x2)", One(kronecker)),
    row("numpy.Cross(x1 x2; axisa axisb axisc axis)", One(cross)),
    row("numpy.Vdot(x1 x2)", One(|a| {
        let [x, y] = a.pair("x1", "x2")?;
        let (x, y) = (a.call.reshape(x, &[-1])?, a.call.reshape(y, &[-1])?);
        let product = a.call.apply("Mul", &[x, y])?;
        a.call.reduce("Sum", product, &[0], false)
    })),
    row("numpy.Diag(x; k)", One(|a| with_diagonal(a, false))),
    row("numpy.Diagflat(x; k)", One(|a| with_diagonal(a, true))),
    row("numpy.Diagonal(x; offset axis1 axis2)", One(diagonal_of)),
    row("numpy.Corrcoef(x)", One(correlations)),
];
