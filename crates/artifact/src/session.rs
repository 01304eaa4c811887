//! Graphs that run by feeding and fetching tensors.

use std::collections::{BTreeMap, HashMap, HashSet};

use modelark_graph::engine::fetchable;
use modelark_graph::{Attr, Graph, Node, Output, ops};
use modelark_tensor::{DType, PartialShape};

use crate::{Error, Result, nearest};

/// A tensor of a graph by name, with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Such as `serving_default_x:0`.
    pub name: String,
    /// The dtype.
    pub dtype: DType,
    /// What is known of the shape.
    pub shape: PartialShape,
}

/// A signature of a [`Session`]: which tensors to feed and to fetch (TensorFlow: `SignatureDef`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signature {
    /// Inputs by key.
    pub inputs: BTreeMap<String, TensorInfo>,
    /// Outputs by key.
    pub outputs: BTreeMap<String, TensorInfo>,
    /// Such as `tensorflow/serving/predict`.
    pub method: String,
}

/// A whole graph that runs by feeding and fetching tensors, as TensorFlow 1 and TensorFlow Serving do.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// The graph.
    pub graph: Graph,
    /// Its signatures.
    pub signatures: BTreeMap<String, Signature>,
    /// The nodes to run once before anything else, in order.
    pub init: Vec<usize>,
    /// Assets to feed before that: the tensor and the index in [`Artifact::assets`](crate::Artifact::assets).
    pub assets: Vec<(Output, usize)>,
    /// What the graph calls a variable's handle or reference node, by the variable's name in the checkpoint.
    pub variables: BTreeMap<String, usize>,
}

/// Ops that stand for what is fed.
const PLACEHOLDERS: [&str; 3] = ["Placeholder", "PlaceholderV2", "PlaceholderWithDefault"];

/// Ops of the part of a graph that saves and restores it, which nobody means to run.
const SAVERS: [&str; 6] = ["Save", "SaveSlices", "SaveV2", "Restore", "RestoreSlice", "RestoreV2"];

impl Session {
    /// The output that a tensor's name such as `dense/Relu:0` means; a node's name means its first output.
    ///
    /// # Errors
    /// When the graph has no such node; the message offers the nearest.
    pub fn tensor(&self, name: &str) -> Result<Output> {
        let (node, index) = name
            .rsplit_once(':')
            .and_then(|(node, index)| Some((node, index.parse::<usize>().ok()?)))
            .unwrap_or((name, 0));
        let found = self.graph.find(node).or_else(|| self.graph.find(name)).ok_or_else(|| {
            let e = Error::invalid(format!("the graph has no tensor {name:?}"));
            match nearest(node, self.graph.nodes.iter().map(|n| n.name.as_str())) {
                Some(near) => e.help(near),
                None => {
                    let named = |infos: Vec<TensorInfo>| -> Vec<String> {
                        infos.into_iter().take(8).map(|i| i.name).collect()
                    };
                    match (named(self.inputs()).join(", "), named(self.outputs()).join(", ")) {
                        (from, to) if from.is_empty() && to.is_empty() => e,
                        (from, to) if to.is_empty() => e.help(format!("it goes from {from}")),
                        (from, to) if from.is_empty() => e.help(format!("it goes to {to}")),
                        (from, to) => e.help(format!("it goes from {from} to {to}")),
                    }
                }
            }
        })?;
        let count = output_count(&self.graph.nodes[found]);
        if count.is_some_and(|count| index >= count) {
            return Err(Error::invalid(format!(
                "the graph has no tensor {name:?}: its node has {} outputs",
                count.unwrap_or_default()
            )));
        }
        Ok(Output::new(found, index))
    }

    /// What can be fed, in the graph's order: the placeholders that aren't there to name a checkpoint.
    pub fn inputs(&self) -> Vec<TensorInfo> {
        self.infos(placeholders(&self.graph))
    }

