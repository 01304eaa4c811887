//! Constants, calls, branches, loops, and what orders effects.

use std::collections::BTreeSet;
use std::rc::Rc;

use modelark_stablehlo::{Block, Op, Value};
use modelark_tensor::DType;

use super::emit::{Emit, Raw, Val};
use super::{Item, Lower, Scope};
use crate::{Attr, Error, FuncRef, Result};

impl<'m> Lower<'m> {
    /// Operations whose operands needn't be tensors, or that have blocks; `None` for all others.
    pub(super) fn control(&mut self, scope: &mut Scope<'m>, op: &'m Op) -> Result<Option<Vec<Item>>> {
        let items = || op.operands.iter().map(|v| scope.item(*v).cloned()).collect::<Result<Vec<_>>>();
        let done = match &*op.name {
            "constant" => {
                let value = op.attr("value").and_then(|a| a.constant());
                let value = value.ok_or_else(|| Error::graph("attribute \"value\" must be a constant"))?;
                let whole = |e: modelark_stablehlo::Error| Error::graph(e.to_string());
                let made = match value.splat() {
                    Some(one) => Val::known(one).broadcast(&mut self.e, value.shape(), &[])?,
                    None => Val::known(value.tensor().map_err(whole)?),
                };
                vec![Item::Val(self.lift(&made)?)]
            }
            "optimization_barrier" => items()?,
            "after_all" | "create_token" => vec![Item::Token],
            "tuple" => vec![Item::Tuple(Rc::new(items()?))],
            "get_tuple_element" => {
                let index = op.attr("index").and_then(|a| a.int()).and_then(|i| usize::try_from(i).ok());
                match (items()?.first(), index) {
                    (Some(Item::Tuple(all)), Some(i)) if i < all.len() => vec![all[i].clone()],
                    _ => return Err(Error::graph("the tuple has no such element")),
                }
            }
            "call" => self.call(op.attr("callee").and_then(|a| a.text()), items()?)?,
            "composite" => self.call(op.attr("decomposition").and_then(|a| a.text()), items()?)?,
            "custom_call" => return self.custom_call(scope, op).map(Some),
            "if" => self.branch(scope, op, true)?,
            "case" => self.branch(scope, op, false)?,
            "while" => self.repeat(scope, op)?,
            "map" => {
                let inputs =
                    op.operands.iter().map(|v| scope.val(*v).cloned()).collect::<Result<Vec<_>>>()?;
                let body = op.regions.first().ok_or_else(|| Error::graph("it has no body"))?;
                self.each(scope, body, inputs)?.into_iter().map(Item::Val).collect()
            }
            _ => return Ok(None),
        };
        Ok(Some(done))
    }

    /// A function of the module, put where it is called.
    pub(super) fn call(&mut self, name: Option<&str>, args: Vec<Item>) -> Result<Vec<Item>> {
        let name = name.ok_or_else(|| Error::graph("the function that it calls isn't named"))?;
        let function = self.module.function(name);
        let function =
            function.ok_or_else(|| Error::graph(format!("the module has no function {name:?}")))?;
        let mut scope = Scope::of(function);
        scope.bind(&function.body.args, args)?;
        self.block(&mut scope, &function.body)
    }

