//! The folder as it is: its messages, its checkpoint, its other files.

use std::path::PathBuf;

use modelark_artifact::{Error, ErrorKind, Limits, Place, Result, tensor::SharedBytes};
use modelark_checkpoint::Bundle;
use modelark_proto::{self as proto, Message, MetaGraphDef, TrackableObjectGraph, bytes::Bytes};
use prost::encoding::WireType;

use crate::{fields, frozen, text};

/// The name of the file that makes a folder a SavedModel.
pub(crate) const PB: &str = "saved_model.pb";
/// The same as text, which TensorFlow reads when there is no binary one.
pub(crate) const PBTXT: &str = "saved_model.pbtxt";
/// The first of the files into which a model is split that is too large for one message.
const CPB: &str = "saved_model.cpb";
/// The checkpoint's prefix within the folder.
pub(crate) const VARIABLES: &str = "variables/variables";
/// The tag of the MetaGraph that is meant for inference.
pub(crate) const SERVE: &str = "serve";

/// Which MetaGraph to read, and how much it may ask for.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ReadOptions {
    /// The tags of the MetaGraph, all of them; by default the only one, or the one for serving.
    pub tags: Option<Vec<String>>,
    /// What reading may use.
    pub limits: Limits,
}

/// A SavedModel's messages and checkpoint, without any interpretation (TensorFlow: `saved_model.pb`, `variables/`).
///
/// [`Format::read`](modelark_artifact::Format::read) makes an artifact of it.
#[derive(Debug)]
pub struct SavedModel {
    folder: Place,
    message: proto::SavedModel,
    /// The message encoded: the file, where that isn't text.
    bytes: SharedBytes,
    chosen: usize,
    bundle: Result<Bundle, Missing>,
    object_graph: Option<TrackableObjectGraph>,
}

/// A file of the checkpoint that isn't there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Missing(PathBuf);

impl Missing {
    /// What reading a variable gives then.
    pub(crate) fn error(&self) -> Error {
        Error::missing("this file with the model's variables isn't there")
            .help("copy the whole folder of the SavedModel, variables included")
            .in_file(self.0.clone())
    }
}

impl SavedModel {
    /// Opens the SavedModel at `place`: its folder, or the `saved_model.pb` in it. No tensor is read.
    ///
    /// # Errors
    /// When there is no such file, it isn't a SavedModel, no MetaGraph has the tags asked for, or its checkpoint is
    /// damaged. A checkpoint of which a file isn't there is no error before a variable is read: a model may have none.
    pub fn open(place: &Place, options: &ReadOptions) -> Result<Self> {
        let (folder, file) = locate(place);
        let (message, bytes) = decode(&file, &options.limits).map_err(|e| e.in_file(file.label()))?;
        let chosen =
            choose(&message.meta_graphs, options.tags.as_deref()).map_err(|e| e.in_file(file.label()))?;
        // A checkpoint whose object graph can't be reached is as good as none.
        let opened = Bundle::open(folder.child(VARIABLES), &options.limits);
        let (bundle, object_graph) = match opened.and_then(|b| Ok((b.object_graph()?, b))) {
            Ok((graph, bundle)) => (Ok(bundle), graph),
            Err(e) if e.kind() == ErrorKind::Missing => {
                (Err(Missing(e.file().map_or_else(|| folder.child(VARIABLES).label(), Into::into))), None)
            }
            Err(e) => return Err(e),
        };
        Ok(SavedModel { folder, message, bytes, chosen, bundle, object_graph })
    }

    /// The folder.
    pub fn folder(&self) -> &Place {
        &self.folder
    }

    /// The whole message.
    pub fn message(&self) -> &proto::SavedModel {
        &self.message
    }

    /// The MetaGraph that was chosen.
    pub fn meta_graph(&self) -> &MetaGraphDef {
        // `open` has chosen one that is there.
        &self.message.meta_graphs[self.chosen]
    }

    /// The tags of every MetaGraph.
    pub fn tags(&self) -> Vec<&[String]> {
        self.message.meta_graphs.iter().map(tags_of).collect()
    }

    /// The checkpoint with the variables, if there is one.
    pub fn bundle(&self) -> Option<&Bundle> {
        self.bundle.as_ref().ok()
    }

    /// The object graph of the checkpoint.
    pub(crate) fn object_graph(&self) -> Option<&TrackableObjectGraph> {
        self.object_graph.as_ref()
    }

    /// The checkpoint, or which of its files isn't there.
    pub(crate) fn checkpoint(&self) -> Result<&Bundle, &Missing> {
        self.bundle.as_ref()
    }

    /// The encoded message, and the index of the MetaGraph that was chosen.
    pub(crate) fn into_parts(self) -> (SharedBytes, usize) {
        (self.bytes, self.chosen)
    }
}

