//! Parts of tensors: slices, strided slices, splits, reversals, rolls.

use super::args::{all_tensors, axis, int, many, one, take, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The masks of a strided slice (`tf.strided_slice`), bit `i` for entry `i` of the specification.
#[derive(Debug, Clone, Copy, Default)]
struct Masks {
    begin: i64,
    end: i64,
    ellipsis: i64,
    new_axis: i64,
    shrink: i64,
}

/// A strided slice resolved against a shape.
#[derive(Debug, Default, PartialEq)]
struct Strided {
    begin: Vec<i64>,
    stride: Vec<i64>,
    extent: Vec<usize>,
    /// The result's shape: with new dimensions, without those that an index took away.
    shape: Vec<usize>,
}

fn bit(mask: i64, i: usize) -> bool {
    i < 64 && mask >> i & 1 == 1
}

impl Strided {
    fn resolve(input: &[usize], begin: &[i64], end: &[i64], strides: &[i64], masks: Masks) -> Result<Strided> {
        let n = begin.len();
        if end.len() != n || strides.len() != n {
            return Err(Error::compute("begin, end and strides must have one length"));
        }
        let mut out = Strided::default();
        let used = (0..n).filter(|&i| !bit(masks.ellipsis, i) && !bit(masks.new_axis, i)).count();
        let mut seen_ellipsis = false;
        let mut dims = input.iter().copied();
        let whole = |out: &mut Strided, extent: usize| {
            out.begin.push(0);
            out.stride.push(1);
            out.extent.push(extent);
            out.shape.push(extent);
        };
        for i in 0..n {
            if bit(masks.ellipsis, i) {
                if std::mem::replace(&mut seen_ellipsis, true) {
                    return Err(Error::compute("a strided slice has one ellipsis at most"));
                }
                for _ in 0..input.len().saturating_sub(used) {
                    whole(&mut out, dims.next().unwrap_or_default());
                }
                continue;
            }
            if bit(masks.new_axis, i) {
                out.shape.push(1);
                continue;
            }
            let extent = dims
                .next()
                .ok_or_else(|| Error::compute(format!("the slice has more entries than shape {input:?} has dimensions")))?;
            let len = extent as i64;
            let stride = strides[i];
            if stride == 0 {
                return Err(Error::compute("a stride is zero"));
            }
            let from_end = |v: i64| if v < 0 { v.saturating_add(len) } else { v };
            if bit(masks.shrink, i) {
                let at = from_end(begin[i]);
                if !(0..len).contains(&at) || stride < 0 {
                    return Err(Error::compute(format!("index {} is out of range for dimension {extent}", begin[i])));
                }
                out.begin.push(at);
                out.stride.push(1);
                out.extent.push(1);
                continue;
            }
            // Bounds beyond the ends mean the ends; going backwards, those are the last element and before the first.
            let (low, high) = if stride > 0 { (0, len) } else { (-1, len - 1) };
            let from = if bit(masks.begin, i) {
                if stride > 0 { low } else { high }
            } else {
                from_end(begin[i]).clamp(low, high)
            };
            let to = if bit(masks.end, i) {
                if stride > 0 { high } else { low }
            } else {
                from_end(end[i]).clamp(low, high)
            };
            let span = if stride > 0 { to - from } else { from - to };
            let count = if span <= 0 { 0 } else { (span as u64).div_ceil(stride.unsigned_abs()) as usize };
            out.begin.push(from.clamp(0, len.max(1) - 1));
            out.stride.push(stride);
            out.extent.push(count);
            out.shape.push(count);
        }
        // What the specification doesn't mention is whole.
        for extent in dims {
            whole(&mut out, extent);
        }
        Ok(out)
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(array::strided_slice(x, &self.begin, &self.stride, &self.extent)?.reshape(&self.shape)?)
    }
}

fn masks(a: &NodeAttrs<'_>) -> Result<Masks> {
    Ok(Masks {
        begin: a.int("begin_mask")?,
        end: a.int("end_mask")?,
        ellipsis: a.int("ellipsis_mask")?,
        new_axis: a.int("new_axis_mask")?,
        shrink: a.int("shrink_axis_mask")?,
    })
}

fn strided_slice(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let masks = masks(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, begin, end, strides] = tensors(inputs)?;
        one(resolved(x.shape(), [&begin, &end, &strides], masks)?.apply(&x)?)
    }))
}

/// Begin, end and strides as the last inputs but for a value have them, resolved against `shape`.
fn resolved(shape: &[usize], [begin, end, strides]: [&Tensor; 3], masks: Masks) -> Result<Strided> {
    Strided::resolve(shape, &begin.to_i64_vec()?, &end.to_i64_vec()?, &strides.to_i64_vec()?, masks)
}

