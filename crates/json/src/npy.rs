//! `.npy`: one array, as `np.save` writes it.

use std::io::Write;

use modelark_artifact::tensor::{SharedBytes, Tensor};
use modelark_artifact::{Error, Limits, Result};

use crate::array::{self, Bytes, Field, Items, StoredArray, byte_len};
use crate::literal::{self, Literal};
use crate::pickle::{self, Value};

/// What every `.npy` file starts with.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Headers longer than this are refused; the longest known, of a structure of 6000 fields, takes a tenth.
const MAX_HEADER: usize = 1 << 20;

/// What an `.npy` file holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// An array of numbers or strings.
    Array(StoredArray),
    /// An array of structures, as an array for each field.
    Fields(Vec<(String, StoredArray)>),
    /// An array of Python objects, read by the allow-list of [`pickle`].
    Objects(Value),
}

/// The head of an `.npy` file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// What the items are.
    pub items: Items,
    /// Whether they lie in column-major order.
    pub fortran: bool,
    /// The shape.
    pub shape: Vec<usize>,
    /// Where the data starts in the file.
    pub data: usize,
}

impl Header {
    /// Where the header's text ends, told by the first twelve bytes of the file.
    ///
    /// # Errors
    /// When these aren't the start of an `.npy` file, or the header is too long.
    pub fn end(start: &[u8]) -> Result<usize> {
        let short = || Error::corrupt("the file ends within its header");
        if start.is_empty() {
            return Err(Error::corrupt("the file is empty").help(
                "NumPy leaves an empty file when it fails to save a list of arrays; save an object array",
            ));
        }
        if !start.starts_with(MAGIC) {
            return Err(Error::corrupt("this isn't an .npy file: it doesn't start with \\x93NUMPY"));
        }
        let version = start.get(6..8).ok_or_else(short)?;
        let (len, text) = match version {
            [1, 0] => (u16::from_le_bytes(fixed(start, 8).ok_or_else(short)?).into(), 10),
            [2 | 3, 0] => (u32::from_le_bytes(fixed(start, 8).ok_or_else(short)?), 12),
            other => return Err(Error::unsupported(format!("version {other:?} of .npy isn't known"))),
        };
        let len = len as usize;
        if len > MAX_HEADER {
            return Err(Error::limit(format!("the header takes {len} bytes")));
        }
        Ok(text + len)
    }

    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// When there is none, or it isn't what NumPy writes.
    pub fn read(bytes: &[u8], limits: &Limits) -> Result<Self> {
        let data = Header::end(bytes)?;
        let latin = bytes.get(6).is_some_and(|major| *major < 3);
        let start = if bytes.get(6) == Some(&1) { 10 } else { 12 };
        let text = bytes.get(start..data).ok_or_else(|| Error::corrupt("the file ends within its header"))?;
        let text = match latin {
            true => text.iter().map(|&b| char::from(b)).collect(),
            false => {
                String::from_utf8(text.to_vec()).map_err(|_| Error::corrupt("the header isn't UTF-8"))?
            }
        };
        let Literal::Dict(entries) = literal::parse(&text, limits.depth)? else {
            return Err(Error::corrupt("the header isn't a dict"));
        };
        let (mut items, mut fortran, mut shape) = (None, None, None);
        for (key, value) in entries {
            match (key, value) {
                (Literal::String(key), value) if key == "descr" => items = Some(items_of(&value)?),
                (Literal::String(key), Literal::Bool(value)) if key == "fortran_order" => {
                    fortran = Some(value)
                }
                (Literal::String(key), Literal::Tuple(dims)) if key == "shape" => {
                    shape = Some(shape_of(&dims)?)
                }
                (key, _) => return Err(Error::corrupt(format!("the header's entry {key:?} isn't NumPy's"))),
            }
        }
        match (items, fortran, shape) {
            (Some(items), Some(fortran), Some(shape)) => Ok(Header { items, fortran, shape, data }),
            _ => Err(Error::corrupt("the header lacks one of descr, fortran_order and shape")),
        }
    }

