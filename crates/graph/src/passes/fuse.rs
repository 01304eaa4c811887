//! Products and convolutions take up what follows them: biases, batch normalisation, activations, residuals. Their
//! weights are laid out for the kernels once.

use super::derive;
use super::part::{Part, Readers, is_single};
use crate::{Attr, Attrs, Node, Output, ops};

/// The op that lays weights out; see `ops/fused.rs`.
pub(super) const PACK: &str = "ModelarkPack";
/// The op of a product with what follows it.
pub(crate) const FUSED: &str = "ModelarkFused";

pub(super) fn run(part: &mut Part) {
    batch_norms(part);
    let derived = derive::derived(part);
    let readers = Readers::of(part);
    let mut taken = vec![false; part.graph.nodes.len()];
    for &index in part.ordered().iter() {
        if taken.get(index) != Some(&false) {
            continue;
        }
        let Some(product) = Product::of(part, &part.graph.nodes[index], &derived) else { continue };
        let node = part.graph.nodes[index].clone();
        let mut chain = Chain { last: index, steps: Vec::new(), args: Vec::new() };
        taken[index] = true;
        while let Some(next) = chain.follow(part, &readers, &derived, &taken) {
            taken[next] = true;
        }
        replace(part, &readers, node, product, chain);
        taken.resize(part.graph.nodes.len(), true);
    }
}

/// Adds a node that lays weights out.
pub(super) fn pack(part: &mut Part, name: String, weights: Output, layout: Layout) -> Output {
    let attrs = Attrs::from([
        ("T".to_owned(), Attr::Type(crate::tensor::DType::F32)),
        ("rank".to_owned(), Attr::Int(layout.rank)),
        ("contracted".to_owned(), Attr::Int(layout.contracted)),
        ("transposed".to_owned(), Attr::Bool(layout.transposed)),
        ("slides_by_one".to_owned(), Attr::Bool(layout.slides_by_one)),
    ]);
    part.add(name, PACK, vec![weights], attrs)
}

/// A matrix that rows are multiplied with.
pub(super) const MATRIX: Layout = Layout::new(2, 1, false);

/// What weights must be to be laid out: their rank, how many dimensions are summed over, whether their last one comes first,
/// whether they are a dense filter that slides by one.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    rank: i64,
    contracted: i64,
    transposed: bool,
    slides_by_one: bool,
}

impl Layout {
    const fn new(rank: i64, contracted: i64, transposed: bool) -> Layout {
        Layout { rank, contracted, transposed, slides_by_one: false }
    }
}

/// A node that others are fused into.
struct Product {
    inputs: Vec<Output>,
    /// How the weights, the second input, are laid out, if they are.
    pack: Option<Layout>,
    op: &'static str,
    attrs: Attrs,
}

