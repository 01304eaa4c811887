//! The walk that all reductions share.

use rayon::prelude::*;
use smallvec::SmallVec;

use crate::kernels::{array, parallel, simd};
use crate::{Element, Error, Result, Shape, Tensor, checked_elements};

/// The shape without `axes`, or with one element there.
pub(super) fn reduced_shape(shape: &[usize], axes: &[usize], keep_dims: bool) -> Result<Shape> {
    for (i, &axis) in axes.iter().enumerate() {
        if axis >= shape.len() {
            return Err(Error::value(format!("axis {axis} is out of range for rank {}", shape.len())));
        }
        if axes[..i].contains(&axis) {
            return Err(Error::value(format!("axis {axis} is given twice")));
        }
    }
    let reduced = |d: usize| axes.contains(&d);
    Ok(shape
        .iter()
        .enumerate()
        .filter(|(d, _)| keep_dims || !reduced(*d))
        .map(|(d, &n)| if reduced(d) { 1 } else { n })
        .collect())
}

/// A tensor seen as `[outer, reduced, inner]`.
struct Layout {
    outer: usize,
    reduced: usize,
    inner: usize,
}

/// The tensor, transposed if need be, so that it can be seen as `[outer, reduced, inner]`.
fn lay_out(x: &Tensor, axes: &[usize]) -> Result<(Tensor, Layout)> {
    // Neighbours of a kind are one dimension.
    let mut groups: SmallVec<[(bool, usize); 6]> = SmallVec::new();
    for (d, &n) in x.shape().iter().enumerate().filter(|(_, n)| **n != 1) {
        let reduced = axes.contains(&d);
        match groups.last_mut() {
            Some((r, extent)) if *r == reduced => *extent = extent.saturating_mul(n),
            _ => groups.push((reduced, n)),
        }
    }
    let layout = |outer, reduced, inner| Ok((x.clone(), Layout { outer, reduced, inner }));
    match groups[..] {
        [] => layout(1, 1, 1),
        [(true, r)] => layout(1, r, 1),
        [(false, n)] => layout(n, 1, 1),
        [(false, o), (true, r)] => layout(o, r, 1),
        [(true, r), (false, i)] => layout(1, r, i),
        [(false, o), (true, r), (false, i)] => layout(o, r, i),
        _ => {
            let (mut kept, mut gone): (Shape, Shape) = (0..x.rank()).partition(|d| !axes.contains(d));
            let outer = checked_elements(&kept.iter().map(|&d| x.shape()[d]).collect::<Shape>())?;
            let reduced = checked_elements(&gone.iter().map(|&d| x.shape()[d]).collect::<Shape>())?;
            kept.append(&mut gone);
            Ok((array::transpose(x, &kept)?, Layout { outer, reduced, inner: 1 }))
        }
    }
}

/// Rows that are combined one after another before their result joins that of other rows.
const BLOCK: usize = 64;

/// `f` over the elements along `axes`, starting from `init`, which must be neutral.
pub(super) fn reduce<T: Element>(
    x: &Tensor,
    axes: &[usize],
    keep_dims: bool,
    init: T,
    f: impl Fn(T, T) -> T + Copy + Send + Sync,
) -> Result<Tensor> {
    let shape = reduced_shape(x.shape(), axes, keep_dims)?;
    let mut out = Tensor::full::<T>(init, &shape)?;
    // Also tells a wrong dtype.
    let elements = x.elements::<T>()?;
    if axes.is_empty() || x.is_empty() {
        return if axes.is_empty() { x.clone().reshape(shape) } else { Ok(out) };
    }
    drop(elements);
    let (x, Layout { outer, reduced, inner }) = lay_out(x, axes)?;
    let values = x.elements::<T>()?;
    let values = &values[..];
    debug_assert_eq!(values.len(), outer * reduced * inner);
    let to = out.make_mut::<T>()?;
    if inner == 1 {
        if outer < rayon::current_num_threads() && parallel::worth(reduced) {
            for (o, row) in to.iter_mut().zip(values.chunks(reduced)) {
                let parts: Vec<T> =
                    row.par_chunks(parallel::THRESHOLD).map(|part| fold(part, init, f)).collect();
                *o = fold(&parts, init, f);
            }
            return Ok(out);
        }
        parallel::for_parts(to, 1, reduced, |start, part| {
            let rows = values[start * reduced..].chunks(reduced);
            part.iter_mut().zip(rows).for_each(|(o, row)| *o = fold(row, init, f));
        });
        return Ok(out);
    }
    parallel::for_parts(to, 1, reduced, |start, part| {
        // A part may begin and end within a row of `inner`.
        let mut scratch: Vec<T> = Vec::new();
        let mut done = 0;
        while done < part.len() {
            let (o, column) = ((start + done) / inner, (start + done) % inner);
            let len = (inner - column).min(part.len() - done);
            let to = &mut part[done..done + len];
            let first = o * reduced * inner + column;
            simd::run(
                #[inline(always)]
                |_| {
                    let add = |to: &mut [T], r: usize| {
                        let row = &values[first + r * inner..][..len];
                        to.iter_mut().zip(row).for_each(|(o, v)| *o = f(*o, *v));
                    };
                    if reduced <= BLOCK {
                        (0..reduced).for_each(|r| add(to, r));
                        return;
                    }
                    for block in (0..reduced).step_by(BLOCK) {
                        scratch.clear();
                        scratch.resize(len, init);
                        (block..(block + BLOCK).min(reduced)).for_each(|r| add(&mut scratch, r));
                        to.iter_mut().zip(&scratch).for_each(|(o, v)| *o = f(*o, *v));
                    }
                },
            );
            done += len;
        }
    });
    Ok(out)
}

