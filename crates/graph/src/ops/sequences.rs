//! Parsing `tf.train.SequenceExample`: features of a whole example, and lists of features, one for each step.

use std::collections::HashMap;

use super::args::{ints, take_first, types};
use super::examples::{Feature, Features, Keys, Parser, Ragged};
use super::examples::{dense, feature, features, join, keys, listed_keys, ragged, values};
use super::wire::Fields;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{Bool, ByteString, DType, PartialShape, Tensor, checked_elements};
use crate::{Attr, Error, Result};

/// A feature for each step; a step may lack it.
type Steps = Vec<Option<Feature>>;

/// One example: what all of it has, and what its steps have, by name.
struct Sequence<'a> {
    context: Features<'a>,
    lists: HashMap<&'a [u8], Steps>,
}

/// A serialized `SequenceExample`; `None` when it isn't one.
fn sequence(bytes: &[u8]) -> Option<Sequence<'_>> {
    let fields = Fields(bytes);
    let context = features(&fields.clone().messages(1)?)?;
    let mut lists = HashMap::new();
    for map in fields.messages(2)? {
        for entry in Fields(map).messages(1)? {
            let key = Fields(entry).messages(1)?.last().copied().unwrap_or_default();
            let list = Fields(entry).messages(2)?.last().copied().unwrap_or_default();
            let steps = Fields(list).messages(1)?.into_iter().map(feature).collect::<Option<Steps>>()?;
            lists.insert(key, steps);
        }
    }
    Some(Sequence { context, lists })
}

/// What is read from each example.
struct SequenceParser {
    context: Parser,
    dense: Vec<(DType, Vec<usize>)>,
    sparse: Vec<DType>,
    ragged: Vec<Ragged>,
    /// Whether the number of steps goes with what every step has.
    lengths: bool,
}

/// The keys of what steps have.
struct ListKeys {
    lists: Keys,
    /// Whether no list is taken for an empty one, of what every step must have.
    optional: Vec<bool>,
}

impl SequenceParser {
    fn read(a: &NodeAttrs<'_>, with_ragged: bool, lengths: bool) -> Result<Self> {
        let list = a.get("feature_list_dense_shapes").and_then(Attr::as_list).unwrap_or_default();
        let shapes = list.iter().map(|s| {
            let dims = s.as_shape().and_then(PartialShape::dims);
            let known: Option<Vec<usize>> = dims.and_then(|d| d.iter().copied().collect());
            known.ok_or_else(|| Error::unsupported("a list of dense features whose shape isn't known"))
        });
        let shapes = shapes.collect::<Result<Vec<_>>>()?;
        let both = |values: &str, splits: &str| if with_ragged { ragged(a, values, splits) } else { Ok(Vec::new()) };
        Ok(SequenceParser {
            context: Parser {
                dense: dense(a, "Tcontext_dense", "context_dense_shapes")?,
                sparse: types(a, "context_sparse_types")?,
                ragged: both("context_ragged_value_types", "context_ragged_split_types")?,
            },
            dense: types(a, "feature_list_dense_types")?.into_iter().zip(shapes).collect(),
            sparse: types(a, "feature_list_sparse_types")?,
            ragged: both("feature_list_ragged_value_types", "feature_list_ragged_split_types")?,
            lengths,
        })
    }

