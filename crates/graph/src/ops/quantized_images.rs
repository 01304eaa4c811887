//! Resizing of images of quantized integers.

use super::args::{many, tensors};
use super::images::{sampling, size};
use super::quantized::Quantized;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::DType;
use crate::tensor::kernels::image::{Sampling, resize_bilinear};
use crate::{Error, Result};

/// Between which two places each place of the result lies, and how far it is from the first.
fn places(from: usize, to: usize, sampling: Sampling) -> Vec<(usize, usize, f32)> {
    let scale = match sampling {
        Sampling::AlignCorners if to > 1 => (from - 1) as f32 / (to - 1) as f32,
        _ => from as f32 / to as f32,
    };
    let place = |i: usize| {
        let at = match sampling {
            Sampling::HalfPixel => (i as f32 + 0.5) * scale - 0.5,
            _ => i as f32 * scale,
        };
        let floor = at.floor();
        let low = floor.max(0.0) as usize;
        let high = ((floor + 1.0).max(0.0) as usize).min(from - 1);
        (low.min(from - 1), high, (at - floor).min(1.0))
    };
    (0..to).map(place).collect()
}

fn resize(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let sampling = sampling(a)?;
    Ok(kernel(move |context, inputs| {
        let [images, to, min, max] = tensors(inputs)?;
        let [height, width] = size(&to)?;
        if images.dtype() == DType::F32 {
            return many([resize_bilinear(&images, [height, width], sampling)?, min, max]);
        }
        let q = Quantized::new(&images, &min, &max)?;
        let &[batch, rows, columns, channels] = &q.shape[..] else {
            return Err(Error::compute(format!("images have rank 4, got shape {:?}", q.shape)));
        };
        if rows == 0 || columns == 0 || height == 0 || width == 0 {
            return Err(Error::compute(format!("images of {rows} x {columns} can't become {height} x {width}")));
        }
        let shape = vec![batch, height, width, channels];
        let mut values = Vec::with_capacity(crate::tensor::checked_elements(&shape)?);
        let (down, across) = (places(rows, height, sampling), places(columns, width, sampling));
        // Bytes are weighed in hundred-and-twenty-eighths, as TensorFlow does it; wider integers as finely as 64 bits hold.
        let one = if q.kind.dtype == DType::QU8 { 1i64 << 7 } else { 1 << 30 };
        let pixel = |b: usize, y: usize, x: usize, c: usize| q.values[((b * rows + y) * columns + x) * channels + c];
        for b in 0..batch {
            for &(top, bottom, y) in &down {
                context.check()?;
                let y = (y * one as f32) as i64;
                for &(left, right, x) in &across {
                    let x = (x * one as f32) as i64;
                    for c in 0..channels {
                        let between = |row: usize| {
                            let (first, second) = (pixel(b, row, left, c), pixel(b, row, right, c));
                            first * one + (second - first) * x
                        };
                        let (above, below) = (between(top), between(bottom));
                        let sum = above + (below - above) / one * y;
                        values.push((sum + one / 2) / one);
                    }
                }
            }
        }
        Quantized { values, shape, ..q }.outputs()
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("QuantizedResizeBilinear(images: T, size: int32, min: float32, max: float32) -> (resized_images: T, out_min: float32, out_max: float32); T: type; align_corners: bool = false; half_pixel_centers: bool = false", resize),
];
