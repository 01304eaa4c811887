//! `modelark diff`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use modelark::artifact::{Architecture, Functions, Value as Stored, Variable, archive_form};
use modelark::tensor::kernels::array::cast;
use modelark::{Artifact, DType, Error, Limits, Load, Open, Place, Result, Tensor, describe};
use serde_json::{Map, Value, json};

use crate::Verdict;
use crate::output::{self, Style, Text};
use crate::progress::Progress;
use crate::{restore, tensors};

/// Compare two models, of the same format or not: layers, variables, functions, training config
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// One model
    a: PathBuf,
    /// The other
    b: PathBuf,
    /// How far apart values may lie; by default every bit counts
    #[arg(long, value_name = "DIFFERENCE", default_value_t = 0.0)]
    tolerance: f64,
    /// Compare variables alone
    #[arg(long)]
    variables: bool,
    /// Tell why the first, a checkpoint or another file of weights, can't be restored into the second, a model
    #[arg(long, conflicts_with_all = ["tolerance", "variables"])]
    why_not_restore: bool,
    /// Print the differences as JSON
    #[arg(long)]
    json: bool,
}

/// One thing in which the models differ.
#[derive(Debug, Clone, PartialEq)]
struct Difference {
    /// Which part of a model: `architecture`, `variables`, `functions`, `training`.
    part: &'static str,
    /// What differs.
    place: String,
    /// How.
    what: String,
}

/// A model as it is compared.
struct Side {
    artifact: Artifact,
    variables: Vec<(String, Variable)>,
    /// Whether variables go by the names of an architecture, as they do in every format.
    canonical: bool,
}

impl Diff {
    pub(crate) fn run(&self) -> Result<Verdict> {
        if self.why_not_restore {
            return restore::explain(&self.a, &self.b, self.json);
        }
        let (mut a, mut b) = (layered(&self.a)?, layered(&self.b)?);
        if a.canonical != b.canonical || !a.canonical {
            (a, b) = (raw(&self.a)?, raw(&self.b)?);
        }
        let mut found = Vec::new();
        if !self.variables {
            architectures(&a.artifact, &b.artifact, &mut found);
        }
        let compared = self.variables(&a, &b, &mut found)?;
        if !self.variables {
            functions(a.artifact.functions.as_ref(), b.artifact.functions.as_ref(), &mut found)?;
            training(&a.artifact, &b.artifact, &mut found);
        }
        self.print(&found, compared)?;
        Ok(if found.is_empty() { Verdict::Good } else { Verdict::Bad })
    }

    /// Compares variables by name, or in order where no name is shared; tells how many were compared.
    fn variables(&self, a: &Side, b: &Side, found: &mut Vec<Difference>) -> Result<usize> {
        let progress = Progress::new("comparing", tensors::total_bytes(&a.variables));
        let mut difference = |place: &str, what: String| {
            found.push(Difference { part: "variables", place: place.to_owned(), what });
        };
        let names: BTreeMap<&str, &Variable> = b.variables.iter().map(|(n, v)| (n.as_str(), v)).collect();
        let shared = a.variables.iter().any(|(n, _)| names.contains_key(n.as_str()));
        let in_order = !shared && a.variables.len() == b.variables.len();
        let mut compared = 0;
        for (i, (name, left)) in a.variables.iter().enumerate() {
            let right =
                if in_order { b.variables.get(i).map(|(_, v)| v) } else { names.get(name.as_str()).copied() };
            let Some(right) = right else {
                difference(name, format!("only in {}", self.a.display()));
                continue;
            };
            compared += 1;
            if let Some(what) = self.values(left, right)? {
                difference(name, what);
            }
            progress.advance(left.nbytes().unwrap_or(0));
        }
        if !in_order {
            let known: BTreeSet<&str> = a.variables.iter().map(|(n, _)| n.as_str()).collect();
            for (name, _) in b.variables.iter().filter(|(n, _)| !known.contains(n.as_str())) {
                difference(name, format!("only in {}", self.b.display()));
            }
        }
        Ok(compared)
    }

