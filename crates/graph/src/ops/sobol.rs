//! Sobol's sequences, whose points fill a cube evenly (`tf.math.sobol_sample`), with Joe's and Kuo's direction numbers.

use std::sync::LazyLock;

use sobol::Sobol;
use sobol::params::JoeKuoD6;

use super::args::{int, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array::cast;
use crate::tensor::{DType, Tensor, checked_elements, memory};
use crate::{Error, Result};

/// As many dimensions as TensorFlow takes.
const DIMENSIONS: i64 = 21_200;

/// The direction numbers of the first 100, 1000 and all dimensions: unpacking them all takes a while.
static FEW: LazyLock<JoeKuoD6> = LazyLock::new(JoeKuoD6::minimal);
static MANY: LazyLock<JoeKuoD6> = LazyLock::new(JoeKuoD6::standard);
static ALL: LazyLock<JoeKuoD6> = LazyLock::new(JoeKuoD6::extended);

/// `count` points of `dimensions` from that of number `skip` + 1 on.
fn points(dimensions: usize, count: usize, skip: u32, digits: u32) -> Vec<u32> {
    let table = match dimensions {
        0..=100 => &*FEW,
        101..=1000 => &*MANY,
        _ => &*ALL,
    };
    let directions = Sobol::<f32>::init_direction_vals(dimensions, digits as usize, table);
    let mut out = Vec::with_capacity(dimensions * count);
    // A point's number as a Gray code tells which directions it sums.
    let first = skip + 1;
    let gray = first ^ first >> 1;
    let mut point: Vec<u32> = directions
        .iter()
        .map(|of| of.iter().enumerate().filter(|(i, _)| gray >> i & 1 == 1).fold(0, |sum, (_, d)| sum ^ d))
        .collect();
    for number in (first..).take(count) {
        out.extend(point.iter().map(|v| v >> (32 - digits)));
        let changed = number.trailing_ones() as usize;
        for (v, of) in point.iter_mut().zip(&directions) {
            *v ^= of.get(changed).copied().unwrap_or(0);
        }
    }
    out
}

fn sample(inputs: Values, dtype: DType) -> Result<Values> {
    let [dimensions, count, skip] = tensors(inputs)?;
    let (dimensions, count) = (int(&dimensions, "dim")?, int(&count, "num_results")?);
    let skip = int(&skip, "skip")?;
    if !(1..=DIMENSIONS).contains(&dimensions) {
        return Err(Error::compute(format!("takes from 1 to {DIMENSIONS} dimensions, got {dimensions}")));
    }
    if count < 1 || skip < 0 || skip + count >= i32::MAX.into() {
        return Err(Error::compute(format!("there are no {count} points after the first {skip}")));
    }
    let shape = [count as usize, dimensions as usize];
    memory::check(checked_elements(&shape)?.saturating_mul(size_of::<f64>()))?;
    let digits = (skip + count + 1).ilog2() + 1;
    // TensorFlow divides by a 32-bit integer, of which the last power of two is negative.
    let scale = 1.0 / f64::from(1i32.wrapping_shl(digits));
    let points = points(shape[1], shape[0], skip as u32, digits);
    let wide = match dtype {
        DType::F32 => Tensor::from_vec(points.iter().map(|v| *v as f32 * scale as f32).collect(), shape)?,
        _ => Tensor::from_vec(points.iter().map(|v| f64::from(*v) * scale).collect(), shape)?,
    };
    one(cast(&wide, dtype)?)
}

fn sobol_sample(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("dtype")?;
    Ok(kernel(move |_, inputs| sample(inputs, dtype)))
}

pub(super) const OPS: &[Op] = &[Op::new(
    "SobolSample(dim: int32, num_results: int32, skip: int32) -> (samples: dtype); dtype: type = float32",
    sobol_sample,
)];
