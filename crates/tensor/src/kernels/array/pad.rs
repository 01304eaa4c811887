//! Adding elements around a tensor.

use super::mover::{Mover, rearrange};
use crate::kernels::parallel;
use crate::{Error, Result, Shape, Tensor, checked_elements, contiguous_strides};

/// How a mirror stands at a tensor's edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirror {
    /// On the edge's elements, which aren't repeated.
    Reflect,
    /// Behind the edge's elements, which are repeated.
    Symmetric,
}

/// For each dimension of the result, which of the input's elements is there; `usize::MAX` for the filling.
struct Lookup {
    maps: Vec<Vec<usize>>,
    strides: Shape,
}

const FILLING: usize = usize::MAX;

impl Mover for Lookup {
    fn run<T: Clone + Send + Sync>(&self, inputs: &[&[T]], out: &mut [T]) {
        let Some(&src) = inputs.first() else { return };
        let filling = inputs.get(1).and_then(|f| f.first());
        let Some((inner, outer)) = self.maps.split_last() else {
            out.clone_from_slice(src);
            return;
        };
        if out.is_empty() {
            return;
        }
        // Most of an inner dimension is one run.
        let first = inner.iter().position(|&i| i == 0).unwrap_or(inner.len());
        let run = inner[first..].iter().enumerate().take_while(|(k, i)| *k == **i).count();
        parallel::for_parts(out, inner.len(), 1, |start, part| {
            for (r, row) in part.chunks_mut(inner.len()).enumerate() {
                let mut number = start / inner.len() + r;
                let mut base = Some(0);
                for (map, stride) in outer.iter().zip(&self.strides).rev() {
                    let i = map[number % map.len()];
                    number /= map.len();
                    base = if i == FILLING { None } else { base.map(|b| b + i * stride) };
                }
                let Some(base) = base else {
                    if let Some(filling) = filling {
                        row.fill(filling.clone());
                    }
                    continue;
                };
                let mut put = |range: std::ops::Range<usize>| {
                    for (o, &i) in row[range.clone()].iter_mut().zip(&inner[range]) {
                        match (i, filling) {
                            (FILLING, Some(filling)) => o.clone_from(filling),
                            (FILLING, None) => {}
                            _ => o.clone_from(&src[base + i]),
                        }
                    }
                };
                put(0..first);
                put(first + run..inner.len());
                row[first..first + run].clone_from_slice(&src[base..base + run]);
            }
        });
    }
}

/// The shape with `paddings` (before, after) added to each dimension.
fn padded_shape(shape: &[usize], paddings: &[(usize, usize)]) -> Result<Shape> {
    if paddings.len() != shape.len() {
        return Err(Error::shape(format!("{} paddings for shape {shape:?}", paddings.len())));
    }
    let out: Shape = shape
        .iter()
        .zip(paddings)
        .map(|(&n, &(before, after))| n.checked_add(before).and_then(|n| n.checked_add(after)))
        .collect::<Option<_>>()
        .ok_or_else(|| Error::too_large(format!("shape {shape:?} with paddings {paddings:?}")))?;
    checked_elements(&out)?;
    Ok(out)
}

/// The tensor with `value`, a scalar of its dtype, put around it: `paddings[i]` before and after along dimension `i`
/// (`tf.pad` in its constant mode).
///
/// # Errors
/// When there aren't as many paddings as dimensions, `value` isn't such a scalar, or the result is too large.
pub fn pad(x: &Tensor, paddings: &[(usize, usize)], value: &Tensor) -> Result<Tensor> {
    let shape = padded_shape(x.shape(), paddings)?;
    if value.len() != 1 {
        return Err(Error::shape(format!(
            "the value to pad with isn't a scalar but of shape {:?}",
            value.shape()
        )));
    }
    if x.is_empty() {
        return super::broadcast_to(&value.clone().reshape([])?, &shape);
    }
    let maps = x
        .shape()
        .iter()
        .zip(paddings)
        .map(|(&n, &(before, after))| {
            (0..before).map(|_| FILLING).chain(0..n).chain((0..after).map(|_| FILLING)).collect()
        })
        .collect();
    rearrange(&[x, value], &shape, &Lookup { maps, strides: contiguous_strides(x.shape()) })
}

