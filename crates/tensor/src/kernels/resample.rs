//! Images as weighted sums of other images' pixels: the gradients of resizing, scaling and cropping.
//!
//! Resizing works along rows and columns by itself: a new pixel is a weighted sum of some old ones along each. A
//! gradient gives every old pixel the same shares back.

use super::array::cast;
use super::image::{Method, Sampling, between, four, nearest};
use super::warp::{Filter, Spans, spans};
use crate::{DType, Error, Result, Tensor};

/// For each new pixel along one dimension, which old ones it takes and how much of each.
type Taps = Vec<Vec<(usize, f64)>>;

/// How an image was resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resized {
    /// By [`resize_bilinear`](super::image::resize_bilinear).
    Bilinear,
    /// By [`resize_nearest`](super::image::resize_nearest).
    Nearest,
    /// By [`resize_bicubic`](super::image::resize_bicubic).
    Bicubic,
}

impl Resized {
    fn taps(self, sampling: Sampling, old: usize, new: usize) -> Taps {
        match self {
            Resized::Bilinear => between(sampling, old, new)
                .into_iter()
                .map(|b| vec![(b.low, 1.0 - f64::from(b.part)), (b.high, f64::from(b.part))])
                .collect(),
            Resized::Nearest => nearest(sampling, old, new).into_iter().map(|i| vec![(i, 1.0)]).collect(),
            Resized::Bicubic => four(sampling, old, new)
                .into_iter()
                .map(|f| f.at.into_iter().zip(f.weights.map(f64::from)).collect())
                .collect(),
        }
    }
}

/// The gradient of resizing by an image of `size` (`ResizeBilinearGrad` and its kin), of dtype `dtype`: `grad` is
/// `[batch, height, width, channels]`.
///
/// # Errors
/// When `grad` hasn't four dimensions, or an image is empty.
pub fn resize_grad(
    grad: &Tensor,
    size: [usize; 2],
    how: Resized,
    sampling: Sampling,
    dtype: DType,
) -> Result<Tensor> {
    let &[_, height, width, _] = grad.shape() else { return Err(unfit(grad)) };
    if size.contains(&0) || height == 0 || width == 0 {
        return Err(Error::value(format!("images of {size:?} can't be resized to {:?}", [height, width])));
    }
    give_back(grad, size, &how.taps(sampling, size[0], height), &how.taps(sampling, size[1], width), dtype)
}

fn unfit(t: &Tensor) -> Error {
    Error::shape(format!("images have four dimensions, got shape {:?}", t.shape()))
}

/// What each old pixel has a share in.
fn give_back(grad: &Tensor, size: [usize; 2], rows: &Taps, columns: &Taps, dtype: DType) -> Result<Tensor> {
    let &[batch, height, width, channels] = grad.shape() else { return Err(unfit(grad)) };
    let wide = cast(grad, DType::F64)?;
    let gs = wide.elements::<f64>()?;
    let mut out = Tensor::zeros(DType::F64, [batch, size[0], size[1], channels])?;
    let to = out.make_mut::<f64>()?;
    for n in 0..batch {
        for (y, row) in rows.iter().enumerate() {
            for (x, column) in columns.iter().enumerate() {
                let g = &gs[((n * height + y) * width + x) * channels..][..channels];
                for &(oy, wy) in row {
                    for &(ox, wx) in column {
                        let to = &mut to[((n * size[0] + oy) * size[1] + ox) * channels..][..channels];
                        to.iter_mut().zip(g).for_each(|(o, g)| *o += wy * wx * g);
                    }
                }
            }
        }
    }
    cast(&out, dtype)
}

/// The gradient of [`scale_and_translate`](super::warp::scale_and_translate) by images of `size`.
///
/// # Errors
/// When `grad` hasn't four dimensions, an image is empty, or a scale isn't positive.
pub fn scale_and_translate_grad(
    grad: &Tensor,
    size: [usize; 2],
    scale: [f32; 2],
    shift: [f32; 2],
    filter: Filter,
    antialias: bool,
) -> Result<Tensor> {
    let &[_, height, width, _] = grad.shape() else { return Err(unfit(grad)) };
    if scale.iter().any(|s| !(*s > 0.0 && s.is_finite())) || size.contains(&0) {
        return Err(Error::value(format!("images of {size:?} can't be scaled by {scale:?}")));
    }
    let taps = |spans: Spans| -> Taps {
        spans.into_iter().map(|(first, w)| (first..).zip(w.into_iter().map(f64::from)).collect()).collect()
    };
    let rows = taps(spans(size[0], height, scale[0], shift[0], filter, antialias));
    let columns = taps(spans(size[1], width, scale[1], shift[1], filter, antialias));
    give_back(grad, size, &rows, &columns, DType::F32)
}

