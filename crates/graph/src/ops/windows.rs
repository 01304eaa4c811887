//! Convolutions and pooling: windows that slide over images.

use super::args::{one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::window::{Padding, Slide};
use crate::tensor::kernels::{array, conv, pool};
use crate::tensor::{self, Shape, Tensor};
use crate::{Attr, Error, Result};

/// Attributes that all windows have: how they slide, and where the channels are.
#[derive(Clone)]
pub(super) struct Window {
    pub(super) slide: Slide,
    /// The extents of a pooling window; empty for a convolution, where the filter has them.
    pub(super) size: Vec<usize>,
    pub(super) channels_first: bool,
}

impl Window {
    pub(super) fn read(a: &NodeAttrs<'_>) -> Result<Self> {
        // Ops without the attribute have their channels last.
        let format = match a.get("data_format") {
            Some(_) => a.str("data_format")?,
            None if a.ints("strides")?.len() == 5 => "NDHWC",
            None => "NHWC",
        };
        let channels_first = format.starts_with("NC");
        if !["NHWC", "NCHW", "NDHWC", "NCDHW"].contains(&format) {
            return Err(Error::unsupported(format!("data format {format:?}")));
        }
        let spatial = |name: &str, values: &[i64]| -> Result<Vec<usize>> {
            let rank = format.len();
            if values.len() != rank {
                return Err(Error::graph(format!("attribute {name:?} must have {rank} values, got {values:?}")));
            }
            let inner = if channels_first { &values[2..] } else { &values[1..rank - 1] };
            let (batch, channels) = (values[0], if channels_first { values[1] } else { values[rank - 1] });
            if batch != 1 || channels != 1 {
                return Err(Error::unsupported(format!("{name} over batch or channels: {values:?}")));
            }
            let positive = |&v: &i64| usize::try_from(v).ok().filter(|v| *v > 0);
            inner.iter().map(positive).collect::<Option<Vec<_>>>().ok_or_else(|| {
                Error::graph(format!("attribute {name:?} must be positive, got {values:?}"))
            })
        };
        let list = |name: &str| -> Result<Option<Vec<usize>>> {
            a.get(name).map(|_| spatial(name, &a.ints(name)?)).transpose()
        };
        let strides = spatial("strides", &a.ints("strides")?)?;
        let explicit = || a.get("explicit_paddings").and_then(Attr::as_list).is_some_and(|l| !l.is_empty());
        let padding = match a.str("padding")? {
            other @ ("VALID" | "SAME") if a.signature.name != "MaxPoolGrad" && explicit() => {
                return Err(Error::graph(format!("attribute \"explicit_paddings\" doesn't go with padding {other:?}")));
            }
            "VALID" => Padding::Valid,
            "SAME" => Padding::Same,
            "EXPLICIT" => {
                let pads = a.ints("explicit_paddings")?;
                let pads: Option<Vec<[usize; 2]>> = pads
                    .chunks(2)
                    .map(|p| Some([usize::try_from(*p.first()?).ok()?, usize::try_from(*p.get(1)?).ok()?]))
                    .collect();
                let pads = pads.filter(|p| p.len() == format.len());
                let pads = pads.ok_or_else(|| Error::graph("attribute \"explicit_paddings\" isn't a list of pairs"))?;
                let inner = if channels_first { &pads[2..] } else { &pads[1..format.len() - 1] };
                Padding::Explicit(inner.to_vec())
            }
            other => return Err(Error::graph(format!("there is no padding {other:?}"))),
        };
        let mut slide = Slide::new(strides, padding);
        if let Some(dilations) = list("dilations")? {
            slide = slide.dilated(dilations);
        }
        Ok(Window { slide, size: list("ksize")?.unwrap_or_default(), channels_first })
    }

    /// Calls `f` on the image with its channels last, and puts them back.
    pub(super) fn apply(&self, x: Tensor, f: impl FnOnce(&Tensor) -> tensor::Result<Tensor>) -> tensor::Result<Tensor> {
        if self.channels_first { channels_to_front(f(&channels_to_back(x)?)?) } else { f(&x) }
    }

    /// The image with its channels last.
    pub(super) fn channels_last(&self, x: Tensor) -> tensor::Result<Tensor> {
        if self.channels_first { channels_to_back(x) } else { Ok(x) }
    }
}

/// How the window of a convolution with channels last slides.
pub(super) fn slide(a: &NodeAttrs<'_>) -> Result<Slide> {
    let window = Window::read(a)?;
    if window.channels_first {
        return Err(Error::unsupported("channels before the spatial dimensions"));
    }
    Ok(window.slide)
}

/// `[batch, channels, spatial..]` to `[batch, spatial.., channels]`.
pub(super) fn channels_to_back(x: Tensor) -> tensor::Result<Tensor> {
    let mut order: Shape = (0..x.rank()).collect();
    if order.len() > 2 {
        order[1..].rotate_left(1);
    }
    array::transpose(&x, &order)
}

/// `[batch, spatial.., channels]` to `[batch, channels, spatial..]`.
pub(super) fn channels_to_front(x: Tensor) -> tensor::Result<Tensor> {
    let mut order: Shape = (0..x.rank()).collect();
    if order.len() > 2 {
        order[1..].rotate_right(1);
    }
    array::transpose(&x, &order)
}

fn convolution(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let window = Window::read(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, filter] = tensors(inputs)?;
        one(window.apply(x, |x| conv::conv(x, &filter, &window.slide, None))?)
    }))
}

