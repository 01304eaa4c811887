//! The format `frozen_graph`: one `GraphDef`, whose variables have become constants.

use modelark_artifact::{
    Artifact, Error, Format, Functions, Limits, Needs, Objects, Place, Report, Result, SaveOptions, Session,
    Source, Target,
};
use modelark_proto::{GraphDef, Message, NodeDef, bytes::Bytes};
use prost::encoding::WireType;

use crate::fields;
use crate::freeze::freeze;
use crate::graphdef::{graph_from_proto, graph_to_proto};
use crate::library::{library_from_proto, library_to_proto};
use crate::text;
use crate::write::versions;

/// The format's name.
const NAME: &str = "frozen_graph";
/// The one signature, from all inputs to all outputs; its keys are the tensors' names.
pub(crate) const SIGNATURE: &str = "serving_default";
/// Extensions of files that hold a graph.
const EXTENSIONS: [&str; 3] = [".pb", ".graphdef", text::EXTENSION];
/// The most bytes that a message may have.
const LARGEST: usize = i32::MAX as usize;

/// Frozen graphs, as `convert_variables_to_constants` and TensorFlow 1's `freeze_graph` write them.
///
/// A graph doesn't say what to feed and to fetch: [`Session::inputs`] and [`Session::outputs`] find it.
#[derive(Debug, Default)]
pub struct FrozenGraph;

impl Format for FrozenGraph {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "frozen TensorFlow graph (GraphDef)"
    }

    fn claims(&self, file_name: &str) -> bool {
        EXTENSIONS.iter().any(|e| file_name.ends_with(e))
    }

    fn detect(&self, place: &Place) -> bool {
        let as_text = place.name.ends_with(text::EXTENSION);
        let looks = |bytes: &[u8]| if as_text { looks_like_text(bytes) } else { looks_like_graph(bytes) };
        !place.is_folder() && place.open().is_ok_and(|bytes| looks(&bytes))
    }

    fn read(&self, place: &Place, limits: &Limits) -> Result<Artifact> {
        let bytes = place.open()?;
        let read = || -> Result<Artifact> {
            let def: GraphDef = if place.name.ends_with(text::EXTENSION) {
                text::message_from_text("GraphDef", &bytes, limits)?
            } else {
                GraphDef::decode(Bytes::from_owner(bytes))
                    .map_err(|e| Error::corrupt("this is no GraphDef, or a damaged one").because(e))?
            };
            let graph = graph_from_proto(&def.node, limits)?;
            let library = library_from_proto(Some(&def), [], &place.label(), limits)?;
            let mut session = Session { graph, ..Session::default() };
            session.signatures.insert(SIGNATURE.to_owned(), session.signature(None, None)?);
            Ok(Artifact {
                source: Source { format: NAME, path: place.label(), writers: Vec::new() },
                functions: Some(Functions { library, session: Some(session), ..Functions::default() }),
                ..Artifact::default()
            })
        };
        read().map_err(|e| e.in_file(place.label()))
    }

    fn needs(&self) -> Needs {
        Needs { functions: true, entry: true, ..Needs::default() }
    }

    fn write(&self, artifact: &Artifact, target: &Target, options: &SaveOptions) -> Result<Report> {
        let functions = artifact
            .functions
            .as_ref()
            .ok_or_else(|| Error::missing("a graph needs functions, and there are none"))?;
        let mut report = Report::default();
        let session = functions.session.as_ref().filter(|_| functions.concrete.is_empty());
        let whole = session.filter(|_| artifact.source.format == NAME && options.entry.is_none());
        let (nodes, library) = match whole {
            Some(session) => (graph_to_proto(&session.graph)?, library_to_proto(&functions.library)?),
            None => {
                let frozen = freeze(artifact, functions, options, &mut report)?;
                (graph_to_proto(&frozen.graph)?, library_to_proto(&frozen.library)?)
            }
        };
        let library = Some(library).filter(|l| !l.function.is_empty());
        let graph = GraphDef { node: nodes, library, versions: Some(versions()), ..GraphDef::default() };
        if graph.encoded_len() > LARGEST {
            return Err(Error::unsupported(format!(
                "the graph has {} bytes, over the 2 GiB of a message",
                graph.encoded_len()
            ))
            .help("write a SavedModel, which keeps variables beside the graph"));
        }
        if target.name().ends_with(text::EXTENSION) {
            target.write(&target.name(), text::message_to_text("GraphDef", &graph)?.as_bytes())?;
        } else {
            target.write(&target.name(), &graph.encode_to_vec())?;
        }
        Ok(report)
    }

    fn bind(&self, _model: &mut Objects, read: &Artifact) -> Result<Report> {
        Err(Error::unsupported("a frozen graph has no variables that could go into layers")
            .in_file(read.source.path.clone()))
    }
}

