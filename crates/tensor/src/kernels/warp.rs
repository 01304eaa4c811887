//! Images seen through a transformation: projective ones, and scaling with a filter.

use super::array::cast;
use super::parallel;
use crate::{DType, Error, Result, Tensor, checked_elements};

/// What lies beyond an image's edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// One value.
    Constant,
    /// The image mirrored at its edge, which repeats: `dcba|abcd|dcba`.
    Reflect,
    /// The image again: `abcd|abcd|abcd`.
    Wrap,
    /// The nearest pixel of the edge.
    Nearest,
}

impl Beyond {
    /// The coordinate in an image of `len` pixels that stands for `at`.
    fn map(self, at: f32, len: usize) -> f32 {
        let (n, last) = (len as f32, len as f32 - 1.0);
        let mapped = match self {
            Beyond::Constant => return at,
            Beyond::Nearest => at,
            _ if len <= 1 => 0.0,
            Beyond::Reflect => {
                let twice = 2.0 * n;
                if at < 0.0 {
                    let at = if at < twice { twice * (-at / twice).trunc() + at } else { at };
                    if at < -n { at + twice } else { -at - 1.0 }
                } else if at > last {
                    let at = at - twice * (at / twice).trunc();
                    if at >= n { twice - at - 1.0 } else { at }
                } else {
                    at
                }
            }
            Beyond::Wrap => {
                if at < 0.0 {
                    at + n * ((-at / last).trunc() + 1.0)
                } else if at > last {
                    at - n * (at / last).trunc()
                } else {
                    at
                }
            }
        };
        mapped.max(0.0).min(last)
    }
}

/// How [`projective`] reads images.
#[derive(Debug, Clone, Copy)]
pub struct Projection {
    /// The height and width of the new images.
    pub size: [usize; 2],
    /// Whether the four pixels about a place are mixed; else the nearest is taken.
    pub bilinear: bool,
    /// What lies beyond the edge.
    pub beyond: Beyond,
    /// The value there, where it is one.
    pub fill: f32,
}

/// Images `[batch, height, width, channels]` of any real dtype whose pixel at `(x, y)` is the old one at
/// `((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k)` with `k = c0 x + c1 y + 1`, where
/// `[a0, a1, a2, b0, b1, b2, c0, c1]` is a row of `transforms`, which has one, or one for each image.
///
/// # Errors
/// When shapes don't go together.
pub fn projective(images: &Tensor, transforms: &Tensor, how: &Projection) -> Result<Tensor> {
    let &[batch, height, width, channels] = images.shape() else {
        return Err(Error::shape(format!("images have four dimensions, got {:?}", images.shape())));
    };
    let &[rows, 8] = transforms.shape() else {
        return Err(Error::shape(format!("a transform has 8 numbers, got shape {:?}", transforms.shape())));
    };
    if rows != 1 && rows != batch {
        return Err(Error::shape(format!("{rows} transforms don't go with {batch} images")));
    }
    let [new_height, new_width] = how.size;
    let shape = [batch, new_height, new_width, channels];
    checked_elements(&[checked_elements(&shape)?, 8])?;
    let transforms = transforms.elements::<f32>()?;
    // Whole numbers over 2^24 pass through unharmed when they are not mixed.
    let work = if how.bilinear { DType::F32 } else { DType::F64 };
    let old = cast(images, work)?;
    let mut out = Tensor::zeros(work, shape)?;
    let row_len = new_width * channels;
    let place = |image: usize, x: usize, y: usize| -> Option<(f32, f32)> {
        let t = &transforms[if rows == 1 { 0 } else { image * 8 }..][..8];
        let (x, y) = (x as f32, y as f32);
        let k = t[6] * x + t[7] * y + 1.0;
        let at = ((t[0] * x + t[1] * y + t[2]) / k, (t[3] * x + t[4] * y + t[5]) / k);
        (k != 0.0).then(|| (how.beyond.map(at.0, width), how.beyond.map(at.1, height)))
    };
    let area = height * width * channels;
    let index = |x: f32, y: f32| -> Option<usize> {
        let inside = y >= 0.0 && y < height as f32 && x >= 0.0 && x < width as f32;
        inside.then(|| (y as usize * width + x as usize) * channels)
    };
    if how.bilinear {
        let old = old.elements::<f32>()?;
        parallel::for_parts(out.make_mut::<f32>()?, row_len, 16, |start, part| {
            for (i, row) in part.chunks_mut(row_len).enumerate() {
                let (image, y) = ((start / row_len + i) / new_height, (start / row_len + i) % new_height);
                let old = &old[image * area..][..area];
                for (x, pixel) in row.chunks_mut(channels).enumerate() {
                    let Some((x, y)) = place(image, x, y) else {
                        pixel.fill(how.fill);
                        continue;
                    };
                    let (left, top) = (x.floor(), y.floor());
                    let (right, bottom) = (left + 1.0, top + 1.0);
                    let corners = [(left, top), (right, top), (left, bottom), (right, bottom)];
                    let corners = corners.map(|(x, y)| index(x, y));
                    for (c, o) in pixel.iter_mut().enumerate() {
                        let [a, b, d, e] = corners.map(|at| at.map_or(how.fill, |at| old[at + c]));
                        let above = (right - x) * a + (x - left) * b;
                        let below = (right - x) * d + (x - left) * e;
                        *o = (bottom - y) * above + (y - top) * below;
                    }
                }
            }
        });
    } else {
        let old = old.elements::<f64>()?;
        parallel::for_parts(out.make_mut::<f64>()?, row_len, 8, |start, part| {
            for (i, row) in part.chunks_mut(row_len).enumerate() {
                let (image, y) = ((start / row_len + i) / new_height, (start / row_len + i) % new_height);
                let old = &old[image * area..][..area];
                for (x, pixel) in row.chunks_mut(channels).enumerate() {
                    match place(image, x, y).and_then(|(x, y)| index(x.round(), y.round())) {
                        Some(at) => pixel.copy_from_slice(&old[at..at + channels]),
                        None => pixel.fill(how.fill.into()),
                    }
                }
            }
        });
    }
    cast(&out, images.dtype())
}

