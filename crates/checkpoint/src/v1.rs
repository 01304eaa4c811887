//! Checkpoints of the first version: one table a file, with the tensors' values in protocol buffers.
//!
//! A tensor lies in as many slices as it was saved in, which may be spread over several files.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use modelark_artifact::{Error, Limits, Place, Result, Target, Variable, nearest};
use modelark_proto::{
    Message, SavedSlice, SavedSliceMeta, SavedTensorSliceMeta, SavedTensorSlices, VersionDef,
};
use modelark_tensor::{DType, Tensor};

use crate::region::{assemble, full};
use crate::slice::Slice;
use crate::table::{Table, TableWriter};
use crate::wire;

/// What the version of the format is.
const VERSION: i32 = 1;

/// The dtypes that the format can hold.
const DTYPES: &[DType] = &[
    DType::F32,
    DType::F64,
    DType::I32,
    DType::U8,
    DType::I16,
    DType::I8,
    DType::String,
    DType::C64,
    DType::I64,
    DType::Bool,
    DType::QI8,
    DType::QU8,
    DType::QI32,
    DType::C128,
    DType::F16,
];

/// Whether the record under a table's empty key is that of a V1 checkpoint rather than a bundle's header.
pub(crate) fn is_v1(table: &Table) -> Result<bool> {
    // A bundle's header starts with numbers; here it starts with a message.
    Ok(table.get(b"")?.is_some_and(|record| record.first() == Some(&0x0a)))
}

/// A V1 checkpoint that is read. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct V1(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Vec<(Place, Table)>,
    tensors: BTreeMap<String, Stored>,
    limits: Limits,
}

/// A tensor and where its slices are.
#[derive(Debug)]
struct Stored {
    dtype: DType,
    shape: Vec<usize>,
    slices: Vec<(Slice, Vec<Range<usize>>, usize)>,
}

impl V1 {
    /// Opens a checkpoint that lies in these files.
    ///
    /// # Errors
    /// When one is missing or damaged, or they disagree.
    pub fn open(files: &[Place], limits: &Limits) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        let mut tables = Vec::new();
        for (i, file) in files.iter().enumerate() {
            let mut open = || -> Result<Table> {
                let table = Table::open(file.open()?, limits)?;
                let record = table.get(b"")?.ok_or_else(|| Error::corrupt("it has no list of tensors"))?;
                let meta = SavedTensorSlices::decode(&*record)
                    .map_err(|e| Error::corrupt("its list of tensors is damaged").because(e))?
                    .meta
                    .unwrap_or_default();
                let needs = meta.versions.as_ref().map_or(0, |v| v.min_consumer);
                if needs > VERSION {
                    return Err(Error::unsupported(format!("it asks for a reader of version {needs}")));
                }
                for tensor in &meta.tensor {
                    list(&mut tensors, tensor, i, limits)
                        .map_err(|e| e.at(format!("tensor {:?}", tensor.name)))?;
                }
                Ok(table)
            };
            tables.push((file.clone(), open().map_err(|e| e.in_file(file.label()))?));
        }
        Ok(V1(Arc::new(Inner { files: tables, tensors, limits: limits.clone() })))
    }

    /// The names of all tensors in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.tensors.keys().map(String::as_str)
    }

    /// The variable of a name. Its value stays in the file until it is asked for.
    ///
    /// # Errors
    /// When there is none.
    pub fn variable(&self, key: &str) -> Result<Variable> {
        let stored = self.0.stored(key)?;
        let (inner, name) = (self.0.clone(), key.to_owned());
        Ok(Variable::lazy(key, stored.dtype, stored.shape.clone(), move || inner.load(&name)))
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// When there is none of that name, or it is damaged or over the limits.
    pub fn tensor(&self, key: &str) -> Result<Tensor> {
        self.0.load(key)
    }
}

