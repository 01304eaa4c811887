//! PNG.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Encoder, Limits, Transformations};

use super::picture::{Picture, Samples, room};
use crate::{Error, Result};

fn wrong(e: impl std::fmt::Display) -> Error {
    Error::compute(format!("the picture isn't a PNG that can be decoded: {e}"))
}

/// Decodes to so many channels (0: as many as the file has) of 8 or, if `wide`, of 16 bits.
pub(super) fn decode(bytes: &[u8], channels: usize, wide: bool) -> Result<Picture> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: 1 << 28 });
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(wrong)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    // Without an opacity asked for, the one that a single transparent colour makes isn't given.
    let natural = match reader.info().color_type {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Indexed if reader.info().trns.is_some() => 4,
        ColorType::Rgb | ColorType::Indexed => 3,
        ColorType::Rgba => 4,
    };
    let channels = if channels == 0 { natural } else { channels };
    let opaque = match reader.info().color_type {
        ColorType::Grayscale => ((1u32 << reader.info().bit_depth as u8) - 1).min(255) as u8,
        _ => u8::MAX,
    };
    let (colour, depth) = reader.output_color_type();
    let has = colour.samples();
    room(1, height, width, channels.max(has) * 2)?;
    let size = reader.output_buffer_size().ok_or_else(|| wrong("it is too large"))?;
    let mut buffer = vec![0u8; size];
    reader.next_frame(&mut buffer).map_err(wrong)?;
    let picture = |samples| Picture { frames: None, height, width, channels, samples };
    if depth != BitDepth::Sixteen {
        // Opacity that is made up has as many bits as the file's samples of grey.
        let samples = convert(&buffer, has, channels, opaque);
        let widened = |s: Vec<u8>| s.into_iter().map(|b| u16::from(b) * 257).collect();
        return Ok(picture(if wide { Samples::Words(widened(samples)) } else { Samples::Bytes(samples) }));
    }
    let words: Vec<u16> = buffer.as_chunks::<2>().0.iter().map(|w| u16::from_be_bytes(*w)).collect();
    let words = convert(&words, has, channels, u16::MAX);
    let high = |words: Vec<u16>| words.into_iter().map(|w| (w >> 8) as u8).collect();
    Ok(picture(if wide { Samples::Words(words) } else { Samples::Bytes(high(words)) }))
}

/// Pixels of `has` channels as pixels of `channels`.
fn convert<T: Copy + Into<u32> + TryFrom<u32>>(samples: &[T], has: usize, channels: usize, opaque: T) -> Vec<T> {
    if has == channels {
        return samples.to_vec();
    }
    let mut out = Vec::with_capacity(samples.len() / has.max(1) * channels);
    for pixel in samples.chunks_exact(has.max(1)) {
        let (r, g, b, a) = match *pixel {
            [v] => (v, v, v, opaque),
            [v, a] => (v, v, v, a),
            [r, g, b] => (r, g, b, opaque),
            [r, g, b, a] => (r, g, b, a),
            _ => continue,
        };
        match channels {
            1 => out.push(grey(r, g, b)),
            2 => out.extend([grey(r, g, b), a]),
            3 => out.extend([r, g, b]),
            _ => out.extend([r, g, b, a]),
        }
    }
    out
}

/// The grey of a colour, as libpng reckons it: samples of 16 bits are rounded, those of 8 cut.
fn grey<T: Copy + Into<u32> + TryFrom<u32>>(r: T, g: T, b: T) -> T {
    let [red, green, blue]: [u32; 3] = [r.into(), g.into(), b.into()];
    if red == green && green == blue {
        return r;
    }
    let half = if size_of::<T>() > 1 { 1 << 14 } else { 0 };
    T::try_from((9797 * red + 19234 * green + 3737 * blue + half) >> 15).unwrap_or(r)
}

/// Encodes pixels of 1 to 4 channels; samples of 16 bits come big-endian.
pub(super) fn encode(samples: &[u8], size: [usize; 2], channels: usize, wide: bool, level: i64) -> Result<Vec<u8>> {
    let side = |n: usize| u32::try_from(n).map_err(wrong);
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, side(size[1])?, side(size[0])?);
    encoder.set_color(match channels {
        1 => ColorType::Grayscale,
        2 => ColorType::GrayscaleAlpha,
        3 => ColorType::Rgb,
        4 => ColorType::Rgba,
        other => return Err(Error::compute(format!("a PNG can't have {other} channels"))),
    });
    encoder.set_depth(if wide { BitDepth::Sixteen } else { BitDepth::Eight });
    encoder.set_compression(match level {
        0 => png::Compression::NoCompression,
        1..=3 => png::Compression::Fast,
        8.. => png::Compression::High,
        _ => png::Compression::Balanced,
    });
    let mut writer = encoder.write_header().map_err(wrong)?;
    writer.write_image_data(samples).map_err(wrong)?;
    writer.finish().map_err(wrong)?;
    Ok(out)
}
