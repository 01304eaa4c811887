//! Layers over images: Resizing, CenterCrop, and what changes images at random in training alone.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Error, Result};
use serde_json::Value;

use super::Entry;
use crate::config::{DataFormat, Fields, Object};
use crate::image::Interpolation;
use crate::layer::inputs;
use crate::{Call, Inputs, Layer, Slice, Spec};

/// The size of images, and where their channels are.
#[derive(Debug, Clone, PartialEq, Default)]
struct Size {
    height: usize,
    width: usize,
    data_format: Option<DataFormat>,
}

impl Size {
    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("height", &mut self.height);
        f.required("width", &mut self.width);
        f.keras3("data_format", &mut self.data_format);
    }

    fn is_first(&self) -> bool {
        self.data_format == Some(DataFormat::ChannelsFirst)
    }

    /// The axes of height and width.
    fn axes(&self, rank: usize) -> Result<[usize; 2]> {
        match rank {
            3 | 4 if self.is_first() => Ok([rank - 2, rank - 1]),
            3 | 4 => Ok([rank - 3, rank - 2]),
            _ => Err(Error::mismatch(format!("it takes images or batches of them, not {rank} dimensions"))),
        }
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let mut dims = input.dims()?.to_vec();
        for (axis, extent) in self.axes(dims.len())?.into_iter().zip([self.height, self.width]) {
            if let Some(d) = dims.get_mut(axis) {
                *d = Some(extent);
            }
        }
        Ok(vec![Spec::new(dims, inputs.compute_dtype())])
    }

    /// A part of the images, by the bounds of height and width.
    fn part(&self, call: &mut Call<'_>, x: Sym, rank: usize, bounds: [(usize, usize); 2]) -> Result<Sym> {
        let mut slices: Vec<Slice> = vec![(None, None, 1); rank];
        for (axis, (from, to)) in self.axes(rank)?.into_iter().zip(bounds) {
            if let Some(slice) = slices.get_mut(axis) {
                *slice = (Some(from as i64), Some(to as i64), 1);
            }
        }
        call.slice(x, &slices)
    }

    /// Resizes images of either layout and of three or four dimensions.
    fn resize(&self, call: &mut Call<'_>, x: Sym, rank: usize, way: &Interpolation, antialias: bool) -> Result<Sym> {
        let mut x = x;
        if rank == 3 {
            let zero = call.int(0)?;
            x = call.apply("ExpandDims", &[x, zero])?;
        }
        if self.is_first() {
            x = call.transpose(x, &[0, 2, 3, 1])?;
        }
        let size = call.ints(&[self.height as i64, self.width as i64])?;
        let mut y = way.resize(call, x, size, antialias)?;
        if self.is_first() {
            y = call.transpose(y, &[0, 3, 1, 2])?;
        }
        if rank == 3 {
            y = call.op("Squeeze").input(y).attr("squeeze_dims", vec![0i64]).one()?;
        }
        Ok(y)
    }

    /// The largest part in the middle that has the size's aspect ratio (Keras: `smart_resize`).
    fn cropped(&self, call: &mut Call<'_>, x: Sym, spec: &Spec) -> Result<Sym> {
        let [h, w] = self.axes(spec.rank()?)?;
        let (height, width) = (spec.known(h as i64)?, spec.known(w as i64)?);
        let (cut_height, cut_width) = self.fitting(height, width)?;
        let (cut_height, cut_width) = (cut_height.min(height), cut_width.min(width));
        let (top, left) = ((height - cut_height) / 2, (width - cut_width) / 2);
        self.part(call, x, spec.rank()?, [(top, top + cut_height), (left, left + cut_width)])
    }

    /// Height and width that go with the other one by the size's aspect ratio.
    fn fitting(&self, height: usize, width: usize) -> Result<(usize, usize)> {
        if self.height == 0 || self.width == 0 {
            return Err(Error::corrupt("an image without height or width"));
        }
        let scaled = |a: usize, b: usize, c: usize| ((a as f32 * b as f32) / c as f32) as usize;
        Ok((scaled(width, self.height, self.width), scaled(height, self.width, self.height)))
    }
}

/// Images in another size (Keras: `Resizing`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resizing {
    size: Size,
    interpolation: Interpolation,
    crop_to_aspect_ratio: bool,
    pad_to_aspect_ratio: bool,
    fill_mode: Option<String>,
    fill_value: f64,
    antialias: bool,
}

impl Resizing {
    /// Of this height and width.
    pub fn new(height: usize, width: usize) -> Self {
        Resizing { size: Size { height, width, data_format: None }, ..Resizing::default() }
    }

    /// The same with values found this way.
    pub fn interpolation(mut self, interpolation: Interpolation) -> Self {
        self.interpolation = interpolation;
        self
    }
}

