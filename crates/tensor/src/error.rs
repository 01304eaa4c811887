//! What can go wrong with a tensor.

use std::fmt;

use crate::DType;

/// The result of a tensor operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A tensor has another dtype than the operation wants.
    DType,
    /// Shapes don't fit each other or the elements.
    Shape,
    /// An argument's value is out of its range.
    Value,
    /// The operation isn't supported for this dtype or these arguments.
    Unsupported,
    /// A size is over what memory or the caller's limits allow.
    TooLarge,
}

/// An error from a tensor or a kernel: its kind and a message that names what was expected and what came.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into() }
    }

    /// A shape error.
    pub fn shape(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Shape, message)
    }

    /// A value error.
    pub fn value(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Value, message)
    }

    /// An error for something that isn't supported.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Unsupported, message)
    }

    /// An error for a dtype where another was wanted.
    pub fn dtype(wanted: impl fmt::Display, got: DType) -> Self {
        Error::new(ErrorKind::DType, format!("expected dtype {wanted}, got {got}"))
    }

    /// An error for a size that can't be allocated.
    pub fn too_large(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::TooLarge, message)
    }

    /// The kind, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
