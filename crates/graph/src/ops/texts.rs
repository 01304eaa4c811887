//! Text made of tensors, and n-grams.

use super::args::{many, one, tensors};
use super::numbers::general;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{Bool, ByteString, DType, Tensor, dispatch};
use crate::{Error, Result};

/// The first `most` elements of a tensor as `tf.print` shows them, strings in quotes or not.
pub(super) fn elements(t: &Tensor, quoted: bool, most: usize) -> Result<Vec<Vec<u8>>> {
    let first;
    let t = if most < t.len() {
        first = array::slice(&t.clone().reshape([t.len()])?, &[0], &[most])?;
        &first
    } else {
        t
    };
    let quote = if quoted { &b"\""[..] } else { b"" };
    let texts: Vec<String> = match t.dtype() {
        DType::String => return Ok(t.strings()?.iter().map(|s| [quote, &escaped(s)[..], quote].concat()).collect()),
        DType::Bool => t.elements::<Bool>()?.iter().map(|b| u8::from(b.get()).to_string()).collect(),
        DType::F64 => {
            let text = |v: &f64| {
                let short = general(*v, 15);
                if short.parse() == Ok(*v) { short } else { general(*v, 17) }
            };
            t.elements::<f64>()?.iter().map(text).collect()
        }
        d if d.is_float() => {
            let text = |v: &f32| {
                let short = general(f64::from(*v), 6);
                if short.parse() == Ok(*v) { short } else { general(f64::from(*v), 9) }
            };
            array::cast(t, DType::F32)?.elements::<f32>()?.iter().map(text).collect()
        }
        d => dispatch!(integer d, T => t.elements::<T>()?.iter().map(T::to_string).collect(),
            else => vec!["?".to_owned(); t.len()]),
    };
    Ok(texts.into_iter().map(String::into_bytes).collect())
}

/// Bytes with C's escapes, but for those of UTF-8.
fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for &b in bytes {
        match b {
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            b'"' | b'\'' | b'\\' => out.extend([b'\\', b]),
            b' '..=b'~' | 0x80.. => out.push(b),
            _ => out.extend(format!("\\{b:03o}").bytes()),
        }
    }
    out
}

/// Writes a tensor in brackets, of each dimension `ends` slices at its beginning and end.
fn summary(t: &Tensor, ends: Option<usize>) -> Result<Vec<u8>> {
    fn write(out: &mut Vec<u8>, texts: &[Vec<u8>], shape: &[usize], rank: usize, ends: Option<usize>) {
        let Some((&count, rest)) = shape.split_first() else {
            out.extend_from_slice(texts.first().map_or(&[], Vec::as_slice));
            return;
        };
        let gap = |out: &mut Vec<u8>| {
            if rest.is_empty() {
                out.push(b' ');
            } else {
                out.extend(std::iter::repeat_n(b'\n', rest.len()));
                out.extend(std::iter::repeat_n(b' ', rank - rest.len()));
            }
        };
        let size: usize = rest.iter().product();
        let whole = ends.is_none_or(|e| count <= e.saturating_mul(2));
        let ends = ends.unwrap_or_default();
        out.push(b'[');
        for i in 0..count {
            if !whole && i == ends {
                gap(out);
                out.extend(b"...");
            }
            if !whole && (ends..count - ends).contains(&i) {
                continue;
            }
            if i > 0 {
                gap(out);
            }
            write(out, &texts[i * size..(i + 1) * size], rest, rank, Some(ends).filter(|_| !whole || ends > 0));
        }
        out.push(b']');
    }
    let mut out = Vec::new();
    write(&mut out, &elements(t, true, usize::MAX)?, t.shape(), t.rank(), ends);
    Ok(out)
}

/// A template whose placeholders are filled with what tensors look like.
fn format(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (template, placeholder) = (a.str("template")?, a.str("placeholder")?);
    let ends = usize::try_from(a.int("summarize")?).ok();
    let pieces: Vec<String> = match placeholder {
        "" => vec![template.to_owned()],
        p => template.split(p).map(str::to_owned).collect(),
    };
    Ok(kernel(move |_, inputs| {
        if inputs.len() + 1 != pieces.len() {
            return Err(Error::compute(format!("{} tensors for {} placeholders", inputs.len(), pieces.len() - 1)));
        }
        let mut out = pieces[0].clone().into_bytes();
        for (value, piece) in inputs.iter().zip(&pieces[1..]) {
            match value {
                Value::Tensor(t) => out.extend(summary(t, ends)?),
                other => out.extend(format!("<{}>", other.dtype()).bytes()),
            }
            out.extend(piece.bytes());
        }
        one(Tensor::scalar_string(out))
    }))
}

