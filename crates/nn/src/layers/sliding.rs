//! What all layers that slide a kernel over space share: their options, and the trace of a convolution.

use modelark_artifact::Result;
use modelark_artifact::graph::Sym;

use crate::config::{Activation, DataFormat, Fields, Initializer, Padding, Regularizer};
use crate::layer::{WeightOptions, WeightSpec};
use crate::spatial::{Window, channels_last, extents, sizes, squeeze};
use crate::{Call, Spec};

/// Options of a kernel that slides over `N` spatial dimensions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sliding<const N: usize> {
    pub kernel_size: [usize; N],
    pub strides: [usize; N],
    pub padding: Padding,
    pub data_format: DataFormat,
    pub dilation_rate: [usize; N],
    pub activation: Activation,
    pub use_bias: bool,
    pub bias: WeightOptions,
    pub activity_regularizer: Option<Regularizer>,
}

impl<const N: usize> Default for Sliding<N> {
    fn default() -> Self {
        Sliding {
            kernel_size: [1; N],
            strides: [1; N],
            padding: Padding::Valid,
            data_format: DataFormat::ChannelsLast,
            dilation_rate: [1; N],
            activation: Activation::default(),
            use_bias: true,
            bias: WeightOptions::new(Initializer::Zeros),
            activity_regularizer: None,
        }
    }
}

impl<const N: usize> Sliding<N> {
    pub fn of(kernel_size: [usize; N]) -> Self {
        Sliding { kernel_size, ..Sliding::default() }
    }

    pub fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("dilation_rate", &mut self.dilation_rate);
        self.visit_undilated(f);
    }

    pub fn visit_undilated(&mut self, f: &mut Fields<'_>) {
        f.field("kernel_size", &mut self.kernel_size);
        f.field("strides", &mut self.strides);
        f.field("padding", &mut self.padding);
        f.field("data_format", &mut self.data_format);
        f.field("activation", &mut self.activation);
        f.field("use_bias", &mut self.use_bias);
        self.bias.visit("bias", f);
        f.sparse("activity_regularizer", &mut self.activity_regularizer);
    }

    pub fn window(&self) -> Window<N> {
        Window {
            size: self.kernel_size,
            strides: self.strides,
            dilation: self.dilation_rate,
            padding: self.padding,
            data_format: self.data_format,
        }
    }

    pub fn channel_axis(&self) -> i64 {
        if self.data_format == DataFormat::ChannelsFirst { 1 } else { -1 }
    }

    /// A kernel's shape: the window's, then these.
    pub fn kernel_shape(&self, channels: [usize; 2]) -> Vec<usize> {
        self.kernel_size.into_iter().chain(channels).collect()
    }

    /// The weights with a bias of this shape where there is one.
    pub fn with_bias(&self, mut weights: Vec<WeightSpec>, shape: Vec<usize>) -> Vec<WeightSpec> {
        if self.use_bias {
            weights.push(self.bias.weight("bias", shape));
        }
        weights
    }

    pub fn bias(&self, call: &mut Call<'_>) -> Result<Option<Sym>> {
        if self.use_bias { call.weight("bias").map(Some) } else { Ok(None) }
    }

    /// The activation of what the layer computed.
    pub fn activate(&self, call: &mut Call<'_>, y: Sym, output: Vec<Spec>) -> Result<Vec<Sym>> {
        if let Some(spec) = output.into_iter().next() {
            call.describe(y, spec);
        }
        Ok(vec![self.activation.call(call, y)?])
    }
}

