//! The forward discrete cosine transform: from samples to quantized coefficients.
//!
//! Bit for bit the transform of TensorFlow's encoder: of Loeffler, Ligtenberg and Moschytz, with 13 bits of fraction.

use super::idct::scaled;
use super::markers::ZIGZAG;

/// The coefficients of a block, quantized, in a file's order.
pub(super) fn coefficients(samples: &[[u8; 8]; 8], quants: &[u16; 64]) -> [i16; 64] {
    let mut rows = [[0i32; 8]; 8];
    for (out, row) in rows.iter_mut().zip(samples) {
        *out = line(row.map(|s| i32::from(s) - 128)).map(scaled::<11>);
    }
    let mut sums = [0i32; 64];
    for c in 0..8 {
        for (r, sum) in line(rows.map(|row| row[c])).into_iter().enumerate() {
            sums[8 * r + c] = scaled::<15>(sum);
        }
    }
    let mut out = [0; 64];
    for (o, place) in out.iter_mut().zip(ZIGZAG) {
        let place = usize::from(place & 63);
        *o = quantized(sums[place], i32::from(quants[place]));
    }
    out
}

/// The nearest whole number of quanta, of a sum that is eight times the coefficient; halves go outwards.
#[inline(always)]
fn quantized(sum: i32, quant: i32) -> i16 {
    let quant = quant.max(1) * 8;
    let size = (sum.abs() + quant / 2) / quant;
    (if sum < 0 { -size } else { size }) as i16
}

/// One dimension of the transform: the eight sums before they are scaled.
#[inline(always)]
fn line(x: [i32; 8]) -> [i32; 8] {
    let (s0, s1, s2, s3) = (x[0] + x[7], x[1] + x[6], x[2] + x[5], x[3] + x[4]);
    let (d0, d1, d2, d3) = (x[0] - x[7], x[1] - x[6], x[2] - x[5], x[3] - x[4]);
    let (outer, inner) = (s0 + s3, s1 + s2);
    let (a, b) = (s0 - s3, s1 - s2);
    let turn = (a + b) * 4433;
    let (z1, z2, z3, z4) = (d3 + d0, d2 + d1, d3 + d1, d2 + d0);
    let z5 = (z3 + z4) * 9633;
    let (z1, z2) = (z1 * -7373, z2 * -20995);
    let (z3, z4) = (z3 * -16069 + z5, z4 * -3196 + z5);
    [
        (outer + inner) << 13,
        d0 * 12299 + z1 + z4,
        turn + a * 6270,
        d1 * 25172 + z2 + z3,
        (outer - inner) << 13,
        d2 * 16819 + z2 + z4,
        turn - b * 15137,
        d3 * 2446 + z1 + z3,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_block_has_one_coefficient_and_a_half_is_rounded_outwards() {
        let mut want = [0; 64];
        for (sample, dc) in [(128, 0), (255, 1016), (0, -1024)] {
            want[0] = dc;
            assert_eq!(coefficients(&[[sample; 8]; 8], &[1; 64]), want);
        }
        assert_eq!((quantized(4, 1), quantized(-4, 1), quantized(3, 1), quantized(59, 5)), (1, -1, 0, 1));
    }
}
