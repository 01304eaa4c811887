//! Joining tensors, and taking them apart.

use super::mover::{Mover, rearrange};
use super::strided::slice;
use crate::{Error, Result, Shape, Tensor};

/// Inputs laid one after another along an axis: how many elements of each go to every row.
struct Rows {
    lengths: Vec<usize>,
}

impl Mover for Rows {
    fn run<T: Clone + Send + Sync>(&self, inputs: &[&[T]], out: &mut [T]) {
        let row: usize = self.lengths.iter().sum();
        if row == 0 {
            return;
        }
        crate::kernels::parallel::for_parts(out, row, 1, |start, part| {
            let first = start / row;
            for (i, to) in part.chunks_mut(row).enumerate() {
                let mut rest = to;
                for (input, &len) in inputs.iter().zip(&self.lengths) {
                    let (here, after) = rest.split_at_mut(len);
                    here.clone_from_slice(&input[(first + i) * len..][..len]);
                    rest = after;
                }
            }
        });
    }
}

/// The tensors one after another along `axis` (`tf.concat`).
///
/// # Errors
/// When there are none, dtypes differ, or shapes differ elsewhere than along `axis`.
pub fn concat(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
    let Some(&first) = tensors.first() else { return Err(Error::value("nothing to concatenate")) };
    if axis >= first.rank() {
        return Err(Error::value(format!("axis {axis} is out of range for rank {}", first.rank())));
    }
    let mut shape: Shape = first.shape().into();
    shape[axis] = 0;
    for t in tensors {
        let fits = t.rank() == first.rank()
            && t.shape().iter().zip(first.shape()).enumerate().all(|(d, (a, b))| d == axis || a == b);
        if !fits {
            return Err(Error::shape(format!(
                "shapes {:?} and {:?} can't be concatenated along axis {axis}",
                first.shape(),
                t.shape()
            )));
        }
        shape[axis] = shape[axis]
            .checked_add(t.shape()[axis])
            .ok_or_else(|| Error::too_large("the tensors to concatenate have too many elements"))?;
    }
    if let [one] = tensors {
        return Ok((*one).clone());
    }
    let outer: usize = crate::checked_elements(&shape[..axis])?;
    let lengths = tensors.iter().map(|t| t.len().checked_div(outer).unwrap_or(0)).collect();
    rearrange(tensors, &shape, &Rows { lengths })
}

/// The tensors as parts of one with a new dimension at `axis` (`tf.stack`).
///
/// # Errors
/// When there are none, or dtypes or shapes differ.
pub fn stack(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
    let Some(&first) = tensors.first() else { return Err(Error::value("nothing to stack")) };
    if let Some(other) = tensors.iter().find(|t| t.shape() != first.shape()) {
        return Err(Error::shape(format!(
            "shapes {:?} and {:?} can't be stacked",
            first.shape(),
            other.shape()
        )));
    }
    let parts = tensors.iter().map(|t| expand_dims(t, axis)).collect::<Result<Vec<_>>>()?;
    concat(&parts.iter().collect::<Vec<_>>(), axis)
}

/// The parts of `sizes` along `axis` (`tf.split`). Along the first axis they share `x`'s elements.
///
/// # Errors
/// When `axis` is out of range, or `sizes` don't add up to its extent.
pub fn split(x: &Tensor, axis: usize, sizes: &[usize]) -> Result<Vec<Tensor>> {
    super::strided::check_axes(&[axis], x.rank())?;
    let total = sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s));
    if total != Some(x.shape()[axis]) {
        return Err(Error::value(format!(
            "{sizes:?} don't add up to the {} of axis {axis}",
            x.shape()[axis]
        )));
    }
    let (mut begin, mut size): (Shape, Shape) = (Shape::from_elem(0, x.rank()), x.shape().into());
    sizes
        .iter()
        .map(|&n| {
            size[axis] = n;
            let part = slice(x, &begin, &size)?;
            begin[axis] += n;
            Ok(part)
        })
        .collect()
}

/// The parts along `axis`, without that dimension (`tf.unstack`).
///
/// # Errors
/// When `axis` is out of range.
pub fn unstack(x: &Tensor, axis: usize) -> Result<Vec<Tensor>> {
    super::strided::check_axes(&[axis], x.rank())?;
    let shape: Shape = x.shape().iter().enumerate().filter(|(d, _)| *d != axis).map(|(_, &n)| n).collect();
    split(x, axis, &vec![1; x.shape()[axis]])?.into_iter().map(|part| part.reshape(&shape)).collect()
}

