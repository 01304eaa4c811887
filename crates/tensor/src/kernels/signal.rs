//! Fourier transforms, and what audio needs of them.

use num_complex::Complex;
use rustfft::{FftNum, FftPlanner};

use super::array;
use super::parallel;
use crate::{DType, Element, Error, Result, Shape, Tensor};

/// Which way a transform goes; backwards it divides by the number of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From time to frequency.
    Forward,
    /// From frequency to time.
    Inverse,
}

fn transform<T: FftNum>(values: &mut [Complex<T>], n: usize, direction: Direction)
where
    Complex<T>: Element,
{
    let mut planner = FftPlanner::new();
    let plan = match direction {
        Direction::Forward => planner.plan_fft_forward(n),
        Direction::Inverse => planner.plan_fft_inverse(n),
    };
    let cost = 8 * n.ilog2() as usize + 8;
    parallel::for_parts(values, n, cost, |_, part| plan.process(part));
    if direction == Direction::Inverse
        && let Some(length) = T::from_usize(n)
    {
        let scale = T::one() / length;
        values.iter_mut().for_each(|v| *v = *v * scale);
    }
}

/// With `axis` swapped with the last one.
fn swapped(x: &Tensor, axis: usize) -> Result<Tensor> {
    let mut order: Shape = (0..x.rank()).collect();
    match x.rank().checked_sub(1) {
        Some(last) if axis < last => order.swap(axis, last),
        _ => return Ok(x.clone()),
    }
    array::transpose(x, &order)
}

/// The Fourier transforms of complex numbers along `axes` (`tf.signal.fftnd`).
///
/// # Errors
/// When an axis is out of range, or the dtype isn't complex.
pub fn fft(x: &Tensor, axes: &[usize], direction: Direction) -> Result<Tensor> {
    let mut x = x.clone();
    for &axis in axes {
        let n = *x
            .shape()
            .get(axis)
            .ok_or_else(|| Error::shape(format!("shape {:?} has no axis {axis}", x.shape())))?;
        let mut moved = swapped(&x, axis)?;
        if !moved.is_empty() {
            match moved.dtype() {
                DType::C64 => transform(moved.make_mut::<Complex<f32>>()?, n, direction),
                DType::C128 => transform(moved.make_mut::<Complex<f64>>()?, n, direction),
                other => return Err(Error::dtype("a complex one", other)),
            }
        }
        x = swapped(&moved, axis)?;
    }
    if x.dtype().is_complex() { Ok(x) } else { Err(Error::dtype("a complex one", x.dtype())) }
}

/// `x` with `axes` cut off at these lengths, or, where they are longer, filled up with zeros.
fn resized(x: &Tensor, axes: &[usize], lengths: &[usize]) -> Result<Tensor> {
    let mut extents = Shape::from(x.shape());
    let mut paddings = vec![(0, 0); x.rank()];
    for (&axis, &length) in axes.iter().zip(lengths) {
        let held = x.shape()[axis];
        extents[axis] = held.min(length);
        paddings[axis].1 = length - held.min(length);
    }
    let cut = array::slice(x, &vec![0; x.rank()], &extents)?;
    array::pad(&cut, &paddings, &Tensor::zeros(x.dtype(), [])?)
}

fn check_axes(x: &Tensor, axes: &[usize], lengths: &[usize]) -> Result<usize> {
    if let Some(odd) = axes.iter().enumerate().find(|(i, a)| **a >= x.rank() || axes[..*i].contains(a)) {
        return Err(Error::shape(format!(
            "axis {} is given twice or not one of shape {:?}",
            odd.1,
            x.shape()
        )));
    }
    if axes.len() != lengths.len() {
        return Err(Error::shape(format!("{} lengths for {} axes", lengths.len(), axes.len())));
    }
    axes.last().copied().ok_or_else(|| Error::value("a transform needs an axis"))
}

/// As [`fft`], of `x` cut off or filled up to `lengths` along `axes`.
///
/// # Errors
/// As [`fft`]; when an axis is given twice.
pub fn fft_resized(x: &Tensor, axes: &[usize], lengths: &[usize], direction: Direction) -> Result<Tensor> {
    check_axes(x, axes, lengths)?;
    fft(&resized(x, axes, lengths)?, axes, direction)
}

/// The Fourier transforms of real numbers (`tf.signal.rfft`), of `x` cut off or filled up to `lengths` along `axes`: of the
/// last axis only the first half, as the second mirrors it. `float32` gives `complex64`, `float64` gives `complex128`.
///
/// # Errors
/// When the dtype isn't one of these, or axes don't fit.
pub fn rfft(x: &Tensor, axes: &[usize], lengths: &[usize]) -> Result<Tensor> {
    let last = check_axes(x, axes, lengths)?;
    let dtype = match x.dtype() {
        DType::F32 => DType::C64,
        DType::F64 => DType::C128,
        other => return Err(Error::dtype("float32 or float64", other)),
    };
    let whole = array::cast(&resized(x, axes, lengths)?, dtype)?;
    // The last axis first, so that the others have only half to do.
    let out = fft(&whole, &[last], Direction::Forward)?;
    let mut extents = Shape::from(out.shape());
    extents[last] = half(extents[last]);
    let out = array::slice(&out, &vec![0; out.rank()], &extents)?;
    fft(&out, &axes[..axes.len() - 1], Direction::Forward)
}

