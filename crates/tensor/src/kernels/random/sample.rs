//! Numbers of distributions that have parameters: drawn until accepted, each from a stretch of the counter of its own.

use super::Philox;
use super::fill::{RESERVED, normal_f32, normal_f64};
use super::philox::{Words, unit_f32, unit_f64};
use crate::kernels::array::{broadcast_to, cast};
use crate::{DType, Error, Result, Shape, Tensor, checked_elements};

/// Uniform numbers in the order that TensorFlow takes them: of the two that a value of the counter makes, the last
/// first.
struct Uniform {
    generator: Philox,
    left: Option<f64>,
}

impl Uniform {
    fn new(generator: Philox) -> Self {
        Uniform { generator, left: None }
    }

    fn next(&mut self) -> f64 {
        if let Some(v) = self.left.take() {
            return v;
        }
        let [a, b, c, d] = self.generator.next_words();
        self.left = Some(unit_f64(a, b));
        unit_f64(c, d)
    }
}

/// A tensor of `shape` whose last dimensions are those of `parameters`: `draw(parameters, generator)` for each element.
fn each<const N: usize>(
    generator: &Philox,
    shape: &[usize],
    parameters: [&Tensor; N],
    reserved: impl Fn([f64; N]) -> u128,
    mut draw: impl FnMut([f64; N], Philox) -> Result<f64>,
) -> Result<Tensor> {
    let mut inner = Shape::new();
    for p in parameters {
        inner = crate::kernels::broadcast_shape(&inner, p.shape())?;
    }
    if !shape.ends_with(&inner) {
        return Err(Error::shape(format!(
            "the shape {shape:?} must end with the parameters' {:?}",
            &inner[..]
        )));
    }
    let wide: Vec<Tensor> =
        parameters.iter().map(|p| cast(&broadcast_to(p, &inner)?, DType::F64)).collect::<Result<_>>()?;
    let values = wide.iter().map(|p| p.elements::<f64>()).collect::<Result<Vec<_>>>()?;
    let count = checked_elements(&inner)?;
    let mut out = Tensor::zeros(DType::F64, shape)?;
    let to = out.make_mut::<f64>()?;
    let samples = to.len() / count.max(1);
    for i in 0..count {
        let p: [f64; N] = std::array::from_fn(|k| values[k][i]);
        for s in 0..samples {
            let number = (i * samples + s) as u128;
            to[s * count + i] = draw(p, generator.skipped(reserved(p) * number))?;
        }
    }
    Ok(out)
}

/// Numbers of gamma distributions of rate 1 (`RandomGamma`), in a tensor of `shape`, whose last dimensions are `alpha`'s.
///
/// # Errors
/// When shapes don't fit, `alpha` isn't a float, or as `check` says, which is called for each number.
pub fn gamma(
    generator: &Philox,
    shape: &[usize],
    alpha: &Tensor,
    mut check: impl FnMut() -> Result<()>,
) -> Result<Tensor> {
    if !alpha.dtype().is_float() {
        return Err(Error::dtype("a float", alpha.dtype()));
    }
    let drawn = each(
        generator,
        shape,
        [alpha],
        |_| RESERVED,
        |[alpha], generator| {
            check()?;
            Ok(one_gamma(alpha, generator))
        },
    )?;
    cast(&drawn, alpha.dtype())
}