impl Product {
    fn of(part: &Part, node: &Node, derived: &[bool]) -> Option<Product> {
        if !node.controls.is_empty() || node.inputs.len() < 2 {
            return None;
        }
        let weights = |i: usize| {
            node.inputs.get(i).is_some_and(|o| !part.is_fed(*o) && derived.get(o.node) == Some(&true))
        };
        let flag = |name: &str| part.attr(node, name).and_then(Attr::as_bool).unwrap_or_default();
        let inputs = node.inputs.clone();
        let of_op = |op, pack, attrs| Some(Product { inputs: inputs.clone(), pack, op, attrs });
        let as_it_is = |name: &str, value| Attrs::from([(name.to_owned(), Attr::Bool(value))]);
        if !is_single(node) || !weights(1) {
            return None;
        }
        match node.op.as_str() {
            "MatMul" if !flag("transpose_a") => {
                let swapped = flag("transpose_b");
                of_op("MatMul", Some(Layout::new(2, 1, swapped)), as_it_is("transpose_b", swapped))
            }
            "BatchMatMul" | "BatchMatMulV2" if !flag("adj_x") => {
                let swapped = flag("adj_y");
                of_op("BatchMatMulV2", Some(Layout::new(2, 1, swapped)), as_it_is("adj_y", swapped))
            }
            "Einsum" => {
                let (rank, contracted) = contracted(part.attr(node, "equation")?.as_str()?)?;
                let attrs = Attrs::from([("contracted".to_owned(), Attr::Int(contracted))]);
                of_op("Einsum", Some(Layout::new(rank, contracted, false)), attrs)
            }
            "Conv2D" | "DepthwiseConv2dNative" | "Conv2DBackpropInput" => {
                let signature = ops::signature(&node.op).ok()?;
                let mut attrs = node.attrs.clone();
                for def in &signature.attrs {
                    if let (None, Some(default)) = (attrs.get(&def.name), &def.default) {
                        attrs.insert(def.name.clone(), default.clone());
                    }
                }
                if attrs.get("data_format").and_then(Attr::as_str) != Some("NHWC") {
                    return None;
                }
                match node.op.as_str() {
                    "Conv2D" => {
                        let ones = |name: &str| {
                            let steps = attrs.get(name).and_then(Attr::as_list);
                            steps.is_some_and(|steps| steps.iter().all(|s| s.as_int() == Some(1)))
                        };
                        let slides_by_one = ones("strides") && ones("dilations");
                        let layout = Layout { slides_by_one, ..Layout::new(4, 3, false) };
                        of_op("Conv2D", Some(layout), attrs)
                    }
                    "Conv2DBackpropInput" => {
                        let &[sizes, filter, y] = &node.inputs[..] else { return None };
                        let pack = Some(Layout::new(4, 1, true));
                        Some(Product {
                            inputs: vec![y, filter, sizes],
                            pack,
                            op: "Conv2DBackpropInput",
                            attrs,
                        })
                    }
                    _ => of_op("DepthwiseConv2dNative", None, attrs),
                }
            }
            _ => None,
        }
    }
}

/// The rank of the matrix, and how many labels are summed over, in an equation that is a product of rows with a matrix: `abc,cd->abd`, or several in
/// place of each.
fn contracted(equation: &str) -> Option<(i64, i64)> {
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, result) = equation.split_once("->")?;
    let (x, w) = operands.split_once(',')?;
    let distinct = |s: &str| {
        s.chars().enumerate().all(|(i, c)| c.is_ascii_alphabetic() && !s.chars().take(i).any(|d| d == c))
    };
    let count = (1..w.len()).find(|&n| w.get(..n).is_some_and(|head| x.ends_with(head)))?;
    let rows = x.get(..x.len().checked_sub(count)?)?;
    let wanted = format!("{rows}{}", w.get(count..)?);
    let fits = distinct(x) && distinct(w) && distinct(result) && wanted == result;
    fits.then_some((w.len() as i64, count as i64))
}

/// What follows a product, as far as it was followed.
struct Chain {
    last: usize,
    steps: Vec<Attr>,
    args: Vec<Output>,
}

impl Chain {
    /// Takes up the node after the chain, if that can be fused.
    fn follow(&mut self, part: &Part, readers: &Readers, derived: &[bool], taken: &[bool]) -> Option<usize> {
        let out = Output::new(self.last, 0);
        let reader = readers.only(part, out)?;
        let node = part.graph.nodes.get(reader)?;
        if taken.get(reader) != Some(&false) || !node.controls.is_empty() {
            return None;
        }
        let other = || {
            let [a, b] = node.inputs[..] else { return None };
            Some(if a == out { b } else { a })
        };
        let first = node.inputs.first() == Some(&out);
        let weight = |o: Output| !part.is_fed(o) && derived.get(o.node) == Some(&true);
        let plain = |name: &str| Some((name.to_owned(), None));
        let (step, arg) = match node.op.as_str() {
            "BiasAdd" if first && part.attr(node, "data_format").and_then(Attr::as_str) == Some("NHWC") => {
                ("BiasAdd".to_owned(), other())
            }
            "BiasAddV1" if first => ("BiasAdd".to_owned(), other()),
            "Add" | "AddV2" if is_single(node) => ("Add".to_owned(), Some(other()?)),
            "Mul" if is_single(node) && weight(other()?) => ("Mul".to_owned(), other()),
            "Reshape" if first => ("Reshape".to_owned(), other()),
            "Squeeze" => {
                let dims = part.attr(node, "squeeze_dims").and_then(Attr::as_list)?;
                let dims: Option<Vec<String>> = dims.iter().map(|d| Some(d.as_int()?.to_string())).collect();
                (format!("Squeeze:{}", dims?.join(",")), None)
            }
            "LeakyRelu" => {
                let alpha = part.attr(node, "alpha").and_then(Attr::as_float)?;
                (format!("LeakyRelu:{alpha:?}"), None)
            }
            super::recognise::ACTIVATION => plain(part.attr(node, "activation").and_then(Attr::as_str)?)?,
            op if ops::follows(op) => plain(op)?,
            _ => return None,
        };
        self.last = reader;
        self.steps.push(Attr::from(step));
        self.args.extend(arg);
        Some(reader)
    }
}

