//! Types of values.

use std::fmt;
use std::sync::Arc;

use modelark_tensor::DType;

/// What the elements of a tensor are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// Elements that tensors here have too.
    DType(DType),
    /// The integer that counts elements and extents.
    Index,
    /// Elements that there is no dtype for, by StableHLO's name: `f8E4M3`, `quantized`.
    Other(&'static str),
}

impl Element {
    /// The dtype of tensors of such elements, if there is one; that of an index is `int64`.
    pub fn dtype(&self) -> Option<DType> {
        match self {
            Element::DType(dtype) => Some(*dtype),
            Element::Index => Some(DType::I64),
            Element::Other(_) => None,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::DType(dtype) => dtype.fmt(f),
            Element::Index => f.write_str("index"),
            Element::Other(name) => f.write_str(name),
        }
    }
}

/// The type of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorType {
    /// The extents; `None` where one is known only when the module runs.
    pub dims: Vec<Option<usize>>,
    /// Whether even the rank is unknown; `dims` is empty then.
    pub unranked: bool,
    /// What the elements are.
    pub element: Element,
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// A tensor.
    Tensor(Arc<TensorType>),
    /// Orders side effects.
    Token,
    /// Several values as one.
    Tuple(Arc<[Type]>),
    /// A function, from and to.
    Function(Arc<(Vec<Type>, Vec<Type>)>),
    /// An element on its own: the type of a number among attributes.
    Element(Element),
    /// A type that values of a module that computes don't have.
    Other(&'static str),
}

impl Type {
    /// The tensor's type, if it is one.
    pub fn tensor(&self) -> Option<&TensorType> {
        if let Type::Tensor(t) = self { Some(t) } else { None }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(t) if t.unranked => write!(f, "tensor<*x{}>", t.element),
            Type::Tensor(t) => {
                f.write_str("tensor<")?;
                for dim in &t.dims {
                    match dim {
                        Some(n) => write!(f, "{n}x")?,
                        None => f.write_str("?x")?,
                    }
                }
                write!(f, "{}>", t.element)
            }
            Type::Token => f.write_str("token"),
            Type::Tuple(items) => write!(f, "a tuple of {}", items.len()),
            Type::Function(_) => f.write_str("a function"),
            Type::Element(e) => e.fmt(f),
            Type::Other(name) => f.write_str(name),
        }
    }
}