/// The filter that an image is scaled with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Filter {
    /// Lanczos' window of this radius: 1, 3 or 5.
    Lanczos(f32),
    /// A bell of radius 1.5.
    Gaussian,
    /// A box one pixel wide.
    Box,
    /// A triangle, as linear interpolation has.
    Triangle,
    /// Keys' cubic.
    KeysCubic,
    /// Mitchell's and Netravali's cubic.
    MitchellCubic,
}

impl Filter {
    /// The filter that TensorFlow calls so (the attribute `kernel_type`).
    pub fn of(name: &str) -> Option<Filter> {
        Some(match name {
            "lanczos1" => Filter::Lanczos(1.0),
            "lanczos3" => Filter::Lanczos(3.0),
            "lanczos5" => Filter::Lanczos(5.0),
            "gaussian" => Filter::Gaussian,
            "box" => Filter::Box,
            "triangle" => Filter::Triangle,
            "keyscubic" => Filter::KeysCubic,
            "mitchellcubic" => Filter::MitchellCubic,
            _ => return None,
        })
    }

    fn radius(self) -> f32 {
        match self {
            Filter::Lanczos(radius) => radius,
            Filter::Gaussian => 1.5,
            Filter::Box | Filter::Triangle => 1.0,
            Filter::KeysCubic | Filter::MitchellCubic => 2.0,
        }
    }

    fn weight(self, x: f32) -> f32 {
        let x = x.abs();
        match self {
            Filter::Lanczos(radius) if x > radius => 0.0,
            Filter::Lanczos(_) if x <= 1e-3 => 1.0,
            Filter::Lanczos(radius) => {
                let angle = std::f32::consts::PI * x;
                radius * angle.sin() * (angle / radius).sin() / (angle * angle)
            }
            Filter::Gaussian if x >= 1.5 => 0.0,
            Filter::Gaussian => (-x * x / 0.5).exp(),
            Filter::Box => {
                if x < 0.5 {
                    1.0
                } else if x == 0.5 {
                    0.5
                } else {
                    0.0
                }
            }
            Filter::Triangle => (1.0 - x).max(0.0),
            Filter::KeysCubic | Filter::MitchellCubic if x >= 2.0 => 0.0,
            Filter::KeysCubic if x >= 1.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Filter::KeysCubic => (1.5 * x - 2.5) * x * x + 1.0,
            Filter::MitchellCubic if x >= 1.0 => ((-7.0 / 18.0 * x + 2.0) * x - 10.0 / 3.0) * x + 16.0 / 9.0,
            Filter::MitchellCubic => (7.0 / 6.0 * x - 2.0) * x * x + 8.0 / 9.0,
        }
    }
}

/// For each new pixel along an axis, the first old one that it is made of, and the weights of the old ones from there.
pub(super) type Spans = Vec<(usize, Vec<f32>)>;

pub(super) fn spans(
    old: usize,
    new: usize,
    scale: f32,
    shift: f32,
    filter: Filter,
    antialias: bool,
) -> Spans {
    let inverse = 1.0 / scale;
    let moved = -inverse * shift;
    // Only where an image shrinks is the filter stretched, to take all of its pixels in.
    let stretch = if antialias { inverse.max(1.0) } else { 1.0 };
    let reach = filter.radius() * stretch;
    (0..new)
        .map(|x| {
            let centre = (x as f32 + 0.5) * inverse + moved;
            if !(0.0..=old as f32).contains(&centre) {
                return (0, Vec::new());
            }
            let inside = |v: f32| (v.max(0.0) as usize).min(old - 1);
            let (first, last) =
                (inside((centre - reach - 0.5).ceil()), inside((centre + reach - 0.5).floor()));
            let weight = |at: usize| filter.weight((at as f32 + 0.5 - centre) * (1.0 / stretch));
            let mut weights: Vec<f32> = (first..=last).map(weight).collect();
            let total: f32 = weights.iter().sum();
            if total.abs() >= 1000.0 * f32::MIN_POSITIVE {
                weights.iter_mut().for_each(|w| *w *= 1.0 / total);
            } else {
                weights.fill(0.0);
            }
            (first, weights)
        })
        .collect()
}

