//! Colours of images: HSV, and changes of contrast, hue and saturation. The last dimension holds red, green and blue.

use num_traits::Float;

use super::array::cast;
use super::parallel;
use crate::{DType, Error, Result, Tensor};

/// Red, green and blue to hue, saturation and value.
///
/// # Errors
/// When the tensor isn't of floats, or its last dimension isn't 3; likewise below.
pub fn rgb_to_hsv(x: Tensor) -> Result<Tensor> {
    pixels(x, hsv, hsv)
}

/// Hue, saturation and value to red, green and blue.
///
/// # Errors
/// As [`rgb_to_hsv`].
pub fn hsv_to_rgb(x: Tensor) -> Result<Tensor> {
    pixels(x, rgb, rgb)
}

/// The saturation of every pixel times `scale`, within 0 and 1.
///
/// # Errors
/// As [`rgb_to_hsv`].
pub fn adjust_saturation(x: Tensor, scale: f32) -> Result<Tensor> {
    fn change<T: Float>(pixel: [T; 3], scale: T) -> [T; 3] {
        let [h, s, v] = hsv(pixel);
        rgb([h, (s * scale).max(T::zero()).min(T::one()), v])
    }
    pixels(x, |p| change(p, scale), |p| change(p, f64::from(scale)))
}

/// The hue of every pixel moved on by `delta` turns.
///
/// # Errors
/// As [`rgb_to_hsv`].
pub fn adjust_hue(x: Tensor, delta: f32) -> Result<Tensor> {
    pixels(x, |p| turn(p, delta), |p| turn(p, f64::from(delta)))
}

/// Images `[.., height, width, channels]` whose distance from each channel's mean is `factor` times as large,
/// as `float32`.
///
/// # Errors
/// When there are less than three dimensions, or the dtype isn't a real one.
pub fn adjust_contrast(images: &Tensor, factor: f32) -> Result<Tensor> {
    let &[.., height, width, channels] = images.shape() else {
        return Err(Error::shape(format!("an image has three dimensions, got {:?}", images.shape())));
    };
    let mut out = cast(images, DType::F32)?;
    let area = height * width * channels;
    if area == 0 {
        return Ok(out);
    }
    for image in out.make_mut::<f32>()?.chunks_mut(area) {
        for c in 0..channels {
            let mean: f64 = image[c..].iter().step_by(channels).map(|v| f64::from(*v)).sum();
            let mean = (mean / (height * width) as f64) as f32;
            for v in image[c..].iter_mut().step_by(channels) {
                *v = (*v - mean) * factor + mean;
            }
        }
    }
    Ok(out)
}

/// Calls a function on every pixel, in `float64` for such tensors, else in `float32`.
fn pixels(
    mut x: Tensor,
    single: impl Fn([f32; 3]) -> [f32; 3] + Sync + Send,
    double: impl Fn([f64; 3]) -> [f64; 3] + Sync + Send,
) -> Result<Tensor> {
    if x.shape().last() != Some(&3) {
        return Err(Error::shape(format!("the last dimension must be 3, got shape {:?}", x.shape())));
    }
    match x.dtype() {
        DType::F64 => each(x.make_mut::<f64>()?, double),
        DType::F32 => each(x.make_mut::<f32>()?, single),
        half @ (DType::F16 | DType::BF16) => {
            let mut wide = cast(&x, DType::F32)?;
            each(wide.make_mut::<f32>()?, single);
            return cast(&wide, half);
        }
        other => return Err(Error::dtype("a float", other)),
    }
    Ok(x)
}

fn each<T: Copy + Send>(values: &mut [T], f: impl Fn([T; 3]) -> [T; 3] + Sync + Send) {
    parallel::for_parts(values, 3, 8, |_, part| {
        for pixel in part.chunks_exact_mut(3) {
            pixel.copy_from_slice(&f([pixel[0], pixel[1], pixel[2]]));
        }
    });
}

fn number<T: Float>(v: f64) -> T {
    T::from(v).unwrap_or_else(T::nan)
}

fn hsv<T: Float>([r, g, b]: [T; 3]) -> [T; 3] {
    let (zero, one, six) = (T::zero(), T::one(), number::<T>(6.0));
    let value = r.max(g).max(b);
    let range = value - r.min(g).min(b);
    let saturation = if value > zero { range / value } else { zero };
    let norm = one / (six * range);
    let hue = if range <= zero {
        zero
    } else if r == value {
        norm * (g - b)
    } else if g == value {
        norm * (b - r) + number::<T>(2.0) / six
    } else {
        norm * (r - g) + number::<T>(4.0) / six
    };
    [if hue < zero { hue + one } else { hue }, saturation, value]
}

fn rgb<T: Float>([h, s, v]: [T; 3]) -> [T; 3] {
    let (one, two) = (T::one(), number::<T>(2.0));
    let turn = h * number(6.0);
    let within = |v: T| v.max(T::zero()).min(one);
    let r = within((turn - number(3.0)).abs() - one);
    let g = within(two - (turn - two).abs());
    let b = within(two - (turn - number(4.0)).abs());
    [r, g, b].map(|c| (one - s + s * c) * v)
}

/// Moves the hue while the least and the greatest channel stay as they are.
fn turn<T: Float>(pixel: [T; 3], delta: T) -> [T; 3] {
    let [r, g, b] = pixel;
    let (low, high) = (r.min(g).min(b), r.max(g).max(b));
    let [hue, ..] = hsv(pixel);
    let six = number::<T>(6.0);
    let place = (hue + delta) * six;
    let mut place = place - (place / six).floor() * six;
    if place >= six || place.is_nan() {
        place = T::zero();
    }
    let sector = place.floor();
    let part = place - sector;
    let sector = sector.to_u8().unwrap_or(0);
    let middle = low + (if sector.is_multiple_of(2) { part } else { T::one() - part }) * (high - low);
    match sector {
        0 => [high, middle, low],
        1 => [middle, high, low],
        2 => [low, high, middle],
        3 => [low, middle, high],
        4 => [middle, low, high],
        _ => [high, low, middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_turn_changes_nothing() {
        let x =
            Tensor::from_vec(vec![0.1f32, 0.7, 0.4, 0.9, 0.2, 0.2, 0.5, 0.5, 0.5], [3, 3]).expect("tensor");
        let near = |a: &Tensor, b: &Tensor| {
            let (a, b) = (a.as_slice::<f32>().expect("f32"), b.as_slice::<f32>().expect("f32"));
            a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
        };
        assert!(near(&adjust_hue(x.clone(), 1.0).expect("turned"), &x));
        assert!(near(&hsv_to_rgb(rgb_to_hsv(x.clone()).expect("hsv")).expect("rgb"), &x));
        assert!(near(&adjust_saturation(x.clone(), 1.0).expect("same"), &x));
        assert!(adjust_hue(Tensor::scalar(1.0f32), 0.5).is_err());
    }
}
