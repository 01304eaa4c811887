//! Weights of few bits: how Keras 3 keeps them, and what they stand for (Keras: `keras.quantizers`).

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};
use serde_json::Value;

use crate::layer::WeightSpec;
use crate::{Call, Initializer, Spec};

/// How a layer's weights are quantized, as its dtype policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantization {
    /// Bytes, with a scale for each output.
    Int8,
    /// Two weights a byte, with a scale for each output, or for each block of so many inputs.
    Int4 { block: Option<usize> },
    /// Floats that are rounded to eight bits in each call, by scales that training finds.
    Float8 { history: usize },
    /// Whole numbers from zero up, with a scale and a zero for each group of inputs (GPTQ, and AWQ where inputs are scaled).
    Grouped { bits: usize, size: Option<usize>, scaled: bool },
}

/// How many of the last steps' largest values Keras keeps for float8 where nothing is said.
pub(crate) const HISTORY: usize = 1024;

impl Quantization {
    /// The way that a policy's mode says: `int8`, `int4/128`, `gptq/4/-1`.
    pub fn of_mode(mode: &str, history: usize) -> Result<Self> {
        let unknown = || {
            Error::unsupported(format!("weights that are quantized as {mode}"))
                .help("int8, int4, float8, gptq and awq are known; or save the model before it is quantized")
        };
        let mut parts = mode.split('/');
        let kind = parts.next().unwrap_or_default();
        let mut number = || parts.next().map(|p| p.parse::<i64>().map_err(|_| unknown())).transpose();
        let size = |n: i64| match n {
            -1 => Ok(None),
            n => usize::try_from(n).ok().filter(|n| *n > 0).map(Some).ok_or_else(unknown),
        };
        Ok(match kind {
            "int8" => Quantization::Int8,
            "float8" => Quantization::Float8 { history },
            "int4" => Quantization::Int4 { block: size(number()?.unwrap_or(-1))? },
            "gptq" | "awq" => {
                let bits =
                    number()?.and_then(|b| usize::try_from(b).ok()).filter(|b| [2, 3, 4, 8].contains(b));
                let bits = bits.ok_or_else(unknown)?;
                Quantization::Grouped { bits, size: size(number()?.unwrap_or(-1))?, scaled: kind == "awq" }
            }
            _ => return Err(unknown()),
        })
    }

    /// The weights that stand for a kernel of so many inputs and outputs, with the bias in its place. `scale` is the shape
    /// of the scales of `int8`.
    pub fn weights(
        self,
        kernel: WeightSpec,
        bias: Option<WeightSpec>,
        [rows, columns]: [usize; 2],
        scale: Vec<usize>,
    ) -> Vec<WeightSpec> {
        let fixed = |name: &str, shape: Vec<usize>, dtype: Option<DType>| {
            let weight = WeightSpec::new(name, shape, &Initializer::Zeros).fixed();
            WeightSpec { dtype, ..weight }
        };
        let scales = |shape: Vec<usize>| WeightSpec::new("kernel_scale", shape, &Initializer::Ones).fixed();
        let mut weights = Vec::new();
        match self {
            Quantization::Int8 => {
                weights.push(kernel.fixed().dtype(DType::I8));
                weights.extend(bias);
                weights.push(scales(scale));
            }
            Quantization::Int4 { block } => {
                weights.push(WeightSpec {
                    shape: vec![rows, columns.div_ceil(2)],
                    ..kernel.fixed().dtype(DType::I8)
                });
                weights.extend(bias);
                match block {
                    None => weights.push(scales(vec![columns])),
                    Some(block) => {
                        let shape = vec![rows.div_ceil(block), columns];
                        weights.push(scales(shape.clone()));
                        weights.push(fixed("kernel_zero", shape, Some(DType::I8)));
                        weights.push(fixed("g_idx", vec![rows], Some(DType::F32)));
                    }
                }
            }
            Quantization::Float8 { history } => {
                weights.push(kernel);
                weights.extend(bias);
                for name in ["inputs", "kernel", "outputs_grad"] {
                    let own = |name: String, shape: Vec<usize>, initializer: &Initializer| {
                        WeightSpec::new(&name, shape, initializer).dtype(DType::F32)
                    };
                    weights.push(own(format!("{name}_scale"), Vec::new(), &Initializer::Ones));
                    weights.push(own(format!("{name}_amax_history"), vec![history], &Initializer::Zeros));
                }
            }
            Quantization::Grouped { bits, size, scaled } => {
                weights.extend(bias);
                let packed = if bits == 4 { columns.div_ceil(2) } else { columns };
                let groups = size.map_or(1, |size| rows.div_ceil(size));
                weights.push(WeightSpec { shape: vec![packed, rows], ..kernel.fixed().dtype(DType::U8) });
                weights.push(scales(vec![columns, groups]));
                weights.push(fixed("kernel_zero", vec![columns, groups], Some(DType::U8)));
                if scaled {
                    weights.push(WeightSpec::new("awq_scales", vec![rows], &Initializer::Ones).fixed());
                }
                weights.push(fixed("g_idx", vec![rows], Some(DType::F32)));
            }
        }
        weights
    }

