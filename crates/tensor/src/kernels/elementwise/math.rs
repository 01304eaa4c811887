//! Branch-free `f32` functions that vectorise, within about two units in the last place.
#![allow(clippy::excessive_precision, reason = "constants are as published; the compiler rounds them")]

use crate::kernels::simd::Isa;

/// Adding it moves a float's integer part to the lowest mantissa bits.
const ROUNDER: f32 = 12_582_912.0;

/// `ln 2` in two parts, the first with so few bits that its small multiples are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`: the bits of `n + ROUNDER`, and `r`.
#[inline(always)]
fn split_exponent(isa: Isa, x: f32) -> (u32, f32) {
    let shifted = isa.mul_add(x, std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = isa.mul_add(n, -LN2_HIGH, x);
    (shifted.to_bits(), isa.mul_add(n, -LN2_LOW, r))
}

/// `(e^r - 1 - r) / r²` for `|r| <= ln 2 / 2`.
#[inline(always)]
fn exp_tail(isa: Isa, r: f32) -> f32 {
    isa.poly(r, [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5])
}

/// `e^x`.
#[inline(always)]
pub(crate) fn exp_f32(isa: Isa, x: f32) -> f32 {
    // Written so that NaN passes through both limits.
    let limited = if x < -104.0 { -104.0 } else { x };
    let limited = if limited > 89.0 { 89.0 } else { limited };
    let (bits, r) = split_exponent(isa, limited);
    let y = isa.mul_add(exp_tail(isa, r), r * r, r) + 1.0;
    // Two factors, as one alone could leave the exponent's range though the product doesn't.
    let n = bits.wrapping_sub(ROUNDER.to_bits()) as i32;
    let half = n >> 1;
    let factor = |e: i32| f32::from_bits((e.wrapping_add(127) as u32) << 23);
    y * factor(half) * factor(n.wrapping_sub(half))
}

/// The natural logarithm.
#[inline(always)]
pub(crate) fn log_f32(isa: Isa, x: f32) -> f32 {
    // Subnormal numbers are brought into the normal range first.
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bias = if tiny { -23.0 } else { 0.0 };
    let bits = scaled.to_bits();
    // A mantissa in sqrt(1/2) .. sqrt(2), so that logarithms near 1 keep their precision.
    let offset = bits.wrapping_sub(0x3f35_04f3);
    let exponent = (offset as i32) >> 23;
    let m = f32::from_bits((offset & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    let e = exponent as f32 + bias;
    let z = m * m;
    let p = isa.poly(
        m,
        [
            7.037_683_6e-2,
            -0.115_146_1,
            0.116_769_984,
            -0.124_201_41,
            0.142_493_23,
            -0.166_680_58,
            0.200_007_15,
            -0.249_999_94,
            0.333_333_3,
        ],
    );
    let y = isa.mul_add(e, LN2_LOW, m * z * p);
    let y = isa.mul_add(z, -0.5, y);
    let y = isa.mul_add(e, LN2_HIGH, m + y);
    // What has no logarithm, and what is its own.
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x < 0.0 { f32::NAN } else { y };
    if x < f32::INFINITY { y } else { x }
}

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh_f32(isa: Isa, x: f32) -> f32 {
    let a = x.abs();
    let limited = if a > 10.0 { 10.0 } else { a };
    let (bits, r) = split_exponent(isa, limited + limited);
    let y = isa.mul_add(exp_tail(isa, r), r * r, r) + 1.0;
    let n = bits.wrapping_sub(ROUNDER.to_bits()) as i32;
    let e = y * f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let far = 1.0 - 2.0 / (e + 1.0);
    let z = x * x;
    let p = isa.poly(z, [-5.704_988_7e-3, 2.063_908_9e-2, -5.373_971_6e-2, 0.133_314_42, -0.333_332_82]);
    let near = isa.mul_add(p * z, a, a);
    let y = if a < 0.625 { near } else { far };
    y.copysign(x)
}

/// `1 / (1 + e^-x)`, precise also where it is close to 0.
#[inline(always)]
pub(crate) fn sigmoid_f32(isa: Isa, x: f32) -> f32 {
    let e = exp_f32(isa, -x.abs());
    let top = if x >= 0.0 { 1.0 } else { e };
    top / (1.0 + e)
}

/// The error function.
#[inline(always)]
pub(crate) fn erf_f32(isa: Isa, x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let p = isa.poly(
        z,
        [
            8.251_005e-5,
            -8.114_049e-4,
            5.198_462_7e-3,
            -2.685_834_4e-2,
            0.112_836_76,
            -0.376_126_32,
            0.128_379_17,
        ],
    );
    let near = isa.mul_add(a, p, a);
    let limited = if a > 4.0 { 4.0 } else { a };
    // The logarithm of what is left to 1.
    let log_rest = isa.poly(
        limited,
        [
            -2.138_997_2e-5,
            4.378_688_3e-4,
            -4.187_555_4e-3,
            2.516_284_1e-2,
            -0.108_347_224,
            -0.633_285_9,
            -1.129_545_1,
            1.809_745_7e-4,
        ],
    );
    let far = 1.0 - exp_f32(isa, log_rest);
    let y = if a < 0.94 { near } else { far };
    y.copysign(x)
}

/// The scale of `tf.nn.selu`.
pub(crate) const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
/// The scale of `tf.nn.selu` times its alpha.
pub(crate) const SELU_SCALE_ALPHA: f64 = 1.758_099_340_847_376_9;

/// `x`, or `e^x - 1` where it is negative, with the cancellation near 0 that TensorFlow's has.
#[inline(always)]
pub(crate) fn elu_f32(isa: Isa, x: f32) -> f32 {
    let e = exp_f32(isa, x) - 1.0;
    if x < 0.0 { e } else { x }
}

/// [`elu_f32`] with the scales of `tf.nn.selu`.
#[inline(always)]
pub(crate) fn selu_f32(isa: Isa, x: f32) -> f32 {
    let e = SELU_SCALE_ALPHA as f32 * (exp_f32(isa, x) - 1.0);
    if x < 0.0 { e } else { SELU_SCALE as f32 * x }
}

/// `ln(1 + e^x)`.
#[inline(always)]
pub(crate) fn softplus_f32(isa: Isa, x: f32) -> f32 {
    /// Beyond it, in either direction, the result is `x` or `e^x` to the last bit: `ln ε + 2`.
    const FAR: f32 = -13.942_385;
    let e = exp_f32(isa, x);
    // ln(1 + e), the rounding of the sum made good.
    let sum = 1.0 + e;
    let middle = log_f32(isa, sum) + (e - (sum - 1.0)) / sum;
    let y = if x < FAR { e } else { middle };
    if x > -FAR { x } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd;

    /// The distance in units of the last place.
    fn ulps(got: f32, want: f64) -> f64 {
        let w = want as f32;
        if got == w || (got.is_nan() && w.is_nan()) {
            return 0.0;
        }
        let unit = f64::from(w.abs().max(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON) / 2.0;
        (f64::from(got) - want).abs() / unit
    }

    fn check(
        name: &str,
        f: impl Fn(Isa, f32) -> f32,
        reference: impl Fn(f64) -> f64,
        from: f32,
        to: f32,
        limit: f64,
    ) {
        let edges =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE / 8.0, 1e-30, -1e-30];
        let steps = 200_003;
        let values = (0..=steps).map(|i| from + (to - from) * (i as f32 / steps as f32));
        for x in values.chain(edges) {
            for got in [f(Isa::BASE, x), simd::run(|isa| f(isa, x))] {
                let want = reference(f64::from(x));
                assert!(
                    ulps(got, want) <= limit,
                    "{name}({x:e}) = {got:e}, not {want:e}: {} ulp",
                    ulps(got, want)
                );
            }
        }
    }

    #[test]
    fn functions_are_precise() {
        check("exp", exp_f32, f64::exp, -110.0, 95.0, 2.5);
        check("log", log_f32, f64::ln, 1e-30, 4.0, 3.0);
        check("log", log_f32, f64::ln, 0.9, 1e30, 3.0);
        check("log", log_f32, f64::ln, -5.0, 0.0, 0.0);
        check("tanh", tanh_f32, f64::tanh, -12.0, 12.0, 4.0);
        check("sigmoid", sigmoid_f32, |x| 1.0 / (1.0 + (-x).exp()), -87.0, 30.0, 4.5);
        check("erf", erf_f32, libm::erf, -5.0, 5.0, 4.0);
    }
}
