//! Plans: which kernels run in which order, and where each value lives until its last use.

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use modelark_tensor::memory::Budget;
use modelark_tensor::{DType, Tensor};
use smallvec::SmallVec;

use super::frames::{self, Loop, Unit};
use super::{Context, Kernel, Resources, Value, Values, kernel};
use crate::ops::{self, NodeAttrs};
use crate::passes::FUSED;
use crate::{ARG, Attr, Attrs, Error, FuncRef, Graph, Library, Node, Output, Result};

/// What is to be compiled.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) library: &'a Library,
    pub(crate) feeds: &'a [Output],
    pub(crate) fetches: &'a [Output],
    pub(crate) targets: &'a [usize],
    /// What instantiates the function that the graph is the body of.
    pub(crate) attrs: &'a Attrs,
}

/// Where a step takes a value from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Source {
    /// From the plan's constants.
    Const(u32),
    /// From a slot that is read again later.
    Copy(u32),
    /// From a slot, for the last time: the kernel may be its only holder.
    Move(u32),
}

/// One kernel with its wiring.
pub(super) struct Step {
    pub(super) kernel: Box<dyn Kernel>,
    pub(super) inputs: SmallVec<[Source; 4]>,
    /// The slot for each output; `None` where nobody reads it.
    pub(super) outputs: SmallVec<[Option<u32>; 2]>,
    pub(super) name: String,
    pub(super) op: String,
    /// What the step stands for, where its op is one of our own.
    told: Option<Box<str>>,
    /// Steps that must be alive for this one to be, in plans with [`Plan::conditional`].
    pub(super) controls: Vec<u32>,
    pub(super) kind: Kind,
}

impl Step {
    /// The op, or the ops that it stands for, for errors.
    pub(super) fn told(&self) -> &str {
        self.told.as_deref().unwrap_or(&self.op)
    }
}

/// The ops that a fused one stands for.
fn told(node: &Node) -> Option<Box<str>> {
    let op = node.attrs.get("op").filter(|_| node.op == FUSED)?.as_str()?;
    let steps = node.attrs.get("steps").and_then(Attr::as_list).unwrap_or_default();
    let name = |step: &'_ str| step.split(':').next().unwrap_or_default().to_owned();
    let steps = steps.iter().filter_map(Attr::as_str).map(name);
    Some([op.to_owned()].into_iter().chain(steps).collect::<Vec<_>>().join(" + ").into())
}

/// How a step of a plan with TensorFlow 1's conditions treats values that a branch not taken didn't make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// It runs when all it depends on is there.
    Plain,
    /// `Switch`: gives its value to one of two outputs.
    Switch,
    /// `Merge`: gives the first value that is there.
    Merge,
    /// A loop: runs the frame of this index among the plan's until no value goes to a next iteration.
    Loop(u32),
}

impl Kind {
    pub(crate) fn of(op: &str) -> Kind {
        match op {
            "Switch" | "RefSwitch" => Kind::Switch,
            "Merge" | "RefMerge" => Kind::Merge,
            _ => Kind::Plain,
        }
    }
}

/// An input of a plan.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) dtype: Option<DType>,
    /// Where it goes; `None` when nothing reads it.
    pub(super) slot: Option<u32>,
}

/// A graph ready to run.
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) slots: usize,
    pub(super) constants: Vec<Value>,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<Source>,
    /// Whether there are conditions as TensorFlow 1 has them, so that not every step runs.
    pub(super) conditional: bool,
    /// The loops that TensorFlow 1's control flow spells.
    pub(super) frames: Vec<Frame>,
}

/// A loop's body. Its plan takes what came in, then what the iteration before left, and gives what goes to the next
/// iteration, then what leaves.
pub(super) struct Frame {
    pub(super) plan: Plan,
    /// For each value that comes in: whether every iteration gets it, or only the first.
    pub(super) constant: Vec<bool>,
    /// How many values go from one iteration to the next.
    pub(super) nexts: usize,
}

