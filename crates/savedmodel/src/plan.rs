//! What is written for an artifact that wasn't read from a SavedModel: its objects under Keras's names, what the loader
//! needs beside them, and functions for the signatures.

use std::collections::{BTreeMap, HashMap, HashSet};

use modelark_artifact::graph::{Builder, FuncRef, Library, Names, Sym, expand_composites};
use modelark_artifact::tensor::{DType, PartialShape};
use modelark_artifact::{
    Artifact, ConcreteFunction, Error, Functions, Kind, Layer, ObjectId, Objects, Report, Result,
    SaveOptions, Structure,
};
use modelark_checkpoint::{Named, NamedSlot};

use crate::function::argument_name;

/// The signature that is derived when there is none.
const SERVING_DEFAULT: &str = "serving_default";
/// How a call of a model is named among its children.
const CALL: &str = "__call__";
/// The endpoint of what Keras 3 exports.
const ENDPOINT: &str = "serve";
/// Where the signatures are.
pub(crate) const SIGNATURES: &str = "signatures";

/// Objects, functions and names, ready to be written; every id is a node's.
pub(crate) struct Plan {
    /// The objects.
    pub(crate) objects: Objects,
    /// The layers among them, with the shapes of their inputs.
    pub(crate) layers: BTreeMap<ObjectId, (Layer, Vec<PartialShape>)>,
    /// Slots of an optimizer of the older kind, which only the checkpoint lists.
    pub(crate) slots: Vec<NamedSlot>,
    /// Concrete functions with what they close over.
    pub(crate) concrete: BTreeMap<String, ConcreteFunction>,
    /// All functions.
    pub(crate) library: Library,
}

impl Plan {
    /// The plan for an artifact.
    ///
    /// # Errors
    /// When it has no functions, or one closes over something that can't be written.
    pub(crate) fn new(artifact: &Artifact, options: &SaveOptions, report: &mut Report) -> Result<Self> {
        let functions = artifact
            .functions
            .as_ref()
            .ok_or_else(|| Error::missing("a SavedModel needs functions, and there are none"))?;
        let root = artifact.objects.get(Objects::ROOT).map(|r| &r.kind);
        let (mut objects, mut ids, slots, names) = if matches!(root, Some(Kind::Layer(_))) {
            let named = Named::new(artifact, options.without_training, report);
            (named.objects, named.ids, named.slots, named.full_names)
        } else {
            let ids = (0..artifact.objects.len()).map(|id| (id, id)).collect();
            let paths = artifact.objects.paths().into_iter();
            (artifact.objects.clone(), ids, Vec::new(), paths.collect())
        };
        let mut graft = Graft { from: &artifact.objects, to: &mut objects, ids: &mut ids };
        graft.functions();
        let concrete = graft.concrete(functions)?;
        name_variables(&mut objects, &names);
        let layers = objects
            .iter()
            .filter_map(|(id, object)| match &object.kind {
                Kind::Layer(layer) => {
                    let mut layer = layer.clone();
                    if object.registered_name.contains('>') {
                        layer.class.clone_from(&object.registered_name);
                    }
                    Some((id, (layer, object.input_shapes.clone())))
                }
                _ => None,
            })
            .collect();
        let library = expand_composites(&functions.library)?;
        let mut plan = Plan { objects, layers, slots, concrete, library };
        plan.add_arg_specs();
        plan.add_variable_lists();
        plan.add_endpoint();
        plan.add_signatures()?;
        Ok(plan)
    }

    /// The child of the root of this name.
    pub(crate) fn root_child(&self, name: &str) -> Option<ObjectId> {
        self.objects.get(Objects::ROOT)?.child(name)
    }

    /// Gives the root the lists of its variables that users of a loaded model expect.
    fn add_variable_lists(&mut self) {
        let all = self.model_variables();
        let trainable: Vec<ObjectId> = all
            .iter()
            .copied()
            .filter(|id| self.objects.variable(*id).is_some_and(|v| v.trainable))
            .collect();
        for (name, ids) in [("variables", all), ("trainable_variables", trainable)] {
            if self.root_child(name).is_some() {
                continue;
            }
            let list = self.objects.add(Objects::ROOT, name, Kind::List);
            for (i, id) in ids.into_iter().enumerate() {
                self.objects.link(list, i.to_string(), id);
            }
        }
    }

