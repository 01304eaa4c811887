//! Transposed convolutions: Conv1DTranspose, Conv2DTranspose, Conv3DTranspose.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Error, Result};
use serde_json::json;

use super::Entry;
use super::convolution::FORMER_2D;
use crate::former::{self, FormerWeights, Origin};
use super::sliding::{Sliding, dilation_method, lift, sliding_methods, spread};
use crate::config::{DataFormat, Fields, Initializer, Padding};
use crate::layer::{WeightOptions, WeightSpec, inputs};
use crate::spatial::{channels_last, extents, sizes, squeeze};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<ConvolutionTranspose<1>>(&["Conv1DTranspose", "Convolution1DTranspose"]),
    Entry::of::<ConvolutionTranspose<2>>(&["Conv2DTranspose", "Convolution2DTranspose", "Deconvolution2D"]).formerly(FORMER_2D),
    Entry::of::<ConvolutionTranspose<3>>(&["Conv3DTranspose", "Convolution3DTranspose", "Deconvolution3D"]),
];

/// Spreads a sequence with a kernel (Keras: `Conv1DTranspose`).
pub type Conv1DTranspose = ConvolutionTranspose<1>;

/// Spreads an image with a kernel (Keras: `Conv2DTranspose`).
pub type Conv2DTranspose = ConvolutionTranspose<2>;

/// Spreads a volume with a kernel (Keras: `Conv3DTranspose`).
pub type Conv3DTranspose = ConvolutionTranspose<3>;

/// The transpose of a convolution over `N` spatial dimensions (Keras: `Conv2DTranspose` and its relations).
#[derive(Debug, Clone, PartialEq)]
pub struct ConvolutionTranspose<const N: usize> {
    filters: usize,
    output_padding: Option<[usize; N]>,
    kernel: WeightOptions,
    sliding: Sliding<N>,
}

impl<const N: usize> Default for ConvolutionTranspose<N> {
    fn default() -> Self {
        ConvolutionTranspose {
            filters: 1,
            output_padding: None,
            kernel: WeightOptions::new(Initializer::glorot_uniform()),
            sliding: Sliding::default(),
        }
    }
}

sliding_methods!(ConvolutionTranspose);
dilation_method!(ConvolutionTranspose);

impl<const N: usize> ConvolutionTranspose<N> {
    /// This many filters with a kernel of this size.
    pub fn new(filters: usize, kernel_size: [usize; N]) -> Self {
        ConvolutionTranspose { filters, sliding: Sliding::of(kernel_size), ..ConvolutionTranspose::default() }
    }

    /// The same with an output that is so much larger; less than the strides.
    pub fn output_padding(mut self, output_padding: [usize; N]) -> Self {
        self.output_padding = Some(output_padding);
        self
    }

    /// The same with these options of the kernel.
    pub fn kernel(mut self, options: WeightOptions) -> Self {
        self.kernel = options;
        self
    }

    /// An extent of the output is the input's times the stride, plus this.
    fn excess(&self, axis: usize) -> Result<(i64, i64)> {
        let number = |n: usize| i64::try_from(n).map_err(|_| Error::limit(format!("an extent of {n}")));
        let s = &self.sliding;
        let (size, stride) = (number(s.kernel_size[axis])?, number(s.strides[axis])?);
        let padding = self.output_padding.map(|p| number(p[axis])).transpose()?;
        let extra = excess(size, stride, number(s.dilation_rate[axis])?, padding, s.padding == Padding::Same);
        Ok((stride, extra))
    }

    /// Pads the output so that it has this shape, which Keras 1 asked for: several are possible for one input.
    fn give(&mut self, shape: &[Option<usize>]) {
        let Sliding { kernel_size, strides, padding, .. } = self.sliding;
        let mut paddings = [0; N];
        let mut follows = true;
        for axis in 0..N {
            let (size, stride) = (kernel_size[axis], strides[axis].max(1));
            let Some(extent) = shape.get(self.first_axis() + axis).copied().flatten() else { return };
            let (input, before) = match padding {
                Padding::Same => (extent.div_ceil(stride), size % 2),
                _ => (extent.saturating_sub(size) / stride + 1, size),
            };
            paddings[axis] =
                extent.saturating_sub(before).saturating_sub(input.saturating_sub(1).saturating_mul(stride));
            let extra = if padding == Padding::Same { 0 } else { size.saturating_sub(stride) };
            follows &= input.saturating_mul(stride).saturating_add(extra) == extent;
        }
        self.output_padding = (!follows).then_some(paddings);
    }

    fn first_axis(&self) -> usize {
        if self.sliding.data_format == DataFormat::ChannelsFirst { 2 } else { 1 }
    }
}

