//! Texts as the printable protocol 0 spells them.

use modelark_artifact::Result;

use super::machine::wrong;

/// Text as protocol 0 spells it: Latin-1, with `\uXXXX` and `\UXXXXXXXX`.
pub(super) fn raw_unicode(line: &[u8]) -> Result<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let digits = match (byte, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                text.push(char::from(*byte));
                continue;
            }
        };
        let hex = after.get(1..=digits).and_then(|h| std::str::from_utf8(h).ok());
        let c = hex.and_then(|h| u32::from_str_radix(h, 16).ok()).and_then(char::from_u32);
        text.push(c.ok_or_else(|| wrong("a text has a damaged escape"))?);
        rest = after.get(digits + 1..).unwrap_or_default();
    }
    Ok(text)
}

/// A Python 2 string as protocol 0 spells it: in quotes, with escapes.
pub(super) fn quoted(line: &[u8]) -> Result<Vec<u8>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return Err(wrong("a string has no quotes")),
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'x') => {
                let mut digit = || bytes.next().and_then(|b| char::from(*b).to_digit(16));
                let high = digit().ok_or_else(|| wrong("a string has a damaged escape"))?;
                let low = digit().ok_or_else(|| wrong("a string has a damaged escape"))?;
                (high * 16 + low) as u8
            }
            Some(c @ (b'\\' | b'\'' | b'"')) => *c,
            _ => return Err(wrong("a string has an escape that isn't known")),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read() {
        assert_eq!(raw_unicode(b"a\\u00e9\\U0001F600\xe9\\n").expect("text"), "aé😀é\\n");
        assert_eq!(quoted(b"'a\\x00\\n\\\\'").expect("bytes"), b"a\0\n\\");
        for bad in [&b"'a"[..], b"a", b"'\\q'", b"'\\x1'"] {
            assert!(quoted(bad).is_err());
        }
        assert!(raw_unicode(b"\\u12").is_err() && raw_unicode(b"\\ud800").is_err());
    }
}
