//! Datatypes: how HDF5 declares the elements that TensorFlow's dtypes have, read and written.

use hdf5_pure::{CompoundTypeBuilder, Datatype, DatatypeByteOrder, EnumTypeBuilder, FloatingPointLayout};
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

/// The attribute of a dataset that names its dtype where HDF5 has none: `bfloat16`.
pub(crate) const DTYPE_ATTRIBUTE: &str = "dtype";

/// How a dataset's elements lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As a tensor holds them.
    Plain,
    /// Numbers with their bytes in the other order, each this wide.
    Swapped(usize),
    /// Strings in slots of this width, padded with NUL.
    Fixed(usize),
    /// References to strings of any length.
    Variable,
}

/// The dtype of a declared datatype, and how its elements lie. `named` is the dataset's attribute `dtype`.
pub(crate) fn read(datatype: &Datatype, named: Option<&str>) -> Result<(DType, Encoding)> {
    let unsupported = || Error::unsupported(format!("elements of the HDF5 datatype {datatype} aren't read"));
    let ordered = |order: DatatypeByteOrder, width: u32| match order {
        DatatypeByteOrder::LittleEndian => Ok(Encoding::Plain),
        DatatypeByteOrder::BigEndian if width == 1 => Ok(Encoding::Plain),
        DatatypeByteOrder::BigEndian => Ok(Encoding::Swapped(width as usize)),
        DatatypeByteOrder::Vax => Err(unsupported()),
    };
    Ok(match datatype {
        Datatype::FixedPoint { size, byte_order, layout } => {
            if layout.bit_offset != 0 || Some(u32::from(layout.bit_precision)) != size.checked_mul(8) {
                return Err(unsupported());
            }
            let dtype = match (size, layout.signed) {
                (1, true) => DType::I8,
                (2, true) => DType::I16,
                (4, true) => DType::I32,
                (8, true) => DType::I64,
                (1, false) => DType::U8,
                (2, false) => DType::U16,
                (4, false) => DType::U32,
                (8, false) => DType::U64,
                _ => return Err(unsupported()),
            };
            (dtype, ordered(*byte_order, *size)?)
        }
        Datatype::FloatingPoint { size, byte_order, layout } => {
            let dtype = match (size, float_bits(layout)) {
                (2, bits) if bits == F16_BITS => DType::F16,
                (2, bits) if bits == BF16_BITS => DType::BF16,
                (4, bits) if bits == float_bits(&FloatingPointLayout::IEEE754_BINARY32) => DType::F32,
                (8, bits) if bits == float_bits(&FloatingPointLayout::IEEE754_BINARY64) => DType::F64,
                _ => return Err(unsupported()),
            };
            (dtype, ordered(*byte_order, *size)?)
        }
        // h5py's booleans are an enumeration of FALSE and TRUE.
        Datatype::Enumeration { size: 1, members, .. }
            if members.len() == 2 && members.iter().all(|m| matches!(m.name.as_str(), "FALSE" | "TRUE")) =>
        {
            (DType::Bool, Encoding::Plain)
        }
        Datatype::Enumeration { base_type, size, .. } if base_type.type_size() == *size => {
            read(base_type, None)?
        }
        // NumPy's extension types are opaque to HDF5. Keras 3 names them in an attribute; Keras 2 has only bfloat16.
        Datatype::Opaque { size, .. } => {
            let dtype = match named.and_then(|n| n.parse::<DType>().ok()) {
                Some(dtype) => dtype,
                None if named.is_none() && *size == 2 => DType::BF16,
                None => return Err(unsupported()),
            };
            if dtype.size() != Some(*size as usize) {
                return Err(unsupported());
            }
            (dtype, Encoding::Plain)
        }
        Datatype::Compound { size, members } => {
            let [r, i] = members.as_slice() else { return Err(unsupported()) };
            let half = size / 2;
            let (part, encoding) = read(&r.datatype, None)?;
            let dtype = match part {
                DType::F32 if half == 4 => DType::C64,
                DType::F64 if half == 8 => DType::C128,
                _ => return Err(unsupported()),
            };
            let placed = r.byte_offset == 0 && i.byte_offset == u64::from(half) && i.datatype == r.datatype;
            if r.name != "r" || i.name != "i" || !placed {
                return Err(unsupported());
            }
            (dtype, encoding)
        }
        Datatype::String { size, .. } => (DType::String, Encoding::Fixed(*size as usize)),
        Datatype::VariableLength { is_string: true, .. } => (DType::String, Encoding::Variable),
        _ => return Err(unsupported()),
    })
}