/// Puts the fused node in place of the chain's last one.
fn replace(part: &mut Part, readers: &Readers, node: Node, product: Product, chain: Chain) {
    let mut inputs = product.inputs;
    if let (Some(layout), Some(weights)) = (product.pack, inputs.get_mut(1)) {
        if readers.only(part, *weights).is_some()
            && let Some(read) = part.graph.nodes.get_mut(weights.node)
            && read.op == "ReadVariableOp"
        {
            read.attrs.insert(ops::AS_LOADED.to_owned(), Attr::Bool(true));
        }
        *weights = pack(part, format!("{}/packed", node.name), *weights, layout);
    }
    let mut attrs = product.attrs;
    inputs.extend(chain.args);
    attrs.insert("op".to_owned(), Attr::from(product.op));
    attrs.insert("N".to_owned(), Attr::Int(inputs.len() as i64));
    attrs.insert("T".to_owned(), Attr::Type(crate::tensor::DType::F32));
    attrs.insert("steps".to_owned(), Attr::List(chain.steps));
    let last = &mut part.graph.nodes[chain.last];
    last.op = FUSED.to_owned();
    last.inputs = inputs;
    last.attrs = attrs;
}

/// Batch normalisation in inference becomes a factor and a summand for each channel.
fn batch_norms(part: &mut Part) {
    let norms = |&index: &usize| {
        let node = &part.graph.nodes[index];
        node.op.starts_with("FusedBatchNorm") && !node.op.contains("Grad") && is_single(node)
    };
    let found: Vec<usize> = part.needed().iter().copied().filter(norms).collect();
    if found.is_empty() {
        return;
    }
    let derived = derive::derived(part);
    let readers = Readers::of(part);
    for index in found {
        let node = part.graph.nodes[index].clone();
        let attr = |name: &str| part.attr(&node, name);
        let fits = attr("is_training").and_then(Attr::as_bool) == Some(false)
            && attr("data_format").and_then(Attr::as_str) == Some("NHWC");
        let [x, scale, offset, mean, variance] = node.inputs[..] else { continue };
        let weights = [scale, offset, mean, variance];
        let all = weights.iter().all(|o| !part.is_fed(*o) && derived.get(o.node) == Some(&true));
        let alone = (1..6).all(|i| readers.nobody(part, Output::new(index, i)));
        let Some(epsilon) = attr("epsilon").and_then(Attr::as_float) else { continue };
        if !fits || !all || !alone {
            continue;
        }
        let single = || Attrs::from([("T".to_owned(), Attr::Type(crate::tensor::DType::F32))]);
        let name = |what: &str| format!("{}/{what}", node.name);
        let value = Attrs::from([
            ("value".to_owned(), Attr::from(crate::tensor::Tensor::scalar(epsilon))),
            ("dtype".to_owned(), Attr::Type(crate::tensor::DType::F32)),
        ]);
        let epsilon = part.add(name("epsilon"), "Const", Vec::new(), value);
        let sum = part.add(name("variance"), "AddV2", vec![variance, epsilon], single());
        let root = part.add(name("rsqrt"), "Rsqrt", vec![sum], single());
        let factor = part.add(name("factor"), "Mul", vec![root, scale], single());
        let moved = part.add(name("mean"), "Mul", vec![mean, factor], single());
        let mut shift = part.add(name("shift"), "Sub", vec![offset, moved], single());
        let scaled = match convolved(part, &readers, &derived, x, index) {
            Some(before) => {
                // The factor goes into the filter, whose last dimension are the channels, and into the bias.
                let filter = part.graph.nodes[before.conv].inputs[1];
                let of_filter = if part.graph.nodes[before.conv].op == "Conv2D" {
                    factor
                } else {
                    by_channels(part, &node.name, filter, factor)
                };
                part.graph.nodes[before.conv].inputs[1] =
                    part.add(name("filter"), "Mul", vec![filter, of_filter], single());
                if let Some(bias) = before.bias {
                    let bias = part.add(name("bias"), "Mul", vec![bias, factor], single());
                    shift = part.add(name("both"), "AddV2", vec![shift, bias], single());
                }
                Output::new(before.conv, 0)
            }
            None => part.add(name("scaled"), "Mul", vec![x, factor], single()),
        };
        let node = &mut part.graph.nodes[index];
        node.op = "AddV2".to_owned();
        node.inputs = vec![scaled, shift];
        node.attrs = single();
    }
}

