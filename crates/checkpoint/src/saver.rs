//! Saving and restoring chosen variables by name, with no model around them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use modelark_artifact::{Error, ErrorKind, Limits, Place, Result, Target, Value, Variable, nearest};

use crate::bundle::BundleWriter;
use crate::reader::{Located, Reader, locate};
use crate::state::{self, CheckpointState, STATE_FILE};
use crate::trackable::VALUE;
use crate::v1;

/// Which form a [`Saver`] writes (TensorFlow: `SaverDef.CheckpointFormatVersion`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WriteVersion {
    /// One table with everything in it, as TensorFlow wrote before 0.12.
    V1,
    /// A TensorBundle.
    #[default]
    V2,
}

/// Saves and restores named variables (TensorFlow: `tf.compat.v1.train.Saver`).
///
/// What it writes is what TensorFlow's writes for the same variables, and either restores the other's. It keeps the
/// `checkpoint` state file of the folder, and deletes checkpoints over [`Saver::max_to_keep`].
///
/// ```
/// use modelark_artifact::{Variable, tensor::Tensor};
/// use modelark_checkpoint::{Saver, latest_checkpoint};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let mut variables = [
///     Variable::new("layer/weights", Tensor::from_vec(vec![1f32, 2.0], [2])?),
///     Variable::new("global_step", Tensor::scalar(1000i64)),
/// ];
/// let mut saver = Saver::new().max_to_keep(3);
/// let path = saver.save(&variables, folder.join("model"), Some(1000))?;
/// assert_eq!(path, folder.join("model-1000"));
///
/// variables[1] = Variable::new("global_step", Tensor::scalar(0i64));
/// saver.restore(&mut variables, &latest_checkpoint(folder)?.expect("one was saved"))?;
/// assert_eq!(variables[1].load()?.item::<i64>()?, 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Saver {
    names: Option<BTreeMap<String, String>>,
    max_to_keep: usize,
    every: Duration,
    next_kept: SystemTime,
    state_file: String,
    version: WriteVersion,
    limits: Limits,
    kept: Vec<(PathBuf, SystemTime)>,
}

impl Default for Saver {
    fn default() -> Self {
        Saver::new()
    }
}

impl Saver {
    /// A saver with TensorFlow's defaults: five checkpoints are kept, and one every 10 000 hours for good.
    pub fn new() -> Self {
        Saver {
            names: None,
            max_to_keep: 5,
            every: Duration::ZERO,
            next_kept: UNIX_EPOCH,
            state_file: STATE_FILE.to_owned(),
            version: WriteVersion::V2,
            limits: Limits::default(),
            kept: Vec::new(),
        }
        .keep_checkpoint_every_n_hours(10_000.0)
    }

