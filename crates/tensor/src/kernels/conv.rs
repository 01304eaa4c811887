//! Convolutions over any number of spatial dimensions, channels last.

#![allow(unsafe_code, reason = "the gemm library takes pointers; extents and strides are checked before")]

use gemm::Parallelism;

use super::parallel;
use super::window::{Axis, Positions, Slide, axes, outer_taps, output_shape};
use crate::{DType, Element, Error, Result, Shape, Tensor, checked_elements, dispatch};

/// A convolution (`tf.nn.convolution`): `x` is `[batch, spatial.., channels]`, `filter` `[spatial.., channels / groups, out]`;
/// the groups follow from the channels. The result is `[batch, spatial.., out]`. `bias`, of `out` elements, is added.
///
/// # Errors
/// When dtypes differ or aren't floats, or shapes don't fit.
pub fn conv(x: &Tensor, filter: &Tensor, slide: &Slide, bias: Option<&Tensor>) -> Result<Tensor> {
    in_wide_floats([Some(x), Some(filter), bias], |[x, f, b]| {
        let (Some(x), Some(f)) = (x, f) else { return Err(Error::value("a convolution needs two operands")) };
        dispatch!(wide_float x.dtype(), T => plain::<T>(x, f, slide, b), else => Err(Error::dtype("a float", x.dtype())))
    })
}

/// A convolution of each channel by itself (`tf.nn.depthwise_conv2d`): `filter` is `[spatial.., channels, multiplier]`, the result
/// has `channels * multiplier` channels.
///
/// # Errors
/// When dtypes differ or aren't floats, or shapes don't fit.
pub fn depthwise_conv(x: &Tensor, filter: &Tensor, slide: &Slide) -> Result<Tensor> {
    in_wide_floats([Some(x), Some(filter), None], |[x, f, _]| {
        let (Some(x), Some(f)) = (x, f) else { return Err(Error::value("a convolution needs two operands")) };
        dispatch!(wide_float x.dtype(), T => depthwise::<T>(x, f, slide), else => Err(Error::dtype("a float", x.dtype())))
    })
}

/// The gradient of [`conv`] by its input, which is what a transposed convolution computes
/// (`tf.nn.conv2d_backprop_input`): `y` is `[batch, spatial.., out]`, `filter` `[spatial.., channels / groups, out]`, and the
/// result has `shape`, `[batch, spatial.., channels]`.
///
/// # Errors
/// When dtypes differ or aren't floats, or shapes don't fit: `y` must be as [`conv`] would make it from `shape`.
pub fn conv_transpose(shape: &[usize], filter: &Tensor, y: &Tensor, slide: &Slide) -> Result<Tensor> {
    in_wide_floats([Some(y), Some(filter), None], |[y, f, _]| {
        let (Some(y), Some(f)) = (y, f) else { return Err(Error::value("a convolution needs two operands")) };
        dispatch!(wide_float y.dtype(), T => transposed::<T>(shape, f, y, slide), else => Err(Error::dtype("a float", y.dtype())))
    })
}

/// Runs `f` on the operands, half precision ones as `float32`, whose result is rounded back; `int32` ones in pieces that
/// floats hold.
pub(super) fn in_wide_floats(
    operands: [Option<&Tensor>; 3],
    f: impl Fn([Option<&Tensor>; 3]) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut dtypes = operands.iter().flatten().map(|t| t.dtype());
    let dtype = dtypes.next().ok_or_else(|| Error::value("there is nothing to convolve"))?;
    if let Some(other) = dtypes.find(|d| *d != dtype) {
        return Err(Error::dtype(dtype, other));
    }
    if let (DType::I32, [Some(a), Some(b), c]) = (dtype, operands) {
        let product = wrapping(a, b, |a, b| f([Some(a), Some(b), None]))?;
        return c.map_or(Ok(product.clone()), |c| super::elementwise::add(product, c.clone()));
    }
    if !matches!(dtype, DType::F16 | DType::BF16) {
        return f(operands);
    }
    let wide = |t: Option<&Tensor>| t.map(|t| super::array::cast(t, DType::F32)).transpose();
    let [a, b, c] = operands;
    let (a, b, c) = (wide(a)?, wide(b)?, wide(c)?);
    super::array::cast(&f([a.as_ref(), b.as_ref(), c.as_ref()])?, dtype)
}

