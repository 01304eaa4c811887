//! The numbers and texts that MLIR bytecode is made of.

use crate::{Error, Result};

/// Bytes that are read from front to back. It knows where in the module they lie.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Bytes { rest: bytes, offset: 0 }
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn error(&self, message: impl Into<String>) -> Error {
        Error::new(message).at(self.offset)
    }

    /// The next `count` bytes, as bytes of their own.
    pub(crate) fn part(&mut self, count: u64) -> Result<Bytes<'a>> {
        let count = usize::try_from(count).ok().filter(|n| *n <= self.rest.len());
        let count = count.ok_or_else(|| self.error("it ends too early"))?;
        let (part, rest) = self.rest.split_at(count);
        let part = Bytes { rest: part, offset: self.offset };
        self.rest = rest;
        self.offset += count;
        Ok(part)
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        Ok(self.part(count)?.rest)
    }

    pub(crate) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    /// A number whose first byte tells by its low bits how many more there are.
    pub(crate) fn number(&mut self) -> Result<u64> {
        let first = self.byte()?;
        let more = first.trailing_zeros() as usize;
        let mut bytes = [0u8; 8];
        if more == 8 {
            bytes.copy_from_slice(self.take(8)?);
            return Ok(u64::from_le_bytes(bytes));
        }
        let rest = self.take(more as u64)?;
        for (to, from) in bytes.iter_mut().zip([first].iter().chain(rest)) {
            *to = *from;
        }
        Ok(u64::from_le_bytes(bytes) >> (more + 1))
    }

    /// A number and the flag in its lowest bit.
    pub(crate) fn flagged(&mut self) -> Result<(u64, bool)> {
        let number = self.number()?;
        Ok((number >> 1, number & 1 == 1))
    }

    /// A number with a sign in its lowest bit.
    pub(crate) fn signed(&mut self) -> Result<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// How many of something follow, each of at least one byte.
    pub(crate) fn count(&mut self) -> Result<usize> {
        let count = self.number()?;
        usize::try_from(count).ok().filter(|n| *n <= self.rest.len()).ok_or_else(|| {
            self.error(format!("it counts {count} of what {} bytes can't hold", self.rest.len()))
        })
    }

    /// A list of numbers with signs.
    pub(crate) fn all_signed(&mut self) -> Result<Vec<i64>> {
        (0..self.count()?).map(|_| self.signed()).collect()
    }

    /// A list of plain numbers.
    pub(crate) fn all(&mut self) -> Result<Vec<u64>> {
        (0..self.count()?).map(|_| self.number()).collect()
    }

    /// Text that a zero ends.
    pub(crate) fn ended_text(&mut self) -> Result<&'a [u8]> {
        let end = self.rest.iter().position(|b| *b == 0).ok_or_else(|| self.error("a text has no end"))?;
        let text = self.take(end as u64)?;
        self.byte()?;
        Ok(text)
    }

    /// A section: its number and its content. `None` at the end.
    pub(crate) fn section(&mut self) -> Result<(u8, Bytes<'a>)> {
        let head = self.byte()?;
        let length = self.number()?;
        if head & 0x80 != 0 {
            let alignment = self.number()?;
            if !alignment.is_power_of_two() || alignment > 1 << 20 {
                return Err(self.error(format!("a section is aligned to {alignment} bytes")));
            }
            let over = self.offset as u64 % alignment;
            let padding = if over == 0 { 0 } else { alignment - over };
            self.take(padding)?;
        }
        Ok((head & 0x7f, self.part(length)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_their_first_byte_says() {
        let cases: [(&[u8], u64); 5] = [
            (&[0x01], 0),
            (&[0xff], 127),
            (&[0x02, 0x02], 128),
            (&[0x04, 0x00, 0x02], 1 << 14),
            (&[0x00, 1, 0, 0, 0, 0, 0, 0, 0x80], (1 << 63) + 1),
        ];
        for (bytes, want) in cases {
            let mut bytes = Bytes::new(bytes);
            assert_eq!(bytes.number().expect("number"), want);
            assert!(bytes.is_empty());
        }
        assert!(Bytes::new(&[0x02]).number().is_err());
        assert_eq!(Bytes::new(&[0x07]).signed().expect("signed"), -2);
        assert_eq!(
            Bytes::new(&[0, 255, 255, 255, 255, 255, 255, 255, 255]).signed().expect("signed"),
            i64::MIN
        );
    }

    #[test]
    fn counts_are_held_to_what_follows() {
        assert!(Bytes::new(&[0x09, 1, 2, 3]).count().is_err());
        assert_eq!(Bytes::new(&[0x07, 1, 2, 3]).count().expect("count"), 3);
    }
}
