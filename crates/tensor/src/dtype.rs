//! The types of elements.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind};

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $size:expr;)*) => {
        /// The type of a tensor's elements.
        ///
        /// [`DType::name`] is what TensorFlow, Keras and NumPy (with `ml_dtypes`) call it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum DType { $($(#[$doc])* $variant,)* }

        impl DType {
            /// Every dtype there is.
            pub const ALL: &'static [DType] = &[$(DType::$variant),*];

            /// The dtype's name, such as `float32`.
            pub const fn name(self) -> &'static str {
                match self { $(DType::$variant => $name,)* }
            }

            /// Bytes per element as stored in memory and in files, or `None` for strings.
            ///
            /// Four-bit and two-bit integers take a whole byte each, as TensorFlow stores them.
            pub const fn size(self) -> Option<usize> {
                match self { $(DType::$variant => $size,)* }
            }
        }
    };
}

dtypes! {
    /// IEEE 754 single precision.
    F32 = "float32", Some(4);
    /// IEEE 754 double precision.
    F64 = "float64", Some(8);
    /// IEEE 754 half precision.
    F16 = "float16", Some(2);
    /// The upper half of a single precision float.
    BF16 = "bfloat16", Some(2);
    /// Signed, 8 bits.
    I8 = "int8", Some(1);
    /// Signed, 16 bits.
    I16 = "int16", Some(2);
    /// Signed, 32 bits.
    I32 = "int32", Some(4);
    /// Signed, 64 bits.
    I64 = "int64", Some(8);
    /// Unsigned, 8 bits.
    U8 = "uint8", Some(1);
    /// Unsigned, 16 bits.
    U16 = "uint16", Some(2);
    /// Unsigned, 32 bits.
    U32 = "uint32", Some(4);
    /// Unsigned, 64 bits.
    U64 = "uint64", Some(8);
    /// One byte, 0 or 1.
    Bool = "bool", Some(1);
    /// Two single precision floats: real, imaginary.
    C64 = "complex64", Some(8);
    /// Two double precision floats: real, imaginary.
    C128 = "complex128", Some(16);
    /// Byte strings of any length.
    String = "string", None;
    /// Quantized signed 8 bits.
    QI8 = "qint8", Some(1);
    /// Quantized unsigned 8 bits.
    QU8 = "quint8", Some(1);
    /// Quantized signed 16 bits.
    QI16 = "qint16", Some(2);
    /// Quantized unsigned 16 bits.
    QU16 = "quint16", Some(2);
    /// Quantized signed 32 bits.
    QI32 = "qint32", Some(4);
    /// 8-bit float, 5 exponent bits.
    F8E5M2 = "float8_e5m2", Some(1);
    /// 8-bit float, 4 exponent bits, finite and NaN only.
    F8E4M3FN = "float8_e4m3fn", Some(1);
    /// 8-bit float, 4 exponent bits, no negative zero.
    F8E4M3FNUZ = "float8_e4m3fnuz", Some(1);
    /// 8-bit float, 4 exponent bits, bias 11, no negative zero.
    F8E4M3B11FNUZ = "float8_e4m3b11fnuz", Some(1);
    /// 8-bit float, 5 exponent bits, no negative zero.
    F8E5M2FNUZ = "float8_e5m2fnuz", Some(1);
    /// 4-bit float, 2 exponent bits, one byte an element.
    F4E2M1FN = "float4_e2m1fn", Some(1);
    /// Signed, 4 bits, one byte an element.
    I4 = "int4", Some(1);
    /// Unsigned, 4 bits, one byte an element.
    U4 = "uint4", Some(1);
    /// Signed, 2 bits, one byte an element.
    I2 = "int2", Some(1);
    /// Unsigned, 2 bits, one byte an element.
    U2 = "uint2", Some(1);
    /// A handle to something that a loaded model owns: a variable, a table.
    Resource = "resource", None;
    /// A value with a structure of its own: a tensor list, an optional.
    Variant = "variant", None;
}

impl DType {
    /// Whether elements are real floats of any width.
    pub const fn is_float(self) -> bool {
        matches!(
            self,
            DType::F32
                | DType::F64
                | DType::F16
                | DType::BF16
                | DType::F8E5M2
                | DType::F8E4M3FN
                | DType::F8E4M3FNUZ
                | DType::F8E4M3B11FNUZ
                | DType::F8E5M2FNUZ
                | DType::F4E2M1FN
        )
    }

    /// Whether elements are plain (not quantized) integers.
    pub const fn is_integer(self) -> bool {
        matches!(
            self,
            DType::I8
                | DType::I16
                | DType::I32
                | DType::I64
                | DType::U8
                | DType::U16
                | DType::U32
                | DType::U64
                | DType::I4
                | DType::U4
                | DType::I2
                | DType::U2
        )
    }

    /// Whether elements are complex numbers.
    pub const fn is_complex(self) -> bool {
        matches!(self, DType::C64 | DType::C128)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        DType::ALL
            .iter()
            .copied()
            .find(|d| d.name() == name)
            .ok_or_else(|| Error::new(ErrorKind::DType, format!("there is no dtype {name:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back() {
        for &d in DType::ALL {
            assert_eq!(d.name().parse::<DType>().expect("own name"), d);
        }
        assert!("float33".parse::<DType>().is_err());
    }
}
