//! `sort`, whose order is a block of its own.

use std::cell::Cell;
use std::collections::HashMap;

use modelark_stablehlo::{Attr as HloAttr, Block, Op, Value};
use modelark_tensor::{DType, Tensor};

use super::emit::{Raw, Val};
use super::region::argument;
use super::{Cx, Item, Lower, Scope};
use crate::{Attr, Error, FuncRef, Result};

/// One comparison of a comparator: two values made alike of the two sides.
struct Key {
    left: Value,
    descending: bool,
    total: bool,
}

impl<'m> Lower<'m> {
    pub(super) fn sort(
        &mut self,
        scope: &Scope<'m>,
        cx: &Cx<'m>,
        body: &'m Block,
        inputs: &[Val],
    ) -> Result<Vec<Val>> {
        let first = inputs.first().ok_or_else(|| Error::graph("it has no operands"))?;
        let rank = first.rank();
        if inputs.iter().any(|v| v.shape != first.shape) || body.args.len() != 2 * inputs.len() {
            return Err(Error::graph("its operands' shapes differ"));
        }
        let along = cx.int("dimension")?;
        let along = if along < 0 { along + rank as i64 } else { along };
        let along = usize::try_from(along)
            .ok()
            .filter(|d| *d < rank)
            .ok_or_else(|| Error::graph("there is no such dimension"))?;
        if first.shape.contains(&0) {
            return Ok(inputs.to_vec());
        }
        // The dimension that is sorted comes last.
        let mut turn: Vec<usize> = (0..rank).filter(|d| *d != along).collect();
        turn.push(along);
        let turned = inputs.iter().map(|v| self.e.transpose(v, &turn)).collect::<Result<Vec<_>>>()?;
        let order = match keys(body) {
            Some(keys) => self.order_by_keys(scope, body, &turned, &keys)?,
            None => self.order_by_block(scope, body, &turned)?,
        };
        let mut back = vec![0; rank];
        turn.iter().enumerate().for_each(|(i, &d)| back[d] = i);
        let axis = Val::known(Tensor::scalar(rank as i64 - 1));
        let attrs = [("batch_dims", Attr::Int(rank as i64 - 1))];
        turned
            .iter()
            .map(|v| {
                let sorted = self.e.whole_op("GatherV2", &[v, &order, &axis], &attrs, v.dtype, &v.shape)?;
                self.e.transpose(&sorted, &back)
            })
            .collect()
    }

    /// Keys are computed of all elements at once.
    fn order_by_keys(
        &mut self,
        scope: &Scope<'m>,
        body: &'m Block,
        values: &[Val],
        keys: &[Key],
    ) -> Result<Val> {
        let Some(shape) = values.first().map(|v| v.shape.clone()) else {
            return Err(Error::graph("it has no operands"));
        };
        let mut inner = Scope { function: scope.function, items: scope.items.clone(), made: HashMap::new() };
        let both = values.iter().flat_map(|v| [v, v]).cloned().map(Item::Val).collect();
        inner.bind(&body.args, both)?;
        let around = self.lifted.replace(shape.clone());
        let made = self.block(&mut inner, body);
        self.lifted = around;
        made?;
        let mut whole = Vec::new();
        for key in keys {
            let v = inner.val(key.left)?.clone();
            let v = if v.shape == shape { v } else { v.broadcast(&mut self.e, &shape, &[])? };
            whole.push(self.sortable(&v, key.total)?);
        }
        let descending: Vec<i64> = keys.iter().map(|k| i64::from(k.descending)).collect();
        let attrs = [("descending", descending.into())];
        self.e.whole_op("ModelarkHloOrder", &whole.iter().collect::<Vec<_>>(), &attrs, DType::I64, &shape)
    }

    /// Numbers in the same order as `int64`.
    fn sortable(&mut self, v: &Val, total: bool) -> Result<Val> {
        match v.dtype {
            d if d.is_float() => {
                let zero = self.e.number(0.0, d, &v.shape)?;
                // Zeros of both signs are equal, unless their bits are asked.
                let v = if total { v.clone() } else { self.e.map("AddV2", &[v, &zero])? };
                let bits = self.total(&v)?;
                self.e.cast(&bits, DType::I64)
            }
            DType::U64 => {
                let bits = self.e.elementwise("Bitcast", &[v], DType::I64, &[("type", DType::I64.into())])?;
                let sign = Val::known(Tensor::scalar(i64::MIN)).broadcast(&mut self.e, &v.shape, &[])?;
                self.e.map("BitwiseXor", &[&bits, &sign])
            }
            d if d.is_integer() || d == DType::Bool => self.e.cast(v, DType::I64),
            d => Err(Error::unsupported(format!("{d} has no order"))),
        }
    }

    /// The block itself is asked, about many pairs at once.
    fn order_by_block(&mut self, scope: &Scope<'m>, body: &'m Block, values: &[Val]) -> Result<Val> {
        let Some(shape) = values.first().map(|v| v.shape.clone()) else {
            return Err(Error::graph("it has no operands"));
        };
        let (long, rows) = shape.split_last().ok_or_else(|| Error::graph("a scalar has no order"))?;
        let rows: usize = rows.iter().product();
        let half = long.checked_next_power_of_two().map_or(usize::MAX, |n| n / 2).max(1);
        let pairs = rows.checked_mul(half).ok_or_else(|| Error::graph("too large"))?;
        let both: Vec<&Val> = values.iter().flat_map(|v| [v, v]).collect();
        let (name, captured) = self.each_function(scope, body, &both, &[pairs])?;
        let inputs: Vec<&Val> = values.iter().chain(&captured).collect();
        let attrs =
            [("comparator", Attr::Func(FuncRef::new(name))), ("count", Attr::Int(values.len() as i64))];
        let made = self.calling("ModelarkHloOrderBy", &inputs, &attrs)?;
        let raw: Raw = made.into_iter().next().ok_or_else(|| Error::graph("nothing was made"))?;
        Ok(Val::new(raw, DType::I64, &shape))
    }
}

