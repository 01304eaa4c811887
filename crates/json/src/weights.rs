//! Weights as files of arrays have them: lists and names, to and from a model's objects.

use std::collections::HashMap;

use modelark_artifact::tensor::kernels::array::cast;
use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{
    Artifact, Dialect, Error, Kind, ObjectId, Objects, Report, Result, Variable, nearest,
};

use crate::array::StoredArray;
use crate::npy::Content;
use crate::order::{self, LayerWeights};
use crate::pickle;

/// Arrays in lists, or under names.
#[derive(Debug, Clone)]
pub enum Weights {
    /// An array.
    Array(Variable),
    /// A list, such as that of a layer's weights.
    List(Vec<Weights>),
    /// Arrays by name, in order.
    Named(Vec<(String, Weights)>),
}

impl Weights {
    /// What an `.npy` file holds.
    ///
    /// # Errors
    /// When a pickled value is neither an array nor a number, nor a list or dict of these.
    pub fn of_content(content: Content) -> Result<Self> {
        Ok(match content {
            Content::Array(array) => Weights::Array(array.variable("")),
            Content::Fields(fields) => Weights::named(fields),
            Content::Objects(value) => Weights::of_pickle(value)?,
        })
    }

    /// Arrays by name.
    pub fn named(arrays: Vec<(String, StoredArray)>) -> Self {
        let named = |(name, array): (String, StoredArray)| {
            let variable = array.variable(name.clone());
            (name, Weights::Array(variable))
        };
        Weights::Named(arrays.into_iter().map(named).collect())
    }

    /// What a pickle holds.
    ///
    /// # Errors
    /// When a value is neither an array nor a number, nor a list or dict of these.
    pub fn of_pickle(value: pickle::Value) -> Result<Self> {
        use pickle::Value as V;
        let array = |tensor| Ok(Weights::Array(Variable::new("", tensor)));
        match value {
            V::Array(stored) => Ok(Weights::Array(stored.variable(""))),
            V::Bool(b) => array(Tensor::from(b)),
            V::Int(n) => array(Tensor::scalar(n)),
            V::Float(n) => array(Tensor::scalar(n)),
            V::String(text) => array(Tensor::scalar_string(text.into_bytes())),
            V::Bytes(bytes) => array(Tensor::scalar_string(&*bytes)),
            V::None => Err(Error::unsupported("None stands where an array should")),
            V::List(items) | V::Tuple(items) => {
                items.into_iter().map(Weights::of_pickle).collect::<Result<_>>().map(Weights::List)
            }
            V::Objects { shape, items } if items.iter().all(|i| matches!(i, V::String(_) | V::Bytes(_))) => {
                let texts = items.into_iter().filter_map(|item| match item {
                    V::String(text) => Some(text.into_bytes()),
                    V::Bytes(bytes) => Some(bytes.to_vec()),
                    _ => None,
                });
                array(Tensor::from_strings(texts, shape)?)
            }
            V::Objects { shape, items } => {
                let items = items.into_iter().map(Weights::of_pickle).collect::<Result<_>>()?;
                nest(items, &shape)
            }
            V::Dict(items) => {
                let named = |(key, value)| match key {
                    V::String(name) => Ok((name, Weights::of_pickle(value)?)),
                    V::Int(index) => Ok((index.to_string(), Weights::of_pickle(value)?)),
                    other => Err(Error::unsupported(format!("{other:?} is no name of an array"))),
                };
                items.into_iter().map(named).collect::<Result<_>>().map(Weights::Named)
            }
        }
    }

    /// The objects of an artifact read from such a file: a list or a dict, in which variables have their paths as names.
    pub fn into_objects(self) -> Objects {
        let root = if matches!(self, Weights::Named(_)) { Kind::Dict } else { Kind::List };
        let mut objects = Objects::new(root);
        match self {
            Weights::Array(_) => Weights::List(vec![self]).add_to(&mut objects, Objects::ROOT, ""),
            other => other.add_to(&mut objects, Objects::ROOT, ""),
        }
        objects
    }

