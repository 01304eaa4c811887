//! Tensors of uniform and normal numbers.

use half::{bf16, f16};

use super::Philox;
use super::philox::{Words, unit_f32, unit_f64};
use crate::kernels::parallel;
use crate::{DType, Element, Error, Result, Tensor};

/// Values of the counter that TensorFlow sets apart for each output of an op that keeps its generator.
pub const RESERVED: u128 = 256;

/// A tensor of `N` elements for each value of the counter.
fn groups<T: Element, const N: usize>(
    generator: &Philox,
    shape: &[usize],
    f: impl Fn([u32; 4]) -> [T; N] + Sync + Send,
) -> Result<Tensor> {
    let mut out = Tensor::zeros(T::DTYPE, shape)?;
    parallel::for_parts(out.make_mut::<T>()?, N, 16, |start, part| {
        let mut generator = generator.skipped((start / N) as u128);
        for group in part.chunks_mut(N) {
            group.copy_from_slice(&f(generator.next_words())[..group.len()]);
        }
    });
    Ok(out)
}

/// Numbers from 0 up to, but not, 1 (`RandomUniform`).
///
/// # Errors
/// When the dtype isn't a float's, or the shape overflows.
pub fn uniform(generator: &Philox, dtype: DType, shape: &[usize]) -> Result<Tensor> {
    match dtype {
        DType::F32 => groups(generator, shape, |w| w.map(unit_f32)),
        DType::F64 => groups(generator, shape, |[a, b, c, d]| [unit_f64(a, b), unit_f64(c, d)]),
        DType::F16 => groups(generator, shape, |w| {
            w.map(|w| f16::from_f32(f16::from_bits(15 << 10 | w as u16 & 0x3ff).to_f32() - 1.0))
        }),
        DType::BF16 => groups(generator, shape, |w| {
            w.map(|w| bf16::from_f32(bf16::from_bits(127 << 7 | w as u16 & 0x7f).to_f32() - 1.0))
        }),
        other => Err(Error::dtype("a float", other)),
    }
}

fn wide([a, b, c, d]: [u32; 4]) -> [u64; 2] {
    [u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32]
}

/// Integers of any bits (`StatelessRandomUniformFullInt`).
///
/// # Errors
/// When the dtype isn't an integer's of 32 or 64 bits, or the shape overflows.
pub fn bits(generator: &Philox, dtype: DType, shape: &[usize]) -> Result<Tensor> {
    match dtype {
        DType::U32 | DType::I32 => groups(generator, shape, |w| w)?.bitcast_same_width(dtype),
        DType::U64 | DType::I64 => groups(generator, shape, wide)?.bitcast_same_width(dtype),
        other => Err(Error::dtype("an integer of 32 or 64 bits", other)),
    }
}

/// Integers from `low` up to, but not, `high`, two scalars (`RandomUniformInt`).
///
/// # Errors
/// When the two aren't integers of 32 or 64 bits of one dtype, `low` isn't under `high`, or the shape overflows.
pub fn uniform_int(generator: &Philox, low: &Tensor, high: &Tensor, shape: &[usize]) -> Result<Tensor> {
    macro_rules! between {
        ($t:ty, $unsigned:ty, $words:expr) => {{
            let (low, high) = (low.item::<$t>()?, high.item::<$t>()?);
            if low >= high {
                return if crate::checked_elements(shape)? == 0 {
                    Tensor::zeros(<$t>::DTYPE, shape)
                } else {
                    Err(Error::value(format!("the least number {low} must be under the end {high}")))
                };
            }
            let span = high.wrapping_sub(low) as $unsigned;
            groups(generator, shape, move |w| $words(w).map(|w| low.wrapping_add((w % span) as $t)))
        }};
    }
    let same = |w: [u32; 4]| w;
    match low.dtype() {
        DType::I32 => between!(i32, u32, same),
        DType::U32 => between!(u32, u32, same),
        DType::I64 => between!(i64, u64, wide),
        DType::U64 => between!(u64, u64, wide),
        other => Err(Error::dtype("an integer of 32 or 64 bits", other)),
    }
}

/// Two normal numbers of two words, by Box and Muller's transform.
pub(super) fn normal_f32(a: u32, b: u32) -> [f32; 2] {
    let radius = (-2.0 * unit_f32(a).max(1e-7).ln()).sqrt();
    let angle = 2.0 * std::f32::consts::PI * unit_f32(b);
    [angle.sin() * radius, angle.cos() * radius]
}

