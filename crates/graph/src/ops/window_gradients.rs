//! Gradients of convolutions and poolings, and what else is made of the places of maxima.

use super::args::{extents, many, one, tensors};
use super::windows::Window;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::dilation::{dilation, dilation_grad};
use crate::tensor::kernels::{array, conv, conv_grad, pool, pool_grad};
use crate::tensor::{self, DType, Tensor};
use crate::{Attr, Attrs, Error, Result};

type FilterGrad = fn(&Tensor, &[usize], &Tensor, &tensor::kernels::window::Slide) -> tensor::Result<Tensor>;
type InputGrad = fn(&[usize], &Tensor, &Tensor, &tensor::kernels::window::Slide) -> tensor::Result<Tensor>;

/// The shape that a tensor of extents says, or that an operand has.
fn shape_of(t: &Tensor, is_sizes: bool) -> Result<Vec<usize>> {
    if is_sizes { extents(t, "sizes") } else { Ok(t.shape().to_vec()) }
}

/// A filter's gradient; the second input holds the filter's sizes, or is the filter.
fn by_filter(a: &NodeAttrs<'_>, is_sizes: bool, f: FilterGrad) -> Result<Box<dyn Kernel>> {
    let window = Window::read(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, filter, grad] = tensors(inputs)?;
        let shape = shape_of(&filter, is_sizes)?;
        one(f(&window.channels_last(x)?, &shape, &window.channels_last(grad)?, &window.slide)?)
    }))
}

/// An input's gradient; the first input holds the input's sizes, or is the input.
fn by_input(a: &NodeAttrs<'_>, is_sizes: bool, f: InputGrad) -> Result<Box<dyn Kernel>> {
    let window = Window::read(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, filter, grad] = tensors(inputs)?;
        let mut shape = shape_of(&x, is_sizes)?;
        if window.channels_first && shape.len() > 2 {
            shape[1..].rotate_left(1);
        }
        one(window.apply(grad, |grad| f(&shape, &filter, grad, &window.slide))?)
    }))
}

/// Attributes with a window's size and strides, which newer poolings take as inputs.
fn with_window(attrs: &Attrs, size: &Tensor, strides: &Tensor) -> Result<Attrs> {
    let mut attrs = attrs.clone();
    for (name, t) in [("ksize", size), ("strides", strides)] {
        attrs.insert(name.to_owned(), Attr::List(t.to_i64_vec()?.into_iter().map(Attr::Int).collect()));
    }
    Ok(attrs)
}

/// The window that attributes say, or with the last two inputs as its size and strides.
fn window_of(attrs: &Attrs, like: &str, from: Option<[&Tensor; 2]>) -> Result<Window> {
    let signature = super::signature(like)?;
    match from {
        None => Window::read(&NodeAttrs { signature, attrs }),
        Some([size, strides]) => {
            let attrs = with_window(attrs, size, strides)?;
            Window::read(&NodeAttrs { signature, attrs: &attrs })
        }
    }
}

fn max_pool_v2(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let attrs = a.attrs.clone();
    Ok(kernel(move |_, inputs| {
        let [x, size, strides] = tensors(inputs)?;
        let window = window_of(&attrs, "MaxPool", Some([&size, &strides]))?;
        one(window.apply(x, |x| pool::max_pool(x, &window.size, &window.slide))?)
    }))
}

fn max_pool_grad(window: &Window, x: Tensor, grad: Tensor) -> Result<Tensor> {
    let x = window.channels_last(x)?;
    Ok(window.apply(grad, |g| pool_grad::max_pool_grad(&x, g, &window.size, &window.slide))?)
}

fn max_pool_grad_grad(window: &Window, x: Tensor, grad: Tensor) -> Result<Tensor> {
    let x = window.channels_last(x)?;
    if grad.shape().len() != x.rank() || grad.len() != x.len() {
        return Err(Error::compute(format!("a gradient of shape {:?} doesn't fit {:?}", grad.shape(), x.shape())));
    }
    let places = pool_grad::max_pool_places(&x, &window.size, &window.slide)?;
    Ok(window.apply(grad, |g| pool_grad::pick(&places, g))?)
}

type OfMaxima = fn(&Window, Tensor, Tensor) -> Result<Tensor>;

/// From a pooling's input, its output (which the input says already) and a gradient.
fn of_max_pool(a: &NodeAttrs<'_>, f: OfMaxima) -> Result<Box<dyn Kernel>> {
    let window = Window::read(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, _, grad] = tensors(inputs)?;
        one(f(&window, x, grad)?)
    }))
}

fn of_max_pool_v2(a: &NodeAttrs<'_>, f: OfMaxima) -> Result<Box<dyn Kernel>> {
    let attrs = a.attrs.clone();
    Ok(kernel(move |_, inputs| {
        let [x, _, grad, size, strides] = tensors(inputs)?;
        one(f(&window_of(&attrs, "MaxPool", Some([&size, &strides]))?, x, grad)?)
    }))
}

