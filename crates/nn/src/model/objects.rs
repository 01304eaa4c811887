//! The tree of a model's objects and their variables.

use std::collections::{BTreeSet, HashMap};

use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{Dialect, Error, Kind, Layer, ObjectId, Objects, Result, Role, Value, Variable};

use super::Model;
use super::bind::Converted;
use crate::config::Writer;
use crate::former::Origin;
use crate::layer::WeightSpec;
use crate::layers::{Operation, weights_of_words};
use crate::random::Random;
use crate::{Instance, Spec};

/// A tree that is being built.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    pub objects: Objects,
    /// Objects by their layer, since a shared layer is one object.
    pub known: HashMap<usize, ObjectId>,
    /// How many of the layers around the current one are frozen.
    pub frozen: usize,
    /// Draws first values; without it variables have none.
    random: Option<&'a mut Random>,
    /// The layers that were attached, by their objects.
    pub attached: Vec<(ObjectId, Instance)>,
    /// Whose layout the weights have, where it may not be today's.
    pub origin: Option<Origin>,
    /// The layers whose weights have another layout than today's.
    pub converted: Vec<Converted>,
    /// Whether weights are left out, since the inputs' shapes aren't known.
    pub is_bare: bool,
}

impl Tree<'_> {
    /// A tree of nothing yet, without values.
    pub fn alone() -> Self {
        Tree {
            objects: Objects::default(),
            known: HashMap::new(),
            frozen: 0,
            random: None,
            attached: Vec::new(),
            origin: None,
            converted: Vec::new(),
            is_bare: false,
        }
    }

    /// The first value of a weight.
    pub fn initial(&mut self, weight: &WeightSpec, dtype: DType) -> Result<Value> {
        Ok(match &mut self.random {
            Some(random) => {
                let value = weight.initializer.tensor(&weight.shape, dtype, random);
                Value::Tensor(value.map_err(|e| e.at(format!("weight {:?}", weight.name)))?)
            }
            None => Value::None,
        })
    }
}

impl Model {
    /// The tree of the model's objects: the root, `layers`, and each layer's variables and sublayers. The variables have
    /// their names, dtypes and shapes; values are put in by the format that read them. A model that isn't built has its
    /// layers alone.
    ///
    /// # Errors
    /// When the layers don't fit each other.
    pub fn skeleton(&self) -> Result<Objects> {
        self.empty_objects()
    }

    /// The objects, with the values that they have.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Puts the objects with their values in place.
    ///
    /// # Errors
    /// When they aren't the model's: another layout, another shape or dtype.
    pub fn set_objects(&mut self, objects: Objects) -> Result<()> {
        let wanted = self
            .empty_objects()?
            .variables()
            .into_iter()
            .map(|(id, path, v)| (id, path, v.shape.clone(), v.dtype))
            .collect::<Vec<_>>();
        for (id, path, shape, dtype) in wanted {
            let found = objects.variable(id);
            if found.is_none_or(|f| f.shape != shape || f.dtype != dtype) {
                return Err(Error::mismatch(match found {
                    Some(f) => format!("expected {dtype} {shape:?}, got {} {:?}", f.dtype, f.shape),
                    None => "it isn't among the objects".to_owned(),
                })
                .at(format!("variable {path:?}")));
            }
        }
        self.objects = objects;
        Ok(())
    }

    /// Draws first values for all weights.
    ///
    /// # Errors
    /// When the model isn't built, or an initializer isn't Keras's own.
    pub fn initialize(&mut self, seed: u64) -> Result<()> {
        self.objects = self.tree(Some(&mut Random::new(seed)), None)?.objects;
        Ok(())
    }

    pub(super) fn empty_objects(&self) -> Result<Objects> {
        Ok(self.tree(None, None)?.objects)
    }

    /// The objects with weights as a file of this origin has them, and the layers whose weights differ from today's.
    pub(super) fn former_objects(&self, origin: Origin) -> Result<(Objects, Vec<Converted>)> {
        let tree = self.tree(None, Some(origin))?;
        Ok((tree.objects, tree.converted))
    }

    /// The config of each layer's object, as JSON in a dialect.
    pub(super) fn configs(&self, dialect: Dialect) -> Result<Vec<(ObjectId, String)>> {
        let mut writer = Writer::new(dialect);
        let attached = self.tree(None, None)?.attached;
        let config = |(id, layer): (ObjectId, Instance)| {
            let node = layer.write(&mut writer)?;
            Ok((id, node.get("config").map(ToString::to_string).unwrap_or_default()))
        };
        attached.into_iter().map(config).collect()
    }