/// A sum of products of `int32`, which wraps, from such of floats: of lower and upper halves these are exact.
fn wrapping(a: &Tensor, b: &Tensor, f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let halves = |t: &Tensor| -> Result<[Tensor; 2]> {
        let x = t.elements::<i32>()?;
        let part = |of: fn(i32) -> f64| Tensor::from_vec(x.iter().map(|v| of(*v)).collect(), t.shape());
        Ok([part(|v| f64::from(v & 0xffff))?, part(|v| f64::from(v >> 16))?])
    };
    let ([a_low, a_high], [b_low, b_high]) = (halves(a)?, halves(b)?);
    let (low, first, second) = (f(&a_low, &b_low)?, f(&a_high, &b_low)?, f(&a_low, &b_high)?);
    let sums = low.elements::<f64>()?.into_owned();
    let high = first.elements::<f64>()?.into_owned().into_iter().zip(second.elements::<f64>()?.into_owned());
    let whole =
        |(sum, (a, b)): (f64, (f64, f64))| (sum as i64).wrapping_add((a as i64 + b as i64) << 16) as i32;
    Tensor::from_vec(sums.into_iter().zip(high).map(whole).collect(), low.shape())
}

/// A float that products are computed in.
pub(super) trait Float: Element + num_traits::Float + std::ops::AddAssign {}
impl Float for f32 {}
impl Float for f64 {}

/// A matrix in rows of a slice.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    data: &'a [T],
    /// Elements from a row to the next.
    step: usize,
}

impl<T> Rows<'_, T> {
    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0
            || (rows - 1)
                .checked_mul(self.step)
                .and_then(|n| n.checked_add(columns))
                .is_some_and(|n| n <= self.data.len())
    }
}

