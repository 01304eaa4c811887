//! Transposed convolutions: each pixel by the whole filter at once, which is a product of rows, and these summed where
//! windows overlap, each line of the result by one thread.
#![allow(unsafe_code, reason = "threads write to lines of their own of one result, by pointer")]

use smallvec::{SmallVec, smallvec};

use super::after::{self, After};
use super::tile::Out;
use super::{Packed, fresh, multiply};
use crate::kernels::window::{Axis, Slide, axes, output_shape};
use crate::kernels::{parallel, simd};
use crate::{Error, Result, Shape, Tensor};

/// Elements of products that are held at once, if several images have fewer.
const HELD: usize = 1 << 22;

/// A transposed convolution (`tf.nn.conv_transpose`), whose result has `shape`, and what comes after it. The filter
/// `[spatial.., channels, depth]` is packed transposed, so that its last dimension is summed over.
///
/// # Errors
/// When `y` isn't `float32`, shapes don't fit (`y` must be as a convolution would make it from `shape`), or `after` doesn't
/// fit the result.
pub fn conv_transpose_after(
    shape: &[usize],
    filter: &Packed,
    y: &Tensor,
    slide: &Slide,
    after: &[After<'_>],
) -> Result<Tensor> {
    let unfit = || {
        Error::shape(format!(
            "a filter of shape {:?} doesn't make {shape:?} of {:?}",
            filter.weights().shape(),
            y.shape()
        ))
    };
    let (&[batch, ref extents @ .., channels], &[depth, ref kernel @ .., n]) = (shape, filter.shape()) else {
        return Err(unfit());
    };
    if channels != n || extents.len() != kernel.len() || extents.is_empty() {
        return Err(unfit());
    }
    let axes = axes(extents, kernel, slide)?;
    if output_shape(batch, &axes, depth)[..] != *y.shape() {
        return Err(unfit());
    }
    let mut result = fresh(shape)?;
    let out = result.make_mut::<f32>()?;
    let Some((last, outer)) = axes.split_last().filter(|_| !out.is_empty()) else { return Ok(result) };
    after::check(after, out.len(), channels)?;
    let ys = y.elements::<f32>()?;
    let positions: usize = axes.iter().map(|a| a.out).product();
    let width = filter.width();
    let lines: usize = outer.iter().map(|a| a.input).product();
    let to = Out(out.as_mut_ptr());
    let some = (HELD / (positions * width).max(1)).clamp(1, batch);
    for first in (0..batch).step_by(some) {
        let rows = some.min(batch - first) * positions;
        let from = &ys[first * positions * depth..][..rows * depth];
        let held = Shape::from_slice(&[rows, width]);
        let products = multiply(from, rows, &|row| row * depth, &[0], depth, filter, held, &[])?;
        let job = Lines { products: products.as_slice::<f32>()?, outer, last: *last, channels, width, lines };
        let cost = last.out * last.kernel * channels;
        parallel::for_ranges(some.min(batch - first) * lines, cost, |range| {
            for index in range {
                // SAFETY: every line of the result comes once.
                unsafe { job.finish(&to, first * lines, index, after) };
            }
        });
    }
    Ok(result)
}

/// The products of some images, and how lines are made of them.
struct Lines<'a> {
    products: &'a [f32],
    outer: &'a [Axis],
    last: Axis,
    channels: usize,
    /// Elements of a product's row: those of a window.
    width: usize,
    /// Lines in an image.
    lines: usize,
}

