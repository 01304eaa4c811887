//! Loops of TensorFlow 1: which nodes of a graph are in which frame, and the order in which a level's nodes run.
//!
//! A loop is spelled as a cycle: each loop variable comes in through `Enter`, meets what the iteration before left for it
//! (`NextIteration`) in a `Merge`, and goes by `Switch` either into the body or out through `Exit`. What lies between
//! `Enter` and `Exit` is a frame, and has no cycle but through `NextIteration`. So a frame is compiled as a plan of its
//! own, run once an iteration, and stands in the plan around it as one step.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

use super::plan::{Request, needed};
use crate::{Attr, Error, Graph, Node, Output, Result};

/// A loop of TensorFlow 1 by its nodes; each moves one value.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Loop {
    /// Values that come in, in the first iteration or (constants) in all.
    pub(super) enters: Vec<usize>,
    /// Values that the next iteration gets.
    pub(super) nexts: Vec<usize>,
    /// Values that leave.
    pub(super) exits: Vec<usize>,
}

/// What runs as one step.
#[derive(Debug, PartialEq)]
pub(super) enum Unit {
    Node(usize),
    Loop(Loop),
}

/// Whether the node moves values to the next iteration.
fn is_next(node: &Node) -> bool {
    matches!(node.op.as_str(), "NextIteration" | "RefNextIteration")
}

fn is_enter(node: &Node) -> bool {
    matches!(node.op.as_str(), "Enter" | "RefEnter")
}

fn is_exit(node: &Node) -> bool {
    matches!(node.op.as_str(), "Exit" | "RefExit")
}

/// Whether what comes in through this node is there in every iteration.
pub(super) fn is_constant(node: &Node) -> bool {
    matches!(node.attr("is_constant"), Some(Attr::Bool(true)))
}

/// What is needed for the request, so that each unit comes after what it depends on; else in the graph's own order.
///
/// # Errors
/// When there is a cycle that no loop explains, or a frame is left that wasn't entered.
pub(super) fn order(request: &Request<'_>) -> Result<Vec<Unit>> {
    let nodes = &request.graph.nodes;
    let needed = needed(request)?;
    let fed: HashSet<Output> = request.feeds.iter().copied().collect();
    let edges = Edges::new(nodes, &fed, &needed);
    if !needed.iter().any(|&i| is_enter(&nodes[i])) {
        return Ok(edges.sort(|n| n, |_, _| false)?.into_iter().map(Unit::Node).collect());
    }

    let frames = Frames::of(&edges)?;
    let mut loops: HashMap<usize, Loop> = HashMap::new();
    // The node that stands for all of its loop's: the first.
    let mut unit: Vec<usize> = (0..nodes.len()).collect();
    let mut first: HashMap<usize, usize> = HashMap::new();
    for &index in &needed {
        let node = &nodes[index];
        let at = frames.home[index];
        if let Some(frame) = frames.top(at) {
            unit[index] = *first.entry(frame).or_insert(index);
            if is_next(node) && at == frame {
                loops.entry(frame).or_default().nexts.push(index);
            }
        } else if is_enter(node) {
            loops.entry(frames.gives[index]).or_default().enters.push(index);
        } else if is_exit(node)
            && let Some(from) = node.inputs.first().and_then(|i| frames.gives.get(i.node))
        {
            loops.entry(*from).or_default().exits.push(index);
        }
    }
    let mut by_unit: HashMap<usize, Loop> =
        loops.into_iter().filter_map(|(frame, l)| Some((*first.get(&frame)?, l))).collect();
    let sorted = edges.sort(|n| unit[n], |from, to| unit[from] == unit[to])?;
    Ok(sorted.into_iter().map(|u| by_unit.remove(&u).map_or(Unit::Node(u), Unit::Loop)).collect())
}

/// Which nodes of a graph run once in every run, so that what they give can be fetched: those that neither stand in a
/// loop of TensorFlow 1's nor on a branch of one of its conditions.
///
/// # Errors
/// When the graph has a cycle, or leaves a loop that nothing enters.
pub fn fetchable(graph: &Graph) -> Result<Vec<bool>> {
    let needed: Vec<usize> = (0..graph.nodes.len()).collect();
    if let Some(node) = graph.nodes.iter().find(|n| n.inputs.iter().any(|i| i.node >= needed.len())) {
        return Err(Error::graph(format!("node {:?} has an input from no node", node.name)));
    }
    let fed = HashSet::new();
    let edges = Edges::new(&graph.nodes, &fed, &needed);
    let frames = Frames::of(&edges)?;
    let conditional = edges.conditional();
    Ok(frames.home.iter().zip(conditional).map(|(frame, c)| *frame == OUTSIDE && !c).collect())
}

