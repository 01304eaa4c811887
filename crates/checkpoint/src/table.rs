//! Sorted string tables: blocks of prefix-compressed entries, an index of the blocks, a footer.
//!
//! The dialect is LevelDB's as TensorFlow has it. What is written is what TensorFlow writes, byte for byte.

use std::io::Write;
use std::ops::Range;

use modelark_artifact::{Error, Limits, Result};
use modelark_tensor::SharedBytes;

use crate::{crc, varint};

/// The last eight bytes of every table.
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
const FOOTER: usize = 48;
/// A block's type and checksum, which follow it.
const TRAILER: usize = 5;
const RAW: u8 = 0;
const SNAPPY: u8 = 1;
/// A snappy copy of three bytes gives at most 64; what claims more is lying.
const SNAPPY_RATIO: usize = 64;
const BLOCK_SIZE: usize = 1 << 18;
const RESTART_INTERVAL: usize = 16;

/// Whether these bytes end as a table does.
pub(crate) fn is_table(bytes: &[u8]) -> bool {
    bytes.len() >= FOOTER && bytes.ends_with(&MAGIC.to_le_bytes())
}

/// A table that is read. Values are slices of its bytes, unless their block was compressed.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    bytes: SharedBytes,
    /// A key at or after the last one of each block, and where the block lies.
    index: Vec<(Vec<u8>, Range<usize>)>,
    limits: Limits,
}

impl Table {
    /// Reads the footer and the index.
    pub(crate) fn open(bytes: SharedBytes, limits: &Limits) -> Result<Self> {
        if !is_table(&bytes) {
            return Err(Error::corrupt(
                "this isn't a checkpoint's index: it doesn't end with a table's magic number",
            )
            .help("the file is of another kind, or was cut short: copy it again"));
        }
        let footer_at = bytes.len() - FOOTER;
        let bad_footer = || Error::corrupt("the footer is damaged").at(format!("byte {footer_at}"));
        let mut footer = bytes.get(footer_at..).ok_or_else(bad_footer)?;
        read_handle(&mut footer).ok_or_else(bad_footer)?;
        let index_at = read_handle(&mut footer).ok_or_else(bad_footer)?;
        let mut table = Table { bytes, index: Vec::new(), limits: limits.clone() };
        let mut index = Vec::new();
        table.scan_block(&index_at, |key, value, _| {
            let at = read_handle(&mut &value[..]).ok_or_else(|| {
                Error::corrupt("the index of blocks is damaged").at(format!("byte {index_at:?}"))
            })?;
            if index.len() >= limits.items {
                return Err(over_items(limits));
            }
            index.push((key.to_vec(), at));
            Ok(true)
        })?;
        table.index = index;
        Ok(table)
    }

