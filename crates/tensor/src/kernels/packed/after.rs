//! What happens to rows of a result while they are in cache.
#![allow(unsafe_code, reason = "rows are parts of a result that threads share, by pointer")]

use super::vector::Vector;
use crate::kernels::activation::Activation;
use crate::kernels::simd;
use crate::{Error, Result};

/// One thing that happens to each row of a product. Slices hold a number for each element of a row, or of the whole result.
#[derive(Debug, Clone, Copy)]
pub enum After<'a> {
    /// Adds the same row to each, as a bias.
    AddRow(&'a [f32]),
    /// Multiplies each by the same row.
    MulRow(&'a [f32]),
    /// Adds another tensor of the result's shape, as around a residual block.
    Add(&'a [f32]),
    /// Multiplies by another tensor of the result's shape.
    Mul(&'a [f32]),
    /// Applies a function to each element.
    Apply(Activation),
}

/// Refuses what doesn't fit a result of `len` elements in rows of `n`.
pub(super) fn check(after: &[After<'_>], len: usize, n: usize) -> Result<()> {
    let fits = after.iter().all(|a| match a {
        After::AddRow(row) | After::MulRow(row) => row.len() == n,
        After::Add(all) | After::Mul(all) => all.len() == len,
        After::Apply(_) => true,
    });
    if fits { Ok(()) } else { Err(Error::shape("what comes after a product doesn't fit its rows")) }
}

/// Does it all to the part of the result that is `rows` by `columns`, which nobody else touches meanwhile.
///
/// # Safety
/// `out` is good for reads and writes of those rows of `n` elements, and [`check`] passed.
pub(super) unsafe fn apply(
    after: &[After<'_>],
    out: *mut f32,
    n: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) {
    let mut rest = after;
    while let [step, others @ ..] = rest {
        // SAFETY: as the caller says; so below.
        match step {
            After::Apply(activation) if bounds(*activation).is_none() => {
                unsafe { activate(*activation, out, n, rows.clone(), columns.clone()) };
                rest = others;
            }
            After::Mul(all) => {
                unsafe { multiply(all, out, n, rows.clone(), columns.clone()) };
                rest = others;
            }
            _ => {
                let line = Line::of(&mut rest);
                unsafe { line.run(out, n, rows.clone(), columns.clone()) };
            }
        }
    }
}

/// So many elements of a row, from one on.
///
/// # Safety
/// `out` is good for reads and writes of them, and nobody else touches them meanwhile.
#[inline(always)]
unsafe fn part_of_row<'a>(out: *mut f32, start: usize, len: usize) -> &'a mut [f32] {
    // SAFETY: as the caller says.
    unsafe { std::slice::from_raw_parts_mut(out.add(start), len) }
}

/// # Safety
/// As [`apply`].
unsafe fn multiply(
    by: &[f32],
    out: *mut f32,
    n: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) {
    simd::run(
        #[inline(always)]
        |_| {
            for row in rows.clone() {
                let start = row * n + columns.start;
                // SAFETY: a part of a row that the caller vouches for.
                let part = unsafe { part_of_row(out, start, columns.len()) };
                part.iter_mut().zip(&by[start..]).for_each(|(o, v)| *o *= v);
            }
        },
    );
}

/// # Safety
/// As [`apply`].
unsafe fn activate(
    activation: Activation,
    out: *mut f32,
    n: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) {
    if columns.len() == n {
        // SAFETY: whole rows lie one after another.
        let all = unsafe { std::slice::from_raw_parts_mut(out.add(rows.start * n), rows.len() * n) };
        return activation.apply_f32(all);
    }
    for row in rows {
        // SAFETY: a part of a row that the caller vouches for.
        let part = unsafe { part_of_row(out, row * n + columns.start, columns.len()) };
        activation.apply_f32(part);
    }
}

/// The least and the greatest number that an activation gives, if that is all it does.
fn bounds(activation: Activation) -> Option<(f32, f32)> {
    match activation {
        Activation::Linear => Some((f32::NEG_INFINITY, f32::INFINITY)),
        Activation::Relu => Some((0.0, f32::INFINITY)),
        Activation::Relu6 => Some((0.0, 6.0)),
        _ => None,
    }
}

/// Steps that are done at once, in this order, where they are there.
#[derive(Default)]
pub(super) struct Line<'a> {
    factor: Option<&'a [f32]>,
    summand: Option<&'a [f32]>,
    /// A tensor of the result's shape.
    other: Option<&'a [f32]>,
    bounds: Option<(f32, f32)>,
}

impl<'a> Line<'a> {
    /// Takes the first steps, as many as follow one another in the order of a line; none, if the first isn't one of a line.
    pub(super) fn of(steps: &mut &[After<'a>]) -> Line<'a> {
        let mut line = Line::default();
        while let [step, others @ ..] = *steps {
            let later = line.bounds.is_some();
            match *step {
                After::MulRow(row)
                    if line.factor.is_none() && line.summand.is_none() && line.other.is_none() && !later =>
                {
                    line.factor = Some(row);
                }
                After::AddRow(row) if line.summand.is_none() && line.other.is_none() && !later => {
                    line.summand = Some(row)
                }
                After::Add(all) if line.other.is_none() && !later => line.other = Some(all),
                After::Apply(activation) if !later && bounds(activation).is_some() => {
                    line.bounds = bounds(activation)
                }
                _ => break,
            }
            *steps = others;
        }
        line
    }

    /// Does the steps to a register of the result that is about to be written: `count` elements from `at` on, whose first is
    /// at `column` of its row.
    ///
    /// # Safety
    /// The machine has `V`; those elements lie in the result, in one row, and [`check`] passed.
    #[inline(always)]
    pub(super) unsafe fn finish<V: Vector>(&self, mut v: V, at: usize, column: usize, count: usize) -> V {
        // SAFETY: as the caller says.
        unsafe {
            let load = |all: &[f32], at: usize| V::load_some(all.as_ptr().add(at), count);
            if let Some(factor) = self.factor {
                v = v.mul(load(factor, column));
            }
            if let Some(summand) = self.summand {
                v = v.add(load(summand, column));
            }
            if let Some(other) = self.other {
                v = v.add(load(other, at));
            }
            if let Some((least, most)) = self.bounds {
                v = v.clamp(least, most);
            }
            v
        }
    }

    /// # Safety
    /// As [`apply`].
    unsafe fn run(
        &self,
        out: *mut f32,
        n: usize,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) {
        // SAFETY: as the caller says.
        unsafe {
            match (self.factor.is_some(), self.summand.is_some(), self.other.is_some()) {
                (false, false, false) => self.rows::<false, false, false>(out, n, rows, columns),
                (false, false, true) => self.rows::<false, false, true>(out, n, rows, columns),
                (false, true, false) => self.rows::<false, true, false>(out, n, rows, columns),
                (false, true, true) => self.rows::<false, true, true>(out, n, rows, columns),
                (true, false, false) => self.rows::<true, false, false>(out, n, rows, columns),
                (true, false, true) => self.rows::<true, false, true>(out, n, rows, columns),
                (true, true, false) => self.rows::<true, true, false>(out, n, rows, columns),
                (true, true, true) => self.rows::<true, true, true>(out, n, rows, columns),
            }
        }
    }

    /// # Safety
    /// As [`apply`].
    unsafe fn rows<const FACTOR: bool, const SUMMAND: bool, const OTHER: bool>(
        &self,
        out: *mut f32,
        n: usize,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) {
        let of = |row: Option<&'a [f32]>| row.map_or(&[][..], |r| &r[columns.clone()]);
        let (factor, summand) = (of(self.factor), of(self.summand));
        let (least, most) = self.bounds.unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        simd::run(
            #[inline(always)]
            |_| {
                for row in rows.clone() {
                    let start = row * n + columns.start;
                    // SAFETY: a part of a row that the caller vouches for.
                    let part = unsafe { part_of_row(out, start, columns.len()) };
                    let len = part.len();
                    let other = self.other.map_or(&[][..], |all| &all[start..start + len]);
                    // The same length for all, so that nothing is checked in the loop.
                    let (factor, summand, other) = (
                        if FACTOR { &factor[..len] } else { factor },
                        if SUMMAND { &summand[..len] } else { summand },
                        if OTHER { &other[..len] } else { other },
                    );
                    for i in 0..len {
                        let mut v = part[i];
                        if FACTOR {
                            v *= factor[i];
                        }
                        if SUMMAND {
                            v += summand[i];
                        }
                        if OTHER {
                            v += other[i];
                        }
                        // Not-a-number stays what it is.
                        v = if v < least { least } else { v };
                        part[i] = if v > most { most } else { v };
                    }
                }
            },
        );
    }
}
