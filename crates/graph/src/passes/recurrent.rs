//! Weights of recurrent layers are laid out for the kernels once.

use super::part::{Part, is_single};
use super::{derive, fuse, loops};
use crate::{Attr, Node};

pub(super) fn run(part: &mut Part) {
    let layers = |&index: &usize| Some((index, weights(&part.graph.nodes[index])?));
    let found: Vec<(usize, usize)> = part.needed().iter().filter_map(layers).collect();
    if found.is_empty() {
        return;
    }
    let derived = derive::derived(part);
    for (index, first) in found {
        for place in [first, first + 1] {
            let node = &part.graph.nodes[index];
            let Some(&weights) = node.inputs.get(place) else { continue };
            if part.is_fed(weights) || derived.get(weights.node) != Some(&true) {
                continue;
            }
            let name = format!("{}/packed_{place}", node.name);
            let packed = fuse::pack(part, name, weights, fuse::MATRIX);
            part.graph.nodes[index].inputs[place] = packed;
        }
    }
}

/// Where the kernel is among the inputs of a recurrent layer; the state's follows it.
fn weights(node: &Node) -> Option<usize> {
    match node.op.as_str() {
        loops::LOOP => {
            let count = usize::try_from(node.attr("M").and_then(Attr::as_int)?).ok()?;
            node.inputs.len().checked_sub(count)
        }
        "ModelarkLSTM" if is_single(node) => Some(3),
        "ModelarkGRU" | "ModelarkSimpleRNN" if is_single(node) => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::{agree, numbers};

    #[test]
    fn layers_take_their_weights_laid_out() {
        let weights = [numbers(&[2, 16], 2), numbers(&[4, 16], 3), numbers(&[16], 4)];
        for batch in [1, 3] {
            let inputs = [numbers(&[batch, 5, 2], 1), numbers(&[batch, 4], 7), numbers(&[batch, 4], 8)];
            agree(&inputs, &weights, |b, x, w| {
                let call = b.op("ModelarkLSTM").inputs(x).inputs(w);
                call.attr("use_bias", 1i64).attr("masked", 0i64).all()
            });
        }
        let weights = [numbers(&[2, 12], 2), numbers(&[4, 12], 3)];
        agree(&[numbers(&[2, 5, 2], 1), numbers(&[2, 4], 7)], &weights, |b, x, w| {
            let call = b.op("ModelarkGRU").inputs(x).inputs(w).attr("reset_after", false);
            call.attr("use_bias", 0i64).attr("masked", 0i64).all()
        });
    }
}
