//! Layers that spread the contrast of images, at inference too: AutoContrast, ContrastLimitedAdaptiveHistogramEqualization.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::{DType, Tensor, checked_elements};
use modelark_artifact::{Dialect, Error, Result};

use super::Entry;
use crate::config::{DataFormat, Fields};
use crate::layer::inputs;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<AutoContrast>(&["AutoContrast"]),
    Entry::of::<Clahe>(&["ContrastLimitedAdaptiveHistogramEqualization"]),
];

/// The range of bytes.
const BYTES: [f64; 2] = [0.0, 255.0];

/// The values of images from one range in another.
fn rescaled(call: &mut Call<'_>, x: Sym, from: [f64; 2], to: [f64; 2]) -> Result<Sym> {
    if from == to {
        return Ok(x);
    }
    let (low, extent) = (call.scalar(from[0], x)?, call.scalar(from[1] - from[0], x)?);
    let (scale, least) = (call.scalar(to[1] - to[0], x)?, call.scalar(to[0], x)?);
    let x = call.apply("Sub", &[x, low])?;
    let x = call.apply("RealDiv", &[x, extent])?;
    let x = call.apply("Mul", &[x, scale])?;
    call.apply("AddV2", &[x, least])
}

/// The value within bounds.
fn clipped(call: &mut Call<'_>, x: Sym, low: f64, high: f64) -> Result<Sym> {
    let (low, high) = (call.scalar(low, x)?, call.scalar(high, x)?);
    let x = call.apply("Maximum", &[x, low])?;
    call.apply("Minimum", &[x, high])
}

/// Stretches each channel from its darkest to its lightest value over the whole range (Keras: `AutoContrast`).
#[derive(Debug, Clone, PartialEq)]
pub struct AutoContrast {
    value_range: [f64; 2],
    data_format: DataFormat,
}

impl Default for AutoContrast {
    fn default() -> Self {
        AutoContrast { value_range: BYTES, data_format: DataFormat::ChannelsLast }
    }
}

impl Layer for AutoContrast {
    fn class_name(&self) -> &str {
        "AutoContrast"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("data_format", &mut self.data_format);
        f.field("value_range", &mut self.value_range);
        f.only_in(Dialect::Keras3);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![Spec { shape: inputs.first()?.shape.clone(), dtype: inputs.compute_dtype() }])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let original = call.cast(x, call.inputs().compute_dtype())?;
        let x = rescaled(call, original, self.value_range, BYTES)?;
        let (low, high) = (call.reduce("Min", x, &[1, 2], true)?, call.reduce("Max", x, &[1, 2], true)?);
        let extent = call.apply("Sub", &[high, low])?;
        let most = call.scalar(255.0, x)?;
        let scale = call.apply("RealDiv", &[most, extent])?;
        let offset = call.apply("Neg", &[low])?;
        let offset = call.apply("Mul", &[offset, scale])?;
        let y = call.apply("Mul", &[x, scale])?;
        let y = call.apply("AddV2", &[y, offset])?;
        let y = clipped(call, y, 0.0, 255.0)?;
        let y = rescaled(call, y, BYTES, self.value_range)?;
        let flat = call.apply("IsNan", &[y])?;
        Ok(vec![call.apply("SelectV2", &[flat, original, y])?])
    }
}

/// Spreads the contrast within tiles of images by their histograms, of which none counts too much (Keras:
/// `ContrastLimitedAdaptiveHistogramEqualization`). The images' size must be known.
#[derive(Debug, Clone, PartialEq)]
pub struct Clahe {
    value_range: [f64; 2],
    clip_limit: f64,
    tile_grid_size: [usize; 2],
    data_format: DataFormat,
}

impl Default for Clahe {
    fn default() -> Self {
        Clahe {
            value_range: BYTES,
            clip_limit: 4.0,
            tile_grid_size: [8, 8],
            data_format: DataFormat::ChannelsLast,
        }
    }
}

/// Values that a pixel has.
const BINS: usize = 256;

/// Along one axis: how many tiles there are, how large they are, and how large the image is.
#[derive(Debug, Clone, Copy)]
struct Tiles {
    count: usize,
    size: usize,
    extent: usize,
}

impl Tiles {
    fn of(extent: usize, count: usize) -> Result<Self> {
        let size = extent.checked_add(count).and_then(|e| e.checked_sub(1)).and_then(|e| e.checked_div(count));
        let size = size.filter(|&s| s > 0 && s.checked_mul(count).is_some());
        size.map(|size| Tiles { count, size, extent })
            .ok_or_else(|| Error::corrupt("images and grids of tiles have at least one row and column"))
    }

