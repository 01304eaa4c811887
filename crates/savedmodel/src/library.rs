//! The functions of a graph: `FunctionDefLibrary` and [`Library`]. Each is decoded when it is first asked for.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use modelark_artifact::{Error, ErrorKind, Limits, Result};
use modelark_graph::{Deferred, Function, Library, ops};
use modelark_proto::{FunctionDef, FunctionDefLibrary, GraphDef, Message, OpDef, bytes::Bytes};

use crate::fields;
use crate::function::{function_from_proto, function_to_proto};
use crate::graphdef::encoded;
use crate::signatures::Signatures;

/// The functions of a graph from `file`. `definitions` are those of ops that the file brings along.
///
/// # Errors
/// When a function has no name, or there are more than the limits allow. What else is wrong with one says so when it is
/// asked for: the others still run.
pub(crate) fn library_from_proto<'a>(
    graph: Option<&GraphDef>,
    definitions: impl IntoIterator<Item = &'a OpDef>,
    file: &Path,
    limits: &Limits,
) -> Result<Library> {
    let functions = named(graph)?;
    if functions.len() > limits.items {
        return Err(Error::limit(format!("there are {} functions, over the limit", functions.len())));
    }
    let ops = signatures(&functions, definitions, limits);
    let shared = Arc::new(Shared { ops, limits: limits.clone(), file: file.to_owned() });
    let mut library = Library::new();
    for (name, message) in functions {
        library.defer(name, Encoded { message: message.clone(), shared: shared.clone() });
    }
    Ok(library)
}

/// The messages of all functions, for a graph that has none of them yet.
///
/// # Errors
/// When one can't be read, or uses an op that TensorFlow doesn't have.
pub(crate) fn library_to_proto(library: &Library) -> Result<FunctionDefLibrary> {
    let mut known = Signatures::new([], &Limits::default());
    for function in library.iter() {
        let function = function?;
        known.function(function);
        for node in &function.graph.nodes {
            if ops::find(&node.op).is_some_and(|op| op.expand.is_some()) {
                return Err(Error::unsupported(format!(
                    "TensorFlow has no op {:?}; it must be expanded",
                    node.op
                ))
                .at(format!("function {:?}, node {:?}", function.name, node.name)));
            }
        }
    }
    let write =
        |f: modelark_graph::Result<&Arc<Function>>| Ok(encoded(&function_to_proto(f?, &known, None)?));
    let function = library.iter().map(write).collect::<Result<_>>()?;
    Ok(FunctionDefLibrary { function, ..FunctionDefLibrary::default() })
}

/// Puts functions into the graph that they were read from, in its order; those that are gone are taken out, and one that
/// can't be read because something in it isn't supported stays as it is.
///
/// # Errors
/// When a function is damaged or can't be written.
pub(crate) fn merge_library<'a>(
    library: &Library,
    graph: &mut GraphDef,
    definitions: impl IntoIterator<Item = &'a OpDef>,
) -> Result<()> {
    let read = named(Some(graph))?;
    let ops = signatures(&read, definitions, &Limits::default());
    let there: HashSet<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
    let mut messages = Vec::with_capacity(library.len());
    for (name, message) in &read {
        if !library.contains(name) {
            continue;
        }
        messages.push(match library.read(name).map_err(Error::from) {
            Ok(function) => encoded(&function_to_proto(function, &ops, Some(&decode(message)?))?),
            Err(e) if e.kind() == ErrorKind::Unsupported => (*message).clone(),
            Err(e) => return Err(e),
        });
    }
    for name in library.names().filter(|name| !there.contains(name)) {
        messages.push(encoded(&function_to_proto(library.read(name)?, &ops, None)?));
    }
    if !messages.is_empty() || graph.library.is_some() {
        graph.library.get_or_insert_default().function = messages;
    }
    Ok(())
}

/// The encoded functions of a graph with their names.
fn named(graph: Option<&GraphDef>) -> Result<Vec<(String, &Bytes)>> {
    let name = |i: usize, message: &Bytes| {
        let name = fields::last(message, 1).and_then(|signature| match signature {
            Some(signature) => fields::last(signature, 1),
            None => Ok(None),
        });
        let name = name.ok().flatten().and_then(|name| String::from_utf8(name.to_vec()).ok());
        name.ok_or_else(|| Error::corrupt(format!("function {i} has no name, or is damaged")))
    };
    let messages = graph.and_then(|g| g.library.as_ref()).map_or(&[][..], |l| &l.function);
    messages.iter().enumerate().map(|(i, message)| Ok((name(i, message)?, message))).collect()
}

/// What is known of ops: what the file says of them, and its functions, which can be called as ops.
fn signatures<'a>(
    functions: &[(String, &Bytes)],
    definitions: impl IntoIterator<Item = &'a OpDef>,
    limits: &Limits,
) -> Signatures {
    let mut ops = Signatures::new(definitions, limits);
    for (name, message) in functions {
        ops.encoded_function(name.clone(), (*message).clone());
    }
    ops
}

