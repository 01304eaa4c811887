//! Images of other sizes: `[batch, height, width, channels]`.

use super::array::{cast, gather};
use super::parallel;
use crate::{DType, Error, Result, Tensor, checked_elements};

/// Where the pixels of a resized image lie in the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// Corners of both images' first pixels meet: the oldest of TensorFlow's ways.
    Corner,
    /// Centres of the four corner pixels meet (`align_corners`).
    AlignCorners,
    /// Images are areas with pixels' centres at halves (`half_pixel_centers`, as `tf.image.resize` does).
    HalfPixel,
}

impl Sampling {
    /// Old pixels per new one.
    fn scale(self, old: usize, new: usize) -> f32 {
        if self == Sampling::AlignCorners && new > 1 {
            (old - 1) as f32 / (new - 1) as f32
        } else {
            old as f32 / new as f32
        }
    }

    fn place(self, x: usize, scale: f32) -> f32 {
        if self == Sampling::HalfPixel { (x as f32 + 0.5) * scale - 0.5 } else { x as f32 * scale }
    }
}

/// A batch of images and the size they are to get.
struct Job {
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    size: [usize; 2],
}

impl Job {
    fn new(images: &Tensor, size: [usize; 2]) -> Result<Job> {
        let &[batch, height, width, channels] = images.shape() else {
            return Err(Error::shape(format!("images have four dimensions, got shape {:?}", images.shape())));
        };
        checked_elements(&[batch, size[0], size[1], channels, 4])?;
        if size.contains(&0) {
            return Err(Error::value(format!("images can't be resized to {size:?}")));
        }
        if height == 0 || width == 0 {
            return Err(Error::value(format!("images of shape {:?} can't be resized", images.shape())));
        }
        Ok(Job { batch, height, width, channels, size })
    }

    /// New images of `float32`, row by row: `f` gets the old image and a row's number, and fills the row.
    fn rows(
        &self,
        images: &Tensor,
        cost: usize,
        f: impl Fn(&[f32], usize, &mut [f32]) + Sync + Send,
    ) -> Result<Tensor> {
        let [height, width] = self.size;
        let images = cast(images, DType::F32)?;
        let old = images.elements::<f32>()?;
        let area = self.height * self.width * self.channels;
        let row_len = width * self.channels;
        let mut out = Tensor::zeros(DType::F32, [self.batch, height, width, self.channels])?;
        parallel::for_parts(out.make_mut::<f32>()?, row_len, cost, |start, part| {
            for (i, row) in part.chunks_mut(row_len).enumerate() {
                let number = start / row_len + i;
                f(&old[number / height * area..][..area], number % height, row);
            }
        });
        Ok(out)
    }
}

/// The two pixels about a place, and how far it lies from the first to the second.
pub(super) struct Between {
    pub(super) low: usize,
    pub(super) high: usize,
    pub(super) part: f32,
}

pub(super) fn between(sampling: Sampling, old: usize, new: usize) -> Vec<Between> {
    let scale = sampling.scale(old, new);
    (0..new)
        .map(|x| {
            let at = sampling.place(x, scale);
            let floor = at.floor();
            Between {
                low: (floor.max(0.0) as usize).min(old - 1),
                high: (at.ceil().max(0.0) as usize).min(old - 1),
                part: at - floor,
            }
        })
        .collect()
}

/// Images resized by linear interpolation (`tf.image.resize` in its default way), as `float32`.
///
/// # Errors
/// When images haven't four dimensions, are empty, or the size is.
pub fn resize_bilinear(images: &Tensor, size: [usize; 2], sampling: Sampling) -> Result<Tensor> {
    let job = Job::new(images, size)?;
    let (ys, xs) = (between(sampling, job.height, size[0]), between(sampling, job.width, size[1]));
    let channels = job.channels;
    job.rows(images, 4, |old, y, row| {
        let y = &ys[y];
        let line = |y: usize| &old[y * job.width * channels..][..job.width * channels];
        let (top, bottom) = (line(y.low), line(y.high));
        for (to, x) in row.chunks_mut(channels).zip(&xs) {
            let (left, right) = (x.low * channels, x.high * channels);
            for (c, o) in to.iter_mut().enumerate() {
                let above = top[left + c] + (top[right + c] - top[left + c]) * x.part;
                let below = bottom[left + c] + (bottom[right + c] - bottom[left + c]) * x.part;
                *o = above + (below - above) * y.part;
            }
        }
    })
}