/// What a comparator compares, first things first, if it is made of plain comparisons.
fn keys(body: &Block) -> Option<Vec<Key>> {
    let [result] = body.results[..] else { return None };
    let mut keys = Vec::new();
    let mut at = result;
    loop {
        let op = maker(body, at)?;
        match (&*op.name, &op.operands[..]) {
            ("compare", _) => {
                keys.push(key(body, op)?);
                return Some(keys);
            }
            // first < or (first == and rest <)
            ("or", [first, rest]) => {
                let first = key(body, maker(body, *first)?)?;
                let rest = maker(body, *rest).filter(|op| &*op.name == "and")?;
                let [same, next] = rest.operands[..] else { return None };
                if !is_equality(body, same, first.left) {
                    return None;
                }
                keys.push(first);
                at = next;
            }
            // if first == then rest < else first <
            ("select", [same, rest, first]) => {
                let first = key(body, maker(body, *first)?)?;
                if !is_equality(body, *same, first.left) {
                    return None;
                }
                keys.push(first);
                at = *rest;
            }
            _ => return None,
        }
    }
}

/// How many values are looked at before two are told to differ.
fn fuel() -> Cell<usize> {
    Cell::new(200)
}

fn maker(body: &Block, value: Value) -> Option<&Op> {
    body.ops.iter().find(|op| op.results.contains(&value))
}

fn word(op: &Op, name: &str) -> &'static str {
    op.attr(name).and_then(HloAttr::word).unwrap_or_default()
}

fn key(body: &Block, op: &Op) -> Option<Key> {
    let [a, b] = op.operands[..] else { return None };
    let descending = match word(op, "comparison_direction") {
        "LT" => false,
        "GT" => true,
        _ => return None,
    };
    let sides = mirrored(body, a, b, &fuel())?;
    let (left, descending) = match sides {
        Some(true) => (a, descending),
        // The second side first: the other way round.
        Some(false) => (a, !descending),
        None => return None,
    };
    (&*op.name == "compare").then_some(Key {
        left,
        descending,
        total: word(op, "compare_type") == "TOTALORDER",
    })
}

fn is_equality(body: &Block, value: Value, of: Value) -> bool {
    maker(body, value).is_some_and(|op| {
        &*op.name == "compare"
            && word(op, "comparison_direction") == "EQ"
            && matches!(op.operands[..], [a, b] if mirrored(body, a, b, &fuel()).flatten().is_some()
                && (mirrored(body, a, of, &fuel()) == Some(None) || a == of || same(body, a, of, &fuel())))
    })
}

/// Whether two values are computed alike, one of the left sides and one of the right; tells whether the first is the left,
/// or neither.
fn mirrored(body: &Block, a: Value, b: Value, fuel: &Cell<usize>) -> Option<Option<bool>> {
    fuel.set(fuel.get().checked_sub(1)?);
    if let (Some(i), Some(j)) = (argument(body, a), argument(body, b)) {
        return if i / 2 == j / 2 && i != j { Some(Some(i < j)) } else { None };
    }
    if a == b && argument(body, a).is_none() && maker(body, a).is_none_or(|op| op.operands.is_empty()) {
        return Some(None);
    }
    let (x, y) = (maker(body, a)?, maker(body, b)?);
    if !alike(x, y) {
        return None;
    }
    let mut side = None;
    for (a, b) in x.operands.iter().zip(&y.operands) {
        match (mirrored(body, *a, *b, fuel)?, side) {
            (Some(one), Some(other)) if one != other => return None,
            (Some(one), _) => side = Some(one),
            (None, _) => {}
        }
    }
    Some(side)
}

/// Whether two values are computed alike of the same values.
fn same(body: &Block, a: Value, b: Value, fuel: &Cell<usize>) -> bool {
    if a == b {
        return true;
    }
    let Some(left) = fuel.get().checked_sub(1) else { return false };
    fuel.set(left);
    let (Some(x), Some(y)) = (maker(body, a), maker(body, b)) else { return false };
    alike(x, y) && x.operands.iter().zip(&y.operands).all(|(a, b)| same(body, *a, *b, fuel))
}

fn alike(x: &Op, y: &Op) -> bool {
    x.name == y.name
        && x.operands.len() == y.operands.len()
        && x.regions.is_empty()
        && y.regions.is_empty()
        && x.attrs.len() == y.attrs.len()
        && x.attrs.iter().zip(&y.attrs).all(|((n, a), (m, b))| n == m && equal(a, b))
}

fn equal(a: &HloAttr, b: &HloAttr) -> bool {
    match (a, b) {
        (HloAttr::Word(a), HloAttr::Word(b)) => a == b,
        (HloAttr::Int(a), HloAttr::Int(b)) => a == b,
        (HloAttr::Constant(a), HloAttr::Constant(b)) => {
            a.tensor().ok().zip(b.tensor().ok()).is_some_and(|(a, b)| a.bit_eq(&b))
        }
        (HloAttr::Other, HloAttr::Other) => true,
        _ => false,
    }
}
