//! Inverse discrete cosine transforms: from quantized coefficients to samples.
//!
//! Each gives, bit for bit, what the transform of TensorFlow's decoder gives: which products are rounded, and when, is
//! part of what they are. Sums wrap in 16 bits where those of vector instructions do.

/// A transform with a component's quantizers made ready for it.
pub(super) struct Transform {
    kind: Kind,
    factors: [i16; 64],
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Of Loeffler, Ligtenberg and Moschytz, with 13 bits of fraction.
    Accurate,
    /// Of Arai, Agui and Nakajima, with 8 bits of fraction.
    Fast,
    /// To four samples, two or one, each way.
    Four,
    Two,
    One,
}

impl Transform {
    /// A transform to `size` samples each way: 1, 2, 4 or 8.
    pub(super) fn new(size: usize, fast: bool, quants: &[u16; 64]) -> Transform {
        let kind = match size {
            1 => Kind::One,
            2 => Kind::Two,
            4 => Kind::Four,
            _ if fast => Kind::Fast,
            _ => Kind::Accurate,
        };
        let mut factors = quants.map(|q| q as i16);
        if kind == Kind::Fast {
            let scale = |k: usize| match k {
                0 => 1.0,
                k => (k as f64 * std::f64::consts::PI / 16.0).cos() * std::f64::consts::SQRT_2,
            };
            for (i, (factor, q)) in factors.iter_mut().zip(quants).enumerate() {
                let aan = (scale(i / 8) * scale(i % 8) * 16384.0).round() as i32;
                *factor = ((i32::from(*q as i16).wrapping_mul(aan) + 2048) >> 12) as i16;
            }
        }
        Transform { kind, factors }
    }

    /// Writes a block's samples to rows that are `stride` apart.
    pub(super) fn write(&self, block: &[i16; 64], out: &mut [u8], stride: usize) {
        let flat = block.iter().skip(1).all(|c| *c == 0);
        match self.kind {
            Kind::One => {
                let dc = i32::from(block[0]) * i32::from(self.factors[0]);
                // Ten bits count.
                let value = ((dc + 4) >> 3) << 22 >> 22;
                if let Some(first) = out.first_mut() {
                    *first = sample(value);
                }
            }
            Kind::Two => put(&two(&self.dequantized(block)), out, stride),
            Kind::Four => put(&four(&self.dequantized(block)), out, stride),
            Kind::Fast if flat => {
                let dc = block[0].wrapping_mul(self.factors[0]);
                put(&[[sample(i32::from(dc) >> 5); 8]; 8], out, stride);
            }
            Kind::Accurate if flat => {
                let dc = i32::from(block[0].wrapping_mul(self.factors[0]).wrapping_shl(2));
                put(&[[sample((dc + 16) >> 5); 8]; 8], out, stride);
            }
            Kind::Fast => put(&fast(&self.dequantized(block)), out, stride),
            Kind::Accurate => put(&accurate(&self.dequantized(block)), out, stride),
        }
    }

    fn dequantized(&self, block: &[i16; 64]) -> [i16; 64] {
        let mut out = [0; 64];
        for ((o, c), f) in out.iter_mut().zip(block).zip(&self.factors) {
            *o = c.wrapping_mul(*f);
        }
        out
    }
}

/// The sample of a value around zero.
#[inline(always)]
fn sample(value: i32) -> u8 {
    value.saturating_add(128).clamp(0, 255) as u8
}

#[inline(always)]
fn put<const N: usize>(rows: &[[u8; N]; N], out: &mut [u8], stride: usize) {
    for (row, line) in rows.iter().zip(out.chunks_mut(stride.max(1))) {
        if let Some(line) = line.first_chunk_mut::<N>() {
            *line = *row;
        }
    }
}

/// The samples of all rows: the second dimension of a transform.
#[inline(always)]
fn rows<T: Copy, const N: usize>(
    half: &[[i16; 8]; N],
    line: impl Fn([i16; 8]) -> [T; N],
    finish: impl Fn(T) -> u8,
) -> [[u8; N]; N] {
    let mut out = [[0; N]; N];
    for (samples, row) in out.iter_mut().zip(half) {
        for (s, sum) in samples.iter_mut().zip(line(*row)) {
            *s = finish(sum);
        }
    }
    out
}

/// Divides by a power of two, to the nearest.
#[inline(always)]
pub(super) fn scaled<const BITS: u32>(x: i32) -> i32 {
    x.wrapping_add(1 << (BITS - 1)) >> BITS
}

#[inline(always)]
fn narrow(x: i32) -> i16 {
    x.clamp(-32768, 32767) as i16
}

/// One dimension of the accurate transform: the eight sums before they are scaled.
#[inline(always)]
fn accurate_line(x: [i16; 8]) -> [i32; 8] {
    let wide = |a: i16| i32::from(a);
    let (z2, z3) = (wide(x[2]), wide(x[6]));
    let even2 = z2 * 4433 + z3 * (4433 - 15137);
    let even3 = z2 * (4433 + 6270) + z3 * 4433;
    let even0 = wide(x[0].wrapping_add(x[4])) << 13;
    let even1 = wide(x[0].wrapping_sub(x[4])) << 13;
    let (a0, a3) = (even0.wrapping_add(even3), even0.wrapping_sub(even3));
    let (a1, a2) = (even1.wrapping_add(even2), even1.wrapping_sub(even2));
    let (s3, s4) = (wide(x[7].wrapping_add(x[3])), wide(x[5].wrapping_add(x[1])));
    let z3 = s3 * (9633 - 16069) + s4 * 9633;
    let z4 = s3 * 9633 + s4 * (9633 - 3196);
    let (x1, x3, x5, x7) = (wide(x[1]), wide(x[3]), wide(x[5]), wide(x[7]));
    let b0 = (x7 * (2446 - 7373) - x1 * 7373).wrapping_add(z3);
    let b1 = (x5 * (16819 - 20995) - x3 * 20995).wrapping_add(z4);
    let b2 = (x3 * (25172 - 20995) - x5 * 20995).wrapping_add(z3);
    let b3 = (x1 * (12299 - 7373) - x7 * 7373).wrapping_add(z4);
    [
        a0.wrapping_add(b3),
        a1.wrapping_add(b2),
        a2.wrapping_add(b1),
        a3.wrapping_add(b0),
        a3.wrapping_sub(b0),
        a2.wrapping_sub(b1),
        a1.wrapping_sub(b2),
        a0.wrapping_sub(b3),
    ]
}

