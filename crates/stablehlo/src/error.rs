//! What can be wrong with a module.

use std::fmt;

/// The result of reading a module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a module can't be read, and where.
#[derive(Debug, Clone)]
pub struct Error {
    message: String,
    offset: Option<usize>,
}

impl Error {
    /// An error that says `message`.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Error { message: message.into(), offset: None }
    }

    /// Tells the byte of the module that it is about, if nobody nearer did.
    pub(crate) fn at(mut self, offset: usize) -> Self {
        self.offset.get_or_insert(offset);
        self
    }

    /// The byte of the module that the error is about.
    pub fn offset(&self) -> Option<usize> {
        self.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.offset {
            Some(offset) => write!(f, " (byte {offset} of the StableHLO module)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
