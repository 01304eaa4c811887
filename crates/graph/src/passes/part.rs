//! The part of a graph that is rewritten, and questions that passes ask about it.

use std::cell::RefCell;
use std::rc::Rc;

use foldhash::HashSet;
use smallvec::SmallVec;

use super::tracked::Tracked;
use crate::engine::plan::{self, Kind, Request};
use crate::tensor::{DType, Tensor};
use crate::{Attr, Attrs, Graph, Node, Output, ops};

/// A graph with what is fed, fetched and run of it. Nodes that nothing needs any more stay until it is planned.
pub(crate) struct Part {
    pub(crate) graph: Tracked<Graph>,
    pub(crate) feeds: Vec<Output>,
    pub(crate) fetches: Tracked<Vec<Output>>,
    pub(crate) targets: Tracked<Vec<usize>>,
    fed: HashSet<Output>,
    /// For each node that was there at first, whether an output of it is fed: what most questions end at.
    fed_nodes: Vec<bool>,
    known: RefCell<Known>,
}

/// What was found out about a part as long as it doesn't change, so that passes that find nothing to do share it.
#[derive(Default)]
pub(super) struct Known {
    /// The changes after which it was found.
    at: [u64; 3],
    needed: Option<Rc<Vec<usize>>>,
    ordered: Option<Rc<Vec<usize>>>,
    readers: Option<Rc<Readers>>,
    /// See [`super::derive::derived`].
    pub(super) derived: Option<Rc<Vec<bool>>>,
}

impl Part {
    /// A copy of what `request` asks for, its attributes filled in; `None` where passes don't go.
    pub(super) fn of(request: &Request<'_>) -> Option<Part> {
        let mut part = Part {
            graph: request.graph.clone().into(),
            feeds: request.feeds.to_vec(),
            fetches: request.fetches.to_vec().into(),
            targets: request.targets.to_vec().into(),
            fed: request.feeds.iter().copied().collect(),
            fed_nodes: vec![false; request.graph.nodes.len()],
            known: RefCell::default(),
        };
        for feed in request.feeds {
            *part.fed_nodes.get_mut(feed.node)? = true;
        }
        for &index in part.needed().iter() {
            let node = &part.graph.nodes[index];
            if is_conditional(&node.op) {
                return None;
            }
            if plan::has_placeholder(&node.attrs) {
                let node = plan::instantiate(node, request.attrs).ok()?;
                part.graph.nodes[index] = node;
            }
        }
        Some(part)
    }

    /// What `found` keeps, or what `find` finds if that isn't known of the part as it is.
    pub(super) fn know<T>(
        &self,
        found: fn(&mut Known) -> &mut Option<Rc<T>>,
        find: impl FnOnce() -> T,
    ) -> Rc<T> {
        let at = [self.graph.changes(), self.fetches.changes(), self.targets.changes()];
        let kept = {
            let known = &mut *self.known.borrow_mut();
            if known.at != at {
                *known = Known { at, ..Known::default() };
            }
            found(known).clone()
        };
        kept.unwrap_or_else(|| {
            let new = Rc::new(find());
            *found(&mut self.known.borrow_mut()) = Some(new.clone());
            new
        })
    }

    /// The nodes that run, by index; none when the graph isn't well formed.
    pub(super) fn needed(&self) -> Rc<Vec<usize>> {
        self.know(
            |known| &mut known.needed,
            || {
                let request = Request {
                    graph: &self.graph,
                    library: &crate::Library::new(),
                    feeds: &self.feeds,
                    fetches: &self.fetches,
                    targets: &self.targets,
                    attrs: &Attrs::new(),
                };
                plan::needed(&request).unwrap_or_default()
            },
        )
    }

    /// The nodes that run, each after what it depends on; none when there is a cycle.
    pub(super) fn ordered(&self) -> Rc<Vec<usize>> {
        self.know(|known| &mut known.ordered, || self.sorted())
    }

    fn sorted(&self) -> Vec<usize> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let needed = self.needed();
        let mut marks = vec![Mark::Done; self.graph.nodes.len()];
        needed.iter().for_each(|&i| marks[i] = Mark::New);
        let mut order = Vec::with_capacity(needed.len());
        let mut waiting = Vec::new();
        for &root in needed.iter() {
            waiting.push(root);
            while let Some(&index) = waiting.last() {
                if marks[index] != Mark::New {
                    waiting.pop();
                    if marks[index] == Mark::Open {
                        marks[index] = Mark::Done;
                        order.push(index);
                    }
                    continue;
                }
                marks[index] = Mark::Open;
                for on in self.dependencies(index) {
                    match marks.get(on) {
                        Some(Mark::New) => waiting.push(on),
                        Some(Mark::Open) => return Vec::new(),
                        _ => {}
                    }
                }
            }
        }
        order
    }

    /// The nodes that one waits for.
    pub(super) fn dependencies(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let node = &self.graph.nodes[index];
        let inputs = node.inputs.iter().filter(|i| !self.is_fed(**i)).map(|i| i.node);
        inputs.chain(node.controls.iter().copied())
    }

    /// Whether a value comes from outside, whatever node it belongs to.
    pub(super) fn is_fed(&self, output: Output) -> bool {
        self.fed_nodes.get(output.node) == Some(&true) && self.fed.contains(&output)
    }

    /// The node that makes a value; `None` when it is fed.
    pub(super) fn maker(&self, output: Output) -> Option<&Node> {
        if self.is_fed(output) { None } else { self.graph.nodes.get(output.node) }
    }

    /// The node that makes a value, if it is one of this op.
    pub(super) fn made_by(&self, output: Output, op: &str) -> Option<&Node> {
        self.maker(output).filter(|n| n.op == op)
    }

    /// The constant that a value is.
    pub(super) fn constant(&self, output: Output) -> Option<&Tensor> {
        self.made_by(output, "Const")?.attr("value")?.as_tensor()
    }

    /// An attribute of a node, or its op's default.
    pub(super) fn attr<'a>(&self, node: &'a Node, name: &str) -> Option<&'a Attr> {
        ops::signature(&node.op).ok()?.attr(&node.attrs, name)
    }

    /// Adds a node and gives its first output.
    pub(super) fn add(&mut self, name: String, op: &str, inputs: Vec<Output>, attrs: Attrs) -> Output {
        self.graph.nodes.push(Node { name, op: op.to_owned(), inputs, attrs, ..Node::default() });
        Output::new(self.graph.nodes.len() - 1, 0)
    }
}

