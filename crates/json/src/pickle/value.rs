//! What a pickle of arrays holds.

use modelark_artifact::tensor::SharedBytes;

use crate::array::StoredArray;

/// A value that a pickle holds.
#[derive(Debug, Clone)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text.
    String(String),
    /// Bytes.
    Bytes(SharedBytes),
    /// An array of numbers or strings, or one of NumPy's scalars.
    Array(StoredArray),
    /// An array of objects in C order.
    Objects {
        /// Its shape.
        shape: Vec<usize>,
        /// Its items.
        items: Vec<Value>,
    },
    /// A list.
    List(Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A dict in the order in which it was filled.
    Dict(Vec<(Value, Value)>),
}
