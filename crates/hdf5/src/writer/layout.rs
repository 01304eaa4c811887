//! A file of which all but the elements of its datasets is written.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use modelark_artifact::{Output, Result, Variable};

use super::place;

/// So much is written at once that what passes over the bytes on their way finds them in the cache.
const PART: usize = 1 << 18;

/// An HDF5 file that is laid out at a path, to be made whole there or to be copied elsewhere on the way.
#[derive(Debug)]
pub struct Layout<'a> {
    path: PathBuf,
    /// In the order of the file.
    gaps: Vec<Gap<'a>>,
    len: u64,
}

/// Where the elements of a dataset belong.
#[derive(Debug)]
pub(super) struct Gap<'a> {
    pub(super) offset: u64,
    pub(super) variable: &'a Variable,
    /// Of the dataset.
    pub(super) path: String,
}

impl Gap<'_> {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.variable.nbytes().unwrap_or_default())
    }

    /// Writes the elements, and gives where they end.
    fn write(&self, out: &mut impl Write) -> Result<u64> {
        let tensor = self.variable.load().map_err(|e| e.at(place(&self.path)))?;
        let bytes = tensor.bytes()?;
        bytes.chunks(PART).try_for_each(|part| out.write_all(part))?;
        Ok(self.offset.saturating_add(bytes.len() as u64))
    }
}

impl<'a> Layout<'a> {
    /// The file at `path`, but for these.
    pub(super) fn new(path: PathBuf, mut gaps: Vec<Gap<'a>>) -> Result<Self> {
        gaps.sort_by_key(|gap| gap.offset);
        let end = gaps.last().map_or(0, Gap::end);
        let len = fs::metadata(&path)?.len().max(end);
        Ok(Layout { path, gaps, len })
    }

    /// The bytes of the whole file.
    #[allow(clippy::len_without_is_empty, reason = "no HDF5 file is empty")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Makes the file whole where it is.
    ///
    /// # Errors
    /// When a value can't be read, or the disk refuses.
    pub fn fill(self) -> Result<()> {
        let write = || -> Result<()> {
            let mut file = Output::open(&self.path)?;
            for gap in &self.gaps {
                file.seek(SeekFrom::Start(gap.offset))?;
                gap.write(&mut file)?;
            }
            Ok(file.flush()?)
        };
        write().map_err(|e| e.in_file(self.path.clone()))
    }

    /// Writes the whole file's bytes to `out`, without writing the elements to the disk in between, and removes what was laid
    /// out.
    ///
    /// # Errors
    /// When a value can't be read, or `out` refuses.
    pub fn move_into(self, out: &mut impl Write) -> Result<()> {
        let mut file = File::open(&self.path)?;
        let mut at = 0;
        let copy = |file: &mut File, from: u64, to: u64, out: &mut _| -> Result<()> {
            file.seek(SeekFrom::Start(from))?;
            std::io::copy(&mut file.take(to.saturating_sub(from)), out)?;
            Ok(())
        };
        for gap in &self.gaps {
            copy(&mut file, at, gap.offset, out)?;
            at = gap.write(out)?;
        }
        copy(&mut file, at, self.len, out)?;
        fs::remove_file(&self.path)?;
        Ok(())
    }
}
