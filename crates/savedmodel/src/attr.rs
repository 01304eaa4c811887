//! Attributes of nodes and functions: `AttrValue` and [`Attr`], translated by kind, never by an op's name.

use std::collections::BTreeMap;

use modelark_artifact::{ErrorKind, Limits, Result};
use modelark_checkpoint::wire;
use modelark_graph::{Attr, Attrs, FuncRef};
use modelark_proto::{AttrValue, Message, NameAttrList, attr_value};

/// What the name of an attribute starts with whose value has no other form here: the value is the message's bytes.
///
/// Such are tensors of variants and the reference dtypes of TensorFlow 1; they are carried along and written again.
const RAW: &str = "_modelark.raw.";

/// The attributes of a message.
///
/// # Errors
/// When a constant is over the limits.
pub(crate) fn attrs_from_proto(proto: BTreeMap<String, AttrValue>, limits: &Limits) -> Result<Attrs> {
    proto
        .into_iter()
        .map(|(name, value)| match attr_from_proto(value, limits) {
            Ok(Ok(attr)) => Ok((name, attr)),
            Ok(Err(raw)) => Ok((format!("{RAW}{name}"), Attr::String(raw.encode_to_vec()))),
            Err(e) => Err(e.at(format!("attribute {name:?}"))),
        })
        .collect()
}

/// The message's form of attributes.
pub(crate) fn attrs_to_proto(attrs: &Attrs) -> BTreeMap<String, AttrValue> {
    attrs
        .iter()
        .map(|(name, attr)| match (name.strip_prefix(RAW), attr) {
            (Some(raw), Attr::String(bytes)) => {
                (raw.to_owned(), AttrValue::decode(&bytes[..]).unwrap_or_default())
            }
            _ => (name.clone(), attr_to_proto(attr)),
        })
        .collect()
}

/// An attribute's value; the message again for one that has no form of its own here.
///
/// # Errors
/// When a constant is over the limits.
pub(crate) fn attr_from_proto(proto: AttrValue, limits: &Limits) -> Result<Result<Attr, AttrValue>> {
    use attr_value::Value;
    let attr = match proto.value {
        Some(Value::S(s)) => Attr::String(s),
        Some(Value::I(i)) => Attr::Int(i),
        Some(Value::F(f)) => Attr::Float(f),
        Some(Value::B(b)) => Attr::Bool(b),
        Some(Value::Shape(shape)) => Attr::Shape(wire::partial_shape_from_proto(&shape)),
        Some(Value::Func(func)) => Attr::Func(func_from_proto(*func, limits)?),
        Some(Value::Placeholder(name)) => Attr::Placeholder(name),
        value => {
            let attr = match &value {
                Some(Value::Type(number)) => type_from_proto(*number),
                Some(Value::Tensor(tensor)) => tensor_from_proto(tensor, limits)?,
                Some(Value::List(list)) => list_from_proto(list, limits)?.map(Attr::List),
                _ => None,
            };
            return Ok(attr.ok_or(AttrValue { value }));
        }
    };
    Ok(Ok(attr))
}

/// The message of an attribute's value.
pub(crate) fn attr_to_proto(attr: &Attr) -> AttrValue {
    use attr_value::Value;
    let value = match attr {
        Attr::String(s) => Value::S(s.clone()),
        Attr::Int(i) => Value::I(*i),
        Attr::Float(f) => Value::F(*f),
        Attr::Bool(b) => Value::B(*b),
        Attr::Type(dtype) => Value::Type(wire::dtype_to_proto(*dtype)),
        Attr::Shape(shape) => Value::Shape(wire::partial_shape_to_proto(shape)),
        Attr::Tensor(tensor) => Value::Tensor(Box::new(wire::tensor_to_proto(tensor))),
        Attr::Func(func) => Value::Func(Box::new(func_to_proto(func))),
        Attr::Placeholder(name) => Value::Placeholder(name.clone()),
        Attr::List(items) => Value::List(Box::new(list_to_proto(items))),
    };
    AttrValue { value: Some(value) }
}

/// A dtype; none for the reference dtypes, which would lose their being references.
fn type_from_proto(number: i32) -> Option<Attr> {
    const FIRST_REFERENCE: i32 = 100;
    if number > FIRST_REFERENCE { None } else { wire::dtype_from_proto(number).ok().map(Attr::Type) }
}

fn tensor_from_proto(proto: &modelark_proto::TensorProto, limits: &Limits) -> Result<Option<Attr>> {
    match wire::tensor_from_proto(proto, limits) {
        Ok(tensor) => Ok(Some(Attr::from(tensor))),
        Err(e) if e.kind() == ErrorKind::Unsupported => Ok(None),
        Err(e) => Err(e),
    }
}

fn func_from_proto(proto: NameAttrList, limits: &Limits) -> Result<FuncRef> {
    Ok(FuncRef { name: proto.name, attrs: attrs_from_proto(proto.attr, limits)? })
}

fn func_to_proto(func: &FuncRef) -> NameAttrList {
    NameAttrList { name: func.name.clone(), attr: attrs_to_proto(&func.attrs) }
}

