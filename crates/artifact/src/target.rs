//! Where a save goes: beside its target first, and onto it only when whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::{Error, Output, Result};

/// A save in progress: files written into a temporary folder beside the target, moved onto it by [`Target::commit`].
///
/// Dropped without a commit, it leaves what was there before as it was. A save to a path waits until no other save to
/// that path, of this process or another, is under way, and clears away what one that was killed left behind.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    staging: tempfile::TempDir,
    /// Files that the new ones make useless, by their names beside the target.
    obsolete: Mutex<Vec<String>>,
    _lock: Lock,
}

/// What the name of everything temporary starts with, so that a left-over is recognisable.
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
        let parent = parent(&path);
        let make = || -> Result<(Lock, tempfile::TempDir)> {
            fs::create_dir_all(parent)?;
            let lock = Lock::acquire(parent.join(format!("{STAGING_PREFIX}{name}.lock")))?;
            let prefix = format!("{STAGING_PREFIX}{name}-");
            clear(parent, &prefix);
            Ok((lock, tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)?))
        };
        let (lock, staging) = make().map_err(|e| e.in_file(path.clone()))?;
        Ok(Target { path, staging, obsolete: Mutex::default(), _lock: lock })
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

    /// Creates the file `name`, relative to the target's parent, such as `model.h5` or `saved/saved_model.pb`, to be flushed before
    /// the commit.
    ///
    /// # Errors
    /// When it can't be created.
    pub fn create(&self, name: &str) -> Result<Output> {
        let path = self.stage(name)?;
        Output::create(&path).map_err(|e| e.in_file(self.path.clone()))
    }

    /// Writes the whole file `name`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.stage(name)?;
        fs::write(path, bytes).map_err(|e| Error::from(e).in_file(self.path.clone()))
    }

    /// Lets the commit remove the file `name`, relative to the target's parent, once everything else is in place.
    pub fn remove_after(&self, name: impl Into<String>) {
        self.obsolete.lock().unwrap_or_else(PoisonError::into_inner).push(name.into());
    }

    /// Flushes everything to the disk and moves it into place, replacing what stood there.
    ///
    /// Each file or folder is replaced in one step, and those that point to others last, so that whoever reads in
    /// between, or after a crash, finds the old model or the new one.
    ///
    /// # Errors
    /// When a flush or a move fails; then the old files are put back.
    pub fn commit(self) -> Result<()> {
        self.place(true)
    }

    /// As [`Target::commit`], but doesn't wait for the disk: for what can be made again, should the machine stop before it
    /// is written.
    ///
    /// # Errors
    /// When a move fails; then the old files are put back.
    pub fn commit_unflushed(self) -> Result<()> {
        self.place(false)
    }

    fn place(self, flush: bool) -> Result<()> {
        let parent = parent(&self.path);
        let label = |e: std::io::Error| Error::from(e).in_file(self.path.clone());
        if flush {
            sync_within(self.staging.path()).map_err(label)?;
        }
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
        let mut done: Vec<(PathBuf, PathBuf)> = Vec::new();
        for from in entries {
            let to = parent.join(from.file_name().unwrap_or_default());
            if let Err(e) = replace(&from, &to) {
                // Put back what was moved before, newest first.
                for (from, to) in done.into_iter().rev() {
                    let _ = if from.symlink_metadata().is_ok() { replace(&from, &to) } else { remove(&to) };
                }
                return Err(label(e));
            }
            done.push((from, to));
        }
        if flush {
            sync(parent).map_err(label)?;
        }
        for name in self.obsolete.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // One that can't be removed harms nobody.
            let _ = fs::remove_file(parent.join(name));
        }
        Ok(())
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes what saves to the same path left that were killed: the lock is held, so none is under way.
fn clear(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.to_str().and_then(|n| n.strip_prefix(prefix));
        if random.is_some_and(|r| r.len() == 6 && r.bytes().all(|b| b.is_ascii_alphanumeric())) {
            let _ = remove(&entry.path());
        }
    }
}

