//! WebP, still and animated.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::picture::{Picture, Samples, room};
use crate::{Error, Result};

fn wrong(e: impl std::fmt::Display) -> Error {
    Error::compute(format!("the picture isn't a WebP that can be decoded: {e}"))
}

/// Decodes all frames, or the first alone; an animation has an opacity always.
pub(super) fn decode(bytes: &[u8], channels: usize, all: bool) -> Result<Picture> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(wrong)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let has = if decoder.has_alpha() { 4 } else { 3 };
    let gives = if decoder.is_animated() { 4 } else { has };
    if channels != 0 && channels != gives {
        return Err(Error::compute(format!("the WebP has {gives} channels, not {channels}")));
    }
    let frames = if decoder.is_animated() && all { decoder.num_frames().max(1) as usize } else { 1 };
    let size = room(1, height, width, has)?;
    let mut buffer = vec![0u8; decoder.output_buffer_size().filter(|n| *n == size).ok_or_else(|| wrong("its size"))?];
    let mut out = Vec::new();
    for frame in 0..frames {
        // A file may claim more frames than it has: room is taken as they come.
        room(frame + 1, height, width, gives)?;
        if decoder.is_animated() {
            decoder.read_frame(&mut buffer).map_err(wrong)?;
        } else {
            decoder.read_image(&mut buffer).map_err(wrong)?;
        }
        if has == gives {
            out.extend_from_slice(&buffer);
        } else {
            buffer.chunks_exact(3).for_each(|p| out.extend_from_slice(&[p[0], p[1], p[2], 255]));
        }
    }
    Ok(Picture { frames: all.then_some(frames), height, width, channels: gives, samples: Samples::Bytes(out) })
}