    /// How two variables differ, if they do.
    fn values(&self, a: &Variable, b: &Variable) -> Result<Option<String>> {
        if a.shape != b.shape {
            return Ok(Some(format!("shape {} or {}", output::shape(&a.shape), output::shape(&b.shape))));
        }
        if a.dtype != b.dtype {
            return Ok(Some(format!("dtype {} or {}", a.dtype, b.dtype)));
        }
        match (&a.value, &b.value) {
            (Stored::None, Stored::None) => return Ok(None),
            (Stored::None, _) | (_, Stored::None) => return Ok(Some("only one has a value".to_owned())),
            _ => {}
        }
        let (a, b) = (a.load()?, b.load()?);
        if a.bit_eq(&b) {
            return Ok(None);
        }
        let Some(Distance { max, mean, cosine }) = distance(&a, &b)? else {
            return Ok(Some("strings differ".to_owned()));
        };
        if self.tolerance > 0.0 && max <= self.tolerance {
            return Ok(None);
        }
        Ok(Some(format!("max difference {max:.3e}, mean {mean:.3e}, cosine {cosine:.6}")))
    }

    fn print(&self, found: &[Difference], compared: usize) -> Result<()> {
        if self.json {
            let one = |d: &Difference| json!({"part": d.part, "place": d.place, "what": d.what});
            let list: Vec<Value> = found.iter().map(one).collect();
            return output::json(
                &json!({"equal": found.is_empty(), "compared": compared, "differences": list}),
            );
        }
        let mut text = Text::new();
        let mut part = "";
        for difference in found {
            if difference.part != part {
                part = difference.part;
                text.heading(part);
            }
            text.line(format!("  {}: {}", difference.place, difference.what));
        }
        let compared = output::count(compared, "variable");
        let verdict = if found.is_empty() {
            text.paint(format!("no differences ({compared} compared)"), Style::Good)
        } else {
            text.paint(
                format!("{} ({compared} compared)", output::count(found.len(), "difference")),
                Style::Bad,
            )
        };
        text.line(verdict);
        text.print()
    }
}

/// A model through its layers, so that weights go by the same names whatever the format.
fn layered(path: &PathBuf) -> Result<Side> {
    let artifact = Open::new().artifact(path)?;
    if artifact.architecture.is_some()
        && let Ok(model) = Load::new().path(path)
        && let Some(layers) = model.layers()
        && let Ok((mut made, _)) = layers.to_artifact(layers.dialect())
    {
        // The functions that the file has count, not those that were traced.
        made.functions = artifact.functions;
        let variables = made.objects.variables().into_iter().map(|(_, path, v)| (path, v.clone())).collect();
        return Ok(Side { artifact: made, variables, canonical: true });
    }
    Ok(Side { variables: tensors::of_artifact(&artifact), artifact, canonical: false })
}

/// A model as its file has it.
fn raw(path: &PathBuf) -> Result<Side> {
    let place = Place::of_path(path);
    let (artifact, format) = Open::new().place(&place)?;
    let variables = tensors::of_file(&artifact, format, &place, &Limits::default())?;
    Ok(Side { artifact, variables, canonical: false })
}

/// How far two numeric tensors of one shape lie apart; NaN beside NaN is no distance.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Distance {
    /// The greatest difference of two elements.
    max: f64,
    /// The mean of the differences.
    mean: f64,
    /// The cosine of the angle between them: 1 for tensors that differ by a positive factor; NaN beside zeros.
    cosine: f64,
}

/// The distance of two tensors; none of strings.
fn distance(a: &Tensor, b: &Tensor) -> Result<Option<Distance>> {
    if a.dtype() == DType::String {
        return Ok(None);
    }
    let wide = if a.dtype().is_complex() { DType::C128 } else { DType::F64 };
    let numbers = |t: &Tensor| -> Result<Vec<f64>, Error> {
        let t = cast(t, wide)?;
        Ok(match wide {
            DType::C128 => {
                t.elements::<modelark::tensor::Complex64>()?.iter().flat_map(|c| [c.re, c.im]).collect()
            }
            _ => t.elements::<f64>()?.into_owned(),
        })
    };
    let (a, b) = (numbers(a)?, numbers(b)?);
    let mut max = 0f64;
    let (mut sum, mut product, mut squares) = (0f64, 0f64, (0f64, 0f64));
    for (x, y) in a.iter().zip(&b) {
        let distance = match (x.is_nan(), y.is_nan()) {
            (true, true) => 0.0,
            (false, false) if x == y => 0.0,
            (false, false) => (x - y).abs(),
            _ => f64::INFINITY,
        };
        max = max.max(distance);
        sum += distance;
        product += x * y;
        squares = (squares.0 + x * x, squares.1 + y * y);
    }
    let mean = if a.is_empty() { 0.0 } else { sum / a.len() as f64 };
    Ok(Some(Distance { max, mean, cosine: product / (squares.0 * squares.1).sqrt() }))
}

