//! Parts of images: chosen by chance, or around a place that is looked at.

use super::args::{many, one, take_first, tensors};
use super::kept::Kept;
use super::random::{Ready, Source, entropy, seed_pair};
use super::{NodeAttrs, Op};
use crate::engine::{Context, Kernel, kernel};
use crate::tensor::kernels::array;
use crate::tensor::kernels::random::{Philox, Words, fill};
use crate::tensor::{DType, Tensor};
use crate::{Attr, Error, Result};

/// A part of an image: its first row and column, and those behind the last.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    top: i64,
    left: i64,
    bottom: i64,
    right: i64,
}

impl Part {
    fn area(self) -> f32 {
        ((self.bottom - self.top) * (self.right - self.left)) as f32
    }

    fn common(self, other: Part) -> Option<Part> {
        let part = Part {
            top: self.top.max(other.top),
            left: self.left.max(other.left),
            bottom: self.bottom.min(other.bottom),
            right: self.right.min(other.right),
        };
        (part.top < part.bottom && part.left < part.right).then_some(part)
    }
}

/// What parts are drawn (`tf.image.sample_distorted_bounding_box`).
#[derive(Clone, Copy)]
struct Wanted {
    aspect: [f32; 2],
    area: [f32; 2],
    attempts: u32,
    whole_if_none: bool,
}

impl Wanted {
    fn read(a: &NodeAttrs<'_>) -> Result<Wanted> {
        let pair = |name: &str| -> Result<[f32; 2]> {
            let list = a.get(name).and_then(Attr::as_list).unwrap_or_default();
            match list.iter().map(Attr::as_float).collect::<Option<Vec<_>>>().as_deref() {
                Some(&[low, high]) if low > 0.0 && low <= high => Ok([low, high]),
                _ => Err(Error::graph(format!("attribute {name:?} must be two positive floats in order"))),
            }
        };
        let attempts = a.int("max_attempts")?;
        let attempts = u32::try_from(attempts).ok().filter(|n| (1..=1 << 20).contains(n));
        let wanted = Wanted {
            aspect: pair("aspect_ratio_range")?,
            area: pair("area_range")?,
            attempts: attempts.ok_or_else(|| Error::graph("max_attempts is out of range"))?,
            whole_if_none: a.bool("use_image_if_no_bounding_boxes")?,
        };
        if wanted.area[1] > 1.0 {
            return Err(Error::graph("a part can't be larger than the image"));
        }
        Ok(wanted)
    }

    /// Draws a part of this aspect ratio; `None` where none fits.
    fn part(&self, rows: i64, columns: i64, aspect: f32, words: &mut Words) -> Option<Part> {
        let round = |v: f32| v.round_ties_even() as i64;
        let [least, most] = self.area.map(|a| a * columns as f32 * rows as f32);
        let wide = |height: i64| round(height as f32 * aspect);
        let mut height = round((least / aspect).sqrt());
        let mut highest = round((most / aspect).sqrt());
        if wide(highest) > columns {
            highest = ((columns as f64 + 0.5 - f64::from(1e-7f32)) / f64::from(aspect)) as i64;
            highest -= i64::from(wide(highest) > columns);
        }
        highest = highest.min(rows);
        height = height.min(highest);
        if height < highest {
            height += i64::from(words.below((highest - height + 1) as u32));
        }
        let mut area = (height * wide(height)) as f32;
        if area < least {
            height += 1;
            area = (height * wide(height)) as f32;
        }
        if area > most {
            height -= 1;
            area = (height * wide(height)) as f32;
        }
        let width = wide(height);
        if area < least || area > most || width > columns || height > rows || width <= 0 || height <= 0 {
            return None;
        }
        let top = if height < rows { words.below((rows - height) as u32).into() } else { 0 };
        let left = if width < columns { words.below((columns - width) as u32).into() } else { 0 };
        Some(Part { top, left, bottom: top + height, right: left + width })
    }

