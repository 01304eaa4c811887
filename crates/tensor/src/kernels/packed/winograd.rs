//! Convolutions by windows of three by three that slide by one, with fewer multiplications: Winograd's F(2x2, 3x3), as in Lavin and
//! Gray, "Fast Algorithms for Convolutional Neural Networks" (2015).
//!
//! Four neighbouring results come from a patch of four by four pixels. Patches and filters are transformed so that the sixteen
//! numbers of each are multiplied apart from each other, which makes sixteen products of matrices, and what these give is
//! transformed back: sixteen multiplications for what takes thirty-six. Some patches at a time go all the way in a core's
//! second cache. Sums are of other terms than a plain convolution's, so the last bits differ, and an infinite pixel makes
//! neighbours that aren't numbers.
#![allow(
    unsafe_code,
    reason = "images and patches are read and written by pointer; places are clipped to the image"
)]

use std::ops::Range;

use super::after::{self, After, Line};
use super::matrix::Matrix;
use super::tile::{Area, Job, Out, Rows, Tile, Weights};
use super::vector::{self, Task, Vector};
use super::{Packed, panel, scratch};
use crate::kernels::team;
use crate::kernels::window::{Axis, output_shape};
use crate::{Error, Result, Tensor};

/// Pixels along a side of a patch, and numbers in it.
const SIDE: usize = 4;
const POINTS: usize = SIDE * SIDE;
/// Results along a side.
const STEP: usize = 2;
/// Channels under which transforming costs more than it saves.
const LEAST: usize = 16;
/// Numbers of transformed patches that stay in a core's second cache beside the weights.
const CACHED: usize = 128 * 1024;
/// Patches that go the way together.
const MOST: usize = 96;
/// Numbers between the ends and beginnings of what belongs to neighbouring points, lest all fall into the same part of a cache.
const GAP: usize = 16;

/// Channels whose filters are transformed and used before the next ones, where that is done for each use.
const SOME: usize = 128;

/// Whether a filter of `shape` is one of those, and large enough for it to pay.
pub(super) fn takes(shape: &[usize]) -> bool {
    matches!(shape, &[3, 3, channels, n] if channels >= LEAST && n >= LEAST)
}

/// The filter `[3, 3, channels, out]` transformed: for each of the sixteen points the panels of a matrix `[channels, out]`, which
/// take `size` numbers.
///
/// # Errors
/// When there isn't memory for it.
pub(super) fn transformed(filter: &Matrix<'_>, size: usize) -> Result<Tensor> {
    let mut all = super::fresh(&[POINTS, size])?;
    let (k, n) = filter.extents();
    let channels = k / 9;
    if size != n.next_multiple_of(vector::lanes().0) * channels {
        return Err(Error::shape("transformed weights have other extents"));
    }
    let out = Out(all.make_mut::<f32>()?.as_mut_ptr());
    team::each(n.div_ceil(panel()), &|index| {
        let column = index * panel();
        // SAFETY: there is room for the panels of all channels at each point, and these are this call's alone.
        let to = unsafe { out.at(column * channels) };
        let width = panel().min(size / channels - column);
        vector::dispatch(Filters { filter, channels: 0..channels, column, width, to, step: size });
    });
    Ok(all)
}

/// Transforms the filters of some channels for a panel that is `width` wide, from `column` on; the panels of the points lie `step`
/// numbers apart, and there is room for them.
struct Filters<'a, 'm> {
    filter: &'a Matrix<'m>,
    channels: Range<usize>,
    column: usize,
    width: usize,
    to: *mut f32,
    step: usize,
}

/// How many channels ahead of those in use are fetched.
const AHEAD: usize = 4;

impl Task for Filters<'_, '_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Filters { filter, channels, column, width, mut to, step } = self;
        let (k, n) = filter.extents();
        let (tap, count) = (k / 9, width.min(n - column));
        for channel in channels {
            let mut taps = [std::ptr::null(); 9];
            for (i, from) in taps.iter_mut().enumerate() {
                *from = filter.stretch(i * tap + channel, column, count);
                // SAFETY: the machine has `V`.
                unsafe { filter.fetch::<V>(i * tap + channel + AHEAD, column, count) };
            }
            for at in (0..count).step_by(V::LANES) {
                let some = V::LANES.min(count - at);
                // SAFETY: the machine has `V`; each tap has `count` weights, and a panel's row has room for whole registers.
                unsafe {
                    let half = V::splat(0.5);
                    let mut weights = [V::zero(); 9];
                    for (weight, from) in weights.iter_mut().zip(taps) {
                        *weight = V::load_some(from.add(at), some);
                    }
                    let [a, b, c, d, e, f, g, h, i] = weights;
                    let (a, b, c) = (spread(a, d, g, half), spread(b, e, h, half), spread(c, f, i, half));
                    for (line, ((a, b), c)) in a.into_iter().zip(b).zip(c).enumerate() {
                        for (j, v) in spread(a, b, c, half).into_iter().enumerate() {
                            v.store(to.add((line * SIDE + j) * step + at));
                        }
                    }
                }
            }
            to = to.wrapping_add(width);
        }
    }
}

