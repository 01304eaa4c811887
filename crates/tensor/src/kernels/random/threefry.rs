//! ThreeFry 2x32-20, the other random generator that counts, and tensors of its numbers as XLA draws them.
//!
//! TensorFlow's own kernels refuse this algorithm; a function that XLA compiles (`jit_compile=True`) has it. There a value
//! of the counter gives two words, and of a shape the words of 32 bits lie in two halves, side by side along one axis.

use half::{bf16, f16};

use crate::kernels::{array, elementwise, parallel};
use crate::{DType, Element, Error, Result, Tensor, checked_elements};

/// The generator: a counter and a key of 64 bits each (`tf.random.Algorithm.THREEFRY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreeFry {
    counter: u64,
    key: u64,
}

/// How a shape is made of two halves, the numbers of which lie side by side along one axis.
struct Halves {
    /// The axis.
    axis: usize,
    /// How many numbers each half has along the axis.
    half: usize,
    /// How many the whole has: twice as many, or one less.
    whole: usize,
    /// The product of the dimensions behind the axis.
    after: usize,
}

impl Halves {
    /// The axis is the first of even length, or the first of the longest.
    fn of(shape: &[usize]) -> Result<Halves> {
        let shape = if shape.is_empty() { &[1] } else { shape };
        checked_elements(shape)?;
        let longest = shape.iter().max().copied().unwrap_or_default();
        let at = shape.iter().position(|d| d % 2 == 0).or_else(|| shape.iter().position(|d| *d == longest));
        let axis = at.unwrap_or_default();
        let (_, rest) = shape.split_at(axis);
        let (whole, after) = rest.split_first().unwrap_or((&1, &[]));
        Ok(Halves { axis, half: whole.div_ceil(2), whole: *whole, after: after.iter().product() })
    }

    /// The place in the halves of number `i` of the whole: which half, and where in it.
    fn place(&self, i: usize) -> (usize, usize) {
        let (rows, column) = (i / self.after.max(1), i % self.after.max(1));
        let (before, along) = (rows / self.whole.max(1), rows % self.whole.max(1));
        (along % 2, (before * self.half + along / 2) * self.after + column)
    }
}

/// Fills a tensor number by number.
fn fill<T: Element>(shape: &[usize], f: impl Fn(usize) -> T + Sync + Send) -> Result<Tensor> {
    let mut out = Tensor::zeros(T::DTYPE, shape)?;
    parallel::for_parts(out.make_mut::<T>()?, 1, 64, |start, part| {
        for (i, o) in part.iter_mut().enumerate() {
            *o = f(start + i);
        }
    });
    Ok(out)
}

/// The upper half of a float's bits: what XLA keeps, so that no number is rounded up to 1.
fn cut(v: f32) -> bf16 {
    bf16::from_bits((v.to_bits() >> 16) as u16)
}

impl ThreeFry {
    /// A generator with this key at this value of its counter.
    pub const fn new(counter: u64, key: u64) -> Self {
        ThreeFry { counter, key }
    }

    /// The two words that come `by` values of the counter later.
    pub fn words(&self, by: u64) -> [u32; 2] {
        const TURNS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
        let counter = self.counter.wrapping_add(by);
        let (k0, k1) = (self.key as u32, (self.key >> 32) as u32);
        let keys = [k0, k1, k0 ^ k1 ^ 0x1bd1_1bda];
        let mut a = (counter as u32).wrapping_add(k0);
        let mut b = ((counter >> 32) as u32).wrapping_add(k1);
        for round in 0..5 {
            for turn in TURNS[round % 2] {
                a = a.wrapping_add(b);
                b = b.rotate_left(turn) ^ a;
            }
            a = a.wrapping_add(keys[(round + 1) % 3]);
            b = b.wrapping_add(keys[(round + 2) % 3]).wrapping_add(round as u32 + 1);
        }
        [a, b]
    }

    fn wide(&self, i: usize) -> u64 {
        let [low, high] = self.words(i as u64);
        u64::from(low) | u64::from(high) << 32
    }

    /// Word `i` of those of 32 bits of a shape.
    fn word(&self, halves: &Halves, i: usize) -> u32 {
        let (which, place) = halves.place(i);
        let [a, b] = self.words(place as u64);
        if which == 0 { a } else { b }
    }

    /// How many values of the counter the words of 32 bits of a shape take.
    ///
    /// # Errors
    /// When the shape overflows.
    pub fn used(shape: &[usize]) -> Result<usize> {
        let halves = Halves::of(shape)?;
        let count = checked_elements(shape)?;
        Ok(count.checked_div(halves.whole).unwrap_or(0) * halves.half)
    }

    /// Integers of any bits (`StatelessRandomUniformFullIntV2`).
    ///
    /// # Errors
    /// When the dtype isn't an integer's of 32 or 64 bits, or the shape overflows.
    pub fn bits(&self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let halves = Halves::of(shape)?;
        match dtype {
            DType::U32 | DType::I32 => fill(shape, |i| self.word(&halves, i))?.bitcast_same_width(dtype),
            DType::U64 | DType::I64 => fill(shape, |i| self.wide(i))?.bitcast_same_width(dtype),
            other => Err(Error::dtype("an integer of 32 or 64 bits", other)),
        }
    }

