//! Normalization: by the statistics that training saw, or by a row's own.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Dialect, Error, Result};
use serde_json::Value;

use super::Entry;
use super::merge::l2_normalized;
use crate::config::{Axes, Fields, Initializer, resolve_axis};
use crate::layer::{WeightOptions, WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<BatchNormalization>(&[
        "BatchNormalization",
        "BatchNormalizationV1",
        "BatchNormalizationV2",
        "SyncBatchNormalization",
    ]),
    Entry::of::<GroupNormalization>(&["GroupNormalization"]),
    Entry::of::<LayerNormalization>(&["LayerNormalization"]),
    Entry::of::<RMSNormalization>(&["RMSNormalization"]),
    Entry::of::<UnitNormalization>(&["UnitNormalization"]),
];

/// The learned scale and offset after a normalization, each of which may be absent.
#[derive(Debug, Clone, PartialEq)]
struct Affine {
    center: bool,
    scale: bool,
    beta: WeightOptions,
    gamma: WeightOptions,
}

impl Default for Affine {
    fn default() -> Self {
        Affine {
            center: true,
            scale: true,
            beta: WeightOptions::new(Initializer::Zeros),
            gamma: WeightOptions::new(Initializer::Ones),
        }
    }
}

/// The methods that set what a layer adds to the variance, and whether it has an offset and a scale.
macro_rules! affine_methods {
    ($layer:ty) => {
        impl $layer {
            /// The same with this added to the variance.
            pub fn epsilon(mut self, epsilon: f64) -> Self {
                self.epsilon = epsilon;
                self
            }

            /// The same with or without an offset.
            pub fn center(mut self, center: bool) -> Self {
                self.affine.center = center;
                self
            }

            /// The same with or without a scale.
            pub fn scale(mut self, scale: bool) -> Self {
                self.affine.scale = scale;
                self
            }
        }
    };
}

impl Affine {
    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("center", &mut self.center);
        f.field("scale", &mut self.scale);
        // Keras 1's names.
        f.aliased("beta_initializer", &["beta_init"], &mut self.beta.initializer);
        f.aliased("gamma_initializer", &["gamma_init"], &mut self.gamma.initializer);
        f.field("beta_regularizer", &mut self.beta.regularizer);
        f.field("gamma_regularizer", &mut self.gamma.regularizer);
        f.field("beta_constraint", &mut self.beta.constraint);
        f.field("gamma_constraint", &mut self.gamma.constraint);
    }

    fn weights(&self, shape: &[usize]) -> Vec<WeightSpec> {
        let gamma = self.scale.then(|| self.gamma.weight("gamma", shape));
        gamma.into_iter().chain(self.center.then(|| self.beta.weight("beta", shape))).collect()
    }

    /// Scale and offset in this dtype, of a shape that broadcasts.
    fn read(&self, call: &mut Call<'_>, dtype: DType, shape: Option<&[i64]>) -> Result<[Option<Sym>; 2]> {
        let gamma = if self.scale { Some(read(call, "gamma", dtype, shape)?) } else { None };
        let beta = if self.center { Some(read(call, "beta", dtype, shape)?) } else { None };
        Ok([gamma, beta])
    }
}

/// A weight in this dtype, of this shape.
fn read(call: &mut Call<'_>, name: &str, dtype: DType, shape: Option<&[i64]>) -> Result<Sym> {
    let weight = call.raw_weight(name)?;
    let weight = call.cast(weight, dtype)?;
    shape.map_or(Ok(weight), |shape| call.reshape(weight, shape))
}

/// Mean, variance, scale and offset applied to `x`, the last two where there are any: all of shapes that broadcast.
fn normalize(
    call: &mut Call<'_>,
    x: Sym,
    [mean, variance]: [Sym; 2],
    [scale, offset]: [Option<Sym>; 2],
    epsilon: f64,
) -> Result<Sym> {
    let factor = inverse_root(call, variance, epsilon, scale)?;
    let scaled = call.apply("Mul", &[x, factor])?;
    let shift = call.apply("Mul", &[mean, factor])?;
    match offset {
        Some(offset) => {
            let shift = call.apply("Sub", &[offset, shift])?;
            call.apply("AddV2", &[scaled, shift])
        }
        None => call.apply("Sub", &[scaled, shift]),
    }
}

