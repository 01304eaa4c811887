//! Crossed features: for each row, all combinations of one feature of each column.

use std::ops::Range;

use siphasher::sip::SipHasher24;

use super::args::{all_tensors, extents, many};
use super::coordinates::{Coordinates, Sparse, vector};
use super::{NodeAttrs, Op};
use crate::engine::{Context, Kernel, Values, kernel};
use crate::tensor::{ByteString, DType, Tensor};
use crate::{Error, Result};

enum Features {
    Strings(Vec<ByteString>),
    Numbers(Vec<i64>),
}

/// A column's features, and which of them each row has.
struct Column {
    features: Features,
    rows: Vec<Range<usize>>,
}

impl Column {
    fn new(values: &Tensor, rows: Vec<Range<usize>>) -> Result<Self> {
        let features = if values.dtype() == DType::String {
            Features::Strings(values.strings()?.to_vec())
        } else {
            Features::Numbers(values.to_i64_vec()?)
        };
        Ok(Column { features, rows })
    }

    fn dense(x: &Tensor) -> Result<Self> {
        let &[rows, n] = x.shape() else {
            return Err(Error::compute(format!("dense features are a matrix, got shape {:?}", x.shape())));
        };
        Column::new(x, (0..rows).map(|i| i * n..(i + 1) * n).collect())
    }

    fn sparse(indices: &Tensor, values: Tensor, shape: &Tensor) -> Result<Self> {
        let x = Sparse::of(indices, values, shape)?;
        x.indices.check(&x.shape, false)?;
        let &[rows, _] = &x.extents()?[..] else {
            return Err(Error::compute(format!("sparse features are a matrix, got shape {:?}", x.shape)));
        };
        let of: Vec<usize> = x.indices.rows().map(|row| row[0] as usize).collect();
        if !of.is_sorted() {
            return Err(Error::compute("sparse features must be ordered by row: tf.sparse.reorder would do it"));
        }
        let start = |row: usize| of.partition_point(|r| *r < row);
        Column::new(&x.values, (0..rows).map(|row| start(row)..start(row + 1)).collect())
    }

    fn ragged(values: &Tensor, splits: &Tensor) -> Result<Self> {
        let splits = extents(splits, "row splits")?;
        let ends = splits.first() == Some(&0) && splits.last() == Some(&values.len());
        if !ends || !splits.is_sorted() || values.rank() != 1 {
            return Err(Error::compute("row splits must rise from 0 to the number of features"));
        }
        Column::new(values, splits.windows(2).map(|w| w[0]..w[1]).collect())
    }
}

/// Two fingerprints as one.
fn concatenated(a: u64, b: u64) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    let mix = |v: u64| v ^ (v >> 47);
    let v = (a ^ FACTOR ^ mix(b.wrapping_mul(FACTOR)).wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    mix(mix(v).wrapping_mul(FACTOR))
}

/// What a combination becomes.
enum Crossing {
    /// Text, with a separator.
    Joined(Vec<u8>),
    /// A number under `buckets`, if that isn't 0: of fingerprints, the numbers among features being their own.
    Keyed { key: u64, buckets: u64 },
    /// As before, but without a key, or hashed with one.
    Salted { hasher: Option<SipHasher24>, buckets: u64 },
}

impl Crossing {
    fn join(separator: &[u8], features: &[(&Column, usize)]) -> ByteString {
        let part = |(column, i): &(&Column, usize)| match &column.features {
            Features::Strings(s) => s[*i].to_vec(),
            Features::Numbers(n) => n[*i].to_string().into_bytes(),
        };
        features.iter().map(part).collect::<Vec<_>>().join(separator).into()
    }

    fn hash(&self, features: &[(&Column, usize)]) -> i64 {
        let (hash, buckets) = match self {
            Crossing::Joined(_) => return 0,
            Crossing::Keyed { key, buckets } => {
                let one = |(column, i): &(&Column, usize)| match &column.features {
                    Features::Strings(s) => farmhash::fingerprint64(&s[*i]),
                    Features::Numbers(n) => n[*i] as u64,
                };
                (features.iter().map(one).fold(*key, concatenated), *buckets)
            }
            Crossing::Salted { hasher, buckets } => {
                let bytes = |b: &[u8]| hasher.map_or_else(|| farmhash::fingerprint64(b), |h| h.hash(b));
                let one = |(column, i): &(&Column, usize)| match &column.features {
                    Features::Strings(s) => bytes(&s[*i]),
                    // Only the lower half of a number counts.
                    Features::Numbers(n) => bytes(&(n[*i] as i32).to_le_bytes()),
                };
                (features.iter().map(one).reduce(concatenated).unwrap_or_default(), *buckets)
            }
        };
        // Without buckets the result is still to be positive.
        (hash % if buckets > 0 { buckets } else { i64::MAX as u64 }) as i64
    }
}

