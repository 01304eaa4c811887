//! Ops that the other dialect says otherwise: in several ops, or in one with other arguments.

use serde_json::{Value, json};

use super::Operation;
use super::arguments::value_of;
use super::slicing::{is_ellipsis, respelled};
use crate::config::{Object, resolve_axis};
use crate::{Argument, Layer, Spec};

/// Where a tensor that one of several ops takes comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum OpSource<T> {
    /// It is one of the tensors that the op was given.
    Given(T),
    /// The op of this index among the several gives it.
    Made(usize),
}

/// One of the ops that stand for another. The last of them gives what that one gave.
#[derive(Debug, Clone)]
pub(crate) struct OpPart<T> {
    pub operation: Operation,
    pub args: Vec<Held<T>>,
    pub keywords: Vec<(String, Held<T>)>,
}

/// The function that Keras 2 calls for brackets.
const GET_ITEM: &str = "__operators__.getitem";

type Held<T> = Argument<OpSource<T>>;

impl Operation {
    /// Whether a dialect may say a call of the op otherwise: the other one, and Keras 2 where there is an ellipsis, which not
    /// every file of its own can hold.
    pub(crate) fn is_otherwise<T>(&self, keras3: bool, args: &[Argument<T>], keywords: &[(String, Argument<T>)]) -> bool {
        let all = args.iter().chain(keywords.iter().map(|(_, a)| a));
        self.keras2 == keras3 || (!keras3 && self.name == GET_ITEM && all.into_iter().any(has_ellipsis))
    }

    /// The ops that stand for a call of this one in the other dialect, where that has no op of these arguments; `spec` is
    /// what is known of a tensor.
    pub(crate) fn parts<T: Copy>(
        &self,
        args: &[Argument<T>],
        keywords: &[(String, Argument<T>)],
        keras3: bool,
        spec: &dyn Fn(T) -> Option<Spec>,
    ) -> Option<Vec<OpPart<T>>> {
        if !self.is_otherwise(keras3, args, keywords) {
            return None;
        }
        let known = self.known().ok()?;
        let names = self.arguments();
        let positional = args.iter().enumerate().map(|(i, a)| (names.get(i).copied().unwrap_or_default(), a.clone()));
        let named = keywords.iter().map(|(n, a)| (n.as_str(), a.clone()));
        let options = self.options.iter().map(|(n, v)| (n.as_str(), Argument::Value(v.clone())));
        let canonical = |n: &str| if self.keras2 { known.canonical(&self.name, n) } else { known.own(n) };
        let given = positional.chain(named).chain(options).map(|(n, a)| (canonical(n), a)).collect();
        let mut parts = Parts { keras3, given, spec, made: Vec::new() };
        let last = match (keras3, known.class) {
            (true, _) => parts.of_function(&self.name),
            (false, "GetItem") => parts.without_ellipsis(),
            (false, class) => parts.of_class(class),
        }?;
        // What gives the result is the last op, by which the result is named.
        let is_last = matches!(last, Argument::Tensor(OpSource::Made(i)) if i + 1 == parts.made.len());
        is_last.then_some(parts.made)
    }
}

/// Ops that are put together.
struct Parts<'a, T> {
    keras3: bool,
    given: Vec<(&'static str, Argument<T>)>,
    spec: &'a dyn Fn(T) -> Option<Spec>,
    made: Vec<OpPart<T>>,
}

