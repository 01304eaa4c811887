//! A decoded picture, of whatever format.

use crate::tensor::kernels::array::cast;
use crate::tensor::kernels::elementwise as e;
use crate::tensor::{DType, Shape, Tensor, checked_elements};
use crate::{Error, Result};

/// The most bytes that a decoded picture may take: files can be thousands of times smaller.
const LARGEST: usize = 1 << 29;

/// The samples of a picture, row by row.
pub(super) enum Samples {
    /// Of 8 bits.
    Bytes(Vec<u8>),
    /// Of 16 bits.
    Words(Vec<u16>),
}

/// What a decoder gives.
pub(super) struct Picture {
    /// How many pictures lie one after another, if the format has frames.
    pub frames: Option<usize>,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub samples: Samples,
}

/// The bytes that pictures of these extents take, when they may be so large.
pub(super) fn room(frames: usize, height: usize, width: usize, bytes: usize) -> Result<usize> {
    let n = checked_elements(&[frames, height, width, bytes])?;
    if n == 0 || n > LARGEST {
        return Err(Error::compute(format!(
            "a picture of {frames} frames, {height} rows and {width} columns is empty or over {LARGEST} bytes"
        )));
    }
    Ok(n)
}

impl Picture {
    /// As a tensor `[frames.., height, width, channels]` of `uint8`, `uint16`, or `float32` between 0 and 1.
    pub(super) fn tensor(self, dtype: DType) -> Result<Tensor> {
        let mut shape: Shape = self.frames.into_iter().collect();
        shape.extend([self.height, self.width, self.channels]);
        let (t, factor, scale) = match self.samples {
            Samples::Bytes(bytes) => (Tensor::from_vec(bytes, shape)?, 256u16, 1.0 / 255.0f32),
            Samples::Words(words) => (Tensor::from_vec(words, shape)?, 1, 1.0 / 65535.0f32),
        };
        Ok(match dtype {
            DType::U8 | DType::U16 if t.dtype() == dtype => t,
            DType::U16 => e::mul(cast(&t, DType::U16)?, Tensor::scalar(factor))?,
            DType::F32 => e::mul(cast(&t, DType::F32)?, Tensor::scalar(scale))?,
            other => return Err(Error::unsupported(format!("pictures of {other}"))),
        })
    }
}
