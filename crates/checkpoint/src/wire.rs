//! What TensorFlow's messages call dtypes, shapes and tensors, and what they are here.

use modelark_artifact::{Error, Limits, Result};
use modelark_proto::{TensorProto, TensorShapeProto, bytes::Bytes, tensor_shape_proto::Dim};
use modelark_tensor::{ByteString, DType, PartialShape, SharedBytes, Tensor, checked_elements};

use crate::varint;

/// Every dtype with its number (TensorFlow: `DataType`).
const DTYPES: &[(DType, i32)] = &[
    (DType::F32, 1),
    (DType::F64, 2),
    (DType::I32, 3),
    (DType::U8, 4),
    (DType::I16, 5),
    (DType::I8, 6),
    (DType::String, 7),
    (DType::C64, 8),
    (DType::I64, 9),
    (DType::Bool, 10),
    (DType::QI8, 11),
    (DType::QU8, 12),
    (DType::QI32, 13),
    (DType::BF16, 14),
    (DType::QI16, 15),
    (DType::QU16, 16),
    (DType::U16, 17),
    (DType::C128, 18),
    (DType::F16, 19),
    (DType::Resource, 20),
    (DType::Variant, 21),
    (DType::U32, 22),
    (DType::U64, 23),
    (DType::F8E5M2, 24),
    (DType::F8E4M3FN, 25),
    (DType::F8E4M3FNUZ, 26),
    (DType::F8E4M3B11FNUZ, 27),
    (DType::F8E5M2FNUZ, 28),
    (DType::I4, 29),
    (DType::U4, 30),
    (DType::I2, 31),
    (DType::U2, 32),
    (DType::F4E2M1FN, 33),
];

/// A reference type's number is its base type's and this.
const REFERENCE: i32 = 100;

/// The dtype of this number (TensorFlow: `DataType`); a reference type of TF 1 stands for its base type.
///
/// # Errors
/// When there is no such dtype, or it is 0 (`DT_INVALID`).
pub fn dtype_from_proto(number: i32) -> Result<DType> {
    let base = if number > REFERENCE { number - REFERENCE } else { number };
    DTYPES
        .iter()
        .find(|(_, n)| *n == base)
        .map(|(d, _)| *d)
        .ok_or_else(|| Error::unsupported(format!("there is no dtype of number {number}")))
}

/// The number of this dtype (TensorFlow: `DataType`); 0 (`DT_INVALID`) for one that TensorFlow doesn't have.
pub fn dtype_to_proto(dtype: DType) -> i32 {
    DTYPES.iter().find(|(d, _)| *d == dtype).map_or(0, |(_, n)| *n)
}

/// The shape that a message describes, every extent of which must be known.
///
/// # Errors
/// When the rank or an extent is unknown, or an extent doesn't fit this machine.
pub fn shape_from_proto(shape: &TensorShapeProto) -> Result<Vec<usize>> {
    if shape.unknown_rank {
        return Err(Error::mismatch("a tensor's shape can't be of unknown rank"));
    }
    let extent =
        |d: &Dim| usize::try_from(d.size).map_err(|_| Error::corrupt(format!("{} is no extent", d.size)));
    shape.dim.iter().map(extent).collect()
}

/// The message that describes a shape.
pub fn shape_to_proto(shape: &[usize]) -> TensorShapeProto {
    let dim = |&d: &usize| Dim { size: i64::try_from(d).unwrap_or(i64::MAX), name: String::new() };
    TensorShapeProto { dim: shape.iter().map(dim).collect(), unknown_rank: false }
}

/// What a message says of a shape; a negative extent is an unknown one.
pub fn partial_shape_from_proto(shape: &TensorShapeProto) -> PartialShape {
    if shape.unknown_rank {
        return PartialShape::UNKNOWN;
    }
    PartialShape::new(shape.dim.iter().map(|d| usize::try_from(d.size).ok()).collect::<Vec<_>>())
}

/// The message that describes what is known of a shape.
pub fn partial_shape_to_proto(shape: &PartialShape) -> TensorShapeProto {
    let Some(dims) = shape.dims() else {
        return TensorShapeProto { dim: Vec::new(), unknown_rank: true };
    };
    let dim = |d: &Option<usize>| Dim {
        size: d.map_or(-1, |d| i64::try_from(d).unwrap_or(i64::MAX)),
        name: String::new(),
    };
    TensorShapeProto { dim: dims.iter().map(dim).collect(), unknown_rank: false }
}