    fn parse(&self, serialized: &Tensor, context: &Keys, steps: &ListKeys, defaults: &[Value]) -> Result<Values> {
        let batched = serialized.rank() > 0;
        let broken = || Error::compute("the input isn't a serialized SequenceExample");
        let mut contexts = Vec::new();
        let mut lists = Vec::new();
        for message in serialized.strings()? {
            let one = sequence(message).ok_or_else(broken)?;
            contexts.push(one.context);
            lists.push(one.lists);
        }
        let keys = &steps.lists;
        if keys.dense.len() != self.dense.len()
            || keys.sparse.len() != self.sparse.len()
            || keys.ragged.len() != self.ragged.len()
            || steps.optional.len() != self.dense.len()
        {
            return Err(Error::graph("keys and dtypes of feature lists must go together"));
        }
        let mut out = self.context.parse(&contexts, batched, context, defaults)?;
        let mut columns: [Vec<Tensor>; 3] = Default::default();
        for (key, dtype) in keys.sparse.iter().zip(&self.sparse) {
            let parts = sparse(&lists, key, *dtype, batched)?;
            columns.iter_mut().zip(parts).for_each(|(c, p)| c.push(p));
        }
        out.extend(columns.into_iter().flatten().map(Value::from));
        let mut lengths = Vec::new();
        for ((key, (dtype, shape)), optional) in keys.dense.iter().zip(&self.dense).zip(&steps.optional) {
            let (column, length) = column(&lists, key, *dtype, shape, *optional, batched)?;
            out.push(column.into());
            lengths.push(length);
        }
        if self.lengths {
            out.extend(lengths.into_iter().map(Value::from));
        }
        let mut columns: [Vec<Tensor>; 3] = Default::default();
        for (key, kind) in keys.ragged.iter().zip(&self.ragged) {
            columns.iter_mut().zip(rows(&lists, key, *kind, batched)?).for_each(|(c, p)| c.push(p));
        }
        out.extend(columns.into_iter().flatten().map(Value::from));
        Ok(out)
    }
}

type Lists<'a> = [HashMap<&'a [u8], Steps>];

/// All values of a feature of steps, as a sparse tensor of example, step and place.
fn sparse(lists: &Lists<'_>, key: &[u8], dtype: DType, batched: bool) -> Result<[Tensor; 3]> {
    let (mut parts, mut indices, mut longest, mut widest) = (Vec::new(), Vec::new(), 0, 0);
    for (row, lists) in lists.iter().enumerate() {
        let Some(steps) = lists.get(key) else { continue };
        longest = longest.max(steps.len());
        for (step, feature) in steps.iter().enumerate() {
            let Some(feature) = feature else { continue };
            let part = values(feature, key, dtype)?;
            widest = widest.max(part.len());
            for place in 0..part.len() {
                indices.extend([row, step, place].iter().skip(usize::from(!batched)).map(|v| *v as i64));
            }
            parts.push(part);
        }
    }
    let values = join(&parts, dtype)?;
    let shape = [lists.len(), longest, widest];
    let shape: Vec<i64> = shape.iter().skip(usize::from(!batched)).map(|v| *v as i64).collect();
    let (n, rank) = (values.len(), shape.len());
    Ok([Tensor::from_vec(indices, [n, rank])?, values, Tensor::from_vec(shape, [rank])?])
}

/// A feature that every step has, of one shape, filled up to the longest example, and how many steps there are.
fn column(
    lists: &Lists<'_>,
    key: &[u8],
    dtype: DType,
    shape: &[usize],
    optional: bool,
    batched: bool,
) -> Result<(Tensor, Tensor)> {
    let name = String::from_utf8_lossy(key);
    let n = checked_elements(shape)?;
    let (mut examples, mut lengths) = (Vec::new(), Vec::new());
    for lists in lists {
        let steps = match lists.get(key) {
            Some(steps) => &steps[..],
            None if optional => &[],
            None => return Err(Error::compute(format!("an example has no feature list {name:?}"))),
        };
        let mut parts = Vec::with_capacity(steps.len());
        for feature in steps {
            let part = match feature {
                Some(f) => values(f, key, dtype)?,
                None => Tensor::zeros(dtype, [0])?,
            };
            if part.len() != n {
                return Err(Error::compute(format!("a step of {name:?} has {} values, not {n}", part.len())));
            }
            parts.push(part);
        }
        lengths.push(steps.len() as i64);
        examples.push(join(&parts, dtype)?);
    }
    let longest = lengths.iter().max().copied().unwrap_or_default() as usize;
    let filler = Tensor::zeros(dtype, [])?;
    for part in &mut examples {
        let missing = longest.saturating_mul(n).saturating_sub(part.len());
        *part = array::pad(part, &[(0, missing)], &filler)?;
    }
    let mut whole = if batched { vec![examples.len(), longest] } else { vec![longest] };
    whole.extend(shape);
    let count = lengths.len();
    let lengths = Tensor::from_vec(lengths, if batched { vec![count] } else { Vec::new() })?;
    Ok((join(&examples, dtype)?.reshape(whole)?, lengths))
}

