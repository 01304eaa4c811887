//! Programs: graphs compiled once, to be run many times, from any thread.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Instant;

use modelark_tensor::DType;
use modelark_tensor::memory::Budget;

use super::check::check_ops;
use super::compiled::Compiled;
use super::plan::Request;
use super::run::{Run, RunOptions};
use super::{Resources, Values};
use crate::{FuncRef, Graph, Library, Output, Result};

/// A library of functions, what was compiled of them so far, and what their runs may spend; cloning shares.
#[derive(Clone)]
pub struct Program(pub(super) Arc<Shared>, RunOptions);

/// What all runs of a program share.
pub(super) struct Shared {
    pub(super) library: Library,
    plans: RwLock<HashMap<String, Arc<Compiled>>>,
    /// Whether graphs run as they are written.
    plain: bool,
}

impl Shared {
    /// The plan of a function, compiled when first asked for.
    pub(super) fn plan(&self, function: &FuncRef) -> Result<Arc<Compiled>> {
        // Almost all references carry no attributes: no key is made for those.
        let with_attrs;
        let key = if function.attrs.is_empty() {
            &function.name
        } else {
            with_attrs = format!("{} {:?}", function.name, function.attrs);
            &with_attrs
        };
        if let Some(plan) = self.plans.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Ok(plan.clone());
        }
        let plan = Arc::new(self.compile(function)?);
        let mut plans = self.plans.write().unwrap_or_else(PoisonError::into_inner);
        Ok(plans.entry(key.clone()).or_insert(plan).clone())
    }

    fn compile(&self, function: &FuncRef) -> Result<Compiled> {
        let f = self.library.read(&function.name)?;
        let feeds: Vec<Output> = (0..f.arity).map(|i| Output::new(i, 0)).collect();
        let fetches: Vec<Output> = f.results.iter().map(|r| r.output).collect();
        let targets: Vec<usize> = f.control_results.iter().map(|(_, node)| *node).collect();
        let request = Request {
            graph: &f.graph,
            library: &self.library,
            feeds: &feeds,
            fetches: &fetches,
            targets: &targets,
            attrs: &function.attrs,
        };
        Compiled::new(&request, self.plain).map_err(|e| e.at(format!("function {:?}", function.name)))
    }
}

impl Program {
    /// A program of these functions. Nothing is compiled yet.
    ///
    /// Passes rewrite what is compiled, so that it runs faster, unless the environment variable `MODELARK_PLAIN` is set to
    /// other than `0`.
    pub fn new(library: Library) -> Self {
        static PLAIN: LazyLock<bool> =
            LazyLock::new(|| std::env::var_os("MODELARK_PLAIN").is_some_and(|v| !v.is_empty() && v != "0"));
        Program::with_passes(library, !*PLAIN)
    }

    /// A program of these functions whose graphs passes rewrite before they run, or that run as they are written: to settle
    /// a doubt, and for tests.
    pub fn with_passes(library: Library, passes: bool) -> Self {
        Program(Arc::new(Shared { library, plans: RwLock::default(), plain: !passes }), RunOptions::default())
    }

    /// The same program, whose executables [run](Executable::run) within these limits.
    pub fn within(mut self, options: RunOptions) -> Self {
        self.1 = options;
        self
    }

    /// The functions.
    pub fn library(&self) -> &Library {
        &self.0.library
    }

    /// Compiles a function; its arguments and results are those of the executable.
    ///
    /// # Errors
    /// When there is no such function, it isn't well formed, or it needs ops that don't exist here: all of them are
    /// named, with their nodes and functions, also those of functions that it calls.
    pub fn function(&self, name: &str) -> Result<Executable> {
        let function = FuncRef::new(name);
        check_ops(&self.0.library, &function)?;
        let plan = self.0.plan(&function)?;
        Ok(Executable { program: self.clone(), plan, name: Some(name.to_owned()) })
    }

    /// Compiles the part of `graph` that gives `fetches` and runs `targets` from `feeds`.
    ///
    /// # Errors
    /// As [`Program::function`], and when a placeholder that is needed isn't fed.
    pub fn graph(
        &self,
        graph: &Graph,
        feeds: &[Output],
        fetches: &[Output],
        targets: &[usize],
    ) -> Result<Executable> {
        let attrs = Default::default();
        let request = Request { graph, library: &self.0.library, feeds, fetches, targets, attrs: &attrs };
        super::check::check_graph(&request)?;
        let plan = Arc::new(Compiled::new(&request, self.0.plain)?);
        Ok(Executable { program: self.clone(), plan, name: None })
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({} functions)", self.0.library.len())
    }
}

/// A graph or function compiled to run: call it from as many threads as you like.
#[derive(Clone)]
pub struct Executable {
    program: Program,
    pub(super) plan: Arc<Compiled>,
    name: Option<String>,
}

impl Executable {
    /// Compiles the part of `graph` that gives `fetches` and runs `targets` from `feeds`; its nodes may call the
    /// functions of `library`. To compile several parts over one library, use a [`Program`].
    ///
    /// # Errors
    /// As [`Program::graph`].
    pub fn new(
        graph: &Graph,
        library: &Library,
        feeds: &[Output],
        fetches: &[Output],
        targets: &[usize],
    ) -> Result<Self> {
        Program::new(library.clone()).graph(graph, feeds, fetches, targets)
    }

    /// Runs on these inputs, one for each feed, and gives the fetches, within the program's limits.
    ///
    /// # Errors
    /// When the inputs aren't what was fed at compile time, or an op refuses what it gets; the message names the
    /// functions and the node.
    pub fn run(&self, resources: &Resources, inputs: Values) -> Result<Values> {
        self.run_with(resources, inputs, &self.program.1)
    }

    /// As [`Executable::run`], within other limits.
    ///
    /// # Errors
    /// As [`Executable::run`], and when a limit is reached or the run is cancelled.
    pub fn run_with(&self, resources: &Resources, inputs: Values, options: &RunOptions) -> Result<Values> {
        let steps = AtomicU64::new(0);
        let _within = Budget::new(options.max_bytes).enter();
        // A time that no clock reaches is no limit.
        let deadline = options.time.and_then(|time| Instant::now().checked_add(time));
        let shared = &self.program.0;
        let run = Run {
            shared,
            outer: None,
            resources,
            options,
            steps: &steps,
            deadline,
            depth: 0,
            node: "",
            once: false,
        };
        self.plan.run(run, inputs).map_err(|e| match &self.name {
            Some(name) => e.at(format!("function {name:?}")),
            None => e,
        })
    }

    /// The dtypes of the inputs, where they are known.
    pub fn input_dtypes(&self) -> Vec<Option<DType>> {
        self.plan.plan.inputs.iter().take(self.plan.inputs).map(|i| i.dtype).collect()
    }

    /// The ops that a run computes, in order, after passes rewrote the graph: what [`Executable::steps`] counts.
    pub fn ops(&self) -> Vec<&str> {
        self.plan.plan.steps.iter().map(|s| s.op.as_str()).collect()
    }

    /// How many kernels a run calls, loops and calls of functions counted once.
    pub fn steps(&self) -> usize {
        self.plan.plan.steps.len()
    }
}

impl fmt::Debug for Executable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executable")
            .field("name", &self.name)
            .field("inputs", &self.plan.inputs)
            .field("steps", &self.plan.plan.steps.len())
            .finish()
    }
}
