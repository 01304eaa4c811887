//! `.npz`: a zip of `.npy` files, as `np.savez` writes it.

use std::io::{self, Cursor, Read, Seek, Write};
use std::sync::{Arc, OnceLock};

use modelark_artifact::tensor::{SharedBytes, Tensor};
use modelark_artifact::{Error, Limits, Result};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::array::{Bytes, Items};
use crate::npy::{self, Content, Header};

/// What each name in an archive's directory ends in.
const SUFFIX: &str = ".npy";

type Archive = ZipArchive<Cursor<SharedBytes>>;

/// Whether this is an archive of `.npy` files.
pub fn detect(bytes: &SharedBytes) -> bool {
    bytes.starts_with(b"PK")
        && open(bytes)
            .is_ok_and(|archive| archive.file_names().all(|name| name.is_ok_and(|n| n.ends_with(SUFFIX))))
}

/// The arrays of an archive by name, in the order of its directory.
///
/// Arrays that are stored as they are stay in the file; compressed ones are expanded when they are asked for.
/// Checksums are compared then, if the limits say so.
///
/// # Errors
/// When the bytes aren't such an archive, are damaged, or ask for more than the limits allow.
pub fn read(bytes: &SharedBytes, limits: &Limits) -> Result<Vec<(String, Content)>> {
    let mut archive = open(bytes)?;
    if archive.len() > limits.items {
        return Err(Error::limit(format!("the archive lists {} arrays", archive.len())));
    }
    let mut expanded = 0u64;
    let mut found = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let member = Member::find(&mut archive, index, bytes)?;
        let name = member.name.strip_suffix(SUFFIX).unwrap_or(&member.name).to_owned();
        if member.stored.is_none() {
            expanded = expanded.saturating_add(member.size);
            if expanded > limits.expanded_bytes {
                return Err(Error::limit(format!(
                    "the archive expands to more than {} bytes",
                    limits.expanded_bytes
                )));
            }
        }
        let content = member.content(archive.clone(), limits).map_err(|e| e.at(format!("array {name:?}")))?;
        found.push((name, content));
    }
    Ok(found)
}

/// The arrays up to the first that can't be found, for an archive whose directory is damaged: each stands behind a header
/// of its own, too. Gives what was wrong with the archive and with those that can't be read.
pub(crate) fn salvage(bytes: &SharedBytes, limits: &Limits) -> (Vec<(String, Content)>, Vec<Error>) {
    let mut damage = match read(bytes, limits) {
        Ok(found) => return (found, Vec::new()),
        Err(e) => vec![e],
    };
    let mut rest = Cursor::new(bytes.clone());
    let mut found = Vec::new();
    while let Ok(Some(mut member)) = zip::read::read_zipfile_from_stream(&mut rest) {
        let name = String::from_utf8_lossy(member.name_raw()).into_owned();
        let name = name.strip_suffix(SUFFIX).unwrap_or(&name).to_owned();
        let mut content = Vec::new();
        // Reading to the end compares the checksum.
        let whole = member.by_ref().take(limits.expanded_bytes).read_to_end(&mut content);
        let array = whole
            .map_err(|e| Error::corrupt("the archive is damaged").because(e))
            .and_then(|_| npy::read(&SharedBytes::from(content), limits));
        match array {
            Ok(content) => found.push((name, content)),
            Err(e) => damage.push(e.at(format!("array {name:?}"))),
        }
    }
    (found, damage)
}

fn open(bytes: &SharedBytes) -> Result<Archive> {
    ZipArchive::new(Cursor::new(bytes.clone())).map_err(zip_error)
}

fn zip_error(e: ZipError) -> Error {
    match e {
        ZipError::Io(e) => Error::corrupt("the archive is damaged").because(e),
        ZipError::UnsupportedArchive(what) => {
            Error::unsupported(format!("the archive can't be read: {what}"))
        }
        other => Error::corrupt("this isn't a zip archive, or it is damaged").because(other),
    }
}

/// A file in the archive.
struct Member {
    index: usize,
    name: String,
    /// How long it is when expanded, as the directory says.
    size: u64,
    /// Its bytes, unless they are compressed.
    stored: Option<SharedBytes>,
}

