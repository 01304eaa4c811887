//! Parts of a tensor, as Python's brackets say them.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};
use serde_json::{Value, json};

use super::arguments::{Args, value_of};
use super::table::Form::One;
use super::table::{Row, row};
use crate::Argument;

/// One item within the brackets.
enum Item {
    Ellipsis,
    NewAxis,
    Index(Argument<usize>),
    Slice([Option<Argument<usize>>; 3]),
}

fn item(argument: &Argument<usize>) -> Result<Item> {
    let slice = |bounds: &Value| {
        let part = |key| bounds.get(key).filter(|v| !v.is_null()).cloned().map(Argument::Value);
        Item::Slice([part("start"), part("stop"), part("step")])
    };
    Ok(match argument {
        Argument::Value(Value::Null) => Item::NewAxis,
        Argument::Value(value) if is_ellipsis(value) => Item::Ellipsis,
        Argument::Value(value) => match value.get("class_name").and_then(Value::as_str) {
            Some("__slice__") => slice(value.get("config").unwrap_or(&Value::Null)),
            Some(other) => return Err(Error::unsupported(format!("an index of class {other:?}"))),
            None if value.is_object() => slice(value),
            None => Item::Index(argument.clone()),
        },
        Argument::Dict(items) => {
            let part = |key: &str| {
                let found = items.iter().find(|(k, _)| k == key).map(|(_, a)| a.clone());
                found.filter(|a| !matches!(a, Argument::Value(Value::Null)))
            };
            Item::Slice([part("start"), part("stop"), part("step")])
        }
        other => Item::Index(other.clone()),
    })
}

/// Whether a value is Python's `...`.
pub(super) fn is_ellipsis(value: &Value) -> bool {
    value.get("class_name").and_then(Value::as_str) == Some("__ellipsis__")
        || matches!(value.as_str(), Some("..." | "Ellipsis"))
}

fn get(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let key = args.named.iter().find(|(n, _)| *n == "key").map(|(_, a)| a.clone());
    let key = key.ok_or_else(|| Error::missing("the op has no key"))?;
    let items = match &key {
        Argument::List(items) => items.iter().map(item).collect::<Result<Vec<_>>>()?,
        one => vec![item(one)?],
    };
    let (mut bounds, mut masks) = ([Vec::new(), Vec::new(), Vec::new()], [0i64; 5]);
    let [begin_mask, end_mask, ellipsis, new_axis, shrink] = &mut masks;
    for (i, item) in items.into_iter().enumerate() {
        let bit = 1i64.checked_shl(i as u32).ok_or_else(|| Error::limit("too many indices"))?;
        let one = || Argument::Value(json!(1));
        let parts = match item {
            Item::Ellipsis => {
                *ellipsis |= bit;
                [one(), one(), one()]
            }
            Item::NewAxis => {
                *new_axis |= bit;
                [one(), one(), one()]
            }
            Item::Index(index) => {
                *shrink |= bit;
                [index.clone(), index, one()]
            }
            Item::Slice([start, stop, step]) => {
                *begin_mask |= if start.is_none() { bit } else { 0 };
                *end_mask |= if stop.is_none() { bit } else { 0 };
                [start.unwrap_or_else(one), stop.unwrap_or_else(one), step.unwrap_or_else(one)]
            }
        };
        for (bound, part) in bounds.iter_mut().zip(parts) {
            bound.push(part);
        }
    }
    let mut ends = Vec::with_capacity(3);
    for bound in bounds {
        ends.push(vector(args, &bound)?);
    }
    // An index ends where the next one begins; what shrinks isn't asked for its end.
    let slice = args.call.op("StridedSlice").input(x).inputs(&ends);
    let slice = slice.attr("begin_mask", masks[0]).attr("end_mask", masks[1]).attr("ellipsis_mask", masks[2]);
    Ok(slice.attr("new_axis_mask", masks[3]).attr("shrink_axis_mask", masks[4]).one()?)
}

/// Indices as an `int32` vector.
fn vector(args: &mut Args<'_, '_>, items: &[Argument<usize>]) -> Result<Sym> {
    let known: Option<Vec<i64>> = items.iter().map(|i| value_of(i)?.as_i64()).collect();
    if let Some(known) = known {
        return args.call.ints(&known);
    }
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        all.push(match item {
            Argument::Tensor(i) => {
                let &x = args.given.get(*i).ok_or_else(|| Error::mismatch("an index that isn't given"))?;
                args.call.cast(x, DType::I32)?
            }
            other => {
                let index = value_of(other).and_then(|v| v.as_i64());
                args.call.int(index.ok_or_else(|| Error::unsupported("an index that isn't a number"))?)?
            }
        });
    }
    args.call.shape(&all)
}