impl Layer for Resizing {
    fn class_name(&self) -> &str {
        "Resizing"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        self.size.visit(f);
        f.field("interpolation", &mut self.interpolation);
        f.field("crop_to_aspect_ratio", &mut self.crop_to_aspect_ratio);
        f.keras3("pad_to_aspect_ratio", &mut self.pad_to_aspect_ratio);
        f.keras3("fill_mode", &mut self.fill_mode);
        f.keras3("fill_value", &mut self.fill_value);
        f.keras3("antialias", &mut self.antialias);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        self.size.output(inputs)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let spec = call.spec(x);
        let dtype = call.inputs().compute_dtype();
        let mut x = call.cast(x, dtype)?;
        if self.crop_to_aspect_ratio {
            x = self.size.cropped(call, x, &spec)?;
        } else if self.pad_to_aspect_ratio {
            if self.fill_mode.as_deref().is_some_and(|m| m != "constant") {
                return Err(Error::unsupported(format!("fill_mode {:?}", self.fill_mode)));
            }
            let [h, w] = self.size.axes(spec.rank()?)?;
            let (height, width) = (spec.known(h as i64)?, spec.known(w as i64)?);
            let (tall, wide) = self.size.fitting(height, width)?;
            let mut paddings = vec![0i64; 2 * spec.rank()?];
            for (axis, more) in [(h, tall.saturating_sub(height)), (w, wide.saturating_sub(width))] {
                let half = (more / 2) as i64;
                paddings[2 * axis] = half;
                paddings[2 * axis + 1] = half;
            }
            let paddings = call.ints(&paddings)?;
            let paddings = call.reshape(paddings, &[-1, 2])?;
            let value = call.scalar(self.fill_value, x)?;
            x = call.apply("PadV2", &[x, paddings, value])?;
        }
        let y = self.size.resize(call, x, spec.rank()?, &self.interpolation, self.antialias)?;
        Ok(vec![call.cast(y, dtype)?])
    }
}

macro_rules! crops {
    ($($(#[$doc:meta])* $name:ident: $cuts:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct $name {
            size: Size,
            seed: Value,
            /// Whether Keras 2 wrote it, whose random crops are resized at inference; Keras 3's pass.
            keras2: bool,
        }

        impl $name {
            /// Of this height and width.
            pub fn new(height: usize, width: usize) -> Self {
                $name { size: Size { height, width, data_format: None }, ..$name::default() }
            }
        }

        impl Layer for $name {
            fn class_name(&self) -> &str {
                stringify!($name)
            }

            fn visit(&mut self, f: &mut Fields<'_>) {
                self.size.visit(f);
                if !$cuts {
                    f.field("seed", &mut self.seed);
                }
                let keras2 = f.dialect() != Dialect::Keras3;
                if f.is_reading() {
                    self.keras2 = keras2;
                } else if !$cuts && self.keras2 != keras2 {
                    f.note("at inference Keras 2 resizes images here and Keras 3 passes them on: outputs will differ");
                }
            }

            fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
                if $cuts || self.keras2 {
                    return self.size.output(inputs);
                }
                Ok(vec![inputs.first()?.clone()])
            }

            fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
                let [x] = inputs(given)?;
                if !$cuts && !self.keras2 {
                    return Ok(vec![x]);
                }
                let spec = call.spec(x);
                let dtype = call.inputs().compute_dtype();
                let x = call.cast(x, dtype)?;
                let [h, w] = self.size.axes(spec.rank()?)?;
                let (height, width) = (spec.known(h as i64)?, spec.known(w as i64)?);
                let (top, left) = (height.checked_sub(self.size.height), width.checked_sub(self.size.width));
                if let (Some(top), Some(left), true) = (top, left, $cuts) {
                    let (top, left) = (top / 2, left / 2);
                    let bounds = [(top, top + self.size.height), (left, left + self.size.width)];
                    return Ok(vec![self.size.part(call, x, spec.rank()?, bounds)?]);
                }
                let x = self.size.cropped(call, x, &spec)?;
                let y = self.size.resize(call, x, spec.rank()?, &Interpolation::default(), false)?;
                Ok(vec![call.cast(y, dtype)?])
            }

            /// What passes does so as it is.
            fn autocasts(&self) -> bool {
                $cuts || self.keras2
            }
        }
    )*};
}

crops! {
    /// The middle of images; smaller ones are resized (Keras: `CenterCrop`).
    CenterCrop: true;
    /// A part of images at random in training; at inference Keras 2 resizes their middle (Keras: `RandomCrop`).
    RandomCrop: false;
}

