//! What happens to rows of a result while they are in cache.
#![allow(unsafe_code, reason = "rows are parts of a result that threads share, by pointer")]

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
    for step in after {
        if let After::Apply(activation) = step
            && columns.len() == n
        {
            // SAFETY: whole rows lie one after another.
            let all = unsafe { std::slice::from_raw_parts_mut(out.add(rows.start * n), rows.len() * n) };
            activation.apply_f32(all);
            continue;
        }
        simd::run(
            #[inline(always)]
            |_| {
                for row in rows.clone() {
                    let start = row * n + columns.start;
                    // SAFETY: a part of a row that the caller vouches for.
                    let part = unsafe { std::slice::from_raw_parts_mut(out.add(start), columns.len()) };
                    match *step {
                        After::AddRow(with) => {
                            part.iter_mut().zip(&with[columns.clone()]).for_each(|(o, v)| *o += v);
                        }
                        After::MulRow(with) => {
                            part.iter_mut().zip(&with[columns.clone()]).for_each(|(o, v)| *o *= v);
                        }
                        After::Add(with) => {
                            part.iter_mut().zip(&with[start..]).for_each(|(o, v)| *o += v);
                        }
                        After::Mul(with) => {
                            part.iter_mut().zip(&with[start..]).for_each(|(o, v)| *o *= v);
                        }
                        After::Apply(activation) => activation.apply_f32(part),
                    }
                }
            },
        );
    }
}
