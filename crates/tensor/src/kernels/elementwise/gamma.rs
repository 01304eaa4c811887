//! Incomplete gamma and beta functions, and sums of powers, in double precision.

use super::special::digamma;

/// Terms of a series or a fraction that may be needed for the largest arguments.
const TERMS: usize = 20_000;

/// `x^a e^-x / Γ(a)`.
fn front(a: f64, x: f64) -> f64 {
    (a * x.ln() - x - libm::lgamma(a)).exp()
}

/// The lower regularized incomplete gamma function (`tf.math.igamma`).
pub(super) fn lower(a: f64, x: f64) -> f64 {
    match edge(a, x) {
        Some((lower, _)) => lower,
        None if x > 1.0 && x > a => 1.0 - front(a, x) * fraction(a, x).0,
        None => front(a, x) * series(a, x).0,
    }
}

/// The upper regularized incomplete gamma function (`tf.math.igammac`).
pub(super) fn upper(a: f64, x: f64) -> f64 {
    if x == 0.0 && a <= 0.0 {
        return f64::NAN;
    }
    match edge(a, x) {
        Some((_, upper)) => upper,
        None if x > 1.0 && x > a => front(a, x) * fraction(a, x).0,
        None => 1.0 - front(a, x) * series(a, x).0,
    }
}

/// The derivative of [`lower`] for `a`.
pub(super) fn lower_slope(a: f64, x: f64) -> f64 {
    if let Some((lower, _)) = edge(a, x) {
        return if lower.is_nan() { lower } else { 0.0 };
    }
    // That of the front's logarithm.
    let slope = x.ln() - digamma(a);
    if x > 1.0 && x > a {
        let (value, rate) = fraction(a, x);
        -front(a, x) * (rate + slope * value)
    } else {
        let (value, rate) = series(a, x);
        front(a, x) * (rate + slope * value)
    }
}

/// What both functions are where there is nothing to compute.
fn edge(a: f64, x: f64) -> Option<(f64, f64)> {
    if a.is_nan() || x.is_nan() {
        Some((f64::NAN, f64::NAN))
    } else if x == 0.0 {
        Some((0.0, 1.0))
    } else if x < 0.0 || a <= 0.0 {
        Some((f64::NAN, f64::NAN))
    } else if a.is_infinite() {
        Some((0.0, if x.is_infinite() { 0.0 } else { 1.0 }))
    } else if x.is_infinite() {
        Some((1.0, 0.0))
    } else {
        None
    }
}

/// The sum of `x^n / (a (a + 1) .. (a + n))`, and its derivative for `a`.
fn series(a: f64, x: f64) -> (f64, f64) {
    let (mut term, mut rate) = (1.0 / a, -1.0 / a);
    let (mut sum, mut slope) = (term, term * rate);
    for n in 1..TERMS {
        let below = a + n as f64;
        term *= x / below;
        rate -= 1.0 / below;
        sum += term;
        slope += term * rate;
        if term * rate.abs().max(1.0) < f64::EPSILON * 0.1 * sum {
            break;
        }
    }
    (sum, slope)
}

/// The continued fraction `1 / (x + 1 - a - (1 - a) / (x + 3 - a - ..))`, and its derivative for `a`.
fn fraction(a: f64, x: f64) -> (f64, f64) {
    // A number and its derivative.
    type Dual = (f64, f64);
    let invert = |(v, d): Dual| -> Dual { (1.0 / v, -d / (v * v)) };
    let times = |(v, d): Dual, (w, e): Dual| -> Dual { (v * w, d * w + v * e) };
    let plus = |(v, d): Dual, (w, e): Dual| -> Dual { (v + w, d + e) };
    let mut b: Dual = (x + 1.0 - a, -1.0);
    let mut c: Dual = (1e300, 0.0);
    let mut d = invert(b);
    let mut h = d;
    for n in 1..TERMS {
        let n = n as f64;
        let numerator: Dual = (-n * (n - a), n);
        b.0 += 2.0;
        d = invert(plus(times(numerator, d), b));
        c = plus(b, times(numerator, invert(c)));
        let change = times(c, d);
        h = times(h, change);
        if (change.0 - 1.0).abs() < f64::EPSILON && change.1.abs() < f64::EPSILON * (h.1 / h.0).abs().max(1.0)
        {
            break;
        }
    }
    h
}

