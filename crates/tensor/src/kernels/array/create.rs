//! Tensors made from a few numbers.
#![allow(clippy::unnecessary_fallible_conversions, reason = "the same text serves every width of integers")]

use super::Diagonals;
use super::mover::{Mover, rearrange};
use crate::kernels::elementwise::Number;
use crate::{DType, Error, Result, Shape, Tensor, checked_elements, dispatch};

/// A tensor of `shape` with every element the one of `value` (`tf.fill`).
///
/// # Errors
/// When `value` isn't a single element, or the result is too large.
pub fn fill(shape: &[usize], value: &Tensor) -> Result<Tensor> {
    if value.len() != 1 {
        return Err(Error::shape(format!(
            "the value to fill with isn't a scalar but of shape {:?}",
            value.shape()
        )));
    }
    super::broadcast_to(&value.clone().reshape([])?, shape)
}

/// `start`, `start + delta`, .. up to but without `limit` (`tf.range`), from scalars of one real dtype.
///
/// # Errors
/// When `delta` is zero, has the wrong sign, or there would be too many numbers.
pub fn range(start: &Tensor, limit: &Tensor, delta: &Tensor) -> Result<Tensor> {
    let dtype = start.dtype();
    match dtype {
        DType::F16 | DType::BF16 => {
            let wide = |t: &Tensor| super::cast(t, DType::F32);
            super::cast(&range(&wide(start)?, &wide(limit)?, &wide(delta)?)?, dtype)
        }
        DType::F32 | DType::F64 => {
            let number = |t: &Tensor| super::cast(t, DType::F64)?.item::<f64>();
            let (from, to, step) = (number(start)?, number(limit)?, number(delta)?);
            check_step(step == 0.0, step > 0.0, from < to, from == to)?;
            let count = ((to - from) / step).abs().ceil();
            if count.is_nan() || count >= 9e15 {
                return Err(Error::too_large(format!("a range of {count} numbers")));
            }
            checked_elements(&[count as usize, 8])?;
            dispatch!(wide_float dtype, T => {
                let (start, delta) = (start.item::<T>()?, delta.item::<T>()?);
                let mut value = start;
                // Summed up step by step, as TensorFlow does; rounding shows.
                let mut next = || {
                    let this = value;
                    value += delta;
                    this
                };
                let values = (0..count as usize).map(|_| next()).collect();
                Tensor::from_vec::<T>(values, [count as usize])
            }, else => Err(Error::dtype("a real number's", dtype)))
        }
        _ => dispatch!(integer dtype, T => {
            let (from, to, step) = (start.item::<T>()?, limit.item::<T>()?, delta.item::<T>()?);
            let (a, b, s) = (from as i128, to as i128, step as i128);
            check_step(s == 0, s > 0, a < b, a == b)?;
            let count = ((b - a).unsigned_abs()).div_ceil(s.unsigned_abs());
            let count = usize::try_from(count).map_err(|_| Error::too_large(format!("a range of {count} numbers")))?;
            checked_elements(&[count, 8])?;
            let values = (0..count).map(|i| (a + s * i as i128) as T).collect();
            Tensor::from_vec::<T>(values, [count])
        }, else => Err(Error::dtype("a real number's", dtype))),
    }
}

fn check_step(zero: bool, positive: bool, rising: bool, nothing: bool) -> Result<()> {
    if zero {
        return Err(Error::value("a range can't go in steps of 0"));
    }
    if !nothing && positive != rising {
        return Err(Error::value(format!(
            "a range can't get from its start to its limit in {} steps",
            if positive { "positive" } else { "negative" }
        )));
    }
    Ok(())
}

/// `count` numbers evenly from `start` to `stop`, both included (`tf.linspace`), from scalars of one float dtype.
///
/// # Errors
/// When `count` is zero or too large, or dtypes aren't the same float.
pub fn linspace(start: &Tensor, stop: &Tensor, count: usize) -> Result<Tensor> {
    if count == 0 {
        return Err(Error::value("linspace needs at least one number"));
    }
    checked_elements(&[count, 8])?;
    let dtype = start.dtype();
    if matches!(dtype, DType::F16 | DType::BF16) {
        let wide = |t: &Tensor| super::cast(t, DType::F32);
        return super::cast(&linspace(&wide(start)?, &wide(stop)?, count)?, dtype);
    }
    dispatch!(wide_float dtype, T => {
        let (from, to) = (start.item::<T>()?, stop.item::<T>()?);
        let step = if count > 1 { (to - from) / (count - 1) as T } else { T::ZERO };
        let mut values: Vec<T> = (0..count).map(|i| from + step * i as T).collect();
        if let ([first, .., last], true) = (&mut values[..], count > 1) {
            (*first, *last) = (from, to);
        }
        Tensor::from_vec::<T>(values, [count])
    }, else => Err(Error::dtype("a float one", dtype)))
}

