//! The graph around the functions: what TensorFlow 1 and TensorFlow Serving feed, fetch and restore.

use std::collections::{BTreeMap, HashMap, HashSet};

use modelark_artifact::{
    Error, Kind, Limits, Objects, Result, Session, Signature, TensorInfo, Variable,
    tensor::{PartialShape, Tensor},
};
use modelark_checkpoint::{
    Bundle,
    slice::{ShapeAndSlice, Slice},
    wire,
};
use modelark_graph::{Attr, Graph, Output};
use modelark_proto::{
    self as proto, AssetFileDef, CollectionDef, Message, MetaGraphDef, SignatureDef, VariableDef,
    collection_def, tensor_info,
};

use crate::frozen::SIGNATURE;
use crate::graphdef::{find_tensor, graph_from_proto, node_index};
use crate::saved_model::Missing;

/// The signature whose output is the node that initializes the model.
pub(crate) const INIT_SIGNATURE: &str = "__saved_model_init_op";
/// Collections that name that node, the newer first.
const INIT_COLLECTIONS: [&str; 2] = ["saved_model_main_op", "legacy_init_op"];
/// Where TensorFlow 1.0 kept what is now `asset_file_def`.
const ASSETS_COLLECTION: &str = "saved_model_assets";

/// The session of a MetaGraph.
///
/// # Errors
/// When the graph isn't well formed; the message names the node.
pub(crate) fn session_from_proto(meta: &MetaGraphDef, limits: &Limits) -> Result<Session> {
    let graph_def = meta.graph_def.as_ref().ok_or_else(|| Error::corrupt("the MetaGraph has no graph"))?;
    let graph = graph_from_proto(&graph_def.node, limits)?;
    let index = node_index(&graph);
    let init = init_node(meta).and_then(|name| index.get(name.as_str()).copied());
    let assets = asset_files(meta)
        .iter()
        .enumerate()
        .filter_map(|(i, asset)| {
            let name = asset.tensor_info.as_ref().and_then(tensor_name)?;
            Some((find_tensor(name, &index)?, i))
        })
        .collect();
    let signatures = meta
        .signature_def
        .iter()
        .filter(|(name, _)| *name != INIT_SIGNATURE)
        .map(|(name, s)| (name.clone(), signature_from_proto(s)))
        .collect();
    let init = init.into_iter().collect();
    let mut session = Session { init, assets, signatures, variables: BTreeMap::new(), graph };
    if session.signatures.is_empty() && meta.object_graph_def.is_none() {
        // Nothing says what to feed and to fetch, as in a frozen graph.
        session.signatures.insert(SIGNATURE.to_owned(), session.signature(None, None)?);
    }
    Ok(session)
}

/// What is known of a tensor that a signature names; sparse and composite ones have no name of their own.
fn tensor_name(info: &proto::TensorInfo) -> Option<&str> {
    match &info.encoding {
        Some(tensor_info::Encoding::Name(name)) => Some(name),
        _ => None,
    }
}

/// A signature. Tensors that have no single name, and unknown dtypes, are left out; the message is kept beside it.
pub(crate) fn signature_from_proto(signature: &SignatureDef) -> Signature {
    let side = |tensors: &BTreeMap<String, proto::TensorInfo>| {
        let info = |(key, info): (&String, &proto::TensorInfo)| {
            let shape =
                info.tensor_shape.as_ref().map_or(PartialShape::UNKNOWN, wire::partial_shape_from_proto);
            let name = tensor_name(info)?.to_owned();
            let dtype = wire::dtype_from_proto(info.dtype).ok()?;
            Some((key.clone(), TensorInfo { name, dtype, shape }))
        };
        tensors.iter().filter_map(info).collect()
    };
    Signature {
        inputs: side(&signature.inputs),
        outputs: side(&signature.outputs),
        method: signature.method_name.clone(),
    }
}

