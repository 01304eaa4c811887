//! The innermost loops of products: a few rows of inputs by a panel of weights, in registers.
#![allow(unsafe_code, reason = "rows are read and written by pointer; `multiply` has checked their extents")]

use std::ops::Range;

use super::after::{self, After, Line};
use super::vector::{Task, Vector};

/// Where a result lies, for threads that each write their own part of it.
pub(super) struct Out(pub(super) *mut f32);

// SAFETY: tiles of one job don't overlap, and nobody else uses the result until all of them are done.
unsafe impl Sync for Out {}

/// A product as a whole; its extents have been checked against each other.
pub(super) struct Job<'a> {
    pub(super) xs: &'a [f32],
    /// Where the stretches that make a row begin, from the row's start.
    pub(super) offsets: &'a [usize],
    /// How long each stretch is.
    pub(super) length: usize,
    pub(super) panels: &'a [f32],
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) out: Out,
    /// Whether products are added to what is in the result.
    pub(super) onto: bool,
    pub(super) after: &'a [After<'a>],
}

/// Rows of inputs: where in the result the first one goes, and where in the inputs each starts.
pub(super) struct Rows<'a> {
    pub(super) first: usize,
    pub(super) starts: &'a [usize],
}

/// A part of the result.
pub(super) struct Area<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) panels: Range<usize>,
}

/// Computes one area of a job.
pub(super) struct Tile<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) area: Area<'a>,
}

/// How many elements ahead of those in use are fetched from memory.
const AHEAD: usize = 512;

/// Whole panels that one row goes along at once. It has little to do with each weight: it waits for memory, which gives more
/// to who reads in several places.
const ABREAST: usize = 4;

/// Elements of a panel that are read again and again before the next ones: half a core's second cache, or less.
const BLOCK: usize = 64 * 1024;

impl Task for Tile<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Tile { job, area } = self;
        let wide = V::LANES * V::WIDE;
        let depth = (BLOCK / wide).max(1);
        // A block is either some of the stretches, or a part of the only one.
        let (stretches, part) =
            if job.length >= depth { (1, depth) } else { ((depth / job.length.max(1)).max(1), job.length) };
        // The first steps of what comes after are done in registers, the others in cache.
        let mut rest = job.after;
        let line = Line::of(&mut rest);
        let mut done = 0;
        let mut stretch = 0;
        while stretch < job.offsets.len() {
            let offsets = &job.offsets[stretch..(stretch + stretches).min(job.offsets.len())];
            let mut at = 0;
            while at < job.length {
                let length = part.min(job.length - at);
                let mut panel = area.panels.start;
                while panel < area.panels.end {
                    let column = panel * wide;
                    let columns = wide.min(job.n - column);
                    let registers = columns.div_ceil(V::LANES);
                    let block = Block {
                        xs: job.xs,
                        starts: area.rows.starts,
                        offsets,
                        at,
                        length,
                        weights: &job.panels[column * job.k + done * registers * V::LANES..],
                        out: job.out.0,
                        first: area.rows.first,
                        column,
                        n: job.n,
                        columns,
                        fresh: done == 0 && !job.onto,
                        line: (done + length * offsets.len() == job.k).then_some(&line),
                    };
                    let abreast = area.rows.starts.len() == 1
                        && panel + ABREAST <= area.panels.end
                        && column + ABREAST * wide <= job.n;
                    // SAFETY: `multiply` has checked that rows, weights and result have these extents.
                    unsafe {
                        match registers {
                            4 if V::WIDE >= 4 && abreast => block.row::<V, 4>(job.k * wide),
                            2 if V::WIDE == 2 && abreast => block.row::<V, 2>(job.k * wide),
                            4 if V::WIDE >= 4 => block.run::<V, 6, 4>(),
                            3 if V::WIDE >= 4 => block.run::<V, 8, 3>(),
                            2 if V::WIDE >= 4 => block.run::<V, 8, 2>(),
                            2 => block.run::<V, 6, 2>(),
                            _ => block.run::<V, 8, 1>(),
                        }
                    }
                    panel += if abreast { ABREAST } else { 1 };
                }
                done += length * offsets.len();
                at += length;
            }
            stretch += offsets.len();
        }
        let columns = area.panels.start * wide..(area.panels.end * wide).min(job.n);
        let rows = area.rows.first..area.rows.first + area.rows.starts.len();
        // SAFETY: this area is nobody else's.
        unsafe { after::apply(rest, job.out.0, job.n, rows, columns) }
    }
}

/// Some of the depth of some rows by one panel.
struct Block<'a> {
    xs: &'a [f32],
    starts: &'a [usize],
    offsets: &'a [usize],
    at: usize,
    length: usize,
    weights: &'a [f32],
    out: *mut f32,
    /// Where in the result the first row goes, and its first column.
    first: usize,
    column: usize,
    n: usize,
    columns: usize,
    fresh: bool,
    /// What is done to results before they are written, when this block makes them complete.
    line: Option<&'a Line<'a>>,
}

