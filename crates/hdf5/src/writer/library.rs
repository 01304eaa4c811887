//! Writing with the HDF5 C library.
//!
//! The library lays the file out: groups, attributes, and where each dataset's bytes go. The bytes themselves are
//! copied there afterwards, so that no tensor passes through it and types that it can't convert are written too.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use hdf5::dataset::{AllocTime, FillTime};
use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Datatype, H5Type};
use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{Error, ErrorKind, Result, Variable};

use super::layout::Gap;
use super::{Tree, chunks, place};
use crate::attribute::Attribute;
use crate::datatype::{self, DTYPE_ATTRIBUTE};

const DEFLATE_LEVEL: u8 = 4;

/// Writes all but what is returned.
pub(super) fn lay_out<'a>(root: &'a Tree, compress: bool, path: &Path) -> Result<Vec<Gap<'a>>> {
    let labelled = |e: Error| e.in_file(path.to_owned());
    // The library's names for files are texts.
    let mut options = hdf5::FileBuilder::new();
    options.with_fapl(|p| p.libver_earliest());
    let file = options.create(path).map_err(|e| labelled(failed(e)))?;
    let mut walk = Walk { types: Types::new(path), compress, gaps: Vec::new() };
    walk.group(&file, root, "").map_err(labelled)?;
    let Walk { types, gaps, .. } = walk;
    types.close();
    file.close().map_err(|e| labelled(failed(e)))?;
    Ok(gaps)
}

struct Walk<'p, 'a> {
    types: Types<'p>,
    compress: bool,
    gaps: Vec<Gap<'a>>,
}

impl<'a> Walk<'_, 'a> {
    fn group(&mut self, group: &hdf5::Group, tree: &'a Tree, path: &str) -> Result<()> {
        for (name, value) in &tree.attributes {
            set(group, name, value).map_err(|e| e.at(format!("attribute {name:?}")).at(place(path)))?;
        }
        for (name, variable) in &tree.datasets {
            let path = format!("{path}{name}");
            self.dataset(group, name, variable, &path).map_err(|e| e.at(place(&path)))?;
        }
        for (name, below) in &tree.groups {
            let path = format!("{path}{name}");
            let group = group.create_group(name).map_err(|e| failed(e).at(place(&path)))?;
            self.group(&group, below, &format!("{path}/"))?;
        }
        Ok(())
    }

    fn dataset(&mut self, group: &hdf5::Group, name: &str, variable: &'a Variable, path: &str) -> Result<()> {
        let shape = variable.shape.as_slice();
        if variable.dtype == DType::String {
            return strings(group, name, &variable.load()?);
        }
        let (datatype, named) = self.types.get(variable.dtype)?;
        let size = variable.dtype.size().unwrap_or_default();
        let elements = variable.nbytes().unwrap_or_default();
        let builder = group.new_dataset_builder();
        // The library can't convert what it calls opaque, nor chunk a scalar.
        let dataset = if self.compress && !named && !shape.is_empty() && elements > 0 {
            let builder =
                builder.empty_as(datatype).shape(shape).chunk(chunks(shape, size)).deflate(DEFLATE_LEVEL);
            let dataset = builder.create(name).map_err(failed)?;
            elements_through(&dataset, &variable.load()?)?;
            dataset
        } else {
            let builder =
                builder.with_dcpl(|p| p.alloc_time(Some(AllocTime::Early)).fill_time(FillTime::Never));
            let builder = builder.empty_as(datatype);
            let dataset = match shape {
                [] => builder.shape(()).create(name),
                _ => builder.shape(shape).create(name),
            }
            .map_err(failed)?;
            if elements > 0 {
                let offset = dataset.offset().ok_or_else(|| {
                    Error::new(ErrorKind::Io, "the HDF5 library gave the dataset no place in the file")
                })?;
                self.gaps.push(Gap { offset, variable, path: path.to_owned() });
            }
            dataset
        };
        if named {
            set(&dataset, DTYPE_ATTRIBUTE, &Attribute::Utf8(variable.dtype.name().to_owned()))?;
        }
        Ok(())
    }
}

