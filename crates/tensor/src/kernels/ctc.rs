//! Connectionist temporal classification: the loss, and decoding by the best class or by a beam.
//!
//! Inputs are logits of `[time, batch, classes]`; one class means "no label" and is called blank.

use std::collections::HashMap;

use super::array::cast;
use crate::{DType, Error, Result, Tensor};

/// What the loss makes of repeated and of too many labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ctc {
    /// The class that means no label.
    pub blank: usize,
    /// Equal neighbours among the labels become one.
    pub collapse_repeated: bool,
    /// Equal neighbours on a path become one.
    pub merge_repeated: bool,
    /// Labels longer than their inputs cost nothing, instead of being an error.
    pub ignore_longer: bool,
}

/// `[time, batch, classes]` and the elements in `float64`.
struct Logits {
    steps: usize,
    batch: usize,
    classes: usize,
    values: Tensor,
}

impl Logits {
    fn new(inputs: &Tensor, lengths: &[i64]) -> Result<Logits> {
        let &[steps, batch, classes] = inputs.shape() else {
            return Err(Error::shape(format!(
                "logits have three dimensions, got shape {:?}",
                inputs.shape()
            )));
        };
        if !matches!(inputs.dtype(), DType::F32 | DType::F64) {
            return Err(Error::dtype("float32 or float64", inputs.dtype()));
        }
        if inputs.is_empty() {
            return Err(Error::shape("logits must not be empty"));
        }
        if lengths.len() != batch {
            return Err(Error::shape(format!("{} sequence lengths for a batch of {batch}", lengths.len())));
        }
        if let Some(odd) = lengths.iter().find(|l| usize::try_from(**l).map_or(true, |l| l > steps)) {
            return Err(Error::value(format!("a sequence length of {odd} isn't within {steps} steps")));
        }
        Ok(Logits { steps, batch, classes, values: cast(inputs, DType::F64)? })
    }

    /// The logarithms of the probabilities at a step.
    fn log_probabilities(&self, t: usize, b: usize) -> Result<Vec<f64>> {
        let row = self.row(t, b)?;
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum = row.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
        Ok(row.iter().map(|v| v - max - sum).collect())
    }

    fn row(&self, t: usize, b: usize) -> Result<&[f64]> {
        let at = (t * self.batch + b) * self.classes;
        Ok(&self.values.as_slice::<f64>()?[at..at + self.classes])
    }
}

