//! Einstein summation, put together from transpositions, sums and one product of matrices.

use super::args::{all_tensors, one};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::matmul::{Form, matmul};
use crate::tensor::kernels::array::{self, Diagonals};
use crate::tensor::kernels::reduce;
use crate::tensor::{Shape, Tensor};
use crate::{Error, Result};

/// A dimension's label: a letter, or a place of the ellipsis counted from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Letter(char),
    Rest(usize),
}

/// The letters of one term before and after its ellipsis, if it has one.
#[derive(Debug, Clone)]
struct Term {
    before: Vec<char>,
    after: Option<Vec<char>>,
}

impl Term {
    fn parse(text: &str) -> Option<Term> {
        let letters = |s: &str| s.chars().map(|c| c.is_alphabetic().then_some(c)).collect::<Option<Vec<_>>>();
        match text.split_once("...") {
            Some((before, after)) => Some(Term { before: letters(before)?, after: Some(letters(after)?) }),
            None => Some(Term { before: letters(text)?, after: None }),
        }
    }

    /// A label for each of `rank` dimensions.
    fn labels(&self, rank: usize) -> Option<Vec<Label>> {
        let after = self.after.as_deref().unwrap_or_default();
        let rest = rank.checked_sub(self.before.len() + after.len())?;
        if rest > 0 && self.after.is_none() {
            return None;
        }
        let letter = |c: &char| Label::Letter(*c);
        let dots = (0..rest).rev().map(Label::Rest);
        Some(self.before.iter().map(letter).chain(dots).chain(after.iter().map(letter)).collect())
    }
}

/// A tensor with a label for each dimension.
struct Labelled {
    x: Tensor,
    labels: Vec<Label>,
}

impl Labelled {
    fn position(&self, label: Label) -> Option<usize> {
        self.labels.iter().position(|l| *l == label)
    }

    /// Sums over the labels that nobody else has and the result doesn't want.
    fn sum_but(self, wanted: impl Fn(Label) -> bool) -> Result<Labelled> {
        let gone: Shape = (0..self.labels.len()).filter(|i| !wanted(self.labels[*i])).collect();
        if gone.is_empty() {
            return Ok(self);
        }
        let x = reduce::sum(&self.x, &gone, false)?;
        Ok(Labelled { x, labels: self.labels.into_iter().filter(|l| wanted(*l)).collect() })
    }

    /// With its dimensions in this order; a label that it doesn't have becomes a dimension of 1.
    fn arrange(&self, order: &[Label]) -> Result<Tensor> {
        let places: Shape = order.iter().filter_map(|l| self.position(*l)).collect();
        let moved = array::transpose(&self.x, &places)?;
        let extent = |l: &Label| self.position(*l).map_or(1, |i| self.x.shape()[i]);
        Ok(moved.reshape(order.iter().map(extent).collect::<Shape>())?)
    }

    fn extents(&self, labels: &[Label]) -> Shape {
        labels.iter().filter_map(|l| self.position(*l)).map(|i| self.x.shape()[i]).collect()
    }
}

impl Labelled {
    /// With each label once: of dimensions that share one only the diagonal counts.
    fn diagonals(mut self) -> Result<Labelled> {
        while let Some(first) = (0..self.labels.len()).find(|i| self.labels[i + 1..].contains(&self.labels[*i])) {
            let label = self.labels[first];
            let second = (first + 1..self.labels.len()).find(|i| self.labels[*i] == label);
            let Some(second) = second else { break };
            let (m, n) = (self.x.shape()[first], self.x.shape()[second]);
            if m != n {
                return Err(Error::compute(format!("a label stands for dimensions of {m} and of {n}")));
            }
            let mut order: Shape = (0..self.labels.len()).filter(|i| *i != first && *i != second).collect();
            self.labels = order.iter().map(|i| self.labels[*i]).chain([label]).collect();
            order.extend([first, second]);
            let moved = array::transpose(&self.x, &order)?;
            self.x = array::diag_part(&moved, &Diagonals::MAIN, &Tensor::zeros(moved.dtype(), [])?)?;
        }
        Ok(self)
    }

    /// As [`Labelled::arrange`], for an order in which a label may stand several times: all but the diagonal is zero.
    fn spread(mut self, order: &[Label]) -> Result<Tensor> {
        for (i, label) in order.iter().enumerate().filter(|(i, l)| order[..*i].contains(l)) {
            let Some(at) = self.position(*label) else { continue };
            let last = self.labels.len() - 1;
            let mut swap: Shape = (0..=last).collect();
            swap.swap(at, last);
            self.labels.swap(at, last);
            let moved = array::transpose(&self.x, &swap)?;
            let zero = Tensor::zeros(moved.dtype(), [])?;
            self.x = array::diag(&moved, &Diagonals::MAIN, None, None, &zero)?;
            self.labels.push(order[i]);
        }
        let mut used = vec![false; self.labels.len()];
        let mut next = |label: &Label| {
            let at = (0..used.len()).find(|i| !used[*i] && self.labels[*i] == *label)?;
            used[at] = true;
            Some(at)
        };
        let places: Shape = order.iter().filter_map(&mut next).collect();
        Ok(array::transpose(&self.x, &places)?)
    }
}

