//! Reading: a tree of groups and datasets over bytes, mapped ones without copying them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hdf5_pure::{AttrValue, FormatError, Layout, Source, VlenStringReadOptions};
use modelark_artifact::tensor::{ByteString, DType, SharedBytes, Tensor, checked_elements};
use modelark_artifact::{Error, Limits, Result, Variable};

use crate::attribute::Attribute;
use crate::datatype::{self, DTYPE_ATTRIBUTE, Encoding};

/// Whether these bytes are an HDF5 file, judged by its signature, which may stand behind a user block.
pub fn is_hdf5(bytes: &[u8]) -> bool {
    hdf5_pure::is_hdf5_bytes(bytes)
}

/// An HDF5 file: all its groups and datasets are known, none of the datasets' elements read.
///
/// Soft links are followed where the format's newer groups hold them; external links, external storage and virtual
/// datasets, which lead to other files, are refused.
#[derive(Debug)]
pub struct File {
    root: Group,
}

impl File {
    /// Reads the structure of the file in `bytes`, which messages call `label`.
    ///
    /// # Errors
    /// When the bytes aren't HDF5 or are damaged, or the tree is larger or deeper than the limits or the file allow.
    pub fn open(bytes: SharedBytes, label: impl Into<PathBuf>, limits: &Limits) -> Result<Self> {
        File::walk(bytes, label.into(), limits, None, None).map(|(file, _)| file)
    }

    /// As [`File::open`], for bytes whose checksum somebody else has: `check` compares it, before the first elements are
    /// read.
    ///
    /// # Errors
    /// As [`File::open`]; what `check` says comes with the elements.
    pub fn open_checked(
        bytes: SharedBytes,
        label: impl Into<PathBuf>,
        limits: &Limits,
        check: impl Fn() -> Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        File::walk(bytes, label.into(), limits, None, Some(Box::new(check))).map(|(file, _)| file)
    }

    /// As [`File::open`], but groups that can't be read are passed over; gives what was wrong with them.
    ///
    /// # Errors
    /// When not even the root can be found.
    pub fn salvage(
        bytes: SharedBytes,
        label: impl Into<PathBuf>,
        limits: &Limits,
    ) -> Result<(Self, Vec<Error>)> {
        File::walk(bytes, label.into(), limits, Some(Vec::new()), None)
    }

    /// The attributes of these names that the root of the file in `bytes` has; nothing else of the file is read.
    ///
    /// # Errors
    /// When the bytes aren't HDF5, or what holds the root is damaged.
    pub fn root_attributes(
        bytes: SharedBytes,
        label: impl Into<PathBuf>,
        limits: &Limits,
        names: &[&str],
    ) -> Result<HashMap<String, Attribute>> {
        let label = label.into();
        let (shared, file) = File::begin(bytes, &label, limits, None).map_err(|e| e.in_file(label))?;
        let (groups, datasets) = Default::default();
        Group { path: String::new(), handle: file.root(), groups, datasets, shared }.attributes(names)
    }

    /// Finds the root.
    fn begin(
        bytes: SharedBytes,
        label: &Path,
        limits: &Limits,
        check: Option<Check>,
    ) -> Result<(Arc<Shared>, hdf5_pure::File)> {
        if !is_hdf5(&bytes) {
            return Err(Error::corrupt("this isn't an HDF5 file: its signature is missing")
                .help("make sure that the file was transferred whole and in binary mode"));
        }
        let budget = Arc::new(AtomicU64::new(0));
        let shared = Arc::new(Shared {
            allowed: (bytes.len() as u64).saturating_mul(READ_FACTOR).saturating_add(READ_FLOOR),
            bytes: bytes.clone(),
            budget: budget.clone(),
            label: label.to_owned(),
            limits: limits.clone(),
            check,
            checked: AtomicBool::new(false),
        });
        shared.refill();
        let file = hdf5_pure::File::from_source(Budgeted { bytes, budget }).map_err(damaged)?;
        Ok((shared, file))
    }