impl Member {
    fn find(archive: &mut Archive, index: usize, bytes: &SharedBytes) -> Result<Self> {
        let file = archive.by_index(index).map_err(zip_error)?;
        let name = file.name().map_err(zip_error)?.into_owned();
        let cut = || Error::corrupt("the archive ends within it").at(format!("array {name:?}"));
        let stored = if file.compression() == CompressionMethod::Stored {
            let start = file.data_start().and_then(|s| usize::try_from(s).ok()).ok_or_else(cut)?;
            let size = usize::try_from(file.size()).map_err(|_| cut())?;
            let end = start.checked_add(size).ok_or_else(cut)?;
            Some(bytes.slice(start..end).ok_or_else(cut)?)
        } else {
            None
        };
        let size = file.size();
        Ok(Member { index, name, size, stored })
    }

    fn content(self, archive: Archive, limits: &Limits) -> Result<Content> {
        let start = match &self.stored {
            Some(bytes) => bytes.clone(),
            None => self.start(archive.clone())?,
        };
        let header = Header::read(&start, limits)?;
        if header.items == Items::Object {
            // The pickle has to be seen whole in any case.
            let all = self.expand(archive, limits)?;
            return npy::read(&all, limits);
        }
        if let (Some(bytes), false) = (&self.stored, limits.verify) {
            return npy::read(bytes, limits);
        }
        let len = crate::array::byte_len(&header.items, &header.shape)?;
        let range = header.data..header.data.saturating_add(len);
        if range.end as u64 > self.size {
            return Err(Error::corrupt(format!(
                "it takes {} bytes, but the archive has {}",
                range.end, self.size
            )));
        }
        let limits = limits.clone();
        let kept = limits.clone();
        let checked = OnceLock::new();
        let read = move || -> Result<SharedBytes> {
            let all = match (&self.stored, checked.get()) {
                (Some(bytes), Some(())) => bytes.clone(),
                _ => self.expand(archive.clone(), &kept)?,
            };
            let _ = checked.set(());
            all.slice(range.clone()).ok_or_else(|| Error::corrupt("it is shorter than its header says"))
        };
        if matches!(header.items, Items::Fields(_)) {
            let data = read()?;
            return header.content(Bytes::Here(data), &limits);
        }
        header.content(Bytes::Later(Arc::new(read)), &limits)
    }

    /// The bytes up to the end of the header.
    fn start(&self, mut archive: Archive) -> Result<SharedBytes> {
        let mut file = archive.by_index(self.index).map_err(zip_error)?;
        let mut bytes = Vec::new();
        file.by_ref().take(12).read_to_end(&mut bytes)?;
        let rest = Header::end(&bytes)?.saturating_sub(bytes.len());
        file.take(rest as u64).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }

    /// All its bytes, with their checksum compared if the limits say so.
    fn expand(&self, mut archive: Archive, limits: &Limits) -> Result<SharedBytes> {
        if let (Some(bytes), false) = (&self.stored, limits.verify) {
            return Ok(bytes.clone());
        }
        let damaged = |e: io::Error| Error::corrupt("the archive is damaged").because(e);
        let mut file = archive.by_index(self.index).map_err(zip_error)?;
        if let Some(bytes) = &self.stored {
            // Reading to the end compares the checksum; the bytes themselves are at hand.
            io::copy(&mut file, &mut io::sink()).map_err(damaged)?;
            return Ok(bytes.clone());
        }
        if self.size > limits.tensor_bytes.saturating_add(1 << 20) {
            return Err(Error::limit(format!("it expands to {} bytes", self.size)));
        }
        // The directory may lie about the size, so the memory grows with what comes.
        let mut bytes = Vec::new();
        file.take(self.size.saturating_add(1)).read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 != self.size {
            return Err(Error::corrupt(format!(
                "it expands to other than the {} bytes that it should",
                self.size
            )));
        }
        Ok(bytes.into())
    }
}

/// Writes an archive array by array.
pub struct Writer<W: Write + Seek> {
    zip: ZipWriter<W>,
    compress: bool,
}

