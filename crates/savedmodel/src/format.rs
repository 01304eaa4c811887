//! The format `saved_model`: a folder to an artifact, an artifact to a folder.

use modelark_artifact::{
    Artifact, Asset, Error, ErrorKind, Format, Functions, Kind, Limits, Needs, Objects, Place, Report,
    Result, Salvage, SaveOptions, Source, Target,
};
use modelark_proto::{Message, MetaGraphDef, OpDef, SavedObjectGraph, bytes::Bytes};

use crate::keras_metadata;
use crate::library::library_from_proto;
use crate::objects::{objects_from_proto, slots};
use crate::residue::{self, Residue};
use crate::saved_model::{self, ReadOptions, SavedModel};
use crate::session::{asset_files, session_from_proto, session_variables};
use crate::write;

/// The format's name.
pub(crate) const NAME: &str = "saved_model";
/// The folder of assets.
pub(crate) const ASSETS: &str = "assets";

/// SavedModel folders, of TensorFlow 1 and 2, with or without Keras.
#[derive(Debug, Default)]
pub struct SavedModelFormat {
    /// The tags of the MetaGraph to read, where a model has several; by default the one for serving.
    pub tags: Option<Vec<String>>,
}

impl Format for SavedModelFormat {
    fn name(&self) -> &'static str {
        NAME
    }

    fn description(&self) -> &'static str {
        "TensorFlow SavedModel folder"
    }

    fn claims(&self, _file_name: &str) -> bool {
        // A folder's name says nothing.
        false
    }

    fn detect(&self, place: &Place) -> bool {
        saved_model::detect(place)
    }

    fn read(&self, place: &Place, limits: &Limits) -> Result<Artifact> {
        let options = ReadOptions { tags: self.tags.clone(), limits: limits.clone() };
        read(SavedModel::open(place, &options)?, limits)
    }

    fn salvage(&self, place: &Place, limits: &Limits) -> Result<Salvage> {
        let (folder, _) = saved_model::locate(place);
        let mut salvage = modelark_checkpoint::Bundle::intact(folder.child(saved_model::VARIABLES), limits)?;
        salvage.damage.extend(self.read(place, limits).err());
        Ok(salvage)
    }

    fn needs(&self) -> Needs {
        Needs { functions: true, modules: true, ..Needs::default() }
    }

    fn write(&self, artifact: &Artifact, target: &Target, options: &SaveOptions) -> Result<Report> {
        match Residue::of(artifact)? {
            Some(residue) => residue.write(artifact, target),
            None => write::write(artifact, target, options),
        }
    }

    fn bind(&self, model: &mut Objects, read: &Artifact) -> Result<Report> {
        crate::bind::bind(model, read)
    }
}

/// The artifact of a SavedModel.
///
/// # Errors
/// When a part of it is damaged or over the limits; the message names the part.
fn read(model: SavedModel, limits: &Limits) -> Result<Artifact> {
    let folder = model.folder().clone();
    let file = folder.child(saved_model::PB).label();
    let in_file = |e: Error| e.in_file(file.clone());
    let meta = model.meta_graph();
    let mut session = session_from_proto(meta, limits).map_err(in_file)?;
    let library =
        library_from_proto(meta.graph_def.as_ref(), op_definitions(meta), &file, limits).map_err(in_file)?;
    let (mut objects, concrete) = match &meta.object_graph_def {
        Some(graph) => {
            objects_from_proto(graph, &session.graph, model.checkpoint(), model.object_graph(), limits)
                .map_err(in_file)?
        }
        None => {
            (session_variables(&mut session, meta, model.checkpoint()).map_err(in_file)?, Default::default())
        }
    };
    let (assets, places) = read_assets(&folder, meta)?;
    let place = |index: usize| places.get(index).copied().unwrap_or(usize::MAX);
    for id in 0..objects.len() {
        if let Some(Kind::Asset(index)) = objects.get_mut(id).map(|o| &mut o.kind) {
            *index = place(*index);
        }
    }
    session.assets =
        session.assets.into_iter().map(|(o, i)| (o, place(i))).filter(|(_, i)| *i < assets.len()).collect();
    let mut artifact = Artifact {
        source: Source { format: NAME, path: folder.label(), writers: writers(meta) },
        assets,
        ..Artifact::default()
    };
    let metadata = folder.child(keras_metadata::FILE);
    let metadata = if metadata.files.exists(&metadata.name) { Some(metadata) } else { None };
    let bytes = metadata.as_ref().map(Place::open).transpose()?;
    let label = metadata.map_or_else(|| file.clone(), |m| m.label());
    let root = keras_metadata::root_metadata(bytes.as_deref(), &objects).map_err(|e| e.in_file(label))?;
    artifact.architecture = root.as_ref().and_then(keras_metadata::architecture);
    if let Some(version) = artifact.architecture.as_ref().and_then(|a| a.keras_version.clone()) {
        artifact.source.writers.push(("keras".to_owned(), version));
    }
    let none = SavedObjectGraph::default();
    let graph = meta.object_graph_def.as_ref().unwrap_or(&none);
    let slots = model.object_graph().map(|c| slots(graph, c, &objects)).unwrap_or_default();
    artifact.training = keras_metadata::training(root.as_ref(), &slots, &objects);
    artifact.objects = objects;
    artifact.functions = Some(Functions { library, concrete, session: Some(session) });
    residue::keep(model, bytes, &mut artifact)?;
    Ok(artifact)
}