    /// Saves and restores only these variables, given as pairs of a name in the checkpoint and a variable's name
    /// (TensorFlow: a dict as `var_list`).
    pub fn names<C: Into<String>, V: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = (C, V)>,
    ) -> Self {
        self.names = Some(names.into_iter().map(|(c, v)| (v.into(), c.into())).collect());
        self
    }

    /// Keeps that many checkpoints and deletes older ones; 0 keeps all.
    pub fn max_to_keep(mut self, max_to_keep: usize) -> Self {
        self.max_to_keep = max_to_keep;
        self
    }

    /// Keeps one checkpoint of every so many hours, counted from now, for good.
    pub fn keep_checkpoint_every_n_hours(mut self, hours: f64) -> Self {
        // What is no length of time, or longer than any, means never.
        self.every = Duration::try_from_secs_f64(hours * 3600.0).unwrap_or(Duration::MAX);
        self.next_kept = later(SystemTime::now(), self.every);
        self
    }

    /// Calls the state file something other than `checkpoint` (TensorFlow: `latest_filename`).
    pub fn state_file(mut self, name: impl Into<String>) -> Self {
        self.state_file = name.into();
        self
    }

    /// Writes this form.
    pub fn write_version(mut self, version: WriteVersion) -> Self {
        self.version = version;
        self
    }

    /// Reads within these limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The prefixes of the checkpoints that it has saved and not deleted, oldest first.
    pub fn last_checkpoints(&self) -> Vec<&Path> {
        self.kept.iter().map(|(path, _)| path.as_path()).collect()
    }

    /// Takes over checkpoints that another saver saved, oldest first, to delete them in their turn; those that aren't
    /// there are passed over (TensorFlow: `recover_last_checkpoints`).
    pub fn recover_last_checkpoints(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        for path in paths {
            let saved = files_of(&path).first().and_then(|f| f.metadata().ok()?.modified().ok());
            if let Some(saved) = saved {
                self.kept.push((path, saved));
            }
        }
    }

    /// Saves the variables to `<prefix>-<step>`, or `<prefix>` without a step; gives that path.
    ///
    /// The old files of that name stay as they were until the new ones are whole.
    ///
    /// # Errors
    /// When two variables have one name, a name to be saved has no variable, or writing fails.
    pub fn save<'a>(
        &mut self,
        variables: impl IntoIterator<Item = &'a Variable>,
        prefix: impl AsRef<Path>,
        step: Option<i64>,
    ) -> Result<PathBuf> {
        let mut path = prefix.as_ref().to_path_buf();
        if let Some(step) = step {
            let mut name = path.into_os_string();
            name.push(format!("-{step}"));
            path = name.into();
        }
        let mut named = BTreeMap::new();
        for variable in variables {
            if let Some(name) = self.name_of(variable)
                && named.insert(name.to_owned(), variable).is_some()
            {
                return Err(Error::invalid(format!("two variables are called {name:?}")).in_file(path));
            }
        }
        if let Some(names) = &self.names {
            let missing = names.iter().find(|(_, name)| !named.contains_key(*name));
            if let Some((variable, _)) = missing {
                return Err(
                    Error::missing(format!("there is no variable {variable:?} to save")).in_file(path)
                );
            }
        }
        if named.is_empty() {
            return Err(Error::missing("there are no variables to save").in_file(path));
        }
        let target = Target::new(&path)?;
        match self.version {
            WriteVersion::V1 => {
                let whole = |(name, v): (&String, &&Variable)| {
                    (Variable { name: name.clone(), ..(*v).clone() }, None)
                };
                v1::write(&target, &target.name(), &named.iter().map(whole).collect::<Vec<_>>())?;
            }
            WriteVersion::V2 => {
                let mut writer = BundleWriter::new(&target, target.name())?;
                for (name, variable) in &named {
                    writer.add(name, &variable.load().map_err(|e| e.in_file(path.clone()))?)?;
                }
                writer.finish()?;
            }
        }
        target.commit()?;
        self.record(&path)?;
        Ok(path)
    }

    /// Restores the variables from the checkpoint at `path`: a prefix, one of its files, or a folder, whose latest is
    /// taken. An object-based checkpoint is searched by its variables' full names.
    ///
    /// Nothing changes unless all variables are found.
    ///
    /// # Errors
    /// When there is no checkpoint, it lacks a variable, or has it with another dtype or shape.
    pub fn restore<'a>(
        &self,
        variables: impl IntoIterator<Item = &'a mut Variable>,
        path: impl AsRef<Path>,
    ) -> Result<()> {
        let place = Place::of_path(path.as_ref());
        let reader = Reader::open(&place, &self.limits)?;
        let keys = by_full_name(&reader)?;
        let mut found = Vec::new();
        for variable in variables {
            let Some(name) = self.name_of(variable) else { continue };
            let key = keys.get(name).map_or(name, String::as_str);
            let stored = reader.variable(key).map_err(|e| {
                let e = e.in_file(place.label());
                nearest(name, keys.keys().map(String::as_str)).into_iter().fold(e, Error::help)
            })?;
            if stored.dtype != variable.dtype || stored.shape != variable.shape {
                return Err(Error::mismatch(format!(
                    "the checkpoint has {} {:?}, the variable is {} {:?}",
                    stored.dtype, stored.shape, variable.dtype, variable.shape
                ))
                .at(format!("variable {name:?}"))
                .in_file(place.label()));
            }
            found.push((stored.load()?, variable));
        }
        for (tensor, variable) in found {
            variable.value = Value::Tensor(tensor);
        }
        Ok(())
    }

    /// What a variable is called in the checkpoint, if it is to be there.
    fn name_of<'a>(&'a self, variable: &'a Variable) -> Option<&'a str> {
        match &self.names {
            Some(names) => names.get(&variable.name).map(String::as_str),
            None => Some(&variable.name),
        }
    }

    /// Counts a checkpoint that was saved, writes the state file, deletes what is too old.
    fn record(&mut self, path: &Path) -> Result<()> {
        self.kept.retain(|(kept, _)| kept != path);
        self.kept.push((path.to_path_buf(), SystemTime::now()));
        let mut old = None;
        if self.max_to_keep > 0 && self.kept.len() > self.max_to_keep {
            old = Some(self.kept.remove(0));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let relative = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
        let state = CheckpointState {
            model_checkpoint_path: relative(path),
            all_model_checkpoint_paths: self.kept.iter().map(|(path, _)| relative(path)).collect(),
            ..CheckpointState::default()
        };
        state::write(&folder.join(&self.state_file), &state)?;
        if let Some((path, saved)) = old {
            if saved > self.next_kept {
                self.next_kept = later(self.next_kept, self.every);
                return Ok(());
            }
            delete(&path)?;
        }
        Ok(())
    }
}

