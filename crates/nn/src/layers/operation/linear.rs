//! Products of matrices and tensors, and what is made of them.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::reductions::rank;
use super::table::Form::{Float, Many, One};
use super::table::{Row, row};
use crate::config::resolve_axis;

/// `a @ b` as NumPy has it: vectors become matrices for the while.
fn matmul(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [mut a, mut b] = args.pair("x1", "x2")?;
    let ranks = [rank(args, "x1", a)?, rank(args, "x2", b)?];
    if ranks[0] == 1 {
        let axis = args.call.int(0)?;
        a = args.call.apply("ExpandDims", &[a, axis])?;
    }
    if ranks[1] == 1 {
        let axis = args.call.int(-1)?;
        b = args.call.apply("ExpandDims", &[b, axis])?;
    }
    let (x, y) = (args.flag("transpose_a") || args.flag("adjoint_a"), args.flag("transpose_b") || args.flag("adjoint_b"));
    let mut product = args.call.op("BatchMatMulV2").inputs(&[a, b]).attr("adj_x", x).attr("adj_y", y).one()?;
    if ranks[0] == 1 {
        product = args.call.op("Squeeze").input(product).attr("squeeze_dims", vec![-2i64]).one()?;
    }
    if ranks[1] == 1 {
        product = args.call.op("Squeeze").input(product).attr("squeeze_dims", vec![-1i64]).one()?;
    }
    Ok(product)
}

/// A contraction by an equation over letters of the alphabet.
fn contracted(args: &mut Args<'_, '_>, a: Sym, b: Sym, equation: String) -> Result<Sym> {
    Ok(args.call.op("Einsum").inputs(&[a, b]).attr("equation", equation).one()?)
}

fn letters(from: u8, count: usize) -> Result<Vec<char>> {
    if count > 12 {
        return Err(Error::unsupported("tensors of more than 12 dimensions"));
    }
    Ok((0..count).map(|i| char::from(from + i as u8)).collect())
}

fn equation(a: &[char], b: &[char], out: &[char]) -> String {
    let text = |c: &[char]| c.iter().collect::<String>();
    format!("{},{}->{}", text(a), text(b), text(out))
}

/// A product along the last axes; of booleans, whether any pair is true.
fn inner(args: &mut Args<'_, '_>) -> Result<Sym> {
    let y = tensordot(args, Some([vec![-1], vec![-1]]))?;
    let [x, _] = args.pair("x1", "x2")?;
    args.call.cast(y, args.call.dtype(x))
}

fn tensordot(args: &mut Args<'_, '_>, axes: Option<[Vec<i64>; 2]>) -> Result<Sym> {
    let [mut x, mut y] = args.pair("x1", "x2")?;
    if args.call.dtype(x) == DType::Bool {
        (x, y) = (args.call.cast(x, DType::F32)?, args.call.cast(y, DType::F32)?);
    }
    let ranks = [rank(args, "x1", x)?, rank(args, "x2", y)?];
    let axes = match axes {
        Some(axes) => axes,
        None => match args.value("axes") {
            Some(serde_json::Value::Array(pair)) => {
                let list = |v: Option<&serde_json::Value>| match v {
                    Some(serde_json::Value::Array(l)) => l.iter().filter_map(serde_json::Value::as_i64).collect(),
                    Some(one) => one.as_i64().into_iter().collect(),
                    None => Vec::new(),
                };
                [list(pair.first()), list(pair.get(1))]
            }
            count => {
                let n = count.and_then(|v| v.as_i64()).unwrap_or(2);
                [(-n..0).collect(), (0..n).collect()]
            }
        },
    };
    let (a, mut b) = (letters(b'a', ranks[0])?, letters(b'n', ranks[1])?);
    let mut summed = Vec::new();
    for (&i, &j) in axes[0].iter().zip(&axes[1]) {
        let (i, j) = (resolve_axis(i, ranks[0])?, resolve_axis(j, ranks[1])?);
        b[j] = a[i];
        summed.push(a[i]);
    }
    let out: Vec<char> = a.iter().chain(&b).copied().filter(|c| !summed.contains(c)).collect();
    contracted(args, x, y, equation(&a, &b, &out))
}

/// NumPy's `dot`: over the last axis of one and the last but one of the other.
fn dot(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [x, y] = args.pair("x1", "x2")?;
    match [rank(args, "x1", x)?, rank(args, "x2", y)?] {
        [0, _] | [_, 0] => args.call.apply("Mul", &[x, y]),
        [_, 1] => tensordot(args, Some([vec![-1], vec![0]])),
        _ => tensordot(args, Some([vec![-1], vec![-2]])),
    }
}

fn outer(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [x, y] = args.pair("x1", "x2")?;
    let (x, y) = (args.call.reshape(x, &[-1, 1])?, args.call.reshape(y, &[1, -1])?);
    args.call.apply("Mul", &[x, y])
}

