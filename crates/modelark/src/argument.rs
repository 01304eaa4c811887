//! The arguments of a function as Python would give them.

use std::collections::BTreeMap;
use std::fmt;

use modelark_artifact::Structure;
use modelark_tensor::kernels::array::cast;
use modelark_tensor::{DType, PartialShape, Tensor};

/// An argument of a function that was restored from a file: a tensor, a plain value, or a nest of them.
#[derive(Debug, Clone)]
pub enum Argument {
    /// A tensor.
    Tensor(Tensor),
    /// A ragged tensor (TensorFlow: `tf.RaggedTensor.from_nested_row_splits`).
    Ragged {
        /// The values of all rows.
        values: Tensor,
        /// Where the rows begin and end, of the outermost dimension first.
        row_splits: Vec<Tensor>,
    },
    /// A sparse tensor (TensorFlow: `tf.SparseTensor`).
    Sparse {
        /// Where the values are: a row of `int64` for each.
        indices: Tensor,
        /// The values.
        values: Tensor,
        /// The shape, as `int64`.
        dense_shape: Tensor,
    },
    /// A plain value: `None`, a boolean, a number, text. Where the function takes a tensor, it becomes one.
    Plain(Structure),
    /// A list, a tuple, or a named tuple's fields in order.
    Sequence(Vec<Argument>),
    /// A dict, or a named tuple's fields by name.
    Dict(BTreeMap<String, Argument>),
}

impl Argument {
    /// Python's `None`.
    pub fn none() -> Self {
        Argument::Plain(Structure::None)
    }

    /// Adds the tensors of this argument in TensorFlow's order, if it is what `wanted` describes; tells whether. With
    /// `convert`, plain values may become tensors.
    pub(crate) fn flatten_as(&self, wanted: &Structure, convert: bool, into: &mut Vec<Tensor>) -> bool {
        let mut parts = |tensors: &[&Tensor], wanted: &[Structure]| {
            into.extend(tensors.iter().map(|t| (*t).clone()));
            tensors.len() == wanted.len() && tensors.iter().zip(wanted).all(|(t, w)| is_of(t, w))
        };
        match (self, wanted) {
            (Argument::Tensor(t), Structure::Tensor { .. }) => parts(&[t], std::slice::from_ref(wanted)),
            (Argument::Tensor(t), Structure::Composite { components, .. }) => parts(&[t], components),
            (Argument::Ragged { values, row_splits }, Structure::Composite { class, components, .. }) => {
                let all: Vec<&Tensor> = std::iter::once(values).chain(row_splits).collect();
                class == "RaggedTensorSpec" && parts(&all, components)
            }
            (
                Argument::Sparse { indices, values, dense_shape },
                Structure::Composite { class, components, .. },
            ) => class == "SparseTensorSpec" && parts(&[indices, values, dense_shape], components),
            (Argument::Plain(_) | Argument::Sequence(_), Structure::Tensor { dtype, .. }) => {
                let made = if convert { self.to_tensor(*dtype) } else { None };
                made.is_some_and(|t| parts(&[&t], std::slice::from_ref(wanted)))
            }
            (Argument::Plain(value), wanted) => same(value, wanted),
            (Argument::Sequence(items), Structure::List(wanted) | Structure::Tuple(wanted)) => {
                items.len() == wanted.len()
                    && items.iter().zip(wanted).all(|(a, w)| a.flatten_as(w, convert, into))
            }
            (Argument::Sequence(items), Structure::NamedTuple { fields, .. }) => {
                items.len() == fields.len()
                    && items.iter().zip(fields).all(|(a, (_, w))| a.flatten_as(w, convert, into))
            }
            (Argument::Dict(items), Structure::NamedTuple { fields, .. }) => {
                let fits = |(k, w): &(String, Structure)| {
                    items.get(k).is_some_and(|a| a.flatten_as(w, convert, into))
                };
                items.len() == fields.len() && fields.iter().all(fits)
            }
            (Argument::Dict(items), Structure::Dict(wanted)) => {
                items.len() == wanted.len()
                    && wanted
                        .iter()
                        .all(|(k, w)| items.get(k).is_some_and(|a| a.flatten_as(w, convert, into)))
            }
            _ => false,
        }
    }