/// The tensor in a message (TensorFlow: `Tensor::FromProto`): raw bytes, or the values of the dtype's own field, of
/// which the last is repeated up to the shape's size; no values at all make zeros.
///
/// Raw bytes are shared with the message, not copied.
///
/// # Errors
/// When the dtype is unknown or has no elements of its own (`resource`, `variant`), the raw bytes aren't exactly as
/// many as the shape asks, or the tensor is over the limits.
pub fn tensor_from_proto(proto: &TensorProto, limits: &Limits) -> Result<Tensor> {
    let dtype = dtype_from_proto(proto.dtype)?;
    let shape = match &proto.tensor_shape {
        Some(shape) => shape_from_proto(shape)?,
        None => Vec::new(),
    };
    check_size(dtype, &shape, limits)?;
    if proto.tensor_content.is_empty() {
        return values_from(proto, dtype, &shape);
    }
    if dtype == DType::String {
        let n = checked_elements(&shape)?;
        return Ok(Tensor::from_strings(strings_from_content(&proto.tensor_content, n)?, &shape)?);
    }
    Ok(Tensor::from_bytes(dtype, &shape, SharedBytes::from_owner(proto.tensor_content.clone()))?)
}

/// The message of a tensor, with its elements as TensorFlow's Python writes them: a single one, and strings, in
/// the field of the dtype, others raw.
pub fn tensor_to_proto(tensor: &Tensor) -> TensorProto {
    let head = TensorProto {
        dtype: dtype_to_proto(tensor.dtype()),
        tensor_shape: Some(shape_to_proto(tensor.shape())),
        ..TensorProto::default()
    };
    match tensor.bytes() {
        Ok(bytes) if tensor.len() > 1 => {
            TensorProto { tensor_content: Bytes::from_owner(bytes.clone()), ..head }
        }
        _ => TensorProto { dtype: head.dtype, tensor_shape: head.tensor_shape, ..values_to(tensor) },
    }
}

/// Fails unless a tensor of this kind fits the limits.
pub(crate) fn check_size(dtype: DType, shape: &[usize], limits: &Limits) -> Result<()> {
    let n = checked_elements(shape)?;
    // A string costs at least its handle in memory.
    let size = dtype.size().unwrap_or(size_of::<ByteString>()) as u64;
    match (n as u64).checked_mul(size) {
        Some(bytes) if bytes <= limits.tensor_bytes => Ok(()),
        _ => Err(Error::limit(format!(
            "a {dtype} tensor of shape {shape:?} is over the limit of {} bytes a tensor",
            limits.tensor_bytes
        ))
        .help("raise Limits::tensor_bytes")),
    }
}

/// A message with nothing but the tensor's values in the field of the dtype, as V1 checkpoints hold them.
pub(crate) fn values_to(tensor: &Tensor) -> TensorProto {
    let mut p = TensorProto::default();
    let Ok(bytes) = tensor.bytes() else {
        p.string_val = tensor.strings().unwrap_or_default().iter().map(|s| s.to_vec()).collect();
        return p;
    };
    match tensor.dtype() {
        DType::F32 => p.float_val = gather(bytes, f32::from_le_bytes),
        DType::F64 => p.double_val = gather(bytes, f64::from_le_bytes),
        DType::C64 => p.scomplex_val = gather(bytes, f32::from_le_bytes),
        DType::C128 => p.dcomplex_val = gather(bytes, f64::from_le_bytes),
        DType::I64 => p.int64_val = gather(bytes, i64::from_le_bytes),
        DType::U64 => p.uint64_val = gather(bytes, u64::from_le_bytes),
        DType::U32 => p.uint32_val = gather(bytes, u32::from_le_bytes),
        DType::I32 | DType::QI32 => p.int_val = gather(bytes, i32::from_le_bytes),
        DType::I16 | DType::QI16 => p.int_val = gather(bytes, |b| i16::from_le_bytes(b).into()),
        DType::U16 | DType::QU16 => p.int_val = gather(bytes, |b| u16::from_le_bytes(b).into()),
        DType::F16 | DType::BF16 => p.half_val = gather(bytes, |b| u16::from_le_bytes(b).into()),
        DType::I8 | DType::QI8 | DType::I4 | DType::I2 => {
            p.int_val = gather(bytes, |b| i8::from_le_bytes(b).into());
        }
        DType::U8 | DType::QU8 | DType::U4 | DType::U2 => p.int_val = gather(bytes, |[b]| b.into()),
        DType::Bool => p.bool_val = gather(bytes, |[b]| b != 0),
        _ => p.float8_val = bytes.to_vec(),
    }
    p
}

