//! What only a SavedModel says: kept beside an artifact that was read from one, so that saving it again loses nothing.
//!
//! It is the message itself, of which nodes and functions are made anew from what the artifact has of them.

use std::collections::BTreeMap;

use modelark_artifact::{
    Artifact, Error, Functions, Kind, ObjectId, Objects, Report, Result, Target, tensor::SharedBytes,
};
use modelark_checkpoint::BundleWriter;
use modelark_proto::{
    self as proto, Message, MetaGraphDef, SavedObjectGraph, TrackableObjectGraph, bytes::Bytes, saved_object,
};

use crate::format::{op_definitions, write_assets, write_file, write_message};
use crate::graphdef::graph_to_proto;
use crate::keras_metadata;
use crate::library::merge_library;
use crate::objects::{checkpoint_keys, children_to_proto, concrete_to_proto};
use crate::saved_model::{PB, SavedModel, VARIABLES};
use crate::session::{merge_signatures, restored_variables};

/// The message.
const MESSAGE: &str = "saved_model/message";
/// Which of its MetaGraphs is the artifact's.
const CHOSEN: &str = "saved_model/chosen";
/// The object graph of the checkpoint.
const CHECKPOINT: &str = "saved_model/object_graph";
/// Other files of the folder, by name.
const FILES: &str = "saved_model/files/";
/// Folders of which every file is kept.
const KEPT_FOLDERS: [&str; 1] = ["assets.extra"];

/// Keeps in the artifact's extras what it doesn't keep itself.
///
/// # Errors
/// When a file that is kept can't be read.
pub(crate) fn keep(model: SavedModel, keras: Option<SharedBytes>, artifact: &mut Artifact) -> Result<()> {
    let extras = &mut artifact.extras;
    if let Some(checkpoint) = model.object_graph() {
        extras.insert(CHECKPOINT.to_owned(), checkpoint.encode_to_vec().into());
    }
    if let Some(bytes) = keras {
        extras.insert(format!("{FILES}{}", keras_metadata::FILE), bytes);
    }
    let folder = model.folder().clone();
    for kept in KEPT_FOLDERS {
        let place = folder.child(kept);
        for name in place.files.list(&place.name).unwrap_or_default() {
            if !name.ends_with('/') {
                extras.insert(format!("{FILES}{kept}/{name}"), place.child(&name).open()?);
            }
        }
    }
    let (message, chosen) = model.into_parts();
    extras.insert(MESSAGE.to_owned(), message);
    extras.insert(CHOSEN.to_owned(), (chosen as u64).to_le_bytes().to_vec().into());
    Ok(())
}

/// What was kept, read back.
pub(crate) struct Residue {
    message: proto::SavedModel,
    chosen: usize,
    checkpoint: Option<TrackableObjectGraph>,
}

impl Residue {
    /// What was kept of the SavedModel that an artifact was read from; none for an artifact from elsewhere, or one whose
    /// graph was taken away or objects were replaced.
    ///
    /// # Errors
    /// When what was kept is damaged.
    pub(crate) fn of(artifact: &Artifact) -> Result<Option<Self>> {
        let extras = &artifact.extras;
        let (Some(message), Some(chosen)) = (extras.get(MESSAGE), extras.get(CHOSEN)) else {
            return Ok(None);
        };
        if artifact.functions.as_ref().is_none_or(|f| f.session.is_none()) {
            return Ok(None);
        }
        let damaged = |e| Error::corrupt("what was kept of the SavedModel is damaged").because(e);
        let message = proto::SavedModel::decode(Bytes::from_owner(message.clone())).map_err(damaged)?;
        let checkpoint = extras.get(CHECKPOINT).map(|c| TrackableObjectGraph::decode(&c[..])).transpose();
        let chosen =
            <[u8; 8]>::try_from(&chosen[..]).ok().and_then(|b| usize::try_from(u64::from_le_bytes(b)).ok());
        let Some(chosen) = chosen.filter(|c| *c < message.meta_graphs.len()) else { return Ok(None) };
        let residue = Residue { chosen, checkpoint: checkpoint.map_err(damaged)?, message };
        let graph = residue.meta().object_graph_def.as_ref();
        let same = graph.is_none_or(|g| same_objects(g, &artifact.objects));
        Ok(same.then_some(residue))
    }

    fn meta(&self) -> &MetaGraphDef {
        // `of` has checked the index.
        &self.message.meta_graphs[self.chosen]
    }

