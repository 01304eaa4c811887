//! Variables: resources of TensorFlow 2, references of TensorFlow 1.

use std::sync::Arc;

use super::args::{one, take};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Resource, Value, Values, Variable, kernel};
use crate::tensor::kernels::elementwise as e;
use crate::tensor::{self, PartialShape, Tensor};
use crate::{Error, Result};

/// The kind under which variables are among the resources.
pub(crate) const VARIABLE: &str = "variable";

/// What TensorFlow writes for a variable that no other handle shares.
pub(crate) const ANONYMOUS: &str = "cd2c89b7-88b7-44c8-ad83-06c2a9158347";

/// A kernel that gives a variable's handle: the resource named by `shared_name`, else by the node.
fn handle(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("dtype")?;
    let shape = a.get("shape").and_then(|s| s.as_shape()).cloned().unwrap_or(PartialShape::UNKNOWN);
    let name = a.str("shared_name")?.to_owned();
    Ok(kernel(move |context, _| {
        let make = |name: &str| Resource::Variable(Arc::new(Variable::new(name, dtype, shape.clone())));
        if name == ANONYMOUS {
            return one(make(context.node()));
        }
        let name = if name.is_empty() { context.node() } else { name.as_str() };
        one(context.resources().get_or_insert(VARIABLE, name, || Ok(make(name)))?)
    }))
}

fn variable(value: &Value) -> Result<&Arc<Variable>> {
    value.resource()?.variable()
}

/// A kernel that replaces a variable's value by `f` of the old value and the tensor given; gives nothing.
fn update(f: fn(Tensor, Tensor) -> tensor::Result<Tensor>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        change(inputs, f)?;
        Ok(Values::new())
    }))
}

/// As [`update`], giving the reference on.
fn update_ref(f: fn(Tensor, Tensor) -> tensor::Result<Tensor>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| one(change(inputs, f)?)))
}

fn change(inputs: Values, f: fn(Tensor, Tensor) -> tensor::Result<Tensor>) -> Result<Value> {
    let [handle, value] = take(inputs)?;
    let value = value.into_tensor()?;
    variable(&handle)?.update(|old| {
        let shape = tensor::Shape::from(old.shape());
        if value.shape() != &shape[..] {
            return Err(Error::compute(format!(
                "a value of shape {:?} can't change a variable of shape {:?}",
                value.shape(),
                &shape[..]
            )));
        }
        Ok(f(old, value)?)
    })?;
    Ok(handle)
}

/// `variable -= alpha * delta`.
fn descend(inputs: Values) -> Result<Value> {
    let [handle, alpha, delta] = take(inputs)?;
    let (alpha, delta) = (alpha.into_tensor()?, delta.into_tensor()?);
    if alpha.rank() != 0 {
        return Err(Error::compute(format!("the step must be a scalar, got shape {:?}", alpha.shape())));
    }
    variable(&handle)?.update(|old| {
        if old.shape() != delta.shape() {
            return Err(Error::compute(format!("a change of {:?} for a variable of {:?}", delta.shape(), old.shape())));
        }
        Ok(e::sub(old, e::mul(delta, alpha)?)?)
    })?;
    Ok(handle)
}

/// What says of a `ReadVariableOp` that whoever takes the value takes it at any address.
pub(crate) const AS_LOADED: &str = "_as_loaded";