fn depthwise(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let window = Window::read(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, filter] = tensors(inputs)?;
        one(window.apply(x, |x| conv::depthwise_conv(x, &filter, &window.slide))?)
    }))
}

/// The shape, with channels last, of the result of a transposed convolution of `y`: what `sizes` says, which may name the
/// spatial dimensions alone.
pub(super) fn transposed_shape(
    sizes: &Tensor,
    filter: &[usize],
    y: &[usize],
    channels_first: bool,
) -> Result<Vec<usize>> {
    let mut shape = super::args::extents(sizes, "the input's shape")?;
    if shape.len() == y.len() && channels_first && shape.len() > 2 {
        shape[1..].rotate_left(1);
    }
    if let (true, Some(batch)) = (shape.len() + 2 == y.len(), y.first()) {
        let channels = filter.len().checked_sub(2).and_then(|c| filter.get(c)).copied();
        shape.insert(0, *batch);
        shape.push(channels.ok_or_else(|| Error::compute("the filter has too few dimensions"))?);
    }
    Ok(shape)
}

fn transposed(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let window = Window::read(a)?;
    Ok(kernel(move |_, inputs| {
        let [sizes, filter, y] = tensors(inputs)?;
        let shape = transposed_shape(&sizes, filter.shape(), y.shape(), window.channels_first)?;
        one(window.apply(y, |y| conv::conv_transpose(&shape, &filter, y, &window.slide))?)
    }))
}

fn pooling(
    a: &NodeAttrs<'_>,
    f: fn(&Tensor, &[usize], &Slide) -> tensor::Result<Tensor>,
) -> Result<Box<dyn Kernel>> {
    let window = Window::read(a)?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        one(window.apply(x, |x| f(x, &window.size, &window.slide))?)
    }))
}

fn max_pool(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    pooling(a, pool::max_pool)
}

fn avg_pool(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    pooling(a, pool::avg_pool)
}