/// `x` with the slice replaced by `value`, which may broadcast.
fn put_slice(x: Tensor, at: [&Tensor; 3], value: &Tensor, masks: Masks) -> Result<Tensor> {
    let slice = resolved(x.shape(), at, masks)?;
    let value = array::broadcast_to(value, &slice.shape)?.reshape(&slice.extent)?;
    Ok(array::strided_put(&x, &slice.begin, &slice.stride, &value)?)
}

fn strided_slice_grad(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let masks = masks(a)?;
    Ok(kernel(move |_, inputs| {
        let [shape, begin, end, strides, grad] = tensors(inputs)?;
        let zeros = Tensor::zeros(grad.dtype(), super::args::extents(&shape, "the shape")?)?;
        let slice = resolved(zeros.shape(), [&begin, &end, &strides], masks)?;
        if grad.shape() != &slice.shape[..] {
            return Err(Error::compute(format!("a gradient of shape {:?} isn't {:?}", grad.shape(), slice.shape)));
        }
        one(put_slice(zeros, [&begin, &end, &strides], &grad, masks)?)
    }))
}

fn strided_slice_update(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let masks = masks(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, begin, end, strides, value] = tensors(inputs)?;
        one(put_slice(x, [&begin, &end, &strides], &value, masks)?)
    }))
}

/// Assigns to a part of a variable; gives a reference on where the op has an output.
fn strided_slice_assign(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (masks, gives) = (masks(a)?, !a.signature.outputs.is_empty());
    Ok(kernel(move |_, inputs| {
        let [handle, begin, end, strides, value] = take(inputs)?;
        let (begin, end, strides) = (begin.into_tensor()?, end.into_tensor()?, strides.into_tensor()?);
        let value = value.into_tensor()?;
        handle.resource()?.variable()?.update(|x| put_slice(x, [&begin, &end, &strides], &value, masks))?;
        if gives { one(handle) } else { Ok(Values::new()) }
    }))
}

fn slice(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, begin, size] = tensors(inputs)?;
        let begin = super::args::extents(&begin, "begin")?;
        let size = size.to_i64_vec()?;
        if begin.len() != x.rank() || size.len() != x.rank() {
            return Err(Error::compute(format!("begin and size must have {} entries", x.rank())));
        }
        let resolve = |i: usize| match usize::try_from(size[i]) {
            Ok(n) => Ok(n),
            // -1 means all that is left.
            Err(_) if size[i] == -1 => Ok(x.shape()[i].saturating_sub(begin[i])),
            Err(_) => Err(Error::compute(format!("size {} is negative", size[i]))),
        };
        let size = (0..x.rank()).map(resolve).collect::<Result<Vec<_>>>()?;
        one(array::slice(&x, &begin, &size)?)
    }))
}

fn split_even(x: &Tensor, dim: i64, count: usize) -> Result<Values> {
    let dim = axis(dim, x.rank())?;
    let extent = x.shape()[dim];
    if count == 0 || !extent.is_multiple_of(count) {
        return Err(Error::compute(format!("dimension {dim} of shape {:?} isn't a multiple of {count}", x.shape())));
    }
    many(array::split(x, dim, &vec![extent / count; count])?)
}

fn split(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let count = usize::try_from(a.int("num_split")?).unwrap_or_default();
    Ok(kernel(move |_, inputs| {
        let [dim, x] = tensors(inputs)?;
        split_even(&x, int(&dim, "the dimension")?, count)
    }))
}

fn split_v(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let count = usize::try_from(a.int("num_split")?).unwrap_or_default();
    Ok(kernel(move |_, inputs| {
        let [x, sizes, dim] = tensors(inputs)?;
        if sizes.shape() != [count] {
            return Err(Error::compute(format!("sizes of shape {:?} for {count} parts", sizes.shape())));
        }
        let dim = axis(int(&dim, "the dimension")?, x.rank())?;
        let sizes = sizes.to_i64_vec()?;
        let known: i64 = sizes.iter().filter(|s| **s >= 0).fold(0, |a, s| a.saturating_add(*s));
        if sizes.iter().filter(|s| **s < 0).count() > 1 || sizes.iter().any(|s| *s < -1) {
            return Err(Error::compute(format!("one of the sizes {sizes:?} may be -1")));
        }
        let rest = usize::try_from(x.shape()[dim] as i64 - known)
            .map_err(|_| Error::compute(format!("sizes {sizes:?} are more than dimension {}", x.shape()[dim])))?;
        let sizes: Vec<usize> = sizes.iter().map(|s| usize::try_from(*s).unwrap_or(rest)).collect();
        many(array::split(&x, dim, &sizes)?)
    }))
}