/// Marsaglia's and Tsang's method.
fn one_gamma(alpha: f64, mut generator: Philox) -> f64 {
    if alpha.is_nan() || alpha <= 0.0 || alpha.is_infinite() {
        return f64::NAN;
    }
    // Uniform and normal numbers are taken in turn from one generator.
    let (mut uniforms, mut normals): (Option<f64>, Option<f64>) = (None, None);
    let uniform = |generator: &mut Philox, left: &mut Option<f64>| {
        left.take().unwrap_or_else(|| {
            let mut both = Uniform::new(*generator);
            let v = both.next();
            (*generator, *left) = (both.generator, both.left);
            v
        })
    };
    if alpha == 1.0 {
        return -(-uniform(&mut generator, &mut uniforms)).ln_1p();
    }
    let small = alpha < 1.0;
    let d = alpha + if small { 2.0 / 3.0 } else { -1.0 / 3.0 };
    let c = 1.0 / 3.0 / d.sqrt();
    loop {
        let x = normals.take().unwrap_or_else(|| {
            let [first, last] = normal_f64(generator.next_words());
            normals = Some(first);
            last
        });
        let v = 1.0 + c * x;
        if v <= 0.0 {
            continue;
        }
        let v = v * v * v;
        let u = uniform(&mut generator, &mut uniforms);
        if u < 1.0 - 0.0331 * (x * x) * (x * x) || u.ln() < 0.5 * x * x + d * (1.0 - v + v.ln()) {
            let boost = if small { uniform(&mut generator, &mut uniforms).powf(1.0 / alpha) } else { 1.0 };
            return d * v * boost;
        }
    }
}

/// Numbers of Poisson distributions (`RandomPoissonV2`), of dtype `dtype`, in a tensor of `shape`, whose last dimensions are
/// `rate`'s.
///
/// # Errors
/// When shapes don't fit, or as `check` says, which is called for each number.
pub fn poisson(
    generator: &Philox,
    shape: &[usize],
    rate: &Tensor,
    dtype: DType,
    mut check: impl FnMut() -> Result<()>,
) -> Result<Tensor> {
    let drawn = each(
        generator,
        shape,
        [rate],
        |_| RESERVED,
        |[rate], generator| {
            check()?;
            Ok(one_poisson(rate, Uniform::new(generator)))
        },
    )?;
    cast(&drawn, dtype)
}

fn one_poisson(rate: f64, mut uniform: Uniform) -> f64 {
    if !rate.is_finite() || rate < 0.0 {
        return f64::NAN;
    }
    if rate < 10.0 {
        // Knuth: how many intervals fit.
        let (end, mut product, mut n) = ((-rate).exp(), 1.0, 0.0);
        loop {
            product *= uniform.next();
            if product <= end {
                return n;
            }
            n += 1.0;
        }
    }
    // Hörmann: rejection of transformed numbers.
    let log_rate = rate.ln();
    let b = 0.931 + 2.53 * rate.sqrt();
    let a = -0.059 + 0.02483 * b;
    let inverse = 1.1239 + 1.1328 / (b - 3.4);
    loop {
        let u = uniform.next() - 0.5;
        let v = uniform.next();
        let shifted = 0.5 - u.abs();
        let k = ((2.0 * a / shifted + b) * u + rate + 0.43).floor();
        if shifted >= 0.07 && v <= 0.9277 - 3.6224 / (b - 2.0) {
            return k;
        }
        if k < 0.0 || (shifted < 0.013 && v > shifted) {
            continue;
        }
        let s = (v * inverse / (a / (shifted * shifted) + b)).ln();
        if s <= -rate + k * log_rate - libm::lgamma(k + 1.0) {
            return k;
        }
    }
}

/// Numbers of binomial distributions (`StatelessRandomBinomial`), of dtype `dtype`, in a tensor of `shape`, whose last
/// dimensions are those that `counts` and `probabilities` broadcast to.
///
/// # Errors
/// When shapes don't fit, or as `check` says, which is called for each number.
pub fn binomial(
    generator: &Philox,
    shape: &[usize],
    counts: &Tensor,
    probabilities: &Tensor,
    dtype: DType,
    mut check: impl FnMut() -> Result<()>,
) -> Result<Tensor> {
    let often = |n: f64, p: f64| n * p.min(1.0 - p) >= 10.0;
    // Where few numbers are needed few are set apart.
    let reserved = |[n, p]: [f64; 2]| if often(n, p) { RESERVED } else { 42 };
    let drawn = each(generator, shape, [counts, probabilities], reserved, |[n, p], generator| {
        check()?;
        let mut uniform = Uniform::new(generator);
        if p.is_nan() || n.is_nan() {
            return Ok(f64::NAN);
        }
        if n <= 0.0 || p <= 0.0 {
            return Ok(0.0);
        }
        if p >= 1.0 {
            return Ok(n);
        }
        let less = p.min(1.0 - p);
        let hits = if often(n, p) {
            rejected_binomial(n, less, &mut uniform)
        } else {
            inverted_binomial(n, less, &mut uniform, &mut check)?
        };
        Ok(if p <= 0.5 { hits } else { n - hits })
    })?;
    cast(&drawn, dtype)
}

