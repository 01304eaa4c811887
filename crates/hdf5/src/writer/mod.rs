//! Writing: a tree is described first, then laid out at once, each tensor in memory only while it is copied.

use std::collections::BTreeMap;
use std::path::Path;

use modelark_artifact::{Error, Result, Variable};

use crate::attribute::Attribute;

mod layout;
#[cfg(feature = "libhdf5")]
mod library;
#[cfg(any(test, not(feature = "libhdf5")))]
mod pure;

pub use layout::Layout;

/// Describes an HDF5 file, and writes it.
///
/// Groups on the way to a path are made when they aren't there. The file has the layout that h5py chooses by default:
/// the oldest version of the format, datasets in one piece, names in alphabetical order.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    root: Tree,
    compress: bool,
}

/// A group to be written.
#[derive(Debug, Clone, Default)]
struct Tree {
    attributes: Vec<(String, Attribute)>,
    groups: BTreeMap<String, Tree>,
    datasets: BTreeMap<String, Variable>,
}

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Writer::default()
    }

    /// Whether datasets of numbers are compressed, in chunks; then they can't be mapped.
    pub fn compress(mut self, compress: bool) -> Self {
        self.compress = compress;
        self
    }

    /// Makes the group at `path`, if it isn't there.
    ///
    /// # Errors
    /// When a part of the path can't be a name or is a dataset already.
    pub fn group(&mut self, path: &str) -> Result<()> {
        self.tree(path).map(drop)
    }

    /// Gives the group at `path` an attribute, in place of one of the same name.
    ///
    /// # Errors
    /// As [`Writer::group`].
    pub fn attribute(&mut self, path: &str, name: &str, value: Attribute) -> Result<()> {
        let tree = self.tree(path)?;
        tree.attributes.retain(|(n, _)| n != name);
        tree.attributes.push((name.to_owned(), value));
        Ok(())
    }

    /// Whether something lies at `path` already.
    pub fn contains(&self, path: &str) -> bool {
        let mut tree = &self.root;
        let mut parts = path.split('/').filter(|p| !p.is_empty()).peekable();
        while let Some(part) = parts.next() {
            match tree.groups.get(part) {
                Some(group) => tree = group,
                None => return parts.peek().is_none() && tree.datasets.contains_key(part),
            }
        }
        true
    }

    /// Adds a dataset at `path`; its value is read when the file is written.
    ///
    /// # Errors
    /// When something lies there already, or a part of the path can't be a name.
    pub fn dataset(&mut self, path: &str, variable: &Variable) -> Result<()> {
        let path = path.trim_matches('/');
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        check(name)?;
        if self.contains(path) {
            return Err(Error::mismatch("two things of one name can't be written").at(place(path)));
        }
        self.tree(folder)?.datasets.insert(name.to_owned(), variable.clone());
        Ok(())
    }

    /// Writes the file to `path`, which must be able to hold it at once: the target of a rename, not the final name.
    ///
    /// # Errors
    /// When a value can't be read, has no HDF5 type, or the disk refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.lay_out(path)?.fill()
    }

    /// Writes the file to `path` without the elements that lie in it in one piece, for [`Layout`] to write them there or
    /// elsewhere.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn lay_out(&self, path: &Path) -> Result<Layout<'_>> {
        #[cfg(feature = "libhdf5")]
        let gaps = library::lay_out(&self.root, self.compress, path)?;
        #[cfg(not(feature = "libhdf5"))]
        let gaps = pure::write(&self.root, self.compress, path).map(|()| Vec::new())?;
        Layout::new(path.to_owned(), gaps)
    }

    fn tree(&mut self, path: &str) -> Result<&mut Tree> {
        let mut tree = &mut self.root;
        for part in path.split('/').filter(|p| !p.is_empty()) {
            check(part).map_err(|e| e.at(place(path)))?;
            if tree.datasets.contains_key(part) {
                return Err(Error::mismatch(format!("{part:?} is a dataset already")).at(place(path)));
            }
            tree = tree.groups.entry(part.to_owned()).or_default();
        }
        Ok(tree)
    }
}

fn check(name: &str) -> Result<()> {
    if name.is_empty() || name == "." || name.contains('\0') {
        return Err(
            Error::invalid(format!("{name:?} can't be a name in an HDF5 file")).help("rename the layer")
        );
    }
    Ok(())
}

fn place(path: &str) -> String {
    format!("HDF5 path \"/{path}\"")
}

/// A chunk shape of about this many bytes, by halving the outermost extents first.
const CHUNK_BYTES: usize = 1 << 20;

