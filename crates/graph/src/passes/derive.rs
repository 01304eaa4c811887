//! What depends on variables alone: computed once for each of their values, not in each run.

use std::rc::Rc;

use foldhash::{HashSet, HashSetExt};

use super::part::Part;
use crate::tensor::DType;
use crate::{ARG, Attr, Node, Output};

/// What is to be prepared.
pub(super) struct Found {
    /// What the rest of the graph takes of it.
    pub(super) frontier: Vec<Output>,
    /// Handles of variables that nodes name.
    pub(super) named: Vec<Output>,
    /// Handles of variables among the feeds.
    pub(super) given: Vec<Output>,
}

/// Ops that make weights of weights and never much larger ones.
const OPS: &[&str] = &[
    "Add",
    "AddV2",
    "Cast",
    "ConcatV2",
    "Dequantize",
    "Exp",
    "ExpandDims",
    super::fuse::PACK,
    "Maximum",
    "Minimum",
    "Mul",
    "Neg",
    "RealDiv",
    "Reshape",
    "Rsqrt",
    "Shape",
    "Slice",
    "Softplus",
    "Split",
    "Sqrt",
    "Square",
    "Squeeze",
    "StridedSlice",
    "Sub",
    "Transpose",
    "Unpack",
];

/// Whether an op gives weights, or makes them of others.
pub(super) fn is_weight(op: &str) -> bool {
    matches!(op, "Const" | "ReadVariableOp") || OPS.contains(&op)
}

/// For each node, whether all it gives derives from variables and constants.
pub(super) fn derived(part: &Part) -> Rc<Vec<bool>> {
    part.know(|known| &mut known.derived, || mark(part))
}

fn mark(part: &Part) -> Vec<bool> {
    let mut derived = vec![false; part.graph.nodes.len()];
    for &index in part.ordered().iter() {
        let node = &part.graph.nodes[index];
        derived[index] = node.controls.is_empty()
            && match node.op.as_str() {
                "Const" => true,
                "ReadVariableOp" => node.inputs.first().is_some_and(|h| is_handle(part, *h)),
                op if OPS.contains(&op) => {
                    !node.inputs.is_empty() && node.inputs.iter().all(|i| !part.is_fed(*i) && derived[i.node])
                }
                _ => false,
            };
    }
    // A node that is fed gives what is fed.
    part.feeds.iter().for_each(|f| derived[f.node] = false);
    derived
}

fn is_handle(part: &Part, output: Output) -> bool {
    if part.is_fed(output) {
        let argument = part.graph.nodes.get(output.node);
        return argument
            .is_some_and(|n| n.op == ARG && n.attr("T").and_then(Attr::as_type) == Some(DType::Resource));
    }
    part.maker(output).is_some_and(|n| n.op == "VarHandleOp" && n.controls.is_empty() && !is_anonymous(n))
}

/// Whether each run makes a variable of its own.
fn is_anonymous(node: &Node) -> bool {
    node.attr("shared_name").and_then(Attr::as_str) == Some(crate::ops::ANONYMOUS)
}

/// Where what derives from variables meets the rest.
pub(super) fn find(part: &Part) -> Found {
    let derived = derived(part);
    // Constants are the plan's to fold, but what isn't a tensor can't be folded.
    let mut varies = vec![false; derived.len()];
    let order = part.ordered();
    for &index in order.iter() {
        let node = &part.graph.nodes[index];
        varies[index] = derived[index]
            && (matches!(node.op.as_str(), "ReadVariableOp" | super::fuse::PACK)
                || node.inputs.iter().any(|i| varies[i.node]));
    }
    let mut frontier = Vec::new();
    let mut met = HashSet::new();
    let readers = order.iter().filter(|&&i| !derived[i]).flat_map(|&i| &part.graph.nodes[i].inputs);
    for output in readers.chain(part.fetches.iter()) {
        if !part.is_fed(*output) && varies.get(output.node) == Some(&true) && met.insert(*output) {
            frontier.push(*output);
        }
    }
    let mut found = Found { frontier, named: Vec::new(), given: Vec::new() };
    let mut waiting: Vec<usize> = found.frontier.iter().map(|o| o.node).collect();
    let mut seen: HashSet<usize> = waiting.iter().copied().collect();
    let mut handles = HashSet::new();
    while let Some(index) = waiting.pop() {
        let node = &part.graph.nodes[index];
        if node.op == "ReadVariableOp" {
            let Some(handle) = node.inputs.first() else { continue };
            if handles.insert(*handle) {
                let all = if part.is_fed(*handle) { &mut found.given } else { &mut found.named };
                all.push(*handle);
            }
            continue;
        }
        waiting.extend(node.inputs.iter().map(|i| i.node).filter(|n| seen.insert(*n)));
    }
    found
}