pub(super) const OPS: &[Op] = &[
    Op::new("VarHandleOp() -> (resource: resource); container: string = \"\"; shared_name: string = \"\"; debug_name: string = \"\"; dtype: type; shape: shape; allowed_devices: list(string) = []; stateful", handle),
    Op::new("ReadVariableOp(resource: resource) -> (value: dtype); dtype: type; stateful", |a| {
        let as_loaded = a.attrs.contains_key(AS_LOADED);
        Ok(kernel(move |_, inputs| {
            let [handle] = take(inputs)?;
            let variable = variable(&handle)?;
            one(if as_loaded { variable.read_as_loaded()? } else { variable.read()? })
        }))
    }),
    Op::new("VarIsInitializedOp(resource: resource) -> (is_initialized: bool); stateful", |_| {
        Ok(kernel(|_, inputs| {
            let [handle] = take(inputs)?;
            one(Tensor::from(variable(&handle)?.is_initialized()))
        }))
    }),
    Op::new("VariableShape(input: resource) -> (output: out_type); out_type: type = int32; stateful", |a| {
        let dtype = a.dtype("out_type")?;
        Ok(kernel(move |_, inputs| {
            let [handle] = take(inputs)?;
            one(super::args::ints(variable(&handle)?.read()?.shape().iter().copied(), dtype)?)
        }))
    }),
    Op::new("AssignVariableOp(resource: resource, value: dtype) -> (); dtype: type; validate_shape: bool = false; stateful", |_| {
        Ok(kernel(|_, inputs| {
            let [handle, value] = take(inputs)?;
            variable(&handle)?.assign(value.into_tensor()?)?;
            Ok(Values::new())
        }))
    }),
    Op::new("AssignAddVariableOp(resource: resource, value: dtype) -> (); dtype: type; stateful", |_| update(e::add)),
    Op::new("AssignSubVariableOp(resource: resource, value: dtype) -> (); dtype: type; stateful", |_| update(e::sub)),
    Op::new("ResourceApplyGradientDescent(var: resource, alpha: T, delta: T) -> (); T: type; use_locking: bool = false; stateful", |_| {
        Ok(kernel(|_, inputs| {
            descend(inputs)?;
            Ok(Values::new())
        }))
    }),
    Op::new("DisableCopyOnRead(resource: resource) -> (); stateful", |_| Ok(kernel(|_, _| Ok(Values::new())))),
    Op::new("DestroyResourceOp(resource: resource) -> (); ignore_lookup_error: bool = true; stateful", |_| Ok(kernel(|_, _| Ok(Values::new())))),
    Op::new("VariableV2() -> (ref: &dtype); shape: shape; dtype: type; container: string = \"\"; shared_name: string = \"\"; stateful", handle),
    Op::new("Variable() -> (ref: &dtype); shape: shape; dtype: type; container: string = \"\"; shared_name: string = \"\"; stateful", handle),
    Op::new("IsVariableInitialized(ref: &dtype) -> (is_initialized: bool); dtype: type", |_| {
        Ok(kernel(|_, inputs| {
            let [handle] = take(inputs)?;
            one(Tensor::from(variable(&handle)?.is_initialized()))
        }))
    }),
    Op::new("Assign(ref: &T, value: T) -> (output_ref: &T); T: type; validate_shape: bool = true; use_locking: bool = true", |_| {
        Ok(kernel(|_, inputs| {
            let [handle, value] = take(inputs)?;
            variable(&handle)?.assign(value.into_tensor()?)?;
            one(handle)
        }))
    }),
    Op::new("AssignAdd(ref: &T, value: T) -> (output_ref: &T); T: type; use_locking: bool = false", |_| update_ref(e::add)),
    Op::new("AssignSub(ref: &T, value: T) -> (output_ref: &T); T: type; use_locking: bool = false", |_| update_ref(e::sub)),
    Op::new("ApplyGradientDescent(var: &T, alpha: T, delta: T) -> (out: &T); T: type; use_locking: bool = false", |_| Ok(kernel(|_, inputs| one(descend(inputs)?)))),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;
    use crate::tensor::DType;
    use crate::engine::{Executable, Resources};

    #[test]
    fn a_counter_counts() {
        let mut b = Builder::new("count");
        let handle = b
            .op("VarHandleOp")
            .attr("dtype", DType::I64)
            .attr("shape", PartialShape::scalar())
            .attr("shared_name", "counter")
            .one()
            .expect("handle");
        let step = b.constant(Tensor::scalar(2i64)).expect("step");
        b.op("AssignAddVariableOp").input(handle).input(step).run().expect("add");
        let now = b.op("ReadVariableOp").input(handle).attr("dtype", DType::I64).one().expect("read");
        let (f, library) = b.finish(&[("now", now)]).expect("function");
        let resources = Resources::new();
        let v = Arc::new(Variable::with_value("counter", Tensor::scalar(5i64)));
        resources.insert(VARIABLE, "counter", Resource::Variable(v.clone()));
        let fetches: Vec<_> = f.results.iter().map(|r| r.output).collect();
        let run = Executable::new(&f.graph, &library, &[], &fetches, &[]).expect("plan");
        for want in [7, 9] {
            let out = run.run(&resources, Values::new()).expect("run");
            assert_eq!(out[0].tensor().and_then(|t| Ok(t.item::<i64>()?)).expect("int"), want);
        }
        assert_eq!(v.read().and_then(|t| Ok(t.item::<i64>()?)).expect("int"), 9);
    }

    #[test]
    fn what_a_reference_was_read_as_follows_the_variable() {
        use crate::{Attr, Attrs, Graph, Library, Node, Output};
        let node = |name: &str, op: &str, inputs: &[usize], controls: &[usize]| Node {
            name: name.to_owned(),
            op: op.to_owned(),
            inputs: inputs.iter().map(|i| Output::new(*i, 0)).collect(),
            controls: controls.to_vec(),
            attrs: ["T", "dtype"].map(|a| (a.to_owned(), Attr::Type(DType::F32))).into_iter().collect::<Attrs>(),
            ..Node::default()
        };
        let mut one = node("one", "Const", &[], &[]);
        one.attrs.insert("value".to_owned(), Attr::Tensor(Box::new(Tensor::scalar(1f32))));
        let nodes = vec![
            node("v", "VariableV2", &[], &[]),
            node("read", "Identity", &[0], &[]),
            one,
            node("more", "AssignAdd", &[0, 2], &[]),
            node("y", "Identity", &[1], &[3]),
            node("twice", "AddV2", &[4, 4], &[]),
        ];
        let graph = Graph { nodes };
        let resources = Resources::new();
        let v = Arc::new(Variable::with_value("v", Tensor::scalar(2f32)));
        resources.insert(VARIABLE, "v", Resource::Variable(v));
        let fetches = [Output::new(4, 0), Output::new(5, 0)];
        let run = Executable::new(&graph, &Library::new(), &[], &fetches, &[]).expect("plan");
        let out = run.run(&resources, Values::new()).expect("run");
        let number = |i: usize| out[i].tensor().and_then(|t| Ok(t.item::<f32>()?)).expect("float");
        assert_eq!((number(0), number(1)), (3.0, 6.0));
    }
}