/// What a filter's three rows, or columns, contribute to each of four.
#[inline(always)]
unsafe fn spread<V: Vector>(a: V, b: V, c: V, half: V) -> [V; SIDE] {
    // SAFETY: the caller has `V`.
    unsafe { [a, a.add(b).add(c).mul(half), a.sub(b).add(c).mul(half), c] }
}

/// The convolution of images `[batch, height, width, channels]` with a transformed filter, and what comes after it.
pub(super) fn conv(
    x: &Tensor,
    filter: &Packed,
    [y, x_axis]: [Axis; 2],
    after: &[After<'_>],
) -> Result<Tensor> {
    let &[batch, _, _, channels] = x.shape() else {
        return Err(Error::shape("an image has four dimensions"));
    };
    let n = filter.n;
    let xs = x.elements::<f32>()?;
    let mut result = super::fresh(&output_shape(batch, &[y, x_axis], n))?;
    let out = result.make_mut::<f32>()?;
    if out.is_empty() {
        return Ok(result);
    }
    after::check(after, out.len(), n)?;
    let (down, across) = (y.out.div_ceil(STEP), x_axis.out.div_ceil(STEP));
    let patches = batch * down * across;
    let panels = n.div_ceil(panel());
    let threads = rayon::current_num_threads();
    let source = filter.source()?;
    let most = (CACHED / channels).clamp(24, MOST);
    let some = match source {
        Weights::Panels(_) => patches.div_ceil(threads * 3).next_multiple_of(24).min(most),
        // Fewer patches would have the filter transformed more often.
        Weights::Given(_) if patches <= MOST => patches,
        Weights::Given(_) => patches.div_ceil(patches.div_ceil(MOST).next_multiple_of(threads)),
    };
    let blocks = patches.div_ceil(some);
    // Where there are few patches, threads share the panels, and each transforms the patches for itself.
    let groups = if blocks >= threads * 2 { 1 } else { (threads * 2).div_ceil(blocks).min(panels) };
    let per_group = panels.div_ceil(groups);
    let groups = panels.div_ceil(per_group);
    let work = Work {
        xs: &xs,
        filter: source,
        channels,
        n,
        y,
        x: x_axis,
        down,
        across,
        out: Out(out.as_mut_ptr()),
        after,
    };
    let one = |index: usize| {
        let (block, group) = (index / groups, index % groups);
        let patches = block * some..(block * some + some).min(patches);
        let panels = group * per_group..(group * per_group + per_group).min(panels);
        scratch::with(work.room(patches.len()), |scratch| {
            vector::dispatch(Block { work: &work, patches, panels, scratch });
        });
    };
    team::each(blocks * groups, &one);
    Ok(result)
}

/// A convolution as a whole.
struct Work<'a> {
    xs: &'a [f32],
    filter: Weights<'a>,
    channels: usize,
    n: usize,
    y: Axis,
    x: Axis,
    /// Patches along each side of an image.
    down: usize,
    across: usize,
    out: Out,
    after: &'a [After<'a>],
}

impl Work<'_> {
    /// Numbers of `count` patches at one point, and the gap after them.
    fn point(&self, count: usize, columns: usize) -> usize {
        count * columns + GAP
    }

    /// Numbers that transformed patches, their products, and filters that are transformed for these take.
    fn room(&self, count: usize) -> usize {
        let filters = match self.filter {
            Weights::Panels(_) => 0,
            Weights::Given(_) => SOME.min(self.channels) * panel() + GAP,
        };
        POINTS * (self.point(count, self.channels) + self.point(count, panel()) + filters)
    }

    /// Where a patch is: its image, and its first result's row and column.
    fn place(&self, patch: usize) -> (usize, usize, usize) {
        let (rest, across) = (patch / self.across, patch % self.across);
        (rest / self.down, rest % self.down * STEP, across * STEP)
    }
}

/// Some patches, and the results of some panels.
struct Block<'a, 'w> {
    work: &'a Work<'w>,
    patches: Range<usize>,
    panels: Range<usize>,
    scratch: &'a mut [f32],
}