/// The datatype that h5py gives a dtype's elements, and whether its dataset needs the attribute `dtype`.
pub(crate) fn write(dtype: DType) -> Result<(Datatype, bool)> {
    use hdf5_pure as pure;
    let float = |size: u32, layout| Datatype::FloatingPoint {
        size,
        byte_order: DatatypeByteOrder::LittleEndian,
        layout,
    };
    let invalid =
        |e: pure::FormatError| Error::unsupported(format!("{dtype} can't be declared in HDF5: {e}"));
    Ok((
        match dtype {
            DType::F32 => pure::make_f32_type(),
            DType::F64 => pure::make_f64_type(),
            DType::F16 => float(2, F16_LAYOUT),
            DType::I8 => pure::make_i8_type(),
            DType::I16 => pure::make_i16_type(),
            DType::I32 => pure::make_i32_type(),
            DType::I64 => pure::make_i64_type(),
            DType::U8 => pure::make_u8_type(),
            DType::U16 => pure::make_u16_type(),
            DType::U32 => pure::make_u32_type(),
            DType::U64 => pure::make_u64_type(),
            DType::Bool => EnumTypeBuilder::with_base(pure::make_i8_type())
                .raw_value("FALSE", &[0])
                .raw_value("TRUE", &[1])
                .build()
                .map_err(invalid)?,
            DType::C64 => {
                CompoundTypeBuilder::new().f32_field("r").f32_field("i").build().map_err(invalid)?
            }
            DType::C128 => {
                CompoundTypeBuilder::new().f64_field("r").f64_field("i").build().map_err(invalid)?
            }
            _ => match dtype.size() {
                Some(size) => return Ok((Datatype::Opaque { size: size as u32, tag: Vec::new() }, true)),
                None => {
                    return Err(Error::unsupported(format!("{dtype} has no elements that HDF5 could hold")));
                }
            },
        },
        false,
    ))
}

const F16_LAYOUT: FloatingPointLayout = FloatingPointLayout {
    bit_offset: 0,
    bit_precision: 16,
    exponent_location: 10,
    exponent_size: 5,
    mantissa_location: 0,
    mantissa_size: 10,
    exponent_bias: 15,
};

/// Precision, sizes of exponent and mantissa, bias: what tells one float from another.
type FloatBits = (u16, u8, u8, u32);
const F16_BITS: FloatBits = (16, 5, 10, 15);
const BF16_BITS: FloatBits = (16, 8, 7, 127);

fn float_bits(layout: &FloatingPointLayout) -> FloatBits {
    (layout.bit_precision, layout.exponent_size, layout.mantissa_size, layout.exponent_bias)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_numeric_dtype_is_read_as_it_is_written() {
        for &dtype in DType::ALL {
            let Some(size) = dtype.size() else {
                assert!(write(dtype).is_err());
                continue;
            };
            let (datatype, named) = write(dtype).expect("numeric");
            assert_eq!(datatype.type_size() as usize, size, "{dtype}");
            let name = named.then(|| dtype.name());
            assert_eq!(read(&datatype, name).expect("own"), (dtype, Encoding::Plain), "{dtype}");
        }
    }

    #[test]
    fn big_endian_numbers_are_swapped_and_strange_ones_refused() {
        let float = |size, byte_order, layout| Datatype::FloatingPoint { size, byte_order, layout };
        let ieee = FloatingPointLayout::IEEE754_BINARY32;
        let big = float(4, DatatypeByteOrder::BigEndian, ieee);
        assert_eq!(read(&big, None).expect("f4"), (DType::F32, Encoding::Swapped(4)));
        assert!(read(&float(4, DatatypeByteOrder::Vax, ieee), None).is_err());
        assert!(read(&float(4, DatatypeByteOrder::BigEndian, F16_LAYOUT), None).is_err());
        assert!(read(&Datatype::Opaque { size: 3, tag: Vec::new() }, None).is_err());
        assert!(read(&Datatype::Opaque { size: 2, tag: Vec::new() }, Some("float8_e5m2")).is_err());
    }
}