    /// Integers from `low` up to, but not, `high`, two scalars (`StatelessRandomUniformIntV2`).
    ///
    /// # Errors
    /// When the two aren't integers of 32 or 64 bits of one dtype, `low` isn't under `high`, or the shape overflows.
    pub fn uniform_int(&self, low: &Tensor, high: &Tensor, shape: &[usize]) -> Result<Tensor> {
        let halves = Halves::of(shape)?;
        macro_rules! between {
            ($t:ty, $unsigned:ty, $word:expr) => {{
                let (low, high) = (low.item::<$t>()?, high.item::<$t>()?);
                if low >= high && checked_elements(shape)? > 0 {
                    return Err(Error::value(format!("the least number {low} must be under the end {high}")));
                }
                let span = (high.wrapping_sub(low) as $unsigned).max(1);
                fill(shape, |i| low.wrapping_add(($word(i) % span) as $t))
            }};
        }
        let word = |i| self.word(&halves, i);
        let wide = |i| self.wide(i);
        match low.dtype() {
            DType::I32 => between!(i32, u32, word),
            DType::U32 => between!(u32, u32, word),
            DType::I64 => between!(i64, u64, wide),
            DType::U64 => between!(u64, u64, wide),
            other => Err(Error::dtype("an integer of 32 or 64 bits", other)),
        }
    }

    /// Numbers from 0 up to, but not, 1 (`StatelessRandomUniformV2`).
    ///
    /// # Errors
    /// When the dtype isn't a float's, or the shape overflows.
    pub fn uniform(&self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let halves = Halves::of(shape)?;
        let single = |i| f32::from_bits(127 << 23 | self.word(&halves, i) >> 9) - 1.0;
        match dtype {
            DType::F32 => fill(shape, single),
            DType::F64 => fill(shape, |i| f64::from_bits(1023 << 52 | self.wide(i) >> 12) - 1.0),
            DType::F16 => {
                let half = |i| f16::from_bits(15 << 10 | self.word(&halves, i) as u16 & 0x3ff);
                fill(shape, |i| f16::from_f32(half(i).to_f32() - 1.0))
            }
            DType::BF16 => fill(shape, |i| cut(single(i))),
            other => Err(Error::dtype("a float", other)),
        }
    }

    /// Numbers of the standard normal distribution, by Box and Muller's transform (`StatelessRandomNormalV2`).
    ///
    /// # Errors
    /// When the dtype isn't a float's, or the shape overflows.
    pub fn normal(&self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let halves = Halves::of(shape)?;
        let drawn = if dtype == DType::BF16 { DType::F32 } else { dtype };
        // The two numbers of a pair lie along an axis behind the one that is halved.
        let mut pairs = if shape.is_empty() { vec![1] } else { shape.to_vec() };
        pairs.splice(halves.axis..=halves.axis, [halves.half, 2]);
        let units = array::cast(&self.uniform(drawn, &pairs)?, DType::F64)?;
        let units = units.elements::<f64>()?;
        let normal = |i| {
            let (which, place) = halves.place(i);
            let first = place / halves.after.max(1) * 2 * halves.after + place % halves.after.max(1);
            let unit = |at: usize| units.get(at).copied().unwrap_or_default();
            // Half precision is rounded at every step, as XLA does.
            let step = |v: f64| if dtype == DType::F16 { f16::from_f64(v).to_f64() } else { v };
            let radius = step(step(-2.0 * step(unit(first).max(step(1e-7)).ln())).sqrt());
            let angle = step(step(2.0 * std::f64::consts::PI) * unit(first + halves.after));
            radius * step(if which == 0 { angle.sin() } else { angle.cos() })
        };
        narrow(fill(shape, normal)?, dtype)
    }

    /// Numbers of the standard normal distribution that lie less than 2 from 0, by its quantiles
    /// (`StatelessTruncatedNormalV2`).
    ///
    /// # Errors
    /// When the dtype isn't a float's, or the shape overflows.
    pub fn truncated_normal(&self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        /// The probability that a number lies within the bounds.
        const WITHIN: f64 = 0.954_499_736_103_641_6;
        let drawn = if dtype == DType::BF16 { DType::F32 } else { dtype };
        let mut units = array::cast(&self.uniform(drawn, shape)?, DType::F64)?;
        for v in units.make_mut::<f64>()? {
            *v = (2.0 * *v - 1.0) * WITHIN;
        }
        let mut out = elementwise::erfinv(units)?;
        for v in out.make_mut::<f64>()? {
            *v = (*v * std::f64::consts::SQRT_2).clamp(-2.0, 2.0);
        }
        narrow(out, dtype)
    }
}

/// Doubles as what was asked for.
fn narrow(t: Tensor, dtype: DType) -> Result<Tensor> {
    if dtype != DType::BF16 {
        return array::cast(&t, dtype);
    }
    let single = array::cast(&t, DType::F32)?;
    let cut: Vec<bf16> = single.elements::<f32>()?.iter().map(|v| cut(*v)).collect();
    Tensor::from_vec(cut, t.shape())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors that the generator's authors published.
    #[test]
    fn words_are_as_published() {
        assert_eq!(ThreeFry::new(0, 0).words(0), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(ThreeFry::new(u64::MAX, u64::MAX).words(0), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(ThreeFry::new(u64::MAX - 1, u64::MAX).words(1), [0x1cb9_96fc, 0xbb00_2be7]);
    }

    #[test]
    fn what_has_no_numbers_is_empty() {
        let g = ThreeFry::new(1, 2);
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            for f in [ThreeFry::uniform, ThreeFry::normal, ThreeFry::truncated_normal] {
                assert_eq!(f(&g, dtype, &[3, 0]).expect("none").shape(), [3, 0]);
                assert_eq!(f(&g, dtype, &[]).expect("one").dtype(), dtype);
            }
        }
        assert!(g.uniform(DType::I32, &[1]).is_err() && g.bits(DType::I8, &[1]).is_err());
        assert!(g.bits(DType::U32, &[usize::MAX, 3]).is_err());
    }
}
