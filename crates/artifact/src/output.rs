//! A file that is being written.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use crate::Result;

/// A new file whose bytes go to the system and on to the disk while more are made: a large one is written by a thread of its own,
/// and the flush of a save finds little left to do.
///
/// Whoever writes it flushes it at the end, as one does a `BufWriter`: only then is it known that all was written. Dropped without,
/// it writes what it has and tells nobody of errors.
#[derive(Debug)]
pub struct Output {
    sink: Sink,
    /// What goes to the file next.
    part: Vec<u8>,
    /// Where in the file that begins.
    at: u64,
    /// The file's length, with all that was given.
    len: u64,
}

/// So many bytes go at once.
const PART: usize = 1 << 20;
/// So many parts wait at most.
const WAITING: usize = 2;

impl Output {
    /// Creates the file, or empties the one that is there.
    ///
    /// # Errors
    /// When it can't be created.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Output::over(File::create(path)?, 0))
    }

    /// Opens a file that is there, to write over parts of it.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::options().write(true).open(path)?;
        let len = file.metadata()?.len();
        Ok(Output::over(file, len))
    }

    fn over(file: File, len: u64) -> Self {
        Output { sink: Sink::Here(Parts::of(file)), part: Vec::new(), at: 0, len }
    }

    /// Hands on what is there.
    fn send(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let end = self.position();
        // What is small is written before a thread has begun.
        if self.part.len() >= PART {
            self.sink.share();
        }
        self.sink.put(self.at, &mut self.part)?;
        self.at = end;
        Ok(())
    }

    fn position(&self) -> u64 {
        self.at.saturating_add(self.part.len() as u64)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() >= PART {
            self.send()?;
        }
        let some = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(bytes.get(..some).unwrap_or_default());
        self.len = self.len.max(self.position());
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()?;
        self.sink.wait()
    }
}

impl Seek for Output {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.position().checked_add_signed(by),
        };
        let place = place.ok_or(io::ErrorKind::InvalidInput)?;
        if place != self.position() {
            self.send()?;
            self.at = place;
        }
        Ok(place)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

/// Who writes.
#[derive(Debug)]
enum Sink {
    /// Whoever gives the bytes.
    Here(Parts),
    /// A thread, which takes parts with their places and gives their memory back.
    Thread {
        parts: SyncSender<(u64, Vec<u8>)>,
        used: Receiver<Vec<u8>>,
        thread: JoinHandle<io::Result<Parts>>,
    },
    /// Nobody, after an error.
    Broken,
}

impl Sink {
    /// Lets a thread write from now on, if there can be one.
    fn share(&mut self) {
        let Sink::Here(file) = self else { return };
        let Ok(mut file) = file.again() else { return };
        let (parts, given) = sync_channel::<(u64, Vec<u8>)>(WAITING);
        let (back, used): (Sender<Vec<u8>>, _) = channel();
        let write = move || {
            for (at, mut part) in given {
                file.write(at, &part)?;
                part.clear();
                // Nobody wants it any more after the last.
                let _ = back.send(part);
            }
            Ok(file)
        };
        if let Ok(thread) = thread::Builder::new().name("modelark-write".to_owned()).spawn(write) {
            *self = Sink::Thread { parts, used, thread };
        }
    }

    /// Writes the bytes, or lets them be written, and leaves `part` empty.
    fn put(&mut self, at: u64, part: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Sink::Here(file) => {
                file.write(at, part)?;
                part.clear();
                Ok(())
            }
            Sink::Thread { parts, used, .. } => {
                let empty = used.try_recv().unwrap_or_else(|_| Vec::with_capacity(PART));
                match parts.send((at, std::mem::replace(part, empty))) {
                    Ok(()) => Ok(()),
                    // It stopped, and says why when asked for the file.
                    Err(_) => self.wait().and(Err(broken())),
                }
            }
            Sink::Broken => Err(broken()),
        }
    }

    /// Waits until all is written.
    fn wait(&mut self) -> io::Result<()> {
        match std::mem::replace(self, Sink::Broken) {
            Sink::Thread { parts, thread, .. } => {
                drop(parts);
                *self = Sink::Here(thread.join().map_err(|_| io::Error::other("a write panicked"))??);
                Ok(())
            }
            Sink::Here(file) => {
                *self = Sink::Here(file);
                Ok(())
            }
            Sink::Broken => Err(broken()),
        }
    }
}

