//! The bytes and texts that a pickle spells out, whatever it does with them.

use modelark_artifact::tensor::SharedBytes;

use super::opcode::{self, Argument};

/// Bytes that stand in a pickle as one constant.
#[derive(Debug, Clone)]
pub enum Constant {
    /// Bytes, a part of the pickle's own.
    Bytes(SharedBytes),
    /// UTF-8: protocols up to 2 spell bytes as a text, a character a byte.
    Text(SharedBytes),
}

impl Constant {
    /// The constant's first bytes, at most so many.
    pub fn start(&self, len: usize) -> Vec<u8> {
        match self {
            Constant::Bytes(bytes) => bytes.iter().copied().take(len).collect(),
            // A character has four bytes at most.
            Constant::Text(text) => {
                let head = text.get(..text.len().min(len.saturating_mul(4))).unwrap_or_default();
                characters(&String::from_utf8_lossy(head)).take(len).flatten().collect()
            }
        }
    }

    /// The bytes meant; `None` for a text that spells none.
    pub fn bytes(&self) -> Option<SharedBytes> {
        match self {
            Constant::Bytes(bytes) => Some(bytes.clone()),
            Constant::Text(text) => {
                let text = std::str::from_utf8(text).ok()?;
                characters(text).collect::<Option<Vec<u8>>>().map(SharedBytes::from)
            }
        }
    }
}

fn characters(text: &str) -> impl Iterator<Item = Option<u8>> + '_ {
    text.chars().map(|c| u8::try_from(c).ok())
}

/// The bytes and texts in a pickle, in order. Its opcodes are passed over one by one; none of them is executed. What
/// breaks off, or is no pickle, has those before that place.
pub fn constants(pickle: &SharedBytes) -> impl Iterator<Item = Constant> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let code = *pickle.get(at)?;
            let start = at.checked_add(1)?;
            let rest = pickle.get(start..)?;
            let (from, len) = match opcode::argument(code)? {
                Argument::Bytes(len) => (0, len),
                Argument::Lines(count) => (0, lines(rest, count)?),
                Argument::Counted(width) => {
                    let mut count = [0; 8];
                    count.get_mut(..width)?.copy_from_slice(rest.get(..width)?);
                    (width, usize::try_from(u64::from_le_bytes(count)).ok()?)
                }
            };
            let start = start.checked_add(from)?;
            at = start.checked_add(len)?;
            let bytes = pickle.slice(start..at)?;
            match code {
                b'.' => return None,
                b'B' | b'C' | 0x8e | 0x96 => return Some(Constant::Bytes(bytes)),
                b'X' | 0x8c | 0x8d => return Some(Constant::Text(bytes)),
                _ => {}
            }
        }
    })
}

/// How long so many lines are.
fn lines(bytes: &[u8], count: usize) -> Option<usize> {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    ends.take(count).nth(count.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pickle: &[u8]) -> Vec<Vec<u8>> {
        constants(&SharedBytes::from(pickle.to_vec())).filter_map(|c| c.bytes()).map(|b| b.to_vec()).collect()
    }

    #[test]
    fn constants_are_found_behind_what_is_never_called() {
        // Of protocol 4: os.system("x"), then b"PK".
        assert_eq!(
            all(b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x01x\x85R\x94C\x02PK."),
            [&b"os"[..], b"system", b"x", b"PK"]
        );
        // Of protocol 2: _codecs.encode("\u00ffP", "latin1").
        assert_eq!(
            all(b"\x80\x02c_codecs\nencode\nX\x03\0\0\0\xc3\xbfPX\x06\0\0\0latin1\x86R."),
            [&b"\xffP"[..], b"latin1"]
        );
    }

    #[test]
    fn what_is_no_pickle_has_none() {
        for bytes in
            [&b""[..], b"B", b"B\xff\xff\xff\xff", b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff", b"cx", b"\xff"]
        {
            assert!(all(bytes).is_empty());
        }
    }
}