/// Held while a save to one path is under way.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    fn acquire(path: PathBuf) -> std::io::Result<Self> {
        loop {
            let file = File::options().write(true).create(true).truncate(false).open(&path)?;
            match file.lock() {
                Ok(()) => {}
                // Some file systems have no locks; saves are whole there too, only not kept apart.
                Err(e) if e.kind() == std::io::ErrorKind::Unsupported => {}
                Err(e) => return Err(e),
            }
            // Who had it before has removed the file meanwhile: this lock is on a file that nobody else sees.
            if same_file(&file, &path) {
                return Ok(Lock { path, file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: fs::Metadata| (m.dev(), m.ino());
    matches!((file.metadata().map(id), fs::metadata(path).map(id)), (Ok(a), Ok(b)) if a == b)
}

/// Elsewhere a file that somebody has open isn't removed.
#[cfg(not(unix))]
fn same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Moves `from` to `to` in one step; what stood at `to` is at `from` afterwards, if it was or is a folder.
fn replace(from: &Path, to: &Path) -> std::io::Result<()> {
    if to.symlink_metadata().is_err() || !(to.is_dir() || from.is_dir()) {
        return fs::rename(from, to);
    }
    match exchange(from, to) {
        Err(e) if matches!(e.kind(), std::io::ErrorKind::Unsupported | std::io::ErrorKind::InvalidInput) => {}
        done => return done,
    }
    // Where two entries can't change places, the old one steps aside first.
    let aside = from.with_extension("old");
    fs::rename(to, &aside)?;
    fs::rename(from, to).inspect_err(|_| {
        let _ = fs::rename(&aside, to);
    })?;
    fs::rename(aside, from)
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(a: &Path, b: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn remove(path: &Path) -> std::io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Flushes all files and folders within a folder, several at a time: a disk that is asked for all of them at once does
/// them together.
fn sync_within(folder: &Path) -> std::io::Result<()> {
    const AT_ONCE: usize = 8;
    let mut paths = Vec::new();
    list(folder, &mut paths)?;
    let next = AtomicUsize::new(0);
    let work = || -> std::io::Result<()> {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            sync(path)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..paths.len().min(AT_ONCE)).map(|_| scope.spawn(work)).collect();
        let mine = work();
        let panicked = |_| Err(std::io::Error::other("a flush panicked"));
        others.into_iter().map(|o| o.join().unwrap_or_else(panicked)).fold(mine, Result::and)
    })
}

fn list(folder: &Path, paths: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, paths)?;
        }
        paths.push(path);
    }
    Ok(())
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
    fn what_isnt_flushed_lands_too() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("out.npz");
        for text in [b"old", b"new"] {
            let target = Target::new(&path).expect("target");
            target.write("out.npz", text).expect("write");
            target.commit_unflushed().expect("commit");
            assert_eq!(fs::read(&path).expect("read"), text);
        }
        assert_eq!(names(dir.path()), ["out.npz"]);
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
    fn what_a_killed_save_left_is_cleared_away() {
        let dir = tempfile::tempdir().expect("temp dir");
        for left in ["m.h5-a1B2c3/m.h5", "m.h5-bak-a1B2c3/m.h5"] {
            let path = dir.path().join(format!("{STAGING_PREFIX}{left}"));
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, b"half").expect("write");
        }
        fs::write(dir.path().join(format!("{STAGING_PREFIX}m.h5.lock")), b"").expect("write");
        let target = Target::new(dir.path().join("m.h5")).expect("target");
        target.write("m.h5", b"new").expect("write");
        target.commit().expect("commit");
        // The other folder belongs to saves of `m.h5-bak`.
        assert_eq!(names(dir.path()), [&format!("{STAGING_PREFIX}m.h5-bak-a1B2c3"), "m.h5"]);
    }

    #[test]
    fn savers_of_one_target_take_turns() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("model");
        thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for round in 0..20 {
                        let target = Target::new(path).expect("target");
                        for part in ["model/a", "model/b", "model.index"] {
                            target.write(part, format!("{writer} {round}").as_bytes()).expect("write");
                        }
                        target.commit().expect("commit");
                    }
                });
            }
        });
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect("read");
        assert_eq!(read("model/a"), read("model/b"));
        assert_eq!(read("model/a"), read("model.index"));
        assert_eq!(names(dir.path()), ["model", "model.index"]);
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
