//! `cargo xtask interop`: real TensorFlow and Keras load what Modelark wrote, and the other way round.

mod environment;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::workspace::{Outcome, cargo, root};
use environment::ENVIRONMENTS;
pub use environment::{Environment, PEERS};

const HELP: &str = "\
cargo xtask interop [OPTIONS]

Makes virtual environments with pinned TensorFlow and Keras, and checks every recipe of saving and
loading in both directions. What was installed before is used again while the pins are the same.

  --wide                hundreds of models and ops more: Keras's applications and layers, modules, graphs, ops
  --only TEXT           only checks whose name contains TEXT, e.g. \"recipe 5\" (may be repeated)
  --environment NAME    only tf215, tf221 or tf221-keras2 (may be repeated)
  --skip-missing        leave out an environment for which no fitting Python is found
  --keep-examples       take what the examples wrote last time
  --verbose             list every check, not only those that failed

Environment variables:
  MODELARK_INTEROP_PYTHON_215   a Python that has the packages of tests/interop/requirements-tf215.txt
  MODELARK_INTEROP_PYTHON_221   the same for requirements-tf221.txt and requirements-tf221-alone.txt
";

/// The examples, each of which writes a model in a folder.
const EXAMPLES: &[&str] = &[
    "custom_layer_saved_model",
    "weights_checkpoint",
    "saver",
    "compiled_saved_model",
    "hdf5_model",
    "json_npy",
    "keras_archive",
];

#[derive(Debug, Default)]
struct Options {
    wide: bool,
    only: Vec<String>,
    environments: Vec<String>,
    skip_missing: bool,
    keep_examples: bool,
    verbose: bool,
}

impl Options {
    fn parse(args: &[String]) -> Outcome<Option<Self>> {
        let mut options = Options::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().cloned().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--wide" => options.wide = true,
                "--only" => options.only.push(value()?),
                "--environment" => {
                    options.environments.push(environment(&value()?)?.name.to_owned());
                }
                "--skip-missing" => options.skip_missing = true,
                "--keep-examples" => options.keep_examples = true,
                "--verbose" => options.verbose = true,
                "--help" | "-h" => {
                    print!("{HELP}");
                    return Ok(None);
                }
                other => return Err(format!("there is no option {other}; see --help").into()),
            }
        }
        Ok(Some(options))
    }
}

/// Runs the recipes in every environment and prints the table.
pub fn run(args: &[String]) -> Outcome {
    let Some(options) = Options::parse(args)? else { return Ok(()) };
    let work = root().join("target").join("interop");
    fs::create_dir_all(&work)?;

    let mut pythons = Vec::new();
    for environment in ENVIRONMENTS {
        if !options.environments.is_empty() && !options.environments.iter().any(|n| n == environment.name) {
            continue;
        }
        match environment.python(&work)? {
            Some(python) => pythons.push((environment, python)),
            None if options.skip_missing => {
                eprintln!("left out {}: {}", environment.name, environment.wanted())
            }
            None => return Err(format!("{}; --skip-missing goes on without it", environment.wanted()).into()),
        }
    }

    let mut failures = Vec::new();
    let program = build(&mut failures)?;
    let examples = work.join("examples");
    if !options.keep_examples {
        failures.extend(write_examples(&examples)?);
    }
    let mut rows = Vec::new();
    for (environment, result) in check(&pythons, &options, &work, &program, &examples)? {
        match result {
            Ok(results) => rows.extend(results),
            Err(error) => failures.push(format!("{}: {error}", environment.name)),
        }
    }
    if options.verbose {
        print!("{}", table::list(&rows));
    }
    let columns: Vec<&str> = pythons.iter().map(|(environment, _)| environment.name).collect();
    print!("{}", table::render(&rows, &columns));
    failures.extend(table::failures(&rows));
    if rows.is_empty() {
        failures.push("no check was run".to_owned());
    }
    if failures.is_empty() {
        println!("all {} checks passed", rows.len());
        return Ok(());
    }
    for failure in &failures {
        eprintln!("{failure}");
    }
    Err(format!("{} of {} checks failed", failures.len(), rows.len()).into())
}

