//! Where bytes come from: a folder on disk, or memory. Paths end here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use modelark_tensor::SharedBytes;

use crate::{Error, ErrorKind, Result};

/// A set of named files, such as a folder; names are relative, with `/` between their parts.
pub trait Files: fmt::Debug + Send + Sync {
    /// The bytes of a file, mapped or shared where possible.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] when there is no such file, [`ErrorKind::Invalid`] when the name leaves the set.
    fn open(&self, name: &str) -> Result<SharedBytes>;

    /// The names of the files and folders directly in `folder` (`""` is the root), sorted; folders end in `/`.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] when there is no such folder.
    fn list(&self, folder: &str) -> Result<Vec<String>>;

    /// What to call a file in messages: its path on disk, where it has one.
    fn label(&self, name: &str) -> PathBuf;

    /// Whether there is a file of this name.
    fn exists(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// Whether there is a folder of this name.
    fn is_folder(&self, name: &str) -> bool {
        self.list(name).is_ok()
    }
}

/// A folder on disk, whose files are mapped into memory.
///
/// No name leads out of it: `..`, absolute names and symbolic links that leave it are refused. A file that the caller
/// named may be a link to anywhere.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    named: Option<OsString>,
}

impl Folder {
    /// The folder at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root: PathBuf = root.into();
        Folder { root: if root.as_os_str().is_empty() { PathBuf::from(".") } else { root }, named: None }
    }

    /// The folder around a file that the caller named.
    fn around(root: impl Into<PathBuf>, file: &OsStr) -> Self {
        Folder { named: Some(file.to_owned()), ..Folder::new(root) }
    }

    /// The path of a name that stays within this folder.
    fn resolve(&self, name: &str) -> Result<PathBuf> {
        let escapes = || {
            Error::invalid(format!("the name {name:?} leads out of its folder"))
                .in_file(self.root.clone())
                .help(
                    "if links lead to files that you trust, copy the model with its links followed (cp -rL)",
                )
        };
        let relative = Path::new(name);
        if relative.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(escapes());
        }
        let path = self.root.join(relative);
        if self.named.as_deref() == Some(relative.as_os_str()) {
            return Ok(path);
        }
        // A link is followed only while it stays inside; what doesn't exist can't leave.
        if let (Ok(real), Ok(root)) = (path.canonicalize(), self.root.canonicalize())
            && !real.starts_with(&root)
        {
            return Err(escapes());
        }
        Ok(path)
    }
}

impl Files for Folder {
    fn open(&self, name: &str) -> Result<SharedBytes> {
        let path = self.resolve(name)?;
        map(&path).map_err(|e| e.in_file(path))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let path = self.resolve(folder)?;
        let read = || -> Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(&path)? {
                let entry = entry?;
                let mut name = entry.file_name().to_string_lossy().into_owned();
                if entry.path().is_dir() {
                    name.push('/');
                }
                names.push(name);
            }
            names.sort();
            Ok(names)
        };
        read().map_err(|e| e.in_file(path.clone()))
    }

    fn label(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn exists(&self, name: &str) -> bool {
        self.resolve(name).is_ok_and(|p| p.is_file())
    }

    fn is_folder(&self, name: &str) -> bool {
        self.resolve(name).is_ok_and(|p| p.is_dir())
    }
}

/// Maps a file read-only; an empty one gives no bytes.
#[allow(unsafe_code, reason = "a memory map is the only way not to copy a file")]
fn map(path: &Path) -> Result<SharedBytes> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(Error::new(ErrorKind::Io, "this is not a regular file"));
    }
    if meta.len() == 0 {
        return Ok(SharedBytes::default());
    }
    // SAFETY: the map is read-only and private. Another process that shortens the file while it is mapped
    // could fault this one; saves replace files by renaming, never by rewriting them in place.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(SharedBytes::from_owner(map))
}

/// Files held in memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    files: BTreeMap<String, SharedBytes>,
}

impl Memory {
    /// No files.
    pub fn new() -> Self {
        Memory::default()
    }

    /// Adds a file, or replaces the one of that name.
    pub fn insert(&mut self, name: impl Into<String>, bytes: impl Into<SharedBytes>) {
        self.files.insert(name.into(), bytes.into());
    }
}

