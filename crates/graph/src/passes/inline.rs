//! Calls of functions become the functions' nodes, so that other passes see through them.

use foldhash::{HashMap, HashMapExt, HashSet};

use super::part::{Part, is_conditional};
use crate::engine::plan::{has_placeholder, instantiate};
use crate::{Attr, Attrs, FuncRef, Function, Library, Node, Output, ops};

/// A graph doesn't grow beyond so many nodes.
const MOST_NODES: usize = 1 << 18;
/// Nor are calls followed deeper.
const DEEPEST: usize = 64;

/// A call that was inlined, for those inside it.
struct Frame {
    function: String,
    outer: Option<usize>,
    depth: usize,
}

pub(super) fn run(part: &mut Part, library: &Library) {
    let mut frames: Vec<Frame> = Vec::new();
    let mut within: HashMap<usize, usize> = HashMap::new();
    let mut waiting = part.needed().to_vec();
    // Names such as a variable's come from a node's own name where nothing else is given: those stay at home.
    let mut fits: HashMap<String, bool> = HashMap::new();
    let fed: HashSet<usize> = part.feeds.iter().map(|f| f.node).collect();
    while let Some(index) = waiting.pop() {
        let node = &part.graph.nodes[index];
        if fed.contains(&index) {
            continue;
        }
        let Some(callee) = callee(node, library) else { continue };
        let outer = within.get(&index).copied();
        let depth = outer.and_then(|f| frames.get(f)).map_or(0, |f| f.depth + 1);
        let Some(function) = library.get(&callee.name) else { continue };
        let wanted = *fits.entry(callee.name.clone()).or_insert_with(|| can_move(function));
        if !wanted
            || depth > DEEPEST
            || node.inputs.len() != function.arity
            || part.graph.nodes.len() + function.graph.nodes.len() > MOST_NODES
            || is_within(&frames, outer, &callee.name)
        {
            continue;
        }
        let function = function.clone();
        let base = part.graph.nodes.len();
        if !inline(part, index, &callee, &function) {
            continue;
        }
        frames.push(Frame { function: callee.name, outer, depth });
        for new in base..part.graph.nodes.len() {
            within.insert(new, frames.len() - 1);
            waiting.push(new);
        }
    }
}

/// The function that a node calls once, whatever happens.
fn callee(node: &Node, library: &Library) -> Option<FuncRef> {
    match node.op.as_str() {
        "PartitionedCall" | "StatefulPartitionedCall" => node.attr("f").and_then(Attr::as_func).cloned(),
        op if ops::find(op).is_none() && library.contains(op) => {
            let attrs = node.attrs.iter().filter(|(name, _)| !name.starts_with('_'));
            Some(FuncRef { name: op.to_owned(), attrs: attrs.map(|(k, v)| (k.clone(), v.clone())).collect() })
        }
        _ => None,
    }
}

fn is_within(frames: &[Frame], mut frame: Option<usize>, name: &str) -> bool {
    while let Some(f) = frame.and_then(|f| frames.get(f)) {
        if f.function == name {
            return true;
        }
        frame = f.outer;
    }
    false
}

/// Whether a function's nodes mean the same elsewhere.
fn can_move(function: &Function) -> bool {
    function.graph.nodes.iter().all(|node| {
        let unnamed = ops::signature(&node.op).is_ok_and(|s| {
            s.attrs.iter().any(|a| a.name == "shared_name")
                && s.attr(&node.attrs, "shared_name").and_then(Attr::as_str).is_none_or(str::is_empty)
        });
        !unnamed && !is_conditional(&node.op)
    }) && function.args().iter().all(|a| a.op == crate::ARG)
}

