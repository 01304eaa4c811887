//! Ops of neural networks: convolutions, pooling, normalization by given statistics.

use modelark_artifact::graph::{Attr, Sym};
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::reductions::rank;
use super::table::Form::One;
use super::table::{Row, row};

/// What a window says, in either dialect.
pub(super) struct Window {
    pub strides: Vec<i64>,
    pub dilations: Vec<i64>,
    pub padding: String,
    pub first: bool,
    pub spatial: usize,
}

impl Window {
    pub fn read(args: &Args<'_, '_>, rank: usize, size: &[i64]) -> Result<Self> {
        let spatial = rank.checked_sub(2).filter(|n| (1..=3).contains(n));
        let spatial = spatial.ok_or_else(|| Error::mismatch(format!("windows over {rank} dimensions")))?;
        // TensorFlow's lists may have batch and channels, too.
        let first = args.text("data_format").is_some_and(|f| f == "channels_first" || f.starts_with("NC"));
        let over = |name: &str, default: Vec<i64>| -> Result<Vec<i64>> {
            let given = args.ints(name)?.unwrap_or(default);
            Ok(match given.len() {
                1 => vec![given[0]; spatial],
                n if n == spatial + 2 => if first { given[2..].to_vec() } else { given[1..n - 1].to_vec() },
                _ => given,
            })
        };
        let strides = over("strides", if size.is_empty() { vec![1] } else { size.to_vec() })?;
        let padding = args.text("padding").unwrap_or_else(|| "valid".to_owned()).to_ascii_uppercase();
        Ok(Window { strides, dilations: over("dilation_rate", vec![1])?, padding, first, spatial })
    }

    /// An attribute over all dimensions; a sequence goes by way of an image.
    pub fn all(&self, spatial: &[i64]) -> Attr {
        let mut all = vec![1i64];
        all.extend((self.spatial..2).map(|_| 1));
        all.extend(spatial);
        all.push(1);
        Attr::from(all)
    }

    /// A convolution by this kernel, of each channel by itself or not.
    pub fn convolve(&self, args: &mut Args<'_, '_>, x: Sym, mut kernel: Sym, depthwise: bool) -> Result<Sym> {
        if self.spatial == 1 {
            let axis = args.call.int(0)?;
            kernel = args.call.apply("ExpandDims", &[kernel, axis])?;
        }
        let op = match (depthwise, self.spatial) {
            (true, 1 | 2) => "DepthwiseConv2dNative",
            (false, 1 | 2) => "Conv2D",
            (false, _) => "Conv3D",
            _ => return Err(Error::unsupported("depthwise convolutions over volumes")),
        };
        let strides = match &self.strides[..] {
            // Strides must be equal: a sequence of one row doesn't notice.
            &[one] if depthwise => Attr::from(vec![1, one, one, 1]),
            all => self.all(all),
        };
        self.apply(args, x, |args, x| {
            let conv = args.call.op(op).inputs(&[x, kernel]).attr("strides", strides);
            Ok(conv.attr("dilations", self.all(&self.dilations)).attr("padding", self.padding.clone()).one()?)
        })
    }

    /// Calls `body` with the channels last, and at least two spatial dimensions.
    pub fn apply(&self, args: &mut Args<'_, '_>, x: Sym, body: impl FnOnce(&mut Args<'_, '_>, Sym) -> Result<Sym>) -> Result<Sym> {
        let n = self.spatial;
        let mut x = x;
        if self.first {
            let last: Vec<usize> = std::iter::once(0).chain(2..n + 2).chain([1]).collect();
            x = args.call.transpose(x, &last)?;
        }
        if n == 1 {
            let axis = args.call.int(1)?;
            x = args.call.apply("ExpandDims", &[x, axis])?;
        }
        let mut y = body(args, x)?;
        if n == 1 {
            y = args.call.op("Squeeze").input(y).attr("squeeze_dims", vec![1i64]).one()?;
        }
        if self.first {
            let first: Vec<usize> = [0, n + 1].into_iter().chain(1..=n).collect();
            y = args.call.transpose(y, &first)?;
        }
        Ok(y)
    }
}

