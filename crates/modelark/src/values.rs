//! What goes into a model and what comes out.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;

use modelark_artifact::{Error, Result, Structure};
use modelark_tensor::{Element, Tensor};
use ndarray::{ArrayBase, ArrayD, Data, Dimension};

/// The inputs of a call: by position, or by name.
#[derive(Debug, Clone)]
pub enum Inputs {
    /// In the model's order.
    Positional(Vec<Tensor>),
    /// By the names of the model's inputs.
    Named(Vec<(String, Tensor)>),
}

impl Inputs {
    /// The tensors in the order of `names`.
    ///
    /// # Errors
    /// When one is missing, or there are too many.
    pub(crate) fn in_order(self, names: &[&str]) -> Result<Vec<Tensor>> {
        let expected = || format!("the inputs are {}", list(names));
        match self {
            Inputs::Positional(tensors) if tensors.len() == names.len() => Ok(tensors),
            Inputs::Positional(tensors) => {
                Err(Error::invalid(format!("{} inputs were given; {}", tensors.len(), expected())))
            }
            Inputs::Named(mut tensors) => {
                let mut ordered = Vec::with_capacity(names.len());
                for name in names {
                    let at = tensors.iter().position(|(n, _)| n == name).ok_or_else(|| {
                        let given: Vec<&str> = tensors.iter().map(|(n, _)| n.as_str()).collect();
                        Error::invalid(format!("no input {name:?} was given, but {}", list(&given)))
                            .help(expected())
                    })?;
                    ordered.push(tensors.swap_remove(at).1);
                }
                match tensors.first() {
                    Some((extra, _)) => {
                        Err(Error::invalid(format!("there is no input {extra:?}; {}", expected())))
                    }
                    None => Ok(ordered),
                }
            }
        }
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ")
}

impl From<Tensor> for Inputs {
    fn from(t: Tensor) -> Self {
        Inputs::Positional(vec![t])
    }
}

impl From<&Tensor> for Inputs {
    fn from(t: &Tensor) -> Self {
        Inputs::Positional(vec![t.clone()])
    }
}

impl From<Vec<Tensor>> for Inputs {
    fn from(tensors: Vec<Tensor>) -> Self {
        Inputs::Positional(tensors)
    }
}

impl From<Vec<(String, Tensor)>> for Inputs {
    fn from(tensors: Vec<(String, Tensor)>) -> Self {
        Inputs::Named(tensors)
    }
}

impl<const N: usize> From<[Tensor; N]> for Inputs {
    fn from(tensors: [Tensor; N]) -> Self {
        Inputs::Positional(tensors.into())
    }
}

impl<const N: usize> From<[(&str, Tensor); N]> for Inputs {
    fn from(tensors: [(&str, Tensor); N]) -> Self {
        Inputs::Named(tensors.into_iter().map(|(n, t)| (n.to_owned(), t)).collect())
    }
}

impl<T: Element, S: Data<Elem = T>, D: Dimension> From<&ArrayBase<S, D>> for Inputs {
    fn from(array: &ArrayBase<S, D>) -> Self {
        Inputs::Positional(vec![Tensor::from(array)])
    }
}

/// The outputs of a call in the model's order, with their names.
#[derive(Debug, Clone)]
pub struct Outputs(pub(crate) Vec<(String, Tensor)>);

impl Outputs {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(n, t)| (n.as_str(), t))
    }

    /// The output of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.iter().find(|(n, _)| *n == name).map(|(_, t)| t)
    }

    /// The only output.
    ///
    /// # Errors
    /// When there are several, or none.
    pub fn single(&self) -> Result<&Tensor> {
        match &*self.0 {
            [(_, one)] => Ok(one),
            all => Err(Error::invalid(format!("there are {} outputs, not one", all.len()))
                .help("ask for one by its name or index")),
        }
    }

    /// The elements of the only output as an array.
    ///
    /// # Errors
    /// When there are several outputs, or `T` isn't the dtype's type.
    pub fn array<T: Element>(&self) -> Result<ArrayD<T>> {
        Ok(self.single()?.to_array()?)
    }

    /// The tensors in order, without names.
    pub fn into_tensors(self) -> Vec<Tensor> {
        self.0.into_iter().map(|(_, t)| t).collect()
    }
}

