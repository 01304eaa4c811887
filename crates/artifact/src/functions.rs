//! Functions: graphs that can be called with no class at hand.

use std::collections::BTreeMap;

use modelark_graph::Library;
use modelark_tensor::{DType, PartialShape};

use crate::{ObjectId, Session};

/// A nested value as TensorFlow persists it: arguments, defaults, results (TensorFlow: `StructuredValue`).
#[derive(Debug, Clone, PartialEq)]
pub enum Structure {
    /// Python's `None`.
    None,
    /// A float.
    Float(f64),
    /// An integer.
    Int(i64),
    /// Text.
    String(String),
    /// A boolean.
    Bool(bool),
    /// A shape.
    Shape(PartialShape),
    /// A dtype.
    DType(DType),
    /// A tensor of this kind.
    Tensor {
        /// The argument's name, or empty.
        name: String,
        /// What is known of the shape.
        shape: PartialShape,
        /// The dtype.
        dtype: DType,
    },
    /// A value of another type that is made of tensors, such as a ragged one (TensorFlow: `TypeSpec`).
    Composite {
        /// The type's name: `RaggedTensorSpec`, `SparseTensorSpec`, `BoundedTensorSpec` and so on.
        class: String,
        /// The tensors that it is made of, in the order in which TensorFlow flattens it, each a [`Structure::Tensor`].
        components: Vec<Structure>,
        /// The writer's bytes.
        written: Vec<u8>,
    },
    /// A type of which nothing is known but the writer's bytes.
    Other(Vec<u8>),
    /// A list.
    List(Vec<Structure>),
    /// A tuple.
    Tuple(Vec<Structure>),
    /// A dict, sorted by key as TensorFlow flattens it.
    Dict(BTreeMap<String, Structure>),
    /// A named tuple.
    NamedTuple {
        /// The class's name.
        name: String,
        /// The fields in order.
        fields: Vec<(String, Structure)>,
    },
}

impl Structure {
    /// The tensors in the order in which TensorFlow flattens them: sequences in order, dicts by key.
    pub fn flatten(&self) -> Vec<(&str, &PartialShape, DType)> {
        match self {
            Structure::Tensor { name, shape, dtype } => vec![(name, shape, *dtype)],
            Structure::List(items) | Structure::Tuple(items) => {
                items.iter().flat_map(Self::flatten).collect()
            }
            Structure::Composite { components, .. } => components.iter().flat_map(Self::flatten).collect(),
            Structure::Dict(items) => items.values().flat_map(Self::flatten).collect(),
            Structure::NamedTuple { fields, .. } => fields.iter().flat_map(|(_, v)| v.flatten()).collect(),
            _ => Vec::new(),
        }
    }
}

/// A function of the library with what it closes over and the structure of its arguments and results.
#[derive(Debug, Clone, PartialEq)]
pub struct ConcreteFunction {
    /// The objects given to its last arguments: variables, tables, constants, assets.
    pub captures: Vec<ObjectId>,
    /// A tuple of the positional arguments (a tuple) and the keyword arguments (a dict).
    pub input: Structure,
    /// The result.
    pub output: Structure,
}

/// The functions of a model.
#[derive(Debug, Clone, Default)]
pub struct Functions {
    /// The graphs, which call each other by name.
    pub library: Library,
    /// Those that objects hold, by name.
    pub concrete: BTreeMap<String, ConcreteFunction>,
    /// The graph around them, for models that have no objects, or that keep both.
    pub session: Option<Session>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str) -> Structure {
        Structure::Tensor { name: name.into(), shape: PartialShape::UNKNOWN, dtype: DType::F32 }
    }

    #[test]
    fn dicts_flatten_by_key() {
        let keywords = BTreeMap::from([("zz".to_owned(), tensor("z")), ("aa".to_owned(), tensor("a"))]);
        let s = Structure::Tuple(vec![
            Structure::Tuple(vec![tensor("x"), Structure::Bool(false), Structure::None]),
            Structure::Dict(keywords),
        ]);
        let names: Vec<&str> = s.flatten().into_iter().map(|(n, ..)| n).collect();
        assert_eq!(names, ["x", "a", "z"]);
    }
}