/// The most words of an n-gram: what a graph can cost is a multiple of its words.
const WIDEST: usize = 1 << 12;

/// What `StringNGrams` is told.
struct Grams {
    separator: Vec<u8>,
    widths: Vec<usize>,
    left: ByteString,
    right: ByteString,
    /// `None` pads with as many as are needed for every word to be everywhere in an n-gram.
    padding: Option<usize>,
    keep_short: bool,
}

impl Grams {
    fn padding(&self, width: usize) -> usize {
        self.padding.unwrap_or(usize::MAX).min(width - 1)
    }

    /// Adds all n-grams of a row of words.
    fn row(&self, words: &[ByteString], out: &mut Vec<Vec<u8>>) {
        let before = out.len();
        for &width in &self.widths {
            self.of_width(words, width, self.padding(width), out);
        }
        if self.keep_short && out.len() == before && !words.is_empty() {
            // No n-gram is as short as the row: it becomes one, with whatever pads it.
            let padding = self.padding.unwrap_or_default();
            self.of_width(words, words.len() + 2 * padding, padding, out);
        }
    }

    fn of_width(&self, words: &[ByteString], width: usize, padding: usize, out: &mut Vec<Vec<u8>>) {
        let count = (words.len() + 2 * padding + 1).saturating_sub(width);
        for first in 0..count {
            let token = |i: usize| {
                let at = first + i;
                if at < padding { &self.left } else { words.get(at - padding).unwrap_or(&self.right) }
            };
            let tokens: Vec<&[u8]> = (0..width).map(|i| &**token(i)).collect();
            out.push(tokens.join(&self.separator[..]));
        }
    }
}

fn n_grams(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let width = |w: i64| usize::try_from(w).ok().filter(|w| (1..=WIDEST).contains(w));
    let widths: Option<Vec<usize>> = a.ints("ngram_widths")?.into_iter().map(width).collect();
    let wrong = || Error::graph(format!("attribute \"ngram_widths\" must be between 1 and {WIDEST}"));
    let widths = widths.ok_or_else(wrong)?;
    let bytes = |name: &str| -> Result<Vec<u8>> { Ok(a.str(name)?.as_bytes().to_vec()) };
    let grams = Grams {
        separator: bytes("separator")?,
        widths,
        left: bytes("left_pad")?.into(),
        right: bytes("right_pad")?.into(),
        padding: usize::try_from(a.int("pad_width")?).ok().map(|p| p.min(WIDEST)),
        keep_short: a.bool("preserve_short_sequences")?,
    };
    let dtype = a.dtype("Tsplits")?;
    Ok(kernel(move |context, inputs| {
        let [data, splits] = tensors(inputs)?;
        let (words, splits) = (data.strings()?, super::args::extents(&splits, "the row splits")?);
        if !splits.is_empty() && (splits[0] != 0 || splits.last() != Some(&words.len())) {
            return Err(Error::compute(format!("row splits must go from 0 to {}", words.len())));
        }
        let (mut out, mut ends) = (Vec::new(), Vec::with_capacity(splits.len()));
        if !splits.is_empty() {
            ends.push(0);
        }
        for pair in splits.windows(2) {
            context.check()?;
            let row = words.get(pair[0]..pair[1]);
            grams.row(row.ok_or_else(|| Error::compute(format!("row splits {pair:?} go back")))?, &mut out);
            ends.push(out.len());
        }
        let n = out.len();
        many([Tensor::from_strings(out, [n])?, super::args::ints(ends, dtype)?])
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("StringFormat(inputs: [T]) -> (output: string); T: list(type); template: string = \"%s\"; placeholder: string = \"%s\"; summarize: int = 3", format),
    Op::new("StringNGrams(data: string, data_splits: Tsplits) -> (ngrams: string, ngrams_splits: Tsplits); separator: string; ngram_widths: list(int); left_pad: string; right_pad: string; pad_width: int; preserve_short_sequences: bool; Tsplits: type = int64", n_grams),
];