    /// The first part drawn that holds so much of one of the objects, or all of the image.
    fn draw(&self, rows: i64, columns: i64, objects: &[Part], covered: f32, words: &mut Words) -> Part {
        for _ in 0..self.attempts {
            let aspect = words.single() * (self.aspect[1] - self.aspect[0]) + self.aspect[0];
            let Some(part) = self.part(rows, columns, aspect, words).filter(|p| p.area() >= 1.0) else { continue };
            let holds = |o: &Part| part.common(*o).map_or(0.0, Part::area) / o.area() >= covered;
            if objects.iter().filter(|o| o.area() >= 1.0).any(holds) {
                return part;
            }
        }
        Part { top: 0, left: 0, bottom: rows, right: columns }
    }
}

/// How much of an object a part must hold, and where its random numbers come from.
enum Covered {
    Fixed(f32),
    Input,
}

fn distorted(a: &NodeAttrs<'_>, covered: Covered, source: Source) -> Result<Box<dyn Kernel>> {
    let wanted = Wanted::read(a)?;
    Ok(kernel(move |context, inputs| {
        let mut inputs = inputs.into_vec();
        let [size, boxes] = take_first(&mut inputs)?;
        let (size, boxes) = (size.into_tensor()?, boxes.into_tensor()?);
        let covered = match covered {
            Covered::Fixed(v) => v,
            Covered::Input => take_first::<1>(&mut inputs)?[0].tensor()?.item::<f32>()?,
        };
        if !(0.0..=1.0).contains(&covered) {
            return Err(Error::compute(format!("a part can't hold {covered} of an object")));
        }
        let &[rows, columns, _] = &size.to_i64_vec()?[..] else {
            return Err(Error::compute(format!("an image has rows, columns and channels, not {:?}", size.shape())));
        };
        let fits = |v: i64| (1..=i64::from(i32::MAX)).contains(&v);
        if !fits(rows) || !fits(columns) || boxes.rank() != 3 || boxes.shape()[2] != 4 {
            return Err(Error::compute(format!(
                "an image of {rows} by {columns} with boxes of shape {:?}, not [images, boxes, 4]",
                boxes.shape()
            )));
        }
        let mut objects = Vec::new();
        for b in boxes.elements::<f32>()?.chunks_exact(4) {
            if b[0] >= b[2] || b[1] >= b[3] || b.iter().any(|v| !(0.0..=1.0).contains(v)) {
                return Err(Error::compute(format!("{b:?} isn't a box within the image")));
            }
            let at = |v: f32, n: i64| (v * n as f32) as i64;
            objects.push(Part {
                top: at(b[0], rows),
                left: at(b[1], columns),
                bottom: at(b[2], rows),
                right: at(b[3], columns),
            });
        }
        if objects.is_empty() {
            if !wanted.whole_if_none {
                return Err(Error::compute("there are no boxes, and the whole image isn't to be taken then"));
            }
            objects.push(Part { top: 0, left: 0, bottom: rows, right: columns });
        }
        let generator = match &source {
            Source::Node(kept) => Ready::Node(kept.among(context.resources())?).reserve(wanted.attempts.into())?,
            _ => Philox::from_seed_pair(seed_pair(take_first::<1>(&mut inputs)?[0].tensor()?)?),
        };
        let part = wanted.draw(rows, columns, &objects, covered, &mut Words::new(generator));
        let list = |v: Vec<i64>| -> Result<Tensor> { Ok(array::cast(&Tensor::from_vec(v, [3])?, size.dtype())?) };
        let (r, c) = (rows as f32, columns as f32);
        let ends = vec![
            part.top as f32 / r,
            part.left as f32 / c,
            part.bottom as f32 / r,
            part.right as f32 / c,
        ];
        many([
            list(vec![part.top, part.left, 0])?,
            list(vec![part.bottom - part.top, part.right - part.left, -1])?,
            Tensor::from_vec(ends, [1, 1, 4])?,
        ])
    }))
}

/// What a glimpse shows beside the image.
#[derive(Clone, Copy)]
enum Beside {
    Zero,
    Uniform,
    Gaussian,
}

