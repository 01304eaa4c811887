//! The one error of everything that reads, writes or binds models.

use std::fmt;
use std::path::PathBuf;

/// The result of reading, writing or binding a model.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused: no such file, no permission, no space.
    Io,
    /// Something that should be there isn't: a shard, a tensor, a layer's weights.
    Missing,
    /// The bytes aren't what the format says: truncated, wrong checksum, wrong magic.
    Corrupt,
    /// Well formed, but not something that Modelark handles (yet), or refuses on purpose.
    Unsupported,
    /// Parts of a model don't fit each other: a shape, a dtype, a count.
    Mismatch,
    /// A layer, function or class that nobody has registered.
    UnknownClass,
    /// A size or depth over the caller's [`Limits`](crate::Limits).
    Limit,
    /// An argument of the call is wrong.
    Invalid,
}

/// An error: its kind, what happened, where (file, place in it), why, and what would help.
///
/// Displays on one line: `variables/variables.index, tensor "dense/kernel": checksum differs (…); try …`.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    file: Option<PathBuf>,
    places: Vec<String>,
    help: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            file: None,
            places: Vec::new(),
            help: None,
            source: None,
        }))
    }

    /// The bytes aren't what the format says.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Corrupt, message)
    }

    /// Something isn't there.
    pub fn missing(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Missing, message)
    }

    /// Something that Modelark doesn't handle, or refuses on purpose.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Unsupported, message)
    }

    /// Parts that don't fit each other.
    pub fn mismatch(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Mismatch, message)
    }

    /// An argument of the call is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Invalid, message)
    }

    /// A size or depth over the limits.
    pub fn limit(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Limit, message)
    }

    /// Names the file, unless one was named nearer to the fault.
    pub fn in_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.0.file.get_or_insert_with(|| file.into());
        self
    }

    /// Names the place, such as `tensor "dense/kernel"` or `byte 1234`; an outer place goes before an inner one.
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.0.places.insert(0, place.into());
        self
    }

    /// Says what would help.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.get_or_insert_with(|| help.into());
        self
    }

    /// Keeps the cause.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The kind, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file, when one is to blame.
    pub fn file(&self) -> Option<&std::path::Path> {
        self.0.file.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        let file = inner.file.iter().map(|p| p.display().to_string());
        let place = file.chain(inner.places.iter().cloned()).collect::<Vec<_>>().join(", ");
        if !place.is_empty() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&inner.message)?;
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        if let Some(help) = &inner.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| &**s as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::Missing,
            std::io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
            _ => ErrorKind::Io,
        };
        Error::new(kind, e.to_string())
    }
}

impl From<modelark_tensor::Error> for Error {
    fn from(e: modelark_tensor::Error) -> Self {
        use modelark_tensor::ErrorKind as K;
        let kind = match e.kind() {
            K::TooLarge => ErrorKind::Limit,
            K::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Mismatch,
        };
        Error::new(kind, e.to_string())
    }
}

impl From<modelark_graph::Error> for Error {
    fn from(e: modelark_graph::Error) -> Self {
        use modelark_graph::ErrorKind as K;
        let kind = match e.kind() {
            K::Unsupported => ErrorKind::Unsupported,
            K::Graph => ErrorKind::Corrupt,
            K::Argument => ErrorKind::Invalid,
            K::Limit => ErrorKind::Limit,
            _ => ErrorKind::Mismatch,
        };
        Error::new(kind, e.to_string())
    }
}

/// The names nearest to `wanted` among `names`, as a remedy: `did you mean "a", "b"?`; `None` when none is near.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const SHOWN: usize = 3;
    let limit = (wanted.len() / 2).max(2);
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .map(|n| (edit_distance(wanted, n, limit), n))
        .filter(|(d, _)| *d <= limit)
        .collect();
    near.sort();
    near.dedup();
    if near.is_empty() {
        return None;
    }
    let list: Vec<String> = near.iter().take(SHOWN).map(|(_, n)| format!("{n:?}")).collect();
    Some(format!("did you mean {}?", list.join(", ")))
}

/// Levenshtein's distance, given up (as `limit + 1`) where the lengths alone exceed `limit`.
fn edit_distance(a: &str, b: &str, limit: usize) -> usize {
    const LONGEST: usize = 512;
    if a.len().abs_diff(b.len()) > limit || a.len() > LONGEST || b.len() > LONGEST {
        return limit + 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_file_place_and_remedy() {
        let e = Error::corrupt("checksum differs")
            .at("tensor \"k\"")
            .at("block 3")
            .in_file("a/b.index")
            .in_file("outer")
            .help("restore it from a copy");
        assert_eq!(
            e.to_string(),
            "a/b.index, block 3, tensor \"k\": checksum differs; restore it from a copy"
        );
        assert_eq!(e.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn near_names_are_offered_nearest_first() {
        let names = ["dense/kernel", "dense_1/kernel", "lstm/bias"];
        assert_eq!(
            nearest("dense/kernal", names).as_deref(),
            Some("did you mean \"dense/kernel\", \"dense_1/kernel\"?")
        );
        assert_eq!(nearest("zzzzzzzzzzzz", names), None);
    }
}
