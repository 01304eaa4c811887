//! A checkpoint, whichever version it is in and by whichever of its files it is named.

use modelark_artifact::{Error, ErrorKind, Limits, Place, Result, Variable, nearest};
use modelark_proto::TrackableObjectGraph;
use modelark_tensor::Tensor;

use crate::bundle::beside;
use crate::state::{self, STATE_FILE};
use crate::table::{Table, is_table};
use crate::{Bundle, V1, v1};

/// A checkpoint that is read (TensorFlow: `tf.train.load_checkpoint`). Cloning is cheap.
///
/// ```no_run
/// use modelark_artifact::{Limits, Place};
/// use modelark_checkpoint::Reader;
///
/// let reader = Reader::open(&Place::of_path("training/model.ckpt-1000"), &Limits::default())?;
/// for variable in reader.variables()? {
///     println!("{} {} {:?}", variable.name, variable.dtype, variable.shape);
/// }
/// let kernel = reader.tensor("dense/kernel")?;
/// # Ok::<(), modelark_artifact::Error>(())
/// ```
#[derive(Debug, Clone)]
pub enum Reader {
    /// A TensorBundle, the form since TensorFlow 0.12.
    Bundle(Bundle),
    /// A file, or several, of the first version.
    V1(V1),
}

/// Where a checkpoint's files are.
#[derive(Debug, Clone)]
pub(crate) enum Located {
    /// The prefix of a bundle.
    Bundle(Place),
    /// The files of a V1 checkpoint.
    V1(Vec<Place>),
}

impl Reader {
    /// Opens what `place` means: a prefix, any of its files (`.index`, `.data-…`, `.meta`), a V1 file, or a folder or
    /// its `checkpoint` file, of which the latest checkpoint is opened.
    ///
    /// # Errors
    /// When there is no checkpoint, part of it is missing, or it is damaged.
    pub fn open(place: &Place, limits: &Limits) -> Result<Self> {
        match locate(place, limits)? {
            Located::Bundle(prefix) => Bundle::open(prefix, limits).map(Reader::Bundle),
            Located::V1(files) => V1::open(&files, limits).map(Reader::V1),
        }
    }

    /// The keys of all tensors in order.
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Reader::Bundle(b) => b.keys().collect(),
            Reader::V1(v) => v.keys().collect(),
        }
    }

    /// The variable under a key, named by it. Its value stays in the file until it is asked for.
    ///
    /// # Errors
    /// When there is no such key; the nearest ones are named.
    pub fn variable(&self, key: &str) -> Result<Variable> {
        match self {
            Reader::Bundle(b) => b.variable(key),
            Reader::V1(v) => v.variable(key),
        }
    }

    /// Every tensor of the checkpoint, by key in order: the object graph and optimizer's slots included.
    ///
    /// # Errors
    /// When a tensor's dtype or shape isn't one.
    pub fn variables(&self) -> Result<Vec<Variable>> {
        self.keys().into_iter().map(|key| self.variable(key)).collect()
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// As [`Bundle::tensor`].
    pub fn tensor(&self, key: &str) -> Result<Tensor> {
        match self {
            Reader::Bundle(b) => b.tensor(key),
            Reader::V1(v) => v.tensor(key),
        }
    }

    /// The object graph, when the checkpoint is object-based.
    ///
    /// # Errors
    /// When it is there and can't be read.
    pub fn object_graph(&self) -> Result<Option<TrackableObjectGraph>> {
        match self {
            Reader::Bundle(b) => b.object_graph(),
            Reader::V1(_) => Ok(None),
        }
    }
}

/// Finds the files of the checkpoint that `place` means.
pub(crate) fn locate(place: &Place, limits: &Limits) -> Result<Located> {
    if place.is_folder() {
        return in_folder(place, limits);
    }
    if let Some(prefix) = prefix_of(place)
        && (place.open().is_err() || !is_v1_file(place, limits))
    {
        // One of several files was named; the others stand beside it.
        return at_prefix(&prefix, limits)?.ok_or_else(|| nothing(&prefix));
    }
    if place.files.exists(&place.name) {
        if is_v1_file(place, limits) {
            return Ok(Located::V1(vec![place.clone()]));
        }
        // A file of the prefix's own name may be something else, such as a state file called as the model is.
        if let Some(found) = at_prefix(place, limits)? {
            return Ok(found);
        }
        return latest(place, limits);
    }
    at_prefix(place, limits)?.ok_or_else(|| nothing(place))
}