/// The regularized incomplete beta function (`tf.math.betainc`).
pub(super) fn beta(a: f64, b: f64, x: f64) -> f64 {
    if !(a > 0.0 && b > 0.0 && (0.0..=1.0).contains(&x)) || a.is_infinite() || b.is_infinite() {
        return f64::NAN;
    }
    if x == 0.0 || x == 1.0 {
        return x;
    }
    let log = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * (-x).ln_1p();
    // From the side on which the fraction is fast.
    if x < (a + 1.0) / (a + b + 2.0) {
        log.exp() * beta_fraction(a, b, x) / a
    } else {
        1.0 - log.exp() * beta_fraction(b, a, 1.0 - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let keep = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut c, mut d) = (1.0, 1.0 / keep(1.0 - (a + b) * x / (a + 1.0)));
    let mut h = d;
    for m in 1..TERMS {
        let m = m as f64;
        let twice = a + 2.0 * m;
        let even = m * (b - m) * x / ((twice - 1.0) * twice);
        let odd = -(a + m) * (a + b + m) * x / (twice * (twice + 1.0));
        let before = h;
        for step in [even, odd] {
            d = 1.0 / keep(1.0 + step * d);
            c = keep(1.0 + step / c);
            h *= c * d;
        }
        if (h / before - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    h
}

/// Numbers of Bernoulli, the even ones from the second on, over the factorials of their index.
const BERNOULLI: [f64; 12] = [
    1.0 / 12.0,
    -1.0 / 720.0,
    1.0 / 30_240.0,
    -1.0 / 1_209_600.0,
    1.0 / 47_900_160.0,
    -691.0 / 1_307_674_368_000.0,
    1.0 / 74_724_249_600.0,
    -3617.0 / 10_670_622_842_880_000.0,
    43_867.0 / 5_109_094_217_170_944_000.0,
    -174_611.0 / 802_857_662_698_291_200_000.0,
    77_683.0 / 14_101_100_039_391_805_440_000.0,
    -236_364_091.0 / 1_693_824_136_731_743_669_452_800_000.0,
];

/// How far below zero sums of powers begin at most; their terms are added one by one.
const FARTHEST: f64 = -1e5;

/// The sum of `(q + k)^-s` over all `k` from 0 on (`tf.math.zeta`).
pub(super) fn zeta(s: f64, q: f64) -> f64 {
    if s.is_nan() || q.is_nan() || s < 1.0 {
        return f64::NAN;
    }
    if s == 1.0 {
        return f64::INFINITY;
    }
    if q <= 0.0 {
        if q == q.floor() {
            return if s % 2.0 == 0.0 { f64::INFINITY } else { f64::NAN };
        }
        if s != s.floor() || q < FARTHEST {
            return f64::NAN;
        }
    }
    if q.is_infinite() || (s.is_infinite() && q > 1.0) {
        return 0.0;
    }
    let (mut at, mut sum) = (q, 0.0);
    while at < 12.0 {
        let term = at.powf(-s);
        sum += term;
        at += 1.0;
        if at > 1.0 && term < f64::EPSILON * 0.01 * f64::abs(sum) {
            return sum;
        }
    }
    // The rest as an integral with corrections at its end.
    let power = at.powf(-s);
    sum += at * power / (s - 1.0) + 0.5 * power;
    let mut factor = s * power / at;
    for (k, b) in BERNOULLI.iter().enumerate() {
        sum += b * factor;
        let k = 2.0 * k as f64;
        factor *= (s + k + 1.0) * (s + k + 2.0) / (at * at);
    }
    sum
}

/// The `n`-th derivative of the digamma function (`tf.math.polygamma`); NaN unless `n` is a whole number.
pub(super) fn polygamma(n: f64, x: f64) -> f64 {
    if n == 0.0 {
        return digamma(x);
    }
    if !(n > 0.0 && n == n.floor()) {
        return f64::NAN;
    }
    let sign = if n % 2.0 == 0.0 { -1.0 } else { 1.0 };
    sign * libm::tgamma(n + 1.0) * zeta(n + 1.0, x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs(), "{a} isn't {b}");
    }

    #[test]
    fn both_sides_are_one() {
        for (a, x) in [(0.5, 0.2), (2.0, 3.0), (50.0, 30.0), (50.0, 70.0), (1e3, 1e3), (1e-3, 5.0)] {
            near(lower(a, x) + upper(a, x), 1.0);
        }
        near(lower(1.0, 2.0), 1.0 - (-2f64).exp());
        near(upper(0.5, 4.0), libm::erfc(2.0));
        for (a, b, x) in [(2.0, 3.0, 0.4), (0.1, 0.2, 0.3), (100.0, 200.0, 0.3)] {
            near(beta(a, b, x) + beta(b, a, 1.0 - x), 1.0);
        }
        near(beta(2.0, 3.0, 0.4), 0.5248);
    }

    #[test]
    fn the_slope_is_that_of_the_function() {
        for (a, x) in [(0.5, 0.2), (2.0, 3.0), (50.0, 30.0), (50.0, 70.0), (7.0, 6.9)] {
            let h = 1e-5 * a;
            let wanted = (lower(a + h, x) - lower(a - h, x)) / (2.0 * h);
            assert!((lower_slope(a, x) - wanted).abs() < 1e-7 * wanted.abs(), "{a} {x}");
        }
    }

    #[test]
    fn sums_of_powers() {
        near(zeta(2.0, 1.0), std::f64::consts::PI.powi(2) / 6.0);
        near(zeta(4.0, 1.0), std::f64::consts::PI.powi(4) / 90.0);
        near(zeta(2.0, -0.5), 4.0 + zeta(2.0, 0.5));
        near(zeta(3.0, 0.5), 7.0 * zeta(3.0, 1.0));
        near(polygamma(1.0, 0.25), std::f64::consts::PI.powi(2) + 8.0 * 0.915_965_594_177_219);
        assert!(zeta(2.5, -0.5).is_nan() && polygamma(1.5, 1.0).is_nan());
    }
}
