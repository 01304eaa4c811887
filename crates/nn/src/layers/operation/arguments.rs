//! The arguments of an op between layers, whatever a dialect calls them.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::{Bool, DType, Tensor};
use modelark_artifact::{Error, Result};
use serde_json::{Map, Value};

use crate::config::{expected, plain, resolve_axis};
use crate::{Argument, Call};

/// The arguments of an op while it is traced, by the names that Keras 3 has for them.
pub(super) struct Args<'c, 'a> {
    pub call: &'c mut Call<'a>,
    pub given: &'c [Sym],
    pub named: Vec<(&'static str, Argument<usize>)>,
    /// Whether constants and dtypes follow Keras 2, where the op is one of TensorFlow's own functions.
    pub keras2: bool,
}

impl Args<'_, '_> {
    /// The argument, unless it is absent or `None`.
    pub fn find(&self, name: &str) -> Option<&Argument<usize>> {
        let found = self.named.iter().find(|(n, _)| *n == name).map(|(_, a)| a);
        found.filter(|a| !matches!(a, Argument::Value(Value::Null)))
    }

    fn missing(name: &str) -> Error {
        Error::missing(format!("the op has no argument {name:?}"))
    }

    /// The plain value of an argument without tensors.
    pub fn value(&self, name: &str) -> Option<Value> {
        value_of(self.find(name)?)
    }

