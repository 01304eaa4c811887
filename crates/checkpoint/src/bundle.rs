//! TensorBundle, the form of every checkpoint since TensorFlow 0.12: an index of tensors and the files with their data.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use modelark_artifact::{Error, ErrorKind, Limits, Output, Place, Result, Target, Variable, nearest};
use modelark_proto::{
    BundleEntryProto, BundleHeaderProto, Message, TrackableObjectGraph, VersionDef, bundle_header_proto,
};
use modelark_tensor::{DType, SharedBytes, Tensor};

use crate::region::{assemble, full};
use crate::slice::Slice;
use crate::table::{Table, TableWriter};
use crate::{crc, payload, wire};

/// The key of the object graph, a scalar string, in object-based checkpoints.
pub const OBJECT_GRAPH_KEY: &str = "_CHECKPOINTABLE_OBJECT_GRAPH";

/// What the version of a bundle's format is; a bundle that needs a newer reader says so.
const VERSION: i32 = 1;

/// A checkpoint that is read: the index in memory, the data files mapped when they are first needed.
///
/// Cloning is cheap. Variables hold on to it.
#[derive(Debug, Clone)]
pub struct Bundle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    prefix: Place,
    limits: Limits,
    header: BundleHeaderProto,
    entries: BTreeMap<String, BundleEntryProto>,
    slices: HashMap<Vec<u8>, BundleEntryProto>,
    shards: Mutex<HashMap<i32, SharedBytes>>,
}

impl Bundle {
    /// Opens the checkpoint whose files are `<prefix>.index` and `<prefix>.data-00000-of-00001` (or more).
    ///
    /// No data file is touched.
    ///
    /// # Errors
    /// When the index is missing, damaged, needs a newer reader, or is over the limits.
    pub fn open(prefix: Place, limits: &Limits) -> Result<Self> {
        let index = beside(&prefix, ".index");
        let open = || -> Result<Self> {
            let table = Table::open(index.open()?, limits)?;
            let mut header = None;
            let (mut entries, mut slices) = (BTreeMap::new(), HashMap::new());
            table.scan(|key, value| {
                let damaged = |e| {
                    Error::corrupt("its record is damaged")
                        .because(e)
                        .at(format!("tensor {:?}", String::from_utf8_lossy(key)))
                };
                if key.is_empty() {
                    header = Some(BundleHeaderProto::decode(&*value).map_err(damaged)?);
                    return Ok(());
                }
                let entry = BundleEntryProto::decode(&*value).map_err(damaged)?;
                // A slice's key starts with the code of 0.
                if key.starts_with(&[0]) {
                    slices.insert(key.to_vec(), entry);
                } else {
                    let key = std::str::from_utf8(key)
                        .map_err(|e| Error::unsupported(format!("the key {key:?} isn't text")).because(e))?;
                    entries.insert(key.to_owned(), entry);
                }
                Ok(())
            })?;
            let header = header.ok_or_else(|| Error::corrupt("the index has no header record"))?;
            let needs = header.version.as_ref().map_or(0, |v| v.min_consumer);
            if needs > VERSION {
                return Err(Error::unsupported(format!(
                    "the checkpoint asks for a reader of version {needs}; this one is of version {VERSION}"
                )));
            }
            Ok(Bundle::of(prefix.clone(), limits.clone(), header, entries, slices))
        };
        open().map_err(|e| {
            let e = e.in_file(index.label());
            match e.kind() {
                ErrorKind::Missing => {
                    e.help("a checkpoint is its .index and .data files together: copy both, and name their common prefix")
                }
                _ => e,
            }
        })
    }

    /// What an index says: its header, its records by key, and those of slices.
    pub(crate) fn of(
        prefix: Place,
        limits: Limits,
        header: BundleHeaderProto,
        entries: BTreeMap<String, BundleEntryProto>,
        slices: HashMap<Vec<u8>, BundleEntryProto>,
    ) -> Self {
        Bundle(Arc::new(Inner { prefix, limits, header, entries, slices, shards: Mutex::default() }))
    }

