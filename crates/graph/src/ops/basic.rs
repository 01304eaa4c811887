//! Constants, identities and other ops that compute nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use super::args::{map1, one};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::elementwise as e;
use crate::tensor::{self, Bool, Tensor};
use crate::{Error, Result};

/// Passes floats on that are all finite.
fn check_numerics(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let message = a.str("message")?.to_owned();
    map1(move |x| {
        if e::is_finite(&x)?.elements::<Bool>()?.iter().all(|b| b.get()) {
            return Ok(x);
        }
        Err(tensor::Error::value(format!("{message}: the tensor has values that aren't finite")))
    })
}

/// What is fed never runs.
fn unfed(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Err(Error::argument("the placeholder must be fed"))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Placeholder() -> (output: dtype); dtype: type; shape: shape = ?", unfed),
    Op::new("PlaceholderV2() -> (output: dtype); dtype: type; shape: shape", unfed),
    Op::passing("PlaceholderWithDefault(input: dtype) -> (output: dtype); dtype: type; shape: shape"),
    Op::passing("Snapshot(input: T) -> (output: T); T: type"),
    Op::passing("GuaranteeConst(input: T) -> (output: T); T: type; stateful"),
    Op::passing("RefIdentity(input: &T) -> (output: &T); T: type"),
    Op::new("ControlTrigger() -> ()", |_| Ok(kernel(|_, _| Ok(Values::new())))),
    Op::new("EnsureShape(input: T) -> (output: T); shape: shape; T: type", |a| {
        let shape = a.get("shape").and_then(|s| s.as_shape()).cloned().unwrap_or_default();
        map1(move |x| {
            if shape.matches(x.shape()) {
                return Ok(x);
            }
            Err(tensor::Error::shape(format!("shape {:?} isn't compatible with {shape}", x.shape())))
        })
    }),
    Op::new("CheckNumerics(tensor: T) -> (output: T); T: type; message: string; stateful", check_numerics),
    Op::new("CheckNumericsV2(tensor: T) -> (output: T); T: type; message: string; stateful", check_numerics),
    Op::new("Const() -> (output: dtype); value: tensor; dtype: type", |a| {
        let value = a.get("value").and_then(|v| v.as_tensor()).cloned();
        let value = value.ok_or_else(|| Error::graph("attribute \"value\" is missing"))?;
        Ok(kernel(move |_, _| Ok([value.clone().into()].into_iter().collect())))
    }),
    Op::passing("Identity(input: T) -> (output: T); T: type"),
    Op::passing("IdentityN(input: [T]) -> (output: [T]); T: list(type)"),
    Op::passing("StopGradient(input: T) -> (output: T); T: type"),
    Op::passing("PreventGradient(input: T) -> (output: T); T: type; message: string = \"\""),
    Op::passing("Copy(input: T) -> (output: T); T: type; tensor_name: string = \"\"; debug_ops_spec: list(string) = []"),
    Op::passing("CopyHost(input: T) -> (output: T); T: type; tensor_name: string = \"\"; debug_ops_spec: list(string) = []"),
    Op::passing("DeepCopy(x: T) -> (y: T); T: type; stateful"),
    Op::new("DeviceIndex() -> (index: int32); device_names: list(string); stateful", |a| {
        let names = a.get("device_names").and_then(|n| n.as_list()).unwrap_or_default();
        let index = names.iter().position(|n| n.as_str() == Some("CPU")).unwrap_or(names.len());
        let index = i32::try_from(index).map_err(|_| Error::graph("too many device names"))?;
        Ok(kernel(move |_, _| one(Tensor::scalar(index))))
    }),
    Op::new("Timestamp() -> (ts: float64); stateful", |_| {
        Ok(kernel(|_, _| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            one(Tensor::scalar(since.as_secs_f64()))
        }))
    }),
    Op::new("RefSelect(index: int32, inputs: &N * T) -> (output: &T); T: type; N: int", |_| {
        Ok(kernel(|_, inputs| {
            let index = super::args::int(inputs.first().ok_or_else(|| Error::graph("takes an index"))?.tensor()?, "the index")?;
            let chosen = usize::try_from(index).ok().and_then(|i| inputs.get(i.checked_add(1)?)).cloned();
            one(chosen.ok_or_else(|| Error::compute(format!("index {index} is out of range")))?)
        }))
    }),
    Op::new("Fact() -> (fact: string)", |_| Ok(kernel(|_, _| one(Tensor::scalar_string(*b"0! == 1"))))),
    Op::new("NoOp() -> ()", |_| Ok(kernel(|_, _| Ok(Values::new())))),
];
