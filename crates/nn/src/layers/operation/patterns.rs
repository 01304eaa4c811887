//! Axes rearranged by a pattern, such as `b (h w) c -> b c h w`.

use std::collections::HashMap;

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, Result};

use super::arguments::{Args, value_of};
use super::table::Form::One;
use super::table::{Row, row};

/// The axes of one side, each with the names that it is made of.
fn side(text: &str) -> Result<Vec<Vec<&str>>> {
    let wrong = || Error::invalid(format!("the pattern {text:?} can't be read"));
    let (mut axes, mut rest) = (Vec::new(), text.trim());
    while let Some(first) = rest.chars().next() {
        let (axis, after) = if first == '(' {
            let (inner, after) = rest[1..].split_once(')').ok_or_else(wrong)?;
            (inner.split_whitespace().collect(), after)
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || c == '(').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            (vec![name], after)
        };
        let named = |name: &&str| name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if axis.is_empty() || !axis.iter().all(named) {
            return Err(wrong());
        }
        axes.push(axis);
        rest = after.trim_start();
    }
    Ok(axes)
}

/// The product of extents.
fn product(args: &mut Args<'_, '_>, extents: &[Sym]) -> Result<Sym> {
    match extents {
        [] => args.call.int(1),
        [one] => Ok(*one),
        [first, rest @ ..] => rest.iter().try_fold(*first, |product, &next| args.call.apply("Mul", &[product, next])),
    }
}

fn rearranged(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("tensor")?;
    let pattern = args.text("pattern").ok_or_else(|| Error::missing("the op has no pattern"))?;
    let (from, to) = pattern.split_once("->").ok_or_else(|| Error::invalid(format!("the pattern {pattern:?} has no \"->\"")))?;
    let (from, to) = (side(from)?, side(to)?);
    // Extents are keywords of the call, by the axes' names.
    let mut sizes: HashMap<String, i64> = HashMap::new();
    for (name, argument) in args.call.inputs().arguments() {
        if let Some(size) = value_of(argument).and_then(|v| v.as_i64()) {
            sizes.insert(name.clone(), size);
        }
    }
    let mut extents: HashMap<&str, Sym> = HashMap::new();
    let mut apart = Vec::new();
    for (axis, names) in from.iter().enumerate() {
        let whole = args.call.extent(x, axis)?;
        let mut known = Vec::new();
        let mut open = None;
        for &name in names {
            match sizes.get(name).filter(|_| names.len() > 1) {
                Some(&size) => {
                    let size = args.call.int(size)?;
                    known.push(size);
                    extents.insert(name, size);
                }
                None if open.is_none() => open = Some(name),
                None => return Err(Error::missing(format!("the op doesn't say how long axis {name:?} is"))),
            }
        }
        if let Some(name) = open {
            let known = product(args, &known)?;
            let rest = if names.len() == 1 { whole } else { args.call.apply("FloorDiv", &[whole, known])? };
            extents.insert(name, rest);
        }
        apart.extend(names.iter().filter_map(|name| extents.get(name).copied()));
    }
    let flat: Vec<&str> = from.iter().flatten().copied().collect();
    let find = |name: &&str| flat.iter().position(|n| n == name);
    let order: Option<Vec<usize>> = to.iter().flatten().map(find).collect();
    let order = order.filter(|o| o.len() == flat.len() && (0..flat.len()).all(|i| o.contains(&i)));
    let order = order.ok_or_else(|| Error::invalid(format!("both sides of {pattern:?} must name the same axes")))?;
    let shape = args.call.shape(&apart)?;
    let y = args.call.apply("Reshape", &[x, shape])?;
    let y = args.call.transpose(y, &order)?;
    let mut joined = Vec::with_capacity(to.len());
    for names in &to {
        let own: Vec<Sym> = names.iter().filter_map(|name| extents.get(name).copied()).collect();
        joined.push(product(args, &own)?);
    }
    let shape = args.call.shape(&joined)?;
    args.call.apply("Reshape", &[y, shape])
}

pub(super) const ROWS: &[Row] = &[row("einops.Rearrange(tensor pattern)", One(rearranged))];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read() {
        assert_eq!(side(" b (h w) c ").unwrap(), [vec!["b"], vec!["h", "w"], vec!["c"]]);
        assert_eq!(side("a(b c)").unwrap(), [vec!["a"], vec!["b", "c"]]);
        assert!(side("a (b").is_err() && side("()").is_err() && side("a ...").is_err());
    }
}
