//! Products of 8-bit integers with what follows them in one op, as oneDNN's kernels compute them: weights and inputs stand for
//! multiples of one step each, with 0 for 0.

use super::args::{all_tensors, many, one};
use super::quantized::Kind;
use super::windows::Window;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::matmul::{Form, matmul};
use crate::tensor::kernels::window::Padding;
use crate::tensor::kernels::{array, conv};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// What is summed.
#[derive(Clone, Copy, PartialEq)]
enum Product {
    Windows,
    Depthwise,
    Matrices,
}

/// What the sums become.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Nothing,
    /// 8-bit integers in a range that is given.
    Requantize,
    /// Floats.
    Dequantize,
}

#[derive(Clone, Copy)]
struct Fused {
    product: Product,
    bias: bool,
    relu: bool,
    then: Then,
}

/// The float that one step of symmetric 8-bit integers stands for, for each range.
fn steps(min: &Tensor, max: &Tensor, dtype: DType) -> Result<Vec<f32>> {
    let levels = match dtype {
        DType::QU8 => 255.0,
        DType::QI8 => 127.0,
        other => return Err(Error::unsupported(format!("{other}: only 8-bit integers are known here"))),
    };
    let (mins, maxs) = (min.elements::<f32>()?, max.elements::<f32>()?);
    if mins.len() != maxs.len() || mins.is_empty() {
        return Err(Error::compute(format!("ranges of {} least and {} greatest numbers", mins.len(), maxs.len())));
    }
    if dtype == DType::QU8 && mins.iter().any(|v| *v != 0.0) {
        return Err(Error::unsupported(format!("a range of quint8 from {mins:?}: only ranges from 0 are known here")));
    }
    Ok(mins.iter().zip(maxs.iter()).map(|(a, b)| a.abs().max(b.abs()) / levels).collect())
}

/// The integers as doubles, with which sums stay exact.
fn wide(t: &Tensor) -> Result<Tensor> {
    let plain = Kind::of(t.dtype())?.plain();
    Ok(array::cast(&t.clone().bitcast_same_width(plain)?, DType::F64)?)
}

fn window(a: &NodeAttrs<'_>) -> Result<Window> {
    let mut window = Window::read(a)?;
    let pads = a.get("padding_list").map(|_| a.ints("padding_list")).transpose()?.unwrap_or_default();
    if !pads.is_empty() {
        let pads: Option<Vec<usize>> = pads.iter().map(|p| usize::try_from(*p).ok()).collect();
        let Some(&[_, _, top, bottom, left, right, _, _]) = pads.as_deref() else {
            return Err(Error::graph("attribute \"padding_list\" must have eight numbers"));
        };
        window.slide.padding = Padding::Explicit(vec![[top, bottom], [left, right]]);
    }
    Ok(window)
}

fn fused(a: &NodeAttrs<'_>, op: Fused) -> Result<Box<dyn Kernel>> {
    let forms = match op.product {
        Product::Matrices => [a.bool("transpose_a")?, a.bool("transpose_b")?].map(Form::transposed),
        _ => [Form::Plain; 2],
    };
    let window = if op.product == Product::Matrices { None } else { Some(window(a)?) };
    let to = a.dtype(if window.is_some() { "out_type" } else { "Toutput" })?;
    let product = move |x: &Tensor, w: &Tensor| -> Result<Tensor> {
        Ok(match &window {
            None => matmul(x, forms[0], w, forms[1])?,
            Some(window) if op.product == Product::Depthwise => conv::depthwise_conv(x, w, &window.slide)?,
            Some(window) => conv::conv(x, w, &window.slide, None)?,
        })
    };
    Ok(kernel(move |_, inputs| run(op, to, &product, inputs)))
}

