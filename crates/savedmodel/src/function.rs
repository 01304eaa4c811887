//! Functions: `FunctionDef` and [`Function`]. References are `argument`, `node:output:0` and, for controls, `^node`.

use std::collections::{HashMap, HashSet};

use modelark_artifact::{Error, Limits, Result};
use modelark_checkpoint::wire;
use modelark_graph::{ARG, Attr, Attrs, Function, FunctionResult, Graph, Names, Node, Output};
use modelark_proto::{FunctionDef, OpDef, function_def, op_def};

use crate::attr::{attrs_from_proto, attrs_to_proto};
use crate::graphdef::{Unconnected, encoded, named, node_to_proto, place};
use crate::signatures::Signatures;

/// The attribute that remembers how references named the outputs of an op that nobody knows: `argument:index` by flat
/// index. It is not written.
const OUTPUTS: &str = "_modelark.outputs";

/// The function in a message.
///
/// # Errors
/// When a reference leads nowhere, an argument is a list or of a dtype that only a call decides, or there are more nodes
/// than the limits allow; the message names function and node.
pub(crate) fn function_from_proto(
    mut def: FunctionDef,
    ops: &Signatures,
    limits: &Limits,
) -> Result<Function> {
    let signature = def.signature.take().ok_or_else(|| Error::corrupt("a function without signature"))?;
    read(def, &signature, ops, limits).map_err(|e| e.at(format!("function {:?}", signature.name)))
}

fn read(def: FunctionDef, signature: &OpDef, ops: &Signatures, limits: &Limits) -> Result<Function> {
    let arity = signature.input_arg.len();
    let count = arity.saturating_add(def.node_def.len());
    if count > limits.items {
        return Err(Error::limit(format!("it has {} nodes, over the limit", def.node_def.len())));
    }
    let mut read = Unconnected::with_capacity(count);
    for arg in &signature.input_arg {
        let attrs = Attrs::from([("T".to_owned(), Attr::Type(arg_dtype(arg)?))]);
        read.push(arg.name.clone(), Node { op: ARG.to_owned(), attrs, ..Node::default() }, Vec::new());
    }
    def.node_def.iter().try_for_each(|node| read.decode(node, limits))?;
    let Unconnected { nodes, names, references, .. } = read;
    let index = names.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let mut body = Body { index, nodes, ops };
    for (i, (name, references)) in names.iter().zip(&references).enumerate() {
        body.connect(i, references).map_err(|e| e.at(place(name, body.op(i))))?;
    }
    let results = signature
        .output_arg
        .iter()
        .map(|arg| {
            let reference = def.ret.get(&arg.name).map_or(arg.name.as_str(), |r| r);
            let output = match body.resolve(reference).as_deref() {
                Some([one]) => *one,
                _ => {
                    return Err(Error::corrupt(format!(
                        "its result {:?} is {reference:?}, which is no tensor of it",
                        arg.name
                    )));
                }
            };
            Ok(FunctionResult { name: arg.name.clone(), dtype: arg_dtype(arg)?, output })
        })
        .collect::<Result<_>>()?;
    let control = |(name, node): (String, String)| match body.index.get(node.as_str()) {
        Some(node) => Ok((name, *node)),
        None => {
            Err(Error::corrupt(format!("its control result {name:?} is {node:?}, which is no node of it")))
        }
    };
    let control_results = def.control_ret.into_iter().map(control).collect::<Result<_>>()?;
    let arg_attrs = def
        .arg_attr
        .into_iter()
        .map(|(i, a)| Ok((i as usize, attrs_from_proto(a.attr, limits)?)))
        .collect::<Result<_>>()?;
    let nodes = body.nodes;
    Ok(Function {
        name: signature.name.clone(),
        arity,
        results,
        control_results,
        attrs: attrs_from_proto(def.attr, limits)?,
        arg_attrs,
        stateful: signature.is_stateful,
        graph: Graph { nodes: named(nodes, names) },
    })
}

