//! Writes an artifact that wasn't read from a SavedModel.

use std::collections::{BTreeMap, HashMap};

use modelark_artifact::{
    Artifact, Dialect, Error, Functions, Kind, Objects, Report, Result, SaveOptions, Session, Target,
};
use modelark_checkpoint::BundleWriter;
use modelark_proto::{self as proto, GraphDef, MetaGraphDef, VersionDef, meta_graph_def::MetaInfoDef};

use crate::format::{write_assets, write_message};
use crate::graphdef::graph_to_proto;
use crate::keras_metadata;
use crate::library::library_to_proto;
use crate::objects::objects_to_proto;
use crate::plan::Plan;
use crate::saved_model::{PB, SERVE, VARIABLES};
use crate::serving::{Serving, variable_keys};
use crate::session::{INIT_SIGNATURE, signature_to_proto};

/// The version of graphs that is written: what TensorFlow 2.15 writes.
const GRAPH_VERSION: (i32, i32) = (1645, 12);

/// Writes an artifact with functions.
///
/// # Errors
/// When it has no functions, or they use what TensorFlow doesn't have; or when writing fails.
pub(crate) fn write(artifact: &Artifact, target: &Target, options: &SaveOptions) -> Result<Report> {
    let mut report = Report::default();
    let functions = artifact
        .functions
        .as_ref()
        .ok_or_else(|| Error::missing("a SavedModel needs functions, and there are none"))?;
    if let (Some(session), true) = (&functions.session, functions.concrete.is_empty()) {
        write_session(artifact, functions, session, target)?;
        return Ok(report);
    }
    let mut plan = Plan::new(artifact, options, &mut report)?;
    let keras = keras(artifact, &mut report);
    if keras {
        keras_metadata::prepare(&mut plan)?;
    }
    let mut bundle = BundleWriter::new(target, format!("{}/{VARIABLES}", target.name()))?;
    modelark_checkpoint::write_objects(&plan.objects, &plan.slots, &mut bundle)?;
    bundle.finish()?;
    for slot in &plan.slots {
        // The loader knows no such thing without the optimizer's class; the checkpoint lists it.
        if let Some(object) = plan.objects.get_mut(slot.slot) {
            object.kind = Kind::object();
        }
    }
    let serving = Serving::new(&plan, artifact, &variable_keys(&plan.objects))?;
    let objects = objects_to_proto(&plan.objects, &plan.concrete, &HashMap::new(), &serving.constants)?;
    let graph = GraphDef {
        node: graph_to_proto(&serving.graph)?,
        library: Some(library_to_proto(&plan.library)?),
        versions: Some(versions()),
        ..GraphDef::default()
    };
    let meta = MetaGraphDef {
        meta_info_def: Some(meta_info()),
        graph_def: Some(graph),
        saver_def: serving.saver,
        signature_def: serving.signatures,
        asset_file_def: serving.assets,
        object_graph_def: Some(objects),
        ..MetaGraphDef::default()
    };
    if keras {
        let metadata = keras_metadata::metadata(artifact, &plan);
        write_message(target, keras_metadata::FILE, &metadata)?;
    }
    write_assets(artifact, target)?;
    write_message(target, PB, &saved_model(meta))?;
    Ok(report)
}

/// Whether Keras's own metadata can be written: it knows the configs of Keras 2 alone.
fn keras(artifact: &Artifact, report: &mut Report) -> bool {
    let root = artifact.objects.get(Objects::ROOT).map(|r| &r.kind);
    match &artifact.architecture {
        Some(architecture) if matches!(root, Some(Kind::Layer(_))) => {
            let keras2 = architecture.dialect != Dialect::Keras3;
            if !keras2 {
                report.note(
                    "the configs of the layers were left out: a SavedModel holds those of Keras 2 alone; \
                     ask for the dialect keras2 to let tf_keras rebuild the model",
                );
            }
            keras2
        }
        _ => false,
    }
}

/// Writes a graph that runs by feeding and fetching: a SavedModel of TensorFlow 1 without variables of its own.
fn write_session(
    artifact: &Artifact,
    functions: &Functions,
    session: &Session,
    target: &Target,
) -> Result<()> {
    if !session.variables.is_empty() {
        return Err(Error::unsupported(
            "the graph's variables are restored by ops that aren't in it any more; write the SavedModel that it came from",
        ));
    }
    let mut signatures: BTreeMap<_, _> =
        session.signatures.iter().map(|(n, s)| (n.clone(), signature_to_proto(s))).collect();
    signatures.remove(INIT_SIGNATURE);
    let meta = MetaGraphDef {
        meta_info_def: Some(meta_info()),
        graph_def: Some(GraphDef {
            node: graph_to_proto(&session.graph)?,
            library: Some(library_to_proto(&functions.library)?),
            versions: Some(versions()),
            ..GraphDef::default()
        }),
        signature_def: signatures,
        ..MetaGraphDef::default()
    };
    write_assets(artifact, target)?;
    write_message(target, PB, &saved_model(meta))
}

fn saved_model(meta: MetaGraphDef) -> proto::SavedModel {
    proto::SavedModel { saved_model_schema_version: 1, meta_graphs: vec![meta] }
}

fn meta_info() -> MetaInfoDef {
    MetaInfoDef { tags: vec![SERVE.to_owned()], ..MetaInfoDef::default() }
}

/// The version of graphs that is written.
pub(crate) fn versions() -> VersionDef {
    let (producer, min_consumer) = GRAPH_VERSION;
    VersionDef { producer, min_consumer, bad_consumers: Vec::new() }
}
