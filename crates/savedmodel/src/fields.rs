//! Encoded messages, looked into without decoding them.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// A field of an encoded message: its number, its wire type, and its content where that is bytes.
pub(crate) type Field<'a> = (u32, WireType, &'a [u8]);

/// The fields of an encoded message, in its order; none where the bytes are no message.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Fields(message)
    }

    fn read(&mut self) -> Option<Field<'a>> {
        let (tag, wire) = decode_key(&mut self.0).ok()?;
        if wire != WireType::LengthDelimited {
            skip_field(wire, tag, &mut self.0, DecodeContext::default()).ok()?;
            return Some((tag, wire, &[]));
        }
        let len = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
        let (content, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, wire, content))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            // Where one is damaged, nobody knows where the next begins.
            self.0 = &[];
        }
        Some(field)
    }
}

/// What the fields of number `tag` hold that are bytes, strings or messages.
///
/// None stands for bytes that are no message.
pub(crate) fn contents(message: &[u8], tag: u32) -> impl Iterator<Item = Option<&[u8]>> {
    Fields::of(message).filter_map(move |field| match field {
        Some((number, WireType::LengthDelimited, content)) if number == tag => Some(Some(content)),
        Some(_) => None,
        None => Some(None),
    })
}

/// The last content of a field, which is the one that counts; `Err` for bytes that are no message.
pub(crate) fn last(message: &[u8], tag: u32) -> Result<Option<&[u8]>, ()> {
    contents(message, tag).try_fold(None, |_, content| content.map(Some).ok_or(()))
}

/// The numbers and wire types of a message's own fields, if the bytes are one; runs of the same told once.
pub(crate) fn kinds(message: &[u8]) -> Option<Vec<(u32, WireType)>> {
    let mut kinds: Vec<(u32, WireType)> =
        Fields::of(message).map(|f| f.map(|(tag, wire, _)| (tag, wire))).collect::<Option<_>>()?;
    kinds.dedup();
    Some(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelark_proto::{Message, NodeDef, VersionDef};

    #[test]
    fn fields_are_found_without_decoding() {
        let node = NodeDef { op: "Op".into(), input: vec!["a".into(), "b".into()], ..NodeDef::default() };
        let bytes = node.encode_to_vec();
        assert_eq!(last(&bytes, 2), Ok(Some(&b"Op"[..])));
        assert_eq!(last(&bytes, 4), Ok(None));
        assert_eq!(contents(&bytes, 3).collect::<Vec<_>>(), [Some(&b"a"[..]), Some(b"b")]);
        let numbers = VersionDef { producer: 300, ..VersionDef::default() }.encode_to_vec();
        assert_eq!(Fields::of(&numbers).collect::<Vec<_>>(), [Some((1, WireType::Varint, &[][..]))]);
    }

    #[test]
    fn what_is_no_message_ends() {
        for bytes in [&b"\xff"[..], b"\x0a\x05ab", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b"] {
            assert_eq!(Fields::of(bytes).last(), Some(None));
            assert_eq!(last(bytes, 1), Err(()));
        }
    }
}
