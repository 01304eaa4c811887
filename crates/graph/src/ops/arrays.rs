//! Arrays of tensors as TensorFlow 1 has them (`tf.TensorArray`), and stacks, which live as long as a run holds them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::args::{extents, int, ints, many, one, take};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Resource, Value, Values, kernel};
use crate::tensor::kernels::{array, elementwise};
use crate::tensor::{DType, PartialShape, Shape, Tensor};
use crate::{Error, Result};

/// More elements than this are no array's, only an attack's.
const MOST: usize = 1 << 28;

/// An element of an array.
#[derive(Debug, Clone)]
enum Item {
    /// Not written; its shape where a gradient knows it from what it is the gradient of.
    Unset(Option<Shape>),
    Set(Tensor),
    /// Read once, and let go.
    Read,
}

#[derive(Debug)]
struct Elements {
    items: Vec<Item>,
    grows: bool,
    /// Whether an element that is read is let go.
    clears: bool,
    /// Whether an element that is written again is added to.
    sums: bool,
    closed: bool,
    gradients: HashMap<String, Arc<TensorArray>>,
}

/// An array among the values of a run.
#[derive(Debug)]
struct TensorArray {
    dtype: DType,
    shape: PartialShape,
    elements: Mutex<Elements>,
}

impl TensorArray {
    fn of(handle: &Value) -> Result<Arc<TensorArray>> {
        handle.resource()?.downcast("an array of tensors")
    }

    fn lock(&self) -> Result<MutexGuard<'_, Elements>> {
        let elements = self.elements.lock().unwrap_or_else(PoisonError::into_inner);
        if elements.closed { Err(Error::compute("the array was closed")) } else { Ok(elements) }
    }

    fn write(&self, index: i64, value: Tensor) -> Result<()> {
        if value.dtype() != self.dtype || !self.shape.matches(value.shape()) {
            return Err(Error::compute(format!(
                "an array of {}{} can't hold {}{:?}",
                self.dtype,
                self.shape,
                value.dtype(),
                value.shape()
            )));
        }
        let mut elements = self.lock()?;
        let len = elements.items.len();
        let at = usize::try_from(index).ok().filter(|i| *i < len || (elements.grows && *i < MOST));
        let at = at.ok_or_else(|| Error::compute(format!("index {index} is out of range for an array of {len}")))?;
        if at >= len {
            elements.items.resize(at + 1, Item::Unset(None));
        }
        let sums = elements.sums;
        let item = &mut elements.items[at];
        *item = match std::mem::replace(item, Item::Read) {
            Item::Unset(_) => Item::Set(value),
            Item::Set(old) if sums => Item::Set(elementwise::add(old, value)?),
            old => {
                *item = old;
                return Err(Error::compute(format!("element {index} was written before")));
            }
        };
        Ok(())
    }

    fn read(&self, index: i64) -> Result<Tensor> {
        let mut elements = self.lock()?;
        let (len, clears, sums) = (elements.items.len(), elements.clears, elements.sums);
        let item = usize::try_from(index).ok().and_then(|i| elements.items.get_mut(i));
        let item = item.ok_or_else(|| Error::compute(format!("index {index} is out of range for an array of {len}")))?;
        let value = match item {
            Item::Set(t) => t.clone(),
            Item::Read => return Err(Error::compute(format!("element {index} was read before, and let go"))),
            Item::Unset(known) => match known.clone().or_else(|| self.shape.known()).filter(|_| sums) {
                // What no gradient reached is zero.
                Some(shape) => Tensor::zeros(self.dtype, shape)?,
                None => return Err(Error::compute(format!("element {index} wasn't written yet"))),
            },
        };
        if clears {
            *item = Item::Read;
        }
        Ok(value)
    }

    fn len(&self) -> Result<usize> {
        Ok(self.lock()?.items.len())
    }

    fn read_all(&self, indices: &[i64]) -> Result<Vec<Tensor>> {
        indices.iter().map(|i| self.read(*i)).collect()
    }

    /// Elements as one tensor; none have the shape that the array or the node knows.
    fn stack(&self, indices: &[i64], wanted: &PartialShape) -> Result<Tensor> {
        let items = self.read_all(indices)?;
        if items.is_empty() {
            let known = self.shape.known().or_else(|| wanted.known());
            let mut shape = known.ok_or_else(|| Error::compute("the shape of no elements isn't known"))?;
            shape.insert(0, 0);
            return Ok(Tensor::zeros(self.dtype, shape)?);
        }
        Ok(array::stack(&items.iter().collect::<Vec<_>>(), 0)?)
    }
}