/// A number for each result of a depthwise convolution in the shape of its filter's last two dimensions, which are the
/// channels and the results of each.
fn by_channels(part: &mut Part, node: &str, filter: Output, factor: Output) -> Output {
    use crate::tensor::{DType, Tensor};
    let name = |what: &str| format!("{node}/{what}");
    let types = |pairs: &[(&str, DType)]| -> Attrs {
        pairs.iter().map(|(name, dtype)| ((*name).to_owned(), Attr::Type(*dtype))).collect()
    };
    let shape =
        part.add(name("shape"), "Shape", vec![filter], types(&[("T", DType::F32), ("out_type", DType::I32)]));
    let ends = [("begin", 2), ("end", 4), ("step", 1)].map(|(what, at)| {
        let mut attrs = types(&[("dtype", DType::I32)]);
        // One number in a list: what it stands for is an index into a shape.
        let value = Tensor::scalar(at).reshape([1]).unwrap_or_else(|_| Tensor::scalar(at));
        attrs.insert("value".to_owned(), Attr::from(value));
        part.add(name(what), "Const", Vec::new(), attrs)
    });
    let inputs = [shape].into_iter().chain(ends).collect();
    let last =
        part.add(name("last"), "StridedSlice", inputs, types(&[("T", DType::I32), ("Index", DType::I32)]));
    let attrs = types(&[("T", DType::F32), ("Tshape", DType::I32)]);
    part.add(name("channels"), "Reshape", vec![factor, last], attrs)
}

/// A convolution that only one node reads, perhaps with a bias between them.
struct Convolved {
    conv: usize,
    bias: Option<Output>,
}