fn pool(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let x = args.tensor("inputs")?;
    let rank = rank(args, "inputs", x)?;
    let first = args.text("data_format").is_some_and(|f| f == "channels_first" || f.starts_with("NC"));
    let size = args.ints("pool_size")?.ok_or_else(|| Error::missing("the op has no window"))?;
    let size = match size.len() {
        1 => vec![size[0]; rank.saturating_sub(2)],
        n if n == rank && n > 2 => if first { size[2..].to_vec() } else { size[1..n - 1].to_vec() },
        _ => size,
    };
    let window = Window::read(args, rank, &size)?;
    let op = if window.spatial == 3 { format!("{op}3D") } else { op.to_owned() };
    let (ksize, strides, padding) = (window.all(&size), window.all(&window.strides), window.padding.clone());
    window.apply(args, x, |args, x| {
        let pool = args.call.op(&op).input(x).attr("ksize", ksize).attr("strides", strides);
        Ok(pool.attr("padding", padding).one()?)
    })
}

fn convolution(args: &mut Args<'_, '_>, depthwise: bool) -> Result<Sym> {
    let x = args.tensor("inputs")?;
    let kernel = args.like("kernel", x)?;
    let rank = rank(args, "inputs", x)?;
    Window::read(args, rank, &[])?.convolve(args, x, kernel, depthwise)
}

fn bias_add(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.tensor("x")?;
    let bias = args.like("bias", x)?;
    let format = args.text("data_format").filter(|f| f.starts_with("NC")).map_or("NHWC", |_| "NCHW");
    Ok(args.call.op("BiasAdd").inputs(&[x, bias]).attr("data_format", format).one()?)
}

/// Normalizes by given mean and variance; a vector of them stands along `axis`.
fn batch_norm(args: &mut Args<'_, '_>, default: f64) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let rank = rank(args, "x", x)?;
    let axis = args.int("axis");
    let mut read = |name: &str| -> Result<Option<Sym>> {
        if args.find(name).is_none() {
            return Ok(None);
        }
        let value = args.like(name, x)?;
        let Some(axis) = axis else { return Ok(Some(value)) };
        let mut shape = vec![1i64; rank];
        shape[crate::config::resolve_axis(axis, rank)?] = -1;
        args.call.reshape(value, &shape).map(Some)
    };
    let statistics = [read("mean")?, read("variance")?];
    let (scale, offset) = (read("scale")?, read("offset")?);
    let [Some(mean), Some(variance)] = statistics else { return Err(Error::missing("the op has no statistics")) };
    let epsilon = args.float("epsilon").unwrap_or(default);
    let epsilon = args.call.scalar(epsilon, x)?;
    let y = args.call.apply("AddV2", &[variance, epsilon])?;
    let mut factor = args.call.apply("Rsqrt", &[y])?;
    if let Some(scale) = scale {
        factor = args.call.apply("Mul", &[factor, scale])?;
    }
    let y = args.call.apply("Sub", &[x, mean])?;
    let y = args.call.apply("Mul", &[y, factor])?;
    offset.map_or(Ok(y), |offset| args.call.apply("AddV2", &[y, offset]))
}

fn dropout(args: &mut Args<'_, '_>) -> Result<Sym> {
    args.tensor("x")
}

fn depth(args: &mut Args<'_, '_>, op: &str) -> Result<Sym> {
    let x = args.tensor("x")?;
    let size = args.int("block_size").ok_or_else(|| Error::missing("the op has no block size"))?;
    Ok(args.call.op(op).input(x).attr("block_size", size).one()?)
}

fn embedding(args: &mut Args<'_, '_>) -> Result<Sym> {
    let (x, indices) = (args.tensor("x")?, args.indices("indices")?);
    let axis = args.call.int(0)?;
    args.call.apply("GatherV2", &[x, indices, axis])
}

fn glu(args: &mut Args<'_, '_>) -> Result<Sym> {
    let x = args.float_tensor("x")?;
    let axis = args.int("axis").unwrap_or(-1);
    let at = args.call.int(axis)?;
    let halves = args.call.op("Split").inputs(&[at, x]).attr("num_split", 2i64).all()?;
    let [a, b] = crate::layer::inputs(&halves)?;
    let gate = args.call.apply("Sigmoid", &[b])?;
    args.call.apply("Mul", &[a, gate])
}