    /// Adds the variables in which Keras 2 keeps the weights of words (`idf_weights`), which are parts of configs here, to
    /// the model's objects.
    ///
    /// # Errors
    /// When a layer has more words than weights for them.
    pub fn add_weights_of_words(&self, objects: &mut Objects) -> Result<()> {
        for (id, layer) in self.tree(None, None)?.attached {
            let Some((weights, within)) = weights_of_words(&layer)? else { continue };
            let weights = weights.iter().map(|w| *w as f32).collect::<Vec<_>>();
            let count = weights.len();
            let variable = Variable::new("Variable", Tensor::from_vec(weights, [count])?).trainable(false);
            let holder = match within {
                None => id,
                Some(within) => {
                    let config = within.write(&mut Writer::new(Dialect::Keras2))?;
                    let held = Kind::Layer(Layer {
                        class: within.class_name().to_owned(),
                        name: within.name().to_owned(),
                        role: Role::Layer,
                        config: config.get("config").map(ToString::to_string).unwrap_or_default(),
                    });
                    objects.add(id, "_lookup_layer", held)
                }
            };
            objects.add(holder, "idf_weights", Kind::Variable(variable));
        }
        Ok(())
    }

    fn tree<'a>(&self, random: Option<&'a mut Random>, origin: Option<Origin>) -> Result<Tree<'a>> {
        let root = Kind::Layer(Layer {
            class: self.class_name().to_owned(),
            name: self.name.clone(),
            role: self.role(),
            config: String::new(),
        });
        let is_bare = !self.is_built() && random.is_none();
        let inputs = if is_bare { Vec::new() } else { self.inputs()? };
        let inputs: Vec<Spec> = inputs.into_iter().map(|(_, s)| s).collect();
        let mut tree = Tree { objects: Objects::new(root), random, origin, is_bare, ..Tree::alone() };
        self.attach(&mut tree, Objects::ROOT, &inputs)?;
        Ok(tree)
    }

    /// For each layer its place among the model's operations (Keras 3: `_operations`); none for the ops of Keras 3's graphs,
    /// which count there but have no weights and aren't listed in `model.layers`.
    pub(super) fn listed(&self) -> Vec<Option<usize>> {
        let place = |(i, layer): (usize, &Instance)| {
            layer.downcast::<Operation>().is_none_or(Operation::is_layer).then_some(i)
        };
        self.layers.iter().enumerate().map(place).collect()
    }

    /// Adds the list of the model's layers to the model's object.
    pub(crate) fn attach(&self, tree: &mut Tree<'_>, object: ObjectId, inputs: &[Spec]) -> Result<()> {
        let given = if tree.is_bare { Vec::new() } else { self.graph.propagate(&self.layers, inputs)?.0 };
        let list = tree.objects.add(object, "layers", Kind::List);
        for ((i, layer), place) in self.layers.iter().enumerate().zip(self.listed()) {
            let Some(place) = place else { continue };
            let step = self.graph.steps.iter().position(|s| s.layer == i);
            let given = step.and_then(|s| given.get(s)).cloned().unwrap_or_default();
            let child = layer.attach(tree, &given)?;
            tree.objects.link(list, place.to_string(), child);
        }
        Ok(())
    }
}

/// The same layers with names for those that have none: the class in snake case, counted, as in Keras.
///
/// # Errors
/// When two layers have one name.
pub(crate) fn name_layers(layers: Vec<Instance>) -> Result<Vec<Instance>> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for layer in layers.iter().filter(|l| !l.name().is_empty()) {
        if !taken.insert(layer.name().to_owned()) {
            return Err(Error::invalid(format!("two layers have the name {:?}", layer.name()))
                .help("the names of a model's layers must differ"));
        }
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    Ok(layers
        .into_iter()
        .map(|layer| {
            if !layer.name().is_empty() {
                return layer;
            }
            let base = snake_case(layer.class_name());
            loop {
                let count = counts.entry(base.clone()).or_default();
                let name = if *count == 0 { base.clone() } else { format!("{base}_{count}") };
                *count += 1;
                if taken.insert(name.clone()) {
                    return layer.named(&name);
                }
            }
        })
        .collect())
}

/// `MaxPooling2D` -> `max_pooling2d`, `LSTM` -> `lstm`, as Keras names layers.
pub(crate) fn snake_case(class: &str) -> String {
    let class = class.rsplit('>').next().unwrap_or(class);
    let chars: Vec<char> = class.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| chars.get(i)).copied();
        let after = chars.get(i + 1).copied();
        let begins = c.is_ascii_uppercase()
            && before.is_some_and(|b| {
                b.is_ascii_lowercase()
                    || (b.is_ascii_digit() && after.is_some_and(|a| a.is_ascii_lowercase()))
                    || (b.is_ascii_uppercase() && after.is_some_and(|a| a.is_ascii_lowercase()))
            });
        if begins {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_keras_own() {
        for (class, name) in [
            ("Dense", "dense"),
            ("LSTM", "lstm"),
            ("MaxPooling2D", "max_pooling2d"),
            ("BatchNormalization", "batch_normalization"),
            ("ReLU", "re_lu"),
            ("Conv2DTranspose", "conv2d_transpose"),
            ("P>GatedDense", "gated_dense"),
        ] {
            assert_eq!(snake_case(class), name);
        }
    }
}