/// Axes as booleans (`Reverse`) or as indices (`ReverseV2`).
fn reverse(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, axes] = tensors(inputs)?;
        // A scalar takes whatever axis.
        if x.rank() == 0 {
            return one(x);
        }
        let axes: Vec<usize> = if axes.dtype() == crate::tensor::DType::Bool {
            let flags = axes.elements::<crate::tensor::Bool>()?;
            if flags.len() != x.rank() {
                return Err(Error::compute(format!("{} dims for shape {:?}", flags.len(), x.shape())));
            }
            flags.iter().enumerate().filter(|(_, f)| f.get()).map(|(i, _)| i).collect()
        } else {
            axes.to_i64_vec()?.into_iter().map(|a| axis(a, x.rank())).collect::<Result<_>>()?
        };
        if let Some(twice) = axes.iter().enumerate().find(|(i, a)| axes[..*i].contains(a)) {
            return Err(Error::compute(format!("axis {} is given twice", twice.1)));
        }
        one(array::reverse(&x, &axes)?)
    }))
}

/// Reverses the first `lengths[i]` elements along one axis, for each `i` along another.
fn reverse_sequence(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (seq, batch) = (a.int("seq_dim")?, a.int("batch_dim")?);
    Ok(kernel(move |_, inputs| {
        let [x, lengths] = tensors(inputs)?;
        let (seq, batch) = (axis(seq, x.rank())?, axis(batch, x.rank())?);
        let lengths = super::args::extents(&lengths, "lengths")?;
        let steps = x.shape()[seq];
        if seq == batch || lengths.len() != x.shape()[batch] || lengths.iter().any(|l| *l > steps) {
            return Err(Error::compute(format!("lengths {lengths:?} don't fit shape {:?}", x.shape())));
        }
        let rows = array::unstack(&x, batch)?;
        // Within a row the batch dimension is gone.
        let seq = if seq > batch { seq - 1 } else { seq };
        let turn = |(row, &len): (&Tensor, &usize)| -> Result<Tensor> {
            let parts = array::split(row, seq, &[len, steps - len])?;
            Ok(array::concat(&[&array::reverse(&parts[0], &[seq])?, &parts[1]], seq)?)
        };
        if rows.is_empty() {
            return one(x);
        }
        let rows = rows.iter().zip(&lengths).map(turn).collect::<Result<Vec<_>>>()?;
        one(array::stack(&rows.iter().collect::<Vec<_>>(), batch)?)
    }))
}

fn roll(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, shifts, axes] = tensors(inputs)?;
        if shifts.shape() != axes.shape() {
            return Err(Error::compute(format!("shifts of shape {:?} for axes of {:?}", shifts.shape(), axes.shape())));
        }
        let axes = axes.to_i64_vec()?.into_iter().map(|a| axis(a, x.rank())).collect::<Result<Vec<_>>>()?;
        one(array::roll(&x, &shifts.to_i64_vec()?, &axes)?)
    }))
}

/// Lengths of tensors of one shape but for a dimension: where each begins when they are joined.
fn concat_offset(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let all = all_tensors(inputs)?;
        let (dim, shapes) = all.split_first().ok_or_else(|| Error::graph("takes a dimension"))?;
        let dim = int(dim, "the dimension")?;
        let mut begin = 0usize;
        let mut out = Vec::with_capacity(shapes.len());
        for shape in shapes {
            let extents = super::args::extents(shape, "a shape")?;
            if shape.len() != shapes[0].len() {
                return Err(Error::compute(format!("a shape of {} numbers beside one of {}", shape.len(), shapes[0].len())));
            }
            let dim = axis(dim, extents.len())?;
            let offsets = (0..extents.len()).map(|i| if i == dim { begin } else { 0 });
            out.push(super::args::ints(offsets, shape.dtype())?);
            begin = begin.saturating_add(extents[dim]);
        }
        many(out)
    }))
}

