//! `cargo xtask test`: all tests, then each feature of the facade by itself.

use serde_json::Value;

use crate::workspace::{Outcome, cargo, packages};

const FACADE: &str = "modelark";

/// Runs the tests of the workspace (further arguments go to `cargo test`), and builds the facade
/// with no feature and with each one alone.
pub fn run(args: &[String]) -> Outcome {
    let mut test = vec!["test", "--workspace"];
    test.extend(args.iter().map(String::as_str));
    cargo(&test, &[])?;

    let alone = ["check", "--package", FACADE, "--no-default-features"];
    cargo(&alone, &[])?;
    for feature in features()? {
        cargo(&[&alone[..], &["--features", &feature]].concat(), &[])?;
    }
    Ok(())
}

fn features() -> Outcome<Vec<String>> {
    let packages = packages()?;
    let facade = packages
        .iter()
        .find(|package| package.get("name").and_then(Value::as_str) == Some(FACADE))
        .ok_or_else(|| format!("no package {FACADE} in the workspace"))?;
    let features = facade.get("features").and_then(Value::as_object);
    Ok(features
        .into_iter()
        .flat_map(|features| features.keys())
        .filter(|name| *name != "default")
        .cloned()
        .collect())
}
