//! Convolutions: Conv1D and Conv2D.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, Result};

use super::Entry;
use crate::spatial::{Window, channels_last, extents, sizes, squeeze};
use crate::config::{Activation, DataFormat, Fields, Initializer, Padding, Regularizer};
use crate::layer::{WeightOptions, WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<Convolution<1>>(&["Conv1D", "Convolution1D"]),
    Entry::of::<Convolution<2>>(&["Conv2D", "Convolution2D"]),
];

/// Slides a kernel over a sequence (Keras: `Conv1D`).
pub type Conv1D = Convolution<1>;

/// Slides a kernel over an image (Keras: `Conv2D`).
pub type Conv2D = Convolution<2>;

/// A convolution over `N` spatial dimensions (Keras: `Conv1D`, `Conv2D`).
#[derive(Debug, Clone, PartialEq)]
pub struct Convolution<const N: usize> {
    filters: usize,
    kernel_size: [usize; N],
    strides: [usize; N],
    padding: Padding,
    data_format: DataFormat,
    dilation_rate: [usize; N],
    groups: usize,
    activation: Activation,
    use_bias: bool,
    kernel: WeightOptions,
    bias: WeightOptions,
    activity_regularizer: Option<Regularizer>,
}

impl<const N: usize> Default for Convolution<N> {
    fn default() -> Self {
        Convolution {
            filters: 1,
            kernel_size: [1; N],
            strides: [1; N],
            padding: Padding::Valid,
            data_format: DataFormat::ChannelsLast,
            dilation_rate: [1; N],
            groups: 1,
            activation: Activation::default(),
            use_bias: true,
            kernel: WeightOptions::new(Initializer::glorot_uniform()),
            bias: WeightOptions::new(Initializer::Zeros),
            activity_regularizer: None,
        }
    }
}

impl<const N: usize> Convolution<N> {
    /// This many filters with a kernel of this size.
    pub fn new(filters: usize, kernel_size: [usize; N]) -> Self {
        Convolution { filters, kernel_size, ..Convolution::default() }
    }

    /// The same with these steps.
    pub fn strides(mut self, strides: [usize; N]) -> Self {
        self.strides = strides;
        self
    }

    /// The same with this padding.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// The same with this activation function.
    pub fn activation(mut self, activation: impl Into<Activation>) -> Self {
        self.activation = activation.into();
        self
    }

    /// The same with or without a bias.
    pub fn use_bias(mut self, use_bias: bool) -> Self {
        self.use_bias = use_bias;
        self
    }

    fn window(&self) -> Window<N> {
        Window {
            size: self.kernel_size,
            strides: self.strides,
            dilation: self.dilation_rate,
            padding: self.padding,
            data_format: self.data_format,
        }
    }

    fn channel_axis(&self) -> i64 {
        if self.data_format == DataFormat::ChannelsFirst { 1 } else { -1 }
    }
}

impl<const N: usize> Layer for Convolution<N> {
    fn class_name(&self) -> &str {
        if N == 1 { "Conv1D" } else { "Conv2D" }
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.aliased("filters", &["nb_filter"], &mut self.filters);
        f.field("kernel_size", &mut self.kernel_size);
        f.aliased("strides", &["subsample"], &mut self.strides);
        f.aliased("padding", &["border_mode"], &mut self.padding);
        f.field("data_format", &mut self.data_format);
        f.field("dilation_rate", &mut self.dilation_rate);
        f.field("groups", &mut self.groups);
        f.field("activation", &mut self.activation);
        f.field("use_bias", &mut self.use_bias);
        self.kernel.visit("kernel", f);
        self.bias.visit("bias", f);
        f.sparse("activity_regularizer", &mut self.activity_regularizer);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let channels = inputs.first()?.known(self.channel_axis())?;
        if self.groups == 0 || !channels.is_multiple_of(self.groups) || !self.filters.is_multiple_of(self.groups) {
            return Err(Error::mismatch(format!(
                "{channels} channels and {} filters don't divide into {} groups",
                self.filters, self.groups
            )));
        }
        let shape: Vec<usize> = self.kernel_size.into_iter().chain([channels / self.groups, self.filters]).collect();
        let mut weights = vec![self.kernel.weight("kernel", shape)];
        if self.use_bias {
            weights.push(self.bias.weight("bias", [self.filters]));
        }
        Ok(weights)
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        self.window().output(inputs.first()?, Some(self.filters)).map(|s| vec![s])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let kernel = call.weight("kernel")?;
        let window = self.window();
        let y = channels_last(call, x, self.data_format, N, |call, mut x| {
            if self.padding == Padding::Causal {
                let before = self.kernel_size[0].saturating_sub(1).saturating_mul(self.dilation_rate[0]);
                let paddings = call.ints(&[0, 0, before as i64, 0, 0, 0])?;
                let paddings = call.reshape(paddings, &[3, 2])?;
                x = call.apply("Pad", &[x, paddings])?;
            }
            let (x, kernel) = (extents(call, x, N)?, if N == 1 { lift(call, kernel)? } else { kernel });
            let conv = call.op("Conv2D").inputs(&[x, kernel]).attr("padding", self.padding.op());
            let conv = conv.attr("strides", sizes(&window.strides)).attr("dilations", sizes(&window.dilation));
            let mut y = conv.one()?;
            if self.use_bias {
                let bias = call.weight("bias")?;
                y = if self.groups > 1 { add_apart(call, y, bias)? } else { call.apply("BiasAdd", &[y, bias])? };
            }
            squeeze(call, y, N)
        })?;
        if let Some(spec) = self.output(call.inputs())?.into_iter().next() {
            call.describe(y, spec);
        }
        Ok(vec![self.activation.call(call, y)?])
    }
}

/// `y + bias`, spelt so that TensorFlow doesn't fuse it with the convolution before it: on a CPU it does, and then refuses
/// to run it in groups.
fn add_apart(call: &mut Call<'_>, y: Sym, bias: Sym) -> Result<Sym> {
    let shape = call.apply("Shape", &[y])?;
    let bias = call.apply("BroadcastTo", &[bias, shape])?;
    call.apply("AddN", &[y, bias])
}

/// A 1-D kernel with an extent of one before it.
fn lift(call: &mut Call<'_>, kernel: Sym) -> Result<Sym> {
    let axis = call.int(0)?;
    call.apply("ExpandDims", &[kernel, axis])
}