    /// The keys of all tensors in order; a tensor saved in slices has one.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.entries.keys().map(String::as_str)
    }

    /// What the index says of a tensor.
    pub fn entry(&self, key: &str) -> Option<&BundleEntryProto> {
        self.0.entries.get(key)
    }

    /// The number of data files.
    pub fn num_shards(&self) -> i32 {
        self.0.header.num_shards
    }

    /// The prefix's path for messages.
    pub fn label(&self) -> PathBuf {
        self.0.prefix.label()
    }

    /// The variable under a key, named by it. Its value stays in the file until it is asked for.
    ///
    /// # Errors
    /// When there is no such key, or its dtype or shape isn't one.
    pub fn variable(&self, key: &str) -> Result<Variable> {
        let entry = self.0.entry(key)?;
        let (dtype, shape) = self.0.describe(entry).map_err(|e| self.0.located(e, key))?;
        let (inner, name) = (self.0.clone(), key.to_owned());
        Ok(Variable::lazy(key, dtype, shape, move || inner.load(&name)))
    }

    /// All variables, by key in order.
    ///
    /// # Errors
    /// As [`Bundle::variable`].
    pub fn variables(&self) -> Result<Vec<Variable>> {
        self.keys().map(|key| self.variable(key)).collect()
    }

    /// Reads a tensor; numbers are mapped, not copied, unless they were saved in slices or by a big-endian machine.
    ///
    /// # Errors
    /// When there is no such key, its data file is missing or too short, its checksum differs (if the limits have
    /// checksums compared), or it is over the limits.
    pub fn tensor(&self, key: &str) -> Result<Tensor> {
        self.0.load(key)
    }

    /// Reads a slice of a tensor, whether or not it was saved in slices itself (TensorFlow: `RestoreV2` with
    /// `shape_and_slices`).
    ///
    /// # Errors
    /// As [`Bundle::tensor`], and when the slice reaches past the tensor.
    pub fn tensor_slice(&self, key: &str, slice: &Slice) -> Result<Tensor> {
        self.0.load_slice(key, slice).map_err(|e| self.0.located(e, key))
    }

    /// The object graph of an object-based checkpoint.
    ///
    /// # Errors
    /// When it is there and can't be read.
    pub fn object_graph(&self) -> Result<Option<TrackableObjectGraph>> {
        if self.entry(OBJECT_GRAPH_KEY).is_none() {
            return Ok(None);
        }
        let tensor = self.tensor(OBJECT_GRAPH_KEY)?;
        let read = || -> Result<TrackableObjectGraph> {
            let [text] = tensor.strings()? else {
                return Err(Error::corrupt("the object graph is no scalar"));
            };
            TrackableObjectGraph::decode(&**text)
                .map_err(|e| Error::corrupt("the object graph is damaged").because(e))
        };
        read().map(Some).map_err(|e| self.0.located(e, OBJECT_GRAPH_KEY))
    }
}

impl Bundle {
    /// What is stored of a tensor as it is, for dtypes that aren't read: its record, and its bytes.
    pub(crate) fn raw(&self, key: &str) -> Result<(BundleEntryProto, SharedBytes)> {
        let entry = self.0.entry(key)?;
        let bytes = self.0.stored(entry).map_err(|e| self.0.located(e, key))?;
        Ok((entry.clone(), bytes))
    }
}

impl Inner {
    fn entry(&self, key: &str) -> Result<&BundleEntryProto> {
        self.entries.get(key).ok_or_else(|| {
            let e = Error::missing(format!("the checkpoint has no tensor {key:?}")).in_file(self.index());
            match nearest(key, self.entries.keys().map(String::as_str)) {
                Some(near) => e.help(near),
                None => e,
            }
        })
    }

    fn index(&self) -> PathBuf {
        beside(&self.prefix, ".index").label()
    }

    fn located(&self, e: Error, key: &str) -> Error {
        e.at(format!("tensor {key:?}")).in_file(self.index())
    }

    fn describe(&self, entry: &BundleEntryProto) -> Result<(DType, Vec<usize>)> {
        let dtype = wire::dtype_from_proto(entry.dtype)?;
        let shape = match &entry.shape {
            Some(shape) => wire::shape_from_proto(shape)?,
            None => Vec::new(),
        };
        wire::check_size(dtype, &shape, &self.limits)?;
        Ok((dtype, shape))
    }