    fn walk(
        bytes: SharedBytes,
        label: PathBuf,
        limits: &Limits,
        damage: Option<Vec<Error>>,
        check: Option<Check>,
    ) -> Result<(Self, Vec<Error>)> {
        let open = || {
            // Every object has a header of its own, so that a short file can't hold many.
            let left = limits.items.min(bytes.len() / SMALLEST_OBJECT);
            let (shared, file) = File::begin(bytes, &label, limits, check)?;
            let mut walk = Walk { shared, left, damage };
            let root = Group::open(file.root(), String::new(), limits.depth, &mut walk)?;
            Ok((File { root }, walk.damage.unwrap_or_default()))
        };
        open().map_err(|e: Error| e.in_file(label.clone()))
    }

    /// The root group.
    pub fn root(&self) -> &Group {
        &self.root
    }
}

/// What the groups and datasets of a file share.
struct Shared {
    bytes: SharedBytes,
    budget: Arc<AtomicU64>,
    allowed: u64,
    label: PathBuf,
    limits: Limits,
    check: Option<Check>,
    /// Whether `check` was content.
    checked: AtomicBool,
}

/// Compares the checksum of all bytes.
type Check = Box<dyn Fn() -> Result<()> + Send + Sync>;

impl Shared {
    /// Compares the checksum, if there is one, once.
    fn check(&self) -> Result<()> {
        if let Some(check) = &self.check
            && !self.checked.load(Ordering::Acquire)
        {
            check()?;
            self.checked.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Allows the next step to read as much as a file of this length may ask for.
    fn refill(&self) {
        self.budget.store(self.allowed, Ordering::Relaxed);
    }
}

/// A walk through a file's groups.
struct Walk {
    shared: Arc<Shared>,
    /// How many objects more it may meet.
    left: usize,
    /// What was passed over, when that is wanted.
    damage: Option<Vec<Error>>,
}

impl Walk {
    fn count(&mut self) -> Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            Error::limit("the file lists more objects than it can hold, or than the limits allow")
        })?;
        Ok(())
    }

    /// What was read, or nothing of it when damage is passed over.
    fn pass<T: Default>(&mut self, read: Result<T>) -> Result<T> {
        match (read, &mut self.damage) {
            (Err(e), Some(damage)) => {
                damage.push(e.in_file(self.shared.label.clone()));
                Ok(T::default())
            }
            (read, _) => read,
        }
    }
}

/// A step may read the file's bytes this often (strings share blocks, which are read for each of them) and some more.
const READ_FACTOR: u64 = 64;
const READ_FLOOR: u64 = 64 << 20;
/// No object header with a link that leads to it is smaller.
const SMALLEST_OBJECT: usize = 32;
/// Deflate expands no further than this.
const DEFLATE_FACTOR: u64 = 1032;
/// Unwritten or compressed datasets up to this size are read whatever the file's length.
const SMALL_DATASET: u64 = 16 << 20;

/// The bytes of a file, of which a step may read only so many: references of a few bytes can name large blocks.
struct Budgeted {
    bytes: SharedBytes,
    budget: Arc<AtomicU64>,
}

impl Source for Budgeted {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), FormatError> {
        let wanted = buf.len() as u64;
        let spend = |left: u64| left.checked_sub(wanted);
        if self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_err() {
            return Err(FormatError::Source(
                "its parts refer to far more bytes than the file has".to_owned(),
            ));
        }
        let part = usize::try_from(offset)
            .ok()
            .and_then(|start| self.bytes.get(start..start.checked_add(buf.len())?))
            .ok_or(FormatError::UnexpectedEof { expected: buf.len(), available: self.bytes.len() })?;
        buf.copy_from_slice(part);
        Ok(())
    }
}

/// A group: named groups and datasets, and attributes.
pub struct Group {
    path: String,
    handle: hdf5_pure::Group,
    groups: BTreeMap<String, Group>,
    datasets: BTreeMap<String, Dataset>,
    shared: Arc<Shared>,
}

