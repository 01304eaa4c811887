//! Convolutions as products of windows, read from the image where it lies.

use super::{After, Packed, multiply, winograd};
use crate::kernels::parallel;
use crate::kernels::window::{Axis, Positions, Slide, axes, output_shape};
use crate::{Error, Result, Shape, Tensor, checked_elements};

/// The shape of [`conv_after`]'s result for an image and a filter of these shapes.
///
/// # Errors
/// When they don't fit, or the filter sees only some of the channels.
pub fn conv_shape(x: &[usize], filter: &[usize], slide: &Slide) -> Result<Shape> {
    let (batch, axes, out) = extents(x, filter, slide)?;
    Ok(output_shape(batch, &axes, out))
}

fn extents(x: &[usize], filter: &[usize], slide: &Slide) -> Result<(usize, Vec<Axis>, usize)> {
    let unfit = || Error::shape(format!("a filter of shape {filter:?} doesn't fit an input of shape {x:?}"));
    let ([batch, input @ .., channels], [kernel @ .., seen, out]) = (x, filter) else {
        return Err(unfit());
    };
    if seen != channels || input.len() != kernel.len() || input.is_empty() {
        return Err(unfit());
    }
    Ok((*batch, axes(input, kernel, slide)?, *out))
}

/// A convolution (`tf.nn.convolution`) with packed weights `[spatial.., channels, out]`, and what comes after it.
///
/// # Errors
/// When `x` isn't `float32`, or shapes don't fit; the filter must see all channels.
pub fn conv_after(x: &Tensor, filter: &Packed, slide: &Slide, after: &[After<'_>]) -> Result<Tensor> {
    let (batch, axes, out) = extents(x.shape(), filter.shape(), slide)?;
    let shape = output_shape(batch, &axes, out);
    let channels = x.shape().last().copied().unwrap_or_default();
    let rows = checked_elements(&shape)? / out.max(1);
    let xs = x.elements::<f32>()?;
    if rows == 0 {
        return multiply(&xs, 0, &|_| 0, &[0], filter.depth(), filter, shape, &[]);
    }
    if filter.windows {
        let plain = |a: &Axis| a.kernel == 3 && a.stride == 1 && a.dilation == 1;
        return match axes[..] {
            [y, x_axis] if plain(&y) && plain(&x_axis) => winograd::conv(x, filter, [y, x_axis], after),
            _ => Err(Error::shape("a filter that was laid out for windows that slide by one")),
        };
    }
    // Each pixel by itself, in order: a product of rows, whose places need no arithmetic to speak of.
    if axes.iter().all(|a| a.kernel == 1 && a.stride == 1 && a.before == 0 && a.out == a.input) {
        return multiply(&xs, rows, &|row| row * channels, &[0], channels, filter, shape, after);
    }
    let (image, extents) = padded(&xs, batch, &axes, channels)?;
    let xs = match &image {
        Some(image) => image.elements::<f32>()?,
        None => xs,
    };
    // Steps from an element to its neighbour along each axis, in elements of the padded image.
    let mut steps: Shape = extents.iter().map(|_| channels).collect();
    for d in (0..extents.len().saturating_sub(1)).rev() {
        steps[d] = steps[d + 1] * extents[d + 1];
    }
    let image = extents.iter().product::<usize>() * channels;
    let starts = |row: usize| {
        let at = Positions::new(&axes, row);
        let within = at.at.iter().zip(&axes).zip(&steps).map(|((o, axis), step)| o * axis.stride * step);
        at.batch * image + within.sum::<usize>()
    };
    let (offsets, length) = stretches(&axes, &steps, channels);
    multiply(&xs, rows, &starts, &offsets, length, filter, shape, after)
}

/// Where the stretches of a window begin, and how long they are: a row of the window if it is dense, else an element of it.
fn stretches(axes: &[Axis], steps: &[usize], channels: usize) -> (Vec<usize>, usize) {
    let dense = axes.last().is_some_and(|a| a.dilation == 1 || a.kernel == 1);
    let inner = axes.last().map_or(1, |a| a.kernel);
    let (split, length) =
        if dense { (axes.len().saturating_sub(1), inner * channels) } else { (axes.len(), channels) };
    let mut offsets = vec![0];
    for (axis, step) in axes.iter().zip(steps).take(split) {
        let taps = 0..axis.kernel;
        offsets =
            offsets.iter().flat_map(|o| taps.clone().map(move |t| o + t * axis.dilation * step)).collect();
    }
    (offsets, length)
}

/// The image with zeros around it as far as windows reach beyond it, unless it is large enough as it is; and its spatial
/// extents.
fn padded(xs: &[f32], batch: usize, axes: &[Axis], channels: usize) -> Result<(Option<Tensor>, Shape)> {
    let reach = |a: &Axis| a.out.saturating_sub(1) * a.stride + (a.kernel - 1) * a.dilation + 1;
    let given: Shape = axes.iter().map(|a| a.input).collect();
    if axes.iter().all(|a| a.before == 0 && reach(a) <= a.input) {
        return Ok((None, given));
    }
    let extents: Shape = axes.iter().map(|a| reach(a).max(a.before)).collect();
    let too_large = || Error::too_large("a padded image is larger than memory could be");
    let len = checked_elements(&extents)?.checked_mul(channels).and_then(|n| n.checked_mul(batch));
    let mut image = super::fresh(&[len.ok_or_else(too_large)?])?;
    let (Some(last), Some((wide, outer))) = (axes.last(), extents.split_last()) else {
        return Ok((None, given));
    };
    let (from, to) = (last.input * channels, wide * channels);
    // What of a line of the image windows reach, and where it begins.
    let (kept, begin) = (last.input.min(wide - last.before) * channels, last.before * channels);
    let (lines, outer_lines) =
        (given[..given.len() - 1].iter().product::<usize>(), outer.iter().product::<usize>().max(1));
    // The line of the image that a line of the padded one holds.
    let source = |index: usize| {
        let (mut rest, mut line, mut step) = (index % outer_lines, 0, 1);
        for (axis, &extent) in axes[..axes.len() - 1].iter().zip(outer).rev() {
            let at = (rest % extent).checked_sub(axis.before).filter(|at| *at < axis.input)?;
            rest /= extent;
            line += at * step;
            step *= axis.input;
        }
        Some(((index / outer_lines) * lines + line) * from)
    };
    parallel::for_parts(image.make_mut::<f32>()?, to, 1, |start, part| {
        for (i, line) in part.chunks_exact_mut(to).enumerate() {
            match source(start / to + i) {
                None => line.fill(0.0),
                Some(at) => {
                    line[..begin].fill(0.0);
                    line[begin..begin + kept].copy_from_slice(&xs[at..at + kept]);
                    line[begin + kept..].fill(0.0);
                }
            }
        }
    });
    Ok((Some(image), extents))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::numbers;
    use super::*;
    use crate::kernels::conv::conv;
    use crate::kernels::window::Padding;

    fn check(x: &Tensor, f: &Tensor, slide: &Slide) {
        let want = conv(x, f, slide, None).expect("fits");
        let packed = Packed::new(f, f.rank() - 1, false).expect("memory").expect("f32");
        assert_eq!(&conv_shape(x.shape(), f.shape(), slide).expect("fits")[..], want.shape());
        for packed in [packed.clone(), packed.laid_out().expect("memory")] {
            let got = conv_after(x, &packed, slide, &[]).expect("fits");
            // By value: the sign of a zero is nobody's.
            let same =
                got.shape() == want.shape() && got.as_slice::<f32>().ok() == want.as_slice::<f32>().ok();
            assert!(same, "{:?} {:?} {slide:?}", x.shape(), f.shape());
        }
    }

    proptest! {
        #[test]
        fn convolutions_are_the_plain_ones(
            h in 1usize..9, w in 1usize..9, kh in 1usize..4, kw in 1usize..4, sy in 1usize..4, sx in 1usize..4,
            dy in 1usize..3, dx in 1usize..3, channels in 1usize..4, out in 1usize..40, same in any::<bool>(),
        ) {
            let padding = if same { Padding::Same } else { Padding::Explicit(vec![[5, 2], [2, 5]]) };
            let slide = Slide::new([sy, sx], padding).dilated([dy, dx]);
            check(&numbers(&[2, h, w, channels], 1), &numbers(&[kh, kw, channels, out], 2), &slide);
        }
    }

    #[test]
    fn single_pixels() {
        for stride in [1, 2] {
            let slide = Slide::new([stride; 2], Padding::Same);
            check(&numbers(&[2, 5, 7, 6], 1), &numbers(&[1, 1, 6, 70], 2), &slide);
        }
        let around = Slide::new([1, 1], Padding::Explicit(vec![[1, 0], [0, 2]]));
        check(&numbers(&[2, 5, 7, 6], 1), &numbers(&[1, 1, 6, 20], 2), &around);
    }

    #[test]
    fn other_ranks() {
        check(&numbers(&[2, 9, 3], 1), &numbers(&[4, 3, 5], 2), &Slide::new([2], Padding::Same));
        let cube = Slide::new([1, 2, 1], Padding::Same);
        check(&numbers(&[2, 4, 5, 6, 3], 1), &numbers(&[3, 2, 3, 3, 5], 2), &cube);
        check(&numbers(&[0, 9, 3], 1), &numbers(&[4, 3, 5], 2), &Slide::new([1], Padding::Valid));
    }
}
