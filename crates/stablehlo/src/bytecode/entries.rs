//! Attributes and types, decoded when an operation first has them.
//!
//! Most entries of a file tell where operations were written; nobody asks for those, and so nobody reads them.

use std::sync::Arc;

use modelark_tensor::DType;

use crate::attr::Constant;
use crate::bytes::Bytes;
use crate::types::{Element, TensorType, Type};
use crate::{Attr, Error, Result};

/// Entries refer to each other no deeper.
const DEEPEST: usize = 32;

/// How MLIR marks an extent that isn't known.
const DYNAMIC: i64 = i64::MIN;

/// Whose encoding an entry has.
#[derive(Clone, Copy, PartialEq)]
enum Dialect {
    Builtin,
    Vhlo,
    Other,
}

/// One entry: its bytes, until it is asked for.
struct Entry<'a, T> {
    dialect: Dialect,
    /// Whether the dialect encodes it itself, rather than as text.
    encoded: bool,
    bytes: Bytes<'a>,
    known: Option<T>,
}

/// All attributes and types of a file.
pub(super) struct Entries<'a> {
    strings: &'a [&'a [u8]],
    attrs: Vec<Entry<'a, Attr>>,
    types: Vec<Entry<'a, Type>>,
    depth: usize,
}

impl<'a> Entries<'a> {
    pub(super) fn new(
        strings: &'a [&'a [u8]],
        dialects: &[Arc<str>],
        mut offsets: Bytes<'a>,
        mut content: Bytes<'a>,
    ) -> Result<Self> {
        let (attrs, types) = (offsets.number()?, offsets.number()?);
        let attrs = group(attrs, dialects, &mut offsets, &mut content)?;
        let types = group(types, dialects, &mut offsets, &mut content)?;
        Ok(Entries { strings, attrs, types, depth: 0 })
    }

    /// The attribute of this number.
    pub(super) fn attr(&mut self, index: u64) -> Result<Attr> {
        let place = usize::try_from(index).ok().and_then(|i| self.attrs.get(i));
        let entry = place.ok_or_else(|| Error::new(format!("there is no attribute {index}")))?;
        if let Some(known) = &entry.known {
            return Ok(known.clone());
        }
        let (dialect, encoded, mut bytes) = (entry.dialect, entry.encoded, entry.bytes);
        let offset = bytes.offset();
        self.enter(offset)?;
        let made = match dialect {
            Dialect::Vhlo if encoded => self.vhlo_attr(&mut bytes),
            Dialect::Builtin if encoded => self.builtin_attr(&mut bytes),
            _ => Ok(Attr::Other),
        };
        self.depth -= 1;
        let made = made.map_err(|e| e.at(offset))?;
        if let Some(entry) = self.attrs.get_mut(index as usize) {
            entry.known = Some(made.clone());
        }
        Ok(made)
    }

    /// The type of this number.
    pub(super) fn ty(&mut self, index: u64) -> Result<Type> {
        let place = usize::try_from(index).ok().and_then(|i| self.types.get(i));
        let entry = place.ok_or_else(|| Error::new(format!("there is no type {index}")))?;
        if let Some(known) = &entry.known {
            return Ok(known.clone());
        }
        let (dialect, encoded, mut bytes) = (entry.dialect, entry.encoded, entry.bytes);
        let offset = bytes.offset();
        self.enter(offset)?;
        let made = match dialect {
            Dialect::Vhlo if encoded => self.vhlo_type(&mut bytes),
            _ => Ok(Type::Other("a type that isn't VHLO's")),
        };
        self.depth -= 1;
        let made = made.map_err(|e| e.at(offset))?;
        if let Some(entry) = self.types.get_mut(index as usize) {
            entry.known = Some(made.clone());
        }
        Ok(made)
    }

    fn enter(&mut self, offset: usize) -> Result<()> {
        if self.depth >= DEEPEST {
            return Err(Error::new(format!(
                "attributes and types lie more than {DEEPEST} deep in each other"
            ))
            .at(offset));
        }
        self.depth += 1;
        Ok(())
    }

    fn string(&self, bytes: &mut Bytes<'_>) -> Result<&'a [u8]> {
        let index = bytes.number()?;
        let found = usize::try_from(index).ok().and_then(|i| self.strings.get(i).copied());
        found.ok_or_else(|| bytes.error(format!("there is no text {index}")))
    }

    fn attrs(&mut self, bytes: &mut Bytes<'_>) -> Result<Arc<[Attr]>> {
        bytes.all()?.into_iter().map(|i| self.attr(i)).collect()
    }

    fn types(&mut self, bytes: &mut Bytes<'_>) -> Result<Vec<Type>> {
        bytes.all()?.into_iter().map(|i| self.ty(i)).collect()
    }

    fn next_type(&mut self, bytes: &mut Bytes<'_>) -> Result<Type> {
        let index = bytes.number()?;
        self.ty(index)
    }

    fn dict(&mut self, bytes: &mut Bytes<'_>) -> Result<Attr> {
        let mut all = Vec::new();
        for _ in 0..bytes.count()? {
            let (name, value) = (bytes.number()?, bytes.number()?);
            let (name, value) = (self.attr(name)?, self.attr(value)?);
            let name = name.text().ok_or_else(|| bytes.error("a name among attributes is no text"))?;
            all.push((name.into(), value));
        }
        Ok(Attr::Dict(all.into()))
    }

    fn vhlo_attr(&mut self, bytes: &mut Bytes<'_>) -> Result<Attr> {
        let code = bytes.number()?;
        Ok(match code {
            1 => Attr::Array(self.attrs(bytes)?),
            2 => Attr::Bool(bytes.number()? != 0),
            3 => word(bytes, &["EQ", "NE", "GE", "GT", "LE", "LT"])?,
            4 => word(bytes, &["NOTYPE", "FLOAT", "TOTALORDER", "SIGNED", "UNSIGNED"])?,
            5 => Attr::Int(i64::try_from(bytes.number()?).unwrap_or(i64::MAX)),
            6 => self.dict(bytes)?,
            7 => word(bytes, &["FFT", "IFFT", "RFFT", "IRFFT"])?,
            8 => {
                let ty = self.next_type(bytes)?;
                Attr::Float(float(&ty, bytes)?)
            }
            9 => {
                let ty = self.next_type(bytes)?;
                Attr::Int(integer(&ty, bytes)?)
            }
            11 => word(bytes, &["DEFAULT", "HIGH", "HIGHEST"])?,
            12 => word(bytes, &["DEFAULT", "THREE_FRY", "PHILOX"])?,
            13 => word(bytes, &["", "UNIFORM", "NORMAL"])?,
            14 => Attr::String(self.string(bytes)?.into()),
            15 => {
                let ty = self.next_type(bytes)?;
                let Type::Tensor(ty) = ty else {
                    return Err(bytes.error("a constant isn't of a tensor's type"));
                };
                let length = bytes.number()?;
                Attr::Constant(Arc::new(Constant::new(&ty, bytes.take(length)?)?))
            }
            16 => word(bytes, &["TRANSPOSE_INVALID", "NO_TRANSPOSE", "TRANSPOSE", "ADJOINT"])?,
            17 => Attr::Type(self.next_type(bytes)?),
            // Aliases, bounds, accuracies and meshes: nothing that a result here depends on.
            10 | 18..=25 => Attr::Other,
            code => return Err(bytes.error(format!("VHLO has no attribute {code}"))),
        })
    }

    fn builtin_attr(&mut self, bytes: &mut Bytes<'_>) -> Result<Attr> {
        Ok(match bytes.number()? {
            0 => Attr::Array(self.attrs(bytes)?),
            1 => self.dict(bytes)?,
            2 | 3 => Attr::String(self.string(bytes)?.into()),
            7 => Attr::Unit,
            _ => Attr::Other,
        })
    }

    fn vhlo_type(&mut self, bytes: &mut Bytes<'_>) -> Result<Type> {
        let code = bytes.number()?;
        let dtype = |d| Ok(Type::Element(Element::DType(d)));
        let other = |name| Ok(Type::Element(Element::Other(name)));
        match code {
            0 => dtype(DType::Bool),
            1 => match self.next_type(bytes)? {
                Type::Element(Element::DType(DType::F32)) => dtype(DType::C64),
                Type::Element(Element::DType(DType::F64)) => dtype(DType::C128),
                other => Err(bytes.error(format!("there are no complex numbers of {other}"))),
            },
            2 => dtype(DType::BF16),
            3 => dtype(DType::F16),
            4 => dtype(DType::F32),
            5 => dtype(DType::F64),
            6 => dtype(DType::F8E4M3FN),
            7 => dtype(DType::F8E5M2),
            8 => {
                let inputs = self.types(bytes)?;
                Ok(Type::Function(Arc::new((inputs, self.types(bytes)?))))
            }
            9 => Ok(Type::Element(Element::Index)),
            10 => dtype(DType::I4),
            11 => dtype(DType::I8),
            12 => dtype(DType::I16),
            13 => dtype(DType::I32),
            14 => dtype(DType::I64),
            15 => dtype(DType::U4),
            16 => dtype(DType::U8),
            17 => dtype(DType::U16),
            18 => dtype(DType::U32),
            19 => dtype(DType::U64),
            // With an encoding: bounds or sparsity, which only compilers look at.
            20 | 21 => {
                if code == 21 {
                    bytes.number()?;
                }
                let dims = bytes.all_signed()?;
                self.tensor(bytes, dims, false)
            }
            22 => Ok(Type::Token),
            23 => Ok(Type::Tuple(self.types(bytes)?.into())),
            24 | 30 => other("quantized"),
            25 => self.tensor(bytes, Vec::new(), true),
            26 => Ok(Type::Other("witness")),
            27 => dtype(DType::F8E4M3FNUZ),
            28 => dtype(DType::F8E5M2FNUZ),
            29 => dtype(DType::F8E4M3B11FNUZ),
            31 => dtype(DType::I2),
            32 => dtype(DType::U2),
            33 => Ok(Type::Other("none")),
            34 => other("tf32"),
            35 => other("f8E4M3"),
            36 => other("f8E3M4"),
            37 => dtype(DType::F4E2M1FN),
            38 => other("f6E2M3FN"),
            39 => other("f6E3M2FN"),
            40 => other("f8E8M0FNU"),
            41 => Ok(Type::Other("buffer")),
            42 => Ok(Type::Other("future")),
            code => Err(bytes.error(format!("VHLO has no type {code}"))),
        }
    }

    fn tensor(&mut self, bytes: &mut Bytes<'_>, dims: Vec<i64>, unranked: bool) -> Result<Type> {
        let element = match self.next_type(bytes)? {
            Type::Element(element) => element,
            other => return Err(bytes.error(format!("there are no tensors of {other}"))),
        };
        let dim = |d: i64| match d {
            DYNAMIC | -1 => Ok(None),
            d => {
                usize::try_from(d).map(Some).map_err(|_| bytes.error(format!("a tensor has the extent {d}")))
            }
        };
        let dims = dims.into_iter().map(dim).collect::<Result<_>>()?;
        Ok(Type::Tensor(Arc::new(TensorType { dims, unranked, element })))
    }
}