/// What a MetaGraph says of its ops.
pub(crate) fn op_definitions(meta: &MetaGraphDef) -> impl Iterator<Item = &OpDef> {
    meta.meta_info_def.iter().filter_map(|m| m.stripped_op_list.as_ref()).flat_map(|l| &l.op)
}

fn writers(meta: &MetaGraphDef) -> Vec<(String, String)> {
    let version = meta.meta_info_def.as_ref().map(|m| m.tensorflow_version.clone()).filter(|v| !v.is_empty());
    version.map(|v| ("tensorflow".to_owned(), v)).into_iter().collect()
}

/// The assets: those that the MetaGraph lists, in its order, then what else lies in their folder. Gives also where each
/// of the MetaGraph's went; a file that isn't there has no place, and what needs it fails when it runs.
fn read_assets(folder: &Place, meta: &MetaGraphDef) -> Result<(Vec<Asset>, Vec<usize>)> {
    let place = folder.child(ASSETS);
    let (mut assets, mut places) = (Vec::<Asset>::new(), Vec::new());
    for file in asset_files(meta) {
        match place.child(&file.filename).open() {
            Ok(bytes) => {
                places.push(assets.len());
                assets.push(Asset { name: file.filename, bytes });
            }
            Err(e) if e.kind() == ErrorKind::Missing => places.push(usize::MAX),
            Err(e) => return Err(e.at(format!("asset {:?}", file.filename))),
        }
    }
    for name in place.files.list(&place.name).unwrap_or_default() {
        if !name.ends_with('/') && !assets.iter().any(|a| a.name == name) {
            let bytes = place.child(&name).open()?;
            assets.push(Asset { name, bytes });
        }
    }
    Ok((assets, places))
}

/// Writes the assets under the target's folder.
///
/// # Errors
/// When a name leads out of the folder, or writing fails.
pub(crate) fn write_assets(artifact: &Artifact, target: &Target) -> Result<()> {
    for asset in &artifact.assets {
        write_file(target, ASSETS, &asset.name, &asset.bytes)?;
    }
    Ok(())
}

/// Writes a file whose name comes from a model.
///
/// # Errors
/// When the name leads out of the folder, or writing fails.
pub(crate) fn write_file(target: &Target, folder: &str, name: &str, bytes: &[u8]) -> Result<()> {
    let normal = |c| matches!(c, std::path::Component::Normal(_));
    if name.is_empty() || !std::path::Path::new(name).components().all(normal) {
        return Err(Error::invalid(format!("the name {name:?} leads out of its folder")));
    }
    target.write(&format!("{}/{folder}/{name}", target.name()), bytes)
}

/// Writes a message as a file of the target's folder.
///
/// # Errors
/// When writing fails.
pub(crate) fn write_message(target: &Target, name: &str, message: &impl Message) -> Result<()> {
    target.write(&format!("{}/{name}", target.name()), &Bytes::from(message.encode_to_vec()))
}