/// Whether a text begins with what a graph has.
fn looks_like_text(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.find(|l| !l.is_empty() && !l.starts_with(b"#")).unwrap_or_default();
    [&b"node"[..], b"library", b"versions"].iter().any(|field| first.starts_with(field))
}

/// Whether bytes are a graph with at least one node.
pub(crate) fn looks_like_graph(bytes: &[u8]) -> bool {
    use WireType::{LengthDelimited, Varint};
    const FIELDS: [(u32, WireType); 5] =
        [(1, LengthDelimited), (2, LengthDelimited), (3, Varint), (4, LengthDelimited), (5, LengthDelimited)];
    // Other messages begin with a repeated field too: a node has a name and an op.
    let is_node = |node: &[u8]| NodeDef::decode(node).is_ok_and(|n| !n.name.is_empty() && !n.op.is_empty());
    let node = fields::contents(bytes, 1).next().flatten();
    fields::kinds(bytes).is_some_and(|f| f.iter().all(|f| FIELDS.contains(f))) && node.is_some_and(is_node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graphdef::encoded;
    use modelark_artifact::Memory;
    use modelark_proto::{AttrValue, attr_value::Value, bytes::Bytes};

    fn node(name: &str, op: &str, inputs: &[&str]) -> Bytes {
        let dtype = |attr: &str| (attr.to_owned(), AttrValue { value: Some(Value::Type(1)) });
        encoded(&NodeDef {
            name: name.into(),
            op: op.into(),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            attr: [dtype("T"), dtype("dtype")].into(),
            ..Default::default()
        })
    }

    fn place() -> Place {
        let graph = GraphDef {
            node: vec![
                node("x", "Placeholder", &[]),
                node("hidden", "Identity", &["x"]),
                node("y", "Identity", &["hidden"]),
                node("done", "NoOp", &["^y"]),
            ],
            ..Default::default()
        };
        let mut files = Memory::new();
        files.insert("m.pb", graph.encode_to_vec());
        Place::in_memory(files, "m.pb")
    }

    #[test]
    fn inputs_and_outputs_are_found() {
        assert!(FrozenGraph.detect(&place()) && !crate::saved_model::detect(&place()));
        let artifact = FrozenGraph.read(&place(), &Limits::default()).expect("graph");
        let session = artifact.functions.and_then(|f| f.session).expect("session");
        let signature = &session.signatures[SIGNATURE];
        assert_eq!(signature.inputs.keys().collect::<Vec<_>>(), ["x:0"]);
        assert_eq!(signature.outputs.keys().collect::<Vec<_>>(), ["y:0"]);
    }

    #[test]
    fn a_graph_is_written_as_it_was_read() {
        let artifact = FrozenGraph.read(&place(), &Limits::default()).expect("graph");
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("m.pb");
        let target = Target::new(&path).expect("target");
        FrozenGraph.write(&artifact, &target, &SaveOptions::default()).expect("written");
        target.commit().expect("commit");
        let again = GraphDef::decode(&std::fs::read(path).expect("bytes")[..]).expect("graph");
        let bytes = place().open().expect("bytes");
        assert_eq!(again.node, GraphDef::decode(&bytes[..]).expect("graph").node);
    }
}
