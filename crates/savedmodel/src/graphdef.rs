//! Whole graphs: `GraphDef` and [`Graph`]. References are `node`, `node:2` and, for controls, `^node`.

use std::collections::HashMap;

use modelark_artifact::{Error, Limits, Result};
use modelark_graph::{Graph, Node, Output};
use modelark_proto::{Message, NodeDef, bytes::Bytes};
use rayon::prelude::*;

use crate::attr::{attrs_from_proto, attrs_to_proto};

/// So many nodes are decoded by one thread; smaller graphs aren't worth more.
const PART: usize = 4096;

/// The graph of these nodes, which are encoded each.
///
/// # Errors
/// When a node is damaged, two nodes have one name, a reference leads nowhere, or there are more nodes than the limits
/// allow; the message names the node.
pub(crate) fn graph_from_proto(nodes: &[Bytes], limits: &Limits) -> Result<Graph> {
    if nodes.len() > limits.items {
        return Err(Error::limit(format!("the graph has {} nodes, over the limit", nodes.len())));
    }
    let mut read = Unconnected::with_capacity(nodes.len());
    if nodes.len() > PART {
        let part = |(i, part): (usize, &[Bytes])| Unconnected::after(i * PART).with(part, limits);
        let parts: Vec<_> = nodes.par_chunks(PART).enumerate().map(part).collect();
        parts.into_iter().try_for_each(|part| part.map(|part| read.append(part)))?;
    } else {
        read = read.with(nodes, limits)?;
    }
    let Unconnected { mut nodes, names, references, .. } = read;
    let mut index = HashMap::with_capacity(nodes.len());
    for (i, (name, node)) in names.iter().zip(&nodes).enumerate() {
        if index.insert(name.as_str(), i).is_some() {
            return Err(Error::corrupt("two nodes have this name").at(place(name, &node.op)));
        }
    }
    for ((node, name), references) in nodes.iter_mut().zip(&names).zip(&references) {
        for reference in references {
            let found = match reference.strip_prefix('^') {
                Some(name) => index.get(name).map(|control| node.controls.push(*control)),
                None => parse_reference(reference, &index).map(|input| node.inputs.push(input)),
            };
            found.ok_or_else(|| {
                Error::corrupt(format!("its input {reference:?} is no node of the graph"))
                    .at(place(name, &node.op))
            })?;
        }
    }
    Ok(Graph { nodes: named(nodes, names) })
}

/// Nodes before their references are followed. The names stand beside them, so that an index can borrow these.
#[derive(Default)]
pub(crate) struct Unconnected {
    /// How many nodes of the graph come before these.
    before: usize,
    pub(crate) nodes: Vec<Node>,
    pub(crate) names: Vec<String>,
    pub(crate) references: Vec<Vec<String>>,
}

impl Unconnected {
    pub(crate) fn with_capacity(count: usize) -> Self {
        Unconnected {
            before: 0,
            nodes: Vec::with_capacity(count),
            names: Vec::with_capacity(count),
            references: Vec::with_capacity(count),
        }
    }

    pub(crate) fn push(&mut self, name: String, node: Node, references: Vec<String>) {
        self.names.push(name);
        self.nodes.push(node);
        self.references.push(references);
    }

    fn after(before: usize) -> Self {
        Unconnected { before, ..Unconnected::default() }
    }

    /// These, too.
    fn with(mut self, nodes: &[Bytes], limits: &Limits) -> Result<Self> {
        nodes.iter().try_for_each(|node| self.decode(node, limits))?;
        Ok(self)
    }

    fn append(&mut self, mut more: Unconnected) {
        self.nodes.append(&mut more.nodes);
        self.names.append(&mut more.names);
        self.references.append(&mut more.references);
    }

    /// Decodes a node.
    pub(crate) fn decode(&mut self, node: &Bytes, limits: &Limits) -> Result<()> {
        let def = NodeDef::decode(node.clone()).map_err(|e| {
            Error::corrupt(format!("node {} is damaged", self.before + self.nodes.len())).because(e)
        })?;
        let attrs = attrs_from_proto(def.attr, limits).map_err(|e| e.at(place(&def.name, &def.op)))?;
        let node = Node {
            name: String::new(),
            op: def.op,
            inputs: Vec::with_capacity(def.input.len()),
            controls: Vec::new(),
            attrs,
            device: def.device,
        };
        self.push(def.name, node, def.input);
        Ok(())
    }
}

/// The nodes under their names.
pub(crate) fn named(mut nodes: Vec<Node>, names: Vec<String>) -> Vec<Node> {
    nodes.iter_mut().zip(names).for_each(|(node, name)| node.name = name);
    nodes
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

/// The nodes of a graph, encoded each.
///
/// # Errors
/// When an edge leads to a node that doesn't exist.
pub(crate) fn graph_to_proto(graph: &Graph) -> Result<Vec<Bytes>> {
    let name = |i: usize| {
        graph.nodes.get(i).map(|n| n.name.as_str()).ok_or_else(|| Error::invalid("an edge leads nowhere"))
    };
    let write = |node: &Node| -> Result<Bytes> {
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
        Ok(encoded(&def))
    };
    graph.nodes.iter().map(|node| write(node).map_err(|e| e.at(place(&node.name, &node.op)))).collect()
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

/// A message as the field of another that keeps it encoded.
pub(crate) fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// What to call a node in messages.
pub(crate) fn place(name: &str, op: &str) -> String {
    format!("node {name:?} ({op})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(name: &str, inputs: &[&str]) -> Bytes {
        encoded(&NodeDef {
            name: name.into(),
            op: "Op".into(),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            ..Default::default()
        })
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
    fn a_graph_of_many_parts_is_whole() {
        let count = 2 * PART + 5;
        let name = |i: usize| format!("n{i}");
        let mut nodes: Vec<Bytes> =
            (0..count).map(|i| def(&name(i), &[&name((i * 7 + 1) % count)])).collect();
        let graph = graph_from_proto(&nodes, &Limits::default()).expect("graph");
        assert_eq!(graph_to_proto(&graph).expect("nodes"), nodes);
        nodes[PART + 3] = Bytes::from_static(b"\xff");
        let e = graph_from_proto(&nodes, &Limits::default()).expect_err("bad graph");
        assert!(e.to_string().contains(&format!("node {} is damaged", PART + 3)), "{e}");
    }

    #[test]
    fn what_leads_nowhere_is_named() {
        for (nodes, part) in [
            (vec![def("a", &["nope"])], "node \"a\" (Op): its input \"nope\""),
            (vec![def("a", &["^nope"])], "^nope"),
            (vec![def("a", &["a:x"])], "a:x"),
            (vec![def("a", &[]), def("a", &[])], "two nodes"),
            (vec![def("a", &[]), Bytes::from_static(b"\xff")], "node 1 is damaged"),
        ] {
            let e = graph_from_proto(&nodes, &Limits::default()).expect_err("bad graph");
            assert!(e.to_string().contains(part), "{e}");
        }
    }
}
