//! Spectra of sequences over time: MelSpectrogram, STFTSpectrogram.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{Dialect, Error, Result};
use serde_json::{Value, json};

use super::Entry;
use super::sliding::convolve;
use crate::config::{DataFormat, Fields, Initializer, Padding, numbers};
use crate::layer::{WeightSpec, inputs};
use crate::spatial::Window;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<MelSpectrogram>(&["MelSpectrogram"]),
    Entry::of::<STFTSpectrogram>(&["STFTSpectrogram"]),
];

/// How each frame fades in and out: a window of so many samples (SciPy: `scipy.signal.get_window`).
pub(super) fn window(window: &Value, length: usize, periodic: bool) -> Result<Vec<f64>> {
    let terms: &[f64] = match window {
        Value::Null => return Ok(vec![1.0; length]),
        Value::Array(values) => {
            let values: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
            let fits = values.len() == length;
            return fits.then_some(values).ok_or_else(|| Error::mismatch("a window as long as a frame is needed"));
        }
        Value::String(name) => match name.as_str() {
            "boxcar" => &[1.0],
            "hann" => &[0.5, 0.5],
            "hamming" => &[0.54, 0.46],
            "blackman" => &[0.42, 0.5, 0.08],
            "nuttall" => &[0.363_581_9, 0.489_177_5, 0.136_599_5, 0.010_641_1],
            "blackmanharris" => &[0.358_75, 0.488_29, 0.141_28, 0.011_68],
            other => return Err(Error::unsupported(format!("the window {other:?}"))),
        },
        other => return Err(Error::unsupported(format!("the window {other}"))),
    };
    let extent = if periodic { length } else { length.saturating_sub(1) };
    let value = |i: usize| {
        let angle = if extent == 0 { std::f64::consts::PI } else { std::f64::consts::TAU * i as f64 / extent as f64 };
        let term = |(k, a): (usize, &f64)| if k % 2 == 0 { *a } else { -*a } * (k as f64 * angle).cos();
        terms.iter().enumerate().map(term).sum()
    };
    Ok(if length == 1 { vec![1.0] } else { (0..length).map(value).collect() })
}

/// The powers of a sequence's frequencies over time, as ears weigh them (Keras: `MelSpectrogram`): `[batch, samples]`
/// becomes `[batch, num_mel_bins, frames]`.
#[derive(Debug, Clone, PartialEq)]
pub struct MelSpectrogram {
    fft_length: usize,
    sequence_stride: usize,
    sequence_length: Option<usize>,
    window: Value,
    sampling_rate: f64,
    num_mel_bins: usize,
    min_freq: f64,
    max_freq: Option<f64>,
    power_to_db: bool,
    top_db: f64,
    mag_exp: f64,
    min_power: f64,
    ref_power: f64,
}

impl Default for MelSpectrogram {
    fn default() -> Self {
        MelSpectrogram {
            fft_length: 2048,
            sequence_stride: 512,
            sequence_length: None,
            window: json!("hann"),
            sampling_rate: 16000.0,
            num_mel_bins: 128,
            min_freq: 20.0,
            max_freq: None,
            power_to_db: true,
            top_db: 80.0,
            mag_exp: 2.0,
            min_power: 1e-10,
            ref_power: 1.0,
        }
    }
}

impl MelSpectrogram {
    /// Spectra of so many samples each, so far apart.
    pub fn new(fft_length: usize, sequence_stride: usize) -> Self {
        MelSpectrogram { fft_length, sequence_stride, ..MelSpectrogram::default() }
    }

    /// The same in this many bands.
    pub fn num_mel_bins(mut self, num_mel_bins: usize) -> Self {
        self.num_mel_bins = num_mel_bins;
        self
    }

    /// How long the parts are that are transformed, without zeros around them.
    fn frame(&self) -> Result<usize> {
        let length = self.sequence_length.unwrap_or(self.fft_length);
        match length <= self.fft_length && length > 0 && self.sequence_stride > 0 {
            true => Ok(length),
            false => Err(Error::invalid("a sequence is at least one sample long, and not longer than its spectrum")),
        }
    }