impl<T: Copy> Parts<'_, T> {
    /// An argument of the op, unless it is absent or `None`.
    fn find(&self, name: &str) -> Option<&Argument<T>> {
        let found = self.given.iter().find(|(n, _)| *n == name).map(|(_, a)| a);
        found.filter(|a| !matches!(a, Argument::Value(Value::Null)))
    }

    fn value(&self, name: &str) -> Option<Value> {
        self.find(name).and_then(value_of)
    }

    /// The value of an argument that may be absent.
    fn option(&self, name: &str) -> Value {
        self.value(name).unwrap_or_default()
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.value(name)?.as_i64()
    }

    fn flag(&self, name: &str) -> bool {
        self.value(name).is_some_and(|v| v == json!(true))
    }

    /// What is known of the tensor that an argument is.
    fn spec(&self, name: &str) -> Option<Spec> {
        match self.find(name)? {
            Argument::Tensor(t) => (self.spec)(*t),
            _ => None,
        }
    }

    fn rank(&self, name: &str) -> Option<usize> {
        self.spec(name)?.rank().ok()
    }

    fn take(&self, name: &str) -> Option<Held<T>> {
        self.find(name)?.map(&mut |t| Ok(OpSource::Given(*t))).ok()
    }

    /// A tensor of floats.
    fn float(&self, name: &str) -> Option<Held<T>> {
        self.spec(name)?.dtype.is_float().then(|| self.take(name))?
    }

    /// One more op: a class of Keras 3's, or a function that Keras 2 calls.
    fn op<const N: usize>(&mut self, name: &str, args: [Held<T>; N], options: &[(&str, Value)]) -> Held<T> {
        let all = options.iter().filter(|(_, v)| !v.is_null()).map(|(n, v)| ((*n).to_owned(), v.clone()));
        let mut operation = Operation { name: name.to_owned(), keras2: !self.keras3, ..Operation::default() };
        let mut keywords = Vec::new();
        match self.keras3 {
            true => operation.options = all.collect::<Object>(),
            false => keywords = all.map(|(n, v)| (n, Argument::Value(v))).collect(),
        }
        self.made.push(OpPart { operation, args: args.into(), keywords });
        Argument::Tensor(OpSource::Made(self.made.len() - 1))
    }

    /// Ops of one tensor, one after the other.
    fn chain(&mut self, x: Held<T>, names: &[&str]) -> Held<T> {
        names.iter().fold(x, |x, name| self.op(name, [x], &[]))
    }

    /// An op of a tensor and a number.
    fn with(&mut self, name: &str, x: Held<T>, number: f64) -> Held<T> {
        self.op(name, [x, Argument::Value(json!(number))], &[])
    }

    /// Keras 3: a matrix (the last two of so many axes) turned over, its numbers conjugated if they are complex.
    fn turned(&mut self, x: Held<T>, spec: Option<&Spec>, conjugate: bool) -> Option<Held<T>> {
        let spec = spec?;
        let rank = spec.rank().ok().filter(|r| *r >= 2)?;
        let x = if conjugate && spec.dtype.is_complex() { self.op("Conjugate", [x], &[]) } else { x };
        let mut axes: Vec<usize> = (0..rank).collect();
        axes.swap(rank - 1, rank - 2);
        Some(self.op("Transpose", [x], &[("axes", json!(axes))]))
    }

    /// What of a product says `transpose_a` and so on.
    fn factor(&mut self, name: &str, transposes: &str, adjoint: &str) -> Option<Held<T>> {
        let (x, spec) = (self.take(name)?, self.spec(name));
        match (self.flag(transposes), self.flag(adjoint)) {
            (false, false) => Some(x),
            (_, conjugate) => self.turned(x, spec.as_ref(), conjugate),
        }
    }

    /// What Keras 3 has for a function of TensorFlow's.
    fn of_function(&mut self, function: &str) -> Option<Held<T>> {
        Some(match function {
            "linalg.matmul" | "matmul"
                if ["transpose_a", "transpose_b", "adjoint_a", "adjoint_b"].iter().any(|n| self.flag(n)) =>
            {
                let (a, b) = (
                    self.factor("x1", "transpose_a", "adjoint_a")?,
                    self.factor("x2", "transpose_b", "adjoint_b")?,
                );
                self.op("Matmul", [a, b], &[])
            }
            "linalg.matvec" => {
                let (a, b) = (self.factor("x1", "transpose_a", "adjoint_a")?, self.take("x2")?);
                let b = self.op("ExpandDims", [b], &[("axis", json!(-1))]);
                let product = self.op("Matmul", [a, b], &[]);
                self.op("Squeeze", [product], &[("axis", json!(-1))])
            }
            "linalg.matrix_transpose" => {
                let (x, spec) = (self.take("x")?, self.spec("x"));
                self.turned(x, spec.as_ref(), self.flag("conjugate"))?
            }
            "math.squared_difference" | "math.squared_difference_" => {
                let (a, b) = (self.take("x1")?, self.take("x2")?);
                let apart = self.op("Subtract", [a, b], &[]);
                self.op("Square", [apart], &[])
            }
            "identity" | "compat.v1.identity" => {
                let (x, dtype) = (self.take("x")?, self.spec("x")?.dtype);
                self.op("Cast", [x], &[("dtype", json!(dtype.name()))])
            }
            "compat.v1.to_float" | "compat.v1.to_int32" => {
                let (x, dtype) = (self.take("x")?, if function.ends_with("float") { "float32" } else { "int32" });
                self.op("Cast", [x], &[("dtype", json!(dtype))])
            }
            "math.add_n" | "add_n" => {
                let Argument::List(items) = self.take("inputs")? else { return None };
                items.into_iter().reduce(|sum, x| self.op("Add", [sum, x], &[]))?
            }
            "nn.bias_add" if self.option("data_format").as_str().is_none_or(|f| !f.starts_with("NC")) => {
                let (x, bias) = (self.take("x")?, self.take("bias")?);
                self.op("Add", [x, bias], &[])
            }
            "nn.l2_loss" => {
                let x = self.take("t")?;
                let sum = self.chain(x, &["Square", "Sum"]);
                self.with("Multiply", sum, 0.5)
            }
            "image.flip_left_right" | "image.flip_up_down" => {
                let (x, axis) = (self.take("images")?, if function.ends_with("down") { -3 } else { -2 });
                self.op("Flip", [x], &[("axis", json!(axis))])
            }
            "math.reduce_euclidean_norm" => {
                let x = self.take("x")?;
                let squares = self.op("Square", [x], &[]);
                let options = [("axis", self.option("axis")), ("keepdims", json!(self.flag("keepdims")))];
                let sum = self.op("Sum", [squares], &options);
                self.op("Sqrt", [sum], &[])
            }
            "linalg.diag_part" => {
                let x = self.take("input")?;
                let axes = [("offset", json!(0)), ("axis1", json!(-2)), ("axis2", json!(-1))];
                self.op("Diagonal", [x], &axes)
            }
            "linalg.band_part" => {
                let (mut x, bounds) = (self.take("x")?, [self.int("num_lower")?, self.int("num_upper")?]);
                if bounds[0] >= 0 {
                    x = self.op("Triu", [x], &[("k", json!(-bounds[0]))]);
                }
                if bounds[1] >= 0 {
                    x = self.op("Tril", [x], &[("k", json!(bounds[1]))]);
                }
                x
            }
            "math.cumsum" | "cumsum" if self.flag("reverse") || self.flag("exclusive") => {
                let (x, axis) = (self.take("x")?, json!(self.int("axis").unwrap_or(0)));
                let axis = [("axis", axis)];
                let ordered = if self.flag("reverse") { self.op("Flip", [x], &axis) } else { x };
                let mut sums = self.op("Cumsum", [ordered.clone()], &axis);
                if self.flag("exclusive") {
                    sums = self.op("Subtract", [sums, ordered], &[]);
                }
                if self.flag("reverse") { self.op("Flip", [sums], &axis) } else { sums }
            }
            "sort" if self.option("direction") == json!("DESCENDING") => {
                let (x, axis) = (self.take("x")?, json!(self.int("axis").unwrap_or(-1)));
                let axis = [("axis", axis)];
                let sorted = self.op("Sort", [x], &axis);
                self.op("Flip", [sorted], &axis)
            }
            "argsort" if self.option("direction") == json!("DESCENDING") => {
                let (x, axis) = (self.take("x")?, json!(self.int("axis").unwrap_or(-1)));
                let other = self.op("Negative", [x], &[]);
                self.op("Argsort", [other], &[("axis", axis)])
            }
            _ => return None,
        })
    }

    /// The same brackets without an ellipsis.
    fn without_ellipsis(&mut self) -> Option<Held<T>> {
        let (x, key) = (self.take("x")?, self.take("key")?);
        let key = respelled(without_ellipsis(key, self.rank("x")?)?);
        let operation = Operation { name: GET_ITEM.to_owned(), keras2: true, ..Operation::default() };
        self.made.push(OpPart { operation, args: vec![x], keywords: vec![("slice_spec".to_owned(), key)] });
        Some(Argument::Tensor(OpSource::Made(self.made.len() - 1)))
    }

    /// What Keras 2 has for a class of Keras 3's.
    fn of_class(&mut self, class: &str) -> Option<Held<T>> {
        Some(match class {
            "Swapaxes" | "Moveaxis" => {
                let (x, rank) = (self.take("x")?, self.rank("x")?);
                let order = if class == "Swapaxes" { self.swapped(rank)? } else { self.moved(rank)? };
                self.op("transpose", [x], &[("perm", json!(order))])
            }
            "Ravel" => {
                let x = self.take("x")?;
                self.op("reshape", [x], &[("shape", json!([-1]))])
            }
            "Abs" | "Fabs" => {
                let x = if class == "Fabs" { self.float("x")? } else { self.take("x")? };
                self.op("math.abs", [x], &[])
            }
            "Amax" | "Amin" | "Average" => {
                let x = if class == "Average" { self.float("x")? } else { self.take("x")? };
                if self.find("weights").is_some() {
                    return None;
                }
                let options = [("axis", self.option("axis")), ("keepdims", json!(self.flag("keepdims")))];
                let function = match class {
                    "Amax" => "math.reduce_max",
                    "Amin" => "math.reduce_min",
                    _ => "math.reduce_mean",
                };
                self.op(function, [x], &options)
            }
            "Hstack" | "Vstack" | "Append" => {
                let items = match class {
                    "Append" => Argument::List(vec![self.take("x1")?, self.take("x2")?]),
                    _ => self.take("xs")?,
                };
                // Tensors of fewer dimensions NumPy gives more first.
                let ranks: Option<Vec<usize>> = self.given.iter().flat_map(|(_, a)| a.tensors()).map(|t| (self.spec)(t)?.rank().ok()).collect();
                let axis = if class == "Append" { self.int("axis")? } else { i64::from(class == "Hstack") };
                ranks?.iter().all(|r| *r >= 2).then_some(())?;
                self.op("concat", [items], &[("axis", json!(axis))])
            }
            "Tril" | "Triu" => {
                let (x, k) = (self.take("x")?, self.int("k").unwrap_or(0));
                // A band that doesn't hold the diagonal has no such bounds.
                let bounds = if class == "Tril" { [-1, k] } else { [-k, -1] };
                bounds.iter().all(|b| *b >= -1).then_some(())?;
                self.rank("x").filter(|_| bounds.contains(&-1) && bounds != [-1, -1])?;
                self.op("linalg.band_part", [x], &[("num_lower", json!(bounds[0])), ("num_upper", json!(bounds[1]))])
            }
            "Log2" | "Log10" => {
                let x = self.float("x")?;
                let log = self.op("math.log", [x], &[]);
                let base: f64 = if class == "Log2" { 2.0 } else { 10.0 };
                self.with("math.multiply", log, 1.0 / base.ln())
            }
            "Exp2" => {
                let x = self.float("x")?;
                let scaled = self.with("math.multiply", x, std::f64::consts::LN_2);
                self.op("math.exp", [scaled], &[])
            }
            "Deg2rad" | "Rad2deg" => {
                let x = self.float("x")?;
                let by = if class == "Deg2rad" { 1f64.to_radians() } else { 1f64.to_degrees() };
                self.with("math.multiply", x, by)
            }
            "Copy" => {
                let x = self.take("x")?;
                self.op("identity", [x], &[])
            }
            "Fliplr" | "Flipud" => {
                let x = self.take("x")?;
                self.op("reverse", [x], &[("axis", json!([i64::from(class == "Fliplr")]))])
            }
            "Dot" | "Inner" => {
                let (a, b) = (self.take("x1")?, self.take("x2")?);
                let [first, second] = [self.rank("x1")?.checked_sub(1)?, self.rank("x2")?.checked_sub(1)?];
                let second = if class == "Dot" { second.saturating_sub(1) } else { second };
                self.op("tensordot", [a, b], &[("axes", json!([[first], [second]]))])
            }
            "HardSigmoid" => {
                let x = self.float("x")?;
                self.hard_sigmoid(x)
            }
            "HardSilu" => {
                let x = self.float("x")?;
                let gate = self.hard_sigmoid(x.clone());
                self.op("math.multiply", [x, gate], &[])
            }
            "HardTanh" => {
                let x = self.float("x")?;
                self.op("clip_by_value", [x], &[("clip_value_min", json!(-1.0)), ("clip_value_max", json!(1.0))])
            }
            "TanhShrink" => {
                let x = self.float("x")?;
                let tanh = self.op("math.tanh", [x.clone()], &[]);
                self.op("math.subtract", [x, tanh], &[])
            }
            "Squareplus" => {
                let (x, b) = (self.float("x")?, self.value("b").and_then(|b| b.as_f64()).unwrap_or(4.0));
                let square = self.op("math.square", [x.clone()], &[]);
                let raised = self.with("math.add", square, b);
                let root = self.op("math.sqrt", [raised], &[]);
                let sum = self.op("math.add", [x, root], &[]);
                self.with("math.multiply", sum, 0.5)
            }
            _ => return None,
        })
    }

    fn hard_sigmoid(&mut self, x: Held<T>) -> Held<T> {
        let shifted = self.with("math.add", x, 3.0);
        let bound = self.op("nn.relu6", [shifted], &[]);
        self.with("math.multiply", bound, 1.0 / 6.0)
    }

    fn swapped(&self, rank: usize) -> Option<Vec<usize>> {
        let axis = |name| resolve_axis(self.int(name)?, rank).ok();
        let (a, b) = (axis("axis1")?, axis("axis2")?);
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(a, b);
        Some(order)
    }

    fn moved(&self, rank: usize) -> Option<Vec<usize>> {
        let axes = |name| -> Option<Vec<usize>> {
            let value = self.value(name)?;
            let one = |v: &Value| resolve_axis(v.as_i64()?, rank).ok();
            match value.as_array() {
                Some(items) => items.iter().map(one).collect(),
                None => Some(vec![one(&value)?]),
            }
        };
        super::arrays::moved(rank, &axes("source")?, &axes("destination")?)
    }
}