/// The prefix, when `place` names one of a checkpoint's files by its ending.
pub(crate) fn prefix_of(place: &Place) -> Option<Place> {
    let name = &place.name;
    let prefix = name
        .strip_suffix(".index")
        .or_else(|| name.strip_suffix(".meta"))
        .or_else(|| name.rsplit_once(".data-").filter(|(_, n)| is_shard_number(n)).map(|(p, _)| p))?;
    (!prefix.is_empty() && !prefix.ends_with('/'))
        .then(|| Place { files: place.files.clone(), name: prefix.to_owned() })
}

/// Whether this is the end of a data file's name: `00000-of-00001`.
fn is_shard_number(text: &str) -> bool {
    text.split_once("-of-")
        .is_some_and(|(i, n)| [i, n].iter().all(|t| t.len() >= 5 && t.bytes().all(|b| b.is_ascii_digit())))
}

fn is_v1_file(place: &Place, limits: &Limits) -> bool {
    let Ok(bytes) = place.open() else { return false };
    is_table(&bytes) && Table::open(bytes, limits).and_then(|t| v1::is_v1(&t)).unwrap_or(false)
}

/// The checkpoint of exactly this prefix, or `None` when nothing of it is there.
fn at_prefix(prefix: &Place, limits: &Limits) -> Result<Option<Located>> {
    let index = beside(prefix, ".index");
    if prefix.files.exists(&index.name) {
        return Ok(Some(Located::Bundle(prefix.clone())));
    }
    if is_v1_file(prefix, limits) {
        return Ok(Some(Located::V1(vec![prefix.clone()])));
    }
    // V1 checkpoints of several files have no index.
    let parts = shards(prefix, "-");
    if !parts.is_empty() && parts.iter().all(|p| is_v1_file(p, limits)) {
        return Ok(Some(Located::V1(parts)));
    }
    if has_data(prefix) {
        return Err(Error::missing("the checkpoint's data is here, but its index isn't")
            .in_file(index.label())
            .help("copy the .index file beside the .data file: it says which tensors there are"));
    }
    Ok(None)
}

/// Whether any data file of this prefix is there.
pub(crate) fn has_data(prefix: &Place) -> bool {
    !shards(prefix, ".data-").is_empty()
}

/// The files that the prefix, this mark and a shard's number name.
pub(crate) fn shards(prefix: &Place, mark: &str) -> Vec<Place> {
    let (folder, name) = prefix.name.rsplit_once('/').unwrap_or(("", &prefix.name));
    let siblings = prefix.files.list(folder).unwrap_or_default();
    let belongs =
        |s: &&String| s.strip_prefix(name).and_then(|s| s.strip_prefix(mark)).is_some_and(is_shard_number);
    siblings.iter().filter(belongs).map(|s| prefix.sibling(s)).collect()
}

/// The latest checkpoint of a folder, or the only one.
fn in_folder(folder: &Place, limits: &Limits) -> Result<Located> {
    let state = folder.child(STATE_FILE);
    if state.files.exists(&state.name)
        && !is_v1_file(&state, limits)
        && !state.files.exists(&beside(&state, ".index").name)
    {
        return latest(&state, limits);
    }
    let names = folder.files.list(&folder.name)?;
    let prefixes: Vec<&str> = names.iter().filter_map(|n| n.strip_suffix(".index")).collect();
    match prefixes[..] {
        [one] => Ok(Located::Bundle(folder.child(one))),
        [] => {
            // Data alone gives the error that says so.
            let data = names.iter().map(|n| folder.child(n)).find_map(|p| prefix_of(&p));
            match data {
                Some(prefix) => at_prefix(&prefix, limits)?.ok_or_else(|| nothing(folder)),
                None => Err(nothing(folder)),
            }
        }
        _ => Err(Error::invalid(format!(
            "the folder holds {} checkpoints and no state file: {}",
            prefixes.len(),
            prefixes.join(", ")
        ))
        .in_file(folder.label())
        .help("name one of them")),
    }
}

