//! Choosing by a condition.

use super::mover::{Mover, rearrange};
use crate::kernels::broadcast::{Walk, broadcast_shape};
use crate::kernels::parallel;
use crate::{Bool, Error, Result, Tensor, dispatch};

/// Elements of `a` where `condition` is true and of `b` where it isn't, all three broadcasting (`tf.where`).
///
/// # Errors
/// When `condition` isn't `bool`, the others' dtypes differ, or shapes don't broadcast.
pub fn select(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let shape = broadcast_shape(&broadcast_shape(condition.shape(), a.shape())?, b.shape())?;
    let walk = Walk::new(&shape, [condition.shape(), a.shape(), b.shape()]);
    rearrange(&[a, b], &shape, &Choice { condition: &condition.elements::<Bool>()?, walk })
}

/// As the oldest of TensorFlow's selections: a condition that is a vector chooses whole slices along the first
/// dimension, one that is a scalar chooses a whole tensor; else all shapes are the same.
///
/// # Errors
/// When `condition` isn't `bool`, or dtypes or shapes differ.
pub fn select_slices(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.shape() != b.shape() {
        return Err(Error::shape(format!("can't choose between shapes {:?} and {:?}", a.shape(), b.shape())));
    }
    if condition.rank() == 0 || condition.shape() == a.shape() {
        return select(condition, a, b);
    }
    if condition.rank() != 1 || a.shape().first() != condition.shape().first() {
        return Err(Error::shape(format!(
            "a condition of shape {:?} for {:?}",
            condition.shape(),
            a.shape()
        )));
    }
    let mut shape = vec![1; a.rank()];
    shape[0] = condition.len();
    select(&condition.clone().reshape(shape)?, a, b)
}

struct Choice<'a> {
    condition: &'a [Bool],
    walk: Walk<3>,
}

impl Mover for Choice<'_> {
    fn run<T: Clone + Send + Sync>(&self, inputs: &[&[T]], out: &mut [T]) {
        let &[a, b] = inputs else { return };
        let [sc, sa, sb] = self.walk.inner_strides();
        parallel::for_parts(out, 1, 1, |start, part| {
            self.walk.for_runs(start, part.len(), |begin, len, [c, i, j]| {
                let out = &mut part[begin..begin + len];
                if sc == 0 {
                    let (src, at, step) = if self.condition[c].get() { (a, i, sa) } else { (b, j, sb) };
                    if step == 0 {
                        out.fill(src[at].clone());
                    } else {
                        out.clone_from_slice(&src[at..at + len]);
                    }
                    return;
                }
                for (k, (o, c)) in out.iter_mut().zip(&self.condition[c..c + len]).enumerate() {
                    o.clone_from(if c.get() { &a[i + k * sa] } else { &b[j + k * sb] });
                }
            });
        });
    }
}

/// The indices of all elements that are true or not zero, in C order: `int64` of shape (how many, rank)
/// (`tf.where` of a condition alone).
///
/// # Errors
/// When the dtype is neither `bool` nor a number's.
pub fn coordinates(condition: &Tensor) -> Result<Tensor> {
    let places: Vec<usize> = dispatch!(pod condition.dtype(), T => {
        let off = <T as bytemuck::Zeroable>::zeroed();
        condition.elements::<T>()?.iter().enumerate().filter(|(_, v)| **v != off).map(|(i, _)| i).collect()
    }, else => return Err(Error::dtype("bool or a number's", condition.dtype())));
    let rank = condition.rank();
    let mut out = vec![0i64; places.len() * rank];
    if rank > 0 {
        for (row, &place) in out.chunks_mut(rank).zip(&places) {
            let mut rest = place;
            for (index, &n) in row.iter_mut().zip(condition.shape()).rev() {
                *index = (rest % n) as i64;
                rest /= n;
            }
        }
    }
    Tensor::from_vec(out, [places.len(), rank])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn i(values: &[i32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape).expect("tensor")
    }

    fn bools(values: &[bool], shape: &[usize]) -> Tensor {
        Tensor::from_vec(values.iter().map(|&b| Bool::from(b)).collect(), shape).expect("tensor")
    }

    #[test]
    fn a_condition_chooses_and_broadcasts() {
        let (a, b) = (i(&[1, 2, 3, 4], &[2, 2]), i(&[9], &[]));
        let got = select(&bools(&[true, false], &[2]), &a, &b).expect("chosen");
        assert!(got.bit_eq(&i(&[1, 9, 3, 9], &[2, 2])));
        let got = select(&bools(&[true, false], &[2, 1]), &a, &b).expect("chosen");
        assert!(got.bit_eq(&i(&[1, 2, 9, 9], &[2, 2])));
        let got = select(&bools(&[false], &[]), &a, &i(&[7, 8], &[2])).expect("chosen");
        assert!(got.bit_eq(&i(&[7, 8, 7, 8], &[2, 2])));
        assert!(select(&a, &a, &a).is_err());
        assert!(select(&bools(&[true], &[]), &a, &Tensor::scalar(1.0f32)).is_err());
    }

    #[test]
    fn a_vector_chooses_slices() {
        let (a, b) = (i(&[1, 2, 3, 4], &[2, 2]), i(&[5, 6, 7, 8], &[2, 2]));
        let got = select_slices(&bools(&[true, false], &[2]), &a, &b).expect("chosen");
        assert!(got.bit_eq(&i(&[1, 2, 7, 8], &[2, 2])));
        assert!(select_slices(&bools(&[true], &[1]), &a, &b).is_err());
    }

    #[test]
    fn coordinates_of_what_is_true() {
        let got = coordinates(&bools(&[true, false, false, true], &[2, 2])).expect("found");
        assert_eq!(got.as_slice::<i64>().expect("i64"), [0, 0, 1, 1]);
        assert_eq!(coordinates(&Tensor::scalar(2.5f32)).expect("scalar").shape(), [1, 0]);
        assert_eq!(coordinates(&i(&[0, 3], &[2])).expect("found").as_slice::<i64>().expect("i64"), [1]);
        assert_eq!(coordinates(&bools(&[], &[0, 2])).expect("none").shape(), [0, 2]);
    }
}
