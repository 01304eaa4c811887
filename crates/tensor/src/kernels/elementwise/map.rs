//! Applying a function to the elements of one or two tensors.

use crate::kernels::broadcast::{Walk, broadcast_shape};
use crate::kernels::parallel;
use crate::kernels::simd::{self, Isa};
use crate::{DType, Element, Error, Result, Tensor};

/// Whether loops over such elements are compiled for every instruction set; for the others it isn't worth the code.
const fn wide<T: Element>() -> bool {
    matches!(T::DTYPE, DType::F32 | DType::F64)
}

#[inline(always)]
fn with_isa<T: Element>(f: impl FnOnce(Isa)) {
    if const { wide::<T>() } { simd::run(f) } else { f(Isa::BASE) }
}

/// `f` of every element; in place when nobody else holds them.
pub(crate) fn map1<T: Element>(
    mut x: Tensor,
    f: impl Fn(Isa, T) -> T + Copy + Send + Sync,
) -> Result<Tensor> {
    match x.unique_mut::<T>() {
        Some(values) => {
            parallel::for_parts(values, 1, 1, |_, part| {
                with_isa::<T>(
                    #[inline(always)]
                    |isa| {
                        for v in part.iter_mut() {
                            *v = f(isa, *v);
                        }
                    },
                );
            });
            Ok(x)
        }
        None => map1_to(&x, f),
    }
}

/// `f` of every element, which may have another type.
pub(crate) fn map1_to<T: Element, O: Element>(
    x: &Tensor,
    f: impl Fn(Isa, T) -> O + Copy + Send + Sync,
) -> Result<Tensor> {
    let values = x.elements::<T>()?;
    let mut out = Tensor::zeros(O::DTYPE, x.shape())?;
    parallel::for_parts(out.make_mut::<O>()?, 1, 1, |start, part| {
        let Some(values) = values.get(start..start + part.len()) else { return };
        with_isa::<T>(
            #[inline(always)]
            |isa| {
                for (o, v) in part.iter_mut().zip(values) {
                    *o = f(isa, *v);
                }
            },
        );
    });
    Ok(out)
}

/// `f` of the elements of two tensors that broadcast; in place of the one that nobody else holds and that has the
/// result's shape, if there is one.
pub(crate) fn map2<T: Element>(
    mut a: Tensor,
    mut b: Tensor,
    f: impl Fn(Isa, T, T) -> T + Copy + Send + Sync,
) -> Result<Tensor> {
    same_dtype(&a, &b)?;
    let shape = broadcast_shape(a.shape(), b.shape())?;
    if a.shape() == &shape[..]
        && let Some(out) = a.unique_mut::<T>()
    {
        in_place(out, &shape, &b, f)?;
        return Ok(a);
    }
    if b.shape() == &shape[..]
        && let Some(out) = b.unique_mut::<T>()
    {
        in_place(
            out,
            &shape,
            &a,
            #[inline(always)]
            move |isa, y, x| f(isa, x, y),
        )?;
        return Ok(b);
    }
    map2_to(&a, &b, f)
}

/// `f` of the elements of two tensors that broadcast; the result may have another type.
pub(crate) fn map2_to<A: Element, B: Element, O: Element>(
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(Isa, A, B) -> O + Copy + Send + Sync,
) -> Result<Tensor> {
    let shape = broadcast_shape(a.shape(), b.shape())?;
    let (xs, ys) = (a.elements::<A>()?, b.elements::<B>()?);
    let (xs, ys) = (&xs[..], &ys[..]);
    let mut out = Tensor::zeros(O::DTYPE, &shape)?;
    let walk = Walk::new(&shape, [a.shape(), b.shape()]);
    parallel::for_parts(out.make_mut::<O>()?, 1, 1, |start, part| {
        with_isa::<A>(
            #[inline(always)]
            |isa| {
                let [sa, sb] = walk.inner_strides();
                walk.for_runs(
                    start,
                    part.len(),
                    #[inline(always)]
                    |begin, len, [i, j]| {
                        let out = &mut part[begin..begin + len];
                        match (sa, sb) {
                            (0, 0) => out.fill(f(isa, xs[i], ys[j])),
                            (_, 0) => {
                                let y = ys[j];
                                for (o, x) in out.iter_mut().zip(&xs[i..i + len]) {
                                    *o = f(isa, *x, y);
                                }
                            }
                            (0, _) => {
                                let x = xs[i];
                                for (o, y) in out.iter_mut().zip(&ys[j..j + len]) {
                                    *o = f(isa, x, *y);
                                }
                            }
                            _ => {
                                for (o, (x, y)) in
                                    out.iter_mut().zip(xs[i..i + len].iter().zip(&ys[j..j + len]))
                                {
                                    *o = f(isa, *x, *y);
                                }
                            }
                        }
                    },
                );
            },
        );
    });
    Ok(out)
}

