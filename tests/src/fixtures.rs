//! The committed files that TensorFlow and Keras wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use modelark::artifact::Variable;
use modelark::checkpoint::Reader;
use modelark::{DType, Limits, Place, Tensor};
use serde_json::Value;

use crate::Outcome;

/// One case of one environment: `tf221/mlp`.
#[derive(Debug, Clone)]
pub struct Case {
    /// The environment and the case's name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What its `meta.json` says.
    pub meta: Value,
}

/// The folder of the fixtures.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Every case, sorted by name.
///
/// # Errors
/// When the folder can't be read, or a `meta.json` isn't JSON.
pub fn cases() -> Outcome<Vec<Case>> {
    let mut cases = Vec::new();
    for environment in sorted(&folder())? {
        for path in sorted(&environment)? {
            if !path.join("meta.json").is_file() {
                continue;
            }
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            cases.push(Case::open(format!("{}/{}", name(&environment), name(&path)), path)?);
        }
    }
    if cases.is_empty() { Err(format!("there are no fixtures in {}", folder().display())) } else { Ok(cases) }
}

/// The case of this name.
///
/// # Errors
/// When there is none.
pub fn case(name: &str) -> Outcome<Case> {
    Case::open(name.to_owned(), folder().join(name))
}

fn sorted(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_dir()).collect();
    paths.sort();
    Ok(paths)
}

impl Case {
    /// A folder with a `meta.json`.
    ///
    /// # Errors
    /// When that isn't there.
    pub fn open(name: String, folder: PathBuf) -> Outcome<Self> {
        let path = folder.join("meta.json");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let meta = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Case { name, folder, meta })
    }

    /// The name without the environment.
    pub fn model(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }

    /// Whether Keras 2 wrote it.
    pub fn is_keras2(&self) -> bool {
        !self.name.starts_with("tf221/")
    }

    /// The files that the case lists.
    pub fn files(&self) -> Vec<String> {
        let files = self.meta.get("files").and_then(Value::as_object);
        files.into_iter().flat_map(|f| f.keys()).cloned().collect()
    }

    /// The path of one of its files.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Whether the case has the file.
    pub fn has(&self, file: &str) -> bool {
        self.path(file).exists() || self.path(&format!("{file}.index")).exists()
    }

    /// The arrays of one of its archives, such as `inputs.npz`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn arrays(&self, file: &str) -> Outcome<BTreeMap<String, Tensor>> {
        tensors(&self.path(file)).map(|t| t.into_iter().collect())
    }

    /// `in_0`, `in_1` and so on.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn inputs(&self) -> Outcome<Vec<Tensor>> {
        Ok(numbered(&self.arrays("inputs.npz")?, "in_"))
    }

    /// `out_0`, `out_1` and so on.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn outputs(&self) -> Outcome<Vec<Tensor>> {
        Ok(numbered(&self.arrays("expected.npz")?, "out_"))
    }

    /// The weights as `get_weights()` lists them.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn weights(&self) -> Outcome<Vec<(String, Tensor)>> {
        let arrays = numbered(&self.arrays("weights.npz")?, "w_");
        let name = |i: usize| self.meta.pointer(&format!("/weights/{i}/name")).and_then(Value::as_str);
        Ok(arrays.into_iter().enumerate().map(|(i, t)| (name(i).unwrap_or_default().to_owned(), t)).collect())
    }
}

/// Unpacks the cases of an archive that are wanted into a folder, and gives their folders.
pub fn unpack(archive: &Path, out: &Path, wanted: impl Fn(&str) -> bool) -> Outcome<Vec<PathBuf>> {
    let said = |e: std::io::Error| e.to_string();
    let mut archive =
        zip::ZipArchive::new(fs::File::open(archive).map_err(said)?).map_err(|e| e.to_string())?;
    let mut cases = Vec::new();
    for i in 0..archive.len() {
        let mut member = archive.by_index(i).map_err(|e| e.to_string())?;
        let name = member.name().map_err(|e| e.to_string())?.into_owned();
        let (case, _) = name.split_once('/').ok_or_else(|| format!("{name} is in no case's folder"))?;
        if !wanted(case) {
            continue;
        }
        let folder = out.join(case);
        fs::create_dir_all(&folder).map_err(said)?;
        let mut file = fs::File::create(out.join(&name)).map_err(said)?;
        std::io::copy(&mut member, &mut file).map_err(said)?;
        if !cases.contains(&folder) {
            cases.push(folder);
        }
    }
    Ok(cases)
}

/// Every tensor of a file under its name there: a checkpoint's by their keys.
///
/// # Errors
/// When the file can't be read.
pub fn tensors(path: &Path) -> Outcome<Vec<(String, Tensor)>> {
    let place = Place::of_path(path);
    let format = modelark::detect(&place).map_err(|e| e.to_string())?;
    let variables: Vec<(String, Variable)> = if format.name() == "checkpoint" {
        let reader = Reader::open(&place, &Limits::default()).map_err(|e| e.to_string())?;
        let variables = reader.variables().map_err(|e| e.to_string())?;
        variables.into_iter().map(|v| (v.name.clone(), v)).collect()
    } else {
        let artifact = modelark::open(path).map_err(|e| e.to_string())?;
        artifact.objects.variables().into_iter().map(|(_, path, v)| (path, v.clone())).collect()
    };
    // Variants are iterators and the like, not values.
    let values = variables.into_iter().filter(|(_, v)| v.dtype != DType::Variant);
    values
        .map(|(name, variable)| {
            let tensor = variable.load().map_err(|e| format!("{name}: {e}"))?;
            Ok((name, tensor))
        })
        .collect()
}

fn numbered(arrays: &BTreeMap<String, Tensor>, prefix: &str) -> Vec<Tensor> {
    (0..).map_while(|i| arrays.get(&format!("{prefix}{i}")).cloned()).collect()
}
/// Copies a fixture's file or folder to where a test may damage it.
///
/// # Errors
/// When that can't be done.
pub fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
