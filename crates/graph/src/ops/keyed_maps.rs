//! Maps from tensors to tensors, which are values of their own (`TensorMap`).

use std::sync::Arc;

use super::args::{one, take};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Variant, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{Bool, Tensor};
use crate::{Error, Result};

type Entries = Arc<Vec<(Tensor, Value)>>;

fn entries(map: Value) -> Result<Entries> {
    match map {
        Value::Variant(Variant::Map(entries)) => Ok(entries),
        other => Err(Error::compute(format!("expected a map, got a {}", other.dtype()))),
    }
}

fn position(entries: &Entries, key: &Tensor) -> Option<usize> {
    entries.iter().position(|(k, _)| k.dtype() == key.dtype() && k.shape() == key.shape() && k.bit_eq(key))
}

fn insert(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [map, key, value] = take(inputs)?;
        let (mut entries, key) = (entries(map)?, key.into_tensor()?);
        let found = position(&entries, &key);
        let list = Arc::make_mut(&mut entries);
        match found.and_then(|i| list.get_mut(i)) {
            Some(entry) => entry.1 = value,
            None => list.push((key, value)),
        }
        one(Variant::Map(entries))
    }))
}

fn erase(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [map, key] = take(inputs)?;
        let mut entries = entries(map)?;
        let at = position(&entries, key.tensor()?).ok_or_else(missing)?;
        Arc::make_mut(&mut entries).remove(at);
        one(Variant::Map(entries))
    }))
}

fn missing() -> Error {
    Error::compute("the map has no such key")
}

fn lookup(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [map, key] = take(inputs)?;
        let entries = entries(map)?;
        let found = position(&entries, key.tensor()?).and_then(|i| entries.get(i));
        one(found.ok_or_else(missing)?.1.clone())
    }))
}

fn has_key(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [map, key] = take(inputs)?;
        one(Tensor::scalar(Bool::from(position(&entries(map)?, key.tensor()?).is_some())))
    }))
}

fn size(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [map] = take(inputs)?;
        one(Tensor::scalar(i32::try_from(entries(map)?.len()).unwrap_or(i32::MAX)))
    }))
}

fn stack_keys(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("key_dtype")?;
    Ok(kernel(move |_, inputs| {
        let [map] = take(inputs)?;
        let entries = entries(map)?;
        if entries.is_empty() {
            return one(Tensor::zeros(dtype, [0])?);
        }
        one(array::stack(&entries.iter().map(|(k, _)| k).collect::<Vec<_>>(), 0)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("EmptyTensorMap() -> (handle: variant)", |_| Ok(kernel(|_, _| one(Variant::Map(Arc::default()))))),
    Op::new("TensorMapErase(input_handle: variant, key: key_dtype) -> (output_handle: variant); key_dtype: type; value_dtype: type", erase),
    Op::new("TensorMapHasKey(input_handle: variant, key: key_dtype) -> (has_key: bool); key_dtype: type", has_key),
    Op::new("TensorMapInsert(input_handle: variant, key: key_dtype, value: value_dtype) -> (output_handle: variant); key_dtype: type; value_dtype: type", insert),
    Op::new("TensorMapLookup(input_handle: variant, key: key_dtype) -> (value: value_dtype); key_dtype: type; value_dtype: type", lookup),
    Op::new("TensorMapSize(input_handle: variant) -> (size: int32)", size),
    Op::new("TensorMapStackKeys(input_handle: variant) -> (keys: key_dtype); key_dtype: type", stack_keys),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Executable, Resources, Values};
    use crate::tensor::DType;
    use crate::{Attr, Builder};

    #[test]
    fn what_is_put_in_is_found() {
        let mut b = Builder::new("f");
        let kinds = [("key_dtype", Attr::Type(DType::I64)), ("value_dtype", Attr::Type(DType::F32))];
        let constant = |b: &mut Builder, t: Tensor| b.constant(t).expect("constant");
        let mut map = b.op("EmptyTensorMap").one().expect("map");
        for (k, v) in [(1i64, 1.5f32), (2, 2.5), (1, 3.5)] {
            let (k, v) = (constant(&mut b, Tensor::scalar(k)), constant(&mut b, Tensor::scalar(v)));
            let mut call = b.op("TensorMapInsert").inputs(&[map, k, v]);
            for (name, attr) in kinds.clone() {
                call = call.attr(name, attr);
            }
            map = call.one().expect("map");
        }
        let key = constant(&mut b, Tensor::scalar(1i64));
        let mut found = b.op("TensorMapLookup").inputs(&[map, key]);
        for (name, attr) in kinds.clone() {
            found = found.attr(name, attr);
        }
        let found = found.one().expect("value");
        let size = b.op("TensorMapSize").input(map).one().expect("size");
        let (f, library) = b.finish(&[("found", found), ("size", size)]).expect("function");
        let fetches: Vec<_> = f.results.iter().map(|r| r.output).collect();
        let run = Executable::new(&f.graph, &library, &[], &fetches, &[]).expect("plan");
        let out = run.run(&Resources::new(), Values::new()).expect("runs");
        assert_eq!(out[0].tensor().and_then(|t| Ok(t.item::<f32>()?)).expect("value"), 3.5);
        assert_eq!(out[1].tensor().and_then(|t| Ok(t.item::<i32>()?)).expect("size"), 2);
    }
}