/// The message of a signature.
pub(crate) fn signature_to_proto(signature: &Signature) -> SignatureDef {
    let side = |tensors: &BTreeMap<String, TensorInfo>| {
        tensors.iter().map(|(key, info)| (key.clone(), tensor_info_to_proto(info))).collect()
    };
    SignatureDef {
        inputs: side(&signature.inputs),
        outputs: side(&signature.outputs),
        method_name: signature.method.clone(),
        ..SignatureDef::default()
    }
}

/// The message of a tensor's description.
pub(crate) fn tensor_info_to_proto(info: &TensorInfo) -> proto::TensorInfo {
    proto::TensorInfo {
        dtype: wire::dtype_to_proto(info.dtype),
        tensor_shape: Some(wire::partial_shape_to_proto(&info.shape)),
        encoding: Some(tensor_info::Encoding::Name(info.name.clone())),
    }
}

/// Signatures as messages: each as it was read where it still says the same.
pub(crate) fn merge_signatures(session: &Session, read: &mut BTreeMap<String, SignatureDef>) {
    for (name, signature) in &session.signatures {
        if read.get(name).is_none_or(|r| signature_from_proto(r) != *signature) {
            read.insert(name.clone(), signature_to_proto(signature));
        }
    }
    read.retain(|name, _| name == INIT_SIGNATURE || session.signatures.contains_key(name));
}

fn init_node(meta: &MetaGraphDef) -> Option<String> {
    let by_signature = || {
        let output = meta.signature_def.get(INIT_SIGNATURE)?.outputs.get(INIT_SIGNATURE)?;
        let name = tensor_name(output)?;
        Some(name.split(':').next().unwrap_or(name).to_owned())
    };
    let by_collection = |name: &&str| node_list(meta.collection_def.get(*name)?).first().cloned();
    by_signature().or_else(|| INIT_COLLECTIONS.iter().find_map(by_collection))
}

fn node_list(collection: &CollectionDef) -> &[String] {
    match &collection.kind {
        Some(collection_def::Kind::NodeList(list)) => &list.value,
        _ => &[],
    }
}

/// The assets of a MetaGraph, also where TensorFlow 1.0 kept them.
pub(crate) fn asset_files(meta: &MetaGraphDef) -> Vec<AssetFileDef> {
    if !meta.asset_file_def.is_empty() {
        return meta.asset_file_def.clone();
    }
    match meta.collection_def.get(ASSETS_COLLECTION).and_then(|c| c.kind.as_ref()) {
        Some(collection_def::Kind::AnyList(list)) => {
            list.value.iter().filter_map(|any| AssetFileDef::decode(&any.value[..]).ok()).collect()
        }
        _ => Vec::new(),
    }
}

/// What passes a restored value on to its variable: more of it than anybody writes.
const MOST_BETWEEN: usize = 64;

/// Where the graph's own restore ops put what they read: for each variable's node, the key and the slice of it.
pub(crate) fn restored_variables(graph: &Graph) -> BTreeMap<usize, (String, Option<Slice>)> {
    let mut restores = HashMap::new();
    let mut found: BTreeMap<usize, Output> = BTreeMap::new();
    for node in &graph.nodes {
        if let ("Assign" | "AssignVariableOp", [variable, value, ..]) = (node.op.as_str(), &node.inputs[..])
            && let Some(restored) = restored(graph, *value)
            && restores.entry(restored.node).or_insert_with(|| restored_keys(graph, restored.node)).is_some()
        {
            // Of several, the first one in the graph.
            let first = found.entry(variable.node).or_insert(restored);
            *first = restored.min(*first);
        }
    }
    let read = |(variable, restored): (usize, Output)| {
        let (keys, slices) = restores.get(&restored.node)?.as_ref()?;
        let slice = slices.get(restored.index).filter(|s| !s.is_empty());
        let slice = slice.and_then(|s| s.parse().ok()).filter(is_part).map(|s| s.slice);
        Some((variable, (keys.get(restored.index)?.clone(), slice)))
    };
    found.into_iter().filter_map(read).collect()
}

