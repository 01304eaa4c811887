//! Zeros around sequences and images.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, Result};

use super::Entry;
use crate::config::{DataFormat, Fields};
use crate::layer::inputs;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<ZeroPadding<1>>(&["ZeroPadding1D"]),
    Entry::of::<ZeroPadding<2>>(&["ZeroPadding2D"]),
    Entry::of::<ZeroPadding<3>>(&["ZeroPadding3D"]),
];

/// Zeros before and after each of `N` spatial dimensions (Keras: `ZeroPadding1D` to `3D`).
#[derive(Debug, Clone, PartialEq)]
pub struct ZeroPadding<const N: usize> {
    padding: [(usize, usize); N],
    data_format: DataFormat,
}

impl<const N: usize> Default for ZeroPadding<N> {
    fn default() -> Self {
        ZeroPadding { padding: [(1, 1); N], data_format: DataFormat::ChannelsLast }
    }
}

impl<const N: usize> ZeroPadding<N> {
    /// This many zeros before and after, for each dimension.
    pub fn new(padding: [(usize, usize); N]) -> Self {
        ZeroPadding { padding, ..ZeroPadding::default() }
    }

    /// The padding of each axis, batch and channels included.
    fn all(&self) -> Vec<(usize, usize)> {
        let mut all = vec![(0, 0)];
        all.extend((self.data_format == DataFormat::ChannelsFirst).then_some((0, 0)));
        all.extend(self.padding);
        all.extend((self.data_format == DataFormat::ChannelsLast).then_some((0, 0)));
        all
    }
}

impl<const N: usize> Layer for ZeroPadding<N> {
    fn class_name(&self) -> &str {
        ["ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"].get(N.wrapping_sub(1)).unwrap_or(&"")
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("padding", &mut self.padding);
        // Keras 2 has none for sequences, and Keras 3 didn't at first.
        if N > 1 || (f.is_reading() && f.has("data_format")) {
            let mut format = Some(self.data_format);
            f.field("data_format", &mut format);
            self.data_format = format.unwrap_or_default();
        }
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let dims = input.dims()?;
        if dims.len() != N + 2 {
            return Err(Error::mismatch(format!("it takes {} dimensions, but got {}", N + 2, input.shape)));
        }
        let padded = dims.iter().zip(self.all()).map(|(d, (a, b))| d.and_then(|d| d.checked_add(a)?.checked_add(b)));
        Ok(vec![input.with_shape(padded.collect::<Vec<_>>())])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let flat: Vec<i64> = self.all().into_iter().flat_map(|(a, b)| [a as i64, b as i64]).collect();
        let paddings = call.ints(&flat)?;
        let paddings = call.reshape(paddings, &[N as i64 + 2, 2])?;
        Ok(vec![call.apply("Pad", &[x, paddings])?])
    }
}
