//! Products with what follows them, done in one go. Passes put these in place of TensorFlow's ops.

use smallvec::SmallVec;

use super::args::{all_tensors, axis, int, map1, one, tensors};
use super::products::fused_activation;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Resource, Value, kernel};
use crate::tensor::kernels::activation::Activation;
use crate::tensor::kernels::matmul::{Form, matmul};
use crate::tensor::kernels::packed::{
    After, Packed, conv_after, conv_shape, conv_transpose_after, depthwise_after, product_after, product_shape,
};
use crate::tensor::kernels::window::Slide;
use crate::tensor::kernels::{conv, elementwise as e, norm, reduce};
use crate::tensor::{DType, Shape, Tensor, checked_elements};
use crate::{Attr, Error, Result};

/// Whether an op can follow a product as a step of that name.
pub(crate) fn follows(op: &str) -> bool {
    ["Relu", "Relu6", "Elu", "Selu", "Sigmoid", "Tanh", "Softplus", "Softsign"].contains(&op)
}

/// The activation of a step, with its number after a colon if it has one.
fn activation(step: &str) -> Result<Activation> {
    let (name, number) = step.split_once(':').unwrap_or((step, "0"));
    let number: f32 = number.parse().map_err(|_| Error::graph(format!("step {step:?} has no number")))?;
    Ok(match name {
        "HardSigmoid" => Activation::HardSigmoid { slope: number.into(), offset: 0.5 },
        "HardSwish" => Activation::HardSwish,
        "Selu" => Activation::Selu,
        "Softplus" => Activation::Softplus,
        "Softsign" => Activation::Softsign,
        "Swish" => Activation::Swish,
        _ => fused_activation(name, number)?,
    })
}

/// Something that follows a product.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    BiasAdd,
    Add,
    Mul,
    Reshape,
    Squeeze(Vec<i64>),
    Apply(Activation),
}

impl Step {
    fn parse(text: &str) -> Result<Step> {
        Ok(match text {
            "BiasAdd" => Step::BiasAdd,
            "Add" => Step::Add,
            "Mul" => Step::Mul,
            "Reshape" => Step::Reshape,
            _ => match text.strip_prefix("Squeeze:") {
                Some("") => Step::Squeeze(Vec::new()),
                Some(dims) => {
                    let dims = dims.split(',').map(|d| d.parse().ok()).collect::<Option<_>>();
                    Step::Squeeze(dims.ok_or_else(|| Error::graph(format!("step {text:?}")))?)
                }
                None => Step::Apply(activation(text)?),
            },
        })
    }

    fn takes(&self) -> bool {
        matches!(self, Step::BiasAdd | Step::Add | Step::Mul | Step::Reshape)
    }

    /// The step by itself, as the op that it came from does it.
    fn alone(&self, x: Tensor, with: Option<&Tensor>) -> Result<Tensor> {
        let with = || with.cloned().ok_or_else(|| Error::graph("a step lacks its operand"));
        Ok(match self {
            Step::BiasAdd => {
                let bias = super::activations::bias_for(with()?, x.shape(), false)?;
                e::add(x, bias)?
            }
            Step::Add => e::add(x, with()?)?,
            Step::Mul => e::mul(x, with()?)?,
            Step::Reshape => {
                let shape = super::shapes::new_shape(&with()?, x.shape())?;
                x.reshape(shape)?
            }
            Step::Squeeze(dims) => {
                let shape = super::shapes::squeezed(x.shape(), dims)?;
                x.reshape(shape)?
            }
            Step::Apply(activation) => activation.apply(x)?,
        })
    }
}

/// The product itself.
enum Product {
    /// Two matrices, or many where their rank is free.
    Matrices { only_two: bool, form: Form },
    /// Rows with weights of which so many dimensions are summed over.
    Rows(usize),
    Conv(Slide),
    Depthwise(Slide),
    /// Takes the shape of its result before what the steps take.
    Transposed(Slide),
}