    /// Adds the items under an object whose path is `path`.
    fn add_to(self, objects: &mut Objects, parent: ObjectId, path: &str) {
        let items = match self {
            Weights::Array(_) => return,
            Weights::List(items) => items.into_iter().enumerate().map(|(i, w)| (i.to_string(), w)).collect(),
            Weights::Named(items) => items,
        };
        for (name, item) in items {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            match item {
                Weights::Array(variable) => {
                    objects.add(parent, name, Kind::Variable(Variable { name: path, ..variable }));
                }
                Weights::List(_) => {
                    let id = objects.add(parent, name, Kind::List);
                    item.add_to(objects, id, &path);
                }
                Weights::Named(_) => {
                    let id = objects.add(parent, name, Kind::Dict);
                    item.add_to(objects, id, &path);
                }
            }
        }
    }

    /// The lists and names that objects hold: those that were read, or any others by their paths.
    pub fn of_objects(objects: &Objects) -> Self {
        if matches!(objects.get(Objects::ROOT).map(|o| &o.kind), Some(Kind::List | Kind::Dict | Kind::Tuple))
        {
            return Weights::of_object(objects, Objects::ROOT);
        }
        let named =
            |(_, path, variable): (ObjectId, String, &Variable)| (path, Weights::Array(variable.clone()));
        Weights::Named(objects.variables().into_iter().map(named).collect())
    }

    fn of_object(objects: &Objects, id: ObjectId) -> Self {
        let Some(object) = objects.get(id) else { return Weights::List(Vec::new()) };
        let children = || {
            object.children.iter().map(|(name, child)| (name.clone(), Weights::of_object(objects, *child)))
        };
        match &object.kind {
            Kind::Variable(variable) => Weights::Array(variable.clone()),
            Kind::List | Kind::Tuple => Weights::List(children().map(|(_, w)| w).collect()),
            _ => Weights::Named(children().collect()),
        }
    }

    /// The arrays in order, without the lists around them.
    pub fn flatten(&self) -> Vec<&Variable> {
        match self {
            Weights::Array(variable) => vec![variable],
            Weights::List(items) => items.iter().flat_map(Weights::flatten).collect(),
            Weights::Named(items) => items.iter().flat_map(|(_, w)| w.flatten()).collect(),
        }
    }

    /// The arrays with their names joined by `/`.
    pub fn paths(&self) -> Vec<(String, &Variable)> {
        let under = |name: String, (inner, variable): (String, _)| match inner.as_str() {
            "" => (name, variable),
            inner => (format!("{name}/{inner}"), variable),
        };
        match self {
            Weights::Array(variable) => vec![(String::new(), variable)],
            Weights::List(items) => {
                let items = items.iter().enumerate();
                items.flat_map(|(i, w)| w.paths().into_iter().map(move |p| under(i.to_string(), p))).collect()
            }
            Weights::Named(items) => items
                .iter()
                .flat_map(|(n, w)| w.paths().into_iter().map(move |p| under(n.clone(), p)))
                .collect(),
        }
    }

    /// Names such as `arr_0` and `0` stand for positions: then the list in their order.
    fn positional(self) -> Self {
        let Weights::Named(items) = self else { return self };
        let index = |name: &str| name.strip_prefix("arr_").unwrap_or(name).parse::<usize>().ok();
        if items.iter().any(|(name, _)| index(name).is_none()) {
            return Weights::Named(items);
        }
        let mut items = items;
        items.sort_by_key(|(name, _)| index(name));
        Weights::List(items.into_iter().map(|(_, w)| w).collect())
    }
}

/// Lists within lists, as the extents of an object array say.
fn nest(items: Vec<Weights>, shape: &[usize]) -> Result<Weights> {
    let Some((_, inner)) = shape.split_first().filter(|(_, inner)| !inner.is_empty()) else {
        return Ok(if shape.is_empty() {
            items.into_iter().next().unwrap_or(Weights::List(Vec::new()))
        } else {
            Weights::List(items)
        });
    };
    let size: usize = inner.iter().product();
    let mut rest = items.into_iter();
    let mut lists = Vec::new();
    while size > 0 && rest.len() > 0 {
        lists.push(nest(rest.by_ref().take(size).collect(), inner)?);
    }
    Ok(Weights::List(lists))
}