fn unpack(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (at, count) = (a.int("axis")?, a.int("num")?);
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let at = axis(at, x.rank())?;
        if x.shape()[at] as i64 != count {
            return Err(Error::compute(format!("dimension {at} of shape {:?} isn't {count}", x.shape())));
        }
        many(array::unstack(&x, at)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("StridedSlice(input: T, begin: Index, end: Index, strides: Index) -> (output: T); T: type; Index: type; begin_mask: int = 0; end_mask: int = 0; ellipsis_mask: int = 0; new_axis_mask: int = 0; shrink_axis_mask: int = 0", strided_slice).ranks("_ 1 1 1"),
    Op::new("StridedSliceGrad(shape: Index, begin: Index, end: Index, strides: Index, dy: T) -> (output: T); T: type; Index: type; begin_mask: int = 0; end_mask: int = 0; ellipsis_mask: int = 0; new_axis_mask: int = 0; shrink_axis_mask: int = 0", strided_slice_grad).ranks("1 1 1 1 _"),
    Op::new("TensorStridedSliceUpdate(input: T, begin: Index, end: Index, strides: Index, value: T) -> (output: T); T: type; Index: type; begin_mask: int = 0; end_mask: int = 0; ellipsis_mask: int = 0; new_axis_mask: int = 0; shrink_axis_mask: int = 0", strided_slice_update).ranks("_ 1 1 1"),
    Op::new("ResourceStridedSliceAssign(ref: resource, begin: Index, end: Index, strides: Index, value: T) -> (); T: type; Index: type; begin_mask: int = 0; end_mask: int = 0; ellipsis_mask: int = 0; new_axis_mask: int = 0; shrink_axis_mask: int = 0; stateful", strided_slice_assign).ranks("_ 1 1 1"),
    Op::new("StridedSliceAssign(ref: &T, begin: Index, end: Index, strides: Index, value: T) -> (output_ref: &T); T: type; Index: type; begin_mask: int = 0; end_mask: int = 0; ellipsis_mask: int = 0; new_axis_mask: int = 0; shrink_axis_mask: int = 0", strided_slice_assign).ranks("_ 1 1 1"),
    Op::new("Slice(input: T, begin: Index, size: Index) -> (output: T); T: type; Index: type", slice).ranks("_ 1 1"),
    Op::new("Split(split_dim: int32, value: T) -> (output: num_split * T); num_split: int; T: type", split).ranks("0"),
    Op::new("SplitV(value: T, size_splits: Tlen, split_dim: int32) -> (output: num_split * T); num_split: int; T: type; Tlen: type = int64", split_v),
    Op::new("Unpack(value: T) -> (output: num * T); num: int; T: type; axis: int = 0", unpack),
    Op::new("Reverse(tensor: T, dims: bool) -> (output: T); T: type", reverse).ranks("_ 1"),
    Op::new("ReverseV2(tensor: T, axis: Tidx) -> (output: T); Tidx: type = int32; T: type", reverse).ranks("_ 1"),
    Op::new("ReverseSequence(input: T, seq_lengths: Tlen) -> (output: T); seq_dim: int; batch_dim: int = 0; T: type; Tlen: type = int64", reverse_sequence),
    Op::new("Roll(input: T, shift: Tshift, axis: Taxis) -> (output: T); T: type; Tshift: type; Taxis: type", roll),
    Op::new("ConcatOffset(concat_dim: int32, shape: N * shape_type) -> (offset: N * shape_type); N: int; shape_type: type = int32", concat_offset),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(input: &[usize], spec: [&[i64]; 3], masks: Masks) -> Option<Vec<usize>> {
        Strided::resolve(input, spec[0], spec[1], spec[2], masks).ok().map(|s| s.shape)
    }

    #[test]
    fn slices_resolve_as_in_python() {
        let none = Masks::default();
        assert_eq!(shape(&[5], [&[1], &[4], &[2]], none), Some(vec![2]));
        assert_eq!(shape(&[5], [&[-1], &[-6], &[-1]], none), Some(vec![5]));
        assert_eq!(shape(&[5], [&[9], &[-9], &[-2]], none), Some(vec![3]));
        assert_eq!(shape(&[5], [&[3], &[1], &[1]], none), Some(vec![0]));
        assert_eq!(shape(&[0], [&[0], &[0], &[-1]], Masks { begin: 1, end: 1, ..none }), Some(vec![0]));
        assert_eq!(shape(&[2, 3, 4], [&[1], &[0], &[1]], Masks { shrink: 1, ..none }), Some(vec![3, 4]));
        let m = Masks { ellipsis: 1, shrink: 2, ..none };
        assert_eq!(shape(&[2, 3, 4], [&[0, -1], &[0, 0], &[1, 1]], m), Some(vec![2, 3]));
        let m = Masks { begin: 1, end: 1, new_axis: 2, ..none };
        assert_eq!(shape(&[2, 3], [&[0, 0], &[0, 0], &[1, 1]], m), Some(vec![2, 1, 3]));
        assert_eq!(shape(&[2], [&[2], &[0], &[1]], Masks { shrink: 1, ..none }), None);
        assert_eq!(shape(&[2], [&[0, 0], &[1, 1], &[1, 1]], none), None);
    }

    #[test]
    fn backwards_from_the_end_gives_the_elements_reversed() {
        let x = Tensor::from_vec(vec![0i32, 1, 2, 3, 4], [5]).expect("tensor");
        let s = Strided::resolve(&[5], &[0], &[0], &[-2], Masks { begin: 1, end: 1, ..Masks::default() });
        let out = s.and_then(|s| s.apply(&x)).expect("slice");
        assert_eq!(out.as_slice::<i32>().expect("i32"), [4, 2, 0]);
    }
}
