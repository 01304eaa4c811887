//! Losses of classifications and of sequences, with their gradients, and how sequences are decoded and compared.

use std::collections::BTreeMap;

use super::args::{extents, many, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Context, Kernel, Value, Values, kernel};
use crate::tensor::kernels::ctc::{self, Ctc};
use crate::tensor::kernels::{array, broadcast_shape, elementwise as e, norm, reduce};
use crate::tensor::{self, DType, Tensor};
use crate::{Error, Result};

/// The loss of each row, and its gradient by the logits: labels are probabilities.
fn cross_entropy(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [logits, labels] = tensors(inputs)?;
        let shape = broadcast_shape(logits.shape(), labels.shape())?;
        if shape.len() != 2 {
            return Err(Error::compute(format!("logits and labels have rank 2, got shape {:?}", &shape[..])));
        }
        let (logits, labels) = (array::broadcast_to(&logits, &shape)?, array::broadcast_to(&labels, &shape)?);
        let gradient = e::sub(norm::softmax(logits.clone())?, labels.clone())?;
        let terms = e::mul(labels, norm::log_softmax(logits)?)?;
        many([e::neg(reduce::sum(&terms, &[1], false)?)?, gradient])
    }))
}

/// As [`cross_entropy`], each label being the number of a class.
fn sparse_cross_entropy(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [logits, labels] = tensors(inputs)?;
        let &[rows, classes] = logits.shape() else {
            return Err(Error::compute(format!("logits have rank 2, got shape {:?}", logits.shape())));
        };
        if labels.shape() != [rows] {
            return Err(Error::compute(format!("labels of shape {:?} don't fit {rows} rows", labels.shape())));
        }
        if let Some(odd) = labels.to_i64_vec()?.into_iter().find(|l| !(0..classes as i64).contains(l)) {
            return Err(Error::compute(format!("label {odd} is out of range for {classes} classes")));
        }
        let number = |v: f32| array::cast(&Tensor::scalar(v), logits.dtype());
        let chosen = array::one_hot(&labels, classes, &number(1.0)?, &number(0.0)?, 1)?;
        let log = norm::log_softmax(logits.clone())?;
        let at = array::cast(&labels, DType::I64)?.reshape([rows, 1])?;
        let loss = e::neg(array::gather(&log, &at, 1, 1)?.reshape([rows])?)?;
        many([loss, e::sub(norm::softmax(logits)?, chosen)?])
    }))
}

/// The values of a sparse matrix, row by row.
fn rows_of(indices: &Tensor, values: &[i64], rows: usize) -> Result<Vec<Vec<i64>>> {
    if indices.shape() != [values.len(), 2] {
        return Err(Error::compute(format!("indices {:?} don't fit {} labels", indices.shape(), values.len())));
    }
    let indices = indices.to_i64_vec()?;
    let mut all = vec![Vec::new(); rows];
    for (at, value) in indices.chunks_exact(2).zip(values) {
        let row = usize::try_from(at[0]).ok().and_then(|r| all.get_mut(r));
        row.ok_or_else(|| Error::compute(format!("label {} isn't in a batch of {rows}", at[0])))?.push(*value);
    }
    Ok(all)
}

fn ctc_loss(a: &NodeAttrs<'_>, blank_first: bool) -> Result<Box<dyn Kernel>> {
    let (collapse_repeated, merge_repeated) =
        (a.bool("preprocess_collapse_repeated")?, a.bool("ctc_merge_repeated")?);
    let ignore_longer = a.bool("ignore_longer_outputs_than_inputs")?;
    Ok(kernel(move |_, inputs| {
        let [logits, indices, values, lengths] = tensors(inputs)?;
        let &[_, batch, classes] = logits.shape() else {
            return Err(Error::compute(format!("logits have rank 3, got shape {:?}", logits.shape())));
        };
        let blank = if blank_first { 0 } else { classes.saturating_sub(1) };
        let how = Ctc { blank, collapse_repeated, merge_repeated, ignore_longer };
        let labels = rows_of(&indices, &values.to_i64_vec()?, batch)?;
        let (loss, gradient) = ctc::ctc_loss(&logits, &labels, &lengths.to_i64_vec()?, how)?;
        many([loss, gradient])
    }))
}