    /// What can be fetched, in the graph's order: the tensors that nothing uses and that follow from an input, or,
    /// where none does, all that nothing uses. Ops that change variables aren't among them.
    pub fn outputs(&self) -> Vec<TensorInfo> {
        let graph = &self.graph;
        // What another op runs after isn't last either; only `NoOp`s gather what is.
        let depends = |n: &Node| {
            let controls = if n.op == "NoOp" { Vec::new() } else { n.controls.clone() };
            n.inputs.iter().map(|o| o.node).chain(controls).collect::<Vec<_>>()
        };
        let used: HashSet<usize> = graph.nodes.iter().flat_map(depends).collect();
        let result = |node: &Node| {
            let known = ops::signature(&node.op).ok();
            let changes = known.is_some_and(|s| s.stateful || s.outputs.iter().any(|o| o.is_ref));
            node.op != "Const" && !PLACEHOLDERS.contains(&node.op.as_str()) && !changes
        };
        // A graph that isn't well formed is refused when it is to run.
        let fetchable = fetchable(graph).unwrap_or_default();
        let ends =
            |i: &usize| !used.contains(i) && result(&graph.nodes[*i]) && fetchable.get(*i) != Some(&false);
        let last: Vec<usize> = (0..graph.nodes.len()).filter(ends).collect();
        let fed: Vec<usize> = placeholders(graph).into_iter().map(|o| o.node).collect();
        let reached = reachable(graph, &fed);
        let mut follow: Vec<usize> = last.iter().copied().filter(|i| reached.contains(i)).collect();
        if follow.is_empty() {
            follow = last;
        }
        let outputs = follow.into_iter().flat_map(|i| {
            let count = output_count(&graph.nodes[i]).unwrap_or(1);
            (0..count).map(move |o| Output::new(i, o))
        });
        self.infos(outputs.collect())
    }

    /// What could be fetched by name where nothing is found to be an output: tensors that are computed, the last first.
    pub fn computed(&self) -> Vec<TensorInfo> {
        let given = |node: &Node| node.op == "Const" || PLACEHOLDERS.contains(&node.op.as_str());
        let nodes = (0..self.graph.nodes.len()).rev().filter(|i| !given(&self.graph.nodes[*i]));
        let outputs = nodes.flat_map(|i| {
            let count = output_count(&self.graph.nodes[i]).unwrap_or_default();
            (0..count).map(move |o| Output::new(i, o))
        });
        self.infos(outputs.collect())
    }

    /// What is known of the tensors of these names, in their order.
    ///
    /// # Errors
    /// When the graph doesn't have one of them, or nothing tells its dtype.
    pub fn named(&self, names: &[String]) -> Result<Vec<TensorInfo>> {
        let info = |name: &String| {
            self.info(self.tensor(name)?)
                .ok_or_else(|| Error::unsupported(format!("nothing tells the dtype of tensor {name:?}")))
        };
        names.iter().map(info).collect()
    }

    /// The signature from these tensors to those, by default from [`Session::inputs`] to [`Session::outputs`]; its keys
    /// are the tensors' names.
    ///
    /// # Errors
    /// As [`Session::named`].
    pub fn signature(&self, inputs: Option<&[String]>, outputs: Option<&[String]>) -> Result<Signature> {
        let inputs = inputs.map_or_else(|| Ok(self.inputs()), |names| self.named(names))?;
        let outputs = outputs.map_or_else(|| Ok(self.outputs()), |names| self.named(names))?;
        let by_name = |infos: Vec<TensorInfo>| infos.into_iter().map(|i| (i.name.clone(), i)).collect();
        Ok(Signature { inputs: by_name(inputs), outputs: by_name(outputs), method: String::new() })
    }

    fn infos(&self, outputs: Vec<Output>) -> Vec<TensorInfo> {
        outputs.into_iter().filter_map(|o| self.info(o)).collect()
    }