impl Group {
    fn open(handle: hdf5_pure::Group, path: String, depth: usize, walk: &mut Walk) -> Result<Self> {
        let here = |e: Error| e.at(place(&path));
        let shared = walk.shared.clone();
        shared.refill();
        let read = handle.iter_datasets().map_err(|e| here(damaged(e)));
        let mut datasets = BTreeMap::new();
        for (name, dataset) in walk.pass(read.map(Vec::from_iter))? {
            walk.count().map_err(here)?;
            let child = join(&path, &name);
            datasets.insert(name, Dataset { handle: dataset, path: child, shared: shared.clone() });
        }
        let read = handle.iter_groups().map_err(|e| here(damaged(e)));
        let mut groups = BTreeMap::new();
        for (name, group) in walk.pass(read.map(Vec::from_iter))? {
            walk.count().map_err(here)?;
            let path = join(&path, &name);
            let group = match depth.checked_sub(1) {
                Some(depth) => Group::open(group, path, depth, walk).map(Some),
                None => {
                    Err(Error::limit("its groups nest too deep; they may hold each other").at(place(&path)))
                }
            };
            groups.extend(walk.pass(group)?.map(|group| (name, group)));
        }
        Ok(Group { path, handle, groups, datasets, shared })
    }

    /// Its path from the root, such as `model_weights/dense`; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file that it is in, for messages.
    pub fn file(&self) -> &Path {
        &self.shared.label
    }

    /// The groups directly in it, by name.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(n, g)| (n.as_str(), g))
    }

    /// The datasets directly in it, by name.
    pub fn datasets(&self) -> impl Iterator<Item = (&str, &Dataset)> {
        self.datasets.iter().map(|(n, d)| (n.as_str(), d))
    }

    /// Every dataset in it and in the groups below, by path.
    pub fn all_datasets(&self) -> Vec<&Dataset> {
        let below = self.groups.values().flat_map(Group::all_datasets);
        self.datasets.values().chain(below).collect()
    }

    /// The group at a path relative to this one; an empty path is this one.
    pub fn group(&self, path: &str) -> Option<&Group> {
        path.split('/').filter(|p| !p.is_empty()).try_fold(self, |g, name| g.groups.get(name))
    }

    /// The dataset at a path relative to this group.
    pub fn dataset(&self, path: &str) -> Option<&Dataset> {
        let path = path.trim_matches('/');
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.group(folder)?.datasets.get(name)
    }

    /// The attributes of these names that it has, by name.
    ///
    /// # Errors
    /// When one of them is damaged or of a kind that isn't read.
    pub fn attributes(&self, names: &[&str]) -> Result<HashMap<String, Attribute>> {
        self.shared.refill();
        let read = || {
            let values = self.handle.attrs().map_err(damaged)?;
            convert(values, names, || self.handle.attr_datatypes())
        };
        read().map_err(|e| e.at(place(&self.path)).in_file(self.shared.label.clone()))
    }

    /// The attribute of this name, if it has one.
    ///
    /// # Errors
    /// When it is damaged or of a kind that isn't read.
    pub fn attribute(&self, name: &str) -> Result<Option<Attribute>> {
        Ok(self.attributes(&[name])?.remove(name))
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.groups).entries(&self.datasets).finish()
    }
}

/// A dataset: elements of one type in a shape.
#[derive(Clone)]
pub struct Dataset {
    handle: hdf5_pure::Dataset,
    path: String,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dataset({:?})", self.path)
    }
}

impl Dataset {
    /// Its path from the root, such as `model_weights/dense/dense/kernel:0`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A variable of this name whose value is this dataset, read when asked for.
    ///
    /// # Errors
    /// When its type isn't one of a tensor, or its header is damaged.
    pub fn variable(&self, name: impl Into<String>) -> Result<Variable> {
        let (dtype, shape, _) = self.describe()?;
        let dataset = self.clone();
        Ok(Variable::lazy(name, dtype, shape, move || dataset.load()))
    }

