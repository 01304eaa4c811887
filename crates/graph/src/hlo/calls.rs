//! Calls that leave the module: by name, of what XLA, JAX or TensorFlow know; and what is missing here.

use modelark_stablehlo::{Attr as HloAttr, Module, Op, Type};
use modelark_tensor::{DType, Shape};

use super::emit::Val;
use super::moves::extents;
use super::windows::Window;
use super::{Cx, Item, Lower, Scope, dtype_of};
use crate::{Attr, Error, Result};

/// Operations that are lowered, beside those of `elementwise.rs`' lists.
const OPERATIONS: &str = " abs add after_all and atan2 batch_norm_grad batch_norm_inference batch_norm_training \
    bitcast_convert broadcast broadcast_in_dim call case cbrt ceil cholesky clamp compare complex composite concatenate \
    constant convert convolution cosine count_leading_zeros create_token custom_call divide dot dot_general \
    dynamic_broadcast_in_dim dynamic_conv dynamic_gather dynamic_iota dynamic_pad dynamic_reshape dynamic_slice \
    dynamic_update_slice einsum exponential exponential_minus_one fft floor gather get_dimension_size get_tuple_element if \
    imag iota is_finite log log_plus_one logistic map maximum minimum multiply negate not optimization_barrier or pad \
    partition_id popcnt power real real_dynamic_slice reduce reduce_precision reduce_window remainder replica_id reshape \
    reverse rng rng_bit_generator round_nearest_afz round_nearest_even rsqrt scatter select select_and_scatter \
    set_dimension_size shift_left shift_right_arithmetic shift_right_logical sign sine slice sort sqrt subtract tan tanh \
    torch_index_select transpose triangular_solve tuple unary_einsum while xor ";

/// Calls whose result is their operand: they tell a compiler where values lie.
const PASSING: &[&str] = &[
    "Sharding",
    "SPMDFullToShardShape",
    "SPMDShardToFullShape",
    "annotate_device_placement",
    "xla.sdy.FuncResultSharding",
    "xla.sdy.GlobalToLocalShape",
    "xla.sdy.LocalToGlobalShape",
];

/// Functions of one number that TensorFlow has an op for, by the names under which XLA's extensions go.
const FUNCTIONS: &[(&str, &str)] = &[
    ("acos", "Acos"),
    ("acosh", "Acosh"),
    ("asin", "Asin"),
    ("asinh", "Asinh"),
    ("atan", "Atan"),
    ("atanh", "Atanh"),
    ("bessel_i1e", "BesselI1e"),
    ("cosh", "Cosh"),
    ("digamma", "Digamma"),
    ("erf", "Erf"),
    ("erf_inv", "Erfinv"),
    ("erfc", "Erfc"),
    ("lgamma", "Lgamma"),
    ("sinh", "Sinh"),
    ("tan", "Tan"),
];

/// The other calls that are known.
const CALLS: &[&str] = &[
    "mhlo.topk",
    "shape_assertion",
    "stablehlo.dynamic_reduce_window",
    "stablehlo.dynamic_rng_bit_generator",
    "stablehlo.dynamic_top_k",
    "tf.call_tf_function",
];

/// What a module needs and isn't here: operations, and calls by name; each once.
pub(crate) fn missing(module: &Module) -> Vec<String> {
    let mut missing = Vec::new();
    module.ops(|_, op| {
        let told = if &*op.name == "custom_call" {
            let target = target(op);
            if is_known(target) { return } else { format!("custom_call @{target}") }
        } else if OPERATIONS.contains(&format!(" {} ", op.name)) {
            return;
        } else {
            op.name.to_string()
        };
        if !missing.contains(&told) {
            missing.push(told);
        }
    });
    missing
}

fn target(op: &Op) -> &str {
    op.attr("call_target_name").and_then(HloAttr::text).unwrap_or_default()
}

fn function(target: &str) -> Option<&'static str> {
    let name = target.strip_prefix("mhlo.").or_else(|| target.strip_prefix("chlo."))?;
    FUNCTIONS.iter().find(|(n, _)| *n == name).map(|(_, op)| *op)
}

fn is_known(target: &str) -> bool {
    PASSING.contains(&target)
        || CALLS.contains(&target)
        || function(target).is_some()
        || super::lapack::is_known(target)
}

impl<'m> Lower<'m> {
    pub(super) fn custom_call(&mut self, scope: &mut Scope<'m>, op: &'m Op) -> Result<Vec<Item>> {
        let target = target(op);
        let wrong = |e: Error| e.at(format!("custom call {target:?}"));
        self.call_of(scope, op, target).map_err(wrong)
    }

