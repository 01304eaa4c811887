//! Variables whose values are read when asked for.

use std::fmt;
use std::sync::Arc;

use modelark_tensor::{DType, Tensor};

use crate::{Error, Result};

/// Reads one tensor of a file. Reading twice gives the same.
pub trait TensorSource: Send + Sync {
    /// The tensor, mapped where the file allows.
    ///
    /// # Errors
    /// When the bytes are missing, damaged, or over the limits.
    fn load(&self) -> Result<Tensor>;
}

impl<F: Fn() -> Result<Tensor> + Send + Sync> TensorSource for F {
    fn load(&self) -> Result<Tensor> {
        self()
    }
}

/// A variable's value: at hand, still in a file, or not known (a model that was only described).
#[derive(Clone, Default)]
pub enum Value {
    /// Not known.
    #[default]
    None,
    /// At hand.
    Tensor(Tensor),
    /// In a file.
    Lazy(Arc<dyn TensorSource>),
}

impl Value {
    /// Where the value is: clones of one value, and only those, have the same address.
    pub(crate) fn address(&self) -> Option<usize> {
        match self {
            Value::None => None,
            Value::Tensor(t) => match (t.bytes(), t.strings()) {
                (Ok(bytes), _) => Some(bytes.as_ptr() as usize),
                (_, Ok(strings)) => Some(strings.as_ptr() as usize),
                _ => None,
            },
            Value::Lazy(source) => Some(Arc::as_ptr(source).cast::<()>() as usize),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Value::None => "None",
            Value::Tensor(_) => "Tensor",
            Value::Lazy(_) => "Lazy",
        })
    }
}

/// A named tensor that can change: dtype and shape are known before the value is read.
#[derive(Debug, Clone)]
pub struct Variable {
    /// The name its owner gives it: `kernel`, or the full name where a format has no owners.
    pub name: String,
    /// The type of the elements.
    pub dtype: DType,
    /// The shape.
    pub shape: Vec<usize>,
    /// Whether training changes it.
    pub trainable: bool,
    /// The value.
    pub value: Value,
}

impl Variable {
    /// A trainable variable with a value at hand.
    pub fn new(name: impl Into<String>, value: Tensor) -> Self {
        Variable {
            name: name.into(),
            dtype: value.dtype(),
            shape: value.shape().to_vec(),
            trainable: true,
            value: Value::Tensor(value),
        }
    }

    /// A trainable variable whose value is read from a file when asked for.
    pub fn lazy(
        name: impl Into<String>,
        dtype: DType,
        shape: impl Into<Vec<usize>>,
        source: impl TensorSource + 'static,
    ) -> Self {
        Variable {
            name: name.into(),
            dtype,
            shape: shape.into(),
            trainable: true,
            value: Value::Lazy(Arc::new(source)),
        }
    }

    /// The same variable with this trainability.
    pub fn trainable(mut self, trainable: bool) -> Self {
        self.trainable = trainable;
        self
    }

    /// Reads the value.
    ///
    /// # Errors
    /// When it isn't known, can't be read, or isn't of the variable's dtype and shape.
    pub fn load(&self) -> Result<Tensor> {
        let place = || format!("variable {:?}", self.name);
        let tensor = match &self.value {
            Value::None => return Err(Error::missing("it has no value").at(place())),
            Value::Tensor(t) => t.clone(),
            Value::Lazy(source) => source.load().map_err(|e| e.at(place()))?,
        };
        if tensor.dtype() != self.dtype || tensor.shape() != self.shape {
            return Err(Error::mismatch(format!(
                "its value is {} {:?}, but it is declared as {} {:?}",
                tensor.dtype(),
                tensor.shape(),
                self.dtype,
                self.shape
            ))
            .at(place()));
        }
        Ok(tensor)
    }

    /// The bytes that its elements take, where the dtype tells.
    pub fn nbytes(&self) -> Option<u64> {
        let size = self.dtype.size()? as u64;
        self.shape.iter().try_fold(size, |n, &d| n.checked_mul(d as u64))
    }
}
