//! Running a plan: what a run may use and spend, and the loop over the steps.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use modelark_tensor::kernels::packed::Packed;
use modelark_tensor::{Bool, DType, PartialShape, Shape, Tensor, memory};
use smallvec::SmallVec;

use super::plan::{Frame, Kind, Plan, Source, Step};
use super::program::{Program, Shared};
use super::{Context, Resource, Resources, Value, Values};
use crate::{Error, ErrorKind, FuncRef, Result};

/// Called with what graphs print: where it is to go, such as `stderr`, and the text.
#[derive(Clone)]
pub struct Printer(Arc<Listener>);

type Listener = dyn Fn(&str, &[u8]) + Send + Sync;

impl Printer {
    /// A printer that calls `listener` with the stream's name and the text, with whatever ends it.
    pub fn new(listener: impl Fn(&str, &[u8]) + Send + Sync + 'static) -> Self {
        Printer(Arc::new(listener))
    }
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Printer")
    }
}

/// What a run may spend, how it is stopped, and who hears what it prints.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// How long the run may take; it is asked between kernels.
    pub time: Option<Duration>,
    /// Set by another thread to stop the run.
    pub cancel: Option<Arc<AtomicBool>>,
    /// How many loop iterations and function calls the run may make in all.
    pub max_steps: Option<u64>,
    /// How deep functions may call each other.
    pub max_depth: usize,
    /// How many bytes the values that the run makes may take at any one time; variables aren't counted.
    pub max_bytes: usize,
    /// Who hears what the graph prints (`tf.print`); nobody, where it is `None`.
    pub print: Option<Printer>,
}

impl Default for RunOptions {
    /// No time limit, no step limit, calls as deep as a thread's usual stack holds, and 16 GiB.
    fn default() -> Self {
        RunOptions {
            time: None,
            cancel: None,
            max_steps: None,
            max_depth: 128,
            max_bytes: 16 << 30,
            print: None,
        }
    }
}

/// Values of which some are missing: those on branches that weren't taken.
type Maybe = SmallVec<[Option<Value>; 4]>;

/// A call needs less of the stack than this; where no more is left, it goes on in a piece of this size of its own.
const STACK_LEFT: usize = 256 << 10;
const STACK_MORE: usize = 4 << 20;

/// One call of one function (or of the graph) in a run.
pub(super) struct Run<'a> {
    pub(super) shared: &'a Shared,
    /// What called this program, where a kernel of another did.
    pub(super) outer: Option<&'a Shared>,
    pub(super) resources: &'a Resources,
    pub(super) options: &'a RunOptions,
    pub(super) steps: &'a AtomicU64,
    /// When to give up.
    pub(super) deadline: Option<Instant>,
    pub(super) depth: usize,
    pub(super) node: &'a str,
    /// Whether what derives from variables is made by this call, for itself alone.
    pub(super) once: bool,
}

impl Context for Run<'_> {
    fn resources(&self) -> &Resources {
        self.resources
    }

    fn node(&self) -> &str {
        self.node
    }

    fn print(&self, stream: &str, text: &[u8]) {
        if let Some(printer) = &self.options.print {
            (printer.0)(stream, text);
        }
    }

    fn once(&self) -> bool {
        self.once
    }

    fn call(&mut self, function: &FuncRef, args: Values) -> Result<Values> {
        match self.outer {
            Some(outer) if !self.shared.library.contains(&function.name) => {
                self.enter(outer, None, function, args)
            }
            outer => self.enter(self.shared, outer, function, args),
        }
    }

    fn call_in(&mut self, program: &Program, function: &FuncRef, args: Values) -> Result<Values> {
        self.enter(&program.0, Some(self.shared), function, args)
    }

    fn check(&self) -> Result<()> {
        let spent = self.steps.fetch_add(1, Ordering::Relaxed);
        if let Some(most) = self.options.max_steps.filter(|most| spent >= *most) {
            let told = format!(
                "the run makes more than {most} loop iterations and calls, its limit; raise it, or mend the loop"
            );
            return Err(Error::new(ErrorKind::Limit, told));
        }
        if self.options.cancel.as_ref().is_some_and(|c| c.load(Ordering::Relaxed)) {
            return Err(Error::new(ErrorKind::Cancelled, "the run was cancelled"));
        }
        if self.deadline.is_some_and(|d| Instant::now() >= d) {
            let most = self.options.time.unwrap_or_default();
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the run takes longer than {most:?}, its limit"),
            ));
        }
        Ok(())
    }
}

