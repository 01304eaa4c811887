//! Boxes of C-ordered arrays: what a slice of one has of a slice of another.

use std::ops::Range;

use modelark_artifact::{Error, Result};
use modelark_tensor::{ByteString, DType, SharedBytes, Tensor, checked_elements};

/// Parts of one tensor that are compared with each other, to find overlaps.
const COMPARED_PARTS: usize = 4096;

/// The box of a whole tensor.
pub(crate) fn full(shape: &[usize]) -> Vec<Range<usize>> {
    shape.iter().map(|&d| 0..d).collect()
}

/// The box `wanted` of a tensor that is stored in `parts`, of which `read` reads those that are needed.
///
/// # Errors
/// When the parts don't fill the tensor, lie over each other, or one isn't what its box says.
pub(crate) fn assemble(
    dtype: DType,
    shape: &[usize],
    wanted: &[Range<usize>],
    parts: &[Vec<Range<usize>>],
    read: impl Fn(usize) -> Result<Tensor>,
) -> Result<Tensor> {
    check_cover(parts, shape)?;
    let lengths = |ranges: &[Range<usize>]| ranges.iter().map(Range::len).collect::<Vec<usize>>();
    // All are read first, so that nothing is allocated for what a file only claims to have.
    let mut pieces = Vec::new();
    for (i, from) in parts.iter().enumerate() {
        let Some(what) = intersection(from, wanted) else { continue };
        let tensor = read(i)?;
        let expected = lengths(from);
        if tensor.dtype() != dtype || tensor.shape() != expected {
            let (d, s) = (tensor.dtype(), tensor.shape());
            return Err(Error::corrupt(format!("a slice is {d} {s:?} where {dtype} {expected:?} belongs")));
        }
        pieces.push((what, from, tensor));
    }
    let out_shape = lengths(wanted);
    let elements = checked_elements(&out_shape)?;
    let mut strings = Vec::<ByteString>::new();
    let mut bytes = SharedBytes::default();
    match dtype.size() {
        Some(width) => bytes = SharedBytes::zeroed(elements.saturating_mul(width)),
        None => strings = vec![[].into(); elements],
    }
    for (what, from, tensor) in pieces {
        match dtype.size() {
            Some(width) => copy(&what, (tensor.bytes()?, from), (bytes.make_mut(), wanted), width),
            None => copy(&what, (tensor.strings()?, from), (&mut strings, wanted), 1),
        }
        .ok_or_else(|| Error::corrupt("a slice lies outside of its tensor"))?;
    }
    match dtype {
        DType::String => Ok(Tensor::from_strings(strings, out_shape)?),
        _ => Ok(Tensor::from_bytes(dtype, out_shape, bytes)?),
    }
}

/// Fails unless the parts fill the tensor and none lies over another.
fn check_cover(parts: &[Vec<Range<usize>>], shape: &[usize]) -> Result<()> {
    let mut covered = 0usize;
    for ranges in parts {
        let lengths: Vec<usize> = ranges.iter().map(Range::len).collect();
        covered = covered.saturating_add(checked_elements(&lengths)?);
    }
    let overlap = || {
        let some = parts.get(..COMPARED_PARTS).unwrap_or(parts);
        some.iter().enumerate().any(|(i, a)| some[..i].iter().any(|b| intersection(a, b).is_some()))
    };
    if covered != checked_elements(shape)? || overlap() {
        return Err(Error::corrupt(format!("its {} slices don't fill the shape {shape:?}", parts.len())));
    }
    Ok(())
}

/// What two boxes share, or `None` when they share nothing.
fn intersection(a: &[Range<usize>], b: &[Range<usize>]) -> Option<Vec<Range<usize>>> {
    a.iter()
        .zip(b)
        .map(|(a, b)| {
            let r = a.start.max(b.start)..a.end.min(b.end);
            (r.start < r.end).then_some(r)
        })
        .collect()
}

/// Copies the box `what` from the array that covers the box `from` to the one that covers the box `to`.
///
/// All boxes are in the coordinates of one tensor; `what` must lie within both. An element is `width` items.
fn copy<T: Clone>(
    what: &[Range<usize>],
    (source, from): (&[T], &[Range<usize>]),
    (sink, to): (&mut [T], &[Range<usize>]),
    width: usize,
) -> Option<()> {
    // The elements themselves are one more dimension.
    let extend = |r: &[Range<usize>]| [r, std::slice::from_ref(&(0..width))].concat();
    let (what, from, to) = (extend(what), extend(from), extend(to));
    // The innermost dimensions that all three boxes have whole are copied as one run.
    let whole = |d: usize| what[d] == from[d] && what[d] == to[d];
    let mut outer = what.len() - 1;
    while outer > 0 && whole(outer) {
        outer -= 1;
    }
    // Dimension `outer` is contiguous once everything inside of it is whole.
    let inner: usize = what[outer + 1..].iter().map(Range::len).product();
    let run = what[outer].len().checked_mul(inner)?;
    let mut index: Vec<usize> = what[..outer].iter().map(|r| r.start).collect();
    let offset = |index: &[usize], of: &[Range<usize>]| {
        let point = index.iter().chain([&what[outer].start]);
        point
            .zip(of)
            .try_fold(0usize, |n, (i, r)| n.checked_mul(r.len())?.checked_add(i.checked_sub(r.start)?))
    };
    loop {
        let (a, b) = (offset(&index, &from)?.checked_mul(inner)?, offset(&index, &to)?.checked_mul(inner)?);
        sink.get_mut(b..b.checked_add(run)?)?.clone_from_slice(source.get(a..a.checked_add(run)?)?);
        // The next point of the outer dimensions, like an odometer.
        let mut d = outer;
        loop {
            if d == 0 {
                return Some(());
            }
            d -= 1;
            index[d] += 1;
            if index[d] < what[d].end {
                break;
            }
            index[d] = what[d].start;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index(point: &[usize], of: &[Range<usize>]) -> usize {
        point.iter().zip(of).fold(0, |n, (i, r)| n * r.len() + i - r.start)
    }

    #[test]
    fn a_scalar_is_a_box_too() {
        let mut sink = [0u8; 4];
        copy(&[], (&[1, 2, 3, 4], &[]), (&mut sink, &[]), 4).expect("copied");
        assert_eq!(sink, [1, 2, 3, 4]);
    }

    proptest! {
        #[test]
        fn every_element_lands_where_it_belongs(
            dims in proptest::collection::vec((0usize..3, 1usize..4, 0usize..3, 1usize..4), 0..4)
        ) {
            let from: Vec<_> = dims.iter().map(|d| d.0..d.0 + d.1).collect();
            let to: Vec<_> = dims.iter().map(|d| d.2..d.2 + d.3).collect();
            let size = |r: &[Range<usize>]| r.iter().map(Range::len).product::<usize>();
            let source: Vec<usize> = (1..=size(&from)).collect();
            let mut sink = vec![0; size(&to)];
            if let Some(what) = intersection(&from, &to) {
                copy(&what, (&source, &from), (&mut sink, &to), 1).expect("within");
            }
            let mut point: Vec<usize> = to.iter().map(|r| r.start).collect();
            for &got in &sink {
                let inside = point.iter().zip(&from).all(|(i, r)| r.contains(i));
                prop_assert_eq!(got, if inside { source[index(&point, &from)] } else { 0 });
                for d in (0..point.len()).rev() {
                    point[d] += 1;
                    if point[d] < to[d].end { break; }
                    point[d] = to[d].start;
                }
            }
        }
    }
}