/// Sequences of labels as a sparse matrix: indices, values, shape.
fn sparse(rows: &[&Vec<i64>]) -> Result<[Tensor; 3]> {
    let n: usize = rows.iter().map(|r| r.len()).sum();
    let longest = rows.iter().map(|r| r.len()).max().unwrap_or_default();
    let at = rows.iter().enumerate().flat_map(|(b, r)| (0..r.len()).flat_map(move |t| [b as i64, t as i64]));
    Ok([
        Tensor::from_vec(at.collect(), [n, 2])?,
        Tensor::from_vec(rows.iter().flat_map(|r| r.iter().copied()).collect(), [n])?,
        Tensor::from_vec(vec![rows.len() as i64, longest as i64], [2])?,
    ])
}

fn ctc_greedy(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (merge, blank) = (a.bool("merge_repeated")?, a.int("blank_index")?);
    Ok(kernel(move |_, inputs| {
        let [logits, lengths] = tensors(inputs)?;
        let (rows, scores) = ctc::ctc_greedy(&logits, &lengths.to_i64_vec()?, merge, blank)?;
        let [indices, values, shape] = sparse(&rows.iter().collect::<Vec<_>>())?;
        many([indices, values, shape, scores])
    }))
}

fn ctc_beam_search(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let merge = a.bool("merge_repeated")?;
    let positive = |name: &str| -> Result<usize> {
        let n = a.int(name)?;
        usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| Error::graph(format!("attribute {name:?} is {n}")))
    };
    let (width, paths) = (positive("beam_width")?, positive("top_paths")?);
    Ok(kernel(move |context: &mut dyn Context, inputs: Values| {
        let [logits, lengths] = tensors(inputs)?;
        let mut stopped = None;
        let check = || {
            context.check().map_err(|e| {
                let message = e.to_string();
                stopped = Some(e);
                tensor::Error::value(message)
            })
        };
        let found = ctc::ctc_beam_search(&logits, &lengths.to_i64_vec()?, width, paths, merge, check);
        if let Some(e) = stopped {
            return Err(e);
        }
        let (all, scores) = found?;
        let each = (0..paths)
            .map(|p| sparse(&all.iter().filter_map(|b| b.get(p)).collect::<Vec<_>>()))
            .collect::<Result<Vec<_>>>()?;
        let part = |k: usize| each.iter().map(move |s| s[k].clone());
        many(part(0).chain(part(1)).chain(part(2)).chain([scores]).map(Value::from))
    }))
}

/// The elements of a tensor as comparable bytes.
fn keys(t: &Tensor) -> Result<Vec<Vec<u8>>> {
    if t.dtype() == DType::String {
        return Ok(t.strings()?.iter().map(|s| s.to_vec()).collect());
    }
    let size = t.dtype().size().unwrap_or(1).max(1);
    Ok(t.bytes()?.chunks_exact(size).map(<[u8]>::to_vec).collect())
}

type Groups = BTreeMap<Vec<usize>, Vec<Vec<u8>>>;

/// The values of a sparse tensor by all but the last of their indices.
fn groups(indices: &Tensor, values: &Tensor, shape: &[usize]) -> Result<Groups> {
    if indices.shape() != [values.len(), shape.len()] {
        return Err(Error::compute(format!("indices {:?} don't fit {} values", indices.shape(), values.len())));
    }
    let mut all = Groups::new();
    let flat = indices.to_i64_vec()?;
    for (at, value) in flat.chunks_exact(shape.len()).zip(keys(values)?) {
        let within = at.iter().zip(shape).map(|(i, n)| usize::try_from(*i).ok().filter(|i| i < n));
        let at: Option<Vec<usize>> = within.collect();
        let mut at = at.ok_or_else(|| Error::compute("an index is out of the sparse tensor's shape"))?;
        at.pop();
        all.entry(at).or_default().push(value);
    }
    Ok(all)
}