/// Windows of one size around a place of each image.
fn glimpse(a: &NodeAttrs<'_>, first_version: bool) -> Result<Box<dyn Kernel>> {
    let (centred, normalized) = (a.bool("centered")?, a.bool("normalized")?);
    let beside = match (a.bool("uniform_noise")?, a.str("noise")?) {
        (true, "gaussian" | "zero") => {
            return Err(Error::graph("uniform_noise goes with no other noise"));
        }
        (true, _) | (false, "uniform") => Beside::Uniform,
        (false, "gaussian") => Beside::Gaussian,
        (false, "zero") => Beside::Zero,
        (_, other) => return Err(Error::graph(format!("there is no noise {other:?}"))),
    };
    let generator = Kept::new(|| Philox::from_seeds(entropy(), entropy()));
    Ok(kernel(move |context, inputs| {
        let [x, size, offsets] = tensors(inputs)?;
        let (&[batch, rows, columns, channels], [height, width]) = (x.shape(), &size.to_i64_vec()?[..]) else {
            return Err(Error::compute(format!("images of shape {:?} to a size of two numbers", x.shape())));
        };
        let positive = |v: i64| usize::try_from(v).ok().filter(|v| *v > 0);
        let (Some(height), Some(width)) = (positive(*height), positive(*width)) else {
            return Err(Error::compute(format!("a glimpse of {height} by {width}")));
        };
        if offsets.shape() != [batch, 2] {
            return Err(Error::compute(format!("{batch} images have offsets of shape {:?}", offsets.shape())));
        }
        let shape = [batch, height, width, channels];
        let images = x.elements::<f32>()?;
        let offsets = offsets.elements::<f32>()?;
        let mut out = backdrop(&images, &shape, beside, &generator, context)?;
        let place = |offset: f32, all: usize, part: usize| {
            let (all, part) = (all as f32, part as f32);
            let scaled = if normalized { offset * all } else { offset };
            let at = match (first_version, normalized, centred) {
                (true, _, true) | (false, true, true) => scaled / 2.0 + all / 2.0 - part / 2.0,
                (true, _, false) => scaled - part / 2.0,
                // The second version takes offsets that count pixels for where the glimpse begins.
                (false, false, true) => scaled + all / 2.0,
                (false, _, false) => scaled,
            };
            at as i64
        };
        let target = out.make_mut::<f32>()?;
        for image in 0..batch {
            context.check()?;
            let top = place(offsets[image * 2], rows, height);
            let left = place(offsets[image * 2 + 1], columns, width);
            for row in 0..height {
                let Some(from) = inside(top, row, rows) else { continue };
                for column in 0..width {
                    let Some(at) = inside(left, column, columns) else { continue };
                    let source = ((image * rows + from) * columns + at) * channels;
                    let to = ((image * height + row) * width + column) * channels;
                    target[to..to + channels].copy_from_slice(&images[source..source + channels]);
                }
            }
        }
        one(out)
    }))
}

/// A place so far behind the first, if it lies within `n`.
fn inside(first: i64, step: usize, n: usize) -> Option<usize> {
    first.checked_add(step as i64).and_then(|v| usize::try_from(v).ok()).filter(|v| *v < n)
}

