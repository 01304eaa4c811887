//! JPEG.

use std::io::Cursor;

use jpeg_encoder::{ColorType, Encoder, PixelDensity, PixelDensityUnit, SamplingFactor};
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::picture::{Picture, Samples, room};
use crate::{Error, Result};

fn wrong(e: impl std::fmt::Display) -> Error {
    Error::compute(format!("the picture isn't a JPEG that can be decoded: {e}"))
}

/// What the frame header says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Header {
    pub height: usize,
    pub width: usize,
    pub components: usize,
}

impl Header {
    /// Finds the frame header among the segments.
    pub(super) fn read(bytes: &[u8]) -> Result<Header> {
        let cut = || wrong("it has no frame header");
        let mut rest = bytes.strip_prefix(b"\xff\xd8").ok_or_else(cut)?;
        loop {
            let [0xff, marker, after @ ..] = rest else { return Err(cut()) };
            match marker {
                // Filling, and markers that stand alone.
                0xff => rest = &rest[1..],
                0x01 | 0xd0..=0xd7 => rest = after,
                _ => {
                    let (len, _) = after.split_first_chunk::<2>().ok_or_else(cut)?;
                    let len = usize::from(u16::from_be_bytes(*len));
                    let segment = after.get(2..len).ok_or_else(cut)?;
                    // All frame headers but the two tables and the extension whose numbers lie among theirs.
                    if matches!(marker, 0xc0..=0xcf) && ![0xc4, 0xc8, 0xcc].contains(marker) {
                        return Header::of_frame(segment).ok_or_else(cut);
                    }
                    rest = &after[len..];
                }
            }
        }
    }

    fn of_frame(segment: &[u8]) -> Option<Header> {
        let &[8, h1, h0, w1, w0, components, ..] = segment else { return None };
        let side = |high, low| usize::from(u16::from_be_bytes([high, low]));
        Some(Header { height: side(h1, h0), width: side(w1, w0), components: components.into() })
    }
}

/// Decodes to grey (1), colour (3) or what the file has (0).
///
/// The inverse transform is the exact integer one; TensorFlow's default is a coarser one, so that samples differ by a
/// few units.
pub(super) fn decode(bytes: &[u8], channels: usize) -> Result<Picture> {
    let header = Header::read(bytes)?;
    let channels = match (header.components, channels) {
        (has @ (1 | 3), 0) => has,
        (1 | 3, wanted @ (1 | 3)) => wanted,
        (has, wanted) => {
            return Err(Error::unsupported(format!("{wanted} channels of a JPEG with {has} components")));
        }
    };
    let (height, width) = (header.height, header.width);
    let size = room(1, height, width, channels)?;
    // What lies between header and samples takes three times as many bytes.
    room(1, height, width, 3 * header.components)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(width)
        .set_max_height(height)
        .jpeg_set_out_colorspace(if channels == 1 { ColorSpace::Luma } else { ColorSpace::RGB });
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    let samples = decoder.decode().map_err(|e| wrong(format!("{e:?}")))?;
    let same = decoder.info().is_some_and(|i| (usize::from(i.height), usize::from(i.width)) == (height, width));
    if !same || samples.len() != size {
        return Err(wrong("it isn't what its header says"));
    }
    Ok(Picture { frames: None, height, width, channels, samples: Samples::Bytes(samples) })
}

/// How a JPEG is written.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub quality: u8,
    pub progressive: bool,
    pub optimized: bool,
    /// Whether colour has half the resolution of brightness, both ways.
    pub coarse_colour: bool,
    pub inches: bool,
    pub density: [u16; 2],
}

/// Encodes grey (1 channel) or colour (3).
pub(super) fn encode(samples: &[u8], size: [usize; 2], channels: usize, how: &Settings) -> Result<Vec<u8>> {
    let wrong = |e: &dyn std::fmt::Display| Error::compute(format!("the picture can't be a JPEG: {e}"));
    let side = |n: usize| u16::try_from(n).map_err(|e| wrong(&e));
    let colour = match channels {
        1 => ColorType::Luma,
        3 => ColorType::Rgb,
        other => return Err(Error::compute(format!("a JPEG can't have {other} channels"))),
    };
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, how.quality);
    encoder.set_sampling_factor(if how.coarse_colour { SamplingFactor::F_2_2 } else { SamplingFactor::F_1_1 });
    encoder.set_progressive(how.progressive);
    encoder.set_optimized_huffman_tables(how.optimized);
    let unit = if how.inches { PixelDensityUnit::Inches } else { PixelDensityUnit::Centimeters };
    encoder.set_density(PixelDensity { density: (how.density[0], how.density[1]), unit });
    encoder.encode(samples, side(size[1])?, side(size[0])?, colour).map_err(|e| wrong(&e))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_nearly_the_same() {
        let samples: Vec<u8> = (0..24 * 32 * 3).map(|i| (i / 3 % 32 * 3 + i / 96 * 2 + i % 3 * 30) as u8).collect();
        for (progressive, coarse_colour) in [(false, false), (true, true)] {
            let how = Settings {
                quality: 95,
                progressive,
                optimized: progressive,
                coarse_colour,
                inches: true,
                density: [300, 300],
            };
            let bytes = encode(&samples, [24, 32], 3, &how).expect("encoded");
            assert_eq!(Header::read(&bytes).expect("header"), Header { height: 24, width: 32, components: 3 });
            let Ok(Picture { samples: Samples::Bytes(got), .. }) = decode(&bytes, 3) else {
                panic!("bytes");
            };
            let worst = got.iter().zip(&samples).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(worst < Some(24), "{worst:?}");
            assert_eq!(decode(&bytes, 1).expect("grey").channels, 1);
            for n in 0..bytes.len().min(300) {
                assert!(decode(&bytes[..n], 0).is_err());
            }
        }
    }
}
