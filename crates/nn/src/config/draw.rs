//! Drawing first values: Keras's own numbers where a seed fixes them, others of the same distribution where none does.

use modelark_artifact::graph::engine::{Program, Resources, RunOptions, Values};
use modelark_artifact::graph::{Builder, Sym};
use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{Error, Result};

use super::initializer::numbers;
use crate::random::Random;

/// What values are drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Draw {
    /// Even between two numbers.
    Uniform(f64, f64),
    /// Normal, of this mean and deviation.
    Normal(f64, f64),
    /// The same without what is over two deviations away.
    Truncated(f64, f64),
    /// An orthogonal matrix times a gain.
    Orthogonal(f64),
}

/// The philox generator, which TensorFlow takes on a CPU.
const PHILOX: i32 = 1;

impl Draw {
    /// Values of Modelark's own.
    pub fn values(self, shape: &[usize], count: usize, random: &mut Random) -> Result<Vec<f64>> {
        Ok(match self {
            Draw::Uniform(low, high) => (0..count).map(|_| low + (high - low) * random.uniform()).collect(),
            Draw::Normal(mean, deviation) => (0..count).map(|_| mean + deviation * random.normal()).collect(),
            Draw::Truncated(mean, deviation) => {
                (0..count).map(|_| mean + deviation * truncated(random)).collect()
            }
            Draw::Orthogonal(gain) => orthogonal(gain, shape, count, random)?,
        })
    }

    /// The values that Keras draws from this seed: by TensorFlow's stateless ops, seeded with `[seed, 0]`. Seeds that
    /// 31 bits don't hold are taken as Keras 3 takes them.
    pub fn seeded(self, seed: i64, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let mut builder = Builder::new("draw");
        let values = self.trace(&mut builder, seed, shape, dtype)?;
        let (function, mut library) = builder.finish(&[("values", values)])?;
        library.insert(function);
        let executable = Program::new(library).function("draw")?;
        let mut made =
            executable.run_with(&Resources::new(), Values::new(), &RunOptions::default())?.into_iter();
        let value = made.next().ok_or_else(|| Error::invalid("nothing was drawn"))?;
        Ok(value.into_tensor()?)
    }

    fn trace(self, b: &mut Builder, seed: i64, shape: &[usize], dtype: DType) -> Result<Sym> {
        let (op, scale, offset) = match self {
            Draw::Uniform(low, high) => {
                // The difference is one of numbers of this dtype.
                let both = [rounded(low, dtype)?, rounded(high, dtype)?];
                ("StatelessRandomUniformV2", both[1] - both[0], low)
            }
            Draw::Normal(mean, deviation) => ("StatelessRandomNormalV2", deviation, mean),
            Draw::Truncated(mean, deviation) => ("StatelessTruncatedNormalV2", deviation, mean),
            Draw::Orthogonal(gain) => return orthonormal(b, gain, seed, shape, dtype),
        };
        let drawn = stateless(b, op, seed, shape, dtype)?;
        let (scale, offset) =
            (b.constant(numbers(&[scale], &[], dtype)?)?, b.constant(numbers(&[offset], &[], dtype)?)?);
        let scaled = b.op("Mul").inputs(&[drawn, scale]).one()?;
        Ok(b.op("AddV2").inputs(&[scaled, offset]).one()?)
    }
}

fn rounded(value: f64, dtype: DType) -> Result<f64> {
    Ok(if dtype == DType::F64 { value } else { f64::from(value as f32) })
}

/// Numbers of a standard distribution.
fn stateless(b: &mut Builder, op: &str, seed: i64, shape: &[usize], dtype: DType) -> Result<Sym> {
    let seed = seed.rem_euclid(i64::from(i32::MAX) - 1);
    let seed = b.constant(Tensor::from_vec(vec![seed, 0], [2])?)?;
    let state = b.op("StatelessRandomGetKeyCounter").input(seed).all()?;
    let extents: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    let extents = b.constant(Tensor::from_vec(extents, [shape.len()])?)?;
    let algorithm = b.constant(Tensor::scalar(PHILOX))?;
    Ok(b.op(op).input(extents).inputs(&state).input(algorithm).attr("dtype", dtype).one()?)
}

/// The orthogonal factor of a matrix of normal numbers.
fn orthonormal(b: &mut Builder, gain: f64, seed: i64, shape: &[usize], dtype: DType) -> Result<Sym> {
    let (columns, rows) = flat(shape)?;
    let (long, short) = (columns.max(rows), columns.min(rows));
    let drawn = stateless(b, "StatelessRandomNormalV2", seed, &[long, short], dtype)?;
    let both = b.op("Qr").input(drawn).all()?;
    let [q, r] = crate::layer::inputs(&both)?;
    let signs = b.op("MatrixDiagPart").input(r).one()?;
    let signs = b.op("Sign").input(signs).one()?;
    let mut q = b.op("Mul").inputs(&[q, signs]).one()?;
    if rows < columns {
        let order = b.constant(Tensor::from_vec(vec![1i32, 0], [2])?)?;
        q = b.op("Transpose").inputs(&[q, order]).one()?;
    }
    let extents: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    let extents = b.constant(Tensor::from_vec(extents, [shape.len()])?)?;
    let q = b.op("Reshape").inputs(&[q, extents]).one()?;
    let gain = b.constant(numbers(&[gain], &[], dtype)?)?;
    Ok(b.op("Mul").inputs(&[gain, q]).one()?)
}

/// The last extent, and all before it as one.
fn flat(shape: &[usize]) -> Result<(usize, usize)> {
    match shape.split_last().filter(|(_, rest)| !rest.is_empty()) {
        Some((&columns, rest)) => Ok((columns, rest.iter().product())),
        None => Err(Error::mismatch(format!("an orthogonal matrix can't have the shape {shape:?}"))),
    }
}

/// A standard normal number within two deviations.
fn truncated(random: &mut Random) -> f64 {
    loop {
        let value = random.normal();
        if value.abs() <= 2.0 {
            return value;
        }
    }
}

/// A matrix of `[all but the last, last]` whose rows or columns (the fewer) are orthonormal, by Gram and Schmidt.
fn orthogonal(gain: f64, shape: &[usize], count: usize, random: &mut Random) -> Result<Vec<f64>> {
    let (columns, _) = flat(shape)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let rows = count / columns;
    let (vectors, length) = if rows < columns { (rows, columns) } else { (columns, rows) };
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(vectors);
    while basis.len() < vectors {
        let mut v: Vec<f64> = (0..length).map(|_| random.normal()).collect();
        // Twice, because once leaves what rounding left.
        for _ in 0..2 {
            for b in &basis {
                let along: f64 = v.iter().zip(b).map(|(x, y)| x * y).sum();
                v.iter_mut().zip(b).for_each(|(x, y)| *x -= along * y);
            }
        }
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm > 1e-6 {
            v.iter_mut().for_each(|x| *x /= norm);
            basis.push(v);
        }
    }
    let at = |row: usize, column: usize| if rows < columns { basis[row][column] } else { basis[column][row] };
    Ok((0..count).map(|i| gain * at(i / columns, i % columns)).collect())
}
