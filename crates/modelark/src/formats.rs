//! The formats that this build knows, and how a file's format is found.

use std::path::Path;
use std::sync::LazyLock;

use modelark_artifact::{Error, Format, Limits, Place, Result, nearest};

/// Every format of this build, in the order in which content is probed: one line a format.
static FORMATS: LazyLock<Vec<Box<dyn Format>>> = LazyLock::new(|| {
    #[allow(unused_mut, reason = "a build with no format adds none")]
    let mut formats: Vec<Box<dyn Format>> = Vec::new();
    #[cfg(feature = "savedmodel")]
    formats.extend(modelark_savedmodel::formats());
    #[cfg(feature = "keras")]
    formats.extend(modelark_keras::formats());
    #[cfg(feature = "checkpoint")]
    formats.extend(modelark_checkpoint::formats());
    // It comes before the pickles of arrays.
    #[cfg(all(feature = "json", feature = "keras"))]
    formats.push(Box::new(crate::pickled::PickledKeras));
    #[cfg(feature = "json")]
    formats.extend(modelark_json::formats());
    formats
});

/// The formats of this build.
pub fn formats() -> impl Iterator<Item = &'static dyn Format> {
    FORMATS.iter().map(|f| &**f)
}

/// The format of this name.
///
/// # Errors
/// When there is none; the message lists those there are.
pub fn format(name: &str) -> Result<&'static dyn Format> {
    formats().find(|f| f.name() == name).ok_or_else(|| {
        let names: Vec<&str> = formats().map(|f| f.name()).collect();
        let help = nearest(name, names.iter().copied());
        Error::invalid(format!("there is no format {name:?}; there are {}", names.join(", ")))
            .help(help.unwrap_or_else(|| "name one of these".to_owned()))
    })
}

/// The format that a file of this name is written in: `m.keras`, `m.h5`, `m.weights.h5`, `m.npz`; a name without an
/// extension is a SavedModel's folder.
///
/// # Errors
/// When no format claims the name.
pub fn format_for_path(path: &Path) -> Result<&'static dyn Format> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let claims = claiming(&name);
    let folder = || if name.contains('.') { None } else { format("saved_model").ok() };
    claims.or_else(folder).ok_or_else(|| {
        let names: Vec<&str> = formats().map(|f| f.name()).collect();
        Error::invalid("the name doesn't tell which format to write")
            .in_file(path)
            .help(format!("name one of {}", names.join(", ")))
    })
}

/// The format of what lies at `place`, judged by content.
///
/// # Errors
/// When nothing is there, it is a Git-LFS pointer, or no format knows it.
pub fn detect(place: &Place) -> Result<&'static dyn Format> {
    if let Some(found) = formats().find(|f| f.detect(place)) {
        return Ok(found);
    }
    let error = if place.is_folder() {
        let entries = place.files.list(&place.name).unwrap_or_default();
        let shown: Vec<&str> = entries.iter().take(8).map(String::as_str).collect();
        Error::unsupported(format!("this folder holds no model; it has {shown:?}"))
            .help("a SavedModel has saved_model.pb, a checkpoint an .index file")
    } else {
        let bytes = place.open()?;
        unknown_content(&bytes).or_else(|| claimed(place)).unwrap_or_else(|| {
            let known: Vec<&str> = formats().map(|f| f.name()).collect();
            let known = known.join(", ");
            Error::unsupported(format!(
                "this is no model of a known format; its content fits none of {known}"
            ))
        })
    };
    Err(error.in_file(place.label()))
}

/// Why the format that the file's name asks for can't read it.
fn claimed(place: &Place) -> Option<Error> {
    claiming(&place.name)?.read(place, &Limits::default()).err()
}

/// The format that a file's name asks for.
pub(crate) fn claiming(name: &str) -> Option<&'static dyn Format> {
    formats().find(|f| f.claims(name))
}

/// Says what a file that no format knows seems to be, where that is plain.
fn unknown_content(bytes: &[u8]) -> Option<Error> {
    const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";
    if bytes.starts_with(LFS) {
        let error = Error::unsupported("this is a Git-LFS pointer, not the model");
        return Some(error.help("fetch the file itself with `git lfs pull`"));
    }
    if bytes.is_empty() {
        let error = Error::corrupt("the file is empty");
        return Some(error.help("a save that failed may have left it; restore it from a copy"));
    }
    let start = bytes.get(..bytes.len().min(512)).unwrap_or_default().trim_ascii_start();
    start
        .starts_with(b"<")
        .then(|| Error::unsupported("this is a web page, not a model").help("download the file itself"))
}
