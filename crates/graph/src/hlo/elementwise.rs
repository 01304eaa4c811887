//! Operations that compute each element from those at the same place.

use modelark_tensor::{DType, Tensor};

use super::emit::Val;
use super::{Cx, Lower};
use crate::{Error, Result};

/// Operations that TensorFlow's op of another name computes for every dtype.
const SAME: &[(&str, &str)] = &[
    ("atan2", "Atan2"),
    ("cbrt", "ModelarkHloCbrt"),
    ("ceil", "Ceil"),
    ("cosine", "Cos"),
    ("count_leading_zeros", "ModelarkHloCountLeadingZeros"),
    ("exponential", "Exp"),
    ("exponential_minus_one", "Expm1"),
    ("floor", "Floor"),
    ("log", "Log"),
    ("log_plus_one", "Log1p"),
    ("logistic", "Sigmoid"),
    ("negate", "Neg"),
    ("round_nearest_afz", "ModelarkHloRoundAwayFromZero"),
    ("round_nearest_even", "Rint"),
    ("rsqrt", "Rsqrt"),
    ("shift_left", "ModelarkHloShiftLeft"),
    ("shift_right_arithmetic", "ModelarkHloShiftRightArithmetic"),
    ("shift_right_logical", "ModelarkHloShiftRightLogical"),
    ("sign", "Sign"),
    ("sine", "Sin"),
    ("sqrt", "Sqrt"),
    ("subtract", "Sub"),
    ("tan", "Tan"),
    ("tanh", "Tanh"),
];

/// Operations of booleans, of integers, and of other numbers; none where there is no such operation.
const BY_KIND: &[(&str, &str, &str, &str)] = &[
    ("add", "LogicalOr", "AddV2", "AddV2"),
    ("and", "LogicalAnd", "BitwiseAnd", ""),
    ("divide", "", "ModelarkHloDivide", "RealDiv"),
    ("maximum", "LogicalOr", "Maximum", "Maximum"),
    ("minimum", "LogicalAnd", "Minimum", "Minimum"),
    ("multiply", "LogicalAnd", "Mul", "Mul"),
    ("not", "LogicalNot", "Invert", ""),
    ("or", "LogicalOr", "BitwiseOr", ""),
    ("power", "", "ModelarkHloPower", "Pow"),
    ("remainder", "", "ModelarkHloRemainder", "TruncateMod"),
    ("xor", "NotEqual", "BitwiseXor", ""),
];

impl<'m> Lower<'m> {
    /// `None` when the operation isn't elementwise.
    pub(super) fn elementwise(&mut self, cx: &Cx<'m>, inputs: &[Val]) -> Result<Option<Val>> {
        let all: Vec<&Val> = inputs.iter().collect();
        let name = cx.name();
        if let Some((_, op)) = SAME.iter().find(|(n, _)| *n == name) {
            return self.e.map(op, &all).map(Some);
        }
        if let Some((_, bools, integers, others)) = BY_KIND.iter().find(|(n, ..)| *n == name) {
            let first = all.first().ok_or_else(|| Error::graph("it has no operands"))?;
            let op = match first.dtype {
                DType::Bool => bools,
                d if d.is_integer() => integers,
                _ => others,
            };
            if op.is_empty() {
                return Err(Error::unsupported(format!("it isn't defined for {}", first.dtype)));
            }
            if *op == "Maximum" && all.len() == 2 && first.dtype == DType::F32 && inputs[1].is_all(0.0) {
                return self.e.map("Relu", &[first]).map(Some);
            }
            return self.e.map(op, &all).map(Some);
        }
        let made = match (name, inputs) {
            ("abs", [x]) if x.dtype.is_complex() => {
                let real = part_of(x.dtype);
                self.e.elementwise("ComplexAbs", &[x], real, &[("Tout", real.into())])?
            }
            ("abs", [x]) => self.e.map("Abs", &[x])?,
            ("real" | "imag", [x]) if !x.dtype.is_complex() => match name {
                "real" => x.clone(),
                _ => self.e.number(0.0, x.dtype, &x.shape)?,
            },
            ("real", [x]) => {
                let real = part_of(x.dtype);
                self.e.elementwise("Real", &[x], real, &[("Tout", real.into())])?
            }
            ("imag", [x]) => {
                let real = part_of(x.dtype);
                self.e.elementwise("Imag", &[x], real, &[("Tout", real.into())])?
            }
            ("complex", [re, im]) => {
                let dtype = if re.dtype == DType::F64 { DType::C128 } else { DType::C64 };
                let shape = re.shape.clone();
                self.e.whole_op("Complex", &[re, im], &[("Tout", dtype.into())], dtype, &shape)?
            }
            ("is_finite", [x]) => self.e.elementwise("IsFinite", &[x], DType::Bool, &[])?,
            ("popcnt", [x]) => {
                let bits = self.e.elementwise("PopulationCount", &[x], DType::U8, &[])?;
                self.e.cast(&bits, x.dtype)?
            }
            ("convert", [x]) => self.convert(x, cx.dtype()?)?,
            ("compare", [a, b]) => self.compare(
                cx.word("comparison_direction")?,
                cx.word("compare_type").unwrap_or("NOTYPE"),
                a,
                b,
            )?,
            ("select", [pred, a, b]) => {
                let pred = self.spread(pred, a)?;
                self.e.elementwise("SelectV2", &[&pred, a, b], a.dtype, &[])?
            }
            ("clamp", [low, x, high]) => {
                let (low, high) = (self.spread(low, x)?, self.spread(high, x)?);
                let above = self.e.map("Maximum", &[x, &low])?;
                self.e.map("Minimum", &[&above, &high])?
            }
            ("reduce_precision", [x]) => {
                let (exponent, mantissa) = (cx.int("exponent_bits")?, cx.int("mantissa_bits")?);
                let attrs = [("exponent_bits", exponent.into()), ("mantissa_bits", mantissa.into())];
                self.e.elementwise("ModelarkHloReducePrecision", &[x], x.dtype, &attrs)?
            }
            ("reshape" | "broadcast_in_dim", [x]) if self.lifted.is_some() && cx.declared()?.is_empty() => {
                x.clone()
            }
            _ => return Ok(None),
        };
        Ok(Some(made))
    }