/// By how much an extent of the output is more than the input's times the stride (Keras:
/// `compute_conv_transpose_output_shape`).
pub(super) fn excess(size: i64, stride: i64, dilation: i64, output_padding: Option<i64>, same: bool) -> i64 {
    let size = (size - 1).saturating_mul(dilation).saturating_add(1);
    match output_padding {
        None if same => 0,
        None => (size - stride).max(0),
        Some(padding) if same => (size % 2).saturating_add(padding) - stride,
        Some(padding) => size.saturating_add(padding) - stride,
    }
}

impl<const N: usize> Layer for ConvolutionTranspose<N> {
    fn class_name(&self) -> &str {
        match N {
            1 => "Conv1DTranspose",
            2 => "Conv2DTranspose",
            _ => "Conv3DTranspose",
        }
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("filters", &mut self.filters);
        f.field("output_padding", &mut self.output_padding);
        self.kernel.visit("kernel", f);
        // Keras 2 has no dilation of three dimensions.
        if N == 3 && !f.is_reading() && f.dialect() != Dialect::Keras3 {
            self.sliding.visit_undilated(f);
            if self.sliding.dilation_rate != [1; N] {
                f.note("Keras 2 has no \"dilation_rate\" here, which isn't one");
            }
        } else {
            self.sliding.visit(f);
        }
        f.constant("groups", &[Dialect::Keras2], json!(1));
        let mut shape: Option<Vec<Option<usize>>> = None;
        f.read_only("output_shape", &mut shape);
        if let Some(shape) = shape.filter(|_| f.dialect() == Dialect::Keras1) {
            self.give(&shape);
        }
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let channels = inputs.first()?.known(self.sliding.channel_axis())?;
        let shape = self.sliding.kernel_shape([self.filters, channels]);
        Ok(self.sliding.with_bias(vec![self.kernel.weight("kernel", shape)], vec![self.filters]))
    }

    fn former_weights(&self, inputs: &Inputs, origin: &Origin) -> Result<Option<FormerWeights>> {
        Ok(former::convolution(self.weights(inputs)?, origin, self.sliding.data_format, true))
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let mut dims = input.dims()?.to_vec();
        if dims.len() != N + 2 {
            return Err(Error::mismatch(format!("it takes {} dimensions, but got {}", N + 2, input.shape)));
        }
        for axis in 0..N {
            let (stride, extra) = self.excess(axis)?;
            if let Some(extent) = dims.get_mut(self.first_axis() + axis) {
                let larger = |d: usize| {
                    let d = i64::try_from(d).ok()?.checked_mul(stride)?.checked_add(extra)?;
                    usize::try_from(d).ok()
                };
                *extent = extent.map(|d| larger(d).ok_or_else(|| Error::limit(format!("{d} times {stride}")))).transpose()?;
            }
        }
        let channels = if self.sliding.data_format == DataFormat::ChannelsFirst { 1 } else { N + 1 };
        if let Some(extent) = dims.get_mut(channels) {
            *extent = Some(self.filters);
        }
        Ok(vec![input.with_shape(dims)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let output = self.output(call.inputs())?;
        let mut shape = vec![call.extent(x, 0)?];
        if N == 1 {
            shape.push(call.int(1)?);
        }
        for axis in 0..N {
            let at = self.first_axis() + axis;
            let known = output.first().and_then(|o| o.dims().ok()?.get(at).copied().flatten());
            shape.push(match known {
                Some(extent) => call.int(extent as i64)?,
                None => {
                    let (stride, extra) = self.excess(axis)?;
                    let (extent, stride, extra) = (call.extent(x, at)?, call.int(stride)?, call.int(extra)?);
                    let extent = call.apply("Mul", &[extent, stride])?;
                    call.apply("AddV2", &[extent, extra])?
                }
            });
        }
        shape.push(call.int(self.filters as i64)?);
        let window = self.sliding.window();
        let (kernel, bias) = (call.weight("kernel")?, self.sliding.bias(call)?);
        let y = channels_last(call, x, self.sliding.data_format, N, |call, x| {
            let shape = call.shape(&shape)?;
            // TensorFlow on a CPU has no dilations here.
            let kernel = spread(call, kernel, &window)?;
            let (kernel, x) = (lift(call, kernel, N)?, extents(call, x, N)?);
            let op = if N == 3 { "Conv3DBackpropInputV2" } else { "Conv2DBackpropInput" };
            let conv = call.op(op).inputs(&[shape, kernel, x]).attr("padding", window.padding.op());
            let mut y = conv.attr("strides", sizes(&window.strides)).attr("dilations", sizes(&[1; N])).one()?;
            if let Some(bias) = bias {
                y = call.apply("BiasAdd", &[y, bias])?;
            }
            squeeze(call, y, N)
        })?;
        self.sliding.activate(call, y, output)
    }
}