impl Task for Block<'_, '_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Block { work, patches, panels, scratch } = self;
        let (count, channels, n) = (patches.len(), work.channels, work.n);
        let step = work.point(count, channels);
        let (given, rest) = scratch.split_at_mut(POINTS * step);
        let (products, filters) = rest.split_at_mut(POINTS * work.point(count, panel()));
        for (i, patch) in patches.clone().enumerate() {
            // SAFETY: the machine has `V`; the scratch has room for all patches at all points.
            unsafe { work.transform::<V>(patch, given.as_mut_ptr().add(i * channels), step) };
        }
        let wide = V::LANES * V::WIDE;
        let starts: smallvec::SmallVec<[usize; MOST]> = (0..count).map(|i| i * channels).collect();
        let matrix = n.next_multiple_of(V::LANES) * channels;
        let mut rest = work.after;
        let line = Line::of(&mut rest);
        // How many channels' filters are used at a time.
        let some = match work.filter {
            Weights::Panels(_) => channels,
            Weights::Given(_) => SOME,
        };
        for panel in panels {
            let column = panel * wide;
            let columns = wide.min(n - column);
            let back = work.point(count, columns);
            for first in (0..channels).step_by(some) {
                let channels = first..(first + some).min(channels);
                let width = columns.next_multiple_of(V::LANES);
                let size = channels.len() * width;
                if let Weights::Given(filter) = &work.filter {
                    let (channels, to) = (channels.clone(), filters.as_mut_ptr());
                    // SAFETY: the machine has `V`; the scratch has room for so many filters at each point.
                    unsafe { Filters { filter, channels, column, width, to, step: size + GAP }.run::<V>() };
                }
                for point in 0..POINTS {
                    let panels = match work.filter {
                        Weights::Panels(all) => &all[point * matrix + column * work.channels..],
                        Weights::Given(_) => &filters[point * (size + GAP)..],
                    };
                    let job = Job {
                        xs: &given[point * step + first..(point + 1) * step - GAP],
                        offsets: &[0],
                        length: channels.len(),
                        weights: Weights::Panels(panels),
                        k: channels.len(),
                        n: columns,
                        out: Out(products[point * back..][..count * columns].as_mut_ptr()),
                        onto: first > 0,
                        after: &[],
                    };
                    let area = Area { rows: Rows { first: 0, starts: &starts }, panels: 0..1 };
                    // SAFETY: the machine has `V`; rows, panel and products have these extents.
                    unsafe { Tile { job: &job, area, scratch: &mut [] }.run::<V>() };
                }
            }
            for (i, patch) in patches.clone().enumerate() {
                let from = &products[i * columns..];
                // SAFETY: the machine has `V`; the products of this patch are those of `columns` at each point.
                unsafe { work.back::<V>(patch, from.as_ptr(), back, column..column + columns, &line, rest) };
            }
        }
    }
}

/// A patch's rows, or columns, transformed.
#[inline(always)]
unsafe fn forth<V: Vector>([a, b, c, d]: [V; SIDE]) -> [V; SIDE] {
    // SAFETY: the caller has `V`.
    unsafe { [a.sub(c), b.add(c), c.sub(b), b.sub(d)] }
}

/// Products' rows, or columns, transformed back.
#[inline(always)]
unsafe fn back<V: Vector>([a, b, c, d]: [V; SIDE]) -> [V; STEP] {
    // SAFETY: the caller has `V`.
    unsafe { [a.add(b).add(c), b.sub(c).sub(d)] }
}