/// What lies beneath glimpses: nothing, or noise like their images.
fn backdrop(
    images: &[f32],
    shape: &[usize; 4],
    beside: Beside,
    generator: &Kept<Philox>,
    context: &dyn Context,
) -> Result<Tensor> {
    let reserve = |n: usize| Ready::Node(generator.among(context.resources())?).reserve(n as u128);
    let mut out = match beside {
        Beside::Zero => return Ok(Tensor::zeros(DType::F32, shape)?),
        Beside::Uniform => fill::uniform(&reserve(crate::tensor::checked_elements(shape)?)?, DType::F32, shape)?,
        Beside::Gaussian => fill::normal(&reserve(crate::tensor::checked_elements(shape)?)?, DType::F32, shape)?,
    };
    let size = images.len() / shape[0].max(1);
    let part = out.len() / shape[0].max(1);
    for (to, image) in out.make_mut::<f32>()?.chunks_mut(part.max(1)).zip(images.chunks(size.max(1))) {
        let (start, wide) = if matches!(beside, Beside::Uniform) {
            let least = image.iter().copied().fold(f32::INFINITY, f32::min);
            (least, image.iter().copied().fold(f32::NEG_INFINITY, f32::max) - least)
        } else {
            let n = image.len().max(1) as f32;
            let mean = image.iter().sum::<f32>() / n;
            (mean, (image.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt())
        };
        to.iter_mut().for_each(|v| *v = start + *v * wide);
    }
    Ok(out)
}

/// A part of an image of the size that is asked for, anywhere.
fn random_crop(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let source = Source::node(a)?;
    Ok(kernel(move |context, inputs| {
        let [image, size] = tensors(inputs)?;
        let wanted = size.to_i64_vec()?;
        let (&[height, width, channels], &[rows, columns]) = (image.shape(), &wanted[..]) else {
            return Err(Error::compute(format!("an image {:?} can't be cropped to {wanted:?}", image.shape())));
        };
        let fit = |n: i64, most: usize| usize::try_from(n).ok().filter(|n| *n <= most);
        let (Some(rows), Some(columns)) = (fit(rows, height), fit(columns, width)) else {
            return Err(Error::compute(format!("an image {:?} has no part of {wanted:?}", image.shape())));
        };
        let Source::Node(state) = &source else { return Err(Error::graph("the op has a generator of its own")) };
        let mut words = Words::new(Ready::Node(state.among(context.resources())?).reserve(1)?);
        let mut offset = |room: usize| -> Result<usize> {
            let room = u32::try_from(room + 1).map_err(|_| Error::compute("the image is too large"))?;
            Ok(if room > 1 { words.below(room) as usize } else { 0 })
        };
        let (top, left) = (offset(height - rows)?, offset(width - columns)?);
        one(array::slice(&image, &[top, left, 0], &[rows, columns, channels])?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("SampleDistortedBoundingBox(image_size: T, bounding_boxes: float32) -> (begin: T, size: T, bboxes: float32); T: type; seed: int = 0; seed2: int = 0; min_object_covered: float = 0.1; aspect_ratio_range: list(float) = [0.75, 1.33]; area_range: list(float) = [0.050000001, 1.0]; max_attempts: int = 100; use_image_if_no_bounding_boxes: bool = false; stateful", |a| distorted(a, Covered::Fixed(a.float("min_object_covered")?), Source::node(a)?)),
    Op::new("SampleDistortedBoundingBoxV2(image_size: T, bounding_boxes: float32, min_object_covered: float32) -> (begin: T, size: T, bboxes: float32); T: type; seed: int = 0; seed2: int = 0; aspect_ratio_range: list(float) = [0.75, 1.33]; area_range: list(float) = [0.050000001, 1.0]; max_attempts: int = 100; use_image_if_no_bounding_boxes: bool = false; stateful", |a| distorted(a, Covered::Input, Source::node(a)?)),
    Op::new("StatelessSampleDistortedBoundingBox(image_size: T, bounding_boxes: float32, min_object_covered: float32, seed: Tseed) -> (begin: T, size: T, bboxes: float32); T: type; Tseed: type; aspect_ratio_range: list(float) = [0.75, 1.33]; area_range: list(float) = [0.050000001, 1.0]; max_attempts: int = 100; use_image_if_no_bounding_boxes: bool = false", |a| distorted(a, Covered::Input, Source::Seed)),
    Op::new("ExtractGlimpse(input: float32, size: int32, offsets: float32) -> (glimpse: float32); centered: bool = true; normalized: bool = true; uniform_noise: bool = true; noise: string = \"uniform\"", |a| glimpse(a, true)),
    Op::new("ExtractGlimpseV2(input: float32, size: int32, offsets: float32) -> (glimpse: float32); centered: bool = true; normalized: bool = true; uniform_noise: bool = true; noise: string = \"uniform\"", |a| glimpse(a, false)),
    Op::new("RandomCrop(image: T, size: int64) -> (output: T); T: type; seed: int = 0; seed2: int = 0; stateful", random_crop),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_within_the_image() {
        let wanted = Wanted { aspect: [0.5, 2.0], area: [0.1, 0.9], attempts: 50, whole_if_none: true };
        let object = Part { top: 2, left: 3, bottom: 9, right: 12 };
        let mut parts = Vec::new();
        for seed in 0..40 {
            let mut words = Words::new(Philox::from_seeds(seed, 1));
            let part = wanted.draw(20, 30, &[object], 0.5, &mut words);
            assert!(part.top >= 0 && part.left >= 0 && part.bottom <= 20 && part.right <= 30, "{part:?}");
            assert!(part.common(object).is_some_and(|c| c.area() >= 0.5 * object.area()), "{part:?}");
            parts.push((part.top, part.left));
        }
        parts.dedup();
        assert!(parts.len() > 10);
    }
}
