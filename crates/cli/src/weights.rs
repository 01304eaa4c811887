//! `modelark weights`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use modelark::artifact::{Target, Value, Variable};
use modelark::checkpoint::OBJECT_GRAPH_KEY;
use modelark::json::{npy, npz, safetensors};
use modelark::{DType, Error, Limits, Result};
use serde_json::json;

use crate::Verdict;
use crate::open::Source;
use crate::output::{self, Style, Text};
use crate::progress::Progress;
use crate::tensors;

/// List every tensor of a file under its name in the file, or write them out
#[derive(Debug, Args)]
pub(crate) struct Weights {
    #[command(flatten)]
    source: Source,
    /// Write the tensors to an .npz or .safetensors file, or as .npy files into a folder
    #[arg(long, value_name = "TARGET")]
    extract: Option<PathBuf>,
    /// Compress the .npz
    #[arg(long, requires = "extract")]
    compress: bool,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

impl Weights {
    pub(crate) fn run(&self) -> Result<Verdict> {
        let (artifact, format) = self.source.artifact()?;
        let mut limits = Limits::default();
        limits.verify = !self.source.how.no_verify;
        let found = tensors::of_file(&artifact, format, &self.source.place(), &limits)?;
        if let Some(target) = &self.extract {
            let count = self.extract(&found, target).map_err(|e| e.in_file(&self.source.path))?;
            if !self.json {
                let mut text = Text::new();
                let done = text.paint("wrote", Style::Good);
                text.line(format!("{done} {} to {}", output::count(count, "tensor"), target.display()));
                text.print()?;
                return Ok(Verdict::Good);
            }
        }
        if self.json {
            list_json(&found)?
        } else {
            list(&found)?
        }
        Ok(Verdict::Good)
    }

    /// Writes the tensors that have values, one in memory at a time, and tells how many.
    fn extract(&self, found: &[(String, Variable)], path: &Path) -> Result<usize> {
        let valued: Vec<(String, &Variable)> = found
            .iter()
            // A checkpoint's object graph is a message about the tensors, not one of them.
            .filter(|(name, v)| !matches!(v.value, Value::None) && name != OBJECT_GRAPH_KEY)
            // Iterators and the like are variants, which are no plain values.
            .filter(|(_, v)| v.dtype != DType::Variant)
            .map(|(name, v)| (name.clone(), v))
            .collect();
        let progress = Progress::new("extracting", tensors::total_bytes(found));
        let target = Target::new(path)?;
        let name = target.name();
        match path.extension().and_then(|e| e.to_str()) {
            Some("npz") => {
                let mut archive = npz::Writer::new(target.create(&name)?, self.compress);
                for (name, variable) in &valued {
                    archive.add(name, &variable.load()?)?;
                    progress.advance(variable.nbytes().unwrap_or(0));
                }
                archive.finish()?.flush()?;
            }
            Some("safetensors") => {
                let numbers = |v: &Variable| v.dtype.size().is_some();
                let numeric: Vec<(String, &Variable)> =
                    valued.iter().filter(|(_, v)| numbers(v)).cloned().collect();
                let mut out = target.create(&name)?;
                safetensors::write(&numeric, &mut out)?;
                out.flush()?;
                drop(out);
                target.commit()?;
                return Ok(numeric.len());
            }
            Some(other) if !path.is_dir() => {
                return Err(Error::invalid(format!("tensors aren't written as .{other}"))
                    .help("name an .npz or .safetensors file, or a folder"));
            }
            _ => {
                for (tensor, variable) in &valued {
                    let file = format!("{name}/{}.npy", file_name(tensor));
                    let mut out = target.create(&file)?;
                    npy::write(&variable.load()?, &mut out)
                        .map_err(|e| e.at(format!("tensor {tensor:?}")))?;
                    out.flush()?;
                    progress.advance(variable.nbytes().unwrap_or(0));
                }
                if valued.is_empty() {
                    std::fs::create_dir_all(target.stage(&format!("{name}/."))?)?;
                }
            }
        }
        target.commit()?;
        Ok(valued.len())
    }
}

/// A tensor's name as a path that stays within its folder on any system.
fn file_name(name: &str) -> String {
    let part = |part: &str| match part {
        "" | "." | ".." => "_".to_owned(),
        part => {
            part.chars().map(|c| if c.is_control() || "<>:\"\\|?*".contains(c) { '_' } else { c }).collect()
        }
    };
    name.split('/').map(part).collect::<Vec<String>>().join("/")
}

fn list(found: &[(String, Variable)]) -> Result<()> {
    let mut text = Text::new();
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|(name, v)| {
            let size = match (&v.value, v.nbytes()) {
                (Value::None, _) => "no value".to_owned(),
                (_, Some(n)) => output::bytes(n),
                (_, None) => String::new(),
            };
            vec![name.clone(), v.dtype.to_string(), output::shape(&v.shape), size]
        })
        .collect();
    text.table(&["name", "dtype", "shape", "size"], &[3], &rows);
    let total = output::bytes(tensors::total_bytes(found));
    let sum = text.paint(format!("  {}, {total}", output::count(found.len(), "tensor")), Style::Dim);
    text.line(sum);
    text.print()
}

fn list_json(found: &[(String, Variable)]) -> Result<()> {
    let entry = |(name, v): &(String, Variable)| json!({"name": name, "dtype": v.dtype.name(), "shape": v.shape, "bytes": v.nbytes(), "trainable": v.trainable});
    output::json(&found.iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_stay_in_their_folder() {
        assert_eq!(file_name("dense/kernel:0"), "dense/kernel_0");
        assert_eq!(file_name("../../etc/passwd"), "_/_/etc/passwd");
        assert_eq!(file_name("/a//b"), "_/a/_/b");
    }
}