/// The tags of every MetaGraph of the SavedModel at `place`, of which nothing else is decoded.
///
/// # Errors
/// When there is no such file, or it isn't a SavedModel.
pub fn meta_graph_tags(place: &Place, limits: &Limits) -> Result<Vec<Vec<String>>> {
    let (_, file) = locate(place);
    let tags = |bytes: &[u8]| -> Option<Vec<Vec<String>>> {
        let text = |tag: Option<&[u8]>| String::from_utf8(tag?.to_vec()).ok();
        let of_meta = |meta: Option<&[u8]>| match fields::last(meta?, 1).ok()? {
            Some(info) => fields::contents(info, 4).map(text).collect(),
            None => Some(Vec::new()),
        };
        fields::contents(bytes, 2).map(of_meta).collect()
    };
    encoded(&file, limits)
        .and_then(|bytes| tags(&bytes).ok_or_else(|| damaged(&bytes)))
        .map_err(|e| e.in_file(file.label()))
}

/// Whether a SavedModel lies at `place`: a folder with its file, or that file.
pub(crate) fn detect(place: &Place) -> bool {
    if place.is_folder() {
        return [PB, PBTXT, CPB].iter().any(|name| place.files.exists(&place.child(name).name));
    }
    let name = file_name(place);
    let content = || place.open().ok();
    match name {
        // Some give a frozen graph this name.
        PB => !content().is_some_and(|bytes| frozen::looks_like_graph(&bytes)),
        PBTXT | CPB => true,
        _ => name.ends_with(".pb") && content().is_some_and(|bytes| looks_like_saved_model(&bytes)),
    }
}

fn file_name(place: &Place) -> &str {
    place.name.rsplit('/').next().unwrap_or_default()
}

/// The folder and the file in it that a place means.
pub(crate) fn locate(place: &Place) -> (Place, Place) {
    if place.is_folder() {
        let names = [PB, PBTXT, CPB];
        let there = names.iter().find(|name| place.files.exists(&place.child(name).name));
        return (place.clone(), place.child(there.unwrap_or(&PB)));
    }
    let folder = place.name.rsplit_once('/').map_or("", |(folder, _)| folder);
    (Place { files: place.files.clone(), name: folder.to_owned() }, place.clone())
}

fn decode(file: &Place, limits: &Limits) -> Result<(proto::SavedModel, SharedBytes)> {
    let bytes = encoded(file, limits)?;
    let message = proto::SavedModel::decode(Bytes::from_owner(bytes.clone()))
        .map_err(|e| damaged(&bytes).because(e))?;
    if message.meta_graphs.is_empty() {
        return Err(Error::corrupt("it holds no MetaGraph"));
    }
    Ok((message, bytes))
}

/// Why these bytes aren't a SavedModel.
fn damaged(bytes: &SharedBytes) -> Error {
    if frozen::looks_like_graph(bytes) {
        return Error::unsupported("this is no SavedModel but a graph alone (GraphDef)")
            .help("name the file rather than its folder");
    }
    Error::corrupt("this is no SavedModel, or a damaged one")
}

/// The encoded message that a file holds.
fn encoded(file: &Place, limits: &Limits) -> Result<SharedBytes> {
    let bytes = file.open()?;
    if file_name(file) == CPB {
        return Err(Error::unsupported(
            "this SavedModel is split into chunks (riegeli records of a ChunkedMessage), a form that TensorFlow's \
             releases neither write nor load",
        )
        .help("save it without `experimental_image_format`, which gives saved_model.pb"));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(Error::corrupt("this is a Git-LFS pointer, not the model").help("fetch it: git lfs pull"));
    }
    if file_name(file).ends_with(text::EXTENSION) {
        return Ok(text::encoded_from_text("SavedModel", &bytes, limits)?.into());
    }
    Ok(bytes)
}

fn tags_of(meta: &MetaGraphDef) -> &[String] {
    meta.meta_info_def.as_ref().map_or(&[], |m| &m.tags)
}

/// The index of the MetaGraph with exactly these tags; without tags, the only one or the one for serving.
fn choose(metas: &[MetaGraphDef], wanted: Option<&[String]>) -> Result<usize> {
    let same =
        |a: &[String], b: &[String]| a.iter().all(|t| b.contains(t)) && b.iter().all(|t| a.contains(t));
    let serve = [SERVE.to_owned()];
    let found = match wanted {
        Some(wanted) => metas.iter().position(|m| same(tags_of(m), wanted)),
        None if metas.len() == 1 => Some(0),
        None => metas
            .iter()
            .position(|m| same(tags_of(m), &serve))
            .or_else(|| metas.iter().position(|m| tags_of(m).contains(&serve[0]))),
    };
    found.ok_or_else(|| {
        let all: Vec<String> = metas.iter().map(|m| format!("{:?}", tags_of(m))).collect();
        let wanted = wanted.map_or_else(
            || "tells by its tags that it is for serving".to_owned(),
            |w| format!("has the tags {w:?}"),
        );
        Error::missing(format!("no MetaGraph {wanted}"))
            .help(format!("name the tags of one of these: {}", all.join(", ")))
    })
}

