//! Broadcasting: the shape that shapes share, and the walk over operands that repeat.

use smallvec::SmallVec;

use crate::{Error, Result, Shape, contiguous_strides};

/// The shape that `a` and `b` broadcast to, by NumPy's rules (`tf.broadcast_static_shape`).
///
/// # Errors
/// When two extents differ and neither is 1.
pub fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Shape> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(Error::shape(format!("shapes {a:?} and {b:?} can't be broadcast together"))),
        })
        .collect()
}

/// How `N` C-ordered operands are walked to fill one C-ordered result: as few dimensions as possible, each with
/// the operands' strides (0 where an operand repeats).
#[derive(Debug, Clone)]
pub(crate) struct Walk<const N: usize> {
    dims: SmallVec<[(usize, [usize; N]); 6]>,
}

impl<const N: usize> Walk<N> {
    /// The walk over operands of `shapes` that all broadcast to `out`.
    pub(crate) fn new(out: &[usize], shapes: [&[usize]; N]) -> Self {
        let strides = shapes.map(contiguous_strides);
        let mut dims: SmallVec<[(usize, [usize; N]); 6]> = SmallVec::new();
        for (i, &extent) in out.iter().enumerate() {
            if extent == 1 {
                continue;
            }
            let mut step = [0; N];
            for n in 0..N {
                if let Some(j) = (i + shapes[n].len()).checked_sub(out.len())
                    && shapes[n][j] != 1
                {
                    step[n] = strides[n][j];
                }
            }
            match dims.last_mut() {
                // The outer dimension goes on where this one ends, for every operand: they are one.
                Some((e, s)) if (0..N).all(|n| s[n] == step[n].wrapping_mul(extent)) => {
                    *e = e.wrapping_mul(extent);
                    *s = step;
                }
                _ => dims.push((extent, step)),
            }
        }
        if dims.is_empty() {
            dims.push((1, [0; N]));
        }
        Walk { dims }
    }

    /// The operands' strides along the innermost dimension: 1, or 0 for one that repeats.
    pub(crate) fn inner_strides(&self) -> [usize; N] {
        self.dims.last().map_or([0; N], |d| d.1)
    }

    /// Cuts `len` elements of the result from `start` on into runs along the innermost dimension, and calls
    /// `f(begin, length, offsets)` for each, `begin` counted from `start`.
    #[inline(always)]
    pub(crate) fn for_runs(&self, start: usize, len: usize, mut f: impl FnMut(usize, usize, [usize; N])) {
        let Some((&(inner, inner_step), outer)) = self.dims.split_last() else { return };
        if len == 0 || inner == 0 {
            return;
        }
        let mut column = start % inner;
        let mut row = start / inner;
        let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, outer.len());
        let mut base = [0usize; N];
        for (d, &(extent, step)) in outer.iter().enumerate().rev() {
            index[d] = row % extent;
            row /= extent;
            for n in 0..N {
                base[n] += index[d] * step[n];
            }
        }
        let mut done = 0;
        loop {
            let run = (inner - column).min(len - done);
            let mut offsets = base;
            for n in 0..N {
                offsets[n] += column * inner_step[n];
            }
            f(done, run, offsets);
            done += run;
            if done == len {
                return;
            }
            column = 0;
            for d in (0..outer.len()).rev() {
                let (extent, step) = outer[d];
                index[d] += 1;
                if index[d] < extent {
                    for n in 0..N {
                        base[n] += step[n];
                    }
                    break;
                }
                index[d] = 0;
                for n in 0..N {
                    base[n] -= step[n] * (extent - 1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_as_numpys() {
        assert_eq!(broadcast_shape(&[2, 1, 3], &[4, 1]).expect("shape")[..], [2, 4, 3]);
        assert_eq!(broadcast_shape(&[], &[0, 2]).expect("shape")[..], [0, 2]);
        assert_eq!(broadcast_shape(&[1], &[0]).expect("shape")[..], [0]);
        assert!(broadcast_shape(&[2], &[3]).is_err());
        assert!(broadcast_shape(&[2], &[0]).is_err());
    }

    #[test]
    fn a_walk_visits_what_indexing_would() {
        let out = [2, 3, 4, 5];
        let shapes: [&[usize]; 2] = [&[3, 1, 5], &[2, 1, 4, 1]];
        let walk = Walk::new(&out, shapes);
        for start in [0usize, 1, 7, 59, 119] {
            let mut seen = Vec::new();
            walk.for_runs(start, 120 - start, |begin, len, [a, b]| {
                assert_eq!(begin, seen.len());
                let [sa, sb] = walk.inner_strides();
                seen.extend((0..len).map(|i| (a + i * sa, b + i * sb)));
            });
            let want: Vec<_> = (start..120)
                .map(|flat| {
                    let (i, j, k, l) = (flat / 60, flat / 20 % 3, flat / 5 % 4, flat % 5);
                    (j * 5 + l, i * 4 + k)
                })
                .collect();
            assert_eq!(seen, want);
        }
    }

    #[test]
    fn dimensions_merge() {
        assert_eq!(Walk::new(&[2, 3, 4], [&[2, 3, 4], &[2, 3, 4]]).dims.len(), 1);
        assert_eq!(Walk::new(&[2, 3, 4], [&[2, 3, 4], &[]]).dims.len(), 1);
        assert_eq!(Walk::new(&[2, 3, 4], [&[2, 3, 4], &[4]]).dims.len(), 2);
        assert_eq!(Walk::new(&[2, 3, 4], [&[2, 3, 4], &[3, 4]]).dims.len(), 2);
    }
}
