//! Regular expressions on strings, as RE2 reads them.

use regex::bytes::{Captures, Regex, RegexBuilder};

use super::Op;
use super::args::{map1, one, tensors};
use crate::engine::kernel;
use crate::tensor::{self, Bool, Tensor};
use crate::{Error, Result};

/// A pattern of RE2's in Rust's syntax. In RE2 `\d`, `\w`, `\s` and `\b` mean ASCII, while all else is Unicode; a brace that
/// begins no count is a brace, `\Q` begins literal text, and a class has no operators.
fn translated(pattern: &str) -> Result<String> {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    // Whether a class is open, and whether anything stands in it.
    let mut class: Option<bool> = None;
    // How the last repetition is written, if one was just read.
    let mut repeated = "";
    while let Some(c) = rest.next() {
        let after = rest.as_str();
        let before = std::mem::take(&mut repeated);
        match (c, class) {
            ('*' | '+' | '?', None) => {
                // Behind a repetition only `?` may stand, once.
                repeated = match (before, c) {
                    ("", _) => "greedy",
                    ("greedy", '?') => "lazy",
                    _ => return Err(Error::compute(format!("the pattern {pattern:?} repeats a repetition"))),
                };
                out.push(c);
            }
            ('-', Some(_)) if after.starts_with('-') => {
                rest.next();
                out.push_str("-\\-");
                class = Some(true);
            }
            ('\\', _) => {
                match rest.next() {
                    Some('d') => out.push_str("[0-9]"),
                    Some('D') => out.push_str("[^0-9]"),
                    Some('w') => out.push_str("[0-9A-Za-z_]"),
                    Some('W') => out.push_str("[^0-9A-Za-z_]"),
                    Some('s') => out.push_str("[\\t\\n\\f\\r ]"),
                    Some('S') => out.push_str("[^\\t\\n\\f\\r ]"),
                    Some('b') if class.is_none() => out.push_str("(?-u:\\b)"),
                    Some('B') if class.is_none() => out.push_str("(?-u:\\B)"),
                    Some('C') => out.push_str("(?s-u:.)"),
                    Some('Q') => {
                        let literal = rest.as_str();
                        let (literal, behind) = literal.split_once("\\E").unwrap_or((literal, ""));
                        out.push_str(&regex::escape(literal));
                        rest = behind.chars();
                    }
                    // Rust's syntax reserves escapes of letters and digits; of anything else it reads them as RE2 does.
                    Some(other @ ('x' | 'p' | 'P')) if rest.as_str().starts_with('{') => {
                        let (name, behind) = rest.as_str().split_once('}').unwrap_or((rest.as_str(), ""));
                        out.extend(['\\', other]);
                        out.extend([name, "}"]);
                        rest = behind.chars();
                    }
                    Some(other) => out.extend(['\\', other]),
                    None => out.push('\\'),
                }
                class = class.map(|_| true);
            }
            ('[', None) => {
                out.push('[');
                if after.starts_with('^') {
                    rest.next();
                    out.push('^');
                }
                class = Some(false);
            }
            (']', Some(true)) => {
                out.push(']');
                class = None;
            }
            ('[', Some(_)) if after.starts_with(':') && after.contains(":]") => {
                let (name, behind) = after.split_once(":]").unwrap_or((after, ""));
                out.extend(["[", name, ":]"]);
                rest = behind.chars();
                class = Some(true);
            }
            ('[' | ']' | '&' | '~', Some(_)) => {
                out.extend(['\\', c]);
                class = Some(true);
            }
            ('{', None) if !counts(after) => out.push_str("\\{"),
            _ => {
                out.push(c);
                class = class.map(|_| true);
            }
        }
    }
    Ok(out)
}

/// Whether a count follows an opening brace: digits, perhaps a comma and more digits, and a closing brace.
fn counts(after: &str) -> bool {
    let Some((inside, _)) = after.split_once('}') else { return false };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    !least.is_empty() && least.bytes().chain(most.bytes()).all(|b| b.is_ascii_digit())
}

/// Compiles a pattern of RE2's.
fn compile(pattern: &[u8]) -> Result<Regex> {
    let text = std::str::from_utf8(pattern).map_err(|_| Error::compute("the pattern isn't UTF-8"))?;
    let ascii = translated(text)?;
    RegexBuilder::new(&ascii)
        .octal(true)
        .size_limit(10 << 20)
        .build()
        .map_err(|e| Error::compute(format!("the pattern {text:?} isn't a regular expression: {e}")))
}

/// Whether all of each string matches.
fn full_match(x: &Tensor, pattern: &[u8]) -> Result<Tensor> {
    let whole = [b"^(?:", pattern, b")$"].concat();
    // In RE2 these are the text's ends, whatever lines it has; a pattern can't change that from inside its group.
    let regex = compile(&whole)?;
    let matches = x.strings()?.iter().map(|s| Bool::from(regex.is_match(s))).collect();
    Ok(Tensor::from_vec(matches, x.shape())?)
}

