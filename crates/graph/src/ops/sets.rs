//! Rows of tensors, dense or sparse, as sets.

use std::collections::{BTreeMap, BTreeSet};

use super::args::{one, tensors};
use super::coordinates::{Coordinates, Sparse, pick};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{DType, Tensor, checked_elements};
use crate::{Error, Result};

/// What becomes of two sets.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Operation {
    Minus,
    MinusFrom,
    Intersection,
    Union,
}

impl Operation {
    fn parse(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "a-b" => Ok(Operation::Minus),
            "b-a" => Ok(Operation::MinusFrom),
            "intersection" => Ok(Operation::Intersection),
            "union" => Ok(Operation::Union),
            other => Err(Error::graph(format!("there is no set operation {other:?}"))),
        }
    }

    fn apply(self, a: &BTreeSet<usize>, b: &BTreeSet<usize>) -> Vec<usize> {
        match self {
            Operation::Minus => a.difference(b).copied().collect(),
            Operation::MinusFrom => b.difference(a).copied().collect(),
            Operation::Intersection => a.intersection(b).copied().collect(),
            Operation::Union => a.union(b).copied().collect(),
        }
    }
}

/// Values, with the row that each is in.
struct Rows {
    values: Tensor,
    rows: Coordinates,
    /// The shape without its last dimension, in which the elements of a set lie.
    shape: Vec<i64>,
}

impl Rows {
    fn dense(x: &Tensor) -> Result<Self> {
        let Some((&n, outer)) = x.shape().split_last().filter(|(_, o)| !o.is_empty()) else {
            return Err(Error::compute(format!("sets lie in rows, got shape {:?}", x.shape())));
        };
        let count = checked_elements(outer)?;
        let row = |i: usize| {
            let mut left = i / n.max(1);
            let mut row: Vec<i64> = Vec::with_capacity(outer.len());
            for extent in outer.iter().rev() {
                row.push((left % extent) as i64);
                left /= extent;
            }
            row.reverse();
            row
        };
        let rows = Coordinates::from_rows(outer.len(), (0..count * n).map(row));
        Ok(Rows { values: x.clone().reshape([x.len()])?, rows, shape: outer.iter().map(|n| *n as i64).collect() })
    }

    fn sparse(indices: &Tensor, values: Tensor, shape: &Tensor, validate: bool) -> Result<Self> {
        let x = Sparse::of(indices, values, shape)?;
        x.indices.check(&x.shape, validate)?;
        let Some((_, outer)) = x.shape.split_last().filter(|(_, o)| !o.is_empty()) else {
            return Err(Error::compute(format!("sets lie in rows, got shape {:?}", x.shape)));
        };
        let rows = Coordinates::from_rows(outer.len(), x.indices.rows().map(|row| &row[..outer.len()]));
        Ok(Rows { values: x.values, rows, shape: outer.to_vec() })
    }
}

/// For each element the place of the first one like it in a sorted order, and for each place one such element.
fn ranks(values: &Tensor) -> Result<(Vec<usize>, Vec<usize>)> {
    fn of<K: Ord>(keys: &[K]) -> (Vec<usize>, Vec<usize>) {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|a, b| keys[*a].cmp(&keys[*b]));
        let (mut ranks, mut firsts) = (vec![0; keys.len()], Vec::new());
        for (at, i) in order.iter().enumerate() {
            if at == 0 || keys[order[at - 1]] != keys[*i] {
                firsts.push(*i);
            }
            ranks[*i] = firsts.len() - 1;
        }
        (ranks, firsts)
    }
    if values.dtype() == DType::String { Ok(of(values.strings()?)) } else { Ok(of(&values.to_i64_vec()?)) }
}