/// Whether it is Python's `...`, or brackets that hold it.
fn has_ellipsis<T>(argument: &Argument<T>) -> bool {
    match argument {
        Argument::Value(Value::Array(items)) => items.iter().any(is_ellipsis),
        Argument::Value(value) => is_ellipsis(value),
        Argument::List(items) => items.iter().any(has_ellipsis),
        _ => false,
    }
}

/// An index with as many whole slices as its ellipsis stands for, which not every file of Keras 2's can say; none where
/// there is none.
fn without_ellipsis<T: Clone>(key: Argument<T>, rank: usize) -> Option<Argument<T>> {
    let plain = |value: Value| match value {
        Value::Array(items) => items.into_iter().map(Argument::Value).collect(),
        one => vec![Argument::Value(one)],
    };
    let items = match key {
        Argument::List(items) => items,
        Argument::Value(value) => plain(value),
        _ => return None,
    };
    let at = items.iter().position(has_ellipsis)?;
    let is_new = |a: &Argument<T>| matches!(a, Argument::Value(Value::Null));
    let taken = items.iter().filter(|i| !is_new(i)).count() - 1;
    let whole = Argument::Value(json!({"start": null, "stop": null, "step": null}));
    let whole = vec![whole; rank.checked_sub(taken)?];
    let (before, after) = (items.get(..at)?, items.get(at + 1..)?);
    Some(Argument::List([before, &whole, after].concat()))
}

