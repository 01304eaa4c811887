//! Graphs and functions.

use std::collections::BTreeMap;

use modelark_tensor::DType;

use crate::{Attr, Attrs};

/// One output of one node of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Output {
    /// The node's index in [`Graph::nodes`].
    pub node: usize,
    /// The output's index, counted flat over all of the op's output arguments.
    pub index: usize,
}

impl Output {
    /// Output `index` of node `node`.
    pub fn new(node: usize, index: usize) -> Self {
        Output { node, index }
    }
}

/// One op with its inputs (TensorFlow: `NodeDef`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    /// Unique in its graph.
    pub name: String,
    /// The op's name, such as `MatMul`, or a function's name where a function is called as an op.
    pub op: String,
    /// What it computes from.
    pub inputs: Vec<Output>,
    /// Indexes of the nodes that must have run before.
    pub controls: Vec<usize>,
    /// What is fixed.
    pub attrs: Attrs,
    /// Where TensorFlow would place it; kept, not used.
    pub device: String,
}

impl Node {
    /// The attribute of this name, if the node has it.
    pub fn attr(&self, name: &str) -> Option<&Attr> {
        self.attrs.get(name)
    }
}

/// Nodes in any order; with control flow of TensorFlow 1 there may be cycles.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// The nodes; every [`Output::node`] and every control is an index into these.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// The index of the node of this name. Linear: build a map to ask for many.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|n| n.name == name)
    }
}

/// The op of the nodes that stand for a function's arguments, as in TensorFlow. Attribute `T` is the dtype.
pub const ARG: &str = "_Arg";

/// A named result of a [`Function`].
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionResult {
    /// The name in the function's signature.
    pub name: String,
    /// The dtype in the function's signature.
    pub dtype: DType,
    /// Where its value comes from.
    pub output: Output,
}

/// A graph with arguments and results (TensorFlow: `FunctionDef`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Function {
    /// Unique in its library.
    pub name: String,
    /// The body; its first nodes are one [`ARG`] node for each argument, in order, named after it.
    pub graph: Graph,
    /// How many arguments there are.
    pub arity: usize,
    /// The results, in order.
    pub results: Vec<FunctionResult>,
    /// Nodes that must run on each call though no result needs them, with their names in the signature.
    pub control_results: Vec<(String, usize)>,
    /// Attributes of the function as a whole.
    pub attrs: Attrs,
    /// Attributes of single arguments, by index.
    pub arg_attrs: BTreeMap<usize, Attrs>,
    /// Whether a call has side effects.
    pub stateful: bool,
}

impl Function {
    /// The argument nodes, in order.
    pub fn args(&self) -> &[Node] {
        self.graph.nodes.get(..self.arity).unwrap_or_default()
    }

    /// The dtype of argument `index`, where it is known.
    pub fn arg_dtype(&self, index: usize) -> Option<DType> {
        self.args().get(index)?.attr("T")?.as_type()
    }
}
