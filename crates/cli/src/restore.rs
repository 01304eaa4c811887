//! `modelark diff --why-not-restore`: what a model wants of a file of weights, and what that has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use modelark::artifact::{Dialect, Format, Variable, nearest};
use modelark::{Error, Limits, Load, Open, Place, Result, Save};
use serde_json::json;

use crate::Verdict;
use crate::output::{self, Style, Text};
use crate::tensors;

/// Tensors of a file by name: dtype and shape as people read them.
type Listing = BTreeMap<String, String>;

/// What stands between a file of weights and a model.
#[derive(Debug, Default, PartialEq)]
struct Gap {
    /// How many tensors are there as the model wants them.
    matched: usize,
    /// Tensors of the right names and wrong shapes or dtypes: name, what the file has, what the model wants.
    differ: Vec<(String, String, String)>,
    /// Tensors that the model wants and the file lacks, with what is nearest to them there.
    missing: Vec<(String, String, Vec<String>)>,
    /// Tensors of the file that the model has no place for.
    unused: Vec<(String, String)>,
}

/// Compares the names in a file with those under which the model itself would be saved in that format.
pub(crate) fn explain(weights: &Path, model: &Path, as_json: bool) -> Result<Verdict> {
    let place = Place::of_path(weights);
    let (artifact, format) = Open::new().place(&place)?;
    let has = listing(tensors::of_file(&artifact, format, &place, &Limits::default())?);
    let mut best: Option<(Dialect, Gap)> = None;
    let mut failed = None;
    for dialect in [Dialect::Keras3, Dialect::Keras2] {
        match wanted(model, format, dialect) {
            Ok(wants) => {
                let gap = Gap::between(&has, &wants);
                if best
                    .as_ref()
                    .is_none_or(|(_, b)| gap.matched + gap.differ.len() > b.matched + b.differ.len())
                {
                    best = Some((dialect, gap));
                }
            }
            Err(e) => failed = Some(e),
        }
    }
    let Some((dialect, gap)) = best else {
        return Err(failed.unwrap_or_else(|| Error::unsupported("this format can't hold weights")));
    };
    // The reader knows older names too: what it says counts.
    let restores = Load::new().weights(weights).path(model).err();
    gap.print(dialect, restores.as_ref(), as_json)?;
    Ok(if restores.is_none() { Verdict::Good } else { Verdict::Bad })
}

fn listing(tensors: Vec<(String, Variable)>) -> Listing {
    let numeric = tensors.into_iter().filter(|(name, _)| name != modelark::checkpoint::OBJECT_GRAPH_KEY);
    let plain = |name: String| name.trim_end_matches("/.ATTRIBUTES/VARIABLE_VALUE").to_owned();
    numeric.map(|(name, v)| (plain(name), format!("{} {}", v.dtype, output::shape(&v.shape)))).collect()
}

/// The tensors that the model has when it is saved in that format.
fn wanted(model: &Path, format: &dyn Format, dialect: Dialect) -> Result<Listing> {
    let model = Load::new().initialize(0).path(model)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("weights");
    model.save_with(&path, &Save::new().format(format.name()).dialect(dialect).without_training())?;
    let place = Place::of_path(&path);
    let (artifact, format) = Open::new().format(format.name()).place(&place)?;
    Ok(listing(tensors::of_file(&artifact, format, &place, &Limits::default())?))
}

impl Gap {
    fn between(has: &Listing, wants: &Listing) -> Self {
        let mut gap = Gap::default();
        let unused: BTreeSet<&String> = has.keys().filter(|k| !wants.contains_key(*k)).collect();
        for (name, want) in wants {
            match has.get(name) {
                Some(found) if found == want => gap.matched += 1,
                Some(found) => gap.differ.push((name.clone(), found.clone(), want.clone())),
                None => {
                    let alike = unused.iter().filter(|n| has.get(**n) == Some(want));
                    let mut near = candidates(name, alike.map(|n| n.as_str()));
                    if near.is_empty() {
                        near = candidates(name, unused.iter().map(|n| n.as_str()));
                    }
                    gap.missing.push((name.clone(), want.clone(), near));
                }
            }
        }
        gap.unused =
            unused.into_iter().map(|n| (n.clone(), has.get(n).cloned().unwrap_or_default())).collect();
        gap
    }