impl Lines<'_> {
    /// Makes line `index` of these images, before which the result has `before` lines, and does what comes after.
    ///
    /// # Safety
    /// That line lies in the result, nobody else touches it meanwhile, and [`after::check`] passed.
    unsafe fn finish(&self, out: &Out, before: usize, index: usize, after: &[After<'_>]) {
        let (pixels, line) = (self.last.input, before + index);
        // SAFETY: as the caller says; so below.
        unsafe {
            let start = out.0.add(line * pixels * self.channels);
            self.sum(index, std::slice::from_raw_parts_mut(start, pixels * self.channels));
            after::apply(after, out.0, self.channels, line * pixels..(line + 1) * pixels, 0..self.channels);
        }
    }

    fn sum(&self, index: usize, line: &mut [f32]) {
        let sources = self.sources(index);
        let (last, channels) = (self.last, self.channels);
        simd::run(
            #[inline(always)]
            |_| {
                line.fill(0.0);
                for &(tap, row) in &sources {
                    for o in 0..last.out {
                        let (start, taps) = last.taps(o);
                        let product = &self.products[(row * last.out + o) * self.width..][..self.width];
                        let mut add = |first: usize, count: usize| {
                            let pixel = (start + (first * last.dilation) as isize) as usize;
                            let from = &product[(tap * last.kernel + first) * channels..][..count * channels];
                            let to = &mut line[pixel * channels..][..count * channels];
                            to.iter_mut().zip(from).for_each(|(o, v)| *o += v);
                        };
                        if taps.is_empty() {
                            continue;
                        }
                        if last.dilation == 1 {
                            add(taps.start, taps.len());
                        } else {
                            taps.for_each(|t| add(t, 1));
                        }
                    }
                }
            },
        );
    }

    /// The lines of windows that reach line `index`, and by which line of the filter.
    fn sources(&self, index: usize) -> SmallVec<[(usize, usize); 8]> {
        let mut sources: SmallVec<[(usize, usize); 8]> = smallvec![(0, index / self.lines.max(1))];
        let mut below = self.lines;
        for axis in self.outer {
            below /= axis.input;
            let at = index / below % axis.input + axis.before;
            let reach = |tap: usize| {
                let from = at.checked_sub(tap * axis.dilation)?;
                (from.is_multiple_of(axis.stride) && from / axis.stride < axis.out)
                    .then_some((tap, from / axis.stride))
            };
            let taps: SmallVec<[(usize, usize); 8]> = (0..axis.kernel).filter_map(reach).collect();
            let all = |(tap, row): &(usize, usize)| {
                let (tap, row) = (tap * axis.kernel, row * axis.out);
                taps.iter().map(move |(t, o)| (tap + t, row + o)).collect::<SmallVec<[_; 8]>>()
            };
            sources = sources.iter().flat_map(all).collect();
        }
        sources
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::numbers;
    use super::*;
    use crate::kernels::activation::Activation;
    use crate::kernels::conv::conv_transpose;
    use crate::kernels::window::Padding;

    /// Compares with the plain one, `shape` being that of the result.
    fn check(shape: &[usize], kernel: &[usize], depth: usize, slide: &Slide) {
        let (rank, channels) = (kernel.len(), shape[shape.len() - 1]);
        let Ok(extents) = axes(&shape[1..=rank], kernel, slide) else { return };
        let y = numbers(&output_shape(shape[0], &extents, depth), 1);
        let filter = numbers(&[kernel, &[channels, depth]].concat(), 2);
        let want = conv_transpose(shape, &filter, &y, slide).expect("fits");
        let packed = Packed::new(&filter, 1, true).expect("memory").expect("f32");
        let row = numbers(&[channels], 3);
        let row = row.as_slice::<f32>().expect("f32");
        let after = [After::AddRow(row), After::Apply(Activation::Relu)];
        let got = conv_transpose_after(shape, &packed, &y, slide, &after).expect("fits");
        let want = want.as_slice::<f32>().expect("f32").iter().enumerate();
        let want: Vec<f32> = want.map(|(i, v)| (v + row[i % channels]).max(0.0)).collect();
        assert_eq!(got.shape(), shape);
        assert_eq!(got.as_slice::<f32>().expect("f32"), want, "{shape:?} {kernel:?} {slide:?}");
    }

    proptest! {
        #[test]
        fn transposed_convolutions_are_the_plain_ones(
            h in 1usize..9, w in 1usize..9, kh in 1usize..5, kw in 1usize..5, sy in 1usize..4, sx in 1usize..4,
            dy in 1usize..3, dx in 1usize..3, channels in 1usize..20, depth in 1usize..5, same in any::<bool>(),
        ) {
            let padding = if same { Padding::Same } else { Padding::Explicit(vec![[3, 2], [1, 4]]) };
            let slide = Slide::new([sy, sx], padding).dilated([dy, dx]);
            check(&[2, h, w, channels], &[kh, kw], depth, &slide);
        }
    }

    #[test]
    fn other_ranks() {
        check(&[2, 9, 3], &[4], 2, &Slide::new([2], Padding::Same));
        check(&[2, 4, 5, 6, 3], &[3, 2, 3], 2, &Slide::new([1, 2, 2], Padding::Same));
        check(&[0, 4, 5, 3], &[2, 2], 2, &Slide::new([2, 2], Padding::Same));
    }

    #[test]
    fn large_images_are_shared_out() {
        check(&[3, 64, 64, 32], &[2, 2], 8, &Slide::new([2, 2], Padding::Valid));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let filter = Packed::new(&numbers(&[2, 2, 3, 4], 1), 1, true).expect("memory").expect("f32");
        let slide = Slide::new([2, 2], Padding::Same);
        let y = numbers(&[1, 3, 3, 4], 2);
        assert!(conv_transpose_after(&[1, 6, 6, 3], &filter, &y, &slide, &[]).is_ok());
        for shape in [&[1, 8, 6, 3][..], &[1, 6, 6, 2], &[2, 6, 6, 3], &[6, 6, 3], &[]] {
            assert!(conv_transpose_after(shape, &filter, &y, &slide, &[]).is_err());
        }
        assert!(conv_transpose_after(&[1, 6, 6, 3], &filter, &y, &slide, &[After::AddRow(&[0.0])]).is_err());
    }
}
