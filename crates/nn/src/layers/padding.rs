//! Borders of sequences, images and volumes: zeros around them, and what is cut off.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, Result};

use super::Entry;
use crate::config::{DataFormat, Fields};
use crate::layer::inputs;
use crate::{Call, Inputs, Layer, Slice, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<ZeroPadding<1>>(&["ZeroPadding1D"]),
    Entry::of::<ZeroPadding<2>>(&["ZeroPadding2D"]),
    Entry::of::<ZeroPadding<3>>(&["ZeroPadding3D"]),
    Entry::of::<Cropping<1>>(&["Cropping1D"]),
    Entry::of::<Cropping<2>>(&["Cropping2D"]),
    Entry::of::<Cropping<3>>(&["Cropping3D"]),
];

/// How much lies before and after each of `N` spatial dimensions.
#[derive(Debug, Clone, PartialEq)]
struct Borders<const N: usize> {
    sides: [(usize, usize); N],
    data_format: DataFormat,
}

impl<const N: usize> Borders<N> {
    fn new(sides: [(usize, usize); N]) -> Self {
        Borders { sides, data_format: DataFormat::ChannelsLast }
    }

    fn visit(&mut self, key: &str, f: &mut Fields<'_>) {
        f.field(key, &mut self.sides);
        // Keras 2 has none for sequences, and Keras 3 only lately.
        if N > 1 || (f.is_reading() && f.has("data_format")) {
            let mut format = Some(self.data_format);
            f.field("data_format", &mut format);
            self.data_format = format.unwrap_or_default();
        } else if self.data_format != DataFormat::default() {
            f.keras3("data_format", &mut self.data_format);
        }
    }

    /// Those of each axis, batch and channels included.
    fn all(&self) -> Vec<(usize, usize)> {
        let mut all = vec![(0, 0)];
        all.extend((self.data_format == DataFormat::ChannelsFirst).then_some((0, 0)));
        all.extend(self.sides);
        all.extend((self.data_format == DataFormat::ChannelsLast).then_some((0, 0)));
        all
    }

    /// The shape of the output, by what `change` does with an extent and its borders.
    fn output(
        &self,
        input: &Spec,
        change: impl Fn(usize, usize, usize) -> Option<usize>,
    ) -> Result<Vec<Spec>> {
        let dims = input.dims()?;
        if dims.len() != N + 2 {
            return Err(Error::mismatch(format!("it takes {} dimensions, but got {}", N + 2, input.shape)));
        }
        let changed = dims.iter().zip(self.all()).map(|(d, (before, after))| match d {
            Some(d) => change(*d, before, after).map(Some).ok_or_else(|| {
                Error::mismatch(format!("borders of {before} and {after} don't go with an extent of {d}"))
            }),
            None => Ok(None),
        });
        Ok(vec![input.with_shape(changed.collect::<Result<Vec<_>>>()?)])
    }
}

/// Zeros before and after each of `N` spatial dimensions (Keras: `ZeroPadding1D` to `3D`).
#[derive(Debug, Clone, PartialEq)]
pub struct ZeroPadding<const N: usize> {
    padding: Borders<N>,
}

impl<const N: usize> Default for ZeroPadding<N> {
    fn default() -> Self {
        ZeroPadding::new([(1, 1); N])
    }
}

impl<const N: usize> ZeroPadding<N> {
    /// This many zeros before and after, for each dimension.
    pub fn new(padding: [(usize, usize); N]) -> Self {
        ZeroPadding { padding: Borders::new(padding) }
    }
}

impl<const N: usize> Layer for ZeroPadding<N> {
    fn class_name(&self) -> &str {
        ["ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"].get(N.wrapping_sub(1)).unwrap_or(&"")
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        self.padding.visit("padding", f);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        self.padding.output(inputs.first()?, |d, a, b| d.checked_add(a)?.checked_add(b))
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let flat: Vec<i64> = self.padding.all().into_iter().flat_map(|(a, b)| [a as i64, b as i64]).collect();
        let paddings = call.ints(&flat)?;
        let paddings = call.reshape(paddings, &[N as i64 + 2, 2])?;
        Ok(vec![call.apply("Pad", &[x, paddings])?])
    }
}

/// Cuts off the borders of each of `N` spatial dimensions (Keras: `Cropping1D` to `3D`).
#[derive(Debug, Clone, PartialEq)]
pub struct Cropping<const N: usize> {
    cropping: Borders<N>,
}

impl<const N: usize> Default for Cropping<N> {
    fn default() -> Self {
        Cropping::new(if N == 2 { [(0, 0); N] } else { [(1, 1); N] })
    }
}

impl<const N: usize> Cropping<N> {
    /// Cuts off this much before and after, for each dimension.
    pub fn new(cropping: [(usize, usize); N]) -> Self {
        Cropping { cropping: Borders::new(cropping) }
    }
}

impl<const N: usize> Layer for Cropping<N> {
    fn class_name(&self) -> &str {
        ["Cropping1D", "Cropping2D", "Cropping3D"].get(N.wrapping_sub(1)).unwrap_or(&"")
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        self.cropping.visit("cropping", f);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        self.cropping.output(inputs.first()?, |d, a, b| d.checked_sub(a)?.checked_sub(b))
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let side = |(before, after): (usize, usize)| -> Slice {
            (Some(before as i64), (after > 0).then_some(-(after as i64)), 1)
        };
        let slices: Vec<Slice> = self.cropping.all().into_iter().map(side).collect();
        Ok(vec![call.slice(x, &slices)?])
    }
}
