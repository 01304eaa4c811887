//! Regular expressions on strings, as RE2 reads them.

use regex::bytes::{Captures, Regex, RegexBuilder};

use super::Op;
use super::args::{map1, one, tensors};
use crate::engine::kernel;
use crate::tensor::{self, Bool, Tensor};
use crate::{Error, Result};

/// Compiles a pattern of RE2's. There `\d`, `\w`, `\s` and `\b` mean ASCII, while all else is Unicode.
fn compile(pattern: &[u8]) -> Result<Regex> {
    let text = std::str::from_utf8(pattern).map_err(|_| Error::compute("the pattern isn't UTF-8"))?;
    let mut ascii = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            ascii.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => ascii.push_str("[0-9]"),
            Some('D') => ascii.push_str("[^0-9]"),
            Some('w') => ascii.push_str("[0-9A-Za-z_]"),
            Some('W') => ascii.push_str("[^0-9A-Za-z_]"),
            Some('s') => ascii.push_str("[\\t\\n\\f\\r ]"),
            Some('S') => ascii.push_str("[^\\t\\n\\f\\r ]"),
            Some('b') => ascii.push_str("(?-u:\\b)"),
            Some('B') => ascii.push_str("(?-u:\\B)"),
            Some('C') => ascii.push_str("(?s-u:.)"),
            // Rust's syntax reserves escapes of letters and digits; of anything else it reads them as RE2 does.
            Some(other) => {
                ascii.push('\\');
                ascii.push(other);
            }
            None => ascii.push('\\'),
        }
    }
    RegexBuilder::new(&ascii)
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

/// What a match is replaced by: `\0` to `\9` are groups, `\\` is a backslash.
fn rewrite(rewrite: &[u8], found: &Captures<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(rewrite.len());
    let mut bytes = rewrite.iter();
    while let Some(&b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match bytes.next() {
            Some(d) if d.is_ascii_digit() => {
                out.extend_from_slice(found.get((d - b'0').into()).map_or(&[][..], |m| m.as_bytes()));
            }
            Some(other) => out.push(*other),
            None => out.push(b'\\'),
        }
    }
    out
}

fn replace(x: &Tensor, regex: &Regex, with: &[u8], all: bool) -> tensor::Result<Tensor> {
    let limit = if all { 0 } else { 1 };
    let change = |s: &tensor::ByteString| regex.replacen(s, limit, |c: &Captures<'_>| rewrite(with, c)).into_owned();
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
    }),
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
    }),
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
