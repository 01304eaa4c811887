//! Strings: joining, cutting, changing.

use super::args::{all_tensors, map1, many, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::{array, broadcast_shape};
use crate::tensor::{self, ByteString, Shape, Tensor};
use crate::{Error, Result};

/// A kernel that changes each string.
fn each(f: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Result<Box<dyn Kernel>> {
    map1(move |x| Tensor::from_strings(x.strings()?.iter().map(|s| f(s)), x.shape()))
}

/// A kernel that gives a number for each string.
fn measure<T: tensor::Element>(f: impl Fn(&[u8]) -> T + Send + Sync + 'static) -> Result<Box<dyn Kernel>> {
    map1(move |x| Tensor::from_vec(x.strings()?.iter().map(|s| f(s)).collect(), x.shape()))
}

/// Upper or lower case: of ASCII letters, or of all where the encoding is UTF-8.
fn change_case(
    a: &NodeAttrs<'_>,
    ascii: fn(&[u8]) -> Vec<u8>,
    unicode: fn(&str) -> String,
) -> Result<Box<dyn Kernel>> {
    let encoding = a.str("encoding")?.to_owned();
    match encoding.as_str() {
        "" => each(ascii),
        "utf-8" => each(move |s| unicode(&String::from_utf8_lossy(s)).into_bytes()),
        other => Err(Error::unsupported(format!("encoding {other:?}"))),
    }
}

/// Whether `unit` counts characters instead of bytes.
fn by_characters(a: &NodeAttrs<'_>) -> Result<bool> {
    match a.str("unit")? {
        "BYTE" => Ok(false),
        "UTF8_CHAR" => Ok(true),
        other => Err(Error::unsupported(format!("unit {other:?}"))),
    }
}

/// Bytes that begin a character of UTF-8.
fn begins(b: u8) -> bool {
    b & 0xc0 != 0x80
}

fn length(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    if by_characters(a)? {
        measure(|s| s.iter().filter(|b| begins(**b)).count() as i32)
    } else {
        measure(|s| s.len() as i32)
    }
}

fn substring(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let characters = by_characters(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, from, len] = tensors(inputs)?;
        if from.shape() != len.shape() {
            let (from, len) = (from.shape(), len.shape());
            return Err(Error::compute(format!("positions {from:?} and lengths {len:?} must go together")));
        }
        let shape = broadcast_shape(x.shape(), from.shape())?;
        let x = array::broadcast_to(&x, &shape)?;
        let spread = |t: &Tensor| array::broadcast_to(t, &shape)?.to_i64_vec();
        let (from, len) = (spread(&from)?, spread(&len)?);
        let cut = |(i, s): (usize, &ByteString)| -> Result<Vec<u8>> {
            let starts: Vec<usize> = (0..s.len()).filter(|&i| !characters || begins(s[i])).collect();
            let (from, len) = (from[i], len[i]);
            let count = starts.len() as i64;
            let begin = if from < 0 { from + count } else { from };
            if !(0..=count).contains(&begin) || (characters && len < 0) {
                return Err(Error::compute(format!("position {from} is out of range for a string of {count}")));
            }
            // Of bytes a negative length means all that follow.
            let end = if len < 0 { count } else { begin.saturating_add(len).min(count) };
            let at = |i: i64| starts.get(i as usize).copied().unwrap_or(s.len());
            Ok(s[at(begin)..at(end)].to_vec())
        };
        let cuts = x.strings()?.iter().enumerate().map(cut).collect::<Result<Vec<_>>>()?;
        one(Tensor::from_strings(cuts, x.shape())?)
    }))
}

fn join(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let separator = a.str("separator")?.as_bytes().to_vec();
    Ok(kernel(move |_, inputs| {
        let all = all_tensors(inputs)?;
        let shape = all.iter().map(Tensor::shape).find(|s| !s.is_empty()).map(Shape::from).unwrap_or_default();
        if let Some(odd) = all.iter().find(|t| t.rank() > 0 && t.shape() != &shape[..]) {
            return Err(Error::compute(format!("shapes {:?} and {:?} differ", &shape[..], odd.shape())));
        }
        let n = tensor::checked_elements(&shape)?;
        let columns = all.iter().map(|t| Ok((t.strings()?, t.rank() == 0))).collect::<Result<Vec<_>>>()?;
        let row = |i: usize| {
            let parts: Vec<&[u8]> = columns.iter().map(|(s, scalar)| &*s[if *scalar { 0 } else { i }]).collect();
            parts.join(&separator[..])
        };
        one(Tensor::from_strings((0..n).map(row), shape)?)
    }))
}

