//! Loops over lists of tensors that are a recurrent layer run as one: an LSTM or a GRU as Keras 2 and 3 trace them.
//!
//! The loop's inputs and results stay as they are, and so do its functions: whatever isn't certain before a run, such as how
//! long the lists are, the kernel checks, and runs the loop itself where it doesn't fit.

use std::sync::LazyLock;

use super::part::Part;
use super::pattern::Pattern;
use super::{derive, effects, forward, inline};
use crate::engine::plan::Request;
use crate::tensor::DType;
use crate::{Attr, Builder, FuncRef, Library, Node, Output, Result, Sym};

/// The op of such a loop; see `ops/loops.rs`.
pub(super) const LOOP: &str = "ModelarkLoop";

pub(super) fn run(part: &mut Part, library: &Library) {
    for index in part.needed() {
        let node = &part.graph.nodes[index];
        if !matches!(node.op.as_str(), "While" | "StatelessWhile") || !node.controls.is_empty() {
            continue;
        }
        let node = node.clone();
        let Some(found) = Found::of(&node, library) else { continue };
        let mut weights = Vec::new();
        for weight in &found.weights {
            let Some(outside) = hoist(part, &node, &found.body, *weight, 8) else { break };
            weights.push(outside);
        }
        if weights.len() == found.weights.len() {
            replace(&mut part.graph.nodes[index], found, weights);
        }
    }
}

fn replace(node: &mut Node, found: Found, weights: Vec<Output>) {
    let ints = |values: &[i64]| Attr::List(values.iter().map(|v| Attr::Int(*v)).collect());
    node.op = LOOP.to_owned();
    node.attrs.insert("M".to_owned(), Attr::Int(weights.len() as i64));
    node.attrs.insert("cell".to_owned(), Attr::from(found.cell));
    node.attrs.insert("roles".to_owned(), ints(&found.roles));
    node.attrs.insert("counters".to_owned(), ints(&found.counters));
    node.attrs.insert("bounds".to_owned(), ints(&found.bounds));
    node.inputs.extend(weights);
}

/// How a cell's step may be spelled: a function of the input, the states, and weights, to the first state.
struct Spelling {
    cell: &'static str,
    states: usize,
    weights: usize,
    pattern: Pattern,
    /// Whether the last arguments are where a matrix is cut into thirds.
    cut: bool,
}

static SPELLINGS: LazyLock<Vec<Spelling>> = LazyLock::new(|| {
    let lstm = |bias| spelling("LSTM", 2, 2 + usize::from(bias), false, move |b, a| lstm_step(b, a, bias));
    let gru = |way: Gru| spelling("GRU", 1, 4, way == Gru::Cut, move |b, a| gru_step(b, a, way));
    let all = [lstm(true), lstm(false), gru(Gru::Split), gru(Gru::Cut)];
    all.into_iter().filter_map(Result::ok).collect()
});

fn spelling(
    cell: &'static str,
    states: usize,
    weights: usize,
    cut: bool,
    trace: impl FnOnce(&mut Builder, &[Sym]) -> Result<Sym>,
) -> Result<Spelling> {
    let mut dtypes = vec![DType::F32; 1 + states + weights];
    dtypes.resize(dtypes.len() + if cut { 4 } else { 0 }, DType::I32);
    Ok(Spelling { cell, states, weights, pattern: Pattern::new(&dtypes, &[], trace)?, cut })
}

/// Gates in the order input, forget, cell, output.
fn lstm_step(b: &mut Builder, args: &[Sym], bias: bool) -> Result<Sym> {
    lstm_states(b, args, bias)?.first().copied().ok_or_else(unfit)
}

fn lstm_states(b: &mut Builder, args: &[Sym], bias: bool) -> Result<Vec<Sym>> {
    let &[x, h, c, kernel, recurrent, ..] = args else { return Err(unfit()) };
    let (from_x, from_h) = (b.matmul(x, kernel)?, b.matmul(h, recurrent)?);
    let mut z = b.add(from_x, from_h)?;
    if bias {
        z = b.bias_add(z, *args.get(5).ok_or_else(unfit)?)?;
    }
    let axis = b.scalar(1i32)?;
    let gates = b.op("Split").input(axis).input(z).attr("num_split", 4i64).all()?;
    let &[i, f, g, o] = &gates[..] else { return Err(unfit()) };
    let (i, f) = (b.op("Sigmoid").input(i).one()?, b.op("Sigmoid").input(f).one()?);
    let (g, o) = (b.op("Tanh").input(g).one()?, b.op("Sigmoid").input(o).one()?);
    let (kept, new) = (b.mul(f, c)?, b.mul(i, g)?);
    let c = b.add(kept, new)?;
    let shown = b.op("Tanh").input(c).one()?;
    Ok(vec![b.mul(o, shown)?, c])
}

