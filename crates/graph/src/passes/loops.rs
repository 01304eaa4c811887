//! Loops over lists of tensors that are a recurrent layer run as one: an LSTM, a GRU or the plain one as Keras 2 and 3 trace
//! them, with a mask or without.
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
    for &index in part.needed().iter() {
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
    node.attrs.insert("masking".to_owned(), ints(&found.masking));
    node.inputs.extend(weights);
}

/// How a cell's step may be spelled: a function of the input, the states, and weights, to the first state.
struct Spelling {
    cell: &'static str,
    states: usize,
    weights: usize,
    pattern: Pattern,
    /// What the arguments behind the weights must be.
    fits: fn(&Part, &[Output], &[Output]) -> Option<bool>,
}

static SPELLINGS: LazyLock<Vec<Spelling>> = LazyLock::new(|| {
    let plain: fn(&Part, &[Output], &[Output]) -> Option<bool> = |_, _, _| Some(true);
    let lstm = |bias| {
        let trace = move |b: &mut Builder, a: &[Sym]| lstm_step(b, a, bias);
        spelling("LSTM", [2, 2 + usize::from(bias)], &[], plain, trace)
    };
    let rnn = |bias| {
        let trace = move |b: &mut Builder, a: &[Sym]| simple_step(b, a, bias);
        spelling("RNN", [1, 2 + usize::from(bias)], &[], plain, trace)
    };
    const CUTS: &[DType] = &[DType::I32; 4];
    const PARTS: &[DType] = &[DType::F32, DType::I32, DType::I32, DType::I32];
    const PARTS_AND_CUTS: &[DType] =
        &[DType::F32, DType::I32, DType::I32, DType::I32, DType::I32, DType::I32];
    let all = [
        lstm(true),
        lstm(false),
        spelling("GRU", [1, 4], &[], plain, |b, a| gru_step(b, a, Gru::Split)),
        spelling("GRU", [1, 4], CUTS, |body, _, cuts| in_thirds(body, cuts), |b, a| gru_step(b, a, Gru::Cut)),
        spelling("GRU before", [1, 3], PARTS, in_parts, |b, a| gru_before_step(b, a, Gru::Split)),
        spelling("GRU before", [1, 3], PARTS_AND_CUTS, in_parts, |b, a| gru_before_step(b, a, Gru::Cut)),
        rnn(true),
        rnn(false),
    ];
    all.into_iter().filter_map(Result::ok).collect()
});

/// Of so many states and weights, and more behind them.
fn spelling(
    cell: &'static str,
    [states, weights]: [usize; 2],
    more: &[DType],
    fits: fn(&Part, &[Output], &[Output]) -> Option<bool>,
    trace: impl FnOnce(&mut Builder, &[Sym]) -> Result<Sym>,
) -> Result<Spelling> {
    let mut dtypes = vec![DType::F32; 1 + states + weights];
    dtypes.extend_from_slice(more);
    Ok(Spelling { cell, states, weights, pattern: Pattern::new(&dtypes, &[], trace)?, fits })
}

/// The plain layer: an activation of what the input and the state contribute.
fn simple_step(b: &mut Builder, args: &[Sym], bias: bool) -> Result<Sym> {
    let &[x, h, kernel, recurrent, ref rest @ ..] = args else { return Err(unfit()) };
    let mut from_x = b.matmul(x, kernel)?;
    if bias {
        from_x = b.bias_add(from_x, *rest.first().ok_or_else(unfit)?)?;
    }
    let from_h = b.matmul(h, recurrent)?;
    let sum = b.add(from_x, from_h)?;
    b.op("Tanh").input(sum).one()
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
            let mut cut = |from: Sym, to: Sym, masks: [i64; 2]| columns(b, from_h, [from, to, one], masks);
            let parts = vec![cut(zero, first, [3, 1])?, cut(begin, end, [1, 1])?, cut(last, zero, [1, 3])?];
            (split(b, from_x, -1)?, parts)
        }
    };
    let (&[xz, xr, xh], &[hz, hr, hh]) = (&xs[..], &hs[..]) else { return Err(unfit()) };
    let update = gate(b, xz, hz)?;
    let reset = gate(b, xr, hr)?;
    let kept = b.mul(reset, hh)?;
    blend(b, h, update, xh, kept)
}