    /// The bytes of a header for an array in C order, as NumPy writes them: the data after them lies at a multiple of 64.
    ///
    /// # Errors
    /// When the items have no name in NumPy.
    pub fn write(items: &Items, shape: &[usize]) -> Result<Vec<u8>> {
        // NumPy leaves room for the first dimension to grow to this many digits.
        const GROWTH: usize = 21;
        const ALIGN: usize = 64;
        let dims: String = match shape {
            [only] => format!("{only},"),
            dims => dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
        };
        let descr = items.descr()?;
        let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
        if let Some(first) = shape.first() {
            text.extend(std::iter::repeat_n(' ', GROWTH.saturating_sub(first.to_string().len())));
        }
        let padding = ALIGN - (10 + text.len() + 1) % ALIGN;
        text.extend(std::iter::repeat_n(' ', padding));
        text.push('\n');
        let len = u16::try_from(text.len()).map_err(|_| Error::limit("a shape with too many dimensions"))?;
        let mut out = Vec::with_capacity(10 + text.len());
        out.extend(MAGIC);
        out.extend([1, 0]);
        out.extend(len.to_le_bytes());
        out.extend(text.as_bytes());
        Ok(out)
    }
}

/// The `N` bytes at `at`, if they are there.
fn fixed<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn shape_of(dims: &[Literal]) -> Result<Vec<usize>> {
    dims.iter()
        .map(|dim| match dim {
            Literal::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Error::corrupt(format!("{dims:?} isn't a shape")))
}

fn items_of(descr: &Literal) -> Result<Items> {
    match descr {
        Literal::String(text) => Items::parse(text),
        Literal::List(fields) => fields.iter().map(field_of).collect::<Result<_>>().map(Items::Fields),
        other => Err(Error::corrupt(format!("{other:?} describes no items"))),
    }
}

fn field_of(field: &Literal) -> Result<Field> {
    let bad = || Error::unsupported(format!("{field:?} is a field of a kind that isn't read"));
    let Literal::Tuple(parts) = field else { return Err(bad()) };
    let (name, descr, shape) = match parts.as_slice() {
        [Literal::String(name), Literal::String(descr)] => (name, descr, Vec::new()),
        [Literal::String(name), Literal::String(descr), Literal::Tuple(dims)] => {
            (name, descr, shape_of(dims)?)
        }
        _ => return Err(bad()),
    };
    if name.is_empty() {
        let size = descr.strip_prefix("|V").and_then(|n| n.parse().ok()).ok_or_else(bad)?;
        return Ok(Field { name: name.clone(), items: None, shape, size });
    }
    let items = Items::parse(descr)?;
    let size = byte_len(&items, &shape)?;
    Ok(Field { name: name.clone(), items: Some(items), shape, size })
}

/// Reads an `.npy` file: arrays stay where they are, a pickle is read by its allow-list.
///
/// # Errors
/// When the bytes aren't an `.npy` file, are too few, or ask for more than the limits allow.
pub fn read(bytes: &SharedBytes, limits: &Limits) -> Result<Content> {
    let header = Header::read(bytes, limits)?;
    if header.items == Items::Object {
        let rest = bytes.slice(header.data..bytes.len()).unwrap_or_default();
        let value = pickle::read(&rest, limits).map_err(|e| e.at("pickle"))?;
        // The pickle of an object array repeats its shape; which one counts when they differ is NumPy's choice.
        return Ok(Content::Objects(value));
    }
    let len = byte_len(&header.items, &header.shape)?;
    let data = header.data.checked_add(len).and_then(|end| bytes.slice(header.data..end));
    let data = data.ok_or_else(|| {
        let there = bytes.len().saturating_sub(header.data);
        Error::corrupt(format!(
            "the array of shape {:?} takes {len} bytes, but the file has {there}",
            header.shape
        ))
    })?;
    header.content(Bytes::Here(data), limits)
}

impl Header {
    /// The content that this header describes, over the bytes of its data.
    pub(crate) fn content(self, data: Bytes, limits: &Limits) -> Result<Content> {
        let Items::Fields(fields) = &self.items else {
            return StoredArray::new(self.items, self.shape, self.fortran, data, limits).map(Content::Array);
        };
        let record = self.items.size().unwrap_or(0);
        let Bytes::Here(data) = data else {
            return Err(Error::unsupported("structures in a compressed archive aren't read"));
        };
        if self.fortran && self.shape.len() > 1 {
            return Err(Error::unsupported("structures in column-major order aren't read"));
        }
        let mut offset = 0;
        let mut found = Vec::new();
        for field in fields {
            if let Some(items) = &field.items {
                let column = column(&data, record, offset, field.size);
                let shape = self.shape.iter().chain(&field.shape).copied().collect();
                let array = StoredArray::new(items.clone(), shape, false, Bytes::Here(column), limits)?;
                found.push((field.name.clone(), array));
            }
            offset += field.size;
        }
        Ok(Content::Fields(found))
    }
}

/// The `size` bytes at `offset` of each record.
fn column(data: &[u8], record: usize, offset: usize, size: usize) -> SharedBytes {
    let mut out = Vec::with_capacity(data.len() / record.max(1) * size);
    for record in data.chunks_exact(record.max(1)) {
        out.extend(record.get(offset..offset + size).unwrap_or_default());
    }
    out.into()
}

/// Writes a tensor as an `.npy` file.
///
/// The types of `ml_dtypes` keep their bits, but NumPy forgets which they are: bfloat16 is `V2`.
///
/// # Errors
/// When the dtype has no place in NumPy, or writing fails.
pub fn write(tensor: &Tensor, out: &mut impl Write) -> Result<()> {
    let (items, bytes) = array::encode(tensor)?;
    out.write_all(&Header::write(&items, tensor.shape())?)?;
    out.write_all(&bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use modelark_artifact::tensor::DType;
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str, data: &[u8]) -> SharedBytes {
        let mut out = MAGIC.to_vec();
        out.extend([1, 0]);
        out.extend((text.len() as u16).to_le_bytes());
        out.extend(text.as_bytes());
        out.extend(data);
        out.into()
    }

    fn tensor(text: &str, data: &[u8]) -> Result<Tensor> {
        match read(&file(text, data), &Limits::default())? {
            Content::Array(a) => a.tensor(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn headers_are_numpys() {
        let header = Header::write(&Items::plain(DType::F32), &[2, 3]).expect("header");
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        assert_eq!(header.len(), 128);
        assert!(header[10..].starts_with(text.as_bytes()) && header.ends_with(b" \n"));
        let header = Header::write(&Items::plain(DType::Bool), &[]).expect("header");
        assert!(header[10..].starts_with(b"{'descr': '|b1', 'fortran_order': False, 'shape': (), }"));
        assert_eq!(header.len() % 64, 0);
    }

    #[test]
    fn what_other_writers_write_is_read() {
        for text in [
            "{'shape': (2,), 'descr': 'float32', 'fortran_order': False}",
            "{\"descr\": '=f4', \"fortran_order\": False, \"shape\": (2,), }\n",
            "{'descr': '<f4','fortran_order':False,'shape': (2L,), }   \n",
        ] {
            let t = tensor(text, &[0, 0, 128, 63, 0, 0, 0, 64, 99]).expect(text);
            assert_eq!(*t.elements::<f32>().expect("f32"), [1.0, 2.0], "{text}");
        }
    }

    #[test]
    fn what_numpy_refuses_is_refused() {
        for text in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': [2]}",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}",
            "{'descr': '<f4', 'shape': (2,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9)}",
        ] {
            assert!(tensor(text, &[0; 8]).is_err(), "{text}");
        }
        assert!(read(&SharedBytes::default(), &Limits::default()).is_err());
    }

    #[test]
    fn fields_become_arrays() {
        let text = "{'descr': [('a', '<i2'), ('', '|V1'), ('b', '|u1', (2,))], 'fortran_order': False, 'shape': (2,)}";
        let data = [1, 0, 77, 2, 3, 4, 0, 77, 5, 6];
        let Content::Fields(fields) = read(&file(text, &data), &Limits::default()).expect("read") else {
            panic!("fields")
        };
        let names: Vec<&str> = fields.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            fields[0].1.tensor().expect("a").as_slice::<i16>().map(<[_]>::to_vec).expect("i16"),
            [1, 4]
        );
        let b = fields[1].1.tensor().expect("b");
        assert_eq!((b.shape(), b.as_slice::<u8>().expect("u8")), (&[2, 2][..], &[2, 3, 5, 6][..]));
    }

    proptest! {
        #[test]
        fn written_arrays_are_read_back(shape in prop::collection::vec(0usize..4, 0..5), seed: u8) {
            let len: usize = shape.iter().product();
            let data: Vec<f32> = (0..len).map(|i| (i as f32) * f32::from(seed)).collect();
            let t = Tensor::from_vec(data, &shape).expect("tensor");
            let mut out = Vec::new();
            write(&t, &mut out).expect("write");
            let Content::Array(back) = read(&out.into(), &Limits::default()).expect("read") else { panic!("array") };
            prop_assert!(back.tensor().expect("tensor").bit_eq(&t));
        }

        #[test]
        fn damaged_files_never_panic(at in 0usize..140, byte: u8) {
            let mut out = Vec::new();
            write(&Tensor::zeros(DType::F32, [2, 2]).expect("zeros"), &mut out).expect("write");
            if let Some(b) = out.get_mut(at) { *b = byte }
            if let Ok(Content::Array(a)) = read(&out.into(), &Limits::default()) { let _ = a.tensor(); }
        }
    }
}