/// Weights: laid out for the kernels, or as they are where they couldn't be.
pub(super) enum Weights<'a> {
    Packed(std::sync::Arc<Packed>),
    Plain(&'a Tensor),
}

impl Weights<'_> {
    pub(super) fn of(value: &Value) -> Result<Weights<'_>> {
        match value {
            Value::Tensor(t) => Ok(Weights::Plain(t)),
            other => Ok(Weights::Packed(other.resource()?.downcast::<Packed>("packed weights")?)),
        }
    }

    /// As they were given.
    pub(super) fn plain(&self) -> &Tensor {
        match self {
            Weights::Packed(packed) => packed.weights(),
            Weights::Plain(tensor) => tensor,
        }
    }

    /// Both as the kernels like them, if both could be laid out.
    pub(super) fn both<'a>(&'a self, other: &'a Weights<'_>) -> Option<[&'a Packed; 2]> {
        self.packed().zip(other.packed()).map(|(a, b)| [a, b])
    }

    /// As the kernels like them, if they could be laid out.
    fn packed(&self) -> Option<&Packed> {
        match self {
            Weights::Packed(packed) => Some(packed),
            Weights::Plain(_) => None,
        }
    }
}

impl Product {
    fn read(a: &NodeAttrs<'_>) -> Result<Product> {
        let flag = |name: &str| a.attrs.get(name).and_then(Attr::as_bool).unwrap_or_default();
        Ok(match a.str("op")? {
            "MatMul" => Product::Matrices { only_two: true, form: Form::transposed(flag("transpose_b")) },
            "BatchMatMulV2" => Product::Matrices { only_two: false, form: Form::adjoint(flag("adj_y")) },
            "Einsum" => {
                let contracted = a.attrs.get("contracted").and_then(Attr::as_int);
                let contracted = contracted.and_then(|c| usize::try_from(c).ok()).filter(|c| *c > 0);
                Product::Rows(contracted.ok_or_else(|| Error::graph("attribute \"contracted\" is missing"))?)
            }
            "Conv2D" => Product::Conv(super::windows::slide(a)?),
            "DepthwiseConv2dNative" => Product::Depthwise(super::windows::slide(a)?),
            "Conv2DBackpropInput" => Product::Transposed(super::windows::slide(a)?),
            other => return Err(Error::unsupported(format!("{other:?} with what follows it"))),
        })
    }

    /// The result's shape, where the fast kernels can make it; `None` where the plain op must.
    fn shape(&self, x: &Tensor, weights: &Weights<'_>, sizes: Option<&Tensor>) -> Option<Shape> {
        if x.dtype() != DType::F32 {
            return None;
        }
        match (self, weights) {
            (Product::Matrices { only_two, .. }, Weights::Packed(w)) => {
                let fits = if *only_two { x.rank() == 2 } else { x.rank() >= 2 };
                fits.then(|| product_shape(x.shape(), w.shape(), 1).ok()).flatten()
            }
            (Product::Rows(contracted), Weights::Packed(w)) => {
                product_shape(x.shape(), w.shape(), *contracted).ok()
            }
            (Product::Conv(slide), Weights::Packed(w)) => conv_shape(x.shape(), w.shape(), slide).ok(),
            (Product::Depthwise(slide), Weights::Plain(w)) if w.dtype() == DType::F32 => {
                let &[height, width, channels, 1] = w.shape() else { return None };
                // As many channels in as out: the shape is that of an ordinary convolution.
                conv_shape(x.shape(), &[height, width, channels, channels], slide).ok()
            }
            (Product::Transposed(slide), Weights::Packed(w)) => {
                let filter = w.weights().shape();
                let shape = super::windows::transposed_shape(sizes?, filter, x.shape(), false).ok()?;
                let given = conv_shape(&shape, filter, slide).ok()?;
                (given[..] == *x.shape()).then(|| shape.into())
            }
            _ => None,
        }
    }

