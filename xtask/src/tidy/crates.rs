//! Who may depend on whom, and what every manifest must say.

use std::fs;

use serde_json::Value;

use super::Findings;
use crate::workspace::Outcome;

/// Each crate, and the crates of the workspace that it may name. Arrows point down; what is not here
/// is not allowed, for tests and builds neither.
const ARROWS: &[(&str, &[&str])] = &[
    ("modelark-tensor", &[]),
    ("modelark-proto", &[]),
    ("modelark-stablehlo", &["tensor"]),
    ("modelark-graph", &["stablehlo", "tensor"]),
    ("modelark-artifact", &["graph", "tensor"]),
    ("modelark-checkpoint", &["artifact", "proto", "tensor"]),
    ("modelark-hdf5", &["artifact", "tensor"]),
    ("modelark-json", &["artifact", "tensor"]),
    ("modelark-keras", &["artifact", "hdf5", "tensor"]),
    ("modelark-savedmodel", &["artifact", "checkpoint", "graph", "proto", "tensor"]),
    ("modelark-nn", &["artifact", "graph", "tensor"]),
    ("modelark", &["artifact", "checkpoint", "graph", "hdf5", "json", "keras", "nn", "savedmodel", "tensor"]),
    ("modelark-cli", &["modelark"]),
];

/// Packages beside the stack, which may look into any crate.
const ANYTHING: &[&str] = &["modelark-tests", "xtask"];

/// Checks the packages that `cargo metadata` lists.
pub fn check(packages: &[Value]) -> Outcome<Findings> {
    let mut findings = arrows(packages);
    for package in packages {
        let manifest = string(package, "manifest_path");
        if !inherits_lints(&fs::read_to_string(manifest)?) {
            findings.push(format!("{manifest}: needs `[lints]` with `workspace = true`"));
        }
    }
    Ok(findings)
}

fn arrows(packages: &[Value]) -> Findings {
    let ours: Vec<&str> = packages.iter().map(|package| string(package, "name")).collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = string(package, "name");
        if ANYTHING.contains(&name) {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            findings.push(format!("{name}: not in the table of arrows between crates"));
            continue;
        };
        let dependencies = package.get("dependencies").and_then(Value::as_array);
        for dependency in dependencies.into_iter().flatten() {
            let to = string(dependency, "name");
            let short = to.strip_prefix("modelark-").unwrap_or(to);
            if ours.contains(&to) && !allowed.contains(&short) {
                findings.push(format!("{name}: must not depend on {to}"));
            }
        }
    }
    findings
}

fn inherits_lints(manifest: &str) -> bool {
    manifest
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "[lints]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.replace(' ', "") == "workspace=true")
}

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, dependencies: &[&str]) -> Value {
        let dependencies: Vec<Value> = dependencies.iter().map(|name| json!({ "name": name })).collect();
        json!({ "name": name, "dependencies": dependencies })
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let packages = [
            package("modelark-tensor", &["half"]),
            package("modelark-graph", &["modelark-tensor", "rayon"]),
            package("modelark-cli", &["modelark", "clap"]),
            package("modelark", &["modelark-graph"]),
        ];
        assert_eq!(arrows(&packages), Findings::new());

        let packages = [
            package("modelark-tensor", &["modelark-graph"]),
            package("modelark-graph", &[]),
            package("modelark-cli", &["modelark-graph"]),
            package("xtask", &["modelark-graph"]),
            package("modelark-onnx", &[]),
        ];
        assert_eq!(
            arrows(&packages),
            [
                "modelark-tensor: must not depend on modelark-graph",
                "modelark-cli: must not depend on modelark-graph",
                "modelark-onnx: not in the table of arrows between crates",
            ]
        );
    }

    #[test]
    fn lints_count_only_in_their_section() {
        assert!(inherits_lints("[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n"));
        assert!(!inherits_lints("[lints]\n\n[dependencies]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\nworkspace = true\n"));
    }
}