/// Each label once, as they first come.
fn once(labels: &[Label]) -> Vec<Label> {
    labels.iter().enumerate().filter(|(i, l)| !labels[..*i].contains(l)).map(|(_, l)| *l).collect()
}

fn pair(a: Labelled, b: Labelled, out: &[Label]) -> Result<Tensor> {
    let a = {
        let others = b.labels.clone();
        a.sum_but(|l| out.contains(&l) || others.contains(&l))?
    };
    let others = a.labels.clone();
    let b = b.sum_but(|l| out.contains(&l) || others.contains(&l))?;
    for (i, label) in a.labels.iter().enumerate() {
        if let (Label::Letter(c), Some(j)) = (label, b.position(*label))
            && a.x.shape()[i] != b.x.shape()[j]
        {
            let (x, y) = (a.x.shape()[i], b.x.shape()[j]);
            return Err(Error::compute(format!("dimension {c:?} is {x} in one operand and {y} in the other")));
        }
    }
    // Places of the ellipsis always go side by side, as they broadcast.
    let side = |l: &Label| matches!(l, Label::Rest(_)) || (a.position(*l).is_some() && b.position(*l).is_some());
    let mut batch: Vec<Label> = out.iter().copied().filter(side).collect();
    // Those of the ellipsis first and from the outermost, where the ranks may differ.
    batch.sort_by_key(|l| if let Label::Rest(n) = l { (0, usize::MAX - n) } else { (1, 0) });
    let only_a: Vec<Label> = a.labels.iter().copied().filter(|l| !batch.contains(l) && b.position(*l).is_none()).collect();
    let only_b: Vec<Label> = b.labels.iter().copied().filter(|l| !batch.contains(l) && a.position(*l).is_none()).collect();
    let summed: Vec<Label> = a.labels.iter().copied().filter(|l| !batch.contains(l) && b.position(*l).is_some()).collect();
    let flat = |t: &Labelled, rows: &[Label], columns: &[Label]| -> Result<Tensor> {
        let arranged = t.arrange(&[&batch[..], rows, columns].concat())?;
        let count = |labels: &[Label]| t.extents(labels).iter().product::<usize>();
        let mut shape = Shape::from(&arranged.shape()[..batch.len()]);
        shape.extend([count(rows), count(columns)]);
        Ok(arranged.reshape(shape)?)
    };
    let product = matmul(&flat(&a, &only_a, &summed)?, Form::Plain, &flat(&b, &summed, &only_b)?, Form::Plain)?;
    let mut shape = Shape::from(&product.shape()[..batch.len()]);
    shape.extend(a.extents(&only_a));
    shape.extend(b.extents(&only_b));
    let labels = [batch, only_a, only_b].concat();
    Labelled { x: product.reshape(shape)?, labels }.arrange(out)
}

fn einsum(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let equation: String = a.str("equation")?.chars().filter(|c| !c.is_whitespace()).collect();
    let bad = || Error::graph(format!("{equation:?} isn't an equation of one or two operands"));
    let (inputs, out) = equation.split_once("->").ok_or_else(bad)?;
    let terms = inputs.split(',').map(Term::parse).collect::<Option<Vec<_>>>().ok_or_else(bad)?;
    let out = Term::parse(out).ok_or_else(bad)?;
    if !(1..=2).contains(&terms.len()) {
        return Err(bad());
    }
    let equation = equation.clone();
    Ok(kernel(move |_, inputs| {
        let operands = all_tensors(inputs)?;
        let label = |(x, term): (Tensor, &Term)| -> Result<Labelled> {
            let labels = term.labels(x.rank()).ok_or_else(|| {
                Error::compute(format!("shape {:?} doesn't fit {equation:?}", x.shape()))
            })?;
            Labelled { x, labels }.diagonals()
        };
        if operands.len() != terms.len() {
            return Err(Error::graph(format!("{equation:?} takes {} operands, got {}", terms.len(), operands.len())));
        }
        let mut operands = operands.into_iter().zip(&terms).map(label).collect::<Result<Vec<_>>>()?.into_iter();
        let (first, second) = (operands.next(), operands.next());
        let first = first.ok_or_else(|| Error::graph("takes an operand"))?;
        let rest = |t: &Labelled| t.labels.iter().filter(|l| matches!(l, Label::Rest(_))).count();
        let dots = rest(&first).max(second.as_ref().map_or(0, rest));
        let letters = out.before.len() + out.after.as_ref().map_or(0, Vec::len);
        let wanted = out.labels(letters + if out.after.is_some() { dots } else { 0 }).unwrap_or_default();
        let known = |l: &Label| first.position(*l).is_some() || second.as_ref().is_some_and(|s| s.position(*l).is_some());
        if !wanted.iter().all(known) {
            return Err(Error::graph(format!("{equation:?}: a label of the result isn't in the operands")));
        }
        let labels = once(&wanted);
        let x = match second {
            None => first.sum_but(|l| labels.contains(&l))?.arrange(&labels)?,
            Some(second) => pair(first, second, &labels)?,
        };
        if labels.len() == wanted.len() {
            return one(x);
        }
        one(Labelled { x, labels }.spread(&wanted)?)
    }))
}

pub(super) const OPS: &[Op] = &[Op::new("Einsum(inputs: N * T) -> (output: T); equation: string; N: int; T: type", einsum)];
