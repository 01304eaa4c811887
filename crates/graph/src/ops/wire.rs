//! Protocol buffers on the wire, read field by field and written.

/// A protocol buffer's fields, one after another.
#[derive(Clone)]
pub(super) struct Fields<'a>(pub &'a [u8]);

/// A field's value on the wire.
pub(super) enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    Fixed64(u64),
}

impl<'a> Fields<'a> {
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    /// The next field's number and the kind of its value; `None` at the end, or where the message is broken.
    pub(super) fn tag(&mut self) -> Option<(u64, u64)> {
        let tag = self.varint()?;
        Some((tag >> 3, tag & 7))
    }

    /// Bytes with their length before them.
    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let n = usize::try_from(self.varint()?).ok()?;
        self.take(n)
    }

    /// Passes over the value of the field `number`, groups of fields included.
    pub(super) fn skip(&mut self, number: u64, kind: u64) -> Option<()> {
        let mut open = Vec::new();
        let (mut number, mut kind) = (number, kind);
        loop {
            match kind {
                0 => drop(self.varint()?),
                1 => drop(self.take(8)?),
                2 => drop(self.text()?),
                3 => open.push(number),
                4 if open.pop() == Some(number) => {}
                5 => drop(self.take(4)?),
                _ => return None,
            }
            if open.is_empty() {
                return Some(());
            }
            (number, kind) = self.tag()?;
        }
    }

    /// The next field's number and value; `None` at the end, or where the message is broken.
    pub(super) fn next(&mut self) -> Option<(u64, Wire<'a>)> {
        let (number, kind) = self.tag()?;
        let value = match kind {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => Wire::Bytes(self.text()?),
            5 => Wire::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((number, value))
    }

    /// The contents of every field of this number that holds bytes; `None` when the message is broken.
    pub(super) fn messages(mut self, number: u64) -> Option<Vec<&'a [u8]>> {
        let mut found = Vec::new();
        while !self.0.is_empty() {
            if let (n, Wire::Bytes(b)) = self.next()?
                && n == number
            {
                found.push(b);
            }
        }
        Some(found)
    }
}

/// A protocol buffer that is being written.
#[derive(Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// A bare number, of no field.
    pub(super) fn plain(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A number of the kinds that are written in as many bytes as they need.
    pub(super) fn varint(&mut self, field: u64, value: u64) -> &mut Self {
        self.plain(field << 3);
        self.plain(value);
        self
    }

    /// Bytes, text, or a message within this one.
    pub(super) fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.plain(field << 3 | 2);
        self.plain(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A `float`.
    pub(super) fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.plain(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A `double`.
    pub(super) fn double(&mut self, field: u64, value: f64) -> &mut Self {
        self.plain(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Several of `double` in one field.
    pub(super) fn doubles(&mut self, field: u64, values: &[f64]) -> &mut Self {
        self.bytes(field, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Bytes as they are, of no field.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// What was written.
    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut m = Message::default();
        m.varint(3, 300).bytes(4, b"xy").float(5, 1.5).double(6, -2.0);
        let bytes = m.finish();
        let mut fields = Fields(&bytes);
        assert!(matches!(fields.next(), Some((3, Wire::Varint(300)))));
        assert!(matches!(fields.next(), Some((4, Wire::Bytes(b"xy")))));
        assert!(matches!(fields.next(), Some((5, Wire::Fixed32(v))) if f32::from_bits(v) == 1.5));
        assert!(matches!(fields.next(), Some((6, Wire::Fixed64(v))) if f64::from_bits(v) == -2.0));
        assert!(fields.next().is_none());
    }

    #[test]
    fn groups_are_passed_over_as_far_as_they_are_whole() {
        // Field 9 is a group with the field 1 and a group 2 of its own.
        let bytes = [0x4b, 0x08, 0x01, 0x13, 0x14, 0x4c, 0x08, 0x07];
        let mut fields = Fields(&bytes);
        assert_eq!(fields.tag(), Some((9, 3)));
        assert_eq!(fields.skip(9, 3), Some(()));
        assert!(matches!(fields.next(), Some((1, Wire::Varint(7)))));
        for end in 1..6 {
            assert_eq!(Fields(&bytes[1..end]).skip(9, 3), None);
        }
        assert_eq!(Fields(&[0x14]).skip(9, 3), None, "the end of another group");
    }
}