    /// Gives functions that tell no Python signature one of their positional arguments: the loader wants one.
    fn add_arg_specs(&mut self) {
        for id in 0..self.objects.len() {
            let Some(Kind::Function(f)) = self.objects.get(id).map(|o| &o.kind) else { continue };
            let concrete = f.concrete.first().and_then(|name| self.concrete.get(name));
            let (None, Some(concrete)) = (&f.arg_spec, concrete) else { continue };
            let spec = arg_spec_of(&concrete.input);
            if let Some(Kind::Function(f)) = self.objects.get_mut(id).map(|o| &mut o.kind) {
                f.arg_spec = Some(spec);
                f.is_method = false;
            }
        }
    }

    /// Gives the root's call the name as well under which Keras 3's `TFSMLayer` looks for it.
    fn add_endpoint(&mut self) {
        if let (Some(call), None) = (self.root_child(CALL), self.root_child(ENDPOINT)) {
            self.objects.link(Objects::ROOT, ENDPOINT, call);
        }
    }

    /// The variables of the model itself in the order of its objects, those of the optimizer left out.
    fn model_variables(&self) -> Vec<ObjectId> {
        let optimizer = self.root_child("optimizer");
        let mut seen: HashSet<ObjectId> = optimizer.into_iter().chain(self.objects.states()).collect();
        let mut found = Vec::new();
        let mut stack = vec![Objects::ROOT];
        while let Some(id) = stack.pop() {
            if !seen.insert(id) {
                continue;
            }
            let Some(object) = self.objects.get(id) else { continue };
            if matches!(object.kind, Kind::Variable(_)) {
                found.push(id);
            }
            stack.extend(object.children.iter().rev().map(|(_, child)| *child));
        }
        found
    }

    /// Derives a signature from the root's call when there is none.
    fn add_signatures(&mut self) -> Result<()> {
        if self.root_child(SIGNATURES).is_some() {
            return Ok(());
        }
        let called = self.root_child(CALL).and_then(|id| match &self.objects.get(id)?.kind {
            Kind::Function(f) => f.concrete.first().cloned(),
            Kind::ConcreteFunction { name, .. } => Some(name.clone()),
            _ => None,
        });
        match called {
            Some(called) => self.sign(&called, SERVING_DEFAULT).map(drop),
            None => {
                self.objects.add(Objects::ROOT, SIGNATURES, Kind::Signatures);
                Ok(())
            }
        }
    }

    /// Makes a concrete function a signature, named `key` or nearly; gives that name.
    pub(crate) fn sign(&mut self, called: &str, key: &str) -> Result<String> {
        let (name, concrete, keywords) =
            self.wrapper(called).map_err(|e| e.at(format!("function {called:?}")))?;
        let signatures = match self.root_child(SIGNATURES) {
            Some(there) => there,
            None => self.objects.add(Objects::ROOT, SIGNATURES, Kind::Signatures),
        };
        let taken = |key: &str| self.objects.get(signatures).is_some_and(|s| s.child(key).is_some());
        let mut key = key.to_owned();
        while taken(&key) {
            key.push('_');
        }
        let allowed_positional = usize::from(keywords.len() == 1);
        let kind =
            Kind::ConcreteFunction { name: name.clone(), argument_keywords: keywords, allowed_positional };
        self.objects.add(signatures, key.clone(), kind);
        self.concrete.insert(name, concrete);
        Ok(key)
    }