/// Results of constant folding larger than this are computed anew in each run.
const MOST_FOLDED: usize = 64 << 20;

/// What an error tells of a node that no kernel can be made for.
fn attributes(node: &Node) -> String {
    let told = node.attrs.iter().filter(|(name, _)| !name.starts_with('_'));
    let told: Vec<String> = told.map(|(name, attr)| format!("{name}={attr}")).collect();
    if told.is_empty() { String::new() } else { format!("attributes: {}", told.join(", ")) }
}

impl Plan {
    /// Compiles what `request` asks for.
    pub(super) fn compile(request: &Request<'_>) -> Result<Plan> {
        let order = frames::order(request)?;
        let mut draft = Draft::new(request, order.len())?;
        draft.conditional = order.iter().any(|unit| match unit {
            Unit::Node(index) => Kind::of(&request.graph.nodes[*index].op) != Kind::Plain,
            Unit::Loop(_) => true,
        });
        for unit in order {
            match unit {
                Unit::Node(index) => {
                    let node = &request.graph.nodes[index];
                    draft
                        .node(index, node)
                        .map_err(|e| e.at_node(&node.name, &node.op, || attributes(node)))?;
                }
                Unit::Loop(l) => draft.frame(&l)?,
            }
        }
        let outputs = request.fetches.iter().map(|o| draft.fetch(*o)).collect::<Result<Vec<_>>>()?;
        Ok(draft.finish(outputs))
    }

    /// Refuses a wrong number of inputs or wrong dtypes; callers give the first `count`.
    pub(super) fn check_inputs(&self, inputs: &[Value], count: usize) -> Result<()> {
        if inputs.len() != count {
            let names: Vec<&str> = self.inputs.iter().take(count).map(|i| i.name.as_str()).collect();
            return Err(Error::argument(format!(
                "takes {count} inputs ({}), got {}",
                names.join(", "),
                inputs.len()
            )));
        }
        for (input, value) in self.inputs.iter().zip(inputs) {
            if let Some(want) = input.dtype
                && want != value.dtype()
            {
                return Err(Error::argument(format!(
                    "input {:?} must be {want}, got {}",
                    input.name,
                    value.dtype()
                )));
            }
        }
        Ok(())
    }
}

/// The nodes that must run for what is fetched and targeted, by index.
pub(crate) fn needed(request: &Request<'_>) -> Result<Vec<usize>> {
    let fed: HashSet<Output> = request.feeds.iter().copied().collect();
    let mut seen = vec![false; request.graph.nodes.len()];
    // Most nodes have no output that is fed, which this tells faster than the set.
    let mut fed_nodes = seen.clone();
    request
        .feeds
        .iter()
        .filter_map(|f| f.node.lt(&seen.len()).then_some(f.node))
        .for_each(|n| fed_nodes[n] = true);
    let has_fed = |n: usize| fed_nodes.get(n) == Some(&true);
    let is_fed = |o: &Output| has_fed(o.node) && fed.contains(o);
    let mut waiting: Vec<usize> = request.fetches.iter().filter(|o| !is_fed(o)).map(|o| o.node).collect();
    waiting.extend(request.targets.iter().filter(|t| !has_fed(**t)));
    while let Some(index) = waiting.pop() {
        let flag = seen.get_mut(index).ok_or_else(|| {
            Error::graph(format!("there is no node {index} in a graph of {}", request.graph.nodes.len()))
        })?;
        if std::mem::replace(flag, true) {
            continue;
        }
        let node = &request.graph.nodes[index];
        waiting.extend(node.inputs.iter().filter(|i| !is_fed(i)).map(|i| i.node));
        waiting.extend(node.controls.iter().filter(|c| !has_fed(**c)));
    }
    Ok((0..seen.len()).filter(|&i| seen[i]).collect())
}

/// A value while a plan is drafted.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Val {
    Const(usize),
    /// The index of a value that a run makes: an input or a step's output.
    Made(usize),
}

