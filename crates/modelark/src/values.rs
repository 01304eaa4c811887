//! What goes into a model and what comes out.

use std::ops::Index;
use std::sync::Arc;

use modelark_artifact::{Error, Result};
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
    /// The tensors in the order of `names`, each of which may have another name beside its own. `expected` says for a
    /// message what is taken.
    ///
    /// # Errors
    /// When one is missing, or there are too many.
    pub(crate) fn in_order(
        self,
        names: &[(&str, &str)],
        expected: impl Fn() -> String,
    ) -> Result<Vec<Tensor>> {
        match self {
            Inputs::Positional(tensors) if tensors.len() == names.len() => Ok(tensors),
            Inputs::Positional(tensors) => Err(count(tensors.len(), names.len()).help(expected())),
            Inputs::Named(mut tensors) => {
                let mut ordered = Vec::with_capacity(names.len());
                for (name, alias) in names {
                    let at = tensors.iter().position(|(n, _)| n == name);
                    let at =
                        at.or_else(|| tensors.iter().position(|(n, _)| n == alias)).ok_or_else(|| {
                            let given: Vec<&str> = tensors.iter().map(|(n, _)| n.as_str()).collect();
                            let given =
                                if given.is_empty() { "nothing else".to_owned() } else { list(&given) };
                            Error::invalid(format!("no input {name:?} was given, but {given}"))
                                .help(expected())
                        })?;
                    ordered.push(tensors.swap_remove(at).1);
                }
                match tensors.first() {
                    Some((extra, _)) => {
                        Err(Error::invalid(format!("there is no input {extra:?}")).help(expected()))
                    }
                    None => Ok(ordered),
                }
            }
        }
    }
}

/// Says that so many inputs were given where others are wanted.
pub(crate) fn count(given: usize, wanted: usize) -> Error {
    let were = if given == 1 { "input was" } else { "inputs were" };
    Error::invalid(format!("{given} {were} given, not {wanted}"))
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
pub struct Outputs {
    names: Arc<[String]>,
    tensors: Vec<Tensor>,
}

impl Outputs {
    /// Tensors with the names that an endpoint gives them.
    pub(crate) fn new(names: Arc<[String]>, tensors: Vec<Tensor>) -> Self {
        Outputs { names, tensors }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.names.iter().map(String::as_str).zip(&self.tensors)
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
        match &*self.tensors {
            [one] => Ok(one),
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
        self.tensors
    }
}

impl Index<usize> for Outputs {
    type Output = Tensor;

    fn index(&self, index: usize) -> &Tensor {
        &self.tensors[index]
    }
}

impl IntoIterator for Outputs {
    type Item = (String, Tensor);
    type IntoIter = std::vec::IntoIter<(String, Tensor)>;

    fn into_iter(self) -> Self::IntoIter {
        let named: Vec<_> = self.names.iter().cloned().zip(self.tensors).collect();
        named.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_ordered_by_name() {
        let t = |v: f32| Tensor::scalar(v);
        let inputs = Inputs::from([("b", t(2.0)), ("a", t(1.0))]);
        let none = || "it takes no inputs".to_owned();
        let ordered = inputs.clone().in_order(&[("a", ""), ("x", "b")], none).expect("both are there");
        assert_eq!(ordered[0].item::<f32>().expect("f32"), 1.0);
        let error =
            |names: &[(&str, &str)]| inputs.clone().in_order(names, none).expect_err("wrong").to_string();
        assert!(error(&[("a", "")]).contains("\"b\""));
        assert!(error(&[("a", ""), ("c", "")]).contains("\"c\""));
        assert!(error(&[]).contains("it takes no inputs"));
        assert!(Inputs::from(t(1.0)).in_order(&[("a", ""), ("b", "")], none).is_err());
    }
}
