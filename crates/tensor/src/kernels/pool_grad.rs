//! Gradients of poolings, and the places that a maximum comes from.

use super::array::cast;
use super::elementwise::Number;
use super::parallel;
use super::window::{Positions, Slide, axes, outer_taps, output_shape};
use crate::{DType, Element, Error, Result, Shape, Tensor, dispatch};

/// Where in `x`, of shape `[batch, spatial.., channels]`, the greatest element of each window lies: `int64` indices into the
/// flat tensor. Of several equal ones the first counts. A window that lies in the padding alone has -1.
///
/// # Errors
/// When the dtype has no order, or the window doesn't fit.
pub fn max_pool_places(x: &Tensor, window: &[usize], slide: &Slide) -> Result<Tensor> {
    if matches!(x.dtype(), DType::F16 | DType::BF16) {
        return max_pool_places(&cast(x, DType::F32)?, window, slide);
    }
    dispatch!(native_real x.dtype(), T => places::<T>(x, window, slide), else => Err(Error::dtype("a real one", x.dtype())))
}

fn places<T: Element + PartialOrd>(x: &Tensor, window: &[usize], slide: &Slide) -> Result<Tensor> {
    let [batch, input @ .., channels] = x.shape() else {
        return Err(Error::shape(format!("a pooling needs batch and channels, got shape {:?}", x.shape())));
    };
    let axes = axes(input, window, slide)?;
    let Some(last) = axes.last().copied() else {
        return Err(Error::shape("a pooling needs a spatial dimension"));
    };
    let xs = x.elements::<T>()?;
    let mut out = Tensor::zeros(DType::I64, output_shape(*batch, &axes, *channels))?;
    let image: usize = input.iter().product::<usize>() * channels;
    let unit = (*channels).max(1);
    parallel::for_parts(out.make_mut::<i64>()?, unit, window.iter().product(), |begin, part| {
        let mut at = Positions::new(&axes, begin / unit);
        for to in part.chunks_exact_mut(unit) {
            to.fill(-1);
            let (first, taps) = last.taps(*at.at.last().unwrap_or(&0));
            outer_taps(&axes, &at.at, |_, row| {
                for t in taps.clone() {
                    let from = row as isize * last.input as isize + first + (t * last.dilation) as isize;
                    let from = at.batch * image + from as usize * channels;
                    for (c, o) in to.iter_mut().enumerate() {
                        if *o < 0 || xs[*o as usize] < xs[from + c] {
                            *o = (from + c) as i64;
                        }
                    }
                }
            });
            at.advance();
        }
    });
    Ok(out)
}

/// The gradient of a maximum pooling by its input (`MaxPoolGrad`): each element of `grad` goes to where its window's greatest
/// element lies in `x`.
///
/// # Errors
/// As [`max_pool_places`], and when `grad` hasn't the pooling's shape.
pub fn max_pool_grad(x: &Tensor, grad: &Tensor, window: &[usize], slide: &Slide) -> Result<Tensor> {
    put(&max_pool_places(x, window, slide)?, grad, x.shape())
}

/// Zeros of `shape` with the elements of `grad` added at flat `places` (`int64`, negative ones left out).
///
/// # Errors
/// When the two haven't one shape, a place is out of range, or the dtype isn't a number's.
pub fn put(places: &Tensor, grad: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if grad.shape() != places.shape() {
        return Err(Error::shape(format!(
            "a gradient of shape {:?} doesn't fit a pooling that gives {:?}",
            grad.shape(),
            places.shape()
        )));
    }
    if matches!(grad.dtype(), DType::F16 | DType::BF16) {
        return cast(&put(places, &cast(grad, DType::F32)?, shape)?, grad.dtype());
    }
    let places = places.elements::<i64>()?;
    let mut out = Tensor::zeros(grad.dtype(), shape)?;
    dispatch!(native grad.dtype(), T => {
        let to = out.make_mut::<T>()?;
        for (p, g) in places.iter().zip(grad.elements::<T>()?.iter()).filter(|(p, _)| **p >= 0) {
            let n = to.len();
            let o = to.get_mut(*p as usize).ok_or_else(|| Error::value(format!("place {p} is out of range for {n}")))?;
            *o = Number::plus(*o, *g);
        }
    }, else => return Err(Error::dtype("a number's", grad.dtype())));
    Ok(out)
}

