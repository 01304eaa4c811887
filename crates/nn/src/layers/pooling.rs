//! Pooling: windows and whole sequences or images.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, Result};

use super::Entry;
use crate::spatial::{Window, channels_last, extents, sizes, squeeze};
use crate::config::{DataFormat, Fields, Padding};
use crate::layer::inputs;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<Pooling<Max, 1>>(&["MaxPooling1D", "MaxPool1D"]),
    Entry::of::<Pooling<Max, 2>>(&["MaxPooling2D", "MaxPool2D"]),
    Entry::of::<Pooling<Mean, 1>>(&["AveragePooling1D", "AvgPool1D"]),
    Entry::of::<Pooling<Mean, 2>>(&["AveragePooling2D", "AvgPool2D"]),
    Entry::of::<GlobalPooling<Max, 1>>(&["GlobalMaxPooling1D", "GlobalMaxPool1D"]),
    Entry::of::<GlobalPooling<Max, 2>>(&["GlobalMaxPooling2D", "GlobalMaxPool2D"]),
    Entry::of::<GlobalPooling<Mean, 1>>(&["GlobalAveragePooling1D", "GlobalAvgPool1D"]),
    Entry::of::<GlobalPooling<Mean, 2>>(&["GlobalAveragePooling2D", "GlobalAvgPool2D"]),
];

/// The largest value of each window (Keras: `MaxPooling1D`).
pub type MaxPooling1D = Pooling<Max, 1>;
/// The largest value of each window (Keras: `MaxPooling2D`).
pub type MaxPooling2D = Pooling<Max, 2>;
/// The mean of each window (Keras: `AveragePooling1D`).
pub type AveragePooling1D = Pooling<Mean, 1>;
/// The mean of each window (Keras: `AveragePooling2D`).
pub type AveragePooling2D = Pooling<Mean, 2>;
/// The largest value of each channel (Keras: `GlobalMaxPooling1D`).
pub type GlobalMaxPooling1D = GlobalPooling<Max, 1>;
/// The largest value of each channel (Keras: `GlobalMaxPooling2D`).
pub type GlobalMaxPooling2D = GlobalPooling<Max, 2>;
/// The mean of each channel (Keras: `GlobalAveragePooling1D`).
pub type GlobalAveragePooling1D = GlobalPooling<Mean, 1>;
/// The mean of each channel (Keras: `GlobalAveragePooling2D`).
pub type GlobalAveragePooling2D = GlobalPooling<Mean, 2>;