fn architectures(a: &Artifact, b: &Artifact, found: &mut Vec<Difference>) {
    let mut difference = |place: String, what: String| {
        found.push(Difference { part: "architecture", place, what });
    };
    match (&a.architecture, &b.architecture) {
        (None, None) => {}
        (Some(a), Some(b)) if a.dialect != b.dialect => {
            difference("dialect".to_owned(), format!("{} or {}", a.dialect, b.dialect));
        }
        (Some(a), Some(b)) => {
            // Files of different kinds hold one config in different forms.
            let form = |x: &Architecture| archive_form(&x.config, x.dialect);
            configs(&form(a), &form(b), "model", &mut difference);
        }
        (one, _) => {
            let which = if one.is_some() { "first" } else { "second" };
            difference("model".to_owned(), format!("only the {which} has layers"));
        }
    }
}

/// Keys that say nothing of a model: what a layer was built with follows from the others, and ids are of a process.
const INCIDENTAL: [&str; 2] = ["build_config", "shared_object_id"];

/// Walks two configs side by side. Lists of layers are named by their layers; a key that is absent is `null`.
fn configs(a: &Value, b: &Value, place: &str, difference: &mut impl FnMut(String, String)) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys: BTreeSet<&String> = x.keys().chain(y.keys()).collect();
            for key in keys.into_iter().filter(|key| !INCIDENTAL.contains(&key.as_str())) {
                let place = format!("{place}.{key}");
                let (x, y) = (x.get(key).filter(|v| !v.is_null()), y.get(key).filter(|v| !v.is_null()));
                match (x, y) {
                    (Some(x), Some(y)) => configs(x, y, &place, difference),
                    (Some(x), None) => difference(place, format!("{} or absent", short(x))),
                    (None, Some(y)) => difference(place, format!("absent or {}", short(y))),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            for (i, (x, y)) in x.iter().zip(y).enumerate() {
                let name = x.get("config").and_then(|c| c.get("name")).and_then(Value::as_str);
                let place = match name {
                    Some(name) => name.to_owned(),
                    None => format!("{place}[{i}]"),
                };
                configs(x, y, &place, difference);
            }
        }
        (Value::Number(x), Value::Number(y)) if x.as_f64() == y.as_f64() => {}
        (a, b) if a == b => {}
        (a, b) => difference(place.to_owned(), format!("{} or {}", short(a), short(b))),
    }
}

fn short(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text,
    }
}

/// Compares what functions take and give, and which ops they are made of.
fn functions(a: Option<&Functions>, b: Option<&Functions>, found: &mut Vec<Difference>) -> Result<()> {
    let mut difference = |place: &str, what: String| {
        found.push(Difference { part: "functions", place: place.to_owned(), what });
    };
    let (Some(a), Some(b)) = (a, b) else {
        if a.is_some() != b.is_some() {
            let which = if a.is_some() { "first" } else { "second" };
            difference("model", format!("only the {which} has functions"));
        }
        return Ok(());
    };
    let told = |f: &Functions| -> BTreeMap<String, String> {
        let one = |(name, c): (&String, &modelark::artifact::ConcreteFunction)| {
            (plain(name), format!("{} -> {}", describe(&c.input), describe(&c.output)))
        };
        f.concrete.iter().map(one).collect()
    };
    let (x, y) = (told(a), told(b));
    let names: BTreeSet<&String> = x.keys().chain(y.keys()).collect();
    for name in names {
        match (x.get(name), y.get(name)) {
            (Some(x), Some(y)) if x != y => difference(name, format!("{x} or {y}")),
            (Some(_), None) => difference(name, "only in the first".to_owned()),
            (None, Some(_)) => difference(name, "only in the second".to_owned()),
            _ => {}
        }
    }
    let (x, y) = (ops(a)?, ops(b)?);
    let names: BTreeSet<&String> = x.keys().chain(y.keys()).collect();
    for op in names {
        let (n, m) = (x.get(op).copied().unwrap_or(0), y.get(op).copied().unwrap_or(0));
        if n != m {
            difference(op, format!("{n} or {m} nodes"));
        }
    }
    Ok(())
}

