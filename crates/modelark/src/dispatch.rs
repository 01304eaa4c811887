//! Which trace of a function takes some arguments, chosen as TensorFlow does for functions restored from a file.

use std::collections::BTreeMap;

use modelark_artifact::{ConcreteFunction, FunctionObject, Structure};
use modelark_tensor::Tensor;

use crate::argument::{Argument, describe};

/// Arguments by position, and by name.
pub(crate) struct Call {
    pub(crate) positional: Vec<Argument>,
    pub(crate) keywords: BTreeMap<String, Argument>,
    /// How many of the positional ones, at their end, are defaults.
    defaults: usize,
}

/// The parameters of a Python function (`inspect.FullArgSpec`), without `self`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Parameters {
    /// The names of those that may be given by position.
    pub(crate) names: Vec<String>,
    /// The defaults of the last of them.
    defaults: Vec<Structure>,
    /// The defaults of those that are given by name alone.
    keyword_defaults: BTreeMap<String, Structure>,
}

impl Parameters {
    /// The parameters that a function's file tells.
    pub(crate) fn of(function: &FunctionObject) -> Self {
        let Some(Structure::NamedTuple { fields, .. }) = &function.arg_spec else {
            return Parameters::default();
        };
        let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v);
        let sequence = |s: Option<&Structure>| match s {
            Some(Structure::List(items) | Structure::Tuple(items)) => items.clone(),
            _ => Vec::new(),
        };
        let text = |s| if let Structure::String(s) = s { Some(s) } else { None };
        let mut names: Vec<String> = sequence(field("args")).into_iter().filter_map(text).collect();
        if function.is_method && !names.is_empty() || names.first().is_some_and(|n| n == "self") {
            names.remove(0);
        }
        let keyword_defaults = match field("kwonlydefaults") {
            Some(Structure::Dict(items)) => items.clone(),
            _ => BTreeMap::new(),
        };
        Parameters { names, defaults: sequence(field("defaults")), keyword_defaults }
    }

    /// Arguments as TensorFlow sorts them: by position as far as there are parameters of their names, defaults filled in.
    pub(crate) fn bind(
        &self,
        mut positional: Vec<Argument>,
        mut keywords: BTreeMap<String, Argument>,
    ) -> Call {
        let first_default = self.names.len().saturating_sub(self.defaults.len());
        let mut defaults = 0;
        for (i, name) in self.names.iter().enumerate().skip(positional.len()) {
            if let Some(given) = keywords.remove(name) {
                positional.push(given);
                defaults = 0;
            } else if let Some(default) = i.checked_sub(first_default).and_then(|d| self.defaults.get(d)) {
                positional.push(plain(default));
                defaults += 1;
            } else {
                break;
            }
        }
        for (name, default) in &self.keyword_defaults {
            keywords.entry(name.clone()).or_insert_with(|| plain(default));
        }
        Call { positional, keywords, defaults }
    }

    /// How far a trace is from what a call with tensors alone means: the count of its plain arguments that aren't the
    /// defaults; among equals, inference goes before training.
    pub(crate) fn distance(&self, trace: &ConcreteFunction) -> usize {
        let Some((positional, keywords)) = parts(&trace.input) else { return 0 };
        let first_default = self.names.len().saturating_sub(self.defaults.len());
        let default = |i: usize| i.checked_sub(first_default).and_then(|d| self.defaults.get(d));
        let far = |value: &Structure, default: Option<&Structure>| {
            let is_plain = value.flatten().is_empty();
            let training = usize::from(*value == Structure::Bool(true));
            if !is_plain || default == Some(value) { 0 } else { 2 + training }
        };
        let positional: usize = positional.iter().enumerate().map(|(i, v)| far(v, default(i))).sum();
        positional + keywords.iter().map(|(k, v)| far(v, self.keyword_defaults.get(k))).sum::<usize>()
    }
}

impl Call {
    /// The tensors of the arguments in order, if they are what a trace's input describes. With `convert`, plain values
    /// may become tensors.
    pub(crate) fn fits(&self, input: &Structure, convert: bool) -> Option<Vec<Tensor>> {
        let (wanted, wanted_keywords) = parts(input)?;
        // A trace with a signature of its own leaves out parameters that keep their defaults.
        let given = self.positional.len();
        if wanted.len() > given || wanted.len() + self.defaults < given {
            return None;
        }
        let mut tensors = Vec::new();
        let mut fits = |a: &Argument, w: &Structure| a.flatten_as(w, convert, &mut tensors);
        let all = self.positional.iter().zip(wanted).all(|(a, w)| fits(a, w))
            && self.keywords.len() == wanted_keywords.len()
            && wanted_keywords.iter().all(|(k, w)| self.keywords.get(k).is_some_and(|a| fits(a, w)));
        all.then_some(tensors)
    }