    /// Its attribute of this name, if it has one.
    ///
    /// # Errors
    /// When it is damaged or of a kind that isn't read.
    pub fn attribute(&self, name: &str) -> Result<Option<Attribute>> {
        self.shared.refill();
        let read = || {
            let values = self.handle.attrs().map_err(damaged)?;
            Ok(convert(values, &[name], || self.handle.attr_datatypes())?.remove(name))
        };
        read().map_err(|e| self.here(e))
    }

    /// Its elements: a part of the mapped file where they lie there in one piece and in this machine's order.
    ///
    /// # Errors
    /// When they are damaged, missing, in another file, or larger than the limits or the file allow.
    pub fn load(&self) -> Result<Tensor> {
        let (dtype, shape, encoding) = self.describe()?;
        self.elements(dtype, &shape, encoding).map_err(|e| self.here(e))
    }

    fn here(&self, e: Error) -> Error {
        e.at(place(&self.path)).in_file(self.shared.label.clone())
    }

    fn describe(&self) -> Result<(DType, Vec<usize>, Encoding)> {
        let describe = || {
            self.shared.refill();
            let datatype = self.handle.datatype().map_err(damaged)?;
            let named = match datatype {
                hdf5_pure::Datatype::Opaque { .. } => self.attribute(DTYPE_ATTRIBUTE)?,
                _ => None,
            };
            let (dtype, encoding) = datatype::read(&datatype, named.as_ref().and_then(Attribute::as_str))?;
            let shape = self.handle.shape().map_err(damaged)?;
            let shape: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
            let shape = shape.ok_or_else(|| Error::limit("its shape is larger than memory"))?;
            checked_elements(&shape)?;
            Ok((dtype, shape, encoding))
        };
        describe().map_err(|e| self.here(e))
    }

    fn elements(&self, dtype: DType, shape: &[usize], encoding: Encoding) -> Result<Tensor> {
        let count = checked_elements(shape)?;
        let width = self.handle.element_size().map_err(damaged)?;
        let size =
            width.checked_mul(count as u64).filter(|&n| n <= self.shared.limits.tensor_bytes).ok_or_else(
                || Error::limit(format!("shape {shape:?} with elements of {width} bytes is over the limit")),
            )?;
        if size == 0 {
            return Ok(Tensor::zeros(dtype, shape)?);
        }
        let raw = self.raw(size, encoding)?;
        Ok(match encoding {
            Encoding::Plain => Tensor::from_bytes(dtype, shape, raw)?,
            Encoding::Swapped(width) => {
                let mut bytes = SharedBytes::copy_from(&raw);
                bytes.make_mut().chunks_exact_mut(width).for_each(<[u8]>::reverse);
                Tensor::from_bytes(dtype, shape, bytes)?
            }
            Encoding::Fixed(width) => {
                let trim = |s: &[u8]| s.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
                let strings = raw.chunks_exact(width.max(1)).map(|s| ByteString::from(&s[..trim(s)]));
                Tensor::from_strings(strings, shape)?
            }
            Encoding::Variable => {
                let payload = usize::try_from(self.shared.limits.expanded_bytes).unwrap_or(usize::MAX);
                let options =
                    VlenStringReadOptions::new().with_max_elements(count).with_max_payload_bytes(payload);
                let strings = self.handle.read_vlen_strings(options).map_err(damaged)?;
                Tensor::from_strings(strings.into_iter().map(|s| ByteString::from(s.into_bytes())), shape)?
            }
        })
    }

