//! Legacy `.h5`: a list of layers, each a group with its weights in order; around it, the model's configs.

use std::collections::{BTreeMap, HashMap};

use modelark_artifact::tensor::SharedBytes;
use modelark_artifact::{
    Architecture, Artifact, Dialect, Error, Format, Held, Kind, Limits, Needs, ObjectId, Objects,
    OptimizerState, OptimizerVariable, Place, Report, Result, Salvage, SaveOptions, Source, Target, Training,
    nearest,
};
use modelark_hdf5 as hdf5;
use modelark_hdf5::Attribute;
use serde_json::{Value, json};

use crate::assign::{Pair, assign, fits};
use crate::{bins, config, held, naming, optimizer, vocabulary, weights};

const MODEL_WEIGHTS: &str = "model_weights";
const OPTIMIZER_WEIGHTS: &str = "optimizer_weights";
const TOP_LEVEL: &str = "top_level_model_weights";
const LAYER_NAMES: &str = "layer_names";
const WEIGHT_NAMES: &str = "weight_names";
const MODEL_CONFIG: &str = "model_config";
/// What the root of a file of this layout has at least one of.
const MARKS: [&str; 3] = [MODEL_CONFIG, LAYER_NAMES, "layer_names0"];
const TRAINING_CONFIG: &str = "training_config";
const KERAS_VERSION: &str = "keras_version";
const BACKEND: &str = "backend";
/// Where the order of the file's lists is kept, which the tree of its paths doesn't tell.
const ORDER: &str = "h5.order";
/// Keras's bound on a list of names in an attribute (`HDF5_OBJECT_HEADER_LIMIT`).
const ATTRIBUTE_LIMIT: usize = 64512;
/// What an element of a list of variable-length strings takes in an attribute.
const REFERENCE_BYTES: usize = 16;

/// Keras's `.h5` (`.hdf5`): a whole model, or, where the file has no architecture, the weights alone.
///
/// An artifact without an architecture is written as weights alone, too.
#[derive(Debug, Clone, Copy, Default)]
pub struct H5;

impl Format for H5 {
    fn name(&self) -> &'static str {
        "h5"
    }

    fn description(&self) -> &'static str {
        "Keras model or weights in HDF5 (.h5)"
    }

    fn claims(&self, file_name: &str) -> bool {
        let name = file_name.to_ascii_lowercase();
        !name.ends_with(".weights.h5") && [".h5", ".hdf5", ".hdf"].iter().any(|e| name.ends_with(e))
    }

    fn detect(&self, place: &Place) -> bool {
        let Ok(bytes) = place.open() else { return false };
        // A damaged HDF5 file is this format's to explain.
        hdf5::is_hdf5(&bytes)
            && hdf5::File::root_attributes(bytes, place.label(), &Limits::default(), &MARKS)
                .map_or(true, |found| !found.is_empty())
    }

    fn read(&self, place: &Place, limits: &Limits) -> Result<Artifact> {
        let file = hdf5::File::open(place.open()?, place.label(), limits)?;
        read(file.root(), place, limits).map_err(|e| e.in_file(place.label()))
    }

    fn salvage(&self, place: &Place, limits: &Limits) -> Result<Salvage> {
        weights::salvaged(place.open()?, place.label(), limits)
    }

    fn needs(&self) -> Needs {
        Needs { architecture: true, layers: true, ..Needs::default() }
    }

    fn write(&self, artifact: &Artifact, target: &Target, options: &SaveOptions) -> Result<Report> {
        let mut writer = hdf5::Writer::new().compress(options.compress);
        let report =
            write(artifact, options, &mut writer).map_err(|e| e.in_file(target.path().to_owned()))?;
        writer.write(&target.stage(&target.name())?)?;
        Ok(report)
    }

    fn bind(&self, model: &mut Objects, read: &Artifact) -> Result<Report> {
        bind_in_order(model, read).map_err(|e| e.in_file(read.source.path.clone()))
    }

    fn held(&self, read: &Artifact, architecture: &Architecture) -> Result<BTreeMap<String, Vec<Held>>> {
        held::by_list(read, architecture).map_err(|e| e.in_file(read.source.path.clone()))
    }
}