/// All combinations, and how many each row has.
fn cross(columns: &[Column], how: &Crossing, context: &dyn Context) -> Result<(Tensor, Vec<i64>)> {
    let rows = columns.first().map_or(0, |c| c.rows.len());
    if let Some(odd) = columns.iter().find(|c| c.rows.len() != rows) {
        return Err(Error::compute(format!("columns of {rows} and of {} rows", odd.rows.len())));
    }
    let (mut strings, mut numbers, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..rows {
        context.check()?;
        let held: Vec<Range<usize>> = columns.iter().map(|c| c.rows[row].clone()).collect();
        let total = held.iter().try_fold(1usize, |n, r| n.checked_mul(r.len()));
        let total = total.ok_or_else(|| Error::compute(format!("row {row} has more combinations than can be counted")))?;
        for n in 0..total {
            if n % 65_536 == 65_535 {
                context.check()?;
            }
            // The last column's features change fastest.
            let mut left = n;
            let mut features: Vec<(&Column, usize)> = Vec::with_capacity(columns.len());
            for (column, held) in columns.iter().zip(&held).rev() {
                features.push((column, held.start + left % held.len()));
                left /= held.len();
            }
            features.reverse();
            match how {
                Crossing::Joined(separator) => strings.push(Crossing::join(separator, &features)),
                _ => numbers.push(how.hash(&features)),
            }
        }
        counts.push(total as i64);
    }
    let values = match how {
        Crossing::Joined(_) => {
            let n = strings.len();
            Tensor::from_strings(strings, [n])?
        }
        _ => vector(numbers)?,
    };
    Ok((values, counts))
}

/// The combinations as a sparse matrix.
fn sparse(columns: &[Column], how: &Crossing, context: &dyn Context) -> Result<Values> {
    let (values, counts) = cross(columns, how, context)?;
    let row = |(row, n): (usize, &i64)| (0..*n).map(move |i| [row as i64, i]);
    let indices = Coordinates::from_rows(2, counts.iter().enumerate().flat_map(row));
    let widest = counts.iter().max().copied().unwrap_or_default();
    many([indices.tensor()?, values, vector(vec![counts.len() as i64, widest])?])
}

/// How many inputs a list attribute stands for.
fn listed(a: &NodeAttrs<'_>, name: &str) -> usize {
    a.get(name).and_then(|l| l.as_list()).map_or(0, |l| l.len())
}

fn count(a: &NodeAttrs<'_>, name: &str) -> Result<usize> {
    usize::try_from(a.int(name)?).map_err(|_| Error::graph(format!("attribute {name:?} is negative")))
}

/// Sparse columns, `n` of them, then dense ones, taken off the front of inputs.
fn columns(inputs: &[Tensor], n: usize, dense: usize) -> Result<Vec<Column>> {
    let (Some(sparse), Some(dense)) = (inputs.get(..3 * n), inputs.get(3 * n..3 * n + dense)) else {
        return Err(Error::graph(format!("{} inputs aren't {n} sparse and {dense} dense columns", inputs.len())));
    };
    let sparse = (0..n).map(|i| Column::sparse(&sparse[i], sparse[n + i].clone(), &sparse[2 * n + i]));
    sparse.chain(dense.iter().map(Column::dense)).collect()
}

fn keyed(a: &NodeAttrs<'_>) -> Result<Crossing> {
    if !a.bool("hashed_output")? {
        return Ok(Crossing::Joined(b"_X_".to_vec()));
    }
    let buckets = a.int("num_buckets")?;
    let buckets = u64::try_from(buckets).map_err(|_| Error::graph(format!("num_buckets is {buckets}")))?;
    Ok(Crossing::Keyed { key: a.int("hash_key")? as u64, buckets })
}

fn first_version(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (n, dense, how) = (count(a, "N")?, listed(a, "dense_types"), keyed(a)?);
    Ok(kernel(move |context, inputs| {
        let all = all_tensors(inputs)?;
        sparse(&columns(&all, n, dense)?, &how, context)
    }))
}

fn joined(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (n, dense) = (count(a, "N")?, listed(a, "dense_types"));
    Ok(kernel(move |context, inputs| {
        let all = all_tensors(inputs)?;
        let Some(separator) = all.last().map(|t| t.strings()).transpose()?.and_then(|s| s.first()) else {
            return Err(Error::graph("takes a separator"));
        };
        sparse(&columns(&all, n, dense)?, &Crossing::Joined(separator.to_vec()), context)
    }))
}

fn hashed(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (n, dense) = (count(a, "N")?, listed(a, "dense_types"));
    Ok(kernel(move |context, inputs| {
        let all = all_tensors(inputs)?;
        let [.., buckets, strong, salt] = &all[..] else { return Err(Error::graph("takes buckets and a salt")) };
        let buckets = super::args::int(buckets, "num_buckets")?;
        let buckets = u64::try_from(buckets).map_err(|_| Error::compute(format!("num_buckets is {buckets}")))?;
        let &[first, second] = &salt.to_i64_vec()?[..] else {
            return Err(Error::compute(format!("a salt is two integers, got shape {:?}", salt.shape())));
        };
        let strong = strong.item::<crate::tensor::Bool>()?.get();
        let hasher = strong.then(|| SipHasher24::new_with_keys(first as u64, second as u64));
        sparse(&columns(&all, n, dense)?, &Crossing::Salted { hasher, buckets }, context)
    }))
}

/// Columns in an order of their own, ragged ones among them, to ragged rows.
fn ragged(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (r, n, d) = (listed(a, "ragged_values_types"), count(a, "Nsparse")?, listed(a, "dense_types"));
    let order = a.str("input_order")?.to_owned();
    let (how, splits_dtype) = (keyed(a)?, a.dtype("out_row_splits_type")?);
    Ok(kernel(move |context, inputs| {
        let all = all_tensors(inputs)?;
        if all.len() < 2 * r {
            return Err(Error::graph(format!("{} inputs aren't {r} ragged columns", all.len())));
        }
        let mut rags = (0..r).map(|i| Column::ragged(&all[i], &all[r + i]));
        let mut others = columns(&all[2 * r..], n, d)?.into_iter();
        let (mut sparse, mut dense): (Vec<Column>, Vec<Column>) = (others.by_ref().take(n).collect(), Vec::new());
        dense.extend(others);
        let (mut sparse, mut dense) = (sparse.drain(..), dense.drain(..));
        let pick = |kind: char| match kind {
            'R' => rags.next(),
            'S' => sparse.next().map(Ok),
            'D' => dense.next().map(Ok),
            _ => None,
        };
        let picked: Option<Result<Vec<Column>>> = order.chars().map(pick).collect::<Option<Vec<_>>>().map(|v| v.into_iter().collect());
        let picked = picked.ok_or_else(|| Error::graph(format!("input_order {order:?} doesn't fit the inputs")))??;
        let (values, counts) = cross(&picked, &how, context)?;
        let mut splits = vec![0usize];
        for n in counts {
            splits.push(splits.last().copied().unwrap_or(0) + n as usize);
        }
        many([values, super::args::ints(splits, splits_dtype)?])
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("SparseCross(indices: N * int64, values: [sparse_types], shapes: N * int64, dense_inputs: [dense_types]) -> (output_indices: int64, output_values: out_type, output_shape: int64); N: int; hashed_output: bool; num_buckets: int; hash_key: int; sparse_types: list(type); dense_types: list(type); out_type: type; internal_type: type", first_version),
    Op::new("SparseCrossV2(indices: N * int64, values: [sparse_types], shapes: N * int64, dense_inputs: [dense_types], sep: string) -> (output_indices: int64, output_values: string, output_shape: int64); N: int; sparse_types: list(type); dense_types: list(type)", joined),
    Op::new("SparseCrossHashed(indices: N * int64, values: [sparse_types], shapes: N * int64, dense_inputs: [dense_types], num_buckets: int64, strong_hash: bool, salt: int64) -> (output_indices: int64, output_values: int64, output_shape: int64); N: int; sparse_types: list(type); dense_types: list(type)", hashed),
    Op::new("RaggedCross(ragged_values: [ragged_values_types], ragged_row_splits: [ragged_splits_types], sparse_indices: Nsparse * int64, sparse_values: [sparse_values_types], sparse_shape: Nsparse * int64, dense_inputs: [dense_types]) -> (output_values: out_values_type, output_row_splits: out_row_splits_type); Nsparse: int; input_order: string; hashed_output: bool; num_buckets: int; hash_key: int; ragged_values_types: list(type); ragged_splits_types: list(type); sparse_values_types: list(type); dense_types: list(type); out_values_type: type; out_row_splits_type: type", ragged),
];