/// `scale / sqrt(x + epsilon)`.
fn inverse_root(call: &mut Call<'_>, x: Sym, epsilon: f64, scale: Option<Sym>) -> Result<Sym> {
    let epsilon = call.scalar(epsilon, x)?;
    let y = call.apply("AddV2", &[x, epsilon])?;
    let factor = call.apply("Rsqrt", &[y])?;
    scale.map_or(Ok(factor), |scale| call.apply("Mul", &[factor, scale]))
}

/// Mean and variance along these axes, which stay.
fn moments(call: &mut Call<'_>, x: Sym, axes: &[i64]) -> Result<[Sym; 2]> {
    let mean = call.reduce("Mean", x, axes, true)?;
    let squares = call.apply("SquaredDifference", &[x, mean])?;
    Ok([mean, call.reduce("Mean", squares, axes, true)?])
}

/// The dtype in which means and variances are taken: half precision isn't enough.
fn at_least_f32(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// The shape under which weights over these axes broadcast; `None` where they do as they are.
fn broadcast_shape(spec: &Spec, axes: &[usize]) -> Result<Option<Vec<i64>>> {
    let rank = spec.rank()?;
    if axes.iter().copied().eq(rank.saturating_sub(axes.len())..rank) {
        return Ok(None);
    }
    let extent =
        |a: usize| if axes.contains(&a) { spec.known(a as i64).map(|d| d as i64) } else { Ok(1) };
    (0..rank).map(extent).collect::<Result<Vec<_>>>().map(Some)
}

/// The extents of these axes, which must be known.
fn extents(spec: &Spec, axes: &[usize]) -> Result<Vec<usize>> {
    axes.iter().map(|&a| spec.known(a as i64)).collect()
}

fn signed(axes: &[usize]) -> Vec<i64> {
    axes.iter().map(|&a| a as i64).collect()
}

/// Normalizes each channel by the mean and variance that training saw (Keras: `BatchNormalization`).
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNormalization {
    axis: Axes,
    momentum: f64,
    epsilon: f64,
    affine: Affine,
    moving_mean: Initializer,
    moving_variance: Initializer,
    synchronized: bool,
    renorm: bool,
    renorm_clipping: Value,
    renorm_momentum: f64,
    /// What the statistics are of: see [`BatchNormalization::mode`].
    mode: usize,
}

impl Default for BatchNormalization {
    fn default() -> Self {
        BatchNormalization {
            axis: Axes::one(-1),
            momentum: 0.99,
            epsilon: 1e-3,
            affine: Affine::default(),
            moving_mean: Initializer::Zeros,
            moving_variance: Initializer::Ones,
            synchronized: false,
            renorm: false,
            renorm_clipping: Value::Null,
            renorm_momentum: 0.99,
            mode: 0,
        }
    }
}

affine_methods!(BatchNormalization);

impl BatchNormalization {
    /// Normalizes the last axis.
    pub fn new() -> Self {
        BatchNormalization::default()
    }

    /// The same for another axis.
    pub fn axis(mut self, axis: i64) -> Self {
        self.axis = Axes::one(axis);
        self
    }

    /// The same in one of Keras 1's other modes: 1 normalizes each row along the last axis by its own mean and
    /// variance, 2 each channel by those of the batch at hand. No later version has them.
    pub fn mode(mut self, mode: usize) -> Self {
        self.mode = mode;
        self
    }

    /// The same with this share of the old statistics kept at each step of training.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }
}

impl Layer for BatchNormalization {
    fn class_name(&self) -> &str {
        "BatchNormalization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        // Keras 2 writes a list, which Keras 3 doesn't take.
        if !f.is_reading() && self.axis.axes.len() == 1 {
            self.axis.listed = f.dialect() != Dialect::Keras3;
        }
        if self.axis.axes.len() > 1 && f.dialect() == Dialect::Keras3 {
            f.note("Keras 3 takes one axis alone here");
        }
        f.field("axis", &mut self.axis);
        f.field("momentum", &mut self.momentum);
        f.field("epsilon", &mut self.epsilon);
        self.affine.visit(f);
        f.field("moving_mean_initializer", &mut self.moving_mean);
        f.field("moving_variance_initializer", &mut self.moving_variance);
        f.keras3("synchronized", &mut self.synchronized);
        f.sparse("renorm", &mut self.renorm);
        if f.is_reading() || self.renorm {
            f.field("renorm_clipping", &mut self.renorm_clipping);
            f.field("renorm_momentum", &mut self.renorm_momentum);
        }
        f.read_only("mode", &mut self.mode);
        if !f.is_reading() && self.mode != 0 {
            f.note(format!("mode {} of Keras 1 is left out: later versions normalize by what training saw", self.mode));
        }
        if self.mode > 2 {
            f.fail(Error::unsupported(format!("BatchNormalization has no mode {}", self.mode)));
        }
        for key in ["fused", "virtual_batch_size", "name_scope", "adjustment"] {
            f.constant(key, &[], Value::Null);
        }
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let input = inputs.first()?;
        let axes = self.axis.resolve(input.rank()?)?;
        // Over several axes Keras 2 gives the weights all dimensions of the input.
        let shape = match broadcast_shape(input, &axes)? {
            Some(shape) if axes.len() > 1 => shape.into_iter().map(|d| d as usize).collect(),
            None if axes.len() > 1 => {
                let mut shape = vec![1; input.rank()? - axes.len()];
                shape.extend(extents(input, &axes)?);
                shape
            }
            _ => extents(input, &axes)?,
        };
        let fixed = |name: &str, initializer| WeightSpec::new(name, shape.clone(), initializer).fixed();
        let mut weights = self.affine.weights(&shape);
        weights.push(fixed("moving_mean", &self.moving_mean));
        weights.push(fixed("moving_variance", &self.moving_variance));
        if self.renorm {
            weights.push(fixed("moving_stddev", &self.moving_variance));
            weights.push(fixed("renorm_mean", &self.moving_mean));
            weights.push(fixed("renorm_stddev", &self.moving_variance));
        }
        Ok(weights)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let spec = call.spec(x);
        let axes = self.axis.resolve(spec.rank()?)?;
        let shape = if axes.len() == 1 { broadcast_shape(&spec, &axes)? } else { None };
        let dtype = at_least_f32(spec.dtype);
        let wide = call.cast(x, dtype)?;
        let affine = self.affine.read(call, dtype, shape.as_deref())?;
        let rank = spec.rank()?;
        let [mean, variance] = match self.mode {
            0 => [
                read(call, "moving_mean", dtype, shape.as_deref())?,
                read(call, "moving_variance", dtype, shape.as_deref())?,
            ],
            1 => {
                let [mean, variance] = moments(call, wide, &[-1])?;
                // Keras 1 adds epsilon to the deviation once more.
                let epsilon = call.scalar(self.epsilon, wide)?;
                let sum = call.apply("AddV2", &[variance, epsilon])?;
                let deviation = call.apply("Sqrt", &[sum])?;
                let deviation = call.apply("AddV2", &[deviation, epsilon])?;
                let square = call.apply("Square", &[deviation])?;
                [mean, call.apply("Sub", &[square, epsilon])?]
            }
            _ => {
                let others: Vec<i64> = (0..rank).filter(|a| !axes.contains(a)).map(|a| a as i64).collect();
                moments(call, wide, &others)?
            }
        };
        let y = normalize(call, wide, [mean, variance], affine, self.epsilon)?;
        Ok(vec![call.cast(y, spec.dtype)?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}

/// Normalizes each row by its own mean and variance (Keras: `LayerNormalization`).
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormalization {
    axis: Axes,
    epsilon: f64,
    affine: Affine,
    rms_scaling: bool,
}

impl Default for LayerNormalization {
    fn default() -> Self {
        let axis = Axes { axes: vec![-1], listed: true };
        LayerNormalization { axis, epsilon: 1e-3, affine: Affine::default(), rms_scaling: false }
    }
}

affine_methods!(LayerNormalization);

impl LayerNormalization {
    /// Normalizes the last axis.
    pub fn new() -> Self {
        LayerNormalization::default()
    }

    /// The same over these axes.
    pub fn axes(mut self, axes: impl Into<Vec<i64>>) -> Self {
        self.axis = Axes { axes: axes.into(), listed: true };
        self
    }

    /// The weights that there are: scaling by the deviation alone always has a scale, and never an offset.
    fn learned(&self) -> Affine {
        let affine = self.affine.clone();
        if self.rms_scaling { Affine { scale: true, center: false, ..affine } } else { affine }
    }
}

impl Layer for LayerNormalization {
    fn class_name(&self) -> &str {
        "LayerNormalization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("axis", &mut self.axis);
        f.field("epsilon", &mut self.epsilon);
        self.affine.visit(f);
        f.keras3("rms_scaling", &mut self.rms_scaling);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let input = inputs.first()?;
        let axes = self.axis.resolve(input.rank()?)?;
        Ok(self.learned().weights(&extents(input, &axes)?))
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let spec = call.spec(x);
        let axes = self.axis.resolve(spec.rank()?)?;
        let dtype = at_least_f32(spec.dtype);
        let wide = call.cast(x, dtype)?;
        let shape = broadcast_shape(&spec, &axes)?;
        let affine = self.learned().read(call, dtype, shape.as_deref())?;
        let statistics = moments(call, wide, &signed(&axes))?;
        let y = if self.rms_scaling {
            let factor = inverse_root(call, statistics[1], self.epsilon, None)?;
            let y = call.apply("Mul", &[wide, factor])?;
            affine[0].map_or(Ok(y), |gamma| call.apply("Mul", &[y, gamma]))?
        } else {
            normalize(call, wide, statistics, affine, self.epsilon)?
        };
        Ok(vec![call.cast(y, spec.dtype)?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}

/// Normalizes groups of each row's channels by their own mean and variance (Keras: `GroupNormalization`).
#[derive(Debug, Clone, PartialEq)]
pub struct GroupNormalization {
    groups: i64,
    axis: i64,
    epsilon: f64,
    affine: Affine,
}

impl Default for GroupNormalization {
    fn default() -> Self {
        GroupNormalization { groups: 32, axis: -1, epsilon: 1e-3, affine: Affine::default() }
    }
}

impl GroupNormalization {
    /// This many groups of the last axis's channels; -1 for a group of each.
    pub fn new(groups: i64) -> Self {
        GroupNormalization { groups, ..GroupNormalization::default() }
    }

    /// The same for another axis.
    pub fn axis(mut self, axis: i64) -> Self {
        self.axis = axis;
        self
    }

    /// The same with this added to the variance.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// The axis of the channels, how many groups there are, and how many channels each has.
    fn divide(&self, input: &Spec) -> Result<(usize, usize, usize)> {
        let axis = resolve_axis(self.axis, input.rank()?)?;
        let channels = input.known(axis as i64)?;
        let groups = if self.groups == -1 { channels } else { usize::try_from(self.groups).unwrap_or(0) };
        match channels.checked_div(groups) {
            Some(each) if each * groups == channels && axis > 0 => Ok((axis, groups, each)),
            _ => Err(Error::mismatch(format!("{channels} channels don't divide into {} groups", self.groups))),
        }
    }
}

impl Layer for GroupNormalization {
    fn class_name(&self) -> &str {
        "GroupNormalization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("groups", &mut self.groups);
        f.field("axis", &mut self.axis);
        f.field("epsilon", &mut self.epsilon);
        self.affine.visit(f);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let input = inputs.first()?;
        let (axis, ..) = self.divide(input)?;
        Ok(self.affine.weights(&extents(input, &[axis])?))
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let spec = call.spec(x);
        let (axis, groups, each) = self.divide(&spec)?;
        let rank = spec.rank()?;
        let whole = (0..rank).map(|a| call.extent(x, a)).collect::<Result<Vec<_>>>()?;
        let mut parted = whole.clone();
        let part = [call.int(groups as i64)?, call.int(each as i64)?];
        parted.splice(axis..=axis, part);
        let (whole, parted) = (call.shape(&whole)?, call.shape(&parted)?);
        let dtype = at_least_f32(spec.dtype);
        let wide = call.cast(x, dtype)?;
        let grouped = call.apply("Reshape", &[wide, parted])?;
        let mut shape = vec![1; rank + 1];
        shape.splice(axis..axis + 2, [groups as i64, each as i64]);
        let affine = self.affine.read(call, dtype, Some(&shape))?;
        let axes: Vec<i64> = (1..=rank as i64).filter(|&a| a != axis as i64).collect();
        let statistics = moments(call, grouped, &axes)?;
        let y = normalize(call, grouped, statistics, affine, self.epsilon)?;
        let y = call.apply("Reshape", &[y, whole])?;
        Ok(vec![call.cast(y, spec.dtype)?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}

/// Divides each row by the root of its mean square, times a learned scale (Keras 3: `RMSNormalization`).
#[derive(Debug, Clone, PartialEq)]
pub struct RMSNormalization {
    axis: Axes,
    epsilon: f64,
}

impl Default for RMSNormalization {
    fn default() -> Self {
        RMSNormalization { axis: Axes { axes: vec![-1], listed: true }, epsilon: 1e-6 }
    }
}

impl RMSNormalization {
    /// Normalizes the last axis.
    pub fn new() -> Self {
        RMSNormalization::default()
    }

    /// The same with this added to the mean square.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }
}

impl Layer for RMSNormalization {
    fn class_name(&self) -> &str {
        "RMSNormalization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("axis", &mut self.axis);
        f.field("epsilon", &mut self.epsilon);
        f.only_in(Dialect::Keras3);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let input = inputs.first()?;
        let axes = self.axis.resolve(input.rank()?)?;
        Ok(vec![WeightSpec::new("scale", extents(input, &axes)?, &Initializer::Ones)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let spec = call.spec(x);
        let axes = self.axis.resolve(spec.rank()?)?;
        let dtype = at_least_f32(spec.dtype);
        let wide = call.cast(x, dtype)?;
        let shape = broadcast_shape(&spec, &axes)?;
        let scale = read(call, "scale", dtype, shape.as_deref())?;
        let squares = call.apply("Square", &[wide])?;
        let mean = call.reduce("Mean", squares, &signed(&axes), true)?;
        let factor = inverse_root(call, mean, self.epsilon, None)?;
        let y = call.apply("Mul", &[wide, factor])?;
        let y = call.apply("Mul", &[y, scale])?;
        Ok(vec![call.cast(y, spec.dtype)?])
    }
}

/// Divides each row by its length, so that it has length 1 (Keras: `UnitNormalization`).
#[derive(Debug, Clone, PartialEq)]
pub struct UnitNormalization {
    axis: Axes,
}

impl Default for UnitNormalization {
    fn default() -> Self {
        UnitNormalization { axis: Axes::one(-1) }
    }
}

impl UnitNormalization {
    /// Normalizes the last axis.
    pub fn new() -> Self {
        UnitNormalization::default()
    }
}

impl Layer for UnitNormalization {
    fn class_name(&self) -> &str {
        "UnitNormalization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("axis", &mut self.axis);
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let axes = self.axis.resolve(call.spec(x).rank()?)?;
        Ok(vec![l2_normalized(call, x, &signed(&axes))?])
    }

    fn passes_mask(&self) -> bool {
        true
    }
}