/// How many elements of a transform of `n` real numbers say all.
fn half(n: usize) -> usize {
    if n == 0 { 0 } else { n / 2 + 1 }
}

/// The inverse of [`rfft`] (`tf.signal.irfft`), of the real lengths `lengths`.
///
/// # Errors
/// When the dtype isn't complex, or axes don't fit.
pub fn irfft(x: &Tensor, axes: &[usize], lengths: &[usize]) -> Result<Tensor> {
    fn mirror<T: FftNum>(values: &[Complex<T>], n: usize) -> Vec<Complex<T>> {
        let mut out = Vec::with_capacity(values.len() / half(n).max(1) * n);
        for row in values.chunks_exact(half(n)) {
            let start = out.len();
            out.extend_from_slice(&row[..half(n).min(n)]);
            // What has to be real is taken as real.
            out[start].im = T::zero();
            if n.is_multiple_of(2) {
                out[start + n / 2].im = T::zero();
            }
            out.extend((1..n.div_ceil(2)).rev().map(|k| row[k].conj()));
        }
        out
    }
    let last = check_axes(x, axes, lengths)?;
    let mut held = lengths.to_vec();
    let Some(length) = held.last_mut() else { return Err(Error::value("a transform needs an axis")) };
    let n = std::mem::replace(length, half(*length));
    let x = fft(&resized(x, axes, &held)?, &axes[..axes.len() - 1], Direction::Inverse)?;
    let moved = swapped(&x, last)?;
    let mut shape = Shape::from(moved.shape());
    if let Some(inner) = shape.last_mut() {
        *inner = n;
    }
    let inner = shape.len() - 1;
    let (whole, dtype) = match moved.dtype() {
        _ if n == 0 => (Tensor::zeros(moved.dtype(), &shape)?, moved.dtype()),
        DType::C64 => (Tensor::from_vec(mirror(&moved.elements::<Complex<f32>>()?, n), &shape)?, DType::F32),
        DType::C128 => (Tensor::from_vec(mirror(&moved.elements::<Complex<f64>>()?, n), &shape)?, DType::F64),
        other => return Err(Error::dtype("a complex one", other)),
    };
    let real = if dtype == DType::F64 || moved.dtype() == DType::C128 { DType::F64 } else { DType::F32 };
    let time = super::elementwise::real(&fft(&whole, &[inner], Direction::Inverse)?)?;
    swapped(&array::cast(&time, real)?, last)
}

/// The magnitudes of the transforms of windows of a signal (`audio_ops.audio_spectrogram`): from `[samples, channels]`
/// `float32` to `[channels, windows, frequencies]`. Windows begin every `stride` samples and are weighted by Hann's.
///
/// # Errors
/// When shape or dtype aren't those, or a window is shorter than 2 samples or a stride than 1.
pub fn spectrogram(audio: &Tensor, window: usize, stride: usize, squared: bool) -> Result<Tensor> {
    let &[samples, channels] = audio.shape() else {
        return Err(Error::shape(format!("audio is samples by channels, got shape {:?}", audio.shape())));
    };
    if window < 2 || stride == 0 {
        return Err(Error::value(format!("windows of {window} samples every {stride}")));
    }
    let count = samples.checked_sub(window).map_or(0, |rest| 1 + rest / stride);
    let length = window
        .checked_next_power_of_two()
        .ok_or_else(|| Error::too_large(format!("a window of {window}")))?;
    let values = audio.elements::<f32>()?;
    let mut frames = Tensor::zeros(DType::F64, [channels, count, length])?;
    let weight = |i: usize| 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / window as f64).cos();
    let weights: Vec<f64> = (0..if count == 0 { 0 } else { window }).map(weight).collect();
    for (f, frame) in frames.make_mut::<f64>()?.chunks_exact_mut(length).enumerate() {
        let (channel, begin) = (f / count, f % count * stride);
        for (i, (to, weight)) in frame.iter_mut().zip(&weights).enumerate() {
            *to = f64::from(values[(begin + i) * channels + channel]) * weight;
        }
    }
    let out = super::elementwise::magnitude(&rfft(&frames, &[2], &[length])?)?;
    array::cast(&if squared { super::elementwise::square(out)? } else { out }, DType::F32)
}