/// The elements of `x` at flat `places` (`int64`), zero for negative ones; the result has the places' shape.
///
/// # Errors
/// When a place is out of range, or the dtype isn't a number's.
pub fn pick(places: &Tensor, x: &Tensor) -> Result<Tensor> {
    let mut out = Tensor::zeros(x.dtype(), places.shape())?;
    let places = places.elements::<i64>()?;
    dispatch!(numeric x.dtype(), T => {
        let xs = x.elements::<T>()?;
        for (o, p) in out.make_mut::<T>()?.iter_mut().zip(places.iter()).filter(|(_, p)| **p >= 0) {
            let wrong = || Error::value(format!("place {p} is out of range for {}", xs.len()));
            *o = *xs.get(*p as usize).ok_or_else(wrong)?;
        }
    }, else => return Err(Error::dtype("a number's", x.dtype())));
    Ok(out)
}

/// The gradient of a mean pooling by its input of `shape` (`AvgPoolGrad`): each window's is shared evenly.
///
/// # Errors
/// When the dtype isn't a float, or `grad` isn't as the pooling gives.
pub fn avg_pool_grad(shape: &[usize], grad: &Tensor, window: &[usize], slide: &Slide) -> Result<Tensor> {
    if matches!(grad.dtype(), DType::F16 | DType::BF16) {
        return cast(&avg_pool_grad(shape, &cast(grad, DType::F32)?, window, slide)?, grad.dtype());
    }
    let [batch, input @ .., channels] = shape else {
        return Err(Error::shape(format!("a pooling needs batch and channels, got shape {shape:?}")));
    };
    let axes = axes(input, window, slide)?;
    let wanted: Shape = output_shape(*batch, &axes, *channels);
    let Some(last) = axes.last().copied().filter(|_| grad.shape() == &wanted[..]) else {
        return Err(Error::shape(format!(
            "a gradient of shape {:?} doesn't fit a pooling that gives {:?}",
            grad.shape(),
            &wanted[..]
        )));
    };
    let mut out = Tensor::zeros(grad.dtype(), shape)?;
    let image: usize = input.iter().product::<usize>() * channels;
    let positions: usize = axes.iter().map(|a| a.out).product();
    dispatch!(wide_float grad.dtype(), T => {
        let gs = grad.elements::<T>()?;
        // Windows overlap, so a thread has whole images to itself.
        parallel::for_parts(out.make_mut::<T>()?, image.max(1), window.iter().product(), |begin, part| {
            let mut at = Positions::new(&axes, begin / image.max(1) * positions);
            for (i, to) in part.chunks_exact_mut(image.max(1)).enumerate() {
                let gs = &gs[(begin / image.max(1) + i) * positions * channels..];
                for g in gs.chunks_exact((*channels).max(1)).take(positions) {
                    let (first, taps) = last.taps(*at.at.last().unwrap_or(&0));
                    let mut rows = 0;
                    outer_taps(&axes, &at.at, |_, _| rows += 1);
                    let share = 1.0 / (rows * taps.len()).max(1) as T;
                    outer_taps(&axes, &at.at, |_, row| {
                        for t in taps.clone() {
                            let from = row as isize * last.input as isize + first + (t * last.dilation) as isize;
                            to[from as usize * channels..].iter_mut().zip(g).for_each(|(o, g)| *o += *g * share);
                        }
                    });
                    at.advance();
                }
            }
        });
    }, else => return Err(Error::dtype("a float", grad.dtype())));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::window::Padding;

    #[test]
    fn gradients_go_where_values_came_from() {
        let x = Tensor::from_vec(vec![1.0f32, 5.0, 5.0, 2.0], [1, 4, 1]).expect("tensor");
        let slide = Slide::new([1], Padding::Valid);
        let g = Tensor::from_vec(vec![1.0f32, 2.0, 4.0], [1, 3, 1]).expect("tensor");
        let max = max_pool_grad(&x, &g, &[2], &slide).expect("fits");
        assert_eq!(max.as_slice::<f32>().expect("f32"), [0.0, 3.0, 4.0, 0.0]);
        let avg = avg_pool_grad(&[1, 4, 1], &g, &[2], &slide).expect("fits");
        assert_eq!(avg.as_slice::<f32>().expect("f32"), [0.5, 1.5, 3.0, 2.0]);
        assert!(
            max_pool_grad(&x, &x, &[2], &slide).is_err()
                && avg_pool_grad(&[1, 3, 1], &g, &[2], &slide).is_err()
        );
        let far = Tensor::from_vec(vec![9i64], [1]).expect("tensor");
        assert!(
            put(&far, &Tensor::full(1.0f32, [1]).expect("one"), &[4]).is_err() && pick(&far, &x).is_err()
        );
    }
}
