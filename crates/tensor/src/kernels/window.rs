//! Windows that slide over spatial dimensions: what convolutions and poolings share.

use crate::{Error, Result, Shape};

/// What surrounds the input of a convolution or a pooling.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Padding {
    /// Nothing: a window lies within the input.
    #[default]
    Valid,
    /// As much as makes the output `ceil(input / stride)` long, the odd one after.
    Same,
    /// So much before and after each spatial dimension.
    Explicit(Vec<[usize; 2]>),
}

/// How a window slides: for each spatial dimension its steps and the distance of its elements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slide {
    /// Steps from one window to the next.
    pub strides: Vec<usize>,
    /// Distance between neighbours within a window; 1 is dense.
    pub dilations: Vec<usize>,
    /// What surrounds the input.
    pub padding: Padding,
}

impl Slide {
    /// Dense windows with these strides.
    pub fn new(strides: impl Into<Vec<usize>>, padding: Padding) -> Self {
        let strides = strides.into();
        Slide { dilations: vec![1; strides.len()], strides, padding }
    }

    /// The same with these dilations.
    pub fn dilated(mut self, dilations: impl Into<Vec<usize>>) -> Self {
        self.dilations = dilations.into();
        self
    }
}

/// One spatial dimension of a sliding window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    pub input: usize,
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    pub before: usize,
    pub out: usize,
}

impl Axis {
    /// The taps of the window at output `o` that lie within the input, and the input index of tap 0 (may be before it).
    #[inline(always)]
    pub(crate) fn taps(&self, o: usize) -> (isize, std::ops::Range<usize>) {
        let start = (o * self.stride) as isize - self.before as isize;
        let first = if start < 0 { (-start as usize).div_ceil(self.dilation) } else { 0 };
        let room = self.input as isize - start;
        let end = if room <= 0 { 0 } else { (room as usize).div_ceil(self.dilation) };
        (start, first.min(self.kernel)..end.min(self.kernel).max(first.min(self.kernel)))
    }
}

/// The spatial dimensions of a window of `kernel` extents sliding over `input` extents.
pub(crate) fn axes(input: &[usize], kernel: &[usize], slide: &Slide) -> Result<Vec<Axis>> {
    let rank = input.len();
    let explicit = match &slide.padding {
        Padding::Explicit(pads) => pads.len() == rank,
        _ => true,
    };
    if kernel.len() != rank || slide.strides.len() != rank || slide.dilations.len() != rank || !explicit {
        return Err(Error::shape(format!(
            "a window {kernel:?} that slides by {slide:?} doesn't fit {rank} spatial dimensions"
        )));
    }
    let mut axes = Vec::with_capacity(rank);
    for d in 0..rank {
        let (input, kernel, stride, dilation) = (input[d], kernel[d], slide.strides[d], slide.dilations[d]);
        if stride == 0 || dilation == 0 || kernel == 0 {
            return Err(Error::value("a window's extents, strides and dilations must be positive"));
        }
        let too_large = || Error::too_large("a window is larger than memory could be");
        let span = (kernel - 1).checked_mul(dilation).and_then(|s| s.checked_add(1)).ok_or_else(too_large)?;
        let (before, after) = match &slide.padding {
            Padding::Valid => (0, 0),
            Padding::Same => {
                let out = input.div_ceil(stride);
                let needed = out.saturating_sub(1).checked_mul(stride).and_then(|n| n.checked_add(span));
                let total = needed.ok_or_else(too_large)?.saturating_sub(input);
                (total / 2, total - total / 2)
            }
            Padding::Explicit(pads) => (pads[d][0], pads[d][1]),
        };
        let padded = input.checked_add(before).and_then(|n| n.checked_add(after)).ok_or_else(too_large)?;
        // Index arithmetic is signed, so everything must stay well below its limit.
        if padded > isize::MAX as usize / 2 || span > isize::MAX as usize / 2 {
            return Err(too_large());
        }
        if padded < span && input > 0 {
            return Err(Error::shape(format!(
                "a window that spans {span} doesn't fit into {padded}, the input of {input} with its padding"
            )));
        }
        let out = if padded < span { 0 } else { (padded - span) / stride + 1 };
        axes.push(Axis { input, kernel, stride, dilation, before, out });
    }
    Ok(axes)
}