/// The entries of one kind, which stand in groups by dialect.
fn group<'a, T>(
    count: u64,
    dialects: &[Arc<str>],
    offsets: &mut Bytes<'a>,
    content: &mut Bytes<'a>,
) -> Result<Vec<Entry<'a, T>>> {
    let mut entries = Vec::new();
    while (entries.len() as u64) < count {
        let dialect = offsets.number()?;
        let dialect = usize::try_from(dialect).ok().and_then(|i| dialects.get(i));
        let dialect = match dialect.map(|d| &**d) {
            Some("builtin") => Dialect::Builtin,
            Some("vhlo") => Dialect::Vhlo,
            Some(_) => Dialect::Other,
            None => return Err(offsets.error("an entry is of a dialect that isn't there")),
        };
        let many = offsets.count()?;
        if many == 0 {
            return Err(offsets.error("a dialect has a group of no entries"));
        }
        for _ in 0..many {
            let (length, encoded) = offsets.flagged()?;
            entries.push(Entry { dialect, encoded, bytes: content.part(length)?, known: None });
        }
    }
    Ok(entries)
}

fn word(bytes: &mut Bytes<'_>, words: &[&'static str]) -> Result<Attr> {
    let index = bytes.number()?;
    let word = usize::try_from(index).ok().and_then(|i| words.get(i).copied()).filter(|w| !w.is_empty());
    word.map(Attr::Word).ok_or_else(|| bytes.error(format!("{index} isn't among {}", words.join(", "))))
}