struct DraftStep {
    kernel: Box<dyn Kernel>,
    inputs: Vec<Val>,
    /// The first of its outputs' values, and how many there are.
    outputs: (usize, usize),
    name: String,
    op: String,
    told: Option<Box<str>>,
    controls: Vec<u32>,
    kind: Kind,
}

struct Draft<'a> {
    request: Request<'a>,
    constants: Vec<Value>,
    steps: Vec<DraftStep>,
    /// How many values are made.
    made: usize,
    values: HashMap<Output, Val>,
    /// What dtypes the outputs of nodes have, as the nodes themselves say.
    dtypes: HashMap<usize, Vec<DType>>,
    /// Values that are references to TensorFlow 1 variables, to be read where a plain value is wanted.
    references: HashSet<Output>,
    inputs: Vec<Input>,
    conditional: bool,
    frames: Vec<Frame>,
    /// The step that a node became.
    step_of: HashMap<usize, u32>,
}

impl<'a> Draft<'a> {
    /// For about so many nodes.
    fn new(request: &Request<'a>, nodes: usize) -> Result<Self> {
        let mut draft = Draft {
            request: *request,
            constants: Vec::new(),
            steps: Vec::with_capacity(nodes),
            made: 0,
            values: HashMap::with_capacity(nodes + request.feeds.len()),
            dtypes: HashMap::with_capacity(nodes + request.feeds.len()),
            references: HashSet::new(),
            inputs: Vec::new(),
            conditional: false,
            frames: Vec::new(),
            step_of: HashMap::new(),
        };
        for feed in request.feeds {
            let node = request
                .graph
                .nodes
                .get(feed.node)
                .ok_or_else(|| Error::graph(format!("there is no node {} to feed", feed.node)))?;
            let attr = match node.op.as_str() {
                ARG => Some("T"),
                "Placeholder" | "PlaceholderV2" | "PlaceholderWithDefault" => Some("dtype"),
                _ => None,
            };
            let dtype = attr.and_then(|a| node.attr(a)).and_then(Attr::as_type);
            draft.inputs.push(Input { name: node.name.clone(), dtype, slot: None });
            if let (Some(dtype), 0) = (dtype, feed.index) {
                draft.dtypes.insert(feed.node, vec![dtype]);
            }
            if node.op.starts_with("Ref") {
                draft.references.insert(*feed);
            }
            draft.values.insert(*feed, Val::Made(draft.made));
            draft.made += 1;
        }
        Ok(draft)
    }

    /// Refuses a node whose attributes ask for other dtypes than those that its inputs say they have.
    fn fits(&self, node: &Node, wanted: &[DType]) -> Result<()> {
        for (i, (from, wanted)) in node.inputs.iter().zip(wanted).enumerate() {
            let given = self.dtypes.get(&from.node).and_then(|d| d.get(from.index));
            // What passes lay out goes to their ops as a resource, in place of a tensor.
            if let Some(given) = given.filter(|given| *given != wanted && **given != DType::Resource) {
                let source = self.request.graph.nodes.get(from.node).map_or("", |n| n.name.as_str());
                let mut of =
                    node.attrs.iter().filter(|(_, a)| a.as_type() == Some(*wanted)).map(|(name, _)| name);
                let attr = of.next().map(|name| format!(" (attribute {name:?})")).unwrap_or_default();
                return Err(Error::graph(format!(
                    "input {i} is to be {wanted}{attr}, and {source:?} gives {given}"
                )));
            }
        }
        Ok(())
    }

