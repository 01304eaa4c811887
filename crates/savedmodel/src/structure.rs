//! Nested values: `StructuredValue` and [`Structure`].

use modelark_artifact::{
    Structure,
    tensor::{DType, PartialShape},
};
use modelark_checkpoint::wire;
use modelark_proto::type_spec_proto::TypeSpecClass;
use modelark_proto::{
    DictValue, ListValue, Message, NamedTupleValue, NoneValue, PairValue, StructuredValue, TensorSpecProto,
    TupleValue, TypeSpecProto, structured_value::Kind,
};

const BOUNDED: &str = "BoundedTensorSpec";
const RAGGED: &str = "RaggedTensorSpec";
const SPARSE: &str = "SparseTensorSpec";

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
            Kind::BoundedTensorSpecValue(v) => match (dtype(v.dtype), &v.shape) {
                (Some(dtype), Some(shape)) => Structure::Composite {
                    class: BOUNDED.to_owned(),
                    components: vec![tensor(&v.name, wire::partial_shape_from_proto(shape), dtype)],
                    written: proto.encode_to_vec(),
                },
                _ => other(),
            },
            Kind::TypeSpecValue(v) => match components(v) {
                Some((class, components)) => Structure::Composite {
                    class: class.to_owned(),
                    components,
                    written: proto.encode_to_vec(),
                },
                None => other(),
            },
            Kind::TensorValue(_) | Kind::NumpyValue(_) => other(),
        },
    }
}

fn tensor(name: &str, shape: PartialShape, dtype: DType) -> Structure {
    Structure::Tensor { name: name.to_owned(), shape, dtype }
}

/// The name of a type spec's class and the tensors that a value of it is made of (TensorFlow: `_component_specs`); none
/// for classes whose values can't be taken apart without the class.
fn components(spec: &TypeSpecProto) -> Option<(&'static str, Vec<Structure>)> {
    let state = spec.type_state.as_deref().map(structure_from_proto);
    let state = match &state {
        Some(Structure::Tuple(state)) => &state[..],
        _ => &[],
    };
    let shape = |i: usize| match state.get(i) {
        Some(Structure::Shape(shape)) => Some(shape.clone()),
        _ => None,
    };
    let dtype = |i: usize| match state.get(i) {
        Some(Structure::DType(dtype)) => Some(*dtype),
        _ => None,
    };
    let scalar = |dtype: DType| vec![tensor("", PartialShape::scalar(), dtype)];
    let vector = |length: Option<usize>| PartialShape::new([length]);
    Some(match spec.type_spec_class() {
        TypeSpecClass::RaggedTensorSpec => {
            let (shape, dtype, splits) = (shape(0)?, dtype(1)?, dtype(3)?);
            let Some(Structure::Int(rank)) = state.get(2) else { return None };
            // More ragged dimensions than this are no model's.
            let rank = usize::try_from(*rank).ok().filter(|r| *r <= 64)?;
            if rank == 0 {
                return Some((RAGGED, vec![tensor("flat_values", shape, dtype)]));
            }
            let dims = shape.dims();
            let values = match (state.get(4), dims) {
                (Some(Structure::Tensor { shape, dtype, .. }), _) => {
                    tensor("flat_values", shape.clone(), *dtype)
                }
                (_, Some(dims)) => {
                    let inner = dims.get(rank + 1..).unwrap_or_default();
                    let dims: Vec<Option<usize>> =
                        std::iter::once(None).chain(inner.iter().copied()).collect();
                    tensor("flat_values", PartialShape::new(dims), dtype)
                }
                _ => tensor("flat_values", PartialShape::UNKNOWN, dtype),
            };
            let outer = dims.and_then(|d| d.first().copied().flatten()).and_then(|d| d.checked_add(1));
            let rows = (0..rank).map(|i| {
                tensor(&format!("row_splits_{i}"), vector(if i == 0 { outer } else { None }), splits)
            });
            (RAGGED, std::iter::once(values).chain(rows).collect())
        }
        TypeSpecClass::SparseTensorSpec => {
            let (rank, dtype) = (shape(0)?.dims().map(<[_]>::len), dtype(1)?);
            let parts = vec![
                tensor("indices", PartialShape::new([None, rank]), DType::I64),
                tensor("values", vector(None), dtype),
                tensor("dense_shape", vector(rank), DType::I64),
            ];
            (SPARSE, parts)
        }
        TypeSpecClass::IndexedSlicesSpec => {
            let shape_ = shape(0)?;
            let rank = shape_.dims().map(<[_]>::len);
            let mut parts = vec![
                tensor("values", shape_, dtype(1)?),
                tensor("indices", shape(4).unwrap_or(PartialShape::UNKNOWN), dtype(2)?),
            ];
            parts.extend(dtype(3).map(|d| tensor("dense_shape", vector(rank), d)));
            ("IndexedSlicesSpec", parts)
        }
        TypeSpecClass::TensorArraySpec => ("TensorArraySpec", scalar(DType::Variant)),
        TypeSpecClass::OptionalSpec => ("OptionalSpec", scalar(DType::Variant)),
        TypeSpecClass::DataDatasetSpec => ("DatasetSpec", scalar(DType::Variant)),
        TypeSpecClass::DataIteratorSpec => ("IteratorSpec", scalar(DType::Resource)),
        TypeSpecClass::VariableSpec => ("VariableSpec", scalar(DType::Resource)),
        _ => return None,
    })
}