    /// What `product` makes of the inputs and of the kernel that the weights stand for, in its own shape.
    ///
    /// `reduced` are the inputs' axes that the product sums over; `aligned` puts a number for each of the others where it
    /// belongs among the outputs.
    pub fn apply(
        self,
        call: &mut Call<'_>,
        x: Sym,
        kernel: &Kernel<'_>,
        product: impl Fn(&mut Call<'_>, Sym, Sym) -> Result<Sym>,
        aligned: impl Fn(&mut Call<'_>, Sym) -> Result<Sym>,
    ) -> Result<Sym> {
        let compute = call.dtype(x);
        let quantizer = kernel.config.pointer("/config/activation_quantizer");
        match self {
            Quantization::Int8 => {
                let mut scale = call.weight("kernel_scale")?;
                let mut rows = x;
                if quantizer.is_none_or(|q| !q.is_null()) {
                    let (quantized, steps) = rounded(call, x, kernel.reduced, quantizer)?;
                    let steps = aligned(call, steps)?;
                    scale = call.apply("Mul", &[scale, steps])?;
                    rows = quantized;
                }
                // Sums of products of bytes are whole numbers, which float32 holds.
                let spec = Spec { dtype: DType::F32, ..call.spec(x) };
                let rows = call.cast(rows, DType::F32)?;
                call.describe(rows, spec);
                let bytes = call.raw_weight("kernel")?;
                let bytes = call.cast(bytes, DType::F32)?;
                let y = product(call, rows, bytes)?;
                let y = call.cast(y, compute)?;
                call.apply("RealDiv", &[y, scale])
            }
            Quantization::Float8 { .. } => {
                let own = call.weight("kernel")?;
                let (scale, own_scale) = (call.raw_weight("inputs_scale")?, call.raw_weight("kernel_scale")?);
                let (rows, own) = (through_float8(call, x, scale)?, through_float8(call, own, own_scale)?);
                call.describe(rows, call.spec(x));
                product(call, rows, own)
            }
            Quantization::Int4 { .. } | Quantization::Grouped { .. } => {
                let matrix = self.matrix(call, kernel.extents)?;
                let matrix = call.cast(matrix, compute)?;
                let shape: Vec<i64> = kernel.shape.iter().map(|&d| d as i64).collect();
                let own = call.reshape(matrix, &shape)?;
                let Some(quantizer) = quantizer.filter(|q| !q.is_null()) else {
                    return product(call, x, own);
                };
                let (rows, steps) = rounded(call, x, kernel.reduced, Some(quantizer))?;
                call.describe(rows, call.spec(x));
                let (y, steps) = (product(call, rows, own)?, aligned(call, steps)?);
                call.apply("RealDiv", &[y, steps])
            }
        }
    }

    /// The matrix of inputs and outputs that packed weights stand for.
    fn matrix(self, call: &mut Call<'_>, [_, columns]: [usize; 2]) -> Result<Sym> {
        let kernel = call.raw_weight("kernel")?;
        let scale = call.weight("kernel_scale")?;
        match self {
            Quantization::Int4 { block } => {
                let matrix = unpacked(call, kernel, columns, 1, true)?;
                let matrix = call.cast(matrix, call.dtype(scale))?;
                match block {
                    None => call.apply("RealDiv", &[matrix, scale]),
                    Some(_) => {
                        let (zero, groups) = (call.raw_weight("kernel_zero")?, call.raw_weight("g_idx")?);
                        by_groups(call, matrix, [scale, zero], groups, 0)
                    }
                }
            }
            Quantization::Grouped { bits, scaled, .. } => {
                let matrix = if bits == 4 { unpacked(call, kernel, columns, 0, false)? } else { kernel };
                let matrix = call.cast(matrix, call.dtype(scale))?;
                let (zero, groups) = (call.raw_weight("kernel_zero")?, call.raw_weight("g_idx")?);
                let matrix = by_groups(call, matrix, [scale, zero], groups, 1)?;
                let matrix = call.transpose(matrix, &[1, 0])?;
                if !scaled {
                    return Ok(matrix);
                }
                let scales = call.weight("awq_scales")?;
                let scales = call.reshape(scales, &[-1, 1])?;
                call.apply("RealDiv", &[matrix, scales])
            }
            Quantization::Int8 | Quantization::Float8 { .. } => {
                Err(Error::invalid("these weights aren't packed"))
            }
        }
    }

    /// The bias as it is added: with float8, of half its bits.
    pub fn bias(self, call: &mut Call<'_>, bias: Sym) -> Result<Sym> {
        match (self, call.dtype(bias)) {
            (Quantization::Float8 { .. }, DType::F32) => {
                let half = call.cast(bias, DType::BF16)?;
                call.cast(half, DType::F32)
            }
            _ => Ok(bias),
        }
    }
}

/// A kernel that quantized weights stand for.
pub(crate) struct Kernel<'a> {
    /// Its own shape.
    pub shape: &'a [usize],
    /// How many inputs and outputs it has.
    pub extents: [usize; 2],
    /// The axes of the layer's input over which the product sums.
    pub reduced: &'a [i64],
    /// Keras's `quantization_config`, which says how inputs are quantized.
    pub config: &'a Value,
}

/// Inputs as whole numbers, each row by its largest one, and by how much they were scaled (Keras: `AbsMaxQuantizer`).
pub(crate) fn rounded(
    call: &mut Call<'_>,
    x: Sym,
    axes: &[i64],
    quantizer: Option<&Value>,
) -> Result<(Sym, Sym)> {
    /// What keeps the scale of rows of zeros finite.
    const EPSILON: f64 = 1e-7;
    let option = |at: &str| quantizer.and_then(|q| q.pointer(at)).map(crate::config::plain);
    let range: Option<Vec<f64>> =
        option("/config/value_range").and_then(|r| r.as_array()?.iter().map(Value::as_f64).collect());
    let range = range.filter(|r| r.len() == 2).unwrap_or_else(|| vec![-127.0, 127.0]);
    let epsilon = option("/config/epsilon").and_then(|e| e.as_f64()).unwrap_or(EPSILON);
    let size = call.apply("Abs", &[x])?;
    let most = call.reduce("Max", size, axes, true)?;
    let epsilon = call.scalar(epsilon, most)?;
    let most = call.apply("AddV2", &[most, epsilon])?;
    let (low, high) = (call.scalar(range[0], x)?, call.scalar(range[1], x)?);
    let steps = call.apply("RealDiv", &[high, most])?;
    let rows = call.apply("Mul", &[x, steps])?;
    let rows = call.apply("Round", &[rows])?;
    let rows = call.apply("Maximum", &[rows, low])?;
    Ok((call.apply("Minimum", &[rows, high])?, steps))
}

/// Floats as those of eight bits have them, by a scale.
fn through_float8(call: &mut Call<'_>, x: Sym, scale: Sym) -> Result<Sym> {
    /// The largest number of `float8_e4m3fn`.
    const MOST: f64 = 448.0;
    let dtype = call.dtype(x);
    let scale = call.cast(scale, dtype)?;
    let (low, high) = (call.scalar(-MOST, x)?, call.scalar(MOST, x)?);
    let y = call.apply("RealDiv", &[x, scale])?;
    let y = call.apply("Maximum", &[y, low])?;
    let y = call.apply("Minimum", &[y, high])?;
    let y = call.cast(y, DType::F8E4M3FN)?;
    let y = call.cast(y, dtype)?;
    call.apply("Mul", &[y, scale])
}

/// The halves of the bytes of a matrix, the lower ones first, as so many rows (axis 0) or columns (axis 1) of `int32`
/// (Keras: `unpack_int4`).
pub(crate) fn unpacked(
    call: &mut Call<'_>,
    bytes: Sym,
    count: usize,
    axis: usize,
    signed: bool,
) -> Result<Sym> {
    let bytes = call.cast(bytes, DType::I32)?;
    let (four, mask, eight) = (call.int(4)?, call.int(15)?, call.int(8)?);
    let high = call.apply("RightShift", &[bytes, four])?;
    let mut halves = Vec::with_capacity(2);
    for half in [bytes, high] {
        let mut half = call.apply("BitwiseAnd", &[half, mask])?;
        if signed {
            half = call.apply("BitwiseXor", &[half, eight])?;
            half = call.apply("Sub", &[half, eight])?;
        }
        halves.push(half);
    }
    let both = call.op("Pack").inputs(&halves).attr("axis", axis as i64 + 1).one()?;
    let shape = call.apply("Shape", &[bytes])?;
    let all = call.ints(&[-1])?;
    let rows = if axis == 0 {
        let rest = call.slice(shape, &[(Some(1), None, 1)])?;
        call.concat(&[all, rest], 0)?
    } else {
        let rest = call.slice(shape, &[(None, Some(1), 1)])?;
        call.concat(&[rest, all], 0)?
    };
    let flat = call.apply("Reshape", &[both, rows])?;
    let mut slices = vec![(None, None, 1); axis];
    slices.push((None, Some(count as i64), 1));
    call.slice(flat, &slices)
}

/// Whole numbers as floats by the scale and the zero of the group that each belongs to, along an axis of both (Keras:
/// `dequantize_with_sz_map`).
pub(crate) fn by_groups(
    call: &mut Call<'_>,
    numbers: Sym,
    [scale, zero]: [Sym; 2],
    groups: Sym,
    axis: i64,
) -> Result<Sym> {
    let (groups, axis) = (call.cast(groups, DType::I32)?, call.int(axis)?);
    let scale = call.apply("GatherV2", &[scale, groups, axis])?;
    let zero = call.apply("GatherV2", &[zero, groups, axis])?;
    let zero = call.cast(zero, call.dtype(scale))?;
    let apart = call.apply("Sub", &[numbers, zero])?;
    call.apply("Mul", &[apart, scale])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read() {
        let of = |mode: &str| Quantization::of_mode(mode, 7);
        assert_eq!(of("int8").unwrap(), Quantization::Int8);
        assert_eq!(of("int4").unwrap(), Quantization::Int4 { block: None });
        assert_eq!(of("int4/16").unwrap(), Quantization::Int4 { block: Some(16) });
        assert_eq!(of("float8").unwrap(), Quantization::Float8 { history: 7 });
        assert_eq!(of("gptq/3/-1").unwrap(), Quantization::Grouped { bits: 3, size: None, scaled: false });
        assert_eq!(of("awq/4/8").unwrap(), Quantization::Grouped { bits: 4, size: Some(8), scaled: true });
        for mode in ["int2", "int4/0", "gptq/5/1", "gptq", "int4/x"] {
            assert!(of(mode).unwrap_err().to_string().contains(mode));
        }
    }
}
