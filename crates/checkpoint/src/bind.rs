//! Puts what a checkpoint holds into a model's objects.

use std::collections::{HashMap, HashSet, VecDeque};

use modelark_artifact::{Artifact, Dialect, Error, Kind, ObjectId, Objects, Report, Result, nearest};

use crate::keras::Model;
use crate::object_graph;
use crate::trackable::{ATTRIBUTES, NodeId, SLOT, Tree};

/// What a root may call the model that it holds.
const MODEL_EDGES: &[&str] = &["model", "net", "network", "root"];

/// Names in an error.
const SHOWN: usize = 5;

/// Finds the values of a model's variables in what was read, by the names of any generation of Keras, or by the
/// variables' full names when the checkpoint has no objects.
pub(crate) fn bind(model: &mut Objects, read: &Artifact) -> Result<Report> {
    let mut report = Report::default();
    let file = &read.objects;
    let candidates = if is_layer(model) {
        vec![Model::new(model, Dialect::Keras2), Model::new(model, Dialect::Keras3)]
    } else {
        Vec::new()
    };
    let generic = Model { tree: object_graph::tree(model), nodes: HashMap::new() };
    let trees = candidates.iter().chain(std::iter::once(&generic)).map(|m| &m.tree);
    let mut best = HashMap::new();
    for tree in trees {
        for root in roots(file) {
            let found = lockstep(tree, file, root);
            if found.len() > best.len() {
                best = found;
            }
        }
    }
    let by_names = best.is_empty() && object_graph::is_flat(file);
    if by_names {
        best = by_full_name(model, &candidates, file);
    }
    check(model, file, &best, by_names, &mut report)?;
    for (id, source) in best {
        if let (Some(value), Some(variable)) = (file.variable(source), model.variable_mut(id)) {
            variable.value = value.value.clone();
        }
    }
    Ok(report)
}

fn is_layer(objects: &Objects) -> bool {
    objects.get(Objects::ROOT).is_some_and(|r| matches!(r.kind, Kind::Layer(_)))
}

/// Where in a file a model's root may be: the root, or what it calls a model, or all that it holds.
fn roots(file: &Objects) -> Vec<ObjectId> {
    let Some(root) = file.get(Objects::ROOT) else { return Vec::new() };
    let named = MODEL_EDGES.iter().filter_map(|name| root.child(name));
    let mut roots = vec![Objects::ROOT];
    for id in named.chain(root.children.iter().map(|(_, id)| *id)) {
        if !roots.contains(&id) && file.variable(id).is_none() {
            roots.push(id);
        }
    }
    roots
}

/// Walks a tree and a file's objects along edges of the same names, as TensorFlow restores objects.
fn lockstep(tree: &Tree, file: &Objects, root: ObjectId) -> HashMap<ObjectId, ObjectId> {
    let mut seen: HashSet<(NodeId, ObjectId)> = HashSet::from([(Tree::ROOT, root)]);
    let mut queue = VecDeque::from([(Tree::ROOT, root)]);
    let mut found = HashMap::new();
    while let Some((ours, theirs)) = queue.pop_front() {
        let (Some(node), Some(object)) = (tree.nodes.get(ours), file.get(theirs)) else { continue };
        if let (Some(source), Kind::Variable(_)) =
            (node.source.filter(|_| !node.values.is_empty()), &object.kind)
        {
            found.entry(source).or_insert(theirs);
        }
        let edges: HashMap<&str, NodeId> = node.edges.iter().map(|(name, id)| (name.as_str(), *id)).collect();
        for (name, child) in &object.children {
            if let Some(&ours) = edges.get(name.as_str())
                && seen.insert((ours, *child))
            {
                queue.push_back((ours, *child));
            }
        }
    }
    found
}

/// Matches the model's variables with the root's own by full name; a name that occurs twice matches nothing.
fn by_full_name(model: &Objects, candidates: &[Model], file: &Objects) -> HashMap<ObjectId, ObjectId> {
    let root = file.get(Objects::ROOT).map_or(&[][..], |r| &r.children);
    let stored: HashMap<&str, ObjectId> = root.iter().map(|(name, id)| (name.as_str(), *id)).collect();
    let variables = model.variables();
    let mut best = HashMap::new();
    for naming in candidates.iter().map(Some).chain([None]) {
        let mut found: HashMap<ObjectId, Vec<ObjectId>> = HashMap::new();
        for (id, path, variable) in &variables {
            let source = match naming {
                Some(naming) => stored.get(naming.full_name(*id)),
                // Plain objects go by their own names, or by their paths.
                None => stored.get(variable.name.as_str()).or_else(|| stored.get(path.as_str())),
            };
            if let Some(source) = source {
                found.entry(*source).or_default().push(*id);
            }
        }
        let single = |(source, ids): (ObjectId, Vec<ObjectId>)| {
            Some((*ids.first().filter(|_| ids.len() == 1)?, source))
        };
        let found: HashMap<ObjectId, ObjectId> = found.into_iter().filter_map(single).collect();
        if found.len() > best.len() {
            best = found;
        }
    }
    best
}