impl Index<usize> for Outputs {
    type Output = Tensor;

    fn index(&self, index: usize) -> &Tensor {
        &self.0[index].1
    }
}

impl IntoIterator for Outputs {
    type Item = (String, Tensor);
    type IntoIter = std::vec::IntoIter<(String, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// An argument of a function that was restored from a file: a tensor, a plain value, or a nest of them.
#[derive(Debug, Clone)]
pub enum Argument {
    /// A tensor.
    Tensor(Tensor),
    /// A plain value: `None`, a boolean, a number, text.
    Plain(Structure),
    /// A list or a tuple.
    Sequence(Vec<Argument>),
    /// A dict.
    Dict(BTreeMap<String, Argument>),
}

impl Argument {
    /// The tensors of this argument in TensorFlow's order, if it is what `wanted` describes.
    pub(crate) fn flatten_as(&self, wanted: &Structure, into: &mut Vec<Tensor>) -> bool {
        match (self, wanted) {
            (Argument::Tensor(t), Structure::Tensor { shape, dtype, .. }) => {
                into.push(t.clone());
                t.dtype() == *dtype && shape.matches(t.shape())
            }
            (Argument::Plain(value), wanted) => value == wanted,
            (Argument::Sequence(items), Structure::List(wanted) | Structure::Tuple(wanted)) => {
                items.len() == wanted.len() && items.iter().zip(wanted).all(|(a, w)| a.flatten_as(w, into))
            }
            (Argument::Sequence(items), Structure::NamedTuple { fields, .. }) => {
                items.len() == fields.len()
                    && items.iter().zip(fields).all(|(a, (_, w))| a.flatten_as(w, into))
            }
            (Argument::Dict(items), Structure::Dict(wanted)) => {
                items.len() == wanted.len()
                    && wanted.iter().all(|(k, w)| items.get(k).is_some_and(|a| a.flatten_as(w, into)))
            }
            _ => false,
        }
    }
}

impl fmt::Display for Argument {
    /// The structure with dtypes and shapes, not the elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Argument::Tensor(t) => write!(f, "{}{:?}", t.dtype(), t.shape()),
            Argument::Plain(value) => f.write_str(&describe(value)),
            Argument::Sequence(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Argument::Dict(items) => {
                let items: Vec<String> = items.iter().map(|(k, v)| format!("{k}: {v}")).collect();
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

    fn t(v: f32) -> Tensor {
        Tensor::scalar(v)
    }

    #[test]
    fn inputs_are_ordered_by_name() {
        let inputs = Inputs::from([("b", t(2.0)), ("a", t(1.0))]);
        let ordered = inputs.clone().in_order(&["a", "b"]).expect("both are there");
        assert_eq!(ordered[0].item::<f32>().expect("f32"), 1.0);
        assert!(inputs.clone().in_order(&["a"]).expect_err("one too many").to_string().contains("\"b\""));
        assert!(inputs.in_order(&["a", "c"]).expect_err("missing").to_string().contains("\"c\""));
        assert!(Inputs::from(t(1.0)).in_order(&["a", "b"]).is_err());
    }

    #[test]
    fn arguments_match_structures() {
        let spec =
            Structure::Tensor { name: String::new(), shape: Default::default(), dtype: t(0.0).dtype() };
        let wanted = Structure::Tuple(vec![spec, Structure::Bool(false)]);
        let mut flat = Vec::new();
        assert!(Argument::Sequence(vec![t(1.0).into(), false.into()]).flatten_as(&wanted, &mut flat));
        assert_eq!(flat.len(), 1);
        assert!(!Argument::Sequence(vec![t(1.0).into(), true.into()]).flatten_as(&wanted, &mut Vec::new()));
        assert_eq!(describe(&wanted), "(float32<unknown>, False)");
    }
}