/// What pooling does with the values.
pub trait Pool: std::fmt::Debug + Clone + Default + PartialEq + Send + Sync + 'static {
    /// TensorFlow's op over windows.
    const WINDOW: &'static str;
    /// TensorFlow's op over whole axes.
    const WHOLE: &'static str;
    /// The names of the layers over windows, by the number of dimensions.
    const NAMES: [&'static str; 2];
    /// The names of the layers over whole axes.
    const GLOBAL_NAMES: [&'static str; 2];
}

/// The largest value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Max;

impl Pool for Max {
    const WINDOW: &'static str = "MaxPool";
    const WHOLE: &'static str = "Max";
    const NAMES: [&'static str; 2] = ["MaxPooling1D", "MaxPooling2D"];
    const GLOBAL_NAMES: [&'static str; 2] = ["GlobalMaxPooling1D", "GlobalMaxPooling2D"];
}

/// The mean.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mean;

impl Pool for Mean {
    const WINDOW: &'static str = "AvgPool";
    const WHOLE: &'static str = "Mean";
    const NAMES: [&'static str; 2] = ["AveragePooling1D", "AveragePooling2D"];
    const GLOBAL_NAMES: [&'static str; 2] = ["GlobalAveragePooling1D", "GlobalAveragePooling2D"];
}

/// Pools windows over `N` spatial dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Pooling<P: Pool, const N: usize> {
    pool_size: [usize; N],
    strides: Option<[usize; N]>,
    padding: Padding,
    data_format: DataFormat,
    pool: std::marker::PhantomData<P>,
}

impl<P: Pool, const N: usize> Default for Pooling<P, N> {
    fn default() -> Self {
        Pooling::new([2; N])
    }
}

impl<P: Pool, const N: usize> Pooling<P, N> {
    /// Windows of this size, side by side.
    pub fn new(pool_size: [usize; N]) -> Self {
        Pooling {
            pool_size,
            strides: None,
            padding: Padding::Valid,
            data_format: DataFormat::ChannelsLast,
            pool: std::marker::PhantomData,
        }
    }

    /// The same with these steps.
    pub fn strides(mut self, strides: [usize; N]) -> Self {
        self.strides = Some(strides);
        self
    }

    /// The same with this padding.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    fn window(&self) -> Window<N> {
        Window {
            size: self.pool_size,
            strides: self.strides.unwrap_or(self.pool_size),
            dilation: [1; N],
            padding: self.padding,
            data_format: self.data_format,
        }
    }
}

impl<P: Pool, const N: usize> Layer for Pooling<P, N> {
    fn class_name(&self) -> &str {
        P::NAMES.get(N.wrapping_sub(1)).unwrap_or(&"")
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.aliased("pool_size", &["pool_length"], &mut self.pool_size);
        // Written out, as Keras does: the pool's size is the default.
        let mut strides = self.strides.or(Some(self.pool_size));
        f.aliased("strides", &["stride"], &mut strides);
        self.strides = strides;
        f.aliased("padding", &["border_mode"], &mut self.padding);
        f.field("data_format", &mut self.data_format);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        self.window().output(inputs.first()?, None).map(|s| vec![s])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let window = self.window();
        if self.padding == Padding::Causal {
            return Err(Error::unsupported("pooling with causal padding"));
        }
        let y = channels_last(call, x, self.data_format, N, |call, x| {
            let x = extents(call, x, N)?;
            let pool = call.op(P::WINDOW).input(x).attr("padding", self.padding.op());
            let y = pool.attr("ksize", sizes(&window.size)).attr("strides", sizes(&window.strides)).one()?;
            squeeze(call, y, N)
        })?;
        Ok(vec![y])
    }
}

/// Pools each channel as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GlobalPooling<P: Pool, const N: usize> {
    data_format: DataFormat,
    keepdims: bool,
    pool: std::marker::PhantomData<P>,
}

impl<P: Pool, const N: usize> GlobalPooling<P, N> {
    /// Channels in the last axis; one value for each.
    pub fn new() -> Self {
        GlobalPooling::default()
    }

    fn axes(&self) -> Vec<i64> {
        let first = if self.data_format == DataFormat::ChannelsFirst { 2 } else { 1 };
        (first..first + N as i64).collect()
    }
}

impl<P: Pool, const N: usize> Layer for GlobalPooling<P, N> {
    fn class_name(&self) -> &str {
        P::GLOBAL_NAMES.get(N.wrapping_sub(1)).unwrap_or(&"")
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("data_format", &mut self.data_format);
        f.field("keepdims", &mut self.keepdims);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let axes = self.axes();
        let dims = input.dims()?;
        if dims.len() != N + 2 {
            return Err(Error::mismatch(format!("it takes {} dimensions, but got {}", N + 2, input.shape)));
        }
        let dims = dims.iter().enumerate().filter_map(|(i, d)| match axes.contains(&(i as i64)) {
            true => self.keepdims.then_some(Some(1)),
            false => Some(*d),
        });
        Ok(vec![input.with_shape(dims.collect::<Vec<_>>())])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let axes = self.axes();
        // The mean over time leaves masked steps out.
        if let (Some(mask), "Mean", 1) = (call.mask(x), P::WHOLE, N) {
            let axis = call.int(if self.data_format == DataFormat::ChannelsFirst { 1 } else { 2 })?;
            let mask = call.cast(mask, call.dtype(x))?;
            let mask = call.apply("ExpandDims", &[mask, axis])?;
            let kept = call.apply("Mul", &[x, mask])?;
            let sum = call.reduce("Sum", kept, &axes, self.keepdims)?;
            let count = call.reduce("Sum", mask, &axes, self.keepdims)?;
            return Ok(vec![call.apply("RealDiv", &[sum, count])?]);
        }
        Ok(vec![call.reduce(P::WHOLE, x, &axes, self.keepdims)?])
    }
}