/// Images `[batch, height, width, channels]` scaled and then moved, each by a number for `y` and one for `x`, as `float32`.
///
/// # Errors
/// When images haven't four dimensions or are empty, or a scale isn't positive.
pub fn scale_and_translate(
    images: &Tensor,
    size: [usize; 2],
    scale: [f32; 2],
    shift: [f32; 2],
    filter: Filter,
    antialias: bool,
) -> Result<Tensor> {
    let &[batch, height, width, channels] = images.shape() else {
        return Err(Error::shape(format!("images have four dimensions, got {:?}", images.shape())));
    };
    if scale.iter().any(|s| !(*s > 0.0 && s.is_finite())) || size.contains(&0) {
        return Err(Error::value(format!("images can't be scaled by {scale:?} to {size:?}")));
    }
    if height == 0 || width == 0 {
        return Err(Error::value(format!("images of shape {:?} can't be scaled", images.shape())));
    }
    let shape = [batch, size[0], size[1], channels];
    checked_elements(&[checked_elements(&shape)?, 4])?;
    let images = cast(images, DType::F32)?;
    let old = images.elements::<f32>()?;
    let mut out = Tensor::zeros(DType::F32, shape)?;
    if out.is_empty() {
        return Ok(out);
    }
    let rows = spans(height, size[0], scale[0], shift[0], filter, antialias);
    let columns = spans(width, size[1], scale[1], shift[1], filter, antialias);
    let (row_len, old_row) = (size[1] * channels, width * channels);
    parallel::for_parts(out.make_mut::<f32>()?, row_len, 16, |start, part| {
        let mut line = vec![0f32; old_row];
        for (i, row) in part.chunks_mut(row_len).enumerate() {
            let (image, y) = ((start / row_len + i) / size[0], (start / row_len + i) % size[0]);
            let (first, weights) = &rows[y];
            line.fill(0.0);
            for (k, w) in weights.iter().enumerate() {
                let from = &old[(image * height + first + k) * old_row..][..old_row];
                line.iter_mut().zip(from).for_each(|(l, v)| *l += w * v);
            }
            for (pixel, (first, weights)) in row.chunks_mut(channels).zip(&columns) {
                for (k, w) in weights.iter().enumerate() {
                    let from = &line[(first + k) * channels..][..channels];
                    pixel.iter_mut().zip(from).for_each(|(o, v)| *o += w * v);
                }
            }
        }
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_beyond_the_edge_are_mapped() {
        let at = |b: Beyond, x: f32| b.map(x, 4);
        assert_eq!(
            [at(Beyond::Reflect, -1.0), at(Beyond::Reflect, 4.0), at(Beyond::Reflect, -5.0)],
            [0.0, 3.0, 3.0]
        );
        assert_eq!([at(Beyond::Wrap, -1.0), at(Beyond::Wrap, 4.0)], [3.0, 0.0]);
        assert_eq!([at(Beyond::Nearest, -9.0), at(Beyond::Nearest, f32::INFINITY)], [0.0, 3.0]);
        assert_eq!(at(Beyond::Constant, -2.5), -2.5);
        assert!(Beyond::Wrap.map(f32::NAN, 4) >= 0.0);
    }

    #[test]
    fn hostile_scales_and_transforms_are_survived() {
        let images = Tensor::full(1.0f32, [1, 2, 2, 1]).expect("tensor");
        for v in [f32::NAN, f32::INFINITY, -1.0, 0.0] {
            assert!(
                scale_and_translate(&images, [2, 2], [v, 1.0], [0.0; 2], Filter::Triangle, true).is_err()
            );
        }
        scale_and_translate(&images, [2, 2], [1e-30, 1e30], [f32::NAN, 1e30], Filter::Lanczos(3.0), true)
            .expect("empty spans");
        let transform = Tensor::full(f32::NAN, [1, 8]).expect("tensor");
        for beyond in [Beyond::Constant, Beyond::Reflect, Beyond::Wrap, Beyond::Nearest] {
            let how = Projection { size: [3, 3], bilinear: true, beyond, fill: 0.0 };
            projective(&images, &transform, &how).expect("something");
            projective(&images, &transform, &Projection { bilinear: false, ..how }).expect("something");
        }
    }
}