/// The items of a list, which the message keeps by kind; none when it mixes kinds or an item has no form here.
fn list_from_proto(list: &attr_value::ListValue, limits: &Limits) -> Result<Option<Vec<Attr>>> {
    let mut lists: Vec<Vec<Attr>> = vec![
        list.s.iter().cloned().map(Attr::String).collect(),
        list.i.iter().copied().map(Attr::Int).collect(),
        list.f.iter().copied().map(Attr::Float).collect(),
        list.b.iter().copied().map(Attr::Bool).collect(),
        list.shape.iter().map(|s| Attr::Shape(wire::partial_shape_from_proto(s))).collect(),
    ];
    let Some(types) = list.r#type.iter().map(|t| type_from_proto(*t)).collect() else { return Ok(None) };
    lists.push(types);
    let tensors: Option<Vec<Attr>> =
        list.tensor.iter().map(|t| tensor_from_proto(t, limits)).collect::<Result<_>>()?;
    let Some(tensors) = tensors else { return Ok(None) };
    lists.push(tensors);
    lists.push(
        list.func
            .iter()
            .map(|f| func_from_proto(f.clone(), limits).map(Attr::Func))
            .collect::<Result<_>>()?,
    );
    let mut filled = lists.into_iter().filter(|l| !l.is_empty());
    let first = filled.next().unwrap_or_default();
    Ok(filled.next().is_none().then_some(first))
}

fn list_to_proto(items: &[Attr]) -> attr_value::ListValue {
    let mut list = attr_value::ListValue::default();
    for item in items {
        match item {
            Attr::String(s) => list.s.push(s.clone()),
            Attr::Int(i) => list.i.push(*i),
            Attr::Float(f) => list.f.push(*f),
            Attr::Bool(b) => list.b.push(*b),
            Attr::Type(dtype) => list.r#type.push(wire::dtype_to_proto(*dtype)),
            Attr::Shape(shape) => list.shape.push(wire::partial_shape_to_proto(shape)),
            Attr::Tensor(tensor) => list.tensor.push(wire::tensor_to_proto(tensor)),
            Attr::Func(func) => list.func.push(func_to_proto(func)),
            // The message has no lists of lists or of placeholders, so no reader makes them.
            Attr::List(_) | Attr::Placeholder(_) => {}
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelark_graph::tensor::{DType, PartialShape, Tensor};

    #[test]
    fn every_kind_survives() {
        let attrs: Attrs = [
            ("s", Attr::from("SAME")),
            ("i", Attr::Int(-3)),
            ("f", Attr::Float(1e-4)),
            ("b", Attr::Bool(false)),
            ("t", Attr::Type(DType::BF16)),
            ("sh", Attr::Shape(PartialShape::new([None, Some(3)]))),
            ("u", Attr::Shape(PartialShape::UNKNOWN)),
            ("c", Attr::from(Tensor::from_vec(vec![1i32, 2], [2]).expect("tensor"))),
            ("fn", Attr::Func(FuncRef { name: "g".into(), attrs: Attrs::from([("x".into(), 1i64.into())]) })),
            ("p", Attr::Placeholder("T".into())),
            ("li", Attr::from(vec![1i64, 2])),
            ("lt", Attr::from(vec![DType::F32, DType::Resource])),
            ("empty", Attr::List(Vec::new())),
        ]
        .map(|(n, a)| (n.to_owned(), a))
        .into();
        let proto = attrs_to_proto(&attrs);
        assert_eq!(attrs_from_proto(proto.clone(), &Limits::default()).expect("attrs"), attrs);
    }

    #[test]
    fn what_has_no_form_is_carried_along() {
        let reference = AttrValue { value: Some(attr_value::Value::Type(101)) };
        let mixed = attr_value::ListValue { i: vec![1], f: vec![2.0], ..Default::default() };
        let mixed = AttrValue { value: Some(attr_value::Value::List(Box::new(mixed))) };
        let variant = modelark_proto::TensorProto { dtype: 21, ..Default::default() };
        let variant = AttrValue { value: Some(attr_value::Value::Tensor(Box::new(variant))) };
        let proto = BTreeMap::from([
            ("T".to_owned(), reference),
            ("m".to_owned(), mixed),
            ("n".to_owned(), AttrValue::default()),
            ("v".to_owned(), variant),
        ]);
        let attrs = attrs_from_proto(proto.clone(), &Limits::default()).expect("attrs");
        assert!(!attrs.contains_key("T"));
        assert_eq!(attrs_to_proto(&attrs), proto);
    }

    #[test]
    fn a_constant_over_the_limits_is_refused() {
        let shape = wire::shape_to_proto(&[1 << 20]);
        let tensor =
            modelark_proto::TensorProto { dtype: 1, tensor_shape: Some(shape), ..Default::default() };
        let proto = AttrValue { value: Some(attr_value::Value::Tensor(Box::new(tensor))) };
        let mut limits = Limits::default();
        limits.tensor_bytes = 1000;
        assert_eq!(attr_from_proto(proto, &limits).expect_err("too big").kind(), ErrorKind::Limit);
    }
}