/// A weight of the model and the array for it.
type Assignment = Vec<(ObjectId, Variable)>;

/// Puts arrays that were read into a model's objects, by name or by position.
///
/// # Errors
/// When there are too many or too few arrays, or a shape doesn't fit; the message names the layer and the weight.
pub fn bind(model: &mut Objects, read: &Artifact) -> Result<Report> {
    let mut report = Report::default();
    let weights = Weights::of_objects(&read.objects).positional();
    let dialect = read.architecture.as_ref().map(|a| a.dialect);
    let assignment = match &weights {
        Weights::Named(items) => match by_name(model, items)? {
            Some(found) => found,
            None => {
                report.note("no array has a weight's name, so arrays were taken in order");
                by_position(model, &weights, dialect)?
            }
        },
        _ => by_position(model, &weights, dialect)?,
    };
    for (id, array) in assignment {
        if let Some(weight) = model.variable_mut(id) {
            let fitted = fit(array, weight)?;
            if let Some(note) = fitted.1 {
                report.note(note);
            }
            weight.value = fitted.0.value;
        }
    }
    Ok(report)
}

/// The array for each weight by name: of weights, or of layers with lists of weights. `None` when no name is known.
fn by_name(model: &Objects, items: &[(String, Weights)]) -> Result<Option<Assignment>> {
    let layers = order::layers(model, Dialect::Keras3);
    let known = |name: &str| layers.iter().any(|l| l.name == name && !l.weights.is_empty());
    if items.iter().any(|(name, w)| known(name) && matches!(w, Weights::List(_))) {
        let lists: HashMap<&str, &Weights> = items.iter().map(|(n, w)| (n.as_str(), w)).collect();
        let ordered = layers.iter().filter(|l| !l.weights.is_empty()).map(|l| {
            lists.get(l.name.as_str()).map(|w| (*w).clone()).ok_or_else(|| {
                let help = nearest(&l.name, lists.keys().copied());
                let error = Error::missing(format!("there is no list for the layer {:?}", l.name));
                help.into_iter().fold(error, Error::help)
            })
        });
        return by_position(model, &Weights::List(ordered.collect::<Result<_>>()?), None).map(Some);
    }
    let paths: Vec<(String, Variable)> =
        Weights::Named(items.to_vec()).paths().into_iter().map(|(n, v)| (n, v.clone())).collect();
    let mut arrays: HashMap<&str, &Variable> =
        paths.iter().map(|(n, v)| (n.strip_suffix(":0").unwrap_or(n), v)).collect();
    let names = order::names(model, Dialect::Keras3);
    if !names.iter().any(|(_, name)| arrays.contains_key(name.as_str())) {
        return Ok(None);
    }
    let mut found = Vec::new();
    for (id, name) in &names {
        match arrays.remove(name.as_str()) {
            Some(array) => found.push((*id, array.clone())),
            // Keras leaves the names of nested models out; then the order decides, if no name speaks against it.
            None => match by_position(model, &Weights::Named(items.to_vec()), None) {
                Ok(ordered) if agrees(&ordered, &paths, &names) => return Ok(Some(ordered)),
                _ => {
                    let error = Error::missing(format!("there is no array for the weight {name:?}"));
                    let help = nearest(name, paths.iter().map(|(n, _)| n.as_str()));
                    return Err(help.into_iter().fold(error, Error::help));
                }
            },
        }
    }
    let mut left: Vec<&str> = arrays.into_keys().collect();
    left.sort_unstable();
    match left.first() {
        None => Ok(Some(found)),
        Some(first) => {
            let count = left.len();
            let error =
                Error::mismatch(format!("the model has no weight for {count} arrays, such as {first:?}"));
            Err(nearest(first, names.iter().map(|(_, n)| n.as_str())).into_iter().fold(error, Error::help))
        }
    }
}

/// Whether every array that has a weight's name was taken for that weight.
fn agrees(ordered: &Assignment, arrays: &[(String, Variable)], names: &[(ObjectId, String)]) -> bool {
    ordered.len() == arrays.len()
        && ordered.iter().zip(arrays).all(|((id, _), (array, _))| {
            let array = array.strip_suffix(":0").unwrap_or(array);
            names.iter().find(|(_, name)| name == array).is_none_or(|(named, _)| named == id)
        })
}

