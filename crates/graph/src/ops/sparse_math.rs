//! Sparse tensors: arithmetic with each other and with dense ones, and reductions.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::args::{axis, many, one, tensors};
use super::coordinates::{Coordinates, Sparse, pick, vector};
use super::sparse::{bounded, values_at};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array::{self, Scatter};
use crate::tensor::kernels::elementwise as e;
use crate::tensor::kernels::matmul::{Form, matmul};
use crate::tensor::{self, DType, Tensor, dispatch};
use crate::{Error, Result};

/// Half precision is summed in `float32` and rounded once.
fn wide(dtype: DType) -> DType {
    if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype }
}

fn times_dense(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (adjoint_a, adjoint_b) = (a.bool("adjoint_a")?, a.bool("adjoint_b")?);
    Ok(kernel(move |_, inputs| {
        let [indices, values, shape, b] = tensors(inputs)?;
        let dtype = values.dtype();
        let (a, extents) = bounded(&indices, array::cast(&values, wide(dtype))?, &shape)?;
        let &[rows, columns] = &extents[..] else {
            return Err(Error::compute(format!("a must be a matrix, got shape {:?}", a.shape)));
        };
        let mut b = array::cast(&b, wide(dtype))?;
        if adjoint_b {
            b = e::conj(array::matrix_transpose(&b)?)?;
        }
        let (from, to, rows, columns) = if adjoint_a { (0, 1, columns, rows) } else { (1, 0, rows, columns) };
        let &[inner, width] = b.shape() else {
            return Err(Error::compute(format!("b must be a matrix, got shape {:?}", b.shape())));
        };
        if inner != columns {
            return Err(Error::compute(format!("a matrix of {columns} columns times one of {inner} rows")));
        }
        let column = |d: usize| a.indices.rows().map(|row| row[d]).collect::<Vec<i64>>();
        let n = a.indices.len();
        let factors = if adjoint_a { e::conj(a.values.clone())? } else { a.values.clone() };
        let picked = array::gather(&b, &vector(column(from))?, 0, 0)?;
        let products = e::mul(picked, factors.reshape([n, 1])?)?;
        let places = Tensor::from_vec(column(to), [n, 1])?;
        let sum = array::scatter(Tensor::zeros(b.dtype(), [rows, width])?, &places, &products, Scatter::Add)?;
        one(array::cast(&sum, dtype)?)
    }))
}

/// A product of dense matrices, of which TensorFlow is told that they are mostly zeros.
fn mostly_zeros(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let forms = [Form::transposed(a.bool("transpose_a")?), Form::transposed(a.bool("transpose_b")?)];
    Ok(kernel(move |_, inputs| {
        let [a, b] = tensors(inputs)?;
        if a.rank() != 2 || b.rank() != 2 {
            return Err(Error::compute(format!("takes matrices, got shapes {:?} and {:?}", a.shape(), b.shape())));
        }
        let (a, b) = (array::cast(&a, DType::F32)?, array::cast(&b, DType::F32)?);
        one(matmul(&a, forms[0], &b, forms[1])?)
    }))
}

/// Indices that are in either of two lists, both in order, and where those of each list are among them.
struct Union {
    all: Coordinates,
    places: [Vec<i64>; 2],
}

impl Union {
    fn of(a: &Sparse, b: &Sparse) -> Result<Self> {
        if a.shape != b.shape {
            return Err(Error::compute(format!("operands' shapes do not match: {:?} and {:?}", a.shape, b.shape)));
        }
        let (x, y) = (&a.indices, &b.indices);
        let (mut all, mut places) = (Vec::new(), [Vec::new(), Vec::new()]);
        let (mut i, mut j) = (0, 0);
        while i < x.len() || j < y.len() {
            let order = match (i < x.len(), j < y.len()) {
                (true, true) => x.row(i).cmp(y.row(j)),
                (true, false) => Ordering::Less,
                _ => Ordering::Greater,
            };
            let at = all.len() as i64;
            all.push(if order == Ordering::Greater { y.row(j) } else { x.row(i) });
            if order != Ordering::Greater {
                places[0].push(at);
                i += 1;
            }
            if order != Ordering::Less {
                places[1].push(at);
                j += 1;
            }
        }
        Ok(Union { all: Coordinates::from_rows(x.rank(), all), places })
    }

