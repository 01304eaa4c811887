//! Pooling: windows and whole sequences or images.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Error, Result};

use super::Entry;
use crate::spatial::{Window, channels_last, extents, sizes, squeeze};
use crate::config::{DataFormat, Fields, Padding};
use crate::former::Former;
use crate::layer::inputs;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<Pooling<Max, 1>>(&["MaxPooling1D", "MaxPool1D"]).formerly(FORMER_1D),
    Entry::of::<Pooling<Max, 2>>(&["MaxPooling2D", "MaxPool2D"]),
    Entry::of::<Pooling<Max, 3>>(&["MaxPooling3D", "MaxPool3D"]),
    Entry::of::<Pooling<Mean, 1>>(&["AveragePooling1D", "AvgPool1D"]).formerly(FORMER_1D),
    Entry::of::<Pooling<Mean, 2>>(&["AveragePooling2D", "AvgPool2D"]),
    Entry::of::<Pooling<Mean, 3>>(&["AveragePooling3D", "AvgPool3D"]),
    Entry::of::<GlobalPooling<Max, 1>>(&["GlobalMaxPooling1D", "GlobalMaxPool1D"]),
    Entry::of::<GlobalPooling<Max, 2>>(&["GlobalMaxPooling2D", "GlobalMaxPool2D"]),
    Entry::of::<GlobalPooling<Max, 3>>(&["GlobalMaxPooling3D", "GlobalMaxPool3D"]),
    Entry::of::<GlobalPooling<Mean, 1>>(&["GlobalAveragePooling1D", "GlobalAvgPool1D"]),
    Entry::of::<GlobalPooling<Mean, 2>>(&["GlobalAveragePooling2D", "GlobalAvgPool2D"]),
    Entry::of::<GlobalPooling<Mean, 3>>(&["GlobalAveragePooling3D", "GlobalAvgPool3D"]),
    Entry::of::<AdaptivePooling<Max, 1>>(&["AdaptiveMaxPooling1D"]),
    Entry::of::<AdaptivePooling<Max, 2>>(&["AdaptiveMaxPooling2D"]),
    Entry::of::<AdaptivePooling<Max, 3>>(&["AdaptiveMaxPooling3D"]),
    Entry::of::<AdaptivePooling<Mean, 1>>(&["AdaptiveAveragePooling1D"]),
    Entry::of::<AdaptivePooling<Mean, 2>>(&["AdaptiveAveragePooling2D"]),
    Entry::of::<AdaptivePooling<Mean, 3>>(&["AdaptiveAveragePooling3D"]),
];

