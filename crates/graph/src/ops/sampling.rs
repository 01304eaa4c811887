//! Classes chosen to compare with (candidate sampling).

use std::collections::HashMap;
use std::sync::PoisonError;

use super::args::{many, tensors};
use super::kept::Kept;
use super::random::{Ready, Source, checked};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::Tensor;
use crate::tensor::kernels::random::pick::{Classes, Weights};
use crate::{Attr, Error, Result};

/// Words that are set apart for a class.
const RESERVED: u128 = 2048;
/// More classes than this have no counts kept of them.
const MOST_COUNTED: u64 = 1 << 28;

fn range_max(a: &NodeAttrs<'_>) -> Result<u64> {
    let n = a.int("range_max")?;
    u64::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| Error::graph(format!("range_max is {n}")))
}

fn seen(a: &NodeAttrs<'_>) -> Result<Classes> {
    let n = range_max(a)?;
    if n > MOST_COUNTED {
        return Err(Error::graph(format!("range_max is {n}, over {MOST_COUNTED}")));
    }
    Ok(Classes::Seen(vec![1; n as usize]))
}

/// Weights that the node lists, distorted by a power; those of other shards and of reserved classes count nothing.
fn weighted(a: &NodeAttrs<'_>) -> Result<Classes> {
    if !a.str("vocab_file")?.is_empty() {
        return Err(Error::unsupported("FixedUnigramCandidateSampler with a file of weights"));
    }
    let list = a.get("unigrams").and_then(Attr::as_list).unwrap_or_default();
    let (distortion, shards, shard) = (a.float("distortion")?, a.int("num_shards")?.max(1), a.int("shard")?);
    let reserved = usize::try_from(a.int("num_reserved_ids")?).unwrap_or_default();
    let range = range_max(a)?;
    if reserved as u64 > range.saturating_mul(shards as u64) {
        return Err(Error::graph(format!("{reserved} reserved classes of {range}")));
    }
    let mine = |id: usize| id as i64 % shards == shard;
    let mut weights: Vec<f32> = (0..reserved).filter(|id| mine(*id)).map(|_| 0.0).collect();
    let first = weights.len();
    for (i, weight) in list.iter().enumerate().filter(|(i, _)| mine(first + i)) {
        let weight = weight.as_float().ok_or_else(|| Error::graph(format!("unigram {i} isn't a float")))?;
        weights.push(weight.powf(distortion));
    }
    if weights.len() as u64 != range {
        return Err(Error::graph(format!("{} weights for {range} classes", weights.len())));
    }
    Ok(Classes::Weighted(Weights::new(weights)?))
}

fn sampler(a: &NodeAttrs<'_>, classes: Classes) -> Result<Box<dyn Kernel>> {
    let (count, per_row, unique) = (a.int("num_sampled")?, a.int("num_true")?, a.bool("unique")?);
    let count = usize::try_from(count).map_err(|_| Error::graph(format!("num_sampled is {count}")))?;
    let source = Source::node(a)?;
    let classes = Kept::new(move || classes.clone());
    Ok(kernel(move |context, inputs| {
        let [truth] = tensors(inputs)?;
        let shape = truth.shape().to_vec();
        if shape.len() != 2 || shape[1] as i64 != per_row {
            return Err(Error::compute(format!("true classes of shape {shape:?} don't have {per_row} columns")));
        }
        let truth = truth.to_i64_vec()?;
        let Source::Node(state) = &source else { return Err(Error::graph("the op has no generator")) };
        let generator = Ready::Node(state.among(context.resources())?).reserve((RESERVED * count as u128).div_ceil(4))?;
        let classes = classes.among(context.resources())?;
        let mut classes = classes.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = checked(context, |check| classes.choose(&generator, count, unique, &truth, check))?;
        classes.learn(&truth);
        many([
            Tensor::from_vec(chosen.classes, [count])?,
            Tensor::from_vec(chosen.expected_true, shape)?,
            Tensor::from_vec(chosen.expected, [count])?,
        ])
    }))
}

/// Which chosen classes are true ones: rows, places among the chosen, and weights that rule them out.
fn accidental_hits(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let per_row = a.int("num_true")?;
    Ok(kernel(move |_, inputs| {
        let [truth, chosen] = tensors(inputs)?;
        if truth.rank() != 2 || truth.shape()[1] as i64 != per_row || chosen.rank() != 1 {
            return Err(Error::compute(format!(
                "true classes {:?} and chosen ones {:?} aren't a matrix of {per_row} columns and a list",
                truth.shape(),
                chosen.shape()
            )));
        }
        let places: HashMap<i64, i64> =
            chosen.to_i64_vec()?.into_iter().enumerate().map(|(i, c)| (c, i as i64)).collect();
        let hits: Vec<(i32, i64)> = truth
            .to_i64_vec()?
            .iter()
            .enumerate()
            .filter_map(|(i, c)| Some((i as i32 / per_row.max(1) as i32, *places.get(c)?)))
            .collect();
        let n = hits.len();
        many([
            Tensor::from_vec(hits.iter().map(|h| h.0).collect(), [n])?,
            Tensor::from_vec(hits.iter().map(|h| h.1).collect(), [n])?,
            Tensor::full(-f32::MAX, [n])?,
        ])
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("AllCandidateSampler(true_classes: int64) -> (sampled_candidates: int64, true_expected_count: float32, sampled_expected_count: float32); num_true: int; num_sampled: int; unique: bool; seed: int = 0; seed2: int = 0; stateful", |a| sampler(a, Classes::All)),
    Op::new("UniformCandidateSampler(true_classes: int64) -> (sampled_candidates: int64, true_expected_count: float32, sampled_expected_count: float32); num_true: int; num_sampled: int; unique: bool; range_max: int; seed: int = 0; seed2: int = 0; stateful", |a| sampler(a, Classes::Uniform(range_max(a)?))),
    Op::new("LogUniformCandidateSampler(true_classes: int64) -> (sampled_candidates: int64, true_expected_count: float32, sampled_expected_count: float32); num_true: int; num_sampled: int; unique: bool; range_max: int; seed: int = 0; seed2: int = 0; stateful", |a| sampler(a, Classes::LogUniform(range_max(a)?))),
    Op::new("LearnedUnigramCandidateSampler(true_classes: int64) -> (sampled_candidates: int64, true_expected_count: float32, sampled_expected_count: float32); num_true: int; num_sampled: int; unique: bool; range_max: int; seed: int = 0; seed2: int = 0; stateful", |a| sampler(a, seen(a)?)),
    Op::new("ThreadUnsafeUnigramCandidateSampler(true_classes: int64) -> (sampled_candidates: int64, true_expected_count: float32, sampled_expected_count: float32); num_true: int; num_sampled: int; unique: bool; range_max: int; seed: int = 0; seed2: int = 0; stateful", |a| sampler(a, seen(a)?)),
    Op::new("FixedUnigramCandidateSampler(true_classes: int64) -> (sampled_candidates: int64, true_expected_count: float32, sampled_expected_count: float32); num_true: int; num_sampled: int; unique: bool; range_max: int; vocab_file: string = \"\"; distortion: float = 1; num_reserved_ids: int = 0; num_shards: int = 1; shard: int = 0; unigrams: list(float) = []; seed: int = 0; seed2: int = 0; stateful", |a| sampler(a, weighted(a)?)),
    Op::new("ComputeAccidentalHits(true_classes: int64, sampled_candidates: int64) -> (indices: int32, ids: int64, weights: float32); num_true: int; seed: int = 0; seed2: int = 0", accidental_hits),
];