/// A list of names in an attribute, or in as many attributes as it needed.
fn list(group: &hdf5::Group, name: &str) -> Result<Option<Vec<String>>> {
    let strange = |name: &str| {
        Error::corrupt("it isn't a list of names")
            .at(format!("attribute {name:?}"))
            .at(format!("HDF5 path \"/{}\"", group.path()))
    };
    if let Some(value) = group.attribute(name)? {
        return value.as_list().map(|l| Some(l.to_vec())).ok_or_else(|| strange(name));
    }
    let mut names: Option<Vec<String>> = None;
    for i in 0.. {
        let chunk = format!("{name}{i}");
        let Some(value) = group.attribute(&chunk)? else { break };
        let part = value.as_list().ok_or_else(|| strange(&chunk))?;
        names.get_or_insert_default().extend_from_slice(part);
    }
    Ok(names)
}

/// Sets a list of names, in parts of one width when it is longer than an attribute may be.
fn set_list(writer: &mut hdf5::Writer, path: &str, name: &str, names: Vec<String>) -> Result<()> {
    let width = names.iter().map(String::len).max().unwrap_or(0).max(REFERENCE_BYTES);
    if names.len().saturating_mul(width) <= ATTRIBUTE_LIMIT {
        return writer.attribute(path, name, Attribute::list(names));
    }
    let parts = names.len().saturating_mul(width).div_ceil(ATTRIBUTE_LIMIT);
    let size = names.len().div_ceil(parts);
    for (i, part) in names.chunks(size.max(1)).enumerate() {
        writer.attribute(path, &format!("{name}{i}"), Attribute::FixedList(part.to_vec()))?;
    }
    Ok(())
}

fn read(root: &hdf5::Group, place: &Place, limits: &Limits) -> Result<Artifact> {
    let mut attributes = root.attributes(&[MODEL_CONFIG, TRAINING_CONFIG, KERAS_VERSION, BACKEND])?;
    let group = match root.group(MODEL_WEIGHTS) {
        Some(group) => group,
        None if attributes.contains_key(MODEL_CONFIG) => {
            return Err(Error::missing(format!(
                "the file has a model's config, but no group {MODEL_WEIGHTS:?}"
            ))
            .help("it was cut off while it was saved; save the model again"));
        }
        None => root,
    };
    if !attributes.contains_key(KERAS_VERSION) {
        attributes.extend(group.attributes(&[KERAS_VERSION, BACKEND])?);
    }
    let mut text = |name: &str| -> Result<Option<String>> {
        let Some(value) = attributes.remove(name) else { return Ok(None) };
        // An old h5py wrote a text as a list of one.
        let text = value.as_str().or_else(|| value.as_list()?.first().map(String::as_str)).map(str::to_owned);
        text.map(Some).ok_or_else(|| Error::corrupt("it isn't a text").at(format!("attribute {name:?}")))
    };
    let json = |name: &str, text: Option<String>| -> Result<Option<Value>> {
        let parsed = text.map(|t| config::parse(t.as_bytes(), limits)).transpose();
        parsed.map_err(|e| e.at(format!("attribute {name:?}")))
    };
    let keras_version = text(KERAS_VERSION)?;
    // Theano's kernels lie otherwise than TensorFlow's.
    let backend = text(BACKEND)?.filter(|b| b != "tensorflow");
    let mut model_config = json(MODEL_CONFIG, text(MODEL_CONFIG)?)?;
    let compile = json(TRAINING_CONFIG, text(TRAINING_CONFIG)?)?.filter(|c| !c.is_null());

    let mut tree = Tree::default();
    let names = list(group, LAYER_NAMES)?.ok_or_else(|| {
        Error::missing(format!(
            "the attribute {LAYER_NAMES:?} is missing, so that this isn't a Keras weight file"
        ))
        .at(format!("HDF5 path \"/{}\"", group.path()))
    })?;
    for name in names {
        tree.layer(group, &name)?;
    }
    if let Some(own) = group.group(TOP_LEVEL) {
        tree.own = tree.weights(own)?;
    }
    let optimizer = root.group(OPTIMIZER_WEIGHTS).map(|g| tree.optimizer(g, compile.as_ref())).transpose()?;
    let optimizer = optimizer.filter(|o| !o.variables.is_empty());
    if let Some(config) = &mut model_config {
        bins::read_listed(config, &mut tree.layers, &tree.objects)?;
    }
    let order = json!({ "layers": tree.layers, "own": tree.own });
    let mut artifact = Artifact {
        source: Source {
            format: H5.name(),
            path: place.label(),
            writers: keras_version
                .iter()
                .map(|v| ("keras".to_owned(), v.clone()))
                .chain(backend.map(|b| (BACKEND.to_owned(), b)))
                .collect(),
        },
        objects: tree.objects,
        ..Artifact::default()
    };
    artifact.extras.insert(ORDER.to_owned(), SharedBytes::from(order.to_string().into_bytes()));
    if compile.is_some() || optimizer.is_some() {
        artifact.training = Some(Training { compile, optimizer });
    }
    artifact.architecture = model_config.map(|config| {
        let dialect = config::dialect(&config, keras_version.as_deref());
        Architecture { config, dialect, keras_version }
    });
    Ok(artifact)
}

