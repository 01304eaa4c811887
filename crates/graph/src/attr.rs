//! Attributes of nodes: what is fixed when a graph is built.

use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use modelark_tensor::{DType, PartialShape, Tensor};

/// The attributes of a node or a function, by name and in the order of names.
///
/// Nodes have few, and models have many nodes: they take no more room than they need, and copies share what neither of them
/// changes, for passes and calls copy whole graphs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attrs(Arc<Vec<(String, Attr)>>);

impl Attrs {
    /// No attributes.
    pub fn new() -> Self {
        Attrs::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&Attr> {
        self.place(name).ok().and_then(|i| self.0.get(i)).map(|(_, value)| value)
    }

    /// The value of this name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Attr> {
        let i = self.place(name).ok()?;
        Arc::make_mut(&mut self.0).get_mut(i).map(|(_, value)| value)
    }

    /// Whether there is a value of this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// Sets a value, and gives the one that it had before.
    pub fn insert(&mut self, name: String, value: Attr) -> Option<Attr> {
        let place = self.place(&name);
        let attrs = Arc::make_mut(&mut self.0);
        match place {
            Ok(i) => Some(std::mem::replace(&mut attrs[i].1, value)),
            Err(i) => {
                attrs.insert(i, (name, value));
                None
            }
        }
    }

    /// The value of this name, to be changed; `value` if there was none.
    pub fn get_or_insert(&mut self, name: &str, value: Attr) -> &mut Attr {
        let place = self.place(name);
        let attrs = Arc::make_mut(&mut self.0);
        let (Ok(i) | Err(i)) = place;
        if place.is_err() {
            attrs.insert(i, (name.to_owned(), value));
        }
        &mut attrs[i].1
    }

    /// Takes a value away.
    pub fn remove(&mut self, name: &str) -> Option<Attr> {
        let i = self.place(name).ok()?;
        Some(Arc::make_mut(&mut self.0).remove(i).1)
    }

    /// Names and values.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&String, &Attr)> + ExactSizeIterator {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The names.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &String> + ExactSizeIterator {
        self.0.iter().map(|(name, _)| name)
    }

    /// The values.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Attr> + ExactSizeIterator {
        self.0.iter().map(|(_, value)| value)
    }

    /// The values, to be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Attr> + ExactSizeIterator {
        Arc::make_mut(&mut self.0).iter_mut().map(|(_, value)| value)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.as_str().cmp(name))
    }
}

impl Index<&str> for Attrs {
    type Output = Attr;

    /// # Panics
    /// When there is no value of this name.
    fn index(&self, name: &str) -> &Attr {
        self.get(name).unwrap_or_else(|| panic!("there is no attribute {name:?}"))
    }
}

impl FromIterator<(String, Attr)> for Attrs {
    /// Of several values of one name, the last.
    fn from_iter<I: IntoIterator<Item = (String, Attr)>>(attrs: I) -> Self {
        let mut all: Vec<_> = attrs.into_iter().collect();
        all.reverse();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all.dedup_by(|(a, _), (b, _)| a == b);
        all.shrink_to_fit();
        Attrs(Arc::new(all))
    }
}

impl<const N: usize> From<[(String, Attr); N]> for Attrs {
    fn from(attrs: [(String, Attr); N]) -> Self {
        attrs.into_iter().collect()
    }
}

impl Extend<(String, Attr)> for Attrs {
    fn extend<I: IntoIterator<Item = (String, Attr)>>(&mut self, attrs: I) {
        attrs.into_iter().for_each(|(name, value)| {
            self.insert(name, value);
        });
    }
}

impl IntoIterator for Attrs {
    type Item = (String, Attr);
    type IntoIter = std::vec::IntoIter<(String, Attr)>;

    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.0).into_iter()
    }
}

impl<'a> IntoIterator for &'a Attrs {
    type Item = (&'a String, &'a Attr);
    type IntoIter = std::iter::Map<
        std::slice::Iter<'a, (String, Attr)>,
        fn(&'a (String, Attr)) -> (&'a String, &'a Attr),
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

/// An attribute's value (TensorFlow: `AttrValue`).
#[derive(Debug, Clone)]
pub enum Attr {
    /// Bytes, mostly text such as `"SAME"`.
    String(Vec<u8>),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f32),
    /// A boolean.
    Bool(bool),
    /// A dtype.
    Type(DType),
    /// A shape, perhaps with unknown parts.
    Shape(PartialShape),
    /// A constant.
    Tensor(Box<Tensor>),
    /// A function, by name.
    Func(FuncRef),
    /// A list of values of one kind.
    List(Vec<Attr>),
    /// The name of an attribute of the enclosing function, which gives the value (TensorFlow: `placeholder`).
    Placeholder(String),
}

/// A function by name, with attributes that instantiate it.
#[derive(Debug, Clone, PartialEq)]
pub struct FuncRef {
    /// The function's name in its library.
    pub name: String,
    /// What instantiates it; empty for most.
    pub attrs: Attrs,
}

impl FuncRef {
    /// A function without attributes.
    pub fn new(name: impl Into<String>) -> Self {
        FuncRef { name: name.into(), attrs: Attrs::new() }
    }
}

impl fmt::Display for Attr {
    /// The value for a message: constants and long lists in short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        match self {
            Attr::String(v) => write!(f, "{:?}", String::from_utf8_lossy(v.get(..64).unwrap_or(v))),
            Attr::Int(v) => write!(f, "{v}"),
            Attr::Float(v) => write!(f, "{v}"),
            Attr::Bool(v) => write!(f, "{v}"),
            Attr::Type(v) => write!(f, "{v}"),
            Attr::Shape(v) => write!(f, "{v}"),
            Attr::Tensor(v) => write!(f, "{}{}", v.dtype(), PartialShape::from(v.shape())),
            Attr::Func(v) => write!(f, "function {:?}", v.name),
            Attr::List(items) => {
                let shown: Vec<String> = items.iter().take(SHOWN).map(ToString::to_string).collect();
                let more = if items.len() > SHOWN { ", ..." } else { "" };
                write!(f, "[{}{more}]", shown.join(", "))
            }
            Attr::Placeholder(v) => write!(f, "${v}"),
        }
    }
}

