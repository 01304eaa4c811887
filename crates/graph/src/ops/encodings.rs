//! Bytes in strings: raw numbers, base64, compressed data, and lines of CSV.

use std::io::Read;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::args::{int, many, map1, one, take_first, tensors};
use super::numbers::parse;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, kernel};
use crate::tensor::{self, ByteString, DType, Shape, SharedBytes, Tensor};
use crate::{Error, Result};

/// How numbers lie in bytes.
#[derive(Clone, Copy)]
struct Raw {
    dtype: DType,
    size: usize,
    /// The bytes that are turned round where numbers are big-endian: half of a complex number.
    unit: usize,
    little: bool,
}

impl Raw {
    fn read(a: &NodeAttrs<'_>) -> Result<Raw> {
        let dtype = a.dtype("out_type")?;
        let size = dtype.size().ok_or_else(|| Error::unsupported(format!("{dtype} isn't plain bytes")))?;
        let unit = if dtype.is_complex() { size / 2 } else { size };
        Ok(Raw { dtype, size, unit, little: a.bool("little_endian")? })
    }

    /// A tensor of numbers along a new last dimension.
    fn tensor(self, mut bytes: Vec<u8>, outer: &[usize], count: usize) -> tensor::Result<Tensor> {
        if !self.little {
            bytes.chunks_exact_mut(self.unit).for_each(<[u8]>::reverse);
        }
        let mut shape = Shape::from(outer);
        shape.push(count);
        Tensor::from_bytes(self.dtype, shape, SharedBytes::copy_from(&bytes))
    }
}

fn decode_raw(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let raw = Raw::read(a)?;
    map1(move |x| {
        let strings = x.strings()?;
        let len = strings.first().map_or(0, |s| s.len());
        if strings.iter().any(|s| s.len() != len) || !len.is_multiple_of(raw.size) {
            return Err(tensor::Error::value(format!(
                "strings must have one length, a multiple of {}",
                raw.size
            )));
        }
        raw.tensor(strings.concat(), x.shape(), len / raw.size)
    })
}

/// The bytes of each string as numbers, cut or filled up with zeros to one length.
fn decode_padded_raw(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let raw = Raw::read(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, len] = tensors(inputs)?;
        let len = int(&len, "the length")?;
        let len = usize::try_from(len).ok().filter(|n| *n > 0 && n.is_multiple_of(raw.size));
        let len = len.ok_or_else(|| Error::compute(format!("the length must be a multiple of {}", raw.size)))?;
        let total = tensor::checked_elements(&[x.len(), len])?;
        let zeros = Tensor::zeros(DType::U8, [total])?;
        let mut bytes = zeros.elements::<u8>()?.into_owned();
        for (to, s) in bytes.chunks_exact_mut(len).zip(x.strings()?) {
            let n = s.len().min(len);
            to[..n].copy_from_slice(&s[..n]);
        }
        one(raw.tensor(bytes, x.shape(), len / raw.size)?)
    }))
}

/// A kernel that changes each string, or fails.
fn each(f: impl Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync + 'static) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |context, inputs| {
        let [x] = tensors(inputs)?;
        let changed = |s: &ByteString| context.check().and_then(|()| f(s));
        one(Tensor::from_strings(x.strings()?.iter().map(changed).collect::<Result<Vec<_>>>()?, x.shape())?)
    }))
}

/// Base64 of the alphabet for URLs; padding may be missing, and bits that say nothing may be anything.
fn base64(padded: bool) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(padded)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&URL_SAFE, config)
}

fn decode_compressed(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    fn all(mut from: impl Read) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        from.read_to_end(&mut out).map_err(|e| Error::compute(format!("the bytes aren't compressed data: {e}")))?;
        Ok(out)
    }
    match a.str("compression_type")? {
        "" => each(|s| Ok(s.to_vec())),
        "ZLIB" => each(|s| all(flate2::read::ZlibDecoder::new(s))),
        "GZIP" => each(|s| all(flate2::read::MultiGzDecoder::new(s))),
        other => Err(Error::unsupported(format!("compression {other:?}"))),
    }
}

/// How lines of CSV are cut.
struct Csv {
    delimiter: u8,
    quotes: bool,
    missing: Vec<u8>,
    /// The columns wanted, rising; all where there are none.
    columns: Vec<usize>,
    types: Vec<DType>,
}

impl Csv {
    fn read(a: &NodeAttrs<'_>) -> Result<Csv> {
        let &[delimiter] = a.str("field_delim")?.as_bytes() else {
            return Err(Error::graph("attribute \"field_delim\" must be one character"));
        };
        let columns = a.ints("select_cols")?.into_iter().map(|c| usize::try_from(c).ok()).collect::<Option<Vec<_>>>();
        let columns = columns.filter(|c| c.is_sorted_by(|a, b| a < b));
        Ok(Csv {
            delimiter,
            quotes: a.bool("use_quote_delim")?,
            missing: a.str("na_value")?.as_bytes().to_vec(),
            columns: columns.ok_or_else(|| Error::graph("attribute \"select_cols\" must rise"))?,
            types: super::args::types(a, "OUT_TYPE")?,
        })
    }