    /// Plain values as a tensor of this dtype (TensorFlow: `convert_to_tensor` with a hint); none where a value isn't
    /// one of the dtype's, or rows differ in length.
    fn to_tensor(&self, dtype: DType) -> Option<Tensor> {
        let mut shape = Vec::new();
        let mut at = self;
        while let Argument::Sequence(items) = at {
            shape.push(items.len());
            match items.first() {
                Some(first) => at = first,
                None => break,
            }
        }
        let mut leaves = Vec::new();
        self.leaves(&shape, &mut leaves)?;
        if dtype == DType::String {
            let texts: Option<Vec<&[u8]>> = leaves.iter().map(|v| text(v)).collect();
            return Tensor::from_strings(texts?, shape).ok();
        }
        let all = |is: fn(&Structure) -> bool| leaves.iter().all(|v| is(v));
        let tensor = if all(|v| matches!(v, Structure::Bool(_))) && dtype == DType::Bool {
            let values: Vec<i64> = leaves.iter().filter_map(|v| number(v)).map(|(i, _)| i).collect();
            Tensor::from_vec(values, shape).ok()?
        } else if all(|v| matches!(v, Structure::Int(_))) && dtype != DType::Bool {
            let values: Vec<i64> = leaves.iter().filter_map(|v| number(v)).map(|(i, _)| i).collect();
            Tensor::from_vec(values, shape).ok()?
        } else if all(|v| matches!(v, Structure::Int(_) | Structure::Float(_))) && dtype.is_float() {
            let values: Vec<f64> = leaves.iter().filter_map(|v| number(v)).map(|(_, x)| x).collect();
            Tensor::from_vec(values, shape).ok()?
        } else {
            return None;
        };
        let made = cast(&tensor, dtype).ok()?;
        // An integer that doesn't fit its dtype isn't one of its values.
        let fits = !dtype.is_integer() || cast(&made, tensor.dtype()).is_ok_and(|back| back.bit_eq(&tensor));
        fits.then_some(made)
    }

    fn leaves<'a>(&'a self, shape: &[usize], into: &mut Vec<&'a Structure>) -> Option<()> {
        match (self, shape) {
            (Argument::Plain(value), []) => into.push(value),
            (Argument::Sequence(items), [len, rest @ ..]) if items.len() == *len => {
                items.iter().try_for_each(|i| i.leaves(rest, into))?;
            }
            _ => return None,
        }
        Some(())
    }
}

/// Whether a tensor is of the dtype and shape that a spec asks for.
fn is_of(tensor: &Tensor, wanted: &Structure) -> bool {
    matches!(wanted, Structure::Tensor { shape, dtype, .. }
        if tensor.dtype() == *dtype && shape.matches(tensor.shape()))
}

/// A number in both of Python's kinds; booleans are numbers there.
fn number(value: &Structure) -> Option<(i64, f64)> {
    match value {
        Structure::Bool(b) => Some((i64::from(*b), f64::from(u8::from(*b)))),
        Structure::Int(i) => Some((*i, *i as f64)),
        Structure::Float(x) => Some((*x as i64, *x)),
        _ => None,
    }
}

fn text(value: &Structure) -> Option<&[u8]> {
    match value {
        Structure::String(s) => Some(s.as_bytes()),
        _ => None,
    }
}

/// Whether Python calls two plain values equal, for which `True`, `1` and `1.0` are one.
fn same(a: &Structure, b: &Structure) -> bool {
    match (number(a), number(b)) {
        (Some((i, x)), Some((j, y))) => i == j && x == y,
        _ => a == b,
    }
}

impl fmt::Display for Argument {
    /// The structure with dtypes and shapes, not the elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |t: &Tensor| format!("{}{}", t.dtype(), PartialShape::from(t.shape()));
        match self {
            Argument::Tensor(t) => f.write_str(&kind(t)),
            Argument::Ragged { values, row_splits } => {
                write!(f, "ragged {} with {} row splits", kind(values), row_splits.len())
            }
            Argument::Sparse { values, dense_shape, .. } => {
                write!(f, "sparse {} of rank {}", kind(values), dense_shape.len())
            }
            Argument::Plain(value) => f.write_str(&describe(value)),
            Argument::Sequence(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Argument::Dict(items) => {
                let items: Vec<String> = items.iter().map(|(k, v)| format!("{k:?}: {v}")).collect();
                write!(f, "{{{}}}", items.join(", "))
            }
        }
    }
}

impl From<Tensor> for Argument {
    fn from(t: Tensor) -> Self {
        Argument::Tensor(t)
    }
}

impl From<bool> for Argument {
    fn from(b: bool) -> Self {
        Argument::Plain(Structure::Bool(b))
    }
}

impl From<i64> for Argument {
    fn from(i: i64) -> Self {
        Argument::Plain(Structure::Int(i))
    }
}

impl From<f64> for Argument {
    fn from(x: f64) -> Self {
        Argument::Plain(Structure::Float(x))
    }
}

impl From<&str> for Argument {
    fn from(s: &str) -> Self {
        Argument::Plain(Structure::String(s.to_owned()))
    }
}

impl<T: Into<Argument>> From<Vec<T>> for Argument {
    fn from(items: Vec<T>) -> Self {
        Argument::Sequence(items.into_iter().map(Into::into).collect())
    }
}

