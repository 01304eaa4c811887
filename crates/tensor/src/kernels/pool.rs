//! Poolings over any number of spatial dimensions, channels last.

use super::elementwise::Real;
use super::parallel;
use super::window::{Positions, Slide, axes, outer_taps, output_shape};
use crate::{DType, Element, Error, Result, Tensor, dispatch};

/// The greatest element of each window of `[batch, spatial.., channels]` (`tf.nn.max_pool`); padding never wins.
///
/// # Errors
/// When the dtype has no order, or the window doesn't fit.
pub fn max_pool(x: &Tensor, window: &[usize], slide: &Slide) -> Result<Tensor> {
    if let Some(half) = half(x.dtype()) {
        return super::array::cast(&max_pool(&super::array::cast(x, DType::F32)?, window, slide)?, half);
    }
    dispatch!(wide_float x.dtype(), T => pool::<T>(x, window, slide, T::LEAST, |a, b| b.greater(a), |_, _| {}),
        else => dispatch!(integer x.dtype(), T => pool::<T>(x, window, slide, T::LEAST, |a, b| b.greater(a), |_, _| {}),
        else => Err(Error::dtype("a real one", x.dtype()))))
}

/// The mean of each window of `[batch, spatial.., channels]` (`tf.nn.avg_pool`), over the elements inside the input.
///
/// # Errors
/// When the dtype isn't a float, or the window doesn't fit.
pub fn avg_pool(x: &Tensor, window: &[usize], slide: &Slide) -> Result<Tensor> {
    if let Some(half) = half(x.dtype()) {
        return super::array::cast(&avg_pool(&super::array::cast(x, DType::F32)?, window, slide)?, half);
    }
    match x.dtype() {
        DType::F32 => pool::<f32>(x, window, slide, 0.0, |a, b| a + b, |v, n| *v /= n as f32),
        DType::F64 => pool::<f64>(x, window, slide, 0.0, |a, b| a + b, |v, n| *v /= n as f64),
        other => Err(Error::dtype("a float", other)),
    }
}

/// The dtype if it is of half precision, which is computed in `float32`.
fn half(dtype: DType) -> Option<DType> {
    matches!(dtype, DType::F16 | DType::BF16).then_some(dtype)
}

fn pool<T: Element>(
    x: &Tensor,
    window: &[usize],
    slide: &Slide,
    start: T,
    combine: impl Fn(T, T) -> T + Copy + Send + Sync,
    finish: impl Fn(&mut T, usize) + Copy + Send + Sync,
) -> Result<Tensor> {
    let [batch, input @ .., channels] = x.shape() else {
        return Err(Error::shape(format!("a pooling needs batch and channels, got shape {:?}", x.shape())));
    };
    let axes = axes(input, window, slide)?;
    let xs = x.elements::<T>()?;
    let mut out = Tensor::zeros(T::DTYPE, output_shape(*batch, &axes, *channels))?;
    let Some(last) = axes.last().copied() else {
        return Err(Error::shape("a pooling needs a spatial dimension"));
    };
    let image: usize = input.iter().product::<usize>() * channels;
    let cost: usize = window.iter().product();
    let unit = (*channels).max(1);
    parallel::for_parts(out.make_mut::<T>()?, unit, cost, |begin, part| {
        let mut at = Positions::new(&axes, begin / unit);
        for to in part.chunks_exact_mut(unit) {
            to.fill(start);
            let (first, taps) = last.taps(*at.at.last().unwrap_or(&0));
            let xs = &xs[at.batch * image..];
            let mut count = 0;
            outer_taps(&axes, &at.at, |_, input_row| {
                for t in taps.clone() {
                    let from = (input_row as isize * last.input as isize
                        + first
                        + (t * last.dilation) as isize) as usize;
                    to.iter_mut().zip(&xs[from * channels..]).for_each(|(o, x)| *o = combine(*o, *x));
                    count += 1;
                }
            });
            to.iter_mut().for_each(|v| finish(v, count));
            at.advance();
        }
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::window::Padding;

    #[test]
    fn windows_at_the_border_see_only_the_input() {
        let x = Tensor::from_vec((1..=9).map(|v| v as f32).collect(), [1, 3, 3, 1]).expect("tensor");
        let slide = Slide::new([2, 2], Padding::Same);
        let max = max_pool(&x, &[2, 2], &slide).expect("fits");
        assert_eq!(max.as_slice::<f32>().expect("f32"), [5.0, 6.0, 8.0, 9.0]);
        let avg = avg_pool(&x, &[2, 2], &slide).expect("fits");
        assert_eq!(avg.as_slice::<f32>().expect("f32"), [3.0, 4.5, 7.5, 9.0]);
        let negative = Tensor::from_vec(vec![-5i32, -3], [1, 2, 1]).expect("tensor");
        let slide = Slide::new([1], Padding::Same);
        assert_eq!(
            max_pool(&negative, &[2], &slide).expect("fits").as_slice::<i32>().expect("i32"),
            [-3, -3]
        );
        assert!(avg_pool(&negative, &[2], &slide).is_err());
    }
}
