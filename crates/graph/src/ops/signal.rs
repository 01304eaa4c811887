//! Fourier transforms and audio.

use super::args::{axis, extents, many, map1, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::signal::{self, Cepstrum, Direction};
use crate::tensor::{Shape, Tensor};
use crate::{Error, Result};

/// The last `n` axes.
fn inner(x: &Tensor, n: usize) -> Result<Shape> {
    let first = x.rank().checked_sub(n);
    let first = first.ok_or_else(|| Error::compute(format!("input must have rank of at least {n}, got shape {:?}", x.shape())))?;
    Ok((first..x.rank()).collect())
}

fn fft(n: usize, direction: Direction) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        one(signal::fft(&x, &inner(&x, n)?, direction)?)
    }))
}

type Real = fn(&Tensor, &[usize], &[usize]) -> crate::tensor::Result<Tensor>;

/// Between real numbers and complex ones, along the last `n` axes. `halved` says whether the last axis of the input holds
/// half of a transform.
fn real(n: usize, halved: bool, f: Real) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [x, lengths] = tensors(inputs)?;
        let (axes, lengths) = (inner(&x, n)?, extents(&lengths, "fft_length")?);
        if lengths.len() != n {
            return Err(Error::compute(format!("fft_length must have {n} elements, got {}", lengths.len())));
        }
        for (i, (axis, length)) in axes.iter().zip(&lengths).enumerate() {
            let least = if halved && i + 1 == n && *length > 0 { length / 2 + 1 } else { *length };
            let held = x.shape()[*axis];
            if held < least && !x.is_empty() {
                return Err(Error::compute(format!("input dimension {axis} must have length of at least {least} but got {held}")));
            }
        }
        one(f(&x, &axes, &lengths)?)
    }))
}

/// Along axes that are given.
fn along(f: impl Fn(&Tensor, &[usize], &[usize]) -> crate::tensor::Result<Tensor> + Send + Sync + 'static) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [x, lengths, axes] = tensors(inputs)?;
        let axes: Shape = axes.to_i64_vec()?.into_iter().map(|a| axis(a, x.rank())).collect::<Result<_>>()?;
        one(f(&x, &axes, &extents(&lengths, "fft_length")?)?)
    }))
}

fn positive(a: &NodeAttrs<'_>, name: &str) -> Result<usize> {
    let v = a.int(name)?;
    usize::try_from(v).ok().filter(|v| *v > 0).ok_or_else(|| Error::graph(format!("{name} must be positive, got {v}")))
}

fn spectrogram(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (window, stride) = (positive(a, "window_size")?, positive(a, "stride")?);
    let squared = a.bool("magnitude_squared")?;
    map1(move |x| signal::spectrogram(&x, window, stride, squared))
}

fn mfcc(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let cepstrum = Cepstrum {
        upper: a.float("upper_frequency_limit")?.into(),
        lower: a.float("lower_frequency_limit")?.into(),
        bands: positive(a, "filterbank_channel_count")?,
        coefficients: positive(a, "dct_coefficient_count")?,
    };
    Ok(kernel(move |_, inputs| {
        let [x, rate] = tensors(inputs)?;
        if x.rank() != 3 {
            return Err(Error::compute(format!("a spectrogram has rank 3, got shape {:?}", x.shape())));
        }
        one(cepstrum.of(&x, f64::from(rate.item::<i32>()?))?)
    }))
}

/// A part of a file's bytes, taken off its front.
fn chunk<'a>(bytes: &mut &'a [u8], n: usize, what: &str) -> Result<&'a [u8]> {
    let short = || Error::compute(format!("the WAV ends within {what}: {} of {n} bytes are there", bytes.len()));
    let (head, tail) = bytes.split_at_checked(n).ok_or_else(short)?;
    *bytes = tail;
    Ok(head)
}

fn number<const N: usize>(bytes: &mut &[u8], what: &str) -> Result<u32> {
    let part = chunk(bytes, N, what)?;
    Ok(part.iter().rev().fold(0, |v, b| v << 8 | u32::from(*b)))
}

/// 16 bit samples as floats under one, with their channels and rate.
struct Wav<'a> {
    channels: usize,
    rate: i32,
    samples: &'a [u8],
}