/// The dtype of an argument that is one tensor.
fn arg_dtype(arg: &op_def::ArgDef) -> Result<modelark_graph::tensor::DType> {
    if !arg.number_attr.is_empty() || !arg.type_list_attr.is_empty() || !arg.type_attr.is_empty() {
        return Err(Error::unsupported(format!("its argument {:?} has no dtype of its own", arg.name)));
    }
    wire::dtype_from_proto(arg.r#type).map_err(|e| e.at(format!("argument {:?}", arg.name)))
}

/// A function's nodes while they are read.
struct Body<'a> {
    index: HashMap<&'a str, usize>,
    nodes: Vec<Node>,
    ops: &'a Signatures,
}

impl Body<'_> {
    fn op(&self, at: usize) -> &str {
        self.nodes.get(at).map_or("", |node| &node.op)
    }

    fn connect(&mut self, at: usize, references: &[String]) -> Result<()> {
        let (mut inputs, mut controls) = (Vec::with_capacity(references.len()), Vec::new());
        for reference in references {
            let unknown = || Error::corrupt(format!("its input {reference:?} is no tensor of the function"));
            match reference.strip_prefix('^') {
                Some(name) => controls.push(*self.index.get(name).ok_or_else(unknown)?),
                None => inputs.extend(self.resolve(reference).ok_or_else(unknown)?),
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            (node.inputs, node.controls) = (inputs, controls);
        }
        Ok(())
    }

    /// The tensors that a reference means: an argument, one output of a node, or all tensors of one output argument.
    fn resolve(&mut self, reference: &str) -> Option<Vec<Output>> {
        let mut parts = reference.split(':');
        let name = parts.next()?;
        let at = *self.index.get(name)?;
        let Some(argument) = parts.next() else {
            return (self.nodes.get(at)?.op == ARG).then(|| vec![Output::new(at, 0)]);
        };
        let index = match parts.next() {
            Some(text) => Some(text.parse::<usize>().ok()?),
            None => None,
        };
        let node = self.nodes.get_mut(at)?;
        if let Some(flat) = self.ops.outputs(&node.op, &node.attrs, argument, index) {
            return Some(flat.map(|i| Output::new(at, i)).collect());
        }
        if self.ops.knows(&node.op) {
            return None;
        }
        // Nobody knows the op: its outputs get indexes in the order in which they are met.
        let label = Attr::from(format!("{argument}:{}", index.unwrap_or(0)));
        let met = node.attrs.get_or_insert(OUTPUTS, Attr::List(Vec::new()));
        let Attr::List(met) = met else { return None };
        let flat = met.iter().position(|l| *l == label).unwrap_or_else(|| {
            met.push(label);
            met.len() - 1
        });
        Some(vec![Output::new(at, flat)])
    }
}

/// The message of a function. `template` is the message that it was read from; what the function itself doesn't keep
/// (descriptions, shapes behind handles) is taken from there.
///
/// # Errors
/// When a node's op isn't known, so that nobody can say what its outputs are called, or an edge leads nowhere.
pub(crate) fn function_to_proto(
    function: &Function,
    ops: &Signatures,
    template: Option<&FunctionDef>,
) -> Result<FunctionDef> {
    write(function, ops, template).map_err(|e| e.at(format!("function {:?}", function.name)))
}

