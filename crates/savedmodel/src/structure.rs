//! Nested values: `StructuredValue` and [`Structure`].

use modelark_artifact::{Structure, tensor::DType};
use modelark_checkpoint::wire;
use modelark_proto::{
    DictValue, ListValue, Message, NamedTupleValue, NoneValue, PairValue, StructuredValue, TensorSpecProto,
    TupleValue, structured_value::Kind,
};

/// The value in a message. What has no form of its own here is kept as bytes; decoding has bounded the nesting.
pub(crate) fn structure_from_proto(proto: &StructuredValue) -> Structure {
    let other = || Structure::Other(proto.encode_to_vec());
    let list = |items: &[StructuredValue]| items.iter().map(structure_from_proto).collect();
    match &proto.kind {
        None => other(),
        Some(kind) => match kind {
            Kind::NoneValue(_) => Structure::None,
            Kind::Float64Value(v) => Structure::Float(*v),
            Kind::Int64Value(v) => Structure::Int(*v),
            Kind::StringValue(v) => Structure::String(v.clone()),
            Kind::BoolValue(v) => Structure::Bool(*v),
            Kind::TensorShapeValue(v) => Structure::Shape(wire::partial_shape_from_proto(v)),
            Kind::TensorDtypeValue(v) => dtype(*v).map_or_else(other, Structure::DType),
            Kind::TensorSpecValue(v) => match (dtype(v.dtype), &v.shape) {
                (Some(dtype), Some(shape)) => Structure::Tensor {
                    name: v.name.clone(),
                    shape: wire::partial_shape_from_proto(shape),
                    dtype,
                },
                _ => other(),
            },
            Kind::ListValue(v) => Structure::List(list(&v.values)),
            Kind::TupleValue(v) => Structure::Tuple(list(&v.values)),
            Kind::DictValue(v) => {
                Structure::Dict(v.fields.iter().map(|(k, v)| (k.clone(), structure_from_proto(v))).collect())
            }
            Kind::NamedTupleValue(v) => {
                let field = |p: &PairValue| {
                    (p.key.clone(), p.value.as_ref().map_or(Structure::None, structure_from_proto))
                };
                Structure::NamedTuple { name: v.name.clone(), fields: v.values.iter().map(field).collect() }
            }
            _ => other(),
        },
    }
}

/// The message of a value.
pub(crate) fn structure_to_proto(structure: &Structure) -> StructuredValue {
    let list = |items: &[Structure]| items.iter().map(structure_to_proto).collect();
    let kind = match structure {
        Structure::Other(bytes) => return StructuredValue::decode(&bytes[..]).unwrap_or_default(),
        Structure::None => Kind::NoneValue(NoneValue {}),
        Structure::Float(v) => Kind::Float64Value(*v),
        Structure::Int(v) => Kind::Int64Value(*v),
        Structure::String(v) => Kind::StringValue(v.clone()),
        Structure::Bool(v) => Kind::BoolValue(*v),
        Structure::Shape(v) => Kind::TensorShapeValue(wire::partial_shape_to_proto(v)),
        Structure::DType(v) => Kind::TensorDtypeValue(wire::dtype_to_proto(*v)),
        Structure::Tensor { name, shape, dtype } => Kind::TensorSpecValue(TensorSpecProto {
            name: name.clone(),
            shape: Some(wire::partial_shape_to_proto(shape)),
            dtype: wire::dtype_to_proto(*dtype),
        }),
        Structure::List(items) => Kind::ListValue(ListValue { values: list(items) }),
        Structure::Tuple(items) => Kind::TupleValue(TupleValue { values: list(items) }),
        Structure::Dict(items) => Kind::DictValue(DictValue {
            fields: items.iter().map(|(k, v)| (k.clone(), structure_to_proto(v))).collect(),
        }),
        Structure::NamedTuple { name, fields } => {
            let pair = |(k, v): &(String, Structure)| PairValue {
                key: k.clone(),
                value: Some(structure_to_proto(v)),
            };
            Kind::NamedTupleValue(NamedTupleValue {
                name: name.clone(),
                values: fields.iter().map(pair).collect(),
            })
        }
    };
    StructuredValue { kind: Some(kind) }
}

fn dtype(number: i32) -> Option<DType> {
    wire::dtype_from_proto(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelark_artifact::tensor::PartialShape;
    use std::collections::BTreeMap;

    #[test]
    fn every_kind_survives() {
        let spec = Structure::Tensor {
            name: "x".into(),
            shape: PartialShape::new([None, Some(10)]),
            dtype: DType::F32,
        };
        let all = Structure::Tuple(vec![
            Structure::Tuple(vec![spec.clone(), Structure::Bool(false), Structure::None]),
            Structure::Dict(BTreeMap::from([("k".to_owned(), Structure::List(vec![spec]))])),
            Structure::NamedTuple {
                name: "FullArgSpec".into(),
                fields: vec![("a".into(), Structure::Int(-3))],
            },
            Structure::Float(0.5),
            Structure::String("s".into()),
            Structure::Shape(PartialShape::UNKNOWN),
            Structure::DType(DType::String),
        ]);
        assert_eq!(structure_from_proto(&structure_to_proto(&all)), all);
    }

    #[test]
    fn none_is_spelled_out_and_other_kinds_are_kept() {
        assert_eq!(structure_to_proto(&Structure::None).encode_to_vec(), [0x0a, 0]);
        let typed = StructuredValue {
            kind: Some(Kind::TypeSpecValue(Box::new(modelark_proto::TypeSpecProto {
                type_spec_class: 3,
                ..Default::default()
            }))),
        };
        assert_eq!(structure_to_proto(&structure_from_proto(&typed)), typed);
    }
}