/// Adds what file `i` lists of a tensor.
fn list(
    tensors: &mut BTreeMap<String, Stored>,
    meta: &SavedSliceMeta,
    i: usize,
    limits: &Limits,
) -> Result<()> {
    let dtype = wire::dtype_from_proto(meta.r#type)?;
    let shape = wire::shape_from_proto(&meta.shape.clone().unwrap_or_default())?;
    wire::check_size(dtype, &shape, limits)?;
    let stored = tensors.entry(meta.name.clone()).or_insert_with(|| Stored {
        dtype,
        shape: shape.clone(),
        slices: Vec::new(),
    });
    if stored.dtype != dtype || stored.shape != shape {
        return Err(Error::mismatch("another file lists it with another dtype or shape")
            .help("the files belong to different saves"));
    }
    for slice in &meta.slice {
        let slice = Slice::from_proto(slice)?;
        let ranges = slice.ranges(&shape)?;
        stored.slices.push((slice, ranges, i));
    }
    Ok(())
}

impl Inner {
    fn stored(&self, key: &str) -> Result<&Stored> {
        self.tensors.get(key).ok_or_else(|| {
            let e = Error::missing(format!("the checkpoint has no tensor {key:?}"));
            let e = self.files.first().map(|(f, _)| f.label()).into_iter().fold(e, Error::in_file);
            nearest(key, self.tensors.keys().map(String::as_str)).into_iter().fold(e, Error::help)
        })
    }

    fn load(&self, key: &str) -> Result<Tensor> {
        let stored = self.stored(key)?;
        let (dtype, shape) = (stored.dtype, &stored.shape[..]);
        let load = || {
            if let [(slice, ranges, i)] = &stored.slices[..]
                && *ranges == full(shape)
            {
                return self.read(key, slice, dtype, shape, *i);
            }
            let parts: Vec<_> = stored.slices.iter().map(|(_, ranges, _)| ranges.clone()).collect();
            assemble(dtype, shape, &full(shape), &parts, |part| match stored.slices.get(part) {
                Some((slice, ranges, i)) => {
                    let lengths: Vec<usize> = ranges.iter().map(Range::len).collect();
                    self.read(key, slice, dtype, &lengths, *i)
                }
                None => Err(Error::corrupt("a slice is missing")),
            })
        };
        load().map_err(|e| e.at(format!("tensor {key:?}")))
    }

    fn read(&self, key: &str, slice: &Slice, dtype: DType, shape: &[usize], i: usize) -> Result<Tensor> {
        let Some((file, table)) = self.files.get(i) else {
            return Err(Error::corrupt("a file is missing"));
        };
        let read = || {
            let record = table.get(&slice.key(key))?.ok_or_else(|| {
                Error::corrupt(format!("the list of tensors names a slice {slice} that isn't there"))
            })?;
            if record.len() as u64 > self.limits.tensor_bytes {
                return Err(Error::limit("its record is over the limit of bytes a tensor"));
            }
            let damaged = |e| Error::corrupt("its record is damaged").because(e);
            let values = SavedTensorSlices::decode(&*record)
                .map_err(damaged)?
                .data
                .and_then(|d| d.data)
                .ok_or_else(|| Error::corrupt("its record has no data"))?;
            let wanted: usize = shape.iter().product();
            let count = wire::values_len(&values, dtype);
            if count != wanted {
                return Err(Error::corrupt(format!(
                    "{dtype} {shape:?} takes {wanted} values, and {count} are there"
                )));
            }
            wire::values_from(&values, dtype, shape)
        };
        read().map_err(|e| e.in_file(file.label()))
    }
}

/// Writes a V1 checkpoint as the file `name` of `target`, one tensor in memory at a time.
///
/// What has no slice is written whole; several with one name, full shape and dtype are slices of one tensor.
/// The bytes are what TensorFlow writes for the same tensors in the same order.
///
/// # Errors
/// When a dtype can't be held, a name occurs twice, a variable can't be read, or writing fails.
pub fn write(
    target: &Target,
    name: &str,
    tensors: &[(Variable, Option<crate::slice::ShapeAndSlice>)],
) -> Result<()> {
    let mut meta: Vec<SavedSliceMeta> = Vec::new();
    let mut listed = HashMap::new();
    let mut records: BTreeMap<Vec<u8>, (&Variable, Slice)> = BTreeMap::new();
    for (variable, part) in tensors {
        let place = |e: Error| e.at(format!("tensor {:?}", variable.name)).in_file(target.path());
        if !DTYPES.contains(&variable.dtype) {
            return Err(place(
                Error::unsupported(format!("V1 checkpoints can't hold {}", variable.dtype))
                    .help("write a V2 checkpoint, or another dtype"),
            ));
        }
        let whole = Slice::full(variable.shape.len());
        let (shape, slice) = part.as_ref().map_or((&variable.shape, &whole), |p| (&p.shape, &p.slice));
        let lengths: Vec<usize> = slice.ranges(shape).map_err(place)?.iter().map(Range::len).collect();
        let dtype = wire::dtype_to_proto(variable.dtype);
        let i = *listed.entry(&variable.name).or_insert(meta.len());
        if i == meta.len() {
            meta.push(SavedSliceMeta {
                name: variable.name.clone(),
                shape: Some(wire::shape_to_proto(shape)),
                r#type: dtype,
                slice: Vec::new(),
            });
        }
        let tensor = &mut meta[i];
        if lengths != variable.shape
            || tensor.r#type != dtype
            || tensor.shape != Some(wire::shape_to_proto(shape))
        {
            return Err(place(Error::mismatch("its slices don't belong to one tensor")));
        }
        tensor.slice.push(slice.to_proto());
        if records.insert(slice.key(&variable.name), (variable, slice.clone())).is_some() {
            return Err(place(Error::invalid("it is there twice")));
        }
    }
    let versions = Some(VersionDef { producer: VERSION, ..VersionDef::default() });
    let head = SavedTensorSlices { meta: Some(SavedTensorSliceMeta { tensor: meta, versions }), data: None };
    let mut table = TableWriter::new(target.create(name)?);
    table.add(b"", &head.encode_to_vec())?;
    for (key, (variable, slice)) in records {
        let data = Some(wire::values_to(&variable.load()?));
        let slice = Some(slice.to_proto());
        let data = Some(SavedSlice { name: variable.name.clone(), slice, data });
        table.add(&key, &SavedTensorSlices { meta: None, data }.encode_to_vec())?;
    }
    Ok(table.finish()?.flush()?)
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Memory;

    use super::*;

    #[test]
    fn damage_is_named_and_other_dtypes_are_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("v1");
        let target = Target::new(&path).expect("target");
        let good = Variable::new("a/b", Tensor::from_vec(vec![1f32, 2.0], [2]).expect("tensor"));
        let bad = Variable::new("c", Tensor::zeros(DType::BF16, [1]).expect("zeros"));
        let e = write(&target, "v1", &[(bad, None)]).expect_err("bfloat16").to_string();
        assert!(e.contains("bfloat16") && e.contains("\"c\""), "{e}");
        assert!(write(&target, "v1", &[(good.clone(), None), (good.clone(), None)]).is_err());
        write(&target, "v1", &[(good, None)]).expect("write");
        target.commit().expect("commit");
        let open = || V1::open(&[Place::of_path(&path)], &Limits::default());
        let v1 = open().expect("open");
        assert_eq!(v1.tensor("a/b").expect("tensor").as_slice::<f32>().expect("f32"), [1.0, 2.0]);
        assert!(v1.tensor("a/c").expect_err("none").to_string().contains("did you mean \"a/b\"?"));
        let bytes = std::fs::read(&path).expect("read");
        for cut in 0..bytes.len() {
            let mut memory = Memory::new();
            memory.insert("v1", &bytes[..cut]);
            assert!(V1::open(&[Place::in_memory(memory, "v1")], &Limits::default()).is_err());
        }
    }
}