/// The checkpoint that a state file calls the latest.
fn latest(file: &Place, limits: &Limits) -> Result<Located> {
    let find = || {
        let prefix = latest_prefix(file, limits)?;
        at_prefix(&prefix, limits)?.ok_or_else(|| {
            Error::missing(format!("the latest checkpoint, {:?}, isn't there", prefix.label()))
                .help("copy its files beside the state file, or name another checkpoint")
        })
    };
    find().map_err(|e| e.in_file(file.label()))
}

/// Whether this is a state file, or a folder with one, that names a checkpoint.
pub(crate) fn names_checkpoint(place: &Place) -> bool {
    let file = if place.is_folder() { place.child(STATE_FILE) } else { place.clone() };
    latest_prefix(&file, &Limits::default()).is_ok()
}

/// The prefix that a state file names.
fn latest_prefix(file: &Place, limits: &Limits) -> Result<Place> {
    let bytes = file.open()?;
    if bytes.len() as u64 > limits.text_bytes {
        return Err(Error::limit("the state file is over the limit of bytes a text"));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Error::corrupt("this is neither a checkpoint nor a checkpoint's state file"))?;
    let path = state::parse(text)?.model_checkpoint_path;
    // An absolute path was right where the files were saved; they stand together still.
    let name = match path.strip_prefix('/') {
        Some(absolute) => absolute.rsplit('/').next().unwrap_or(absolute),
        None => &path,
    };
    Ok(file.sibling(name))
}

fn nothing(place: &Place) -> Error {
    let (folder, name) = place.name.rsplit_once('/').unwrap_or(("", &place.name));
    let names = place.files.list(folder).unwrap_or_default();
    let prefixes = names.iter().filter_map(|n| n.strip_suffix(".index"));
    let e = Error::new(ErrorKind::Missing, "there is no checkpoint here").in_file(place.label());
    match nearest(name, prefixes) {
        Some(near) => e.help(near),
        None => e.help("name its prefix, such as `model.ckpt` for `model.ckpt.index` and its data files"),
    }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Memory;

    use super::*;

    fn golden(names: &[(&str, &str)]) -> Memory {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut files = Memory::new();
        for (name, from) in names {
            files.insert(*name, std::fs::read(folder.join(from)).expect("read"));
        }
        files
    }

    const DATA: &str = ".data-00000-of-00001";

    fn open(files: &Memory, name: &str) -> Result<usize> {
        Reader::open(&Place::in_memory(files.clone(), name), &Limits::default()).map(|r| r.keys().len())
    }

    #[test]
    fn any_of_its_files_means_the_checkpoint() {
        let data = &format!("m-1{DATA}");
        let mut files = golden(&[("m-1.index", "partitioned.index"), (data, &format!("partitioned{DATA}"))]);
        files.insert("m-1.meta", &b"graph"[..]);
        for name in ["m-1", "m-1.index", "m-1.meta", data, ""] {
            assert_eq!(open(&files, name).expect(name), 2, "{name:?}");
        }
        files.insert("checkpoint", &b"model_checkpoint_path: '/models/m-1'"[..]);
        for name in ["", "checkpoint"] {
            assert_eq!(open(&files, name).expect(name), 2, "{name:?}");
        }
        let e = open(&files, "m-2").expect_err("none").to_string();
        assert!(e.contains("did you mean \"m-1\"?"), "{e}");
        files.insert("checkpoint", &b"model_checkpoint_path: 'm-7'"[..]);
        let e = open(&files, "").expect_err("none").to_string();
        assert!(e.contains("m-7") && e.contains("checkpoint"), "{e}");
    }

    #[test]
    fn v1_files_are_known_by_content() {
        let mut files = golden(&[("export", "v1"), ("part-00000-of-00001", "partitioned_v1")]);
        files.insert("export.meta", &b"graph"[..]);
        assert!(open(&files, "export").expect("v1") > 10);
        assert!(open(&files, "export.meta").expect("v1") > 10);
        assert_eq!(open(&files, "part").expect("parts"), 2);
    }

    #[test]
    fn missing_parts_are_named() {
        let data = &format!("m{DATA}");
        let files = golden(&[(data, &format!("partitioned{DATA}"))]);
        for name in ["m", data, "m.index", ""] {
            let e = open(&files, name).expect_err(name).to_string();
            assert!(e.contains("m.index") && e.contains("index isn't"), "{name}: {e}");
        }
        assert!(open(&Memory::new(), "").expect_err("empty").to_string().contains("no checkpoint here"));
    }
}