const FORMER_1D: &[Former] = &[("pool_size", &["pool_length"]), ("strides", &["stride"])];

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $layer:ident<$pool:ident, $n:literal>;)*) => {
        $($(#[$doc])* pub type $name = $layer<$pool, $n>;)*
    };
}

names! {
    /// The largest value of each window (Keras: `MaxPooling1D`).
    MaxPooling1D = Pooling<Max, 1>;
    /// The largest value of each window (Keras: `MaxPooling2D`).
    MaxPooling2D = Pooling<Max, 2>;
    /// The largest value of each window (Keras: `MaxPooling3D`).
    MaxPooling3D = Pooling<Max, 3>;
    /// The mean of each window (Keras: `AveragePooling1D`).
    AveragePooling1D = Pooling<Mean, 1>;
    /// The mean of each window (Keras: `AveragePooling2D`).
    AveragePooling2D = Pooling<Mean, 2>;
    /// The mean of each window (Keras: `AveragePooling3D`).
    AveragePooling3D = Pooling<Mean, 3>;
    /// The largest value of each channel (Keras: `GlobalMaxPooling1D`).
    GlobalMaxPooling1D = GlobalPooling<Max, 1>;
    /// The largest value of each channel (Keras: `GlobalMaxPooling2D`).
    GlobalMaxPooling2D = GlobalPooling<Max, 2>;
    /// The largest value of each channel (Keras: `GlobalMaxPooling3D`).
    GlobalMaxPooling3D = GlobalPooling<Max, 3>;
    /// The mean of each channel (Keras: `GlobalAveragePooling1D`).
    GlobalAveragePooling1D = GlobalPooling<Mean, 1>;
    /// The mean of each channel (Keras: `GlobalAveragePooling2D`).
    GlobalAveragePooling2D = GlobalPooling<Mean, 2>;
    /// The mean of each channel (Keras: `GlobalAveragePooling3D`).
    GlobalAveragePooling3D = GlobalPooling<Mean, 3>;
    /// The largest values of as many parts as asked for (Keras: `AdaptiveMaxPooling1D`).
    AdaptiveMaxPooling1D = AdaptivePooling<Max, 1>;
    /// The largest values of as many parts as asked for (Keras: `AdaptiveMaxPooling2D`).
    AdaptiveMaxPooling2D = AdaptivePooling<Max, 2>;
    /// The largest values of as many parts as asked for (Keras: `AdaptiveMaxPooling3D`).
    AdaptiveMaxPooling3D = AdaptivePooling<Max, 3>;
    /// The means of as many parts as asked for (Keras: `AdaptiveAveragePooling1D`).
    AdaptiveAveragePooling1D = AdaptivePooling<Mean, 1>;
    /// The means of as many parts as asked for (Keras: `AdaptiveAveragePooling2D`).
    AdaptiveAveragePooling2D = AdaptivePooling<Mean, 2>;
    /// The means of as many parts as asked for (Keras: `AdaptiveAveragePooling3D`).
    AdaptiveAveragePooling3D = AdaptivePooling<Mean, 3>;
}

/// What pooling does with the values.
pub trait Pool: std::fmt::Debug + Clone + Default + PartialEq + Send + Sync + 'static {
    /// TensorFlow's ops over windows: of images, and of volumes.
    const WINDOW: [&'static str; 2];
    /// TensorFlow's op over whole axes.
    const WHOLE: &'static str;
    /// The names of the layers over windows, by the number of dimensions.
    const NAMES: [&'static str; 3];
    /// The names of the layers over whole axes.
    const GLOBAL_NAMES: [&'static str; 3];
    /// The names of the layers over a number of parts.
    const ADAPTIVE_NAMES: [&'static str; 3];
}

macro_rules! pools {
    ($($(#[$doc:meta])* $name:ident: $window:literal, $whole:literal, $word:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name;

        impl Pool for $name {
            const WINDOW: [&'static str; 2] = [$window, concat!($window, "3D")];
            const WHOLE: &'static str = $whole;
            const NAMES: [&'static str; 3] =
                [concat!($word, "Pooling1D"), concat!($word, "Pooling2D"), concat!($word, "Pooling3D")];
            const GLOBAL_NAMES: [&'static str; 3] = [
                concat!("Global", $word, "Pooling1D"),
                concat!("Global", $word, "Pooling2D"),
                concat!("Global", $word, "Pooling3D"),
            ];
            const ADAPTIVE_NAMES: [&'static str; 3] = [
                concat!("Adaptive", $word, "Pooling1D"),
                concat!("Adaptive", $word, "Pooling2D"),
                concat!("Adaptive", $word, "Pooling3D"),
            ];
        }
    )*};
}

pools! {
    /// The largest value.
    Max: "MaxPool", "Max", "Max";
    /// The mean.
    Mean: "AvgPool", "Mean", "Average";
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
        f.field("pool_size", &mut self.pool_size);
        // Written out, as Keras does: the pool's size is the default.
        let mut strides = self.strides.or(Some(self.pool_size));
        f.field("strides", &mut strides);
        self.strides = strides;
        f.field("padding", &mut self.padding);
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
            let pool = call.op(P::WINDOW[usize::from(N == 3)]).input(x).attr("padding", self.padding.op());
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
        let x = call.filled(x, f64::NEG_INFINITY)?;
        Ok(vec![call.reduce(P::WHOLE, x, &axes, self.keepdims)?])
    }

    fn takes_ragged(&self) -> bool {
        N == 1 && self.data_format == DataFormat::ChannelsLast
    }
}

/// Pools as many parts of each of `N` spatial dimensions as asked for, which overlap where the extent isn't a multiple.
#[derive(Debug, Clone, PartialEq)]
pub struct AdaptivePooling<P: Pool, const N: usize> {
    output_size: [usize; N],
    data_format: DataFormat,
    pool: std::marker::PhantomData<P>,
}

impl<P: Pool, const N: usize> Default for AdaptivePooling<P, N> {
    fn default() -> Self {
        AdaptivePooling::new([1; N])
    }
}

impl<P: Pool, const N: usize> AdaptivePooling<P, N> {
    /// This many parts of each dimension; channels in the last axis.
    pub fn new(output_size: [usize; N]) -> Self {
        AdaptivePooling { output_size, data_format: DataFormat::ChannelsLast, pool: std::marker::PhantomData }
    }

    /// The same with the channels elsewhere.
    pub fn data_format(mut self, data_format: DataFormat) -> Self {
        self.data_format = data_format;
        self
    }

    fn first(&self) -> usize {
        if self.data_format == DataFormat::ChannelsFirst { 2 } else { 1 }
    }
}

impl<P: Pool, const N: usize> Layer for AdaptivePooling<P, N> {
    fn class_name(&self) -> &str {
        P::ADAPTIVE_NAMES.get(N.wrapping_sub(1)).unwrap_or(&"")
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("output_size", &mut self.output_size);
        f.field("data_format", &mut self.data_format);
        f.only_in(Dialect::Keras3);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let mut dims = input.dims()?.to_vec();
        if dims.len() != N + 2 {
            return Err(Error::mismatch(format!("it takes {} dimensions, but got {}", N + 2, input.shape)));
        }
        for (extent, size) in dims.iter_mut().skip(self.first()).zip(self.output_size) {
            *extent = Some(size);
        }
        Ok(vec![input.with_shape(dims)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        Ok(vec![adaptive(call, x, P::WHOLE, self.first(), &self.output_size)?])
    }
}

/// Reduces each dimension from `first` on to as many parts as `sizes` say.
pub(super) fn adaptive(call: &mut Call<'_>, mut x: Sym, op: &str, first: usize, sizes: &[usize]) -> Result<Sym> {
    let spec = call.spec(x);
    for (axis, &parts) in (first..).zip(sizes) {
        let extent = spec.known(axis as i64)?;
        if parts == 0 || extent == 0 || parts > 1 << 12 {
            return Err(Error::mismatch(format!("{extent} values in {parts} parts")));
        }
        let mut pooled = Vec::with_capacity(parts);
        for part in 0..parts {
            let bound = |n: usize| n.checked_mul(extent).ok_or_else(|| Error::limit("too many parts"));
            let (begin, end) = (bound(part)? / parts, bound(part + 1)?.div_ceil(parts));
            let mut slices = vec![(None, None, 1); axis];
            slices.push((Some(begin as i64), Some(end as i64), 1));
            let window = call.slice(x, &slices)?;
            pooled.push(call.reduce(op, window, &[axis as i64], true)?);
        }
        x = call.concat(&pooled, axis as i64)?;
    }
    Ok(x)
}