    /// The result, of `shape`, with what comes after it.
    fn after(&self, x: &Tensor, weights: &Weights<'_>, shape: &[usize], after: &[After<'_>]) -> Result<Tensor> {
        Ok(match (self, weights) {
            (Product::Matrices { .. }, Weights::Packed(w)) => product_after(x, w, 1, after)?,
            (Product::Rows(contracted), Weights::Packed(w)) => product_after(x, w, *contracted, after)?,
            (Product::Conv(slide), Weights::Packed(w)) => conv_after(x, w, slide, after)?,
            (Product::Depthwise(slide), Weights::Plain(w)) => depthwise_after(x, w, slide, after)?,
            (Product::Transposed(slide), Weights::Packed(w)) => conv_transpose_after(shape, w, x, slide, after)?,
            _ => return Err(Error::graph("the weights aren't laid out as this product wants")),
        })
    }

    /// As the plain op does it.
    fn plain(&self, x: &Tensor, weights: &Weights<'_>, sizes: Option<&Tensor>) -> Result<Tensor> {
        let w = weights.plain();
        Ok(match self {
            Product::Matrices { only_two, form } => {
                if *only_two && (x.rank() != 2 || w.rank() != 2) {
                    return Err(Error::compute(format!(
                        "operands must be matrices, got shapes {:?} and {:?}",
                        x.shape(),
                        w.shape()
                    )));
                }
                matmul(x, Form::Plain, w, *form)?
            }
            Product::Rows(contracted) => rows(x, w, *contracted)?,
            Product::Conv(slide) => conv::conv(x, w, slide, None)?,
            Product::Depthwise(slide) => conv::depthwise_conv(x, w, slide)?,
            Product::Transposed(slide) => {
                let sizes = sizes.ok_or_else(|| Error::graph("takes the shape of its result"))?;
                let shape = super::windows::transposed_shape(sizes, w.shape(), x.shape(), false)?;
                conv::conv_transpose(&shape, w, x, slide)?
            }
        })
    }
}

/// The product of rows with weights of more dimensions than two.
fn rows(x: &Tensor, w: &Tensor, contracted: usize) -> Result<Tensor> {
    let shape = product_shape(x.shape(), w.shape(), contracted)?;
    let (k, n) = (checked_elements(&w.shape()[..contracted])?, checked_elements(&w.shape()[contracted..])?);
    let leading = checked_elements(&x.shape()[..x.rank() - contracted])?;
    let x = x.clone().reshape([leading, k])?;
    Ok(matmul(&x, Form::Plain, &w.clone().reshape([k, n])?, Form::Plain)?.reshape(shape)?)
}

fn fused(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let product = Product::read(a)?;
    let steps = a.get("steps").and_then(Attr::as_list).unwrap_or_default();
    let steps = steps
        .iter()
        .map(|s| Step::parse(s.as_str().ok_or_else(|| Error::graph("steps must be text"))?))
        .collect::<Result<Vec<_>>>()?;
    Ok(kernel(move |_, inputs| {
        let [x, weights, args @ ..] = &inputs[..] else { return Err(Error::graph("takes inputs and weights")) };
        let (x, weights) = (x.tensor()?, Weights::of(weights)?);
        let args = args.iter().map(Value::tensor).collect::<Result<SmallVec<[&Tensor; 4]>>>()?;
        let mut left = args.iter().copied();
        let sizes = if matches!(product, Product::Transposed(_)) { left.next() } else { None };
        let operands: SmallVec<[Option<&Tensor>; 6]> =
            steps.iter().map(|s| if s.takes() { left.next() } else { None }).collect();
        let (mut y, done) = match product.shape(x, &weights, sizes) {
            Some(shape) => {
                let n = match (&product, &weights) {
                    (Product::Transposed(_), _) | (_, Weights::Plain(_)) => shape.last().copied().unwrap_or_default(),
                    (_, Weights::Packed(w)) => w.width(),
                };
                let (after, then) = together(&steps, &operands, shape.clone(), n);
                (product.after(x, &weights, &shape, &after)?.reshape(then)?, after.done)
            }
            None => (product.plain(x, &weights, sizes)?, 0),
        };
        for (step, operand) in steps.iter().zip(&operands).skip(done) {
            y = step.alone(y, *operand)?;
        }
        one(y)
    }))
}