/// Whether an op is of TensorFlow 1's control flow, where a value may never be made.
pub(super) fn is_conditional(op: &str) -> bool {
    Kind::of(op) != Kind::Plain
        || ["Enter", "RefEnter", "Exit", "RefExit", "NextIteration", "RefNextIteration", "LoopCond"]
            .contains(&op)
}

/// Whether attribute `T` of a node is `float32`.
pub(super) fn is_single(node: &Node) -> bool {
    node.attr("T").and_then(Attr::as_type) == Some(DType::F32)
}

/// Who reads what.
pub(super) struct Readers {
    /// Of each node, which of its outputs is read, and by which node.
    of: Vec<SmallVec<[(usize, usize); 2]>>,
    /// Nodes that others wait for, or that run for their own sake.
    held: Vec<bool>,
    fetched: HashSet<Output>,
}

impl Readers {
    pub(super) fn of(part: &Part) -> Rc<Readers> {
        part.know(|known| &mut known.readers, || Readers::new(part))
    }

    fn new(part: &Part) -> Readers {
        let count = part.graph.nodes.len();
        let mut of: Vec<SmallVec<[(usize, usize); 2]>> = vec![SmallVec::new(); count];
        let mut held = vec![false; count];
        let hold = |held: &mut Vec<bool>, n: usize| {
            if let Some(flag) = held.get_mut(n) {
                *flag = true;
            }
        };
        part.targets.iter().for_each(|&n| hold(&mut held, n));
        for &index in part.needed().iter() {
            let node = &part.graph.nodes[index];
            for input in &node.inputs {
                if let Some(readers) = of.get_mut(input.node) {
                    readers.push((input.index, index));
                }
            }
            node.controls.iter().for_each(|&n| hold(&mut held, n));
        }
        Readers { of, held, fetched: part.fetches.iter().copied().collect() }
    }

    fn read(&self, output: Output) -> impl Iterator<Item = usize> + '_ {
        let all = self.of.get(output.node).into_iter().flatten();
        all.filter(move |(index, _)| *index == output.index).map(|(_, reader)| *reader)
    }

    fn is_held(&self, node: usize) -> bool {
        self.held.get(node) == Some(&true)
    }

    /// The only node that reads a value, once; `None` when anybody else could see that it is gone.
    pub(super) fn only(&self, part: &Part, output: Output) -> Option<usize> {
        if part.is_fed(output) || self.fetched.contains(&output) || self.is_held(output.node) {
            return None;
        }
        let mut readers = self.read(output);
        readers.next().filter(|_| readers.next().is_none())
    }

    /// Whether a value isn't read at all.
    pub(super) fn nobody(&self, part: &Part, output: Output) -> bool {
        !part.is_fed(output) && !self.fetched.contains(&output) && self.read(output).next().is_none()
    }

    /// Whether all that read a value, or wait for its node, are among `nodes`.
    pub(super) fn all_among(&self, part: &Part, output: Output, nodes: &[usize]) -> bool {
        !part.is_fed(output)
            && !self.fetched.contains(&output)
            && !self.is_held(output.node)
            && self.read(output).all(|n| nodes.contains(&n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, Library};

    #[test]
    fn what_is_known_is_found_anew_after_a_change() {
        let mut b = Builder::new("f");
        let x = b.arg("x", DType::F32).expect("arg");
        let first = b.op("Neg").input(x).one().expect("node");
        let second = b.op("Abs").input(first).one().expect("node");
        let (f, _) = b.finish(&[("y", second)]).expect("function");
        let (library, attrs) = (Library::new(), Attrs::new());
        let (feeds, fetches) = ([Output::new(0, 0)], [f.results[0].output]);
        let graph = &f.graph;
        let request = Request {
            graph,
            library: &library,
            feeds: &feeds,
            fetches: &fetches,
            targets: &[],
            attrs: &attrs,
        };
        let mut part = Part::of(&request).expect("part");
        assert_eq!((&part.ordered()[..], &part.needed()[..]), (&[1, 2][..], &[1, 2][..]));
        assert!(Rc::ptr_eq(&part.ordered(), &part.ordered()), "what doesn't change is found once");
        assert_eq!(Readers::of(&part).only(&part, Output::new(1, 0)), Some(2));
        part.graph.nodes[2].inputs[0] = Output::new(0, 0);
        assert_eq!(part.ordered()[..], [2]);
        assert!(Readers::of(&part).nobody(&part, Output::new(1, 0)));
        part.fetches[0] = Output::new(1, 0);
        assert_eq!(part.ordered()[..], [1]);
        part.targets.push(2);
        assert_eq!(part.ordered()[..], [1, 2]);
    }
}