/// The message of a value.
pub(crate) fn structure_to_proto(structure: &Structure) -> StructuredValue {
    let list = |items: &[Structure]| items.iter().map(structure_to_proto).collect();
    let kind = match structure {
        Structure::Other(bytes) | Structure::Composite { written: bytes, .. } => {
            return StructuredValue::decode(&bytes[..]).unwrap_or_default();
        }
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
    fn ragged_and_sparse_values_are_made_of_tensors() {
        let spec = |class: TypeSpecClass, state: Vec<Structure>| StructuredValue {
            kind: Some(Kind::TypeSpecValue(Box::new(TypeSpecProto {
                type_spec_class: class as i32,
                type_state: Some(Box::new(structure_to_proto(&Structure::Tuple(state)))),
                ..Default::default()
            }))),
        };
        let shape = |dims: &[Option<usize>]| Structure::Shape(PartialShape::new(dims));
        let ragged = vec![
            shape(&[Some(3), None, None, Some(5)]),
            Structure::DType(DType::F32),
            Structure::Int(2),
            Structure::DType(DType::I64),
        ];
        let sparse = vec![shape(&[None, Some(7)]), Structure::DType(DType::String)];
        let parts = |proto: &StructuredValue| {
            let structure = structure_from_proto(proto);
            assert_eq!(structure_to_proto(&structure), *proto);
            let told =
                structure.flatten().into_iter().map(|(n, s, d)| format!("{n} {d}{s}")).collect::<Vec<_>>();
            told.join(", ")
        };
        assert_eq!(
            parts(&spec(TypeSpecClass::RaggedTensorSpec, ragged)),
            "flat_values float32(None, 5), row_splits_0 int64(4,), row_splits_1 int64(None,)"
        );
        assert_eq!(
            parts(&spec(TypeSpecClass::SparseTensorSpec, sparse)),
            "indices int64(None, 2), values string(None,), dense_shape int64(2,)"
        );
    }

    #[test]
    fn none_is_spelled_out_and_other_kinds_are_kept() {
        assert_eq!(structure_to_proto(&Structure::None).encode_to_vec(), [0x0a, 0]);
        let typed = StructuredValue {
            kind: Some(Kind::TypeSpecValue(Box::new(TypeSpecProto {
                type_spec_class: 11,
                ..Default::default()
            }))),
        };
        assert_eq!(structure_to_proto(&structure_from_proto(&typed)), typed);
    }
}