    /// The `size` bytes of its elements as they lie, after a check that the file can hold them.
    fn raw(&self, size: u64, encoding: Encoding) -> Result<SharedBytes> {
        self.shared.check()?;
        let length = self.shared.bytes.len() as u64;
        let layout = self.handle.layout().map_err(damaged)?;
        let filters = self.handle.filters();
        let holds = match &layout {
            Layout::Virtual => {
                return Err(Error::unsupported("a virtual dataset takes its elements from other files")
                    .help("copy it into an ordinary dataset"));
            }
            Layout::Contiguous { address: Some(_), .. } | Layout::Compact { .. } => length,
            Layout::Chunked { .. } if filters.is_empty() => length.max(SMALL_DATASET),
            _ => length
                .saturating_mul(DEFLATE_FACTOR)
                .max(SMALL_DATASET)
                .min(self.shared.limits.expanded_bytes),
        };
        if size > holds {
            return Err(Error::limit(format!("it claims {size} bytes of elements, in a file of {length}"))
                .help("the file may be truncated; compare its size with the original's"));
        }
        // The references of strings are resolved by the library.
        if encoding == Encoding::Variable {
            self.shared.refill();
            return Ok(SharedBytes::default());
        }
        if let Layout::Contiguous { address: Some(start), .. } = layout {
            let range = usize::try_from(start)
                .ok()
                .zip(start.checked_add(size).and_then(|end| usize::try_from(end).ok()));
            return range.and_then(|(start, end)| self.shared.bytes.slice(start..end)).ok_or_else(|| {
                Error::corrupt(format!(
                    "its elements lie at byte {start}, past the file's end ({length} bytes)"
                ))
                .help("the file is truncated; get it again")
            });
        }
        self.shared
            .budget
            .store(size.saturating_mul(2).saturating_add(self.shared.allowed), Ordering::Relaxed);
        let raw = self.handle.read_raw().map_err(damaged)?;
        if raw.len() as u64 != size {
            return Err(Error::corrupt(format!(
                "it holds {} bytes of elements instead of {size}",
                raw.len()
            )));
        }
        Ok(SharedBytes::from(raw))
    }
}

/// The attributes of `names` among those that were decoded; one that was not, though it is there, is an error.
fn convert(
    mut values: HashMap<String, AttrValue>,
    names: &[&str],
    declared: impl FnOnce() -> Result<HashMap<String, hdf5_pure::Datatype>, hdf5_pure::Error>,
) -> Result<HashMap<String, Attribute>> {
    let mut found = HashMap::new();
    let mut absent = Vec::new();
    for &name in names {
        match values.remove(name).as_ref().map(Attribute::from_pure) {
            Some(Some(value)) => drop(found.insert(name.to_owned(), value)),
            Some(None) => {
                return Err(
                    Error::unsupported("its kind of value isn't read").at(format!("attribute {name:?}"))
                );
            }
            None => absent.push(name),
        }
    }
    if !absent.is_empty() {
        let declared = declared().map_err(damaged)?;
        if let Some(name) = absent.into_iter().find(|n| declared.contains_key(*n)) {
            return Err(Error::corrupt("its value can't be read").at(format!("attribute {name:?}")));
        }
    }
    Ok(found)
}