    /// The values of one of both where they are among all, zeros elsewhere.
    fn spread(&self, which: usize, values: &Tensor) -> Result<Tensor> {
        let places = Tensor::from_slice(&self.places[which], [self.places[which].len(), 1])?;
        let zeros = Tensor::zeros(values.dtype(), [self.all.len()])?;
        Ok(array::scatter(zeros, &places, values, Scatter::Update)?)
    }
}

fn add() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [ai, av, ashape, bi, bv, bshape, least] = tensors(inputs)?;
        let (a, b) = (Sparse::of(&ai, av, &ashape)?, Sparse::of(&bi, bv, &bshape)?);
        let union = Union::of(&a, &b)?;
        let sum = e::add(union.spread(0, &a.values)?, union.spread(1, &b.values)?)?;
        let size = if sum.dtype().is_complex() { e::magnitude(&sum)? } else { e::abs(sum.clone())? };
        let (size, least) = (array::cast(&size, DType::F64)?, array::cast(&least, DType::F64)?.item::<f64>()?);
        let sizes = size.elements::<f64>()?;
        // Only what was added up can have become too small.
        let mut both = vec![0; sizes.len()];
        union.places.iter().flatten().for_each(|i| both[*i as usize] += 1);
        let kept: Vec<usize> = (0..sizes.len()).filter(|i| both[*i] < 2 || least <= sizes[*i]).collect();
        Sparse { indices: union.all, values: sum, shape: a.shape }.pick(&kept)?.outputs()
    }))
}

fn add_grad() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [grad, a, b, sum] = tensors(inputs)?;
        if a.shape().get(1) != b.shape().get(1) || a.shape().get(1) != sum.shape().get(1) {
            let shapes = [&a, &b, &sum].map(|t| t.shape());
            return Err(Error::compute(format!("indices of tensors of different ranks: {shapes:?}")));
        }
        let sum = Coordinates::of(&sum)?;
        if grad.shape() != [sum.len()] {
            return Err(Error::compute(format!("a gradient of shape {:?} for {} indices", grad.shape(), sum.len())));
        }
        many([values_at(&grad, &sum, &Coordinates::of(&a)?)?, values_at(&grad, &sum, &Coordinates::of(&b)?)?])
    }))
}

type Binary = fn(Tensor, Tensor) -> tensor::Result<Tensor>;

/// Of two sparse tensors, with zeros where one has nothing.
fn between(f: Binary) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [ai, av, ashape, bi, bv, bshape] = tensors(inputs)?;
        let (a, b) = (Sparse::of(&ai, av, &ashape)?, Sparse::of(&bi, bv, &bshape)?);
        let union = Union::of(&a, &b)?;
        many([union.all.tensor()?, f(union.spread(0, &a.values)?, union.spread(1, &b.values)?)?])
    }))
}

fn add_to_dense() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [indices, values, shape, b] = tensors(inputs)?;
        let (a, extents) = bounded(&indices, values, &shape)?;
        if b.shape() != &extents[..] {
            return Err(Error::compute(format!("shapes {:?} and {:?} aren't the same", a.shape, b.shape())));
        }
        one(array::scatter(b, &a.indices.tensor()?, &a.values, Scatter::Add)?)
    }))
}

/// With a dense tensor that broadcasts, where the sparse one has values.
fn with_dense(f: Binary) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [indices, values, shape, dense] = tensors(inputs)?;
        let (x, extents) = bounded(&indices, values, &shape)?;
        let lead = extents.len().checked_sub(dense.rank());
        let fits = lead.filter(|l| dense.shape().iter().zip(&extents[*l..]).all(|(d, n)| *d == 1 || d == n));
        let lead = fits.ok_or_else(|| {
            Error::compute(format!("a dense shape {:?} doesn't broadcast to the sparse {:?}", dense.shape(), x.shape))
        })?;
        let place = |row: &[i64]| -> Vec<i64> {
            row[lead..].iter().zip(dense.shape()).map(|(v, n)| if *n == 1 { 0 } else { *v }).collect()
        };
        let places = Coordinates::from_rows(dense.rank(), x.indices.rows().map(place)).tensor()?;
        one(f(x.values, array::gather_nd(&dense, &places, 0)?)?)
    }))
}

