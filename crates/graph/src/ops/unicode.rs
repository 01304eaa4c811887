//! Characters of strings in Unicode's encodings, and back.

use unicode_script::{Script, UnicodeScript};

use super::args::{many, map1, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::{self, ByteString, DType, Tensor};
use crate::{Error, Result};

/// How characters are bytes. Other names that ICU knows are refused.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Encoding {
    Utf8,
    /// Big-endian unless a byte order mark says otherwise.
    Utf16,
    Utf16Be,
    Utf16Le,
    Utf32,
    Utf32Be,
    Utf32Le,
    Ascii,
    Latin1,
}

impl Encoding {
    /// Of a name, in which neither case nor `-`, `_` and spaces matter.
    fn of(name: &str) -> Result<Encoding> {
        let plain = |c: &char| !matches!(c, '-' | '_' | ' ');
        let key: String = name.chars().filter(plain).map(|c| c.to_ascii_uppercase()).collect();
        Ok(match key.as_str() {
            "UTF8" => Encoding::Utf8,
            "UTF16" => Encoding::Utf16,
            "UTF16BE" => Encoding::Utf16Be,
            "UTF16LE" => Encoding::Utf16Le,
            "UTF32" => Encoding::Utf32,
            "UTF32BE" => Encoding::Utf32Be,
            "UTF32LE" => Encoding::Utf32Le,
            "ASCII" | "USASCII" => Encoding::Ascii,
            "LATIN1" | "ISO88591" => Encoding::Latin1,
            _ => return Err(Error::unsupported(format!("text encoding {name:?}"))),
        })
    }

    /// Calls `f` with each character and the byte that it begins at; `None` stands for bytes that are none.
    fn decode(self, bytes: &[u8], mut f: impl FnMut(Option<char>, usize)) {
        match self {
            Encoding::Utf8 => {
                let mut at = 0;
                for chunk in bytes.utf8_chunks() {
                    chunk.valid().char_indices().for_each(|(i, c)| f(Some(c), at + i));
                    at += chunk.valid().len();
                    if !chunk.invalid().is_empty() {
                        f(None, at);
                        at += chunk.invalid().len();
                    }
                }
            }
            Encoding::Ascii => {
                bytes.iter().enumerate().for_each(|(i, b)| f(b.is_ascii().then_some((*b).into()), i));
            }
            Encoding::Latin1 => bytes.iter().enumerate().for_each(|(i, b)| f(Some((*b).into()), i)),
            Encoding::Utf16 | Encoding::Utf16Be | Encoding::Utf16Le => {
                let (little, skipped) = order(self == Encoding::Utf16, self == Encoding::Utf16Le, bytes, 2);
                let (units, rest) = bytes.get(skipped..).unwrap_or_default().as_chunks::<2>();
                let number = |u: &[u8; 2]| if little { u16::from_le_bytes(*u) } else { u16::from_be_bytes(*u) };
                // A byte order mark counts to the first character.
                let (mut at, mut mark) = (skipped, skipped);
                for c in char::decode_utf16(units.iter().map(number)) {
                    f(c.as_ref().ok().copied(), at - std::mem::take(&mut mark));
                    at += 2 * c.map_or(1, char::len_utf16);
                }
                if !rest.is_empty() {
                    f(None, at);
                }
            }
            Encoding::Utf32 | Encoding::Utf32Be | Encoding::Utf32Le => {
                let (little, skipped) = order(self == Encoding::Utf32, self == Encoding::Utf32Le, bytes, 4);
                let (units, rest) = bytes.get(skipped..).unwrap_or_default().as_chunks::<4>();
                let (mut at, mut mark) = (skipped, skipped);
                for u in units {
                    let code = if little { u32::from_le_bytes(*u) } else { u32::from_be_bytes(*u) };
                    f(char::from_u32(code), at - std::mem::take(&mut mark));
                    at += 4;
                }
                if !rest.is_empty() {
                    f(None, at);
                }
            }
        }
    }

    /// One of the encodings that TensorFlow writes.
    fn of_output(name: &str) -> Result<Encoding> {
        match name {
            "UTF-8" => Ok(Encoding::Utf8),
            "UTF-16-BE" => Ok(Encoding::Utf16Be),
            "UTF-32-BE" => Ok(Encoding::Utf32Be),
            other => Err(Error::graph(format!("there is no output encoding {other:?}"))),
        }
    }