/// Places counted within an image, or those made into places in the whole batch.
fn shift_places(places: &Tensor, image: usize, sign: i64) -> Result<Tensor> {
    let batch = places.shape().first().copied().unwrap_or_default();
    let (each, image) = (places.len() / batch.max(1), image as i64);
    let all = places.elements::<i64>()?;
    let moved = all.iter().enumerate().map(|(i, p)| p.saturating_add(sign * (i / each.max(1)) as i64 * image));
    Ok(Tensor::from_vec(moved.collect(), places.shape())?)
}

fn image_len(shape: &[usize]) -> usize {
    shape.iter().skip(1).product()
}

fn max_pool_with_argmax(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (window, dtype) = (Window::read(a)?, a.dtype("Targmax")?);
    let with_batch = a.bool("include_batch_in_index")?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let places = pool_grad::max_pool_places(&x, &window.size, &window.slide)?;
        let values = pool_grad::pick(&places, &x)?;
        let places = if with_batch { places } else { shift_places(&places, image_len(x.shape()), -1)? };
        many([values, array::cast(&places, dtype)?])
    }))
}

/// A gradient moved along known places: back to them (`back`), or from them.
fn along_argmax(a: &NodeAttrs<'_>, back: bool) -> Result<Box<dyn Kernel>> {
    let window = Window::read(a)?;
    let with_batch = a.bool("include_batch_in_index")?;
    Ok(kernel(move |_, inputs| {
        let [x, grad, places] = tensors(inputs)?;
        let pooled = pool_grad::max_pool_places(&x, &window.size, &window.slide)?;
        let wanted = if back { pooled.shape() } else { x.shape() };
        if grad.shape() != wanted || places.shape() != pooled.shape() {
            return Err(Error::compute(format!(
                "a gradient of {:?} and places of {:?} for a pooling from {:?} to {:?}",
                grad.shape(),
                places.shape(),
                x.shape(),
                pooled.shape()
            )));
        }
        let places = array::cast(&places, DType::I64)?;
        let places = if with_batch { places } else { shift_places(&places, image_len(x.shape()), 1)? };
        if places.elements::<i64>()?.iter().any(|p| *p < 0) {
            return Err(Error::compute("a place of a maximum is negative"));
        }
        one(if back { pool_grad::put(&places, &grad, x.shape())? } else { pool_grad::pick(&places, &grad)? })
    }))
}

fn avg_pool_grad(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let window = Window::read(a)?;
    Ok(kernel(move |_, inputs| {
        let [shape, grad] = tensors(inputs)?;
        let mut shape = extents(&shape, "the input's shape")?;
        if window.channels_first && shape.len() > 2 {
            shape[1..].rotate_left(1);
        }
        one(window.apply(grad, |g| pool_grad::avg_pool_grad(&shape, g, &window.size, &window.slide))?)
    }))
}

/// A dilation's window; what it calls rates are dilations elsewhere.
fn dilation_window(a: &NodeAttrs<'_>) -> Result<Window> {
    let mut attrs = a.attrs.clone();
    if let Some(rates) = attrs.remove("rates") {
        attrs.insert("dilations".to_owned(), rates);
    }
    window_of(&attrs, "Dilation2D", None)
}

fn dilate(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let window = dilation_window(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, filter] = tensors(inputs)?;
        one(dilation(&x, &filter, &window.slide)?)
    }))
}

