//! Plain values of configs: numbers, text, lists, shapes.

use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result, number, number_value};
use serde_json::{Value, json};

use super::{ConfigValue, Reader, Writer};

/// A value that isn't what a field takes.
pub(crate) fn expected(what: &str, value: &Value) -> Error {
    const SHOWN: usize = 80;
    let mut text = value.to_string();
    if text.chars().count() > SHOWN {
        text = text.chars().take(SHOWN).chain("..".chars()).collect();
    }
    Error::corrupt(format!("expected {what}, got {text}"))
}

/// The number itself: Keras 2 wraps those that came from NumPy.
fn unwrapped(value: &Value) -> &Value {
    match value.get("class_name").and_then(Value::as_str) {
        Some("__numpy__" | "__tensor__") => value.pointer("/config/value").unwrap_or(value),
        _ if value.get("type").and_then(Value::as_str) == Some("ndarray") => {
            value.get("value").unwrap_or(value)
        }
        _ => value,
    }
}

fn integer(value: &Value) -> Option<i64> {
    let value = unwrapped(value);
    value.as_i64().or_else(|| {
        let float = value.as_f64()?;
        (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
    })
}

impl ConfigValue for bool {
    fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
        value.as_bool().or_else(|| Some(integer(value)? != 0)).ok_or_else(|| expected("true or false", value))
    }

    fn write(&self, _: &mut Writer) -> Value {
        json!(self)
    }
}

impl ConfigValue for usize {
    fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
        integer(value)
            .and_then(|i| usize::try_from(i).ok())
            .ok_or_else(|| expected("an integer that isn't negative", value))
    }

    fn write(&self, _: &mut Writer) -> Value {
        json!(self)
    }
}

impl ConfigValue for i64 {
    fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
        integer(value).ok_or_else(|| expected("an integer", value))
    }

    fn write(&self, _: &mut Writer) -> Value {
        json!(self)
    }
}

impl ConfigValue for f64 {
    fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
        match unwrapped(value) {
            Value::String(s) => match s.as_str() {
                "Infinity" | "inf" => Some(f64::INFINITY),
                "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
                "NaN" | "nan" => Some(f64::NAN),
                _ => number(value),
            },
            Value::Array(one) if one.len() == 1 => one.first().and_then(Value::as_f64),
            other => number(other),
        }
        .ok_or_else(|| expected("a number", value))
    }

    fn write(&self, _: &mut Writer) -> Value {
        number_value(*self)
    }
}

impl ConfigValue for String {
    fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
        value.as_str().map(str::to_owned).ok_or_else(|| expected("text", value))
    }

    fn write(&self, _: &mut Writer) -> Value {
        json!(self)
    }
}

impl ConfigValue for Value {
    fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
        Ok(value.clone())
    }

    fn write(&self, _: &mut Writer) -> Value {
        self.clone()
    }
}

impl ConfigValue for DType {
    fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
        let name = value.as_str().ok_or_else(|| expected("a dtype's name", value))?;
        Ok(name.strip_prefix("tf.").unwrap_or(name).parse()?)
    }

    fn write(&self, _: &mut Writer) -> Value {
        json!(self.name())
    }
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    fn read(value: &Value, reader: &Reader<'_>) -> Result<Self> {
        if value.is_null() { Ok(None) } else { T::read(value, reader).map(Some) }
    }

    fn write(&self, writer: &mut Writer) -> Value {
        self.as_ref().map_or(Value::Null, |v| v.write(writer))
    }
}

impl<T: ConfigValue> ConfigValue for Vec<T> {
    fn read(value: &Value, reader: &Reader<'_>) -> Result<Self> {
        let items = value.as_array().ok_or_else(|| expected("a list", value))?;
        items
            .iter()
            .enumerate()
            .map(|(i, v)| T::read(v, reader).map_err(|e| e.at(format!("item {i}"))))
            .collect()
    }

    fn write(&self, writer: &mut Writer) -> Value {
        self.iter().map(|v| v.write(writer)).collect()
    }
}

/// One size for each of `N` spatial dimensions: a number for all of them, or a list.
impl<const N: usize> ConfigValue for [f64; N] {
    fn read(value: &Value, reader: &Reader<'_>) -> Result<Self> {
        Vec::<f64>::read(value, reader)?.try_into().map_err(|_| expected(&format!("{N} numbers"), value))
    }

    fn write(&self, writer: &mut Writer) -> Value {
        self.to_vec().write(writer)
    }
}

impl<const N: usize> ConfigValue for [usize; N] {
    fn read(value: &Value, reader: &Reader<'_>) -> Result<Self> {
        if integer(value).is_some() {
            return Ok([usize::read(value, reader)?; N]);
        }
        let what = || expected(&format!("a number or a list of {N}"), value);
        Vec::<usize>::read(value, reader)?.try_into().map_err(|_| what())
    }

    fn write(&self, _: &mut Writer) -> Value {
        json!(self.as_slice())
    }
}

