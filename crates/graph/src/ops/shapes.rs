//! Shapes as values, and the same elements under another shape.

use super::args::{axis, int, ints, map1, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, Variant, kernel};
use crate::tensor::kernels::{array, broadcast_shape};
use crate::tensor::{DType, Shape, Tensor, checked_elements};
use crate::{Error, Result};

/// The shape that `Reshape` means for a tensor of this shape, where one extent may be -1.
fn resolve(wanted: &[i64], from: &[usize]) -> Result<Shape> {
    let mut shape = Shape::new();
    let mut open = None;
    for (i, &extent) in wanted.iter().enumerate() {
        match usize::try_from(extent) {
            Ok(extent) => shape.push(extent),
            Err(_) if extent == -1 && open.is_none() => {
                open = Some(i);
                shape.push(1);
            }
            Err(_) => return Err(Error::compute(format!("{wanted:?} isn't a shape: one extent may be -1"))),
        }
    }
    if let Some(open) = open {
        // Where an extent asked for is zero, zeros say nothing of the open one: what the other extents hold does.
        let zeros = wanted.contains(&0);
        let rest = |extents: &[usize]| -> Shape { extents.iter().copied().filter(|&e| !zeros || e != 0).collect() };
        let (known, elements) = (checked_elements(&rest(&shape))?, checked_elements(&rest(from))?);
        let empty = zeros && from.contains(&0);
        if known == 0 || !(empty || elements.is_multiple_of(known)) {
            return Err(Error::compute(format!("a tensor of shape {from:?} can't take the shape {wanted:?}")));
        }
        shape[open] = elements / known;
    }
    Ok(shape)
}

fn expand_dims(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, dim] = tensors(inputs)?;
        let at = int(&dim, "the dimension")?;
        // One more place than there are dimensions: also after the last.
        let at = axis(at, x.rank() + 1)?;
        let mut shape = Shape::from(x.shape());
        shape.insert(at, 1);
        one(x.reshape(shape)?)
    }))
}

/// The shape that a tensor of the shape `from` takes by a `Reshape` to what `wanted` holds.
pub(super) fn new_shape(wanted: &Tensor, from: &[usize]) -> Result<Shape> {
    if wanted.rank() > 1 {
        return Err(Error::compute(format!("a shape has rank 1, not {}", wanted.rank())));
    }
    let shape = resolve(&wanted.to_i64_vec()?, from)?;
    let elements = checked_elements(from)?;
    if checked_elements(&shape)? != elements {
        return Err(Error::compute(format!("{elements} elements can't take the shape {:?}", &shape[..])));
    }
    Ok(shape)
}

/// The shape without dimensions of extent 1: those of `dims`, or all when there are none.
pub(super) fn squeezed(shape: &[usize], dims: &[i64]) -> Result<Shape> {
    let mut goes: Vec<bool> = vec![false; shape.len()];
    for &dim in dims {
        let dim = axis(dim, shape.len())?;
        if shape[dim] != 1 {
            return Err(Error::compute(format!("dimension {dim} of shape {shape:?} isn't 1")));
        }
        goes[dim] = true;
    }
    let keep = |(i, extent): &(usize, &usize)| if dims.is_empty() { **extent != 1 } else { !goes[*i] };
    Ok(shape.iter().enumerate().filter(keep).map(|(_, e)| *e).collect())
}

fn squeeze(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dims = a.ints("squeeze_dims")?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let shape = squeezed(x.shape(), &dims)?;
        one(x.reshape(shape)?)
    }))
}

/// The shape of a value: a resource is a scalar, a variant is unless it is a vector of them.
fn shape_of(value: &Value) -> Shape {
    match value {
        Value::Tensor(t) => t.shape().into(),
        Value::Variant(Variant::Vector(items)) => [items.len()][..].into(),
        _ => Shape::new(),
    }
}

fn shapes(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("out_type")?;
    Ok(kernel(move |_, inputs| {
        inputs.iter().map(|v| Ok(ints(shape_of(v), dtype)?.into())).collect::<Result<Values>>()
    }))
}