impl Block<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector, const ROWS: usize, const REGISTERS: usize>(&self) {
        let rows = self.starts.len();
        let mut row = 0;
        // SAFETY: as the caller says; each call stays within the rows.
        unsafe {
            while row + ROWS <= rows {
                self.rows::<V, ROWS, REGISTERS>(row);
                row += ROWS;
            }
            if row + 4 <= rows {
                self.rows::<V, 4, REGISTERS>(row);
                row += 4;
            }
            if row + 2 <= rows {
                self.rows::<V, 2, REGISTERS>(row);
                row += 2;
            }
            if row < rows {
                self.rows::<V, 1, REGISTERS>(row);
            }
        }
    }

    #[inline(always)]
    unsafe fn rows<V: Vector, const ROWS: usize, const REGISTERS: usize>(&self, row: usize) {
        // SAFETY: `multiply` has checked that the rows' stretches lie in the inputs, the panel holds `REGISTERS` registers for
        // each element of them, and the result holds the rows; elements past its columns are masked.
        unsafe {
            let last = self.columns - (REGISTERS - 1) * V::LANES;
            let at: [usize; ROWS] = std::array::from_fn(|r| (self.first + row + r) * self.n + self.column);
            let out = at.map(|at| self.out.add(at));
            let mut sums = [[V::zero(); REGISTERS]; ROWS];
            if !self.fresh {
                for (sums, out) in sums.iter_mut().zip(out) {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        let from = out.add(j * V::LANES);
                        *sum = V::load_some(from, if j + 1 < REGISTERS { V::LANES } else { last });
                    }
                }
            }
            let starts: [*const f32; ROWS] =
                std::array::from_fn(|r| self.xs.as_ptr().add(self.starts[row + r] + self.at));
            let mut weights = self.weights.as_ptr();
            for &offset in self.offsets {
                let mut xs = starts;
                xs.iter_mut().for_each(|x| *x = x.add(offset));
                for i in 0..self.length {
                    if ROWS == 1 {
                        (0..REGISTERS).for_each(|j| V::prefetch(weights.wrapping_add(AHEAD + j * V::LANES)));
                    }
                    let w: [V; REGISTERS] = std::array::from_fn(|j| V::load(weights.add(j * V::LANES)));
                    for (sums, x) in sums.iter_mut().zip(xs) {
                        let x = V::splat(*x.add(i));
                        for (sum, w) in sums.iter_mut().zip(w) {
                            *sum = x.mul_add(w, *sum);
                        }
                    }
                    weights = weights.add(REGISTERS * V::LANES);
                }
            }
            for (sums, at) in sums.into_iter().zip(at) {
                for (j, sum) in sums.into_iter().enumerate() {
                    let count = if j + 1 < REGISTERS { V::LANES } else { last };
                    self.put(sum, at + j * V::LANES, self.column + j * V::LANES, count);
                }
            }
        }
    }

    /// The only row by [`ABREAST`] whole panels, which lie `step` elements apart.
    #[inline(always)]
    unsafe fn row<V: Vector, const REGISTERS: usize>(&self, step: usize) {
        // SAFETY: as for `rows`, of each of the panels.
        unsafe {
            let wide = REGISTERS * V::LANES;
            let at = self.first * self.n + self.column;
            let mut sums = [[V::zero(); REGISTERS]; ABREAST];
            if !self.fresh {
                for (p, sums) in sums.iter_mut().enumerate() {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(self.out.add(at + p * wide + j * V::LANES));
                    }
                }
            }
            let start = self.xs.as_ptr().add(self.starts[0] + self.at);
            let mut weights = self.weights.as_ptr();
            for &offset in self.offsets {
                let xs = start.add(offset);
                for i in 0..self.length {
                    let x = V::splat(*xs.add(i));
                    for (p, sums) in sums.iter_mut().enumerate() {
                        let weights = weights.add(p * step);
                        for (j, sum) in sums.iter_mut().enumerate() {
                            V::prefetch(weights.wrapping_add(AHEAD + j * V::LANES));
                            *sum = x.mul_add(V::load(weights.add(j * V::LANES)), *sum);
                        }
                    }
                    weights = weights.add(wide);
                }
            }
            for (p, sums) in sums.into_iter().enumerate() {
                for (j, sum) in sums.into_iter().enumerate() {
                    let skip = p * wide + j * V::LANES;
                    self.put(sum, at + skip, self.column + skip, V::LANES);
                }
            }
        }
    }

    /// Writes `count` elements of the result from `at` on, after what is done to them first.
    #[inline(always)]
    unsafe fn put<V: Vector>(&self, mut sum: V, at: usize, column: usize, count: usize) {
        // SAFETY: as the caller says.
        unsafe {
            if let Some(line) = self.line {
                sum = line.finish(sum, at, column, count);
            }
            sum.store_some(self.out.add(at), count);
        }
    }
}