fn made(array: TensorArray) -> Value {
    Resource::Other(Arc::new(array)).into()
}

fn flow() -> Value {
    Tensor::scalar(0.0f32).into()
}

fn make(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (dtype, grows, clears) = (a.dtype("dtype")?, a.bool("dynamic_size")?, a.bool("clear_after_read")?);
    let shape = a.get("element_shape").and_then(|s| s.as_shape()).cloned().unwrap_or(PartialShape::UNKNOWN);
    let flows = a.signature.outputs.len() == 2;
    Ok(kernel(move |_, inputs| {
        let [size] = take(inputs)?;
        let n = int(size.tensor()?, "the size")?;
        let n = usize::try_from(n).ok().filter(|n| *n <= MOST);
        let n = n.ok_or_else(|| Error::compute("the size is negative or too large"))?;
        let items = vec![Item::Unset(None); n];
        let elements = Elements { items, grows, clears, sums: false, closed: false, gradients: HashMap::new() };
        let array = made(TensorArray { dtype, shape: shape.clone(), elements: Mutex::new(elements) });
        if flows { many([array, flow()]) } else { one(array) }
    }))
}

fn write(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle, index, value, flow] = take(inputs)?;
        TensorArray::of(&handle)?.write(int(index.tensor()?, "the index")?, value.into_tensor()?)?;
        one(flow)
    }))
}

fn read(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle, index, _] = take(inputs)?;
        one(TensorArray::of(&handle)?.read(int(index.tensor()?, "the index")?)?)
    }))
}

fn wanted(a: &NodeAttrs<'_>, name: &str) -> PartialShape {
    a.get(name).and_then(|s| s.as_shape()).cloned().unwrap_or(PartialShape::UNKNOWN)
}

/// Some elements, or all of them, as one tensor.
fn gather(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let shape = wanted(a, "element_shape");
    Ok(kernel(move |_, inputs| {
        let array = TensorArray::of(inputs.first().ok_or_else(|| Error::graph("takes an array"))?)?;
        let indices = match &inputs[..] {
            [_, indices, _] => indices.tensor()?.to_i64_vec()?,
            _ => (0..array.len()? as i64).collect(),
        };
        one(array.stack(&indices, &shape)?)
    }))
}

/// Parts of a tensor written to some elements, or to all from the first on.
fn scatter(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let mut inputs = inputs.into_vec();
        let (Some(flow), Some(value)) = (inputs.pop(), inputs.pop()) else {
            return Err(Error::graph("takes an array, a value and a flow"));
        };
        let parts = array::unstack(&value.into_tensor()?, 0)?;
        let indices = match &inputs[..] {
            [_, indices] => indices.tensor()?.to_i64_vec()?,
            _ => (0..parts.len() as i64).collect(),
        };
        if indices.len() != parts.len() {
            return Err(Error::compute(format!("{} parts don't go with {} indices", parts.len(), indices.len())));
        }
        let array = TensorArray::of(inputs.first().ok_or_else(|| Error::graph("takes an array"))?)?;
        indices.into_iter().zip(parts).try_for_each(|(i, part)| array.write(i, part))?;
        one(flow)
    }))
}