    fn load(&self, key: &str) -> Result<Tensor> {
        let entry = self.entry(key)?;
        let load = || {
            if entry.slices.is_empty() {
                return self.read(entry);
            }
            let (dtype, shape) = self.describe(entry)?;
            self.assemble(key, entry, dtype, &shape, &full(&shape))
        };
        load().map_err(|e| self.located(e, key))
    }

    fn load_slice(&self, key: &str, slice: &Slice) -> Result<Tensor> {
        let entry = self.entry(key)?;
        let (dtype, shape) = self.describe(entry)?;
        let wanted = slice.ranges(&shape)?;
        if wanted == full(&shape) {
            self.load(key)
        } else {
            self.assemble(key, entry, dtype, &shape, &wanted)
        }
    }

    /// The tensor that an entry's own bytes hold.
    fn read(&self, entry: &BundleEntryProto) -> Result<Tensor> {
        let (dtype, shape) = self.describe(entry)?;
        let bytes = self.stored(entry)?;
        let stored = self.limits.verify.then_some(entry.crc32c);
        let big_endian = self.header.endianness == bundle_header_proto::Endianness::Big as i32;
        payload::read(dtype, &shape, bytes, big_endian, stored)
            .map_err(|e| e.in_file(self.data_file(entry.shard_id).label()))
    }

    /// The bytes of an entry, where they lie in the data file.
    fn stored(&self, entry: &BundleEntryProto) -> Result<SharedBytes> {
        let shard = self.shard(entry.shard_id)?;
        let range = || {
            let start = usize::try_from(entry.offset).ok()?;
            Some(start..start.checked_add(usize::try_from(entry.size).ok()?)?)
        };
        range().and_then(|range| shard.slice(range)).ok_or_else(|| {
            if shard.starts_with(b"version https://git-lfs") {
                return Error::corrupt("this is a Git-LFS pointer, not the data")
                    .help("fetch the file itself with `git lfs pull`")
                    .in_file(self.data_file(entry.shard_id).label());
            }
            Error::corrupt(format!(
                "the tensor lies at byte {} and takes {}, but the file has {} bytes",
                entry.offset,
                entry.size,
                shard.len()
            ))
            .help("the file was cut short or belongs to another save: copy it again")
            .in_file(self.data_file(entry.shard_id).label())
        })
    }

    /// The part `wanted` of a tensor, put together from the slices it was saved in, or from the whole.
    fn assemble(
        &self,
        key: &str,
        entry: &BundleEntryProto,
        dtype: DType,
        shape: &[usize],
        wanted: &[Range<usize>],
    ) -> Result<Tensor> {
        if entry.slices.is_empty() {
            return assemble(dtype, shape, wanted, &[full(shape)], |_| self.read(entry));
        }
        let mut parts = Vec::new();
        let mut entries = Vec::new();
        for slice in &entry.slices {
            let slice = Slice::from_proto(slice)?;
            entries.push(self.slices.get(&slice.key(key)).ok_or_else(|| {
                Error::corrupt(format!("its slice {slice} isn't in the index")).help("copy the index again")
            })?);
            parts.push(slice.ranges(shape)?);
        }
        let read = |i: usize| match entries.get(i) {
            Some(entry) => self.read(entry),
            None => Err(Error::corrupt("a slice is missing")),
        };
        assemble(dtype, shape, wanted, &parts, read)
    }

    fn data_file(&self, shard: i32) -> Place {
        beside(&self.prefix, &data_suffix(shard, self.header.num_shards))
    }

    fn shard(&self, shard: i32) -> Result<SharedBytes> {
        if shard < 0 || shard >= self.header.num_shards.max(1) {
            return Err(Error::corrupt(format!(
                "the index puts it into data file {shard} of {}",
                self.header.num_shards
            )));
        }
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = shards.get(&shard) {
            return Ok(bytes.clone());
        }
        let file = self.data_file(shard);
        let bytes = file.open().map_err(|e| {
            let e = match e.kind() {
                ErrorKind::Missing => Error::missing("this data file of the checkpoint isn't there"),
                _ => e,
            };
            e.in_file(file.label()).help(format!(
                "the checkpoint has {} data file(s): copy all of them beside the index",
                self.header.num_shards
            ))
        })?;
        shards.insert(shard, bytes.clone());
        Ok(bytes)
    }
}