/// How a GRU's gates are taken apart.
#[derive(Clone, Copy, PartialEq)]
enum Gru {
    /// Keras 2: both products are split.
    Split,
    /// Keras 3: the state's product is cut at constants.
    Cut,
}

/// Gates in the order update, reset, candidate; the reset gate acts after the product.
fn gru_step(b: &mut Builder, args: &[Sym], way: Gru) -> Result<Sym> {
    let &[x, h, kernel, recurrent, bias, of_state, ..] = args else { return Err(unfit()) };
    let from_x = b.matmul(x, kernel)?;
    let from_x = b.bias_add(from_x, bias)?;
    let from_h = b.matmul(h, recurrent)?;
    let split = |b: &mut Builder, z: Sym, axis: i32| -> Result<Vec<Sym>> {
        let axis = b.scalar(axis)?;
        b.op("Split").input(axis).input(z).attr("num_split", 3i64).all()
    };
    let (xs, hs) = match way {
        Gru::Split => {
            let from_h = b.bias_add(from_h, of_state)?;
            (split(b, from_x, 1)?, split(b, from_h, 1)?)
        }
        Gru::Cut => {
            let &[.., first, begin, end, last] = args else { return Err(unfit()) };
            let from_h = b.add(from_h, of_state)?;
            let (zero, one) = (b.ints(&[0, 0])?, b.ints(&[1, 1])?);
            let cut = |b: &mut Builder, from: Sym, to: Sym, masks: [i64; 2]| {
                let call = b.op("StridedSlice").inputs(&[from_h, from, to, one]);
                call.attr("begin_mask", masks[0]).attr("end_mask", masks[1]).one()
            };
            let parts =
                vec![cut(b, zero, first, [3, 1])?, cut(b, begin, end, [1, 1])?, cut(b, last, zero, [1, 3])?];
            (split(b, from_x, -1)?, parts)
        }
    };
    let (&[xz, xr, xh], &[hz, hr, hh]) = (&xs[..], &hs[..]) else { return Err(unfit()) };
    let update = b.add(xz, hz)?;
    let update = b.op("Sigmoid").input(update).one()?;
    let reset = b.add(xr, hr)?;
    let reset = b.op("Sigmoid").input(reset).one()?;
    let kept = b.mul(reset, hh)?;
    let candidate = b.add(xh, kept)?;
    let candidate = b.op("Tanh").input(candidate).one()?;
    let old = b.mul(update, h)?;
    let one = b.scalar(1.0f32)?;
    let rest = b.sub(one, update)?;
    let new = b.mul(rest, candidate)?;
    b.add(old, new)
}

fn unfit() -> crate::Error {
    crate::Error::graph("a cell of other arguments")
}

/// A loop that is a recurrent layer.
struct Found {
    cell: &'static str,
    body: Part,
    /// Of the body; they don't change from step to step.
    weights: Vec<Output>,
    /// Which values of the state are: the time, the list of inputs, the list of outputs, the states. The last number is 1 if
    /// all outputs are kept, 0 if only the last.
    roles: Vec<i64>,
    /// Values that count steps.
    counters: Vec<i64>,
    /// A counter, what it must be less than (a value of the state, or -1), and the constant if it is one.
    bounds: Vec<i64>,
}

