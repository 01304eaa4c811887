//! Spectra and parts of sequences, complex numbers, and ramps between numbers.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::reductions::rank;
use super::table::Form::{Float, Many, One};
use super::table::{Row, row};
use crate::config::numbers;

fn parts(args: &mut Args<'_, '_>, x: Sym) -> Result<Vec<Sym>> {
    Ok(vec![args.call.apply("Real", &[x])?, args.call.apply("Imag", &[x])?])
}

/// The extent of the last axis.
fn last_extent(args: &mut Args<'_, '_>, x: Sym) -> Result<Sym> {
    let shape = args.call.apply("Shape", &[x])?;
    let last = args.call.slice(shape, &[(Some(-1), None, 1)])?;
    args.call.reshape(last, &[])
}

fn real_transform(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let x = args.float_tensor("x")?;
    let length = match args.int("fft_length") {
        Some(length) => args.call.int(length)?,
        None => last_extent(args, x)?,
    };
    let length = args.call.reshape(length, &[1])?;
    let y = args.call.apply("RFFT", &[x, length])?;
    parts(args, y)
}

fn real_inverse(args: &mut Args<'_, '_>) -> Result<Sym> {
    let both = args.list("x")?;
    let [re, im] = crate::layer::inputs(&both)?;
    let (re, im) = (args.call.cast(re, DType::F32)?, args.call.cast(im, DType::F32)?);
    let x = args.call.apply("Complex", &[re, im])?;
    let length = match args.int("fft_length") {
        Some(length) => args.call.int(length)?,
        None => {
            let (count, one, two) = (last_extent(args, x)?, args.call.int(1)?, args.call.int(2)?);
            let less = args.call.apply("Sub", &[count, one])?;
            args.call.apply("Mul", &[less, two])?
        }
    };
    let length = args.call.reshape(length, &[1])?;
    args.call.apply("IRFFT", &[x, length])
}

/// Parts of the last axis of this length, so far apart: one more axis.
fn sequences(args: &mut Args<'_, '_>, x: Sym, length: i64, stride: i64) -> Result<Sym> {
    if length < 1 || stride < 1 {
        return Err(Error::invalid("a sequence's length and stride are positive"));
    }
    let samples = last_extent(args, x)?;
    let (zero, one) = (args.call.int(0)?, args.call.int(1)?);
    let (length, stride) = (args.call.int(length)?, args.call.int(stride)?);
    let free = args.call.apply("Sub", &[samples, length])?;
    let count = args.call.apply("FloorDiv", &[free, stride])?;
    let count = args.call.apply("AddV2", &[count, one])?;
    let starts = args.call.apply("Range", &[zero, count, one])?;
    let starts = args.call.apply("Mul", &[starts, stride])?;
    let starts = args.call.reshape(starts, &[-1, 1])?;
    let steps = args.call.apply("Range", &[zero, length, one])?;
    let places = args.call.apply("AddV2", &[starts, steps])?;
    let axis = args.call.int(-1)?;
    args.call.apply("GatherV2", &[x, places, axis])
}

fn extracted(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let missing = || Error::missing("the op has no sequence_length and sequence_stride");
    let (length, stride) = (args.int("sequence_length"), args.int("sequence_stride"));
    sequences(args, x, length.ok_or_else(missing)?, stride.ok_or_else(missing)?)
}

/// A window of this length in the middle of zeros; none where the op says that there is none.
fn fading(args: &Args<'_, '_>, length: i64, fft: i64) -> Result<Option<Vec<f64>>> {
    let window = args.named.iter().find(|(n, _)| *n == "window").and_then(|(_, a)| super::arguments::value_of(a));
    let window = window.unwrap_or(serde_json::json!("hann"));
    if window.is_null() {
        return Ok(None);
    }
    let size = |n: i64| usize::try_from(n).unwrap_or(0);
    let mut fading = vec![0.0; size((fft - length) / 2)];
    fading.extend(super::super::spectrogram::window(&window, size(length), true)?);
    fading.resize(size(fft), 0.0);
    Ok(Some(fading))
}