/// A function's name without the number that TensorFlow makes it unique by.
fn plain(name: &str) -> String {
    match name.rsplit_once('_') {
        Some((base, number)) if number.chars().all(|c| c.is_ascii_digit()) => base.to_owned(),
        _ => name.to_owned(),
    }
}

/// How many nodes of each op there are.
fn ops(functions: &Functions) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    let mut count = |op: &str| match counts.get_mut(op) {
        Some(count) => *count += 1,
        None => drop(counts.insert(op.to_owned(), 1)),
    };
    functions.library.ops(|_, op| count(op))?;
    functions.session.iter().flat_map(|s| &s.graph.nodes).for_each(|node| count(&node.op));
    Ok(counts)
}

fn training(a: &Artifact, b: &Artifact, found: &mut Vec<Difference>) {
    let compile = |x: &Artifact| match x.training.as_ref().and_then(|t| t.compile.as_ref()) {
        Some(Value::Object(entries)) => spelt_alike(entries),
        _ => Value::Null,
    };
    let mut difference = |place: String, what: String| {
        found.push(Difference { part: "training", place, what });
    };
    configs(&compile(a), &compile(b), "compile", &mut difference);
    let state = |x: &Artifact| {
        x.training.as_ref().and_then(|t| t.optimizer.as_ref()).map_or(0, |o| o.variables.len())
    };
    let (n, m) = (state(a), state(b));
    if n != m {
        difference("optimizer".to_owned(), format!("{n} or {m} variables"));
    }
}

/// A compile config with its optimizer under one key and by its bare class, as neither file may have it.
fn spelt_alike(entries: &Map<String, Value>) -> Value {
    let spell = |(key, value): (&String, &Value)| {
        if key != "optimizer" && key != "optimizer_config" {
            return (key.clone(), value.clone());
        }
        let mut optimizer = value.clone();
        if let Value::Object(node) = &mut optimizer {
            let class = node.get("class_name").and_then(Value::as_str).unwrap_or_default();
            let bare = class.strip_prefix("Custom>").unwrap_or(class).to_owned();
            node.insert("class_name".to_owned(), bare.into());
            for key in ["module", "registered_name"] {
                node.shift_remove(key);
            }
        }
        ("optimizer".to_owned(), optimizer)
    };
    Value::Object(entries.iter().map(spell).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_of_values() {
        let t = |v: &[f32]| Tensor::from_slice(v, [v.len()]).expect("tensor");
        let told = distance(&t(&[1.0, f32::NAN, 4.0]), &t(&[1.5, f32::NAN, 4.0])).expect("distance");
        assert!(told.is_some_and(|d| (d.max, d.mean) == (0.5, 0.5 / 3.0)));
        let told = distance(&t(&[1.0, 2.0]), &t(&[2.0, 4.0])).expect("distance");
        assert!(told.is_some_and(|d| (d.cosine - 1.0).abs() < 1e-12));
        let told = distance(&t(&[f32::NAN]), &t(&[0.0])).expect("distance");
        assert!(told.is_some_and(|d| (d.max, d.mean) == (f64::INFINITY, f64::INFINITY)));
    }

    #[test]
    fn configs_differ_by_place() {
        let layer = |units: u32| json!({"layers": [{"class_name": "Dense", "config": {"name": "d", "units": units}}]});
        let mut found = Vec::new();
        configs(&layer(3), &layer(4), "model", &mut |place, what| found.push((place, what)));
        assert_eq!(found, [("d.config.units".to_owned(), "3 or 4".to_owned())]);
        found.clear();
        configs(&json!({"a": 1, "b": 2.0}), &json!({"a": 1.0, "c": []}), "m", &mut |p, w| found.push((p, w)));
        assert_eq!(
            found,
            [("m.b".to_owned(), "2.0 or absent".to_owned()), ("m.c".to_owned(), "absent or []".to_owned())]
        );
    }
}
