//! Parsing `tf.train.Example`: messages of named features, as TensorFlow Serving is fed.

use std::collections::HashMap;

use super::args::{take_first, types};
use super::wire::{Fields, Wire};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{ByteString, DType, PartialShape, Tensor};
use crate::{Attr, Error, Result};

/// A feature's values.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Feature {
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

/// A feature's values, if it has any; `None` when the message is broken.
pub(super) fn feature(bytes: &[u8]) -> Option<Option<Feature>> {
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
fn example(bytes: &[u8]) -> Option<Features<'_>> {
    features(&Fields(bytes).messages(1)?)
}

/// The features of messages `Features`, by name.
pub(super) fn features<'a>(messages: &[&'a [u8]]) -> Option<Features<'a>> {
    let mut features = HashMap::new();
    for map in messages {
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

/// The features of one example by name.
pub(super) type Features<'a> = HashMap<&'a [u8], Feature>;

/// A dense feature: of one shape in every example, or of as many rows as there are.
pub(super) struct Dense {
    dtype: DType,
    shape: Vec<usize>,
    /// Whether the first dimension is as long as values go, filled up to the longest of a batch.
    grows: bool,
}

/// The dense features that attributes describe.
pub(super) fn dense(a: &NodeAttrs<'_>, dtypes: &str, shapes: &str) -> Result<Vec<Dense>> {
    let list = a.get(shapes).and_then(Attr::as_list).unwrap_or_default();
    let one = |(dtype, shape): (DType, &Attr)| {
        let wrong = || Error::unsupported("a dense feature whose shape isn't known but for its first dimension");
        let dims = shape.as_shape().and_then(PartialShape::dims).ok_or_else(wrong)?;
        let grows = dims.first().is_some_and(Option::is_none);
        let known: Option<Vec<usize>> = dims.iter().skip(usize::from(grows)).copied().collect();
        Ok(Dense { dtype, shape: known.ok_or_else(wrong)?, grows })
    };
    types(a, dtypes)?.into_iter().zip(list).map(one).collect()
}

/// A ragged feature: the dtype of its values, and of its row splits.
pub(super) type Ragged = (DType, DType);

/// The ragged features that attributes describe.
pub(super) fn ragged(a: &NodeAttrs<'_>, values: &str, splits: &str) -> Result<Vec<Ragged>> {
    Ok(types(a, values)?.into_iter().zip(types(a, splits)?).collect())
}

/// The keys of features: a tensor each, or all in one.
pub(super) fn keys(values: Vec<Value>) -> Result<Vec<ByteString>> {
    let mut keys = Vec::new();
    for value in values {
        keys.extend_from_slice(value.tensor()?.strings()?);
    }
    Ok(keys)
}

/// The keys of features that an attribute lists.
pub(super) fn listed_keys(a: &NodeAttrs<'_>, name: &str) -> Result<Vec<ByteString>> {
    let list = a.get(name).and_then(Attr::as_list).unwrap_or_default();
    let keys: Option<Vec<ByteString>> = list.iter().map(|k| k.as_str().map(|k| k.as_bytes().into())).collect();
    keys.ok_or_else(|| Error::graph(format!("attribute {name:?} must list strings")))
}

/// What is read from each example.
pub(super) struct Parser {
    pub dense: Vec<Dense>,
    pub sparse: Vec<DType>,
    pub ragged: Vec<Ragged>,
}

/// The keys of what is read.
#[derive(Default)]
pub(super) struct Keys {
    pub sparse: Vec<ByteString>,
    pub dense: Vec<ByteString>,
    pub ragged: Vec<ByteString>,
}

/// The values of a feature where an example has it.
pub(super) fn values(feature: &Feature, key: &[u8], dtype: DType) -> Result<Tensor> {
    let wrong = || Error::compute(format!("feature {:?} isn't {dtype}", String::from_utf8_lossy(key)));
    feature.tensor(dtype).ok_or_else(wrong)
}

/// Vectors one after another.
pub(super) fn join(parts: &[Tensor], dtype: DType) -> Result<Tensor> {
    if parts.is_empty() {
        return Ok(Tensor::zeros(dtype, [0])?);
    }
    Ok(array::concat(&parts.iter().collect::<Vec<_>>(), 0)?)
}

impl Parser {
    /// Sparse features' indices, values and shapes, then dense features, then ragged values and splits.
    pub(super) fn parse(
        &self,
        examples: &[Features<'_>],
        batched: bool,
        keys: &Keys,
        defaults: &[Value],
    ) -> Result<Values> {
        if keys.dense.len() != self.dense.len()
            || defaults.len() != self.dense.len()
            || keys.sparse.len() != self.sparse.len()
            || keys.ragged.len() != self.ragged.len()
        {
            return Err(Error::graph("keys, dtypes and defaults must go together"));
        }
        let mut columns: [Vec<Tensor>; 3] = Default::default();
        for (key, dtype) in keys.sparse.iter().zip(&self.sparse) {
            let parts = sparse(examples, key, *dtype, batched)?;
            columns.iter_mut().zip(parts).for_each(|(c, p)| c.push(p));
        }
        let mut out: Values = columns.into_iter().flatten().map(Value::from).collect();
        for ((key, kind), default) in keys.dense.iter().zip(&self.dense).zip(defaults) {
            out.push(kind.column(examples, key, default.tensor()?, batched)?.into());
        }
        let (mut ragged_values, mut splits) = (Values::new(), Values::new());
        for (key, (dtype, splits_dtype)) in keys.ragged.iter().zip(&self.ragged) {
            let (mut parts, mut ends) = (Vec::new(), vec![0]);
            for features in examples {
                parts.extend(features.get(&**key).map(|f| values(f, key, *dtype)).transpose()?);
                ends.push(parts.iter().map(Tensor::len).sum());
            }
            ragged_values.push(join(&parts, *dtype)?.into());
            splits.push(super::args::ints(ends, *splits_dtype)?.into());
        }
        out.extend(ragged_values);
        out.extend(splits);
        Ok(out)
    }
}

impl Dense {
    /// The feature of every example, one after another, or of the only one.
    fn column(&self, examples: &[Features<'_>], key: &[u8], default: &Tensor, batched: bool) -> Result<Tensor> {
        let name = String::from_utf8_lossy(key);
        let n: usize = crate::tensor::checked_elements(&self.shape)?;
        let mut parts = Vec::with_capacity(examples.len());
        for features in examples {
            // A default of no elements means that there is none.
            let part = match features.get(key) {
                Some(f) => values(f, key, self.dtype)?,
                None if self.grows => Tensor::zeros(self.dtype, [0])?,
                None if default.is_empty() && n > 0 => {
                    return Err(Error::compute(format!("an example has no feature {name:?}")));
                }
                None if default.len() == 1 && n != 1 => array::fill(&self.shape, default)?.reshape([n])?,
                None => default.clone().reshape([default.len()])?,
            };
            let fits = if self.grows { n > 0 && part.len() % n == 0 } else { part.len() == n };
            if !fits {
                return Err(Error::compute(format!("feature {name:?} has {} values, not {n}", part.len())));
            }
            parts.push(part);
        }
        let mut shape = if batched { vec![examples.len()] } else { Vec::new() };
        if self.grows {
            let longest = parts.iter().map(Tensor::len).max().unwrap_or_default();
            let filler = if default.is_empty() { Tensor::zeros(self.dtype, [1])? } else { default.clone() };
            let filler = array::slice(&filler.clone().reshape([filler.len()])?, &[0], &[1])?.reshape([])?;
            for part in &mut parts {
                *part = array::pad(part, &[(0, longest - part.len())], &filler)?;
            }
            shape.push(longest / n.max(1));
        }
        shape.extend(&self.shape);
        Ok(join(&parts, self.dtype)?.reshape(shape)?)
    }
}

/// A sparse tensor of all values of a feature: indices, values, shape.
fn sparse(examples: &[Features<'_>], key: &[u8], dtype: DType, batched: bool) -> Result<[Tensor; 3]> {
    let (mut parts, mut indices, mut widest) = (Vec::new(), Vec::new(), 0);
    for (row, features) in examples.iter().enumerate() {
        let Some(f) = features.get(key) else { continue };
        let part = values(f, key, dtype)?;
        widest = widest.max(part.len());
        for column in 0..part.len() {
            if batched {
                indices.push(row as i64);
            }
            indices.push(column as i64);
        }
        parts.push(part);
    }
    let values = join(&parts, dtype)?;
    let n = values.len();
    let shape = if batched { vec![examples.len() as i64, widest as i64] } else { vec![widest as i64] };
    let dims = shape.len();
    Ok([Tensor::from_vec(indices, [n, dims])?, values, Tensor::from_vec(shape, [dims])?])
}

/// The features of each serialized `Example`.
fn read(serialized: &Tensor) -> Result<Vec<Features<'_>>> {
    let broken = || Error::compute("the input isn't a serialized Example");
    serialized.strings()?.iter().map(|s| example(s).ok_or_else(broken)).collect()
}

fn too_few() -> Error {
    Error::graph("has too few inputs")
}

fn parse(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (dense, sparse) = (dense(a, "Tdense", "dense_shapes")?, types(a, "sparse_types")?);
    let parser = Parser { dense, sparse, ragged: Vec::new() };
    Ok(kernel(move |_, inputs| {
        let mut rest: Vec<Value> = inputs.into_vec();
        let [serialized, _names] = take_first(&mut rest)?;
        if rest.len() < parser.sparse.len() + parser.dense.len() {
            return Err(too_few());
        }
        let mut dense_keys = rest.split_off(parser.sparse.len());
        let defaults = dense_keys.split_off(parser.dense.len());
        let keys = Keys { sparse: keys(rest)?, dense: keys(dense_keys)?, ragged: Vec::new() };
        let serialized = serialized.tensor()?;
        parser.parse(&read(serialized)?, serialized.rank() > 0, &keys, &defaults)
    }))
}

fn parse_v2(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let parser = Parser {
        dense: dense(a, "Tdense", "dense_shapes")?,
        sparse: types(a, "sparse_types")?,
        ragged: ragged(a, "ragged_value_types", "ragged_split_types")?,
    };
    Ok(kernel(move |_, inputs| {
        let mut rest: Vec<Value> = inputs.into_vec();
        let [serialized, _names, sparse, dense, ragged] = take_first(&mut rest)?;
        let keys = Keys { sparse: keys(vec![sparse])?, dense: keys(vec![dense])?, ragged: keys(vec![ragged])? };
        let serialized = serialized.tensor()?;
        parser.parse(&read(serialized)?, serialized.rank() > 0, &keys, &rest)
    }))
}

fn parse_single(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (dense, sparse) = (dense(a, "Tdense", "dense_shapes")?, types(a, "sparse_types")?);
    let parser = Parser { dense, sparse, ragged: Vec::new() };
    let keys = Keys {
        sparse: listed_keys(a, "sparse_keys")?,
        dense: listed_keys(a, "dense_keys")?,
        ragged: Vec::new(),
    };
    Ok(kernel(move |_, inputs| {
        let mut rest: Vec<Value> = inputs.into_vec();
        let [serialized] = take_first(&mut rest)?;
        let serialized = serialized.tensor()?;
        if serialized.rank() > 0 {
            return Err(Error::compute(format!("one example is taken, got shape {:?}", serialized.shape())));
        }
        parser.parse(&read(serialized)?, false, &keys, &rest)
    }))
}

pub(super) const OPS: &[Op] =
    &[Op::new("ParseExample(serialized: string, names: string, sparse_keys: Nsparse * string, dense_keys: Ndense * string, dense_defaults: [Tdense]) -> (sparse_indices: Nsparse * int64, sparse_values: [sparse_types], sparse_shapes: Nsparse * int64, dense_values: [Tdense]); Nsparse: int; Ndense: int; sparse_types: list(type); Tdense: list(type); dense_shapes: list(shape)", parse), Op::new("ParseExampleV2(serialized: string, names: string, sparse_keys: string, dense_keys: string, ragged_keys: string, dense_defaults: [Tdense]) -> (sparse_indices: num_sparse * int64, sparse_values: [sparse_types], sparse_shapes: num_sparse * int64, dense_values: [Tdense], ragged_values: [ragged_value_types], ragged_row_splits: [ragged_split_types]); Tdense: list(type); num_sparse: int; sparse_types: list(type); ragged_value_types: list(type); ragged_split_types: list(type); dense_shapes: list(shape)", parse_v2),
    Op::new("ParseSingleExample(serialized: string, dense_defaults: [Tdense]) -> (sparse_indices: num_sparse * int64, sparse_values: [sparse_types], sparse_shapes: num_sparse * int64, dense_values: [Tdense]); num_sparse: int; sparse_keys: list(string); dense_keys: list(string); sparse_types: list(type); Tdense: list(type); dense_shapes: list(shape)", parse_single),
];

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