/// The pieces of each string of a vector, as TensorFlow gives sparse tensors: indices, values, shape.
fn sparse(pieces: Vec<Vec<ByteString>>) -> Result<crate::engine::Values> {
    let widest = pieces.iter().map(Vec::len).max().unwrap_or_default();
    let indices: Vec<i64> = pieces
        .iter()
        .enumerate()
        .flat_map(|(row, p)| (0..p.len()).flat_map(move |column| [row as i64, column as i64]))
        .collect();
    let shape = Tensor::from_vec(vec![pieces.len() as i64, widest as i64], [2])?;
    let values: Vec<ByteString> = pieces.into_iter().flatten().collect();
    let n = values.len();
    many([Tensor::from_vec(indices, [n, 2])?, Tensor::from_strings(values, [n])?, shape])
}

/// Cuts at each `separator`, or at runs of white space where there is none.
fn split(s: &[u8], separator: &[u8], most: usize) -> Vec<ByteString> {
    let mut pieces: Vec<ByteString> = Vec::new();
    if separator.is_empty() {
        let mut rest = s.trim_ascii_start();
        while !rest.is_empty() {
            let end = rest.iter().position(u8::is_ascii_whitespace).filter(|_| pieces.len() < most);
            let (piece, tail) = rest.split_at(end.unwrap_or(rest.len()));
            pieces.push(piece.into());
            rest = tail.trim_ascii_start();
        }
        return pieces;
    }
    let mut rest = s;
    while pieces.len() < most
        && let Some(at) = rest.windows(separator.len()).position(|w| w == separator)
    {
        pieces.push(rest[..at].into());
        rest = &rest[at + separator.len()..];
    }
    pieces.push(rest.into());
    pieces
}

fn split_v2(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    // Fewer than none means no limit.
    let most = usize::try_from(a.int("maxsplit")?).unwrap_or(usize::MAX);
    Ok(kernel(move |_, inputs| {
        let [x, separator] = tensors(inputs)?;
        let separator = separator.strings()?.first().cloned().unwrap_or_default();
        sparse(x.strings()?.iter().map(|s| split(s, &separator, most)).collect())
    }))
}

/// Cuts at any byte of the delimiter, or between all bytes where it is empty.
fn split_v1(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let skip_empty = a.bool("skip_empty")?;
    Ok(kernel(move |_, inputs| {
        let [x, delimiter] = tensors(inputs)?;
        let delimiter = delimiter.strings()?.first().cloned().unwrap_or_default();
        let cut = |s: &ByteString| -> Vec<ByteString> {
            if delimiter.is_empty() {
                return s.iter().map(|b| ByteString::from(&[*b][..])).collect();
            }
            if s.is_empty() {
                return Vec::new();
            }
            let parts = s.split(|b| delimiter.contains(b));
            parts.filter(|p| !skip_empty || !p.is_empty()).map(ByteString::from).collect()
        };
        sparse(x.strings()?.iter().map(cut).collect())
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("StringLower(input: string) -> (output: string); encoding: string = \"\"", |a| change_case(a, |s| s.to_ascii_lowercase(), str::to_lowercase)),
    Op::new("StringUpper(input: string) -> (output: string); encoding: string = \"\"", |a| change_case(a, |s| s.to_ascii_uppercase(), str::to_uppercase)),
    Op::new("StringStrip(input: string) -> (output: string)", |_| each(|s| s.trim_ascii().to_vec())),
    Op::new("StringLength(input: string) -> (output: int32); unit: string = \"BYTE\"", length),
    Op::new("StringJoin(inputs: N * string) -> (output: string); N: int; separator: string = \"\"", join),
    Op::new("StringSplitV2(input: string, sep: string) -> (indices: int64, values: string, shape: int64); maxsplit: int = -1", split_v2).ranks("1 0"),
    Op::new("StringSplit(input: string, delimiter: string) -> (indices: int64, values: string, shape: int64); skip_empty: bool = true", split_v1).ranks("1"),
    Op::new("Substr(input: string, pos: T, len: T) -> (output: string); T: type; unit: string = \"BYTE\"", substring),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_cut_as_tensorflow_cuts_them() {
        let cut = |s: &str, separator: &str, most| -> Vec<String> {
            let pieces = split(s.as_bytes(), separator.as_bytes(), most);
            pieces.iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect()
        };
        assert_eq!(cut(" a  b c ", "", usize::MAX), ["a", "b", "c"]);
        assert_eq!(cut(" a  b c ", "", 1), ["a", "b c "]);
        assert_eq!(cut("a,,b", ",", usize::MAX), ["a", "", "b"]);
        assert_eq!(cut("a,,b", ",", 1), ["a", ",b"]);
        assert_eq!(cut("", ",", usize::MAX), [""]);
        assert!(cut("", "", usize::MAX).is_empty());
    }
}
