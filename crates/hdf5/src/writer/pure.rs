//! Writing in pure Rust, where the C library is turned off. The whole file stands in memory.

use std::path::Path;

use hdf5_pure::{AttrValue, DatasetBuilder, FileBuilder, FinishedGroup, GroupBuilder, LibVer};
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, ErrorKind, Result, Variable};

use super::{Tree, chunks, place};
use crate::datatype::{self, DTYPE_ATTRIBUTE};

const DEFLATE_LEVEL: u32 = 4;

pub(super) fn write(root: &Tree, compress: bool, path: &Path) -> Result<()> {
    let write = || {
        let mut file = FileBuilder::new();
        // Compressed datasets need a newer version of the format than this writer's oldest.
        if !compress {
            file.with_libver_bounds(LibVer::Earliest, LibVer::V18);
        }
        for (name, value) in &root.attributes {
            file.set_attr(name, value.to_pure());
        }
        for (name, variable) in &root.datasets {
            dataset(file.create_dataset(name), variable, compress).map_err(|e| e.at(place(name)))?;
        }
        for (name, tree) in &root.groups {
            let group = group(file.create_group(name), tree, compress, name)?;
            file.add_group(group);
        }
        file.write(path).map_err(|e| Error::new(ErrorKind::Io, "the HDF5 file can't be written").because(e))
    };
    write().map_err(|e: Error| e.in_file(path.to_owned()))
}

fn group(mut builder: GroupBuilder, tree: &Tree, compress: bool, path: &str) -> Result<FinishedGroup> {
    for (name, value) in &tree.attributes {
        builder.set_attr(name, value.to_pure());
    }
    for (name, variable) in &tree.datasets {
        dataset(builder.create_dataset(name), variable, compress)
            .map_err(|e| e.at(place(&format!("{path}/{name}"))))?;
    }
    for (name, below) in &tree.groups {
        let below = group(builder.create_group(name), below, compress, &format!("{path}/{name}"))?;
        builder.add_group(below);
    }
    Ok(builder.finish())
}

fn dataset(builder: &mut DatasetBuilder, variable: &Variable, compress: bool) -> Result<()> {
    let tensor = variable.load()?;
    let shape: Vec<u64> = tensor.shape().iter().map(|&d| d as u64).collect();
    if tensor.dtype() == DType::String {
        let texts = tensor.strings()?.iter().map(|s| std::str::from_utf8(s)).collect::<Result<Vec<_>, _>>();
        let texts = texts.map_err(|e| Error::unsupported("HDF5 strings must be UTF-8").because(e))?;
        builder.with_vlen_strings(&texts).with_shape(&shape);
        return Ok(());
    }
    let (datatype, named) = datatype::write(tensor.dtype())?;
    builder.with_raw_data(datatype, tensor.bytes()?.to_vec(), tensor.len() as u64).with_shape(&shape);
    if compress && !shape.is_empty() && !tensor.is_empty() {
        let chunk = chunks(tensor.shape(), tensor.dtype().size().unwrap_or(1));
        let chunk: Vec<u64> = chunk.into_iter().map(|d| d as u64).collect();
        builder.with_chunks(&chunk).with_deflate(DEFLATE_LEVEL);
    }
    if named {
        builder.set_attr(DTYPE_ATTRIBUTE, AttrValue::VarLenString(tensor.dtype().name().to_owned()));
    }
    Ok(())
}