/// The file's paths as objects, with its lists beside.
#[derive(Default)]
struct Tree {
    objects: Objects,
    /// Each layer's name with the paths of its weights.
    layers: Vec<(String, Vec<String>)>,
    own: Vec<String>,
    /// Weights by the names that their layers give them.
    named: HashMap<String, ObjectId>,
}

impl Tree {
    fn layer(&mut self, group: &hdf5::Group, name: &str) -> Result<()> {
        let layer = group.group(name).ok_or_else(|| {
            let e = Error::missing(format!("the layer is listed, but its group {name:?} is missing"));
            e.at(format!("layer {name:?}")).help("the file is incomplete; save the model again")
        })?;
        let weights = self.weights(layer).map_err(|e| e.at(format!("layer {name:?}")))?;
        self.layers.push((name.to_owned(), weights));
        Ok(())
    }

    /// Adds a group's weights in their order; gives their paths.
    fn weights(&mut self, group: &hdf5::Group) -> Result<Vec<String>> {
        let names = list(group, WEIGHT_NAMES)?.ok_or_else(|| {
            Error::missing(format!("the attribute {WEIGHT_NAMES:?} is missing"))
                .at(format!("HDF5 path \"/{}\"", group.path()))
        })?;
        let mut paths = Vec::new();
        for name in names {
            let dataset = dataset(group, &name)?;
            let path = dataset.path().to_owned();
            let (folder, last) = path.rsplit_once('/').unwrap_or(("", &path));
            let mut parent = Objects::ROOT;
            for part in folder.split('/').filter(|p| !p.is_empty()) {
                let known = self.objects.get(parent).and_then(|o| o.child(part));
                parent = known.unwrap_or_else(|| self.objects.add(parent, part, Kind::object()));
            }
            if self.objects.get(parent).is_some_and(|o| o.child(last).is_none()) {
                let id = self.objects.add(parent, last, Kind::Variable(dataset.variable(last)?));
                let bare = name.split_once(':').map_or(name.as_str(), |(n, _)| n).to_owned();
                self.named.entry(bare).or_insert(id);
            }
            paths.push(path);
        }
        Ok(paths)
    }

    fn optimizer(&self, group: &hdf5::Group, compile: Option<&Value>) -> Result<OptimizerState> {
        let names = list(group, WEIGHT_NAMES)?.unwrap_or_default();
        let layout = optimizer::layout_of_names(&names);
        let variables = names.iter().map(|name| {
            let slot = optimizer::slot_of_name(name, layout, &self.named);
            Ok(OptimizerVariable { variable: dataset(group, name)?.variable(name)?, slot })
        });
        let variables = variables.collect::<Result<Vec<_>>>()?;
        Ok(OptimizerState { layout, class: compile.and_then(config::optimizer_class), variables })
    }
}

fn dataset<'a>(group: &'a hdf5::Group, name: &str) -> Result<&'a hdf5::Dataset> {
    group.dataset(name).ok_or_else(|| {
        Error::missing(format!("the weight {name:?} is listed, but its dataset is missing"))
            .at(format!("HDF5 path \"/{}\"", group.path()))
            .help("the file is incomplete; save the model again")
    })
}

