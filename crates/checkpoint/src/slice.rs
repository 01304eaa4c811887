//! Slices of tensors: where a partitioned variable's parts lie, and the keys they are stored under.
//!
//! A key is an ordered code: its byte order is the order of name, rank and extents. Forms here are TensorFlow's
//! `TensorSlice`, `TensorSliceProto`, the `shape_and_slices` strings of `SaveV2`, and the keys.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use modelark_artifact::{Error, Result};
use modelark_proto::{TensorSliceProto, tensor_slice_proto};

/// A range of one dimension, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extent {
    /// All of the dimension, however long. TensorFlow writes `-`.
    Full,
    /// From an index on, so many. TensorFlow writes `start,length`.
    Part {
        /// The first index.
        start: usize,
        /// How many.
        length: usize,
    },
}

impl Extent {
    /// The indices that this takes of a dimension of `size`, or `None` when it reaches past it.
    pub fn range(self, size: usize) -> Option<Range<usize>> {
        match self {
            Extent::Full => Some(0..size),
            Extent::Part { start, length } => {
                let end = start.checked_add(length)?;
                (end <= size).then_some(start..end)
            }
        }
    }
}

/// A box cut out of a tensor: one extent a dimension (TensorFlow: `TensorSlice`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Slice(pub Vec<Extent>);

impl Slice {
    /// The whole of a tensor of this rank.
    pub fn full(rank: usize) -> Self {
        Slice(vec![Extent::Full; rank])
    }

    /// The indices in every dimension of a tensor of `shape`.
    ///
    /// # Errors
    /// When the ranks differ or the slice reaches past the tensor.
    pub fn ranges(&self, shape: &[usize]) -> Result<Vec<Range<usize>>> {
        let ranges = (self.0.len() == shape.len())
            .then(|| self.0.iter().zip(shape).map(|(e, &d)| e.range(d)).collect::<Option<Vec<_>>>());
        ranges.flatten().ok_or_else(|| {
            Error::mismatch(format!("the slice {self} doesn't lie within the shape {shape:?}"))
        })
    }

    /// The slice that a message describes; an extent without a length is the whole dimension.
    ///
    /// # Errors
    /// When a start or length is negative.
    pub fn from_proto(proto: &TensorSliceProto) -> Result<Self> {
        let extent = |e: &tensor_slice_proto::Extent| {
            let Some(length) = e.length else {
                return Ok(Extent::Full);
            };
            match (usize::try_from(e.start), usize::try_from(length)) {
                (Ok(start), Ok(length)) => Ok(Extent::Part { start, length }),
                _ => Err(Error::corrupt(format!("a slice can't start at {} and be {length} long", e.start))),
            }
        };
        proto.extent.iter().map(extent).collect::<Result<_>>().map(Slice)
    }

    /// The message that describes this slice.
    pub fn to_proto(&self) -> TensorSliceProto {
        let extent = |e: &Extent| match *e {
            Extent::Full => tensor_slice_proto::Extent::default(),
            Extent::Part { start, length } => {
                tensor_slice_proto::Extent { start: start as i64, length: Some(length as i64) }
            }
        };
        TensorSliceProto { extent: self.0.iter().map(extent).collect() }
    }

    /// The key under which this slice of the tensor `name` is stored.
    pub(crate) fn key(&self, name: &str) -> Vec<u8> {
        let mut key = Vec::new();
        write_unsigned(&mut key, 0);
        write_string(&mut key, name.as_bytes());
        write_unsigned(&mut key, self.0.len() as u64);
        for e in &self.0 {
            let (start, length) = match *e {
                Extent::Full => (0, -1),
                Extent::Part { start, length } => (start as i64, length as i64),
            };
            write_signed(&mut key, start);
            write_signed(&mut key, length);
        }
        key
    }
}

impl fmt::Display for Slice {
    /// As in the last part of `shape_and_slices`: `-:2,3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(":")?;
            }
            match e {
                Extent::Full => f.write_str("-")?,
                Extent::Part { start, length } => write!(f, "{start},{length}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Slice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("{text:?} isn't a slice")).help("write one such as `-:0,2`");
        let extent = |part: &str| {
            if part == "-" {
                return Ok(Extent::Full);
            }
            let (start, length) = part.split_once(',').ok_or_else(bad)?;
            let number = |t: &str| t.parse::<u32>().map(|n| n as usize).map_err(|_| bad());
            Ok(Extent::Part { start: number(start)?, length: number(length)? })
        };
        if text.is_empty() {
            return Ok(Slice::default());
        }
        text.split(':').map(extent).collect::<Result<_>>().map(Slice)
    }
}

