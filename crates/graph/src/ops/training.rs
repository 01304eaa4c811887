//! What optimizers do to variables: each rule written once for an element, used by four kinds of op (variables as
//! resources or references, gradients dense or of some rows).

use std::ops::{Add, Div, Mul, Sub};

use super::args::one;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, kernel};
use crate::signature::ArgType;
use crate::tensor::kernels::array::cast;
use crate::tensor::{Complex32, Complex64, DType, Element, Tensor};
use crate::{Error, Result};

/// How one element of a variable and of its slots changes. Numbers that a rule takes come in the order of the op's
/// inputs.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Momentum { nesterov: bool },
    KerasMomentum { nesterov: bool },
    Adam { nesterov: bool },
    Amsgrad,
    AdaMax,
    Adagrad { accumulates: bool },
    AdagradV2 { accumulates: bool },
    AdagradDa,
    Adadelta,
    RmsProp,
    CenteredRmsProp,
    Ftrl { by_rate: bool, shrinks: bool },
    AddSign,
    PowerSign,
    ProximalDescent,
    ProximalAdagrad,
}

/// A number that training computes in.
trait Number: Element + Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    const ZERO: Self;
    const ONE: Self;
    fn root(self) -> Self;

    /// One step of a rule.
    fn step(rule: Rule, vars: &mut [Self], g: Self, h: &[Self]);

    /// A step of a rule that asks for no order among numbers; whether it is one.
    #[inline]
    fn plain_step(rule: Rule, vars: &mut [Self], g: Self, h: &[Self]) -> bool {
        let one = Self::ONE;
        match (rule, vars, h) {
            (Rule::Momentum { nesterov }, [var, accum], &[lr, momentum]) => {
                *accum = *accum * momentum + g;
                *var = *var - if nesterov { g * lr + *accum * momentum * lr } else { *accum * lr };
            }
            (Rule::KerasMomentum { nesterov }, [var, accum], &[lr, momentum]) => {
                *accum = *accum * momentum - g * lr;
                *var = *var + if nesterov { *accum * momentum - g * lr } else { *accum };
            }
            (Rule::Adam { nesterov }, [var, m, v], &[power1, power2, lr, beta1, beta2, epsilon]) => {
                let alpha = lr * (one - power2).root() / (one - power1);
                *m = *m + (g - *m) * (one - beta1);
                *v = *v + (g * g - *v) * (one - beta2);
                let ahead = if nesterov { *m * beta1 + g * (one - beta1) } else { *m };
                *var = *var - ahead * alpha / (v.root() + epsilon);
            }
            (Rule::Adagrad { accumulates }, [var, accum], &[lr]) => {
                if accumulates {
                    *accum = *accum + g * g;
                }
                *var = *var - g * lr / accum.root();
            }
            (Rule::AdagradV2 { accumulates }, [var, accum], &[lr, epsilon]) => {
                if accumulates {
                    *accum = *accum + g * g;
                }
                *var = *var - g * lr / (accum.root() + epsilon);
            }
            (Rule::Adadelta, [var, accum, moved], &[lr, rho, epsilon]) => {
                *accum = *accum * rho + g * g * (one - rho);
                let by = (*moved + epsilon).root() / (*accum + epsilon).root() * g;
                *var = *var - by * lr;
                *moved = *moved * rho + by * by * (one - rho);
            }
            (Rule::RmsProp, [var, squares, momentum], &[lr, rho, decay, epsilon]) => {
                *squares = *squares + (g * g - *squares) * (one - rho);
                *momentum = *momentum * decay + g * lr / (*squares + epsilon).root();
                *var = *var - *momentum;
            }
            (Rule::CenteredRmsProp, [var, mean, squares, momentum], &[lr, rho, decay, epsilon]) => {
                *squares = *squares + (g * g - *squares) * (one - rho);
                *mean = *mean + (g - *mean) * (one - rho);
                let spread = *squares - *mean * *mean + epsilon;
                *momentum = *momentum * decay + g * lr / spread.root();
                *var = *var - *momentum;
            }
            _ => return false,
        }
        true
    }
}

