//! Parsing `tf.train.Example`: messages of named features, as TensorFlow Serving is fed.

use std::collections::HashMap;

use super::args::take_first;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{ByteString, DType, PartialShape, Tensor};
use crate::{Attr, Error, Result};

/// A feature's values.
#[derive(Debug, Clone, PartialEq)]
enum Feature {
    Bytes(Vec<ByteString>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
}

impl Feature {
    fn len(&self) -> usize {
        match self {
            Feature::Bytes(v) => v.len(),
            Feature::Floats(v) => v.len(),
            Feature::Ints(v) => v.len(),
        }
    }

    /// The values as a vector of `dtype`; `None` when they are of another.
    fn tensor(&self, dtype: DType) -> Option<Tensor> {
        let n = [self.len()];
        match (self, dtype) {
            (Feature::Bytes(v), DType::String) => Tensor::from_strings(v.iter().cloned(), n).ok(),
            (Feature::Floats(v), DType::F32) => Tensor::from_slice(v, n).ok(),
            (Feature::Ints(v), DType::I64) => Tensor::from_slice(v, n).ok(),
            _ => None,
        }
    }
}

/// A protocol buffer's fields, one after another.
struct Fields<'a>(&'a [u8]);

/// A field's value on the wire.
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    Fixed64,
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
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

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    /// The next field's number and value; `None` at the end, or where the message is broken.
    fn next(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => self.take(8).map(|_| Wire::Fixed64)?,
            2 => {
                let n = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(n)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    /// The contents of every field of this number that holds bytes; `None` when the message is broken.
    fn messages(mut self, number: u64) -> Option<Vec<&'a [u8]>> {
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

fn feature(bytes: &[u8]) -> Option<Option<Feature>> {
    let mut fields = Fields(bytes);
    let mut found = None;
    while !fields.0.is_empty() {
        let (kind, Wire::Bytes(list)) = fields.next()? else { return None };
        let mut items = Fields(list);
        found = Some(match kind {
            1 => Feature::Bytes(items.messages(1)?.into_iter().map(ByteString::from).collect()),
            2 => {
                let mut values = Vec::new();
                while !items.0.is_empty() {
                    match items.next()? {
                        (1, Wire::Fixed32(v)) => values.push(f32::from_bits(v)),
                        (1, Wire::Bytes(packed)) => {
                            let numbers = packed.chunks_exact(4);
                            values.extend(numbers.filter_map(|c| Some(f32::from_le_bytes(c.try_into().ok()?))));
                        }
                        _ => {}
                    }
                }
                Feature::Floats(values)
            }
            3 => {
                let mut values = Vec::new();
                while !items.0.is_empty() {
                    match items.next()? {
                        (1, Wire::Varint(v)) => values.push(v as i64),
                        (1, Wire::Bytes(packed)) => {
                            let mut packed = Fields(packed);
                            while !packed.0.is_empty() {
                                values.push(packed.varint()? as i64);
                            }
                        }
                        _ => {}
                    }
                }
                Feature::Ints(values)
            }
            _ => continue,
        });
    }
    Some(found)
}

/// The features of a serialized `Example`, by name; `None` when it isn't one.
fn example(bytes: &[u8]) -> Option<HashMap<&[u8], Feature>> {
    let mut features = HashMap::new();
    for map in Fields(bytes).messages(1)? {
        for entry in Fields(map).messages(1)? {
            let key = Fields(entry).messages(1)?.last().copied().unwrap_or_default();
            let value = Fields(entry).messages(2)?.last().copied().unwrap_or_default();
            if let Some(value) = feature(value)? {
                features.insert(key, value);
            }
        }
    }
    Some(features)
}

/// A dense feature: of one shape in every example, or with a default.
struct Dense {
    dtype: DType,
    shape: Vec<usize>,
}

fn types(a: &NodeAttrs<'_>, name: &str) -> Result<Vec<DType>> {
    let list = a.get(name).and_then(Attr::as_list).unwrap_or_default();
    let types: Option<Vec<DType>> = list.iter().map(Attr::as_type).collect();
    types.ok_or_else(|| Error::graph(format!("attribute {name:?} must list dtypes")))
}

fn dense(a: &NodeAttrs<'_>) -> Result<Vec<Dense>> {
    let shapes = a.get("dense_shapes").and_then(Attr::as_list).unwrap_or_default();
    let one = |(dtype, shape): (DType, &Attr)| {
        let known = shape.as_shape().and_then(PartialShape::known);
        let shape = known.ok_or_else(|| Error::unsupported("a dense feature whose shape isn't fully known"))?;
        Ok(Dense { dtype, shape: shape.into_vec() })
    };
    types(a, "Tdense")?.into_iter().zip(shapes).map(one).collect()
}

/// The keys of features: a tensor each, or all in one.
fn keys(values: Vec<Value>) -> Result<Vec<ByteString>> {
    let mut keys = Vec::new();
    for value in values {
        keys.extend_from_slice(value.tensor()?.strings()?);
    }
    Ok(keys)
}

struct Parser {
    dense: Vec<Dense>,
    sparse: Vec<DType>,
}

impl Parser {
    fn parse(&self, serialized: &Tensor, sparse_keys: &[ByteString], dense_keys: &[ByteString], defaults: &[Value]) -> Result<Values> {
        let broken = || Error::compute("the input isn't a serialized Example");
        let examples =
            serialized.strings()?.iter().map(|s| example(s).ok_or_else(broken)).collect::<Result<Vec<_>>>()?;
        if dense_keys.len() != self.dense.len() || defaults.len() != self.dense.len() || sparse_keys.len() != self.sparse.len() {
            return Err(Error::graph("keys, dtypes and defaults must go together"));
        }
        let (mut indices, mut values, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
        for (key, dtype) in sparse_keys.iter().zip(&self.sparse) {
            let (i, v, s) = sparse(&examples, key, *dtype, serialized.rank())?;
            indices.push(i);
            values.push(v);
            shapes.push(s);
        }
        let mut out: Values = indices.into_iter().chain(values).chain(shapes).map(Value::from).collect();
        for ((key, kind), default) in dense_keys.iter().zip(&self.dense).zip(defaults) {
            out.push(self.dense(&examples, key, kind, default.tensor()?, serialized)?.into());
        }
        Ok(out)
    }

    fn dense(&self, examples: &[HashMap<&[u8], Feature>], key: &ByteString, kind: &Dense, default: &Tensor, serialized: &Tensor) -> Result<Tensor> {
        let name = String::from_utf8_lossy(key);
        let n: usize = kind.shape.iter().product();
        let mut parts = Vec::with_capacity(examples.len());
        for features in examples {
            // A default of no elements means that there is none.
            let part = match features.get(&**key) {
                Some(f) => f.tensor(kind.dtype).ok_or_else(|| Error::compute(format!("feature {name:?} isn't {}", kind.dtype)))?,
                None if default.is_empty() && n > 0 => {
                    return Err(Error::compute(format!("an example has no feature {name:?}")));
                }
                None if default.len() == 1 && n != 1 => array::fill(&kind.shape, default)?,
                None => default.clone(),
            };
            if part.len() != n {
                return Err(Error::compute(format!("feature {name:?} has {} values, not {n}", part.len())));
            }
            parts.push(part.reshape(&kind.shape)?);
        }
        let shape = [serialized.shape(), &kind.shape].concat();
        if parts.is_empty() {
            return Ok(Tensor::zeros(kind.dtype, shape)?);
        }
        Ok(array::stack(&parts.iter().collect::<Vec<_>>(), 0)?.reshape(shape)?)
    }
}

/// A sparse tensor of all values of a feature: indices, values, shape.
fn sparse(examples: &[HashMap<&[u8], Feature>], key: &ByteString, dtype: DType, rank: usize) -> Result<(Tensor, Tensor, Tensor)> {
    let name = String::from_utf8_lossy(key);
    let mut parts = vec![Tensor::zeros(dtype, [0])?];
    let mut indices = Vec::new();
    let mut widest = 0;
    for (row, features) in examples.iter().enumerate() {
        let Some(f) = features.get(&**key) else { continue };
        let part = f.tensor(dtype).ok_or_else(|| Error::compute(format!("feature {name:?} isn't {dtype}")))?;
        widest = widest.max(part.len());
        for column in 0..part.len() {
            if rank > 0 {
                indices.push(row as i64);
            }
            indices.push(column as i64);
        }
        parts.push(part);
    }
    let values = array::concat(&parts.iter().collect::<Vec<_>>(), 0)?;
    let n = values.len();
    let shape = if rank > 0 { vec![examples.len() as i64, widest as i64] } else { vec![widest as i64] };
    let dims = shape.len();
    Ok((Tensor::from_vec(indices, [n, dims])?, values, Tensor::from_vec(shape, [dims])?))
}

fn parse(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let parser = Parser { dense: dense(a)?, sparse: types(a, "sparse_types")? };
    Ok(kernel(move |_, inputs| {
        let mut rest: Vec<Value> = inputs.into_vec();
        let [serialized, _names] = take_first(&mut rest)?;
        let wrong = || Error::graph("has too few inputs");
        if rest.len() < parser.sparse.len() + parser.dense.len() {
            return Err(wrong());
        }
        let mut dense_keys = rest.split_off(parser.sparse.len());
        let defaults = dense_keys.split_off(parser.dense.len());
        parser.parse(serialized.tensor()?, &keys(rest)?, &keys(dense_keys)?, &defaults)
    }))
}

fn parse_v2(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let parser = Parser { dense: dense(a)?, sparse: types(a, "sparse_types")? };
    if !types(a, "ragged_value_types")?.is_empty() {
        return Err(Error::unsupported("ragged features of examples"));
    }
    Ok(kernel(move |_, inputs| {
        let mut rest: Vec<Value> = inputs.into_vec();
        let [serialized, _names, sparse_keys, dense_keys, _ragged] = take_first(&mut rest)?;
        parser.parse(serialized.tensor()?, &keys(vec![sparse_keys])?, &keys(vec![dense_keys])?, &rest)
    }))
}

pub(super) const OPS: &[Op] =
    &[Op::new("ParseExample(serialized: string, names: string, sparse_keys: Nsparse * string, dense_keys: Ndense * string, dense_defaults: [Tdense]) -> (sparse_indices: Nsparse * int64, sparse_values: [sparse_types], sparse_shapes: Nsparse * int64, dense_values: [Tdense]); Nsparse: int; Ndense: int; sparse_types: list(type); Tdense: list(type); dense_shapes: list(shape)", parse), Op::new("ParseExampleV2(serialized: string, names: string, sparse_keys: string, dense_keys: string, ragged_keys: string, dense_defaults: [Tdense]) -> (sparse_indices: num_sparse * int64, sparse_values: [sparse_types], sparse_shapes: num_sparse * int64, dense_values: [Tdense], ragged_values: [ragged_value_types], ragged_row_splits: [ragged_split_types]); Tdense: list(type); num_sparse: int; sparse_types: list(type); ragged_value_types: list(type); ragged_split_types: list(type); dense_shapes: list(shape)", parse_v2)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_read_from_its_bytes() {
        // {"x": float_list [1.5, -2.0] (packed), "n": int64_list [3], "s": bytes_list ["hi"]}
        let floats = [&[0x12, 0x0a, 0x0a, 0x08][..], &1.5f32.to_le_bytes(), &(-2.0f32).to_le_bytes()].concat();
        let entry = |key: u8, feature: &[u8]| {
            let inner = [&[0x0a, 1, key, 0x12, feature.len() as u8][..], feature].concat();
            [&[0x0a, inner.len() as u8][..], &inner].concat()
        };
        let features = [
            entry(b'x', &floats),
            entry(b'n', &[0x1a, 0x02, 0x08, 0x03]),
            entry(b's', &[0x0a, 0x04, 0x0a, 0x02, b'h', b'i']),
        ]
        .concat();
        let bytes = [&[0x0a, features.len() as u8][..], &features].concat();
        let got = example(&bytes).expect("an example");
        assert_eq!(got[&b"x"[..]], Feature::Floats(vec![1.5, -2.0]));
        assert_eq!(got[&b"n"[..]], Feature::Ints(vec![3]));
        assert_eq!(got[&b"s"[..]], Feature::Bytes(vec![ByteString::from(&b"hi"[..])]));
        for n in 1..bytes.len() {
            assert!(example(&bytes[..n]).is_none(), "cut at {n}");
        }
    }
}
