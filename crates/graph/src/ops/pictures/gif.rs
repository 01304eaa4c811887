//! GIF: frames on a canvas, each over the one before.

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::picture::{Picture, Samples, room};
use crate::{Error, Result};

fn wrong(e: impl std::fmt::Display) -> Error {
    Error::compute(format!("the picture isn't a GIF that can be decoded: {e}"))
}

/// Decodes all frames, or the first alone, as red, green and blue. What no frame has covered is black.
pub(super) fn decode(bytes: &[u8], channels: usize, all: bool) -> Result<Picture> {
    if channels != 0 && channels != 3 {
        return Err(Error::compute(format!("a GIF has 3 channels, not {channels}")));
    }
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Bytes(
        std::num::NonZeroU64::new(1 << 28).ok_or_else(|| wrong("no memory"))?,
    ));
    let mut decoder = options.read_info(bytes).map_err(wrong)?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    let size = room(1, height, width, 3)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let mut canvas = vec![0u8; size];
    let (mut out, mut frames) = (Vec::new(), 0);
    while let Some(frame) = decoder.read_next_frame().map_err(wrong)? {
        frames += 1;
        room(frames, height, width, 3)?;
        let palette = frame.palette.as_ref().or(global.as_ref()).ok_or_else(|| wrong("a frame has no colours"))?;
        let frame_width = usize::from(frame.width);
        for (y, row) in frame.buffer.chunks_exact(frame_width.max(1)).enumerate() {
            let y = y + usize::from(frame.top);
            for (x, &index) in row.iter().enumerate() {
                let x = x + usize::from(frame.left);
                if y >= height || x >= width || frame.transparent == Some(index) {
                    continue;
                }
                let colour = palette.get(usize::from(index) * 3..).and_then(|p| p.get(..3));
                let colour = colour.ok_or_else(|| wrong("a pixel has no colour"))?;
                canvas[(y * width + x) * 3..][..3].copy_from_slice(colour);
            }
        }
        out.extend_from_slice(&canvas);
        if !all {
            break;
        }
    }
    if frames == 0 {
        return Err(wrong("it has no frames"));
    }
    Ok(Picture { frames: all.then_some(frames), height, width, channels: 3, samples: Samples::Bytes(out) })
}
