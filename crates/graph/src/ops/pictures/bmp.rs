//! BMP: uncompressed rows behind a header, bottom up unless the height is negative.

use super::picture::{Picture, Samples, room};
use crate::{Error, Result};

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let found = bytes.get(at..).and_then(|b| b.first_chunk::<N>()).copied();
    found.ok_or_else(|| Error::compute("a BMP's header is cut off"))
}

/// Decodes pictures of 8, 24 or 32 bits a pixel. Those of 8 bits are taken to be grey, as TensorFlow takes them.
pub(super) fn decode(bytes: &[u8], channels: usize) -> Result<Picture> {
    let header = i32::from_le_bytes(number(bytes, 10)?);
    let width = i32::from_le_bytes(number(bytes, 18)?);
    let height = i32::from_le_bytes(number(bytes, 22)?);
    let bits = i16::from_le_bytes(number(bytes, 28)?);
    let has = match bits / 8 {
        has @ (1 | 3 | 4) => has as usize,
        _ => return Err(Error::compute(format!("a BMP of {bits} bits a pixel isn't supported"))),
    };
    if channels == 1 && has != 1 || width <= 0 {
        return Err(Error::compute(format!("a BMP {width} wide of {bits} bits can't give {channels} channels")));
    }
    let channels = if channels == 0 { has } else { channels };
    let (width, rows) = (width as usize, height.unsigned_abs() as usize);
    let n = room(1, rows, width, channels)?;
    let row = (width * has).next_multiple_of(4);
    let start = usize::try_from(header).map_err(|_| Error::compute("a BMP's header has a negative size"))?;
    let pixels = bytes.get(start..).filter(|p| p.len() == row.saturating_mul(rows));
    let pixels = pixels.ok_or_else(|| Error::compute("a BMP's size isn't what its header says"))?;
    let mut out = Vec::with_capacity(n);
    for y in 0..rows {
        let y = if height < 0 { y } else { rows - 1 - y };
        for pixel in pixels[y * row..][..width * has].chunks_exact(has) {
            let rgba = match *pixel {
                [grey] => [grey, grey, grey, 255],
                [b, g, r] => [r, g, b, 255],
                [b, g, r, a] => [r, g, b, a],
                _ => [0; 4],
            };
            out.extend_from_slice(&rgba[..channels]);
        }
    }
    Ok(Picture { frames: None, height: rows, width, channels, samples: Samples::Bytes(out) })
}