fn write(artifact: &Artifact, options: &SaveOptions, writer: &mut hdf5::Writer) -> Result<Report> {
    let mut report = Report::default();
    let objects = &artifact.objects;
    if naming::layer(objects, Objects::ROOT).is_none() {
        return Err(Error::missing("these weights belong to no layers, which a .h5 file is a list of")
            .help("give the model's architecture with the weights"));
    }
    let dialect = weights::dialect(artifact, options);
    let version = artifact.architecture.as_ref().and_then(|a| a.keras_version.as_deref());
    let version = config::version(dialect, version);
    let folder = match &artifact.architecture {
        Some(architecture) => {
            let node = config::legacy_form(&architecture.config, architecture.dialect);
            writer.attribute("", KERAS_VERSION, Attribute::Utf8(version.clone()))?;
            writer.attribute("", BACKEND, Attribute::Utf8("tensorflow".to_owned()))?;
            writer.attribute("", MODEL_CONFIG, Attribute::Ascii(config::to_ascii(&node)))?;
            format!("{MODEL_WEIGHTS}/")
        }
        None => String::new(),
    };
    // Keras 2 has the weights of words among a layer's own.
    let keras2 = artifact.architecture.as_ref().filter(|_| dialect == Dialect::Keras2);
    let extended = keras2.map(|a| vocabulary::beside(objects, &a.config)).transpose()?.flatten();
    let objects = extended.as_ref().unwrap_or(objects);
    let (layers, own) = naming::legacy(objects, dialect);
    let names = layers.iter().map(|l| l.name.clone()).collect();
    set_list(writer, &folder, LAYER_NAMES, names)?;
    writer.attribute(&folder, BACKEND, Attribute::Ascii("tensorflow".to_owned()))?;
    writer.attribute(&folder, KERAS_VERSION, Attribute::Ascii(version))?;
    let own = naming::LegacyLayer { name: TOP_LEVEL.to_owned(), weights: own };
    for layer in layers.iter().chain([&own]) {
        let group = format!("{folder}{}", layer.name);
        writer.group(&group)?;
        let names = layer.weights.iter().map(|(name, _)| name.clone()).collect();
        set_list(writer, &group, WEIGHT_NAMES, names)?;
        for (name, id) in &layer.weights {
            if let Some(variable) = objects.variable(*id) {
                let path = format!("{group}/{name}");
                writer.dataset(&path, variable).map_err(|e| e.at(format!("layer {:?}", layer.name)))?;
            }
        }
    }
    let training = artifact.training.as_ref().filter(|_| !options.without_training);
    if let Some(training) = training.filter(|_| artifact.architecture.is_some()) {
        if let Some(compile) = &training.compile {
            let compile = config::training_config(compile, dialect);
            writer.attribute("", TRAINING_CONFIG, Attribute::Ascii(config::to_ascii(&compile)))?;
        }
        if let Some(state) = optimizer::for_dialect(training, dialect, &mut report) {
            let names = optimizer::names(&state, objects, dialect);
            for (name, v) in names.iter().zip(&state.variables) {
                writer.dataset(&format!("{OPTIMIZER_WEIGHTS}/{name}"), &v.variable)?;
            }
            set_list(writer, OPTIMIZER_WEIGHTS, WEIGHT_NAMES, names)?;
        }
    } else if training.is_some_and(|t| t.optimizer.is_some()) {
        report.note("training state was left behind: weights alone don't hold it");
    }
    Ok(report)
}

/// The layers of a file with the paths of their weights, in the file's order, and the paths of the model's own weights.
pub(crate) type Order = (Vec<(String, Vec<String>)>, Vec<String>);

pub(crate) fn order(read: &Artifact) -> Result<Order> {
    let strange = || Error::invalid("these weights weren't read from a .h5 file");
    let json = read.extras.get(ORDER).ok_or_else(strange)?;
    let json: Value = serde_json::from_slice(json).map_err(|_| strange())?;
    let texts = |v: &Value| -> Option<Vec<String>> {
        v.as_array()?.iter().map(|t| t.as_str().map(str::to_owned)).collect()
    };
    let layer = |v: &Value| Some((v.get(0)?.as_str()?.to_owned(), texts(v.get(1)?)?));
    let layers = json.get("layers").and_then(Value::as_array);
    let layers = layers.and_then(|l| l.iter().map(layer).collect::<Option<Vec<_>>>());
    layers.zip(json.get("own").and_then(texts)).ok_or_else(strange)
}

