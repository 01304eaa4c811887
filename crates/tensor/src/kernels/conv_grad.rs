//! Gradients of convolutions by their filters, and of depthwise ones by both operands.
//!
//! A convolution's gradient by its input is [`conv_transpose`](super::conv::conv_transpose).

use super::array::{concat, slice};
use super::conv::{Extents, Float, gather, in_wide_floats};
use super::elementwise::add;
use super::matmul::{Form, matmul};
use super::parallel;
use super::window::{Axis, Positions, Slide, axes, outer_taps, output_shape};
use crate::{Error, Result, Tensor, dispatch};

/// Elements of windows that are gathered at once.
const MOST_GATHERED: usize = 1 << 20;

/// The gradient of [`conv`](super::conv::conv) by its filter, which has `shape` (`tf.nn.conv2d`'s `Conv2DBackpropFilter`);
/// `grad` is that of the result.
///
/// # Errors
/// When dtypes differ or aren't floats, or shapes don't fit.
pub fn conv_filter_grad(x: &Tensor, shape: &[usize], grad: &Tensor, slide: &Slide) -> Result<Tensor> {
    in_wide_floats([Some(x), Some(grad), None], |[x, grad, _]| {
        let (Some(x), Some(grad)) = (x, grad) else {
            return Err(Error::value("a gradient needs two operands"));
        };
        dispatch!(wide_float x.dtype(), T => filter_grad::<T>(x, shape, grad, slide), else => Err(Error::dtype("a float", x.dtype())))
    })
}

fn filter_grad<T: Float>(x: &Tensor, shape: &[usize], grad: &Tensor, slide: &Slide) -> Result<Tensor> {
    let e = Extents::new(x.shape(), shape, slide)?;
    let wanted = output_shape(e.batch, &e.axes, e.out);
    fits(grad, &wanted)?;
    let rows = wanted[..wanted.len() - 1].iter().product::<usize>();
    let grad = grad.clone().reshape([rows, e.out])?;
    let xs = x.elements::<T>()?;
    let group_out = e.out / e.groups;
    let zero = Tensor::zeros(T::DTYPE, [e.window, group_out])?;
    let mut sums = vec![zero; e.groups];
    let step = (MOST_GATHERED / e.window).max(1);
    for begin in (0..rows).step_by(step) {
        let n = step.min(rows - begin);
        for (g, sum) in sums.iter_mut().enumerate() {
            let mut windows = Tensor::zeros(T::DTYPE, [n, e.window])?;
            parallel::for_parts(windows.make_mut::<T>()?, e.window, 1, |start, part| {
                let mut at = Positions::new(&e.axes, begin + start / e.window);
                for window in part.chunks_exact_mut(e.window) {
                    gather(&xs, &e, g, &at, window);
                    at.advance();
                }
            });
            let grad = slice(&grad, &[begin, g * group_out], &[n, group_out])?;
            let part = matmul(&windows, Form::Transposed, &grad, Form::Plain)?;
            *sum = add(std::mem::replace(sum, Tensor::scalar(0u8)), part)?;
        }
    }
    concat(&sums.iter().collect::<Vec<_>>(), 1)?.reshape(shape)
}

fn fits(grad: &Tensor, wanted: &[usize]) -> Result<()> {
    if grad.shape() == wanted {
        return Ok(());
    }
    Err(Error::shape(format!(
        "a gradient of shape {:?} doesn't fit a convolution that gives {wanted:?}",
        grad.shape()
    )))
}

/// Extents of a depthwise convolution.
struct Depthwise {
    axes: Vec<Axis>,
    last: Axis,
    channels: usize,
    multiplier: usize,
    outs: usize,
    /// Elements of an image.
    image: usize,
    /// Windows in an image.
    positions: usize,
}

impl Depthwise {
    fn new(x: &[usize], filter: &[usize], grad: &Tensor, slide: &Slide) -> Result<Self> {
        let unfit = || Error::shape(format!("a depthwise filter of shape {filter:?} doesn't fit {x:?}"));
        let ([batch, input @ .., channels], [kernel @ .., seen, multiplier]) = (x, filter) else {
            return Err(unfit());
        };
        if seen != channels || input.is_empty() {
            return Err(unfit());
        }
        let axes = axes(input, kernel, slide)?;
        let last = *axes.last().ok_or_else(unfit)?;
        let outs = channels.checked_mul(*multiplier).ok_or_else(unfit)?;
        fits(grad, &output_shape(*batch, &axes, outs))?;
        let image = crate::checked_elements(&x[1..])?;
        let positions = axes.iter().map(|a| a.out).product();
        Ok(Depthwise { axes, last, channels: *channels, multiplier: *multiplier, outs, image, positions })
    }

    /// Calls `f` for every tap of every window of image `n`: where in the image its channels begin, where in the filter,
    /// and where in the gradient.
    fn for_taps(&self, n: usize, mut f: impl FnMut(usize, usize, usize)) {
        let mut at = Positions::new(&self.axes, n * self.positions);
        for p in 0..self.positions {
            let (begin, taps) = self.last.taps(*at.at.last().unwrap_or(&0));
            outer_taps(&self.axes, &at.at, |kernel_row, row| {
                for t in taps.clone() {
                    let from =
                        row as isize * self.last.input as isize + begin + (t * self.last.dilation) as isize;
                    let tap = (kernel_row * self.last.kernel + t) * self.outs;
                    f(from as usize * self.channels, tap, (n * self.positions + p) * self.outs);
                }
            });
            at.advance();
        }
    }
}