    fn print(&self, dialect: Dialect, refusal: Option<&Error>, as_json: bool) -> Result<()> {
        let refusal = refusal.map(ToString::to_string);
        if as_json {
            let differ: Vec<_> =
                self.differ.iter().map(|(n, h, w)| json!({"name": n, "file": h, "model": w})).collect();
            let missing: Vec<_> = self
                .missing
                .iter()
                .map(|(n, w, near)| json!({"name": n, "model": w, "nearest": near}))
                .collect();
            let unused: Vec<_> = self.unused.iter().map(|(n, h)| json!({"name": n, "file": h})).collect();
            return output::json(&json!({
                "restores": refusal.is_none(), "error": refusal, "dialect": dialect.to_string(), "matched": self.matched,
                "differ": differ, "missing": missing, "unused": unused,
            }));
        }
        let mut text = Text::new();
        text.line(format!("{} as the model ({dialect}) wants them", output::count(self.matched, "tensor")));
        if !self.differ.is_empty() {
            text.heading("of another shape or dtype");
            for (name, found, want) in &self.differ {
                text.line(format!("  {name}: the file has {found}, the model {want}"));
            }
        }
        if !self.missing.is_empty() {
            text.heading("wanted by the model, not in the file");
            for (name, want, near) in &self.missing {
                let near =
                    if near.is_empty() { String::new() } else { format!("; nearest: {}", near.join(", ")) };
                text.line(format!("  {name} {want}{near}"));
            }
        }
        if !self.unused.is_empty() {
            text.heading("in the file, not wanted by the model");
            for (name, found) in &self.unused {
                text.line(format!("  {name} {found}"));
            }
        }
        let verdict = match &refusal {
            None => text.paint("it restores", Style::Good),
            Some(e) => text.paint(format!("it doesn't restore: {e}"), Style::Bad),
        };
        text.line(verdict);
        text.print()
    }
}

/// The names nearest to this one: those that end alike first, for the front of a name is what objects around it are called.
fn candidates<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Vec<String> {
    const SHOWN: usize = 3;
    let common = |n: &str| name.rsplit('/').zip(n.rsplit('/')).take_while(|(x, y)| x == y).count();
    let mut found: Vec<&str> = among.collect();
    let near = nearest(name, found.iter().copied()).unwrap_or_default();
    found.sort_by_key(|n| (!near.contains(&format!("{n:?}")), std::cmp::Reverse(common(n))));
    found
        .into_iter()
        .filter(|n| near.contains(&format!("{n:?}")) || common(n) > 0)
        .take(SHOWN)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmatched_names_get_candidates() {
        let listing = |items: &[(&str, &str)]| -> Listing {
            items.iter().map(|(n, s)| ((*n).to_owned(), (*s).to_owned())).collect()
        };
        let has = listing(&[("a/kernel", "f (2, 3)"), ("b/kernel", "f (3, 4)"), ("c/bias", "f (4,)")]);
        let wants = listing(&[("a/kernel", "f (2, 3)"), ("net/b/kernel", "f (3, 4)"), ("c/bias", "f (5,)")]);
        let gap = Gap::between(&has, &wants);
        assert_eq!(gap.matched, 1);
        assert_eq!(gap.differ, [("c/bias".to_owned(), "f (4,)".to_owned(), "f (5,)".to_owned())]);
        assert_eq!(
            gap.missing,
            [("net/b/kernel".to_owned(), "f (3, 4)".to_owned(), vec!["b/kernel".to_owned()])]
        );
        assert_eq!(gap.unused, [("b/kernel".to_owned(), "f (3, 4)".to_owned())]);
    }
}