/// The prefix of the latest checkpoint in a folder, as its state file says (TensorFlow: `tf.train.latest_checkpoint`);
/// `None` when there is no state file, or what it names isn't there.
///
/// # Errors
/// When the state file can't be read.
pub fn latest_checkpoint(folder: impl AsRef<Path>) -> Result<Option<PathBuf>> {
    let folder = folder.as_ref();
    let text = match std::fs::read_to_string(folder.join(STATE_FILE)) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::from(e).in_file(folder.join(STATE_FILE))),
    };
    let state = state::parse(&text).map_err(|e| e.in_file(folder.join(STATE_FILE)))?;
    let path = folder.join(state.model_checkpoint_path);
    match locate(&Place::of_path(&path), &Limits::default()) {
        Ok(Located::Bundle(_) | Located::V1(_)) => Ok(Some(path)),
        Err(e) if e.kind() == ErrorKind::Missing => Ok(None),
        Err(e) => Err(e),
    }
}

fn later(time: SystemTime, by: Duration) -> SystemTime {
    // Farther than a clock goes is never; a century is never enough.
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    time.checked_add(by).or_else(|| time.checked_add(CENTURY)).unwrap_or(time)
}

/// The keys of an object-based checkpoint by the full names of its variables.
fn by_full_name(reader: &Reader) -> Result<HashMap<String, String>> {
    let graph = reader.object_graph()?.unwrap_or_default();
    let attributes = graph.nodes.into_iter().flat_map(|n| n.attributes).filter(|a| a.name == VALUE);
    Ok(attributes.filter(|a| !a.full_name.is_empty()).map(|a| (a.full_name, a.checkpoint_key)).collect())
}

/// Deletes the checkpoint of this prefix: the index first, without which the rest is no checkpoint.
pub(crate) fn delete(prefix: &Path) -> Result<()> {
    let mut files = files_of(prefix);
    files.sort_by_key(|f| f.extension().is_none_or(|e| e != "index"));
    for file in files {
        std::fs::remove_file(&file).map_err(|e| Error::from(e).in_file(file))?;
    }
    Ok(())
}