/// The output of a restore op that a value is, through what passes it on.
fn restored(graph: &Graph, mut value: Output) -> Option<Output> {
    for _ in 0..MOST_BETWEEN {
        let node = graph.nodes.get(value.node)?;
        match node.op.as_str() {
            "RestoreV2" | "Restore" | "RestoreSlice" => return Some(value),
            "Identity" => value = *node.inputs.first()?,
            _ => return None,
        }
    }
    None
}

/// The keys and slices that a restore op reads, if the graph says them.
fn restored_keys(graph: &Graph, restore: usize) -> Option<(Vec<String>, Vec<String>)> {
    let node = graph.nodes.get(restore)?;
    let strings = |position: usize| -> Option<Vec<String>> {
        let tensor = constant(graph, *node.inputs.get(position)?)?;
        let texts = tensor.strings().ok()?;
        texts.iter().map(|s| String::from_utf8(s.to_vec()).ok()).collect()
    };
    Some((strings(1)?, strings(2).unwrap_or_default()))
}

/// Whether a slice leaves something of its tensor out.
fn is_part(slice: &ShapeAndSlice) -> bool {
    let whole = slice.shape.iter().map(|d| 0..*d);
    slice.slice.ranges(&slice.shape).is_ok_and(|ranges| !ranges.into_iter().eq(whole))
}

fn constant(graph: &Graph, output: Output) -> Option<&Tensor> {
    let node = graph.nodes.get(output.node)?;
    node.attr("value").and_then(Attr::as_tensor)
}

/// The variables of a model without objects: each is a child of the root by its key in the checkpoint, and a part of a
/// partitioned one by its node's name. Tells the session which nodes they are.
///
/// # Errors
/// When a variable's tensor is missing or not of the slice asked for.
pub(crate) fn session_variables(
    session: &mut Session,
    meta: &MetaGraphDef,
    bundle: Result<&Bundle, &Missing>,
) -> Result<Objects> {
    let (bundle, missing) = (bundle.ok(), bundle.err());
    let mut objects = Objects::default();
    let trainable: Option<HashSet<String>> =
        meta.collection_def.get("trainable_variables").map(variable_names);
    let mut nodes = restored_variables(&session.graph);
    for (at, node) in session.graph.nodes.iter().enumerate() {
        if !is_variable(&node.op) || nodes.contains_key(&at) {
            continue;
        }
        let shared = node.attr("shared_name").and_then(Attr::as_str).filter(|s| !s.is_empty());
        let names = [Some(node.name.as_str()), shared];
        if let Some(key) = names.into_iter().flatten().find(|n| bundle.is_some_and(|b| b.entry(n).is_some()))
        {
            nodes.insert(at, (key.to_owned(), None));
        }
    }
    let mut named: HashSet<String> = HashSet::new();
    for (at, (key, slice)) in nodes {
        let Some(node) = session.graph.nodes.get(at).filter(|n| is_variable(&n.op)) else { continue };
        let (name, mut variable) = match (bundle, slice) {
            (None, _) => (key.clone(), missing_variable(node, &key, missing)?),
            (Some(bundle), None) => (key.clone(), bundle.variable(&key)?),
            (Some(bundle), Some(slice)) => {
                let (bundle, key) = (bundle.clone(), key.clone());
                let whole = bundle.variable(&key)?;
                let lengths: Vec<usize> = slice.ranges(&whole.shape)?.into_iter().map(|r| r.len()).collect();
                let load = move || bundle.tensor_slice(&key, &slice);
                (node.name.clone(), Variable::lazy(node.name.clone(), whole.dtype, lengths, load))
            }
        };
        variable.trainable = trainable.as_ref().is_none_or(|t| t.contains(&node.name) || t.contains(&name));
        if named.insert(name.clone()) {
            session.variables.insert(name.clone(), at);
            objects.add(Objects::ROOT, name, Kind::Variable(variable));
        }
    }
    if let Some(bundle) = bundle {
        for key in
            bundle.keys().filter(|k| *k != modelark_checkpoint::OBJECT_GRAPH_KEY && !named.contains(*k))
        {
            objects.push(Kind::Variable(bundle.variable(key)?.trainable(false)));
        }
    }
    Ok(objects)
}