fn concat(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let rest = wanted(a, "element_shape_except0");
    Ok(kernel(move |_, inputs| {
        let [handle, _] = take(inputs)?;
        let array = TensorArray::of(&handle)?;
        let items = array.read_all(&(0..array.len()? as i64).collect::<Vec<_>>())?;
        if items.is_empty() {
            let mut shape = rest.known().ok_or_else(|| Error::compute("the shape of no elements isn't known"))?;
            shape.insert(0, 0);
            return many([Tensor::zeros(array.dtype, shape)?, Tensor::zeros(DType::I64, [0])?]);
        }
        let first = |t: &Tensor| {
            t.shape().first().copied().ok_or_else(|| Error::compute("a scalar can't be joined to others"))
        };
        let lengths = items.iter().map(first).collect::<Result<Vec<_>>>()?;
        many([array::concat(&items.iter().collect::<Vec<_>>(), 0)?, ints(lengths, DType::I64)?])
    }))
}

fn split(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle, value, lengths, flow] = take(inputs)?;
        let array = TensorArray::of(&handle)?;
        let parts = array::split(value.tensor()?, 0, &extents(lengths.tensor()?, "lengths")?)?;
        parts.into_iter().enumerate().try_for_each(|(i, part)| array.write(i as i64, part))?;
        one(flow)
    }))
}

fn size(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle, _] = take(inputs)?;
        one(ints([TensorArray::of(&handle)?.len()?], DType::I32)?.reshape([])?)
    }))
}

fn close(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle] = take(inputs)?;
        let array = TensorArray::of(&handle)?;
        let mut elements = array.lock()?;
        elements.items.clear();
        elements.closed = true;
        Ok(Values::new())
    }))
}

/// The array of gradients of an array's elements: one for each source, made when first asked for.
fn gradient(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let source = a.str("source")?.to_owned();
    let flows = a.signature.outputs.len() == 2;
    Ok(kernel(move |_, inputs| {
        let handle = inputs.first().ok_or_else(|| Error::graph("takes an array"))?;
        let before = match inputs.get(2) {
            Some(shape) => extents(shape.tensor()?, "the shape to prepend")?,
            None => Vec::new(),
        };
        let array = TensorArray::of(handle)?;
        let mut elements = array.lock()?;
        let with = |shape: &[usize]| before.iter().chain(shape).copied().collect::<Shape>();
        let known: Vec<Item> = elements
            .items
            .iter()
            .map(|item| match item {
                Item::Set(t) => Item::Unset(Some(with(t.shape()))),
                Item::Unset(Some(shape)) => Item::Unset(Some(with(shape))),
                _ => Item::Unset(None),
            })
            .collect();
        let shape = match array.shape.dims() {
            Some(dims) => PartialShape::new(before.iter().map(|d| Some(*d)).chain(dims.iter().copied()).collect::<Vec<_>>()),
            None => PartialShape::UNKNOWN,
        };
        let made = || {
            let elements =
                Elements { items: known, grows: false, clears: false, sums: true, closed: false, gradients: HashMap::new() };
            Arc::new(TensorArray { dtype: array.dtype, shape, elements: Mutex::new(elements) })
        };
        let gradient = elements.gradients.entry(source.clone()).or_insert_with(made).clone();
        let gradient: Value = Resource::Other(gradient).into();
        if flows { many([gradient, flow()]) } else { one(gradient) }
    }))
}

/// A stack among the values of a run.
struct Stack {
    most: usize,
    items: Mutex<Vec<Value>>,
}

fn stack(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let most = match inputs.first() {
            Some(most) => int(most.tensor()?, "the size")?,
            None => -1,
        };
        let most = usize::try_from(most).unwrap_or(MOST).min(MOST);
        one(Resource::Other(Arc::new(Stack { most, items: Mutex::default() })))
    }))
}

fn push(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle, value] = take(inputs)?;
        let stack = handle.resource()?.downcast::<Stack>("a stack")?;
        let mut items = stack.items.lock().unwrap_or_else(PoisonError::into_inner);
        if items.len() >= stack.most {
            return Err(Error::compute(format!("the stack is full: it holds {} values", stack.most)));
        }
        items.push(value.clone());
        one(value)
    }))
}

