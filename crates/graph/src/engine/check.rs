//! Before anything runs: is there a kernel for every op that could run?

use std::collections::HashSet;

use super::plan::{Request, needed};
use crate::{Attr, Error, FuncRef, Graph, Library, Output, Result, ops};

/// Refuses a function that needs ops without kernels, here or in functions that it calls.
pub(super) fn check_ops(library: &Library, function: &FuncRef) -> Result<()> {
    let mut check = Check { library, missing: Vec::new(), seen: HashSet::new(), waiting: Vec::new() };
    check.waiting.push(function.name.clone());
    check.drain()
}

/// Refuses a part of a graph that needs ops without kernels.
pub(super) fn check_graph(request: &Request<'_>) -> Result<()> {
    let mut check =
        Check { library: request.library, missing: Vec::new(), seen: HashSet::new(), waiting: Vec::new() };
    check.nodes(request.graph, None, &needed(request)?);
    check.drain()
}

struct Check<'a> {
    library: &'a Library,
    missing: Vec<String>,
    seen: HashSet<String>,
    waiting: Vec<String>,
}

impl Check<'_> {
    fn drain(mut self) -> Result<()> {
        while let Some(name) = self.waiting.pop() {
            if !self.seen.insert(name.clone()) {
                continue;
            }
            // A function that is missing is reported when it is called: a branch may never be.
            if !self.library.contains(&name) {
                continue;
            }
            let f = self.library.read(&name)?.clone();
            let feeds: Vec<Output> = (0..f.arity).map(|i| Output::new(i, 0)).collect();
            let fetches: Vec<Output> = f.results.iter().map(|r| r.output).collect();
            let targets: Vec<usize> = f.control_results.iter().map(|(_, node)| *node).collect();
            let request = Request {
                graph: &f.graph,
                library: self.library,
                feeds: &feeds,
                fetches: &fetches,
                targets: &targets,
                attrs: &Default::default(),
            };
            let nodes = needed(&request).map_err(|e| e.at(format!("function {name:?}")))?;
            self.nodes(&f.graph, Some(&name), &nodes);
        }
        if self.missing.is_empty() {
            return Ok(());
        }
        self.missing.sort_unstable();
        let list = self.missing.join("; ");
        Err(Error::unsupported(format!(
            "there is no kernel for {} of the graph's ops: {list}",
            self.missing.len()
        )))
    }

    fn nodes(&mut self, graph: &Graph, function: Option<&str>, nodes: &[usize]) {
        for node in nodes.iter().filter_map(|&n| graph.nodes.get(n)) {
            if !self.library.contains(&node.op) {
                let place = function.map(|f| format!(", function {f:?}")).unwrap_or_default();
                let missing = ops::missing(node).into_iter();
                self.missing.extend(missing.map(|m| format!("{m} (node {:?}{place})", node.name)));
            }
            if self.library.contains(&node.op) {
                self.waiting.push(node.op.clone());
            }
            for attr in node.attrs.values() {
                self.functions(attr);
            }
        }
    }

    fn functions(&mut self, attr: &Attr) {
        match attr {
            Attr::Func(f) => self.waiting.push(f.name.clone()),
            Attr::List(items) => items.iter().for_each(|a| self.functions(a)),
            _ => {}
        }
    }
}
