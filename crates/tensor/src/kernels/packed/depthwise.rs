//! Convolutions of each channel by itself: a few positions by a few registers of channels at a time.
#![allow(unsafe_code, reason = "the image is read by pointer; taps are clipped to it")]

use std::ops::Range;

use super::after::{self, After, Line as Steps};
use super::fresh;
use super::tile::Out;
use super::vector::{self, Task, Vector};
use crate::kernels::parallel;
use crate::kernels::window::{Axis, Slide, axes, output_shape};
use crate::{Error, Result, Tensor};

/// A convolution of each channel by itself (`tf.nn.depthwise_conv2d`), and what comes after it: `x` is `[batch, height, width,
/// channels]`, `filter` `[height, width, channels, 1]`.
///
/// # Errors
/// When they aren't `float32`, or shapes don't fit.
pub fn depthwise_after(x: &Tensor, filter: &Tensor, slide: &Slide, after: &[After<'_>]) -> Result<Tensor> {
    let unfit = || {
        Error::shape(format!("a depthwise filter of shape {:?} doesn't fit {:?}", filter.shape(), x.shape()))
    };
    let (&[batch, height, width, channels], &[tall, wide, seen, 1]) = (x.shape(), filter.shape()) else {
        return Err(unfit());
    };
    if seen != channels {
        return Err(unfit());
    }
    let [y, x_axis] = axes(&[height, width], &[tall, wide], slide)?[..] else { return Err(unfit()) };
    let (xs, ws) = (x.elements::<f32>()?, filter.elements::<f32>()?);
    let mut result = fresh(&output_shape(batch, &[y, x_axis], channels))?;
    let out = result.make_mut::<f32>()?;
    if out.is_empty() {
        return Ok(result);
    }
    after::check(after, out.len(), channels)?;
    let to = Out(out.as_mut_ptr());
    let cost = x_axis.out * channels * tall * wide;
    parallel::for_ranges(batch * y.out, cost, |lines| {
        vector::dispatch(Lines { xs: &xs, ws: &ws, y, x: x_axis, channels, lines, out: &to, after });
    });
    Ok(result)
}

/// Lines of the result.
struct Lines<'a> {
    xs: &'a [f32],
    ws: &'a [f32],
    y: Axis,
    x: Axis,
    channels: usize,
    lines: Range<usize>,
    out: &'a Out,
    after: &'a [After<'a>],
}

impl Task for Lines<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let c = self.channels;
        let image = self.y.input * self.x.input * c;
        // Positions whose windows lie within a line.
        let whole = |o: &usize| self.x.taps(*o).1.len() == self.x.kernel;
        let first = (0..self.x.out).find(whole).unwrap_or(self.x.out);
        let end = (first..self.x.out).find(|o| !whole(o)).unwrap_or(self.x.out);
        for index in self.lines.clone() {
            let (begin, rows) = self.y.taps(index % self.y.out);
            let xs = &self.xs[(index / self.y.out) * image..][..image];
            let mut rest = self.after;
            let line = Line { lines: &self, xs, begin, rows, index, steps: Steps::of(&mut rest) };
            let mut channel = 0;
            // SAFETY: the machine has `V`; each call stays within the channels and the positions.
            unsafe {
                while channel + 4 * V::LANES <= c {
                    line.channels::<V, 4>(channel, 4 * V::LANES, first..end);
                    channel += 4 * V::LANES;
                }
                while channel < c {
                    let count = V::LANES.min(c - channel);
                    line.channels::<V, 1>(channel, count, first..end);
                    channel += count;
                }
                let rows = index * self.x.out..(index + 1) * self.x.out;
                after::apply(rest, self.out.0, c, rows, 0..c);
            }
        }
    }
}

/// One line of the result, and the rows of the window that lie within the image.
struct Line<'a> {
    lines: &'a Lines<'a>,
    xs: &'a [f32],
    begin: isize,
    rows: Range<usize>,
    index: usize,
    /// What is done to results before they are written.
    steps: Steps<'a>,
}

