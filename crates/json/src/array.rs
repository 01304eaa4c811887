//! An array as NumPy stores it: what its items are, its shape and order, and where its bytes lie.

use std::fmt;
use std::sync::Arc;

use modelark_artifact::tensor::{ByteString, DType, SharedBytes, Tensor, checked_elements};
use modelark_artifact::{Error, Limits, Result, Value, Variable};

/// What the items of an array are (NumPy: `dtype`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Items {
    /// Numbers or booleans.
    Plain {
        /// The type.
        dtype: DType,
        /// Whether the bytes of each number are in the other order than this project's, which is little-endian.
        swapped: bool,
    },
    /// Byte strings of this width, padded with NUL.
    Bytes(usize),
    /// Texts of this many UCS-4 code points, padded with NUL.
    Text {
        /// How many code points.
        len: usize,
        /// Whether they are big-endian.
        swapped: bool,
    },
    /// Python objects, which only a pickle can hold.
    Object,
    /// A structure of named fields.
    Fields(Vec<Field>),
}

/// A field of a structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name; empty for padding.
    pub name: String,
    /// What it holds; `None` for padding.
    pub items: Option<Items>,
    /// The shape of the array that it holds, empty for a single item.
    pub shape: Vec<usize>,
    /// Its bytes in all.
    pub size: usize,
}

/// The dtypes that NumPy knows by itself, with their letter and width.
const CODES: &[(&str, DType)] = &[
    ("b1", DType::Bool),
    ("i1", DType::I8),
    ("i2", DType::I16),
    ("i4", DType::I32),
    ("i8", DType::I64),
    ("u1", DType::U8),
    ("u2", DType::U16),
    ("u4", DType::U32),
    ("u8", DType::U64),
    ("f2", DType::F16),
    ("f4", DType::F32),
    ("f8", DType::F64),
    ("c8", DType::C64),
    ("c16", DType::C128),
    // What the package ml_dtypes makes of these two; it writes every other type of one byte as V1.
    ("V2", DType::BF16),
    ("f1", DType::F8E5M2),
    ("V1", DType::U8),
];

impl Items {
    /// Numbers in this project's own byte order.
    pub fn plain(dtype: DType) -> Self {
        Items::Plain { dtype, swapped: false }
    }

    /// Parses a type string such as `<f4`, `|S3`, `>i8`, `float32`.
    ///
    /// `V2` is read as bfloat16 and `V1` as bytes: these are what NumPy writes for the types of `ml_dtypes`.
    ///
    /// # Errors
    /// When NumPy has no such type, or it is one that no model holds (dates, long doubles, raw bytes).
    pub fn parse(text: &str) -> Result<Self> {
        let swapped = text.starts_with('>');
        let code = text.strip_prefix(['<', '>', '|', '=']).unwrap_or(text);
        if let Some((_, dtype)) = CODES.iter().find(|(c, _)| *c == code) {
            return Ok(Items::Plain { dtype: *dtype, swapped: swapped && dtype.size() != Some(1) });
        }
        if let Ok(dtype) = code.parse::<DType>()
            && dtype.size().is_some()
        {
            return Ok(Items::Plain { dtype, swapped });
        }
        let mut rest = code.chars();
        let letter = rest.next();
        let len = rest.as_str().parse::<usize>().ok();
        match (letter, len) {
            (Some('O'), _) => Ok(Items::Object),
            (Some('S' | 'a'), Some(n)) => Ok(Items::Bytes(n)),
            (Some('U'), Some(len)) if len <= usize::MAX / 4 => Ok(Items::Text { len, swapped }),
            (Some('M' | 'm'), _) => Err(unsupported(text, "dates and durations")),
            (Some('f'), Some(12 | 16)) => Err(unsupported(text, "long doubles")),
            (Some('V'), _) => Err(unsupported(text, "raw bytes")),
            _ => Err(Error::corrupt(format!("{text:?} is no type of NumPy's"))),
        }
    }