    /// An integer.
    pub fn int(&self, name: &str) -> Option<i64> {
        let value = self.value(name)?;
        value.as_i64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0).map(|f| f as i64))
    }

    /// A number.
    pub fn float(&self, name: &str) -> Option<f64> {
        self.value(name)?.as_f64()
    }

    /// Whether it is given and true.
    pub fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            Some(Value::Bool(b)) => b,
            Some(Value::Number(n)) => n.as_f64() != Some(0.0),
            _ => false,
        }
    }

    /// Text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.value(name)?.as_str().map(str::to_owned)
    }

    /// A dtype by name.
    pub fn dtype(&self, name: &str) -> Result<Option<DType>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let text = value.as_str().or_else(|| value.pointer("/config/name").and_then(Value::as_str));
        let text = text.ok_or_else(|| expected("a dtype's name", &value))?;
        Ok(Some(text.strip_prefix("tf.").unwrap_or(text).parse()?))
    }

    /// One integer or several.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let one = |v: &Value| v.as_i64().or_else(|| v.as_f64().map(|f| f as i64));
        let ints = match &value {
            Value::Array(items) => items.iter().map(|v| if v.is_null() { Some(-1) } else { one(v) }).collect(),
            other => one(other).map(|v| vec![v]),
        };
        ints.map(Some).ok_or_else(|| expected("integers", &value).at(name.to_owned()))
    }

    /// The axes that an argument names, resolved; all of the tensor's for none.
    pub fn axes(&self, name: &str, rank: usize) -> Result<Vec<i64>> {
        match self.ints(name)? {
            Some(axes) => axes.iter().map(|&a| Ok(resolve_axis(a, rank)? as i64)).collect(),
            None => Ok((0..rank as i64).collect()),
        }
    }

    /// The axis that an argument names, resolved, or this one.
    pub fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize> {
        resolve_axis(self.int(name).unwrap_or(default), rank)
    }

    /// A tensor; a constant as it is.
    pub fn tensor(&mut self, name: &str) -> Result<Sym> {
        self.maybe(name)?.ok_or_else(|| Self::missing(name))
    }

    /// A tensor, if the argument is there.
    pub fn maybe(&mut self, name: &str) -> Result<Option<Sym>> {
        match self.find(name).cloned() {
            Some(argument) => self.make(&argument, None).map(Some),
            None => Ok(None),
        }
    }

    /// A tensor; numbers take the dtype of `like`.
    pub fn like(&mut self, name: &str, like: Sym) -> Result<Sym> {
        let argument = self.find(name).cloned().ok_or_else(|| Self::missing(name))?;
        let dtype = self.call.dtype(like);
        let made = self.make(&argument, Some(dtype))?;
        self.call.cast(made, dtype)
    }

    /// A tensor; numbers take this dtype, where it is known.
    pub fn typed(&mut self, name: &str, dtype: Option<DType>) -> Result<Sym> {
        let argument = self.find(name).cloned().ok_or_else(|| Self::missing(name))?;
        self.make(&argument, dtype)
    }

    /// A tensor as `int32`.
    pub fn indices(&mut self, name: &str) -> Result<Sym> {
        let argument = self.find(name).cloned().ok_or_else(|| Self::missing(name))?;
        let made = self.make(&argument, Some(DType::I32))?;
        if self.call.dtype(made) == DType::I64 { Ok(made) } else { self.call.cast(made, DType::I32) }
    }

    /// The tensors of a list; one tensor alone is a list of one.
    pub fn list(&mut self, name: &str) -> Result<Vec<Sym>> {
        let Some(argument) = self.find(name).cloned() else { return Err(Self::missing(name)) };
        let first = argument.tensors().first().and_then(|&i| self.given.get(i)).copied();
        let like = first.map(|x| self.call.dtype(x));
        match argument {
            Argument::List(items) => items.iter().map(|i| self.make(i, like)).collect(),
            one => Ok(vec![self.make(&one, like)?]),
        }
    }

    /// A shape: a tensor, or a list of numbers and tensors.
    pub fn shape(&mut self, name: &str) -> Result<Sym> {
        if let Some(shape) = self.ints(name)? {
            return self.call.ints(&shape);
        }
        match self.find(name).cloned() {
            Some(Argument::List(items)) => {
                let mut extents = Vec::with_capacity(items.len());
                for item in &items {
                    let extent = self.make(item, Some(DType::I32))?;
                    extents.push(self.call.cast(extent, DType::I32)?);
                }
                self.call.shape(&extents)
            }
            Some(one) => {
                let made = self.make(&one, Some(DType::I32))?;
                self.call.cast(made, DType::I32)
            }
            None => Err(Self::missing(name)),
        }
    }

    /// Two tensors of one dtype, as Keras promotes them; numbers take the tensor's.
    pub fn pair(&mut self, first: &str, second: &str) -> Result<[Sym; 2]> {
        let is_tensor = |a: Option<&Argument<usize>>| a.is_some_and(|a| !a.tensors().is_empty());
        let tensors = [is_tensor(self.find(first)), is_tensor(self.find(second))];
        match tensors {
            [true, false] => {
                let a = self.tensor(first)?;
                let a = self.fitted(a, second)?;
                Ok([a, self.like(second, a)?])
            }
            [false, true] => {
                let b = self.tensor(second)?;
                let b = self.fitted(b, first)?;
                Ok([self.like(first, b)?, b])
            }
            _ => {
                let (a, b) = (self.tensor(first)?, self.tensor(second)?);
                let dtype = promote(self.call.dtype(a), self.call.dtype(b));
                Ok([self.call.cast(a, dtype)?, self.call.cast(b, dtype)?])
            }
        }
    }

    /// A tensor as it goes with a number: integers become floats beside a fraction.
    fn fitted(&mut self, x: Sym, number: &str) -> Result<Sym> {
        let dtype = self.call.dtype(x);
        let fraction = self.value(number).is_some_and(|v| v.is_f64() && !self.keras2);
        let boolean = dtype == DType::Bool && self.value(number).is_some_and(|v| v.is_number());
        match is_whole(dtype) && (fraction || boolean) {
            true => self.call.cast(x, if fraction { DType::F32 } else { DType::I32 }),
            false => Ok(x),
        }
    }

    /// A tensor as floats: what Keras 3 does with integers where a function gives fractions.
    pub fn float_tensor(&mut self, name: &str) -> Result<Sym> {
        let x = self.tensor(name)?;
        if is_whole(self.call.dtype(x)) { self.call.cast(x, DType::F32) } else { Ok(x) }
    }

    /// Two tensors of one dtype, as floats.
    pub fn float_pair(&mut self, first: &str, second: &str) -> Result<[Sym; 2]> {
        let [a, b] = self.pair(first, second)?;
        if !is_whole(self.call.dtype(a)) {
            return Ok([a, b]);
        }
        Ok([self.call.cast(a, DType::F32)?, self.call.cast(b, DType::F32)?])
    }

    fn make(&mut self, argument: &Argument<usize>, like: Option<DType>) -> Result<Sym> {
        match argument {
            Argument::Tensor(i) => {
                self.given.get(*i).copied().ok_or_else(|| Error::mismatch(format!("tensor {i} isn't given")))
            }
            Argument::List(items) if argument.tensors().is_empty() => {
                let items: Option<Vec<Value>> = items.iter().map(value_of).collect();
                self.constant(&Value::Array(items.unwrap_or_default()), like)
            }
            // A list with tensors among its items is a tensor of them.
            Argument::List(items) => {
                let first = argument.tensors().first().and_then(|&i| self.given.get(i)).copied();
                let like = first.map(|x| self.call.dtype(x)).or(like);
                let parts = items.iter().map(|i| self.make(i, like)).collect::<Result<Vec<_>>>()?;
                self.call.shape(&parts)
            }
            Argument::Value(value) => self.constant(value, like),
            Argument::Dict(_) => Err(Error::unsupported("a dict where a tensor is expected")),
        }
    }

    fn constant(&mut self, value: &Value, like: Option<DType>) -> Result<Sym> {
        let (value, dtype) = unpacked(value)?;
        let (mut shape, mut flat) = (Vec::new(), Vec::new());
        flatten(&value, 0, &mut shape, &mut flat)?;
        let dtype = dtype.or(like.filter(|d| !d.is_integer() || flat.iter().all(|v| !v.is_f64())));
        let tensor = constant(&flat, &shape, dtype.filter(|d| *d != DType::String))?;
        self.call.constant(tensor)
    }
}

