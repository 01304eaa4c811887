//! What flows along the edges of a graph.

use std::sync::Arc;

use modelark_tensor::{DType, PartialShape, Tensor};

use super::Resource;
use crate::{Error, Result};

/// A tensor, a handle to a resource, or a structured value. Cloning shares.
#[derive(Debug, Clone)]
pub enum Value {
    /// A tensor of numbers, booleans or strings.
    Tensor(Tensor),
    /// A handle (dtype `resource`): a variable, a table.
    Resource(Resource),
    /// A structured value (dtype `variant`).
    Variant(Variant),
}

/// A structured value.
#[derive(Debug, Clone)]
pub enum Variant {
    /// A list of tensors of one dtype (TensorFlow: `TensorList`); an element not set yet is `None`.
    List {
        /// The dtype of every element.
        dtype: DType,
        /// What is known of every element's shape.
        shape: PartialShape,
        /// The elements.
        items: Arc<Vec<Option<Value>>>,
    },
    /// A value that may be absent (TensorFlow: `Optional`).
    Optional(Option<Arc<Vec<Value>>>),
    /// The tensors that a composite value consists of, such as a ragged tensor's row splits and then its values.
    Composite(Arc<Vec<Value>>),
    /// A map from tensors to values (TensorFlow: `TensorMap`), in the order in which keys came.
    Map(Arc<Vec<(Tensor, Value)>>),
    /// A tensor of rank 1 of structured values.
    Vector(Arc<Vec<Value>>),
}

impl Value {
    /// The dtype, as TensorFlow has it on an edge.
    pub fn dtype(&self) -> DType {
        match self {
            Value::Tensor(t) => t.dtype(),
            Value::Resource(_) => DType::Resource,
            Value::Variant(_) => DType::Variant,
        }
    }

    /// The tensor.
    ///
    /// # Errors
    /// When it is a resource or a variant.
    pub fn tensor(&self) -> Result<&Tensor> {
        match self {
            Value::Tensor(t) => Ok(t),
            other => Err(Error::compute(format!("expected a tensor, got a {}", other.dtype()))),
        }
    }

    /// The tensor, taken out, so that a kernel can reuse its buffer when this was the last holder.
    ///
    /// # Errors
    /// When it is a resource or a variant.
    pub fn into_tensor(self) -> Result<Tensor> {
        match self {
            Value::Tensor(t) => Ok(t),
            other => Err(Error::compute(format!("expected a tensor, got a {}", other.dtype()))),
        }
    }

    /// The resource.
    ///
    /// # Errors
    /// When it is a tensor or a variant.
    pub fn resource(&self) -> Result<&Resource> {
        match self {
            Value::Resource(r) => Ok(r),
            other => Err(Error::compute(format!("expected a resource, got a {}", other.dtype()))),
        }
    }
}

impl From<Tensor> for Value {
    fn from(t: Tensor) -> Self {
        Value::Tensor(t)
    }
}

impl From<Resource> for Value {
    fn from(r: Resource) -> Self {
        Value::Resource(r)
    }
}

impl From<Variant> for Value {
    fn from(v: Variant) -> Self {
        Value::Variant(v)
    }
}
