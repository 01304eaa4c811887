//! Messages as text: `saved_model.pbtxt`, graphs in `.pbtxt` files.

use std::sync::LazyLock;

use modelark_artifact::{Error, Limits, Result};
use modelark_proto::{DESCRIPTORS, Message, bytes::Bytes};
use prost_reflect::text_format::FormatOptions;
use prost_reflect::{DescriptorPool, DynamicMessage};

/// The end of the names of files that hold a message as text.
pub(crate) const EXTENSION: &str = ".pbtxt";

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).ok());

/// The message of this name (such as `SavedModel`) that a text says.
///
/// # Errors
/// When it isn't such a text (the message tells the line), says a field that nobody knows, or is over the limits.
pub(crate) fn message_from_text<M: Message + Default>(
    name: &str,
    bytes: &[u8],
    limits: &Limits,
) -> Result<M> {
    M::decode(Bytes::from(encoded_from_text(name, bytes, limits)?))
        .map_err(|e| Error::corrupt(format!("this is no {name}")).because(e))
}

/// The same message encoded: the bytes that the binary form has.
///
/// # Errors
/// As [`message_from_text`].
pub(crate) fn encoded_from_text(name: &str, bytes: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    if bytes.len() as u64 > limits.text_bytes {
        return Err(Error::limit(format!("the text has {} bytes, over the limit", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| Error::corrupt("it isn't text").because(e))?;
    if depth(text) > limits.depth {
        return Err(Error::limit(format!("its messages nest more than {} deep", limits.depth)));
    }
    let descriptor = POOL.as_ref().and_then(|pool| pool.get_message_by_name(&format!("tensorflow.{name}")));
    let descriptor = descriptor.ok_or_else(|| Error::unsupported(format!("nothing describes {name}")))?;
    let message = DynamicMessage::parse_text_format(descriptor, text)
        .map_err(|e| Error::corrupt(format!("this is no {name} as text, or a damaged one")).because(e))?;
    Ok(message.encode_to_vec())
}

/// A message of this name as text.
///
/// # Errors
/// When nothing describes it.
pub(crate) fn message_to_text<M: Message>(name: &str, message: &M) -> Result<String> {
    let descriptor = POOL.as_ref().and_then(|pool| pool.get_message_by_name(&format!("tensorflow.{name}")));
    let descriptor = descriptor.ok_or_else(|| Error::unsupported(format!("nothing describes {name}")))?;
    let message = DynamicMessage::decode(descriptor, &message.encode_to_vec()[..])
        .map_err(|e| Error::invalid(format!("this is no {name}")).because(e))?;
    let options = FormatOptions::new().pretty(true);
    Ok(message.to_text_format_with_options(&options))
}

/// How deep the braces of a text nest, those in strings and comments not counted.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'{' | b'<' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b'>' | b']' => depth = depth.saturating_sub(1),
            b'#' => drop(bytes.find(|b| *b == b'\n')),
            b'"' | b'\'' => {
                while let Some(c) = bytes.next() {
                    match c {
                        b'\\' => drop(bytes.next()),
                        c if c == b => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelark_proto::{GraphDef, NodeDef, attr_value::Value};

    #[test]
    fn a_graph_is_read_from_text() {
        let text = br#"
            # A comment with { in it.
            node {
              name: "x" op: "Const"
              attr { key: "dtype" value { type: DT_FLOAT } }
              attr { key: "value" value { tensor { dtype: DT_FLOAT tensor_content: "\000\000\200?" } } }
            }
            node < name: 'y}' op: "Identity" input: ["x", "^x"] >
            versions { producer: 27 }
        "#;
        let graph: GraphDef = message_from_text("GraphDef", text, &Limits::default()).expect("a graph");
        let node = |i: usize| NodeDef::decode(&graph.node[i][..]).expect("a node");
        assert_eq!((node(1).input, node(1).name), (vec!["x".to_owned(), "^x".to_owned()], "y}".to_owned()));
        assert_eq!(node(0).attr["dtype"].value, Some(Value::Type(1)));
        let Some(Value::Tensor(tensor)) = &node(0).attr["value"].value else { panic!("a tensor") };
        assert_eq!(&tensor.tensor_content[..], 1f32.to_le_bytes());
    }

    #[test]
    fn bad_texts_are_refused() {
        let deep = "f{".repeat(100_000);
        for (text, part) in [
            ("node { nam: 1 }", "nam"),
            ("node {", "GraphDef"),
            (deep.as_str(), "nest"),
            ("node { name: \"x }", "GraphDef"),
            ("versions { producer: 99999999999 }", "GraphDef"),
        ] {
            let e = message_from_text::<GraphDef>("GraphDef", text.as_bytes(), &Limits::default());
            assert!(e.expect_err("bad").to_string().contains(part), "{part}");
        }
        assert!(message_from_text::<GraphDef>("GraphDef", &[0xff], &Limits::default()).is_err());
    }
}
