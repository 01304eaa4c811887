//! A tree (a graph, where objects are shared) of named objects with the variables among them.

use std::collections::{HashMap, HashSet, VecDeque};

use modelark_tensor::{PartialShape, Tensor};

use crate::{Structure, Variable};

/// The index of an object; the root's is 0.
pub type ObjectId = usize;

/// A layer or a model among the objects, as its architecture describes it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layer {
    /// The class: `Dense`, `Sequential`, or a custom one.
    pub class: String,
    /// The layer's name, unique in its model: `dense_1`.
    pub name: String,
    /// What part it plays.
    pub role: Role,
    /// Its config as JSON text in the dialect of the architecture; empty when not at hand.
    pub config: String,
}

/// What part a layer plays in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// An ordinary layer.
    #[default]
    Layer,
    /// An input of a model.
    Input,
    /// A Sequential model; its layers are the children of its child `layers`.
    Sequential,
    /// A Functional model; likewise.
    Functional,
    /// A subclassed model: its layers are its children.
    Subclassed,
}

/// A function that chooses one of its concrete functions by its arguments (TensorFlow: `SavedFunction`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FunctionObject {
    /// Names in [`Functions::concrete`](crate::Functions::concrete).
    pub concrete: Vec<String>,
    /// The Python signature (`FullArgSpec` as a structure), or none.
    pub arg_spec: Option<Structure>,
    /// Whether the first argument is the object itself.
    pub is_method: bool,
    /// The input signature it was declared with.
    pub input_signature: Option<Structure>,
}

/// What an object is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A bag of attributes. `identifier` and `metadata` are what the writer called it.
    Object {
        /// Such as `_generic_user_object`, or empty.
        identifier: String,
        /// Text that goes with the identifier; JSON for Keras objects.
        metadata: String,
    },
    /// A layer or a model.
    Layer(Layer),
    /// A list; its children are `0`, `1` and so on.
    List,
    /// A dict; its children are its items.
    Dict,
    /// A tuple; its children are `0`, `1` and so on.
    Tuple,
    /// A variable.
    Variable(Variable),
    /// A function.
    Function(FunctionObject),
    /// A single concrete function, called with keywords (TensorFlow: `SavedBareConcreteFunction`).
    ConcreteFunction {
        /// Its name in [`Functions::concrete`](crate::Functions::concrete).
        name: String,
        /// The names of its arguments in order.
        argument_keywords: Vec<String>,
        /// How many of them may be given by position.
        allowed_positional: usize,
    },
    /// The signatures; each child is a [`Kind::ConcreteFunction`].
    Signatures,
    /// A constant.
    Constant(Tensor),
    /// The asset of this index in [`Artifact::assets`](crate::Artifact::assets).
    Asset(usize),
    /// A table or another thing that functions named `_create_resource` and `_initialize` make.
    Resource {
        /// Where TensorFlow would place it.
        device: String,
        /// What a checkpoint holds of it.
        restored: Option<Restored>,
    },
}

/// What a checkpoint holds of a resource, such as a table that changes, and the function that puts it there.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The concrete function that takes the tensors.
    pub function: String,
    /// The tensors, as variables that no object holds.
    pub tensors: Vec<ObjectId>,
}

impl Kind {
    /// A plain bag of attributes.
    pub fn object() -> Self {
        Kind::Object { identifier: "_generic_user_object".to_owned(), metadata: String::new() }
    }
}

/// An object and the names under which it holds others.
#[derive(Debug, Clone)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its children in order; two names may lead to one child.
    pub children: Vec<(String, ObjectId)>,
    /// The name that its class is registered under (`Package>Class`), or empty.
    pub registered_name: String,
    /// Its class's version, where the writer says one: producer and least consumer.
    pub version: Option<(i32, i32)>,
    /// Of a layer: the shapes of the inputs that it was built for, where they are known.
    pub input_shapes: Vec<PartialShape>,
}

impl Object {
    /// An object of this kind without children.
    pub fn new(kind: Kind) -> Self {
        Object {
            kind,
            children: Vec::new(),
            registered_name: String::new(),
            version: None,
            input_shapes: Vec::new(),
        }
    }

