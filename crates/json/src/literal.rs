//! Python literals, as the header of an `.npy` file is one: strings, numbers, tuples, lists, dicts, constants.
//!
//! Nothing is evaluated: names other than `True`, `False` and `None`, operators and calls are errors.

use modelark_artifact::{Error, Result};

/// A Python literal.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer; Python 2's suffix `L` is dropped.
    Int(i64),
    /// Text (also `u'…'` and `b'…'`).
    String(String),
    /// `(…)`.
    Tuple(Vec<Literal>),
    /// `[…]`.
    List(Vec<Literal>),
    /// `{…}` in the order of the text.
    Dict(Vec<(Literal, Literal)>),
}

/// Parses one literal that takes all of `text` but white space around it, nested no deeper than `depth`.
///
/// # Errors
/// When the text isn't a literal; the place is the offset in it.
pub fn parse(text: &str, depth: usize) -> Result<Literal> {
    let mut parser = Parser { text: text.as_bytes(), at: 0 };
    let literal = parser.value(depth)?;
    parser.space();
    if parser.at < parser.text.len() {
        return Err(parser.error("something follows the literal"));
    }
    Ok(literal)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn error(&self, message: &str) -> Error {
        Error::corrupt(message).at(format!("offset {} of the header", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace() || b == 0) {
            self.at += 1;
        }
    }

    /// Takes `byte` after white space, if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Literal> {
        let inner = depth.checked_sub(1).ok_or_else(|| Error::limit("the header nests too deep"))?;
        self.space();
        match self.peek() {
            Some(b'\'' | b'"') => self.string().map(Literal::String),
            Some(b'(') => self.tuple(inner),
            Some(b'[') => Ok(Literal::List(self.items(b'[', b']', inner)?.0)),
            Some(b'{') => self.dict(inner),
            Some(b'-' | b'+' | b'0'..=b'9') => self.integer(),
            Some(b) if b.is_ascii_alphabetic() => self.word(),
            Some(_) => Err(self.error("this isn't a Python literal")),
            None => Err(self.error("the literal breaks off")),
        }
    }

    /// The items between two brackets, and whether a comma followed the last one.
    fn items(&mut self, open: u8, close: u8, depth: usize) -> Result<(Vec<Literal>, bool)> {
        self.take(open);
        let mut items = Vec::new();
        let mut comma = false;
        while !self.take(close) {
            if !items.is_empty() && !comma {
                return Err(self.error("a comma is missing"));
            }
            items.push(self.value(depth)?);
            comma = self.take(b',');
        }
        Ok((items, comma))
    }

    fn tuple(&mut self, depth: usize) -> Result<Literal> {
        let (mut items, comma) = self.items(b'(', b')', depth)?;
        Ok(match items.pop() {
            Some(only) if items.is_empty() && !comma => only,
            last => Literal::Tuple(items.into_iter().chain(last).collect()),
        })
    }

    fn dict(&mut self, depth: usize) -> Result<Literal> {
        self.take(b'{');
        let mut items = Vec::new();
        let mut comma = true;
        while !self.take(b'}') {
            if !comma {
                return Err(self.error("a comma is missing"));
            }
            let key = self.value(depth)?;
            if !self.take(b':') {
                return Err(self.error("a colon is missing"));
            }
            items.push((key, self.value(depth)?));
            comma = self.take(b',');
        }
        Ok(Literal::Dict(items))
    }

    fn integer(&mut self) -> Result<Literal> {
        let start = self.at;
        self.at += 1;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        let digits = self.text.get(start..self.at).and_then(|d| std::str::from_utf8(d).ok());
        let value = digits
            .and_then(|d| d.parse().ok())
            .ok_or_else(|| self.error("this isn't an integer of 64 bits"))?;
        if matches!(self.peek(), Some(b'L' | b'l')) {
            self.at += 1;
        }
        Ok(Literal::Int(value))
    }

    fn word(&mut self) -> Result<Literal> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') {
            self.at += 1;
        }
        let word = self.text.get(start..self.at).unwrap_or_default();
        match (word, self.peek()) {
            (b"True", _) => Ok(Literal::Bool(true)),
            (b"False", _) => Ok(Literal::Bool(false)),
            (b"None", _) => Ok(Literal::None),
            (b"u" | b"b" | b"U" | b"B", Some(b'\'' | b'"')) => self.string().map(Literal::String),
            _ => {
                let name = String::from_utf8_lossy(word).into_owned();
                Err(self.error(&format!("the name {name:?} isn't a literal")))
            }
        }
    }

    fn string(&mut self) -> Result<String> {
        let quote = self.peek();
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let byte = self.peek().ok_or_else(|| self.error("a string breaks off"))?;
            self.at += 1;
            match byte {
                b if Some(b) == quote => break,
                b'\\' => self.escape(&mut bytes)?,
                b => bytes.push(b),
            }
        }
        String::from_utf8(bytes).map_err(|_| self.error("a string isn't text"))
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let byte = self.peek().ok_or_else(|| self.error("a string breaks off"))?;
        self.at += 1;
        let plain = match byte {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            other => other,
        };
        let digits = match byte {
            b'n' | b't' | b'r' | b'\\' | b'\'' | b'"' => {
                out.push(plain);
                return Ok(());
            }
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            _ => return Err(self.error("an escape that isn't known")),
        };
        let hex = self.text.get(self.at..self.at + digits).and_then(|d| std::str::from_utf8(d).ok());
        let code = hex.and_then(|h| u32::from_str_radix(h, 16).ok()).and_then(char::from_u32);
        let c = code.ok_or_else(|| self.error("an escape that isn't a character"))?;
        self.at += digits;
        out.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: Literal) {
        assert_eq!(parse(text, 8).expect(text), wanted, "{text}");
    }

    #[test]
    fn literals_of_all_kinds() {
        use Literal::*;
        check(" (2L,) ", Tuple(vec![Int(2)]));
        check("()", Tuple(vec![]));
        check("(7)", Int(7));
        check("[-1, \"a\\x41\",]", List(vec![Int(-1), String("aA".into())]));
        check("{'descr':'<f4'}\n", Dict(vec![(String("descr".into()), String("<f4".into()))]));
        check("u'\\u00e9'", String("é".into()));
        check("[True, False, None]", List(vec![Bool(true), Bool(false), None]));
    }

    #[test]
    fn what_is_no_literal_is_refused() {
        for text in
            ["", "(1", "{1:2 3:4}", "__import__('os')", "1 2", "'a", "[1 2]", "99999999999999999999", "'\\q'"]
        {
            assert!(parse(text, 8).is_err(), "{text}");
        }
        assert!(parse(&"[".repeat(100_000), 128).is_err());
    }
}