fn operate(a: &Rows, b: &Rows, operation: Operation) -> Result<Sparse> {
    if a.shape != b.shape {
        return Err(Error::compute(format!("mismatched shapes of sets: {:?} and {:?}", a.shape, b.shape)));
    }
    let all = array::concat(&[&a.values, &b.values], 0)?;
    let (ranks, firsts) = ranks(&all)?;
    let mut sets: BTreeMap<&[i64], [BTreeSet<usize>; 2]> = BTreeMap::new();
    for (which, rows) in [(0, a), (1, b)] {
        let before = if which == 0 { 0 } else { a.values.len() };
        for (i, row) in rows.rows.rows().enumerate() {
            sets.entry(row).or_default()[which].insert(ranks[before + i]);
        }
    }
    let (mut indices, mut places, mut longest) = (Vec::new(), Vec::new(), 0);
    for (row, [a, b]) in &sets {
        let result = operation.apply(a, b);
        longest = longest.max(result.len() as i64);
        indices.extend((0..result.len() as i64).map(|j| row.iter().copied().chain([j]).collect::<Vec<_>>()));
        places.extend(result.into_iter().map(|rank| firsts[rank]));
    }
    let shape: Vec<i64> = a.shape.iter().copied().chain([longest]).collect();
    Ok(Sparse { indices: Coordinates::from_rows(shape.len(), indices), values: pick(&all, &places)?, shape })
}

/// Both sets dense, or one or both sparse.
fn operation(a: &NodeAttrs<'_>, sparse: [bool; 2]) -> Result<Box<dyn Kernel>> {
    let (operation, validate) = (Operation::parse(a.str("set_operation")?)?, a.bool("validate_indices")?);
    Ok(kernel(move |_, inputs| {
        let all = super::args::all_tensors(inputs)?;
        let mut left = all.iter();
        let mut next = || left.next().ok_or_else(|| Error::graph("takes two sets"));
        let mut set = |sparse: bool| {
            if !sparse {
                return Rows::dense(next()?);
            }
            let (indices, values) = (next()?, next()?.clone());
            Rows::sparse(indices, values, next()?, validate)
        };
        let (a, b) = (set(sparse[0])?, set(sparse[1])?);
        operate(&a, &b, operation)?.outputs()
    }))
}

fn size(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let validate = a.bool("validate_indices")?;
    Ok(kernel(move |_, inputs| {
        let [indices, values, shape] = tensors(inputs)?;
        let set = Rows::sparse(&indices, values, &shape, validate)?;
        let (ranks, _) = ranks(&set.values)?;
        let mut sets: BTreeMap<&[i64], BTreeSet<usize>> = BTreeMap::new();
        for (row, rank) in set.rows.rows().zip(ranks) {
            sets.entry(row).or_default().insert(rank);
        }
        let places = Coordinates::from_rows(set.shape.len(), sets.keys()).tensor()?;
        let sizes: Vec<i32> = sets.values().map(|s| s.len() as i32).collect();
        let n = sizes.len();
        let extents = super::coordinates::extents(&set.shape)?;
        one(array::scatter_nd(&places, &Tensor::from_vec(sizes, [n])?, &extents)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("DenseToDenseSetOperation(set1: T, set2: T) -> (result_indices: int64, result_values: T, result_shape: int64); set_operation: string; validate_indices: bool = true; T: type", |a| operation(a, [false, false])),
    Op::new("DenseToSparseSetOperation(set1: T, set2_indices: int64, set2_values: T, set2_shape: int64) -> (result_indices: int64, result_values: T, result_shape: int64); set_operation: string; validate_indices: bool = true; T: type", |a| operation(a, [false, true])),
    Op::new("SparseToSparseSetOperation(set1_indices: int64, set1_values: T, set1_shape: int64, set2_indices: int64, set2_values: T, set2_shape: int64) -> (result_indices: int64, result_values: T, result_shape: int64); set_operation: string; validate_indices: bool = true; T: type", |a| operation(a, [true, true])),
    Op::new("SetSize(set_indices: int64, set_values: T, set_shape: int64) -> (size: int32); validate_indices: bool = true; T: type", size),
];
