//! Patterns: a few ops as they are traced, to be found among a graph's nodes.

use super::part::{Part, Readers};
use crate::tensor::{DType, Tensor};
use crate::{Attr, Builder, Graph, Node, Output, Result, Sym};

/// What is looked for: a function whose arguments stand for any value. A constant stands for itself, or nearly, and the
/// operands of sums and products for either order.
pub(super) struct Pattern {
    graph: Graph,
    arity: usize,
    root: Output,
    /// Attributes that may have any value.
    free: &'static [&'static str],
}

/// Where a pattern was found.
#[derive(Clone)]
pub(super) struct Match {
    /// What its arguments stand for.
    pub(super) args: Vec<Output>,
    /// The graph's node for each of the pattern's.
    nodes: Vec<Option<usize>>,
}

#[derive(Clone)]
struct Binding {
    args: Vec<Option<Output>>,
    nodes: Vec<Option<usize>>,
}

impl Pattern {
    /// A pattern of arguments of these dtypes, traced by `trace`. In the graph it may have others.
    ///
    /// # Errors
    /// What `trace` returns.
    pub(super) fn new(
        dtypes: &[DType],
        free: &'static [&'static str],
        trace: impl FnOnce(&mut Builder, &[Sym]) -> Result<Sym>,
    ) -> Result<Pattern> {
        let mut b = Builder::new("pattern");
        let arg = |(i, d): (usize, &DType)| b.arg(&format!("arg_{i}"), *d);
        let args = dtypes.iter().enumerate().map(arg).collect::<Result<Vec<_>>>()?;
        let root = trace(&mut b, &args)?;
        let (f, _) = b.finish(&[("root", root)])?;
        let root = f.results.first().map_or(Output::new(0, 0), |r| r.output);
        Ok(Pattern { graph: f.graph, arity: dtypes.len(), root, free })
    }

    /// The op that a match ends in.
    pub(super) fn op(&self) -> &str {
        self.graph.nodes.get(self.root.node).map(|n| canonical(&n.op)).unwrap_or_default()
    }

    /// Whether one of its nodes is of this op.
    #[cfg(test)]
    pub(super) fn has(&self, op: &str) -> bool {
        self.graph.nodes.iter().any(|n| canonical(&n.op) == op)
    }

    /// The pattern where `output` is what it gives; nothing else may read what lies between.
    pub(super) fn find(&self, part: &Part, readers: &Readers, output: Output) -> Option<Match> {
        let found = self.find_shared(part, output)?;
        let members: Vec<usize> = found.nodes.iter().flatten().copied().collect();
        let inner = members.iter().filter(|n| **n != output.node);
        for index in inner {
            let node = part.graph.nodes.get(*index)?;
            let outputs = crate::ops::signature(&node.op).ok()?.output_dtypes(&node.attrs).ok()?.len();
            let hidden = (0..outputs).all(|i| readers.all_among(part, Output::new(*index, i), &members));
            if !hidden {
                return None;
            }
        }
        Some(found)
    }

    /// The same where others may read what lies between.
    pub(super) fn find_shared(&self, part: &Part, output: Output) -> Option<Match> {
        if !self.may(part, output) {
            return None;
        }
        let nodes = self.graph.nodes.len();
        let mut binding = Binding { args: vec![None; self.arity], nodes: vec![None; nodes] };
        if !self.fits(part, self.root, output, &mut binding) {
            return None;
        }
        Some(Match { args: binding.args.into_iter().collect::<Option<_>>()?, nodes: binding.nodes })
    }

    /// Whether the last node reads from such ops as the pattern's does, which rules most nodes out at once.
    fn may(&self, part: &Part, output: Output) -> bool {
        let (Some(want), Some(have)) = (self.graph.nodes.get(self.root.node), part.maker(output)) else {
            return false;
        };
        let mut wanted = want.inputs.iter().filter(|w| w.node >= self.arity);
        wanted.all(|w| {
            let op = self.graph.nodes.get(w.node).map(|n| canonical(&n.op));
            have.inputs.iter().any(|h| part.maker(*h).map(|n| canonical(&n.op)) == op)
        })
    }

    fn fits(&self, part: &Part, wanted: Output, given: Output, binding: &mut Binding) -> bool {
        if let Some(arg) = binding.args.get_mut(wanted.node) {
            return *arg.get_or_insert(given) == given;
        }
        let (Some(want), Some(have)) = (self.graph.nodes.get(wanted.node), part.maker(given)) else {
            return false;
        };
        if want.op == "Const" {
            return have.op == "Const" && nearly(constant(want), constant(have));
        }
        match binding.nodes[wanted.node] {
            Some(node) => return node == given.node && wanted.index == given.index,
            None => binding.nodes[wanted.node] = Some(given.node),
        }
        let ends_alike = wanted.index == given.index
            && canonical(&want.op) == canonical(&have.op)
            && want.inputs.len() == have.inputs.len()
            && have.controls.is_empty();
        let attrs_alike = || {
            want.attrs.iter().all(|(name, value)| {
                matches!(value, Attr::Type(_))
                    || self.free.contains(&name.as_str())
                    || part.attr(have, name).is_some_and(|v| v == value)
            })
        };
        if !ends_alike || !attrs_alike() {
            return false;
        }
        let before = binding.clone();
        let in_order = |binding: &mut Binding, given: &mut dyn Iterator<Item = &Output>| {
            want.inputs.iter().zip(given).all(|(w, g)| self.fits(part, *w, *g, binding))
        };
        if in_order(binding, &mut have.inputs.iter()) {
            return true;
        }
        *binding = before;
        commutes(&want.op) && have.inputs.len() == 2 && in_order(binding, &mut have.inputs.iter().rev())
    }
}

impl Match {
    /// The graph's node that the pattern's last node of this op is.
    pub(super) fn node<'p>(&self, part: &'p Part, op: &str) -> Option<&'p Node> {
        part.graph.nodes.get(self.last(part, op)?)
    }

    /// The index of that node.
    pub(super) fn last(&self, part: &Part, op: &str) -> Option<usize> {
        let is = |n: &&usize| part.graph.nodes.get(**n).is_some_and(|n| n.op == op);
        self.nodes.iter().rev().flatten().find(is).copied()
    }

    /// All nodes of the match.
    pub(super) fn members(&self) -> impl Iterator<Item = usize> + '_ {
        self.nodes.iter().flatten().copied()
    }
}

fn constant(node: &Node) -> Option<&Tensor> {
    node.attr("value").and_then(Attr::as_tensor)
}

/// Whether two constants are equal but for rounding.
fn nearly(a: Option<&Tensor>, b: Option<&Tensor>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return false };
    if a.dtype() != b.dtype() || a.shape() != b.shape() {
        return false;
    }
    match (a.elements::<f32>(), b.elements::<f32>()) {
        (Ok(a), Ok(b)) => a.iter().zip(b.iter()).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs()),
        _ => a.bit_eq(b),
    }
}

/// One name for ops that mean the same.
pub(super) fn canonical(op: &str) -> &str {
    match op {
        "Add" => "AddV2",
        "Div" => "RealDiv",
        "BatchMatMul" => "BatchMatMulV2",
        other => other,
    }
}

fn commutes(op: &str) -> bool {
    matches!(op, "AddV2" | "Mul" | "Maximum" | "Minimum" | "SquaredDifference")
}