/// A feature of steps as a ragged tensor: values, where examples begin among the steps, and steps among the values.
fn rows(lists: &Lists<'_>, key: &[u8], (dtype, splits): Ragged, batched: bool) -> Result<[Tensor; 3]> {
    let (mut parts, mut outer, mut inner, mut count) = (Vec::new(), vec![0], vec![0], 0);
    for lists in lists {
        for feature in lists.get(key).into_iter().flatten() {
            if let Some(feature) = feature {
                let part = values(feature, key, dtype)?;
                count += part.len();
                parts.push(part);
            }
            inner.push(count);
        }
        outer.push(inner.len() - 1);
    }
    // Of one example there is nothing to tell, and that is a scalar.
    let outer = if batched { ints(outer, splits)? } else { Tensor::zeros(splits, [])? };
    Ok([join(&parts, dtype)?, outer, ints(inner, splits)?])
}

fn parse(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let parser = SequenceParser::read(a, false, true)?;
    let context = Keys {
        sparse: listed_keys(a, "context_sparse_keys")?,
        dense: listed_keys(a, "context_dense_keys")?,
        ..Keys::default()
    };
    let lists = Keys {
        sparse: listed_keys(a, "feature_list_sparse_keys")?,
        dense: listed_keys(a, "feature_list_dense_keys")?,
        ..Keys::default()
    };
    let empty = listed_keys(a, "feature_list_dense_missing_assumed_empty")?;
    let optional = lists.dense.iter().map(|k| empty.contains(k)).collect();
    let steps = ListKeys { lists, optional };
    Ok(kernel(move |_, inputs| {
        let mut rest = inputs.into_vec();
        let [serialized, _names] = take_first(&mut rest)?;
        parser.parse(serialized.tensor()?, &context, &steps, &rest)
    }))
}

fn parse_v2(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let parser = SequenceParser::read(a, true, true)?;
    Ok(kernel(move |_, inputs| {
        let mut rest = inputs.into_vec();
        let [serialized, _names] = take_first(&mut rest)?;
        let mut three = || -> Result<Keys> {
            let [sparse, dense, ragged] = take_first(&mut rest)?;
            Ok(Keys { sparse: keys(vec![sparse])?, dense: keys(vec![dense])?, ragged: keys(vec![ragged])? })
        };
        let (context, lists) = (three()?, three()?);
        let [empty] = take_first(&mut rest)?;
        let optional = empty.tensor()?.elements::<Bool>()?.iter().map(|b| b.get()).collect();
        parser.parse(serialized.tensor()?, &context, &ListKeys { lists, optional }, &rest)
    }))
}