/// A tensor's full shape and the slice of it that is meant: `4 6 2,2:-` (TensorFlow: `shape_and_slices` of `SaveV2`
/// and `RestoreV2`; the empty string, which means a whole tensor, is no value of this type).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShapeAndSlice {
    /// The full shape.
    pub shape: Vec<usize>,
    /// The slice.
    pub slice: Slice,
}

impl fmt::Display for ShapeAndSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for d in &self.shape {
            write!(f, "{d} ")?;
        }
        self.slice.fmt(f)
    }
}

impl FromStr for ShapeAndSlice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!("{text:?} isn't a shape and a slice"))
                .help("write them such as `4 6 2,2:-`")
        };
        let (shape, slice) = text.rsplit_once(' ').unwrap_or(("", text));
        let shape: Vec<usize> = shape
            .split_ascii_whitespace()
            .map(|d| d.parse::<u32>().map(|d| d as usize).map_err(|_| bad()))
            .collect::<Result<_>>()?;
        let slice: Slice = slice.parse()?;
        slice.ranges(&shape)?;
        Ok(ShapeAndSlice { shape, slice })
    }
}

/// A length byte, then the number's bytes without leading zeros.
fn write_unsigned(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_be_bytes();
    let zeros = value.leading_zeros() as usize / 8;
    out.push((bytes.len() - zeros) as u8);
    out.extend_from_slice(&bytes[zeros..]);
}

/// The bytes with 0 and 255 escaped, and an end that sorts before any further byte.
fn write_string(out: &mut Vec<u8>, bytes: &[u8]) {
    for &b in bytes {
        match b {
            0x00 => out.extend([0x00, 0xff]),
            0xff => out.extend([0xff, 0x00]),
            _ => out.push(b),
        }
    }
    out.extend([0x00, 0x01]);
}

/// The fewest bytes that hold the number, whose count is told by the leading ones (leading zeros if negative).
fn write_signed(out: &mut Vec<u8>, value: i64) {
    let magnitude = if value < 0 { !value } else { value } as u64;
    // A number of n bytes has 7n-1 bits of its own: 6, 13, .. ; its header has the n top bits set and the next clear.
    let bits = 64 - magnitude.leading_zeros();
    let n = (bits + 1).div_ceil(7).max(1) as usize;
    let mut bytes = i128::from(value).to_be_bytes();
    let header = (!0u128 << (8 * n - n)) & low_bytes(n);
    for (b, h) in bytes.iter_mut().zip(header.to_be_bytes()) {
        *b ^= h;
    }
    out.extend_from_slice(&bytes[bytes.len() - n..]);
}

/// A mask of the `n` lowest bytes.
fn low_bytes(n: usize) -> u128 {
    !0 >> (128 - 8 * n)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signed(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        write_signed(&mut out, value);
        out
    }

    #[test]
    fn numbers_have_tensorflows_codes() {
        for (value, code) in [
            (0, &[0x80][..]),
            (-1, &[0x7f]),
            (63, &[0xbf]),
            (64, &[0xc0, 0x40]),
            (-64, &[0x40]),
            (-65, &[0x3f, 0xbf]),
            (8191, &[0xdf, 0xff]),
            (8192, &[0xe0, 0x20, 0x00]),
            (1 << 20, &[0xf0, 0x10, 0x00, 0x00]),
            ((1 << 62) - 1, &[0xff, 0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            (1 << 62, &[0xff, 0xc0, 0x40, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(signed(value), code, "{value}");
        }
    }

    #[test]
    fn keys_are_tensorflows() {
        let explicit: Slice = "2,2:0,6".parse().expect("slice");
        assert_eq!(explicit.key("p/w"), b"\x00p/w\x00\x01\x01\x02\x82\x82\x80\x86");
        let open: Slice = "2,2:-".parse().expect("slice");
        assert_eq!(open.key("p/w"), b"\x00p/w\x00\x01\x01\x02\x82\x82\x80\x7f");
        assert_eq!(Slice::full(0).key("a\0\u{0}"), b"\x00a\x00\xff\x00\xff\x00\x01\x00");
    }

    #[test]
    fn texts_and_messages_go_both_ways() {
        for text in ["4 6 2,2:-", "4 -", "3 0,3", ""] {
            let parsed: ShapeAndSlice = text.parse().expect(text);
            assert_eq!(parsed.to_string(), text);
            assert_eq!(Slice::from_proto(&parsed.slice.to_proto()).expect("proto"), parsed.slice);
        }
        for bad in ["4 6 2,2", "4 3,2", "x -", "4 1", "4 1,x", "4 -1,2"] {
            assert!(bad.parse::<ShapeAndSlice>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn codes_sort_as_numbers_do(a in any::<i64>(), b in any::<i64>(), shift in 0u32..63) {
            let (a, b) = (a >> shift, b >> (shift / 2));
            prop_assert_eq!(signed(a).cmp(&signed(b)), a.cmp(&b));
        }
    }
}
