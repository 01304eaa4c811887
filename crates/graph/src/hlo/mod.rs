//! StableHLO modules as functions of the engine's own ops.
//!
//! TensorFlow refines a module for the shapes of each call and compiles it. Here it is lowered for them: every shape is
//! known then, what the module computes from extents is computed while lowering, and what is left are TensorFlow's ops
//! (a few of our own where none says it), so that passes, buffers and kernels serve a module as they do any graph.
//! Calls within a module are inlined; its loops and branches become functions.

mod algebra;
mod calls;
mod control;
mod elementwise;
mod emit;
mod indexing;
mod lapack;
mod moves;
mod products;
mod random;
mod reduce;
mod region;
mod sorting;
mod windows;

use std::collections::HashMap;
use std::rc::Rc;

use modelark_stablehlo::{Attr as HloAttr, Block, Function, Module, Op, Type, Value};
use modelark_tensor::{DType, Shape};

use self::emit::{Emit, Val};
use crate::{Error, FuncRef, Library, Result};

pub(crate) use calls::missing;

/// What surrounds a module: what its node in a TensorFlow graph says of it.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// Which of the platforms that the module was made for is ours, where it was made for several.
    pub(crate) platform: Option<i32>,
    /// The functions of the graph around it that the module may call, by number.
    pub(crate) functions: Vec<FuncRef>,
}

/// An input of a module.
#[derive(PartialEq)]
pub(crate) struct Given {
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    /// Whether it comes as the handle of a variable, which is read before anything else.
    pub(crate) variable: bool,
}

/// The name of the function that a module becomes.
pub(crate) const MAIN: &str = "StableHLO main";

/// A module as functions, for one set of shapes; [`MAIN`] takes what the module's node takes.
///
/// # Errors
/// When the module isn't well formed, doesn't take such shapes, or needs what doesn't exist here.
pub(crate) fn lower(module: &Module, around: &Surroundings, inputs: &[Given]) -> Result<Library> {
    let main = module
        .function("main")
        .ok_or_else(|| Error::graph("the StableHLO module has no function \"main\""))?;
    let mut emit = Emit::new(MAIN);
    let mut given = Vec::new();
    let args = inputs.iter().enumerate().map(|(i, input)| {
        emit.b.arg(&format!("x{i}"), if input.variable { DType::Resource } else { input.dtype })
    });
    for (sym, input) in args.collect::<Result<Vec<_>>>()?.into_iter().zip(inputs) {
        let sym = match input.variable {
            true => emit.b.op("ReadVariableOp").input(sym).attr("dtype", input.dtype).one()?,
            false => sym,
        };
        given.push(Val::sym(sym, input.dtype, &input.shape));
    }
    let platform = around.platform.map(|p| Val::known(modelark_tensor::Tensor::scalar(p)));
    let mut given = platform.into_iter().chain(given);
    let mut args = Vec::new();
    for value in &main.body.args {
        let ty = main.ty(*value);
        args.push(match ty {
            Type::Token => Item::Token,
            _ => {
                let value = given.next().ok_or_else(|| {
                    Error::graph("the StableHLO module takes more arguments than its node has")
                })?;
                check(&value, ty).map_err(|e| e.at("an argument of the StableHLO module"))?;
                Item::Val(value)
            }
        });
    }
    if given.next().is_some() {
        return Err(Error::graph("the StableHLO module takes fewer arguments than its node has"));
    }
    let mut lower = Lower {
        module,
        around,
        e: emit,
        library: Library::new(),
        functions: 0,
        depth: 0,
        spent: 0,
        lifted: None,
    };
    let mut scope = Scope::of(main);
    scope.bind(&main.body.args, args)?;
    let results = lower.block(&mut scope, &main.body)?;
    let mut outputs = Vec::new();
    for item in results {
        item.flatten(&mut outputs);
    }
    let Lower { mut e, mut library, .. } = lower;
    let named = outputs
        .iter()
        .enumerate()
        .map(|(i, v)| Ok((format!("y{i}"), e.whole(v)?)))
        .collect::<Result<Vec<_>>>()?;
    let named: Vec<(&str, _)> = named.iter().map(|(n, s)| (n.as_str(), *s)).collect();
    let (function, _) = e.b.finish(&named)?;
    library.insert(function);
    Ok(library)
}

/// What a value of the module is while it is lowered.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "nearly all are tensors")]
enum Item {
    Val(Val),
    /// Side effects are in the order in which they stand anyway.
    Token,
    Tuple(Rc<Vec<Item>>),
}

impl Item {
    fn flatten(&self, into: &mut Vec<Val>) {
        match self {
            Item::Val(v) => into.push(v.clone()),
            Item::Token => {}
            Item::Tuple(items) => items.iter().for_each(|i| i.flatten(into)),
        }
    }