/// How many geometric numbers fit into `n`.
fn inverted_binomial(
    n: f64,
    p: f64,
    uniform: &mut Uniform,
    check: &mut impl FnMut() -> Result<()>,
) -> Result<f64> {
    let (mut sum, mut hits) = (0.0, 0.0);
    loop {
        sum += (uniform.next().ln() / (-p).ln_1p()).ceil();
        if sum > n {
            return Ok(hits);
        }
        check()?;
        hits += 1.0;
    }
}

/// Hörmann's rejection of transformed numbers.
fn rejected_binomial(n: f64, p: f64, uniform: &mut Uniform) -> f64 {
    let deviation = (n * p * (1.0 - p)).sqrt();
    let b = 1.15 + 2.53 * deviation;
    let a = -0.0873 + 0.0248 * b + 0.01 * p;
    let c = n * p + 0.5;
    let tight = 0.92 - 4.2 / b;
    let odds = p / (1.0 - p);
    let alpha = (2.83 + 5.1 / b) * deviation;
    let m = ((n + 1.0) * p).floor();
    loop {
        let u = uniform.next();
        let v = uniform.next();
        let u = u - 0.5;
        let shifted = 0.5 - u.abs();
        let k = ((2.0 * a / shifted + b) * u + c).floor();
        if shifted >= 0.07 && v <= tight {
            return k;
        }
        if k < 0.0 || k > n {
            continue;
        }
        let v = (v * alpha / (a / (shifted * shifted) + b)).ln();
        let bound = (m + 0.5) * ((m + 1.0) / (odds * (n - m + 1.0))).ln()
            + (n + 1.0) * ((n - m + 1.0) / (n - k + 1.0)).ln()
            + (k + 0.5) * (odds * (n - k + 1.0) / (k + 1.0)).ln()
            + stirling(m)
            + stirling(n - m)
            - stirling(k)
            - stirling(n - k);
        if v <= bound {
            return k;
        }
    }
}

/// What Stirling's formula leaves of `ln k!`.
fn stirling(k: f64) -> f64 {
    const FIRST: [f64; 10] = [
        0.0810614667953272,
        0.0413406959554092,
        0.0276779256849983,
        0.02079067210376509,
        0.0166446911898211,
        0.0138761288230707,
        0.0118967099458917,
        0.0104112652619720,
        0.00925546218271273,
        0.00833056343336287,
    ];
    if k <= 9.0 {
        return FIRST.get(k.max(0.0) as usize).copied().unwrap_or_default();
    }
    let square = (k + 1.0) * (k + 1.0);
    (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / 1260.0 / square) / square) / (k + 1.0)
}