/// Puts the function's nodes after all others, and in place of the call what passes their results on.
fn inline(part: &mut Part, index: usize, callee: &FuncRef, function: &Function) -> bool {
    let call = part.graph.nodes[index].clone();
    let base = part.graph.nodes.len();
    let arity = function.arity;
    let moved = |o: Output| match o.node.checked_sub(arity) {
        None => call.inputs.get(o.node).copied().filter(|_| o.index == 0),
        Some(n) if n < function.graph.nodes.len() => Some(Output::new(base + n, o.index)),
        Some(_) => None,
    };
    // What had to run before the call must run before whatever in it could tell.
    let gate = base + function.graph.nodes.len() - arity;
    let mut nodes = Vec::with_capacity(gate - base + 1);
    for node in function.graph.nodes.iter().skip(arity) {
        let mut node = if has_placeholder(&node.attrs) {
            match instantiate(node, &callee.attrs) {
                Ok(node) => node,
                Err(_) => return false,
            }
        } else {
            node.clone()
        };
        node.name = format!("{}/{}", call.name, node.name);
        let Some(inputs) = node.inputs.iter().map(|i| moved(*i)).collect() else { return false };
        node.inputs = inputs;
        let mut controls: Vec<usize> = Vec::new();
        for control in &node.controls {
            match control.checked_sub(arity) {
                Some(n) => controls.push(base + n),
                // To wait for an argument is to wait for what gives it.
                None => {
                    controls.extend(call.inputs.get(*control).filter(|o| !part.is_fed(**o)).map(|o| o.node))
                }
            }
        }
        let told = node.inputs.is_empty() || ops::signature(&node.op).map_or(true, |s| s.stateful);
        if told && !call.controls.is_empty() {
            controls.push(gate);
        }
        node.controls = controls;
        nodes.push(node);
    }
    let Some(results) = function.results.iter().map(|r| moved(r.output)).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let mut last: Vec<usize> = Vec::new();
    for (_, node) in &function.control_results {
        match node.checked_sub(arity) {
            Some(n) if n < function.graph.nodes.len() - arity => last.push(base + n),
            _ => {}
        }
    }
    if !call.controls.is_empty() {
        let name = format!("{}/before", call.name);
        nodes.push(Node { name, op: "NoOp".to_owned(), controls: call.controls.clone(), ..Node::default() });
        last.push(gate);
    }
    part.graph.nodes.extend(nodes);
    let dtypes: Vec<Attr> = function.results.iter().map(|r| Attr::Type(r.dtype)).collect();
    let node = &mut part.graph.nodes[index];
    node.op = if results.is_empty() { "NoOp" } else { "IdentityN" }.to_owned();
    node.attrs = Attrs::from([("T".to_owned(), Attr::List(dtypes))]);
    node.inputs = results;
    node.controls = last;
    true
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::engine::{Program, Resource, Resources, Variable};
    use crate::tensor::{DType, Tensor};
    use crate::{Builder, FuncRef};

    #[test]
    fn calls_disappear_and_their_effects_stay_in_order() {
        let mut b = Builder::new("double");
        let handle = b.arg("v", DType::Resource).expect("arg");
        let old = b.op("ReadVariableOp").input(handle).attr("dtype", DType::F32).one().expect("read");
        let new = b.add(old, old).expect("sum");
        b.op("AssignVariableOp").input(handle).input(new).run().expect("assign");
        let (double, _) = b.finish(&[("old", old)]).expect("function");
        let mut b = Builder::new("f");
        let handle = b.arg("v", DType::Resource).expect("arg");
        b.function(double);
        let first = b.op("StatefulPartitionedCall").input(handle).attr("f", FuncRef::new("double"));
        let first = first.attr("Tout", vec![DType::F32]).one().expect("call");
        let second = b.op("StatefulPartitionedCall").input(handle).attr("f", FuncRef::new("double"));
        let second = second.attr("Tout", vec![DType::F32]).after(first).one().expect("call");
        let (f, mut library) = b.finish(&[("first", first), ("second", second)]).expect("function");
        library.insert(f);
        let run = Program::with_passes(library, true).function("f").expect("plan");
        assert!(!run.ops().contains(&"StatefulPartitionedCall"));
        let variable = Arc::new(Variable::with_value("v", Tensor::scalar(3.0f32)));
        for want in [[3.0, 6.0, 12.0], [12.0, 24.0, 48.0]] {
            let inputs = [Resource::Variable(variable.clone()).into()].into_iter().collect();
            let out = run.run(&Resources::new(), inputs).expect("run");
            let got = |i: usize| out[i].tensor().and_then(|t| Ok(t.item::<f32>()?)).expect("f32");
            let after = variable.read().and_then(|t| Ok(t.item::<f32>()?)).expect("f32");
            assert_eq!([got(0), got(1), after], want);
        }
    }

    #[test]
    fn recursion_stays_a_call() {
        let mut b = Builder::new("f");
        let n = b.arg("n", DType::I32).expect("arg");
        let one = b.scalar(1i32).expect("one");
        let zero = b.scalar(0i32).expect("zero");
        let more = b.less(zero, n).expect("less");
        let sum = b.if_else(
            "more",
            more,
            &[n, one],
            |b, args| {
                let before = b.sub(args[0], args[1])?;
                let call = b.op("PartitionedCall").input(before).attr("f", FuncRef::new("f"));
                let rest = call.attr("Tout", vec![DType::I32]).one()?;
                Ok(vec![b.add(args[0], rest)?])
            },
            |b, args| Ok(vec![b.sub(args[1], args[1])?]),
        );
        let (f, mut library) = b.finish(&[("sum", sum.expect("branches")[0])]).expect("function");
        library.insert(f);
        let run = Program::with_passes(library, true).function("f").expect("plan");
        let out =
            run.run(&Resources::new(), [Tensor::scalar(5i32).into()].into_iter().collect()).expect("run");
        assert_eq!(out[0].tensor().and_then(|t| Ok(t.item::<i32>()?)).expect("i32"), 15);
    }
}
