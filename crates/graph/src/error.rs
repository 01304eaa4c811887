//! What can go wrong while a graph is built or run.

use std::fmt;

/// The result of building or running a graph.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such op, or not for these dtypes or attributes.
    Unsupported,
    /// The graph isn't well formed: a missing attribute, a wrong count of inputs, a cycle.
    Graph,
    /// A call's arguments aren't what was expected.
    Argument,
    /// An op refused its inputs.
    Compute,
    /// A limit of the caller was reached: time, memory, depth, steps.
    Limit,
    /// The run was cancelled by the caller.
    Cancelled,
}

/// An error with the node (and the functions around it) that it comes from.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    places: Vec<String>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), places: Vec::new() }
    }

    /// Something that isn't supported.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Unsupported, message)
    }

    /// A graph that isn't well formed.
    pub fn graph(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Graph, message)
    }

    /// A wrong argument.
    pub fn argument(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Argument, message)
    }

    /// An op that refuses its inputs.
    pub fn compute(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Compute, message)
    }

    /// Names the place, such as `node "dense/MatMul" (MatMul)`; an outer place goes before an inner one.
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.places.insert(0, place.into());
        self
    }

    /// Names the node, and on the innermost one tells what it was given: its inputs, or its attributes.
    pub(crate) fn at_node(mut self, name: &str, op: &str, given: impl FnOnce() -> String) -> Self {
        if self.places.is_empty() {
            let given = given();
            if !given.is_empty() {
                self.message = format!("{} ({given})", self.message);
            }
        }
        self.at(format!("node {name:?} ({op})"))
    }

    /// The kind, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of a chain of calls the ends tell enough.
        const ENDS: usize = 8;
        let between = self.places.len().saturating_sub(2 * ENDS);
        for (i, place) in self.places.iter().enumerate() {
            if between < 2 || i < ENDS || i >= ENDS + between {
                write!(f, "{}{place}", if i == 0 { "" } else { ", " })?;
            } else if i == ENDS {
                write!(f, ", and {between} places more")?;
            }
        }
        if !self.places.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<modelark_tensor::Error> for Error {
    fn from(e: modelark_tensor::Error) -> Self {
        let kind = match e.kind() {
            modelark_tensor::ErrorKind::TooLarge => ErrorKind::Limit,
            modelark_tensor::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Compute,
        };
        Error::new(kind, e.to_string())
    }
}
