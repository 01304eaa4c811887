//! Sparse tensors as messages or handles, of which several make one sparse tensor of more dimensions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::args::{many, one, take, tensors};
use super::coordinates::{Coordinates, Sparse};
use super::protos;
use super::{NodeAttrs, Op};
use crate::engine::{Context, Kernel, Resource, Value, Values, Variant, kernel};
use crate::tensor::{ByteString, DType, Tensor};
use crate::{Error, Result};

fn vector(values: Vec<i64>) -> Result<Tensor> {
    let n = values.len();
    Ok(Tensor::from_vec(values, [n])?)
}

/// The parts of a sparse tensor along its first dimension.
fn rows(x: &Sparse) -> Result<Vec<Sparse>> {
    let (Some(&count), true) = (x.shape.first(), x.shape.len() > 1) else {
        return Err(Error::compute(format!("a sparse tensor of shape {:?} has no parts", x.shape)));
    };
    let count = usize::try_from(count).ok().filter(|n| *n <= 1 << 24);
    let count = count.ok_or_else(|| Error::compute(format!("a sparse tensor of shape {:?} has too many parts", x.shape)))?;
    let mut places: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (i, row) in x.indices.rows().enumerate() {
        let at = row.first().and_then(|v| usize::try_from(*v).ok()).and_then(|v| places.get_mut(v));
        at.ok_or_else(|| Error::compute(format!("index {row:?} is beyond the shape {:?}", x.shape)))?.push(i);
    }
    let part = |places: &Vec<usize>| -> Result<Sparse> {
        let mut part = x.pick(places)?;
        let behind = places.iter().map(|i| x.indices.row(*i).get(1..).unwrap_or_default());
        part.indices = Coordinates::from_rows(x.shape.len() - 1, behind);
        part.shape.remove(0);
        Ok(part)
    };
    places.iter().map(part).collect()
}

/// Sparse tensors as one whose first dimensions, as many as `outer` has, say which of them.
fn merged(parts: &[Sparse], outer: &[usize], dtype: DType) -> Result<Values> {
    let rank = parts.first().map_or(0, |p| p.shape.len());
    let mut shape = vec![0i64; rank];
    let (mut places, mut values) = (Vec::new(), Vec::new());
    for (n, part) in parts.iter().enumerate() {
        if part.shape.len() != rank || part.values.dtype() != dtype {
            return Err(Error::compute(format!(
                "a sparse tensor of {} and rank {} among those of {dtype} and rank {rank}",
                part.values.dtype(),
                part.shape.len()
            )));
        }
        shape.iter_mut().zip(&part.shape).for_each(|(a, b)| *a = (*a).max(*b));
        let mut left = n;
        let mut prefix: Vec<i64> = outer
            .iter()
            .rev()
            .map(|extent| {
                let at = left % extent.max(&1);
                left /= extent.max(&1);
                at as i64
            })
            .collect();
        prefix.reverse();
        places.extend(part.indices.rows().map(|row| [&prefix[..], row].concat()));
        values.push(part.values.clone());
    }
    let values = super::examples::join(&values, dtype)?;
    let shape: Vec<i64> = outer.iter().map(|n| *n as i64).chain(shape).collect();
    let indices = Coordinates::from_rows(shape.len(), places).tensor()?;
    many([indices, values, vector(shape)?])
}

/// A sparse tensor's three tensors, as messages or as they are.
fn message(x: &Sparse, variant: bool) -> Result<[Value; 3]> {
    let three = [x.indices.tensor()?, x.values.clone(), vector(x.shape.clone())?];
    let mut out = Vec::with_capacity(3);
    for t in three {
        out.push(if variant { Value::from(t) } else { Tensor::scalar_string(protos::packed(&t)?).into() });
    }
    take(out.into_iter().collect())
}

/// Messages, or what stands for them, as one value.
fn gathered(values: Vec<[Value; 3]>, variant: bool, single: bool) -> Result<Values> {
    if variant {
        let mut rows = values.into_iter().map(|row| Variant::Vector(Arc::new(row.to_vec())));
        return match (single, rows.next()) {
            (true, Some(row)) => one(row),
            (_, first) => one(Variant::Vector(Arc::new(first.into_iter().chain(rows).map(Value::from).collect()))),
        };
    }
    let n = values.len();
    let strings: Vec<ByteString> =
        values.iter().flatten().map(|v| protos::one_string(v.tensor()?)).collect::<Result<_>>()?;
    let shape: &[usize] = if single { &[3] } else { &[n, 3] };
    one(Tensor::from_strings(strings, shape)?)
}

fn serialize(a: &NodeAttrs<'_>, by_row: bool) -> Result<Box<dyn Kernel>> {
    let variant = a.dtype("out_type")? == DType::Variant;
    Ok(kernel(move |_, inputs| {
        let [indices, values, shape] = tensors(inputs)?;
        let x = Sparse::of(&indices, values, &shape)?;
        let parts = if by_row { rows(&x)? } else { vec![x] };
        let messages = parts.iter().map(|p| message(p, variant)).collect::<Result<Vec<_>>>()?;
        gathered(messages, variant, !by_row)
    }))
}

