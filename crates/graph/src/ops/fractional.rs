//! Pooling by a fraction: regions of two lengths, in an order that chance decides, and its gradients.

use super::args::{extents, many, one, tensors};
use super::random::entropy;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::array;
use crate::tensor::kernels::random::{Philox, Words, pick};
use crate::tensor::{DType, Tensor};
use crate::{Attr, Error, Result};

/// Where regions begin along one axis, and where the last ends; from more elements than there are regions.
fn sequence(input: usize, output: usize, pseudo: bool, generator: &mut Philox) -> Result<Vec<i64>> {
    let k = input / output;
    if input.is_multiple_of(output) {
        return Ok((0..=output).map(|i| (i * k) as i64).collect());
    }
    let lengths: Vec<i64> = if pseudo {
        let alpha = input as f64 / output as f64;
        let most = ((k as f64 + 2.0) / alpha - 1.0)
            .min((input as f64 + 1.0 - k as f64) / alpha - (output as f64 - 1.0));
        let u = Words::new(reserved(generator, 2)).double() * most;
        let mut starts: Vec<i64> = (0..=output).map(|i| (alpha * (i as f64 + u)).ceil() as i64).collect();
        starts[0] = 1;
        starts[output] = input as i64 + 1;
        starts.windows(2).map(|w| w[1] - w[0]).collect()
    } else {
        let longer = input % output;
        let order = pick::permutation(&reserved(generator, output), output);
        order.iter().map(|i| k as i64 + i64::from((*i as usize) < longer)).collect()
    };
    let mut at = 0;
    let mut starts = vec![0];
    for length in lengths {
        at += length;
        starts.push(at);
    }
    Ok(starts)
}

/// The generator as it is, and what is left of it so many words later.
fn reserved(generator: &mut Philox, words: usize) -> Philox {
    let now = *generator;
    generator.skip((words as u128).div_ceil(4));
    now
}

/// The regions of a pooled image: first and last row or column of each.
struct Regions {
    rows: Vec<(usize, usize)>,
    columns: Vec<(usize, usize)>,
}

impl Regions {
    /// Those of two sequences, for an image of so many rows and columns.
    fn new(rows: &[i64], columns: &[i64], shape: [usize; 2], overlapping: bool) -> Result<Regions> {
        let along = |sequence: &[i64], n: usize| -> Result<Vec<(usize, usize)>> {
            let one = |w: &[i64]| {
                let (start, end) = (usize::try_from(w[0]).ok()?, usize::try_from(w[1]).ok()?);
                let end = if overlapping { end } else { end.checked_sub(1)? }.min(n.checked_sub(1)?);
                (start <= end).then_some((start, end))
            };
            let regions: Option<Vec<_>> = sequence.windows(2).map(one).collect();
            regions.ok_or_else(|| Error::compute(format!("{sequence:?} doesn't cut {n} elements into regions")))
        };
        Ok(Regions { rows: along(rows, shape[0])?, columns: along(columns, shape[1])? })
    }

    /// Calls `f` with the place of each result, and the places of what it is pooled from.
    fn each(&self, shape: &[usize; 4], mut f: impl FnMut(usize, &mut dyn Iterator<Item = usize>)) {
        let [batch, rows, columns, channels] = *shape;
        let mut out = 0;
        for image in 0..batch {
            for &(top, bottom) in &self.rows {
                for &(left, right) in &self.columns {
                    for channel in 0..channels {
                        let mut places = (top..=bottom)
                            .flat_map(|r| (left..=right).map(move |c| (r, c)))
                            .map(|(r, c)| ((image * rows + r) * columns + c) * channels + channel);
                        f(out, &mut places);
                        out += 1;
                    }
                }
            }
        }
    }
}

fn images(t: &Tensor) -> Result<[usize; 4]> {
    t.shape().try_into().map_err(|_| Error::compute(format!("takes images of rank 4, got shape {:?}", t.shape())))
}

/// Sequences, and the results as doubles, in which every number that is pooled is exact but the widest integers.
fn pool(a: &NodeAttrs<'_>, average: bool) -> Result<Box<dyn Kernel>> {
    let ratio = a.get("pooling_ratio").and_then(Attr::as_list).unwrap_or_default();
    let ratio: Option<Vec<f32>> = ratio.iter().map(Attr::as_float).collect();
    let Some(&[1.0, by_rows, by_columns, 1.0]) = ratio.as_deref() else {
        return Err(Error::unsupported(format!("pooling by {ratio:?}, over batch or channels")));
    };
    if !(by_rows >= 1.0 && by_columns >= 1.0) {
        return Err(Error::graph("what is pooled doesn't grow: ratios are 1 at least"));
    }
    let (pseudo, overlapping) = (a.bool("pseudo_random")?, a.bool("overlapping")?);
    let (fixed, seeds) = (a.bool("deterministic")?, (a.int("seed")?, a.int("seed2")?));
    if !fixed && seeds != (0, 0) {
        return Err(Error::graph("seeds go with \"deterministic\""));
    }
    let fixed = match (fixed, seeds) {
        (true, (0, 0)) => Some((entropy(), entropy())),
        (true, (a, b)) => Some((a as u64, b as u64)),
        (false, _) => None,
    };
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let shape = images(&x)?;
        let smaller = |n: usize, ratio: f32| (n as f32 / ratio).floor() as usize;
        let (rows, columns) = (smaller(shape[1], by_rows), smaller(shape[2], by_columns));
        if rows == 0 || columns == 0 {
            return Err(Error::compute(format!("nothing is left of images of shape {shape:?}")));
        }
        let seeds = fixed.unwrap_or_else(|| (entropy(), entropy()));
        let mut generator = Philox::from_seeds(seeds.0, seeds.1);
        let by_row = sequence(shape[1], rows, pseudo, &mut generator)?;
        let by_column = sequence(shape[2], columns, pseudo, &mut generator)?;
        let regions = Regions::new(&by_row, &by_column, [shape[1], shape[2]], overlapping)?;
        let wide = array::cast(&x, DType::F64)?;
        let values = wide.elements::<f64>()?;
        let mut out = Tensor::zeros(DType::F64, [shape[0], rows, columns, shape[3]])?;
        let target = out.make_mut::<f64>()?;
        regions.each(&shape, |to, from| {
            target[to] = if average {
                let (n, sum) = from.fold((0usize, 0.0), |(n, sum), i| (n + 1, sum + values[i]));
                sum / n as f64
            } else {
                from.map(|i| values[i]).fold(f64::NEG_INFINITY, f64::max)
            };
        });
        let list = |v: Vec<i64>| Tensor::from_slice(&v, [v.len()]);
        many([array::cast(&out, x.dtype())?, list(by_row)?, list(by_column)?])
    }))
}