/// The array for each weight by position, in the order of the dialect if it is known, else of either.
fn by_position(model: &Objects, weights: &Weights, dialect: Option<Dialect>) -> Result<Assignment> {
    let first = dialect.unwrap_or(Dialect::Keras3);
    let other = if first == Dialect::Keras3 { Dialect::Keras2 } else { Dialect::Keras3 };
    in_order(model, weights, first).or_else(|e| in_order(model, weights, other).map_err(|_| e))
}

fn in_order(model: &Objects, weights: &Weights, dialect: Dialect) -> Result<Assignment> {
    let layers = order::layers(model, dialect);
    let flat = order::flat(&layers);
    let arrays = weights.flatten();
    if let ([only], true) = (arrays.as_slice(), flat.len() != 1) {
        // Lists of equal shapes become one array when NumPy saves them.
        let rows = unstack(only, flat.len()).ok();
        let rows = rows.or_else(|| {
            let weighty = layers.iter().filter(|l| !l.weights.is_empty()).count();
            let per_layer = unstack(only, weighty).ok()?;
            let each = flat.len().checked_div(weighty)?;
            per_layer.iter().map(|l| unstack(l, each)).collect::<Result<Vec<_>>>().ok().map(|r| r.concat())
        });
        if let Some(rows) = rows {
            return fitting(model, &flat, rows.iter().collect(), &layers);
        }
    }
    if arrays.len() == flat.len() {
        return fitting(model, &flat, arrays, &layers);
    }
    by_layer(model, weights, &layers)
        .unwrap_or_else(|| Err(miscounted(weights, &layers, arrays.len(), flat.len())))
}

/// The array for each weight where each layer has an entry of its own, possibly a stack of its weights.
fn by_layer(model: &Objects, weights: &Weights, layers: &[LayerWeights]) -> Option<Result<Assignment>> {
    let Weights::List(entries) = weights else { return None };
    let entries: Vec<&Weights> = entries.iter().filter(|e| !e.flatten().is_empty()).collect();
    let layers: Vec<&LayerWeights> = layers.iter().filter(|l| !l.weights.is_empty()).collect();
    if entries.len() != layers.len() {
        return None;
    }
    let mut ids = Vec::new();
    let mut arrays = Vec::new();
    for (entry, layer) in entries.into_iter().zip(&layers) {
        let found: Vec<Variable> = match entry {
            Weights::Array(stack) if layer.weights.len() > 1 => unstack(stack, layer.weights.len()).ok()?,
            other => other.flatten().into_iter().cloned().collect(),
        };
        if found.len() != layer.weights.len() {
            return Some(Err(Error::mismatch(format!(
                "the layer has {} weights, but the list for it has {}",
                layer.weights.len(),
                found.len()
            ))
            .at(format!("layer {:?}", layer.name))));
        }
        ids.extend(&layer.weights);
        arrays.extend(found);
    }
    let layers: Vec<LayerWeights> = layers.into_iter().cloned().collect();
    Some(fitting(model, &ids, arrays.iter().collect(), &layers))
}

/// The error for a wrong number of arrays, with the first layer that got a wrong number if that can be told.
fn miscounted(weights: &Weights, layers: &[LayerWeights], given: usize, wanted: usize) -> Error {
    let error = Error::mismatch(format!("the model has {wanted} weights, but the file has {given} arrays"));
    let Weights::List(entries) = weights else { return error };
    let entries = entries.iter().filter(|e| matches!(e, Weights::List(l) if !l.is_empty()));
    let layers = layers.iter().filter(|l| !l.weights.is_empty());
    let wrong = entries.zip(layers).enumerate().find(|(_, (e, l))| e.flatten().len() != l.weights.len());
    match wrong {
        Some((_, (entry, layer))) => error.help(format!(
            "the layer {:?} has {} weights where the file's list has {}",
            layer.name,
            layer.weights.len(),
            entry.flatten().len()
        )),
        None => error,
    }
}

