//! `cargo xtask bench`: the crates' benchmarks, whole processes beside Python with TensorFlow, and runs beside other engines.

use std::process::Command;

use crate::interop;
use crate::workspace::{Outcome, cargo, root};

const HELP: &str = "\
cargo xtask bench [OPTIONS]

Runs the benchmarks of the workspace's crates, then compares the program, built with --release, with
Python and TensorFlow in the environment of `cargo xtask interop`, and prints the ratios.

  --processes-only      leave the crates' benchmarks out
  --peers [OPTIONS]     only run models beside ONNX Runtime, OpenVINO, rten, tract and TensorFlow, in turns; what follows
                        goes to tests/interop/peers.py, as `--only resnet50 --threads 2` (see its --help)
";

/// Runs the benchmarks.
pub fn run(args: &[String]) -> Outcome {
    let mut processes_only = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--processes-only" => processes_only = true,
            "--peers" => return peers(args.as_slice()),
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
    compare(interop::environment("tf221")?, "bench.py", "modelark", "bench", &[])
}

/// Runs the models of `peers.py` here and in the engines of its environment.
fn peers(args: &[String]) -> Outcome {
    cargo(&["build", "--quiet", "--release", "--package", "modelark-tests", "--bin", "timed"], &[])?;
    compare(&interop::PEERS, "peers.py", "timed", "peers-models", args)
}

/// Runs a script of `tests/interop` in an environment, with a program built for speed and a folder of its own.
fn compare(
    environment: &interop::Environment,
    script: &str,
    program: &str,
    folder: &str,
    args: &[String],
) -> Outcome {
    let work = root().join("target").join("interop");
    std::fs::create_dir_all(&work)?;
    let python = environment.python(&work)?.ok_or_else(|| environment.wanted())?;
    let status = Command::new(python)
        .arg(root().join("tests/interop").join(script))
        .arg("--program")
        .arg(interop::program("release", program))
        .arg("--work")
        .arg(work.join(folder))
        .args(args)
        .env("TF_CPP_MIN_LOG_LEVEL", "3")
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("the comparison ended with {status}").into()) }
}