/// One at the place that an index gives along a new dimension of `depth` at `axis`, the rest off (`tf.one_hot`).
///
/// `on` and `off` are scalars of the result's dtype; an index out of range gives all off.
///
/// # Errors
/// When `indices` aren't integers, `axis` is over their rank, or the result is too large.
pub fn one_hot(indices: &Tensor, depth: usize, on: &Tensor, off: &Tensor, axis: usize) -> Result<Tensor> {
    if axis > indices.rank() {
        return Err(Error::value(format!(
            "axis {axis} is out of range for a new dimension of rank {}",
            indices.rank()
        )));
    }
    if on.len() != 1 || off.len() != 1 {
        return Err(Error::shape("the values for on and off aren't scalars"));
    }
    let mut shape: Shape = indices.shape().into();
    shape.insert(axis, depth);
    checked_elements(&shape)?;
    let inner = checked_elements(&shape[axis + 1..])?;
    let places = dispatch!(integer indices.dtype(), T => {
        indices.elements::<T>()?.iter().enumerate().filter_map(|(at, &i)| {
            let i = usize::try_from(i).ok().filter(|&i| i < depth)?;
            Some((at / inner * depth + i) * inner + at % inner)
        }).collect()
    }, else => return Err(Error::dtype("an integer one", indices.dtype())));
    rearrange(&[on, off], &shape, &Hot { places })
}

struct Hot {
    places: Vec<usize>,
}

impl Mover for Hot {
    fn run<T: Clone + Send + Sync>(&self, inputs: &[&[T]], out: &mut [T]) {
        let [[on], [off]] = inputs else { return };
        out.fill(off.clone());
        self.places.iter().for_each(|&p| out[p].clone_from(on));
    }
}

/// The matrices in the last two dimensions with all but a band around their diagonal zeroed
/// (`tf.linalg.band_part`): `lower` diagonals below it are kept and `upper` above it, `None` for all.
///
/// # Errors
/// When the rank is under 2.
pub fn band_part(x: &Tensor, lower: Option<usize>, upper: Option<usize>) -> Result<Tensor> {
    let [.., _, columns] = *x.shape() else {
        return Err(Error::shape(format!("a matrix has two dimensions, got shape {:?}", x.shape())));
    };
    let zero = Tensor::zeros(x.dtype(), [])?;
    let rows = x.shape()[x.rank() - 2];
    rearrange(&[x, &zero], x.shape(), &Band { rows, columns, lower, upper })
}

struct Band {
    rows: usize,
    columns: usize,
    lower: Option<usize>,
    upper: Option<usize>,
}

impl Mover for Band {
    fn run<T: Clone + Send + Sync>(&self, inputs: &[&[T]], out: &mut [T]) {
        let ([src, [zero]], 1..) = (inputs, self.columns) else { return };
        for (i, (to, from)) in out.chunks_mut(self.columns).zip(src.chunks(self.columns)).enumerate() {
            let row = i % self.rows;
            let first = self.lower.map_or(0, |l| row.saturating_sub(l)).min(self.columns);
            let end = self
                .upper
                .map_or(self.columns, |u| row.saturating_add(u).saturating_add(1))
                .min(self.columns);
            to.fill(zero.clone());
            if first < end {
                to[first..end].clone_from_slice(&from[first..end]);
            }
        }
    }
}