fn run(op: Fused, to: DType, product: &dyn Fn(&Tensor, &Tensor) -> Result<Tensor>, inputs: Values) -> Result<Values> {
    let inputs = all_tensors(inputs)?;
    let too_few = || Error::graph(format!("takes more than {} inputs", inputs.len()));
    let [x, filter, rest @ ..] = &inputs[..] else { return Err(too_few()) };
    let (bias, rest) = match rest.split_first() {
        Some((bias, rest)) if op.bias => (Some(bias), rest),
        _ => (None, rest),
    };
    let [min_x, max_x, min_filter, max_filter, given @ ..] = rest else { return Err(too_few()) };
    let of_x = steps(min_x, max_x, x.dtype())?;
    let &[of_x] = &of_x[..] else { return Err(Error::compute("an input has one range")) };
    if filter.dtype() != DType::QI8 {
        return Err(Error::unsupported(format!("a filter of {}: only qint8 is known here", filter.dtype())));
    }
    let of_filter = steps(min_filter, max_filter, filter.dtype())?;
    let sums = product(&wide(x)?, &wide(filter)?)?;
    let n = sums.shape().last().copied().unwrap_or(1).max(1);
    if ![1, n].contains(&of_filter.len()) || bias.is_some_and(|b| b.len() != n) {
        return Err(Error::compute(format!("{} ranges, a bias of {:?}, {n} channels", of_filter.len(), bias.map(Tensor::shape))));
    }
    let step = |c: usize| of_x * of_filter.get(c).or(of_filter.first()).copied().unwrap_or_default();
    let bias: Vec<f64> = match bias {
        None => vec![0.0; n],
        Some(b) if b.dtype() == DType::F32 => {
            b.elements::<f32>()?.iter().enumerate().map(|(c, v)| f64::from(v / step(c))).collect()
        }
        Some(b) => wide(b)?.elements::<f64>()?.to_vec(),
    };
    let sums = sums.clone();
    let shape = sums.shape();
    let values = sums.elements::<f64>()?;
    let totals = values.iter().enumerate().map(|(i, v)| {
        let (c, v) = (i % n, v + bias[i % n]);
        (c, if op.relu { v.max(0.0) } else { v })
    });
    if op.then == Then::Dequantize {
        return one(Tensor::from_vec(totals.map(|(c, v)| v as f32 * step(c)).collect(), shape)?);
    }
    let kind = Kind::of(to)?;
    let (of_result, ends) = match (op.then, given) {
        (Then::Requantize, [min, max]) => {
            let levels = if to == DType::QU8 { 255.0 } else { 127.0 };
            let (least, most) = (min.item::<f32>()?, max.item::<f32>()?);
            (least.abs().max(most.abs()) / levels, [min.clone(), max.clone()])
        }
        (Then::Nothing, []) => {
            // Where channels have ranges of their own, sums are told in steps of the widest.
            let all: Vec<f32> = (0..of_filter.len()).map(step).collect();
            let end = |by: f32| -> Result<Tensor> {
                Ok(Tensor::from_vec(all.iter().map(|s| s * by).collect(), min_filter.shape())?)
            };
            let half = (1i64 << 31) as f32;
            (all.iter().copied().fold(0.0, f32::max), [end(-half)?, end(half)?])
        }
        _ => return Err(Error::graph(format!("{} numbers tell of the result's range", given.len()))),
    };
    let scaled = |(c, v): (usize, f64)| {
        let factor = step(c) / of_result;
        // Sums in steps of their own keep every digit.
        let v = if factor == 1.0 { v.round_ties_even() } else { f64::from((v as f32 * factor).round_ties_even()) };
        (v as i64).clamp(kind.low, kind.high)
    };
    let [min, max] = ends;
    many([kind.tensor(totals.map(scaled).collect(), shape)?, min, max])
}