impl Files for Memory {
    fn open(&self, name: &str) -> Result<SharedBytes> {
        self.files.get(name).cloned().ok_or_else(|| Error::missing("there is no such file").in_file(name))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let prefix =
            if folder.is_empty() { String::new() } else { format!("{}/", folder.trim_end_matches('/')) };
        let mut names: Vec<String> = self
            .files
            .keys()
            .filter_map(|n| n.strip_prefix(&prefix))
            .map(|rest| rest.split_inclusive('/').next().unwrap_or(rest).to_owned())
            .collect();
        names.dedup();
        if names.is_empty() && !folder.is_empty() {
            return Err(Error::missing("there is no such folder").in_file(folder));
        }
        Ok(names)
    }

    fn label(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    fn exists(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }
}

/// A model's place: a set of files and the name in it that the caller gave (a file, a folder, or a checkpoint's prefix).
#[derive(Debug, Clone)]
pub struct Place {
    /// The files around it.
    pub files: Arc<dyn Files>,
    /// The name within them; empty for the set itself.
    pub name: String,
}

impl Place {
    /// The place of a path on disk, which need not exist (a checkpoint's prefix doesn't).
    pub fn of_path(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        match path.file_name() {
            // A folder is a set of its own, so that nothing read from it can lead to its neighbours.
            _ if path.is_dir() => Place { files: Arc::new(Folder::new(path)), name: String::new() },
            Some(name) => Place {
                files: Arc::new(Folder::around(path.parent().unwrap_or(Path::new("")), name)),
                name: name.to_string_lossy().into_owned(),
            },
            None => Place { files: Arc::new(Folder::new(path)), name: String::new() },
        }
    }

    /// The place of a name in memory.
    pub fn in_memory(files: Memory, name: impl Into<String>) -> Self {
        Place { files: Arc::new(files), name: name.into() }
    }

    /// What to call it in messages.
    pub fn label(&self) -> PathBuf {
        self.files.label(&self.name)
    }

    /// The bytes of the file at this place.
    ///
    /// # Errors
    /// As [`Files::open`].
    pub fn open(&self) -> Result<SharedBytes> {
        self.files.open(&self.name)
    }

    /// Whether this is a folder.
    pub fn is_folder(&self) -> bool {
        self.files.is_folder(&self.name)
    }

    /// A place relative to this one: a file in this folder.
    pub fn child(&self, name: &str) -> Place {
        let name = if self.name.is_empty() { name.to_owned() } else { format!("{}/{name}", self.name) };
        Place { files: self.files.clone(), name }
    }

    /// A place beside this one, whose last part is `name`.
    pub fn sibling(&self, name: &str) -> Place {
        let name = match self.name.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{name}"),
            None => name.to_owned(),
        };
        Place { files: self.files.clone(), name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        let dir = tempfile::tempdir().expect("temp dir");
        let inner = dir.path().join("model");
        std::fs::create_dir(&inner).expect("create");
        std::fs::write(dir.path().join("secret"), b"s").expect("write");
        std::fs::write(inner.join("a.bin"), b"abc").expect("write");
        let folder = Folder::new(&inner);
        assert_eq!(&*folder.open("a.bin").expect("inside"), b"abc");
        for name in ["../secret", "/etc/hostname", "x/../../secret"] {
            assert_eq!(folder.open(name).expect_err("outside").kind(), ErrorKind::Invalid, "{name}");
        }
        assert_eq!(folder.open("none").expect_err("missing").kind(), ErrorKind::Missing);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(dir.path().join("secret"), inner.join("link")).expect("link");
            assert_eq!(folder.open("link").expect_err("link").kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn memory_and_disk_list_alike() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir(dir.path().join("v")).expect("create");
        for name in ["m.pb", "v/x.index", "v/x.data"] {
            std::fs::write(dir.path().join(name), name).expect("write");
        }
        let mut memory = Memory::new();
        for name in ["m.pb", "v/x.index", "v/x.data"] {
            memory.insert(name, name.as_bytes());
        }
        let disk = Folder::new(dir.path());
        for folder in ["", "v"] {
            assert_eq!(disk.list(folder).expect("disk"), memory.list(folder).expect("memory"));
        }
        assert!(memory.list("w").is_err() && disk.list("w").is_err());
        assert!(Place::in_memory(memory, "v/x.index").sibling("x.data").open().is_ok());
    }
}