/// The files of the checkpoint of this prefix that are there.
fn files_of(prefix: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (prefix.parent(), prefix.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let belongs = |file: &str| {
        let shard = |n: &str| {
            n.split_once("-of-")
                .is_some_and(|(i, n)| [i, n].iter().all(|t| t.bytes().all(|b| b.is_ascii_digit())))
        };
        file.strip_prefix(name).is_some_and(|rest| {
            matches!(rest, "" | ".index" | ".meta")
                || rest.strip_prefix(".data-").or_else(|| rest.strip_prefix('-')).is_some_and(shard)
        })
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|e| e.file_name().to_str().is_some_and(belongs) && e.path().is_file())
        .map(|e| e.path())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use modelark_tensor::{DType, Tensor};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn old_checkpoints_are_deleted_and_the_state_follows() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut saver = Saver::new().max_to_keep(2);
        let variables = [Variable::new("w", Tensor::scalar(1f32))];
        assert_eq!(latest_checkpoint(dir.path()).expect("none"), None);
        for step in 1..=12 {
            saver.save(&variables, dir.path().join("m"), Some(step)).expect("save");
            std::fs::write(dir.path().join(format!("m-{step}.meta")), b"").expect("write");
        }
        let kept = ["m-11", "m-12"]
            .iter()
            .flat_map(|m| [".data-00000-of-00001", ".index", ".meta"].map(|end| format!("{m}{end}")));
        assert_eq!(
            names(dir.path()),
            std::iter::once("checkpoint".to_owned()).chain(kept).collect::<Vec<_>>()
        );
        assert_eq!(
            std::fs::read_to_string(dir.path().join("checkpoint")).expect("state"),
            "model_checkpoint_path: \"m-12\"\nall_model_checkpoint_paths: \"m-11\"\n\
             all_model_checkpoint_paths: \"m-12\"\n"
        );
        assert_eq!(latest_checkpoint(dir.path()).expect("latest"), Some(dir.path().join("m-12")));
        std::fs::remove_file(dir.path().join("m-12.index")).expect("remove");
        std::fs::remove_file(dir.path().join("m-12.data-00000-of-00001")).expect("remove");
        assert_eq!(latest_checkpoint(dir.path()).expect("gone"), None);
        let mut next = Saver::new().max_to_keep(1);
        next.recover_last_checkpoints([dir.path().join("m-11"), dir.path().join("m-9")]);
        next.save(&variables, dir.path().join("m"), Some(13)).expect("save");
        assert!(!names(dir.path()).contains(&"m-11.index".to_owned()));
    }

    #[test]
    fn a_checkpoint_every_so_often_is_kept_for_good() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut saver = Saver::new().max_to_keep(1).keep_checkpoint_every_n_hours(0.0);
        let variables = [Variable::new("w", Tensor::scalar(1f32))];
        for step in 1..=3 {
            saver.save(&variables, dir.path().join("m"), Some(step)).expect("save");
        }
        assert_eq!(names(dir.path()).iter().filter(|n| n.ends_with(".index")).count(), 3);
        assert_eq!(saver.last_checkpoints(), [dir.path().join("m-3")]);
    }

    #[test]
    fn restoring_is_partial_by_names_and_all_or_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("m");
        for version in [WriteVersion::V2, WriteVersion::V1] {
            let saved =
                [Variable::new("old/w", Tensor::scalar(3f32)), Variable::new("b", Tensor::scalar(4i64))];
            Saver::new().write_version(version).save(&saved, &path, None).expect("save");
            let mut variables =
                [Variable::new("w", Tensor::scalar(0f32)), Variable::new("b", Tensor::scalar(0i64))];
            let saver = Saver::new().names([("old/w", "w")]);
            saver.restore(&mut variables, &path).expect("restore");
            let values = [
                f64::from(variables[0].load().and_then(|t| Ok(t.item::<f32>()?)).expect("w")),
                variables[1].load().and_then(|t| Ok(t.item::<i64>()?)).expect("b") as f64,
            ];
            assert_eq!(values, [3.0, 0.0]);
            let e = Saver::new().restore(&mut variables, &path).expect_err("no w").to_string();
            assert!(e.contains("\"w\""), "{e}");
            variables[0] = Variable::new("old/w", Tensor::zeros(DType::F32, [2]).expect("zeros"));
            let e = Saver::new().restore(variables.iter_mut().rev(), &path).expect_err("shape").to_string();
            assert!(e.contains("float32 [2]") && e.contains("old/w"), "{e}");
            assert_eq!(variables[1].load().and_then(|t| Ok(t.item::<i64>()?)).expect("b"), 0);
        }
        assert!(Saver::new().names([("a", "none")]).save(&[], &path, None).is_err());
    }
}