/// What of the steps can be done while rows are in cache.
struct Together<'a> {
    after: SmallVec<[After<'a>; 6]>,
    done: usize,
}

impl<'a> std::ops::Deref for Together<'a> {
    type Target = [After<'a>];

    fn deref(&self) -> &Self::Target {
        &self.after
    }
}

/// The first steps, as far as they act on rows of `n` elements of a result of `shape`, and the shape after them.
fn together<'a>(
    steps: &[Step],
    operands: &[Option<&'a Tensor>],
    mut shape: Shape,
    n: usize,
) -> (Together<'a>, Shape) {
    let mut all = Together { after: SmallVec::new(), done: 0 };
    for (step, operand) in steps.iter().zip(operands) {
        // A row of the result is its last dimensions, whose product is `n`.
        let is_row = |shape: &[usize], t: &Tensor| {
            let own = t.shape().iter().position(|d| *d != 1).map_or(&[][..], |p| &t.shape()[p..]);
            t.len() == n && t.rank() <= shape.len() && shape.ends_with(own) && t.dtype() == DType::F32
        };
        let operand = operand.map(|t| (t, t.as_slice::<f32>().ok()));
        match (step, operand) {
            (Step::BiasAdd, Some((t, Some(v)))) if t.rank() == 1 && shape.len() > 1 && shape.last() == Some(&t.len()) && t.len() == n => {
                all.after.push(After::AddRow(v));
            }
            (Step::Add, Some((t, Some(v)))) if t.shape() == &shape[..] => all.after.push(After::Add(v)),
            (Step::Mul, Some((t, Some(v)))) if t.shape() == &shape[..] => all.after.push(After::Mul(v)),
            (Step::Add, Some((t, Some(v)))) if is_row(&shape, t) => all.after.push(After::AddRow(v)),
            (Step::Mul, Some((t, Some(v)))) if is_row(&shape, t) => all.after.push(After::MulRow(v)),
            (Step::Reshape, Some((t, _))) => match super::shapes::new_shape(t, &shape) {
                Ok(new) => shape = new,
                Err(_) => break,
            },
            (Step::Squeeze(dims), _) => match super::shapes::squeezed(&shape, dims) {
                Ok(new) => shape = new,
                Err(_) => break,
            },
            (Step::Apply(activation), _) => all.after.push(After::Apply(*activation)),
            _ => break,
        }
        all.done += 1;
    }
    (all, shape)
}

fn pack(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let contracted = usize::try_from(a.int("contracted")?).unwrap_or_default();
    let (transposed, slides_by_one) = (a.bool("transposed")?, a.bool("slides_by_one")?);
    let rank = a.int("rank")?;
    Ok(kernel(move |context, inputs| {
        let [weights] = tensors(inputs)?;
        if usize::try_from(rank).ok() != Some(weights.rank()) {
            return one(weights);
        }
        let packed = match slides_by_one {
            true => Packed::filter(&weights, true)?,
            false => Packed::new(&weights, contracted, transposed)?,
        };
        match packed {
            Some(packed) => {
                // Transposing piece by piece for each tile would take longer.
                let as_given = context.once() && !transposed;
                let packed = if as_given { packed } else { packed.laid_out()? };
                one(Resource::Other(std::sync::Arc::new(packed)))
            }
            None => one(weights),
        }
    }))
}

fn activate(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let activation = activation(a.str("activation")?)?;
    map1(move |x| activation.apply(x))
}

/// The softmax along axes, those of the greatest and those of the sum.
fn softmax(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, axes, again] = tensors(inputs)?;
        let axes = resolved(&axes.to_i64_vec()?, x.rank())?;
        let again = resolved(&again.to_i64_vec()?, x.rank())?;
        if axes == again && axes.len() == 1 && axes[0] + 1 == x.rank() {
            return one(norm::softmax(x)?);
        }
        let greatest = reduce::max(&x, &axes, true)?;
        let powers = e::exp(e::sub(x, greatest)?)?;
        let sum = reduce::sum(&powers, &again, true)?;
        one(e::div(powers, sum)?)
    }))
}