    /// The arguments for a message.
    pub(crate) fn describe(&self) -> String {
        let positional = self.positional.iter().map(ToString::to_string);
        let keywords = self.keywords.iter().map(|(k, v)| format!("{k}={v}"));
        format!("({})", positional.chain(keywords).collect::<Vec<_>>().join(", "))
    }
}

/// What a trace takes, as one would write it in Python.
pub(crate) fn describe_input(input: &Structure, parameters: &[String]) -> String {
    let Some((positional, keywords)) = parts(input) else { return describe(input) };
    let named = |(i, value): (usize, &Structure)| match (parameters.get(i), value) {
        (Some(name), Structure::Tensor { shape, dtype, .. }) => format!("{name}: {dtype}{shape}"),
        (Some(name), value) => format!("{name}={}", describe(value)),
        (None, value) => describe(value),
    };
    let positional = positional.iter().enumerate().map(named);
    let keyword = |(k, v): (&String, &Structure)| match v {
        Structure::Tensor { shape, dtype, .. } => format!("{k}: {dtype}{shape}"),
        value => format!("{k}={}", describe(value)),
    };
    format!("({})", positional.chain(keywords.iter().map(keyword)).collect::<Vec<_>>().join(", "))
}

/// The positional arguments and the keyword arguments of a trace's input.
fn parts(input: &Structure) -> Option<(&[Structure], &BTreeMap<String, Structure>)> {
    let Structure::Tuple(parts) = input else { return None };
    let [Structure::Tuple(positional), Structure::Dict(keywords)] = &**parts else { return None };
    Some((positional, keywords))
}

fn plain(value: &Structure) -> Argument {
    match value {
        Structure::List(items) | Structure::Tuple(items) => {
            Argument::Sequence(items.iter().map(plain).collect())
        }
        Structure::Dict(items) => Argument::Dict(items.iter().map(|(k, v)| (k.clone(), plain(v))).collect()),
        other => Argument::Plain(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use modelark_tensor::{DType, PartialShape};

    use super::*;

    fn spec(shape: &[Option<usize>]) -> Structure {
        Structure::Tensor { name: "x".into(), shape: PartialShape::new(shape), dtype: DType::F32 }
    }

    fn text(s: &str) -> Structure {
        Structure::String(s.into())
    }

    fn input(positional: Vec<Structure>, keywords: &[(&str, Structure)]) -> Structure {
        let keywords = keywords.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        Structure::Tuple(vec![Structure::Tuple(positional), Structure::Dict(keywords)])
    }

    fn parameters() -> Parameters {
        let fields = vec![
            (
                "args".to_owned(),
                Structure::List(vec![text("self"), text("x"), text("training"), text("mask")]),
            ),
            ("defaults".to_owned(), Structure::Tuple(vec![Structure::Bool(false), Structure::None])),
            ("kwonlydefaults".to_owned(), Structure::Dict([("mode".to_owned(), text("fast"))].into())),
        ];
        Parameters::of(&FunctionObject {
            arg_spec: Some(Structure::NamedTuple { name: "FullArgSpec".into(), fields }),
            is_method: true,
            ..FunctionObject::default()
        })
    }

    #[test]
    fn defaults_and_keywords_become_positions() {
        let x = || Argument::from(Tensor::zeros(DType::F32, [7, 3]).expect("tensor"));
        let keywords = BTreeMap::from([("training".to_owned(), true.into())]);
        let call = parameters().bind(vec![x()], keywords);
        let mode = [("mode", text("fast"))];
        let wanted =
            |training| input(vec![spec(&[None, Some(3)]), Structure::Bool(training), Structure::None], &mode);
        assert_eq!(call.fits(&wanted(true), false).expect("fits").len(), 1);
        assert!(call.fits(&wanted(false), false).is_none());
        assert_eq!(call.describe(), "(float32(7, 3), True, None, mode=\"fast\")");
        // A trace that was declared with one tensor alone takes the defaults as given.
        assert!(
            parameters()
                .bind(vec![x()], BTreeMap::new())
                .fits(&input(vec![spec(&[None, None])], &mode), false)
                .is_some()
        );
        assert!(call.fits(&input(Vec::new(), &mode), false).is_none());
    }

    #[test]
    fn traces_for_inference_go_first() {
        let trace = |training| ConcreteFunction {
            captures: Vec::new(),
            input: input(vec![spec(&[]), Structure::Bool(training), Structure::None], &[]),
            output: Structure::None,
        };
        let known = parameters();
        assert!(known.distance(&trace(false)) < known.distance(&trace(true)));
        let unknown = Parameters::default();
        assert!(unknown.distance(&trace(false)) < unknown.distance(&trace(true)));
    }
}