    /// The child of this name.
    pub fn child(&self, name: &str) -> Option<ObjectId> {
        self.children.iter().find(|(n, _)| n == name).map(|(_, id)| *id)
    }
}

/// The objects of a model, the root first.
#[derive(Debug, Clone)]
pub struct Objects {
    nodes: Vec<Object>,
}

impl Default for Objects {
    fn default() -> Self {
        Objects::new(Kind::object())
    }
}

impl Objects {
    /// A root of this kind, alone.
    pub fn new(root: Kind) -> Self {
        Objects { nodes: vec![Object::new(root)] }
    }

    /// The root's id.
    pub const ROOT: ObjectId = 0;

    /// The child of a layer that holds what Keras 2 puts beside its weights in a SavedModel.
    const API: &str = "keras_api";

    /// The list of a layer's states among that.
    const STATES: &str = "states";

    /// Adds an object that nothing holds yet.
    pub fn push(&mut self, kind: Kind) -> ObjectId {
        self.nodes.push(Object::new(kind));
        self.nodes.len() - 1
    }

    /// Adds an object under `name` of `parent`.
    pub fn add(&mut self, parent: ObjectId, name: impl Into<String>, kind: Kind) -> ObjectId {
        let id = self.push(kind);
        self.link(parent, name, id);
        id
    }

    /// Lets `parent` hold `child` under `name` (also). Ids that don't exist are ignored.
    pub fn link(&mut self, parent: ObjectId, name: impl Into<String>, child: ObjectId) {
        if child < self.nodes.len()
            && let Some(parent) = self.nodes.get_mut(parent)
        {
            parent.children.push((name.into(), child));
        }
    }

    /// The object of this id.
    pub fn get(&self, id: ObjectId) -> Option<&Object> {
        self.nodes.get(id)
    }

    /// The object of this id, to change it.
    pub fn get_mut(&mut self, id: ObjectId) -> Option<&mut Object> {
        self.nodes.get_mut(id)
    }

    /// How many objects there are; at least the root.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing but an empty root.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// All objects by id.
    pub fn iter(&self) -> impl Iterator<Item = (ObjectId, &Object)> {
        self.nodes.iter().enumerate()
    }

    /// The object at a path of names such as `dense/kernel`; names that contain `/` aren't found this way.
    pub fn find(&self, path: &str) -> Option<ObjectId> {
        path.split('/').filter(|p| !p.is_empty()).try_fold(Self::ROOT, |id, name| self.get(id)?.child(name))
    }

    /// The variable of this id, if it is one.
    pub fn variable(&self, id: ObjectId) -> Option<&Variable> {
        match &self.get(id)?.kind {
            Kind::Variable(v) => Some(v),
            _ => None,
        }
    }

    /// The variable of this id, to change it.
    pub fn variable_mut(&mut self, id: ObjectId) -> Option<&mut Variable> {
        match &mut self.get_mut(id)?.kind {
            Kind::Variable(v) => Some(v),
            _ => None,
        }
    }

    /// Every object that can be reached from the root with its first path, breadth first as TensorFlow names them.
    pub fn walk(&self) -> Vec<(ObjectId, Vec<&str>)> {
        let mut seen = HashSet::from([Self::ROOT]);
        let mut queue = VecDeque::from([(Self::ROOT, Vec::new())]);
        let mut found = Vec::new();
        while let Some((id, path)) = queue.pop_front() {
            if let Some(object) = self.get(id) {
                for (name, child) in &object.children {
                    if seen.insert(*child) {
                        let mut path: Vec<&str> = path.clone();
                        path.push(name);
                        queue.push_back((*child, path));
                    }
                }
            }
            found.push((id, path));
        }
        found
    }

    /// Every variable that can be reached from the root, with its first path joined by `/`, in walking order.
    pub fn variables(&self) -> Vec<(ObjectId, String, &Variable)> {
        self.walk()
            .into_iter()
            .filter_map(|(id, path)| Some((id, path.join("/"), self.variable(id)?)))
            .collect()
    }