    /// The type string, as NumPy writes it in a header.
    ///
    /// # Errors
    /// For fields and types that NumPy has no name for.
    pub fn descr(&self) -> Result<String> {
        Ok(match self {
            Items::Plain { dtype, swapped } => {
                let code = code(*dtype)?;
                let order = match (dtype.size(), swapped, *dtype) {
                    // The types of ml_dtypes claim an order even where one byte has none.
                    (Some(1), ..) if code != "V1" && code != "f1" => '|',
                    (_, true, _) => '>',
                    _ => '<',
                };
                format!("{order}{code}")
            }
            Items::Bytes(n) => format!("|S{n}"),
            Items::Text { len, swapped } => format!("{}U{len}", if *swapped { '>' } else { '<' }),
            Items::Object => "|O".to_owned(),
            Items::Fields(_) => return Err(Error::unsupported("structures aren't written")),
        })
    }

    /// The bytes of one item; none for objects.
    pub fn size(&self) -> Option<usize> {
        match self {
            Items::Plain { dtype, .. } => dtype.size(),
            Items::Bytes(n) => Some(*n),
            Items::Text { len, .. } => len.checked_mul(4),
            Items::Object => None,
            Items::Fields(fields) => fields.iter().try_fold(0usize, |n, f| n.checked_add(f.size)),
        }
    }

    /// The dtype of the tensor that such items make.
    ///
    /// # Errors
    /// For objects and structures.
    pub fn dtype(&self) -> Result<DType> {
        match self {
            Items::Plain { dtype, .. } => Ok(*dtype),
            Items::Bytes(_) | Items::Text { .. } => Ok(DType::String),
            Items::Object => Err(Error::unsupported("an array of Python objects isn't a tensor")),
            Items::Fields(_) => Err(Error::unsupported("an array of structures isn't one tensor")),
        }
    }
}

/// NumPy's letter and width for a dtype, or what it writes for one that it doesn't know.
///
/// # Errors
/// For strings and handles.
pub fn code(dtype: DType) -> Result<&'static str> {
    if let Some((code, _)) = CODES.iter().find(|(c, d)| *d == dtype && *c != "V1") {
        return Ok(code);
    }
    match (dtype, dtype.size()) {
        (DType::QI8, _) => Ok("i1"),
        (DType::QU8, _) => Ok("u1"),
        (DType::QI16, _) => Ok("i2"),
        (DType::QU16, _) => Ok("u2"),
        (DType::QI32, _) => Ok("i4"),
        (_, Some(1)) => Ok("V1"),
        _ => Err(Error::unsupported(format!("NumPy has no fixed-width type for {dtype}"))),
    }
}

fn unsupported(text: &str, what: &str) -> Error {
    Error::unsupported(format!("items of the type {text:?} ({what}) can't be a model's weights"))
        .help("convert the array, such as with .astype('float32'), and save it again")
}

/// Reads the bytes of an array when they are asked for.
type Later = Arc<dyn Fn() -> Result<SharedBytes> + Send + Sync>;

/// Where an array's bytes lie.
#[derive(Clone)]
pub enum Bytes {
    /// In memory or in a mapped file.
    Here(SharedBytes),
    /// Behind a decompressor or a checksum.
    Later(Later),
}

/// An array as it is stored: it becomes a [`Tensor`] when asked for, without a copy where that is possible.
#[derive(Clone)]
pub struct StoredArray {
    items: Items,
    shape: Vec<usize>,
    fortran: bool,
    bytes: Bytes,
}

impl fmt::Debug for StoredArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredArray({:?} {:?})", self.items, self.shape)
    }
}