fn parse_single(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let parser = SequenceParser::read(a, false, false)?;
    let counts = [parser.context.sparse.len(), parser.context.dense.len(), parser.sparse.len(), parser.dense.len()];
    Ok(kernel(move |_, inputs| {
        let mut rest = inputs.into_vec();
        let [serialized, empty] = take_first(&mut rest)?;
        let mut next = |n: usize| -> Result<Vec<ByteString>> {
            if rest.len() < n {
                return Err(Error::graph("has too few inputs"));
            }
            keys(rest.drain(..n).collect())
        };
        let context = Keys { sparse: next(counts[0])?, dense: next(counts[1])?, ragged: Vec::new() };
        let lists = Keys { sparse: next(counts[2])?, dense: next(counts[3])?, ragged: Vec::new() };
        let empty = empty.tensor()?.strings()?.to_vec();
        let optional = lists.dense.iter().map(|k| empty.contains(k)).collect();
        let _name = rest.pop();
        let serialized = serialized.tensor()?;
        if serialized.rank() > 0 {
            return Err(Error::compute(format!("one example is taken, got shape {:?}", serialized.shape())));
        }
        parser.parse(serialized, &context, &ListKeys { lists, optional }, &rest)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("ParseSequenceExample(serialized: string, debug_name: string, context_dense_defaults: [Tcontext_dense]) -> (context_sparse_indices: Ncontext_sparse * int64, context_sparse_values: [context_sparse_types], context_sparse_shapes: Ncontext_sparse * int64, context_dense_values: [Tcontext_dense], feature_list_sparse_indices: Nfeature_list_sparse * int64, feature_list_sparse_values: [feature_list_sparse_types], feature_list_sparse_shapes: Nfeature_list_sparse * int64, feature_list_dense_values: [feature_list_dense_types], feature_list_dense_lengths: Nfeature_list_dense * int64); feature_list_dense_missing_assumed_empty: list(string); context_sparse_keys: list(string); context_dense_keys: list(string); feature_list_sparse_keys: list(string); feature_list_dense_keys: list(string); Ncontext_sparse: int = 0; Ncontext_dense: int = 0; Nfeature_list_sparse: int = 0; Nfeature_list_dense: int = 0; context_sparse_types: list(type) = []; Tcontext_dense: list(type) = []; feature_list_dense_types: list(type) = []; context_dense_shapes: list(shape) = []; feature_list_sparse_types: list(type) = []; feature_list_dense_shapes: list(shape) = []", parse),
    Op::new("ParseSequenceExampleV2(serialized: string, debug_name: string, context_sparse_keys: string, context_dense_keys: string, context_ragged_keys: string, feature_list_sparse_keys: string, feature_list_dense_keys: string, feature_list_ragged_keys: string, feature_list_dense_missing_assumed_empty: bool, context_dense_defaults: [Tcontext_dense]) -> (context_sparse_indices: Ncontext_sparse * int64, context_sparse_values: [context_sparse_types], context_sparse_shapes: Ncontext_sparse * int64, context_dense_values: [Tcontext_dense], context_ragged_values: [context_ragged_value_types], context_ragged_row_splits: [context_ragged_split_types], feature_list_sparse_indices: Nfeature_list_sparse * int64, feature_list_sparse_values: [feature_list_sparse_types], feature_list_sparse_shapes: Nfeature_list_sparse * int64, feature_list_dense_values: [feature_list_dense_types], feature_list_dense_lengths: Nfeature_list_dense * int64, feature_list_ragged_values: [feature_list_ragged_value_types], feature_list_ragged_outer_splits: [feature_list_ragged_split_types], feature_list_ragged_inner_splits: [feature_list_ragged_split_types]); Ncontext_sparse: int = 0; Tcontext_dense: list(type) = []; context_sparse_types: list(type) = []; context_ragged_value_types: list(type) = []; context_ragged_split_types: list(type) = []; context_dense_shapes: list(shape) = []; Nfeature_list_sparse: int = 0; Nfeature_list_dense: int = 0; feature_list_dense_types: list(type) = []; feature_list_sparse_types: list(type) = []; feature_list_ragged_value_types: list(type) = []; feature_list_ragged_split_types: list(type) = []; feature_list_dense_shapes: list(shape) = []", parse_v2),
    Op::new("ParseSingleSequenceExample(serialized: string, feature_list_dense_missing_assumed_empty: string, context_sparse_keys: Ncontext_sparse * string, context_dense_keys: Ncontext_dense * string, feature_list_sparse_keys: Nfeature_list_sparse * string, feature_list_dense_keys: Nfeature_list_dense * string, context_dense_defaults: [Tcontext_dense], debug_name: string) -> (context_sparse_indices: Ncontext_sparse * int64, context_sparse_values: [context_sparse_types], context_sparse_shapes: Ncontext_sparse * int64, context_dense_values: [Tcontext_dense], feature_list_sparse_indices: Nfeature_list_sparse * int64, feature_list_sparse_values: [feature_list_sparse_types], feature_list_sparse_shapes: Nfeature_list_sparse * int64, feature_list_dense_values: [feature_list_dense_types]); Ncontext_sparse: int = 0; Ncontext_dense: int = 0; Nfeature_list_sparse: int = 0; Nfeature_list_dense: int = 0; context_sparse_types: list(type) = []; Tcontext_dense: list(type) = []; feature_list_dense_types: list(type) = []; context_dense_shapes: list(shape) = []; feature_list_sparse_types: list(type) = []; feature_list_dense_shapes: list(shape) = []", parse_single),
];
