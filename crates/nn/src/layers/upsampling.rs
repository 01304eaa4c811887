//! Larger sequences, images and volumes: each step repeated, or values between them found.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Error, Result};

use super::Entry;
use crate::config::{DataFormat, Fields};
use crate::image::Interpolation;
use crate::layer::inputs;
use crate::spatial::channels_last;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<UpSampling<1>>(&["UpSampling1D"]),
    Entry::of::<UpSampling<2>>(&["UpSampling2D"]),
    Entry::of::<UpSampling<3>>(&["UpSampling3D"]),
];

/// Makes each of `N` spatial dimensions larger by a whole factor (Keras: `UpSampling1D` to `3D`).
#[derive(Debug, Clone, PartialEq)]
pub struct UpSampling<const N: usize> {
    size: [usize; N],
    data_format: DataFormat,
    interpolation: Interpolation,
    /// Whether pixels are taken at their corners, not at their centers, as Keras had it before TensorFlow 2.
    at_corners: bool,
}

impl<const N: usize> Default for UpSampling<N> {
    fn default() -> Self {
        UpSampling::new([2; N])
    }
}

impl<const N: usize> UpSampling<N> {
    /// Repeats each step this often, for each dimension.
    pub fn new(size: [usize; N]) -> Self {
        UpSampling {
            size,
            data_format: DataFormat::ChannelsLast,
            interpolation: Interpolation::named("nearest"),
            at_corners: false,
        }
    }

    /// The same with values found another way; for images alone.
    pub fn interpolation(mut self, interpolation: Interpolation) -> Self {
        self.interpolation = interpolation;
        self
    }

    fn first(&self) -> usize {
        if self.data_format == DataFormat::ChannelsFirst { 2 } else { 1 }
    }
}

impl<const N: usize> Layer for UpSampling<N> {
    fn class_name(&self) -> &str {
        ["UpSampling1D", "UpSampling2D", "UpSampling3D"].get(N.wrapping_sub(1)).unwrap_or(&"")
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        if let ([one], false) = (&mut self.size[..], f.is_reading()) {
            f.field("size", one);
        } else {
            f.aliased("size", &["length"], &mut self.size);
        }
        if N > 1 {
            let mut format = Some(self.data_format);
            f.field("data_format", &mut format);
            self.data_format = format.unwrap_or_default();
        }
        if N == 2 {
            f.field("interpolation", &mut self.interpolation);
            let only_old = ["area", "gaussian", "mitchellcubic"].contains(&self.interpolation.name());
            self.at_corners |= f.is_former() && self.interpolation.name() == "bilinear";
            if self.at_corners {
                f.note("between pixels it finds other values than before Keras 2.4, which took pixels at their corners");
            }
            if f.dialect() == Dialect::Keras3 && only_old {
                f.note(format!("Keras 3 has no interpolation {:?}", self.interpolation.name()));
            }
        }
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let mut dims = input.dims()?.to_vec();
        if dims.len() != N + 2 {
            return Err(Error::mismatch(format!("it takes {} dimensions, but got {}", N + 2, input.shape)));
        }
        for (extent, size) in dims.iter_mut().skip(self.first()).zip(self.size) {
            if let Some(d) = extent {
                *d = d.checked_mul(size).ok_or_else(|| Error::limit(format!("{d} times {size}")))?;
            }
        }
        let dtype = if self.interpolation.name() == "nearest" { input.dtype } else { inputs.compute_dtype() };
        Ok(vec![Spec::new(dims, dtype)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        if self.interpolation.name() == "nearest" {
            let mut y = x;
            for (axis, count) in (self.first()..).zip(self.size) {
                y = repeat(call, y, axis, count, N + 2)?;
            }
            return Ok(vec![y]);
        }
        let dtype = call.inputs().compute_dtype();
        let y = channels_last(call, x, self.data_format, N, |call, x| {
            let shape = call.apply("Shape", &[x])?;
            let old = call.slice(shape, &[(Some(1), Some(3), 1)])?;
            let factors: Vec<i64> = self.size.iter().map(|&s| s as i64).collect();
            let factors = call.ints(&factors)?;
            let new = call.apply("Mul", &[old, factors])?;
            if self.at_corners {
                return call.apply("ResizeBilinear", &[x, new]);
            }
            self.interpolation.resize(call, x, new, false)
        })?;
        Ok(vec![call.cast(y, dtype)?])
    }
}

/// Each step along an axis as often as `count` says, for a tensor of `rank` dimensions (`tf.repeat`).
pub(crate) fn repeat(call: &mut Call<'_>, x: Sym, axis: usize, count: usize, rank: usize) -> Result<Sym> {
    if count == 1 {
        return Ok(x);
    }
    let after = call.int(axis as i64 + 1)?;
    let apart = call.apply("ExpandDims", &[x, after])?;
    let mut counts = vec![1; rank + 1];
    if let Some(c) = counts.get_mut(axis + 1) {
        *c = count as i64;
    }
    let counts = call.ints(&counts)?;
    let tiled = call.apply("Tile", &[apart, counts])?;
    let shape = call.apply("Shape", &[x])?;
    let mut factors = vec![1; rank];
    if let Some(f) = factors.get_mut(axis) {
        *f = count as i64;
    }
    let factors = call.ints(&factors)?;
    let shape = call.apply("Mul", &[shape, factors])?;
    call.apply("Reshape", &[tiled, shape])
}