/// Matrices with ones on their diagonals and zeros elsewhere (`tf.eye`): `batch` of `rows` by `columns`.
///
/// # Errors
/// When the dtype isn't a number's, or the result is too large.
pub fn eye(batch: &[usize], rows: usize, columns: usize, dtype: DType) -> Result<Tensor> {
    let shape: Shape = batch.iter().copied().chain([rows, columns]).collect();
    let ones: Shape = batch.iter().copied().chain([rows.min(columns)]).collect();
    let one = super::cast(&Tensor::scalar(1.0f32), dtype)?;
    super::set_diag(&Tensor::zeros(dtype, &shape)?, &fill(&ones, &one)?, &Diagonals::MAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn i(values: &[i32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape).expect("tensor")
    }

    #[test]
    fn ranges_stop_before_their_limit() {
        let r = |a: i32, b: i32, s: i32| range(&i(&[a], &[]), &i(&[b], &[]), &i(&[s], &[]));
        assert!(r(2, 9, 3).expect("range").bit_eq(&i(&[2, 5, 8], &[3])));
        assert!(r(3, -3, -2).expect("range").bit_eq(&i(&[3, 1, -1], &[3])));
        assert_eq!(r(3, 3, 1).expect("empty").shape(), [0]);
        assert!(r(0, 3, 0).is_err() && r(0, 3, -1).is_err() && r(3, 0, 1).is_err());
        let f = |v: f32| Tensor::scalar(v);
        let got = range(&f(0.0), &f(1.0), &f(0.25)).expect("range");
        assert_eq!(got.as_slice::<f32>().expect("f32"), [0.0, 0.25, 0.5, 0.75]);
        assert!(range(&f(0.0), &f(f32::INFINITY), &f(1.0)).is_err());
        assert!(range(&f(f32::NAN), &f(1.0), &f(1.0)).is_err());
        let wide = |v: i64| Tensor::scalar(v);
        assert!(range(&wide(i64::MIN), &wide(i64::MAX), &wide(1)).is_err());
    }

    #[test]
    fn linspace_ends_where_it_should() {
        let got = linspace(&Tensor::scalar(0.0f32), &Tensor::scalar(1.0f32), 4).expect("four");
        assert_eq!(got.as_slice::<f32>().expect("f32")[3], 1.0);
        assert_eq!(linspace(&Tensor::scalar(2.0f64), &Tensor::scalar(1.0f64), 1).expect("one").len(), 1);
        assert!(linspace(&Tensor::scalar(0.0f32), &Tensor::scalar(1.0f32), 0).is_err());
    }

    #[test]
    fn one_hot_along_any_axis() {
        let at = i(&[1, -1, 0], &[3]);
        let (on, off) = (Tensor::scalar(5u8), Tensor::scalar(1u8));
        let last = one_hot(&at, 2, &on, &off, 1).expect("one hot");
        assert_eq!(last.as_slice::<u8>().expect("u8"), [1, 5, 1, 1, 5, 1]);
        let first = one_hot(&at, 2, &on, &off, 0).expect("one hot");
        assert_eq!(first.as_slice::<u8>().expect("u8"), [1, 1, 5, 5, 1, 1]);
        assert_eq!(one_hot(&i(&[], &[0]), 2, &on, &off, 0).expect("empty").shape(), [2, 0]);
        assert!(one_hot(&at, usize::MAX, &on, &off, 1).is_err() && one_hot(&at, 2, &on, &off, 2).is_err());
    }

    #[test]
    fn bands_are_cut_out() {
        let t = i(&[1, 2, 3, 4, 5, 6, 7, 8, 9], &[3, 3]);
        let band = band_part(&t, Some(0), None).expect("upper");
        assert!(band.bit_eq(&i(&[1, 2, 3, 0, 5, 6, 0, 0, 9], &[3, 3])));
        let band = band_part(&t, Some(1), Some(0)).expect("band");
        assert!(band.bit_eq(&i(&[1, 0, 0, 4, 5, 0, 0, 8, 9], &[3, 3])));
        assert!(eye(&[], 2, 3, DType::I32).expect("eye").bit_eq(&i(&[1, 0, 0, 0, 1, 0], &[2, 3])));
        assert!(band_part(&i(&[1], &[1]), None, None).is_err());
    }

    #[test]
    fn filling_works_for_strings() {
        let t = fill(&[2, 2], &Tensor::scalar_string(&b"x"[..])).expect("filled");
        assert_eq!(t.strings().expect("strings").concat(), b"xxxx");
        assert!(fill(&[2], &i(&[1, 2], &[2])).is_err());
    }
}