/// What matches are replaced by: `\0` to `\9` are groups, `\\` is a backslash.
enum Piece {
    Text(Vec<u8>),
    Group(usize),
}

/// A replacement's pieces, and whether all of it is well formed; RE2 keeps what stands before an escape that isn't.
fn pieces(rewrite: &[u8]) -> (Vec<Piece>, bool) {
    let mut out = Vec::new();
    let mut bytes = rewrite.iter();
    while let Some(&b) = bytes.next() {
        match (b, if b == b'\\' { bytes.next() } else { None }) {
            (b'\\', Some(d)) if d.is_ascii_digit() => out.push(Piece::Group((d - b'0').into())),
            (b'\\', Some(b'\\')) => out.push(Piece::Text(vec![b'\\'])),
            (b'\\', _) => return (out, false),
            _ => match out.last_mut() {
                Some(Piece::Text(text)) => text.push(b),
                _ => out.push(Piece::Text(vec![b])),
            },
        }
    }
    (out, true)
}

fn replace(x: &Tensor, regex: &Regex, with: &[u8], all: bool) -> tensor::Result<Tensor> {
    let (pieces, whole) = pieces(with);
    let groups = regex.captures_len();
    // Of a group that the pattern lacks nothing is replaced; nor, where one match is wanted, by what isn't well formed.
    if pieces.iter().any(|p| matches!(p, Piece::Group(n) if *n >= groups)) || !all && !whole {
        return Ok(x.clone());
    }
    let rewrite = |found: &Captures<'_>| -> Vec<u8> {
        let piece = |p: &Piece| match p {
            Piece::Text(text) => text.clone(),
            Piece::Group(n) => found.get(*n).map_or_else(Vec::new, |m| m.as_bytes().to_vec()),
        };
        pieces.iter().flat_map(piece).collect()
    };
    let limit = if all { 0 } else { 1 };
    let change = |s: &tensor::ByteString| regex.replacen(s, limit, |c: &Captures<'_>| rewrite(c)).into_owned();
    Tensor::from_strings(x.strings()?.iter().map(change), x.shape())
}

/// The bytes of a scalar string.
fn scalar(t: &Tensor) -> Result<tensor::ByteString> {
    t.strings()?.first().cloned().ok_or_else(|| Error::compute("a pattern is missing"))
}

pub(super) const OPS: &[Op] = &[
    Op::new("StaticRegexFullMatch(input: string) -> (output: bool); pattern: string", |a| {
        let pattern = a.str("pattern")?.as_bytes().to_vec();
        Ok(kernel(move |_, inputs| {
            let [x] = tensors(inputs)?;
            one(full_match(&x, &pattern)?)
        }))
    }),
    Op::new("RegexFullMatch(input: string, pattern: string) -> (output: bool)", |_| {
        Ok(kernel(|_, inputs| {
            let [x, pattern] = tensors(inputs)?;
            one(full_match(&x, &scalar(&pattern)?)?)
        }))
    }).ranks("_ 0"),
    Op::new("StaticRegexReplace(input: string) -> (output: string); pattern: string; rewrite: string; replace_global: bool = true", |a| {
        let regex = compile(a.str("pattern")?.as_bytes())?;
        let (with, all) = (a.str("rewrite")?.as_bytes().to_vec(), a.bool("replace_global")?);
        map1(move |x| replace(&x, &regex, &with, all))
    }),
    Op::new("RegexReplace(input: string, pattern: string, rewrite: string) -> (output: string); replace_global: bool = true", |a| {
        let all = a.bool("replace_global")?;
        Ok(kernel(move |_, inputs| {
            let [x, pattern, with] = tensors(inputs)?;
            one(replace(&x, &compile(&scalar(&pattern)?)?, &scalar(&with)?, all)?)
        }))
    }).ranks("_ 0 0"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(pattern: &str, with: &str, all: bool, text: &str) -> String {
        let x = Tensor::scalar_string(text.as_bytes());
        let out = replace(&x, &compile(pattern.as_bytes()).expect("pattern"), with.as_bytes(), all);
        String::from_utf8_lossy(&out.expect("replaced").strings().expect("strings")[0]).into_owned()
    }

    #[test]
    fn patterns_mean_what_they_mean_in_re2() {
        assert_eq!(replaced("[!\"#$%&()\\*\\+,-\\./:;<=>?@\\[\\\\\\]^_`{|}~\\']", "", true, "a-b[c]'d\\e"), "abcde");
        assert_eq!(replaced(r"(\w+) (\w+)", r"\2 \1\\", true, "one two"), r"two one\");
        assert_eq!(replaced("o", "0", false, "foo"), "f0o");
        assert_eq!(replaced(r"\d", "#", true, "1٣"), "#٣");
        let x = Tensor::from_strings([&b"abc"[..], b"abcd"], [2]).expect("tensor");
        let got = full_match(&x, b"a.c|x").expect("match");
        assert_eq!(got.as_slice::<Bool>().expect("bool"), [Bool::TRUE, Bool::FALSE]);
        assert!(compile(b"(").is_err());
    }
}
