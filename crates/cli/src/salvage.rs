//! `modelark verify --salvage`: what is intact of a damaged model, as files of their own.

use std::path::PathBuf;

use modelark::artifact::Target;
use modelark::json::npy;
use modelark::{Result, Tensor};
use serde_json::{Map, Value, json};

/// A folder of arrays: a `.npy` for each tensor, and `index.json`, which tells what each one was called.
pub(crate) struct Salvage {
    target: Target,
    files: Map<String, Value>,
    damaged: Map<String, Value>,
}

impl Salvage {
    /// # Errors
    /// When the folder can't be made.
    pub(crate) fn new(folder: &PathBuf) -> Result<Self> {
        Ok(Salvage { target: Target::new(folder)?, files: Map::new(), damaged: Map::new() })
    }

    /// # Errors
    /// When it can't be written, or NumPy has nothing like it.
    pub(crate) fn keep(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        // A name from a file is no path: the file's is a number, with what of the name is harmless to read.
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '.' };
        let readable: String =
            name.trim_end_matches("/.ATTRIBUTES/VARIABLE_VALUE").chars().map(plain).collect();
        let readable = readable.get(readable.len().saturating_sub(100)..).unwrap_or_default();
        let file = format!("{:05}-{}.npy", self.files.len(), readable.trim_matches('.'));
        let mut out = self.target.create(&format!("{}/{file}", self.target.name()))?;
        npy::write(tensor, &mut out)?;
        std::io::Write::flush(&mut out)?;
        let about = json!({"file": file, "dtype": tensor.dtype().name(), "shape": tensor.shape()});
        self.files.insert(name.to_owned(), about);
        Ok(())
    }

    /// Notes what couldn't be read.
    pub(crate) fn lose(&mut self, name: &str, why: String) {
        self.damaged.insert(name.to_owned(), why.into());
    }

    /// Puts the folder in place; gives how many tensors are in it.
    ///
    /// # Errors
    /// When that can't be done.
    pub(crate) fn finish(self) -> Result<usize> {
        let count = self.files.len();
        let index = json!({"intact": self.files, "damaged": self.damaged});
        let text = serde_json::to_vec_pretty(&index).unwrap_or_default();
        self.target.write(&format!("{}/index.json", self.target.name()), &text)?;
        self.target.commit()?;
        Ok(count)
    }
}