/// The tensor with a new dimension of one element at `axis` (`tf.expand_dims`). Nothing is copied.
///
/// # Errors
/// When `axis` is over the rank.
pub fn expand_dims(x: &Tensor, axis: usize) -> Result<Tensor> {
    if axis > x.rank() {
        return Err(Error::value(format!(
            "axis {axis} is out of range for a new dimension of rank {}",
            x.rank()
        )));
    }
    let mut shape: Shape = x.shape().into();
    shape.insert(axis, 1);
    x.clone().reshape(shape)
}

/// The tensor without dimensions of one element: those of `axes`, or all of them when empty (`tf.squeeze`).
///
/// # Errors
/// When an axis is out of range or has another extent than 1.
pub fn squeeze(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    super::strided::check_axes(axes, x.rank())?;
    if let Some(&axis) = axes.iter().find(|&&a| x.shape()[a] != 1) {
        return Err(Error::shape(format!(
            "axis {axis} of shape {:?} can't be dropped: it isn't 1",
            x.shape()
        )));
    }
    let dropped = |d: usize, n: usize| if axes.is_empty() { n == 1 } else { axes.contains(&d) };
    let shape: Shape =
        x.shape().iter().enumerate().filter(|(d, n)| !dropped(*d, **n)).map(|(_, &n)| n).collect();
    x.clone().reshape(shape)
}

#[cfg(test)]
mod tests {
    use ndarray::{Axis, concatenate};

    use super::*;
    use crate::DType;

    fn counting(shape: &[usize], from: i16) -> Tensor {
        Tensor::from_vec((0..shape.iter().product::<usize>() as i16).map(|i| i + from).collect(), shape)
            .expect("tensor")
    }

    #[test]
    fn joining_and_taking_apart_are_inverse() {
        for axis in 0..3 {
            let shapes = [1usize, 3, 0, 2].map(|n| {
                let mut s = [2, 3, 4];
                s[axis] = n;
                s
            });
            let parts: Vec<Tensor> =
                shapes.iter().zip([0, 100, 200, 300]).map(|(s, f)| counting(s, f)).collect();
            let joined = concat(&parts.iter().collect::<Vec<_>>(), axis).expect("joined");
            let arrays: Vec<_> = parts.iter().map(|t| t.to_array::<i16>().expect("i16")).collect();
            let views: Vec<_> = arrays.iter().map(|a| a.view()).collect();
            assert_eq!(
                joined.to_array::<i16>().expect("i16"),
                concatenate(Axis(axis), &views).expect("ndarray")
            );
            let apart = split(&joined, axis, &[1, 3, 0, 2]).expect("apart");
            assert!(apart.iter().zip(&parts).all(|(a, b)| a.bit_eq(b)));
        }
    }

    #[test]
    fn stacking_makes_a_dimension() {
        let (a, b) = (counting(&[2, 3], 0), counting(&[2, 3], 10));
        for axis in 0..=2 {
            let s = stack(&[&a, &b], axis).expect("stack");
            assert_eq!(s.shape()[axis], 2);
            let parts = unstack(&s, axis).expect("parts");
            assert!(parts[0].bit_eq(&a) && parts[1].bit_eq(&b));
        }
        assert!(stack(&[&a, &counting(&[3, 2], 0)], 0).is_err());
        assert!(stack(&[&a], 3).is_err() && stack(&[], 0).is_err());
    }

    #[test]
    fn strings_join() {
        let t = |s: &str| Tensor::from_strings(s.bytes().map(|b| vec![b]), [s.len()]).expect("strings");
        let joined = concat(&[&t("ab"), &t(""), &t("c")], 0).expect("joined");
        assert_eq!(joined.strings().expect("strings").concat(), b"abc");
    }

    #[test]
    fn dimensions_of_one_come_and_go() {
        let t = counting(&[1, 3, 1], 0);
        assert_eq!(squeeze(&t, &[]).expect("all").shape(), [3]);
        assert_eq!(squeeze(&t, &[2]).expect("last").shape(), [1, 3]);
        assert!(squeeze(&t, &[1]).is_err() && squeeze(&t, &[3]).is_err());
        assert_eq!(expand_dims(&t, 3).expect("end").shape(), [1, 3, 1, 1]);
        assert!(expand_dims(&t, 4).is_err());
    }

    #[test]
    fn unfit_shapes_are_refused() {
        assert!(concat(&[&counting(&[2, 3], 0), &counting(&[3, 3], 0)], 1).is_err());
        assert!(concat(&[&counting(&[2], 0), &Tensor::zeros(DType::F32, [2]).expect("zeros")], 0).is_err());
        assert!(concat(&[&counting(&[], 0)], 0).is_err());
        assert!(split(&counting(&[4], 0), 0, &[usize::MAX, 5]).is_err());
    }
}