pub(super) const OPS: &[Op] = &[
Op::new("QuantizedDepthwiseConv2D(input: Tinput, filter: Tfilter, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; out_type: type = qint32; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]", |a| fused(a, Fused { product: Product::Depthwise, bias: false, relu: false, then: Then::Nothing })),
    Op::new("QuantizedConv2DPerChannel(input: Tinput, filter: Tfilter, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; out_type: type = qint32; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]", |a| fused(a, Fused { product: Product::Windows, bias: false, relu: false, then: Then::Nothing })),
    Op::new("QuantizedConv2DAndRelu(input: Tinput, filter: Tfilter, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; out_type: type = qint32; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]; padding_list: list(int) = []", |a| fused(a, Fused { product: Product::Windows, bias: false, relu: true, then: Then::Nothing })),
    Op::new("QuantizedConv2DAndRequantize(input: Tinput, filter: Tfilter, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32, min_freezed_output: float32, max_freezed_output: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; out_type: type = qint8; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]; padding_list: list(int) = []", |a| fused(a, Fused { product: Product::Windows, bias: false, relu: false, then: Then::Requantize })),
    Op::new("QuantizedConv2DAndReluAndRequantize(input: Tinput, filter: Tfilter, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32, min_freezed_output: float32, max_freezed_output: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; out_type: type = quint8; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]; padding_list: list(int) = []", |a| fused(a, Fused { product: Product::Windows, bias: false, relu: true, then: Then::Requantize })),
    Op::new("QuantizedConv2DWithBias(input: Tinput, filter: Tfilter, bias: float32, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; out_type: type = qint32; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]; padding_list: list(int) = []", |a| fused(a, Fused { product: Product::Windows, bias: true, relu: false, then: Then::Nothing })),
    Op::new("QuantizedConv2DWithBiasAndRelu(input: Tinput, filter: Tfilter, bias: float32, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; out_type: type = qint32; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]; padding_list: list(int) = []", |a| fused(a, Fused { product: Product::Windows, bias: true, relu: true, then: Then::Nothing })),
    Op::new("QuantizedConv2DWithBiasAndReluAndRequantize(input: Tinput, filter: Tfilter, bias: Tbias, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32, min_freezed_output: float32, max_freezed_output: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; Tbias: type; out_type: type = quint8; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]; padding_list: list(int) = []", |a| fused(a, Fused { product: Product::Windows, bias: true, relu: true, then: Then::Requantize })),
    Op::new("QuantizedConv2DWithBiasAndRequantize(input: Tinput, filter: Tfilter, bias: Tbias, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32, min_freezed_output: float32, max_freezed_output: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; Tbias: type; out_type: type = qint8; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]; padding_list: list(int) = []", |a| fused(a, Fused { product: Product::Windows, bias: true, relu: false, then: Then::Requantize })),
    Op::new("QuantizedDepthwiseConv2DWithBias(input: Tinput, filter: Tfilter, bias: float32, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; out_type: type = qint32; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]", |a| fused(a, Fused { product: Product::Depthwise, bias: true, relu: false, then: Then::Nothing })),
    Op::new("QuantizedDepthwiseConv2DWithBiasAndRelu(input: Tinput, filter: Tfilter, bias: float32, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; out_type: type = qint32; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]; padding_list: list(int) = []", |a| fused(a, Fused { product: Product::Depthwise, bias: true, relu: true, then: Then::Nothing })),
    Op::new("QuantizedDepthwiseConv2DWithBiasAndReluAndRequantize(input: Tinput, filter: Tfilter, bias: Tbias, min_input: float32, max_input: float32, min_filter: float32, max_filter: float32, min_freezed_output: float32, max_freezed_output: float32) -> (output: out_type, min_output: float32, max_output: float32); Tinput: type; Tfilter: type; Tbias: type; out_type: type = quint8; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1]; padding_list: list(int) = []", |a| fused(a, Fused { product: Product::Depthwise, bias: true, relu: true, then: Then::Requantize })),
    Op::new("QuantizedMatMulWithBias(a: T1, b: T2, bias: Tbias, min_a: float32, max_a: float32, min_b: float32, max_b: float32) -> (out: Toutput, min_out: float32, max_out: float32); T1: type; T2: type; Tbias: type; Toutput: type = qint32; transpose_a: bool = false; transpose_b: bool = false; input_quant_mode: string = \"MIN_FIRST\"", |a| fused(a, Fused { product: Product::Matrices, bias: true, relu: false, then: Then::Nothing })),
    Op::new("QuantizedMatMulWithBiasAndRelu(a: T1, b: T2, bias: float32, min_a: float32, max_a: float32, min_b: float32, max_b: float32) -> (out: Toutput, min_out: float32, max_out: float32); T1: type; T2: type; Toutput: type = qint32; transpose_a: bool = false; transpose_b: bool = false; input_quant_mode: string = \"MIN_FIRST\"", |a| fused(a, Fused { product: Product::Matrices, bias: true, relu: true, then: Then::Nothing })),
    Op::new("QuantizedMatMulWithBiasAndReluAndRequantize(a: T1, b: T2, bias: Tbias, min_a: float32, max_a: float32, min_b: float32, max_b: float32, min_freezed_output: float32, max_freezed_output: float32) -> (out: Toutput, min_out: float32, max_out: float32); T1: type; T2: type; Tbias: type; Toutput: type = quint8; transpose_a: bool = false; transpose_b: bool = false; input_quant_mode: string = \"MIN_FIRST\"", |a| fused(a, Fused { product: Product::Matrices, bias: true, relu: true, then: Then::Requantize })),
    Op::new("QuantizedMatMulWithBiasAndRequantize(a: T1, b: T2, bias: Tbias, min_a: float32, max_a: float32, min_b: float32, max_b: float32, min_freezed_output: float32, max_freezed_output: float32) -> (out: Toutput, min_out: float32, max_out: float32); T1: type; T2: type; Tbias: type; Toutput: type = quint8; transpose_a: bool = false; transpose_b: bool = false; input_quant_mode: string = \"MIN_FIRST\"", |a| fused(a, Fused { product: Product::Matrices, bias: true, relu: false, then: Then::Requantize })),
    Op::new("QuantizedMatMulWithBiasAndDequantize(a: T1, b: T2, bias: Tbias, min_a: float32, max_a: float32, min_b: float32, max_b: float32, min_freezed_output: float32, max_freezed_output: float32) -> (out: Toutput); T1: type; T2: type; Tbias: type; Toutput: type; transpose_a: bool = false; transpose_b: bool = false; input_quant_mode: string = \"MIN_FIRST\"", |a| fused(a, Fused { product: Product::Matrices, bias: true, relu: false, then: Then::Dequantize })),
];