/// The frame around all others: the level that is compiled.
const OUTSIDE: usize = 0;

/// The frames of a graph: each but the outermost has a parent, a depth, and a name that is its own within its parent.
#[derive(Default)]
struct Frames {
    by_name: HashMap<(usize, Vec<u8>), usize>,
    /// Parent and depth of the frames from 1 on.
    known: Vec<(usize, usize)>,
    /// The frame in which each node runs.
    home: Vec<usize>,
    /// The frame to which its outputs belong.
    gives: Vec<usize>,
}

impl Frames {
    fn of(edges: &Edges<'_>) -> Result<Frames> {
        let outside = vec![OUTSIDE; edges.nodes.len()];
        let mut frames = Frames { home: outside.clone(), gives: outside, ..Frames::default() };
        for index in edges.sort(|n| n, |from, _| is_next(&edges.nodes[from]))? {
            let node = &edges.nodes[index];
            let given = edges.of(index).map(|from| frames.gives[from]);
            let inside = given.max_by_key(|&f| frames.depth(f)).unwrap_or(OUTSIDE);
            let (at, out) = if is_enter(node) {
                (inside, frames.child(inside, node))
            } else if is_exit(node) {
                let parent = frames.parent(inside).ok_or_else(|| {
                    Error::graph(format!("node {:?} leaves a loop that nothing enters", node.name))
                })?;
                (parent, parent)
            } else {
                (inside, inside)
            };
            frames.home[index] = at;
            frames.gives[index] = out;
        }
        Ok(frames)
    }

    fn child(&mut self, parent: usize, enter: &Node) -> usize {
        let name = match enter.attr("frame_name") {
            Some(Attr::String(name)) => name.clone(),
            _ => Vec::new(),
        };
        let depth = self.depth(parent) + 1;
        let known = &mut self.known;
        *self.by_name.entry((parent, name)).or_insert_with(|| {
            known.push((parent, depth));
            known.len()
        })
    }

    fn parent(&self, frame: usize) -> Option<usize> {
        Some(self.known.get(frame.checked_sub(1)?)?.0)
    }

    fn depth(&self, frame: usize) -> usize {
        frame.checked_sub(1).and_then(|f| self.known.get(f)).map_or(0, |f| f.1)
    }

    /// The frame that directly belongs to the outermost and holds this one.
    fn top(&self, mut frame: usize) -> Option<usize> {
        loop {
            match self.parent(frame)? {
                OUTSIDE => return Some(frame),
                parent => frame = parent,
            }
        }
    }
}

struct Edges<'a> {
    nodes: &'a [Node],
    fed: &'a HashSet<Output>,
    needed: &'a [usize],
    /// The same for each node.
    is_needed: Vec<bool>,
}

impl<'a> Edges<'a> {
    /// `needed` are indexes of nodes.
    fn new(nodes: &'a [Node], fed: &'a HashSet<Output>, needed: &'a [usize]) -> Self {
        let mut is_needed = vec![false; nodes.len()];
        needed.iter().for_each(|&i| is_needed[i] = true);
        Edges { nodes, fed, needed, is_needed }
    }

    /// The needed nodes that this one depends on.
    fn of(&self, index: usize) -> impl Iterator<Item = usize> {
        let node = &self.nodes[index];
        let inputs = node.inputs.iter().filter(|i| !self.fed.contains(i)).map(|i| i.node);
        inputs.chain(node.controls.iter().copied()).filter(|n| self.is_needed.get(*n) == Some(&true))
    }

    /// Which nodes are on branches of conditions.
    fn conditional(&self) -> Vec<bool> {
        let takes = |n: &Node, from: &str| n.inputs.iter().any(|i| self.nodes[i.node].op.ends_with(from));
        // A loop's own switches and merges are no condition.
        let branches = |n: &Node| n.op.ends_with("Switch") && !takes(n, "LoopCond");
        let meet = |n: &Node| n.op.ends_with("Merge") && !takes(n, "NextIteration");
        let mut users = Users::new(self.nodes.len());
        for &to in self.needed {
            self.of(to).for_each(|from| users.add(from, to));
        }
        let mut found = vec![false; self.nodes.len()];
        let mut waiting: Vec<usize> =
            self.needed.iter().copied().filter(|&i| branches(&self.nodes[i])).collect();
        while let Some(index) = waiting.pop() {
            if !meet(&self.nodes[index]) && !std::mem::replace(&mut found[index], true) {
                waiting.extend(users.of(index));
            }
        }
        found
    }