    fn node(&mut self, index: usize, node: &Node) -> Result<()> {
        let instantiated;
        let node = if has_placeholder(&node.attrs) {
            instantiated = instantiate(node, self.request.attrs)?;
            &instantiated
        } else {
            node
        };
        let Some(op) = ops::find(&node.op) else {
            return self.call_by_name(index, node);
        };
        let signature = ops::signature(&node.op)?;
        let dtypes = signature.output_dtypes(&node.attrs)?;
        let count = dtypes.len();
        self.dtypes.insert(index, dtypes);
        // What `Identity` gives of a reference is the variable's own memory in TensorFlow, so that a later `assign` shows.
        if node.op == "Identity"
            && let [variable] = node.inputs[..]
            && self.references.contains(&variable)
            && !self.values.contains_key(&Output::new(index, 0))
            && !self.conditional
        {
            let value = self.value(variable)?;
            self.define(Output::new(index, 0), value);
            self.references.insert(Output::new(index, 0));
            return Ok(());
        }
        let inputs = self.inputs_of(node, |i| signature.input_is_ref(&node.attrs, i))?;
        if let Ok(wanted) = signature.input_dtypes(&node.attrs) {
            if wanted.len() != inputs.len() {
                return Err(Error::graph(format!(
                    "takes {} inputs, the node has {}",
                    wanted.len(),
                    inputs.len()
                )));
            }
            // Our own composites take what their kernels make sense of.
            if !node.op.starts_with("Modelark") {
                self.fits(node, &wanted)?;
            }
        }
        // Where a branch may not be taken, whatever depends on it must be a step that can be left out.
        let fixed = !self.conditional || node.controls.is_empty();
        if op.passes && !self.conditional {
            for (i, value) in inputs.into_iter().take(count).enumerate() {
                self.define(Output::new(index, i), value);
            }
            return Ok(());
        }
        if fixed
            && node.op == "Const"
            && let Some(tensor) = node.attr("value").and_then(Attr::as_tensor)
        {
            let value = self.constant(tensor.clone().aligned().into());
            self.define(Output::new(index, 0), value);
            return Ok(());
        }
        let made = op.make(&NodeAttrs::of(signature, node))?;
        let foldable = !signature.stateful
            && fixed
            && Kind::of(&node.op) == Kind::Plain
            && !inputs.is_empty()
            && count > 0
            && !node
                .attrs
                .values()
                .any(|a| matches!(a, Attr::Func(_) | Attr::List(_)) && mentions_function(a));
        if foldable
            && let Some(outputs) = self.fold(&*made, &inputs)
            && outputs.len() >= count
        {
            for (i, value) in outputs.into_iter().take(count).enumerate() {
                let value = self.constant(value);
                self.define(Output::new(index, i), value);
            }
            return Ok(());
        }
        for i in (0..count).filter(|&i| signature.output_is_ref(&node.attrs, i)) {
            self.references.insert(Output::new(index, i));
        }
        self.step(index, node, made, inputs, count);
        Ok(())
    }

    /// A loop of TensorFlow 1, as one step that stands where its nodes are.
    fn frame(&mut self, l: &Loop) -> Result<()> {
        let nodes = &self.request.graph.nodes;
        let name = l.enters.first().and_then(|&n| nodes.get(n)).map(|n| n.name.clone()).unwrap_or_default();
        let moved = |n: &usize| {
            let input = nodes.get(*n).and_then(|n| n.inputs.first()).copied();
            input.ok_or_else(|| Error::graph("a node that moves a value through a loop has none"))
        };
        let feeds: Vec<Output> = l.enters.iter().chain(&l.nexts).map(|&n| Output::new(n, 0)).collect();
        let fetches = l.nexts.iter().chain(&l.exits).map(moved).collect::<Result<Vec<_>>>()?;
        // What the next iteration waits for runs too, though nothing takes its value: it may be put on a stack.
        let targets: Vec<usize> = l.nexts.iter().flat_map(|&n| nodes[n].controls.iter().copied()).collect();
        let request = Request { feeds: &feeds, fetches: &fetches, targets: &targets, ..self.request };
        let plan = Plan::compile(&request).map_err(|e| e.at(format!("the loop entered at {name:?}")))?;
        let constant = l.enters.iter().map(|&n| frames::is_constant(&nodes[n])).collect();
        let inputs = l.enters.iter().map(|&n| self.value(Output::new(n, 0))).collect::<Result<Vec<_>>>()?;
        let first = self.made;
        self.made += l.exits.len();
        for (i, output) in fetches[l.nexts.len()..].iter().enumerate() {
            self.define(*output, Val::Made(first + i));
        }
        let kind = Kind::Loop(self.frames.len() as u32);
        self.frames.push(Frame { plan, constant, nexts: l.nexts.len() });
        self.steps.push(DraftStep {
            kernel: kernel(|_, _| Err(Error::graph("a loop outside of a graph"))),
            inputs,
            outputs: (first, l.exits.len()),
            name,
            op: "Enter".to_owned(),
            told: None,
            controls: Vec::new(),
            kind,
        });
        Ok(())
    }