/// The columns of a matrix between two that constants name.
fn columns(b: &mut Builder, x: Sym, [from, to, step]: [Sym; 3], masks: [i64; 2]) -> Result<Sym> {
    let call = b.op("StridedSlice").inputs(&[x, from, to, step]);
    call.attr("begin_mask", masks[0]).attr("end_mask", masks[1]).one()
}

fn gate(b: &mut Builder, from_x: Sym, from_h: Sym) -> Result<Sym> {
    let sum = b.add(from_x, from_h)?;
    b.op("Sigmoid").input(sum).one()
}

/// A GRU's new state: as much of the old one as the update gate keeps, and of the candidate the rest.
fn blend(b: &mut Builder, h: Sym, update: Sym, from_x: Sym, from_h: Sym) -> Result<Sym> {
    let candidate = b.add(from_x, from_h)?;
    let candidate = b.op("Tanh").input(candidate).one()?;
    let old = b.mul(update, h)?;
    let one = b.scalar(1.0f32)?;
    let rest = b.sub(one, update)?;
    let new = b.mul(rest, candidate)?;
    b.add(old, new)
}

/// A GRU whose reset gate acts before the product: its weights of the state, which it reads twice, are cut in two.
fn gru_before_step(b: &mut Builder, args: &[Sym], way: Gru) -> Result<Sym> {
    let &[x, h, kernel, recurrent, bias, again, end, begin, ref cuts @ ..] = args else {
        return Err(unfit());
    };
    let from_x = b.matmul(x, kernel)?;
    let from_x = b.bias_add(from_x, bias)?;
    let last = b.scalar(-1i32)?;
    let xs = b.op("Split").input(last).input(from_x).attr("num_split", 3i64).all()?;
    let (zero, one) = (b.ints(&[0, 0])?, b.ints(&[1, 1])?);
    let of_gates = columns(b, recurrent, [zero, end, one], [3, 1])?;
    let from_h = b.matmul(h, of_gates)?;
    let hs = match (way, cuts) {
        (Gru::Split, &[sizes]) => {
            b.op("SplitV").inputs(&[from_h, sizes, last]).attr("num_split", 3i64).all()?
        }
        (Gru::Cut, &[first, second, third]) => {
            vec![
                columns(b, from_h, [zero, first, one], [3, 1])?,
                columns(b, from_h, [second, third, one], [1, 1])?,
            ]
        }
        _ => return Err(unfit()),
    };
    let (&[xz, xr, xh], [hz, hr, ..]) = (&xs[..], &hs[..]) else { return Err(unfit()) };
    let (update, reset) = (gate(b, xz, *hz)?, gate(b, xr, *hr)?);
    let before = b.mul(reset, h)?;
    let of_candidate = columns(b, again, [begin, zero, one], [1, 3])?;
    let from_h = b.matmul(before, of_candidate)?;
    blend(b, h, update, xh, from_h)
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
    /// With a mask: the list of its steps, the output of the step before, and what stands for outputs that don't count: that
    /// one, another value that doesn't change, or (-1) zeros. Without one, nothing.
    masking: Vec<i64>,
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
        let masked = Choice::of(&body, item);
        let made = masked.as_ref().map_or(item, |m| m.new);
        SPELLINGS
            .iter()
            .find_map(|spelling| {
                let found = spelling.pattern.find_shared(&body, made)?;
                let (x, rest) = found.args.split_first()?;
                let (states, rest) = rest.split_at_checked(spelling.states)?;
                let (weights, cuts) = rest.split_at_checked(spelling.weights)?;
                if !(spelling.fits)(&body, weights, cuts)? {
                    return None;
                }
                let &[list, time, _] = &body.made_by(*x, "TensorListGetItem")?.inputs[..] else {
                    return None;
                };
                let (list, time) = (position(list)?, position(time)?);
                let states = states.iter().map(|s| position(*s)).collect::<Option<Vec<_>>>()?;
                let left = |s: &usize| {
                    let next = body.fetches.get(*s).copied()?;
                    let Some(masked) = &masked else { return Some(next) };
                    let choice = Choice::of(&body, next)?;
                    let stays = choice.at == masked.at && body.feeds.get(*s) == Some(&choice.old);
                    stays.then_some(choice.new)
                };
                let next = states.iter().map(left).collect::<Option<Vec<_>>>()?;
                let mut masking = Vec::new();
                if let Some(masked) = &masked {
                    let [list, at] = masked.at;
                    let before = (0..count).find(|i| body.fetches[*i] == item && !states.contains(i))?;
                    let otherwise = if body.made_by(masked.old, "ZerosLike").is_some() {
                        -1
                    } else {
                        let at = position(masked.old).filter(|i| *i == before || constant(*i))?;
                        at as i64
                    };
                    if position(at) != Some(time) || !constant(position(list)?) {
                        return None;
                    }
                    masking = vec![position(list)? as i64, before as i64, otherwise];
                }
                let mut given = vec![made];
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
                    let counts = counters.contains(&(i as i64));
                    constant(i)
                        || counts
                        || i == written
                        || states.contains(&i)
                        || masking.get(1) == Some(&(i as i64))
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
                Some((spelling.cell, weights.to_vec(), roles, masking))
            })
            .map(|(cell, weights, roles, masking)| Found {
                cell,
                body,
                weights,
                roles,
                counters,
                bounds,
                masking,
            })
    }
}