/// The place of a checkpoint's file: its prefix and what follows.
pub(crate) fn beside(prefix: &Place, suffix: &str) -> Place {
    Place { files: prefix.files.clone(), name: format!("{}{suffix}", prefix.name) }
}

/// The name of a data file while it isn't known how many there will be.
fn unfinished(prefix: &str, shard: i32) -> String {
    format!("{prefix}.data-{shard:05}")
}

/// What follows the prefix in the name of a data file.
pub(crate) fn data_suffix(shard: i32, shards: i32) -> String {
    format!(".data-{shard:05}-of-{shards:05}")
}

/// Whether that is what follows the prefix.
pub(crate) fn is_data_suffix(text: &str) -> bool {
    let number = |n: &str| n.len() >= 5 && n.bytes().all(|b| b.is_ascii_digit());
    let parts = text.strip_prefix(".data-").and_then(|rest| rest.split_once("-of-"));
    parts.is_some_and(|(shard, shards)| number(shard) && number(shards))
}

/// As many data files as five digits can number.
const MOST_SHARDS: i32 = 99_999;

/// A checkpoint that is written, one tensor at a time, in one data file unless [`BundleWriter::shards_of`] asks for more.
///
/// Its bytes are what TensorFlow writes for the same tensors in the same order.
#[derive(Debug)]
pub struct BundleWriter<'t> {
    target: &'t Target,
    prefix: String,
    data: Output,
    offset: u64,
    alignment: u64,
    shard: i32,
    shard_bytes: u64,
    entries: BTreeMap<Vec<u8>, BundleEntryProto>,
}

impl<'t> BundleWriter<'t> {
    /// Begins a checkpoint whose files' names, relative to the target's parent, start with `prefix`
    /// (`model.ckpt`, `saved/variables/variables`).
    ///
    /// # Errors
    /// When the data file can't be created.
    pub fn new(target: &'t Target, prefix: impl Into<String>) -> Result<Self> {
        let prefix = prefix.into();
        let data = target.create(&unfinished(&prefix, 0))?;
        let entries = BTreeMap::new();
        Ok(BundleWriter {
            target,
            prefix,
            data,
            offset: 0,
            alignment: 1,
            shard: 0,
            shard_bytes: u64::MAX,
            entries,
        })
    }

    /// Lets every tensor start at a multiple of `alignment` bytes. TensorFlow packs them (1), and reads either.
    pub fn aligned(mut self, alignment: usize) -> Self {
        self.alignment = alignment.max(1) as u64;
        self
    }