fn short_time(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let mut x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    let missing = |name: &str| Error::missing(format!("the op has no {name}"));
    let option = |name: &str| args.int(name).ok_or_else(|| missing(name));
    let (length, stride, fft) = (option("sequence_length")?, option("sequence_stride")?, option("fft_length")?);
    if length < 1 || fft < length || fft > 1 << 24 {
        return Err(Error::invalid("a spectrum is as long as its sequence, or longer"));
    }
    if args.find("center").is_none() || args.flag("center") {
        let mut paddings = vec![0; 2 * rank - 2];
        paddings.extend([fft / 2, fft / 2]);
        let paddings = args.call.ints(&paddings)?;
        let paddings = args.call.reshape(paddings, &[rank as i64, 2])?;
        x = args.call.op("MirrorPad").inputs(&[x, paddings]).attr("mode", "REFLECT").one()?;
    }
    let frames = sequences(args, x, fft, stride)?;
    let fading = fading(args, length, fft)?.unwrap_or_else(|| vec![1.0; usize::try_from(fft).unwrap_or(0)]);
    let fading = args.call.constant(numbers(&fading, &[fading.len()], args.call.dtype(x))?)?;
    let frames = args.call.apply("Mul", &[frames, fading])?;
    let length = args.call.ints(&[fft])?;
    let spectra = args.call.apply("RFFT", &[frames, length])?;
    parts(args, spectra)
}

/// Frames that begin so far apart, along the last axis but one, added up where they overlap (TensorFlow:
/// `tf.signal.overlap_and_add`).
fn overlapped(args: &mut Args<'_, '_>, frames: Sym, rank: usize, length: i64, stride: i64) -> Result<Sym> {
    if rank < 2 || length < 1 || stride < 1 {
        return Err(Error::invalid("frames have a positive length and stride"));
    }
    let first: Vec<usize> = [rank - 2, rank - 1].into_iter().chain(0..rank - 2).collect();
    let frames = args.call.transpose(frames, &first)?;
    let shape = args.call.apply("Shape", &[frames])?;
    let count = args.call.slice(shape, &[(None, Some(1), 1)])?;
    let count = args.call.reshape(count, &[])?;
    let (zero, one) = (args.call.int(0)?, args.call.int(1)?);
    let (length, stride) = (args.call.int(length)?, args.call.int(stride)?);
    let starts = args.call.apply("Range", &[zero, count, one])?;
    let starts = args.call.apply("Mul", &[starts, stride])?;
    let starts = args.call.reshape(starts, &[-1, 1])?;
    let steps = args.call.apply("Range", &[zero, length, one])?;
    let places = args.call.apply("AddV2", &[starts, steps])?;
    let last = args.call.apply("Sub", &[count, one])?;
    let last = args.call.apply("Mul", &[last, stride])?;
    let all = args.call.apply("AddV2", &[last, length])?;
    let sums = args.call.apply("UnsortedSegmentSum", &[frames, places, all])?;
    let back: Vec<usize> = (1..rank - 1).chain([0]).collect();
    args.call.transpose(sums, &back)
}

/// The samples of which a short-time transform gave the spectra (Keras: `istft`).
fn short_time_inverse(args: &mut Args<'_, '_>) -> Result<Sym> {
    let both = args.list("x")?;
    let [re, im] = crate::layer::inputs(&both)?;
    let rank = args.call.spec(re).rank()?;
    let (re, im) = (args.call.cast(re, DType::F32)?, args.call.cast(im, DType::F32)?);
    let spectra = args.call.apply("Complex", &[re, im])?;
    let missing = |name: &str| Error::missing(format!("the op has no {name}"));
    let option = |name: &str| args.int(name).ok_or_else(|| missing(name));
    let (length, stride, fft) = (option("sequence_length")?, option("sequence_stride")?, option("fft_length")?);
    if length < 1 || stride < 1 || fft < length || fft > 1 << 24 {
        return Err(Error::invalid("a spectrum is as long as its sequence, or longer"));
    }
    let size = args.call.ints(&[fft])?;
    let mut frames = args.call.apply("IRFFT", &[spectra, size])?;
    if let Some(fading) = fading(args, length, fft)? {
        // Where frames overlap, all of their windows share.
        let step = usize::try_from(stride).unwrap_or(1);
        let mut squares = vec![0.0; step.min(fading.len())];
        for (i, share) in fading.iter().enumerate() {
            if let Some(sum) = squares.get_mut(i % step) {
                *sum += share * share;
            }
        }
        let sum = |i: usize| squares.get(i % step).copied().filter(|s| *s != 0.0);
        let shared: Vec<f64> = fading.iter().enumerate().map(|(i, w)| sum(i).map_or(0.0, |s| w / s)).collect();
        let shared = args.call.constant(numbers(&shared, &[shared.len()], DType::F32)?)?;
        frames = args.call.apply("Mul", &[frames, shared])?;
    }
    let samples = overlapped(args, frames, rank, fft, stride)?;
    let centered = args.find("center").is_none() || args.flag("center");
    let begin = if centered { fft / 2 } else { 0 };
    let end = match args.int("length") {
        Some(length) => Some(begin.saturating_add(length)),
        None => centered.then_some(-(fft / 2)),
    };
    let mut slices = vec![(None, None, 1); rank.saturating_sub(2)];
    slices.push((Some(begin), end, 1));
    args.call.slice(samples, &slices)
}