/// Pairs weights with arrays, checking each shape.
fn fitting(
    model: &Objects,
    ids: &[ObjectId],
    arrays: Vec<&Variable>,
    layers: &[LayerWeights],
) -> Result<Assignment> {
    ids.iter()
        .zip(arrays)
        .enumerate()
        .map(|(position, (id, array))| {
            let weight = model.variable(*id).ok_or_else(|| Error::missing("a weight isn't a variable"))?;
            if weight.shape != array.shape {
                let layer = layers.iter().find(|l| l.weights.contains(id)).map_or("", |l| &l.name);
                return Err(Error::mismatch(format!(
                    "it has the shape {:?}, but the array at position {position} has {:?}",
                    weight.shape, array.shape
                ))
                .at(format!("layer {layer:?}"))
                .at(format!("weight {:?}", weight.name)));
            }
            Ok((*id, array.clone()))
        })
        .collect()
}

/// The parts of an array along its first axis, of which there must be `count`.
fn unstack(array: &Variable, count: usize) -> Result<Vec<Variable>> {
    let rest = match array.shape.split_first() {
        Some((n, rest)) if *n == count && count > 0 && array.dtype != DType::String => rest.to_vec(),
        _ => return Err(Error::mismatch("the array isn't a stack of as many")),
    };
    let part = |index: usize| {
        let whole = array.clone();
        let shape = rest.clone();
        Variable::lazy(format!("{}[{index}]", array.name), array.dtype, rest.clone(), move || {
            let tensor = whole.load()?;
            let bytes = tensor.bytes()?;
            let size = bytes.len() / count;
            let part = bytes.slice(index * size..(index + 1) * size);
            let part = part.ok_or_else(|| Error::corrupt("the stack is too short"))?;
            Ok(Tensor::from_bytes(tensor.dtype(), &shape, part)?)
        })
    };
    Ok((0..count).map(part).collect())
}