    /// Units so that each comes after those it depends on, by the `unit` of each node and which edges between nodes to
    /// ignore. A unit goes by one of its nodes.
    fn sort(
        &self,
        unit: impl Fn(usize) -> usize,
        ignore: impl Fn(usize, usize) -> bool,
    ) -> Result<Vec<usize>> {
        // How many edges lead to a unit from what isn't done; `None` for what is no unit.
        let mut waits: Vec<Option<usize>> = vec![None; self.nodes.len()];
        let mut users = Users::new(self.nodes.len());
        for &index in self.needed {
            let to = unit(index);
            let wait = waits[to].get_or_insert(0);
            for from in self.of(index).filter(|&from| !ignore(from, index)) {
                *wait += 1;
                users.add(unit(from), to);
            }
        }
        let mut ready: BinaryHeap<Reverse<usize>> =
            (0..waits.len()).filter(|&u| waits[u] == Some(0)).map(Reverse).collect();
        let mut order = Vec::with_capacity(self.needed.len());
        while let Some(Reverse(u)) = ready.pop() {
            order.push(u);
            waits[u] = None;
            for user in users.of(u) {
                if let Some(wait) = &mut waits[user] {
                    *wait -= 1;
                    if *wait == 0 {
                        ready.push(Reverse(user));
                    }
                }
            }
        }
        match waits.iter().position(Option::is_some) {
            Some(stuck) => {
                let name = &self.nodes[stuck].name;
                Err(Error::graph(format!("the graph has a cycle through node {name:?}")))
            }
            None => Ok(order),
        }
    }
}

/// Who depends on each node: a list of edges, chained by where they begin.
struct Users {
    /// The last edge from each node.
    last: Vec<Option<usize>>,
    /// Where an edge leads, and the edge before it.
    edges: Vec<(usize, Option<usize>)>,
}

impl Users {
    fn new(nodes: usize) -> Users {
        Users { last: vec![None; nodes], edges: Vec::new() }
    }

    fn add(&mut self, from: usize, to: usize) {
        let before = self.last[from].replace(self.edges.len());
        self.edges.push((to, before));
    }