/// Numbers in even steps from one to another, along a new axis; `power` makes each what it is the exponent of.
fn ramp(args: &mut Args<'_, '_>, of_logs: bool) -> Result<Sym> {
    let [start, stop] = args.pair("start", "stop")?;
    let dtype = args.dtype("dtype")?.unwrap_or_else(|| {
        let own = args.call.dtype(start);
        if own.is_float() { own } else { DType::F32 }
    });
    let (mut start, mut stop) = (args.call.cast(start, dtype)?, args.call.cast(stop, dtype)?);
    let sign = args.call.apply("Sign", &[start])?;
    if of_logs {
        for end in [&mut start, &mut stop] {
            *end = args.call.apply("Abs", &[*end])?;
            *end = args.call.apply("Log", &[*end])?;
        }
    }
    let count = args.int("num").unwrap_or(50);
    if !(0..=1 << 24).contains(&count) {
        return Err(Error::limit(format!("{count} numbers")));
    }
    let ends = args.find("endpoint").is_none() || args.flag("endpoint");
    let steps = if ends { count - 1 } else { count }.max(1);
    let shares: Vec<f64> = (0..count).map(|i| i as f64 / steps as f64).collect();
    let rank = rank(args, "start", start)?.max(rank(args, "stop", stop)?);
    let mut shape = vec![shares.len()];
    shape.resize(rank + 1, 1);
    let is_end = |end: f64| shares.iter().map(|share| f64::from(u8::from(*share == end))).collect::<Vec<_>>();
    let ends = [(is_end(0.0), start), (is_end(1.0), stop)];
    let shares = args.call.constant(numbers(&shares, &shape, dtype)?)?;
    let extent = args.call.apply("Sub", &[stop, start])?;
    let mut y = args.call.apply("Mul", &[shares, extent])?;
    y = args.call.apply("AddV2", &[y, start])?;
    // The ends are what was given, however far they are.
    for (is_end, end) in ends {
        let is_end = args.call.constant(numbers(&is_end, &shape, DType::Bool)?)?;
        y = args.call.apply("SelectV2", &[is_end, end, y])?;
    }
    if of_logs {
        y = args.call.apply("Exp", &[y])?;
        y = args.call.apply("Mul", &[y, sign])?;
    } else if let Some(base) = args.float("base") {
        let base = args.call.scalar(base, y)?;
        y = args.call.apply("Pow", &[base, y])?;
    }
    let axis = args.axis("axis", 0, rank + 1)?;
    let mut order: Vec<usize> = (1..=rank).collect();
    order.insert(axis, 0);
    args.call.transpose(y, &order)
}

fn ramp_with_step(args: &mut Args<'_, '_>) -> Result<Vec<Sym>> {
    let y = ramp(args, false)?;
    if !args.flag("retstep") {
        return Ok(vec![y]);
    }
    let [start, stop] = args.pair("start", "stop")?;
    let extent = args.call.apply("Sub", &[stop, start])?;
    let extent = args.call.cast(extent, args.call.dtype(y))?;
    let ends = args.find("endpoint").is_none() || args.flag("endpoint");
    let steps = args.int("num").unwrap_or(50) - i64::from(ends);
    let steps = args.call.scalar(steps as f64, extent)?;
    Ok(vec![y, args.call.apply("RealDiv", &[extent, steps])?])
}