    /// Calls `f` with every key and value in the order of the keys.
    pub(crate) fn scan(&self, mut f: impl FnMut(&[u8], SharedBytes) -> Result<()>) -> Result<()> {
        let mut last: Option<Vec<u8>> = None;
        let mut count = 0;
        for (_, at) in &self.index {
            self.scan_block(at, |key, value, block| {
                if last.as_deref().is_some_and(|last| last >= key) {
                    return Err(Error::corrupt(format!(
                        "the keys aren't in order: {:?} comes after {:?}",
                        String::from_utf8_lossy(key),
                        String::from_utf8_lossy(last.as_deref().unwrap_or_default()),
                    )));
                }
                let last = last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(key);
                count += 1;
                if count > self.limits.items {
                    return Err(over_items(&self.limits));
                }
                f(key, shared(block, value))?;
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// The entries of all blocks that are intact, and what is wrong with the others. Where the index of blocks is
    /// damaged, those before the first damaged one are found by their checksums.
    pub(crate) fn salvage(bytes: SharedBytes, limits: &Limits) -> (Vec<(Vec<u8>, SharedBytes)>, Vec<Error>) {
        let mut damage = Vec::new();
        let table = Table::open(bytes.clone(), limits).unwrap_or_else(|e| {
            damage.push(e);
            let mut table = Table { bytes, index: Vec::new(), limits: limits.clone() };
            let mut start = 0;
            while let Some(end) = table.block_end(start) {
                table.index.push((Vec::new(), start..end));
                start = end + TRAILER;
            }
            table
        });
        let mut entries = Vec::new();
        for (_, at) in &table.index {
            let read = table.scan_block(at, |key, value, block| {
                entries.push((key.to_vec(), shared(block, value)));
                Ok(entries.len() < limits.items)
            });
            damage.extend(read.err());
        }
        (entries, damage)
    }

    /// Where the block that starts here ends: at the first byte from which on its checksum would be right.
    fn block_end(&self, start: usize) -> Option<usize> {
        let mut checksum = 0;
        for (at, window) in self.bytes.get(start..)?.windows(TRAILER).enumerate() {
            let (kind, stored) = window.split_first_chunk::<1>()?;
            let stored = u32::from_le_bytes(stored.try_into().ok()?);
            if crc::mask(crc::extend(checksum, kind)) == stored {
                return start.checked_add(at);
            }
            checksum = crc::extend(checksum, kind);
        }
        None
    }

    /// The value under a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<SharedBytes>> {
        let block = self.index.partition_point(|(separator, _)| &separator[..] < key);
        let Some((_, at)) = self.index.get(block) else { return Ok(None) };
        let mut found = None;
        self.scan_block(at, |k, value, block| {
            if k == key {
                found = Some(shared(block, value));
            }
            Ok(k < key)
        })?;
        Ok(found)
    }

    /// Calls `f` with the entries of one block and the block's bytes, until it says `false`.
    fn scan_block(
        &self,
        at: &Range<usize>,
        mut f: impl FnMut(&[u8], &[u8], &SharedBytes) -> Result<bool>,
    ) -> Result<()> {
        let block = self.block(at).map_err(|e| e.at(format!("block at byte {}", at.start)))?;
        let damaged = || Error::corrupt("an entry is damaged").at(format!("block at byte {}", at.start));
        let restarts = block.last_chunk::<4>().map(|n| u32::from_le_bytes(*n)).ok_or_else(damaged)?;
        let tail = (restarts as usize).checked_add(1).and_then(|n| n.checked_mul(4)).ok_or_else(damaged)?;
        let end = block.len().checked_sub(tail).ok_or_else(damaged)?;
        let mut rest = block.get(..end).ok_or_else(damaged)?;
        let mut key = Vec::new();
        while !rest.is_empty() {
            let mut length = || varint::read(&mut rest).and_then(|n| usize::try_from(n).ok());
            let (Some(common), Some(own), Some(size)) = (length(), length(), length()) else {
                return Err(damaged());
            };
            let (suffix, after) = rest.split_at_checked(own).ok_or_else(damaged)?;
            let (value, after) = after.split_at_checked(size).ok_or_else(damaged)?;
            if common > key.len() {
                return Err(damaged());
            }
            key.truncate(common);
            key.extend_from_slice(suffix);
            rest = after;
            if !f(&key, value, &block)? {
                break;
            }
        }
        Ok(())
    }

    /// The bytes of a block, checked and expanded.
    fn block(&self, at: &Range<usize>) -> Result<SharedBytes> {
        let outside =
            || Error::corrupt("the block reaches past the end of the file").help("copy the file again");
        let trailer_end = at.end.checked_add(TRAILER).ok_or_else(outside)?;
        let trailer = self.bytes.get(at.end..trailer_end).ok_or_else(outside)?;
        let block = self.bytes.slice(at.clone()).ok_or_else(outside)?;
        let (kind, stored) = match *trailer {
            [kind, a, b, c, d] => (kind, u32::from_le_bytes([a, b, c, d])),
            _ => return Err(outside()),
        };
        if self.limits.verify {
            let actual = crc::mask(crc::extend(crc::extend(0, &block), &[kind]));
            if actual != stored {
                return Err(Error::corrupt(format!(
                    "its checksum is {actual:#010x}, but {stored:#010x} is stored"
                ))
                .help("the file is damaged: copy it again, or restore it from a backup"));
            }
        }
        match kind {
            RAW => Ok(block),
            SNAPPY => {
                let bad = |e: snap::Error| Error::corrupt("snappy data is damaged").because(e);
                let len = snap::raw::decompress_len(&block).map_err(bad)?;
                if len > block.len().saturating_mul(SNAPPY_RATIO) || len as u64 > self.limits.expanded_bytes {
                    return Err(Error::limit(format!("a compressed block claims to expand to {len} bytes")));
                }
                Ok(snap::raw::Decoder::new().decompress_vec(&block).map_err(bad)?.into())
            }
            other => Err(Error::unsupported(format!("blocks of compression type {other}"))),
        }
    }
}

/// `part` of `whole` as shared bytes.
fn shared(whole: &SharedBytes, part: &[u8]) -> SharedBytes {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    // An empty slice may lie anywhere; a copy of nothing costs nothing.
    start
        .checked_add(part.len())
        .and_then(|end| whole.slice(start..end))
        .unwrap_or_else(|| SharedBytes::copy_from(part))
}

fn over_items(limits: &Limits) -> Error {
    Error::limit(format!("the table has more than {} entries", limits.items)).help("raise Limits::items")
}

/// Where a block lies, without its trailer.
fn read_handle(bytes: &mut &[u8]) -> Option<Range<usize>> {
    let offset = usize::try_from(varint::read(bytes)?).ok()?;
    let size = usize::try_from(varint::read(bytes)?).ok()?;
    Some(offset..offset.checked_add(size)?)
}

fn write_handle(out: &mut Vec<u8>, at: &Range<u64>) {
    varint::write(out, at.start);
    varint::write(out, at.end - at.start);
}

/// A table that is written, in the order of its keys.
#[derive(Debug)]
pub(crate) struct TableWriter<W> {
    out: W,
    offset: u64,
    data: Block,
    index: Block,
    /// A block that is written, but whose separator waits for the next key.
    pending: Option<Range<u64>>,
}

impl<W: Write> TableWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        let index = Block::new(1);
        TableWriter { out, offset: 0, data: Block::new(RESTART_INTERVAL), index, pending: None }
    }

    /// Adds an entry; its key must come after all before it.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let first = self.offset == 0 && self.data.is_empty();
        if !first && self.data.last_key[..] >= *key {
            return Err(Error::invalid(format!(
                "the key {:?} isn't after {:?}",
                String::from_utf8_lossy(key),
                String::from_utf8_lossy(&self.data.last_key)
            )));
        }
        if !first && key.len() + value.len() >= 2 * BLOCK_SIZE {
            self.flush()?;
        }
        if let Some(at) = self.pending.take() {
            let separator = separator(&self.data.last_key, key);
            self.index_block(&separator, &at);
        }
        self.data.add(key, value);
        if self.data.size() >= BLOCK_SIZE {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is left; gives the output back.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.flush()?;
        let meta = self.write_block(&Block::new(RESTART_INTERVAL).finish())?;
        if let Some(at) = self.pending.take() {
            let successor = successor(&self.data.last_key);
            self.index_block(&successor, &at);
        }
        let index = self.index.finish();
        let index = self.write_block(&index)?;
        let mut footer = Vec::with_capacity(FOOTER);
        write_handle(&mut footer, &meta);
        write_handle(&mut footer, &index);
        footer.resize(FOOTER - size_of_val(&MAGIC), 0);
        footer.extend_from_slice(&MAGIC.to_le_bytes());
        self.out.write_all(&footer)?;
        Ok(self.out)
    }

    fn index_block(&mut self, separator: &[u8], at: &Range<u64>) {
        let mut handle = Vec::new();
        write_handle(&mut handle, at);
        self.index.add(separator, &handle);
    }

    fn flush(&mut self) -> Result<()> {
        if !self.data.is_empty() {
            let block = self.data.finish();
            self.pending = Some(self.write_block(&block)?);
        }
        Ok(())
    }

    fn write_block(&mut self, block: &[u8]) -> Result<Range<u64>> {
        let at = self.offset..self.offset + block.len() as u64;
        let crc = crc::mask(crc::extend(crc::extend(0, block), &[RAW]));
        self.out.write_all(block)?;
        self.out.write_all(&[RAW])?;
        self.out.write_all(&crc.to_le_bytes())?;
        self.offset = at.end + TRAILER as u64;
        Ok(at)
    }
}

/// A block in the making.
#[derive(Debug)]
struct Block {
    interval: usize,
    entries: Vec<u8>,
    restarts: Vec<u32>,
    since_restart: usize,
    last_key: Vec<u8>,
}

impl Block {
    fn new(interval: usize) -> Self {
        Block { interval, entries: Vec::new(), restarts: vec![0], since_restart: 0, last_key: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn size(&self) -> usize {
        self.entries.len() + 4 * self.restarts.len() + 4
    }

    fn add(&mut self, key: &[u8], value: &[u8]) {
        let shared = if self.since_restart < self.interval && !self.is_empty() {
            common_prefix(&self.last_key, key)
        } else {
            0
        };
        if self.since_restart == self.interval {
            self.restarts.push(self.entries.len() as u32);
            self.since_restart = 0;
        }
        varint::write(&mut self.entries, shared as u64);
        varint::write(&mut self.entries, (key.len() - shared) as u64);
        varint::write(&mut self.entries, value.len() as u64);
        self.entries.extend_from_slice(&key[shared..]);
        self.entries.extend_from_slice(value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.since_restart += 1;
    }

    /// The block's bytes; it is empty afterwards but for the last key, which separators need.
    fn finish(&mut self) -> Vec<u8> {
        let mut block = std::mem::take(&mut self.entries);
        for restart in &self.restarts {
            block.extend_from_slice(&restart.to_le_bytes());
        }
        block.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        self.restarts = vec![0];
        self.since_restart = 0;
        block
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// A short key at or after `a` and before `b`.
fn separator(a: &[u8], b: &[u8]) -> Vec<u8> {
    let d = common_prefix(a, b);
    match (a.get(d), b.get(d)) {
        (Some(&x), Some(&y)) if x < 0xff && x + 1 < y => [&a[..d], &[x + 1]].concat(),
        _ => a.to_vec(),
    }
}

/// A short key at or after `a`.
fn successor(a: &[u8]) -> Vec<u8> {
    match a.iter().position(|&b| b != 0xff) {
        Some(d) => [&a[..d], &[a[d] + 1]].concat(),
        None => a.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut w = TableWriter::new(Vec::new());
        for (k, v) in entries {
            w.add(k, v).expect("add");
        }
        w.finish().expect("finish")
    }

    fn read(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let table = Table::open(bytes.into(), &Limits::default())?;
        let mut entries = Vec::new();
        table.scan(|k, v| {
            entries.push((k.to_vec(), v.to_vec()));
            Ok(())
        })?;
        Ok(entries)
    }

    #[test]
    fn an_empty_table_is_two_empty_blocks() {
        let bytes = write(&[]);
        assert_eq!(bytes.len(), 2 * (8 + TRAILER) + FOOTER);
        assert_eq!(read(&bytes).expect("table"), []);
    }

    #[test]
    fn keys_are_found_across_blocks() {
        let entries: Vec<_> =
            (0..5000).map(|i| (format!("layer/{i:05}").into_bytes(), vec![i as u8; 100])).collect();
        let bytes = write(&entries);
        assert_eq!(read(&bytes).expect("table"), entries);
        let table = Table::open(bytes.into(), &Limits::default()).expect("table");
        assert!(table.index.len() > 1);
        for (k, v) in entries.iter().step_by(97) {
            assert_eq!(table.get(k).expect("get").as_deref(), Some(&v[..]));
        }
        assert!(table.get(b"layer/00000a").expect("get").is_none());
        assert!(table.get(b"zzz").expect("get").is_none());
    }

    #[test]
    fn separators_are_short() {
        assert_eq!(separator(b"abc", b"abz"), b"abd");
        assert_eq!(separator(b"abc", b"abd"), b"abc");
        assert_eq!(separator(b"ab", b"abz"), b"ab");
        assert_eq!(separator(b"a\xff", b"b"), b"a\xff");
        assert_eq!(successor(b"ww"), b"x");
        assert_eq!(successor(b"\xff\xffa"), b"\xff\xffb");
        assert_eq!(successor(b"\xff"), b"\xff");
    }

    #[test]
    fn snappy_blocks_are_read() {
        let (mut data, mut index) = (Block::new(16), Block::new(1));
        data.add(b"key", &[7; 1000]);
        let packed = snap::raw::Encoder::new().compress_vec(&data.finish()).expect("compress");
        let mut bytes = packed.clone();
        bytes.push(SNAPPY);
        bytes.extend(crc::mask(crc::extend(0, &bytes)).to_le_bytes());
        let mut handle = Vec::new();
        write_handle(&mut handle, &(0..packed.len() as u64));
        index.add(b"key", &handle);
        let mut w = TableWriter { offset: bytes.len() as u64, ..TableWriter::new(bytes) };
        w.index = index;
        let bytes = w.finish().expect("finish");
        assert_eq!(read(&bytes).expect("table"), [(b"key".to_vec(), vec![7; 1000])]);
    }

    #[test]
    fn damage_is_named() {
        let good = write(&[(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
        let mut flipped = good.clone();
        flipped[3] ^= 1;
        let e = read(&flipped).expect_err("checksum").to_string();
        assert!(e.contains("checksum") && e.contains("block at byte 0"), "{e}");
        assert!(read(&good[..good.len() - 1]).expect_err("cut").to_string().contains("magic"));
        let mut w = TableWriter::new(Vec::new());
        w.add(b"b", b"").expect("first");
        assert!(w.add(b"a", b"").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(map in proptest::collection::btree_map(
            proptest::collection::vec(any::<u8>(), 0..20), proptest::collection::vec(any::<u8>(), 0..40), 0..80)) {
            let entries: Vec<_> = map.into_iter().collect();
            prop_assert_eq!(read(&write(&entries)).expect("table"), entries);
        }

        #[test]
        fn damaged_tables_never_panic(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
            let entries: Vec<_> = (0..20u8).map(|i| (vec![i; 3], vec![i; 5])).collect();
            let mut bytes = write(&entries);
            let n = bytes.len();
            bytes[at % n] = byte;
            bytes.drain(..cut.min(n) / 8);
            let mut limits = Limits::default();
            limits.verify = false;
            if let Ok(table) = Table::open(bytes.into(), &limits) {
                let _ = table.scan(|_, _| Ok(()));
                let _ = table.get(&[7; 3]);
            }
        }
    }
}