    fn of(&self, from: usize) -> impl Iterator<Item = usize> {
        let edge = |at: Option<usize>| at.map(|at| self.edges[at]);
        std::iter::successors(edge(self.last[from]), move |(_, before)| edge(*before)).map(|(to, _)| to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Executable, Resources, RunOptions, Value, Values};
    use crate::tensor::{DType, Tensor};
    use crate::{ARG, Attrs, ErrorKind, Library};

    /// A graph written as lines `name = Op(inputs) attr..`; `^name` is a control input.
    fn graph(text: &str) -> Graph {
        let mut nodes: Vec<Node> = Vec::new();
        let names: Vec<&str> = text.lines().filter_map(|l| Some(l.split_once('=')?.0.trim())).collect();
        let at = |name: &str| names.iter().position(|n| *n == name).expect("a node");
        for line in text.lines().filter(|l| l.contains('=')) {
            let (name, rest) = line.split_once('=').expect("name = op");
            let (op, rest) = rest.split_once('(').expect("op(");
            let (inputs, attrs) = rest.split_once(')').expect(")");
            let mut node = Node { name: name.trim().into(), op: op.trim().into(), ..Node::default() };
            for input in inputs.split(',').map(str::trim).filter(|i| !i.is_empty()) {
                match (input.strip_prefix('^'), input.split_once(':')) {
                    (Some(control), _) => node.controls.push(at(control)),
                    (None, Some((n, i))) => node.inputs.push(Output::new(at(n), i.parse().expect("index"))),
                    (None, None) => node.inputs.push(Output::new(at(input), 0)),
                }
            }
            let dtype = if attrs.contains("bool") { DType::Bool } else { DType::I32 };
            let mut all = Attrs::from([("T".to_owned(), Attr::Type(dtype)), ("N".to_owned(), Attr::Int(2))]);
            for word in attrs.split_whitespace() {
                let (key, value) = word.split_once('=').unwrap_or((word, ""));
                match key {
                    "frame" => all.insert("frame_name".into(), Attr::String(value.into())),
                    "constant" => all.insert("is_constant".into(), Attr::Bool(true)),
                    "value" => all.insert(
                        "value".into(),
                        Attr::from(Tensor::scalar(value.parse::<i32>().expect("number"))),
                    ),
                    _ => None,
                };
            }
            all.insert("dtype".into(), Attr::Type(dtype));
            node.attrs = all;
            nodes.push(node);
        }
        Graph { nodes }
    }

    /// `while i < n: i += step`, where `step` comes in as a constant of the loop.
    const COUNT: &str = "
        n = _Arg()
        zero = Const() value=0
        step = Const() value=3
        enter = Enter(zero) frame=count
        n_in = Enter(n) frame=count constant
        step_in = Enter(step) frame=count constant
        merge = Merge(enter, next)
        less = Less(merge, n_in)
        go = LoopCond(less) bool
        switch = Switch(merge, go)
        body = Identity(switch:1)
        add = AddV2(body, step_in)
        next = NextIteration(add)
        exit = Exit(switch:0)
        twice = AddV2(exit, exit)";

    fn run(text: &str, fetch: &str, given: i32, options: &RunOptions) -> Result<i32> {
        let text = text.replace("_Arg", ARG);
        let graph = graph(&text);
        let fetch = graph.nodes.iter().position(|n| n.name == fetch).expect("a node");
        let (feeds, fetches) = ([Output::new(0, 0)], [Output::new(fetch, 0)]);
        let program = Executable::new(&graph, &Library::new(), &feeds, &fetches, &[])?;
        let inputs: Values = [Value::from(Tensor::scalar(given))].into_iter().collect();
        let out = program.run_with(&Resources::new(), inputs, options)?;
        Ok(out[0].tensor()?.item::<i32>()?)
    }

    #[test]
    fn a_loop_runs_until_its_condition_fails() {
        for (n, want) in [(10, 24), (0, 0), (3, 6), (-5, 0)] {
            assert_eq!(run(COUNT, "twice", n, &RunOptions::default()).expect("runs"), want);
        }
    }

    #[test]
    fn a_loop_that_never_ends_is_stopped() {
        let endless = COUNT.replace("value=3", "value=0");
        let options = RunOptions { max_steps: Some(10_000), ..RunOptions::default() };
        let error = run(&endless, "twice", 1, &options).expect_err("a limit");
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
        assert!(error.to_string().contains("entered at \"enter\""), "{error}");
    }

    /// `while i < n: { j = 0; while j < i: { j += 1; s += 1 }; i += 1 }`, the counters in one order or the other.
    #[test]
    fn loops_run_in_loops() {
        let nested = "
            n = _Arg()
            zero = Const() value=0
            one = Const() value=1
            i_enter = Enter(zero) frame=outer
            s_enter = Enter(zero) frame=outer
            n_in = Enter(n) frame=outer constant
            one_in = Enter(one) frame=outer constant
            zero_in = Enter(zero) frame=outer constant
            i = Merge(i_enter, i_next)
            s = Merge(s_enter, s_next)
            less = Less(i, n_in)
            go = LoopCond(less) bool
            i_switch = Switch(i, go)
            s_switch = Switch(s, go)
            i_body = Identity(i_switch:1)
            s_body = Identity(s_switch:1)
            i_more = AddV2(i_body, one_in)
            i_next = NextIteration(i_more)
            j_enter = Enter(zero_in) frame=inner
            t_enter = Enter(s_body) frame=inner
            i_in = Enter(i_body) frame=inner constant
            j = Merge(j_enter, j_next)
            t = Merge(t_enter, t_next)
            j_less = Less(j, i_in)
            j_go = LoopCond(j_less) bool
            j_switch = Switch(j, j_go)
            t_switch = Switch(t, j_go)
            j_body = Identity(j_switch:1)
            t_body = Identity(t_switch:1)
            unit = Const(^j_body) value=1
            j_more = AddV2(j_body, unit)
            t_more = AddV2(t_body, unit)
            j_next = NextIteration(j_more)
            t_next = NextIteration(t_more)
            t_exit = Exit(t_switch:0)
            s_next = NextIteration(t_exit)
            s_exit = Exit(s_switch:0)
            result = Identity(s_exit)";
        for (n, want) in [(0, 0), (1, 0), (5, 10)] {
            assert_eq!(run(nested, "result", n, &RunOptions::default()).expect("runs"), want);
        }
    }

    #[test]
    fn cycles_and_stray_exits_are_refused() {
        let cycle = "x = _Arg()\n a = AddV2(x, b)\n b = Identity(a)";
        let error = run(cycle, "b", 1, &RunOptions::default()).expect_err("a cycle");
        assert!(error.to_string().contains("cycle"), "{error}");
        let stray = "x = _Arg()\n e = Enter(x) frame=f\n a = Exit(e)\n b = Exit(a)";
        let error = run(stray, "b", 1, &RunOptions::default()).expect_err("a stray exit");
        assert!(error.to_string().contains("\"b\" leaves a loop that nothing enters"), "{error}");
    }
}