/// The bits of a number, which take a byte of their own if they are eight or fewer.
fn bits(width: usize, bytes: &mut Bytes<'_>) -> Result<i64> {
    if width <= 8 { Ok(i64::from(bytes.byte()?)) } else { bytes.signed() }
}

fn integer(ty: &Type, bytes: &mut Bytes<'_>) -> Result<i64> {
    let (width, unsigned) = match ty {
        Type::Element(Element::Index) => (64, false),
        Type::Element(Element::DType(d)) if d.is_integer() => {
            let four = matches!(d, DType::I4 | DType::U4);
            let unsigned = matches!(d, DType::U4 | DType::U8 | DType::U16 | DType::U32 | DType::U64);
            (if four { 4 } else { 8 * d.size().unwrap_or(8) }, unsigned)
        }
        other => return Err(bytes.error(format!("an integer can't be {other}"))),
    };
    let value = bits(width, bytes)?;
    let over = 64 - width as u32;
    Ok(if unsigned { ((value << over) as u64 >> over) as i64 } else { value << over >> over })
}

fn float(ty: &Type, bytes: &mut Bytes<'_>) -> Result<f64> {
    let Type::Element(Element::DType(dtype)) = ty else {
        return Err(bytes.error(format!("a float can't be {ty}")));
    };
    let width = 8 * dtype.size().unwrap_or(8);
    let bits = bits(width, bytes)?;
    Ok(match dtype {
        DType::F32 => f32::from_bits(bits as u32).into(),
        DType::F64 => f64::from_bits(bits as u64),
        DType::F16 => modelark_tensor::f16::from_bits(bits as u16).into(),
        DType::BF16 => modelark_tensor::bf16::from_bits(bits as u16).into(),
        // Of eight bits and fewer: no operation takes one as an attribute.
        _ => return Err(bytes.error(format!("an attribute can't be {dtype}"))),
    })
}