impl Work<'_> {
    /// Writes what a patch is at each point, `step` numbers apart; pixels outside of the image are zeros.
    ///
    /// # Safety
    /// The machine has `V`, and there is room for all channels at each point.
    #[inline(always)]
    unsafe fn transform<V: Vector>(&self, patch: usize, to: *mut f32, step: usize) {
        let (image, row, column) = self.place(patch);
        let (y, x, c) = (self.y, self.x, self.channels);
        let pixels = self.xs[image * y.input * x.input * c..][..y.input * x.input * c].as_ptr();
        // Of each pixel, where it is, if it is within the image.
        let within = |at: usize, axis: Axis| at.checked_sub(axis.before).filter(|at| *at < axis.input);
        let rows: [Option<usize>; SIDE] = std::array::from_fn(|i| within(row + i, y));
        let columns: [Option<usize>; SIDE] = std::array::from_fn(|j| within(column + j, x));
        let places: [[Option<usize>; SIDE]; SIDE] =
            std::array::from_fn(|i| std::array::from_fn(|j| Some((rows[i]? * x.input + columns[j]?) * c)));
        let mut channel = 0;
        while channel < c {
            let count = V::LANES.min(c - channel);
            // SAFETY: pixels that there are lie within the image, with `count` channels from this one on.
            unsafe {
                let load = |place: Option<usize>| match place {
                    None => V::zero(),
                    Some(at) => V::load_some(pixels.add(at + channel), count),
                };
                let mut patch = [[V::zero(); SIDE]; SIDE];
                for (line, places) in patch.iter_mut().zip(places) {
                    *line = forth(places.map(load));
                }
                let columns: [[V; SIDE]; SIDE] =
                    std::array::from_fn(|j| forth(std::array::from_fn(|i| patch[i][j])));
                for (j, column) in columns.into_iter().enumerate() {
                    for (i, v) in column.into_iter().enumerate() {
                        v.store_some(to.add((i * SIDE + j) * step + channel), count);
                    }
                }
            }
            channel += count;
        }
    }

    /// Writes the results of a patch in some columns, from its products at each point, `step` numbers apart.
    ///
    /// # Safety
    /// The machine has `V`, the products of all columns are there, and nobody else writes these results.
    #[inline(always)]
    unsafe fn back<V: Vector>(
        &self,
        patch: usize,
        from: *const f32,
        step: usize,
        columns: Range<usize>,
        line: &Line<'_>,
        rest: &[After<'_>],
    ) {
        let (image, row, column) = self.place(patch);
        let (tall, wide) = (STEP.min(self.y.out - row), STEP.min(self.x.out - column));
        let first = (image * self.y.out + row) * self.x.out + column;
        let mut done = 0;
        while done < columns.len() {
            let count = V::LANES.min(columns.len() - done);
            // SAFETY: the products have `count` columns from these on, and the results that are written are within the image.
            unsafe {
                let load = |point: usize| V::load_some(from.add(point * step + done), count);
                let lines: [[V; STEP]; SIDE] =
                    std::array::from_fn(|i| back(std::array::from_fn(|j| load(i * SIDE + j))));
                let results: [[V; STEP]; STEP] =
                    std::array::from_fn(|j| back(std::array::from_fn(|i| lines[i][j])));
                for (j, column) in results.into_iter().enumerate().take(wide) {
                    for (i, v) in column.into_iter().enumerate().take(tall) {
                        let at = (first + i * self.x.out + j) * self.n + columns.start + done;
                        let v = line.finish(v, at, columns.start + done, count);
                        v.store_some(self.out.0.add(at), count);
                    }
                }
            }
            done += count;
        }
        for i in 0..if rest.is_empty() { 0 } else { tall } {
            let rows = first + i * self.x.out..first + i * self.x.out + wide;
            // SAFETY: results that were just written.
            unsafe { after::apply(rest, self.out.0, self.n, rows, columns.clone()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::numbers;
    use super::super::{Packed, conv_after};
    use super::*;
    use crate::kernels::activation::Activation;
    use crate::kernels::window::{Padding, Slide};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn it_is_the_plain_one(
            batch in 1usize..3, h in 1usize..15, w in 1usize..15, channels in 16usize..300, n in 16usize..150,
            pads in 0usize..3,
        ) {
            let padding = match pads {
                0 => Padding::Same,
                1 => Padding::Explicit(vec![[2, 1], [1, 3]]),
                _ if h < 3 || w < 3 => Padding::Same,
                _ => Padding::Valid,
            };
            let slide = Slide::new([1, 1], padding);
            let (x, f) = (numbers(&[batch, h, w, channels], 1), numbers(&[3, 3, channels, n], 2));
            let row = numbers(&[n], 3);
            let row = row.as_slice::<f32>().expect("f32");
            let after = [After::AddRow(row), After::Apply(Activation::Relu), After::Apply(Activation::Swish)];
            for after in [&after[..], &after[..2], &[]] {
                let pack = |windows: bool| Packed::filter(&f, windows).expect("memory").expect("float32");
                let want = conv_after(&x, &pack(false), &slide, after).expect("fits");
                for filter in [pack(true), pack(true).laid_out().expect("memory")] {
                    let got = conv_after(&x, &filter, &slide, after).expect("fits");
                    prop_assert_eq!(got.shape(), want.shape());
                    // Sums of small integers and their quarters are exact, in whichever order.
                    prop_assert_eq!(got.as_slice::<f32>().expect("f32"), want.as_slice::<f32>().expect("f32"));
                }
            }
        }
    }

    #[test]
    fn other_windows_are_refused() {
        let filter = Packed::filter(&numbers(&[3, 3, 16, 16], 1), true).expect("memory").expect("float32");
        let x = numbers(&[1, 9, 9, 16], 2);
        assert!(conv_after(&x, &filter, &Slide::new([1, 1], Padding::Same), &[]).is_ok());
        assert!(conv_after(&x, &filter, &Slide::new([2, 1], Padding::Same), &[]).is_err());
        let holes = Slide::new([1, 1], Padding::Same).dilated([2, 2]);
        assert!(conv_after(&x, &filter, &holes, &[]).is_err());
        assert!(super::super::product_after(&numbers(&[2, 144], 3), &filter, 1, &[]).is_err());
    }
}