/// Binds layer by layer in order, whatever their names: as Keras loads weights by topology.
fn bind_in_order(model: &mut Objects, read: &Artifact) -> Result<Report> {
    let keras2 = read.architecture.as_ref().filter(|a| a.dialect == Dialect::Keras2);
    let extended = keras2.map(|a| vocabulary::beside(model, &a.config)).transpose()?.flatten();
    let Some(mut extended) = extended else { return bind_listed(model, read) };
    let report = bind_listed(&mut extended, read)?;
    // The weights of words are in the configs already.
    let own: Vec<ObjectId> = model.variables().into_iter().map(|(id, ..)| id).collect();
    for id in own {
        if let (Some(variable), Some(bound)) = (model.variable_mut(id), extended.variable(id)) {
            variable.value = bound.value.clone();
        }
    }
    Ok(report)
}

fn bind_listed(model: &mut Objects, read: &Artifact) -> Result<Report> {
    let (layers, own) = order(read)?;
    let mut report = Report::default();
    // Layers without weights are no part of the comparison, on either side.
    let listed: Vec<_> = layers.into_iter().filter(|(_, weights)| !weights.is_empty()).collect();
    let (wanted, wanted_own) = naming::legacy(model, Dialect::Keras2);
    let wanted: Vec<_> = wanted.into_iter().filter(|l| !l.weights.is_empty()).collect();
    if listed.len() != wanted.len() {
        let names = |list: &mut dyn Iterator<Item = &str>| list.take(8).collect::<Vec<_>>().join(", ");
        return Err(Error::mismatch(format!(
            "the file has {} layers with weights ({}), the model {} ({})",
            listed.len(),
            names(&mut listed.iter().map(|(n, _)| n.as_str())),
            wanted.len(),
            names(&mut wanted.iter().map(|l| l.name.as_str()))
        ))
        .help("use the architecture that the weights were saved from, or bind by name"));
    }
    let mut pairs = Vec::new();
    for (layer, (name, paths)) in wanted.iter().zip(&listed) {
        let owner = if layer.name == *name {
            format!("layer {name:?}")
        } else {
            format!("layer {:?} ({name:?} in the file)", layer.name)
        };
        let found = pair(read, &owner, &layer.weights, paths)?;
        // A layer that was quantized where it was lists its weights otherwise than one that is made so.
        let named = if found.iter().all(|p| fits(model, p)) { None } else { by_names(&layer.weights, paths) };
        pairs.extend(match named {
            Some(paths) => pair(read, &owner, &layer.weights, &paths)?,
            None => found,
        });
    }
    // Keras before 2.6 stored no weights of the model itself.
    if !own.is_empty() || wanted_own.is_empty() {
        pairs.extend(pair(read, "the model itself", &wanted_own, &own)?);
    } else {
        report.note(format!("{} weights of the model itself aren't in the file", wanted_own.len()));
    }
    assign(model, pairs)?;
    Ok(report)
}