/// A tensor from the values in the field of its dtype.
pub(crate) fn values_from(p: &TensorProto, dtype: DType, shape: &[usize]) -> Result<Tensor> {
    let n = checked_elements(shape)?;
    let bytes = match dtype {
        DType::String => {
            let empty: ByteString = [].into();
            let mut strings: Vec<ByteString> =
                p.string_val.iter().take(n).map(|s| ByteString::from(&s[..])).collect();
            let last = strings.last().cloned().unwrap_or(empty);
            strings.resize(n, last);
            return Ok(Tensor::from_strings(strings, shape)?);
        }
        DType::F32 => spread(&p.float_val, n, f32::to_le_bytes),
        DType::F64 => spread(&p.double_val, n, f64::to_le_bytes),
        DType::C64 => spread(p.scomplex_val.as_chunks::<2>().0, n, |v| {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&v[0].to_le_bytes());
            bytes[4..].copy_from_slice(&v[1].to_le_bytes());
            bytes
        }),
        DType::C128 => spread(p.dcomplex_val.as_chunks::<2>().0, n, |v| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&v[0].to_le_bytes());
            bytes[8..].copy_from_slice(&v[1].to_le_bytes());
            bytes
        }),
        DType::I64 => spread(&p.int64_val, n, i64::to_le_bytes),
        DType::U64 => spread(&p.uint64_val, n, u64::to_le_bytes),
        DType::U32 => spread(&p.uint32_val, n, u32::to_le_bytes),
        DType::I32 | DType::QI32 => spread(&p.int_val, n, i32::to_le_bytes),
        DType::I16 | DType::QI16 | DType::U16 | DType::QU16 => {
            spread(&p.int_val, n, |v| (v as u16).to_le_bytes())
        }
        DType::F16 | DType::BF16 => spread(&p.half_val, n, |v| (v as u16).to_le_bytes()),
        DType::I8 | DType::QI8 | DType::I4 | DType::I2 | DType::U8 | DType::QU8 | DType::U4 | DType::U2 => {
            spread(&p.int_val, n, |v| [v as u8])
        }
        DType::Bool => spread(&p.bool_val, n, |v| [v.into()]),
        DType::F8E5M2
        | DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E4M3B11FNUZ
        | DType::F8E5M2FNUZ
        | DType::F4E2M1FN => spread(&p.float8_val, n, |v| [v]),
        other => return Err(Error::unsupported(format!("a {other} tensor has no elements to read"))),
    };
    Ok(Tensor::from_bytes(dtype, shape, bytes)?)
}

/// How many elements the field of the dtype holds.
pub(crate) fn values_len(p: &TensorProto, dtype: DType) -> usize {
    match dtype {
        DType::String => p.string_val.len(),
        DType::F32 => p.float_val.len(),
        DType::F64 => p.double_val.len(),
        DType::C64 => p.scomplex_val.len() / 2,
        DType::C128 => p.dcomplex_val.len() / 2,
        DType::I64 => p.int64_val.len(),
        DType::U64 => p.uint64_val.len(),
        DType::U32 => p.uint32_val.len(),
        DType::F16 | DType::BF16 => p.half_val.len(),
        DType::Bool => p.bool_val.len(),
        d if d.is_float() => p.float8_val.len(),
        _ => p.int_val.len(),
    }
}

/// Strings as raw content holds them: every length as a varint, then the bytes of all.
fn strings_from_content(content: &[u8], n: usize) -> Result<Vec<ByteString>> {
    let short = || Error::corrupt("a string tensor's content is cut short");
    if n > content.len() {
        return Err(short());
    }
    let mut rest = content;
    let mut lengths = Vec::with_capacity(n);
    for _ in 0..n {
        lengths.push(usize::try_from(varint::read(&mut rest).ok_or_else(short)?).map_err(|_| short())?);
    }
    let mut strings = Vec::with_capacity(n);
    for length in lengths {
        let (string, after) = rest.split_at_checked(length).ok_or_else(short)?;
        strings.push(ByteString::from(string));
        rest = after;
    }
    if !rest.is_empty() {
        return Err(Error::corrupt(format!("{} bytes are left over after a tensor's strings", rest.len())));
    }
    Ok(strings)
}

fn gather<T, const W: usize>(bytes: &[u8], value: impl Fn([u8; W]) -> T) -> Vec<T> {
    bytes.as_chunks::<W>().0.iter().map(|b| value(*b)).collect()
}

