//! Running sums and products.

use crate::kernels::array::cast;
use crate::kernels::elementwise::Number;
use crate::kernels::parallel;
use crate::{DType, Element, Error, Result, Tensor, checked_elements, dispatch};

/// In which order a running sum goes, and whether it counts the element it stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Order {
    /// Whether an element's result is what came before it, without itself.
    pub exclusive: bool,
    /// Whether it goes from the end to the start.
    pub reverse: bool,
}

fn scan<T: Element>(
    x: &Tensor,
    axis: usize,
    order: Order,
    init: T,
    f: impl Fn(T, T) -> T + Sync + Send,
) -> Result<Tensor> {
    let shape = x.shape();
    let Some(&n) = shape.get(axis) else {
        return Err(Error::value(format!("axis {axis} is out of range for rank {}", x.rank())));
    };
    let inner = checked_elements(&shape[axis + 1..])?;
    let values = x.elements::<T>()?;
    let mut out = Tensor::zeros(T::DTYPE, shape)?;
    let plane = n.saturating_mul(inner);
    parallel::for_parts(out.make_mut::<T>()?, plane, 1, |start, part| {
        let mut running = vec![init; inner];
        for (to, from) in part.chunks_mut(plane).zip(values[start..].chunks(plane)) {
            running.fill(init);
            for step in 0..n {
                let row = if order.reverse { n - 1 - step } else { step } * inner;
                let lines = to[row..row + inner].iter_mut().zip(&from[row..row + inner]);
                for (total, (o, v)) in running.iter_mut().zip(lines) {
                    let next = f(*total, *v);
                    *o = if order.exclusive { *total } else { next };
                    *total = next;
                }
            }
        }
    });
    Ok(out)
}

/// The running sum along `axis` (`tf.cumsum`).
///
/// # Errors
/// When `axis` is out of range or the dtype isn't a number's.
pub fn cumulative_sum(x: &Tensor, axis: usize, order: Order) -> Result<Tensor> {
    if matches!(x.dtype(), DType::F16 | DType::BF16) {
        return cast(&cumulative_sum(&cast(x, DType::F32)?, axis, order)?, x.dtype());
    }
    dispatch!(native x.dtype(), T => scan::<T>(x, axis, order, T::ZERO, Number::plus),
        else => Err(Error::dtype("a number's", x.dtype())))
}

/// The running product along `axis` (`tf.math.cumprod`).
///
/// # Errors
/// When `axis` is out of range or the dtype isn't a number's.
pub fn cumulative_product(x: &Tensor, axis: usize, order: Order) -> Result<Tensor> {
    if matches!(x.dtype(), DType::F16 | DType::BF16) {
        return cast(&cumulative_product(&cast(x, DType::F32)?, axis, order)?, x.dtype());
    }
    dispatch!(native x.dtype(), T => scan::<T>(x, axis, order, T::ONE, Number::times),
        else => Err(Error::dtype("a number's", x.dtype())))
}

/// The running logarithm of the sum of exponentials along `axis` (`tf.math.cumulative_logsumexp`). Exclusive, it
/// begins with negative infinity.
///
/// # Errors
/// When `axis` is out of range or the dtype isn't a float.
pub fn cumulative_log_sum_exp(x: &Tensor, axis: usize, order: Order) -> Result<Tensor> {
    if matches!(x.dtype(), DType::F16 | DType::BF16) {
        return cast(&cumulative_log_sum_exp(&cast(x, DType::F32)?, axis, order)?, x.dtype());
    }
    dispatch!(wide_float x.dtype(), T => scan::<T>(x, axis, order, T::NEG_INFINITY, |a: T, b: T| {
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        // Equal infinities have no difference.
        if low == high { high + (2.0 as T).ln() } else { high + (low - high).exp().ln_1p() }
    }), else => Err(Error::dtype("a float one", x.dtype())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: [Order; 4] = [
        Order { exclusive: false, reverse: false },
        Order { exclusive: true, reverse: false },
        Order { exclusive: false, reverse: true },
        Order { exclusive: true, reverse: true },
    ];

    #[test]
    fn sums_and_products_run_either_way() {
        let x = Tensor::from_vec(vec![1i32, 2, 3, 4], [4]).expect("tensor");
        let sums = [[1, 3, 6, 10], [0, 1, 3, 6], [10, 9, 7, 4], [9, 7, 4, 0]];
        let products = [[1, 2, 6, 24], [1, 1, 2, 6], [24, 24, 12, 4], [24, 12, 4, 1]];
        for ((order, sum), product) in ORDERS.into_iter().zip(sums).zip(products) {
            assert_eq!(cumulative_sum(&x, 0, order).expect("sum").as_slice::<i32>().expect("i32"), sum);
            assert_eq!(
                cumulative_product(&x, 0, order).expect("product").as_slice::<i32>().expect("i32"),
                product
            );
        }
    }

    #[test]
    fn any_axis_runs() {
        let x = Tensor::from_vec((1..=12).map(|v| v as f32).collect(), [2, 3, 2]).expect("tensor");
        let got = cumulative_sum(&x, 1, Order::default()).expect("sum");
        assert_eq!(
            got.as_slice::<f32>().expect("f32"),
            [1.0, 2.0, 4.0, 6.0, 9.0, 12.0, 7.0, 8.0, 16.0, 18.0, 27.0, 30.0]
        );
        let big = Tensor::full(1i64, [400, 300]).expect("tensor");
        let got = cumulative_sum(&big, 0, Order::default()).expect("sum");
        assert!(
            got.as_slice::<i64>().expect("i64").iter().enumerate().all(|(i, &v)| v == (i / 300) as i64 + 1)
        );
        assert!(cumulative_sum(&x, 3, Order::default()).is_err());
        assert_eq!(
            cumulative_sum(&Tensor::zeros(DType::F32, [0, 2]).expect("none"), 0, ORDERS[0])
                .expect("none")
                .len(),
            0
        );
    }

    #[test]
    fn logarithms_of_sums() {
        let x = Tensor::from_vec(vec![0.0f64, 0.0, f64::NEG_INFINITY, 800.0], [4]).expect("tensor");
        let got = cumulative_log_sum_exp(&x, 0, Order::default()).expect("sum");
        let got = got.as_slice::<f64>().expect("f64");
        for (g, w) in got.iter().zip([0.0, 2f64.ln(), 2f64.ln(), 800.0]) {
            assert!((g - w).abs() < 1e-12, "{g} {w}");
        }
    }
}