/// Writes elements through the library's filters.
fn elements_through(dataset: &hdf5::Dataset, tensor: &Tensor) -> Result<()> {
    fn typed<T: H5Type + modelark_artifact::tensor::Element>(
        dataset: &hdf5::Dataset,
        tensor: &Tensor,
    ) -> Result<()> {
        dataset.write_raw(&*tensor.elements::<T>()?).map_err(failed)
    }
    use modelark_artifact::tensor::{Complex32, Complex64, f16};
    match tensor.dtype() {
        DType::F32 => typed::<f32>(dataset, tensor),
        DType::F64 => typed::<f64>(dataset, tensor),
        DType::F16 => typed::<f16>(dataset, tensor),
        DType::I8 => typed::<i8>(dataset, tensor),
        DType::I16 => typed::<i16>(dataset, tensor),
        DType::I32 => typed::<i32>(dataset, tensor),
        DType::I64 => typed::<i64>(dataset, tensor),
        DType::U8 => typed::<u8>(dataset, tensor),
        DType::U16 => typed::<u16>(dataset, tensor),
        DType::U32 => typed::<u32>(dataset, tensor),
        DType::U64 => typed::<u64>(dataset, tensor),
        DType::C64 => typed::<Complex32>(dataset, tensor),
        DType::C128 => typed::<Complex64>(dataset, tensor),
        DType::Bool => {
            let flags: Vec<bool> = tensor.bytes()?.iter().map(|&b| b != 0).collect();
            dataset.write_raw(&flags).map_err(failed)
        }
        other => Err(Error::unsupported(format!("{other} can't be compressed"))),
    }
}

fn strings(group: &hdf5::Group, name: &str, tensor: &Tensor) -> Result<()> {
    let texts = tensor
        .strings()?
        .iter()
        .map(|s| std::str::from_utf8(s).ok().and_then(|s| VarLenUnicode::from_str(s).ok()))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| Error::unsupported("HDF5 strings can't hold bytes that aren't UTF-8, nor NUL"))?;
    let builder = group.new_dataset::<VarLenUnicode>();
    let dataset = match tensor.shape() {
        [] => builder.shape(()).create(name),
        shape => builder.shape(shape).create(name),
    };
    let dataset = dataset.map_err(failed)?;
    if texts.is_empty() { Ok(()) } else { dataset.write_raw(&texts).map_err(failed) }
}

/// Sets an attribute of a group or dataset.
fn set(object: &hdf5::Location, name: &str, value: &Attribute) -> Result<()> {
    fn scalar<T: H5Type>(object: &hdf5::Location, name: &str, value: &T) -> Result<()> {
        let attribute = object.new_attr::<T>().shape(()).create(name).map_err(failed)?;
        attribute.write_scalar(value).map_err(failed)
    }
    fn array<T: H5Type>(object: &hdf5::Location, name: &str, values: &[T]) -> Result<()> {
        let attribute = object.new_attr::<T>().shape(values.len()).create(name).map_err(failed)?;
        if values.is_empty() { Ok(()) } else { attribute.write_raw(values).map_err(failed) }
    }
    let unfit = |text: &str| Error::unsupported(format!("HDF5 strings can't hold {text:?}"));
    // A text that isn't ASCII is declared as what it is.
    let ascii = |s: &String| VarLenAscii::from_ascii(s.as_bytes()).map_err(|_| unfit(s));
    let utf8 = |s: &String| VarLenUnicode::from_str(s).map_err(|_| unfit(s));
    match value {
        Attribute::Ascii(s) if s.is_ascii() => scalar(object, name, &ascii(s)?),
        Attribute::Ascii(s) | Attribute::Utf8(s) => scalar(object, name, &utf8(s)?),
        Attribute::AsciiList(l) if l.iter().all(|s| s.is_ascii()) => {
            array(object, name, &l.iter().map(ascii).collect::<Result<Vec<_>>>()?)
        }
        Attribute::AsciiList(l) | Attribute::Utf8List(l) => {
            array(object, name, &l.iter().map(utf8).collect::<Result<Vec<_>>>()?)
        }
        Attribute::FixedList(l) => fixed(object, name, l),
        Attribute::Int(n) => scalar(object, name, n),
        Attribute::Ints(n) => array(object, name, n),
        Attribute::Float(x) => scalar(object, name, x),
        Attribute::Floats(x) => array(object, name, x),
    }
}

