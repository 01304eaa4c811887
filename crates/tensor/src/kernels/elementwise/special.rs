//! Special functions in double precision, for those that no library at hand has.
#![allow(clippy::excessive_precision, reason = "constants are as published; the compiler rounds them")]

/// The derivative of the logarithm of the gamma function (`tf.math.digamma`): NaN at zero and negative integers.
pub(super) fn digamma(x: f64) -> f64 {
    if x.is_nan() || x == f64::NEG_INFINITY {
        return f64::NAN;
    }
    if x <= 0.0 {
        if x == x.floor() {
            return f64::NAN;
        }
        // Reflected to the positive side; the fraction first, as the tangent of a large angle is noise.
        let fraction = x - x.round();
        return digamma(1.0 - x) - std::f64::consts::PI / (std::f64::consts::PI * fraction).tan();
    }
    // Up to where the asymptotic series converges, by the recurrence.
    let (mut x, mut below) = (x, 0.0);
    while x < 10.0 {
        below += 1.0 / x;
        x += 1.0;
    }
    let z = 1.0 / (x * x);
    let series = z
        * (1.0 / 12.0
            - z * (1.0 / 120.0
                - z * (1.0 / 252.0
                    - z * (1.0 / 240.0 - z * (1.0 / 132.0 - z * (691.0 / 32760.0 - z / 12.0))))));
    x.ln() - 0.5 / x - series - below
}

/// The quantile of the standard normal distribution at `p` (`tf.math.ndtri`).
pub(super) fn ndtri(p: f64) -> f64 {
    quantile(p - 0.5, if p < 0.5 { p } else { 1.0 - p })
}

/// The inverse of the error function (`tf.math.erfinv`).
pub(super) fn erfinv(x: f64) -> f64 {
    quantile(0.5 * x, 0.5 * (1.0 - x.abs())) * std::f64::consts::FRAC_1_SQRT_2
}

/// The standard normal quantile `q` away from the median, with `tail` beyond it: Wichura's algorithm AS 241.
fn quantile(q: f64, tail: f64) -> f64 {
    if q.is_nan() || tail < 0.0 {
        return f64::NAN;
    }
    if tail == 0.0 {
        return f64::INFINITY.copysign(q);
    }
    let poly = |x: f64, c: &[f64]| c.iter().rev().fold(0.0, |y, c| y * x + c);
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return q * poly(r, &MIDDLE_TOP) / poly(r, &MIDDLE_BOTTOM);
    }
    let r = (-tail.ln()).sqrt();
    let y = if r <= 5.0 {
        poly(r - 1.6, &TAIL_TOP) / poly(r - 1.6, &TAIL_BOTTOM)
    } else {
        poly(r - 5.0, &FAR_TOP) / poly(r - 5.0, &FAR_BOTTOM)
    };
    y.copysign(q)
}

const MIDDLE_TOP: [f64; 8] = [
    3.3871328727963666080e0,
    1.3314166789178437745e2,
    1.9715909503065514427e3,
    1.3731693765509461125e4,
    4.5921953931549871457e4,
    6.7265770927008700853e4,
    3.3430575583588128105e4,
    2.5090809287301226727e3,
];
const MIDDLE_BOTTOM: [f64; 8] = [
    1.0,
    4.2313330701600911252e1,
    6.8718700749205790830e2,
    5.3941960214247511077e3,
    2.1213794301586595867e4,
    3.9307895800092710610e4,
    2.8729085735721942674e4,
    5.2264952788528545610e3,
];
const TAIL_TOP: [f64; 8] = [
    1.42343711074968357734e0,
    4.63033784615654529590e0,
    5.76949722146069140550e0,
    3.64784832476320460504e0,
    1.27045825245236838258e0,
    2.41780725177450611770e-1,
    2.27238449892691845833e-2,
    7.74545014278341407640e-4,
];
const TAIL_BOTTOM: [f64; 8] = [
    1.0,
    2.05319162663775882187e0,
    1.67638483018380384940e0,
    6.89767334985100004550e-1,
    1.48103976427480074590e-1,
    1.51986665636164571966e-2,
    5.47593808499534494600e-4,
    1.05075007164441684324e-9,
];
const FAR_TOP: [f64; 8] = [
    6.65790464350110377720e0,
    5.46378491116411436990e0,
    1.78482653991729133580e0,
    2.96560571828504891230e-1,
    2.65321895265761230930e-2,
    1.24266094738807843860e-3,
    2.71155556874348757815e-5,
    2.01033439929228813265e-7,
];
const FAR_BOTTOM: [f64; 8] = [
    1.0,
    5.99832206555887937690e-1,
    1.36929880922735805310e-1,
    1.48753612908506148525e-2,
    7.86869131145613259100e-4,
    1.84631831751005468180e-5,
    1.42151175831644588870e-7,
    2.04426310338993978564e-15,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-13 * b.abs().max(1.0), "{a} isn't {b}");
    }

    #[test]
    fn digamma_has_its_known_values() {
        const EULER: f64 = 0.577_215_664_901_532_9;
        near(digamma(1.0), -EULER);
        near(digamma(0.5), -EULER - 2.0 * 2f64.ln());
        near(digamma(-0.5), digamma(0.5) + 2.0);
        near(digamma(1e-8), -1e8 - EULER);
        near(digamma(-1e-20) / 1e20, 1.0);
        near(digamma(1e6), 1e6f64.ln() - 0.5e-6);
        assert!(digamma(-3.0).is_nan() && digamma(0.0).is_nan());
    }

    #[test]
    fn erfinv_undoes_erf() {
        for i in -40..=40 {
            let x = f64::from(i) / 10.0;
            let back = erfinv(libm::erf(x));
            assert!((back - x).abs() < 1e-7 * (1.0 + x * x).exp().min(1e6), "{back} isn't {x}");
        }
        near(erfinv(1e-200) * 1e200, std::f64::consts::PI.sqrt() / 2.0);
        assert_eq!(erfinv(1.0), f64::INFINITY);
        assert_eq!(erfinv(-1.0), f64::NEG_INFINITY);
        assert!(erfinv(1.5).is_nan());
    }

    #[test]
    fn ndtri_undoes_the_distribution() {
        for i in -70..=50 {
            let x = f64::from(i) / 10.0;
            let p = 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
            assert!((ndtri(p) - x).abs() < 1e-9, "{} isn't {x}", ndtri(p));
        }
        assert_eq!(ndtri(0.0), f64::NEG_INFINITY);
        assert_eq!(ndtri(1.0), f64::INFINITY);
    }
}