/// The tensor with its mirror image put around it (`tf.pad` in its reflecting and symmetric modes).
///
/// # Errors
/// When there aren't as many paddings as dimensions, or one is longer than the mirror image.
pub fn mirror_pad(x: &Tensor, paddings: &[(usize, usize)], mirror: Mirror) -> Result<Tensor> {
    let shape = padded_shape(x.shape(), paddings)?;
    let skip = usize::from(mirror == Mirror::Reflect);
    for (&n, &(before, after)) in x.shape().iter().zip(paddings) {
        if before.max(after) > n.saturating_sub(skip) {
            return Err(Error::value(format!(
                "paddings {before} and {after} are longer than the mirror image of {n} elements"
            )));
        }
    }
    let maps = x
        .shape()
        .iter()
        .zip(paddings)
        .map(|(&n, &(before, after))| {
            let head = (0..before).map(|i| before - 1 - i + skip);
            head.chain(0..n).chain((0..after).map(|i| n - 1 - i - skip)).collect()
        })
        .collect();
    rearrange(&[x], &shape, &Lookup { maps, strides: contiguous_strides(x.shape()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn i(values: &[i32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape).expect("tensor")
    }

    #[test]
    fn a_value_is_put_around() {
        let t = i(&[1, 2, 3, 4], &[2, 2]);
        let got = pad(&t, &[(1, 0), (0, 2)], &i(&[7], &[])).expect("padded");
        assert!(got.bit_eq(&i(&[7, 7, 7, 7, 1, 2, 7, 7, 3, 4, 7, 7], &[3, 4])));
        let got = pad(&i(&[], &[0, 1]), &[(1, 1), (0, 1)], &i(&[5], &[])).expect("padded");
        assert!(got.bit_eq(&i(&[5; 4], &[2, 2])));
        assert!(pad(&t, &[(1, 1)], &i(&[7], &[])).is_err());
        assert!(pad(&t, &[(usize::MAX, 1), (0, 0)], &i(&[7], &[])).is_err());
        assert!(pad(&t, &[(0, 0), (0, 0)], &Tensor::scalar(1.0f32)).is_err());
        assert!(pad(&i(&[3], &[]), &[], &i(&[5], &[])).expect("scalar").bit_eq(&i(&[3], &[])));
    }

    #[test]
    fn mirrors_stand_on_or_behind_the_edge() {
        let t = i(&[1, 2, 3], &[3]);
        let reflect = mirror_pad(&t, &[(2, 2)], Mirror::Reflect).expect("padded");
        assert!(reflect.bit_eq(&i(&[3, 2, 1, 2, 3, 2, 1], &[7])));
        let symmetric = mirror_pad(&t, &[(2, 3)], Mirror::Symmetric).expect("padded");
        assert!(symmetric.bit_eq(&i(&[2, 1, 1, 2, 3, 3, 2, 1], &[8])));
        assert!(mirror_pad(&t, &[(3, 0)], Mirror::Reflect).is_err());
        assert!(mirror_pad(&t, &[(4, 0)], Mirror::Symmetric).is_err());
        let t = i(&[1, 2, 3, 4], &[2, 2]);
        let got = mirror_pad(&t, &[(1, 0), (0, 1)], Mirror::Reflect).expect("padded");
        assert!(got.bit_eq(&i(&[3, 4, 3, 1, 2, 1, 3, 4, 3], &[3, 3])));
    }

    #[test]
    fn strings_and_other_widths_pad() {
        let t = Tensor::from_strings([&b"a"[..]], [1]).expect("strings");
        let got = pad(&t, &[(1, 1)], &Tensor::scalar_string(&b"-"[..])).expect("padded");
        assert_eq!(got.strings().expect("strings").concat(), b"-a-");
        let got = pad(
            &Tensor::full(true as u8, [2]).expect("u8"),
            &[(0, 1)],
            &Tensor::zeros(DType::U8, []).expect("0"),
        );
        assert_eq!(got.expect("padded").as_slice::<u8>().expect("u8"), [1, 1, 0]);
    }
}