/// Strings in slots as wide as the longest; the library narrows them from slots of one of these widths.
fn fixed(object: &hdf5::Location, name: &str, list: &[String]) -> Result<()> {
    fn ascii<const N: usize>(attribute: &hdf5::Attribute, list: &[String]) -> Result<()> {
        let slots =
            list.iter().map(|s| FixedAscii::<N>::from_ascii(s.as_bytes())).collect::<Result<Vec<_>, _>>();
        attribute.write_raw(&slots.map_err(|e| Error::unsupported("a name").because(e))?).map_err(failed)
    }
    fn unicode<const N: usize>(attribute: &hdf5::Attribute, list: &[String]) -> Result<()> {
        let slots = list.iter().map(|s| FixedUnicode::<N>::from_str(s)).collect::<Result<Vec<_>, _>>();
        attribute.write_raw(&slots.map_err(|e| Error::unsupported("a name").because(e))?).map_err(failed)
    }
    let width = list.iter().map(String::len).max().unwrap_or(0).max(1);
    let is_ascii = list.iter().all(|s| s.is_ascii());
    let declared =
        if is_ascii { TypeDescriptor::FixedAscii(width) } else { TypeDescriptor::FixedUnicode(width) };
    let attribute =
        object.new_attr_builder().empty_as(&declared).shape(list.len()).create(name).map_err(failed)?;
    match (width, is_ascii) {
        (..=128, true) => ascii::<128>(&attribute, list),
        (..=4096, true) => ascii::<4096>(&attribute, list),
        (..=4096, false) => unicode::<4096>(&attribute, list),
        _ => Err(Error::unsupported(format!("a name of {width} bytes is too long")).help("rename the layer")),
    }
}

/// The library's handles of the datatypes that a file needs.
///
/// Opaque ones can't be described to it; they are taken from a file that has one.
struct Types<'a> {
    path: &'a Path,
    samples: Vec<(usize, hdf5::File, Datatype)>,
}

impl<'a> Types<'a> {
    fn new(path: &'a Path) -> Self {
        Types { path, samples: Vec::new() }
    }

    /// The datatype of a dtype, and whether its dataset needs the attribute `dtype`.
    fn get(&mut self, dtype: DType) -> Result<(Datatype, bool)> {
        let (datatype, named) = datatype::write(dtype)?;
        let described = match dtype {
            DType::F32 => Datatype::from_type::<f32>(),
            DType::F64 => Datatype::from_type::<f64>(),
            DType::F16 => Datatype::from_type::<modelark_artifact::tensor::f16>(),
            DType::I8 => Datatype::from_type::<i8>(),
            DType::I16 => Datatype::from_type::<i16>(),
            DType::I32 => Datatype::from_type::<i32>(),
            DType::I64 => Datatype::from_type::<i64>(),
            DType::U8 => Datatype::from_type::<u8>(),
            DType::U16 => Datatype::from_type::<u16>(),
            DType::U32 => Datatype::from_type::<u32>(),
            DType::U64 => Datatype::from_type::<u64>(),
            DType::Bool => Datatype::from_type::<bool>(),
            DType::C64 => Datatype::from_type::<modelark_artifact::tensor::Complex32>(),
            DType::C128 => Datatype::from_type::<modelark_artifact::tensor::Complex64>(),
            _ => return Ok((self.opaque(dtype.size().unwrap_or_default(), datatype)?, named)),
        };
        Ok((described.map_err(failed)?, named))
    }

    fn opaque(&mut self, size: usize, datatype: hdf5_pure::Datatype) -> Result<Datatype> {
        if let Some((.., known)) = self.samples.iter().find(|(s, ..)| *s == size) {
            return Ok(known.clone());
        }
        const NAME: &str = "x";
        let mut builder = hdf5_pure::FileBuilder::new();
        builder.create_dataset(NAME).with_raw_data(datatype, vec![0; size], 1);
        let bytes = builder.finish().map_err(|e| Error::new(ErrorKind::Io, "a sample type").because(e))?;
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".type{size}"));
        let path = self.path.with_file_name(name);
        fs::write(&path, bytes)?;
        let opened = hdf5::File::open(&path).and_then(|file| {
            let datatype = file.dataset(NAME)?.dtype()?;
            Ok((file, datatype))
        });
        // The library has it open; its name isn't needed any more.
        fs::remove_file(&path)?;
        let (file, datatype) = opened.map_err(failed)?;
        self.samples.push((size, file, datatype.clone()));
        Ok(datatype)
    }

    fn close(self) {
        for (_, file, datatype) in self.samples {
            drop(datatype);
            drop(file);
        }
    }
}

fn failed(e: hdf5::Error) -> Error {
    Error::new(ErrorKind::Io, "the HDF5 library failed").because(e.to_string())
}