/// The dimensions over which the gradients of two broadcast operands are summed.
fn broadcast_gradient_args(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [a, b] = tensors(inputs)?;
        let dtype = a.dtype();
        let (a, b) = (super::args::extents(&a, "a shape")?, super::args::extents(&b, "a shape")?);
        let out = broadcast_shape(&a, &b)?;
        let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(out.len()).map(|i| s[i]);
        // A dimension that is 1 in both is summed for both, as TensorFlow does.
        let summed = |s: &[usize]| (0..out.len()).filter(|&i| at(s, i).is_none_or(|d| d == 1)).collect::<Vec<_>>();
        let (sa, sb) = if a == b { (Vec::new(), Vec::new()) } else { (summed(&a), summed(&b)) };
        super::args::many([ints(sa, dtype)?, ints(sb, dtype)?])
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Shape(input: T) -> (output: out_type); T: type; out_type: type = int32", shapes),
    Op::new("ShapeN(input: N * T) -> (output: N * out_type); N: int; T: type; out_type: type = int32", shapes),
    Op::new("Size(input: T) -> (output: out_type); T: type; out_type: type = int32", |a| {
        let dtype = a.dtype("out_type")?;
        Ok(kernel(move |_, inputs| {
            let [x] = super::args::take(inputs)?;
            let n = checked_elements(&shape_of(&x))?;
            one(ints([n], dtype)?.reshape([])?)
        }))
    }),
    Op::new("Rank(input: T) -> (output: int32); T: type", |_| {
        Ok(kernel(|_, inputs| {
            let [x] = super::args::take(inputs)?;
            one(ints([shape_of(&x).len()], DType::I32)?.reshape([])?)
        }))
    }),
    Op::new("Reshape(tensor: T, shape: Tshape) -> (output: T); T: type; Tshape: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let [x, shape] = tensors(inputs)?;
            let shape = new_shape(&shape, x.shape())?;
            one(x.reshape(shape)?)
        }))
    }),
    Op::new("ExpandDims(input: T, dim: Tdim) -> (output: T); T: type; Tdim: type = int32", expand_dims),
    Op::new("Squeeze(input: T) -> (output: T); T: type; squeeze_dims: list(int) = []", squeeze),
    Op::new("ZerosLike(x: T) -> (y: T); T: type", |_| {
        Ok(kernel(|_, inputs| {
            let [x] = super::args::take(inputs)?;
            one(super::lists::zeros_like(x)?)
        }))
    }),
    Op::new("OnesLike(x: T) -> (y: T); T: type", |_| {
        map1(|x| array::fill(x.shape(), &array::cast(&Tensor::scalar(1u8), x.dtype())?))
    }),
    Op::new("BroadcastArgs(s0: T, s1: T) -> (r0: T); T: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let [a, b] = tensors(inputs)?;
            let dtype = a.dtype();
            let out = broadcast_shape(&super::args::extents(&a, "a shape")?, &super::args::extents(&b, "a shape")?)?;
            one(ints(out, dtype)?)
        }))
    }),
    Op::new("BroadcastGradientArgs(s0: T, s1: T) -> (r0: T, r1: T); T: type = int32", broadcast_gradient_args),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_extent_follows_from_the_others() {
        assert_eq!(resolve(&[2, -1], &[6]).expect("shape")[..], [2, 3]);
        assert!(resolve(&[], &[1]).expect("shape").is_empty());
        assert_eq!(resolve(&[-1], &[0]).expect("shape")[..], [0]);
        assert!(resolve(&[-1, -1], &[4]).is_err());
        assert!(resolve(&[-2], &[4]).is_err());
        assert!(resolve(&[4, -1], &[6]).is_err());
    }

    #[test]
    fn of_nothing_the_other_extents_tell() {
        for (wanted, from, made) in [
            (&[0, -1][..], &[0][..], &[0, 1][..]),
            (&[2, 0, -1], &[1, 2, 0], &[2, 0, 1]),
            (&[0, 2, -1], &[5, 0], &[0, 2, 2]),
            (&[3, -1], &[0, 4], &[3, 0]),
        ] {
            assert_eq!(resolve(wanted, from).expect("shape")[..], *made, "{wanted:?} of {from:?}");
        }
        // What isn't empty doesn't become so.
        let wanted = Tensor::from_vec(vec![0i64, -1], [2]).expect("a shape");
        assert!(new_shape(&wanted, &[6]).is_err());
    }
}
