//! Readers of an identity read what it passes on.

use super::part::Part;
use crate::{Output, ops};

pub(super) fn run(part: &mut Part) {
    // In order, so that an identity's own input is never another's output any more.
    for &index in part.ordered().iter() {
        for place in 0..part.graph.nodes[index].inputs.len() {
            let input = part.graph.nodes[index].inputs[place];
            let from = source(part, input);
            if from != input {
                part.graph.nodes[index].inputs[place] = from;
            }
        }
    }
    let fetches: Vec<Output> = part.fetches.iter().map(|f| source(part, *f)).collect();
    if fetches != *part.fetches {
        *part.fetches = fetches;
    }
}

/// What a value is before identities pass it on.
fn source(part: &Part, output: Output) -> Output {
    let mut at = output;
    // No chain is longer than the graph, unless it is a circle.
    for _ in 0..part.graph.nodes.len() {
        let Some(node) = part.maker(at).filter(|n| n.controls.is_empty()) else { break };
        let Some(from) = node.inputs.get(at.index).copied() else { break };
        if !ops::find(&node.op).is_some_and(|op| op.passes) {
            break;
        }
        // The value of a reference is what it is when the identity runs.
        let is_ref = part.maker(from).is_some_and(|n| {
            n.op.starts_with("Ref")
                || ops::signature(&n.op).is_ok_and(|s| s.output_is_ref(&n.attrs, from.index))
        });
        if is_ref {
            break;
        }
        at = from;
    }
    at
}
