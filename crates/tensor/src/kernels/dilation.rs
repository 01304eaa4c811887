//! Grey-scale dilation (`tf.nn.dilation2d`): the greatest sum of a window and a filter, for each channel.

use half::{bf16, f16};

use super::array::cast;
use super::elementwise::{Number, Real};
use super::window::{Positions, Slide, axes, output_shape};
use crate::{DType, Error, Result, Tensor, dispatch};

/// For each output, its flat index with those of the input and of the filter that win, and their sum.
fn winners<T: Real>(
    x: &Tensor,
    filter: &Tensor,
    slide: &Slide,
    round: impl Fn(T) -> T,
    mut f: impl FnMut(usize, usize, usize, T),
) -> Result<Vec<usize>> {
    let (&[batch, height, width, channels], &[rows, columns, depth]) = (x.shape(), filter.shape()) else {
        return Err(unfit(x, filter));
    };
    if channels != depth {
        return Err(unfit(x, filter));
    }
    let axes = axes(&[height, width], &[rows, columns], slide)?;
    let shape = output_shape(batch, &axes, channels);
    let [down, along] = axes[..] else { return Err(unfit(x, filter)) };
    let (xs, ws) = (x.elements::<T>()?, filter.elements::<T>()?);
    let mut at = Positions::new(&axes, 0);
    for o in 0..batch * down.out * along.out {
        let ((y, taps_y), (x, taps_x)) = (down.taps(at.at[0]), along.taps(at.at[1]));
        for c in 0..channels {
            // What nothing exceeds goes to the first place within the image, and to the filter's first tap.
            let first = ((at.batch * height + y.max(0) as usize) * width + x.max(0) as usize) * channels + c;
            let mut best = (first, c, T::LEAST);
            for ty in taps_y.clone() {
                for tx in taps_x.clone() {
                    let iy = (y + (ty * down.dilation) as isize) as usize;
                    let ix = (x + (tx * along.dilation) as isize) as usize;
                    let from = ((at.batch * height + iy) * width + ix) * channels + c;
                    let tap = (ty * columns + tx) * channels + c;
                    let sum = round(xs[from].plus(ws[tap]));
                    if sum > best.2 {
                        best = (from, tap, sum);
                    }
                }
            }
            f(o * channels + c, best.0, best.1, best.2);
        }
        at.advance();
    }
    Ok(shape.to_vec())
}

fn unfit(x: &Tensor, filter: &Tensor) -> Error {
    Error::shape(format!(
        "a filter of shape {:?} doesn't fit images of shape {:?}",
        filter.shape(),
        x.shape()
    ))
}

/// The rounding for elements of a dtype, of which only `float32` stands for narrower ones.
fn rounded<T: Real>(round: Option<Round>) -> impl Fn(T) -> T {
    move |v| match round {
        Some(round) => bytemuck::cast::<f32, T>(round(bytemuck::cast::<T, f32>(v))),
        None => v,
    }
}

/// How the sum of two numbers of a dtype is rounded that is wider than theirs.
type Round = fn(f32) -> f32;

/// Half precision in `float32`, rounded back; sums are rounded before they are compared.
fn wide(tensors: &[&Tensor], f: impl FnOnce(&[Tensor], Option<Round>) -> Result<Tensor>) -> Result<Tensor> {
    let dtype =
        tensors.first().map(|t| t.dtype()).ok_or_else(|| Error::value("there is nothing to dilate"))?;
    if let Some(other) = tensors.iter().find(|t| t.dtype() != dtype) {
        return Err(Error::dtype(dtype, other.dtype()));
    }
    let round: Option<Round> = match dtype {
        DType::F16 => Some(|v| f16::from_f32(v).to_f32()),
        DType::BF16 => Some(|v| bf16::from_f32(v).to_f32()),
        _ => None,
    };
    let half = round.is_some();
    let widen = |t: &&Tensor| if half { cast(t, DType::F32) } else { Ok((*t).clone()) };
    let y = f(&tensors.iter().map(widen).collect::<Result<Vec<_>>>()?, round)?;
    if half { cast(&y, dtype) } else { Ok(y) }
}

/// The dilation of `[batch, height, width, channels]` by a filter of `[rows, columns, channels]`.
///
/// # Errors
/// When dtypes differ or have no order, or shapes don't fit.
pub fn dilation(x: &Tensor, filter: &Tensor, slide: &Slide) -> Result<Tensor> {
    wide(&[x, filter], |t, round| {
        let [x, filter] = t else { return Err(Error::value("a dilation takes two operands")) };
        dispatch!(native_real x.dtype(), T => {
            let mut values: Vec<(usize, T)> = Vec::new();
            let shape = winners::<T>(x, filter, slide, rounded(round), |o, _, _, sum| values.push((o, sum)))?;
            let mut out = Tensor::full(<T as Real>::LEAST, shape)?;
            let to = out.make_mut::<T>()?;
            values.into_iter().for_each(|(o, v)| to[o] = v);
            Ok(out)
        }, else => Err(Error::dtype("a real one", x.dtype())))
    })
}

/// The gradient of [`dilation`] by its input, or by its filter: that of each output goes to what won.
///
/// # Errors
/// As [`dilation`], and when `grad` hasn't its shape.
pub fn dilation_grad(
    x: &Tensor,
    filter: &Tensor,
    grad: &Tensor,
    slide: &Slide,
    by_filter: bool,
) -> Result<Tensor> {
    wide(&[x, filter, grad], |t, round| {
        let [x, filter, grad] = t else { return Err(Error::value("a gradient takes three operands")) };
        dispatch!(native_real x.dtype(), T => {
            let mut places = Vec::new();
            let shape = winners::<T>(x, filter, slide, rounded(round), |o, from, tap, _| places.push((o, if by_filter { tap } else { from })))?;
            if grad.shape() != &shape[..] {
                return Err(Error::shape(format!("a gradient of shape {:?} doesn't fit {shape:?}", grad.shape())));
            }
            let gs = grad.elements::<T>()?;
            let mut out = Tensor::zeros(x.dtype(), if by_filter { filter.shape() } else { x.shape() })?;
            let to = out.make_mut::<T>()?;
            places.into_iter().for_each(|(o, p)| to[p] = Number::plus(to[p], gs[o]));
            Ok(out)
        }, else => Err(Error::dtype("a real one", x.dtype())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::window::Padding;

    #[test]
    fn the_greatest_sum_wins() {
        let x = Tensor::from_vec(vec![1i32, 5, 2, 4], [1, 2, 2, 1]).expect("tensor");
        let w = Tensor::from_vec(vec![0i32, 3], [1, 2, 1]).expect("tensor");
        let slide = Slide::new([1, 1], Padding::Same);
        let y = dilation(&x, &w, &slide).expect("fits");
        assert_eq!(y.as_slice::<i32>().expect("i32"), [8, 5, 7, 4]);
        let g = dilation_grad(&x, &w, &x, &slide, false).expect("fits");
        assert_eq!(g.as_slice::<i32>().expect("i32"), [0, 6, 0, 6]);
        let g = dilation_grad(&x, &w, &x, &slide, true).expect("fits");
        assert_eq!(g.as_slice::<i32>().expect("i32"), [9, 3]);
        assert!(dilation(&x, &x, &slide).is_err());
    }
}