/// One dimension of a cropped box: where a new pixel lies in the old image, and how that moves with the box's edges.
struct Crop {
    from: f32,
    to: f32,
    last: f32,
    new: usize,
}

impl Crop {
    fn new(from: f32, to: f32, old: usize, new: usize) -> Crop {
        Crop { from, to, last: old.saturating_sub(1) as f32, new }
    }

    /// Pixels of the old image for a step in the new one, for a box of the whole image.
    fn ratio(&self) -> f32 {
        if self.new > 1 { self.last / (self.new - 1) as f32 } else { 0.0 }
    }

    /// The place, if inside.
    fn place(&self, x: usize) -> Option<f32> {
        let at = if self.new > 1 {
            self.from * self.last + x as f32 * ((self.to - self.from) * self.ratio())
        } else {
            0.5 * (self.from + self.to) * self.last
        };
        (0.0..=self.last).contains(&at).then_some(at)
    }

    /// What the place moves by with each edge.
    fn slopes(&self, x: usize) -> [f32; 2] {
        if self.new > 1 {
            [self.last - x as f32 * self.ratio(), x as f32 * self.ratio()]
        } else {
            [0.5 * self.last; 2]
        }
    }
}

/// Calls `f(image, box, y, x, crop y, crop x, gradient)` for every pixel of `grads` that lies inside its image.
fn for_crops(
    grads: &Tensor,
    boxes: &Tensor,
    indices: &Tensor,
    size: [usize; 3],
    mut f: impl FnMut(usize, usize, [f32; 2], [[f32; 2]; 2], &[f32]),
) -> Result<()> {
    let &[count, height, width, channels] = grads.shape() else { return Err(unfit(grads)) };
    if boxes.shape() != [count, 4] || indices.shape() != [count] {
        return Err(Error::shape(format!(
            "boxes {:?} and indices {:?} don't fit {count} crops",
            boxes.shape(),
            indices.shape()
        )));
    }
    let [batch, old_height, old_width] = size;
    let (gs, boxes) = (grads.elements::<f32>()?, boxes.elements::<f32>()?);
    for (b, (edges, image)) in boxes.chunks_exact(4).zip(indices.to_i64_vec()?).enumerate() {
        let image = usize::try_from(image)
            .ok()
            .filter(|i| *i < batch)
            .ok_or_else(|| Error::value(format!("there is no image {image} in a batch of {batch}")))?;
        let down = Crop::new(edges[0], edges[2], old_height, height);
        let along = Crop::new(edges[1], edges[3], old_width, width);
        for y in 0..height {
            let Some(at_y) = down.place(y) else { continue };
            for x in 0..width {
                let Some(at_x) = along.place(x) else { continue };
                let g = &gs[((b * height + y) * width + x) * channels..][..channels];
                f(image, b, [at_y, at_x], [down.slopes(y), along.slopes(x)], g);
            }
        }
    }
    Ok(())
}

/// The gradient of [`crop_and_resize`](super::image::crop_and_resize) by images of `shape`, of dtype `dtype`.
///
/// # Errors
/// When shapes don't fit, or an index is out of range.
pub fn crop_grad_image(
    grads: &Tensor,
    boxes: &Tensor,
    indices: &Tensor,
    shape: [usize; 4],
    method: Method,
    dtype: DType,
) -> Result<Tensor> {
    let [batch, height, width, channels] = shape;
    if grads.shape().last() != Some(&channels) {
        return Err(Error::shape(format!("crops {:?} aren't of images {shape:?}", grads.shape())));
    }
    let mut out = Tensor::zeros(DType::F32, shape)?;
    let to = out.make_mut::<f32>()?;
    for_crops(grads, boxes, indices, [batch, height, width], |image, _, [y, x], _, g| {
        let mut add = |y: f32, x: f32, share: f32| {
            let at = ((image * height + y as usize) * width + x as usize) * channels;
            to[at..at + channels].iter_mut().zip(g).for_each(|(o, g)| *o += share * g);
        };
        match method {
            Method::Nearest => add(y.round(), x.round(), 1.0),
            Method::Bilinear => {
                let (down, along) = (y - y.floor(), x - x.floor());
                add(y.floor(), x.floor(), (1.0 - down) * (1.0 - along));
                add(y.floor(), x.ceil(), (1.0 - down) * along);
                add(y.ceil(), x.floor(), down * (1.0 - along));
                add(y.ceil(), x.ceil(), down * along);
            }
        }
    })?;
    cast(&out, dtype)
}