impl<'a> Wav<'a> {
    fn parse(mut bytes: &'a [u8]) -> Result<Self> {
        let riff = chunk(&mut bytes, 4, "its header")?;
        number::<4>(&mut bytes, "its header")?;
        if riff != b"RIFF" || chunk(&mut bytes, 4, "its header")? != b"WAVE" {
            return Err(Error::compute("the file doesn't begin as a WAV does, with RIFF and WAVE"));
        }
        let mut format = None;
        while !bytes.is_empty() {
            let name = chunk(&mut bytes, 4, "a chunk's name")?;
            let size = number::<4>(&mut bytes, "a chunk's size")? as usize;
            let mut body = chunk(&mut bytes, size, "a chunk")?;
            match (name, format) {
                (b"fmt ", _) => {
                    let kind = number::<2>(&mut body, "the format")?;
                    let channels = number::<2>(&mut body, "the format")? as usize;
                    let rate = number::<4>(&mut body, "the format")?;
                    chunk(&mut body, 6, "the format")?;
                    let bits = number::<2>(&mut body, "the format")?;
                    if kind != 1 || bits != 16 {
                        return Err(Error::compute(format!("only WAVs of 16 bit PCM can be read, got {bits} bits of format {kind}")));
                    }
                    let rate = i32::try_from(rate).map_err(|_| Error::compute(format!("a WAV's rate of {rate}")))?;
                    if channels == 0 {
                        return Err(Error::compute("a WAV without channels"));
                    }
                    format = Some((channels, rate));
                }
                (b"data", Some((channels, rate))) => return Ok(Wav { channels, rate, samples: body }),
                _ => {}
            }
            // Chunks of odd sizes are filled up by a zero, which some writers forget.
            if size % 2 == 1 && bytes.first() == Some(&0) {
                bytes = &bytes[1..];
            }
        }
        Err(Error::compute("no data chunk follows a format in the WAV"))
    }

    /// `[samples, channels]`, as many of each as asked for: more channels repeat the last, more samples are silent.
    fn audio(&self, channels: Option<usize>, samples: Option<usize>) -> Result<Tensor> {
        let held = self.samples.len() / 2 / self.channels;
        let (channels, samples) = (channels.unwrap_or(self.channels), samples.unwrap_or(held));
        let mut out = Tensor::zeros(crate::tensor::DType::F32, [samples, channels])?;
        let frames = self.samples.chunks_exact(2 * self.channels);
        for (to, frame) in out.make_mut::<f32>()?.chunks_exact_mut(channels.max(1)).zip(frames) {
            for (c, to) in to.iter_mut().enumerate() {
                let at = 2 * c.min(self.channels - 1);
                *to = f32::from(i16::from_le_bytes([frame[at], frame[at + 1]])) / 32768.0;
            }
        }
        Ok(out)
    }
}

fn decode(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let wanted = |name: &str| a.int(name).map(|v| usize::try_from(v).ok());
    let (channels, samples) = (wanted("desired_channels")?, wanted("desired_samples")?);
    Ok(kernel(move |_, inputs| {
        let [contents] = tensors(inputs)?;
        let [bytes] = contents.strings()? else { return Err(Error::compute("takes the contents of one file")) };
        let wav = Wav::parse(bytes)?;
        many([wav.audio(channels, samples)?, Tensor::scalar(wav.rate)])
    }))
}