/// `f` over a row: blocks by lanes, blocks in a tree.
fn fold<T: Element>(row: &[T], init: T, f: impl Fn(T, T) -> T + Copy) -> T {
    const LANES: usize = 16;
    if row.len() > 2048 {
        let (a, b) = row.split_at((row.len() / 2).next_multiple_of(LANES));
        return f(fold(a, init, f), fold(b, init, f));
    }
    if row.len() < LANES {
        return row.iter().fold(init, |a, b| f(a, *b));
    }
    simd::run(
        #[inline(always)]
        |_| {
            let mut lanes = [init; LANES];
            let (chunks, rest) = row.as_chunks::<LANES>();
            for chunk in chunks {
                for l in 0..LANES {
                    lanes[l] = f(lanes[l], chunk[l]);
                }
            }
            for (lane, v) in lanes.iter_mut().zip(rest) {
                *lane = f(*lane, *v);
            }
            let mut width = LANES / 2;
            while width > 0 {
                for l in 0..width {
                    lanes[l] = f(lanes[l], lanes[l + width]);
                }
                width /= 2;
            }
            lanes[0]
        },
    )
}

#[cfg(test)]
mod tests {
    use ndarray::Axis;
    use proptest::prelude::*;

    use super::*;

    fn check(dims: &[usize], axes: &[usize]) {
        let n: usize = dims.iter().product();
        let x = Tensor::from_vec((0..n as i64).map(|i| i * 7 % 31 - 9).collect(), dims).expect("tensor");
        for keep in [false, true] {
            let got = reduce::<i64>(&x, axes, keep, 0, |a, b| a + b).expect("sum");
            let mut want = x.to_array::<i64>().expect("i64");
            let mut sorted = axes.to_vec();
            sorted.sort_by(|a, b| b.cmp(a));
            for a in sorted {
                want = want.sum_axis(Axis(a));
                if keep {
                    want = want.insert_axis(Axis(a));
                }
            }
            assert_eq!(got.to_array::<i64>().expect("i64"), want, "{dims:?} {axes:?}");
        }
    }

    proptest! {
        #[test]
        fn sums_are_ndarrays(dims in prop::collection::vec((0usize..5, any::<bool>()), 0..6)) {
            let axes: Vec<usize> = dims.iter().enumerate().filter(|(_, d)| d.1).map(|(i, _)| i).rev().collect();
            check(&dims.iter().map(|d| d.0).collect::<Vec<_>>(), &axes);
        }
    }

    #[test]
    fn large_layouts() {
        check(&[100_000], &[0]);
        check(&[3, 40_000], &[1]);
        check(&[300, 500], &[0]);
        check(&[7, 200, 90], &[1]);
        check(&[20, 30, 10, 20], &[0, 2]);
    }

    #[test]
    fn rounding_errors_stay_small() {
        let n = 1_000_000;
        let x = Tensor::full(0.1f32, [n, 2]).expect("tensor");
        let got = reduce::<f32>(&x, &[0], false, 0.0, |a, b| a + b).expect("sum");
        let want = 0.1f32 as f64 * n as f64;
        for v in got.as_slice::<f32>().expect("f32") {
            assert!((*v as f64 - want).abs() / want < 5e-4, "{v}");
        }
        let x = x.reshape([2 * n]).expect("flat");
        let got = reduce::<f32>(&x, &[0], false, 0.0, |a, b| a + b).expect("sum").item::<f32>().expect("one");
        assert!((got as f64 - 2.0 * want).abs() / want < 2e-6, "{got}");
    }

    #[test]
    fn wrong_axes_are_refused() {
        let x = Tensor::full(0i32, [2, 3]).expect("tensor");
        assert!(reduce::<i32>(&x, &[2], false, 0, |a, b| a + b).is_err());
        assert!(reduce::<i32>(&x, &[1, 1], false, 0, |a, b| a + b).is_err());
        assert!(reduce::<f32>(&x, &[1], false, 0.0, |a, b| a + b).is_err());
    }
}
