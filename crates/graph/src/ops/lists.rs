//! Lists of tensors, which loops read from and write to, and values that may be absent.

use std::sync::Arc;

use super::args::{int, ints, many, one, take};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, Variant, kernel};
use crate::tensor::kernels::{array, elementwise};
use crate::tensor::{DType, PartialShape, Shape, Tensor, memory};
use crate::{Error, Result};

/// More elements than this are no list's, only an attack's.
const MOST: usize = 1 << 28;

/// A list taken apart, to be changed in place where nobody else holds it.
struct List {
    dtype: DType,
    shape: PartialShape,
    items: Arc<Vec<Option<Value>>>,
}

impl List {
    fn new(dtype: DType, shape: PartialShape, items: Vec<Option<Value>>) -> Self {
        List { dtype, shape, items: Arc::new(items) }
    }

    fn of(value: Value) -> Result<List> {
        match value {
            Value::Variant(Variant::List { dtype, shape, items }) => Ok(List { dtype, shape, items }),
            other => Err(Error::compute(format!("expected a list of tensors, got a {}", other.dtype()))),
        }
    }

    fn value(self) -> Value {
        Variant::List { dtype: self.dtype, shape: self.shape, items: self.items }.into()
    }

    fn get(&self, index: i64) -> Result<Option<&Value>> {
        let item = usize::try_from(index).ok().and_then(|i| self.items.get(i));
        item.map(Option::as_ref).ok_or_else(|| self.out_of_range(index))
    }

    fn out_of_range(&self, index: i64) -> Error {
        Error::compute(format!("index {index} is out of range for a list of {}", self.items.len()))
    }

    /// The shape of an element that isn't set: from the list, the node's own, or any element that is.
    fn element_shape(&self, wanted: &PartialShape) -> Result<Shape> {
        let known = || {
            let set = self.items.iter().flatten().next()?;
            set.tensor().ok().map(|t| Shape::from(t.shape()))
        };
        let merged = merge(&self.shape, wanted)?;
        merged.known().or_else(known).ok_or_else(|| {
            Error::compute(format!("an element that isn't set has the shape {merged}, which isn't fully known"))
        })
    }

    /// The elements as tensors, zeros where one isn't set.
    fn tensors(&self, items: &[Option<Value>], wanted: &PartialShape) -> Result<Vec<Tensor>> {
        let tensor = |item: &Option<Value>| match item {
            Some(value) => Ok(value.tensor()?.clone()),
            None => Ok(Tensor::zeros(self.dtype, self.element_shape(wanted)?)?),
        };
        items.iter().map(tensor).collect()
    }

    /// `items` as one tensor.
    fn stack(&self, items: &[Option<Value>], wanted: &PartialShape) -> Result<Value> {
        if self.dtype == DType::Variant {
            let set = |item: &Option<Value>| {
                item.clone().ok_or_else(|| Error::compute("an element of a list of variants isn't set"))
            };
            return Ok(Variant::Vector(Arc::new(items.iter().map(set).collect::<Result<_>>()?)).into());
        }
        if items.is_empty() {
            let mut shape = self.element_shape(wanted)?;
            shape.insert(0, 0);
            return Ok(Tensor::zeros(self.dtype, shape)?.into());
        }
        let tensors = self.tensors(items, wanted)?;
        let shape = merge(&self.shape, wanted)?;
        if let Some(odd) = tensors.iter().find(|t| !shape.matches(t.shape())) {
            return Err(Error::compute(format!("an element has the shape {:?}, not {shape}", odd.shape())));
        }
        Ok(array::stack(&tensors.iter().collect::<Vec<_>>(), 0)?.into())
    }
}

/// What two partly known shapes both say.
fn merge(a: &PartialShape, b: &PartialShape) -> Result<PartialShape> {
    let (Some(x), Some(y)) = (a.dims(), b.dims()) else {
        return Ok(if a.dims().is_some() { a.clone() } else { b.clone() });
    };
    let differ = || Error::compute(format!("shapes {a} and {b} don't agree"));
    if x.len() != y.len() {
        return Err(differ());
    }
    let one = |(x, y): (&Option<usize>, &Option<usize>)| match (x, y) {
        (Some(x), Some(y)) if x != y => Err(differ()),
        _ => Ok(x.or(*y)),
    };
    Ok(PartialShape::new(x.iter().zip(y).map(one).collect::<Result<Vec<_>>>()?))
}

/// A shape as a tensor: -1 for what isn't known, a scalar -1 for nothing at all.
fn partial(t: &Tensor) -> Result<PartialShape> {
    if t.rank() == 0 {
        return Ok(PartialShape::UNKNOWN);
    }
    Ok(PartialShape::new(t.to_i64_vec()?.into_iter().map(|d| usize::try_from(d).ok()).collect::<Vec<_>>()))
}

