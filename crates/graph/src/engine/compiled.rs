//! Compiled functions: a plan, and what it needs of variables prepared once.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::plan::{Plan, Request};
use super::run::Run;
use super::{Value, Values, Variable};
use crate::passes::{self, Prepared};
use crate::{Error, Output, Result};

/// A plan, after what derives from variables alone.
pub(super) struct Compiled {
    pub(super) plan: Plan,
    /// How many inputs callers give; the plan's others are derived.
    pub(super) inputs: usize,
    derived: Option<Derived>,
}

/// What derives from variables alone, such as packed weights: computed once, kept until one of the variables changes.
///
/// A program that predicts once, or changes the variables after each run, has no use for that: the first run with what
/// variables hold derives each part when it comes to it, in memory that the parts share. The second run keeps them.
struct Derived {
    /// The whole, with what is derived, from the callers' inputs.
    once: Plan,
    /// Gives the handles of variables that the graph itself names; `None` when all of them are inputs.
    named: Option<Plan>,
    /// The inputs that are handles.
    given: Vec<usize>,
    /// From handles, named ones first, to what is derived.
    plan: Plan,
    kept: RwLock<Vec<Arc<Kept>>>,
}

/// Values, and of which variables at which versions they are made.
struct Kept {
    of: Vec<(Arc<Variable>, u64)>,
    /// Made by the second run.
    values: OnceLock<Vec<Value>>,
}

/// For so many sets of variables values are kept: a function may be called on several in turn.
const MOST_KEPT: usize = 8;

impl Compiled {
    /// Compiles what `request` asks for; with its passes, unless it is to be taken as it is.
    pub(super) fn new(request: &Request<'_>, plain: bool) -> Result<Compiled> {
        if !plain
            && let Some(prepared) = passes::optimise(request)
            // What passes make of a graph that isn't well formed shows nothing; its own plan's error does.
            && let Ok(compiled) = Compiled::prepared(request, &prepared)
        {
            return Ok(compiled);
        }
        Ok(Compiled { plan: Plan::compile(request)?, inputs: request.feeds.len(), derived: None })
    }

    fn prepared(request: &Request<'_>, prepared: &Prepared) -> Result<Compiled> {
        let part = &prepared.part;
        let feeds: Vec<Output> = part.feeds.iter().chain(&prepared.derived).copied().collect();
        let of_part = Request { graph: &part.graph, targets: &[], ..*request };
        let main = Request { feeds: &feeds, fetches: &part.fetches, targets: &part.targets, ..of_part };
        let derived = if prepared.derived.is_empty() {
            None
        } else {
            let handles: HashSet<Output> = prepared.given.iter().copied().collect();
            let given: Vec<usize> =
                (0..part.feeds.len()).filter(|&i| handles.contains(&part.feeds[i])).collect();
            let named = Request { feeds: &part.feeds, fetches: &prepared.named, ..of_part };
            let named = if prepared.named.is_empty() { None } else { Some(Plan::compile(&named)?) };
            let handles: Vec<Output> =
                prepared.named.iter().copied().chain(given.iter().map(|&i| part.feeds[i])).collect();
            let plan = Request { feeds: &handles, fetches: &prepared.derived, ..of_part };
            let once = Request { feeds: &part.feeds, ..main };
            let (once, plan) = (Plan::compile(&once)?, Plan::compile(&plan)?);
            Some(Derived { once, named, given, plan, kept: RwLock::default() })
        };
        Ok(Compiled { plan: Plan::compile(&main)?, inputs: part.feeds.len(), derived })
    }

    /// Runs it all.
    pub(super) fn run<'a>(&'a self, run: Run<'a>, mut inputs: Values) -> Result<Values> {
        self.plan.check_inputs(&inputs, self.inputs)?;
        if let Some(derived) = &self.derived {
            match derived.values(&run, &inputs)? {
                Some(values) => inputs.extend(values),
                None => return Run { once: true, ..run }.run(&derived.once, inputs),
            }
        }
        run.run(&self.plan, inputs)
    }
}

impl Derived {
    /// What is derived; `None` in the first run with what the variables hold.
    fn values(&self, run: &Run<'_>, inputs: &Values) -> Result<Option<Vec<Value>>> {
        let named = match &self.named {
            // What names variables looks at no input.
            Some(plan) => run.again().run(plan, inputs.clone())?,
            None => Values::new(),
        };
        let given = self.given.iter().filter_map(|&i| inputs.get(i));
        let variables = || named.iter().chain(given.clone()).map(|v| v.resource()?.variable());
        let kept = {
            let all = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            all.iter().find(|kept| kept.is_of(variables())).cloned()
        };
        if let Some(kept) = kept {
            if let Some(values) = kept.values.get() {
                return Ok(Some(values.clone()));
            }
            let handles: Values = named.iter().chain(given).cloned().collect();
            let values = run.again().run(&self.plan, handles)?.into_vec();
            return Ok(Some(kept.values.get_or_init(|| values).clone()));
        }
        // Versions are taken before values, so that a change meanwhile shows in the next run.
        let of = variables().map(|v| v.map(|v| (v.clone(), v.version()))).collect::<Result<Vec<_>>>();
        let of = of.map_err(|e: Error| e.at("what is derived from variables"))?;
        let new = Kept { of, values: OnceLock::new() };
        let mut all = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|old| !old.same_variables(&new));
        if all.len() == MOST_KEPT {
            all.remove(0);
        }
        all.push(Arc::new(new));
        Ok(None)
    }
}