    fn padded(self) -> usize {
        self.size * self.count
    }

    /// For each row the tiles whose mappings it mixes, counted with one around the grid, and the second one's share.
    fn mixed(self) -> Vec<(usize, usize, f32)> {
        let mix = |i: usize| {
            let place = (i as f32 - self.size as f32 / 2.0) / self.size as f32 + 1.0;
            let first = place.floor();
            let last = (self.count + 1) as f32;
            (first.clamp(0.0, last) as usize, (first + 1.0).clamp(0.0, last) as usize, place - first)
        };
        (0..self.padded()).map(mix).collect()
    }
}

impl Clahe {
    /// What each value of each tile's channel becomes: `[batch, rows, columns, channels, 256]`.
    fn mappings(&self, call: &mut Call<'_>, x: Sym, [rows, columns]: [Tiles; 2], channels: usize) -> Result<Sym> {
        let area = rows.size * columns.size;
        let int = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let tiles = call.reshape(
            x,
            &[-1, int(rows.count), int(rows.size), int(columns.count), int(columns.size), int(channels)],
        )?;
        let tiles = call.transpose(tiles, &[0, 1, 3, 5, 2, 4])?;
        let tiles = call.reshape(tiles, &[-1, int(area)])?;
        let values = call.cast(tiles, DType::I32)?;
        let values = clipped(call, values, 0.0, 255.0)?;
        let count = call.extent(values, 0)?;
        let (zero, one, bins) = (call.int(0)?, call.int(1)?, call.int(BINS as i64)?);
        let offsets = call.apply("Range", &[zero, count, one])?;
        let offsets = call.apply("Mul", &[offsets, bins])?;
        let offsets = call.reshape(offsets, &[-1, 1])?;
        let places = call.apply("AddV2", &[values, offsets])?;
        let ones = call.cast(places, DType::F32)?;
        let ones = call.apply("OnesLike", &[ones])?;
        let all = call.apply("Mul", &[count, bins])?;
        let counts = call.apply("UnsortedSegmentSum", &[ones, places, all])?;
        let mut counts = call.reshape(counts, &[-1, BINS as i64])?;
        if self.clip_limit > 0.0 {
            let bounded = clipped(call, counts, 0.0, self.clip_limit * area as f64 / BINS as f64)?;
            let excess = call.apply("Sub", &[counts, bounded])?;
            let excess = call.reduce("Sum", excess, &[-1], true)?;
            let share = call.scalar(BINS as f64, excess)?;
            let share = call.apply("RealDiv", &[excess, share])?;
            counts = call.apply("AddV2", &[bounded, share])?;
        }
        let last = call.int(-1)?;
        let sums = call.apply("Cumsum", &[counts, last])?;
        let least = call.reduce("Min", sums, &[-1], true)?;
        let above = call.apply("Sub", &[sums, least])?;
        let most = call.scalar(255.0, above)?;
        let above = call.apply("Mul", &[above, most])?;
        let all = call.scalar(area as f64, least)?;
        let extent = call.apply("Sub", &[all, least])?;
        let none = call.scalar(0.0, extent)?;
        let flat = call.apply("Equal", &[extent, none])?;
        let ones = call.apply("OnesLike", &[extent])?;
        let extent = call.apply("SelectV2", &[flat, ones, extent])?;
        let mapped = call.apply("RealDiv", &[above, extent])?;
        let mapped = clipped(call, mapped, 0.0, 255.0)?;
        call.reshape(mapped, &[-1, int(rows.count), int(columns.count), int(channels), BINS as i64])
    }

