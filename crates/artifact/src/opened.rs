//! Files that are looked at several times while one model is read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use modelark_tensor::SharedBytes;

use crate::{Files, Place, Result};

/// Opens each of some files once, however often it is asked for, so that all who look see the same bytes.
pub struct Opened {
    files: Arc<dyn Files>,
    ahead: bool,
    opened: Mutex<BTreeMap<String, SharedBytes>>,
}

/// Shorter files come soon enough by themselves, longer ones might not be wanted whole.
const AHEAD: std::ops::Range<usize> = 1 << 20..1 << 30;

/// Bytes of the smallest page that machines map.
const PAGE: usize = 4096;

impl Opened {
    /// A place whose files are opened once. `ahead` says that all that they hold is going to be used: a thread has the pages of those
    /// up to 1 GiB mapped while the model is read.
    pub fn place(place: &Place, ahead: bool) -> Place {
        let files = Opened { files: place.files.clone(), ahead, opened: Mutex::default() };
        Place { files: Arc::new(files), name: place.name.clone() }
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl Files for Opened {
    fn open(&self, name: &str) -> Result<SharedBytes> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = opened.get(name) {
            return Ok(bytes.clone());
        }
        let bytes = self.files.open(name)?;
        if self.ahead && AHEAD.contains(&bytes.len()) {
            let bytes = bytes.clone();
            // Without such a thread, pages come when they are read.
            let _ =
                std::thread::Builder::new().name("modelark-ahead".to_owned()).spawn(move || touch(&bytes));
        }
        opened.insert(name.to_owned(), bytes.clone());
        Ok(bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.files.list(folder)
    }

    fn label(&self, name: &str) -> PathBuf {
        self.files.label(name)
    }

    fn exists(&self, name: &str) -> bool {
        self.files.exists(name)
    }

    fn is_folder(&self, name: &str) -> bool {
        self.files.is_folder(name)
    }
}

/// Reads a byte of each page.
fn touch(bytes: &[u8]) {
    for byte in bytes.iter().step_by(PAGE) {
        std::hint::black_box(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_however_often_it_is_opened() {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().join("m.bin");
        std::fs::write(&path, vec![7u8; 3 << 20]).expect("write");
        for ahead in [false, true] {
            let place = Opened::place(&Place::of_path(&path), ahead);
            let first = place.open().expect("open");
            assert_eq!(first.as_ptr(), place.open().expect("open").as_ptr());
            assert_eq!((first.len(), first[3 << 19]), (3 << 20, 7));
            assert!(place.sibling("none").open().is_err());
            assert_eq!(place.label(), path);
        }
    }
}