impl<W: Write + Seek> Writer<W> {
    /// An archive in `out`, with arrays as they are or compressed.
    pub fn new(out: W, compress: bool) -> Self {
        Writer { zip: ZipWriter::new(out), compress }
    }

    /// Adds an array under a name.
    ///
    /// # Errors
    /// When the dtype has no place in NumPy, the name is taken, or writing fails.
    pub fn add(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        const ZIP64: usize = (1 << 32) - (1 << 20);
        let mut options = SimpleFileOptions::default().large_file(tensor.nbytes() >= ZIP64);
        options = if self.compress {
            options.compression_method(CompressionMethod::Deflated)
        } else {
            // Aligned, so that the data of a mapped archive can be used where it lies.
            options.compression_method(CompressionMethod::Stored).with_alignment(64)
        };
        let place = || format!("array {name:?}");
        let started = self.zip.start_file(format!("{name}{SUFFIX}"), options);
        started.map_err(|e| Error::invalid("it can't be added to the archive").because(e).at(place()))?;
        npy::write(tensor, &mut self.zip).map_err(|e| e.at(place()))
    }

    /// Writes the directory.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(self) -> Result<W> {
        self.zip.finish().map_err(|e| Error::from(io::Error::other(e)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn archive(compress: bool) -> Vec<u8> {
        let mut writer = Writer::new(Cursor::new(Vec::new()), compress);
        let kernel = Tensor::from_vec((0..600).map(|v| v as f32).collect(), [20, 30]).expect("tensor");
        writer.add("dense/kernel:0", &kernel).expect("kernel");
        writer.add("arr_0", &Tensor::scalar(7i64)).expect("scalar");
        assert!(writer.add("arr_0", &kernel).is_err());
        writer.finish().expect("finish").into_inner()
    }

    fn tensors(bytes: Vec<u8>, limits: &Limits) -> Result<Vec<(String, Tensor)>> {
        read(&bytes.into(), limits)?
            .into_iter()
            .map(|(name, content)| match content {
                Content::Array(a) => Ok((name, a.tensor()?)),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn archives_come_back() {
        for (compress, verify) in [(false, true), (false, false), (true, true)] {
            let mut limits = Limits::default();
            limits.verify = verify;
            let bytes = archive(compress);
            assert!(detect(&bytes.clone().into()));
            let found = tensors(bytes, &limits).expect("read");
            let names: Vec<&str> = found.iter().map(|(n, _)| n.as_str()).collect();
            assert_eq!(names, ["dense/kernel:0", "arr_0"]);
            assert_eq!(found[0].1.elements::<f32>().expect("f32")[599], 599.0);
            assert_eq!(found[1].1.item::<i64>().expect("i64"), 7);
        }
    }

    #[test]
    fn stored_data_is_aligned() {
        let bytes: SharedBytes = archive(false).into();
        for index in 0..2 {
            let member = Member::find(&mut open(&bytes).expect("open"), index, &bytes).expect("member");
            let stored = member.stored.expect("stored");
            assert_eq!((stored.as_ptr() as usize - bytes.as_ptr() as usize) % 64, 0);
        }
    }

    #[test]
    fn a_damaged_array_is_found_when_it_is_read() {
        let mut bytes = archive(false);
        let at = bytes.windows(4).position(|w| w == 500f32.to_le_bytes()).expect("there");
        bytes[at] ^= 1;
        let e = tensors(bytes.clone(), &Limits::default()).expect_err("damaged").to_string();
        assert!(e.contains("checksum"), "{e}");
        let mut limits = Limits::default();
        limits.verify = false;
        assert!(tensors(bytes, &limits).is_ok());
    }

    #[test]
    fn expansion_is_limited() {
        let mut limits = Limits::default();
        limits.expanded_bytes = 1000;
        assert!(tensors(archive(true), &limits).is_err());
        assert!(tensors(archive(false), &limits).is_ok());
    }

    proptest! {
        #[test]
        fn damaged_archives_never_panic(at in 0usize..3000, byte: u8, compress: bool) {
            let mut bytes = archive(compress);
            let len = bytes.len();
            bytes[at % len] = byte;
            let _ = tensors(bytes, &Limits::default());
        }
    }
}