impl Rule {
    /// Whether the rule asks for no order among numbers, so that they may be complex.
    fn is_plain(self) -> bool {
        use Rule::*;
        matches!(
            self,
            Momentum { .. } | KerasMomentum { .. } | Adam { .. } | Adagrad { .. } | AdagradV2 { .. } | Adadelta | RmsProp
                | CenteredRmsProp
        )
    }
}

macro_rules! complexes {
    ($($t:ident)*) => { $(
        impl Number for $t {
            const ZERO: Self = $t { re: 0.0, im: 0.0 };
            const ONE: Self = $t { re: 1.0, im: 0.0 };

            fn root(self) -> Self {
                self.sqrt()
            }

            #[inline]
            fn step(rule: Rule, vars: &mut [$t], g: $t, h: &[$t]) {
                Self::plain_step(rule, vars, g, h);
            }
        }
    )* };
}

complexes!(Complex32 Complex64);

/// Soft thresholding by `l1`, then shrinking by `l2`.
macro_rules! proximal {
    ($x:expr, $rate:expr, $l1:expr, $l2:expr) => {{
        let (x, rate, l1, l2) = ($x, $rate, $l1, $l2);
        let over = x.abs() - rate * l1;
        // What isn't a number stays so.
        let kept = if l1 > 0.0 { sign(x) * if over < 0.0 { 0.0 } else { over } } else { x };
        kept / (1.0 + l2 * rate)
    }};
}

macro_rules! floats {
    ($($t:ident)*) => { $(
        impl Number for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;

            fn root(self) -> Self {
                self.sqrt()
            }

            #[inline]
            fn step(rule: Rule, vars: &mut [$t], g: $t, h: &[$t]) {
                fn sign(v: $t) -> $t {
                    if v > 0.0 { 1.0 } else if v < 0.0 { -1.0 } else { v }
                }
                if Self::plain_step(rule, vars, g, h) {
                    return;
                }
                match (rule, vars, h) {
                    (Rule::Amsgrad, [var, m, v, most], &[power1, power2, lr, beta1, beta2, epsilon]) => {
                        let alpha = lr * (1.0 - power2).sqrt() / (1.0 - power1);
                        *m += (g - *m) * (1.0 - beta1);
                        *v += (g * g - *v) * (1.0 - beta2);
                        *most = most.max(*v);
                        *var -= *m * alpha / (most.sqrt() + epsilon);
                    }
                    (Rule::AdaMax, [var, m, v], &[power1, lr, beta1, beta2, epsilon]) => {
                        *m += (g - *m) * (1.0 - beta1);
                        let kept = *v * beta2;
                        *v = if kept < g.abs() { g.abs() } else { kept };
                        *var -= lr / (1.0 - power1) * (*m / (*v + epsilon));
                    }
                    (Rule::AdagradDa, [var, sum, squares], &[lr, l1, l2, step]) => {
                        *sum += g;
                        *squares += g * g;
                        let kept = if l1 > 0.0 { sign(*sum) * (sum.abs() - l1 * step).max(0.0) } else { *sum };
                        *var = -lr * kept / (l2 * step * lr + squares.sqrt());
                    }
                    (Rule::Ftrl { by_rate, shrinks: false }, [var, accum, linear], &[lr, l1, l2, power]) => {
                        follow(var, accum, linear, g, g, [lr, l1, l2, power], by_rate);
                    }
                    (Rule::Ftrl { by_rate, shrinks: true }, [var, accum, linear], &[lr, l1, l2, shrinkage, power]) => {
                        let shrunk = g + 2.0 * shrinkage * *var;
                        follow(var, accum, linear, g, shrunk, [lr, l1, l2, power], by_rate);
                    }
                    (Rule::AddSign, [var, m], &[lr, alpha, decay, beta]) => {
                        *m = *m * beta + g * (1.0 - beta);
                        *var -= lr * (alpha + decay * sign(g) * sign(*m)) * g;
                    }
                    (Rule::PowerSign, [var, m], &[lr, logbase, decay, beta]) => {
                        *m = *m * beta + g * (1.0 - beta);
                        *var -= lr * (logbase * decay * sign(g) * sign(*m)).exp() * g;
                    }
                    (Rule::ProximalDescent, [var], &[alpha, l1, l2]) => {
                        *var = proximal!(*var - g * alpha, alpha, l1, l2);
                    }
                    (Rule::ProximalAdagrad, [var, accum], &[lr, l1, l2]) => {
                        *accum += g * g;
                        let rate = lr / accum.sqrt();
                        *var = proximal!(*var - g * rate, rate, l1, l2);
                    }
                    // The op's signature has these inputs.
                    _ => {}
                }

                /// "Follow the regularized leader"; `given` is the gradient that the linear term takes.
                fn follow(
                    var: &mut $t, accum: &mut $t, linear: &mut $t, g: $t, given: $t,
                    [lr, l1, l2, power]: [$t; 4], by_rate: bool,
                ) {
                    let root = |v: $t| if power == -0.5 { v.sqrt() } else { v.powf(-power) };
                    let new = *accum + g * g;
                    let grown = root(new) - root(*accum);
                    let (threshold, curve) = if by_rate {
                        *linear += given * lr - grown * *var;
                        (l1 * lr, root(new) + 2.0 * l2 * lr)
                    } else {
                        *linear += given - grown / lr * *var;
                        (l1, root(new) / lr + 2.0 * l2)
                    };
                    *var = if linear.abs() > threshold { (sign(*linear) * threshold - *linear) / curve } else { 0.0 };
                    *accum = new;
                }
            }
        }
    )* };
}