/// A class of layers that change images at random in training alone: its name, the keys of its config in both dialects
/// and in Keras 3's alone, and whether Keras 2 has it.
#[derive(Debug, PartialEq)]
struct Augmentation {
    class: &'static str,
    keys: &'static [&'static str],
    young: &'static [&'static str],
    keras2: bool,
}

/// A layer that changes images at random in training, and passes them on at inference (Keras: `RandomFlip` and others).
#[derive(Debug, Clone, PartialEq)]
pub struct RandomImages {
    class: &'static Augmentation,
    config: Object,
}

impl Layer for RandomImages {
    fn class_name(&self) -> &str {
        self.class.class
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        let young: &[&str] = if f.dialect() == Dialect::Keras3 || f.is_reading() { self.class.young } else { &[] };
        for key in self.class.keys.iter().chain(young) {
            let mut value = self.config.get(*key).cloned();
            if f.is_reading() && !f.has(key) || !f.is_reading() && value.is_none() {
                continue;
            }
            let mut there = value.take().unwrap_or_default();
            f.field(key, &mut there);
            self.config.insert((*key).to_owned(), there);
        }
        match self.class.class {
            "RandomHeight" | "RandomWidth" => f.only_in(Dialect::Keras2),
            _ if !self.class.keras2 => f.only_in(Dialect::Keras3),
            _ => {}
        }
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![Spec { shape: inputs.first()?.shape.clone(), dtype: inputs.compute_dtype() }])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        Ok(vec![call.cast(x, call.inputs().compute_dtype())?])
    }
}

macro_rules! augmentations {
    ($($class:ident: $keras2:literal, [$($key:literal)*], [$($young:literal)*];)*) => {
        pub(super) const LAYERS: &[Entry] = &[
            Entry::of::<CenterCrop>(&["CenterCrop"]),
            Entry::of::<RandomCrop>(&["RandomCrop"]),
            Entry::of::<Resizing>(&["Resizing"]),
            $(Entry::made(&[stringify!($class)], || {
                static CLASS: Augmentation = Augmentation {
                    class: stringify!($class),
                    keys: &[$($key),*],
                    young: &["bounding_box_format", "data_format", $($young),*],
                    keras2: $keras2,
                };
                Box::new(RandomImages { class: &CLASS, config: Object::new() })
            }),)*
        ];
    };
}

augmentations! {
    AugMix: false, ["value_range" "num_chains" "chain_depth" "factor" "alpha" "all_ops" "interpolation" "seed"], [];
    CutMix: false, ["factor" "seed"], [];
    Equalization: false, ["bins" "value_range"], [];
    MaxNumBoundingBoxes: false, ["max_number" "fill_value"], [];
    MixUp: false, ["alpha" "seed"], [];
    RandAugment: false, ["value_range" "num_ops" "factor" "interpolation" "seed"], [];
    RandomBrightness: true, ["factor" "value_range" "seed"], [];
    RandomColorDegeneration: false, ["factor" "value_range" "seed"], [];
    RandomColorJitter: false, ["value_range" "brightness_factor" "contrast_factor" "saturation_factor" "hue_factor" "seed"], [];
    RandomContrast: true, ["factor" "seed"], ["value_range"];
    RandomElasticTransform: false, ["factor" "scale" "interpolation" "fill_mode" "fill_value" "value_range" "seed"], [];
    RandomErasing: false, ["factor" "scale" "fill_value" "value_range" "seed"], [];
    RandomFlip: true, ["mode" "seed"], [];
    RandomGaussianBlur: false, ["factor" "kernel_size" "sigma" "value_range" "seed"], [];
    RandomGrayscale: false, ["factor" "seed"], [];
    RandomHeight: true, ["factor" "interpolation" "seed"], [];
    RandomHue: false, ["factor" "value_range" "seed"], [];
    RandomInvert: false, ["factor" "value_range" "seed"], [];
    RandomPerspective: false, ["factor" "scale" "interpolation" "fill_value" "seed"], [];
    RandomPosterization: false, ["factor" "value_range" "seed"], [];
    RandomRotation: true, ["factor" "fill_mode" "fill_value" "interpolation" "seed"], [];
    RandomSaturation: false, ["factor" "value_range" "seed"], [];
    RandomSharpness: false, ["factor" "value_range" "seed"], [];
    RandomShear: false, ["x_factor" "y_factor" "fill_mode" "fill_value" "interpolation" "seed"], [];
    RandomTranslation: true, ["height_factor" "width_factor" "fill_mode" "fill_value" "interpolation" "seed"], [];
    RandomWidth: true, ["factor" "interpolation" "seed"], [];
    RandomZoom: true, ["height_factor" "width_factor" "fill_mode" "fill_value" "interpolation" "seed"], [];
    Solarization: false, ["addition_factor" "threshold_factor" "value_range" "seed"], [];
}