/// A convolution over as many dimensions as there are between batch and channels (`tf.raw_ops.Conv`).
fn general_convolution(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (strides, dilations, pads) = (a.ints("strides")?, a.ints("dilations")?, a.ints("explicit_paddings")?);
    let channels_first = match a.str("data_format")? {
        "CHANNELS_LAST" => false,
        "CHANNELS_FIRST" => true,
        other => return Err(Error::graph(format!("there is no data format {other:?}"))),
    };
    let format = match (strides.len(), channels_first) {
        (4, false) => "NHWC",
        (4, true) => "NCHW",
        (5, false) => "NDHWC",
        (5, true) => "NCDHW",
        (n, _) => return Err(Error::graph(format!("strides of {n} dimensions, where 4 or 5 are known"))),
    };
    let list = |values: Vec<i64>| Attr::List(values.into_iter().map(Attr::Int).collect());
    let dilations = if dilations.is_empty() { vec![1; format.len()] } else { dilations };
    let attrs = crate::Attrs::from([
        ("dilations".to_owned(), list(dilations)),
        ("data_format".to_owned(), Attr::from(format)),
        ("padding".to_owned(), Attr::from(a.str("padding")?)),
        ("strides".to_owned(), list(strides)),
        ("explicit_paddings".to_owned(), list(pads)),
    ]);
    let window = Window::read(&NodeAttrs { signature: a.signature, attrs: &attrs })?;
    let (batch_dims, groups) = (a.int("batch_dims")?, a.int("groups")?);
    let batch_dims = usize::try_from(batch_dims).ok().filter(|n| *n > 0);
    let batch_dims = batch_dims.ok_or_else(|| Error::graph("batch_dims must be positive"))?;
    Ok(kernel(move |_, inputs| {
        let [x, filter] = tensors(inputs)?;
        if x.rank() != batch_dims + format.len() - 1 || filter.rank() != format.len() {
            return Err(Error::compute(format!(
                "inputs {:?} with {batch_dims} batch dimensions don't go with a filter {:?}",
                x.shape(),
                filter.shape()
            )));
        }
        let (batch, inner) = x.shape().split_at(batch_dims);
        let (batch, inner) = (Shape::from(batch), Shape::from(inner));
        let flat: Shape = [tensor::checked_elements(&batch)?].into_iter().chain(inner).collect();
        let x = window.channels_last(x.reshape(&flat)?)?;
        let (has, takes) = (x.shape().last().copied(), filter.shape().get(format.len() - 2).copied());
        if i64::try_from(has.unwrap_or_default()).ok() != takes.and_then(|t| groups.checked_mul(i64::try_from(t).ok()?)) {
            return Err(Error::compute(format!("{has:?} channels in {groups} groups for a filter {:?}", filter.shape())));
        }
        let y = conv::conv(&x, &filter, &window.slide, None)?;
        let y = if channels_first { channels_to_front(y)? } else { y };
        let shape: Shape = batch.iter().chain(&y.shape()[1..]).copied().collect();
        one(y.reshape(shape)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Conv2D(input: T, filter: T) -> (output: T); T: type; strides: list(int); use_cudnn_on_gpu: bool = true; padding: string; explicit_paddings: list(int) = []; data_format: string = \"NHWC\"; dilations: list(int) = [1, 1, 1, 1]", convolution),
    Op::new("Conv3D(input: T, filter: T) -> (output: T); T: type; strides: list(int); padding: string; data_format: string = \"NDHWC\"; dilations: list(int) = [1, 1, 1, 1, 1]", convolution),
    Op::new("DepthwiseConv2dNative(input: T, filter: T) -> (output: T); T: type; strides: list(int); padding: string; explicit_paddings: list(int) = []; data_format: string = \"NHWC\"; dilations: list(int) = [1, 1, 1, 1]", depthwise),
    Op::new("Conv2DBackpropInput(input_sizes: int32, filter: T, out_backprop: T) -> (output: T); T: type; strides: list(int); use_cudnn_on_gpu: bool = true; padding: string; explicit_paddings: list(int) = []; data_format: string = \"NHWC\"; dilations: list(int) = [1, 1, 1, 1]", transposed),
    Op::new("Conv3DBackpropInputV2(input_sizes: Tshape, filter: T, out_backprop: T) -> (output: T); T: type; strides: list(int); padding: string; data_format: string = \"NDHWC\"; dilations: list(int) = [1, 1, 1, 1, 1]; Tshape: type = int32", transposed),
    Op::new("MaxPool(input: T) -> (output: T); T: type = float32; ksize: list(int); strides: list(int); padding: string; explicit_paddings: list(int) = []; data_format: string = \"NHWC\"", max_pool),
    Op::new("MaxPool3D(input: T) -> (output: T); ksize: list(int); strides: list(int); padding: string; data_format: string = \"NDHWC\"; T: type", max_pool),
    Op::new("AvgPool(value: T) -> (output: T); ksize: list(int); strides: list(int); padding: string; data_format: string = \"NHWC\"; T: type", avg_pool),
    Op::new("AvgPool3D(input: T) -> (output: T); ksize: list(int); strides: list(int); padding: string; data_format: string = \"NDHWC\"; T: type", avg_pool),
    Op::new("Conv(input: T, filter: T) -> (output: T); T: type; strides: list(int); padding: string; explicit_paddings: list(int) = []; data_format: string = \"CHANNELS_LAST\"; dilations: list(int) = []; batch_dims: int = 1; groups: int = 1", general_convolution),
];
