//! The two halves of a QR decomposition as LAPACK has them, which StableHLO modules call by name.

use super::Op;
use super::args::{many, one, tensors};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{DType, Shape, Tensor, memory};
use crate::{Error, Result};

/// A stack of matrices: how many, their rows and columns, and their elements.
struct Stack {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
}

impl Stack {
    fn of(x: &Tensor) -> Result<Stack> {
        let [.., rows, columns] = *x.shape() else {
            return Err(Error::compute(format!("takes matrices, got shape {:?}", x.shape())));
        };
        if !x.dtype().is_float() {
            return Err(Error::compute(format!("{} isn't decomposed so", x.dtype())));
        }
        memory::check(x.len().saturating_mul(8))?;
        Ok(Stack { rows, columns, values: array::cast(x, DType::F64)?.elements::<f64>()?.into_owned() })
    }
}

/// `geqrf`: the triangle, with the reflections that make it below the diagonal, and their factors.
fn reflections() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x] = tensors(inputs)?;
        let Stack { rows, columns, mut values } = Stack::of(&x)?;
        let least = rows.min(columns);
        let size = (rows * columns).max(1);
        let mut factors = Vec::new();
        for a in values.chunks_mut(size) {
            for k in 0..least {
                let first = a[k * columns + k];
                let rest: f64 = (k + 1..rows).map(|i| a[i * columns + k].powi(2)).sum();
                if rest == 0.0 {
                    factors.push(0.0);
                    continue;
                }
                let length = -(first * first + rest).sqrt().copysign(first);
                let factor = (length - first) / length;
                (k + 1..rows).for_each(|i| a[i * columns + k] /= first - length);
                a[k * columns + k] = length;
                reflect(a, columns, (k, k + 1..columns), factor, |a, i| a[i * columns + k], rows);
                factors.push(factor);
            }
        }
        let shape: Shape = x.shape()[..x.rank() - 2].iter().chain(&[least]).copied().collect();
        let factors = array::cast(&Tensor::from_vec(factors, shape)?, x.dtype())?;
        many([array::cast(&Tensor::from_vec(values, x.shape())?, x.dtype())?, factors])
    }))
}

/// Columns of `a` reflected by the vector whose first element, in row `k`, is one.
fn reflect(
    a: &mut [f64],
    columns: usize,
    (k, range): (usize, std::ops::Range<usize>),
    factor: f64,
    vector: impl Fn(&[f64], usize) -> f64,
    rows: usize,
) {
    for j in range {
        let dot = a[k * columns + j] + (k + 1..rows).map(|i| vector(a, i) * a[i * columns + j]).sum::<f64>();
        a[k * columns + j] -= factor * dot;
        for i in k + 1..rows {
            a[i * columns + j] -= factor * dot * vector(a, i);
        }
    }
}

/// `orgqr`: the orthogonal matrix that reflections make.
fn orthogonal() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, factors] = tensors(inputs)?;
        let Stack { rows, columns, values } = Stack::of(&x)?;
        let count = factors.shape().last().copied().unwrap_or(0);
        let stacked = factors.rank() + 1 == x.rank() && factors.shape().iter().zip(x.shape()).take(factors.rank().max(1) - 1).all(|(a, b)| a == b);
        if !stacked || count > rows.min(columns) {
            return Err(Error::compute(format!("factors of shape {:?} for reflections of {:?}", factors.shape(), x.shape())));
        }
        let factors = array::cast(&factors, DType::F64)?;
        let factors = factors.elements::<f64>()?;
        let size = (rows * columns).max(1);
        let mut made = vec![0.0; values.len()];
        for (n, (q, v)) in made.chunks_mut(size).zip(values.chunks(size)).enumerate() {
            (0..rows.min(columns)).for_each(|i| q[i * columns + i] = 1.0);
            for k in (0..count).rev() {
                let factor = factors.get(n * count + k).copied().unwrap_or(0.0);
                reflect(q, columns, (k, 0..columns), factor, |_, i| v[i * columns + k], rows);
            }
        }
        one(array::cast(&Tensor::from_vec(made, x.shape())?, x.dtype())?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("ModelarkHloOrthogonal(a: T, factors: T) -> (q: T); T: type", |_| orthogonal()),
    Op::new("ModelarkHloReflections(x: T) -> (a: T, factors: T); T: type", |_| reflections()),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;
    use crate::engine::{Program, Resources};

    #[test]
    fn the_two_make_the_matrix_again() {
        let mut b = Builder::new("f");
        let x = b.arg("x", DType::F32).expect("arg");
        let made = b.op("ModelarkHloReflections").input(x).all().expect("reflections");
        let q = b.op("ModelarkHloOrthogonal").inputs(&made).one().expect("orthogonal");
        let (below, all) = (b.scalar(0i64).expect("below"), b.scalar(-1i64).expect("all"));
        let r = b.op("MatrixBandPart").inputs(&[made[0], below, all]).one().expect("triangle");
        // The triangle's rows, as many as the matrix has columns.
        let begin = b.ints(&[0, 0]).expect("begin");
        let size = b.ints(&[2, 2]).expect("size");
        let r = b.op("Slice").inputs(&[r, begin, size]).one().expect("rows");
        let product = b.matmul(q, r).expect("product");
        let (f, mut library) = b.finish(&[("y", product)]).expect("function");
        library.insert(f);
        let x = Tensor::from_vec(vec![1.0f32, 2.0, -3.0, 4.0, 5.0, 0.5], [3, 2]).expect("tensor");
        let run = Program::new(library).function("f").expect("plan");
        let out = run.run(&Resources::new(), [x.clone().into()].into_iter().collect()).expect("run");
        let got = out[0].tensor().expect("tensor").as_slice::<f32>().expect("f32").to_vec();
        for (g, w) in got.iter().zip(x.as_slice::<f32>().expect("f32")) {
            assert!((g - w).abs() < 1e-5, "{got:?}");
        }
    }
}