    fn encode(self, c: char, out: &mut Vec<u8>) {
        match self {
            Encoding::Utf16Be => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|u| out.extend_from_slice(&u.to_be_bytes()));
            }
            Encoding::Utf32Be => out.extend_from_slice(&u32::from(c).to_be_bytes()),
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Whether units are little-endian, and the bytes that the mark which says so takes.
fn order(marked: bool, little: bool, bytes: &[u8], width: usize) -> (bool, usize) {
    let mark = |little: bool| -> &[u8] {
        match (width, little) {
            (2, true) => &[0xff, 0xfe],
            (2, false) => &[0xfe, 0xff],
            (_, true) => &[0xff, 0xfe, 0, 0],
            (_, false) => &[0, 0, 0xfe, 0xff],
        }
    };
    if !marked {
        return (little, 0);
    }
    let found = [true, false].into_iter().find(|little| bytes.starts_with(mark(*little)));
    (found == Some(true), if found.is_some() { width } else { 0 })
}

/// What is done with bytes and numbers that aren't characters.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Refuse,
    Replace,
    Ignore,
}

/// What an op does with characters that it doesn't like.
#[derive(Debug, Clone, Copy)]
struct Policy {
    wrong: Wrong,
    replacement: char,
    /// Whether control characters under U+0020 are wrong too.
    controls: bool,
}

impl Policy {
    fn read(a: &NodeAttrs<'_>) -> Result<Policy> {
        let replacement = a.int("replacement_char")?;
        let replacement = u32::try_from(replacement).ok().and_then(char::from_u32);
        let replacement = replacement.ok_or_else(|| Error::graph("replacement_char isn't a character"))?;
        let wrong = match a.str("errors")? {
            "strict" => Wrong::Refuse,
            "replace" => Wrong::Replace,
            "ignore" => Wrong::Ignore,
            other => return Err(Error::graph(format!("there is no error policy {other:?}"))),
        };
        let controls = a.get("replace_control_characters").and_then(|c| c.as_bool()).unwrap_or_default();
        Ok(Policy { wrong, replacement, controls })
    }

    /// The character that stands for this one, if any.
    fn apply(&self, c: Option<char>) -> Result<Option<char>> {
        let control = self.controls && c.is_some_and(|c| c < ' ');
        match (self.wrong, c) {
            (_, Some(c)) if !control => Ok(Some(c)),
            (Wrong::Refuse, None) => Err(Error::compute("the text isn't well formed in its encoding")),
            (Wrong::Ignore, _) => Ok(None),
            _ => Ok(Some(self.replacement)),
        }
    }

    fn decode(&self, encoding: Encoding, bytes: &[u8], mut f: impl FnMut(char, usize)) -> Result<()> {
        let mut result = Ok(());
        encoding.decode(bytes, |c, at| match self.apply(c) {
            Ok(Some(c)) => f(c, at),
            Ok(None) => {}
            Err(e) => result = Err(e),
        });
        result
    }
}

/// `UnicodeDecode` and, with the bytes that characters begin at, `UnicodeDecodeWithOffsets`.
fn decode(a: &NodeAttrs<'_>, offsets: bool) -> Result<Box<dyn Kernel>> {
    let (encoding, policy) = (Encoding::of(a.str("input_encoding")?)?, Policy::read(a)?);
    let splits_dtype = a.dtype("Tsplits")?;
    Ok(kernel(move |context, inputs| {
        let [x] = tensors(inputs)?;
        let (mut splits, mut chars, mut starts) = (vec![0usize], Vec::new(), Vec::new());
        for s in x.strings()? {
            context.check()?;
            policy.decode(encoding, s, |c, at| {
                chars.push(u32::from(c) as i32);
                if offsets {
                    starts.push(at as i64);
                }
            })?;
            splits.push(chars.len());
        }
        let n = [chars.len()];
        let mut out = vec![super::args::ints(splits, splits_dtype)?, Tensor::from_vec(chars, n)?];
        if offsets {
            out.push(Tensor::from_vec(starts, n)?);
        }
        many(out)
    }))
}