/// A structure as one would write it in Python: `(float32(None, 3), training=False)`.
pub fn describe(structure: &Structure) -> String {
    let join = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    match structure {
        Structure::None => "None".to_owned(),
        Structure::Float(x) => x.to_string(),
        Structure::Int(i) => i.to_string(),
        Structure::String(s) => format!("{s:?}"),
        Structure::Bool(true) => "True".to_owned(),
        Structure::Bool(false) => "False".to_owned(),
        Structure::Shape(s) => s.to_string(),
        Structure::DType(d) => d.to_string(),
        Structure::Tensor { name, shape, dtype } if name.is_empty() => format!("{dtype}{shape}"),
        Structure::Tensor { name, shape, dtype } => format!("{name}: {dtype}{shape}"),
        Structure::Composite { class, components, .. } => {
            format!("{class}({})", join(&mut components.iter().map(describe)))
        }
        Structure::Other(_) => "<another type>".to_owned(),
        Structure::List(items) => format!("[{}]", join(&mut items.iter().map(describe))),
        Structure::Tuple(items) => format!("({})", join(&mut items.iter().map(describe))),
        Structure::Dict(items) => {
            format!("{{{}}}", join(&mut items.iter().map(|(k, v)| format!("{k:?}: {}", describe(v)))))
        }
        Structure::NamedTuple { name, fields } => {
            format!("{name}({})", join(&mut fields.iter().map(|(k, v)| format!("{k}={}", describe(v)))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dtype: DType, shape: PartialShape) -> Structure {
        Structure::Tensor { name: String::new(), shape, dtype }
    }

    fn fits(argument: &Argument, wanted: &Structure, convert: bool) -> bool {
        argument.flatten_as(wanted, convert, &mut Vec::new())
    }

    #[test]
    fn arguments_match_structures() {
        let any = spec(DType::F32, PartialShape::UNKNOWN);
        let wanted = Structure::Tuple(vec![any.clone(), Structure::Bool(false)]);
        let x = Argument::from(Tensor::scalar(1.0f32));
        let mut flat = Vec::new();
        assert!(Argument::Sequence(vec![x.clone(), false.into()]).flatten_as(&wanted, false, &mut flat));
        assert_eq!(flat.len(), 1);
        assert!(!fits(&Argument::Sequence(vec![x.clone(), true.into()]), &wanted, false));
        assert!(fits(&Argument::Sequence(vec![x.clone(), 0i64.into()]), &wanted, false), "0 == False");
        assert_eq!(describe(&wanted), "(float32<unknown>, False)");
        let point = Structure::NamedTuple { name: "Point".into(), fields: vec![("x".into(), any)] };
        assert!(fits(&Argument::Sequence(vec![x.clone()]), &point, false));
        assert!(fits(&Argument::Dict(BTreeMap::from([("x".to_owned(), x)])), &point, false));
    }

    #[test]
    fn plain_values_become_tensors_where_one_is_wanted() {
        let floats = spec(DType::F32, PartialShape::new([None, Some(2)]));
        let rows: Argument = vec![vec![1.0, 2.5], vec![3.0, 4.0]].into();
        assert!(fits(&rows, &floats, true) && !fits(&rows, &floats, false));
        assert!(fits(&vec![vec![1i64, 2]].into(), &floats, true), "integers are floats too");
        assert!(!fits(&Argument::Sequence(vec![vec![1i64, 2].into(), vec![3i64].into()]), &floats, true));
        let small = spec(DType::U8, PartialShape::scalar());
        assert!(fits(&200i64.into(), &small, true) && !fits(&300i64.into(), &small, true));
        assert!(!fits(&2.5.into(), &small, true) && !fits(&true.into(), &small, true));
        assert!(fits(&"text".into(), &spec(DType::String, PartialShape::scalar()), true));
    }

    #[test]
    fn composite_values_are_taken_apart() {
        let part = |name: &str, dtype| Structure::Tensor {
            name: name.into(),
            shape: PartialShape::new([None]),
            dtype,
        };
        let wanted = Structure::Composite {
            class: "RaggedTensorSpec".into(),
            components: vec![part("flat_values", DType::F32), part("row_splits_0", DType::I64)],
            written: Vec::new(),
        };
        let values = Tensor::from_vec(vec![1f32, 2.0], [2]).expect("tensor");
        let row_splits = vec![Tensor::from_vec(vec![0i64, 2], [2]).expect("tensor")];
        assert!(fits(&Argument::Ragged { values: values.clone(), row_splits }, &wanted, false));
        assert!(!fits(&Argument::Ragged { values: values.clone(), row_splits: Vec::new() }, &wanted, false));
        assert!(!fits(&values.into(), &wanted, false));
    }
}