/// Two normal numbers of four words.
pub(super) fn normal_f64([a, b, c, d]: [u32; 4]) -> [f64; 2] {
    let radius = (-2.0 * unit_f64(a, b).max(1e-7).ln()).sqrt();
    let angle = 2.0 * std::f64::consts::PI * unit_f64(c, d);
    [angle.sin() * radius, angle.cos() * radius]
}

fn normals([a, b, c, d]: [u32; 4]) -> [f32; 4] {
    let ([x, y], [z, w]) = (normal_f32(a, b), normal_f32(c, d));
    [x, y, z, w]
}

/// Numbers of the standard normal distribution (`RandomStandardNormal`).
///
/// # Errors
/// When the dtype isn't a float's, or the shape overflows.
pub fn normal(generator: &Philox, dtype: DType, shape: &[usize]) -> Result<Tensor> {
    match dtype {
        DType::F32 => groups(generator, shape, normals),
        DType::F64 => groups(generator, shape, normal_f64),
        DType::F16 => groups(generator, shape, |w| normals(w).map(f16::from_f32)),
        DType::BF16 => groups(generator, shape, |w| normals(w).map(bf16::from_f32)),
        other => Err(Error::dtype("a float", other)),
    }
}

/// Numbers of the standard normal distribution that lie less than 2 from 0; others are drawn anew (`TruncatedNormal`).
///
/// # Errors
/// When the dtype isn't a float's, or the shape overflows.
pub fn truncated_normal(generator: &Philox, dtype: DType, shape: &[usize]) -> Result<Tensor> {
    fn go<T: Element, const N: usize>(
        generator: &Philox,
        shape: &[usize],
        draw: impl Fn(&mut Words) -> [T; 2] + Sync + Send,
        near: impl Fn(T) -> bool + Sync + Send,
    ) -> Result<Tensor> {
        let mut out = Tensor::zeros(T::DTYPE, shape)?;
        parallel::for_parts(out.make_mut::<T>()?, N, 32, |start, part| {
            for (i, group) in part.chunks_mut(N).enumerate() {
                // So many numbers are set apart for a group, however many it takes.
                let skip = (start / N + i) as u128 * (N as u128 * RESERVED / 4);
                let mut words = Words::new(generator.skipped(skip));
                let mut done = 0;
                while done < group.len() {
                    for v in draw(&mut words).into_iter().filter(|v| near(*v)) {
                        if let Some(o) = group.get_mut(done) {
                            *o = v;
                            done += 1;
                        }
                    }
                }
            }
        });
        Ok(out)
    }
    fn single(words: &mut Words) -> [f32; 2] {
        let a = words.word();
        normal_f32(a, words.word())
    }
    match dtype {
        DType::F32 => go::<f32, 4>(generator, shape, single, |v| v.abs() < 2.0),
        DType::F64 => {
            let draw = |words: &mut Words| normal_f64(std::array::from_fn(|_| words.word()));
            go::<f64, 2>(generator, shape, draw, |v| v.abs() < 2.0)
        }
        // What counts is the number before it is rounded.
        DType::F16 | DType::BF16 => {
            crate::kernels::array::cast(&go::<f32, 4>(generator, shape, single, |v| v.abs() < 2.0)?, dtype)
        }
        other => Err(Error::dtype("a float", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_the_distributions() {
        let g = Philox::from_seeds(7, 9);
        let moments = |t: &Tensor| {
            let t = crate::kernels::array::cast(t, DType::F64).expect("cast");
            let v = t.elements::<f64>().expect("f64").to_vec();
            let mean = v.iter().sum::<f64>() / v.len() as f64;
            (mean, v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len() as f64)
        };
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            for (f, mean, variance) in [
                (uniform as fn(&Philox, DType, &[usize]) -> Result<Tensor>, 0.5, 1.0 / 12.0),
                (normal, 0.0, 1.0),
                (truncated_normal, 0.0, 0.774),
            ] {
                let t = f(&g, dtype, &[40_001]).expect("numbers");
                let (m, v) = moments(&t);
                assert!((m - mean).abs() < 0.02 && (v - variance).abs() < 0.02, "{dtype}: {m} {v}");
            }
            assert!(uniform(&g, dtype, &[0, 3]).expect("none").is_empty());
        }
        assert!(uniform(&g, DType::I32, &[1]).is_err() && bits(&g, DType::F32, &[1]).is_err());
        let (low, high) = (Tensor::scalar(-3i64), Tensor::scalar(4i64));
        let t = uniform_int(&g, &low, &high, &[1000]).expect("numbers");
        assert!(t.to_i64_vec().expect("ints").iter().all(|v| (-3..4).contains(v)));
        assert!(uniform_int(&g, &high, &low, &[1]).is_err());
        assert!(uniform_int(&g, &high, &low, &[0]).is_ok());
    }
}