fn pop(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle] = take(inputs)?;
        let stack = handle.resource()?.downcast::<Stack>("a stack")?;
        let mut items = stack.items.lock().unwrap_or_else(PoisonError::into_inner);
        one(items.pop().ok_or_else(|| Error::compute("the stack is empty"))?)
    }))
}

fn close_stack(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle] = take(inputs)?;
        let stack = handle.resource()?.downcast::<Stack>("a stack")?;
        stack.items.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(Values::new())
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("TensorArray(size: int32) -> (handle: &string); dtype: type; dynamic_size: bool = false; clear_after_read: bool = true; tensor_array_name: string = \"\"; element_shape: shape = ?; stateful", make),
    Op::new("TensorArrayV2(size: int32) -> (handle: string); dtype: type; element_shape: shape = ?; dynamic_size: bool = false; clear_after_read: bool = true; tensor_array_name: string = \"\"; stateful", make),
    Op::new("TensorArrayV3(size: int32) -> (handle: resource, flow: float32); dtype: type; element_shape: shape = ?; dynamic_size: bool = false; clear_after_read: bool = true; identical_element_shapes: bool = false; tensor_array_name: string = \"\"; stateful", make),
    Op::new("TensorArrayWrite(handle: &string, index: int32, value: T, flow_in: float32) -> (flow_out: float32); T: type", write),
    Op::new("TensorArrayWriteV2(handle: string, index: int32, value: T, flow_in: float32) -> (flow_out: float32); T: type", write),
    Op::new("TensorArrayWriteV3(handle: resource, index: int32, value: T, flow_in: float32) -> (flow_out: float32); T: type; stateful", write),
    Op::new("TensorArrayRead(handle: &string, index: int32, flow_in: float32) -> (value: dtype); dtype: type", read),
    Op::new("TensorArrayReadV2(handle: string, index: int32, flow_in: float32) -> (value: dtype); dtype: type", read),
    Op::new("TensorArrayReadV3(handle: resource, index: int32, flow_in: float32) -> (value: dtype); dtype: type; stateful", read),
    Op::new("TensorArrayGather(handle: &string, indices: int32, flow_in: float32) -> (value: dtype); dtype: type; element_shape: shape = ?", gather),
    Op::new("TensorArrayGatherV2(handle: string, indices: int32, flow_in: float32) -> (value: dtype); dtype: type; element_shape: shape = ?", gather),
    Op::new("TensorArrayGatherV3(handle: resource, indices: int32, flow_in: float32) -> (value: dtype); dtype: type; element_shape: shape = ?; stateful", gather),
    Op::new("TensorArrayPack(handle: &string, flow_in: float32) -> (value: dtype); dtype: type; element_shape: shape = ?", gather),
    Op::new("TensorArrayScatter(handle: &string, indices: int32, value: T, flow_in: float32) -> (flow_out: float32); T: type", scatter),
    Op::new("TensorArrayScatterV2(handle: string, indices: int32, value: T, flow_in: float32) -> (flow_out: float32); T: type", scatter),
    Op::new("TensorArrayScatterV3(handle: resource, indices: int32, value: T, flow_in: float32) -> (flow_out: float32); T: type; stateful", scatter),
    Op::new("TensorArrayUnpack(handle: &string, value: T, flow_in: float32) -> (flow_out: float32); T: type", scatter),
    Op::new("TensorArrayConcat(handle: &string, flow_in: float32) -> (value: dtype, lengths: int64); dtype: type; element_shape_except0: shape = ?", concat),
    Op::new("TensorArrayConcatV2(handle: string, flow_in: float32) -> (value: dtype, lengths: int64); dtype: type; element_shape_except0: shape = ?", concat),
    Op::new("TensorArrayConcatV3(handle: resource, flow_in: float32) -> (value: dtype, lengths: int64); dtype: type; element_shape_except0: shape = ?; stateful", concat),
    Op::new("TensorArraySplit(handle: &string, value: T, lengths: int64, flow_in: float32) -> (flow_out: float32); T: type", split),
    Op::new("TensorArraySplitV2(handle: string, value: T, lengths: int64, flow_in: float32) -> (flow_out: float32); T: type", split),
    Op::new("TensorArraySplitV3(handle: resource, value: T, lengths: int64, flow_in: float32) -> (flow_out: float32); T: type; stateful", split),
    Op::new("TensorArraySize(handle: &string, flow_in: float32) -> (size: int32)", size),
    Op::new("TensorArraySizeV2(handle: string, flow_in: float32) -> (size: int32)", size),
    Op::new("TensorArraySizeV3(handle: resource, flow_in: float32) -> (size: int32); stateful", size),
    Op::new("TensorArrayClose(handle: &string) -> ()", close),
    Op::new("TensorArrayCloseV2(handle: string) -> ()", close),
    Op::new("TensorArrayCloseV3(handle: resource) -> (); stateful", close),
    Op::new("TensorArrayGrad(handle: string, flow_in: float32) -> (grad_handle: &string); source: string; stateful", gradient),
    Op::new("TensorArrayGradV2(handle: string, flow_in: float32) -> (grad_handle: string); source: string; stateful", gradient),
    Op::new("TensorArrayGradV3(handle: resource, flow_in: float32) -> (grad_handle: resource, flow_out: float32); source: string; stateful", gradient),
    Op::new("TensorArrayGradWithShape(handle: resource, flow_in: float32, shape_to_prepend: int32) -> (grad_handle: resource, flow_out: float32); source: string; stateful", gradient),
    Op::new("Stack() -> (handle: &string); elem_type: type; stack_name: string = \"\"; stateful", stack),
    Op::new("StackV2(max_size: int32) -> (handle: resource); elem_type: type; stack_name: string = \"\"; stateful", stack),
    Op::new("StackPush(handle: &string, elem: T) -> (output: T); T: type; swap_memory: bool = false", push),
    Op::new("StackPushV2(handle: resource, elem: T) -> (output: T); T: type; swap_memory: bool = false; stateful", push),
    Op::new("StackPop(handle: &string) -> (elem: elem_type); elem_type: type", pop),
    Op::new("StackPopV2(handle: resource) -> (elem: elem_type); elem_type: type; stateful", pop),
    Op::new("StackClose(handle: &string) -> ()", close_stack),
    Op::new("StackCloseV2(handle: resource) -> (); stateful", close_stack),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn array(n: usize, clears: bool) -> TensorArray {
        let items = vec![Item::Unset(None); n];
        let elements = Elements { items, grows: false, clears, sums: false, closed: false, gradients: HashMap::new() };
        TensorArray { dtype: DType::F32, shape: PartialShape::UNKNOWN, elements: Mutex::new(elements) }
    }

    #[test]
    fn elements_are_written_once() {
        let a = array(2, true);
        let t = Tensor::scalar(1.0f32);
        a.write(0, t.clone()).expect("free");
        assert!(a.write(0, t.clone()).is_err() && a.write(2, t.clone()).is_err() && a.write(-1, t).is_err());
        assert!(a.write(1, Tensor::scalar(1i32)).is_err() && a.read(1).is_err());
        assert_eq!(a.read(0).and_then(|t| Ok(t.item::<f32>()?)).expect("value"), 1.0);
        assert!(a.read(0).is_err(), "it was let go");
    }

    #[test]
    fn gradients_add_up() {
        let a = array(1, false);
        a.lock().expect("open").sums = true;
        a.lock().expect("open").items[0] = Item::Unset(Some(Shape::new()));
        assert_eq!(a.read(0).and_then(|t| Ok(t.item::<f32>()?)).expect("zero"), 0.0);
        a.write(0, Tensor::scalar(1.0f32)).expect("first");
        a.write(0, Tensor::scalar(2.0f32)).expect("second");
        assert_eq!(a.stack(&[0, 0], &PartialShape::UNKNOWN).expect("both").elements::<f32>().expect("f32")[..], [3.0, 3.0]);
    }
}