    /// The same structure of other values.
    fn with(&self, values: &mut impl Iterator<Item = Val>) -> Result<Item> {
        Ok(match self {
            Item::Val(_) => Item::Val(values.next().ok_or_else(|| Error::graph("too few values"))?),
            Item::Token => Item::Token,
            Item::Tuple(items) => {
                Item::Tuple(Rc::new(items.iter().map(|i| i.with(values)).collect::<Result<_>>()?))
            }
        })
    }
}

/// The values of a function that are made so far.
struct Scope<'m> {
    function: &'m Function,
    items: HashMap<Value, Item>,
    /// What made them, where that was an operation lowered here.
    made: HashMap<Value, &'m Op>,
}

impl<'m> Scope<'m> {
    fn of(function: &'m Function) -> Self {
        Scope { function, items: HashMap::new(), made: HashMap::new() }
    }

    fn bind(&mut self, values: &[Value], items: Vec<Item>) -> Result<()> {
        if values.len() != items.len() {
            return Err(Error::graph(format!(
                "{} values for {} results or arguments",
                items.len(),
                values.len()
            )));
        }
        self.items.extend(values.iter().copied().zip(items));
        Ok(())
    }

    fn item(&self, value: Value) -> Result<&Item> {
        self.items.get(&value).ok_or_else(|| Error::graph(format!("value %{} isn't made yet", value.0)))
    }

    fn val(&self, value: Value) -> Result<&Val> {
        match self.item(value)? {
            Item::Val(v) => Ok(v),
            _ => Err(Error::graph(format!("value %{} isn't a tensor", value.0))),
        }
    }
}

/// Lowers a module into one function and those that it calls.
struct Lower<'m> {
    module: &'m Module,
    around: &'m Surroundings,
    e: Emit,
    library: Library,
    /// How many functions there are.
    functions: usize,
    /// How deep calls and regions lie in each other.
    depth: usize,
    /// How many operations were lowered.
    spent: usize,
    /// While the body of a reduction is lowered: the shape that its scalars have, since it computes many at once.
    lifted: Option<Shape>,
}

/// A module whose functions call each other over and over would unroll without end.
const MOST_OPERATIONS: usize = 1 << 17;
/// Calls and regions lie no deeper in each other.
const DEEPEST: usize = 100;

impl<'m> Lower<'m> {
    /// A block whose arguments are bound; gives its results.
    fn block(&mut self, scope: &mut Scope<'m>, block: &'m Block) -> Result<Vec<Item>> {
        if self.depth >= DEEPEST {
            return Err(Error::new(
                crate::ErrorKind::Limit,
                format!("the module's calls are more than {DEEPEST} deep"),
            ));
        }
        self.depth += 1;
        for op in &block.ops {
            self.spent += 1;
            if self.spent > MOST_OPERATIONS {
                return Err(Error::new(
                    crate::ErrorKind::Limit,
                    format!("the module's calls unroll to more than {MOST_OPERATIONS} operations"),
                ));
            }
            let items = stacker::maybe_grow(128 << 10, 2 << 20, || self.op(scope, op))
                .map_err(|e| e.at(format!("StableHLO operation {:?}", op.name)))?;
            if self.lifted.is_none() {
                for (value, item) in op.results.iter().zip(&items) {
                    if let Item::Val(v) = item {
                        check(v, scope.function.ty(*value))
                            .map_err(|e| e.at(format!("StableHLO operation {:?}", op.name)))?;
                    }
                }
            }
            scope.bind(&op.results, items)?;
            scope.made.extend(op.results.iter().map(|r| (*r, op)));
        }
        self.depth -= 1;
        block.results.iter().map(|v| scope.item(*v).cloned()).collect()
    }

    fn op(&mut self, scope: &mut Scope<'m>, op: &'m Op) -> Result<Vec<Item>> {
        if let Some(items) = self.control(scope, op)? {
            return Ok(items);
        }
        let inputs = op.operands.iter().map(|v| self.lift(scope.val(*v)?)).collect::<Result<Vec<_>>>()?;
        let ty = |i: usize| op.results.get(i).map(|r| scope.function.ty(*r));
        let cx = Cx { op, ty: ty(0), bits: ty(1) };
        if let Some(v) = self.elementwise(&cx, &inputs)? {
            return Ok(vec![Item::Val(v)]);
        }
        if self.lifted.is_some() {
            return Err(Error::unsupported(
                "it stands in the body of a reduction, where only single numbers are computed",
            ));
        }
        if let ("real_dynamic_slice", [x, start, ..]) = (cx.name(), &inputs[..])
            && let Some(sizes) = moving_slice(scope, op, &inputs)
        {
            return Ok(vec![Item::Val(self.slice_at(x, start, &sizes)?)]);
        }
        if let Some(v) = self.moves(&cx, &inputs)? {
            return Ok(vec![Item::Val(v)]);
        }
        if let Some(v) = self.product(&cx, &inputs)? {
            return Ok(vec![Item::Val(v)]);
        }
        let many = if let Some(many) = self.indexing(scope, &cx, &inputs)? {
            many
        } else if let Some(many) = self.reductions(scope, &cx, &inputs)? {
            many
        } else if let Some(many) = self.algebra(&cx, &inputs)? {
            many
        } else {
            return Err(Error::unsupported("there is no such operation here"));
        };
        Ok(many.into_iter().map(Item::Val).collect())
    }