/// The area under values at places, or at even steps.
fn trapezoid(args: &mut Args<'_, '_>) -> Result<Sym> {
    let y = args.float_tensor("y")?;
    let rank = rank(args, "y", y)?;
    let axis = args.axis("axis", -1, rank)?;
    let neighbours = |args: &mut Args<'_, '_>, x: Sym, axis: usize| -> Result<[Sym; 2]> {
        let mut slices = vec![(None, None, 1); axis];
        slices.push((Some(1), None, 1));
        let after = args.call.slice(x, &slices)?;
        slices.pop();
        slices.push((None, Some(-1), 1));
        Ok([after, args.call.slice(x, &slices)?])
    };
    let both = neighbours(args, y, axis)?;
    let sum = args.call.apply("AddV2", &both)?;
    let steps = match args.maybe("x")? {
        Some(x) => {
            let x = args.call.cast(x, args.call.dtype(y))?;
            let places = super::reductions::rank(args, "x", x)?;
            let both = neighbours(args, x, if places == rank { axis } else { 0 })?;
            let steps = args.call.apply("Sub", &both)?;
            let mut shape = vec![1i64; rank];
            if places == 1 && rank > 1 {
                shape[axis] = -1;
                args.call.reshape(steps, &shape)?
            } else {
                steps
            }
        }
        None => args.call.scalar(args.float("dx").unwrap_or(1.0), y)?,
    };
    let area = args.call.apply("Mul", &[sum, steps])?;
    let half = args.call.scalar(0.5, area)?;
    let area = args.call.apply("Mul", &[area, half])?;
    args.call.reduce("Sum", area, &[axis as i64], false)
}

/// The powers of each number.
fn powers(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let count = match args.int("N") {
        Some(count) => args.call.int(count)?,
        None => last_extent(args, x)?,
    };
    let (zero, one) = (args.call.int(0)?, args.call.int(1)?);
    let mut exponents = args.call.apply("Range", &[zero, count, one])?;
    if !args.flag("increasing") {
        let axis = args.call.ints(&[0])?;
        exponents = args.call.apply("ReverseV2", &[exponents, axis])?;
    }
    let exponents = args.call.cast(exponents, args.call.dtype(x))?;
    let last = args.call.int(-1)?;
    let x = args.call.apply("ExpandDims", &[x, last])?;
    args.call.apply("Pow", &[x, exponents])
}

fn as_complex(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let both = args.call.op("Unpack").input(x).attr("num", 2i64).attr("axis", -1i64).all()?;
    args.call.apply("Complex", &both)
}

fn as_real(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let both = parts(args, x)?;
    Ok(args.call.op("Pack").inputs(&both).attr("axis", -1i64).one()?)
}

fn polar(args: &mut Args<'_, '_>) -> Result<Sym> {
    let [size, angle] = args.pair("abs_", "angle")?;
    let (x, y) = (args.call.apply("Cos", &[angle])?, args.call.apply("Sin", &[angle])?);
    let (x, y) = (args.call.apply("Mul", &[size, x])?, args.call.apply("Mul", &[size, y])?);
    args.call.apply("Complex", &[x, y])
}

pub(super) const ROWS: &[Row] = &[
    row("math.RFFT(x; fft_length)", Many(real_transform)),
    row("math.IRFFT(x; fft_length)", One(real_inverse)),
    row("math.STFT(x; sequence_length sequence_stride fft_length window center)", Many(short_time)),
    row("math.ISTFT(x; sequence_length sequence_stride fft_length length window center)", One(short_time_inverse)),
    row("math.ExtractSequences(x; sequence_length sequence_stride)", One(extracted)),
    row("math.ViewAsComplex(x)", One(as_complex)),
    row("math.ViewAsReal(x)", One(as_real)),
    row("nn.Polar(abs_ angle)", One(polar)),
    row("numpy.Linspace(start stop; num endpoint retstep dtype axis) = linspace(start stop num name axis)", Many(ramp_with_step)),
    row("numpy.Logspace(start stop; num endpoint base dtype axis)", One(|a| {
        if !a.named.iter().any(|(n, _)| *n == "base") {
            a.named.push(("base", crate::Argument::Value(serde_json::json!(10))));
        }
        ramp(a, false)
    })),
    row("numpy.Geomspace(start stop; num endpoint dtype axis)", One(|a| ramp(a, true))),
    row("numpy.Trapezoid(y x; dx axis)", One(trapezoid)),
    row("numpy.Vander(x; N increasing)", One(powers)),
    row("numpy.I0(x) = math.bessel_i0(x)", Float("BesselI0")),
];
