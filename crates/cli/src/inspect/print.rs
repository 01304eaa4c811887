//! The description as text.

use std::collections::HashSet;

use modelark::artifact::{Kind, ObjectId, Objects};
use modelark::{Artifact, Port, Result};
use serde_json::Value;

use super::describe::Description;
use crate::output::{self, Style, Text};
use crate::tensors;

/// How many rows of a long table are shown.
const ROWS: usize = 40;

pub(super) fn print(d: &Description, artifact: &Artifact, full: bool) -> Result<()> {
    let shown = if full { usize::MAX } else { ROWS };
    let mut text = Text::new();
    head(d, &mut text);
    layers(d, shown, &mut text);
    signatures(d, shown, &mut text);
    tree(&artifact.objects, shown, &mut text);
    variables(d, shown, &mut text);
    training(d, &mut text);
    if !d.assets.is_empty() {
        text.heading("Assets");
        let rows: Vec<_> =
            d.assets.iter().map(|(name, size)| vec![name.clone(), output::bytes(*size as u64)]).collect();
        text.table(&["name", "size"], &[1], &rows);
    }
    if !d.modules.is_empty() {
        text.heading("StableHLO modules");
        let number = |n: usize| n.to_string();
        let rows: Vec<_> = d
            .modules
            .iter()
            .map(|m| vec![m.producer.clone(), number(m.functions), number(m.operations)])
            .collect();
        text.table(&["written as", "functions", "operations"], &[1, 2], &rows);
    }
    if !d.missing_ops.is_empty() {
        text.heading("Ops that can't run here");
        for missing in &d.missing_ops {
            let place = |(function, node): &(Option<String>, String)| match function {
                Some(function) => format!("node {node:?} of function {function:?}"),
                None => format!("node {node:?}"),
            };
            let first: Vec<String> =
                missing.nodes.iter().take(if full { usize::MAX } else { 3 }).map(place).collect();
            let more = match missing.nodes.len() - first.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            text.line(format!("  {}: {}{more}", missing.op, first.join(", ")));
        }
    }
    text.print()
}

fn head(d: &Description, text: &mut Text) {
    text.heading(&d.path);
    text.line(format!("  format      {}", d.format));
    if !d.writers.is_empty() {
        let writers: Vec<String> =
            d.writers.iter().map(|(who, version)| format!("{who} {version}")).collect();
        text.line(format!("  written by  {}", writers.join(", ")));
    }
    if !d.meta_graphs.is_empty() {
        let tags: Vec<String> = d.meta_graphs.iter().map(|t| t.join(",")).collect();
        text.line(format!("  MetaGraphs  {}", tags.join("  ")));
    }
    if let Some((dialect, version)) = &d.keras {
        let version = version.as_ref().map(|v| format!(" (Keras {v})")).unwrap_or_default();
        text.line(format!("  dialect     {dialect}{version}"));
    }
}

/// The first rows of a table, and a line that says how many there are beyond.
fn shortened<T>(rows: Vec<T>, shown: usize) -> (Vec<T>, Option<String>) {
    let more = rows.len().saturating_sub(shown);
    let kept = rows.into_iter().take(shown).collect();
    (kept, (more > 0).then(|| format!("  … and {more} more (--full shows all)")))
}

fn table(text: &mut Text, heading: &[&str], right: &[usize], rows: Vec<Vec<String>>, shown: usize) {
    let (rows, more) = shortened(rows, shown);
    text.table(heading, right, &rows);
    if let Some(more) = more {
        let more = text.paint(more, Style::Dim);
        text.line(more);
    }
}

fn layers(d: &Description, shown: usize, text: &mut Text) {
    if d.layers.is_empty() {
        return;
    }
    text.heading(format!("Layers of a {} model", d.class.as_deref().unwrap_or("layer")));
    let unique = |names: &[String]| {
        let mut seen = HashSet::new();
        names.iter().filter(|n| seen.insert(n.as_str())).cloned().collect::<Vec<_>>().join(", ")
    };
    let rows = d
        .layers
        .iter()
        .map(|l| {
            let params = l.params.map(output::thousands).unwrap_or_else(|| "?".to_owned());
            let outputs = if l.outputs.is_empty() { "?".to_owned() } else { unique(&l.outputs) };
            vec![format!("{} ({})", l.name, l.class), outputs, params, unique(&l.connected_to)]
        })
        .collect();
    table(text, &["layer (type)", "output shape", "params", "connected to"], &[2], rows, shown);
    let (trained, all) = d.parameters;
    text.line(format!(
        "  parameters: {} in all, {} trained",
        output::thousands(all),
        output::thousands(trained)
    ));
    if let Some(why) = &d.unread {
        let note = text.paint(format!("  shapes aren't known: {why}"), Style::Dim);
        text.line(note);
    }
}

