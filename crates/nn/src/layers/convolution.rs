//! Convolutions: Conv1D, Conv2D, Conv3D.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, Result};

use super::Entry;
use super::sliding::{Sliding, convolve, dilation_method, sliding_methods};
use crate::config::{Fields, Initializer};
use crate::former::{self, Former, FormerWeights, Origin};
use crate::layer::{WeightOptions, WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<Convolution<1>>(&["Conv1D", "Convolution1D", "AtrousConvolution1D"]).formerly(FORMER_1D),
    Entry::of::<Convolution<2>>(&["Conv2D", "Convolution2D", "AtrousConvolution2D"]).formerly(FORMER_2D),
    Entry::of::<Convolution<3>>(&["Conv3D", "Convolution3D"])
        .formerly(&[("kernel_size", &["kernel_dim1", "kernel_dim2", "kernel_dim3"])]),
];

/// What Keras 1 called the options of layers over sequences.
pub(super) const FORMER_1D: &[Former] = &[
    ("kernel_size", &["filter_length"]),
    ("strides", &["subsample_length"]),
    ("dilation_rate", &["atrous_rate"]),
];

/// What Keras 1 called the options of layers over images.
pub(super) const FORMER_2D: &[Former] = &[("kernel_size", &["nb_row", "nb_col"]), ("dilation_rate", &["atrous_rate"])];

/// Slides a kernel over a sequence (Keras: `Conv1D`).
pub type Conv1D = Convolution<1>;

/// Slides a kernel over an image (Keras: `Conv2D`).
pub type Conv2D = Convolution<2>;

/// Slides a kernel over a volume (Keras: `Conv3D`).
pub type Conv3D = Convolution<3>;

/// A convolution over `N` spatial dimensions (Keras: `Conv1D`, `Conv2D`, `Conv3D`).
#[derive(Debug, Clone, PartialEq)]
pub struct Convolution<const N: usize> {
    filters: usize,
    groups: usize,
    kernel: WeightOptions,
    sliding: Sliding<N>,
}

impl<const N: usize> Default for Convolution<N> {
    fn default() -> Self {
        Convolution {
            filters: 1,
            groups: 1,
            kernel: WeightOptions::new(Initializer::glorot_uniform()),
            sliding: Sliding::default(),
        }
    }
}

sliding_methods!(Convolution);
dilation_method!(Convolution);

impl<const N: usize> Convolution<N> {
    /// This many filters with a kernel of this size.
    pub fn new(filters: usize, kernel_size: [usize; N]) -> Self {
        Convolution { filters, sliding: Sliding::of(kernel_size), ..Convolution::default() }
    }

    /// The same with channels in so many groups, each with its part of the filters.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// The same with these options of the kernel.
    pub fn kernel(mut self, options: WeightOptions) -> Self {
        self.kernel = options;
        self
    }
}

impl<const N: usize> Layer for Convolution<N> {
    fn class_name(&self) -> &str {
        match N {
            1 => "Conv1D",
            2 => "Conv2D",
            _ => "Conv3D",
        }
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("filters", &mut self.filters);
        f.field("groups", &mut self.groups);
        self.kernel.visit("kernel", f);
        self.sliding.visit(f);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let channels = inputs.first()?.known(self.sliding.channel_axis())?;
        if self.groups == 0 || !channels.is_multiple_of(self.groups) || !self.filters.is_multiple_of(self.groups) {
            return Err(Error::mismatch(format!(
                "{channels} channels and {} filters don't divide into {} groups",
                self.filters, self.groups
            )));
        }
        let shape = self.sliding.kernel_shape([channels / self.groups, self.filters]);
        Ok(self.sliding.with_bias(vec![self.kernel.weight("kernel", shape)], vec![self.filters]))
    }

    fn former_weights(&self, inputs: &Inputs, origin: &Origin) -> Result<Option<FormerWeights>> {
        Ok(former::convolution(self.weights(inputs)?, origin, self.sliding.data_format, false))
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        self.sliding.window().output(inputs.first()?, Some(self.filters)).map(|s| vec![s])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let output = self.output(call.inputs())?;
        let (kernel, bias) = (call.weight("kernel")?, self.sliding.bias(call)?);
        let y = convolve(call, x, kernel, &self.sliding.window(), self.groups, bias)?;
        self.sliding.activate(call, y, output)
    }
}
