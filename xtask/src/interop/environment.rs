//! The Pythons: which versions fit, where their packages are installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{Outcome, root};

/// One column of the table: a TensorFlow with one of its Kerases.
pub struct Environment {
    /// Its name, which is also that of its fixtures.
    pub name: &'static str,
    /// The folder of its packages; two environments may share one.
    folder: &'static str,
    /// Names a Python that has the packages already.
    variable: &'static str,
    /// Pythons for which the packages exist, the best first.
    versions: &'static [&'static str],
    /// Files of pins, and whether their dependencies are installed too.
    requirements: &'static [(&'static str, bool)],
    /// What `run.py` is told.
    pub arguments: &'static [&'static str],
}

const TF221_REQUIREMENTS: &[(&str, bool)] =
    &[("requirements-tf221.txt", true), ("requirements-tf221-alone.txt", false)];
const TF221_VERSIONS: &[&str] = &["3.11", "3.12", "3.13"];

/// Every environment.
pub const ENVIRONMENTS: &[Environment] = &[
    Environment {
        name: "tf215",
        folder: "tf215",
        variable: "MODELARK_INTEROP_PYTHON_215",
        versions: &["3.11"],
        requirements: &[("requirements-tf215.txt", true)],
        arguments: &[],
    },
    Environment {
        name: "tf221",
        folder: "tf221",
        variable: "MODELARK_INTEROP_PYTHON_221",
        versions: TF221_VERSIONS,
        requirements: TF221_REQUIREMENTS,
        arguments: &[],
    },
    Environment {
        name: "tf221-keras2",
        folder: "tf221",
        variable: "MODELARK_INTEROP_PYTHON_221",
        versions: TF221_VERSIONS,
        requirements: TF221_REQUIREMENTS,
        arguments: &["--keras2"],
    },
];

/// Other engines, and the TensorFlow that makes models for them: no column of the table.
pub const PEERS: Environment = Environment {
    name: "peers",
    folder: "peers",
    variable: "MODELARK_PEERS_PYTHON",
    versions: TF221_VERSIONS,
    requirements: &[("requirements-peers.txt", true)],
    arguments: &[],
};

impl Environment {
    /// What is needed, for a message.
    pub fn wanted(&self) -> String {
        format!(
            "{} needs CPython {} (looked for {}); install one, or name a Python with its packages in {}",
            self.name,
            self.versions.join(" or "),
            commands(self.versions).join(", "),
            self.variable
        )
    }

    /// The Python with this environment's packages, installed under `work` if need be. None when no Python fits.
    pub fn python(&self, work: &Path) -> Outcome<Option<PathBuf>> {
        if let Some(given) = std::env::var_os(self.variable) {
            let python = PathBuf::from(given);
            return match version(&python) {
                Some(_) => Ok(Some(python)),
                None => {
                    Err(format!("{} names {}, which is no Python", self.variable, python.display()).into())
                }
            };
        }
        let pins = self.pins()?;
        let folder = work.join(self.folder);
        let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
        let stamp = folder.join("modelark-pins.txt");
        if version(&python).is_some() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == pins) {
            return Ok(Some(python));
        }
        let Some(base) = self.base() else { return Ok(None) };
        eprintln!("installing {} with {} in {}", self.folder, base, folder.display());
        if folder.is_dir() {
            fs::remove_dir_all(&folder)?;
        }
        call(Command::new(&base).args(["-m", "venv"]).arg(&folder))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        for (file, dependencies) in self.requirements {
            let mut install = Command::new(&python);
            install.args(pip);
            if !dependencies {
                install.arg("--no-deps");
            }
            call(install.arg("--requirement").arg(requirements_folder().join(file)))?;
        }
        fs::write(&stamp, pins)?;
        Ok(Some(python))
    }

    /// The text of the pins, by which a changed one is noticed.
    fn pins(&self) -> Outcome<String> {
        let mut pins = String::new();
        for (file, _) in self.requirements {
            pins += &fs::read_to_string(requirements_folder().join(file))?;
        }
        Ok(pins)
    }

    /// The first Python on the path of a version that fits.
    fn base(&self) -> Option<String> {
        commands(self.versions).into_iter().find(|command| {
            version(Path::new(command)).is_some_and(|version| self.versions.contains(&version.as_str()))
        })
    }
}

fn requirements_folder() -> PathBuf {
    root().join("tests").join("interop")
}

/// What a Python of one of these versions may be called.
fn commands(versions: &[&str]) -> Vec<String> {
    let exact = versions.iter().map(|version| format!("python{version}"));
    exact.chain(["python3".to_owned(), "python".to_owned()]).collect()
}

/// `3.11` for a Python that runs.
fn version(python: &Path) -> Option<String> {
    let print = "import sys; print('%d.%d' % sys.version_info[:2])";
    let output = Command::new(python).args(["-c", print]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success()).then(|| text.trim().to_owned())
}

fn call(command: &mut Command) -> Outcome {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_versions_are_tried_before_whatever_is_the_default() {
        assert_eq!(commands(&["3.11", "3.12"]), ["python3.11", "python3.12", "python3", "python"]);
    }

    #[test]
    fn what_is_no_python_has_no_version() {
        assert_eq!(version(Path::new("no-such-python")), None);
    }

    #[test]
    fn every_environment_has_pins() {
        for environment in ENVIRONMENTS {
            let pins = environment.pins().expect("requirements are committed");
            assert!(pins.contains("tensorflow-cpu=="), "{}", environment.name);
        }
    }
}