impl<'a> Run<'a> {
    /// Calls a function of `shared`, one deeper.
    fn enter<'b>(
        &self,
        shared: &'b Shared,
        outer: Option<&'b Shared>,
        function: &FuncRef,
        args: Values,
    ) -> Result<Values>
    where
        'a: 'b,
    {
        if self.depth >= self.options.max_depth {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("functions call each other more than {} deep", self.options.max_depth),
            ));
        }
        self.check()?;
        let plan = shared.plan(function)?;
        let callee = Run { shared, outer, depth: self.depth + 1, ..self.again() };
        let run = || plan.run(callee, args).map_err(|e| e.at(format!("function {:?}", function.name)));
        stacker::maybe_grow(STACK_LEFT, STACK_MORE, run)
    }

    /// Another call in the same run.
    pub(super) fn again(&self) -> Run<'a> {
        Run { node: "", once: false, ..*self }
    }

    /// Runs the steps of `plan` on `inputs`.
    pub(super) fn run(self, plan: &'a Plan, inputs: Values) -> Result<Values> {
        let mut run = self;
        let mut slots: Vec<Option<Value>> = Vec::new();
        slots.resize_with(plan.slots, || None);
        for (slot, value) in plan.inputs.iter().zip(inputs) {
            if let Some(slot) = slot.slot {
                slots[slot as usize] = Some(value);
            }
        }
        if plan.conditional {
            let dead = || Error::compute("a result is on a branch that wasn't taken");
            return run.branches(plan, slots)?.into_iter().map(|v| v.ok_or_else(dead)).collect();
        }
        let timed = run.deadline.is_some() || run.options.cancel.is_some();
        for step in &plan.steps {
            let mut inputs = Values::new();
            for source in &step.inputs {
                inputs.push(take(*source, &mut slots, plan)?);
            }
            if timed {
                run.check()?;
            }
            run.node = &step.name;
            let outputs = run.step(step, inputs)?;
            for (slot, value) in step.outputs.iter().zip(outputs) {
                if let Some(slot) = slot {
                    slots[*slot as usize] = Some(value);
                }
            }
        }
        plan.outputs.iter().map(|source| take(*source, &mut slots, plan)).collect()
    }

    /// Runs a plan with conditions as TensorFlow 1 has them: a slot stays empty, and a step is left out, where a branch
    /// isn't taken.
    fn branches(&mut self, plan: &'a Plan, mut slots: Vec<Option<Value>>) -> Result<Maybe> {
        let mut alive = vec![false; plan.steps.len()];
        for (index, step) in plan.steps.iter().enumerate() {
            self.check()?;
            self.node = &step.name;
            let given: Maybe = step.inputs.iter().map(|source| look(*source, &mut slots, plan)).collect();
            let runs = step.controls.iter().all(|c| alive.get(*c as usize).copied().unwrap_or(true));
            let outputs = if runs { self.branch(plan, step, given)? } else { None };
            alive[index] = outputs.is_some();
            let mut outputs = outputs.unwrap_or_default().into_iter();
            for slot in &step.outputs {
                let value = outputs.next().flatten();
                if let Some(slot) = slot {
                    slots[*slot as usize] = value;
                }
            }
        }
        Ok(plan.outputs.iter().map(|source| look(*source, &mut slots, plan)).collect())
    }

    /// One step of such a plan; `None` when what it depends on isn't there.
    fn branch(&mut self, plan: &'a Plan, step: &'a Step, given: Maybe) -> Result<Option<Maybe>> {
        match step.kind {
            Kind::Merge => {
                let first = given.into_iter().enumerate().find_map(|(i, v)| Some((i, v?)));
                return Ok(first
                    .map(|(i, v)| [Some(v), Some(Tensor::scalar(i as i32).into())].into_iter().collect()));
            }
            Kind::Loop(index) => {
                if given.iter().all(Option::is_none) {
                    return Ok(None);
                }
                let frame = plan.frames.get(index as usize);
                let frame = frame.ok_or_else(|| Error::graph("the plan lacks a loop"))?;
                let wrong = |e: Error| e.at(format!("the loop entered at {:?}", step.name));
                return self.iterate(frame, given).map(Some).map_err(wrong);
            }
            Kind::Plain | Kind::Switch => {}
        }
        let Some(inputs) = given.into_iter().collect::<Option<Values>>() else { return Ok(None) };
        if step.kind == Kind::Switch {
            let wrong = |e: Error| e.at_node(&step.name, step.told(), String::new);
            let mut inputs = inputs.into_iter();
            let (Some(data), Some(choice)) = (inputs.next(), inputs.next()) else {
                return Err(wrong(Error::graph("takes a value and a condition")));
            };
            let yes = choice.tensor().and_then(|t| Ok(t.item::<Bool>()?.get())).map_err(wrong)?;
            return Ok(Some(if yes { [None, Some(data)] } else { [Some(data), None] }.into_iter().collect()));
        }
        Ok(Some(self.step(step, inputs)?.into_iter().map(Some).collect()))
    }

    /// Runs a loop's body until no value goes to a next iteration; gives what left it.
    fn iterate(&mut self, frame: &'a Frame, entered: Maybe) -> Result<Maybe> {
        let mut entered = entered;
        let mut nexts: Maybe = (0..frame.nexts).map(|_| None).collect();
        let mut exits = Maybe::new();
        loop {
            self.check()?;
            let mut slots: Vec<Option<Value>> = Vec::new();
            slots.resize_with(frame.plan.slots, || None);
            for (input, value) in frame.plan.inputs.iter().zip(entered.iter().cloned().chain(nexts)) {
                if let Some(slot) = input.slot {
                    slots[slot as usize] = value;
                }
            }
            let mut outputs = self.branches(&frame.plan, slots)?.into_iter();
            nexts = outputs.by_ref().take(frame.nexts).collect();
            if exits.is_empty() {
                exits = outputs.collect();
            } else {
                exits.iter_mut().zip(outputs).filter(|(_, new)| new.is_some()).for_each(|(e, new)| *e = new);
            }
            if nexts.iter().all(Option::is_none) {
                return Ok(exits);
            }
            entered.iter_mut().zip(&frame.constant).filter(|(_, kept)| !**kept).for_each(|(v, _)| *v = None);
        }
    }

    /// Refuses strings that together are over the limit of memory: they are counted once made.
    fn strings(&self, outputs: Values) -> Result<Values> {
        for output in &outputs {
            if let Value::Tensor(t) = output
                && t.dtype() == DType::String
            {
                memory::check(t.nbytes())?;
            }
        }
        Ok(outputs)
    }

    /// Runs one kernel; an error says where and on what.
    pub(super) fn step(&mut self, step: &Step, inputs: Values) -> Result<Values> {
        let given: SmallVec<[Given; 4]> = inputs.iter().map(Given::of).collect();
        let outputs = step
            .kernel
            .run(self, inputs)
            .and_then(|outputs| self.strings(outputs))
            .map_err(|e| e.at_node(&step.name, step.told(), || describe(&given)))?;
        if outputs.len() < step.outputs.len() {
            return Err(Error::graph(format!("gave {} outputs, not {}", outputs.len(), step.outputs.len()))
                .at_node(&step.name, step.told(), || describe(&given)));
        }
        Ok(outputs)
    }
}