/// A pair for each of `N` spatial dimensions, such as paddings before and after: `[[1, 2], [3, 4]]`, or `[1, 3]` for
/// equal ones, or one number for all.
impl<const N: usize> ConfigValue for [(usize, usize); N] {
    fn read(value: &Value, reader: &Reader<'_>) -> Result<Self> {
        if integer(value).is_some() {
            let one = usize::read(value, reader)?;
            return Ok([(one, one); N]);
        }
        let what = || expected(&format!("a number, a list of {N}, or a list of {N} pairs"), value);
        let items = value.as_array().ok_or_else(what)?;
        // For one dimension a pair stands alone: `[1, 2]`.
        if N == 1 && items.len() == 2 && items.iter().all(|i| integer(i).is_some()) {
            let [a, b] = <[usize; 2]>::read(value, reader)?;
            return Ok([(a, b); N]);
        }
        let pairs: Vec<(usize, usize)> = items
            .iter()
            .map(|i| <[usize; 2]>::read(i, reader).map(|[a, b]| (a, b)))
            .collect::<Result<_>>()?;
        pairs.try_into().map_err(|_| what())
    }

    fn write(&self, _: &mut Writer) -> Value {
        if let ([(a, b)], 1) = (self.as_slice(), N) {
            return json!([a, b]);
        }
        self.iter().map(|(a, b)| json!([a, b])).collect()
    }
}

/// One value or a list of them, written as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed<T> {
    /// The values.
    pub items: Vec<T>,
    /// Whether there was one alone, without a list around it.
    pub alone: bool,
}

impl<T> From<Vec<T>> for Listed<T> {
    fn from(items: Vec<T>) -> Self {
        Listed { items, alone: false }
    }
}

impl<T: ConfigValue> ConfigValue for Listed<T> {
    fn read(value: &Value, reader: &Reader<'_>) -> Result<Self> {
        Ok(match value {
            Value::Array(_) => Vec::read(value, reader)?.into(),
            one => Listed { items: vec![T::read(one, reader)?], alone: true },
        })
    }

    fn write(&self, writer: &mut Writer) -> Value {
        match &self.items[..] {
            [one] if self.alone => one.write(writer),
            all => all.iter().map(|v| v.write(writer)).collect(),
        }
    }
}

/// One axis or several: `-1`, `[3]`, `[1, 2]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axes {
    /// The axes, negative ones counted from the end.
    pub axes: Vec<i64>,
    /// Whether a single one is written as a list.
    pub listed: bool,
}

impl Axes {
    /// A single axis, written as a number.
    pub fn one(axis: i64) -> Self {
        Axes { axes: vec![axis], listed: false }
    }

    /// The axes resolved for a tensor of `rank` dimensions, sorted.
    ///
    /// # Errors
    /// When one is out of range.
    pub fn resolve(&self, rank: usize) -> Result<Vec<usize>> {
        let mut axes = self.axes.iter().map(|&a| resolve_axis(a, rank)).collect::<Result<Vec<_>>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }
}

/// The index of `axis` in a tensor of `rank` dimensions; negative axes count from the end.
///
/// # Errors
/// When it is out of range.
pub fn resolve_axis(axis: i64, rank: usize) -> Result<usize> {
    let at = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(at)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| Error::mismatch(format!("axis {axis} of a tensor with {rank} dimensions")))
}

impl ConfigValue for Axes {
    fn read(value: &Value, reader: &Reader<'_>) -> Result<Self> {
        match integer(value) {
            Some(axis) => Ok(Axes::one(axis)),
            None => Ok(Axes { axes: Vec::read(value, reader)?, listed: true }),
        }
    }

    fn write(&self, _: &mut Writer) -> Value {
        match self.axes.as_slice() {
            [one] if !self.listed => json!(one),
            all => json!(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Dialect;

    use super::*;
    use crate::Registry;

    fn check<T: ConfigValue + PartialEq + std::fmt::Debug>(
        json: Value,
        wanted: T,
        keras2: Value,
        keras3: Value,
    ) {
        let registry = Registry::default();
        let reader = Reader::new(Dialect::Keras3, &registry);
        let value = T::read(&json, &reader).unwrap();
        assert_eq!(value, wanted);
        assert_eq!(value.write(&mut Writer::new(Dialect::Keras2)), keras2);
        assert_eq!(value.write(&mut Writer::new(Dialect::Keras3)), keras3);
    }

    #[test]
    fn every_form_is_read() {
        check(json!(2.0), 2usize, json!(2), json!(2));
        check(
            json!({"class_name": "__numpy__", "config": {"value": 0.5, "dtype": "float32"}}),
            0.5,
            json!(0.5),
            json!(0.5),
        );
        check(json!(3), [3usize, 3], json!([3, 3]), json!([3, 3]));
        check(json!([[1, 2], [3, 4]]), [(1, 2), (3, 4)], json!([[1, 2], [3, 4]]), json!([[1, 2], [3, 4]]));
        check(json!([1, 3]), [(1, 1), (3, 3)], json!([[1, 1], [3, 3]]), json!([[1, 1], [3, 3]]));
        check(json!([1, 3]), [(1, 3)], json!([1, 3]), json!([1, 3]));
        check(json!([3]), Axes { axes: vec![3], listed: true }, json!([3]), json!([3]));
        check(json!(-1), Axes::one(-1), json!(-1), json!(-1));
        check(json!(null), None::<i64>, json!(null), json!(null));
    }

    #[test]
    fn wrong_forms_are_refused() {
        let registry = Registry::default();
        let reader = Reader::new(Dialect::Keras3, &registry);
        assert!(usize::read(&json!(-1), &reader).is_err());
        assert!(<[usize; 2]>::read(&json!([1, 2, 3]), &reader).is_err());
        assert!(Vec::<i64>::read(&json!([1, "x"]), &reader).unwrap_err().to_string().contains("item 1"));
        assert!(resolve_axis(2, 2).is_err() && resolve_axis(-3, 2).is_err());
    }
}