    /// What each frequency gives each band: triangles that are even on the scale of ears.
    fn bands(&self) -> Vec<f64> {
        let mel = |hertz: f64| 1127.0 * (1.0 + hertz / 700.0).ln();
        let (count, bins) = (self.fft_length / 2 + 1, self.num_mel_bins);
        let nyquist = self.sampling_rate / 2.0;
        let (low, high) = (mel(self.min_freq), mel(self.max_freq.unwrap_or(nyquist.floor())));
        let edge = |i: usize| low + (high - low) * i as f64 / (bins + 1) as f64;
        let weight = |f: usize, b: usize| {
            let at = mel(nyquist * f as f64 / (count.max(2) - 1) as f64);
            let (left, middle, right) = (edge(b), edge(b + 1), edge(b + 2));
            // The lowest frequency, which is no tone, gives nothing.
            if f == 0 { 0.0 } else { ((at - left) / (middle - left)).min((right - at) / (right - middle)).max(0.0) }
        };
        (0..count).flat_map(|f| (0..bins).map(move |b| weight(f, b))).collect()
    }

    /// The magnitudes of all frequencies of all frames.
    fn magnitudes(&self, call: &mut Call<'_>, x: Sym, rank: usize) -> Result<Sym> {
        let (length, half) = (self.frame()?, (self.fft_length / 2) as i64);
        let mut paddings = vec![0i64; 2 * rank];
        if let Some(last) = paddings.last_chunk_mut::<2>() {
            *last = [half, half];
        }
        let paddings = call.ints(&paddings)?;
        let paddings = call.reshape(paddings, &[rank as i64, 2])?;
        let x = call.op("MirrorPad").inputs(&[x, paddings]).attr("mode", "REFLECT").one()?;
        let shape = call.apply("Shape", &[x])?;
        let samples = call.slice(shape, &[(Some(-1), None, 1)])?;
        let samples = call.reshape(samples, &[])?;
        let (zero, one) = (call.int(0)?, call.int(1)?);
        let (stride, fft) = (call.int(self.sequence_stride as i64)?, call.int(self.fft_length as i64)?);
        let free = call.apply("Sub", &[samples, fft])?;
        let frames = call.apply("FloorDiv", &[free, stride])?;
        let frames = call.apply("AddV2", &[frames, one])?;
        let starts = call.apply("Range", &[zero, frames, one])?;
        let starts = call.apply("Mul", &[starts, stride])?;
        let starts = call.reshape(starts, &[-1, 1])?;
        let steps = call.apply("Range", &[zero, fft, one])?;
        let places = call.apply("AddV2", &[starts, steps])?;
        let axis = call.int(rank as i64 - 1)?;
        let parts = call.apply("GatherV2", &[x, places, axis])?;
        let before = (self.fft_length - length) / 2;
        let mut fading = vec![0.0; before];
        fading.extend(window(&self.window, length, true)?);
        fading.resize(self.fft_length, 0.0);
        let fading = call.constant(numbers(&fading, &[self.fft_length], call.dtype(x))?)?;
        let parts = call.apply("Mul", &[parts, fading])?;
        let fft = call.ints(&[self.fft_length as i64])?;
        let wide = call.dtype(x) == DType::F64;
        let spectra = call.op("RFFT").inputs(&[parts, fft]).attr("Tcomplex", if wide { DType::C128 } else { DType::C64 });
        let spectra = spectra.one()?;
        let dtype = call.dtype(x);
        Ok(call.op("ComplexAbs").input(spectra).attr("Tout", dtype).one()?)
    }
}