    /// Every variable but those of [`Objects::states`], as [`Objects::variables`] gives them.
    pub fn weights(&self) -> Vec<(ObjectId, String, &Variable)> {
        let states: HashSet<ObjectId> = self.states().into_iter().collect();
        self.variables().into_iter().filter(|(id, ..)| !states.contains(id)).collect()
    }

    /// The variables that stateful layers keep from one call to the next (Keras: the `states` of a recurrent layer). They
    /// belong to a running model and to a SavedModel; no file of weights has them.
    pub fn states(&self) -> Vec<ObjectId> {
        let holders = self.nodes.iter().filter_map(|o| self.get(o.child(Self::API)?)?.child(Self::STATES));
        let mut stack: Vec<ObjectId> = holders.collect();
        let (mut seen, mut found) = (HashSet::new(), Vec::new());
        while let Some(id) = stack.pop() {
            let Some(object) = self.get(id).filter(|_| seen.insert(id)) else { continue };
            if matches!(object.kind, Kind::Variable(_)) {
                found.push(id);
            }
            stack.extend(object.children.iter().rev().map(|(_, child)| *child));
        }
        found
    }

    /// Adds a variable to those that a layer keeps from one call to the next.
    pub fn add_state(&mut self, layer: ObjectId, state: Variable) -> ObjectId {
        let held = |o: &Self, parent: ObjectId, name| o.get(parent).and_then(|o| o.child(name));
        let api = held(self, layer, Self::API).unwrap_or_else(|| self.add(layer, Self::API, Kind::object()));
        let list = held(self, api, Self::STATES).unwrap_or_else(|| self.add(api, Self::STATES, Kind::List));
        let index = self.get(list).map_or(0, |l| l.children.len());
        self.add(list, index.to_string(), Kind::Variable(state))
    }

    /// The variable of this index that a layer keeps from one call to the next.
    pub fn state(&self, layer: ObjectId, index: usize) -> Option<ObjectId> {
        let list = self.get(self.get(layer)?.child(Self::API)?)?.child(Self::STATES)?;
        self.get(list)?.child(&index.to_string())
    }

    /// The same objects, of which no layer holds states.
    pub fn without_states(&self) -> Objects {
        let mut objects = self.clone();
        for object in &mut objects.nodes {
            if matches!(object.kind, Kind::Layer(_)) {
                object.children.retain(|(name, _)| name != Self::API);
            }
        }
        objects
    }

    /// The first path of every object, for messages and for naming.
    pub fn paths(&self) -> HashMap<ObjectId, String> {
        self.walk().into_iter().map(|(id, path)| (id, path.join("/"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_stand_beside_the_weights() {
        let mut o = Objects::new(Kind::Layer(Layer::default()));
        o.add(Objects::ROOT, "kernel", Kind::Variable(Variable::new("kernel", Tensor::scalar(1.0f32))));
        let states = [0, 1].map(|_| o.add_state(Objects::ROOT, Variable::new("state", Tensor::scalar(0f32))));
        assert_eq!(o.states(), states);
        assert_eq!(o.state(Objects::ROOT, 1), Some(states[1]));
        assert_eq!(o.find("keras_api/states/0"), Some(states[0]));
        assert_eq!((o.variables().len(), o.weights().len()), (3, 1));
        assert_eq!(o.without_states().variables().len(), 1);
    }

    #[test]
    fn walking_gives_first_paths_even_in_cycles() {
        let mut o = Objects::default();
        let layers = o.add(Objects::ROOT, "layers", Kind::List);
        let dense = o.add(layers, "0", Kind::object());
        o.link(Objects::ROOT, "dense", dense);
        let kernel = o.add(dense, "kernel", Kind::Variable(Variable::new("kernel", Tensor::scalar(1.0f32))));
        o.link(dense, "root", Objects::ROOT);
        let variables = o.variables();
        assert_eq!(variables.len(), 1);
        assert_eq!((variables[0].0, variables[0].1.as_str()), (kernel, "dense/kernel"));
        assert_eq!(o.find("layers/0/kernel"), Some(kernel));
        assert_eq!(o.find("layers/1"), None);
    }
}