fn ports(ports: &[Port]) -> String {
    let one = |p: &Port| match p.name.as_str() {
        "" => format!("{}{}", p.dtype, p.shape),
        name => format!("{name}: {}{}", p.dtype, p.shape),
    };
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn signatures(d: &Description, shown: usize, text: &mut Text) {
    if !d.signatures.is_empty() {
        text.heading("Signatures");
        for s in &d.signatures {
            text.line(format!("  {}({}) -> {}", s.name, ports(&s.inputs), ports(&s.outputs)));
        }
    }
    let functions: Vec<_> =
        d.functions.iter().filter(|(name, _)| shown == usize::MAX || !is_internal(name)).collect();
    if !functions.is_empty() {
        text.heading("Functions");
        let (rows, more) = shortened(functions, shown);
        for (name, traces) in rows {
            text.line(format!("  {name}"));
            traces.iter().for_each(|t| text.line(format!("    {t}")));
        }
        if let Some(more) = more {
            text.line(more);
        }
    }
}

/// Whether a function is one of those that Keras keeps of every layer, for itself.
fn is_internal(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    ["layer-", "layer_with_weights-", "keras_api", "optimizer"].iter().any(|p| first.starts_with(p))
        || last.starts_with("call_and_return_")
        || last == "_default_save_signature"
}

/// The objects as a tree; one that was shown before is named and not entered again.
fn tree(objects: &Objects, shown: usize, text: &mut Text) {
    if objects.len() <= 1 {
        return;
    }
    text.heading("Objects");
    // What is still to be shown, last first: depth, name, object.
    let mut stack: Vec<(usize, String, ObjectId)> = vec![(0, "(root)".to_owned(), Objects::ROOT)];
    let mut lines = 0;
    let mut hidden = 0;
    let mut entered = HashSet::new();
    while let Some((depth, name, id)) = stack.pop() {
        let Some(object) = objects.get(id) else { continue };
        let again = !entered.insert(id);
        lines += 1;
        if lines > shown {
            hidden += 1;
        } else {
            let what = kind(&object.kind);
            let what =
                if again && !object.children.is_empty() { format!("{what} (shown above)") } else { what };
            let what = text.paint(what, Style::Dim);
            text.line(format!("  {}{name}  {what}", "  ".repeat(depth)));
        }
        if again {
            continue;
        }
        for (name, child) in object.children.iter().rev() {
            stack.push((depth + 1, name.clone(), *child));
        }
    }
    if hidden > 0 {
        let more = text.paint(format!("  … and {hidden} more (--full shows all)"), Style::Dim);
        text.line(more);
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Object { identifier, .. } if identifier.is_empty() => "object".to_owned(),
        Kind::Object { identifier, .. } => identifier.clone(),
        Kind::Layer(layer) => layer.class.clone(),
        Kind::List => "list".to_owned(),
        Kind::Dict => "dict".to_owned(),
        Kind::Tuple => "tuple".to_owned(),
        Kind::Variable(v) => format!("variable {}{}", v.dtype, output::shape(&v.shape)),
        Kind::Function(f) => output::count(f.concrete.len(), "trace"),
        Kind::ConcreteFunction { .. } => "function".to_owned(),
        Kind::Signatures => "signatures".to_owned(),
        Kind::Constant(t) => format!("constant {}{}", t.dtype(), output::shape(t.shape())),
        Kind::Asset(_) => "asset".to_owned(),
        Kind::Resource { .. } => "resource".to_owned(),
    }
}

fn variables(d: &Description, shown: usize, text: &mut Text) {
    if d.variables.is_empty() {
        return;
    }
    text.heading("Variables");
    let rows = d
        .variables
        .iter()
        .map(|(name, v)| {
            let size = v.nbytes().map(output::bytes).unwrap_or_default();
            vec![name.clone(), v.dtype.to_string(), output::shape(&v.shape), size]
        })
        .collect();
    table(text, &["name", "dtype", "shape", "size"], &[3], rows, shown);
    let total = output::bytes(tensors::total_bytes(&d.variables));
    text.line(format!("  {}, {total}", output::count(d.variables.len(), "variable")));
}

fn training(d: &Description, text: &mut Text) {
    if d.compile.is_none() && d.optimizer.is_none() {
        return;
    }
    text.heading("Training");
    if let Some(compile) = &d.compile {
        let optimizer = compile.get("optimizer_config").or(compile.get("optimizer"));
        if let Some(optimizer) = optimizer {
            text.line(format!("  optimizer  {}", named(optimizer)));
            for (key, value) in optimizer.get("config").and_then(Value::as_object).into_iter().flatten() {
                if !value.is_null() && key != "name" {
                    text.line(format!("    {key} = {}", named(value)));
                }
            }
        }
        for key in ["loss", "loss_weights", "metrics", "weighted_metrics"] {
            if let Some(value) = compile.get(key).filter(|v| !v.is_null()) {
                text.line(format!("  {key}  {}", named(value)));
            }
        }
    }
    if let Some((class, count)) = &d.optimizer {
        text.line(format!(
            "  state  {} of {}",
            output::count(*count, "variable"),
            if class.is_empty() { "the optimizer" } else { class }
        ));
    }
}

/// A value of a compile config in short: the class of what has one.
fn named(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(named).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => match entries.get("class_name") {
            Some(class) => {
                let name =
                    entries.get("config").and_then(|c| c.get("name").or(Some(c))).and_then(Value::as_str);
                match (class.as_str(), name) {
                    (Some("function"), Some(name)) => name.to_owned(),
                    _ => named(class),
                }
            }
            None => {
                let items = entries.iter().map(|(k, v)| format!("{k}: {}", named(v)));
                format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
            }
        },
        other => other.to_string(),
    }
}