/// The gradient of [`depthwise_conv`](super::conv::depthwise_conv) by its input of `shape`
/// (`DepthwiseConv2dNativeBackpropInput`).
///
/// # Errors
/// When dtypes differ or aren't floats, or shapes don't fit.
pub fn depthwise_input_grad(
    shape: &[usize],
    filter: &Tensor,
    grad: &Tensor,
    slide: &Slide,
) -> Result<Tensor> {
    in_wide_floats([Some(filter), Some(grad), None], |[filter, grad, _]| {
        let (Some(filter), Some(grad)) = (filter, grad) else {
            return Err(Error::value("a gradient needs two operands"));
        };
        let d = Depthwise::new(shape, filter.shape(), grad, slide)?;
        dispatch!(wide_float grad.dtype(), T => {
            let (ws, gs) = (filter.elements::<T>()?, grad.elements::<T>()?);
            let mut out = Tensor::zeros(grad.dtype(), shape)?;
            // Windows overlap, so a thread has whole images to itself.
            parallel::for_parts(out.make_mut::<T>()?, d.image.max(1), ws.len(), |start, part| {
                for (i, to) in part.chunks_exact_mut(d.image.max(1)).enumerate() {
                    d.for_taps(start / d.image.max(1) + i, |from, tap, at| {
                        let pairs = ws[tap..tap + d.outs].iter().zip(&gs[at..at + d.outs]);
                        for (k, (w, g)) in pairs.enumerate() {
                            to[from + k / d.multiplier] += *w * *g;
                        }
                    });
                }
            });
            Ok(out)
        }, else => Err(Error::dtype("a float", grad.dtype())))
    })
}

/// The gradient of [`depthwise_conv`](super::conv::depthwise_conv) by its filter of `shape`
/// (`DepthwiseConv2dNativeBackpropFilter`).
///
/// # Errors
/// When dtypes differ or aren't floats, or shapes don't fit.
pub fn depthwise_filter_grad(x: &Tensor, shape: &[usize], grad: &Tensor, slide: &Slide) -> Result<Tensor> {
    in_wide_floats([Some(x), Some(grad), None], |[x, grad, _]| {
        let (Some(x), Some(grad)) = (x, grad) else {
            return Err(Error::value("a gradient needs two operands"));
        };
        let d = Depthwise::new(x.shape(), shape, grad, slide)?;
        let batch = x.shape().first().copied().unwrap_or_default();
        dispatch!(wide_float grad.dtype(), T => {
            let (xs, gs) = (x.elements::<T>()?, grad.elements::<T>()?);
            let mut out = Tensor::zeros(grad.dtype(), shape)?;
            let to = out.make_mut::<T>()?;
            for n in 0..batch {
                let image = &xs[n * d.image..];
                d.for_taps(n, |from, tap, at| {
                    for (k, (o, g)) in to[tap..tap + d.outs].iter_mut().zip(&gs[at..at + d.outs]).enumerate() {
                        *o += image[from + k / d.multiplier] * *g;
                    }
                });
            }
            Ok(out)
        }, else => Err(Error::dtype("a float", grad.dtype())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;
    use crate::kernels::conv::{conv, depthwise_conv};
    use crate::kernels::window::Padding;

    fn ramp(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_vec((0..n).map(|i| ((i * 7919) % 17) as f64 - 8.0).collect(), shape).expect("tensor")
    }

    fn dot(a: &Tensor, b: &Tensor) -> f64 {
        let (a, b) = (a.elements::<f64>().expect("f64"), b.elements::<f64>().expect("f64"));
        a.iter().zip(b.iter()).map(|(a, b)| a * b).sum()
    }

    /// A convolution is linear in each operand, so `<grad, conv(x, w)> = <conv_filter_grad(x, grad), w>`.
    #[test]
    fn gradients_are_adjoint() {
        for (stride, dilation, padding) in
            [(1, 1, Padding::Same), (2, 1, Padding::Valid), (1, 2, Padding::Explicit(vec![[1, 2], [0, 3]]))]
        {
            let slide = Slide::new([stride, stride], padding).dilated([dilation, dilation]);
            for groups in [1, 2] {
                let (x, w) = (ramp(&[2, 6, 7, 4]), ramp(&[2, 3, 4 / groups, 6]));
                let y = conv(&x, &w, &slide, None).expect("fits");
                let g = ramp(y.shape());
                let grad = conv_filter_grad(&x, w.shape(), &g, &slide).expect("fits");
                assert!((dot(&g, &y) - dot(&grad, &w)).abs() < 1e-6);
            }
            let (x, w) = (ramp(&[2, 6, 7, 3]), ramp(&[2, 3, 3, 2]));
            let y = depthwise_conv(&x, &w, &slide).expect("fits");
            let g = ramp(y.shape());
            let by_filter = depthwise_filter_grad(&x, w.shape(), &g, &slide).expect("fits");
            let by_input = depthwise_input_grad(x.shape(), &w, &g, &slide).expect("fits");
            assert!((dot(&g, &y) - dot(&by_filter, &w)).abs() < 1e-6);
            assert!((dot(&g, &y) - dot(&by_input, &x)).abs() < 1e-6);
        }
        let none = Tensor::zeros(DType::F64, [0, 3, 3, 2]).expect("zeros");
        let slide = Slide::new([1, 1], Padding::Same);
        assert!(conv_filter_grad(&none, &[1, 1, 2, 2], &none, &slide).expect("none").len() == 4);
        assert!(conv_filter_grad(&none, &[1, 1, 2, 3], &none, &slide).is_err());
        assert!(depthwise_input_grad(&[1, 3, 3, 2], &none, &none, &slide).is_err());
    }
}
