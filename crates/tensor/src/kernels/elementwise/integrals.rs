//! Functions that are integrals, in double precision.

use std::f64::consts::PI;

use num_complex::Complex64;

/// Dawson's integral: `e^-x²` times the integral of `e^t²` from 0 to `x`.
pub(super) fn dawson(x: f64) -> f64 {
    const STEP: f64 = 0.2;
    let size = x.abs();
    if x.is_nan() || x == 0.0 {
        return x;
    }
    if size > 1e4 {
        let inverse = 0.5 / (x * x);
        return 0.5 / x * (1.0 + inverse * (1.0 + 3.0 * inverse));
    }
    if size < STEP {
        let square = x * x;
        let (mut term, mut sum) = (x, x);
        for k in 1..30 {
            term *= -2.0 * square / f64::from(2 * k + 1);
            sum += term;
        }
        return sum;
    }
    // Rybicki's sum of Gaussians at odd multiples of a step, those that are near to x.
    let middle = 2.0 * (0.5 * size / STEP).round();
    let rest = size - middle * STEP;
    let mut sum = 0.0;
    for odd in (-35..=35).step_by(2) {
        let odd = f64::from(odd);
        sum += (-(rest - odd * STEP).powi(2)).exp() / (middle + odd);
    }
    (sum / PI.sqrt()).copysign(x)
}

/// The exponential integral `Ei(x)` of a positive `x`; NaN of a negative one.
pub(super) fn exponential(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 || x.is_infinite() {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    let (mut term, mut sum) = (1.0, 0.0);
    if x < 40.0 {
        let mut k = 0.0;
        while k < 200.0 && term > f64::EPSILON * 0.1 * sum * (k + 1.0) {
            k += 1.0;
            term *= x / k;
            sum += term / k;
        }
        return 0.577_215_664_901_532_9 + x.ln() + sum;
    }
    for k in 1..40 {
        sum += term;
        term *= f64::from(k) / x;
    }
    (x.exp() / x) * sum
}

/// Spence's integral: the dilogarithm of `1 - x`; NaN of a negative `x`.
pub(super) fn spence(x: f64) -> f64 {
    if x.is_nan() || x < 0.0 || x.is_infinite() {
        return f64::NAN;
    }
    // Brought near to where the series is fast.
    if x == 0.0 {
        PI * PI / 6.0
    } else if x < 0.5 {
        PI * PI / 6.0 - x.ln() * (-x).ln_1p() - dilogarithm(x)
    } else if x <= 1.5 {
        dilogarithm(1.0 - x)
    } else {
        -0.5 * x.ln() * x.ln() - spence(1.0 / x)
    }
}

/// Of a number no greater than a half.
fn dilogarithm(w: f64) -> f64 {
    let (mut power, mut sum) = (1.0, 0.0);
    for k in 1..60 {
        power *= w;
        sum += power / f64::from(k * k);
    }
    sum
}

/// Fresnel's integrals: of the cosine, and of the sine of `π t² / 2`, from 0 to `x`.
pub(super) fn fresnel(x: f64) -> (f64, f64) {
    let size = x.abs();
    let (c, s) = if x.is_nan() {
        (x, x)
    } else if size < 1.6 {
        // i^k (π x² / 2)^k / (k! (2k + 1)), whose even terms are real.
        let angle = PI / 2.0 * size * size;
        let (mut term, mut sums) = (size, [0.0, 0.0]);
        for k in 0..40u32 {
            let sign = if k & 2 == 0 { 1.0 } else { -1.0 };
            sums[(k & 1) as usize] += sign * term / f64::from(2 * k + 1);
            term *= angle / f64::from(k + 1);
        }
        (sums[0], sums[1])
    } else if size < 1e7 {
        fresnel_tail(size)
    } else {
        (0.5, 0.5)
    };
    (c.copysign(x), s.copysign(x))
}

/// By the continued fraction of the complementary error function, whose even part this is.
fn fresnel_tail(x: f64) -> (f64, f64) {
    let square = PI * x * x;
    let mut b = Complex64::new(1.0, -square);
    let (mut c, mut d) = (Complex64::new(1e300, 0.0), b.inv());
    let mut h = d;
    let mut n = 1.0;
    for _ in 0..200 {
        let a = -n * (n + 1.0);
        b += 4.0;
        d = (d * a + b).inv();
        c = b + c.inv() * a;
        let change = c * d;
        h *= change;
        if (change - 1.0).l1_norm() < f64::EPSILON {
            break;
        }
        n += 2.0;
    }
    // The angle's whole turns go before its cosine.
    let turn = Complex64::from_polar(1.0, PI * ((x * x / 2.0) % 2.0));
    let out = Complex64::new(0.5, 0.5) * (1.0 - turn * h * Complex64::new(x, -x));
    (out.re, out.im)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() <= 2e-14 * b.abs(), "{a} isn't {b}");
    }

    #[test]
    fn known_values() {
        near(dawson(1.0), 0.538_079_506_912_768_4);
        near(dawson(-0.1), -0.099_335_992_397_852_86);
        near(dawson(0.2), 0.19475103336802804);
        near(dawson(1e5), 5.000_000_000_25e-6);
        near(exponential(1.0), 1.895_117_816_355_936_8);
        near(exponential(50.0), 1.058_563_689_713_169e20);
        near(spence(2.0), -PI * PI / 12.0);
        near(spence(0.5), PI * PI / 12.0 - 0.5 * 2f64.ln().powi(2));
        near(spence(1e3), -25.495_564_102_428_9);
        near(fresnel(1.0).0, 0.779_893_400_376_822_8);
        near(fresnel(-1.0).1, -0.438_259_147_390_354_77);
        near(fresnel(2.0).1, 0.343_415_678_363_698_24);
        near(fresnel(50.0).0, 0.499_999_189_430_727_9);
        assert_eq!(fresnel(f64::NEG_INFINITY), (-0.5, -0.5));
    }

    #[test]
    fn methods_meet() {
        near(dawson(0.2 - 1e-12), dawson(0.2 + 1e-12) - 2e-12 * (1.0 - 0.4 * dawson(0.2)));
        near(exponential(40.0 - 1e-12), exponential(40.0) * (1.0 - 0.975e-12));
        let (a, b) = (fresnel(1.6 - 1e-15), fresnel(1.6));
        assert!((a.0 - b.0).abs() < 1e-14 && (a.1 - b.1).abs() < 1e-14);
    }
}