    /// A function that takes the tensors of another by keyword and gives its results by name.
    fn wrapper(&mut self, called: &str) -> Result<(String, ConcreteFunction, Vec<String>)> {
        let missing = || Error::missing("there is no such function");
        let concrete = self.concrete.get(called).ok_or_else(missing)?;
        let function = self.library.read(called)?.clone();
        let inputs = named_tensors(&concrete.input, "args_");
        let outputs = match &concrete.output {
            Structure::Dict(_) => named_tensors(&concrete.output, "output_"),
            other => other
                .flatten()
                .into_iter()
                .enumerate()
                .map(|(i, (_, shape, dtype))| (format!("output_{i}"), shape.clone(), dtype))
                .collect(),
        };
        if inputs.len() + concrete.captures.len() != function.arity || outputs.len() != function.results.len()
        {
            return Err(Error::mismatch("its structure isn't that of its graph"));
        }
        let mut name = format!("__inference_signature_wrapper_{called}");
        while self.library.contains(&name) {
            name.push('_');
        }
        let mut builder = Builder::new(&name);
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        order.sort_by_key(|i| inputs.get(*i).map(|(n, ..)| n.clone()));
        let mut given: Vec<(usize, Sym)> = Vec::new();
        for i in order {
            if let Some((name, _, dtype)) = inputs.get(i) {
                given.push((i, builder.arg(name, *dtype)?));
            }
        }
        given.sort_by_key(|(i, _)| *i);
        for i in inputs.len()..function.arity {
            let dtype = function.arg_dtype(i).unwrap_or(DType::Resource);
            given.push((i, builder.arg(&format!("captured_{i}"), dtype)?));
        }
        let args: Vec<Sym> = given.into_iter().map(|(_, sym)| sym).collect();
        let types: Vec<DType> = args.iter().map(|a| builder.dtype(*a)).collect();
        let call = builder.op("StatefulPartitionedCall").inputs(&args).attr("f", FuncRef::new(called));
        let results: Vec<DType> = function.results.iter().map(|r| r.dtype).collect();
        let results = call.attr("Tin", types).attr("Tout", results).all()?;
        let mut named: Vec<(&str, Sym)> =
            outputs.iter().map(|(n, ..)| n.as_str()).zip(results.iter().copied()).collect();
        named.sort_by_key(|(n, _)| *n);
        let (made, _) = builder.finish(&named)?;
        let dict = |tensors: &[(String, PartialShape, DType)]| {
            let spec = |(name, shape, dtype): &(String, PartialShape, DType)| {
                let (shape, dtype) = (shape.clone(), *dtype);
                (name.clone(), Structure::Tensor { name: name.clone(), shape, dtype })
            };
            Structure::Dict(tensors.iter().map(spec).collect())
        };
        let wrapped = ConcreteFunction {
            captures: concrete.captures.clone(),
            input: Structure::Tuple(vec![Structure::Tuple(Vec::new()), dict(&inputs)]),
            output: dict(&outputs),
        };
        self.library.insert(made);
        let mut keywords: Vec<String> = inputs.into_iter().map(|(n, ..)| n).collect();
        keywords.sort();
        Ok((name, wrapped, keywords))
    }
}

/// The Python signature of a function with these positional arguments: tensors by their names, then literals, whose values
/// are the defaults.
fn arg_spec_of(input: &Structure) -> Structure {
    let positional = match input {
        Structure::Tuple(parts) => match parts.first() {
            Some(Structure::Tuple(positional)) => &positional[..],
            _ => &[],
        },
        _ => &[],
    };
    let name = |(i, item): (usize, &Structure)| match item {
        Structure::Tensor { name, .. } if !name.is_empty() => argument_name(name),
        Structure::Bool(_) => "training".to_owned(),
        Structure::None => "mask".to_owned(),
        _ => format!("args_{i}"),
    };
    let mut names: Vec<String> = positional.iter().enumerate().map(name).collect();
    for i in 0..names.len() {
        if names.get(..i).is_some_and(|before| before.contains(&names[i])) {
            names[i] = format!("args_{i}");
        }
    }
    let literals = positional.iter().rev().take_while(|p| p.flatten().is_empty()).count();
    let defaults = positional.get(positional.len() - literals..).unwrap_or_default().to_vec();
    arg_spec(names, defaults)
}

/// The Python signature of a function of positional arguments (`inspect.FullArgSpec`); `defaults` are the last ones'.
pub(crate) fn arg_spec(names: Vec<String>, defaults: Vec<Structure>) -> Structure {
    let defaults = if defaults.is_empty() { Structure::None } else { Structure::Tuple(defaults) };
    let fields = [
        ("args", Structure::List(names.into_iter().map(Structure::String).collect())),
        ("varargs", Structure::None),
        ("varkw", Structure::None),
        ("defaults", defaults),
        ("kwonlyargs", Structure::List(Vec::new())),
        ("kwonlydefaults", Structure::None),
        ("annotations", Structure::Dict(BTreeMap::new())),
    ];
    Structure::NamedTuple {
        name: "FullArgSpec".to_owned(),
        fields: fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect(),
    }
}

/// The tensors of a structure in order, each under a name of its own.
fn named_tensors(structure: &Structure, prefix: &str) -> Vec<(String, PartialShape, DType)> {
    let mut keys = Vec::new();
    collect_keys(structure, None, &mut keys);
    let mut taken = HashSet::new();
    let tensors = structure.flatten().into_iter().enumerate();
    tensors
        .map(|(i, (name, shape, dtype))| {
            let key = keys.get(i).cloned().flatten();
            let name =
                key.unwrap_or_else(|| if name.is_empty() { format!("{prefix}{i}") } else { name.to_owned() });
            let mut unique = name.clone();
            while !taken.insert(unique.clone()) {
                unique = format!("{name}_{i}");
            }
            (unique, shape.clone(), dtype)
        })
        .collect()
}