    /// A function called as if it were an op, as graphs of old have it.
    fn call_by_name(&mut self, index: usize, node: &Node) -> Result<()> {
        if !self.request.library.contains(&node.op) {
            if node.op == ARG {
                return Err(Error::graph("an argument must be fed"));
            }
            return Err(Error::unsupported(format!("there is no kernel for {}", node.op)));
        }
        let count = self.request.library.read(&node.op)?.results.len();
        let inputs = self.inputs_of(node, |_| false)?;
        let attrs = node.attrs.iter().filter(|(name, _)| !name.starts_with('_'));
        let function =
            FuncRef { name: node.op.clone(), attrs: attrs.map(|(k, v)| (k.clone(), v.clone())).collect() };
        let made = kernel(move |context, inputs| context.call(&function, inputs));
        self.step(index, node, made, inputs, count);
        Ok(())
    }

    fn inputs_of(&mut self, node: &Node, wants_ref: impl Fn(usize) -> bool) -> Result<Vec<Val>> {
        node.inputs
            .iter()
            .enumerate()
            .map(|(i, input)| if wants_ref(i) { self.value(*input) } else { self.plain(*input) })
            .collect()
    }

    fn value(&self, output: Output) -> Result<Val> {
        self.values.get(&output).copied().ok_or_else(|| {
            let name = self.request.graph.nodes.get(output.node).map(|n| n.name.as_str()).unwrap_or_default();
            Error::graph(format!("node {name:?} has no output {}", output.index))
        })
    }

    /// The value; of a reference to a variable, what it holds at this point.
    fn plain(&mut self, output: Output) -> Result<Val> {
        let value = self.value(output)?;
        if !self.references.contains(&output) {
            return Ok(value);
        }
        let read = kernel(|_, inputs| {
            let first = inputs.first().ok_or_else(|| Error::graph("a reference is missing"))?;
            Ok([first.resource()?.variable()?.read()?.into()].into_iter().collect())
        });
        let name = self.request.graph.nodes.get(output.node).map(|n| n.name.clone()).unwrap_or_default();
        let made = self.made;
        self.steps.push(DraftStep {
            kernel: read,
            inputs: vec![value],
            outputs: (made, 1),
            name,
            op: "read".to_owned(),
            told: None,
            controls: Vec::new(),
            kind: Kind::Plain,
        });
        self.made += 1;
        Ok(Val::Made(made))
    }

    fn fetch(&mut self, output: Output) -> Result<Val> {
        self.plain(output)
    }

    /// Names a value; a fed output keeps what is fed.
    fn define(&mut self, output: Output, value: Val) {
        self.values.entry(output).or_insert(value);
    }

    fn constant(&mut self, value: Value) -> Val {
        self.constants.push(value);
        Val::Const(self.constants.len() - 1)
    }

    fn step(&mut self, index: usize, node: &Node, kernel: Box<dyn Kernel>, inputs: Vec<Val>, count: usize) {
        let first = self.made;
        self.made += count;
        for i in 0..count {
            self.define(Output::new(index, i), Val::Made(first + i));
        }
        let controls = if self.conditional {
            self.step_of.insert(index, self.steps.len() as u32);
            node.controls.iter().filter_map(|c| self.step_of.get(c).copied()).collect()
        } else {
            Vec::new()
        };
        self.steps.push(DraftStep {
            kernel,
            inputs,
            outputs: (first, count),
            name: node.name.clone(),
            op: node.op.clone(),
            told: told(node),
            controls,
            kind: Kind::of(&node.op),
        });
    }