/// Numbers for the groups of rows that have the same of `kept`, by the order of these, and the rows that stand for groups.
fn groups(indices: &Coordinates, kept: impl Fn(&[i64]) -> Vec<i64>) -> (Vec<i64>, Vec<Vec<i64>>) {
    let keys: Vec<Vec<i64>> = indices.rows().map(kept).collect();
    let mut distinct = keys.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let numbers: HashMap<&Vec<i64>, i64> = distinct.iter().enumerate().map(|(i, k)| (k, i as i64)).collect();
    (keys.iter().map(|k| numbers[k]).collect(), distinct)
}

fn softmax() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [indices, values, shape] = tensors(inputs)?;
        let (x, _) = bounded(&indices, values, &shape)?;
        if x.shape.len() < 2 {
            return Err(Error::compute(format!("takes at least a matrix, got shape {:?}", x.shape)));
        }
        let (numbers, rows) = groups(&x.indices, |row| row[..row.len() - 1].to_vec());
        let wide = array::cast(&x.values, DType::F64)?;
        let values = wide.elements::<f64>()?;
        let (mut most, mut sums) = (vec![f64::NEG_INFINITY; rows.len()], vec![0.0; rows.len()]);
        let pairs = || numbers.iter().map(|n| *n as usize).zip(&*values);
        pairs().for_each(|(row, v)| most[row] = most[row].max(*v));
        let powers: Vec<f64> = pairs().map(|(row, v)| (v - most[row]).exp()).collect();
        pairs().zip(&powers).for_each(|((row, _), p)| sums[row] += p);
        let out = pairs().zip(&powers).map(|((row, _), p)| p / sums[row]).collect::<Vec<f64>>();
        let n = out.len();
        one(array::cast(&Tensor::from_vec(out, [n])?, x.values.dtype())?)
    }))
}

/// What is left of an index when some dimensions are combined.
struct Reduction {
    kept: Vec<usize>,
    keep_dims: bool,
}

impl Reduction {
    fn index(&self, row: &[i64]) -> Vec<i64> {
        if !self.keep_dims {
            return self.kept.iter().map(|d| row[*d]).collect();
        }
        (0..row.len()).map(|d| if self.kept.contains(&d) { row[d] } else { 0 }).collect()
    }

    fn shape(&self, shape: &[i64]) -> Vec<i64> {
        if !self.keep_dims {
            return self.kept.iter().map(|d| shape[*d]).collect();
        }
        (0..shape.len()).map(|d| if self.kept.contains(&d) { shape[d] } else { 1 }).collect()
    }
}

/// Sums or maxima over axes.
fn reduce(a: &NodeAttrs<'_>, how: Scatter, dense: bool) -> Result<Box<dyn Kernel>> {
    let keep_dims = a.bool("keep_dims")?;
    Ok(kernel(move |_, inputs| {
        let [indices, values, shape, axes] = tensors(inputs)?;
        let dtype = values.dtype();
        let (x, _) = bounded(&indices, array::cast(&values, wide(dtype))?, &shape)?;
        let rank = x.shape.len();
        let over = axes.to_i64_vec()?.into_iter().map(|a| axis(a, rank)).collect::<Result<Vec<_>>>()?;
        let reduction = Reduction { kept: (0..rank).filter(|d| !over.contains(d)).collect(), keep_dims };
        let (numbers, rows) = groups(&x.indices, |row| reduction.index(row));
        let start = match how {
            Scatter::Max => dispatch!(native_real x.values.dtype(), T => Tensor::scalar(T::MIN),
                else => return Err(Error::compute(format!("a maximum of {dtype}")))),
            _ => Tensor::zeros(x.values.dtype(), [])?,
        };
        let n = numbers.len();
        let places = Tensor::from_vec(numbers, [n, 1])?;
        let values = array::scatter(array::fill(&[rows.len()], &start)?, &places, &x.values, how)?;
        let shape = reduction.shape(&x.shape);
        let indices = Coordinates::from_rows(shape.len(), rows);
        let out = Sparse { indices, values: array::cast(&values, dtype)?, shape };
        if !dense {
            return out.outputs();
        }
        densified(&out)
    }))
}