impl Layer for MelSpectrogram {
    fn class_name(&self) -> &str {
        "MelSpectrogram"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("fft_length", &mut self.fft_length);
        f.field("sequence_stride", &mut self.sequence_stride);
        f.field("sequence_length", &mut self.sequence_length);
        f.field("window", &mut self.window);
        f.field("sampling_rate", &mut self.sampling_rate);
        f.field("num_mel_bins", &mut self.num_mel_bins);
        f.field("min_freq", &mut self.min_freq);
        f.field("max_freq", &mut self.max_freq);
        f.field("power_to_db", &mut self.power_to_db);
        f.field("top_db", &mut self.top_db);
        f.field("mag_exp", &mut self.mag_exp);
        f.field("min_power", &mut self.min_power);
        f.field("ref_power", &mut self.ref_power);
        f.only_in(Dialect::Keras3);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let mut dims = inputs.first()?.dims()?.to_vec();
        let samples = dims.pop().ok_or_else(|| Error::mismatch("it takes sequences"))?;
        self.frame()?;
        let padding = 2 * (self.fft_length / 2);
        let frames = |n: usize| Some(n.checked_add(padding)?.checked_sub(self.fft_length)? / self.sequence_stride + 1);
        dims.extend([Some(self.num_mel_bins), samples.and_then(frames)]);
        Ok(vec![Spec::new(dims, inputs.compute_dtype())])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let rank = call.spec(x).rank()?;
        let compute = call.inputs().compute_dtype();
        let x = call.cast(x, if compute == DType::F64 { compute } else { DType::F32 })?;
        let y = self.magnitudes(call, x, rank)?;
        let power = call.scalar(self.mag_exp, y)?;
        let y = call.apply("Pow", &[y, power])?;
        let shape = [self.fft_length / 2 + 1, self.num_mel_bins];
        let bands = call.constant(numbers(&self.bands(), &shape, call.dtype(y))?)?;
        let mut y = call.apply("BatchMatMulV2", &[y, bands])?;
        if self.power_to_db {
            let least = call.scalar(self.min_power, y)?;
            y = call.apply("Maximum", &[y, least])?;
            y = call.apply("Log", &[y])?;
            let decibels = call.scalar(10.0 / std::f64::consts::LN_10, y)?;
            y = call.apply("Mul", &[y, decibels])?;
            let reference = call.scalar(10.0 * self.ref_power.abs().max(self.min_power).log10(), y)?;
            y = call.apply("Sub", &[y, reference])?;
            let axes: Vec<i64> = (0..=rank as i64).collect();
            let most = call.reduce("Max", y, &axes, false)?;
            let range = call.scalar(self.top_db, y)?;
            let least = call.apply("Sub", &[most, range])?;
            y = call.apply("Maximum", &[y, least])?;
        }
        let mut order: Vec<usize> = (0..=rank).collect();
        order.swap(rank, rank - 1);
        let y = call.transpose(y, &order)?;
        Ok(vec![call.cast(y, compute)?])
    }
}

/// Spectra of a sequence over time, found by convolutions whose kernels may be trained (Keras: `STFTSpectrogram`).
#[derive(Debug, Clone, PartialEq)]
pub struct STFTSpectrogram {
    mode: String,
    frame_length: usize,
    frame_step: Option<usize>,
    fft_length: Option<usize>,
    window: Value,
    periodic: bool,
    scaling: Option<String>,
    padding: Padding,
    expand_dims: bool,
    data_format: DataFormat,
}

impl Default for STFTSpectrogram {
    fn default() -> Self {
        STFTSpectrogram {
            mode: "log".to_owned(),
            frame_length: 256,
            frame_step: None,
            fft_length: None,
            window: json!("hann"),
            periodic: false,
            scaling: Some("density".to_owned()),
            padding: Padding::Valid,
            expand_dims: false,
            data_format: DataFormat::ChannelsLast,
        }
    }
}

/// The least magnitude of which a logarithm is taken (Keras: `backend.epsilon()`).
const EPSILON: f64 = 1e-7;

impl STFTSpectrogram {
    /// What each frame gives: `log`, `magnitude`, `psd`, `real`, `imag`, `angle` or `stft`.
    pub fn new(mode: &str) -> Self {
        STFTSpectrogram { mode: mode.to_owned(), ..STFTSpectrogram::default() }
    }

    /// The same with frames of this length, so far apart.
    pub fn frames(mut self, length: usize, step: usize) -> Self {
        (self.frame_length, self.frame_step) = (length, Some(step));
        self
    }

    fn frequencies(&self) -> usize {
        self.fft_length.unwrap_or_else(|| self.frame_length.next_power_of_two()) / 2 + 1
    }

    fn window(&self) -> Window<1> {
        Window {
            size: [self.frame_length],
            strides: [self.frame_step.unwrap_or(self.frame_length / 2)],
            dilation: [1],
            padding: self.padding,
            data_format: DataFormat::ChannelsLast,
        }
    }

    /// The input's axes of time and of channels.
    fn axes(&self) -> [i64; 2] {
        if self.data_format == DataFormat::ChannelsFirst { [2, 1] } else { [1, 2] }
    }