/// The gradient of [`crop_and_resize`](super::image::crop_and_resize), with linear interpolation, by its boxes.
///
/// # Errors
/// When shapes don't fit, or an index is out of range.
pub fn crop_grad_boxes(grads: &Tensor, images: &Tensor, boxes: &Tensor, indices: &Tensor) -> Result<Tensor> {
    let &[batch, height, width, channels] = images.shape() else { return Err(unfit(images)) };
    if grads.shape().last() != Some(&channels) {
        return Err(Error::shape(format!("crops {:?} aren't of images {:?}", grads.shape(), images.shape())));
    }
    let images = cast(images, DType::F32)?;
    let old = images.elements::<f32>()?;
    let mut out = Tensor::zeros(DType::F32, boxes.shape())?;
    let to = out.make_mut::<f32>()?;
    for_crops(grads, boxes, indices, [batch, height, width], |image, b, [y, x], [by_y, by_x], g| {
        let pixel = |y: f32, x: f32, c: usize| {
            old[((image * height + y as usize) * width + x as usize) * channels + c]
        };
        let (down, along) = (y - y.floor(), x - x.floor());
        for (c, g) in g.iter().enumerate() {
            let (tl, tr) = (pixel(y.floor(), x.floor(), c), pixel(y.floor(), x.ceil(), c));
            let (bl, br) = (pixel(y.ceil(), x.floor(), c), pixel(y.ceil(), x.ceil(), c));
            let grad_y = ((1.0 - along) * (bl - tl) + along * (br - tr)) * g;
            let grad_x = ((1.0 - down) * (tr - tl) + down * (br - bl)) * g;
            for (k, part) in
                [grad_y * by_y[0], grad_x * by_x[0], grad_y * by_y[1], grad_x * by_x[1]].iter().enumerate()
            {
                to[b * 4 + k] += part;
            }
        }
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::image::{crop_and_resize, resize_bicubic, resize_bilinear};
    use crate::kernels::warp::scale_and_translate;

    fn ramp(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_vec((0..n).map(|i| ((i * 7919) % 17) as f32 - 8.0).collect(), shape).expect("tensor")
    }

    fn dot(a: &Tensor, b: &Tensor) -> f32 {
        let (a, b) = (a.elements::<f32>().expect("f32"), b.elements::<f32>().expect("f32"));
        a.iter().zip(b.iter()).map(|(a, b)| a * b).sum()
    }

    /// Resizing is linear, so `<g, f(x)> = <grad(g), x>`.
    #[test]
    fn gradients_are_adjoint() {
        let (x, g) = (ramp(&[1, 4, 5, 2]), ramp(&[1, 7, 3, 2]));
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-2, "{a} {b}");
        for sampling in [Sampling::Corner, Sampling::AlignCorners, Sampling::HalfPixel] {
            let back = |how| resize_grad(&g, [4, 5], how, sampling, DType::F32).expect("gradient");
            near(
                dot(&g, &resize_bilinear(&x, [7, 3], sampling).expect("y")),
                dot(&back(Resized::Bilinear), &x),
            );
            near(
                dot(&g, &resize_bicubic(&x, [7, 3], sampling).expect("y")),
                dot(&back(Resized::Bicubic), &x),
            );
        }
        let (scale, shift, filter) = ([1.5, 0.6], [0.3, -0.2], Filter::Lanczos(3.0));
        let y = scale_and_translate(&x, [7, 3], scale, shift, filter, true).expect("y");
        let back = scale_and_translate_grad(&g, [4, 5], scale, shift, filter, true).expect("gradient");
        near(dot(&g, &y), dot(&back, &x));
        let boxes = Tensor::from_vec(vec![0.1f32, 0.0, 0.9, 1.1], [1, 4]).expect("boxes");
        let at = Tensor::from_vec(vec![0i32], [1]).expect("index");
        let y = crop_and_resize(&x, &boxes, &at, [7, 3], Method::Bilinear, 0.0).expect("crops");
        let back =
            crop_grad_image(&g, &boxes, &at, [1, 4, 5, 2], Method::Bilinear, DType::F32).expect("gradient");
        near(dot(&g, &y), dot(&back, &x));
        let far = Tensor::from_vec(vec![1i32], [1]).expect("index");
        assert!(crop_grad_image(&g, &boxes, &far, [1, 4, 5, 2], Method::Bilinear, DType::F32).is_err());
        assert!(crop_grad_boxes(&g, &x, &at, &at).is_err());
    }
}