/// The output shape of a window that slides over `input` (`[batch, spatial.., channels]`), with other channels.
pub(crate) fn output_shape(batch: usize, axes: &[Axis], channels: usize) -> Shape {
    let mut shape = Shape::new();
    shape.push(batch);
    shape.extend(axes.iter().map(|a| a.out));
    shape.push(channels);
    shape
}

/// Goes through output positions in C order from a flat start.
#[derive(Clone)]
pub(crate) struct Positions<'a> {
    axes: &'a [Axis],
    pub batch: usize,
    pub at: Shape,
}

impl<'a> Positions<'a> {
    pub(crate) fn new(axes: &'a [Axis], flat: usize) -> Self {
        let mut rest = flat;
        let mut at: Shape = axes.iter().map(|_| 0).collect();
        for (slot, axis) in at.iter_mut().zip(axes).rev() {
            let out = axis.out.max(1);
            *slot = rest % out;
            rest /= out;
        }
        Positions { axes, batch: rest, at }
    }

    #[inline(always)]
    pub(crate) fn advance(&mut self) {
        for (slot, axis) in self.at.iter_mut().zip(self.axes).rev() {
            *slot += 1;
            if *slot < axis.out {
                return;
            }
            *slot = 0;
        }
        self.batch += 1;
    }
}

/// Calls `f(tap, input)` for every tap of the window at `at` but along the last axis: the flat index of the tap's row of
/// the kernel and of the input's row, both in units of the last axis.
#[inline(always)]
pub(crate) fn outer_taps(axes: &[Axis], at: &[usize], mut f: impl FnMut(usize, usize)) {
    let Some((last, outer)) = axes.split_last() else { return };
    // Far padding: nothing of the window lies within the input.
    if at.last().is_none_or(|&o| last.taps(o).1.is_empty()) {
        return;
    }
    match outer {
        [] => f(0, 0),
        [a] => {
            let (start, taps) = a.taps(at[0]);
            for t in taps {
                f(t, (start + (t * a.dilation) as isize) as usize);
            }
        }
        _ => {
            let ranges: Vec<(isize, std::ops::Range<usize>)> =
                outer.iter().zip(at).map(|(a, &o)| a.taps(o)).collect();
            if ranges.iter().any(|(_, r)| r.is_empty()) {
                return;
            }
            let mut tap: Vec<usize> = ranges.iter().map(|(_, r)| r.start).collect();
            loop {
                let (mut kernel_row, mut input_row) = (0, 0);
                for ((a, (start, _)), &t) in outer.iter().zip(&ranges).zip(&tap) {
                    kernel_row = kernel_row * a.kernel + t;
                    input_row = input_row * a.input + (start + (t * a.dilation) as isize) as usize;
                }
                f(kernel_row, input_row);
                let mut d = outer.len();
                loop {
                    if d == 0 {
                        return;
                    }
                    d -= 1;
                    tap[d] += 1;
                    if tap[d] < ranges[d].1.end {
                        break;
                    }
                    tap[d] = ranges[d].1.start;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_extents_are_tensorflows() {
        let out = |input, kernel, stride, dilation, padding| {
            axes(&[input], &[kernel], &Slide::new([stride], padding).dilated([dilation]))
                .map(|a| (a[0].out, a[0].before))
        };
        assert_eq!(out(5, 3, 2, 1, Padding::Same).expect("fits"), (3, 1));
        assert_eq!(out(6, 3, 2, 1, Padding::Same).expect("fits"), (3, 0));
        assert_eq!(out(6, 3, 2, 1, Padding::Valid).expect("fits"), (2, 0));
        assert_eq!(out(6, 3, 1, 2, Padding::Valid).expect("fits"), (2, 0));
        assert_eq!(out(4, 2, 3, 1, Padding::Explicit(vec![[1, 2]])).expect("fits"), (2, 1));
        assert!(out(2, 3, 1, 1, Padding::Valid).is_err());
        assert!(out(2, 3, 0, 1, Padding::Valid).is_err());
        assert!(out(usize::MAX, 3, 1, 1, Padding::Same).is_err());
    }

    #[test]
    fn taps_are_clipped_to_the_input() {
        let a = axes(&[5], &[3], &Slide::new([2], Padding::Same)).expect("fits")[0];
        assert_eq!(a.taps(0), (-1, 1..3));
        assert_eq!(a.taps(1), (1, 0..3));
        assert_eq!(a.taps(2), (3, 0..2));
    }
}