    /// The value as the body of a reduction sees it.
    fn lift(&mut self, v: &Val) -> Result<Val> {
        match self.lifted.clone() {
            Some(shape) if v.shape != shape && v.rank() == 0 => v.broadcast(&mut self.e, &shape, &[]),
            _ => Ok(v.clone()),
        }
    }
}

/// An operation that is being lowered, and the declared type of its first result.
struct Cx<'m> {
    op: &'m Op,
    ty: Option<&'m Type>,
    /// That of its second.
    bits: Option<&'m Type>,
}

impl<'m> Cx<'m> {
    fn name(&self) -> &'m str {
        &self.op.name
    }

    fn attr(&self, name: &str) -> Result<&'m HloAttr> {
        self.op.attr(name).ok_or_else(|| Error::graph(format!("attribute {name:?} is missing")))
    }

    fn ints(&self, name: &str) -> Result<Vec<i64>> {
        self.attr(name)?.ints().ok_or_else(|| Error::graph(format!("attribute {name:?} must list integers")))
    }

    /// Extents, dimensions or counts, none of them negative.
    fn sizes(&self, name: &str) -> Result<Vec<usize>> {
        let negative = |_| Error::graph(format!("attribute {name:?} must not be negative"));
        self.ints(name)?.into_iter().map(|v| usize::try_from(v).map_err(negative)).collect()
    }

    /// As [`Cx::sizes`], of an attribute that may be missing or empty, for so many ones.
    fn sizes_or_ones(&self, name: &str, count: usize) -> Result<Vec<usize>> {
        let sizes = if self.op.attr(name).is_some() { self.sizes(name)? } else { Vec::new() };
        match sizes.len() {
            0 => Ok(vec![1; count]),
            n if n == count => Ok(sizes),
            n => Err(Error::graph(format!("attribute {name:?} has {n} numbers for {count} dimensions"))),
        }
    }

    fn int(&self, name: &str) -> Result<i64> {
        self.attr(name)?.int().ok_or_else(|| Error::graph(format!("attribute {name:?} must be an integer")))
    }

    fn size(&self, name: &str) -> Result<usize> {
        usize::try_from(self.int(name)?)
            .map_err(|_| Error::graph(format!("attribute {name:?} must not be negative")))
    }

    fn bool(&self, name: &str) -> Result<bool> {
        self.attr(name)?.bool().ok_or_else(|| Error::graph(format!("attribute {name:?} must be a boolean")))
    }

    fn word(&self, name: &str) -> Result<&'static str> {
        self.attr(name)?.word().ok_or_else(|| Error::graph(format!("attribute {name:?} must be a word")))
    }

    /// The dtype of the first result.
    fn dtype(&self) -> Result<DType> {
        dtype_of(self.ty.ok_or_else(|| Error::graph("it has no result"))?)
    }

    /// The shape of the first result, where the module says it.
    fn declared(&self) -> Result<Shape> {
        let unknown = || Error::unsupported("its shape depends on what only a run computes");
        let ty = self.ty.and_then(Type::tensor).ok_or_else(unknown)?;
        if ty.unranked {
            return Err(unknown());
        }
        ty.dims.iter().copied().collect::<Option<Shape>>().ok_or_else(unknown)
    }
}

/// The sizes of a slice whose start only a run tells, where its end is told as the start and known sizes.
fn moving_slice(scope: &Scope<'_>, op: &Op, inputs: &[Val]) -> Option<Vec<usize>> {
    let ([_, start, limit, _], [_, begin, _, stride]) = (&op.operands[..], inputs) else { return None };
    let sum = scope.made.get(limit).filter(|op| &*op.name == "add" && begin.ints().is_none())?;
    let size = match sum.operands[..] {
        [a, size] if a == *start => size,
        [size, b] if b == *start => size,
        _ => return None,
    };
    let sizes = scope.val(size).ok()?.ints()?;
    stride.ints()?.iter().all(|s| *s == 1).then_some(())?;
    sizes.into_iter().map(|s| usize::try_from(s).ok()).collect()
}

fn dtype_of(ty: &Type) -> Result<DType> {
    let dtype = ty.tensor().and_then(|t| t.element.dtype());
    dtype.ok_or_else(|| Error::unsupported(format!("there are no values of type {ty} here")))
}

/// Refuses a value that isn't what the module declares it to be.
fn check(v: &Val, ty: &Type) -> Result<()> {
    let fits = ty.tensor().is_some_and(|t| {
        t.unranked
            || t.dims.len() == v.rank() && t.dims.iter().zip(&v.shape).all(|(d, n)| d.is_none_or(|d| d == *n))
    });
    if !fits || dtype_of(ty)? != v.dtype {
        return Err(Error::argument(format!(
            "it is declared as {ty} and comes to be {}{:?}",
            v.dtype, v.shape
        )));
    }
    Ok(())
}