/// The pixel that is nearest to each new one.
pub(super) fn nearest(sampling: Sampling, old: usize, new: usize) -> Vec<usize> {
    let scale = sampling.scale(old, new);
    (0..new)
        .map(|x| {
            let at = match sampling {
                Sampling::Corner => (x as f32 * scale).floor(),
                Sampling::AlignCorners => (x as f32 * scale).round(),
                Sampling::HalfPixel => ((x as f32 + 0.5) * scale).floor(),
            };
            (at.max(0.0) as usize).min(old - 1)
        })
        .collect()
}

/// Images resized by taking the nearest pixel (`tf.image.resize` with `NEAREST_NEIGHBOR`), in their own dtype.
///
/// # Errors
/// When images haven't four dimensions, are empty, or the size is.
pub fn resize_nearest(images: &Tensor, size: [usize; 2], sampling: Sampling) -> Result<Tensor> {
    let job = Job::new(images, size)?;
    let nearest = |old, new| nearest(sampling, old, new).into_iter().map(|i| i as i64).collect();
    let rows = gather(images, &Tensor::from_vec(nearest(job.height, size[0]), [size[0]])?, 1, 0)?;
    gather(&rows, &Tensor::from_vec(nearest(job.width, size[1]), [size[1]])?, 2, 0)
}

/// Four pixels about a place and their weights.
pub(super) struct Four {
    pub(super) at: [usize; 4],
    pub(super) weights: [f32; 4],
}

/// Steps between two pixels that weights are tabulated for, as TensorFlow does; results show it.
const CUBIC_STEPS: usize = 1024;

pub(super) fn four(sampling: Sampling, old: usize, new: usize) -> Vec<Four> {
    // The centred way uses Keys' cubic and leaves out what lies beyond the edge; the older ways repeat the edge.
    let keys = sampling == Sampling::HalfPixel;
    let a = if keys { -0.5f32 } else { -0.75 };
    let near = |step: usize| {
        let x = step as f32 / CUBIC_STEPS as f32;
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    };
    let far = |step: usize| {
        let x = step as f32 / CUBIC_STEPS as f32 + 1.0;
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    };
    let scale = sampling.scale(old, new);
    (0..new)
        .map(|x| {
            let place = sampling.place(x, scale);
            let floor = place.floor();
            let step = ((place - floor) * CUBIC_STEPS as f32).round_ties_even() as usize;
            let step = step.min(CUBIC_STEPS);
            let mut weights = [far(step), near(step), near(CUBIC_STEPS - step), far(CUBIC_STEPS - step)];
            let wanted = [-1i64, 0, 1, 2].map(|d| floor as i64 + d);
            let at = wanted.map(|i| i.clamp(0, old as i64 - 1));
            if keys {
                for (w, (want, got)) in weights.iter_mut().zip(wanted.iter().zip(&at)) {
                    if want != got {
                        *w = 0.0;
                    }
                }
                let sum: f32 = weights.iter().sum();
                if sum.abs() >= 1000.0 * f32::MIN_POSITIVE {
                    weights = weights.map(|w| w * (1.0 / sum));
                }
            }
            Four { at: at.map(|i| i as usize), weights }
        })
        .collect()
}

/// Images resized by cubic interpolation (`tf.image.resize` with `BICUBIC`), as `float32`.
///
/// # Errors
/// When images haven't four dimensions, are empty, or the size is.
pub fn resize_bicubic(images: &Tensor, size: [usize; 2], sampling: Sampling) -> Result<Tensor> {
    let job = Job::new(images, size)?;
    let (ys, xs) = (four(sampling, job.height, size[0]), four(sampling, job.width, size[1]));
    let channels = job.channels;
    job.rows(images, 16, |old, y, row| {
        let y = &ys[y];
        for (to, x) in row.chunks_mut(channels).zip(&xs) {
            for (c, o) in to.iter_mut().enumerate() {
                let column = |x: usize| {
                    let pixel = |y: usize| old[(y * job.width + x) * channels + c];
                    (0..4).map(|i| pixel(y.at[i]) * y.weights[i]).sum::<f32>()
                };
                *o = (0..4).map(|i| column(x.at[i]) * x.weights[i]).sum();
            }
        }
    })
}