fn encode(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (encoding, policy) = (Encoding::of_output(a.str("output_encoding")?)?, Policy::read(a)?);
    Ok(kernel(move |_, inputs| {
        let [values, splits] = tensors(inputs)?;
        let (values, splits) = (values.elements::<i32>()?, super::args::extents(&splits, "the row splits")?);
        let row = |pair: &[usize]| -> Result<Vec<u8>> {
            let wrong = || Error::compute(format!("row splits {pair:?} don't fit {} values", values.len()));
            let row = values.get(pair[0]..pair[1]).ok_or_else(wrong)?;
            let mut out = Vec::with_capacity(row.len());
            for v in row {
                if let Some(c) = policy.apply(u32::try_from(*v).ok().and_then(char::from_u32))? {
                    encoding.encode(c, &mut out);
                }
            }
            Ok(out)
        };
        if splits.first() != Some(&0) || splits.last() != Some(&values.len()) {
            return Err(Error::compute(format!("row splits must go from 0 to {}", values.len())));
        }
        let rows = splits.windows(2).map(row).collect::<Result<Vec<_>>>()?;
        let n = rows.len();
        one(Tensor::from_strings(rows, [n])?)
    }))
}

fn transcode(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (from, policy) = (Encoding::of(a.str("input_encoding")?)?, Policy::read(a)?);
    let to = Encoding::of_output(a.str("output_encoding")?)?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let change = |s: &ByteString| -> Result<Vec<u8>> {
            let mut out = Vec::with_capacity(s.len());
            policy.decode(from, s, |c, _| to.encode(c, &mut out))?;
            Ok(out)
        };
        let strings = x.strings()?.iter().map(change).collect::<Result<Vec<_>>>()?;
        one(Tensor::from_strings(strings, x.shape())?)
    }))
}

/// ICU's numbers of scripts, by their short names in ISO 15924.
const SCRIPTS: &[(&str, i32)] = &[
    ("Adlm", 167), ("Aghb", 159), ("Ahom", 161), ("Arab", 2), ("Armi", 116), ("Armn", 3), ("Avst", 117),
    ("Bali", 62), ("Bamu", 130), ("Bass", 134), ("Batk", 63), ("Beng", 4), ("Bhks", 168), ("Bopo", 5),
    ("Brah", 65), ("Brai", 46), ("Bugi", 55), ("Buhd", 44), ("Cakm", 118), ("Cans", 40), ("Cari", 104),
    ("Cham", 66), ("Cher", 6), ("Chrs", 189), ("Copt", 7), ("Cprt", 47), ("Cyrl", 8), ("Deva", 10),
    ("Diak", 190), ("Dogr", 178), ("Dsrt", 9), ("Dupl", 135), ("Egyp", 71), ("Elba", 136), ("Elym", 185),
    ("Ethi", 11), ("Geor", 12), ("Glag", 56), ("Gong", 179), ("Gonm", 175), ("Goth", 13), ("Gran", 137),
    ("Grek", 14), ("Gujr", 15), ("Guru", 16), ("Hang", 18), ("Hani", 17), ("Hano", 43), ("Hatr", 162),
    ("Hebr", 19), ("Hira", 20), ("Hluw", 156), ("Hmng", 75), ("Hmnp", 186), ("Hung", 76), ("Ital", 30),
    ("Java", 78), ("Kali", 79), ("Kana", 22), ("Khar", 57), ("Khmr", 23), ("Khoj", 157), ("Kits", 191),
    ("Knda", 21), ("Kthi", 120), ("Lana", 106), ("Laoo", 24), ("Latn", 25), ("Lepc", 82), ("Limb", 48),
    ("Lina", 83), ("Linb", 49), ("Lisu", 131), ("Lyci", 107), ("Lydi", 108), ("Mahj", 160), ("Maka", 180),
    ("Mand", 84), ("Mani", 121), ("Marc", 169), ("Medf", 181), ("Mend", 140), ("Merc", 141), ("Mero", 86),
    ("Mlym", 26), ("Modi", 163), ("Mong", 27), ("Mroo", 149), ("Mtei", 115), ("Mult", 164), ("Mymr", 28),
    ("Nand", 187), ("Narb", 142), ("Nbat", 143), ("Newa", 170), ("Nkoo", 87), ("Nshu", 150), ("Ogam", 29),
    ("Olck", 109), ("Orkh", 88), ("Orya", 31), ("Osge", 171), ("Osma", 50), ("Palm", 144), ("Pauc", 165),
    ("Perm", 89), ("Phag", 90), ("Phli", 122), ("Phlp", 123), ("Phnx", 91), ("Plrd", 92), ("Prti", 125),
    ("Rjng", 110), ("Rohg", 182), ("Runr", 32), ("Samr", 126), ("Sarb", 133), ("Saur", 111), ("Sgnw", 112),
    ("Shaw", 51), ("Shrd", 151), ("Sidd", 166), ("Sind", 145), ("Sinh", 33), ("Sogd", 183), ("Sogo", 184),
    ("Sora", 152), ("Soyo", 176), ("Sund", 113), ("Sylo", 58), ("Syrc", 34), ("Tagb", 45), ("Takr", 153),
    ("Tale", 52), ("Talu", 59), ("Taml", 35), ("Tang", 154), ("Tavt", 127), ("Telu", 36), ("Tfng", 60),
    ("Tglg", 42), ("Thaa", 37), ("Thai", 38), ("Tibt", 39), ("Tirh", 158), ("Ugar", 53), ("Vaii", 99),
    ("Wara", 146), ("Wcho", 188), ("Xpeo", 61), ("Xsux", 101), ("Yezi", 192), ("Yiii", 41), ("Zanb", 177),
    ("Zinh", 1), ("Zyyy", 0),
];