/// The methods that set the options of a layer, which has them as `sliding`.
macro_rules! sliding_methods {
    ($layer:ident) => {
        impl<const N: usize> $layer<N> {
            /// The same with these steps.
            pub fn strides(mut self, strides: [usize; N]) -> Self {
                self.sliding.strides = strides;
                self
            }

            /// The same with this padding.
            pub fn padding(mut self, padding: crate::config::Padding) -> Self {
                self.sliding.padding = padding;
                self
            }

            /// The same with the channels there.
            pub fn data_format(mut self, data_format: crate::config::DataFormat) -> Self {
                self.sliding.data_format = data_format;
                self
            }

            /// The same with this activation function.
            pub fn activation(mut self, activation: impl Into<crate::config::Activation>) -> Self {
                self.sliding.activation = activation.into();
                self
            }

            /// The same with or without a bias.
            pub fn use_bias(mut self, use_bias: bool) -> Self {
                self.sliding.use_bias = use_bias;
                self
            }

            /// The same with these options of the bias.
            pub fn bias(mut self, options: crate::layer::WeightOptions) -> Self {
                self.sliding.bias = options;
                self
            }
        }
    };
}

/// The method that sets how far apart a kernel's elements are.
macro_rules! dilation_method {
    ($layer:ident) => {
        impl<const N: usize> $layer<N> {
            /// The same with a kernel whose elements are so far apart.
            pub fn dilation_rate(mut self, dilation_rate: [usize; N]) -> Self {
                self.sliding.dilation_rate = dilation_rate;
                self
            }
        }
    };
}
pub(super) use {dilation_method, sliding_methods};

/// A convolution in `groups`, with a bias where there is one.
pub(super) fn convolve<const N: usize>(
    call: &mut Call<'_>,
    x: Sym,
    kernel: Sym,
    window: &Window<N>,
    groups: usize,
    bias: Option<Sym>,
) -> Result<Sym> {
    channels_last(call, x, window.data_format, N, |call, x| {
        let x = pad_before(call, x, window)?;
        let x = extents(call, x, N)?;
        let y = if N == 3 {
            // TensorFlow on a CPU has neither dilations nor groups in three dimensions.
            let kernel = spread(call, kernel, window)?;
            in_groups(call, x, kernel, groups, |call, x, kernel| {
                slide(call, "Conv3D", x, kernel, window, &[1; N])
            })?
        } else {
            let kernel = lift(call, kernel, N)?;
            slide(call, "Conv2D", x, kernel, window, &window.dilation)?
        };
        let y = match bias {
            Some(bias) if groups > 1 => add_apart(call, y, bias)?,
            Some(bias) => call.apply("BiasAdd", &[y, bias])?,
            None => y,
        };
        squeeze(call, y, N)
    })
}

/// Each channel's own convolution.
pub(super) fn depthwise<const N: usize>(
    call: &mut Call<'_>,
    x: Sym,
    kernel: Sym,
    window: &Window<N>,
) -> Result<Sym> {
    // TensorFlow on a CPU has no dilations here.
    let kernel = spread(call, kernel, window)?;
    let kernel = lift(call, kernel, N)?;
    let mut strides = vec![1i64];
    // Strides must be equal: a sequence of one row doesn't notice.
    strides.extend(window.strides.iter().cycle().take(2).map(|&s| s as i64));
    strides.push(1);
    let conv = call.op("DepthwiseConv2dNative").inputs(&[x, kernel]).attr("strides", strides);
    Ok(conv.attr("padding", window.padding.op()).attr("dilations", vec![1i64; 4]).one()?)
}

fn slide<const N: usize>(
    call: &mut Call<'_>,
    op: &str,
    x: Sym,
    kernel: Sym,
    window: &Window<N>,
    dilation: &[usize; N],
) -> Result<Sym> {
    let conv = call.op(op).inputs(&[x, kernel]).attr("padding", window.padding.op());
    Ok(conv.attr("strides", sizes(&window.strides)).attr("dilations", sizes(dilation)).one()?)
}

