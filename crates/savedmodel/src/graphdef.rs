//! Whole graphs: `GraphDef` and [`Graph`]. References are `node`, `node:2` and, for controls, `^node`.

use std::collections::HashMap;

use modelark_artifact::{Error, Limits, Result};
use modelark_graph::{Graph, Node, Output};
use modelark_proto::NodeDef;

use crate::attr::{attrs_from_proto, attrs_to_proto};

/// The graph of these nodes.
///
/// # Errors
/// When two nodes have one name, a reference leads nowhere, or there are more nodes than the limits allow; the message
/// names the node.
pub(crate) fn graph_from_proto(nodes: &[NodeDef], limits: &Limits) -> Result<Graph> {
    if nodes.len() > limits.items {
        return Err(Error::limit(format!("the graph has {} nodes, over the limit", nodes.len())));
    }
    let mut index = HashMap::with_capacity(nodes.len());
    for (i, node) in nodes.iter().enumerate() {
        if index.insert(node.name.as_str(), i).is_some() {
            return Err(Error::corrupt("two nodes have this name").at(place(node)));
        }
    }
    let read = |def: &NodeDef| -> Result<Node> {
        let mut node = node_from_proto(def, limits)?;
        for reference in &def.input {
            let unknown = || Error::corrupt(format!("its input {reference:?} is no node of the graph"));
            if let Some(name) = reference.strip_prefix('^') {
                node.controls.push(*index.get(name).ok_or_else(unknown)?);
            } else {
                node.inputs.push(parse_reference(reference, &index).ok_or_else(unknown)?);
            }
        }
        Ok(node)
    };
    let nodes = nodes.iter().map(|def| read(def).map_err(|e| e.at(place(def)))).collect::<Result<_>>()?;
    Ok(Graph { nodes })
}

/// The output that a reference such as `node:2` names; `node` is its first.
fn parse_reference(reference: &str, index: &HashMap<&str, usize>) -> Option<Output> {
    if let Some(node) = index.get(reference) {
        return Some(Output::new(*node, 0));
    }
    let (name, output) = reference.rsplit_once(':')?;
    Some(Output::new(*index.get(name)?, output.parse().ok()?))
}

/// The output that a tensor's name such as `x:0` means in a graph, where `nodes` tells the index of each node's name.
pub(crate) fn find_tensor(name: &str, nodes: &HashMap<&str, usize>) -> Option<Output> {
    parse_reference(name, nodes)
}

/// The index of each node by its name.
pub(crate) fn node_index(graph: &Graph) -> HashMap<&str, usize> {
    graph.nodes.iter().enumerate().map(|(i, n)| (n.name.as_str(), i)).collect()
}

/// The nodes of a graph.
///
/// # Errors
/// When an edge leads to a node that doesn't exist.
pub(crate) fn graph_to_proto(graph: &Graph) -> Result<Vec<NodeDef>> {
    let name = |i: usize| {
        graph.nodes.get(i).map(|n| n.name.as_str()).ok_or_else(|| Error::invalid("an edge leads nowhere"))
    };
    let write = |node: &Node| -> Result<NodeDef> {
        let mut def = node_to_proto(node);
        for input in &node.inputs {
            let name = name(input.node)?;
            def.input.push(match input.index {
                0 => name.to_owned(),
                i => format!("{name}:{i}"),
            });
        }
        for control in &node.controls {
            def.input.push(format!("^{}", name(*control)?));
        }
        Ok(def)
    };
    let place = |node: &Node| format!("node {:?} ({})", node.name, node.op);
    graph.nodes.iter().map(|node| write(node).map_err(|e| e.at(place(node)))).collect()
}

/// A node without its references.
pub(crate) fn node_from_proto(def: &NodeDef, limits: &Limits) -> Result<Node> {
    Ok(Node {
        name: def.name.clone(),
        op: def.op.clone(),
        inputs: Vec::with_capacity(def.input.len()),
        controls: Vec::new(),
        attrs: attrs_from_proto(&def.attr, limits)?,
        device: def.device.clone(),
    })
}

/// A node's message without its references.
pub(crate) fn node_to_proto(node: &Node) -> NodeDef {
    NodeDef {
        name: node.name.clone(),
        op: node.op.clone(),
        device: node.device.clone(),
        attr: attrs_to_proto(&node.attrs),
        ..NodeDef::default()
    }
}

/// What to call a node in messages.
pub(crate) fn place(def: &NodeDef) -> String {
    format!("node {:?} ({})", def.name, def.op)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(name: &str, inputs: &[&str]) -> NodeDef {
        NodeDef {
            name: name.into(),
            op: "Op".into(),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn references_of_every_form_survive() {
        let nodes = vec![def("a", &["b:1", "c"]), def("b", &["^a"]), def("c", &["b", "a:12", "^b"])];
        let graph = graph_from_proto(&nodes, &Limits::default()).expect("graph");
        assert_eq!(graph.nodes[0].inputs, [Output::new(1, 1), Output::new(2, 0)]);
        assert_eq!(graph.nodes[1].controls, [0]);
        assert_eq!(graph_to_proto(&graph).expect("nodes"), nodes);
    }

    #[test]
    fn what_leads_nowhere_is_named() {
        for (nodes, part) in [
            (vec![def("a", &["nope"])], "node \"a\" (Op): its input \"nope\""),
            (vec![def("a", &["^nope"])], "^nope"),
            (vec![def("a", &["a:x"])], "a:x"),
            (vec![def("a", &[]), def("a", &[])], "two nodes"),
        ] {
            let e = graph_from_proto(&nodes, &Limits::default()).expect_err("bad graph");
            assert!(e.to_string().contains(part), "{e}");
        }
    }
}