/// `out = a x b` (or `a x bᵀ`) on this thread, `out` in rows of `out_step`.
#[allow(clippy::too_many_arguments, reason = "a product has this many parts")]
fn product<T: Float>(
    m: usize,
    n: usize,
    k: usize,
    a: Rows<'_, T>,
    b: Rows<'_, T>,
    b_transposed: bool,
    out: &mut [T],
    out_step: usize,
) {
    if m == 0 || n == 0 {
        return;
    }
    let fits_b = if b_transposed { b.holds(n, k) } else { b.holds(k, n) };
    assert!(
        a.holds(m, k) && fits_b && Rows { data: &*out, step: out_step }.holds(m, n),
        "matrices have the extents they claim"
    );
    let (b_column, b_row) = if b_transposed { (b.step, 1) } else { (1, b.step) };
    // SAFETY: each of the three slices has been checked to hold its last row whole, so every element reached by these
    // strides lies inside it. `out` is borrowed mutably, so it overlaps neither operand; it is only written.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_step as isize,
            false,
            a.data.as_ptr(),
            1,
            a.step as isize,
            b.data.as_ptr(),
            b_column as isize,
            b_row as isize,
            T::zero(),
            T::one(),
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Extents of a convolution.
pub(super) struct Extents {
    pub(super) batch: usize,
    pub(super) channels: usize,
    /// Channels that one group of filters sees.
    pub(super) seen: usize,
    pub(super) groups: usize,
    pub(super) out: usize,
    pub(super) axes: Vec<Axis>,
    /// Elements of a window: `seen` times the kernel's extents.
    pub(super) window: usize,
}

impl Extents {
    pub(super) fn new(x: &[usize], filter: &[usize], slide: &Slide) -> Result<Extents> {
        let unfit =
            || Error::shape(format!("a filter of shape {filter:?} doesn't fit an input of shape {x:?}"));
        let ([batch, input @ .., channels], [kernel @ .., seen, out]) = (x, filter) else {
            return Err(unfit());
        };
        if *seen == 0 || channels % seen != 0 || input.len() != kernel.len() || input.is_empty() {
            return Err(unfit());
        }
        let groups = channels / seen;
        if groups == 0 || out % groups != 0 {
            return Err(unfit());
        }
        let axes = axes(input, kernel, slide)?;
        let window = checked_elements(&filter[..filter.len() - 1])?;
        Ok(Extents { batch: *batch, channels: *channels, seen: *seen, groups, out: *out, axes, window })
    }

    /// Whether a window is one element and every element is one, so that there is nothing to gather.
    fn pointwise(&self) -> bool {
        self.axes.iter().all(|a| a.kernel == 1 && a.stride == 1 && a.before == 0 && a.out == a.input)
    }

    /// Rows of windows that fit into a core's cache with their product.
    fn tile(&self) -> usize {
        (48 * 1024 / self.window.max(1)).clamp(16, 512)
    }
}

fn plain<T: Float>(x: &Tensor, filter: &Tensor, slide: &Slide, bias: Option<&Tensor>) -> Result<Tensor> {
    let e = Extents::new(x.shape(), filter.shape(), slide)?;
    let (xs, ws) = (x.elements::<T>()?, filter.elements::<T>()?);
    let bias = bias.map(|b| b.elements::<T>()).transpose()?;
    if let Some(b) = &bias
        && b.len() != e.out
    {
        return Err(Error::shape(format!("a bias of {} elements doesn't fit {} channels", b.len(), e.out)));
    }
    let mut result = Tensor::zeros(T::DTYPE, output_shape(e.batch, &e.axes, e.out))?;
    let out = result.make_mut::<T>()?;
    let (group_out, tile) = (e.out / e.groups, e.tile());
    parallel::for_parts(out, e.out, e.window, |start, part| {
        let mut at = Positions::new(&e.axes, start / e.out);
        let mut first = start / e.out;
        let mut windows: Vec<T> = if e.pointwise() { Vec::new() } else { vec![T::zero(); tile * e.window] };
        for chunk in part.chunks_mut(tile * e.out) {
            let rows = chunk.len() / e.out;
            for g in 0..e.groups {
                let a = if e.pointwise() {
                    Rows { data: &xs[first * e.channels + g * e.seen..], step: e.channels }
                } else {
                    let mut from = at.clone();
                    for window in windows.chunks_exact_mut(e.window).take(rows) {
                        gather(&xs, &e, g, &from, window);
                        from.advance();
                    }
                    Rows { data: &windows, step: e.window }
                };
                let b = Rows { data: &ws[g * group_out..], step: e.out };
                product(rows, group_out, e.window, a, b, false, &mut chunk[g * group_out..], e.out);
            }
            if let Some(bias) = &bias {
                for row in chunk.chunks_exact_mut(e.out) {
                    row.iter_mut().zip(bias.iter()).for_each(|(o, b)| *o += *b);
                }
            }
            (0..rows).for_each(|_| at.advance());
            first += rows;
        }
    });
    Ok(result)
}

/// Copies the window of group `g` at a position, zeros where it leaves the input.
#[inline(always)]
pub(super) fn gather<T: Float>(xs: &[T], e: &Extents, g: usize, at: &Positions<'_>, window: &mut [T]) {
    let Some(last) = e.axes.last() else { return };
    let (start, taps) = last.taps(*at.at.last().unwrap_or(&0));
    let whole = taps.len() == last.kernel;
    let image: usize = e.axes.iter().map(|a| a.input).product::<usize>() * e.channels;
    let xs = &xs[at.batch * image..];
    if !whole || e.axes.len() > 1 {
        window.fill(T::zero());
    }
    if taps.is_empty() {
        return;
    }
    outer_taps(&e.axes, &at.at, |kernel_row, input_row| {
        let to = &mut window[(kernel_row * last.kernel + taps.start) * e.seen..];
        let from = (input_row as isize * last.input as isize + start + (taps.start * last.dilation) as isize)
            as usize;
        if last.dilation == 1 && e.groups == 1 {
            let len = taps.len() * e.seen;
            to[..len].copy_from_slice(&xs[from * e.channels..][..len]);
        } else {
            for (t, to) in to.chunks_exact_mut(e.seen).take(taps.len()).enumerate() {
                let from = (from + t * last.dilation) * e.channels + g * e.seen;
                to.copy_from_slice(&xs[from..][..e.seen]);
            }
        }
    });
}

fn depthwise<T: Float>(x: &Tensor, filter: &Tensor, slide: &Slide) -> Result<Tensor> {
    let unfit = || {
        Error::shape(format!("a depthwise filter of shape {:?} doesn't fit {:?}", filter.shape(), x.shape()))
    };
    let ([batch, input @ .., channels], [kernel @ .., seen, multiplier]) = (x.shape(), filter.shape()) else {
        return Err(unfit());
    };
    if seen != channels || input.is_empty() {
        return Err(unfit());
    }
    let axes = axes(input, kernel, slide)?;
    let last = *axes.last().ok_or_else(unfit)?;
    let (xs, ws) = (x.elements::<T>()?, filter.elements::<T>()?);
    let outs = channels.checked_mul(*multiplier).ok_or_else(unfit)?;
    let mut result = Tensor::zeros(T::DTYPE, output_shape(*batch, &axes, outs))?;
    let image: usize = input.iter().product::<usize>() * channels;
    let taps: usize = kernel.iter().product();
    parallel::for_parts(result.make_mut::<T>()?, outs, taps, |start, part| {
        let mut at = Positions::new(&axes, start / outs.max(1));
        for to in part.chunks_exact_mut(outs.max(1)) {
            let (begin, inner) = last.taps(*at.at.last().unwrap_or(&0));
            let xs = &xs[at.batch * image..];
            super::simd::run(
                #[inline(always)]
                |_| {
                    outer_taps(&axes, &at.at, |kernel_row, input_row| {
                        for t in inner.clone() {
                            let from = (input_row as isize * last.input as isize
                                + begin
                                + (t * last.dilation) as isize)
                                as usize;
                            let x = &xs[from * channels..][..*channels];
                            let w = &ws[(kernel_row * last.kernel + t) * outs..][..outs];
                            if *multiplier == 1 {
                                to.iter_mut().zip(x.iter().zip(w)).for_each(|(o, (x, w))| *o += *x * *w);
                            } else {
                                for ((to, x), w) in
                                    to.chunks_exact_mut(*multiplier).zip(x).zip(w.chunks_exact(*multiplier))
                                {
                                    to.iter_mut().zip(w).for_each(|(o, w)| *o += *x * *w);
                                }
                            }
                        }
                    });
                },
            );
            at.advance();
        }
    });
    Ok(result)
}

fn transposed<T: Float>(shape: &[usize], filter: &Tensor, y: &Tensor, slide: &Slide) -> Result<Tensor> {
    let e = Extents::new(shape, filter.shape(), slide)?;
    let wanted: Shape = output_shape(e.batch, &e.axes, e.out);
    if y.shape() != &wanted[..] {
        return Err(Error::shape(format!(
            "the tensor to be transposed has shape {:?}, but for an output of shape {shape:?} it would be {:?}",
            y.shape(),
            &wanted[..]
        )));
    }
    let (ys, ws) = (y.elements::<T>()?, filter.elements::<T>()?);
    let mut result = Tensor::zeros(T::DTYPE, shape)?;
    let image = checked_elements(&shape[1..])?;
    let positions: usize = e.axes.iter().map(|a| a.out).product();
    let (group_out, tile) = (e.out / e.groups, e.tile());
    let Some(last) = e.axes.last().copied() else { return Ok(result) };
    // Windows overlap, so a thread has whole images to itself.
    parallel::for_parts(result.make_mut::<T>()?, image.max(1), e.window, |start, part| {
        let mut windows = vec![T::zero(); tile * e.window];
        for (i, image_out) in part.chunks_exact_mut(image.max(1)).enumerate() {
            let n = start / image.max(1) + i;
            for begin in (0..positions).step_by(tile) {
                let rows = tile.min(positions - begin);
                for g in 0..e.groups {
                    let a =
                        Rows { data: &ys[(n * positions + begin) * e.out + g * group_out..], step: e.out };
                    let b = Rows { data: &ws[g * group_out..], step: e.out };
                    product(rows, e.window, group_out, a, b, true, &mut windows, e.window);
                    let mut at = Positions::new(&e.axes, begin);
                    for window in windows.chunks_exact(e.window).take(rows) {
                        let (first, taps) = last.taps(*at.at.last().unwrap_or(&0));
                        outer_taps(&e.axes, &at.at, |kernel_row, input_row| {
                            for t in taps.clone() {
                                let to = (input_row as isize * last.input as isize
                                    + first
                                    + (t * last.dilation) as isize)
                                    as usize;
                                let to = &mut image_out[to * e.channels + g * e.seen..][..e.seen];
                                let from = &window[(kernel_row * last.kernel + t) * e.seen..][..e.seen];
                                to.iter_mut().zip(from).for_each(|(o, v)| *o += *v);
                            }
                        });
                        at.advance();
                    }
                }
            }
        }
    });
    Ok(result)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::window::Padding;

    fn ramp(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_vec((0..n).map(|i| ((i * 7919) % 17) as f32 - 8.0).collect(), shape).expect("tensor")
    }

    /// Two-dimensional convolution as its definition says, by single multiplications.
    fn naive(x: &Tensor, w: &Tensor, slide: &Slide) -> Vec<f32> {
        let e = Extents::new(x.shape(), w.shape(), slide).expect("fits");
        let (xs, ws) = (x.as_slice::<f32>().expect("f32"), w.as_slice::<f32>().expect("f32"));
        let [ay, ax] = e.axes[..] else { panic!("two dimensions") };
        let mut out = Vec::new();
        for n in 0..e.batch {
            for oy in 0..ay.out {
                for ox in 0..ax.out {
                    for o in 0..e.out {
                        let g = o / (e.out / e.groups);
                        let mut sum = 0.0;
                        for ky in 0..ay.kernel {
                            for kx in 0..ax.kernel {
                                let iy = (oy * ay.stride + ky * ay.dilation) as isize - ay.before as isize;
                                let ix = (ox * ax.stride + kx * ax.dilation) as isize - ax.before as isize;
                                if iy < 0 || ix < 0 || iy >= ay.input as isize || ix >= ax.input as isize {
                                    continue;
                                }
                                for c in 0..e.seen {
                                    let i = ((n * ay.input + iy as usize) * ax.input + ix as usize)
                                        * e.channels
                                        + g * e.seen
                                        + c;
                                    let k = ((ky * ax.kernel + kx) * e.seen + c) * e.out + o;
                                    sum += xs[i] * ws[k];
                                }
                            }
                        }
                        out.push(sum);
                    }
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn convolutions_are_what_their_definition_says(
            h in 3usize..9, w in 3usize..9, kh in 1usize..4, kw in 1usize..4, sy in 1usize..3, sx in 1usize..3,
            dy in 1usize..3, dx in 1usize..3, groups in 1usize..3, seen in 1usize..4, per in 1usize..4, same in any::<bool>(),
        ) {
            let padding = if same { Padding::Same } else { Padding::Explicit(vec![[3, 2], [2, 3]]) };
            let slide = Slide::new([sy, sx], padding).dilated([dy, dx]);
            let x = ramp(&[2, h, w, groups * seen]);
            let f = ramp(&[kh, kw, seen, groups * per]);
            let got = conv(&x, &f, &slide, None).expect("fits");
            let want = naive(&x, &f, &slide);
            prop_assert_eq!(got.as_slice::<f32>().expect("f32"), &want[..]);

            // The transposed one is the adjoint: <conv(x), y> = <x, conv_transpose(y)>.
            let y = ramp(got.shape());
            let back = conv_transpose(x.shape(), &f, &y, &slide).expect("fits");
            let dot = |a: &Tensor, b: &Tensor| -> f64 {
                let (a, b) = (a.as_slice::<f32>().expect("f32"), b.as_slice::<f32>().expect("f32"));
                a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum()
            };
            prop_assert_eq!(dot(&got, &y), dot(&x, &back));
        }

        #[test]
        fn depthwise_is_a_convolution_in_groups(h in 3usize..8, w in 3usize..8, c in 1usize..4, m in 1usize..4, s in 1usize..3) {
            let slide = Slide::new([s, s], Padding::Same);
            let (x, f) = (ramp(&[2, h, w, c]), ramp(&[3, 3, c, m]));
            let got = depthwise_conv(&x, &f, &slide).expect("fits");
            let f = f.reshape([3, 3, 1, c * m]).expect("as many");
            let want = conv(&x, &f, &slide, None).expect("fits");
            prop_assert!(got.bit_eq(&want), "{:?} {:?}", got, want);
        }
    }

    #[test]
    fn other_ranks_and_dtypes_work_too() {
        let slide = Slide::new([1], Padding::Valid);
        let x = ramp(&[1, 5, 2]);
        let f = ramp(&[3, 2, 2]);
        let one = conv(&x, &f, &slide, Some(&ramp(&[2]))).expect("1-D");
        let flat = Slide::new([1, 1], Padding::Valid);
        let two = conv(
            &x.clone().reshape([1, 1, 5, 2]).expect("as many"),
            &f.clone().reshape([1, 3, 2, 2]).expect("as many"),
            &flat,
            Some(&ramp(&[2])),
        );
        assert!(one.clone().reshape([1, 1, 3, 2]).expect("as many").bit_eq(&two.expect("2-D")));
        let cube = Slide::new([1, 1, 1], Padding::Same);
        let three = conv(
            &x.clone().reshape([1, 1, 5, 1, 2]).expect("as many"),
            &f.clone().reshape([1, 3, 1, 2, 2]).expect("as many"),
            &cube,
            None,
        );
        assert_eq!(three.expect("3-D").shape(), [1, 1, 5, 1, 2]);
        let half = |t: &Tensor| crate::kernels::array::cast(t, DType::BF16).expect("cast");
        assert_eq!(conv(&half(&x), &half(&f), &slide, None).expect("bf16").dtype(), DType::BF16);
        assert!(conv(&x, &half(&f), &slide, None).is_err());
        assert!(conv(&x, &ramp(&[3, 3, 2]), &slide, None).is_err());
        assert_eq!(conv(&ramp(&[0, 5, 2]), &f, &slide, None).expect("empty").shape(), [0, 3, 2]);
    }
}