    /// Begins another data file where a tensor would make one larger than that many bytes; a tensor is never divided.
    pub fn shards_of(mut self, bytes: u64) -> Self {
        self.shard_bytes = bytes;
        self
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// When the key is empty or taken, or writing fails.
    pub fn add(&mut self, key: &str, tensor: &Tensor) -> Result<()> {
        if key.is_empty() || key.starts_with('\0') {
            return Err(Error::invalid(format!("{key:?} can't be a tensor's key")));
        }
        self.put(key.as_bytes().to_vec(), tensor).map_err(|e| self.located(e, key))
    }

    /// Adds a slice of the tensor `key`, whose full shape is `shape`; a partitioned variable is saved so.
    ///
    /// # Errors
    /// When the slice doesn't lie within the shape, `tensor` isn't as large as the slice, another slice was added
    /// with another dtype or full shape, or writing fails.
    pub fn add_slice(&mut self, key: &str, shape: &[usize], slice: &Slice, tensor: &Tensor) -> Result<()> {
        let mut add = || {
            if key.is_empty() || key.starts_with('\0') {
                return Err(Error::invalid("this can't be a tensor's key"));
            }
            let lengths: Vec<usize> = slice.ranges(shape)?.iter().map(Range::len).collect();
            if tensor.shape() != lengths {
                return Err(Error::mismatch(format!(
                    "the slice {slice} of {shape:?} has the shape {lengths:?}, the tensor {:?}",
                    tensor.shape()
                )));
            }
            let dtype = wire::dtype_to_proto(tensor.dtype());
            let whole = self.entries.entry(key.as_bytes().to_vec()).or_insert_with(|| BundleEntryProto {
                dtype,
                shape: Some(wire::shape_to_proto(shape)),
                ..BundleEntryProto::default()
            });
            let fits = whole.dtype == dtype && whole.shape == Some(wire::shape_to_proto(shape));
            if !fits || (whole.size, whole.crc32c) != (0, 0) {
                return Err(Error::mismatch("it was added before, as another tensor or as a whole one"));
            }
            whole.slices.push(slice.to_proto());
            self.put(slice.key(key), tensor)
        };
        add().map_err(|e| self.located(e, key))
    }

    /// Adds the object graph of an object-based checkpoint.
    ///
    /// # Errors
    /// When one was added before, or writing fails.
    pub fn add_object_graph(&mut self, graph: &TrackableObjectGraph) -> Result<()> {
        self.add(OBJECT_GRAPH_KEY, &Tensor::scalar_string(graph.encode_to_vec()))
    }

    /// Writes the index. Nothing lands in place before the target's commit.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> Result<()> {
        self.data.flush()?;
        // How many data files there are is part of their names, and known only now.
        let files = self.shard + 1;
        let shards = self.free_shards(files);
        for shard in 0..files {
            let from = self.target.stage(&unfinished(&self.prefix, shard))?;
            std::fs::rename(
                from,
                self.target.stage(&format!("{}{}", self.prefix, data_suffix(shard, shards)))?,
            )?;
        }
        let mut table = TableWriter::new(self.target.create(&format!("{}.index", self.prefix))?);
        let header = BundleHeaderProto {
            num_shards: shards,
            version: Some(VersionDef { producer: VERSION, ..VersionDef::default() }),
            ..BundleHeaderProto::default()
        };
        table.add(b"", &header.encode_to_vec())?;
        for (key, entry) in &self.entries {
            table.add(key, &entry.encode_to_vec())?;
        }
        Ok(table.finish()?.flush()?)
    }

    /// How many data files the names are to speak of, so that none of `files` names is taken by the checkpoint that is
    /// there now: its index goes on finding its own data until the new index takes its place.
    fn free_shards(&self, files: i32) -> i32 {
        let folder = self.target.path().parent().filter(|p| !p.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        // Below a folder that is replaced as a whole, nothing is in the way.
        let within = self.prefix.contains('/');
        let taken: Vec<String> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|name| !within && name.strip_prefix(&self.prefix).is_some_and(is_data_suffix))
            .collect();
        let free = |shards: &i32| {
            let mut names = (0..files).map(|i| format!("{}{}", self.prefix, data_suffix(i, *shards)));
            !names.any(|name| taken.contains(&name))
        };
        let shards = (files..=MOST_SHARDS).find(free).unwrap_or(files);
        for name in taken {
            self.target.remove_after(name);
        }
        shards
    }

    /// Adds a tensor as [`Bundle::raw`] gave it.
    pub(crate) fn add_raw(&mut self, key: &str, entry: BundleEntryProto, bytes: &[u8]) -> Result<()> {
        let put = |out: &mut Output| Ok(out.write_all(bytes).map(|()| bytes.len() as u64)?);
        let entry = BundleEntryProto { slices: Vec::new(), ..entry };
        self.append(key.as_bytes().to_vec(), entry, bytes.len() as u64, |out, _| put(out))
            .map_err(|e| self.located(e, key))
    }

    fn put(&mut self, key: Vec<u8>, tensor: &Tensor) -> Result<()> {
        let entry = BundleEntryProto {
            dtype: wire::dtype_to_proto(tensor.dtype()),
            shape: Some(wire::shape_to_proto(tensor.shape())),
            ..BundleEntryProto::default()
        };
        self.append(key, entry, tensor.nbytes() as u64, |out, entry| {
            let (size, checksum) = payload::write(tensor, out)?;
            entry.crc32c = crc::mask(checksum);
            Ok(size)
        })
    }