    fn branch(&mut self, scope: &mut Scope<'m>, op: &'m Op, two: bool) -> Result<Vec<Item>> {
        let choice = op.operands.first().ok_or_else(|| Error::graph("it has no operand"))?;
        let choice = scope.val(*choice)?.clone();
        let branches: Vec<&'m Block> = op.regions.iter().collect();
        let last = branches.len().checked_sub(1).ok_or_else(|| Error::graph("it has no branches"))?;
        if two && last != 1 {
            return Err(Error::graph(format!("it has {} branches, not two", last + 1)));
        }
        if let Some(known) = choice.ints().or_else(|| {
            choice
                .tensor()?
                .elements::<modelark_tensor::Bool>()
                .ok()
                .map(|b| b.iter().map(|b| i64::from(!b.get())).collect())
        }) {
            let index =
                known.first().and_then(|i| usize::try_from(*i).ok()).filter(|i| *i <= last).unwrap_or(last);
            return self.block(scope, branches[index]);
        }
        if self.lifted.is_some() {
            return Err(Error::unsupported("a branch stands in the body of a reduction"));
        }
        let outside = self.outside(scope, &branches)?;
        let mut shapes = None;
        let mut names = Vec::new();
        for block in &branches {
            let (name, items) = self.function(scope, block, &[], &outside, |_, items, _| Ok(items))?;
            names.push(FuncRef::new(name));
            shapes.get_or_insert(items);
        }
        let shapes = shapes.unwrap_or_default();
        let captured: Vec<&Val> = outside.captured.iter().map(|(_, v)| v).collect();
        let mut inputs = vec![&choice];
        inputs.extend(captured);
        let mut flat = Vec::new();
        shapes.iter().for_each(|i| i.flatten(&mut flat));
        let tout: Attr = flat.iter().map(|v| v.dtype).collect::<Vec<DType>>().into();
        let index;
        let (name, attrs) = if two {
            let mut names = names.into_iter();
            let (then, other) = (names.next(), names.next());
            let (Some(then), Some(other)) = (then, other) else {
                return Err(Error::graph("it has no branches"));
            };
            (
                "StatelessIf",
                vec![("then_branch", Attr::Func(then)), ("else_branch", Attr::Func(other)), ("Tout", tout)],
            )
        } else {
            index = self.e.cast(&choice, DType::I32)?;
            inputs[0] = &index;
            (
                "StatelessCase",
                vec![("branches", Attr::List(names.into_iter().map(Attr::Func).collect())), ("Tout", tout)],
            )
        };
        let made = self.calling(name, &inputs, &attrs)?;
        let mut values = made.into_iter().zip(&flat).map(|(raw, v)| Val::new(raw, v.dtype, &v.shape));
        shapes.iter().map(|i| i.with(&mut values)).collect()
    }

    fn repeat(&mut self, scope: &mut Scope<'m>, op: &'m Op) -> Result<Vec<Item>> {
        let [condition, body] = &op.regions[..] else {
            return Err(Error::graph("a loop has a condition and a body"));
        };
        if self.lifted.is_some() {
            return Err(Error::unsupported("a loop stands in the body of a reduction"));
        }
        let state = op.operands.iter().map(|v| scope.item(*v).cloned()).collect::<Result<Vec<_>>>()?;
        let outside = self.outside(scope, &[condition, body])?;
        let (cond, _) = self.function(scope, condition, &state, &outside, |_, items, _| Ok(items))?;
        let (body, after) = self.function(scope, body, &state, &outside, |_, mut items, captured| {
            items.extend(captured.iter().cloned().map(Item::Val));
            Ok(items)
        })?;
        let (mut before, mut left) = (Vec::new(), Vec::new());
        state.iter().for_each(|i| i.flatten(&mut before));
        let states = before.len();
        after.iter().for_each(|i| i.flatten(&mut left));
        before.extend(outside.captured.iter().map(|(_, v)| v.clone()));
        if before.len() != left.len()
            || before.iter().zip(&left).any(|(a, b)| a.dtype != b.dtype || a.shape != b.shape)
        {
            return Err(Error::graph("a loop's body gives other types than it takes"));
        }
        let inputs: Vec<&Val> = before.iter().collect();
        let attrs = [("cond", Attr::Func(FuncRef::new(cond))), ("body", Attr::Func(FuncRef::new(body)))];
        let made = self.calling("StatelessWhile", &inputs, &attrs)?;
        let mut values =
            made.into_iter().zip(&before).take(states).map(|(raw, v)| Val::new(raw, v.dtype, &v.shape));
        state.iter().map(|i| i.with(&mut values)).collect()
    }

    /// A node that calls functions, on whole values.
    pub(super) fn calling(&mut self, op: &str, inputs: &[&Val], attrs: &[(&str, Attr)]) -> Result<Vec<Raw>> {
        let syms = inputs.iter().map(|v| self.e.whole(v)).collect::<Result<Vec<_>>>()?;
        let mut call = self.e.b.op(op).inputs(&syms);
        for (name, value) in attrs {
            call = call.attr(name, value.clone());
        }
        Ok(call.all()?.into_iter().map(Raw::Sym).collect())
    }