fn write(function: &Function, ops: &Signatures, template: Option<&FunctionDef>) -> Result<FunctionDef> {
    let template = template.filter(|t| fits(function, t));
    let signature = match template.and_then(|t| t.signature.clone()) {
        Some(signature) => signature,
        None => signature_of(function)?,
    };
    let args: Vec<&str> = signature.input_arg.iter().map(|a| a.name.as_str()).collect();
    let node = |i: usize| {
        function.graph.nodes.get(i).ok_or_else(|| Error::invalid(format!("an edge leads to node {i}")))
    };
    let name = |i: usize| -> Result<&str> {
        match args.get(i) {
            Some(arg) => Ok(arg),
            None => Ok(&node(i)?.name),
        }
    };
    let reference = |output: Output| -> Result<String> {
        if output.node < args.len() {
            return Ok(name(output.node)?.to_owned());
        }
        let node = node(output.node)?;
        let (argument, index) = output_name(node, output.index, ops)?;
        Ok(format!("{}:{argument}:{index}", node.name))
    };
    let node_def = function
        .graph
        .nodes
        .iter()
        .skip(args.len())
        .map(|node| {
            let mut def = node_to_proto(node);
            def.attr.remove(OUTPUTS);
            let inputs = node.inputs.iter().map(|o| reference(*o));
            let controls = node.controls.iter().map(|c| Ok(format!("^{}", name(*c)?)));
            def.input =
                inputs.chain(controls).collect::<Result<_>>().map_err(|e| e.at(place(&def.name, &def.op)))?;
            Ok(encoded(&def))
        })
        .collect::<Result<_>>()?;
    let outputs = signature.output_arg.iter().zip(&function.results);
    let ret = outputs.map(|(arg, r)| Ok((arg.name.clone(), reference(r.output)?))).collect::<Result<_>>()?;
    let controls = function.control_results.iter();
    let control_ret =
        controls.map(|(n, node)| Ok((n.clone(), name(*node)?.to_owned()))).collect::<Result<_>>()?;
    let arg_attr = function
        .arg_attrs
        .iter()
        .filter_map(|(i, a)| {
            Some((u32::try_from(*i).ok()?, function_def::ArgAttrs { attr: attrs_to_proto(a) }))
        })
        .collect();
    Ok(FunctionDef {
        node_def,
        ret,
        control_ret,
        attr: attrs_to_proto(&function.attrs),
        arg_attr,
        resource_arg_unique_id: template.map(|t| t.resource_arg_unique_id.clone()).unwrap_or_default(),
        signature: Some(signature),
    })
}

