//! Keeping the latest of a training's checkpoints, and some of the older ones.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use modelark_artifact::{Error, Result};

use crate::saver::delete;
use crate::state::{self, CheckpointState, STATE_FILE};

/// The checkpoints of one folder: keeps the latest few, deletes the others, and knows after a crash where to go on
/// (TensorFlow: `tf.train.CheckpointManager`; either goes on with the other's folder).
///
/// How a checkpoint is written is the caller's: as a model, by a [`Saver`](crate::Saver), tensor by tensor. The state file
/// `checkpoint` names a checkpoint only once it is whole, and no longer before its files are deleted.
///
/// ```
/// use modelark_artifact::{Target, tensor::Tensor};
/// use modelark_checkpoint::{BundleWriter, CheckpointManager};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let mut manager = CheckpointManager::new(folder, "ckpt", Some(2))?;
/// for step in 0..3 {
///     manager.save(None, |path| {
///         let target = Target::new(path)?;
///         let mut writer = BundleWriter::new(&target, target.name())?;
///         writer.add("step", &Tensor::scalar(step as i64))?;
///         writer.finish()?;
///         target.commit()
///     })?;
/// }
/// assert_eq!(manager.checkpoints(), [folder.join("ckpt-2"), folder.join("ckpt-3")]);
/// assert_eq!(CheckpointManager::new(folder, "ckpt", Some(2))?.latest(), Some(folder.join("ckpt-3")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CheckpointManager {
    folder: PathBuf,
    name: String,
    max_to_keep: Option<usize>,
    every: Option<Duration>,
    /// Those that may be deleted some day, oldest first: names, and when they were saved, in seconds since 1970.
    kept: Vec<(String, f64)>,
    /// When the last of those was saved that are never deleted.
    last_preserved: f64,
}

impl CheckpointManager {
    /// The manager of the checkpoints `<name>-<number>` in `folder`, of which the latest `max_to_keep` are kept (`None`:
    /// all). It goes on with what the folder has.
    ///
    /// # Errors
    /// When there is a state file that can't be read.
    pub fn new(
        folder: impl Into<PathBuf>,
        name: impl Into<String>,
        max_to_keep: Option<usize>,
    ) -> Result<Self> {
        let mut manager = CheckpointManager {
            folder: folder.into(),
            name: name.into(),
            max_to_keep,
            every: None,
            kept: Vec::new(),
            last_preserved: 0.0,
        };
        manager.resume()?;
        Ok(manager)
    }

    /// Keeps for good, of those that would be deleted, one for each so many hours.
    pub fn keep_checkpoint_every_n_hours(mut self, hours: f64) -> Self {
        self.every = Duration::try_from_secs_f64(hours * 3600.0).ok();
        self
    }

    /// The checkpoints that are kept for now, oldest first; those kept for good aren't among them.
    pub fn checkpoints(&self) -> Vec<PathBuf> {
        self.kept.iter().map(|(name, _)| self.folder.join(name)).collect()
    }

    /// The latest checkpoint.
    pub fn latest(&self) -> Option<PathBuf> {
        self.kept.last().map(|(name, _)| self.folder.join(name))
    }

    /// Saves a checkpoint under this number, or the one after the latest's: `write` writes it to the prefix that it is
    /// given. Gives that prefix.
    ///
    /// # Errors
    /// What `write` returns; then nothing has changed. And when the state can't be written, or an old file not deleted.
    pub fn save(&mut self, number: Option<i64>, write: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let latest = self.kept.iter().filter_map(|(name, _)| self.number(name)).max();
        let number = number.unwrap_or_else(|| latest.map_or(1, |n| n.saturating_add(1)));
        let name = format!("{}-{number}", self.name);
        let path = self.folder.join(&name);
        write(&path)?;
        self.kept.retain(|(kept, _)| *kept != name);
        self.kept.push((name, seconds(SystemTime::now())));
        // The new one is named before any other goes.
        let before = self.kept.clone();
        let old = self.sweep();
        if old.is_empty() {
            self.record()?;
            return Ok(path);
        }
        let after = std::mem::replace(&mut self.kept, before);
        self.record()?;
        self.kept = after;
        self.record()?;
        for name in old {
            delete(&self.folder.join(name))?;
        }
        Ok(path)
    }

    /// Takes out what is too old; gives the names of what is to be deleted.
    fn sweep(&mut self) -> Vec<String> {
        let mut old = Vec::new();
        while self.max_to_keep.is_some_and(|most| self.kept.len() > most.max(1)) {
            let (name, saved) = self.kept.remove(0);
            match self.every {
                Some(every) if saved - every.as_secs_f64() >= self.last_preserved => {
                    self.last_preserved = saved
                }
                _ => old.push(name),
            }
        }
        old
    }

    fn record(&self) -> Result<()> {
        let state = CheckpointState {
            model_checkpoint_path: self.kept.last().map(|(name, _)| name.clone()).unwrap_or_default(),
            all_model_checkpoint_paths: self.kept.iter().map(|(name, _)| name.clone()).collect(),
            all_model_checkpoint_timestamps: self.kept.iter().map(|(_, time)| *time).collect(),
            last_preserved_timestamp: self.last_preserved,
        };
        state::write(&self.folder.join(STATE_FILE), &state)
    }

