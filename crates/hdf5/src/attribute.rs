//! Attributes: what is said about a group or a dataset.

use hdf5_pure::AttrValue;

/// The value of an attribute.
///
/// Reading knows no difference between ASCII and UTF-8, nor between fixed and variable lengths, beyond the variant:
/// ask with [`Attribute::as_str`] and [`Attribute::as_list`]. Writing does, since old readers do.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A string of variable length, declared as ASCII: h5py's `bytes`.
    Ascii(String),
    /// A string of variable length, declared as UTF-8: h5py's `str`.
    Utf8(String),
    /// Strings of variable length, declared as ASCII.
    AsciiList(Vec<String>),
    /// Strings of variable length, declared as UTF-8.
    Utf8List(Vec<String>),
    /// Strings in slots of one width, padded with NUL: an array of NumPy's `S` type.
    FixedList(Vec<String>),
    /// A whole number.
    Int(i64),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// A number.
    Float(f64),
    /// Numbers.
    Floats(Vec<f64>),
}

impl Attribute {
    /// A list of names as h5py writes a Python list: strings, or for an empty one no numbers at all.
    pub fn list(names: Vec<String>) -> Self {
        if names.is_empty() { Attribute::Floats(Vec::new()) } else { Attribute::AsciiList(names) }
    }

    /// The text of a single string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Attribute::Ascii(s) | Attribute::Utf8(s) => Some(s),
            _ => None,
        }
    }

    /// The strings of a list. An empty list of numbers is an empty list: that is how h5py writes one.
    pub fn as_list(&self) -> Option<&[String]> {
        match self {
            Attribute::AsciiList(l) | Attribute::Utf8List(l) | Attribute::FixedList(l) => Some(l),
            Attribute::Floats(f) if f.is_empty() => Some(&[]),
            Attribute::Ints(i) if i.is_empty() => Some(&[]),
            _ => None,
        }
    }

    /// What was read, or `None` for a kind of value that no Keras file holds.
    pub(crate) fn from_pure(value: &AttrValue) -> Option<Self> {
        use AttrValue as V;
        match value {
            V::VarLenString(s) | V::String(s) | V::StringSized { value: s, .. } => {
                return Some(Attribute::Utf8(s.clone()));
            }
            V::VarLenAsciiString(s) | V::AsciiString(s) | V::AsciiStringSized { value: s, .. } => {
                return Some(Attribute::Ascii(s.clone()));
            }
            V::VarLenAsciiStringArray(l) | V::VarLenAsciiCharArray(l) => {
                return Some(Attribute::AsciiList(l.clone()));
            }
            V::VarLenStringArray(l) => return Some(Attribute::Utf8List(l.clone())),
            V::I8Array(_) | V::I16Array(_) | V::I32Array(_) | V::I64Array(_) => {
                return value.to_i64s().map(Attribute::Ints);
            }
            V::F32Array(_) | V::F64Array(_) => return value.to_f64s().map(Attribute::Floats),
            _ => {}
        }
        if let Some(list) = value.as_strings() {
            return Some(Attribute::FixedList(list.to_vec()));
        }
        if let Some(n) = value.as_i64() {
            return Some(Attribute::Int(n));
        }
        if let Some(x) = value.as_f64() {
            return Some(Attribute::Float(x));
        }
        value.to_i64s().map(Attribute::Ints).or_else(|| value.to_f64s().map(Attribute::Floats))
    }

    /// What to write with the pure writer.
    #[cfg_attr(feature = "libhdf5", allow(dead_code, reason = "the C library writes then"))]
    pub(crate) fn to_pure(&self) -> AttrValue {
        match self.clone() {
            Attribute::Ascii(s) => AttrValue::VarLenAsciiString(s),
            Attribute::Utf8(s) => AttrValue::VarLenString(s),
            Attribute::AsciiList(l) => AttrValue::VarLenAsciiStringArray(l),
            Attribute::Utf8List(l) => AttrValue::VarLenStringArray(l),
            Attribute::FixedList(l) => AttrValue::AsciiStringArray(l),
            Attribute::Int(n) => AttrValue::I64(n),
            Attribute::Ints(n) => AttrValue::I64Array(n),
            Attribute::Float(x) => AttrValue::F64(x),
            Attribute::Floats(x) => AttrValue::F64Array(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_a_list_of_no_numbers() {
        let empty = Attribute::list(Vec::new());
        assert_eq!(empty, Attribute::Floats(Vec::new()));
        assert_eq!(empty.as_list(), Some(&[][..]));
        assert_eq!(Attribute::Float(1.0).as_list(), None);
        assert_eq!(Attribute::list(vec!["a".to_owned()]).as_list(), Some(&["a".to_owned()][..]));
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for value in [
            Attribute::Ascii("{}".to_owned()),
            Attribute::Utf8("3.15.1".to_owned()),
            Attribute::AsciiList(vec!["a".to_owned(), String::new()]),
            Attribute::Utf8List(vec!["ä".to_owned()]),
            Attribute::FixedList(vec!["a".to_owned(), "bc".to_owned()]),
            Attribute::Int(-1),
            Attribute::Ints(vec![1, 2]),
            Attribute::Float(0.5),
            Attribute::Floats(Vec::new()),
        ] {
            assert_eq!(Attribute::from_pure(&value.to_pure()).as_ref(), Some(&value));
        }
    }
}