    /// The wanted fields of a line.
    fn fields(&self, line: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut fields: Vec<Vec<u8>> = Vec::new();
        let (mut rest, mut column) = (line, 0);
        let wanted = |column: usize| self.columns.is_empty() || self.columns.binary_search(&column).is_ok();
        while let Some((&first, tail)) = rest.split_first() {
            if first == b'\n' || first == b'\r' {
                rest = tail;
                continue;
            }
            let field;
            if self.quotes && first == b'"' {
                (field, rest) = self.quoted(tail)?;
            } else {
                let end = rest.iter().position(|b| *b == self.delimiter).unwrap_or(rest.len());
                field = rest[..end].to_vec();
                rest = rest.get(end + 1..).unwrap_or_default();
                if field.iter().any(|b| (self.quotes && *b == b'"') || matches!(b, b'\n' | b'\r')) {
                    return Err(Error::compute("a field without quotes has quotes or line ends inside"));
                }
            }
            if wanted(column) {
                fields.push(field);
                if fields.len() == self.columns.len() {
                    return Ok(fields);
                }
            }
            column += 1;
        }
        // A delimiter at the end has an empty field behind it.
        if line.last() == Some(&self.delimiter) && wanted(column) {
            fields.push(Vec::new());
        }
        Ok(fields)
    }

    /// A field in quotes, of which the first is gone, and what comes behind its delimiter.
    fn quoted<'a>(&self, mut rest: &'a [u8]) -> Result<(Vec<u8>, &'a [u8])> {
        let mut field = Vec::new();
        loop {
            match rest {
                [b'"'] => return Ok((field, &[])),
                [b'"', next, tail @ ..] if *next == self.delimiter => return Ok((field, tail)),
                [b'"', b'"', tail @ ..] => {
                    field.push(b'"');
                    rest = tail;
                }
                [b'"', ..] => return Err(Error::compute("a quote inside a field must be written twice")),
                [b, tail @ ..] => {
                    field.push(*b);
                    rest = tail;
                }
                [] => return Err(Error::compute("a field in quotes has no end")),
            }
        }
    }

    fn column(&self, texts: &[Vec<u8>], default: &Tensor, at: usize, shape: &[usize]) -> Result<Tensor> {
        let dtype = self.types[at];
        let absent = |t: &[u8]| t.is_empty() || t == self.missing;
        if default.is_empty() && texts.iter().any(|t| absent(t)) {
            return Err(Error::compute(format!("field {at} is required, but a record lacks it")));
        }
        if dtype == DType::String {
            let default: &[u8] = default.strings()?.first().map_or(&[], |s| s);
            let text = |t: &Vec<u8>| if absent(t) { default.to_vec() } else { t.clone() };
            return Ok(Tensor::from_strings(texts.iter().map(text), shape)?);
        }
        let zero = &b"0"[..];
        let parsed = parse(texts.iter().map(|t| if absent(t) { zero } else { t }), dtype, shape)?;
        if !texts.iter().any(|t| absent(t)) {
            return Ok(parsed);
        }
        let flags = texts.iter().map(|t| tensor::Bool::from(absent(t))).collect();
        let flags = Tensor::from_vec(flags, shape)?;
        let default = default.clone().reshape([])?;
        Ok(tensor::kernels::array::select(&flags, &default, &parsed)?)
    }
}

fn decode_csv(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let csv = Csv::read(a)?;
    Ok(kernel(move |_, inputs| {
        let mut rest: Vec<Value> = inputs.into_vec();
        let [records] = take_first(&mut rest)?;
        let records = records.into_tensor()?;
        let count = csv.types.len();
        if rest.len() != count {
            return Err(Error::graph(format!("{} defaults for {count} columns", rest.len())));
        }
        let mut columns: Vec<Vec<Vec<u8>>> = vec![Vec::new(); count];
        for (i, line) in records.strings()?.iter().enumerate() {
            let fields = csv.fields(line)?;
            if fields.len() != count {
                return Err(Error::compute(format!("record {i} has {} fields, not {count}", fields.len())));
            }
            columns.iter_mut().zip(fields).for_each(|(c, f)| c.push(f));
        }
        let column = |(at, (texts, default)): (usize, (&Vec<Vec<u8>>, &Value))| {
            csv.column(texts, default.tensor()?, at, records.shape())
        };
        many(columns.iter().zip(&rest).enumerate().map(column).collect::<Result<Vec<_>>>()?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("DecodeRaw(bytes: string) -> (output: out_type); out_type: type; little_endian: bool = true", decode_raw),
    Op::new("DecodePaddedRaw(input_bytes: string, fixed_length: int32) -> (output: out_type); out_type: type; little_endian: bool = true", decode_padded_raw),
    Op::new("DecodeCompressed(bytes: string) -> (output: string); compression_type: string = \"\"", decode_compressed),
    Op::new("EncodeBase64(input: string) -> (output: string); pad: bool = false", |a| {
        let engine = base64(a.bool("pad")?);
        each(move |s| Ok(engine.encode(s).into_bytes()))
    }),
    Op::new("DecodeBase64(input: string) -> (output: string)", |_| {
        let engine = base64(false);
        each(move |s| engine.decode(s).map_err(|e| Error::compute(format!("a string isn't base64 for URLs: {e}"))))
    }),
    Op::new("DecodeCSV(records: string, record_defaults: [OUT_TYPE]) -> (output: [OUT_TYPE]); OUT_TYPE: list(type); field_delim: string = \",\"; use_quote_delim: bool = true; na_value: string = \"\"; select_cols: list(int) = []", decode_csv),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_into_fields() {
        let csv = Csv { delimiter: b',', quotes: true, missing: Vec::new(), columns: Vec::new(), types: Vec::new() };
        let cut = |line: &str| -> Result<Vec<String>> {
            let fields = csv.fields(line.as_bytes())?;
            Ok(fields.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect())
        };
        assert_eq!(cut("1,,\"a,\"\"b\"\"\",").expect("fields"), ["1", "", "a,\"b\"", ""]);
        for broken in ["a\"b", "\"a", "\"a\"b,", "a\nb"] {
            assert!(cut(broken).is_err(), "{broken}");
        }
    }
}