/// Whether a message's signature is still the function's.
fn fits(function: &Function, template: &FunctionDef) -> bool {
    let Some(signature) = &template.signature else { return false };
    let args = function.args().iter().map(|a| (a.name.as_str(), a.attr("T").and_then(Attr::as_type)));
    let told = signature.input_arg.iter().map(|a| (a.name.as_str(), wire::dtype_from_proto(a.r#type).ok()));
    let results = function.results.iter().map(|r| (r.name.as_str(), Some(r.dtype)));
    let outputs =
        signature.output_arg.iter().map(|a| (a.name.as_str(), wire::dtype_from_proto(a.r#type).ok()));
    let controls: HashSet<&str> = function.control_results.iter().map(|(n, _)| n.as_str()).collect();
    signature.name == function.name
        && args.eq(told)
        && results.eq(outputs)
        && controls == signature.control_output.iter().map(String::as_str).collect()
        && signature.is_stateful == function.stateful
}

/// A signature for a function that wasn't read from a message.
fn signature_of(function: &Function) -> Result<OpDef> {
    let mut taken = Names::default();
    let input_arg = function
        .args()
        .iter()
        .map(|node| {
            let dtype = node
                .attr("T")
                .and_then(Attr::as_type)
                .ok_or_else(|| Error::invalid(format!("its argument {:?} says no dtype", node.name)))?;
            Ok(argument(&node.name, dtype, &mut taken))
        })
        .collect::<Result<Vec<_>>>()?;
    if input_arg.len() != function.arity {
        return Err(Error::invalid("it has fewer nodes than arguments"));
    }
    let mut taken = Names::default();
    let output_arg = function.results.iter().map(|r| argument(&r.name, r.dtype, &mut taken)).collect();
    Ok(OpDef {
        name: function.name.clone(),
        input_arg,
        output_arg,
        is_stateful: function.stateful,
        control_output: function.control_results.iter().map(|(n, _)| n.clone()).collect(),
        ..OpDef::default()
    })
}

fn argument(name: &str, dtype: modelark_graph::tensor::DType, taken: &mut Names) -> op_def::ArgDef {
    let name = taken.unique(argument_name(name));
    op_def::ArgDef { name, r#type: wire::dtype_to_proto(dtype), ..op_def::ArgDef::default() }
}

/// A name as TensorFlow allows it for an argument: lower case letters, digits and `_`, a letter first.
pub(crate) fn argument_name(name: &str) -> String {
    let mut clean: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if !clean.starts_with(|c: char| c.is_ascii_lowercase()) {
        clean.insert_str(0, "arg_");
    }
    clean
}

/// What a reference calls a node's flat output.
fn output_name(node: &Node, flat: usize, ops: &Signatures) -> Result<(String, usize)> {
    if let Some(found) = ops.name(&node.op, &node.attrs, flat) {
        return Ok(found);
    }
    let met = node.attr(OUTPUTS).and_then(Attr::as_list).and_then(|l| l.get(flat)).and_then(Attr::as_str);
    met.and_then(|label| {
        let (argument, index) = label.rsplit_once(':')?;
        Some((argument.to_owned(), index.parse().ok()?))
    })
    .ok_or_else(|| {
        Error::unsupported(format!(
            "output {flat} of node {:?} has no name, because nothing is known of its op {:?}",
            node.name, node.op
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelark_graph::tensor::DType;
    use modelark_proto::{NodeDef, bytes::Bytes};
    use std::collections::BTreeMap;

    fn arg(name: &str, number: i32) -> op_def::ArgDef {
        op_def::ArgDef { name: name.into(), r#type: number, ..Default::default() }
    }

    fn node(name: &str, op: &str, inputs: &[&str]) -> Bytes {
        encoded(&NodeDef {
            name: name.into(),
            op: op.into(),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            ..Default::default()
        })
    }

    fn sample() -> FunctionDef {
        FunctionDef {
            signature: Some(OpDef {
                name: "f".into(),
                input_arg: vec![arg("x", 1), arg("h", 20)],
                output_arg: vec![arg("out", 1)],
                control_output: vec!["done".into()],
                is_stateful: true,
                ..Default::default()
            }),
            node_def: vec![
                node("strange", "NobodysOp", &["x", "h", "^id"]),
                node("id", "Identity", &["strange:b:1"]),
                node("id2", "Identity", &["strange:a:0", "^h"]),
            ],
            ret: BTreeMap::from([("out".into(), "id:output:0".into())]),
            control_ret: BTreeMap::from([("done".into(), "strange".into())]),
            ..Default::default()
        }
    }

    #[test]
    fn a_function_with_an_unknown_op_survives() {
        let (ops, limits) = (Signatures::default(), Limits::default());
        let def = sample();
        let f = function_from_proto(def.clone(), &ops, &limits).expect("function");
        assert_eq!((f.arity, f.arg_dtype(1)), (2, Some(DType::Resource)));
        assert_eq!(f.graph.nodes[3].inputs, [Output::new(2, 0)]);
        assert_eq!(f.graph.nodes[4].inputs, [Output::new(2, 1)]);
        assert_eq!(function_to_proto(&f, &ops, None).expect("message"), def);
        assert_eq!(function_to_proto(&f, &ops, Some(&def)).expect("message"), def);
    }

    #[test]
    fn what_leads_nowhere_is_named() {
        let (ops, limits) = (Signatures::default(), Limits::default());
        let mut bad = sample();
        bad.node_def[1] = node("id", "Identity", &["strange"]);
        let e = function_from_proto(bad, &ops, &limits).expect_err("a node is no tensor").to_string();
        assert!(e.contains("function \"f\", node \"id\" (Identity)") && e.contains("\"strange\""), "{e}");
        let mut bad = sample();
        bad.node_def[2] = node("id2", "Identity", &["id:nope:0"]);
        assert!(function_from_proto(bad, &ops, &limits).is_err());
        let mut bad = sample();
        bad.ret.insert("out".into(), "nope:output:0".into());
        assert!(function_from_proto(bad, &ops, &limits).is_err());
    }

    #[test]
    fn names_of_arguments_are_made_legal() {
        let mut taken = Names::default();
        let mut name = |n: &str| argument(n, DType::F32, &mut taken).name;
        assert_eq!(name("dense/Kernel:0"), "dense_kernel_0");
        assert_eq!(name("0"), "arg_0");
        assert_eq!(name("dense.kernel.0"), "dense_kernel_0_1");
    }
}
