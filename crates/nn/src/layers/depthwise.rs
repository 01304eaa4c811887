//! Convolutions of each channel by itself: DepthwiseConv1D and 2D, SeparableConv1D and 2D.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Result};
use serde_json::json;

use super::Entry;
use super::convolution::{FORMER_1D, FORMER_2D};
use super::cell::times;
use super::sliding::{Sliding, depthwise, dilation_method, lift, pad_before, sliding_methods};
use crate::config::{Fields, Initializer, Padding};
use crate::former::{self, FormerWeights, Origin};
use crate::layer::{WeightOptions, WeightSpec, inputs};
use crate::spatial::{channels_last, extents, squeeze};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<DepthwiseConvolution<1>>(&["DepthwiseConv1D"]),
    Entry::of::<DepthwiseConvolution<2>>(&["DepthwiseConv2D"]),
    Entry::of::<SeparableConvolution<1>>(&["SeparableConv1D", "SeparableConvolution1D"]).formerly(FORMER_1D),
    Entry::of::<SeparableConvolution<2>>(&["SeparableConv2D", "SeparableConvolution2D"]).formerly(FORMER_2D),
];

/// Slides kernels of its own over each channel of a sequence (Keras: `DepthwiseConv1D`).
pub type DepthwiseConv1D = DepthwiseConvolution<1>;

/// Slides kernels of its own over each channel of an image (Keras: `DepthwiseConv2D`).
pub type DepthwiseConv2D = DepthwiseConvolution<2>;

/// A depthwise convolution of a sequence, then a mix of the channels (Keras: `SeparableConv1D`).
pub type SeparableConv1D = SeparableConvolution<1>;

/// A depthwise convolution of an image, then a mix of the channels (Keras: `SeparableConv2D`).
pub type SeparableConv2D = SeparableConvolution<2>;

/// Kernels for each channel by itself.
#[derive(Debug, Clone, PartialEq)]
struct Depthwise {
    depth_multiplier: usize,
    kernel: WeightOptions,
}

impl Default for Depthwise {
    fn default() -> Self {
        Depthwise { depth_multiplier: 1, kernel: WeightOptions::new(Initializer::glorot_uniform()) }
    }
}

impl Depthwise {
    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("depth_multiplier", &mut self.depth_multiplier);
        self.kernel.visit("depthwise", f);
        f.constant("groups", &[Dialect::Keras2], json!(1));
    }

    fn weight<const N: usize>(&self, sliding: &Sliding<N>, channels: usize) -> WeightSpec {
        self.kernel.weight("depthwise_kernel", sliding.kernel_shape([channels, self.depth_multiplier]))
    }
}

/// Kernels for each channel by itself, over `N` spatial dimensions (Keras: `DepthwiseConv1D`, `DepthwiseConv2D`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DepthwiseConvolution<const N: usize> {
    depthwise: Depthwise,
    sliding: Sliding<N>,
}

sliding_methods!(DepthwiseConvolution);
dilation_method!(DepthwiseConvolution);

impl<const N: usize> DepthwiseConvolution<N> {
    /// A kernel of this size for each channel.
    pub fn new(kernel_size: [usize; N]) -> Self {
        DepthwiseConvolution { sliding: Sliding::of(kernel_size), ..DepthwiseConvolution::default() }
    }

    /// The same with so many kernels for each channel.
    pub fn depth_multiplier(mut self, depth_multiplier: usize) -> Self {
        self.depthwise.depth_multiplier = depth_multiplier;
        self
    }

    /// The same with these options of the kernels.
    pub fn kernel(mut self, options: WeightOptions) -> Self {
        self.depthwise.kernel = options;
        self
    }

    fn channels(&self, inputs: &Inputs) -> Result<[usize; 2]> {
        let channels = inputs.first()?.known(self.sliding.channel_axis())?;
        Ok([channels, times(channels, self.depthwise.depth_multiplier)?])
    }
}

impl<const N: usize> Layer for DepthwiseConvolution<N> {
    fn class_name(&self) -> &str {
        if N == 1 { "DepthwiseConv1D" } else { "DepthwiseConv2D" }
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        self.depthwise.visit(f);
        self.sliding.visit(f);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let [channels, made] = self.channels(inputs)?;
        Ok(self.sliding.with_bias(vec![self.depthwise.weight(&self.sliding, channels)], vec![made]))
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let [_, made] = self.channels(inputs)?;
        self.sliding.window().output(inputs.first()?, Some(made)).map(|s| vec![s])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let (output, window) = (self.output(call.inputs())?, self.sliding.window());
        let (kernel, bias) = (call.weight("depthwise_kernel")?, self.sliding.bias(call)?);
        let y = channels_last(call, x, self.sliding.data_format, N, |call, x| {
            let x = pad_before(call, x, &window)?;
            let x = extents(call, x, N)?;
            let mut y = depthwise(call, x, kernel, &window)?;
            if let Some(bias) = bias {
                y = call.apply("BiasAdd", &[y, bias])?;
            }
            squeeze(call, y, N)
        })?;
        self.sliding.activate(call, y, output)
    }
}