/// A value of which a mask chooses whether it is new or old.
struct Choice {
    /// The list of the mask's steps, and where it is read.
    at: [Output; 2],
    new: Output,
    old: Output,
}

impl Choice {
    fn of(body: &Part, output: Output) -> Option<Choice> {
        let &[mask, new, old] = &body.made_by(output, "SelectV2")?.inputs[..] else { return None };
        // What is repeated once stays as it is.
        let mask = match body.made_by(mask, "Tile").map(|tile| &tile.inputs[..]) {
            Some(&[inner, times]) => {
                let times = body.constant(times)?.to_i64_vec().ok()?;
                times.iter().all(|n| *n == 1).then_some(inner)?
            }
            _ => mask,
        };
        let &[list, time, _] = &body.made_by(mask, "TensorListGetItem")?.inputs[..] else { return None };
        Some(Choice { at: [list, time], new, old })
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

/// Whether weights of the state, read again, are cut behind two of three parts, and products in two: the second of the
/// weights; itself again, end of the first cut and begin of the second, then the sizes of parts, or their ends and begins.
fn in_parts(body: &Part, weights: &[Output], more: &[Output]) -> Option<bool> {
    let &[again, end, begin, ref cuts @ ..] = more else { return None };
    let read = |o: Output| body.made_by(o, "ReadVariableOp").and_then(|n| n.inputs.first());
    let recurrent = *weights.get(1)?;
    let same = again == recurrent || read(again).is_some() && read(again) == read(recurrent);
    let numbers = |o: Output| body.constant(o)?.to_i64_vec().ok();
    let column = |o: Output| numbers(o)?.get(1).copied();
    let two = column(end)?;
    let units = two / 2;
    let parted = match *cuts {
        [sizes] => {
            let sizes = numbers(sizes)?;
            // What is left is the third part, and nothing.
            sizes.len() == 3 && sizes[..2] == [units, units] && sizes[2] < 1
        }
        [first, second, third] => [column(first)?, column(second)?, column(third)?] == [units, units, two],
        _ => false,
    };
    Some(same && units > 0 && units * 2 == two && column(begin)? == two && parted)
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
        assert_eq!(SPELLINGS.len(), 8);
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
    fn a_gru_that_resets_before_is_one_step() {
        let weights = [numbers(&[2, 12], 2), numbers(&[4, 12], 3), numbers(&[12], 4)];
        for way in [Gru::Split, Gru::Cut] {
            for two in [8, 6] {
                let inputs = [numbers(&[5, 3, 2], 1), numbers(&[3, 4], 7)];
                let trace = |b: &mut Builder, x: &[Sym], w: &[Sym]| {
                    layer(b, x[0], &x[1..], w, true, |b, args| {
                        let (end, begin) = (b.ints(&[0, 8])?, b.ints(&[0, 8])?);
                        let mut args = args.to_vec();
                        args.extend([args[3], end, begin]);
                        args.extend(match way {
                            Gru::Split => vec![b.ints(&[4, 4, if two == 8 { -1 } else { 0 }])?],
                            Gru::Cut => vec![b.ints(&[0, 4])?, b.ints(&[0, two - 4])?, b.ints(&[0, two])?],
                        });
                        Ok(vec![gru_before_step(b, &args, way)?])
                    })
                };
                // Parts of another width aren't a GRU's; the loop itself refuses them, or broadcasts.
                if way == Gru::Split || two == 8 {
                    let ops = agree(&inputs, &weights, trace);
                    assert!(ops.contains(&LOOP.to_owned()), "{ops:?}");
                }
            }
        }
    }

    #[test]
    fn a_plain_layer_is_one_step() {
        let weights = [numbers(&[2, 4], 2), numbers(&[4, 4], 3), numbers(&[4], 4)];
        for n in [2, 3] {
            let inputs = [numbers(&[5, 3, 2], 1), numbers(&[3, 4], 7)];
            let ops = agree(&inputs, &weights[..n], |b, x, w| {
                layer(b, x[0], &x[1..], w, true, |b, args| Ok(vec![simple_step(b, args, n == 3)?]))
            });
            assert!(ops.contains(&LOOP.to_owned()), "{ops:?}");
        }
    }

    /// An LSTM's loop with a mask, as Keras traces it. `tamper` changes what a state is where the mask is false.
    fn masked(all: bool, zeros: i32, tamper: bool) -> Vec<String> {
        let weights = [numbers(&[2, 16], 2), numbers(&[4, 16], 3), numbers(&[16], 4)];
        let before =
            if all { Tensor::zeros(DType::F32, [3, 4]).expect("tensor") } else { numbers(&[3, 4], 9) };
        let inputs = [
            numbers(&[5, 3, 2], 1),
            before,
            numbers(&[3, 4], 7),
            numbers(&[3, 4], 8),
            numbers(&[5, 3, 1], 6),
        ];
        agree(&inputs, &weights, |b, x, w| {
            let zero = b.scalar(0.0f32)?;
            let mask = b.op("Less").input(zero).input(x[4]).one()?;
            let list = |b: &mut Builder, of: Sym| {
                let shape = b.ints(&[-1, -1])?;
                b.op("TensorListFromTensor").input(of).input(shape).one()
            };
            let (xs, masks) = (list(b, x[0])?, list(b, mask)?);
            let (steps, start, element) = (b.scalar(5i32)?, b.scalar(0i32)?, b.ints(&[-1, -1])?);
            let outs = b
                .op("TensorListReserve")
                .input(element)
                .input(steps)
                .attr("element_dtype", DType::F32)
                .one()?;
            let state = [start, outs, x[1], x[2], x[3]];
            let mut captures = vec![steps, xs, masks];
            captures.extend(w);
            captures.push(x[1]);
            let done = b.while_loop(
                "while",
                &state,
                &captures,
                |b, s, c| b.less(s[0], c[0]),
                |b, s, c| {
                    let get = |b: &mut Builder, list: Sym, dtype: DType| {
                        let shape = b.ints(&[-1, -1])?;
                        b.op("TensorListGetItem")
                            .inputs(&[list, s[0], shape])
                            .attr("element_dtype", dtype)
                            .one()
                    };
                    let (x, mask) = (get(b, c[1], DType::F32)?, get(b, c[2], DType::Bool)?);
                    let once = b.ints(&[1, 1])?;
                    let mask = b.op("Tile").input(mask).input(once).one()?;
                    let next = lstm_states(b, &[x, s[3], s[4], c[3], c[4], c[5]], true)?;
                    let otherwise = match zeros {
                        0 => s[2],
                        1 => b.op("ZerosLike").input(next[0]).one()?,
                        _ => c[6],
                    };
                    let out = b.select(mask, next[0], otherwise)?;
                    let h = b.select(mask, next[0], if tamper { s[4] } else { s[3] })?;
                    let cell = b.select(mask, next[1], s[4])?;
                    let outs = b.op("TensorListSetItem").inputs(&[s[1], s[0], out]).one()?;
                    let one = b.scalar(1i32)?;
                    Ok(vec![b.add(s[0], one)?, outs, out, h, cell])
                },
            )?;
            let any = b.ints(&[-1, -1])?;
            let sequence =
                b.op("TensorListStack").input(done[1]).input(any).attr("element_dtype", DType::F32).one()?;
            Ok(vec![sequence, done[2], done[3], done[4]])
        })
    }

    #[test]
    fn a_masked_layer_is_one_step() {
        for zeros in [0, 1, 2] {
            // Where the output before the first isn't zero, the kernel runs the loop itself.
            for all in [true, false] {
                let ops = masked(all, zeros, false);
                assert!(ops.contains(&LOOP.to_owned()), "{ops:?}");
            }
        }
        let ops = masked(true, 0, true);
        assert!(!ops.contains(&LOOP.to_owned()), "another state stays: {ops:?}");
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
