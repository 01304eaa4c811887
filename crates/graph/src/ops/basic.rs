//! Constants, identities and other ops that compute nothing.

use super::Op;
use crate::Error;
use crate::engine::{Kernel, kernel};

/// Passes its inputs on.
fn identity() -> Box<dyn Kernel> {
    kernel(|_, inputs| Ok(inputs))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Const() -> (output: dtype); value: tensor; dtype: type", |a| {
        let value = a.get("value").and_then(|v| v.as_tensor()).cloned();
        let value = value.ok_or_else(|| Error::graph("attribute \"value\" is missing"))?;
        Ok(kernel(move |_, _| Ok([value.clone().into()].into_iter().collect())))
    }),
    Op::new("Identity(input: T) -> (output: T); T: type", |_| Ok(identity())),
    Op::new("IdentityN(input: [T]) -> (output: [T]); T: list(type)", |_| Ok(identity())),
    Op::new("StopGradient(input: T) -> (output: T); T: type", |_| Ok(identity())),
    Op::new("PreventGradient(input: T) -> (output: T); T: type; message: string = \"\"", |_| Ok(identity())),
    Op::new("NoOp() -> ()", |_| Ok(identity())),
];