/// A depthwise convolution over `N` spatial dimensions, then a mix of the channels (Keras: `SeparableConv1D`,
/// `SeparableConv2D`).
#[derive(Debug, Clone, PartialEq)]
pub struct SeparableConvolution<const N: usize> {
    filters: usize,
    depthwise: Depthwise,
    pointwise: WeightOptions,
    /// Options of a kernel that Keras 2 writes though there is none.
    kernel: WeightOptions,
    sliding: Sliding<N>,
}

impl<const N: usize> Default for SeparableConvolution<N> {
    fn default() -> Self {
        SeparableConvolution {
            filters: 1,
            depthwise: Depthwise::default(),
            pointwise: WeightOptions::new(Initializer::glorot_uniform()),
            kernel: WeightOptions::new(Initializer::glorot_uniform()),
            sliding: Sliding::default(),
        }
    }
}

sliding_methods!(SeparableConvolution);
dilation_method!(SeparableConvolution);

impl<const N: usize> SeparableConvolution<N> {
    /// This many filters over what a kernel of this size makes of each channel.
    pub fn new(filters: usize, kernel_size: [usize; N]) -> Self {
        SeparableConvolution { filters, sliding: Sliding::of(kernel_size), ..SeparableConvolution::default() }
    }

    /// The same with so many kernels for each channel.
    pub fn depth_multiplier(mut self, depth_multiplier: usize) -> Self {
        self.depthwise.depth_multiplier = depth_multiplier;
        self
    }

    /// The same with these options of the kernels for each channel, and of the mix.
    pub fn kernels(mut self, depthwise: WeightOptions, pointwise: WeightOptions) -> Self {
        (self.depthwise.kernel, self.pointwise) = (depthwise, pointwise);
        self
    }
}

impl<const N: usize> Layer for SeparableConvolution<N> {
    fn class_name(&self) -> &str {
        if N == 1 { "SeparableConv1D" } else { "SeparableConv2D" }
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("filters", &mut self.filters);
        self.depthwise.visit(f);
        self.pointwise.visit("pointwise", f);
        if f.dialect() != Dialect::Keras3 {
            self.kernel.visit("kernel", f);
        } else if self.sliding.padding == Padding::Causal {
            f.note("Keras 3 takes no \"causal\" padding here");
        }
        self.sliding.visit(f);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let channels = inputs.first()?.known(self.sliding.channel_axis())?;
        let between = times(channels, self.depthwise.depth_multiplier)?;
        let shape: Vec<usize> = [1; N].into_iter().chain([between, self.filters]).collect();
        let kernels =
            vec![self.depthwise.weight(&self.sliding, channels), self.pointwise.weight("pointwise_kernel", shape)];
        Ok(self.sliding.with_bias(kernels, vec![self.filters]))
    }

    fn former_weights(&self, inputs: &Inputs, origin: &Origin) -> Result<Option<FormerWeights>> {
        // Keras 1 had it for images alone.
        let weights = if N == 2 { self.weights(inputs)? } else { return Ok(None) };
        Ok(former::convolutions(weights, 2, origin, self.sliding.data_format, false))
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        self.sliding.window().output(inputs.first()?, Some(self.filters)).map(|s| vec![s])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let (output, window) = (self.output(call.inputs())?, self.sliding.window());
        let (kernel, mix) = (call.weight("depthwise_kernel")?, call.weight("pointwise_kernel")?);
        let bias = self.sliding.bias(call)?;
        let y = channels_last(call, x, self.sliding.data_format, N, |call, x| {
            let x = pad_before(call, x, &window)?;
            let x = extents(call, x, N)?;
            let y = depthwise(call, x, kernel, &window)?;
            let mix = lift(call, mix, N)?;
            let conv = call.op("Conv2D").inputs(&[y, mix]).attr("padding", "VALID");
            let mut y = conv.attr("strides", vec![1i64; 4]).one()?;
            if let Some(bias) = bias {
                y = call.apply("BiasAdd", &[y, bias])?;
            }
            squeeze(call, y, N)
        })?;
        self.sliding.activate(call, y, output)
    }
}