fn densified(x: &Sparse) -> Result<Values> {
    let zeros = Tensor::zeros(x.values.dtype(), x.extents()?)?;
    if x.shape.is_empty() {
        // Everything in one number, or nothing at all.
        let last = x.indices.len().checked_sub(1);
        return one(last.map_or(Ok(zeros), |i| Ok::<_, Error>(pick(&x.values, &[i])?.reshape([])?))?);
    }
    one(array::scatter(zeros, &x.indices.tensor()?, &x.values, Scatter::Update)?)
}

pub(super) const OPS: &[Op] = &[
    Op::new("SparseTensorDenseMatMul(a_indices: Tindices, a_values: T, a_shape: int64, b: T) -> (product: T); T: type; Tindices: type = int64; adjoint_a: bool = false; adjoint_b: bool = false", times_dense),
    Op::new("SparseMatMul(a: Ta, b: Tb) -> (product: float32); transpose_a: bool = false; transpose_b: bool = false; a_is_sparse: bool = false; b_is_sparse: bool = false; Ta: type = float32; Tb: type = float32", mostly_zeros),
    Op::new("SparseAdd(a_indices: int64, a_values: T, a_shape: int64, b_indices: int64, b_values: T, b_shape: int64, thresh: Treal) -> (sum_indices: int64, sum_values: T, sum_shape: int64); T: type; Treal: type", |_| add()),
    Op::new("SparseAddGrad(backprop_val_grad: T, a_indices: int64, b_indices: int64, sum_indices: int64) -> (a_val_grad: T, b_val_grad: T); T: type", |_| add_grad()),
    Op::new("SparseSparseMaximum(a_indices: int64, a_values: T, a_shape: int64, b_indices: int64, b_values: T, b_shape: int64) -> (output_indices: int64, output_values: T); T: type", |_| between(e::maximum)),
    Op::new("SparseSparseMinimum(a_indices: int64, a_values: T, a_shape: int64, b_indices: int64, b_values: T, b_shape: int64) -> (output_indices: int64, output_values: T); T: type", |_| between(e::minimum)),
    Op::new("SparseTensorDenseAdd(a_indices: Tindices, a_values: T, a_shape: Tindices, b: T) -> (output: T); T: type; Tindices: type", |_| add_to_dense()),
    Op::new("SparseDenseCwiseAdd(sp_indices: int64, sp_values: T, sp_shape: int64, dense: T) -> (output: T); T: type", |_| with_dense(e::add)),
    Op::new("SparseDenseCwiseMul(sp_indices: int64, sp_values: T, sp_shape: int64, dense: T) -> (output: T); T: type", |_| with_dense(e::mul)),
    Op::new("SparseDenseCwiseDiv(sp_indices: int64, sp_values: T, sp_shape: int64, dense: T) -> (output: T); T: type", |_| with_dense(e::div)),
    Op::new("SparseSoftmax(sp_indices: int64, sp_values: T, sp_shape: int64) -> (output: T); T: type", |_| softmax()),
    Op::new("SparseReduceSum(input_indices: int64, input_values: T, input_shape: int64, reduction_axes: int32) -> (output: T); keep_dims: bool = false; T: type", |a| reduce(a, Scatter::Add, true)),
    Op::new("SparseReduceSumSparse(input_indices: int64, input_values: T, input_shape: int64, reduction_axes: int32) -> (output_indices: int64, output_values: T, output_shape: int64); keep_dims: bool = false; T: type", |a| reduce(a, Scatter::Add, false)),
    Op::new("SparseReduceMax(input_indices: int64, input_values: T, input_shape: int64, reduction_axes: int32) -> (output: T); keep_dims: bool = false; T: type", |a| reduce(a, Scatter::Max, true)),
    Op::new("SparseReduceMaxSparse(input_indices: int64, input_values: T, input_shape: int64, reduction_axes: int32) -> (output_indices: int64, output_values: T, output_shape: int64); keep_dims: bool = false; T: type", |a| reduce(a, Scatter::Max, false)),
];