#[inline(never)]
fn accurate(block: &[i16; 64]) -> [[u8; 8]; 8] {
    let mut half = [[0i16; 8]; 8];
    for c in 0..8 {
        let column = std::array::from_fn(|r| block[8 * r + c]);
        let sums = accurate_line(column);
        for (row, sum) in half.iter_mut().zip(sums) {
            row[c] = narrow(scaled::<11>(sum));
        }
    }
    rows(&half, accurate_line, |sum| sample(scaled::<18>(sum)))
}

/// A product with a fraction of 8 bits, rounded down, of a value that keeps 14 bits.
#[inline(always)]
fn times<const FACTOR: i32>(x: i16) -> i16 {
    ((i32::from(x.wrapping_shl(2)) * (FACTOR << 6)) >> 16) as i16
}

/// One dimension of the fast transform.
#[inline(always)]
fn fast_line(x: [i16; 8]) -> [i16; 8] {
    let (sum, difference) = (i16::wrapping_add, i16::wrapping_sub);
    let (t10, t11) = (sum(x[0], x[4]), difference(x[0], x[4]));
    let t13 = sum(x[2], x[6]);
    let t12 = difference(times::<362>(difference(x[2], x[6])), t13);
    let (a0, a3) = (sum(t10, t13), difference(t10, t13));
    let (a1, a2) = (sum(t11, t12), difference(t11, t12));
    let (z13, z10) = (sum(x[5], x[3]), difference(x[5], x[3]));
    let (z11, z12) = (sum(x[1], x[7]), difference(x[1], x[7]));
    let b7 = sum(z11, z13);
    let t11 = times::<362>(difference(z11, z13));
    let z5 = times::<473>(sum(z10, z12));
    let t10 = difference(times::<277>(z12), z5);
    let t12 = sum(difference(times::<-413>(z10), z10), z5);
    let b6 = difference(t12, b7);
    let b5 = difference(t11, b6);
    let b4 = sum(t10, b5);
    [
        sum(a0, b7),
        sum(a1, b6),
        sum(a2, b5),
        difference(a3, b4),
        sum(a3, b4),
        difference(a2, b5),
        difference(a1, b6),
        difference(a0, b7),
    ]
}

#[inline(never)]
fn fast(block: &[i16; 64]) -> [[u8; 8]; 8] {
    let mut half = [[0i16; 8]; 8];
    for c in 0..8 {
        let column = std::array::from_fn(|r| block[8 * r + c]);
        for (row, value) in half.iter_mut().zip(fast_line(column)) {
            row[c] = value;
        }
    }
    rows(&half, fast_line, |value| sample(i32::from(value) >> 5))
}

/// One dimension, from eight values but the fifth to four.
#[inline(always)]
fn four_line(x: [i16; 8]) -> [i32; 4] {
    let wide = |a: i16| i32::from(a);
    let even = wide(x[0]) << 14;
    let turn = wide(x[2]) * 15137 - wide(x[6]) * 6270;
    let (a, b) = (even.wrapping_add(turn), even.wrapping_sub(turn));
    let inner = (wide(x[5]) * 11893 - wide(x[7]) * 1730).wrapping_add(wide(x[1]) * 8697 - wide(x[3]) * 17799);
    let outer = (-wide(x[7]) * 4176 - wide(x[5]) * 4926).wrapping_add(wide(x[3]) * 7373 + wide(x[1]) * 20995);
    [a.wrapping_add(outer), b.wrapping_add(inner), b.wrapping_sub(inner), a.wrapping_sub(outer)]
}

fn four(block: &[i16; 64]) -> [[u8; 4]; 4] {
    let mut half = [[0i16; 8]; 4];
    for c in [0, 1, 2, 3, 5, 6, 7] {
        let column = std::array::from_fn(|r| block[8 * r + c]);
        for (row, sum) in half.iter_mut().zip(four_line(column)) {
            row[c] = narrow(scaled::<12>(sum));
        }
    }
    rows(&half, four_line, |sum| sample(scaled::<19>(sum)))
}

/// One dimension, from the first value and the odd ones to two.
#[inline(always)]
fn two_line(x: [i16; 8]) -> [i32; 2] {
    let wide = |a: i16| i32::from(a);
    let even = wide(x[0]) << 15;
    let odd = (wide(x[5]) * 6967 - wide(x[7]) * 5906).wrapping_add(wide(x[1]) * 29692 - wide(x[3]) * 10426);
    [even.wrapping_add(odd), even.wrapping_sub(odd)]
}

fn two(block: &[i16; 64]) -> [[u8; 2]; 2] {
    let mut half = [[0i16; 8]; 2];
    for c in [0, 1, 3, 5, 7] {
        let column = std::array::from_fn(|r| block[8 * r + c]);
        for (row, sum) in half.iter_mut().zip(two_line(column)) {
            row[c] = narrow(scaled::<13>(sum));
        }
    }
    rows(&half, two_line, |sum| sample(scaled::<20>(sum)))
}