fn count(t: &Tensor, what: &str) -> Result<usize> {
    let n = int(t, what)?;
    let fits = usize::try_from(n).ok().filter(|n| *n <= MOST);
    room(fits.ok_or_else(|| Error::compute(format!("{what} is {n}")))?)
}

/// The length, unless a list of that many places alone is over the limit of memory.
fn room(len: usize) -> Result<usize> {
    memory::check(len.saturating_mul(size_of::<Option<Value>>()))?;
    Ok(len)
}

fn empty(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("element_dtype")?;
    Ok(kernel(move |_, inputs| {
        let [shape, _] = take(inputs)?;
        one(List::new(dtype, partial(shape.tensor()?)?, Vec::new()).value())
    }))
}

fn reserve(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("element_dtype")?;
    Ok(kernel(move |_, inputs| {
        let [shape, n] = take(inputs)?;
        let n = count(n.tensor()?, "the number of elements")?;
        one(List::new(dtype, partial(shape.tensor()?)?, vec![None; n]).value())
    }))
}

fn from_tensor(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("element_dtype")?;
    Ok(kernel(move |_, inputs| {
        let [x, shape] = take(inputs)?;
        let shape = partial(shape.tensor()?)?;
        if let Value::Variant(Variant::Vector(items)) = x {
            return one(List::new(dtype, shape, items.iter().cloned().map(Some).collect()).value());
        }
        let x = x.into_tensor()?;
        if x.rank() == 0 {
            return Err(Error::compute("a scalar has no elements to list"));
        }
        if !shape.matches(&x.shape()[1..]) {
            return Err(Error::compute(format!("a tensor of shape {:?} has no elements of {shape}", x.shape())));
        }
        let items = array::unstack(&x, 0)?.into_iter().map(|t| Some(t.into())).collect();
        one(List::new(dtype, shape, items).value())
    }))
}

fn get_item(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [list, index, shape] = take(inputs)?;
        let list = List::of(list)?;
        match list.get(int(index.tensor()?, "the index")?)? {
            Some(value) => one(value.clone()),
            None => one(Tensor::zeros(list.dtype, list.element_shape(&partial(shape.tensor()?)?)?)?),
        }
    }))
}

fn set_item(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let grows = a.bool("resize_if_index_out_of_bounds")?;
    Ok(kernel(move |_, inputs| {
        let [list, index, item] = take(inputs)?;
        let mut list = List::of(list)?;
        let index = int(index.tensor()?, "the index")?;
        if let Value::Tensor(t) = &item
            && (t.dtype() != list.dtype || !list.shape.matches(t.shape()))
        {
            return Err(Error::compute(format!(
                "a list of {}{} can't hold {}{:?}",
                list.dtype,
                list.shape,
                t.dtype(),
                t.shape()
            )));
        }
        let at = usize::try_from(index).ok().filter(|i| *i < MOST).ok_or_else(|| list.out_of_range(index))?;
        if at >= list.items.len() {
            if !grows {
                return Err(list.out_of_range(index));
            }
            Arc::make_mut(&mut list.items).resize(room(at + 1)?, None);
        }
        Arc::make_mut(&mut list.items)[at] = Some(item);
        one(list.value())
    }))
}

fn stack(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let n = a.int("num_elements")?;
    Ok(kernel(move |_, inputs| {
        let [list, shape] = take(inputs)?;
        let list = List::of(list)?;
        if n >= 0 && list.items.len() as i64 != n {
            return Err(Error::compute(format!("the list has {} elements, not {n}", list.items.len())));
        }
        one(list.stack(&list.items, &partial(shape.tensor()?)?)?)
    }))
}

fn gather(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [list, indices, shape] = take(inputs)?;
        let list = List::of(list)?;
        let pick = |i: i64| list.get(i).map(Option::<&Value>::cloned);
        let items = indices.tensor()?.to_i64_vec()?.into_iter().map(pick).collect::<Result<Vec<_>>>()?;
        one(list.stack(&items, &partial(shape.tensor()?)?)?)
    }))
}