    /// What a kernel gives on constants; `None` when an input isn't one, or the kernel had better run each time.
    fn fold(&self, kernel: &dyn Kernel, inputs: &[Val]) -> Option<Values> {
        let values = inputs
            .iter()
            .map(|v| match v {
                Val::Const(i) => self.constants.get(*i).cloned(),
                Val::Made(_) => None,
            })
            .collect::<Option<Values>>()?;
        // An error shows when the node runs, with its place; it may never run. What is too large isn't kept anyway.
        let _within = Budget::new(4 * MOST_FOLDED).enter();
        let outputs = kernel.run(&mut Folding(Resources::new()), values).ok()?;
        let bytes: Option<usize> = outputs
            .iter()
            .map(|v| match v {
                Value::Tensor(t) => Some(t.nbytes()),
                _ => None,
            })
            .sum();
        (bytes? <= MOST_FOLDED).then_some(outputs)
    }

    /// Gives every value a slot for as long as it is used.
    fn finish(mut self, outputs: Vec<Val>) -> Plan {
        const KEPT: usize = usize::MAX;
        // The step, and which of its inputs.
        let mut last_use: Vec<Option<(usize, usize)>> = vec![None; self.made];
        let used = self.steps.iter().map(|s| &s.inputs).enumerate().chain([(KEPT, &outputs)]);
        for (index, inputs) in used {
            for (at, value) in inputs.iter().enumerate() {
                if let Val::Made(v) = value {
                    last_use[*v] = Some((index, at));
                }
            }
        }
        let mut slot_of: Vec<u32> = vec![0; self.made];
        let mut free: Vec<u32> = Vec::new();
        let mut slots = 0u32;
        let mut place = |free: &mut Vec<u32>, slot_of: &mut Vec<u32>, value: usize| {
            last_use[value]?;
            let slot = free.pop().unwrap_or_else(|| {
                slots += 1;
                slots - 1
            });
            slot_of[value] = slot;
            Some(slot)
        };
        for (i, input) in self.inputs.iter_mut().enumerate() {
            input.slot = place(&mut free, &mut slot_of, i);
        }
        let mut steps = Vec::with_capacity(self.steps.len());
        let last_use = &last_use;
        for (index, step) in self.steps.into_iter().enumerate() {
            let sources = sources(&step.inputs, &slot_of, |v, at| last_use[v] == Some((index, at)));
            for source in &sources {
                if let Source::Move(slot) = source {
                    free.push(*slot);
                }
            }
            let (first, count) = step.outputs;
            let placed = (first..first + count).map(|v| place(&mut free, &mut slot_of, v)).collect();
            steps.push(Step {
                kernel: step.kernel,
                inputs: sources,
                outputs: placed,
                name: step.name,
                op: step.op,
                told: step.told,
                controls: step.controls,
                kind: step.kind,
            });
        }
        let outputs = sources(&outputs, &slot_of, |v, at| last_use[v] == Some((KEPT, at))).into_vec();
        Plan {
            steps,
            slots: slots as usize,
            constants: self.constants,
            inputs: self.inputs,
            outputs,
            conditional: self.conditional,
            frames: self.frames,
        }
    }
}

/// Where to take values from: one that `ends` at this place is moved.
fn sources(values: &[Val], slot_of: &[u32], ends: impl Fn(usize, usize) -> bool) -> SmallVec<[Source; 4]> {
    let source = |(at, value): (usize, &Val)| match *value {
        Val::Const(c) => Source::Const(c as u32),
        Val::Made(v) if ends(v, at) => Source::Move(slot_of[v]),
        Val::Made(v) => Source::Copy(slot_of[v]),
    };
    values.iter().enumerate().map(source).collect()
}

pub(crate) fn has_placeholder(attrs: &Attrs) -> bool {
    fn any(attr: &Attr) -> bool {
        match attr {
            Attr::Placeholder(_) => true,
            Attr::List(items) => items.iter().any(any),
            Attr::Func(f) => has_placeholder(&f.attrs),
            _ => false,
        }
    }
    attrs.values().any(any)
}

