//! The object graph of a checkpoint as objects, and such objects as a checkpoint's graph again.
//!
//! The object of node `i` has the id `i`. What a node stores besides a variable's value hangs below it under
//! `.ATTRIBUTES/<attribute>`, an optimizer's slot below its variable under `.OPTIMIZER_SLOT/<optimizer>/<slot>`: as in
//! the keys. Tensors that the graph doesn't name are the root's, under their keys.

use std::collections::{BTreeSet, HashMap, HashSet};

use modelark_artifact::{Error, Kind, Limits, ObjectId, Objects, Result, Variable};
use modelark_proto::{Message, TrackableObjectGraph};

use crate::trackable::{ATTRIBUTES, Node, SLOT, Tree, VALUE, Written};
use crate::{OBJECT_GRAPH_KEY, Reader};

/// The objects of a checkpoint: as its graph says, or all tensors by key when it has none.
pub(crate) fn read(
    reader: &Reader,
    graph: Option<&TrackableObjectGraph>,
    limits: &Limits,
) -> Result<Objects> {
    let mut objects = Objects::default();
    let mut keys: BTreeSet<&str> = reader.keys().into_iter().collect();
    if let Some(graph) = graph {
        keys.remove(OBJECT_GRAPH_KEY);
        fill(&mut objects, graph, reader, &mut keys, limits)?;
    }
    for key in keys {
        objects.add(Objects::ROOT, key, Kind::Variable(reader.variable(key)?));
    }
    Ok(objects)
}

fn fill(
    objects: &mut Objects,
    graph: &TrackableObjectGraph,
    reader: &Reader,
    keys: &mut BTreeSet<&str>,
    limits: &Limits,
) -> Result<()> {
    let n = graph.nodes.len();
    if n > limits.items {
        return Err(Error::limit(format!(
            "the object graph has {n} objects, over the limit of {}",
            limits.items
        )));
    }
    let id = |node: i32| {
        usize::try_from(node)
            .ok()
            .filter(|&id| id < n)
            .ok_or_else(|| Error::corrupt(format!("the object graph refers to node {node} of {n}")))
    };
    let named = |key: &str, name: &str| -> Result<Variable> {
        let mut variable = reader.variable(key)?;
        name.clone_into(&mut variable.name);
        Ok(variable)
    };
    for _ in 1..n {
        objects.push(Kind::object());
    }
    let mut extra: Vec<(ObjectId, String, String)> = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        for attribute in &node.attributes {
            let key = attribute.checkpoint_key.as_str();
            if attribute.name == VALUE {
                keys.remove(key);
                let name = if attribute.full_name.is_empty() { key } else { &attribute.full_name };
                let variable = named(key, name).map_err(|e| e.at("the object graph"))?;
                if let Some(object) = objects.get_mut(i) {
                    object.kind = Kind::Variable(variable);
                }
                continue;
            }
            // The key of a table is what the keys of its tensors start with.
            let own: Vec<&str> = keys.range(key..).copied().take_while(|k| k.starts_with(key)).collect();
            for key in own {
                keys.remove(key);
                let name = key.rsplit_once(ATTRIBUTES).map_or(key, |(_, name)| name.trim_start_matches('/'));
                extra.push((i, format!("{ATTRIBUTES}/{name}"), key.to_owned()));
            }
        }
        for child in &node.children {
            objects.link(i, child.local_name.clone(), id(child.node_id)?);
        }
    }
    for node in &graph.nodes {
        for slot in &node.slot_variables {
            let (of, slot_id) = (id(slot.original_variable_node_id)?, id(slot.slot_variable_node_id)?);
            let key = graph
                .nodes
                .get(slot_id)
                .and_then(|n| n.attributes.iter().find(|a| a.name == VALUE))
                .map_or("", |a| a.checkpoint_key.as_str());
            let path = key
                .split_once(&format!("/{SLOT}/"))
                .and_then(|(_, rest)| rest.split_once(&format!("/{ATTRIBUTES}/")))
                .map_or(slot.slot_name.as_str(), |(path, _)| path);
            objects.link(of, format!("{SLOT}/{path}"), slot_id);
        }
    }
    for (parent, name, key) in extra {
        objects.add(parent, name, Kind::Variable(reader.variable(&key)?));
    }
    // A value that no path leads to is still there.
    let reached: HashSet<ObjectId> = objects.walk().into_iter().map(|(id, _)| id).collect();
    for (i, node) in graph.nodes.iter().enumerate().filter(|(i, _)| !reached.contains(i)) {
        for attribute in node.attributes.iter().filter(|a| a.name == VALUE) {
            objects.link(Objects::ROOT, attribute.checkpoint_key.clone(), i);
        }
    }
    Ok(())
}

/// The graph that was read, with the values that its objects have now; `None` when the objects aren't of that graph.
pub(crate) fn rewrite(objects: &Objects, graph: &[u8]) -> Result<Option<Written>> {
    let graph = TrackableObjectGraph::decode(graph)
        .map_err(|e| Error::corrupt("the object graph that was kept is damaged").because(e))?;
    let mut tensors = Vec::new();
    let mut keys = HashSet::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        for attribute in node.attributes.iter().filter(|a| a.name == VALUE) {
            let Some(variable) = objects.variable(i) else { return Ok(None) };
            if keys.insert(attribute.checkpoint_key.clone()) {
                tensors.push((attribute.checkpoint_key.clone(), variable.clone()));
            }
        }
    }
    // What isn't a node's value is named by its key.
    for (id, path, variable) in objects.variables() {
        if id >= graph.nodes.len() {
            if keys.contains(&variable.name) {
                continue;
            }
            if objects.get(Objects::ROOT).and_then(|r| r.child(&path)).is_none() && !path.contains(ATTRIBUTES)
            {
                return Ok(None);
            }
            keys.insert(variable.name.clone());
            tensors.push((variable.name.clone(), variable.clone()));
        }
    }
    Ok(Some(Written { graph: Some(graph), tensors }))
}

