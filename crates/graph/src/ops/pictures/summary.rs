//! Summaries of images, as training graphs make them.

use super::png;
use crate::engine::{Kernel, kernel};
use crate::ops::NodeAttrs;
use crate::ops::args::{one, tensors};
use crate::ops::protos::{one_string, summary};
use crate::ops::wire::Message;
use crate::tensor::kernels::array;
use crate::tensor::{DType, Tensor};
use crate::{Attr, Error, Result};

/// The first images of a batch, as PNG files in a summary.
pub(super) fn image_summary(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let most = a.int("max_images")?;
    let most = usize::try_from(most).ok().filter(|n| *n > 0);
    let most = most.ok_or_else(|| Error::graph("max_images must be positive"))?;
    let bad = match a.get("bad_color").and_then(Attr::as_tensor) {
        Some(colour) => colour.elements::<u8>()?.into_owned(),
        None => vec![255, 0, 0, 255],
    };
    Ok(kernel(move |context, inputs| {
        let [tag, images] = tensors(inputs)?;
        let tag = one_string(&tag)?;
        let &[batch, height, width, channels @ (1 | 3 | 4)] = images.shape() else {
            return Err(Error::compute(format!(
                "images have a batch, rows, columns and 1, 3 or 4 channels, not the shape {:?}",
                images.shape()
            )));
        };
        if bad.len() < channels {
            return Err(Error::graph(format!("bad_color has {} numbers for {channels} channels", bad.len())));
        }
        let (len, mut all) = (height * width * channels, Vec::new());
        if len == 0 {
            return Err(Error::compute("there is nothing in the images"));
        }
        let whole = if images.dtype() == DType::U8 { None } else { Some(array::cast(&images, DType::F32)?) };
        for i in 0..batch.min(most) {
            context.check()?;
            let bytes = match &whole {
                None => images.elements::<u8>()?[i * len..][..len].to_vec(),
                Some(floats) => levels(&floats.elements::<f32>()?[i * len..][..len], channels, &bad),
            };
            let file = png::encode(&bytes, [height, width], channels, false, -1)?;
            let mut image = Message::default();
            image.varint(1, height as u64).varint(2, width as u64).varint(3, channels as u64).bytes(4, &file);
            let image = image.finish();
            let shown = String::from_utf8_lossy(&tag);
            let name = if most > 1 { format!("{shown}/image/{i}") } else { format!("{shown}/image") };
            all.extend(summary(name.as_bytes(), |m| {
                m.bytes(4, &image);
            }));
        }
        one(Tensor::scalar_string(all))
    }))
}

/// Floats as bytes: the greatest magnitude is full, and zero in the middle where some are negative. A pixel with what isn't
/// finite gets the colour for such.
fn levels(image: &[f32], channels: usize, bad: &[u8]) -> Vec<u8> {
    /// What is smaller than this is nothing.
    const NOTHING: f32 = 1e-6;
    let finite = || image.chunks(channels).filter(|p| p.iter().all(|v| v.is_finite())).flatten().copied();
    let (least, most) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
    let (full, offset, top) =
        if least < 0.0 { (127.0, 128.0, least.abs().max(most.abs())) } else { (255.0, 0.0, most) };
    let scale = if top < NOTHING { 0.0 } else { full / top };
    let pixel = |p: &[f32]| -> Vec<u8> {
        if p.iter().all(|v| v.is_finite()) {
            p.iter().map(|v| (v * scale + offset) as u8).collect()
        } else {
            bad[..channels].to_vec()
        }
    };
    image.chunks(channels).flat_map(pixel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_become_bytes() {
        assert_eq!(levels(&[0.0, 1.0, 2.0], 1, &[9]), [0, 127, 255]);
        assert_eq!(levels(&[-1.0, 0.0, 0.5], 1, &[9]), [1, 128, 191]);
        assert_eq!(levels(&[f32::NAN, 1.0, 1.0, 1.0], 2, &[7, 9]), [7, 9, 255, 255]);
        assert_eq!(levels(&[0.0, 1e-9], 1, &[9]), [0, 0]);
    }
}