/// A gradient goes back to all that was averaged, in equal parts.
fn average_gradient(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let overlapping = a.bool("overlapping")?;
    Ok(kernel(move |_, inputs| {
        let [shape, grad, by_row, by_column] = tensors(inputs)?;
        let extents = extents(&shape, "the shape")?;
        let mut out = Tensor::zeros(DType::F64, &extents)?;
        let shape = images(&out)?;
        let regions = Regions::new(&by_row.to_i64_vec()?, &by_column.to_i64_vec()?, [shape[1], shape[2]], overlapping)?;
        check(&grad, &regions, &shape)?;
        let wide = array::cast(&grad, DType::F64)?;
        let grads = wide.elements::<f64>()?;
        let target = out.make_mut::<f64>()?;
        regions.each(&shape, |to, from| {
            let places: Vec<usize> = from.collect();
            places.iter().for_each(|i| target[*i] += grads[to] / places.len() as f64);
        });
        one(array::cast(&out, grad.dtype())?)
    }))
}

fn check(grad: &Tensor, regions: &Regions, shape: &[usize; 4]) -> Result<()> {
    let wanted = [shape[0], regions.rows.len(), regions.columns.len(), shape[3]];
    if grad.shape() == wanted {
        return Ok(());
    }
    Err(Error::compute(format!("a gradient of shape {:?}, not {wanted:?}", grad.shape())))
}

/// A gradient goes back to the first of the greatest.
fn most_gradient(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let overlapping = a.bool("overlapping")?;
    Ok(kernel(move |_, inputs| {
        let [x, _, grad, by_row, by_column] = tensors(inputs)?;
        let shape = images(&x)?;
        let regions = Regions::new(&by_row.to_i64_vec()?, &by_column.to_i64_vec()?, [shape[1], shape[2]], overlapping)?;
        check(&grad, &regions, &shape)?;
        let (values, wide) = (array::cast(&x, DType::F64)?, array::cast(&grad, DType::F64)?);
        let (values, grads) = (values.elements::<f64>()?, wide.elements::<f64>()?);
        let mut out = Tensor::zeros(DType::F64, shape)?;
        let target = out.make_mut::<f64>()?;
        regions.each(&shape, |to, from| {
            let best = from.reduce(|best, i| if values[i] > values[best] { i } else { best });
            if let Some(best) = best {
                target[best] += grads[to];
            }
        });
        one(array::cast(&out, grad.dtype())?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("FractionalAvgPool(value: T) -> (output: T, row_pooling_sequence: int64, col_pooling_sequence: int64); pooling_ratio: list(float); pseudo_random: bool = false; overlapping: bool = false; deterministic: bool = false; seed: int = 0; seed2: int = 0; T: type", |a| pool(a, true)),
    Op::new("FractionalAvgPoolGrad(orig_input_tensor_shape: int64, out_backprop: T, row_pooling_sequence: int64, col_pooling_sequence: int64) -> (output: T); overlapping: bool = false; T: type", average_gradient),
    Op::new("FractionalMaxPool(value: T) -> (output: T, row_pooling_sequence: int64, col_pooling_sequence: int64); pooling_ratio: list(float); pseudo_random: bool = false; overlapping: bool = false; deterministic: bool = false; seed: int = 0; seed2: int = 0; T: type", |a| pool(a, false)),
    Op::new("FractionalMaxPoolGrad(orig_input: T, orig_output: T, out_backprop: T, row_pooling_sequence: int64, col_pooling_sequence: int64) -> (output: T); overlapping: bool = false; T: type", most_gradient),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_have_two_lengths() {
        for pseudo in [true, false] {
            for seed in 0..20 {
                let mut generator = Philox::from_seeds(seed, 0);
                let starts = sequence(17, 7, pseudo, &mut generator).expect("sequence");
                assert_eq!((starts.len(), starts[0], starts[7]), (8, 0, 17));
                assert!(starts.windows(2).all(|w| (2..=3).contains(&(w[1] - w[0]))), "{starts:?}");
            }
        }
    }
}