/// The node with what its function was instantiated with in place of placeholders.
pub(crate) fn instantiate(node: &Node, with: &Attrs) -> Result<Node> {
    fn fill(attr: &Attr, with: &Attrs) -> Result<Attr> {
        Ok(match attr {
            Attr::Placeholder(name) => with
                .get(name)
                .cloned()
                .ok_or_else(|| Error::graph(format!("the function's attribute {name:?} isn't given")))?,
            Attr::List(items) => Attr::List(items.iter().map(|a| fill(a, with)).collect::<Result<_>>()?),
            Attr::Func(f) => Attr::Func(FuncRef { name: f.name.clone(), attrs: all(&f.attrs, with)? }),
            other => other.clone(),
        })
    }
    fn all(attrs: &Attrs, with: &Attrs) -> Result<Attrs> {
        attrs.iter().map(|(name, attr)| Ok((name.clone(), fill(attr, with)?))).collect()
    }
    Ok(Node { attrs: all(&node.attrs, with)?, ..node.clone() })
}

fn mentions_function(attr: &Attr) -> bool {
    match attr {
        Attr::Func(_) => true,
        Attr::List(items) => items.iter().any(mentions_function),
        _ => false,
    }
}

/// What an op gives on these tensors, if its kernel needs nothing else and the results are small.
pub(crate) fn fold(
    op: &str,
    attrs: &Attrs,
    inputs: Vec<Tensor>,
    most_elements: usize,
) -> Option<Vec<Tensor>> {
    let signature = ops::signature(op).ok()?;
    if signature.stateful || attrs.values().any(mentions_function) {
        return None;
    }
    let kernel = ops::find(op)?.make(&NodeAttrs { signature, attrs }).ok()?;
    let size = inputs.iter().map(Tensor::nbytes).sum::<usize>();
    let _within = Budget::new(size.saturating_add(most_elements * 64)).enter();
    let inputs = inputs.into_iter().map(Value::from).collect();
    let outputs = kernel.run(&mut Folding(Resources::new()), inputs).ok()?;
    let tensors = outputs.into_iter().map(Value::into_tensor).collect::<Result<Vec<_>>>().ok()?;
    tensors.iter().all(|t| t.len() <= most_elements).then_some(tensors)
}

/// What a kernel sees while constants are folded: nothing.
struct Folding(Resources);

impl Context for Folding {
    fn resources(&self) -> &Resources {
        &self.0
    }

    fn node(&self) -> &str {
        ""
    }

    fn call(&mut self, function: &FuncRef, _: Values) -> Result<Values> {
        Err(Error::graph(format!("function {:?} isn't called while constants are folded", function.name)))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_contradicts_its_input_is_refused() {
        let node = |name: &str, op: &str, inputs: Vec<Output>, attrs: &[(&str, Attr)]| Node {
            name: name.to_owned(),
            op: op.to_owned(),
            inputs,
            attrs: attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            ..Node::default()
        };
        let mut graph = Graph::default();
        let value = Attr::Tensor(Box::new(Tensor::scalar(1.0f32)));
        graph.nodes.push(node(
            "c",
            "Const",
            Vec::new(),
            &[("value", value), ("dtype", Attr::Type(DType::F32))],
        ));
        graph.nodes.push(node("y", "Relu", vec![Output::new(0, 0)], &[("T", Attr::Type(DType::I32))]));
        let request = Request {
            graph: &graph,
            library: &Library::new(),
            feeds: &[],
            fetches: &[Output::new(1, 0)],
            targets: &[],
            attrs: &Default::default(),
        };
        let error = Plan::compile(&request).map(|_| ()).expect_err("refused").to_string();
        assert!(
            ["\"y\"", "Relu", "\"T\"", "int32", "\"c\"", "float32"].iter().all(|w| error.contains(w)),
            "{error}"
        );
    }
}