impl StoredArray {
    /// An array of this kind over `bytes`; in column-major order if `fortran`.
    ///
    /// # Errors
    /// When the items can't make a tensor, or the array takes more than the limits allow.
    pub fn new(
        items: Items,
        shape: Vec<usize>,
        fortran: bool,
        bytes: Bytes,
        limits: &Limits,
    ) -> Result<Self> {
        let len = byte_len(&items, &shape)? as u64;
        if len > limits.tensor_bytes {
            return Err(Error::limit(format!("an array of shape {shape:?} takes {len} bytes")));
        }
        if items.dtype()? == DType::String && checked_elements(&shape)? > limits.items {
            return Err(Error::limit(format!("an array of shape {shape:?} has too many strings")));
        }
        if let Bytes::Here(bytes) = &bytes
            && bytes.len() as u64 != len
        {
            return Err(Error::corrupt(format!(
                "an array of shape {shape:?} takes {len} bytes, but {} are there",
                bytes.len()
            )));
        }
        Ok(StoredArray { items, shape, fortran, bytes })
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The dtype of the tensor that it makes.
    pub fn dtype(&self) -> DType {
        self.items.dtype().unwrap_or(DType::String)
    }

    /// The tensor; its elements stay where they are if they are stored as tensors have them.
    ///
    /// # Errors
    /// When the bytes can't be read, or a text isn't Unicode.
    pub fn tensor(&self) -> Result<Tensor> {
        let bytes = match &self.bytes {
            Bytes::Here(bytes) => bytes.clone(),
            Bytes::Later(read) => read()?,
        };
        let wanted = byte_len(&self.items, &self.shape)?;
        if bytes.len() != wanted {
            return Err(Error::corrupt(format!(
                "the array takes {wanted} bytes, but {} are there",
                bytes.len()
            )));
        }
        let size = self.items.size().unwrap_or(0);
        let bytes = if self.fortran { to_row_major(&bytes, &self.shape, size) } else { bytes };
        match &self.items {
            Items::Plain { dtype, swapped } => {
                let bytes = if *swapped { swap(&bytes, component(*dtype)) } else { bytes };
                Ok(Tensor::from_bytes(*dtype, &self.shape, bytes)?)
            }
            Items::Bytes(_) => {
                strings(&bytes, size, &self.shape, |item| Ok(ByteString::from(item.trim_end_nuls())))
            }
            Items::Text { swapped, .. } => strings(&bytes, size, &self.shape, |item| text(item, *swapped)),
            other => other.dtype().and(Err(Error::unsupported("this array isn't a tensor"))),
        }
    }

    /// The array as a variable, whose value is worked out when it is asked for.
    pub fn variable(self, name: impl Into<String>) -> Variable {
        let direct = !self.fortran && matches!(self.items, Items::Plain { swapped: false, .. });
        if let (true, Bytes::Here(bytes)) = (direct, &self.bytes)
            && let Ok(tensor) = Tensor::from_bytes(self.dtype(), &self.shape, bytes.clone())
        {
            return Variable {
                value: Value::Tensor(tensor),
                ..Variable::lazy(name, self.dtype(), self.shape, unread)
            };
        }
        Variable::lazy(name, self.dtype(), self.shape.clone(), move || self.tensor())
    }
}

fn unread() -> Result<Tensor> {
    Err(Error::missing("the value was taken"))
}

/// The bytes of an array of this kind.
///
/// # Errors
/// When the shape overflows, or items have no fixed width.
pub fn byte_len(items: &Items, shape: &[usize]) -> Result<usize> {
    let size = items.size().ok_or_else(|| Error::unsupported("Python objects have no fixed width"))?;
    checked_elements(shape)?
        .checked_mul(size)
        .filter(|&n| n <= isize::MAX as usize)
        .ok_or_else(|| Error::limit(format!("an array of shape {shape:?} is larger than memory could be")))
}

trait TrimNuls {
    fn trim_end_nuls(&self) -> &[u8];
}

impl TrimNuls for [u8] {
    fn trim_end_nuls(&self) -> &[u8] {
        let end = self.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
        self.get(..end).unwrap_or_default()
    }
}

/// A string tensor from items of `size` bytes each.
fn strings(
    bytes: &[u8],
    size: usize,
    shape: &[usize],
    read: impl Fn(&[u8]) -> Result<ByteString>,
) -> Result<Tensor> {
    let count = checked_elements(shape)?;
    let strings: Vec<ByteString> = if size == 0 {
        (0..count).map(|_| read(&[])).collect::<Result<_>>()?
    } else {
        bytes.chunks_exact(size).map(read).collect::<Result<_>>()?
    };
    Ok(Tensor::from_strings(strings, shape)?)
}

/// UTF-8 of UCS-4 code points without the NULs at their end.
fn text(item: &[u8], swapped: bool) -> Result<ByteString> {
    let mut out = String::new();
    for code in item.chunks_exact(4) {
        let code = <[u8; 4]>::try_from(code).unwrap_or_default();
        let code = if swapped { u32::from_be_bytes(code) } else { u32::from_le_bytes(code) };
        out.push(char::from_u32(code).ok_or_else(|| Error::corrupt(format!("{code:#x} is no character")))?);
    }
    Ok(ByteString::from(out.trim_end_matches('\0').as_bytes()))
}

/// The width of the numbers that make up an element: half of a complex one.
fn component(dtype: DType) -> usize {
    let size = dtype.size().unwrap_or(1);
    if dtype.is_complex() { size / 2 } else { size }
}

fn swap(bytes: &[u8], width: usize) -> SharedBytes {
    let mut out = SharedBytes::copy_from(bytes);
    out.make_mut().chunks_exact_mut(width.max(1)).for_each(<[u8]>::reverse);
    out
}

/// Items in row-major order from items in column-major order.
fn to_row_major(bytes: &[u8], shape: &[usize], size: usize) -> SharedBytes {
    let Some((&inner, outer)) = shape.split_last().filter(|(_, outer)| !outer.is_empty() && size > 0) else {
        return SharedBytes::copy_from(bytes);
    };
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = size;
    for &extent in shape {
        strides.push(stride);
        stride = stride.saturating_mul(extent);
    }
    let inner_stride = strides.last().copied().unwrap_or(size);
    let mut out = SharedBytes::zeroed(bytes.len());
    let mut index = vec![0usize; outer.len()];
    for row in out.make_mut().chunks_exact_mut((inner * size).max(1)) {
        let start: usize = index.iter().zip(&strides).map(|(i, s)| i * s).sum();
        for (k, item) in row.chunks_exact_mut(size).enumerate() {
            let from = start + k * inner_stride;
            if let Some(source) = bytes.get(from..from + size) {
                item.copy_from_slice(source);
            }
        }
        // The next index, the last of the outer axes running fastest.
        for (i, extent) in index.iter_mut().zip(outer).rev() {
            *i += 1;
            if *i < *extent {
                break;
            }
            *i = 0;
        }
    }
    out
}

/// A tensor's items and bytes as NumPy stores them, in C order.
///
/// Strings become byte strings as wide as the longest.
///
/// # Errors
/// When a string ends in NUL, which NumPy would lose, or the dtype has no elements of its own.
pub fn encode(tensor: &Tensor) -> Result<(Items, SharedBytes)> {
    if tensor.dtype() != DType::String {
        code(tensor.dtype())?;
        return Ok((Items::plain(tensor.dtype()), tensor.bytes()?.clone()));
    }
    let strings = tensor.strings()?;
    if let Some(bad) = strings.iter().find(|s| s.ends_with(&[0])) {
        return Err(Error::unsupported(format!(
            "NumPy's byte strings can't end in NUL, as {:?} does",
            String::from_utf8_lossy(bad)
        )));
    }
    // NumPy has no strings of width 0.
    let width = strings.iter().map(|s| s.len()).max().unwrap_or(0).max(1);
    let total =
        width.checked_mul(strings.len()).ok_or_else(|| Error::limit("the strings take too many bytes"))?;
    let mut bytes = SharedBytes::zeroed(total);
    for (item, s) in bytes.make_mut().chunks_exact_mut(width).zip(strings) {
        if let Some(item) = item.get_mut(..s.len()) {
            item.copy_from_slice(s);
        }
    }
    Ok((Items::Bytes(width), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(items: Items, shape: &[usize], fortran: bool, bytes: &[u8]) -> Result<StoredArray> {
        StoredArray::new(items, shape.to_vec(), fortran, Bytes::Here(bytes.into()), &Limits::default())
    }

    #[test]
    fn type_strings_parse_and_print() {
        for text in ["|b1", "<f4", ">f8", "<i8", "|u1", "<c16", "|S3", "<U2", ">U5", "|O", "<V2", "<f1"] {
            assert_eq!(Items::parse(text).and_then(|i| i.descr()).expect(text), text);
        }
        assert_eq!(Items::parse("float32").expect("name"), Items::plain(DType::F32));
        assert_eq!(Items::parse("=f4").expect("native"), Items::plain(DType::F32));
        for text in ["<M8[D]", "<f16", "|V7", "<q9", "", "é", "<U99999999999999999999"] {
            assert!(Items::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn column_major_becomes_row_major() {
        let shape = [2, 3, 2];
        // The item at (i, j, k) is 100 i + 10 j + k.
        let column: Vec<u8> = (0..2)
            .flat_map(|k| (0..3).flat_map(move |j| (0..2).map(move |i| 100 * i + 10 * j + k)))
            .collect();
        let row: Vec<u8> = (0..2)
            .flat_map(|i| (0..3).flat_map(move |j| (0..2).map(move |k| 100 * i + 10 * j + k)))
            .collect();
        let t =
            stored(Items::plain(DType::U8), &shape, true, &column).and_then(|a| a.tensor()).expect("tensor");
        assert_eq!(t.as_slice::<u8>().expect("u8"), row);
    }

    #[test]
    fn big_endian_numbers_are_swapped() {
        let items = Items::parse(">c8").expect("type");
        let bytes: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| v.to_be_bytes()).collect();
        let t = stored(items, &[1], false, &bytes).and_then(|a| a.tensor()).expect("tensor");
        let c = t.item::<modelark_artifact::tensor::Complex32>().expect("complex");
        assert_eq!((c.re, c.im), (1.5, -2.0));
    }

    #[test]
    fn strings_lose_their_padding() {
        let t = stored(Items::Bytes(3), &[2], false, b"ab\0\0\0\0").and_then(|a| a.tensor()).expect("tensor");
        assert_eq!(t.strings().expect("strings").iter().map(|s| &**s).collect::<Vec<_>>(), [&b"ab"[..], b""]);
        let text: Vec<u8> = ['é', '\0'].iter().flat_map(|c| (*c as u32).to_be_bytes()).collect();
        let t = stored(Items::parse(">U2").expect("type"), &[], false, &text)
            .and_then(|a| a.tensor())
            .expect("text");
        assert_eq!(&*t.strings().expect("strings")[0], "é".as_bytes());
        let bad = 0xffff_ffffu32.to_le_bytes();
        assert!(
            stored(Items::parse("<U1").expect("type"), &[], false, &bad).and_then(|a| a.tensor()).is_err()
        );
    }

    #[test]
    fn sizes_are_checked_before_anything_is_allocated() {
        assert!(stored(Items::plain(DType::F32), &[2], false, &[0; 7]).is_err());
        assert!(stored(Items::plain(DType::F32), &[usize::MAX, 2], false, &[]).is_err());
        assert!(stored(Items::Bytes(0), &[1 << 60], false, &[]).is_err());
    }

    #[test]
    fn strings_are_written_as_wide_as_the_longest() {
        let t = Tensor::from_strings(["a".as_bytes(), b"bcd"], [2]).expect("tensor");
        let (items, bytes) = encode(&t).expect("encode");
        assert_eq!((items, &*bytes), (Items::Bytes(3), &b"a\0\0bcd"[..]));
        assert!(encode(&Tensor::scalar_string(&b"a\0"[..])).is_err());
    }
}