fn einsum(args: &mut Args<'_, '_>) -> Result<Sym> {
    let equation = args.text("subscripts").ok_or_else(|| Error::missing("the op has no equation"))?;
    let operands: Vec<Sym> = args.given.to_vec();
    let dtype = operands.iter().map(|&x| args.call.dtype(x)).reduce(super::promote);
    let dtype = dtype.ok_or_else(|| Error::mismatch("it takes at least one tensor"))?;
    let operands = operands.into_iter().map(|x| args.call.cast(x, dtype)).collect::<Result<Vec<_>>>()?;
    Ok(args.call.op("Einsum").inputs(&operands).attr("equation", equation.replace(' ', "")).one()?)
}

fn inverse_transposed(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let y = args.call.apply("Cholesky", &[x])?;
    if !args.flag("upper") {
        return Ok(y);
    }
    let rank = rank(args, "x", x)?;
    let mut order: Vec<usize> = (0..rank).collect();
    if rank > 1 {
        order.swap(rank - 1, rank - 2);
    }
    args.call.transpose(y, &order)
}

fn solve(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let [a, mut b] = args.pair("a", "b")?;
    let vector = rank(args, "b", b)? + 1 == rank(args, "a", a)?;
    if vector {
        let axis = args.call.int(-1)?;
        b = args.call.apply("ExpandDims", &[b, axis])?;
    }
    let lower = args.flag("lower");
    let call = args.call.op(op).inputs(&[a, b]);
    let call = if op == "MatrixTriangularSolve" { call.attr("lower", lower) } else { call };
    let y = call.one()?;
    if !vector {
        return Ok(y);
    }
    Ok(args.call.op("Squeeze").input(y).attr("squeeze_dims", vec![-1i64]).one()?)
}

fn determinant(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    args.call.apply("MatrixDeterminant", &[x])
}

fn trace(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let part = args.call.apply("MatrixDiagPart", &[x])?;
    args.call.reduce("Sum", part, &[-1], false)
}

fn transform(args: &mut Args<'_, '_>, op: &'static str) -> Result<Vec<Sym>> {
    // Keras 3's FFTs take and give pairs of real and imaginary parts.
    let parts = args.list("x")?;
    let [re, im] = crate::layer::inputs(&parts)?;
    let (re, im) = (args.call.cast(re, DType::F32)?, args.call.cast(im, DType::F32)?);
    let x = args.call.apply("Complex", &[re, im])?;
    let y = args.call.apply(op, &[x])?;
    Ok(vec![args.call.apply("Real", &[y])?, args.call.apply("Imag", &[y])?])
}

fn segments(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let (data, ids) = (args.tensor("data")?, args.indices("segment_ids")?);
    let count = args.indices("num_segments")?;
    args.call.apply(op, &[data, ids, count])
}

pub(super) const ROWS: &[Row] = &[
    row("numpy.Matmul(x1 x2) = linalg.matmul(a:x1 b:x2 transpose_a transpose_b adjoint_a adjoint_b) | matmul(a:x1 b:x2 transpose_a transpose_b adjoint_a adjoint_b) | __operators__.matmul(x:x1 y:x2)", One(matmul)),
    row("= linalg.matvec(a:x1 b:x2 transpose_a adjoint_a)", One(matmul)),
    row("numpy.Dot(x1 x2)", One(dot)),
    row("numpy.Inner(x1 x2)", One(inner)),
    row("numpy.Outer(x1 x2)", One(outer)),
    row("numpy.Tensordot(x1 x2; axes) = tensordot(a:x1 b:x2 axes)", One(|a| tensordot(a, None))),
    row("numpy.Einsum(operands; subscripts) = einsum(equation:subscripts inputs:operands)", One(einsum)),
    row("numpy.Trace(x; offset axis1 axis2) = linalg.trace(x)", One(trace)),
    row("linalg.Cholesky(x; upper) = linalg.cholesky(input:x)", One(inverse_transposed)),
    row("linalg.Det(x) = linalg.det(input:x)", One(determinant)),
    row("linalg.Inv(x) = linalg.inv(input:x adjoint)", Float("MatrixInverse")),
    row("linalg.Solve(a b) = linalg.solve(matrix:a rhs:b adjoint)", One(|a| solve(a, "MatrixSolve"))),
    row("linalg.SolveTriangular(a b; lower) = linalg.triangular_solve(matrix:a rhs:b lower adjoint)", One(|a| solve(a, "MatrixTriangularSolve"))),
    row("math.FFT(x)", Many(|a| transform(a, "FFT"))),
    row("math.FFT2(x)", Many(|a| transform(a, "FFT2D"))),
    row("math.IFFT2(x)", Many(|a| transform(a, "IFFT2D"))),
    row("math.SegmentSum(data segment_ids; num_segments sorted) = math.unsorted_segment_sum(data segment_ids num_segments)", One(|a| segments(a, "UnsortedSegmentSum"))),
    row("math.SegmentMin(data segment_ids; num_segments sorted) = math.unsorted_segment_min(data segment_ids num_segments)", One(|a| segments(a, "UnsortedSegmentMin"))),
    row("math.SegmentProd(data segment_ids; num_segments sorted) = math.unsorted_segment_prod(data segment_ids num_segments)", One(|a| segments(a, "UnsortedSegmentProd"))),
    row("math.SegmentMax(data segment_ids; num_segments sorted) = math.unsorted_segment_max(data segment_ids num_segments)", One(|a| segments(a, "UnsortedSegmentMax"))),
];