    /// The first values of a kernel: what a Fourier transform multiplies the samples of a frame by.
    fn kernel(&self, wave: fn(f64) -> f64) -> Result<Initializer> {
        let fading = window(&self.window, self.frame_length, self.periodic)?;
        let scale = match self.scaling.as_deref().filter(|_| !self.window.is_null()) {
            None => 1.0,
            Some("density") => fading.iter().map(|w| w * w).sum::<f64>().sqrt(),
            Some("spectrum") => fading.iter().map(|w| w.abs()).sum(),
            Some(other) => return Err(Error::unsupported(format!("the scaling {other:?}"))),
        };
        let count = self.frequencies();
        let turn = |time: usize, frequency: usize| {
            -std::f64::consts::TAU * time as f64 * frequency as f64 / (2 * count.max(2) - 2) as f64
        };
        let row = |(time, fading): (usize, f64)| {
            (0..count).map(move |frequency| wave(turn(time, frequency)) * fading / scale)
        };
        Ok(Initializer::Values(fading.into_iter().enumerate().flat_map(row).collect()))
    }

    /// What a kernel gives of each channel: `[batch, channels, frames, frequencies]`.
    fn part(&self, call: &mut Call<'_>, x: Sym, kernel: &str) -> Result<Sym> {
        let spec = call.spec(x);
        let [time, channels] = self.axes();
        let channels = spec.known(channels)? as i64;
        let known = usize::try_from(time).ok().and_then(|t| spec.dims().ok()?.get(t).copied().flatten());
        let x = if self.data_format == DataFormat::ChannelsFirst { x } else { call.transpose(x, &[0, 2, 1])? };
        let samples = match known {
            Some(known) => call.int(known as i64)?,
            None => call.extent(x, 2)?,
        };
        let (all, one) = (call.int(-1)?, call.int(1)?);
        let shape = call.shape(&[all, samples, one])?;
        let x = call.apply("Reshape", &[x, shape])?;
        let kernel = call.weight(kernel)?;
        let y = convolve(call, x, kernel, &self.window(), 1, None)?;
        let frames = call.extent(y, 1)?;
        let (channels, frequencies) = (call.int(channels)?, call.int(self.frequencies() as i64)?);
        let shape = call.shape(&[all, channels, frames, frequencies])?;
        call.apply("Reshape", &[y, shape])
    }

    /// `[batch, channels, frames, frequencies]` as the options want it.
    fn arranged(&self, call: &mut Call<'_>, y: Sym, channels: usize, frequencies: usize) -> Result<Sym> {
        let is_first = self.data_format == DataFormat::ChannelsFirst;
        if self.expand_dims {
            return if is_first { Ok(y) } else { call.transpose(y, &[0, 2, 3, 1]) };
        }
        let frames = call.extent(y, 2)?;
        let (all, flat) = (call.int(-1)?, call.int(channels.saturating_mul(frequencies) as i64)?);
        let (order, shape): ([usize; 4], _) =
            if is_first { ([0, 1, 3, 2], [all, flat, frames]) } else { ([0, 2, 1, 3], [all, frames, flat]) };
        let y = call.transpose(y, &order)?;
        let shape = call.shape(&shape)?;
        call.apply("Reshape", &[y, shape])
    }
}

impl Layer for STFTSpectrogram {
    fn class_name(&self) -> &str {
        "STFTSpectrogram"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("mode", &mut self.mode);
        f.field("frame_length", &mut self.frame_length);
        f.field("frame_step", &mut self.frame_step);
        f.field("fft_length", &mut self.fft_length);
        f.field("window", &mut self.window);
        f.field("periodic", &mut self.periodic);
        f.field("scaling", &mut self.scaling);
        f.field("padding", &mut self.padding);
        f.field("data_format", &mut self.data_format);
        f.field("expand_dims", &mut self.expand_dims);
        f.only_in(Dialect::Keras3);
    }

