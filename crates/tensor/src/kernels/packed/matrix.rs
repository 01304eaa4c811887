//! Weights as they were given, and pieces of them laid out.
#![allow(unsafe_code, reason = "weights may lie at any address; `stretch` has checked those that are read")]

use std::ops::Range;

use super::vector::{Task, Vector};

/// A matrix of weights in the order of their tensor, which may lie at any address.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    bytes: &'a [u8],
    k: usize,
    n: usize,
    transposed: bool,
}

/// Bytes of a weight.
const SIZE: usize = size_of::<f32>();

/// Bytes that machines fetch at once.
const LINE: usize = 64;

/// How many rows ahead of that in use are fetched: they lie too far apart for the machine to guess.
const AHEAD: usize = 16;

impl<'a> Matrix<'a> {
    /// The matrix of `k` rows and `n` columns, or its transpose, in `bytes`, if these are as many.
    pub(super) fn new(bytes: &'a [u8], k: usize, n: usize, transposed: bool) -> Option<Matrix<'a>> {
        let size = k.checked_mul(n)?.checked_mul(SIZE)?;
        (bytes.len() == size).then_some(Matrix { bytes, k, n, transposed })
    }

    /// Rows and columns.
    pub(super) fn extents(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    /// The `count` weights of a row from `column` on, at whatever address; the matrix isn't transposed.
    #[inline(always)]
    pub(super) fn stretch(&self, row: usize, column: usize, count: usize) -> *const f32 {
        self.bytes[(row * self.n + column) * SIZE..][..count * SIZE].as_ptr().cast()
    }

    /// As [`Matrix::stretch`] of the first of `rows`, for all of them; there is one at least.
    #[inline(always)]
    pub(super) fn block(&self, rows: Range<usize>, column: usize, count: usize) -> *const f32 {
        // When the last row's are there, all are.
        self.stretch(rows.end - 1, column, count);
        self.bytes[(rows.start * self.n + column) * SIZE..].as_ptr().cast()
    }

    /// Whether the tensor's last dimension is the one that is summed over.
    pub(super) fn is_transposed(&self) -> bool {
        self.transposed
    }

    /// Has the machine fetch what [`Matrix::stretch`] would give, if there is such a row.
    ///
    /// # Safety
    /// The machine has `V`.
    #[inline(always)]
    pub(super) unsafe fn fetch<V: Vector>(&self, row: usize, column: usize, count: usize) {
        let from = self.bytes.as_ptr().wrapping_add((row * self.n + column) * SIZE);
        for line in (0..count * SIZE).step_by(LINE) {
            // SAFETY: a hint, for which any address will do.
            unsafe { V::prefetch(from.wrapping_add(line).cast()) }
        }
    }

    /// Fills as many columns as `panel` has place for in each of `rows`, from `column` on; beyond the last one with zeros.
    ///
    /// # Safety
    /// The machine has `V`.
    #[inline(always)]
    pub(super) unsafe fn panel<V: Vector>(&self, rows: Range<usize>, column: usize, panel: &mut [f32]) {
        let width = panel.len() / rows.len().max(1);
        let count = width.min(self.n - column);
        for (i, row) in rows.zip(panel.chunks_exact_mut(width)) {
            if self.transposed {
                let (row, rest) = row.split_at_mut(count);
                for (j, v) in row.iter_mut().enumerate() {
                    let from = &self.bytes[((column + j) * self.k + i) * SIZE..][..SIZE];
                    bytemuck::bytes_of_mut(v).copy_from_slice(from);
                }
                rest.fill(0.0);
                continue;
            }
            let from = self.stretch(i, column, count);
            // SAFETY: the machine has `V`, and `count` weights are there.
            unsafe {
                self.fetch::<V>(i + AHEAD, column, count);
                for (j, to) in (0..count).step_by(V::LANES).zip(row.chunks_mut(V::LANES)) {
                    let v = V::load_some(from.add(j), V::LANES.min(count - j));
                    v.store_some(to.as_mut_ptr(), to.len());
                }
            }
        }
    }
}

/// [`Matrix::panel`] of all rows.
pub(super) struct LayOut<'a, 'm> {
    pub(super) matrix: Matrix<'m>,
    pub(super) column: usize,
    pub(super) panel: &'a mut [f32],
}

impl Task for LayOut<'_, '_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's machine has `V`.
        unsafe { self.matrix.panel::<V>(0..self.matrix.k, self.column, self.panel) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vector;
    use super::*;

    #[test]
    fn panels_hold_their_part_of_the_matrix() {
        let numbers: Vec<f32> = (0..15u8).map(f32::from).collect();
        let mut bytes = vec![0u8];
        bytes.extend_from_slice(bytemuck::cast_slice(&numbers));
        // Five rows of three, at an odd address, and three rows of five.
        let plain = Matrix::new(&bytes[1..], 5, 3, false).expect("fits");
        let lanes = vector::lanes().0;
        let lay_out = |matrix, column| {
            let mut panel = vec![9.0; 5 * lanes];
            vector::dispatch(LayOut { matrix, column, panel: &mut panel });
            panel
        };
        let padded = |rows: [&[f32]; 5]| -> Vec<f32> {
            rows.iter().flat_map(|r| r.iter().copied().chain(std::iter::repeat(0.0)).take(lanes)).collect()
        };
        let want = padded([&[1.0, 2.0], &[4.0, 5.0], &[7.0, 8.0], &[10.0, 11.0], &[13.0, 14.0]]);
        assert_eq!(lay_out(plain, 1), want);
        let transposed = Matrix::new(&bytes[1..], 5, 3, true).expect("fits");
        let want = padded([&[5.0, 10.0], &[6.0, 11.0], &[7.0, 12.0], &[8.0, 13.0], &[9.0, 14.0]]);
        assert_eq!(lay_out(transposed, 1), want);
        assert!(Matrix::new(&bytes, 5, 3, false).is_none());
        assert!(Matrix::new(&bytes, usize::MAX, 3, false).is_none());
    }
}