/// The value from a source; `None` where nothing is.
fn look(source: Source, slots: &mut [Option<Value>], plan: &Plan) -> Option<Value> {
    match source {
        Source::Const(index) => plan.constants.get(index as usize).cloned(),
        Source::Copy(slot) => slots.get(slot as usize).cloned().flatten(),
        Source::Move(slot) => slots.get_mut(slot as usize).and_then(Option::take),
    }
}

fn take(source: Source, slots: &mut [Option<Value>], plan: &Plan) -> Result<Value> {
    look(source, slots, plan).ok_or_else(|| Error::graph("a value is missing where the plan expects one"))
}

/// What an error tells of an input; taken before the kernel owns the value.
struct Given(DType, Option<Shape>);

impl Given {
    fn of(value: &Value) -> Self {
        match value {
            Value::Tensor(t) => Given(t.dtype(), Some(t.shape().into())),
            Value::Resource(Resource::Other(any)) => match any.downcast_ref::<Packed>() {
                Some(packed) => Given(DType::F32, Some(packed.weights().shape().into())),
                None => Given(value.dtype(), None),
            },
            other => Given(other.dtype(), None),
        }
    }
}

fn describe(given: &[Given]) -> String {
    let one = |Given(dtype, shape): &Given| match shape {
        Some(shape) => format!("{dtype}{}", PartialShape::from(&shape[..])),
        None => dtype.to_string(),
    };
    let given: Vec<String> = given.iter().map(one).collect();
    if given.is_empty() { String::new() } else { format!("inputs: {}", given.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Program;
    use crate::{Attr, Builder, Sym};

    fn run(
        build: impl FnOnce(&mut Builder, Sym) -> Result<Sym>,
        given: Tensor,
        options: &RunOptions,
    ) -> Result<Values> {
        let mut b = Builder::new("f");
        let x = b.arg("x", given.dtype())?;
        let y = build(&mut b, x)?;
        let (f, mut library) = b.finish(&[("y", y)])?;
        library.insert(f);
        let given = [Value::from(given)].into_iter().collect();
        Program::new(library).function("f")?.run_with(&Resources::new(), given, options)
    }

    fn at_most(bytes: usize) -> RunOptions {
        RunOptions { max_bytes: bytes, ..RunOptions::default() }
    }

    fn fill(b: &mut Builder, shape: Sym) -> Result<Sym> {
        let one = b.constant(Tensor::scalar(1.0f32))?;
        b.op("Fill").input(shape).input(one).attr("T", DType::F32).attr("index_type", DType::I64).one()
    }

    #[test]
    fn a_size_in_the_data_is_held_to_the_limit() {
        let shape = |n: i64| Tensor::from_vec(vec![n], [1]).expect("shape");
        assert!(run(fill, shape(1000), &at_most(1 << 16)).is_ok());
        for n in [1 << 20, 1 << 50, i64::MAX] {
            let error = run(fill, shape(n), &at_most(1 << 16)).expect_err("too large");
            assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
            assert!(error.to_string().contains("(Fill)"), "{error}");
        }
    }

    /// Forty doublings of a text would take a terabyte.
    #[test]
    fn texts_are_held_to_the_limit() {
        let doubled = |b: &mut Builder, x: Sym| {
            (0..40).try_fold(x, |x, _| b.op("StringJoin").inputs(&[x, x]).attr("N", 2i64).one())
        };
        let error =
            run(doubled, Tensor::scalar_string(&b"ab"[..]), &at_most(1 << 16)).expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    }

    #[test]
    fn what_is_folded_is_held_to_a_limit_too() {
        let hostile = |b: &mut Builder, x: Sym| {
            let shape = b.constant(Tensor::from_vec(vec![1i64 << 45], [1])?)?;
            let huge = fill(b, shape)?;
            b.op("AddV2").inputs(&[x, huge]).attr("T", Attr::Type(DType::F32)).one()
        };
        let error = run(hostile, Tensor::scalar(1.0f32), &RunOptions::default()).expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    }

    #[test]
    fn errors_tell_of_tensorflows_ops_alone() {
        let convolved = |b: &mut Builder, x: Sym| {
            let filter = b.constant(Tensor::full(1.0f32, [3, 3, 3, 4])?)?;
            let bias = b.constant(Tensor::full(1.0f32, [4])?)?;
            let call = b.op("Conv2D").input(x).input(filter).attr("padding", "VALID");
            let y = call.attr("strides", vec![1i64, 1, 1, 1]).one()?;
            let y = b.bias_add(y, bias)?;
            b.op("LeakyRelu").input(y).attr("alpha", 0.5f32).one()
        };
        let x = Tensor::full(1.0f32, [1, 5, 5, 2]).expect("tensor");
        let error = run(convolved, x, &RunOptions::default()).expect_err("other channels").to_string();
        assert!(error.contains("(Conv2D + BiasAdd + LeakyRelu)"), "{error}");
        assert!(error.contains("inputs: float32(1, 5, 5, 2), float32(3, 3, 3, 4), float32(4,)"), "{error}");
    }
}
