//! `cargo xtask bench`: the crates' benchmarks, and whole processes beside Python with TensorFlow.

use std::process::Command;

use crate::interop;
use crate::workspace::{Outcome, cargo, root};

const HELP: &str = "\
cargo xtask bench [OPTIONS]

Runs the benchmarks of the workspace's crates, then compares the program, built with --release, with
Python and TensorFlow in the environment of `cargo xtask interop`, and prints the ratios.

  --processes-only      leave the crates' benchmarks out
  --gigabytes N         the size of the large model, 1 by default
";

/// Runs the benchmarks.
pub fn run(args: &[String]) -> Outcome {
    let mut processes_only = false;
    let mut gigabytes = "1".to_owned();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--processes-only" => processes_only = true,
            "--gigabytes" => gigabytes = args.next().cloned().ok_or("--gigabytes needs a number")?,
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(());
            }
            other => return Err(format!("there is no option {other}; see --help").into()),
        }
    }
    if !processes_only {
        cargo(&["bench", "--workspace", "--benches"], &[])?;
    }
    cargo(&["build", "--quiet", "--release", "--package", "modelark-cli"], &[])?;
    let work = root().join("target").join("interop");
    std::fs::create_dir_all(&work)?;
    let python = interop::environment("tf221")?.python(&work)?;
    let python =
        python.ok_or_else(|| interop::environment("tf221").map_or_else(|e| e.to_string(), |e| e.wanted()))?;
    let status = Command::new(python)
        .arg(root().join("tests/interop/bench.py"))
        .arg("--program")
        .arg(interop::program("release"))
        .arg("--work")
        .arg(work.join("bench"))
        .args(["--gigabytes", &gigabytes])
        .env("TF_CPP_MIN_LOG_LEVEL", "3")
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("the comparison ended with {status}").into()) }
}