/// Layer normalisation: `x`, scale, offset; then epsilon and the axes of mean and variance, or, where epsilon is an attribute,
/// twice the first axis of those to the last one.
fn layer_norm(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let fixed = a.attrs.get("epsilon").and_then(Attr::as_float);
    Ok(kernel(move |_, inputs| {
        let mut inputs = all_tensors(inputs)?;
        let (x, scale, offset, epsilon, axes) = match (&inputs[..], fixed) {
            ([x, scale, offset, epsilon, axes, again], None) => {
                let axes = resolved(&axes.to_i64_vec()?, x.rank())?;
                if axes != resolved(&again.to_i64_vec()?, x.rank())? {
                    return Err(Error::compute("mean and variance go along different axes"));
                }
                (x, scale, offset, epsilon.item::<f32>()?, axes)
            }
            ([x, scale, offset, end, begin], Some(epsilon)) => {
                let (end, begin) = (int(end, "an axis")?, int(begin, "an axis")?);
                let begin = usize::try_from(begin).ok().filter(|b| *b < x.rank() && end == begin);
                let begin = begin.ok_or_else(|| Error::compute(format!("axis {end} isn't of rank {}", x.rank())))?;
                (x, scale, offset, epsilon, (begin..x.rank()).collect())
            }
            _ => return Err(Error::graph("takes an input, a scale and an offset, and where they go")),
        };
        let last = x.shape().last().copied().unwrap_or_default();
        let is_row = |t: &Tensor| t.len() == last && t.rank() <= x.rank() && t.shape().last() == Some(&last);
        if axes.len() == 1 && axes[0] + 1 == x.rank() && is_row(scale) && is_row(offset) {
            let (scale, offset) = (scale.clone(), offset.clone());
            // Taken out, so that it may be overwritten.
            return one(norm::layer_norm(inputs.swap_remove(0), &scale, &offset, epsilon)?);
        }
        let mean = reduce::mean(x, &axes, true)?;
        let variance = reduce::mean(&e::squared_difference(x.clone(), mean.clone())?, &axes, true)?;
        let root = e::rsqrt(e::add(variance, Tensor::scalar(epsilon))?)?;
        let normal = e::mul(e::sub(x.clone(), mean)?, root)?;
        one(e::add(e::mul(normal, scale.clone())?, offset.clone())?)
    }))
}

/// Axes from the front, sorted.
fn resolved(axes: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut axes = axes.iter().map(|a| axis(*a, rank)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}

pub(super) const OPS: &[Op] = &[
    Op::new("ModelarkActivation(x: T) -> (y: T); T: type; activation: string", activate),
    Op::new("ModelarkSoftmax(inputs: N * T) -> (y: T); N: int; T: type", softmax),
    Op::new("ModelarkLayerNorm(inputs: N * T) -> (y: T); N: int; T: type", layer_norm),
    Op::new("ModelarkFused(inputs: N * T) -> (output: T); N: int; T: type; op: string; steps: list(string) = []", fused),
    Op::new("ModelarkPack(weights: T) -> (packed: resource); T: type; rank: int; contracted: int = 1; transposed: bool = false; slides_by_one: bool = false", pack),
];