/// Images resized by averaging the area that a new pixel covers (`tf.image.resize` with `AREA`), as `float32`.
///
/// # Errors
/// When images haven't four dimensions, are empty, or the size is.
pub fn resize_area(images: &Tensor, size: [usize; 2], align_corners: bool) -> Result<Tensor> {
    let job = Job::new(images, size)?;
    let sampling = if align_corners { Sampling::AlignCorners } else { Sampling::Corner };
    /// Which pixels a new one covers, and how much of each.
    fn covered(sampling: Sampling, old: usize, new: usize) -> Vec<Vec<(usize, f32)>> {
        let scale = sampling.scale(old, new);
        (0..new)
            .map(|x| {
                let (from, to) = (x as f32 * scale, (x + 1) as f32 * scale);
                // A hostile size can make the scale anything, so the walk is bounded by the old image.
                let (first, end) = (from.floor() as usize, (to.ceil() as usize).min(old.saturating_add(1)));
                (first..end)
                    .map(|i| {
                        let start = (i as f32).max(from);
                        let stop = ((i + 1) as f32).min(to);
                        (i.min(old - 1), stop - start)
                    })
                    .collect()
            })
            .collect()
    }
    let (ys, xs) = (covered(sampling, job.height, size[0]), covered(sampling, job.width, size[1]));
    let whole = sampling.scale(job.height, size[0]) * sampling.scale(job.width, size[1]);
    let channels = job.channels;
    let cost = (job.height / size[0] + 1).saturating_mul(job.width / size[1] + 1);
    job.rows(images, cost, |old, y, row| {
        for (to, x) in row.chunks_mut(channels).zip(&xs) {
            for (c, o) in to.iter_mut().enumerate() {
                let mut total = 0.0;
                for (y, height) in &ys[y] {
                    let line: f32 =
                        x.iter().map(|(x, width)| old[(y * job.width + x) * channels + c] * width).sum();
                    total += line * height;
                }
                *o = total / whole;
            }
        }
    })
}

/// How [`crop_and_resize`] finds a pixel's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By linear interpolation.
    Bilinear,
    /// By taking the nearest pixel.
    Nearest,
}