/// The environment of this name.
pub fn environment(name: &str) -> Outcome<&'static Environment> {
    ENVIRONMENTS.iter().find(|e| e.name == name).ok_or_else(|| {
        let names: Vec<&str> = ENVIRONMENTS.iter().map(|e| e.name).collect();
        format!("no environment {name}; there are {}", names.join(", ")).into()
    })
}

/// Where a built program lies.
pub fn program(profile: &str, name: &str) -> PathBuf {
    target().join(profile).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// Builds the program, whose path it returns, and the examples, of which one that doesn't build is a failure.
fn build(failures: &mut Vec<String>) -> Outcome<PathBuf> {
    cargo(&["build", "--quiet", "--package", "modelark-cli", "--bins"], &[])?;
    let examples = ["build", "--quiet", "--package", "modelark", "--examples", "--keep-going"];
    if let Err(error) = cargo(&examples, &[]) {
        failures.push(error.to_string());
    }
    let program = program("debug", "modelark");
    if program.is_file() { Ok(program) } else { Err(format!("{} wasn't built", program.display()).into()) }
}

/// Where cargo builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Lets every example write its model in both dialects; tells which didn't.
fn write_examples(folder: &Path) -> Outcome<Vec<String>> {
    if folder.is_dir() {
        fs::remove_dir_all(folder)?;
    }
    let mut failures = Vec::new();
    for name in EXAMPLES {
        for dialect in ["keras2", "keras3"] {
            let out = folder.join(format!("{name}-{dialect}"));
            fs::create_dir_all(&out)?;
            let program = target()
                .join("debug")
                .join("examples")
                .join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
            let output = Command::new(&program).arg(&out).arg(dialect).current_dir(root()).output();
            match output {
                Ok(output) if output.status.success() => {}
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    failures.push(format!("example {name} {dialect}: {}: {}", output.status, said.trim()));
                }
                Err(error) => failures.push(format!("example {name}: {error}")),
            }
        }
    }
    Ok(failures)
}

type Results<'a> = Vec<(&'a Environment, Result<Vec<table::Row>, String>)>;

/// Runs the checks of each environment, two environments at a time.
fn check<'a>(
    pythons: &[(&'a Environment, PathBuf)],
    options: &Options,
    work: &Path,
    program: &Path,
    examples: &Path,
) -> Outcome<Results<'a>> {
    let mut results = Vec::new();
    for pair in pythons.chunks(2) {
        let mut running: Vec<(&Environment, PathBuf, Child)> = Vec::new();
        for (environment, python) in pair {
            let out = work.join(format!("{}.jsonl", environment.name));
            let _ = fs::remove_file(&out);
            let mut command = Command::new(python);
            command.arg(root().join("tests/interop/run.py"));
            command.arg("--program").arg(program).arg("--examples").arg(examples);
            command.arg("--work").arg(work.join("work")).arg("--results").arg(&out);
            command.args(environment.arguments);
            if options.wide {
                command.arg("--wide");
            }
            for text in &options.only {
                command.arg("--only").arg(text);
            }
            // Messages of TensorFlow's own are kept for whoever looks for them.
            let log = fs::File::create(work.join(format!("{}.log", environment.name)))?;
            command.stdout(Stdio::inherit()).stderr(log).stdin(Stdio::null());
            command.env("TF_CPP_MIN_LOG_LEVEL", "3").current_dir(work);
            running.push((*environment, out, command.spawn()?));
        }
        for (environment, out, mut child) in running {
            let status = child.wait()?;
            let read = table::read(&out).and_then(|rows| match status.code() {
                Some(0 | 1) if !rows.is_empty() || !options.only.is_empty() => Ok(rows),
                _ => {
                    let log = work.join(format!("{}.log", environment.name));
                    Err(format!("the checks ended with {status}; see {}", log.display()))
                }
            });
            results.push((environment, read));
        }
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Outcome<Option<Options>> {
        Options::parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let options = parse(&["--only", "recipe 5", "--environment", "tf221", "--verbose"])
            .expect("options")
            .expect("some");
        assert_eq!(
            (options.only, options.environments),
            (vec!["recipe 5".to_owned()], vec!["tf221".to_owned()])
        );
        assert!(options.verbose && !options.skip_missing);
        assert!(parse(&["--environment", "tf1"]).is_err());
        assert!(parse(&["--only"]).is_err());
        assert!(parse(&["--quick"]).is_err());
        assert!(parse(&["--help"]).expect("help").is_none());
    }
}
