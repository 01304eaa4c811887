//! Reductions: of whole dimensions, with any body.

use modelark_stablehlo::Block;
use modelark_tensor::{DType, Shape};

use super::emit::{Val, ints};
use super::region::{alike, combiner};
use super::{Cx, Lower, Scope};
use crate::{Error, Result};

/// Bodies of one operation that TensorFlow has a reduction for, of booleans and of numbers.
const KNOWN: &[(&str, &str, &str)] = &[
    ("add", "Any", "Sum"),
    ("and", "All", ""),
    ("maximum", "Any", "Max"),
    ("minimum", "All", "Min"),
    ("multiply", "All", "Prod"),
    ("or", "Any", ""),
];

impl<'m> Lower<'m> {
    /// `None` when the operation is no reduction.
    pub(super) fn reductions(
        &mut self,
        scope: &Scope<'m>,
        cx: &Cx<'m>,
        inputs: &[Val],
    ) -> Result<Option<Vec<Val>>> {
        let body = || cx.op.regions.first().ok_or_else(|| Error::graph("it has no body"));
        Ok(Some(match cx.name() {
            "reduce" => {
                let (values, init) = alike(inputs)?;
                let dims = cx.sizes("dimensions")?;
                self.reduce(scope, body()?, values, init, &dims)?
            }
            "reduce_window" => self.reduce_window(scope, cx, body()?, inputs)?,
            "select_and_scatter" => vec![self.select_and_scatter(scope, cx, inputs)?],
            "sort" => self.sort(scope, cx, body()?, inputs)?,
            _ => return Ok(None),
        }))
    }

    pub(super) fn reduce(
        &mut self,
        scope: &Scope<'m>,
        body: &'m Block,
        values: &[Val],
        init: &[Val],
        dims: &[usize],
    ) -> Result<Vec<Val>> {
        let rank = values.first().map_or(0, Val::rank);
        if dims.iter().enumerate().any(|(i, d)| *d >= rank || dims[..i].contains(d)) {
            return Err(Error::graph(format!("there are no dimensions {dims:?} of {rank}")));
        }
        let kept: Vec<usize> = (0..rank).filter(|d| !dims.contains(d)).collect();
        let shape: Shape = kept.iter().map(|d| values[0].shape[*d]).collect();
        if let ([x], [start], Some(name)) = (values, init, combiner(body)) {
            let op = KNOWN
                .iter()
                .find(|(n, ..)| *n == name)
                .map(|(_, b, n)| if x.dtype == DType::Bool { *b } else { *n });
            if let Some(op) =
                op.filter(|op| !(op.is_empty() || x.dtype.is_complex() && matches!(*op, "Max" | "Min")))
            {
                let mut axes: Vec<usize> = dims.to_vec();
                axes.sort_unstable();
                let reduced = self.e.whole_op(op, &[x, &ints(&axes)?], &[], x.dtype, &shape)?;
                if is_neutral(op, start) {
                    return Ok(vec![reduced]);
                }
                let start = start.broadcast(&mut self.e, &shape, &[])?;
                return self.each(scope, body, vec![start, reduced]);
            }
        }
        // What is reduced comes first, and is halved until one row is left.
        let order: Vec<usize> = dims.iter().chain(&kept).copied().collect();
        let count =
            modelark_tensor::checked_elements(&dims.iter().map(|d| values[0].shape[*d]).collect::<Shape>())?;
        let rows: Shape = [count].into_iter().chain(shape.iter().copied()).collect();
        let mut rows = values
            .iter()
            .map(|v| {
                let turned = self.e.transpose(v, &order)?;
                self.e.reshape(&turned, &rows)
            })
            .collect::<Result<Vec<_>>>()?;
        let start = init.iter().map(|v| v.broadcast(&mut self.e, &shape, &[])).collect::<Result<Vec<_>>>()?;
        let mut left = count;
        if left == 0 {
            return Ok(start);
        }
        let part = |this: &mut Self, rows: &[Val], from: usize, size: usize| {
            let cut = |v: &Val| {
                let (mut begin, mut shape) = (vec![0; v.rank()], v.shape.clone());
                begin[0] = from;
                shape[0] = size;
                this.e.slice(v, &begin, &shape, &vec![1; v.rank()])
            };
            rows.iter().map(cut).collect::<Result<Vec<_>>>()
        };
        while left > 1 {
            let half = left / 2;
            let (first, second) = (part(self, &rows, 0, half)?, part(self, &rows, half, half)?);
            let mut made = self.each(scope, body, first.into_iter().chain(second).collect())?;
            if left % 2 == 1 {
                let odd = part(self, &rows, left - 1, 1)?;
                made = made
                    .into_iter()
                    .zip(odd)
                    .map(|(m, o)| self.e.concat(&[m, o], 0))
                    .collect::<Result<_>>()?;
            }
            left -= half;
            rows = made;
        }
        let last = rows.iter().map(|v| self.e.reshape(v, &shape)).collect::<Result<Vec<_>>>()?;
        self.each(scope, body, start.into_iter().chain(last).collect())
    }
}

/// Whether a reduction's first value changes nothing.
pub(super) fn is_neutral(op: &str, start: &Val) -> bool {
    let Some(value) = start.splat() else { return false };
    let wide = modelark_tensor::kernels::array::cast(&value, DType::F64).and_then(|t| t.item::<f64>());
    let Ok(value) = wide else { return false };
    match op {
        "Sum" | "Any" | "AddV2" | "LogicalOr" => value == 0.0,
        "Prod" | "All" | "Mul" | "LogicalAnd" => value == 1.0,
        "Max" | "Maximum" => value == lowest(start.dtype),
        "Min" | "Minimum" => value == highest(start.dtype),
        _ => false,
    }
}

fn lowest(dtype: DType) -> f64 {
    match dtype {
        d if d.is_float() => f64::NEG_INFINITY,
        DType::U8 | DType::U16 | DType::U32 | DType::U64 | DType::U4 | DType::U2 => 0.0,
        DType::I8 => i8::MIN.into(),
        DType::I16 => i16::MIN.into(),
        DType::I32 => i32::MIN.into(),
        DType::I64 => i64::MIN as f64,
        _ => f64::NAN,
    }
}

fn highest(dtype: DType) -> f64 {
    match dtype {
        d if d.is_float() => f64::INFINITY,
        DType::U8 => u8::MAX.into(),
        DType::U16 => u16::MAX.into(),
        DType::U32 => u32::MAX.into(),
        DType::I8 => i8::MAX.into(),
        DType::I16 => i16::MAX.into(),
        DType::I32 => i32::MAX.into(),
        _ => f64::NAN,
    }
}