/// The input in groups of channels, each with its part of the filters.
fn in_groups(
    call: &mut Call<'_>,
    x: Sym,
    kernel: Sym,
    groups: usize,
    mut body: impl FnMut(&mut Call<'_>, Sym, Sym) -> Result<Sym>,
) -> Result<Sym> {
    if groups == 1 {
        return body(call, x, kernel);
    }
    let axis = call.int(4)?;
    let xs = call.op("Split").inputs(&[axis, x]).attr("num_split", groups as i64).all()?;
    let kernels = call.op("Split").inputs(&[axis, kernel]).attr("num_split", groups as i64).all()?;
    let mut parts = Vec::with_capacity(groups + 1);
    for (x, kernel) in xs.into_iter().zip(kernels) {
        parts.push(body(call, x, kernel)?);
    }
    parts.push(axis);
    call.apply("ConcatV2", &parts)
}

/// A sequence, channels last, with the zeros before it that causal padding asks for.
pub(super) fn pad_before<const N: usize>(call: &mut Call<'_>, x: Sym, window: &Window<N>) -> Result<Sym> {
    let (Padding::Causal, 1) = (window.padding, N) else { return Ok(x) };
    let before = window.size[0].saturating_sub(1).saturating_mul(window.dilation[0]);
    let paddings = call.ints(&[0, 0, before as i64, 0, 0, 0])?;
    let paddings = call.reshape(paddings, &[3, 2])?;
    call.apply("Pad", &[x, paddings])
}

/// A 1-D kernel with an extent of one before it; any other as it is.
pub(super) fn lift(call: &mut Call<'_>, kernel: Sym, spatial: usize) -> Result<Sym> {
    if spatial != 1 {
        return Ok(kernel);
    }
    let axis = call.int(0)?;
    call.apply("ExpandDims", &[kernel, axis])
}

/// A kernel with the zeros between its elements that a dilation stands for.
pub(super) fn spread<const N: usize>(call: &mut Call<'_>, kernel: Sym, window: &Window<N>) -> Result<Sym> {
    if window.dilation.iter().all(|&d| d == 1) {
        return Ok(kernel);
    }
    let shape = call.apply("Shape", &[kernel])?;
    let channels = call.slice(shape, &[(Some(N as i64), None, 1)])?;
    // Along one axis after the other, since TensorFlow pads no more than six at once: each element at the begin of a block
    // of its own, the last block cut off behind it.
    let (mut flat, mut before, mut extents) = (kernel, 1i64, Vec::with_capacity(N));
    for (&size, &rate) in window.size.iter().zip(&window.dilation) {
        let (size, rate) = (i64::try_from(size).unwrap_or(i64::MAX), i64::try_from(rate).unwrap_or(i64::MAX));
        let extent = size.saturating_sub(1).saturating_mul(rate).saturating_add(1);
        if rate > 1 {
            let blocks = call.reshape(flat, &[before, size, 1, -1])?;
            let paddings = call.ints(&[0, 0, 0, 0, 0, rate.saturating_sub(1), 0, 0])?;
            let paddings = call.reshape(paddings, &[4, 2])?;
            let blocks = call.apply("Pad", &[blocks, paddings])?;
            let rows = call.reshape(blocks, &[before, size.saturating_mul(rate), -1])?;
            flat = call.slice(rows, &[(None, None, 1), (None, Some(extent), 1)])?;
        }
        before = before.saturating_mul(extent);
        extents.push(extent);
    }
    let (spread, axis) = (call.ints(&extents)?, call.int(0)?);
    let shape = call.apply("ConcatV2", &[spread, channels, axis])?;
    call.apply("Reshape", &[flat, shape])
}

/// `y + bias`, spelt so that TensorFlow doesn't fuse it with the convolution before it: on a CPU it does, and then refuses
/// to run it in groups.
fn add_apart(call: &mut Call<'_>, y: Sym, bias: Sym) -> Result<Sym> {
    let shape = call.apply("Shape", &[y])?;
    let bias = call.apply("BroadcastTo", &[bias, shape])?;
    call.apply("AddN", &[y, bias])
}