fn damaged(e: hdf5_pure::Error) -> Error {
    use FormatError::{UnsupportedExternalStorage, UnsupportedVirtualLayout};
    if matches!(e, hdf5_pure::Error::Format(UnsupportedExternalStorage | UnsupportedVirtualLayout)) {
        return Error::unsupported("its elements lie in other files, which aren't followed")
            .because(e)
            .help("copy them into this file first");
    }
    Error::corrupt("the HDF5 structure can't be read").because(e)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

fn place(path: &str) -> String {
    format!("HDF5 path \"/{path}\"")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::Writer;

    /// Every HDF5 file that real Keras wrote for the tests.
    fn fixtures() -> Vec<PathBuf> {
        fn gather(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    gather(&path, found);
                } else if path.extension().is_some_and(|e| e == "h5") {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures"), &mut found);
        found.sort();
        found
    }

    fn open(bytes: Vec<u8>) -> Result<File> {
        File::open(SharedBytes::from(bytes), "test.h5", &Limits::default())
    }

    /// A small file with every kind of thing that Keras's have.
    fn sample(compress: bool) -> Vec<u8> {
        let mut writer = Writer::new().compress(compress);
        let names = ["a/kernel:0", "a/bias:0"].map(str::to_owned).to_vec();
        writer.attribute("a", "weight_names", Attribute::list(names)).expect("sets");
        writer.attribute("b", "weight_names", Attribute::list(Vec::new())).expect("sets");
        writer.attribute("", "config", Attribute::Ascii("{}".repeat(40))).expect("sets");
        for dtype in [DType::F32, DType::I64, DType::BF16, DType::Bool] {
            let x = Tensor::zeros(dtype, [3, 5]).expect("small");
            writer.dataset(&format!("a/{dtype}"), &Variable::new("x", x)).expect("new");
        }
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("x.h5");
        writer.write(&path).expect("writes");
        fs::read(&path).expect("reads")
    }

    /// Reads all that there is; what is damaged is an error.
    fn read_all(bytes: Vec<u8>) {
        let Ok(file) = open(bytes) else { return };
        let names = ["weight_names", "layer_names", "config", "model_config", "training_config"];
        fn visit(group: &Group, names: &[&str]) {
            let _ = group.attributes(names);
            for (_, dataset) in group.datasets() {
                if let Ok(variable) = dataset.variable("x") {
                    let _ = variable.load();
                }
            }
            group.groups().for_each(|(_, child)| visit(child, names));
        }
        visit(file.root(), &names);
    }

    #[cfg(feature = "libhdf5")]
    #[test]
    fn the_c_library_reads_the_same_of_keras_files() {
        let mut compared = 0;
        for path in fixtures() {
            let theirs = hdf5::File::open(&path).expect("opens");
            let ours = open(fs::read(&path).expect("reads")).expect("opens");
            for dataset in ours.root().all_datasets() {
                let tensor = dataset.load().expect("loads");
                let other = theirs.dataset(dataset.path()).expect("is there");
                assert_eq!(other.shape(), tensor.shape(), "{path:?} {}", dataset.path());
                let equal = match tensor.dtype() {
                    DType::F32 => {
                        other.read_raw::<f32>().expect("reads") == *tensor.elements::<f32>().expect("f32")
                    }
                    DType::I64 => {
                        other.read_raw::<i64>().expect("reads") == *tensor.elements::<i64>().expect("i64")
                    }
                    _ => continue,
                };
                assert!(equal, "{path:?} {}", dataset.path());
                compared += 1;
            }
        }
        assert!(compared > 100, "{compared}");
    }

    #[test]
    fn contiguous_datasets_are_parts_of_the_file() {
        let bytes = SharedBytes::from(sample(false));
        let file = File::open(bytes.clone(), "x.h5", &Limits::default()).expect("opens");
        let tensor = file.root().dataset("a/float32").expect("there").load().expect("loads");
        let range = bytes.as_ptr_range();
        assert!(range.contains(&tensor.bytes().expect("numeric").as_ptr()));
    }

    #[test]
    fn a_truncated_file_is_named_with_a_remedy() {
        let bytes = sample(false);
        let cut = bytes.get(..bytes.len() * 3 / 4).expect("part").to_vec();
        let error = match open(cut) {
            Err(e) => e,
            Ok(file) => {
                let failed = file.root().all_datasets().into_iter().find_map(|d| d.load().err());
                failed.expect("something was cut off")
            }
        };
        assert!(error.to_string().contains("test.h5"), "{error}");
        let error = open(b"not HDF5".to_vec()).expect_err("no signature").to_string();
        assert!(error.contains("signature"), "{error}");
    }

    #[test]
    fn a_tensor_over_the_limit_is_refused() {
        let mut limits = Limits::default();
        limits.tensor_bytes = 16;
        let file = File::open(SharedBytes::from(sample(false)), "x.h5", &limits).expect("opens");
        let error = file.root().dataset("a/float32").expect("there").load().expect_err("60 bytes");
        assert_eq!(error.kind(), modelark_artifact::ErrorKind::Limit);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn damaged_files_never_panic(
            compress in any::<bool>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            keep in 0.5f64..1.0,
            cut in any::<bool>(),
        ) {
            let mut bytes = sample(compress);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if cut {
                bytes.truncate((bytes.len() as f64 * keep) as usize);
            }
            read_all(bytes);
        }

        #[test]
        fn damaged_keras_files_never_panic(
            file in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        ) {
            let fixtures = fixtures();
            let mut bytes = fs::read(&fixtures[file.index(fixtures.len())]).expect("reads");
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            read_all(bytes);
        }
    }
}