/// Attention of one head for each of the third dimension of `[batch, time, heads, width]`.
fn attention(args: &mut Args<'_, '_>) -> Result<Sym> {
    let query = args.tensor("query")?;
    let (key, value) = (args.like("key", query)?, args.like("value", query)?);
    if args.flag("is_causal") {
        return Err(Error::unsupported("causal attention as an op"));
    }
    let width = args.call.spec(query).known(-1)?;
    let scale = args.float("scale").unwrap_or(1.0 / (width as f64).sqrt());
    let einsum = |args: &mut Args<'_, '_>, a, b, equation: &str| -> Result<Sym> {
        Ok(args.call.op("Einsum").inputs(&[a, b]).attr("equation", equation).one()?)
    };
    let scores = einsum(args, query, key, "btnh,bsnh->bnts")?;
    let scale = args.call.scalar(scale, query)?;
    let mut scores = args.call.apply("Mul", &[scores, scale])?;
    if args.find("bias").is_some() {
        let bias = args.like("bias", query)?;
        scores = args.call.apply("AddV2", &[scores, bias])?;
    }
    if let Some(mask) = args.maybe("mask")? {
        let least = args.call.scalar(-0.7 * f64::from(f32::MAX), query)?;
        scores = args.call.apply("SelectV2", &[mask, scores, least])?;
    }
    let shares = crate::config::softmax(args.call, scores, "Softmax", -1)?;
    einsum(args, shares, value, "bnts,bsnh->btnh")
}

pub(super) const ROWS: &[Row] = &[
    row("nn.MaxPool(inputs; pool_size strides padding data_format) = nn.max_pool(input:inputs ksize:pool_size strides padding data_format) | nn.max_pool2d(input:inputs ksize:pool_size strides padding data_format) | nn.max_pool1d(input:inputs ksize:pool_size strides padding data_format) | compat.v1.nn.max_pool(value:inputs ksize:pool_size strides padding data_format)", One(|a| pool(a, "MaxPool"))),
    row("nn.AveragePool(inputs; pool_size strides padding data_format) = nn.avg_pool(input:inputs ksize:pool_size strides padding data_format) | nn.avg_pool2d(input:inputs ksize:pool_size strides padding data_format) | compat.v1.nn.avg_pool(value:inputs ksize:pool_size strides padding data_format)", One(|a| pool(a, "AvgPool"))),
    row("nn.Conv(inputs kernel; strides padding data_format dilation_rate) = nn.convolution(input:inputs filters:kernel strides padding data_format dilations:dilation_rate) | nn.conv2d(input:inputs filters:kernel strides padding data_format dilations:dilation_rate) | compat.v1.nn.conv2d(input:inputs filter:kernel strides padding use_cudnn_on_gpu data_format dilations:dilation_rate filters:kernel) | nn.conv1d(input:inputs filters:kernel stride:strides padding data_format dilations:dilation_rate)", One(|a| convolution(a, false))),
    row("nn.DepthwiseConv(inputs kernel; strides padding data_format dilation_rate) = nn.depthwise_conv2d(input:inputs filter:kernel strides padding data_format dilations:dilation_rate) | compat.v1.nn.depthwise_conv2d(input:inputs filter:kernel strides padding rate:dilation_rate data_format dilations:dilation_rate)", One(|a| convolution(a, true))),
    row("= nn.bias_add(value:x bias data_format)", One(bias_add)),
    row("nn.BatchNorm(x mean variance offset scale; axis epsilon) = nn.batch_normalization(x mean variance offset scale variance_epsilon:epsilon)", One(|a| batch_norm(a, 1e-3))),
    row("= nn.dropout(x rate noise_shape seed) | compat.v1.nn.dropout(x keep_prob noise_shape seed rate)", One(dropout)),
    row("nn.DepthToSpace(x; block_size data_format) = nn.depth_to_space(input:x block_size data_format)", One(|a| depth(a, "DepthToSpace"))),
    row("nn.SpaceToDepth(x; block_size data_format) = nn.space_to_depth(input:x block_size data_format)", One(|a| depth(a, "SpaceToDepth"))),
    row("= nn.embedding_lookup(params:x ids:indices max_norm)", One(embedding)),
    row("nn.Glu(x; axis)", One(glu)),
    row("nn.DotProductAttention(query key value bias mask scale; is_causal flash_attention attn_logits_soft_cap)", One(attention)),
];