/// What coefficients of a cepstrum are made of (`audio_ops.mfcc`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cepstrum {
    /// The highest frequency that counts, in Hertz.
    pub upper: f64,
    /// The lowest frequency that counts, in Hertz.
    pub lower: f64,
    /// How many bands there are on the scale of mel.
    pub bands: usize,
    /// How many coefficients are wanted.
    pub coefficients: usize,
}

impl Cepstrum {
    /// How much each frequency adds to each band, as a list for each frequency. An edge of one band is the peak of the next.
    fn weights(&self, frequencies: usize, rate: f64) -> Vec<Vec<(usize, f64)>> {
        let mel = |hertz: f64| 1127.0 * (hertz / 700.0).ln_1p();
        let (low, high) = (mel(self.lower), mel(self.upper));
        let spacing = (high - low) / (self.bands as f64 + 1.0);
        let step = 0.5 * rate / (frequencies as f64 - 1.0);
        let first = (1.5 + self.lower / step) as usize;
        let last = (self.upper / step) as usize;
        let one = |i: usize| {
            if !(first..=last).contains(&i) {
                return Vec::new();
            }
            // How many peaks are under it, and how far it is to the next one.
            let at = (mel(i as f64 * step) - low) / spacing;
            let above = (at.ceil() - 1.0).max(0.0);
            let falling = above + 1.0 - at;
            let above = above as usize;
            let band = |b: Option<usize>, w: f64| b.filter(|b| *b < self.bands).map(|b| (b, w));
            band(above.checked_sub(1), falling).into_iter().chain(band(Some(above), 1.0 - falling)).collect()
        };
        (0..frequencies).map(one).collect()
    }

    /// The coefficients of each row of `spectrogram`, `[.., frequencies]` squared magnitudes in `float32`: of the logarithms
    /// of what bands hold, the cosine transform.
    ///
    /// # Errors
    /// When frequencies, bands or coefficients are none or out of order, or the dtype is another.
    pub fn of(&self, spectrogram: &Tensor, rate: f64) -> Result<Tensor> {
        let Some((&n, outer)) = spectrogram.shape().split_last() else {
            return Err(Error::shape("a scalar is no spectrogram"));
        };
        let Cepstrum { upper, lower, bands, coefficients } = *self;
        let sane = n >= 2 && rate > 0.0 && lower >= 0.0 && upper > lower && bands > 0 && coefficients > 0;
        if !sane || coefficients > bands {
            return Err(Error::value(format!(
                "{self:?} can't be had of {n} frequencies at a rate of {rate}"
            )));
        }
        let mut shape = Shape::from(outer);
        shape.push(coefficients);
        let mut out = Tensor::zeros(DType::F32, &shape)?;
        let weights = self.weights(n, rate);
        let values = spectrogram.elements::<f32>()?;
        for (row, to) in values.chunks_exact(n).zip(out.make_mut::<f32>()?.chunks_exact_mut(coefficients)) {
            let mut energy = vec![0.0f64; bands];
            for (v, weights) in row.iter().zip(&weights) {
                weights.iter().for_each(|(band, w)| energy[*band] += f64::from(*v).sqrt() * w);
            }
            energy.iter_mut().for_each(|v| *v = v.max(1e-12).ln());
            let scale = (2.0 / bands as f64).sqrt();
            for (i, to) in to.iter_mut().enumerate() {
                let angle = std::f64::consts::PI / bands as f64 * i as f64;
                let sum: f64 =
                    energy.iter().enumerate().map(|(j, v)| v * (angle * (j as f64 + 0.5)).cos()).sum();
                *to = (sum * scale) as f32;
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_undo_each_other() {
        for n in [1, 2, 5, 6, 8] {
            let x =
                Tensor::from_vec((0..3 * n).map(|v| (v * v % 7) as f64).collect(), [3, n]).expect("tensor");
            let there = rfft(&x, &[0, 1], &[3, n]).expect("there");
            assert_eq!(there.shape(), [3, n / 2 + 1]);
            let back = irfft(&there, &[0, 1], &[3, n]).expect("back");
            let pairs = back.to_array::<f64>().expect("f64") - x.to_array::<f64>().expect("f64");
            assert!(pairs.iter().all(|v| v.abs() < 1e-14));
        }
        let x = Tensor::zeros(DType::F32, [2, 4]).expect("zeros");
        assert!(
            rfft(&x, &[1, 1], &[4, 4]).is_err()
                && rfft(&x, &[2], &[4]).is_err()
                && rfft(&x, &[], &[]).is_err()
        );
        assert_eq!(rfft(&x, &[0], &[0]).expect("empty").shape(), [0, 4]);
        let c = Tensor::zeros(DType::C64, [2, 4]).expect("zeros");
        assert_eq!(irfft(&c, &[1], &[0]).expect("empty").shape(), [2, 0]);
    }
}