fn slice(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("inputs")?;
    let (start, size) = (args.shape("start_indices")?, args.shape("shape")?);
    args.call.apply("Slice", &[x, start, size])
}

fn strided(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let (begin, end) = (args.shape("begin")?, args.shape("end")?);
    let strides = match args.find("strides") {
        Some(_) => args.shape("strides")?,
        None => args.call.apply("OnesLike", &[begin])?,
    };
    let mut call = args.call.op("StridedSlice").inputs(&[x, begin, end, strides]);
    let masks = ["begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"];
    let values: Vec<i64> = masks.iter().map(|m| args.named.iter().find(|(n, _)| n == m)).map(|found| {
        found.and_then(|(_, a)| value_of(a)).and_then(|v| v.as_i64()).unwrap_or(0)
    }).collect();
    for (mask, value) in masks.iter().zip(values) {
        call = call.attr(mask, value);
    }
    Ok(call.one()?)
}

/// Brackets as Keras 3 spells them: slices as nodes of their own.
pub(super) fn of_keras3<T>(argument: Argument<T>) -> Argument<T> {
    fn node(value: Value) -> Value {
        match value {
            Value::Array(items) => items.into_iter().map(node).collect(),
            // Keras 3 takes what has no config for a plain dict.
            value if is_ellipsis(&value) => json!({"class_name": "__ellipsis__", "config": {}}),
            Value::Object(o) if o.len() == 3 && ["start", "stop", "step"].iter().all(|k| o.contains_key(*k)) => {
                json!({"class_name": "__slice__", "config": o})
            }
            other => other,
        }
    }
    match argument {
        Argument::Value(value) => Argument::Value(node(value)),
        Argument::List(items) => Argument::List(items.into_iter().map(of_keras3).collect()),
        Argument::Dict(items) => {
            let part = |(k, a): &(String, Argument<T>)| match a {
                Argument::Value(v) => Some((k.clone(), v.clone())),
                _ => None,
            };
            // Bounds that are tensors stay among the arguments.
            match items.iter().map(part).collect::<Option<serde_json::Map<_, _>>>() {
                Some(plain) => Argument::Value(node(Value::Object(plain))),
                None => Argument::Dict(items),
            }
        }
        other => other,
    }
}

/// Brackets as Keras 2 spells them: slices as plain dicts.
pub(super) fn respelled<T>(argument: Argument<T>) -> Argument<T> {
    match argument {
        Argument::Value(value) if value.get("class_name").and_then(Value::as_str) == Some("__slice__") => {
            let part = |key: &str| value.pointer(&format!("/config/{key}")).cloned().unwrap_or_default();
            Argument::Value(json!({"start": part("start"), "stop": part("stop"), "step": part("step")}))
        }
        Argument::List(items) => Argument::List(items.into_iter().map(respelled).collect()),
        other => other,
    }
}

pub(super) const ROWS: &[Row] = &[
    row("numpy.GetItem(x key) = __operators__.getitem(tensor:x slice_spec:key)", One(get)),
    row("core.Slice(inputs start_indices; shape) = slice(input_:inputs begin:start_indices size:shape)", One(slice)),
    row("= strided_slice(input_:x begin end strides begin_mask end_mask ellipsis_mask new_axis_mask shrink_axis_mask)", One(strided)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_go_from_one_generation_to_the_other_and_back() {
        let plain = json!([{"start": 2, "stop": 9, "step": null}, 3]);
        let of = |value: &Value| value.as_array().into_iter().flatten().cloned().map(Argument::<()>::Value).collect();
        let nodes = of_keras3(Argument::List(of(&plain)));
        let Argument::List(items) = &nodes else { unreachable!("a list stays one") };
        assert!(matches!(&items[0], Argument::Value(v) if v["class_name"] == "__slice__" && v["config"]["stop"] == 9));
        let dict = |k: &str, v: Value| (k.to_owned(), Argument::<()>::Value(v));
        let read = Argument::Dict(vec![dict("start", json!(2)), dict("stop", json!(9)), dict("step", Value::Null)]);
        assert!(matches!(of_keras3(read), Argument::Value(v) if &v == match &items[0] { Argument::Value(v) => v, _ => &plain }));
        let Argument::List(back) = respelled(nodes) else { unreachable!("a list stays one") };
        assert!(matches!(&back[..], [Argument::Value(a), Argument::Value(b)] if *a == plain[0] && *b == plain[1]));
    }
}