    /// Adds the data that `write` writes, about `size` bytes, and an entry for it.
    fn append(
        &mut self,
        key: Vec<u8>,
        mut entry: BundleEntryProto,
        size: u64,
        write: impl FnOnce(&mut Output, &mut BundleEntryProto) -> Result<u64>,
    ) -> Result<()> {
        if self.entries.contains_key(&key) {
            return Err(Error::invalid("a tensor of this key was added before"));
        }
        if self.offset > 0 && self.offset.saturating_add(size) > self.shard_bytes {
            self.data.flush()?;
            self.shard += 1;
            self.data = self.target.create(&unfinished(&self.prefix, self.shard))?;
            self.offset = 0;
        }
        let offset = self
            .offset
            .checked_next_multiple_of(self.alignment)
            .ok_or_else(|| Error::invalid(format!("tensors can't be aligned to {} bytes", self.alignment)))?;
        std::io::copy(&mut std::io::repeat(0).take(offset - self.offset), &mut self.data)?;
        let size = write(&mut self.data, &mut entry)?;
        self.offset = offset + size;
        entry.shard_id = self.shard;
        entry.offset = offset as i64;
        entry.size = size as i64;
        self.entries.insert(key, entry);
        Ok(())
    }

    fn located(&self, e: Error, key: &str) -> Error {
        e.at(format!("tensor {key:?}")).in_file(self.target.path().to_path_buf())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, fill: impl FnOnce(&mut BundleWriter<'_>)) {
        let target = Target::new(path).expect("target");
        let mut writer = BundleWriter::new(&target, target.name()).expect("writer");
        fill(&mut writer);
        writer.finish().expect("finish");
        target.commit().expect("commit");
    }

    fn open(path: &Path) -> Result<Bundle> {
        Bundle::open(Place::of_path(path), &Limits::default())
    }

    #[test]
    fn tensors_of_every_dtype_survive() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("c");
        let tensors: Vec<(String, Tensor)> = DType::ALL
            .iter()
            .filter_map(|d| {
                let bytes: Vec<u8> = (0..6 * d.size()?).map(|i| (i * 37) as u8).collect();
                let bytes = payload::extended(*d, bytes.into());
                Some((d.name().to_owned(), Tensor::from_bytes(*d, [2, 3], bytes).expect("tensor")))
            })
            .chain([
                ("strings".into(), Tensor::from_strings([&b"a"[..], b""], [2]).expect("strings")),
                ("empty".into(), Tensor::zeros(DType::F32, [0, 4]).expect("zeros")),
            ])
            .collect();
        for alignment in [1, 64] {
            let target = Target::new(&path).expect("target");
            let mut writer = BundleWriter::new(&target, "c").expect("writer").aligned(alignment);
            for (key, tensor) in &tensors {
                writer.add(key, tensor).expect("add");
            }
            assert!(writer.add("empty", &tensors[0].1).is_err());
            writer.finish().expect("finish");
            target.commit().expect("commit");
            let bundle = open(&path).expect("open");
            assert_eq!(bundle.keys().len(), tensors.len());
            for (key, tensor) in &tensors {
                let entry = bundle.entry(key).expect("entry");
                assert_eq!(entry.offset as usize % alignment, 0);
                let read = bundle.variable(key).and_then(|v| v.load()).expect("load");
                assert!(read.bit_eq(tensor), "{key}");
            }
        }
    }