    fn weights(&self, _: &Inputs) -> Result<Vec<WeightSpec>> {
        let shape = [self.frame_length, 1, self.frequencies()];
        let mut weights = Vec::new();
        for (name, without, wave) in
            [("real_kernel", "imag", f64::cos as fn(f64) -> f64), ("imag_kernel", "real", f64::sin)]
        {
            if self.mode != without {
                // A window that isn't known can't be drawn, but a file has the values.
                let start = self.kernel(wave).unwrap_or_else(|_| Initializer::named("STFT"));
                weights.push(WeightSpec::new(name, shape, &start));
            }
        }
        Ok(weights)
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let [time, channels] = self.axes();
        let channels = input.known(channels)?;
        let (batch, time) = match (input.dims()?, time) {
            (&[batch, time, _], 1) | (&[batch, _, time], 2) => (batch, time),
            _ => return Err(Error::mismatch(format!("it takes 3 dimensions, but got {}", input.shape))),
        };
        let sequence = input.with_shape([batch, time, Some(1)]);
        let frames = self.window().output(&sequence, None)?.dims()?.get(1).copied().flatten();
        let frequencies = self.frequencies().checked_mul(if self.mode == "stft" { 2 } else { 1 });
        let flat = frequencies.and_then(|f| f.checked_mul(channels));
        let (channels, is_first) = (Some(channels), self.data_format == DataFormat::ChannelsFirst);
        Ok(vec![match (self.expand_dims, is_first) {
            (true, true) => input.with_shape([batch, channels, frames, frequencies]),
            (true, false) => input.with_shape([batch, frames, frequencies, channels]),
            (false, true) => input.with_shape([batch, flat, frames]),
            (false, false) => input.with_shape([batch, frames, flat]),
        }])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let channels = call.spec(x).known(self.axes()[1])?;
        let real = if self.mode == "imag" { None } else { Some(self.part(call, x, "real_kernel")?) };
        let imaginary = if self.mode == "real" { None } else { Some(self.part(call, x, "imag_kernel")?) };
        let count = self.frequencies();
        let (re, im) = match (real, imaginary) {
            (Some(one), None) | (None, Some(one)) => return Ok(vec![self.arranged(call, one, channels, count)?]),
            (Some(re), Some(im)) => (re, im),
            (None, None) => return Err(Error::invalid("it has neither part")),
        };
        let y = match self.mode.as_str() {
            "angle" => call.apply("Atan2", &[im, re])?,
            "stft" => {
                let both = call.concat(&[re, im], 3)?;
                return Ok(vec![self.arranged(call, both, channels, 2 * count)?]);
            }
            "psd" | "magnitude" | "log" => {
                let (re, im) = (call.apply("Square", &[re])?, call.apply("Square", &[im])?);
                call.apply("AddV2", &[re, im])?
            }
            other => return Err(Error::unsupported(format!("the mode {other:?}"))),
        };
        let y = match self.mode.as_str() {
            "psd" => {
                // All but the first and the last frequency stand for two.
                let twice = |i: usize| if i == 0 || i + 1 == count { 1.0 } else { 2.0 };
                let factors: Vec<f64> = (0..count).map(twice).collect();
                let factors: Tensor = numbers(&factors, &[count], call.dtype(y))?;
                let factors = call.constant(factors)?;
                call.apply("Mul", &[y, factors])?
            }
            "angle" => y,
            _ => {
                let least = call.scalar(EPSILON, y)?;
                let y = call.apply("Maximum", &[y, least])?;
                call.apply("Sqrt", &[y])?
            }
        };
        let y = self.arranged(call, y, channels, count)?;
        if self.mode != "log" {
            return Ok(vec![y]);
        }
        let least = call.scalar(EPSILON, y)?;
        let y = call.apply("Maximum", &[y, least])?;
        Ok(vec![call.apply("Log", &[y])?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_scipys() {
        let shown = |name: &str, length, periodic| {
            window(&json!(name), length, periodic).map(|w| w.iter().map(|v| (v * 1e4).round()).collect::<Vec<_>>())
        };
        assert_eq!(shown("hann", 5, false).unwrap(), [0.0, 5000.0, 10000.0, 5000.0, 0.0]);
        assert_eq!(shown("hann", 4, true).unwrap(), [0.0, 5000.0, 10000.0, 5000.0]);
        assert_eq!(shown("hamming", 3, false).unwrap(), [800.0, 10000.0, 800.0]);
        assert!(shown("kaiser", 3, false).is_err());
    }
}