    fn equalized(&self, call: &mut Call<'_>, x: Sym, sizes: [usize; 3]) -> Result<Sym> {
        let [height, width, channels] = sizes;
        let rows = Tiles::of(height, self.tile_grid_size[0])?;
        let columns = Tiles::of(width, self.tile_grid_size[1])?;
        checked_elements(&[rows.padded(), columns.padded(), channels.max(1), BINS])?;
        let mut x = x;
        let missing = [rows, columns].map(|t| (t.padded() - t.extent) as i64);
        if missing != [0, 0] {
            let paddings = call.ints(&[0, 0, 0, missing[0], 0, missing[1], 0, 0])?;
            let paddings = call.reshape(paddings, &[4, 2])?;
            x = call.op("MirrorPad").inputs(&[x, paddings]).attr("mode", "SYMMETRIC").one()?;
        }
        let mapped = self.mappings(call, x, [rows, columns], channels)?;
        // The outermost tiles once more around the grid.
        let mut around = mapped;
        for (axis, count) in [(1usize, rows.count), (2, columns.count)] {
            let edge = |call: &mut Call<'_>, at: usize| {
                let mut slices = vec![(None, None, 1); axis];
                slices.push((Some(at as i64), Some(at as i64 + 1), 1));
                call.slice(around, &slices)
            };
            let (first, last) = (edge(call, 0)?, edge(call, count - 1)?);
            around = call.concat(&[first, around, last], axis as i64)?;
        }
        let table = (rows.count + 2) * (columns.count + 2) * channels * BINS;
        let table = call.reshape(around, &[-1, table as i64])?;
        let pixels = clipped(call, x, 0.0, 255.0)?;
        let pixels = call.cast(pixels, DType::I32)?;
        let (down, across) = (rows.mixed(), columns.mixed());
        let mut corner = |lower: bool, right: bool| {
            let mut places = Vec::with_capacity(down.len() * across.len() * channels);
            for &(y0, y1, _) in &down {
                for &(x0, x1, _) in &across {
                    let tile = (if lower { y1 } else { y0 }) * (columns.count + 2) + if right { x1 } else { x0 };
                    let place = |c: usize| i32::try_from((tile * channels + c) * BINS);
                    for c in 0..channels {
                        places.push(place(c).map_err(|_| Error::limit("images of too many tiles"))?);
                    }
                }
            }
            let places = call.constant(Tensor::from_vec(places, [down.len(), across.len(), channels])?)?;
            let places = call.apply("AddV2", &[pixels, places])?;
            let axis = call.int(1)?;
            Ok::<_, Error>(call.op("GatherV2").inputs(&[table, places, axis]).attr("batch_dims", 1i64).one()?)
        };
        let corners =
            [corner(false, false)?, corner(false, true)?, corner(true, false)?, corner(true, true)?];
        let shares = |mixed: &[(usize, usize, f32)], shape: [usize; 3]| {
            Tensor::from_vec(mixed.iter().map(|m| m.2).collect::<Vec<_>>(), shape)
        };
        let across = call.constant(shares(&across, [1, columns.padded(), 1])?)?;
        let down = call.constant(shares(&down, [rows.padded(), 1, 1])?)?;
        let mix = |call: &mut Call<'_>, a: Sym, b: Sym, share: Sym| {
            let one = call.scalar(1.0, share)?;
            let rest = call.apply("Sub", &[one, share])?;
            let (a, b) = (call.apply("Mul", &[a, rest])?, call.apply("Mul", &[b, share])?);
            call.apply("AddV2", &[a, b])
        };
        let (top, bottom) = (mix(call, corners[0], corners[1], across)?, mix(call, corners[2], corners[3], across)?);
        let y = mix(call, top, bottom, down)?;
        call.slice(y, &[(None, None, 1), (None, Some(height as i64), 1), (None, Some(width as i64), 1)])
    }
}

impl Layer for Clahe {
    fn class_name(&self) -> &str {
        "ContrastLimitedAdaptiveHistogramEqualization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("data_format", &mut self.data_format);
        f.field("value_range", &mut self.value_range);
        f.field("clip_limit", &mut self.clip_limit);
        f.field("tile_grid_size", &mut self.tile_grid_size);
        f.only_in(Dialect::Keras3);
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let (spec, dtype) = (call.spec(x), call.dtype(x));
        if spec.rank()? != 4 {
            return Err(Error::mismatch(format!("it takes batches of images, not {}", spec.shape)));
        }
        let is_first = self.data_format == DataFormat::ChannelsFirst;
        let places: [i64; 3] = if is_first { [2, 3, 1] } else { [1, 2, 3] };
        let sizes = [spec.known(places[0])?, spec.known(places[1])?, spec.known(places[2])?];
        let x = if is_first { call.transpose(x, &[0, 2, 3, 1])? } else { x };
        let x = call.cast(x, DType::F32)?;
        let x = rescaled(call, x, self.value_range, BYTES)?;
        let y = self.equalized(call, x, sizes)?;
        let y = rescaled(call, y, BYTES, self.value_range)?;
        let y = if is_first { call.transpose(y, &[0, 3, 1, 2])? } else { y };
        Ok(vec![call.cast(y, dtype)?])
    }
}