    /// A block as a function of `args` and of what it uses from outside; gives its name and what it results in.
    pub(super) fn function(
        &mut self,
        scope: &Scope<'m>,
        block: &'m Block,
        args: &[Item],
        outside: &Outside,
        finish: impl FnOnce(&mut Self, Vec<Item>, &[Val]) -> Result<Vec<Item>>,
    ) -> Result<(String, Vec<Item>)> {
        self.functions += 1;
        let name = format!("StableHLO part {}", self.functions);
        let mut emit = Emit::new(&name);
        let mut count = 0;
        let mut arg = |v: &Val| -> Result<Val> {
            let sym = emit.b.arg(&format!("x{count}"), v.dtype)?;
            count += 1;
            Ok(Val::sym(sym, v.dtype, &v.shape))
        };
        let mut flat = Vec::new();
        args.iter().for_each(|i| i.flatten(&mut flat));
        let mut given = flat.iter().map(&mut arg).collect::<Result<Vec<_>>>()?.into_iter();
        let args = args.iter().map(|i| i.with(&mut given)).collect::<Result<Vec<_>>>()?;
        let captured = outside.captured.iter().map(|(_, v)| arg(v)).collect::<Result<Vec<_>>>()?;
        let mut inner = Scope::of(scope.function);
        for (value, item) in &outside.known {
            inner.items.insert(*value, item.clone());
        }
        for ((value, _), v) in outside.captured.iter().zip(&captured) {
            inner.items.insert(*value, Item::Val(v.clone()));
        }
        inner.bind(&block.args, args)?;
        let around = std::mem::replace(&mut self.e, emit);
        let made = self.finished(&mut inner, block, &captured, finish);
        let emit = std::mem::replace(&mut self.e, around);
        let (named, items) = made?;
        let named: Vec<(&str, _)> = named.iter().map(|(n, s)| (n.as_str(), *s)).collect();
        let (function, _) = emit.b.finish(&named)?;
        self.library.insert(function);
        Ok((name, items))
    }

    #[allow(clippy::type_complexity, reason = "named outputs, and what they are")]
    fn finished(
        &mut self,
        inner: &mut Scope<'m>,
        block: &'m Block,
        captured: &[Val],
        finish: impl FnOnce(&mut Self, Vec<Item>, &[Val]) -> Result<Vec<Item>>,
    ) -> Result<(Vec<(String, crate::Sym)>, Vec<Item>)> {
        let items = self.block(inner, block)?;
        let items = finish(self, items, captured)?;
        let mut flat = Vec::new();
        items.iter().for_each(|i| i.flatten(&mut flat));
        let named = flat.iter().enumerate().map(|(i, v)| Ok((format!("y{i}"), self.e.whole(v)?)));
        Ok((named.collect::<Result<_>>()?, items))
    }

    /// What blocks use that is made outside of them.
    pub(super) fn outside(&mut self, scope: &Scope<'m>, blocks: &[&Block]) -> Result<Outside> {
        let mut used = BTreeSet::new();
        blocks.iter().for_each(|b| uses(b, &mut used));
        let mut outside = Outside { known: Vec::new(), captured: Vec::new() };
        for value in used {
            // What isn't made outside is made within.
            let Some(item) = scope.items.get(&value) else { continue };
            match item {
                Item::Val(v) if !v.is_known() => {
                    let whole = self.e.full(v)?;
                    outside.captured.push((value, whole));
                }
                Item::Tuple(_) => return Err(Error::unsupported("a block uses a tuple from outside")),
                known => outside.known.push((value, known.clone())),
            }
        }
        Ok(outside)
    }
}

/// What blocks use from outside of them.
pub(super) struct Outside {
    known: Vec<(Value, Item)>,
    pub(super) captured: Vec<(Value, Val)>,
}

fn uses(block: &Block, used: &mut BTreeSet<Value>) {
    used.extend(block.results.iter().copied());
    for op in &block.ops {
        used.extend(op.operands.iter().copied());
        op.regions.iter().for_each(|r| uses(r, used));
    }
}
