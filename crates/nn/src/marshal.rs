//! What Python's bytecode names and holds, as CPython marshals it: read as data, never executed.

use std::fmt;
use std::rc::Rc;

/// What a function's code says of itself.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Code {
    /// The names of globals, attributes and modules that it uses, those of functions within it too.
    pub names: Vec<String>,
    /// Its constants: numbers and texts.
    pub constants: Vec<Constant>,
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constant {
    /// A number, as Python spells it.
    Number(String),
    /// A text.
    Text(String),
}

impl fmt::Display for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Constant::Number(number) => f.write_str(number),
            Constant::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// More levels of code in code, or tuples in tuples, than anybody writes.
const DEEPEST: usize = 32;
/// More objects than are worth looking at.
const MOST: usize = 4096;
/// The longest text that is shown.
const LONGEST: usize = 64;
/// The bit by which an object says that others refer to it.
const REFERENCED: u8 = 0x80;

impl Code {
    /// Reads the code of a function of Python 2.7, or of 3.4 and later; `None` where the bytes are no such code.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::of(bytes);
        match reader.object(0)? {
            Object::Code => Some(reader.code),
            _ => None,
        }
    }

    /// A sentence about it; empty where there is nothing to say.
    pub(crate) fn told(&self) -> String {
        const SHOWN: usize = 24;
        let list = |what: &str, all: Vec<String>| match all.len() {
            0 => None,
            _ => Some(format!("the {what} {}", all.into_iter().take(SHOWN).collect::<Vec<_>>().join(", "))),
        };
        let names = list("names", self.names.clone());
        let constants = list("constants", self.constants.iter().map(ToString::to_string).collect());
        let parts: Vec<String> = names.into_iter().chain(constants).collect();
        if parts.is_empty() { String::new() } else { format!("its bytecode has {}", parts.join(" and ")) }
    }

    fn name(&mut self, name: &str) {
        if !self.names.iter().any(|n| n == name) {
            self.names.push(name.to_owned());
        }
    }
}

/// An object as far as it matters here.
#[derive(Debug, Clone)]
enum Object {
    Constant(Constant),
    Tuple(Rc<[Object]>),
    Bytes,
    Code,
    Other,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Those that others may refer to.
    objects: Vec<Object>,
    /// The texts that Python 2 refers to.
    interned: Vec<Object>,
    /// How many objects more are looked at, lest references to references make a long story.
    left: usize,
    code: Code,
}

