//! The innermost loops of products: a few rows of inputs by a panel of weights, in registers.
#![allow(unsafe_code, reason = "rows are read and written by pointer; `multiply` has checked their extents")]

use std::ops::Range;

use super::after::{self, After, Line};
use super::matrix::Matrix;
use super::vector::{self, Task, Vector};

/// Where a result lies, for threads that each write their own part of it.
pub(super) struct Out(pub(super) *mut f32);

impl Out {
    /// The place `offset` numbers on.
    ///
    /// # Safety
    /// The result reaches that far.
    pub(super) unsafe fn at(&self, offset: usize) -> *mut f32 {
        // SAFETY: as the caller says.
        unsafe { self.0.add(offset) }
    }
}

// SAFETY: tiles of one job don't overlap, and nobody else uses the result until all of them are done.
unsafe impl Sync for Out {}

/// Weights of a product.
#[derive(Clone, Copy)]
pub(super) enum Weights<'a> {
    /// Laid out, panel after panel.
    Panels(&'a [f32]),
    /// As they were given.
    Given(Matrix<'a>),
}

/// A product as a whole; its extents have been checked against each other.
pub(super) struct Job<'a> {
    pub(super) xs: &'a [f32],
    /// Where the stretches that make a row begin, from the row's start.
    pub(super) offsets: &'a [usize],
    /// How long each stretch is.
    pub(super) length: usize,
    pub(super) weights: Weights<'a>,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) out: Out,
    /// Whether products are added to what is in the result.
    pub(super) onto: bool,
    pub(super) after: &'a [After<'a>],
}

impl Job<'_> {
    /// Whether a tile of so many rows reads weights where they were given: it is done before they would be laid out.
    fn direct(&self, rows: usize) -> bool {
        matches!(self.weights, Weights::Given(matrix) if !matrix.is_transposed()) && rows <= FEW
    }

    /// The room that a tile of so many rows takes to lay weights out.
    pub(super) fn room(&self, rows: usize) -> usize {
        let whole = self.n.is_multiple_of(vector::lanes().0);
        match self.weights {
            Weights::Panels(_) => 0,
            Weights::Given(_) if whole && self.direct(rows) => 0,
            Weights::Given(_) => self.k.min((BLOCK / super::panel()).max(1)) * super::panel(),
        }
    }
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
    /// [`Job::room`], where weights are laid out.
    pub(super) scratch: &'a mut [f32],
}

/// How many elements ahead of those in use are fetched from memory.
const AHEAD: usize = 512;

/// Whole panels that one row goes along at once. It has little to do with each weight: it waits for memory, which gives more
/// to who reads in several places.
const ABREAST: usize = 4;

/// Rows of inputs that are few.
const FEW: usize = 4;

/// Elements of a panel that are read again and again before the next ones: half a core's second cache, or less.
pub(super) const BLOCK: usize = 64 * 1024;

impl Task for Tile<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Tile { job, area, scratch } = self;
        let wide = V::LANES * V::WIDE;
        let depth = (BLOCK / wide).max(1);
        // A block is either some of the stretches, or a part of the only one.
        let (stretches, part) =
            if job.length >= depth { (1, depth) } else { ((depth / job.length.max(1)).max(1), job.length) };
        // The first steps of what comes after are done in registers, the others in cache.
        let mut rest = job.after;
        let line = Line::of(&mut rest);
        let direct = job.direct(area.rows.starts.len());
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
                    let rows = done..done + length * offsets.len();
                    let width = registers * V::LANES;
                    let abreast = area.rows.starts.len() == 1
                        && (direct || matches!(job.weights, Weights::Panels(_)))
                        && panel + ABREAST <= area.panels.end
                        && column + ABREAST * wide <= job.n;
                    let together = if abreast { ABREAST * wide } else { columns };
                    // Where weights are, how far those of the next element are from them, and those of the next panel.
                    let (weights, step, apart) = match job.weights {
                        Weights::Panels(all) => {
                            (all[column * job.k + done * width..].as_ptr(), width, job.k * wide)
                        }
                        Weights::Given(matrix) if direct && columns == width => {
                            (matrix.block(rows, column, together), job.n, wide)
                        }
                        Weights::Given(matrix) => {
                            let piece = &mut scratch[..rows.len() * width];
                            // SAFETY: the caller's machine has `V`.
                            unsafe { matrix.panel::<V>(rows, column, piece) };
                            (piece.as_ptr(), width, 0)
                        }
                    };
                    let block = Block {
                        xs: job.xs,
                        starts: area.rows.starts,
                        offsets,
                        at,
                        length,
                        weights,
                        step,
                        out: job.out.0,
                        first: area.rows.first,
                        column,
                        n: job.n,
                        columns,
                        fresh: done == 0 && !job.onto,
                        line: (done + length * offsets.len() == job.k).then_some(&line),
                    };
                    // SAFETY: `multiply` has checked that rows, weights and result have these extents.
                    unsafe {
                        match registers {
                            4 if V::WIDE >= 4 && abreast => block.row::<V, 4>(apart),
                            2 if V::WIDE == 2 && abreast => block.row::<V, 2>(apart),
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
    /// Those of the first element of the rows, at any address, and how far those of the next one are from them.
    weights: *const f32,
    step: usize,
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
    /// How far ahead of weights in use others are fetched, where those of an element are `width`.
    #[inline(always)]
    fn ahead(&self, width: usize) -> usize {
        if self.step == width { AHEAD } else { AHEAD / 64 * self.step }
    }

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
            let ahead = self.ahead(REGISTERS * V::LANES);
            let starts: [*const f32; ROWS] =
                std::array::from_fn(|r| self.xs.as_ptr().add(self.starts[row + r] + self.at));
            let mut weights = self.weights;
            for &offset in self.offsets {
                let mut xs = starts;
                xs.iter_mut().for_each(|x| *x = x.add(offset));
                for i in 0..self.length {
                    if ROWS == 1 {
                        (0..REGISTERS).for_each(|j| V::prefetch(weights.wrapping_add(ahead + j * V::LANES)));
                    }
                    let w: [V; REGISTERS] = std::array::from_fn(|j| V::load(weights.add(j * V::LANES)));
                    for (sums, x) in sums.iter_mut().zip(xs) {
                        let x = V::splat(*x.add(i));
                        for (sum, w) in sums.iter_mut().zip(w) {
                            *sum = x.mul_add(w, *sum);
                        }
                    }
                    weights = weights.wrapping_add(self.step);
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

    /// The only row by [`ABREAST`] whole panels, which lie `apart` elements from each other.
    #[inline(always)]
    unsafe fn row<V: Vector, const REGISTERS: usize>(&self, apart: usize) {
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
            let ahead = self.ahead(wide);
            let start = self.xs.as_ptr().add(self.starts[0] + self.at);
            let mut weights = self.weights;
            for &offset in self.offsets {
                let xs = start.add(offset);
                for i in 0..self.length {
                    let x = V::splat(*xs.add(i));
                    for (p, sums) in sums.iter_mut().enumerate() {
                        let weights = weights.add(p * apart);
                        for (j, sum) in sums.iter_mut().enumerate() {
                            V::prefetch(weights.wrapping_add(ahead + j * V::LANES));
                            *sum = x.mul_add(V::load(weights.add(j * V::LANES)), *sum);
                        }
                    }
                    weights = weights.wrapping_add(self.step);
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