    /// A scalar beside a tensor, as a tensor of its shape.
    fn spread(&mut self, scalar: &Val, beside: &Val) -> Result<Val> {
        if scalar.rank() == 0 && beside.rank() != 0 {
            return scalar.broadcast(&mut self.e, &beside.shape, &[]);
        }
        Ok(scalar.clone())
    }

    pub(super) fn convert(&mut self, x: &Val, dtype: DType) -> Result<Val> {
        if dtype == DType::Bool {
            let zero = self.e.number(0.0, x.dtype, &x.shape)?;
            return self.e.elementwise("NotEqual", &[x, &zero], DType::Bool, &[]);
        }
        if x.dtype.is_float() && dtype.is_integer() {
            return self.e.elementwise("ModelarkHloToInteger", &[x], dtype, &[("DstT", dtype.into())]);
        }
        if x.dtype.is_complex() && !dtype.is_complex() {
            let real = part_of(x.dtype);
            let x = self.e.elementwise("Real", &[x], real, &[("Tout", real.into())])?;
            return self.convert(&x, dtype);
        }
        self.e.cast(x, dtype)
    }

    pub(super) fn compare(&mut self, direction: &str, order: &str, a: &Val, b: &Val) -> Result<Val> {
        let op = match direction {
            "EQ" => "Equal",
            "NE" => "NotEqual",
            "GE" => "GreaterEqual",
            "GT" => "Greater",
            "LE" => "LessEqual",
            _ => "Less",
        };
        if order == "TOTALORDER" && a.dtype.is_float() {
            let (a, b) = (self.total(a)?, self.total(b)?);
            return self.e.elementwise(op, &[&a, &b], DType::Bool, &[]);
        }
        if a.dtype == DType::Bool && !matches!(op, "Equal" | "NotEqual") {
            let (a, b) = (self.e.cast(a, DType::U8)?, self.e.cast(b, DType::U8)?);
            return self.e.elementwise(op, &[&a, &b], DType::Bool, &[]);
        }
        self.e.elementwise(op, &[a, b], DType::Bool, &[])
    }

    /// Floats as integers in the order in which IEEE 754 puts all of them: -NaN, -inf, .., -0, 0, .., inf, NaN.
    pub(super) fn total(&mut self, x: &Val) -> Result<Val> {
        let dtype = match x.dtype {
            DType::F64 => DType::I64,
            DType::F32 => DType::I32,
            DType::F16 | DType::BF16 => DType::I16,
            other => return Err(Error::unsupported(format!("{other} has no total order here"))),
        };
        let bits = self.e.elementwise("Bitcast", &[x], dtype, &[("type", dtype.into())])?;
        let size = dtype.size().unwrap_or(4) as i64 * 8;
        let number = |e: &mut super::Emit, v: i64| -> Result<Val> {
            let value = modelark_tensor::kernels::array::cast(&Tensor::scalar(v), dtype)?;
            Val::known(value).broadcast(e, &x.shape, &[])
        };
        let by = number(&mut self.e, size - 1)?;
        let sign = self.e.map("ModelarkHloShiftRightArithmetic", &[&bits, &by])?;
        let rest = number(&mut self.e, i64::MAX >> (64 - size))?;
        let flip = self.e.map("BitwiseAnd", &[&sign, &rest])?;
        self.e.map("BitwiseXor", &[&bits, &flip])
    }
}

/// The dtype of a complex number's parts.
pub(super) fn part_of(dtype: DType) -> DType {
    if dtype == DType::C128 { DType::F64 } else { DType::F32 }
}