/// Binds the layers of a model whose names the file of `read` has, too; the others stay as they are.
///
/// With `skip_mismatch`, a layer that has another number of weights is left as it is as well, and so is a weight of another
/// shape; both are reported.
///
/// # Errors
/// When `read` isn't of a `.h5` file, when no name is in both, or, unless they are skipped, weights don't fit.
pub fn bind_by_name(model: &mut Objects, read: &Artifact, skip_mismatch: bool) -> Result<Report> {
    let (layers, own) = order(read)?;
    let mut report = Report::default();
    let (wanted, wanted_own) = naming::legacy(model, Dialect::Keras2);
    let mut pairs = Vec::new();
    let mut take = |owner: &str, weights: &[(String, ObjectId)], paths: &[String]| {
        let found = match pair(read, owner, weights, paths) {
            Err(e) if !skip_mismatch => return Err(e.in_file(read.source.path.clone())),
            Err(_) => {
                let (has, holds) = (weights.len(), paths.len());
                report.note(format!("{owner} was skipped: it has {has} weights, the file {holds} for it"));
                return Ok(());
            }
            Ok(found) => found,
        };
        for pair in found {
            if skip_mismatch && !fits(model, &pair) {
                let (path, held) = (&pair.path, &pair.value.shape);
                let shape = model.variable(pair.weight).map(|w| w.shape.as_slice()).unwrap_or_default();
                report.note(format!("{owner}: {path:?} was skipped: its shape is {held:?}, not {shape:?}"));
            } else {
                pairs.push(pair);
            }
        }
        Ok(())
    };
    let listed: Vec<_> = layers.iter().filter(|(_, paths)| !paths.is_empty()).collect();
    for (name, paths) in &listed {
        for layer in wanted.iter().filter(|l| l.name == *name) {
            take(&format!("layer {name:?}"), &layer.weights, paths)?;
        }
    }
    if !own.is_empty() {
        take("the model itself", &wanted_own, &own)?;
    }
    let in_model = |name: &str| wanted.iter().any(|l| l.name == name);
    let in_file = |name: &str| listed.iter().any(|(n, _)| n == name);
    for (name, _) in listed.iter().filter(|(name, _)| !in_model(name)) {
        report.note(format!("layer {name:?} of the file isn't in the model"));
    }
    for layer in wanted.iter().filter(|l| !l.weights.is_empty() && !in_file(&l.name)) {
        report.note(format!("layer {:?} isn't in the file: it stays as it was", layer.name));
    }
    if !listed.iter().any(|(name, _)| in_model(name)) {
        let names: Vec<&str> = wanted.iter().map(|l| l.name.as_str()).collect();
        let near = layers.iter().find_map(|(name, _)| nearest(name, names.iter().copied()));
        return Err(Error::mismatch("no layer of the file has a name that the model has")
            .in_file(read.source.path.clone())
            .help(near.unwrap_or_else(|| "bind in order instead".to_owned())));
    }
    assign(model, pairs).map_err(|e| e.in_file(read.source.path.clone()))?;
    Ok(report)
}

fn pair<'a>(
    read: &'a Artifact,
    owner: &str,
    weights: &[(String, ObjectId)],
    paths: &[String],
) -> Result<Vec<Pair<'a>>> {
    if weights.len() != paths.len() {
        return Err(Error::mismatch(format!(
            "it has {} weights, but the file holds {} for it: {}",
            weights.len(),
            paths.len(),
            paths.join(", ")
        ))
        .at(owner)
        .help("the file was saved from another architecture; build the model as it was then"));
    }
    let found = weights.iter().zip(paths).map(|((_, weight), path)| {
        let value = read.objects.find(path).and_then(|id| read.objects.variable(id));
        let value =
            value.ok_or_else(|| Error::missing(format!("HDF5 path {path:?} is missing")).at(owner))?;
        Ok(Pair { weight: *weight, owner: owner.to_owned(), value, path: path.clone() })
    });
    found.collect()
}

/// The paths in the order of weights of the same names, where each name is one weight's and one path's.
fn by_names(weights: &[(String, ObjectId)], paths: &[String]) -> Option<Vec<String>> {
    fn last(path: &str) -> &str {
        let name = path.rsplit('/').next().unwrap_or(path);
        name.split(':').next().unwrap_or(name)
    }
    let of = |(name, _): &(String, ObjectId)| {
        let mut found = paths.iter().filter(|p| last(p) == last(name));
        found.next().filter(|_| found.next().is_none()).cloned()
    };
    let found = weights.iter().map(of).collect::<Option<Vec<_>>>()?;
    let each: std::collections::HashSet<&String> = found.iter().collect();
    (each.len() == paths.len()).then_some(found)
}