/// A variable of a model whose checkpoint isn't there.
fn missing_variable(node: &modelark_graph::Node, key: &str, missing: Option<&Missing>) -> Result<Variable> {
    let dtype = node.attr("dtype").and_then(Attr::as_type);
    let dtype = dtype.ok_or_else(|| Error::corrupt(format!("variable {:?} says no dtype", node.name)))?;
    let shape = node.attr("shape").and_then(Attr::as_shape).and_then(|s| s.known()).unwrap_or_default();
    let missing = missing.cloned().unwrap_or_default();
    Ok(Variable::lazy(key, dtype, shape.to_vec(), move || Err(missing.error())))
}

fn is_variable(op: &str) -> bool {
    matches!(op, "VarHandleOp" | "VariableV2" | "Variable" | "AutoReloadVariable")
}

/// The names in a collection of variables.
fn variable_names(collection: &CollectionDef) -> HashSet<String> {
    let Some(collection_def::Kind::BytesList(list)) = &collection.kind else { return HashSet::new() };
    let name = |bytes: &Vec<u8>| {
        let name = VariableDef::decode(&bytes[..]).ok()?.variable_name;
        Some(name.split(':').next().unwrap_or(&name).to_owned())
    };
    list.value.iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelark_graph::{Attrs, Node};

    fn strings(name: &str, values: &[&str]) -> Node {
        let tensor =
            Tensor::from_strings(values.iter().map(|v| v.as_bytes()), [values.len()]).expect("tensor");
        Node {
            name: name.into(),
            op: "Const".into(),
            attrs: Attrs::from([("value".to_owned(), Attr::from(tensor))]),
            ..Node::default()
        }
    }

    fn node(name: &str, op: &str, inputs: &[(usize, usize)]) -> Node {
        let inputs = inputs.iter().map(|(n, i)| Output::new(*n, *i)).collect();
        Node { name: name.into(), op: op.into(), inputs, ..Node::default() }
    }

    #[test]
    fn restore_ops_tell_what_each_variable_is() {
        let graph = Graph {
            nodes: vec![
                strings("prefix", &["p"]),
                strings("names", &["w", "b"]),
                strings("slices", &["4 6 0,2:-", ""]),
                node("restore", "RestoreV2", &[(0, 0), (1, 0), (2, 0)]),
                node("w/part_0", "VariableV2", &[]),
                node("handle", "VarHandleOp", &[]),
                node("assign", "Assign", &[(4, 0), (3, 0)]),
                node("identity", "Identity", &[(3, 1)]),
                node("assign_1", "AssignVariableOp", &[(5, 0), (7, 0)]),
            ],
        };
        let found = restored_variables(&graph);
        assert_eq!(found[&5], ("b".to_owned(), None));
        assert_eq!(found[&4].0, "w");
        let slice = found[&4].1.as_ref().expect("a slice");
        assert_eq!(slice.ranges(&[4, 6]).expect("ranges"), [0..2, 0..6]);
    }

    #[test]
    fn signatures_survive_as_they_were() {
        let info = |encoding| proto::TensorInfo { dtype: 1, tensor_shape: None, encoding };
        let named = info(Some(tensor_info::Encoding::Name("x:0".into())));
        let sparse = info(Some(tensor_info::Encoding::CooSparse(Default::default())));
        let def = SignatureDef {
            inputs: BTreeMap::from([("x".into(), named.clone()), ("s".into(), sparse)]),
            outputs: BTreeMap::from([("y".into(), named)]),
            method_name: "m".into(),
            ..Default::default()
        };
        let signature = signature_from_proto(&def);
        assert_eq!(signature.inputs.keys().collect::<Vec<_>>(), ["x"]);
        let mut session = Session::default();
        session.signatures.insert("a".into(), signature.clone());
        session.signatures.insert("b".into(), signature);
        let mut read = BTreeMap::from([("a".to_owned(), def.clone()), ("gone".to_owned(), def.clone())]);
        merge_signatures(&session, &mut read);
        assert_eq!(read.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(read["a"], def);
        assert_eq!(read["b"].inputs.len(), 1);
    }
}
