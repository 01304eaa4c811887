//! Attributes: what is fixed about an operation.

use std::fmt;
use std::sync::Arc;

use modelark_tensor::{DType, SharedBytes, Tensor, checked_elements};

use crate::types::{TensorType, Type};
use crate::{Error, Result};

/// An attribute's value. Cloning shares.
#[derive(Debug, Clone)]
pub enum Attr {
    /// Several in order.
    Array(Arc<[Attr]>),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// One of a fixed set of words, such as `EQ`.
    Word(&'static str),
    /// Bytes, mostly text.
    String(Arc<[u8]>),
    /// A constant.
    Constant(Arc<Constant>),
    /// A type.
    Type(Type),
    /// Named values.
    Dict(Arc<[(Arc<str>, Attr)]>),
    /// Nothing but its presence.
    Unit,
    /// Something that no operation computes with, such as a place in a source file.
    Other,
}

impl Attr {
    /// The items, if it is an array.
    pub fn array(&self) -> Option<&[Attr]> {
        if let Attr::Array(items) = self { Some(items) } else { None }
    }

    /// The boolean, if it is one.
    pub fn bool(&self) -> Option<bool> {
        if let Attr::Bool(v) = self { Some(*v) } else { None }
    }

    /// The integer, if it is one.
    pub fn int(&self) -> Option<i64> {
        if let Attr::Int(v) = self { Some(*v) } else { None }
    }

    /// The float, if it is one.
    pub fn float(&self) -> Option<f64> {
        if let Attr::Float(v) = self { Some(*v) } else { None }
    }

    /// The word, if it is one.
    pub fn word(&self) -> Option<&'static str> {
        if let Attr::Word(v) = self { Some(v) } else { None }
    }

    /// The text, if it is UTF-8 text.
    pub fn text(&self) -> Option<&str> {
        if let Attr::String(v) = self { std::str::from_utf8(v).ok() } else { None }
    }

    /// The constant, if it is one.
    pub fn constant(&self) -> Option<&Constant> {
        if let Attr::Constant(v) = self { Some(v) } else { None }
    }

    /// The type, if it is one.
    pub fn ty(&self) -> Option<&Type> {
        if let Attr::Type(v) = self { Some(v) } else { None }
    }

    /// The value of this name, if it is a dictionary that has it.
    pub fn get(&self, name: &str) -> Option<&Attr> {
        let Attr::Dict(items) = self else { return None };
        items.iter().find(|(n, _)| &**n == name).map(|(_, v)| v)
    }

    /// The integers of an array or of a constant.
    pub fn ints(&self) -> Option<Vec<i64>> {
        match self {
            Attr::Array(items) => items.iter().map(Attr::int).collect(),
            Attr::Constant(c) => c.tensor().ok()?.to_i64_vec().ok(),
            _ => None,
        }
    }
}

/// A constant tensor as it is stored: all elements, or the one that they all are.
#[derive(Clone)]
pub struct Constant {
    dtype: DType,
    shape: Vec<usize>,
    bytes: SharedBytes,
    splat: bool,
}

/// A constant made of one element may be made large; larger ones are refused.
const MOST_ELEMENTS: usize = 1 << 31;

impl Constant {
    /// A constant of this type from the bytes in the file.
    ///
    /// # Errors
    /// When its extents aren't known, its elements have no dtype here, or there are too few or too many bytes.
    pub(crate) fn new(ty: &TensorType, stored: &[u8]) -> Result<Self> {
        let unknown = || Error::new("a constant's extents aren't known");
        let shape = ty.dims.iter().copied().collect::<Option<Vec<usize>>>().ok_or_else(unknown)?;
        let dtype = ty.element.dtype();
        let dtype = dtype.ok_or_else(|| Error::new(format!("there are no constants of {}", ty.element)))?;
        let count = checked_elements(&shape).ok().filter(|n| *n <= MOST_ELEMENTS);
        let count = count.ok_or_else(|| Error::new(format!("a constant of shape {shape:?} is too large")))?;
        let size = dtype.size().unwrap_or(1);
        let wrong = || {
            let told = format!("a constant of {count} elements of {dtype} can't have {} bytes", stored.len());
            Error::new(told)
        };
        let mut splat = false;
        let bytes = if dtype == DType::Bool {
            if stored == [0xff] || stored == [0x00] && count != 1 {
                splat = count != 1;
                vec![stored[0] & 1]
            } else if stored.len() == count.div_ceil(8) && stored.len() != count {
                (0..count).map(|i| stored.get(i / 8).map_or(0, |b| b >> (i % 8) & 1)).collect()
            } else if stored.len() == count {
                stored.iter().map(|b| b & 1).collect()
            } else {
                return Err(wrong());
            }
        } else {
            splat = stored.len() == size && count != 1;
            if !splat && Some(stored.len()) != count.checked_mul(size) {
                return Err(wrong());
            }
            stored.to_vec()
        };
        let bytes = SharedBytes::from_owner(bytes);
        // A boolean's one bit says all of an empty constant too.
        Ok(Constant { splat: splat && count > 0, bytes, shape, dtype })
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The element that all others equal, as a scalar, where the file says so.
    pub fn splat(&self) -> Option<Tensor> {
        let scalar = self.splat.then(|| Tensor::from_bytes(self.dtype, [], self.bytes.clone()));
        scalar?.ok()
    }

    /// The tensor.
    ///
    /// # Errors
    /// When it is too large.
    pub fn tensor(&self) -> Result<Tensor> {
        let too_large = |e: modelark_tensor::Error| Error::new(e.to_string());
        if let Some(value) = self.splat() {
            return modelark_tensor::kernels::array::fill(&self.shape, &value).map_err(too_large);
        }
        if self.shape.contains(&0) {
            return Tensor::zeros(self.dtype, &self.shape).map_err(too_large);
        }
        Tensor::from_bytes(self.dtype, &self.shape, self.bytes.clone()).map_err(too_large)
    }
}

impl fmt::Debug for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "constant of {}{:?}", self.dtype, self.shape)
    }
}