/// A list of `n` elements (or as many as the indices need) with the parts of a tensor at `indices`.
fn scatter(list: List, x: &Tensor, indices: &Tensor) -> Result<Value> {
    let mut list = list;
    let parts = array::unstack(x, 0)?;
    let indices = indices.to_i64_vec()?;
    if parts.len() != indices.len() {
        return Err(Error::compute(format!("{} parts don't go with {} indices", parts.len(), indices.len())));
    }
    for (part, index) in parts.into_iter().zip(indices) {
        let at = usize::try_from(index).ok().filter(|i| *i < MOST).ok_or_else(|| list.out_of_range(index))?;
        let items = Arc::make_mut(&mut list.items);
        if at >= items.len() {
            items.resize(room(at + 1)?, None);
        }
        items[at] = Some(part.into());
    }
    Ok(list.value())
}

fn pop_back(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [list, shape] = take(inputs)?;
        let mut list = List::of(list)?;
        let last = match list.items.last() {
            None => return Err(Error::compute("the list is empty")),
            Some(Some(value)) => value.clone(),
            Some(None) => Tensor::zeros(list.dtype, list.element_shape(&partial(shape.tensor()?)?)?)?.into(),
        };
        Arc::make_mut(&mut list.items).pop();
        many([list.value(), last])
    }))
}

/// The elements joined along their first dimension, and how long each was.
fn concat(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let mut inputs = inputs.into_iter();
        let list = List::of(inputs.next().ok_or_else(|| Error::graph("takes a list"))?)?;
        let shape = inputs.next().map(|s| partial(s.tensor()?)).transpose()?.unwrap_or_default();
        if list.items.is_empty() {
            let mut shape = list.element_shape(&shape)?;
            if let Some(first) = shape.first_mut() {
                *first = 0;
            }
            let none = Tensor::zeros(DType::I64, [0])?;
            return many([Tensor::zeros(list.dtype, shape)?, none]);
        }
        let tensors = list.tensors(&list.items, &PartialShape::UNKNOWN)?;
        let first = |t: &Tensor| {
            t.shape().first().copied().ok_or_else(|| Error::compute("a scalar can't be joined to others"))
        };
        let lengths = tensors.iter().map(first).collect::<Result<Vec<_>>>()?;
        let joined = array::concat(&tensors.iter().collect::<Vec<_>>(), 0)?;
        many([joined, ints(lengths, DType::I64)?])
    }))
}

/// A list of the parts of these lengths of a tensor.
fn split(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("element_dtype")?;
    Ok(kernel(move |_, inputs| {
        let [x, shape, lengths] = take(inputs)?;
        let lengths = super::args::extents(lengths.tensor()?, "lengths")?;
        let parts = array::split(x.tensor()?, 0, &lengths)?;
        let shape = partial(shape.tensor()?)?;
        one(List::new(dtype, shape, parts.into_iter().map(|t| Some(t.into())).collect()).value())
    }))
}

/// `change` of a list and something that goes with it, or of each list of two vectors.
fn with_each(a: Value, b: Vec<Value>, change: fn(List, Value) -> Result<List>) -> Result<Value> {
    let (Value::Variant(Variant::Vector(lists)), many) = (&a, b.len()) else {
        let other = b.into_iter().next().ok_or_else(|| Error::compute("nothing to add to a list"))?;
        return Ok(change(List::of(a)?, other)?.value());
    };
    if lists.len() != many {
        return Err(Error::compute(format!("{many} don't go with {} lists", lists.len())));
    }
    let changed = lists.iter().zip(b).map(|(list, other)| Ok(change(List::of(list.clone())?, other)?.value()));
    Ok(Variant::Vector(Arc::new(changed.collect::<Result<_>>()?)).into())
}

fn concat_lists(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [a, b] = take(inputs)?;
        let b = match b {
            Value::Variant(Variant::Vector(lists)) => lists.to_vec(),
            list => vec![list],
        };
        one(with_each(a, b, |mut a, b| {
            let b = List::of(b)?;
            if a.dtype != b.dtype {
                return Err(Error::compute(format!("lists of {} and {} can't be joined", a.dtype, b.dtype)));
            }
            a.shape = merge(&a.shape, &b.shape)?;
            room(a.items.len().saturating_add(b.items.len()))?;
            Arc::make_mut(&mut a.items).extend(b.items.iter().cloned());
            Ok(a)
        })?)
    }))
}