fn decode(message: &Bytes) -> Result<FunctionDef> {
    FunctionDef::decode(message.clone()).map_err(|e| Error::corrupt("a function is damaged").because(e))
}

/// A function of a file.
struct Encoded {
    message: Bytes,
    shared: Arc<Shared>,
}

/// What the functions of a file are read with.
struct Shared {
    ops: Signatures,
    limits: Limits,
    file: PathBuf,
}

impl Encoded {
    fn in_file(&self, e: Error) -> modelark_graph::Error {
        let kind = match e.kind() {
            ErrorKind::Unsupported => modelark_graph::ErrorKind::Unsupported,
            ErrorKind::Limit => modelark_graph::ErrorKind::Limit,
            _ => modelark_graph::ErrorKind::Graph,
        };
        modelark_graph::Error::new(kind, e.in_file(self.shared.file.clone()).to_string())
    }
}

impl Deferred for Encoded {
    fn read(&self) -> modelark_graph::Result<Function> {
        let function = decode(&self.message)
            .and_then(|message| function_from_proto(message, &self.shared.ops, &self.shared.limits));
        function.map_err(|e| self.in_file(e))
    }

    fn ops(&self, met: &mut dyn FnMut(&str)) -> modelark_graph::Result<()> {
        let damaged = || self.in_file(Error::corrupt("a node is damaged"));
        for node in fields::contents(&self.message, 3) {
            let op = node.and_then(|node| fields::last(node, 2).ok()).ok_or_else(damaged)?;
            met(op.map_or(Ok(""), str::from_utf8).map_err(|_| damaged())?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelark_proto::{NodeDef, op_def};

    fn function(name: &str, op: &str, result: &str) -> Bytes {
        let node = NodeDef { name: "n".into(), op: op.into(), ..NodeDef::default() };
        let out = op_def::ArgDef { name: "out".into(), r#type: 1, ..Default::default() };
        encoded(&FunctionDef {
            signature: Some(OpDef { name: name.into(), output_arg: vec![out], ..OpDef::default() }),
            node_def: vec![encoded(&node)],
            ret: [("out".to_owned(), result.to_owned())].into(),
            ..FunctionDef::default()
        })
    }

    fn graph() -> GraphDef {
        let function = vec![
            function("good", "NobodysOp", "n:output:0"),
            function("bad", "Identity", "nowhere:output:0"),
            function("calls", "good", "n:out:0"),
        ];
        GraphDef {
            library: Some(FunctionDefLibrary { function, ..Default::default() }),
            ..GraphDef::default()
        }
    }

    #[test]
    fn a_damaged_function_leaves_the_others_alone() {
        let library =
            library_from_proto(Some(&graph()), [], Path::new("m.pb"), &Limits::default()).expect("library");
        assert_eq!(library.names().collect::<Vec<_>>(), ["bad", "calls", "good"]);
        assert_eq!(library.read("good").expect("good").results.len(), 1);
        assert_eq!(library.read("calls").expect("a function as an op").results[0].output.index, 0);
        let e = library.read("bad").expect_err("bad").to_string();
        assert!(e.contains("m.pb") && e.contains("function \"bad\"") && e.contains("nowhere"), "{e}");
        let mut ops = Vec::new();
        library.ops(|function, op| ops.push((function.to_owned(), op.to_owned()))).expect("ops");
        assert_eq!(
            ops.iter().map(|(_, op)| op.as_str()).collect::<Vec<_>>(),
            ["Identity", "good", "NobodysOp"]
        );
    }

    #[test]
    fn functions_go_back_into_their_graph() {
        let mut graph = graph();
        graph.library.as_mut().expect("library").function.remove(1);
        let read = graph.clone();
        let mut library =
            library_from_proto(Some(&graph), [], Path::new("m.pb"), &Limits::default()).expect("library");
        merge_library(&library, &mut graph, []).expect("merged");
        assert_eq!(graph, read);
        library.insert(Function { name: "new".into(), ..Function::default() });
        merge_library(&library, &mut graph, []).expect("merged");
        let names = named(Some(&graph)).expect("names");
        assert_eq!(names.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["good", "calls", "new"]);
        merge_library(&Library::new(), &mut graph, []).expect("merged");
        assert!(named(Some(&graph)).expect("names").is_empty());
    }

    #[test]
    fn a_function_without_name_is_refused() {
        let function = vec![Bytes::from_static(b"\xff")];
        let library = Some(FunctionDefLibrary { function, ..Default::default() });
        let graph = GraphDef { library, ..GraphDef::default() };
        assert!(library_from_proto(Some(&graph), [], Path::new("m.pb"), &Limits::default()).is_err());
    }
}
