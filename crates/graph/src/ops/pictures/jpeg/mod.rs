//! JPEG: T.81's sequential and progressive files with Huffman codes and samples of 8 bits.

mod coder;
mod codes;
mod colour;
mod decode;
mod encode;
mod fdct;
mod huffman;
mod idct;
mod markers;
mod samples;
mod scan;
mod source;
mod upsample;

use source::wrong;

use crate::Result;

pub(super) use decode::{Check, Options, Window, decode};
pub(super) use encode::{Settings, encode};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::pictures::picture::{Picture, Samples};

    #[test]
    fn what_is_encoded_decodes_to_nearly_the_same() {
        let samples: Vec<u8> = (0..24 * 32 * 3).map(|i| (i / 3 % 32 * 3 + i / 96 * 2 + i % 3 * 30) as u8).collect();
        for (progressive, coarse_colour) in [(false, false), (true, true)] {
            let how = Settings { progressive, optimized: progressive, coarse_colour, ..Settings::default() };
            let bytes = encode(&samples, [24, 32], 3, &how).expect("encoded");
            assert_eq!(Header::read(&bytes).expect("header"), Header { height: 24, width: 32, components: 3 });
            let decode = |bytes: &[u8], channels: usize| {
                decode(bytes, &Options { channels, fast: false, ..Default::default() }, None, &|| Ok(()))
            };
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