/// Fails unless every variable has a value of its dtype and shape, and every value a variable.
fn check(
    model: &Objects,
    file: &Objects,
    found: &HashMap<ObjectId, ObjectId>,
    by_names: bool,
    report: &mut Report,
) -> Result<()> {
    let theirs: Vec<(ObjectId, String)> = {
        let used: HashSet<ObjectId> = found.values().copied().collect();
        // A model lists variables of its layers a second time.
        let edges = file.iter().flat_map(|(_, object)| &object.children);
        let states: HashSet<ObjectId> =
            edges.filter(|(name, _)| is_beside(name)).map(|(_, id)| *id).collect();
        let is_weight =
            |id: &ObjectId| file.variable(*id).is_some() && !used.contains(id) && !states.contains(id);
        file.walk()
            .into_iter()
            .filter(|(id, path)| is_weight(id) && !is_state(path))
            .map(|(id, path)| (id, path.join("/")))
            .collect()
    };
    let mut without = Vec::new();
    for (id, path, variable) in model.weights() {
        let Some(value) = found.get(&id).and_then(|source| file.variable(*source)) else {
            without.push(path);
            continue;
        };
        if value.shape != variable.shape || value.dtype != variable.dtype {
            return Err(Error::mismatch(format!(
                "the model has {} {:?}, the checkpoint {} {:?} (as {:?})",
                variable.dtype, variable.shape, value.dtype, value.shape, value.name
            ))
            .at(format!("variable {path:?}"))
            .help("the checkpoint is of another model, or of another configuration of it"));
        }
    }
    if let Some(first) = without.first() {
        let names = theirs.iter().map(|(_, path)| path.as_str());
        let e = Error::missing(format!(
            "the checkpoint has no value for {} of the model's variables: {}",
            without.len(),
            shown(&without)
        ));
        return Err(match nearest(first, names.clone()) {
            Some(near) => e.help(near),
            None if theirs.is_empty() => e.help("the checkpoint is of another model"),
            None => e.help(format!("what it holds besides: {}", shown(&names.collect::<Vec<_>>()))),
        });
    }
    if !theirs.is_empty() {
        let names: Vec<&str> = theirs.iter().map(|(_, path)| path.as_str()).collect();
        // A checkpoint by names may belong to a larger graph: its optimizer's slots and counters stand beside the weights.
        if by_names {
            report.note(format!(
                "{} tensors of the checkpoint are none of the model's: {}",
                names.len(),
                shown(&names)
            ));
            return Ok(());
        }
        return Err(Error::mismatch(format!(
            "{} tensors of the checkpoint are none of the model's: {}",
            names.len(),
            shown(&names)
        ))
        .help("the checkpoint is of a larger model, or of another one"));
    }
    Ok(())
}

/// Whether a path leads to something other than a model's weight: an optimizer's state, counters, attributes, the state of
/// Keras 2's random layers, what a vocabulary was learned with, which configs have.
fn is_state(path: &[&str]) -> bool {
    // Keras 3 tracks what stateful layers keep from one call to the next.
    let kept = matches!(path, [.., "states", number] if number.parse::<usize>().is_ok());
    kept || path.iter().any(|name| is_beside(name))
}

/// Whether what has this name, and all below it, is state of that kind.
fn is_beside(name: &str) -> bool {
    matches!(
        name,
        "optimizer"
            | "_optimizer"
            | "_random_generator"
            | "save_counter"
            | "keras_api"
            | "_CHECKPOINTABLE_OBJECT_GRAPH"
            | "idf_weights"
            | "num_documents"
            | "summary"
    ) || name.starts_with(ATTRIBUTES)
        || name.starts_with(SLOT)
}

fn shown(names: &[impl AsRef<str>]) -> String {
    let mut list: Vec<String> = names.iter().take(SHOWN).map(|n| format!("{:?}", n.as_ref())).collect();
    if names.len() > SHOWN {
        list.push("…".to_owned());
    }
    list.join(", ")
}