/// For each row of `logits` the numbers of `samples` classes, each as likely as its logit says (`Multinomial`), as `int64`.
///
/// # Errors
/// When `logits` isn't a matrix of floats with classes.
pub fn multinomial(generator: &Philox, logits: &Tensor, samples: usize) -> Result<Tensor> {
    let &[rows, classes] = logits.shape() else {
        return Err(Error::shape(format!("logits are a matrix, got shape {:?}", logits.shape())));
    };
    if classes == 0 {
        return Err(Error::shape("there must be a class to choose"));
    }
    let mut out = Tensor::zeros(DType::I64, [rows, samples])?;
    let wide = cast(logits, DType::F64)?;
    let mut words = Words::new(*generator);
    let picks = out.make_mut::<i64>()?.chunks_exact_mut(samples.max(1));
    for (row, to) in wide.elements::<f64>()?.chunks_exact(classes).zip(picks) {
        let greatest = row.iter().copied().filter(|v| v.is_finite()).fold(f64::MIN, f64::max);
        let mut total = 0.0;
        let sums: Vec<f64> = row
            .iter()
            .map(|v| {
                if v.is_finite() {
                    total += (v - greatest).exp();
                }
                total
            })
            .collect();
        for o in to {
            let wanted = words.double() * total;
            *o = sums.partition_point(|s| *s <= wanted) as i64;
        }
    }
    Ok(out)
}

/// The bounds of a truncated normal distribution, with its mean and deviation.
#[derive(Debug, Clone, Copy)]
pub struct Truncated {
    /// The mean before truncation.
    pub mean: f64,
    /// The deviation before truncation.
    pub deviation: f64,
    /// The least number.
    pub least: f64,
    /// The greatest number.
    pub greatest: f64,
}

/// Times that a number is drawn anew at most.
const MOST_TRIES: usize = 1000;

/// Numbers of truncated normal distributions, in order (`ParameterizedTruncatedNormal`): `out[i]` of `parameters(i / batch)`.
/// `single` says whether they are drawn as `float32`.
///
/// # Errors
/// When the parameters make no distribution, or no number is accepted.
pub fn truncated(
    generator: &Philox,
    out: &mut [f64],
    batch: usize,
    single: bool,
    parameters: impl Fn(usize) -> Truncated,
) -> Result<()> {
    let mut generator = *generator;
    for (b, part) in out.chunks_mut(batch.max(1)).enumerate() {
        fill_truncated(&mut generator, part, single, parameters(b))?;
    }
    Ok(())
}