    /// What is known of a tensor without running anything.
    fn info(&self, output: Output) -> Option<TensorInfo> {
        let node = self.graph.nodes.get(output.node)?;
        let known = ops::signature(&node.op).and_then(|s| s.output_dtypes(&node.attrs));
        let dtype = known.ok().and_then(|d| d.get(output.index).copied());
        let dtype = dtype.or_else(|| ["dtype", "T"].iter().find_map(|a| node.attr(a)?.as_type()))?;
        let shape = match (PLACEHOLDERS.contains(&node.op.as_str()), node.attr("shape")) {
            (true, Some(Attr::Shape(shape))) => shape.clone(),
            _ => PartialShape::UNKNOWN,
        };
        Some(TensorInfo { name: format!("{}:{}", node.name, output.index), dtype, shape })
    }
}

fn output_count(node: &Node) -> Option<usize> {
    ops::signature(&node.op).and_then(|s| s.output_dtypes(&node.attrs)).ok().map(|d| d.len())
}

/// The placeholders from which no op is reached that saves or restores.
fn placeholders(graph: &Graph) -> Vec<Output> {
    let is_placeholder = |i: &usize| PLACEHOLDERS.contains(&graph.nodes[*i].op.as_str());
    let names_a_file = |i: &usize| {
        let string = graph.nodes[*i].attr("dtype").and_then(Attr::as_type) == Some(DType::String);
        string && reachable(graph, &[*i]).into_iter().any(|n| SAVERS.contains(&graph.nodes[n].op.as_str()))
    };
    let nodes = (0..graph.nodes.len()).filter(is_placeholder).filter(|i| !names_a_file(i));
    nodes.map(|i| Output::new(i, 0)).collect()
}

/// The nodes that compute from these, themselves included.
fn reachable(graph: &Graph, from: &[usize]) -> HashSet<usize> {
    let mut users: HashMap<usize, Vec<usize>> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|i| users.entry(i.node).or_default().push(at));
    }
    let mut found: HashSet<usize> = from.iter().copied().collect();
    let mut waiting = from.to_vec();
    while let Some(node) = waiting.pop() {
        for &user in users.get(&node).into_iter().flatten() {
            if found.insert(user) {
                waiting.push(user);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelark_graph::Attrs;

    fn node(name: &str, op: &str, dtype: DType, inputs: &[usize]) -> Node {
        let attr = |name: &str| (name.to_owned(), Attr::Type(dtype));
        Node {
            name: name.into(),
            op: op.into(),
            inputs: inputs.iter().map(|i| Output::new(*i, 0)).collect(),
            attrs: Attrs::from([attr("T"), attr("dtype")]),
            ..Node::default()
        }
    }

    fn session() -> Session {
        let nodes = vec![
            node("file", "Placeholder", DType::String, &[]),
            node("restore", "RestoreV2", DType::String, &[0, 0, 0]),
            node("x", "Placeholder", DType::F32, &[]),
            node("hidden", "Identity", DType::F32, &[2]),
            node("y", "Identity", DType::F32, &[3]),
            node("w", "VariableV2", DType::F32, &[]),
            node("train", "AssignAdd", DType::F32, &[5, 3]),
            node("constant", "Const", DType::F32, &[]),
            node("aside", "Identity", DType::F32, &[7]),
        ];
        Session { graph: Graph { nodes }, ..Session::default() }
    }

    #[test]
    fn inputs_and_outputs_are_found_or_named() {
        let session = session();
        let names = |infos: Vec<TensorInfo>| infos.into_iter().map(|i| i.name).collect::<Vec<_>>();
        assert_eq!(
            (names(session.inputs()), names(session.outputs())),
            (vec!["x:0".into()], vec!["y:0".into()])
        );
        let named = session.signature(None, Some(&["hidden".into()])).expect("it is there");
        assert_eq!(named.outputs.keys().collect::<Vec<_>>(), ["hidden:0"]);
        let wrong = session.named(&["hiden:0".into()]).expect_err("no such tensor").to_string();
        assert!(wrong.contains("did you mean \"hidden\""), "{wrong}");
        assert!(session.tensor("hidden:1").expect_err("one output").to_string().contains("has 1 outputs"));
    }
}