/// `out = f(out, other)`, `other` broadcasting to `out`'s shape.
fn in_place<T: Element>(
    out: &mut [T],
    shape: &[usize],
    other: &Tensor,
    f: impl Fn(Isa, T, T) -> T + Copy + Send + Sync,
) -> Result<()> {
    let ys = other.elements::<T>()?;
    let ys = &ys[..];
    let walk = Walk::new(shape, [shape, other.shape()]);
    parallel::for_parts(out, 1, 1, |start, part| {
        with_isa::<T>(
            #[inline(always)]
            |isa| {
                let [_, step] = walk.inner_strides();
                walk.for_runs(
                    start,
                    part.len(),
                    #[inline(always)]
                    |begin, len, [_, j]| {
                        let out = &mut part[begin..begin + len];
                        if step == 0 {
                            let y = ys[j];
                            for o in out.iter_mut() {
                                *o = f(isa, *o, y);
                            }
                        } else {
                            for (o, y) in out.iter_mut().zip(&ys[j..j + len]) {
                                *o = f(isa, *o, *y);
                            }
                        }
                    },
                );
            },
        );
    });
    Ok(())
}

/// An error unless both have the same dtype, as TensorFlow demands.
pub(crate) fn same_dtype(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.dtype() == b.dtype() { Ok(()) } else { Err(Error::dtype(a.dtype(), b.dtype())) }
}

/// Whether a dtype is computed in `float32` and rounded.
pub(super) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// The integer of the same width that a quantized one is stored as.
pub(super) fn plain_integer(dtype: DType) -> DType {
    match dtype {
        DType::QI8 => DType::I8,
        DType::QU8 => DType::U8,
        DType::QI16 => DType::I16,
        DType::QU16 => DType::U16,
        DType::QI32 => DType::I32,
        other => other,
    }
}

/// `f`, which is for `float32`, on a tensor of half precision.
pub(super) fn half1(x: &Tensor, f: impl FnOnce(Tensor) -> Result<Tensor>) -> Result<Tensor> {
    narrow(f(widen(x)?)?, x.dtype())
}

/// `f`, which is for `float32`, on two tensors of half precision.
pub(super) fn half2(
    a: &Tensor,
    b: &Tensor,
    f: impl FnOnce(Tensor, Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    same_dtype(a, b)?;
    narrow(f(widen(a)?, widen(b)?)?, a.dtype())
}

/// A tensor of half precision as `float32`.
pub(super) fn widen(x: &Tensor) -> Result<Tensor> {
    crate::kernels::array::cast(x, DType::F32)
}

/// A `float32` result of half precision work rounded back; results of other types (comparisons) stay as they are.
fn narrow(x: Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == DType::F32 { crate::kernels::array::cast(&x, dtype) } else { Ok(x) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counting(shape: &[usize], from: f32) -> Tensor {
        let n = shape.iter().product::<usize>();
        Tensor::from_vec((0..n).map(|i| from + i as f32).collect(), shape).expect("tensor")
    }

    /// Every way to hold the operands gives what ndarray's own broadcasting gives.
    fn check(a_shape: &[usize], b_shape: &[usize]) {
        let (a, b) = (counting(a_shape, 1.0), counting(b_shape, 0.5));
        let shape = broadcast_shape(a_shape, b_shape).expect("broadcastable");
        let (av, bv) = (a.to_array::<f32>().expect("f32"), b.to_array::<f32>().expect("f32"));
        let (av, bv) = (av.broadcast(&shape[..]).expect("fits"), bv.broadcast(&shape[..]).expect("fits"));
        let want = &av - &(&bv * 2.0);
        let f = |_: Isa, x: f32, y: f32| x - y * 2.0;
        let fresh =
            |t: &Tensor| Tensor::from_slice(t.as_slice::<f32>().expect("f32"), t.shape()).expect("copy");
        for got in [
            map2(a.clone(), b.clone(), f),
            map2(fresh(&a), b.clone(), f),
            map2(a.clone(), fresh(&b), f),
            map2_to(&a, &b, f),
        ] {
            let got = got.expect("result").to_array::<f32>().expect("f32");
            assert_eq!(got, want, "{a_shape:?} {b_shape:?}");
        }
        assert_eq!(a.as_slice::<f32>().expect("f32").first(), Some(&1.0), "a shared operand stays as it was");
    }

    #[test]
    fn common_patterns_broadcast() {
        check(&[64, 1024], &[1024]);
        check(&[33, 1025], &[33, 1025]);
        check(&[40000], &[]);
        check(&[1, 1], &[70000]);
        check(&[5, 7], &[5, 1]);
        check(&[200, 1], &[1, 300]);
    }

    proptest! {
        #[test]
        fn any_shapes_broadcast(dims in prop::collection::vec((1usize..5, 0u8..4), 0..5), drop_a in 0usize..3, drop_b in 0usize..3) {
            let a: Vec<usize> = dims.iter().map(|&(d, m)| if m == 1 { 1 } else { d }).collect();
            let b: Vec<usize> = dims.iter().map(|&(d, m)| if m == 2 { 1 } else { d }).collect();
            check(&a[drop_a.min(a.len())..], &b[drop_b.min(b.len())..]);
        }
    }

    #[test]
    fn empty_tensors_give_empty_results() {
        let (a, b) = (counting(&[0, 3], 0.0), counting(&[3], 0.0));
        let out = map2(a, b, |_, x: f32, y: f32| x + y).expect("result");
        assert_eq!(out.shape(), [0, 3]);
    }

    #[test]
    fn dtypes_must_agree() {
        assert!(map2(Tensor::scalar(1.0f32), Tensor::scalar(1i32), |_, x: f32, _| x).is_err());
    }
}
