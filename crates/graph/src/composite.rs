//! Composite ops, which have a kernel of their own here, put into TensorFlow's ops before a graph is written.

use std::collections::{BTreeMap, BTreeSet};

use crate::ops::{self, NodeAttrs};
use crate::{Attr, Attrs, Builder, Error, FuncRef, Function, Library, Names, Node, Output, Result};

/// Rewrites the functions of a library so that only TensorFlow's ops remain; loops become functions of their own.
///
/// Each node of a composite op keeps its name and passes on what TensorFlow's ops under that name compute, so that
/// whatever refers to it still does.
///
/// # Errors
/// When a node's attributes aren't what its op wants.
pub fn expand_composites(library: &Library) -> Result<Library> {
    let mut out = library.clone();
    let mut composite = BTreeSet::new();
    library.ops(|function, op| {
        if ops::find(op).is_some_and(|op| op.expand.is_some()) {
            composite.insert(function);
        }
    })?;
    for function in composite {
        let expanded = expand(library.read(function)?, &mut out)?;
        out.insert(expanded);
    }
    Ok(out)
}

fn expand(f: &Function, library: &mut Library) -> Result<Function> {
    let mut f = f.clone();
    let mut names: Names = f.graph.nodes.iter().map(|n| n.name.clone()).collect();
    for index in 0..f.graph.nodes.len() {
        let node = f.graph.nodes[index].clone();
        let Some(expand) = ops::find(&node.op).and_then(|op| op.expand) else { continue };
        let place =
            |e: Error| e.at_node(&node.name, &node.op, String::new).at(format!("function {:?}", f.name));
        let (part, functions) = trace(&f.name, &node, expand).map_err(place)?;
        let renamed = adopt(&functions, library)?;
        let base = f.graph.nodes.len();
        // Arguments of the part are the node's inputs; its other nodes come after all nodes there are.
        let moved = |o: Output| match o.node.checked_sub(part.arity) {
            None => node.inputs.get(o.node).copied(),
            Some(n) => Some(Output::new(base + n, o.index)),
        };
        let missing = || Error::graph(format!("node {:?} has too few inputs", node.name));
        for inner in part.graph.nodes.iter().skip(part.arity) {
            let mut inner = inner.clone();
            inner.name = names.unique(format!("{}/{}", node.name, inner.name));
            inner.inputs =
                inner.inputs.iter().map(|i| moved(*i)).collect::<Option<_>>().ok_or_else(missing)?;
            inner.controls =
                inner.controls.iter().filter_map(|c| Some(base + c.checked_sub(part.arity)?)).collect();
            inner.attrs.values_mut().for_each(|a| rename(a, &renamed));
            f.graph.nodes.push(inner);
        }
        let results: Option<Vec<Output>> = part.results.iter().map(|r| moved(r.output)).collect();
        let node = &mut f.graph.nodes[index];
        node.op = "IdentityN".to_owned();
        node.inputs = results.ok_or_else(missing)?;
        let dtypes: Vec<Attr> = part.results.iter().map(|r| Attr::Type(r.dtype)).collect();
        node.attrs = Attrs::from([("T".to_owned(), Attr::List(dtypes))]);
    }
    Ok(f)
}

/// What a composite node means, as a function of its inputs.
fn trace(function: &str, node: &Node, expand: ops::Expand) -> Result<(Function, Library)> {
    let signature = ops::signature(&node.op)?;
    let mut b = Builder::new(format!("{function}_{}", node.name.replace('/', "_")));
    let dtypes = signature.input_dtypes(&node.attrs)?;
    let inputs = dtypes
        .iter()
        .enumerate()
        .map(|(i, d)| b.arg(&format!("input_{i}"), *d))
        .collect::<Result<Vec<_>>>()?;
    let outputs = expand(&mut b, &NodeAttrs { signature, attrs: &node.attrs }, &inputs)?;
    let named: Vec<(String, _)> =
        outputs.iter().enumerate().map(|(i, o)| (format!("output_{i}"), *o)).collect();
    b.finish(&named.iter().map(|(n, o)| (n.as_str(), *o)).collect::<Vec<_>>())
}

/// Adds functions to the library, under other names where theirs are taken.
fn adopt(functions: &Library, library: &mut Library) -> Result<BTreeMap<String, String>> {
    let mut taken: Names = library.names().collect();
    let renamed: BTreeMap<String, String> =
        functions.names().map(|f| (f.to_owned(), taken.unique(f))).collect();
    for f in functions.iter() {
        let mut f = Function::clone(f?);
        f.name = renamed.get(&f.name).cloned().unwrap_or(f.name);
        for node in &mut f.graph.nodes {
            node.attrs.values_mut().for_each(|a| rename(a, &renamed));
        }
        library.insert(f);
    }
    Ok(renamed)
}

fn rename(attr: &mut Attr, names: &BTreeMap<String, String>) {
    match attr {
        Attr::Func(FuncRef { name, .. }) => {
            if let Some(new) = names.get(name) {
                new.clone_into(name);
            }
        }
        Attr::List(items) => items.iter_mut().for_each(|a| rename(a, names)),
        _ => {}
    }
}