impl Attr {
    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Attr::Int(v) = self { Some(*v) } else { None }
    }

    /// The float, if it is one.
    pub fn as_float(&self) -> Option<f32> {
        if let Attr::Float(v) = self { Some(*v) } else { None }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Attr::Bool(v) = self { Some(*v) } else { None }
    }

    /// The dtype, if it is one.
    pub fn as_type(&self) -> Option<DType> {
        if let Attr::Type(v) = self { Some(*v) } else { None }
    }

    /// The text, if it is UTF-8 text.
    pub fn as_str(&self) -> Option<&str> {
        if let Attr::String(v) = self { std::str::from_utf8(v).ok() } else { None }
    }

    /// The shape, if it is one.
    pub fn as_shape(&self) -> Option<&PartialShape> {
        if let Attr::Shape(v) = self { Some(v) } else { None }
    }

    /// The tensor, if it is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        if let Attr::Tensor(v) = self { Some(v) } else { None }
    }

    /// The function, if it is one.
    pub fn as_func(&self) -> Option<&FuncRef> {
        if let Attr::Func(v) = self { Some(v) } else { None }
    }

    /// The list, if it is one.
    pub fn as_list(&self) -> Option<&[Attr]> {
        if let Attr::List(v) = self { Some(v) } else { None }
    }
}

impl PartialEq for Attr {
    /// Tensors are equal when every bit is; floats likewise, so that a NaN equals itself.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Attr::String(a), Attr::String(b)) => a == b,
            (Attr::Int(a), Attr::Int(b)) => a == b,
            (Attr::Float(a), Attr::Float(b)) => a.to_bits() == b.to_bits(),
            (Attr::Bool(a), Attr::Bool(b)) => a == b,
            (Attr::Type(a), Attr::Type(b)) => a == b,
            (Attr::Shape(a), Attr::Shape(b)) => a == b,
            (Attr::Tensor(a), Attr::Tensor(b)) => a.bit_eq(b),
            (Attr::Func(a), Attr::Func(b)) => a == b,
            (Attr::List(a), Attr::List(b)) => a == b,
            (Attr::Placeholder(a), Attr::Placeholder(b)) => a == b,
            _ => false,
        }
    }
}

macro_rules! from {
    ($($t:ty => |$v:ident| $e:expr;)*) => {
        $(impl From<$t> for Attr { fn from($v: $t) -> Attr { $e } })*
    };
}

from! {
    i64 => |v| Attr::Int(v);
    i32 => |v| Attr::Int(v.into());
    f32 => |v| Attr::Float(v);
    bool => |v| Attr::Bool(v);
    &str => |v| Attr::String(v.as_bytes().to_vec());
    String => |v| Attr::String(v.into_bytes());
    DType => |v| Attr::Type(v);
    PartialShape => |v| Attr::Shape(v);
    Tensor => |v| Attr::Tensor(Box::new(v));
    FuncRef => |v| Attr::Func(v);
}

impl<T: Into<Attr>> From<Vec<T>> for Attr {
    fn from(v: Vec<T>) -> Attr {
        Attr::List(v.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Attr> + Clone> From<&[T]> for Attr {
    fn from(v: &[T]) -> Attr {
        Attr::List(v.iter().cloned().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_in_the_order_of_their_names() {
        let all = ["c", "a", "b", "a"].into_iter().zip(0..).map(|(n, i)| (n.to_owned(), Attr::Int(i)));
        let mut attrs: Attrs = all.collect();
        assert_eq!(attrs.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(attrs["a"], Attr::Int(3), "of two values the last");
        assert_eq!(attrs.insert("aa".to_owned(), Attr::Bool(true)), None);
        assert_eq!(attrs.insert("aa".to_owned(), Attr::Bool(false)), Some(Attr::Bool(true)));
        assert_eq!(*attrs.get_or_insert("aa", Attr::Int(0)), Attr::Bool(false));
        assert_eq!(*attrs.get_or_insert("d", Attr::Int(7)), Attr::Int(7));
        assert_eq!(attrs.remove("b"), Some(Attr::Int(2)));
        assert_eq!((attrs.remove("b"), attrs.get("b")), (None, None));
        assert_eq!(attrs.iter().map(|(n, _)| n.as_str()).collect::<String>(), "aaacd");
        assert_eq!((&attrs).into_iter().count(), attrs.len());
    }

    #[test]
    fn copies_share_what_neither_changes() {
        let attrs = Attrs::from([("T".to_owned(), Attr::Type(DType::F32))]);
        let mut copy = attrs.clone();
        assert!(std::ptr::eq(attrs.get("T").expect("T"), copy.get("T").expect("T")));
        copy.insert("N".to_owned(), Attr::Int(2));
        assert_eq!((attrs.len(), copy.len()), (1, 2));
        assert_ne!(attrs, copy);
    }
}
