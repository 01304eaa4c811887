//! The ops that decode: what each takes, and the formats by their first bytes.

use super::picture::Picture;
use super::{Decoder, bmp, gif, jpeg, png, webp};
use crate::engine::{Kernel, kernel};
use crate::ops::NodeAttrs;
use crate::ops::args::{extents, one, take_first};
use crate::tensor::kernels::array;
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// What an op asks of a picture.
#[derive(Clone, Copy)]
struct Wanted {
    op: Decoder,
    /// 0 for as many as the file has.
    channels: usize,
    dtype: DType,
    /// Whether formats with frames give all of them.
    frames: bool,
}

impl Wanted {
    fn read(a: &NodeAttrs<'_>, op: Decoder) -> Result<Wanted> {
        let channels = a.get("channels").and_then(|c| c.as_int()).unwrap_or(0);
        let ratio = a.get("ratio").and_then(|r| r.as_int()).unwrap_or(1);
        if ![0, 1, 3, 4].contains(&channels) {
            return Err(Error::graph(format!("there are no pictures of {channels} channels")));
        }
        if ratio != 1 {
            return Err(Error::unsupported(format!("a JPEG decoded to 1/{ratio} of its size")));
        }
        Ok(Wanted {
            op,
            channels: channels as usize,
            dtype: a.get("dtype").and_then(|d| d.as_type()).unwrap_or(DType::U8),
            frames: a.get("expand_animations").and_then(|e| e.as_bool()).unwrap_or(true),
        })
    }

    fn decode(&self, bytes: &[u8]) -> Result<Picture> {
        let refused = |format: &str| Error::compute(format!("{:?} doesn't decode {format}", self.op));
        let only_jpeg = self.op == Decoder::CropJpeg;
        match bytes {
            [0xff, 0xd8, 0xff, ..] if self.op != Decoder::Bmp => jpeg::decode(bytes, self.channels),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] if self.op != Decoder::Bmp && !only_jpeg => {
                png::decode(bytes, self.channels, self.dtype != DType::U8)
            }
            [b'G', b'I', b'F', b'8', ..] if self.op != Decoder::Bmp && !only_jpeg => {
                let mut picture = gif::decode(bytes, self.channels, self.frames)?;
                if matches!(self.op, Decoder::Png | Decoder::Jpeg) {
                    if picture.frames != Some(1) {
                        return Err(Error::compute("an animated GIF takes DecodeGif or DecodeImage"));
                    }
                    picture.frames = None;
                }
                Ok(picture)
            }
            [b'B', b'M', ..] if matches!(self.op, Decoder::Bmp | Decoder::Any) => bmp::decode(bytes, self.channels),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => {
                webp::decode(bytes, self.channels, self.frames)
            }
            [0xff, 0xd8, 0xff, ..] => Err(refused("JPEG")),
            [0x89, b'P', b'N', b'G', ..] => Err(refused("PNG")),
            [b'G', b'I', b'F', ..] => Err(refused("GIF")),
            [b'B', b'M', ..] => Err(refused("BMP")),
            [] => Err(Error::compute("the picture is empty")),
            _ => Err(Error::compute("the bytes are no JPEG, PNG, GIF, BMP or WebP picture")),
        }
    }
}

fn contents(t: &Tensor) -> Result<&[u8]> {
    match t.strings()? {
        [one] => Ok(one),
        _ => Err(Error::compute(format!("one picture is taken at a time, got shape {:?}", t.shape()))),
    }
}

/// Any of the ops that decode.
pub(super) fn decode(a: &NodeAttrs<'_>, op: Decoder) -> Result<Box<dyn Kernel>> {
    let wanted = Wanted::read(a, op)?;
    Ok(kernel(move |_, inputs| {
        let mut rest = inputs.into_vec();
        let [bytes] = take_first(&mut rest)?;
        let mut picture = wanted.decode(contents(bytes.tensor()?)?)?;
        if op == Decoder::Gif && picture.frames.is_none() {
            picture.frames = Some(1);
        }
        let image = picture.tensor(wanted.dtype)?;
        if op != Decoder::CropJpeg {
            return one(image);
        }
        let [window] = take_first(&mut rest)?;
        one(crop(&image, window.tensor()?)?)
    }))
}

/// The part of an image in a window of its first row and column, its height and its width.
fn crop(image: &Tensor, window: &Tensor) -> Result<Tensor> {
    let (&[y, x, height, width], &[rows, columns, channels]) =
        (&extents(window, "the crop window")?[..], image.shape())
    else {
        return Err(Error::compute("a crop window is four numbers: y, x, height and width"));
    };
    let inside = |from: usize, len: usize, all: usize| len > 0 && from.checked_add(len).is_some_and(|end| end <= all);
    if !inside(y, height, rows) || !inside(x, width, columns) {
        return Err(Error::compute(format!("the crop window leaves the picture of {rows} rows and {columns} columns")));
    }
    Ok(array::slice(image, &[y, x, 0], &[height, width, channels])?)
}

/// Height, width and channels, from the header alone.
pub(super) fn jpeg_shape(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("output_type")?;
    Ok(kernel(move |_, mut inputs| {
        let [bytes] = crate::ops::args::tensors(std::mem::take(&mut inputs))?;
        let header = jpeg::Header::read(contents(&bytes)?)?;
        one(crate::ops::args::ints([header.height, header.width, header.components], dtype)?)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_pictures_are_refused() {
        let wanted = Wanted { op: Decoder::Any, channels: 0, dtype: DType::U8, frames: true };
        let starts: [&[u8]; 5] =
            [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBPVP8 "];
        for start in starts {
            for n in [0, 1, 20, 60] {
                let bytes = [start, &vec![0x41; n][..]].concat();
                assert!(wanted.decode(&bytes).is_err(), "{start:?} and {n} bytes");
            }
        }
        assert!(wanted.decode(b"").is_err());
        assert!(wanted.decode(b"text").is_err());
    }
}