fn fill_truncated(generator: &mut Philox, out: &mut [f64], single: bool, p: Truncated) -> Result<()> {
    let Truncated { mean, mut deviation, mut least, mut greatest } = p;
    if !(deviation > 0.0 && least < greatest && (least.is_finite() || greatest.is_finite())) {
        return Err(Error::value(format!("{p:?} is no distribution")));
    }
    if least == f64::NEG_INFINITY || greatest < mean {
        std::mem::swap(&mut least, &mut greatest);
        deviation = -deviation;
    }
    // Every step is rounded as TensorFlow's is.
    let r = |v: f64| if single { f64::from(v as f32) } else { v };
    let (low, high) = (r(r(least - mean) / deviation), r(r(greatest - mean) / deviation));
    let root = r(r(r(low * low) + 4.0).sqrt());
    let cutoff = r(2.0 * r((0.5 + r(low * r(low - root)) / 4.0).exp()) / r(low + root));
    let span = r(high - low);
    let uniforms = |g: &mut Philox| -> Vec<f64> {
        let w = g.next_words();
        if single {
            w.iter().map(|w| f64::from(unit_f32(*w))).collect()
        } else {
            vec![unit_f64(w[0], w[1]), unit_f64(w[2], w[3])]
        }
    };
    let mut done = 0;
    let mut tries = 0;
    let mut offer = |z: f64, accepted: bool| -> Result<bool> {
        if accepted {
            if let Some(o) = out.get_mut(done) {
                *o = r(r(z * deviation) + mean);
                done += 1;
            }
            tries = 0;
        } else {
            tries += 1;
            if tries > MOST_TRIES {
                return Err(Error::value(format!("no number of {p:?} was accepted")));
            }
        }
        Ok(done < out.len())
    };
    if (low < -1.3 && high >= 0.0) || (high > 1.3 && low <= 0.0) {
        loop {
            let w = generator.next_words();
            let drawn: Vec<f64> = if single {
                [normal_f32(w[0], w[1]), normal_f32(w[2], w[3])].concat().into_iter().map(f64::from).collect()
            } else {
                normal_f64(w).to_vec()
            };
            for z in drawn {
                if !offer(z, z >= low && z <= high)? {
                    return Ok(());
                }
            }
        }
    }
    if span < cutoff {
        let plus = if low < 0.0 { 0.0 } else { r(low * low) };
        loop {
            let (z, u) = (uniforms(generator), uniforms(generator));
            for (z, u) in z.iter().zip(u) {
                let z = r(r(z * span) + low);
                let g = r(r(plus - r(z * z)) / 2.0);
                if !offer(z, u <= r(g.exp()))? {
                    return Ok(());
                }
            }
        }
    }
    let alpha = r(r(low + root) / 2.0);
    loop {
        for pair in uniforms(generator).chunks_exact(2) {
            let z = r(r(-r(pair[0].ln()) / alpha) + low);
            let x = if low < alpha { r(alpha - z) } else { r(low - alpha) };
            let g = r(r(-r(x * x) / 2.0).exp());
            if !offer(z, pair[1] <= g && z < high)? {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(t: &Tensor) -> (f64, f64) {
        let t = cast(t, DType::F64).expect("cast");
        let v = t.elements::<f64>().expect("f64").to_vec();
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        (mean, v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len() as f64)
    }

    fn near(t: Result<Tensor>, mean: f64, variance: f64) {
        let (m, v) = moments(&t.expect("numbers"));
        assert!((m - mean).abs() < 0.05 * mean + 0.02 && (v - variance).abs() < 0.1 * variance, "{m} {v}");
    }

    #[test]
    fn moments_are_the_distributions() {
        let g = Philox::from_seeds(3, 4);
        let n = [20_000];
        let s = Tensor::scalar::<f64>;
        for alpha in [0.5, 1.0, 3.0] {
            near(gamma(&g, &n, &s(alpha), || Ok(())), alpha, alpha);
        }
        for rate in [0.7, 5.0, 40.0] {
            near(poisson(&g, &n, &s(rate), DType::I64, || Ok(())), rate, rate);
            near(poisson(&g, &n, &Tensor::scalar(rate as f32), DType::I64, || Ok(())), rate, rate);
        }
        for (count, p) in [(10.0, 0.3), (100.0, 0.4), (50.0, 0.9), (1000.0, 0.7)] {
            let drawn = binomial(&g, &n, &s(count), &s(p), DType::F64, || Ok(()));
            near(drawn, count * p, count * p * (1.0 - p));
        }
        assert!(gamma(&g, &[2, 3], &Tensor::full(1.0f32, [2]).expect("alpha"), || Ok(())).is_err());
        assert!(gamma(&g, &[1], &s(1.0), || Err(Error::value("stop"))).is_err());
        let logits = Tensor::from_vec(vec![0.0f32, 3f32.ln(), f32::NEG_INFINITY], [1, 3]).expect("logits");
        near(multinomial(&g, &logits, 20_000), 0.75, 0.1875);
        assert!(multinomial(&g, &Tensor::full(0.0f32, [1, 0]).expect("none"), 1).is_err());
    }

    #[test]
    fn truncated_numbers_stay_within() {
        for (least, greatest) in [(-1.0, 2.0), (0.5, 0.6), (2.0, f64::INFINITY), (f64::NEG_INFINITY, -3.0)] {
            for single in [false, true] {
                let p = Truncated { mean: 0.1, deviation: 1.5, least, greatest };
                let mut out = vec![f64::NAN; 300];
                truncated(&Philox::from_seeds(1, 1), &mut out, 100, single, |_| p).expect("numbers");
                assert!(
                    out.iter().all(|v| *v >= least - 1e-5 && *v <= greatest + 1e-5),
                    "{least} {greatest}"
                );
            }
        }
        let none = Truncated { mean: 0.0, deviation: 1.0, least: 1.0, greatest: 1.0 };
        assert!(truncated(&Philox::from_seeds(1, 1), &mut [0.0], 1, false, |_| none).is_err());
    }
}