floats!(f32 f64);

/// What an input of an optimizer's op is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Role {
    Variable,
    Number,
    Gradient,
    Indices,
}

fn roles(a: &NodeAttrs<'_>) -> Vec<Role> {
    let role = |arg: &crate::signature::ArgDef| match arg.name.as_str() {
        _ if arg.is_ref || arg.ty == ArgType::Fixed(DType::Resource) => Role::Variable,
        "grad" | "delta" => Role::Gradient,
        "indices" => Role::Indices,
        _ => Role::Number,
    };
    a.signature.inputs.iter().map(role).collect()
}

fn apply(a: &NodeAttrs<'_>, rule: Rule) -> Result<Box<dyn Kernel>> {
    let roles = roles(a);
    let gives = !a.signature.outputs.is_empty();
    Ok(kernel(move |_, inputs| {
        if inputs.len() != roles.len() {
            return Err(Error::graph(format!("takes {} inputs, got {}", roles.len(), inputs.len())));
        }
        let (mut handles, mut numbers, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for (role, value) in roles.iter().zip(inputs) {
            match role {
                Role::Variable => handles.push(value),
                Role::Number => numbers.push(value.into_tensor()?),
                Role::Gradient => rest.insert(0, value.into_tensor()?),
                Role::Indices => rest.push(value.into_tensor()?),
            }
        }
        let mut rest = rest.into_iter();
        let grad = rest.next().ok_or_else(|| Error::graph("takes a gradient"))?;
        train(rule, &handles, &numbers, &grad, rest.next().as_ref())?;
        match handles.into_iter().next().filter(|_| gives) {
            Some(var) => one(var),
            None => Ok(Values::new()),
        }
    }))
}

/// Changes a variable and its slots by the gradient, of the rows at `indices` if given: in order, row by row.
fn train(rule: Rule, handles: &[Value], numbers: &[Tensor], grad: &Tensor, indices: Option<&Tensor>) -> Result<()> {
    let variables = handles.iter().map(|h| h.resource()?.variable()).collect::<Result<Vec<_>>>()?;
    let dtype = grad.dtype();
    let (half, wide) = match dtype {
        DType::F16 | DType::BF16 => (true, DType::F32),
        _ => (false, dtype),
    };
    let mut values = Vec::with_capacity(variables.len());
    for variable in &variables {
        let value = variable.read()?;
        if value.dtype() != dtype {
            return Err(Error::compute(format!("{variable:?} can't take a gradient of {dtype}")));
        }
        values.push(if half { cast(&value, wide)? } else { value });
    }
    let grad = cast(grad, wide)?;
    match wide {
        DType::F32 => change::<f32>(rule, &mut values, numbers, &grad, indices)?,
        DType::F64 => change::<f64>(rule, &mut values, numbers, &grad, indices)?,
        DType::C64 if rule.is_plain() => change::<Complex32>(rule, &mut values, numbers, &grad, indices)?,
        DType::C128 if rule.is_plain() => change::<Complex64>(rule, &mut values, numbers, &grad, indices)?,
        other => return Err(Error::unsupported(format!("training in {other}"))),
    }
    for (variable, value) in variables.into_iter().zip(values) {
        variable.assign(if half { cast(&value, dtype)? } else { value })?;
    }
    Ok(())
}

/// Whether a rule takes these numbers: of all only this one looks at them.
fn allowed(rule: Rule, numbers: &[Tensor]) -> Result<()> {
    if !matches!(rule, Rule::ProximalAdagrad) {
        return Ok(());
    }
    for (i, number) in numbers.iter().enumerate() {
        let value = cast(number, DType::F64)?.item::<f64>()?;
        if value < 0.0 || (i == 0 && value == 0.0) || value.is_nan() {
            let what = if i == 0 { "the learning rate must be positive" } else { "a regularization must not be negative" };
            return Err(Error::compute(format!("{what}, got {value}")));
        }
    }
    Ok(())
}

fn change<T: Number>(
    rule: Rule,
    values: &mut [Tensor],
    numbers: &[Tensor],
    grad: &Tensor,
    indices: Option<&Tensor>,
) -> Result<()> {
    let shape = values.first().map(|v| v.shape().to_vec()).unwrap_or_default();
    if let Some(odd) = values.iter().find(|v| v.shape() != shape) {
        return Err(Error::compute(format!("a slot of shape {:?} doesn't go with {shape:?}", odd.shape())));
    }
    let (starts, row) = match indices {
        None if grad.shape() == shape => (vec![0], grad.len()),
        Some(indices) if !shape.is_empty() && indices.rank() == 1 => {
            let fits = grad.rank() == shape.len()
                && grad.shape().first() == indices.shape().first()
                && grad.shape()[1..] == shape[1..];
            if !fits {
                return Err(unfit(grad, &shape));
            }
            let row = shape[1..].iter().product::<usize>();
            let start = |i: i64| {
                let i = usize::try_from(i).ok().filter(|i| *i < shape[0]).map(|i| i * row);
                i.ok_or_else(|| Error::compute(format!("an index is out of range for {} rows", shape[0])))
            };
            (indices.to_i64_vec()?.into_iter().map(start).collect::<Result<Vec<_>>>()?, row)
        }
        _ => return Err(unfit(grad, &shape)),
    };
    if let Some(odd) = numbers.iter().find(|t| t.rank() != 0) {
        return Err(Error::compute(format!("a number such as the learning rate has the shape {:?}", odd.shape())));
    }
    allowed(rule, numbers)?;
    let number = |t: &Tensor| Ok(cast(t, grad.dtype())?.item::<T>()?);
    let numbers = numbers.iter().map(number).collect::<Result<Vec<T>>>()?;
    let grads = grad.elements::<T>()?;
    let mut slices = values.iter_mut().map(|v| v.make_mut::<T>()).collect::<Result<Vec<_>, _>>()?;
    let mut element = vec![T::ZERO; slices.len()];
    for (k, start) in starts.into_iter().enumerate() {
        for (i, g) in grads[k * row..(k + 1) * row].iter().enumerate() {
            element.iter_mut().zip(&slices).for_each(|(e, s)| *e = s[start + i]);
            T::step(rule, &mut element, *g, &numbers);
            element.iter().zip(&mut slices).for_each(|(e, s)| s[start + i] = *e);
        }
    }
    Ok(())
}

fn unfit(grad: &Tensor, shape: &[usize]) -> Error {
    Error::compute(format!("a gradient of shape {:?} doesn't fit a variable of shape {shape:?}", grad.shape()))
}

fn momentum(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    apply(a, Rule::Momentum { nesterov: a.bool("use_nesterov")? })
}

fn keras_momentum(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    apply(a, Rule::KerasMomentum { nesterov: a.bool("use_nesterov")? })
}

fn adam(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    apply(a, Rule::Adam { nesterov: a.bool("use_nesterov")? })
}

fn adagrad(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    apply(a, Rule::Adagrad { accumulates: a.bool("update_slots")? })
}

fn adagrad_v2(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    apply(a, Rule::AdagradV2 { accumulates: a.bool("update_slots")? })
}

fn ftrl(a: &NodeAttrs<'_>, shrinks: bool) -> Result<Box<dyn Kernel>> {
    apply(a, Rule::Ftrl { by_rate: a.bool("multiply_linear_by_lr")?, shrinks })
}

pub(super) const OPS: &[Op] = &[
    Op::new("ResourceApplyMomentum(var: resource, accum: resource, lr: T, grad: T, momentum: T) -> (); T: type; use_locking: bool = false; use_nesterov: bool = false; stateful", momentum),
    Op::new("ResourceApplyKerasMomentum(var: resource, accum: resource, lr: T, grad: T, momentum: T) -> (); T: type; use_locking: bool = false; use_nesterov: bool = false; stateful", keras_momentum),
    Op::new("ResourceApplyAdam(var: resource, m: resource, v: resource, beta1_power: T, beta2_power: T, lr: T, beta1: T, beta2: T, epsilon: T, grad: T) -> (); T: type; use_locking: bool = false; use_nesterov: bool = false; stateful", adam),
    Op::new("ResourceApplyAdamWithAmsgrad(var: resource, m: resource, v: resource, vhat: resource, beta1_power: T, beta2_power: T, lr: T, beta1: T, beta2: T, epsilon: T, grad: T) -> (); T: type; use_locking: bool = false; stateful", |a| apply(a, Rule::Amsgrad)),
    Op::new("ResourceApplyAdaMax(var: resource, m: resource, v: resource, beta1_power: T, lr: T, beta1: T, beta2: T, epsilon: T, grad: T) -> (); T: type; use_locking: bool = false; stateful", |a| apply(a, Rule::AdaMax)),
    Op::new("ResourceApplyAdagrad(var: resource, accum: resource, lr: T, grad: T) -> (); T: type; use_locking: bool = false; update_slots: bool = true; stateful", adagrad),
    Op::new("ResourceApplyAdagradV2(var: resource, accum: resource, lr: T, epsilon: T, grad: T) -> (); T: type; use_locking: bool = false; update_slots: bool = true; stateful", adagrad_v2),
    Op::new("ResourceApplyAdagradDA(var: resource, gradient_accumulator: resource, gradient_squared_accumulator: resource, grad: T, lr: T, l1: T, l2: T, global_step: int64) -> (); T: type; use_locking: bool = false; stateful", |a| apply(a, Rule::AdagradDa)),
    Op::new("ResourceApplyAdadelta(var: resource, accum: resource, accum_update: resource, lr: T, rho: T, epsilon: T, grad: T) -> (); T: type; use_locking: bool = false; stateful", |a| apply(a, Rule::Adadelta)),
    Op::new("ResourceApplyRMSProp(var: resource, ms: resource, mom: resource, lr: T, rho: T, momentum: T, epsilon: T, grad: T) -> (); T: type; use_locking: bool = false; stateful", |a| apply(a, Rule::RmsProp)),
    Op::new("ResourceApplyCenteredRMSProp(var: resource, mg: resource, ms: resource, mom: resource, lr: T, rho: T, momentum: T, epsilon: T, grad: T) -> (); T: type; use_locking: bool = false; stateful", |a| apply(a, Rule::CenteredRmsProp)),
    Op::new("ResourceApplyFtrl(var: resource, accum: resource, linear: resource, grad: T, lr: T, l1: T, l2: T, lr_power: T) -> (); T: type; use_locking: bool = false; multiply_linear_by_lr: bool = false; stateful", |a| ftrl(a, false)),
    Op::new("ResourceApplyFtrlV2(var: resource, accum: resource, linear: resource, grad: T, lr: T, l1: T, l2: T, l2_shrinkage: T, lr_power: T) -> (); T: type; use_locking: bool = false; multiply_linear_by_lr: bool = false; stateful", |a| ftrl(a, true)),
    Op::new("ResourceApplyAddSign(var: resource, m: resource, lr: T, alpha: T, sign_decay: T, beta: T, grad: T) -> (); T: type; use_locking: bool = false; stateful", |a| apply(a, Rule::AddSign)),
    Op::new("ResourceApplyPowerSign(var: resource, m: resource, lr: T, logbase: T, sign_decay: T, beta: T, grad: T) -> (); T: type; use_locking: bool = false; stateful", |a| apply(a, Rule::PowerSign)),
    Op::new("ResourceApplyProximalGradientDescent(var: resource, alpha: T, l1: T, l2: T, delta: T) -> (); T: type; use_locking: bool = false; stateful", |a| apply(a, Rule::ProximalDescent)),
    Op::new("ResourceApplyProximalAdagrad(var: resource, accum: resource, lr: T, l1: T, l2: T, grad: T) -> (); T: type; use_locking: bool = false; stateful", |a| apply(a, Rule::ProximalAdagrad)),
    Op::new("ResourceSparseApplyMomentum(var: resource, accum: resource, lr: T, grad: T, indices: Tindices, momentum: T) -> (); T: type; Tindices: type; use_locking: bool = false; use_nesterov: bool = false; stateful", momentum),
    Op::new("ResourceSparseApplyKerasMomentum(var: resource, accum: resource, lr: T, grad: T, indices: Tindices, momentum: T) -> (); T: type; Tindices: type; use_locking: bool = false; use_nesterov: bool = false; stateful", keras_momentum),
    Op::new("ResourceSparseApplyAdagrad(var: resource, accum: resource, lr: T, grad: T, indices: Tindices) -> (); T: type; Tindices: type; use_locking: bool = false; update_slots: bool = true; stateful", adagrad),
    Op::new("ResourceSparseApplyAdagradV2(var: resource, accum: resource, lr: T, epsilon: T, grad: T, indices: Tindices) -> (); T: type; Tindices: type; use_locking: bool = false; update_slots: bool = true; stateful", adagrad_v2),
    Op::new("ResourceSparseApplyAdagradDA(var: resource, gradient_accumulator: resource, gradient_squared_accumulator: resource, grad: T, indices: Tindices, lr: T, l1: T, l2: T, global_step: int64) -> (); T: type; Tindices: type; use_locking: bool = false; stateful", |a| apply(a, Rule::AdagradDa)),
    Op::new("ResourceSparseApplyAdadelta(var: resource, accum: resource, accum_update: resource, lr: T, rho: T, epsilon: T, grad: T, indices: Tindices) -> (); T: type; Tindices: type; use_locking: bool = false; stateful", |a| apply(a, Rule::Adadelta)),
    Op::new("ResourceSparseApplyRMSProp(var: resource, ms: resource, mom: resource, lr: T, rho: T, momentum: T, epsilon: T, grad: T, indices: Tindices) -> (); T: type; Tindices: type; use_locking: bool = false; stateful", |a| apply(a, Rule::RmsProp)),
    Op::new("ResourceSparseApplyCenteredRMSProp(var: resource, mg: resource, ms: resource, mom: resource, lr: T, rho: T, momentum: T, epsilon: T, grad: T, indices: Tindices) -> (); T: type; Tindices: type; use_locking: bool = false; stateful", |a| apply(a, Rule::CenteredRmsProp)),
    Op::new("ResourceSparseApplyFtrl(var: resource, accum: resource, linear: resource, grad: T, indices: Tindices, lr: T, l1: T, l2: T, lr_power: T) -> (); T: type; Tindices: type; use_locking: bool = false; multiply_linear_by_lr: bool = false; stateful", |a| ftrl(a, false)),
    Op::new("ResourceSparseApplyFtrlV2(var: resource, accum: resource, linear: resource, grad: T, indices: Tindices, lr: T, l1: T, l2: T, l2_shrinkage: T, lr_power: T) -> (); T: type; Tindices: type; use_locking: bool = false; multiply_linear_by_lr: bool = false; stateful", |a| ftrl(a, true)),
    Op::new("ResourceSparseApplyProximalGradientDescent(var: resource, alpha: T, l1: T, l2: T, grad: T, indices: Tindices) -> (); T: type; Tindices: type; use_locking: bool = false; stateful", |a| apply(a, Rule::ProximalDescent)),
    Op::new("ResourceSparseApplyProximalAdagrad(var: resource, accum: resource, lr: T, l1: T, l2: T, grad: T, indices: Tindices) -> (); T: type; Tindices: type; use_locking: bool = false; stateful", |a| apply(a, Rule::ProximalAdagrad)),
    Op::new("ApplyMomentum(var: &T, accum: &T, lr: T, grad: T, momentum: T) -> (out: &T); T: type; use_locking: bool = false; use_nesterov: bool = false", momentum),
    Op::new("ApplyAdam(var: &T, m: &T, v: &T, beta1_power: T, beta2_power: T, lr: T, beta1: T, beta2: T, epsilon: T, grad: T) -> (out: &T); T: type; use_locking: bool = false; use_nesterov: bool = false", adam),
    Op::new("ApplyAdaMax(var: &T, m: &T, v: &T, beta1_power: T, lr: T, beta1: T, beta2: T, epsilon: T, grad: T) -> (out: &T); T: type; use_locking: bool = false", |a| apply(a, Rule::AdaMax)),
    Op::new("ApplyAdagrad(var: &T, accum: &T, lr: T, grad: T) -> (out: &T); T: type; use_locking: bool = false; update_slots: bool = true", adagrad),
    Op::new("ApplyAdagradV2(var: &T, accum: &T, lr: T, epsilon: T, grad: T) -> (out: &T); T: type; use_locking: bool = false; update_slots: bool = true", adagrad_v2),
    Op::new("ApplyAdagradDA(var: &T, gradient_accumulator: &T, gradient_squared_accumulator: &T, grad: T, lr: T, l1: T, l2: T, global_step: int64) -> (out: &T); T: type; use_locking: bool = false", |a| apply(a, Rule::AdagradDa)),
    Op::new("ApplyAdadelta(var: &T, accum: &T, accum_update: &T, lr: T, rho: T, epsilon: T, grad: T) -> (out: &T); T: type; use_locking: bool = false", |a| apply(a, Rule::Adadelta)),
    Op::new("ApplyRMSProp(var: &T, ms: &T, mom: &T, lr: T, rho: T, momentum: T, epsilon: T, grad: T) -> (out: &T); T: type; use_locking: bool = false", |a| apply(a, Rule::RmsProp)),
    Op::new("ApplyCenteredRMSProp(var: &T, mg: &T, ms: &T, mom: &T, lr: T, rho: T, momentum: T, epsilon: T, grad: T) -> (out: &T); T: type; use_locking: bool = false", |a| apply(a, Rule::CenteredRmsProp)),
    Op::new("ApplyFtrl(var: &T, accum: &T, linear: &T, grad: T, lr: T, l1: T, l2: T, lr_power: T) -> (out: &T); T: type; use_locking: bool = false; multiply_linear_by_lr: bool = false", |a| ftrl(a, false)),
    Op::new("ApplyFtrlV2(var: &T, accum: &T, linear: &T, grad: T, lr: T, l1: T, l2: T, l2_shrinkage: T, lr_power: T) -> (out: &T); T: type; use_locking: bool = false; multiply_linear_by_lr: bool = false", |a| ftrl(a, true)),
    Op::new("ApplyAddSign(var: &T, m: &T, lr: T, alpha: T, sign_decay: T, beta: T, grad: T) -> (out: &T); T: type; use_locking: bool = false", |a| apply(a, Rule::AddSign)),
    Op::new("ApplyPowerSign(var: &T, m: &T, lr: T, logbase: T, sign_decay: T, beta: T, grad: T) -> (out: &T); T: type; use_locking: bool = false", |a| apply(a, Rule::PowerSign)),
    Op::new("ApplyProximalGradientDescent(var: &T, alpha: T, l1: T, l2: T, delta: T) -> (out: &T); T: type; use_locking: bool = false", |a| apply(a, Rule::ProximalDescent)),
    Op::new("ApplyProximalAdagrad(var: &T, accum: &T, lr: T, l1: T, l2: T, grad: T) -> (out: &T); T: type; use_locking: bool = false", |a| apply(a, Rule::ProximalAdagrad)),
    Op::new("SparseApplyMomentum(var: &T, accum: &T, lr: T, grad: T, indices: Tindices, momentum: T) -> (out: &T); T: type; Tindices: type; use_locking: bool = false; use_nesterov: bool = false", momentum),
    Op::new("SparseApplyAdagrad(var: &T, accum: &T, lr: T, grad: T, indices: Tindices) -> (out: &T); T: type; Tindices: type; use_locking: bool = false; update_slots: bool = true", adagrad),
    Op::new("SparseApplyAdagradV2(var: &T, accum: &T, lr: T, epsilon: T, grad: T, indices: Tindices) -> (out: &T); T: type; Tindices: type; use_locking: bool = false; update_slots: bool = true", adagrad_v2),
    Op::new("SparseApplyAdagradDA(var: &T, gradient_accumulator: &T, gradient_squared_accumulator: &T, grad: T, indices: Tindices, lr: T, l1: T, l2: T, global_step: int64) -> (out: &T); T: type; Tindices: type; use_locking: bool = false", |a| apply(a, Rule::AdagradDa)),
    Op::new("SparseApplyAdadelta(var: &T, accum: &T, accum_update: &T, lr: T, rho: T, epsilon: T, grad: T, indices: Tindices) -> (out: &T); T: type; Tindices: type; use_locking: bool = false", |a| apply(a, Rule::Adadelta)),
    Op::new("SparseApplyRMSProp(var: &T, ms: &T, mom: &T, lr: T, rho: T, momentum: T, epsilon: T, grad: T, indices: Tindices) -> (out: &T); T: type; Tindices: type; use_locking: bool = false", |a| apply(a, Rule::RmsProp)),
    Op::new("SparseApplyCenteredRMSProp(var: &T, mg: &T, ms: &T, mom: &T, lr: T, rho: T, momentum: T, epsilon: T, grad: T, indices: Tindices) -> (out: &T); T: type; Tindices: type; use_locking: bool = false", |a| apply(a, Rule::CenteredRmsProp)),
    Op::new("SparseApplyFtrl(var: &T, accum: &T, linear: &T, grad: T, indices: Tindices, lr: T, l1: T, l2: T, lr_power: T) -> (out: &T); T: type; Tindices: type; use_locking: bool = false; multiply_linear_by_lr: bool = false", |a| ftrl(a, false)),
    Op::new("SparseApplyFtrlV2(var: &T, accum: &T, linear: &T, grad: T, indices: Tindices, lr: T, l1: T, l2: T, l2_shrinkage: T, lr_power: T) -> (out: &T); T: type; Tindices: type; use_locking: bool = false; multiply_linear_by_lr: bool = false", |a| ftrl(a, true)),
    Op::new("SparseApplyProximalGradientDescent(var: &T, alpha: T, l1: T, l2: T, grad: T, indices: Tindices) -> (out: &T); T: type; Tindices: type; use_locking: bool = false", |a| apply(a, Rule::ProximalDescent)),
    Op::new("SparseApplyProximalAdagrad(var: &T, accum: &T, lr: T, l1: T, l2: T, grad: T, indices: Tindices) -> (out: &T); T: type; Tindices: type; use_locking: bool = false", |a| apply(a, Rule::ProximalAdagrad)),
];