/// The key of a dict under which each tensor stands, if it stands right in one.
fn collect_keys(structure: &Structure, key: Option<&String>, keys: &mut Vec<Option<String>>) {
    match structure {
        Structure::Tensor { .. } => keys.push(key.cloned()),
        Structure::List(items) | Structure::Tuple(items) => {
            items.iter().for_each(|i| collect_keys(i, None, keys))
        }
        Structure::Dict(items) => items.iter().for_each(|(k, i)| collect_keys(i, Some(k), keys)),
        Structure::NamedTuple { fields, .. } => {
            fields.iter().for_each(|(k, i)| collect_keys(i, Some(k), keys))
        }
        _ => {}
    }
}

/// Gives every variable a full name of its own: TensorFlow 1 finds a variable by it.
fn name_variables(objects: &mut Objects, names: &HashMap<ObjectId, String>) {
    let mut taken = Names::default();
    for id in 0..objects.len() {
        let Some(variable) = objects.variable_mut(id) else { continue };
        let own = names.get(&id).filter(|n| !n.is_empty()).cloned().unwrap_or_else(|| variable.name.clone());
        let legal = |c: char| if c.is_ascii_alphanumeric() || "_./-".contains(c) { c } else { '_' };
        let mut base: String = own.strip_suffix(":0").unwrap_or(&own).chars().map(legal).collect();
        if !base.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            base.insert(0, 'v');
        }
        variable.name = taken.unique(base);
    }
}

/// Brings over what a checkpoint has no names for: functions, signatures, constants, tables.
struct Graft<'a> {
    from: &'a Objects,
    to: &'a mut Objects,
    ids: &'a mut HashMap<ObjectId, ObjectId>,
}

impl Graft<'_> {
    /// All such children of objects that are there.
    fn functions(&mut self) {
        for (id, _) in self.from.walk() {
            let Some(&parent) = self.ids.get(&id) else { continue };
            for (name, child) in self.from.get(id).map_or(&[][..], |o| &o.children) {
                if !self.ids.contains_key(child) && self.is_kept(*child) {
                    let child = self.bring(*child);
                    self.to.link(parent, name.clone(), child);
                }
            }
        }
    }

    fn is_kept(&self, id: ObjectId) -> bool {
        self.from.get(id).is_some_and(|o| {
            !matches!(o.kind, Kind::Layer(_) | Kind::Variable(_) | Kind::List | Kind::Dict | Kind::Tuple)
        })
    }

    /// An object with what hangs below it.
    fn bring(&mut self, id: ObjectId) -> ObjectId {
        let mut queue = vec![id];
        let mut brought = Vec::new();
        while let Some(old) = queue.pop() {
            let Some(object) = self.from.get(old) else { continue };
            if self.ids.contains_key(&old) {
                continue;
            }
            let new = self.to.push(object.kind.clone());
            if let Some(o) = self.to.get_mut(new) {
                o.registered_name.clone_from(&object.registered_name);
            }
            self.ids.insert(old, new);
            brought.push((old, new));
            queue.extend(object.children.iter().map(|(_, child)| *child));
        }
        for (old, new) in brought {
            for (name, child) in self.from.get(old).map_or(&[][..], |o| &o.children) {
                if let Some(child) = self.ids.get(child) {
                    self.to.link(new, name.clone(), *child);
                }
            }
        }
        self.ids.get(&id).copied().unwrap_or(Objects::ROOT)
    }

    /// The concrete functions with what they close over under its new ids.
    fn concrete(&mut self, functions: &Functions) -> Result<BTreeMap<String, ConcreteFunction>> {
        let mut all = BTreeMap::new();
        for (name, f) in &functions.concrete {
            let mut captures = Vec::new();
            for id in &f.captures {
                if self.from.get(*id).is_none() {
                    return Err(Error::invalid(format!("it closes over object {id}, which doesn't exist"))
                        .at(format!("function {name:?}")));
                }
                let known = self.ids.get(id).copied();
                captures.push(known.unwrap_or_else(|| self.bring(*id)));
            }
            all.insert(name.clone(), ConcreteFunction { captures, ..f.clone() });
        }
        Ok(all)
    }
}
