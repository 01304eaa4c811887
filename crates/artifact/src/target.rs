//! Where a save goes: beside its target first, and onto it only when whole.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A save in progress: files written into a temporary folder beside the target, moved onto it by [`Target::commit`].
///
/// Dropped without a commit, it leaves what was there before as it was.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    staging: tempfile::TempDir,
}

/// What a temporary folder's name starts with, so that a left-over one is recognisable.
pub const STAGING_PREFIX: &str = ".modelark-save-";

impl Target {
    /// Begins a save to `path`, whose parent folders are made if need be.
    ///
    /// # Errors
    /// When the parent folder can't be made or written to.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let name = path
            .file_name()
            .ok_or_else(|| Error::invalid("a save needs the name of a file or folder").in_file(path.clone()))?
            .to_string_lossy()
            .into_owned();
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let make = || -> Result<tempfile::TempDir> {
            fs::create_dir_all(parent)?;
            let prefix = format!("{STAGING_PREFIX}{name}-");
            Ok(tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)?)
        };
        let staging = make().map_err(|e| e.in_file(path.clone()))?;
        Ok(Target { path, staging })
    }

    /// The path that the save is for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last part of that path: a file's name, a folder's name or a checkpoint's prefix.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The temporary path of the file `name`, relative to the target's parent, for writers that need a path.
    ///
    /// # Errors
    /// When its folder can't be made.
    pub fn stage(&self, name: &str) -> Result<PathBuf> {
        let path = self.staging.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::from(e).in_file(self.path.clone()))?;
        }
        Ok(path)
    }

    /// Creates the file `name`, relative to the target's parent, such as `model.h5` or `saved/saved_model.pb`.
    ///
    /// # Errors
    /// When it can't be created.
    pub fn create(&self, name: &str) -> Result<BufWriter<File>> {
        let path = self.stage(name)?;
        let file = File::create(&path).map_err(|e| Error::from(e).in_file(self.path.clone()))?;
        Ok(BufWriter::with_capacity(1 << 20, file))
    }

    /// Writes the whole file `name`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.stage(name)?;
        fs::write(path, bytes).map_err(|e| Error::from(e).in_file(self.path.clone()))
    }

    /// Flushes everything to the disk and moves it into place, replacing what stood there.
    ///
    /// # Errors
    /// When a flush or a move fails; then the old files are put back.
    pub fn commit(self) -> Result<()> {
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let label = |e: std::io::Error| Error::from(e).in_file(self.path.clone());
        sync_tree(self.staging.path()).map_err(label)?;
        let mut entries = fs::read_dir(self.staging.path())
            .and_then(|d| d.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>())
            .map_err(label)?;
        // Data before what points to it: a checkpoint's index after its data, the state file that names it last.
        let rank = |p: &PathBuf| match p.file_name().map(|n| n.to_string_lossy()) {
            Some(name) if name == "checkpoint" => 2,
            Some(name) if name.ends_with(".index") => 1,
            _ => 0,
        };
        entries.sort_by_key(|p| (rank(p), p.clone()));
        let aside = tempfile::Builder::new().prefix(STAGING_PREFIX).tempdir_in(parent).map_err(label)?;
        let mut done: Vec<(PathBuf, Option<PathBuf>)> = Vec::new();
        for from in entries {
            let name = from.file_name().unwrap_or_default();
            let to = parent.join(name);
            if let Err(e) = replace(&from, &to, &aside.path().join(name)) {
                // Put back what was moved before, newest first.
                for (to, old) in done.into_iter().rev() {
                    if let Some(old) = old {
                        let _ = remove(&to);
                        let _ = fs::rename(old, to);
                    }
                }
                return Err(label(e));
            }
            let old = aside.path().join(name);
            done.push((to, old.exists().then_some(old)));
        }
        sync(parent).map_err(label)
    }
}

/// Moves `from` to `to`; what stood at `to` goes to `old` when it can't be replaced in one step.
fn replace(from: &Path, to: &Path, old: &Path) -> std::io::Result<()> {
    if !to.is_dir() && !from.is_dir() {
        return fs::rename(from, to);
    }
    if to.symlink_metadata().is_ok() {
        fs::rename(to, old)?;
    }
    fs::rename(from, to).inspect_err(|_| {
        let _ = fs::rename(old, to);
    })
}

fn remove(path: &Path) -> std::io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn sync_tree(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            sync_tree(&entry?.path())?;
        }
    }
    sync(path)
}

fn sync(path: &Path) -> std::io::Result<()> {
    // Opening a folder to flush it is a Unix notion.
    if cfg!(unix) || path.is_file() { File::open(path)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .expect("dir")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_save_lands_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("m.h5");
        fs::write(&path, b"old").expect("write");
        let target = Target::new(&path).expect("target");
        target.write("m.h5", b"new").expect("write");
        drop(target);
        assert_eq!(fs::read(&path).expect("read"), b"old");
        let target = Target::new(&path).expect("target");
        target.write("m.h5", b"new").expect("write");
        target.commit().expect("commit");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(names(dir.path()), ["m.h5"]);
    }

    #[test]
    fn a_folder_replaces_a_folder() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("deep/saved");
        for content in ["one", "two"] {
            let target = Target::new(&path).expect("target");
            target.write("saved/a/b.txt", content.as_bytes()).expect("write");
            target.commit().expect("commit");
            assert_eq!(fs::read_to_string(path.join("a/b.txt")).expect("read"), content);
        }
        assert_eq!(names(&dir.path().join("deep")), ["saved"]);
    }
}