fn dilate_grad(a: &NodeAttrs<'_>, by_filter: bool) -> Result<Box<dyn Kernel>> {
    let window = dilation_window(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, filter, grad] = tensors(inputs)?;
        one(dilation_grad(&x, &filter, &grad, &window.slide, by_filter)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Conv2DBackpropFilter(input: T, filter_sizes: int32, out_backprop: T) -> (output: T); T: type; strides: list(int); use_cudnn_on_gpu: bool = true; padding: string; explicit_paddings: list(int) = []; data_format: string = \"NHWC\"; dilations: list(int) = [1, 1, 1, 1]", |a| by_filter(a, true, conv_grad::conv_filter_grad)),
    Op::new("Conv2DBackpropFilterV2(input: T, filter: T, out_backprop: T) -> (output: T); T: type; strides: list(int); use_cudnn_on_gpu: bool = true; padding: string; explicit_paddings: list(int) = []; data_format: string = \"NHWC\"; dilations: list(int) = [1, 1, 1, 1]", |a| by_filter(a, false, conv_grad::conv_filter_grad)),
    Op::new("Conv3DBackpropFilter(input: T, filter: T, out_backprop: T) -> (output: T); T: type; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1, 1]", |a| by_filter(a, false, conv_grad::conv_filter_grad)),
    Op::new("Conv3DBackpropFilterV2(input: T, filter_sizes: int32, out_backprop: T) -> (output: T); T: type; strides: list(int); padding: string; data_format: string = \"NDHWC\"; dilations: list(int) = [1, 1, 1, 1, 1]", |a| by_filter(a, true, conv_grad::conv_filter_grad)),
    Op::new("Conv2DBackpropInputV2(input: T, filter: T, out_backprop: T) -> (output: T); T: type; strides: list(int); use_cudnn_on_gpu: bool = true; padding: string; explicit_paddings: list(int) = []; data_format: string = \"NHWC\"; dilations: list(int) = [1, 1, 1, 1]", |a| by_input(a, false, conv::conv_transpose)),
    Op::new("Conv3DBackpropInput(input: T, filter: T, out_backprop: T) -> (output: T); T: type; strides: list(int); padding: string; dilations: list(int) = [1, 1, 1, 1, 1]", |a| by_input(a, false, conv::conv_transpose)),
    Op::new("DepthwiseConv2dNativeBackpropFilter(input: T, filter_sizes: int32, out_backprop: T) -> (output: T); T: type; strides: list(int); padding: string; explicit_paddings: list(int) = []; data_format: string = \"NHWC\"; dilations: list(int) = [1, 1, 1, 1]", |a| by_filter(a, true, conv_grad::depthwise_filter_grad)),
    Op::new("DepthwiseConv2dNativeBackpropInput(input_sizes: int32, filter: T, out_backprop: T) -> (output: T); T: type; strides: list(int); padding: string; explicit_paddings: list(int) = []; data_format: string = \"NHWC\"; dilations: list(int) = [1, 1, 1, 1]", |a| by_input(a, true, conv_grad::depthwise_input_grad)),
    Op::new("MaxPoolV2(input: T, ksize: int32, strides: int32) -> (output: T); T: type = float32; padding: string; data_format: string = \"NHWC\"", max_pool_v2),
    Op::new("MaxPoolGrad(orig_input: T, orig_output: T, grad: T) -> (output: T); ksize: list(int); strides: list(int); padding: string; explicit_paddings: list(int) = []; data_format: string = \"NHWC\"; T: type = float32", |a| of_max_pool(a, max_pool_grad)),
    Op::new("MaxPoolGradV2(orig_input: T, orig_output: T, grad: T, ksize: int32, strides: int32) -> (output: T); padding: string; data_format: string = \"NHWC\"; T: type = float32", |a| of_max_pool_v2(a, max_pool_grad)),
    Op::new("MaxPoolGradGrad(orig_input: T, orig_output: T, grad: T) -> (output: T); ksize: list(int); strides: list(int); padding: string; data_format: string = \"NHWC\"; T: type", |a| of_max_pool(a, max_pool_grad_grad)),
    Op::new("MaxPoolGradGradV2(orig_input: T, orig_output: T, grad: T, ksize: int32, strides: int32) -> (output: T); padding: string; data_format: string = \"NHWC\"; T: type", |a| of_max_pool_v2(a, max_pool_grad_grad)),
    Op::new("MaxPool3DGrad(orig_input: TInput, orig_output: TInput, grad: T) -> (output: T); ksize: list(int); strides: list(int); padding: string; data_format: string = \"NDHWC\"; T: type = float32; TInput: type = float32", |a| of_max_pool(a, max_pool_grad)),
    Op::new("MaxPool3DGradGrad(orig_input: T, orig_output: T, grad: T) -> (output: T); ksize: list(int); strides: list(int); padding: string; data_format: string = \"NDHWC\"; T: type", |a| of_max_pool(a, max_pool_grad_grad)),
    Op::new("MaxPoolWithArgmax(input: T) -> (output: T, argmax: Targmax); ksize: list(int); strides: list(int); Targmax: type = int64; padding: string; include_batch_in_index: bool = false; T: type", max_pool_with_argmax),
    Op::new("MaxPoolGradWithArgmax(input: T, grad: T, argmax: Targmax) -> (output: T); ksize: list(int); strides: list(int); padding: string; include_batch_in_index: bool = false; Targmax: type; T: type", |a| along_argmax(a, true)),
    Op::new("MaxPoolGradGradWithArgmax(input: T, grad: T, argmax: Targmax) -> (output: T); ksize: list(int); strides: list(int); padding: string; include_batch_in_index: bool = false; Targmax: type; T: type", |a| along_argmax(a, false)),
    Op::new("AvgPoolGrad(orig_input_shape: int32, grad: T) -> (output: T); ksize: list(int); strides: list(int); padding: string; data_format: string = \"NHWC\"; T: type", avg_pool_grad),
    Op::new("AvgPool3DGrad(orig_input_shape: int32, grad: T) -> (output: T); ksize: list(int); strides: list(int); padding: string; data_format: string = \"NDHWC\"; T: type", avg_pool_grad),
    Op::new("Dilation2D(input: T, filter: T) -> (output: T); T: type; strides: list(int); rates: list(int); padding: string", dilate),
    Op::new("Dilation2DBackpropInput(input: T, filter: T, out_backprop: T) -> (in_backprop: T); T: type; strides: list(int); rates: list(int); padding: string", |a| dilate_grad(a, false)),
    Op::new("Dilation2DBackpropFilter(input: T, filter: T, out_backprop: T) -> (filter_backprop: T); T: type; strides: list(int); rates: list(int); padding: string", |a| dilate_grad(a, true)),
];