fn push_back_batch(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [lists, x] = take(inputs)?;
        if !matches!(lists, Value::Variant(Variant::Vector(_))) {
            return Err(Error::compute("takes a vector of lists"));
        }
        let parts = array::unstack(x.tensor()?, 0)?.into_iter().map(Value::from).collect();
        one(with_each(lists, parts, |mut list, item| {
            if item.dtype() != list.dtype || !list.shape.matches(item.tensor()?.shape()) {
                return Err(Error::compute(format!(
                    "a list of {}{} can't hold {}{:?}",
                    list.dtype,
                    list.shape,
                    item.dtype(),
                    item.tensor()?.shape()
                )));
            }
            Arc::make_mut(&mut list.items).push(Some(item));
            Ok(list)
        })?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("TensorListConcatLists(input_a: variant, input_b: variant) -> (output: variant); element_dtype: type", concat_lists),
    Op::new("TensorListPushBackBatch(input_handles: variant, tensor: element_dtype) -> (output_handles: variant); element_dtype: type", push_back_batch),
    Op::new("EmptyTensorList(element_shape: shape_type, max_num_elements: int32) -> (handle: variant); element_dtype: type; shape_type: type", empty),
    Op::new("TensorListReserve(element_shape: shape_type, num_elements: int32) -> (handle: variant); element_dtype: type; shape_type: type", reserve),
    Op::new("TensorListFromTensor(tensor: element_dtype, element_shape: shape_type) -> (output_handle: variant); element_dtype: type; shape_type: type", from_tensor),
    Op::new("TensorListGetItem(input_handle: variant, index: int32, element_shape: Tshape) -> (item: element_dtype); element_dtype: type; Tshape: type = int32", get_item),
    Op::new("TensorListSetItem(input_handle: variant, index: int32, item: element_dtype) -> (output_handle: variant); element_dtype: type; resize_if_index_out_of_bounds: bool = false", set_item),
    Op::new("TensorListStack(input_handle: variant, element_shape: int32) -> (tensor: element_dtype); element_dtype: type; num_elements: int = -1", stack),
    Op::new("TensorListGather(input_handle: variant, indices: int32, element_shape: int32) -> (values: element_dtype); element_dtype: type", gather),
    Op::new("TensorListPopBack(input_handle: variant, element_shape: int32) -> (output_handle: variant, tensor: element_dtype); element_dtype: type", pop_back),
    Op::new("TensorListConcat(input_handle: variant) -> (tensor: element_dtype, lengths: int64); element_dtype: type; element_shape: shape = ?", concat),
    Op::new("TensorListConcatV2(input_handle: variant, element_shape: shape_type, leading_dims: int64) -> (tensor: element_dtype, lengths: int64); element_dtype: type; shape_type: type", concat),
    Op::new("TensorListSplit(tensor: element_dtype, element_shape: shape_type, lengths: int64) -> (output_handle: variant); element_dtype: type; shape_type: type", split),
    Op::new("TensorListPushBack(input_handle: variant, tensor: element_dtype) -> (output_handle: variant); element_dtype: type", |_| {
        Ok(kernel(|_, inputs| {
            let [list, item] = take(inputs)?;
            let mut list = List::of(list)?;
            Arc::make_mut(&mut list.items).push(Some(item));
            one(list.value())
        }))
    }),
    Op::new("TensorListLength(input_handle: variant) -> (length: int32)", |_| {
        Ok(kernel(|_, inputs| {
            let [list] = take(inputs)?;
            one(ints([List::of(list)?.items.len()], DType::I32)?.reshape([])?)
        }))
    }),
    Op::new("TensorListResize(input_handle: variant, size: int32) -> (output_handle: variant)", |_| {
        Ok(kernel(|_, inputs| {
            let [list, n] = take(inputs)?;
            let mut list = List::of(list)?;
            Arc::make_mut(&mut list.items).resize(count(n.tensor()?, "the size")?, None);
            one(list.value())
        }))
    }),
    Op::new("TensorListElementShape(input_handle: variant) -> (element_shape: shape_type); shape_type: type", |a| {
        let dtype = a.dtype("shape_type")?;
        Ok(kernel(move |_, inputs| {
            let [list] = take(inputs)?;
            let list = List::of(list)?;
            let shape = match list.shape.dims() {
                None => Tensor::scalar(-1i64),
                Some(dims) => {
                    let dims: Vec<i64> = dims.iter().map(|d| d.map_or(-1, |d| d as i64)).collect();
                    let n = dims.len();
                    Tensor::from_vec(dims, [n])?
                }
            };
            one(array::cast(&shape, dtype)?)
        }))
    }),
    Op::new("TensorListScatterV2(tensor: element_dtype, indices: int32, element_shape: shape_type, num_elements: int32) -> (output_handle: variant); element_dtype: type; shape_type: type", |a| {
        let dtype = a.dtype("element_dtype")?;
        Ok(kernel(move |_, inputs| {
            let [x, indices, shape, n] = take(inputs)?;
            // -1: as many as the indices need.
            let n = int(n.tensor()?, "the number of elements")?.max(0) as usize;
            let list = List::new(dtype, partial(shape.tensor()?)?, vec![None; room(n.min(MOST))?]);
            one(scatter(list, x.tensor()?, indices.tensor()?)?)
        }))
    }),
    Op::new("TensorListScatter(tensor: element_dtype, indices: int32, element_shape: shape_type) -> (output_handle: variant); element_dtype: type; shape_type: type", |a| {
        let dtype = a.dtype("element_dtype")?;
        Ok(kernel(move |_, inputs| {
            let [x, indices, shape] = take(inputs)?;
            let list = List::new(dtype, partial(shape.tensor()?)?, Vec::new());
            one(scatter(list, x.tensor()?, indices.tensor()?)?)
        }))
    }),
    Op::new("TensorListScatterIntoExistingList(input_handle: variant, tensor: element_dtype, indices: int32) -> (output_handle: variant); element_dtype: type", |_| {
        Ok(kernel(|_, inputs| {
            let [list, x, indices] = take(inputs)?;
            one(scatter(List::of(list)?, x.tensor()?, indices.tensor()?)?)
        }))
    }),
    Op::new("OptionalFromValue(components: [Toutput_types]) -> (optional: variant); Toutput_types: list(type)", |_| {
        Ok(kernel(|_, inputs| one(Variant::Optional(Some(Arc::new(inputs.into_vec()))))))
    }),
    Op::new("OptionalNone() -> (optional: variant)", |_| Ok(kernel(|_, _| one(Variant::Optional(None))))),
    Op::new("OptionalHasValue(optional: variant) -> (has_value: bool)", |_| {
        Ok(kernel(|_, inputs| {
            let [optional] = take(inputs)?;
            one(Tensor::from(present(&optional)?.is_some()))
        }))
    }),
    Op::new("OptionalGetValue(optional: variant) -> (components: [output_types]); output_types: list(type); output_shapes: list(shape)", |_| {
        Ok(kernel(|_, inputs| {
            let [optional] = take(inputs)?;
            let values: Option<Values> = present(&optional)?.map(|v| v.iter().cloned().collect());
            values.ok_or_else(|| Error::compute("the optional has no value"))
        }))
    }),
];

/// Zeros of a tensor's dtype and shape, or of those of each element of a list.
pub(super) fn zeros_like(value: Value) -> Result<Value> {
    if let Value::Tensor(t) = &value {
        return Ok(Tensor::zeros(t.dtype(), t.shape())?.into());
    }
    let list = List::of(value)?;
    let zeros = |item: &Option<Value>| item.clone().map(zeros_like).transpose();
    let items = list.items.iter().map(zeros).collect::<Result<Vec<_>>>()?;
    Ok(List::new(list.dtype, list.shape, items).value())
}

/// The sum of two tensors of one shape, or of the elements of two lists; an element that isn't set counts as zero.
pub(super) fn add_like(a: Value, b: Value) -> Result<Value> {
    if let (Value::Tensor(x), Value::Tensor(y)) = (&a, &b) {
        if x.shape() != y.shape() {
            return Err(Error::compute(format!("shapes {:?} and {:?} differ", x.shape(), y.shape())));
        }
        return Ok(elementwise::add(a.into_tensor()?, b.into_tensor()?)?.into());
    }
    let (a, b) = (List::of(a)?, List::of(b)?);
    if a.items.len() != b.items.len() {
        return Err(Error::compute(format!("lists of {} and {} can't be added", a.items.len(), b.items.len())));
    }
    let sum = |(x, y): (&Option<Value>, &Option<Value>)| match (x, y) {
        (Some(x), Some(y)) => add_like(x.clone(), y.clone()).map(Some),
        (one, other) => Ok(one.clone().or_else(|| other.clone())),
    };
    let items = a.items.iter().zip(b.items.iter()).map(sum).collect::<Result<Vec<_>>>()?;
    Ok(List::new(a.dtype, merge(&a.shape, &b.shape)?, items).value())
}

fn present(value: &Value) -> Result<Option<&Arc<Vec<Value>>>> {
    match value {
        Value::Variant(Variant::Optional(inner)) => Ok(inner.as_ref()),
        other => Err(Error::compute(format!("expected an optional, got a {}", other.dtype()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_merge() {
        let known = PartialShape::new([None, Some(3)]);
        let other = PartialShape::new([Some(2), None]);
        assert_eq!(merge(&known, &other).expect("agree").known().expect("known")[..], [2, 3]);
        assert_eq!(merge(&known, &PartialShape::UNKNOWN).expect("agree"), known);
        assert!(merge(&known, &PartialShape::new([None, Some(4)])).is_err());
        assert!(merge(&known, &PartialShape::scalar()).is_err());
    }
}