/// ICU's number for scripts that aren't known.
const UNKNOWN_SCRIPT: i32 = 103;

/// ICU's number of a character's script; -1 for what is no code point.
fn script(code: i32) -> i32 {
    match u32::try_from(code) {
        Ok(0xd800..=0xdfff) => UNKNOWN_SCRIPT,
        Ok(code) => char::from_u32(code).map_or(-1, |c| match c.script() {
            Script::Unknown => UNKNOWN_SCRIPT,
            known => {
                let at = SCRIPTS.binary_search_by_key(&known.short_name(), |(name, _)| name);
                at.map_or(UNKNOWN_SCRIPT, |at| SCRIPTS[at].1)
            }
        }),
        Err(_) => -1,
    }
}

pub(super) const OPS: &[Op] = &[
    Op::new("UnicodeDecode(input: string) -> (row_splits: Tsplits, char_values: int32); input_encoding: string; errors: string = \"replace\"; replacement_char: int = 65533; replace_control_characters: bool = false; Tsplits: type = int64", |a| decode(a, false)),
    Op::new("UnicodeDecodeWithOffsets(input: string) -> (row_splits: Tsplits, char_values: int32, char_to_byte_starts: int64); input_encoding: string; errors: string = \"replace\"; replacement_char: int = 65533; replace_control_characters: bool = false; Tsplits: type = int64", |a| decode(a, true)),
    Op::new("UnicodeEncode(input_values: int32, input_splits: Tsplits) -> (output: string); errors: string = \"replace\"; output_encoding: string; replacement_char: int = 65533; Tsplits: type = int64", encode),
    Op::new("UnicodeTranscode(input: string) -> (output: string); input_encoding: string; output_encoding: string; errors: string = \"replace\"; replacement_char: int = 65533; replace_control_characters: bool = false", transcode),
    Op::new("UnicodeScript(input: int32) -> (output: int32)", |_| {
        map1(|x| {
            if x.dtype() != DType::I32 {
                return Err(tensor::Error::dtype(DType::I32, x.dtype()));
            }
            Tensor::from_vec(x.elements::<i32>()?.iter().map(|c| script(*c)).collect(), x.shape())
        })
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_text_is_decoded_piece_by_piece() {
        let decoded = |encoding: Encoding, bytes: &[u8]| {
            let mut out = Vec::new();
            encoding.decode(bytes, |c, at| out.push((c, at)));
            out
        };
        assert_eq!(decoded(Encoding::Utf8, b"a\xf0\x9f\x98b"), [(Some('a'), 0), (None, 1), (Some('b'), 4)]);
        assert_eq!(decoded(Encoding::Utf16Be, b"\xd8\x00\x00a\x00"), [(None, 0), (Some('a'), 2), (None, 4)]);
        assert_eq!(decoded(Encoding::Utf16, b"\xff\xfea\x00"), [(Some('a'), 0)]);
        assert_eq!(decoded(Encoding::Utf32Be, b"\x00\x11\x00\x00\x00"), [(None, 0), (None, 4)]);
        assert!(SCRIPTS.is_sorted_by_key(|(name, _)| name));
    }
}
