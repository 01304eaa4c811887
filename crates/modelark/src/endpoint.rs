//! What can be called by name, and what its tensors are called.

use modelark_artifact::{ConcreteFunction, Structure};
use modelark_tensor::{DType, PartialShape};

/// What one tensor of a call is: its name and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// The name.
    pub name: String,
    /// The dtype.
    pub dtype: DType,
    /// What is known of the shape.
    pub shape: PartialShape,
}

/// Something that can be called by name: a signature, or a function of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// A signature's name, or the path of a function among the objects, such as `__call__` or `encoder/encode`.
    pub name: String,
    /// Its tensors, in the order in which they are given.
    pub inputs: Vec<Port>,
    /// Its results, in order.
    pub outputs: Vec<Port>,
}

/// The inputs of a concrete function in order; `parameters` are the names of its positional arguments, where known.
///
/// A tensor is called what its spec says or, without a name of its own, by its place: `x/0`, `batch/mask`.
pub(crate) fn inputs_of(concrete: &ConcreteFunction, parameters: &[String]) -> Vec<Port> {
    let mut found = Vec::new();
    match &concrete.input {
        Structure::Tuple(parts) if parts.len() == 2 => {
            if let Some(Structure::Tuple(positional)) = parts.first() {
                for (i, item) in positional.iter().enumerate() {
                    let path = parameters.get(i).map_or("", String::as_str);
                    collect(item, path, false, &mut found);
                }
            }
            if let Some(keywords) = parts.get(1) {
                collect(keywords, "", true, &mut found);
            }
        }
        other => collect(other, "", false, &mut found),
    }
    unique(found, "input")
}

/// The outputs of a concrete function in order, named by the keys and fields of its result, else by their specs.
pub(crate) fn outputs_of(concrete: &ConcreteFunction) -> Vec<Port> {
    let mut found = Vec::new();
    let keyed = matches!(concrete.output, Structure::Dict(_) | Structure::NamedTuple { .. });
    collect(&concrete.output, "", keyed, &mut found);
    unique(found, "output")
}

/// A tensor with the name of its spec and its place.
struct Leaf {
    name: String,
    path: String,
    dtype: DType,
    shape: PartialShape,
}

/// The tensors below `structure`, which stands at `path`; with `keyed`, the place goes before the spec's name.
fn collect(structure: &Structure, path: &str, keyed: bool, into: &mut Vec<Leaf>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
    match structure {
        Structure::Tensor { name, shape, dtype } => {
            let name = if keyed { String::new() } else { name.clone() };
            into.push(Leaf { name, path: path.to_owned(), dtype: *dtype, shape: shape.clone() });
        }
        Structure::List(items) | Structure::Tuple(items) => {
            for (i, item) in items.iter().enumerate() {
                // A bare number says no more than `output_0` does.
                let place = if path.is_empty() { String::new() } else { below(&i.to_string()) };
                collect(item, &place, keyed, into);
            }
        }
        Structure::Dict(items) => items.iter().for_each(|(k, item)| collect(item, &below(k), keyed, into)),
        Structure::NamedTuple { fields, .. } => {
            fields.iter().for_each(|(k, item)| collect(item, &below(k), keyed, into));
        }
        Structure::Composite { components, .. } => match &**components {
            [one] => collect(one, path, keyed, into),
            parts => {
                for part in parts {
                    if let Structure::Tensor { name, .. } = part {
                        collect(part, &below(name), true, into);
                    }
                }
            }
        },
        _ => {}
    }
}

/// Ports with a name of their own each.
fn unique(leaves: Vec<Leaf>, fallback: &str) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::with_capacity(leaves.len());
    for (i, leaf) in leaves.into_iter().enumerate() {
        let numbered = format!("{fallback}_{i}");
        let names = [leaf.name, leaf.path, numbered.clone()];
        let free = |n: &String| !n.is_empty() && ports.iter().all(|p| p.name != *n);
        let name = names.into_iter().find(free).unwrap_or_else(|| format!("{numbered}_"));
        ports.push(Port { name, dtype: leaf.dtype, shape: leaf.shape });
    }
    ports
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn spec(name: &str) -> Structure {
        Structure::Tensor { name: name.into(), shape: PartialShape::new([None]), dtype: DType::F32 }
    }

    fn names(ports: &[Port]) -> Vec<&str> {
        ports.iter().map(|p| p.name.as_str()).collect()
    }

    fn call(
        positional: Vec<Structure>,
        keywords: &[(&str, Structure)],
        output: Structure,
    ) -> ConcreteFunction {
        let keywords = keywords.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        let input = Structure::Tuple(vec![Structure::Tuple(positional), Structure::Dict(keywords)]);
        ConcreteFunction { captures: Vec::new(), input, output }
    }

    #[test]
    fn the_keys_of_dicts_name_inputs_and_outputs() {
        let output = Structure::Dict(BTreeMap::from([("scores".to_owned(), spec("Identity"))]));
        let concrete = call(Vec::new(), &[("images", spec("x"))], output);
        assert_eq!(names(&inputs_of(&concrete, &[])), ["images"]);
        assert_eq!(names(&outputs_of(&concrete)), ["scores"]);
    }

    #[test]
    fn what_has_no_name_is_called_by_its_place() {
        let ragged = Structure::Composite {
            class: "RaggedTensorSpec".into(),
            components: vec![spec("flat_values"), spec("row_splits_0")],
            written: Vec::new(),
        };
        let pair = Structure::List(vec![spec(""), spec("x")]);
        let output = Structure::Tuple(vec![spec(""), pair.clone()]);
        let concrete = call(vec![spec("x"), pair, ragged], &[], output);
        let parameters = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        assert_eq!(
            names(&inputs_of(&concrete, &parameters)),
            ["x", "b/0", "b/1", "c/flat_values", "c/row_splits_0"]
        );
        assert_eq!(
            names(&inputs_of(&concrete, &[])),
            ["x", "input_1", "input_2", "flat_values", "row_splits_0"]
        );
        assert_eq!(names(&outputs_of(&concrete)), ["output_0", "output_1", "x"]);
    }
}