/// An array with the dtype of the weight that it is for, and a line about it when that isn't its own.
fn fit(array: Variable, weight: &Variable) -> Result<(Variable, Option<String>)> {
    if array.shape != weight.shape {
        return Err(Error::mismatch(format!(
            "it has the shape {:?}, the array {:?}",
            weight.shape, array.shape
        ))
        .at(format!("weight {:?}", weight.name)));
    }
    let (from, to) = (array.dtype, weight.dtype);
    if from == to {
        return Ok((array, None));
    }
    if from == DType::String || to == DType::String {
        return Err(Error::mismatch(format!("it is {to}, but the array is {from}"))
            .at(format!("weight {:?}", weight.name)));
    }
    // NumPy keeps the bits of ml_dtypes' small types, but forgets which type they are.
    let bits = from == DType::U8 && to.size() == Some(1) && !matches!(to, DType::I8 | DType::Bool);
    let note = (!bits).then(|| format!("{:?} was converted from {from} to {to}", weight.name));
    let shape = array.shape.clone();
    let converted = Variable::lazy(array.name.clone(), to, shape, move || {
        let tensor = array.load()?;
        Ok(if bits { tensor.bitcast_same_width(to)? } else { cast(&tensor, to)? })
    });
    Ok((converted, note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::tests::model;

    /// One array for each of the model's weights, in Keras 3's order, each filled with its position.
    fn arrays() -> Vec<Variable> {
        let m = model();
        let ids = order::flat(&order::layers(&m, Dialect::Keras3));
        let filled = |(i, id): (usize, &ObjectId)| {
            let shape = &m.variable(*id).expect("variable").shape;
            Variable::new(format!("w{i}"), Tensor::full(i as f32, shape).expect("tensor"))
        };
        ids.iter().enumerate().map(filled).collect()
    }

    fn bound(weights: Weights) -> Result<Vec<f32>> {
        let read = Artifact { objects: weights.into_objects(), ..Artifact::default() };
        let mut m = model();
        bind(&mut m, &read)?;
        let first = |id: &ObjectId| {
            let value = m.variable(*id).expect("variable").load().expect("value");
            value.elements::<f32>().expect("f32").first().copied().expect("element")
        };
        Ok(order::flat(&order::layers(&m, Dialect::Keras3)).iter().map(first).collect())
    }

    fn wanted() -> Vec<f32> {
        (0..12).map(|i| i as f32).collect()
    }

    fn per_layer(sizes: &[usize]) -> Weights {
        let mut rest = arrays().into_iter().map(Weights::Array);
        Weights::List(sizes.iter().map(|n| Weights::List(rest.by_ref().take(*n).collect())).collect())
    }

    #[test]
    fn lists_bind_flat_by_layer_and_without_the_empty_layers() {
        let flat = Weights::List(arrays().into_iter().map(Weights::Array).collect());
        for weights in [flat, per_layer(&[0, 8, 2, 2]), per_layer(&[8, 2, 2])] {
            assert_eq!(bound(weights).expect("binds"), wanted());
        }
    }

    #[test]
    fn names_bind_in_any_order_and_positions_by_number() {
        let names = order::names(&model(), Dialect::Keras3);
        let mut named: Vec<(String, Weights)> = names
            .into_iter()
            .zip(arrays())
            .map(|((_, n), a)| (format!("{n}:0"), Weights::Array(a)))
            .collect();
        named.reverse();
        assert_eq!(bound(Weights::Named(named.clone())).expect("binds"), wanted());
        let e = named.pop().expect("one");
        let mut misnamed = named.clone();
        misnamed.push(("of another kind".to_owned(), e.1));
        assert!(
            bound(Weights::Named(misnamed.clone())).is_err(),
            "names that are known contradict the order"
        );
        misnamed.reverse();
        assert_eq!(bound(Weights::Named(misnamed)).expect("binds in order"), wanted());
        let e = bound(Weights::Named(named)).expect_err("one is missing").to_string();
        assert!(e.contains("\"c/w\""), "{e}");
        let mut numbered: Vec<_> =
            arrays().into_iter().enumerate().map(|(i, a)| (format!("arr_{i}"), Weights::Array(a))).collect();
        numbered.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(bound(Weights::Named(numbered)).expect("binds"), wanted());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut short = arrays();
        short.pop();
        let e = bound(Weights::List(short.into_iter().map(Weights::Array).collect()))
            .expect_err("short")
            .to_string();
        assert!(e.contains("12 weights") && e.contains("11 arrays"), "{e}");
        let mut swapped = arrays();
        swapped.swap(8, 9);
        let e = bound(Weights::List(swapped.into_iter().map(Weights::Array).collect()))
            .expect_err("swapped")
            .to_string();
        assert!(e.contains("\"inner\"") && e.contains("[4, 3]"), "{e}");
    }

    #[test]
    fn other_dtypes_are_converted() {
        let wide = arrays().into_iter().map(|v| {
            let t = cast(&v.load().expect("value"), DType::F64).expect("cast");
            Weights::Array(Variable::new("wide", t))
        });
        assert_eq!(bound(Weights::List(wide.collect())).expect("binds"), wanted());
    }

    #[test]
    fn a_stack_of_equal_weights_is_taken_apart() {
        let mut m = Objects::new(model().get(Objects::ROOT).expect("root").kind.clone());
        let list = m.add(Objects::ROOT, "layers", Kind::List);
        for name in ["a", "b"] {
            let layer = order::tests::layer(&mut m, list, name, modelark_artifact::Role::Layer, name);
            for weight in ["p", "q"] {
                order::tests::weight(&mut m, layer, weight, &[3], true);
            }
        }
        let data: Vec<f32> = (0..12).map(|i| i as f32).collect();
        for shape in [&[2, 2, 3][..], &[4, 3]] {
            let stack = Variable::new("", Tensor::from_slice(&data, shape).expect("tensor"));
            let read = Artifact { objects: Weights::Array(stack).into_objects(), ..Artifact::default() };
            bind(&mut m, &read).expect("binds");
            let q = m.find("layers/b/q").and_then(|id| m.variable(id)).expect("q").load().expect("value");
            assert_eq!(*q.elements::<f32>().expect("f32"), [9.0, 10.0, 11.0]);
        }
    }
}