fn log_sum(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// The loss of each of a batch and its gradient by the logits (`CTCLoss`); `labels` are those of each of the batch.
///
/// # Errors
/// When shapes don't fit, a label is out of range, or there is too little time for the labels.
pub fn ctc_loss(inputs: &Tensor, labels: &[Vec<i64>], lengths: &[i64], how: Ctc) -> Result<(Tensor, Tensor)> {
    let logits = Logits::new(inputs, lengths)?;
    if labels.len() != logits.batch || how.blank >= logits.classes {
        return Err(Error::shape(format!(
            "labels for {} don't fit a batch of {}",
            labels.len(),
            logits.batch
        )));
    }
    let mut losses = vec![0.0; logits.batch];
    let mut grad = Tensor::zeros(DType::F64, inputs.shape())?;
    let gs = grad.make_mut::<f64>()?;
    for (b, (label, loss)) in labels.iter().zip(&mut losses).enumerate() {
        let time = usize::try_from(lengths[b]).unwrap_or_default();
        let path = path(label, logits.classes, how)
            .map_err(|e| Error::value(format!("labels {b} of the batch: {e}")))?;
        if label.len() > time && !how.ignore_longer {
            return Err(Error::value(format!(
                "not enough time for the labels {b} of the batch: {} are needed, {time} are there",
                label.len()
            )));
        }
        if time == 0 || label.len() > time {
            continue;
        }
        let y = (0..time).map(|t| logits.log_probabilities(t, b)).collect::<Result<Vec<_>>>()?;
        let alpha = forward(&path, &y, how);
        let beta = backward(&path, &y, how);
        let total = (0..path.len()).fold(f64::NEG_INFINITY, |s, u| log_sum(s, alpha[0][u] + beta[0][u]));
        *loss = -total;
        for t in 0..time {
            let mut shares = vec![f64::NEG_INFINITY; logits.classes];
            for (u, &l) in path.iter().enumerate() {
                shares[l] = log_sum(shares[l], alpha[t][u] + beta[t][u]);
            }
            let at = (t * logits.batch + b) * logits.classes;
            for (c, g) in gs[at..at + logits.classes].iter_mut().enumerate() {
                // Without any path the gradient is the probability itself.
                let share = if total == f64::NEG_INFINITY { 0.0 } else { (shares[c] - total).exp() };
                *g = y[t][c].exp() - share;
            }
        }
    }
    let loss = Tensor::from_vec(losses, [logits.batch])?;
    Ok((cast(&loss, inputs.dtype())?, cast(&grad, inputs.dtype())?))
}

/// The labels with a blank before each and one at the end.
fn path(labels: &[i64], classes: usize, how: Ctc) -> Result<Vec<usize>> {
    if labels.is_empty() {
        return Err(Error::value("there are none"));
    }
    // Where the blank comes last, a label beyond the classes ends the labels.
    let ends = |l: i64| if how.blank + 1 == classes { l >= classes as i64 - 1 } else { l >= classes as i64 };
    let mut path = vec![how.blank];
    let mut ended = false;
    for (i, &label) in labels.iter().enumerate() {
        if how.collapse_repeated && i > 0 && labels[i - 1] == label {
            continue;
        }
        if ends(label) {
            ended = true;
            continue;
        }
        if ended {
            return Err(Error::value(format!("label {label} comes after one that is out of range")));
        }
        let label = usize::try_from(label).map_err(|_| Error::value(format!("label {label} is negative")))?;
        path.extend([label, how.blank]);
    }
    Ok(path)
}

/// Whether a path may go on from place `u - 2` to `u`.
fn skips(path: &[usize], u: usize, how: Ctc) -> bool {
    u > 1 && path[u] != how.blank && !(how.merge_repeated && path[u] == path[u - 2])
}

fn stays(path: &[usize], u: usize, how: Ctc) -> bool {
    how.merge_repeated || path[u] == how.blank
}

/// The logarithm of the probability of all ways to be at each place of the path at each step.
fn forward(path: &[usize], y: &[Vec<f64>], how: Ctc) -> Vec<Vec<f64>> {
    let mut alpha = vec![vec![f64::NEG_INFINITY; path.len()]; y.len()];
    for u in 0..path.len().min(2) {
        alpha[0][u] = y[0][path[u]];
    }
    for t in 1..y.len() {
        for u in 0..path.len() {
            let before = &alpha[t - 1];
            let mut sum = if stays(path, u, how) { before[u] } else { f64::NEG_INFINITY };
            if u > 0 {
                sum = log_sum(sum, before[u - 1]);
            }
            if skips(path, u, how) {
                sum = log_sum(sum, before[u - 2]);
            }
            alpha[t][u] = sum + y[t][path[u]];
        }
    }
    alpha
}

/// The logarithm of the probability of all ways from each place of the path at each step to its end.
fn backward(path: &[usize], y: &[Vec<f64>], how: Ctc) -> Vec<Vec<f64>> {
    let mut beta = vec![vec![f64::NEG_INFINITY; path.len()]; y.len()];
    let last = y.len() - 1;
    beta[last][path.len().saturating_sub(2)..].fill(0.0);
    for t in (0..last).rev() {
        for u in 0..path.len() {
            let after = |v: usize| beta[t + 1][v] + y[t + 1][path[v]];
            let mut sum = if stays(path, u, how) { after(u) } else { f64::NEG_INFINITY };
            if u + 1 < path.len() {
                sum = log_sum(sum, after(u + 1));
            }
            if u + 2 < path.len() && skips(path, u + 2, how) {
                sum = log_sum(sum, after(u + 2));
            }
            beta[t][u] = sum;
        }
    }
    beta
}

/// The labels of the best class at each step, for each of a batch, and the negated sums of their logits as
/// `[batch, 1]` (`CTCGreedyDecoder`). A negative `blank` counts from the end.
///
/// # Errors
/// When shapes don't fit.
pub fn ctc_greedy(
    inputs: &Tensor,
    lengths: &[i64],
    merge: bool,
    blank: i64,
) -> Result<(Vec<Vec<i64>>, Tensor)> {
    let logits = Logits::new(inputs, lengths)?;
    let classes = logits.classes as i64;
    let blank = if blank < 0 { blank.saturating_add(classes) } else { blank };
    if !(0..classes).contains(&blank) {
        return Err(Error::value(format!("the blank {blank} isn't among {classes} classes")));
    }
    let (mut decoded, mut scores) = (Vec::new(), Vec::new());
    for (b, &length) in lengths.iter().enumerate() {
        let (mut labels, mut score, mut before) = (Vec::new(), 0.0, None);
        for t in 0..usize::try_from(length).unwrap_or_default().min(logits.steps) {
            let row = logits.row(t, b)?;
            let best = (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            score -= row[best];
            if best as i64 != blank && !(merge && before == Some(best)) {
                labels.push(best as i64);
            }
            before = Some(best);
        }
        decoded.push(labels);
        scores.push(score);
    }
    Ok((decoded, cast(&Tensor::from_vec(scores, [logits.batch, 1])?, inputs.dtype())?))
}

/// Logarithms of the probabilities of a prefix: of all paths, of those that end in a blank, and in a label.
#[derive(Clone, Copy)]
struct Chance {
    total: f64,
    blank: f64,
    label: f64,
}

const NEVER: Chance = Chance { total: f64::NEG_INFINITY, blank: f64::NEG_INFINITY, label: f64::NEG_INFINITY };

/// A prefix of labels: its parent's, and one more.
struct Prefix {
    parent: Option<usize>,
    label: i64,
    children: HashMap<usize, usize>,
    old: Chance,
    new: Chance,
}

/// The prefixes seen so far, and which of them are in the beam.
struct Beam {
    prefixes: Vec<Prefix>,
    leaves: Vec<usize>,
    width: usize,
}

impl Beam {
    fn new(width: usize) -> Beam {
        let sure = Chance { total: 0.0, blank: 0.0, label: f64::NEG_INFINITY };
        let root = Prefix { parent: None, label: -1, children: HashMap::new(), old: NEVER, new: sure };
        Beam { prefixes: vec![root], leaves: vec![0], width }
    }

    fn total(&self, p: usize) -> f64 {
        self.prefixes[p].new.total
    }

    /// The leaves, the likeliest first.
    fn sorted(&self) -> Vec<usize> {
        let mut leaves = self.leaves.clone();
        leaves.sort_by(|a, b| self.total(*b).total_cmp(&self.total(*a)));
        leaves
    }

    /// The place among the leaves of the least likely one.
    fn worst(&self) -> Option<usize> {
        (0..self.leaves.len())
            .min_by(|a, b| self.total(self.leaves[*a]).total_cmp(&self.total(self.leaves[*b])))
    }

    fn takes(&self, chance: Chance) -> bool {
        chance.total > f64::NEG_INFINITY
            && (self.leaves.len() < self.width
                || self.worst().is_some_and(|w| chance.total > self.total(self.leaves[w])))
    }

    fn step(&mut self, y: &[f64]) {
        let Some((&blank, labels)) = y.split_last() else { return };
        let branches = self.sorted();
        for &b in &branches {
            self.prefixes[b].old = self.prefixes[b].new;
        }
        for &b in &branches {
            let mut new = self.prefixes[b].new;
            if let Some(parent) = self.prefixes[b].parent {
                let (p, label) = (&self.prefixes[parent], self.prefixes[b].label);
                if p.new.total > f64::NEG_INFINITY {
                    new.label = log_sum(new.label, if p.label == label { p.old.blank } else { p.old.total });
                }
                new.label +=
                    usize::try_from(label).ok().and_then(|l| labels.get(l)).copied().unwrap_or_default();
            }
            new.blank = self.prefixes[b].old.total + blank;
            new.total = log_sum(new.blank, new.label);
            self.prefixes[b].new = new;
        }
        for &b in &branches {
            let old = self.prefixes[b].old;
            if !self.takes(old) {
                continue;
            }
            for (label, chance) in labels.iter().enumerate() {
                let child = self.child(b, label);
                if self.total(child) > f64::NEG_INFINITY {
                    continue;
                }
                let before = if self.prefixes[b].label == label as i64 { old.blank } else { old.total };
                let label = chance + before;
                let new = Chance { total: label, blank: f64::NEG_INFINITY, label };
                if !self.takes(new) {
                    self.prefixes[child].old = NEVER;
                    continue;
                }
                if self.leaves.len() >= self.width
                    && let Some(worst) = self.worst()
                {
                    let dropped = self.leaves.swap_remove(worst);
                    self.prefixes[dropped].new = NEVER;
                }
                self.prefixes[child].new = new;
                self.leaves.push(child);
            }
        }
    }

    fn child(&mut self, of: usize, label: usize) -> usize {
        let next = self.prefixes.len();
        let child = *self.prefixes[of].children.entry(label).or_insert(next);
        if child == next {
            let label = label as i64;
            let (parent, children) = (Some(of), HashMap::new());
            self.prefixes.push(Prefix { parent, label, children, old: NEVER, new: NEVER });
        }
        child
    }

    fn labels(&self, mut p: usize, merge: bool) -> Vec<i64> {
        let mut labels = Vec::new();
        let mut after = -1;
        while let Some(parent) = self.prefixes[p].parent {
            let label = self.prefixes[p].label;
            if !merge || label != after {
                labels.push(label);
            }
            after = label;
            p = parent;
        }
        labels.reverse();
        labels
    }
}

/// The `paths` likeliest sequences of labels for each of a batch, found with a beam of `width`, and the logarithms of
/// their probabilities as `[batch, paths]` (`CTCBeamSearchDecoder`). The last class is the blank.
///
/// # Errors
/// When shapes don't fit, or fewer sequences than `paths` are found; what `check` returns, which is called at each step.
pub fn ctc_beam_search(
    inputs: &Tensor,
    lengths: &[i64],
    width: usize,
    paths: usize,
    merge: bool,
    mut check: impl FnMut() -> Result<()>,
) -> Result<(Vec<Vec<Vec<i64>>>, Tensor)> {
    let logits = Logits::new(inputs, lengths)?;
    let mut all = Vec::new();
    let mut scores = Vec::new();
    for (b, &length) in lengths.iter().enumerate() {
        let mut beam = Beam::new(width.max(1));
        for t in 0..usize::try_from(length).unwrap_or_default() {
            check()?;
            beam.step(&logits.log_probabilities(t, b)?);
        }
        let best = beam.sorted();
        if paths > best.len() || paths > width {
            return Err(Error::value(format!("{paths} paths are asked for, the beam has {}", best.len())));
        }
        scores.extend(best[..paths].iter().map(|p| beam.total(*p)));
        all.push(best[..paths].iter().map(|p| beam.labels(*p, merge)).collect());
    }
    Ok((all, cast(&Tensor::from_vec(scores, [logits.batch, paths])?, inputs.dtype())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits() -> Tensor {
        let values = (0..4 * 2 * 3).map(|i| f64::from((i * 7919) % 11) / 3.0).collect();
        Tensor::from_vec(values, [4, 2, 3]).expect("tensor")
    }

    const HOW: Ctc = Ctc { blank: 2, collapse_repeated: false, merge_repeated: true, ignore_longer: false };

    #[test]
    fn the_loss_sums_all_paths() {
        let x = logits();
        let (loss, grad) = ctc_loss(&x, &[vec![0, 1], vec![1, 1]], &[4, 4], HOW).expect("loss");
        let l = Logits::new(&x, &[4, 4]).expect("logits");
        for (b, want) in [vec![0, 1], vec![1, 1]].iter().enumerate() {
            let mut sum = 0.0;
            for code in 0..81usize {
                let path: Vec<usize> = (0..4).map(|t| code / 3usize.pow(t) % 3).collect();
                let mut labels = Vec::new();
                for (t, p) in path.iter().enumerate() {
                    if *p != 2 && (t == 0 || path[t - 1] != *p) {
                        labels.push(*p as i64);
                    }
                }
                if labels == *want {
                    sum +=
                        (0..4).map(|t| l.log_probabilities(t, b).expect("row")[path[t]]).sum::<f64>().exp();
                }
            }
            assert!((loss.as_slice::<f64>().expect("f64")[b] + sum.ln()).abs() < 1e-9);
        }
        assert_eq!(grad.shape(), x.shape());
        assert!(ctc_loss(&x, &[vec![0; 5], vec![1]], &[4, 4], HOW).is_err());
        assert!(ctc_loss(&x, &[vec![], vec![1]], &[4, 4], HOW).is_err());
        assert!(ctc_loss(&x, &[vec![0], vec![-1]], &[4, 4], HOW).is_err());
        assert!(ctc_loss(&x, &[vec![0], vec![1]], &[4, 5], HOW).is_err());
    }

    #[test]
    fn a_wide_beam_finds_the_likeliest_labels() {
        let x = logits();
        let (paths, scores) = ctc_beam_search(&x, &[4, 4], 50, 1, false, || Ok(())).expect("paths");
        for b in 0..2 {
            let labels = |b: usize| if paths[b][0].is_empty() { vec![0] } else { paths[b][0].clone() };
            let (loss, _) = ctc_loss(&x, &[labels(0), labels(1)], &[4, 4], HOW).expect("loss");
            let got = scores.as_slice::<f64>().expect("f64")[b];
            assert!(paths[b][0].is_empty() || (got + loss.as_slice::<f64>().expect("f64")[b]).abs() < 1e-9);
        }
        assert!(ctc_beam_search(&x, &[4, 4], 1, 2, false, || Ok(())).is_err());
        assert!(ctc_greedy(&x, &[4, 4], true, 3).is_err());
    }
}