fn broken() -> io::Error {
    io::Error::other("a write to the file failed before")
}

/// The file, and what of it wasn't sent on its way to the disk.
#[derive(Debug)]
struct Parts {
    file: File,
    waiting: Range<u64>,
}

impl Parts {
    fn of(file: File) -> Self {
        Parts { file, waiting: 0..0 }
    }

    /// The same file for another thread.
    fn again(&self) -> io::Result<Self> {
        Ok(Parts { file: self.file.try_clone()?, waiting: self.waiting.clone() })
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(bytes)?;
        let end = at.saturating_add(bytes.len() as u64);
        // What lies before was sent already, or is too little to be.
        if at > self.waiting.end {
            self.waiting.start = self.waiting.start.max(at);
        }
        self.waiting.end = self.waiting.end.max(end);
        if self.waiting.end.saturating_sub(self.waiting.start) >= PART as u64 {
            begin_writing(&self.file, &self.waiting);
            self.waiting.start = self.waiting.end;
        }
        Ok(())
    }
}

/// Asks the system to begin writing a part of a file to the disk, without waiting for it: a hint, which not every system takes.
#[cfg_attr(target_os = "linux", allow(unsafe_code, reason = "the standard library lacks this call"))]
fn begin_writing(file: &File, part: &Range<u64>) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let (from, len) = (part.start as libc::off64_t, (part.end - part.start) as libc::off64_t);
        // SAFETY: the descriptor is open as long as `file` is, and no memory is passed.
        let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, part);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_in_parts_and_places_is_there() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("f");
        let bytes: Vec<u8> = (0..5 * PART + 77).map(|i| ((i * i) >> 5) as u8).collect();
        let mut out = Output::create(&path).expect("creates");
        out.write_all(&[0; 100]).expect("writes");
        for part in bytes[100..].chunks(300_000) {
            out.write_all(part).expect("writes");
        }
        out.seek(SeekFrom::Start(0)).expect("seeks");
        out.write_all(&bytes[..60]).expect("writes");
        out.flush().expect("flushes");
        assert_eq!(std::fs::metadata(&path).expect("is there").len(), bytes.len() as u64);
        drop(out);
        let mut out = Output::open(&path).expect("opens");
        assert_eq!(out.seek(SeekFrom::End(-7)).expect("seeks"), bytes.len() as u64 - 7);
        out.write_all(b"the end").expect("writes");
        out.seek(SeekFrom::Start(60)).expect("seeks");
        out.write_all(&bytes[60..100]).expect("writes");
        assert!(out.seek(SeekFrom::Current(-1000)).is_err());
        drop(out);
        let read = std::fs::read(&path).expect("reads");
        assert_eq!(read[..bytes.len() - 7], bytes[..bytes.len() - 7]);
        assert_eq!(&read[bytes.len() - 7..], b"the end");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told() {
        for len in [10, 10 * PART] {
            let mut out = Output::create(Path::new("/dev/full")).expect("opens");
            let given = out.write_all(&vec![1; len]);
            let error = given.and_then(|()| out.flush()).expect_err("there is no space");
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
            assert!(out.write_all(b"more").and_then(|()| out.flush()).is_err());
        }
    }

    proptest! {
        #[test]
        fn it_is_as_if_written_to_memory(
            steps in prop::collection::vec((any::<bool>(), 0..3 * PART, any::<u8>()), 1..12),
        ) {
            let dir = tempfile::tempdir().expect("temp dir");
            let path = dir.path().join("f");
            let mut out = Output::create(&path).expect("creates");
            let mut memory = io::Cursor::new(Vec::new());
            for (seeks, n, byte) in steps {
                if seeks {
                    let to = SeekFrom::Start(n as u64);
                    prop_assert_eq!(out.seek(to).expect("seeks"), memory.seek(to).expect("seeks"));
                } else {
                    out.write_all(&vec![byte; n]).expect("writes");
                    memory.write_all(&vec![byte; n]).expect("writes");
                }
                prop_assert_eq!(out.stream_position().expect("knows"), memory.position());
            }
            out.flush().expect("flushes");
            prop_assert!(std::fs::read(&path).expect("reads") == *memory.get_ref());
        }
    }
}