/// An argument without tensors as a plain value.
pub(super) fn value_of<T>(argument: &Argument<T>) -> Option<Value> {
    Some(match argument {
        Argument::Tensor(_) => return None,
        Argument::Value(value) => value.clone(),
        Argument::List(items) => Value::Array(items.iter().map(value_of).collect::<Option<_>>()?),
        Argument::Dict(items) => {
            let items = items.iter().map(|(k, v)| Some((k.clone(), value_of(v)?)));
            Value::Object(items.collect::<Option<Map<_, _>>>()?)
        }
    })
}

/// What Keras wraps a constant in, taken off, with the dtype that it says.
fn unpacked(value: &Value) -> Result<(Value, Option<DType>)> {
    let dtype = |v: Option<&Value>| v.and_then(Value::as_str).map(str::parse::<DType>).transpose();
    Ok(match value.get("class_name").and_then(Value::as_str) {
        Some("__tensor__" | "__numpy__") => {
            let inner = value.pointer("/config/value").cloned().unwrap_or_default();
            (inner, dtype(value.pointer("/config/dtype"))?)
        }
        Some(other) => return Err(Error::unsupported(format!("a constant of class {other:?}"))),
        None if value.get("type").and_then(Value::as_str) == Some("ndarray") => {
            (value.get("value").cloned().unwrap_or_default(), None)
        }
        None => (plain(value).into_owned(), None),
    })
}

fn flatten(value: &Value, depth: usize, shape: &mut Vec<usize>, flat: &mut Vec<Value>) -> Result<()> {
    let Value::Array(items) = value else {
        flat.push(value.clone());
        return if depth == shape.len() { Ok(()) } else { Err(Error::corrupt("a constant of uneven rows")) };
    };
    match shape.get(depth) {
        None if depth == shape.len() && flat.is_empty() => shape.push(items.len()),
        Some(&extent) if extent == items.len() => {}
        _ => return Err(Error::corrupt("a constant of uneven rows")),
    }
    items.iter().try_for_each(|item| flatten(item, depth + 1, shape, flat))
}

/// A tensor of these values; of the dtype that Python's types mean where none is given.
fn constant(flat: &[Value], shape: &[usize], dtype: Option<DType>) -> Result<Tensor> {
    let number = |v: &Value| match v {
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        Value::String(s) if s == "Infinity" => Some(f64::INFINITY),
        Value::String(s) if s == "-Infinity" => Some(f64::NEG_INFINITY),
        Value::String(s) if s == "NaN" => Some(f64::NAN),
        other => other.as_f64(),
    };
    if dtype.is_none() && flat.iter().any(|v| v.as_str().is_some_and(|_| number(v).is_none())) {
        let texts: Option<Vec<&[u8]>> = flat.iter().map(|v| v.as_str().map(str::as_bytes)).collect();
        let texts = texts.ok_or_else(|| Error::corrupt("a constant of text and numbers"))?;
        return Ok(Tensor::from_strings(texts, shape)?);
    }
    let numbers = flat.iter().map(|v| number(v).ok_or_else(|| expected("a number", v)));
    let numbers = numbers.collect::<Result<Vec<f64>>>()?;
    let dtype = dtype.unwrap_or(match flat.first() {
        Some(Value::Bool(_)) => DType::Bool,
        Some(_) if flat.iter().all(|v| v.is_i64() || v.is_u64()) => DType::I32,
        _ => DType::F32,
    });
    if dtype == DType::I64 {
        let exact = flat.iter().zip(&numbers).map(|(v, n)| v.as_i64().unwrap_or(*n as i64));
        return Ok(Tensor::from_vec(exact.collect::<Vec<_>>(), shape)?);
    }
    if dtype == DType::Bool {
        let values: Vec<Bool> = numbers.iter().map(|n| Bool::from(*n != 0.0)).collect();
        return Ok(Tensor::from_vec(values, shape)?);
    }
    crate::config::numbers(&numbers, shape, dtype)
}

/// Whether a dtype has no fractions, so that Keras makes floats of it where a function gives some.
pub(super) fn is_whole(dtype: DType) -> bool {
    dtype.is_integer() || dtype == DType::Bool
}

/// The dtype in which Keras computes with two.
pub(super) fn promote(a: DType, b: DType) -> DType {
    let size = |d: DType| d.size().unwrap_or(0);
    match (a, b) {
        _ if a == b => a,
        (DType::Bool, other) | (other, DType::Bool) => other,
        _ if a.is_float() && b.is_float() => match (size(a), size(b)) {
            (2, 2) => DType::F32,
            (x, y) if x >= y => a,
            _ => b,
        },
        _ if a.is_float() => a,
        _ if b.is_float() => b,
        _ if a.is_integer() && b.is_integer() && size(b) > size(a) => b,
        _ => a,
    }
}