fn encode(audio: &Tensor, rate: i32) -> Result<Values> {
    let &[samples, channels] = audio.shape() else {
        return Err(Error::compute(format!("audio is samples by channels, got shape {:?}", audio.shape())));
    };
    let too_large = || Error::compute(format!("{samples} samples of {channels} channels at {rate} don't go into a WAV"));
    let width = u16::try_from(channels).ok().filter(|c| *c > 0 && *c < 1 << 15).ok_or_else(too_large)?;
    let rate = u32::try_from(rate).ok().filter(|r| *r > 0).ok_or_else(too_large)?;
    let per_second = rate.checked_mul(2 * u32::from(width)).ok_or_else(too_large)?;
    let size = audio.len().checked_mul(2).and_then(|n| u32::try_from(n).ok()).ok_or_else(too_large)?;
    let riff = size.checked_add(36).ok_or_else(too_large)?;
    let mut out = Vec::with_capacity(size as usize + 44);
    out.extend(b"RIFF");
    out.extend(riff.to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend(16u32.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out.extend(width.to_le_bytes());
    out.extend(rate.to_le_bytes());
    out.extend(per_second.to_le_bytes());
    out.extend((2 * width).to_le_bytes());
    out.extend(16u16.to_le_bytes());
    out.extend(b"data");
    out.extend(size.to_le_bytes());
    // Floats beyond the range of samples end at it.
    out.extend(audio.elements::<f32>()?.iter().flat_map(|v| ((v * 32768.0).round() as i16).to_le_bytes()));
    one(Tensor::scalar_string(out))
}

fn encoding() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [audio, rate] = tensors(inputs)?;
        encode(&audio, rate.item::<i32>()?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("FFT(input: Tcomplex) -> (output: Tcomplex); Tcomplex: type = complex64", |_| fft(1, Direction::Forward)),
    Op::new("FFT2D(input: Tcomplex) -> (output: Tcomplex); Tcomplex: type = complex64", |_| fft(2, Direction::Forward)),
    Op::new("FFT3D(input: Tcomplex) -> (output: Tcomplex); Tcomplex: type = complex64", |_| fft(3, Direction::Forward)),
    Op::new("IFFT(input: Tcomplex) -> (output: Tcomplex); Tcomplex: type = complex64", |_| fft(1, Direction::Inverse)),
    Op::new("IFFT2D(input: Tcomplex) -> (output: Tcomplex); Tcomplex: type = complex64", |_| fft(2, Direction::Inverse)),
    Op::new("IFFT3D(input: Tcomplex) -> (output: Tcomplex); Tcomplex: type = complex64", |_| fft(3, Direction::Inverse)),
    Op::new("BatchFFT(input: complex64) -> (output: complex64)", |_| fft(1, Direction::Forward)),
    Op::new("BatchFFT2D(input: complex64) -> (output: complex64)", |_| fft(2, Direction::Forward)),
    Op::new("BatchFFT3D(input: complex64) -> (output: complex64)", |_| fft(3, Direction::Forward)),
    Op::new("BatchIFFT(input: complex64) -> (output: complex64)", |_| fft(1, Direction::Inverse)),
    Op::new("BatchIFFT2D(input: complex64) -> (output: complex64)", |_| fft(2, Direction::Inverse)),
    Op::new("BatchIFFT3D(input: complex64) -> (output: complex64)", |_| fft(3, Direction::Inverse)),
    Op::new("RFFT(input: Treal, fft_length: int32) -> (output: Tcomplex); Treal: type = float32; Tcomplex: type = complex64", |_| real(1, false, signal::rfft)),
    Op::new("RFFT2D(input: Treal, fft_length: int32) -> (output: Tcomplex); Treal: type = float32; Tcomplex: type = complex64", |_| real(2, false, signal::rfft)),
    Op::new("RFFT3D(input: Treal, fft_length: int32) -> (output: Tcomplex); Treal: type = float32; Tcomplex: type = complex64", |_| real(3, false, signal::rfft)),
    Op::new("IRFFT(input: Tcomplex, fft_length: int32) -> (output: Treal); Treal: type = float32; Tcomplex: type = complex64", |_| real(1, true, signal::irfft)),
    Op::new("IRFFT2D(input: Tcomplex, fft_length: int32) -> (output: Treal); Treal: type = float32; Tcomplex: type = complex64", |_| real(2, true, signal::irfft)),
    Op::new("IRFFT3D(input: Tcomplex, fft_length: int32) -> (output: Treal); Treal: type = float32; Tcomplex: type = complex64", |_| real(3, true, signal::irfft)),
    Op::new("FFTND(input: Tcomplex, fft_length: int32, axes: int32) -> (output: Tcomplex); Tcomplex: type = complex64", |_| along(|x, axes, n| signal::fft_resized(x, axes, n, Direction::Forward))),
    Op::new("IFFTND(input: Tcomplex, fft_length: int32, axes: int32) -> (output: Tcomplex); Tcomplex: type = complex64", |_| along(|x, axes, n| signal::fft_resized(x, axes, n, Direction::Inverse))),
    Op::new("RFFTND(input: Treal, fft_length: int32, axes: int32) -> (output: Tcomplex); Treal: type = float32; Tcomplex: type = complex64", |_| along(signal::rfft)),
    Op::new("IRFFTND(input: Tcomplex, fft_length: int32, axes: int32) -> (output: Treal); Treal: type = float32; Tcomplex: type = complex64", |_| along(signal::irfft)),
    Op::new("AudioSpectrogram(input: float32) -> (spectrogram: float32); window_size: int; stride: int; magnitude_squared: bool = false", spectrogram),
    Op::new("Mfcc(spectrogram: float32, sample_rate: int32) -> (output: float32); upper_frequency_limit: float = 4000; lower_frequency_limit: float = 20; filterbank_channel_count: int = 40; dct_coefficient_count: int = 13", mfcc),
    Op::new("DecodeWav(contents: string) -> (audio: float32, sample_rate: int32); desired_channels: int = -1; desired_samples: int = -1", decode),
    Op::new("EncodeWav(audio: float32, sample_rate: int32) -> (contents: string)", |_| encoding()),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_wavs_are_refused() {
        let audio = Tensor::from_vec(vec![0.5f32, -0.25, 2.0], [3, 1]).expect("tensor");
        let file = encode(&audio, 8000).expect("wav");
        let file = file[0].tensor().expect("tensor").strings().expect("string")[0].to_vec();
        let back = Wav::parse(&file).and_then(|w| w.audio(None, None)).expect("audio");
        assert_eq!(back.as_slice::<f32>().expect("f32"), [0.5, -0.25, 32767.0 / 32768.0]);
        for n in 0..file.len() {
            assert!(Wav::parse(&file[..n]).is_err(), "{n}");
            let mut other = file.clone();
            other[n] ^= 0xff;
            if let Ok(wav) = Wav::parse(&other) {
                wav.audio(None, Some(5)).expect("audio of another kind");
            }
        }
    }
}
