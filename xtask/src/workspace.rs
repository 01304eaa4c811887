//! What several verbs need: where the workspace is, and how to call cargo there.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// What a verb ends with. An error is printed with the verb's name before it.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The top of the workspace.
pub fn root() -> PathBuf {
    // Cargo tells where the package is now; it may have moved since it was built.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map(PathBuf::from).unwrap_or(package)
}

/// Runs cargo at the top of the workspace with extra environment variables, its output passed through.
pub fn cargo(args: &[&str], envs: &[(&str, &str)]) -> Outcome {
    let shown = format!("cargo {}", args.join(" "));
    eprintln!("$ {shown}");
    let status = cargo_command().args(args).envs(envs.iter().copied()).status()?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` failed: {status}").into()) }
}

/// Builds a program of the package of tests and runs it with these arguments.
pub fn test_program(name: &str, args: &[impl AsRef<str>]) -> Outcome {
    cargo(&test_program_command(name, args), &[])
}

/// What such a program prints.
pub fn test_program_output(name: &str, args: &[&str]) -> Outcome<String> {
    output(&test_program_command(name, args))
}

fn test_program_command<'a>(name: &'a str, args: &'a [impl AsRef<str>]) -> Vec<&'a str> {
    let mut command = vec!["run", "--quiet", "--package", "modelark-tests", "--bin", name, "--"];
    command.extend(args.iter().map(AsRef::as_ref));
    command
}

/// What cargo prints.
fn output(args: &[&str]) -> Outcome<String> {
    let output = cargo_command().args(args).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The packages of the workspace as `cargo metadata` describes them.
pub fn packages() -> Outcome<Vec<Value>> {
    let metadata: Value =
        serde_json::from_str(&output(&["metadata", "--no-deps", "--format-version", "1"])?)?;
    match metadata.get("packages") {
        Some(Value::Array(packages)) => Ok(packages.clone()),
        _ => Err("cargo metadata has no packages".into()),
    }
}

fn cargo_command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}