#[cfg(test)]
mod tests {
    use modelark_artifact::OptimizerLayout;
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    #[test]
    fn whole_models_of_keras_come_back_as_they_were() {
        for (environment, dialect, layout) in [
            ("tf215", Dialect::Keras2, OptimizerLayout::Keras2),
            ("tf221", Dialect::Keras3, OptimizerLayout::Keras3),
        ] {
            let (read, model) = testing::bound(&H5, environment, "mlp/model.h5");
            let architecture = read.architecture.as_ref().expect("architecture");
            assert_eq!(architecture.dialect, dialect);
            let state = model.training.as_ref().and_then(|t| t.optimizer.as_ref()).expect("optimizer");
            assert_eq!(state.layout, layout);
            assert_eq!(state.variables.iter().filter(|v| v.slot.is_some()).count(), 8, "{environment}");
            let again = testing::again(&H5, &model, "m.h5", &SaveOptions::default());
            let paths = testing::same(&read, &again);
            assert!(paths.iter().any(|p| p.starts_with("model_weights/hidden/")), "{paths:?}");
            assert_eq!(again.architecture.expect("architecture"), *architecture);
            assert_eq!(again.training.and_then(|t| t.compile), read.training.and_then(|t| t.compile));
        }
    }

    #[test]
    fn weights_alone_have_the_paths_of_the_file() {
        let (read, mut model) = testing::bound(&H5, "tf215", "mlp/legacy_weights.h5");
        assert!(read.architecture.is_none());
        let options = testing::options(Dialect::Keras2);
        let again = testing::again(&H5, &model, "w.h5", &options);
        let paths = testing::same(&read, &again);
        assert_eq!(paths.first().map(String::as_str), Some("hidden/hidden/kernel:0"));
        model.objects = read.objects.clone();
        let target = Target::new(std::env::temp_dir().join("unwritten.h5")).expect("target");
        let error = H5.write(&model, &target, &options).expect_err("no layers").to_string();
        assert!(error.contains("architecture"), "{error}");
    }

    #[test]
    fn weights_that_do_not_fit_are_named() {
        let (read, _) = testing::bound(&H5, "tf221", "mlp/model.h5");
        let error = H5.bind(&mut testing::mlp(4), &read).expect_err("4 outputs").to_string();
        for part in [
            "mlp/model.h5",
            "\"probabilities\"",
            "model_weights/probabilities/mlp/probabilities/kernel",
            "[5, 4]",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn weights_are_bound_by_name_as_far_as_they_fit() {
        let (read, model) = testing::bound(&H5, "tf215", "mlp/model.h5");
        let mut other = testing::mlp(4);
        assert!(bind_by_name(&mut other, &read, false).is_err());
        let report = bind_by_name(&mut other, &read, true).expect("skips");
        // Each weight by itself, as Keras does.
        assert_eq!(report.notes.len(), 2, "{:?}", report.notes);
        assert!(report.notes[0].contains("[5, 3], not [5, 4]"), "{:?}", report.notes);
        let kernel =
            |o: &Objects, path: &str| o.find(path).and_then(|id| o.variable(id)).expect("weight").load();
        let hidden = kernel(&other, "layers/0/kernel").expect("bound");
        assert!(hidden.bit_eq(&kernel(&model.objects, "layers/0/kernel").expect("bound")));
        assert!(kernel(&other, "layers/2/kernel").is_err());
    }

    #[test]
    fn long_lists_of_names_are_split_as_keras_splits_them() {
        let names: Vec<String> = (0..5000).map(|i| format!("layer_number_{i:05}")).collect();
        let mut writer = hdf5::Writer::new();
        set_list(&mut writer, "", LAYER_NAMES, names.clone()).expect("sets");
        set_list(&mut writer, "", WEIGHT_NAMES, Vec::new()).expect("sets");
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("n.h5");
        writer.write(&path).expect("writes");
        let bytes = SharedBytes::from(std::fs::read(&path).expect("reads"));
        let file = hdf5::File::open(bytes, path, &Limits::default()).expect("opens");
        assert_eq!(list(file.root(), LAYER_NAMES).expect("reads"), Some(names));
        assert_eq!(list(file.root(), WEIGHT_NAMES).expect("reads"), Some(Vec::new()));
        assert!(file.root().attribute(LAYER_NAMES).expect("reads").is_none());
        assert!(file.root().attribute("layer_names1").expect("reads").is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn damaged_files_never_panic(
            bytes in testing::damaged(std::fs::read(testing::fixture("tf215", "mlp/model.h5")).expect("reads")),
        ) {
            let _ = testing::read_all(&H5, "m.h5", bytes);
        }
    }
}