    fn call_of(&mut self, scope: &mut Scope<'m>, op: &'m Op, target: &'m str) -> Result<Vec<Item>> {
        if target == "tf.call_tf_function" {
            return self.outer(scope, op);
        }
        if PASSING.contains(&target) {
            return op.operands.iter().take(op.results.len()).map(|v| scope.item(*v).cloned()).collect();
        }
        let inputs = op.operands.iter().map(|v| self.lift(scope.val(*v)?)).collect::<Result<Vec<_>>>()?;
        let ty = |i: usize| op.results.get(i).map(|r| scope.function.ty(*r));
        let cx = Cx { op, ty: ty(0), bits: ty(1) };
        if let (Some(name), [x]) = (function(target), &inputs[..]) {
            return Ok(vec![Item::Val(self.e.map(name, &[x])?)]);
        }
        let made = match (target, &inputs[..]) {
            ("shape_assertion", [holds, told @ ..]) => {
                // Extents are known, so what isn't known isn't about them.
                let fails =
                    holds.splat().is_some_and(|t| t.item::<modelark_tensor::Bool>().is_ok_and(|b| !b.get()));
                if fails {
                    return Err(Error::argument(message(op, told)));
                }
                Vec::new()
            }
            ("stablehlo.dynamic_reduce_window", all) => self.dynamic_window(op, all)?,
            ("stablehlo.dynamic_rng_bit_generator", [state, shape]) => {
                let bits = cx.bits.ok_or_else(|| Error::graph("it has two results"))?;
                let shape = extents(shape)?;
                self.random_bits(&cx, state, dtype_of(bits)?, &shape)?
            }
            ("stablehlo.dynamic_top_k", [x, k]) => {
                let k = k
                    .ints()
                    .and_then(|k| k.first().copied())
                    .ok_or_else(|| Error::unsupported("how many depends on what only a run computes"))?;
                self.largest(x, k)?
            }
            ("mhlo.topk", [x]) => {
                let attrs = op.attr("mhlo.attributes");
                let k = attrs.and_then(|a| a.get("k")).and_then(HloAttr::int);
                let largest = attrs.and_then(|a| a.get("largest")).and_then(HloAttr::bool).unwrap_or(true);
                let k = k.filter(|_| largest).ok_or_else(|| Error::unsupported("the least values"))?;
                self.largest(x, k)?
            }
            _ if super::lapack::is_known(target) => self.lapack(&cx, target, &inputs)?,
            _ => return Err(Error::unsupported("there is no such custom call here")),
        };
        Ok(made.into_iter().map(Item::Val).collect())
    }

    /// The greatest values of the last dimension and where they are.
    fn largest(&mut self, x: &Val, k: i64) -> Result<Vec<Val>> {
        let mut shape: Shape = x.shape.clone();
        let long = shape.last_mut().ok_or_else(|| Error::graph("a scalar has no greatest values"))?;
        *long = usize::try_from(k)
            .ok()
            .filter(|k| k <= long)
            .ok_or_else(|| Error::graph(format!("there are no {k} values")))?;
        let k = Val::known(modelark_tensor::Tensor::scalar(k as i32));
        let x = self.e.full(x)?;
        let [values, places] = self.e.node("TopKV2", &[&x, &k], &[])?;
        Ok(vec![Val::new(values, x.dtype, &shape), Val::new(places, DType::I32, &shape)])
    }

    fn dynamic_window(&mut self, op: &'m Op, inputs: &[Val]) -> Result<Vec<Val>> {
        let wrong = || {
            Error::graph("it takes operands, initial values, and five lists that say how the window moves")
        };
        let count = inputs.len().checked_sub(5).filter(|n| n % 2 == 0 && *n > 0).ok_or_else(wrong)?;
        let (both, lists) = inputs.split_at(count);
        let (values, init) = both.split_at(count / 2);
        let [size, strides, holes, dilations, padding] = lists else { return Err(wrong()) };
        let unknown = || Error::unsupported("its window depends on what only a run computes");
        let window = Window {
            size: extents(size)?,
            strides: extents(strides)?,
            holes: extents(holes)?,
            dilations: extents(dilations)?,
            padding: padding.ints().ok_or_else(unknown)?,
        };
        let called = op.attr("called_computations").and_then(HloAttr::array);
        let name = called.and_then(|c| c.first()).and_then(HloAttr::text).ok_or_else(wrong)?;
        let body = self
            .module
            .function(name)
            .ok_or_else(|| Error::graph(format!("the module has no function {name:?}")))?;
        self.slide(&Scope::of(body), &body.body, values, init, &window)
    }

    /// A function of the graph around the module.
    fn outer(&mut self, scope: &Scope<'m>, op: &'m Op) -> Result<Vec<Item>> {
        let config = op.attr("tf.backend_config").or_else(|| op.attr("backend_config"));
        let index = config.and_then(|c| c.get("called_index")).and_then(HloAttr::int);
        let function = index.and_then(|i| usize::try_from(i).ok()).and_then(|i| self.around.functions.get(i));
        let function = function.ok_or_else(|| Error::graph("the node lists no such function"))?.clone();
        let mut inputs = Vec::new();
        for operand in &op.operands {
            scope.item(*operand)?.flatten(&mut inputs);
        }
        let mut shapes = Vec::new();
        for value in &op.results {
            let ty = scope.function.ty(*value);
            if *ty == Type::Token {
                continue;
            }
            let dims = ty.tensor().and_then(|t| t.dims.iter().copied().collect::<Option<Shape>>());
            let dims = dims.ok_or_else(|| Error::unsupported("the shape of its result isn't told"))?;
            shapes.push((dtype_of(ty)?, dims));
        }
        let tout: Attr = shapes.iter().map(|(d, _)| *d).collect::<Vec<DType>>().into();
        let attrs = [("f", Attr::Func(function)), ("Tout", tout)];
        let made = self.calling("StatefulPartitionedCall", &inputs.iter().collect::<Vec<_>>(), &attrs)?;
        let mut values =
            made.into_iter().zip(shapes).map(|(raw, (dtype, shape))| Item::Val(Val::new(raw, dtype, &shape)));
        op.results
            .iter()
            .map(|v| match scope.function.ty(*v) {
                Type::Token => Ok(Item::Token),
                _ => values.next().ok_or_else(|| Error::graph("the function gives too few values")),
            })
            .collect()
    }
}

/// The message of an assertion, with numbers in place of `{0}`, `{1}` and so on.
fn message(op: &Op, told: &[Val]) -> String {
    let mut text = op
        .attr("error_message")
        .and_then(HloAttr::text)
        .unwrap_or("a shape isn't what the module takes")
        .to_owned();
    for (i, v) in told.iter().enumerate() {
        let number = v.ints().and_then(|n| n.first().copied());
        text = text.replace(&format!("{{{i}}}"), &number.map_or("?".to_owned(), |n| n.to_string()));
    }
    text
}
