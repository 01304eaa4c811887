//! Constants, identities and other ops that compute nothing.

use super::Op;
use crate::Error;
use crate::engine::{Values, kernel};

pub(super) const OPS: &[Op] = &[
    Op::new("Const() -> (output: dtype); value: tensor; dtype: type", |a| {
        let value = a.get("value").and_then(|v| v.as_tensor()).cloned();
        let value = value.ok_or_else(|| Error::graph("attribute \"value\" is missing"))?;
        Ok(kernel(move |_, _| Ok([value.clone().into()].into_iter().collect())))
    }),
    Op::passing("Identity(input: T) -> (output: T); T: type"),
    Op::passing("IdentityN(input: [T]) -> (output: [T]); T: list(type)"),
    Op::passing("StopGradient(input: T) -> (output: T); T: type"),
    Op::passing("PreventGradient(input: T) -> (output: T); T: type; message: string = \"\""),
    Op::new("NoOp() -> ()", |_| Ok(kernel(|_, _| Ok(Values::new())))),
];