/// Whether bytes are fields of a SavedModel at their top level, and nothing else.
pub(crate) fn looks_like_saved_model(bytes: &SharedBytes) -> bool {
    const GRAPHS: (u32, WireType) = (2, WireType::LengthDelimited);
    let kinds = fields::kinds(bytes);
    kinds
        .is_some_and(|f| f.contains(&GRAPHS) && f.iter().all(|f| [(1, WireType::Varint), GRAPHS].contains(f)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelark_artifact::Memory;
    use modelark_proto::meta_graph_def::MetaInfoDef;

    fn model(tags: &[&[&str]]) -> proto::SavedModel {
        let meta = |tags: &&[&str]| MetaGraphDef {
            meta_info_def: Some(MetaInfoDef {
                tags: tags.iter().map(|t| (*t).to_owned()).collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        proto::SavedModel { saved_model_schema_version: 1, meta_graphs: tags.iter().map(meta).collect() }
    }

    fn place(bytes: &[u8], name: &str) -> Place {
        let mut files = Memory::new();
        files.insert("m/saved_model.pb", bytes);
        Place::in_memory(files, name)
    }

    #[test]
    fn a_folder_and_its_file_mean_the_same() {
        let bytes = model(&[&["serve"]]).encode_to_vec();
        for name in ["m", "m/saved_model.pb"] {
            let place = place(&bytes, name);
            assert!(detect(&place), "{name}");
            let opened = SavedModel::open(&place, &ReadOptions::default()).expect("open");
            assert_eq!(
                (opened.folder().name.as_str(), opened.tags()),
                ("m", vec![&["serve".to_owned()][..]])
            );
            assert!(opened.bundle().is_none());
        }
    }

    #[test]
    fn a_graph_of_this_name_is_a_graph() {
        let node = proto::NodeDef { name: "x".into(), op: "Placeholder".into(), ..Default::default() };
        let bytes =
            proto::GraphDef { node: vec![node.encode_to_vec().into()], ..Default::default() }.encode_to_vec();
        assert!(!detect(&place(&bytes, "m/saved_model.pb")));
        let error = SavedModel::open(&place(&bytes, "m"), &ReadOptions::default()).expect_err("a graph");
        assert!(error.to_string().contains("name the file"), "{error}");
    }

    #[test]
    fn text_serves_where_there_is_no_binary_file() {
        let mut files = Memory::new();
        files.insert("m/saved_model.pbtxt", &b"meta_graphs { meta_info_def { tags: \"serve\" } }"[..]);
        for name in ["m", "m/saved_model.pbtxt"] {
            let place = Place::in_memory(files.clone(), name);
            assert!(detect(&place));
            let opened = SavedModel::open(&place, &ReadOptions::default()).expect("text");
            assert_eq!(opened.tags(), [&["serve".to_owned()][..]]);
        }
    }

    #[test]
    fn the_meta_graph_is_chosen_by_its_tags() {
        let bytes = model(&[&["train"], &["serve", "gpu"], &["serve"]]).encode_to_vec();
        let open = |tags: Option<&[&str]>| {
            let tags = tags.map(|t| t.iter().map(|t| (*t).to_owned()).collect());
            SavedModel::open(&place(&bytes, "m"), &ReadOptions { tags, ..Default::default() })
        };
        assert_eq!(tags_of(open(None).expect("serve").meta_graph()), ["serve"]);
        assert_eq!(tags_of(open(Some(&["gpu", "serve"])).expect("both").meta_graph()), ["serve", "gpu"]);
        let e = open(Some(&["gpu"])).expect_err("not alone").to_string();
        let all = meta_graph_tags(&place(&bytes, "m"), &Limits::default()).expect("tags");
        assert_eq!(all, [&["train"][..], &["serve", "gpu"], &["serve"]]);
        assert!(e.contains("[\"train\"]") && e.contains("saved_model.pb"), "{e}");
    }

    #[test]
    fn what_is_no_saved_model_says_so() {
        for (bytes, part) in [
            (&b"version https://git-lfs.github.com/spec/v1\n"[..], "git lfs pull"),
            (b"\x08\x01", "no MetaGraph"),
            (b"\xff\xff", "no SavedModel"),
        ] {
            let e = SavedModel::open(&place(bytes, "m"), &ReadOptions::default()).expect_err("bad");
            assert!(e.to_string().contains(part) && e.to_string().contains("saved_model.pb"), "{e}");
        }
        let mut files = Memory::new();
        files.insert("m/saved_model.cpb", &b"x"[..]);
        let split = SavedModel::open(&Place::in_memory(files, "m"), &ReadOptions::default());
        assert!(split.expect_err("split").to_string().contains("chunks"));
        assert!(SavedModel::open(&place(b"", "n"), &ReadOptions::default()).is_err());
    }
}