/// Parts of images, all resized to `size` (`tf.image.crop_and_resize`), as `float32`.
///
/// `boxes` is `float32` `[n, 4]`: top, left, bottom and right as shares of the image; `indices` is `int32` `[n]`:
/// which image. What lies outside an image is `extrapolation`.
///
/// # Errors
/// When shapes don't fit, an index is out of range, or the size is empty.
pub fn crop_and_resize(
    images: &Tensor,
    boxes: &Tensor,
    indices: &Tensor,
    size: [usize; 2],
    method: Method,
    extrapolation: f32,
) -> Result<Tensor> {
    let job = Job::new(images, size)?;
    let count = indices.len();
    if boxes.shape() != [count, 4] || indices.rank() != 1 {
        return Err(Error::shape(format!(
            "boxes {:?} with image indices {:?}",
            boxes.shape(),
            indices.shape()
        )));
    }
    let indices = indices.to_i64_vec()?;
    if let Some(wrong) = indices.iter().find(|&&i| usize::try_from(i).is_err() || i as usize >= job.batch) {
        return Err(Error::value(format!("there is no image {wrong} in a batch of {}", job.batch)));
    }
    let boxes = boxes.elements::<f32>()?;
    let images = cast(images, DType::F32)?;
    let old = images.elements::<f32>()?;
    let [height, width] = size;
    let channels = job.channels;
    checked_elements(&[count, height, width, channels, 4])?;
    let mut out = Tensor::zeros(DType::F32, [count, height, width, channels])?;
    // The place of a new pixel along one dimension, if inside.
    let place = |from: f32, to: f32, old: usize, new: usize, x: usize| {
        let last = (old - 1) as f32;
        let at = if new > 1 {
            from * last + x as f32 * ((to - from) * last / (new - 1) as f32)
        } else {
            0.5 * (from + to) * last
        };
        (0.0..=last).contains(&at).then_some(at)
    };
    let row_len = width * channels;
    parallel::for_parts(out.make_mut::<f32>()?, row_len, 4, |start, part| {
        for (i, row) in part.chunks_mut(row_len).enumerate() {
            let number = start / row_len + i;
            let (which, y) = (number / height, number % height);
            let &[top, left, bottom, right] = &boxes[which * 4..which * 4 + 4] else { continue };
            let image = &old[indices[which] as usize * job.height * job.width * channels..];
            let pixel = |y: usize, x: usize, c: usize| image[(y * job.width + x) * channels + c];
            let Some(at_y) = place(top, bottom, job.height, height, y) else {
                row.fill(extrapolation);
                continue;
            };
            for (x, to) in row.chunks_mut(channels).enumerate() {
                let Some(at_x) = place(left, right, job.width, width, x) else {
                    to.fill(extrapolation);
                    continue;
                };
                for (c, o) in to.iter_mut().enumerate() {
                    *o = match method {
                        Method::Nearest => pixel(at_y.round() as usize, at_x.round() as usize, c),
                        Method::Bilinear => {
                            let (y0, y1) = (at_y.floor() as usize, at_y.ceil() as usize);
                            let (x0, x1) = (at_x.floor() as usize, at_x.ceil() as usize);
                            let (down, along) = (at_y - at_y.floor(), at_x - at_x.floor());
                            let above = pixel(y0, x0, c) + (pixel(y0, x1, c) - pixel(y0, x0, c)) * along;
                            let below = pixel(y1, x0, c) + (pixel(y1, x1, c) - pixel(y1, x0, c)) * along;
                            above + (below - above) * down
                        }
                    };
                }
            }
        }
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape).expect("tensor")
    }

    fn close(got: Result<Tensor>, want: &[f32]) {
        let got = got.expect("resized");
        let got = got.as_slice::<f32>().expect("f32");
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-4), "{got:?} isn't {want:?}");
    }

    /// One line of four pixels; the expected values are TensorFlow's.
    fn line() -> Tensor {
        f(&[1.0, 2.0, 4.0, 8.0], &[1, 1, 4, 1])
    }

    #[test]
    fn linear() {
        close(
            resize_bilinear(&line(), [1, 8], Sampling::HalfPixel),
            &[1.0, 1.25, 1.75, 2.5, 3.5, 5.0, 7.0, 8.0],
        );
        close(resize_bilinear(&line(), [1, 8], Sampling::Corner), &[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 8.0]);
        close(resize_bilinear(&line(), [1, 7], Sampling::AlignCorners), &[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]);
        close(resize_bilinear(&line(), [1, 2], Sampling::HalfPixel), &[1.5, 6.0]);
    }

    #[test]
    fn nearest() {
        close(resize_nearest(&line(), [1, 6], Sampling::HalfPixel), &[1.0, 2.0, 2.0, 4.0, 8.0, 8.0]);
        close(resize_nearest(&line(), [1, 6], Sampling::Corner), &[1.0, 1.0, 2.0, 4.0, 4.0, 8.0]);
        close(resize_nearest(&line(), [1, 6], Sampling::AlignCorners), &[1.0, 2.0, 2.0, 4.0, 4.0, 8.0]);
        let bytes = Tensor::from_vec(vec![7u8, 9], [1, 1, 2, 1]).expect("tensor");
        let got = resize_nearest(&bytes, [2, 2], Sampling::HalfPixel).expect("resized");
        assert_eq!(got.as_slice::<u8>().expect("u8"), [7, 9, 7, 9]);
    }

    #[test]
    fn areas() {
        close(resize_area(&line(), [1, 2], false), &[1.5, 6.0]);
        close(resize_area(&line(), [1, 3], false), &[1.25, 3.0, 7.0]);
    }

    #[test]
    fn sizes_are_checked() {
        for size in [[0, 1], [1, 0], [usize::MAX, 2]] {
            assert!(resize_bilinear(&line(), size, Sampling::HalfPixel).is_err());
            assert!(resize_nearest(&line(), size, Sampling::Corner).is_err());
        }
        assert!(resize_area(&f(&[], &[1, 0, 1, 1]), [1, 1], false).is_err());
        assert!(resize_bicubic(&f(&[1.0], &[1, 1]), [1, 1], Sampling::HalfPixel).is_err());
        let empty = f(&[], &[0, 2, 2, 3]);
        assert_eq!(resize_bilinear(&empty, [4, 4], Sampling::HalfPixel).expect("none").shape(), [0, 4, 4, 3]);
    }

    #[test]
    fn constant_images_stay_constant() {
        let x = Tensor::full(3.0f32, [1, 5, 7, 2]).expect("tensor");
        for sampling in [Sampling::Corner, Sampling::AlignCorners, Sampling::HalfPixel] {
            close(resize_bicubic(&x, [4, 9], sampling), &[3.0; 72]);
            close(resize_bilinear(&x, [4, 9], sampling), &[3.0; 72]);
        }
        close(resize_area(&x, [4, 9], false), &[3.0; 72]);
    }

    #[test]
    fn parts_are_cropped() {
        let x = f(&[1.0, 2.0, 3.0, 4.0], &[1, 2, 2, 1]);
        let at = Tensor::from_vec(vec![0i32], [1]).expect("tensor");
        let crop = |b: [f32; 4], size, method| crop_and_resize(&x, &f(&b, &[1, 4]), &at, size, method, -1.0);
        close(crop([0.0, 0.0, 1.0, 1.0], [2, 2], Method::Bilinear), &[1.0, 2.0, 3.0, 4.0]);
        close(crop([0.0, 0.0, 1.0, 1.0], [1, 1], Method::Bilinear), &[2.5]);
        close(crop([0.0, 0.0, 2.0, 1.0], [2, 2], Method::Nearest), &[1.0, 2.0, -1.0, -1.0]);
        let wrong = Tensor::from_vec(vec![1i32], [1]).expect("tensor");
        assert!(crop_and_resize(&x, &f(&[0.0; 4], &[1, 4]), &wrong, [1, 1], Method::Nearest, 0.0).is_err());
    }
}
