//! Control edges: those that order nothing which anybody could tell are dropped.

use foldhash::{HashMap, HashMapExt, HashSet};

use super::part::Part;
use crate::tensor::DType;
use crate::{Attr, Attrs, Graph, Library, Node, Output, ops};

/// What running a node does beside giving its outputs, the lesser first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Nothing,
    /// It may fail on purpose, print, or give something else each time: it is seen, but changes no variable.
    Seen,
    /// It may change a variable.
    Writes,
}

/// Drops control edges, and says whether anything here may change a variable; then it leaves all of them.
pub(super) fn run(part: &mut Part, library: &Library) -> bool {
    let needed = part.needed();
    let mut effects = Effects { library, known: HashMap::new(), bodies: HashMap::new() };
    let mut seen: HashMap<usize, u64> = HashMap::new();
    for &index in needed.iter() {
        match effects.of(&part.graph.nodes[index]) {
            Effect::Writes => return true,
            Effect::Seen => {
                let bit = 1u64.checked_shl(seen.len() as u32).unwrap_or(0);
                seen.insert(index, bit);
            }
            Effect::Nothing => {}
        }
    }
    if seen.is_empty() {
        for &index in needed.iter() {
            if !part.graph.nodes[index].controls.is_empty() {
                part.graph.nodes[index].controls.clear();
            }
        }
        if !part.targets.is_empty() {
            part.targets.clear();
        }
        return false;
    }
    if seen.len() > 64 {
        return false;
    }
    // A node waits for no more than the effects that its control edges reached.
    let mut reached: Vec<u64> = vec![0; part.graph.nodes.len()];
    for &index in part.ordered().iter() {
        let before = part.dependencies(index).fold(0, |all, n| all | reached[n]);
        let by_controls = part.graph.nodes[index].controls.iter().fold(0, |all, n| all | reached[*n]);
        let controls = seen.iter().filter(|(_, bit)| by_controls & **bit != 0).map(|(n, _)| *n);
        let mut controls: Vec<usize> = controls.filter(|n| *n != index).collect();
        controls.sort_unstable();
        part.graph.nodes[index].controls = controls;
        reached[index] = before | seen.get(&index).copied().unwrap_or(0);
    }
    let all = part.targets.iter().fold(0, |all, n| all | reached.get(*n).copied().unwrap_or(0));
    *part.targets = seen.iter().filter(|(_, bit)| all & **bit != 0).map(|(n, _)| *n).collect();
    part.targets.sort_unstable();
    false
}

/// Ops that only look at a resource.
const READS: &[&str] = &[
    "ReadVariableOp",
    "ResourceGather",
    "ResourceGatherNd",
    "VariableShape",
    "VarIsInitializedOp",
    "LookupTableFind",
    "LookupTableFindV2",
    "LookupTableSize",
    "LookupTableSizeV2",
    "LookupTableExportV2",
    "DisableCopyOnRead",
];

/// Stateful ops that give a handle and do nothing else.
const HANDLES: &[&str] = &["VarHandleOp", "VariableV2", "Variable", "HashTable", "HashTableV2"];

struct Effects<'a> {
    library: &'a Library,
    /// Of calls of functions, with all that they call in turn.
    known: HashMap<String, Effect>,
    /// Of functions' own nodes, with what those call.
    bodies: HashMap<String, (Effect, Vec<String>)>,
}

impl Effects<'_> {
    fn of(&mut self, node: &Node) -> Effect {
        let (own, called) = own_effect(node);
        called.iter().map(|f| self.call(f)).max().unwrap_or(own).max(own)
    }

    /// What a call of a function does.
    fn call(&mut self, name: &str) -> Effect {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let mut all = Effect::Nothing;
        let mut waiting = vec![name.to_owned()];
        let mut met: HashSet<String> = waiting.iter().cloned().collect();
        while let Some(name) = waiting.pop() {
            let (own, called) = self.body(&name);
            all = all.max(*own);
            waiting.extend(called.iter().filter(|c| met.insert((*c).clone())).cloned());
        }
        self.known.insert(name.to_owned(), all);
        all
    }

    fn body(&mut self, name: &str) -> &(Effect, Vec<String>) {
        let library = self.library;
        self.bodies.entry(name.to_owned()).or_insert_with(|| {
            let Some(function) = library.get(name) else { return (Effect::Writes, Vec::new()) };
            let nodes =
                needed(&function.graph, function).into_iter().filter_map(|n| function.graph.nodes.get(n));
            nodes.map(own_effect).fold((Effect::Nothing, Vec::new()), |(all, mut called), (own, more)| {
                called.extend(more);
                (all.max(own), called)
            })
        })
    }
}

/// What a node itself does, and the functions that it may call.
fn own_effect(node: &Node) -> (Effect, Vec<String>) {
    let mut called = Vec::new();
    let Ok(signature) = ops::signature(&node.op) else {
        return (Effect::Nothing, vec![node.op.clone()]);
    };
    node.attrs.values().for_each(|a| functions(a, &mut called));
    let takes_ref = (0..node.inputs.len()).any(|i| signature.input_is_ref(&node.attrs, i));
    if takes_ref && node.op != "IsVariableInitialized" && node.op != "RefIdentity" {
        return (Effect::Writes, called);
    }
    // A call, a loop or a branch does what its functions do.
    if !signature.stateful || !called.is_empty() || READS.contains(&&*node.op) || HANDLES.contains(&&*node.op)
    {
        return (Effect::Nothing, called);
    }
    let dtypes = signature.input_dtypes(&node.attrs).unwrap_or_default();
    let writes = dtypes.is_empty() && !node.inputs.is_empty() || dtypes.contains(&DType::Resource);
    (if writes { Effect::Writes } else { Effect::Seen }, called)
}

fn needed(graph: &Graph, function: &crate::Function) -> Vec<usize> {
    let feeds: Vec<Output> = (0..function.arity).map(|i| Output::new(i, 0)).collect();
    let fetches: Vec<Output> = function.results.iter().map(|r| r.output).collect();
    let targets: Vec<usize> = function.control_results.iter().map(|(_, n)| *n).collect();
    let request = crate::engine::plan::Request {
        graph,
        library: &Library::new(),
        feeds: &feeds,
        fetches: &fetches,
        targets: &targets,
        attrs: &Attrs::new(),
    };
    crate::engine::plan::needed(&request).unwrap_or_else(|_| (0..graph.nodes.len()).collect())
}

fn functions(attr: &Attr, names: &mut Vec<String>) {
    match attr {
        Attr::Func(f) => names.push(f.name.clone()),
        Attr::List(items) => items.iter().for_each(|a| functions(a, names)),
        _ => {}
    }
}
