//! The windows of images and volumes, laid out as depth.

use super::window::{Slide, axes};
use crate::{Error, Result, Shape, SharedBytes, Tensor, checked_elements};

/// From `[batch, spatial.., channels]` of any plain dtype to `[batch, positions.., window * channels]`: each position's
/// window, zero where it reaches beyond the input.
///
/// # Errors
/// When the window doesn't fit the shape, or the dtype is of strings.
pub fn extract_patches(x: &Tensor, window: &[usize], slide: &Slide) -> Result<Tensor> {
    let (Some((&batch, rest)), true) = (x.shape().split_first(), x.rank() == window.len() + 2) else {
        return Err(Error::shape(format!("a window {window:?} doesn't fit shape {:?}", x.shape())));
    };
    let (spatial, channels) = (&rest[..window.len()], rest[window.len()]);
    let size = x.dtype().size().ok_or_else(|| Error::dtype("a plain one", x.dtype()))?;
    let axes = axes(spatial, window, slide)?;
    let mut shape: Shape = [batch].into_iter().collect();
    shape.extend(axes.iter().map(|a| a.out));
    shape.push(checked_elements(&[checked_elements(window)?, channels])?);
    let total = checked_elements(&[checked_elements(&shape)?, size])?;
    let mut out = SharedBytes::zeroed(total);
    let pixel = channels * size;
    let old = x.bytes()?;
    if total > 0 && !old.is_empty() {
        let image = spatial.iter().product::<usize>();
        let positions: usize = axes.iter().map(|a| a.out).product();
        let taps: usize = window.iter().product();
        for (number, patch) in out.make_mut().chunks_exact_mut(taps * pixel).enumerate() {
            let (b, position) = (number / positions, number % positions);
            for (tap, to) in patch.chunks_exact_mut(pixel).enumerate() {
                // Both numbers are taken apart from the last axis on.
                let (mut tap, mut position, mut at, mut stride) = (tap, position, 0, 1);
                let mut inside = true;
                for a in axes.iter().rev() {
                    let (start, valid) = a.taps(position % a.out);
                    let t = tap % a.kernel;
                    inside &= valid.contains(&t);
                    at += (start + (t * a.dilation) as isize).max(0) as usize * stride;
                    stride *= a.input;
                    (tap, position) = (tap / a.kernel, position / a.out);
                }
                if inside {
                    to.copy_from_slice(&old[(b * image + at) * pixel..][..pixel]);
                }
            }
        }
    }
    Tensor::from_bytes(x.dtype(), shape, out)
}

#[cfg(test)]
mod tests {
    use super::super::window::Padding;
    use super::*;

    #[test]
    fn windows_reach_beyond_the_edge() {
        let x = Tensor::from_vec(vec![1i32, 2, 3, 4], [1, 2, 2, 1]).expect("tensor");
        let out = extract_patches(&x, &[2, 2], &Slide::new([1, 1], Padding::Same)).expect("patches");
        assert_eq!(out.shape(), [1, 2, 2, 4]);
        assert_eq!(out.as_slice::<i32>().expect("i32")[4..8], [2, 0, 4, 0]);
        assert!(extract_patches(&x, &[usize::MAX, 2], &Slide::new([1, 1], Padding::Same)).is_err());
    }
}
