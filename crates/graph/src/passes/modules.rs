//! StableHLO modules get the handles of variables in place of their values, so that what they derive from weights alone is
//! kept, as it is for any other graph.

use super::part::Part;
use crate::ops::{MODULE_OF_VARIABLES, XLA_CALL_MODULE};
use crate::tensor::DType;
use crate::{Attr, Node, Output};

/// Where no variable changes while the graph runs.
pub(super) fn run(part: &mut Part) {
    for &index in part.ordered().iter() {
        let node = &part.graph.nodes[index];
        if node.op != XLA_CALL_MODULE {
            continue;
        }
        let Some(types) = node.attr("Tin").and_then(Attr::as_list).filter(|t| t.len() == node.inputs.len())
        else {
            continue;
        };
        let mut types = types.to_vec();
        let mut inputs = node.inputs.clone();
        for (input, dtype) in inputs.iter_mut().zip(&mut types) {
            if let Some(handle) = handle(part, *input) {
                *input = handle;
                *dtype = Attr::Type(DType::Resource);
            }
        }
        if inputs == node.inputs {
            continue;
        }
        let mut node = node.clone();
        node.op = MODULE_OF_VARIABLES.to_owned();
        node.inputs = inputs;
        node.attrs.insert("Tin".to_owned(), Attr::List(types));
        part.graph.nodes[index] = node;
    }
}

/// The handle that a value is read of.
fn handle(part: &Part, value: Output) -> Option<Output> {
    let node: &Node = part.maker(value).filter(|n| n.op == "ReadVariableOp" && n.controls.is_empty())?;
    node.inputs.first().copied()
}