/// Any objects as a tree of trackables: those that are variables or lead to one.
pub(crate) fn tree(objects: &Objects) -> Tree {
    let mut tree = Tree::new();
    let reachable = objects.walk();
    let mut nodes = HashMap::from([(Objects::ROOT, Tree::ROOT)]);
    for (id, path) in &reachable {
        let node = match nodes.get(id) {
            Some(&node) => node,
            None => {
                let node = tree.push(Node { source: Some(*id), ..Node::default() });
                nodes.insert(*id, node);
                node
            }
        };
        if let (Some(variable), Some(node)) = (objects.variable(*id), tree.nodes.get_mut(node)) {
            let name = variable.name.strip_suffix(":0").unwrap_or(&variable.name);
            let full_name = if name.is_empty() { path.join("/") } else { name.to_owned() };
            node.values.push((VALUE.to_owned(), full_name, variable.clone()));
        }
    }
    for (id, _) in &reachable {
        for (name, child) in objects.get(*id).map_or(&[][..], |o| &o.children) {
            if let (Some(&parent), Some(&child)) = (nodes.get(id), nodes.get(child)) {
                tree.link(parent, name, child);
            }
        }
    }
    let has_values = tree.has_values();
    for node in &mut tree.nodes {
        node.edges.retain(|(_, child)| has_values.get(*child) == Some(&true));
    }
    tree
}

/// Whether all variables are the root's own, as in a checkpoint by names.
pub(crate) fn is_flat(objects: &Objects) -> bool {
    objects
        .walk()
        .iter()
        .all(|(id, path)| path.len() <= 1 && (path.is_empty() || objects.variable(*id).is_some()))
}

#[cfg(test)]
mod tests {
    use modelark_artifact::{Place, Target};
    use modelark_proto::trackable_object_graph::{TrackableObject, trackable_object as part};
    use modelark_tensor::Tensor;

    use super::*;
    use crate::BundleWriter;

    fn reader(folder: &std::path::Path, keys: &[&str]) -> Reader {
        let target = Target::new(folder.join("c")).expect("target");
        let mut writer = BundleWriter::new(&target, "c").expect("writer");
        for key in keys {
            writer.add(key, &Tensor::scalar(1f32)).expect("add");
        }
        writer.finish().and_then(|()| target.commit()).expect("commit");
        Reader::open(&Place::of_path(folder.join("c")), &Limits::default()).expect("open")
    }

    fn attribute(name: &str, key: &str) -> part::SerializedTensor {
        part::SerializedTensor { name: name.into(), full_name: String::new(), checkpoint_key: key.into() }
    }

    fn node(children: &[(&str, i32)], attributes: Vec<part::SerializedTensor>) -> TrackableObject {
        let edge =
            |(name, id): &(&str, i32)| part::ObjectReference { node_id: *id, local_name: (*name).into() };
        TrackableObject {
            children: children.iter().map(edge).collect(),
            attributes,
            ..TrackableObject::default()
        }
    }

    #[test]
    fn every_key_is_reachable_and_is_written_again() {
        let dir = tempfile::tempdir().expect("temp dir");
        let keys = [
            "alone",
            "other",
            "t/.ATTRIBUTES/table-keys",
            "t/.ATTRIBUTES/table-values",
            "v/.ATTRIBUTES/VARIABLE_VALUE",
        ];
        let reader = reader(dir.path(), &keys);
        let graph = TrackableObjectGraph {
            nodes: vec![
                node(&[("v", 1), ("t", 3)], vec![]),
                // A variable that holds something.
                node(&[("inner", 3)], vec![attribute(VALUE, keys[4])]),
                // Nothing refers to this one.
                node(&[], vec![attribute(VALUE, "alone")]),
                node(&[], vec![attribute("table", "t/.ATTRIBUTES/table")]),
            ],
        };
        let objects = read(&reader, Some(&graph), &Limits::default()).expect("read");
        let mut paths: Vec<String> = objects.variables().into_iter().map(|(_, path, _)| path).collect();
        paths.sort();
        assert_eq!(paths, ["alone", "other", keys[2], keys[3], "v"]);
        assert_eq!(objects.find("v/inner"), objects.find("t"));
        let written = rewrite(&objects, &graph.encode_to_vec()).expect("rewrite").expect("its own graph");
        let mut again: Vec<&str> = written.tensors.iter().map(|(key, _)| key.as_str()).collect();
        again.sort_unstable();
        assert_eq!(again, keys);
        let mut more = objects.clone();
        let t = more.find("t").expect("t");
        more.add(t, "new", Kind::Variable(Variable::new("new", Tensor::scalar(1f32))));
        assert!(rewrite(&more, &graph.encode_to_vec()).expect("rewrite").is_none());
    }

    #[test]
    fn graphs_that_refer_to_nothing_are_errors() {
        let dir = tempfile::tempdir().expect("temp dir");
        let reader = reader(dir.path(), &["v"]);
        for (graph, what) in [
            (node(&[("x", 7)], vec![]), "node 7 of 1"),
            (node(&[("x", -1)], vec![]), "node -1"),
            (node(&[], vec![attribute(VALUE, "w")]), "\"w\""),
        ] {
            let graph = TrackableObjectGraph { nodes: vec![graph] };
            let e = read(&reader, Some(&graph), &Limits::default()).expect_err(what).to_string();
            assert!(e.contains(what), "{e}");
        }
    }
}