impl Kept {
    fn is_of<'v>(&self, mut variables: impl Iterator<Item = Result<&'v Arc<Variable>>>) -> bool {
        self.of.iter().all(|(variable, version)| {
            matches!(variables.next(), Some(Ok(v)) if Arc::ptr_eq(v, variable) && v.version() == *version)
        })
    }

    fn same_variables(&self, other: &Kept) -> bool {
        self.of.iter().zip(&other.of).all(|((a, _), (b, _))| Arc::ptr_eq(a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;
    use crate::engine::{Program, Resource, Resources};
    use crate::tensor::{DType, Tensor};

    /// `x * w + w`, with the variable's handle as the second argument.
    fn program() -> Program {
        let mut b = Builder::new("f");
        let x = b.arg("x", DType::F32).expect("arg");
        let handle = b.arg("w", DType::Resource).expect("arg");
        let w = b.op("ReadVariableOp").input(handle).attr("dtype", DType::F32).one().expect("read");
        let y = b.matmul(x, w).expect("product");
        let y = b.add(y, w).expect("sum");
        let (f, mut library) = b.finish(&[("y", y)]).expect("function");
        library.insert(f);
        Program::new(library)
    }

    #[test]
    fn a_change_of_a_variable_shows_in_the_next_run() {
        let run = program().function("f").expect("plan");
        let matrix = |v: f32| Tensor::full(v, [2, 2]).expect("tensor");
        let call = |v: &Arc<Variable>| {
            let inputs = [matrix(1.0).into(), Resource::Variable(v.clone()).into()];
            let out = run.run(&Resources::new(), inputs.into_iter().collect()).expect("run");
            out[0].tensor().expect("tensor").as_slice::<f32>().expect("f32")[0]
        };
        let one = Arc::new(Variable::with_value("one", matrix(1.0)));
        let two = Arc::new(Variable::with_value("two", matrix(2.0)));
        assert_eq!((call(&one), call(&two), call(&one)), (3.0, 6.0, 3.0));
        one.assign(matrix(5.0)).expect("fits");
        assert_eq!((call(&one), call(&two)), (15.0, 6.0));
        two.update(|_| Ok(matrix(0.5))).expect("fits");
        assert_eq!((call(&one), call(&two)), (15.0, 1.5));
        let more: Vec<_> = (0..20u8).map(|i| Arc::new(Variable::with_value("v", matrix(i.into())))).collect();
        for _ in 0..2 {
            more.iter().zip(0u8..).for_each(|(v, i)| assert_eq!(call(v), f32::from(i) * 3.0));
        }
        let empty = Arc::new(Variable::new("empty", DType::F32, crate::tensor::PartialShape::UNKNOWN));
        let inputs = [matrix(1.0).into(), Resource::Variable(empty).into()];
        assert!(run.run(&Resources::new(), inputs.into_iter().collect()).is_err());
    }

    #[test]
    fn what_is_derived_is_kept_from_the_second_run_on() {
        // `x * (w + 1)`, whose sum is derived.
        let mut b = Builder::new("f");
        let x = b.arg("x", DType::F32).expect("arg");
        let handle = b.arg("w", DType::Resource).expect("arg");
        let w = b.op("ReadVariableOp").input(handle).attr("dtype", DType::F32).one().expect("read");
        let one = b.constant(Tensor::scalar(1.0f32)).expect("constant");
        let more = b.add(w, one).expect("sum");
        let y = b.matmul(x, more).expect("product");
        let (f, mut library) = b.finish(&[("y", y)]).expect("function");
        library.insert(f);
        let run = Program::new(library).function("f").expect("plan");
        let v = Arc::new(Variable::with_value("w", Tensor::full(1.0f32, [2, 2]).expect("tensor")));
        let call = || {
            let x = Tensor::full(1.0f32, [2, 2]).expect("tensor");
            let inputs = [x.into(), Resource::Variable(v.clone()).into()];
            let out = run.run(&Resources::new(), inputs.into_iter().collect()).expect("run");
            let kept = run.plan.derived.as_ref().expect("something is derived").kept.read().expect("lock");
            let kept: Vec<bool> = kept.iter().map(|k| k.values.get().is_some()).collect();
            (out[0].tensor().expect("tensor").as_slice::<f32>().expect("f32")[0], kept)
        };
        assert_eq!([call(), call(), call()], [(4.0, vec![false]), (4.0, vec![true]), (4.0, vec![true])]);
        v.assign(Tensor::full(2.0f32, [2, 2]).expect("tensor")).expect("fits");
        assert_eq!([call(), call()], [(6.0, vec![false]), (6.0, vec![true])]);
    }
}