/// The convolution with weights that `x` is, if nobody but `reader` sees it.
fn convolved(
    part: &Part,
    readers: &Readers,
    derived: &[bool],
    x: Output,
    reader: usize,
) -> Option<Convolved> {
    if readers.only(part, x) != Some(reader) {
        return None;
    }
    let weight = |o: Output| !part.is_fed(o) && derived.get(o.node) == Some(&true);
    let rows = |n: &Node| part.attr(n, "data_format").and_then(Attr::as_str) == Some("NHWC");
    let node = part.maker(x).filter(|n| is_single(n) && rows(n) && n.controls.is_empty())?;
    let &[first, second] = &node.inputs[..] else { return None };
    if !weight(second) {
        return None;
    }
    match node.op.as_str() {
        "Conv2D" | "DepthwiseConv2dNative" => Some(Convolved { conv: x.node, bias: None }),
        "BiasAdd" => {
            let before = convolved(part, readers, derived, first, x.node).filter(|b| b.bias.is_none())?;
            Some(Convolved { bias: Some(second), ..before })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{agree, numbers};
    use crate::{Builder, Result, Sym};

    /// Batch normalisation of `x` by four vectors.
    fn norm(b: &mut Builder, x: Sym, w: &[Sym]) -> Result<Sym> {
        let call = b.op("FusedBatchNormV3").input(x).inputs(w).attr("is_training", false);
        Ok(call.all()?[0])
    }

    fn conv(b: &mut Builder, op: &str, x: Sym, w: Sym, stride: i64) -> Result<Sym> {
        b.op(op).input(x).input(w).attr("strides", vec![1, stride, stride, 1]).attr("padding", "SAME").one()
    }

    #[test]
    fn a_residual_block_is_two_convolutions() {
        let vectors = [2, 3, 4].map(|s| numbers(&[6], s));
        let positive = crate::tensor::Tensor::full(0.7f32, [6]).expect("tensor");
        let mut weights =
            vec![numbers(&[3, 3, 6, 6], 5), numbers(&[3, 3, 6, 6], 6), numbers(&[3, 3, 6, 1], 7)];
        weights.extend(vectors.into_iter().chain([positive]));
        let ops = agree(&[numbers(&[2, 5, 7, 6], 1)], &weights, |b, x, w| {
            let y = conv(b, "Conv2D", x[0], w[0], 1)?;
            let y = norm(b, y, &w[3..])?;
            let y = b.op("Relu").input(y).one()?;
            let y = conv(b, "Conv2D", y, w[1], 1)?;
            let y = b.bias_add(y, w[3])?;
            let y = b.add(x[0], y)?;
            let y = b.op("LeakyRelu").input(y).attr("alpha", 0.3f32).one()?;
            let y = conv(b, "DepthwiseConv2dNative", y, w[2], 2)?;
            let y = norm(b, y, &w[3..])?;
            Ok(vec![b.op("Relu6").input(y).one()?])
        });
        assert_eq!(ops, [FUSED; 3]);
    }

    #[test]
    fn a_transposed_convolution_is_one_step() {
        let weights = [numbers(&[3, 2, 5, 4], 2), numbers(&[5], 3), numbers(&[2, 8, 12, 5], 4)];
        for padding in ["SAME", "VALID"] {
            let ops = agree(&[numbers(&[2, 4, 6, 4], 1)], &weights, |b, x, w| {
                let sizes: &[i32] = if padding == "SAME" { &[2, 8, 12, 5] } else { &[2, 9, 12, 5] };
                let sizes = b.constant(crate::tensor::Tensor::from_vec(sizes.to_vec(), [4])?)?;
                let call = b.op("Conv2DBackpropInput").inputs(&[sizes, w[0], x[0]]).attr("padding", padding);
                let y = call.attr("strides", vec![1, 2, 2, 1]).one()?;
                let y = b.bias_add(y, w[1])?;
                let y = if padding == "SAME" { b.add(y, w[2])? } else { y };
                Ok(vec![b.op("Relu").input(y).one()?])
            });
            assert_eq!(ops, [FUSED]);
        }
    }

    #[test]
    fn a_filter_that_slides_by_one_may_be_transformed() {
        let weights = [numbers(&[3, 3, 16, 20], 2), numbers(&[20], 3)];
        for (stride, dilation) in [(1, 1), (2, 1), (1, 2)] {
            let ops = agree(&[numbers(&[2, 7, 9, 16], 1)], &weights, |b, x, w| {
                let call = b.op("Conv2D").input(x[0]).input(w[0]).attr("padding", "SAME");
                let call = call.attr("strides", vec![1, stride, stride, 1]);
                let y = call.attr("dilations", vec![1, dilation, dilation, 1]).one()?;
                let y = b.bias_add(y, w[1])?;
                Ok(vec![b.op("Relu").input(y).one()?])
            });
            assert_eq!(ops, [FUSED]);
        }
    }

    #[test]
    fn what_normalises_a_convolution_goes_into_its_filter() {
        let mut weights = vec![numbers(&[3, 3, 4, 6], 5), numbers(&[6], 2)];
        weights.extend([3, 4, 5].map(|s| numbers(&[6], s)));
        weights.push(crate::tensor::Tensor::full(0.7f32, [6]).expect("tensor"));
        let ops = agree(&[numbers(&[2, 5, 7, 4], 1)], &weights, |b, x, w| {
            let biased = |b: &mut Builder| {
                let y = conv(b, "Conv2D", x[0], w[0], 1)?;
                b.bias_add(y, w[1])
            };
            let alone = biased(b)?;
            let alone = norm(b, alone, &w[2..])?;
            // Two read this one before it is normalised.
            let seen = biased(b)?;
            let normal = norm(b, seen, &w[2..])?;
            Ok(vec![alone, normal, seen])
        });
        assert_eq!(ops.iter().filter(|op| *op == FUSED).count(), 2);
        assert_eq!(ops.iter().filter(|op| *op == "Mul").count(), 1);
    }

    #[test]
    fn what_normalises_a_depthwise_convolution_goes_into_its_filter() {
        for multiplier in [1, 2] {
            let n = 3 * multiplier;
            let mut weights = vec![numbers(&[3, 3, 3, multiplier], 5), numbers(&[n], 2)];
            weights.extend([3, 4, 5].map(|s| numbers(&[n], s)));
            weights.push(crate::tensor::Tensor::full(0.7f32, [n]).expect("tensor"));
            let ops = agree(&[numbers(&[2, 5, 7, 3], 1)], &weights, |b, x, w| {
                let y = conv(b, "DepthwiseConv2dNative", x[0], w[0], 1)?;
                let y = b.bias_add(y, w[1])?;
                let y = norm(b, y, &w[2..])?;
                Ok(vec![b.op("Relu6").input(y).one()?])
            });
            assert_eq!(ops, [FUSED], "{multiplier} results of each channel");
        }
    }

    #[test]
    fn a_dense_layer_is_one_step_of_any_rank() {
        let weights = [
            numbers(&[4, 6], 2),
            numbers(&[6], 3),
            numbers(&[6, 4], 4),
            numbers(&[4, 2, 3], 5),
            numbers(&[2, 3], 6),
        ];
        let ops = agree(&[numbers(&[2, 5, 4], 1), numbers(&[2, 5, 6], 9)], &weights, |b, x, w| {
            let rows = b.reshape(x[0], &[-1, 4])?;
            let y = b.matmul(rows, w[0])?;
            let y = b.reshape(y, &[2, -1, 6])?;
            let y = b.bias_add(y, w[1])?;
            let y = b.add(y, x[1])?;
            let z = b.op("BatchMatMulV2").input(x[0]).input(w[2]).attr("adj_y", true).one()?;
            let z = b.op("Tanh").input(z).one()?;
            let e = b.op("Einsum").inputs(&[x[0], w[3]]).attr("equation", "abc,cde->abde").one()?;
            let e = b.add(e, w[4])?;
            Ok(vec![y, z, e])
        });
        assert_eq!(ops, ["Reshape", FUSED, FUSED, FUSED]);
    }

    #[test]
    fn what_others_see_stays() {
        let ops = agree(
            &[numbers(&[2, 4], 1)],
            &[numbers(&[4, 4], 2), numbers(&[2, 4], 3), numbers(&[1, 1], 4)],
            |b, x, w| {
                let y = b.matmul(x[0], w[0])?;
                let seen = b.op("Relu").input(y).one()?;
                let twice = b.mul(seen, seen)?;
                // Two operands that grow the product's shape, and one that is no row.
                let z = b.matmul(x[0], w[0])?;
                let z = b.add(z, w[2])?;
                let z = b.reshape(z, &[2, 1, 4])?;
                let z = b.add(z, w[1])?;
                Ok(vec![y, twice, z])
            },
        );
        assert_eq!(ops.iter().filter(|op| *op == FUSED).count(), 2);
        assert!(ops.contains(&"Relu".to_owned()));
    }

    #[test]
    fn equations_that_are_products_of_rows() {
        for (equation, want) in [
            ("abc,cd->abd", Some((2, 1))),
            ("abc,cde->abde", Some((3, 1))),
            ("abcd,cde->abe", Some((3, 2))),
            ("a b , b c -> a c", Some((2, 1))),
            ("abc,cd->adb", None),
            ("abc,bd->abd", None),
            ("aecd,abcd->acbe", None),
            ("...c,cd->...d", None),
            ("aab,bc->aac", None),
            ("ab,ab->", None),
            ("ab->ba", None),
        ] {
            assert_eq!(contracted(equation), want, "{equation}");
        }
    }
}
