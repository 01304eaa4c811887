//! LSTMs over images: ConvLSTM1D, ConvLSTM2D, ConvLSTM3D.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Result};

use super::Entry;
use super::cell::{CellOptions, times};
use super::sliding::convolve;
use super::lstm::gates;
use super::rnn::{Cell, Recurrent};
use crate::config::{Activation, DTypePolicy, DataFormat, Fields, Padding};
use crate::former::{Former, FormerWeights, Origin};
use crate::layer::{WeightSpec, inputs};
use crate::spatial::Window;
use crate::{Call, Inputs, Instance, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<ConvLSTM1D>(&["ConvLSTM1D"]),
    Entry::of::<ConvLSTM2D>(&["ConvLSTM2D"]).formerly(FORMER),
    Entry::of::<ConvLSTM3D>(&["ConvLSTM3D"]),
    Entry::of::<ConvLSTMCell<2>>(&["ConvLSTMCell", "ConvLSTM2DCell"]),
];

const FORMER: &[Former] =
    &[("kernel_size", &["nb_row", "nb_col"]), ("unit_forget_bias", &["forget_bias_init"])];

/// One step of an LSTM whose products are convolutions over `N` spatial dimensions (Keras: `ConvLSTMCell`).
#[derive(Debug, Clone, PartialEq)]
pub struct ConvLSTMCell<const N: usize> {
    filters: usize,
    kernel_size: [usize; N],
    strides: [usize; N],
    padding: Padding,
    data_format: DataFormat,
    dilation_rate: [usize; N],
    recurrent_activation: Activation,
    unit_forget_bias: bool,
    options: CellOptions,
}

impl<const N: usize> Default for ConvLSTMCell<N> {
    fn default() -> Self {
        ConvLSTMCell {
            filters: 1,
            kernel_size: [1; N],
            strides: [1; N],
            padding: Padding::Valid,
            data_format: DataFormat::ChannelsLast,
            dilation_rate: [1; N],
            recurrent_activation: "sigmoid".into(),
            unit_forget_bias: true,
            options: CellOptions::default(),
        }
    }
}

impl<const N: usize> ConvLSTMCell<N> {
    /// A cell of this many filters with kernels of this size.
    pub fn new(filters: usize, kernel_size: [usize; N]) -> Self {
        ConvLSTMCell { filters, kernel_size, ..ConvLSTMCell::default() }
    }

    /// The same with these steps over the input.
    pub fn strides(mut self, strides: [usize; N]) -> Self {
        self.strides = strides;
        self
    }

    /// The same with this padding of the input; the state's is always `same`.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// The same with the channels there.
    pub fn data_format(mut self, data_format: DataFormat) -> Self {
        self.data_format = data_format;
        self
    }

    /// The same with a kernel whose elements are so far apart.
    pub fn dilation_rate(mut self, dilation_rate: [usize; N]) -> Self {
        self.dilation_rate = dilation_rate;
        self
    }

    /// The same with this activation function of the state.
    pub fn activation(mut self, activation: impl Into<Activation>) -> Self {
        self.options.activation = activation.into();
        self
    }

    /// The same with this activation function of the gates.
    pub fn recurrent_activation(mut self, activation: impl Into<Activation>) -> Self {
        self.recurrent_activation = activation.into();
        self
    }

    /// The same with or without a bias.
    pub fn use_bias(mut self, use_bias: bool) -> Self {
        self.options.use_bias = use_bias;
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

impl<const N: usize> Layer for ConvLSTMCell<N> {
    fn class_name(&self) -> &str {
        "ConvLSTMCell"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        if f.is_reading() && f.dialect() != Dialect::Keras3 {
            self.recurrent_activation = Activation::hard_sigmoid_of_keras2();
        }
        f.required("filters", &mut self.filters);
        f.field("kernel_size", &mut self.kernel_size);
        f.field("strides", &mut self.strides);
        f.field("padding", &mut self.padding);
        f.field("data_format", &mut self.data_format);
        f.field("dilation_rate", &mut self.dilation_rate);
        f.field("recurrent_activation", &mut self.recurrent_activation);
        self.options.visit(f);
        f.field("unit_forget_bias", &mut self.unit_forget_bias);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let (channels, gates) = (inputs.first()?.known(self.channel_axis())?, times(self.filters, 4)?);
        let kernel = |from: usize| self.kernel_size.into_iter().chain([from, gates]).collect();
        let mut weights = self.options.weights(kernel(channels), kernel(self.filters), vec![gates]);
        if self.unit_forget_bias {
            self.options.remember(&mut weights);
        }
        Ok(weights)
    }

    fn former_weights(&self, inputs: &Inputs, origin: &Origin) -> Result<Option<FormerWeights>> {
        let channels_first = self.data_format == DataFormat::ChannelsFirst;
        // As an LSTM's.
        self.options.former_weights(self.weights(inputs)?, origin, &[0, 2, 1, 3], channels_first)
    }

    fn arguments(&self) -> &[&str] {
        &["inputs", "states"]
    }

    fn states(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![self.window().output(inputs.first()?, Some(self.filters))?; 2])
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![self.window().output(inputs.first()?, Some(self.filters))?; 3])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x, h, c] = inputs(given)?;
        let spec = self.window().output(call.inputs().first()?, Some(self.filters))?;
        call.describe(c, spec);
        let (kernel, recurrent) = (call.weight("kernel")?, call.weight("recurrent_kernel")?);
        let bias = if self.options.use_bias { Some(call.weight("bias")?) } else { None };
        let from_x = convolve(call, x, kernel, &self.window(), 1, bias)?;
        let (strides, dilation, padding) = ([1; N], [1; N], Padding::Same);
        let window = Window { strides, dilation, padding, ..self.window() };
        let from_h = convolve(call, h, recurrent, &window, 1, None)?;
        let z = call.apply("AddV2", &[from_x, from_h])?;
        gates(call, z, self.channel_axis(), c, &self.options.activation, &self.recurrent_activation)
    }
}

impl<const N: usize> Cell for ConvLSTMCell<N> {
    const LAYER: &'static str = match N {
        1 => "ConvLSTM1D",
        2 => "ConvLSTM2D",
        _ => "ConvLSTM3D",
    };

    fn visit_in_layer(&mut self, f: &mut Fields<'_>) {
        self.visit(f);
    }

    fn instance(&self, policy: &DTypePolicy) -> Instance {
        Instance::from(self.clone()).named("conv_lstm_cell").dtype(policy.name())
    }
}

/// Runs a convolutional LSTM over a sequence of sequences (Keras: `ConvLSTM1D`).
pub type ConvLSTM1D = Recurrent<ConvLSTMCell<1>>;

/// Runs a convolutional LSTM over a sequence of images (Keras: `ConvLSTM2D`).
pub type ConvLSTM2D = Recurrent<ConvLSTMCell<2>>;

/// Runs a convolutional LSTM over a sequence of volumes (Keras: `ConvLSTM3D`).
pub type ConvLSTM3D = Recurrent<ConvLSTMCell<3>>;

impl<const N: usize> Recurrent<ConvLSTMCell<N>> {
    /// A layer of this many filters with kernels of this size, which gives its last output.
    pub fn new(filters: usize, kernel_size: [usize; N]) -> Self {
        Recurrent::over(ConvLSTMCell::new(filters, kernel_size))
    }
}