impl Found {
    fn of(node: &Node, library: &Library) -> Option<Found> {
        let body = function(node, "body", library)?;
        let condition = function(node, "cond", library)?;
        let count = node.inputs.len();
        if body.fetches.len() != count || body.feeds.len() != count || condition.feeds.len() != count {
            return None;
        }
        let mut bounds = Vec::new();
        limits(&condition, *condition.fetches.first()?, &mut bounds)?;
        let (mut counters, mut written) = (Vec::new(), None);
        for (i, result) in body.fetches.iter().enumerate() {
            if counts(&body, body.feeds[i], *result) {
                counters.push(i as i64);
                continue;
            }
            let list = body.made_by(*result, "TensorListSetItem").and_then(|n| n.inputs.first());
            if list == Some(&body.feeds[i]) && written.replace(i).is_some() {
                return None;
            }
        }
        let written = written?;
        let &[_, at, item] = &body.made_by(body.fetches[written], "TensorListSetItem")?.inputs[..] else {
            return None;
        };
        let position = |o: Output| body.feeds.iter().position(|f| *f == o);
        let constant = |i: usize| body.fetches.get(i) == body.feeds.get(i);
        SPELLINGS
            .iter()
            .find_map(|spelling| {
                let found = spelling.pattern.find_shared(&body, item)?;
                let (x, rest) = found.args.split_first()?;
                let (states, rest) = rest.split_at_checked(spelling.states)?;
                let (weights, cuts) = rest.split_at_checked(spelling.weights)?;
                if spelling.cut && !in_thirds(&body, cuts)? {
                    return None;
                }
                let &[list, time, _] = &body.made_by(*x, "TensorListGetItem")?.inputs[..] else {
                    return None;
                };
                let (list, time) = (position(list)?, position(time)?);
                let states = states.iter().map(|s| position(*s)).collect::<Option<Vec<_>>>()?;
                let next =
                    states.iter().map(|s| body.fetches.get(*s).copied()).collect::<Option<Vec<_>>>()?;
                let mut given = vec![item];
                if spelling.states == 2 {
                    given.push(Output::new(found.last(&body, "AddV2")?, 0));
                }
                let all = position(at) == Some(time);
                let only_last = body.constant(at).and_then(|t| t.item::<i32>().ok()) == Some(0);
                let fits = next == given
                    && constant(list)
                    && counters.contains(&(time as i64))
                    && (all || only_last);
                // Every value is one that is known, and every bound one of a counter.
                let known = |i: usize| {
                    constant(i) || counters.contains(&(i as i64)) || i == written || states.contains(&i)
                };
                let bounded = bounds.chunks_exact(3).all(|b| {
                    counters.contains(&b[0]) && (b[1] < 0 || usize::try_from(b[1]).is_ok_and(constant))
                });
                if !fits || !bounded || !(0..count).all(known) {
                    return None;
                }
                let mut roles: Vec<i64> = vec![time as i64, list as i64, written as i64];
                roles.extend(states.iter().map(|s| *s as i64));
                roles.push(i64::from(all));
                Some((spelling.cell, weights.to_vec(), roles))
            })
            .map(|(cell, weights, roles)| Found { cell, body, weights, roles, counters, bounds })
    }
}

/// A function of a loop, with what other passes make of it.
fn function(node: &Node, attr: &str, library: &Library) -> Option<Part> {
    let FuncRef { name, attrs } = node.attr(attr)?.as_func()?;
    let f = library.get(name)?;
    let feeds: Vec<Output> = (0..f.arity).map(|i| Output::new(i, 0)).collect();
    let fetches: Vec<Output> = f.results.iter().map(|r| r.output).collect();
    let targets: Vec<usize> = f.control_results.iter().map(|(_, n)| *n).collect();
    let request =
        Request { graph: &f.graph, library, feeds: &feeds, fetches: &fetches, targets: &targets, attrs };
    let mut part = Part::of(&request)?;
    inline::run(&mut part, library);
    let writes = effects::run(&mut part, library);
    forward::run(&mut part);
    (!writes && part.targets.is_empty()).then_some(part)
}

/// Whether a value is an argument of `int32` and 1.
fn counts(body: &Part, argument: Output, result: Output) -> bool {
    let sum = body.maker(result).filter(|n| matches!(n.op.as_str(), "Add" | "AddV2"));
    let Some(&[a, b]) = sum.map(|n| &n.inputs[..]) else { return false };
    let one = if a == argument { b } else { a };
    (a == argument || b == argument) && body.constant(one).and_then(|t| t.item::<i32>().ok()) == Some(1)
}

/// What a condition compares: arguments with other arguments or constants, all of which must be less.
fn limits(condition: &Part, output: Output, bounds: &mut Vec<i64>) -> Option<()> {
    let position = |o: Output| condition.feeds.iter().position(|f| *f == o).map(|i| i as i64);
    let node = condition.maker(output)?;
    let &[a, b] = &node.inputs[..] else { return None };
    match node.op.as_str() {
        "LogicalAnd" => {
            limits(condition, a, bounds)?;
            limits(condition, b, bounds)
        }
        "Less" => {
            let constant = || condition.constant(b)?.item::<i32>().ok();
            let (limit, value) = match position(b) {
                Some(limit) => (limit, 0),
                None => (-1, i64::from(constant()?)),
            };
            bounds.extend([position(a)?, limit, value]);
            Some(())
        }
        _ => None,
    }
}

/// Whether constants cut columns at one and two thirds: ends of the first, begin and end of the second, begin of the third.
fn in_thirds(body: &Part, cuts: &[Output]) -> Option<bool> {
    let values = cuts.iter().map(|c| body.constant(*c)?.to_i64_vec().ok()).collect::<Option<Vec<_>>>()?;
    let columns =
        values.iter().map(|v| v.get(1).copied().filter(|_| v.len() == 2)).collect::<Option<Vec<_>>>()?;
    let [first, begin, end, last] = columns[..] else { return None };
    Some(first > 0 && first == begin && first.checked_mul(2) == Some(end) && end == last)
}

