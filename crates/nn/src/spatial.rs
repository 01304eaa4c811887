//! What layers over spatial dimensions share: windows, channels, and 1-D by way of 2-D.

use modelark_artifact::graph::{Attr, Sym};
use modelark_artifact::{Error, Result};

use crate::config::{DataFormat, Padding};
use crate::{Call, Spec};

/// A window that slides over `N` spatial dimensions.
pub(crate) struct Window<const N: usize> {
    pub size: [usize; N],
    pub strides: [usize; N],
    pub dilation: [usize; N],
    pub padding: Padding,
    pub data_format: DataFormat,
}

impl<const N: usize> Window<N> {
    /// The shape of what the windows give, with `channels` of it, or as many as there were.
    pub fn output(&self, input: &Spec, channels: Option<usize>) -> Result<Spec> {
        let dims = input.dims()?;
        if dims.len() != N + 2 {
            return Err(Error::mismatch(format!(
                "it takes {} dimensions (batch, {N} spatial, channels), but got {}",
                N + 2,
                input.shape
            )));
        }
        let first = if self.data_format == DataFormat::ChannelsFirst { 2 } else { 1 };
        let mut out = dims.to_vec();
        for i in 0..N {
            let (stride, dilation) = (self.strides[i], self.dilation[i]);
            if stride == 0 || dilation == 0 || self.size[i] == 0 {
                return Err(Error::corrupt("a window's size, stride and dilation must be positive"));
            }
            let size = self.size[i].saturating_sub(1).saturating_mul(dilation).saturating_add(1);
            if let Some(extent) = out.get_mut(first + i) {
                *extent = match (*extent, self.padding) {
                    (None, _) => None,
                    (Some(d), Padding::Valid) if d < size => {
                        return Err(Error::mismatch(format!("a window of {size} doesn't fit into {d}")));
                    }
                    (Some(d), Padding::Valid) => Some((d - size) / stride + 1),
                    (Some(d), Padding::Same | Padding::Causal) => Some(d.div_ceil(stride)),
                };
            }
        }
        let at = if self.data_format == DataFormat::ChannelsFirst { 1 } else { N + 1 };
        if let (Some(channels), Some(extent)) = (channels, out.get_mut(at)) {
            *extent = Some(channels);
        }
        Ok(input.with_shape(out))
    }
}

/// An attribute of four integers for sizes over the spatial dimensions; 1-D goes by way of 2-D.
pub(crate) fn sizes<const N: usize>(sizes: &[usize; N]) -> Attr {
    let mut all = vec![1i64];
    all.extend((N..2).map(|_| 1));
    all.extend(sizes.iter().map(|&s| s as i64));
    all.push(1);
    Attr::from(all)
}

/// A sequence as an image of one row; an image as it is.
pub(crate) fn extents(call: &mut Call<'_>, x: Sym, spatial: usize) -> Result<Sym> {
    if spatial != 1 {
        return Ok(x);
    }
    let axis = call.int(1)?;
    call.apply("ExpandDims", &[x, axis])
}

/// The sequence that an image of one row is.
pub(crate) fn squeeze(call: &mut Call<'_>, x: Sym, spatial: usize) -> Result<Sym> {
    if spatial != 1 {
        return Ok(x);
    }
    Ok(call.op("Squeeze").input(x).attr("squeeze_dims", vec![1i64]).one()?)
}

/// Computes with the channels in the last axis, as TensorFlow's kernels on the CPU take them, wherever they are.
pub(crate) fn channels_last(
    call: &mut Call<'_>,
    x: Sym,
    data_format: DataFormat,
    spatial: usize,
    body: impl FnOnce(&mut Call<'_>, Sym) -> Result<Sym>,
) -> Result<Sym> {
    if data_format == DataFormat::ChannelsLast {
        return body(call, x);
    }
    let last: Vec<usize> = std::iter::once(0).chain(2..spatial + 2).chain([1]).collect();
    let x = call.transpose(x, &last)?;
    let y = body(call, x)?;
    let first: Vec<usize> = [0, spatial + 1].into_iter().chain(1..=spatial).collect();
    call.transpose(y, &first)
}

#[cfg(test)]
mod tests {
    use modelark_artifact::tensor::DType;

    use super::*;

    #[test]
    fn windows_give_keras_shapes() {
        let window = |padding, strides, dilation| Window::<2> {
            size: [3, 2],
            strides,
            dilation,
            padding,
            data_format: DataFormat::ChannelsLast,
        };
        let input = Spec::new([None, Some(8), None, Some(3)], DType::F32);
        let shown = |w: Window<2>| w.output(&input, Some(5)).unwrap().shape.to_string();
        assert_eq!(shown(window(Padding::Valid, [1, 1], [1, 1])), "(None, 6, None, 5)");
        assert_eq!(shown(window(Padding::Valid, [1, 1], [2, 1])), "(None, 4, None, 5)");
        assert_eq!(shown(window(Padding::Same, [3, 1], [1, 1])), "(None, 3, None, 5)");
        assert!(window(Padding::Valid, [0, 1], [1, 1]).output(&input, None).is_err());
        assert!(window(Padding::Valid, [1, 1], [9, 1]).output(&input, None).is_err());
    }
}
