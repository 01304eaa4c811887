//! The ops that decode: what each takes, and the formats by their first bytes.

use super::picture::Picture;
use super::{Decoder, bmp, gif, jpeg, png, webp};
use crate::engine::{Kernel, kernel};
use crate::ops::NodeAttrs;
use crate::ops::args::{extents, one, take_first};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// What an op asks of a picture.
#[derive(Clone)]
struct Wanted {
    op: Decoder,
    /// 0 for as many as the file has.
    channels: usize,
    dtype: DType,
    jpeg: jpeg::Options,
    /// Whether formats with frames give all of them.
    frames: bool,
}

impl Wanted {
    fn read(a: &NodeAttrs<'_>, op: Decoder) -> Result<Wanted> {
        let channels = a.get("channels").and_then(|c| c.as_int()).unwrap_or(0);
        if ![0, 1, 3, 4].contains(&channels) {
            return Err(Error::graph(format!("there are no pictures of {channels} channels")));
        }
        Ok(Wanted {
            op,
            channels: channels as usize,
            dtype: a.get("dtype").and_then(|d| d.as_type()).unwrap_or(DType::U8),
            jpeg: jpeg_options(a, channels as usize)?,
            frames: a.get("expand_animations").and_then(|e| e.as_bool()).unwrap_or(true),
        })
    }

    fn decode(&self, bytes: &[u8], window: Option<jpeg::Window>, check: jpeg::Check<'_>) -> Result<Picture> {
        let refused = |format: &str| Error::compute(format!("{:?} doesn't decode {format}", self.op));
        let only_jpeg = self.op == Decoder::CropJpeg;
        match bytes {
            [0xff, 0xd8, 0xff, ..] if self.op != Decoder::Bmp => {
                jpeg::decode(bytes, &self.jpeg, window, check)
            }
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
    Ok(kernel(move |context, inputs| {
        let mut rest = inputs.into_vec();
        let [bytes] = take_first(&mut rest)?;
        let window = if op == Decoder::CropJpeg {
            let [window] = take_first(&mut rest)?;
            let window: Result<jpeg::Window, _> = extents(window.tensor()?, "the crop window")?.try_into();
            Some(window.map_err(|_| Error::compute("a crop window is four numbers: y, x, height and width"))?)
        } else {
            None
        };
        let mut picture = wanted.decode(contents(bytes.tensor()?)?, window, &|| context.check())?;
        if op == Decoder::Gif && picture.frames.is_none() {
            picture.frames = Some(1);
        }
        one(picture.tensor(wanted.dtype)?)
    }))
}

/// How JPEGs are decoded: by the attributes of the ops that have them.
fn jpeg_options(a: &NodeAttrs<'_>, channels: usize) -> Result<jpeg::Options> {
    let mut how = jpeg::Options { channels, ..Default::default() };
    if let Some(ratio) = a.get("ratio").and_then(|r| r.as_int()) {
        how.ratio = match ratio {
            1 | 2 | 4 | 8 => ratio as usize,
            other => return Err(Error::graph(format!("ratio must be 1, 2, 4 or 8, got {other}"))),
        };
    }
    let flag = |name: &str, default: bool| a.get(name).and_then(|f| f.as_bool()).unwrap_or(default);
    how.fancy_upscaling = flag("fancy_upscaling", how.fancy_upscaling);
    how.try_recover_truncated = flag("try_recover_truncated", how.try_recover_truncated);
    how.acceptable_fraction = a.get("acceptable_fraction").and_then(|f| f.as_float()).unwrap_or(how.acceptable_fraction);
    how.fast = match a.get("dct_method").and_then(|m| m.as_str()).unwrap_or_default() {
        "" | "INTEGER_FAST" => true,
        "INTEGER_ACCURATE" => false,
        other => return Err(Error::graph(format!("there is no dct_method {other:?}"))),
    };
    Ok(how)
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
        let wanted = Wanted { op: Decoder::Any, channels: 0, dtype: DType::U8, frames: true, jpeg: jpeg::Options::default() };
        let decode = |bytes: &[u8]| wanted.decode(bytes, None, &|| Ok(()));
        let starts: [&[u8]; 5] =
            [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBPVP8 "];
        for start in starts {
            for n in [0, 1, 20, 60] {
                let bytes = [start, &vec![0x41; n][..]].concat();
                assert!(decode(&bytes).is_err(), "{start:?} and {n} bytes");
            }
        }
        assert!(decode(b"").is_err());
        assert!(decode(b"text").is_err());
    }
}