/// `n` elements from `values`, the last of which is repeated.
fn spread<T: Copy, const W: usize>(values: &[T], n: usize, bytes: impl Fn(T) -> [u8; W]) -> SharedBytes {
    let mut out = SharedBytes::zeroed(n.saturating_mul(W));
    if let Some(last) = values.last() {
        let rest = std::iter::repeat(last);
        for (element, value) in
            out.make_mut().as_chunks_mut::<W>().0.iter_mut().zip(values.iter().chain(rest))
        {
            *element = bytes(*value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(proto: &TensorProto) -> Tensor {
        tensor_from_proto(proto, &Limits::default()).expect("tensor")
    }

    #[test]
    fn every_dtype_has_one_number() {
        for &d in DType::ALL {
            assert_eq!(dtype_from_proto(dtype_to_proto(d)).expect("own number"), d);
        }
        assert_eq!(dtype_from_proto(101).expect("reference"), DType::F32);
        for n in [0, -1, 34, 99, 100, 134, i32::MIN] {
            assert!(dtype_from_proto(n).is_err(), "{n}");
        }
    }

    #[test]
    fn shapes_go_both_ways() {
        assert_eq!(shape_from_proto(&shape_to_proto(&[2, 0, 3])).expect("shape"), [2, 0, 3]);
        for s in [PartialShape::UNKNOWN, PartialShape::new([None, Some(3)]), PartialShape::scalar()] {
            assert_eq!(partial_shape_from_proto(&partial_shape_to_proto(&s)), s);
        }
        let unknown = partial_shape_to_proto(&PartialShape::new([None]));
        assert!(shape_from_proto(&unknown).is_err());
    }

    #[test]
    fn the_last_value_is_repeated_and_none_are_zeros() {
        let proto = |dtype, shape: &[usize]| TensorProto {
            dtype: dtype_to_proto(dtype),
            tensor_shape: Some(shape_to_proto(shape)),
            ..TensorProto::default()
        };
        let floats = read(&TensorProto { float_val: vec![1.0, 2.0], ..proto(DType::F32, &[4]) });
        assert_eq!(floats.as_slice::<f32>().expect("f32"), [1.0, 2.0, 2.0, 2.0]);
        let bytes = read(&TensorProto { int_val: vec![-1, 300], ..proto(DType::U8, &[3]) });
        assert_eq!(bytes.as_slice::<u8>().expect("u8"), [255, 44, 44]);
        let complex = read(&TensorProto { scomplex_val: vec![1.0, -2.0, 9.0], ..proto(DType::C64, &[2]) });
        assert_eq!(format!("{complex:?}").matches("im: -2.0").count(), 2);
        let halves = read(&TensorProto { half_val: vec![0x3c00], ..proto(DType::F16, &[]) });
        assert_eq!(halves.item::<modelark_tensor::f16>().expect("f16").to_f32(), 1.0);
        assert_eq!(read(&proto(DType::I64, &[2])).as_slice::<i64>().expect("i64"), [0, 0]);
        let strings = read(&TensorProto { string_val: vec![b"ab".to_vec()], ..proto(DType::String, &[2]) });
        assert_eq!(&*strings.strings().expect("strings")[1], b"ab");
    }

    #[test]
    fn every_stored_dtype_survives() {
        let limits = Limits::default();
        for &dtype in DType::ALL {
            let Some(size) = dtype.size() else { continue };
            for shape in [vec![], vec![5], vec![2, 0]] {
                let n: usize = shape.iter().product();
                // Small values, so that a bool is a bool.
                let bytes: Vec<u8> = (0..n * size).map(|i| (i % 2) as u8).collect();
                let t = Tensor::from_bytes(dtype, &shape, bytes.into()).expect("tensor");
                assert!(read(&tensor_to_proto(&t)).bit_eq(&t), "{dtype} {shape:?}");
                assert!(values_from(&values_to(&t), dtype, &shape).expect("values").bit_eq(&t), "{dtype}");
            }
        }
        let strings = Tensor::from_strings(["", "a\0b"].map(str::as_bytes), [2]).expect("strings");
        assert!(read(&tensor_to_proto(&strings)).bit_eq(&strings));
        let raw = TensorProto {
            tensor_content: Bytes::from_static(b"\x00\x03a\0b"),
            string_val: Vec::new(),
            ..tensor_to_proto(&strings)
        };
        assert!(read(&raw).bit_eq(&strings));
        let cut = TensorProto { tensor_content: Bytes::from_static(b"\x00\x04a\0b"), ..raw };
        assert!(tensor_from_proto(&cut, &limits).is_err());
    }

    #[test]
    fn sizes_are_checked_before_anything_is_allocated() {
        let huge = TensorProto {
            dtype: 1,
            tensor_shape: Some(shape_to_proto(&[1 << 40, 1 << 20])),
            ..TensorProto::default()
        };
        assert!(tensor_from_proto(&huge, &Limits::default()).is_err());
        let short = TensorProto { dtype: 1, tensor_content: Bytes::from_static(&[0; 3]), ..huge.clone() };
        let short = TensorProto { tensor_shape: None, ..short };
        assert!(tensor_from_proto(&short, &Limits::default()).is_err());
        let mut limits = Limits::default();
        limits.tensor_bytes = 16;
        let ok = tensor_to_proto(&Tensor::zeros(DType::F32, [4]).expect("zeros"));
        assert!(tensor_from_proto(&ok, &limits).is_ok());
        let over = tensor_to_proto(&Tensor::zeros(DType::F32, [5]).expect("zeros"));
        assert!(tensor_from_proto(&over, &limits).is_err());
    }
}