    /// Writes the artifact as the SavedModel that it was read from, with the values that its variables have now.
    ///
    /// # Errors
    /// When a tensor can't be read, a function can't be written, or writing fails.
    pub(crate) fn write(mut self, artifact: &Artifact, target: &Target) -> Result<Report> {
        let functions = artifact
            .functions
            .as_ref()
            .ok_or_else(|| Error::missing("a SavedModel needs functions, and there are none"))?;
        self.write_variables(artifact, functions, target)?;
        write_assets(artifact, target)?;
        for (name, bytes) in &artifact.extras {
            if let Some(name) = name.strip_prefix(FILES) {
                write_file(target, ".", name, bytes)?;
            }
        }
        let meta = &mut self.message.meta_graphs[self.chosen];
        let mut graph = meta.graph_def.take().unwrap_or_default();
        merge_library(&functions.library, &mut graph, op_definitions(meta))?;
        if let Some(session) = &functions.session {
            graph.node = graph_to_proto(&session.graph)?;
            merge_signatures(session, &mut meta.signature_def);
        }
        meta.graph_def = Some(graph);
        if let Some(graph) = &mut meta.object_graph_def {
            fill_objects(graph, &artifact.objects)?;
            graph.concrete_functions = concrete_to_proto(&functions.concrete)?;
        }
        write_message(target, PB, &self.message)?;
        Ok(Report::default())
    }

    /// Writes the checkpoint: every variable under the key that it was read from, the tensors of no variable, and the
    /// object graph.
    fn write_variables(&self, artifact: &Artifact, functions: &Functions, target: &Target) -> Result<()> {
        let objects = &artifact.objects;
        let mut keys: BTreeMap<String, ObjectId> = BTreeMap::new();
        let own = match &self.meta().object_graph_def {
            Some(graph) => {
                if let Some(checkpoint) = &self.checkpoint {
                    keys.extend(checkpoint_keys(graph, checkpoint).into_iter().map(|(id, key)| (key, id)));
                }
                graph.nodes.len()
            }
            None => {
                let parts = functions.session.iter().flat_map(|s| {
                    let parts =
                        restored_variables(&s.graph).into_iter().filter(|(_, (_, slice))| slice.is_some());
                    parts.filter_map(|(node, _)| Some(s.graph.nodes.get(node)?.name.as_str()))
                });
                let parts: Vec<&str> = parts.collect();
                let children = objects.get(Objects::ROOT).map_or(&[][..], |r| &r.children);
                // A part of a partitioned variable is in the whole one, which follows as a tensor of its own.
                let whole = children.iter().filter(|(name, _)| !parts.contains(&name.as_str()));
                keys.extend(whole.cloned());
                1
            }
        };
        let held: std::collections::HashSet<ObjectId> = keys.values().copied().collect();
        let reached: std::collections::HashSet<ObjectId> =
            objects.walk().into_iter().map(|(id, _)| id).collect();
        for (id, object) in objects.iter().skip(own) {
            if let Kind::Variable(v) = &object.kind
                && !held.contains(&id)
                && !reached.contains(&id)
            {
                keys.insert(v.name.clone(), id);
            }
        }
        if keys.is_empty() && self.checkpoint.is_none() {
            return Ok(());
        }
        let mut writer = BundleWriter::new(target, format!("{}/{VARIABLES}", target.name()))?;
        for (key, id) in &keys {
            if let Some(variable) = objects.variable(*id) {
                writer.add(key, &variable.load()?)?;
            }
        }
        if let Some(checkpoint) = &self.checkpoint {
            writer.add_object_graph(checkpoint)?;
        }
        writer.finish()
    }
}

/// Whether every object is still of the kind that the message says.
fn same_objects(graph: &SavedObjectGraph, objects: &Objects) -> bool {
    use saved_object::Kind as Saved;
    let same = |(saved, (_, object)): (&proto::SavedObject, (ObjectId, &modelark_artifact::Object))| {
        matches!(
            (&saved.kind, &object.kind),
            (None | Some(Saved::CapturedTensor(_)), Kind::Object { .. })
                | (
                    Some(Saved::UserObject(_)),
                    Kind::Object { .. } | Kind::List | Kind::Dict | Kind::Tuple | Kind::Signatures
                )
                | (Some(Saved::Asset(_)), Kind::Asset(_))
                | (Some(Saved::Function(_)), Kind::Function(_))
                | (Some(Saved::BareConcreteFunction(_)), Kind::ConcreteFunction { .. })
                | (Some(Saved::Constant(_)), Kind::Constant(_))
                | (Some(Saved::Resource(_)), Kind::Resource { .. })
                | (Some(Saved::Variable(_)), Kind::Variable(_))
        )
    };
    graph.nodes.len() <= objects.len() && graph.nodes.iter().zip(objects.iter()).all(same)
}

/// Puts what may have changed into the messages of objects.
fn fill_objects(graph: &mut SavedObjectGraph, objects: &Objects) -> Result<()> {
    for (saved, (_, object)) in graph.nodes.iter_mut().zip(objects.iter()) {
        saved.children = children_to_proto(&object.children)?;
        if let (Some(saved_object::Kind::Variable(saved)), Kind::Variable(v)) =
            (&mut saved.kind, &object.kind)
        {
            saved.trainable = v.trainable;
        }
    }
    Ok(())
}