    /// At no moment is an index in place whose data aren't.
    #[test]
    fn a_checkpoint_in_place_keeps_its_data_until_the_index_is_replaced() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("c");
        let files = || {
            let mut names: Vec<_> = std::fs::read_dir(dir.path())
                .expect("folder")
                .map(|e| e.expect("entry").file_name().into_string().expect("UTF-8"))
                .collect();
            names.sort();
            names
        };
        let tensor = |v: f32| Tensor::full(v, [5]).expect("full");
        for (round, total) in [1, 2, 1, 2].into_iter().enumerate() {
            write(&path, |w| w.add("t", &tensor(round as f32)).expect("add"));
            assert_eq!(files(), [format!("c{}", data_suffix(0, total)), "c.index".to_owned()]);
            assert!(open(&path).and_then(|b| b.tensor("t")).expect("tensor").bit_eq(&tensor(round as f32)));
        }
        // Another checkpoint's files, whose name begins alike, aren't this one's.
        write(&dir.path().join("c-1"), |w| w.add("t", &tensor(9.0)).expect("add"));
        write(&path, |w| w.add("t", &tensor(8.0)).expect("add"));
        assert!(open(&dir.path().join("c-1")).is_ok_and(|b| b.tensor("t").is_ok()));
        assert_eq!(files().len(), 4);
    }

    #[test]
    fn data_may_be_spread_over_files() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("c");
        let target = Target::new(&path).expect("target");
        let mut writer = BundleWriter::new(&target, "c").expect("writer").shards_of(40);
        let tensors: Vec<Tensor> =
            [3usize, 4, 1, 20, 2].map(|n| Tensor::full(n as f32, [n]).expect("full")).into();
        for tensor in &tensors {
            writer.add(&format!("t{}", tensor.len()), tensor).expect("add");
        }
        writer.finish().expect("finish");
        target.commit().expect("commit");
        let bundle = open(&path).expect("open");
        assert_eq!(bundle.num_shards(), 3);
        let shards = ["t3", "t4", "t1", "t20", "t2"].map(|k| bundle.entry(k).expect("entry").shard_id);
        assert_eq!(shards, [0, 0, 0, 1, 2]);
        for tensor in &tensors {
            assert!(bundle.tensor(&format!("t{}", tensor.len())).expect("tensor").bit_eq(tensor));
        }
        assert!(dir.path().join("c.data-00002-of-00003").exists());
    }

    #[test]
    fn slices_are_put_together() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("c");
        let part = |from: i32, rows: usize, columns: usize| {
            let data: Vec<i32> = (0..(rows * columns) as i32).map(|i| from + i).collect();
            Tensor::from_vec(data, [rows, columns]).expect("tensor")
        };
        write(&path, |w| {
            w.add_slice("p", &[4, 3], &"0,3:-".parse().expect("slice"), &part(0, 3, 3)).expect("add");
            w.add_slice("p", &[4, 3], &"3,1:0,3".parse().expect("slice"), &part(9, 1, 3)).expect("add");
            w.add_slice("gap", &[4, 3], &"0,3:-".parse().expect("slice"), &part(0, 3, 3)).expect("add");
            w.add("whole", &part(0, 4, 3)).expect("add");
            let beyond = w.add_slice("p", &[4, 3], &"3,2:0,3".parse().expect("slice"), &part(9, 2, 3));
            assert!(beyond.is_err());
        });
        let bundle = open(&path).expect("open");
        for key in ["p", "whole"] {
            assert!(bundle.tensor(key).expect("tensor").bit_eq(&part(0, 4, 3)), "{key}");
            let middle = bundle.tensor_slice(key, &"2,2:1,2".parse().expect("slice")).expect("slice");
            assert_eq!(middle.as_slice::<i32>().expect("i32"), [7, 8, 10, 11]);
        }
        let gap = bundle.tensor("gap").expect_err("a gap").to_string();
        assert!(gap.contains("\"gap\"") && gap.contains("don't fill"), "{gap}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("c");
        write(&path, |w| {
            w.add("dense/kernel", &Tensor::from_vec(vec![1f32; 8], [8]).expect("tensor")).expect("add")
        });
        let message = |r: Result<Tensor>| r.expect_err("an error").to_string();
        let tensor = |key: &str| open(&path).and_then(|b| b.tensor(key));
        assert!(message(tensor("dense/kernal")).contains("did you mean \"dense/kernel\"?"));
        let data = dir.path().join("c.data-00000-of-00001");
        let good = std::fs::read(&data).expect("read");
        std::fs::write(&data, [&[9], &good[1..]].concat()).expect("write");
        let e = message(tensor("dense/kernel"));
        assert!(e.contains("checksum") && e.contains("c.data-00000") && e.contains("dense/kernel"), "{e}");
        let mut unchecked = Limits::default();
        unchecked.verify = false;
        let bundle = Bundle::open(Place::of_path(&path), &unchecked).expect("open");
        assert!(bundle.tensor("dense/kernel").is_ok());
        std::fs::write(&data, &good[..31]).expect("write");
        let e = message(tensor("dense/kernel"));
        assert!(e.contains("31 bytes") && e.contains("cut short"), "{e}");
        std::fs::remove_file(&data).expect("remove");
        let e = message(tensor("dense/kernel"));
        assert!(e.contains("c.data-00000-of-00001") && e.contains("copy all of them"), "{e}");
        std::fs::remove_file(dir.path().join("c.index")).expect("remove");
        let e = open(&path).expect_err("no index").to_string();
        assert!(e.contains("c.index") && e.contains("copy both"), "{e}");
    }
}