    /// Finds what the state file lists and is there, and what a crash kept out of the state file.
    fn resume(&mut self) -> Result<()> {
        let file = self.folder.join(STATE_FILE);
        let state = match std::fs::read_to_string(&file) {
            Ok(text) => state::parse(&text).map_err(|e| e.in_file(file))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => CheckpointState::default(),
            Err(e) => return Err(Error::from(e).in_file(file)),
        };
        self.last_preserved = state.last_preserved_timestamp;
        let times =
            state.all_model_checkpoint_timestamps.iter().copied().map(Some).chain(std::iter::repeat(None));
        for (path, time) in state.all_model_checkpoint_paths.iter().zip(times) {
            // Absolute paths are those of a folder that may have moved since.
            let name =
                Path::new(path).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if let Some(saved) = self.saved(&name) {
                self.kept.push((name, time.unwrap_or(saved)));
            }
        }
        let mut others = Vec::new();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let Some(name) = name.strip_suffix(".index") else { continue };
            let known = self.kept.iter().any(|(kept, _)| kept == name);
            if let (Some(number), Some(saved), false) = (self.number(name), self.saved(name), known)
                && saved > self.last_preserved
            {
                others.push((number, name.to_owned(), saved));
            }
        }
        others.sort_by_key(|(number, ..)| *number);
        for (_, name, saved) in others {
            let at = self.kept.partition_point(|(_, time)| *time <= saved);
            self.kept.insert(at, (name, saved));
        }
        Ok(())
    }

    /// The number of a checkpoint of this manager.
    fn number(&self, name: &str) -> Option<i64> {
        name.strip_prefix(&self.name)?.strip_prefix('-')?.parse().ok()
    }

    /// When the index of a checkpoint was written, if it is there.
    fn saved(&self, name: &str) -> Option<f64> {
        let index = std::fs::metadata(self.folder.join(format!("{name}.index"))).ok()?;
        Some(index.modified().map_or(0.0, seconds))
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BundleWriter, latest_checkpoint};
    use modelark_artifact::Target;
    use modelark_tensor::Tensor;

    fn write(path: &Path) -> Result<()> {
        let target = Target::new(path)?;
        let mut writer = BundleWriter::new(&target, target.name())?;
        writer.add("t", &Tensor::scalar(1i64))?;
        writer.finish()?;
        target.commit()
    }

    fn indexes(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).expect("folder").flatten();
        let names = names.filter_map(|e| e.file_name().into_string().ok());
        let mut names: Vec<String> =
            names.filter_map(|n| Some(n.strip_suffix(".index")?.to_owned())).collect();
        names.sort();
        names
    }

    #[test]
    fn the_latest_are_kept_and_known_again() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = dir.path();
        let mut manager = CheckpointManager::new(folder, "ckpt", Some(2)).expect("manager");
        assert_eq!(manager.latest(), None);
        for _ in 0..4 {
            manager.save(None, write).expect("save");
        }
        assert_eq!(indexes(folder), ["ckpt-3", "ckpt-4"]);
        assert_eq!(latest_checkpoint(folder).expect("state"), Some(folder.join("ckpt-4")));
        assert!(manager.save(Some(9), |_| Err(Error::invalid("full"))).is_err());
        assert_eq!(manager.latest(), Some(folder.join("ckpt-4")), "a save that fails changes nothing");

        // Killed after the checkpoint, before the state: it is found all the same.
        write(&folder.join("ckpt-5")).expect("save");
        write(&folder.join("other-5")).expect("save");
        let mut manager = CheckpointManager::new(folder, "ckpt", Some(2)).expect("manager");
        assert_eq!(manager.latest(), Some(folder.join("ckpt-5")));
        manager.save(None, write).expect("save");
        assert_eq!(indexes(folder), ["ckpt-5", "ckpt-6", "other-5"]);
    }

    #[test]
    fn one_of_some_hours_is_kept_for_good() {
        let dir = tempfile::tempdir().expect("temp dir");
        let folder = dir.path();
        let day = seconds(SystemTime::now()) - 86_400.0;
        let mut state =
            CheckpointState { model_checkpoint_path: "ckpt-3".into(), ..CheckpointState::default() };
        for (number, hours) in [(1, 0.0), (2, 1.0), (3, 2.5)] {
            write(&folder.join(format!("ckpt-{number}"))).expect("save");
            state.all_model_checkpoint_paths.push(format!("ckpt-{number}"));
            state.all_model_checkpoint_timestamps.push(day + hours * 3600.0);
        }
        state.last_preserved_timestamp = day - 1800.0;
        state::write(&folder.join(STATE_FILE), &state).expect("state");
        let manager = CheckpointManager::new(folder, "ckpt", Some(1)).expect("manager");
        let mut manager = manager.keep_checkpoint_every_n_hours(2.0);
        manager.save(None, write).expect("save");
        // Two hours after the last that was kept for good lies only the third.
        assert_eq!(indexes(folder), ["ckpt-3", "ckpt-4"]);
        assert_eq!(manager.checkpoints(), [folder.join("ckpt-4")]);
        let again = CheckpointManager::new(folder, "ckpt", Some(1)).expect("manager");
        assert_eq!(again.last_preserved, day + 2.5 * 3600.0);
    }
}