impl Line<'_> {
    /// `count` channels from `channel` on, which fill `REGISTERS` or are fewer than one; `inner` are the positions whose
    /// windows lie within the line.
    #[inline(always)]
    unsafe fn channels<V: Vector, const REGISTERS: usize>(
        &self,
        channel: usize,
        count: usize,
        inner: Range<usize>,
    ) {
        let mut o = 0;
        // SAFETY: as the caller says.
        unsafe {
            while o < self.lines.x.out {
                if inner.contains(&o) && o + 2 <= inner.end {
                    self.positions::<V, REGISTERS, 2>(channel, count, o);
                    o += 2;
                } else {
                    self.positions::<V, REGISTERS, 1>(channel, count, o);
                    o += 1;
                }
            }
        }
    }

    /// `POSITIONS` neighbours from `o` on, all with the taps of the first.
    #[inline(always)]
    unsafe fn positions<V: Vector, const REGISTERS: usize, const POSITIONS: usize>(
        &self,
        channel: usize,
        count: usize,
        o: usize,
    ) {
        let Lines { ws, y, x, channels, .. } = self.lines;
        // Of each register: all of it where there are several, else as many channels as are left.
        let count = if count == REGISTERS * V::LANES { V::LANES } else { count };
        let (start, taps) = x.taps(o);
        // SAFETY: taps were clipped to the image, so each pixel that is read lies within it, with its channels; so do the
        // filter's. Where the channels end, vectors are masked.
        unsafe {
            let load = |from: *const f32, j: usize| V::load_some(from.add(j * V::LANES), count);
            let mut sums = [[V::zero(); REGISTERS]; POSITIONS];
            for row in self.rows.clone() {
                let line = (self.begin + (row * y.dilation) as isize) as usize * x.input;
                for tap in taps.clone() {
                    let pixel = line + (start + (tap * x.dilation) as isize) as usize;
                    let from = self.xs.as_ptr().add(pixel * channels + channel);
                    let weights = ws.as_ptr().add((row * x.kernel + tap) * channels + channel);
                    let w: [V; REGISTERS] = std::array::from_fn(|j| load(weights, j));
                    for (p, sums) in sums.iter_mut().enumerate() {
                        let from = from.add(p * x.stride * channels);
                        for (j, (sum, w)) in sums.iter_mut().zip(w).enumerate() {
                            *sum = load(from, j).mul_add(w, *sum);
                        }
                    }
                }
            }
            for (p, sums) in sums.into_iter().enumerate() {
                let at = (self.index * x.out + o + p) * channels + channel;
                let to = self.lines.out.0.add(at);
                for (j, sum) in sums.into_iter().enumerate() {
                    let skip = j * V::LANES;
                    self.steps.finish(sum, at + skip, channel + skip, count).store_some(to.add(skip), count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::numbers;
    use super::*;
    use crate::kernels::conv::depthwise_conv;
    use crate::kernels::window::Padding;

    proptest! {
        #[test]
        fn it_is_the_plain_one(
            h in 1usize..9, w in 1usize..9, kh in 1usize..4, kw in 1usize..4, s in 1usize..3, d in 1usize..3,
            channels in 1usize..150, same in any::<bool>(),
        ) {
            let padding = if same { Padding::Same } else { Padding::Explicit(vec![[5, 2], [2, 5]]) };
            let slide = Slide::new([s, s], padding).dilated([d, d]);
            let (x, f) = (numbers(&[2, h, w, channels], 1), numbers(&[kh, kw, channels, 1], 2));
            let want = depthwise_conv(&x, &f, &slide).expect("fits");
            let bias = numbers(&[channels], 3);
            let bias = bias.as_slice::<f32>().expect("f32");
            let got = depthwise_after(&x, &f, &slide, &[]).expect("fits");
            prop_assert_eq!(got.shape(), want.shape());
            prop_assert_eq!(got.as_slice::<f32>().expect("f32"), want.as_slice::<f32>().expect("f32"));
            let got = depthwise_after(&x, &f, &slide, &[After::AddRow(bias)]).expect("fits");
            let want: Vec<f32> =
                want.as_slice::<f32>().expect("f32").iter().enumerate().map(|(i, v)| v + bias[i % channels]).collect();
            prop_assert_eq!(got.as_slice::<f32>().expect("f32"), want);
        }
    }
}