/// The shape of the chunks of a compressed dataset.
fn chunks(shape: &[usize], element: usize) -> Vec<usize> {
    let mut chunk = shape.to_vec();
    for axis in 0..chunk.len() {
        while chunk[axis] > 1 && chunk.iter().product::<usize>().saturating_mul(element) > CHUNK_BYTES {
            chunk[axis] = chunk[axis].div_ceil(2);
        }
    }
    chunk
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Limits;
    use modelark_artifact::tensor::{DType, SharedBytes, Tensor};

    use super::*;
    use crate::File;

    type Backend = fn(&Tree, bool, &Path) -> Result<()>;

    fn backends() -> Vec<(&'static str, Backend)> {
        vec![
            #[cfg(feature = "libhdf5")]
            ("libhdf5", |root, compress, path| {
                Layout::new(path.to_owned(), library::lay_out(root, compress, path)?)?.fill()
            }),
            ("pure", pure::write),
        ]
    }

    /// A tensor of any numeric dtype with bytes that differ from each other.
    fn sample(dtype: DType, shape: &[usize]) -> Tensor {
        let size = dtype.size().expect("numeric") * shape.iter().product::<usize>();
        let modulus = if dtype == DType::Bool { 2 } else { 251 };
        let bytes: Vec<u8> = (0..size).map(|i| (i % modulus) as u8).collect();
        Tensor::from_bytes(dtype, shape, SharedBytes::from(bytes)).expect("sized")
    }

    fn round_trip(writer: &Writer, backend: Backend) -> File {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("f.h5");
        backend(&writer.root, writer.compress, &path).expect("writes");
        let bytes = SharedBytes::from(std::fs::read(&path).expect("file"));
        File::open(bytes, &path, &Limits::default()).expect("opens")
    }

    #[test]
    fn every_dtype_comes_back_bit_for_bit() {
        for (name, backend) in backends() {
            for compress in [false, true] {
                let mut writer = Writer::new().compress(compress);
                let mut tensors = Vec::new();
                for &dtype in DType::ALL.iter().filter(|d| d.size().is_some()) {
                    for (i, shape) in [&[][..], &[3], &[2, 0], &[4, 5]].into_iter().enumerate() {
                        let path = format!("{dtype}/{i}");
                        let tensor = sample(dtype, shape);
                        writer.dataset(&path, &Variable::new("x", tensor.clone())).expect("new");
                        tensors.push((path, tensor));
                    }
                }
                let strings = Tensor::from_strings([&b"a"[..], b"", b"longer"], [3]).expect("strings");
                writer.dataset("s", &Variable::new("s", strings.clone())).expect("new");
                tensors.push(("s".to_owned(), strings));
                let file = round_trip(&writer, backend);
                assert_eq!(file.root().all_datasets().len(), tensors.len());
                for (path, tensor) in tensors {
                    let read = file.root().dataset(&path).expect("there").load().expect("loads");
                    assert!(read.bit_eq(&tensor), "{name} {path} {compress}: {read:?} is not {tensor:?}");
                }
            }
        }
    }

    #[test]
    fn attributes_come_back() {
        let long = "x".repeat(200_000);
        let values = [
            ("ascii", Attribute::Ascii(long)),
            ("utf8", Attribute::Utf8("naïve".to_owned())),
            ("empty", Attribute::list(Vec::new())),
            ("list", Attribute::list(vec!["dense/kernel:0".to_owned(), "b".to_owned()])),
            ("utf8s", Attribute::Utf8List(vec!["ä".to_owned()])),
            ("fixed", Attribute::FixedList(vec!["abc".to_owned(), "d".to_owned()])),
            ("int", Attribute::Int(-7)),
            ("ints", Attribute::Ints(vec![1, 2])),
            ("float", Attribute::Float(0.25)),
        ];
        for (name, backend) in backends() {
            let mut writer = Writer::new();
            for (key, value) in &values {
                writer.attribute("a/b", key, value.clone()).expect("sets");
            }
            let file = round_trip(&writer, backend);
            for (key, value) in &values {
                let read = file.root().group("a/b").expect("group").attribute(key).expect("reads");
                assert_eq!(read.as_ref(), Some(value), "{name} {key}");
            }
            assert_eq!(file.root().attribute("none").expect("reads"), None);
        }
    }

    #[test]
    fn what_is_moved_on_its_way_is_the_same_file() {
        let mut writer = Writer::new();
        for (i, dtype) in [DType::F32, DType::I8, DType::F64, DType::Bool].into_iter().enumerate() {
            let zeros = Tensor::zeros(dtype, [3, 50_000]).expect("zeros");
            writer.dataset(&format!("a/b{i}"), &Variable::new("x", zeros)).expect("adds");
            writer.dataset(&format!("c{i}/d"), &Variable::new("y", sample(dtype, &[7, 11]))).expect("adds");
        }
        writer.attribute("a", "name", Attribute::Utf8("ü".into())).expect("attribute");
        for compress in [false, true] {
            let writer = writer.clone().compress(compress);
            let folder = tempfile::tempdir().expect("temp dir");
            let (whole, beside) = (folder.path().join("whole.h5"), folder.path().join("beside.h5"));
            writer.write(&whole).expect("writes");
            let layout = writer.lay_out(&beside).expect("lays out");
            let (len, mut moved) = (layout.len(), Vec::new());
            layout.move_into(&mut moved).expect("moves");
            assert_eq!(moved.len() as u64, len);
            assert!(moved == std::fs::read(&whole).expect("reads"), "compress {compress}");
            assert!(!beside.exists());
        }
    }

    #[test]
    fn names_meet_only_once() {
        let mut writer = Writer::new();
        let x = Variable::new("x", Tensor::scalar(1.0f32));
        writer.dataset("a/x", &x).expect("new");
        assert!(
            writer.contains("a")
                && writer.contains("a/x")
                && !writer.contains("a/x/y")
                && !writer.contains("b")
        );
        assert!(writer.dataset("a/x", &x).is_err());
        assert!(writer.dataset("a", &x).is_err());
        assert!(writer.group("a/x/y").is_err());
        assert!(writer.dataset("a/", &x).is_err() && writer.dataset("", &x).is_err());
    }

    #[test]
    fn chunks_are_bounded() {
        assert_eq!(chunks(&[10, 10], 4), [10, 10]);
        assert!(chunks(&[1 << 20, 1 << 10], 4).iter().product::<usize>() * 4 <= CHUNK_BYTES);
    }
}