/// How many insertions, deletions and replacements make one sequence the other.
fn distance(context: &dyn Context, a: &[Vec<u8>], b: &[Vec<u8>]) -> Result<usize> {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        context.check()?;
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let best = (row[j].min(row[j + 1]) + 1).min(diagonal + usize::from(x != y));
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    Ok(row.last().copied().unwrap_or_default())
}

fn edit_distance(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let normalize = a.bool("normalize")?;
    Ok(kernel(move |context, inputs| {
        let [hyp_indices, hyp_values, hyp_shape, truth_indices, truth_values, truth_shape] = tensors(inputs)?;
        let (hyp_shape, truth_shape) = (extents(&hyp_shape, "a shape")?, extents(&truth_shape, "a shape")?);
        if hyp_shape.len() != truth_shape.len() || hyp_shape.len() < 2 {
            return Err(Error::compute(format!("shapes {hyp_shape:?} and {truth_shape:?} must have one rank, 2 or more")));
        }
        let hypotheses = groups(&hyp_indices, &hyp_values, &hyp_shape)?;
        let truths = groups(&truth_indices, &truth_values, &truth_shape)?;
        let last = hyp_shape.len() - 1;
        let shape: Vec<usize> = hyp_shape.iter().zip(&truth_shape).take(last).map(|(a, b)| *a.max(b)).collect();
        let mut out = Tensor::zeros(DType::F32, &shape)?;
        let values = out.make_mut::<f32>()?;
        let none = Vec::new();
        for at in hypotheses.keys().chain(truths.keys().filter(|k| !hypotheses.contains_key(*k))) {
            let (hypothesis, truth) = (hypotheses.get(at).unwrap_or(&none), truths.get(at).unwrap_or(&none));
            let edits = distance(context, hypothesis, truth)? as f32;
            let place = at.iter().zip(&shape).fold(0, |p, (i, n)| p * n + i);
            let value = values.get_mut(place).ok_or_else(|| Error::compute("a sequence is out of range"))?;
            // Against nothing at all, every edit is one too many.
            *value = if normalize { edits / truth.len() as f32 } else { edits };
        }
        one(out)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("SoftmaxCrossEntropyWithLogits(features: T, labels: T) -> (loss: T, backprop: T); T: type", cross_entropy),
    Op::new("SparseSoftmaxCrossEntropyWithLogits(features: T, labels: Tlabels) -> (loss: T, backprop: T); T: type; Tlabels: type = int64", sparse_cross_entropy),
    Op::new("CTCLoss(inputs: T, labels_indices: int64, labels_values: int32, sequence_length: int32) -> (loss: T, gradient: T); preprocess_collapse_repeated: bool = false; ctc_merge_repeated: bool = true; ignore_longer_outputs_than_inputs: bool = false; T: type = float32", |a| ctc_loss(a, false)),
    Op::new("CTCLossV2(inputs: float32, labels_indices: int64, labels_values: int32, sequence_length: int32) -> (loss: float32, gradient: float32); preprocess_collapse_repeated: bool = false; ctc_merge_repeated: bool = true; ignore_longer_outputs_than_inputs: bool = false", |a| ctc_loss(a, true)),
    Op::new("CTCGreedyDecoder(inputs: T, sequence_length: int32) -> (decoded_indices: int64, decoded_values: int64, decoded_shape: int64, log_probability: T); merge_repeated: bool = false; blank_index: int = -1; T: type = float32", ctc_greedy),
    Op::new("CTCBeamSearchDecoder(inputs: T, sequence_length: int32) -> (decoded_indices: top_paths * int64, decoded_values: top_paths * int64, decoded_shape: top_paths * int64, log_probability: T); beam_width: int; top_paths: int; merge_repeated: bool = true; T: type = float32", ctc_beam_search),
    Op::new("EditDistance(hypothesis_indices: int64, hypothesis_values: T, hypothesis_shape: int64, truth_indices: int64, truth_values: T, truth_shape: int64) -> (output: float32); normalize: bool = true; T: type", edit_distance),
];