/// Three tensors that are one sparse tensor.
fn sparse(three: &[Tensor]) -> Result<Sparse> {
    match three {
        [indices, values, shape] => Sparse::of(indices, values.clone(), shape),
        _ => Err(Error::compute("a sparse tensor is three tensors")),
    }
}

fn deserialize(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("dtype")?;
    Ok(kernel(move |_, inputs| {
        let [x] = take(inputs)?;
        let (mut parts, mut outer) = (Vec::new(), Vec::new());
        match x {
            Value::Variant(Variant::Vector(items)) => {
                let direct: Option<Vec<Tensor>> = items.iter().map(|v| v.tensor().ok().cloned()).collect();
                match direct {
                    Some(three) if !three.is_empty() => parts.push(sparse(&three)?),
                    _ => {
                        outer.push(items.len());
                        for item in items.iter() {
                            let Value::Variant(Variant::Vector(row)) = item else {
                                return Err(Error::compute("a sparse tensor is three tensors"));
                            };
                            let three = row.iter().map(|v| v.tensor().cloned()).collect::<Result<Vec<_>>>()?;
                            parts.push(sparse(&three)?);
                        }
                    }
                }
            }
            other => {
                let t = other.into_tensor()?;
                let Some((3, rest)) = t.shape().split_last() else {
                    return Err(Error::compute(format!("messages come in threes, not of shape {:?}", t.shape())));
                };
                outer.extend_from_slice(rest);
                for three in t.strings()?.chunks(3) {
                    let three = three.iter().map(|m| protos::unpacked(m)).collect::<Result<Vec<_>>>()?;
                    parts.push(sparse(&three)?);
                }
            }
        }
        if parts.is_empty() {
            return Err(Error::compute("there is no sparse tensor to read"));
        }
        merged(&parts, &outer, dtype)
    }))
}

/// Sparse tensors by handle.
#[derive(Default)]
struct Shelf {
    kept: HashMap<i64, Sparse>,
    next: i64,
}

fn shelf(context: &dyn Context, name: &str) -> Result<Arc<Mutex<Shelf>>> {
    let name = if name.is_empty() { context.node() } else { name };
    let made = || Ok(Resource::Other(Arc::new(Mutex::new(Shelf::default()))));
    context.resources().get_or_insert("sparse tensors", name, made)?.downcast("sparse tensors")
}

fn put(a: &NodeAttrs<'_>, by_row: bool) -> Result<Box<dyn Kernel>> {
    let name = a.str("shared_name")?.to_owned();
    Ok(kernel(move |context, inputs| {
        let [indices, values, shape] = tensors(inputs)?;
        let x = Sparse::of(&indices, values, &shape)?;
        let parts = if by_row { rows(&x)? } else { vec![x] };
        let shelf = shelf(context, &name)?;
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let mut handles = Vec::with_capacity(parts.len());
        for part in parts {
            handles.push(shelf.next);
            let at = shelf.next;
            shelf.kept.insert(at, part);
            shelf.next += 1;
        }
        match (by_row, handles.first()) {
            (false, Some(handle)) => one(Tensor::scalar(*handle)),
            _ => one(vector(handles)?),
        }
    }))
}

fn take_many(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (name, dtype) = (a.str("shared_name")?.to_owned(), a.dtype("dtype")?);
    Ok(kernel(move |context, inputs| {
        let [handles] = tensors(inputs)?;
        if handles.is_empty() {
            return Err(Error::compute("there is no sparse tensor to take"));
        }
        let shelf = shelf(context, &name)?;
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let found = |h: &i64| shelf.kept.remove(h).ok_or_else(|| Error::compute(format!("no sparse tensor has the handle {h}")));
        let parts = handles.to_i64_vec()?.iter().map(found).collect::<Result<Vec<_>>>()?;
        merged(&parts, &[parts.len()], dtype)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("AddManySparseToTensorsMap(sparse_indices: int64, sparse_values: T, sparse_shape: int64) -> (sparse_handles: int64); T: type; container: string = \"\"; shared_name: string = \"\"; stateful", |a| put(a, true)),
    Op::new("AddSparseToTensorsMap(sparse_indices: int64, sparse_values: T, sparse_shape: int64) -> (sparse_handle: int64); T: type; container: string = \"\"; shared_name: string = \"\"; stateful", |a| put(a, false)),
    Op::new("DeserializeManySparse(serialized_sparse: string) -> (sparse_indices: int64, sparse_values: dtype, sparse_shape: int64); dtype: type", deserialize),
    Op::new("DeserializeSparse(serialized_sparse: Tserialized) -> (sparse_indices: int64, sparse_values: dtype, sparse_shape: int64); dtype: type; Tserialized: type = string", deserialize),
    Op::new("SerializeManySparse(sparse_indices: int64, sparse_values: T, sparse_shape: int64) -> (serialized_sparse: out_type); T: type; out_type: type = string", |a| serialize(a, true)),
    Op::new("SerializeSparse(sparse_indices: int64, sparse_values: T, sparse_shape: int64) -> (serialized_sparse: out_type); T: type; out_type: type = string", |a| serialize(a, false)),
    Op::new("TakeManySparseFromTensorsMap(sparse_handles: int64) -> (sparse_indices: int64, sparse_values: dtype, sparse_shape: int64); dtype: type; container: string = \"\"; shared_name: string = \"\"; stateful", take_many).ranks("1"),
];