impl<'a> Reader<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0, objects: Vec::new(), interned: Vec::new(), left: MOST, code: Code::default() }
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn int(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_le_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.int()?).ok()
    }

    fn float(&mut self) -> Option<f64> {
        self.take(8)?.try_into().ok().map(f64::from_le_bytes)
    }

    /// A float that is spelt out.
    fn spelt(&mut self) -> Option<String> {
        let len = self.byte()?;
        String::from_utf8(self.take(len.into())?.to_vec()).ok()
    }

    fn object(&mut self, depth: usize) -> Option<Object> {
        if depth > DEEPEST {
            return None;
        }
        let code = self.byte()?;
        let kind = code & !REFERENCED;
        if kind == b'r' {
            let index = self.length()?;
            return self.objects.get(index).cloned();
        }
        // An object has its place among the others before its parts have theirs.
        let place = (code & REFERENCED != 0).then(|| {
            self.objects.push(Object::Other);
            self.objects.len() - 1
        });
        let number = |n: String| Object::Constant(Constant::Number(n));
        let object = match kind {
            b'N' | b'S' | b'.' | b'0' => Object::Other,
            b'T' => number("True".to_owned()),
            b'F' => number("False".to_owned()),
            b'i' => number(self.int()?.to_string()),
            b'I' => number(self.take(8)?.try_into().ok().map(i64::from_le_bytes)?.to_string()),
            b'l' => {
                // Fifteen bits in every two bytes; what doesn't fit isn't shown.
                let count = self.int()?;
                let digits = self.take(usize::try_from(count.unsigned_abs()).ok()?.checked_mul(2)?)?;
                let value = digits.chunks_exact(2).rev().try_fold(0i128, |n, d| {
                    n.checked_mul(1 << 15)?.checked_add(u16::from_le_bytes([d[0], d[1]]).into())
                });
                let sign = if count < 0 { -1 } else { 1 };
                value.map_or(Object::Other, |n| number((n * sign).to_string()))
            }
            b'g' => number(self.float()?.to_string()),
            b'f' => number(self.spelt()?),
            b'y' => number(format!("{}+{}j", self.float()?, self.float()?)),
            b'x' => number(format!("{}+{}j", self.spelt()?, self.spelt()?)),
            b's' => {
                let len = self.length()?;
                self.string(len, depth)?
            }
            b'a' | b'A' | b'u' | b't' => {
                let len = self.length()?;
                let text = self.text(len)?;
                if kind == b't' {
                    self.interned.push(text.clone());
                }
                text
            }
            b'z' | b'Z' => {
                let len = self.byte()?.into();
                self.text(len)?
            }
            // Python 2 refers to texts that it had before.
            b'R' => {
                let index = self.length()?;
                self.interned.get(index)?.clone()
            }
            b'(' | b'[' | b'<' | b'>' => {
                let len = self.length()?;
                self.items(len, depth)?
            }
            b')' => {
                let len = self.byte()?.into();
                self.items(len, depth)?
            }
            b'{' => {
                while self.bytes.get(self.at)? != &b'0' {
                    self.object(depth + 1)?;
                    self.object(depth + 1)?;
                }
                self.at += 1;
                Object::Other
            }
            b':' => {
                for _ in 0..3 {
                    self.object(depth + 1)?;
                }
                Object::Other
            }
            b'c' => self.code(depth)?,
            _ => return None,
        };
        if let Some(kept) = place.and_then(|place| self.objects.get_mut(place)) {
            *kept = object.clone();
        }
        Some(object)
    }

    /// Python 2's texts are bytes.
    fn string(&mut self, len: usize, depth: usize) -> Option<Object> {
        let bytes = self.take(len)?;
        let is_text = depth > 1 && bytes.iter().all(|c| (b' '..=b'~').contains(c));
        let text = std::str::from_utf8(bytes).ok().filter(|_| is_text && len <= LONGEST);
        Some(text.map_or(Object::Bytes, |t| Object::Constant(Constant::Text(t.to_owned()))))
    }

    fn text(&mut self, len: usize) -> Option<Object> {
        let text = String::from_utf8_lossy(self.take(len)?).chars().take(LONGEST).collect();
        Some(Object::Constant(Constant::Text(text)))
    }

    fn items(&mut self, len: usize, depth: usize) -> Option<Object> {
        // Each takes a byte at least.
        if len > self.bytes.len() {
            return None;
        }
        let mut items = Vec::new();
        for _ in 0..len {
            items.push(self.object(depth + 1)?);
        }
        Some(Object::Tuple(items.into()))
    }

    /// A code begins with counts, four to six by the version, and ends with where its lines are.
    fn code(&mut self, depth: usize) -> Option<Object> {
        // The counts end where the instructions begin, bytes of this length.
        let begins = |counts: &usize| {
            let mut reader = Reader { at: self.at + 4 * counts, ..Reader::of(self.bytes) };
            let is_bytes = reader.byte().is_some_and(|kind| kind & !REFERENCED == b's');
            is_bytes && reader.length().and_then(|len| reader.take(len)).is_some_and(|code| !code.is_empty())
        };
        let counts = [4, 5, 6].into_iter().find(begins)?;
        self.take(4 * counts)?;
        self.object(depth + 1)?;
        let constants = self.object(depth + 1)?;
        let names = self.object(depth + 1)?;
        self.tell(&constants, false);
        self.tell(&names, true);
        // Names of variables in three tuples, the file, the name; since 3.11 all in one, their kinds, the file, two names.
        self.object(depth + 1)?;
        let is_former = matches!(self.object(depth + 1)?, Object::Tuple(_));
        for _ in 0..3 {
            self.object(depth + 1)?;
        }
        // The first line's number, then a table, or two.
        self.int()?;
        for _ in 0..if is_former { 1 } else { 2 } {
            self.object(depth + 1)?;
        }
        Some(Object::Code)
    }

    fn tell(&mut self, object: &Object, are_names: bool) {
        let Some(left) = self.left.checked_sub(1) else { return };
        self.left = left;
        match object {
            Object::Constant(Constant::Text(text)) if are_names => self.code.name(text),
            // The name of a function within is no constant of use.
            Object::Constant(Constant::Text(text)) if text.starts_with('<') => {}
            Object::Constant(constant) if !self.code.constants.contains(constant) => {
                self.code.constants.push(constant.clone());
            }
            Object::Tuple(items) => items.iter().for_each(|item| self.tell(item, are_names)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex")).collect()
    }

    fn seen(hex: &str) -> String {
        Code::read(&bytes(hex)).expect("code").told()
    }

    /// `lambda x: K.sum([v + 7 for v in x], axis=-1) * 0.5`, as each Python marshals it.
    const SAMPLES: &[(&str, &str)] = &[
        (
            "2.7",
            "6301000000020000000500000043000000732e0000007400006a01006700007c0000445d10007d01007c0100640100175e0200710d00640200640300830101640400145328050000004e690700000074040000006178697369ffffffff67000000000000e03f280200000074010000004b740300000073756d28020000007401000000787401000000762800000000280000000073040000006d2e707974080000003c6c616d6264613e020000007400000000",
        ),
        (
            "3.10",
            "63010000000000000000000000010000000400000043000000f31c00000074006a016401640284007c0044008301640364048d02640514005300a9064e63010000000000000000000000020000000400000053000000731400000067007c005d067d017c01640017009102710253002901e907000000a9002902da022e30da017672030000007203000000fa0d2f746d702f6b2f702f6d2e7079da0a3c6c697374636f6d703e02000000730200000014007a1c3c6c616d6264613e2e3c6c6f63616c733e2e3c6c697374636f6d703ee9ffffffff2901da0461786973e7000000000000e03fa902da014bda0373756da901da017872030000007203000000da0166da083c6c616d6264613e02000000f300000000",
        ),
        (
            "3.11",
            "630100000000000000000000000400000003000000f3540000009700740000000000000000000000a0010000000000000000000000000000000000000000640184007c004400a6000000ab0000000000000000006402ac03a6020000ab02000000000000000064047a0500005300a9054e630100000000000000000000000400000013000000f318000000970067007c005d077d017c0164007a00000091028c0853002901e907000000a9002902da022e30da017673020000002020fa0d2f746d702f6b2f702f6d2e7079fa0a3c6c697374636f6d703e7a1c3c6c616d6264613e2e3c6c6f63616c733e2e3c6c697374636f6d703e02000000731c0000008000d01222d01222d012229831903190519133d01222d01222d01222f300000000e9ffffffff2901da0461786973e7000000000000e03fa902da014bda0373756d2901da0178730100000020da0166fa083c6c616d6264613e72120000000200000072090000007209000000",
        ),
        (
            "3.12",
            "630100000000000000000000000700000003000000f3620000009700740000000000000000006a030000000000000000000000000000000000007c0044008f016302670063025d0700007d017c0164017a00000091028c09040063027d016402ac03ab0200000000000064047a05000053006302010063027d017700a9054ee907000000e9ffffffff2901da0461786973e7000000000000e03fa902da014bda0373756d2902da0178da017673020000002020da0166fa083c6c616d6264613e720c00000002000000f300000000f304000000940c2c08",
        ),
        (
            "3.13",
            "630100000000000000000000000700000003000000f35e00000095005b000000000000000000520300000000000000000000000000000000000055001300560173022f007302480700006f1153012d00000050024d0900000b00200073026e0153025303390253042d05000024007302200073026e016600a9054ee907000000e9ffffffff2901da0461786973e7000000000000e03fa902da014bda0373756d2902da0178da017673020000002020da0166da083c6c616d6264613e720c00000002000000f300000000f304000000940d2a08",
        ),
        (
            "3.6",
            "e30100000000000000010000000400000043000000731c00000074006a016401640284007c0044008301640664048d0264051400530029074e630100000000000000020000000400000053000000731400000067007c005d0c7d017c01640017009102710453002901e907000000a9002902da022e30da017672020000007202000000fa046d2e7079fa0a3c6c697374636f6d703e02000000730200000006007a1c3c6c616d6264613e2e3c6c6f63616c733e2e3c6c697374636f6d703ee9010000002901da0461786973e7000000000000e03fe9ffffffff2902da014bda0373756d2901da0178720200000072020000007205000000da083c6c616d6264613e020000007300000000",
        ),
        (
            "3.7",
            "e30100000000000000010000000400000043000000731c00000074006a016401640284007c0044008301640364048d0264051400530029064e630100000000000000020000000400000053000000731400000067007c005d0c7d017c01640017009102710453002901e907000000a9002902da022e30da017672020000007202000000fa046d2e7079fa0a3c6c697374636f6d703e02000000730200000006007a1c3c6c616d6264613e2e3c6c6f63616c733e2e3c6c697374636f6d703ee9ffffffff2901da0461786973e7000000000000e03f2902da014bda0373756d2901da0178720200000072020000007205000000da083c6c616d6264613e02000000f300000000",
        ),
        (
            "3.8",
            "e3010000000000000000000000010000000400000043000000731c00000074006a016401640284007c0044008301640364048d0264051400530029064e63010000000000000000000000020000000400000053000000731400000067007c005d0c7d017c01640017009102710453002901e907000000a9002902da022e30da017672020000007202000000fa046d2e7079da0a3c6c697374636f6d703e020000007304000000060002007a1c3c6c616d6264613e2e3c6c6f63616c733e2e3c6c697374636f6d703ee9ffffffff2901da0461786973e7000000000000e03f2902da014bda0373756d2901da0178720200000072020000007205000000da083c6c616d6264613e02000000f300000000",
        ),
        (
            "3.9",
            "e3010000000000000000000000010000000400000043000000731c00000074006a016401640284007c0044008301640364048d0264051400530029064e63010000000000000000000000020000000400000053000000731400000067007c005d0c7d017c01640017009102710453002901e907000000a9002902da022e30da017672020000007202000000fa0d2f746d702f6b2f702f6d2e7079da0a3c6c697374636f6d703e02000000f3000000007a1c3c6c616d6264613e2e3c6c6f63616c733e2e3c6c697374636f6d703ee9ffffffff2901da0461786973e7000000000000e03f2902da014bda0373756d2901da0178720200000072020000007205000000da083c6c616d6264613e020000007207000000",
        ),
    ];

    #[test]
    fn code_of_every_python_is_read() {
        for (python, code) in SAMPLES {
            let told = seen(code);
            for word in ["K", "sum", "7", "-1", "0.5"] {
                let word = |part: &str| part.split([' ', ',']).any(|w| w == word);
                assert!(word(&told), "{python}: {told}");
            }
            assert!(!told.contains("listcomp"), "{python}: {told}");
        }
    }

    #[test]
    fn damaged_code_is_none() {
        for bytes in [&b""[..], b"c", b"(\xff\xff\xff\x7f", b"r\0\0\0\0", b")\x01)\x01"] {
            assert_eq!(Code::read(bytes), None);
        }
    }

    #[test]
    fn any_damage_is_borne() {
        for (_, code) in SAMPLES {
            let whole = bytes(code);
            for end in 0..whole.len() {
                Code::read(&whole[..end]);
                for byte in [0, b'(', b'r', b'c', 0xff] {
                    let mut damaged = whole.clone();
                    damaged[end] = byte;
                    Code::read(&damaged);
                }
            }
        }
    }
}
