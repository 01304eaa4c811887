//! Weights in several files, and the `.weights.json` that says which file holds which (Keras 3: `max_shard_size`).

use modelark_artifact::{Error, Result, Target, Variable};
use modelark_hdf5 as hdf5;
use modelark_hdf5::Attribute;
use serde_json::{Map, Value, json};

/// Where the weights of a tree go: one file, or several.
pub(crate) trait Sink {
    /// Makes a group, with those that lead to it.
    fn group(&mut self, path: &str) -> Result<()>;

    /// Adds an attribute to a group.
    fn attribute(&mut self, path: &str, name: &str, value: Attribute) -> Result<()>;

    /// Adds a weight.
    fn dataset(&mut self, path: &str, variable: &Variable) -> Result<()>;
}

impl Sink for hdf5::Writer {
    fn group(&mut self, path: &str) -> Result<()> {
        hdf5::Writer::group(self, path)
    }

    fn attribute(&mut self, path: &str, name: &str, value: Attribute) -> Result<()> {
        hdf5::Writer::attribute(self, path, name, value)
    }

    fn dataset(&mut self, path: &str, variable: &Variable) -> Result<()> {
        hdf5::Writer::dataset(self, path, variable)
    }
}

/// A set of files none of which holds more than so many bytes of weights.
pub(crate) struct Shards {
    /// What the files' names begin with.
    stem: String,
    most: u64,
    compress: bool,
    files: Vec<hdf5::Writer>,
    /// Bytes of weights in the last file, and in all.
    held: u64,
    total: u64,
    /// The files of each group.
    map: Map<String, Value>,
    /// The group at hand with its attributes, which each of its files has.
    group: (String, Vec<(String, Attribute)>),
}

impl Shards {
    /// No weights yet; `name` is that of the `.weights.json`.
    pub fn new(name: &str, most: u64, compress: bool) -> Self {
        let stem = name.strip_suffix(".json").unwrap_or(name);
        let stem = stem.strip_suffix(".weights").unwrap_or(stem).to_owned();
        let files = vec![hdf5::Writer::new().compress(compress)];
        let group = (String::new(), Vec::new());
        Shards { stem, most, compress, files, held: 0, total: 0, map: Map::new(), group }
    }

    fn name(&self, index: usize) -> String {
        format!("{}_{index:05}.weights.h5", self.stem)
    }

    /// Writes all files, the one that lists the others last.
    pub fn write(self, target: &Target) -> Result<()> {
        for (i, file) in self.files.iter().enumerate() {
            file.write(&target.stage(&self.name(i))?)?;
        }
        let list = json!({"metadata": {"total_size": self.total}, "weight_map": self.map});
        target.write(&target.name(), format!("{list:#}").as_bytes())
    }
}

impl Sink for Shards {
    fn group(&mut self, path: &str) -> Result<()> {
        self.group = (path.to_owned(), Vec::new());
        Ok(())
    }

    fn attribute(&mut self, _: &str, name: &str, value: Attribute) -> Result<()> {
        self.group.1.push((name.to_owned(), value));
        Ok(())
    }

    fn dataset(&mut self, path: &str, variable: &Variable) -> Result<()> {
        let count = variable.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
        let width = variable.dtype.size().unwrap_or(1) as u64;
        let size = count.and_then(|c| c.checked_mul(width));
        let size = size.ok_or_else(|| Error::limit("a weight larger than any file").at(path.to_owned()))?;
        if size > self.most {
            return Err(Error::limit(format!(
                "a weight of {size} bytes doesn't fit into a file of {}",
                self.most
            ))
            .at(path.to_owned())
            .help("let the files be larger"));
        }
        if self.held.saturating_add(size) > self.most {
            self.files.push(hdf5::Writer::new().compress(self.compress));
            self.held = 0;
        }
        (self.held, self.total) = (self.held + size, self.total.saturating_add(size));
        let last = self.name(self.files.len() - 1);
        let owner = path.rsplit_once('/').map_or("", |(owner, _)| owner);
        let Some(file) = self.files.last_mut() else { return Ok(()) };
        if !file.contains(owner) {
            file.group(owner)?;
            for (name, value) in self.group.1.iter().filter(|_| self.group.0 == owner) {
                file.attribute(owner, name, value.clone())?;
            }
        }
        file.dataset(path, variable)?;
        let listed = self.map.entry(format!("/{owner}")).or_insert_with(|| json!(last));
        match listed {
            Value::String(one) if *one != last => *listed = json!([one.clone(), last]),
            Value::Array(all) if !all.contains(&json!(last)) => all.push(json!(last)),
            _ => {}
        }
        Ok(())
    }
}