/// The same value outside of the loop's body, where it depends on nothing that changes.
fn hoist(part: &mut Part, node: &Node, body: &Part, output: Output, depth: usize) -> Option<Output> {
    if let Some(i) = body.feeds.iter().position(|f| *f == output) {
        return node.inputs.get(i).copied().filter(|_| body.fetches.get(i) == Some(&output));
    }
    let inner = body.maker(output)?;
    if depth == 0 || !derive::is_weight(&inner.op) {
        return None;
    }
    let mut copy = inner.clone();
    copy.inputs =
        inner.inputs.iter().map(|i| hoist(part, node, body, *i, depth - 1)).collect::<Option<_>>()?;
    copy.name = format!("{}/{}", node.name, inner.name);
    part.graph.nodes.push(copy);
    Some(Output::new(part.graph.nodes.len() - 1, output.index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{agree, numbers};
    use crate::tensor::Tensor;

    /// A layer's loop over `x`, time first, as Keras traces it; gives the outputs and the states.
    fn layer(
        b: &mut Builder,
        x: Sym,
        states: &[Sym],
        weights: &[Sym],
        all: bool,
        step: impl Fn(&mut Builder, &[Sym]) -> Result<Vec<Sym>>,
    ) -> Result<Vec<Sym>> {
        let shape = b.shape(x)?;
        let steps = b.at(shape, 0)?;
        let any = b.ints(&[-1, -1])?;
        let list = b.op("TensorListFromTensor").input(x).input(any).one()?;
        let one = b.scalar(1i32)?;
        let kept = if all { steps } else { one };
        let out = b.op("TensorListReserve").input(any).input(kept).attr("element_dtype", DType::F32).one()?;
        let zero = b.scalar(0i32)?;
        let state = [&[zero, zero, out], states].concat();
        let captures = [&[steps, list], weights].concat();
        let done = b.while_loop(
            "while",
            &state,
            &captures,
            |b, s, c| {
                let (a, z) = (b.less(s[0], c[0])?, b.less(s[1], c[0])?);
                b.op("LogicalAnd").input(a).input(z).one()
            },
            |b, s, c| {
                let any = b.ints(&[-1, -1])?;
                let item =
                    b.op("TensorListGetItem").inputs(&[c[1], s[1], any]).attr("element_dtype", DType::F32);
                let mut args = vec![item.one()?];
                args.extend_from_slice(&s[3..]);
                args.extend_from_slice(&c[2..]);
                let next = step(b, &args)?;
                let at = if all { s[1] } else { b.scalar(0i32)? };
                let out = b.op("TensorListSetItem").inputs(&[s[2], at, next[0]]).one()?;
                let one = b.scalar(1i32)?;
                let mut result = vec![b.add(s[0], one)?, b.add(s[1], one)?, out];
                result.extend(next);
                Ok(result)
            },
        )?;
        let any = b.ints(&[-1, -1])?;
        let outputs =
            b.op("TensorListStack").input(done[2]).input(any).attr("element_dtype", DType::F32).one()?;
        let mut results = vec![outputs];
        results.extend(&done[3..]);
        Ok(results)
    }

    #[test]
    fn an_lstm_is_one_step() {
        let all = [numbers(&[2, 16], 2), numbers(&[4, 16], 3), numbers(&[16], 4)];
        for (weights, keep) in [(3, true), (2, false)] {
            let inputs = [numbers(&[5, 3, 2], 1), numbers(&[3, 4], 7), numbers(&[3, 4], 8)];
            let ops = agree(&inputs, &all[..weights], |b, x, w| {
                layer(b, x[0], &x[1..], w, keep, |b, args| lstm_states(b, args, args.len() > 5))
            });
            assert!(ops.contains(&LOOP.to_owned()), "{ops:?}");
        }
    }

    #[test]
    fn spellings_can_be_traced() {
        assert_eq!(SPELLINGS.len(), 4);
    }

    #[test]
    fn a_gru_is_one_step() {
        let weights = [numbers(&[2, 12], 2), numbers(&[4, 12], 3), numbers(&[12], 4), numbers(&[12], 5)];
        for all in [true, false] {
            let inputs = [numbers(&[5, 3, 2], 1), numbers(&[3, 4], 7)];
            let ops = agree(&inputs, &weights, |b, x, w| {
                layer(b, x[0], &x[1..], w, all, |b, args| Ok(vec![gru_step(b, args, Gru::Split)?]))
            });
            assert!(ops.contains(&LOOP.to_owned()), "{ops:?}");
        }
    }

    #[test]
    fn an_empty_sequence_leaves_the_state() {
        let weights = [numbers(&[2, 12], 2), numbers(&[4, 12], 3), numbers(&[12], 4), numbers(&[12], 5)];
        let inputs = [Tensor::zeros(DType::F32, [0, 3, 2]).expect("tensor"), numbers(&[3, 4], 7)];
        agree(&inputs, &weights, |b, x, w| {
            let all = layer(b, x[0], &x[1..], w, true, |b, args| Ok(vec![gru_step(b, args, Gru::Split)?]))?;
            Ok(all[1..].to_vec())
        });
    }
}