#[cfg(test)]
mod tests {
    use modelark_artifact::tensor::DType;

    use super::*;

    fn parts(operation: &Operation, keywords: &[(&str, Value)], keras3: bool) -> Vec<(String, Value)> {
        let args = [Argument::Tensor(0), Argument::Tensor(1)];
        let count = operation.arguments().iter().filter(|n| n.starts_with('x') || **n == "a" || **n == "b").count();
        let keywords: Vec<_> = keywords.iter().map(|(n, v)| ((*n).to_owned(), Argument::Value(v.clone()))).collect();
        let spec = |_: usize| Some(Spec::new([None, Some(4), Some(6)], DType::F32));
        let made = operation.parts(&args[..count.clamp(1, 2)], &keywords, keras3, &spec).unwrap_or_default();
        let options = |p: &OpPart<usize>| {
            let named = p.keywords.iter().filter_map(|(n, a)| Some((n.clone(), value_of(a)?)));
            Value::Object(named.chain(p.operation.options.clone()).collect())
        };
        made.iter().map(|p| (p.operation.name.clone(), options(p))).collect()
    }

    #[test]
    fn what_one_dialect_says_in_one_the_other_says_in_several() {
        let matmul = Operation { name: "linalg.matmul".into(), keras2: true, ..Operation::default() };
        let transposed = ("Transpose".to_owned(), json!({"axes": [0, 2, 1]}));
        let product = ("Matmul".to_owned(), json!({}));
        assert_eq!(parts(&matmul, &[("transpose_b", json!(true))], true), [transposed, product]);
        assert!(parts(&matmul, &[("transpose_b", json!(false))], true).is_empty());
        let options = json!({"source": 1, "destination": -1}).as_object().cloned().unwrap_or_default();
        let moved = Operation { options, ..Operation::of_keras3("keras.src.ops.numpy", "Moveaxis") };
        assert_eq!(parts(&moved, &[], false), [("transpose".to_owned(), json!({"perm": [0, 2, 1]}))]);
    }

    #[test]
    fn an_ellipsis_is_as_many_slices_as_it_stands_for() {
        let index = |items: Value| Argument::<usize>::Value(items);
        let whole = json!({"start": null, "stop": null, "step": null});
        let ellipsis = json!({"class_name": "__ellipsis__", "config": {}});
        let found = without_ellipsis(index(json!([null, ellipsis, 2])), 3).and_then(|k| value_of(&k));
        assert_eq!(found, Some(json!([null, whole, whole, 2])));
        assert!(without_ellipsis(index(json!([1, 2])), 3).is_none());
        assert!(without_ellipsis(index(json!([0, 1, ellipsis])), 1).is_none());
    }
}
