//! `.weights.h5`: groups that follow the paths of objects, each with its variables by number under `vars`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use modelark_artifact::tensor::SharedBytes;
use modelark_artifact::{
    Architecture, Artifact, Dialect, Error, Format, Held, Kind, Limits, Needs, ObjectId, Objects,
    OptimizerLayout, Place, Report, Result, Salvage, SaveOptions, Source, Target, Training, Variable,
    nearest,
};
use modelark_hdf5 as hdf5;
use modelark_hdf5::Attribute;
use serde_json::Value;

use crate::assign::{Pair, assign};
use crate::shards::{Shards, Sink};
use crate::{config, held, naming, optimizer, vocabulary};

/// The group of an object's own variables.
pub(crate) const VARS: &str = "vars";
/// The list of a model's layers.
pub(crate) const LAYERS: &str = "layers";
const OPTIMIZER: &str = "optimizer";
/// The most bytes of weights in one file of a set, unless a save says otherwise.
const SHARD: u64 = 5 << 30;
/// What Keras 2.13 called the list of a model's layers.
pub(crate) const OLD_LAYERS: &str = "_layer_checkpoint_dependencies";
/// Where the layers are that preprocess features, in a model that is a space of them.
pub(crate) const PREPROCESSORS: &str = "preprocessors";

/// Keras's `.weights.h5`: the weights of a model and its optimizer's variables, by the paths of their owners.
///
/// Keras 2 and Keras 3 name some paths differently; both are read, and the dialect of the save decides what is written.
/// A set of shards is read by its `.weights.json`.
#[derive(Debug, Clone, Copy, Default)]
pub struct WeightsH5;

impl Format for WeightsH5 {
    fn name(&self) -> &'static str {
        "weights_h5"
    }

    fn description(&self) -> &'static str {
        "Keras weights by object path (.weights.h5)"
    }

    fn claims(&self, file_name: &str) -> bool {
        file_name.ends_with(".weights.h5") || file_name.ends_with(".weights.json")
    }

    fn detect(&self, place: &Place) -> bool {
        let Ok(bytes) = place.open() else { return false };
        if place.name.ends_with(".json") {
            return shards(&bytes, &Limits::default()).is_ok();
        }
        hdf5::is_hdf5(&bytes)
            && hdf5::File::open(bytes, place.label(), &Limits::default())
                // A damaged HDF5 file is to be explained, not taken for something else.
                .map_or(true, |f| is_layout(f.root()))
    }

    fn read(&self, place: &Place, limits: &Limits) -> Result<Artifact> {
        let mut tree = Tree::default();
        if place.name.ends_with(".json") {
            let names =
                place.open().and_then(|b| shards(&b, limits)).map_err(|e| e.in_file(place.label()))?;
            for name in names {
                let shard = place.sibling(&name);
                let bytes = shard.open().map_err(|e| {
                    e.help(format!("{} lists this shard; put it beside it", place.label().display()))
                })?;
                tree.merge(hdf5::File::open(bytes, shard.label(), limits)?.root())?;
            }
        } else {
            let file = hdf5::File::open(place.open()?, place.label(), limits)?;
            if !is_layout(file.root()) {
                return Err(
                    Error::corrupt("this HDF5 file has no groups of variables").in_file(place.label())
                );
            }
            tree.merge(file.root())?;
        }
        let source = Source { format: self.name(), path: place.label(), writers: Vec::new() };
        let training = tree.training(None, None);
        Ok(Artifact { source, objects: tree.objects, training, ..Artifact::default() })
    }

    fn salvage(&self, place: &Place, limits: &Limits) -> Result<Salvage> {
        salvaged(place.open()?, place.label(), limits)
    }

    fn needs(&self) -> Needs {
        Needs { layers: true, ..Needs::default() }
    }

    fn write(&self, artifact: &Artifact, target: &Target, options: &SaveOptions) -> Result<Report> {
        let dialect = dialect(artifact, options);
        if target.name().ends_with(".json") {
            let most = options.max_shard_size.unwrap_or(SHARD);
            let mut shards = Shards::new(&target.name(), most, options.compress);
            let mut report = write_tree(artifact, dialect, options, &mut shards)?;
            shards.write(target)?;
            if dialect != Dialect::Keras3 {
                report.note("Keras 2 doesn't read weights in several files");
            }
            return Ok(report);
        }
        let mut writer = hdf5::Writer::new().compress(options.compress);
        let report = write_tree(artifact, dialect, options, &mut writer)?;
        writer.write(&target.stage(&target.name())?)?;
        Ok(report)
    }

    fn keeps(&self, artifact: &Artifact) -> bool {
        is_tree(artifact)
    }

    fn bind(&self, model: &mut Objects, read: &Artifact) -> Result<Report> {
        bind_tree(model, &read.objects).map_err(|e| e.in_file(read.source.path.clone()))
    }

    fn held(&self, read: &Artifact, architecture: &Architecture) -> Result<BTreeMap<String, Vec<Held>>> {
        Ok(held::by_path(&read.objects, architecture))
    }
}

/// What is intact of an HDF5 file: every dataset that can be found, by its path.
pub(crate) fn salvaged(bytes: SharedBytes, label: PathBuf, limits: &Limits) -> Result<Salvage> {
    let (file, damage) = hdf5::File::salvage(bytes, label, limits)?;
    let mut salvage = Salvage { damage, ..Salvage::default() };
    for dataset in file.root().all_datasets() {
        match dataset.variable(dataset.path()) {
            Ok(variable) => salvage.variables.push((dataset.path().to_owned(), variable)),
            Err(e) => salvage.damage.push(e),
        }
    }
    Ok(salvage)
}

/// The dialect that a save writes.
pub(crate) fn dialect(artifact: &Artifact, options: &SaveOptions) -> Dialect {
    let own = artifact.architecture.as_ref().map(|a| a.dialect);
    match options.dialect.or(own) {
        // What Keras 1 wrote, Keras 2 writes.
        Some(Dialect::Keras1 | Dialect::Keras2) => Dialect::Keras2,
        Some(Dialect::Keras3) | None => Dialect::Keras3,
    }
}

/// Whether a file is laid out by the paths of objects.
fn is_layout(root: &hdf5::Group) -> bool {
    fn has_vars(group: &hdf5::Group) -> bool {
        group.groups().any(|(name, child)| name == VARS || has_vars(child))
    }
    let legacy = root.attributes(&["layer_names", "model_config"]).map_or(true, |found| !found.is_empty());
    !legacy && has_vars(root)
}

/// The names of the shards that a `.weights.json` lists, each once.
fn shards(json: &[u8], limits: &Limits) -> Result<Vec<String>> {
    let json = config::parse(json, limits)?;
    let map = json.get("weight_map").and_then(Value::as_object).ok_or_else(|| {
        Error::corrupt("it has no \"weight_map\" that says which shard holds which weights")
    })?;
    let mut names: Vec<String> = Vec::new();
    for value in map.values() {
        let list = value.as_array().map(Vec::as_slice).unwrap_or(std::slice::from_ref(value));
        for name in list {
            let name = name.as_str().ok_or_else(|| Error::corrupt("a shard's name isn't a text"))?;
            if name.contains(['/', '\\']) {
                return Err(Error::invalid(format!("the shard {name:?} isn't beside its .weights.json")));
            }
            if !names.iter().any(|n| n == name) {
                names.push(name.to_owned());
            }
        }
    }
    Ok(names)
}

/// The objects that one or more files describe by their groups.
#[derive(Default)]
pub(crate) struct Tree {
    pub objects: Objects,
    optimizer: Vec<Variable>,
}

impl Tree {
    /// Adds what a file holds, from its root or the group of its model.
    pub fn merge(&mut self, root: &hdf5::Group) -> Result<()> {
        self.add(Objects::ROOT, root, true)?;
        if let Some(vars) = root.group(&format!("{OPTIMIZER}/{VARS}")) {
            for (name, dataset) in numbered(vars.datasets()) {
                self.optimizer.push(dataset.variable(format!("{OPTIMIZER}/{VARS}/{name}"))?);
            }
        }
        Ok(())
    }

    fn add(&mut self, parent: ObjectId, group: &hdf5::Group, is_root: bool) -> Result<()> {
        for (name, dataset) in numbered(group.datasets()) {
            if self.objects.get(parent).is_some_and(|p| p.child(name).is_none()) {
                self.objects.add(parent, name, Kind::Variable(dataset.variable(name)?));
            }
        }
        for (name, child) in numbered(group.groups()) {
            if is_root && name == OPTIMIZER {
                continue;
            }
            // What Windows wrote parts its paths otherwise.
            let mut id = parent;
            for part in name.split('\\').filter(|p| !p.is_empty()) {
                let known = self.objects.get(id).and_then(|p| p.child(part));
                id = known.unwrap_or_else(|| self.objects.add(id, part, Kind::object()));
            }
            self.add(id, child, false)?;
        }
        Ok(())
    }

    /// The training state with this compile config; nothing when there is neither.
    pub fn training(&mut self, compile: Option<Value>, dialect: Option<Dialect>) -> Option<Training> {
        let class = compile.as_ref().and_then(config::optimizer_class);
        let variables = std::mem::take(&mut self.optimizer);
        let optimizer = (!variables.is_empty()).then(|| optimizer::of_order(variables, class, dialect));
        (compile.is_some() || optimizer.is_some()).then_some(Training { compile, optimizer })
    }
}

/// Names with their numbers in numeric order: `10` after `2`, `dense_10` after `dense_2`.
fn numbered<'a, T>(items: impl Iterator<Item = (&'a str, T)>) -> Vec<(&'a str, T)> {
    let key = |name: &str| {
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (base, number) = name.split_at(name.len() - digits);
        (base.to_owned(), number.parse::<u64>().ok(), number.to_owned())
    };
    let mut items: Vec<(&str, T)> = items.collect();
    items.sort_by_cached_key(|(name, _)| key(name));
    items
}

/// Describes the weights and the optimizer's variables of an artifact in this layout.
pub(crate) fn write_tree(
    artifact: &Artifact,
    dialect: Dialect,
    options: &SaveOptions,
    writer: &mut impl Sink,
) -> Result<Report> {
    let objects = &artifact.objects;
    let mut report = Report::default();
    // Keras 2 asks for the root's group even when it is empty.
    writer.group(VARS)?;
    for holder in holders(artifact, dialect)? {
        let vars = if holder.path.is_empty() { VARS.to_owned() } else { format!("{}/{VARS}", holder.path) };
        writer.group(&vars)?;
        if dialect == Dialect::Keras3 && !holder.name.is_empty() {
            writer.attribute(&vars, "name", Attribute::Utf8(holder.name.clone()))?;
        }
        for (i, id) in holder.variables.iter().enumerate() {
            if let Some(variable) = objects.variable(*id) {
                writer.dataset(&format!("{vars}/{i}"), variable)?;
            }
        }
    }
    if let Some(architecture) = &artifact.architecture {
        vocabulary::write(&config::archive_form(&architecture.config, dialect), dialect, writer)?;
    }
    if let Some(training) = artifact.training.as_ref().filter(|_| !options.without_training)
        && let Some(state) = optimizer::for_dialect(training, dialect, &mut report)
    {
        if state.layout == OptimizerLayout::Legacy {
            report.note("the legacy optimizer's state was left behind: Keras 2 keeps it in .h5 files and checkpoints alone");
        } else {
            for (i, v) in state.variables.iter().enumerate() {
                writer.dataset(&format!("{OPTIMIZER}/{VARS}/{i}"), &v.variable)?;
            }
        }
    }
    Ok(report)
}

/// Whose variables are written under which paths.
fn holders(artifact: &Artifact, dialect: Dialect) -> Result<Vec<naming::Holder>> {
    let objects = &artifact.objects;
    if naming::layer(objects, Objects::ROOT).is_some() {
        return Ok(naming::holders(objects, dialect));
    }
    if !is_tree(artifact) {
        return Err(Error::missing(
            "these weights belong to no layers, so that they have no paths to be saved under",
        )
        .help("give the model's architecture with the weights"));
    }
    let holder = |(id, path): (ObjectId, Vec<&str>)| {
        let (_, owner) = path.split_last().filter(|(last, _)| **last == VARS)?;
        let children = objects.get(id).map(|o| o.children.as_slice()).unwrap_or_default();
        let variables = children.iter().map(|(_, id)| *id).collect();
        let name = owner.last().map(|n| (*n).to_owned()).unwrap_or_default();
        Some(naming::Holder { name, path: owner.join("/"), variables })
    };
    Ok(objects.walk().into_iter().filter_map(holder).collect())
}

/// Whether the objects lie as in a file by paths: those of a model whose class says alone what is in it.
pub(crate) fn is_tree(artifact: &Artifact) -> bool {
    let objects = &artifact.objects;
    let is_of_group = |path: &str| path.split('/').rev().nth(1) == Some(VARS);
    let variables = objects.variables();
    naming::layer(objects, Objects::ROOT).is_none()
        && !variables.is_empty()
        && variables.iter().all(|(_, path, _)| is_of_group(path))
}

/// Finds each layer's group by its path, in whichever dialect fits the file better, and takes its variables in order.
pub(crate) fn bind_tree(model: &mut Objects, read: &Objects) -> Result<Report> {
    let groups: HashMap<String, Vec<&Variable>> = groups(read);
    let missing = |holders: &[naming::Holder]| {
        holders.iter().filter(|h| !h.variables.is_empty() && find(&groups, &h.path).is_none()).count()
    };
    let choices = [Dialect::Keras3, Dialect::Keras2].map(|d| naming::holders(model, d));
    let holders = choices.into_iter().min_by_key(|h| missing(h)).unwrap_or_default();
    let mut pairs = Vec::new();
    for holder in holders.iter().filter(|h| !h.variables.is_empty()) {
        let owner = format!("layer {:?}", holder.name);
        let count = holder.variables.len();
        let Some((path, values)) = find(&groups, &holder.path) else {
            let e = Error::missing(format!(
                "it has {count} weights, but the file has no group {:?}",
                format!("{}/{VARS}", holder.path)
            ));
            let near = nearest(&holder.path, groups.keys().map(String::as_str));
            let help = near.unwrap_or_else(|| "the file was saved from another architecture".to_owned());
            return Err(e.at(owner).help(help));
        };
        if values.len() != count {
            return Err(Error::mismatch(format!(
                "it has {count} weights, but the group {:?} holds {}",
                format!("{path}/{VARS}"),
                values.len()
            ))
            .at(owner)
            .help("the file was saved from another architecture, or before the layer was built"));
        }
        for (i, (id, value)) in holder.variables.iter().zip(values).enumerate() {
            let path = format!("{path}/{VARS}/{i}");
            pairs.push(Pair { weight: *id, owner: owner.clone(), value, path });
        }
    }
    assign(model, pairs)?;
    Ok(Report::default())
}

/// The variables of every group that has some, by the path of its owner.
fn groups(read: &Objects) -> HashMap<String, Vec<&Variable>> {
    let mut groups = HashMap::new();
    for (id, path) in read.walk() {
        let Some((&VARS, owner)) = path.split_last() else { continue };
        let children = read.get(id).map(|o| o.children.as_slice()).unwrap_or_default();
        let values: Vec<&Variable> = children.iter().filter_map(|(_, child)| read.variable(*child)).collect();
        if !values.is_empty() {
            groups.insert(owner.join("/"), values);
        }
    }
    groups
}

fn find<'a>(
    groups: &'a HashMap<String, Vec<&'a Variable>>,
    path: &str,
) -> Option<(String, &'a [&'a Variable])> {
    let old: Vec<&str> = path.split('/').map(|part| if part == LAYERS { OLD_LAYERS } else { part }).collect();
    // Attributes that Keras 3 made public: both spellings occur, whatever else the file does.
    let private = path.rsplit_once('/').map(|(owner, name)| format!("{owner}/_{name}"));
    // A space of features has its layers under another name.
    let feature = path.strip_prefix(LAYERS).map(|rest| format!("{PREPROCESSORS}{rest}"));
    [Some(path.to_owned()), Some(old.join("/")), private, feature]
        .into_iter()
        .flatten()
        .find_map(|path| groups.get(&path).map(|values| (path, values.as_slice())))
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Memory;
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    #[test]
    fn weights_go_into_files_of_a_size() {
        let (read, model) = testing::bound(&WeightsH5, "tf221", "mlp/model.weights.h5");
        let folder = tempfile::tempdir().unwrap();
        let mut options = testing::options(Dialect::Keras3);
        let path = folder.path().join("m.weights.json");
        let largest =
            model.objects.variables().iter().map(|(.., v)| v.shape.iter().product::<usize>() * 4).max();
        options.max_shard_size = largest.map(|l| l as u64);
        let target = Target::new(&path).unwrap();
        WeightsH5.write(&model, &target, &options).unwrap();
        target.commit().unwrap();
        assert!(folder.path().join("m_00001.weights.h5").exists());
        let again = WeightsH5.read(&Place::of_path(&path), &Limits::default()).unwrap();
        assert!(!testing::same(&read, &again).is_empty());
        options.max_shard_size = Some(1);
        let refused = WeightsH5.write(&model, &Target::new(&path).unwrap(), &options).unwrap_err();
        assert_eq!(refused.kind(), modelark_artifact::ErrorKind::Limit);
    }

    #[test]
    fn weights_of_keras_come_back_as_they_were() {
        for (environment, dialect) in [("tf215", Dialect::Keras2), ("tf221", Dialect::Keras3)] {
            let (mut read, model) = testing::bound(&WeightsH5, environment, "mlp/model.weights.h5");
            let options = testing::options(dialect);
            let again = testing::again(&WeightsH5, &model, "m.weights.h5", &options);
            // What Keras 2 measured isn't part of a model.
            if let Some(root) = read.objects.get_mut(Objects::ROOT) {
                root.children.retain(|(name, _)| name != "metrics");
            }
            let paths = testing::same(&read, &again);
            assert!(paths.contains(&"layers/dense_1/vars/0".to_owned()), "{paths:?}");
        }
    }

    #[test]
    fn what_nobody_has_taken_apart_into_layers_is_written_as_it_lies() {
        let path = testing::fixture("tf221", "mlp/model.weights.h5");
        let mut read = WeightsH5.read(&Place::of_path(&path), &Limits::default()).unwrap();
        assert!(WeightsH5.keeps(&read));
        let again = testing::again(&WeightsH5, &read, "m.weights.h5", &testing::options(Dialect::Keras3));
        assert!(testing::same(&read, &again).contains(&"layers/dense_1/vars/0".to_owned()));
        let scalar = Variable::new("own", modelark_artifact::tensor::Tensor::scalar(1f32));
        read.objects.add(Objects::ROOT, "own", Kind::Variable(scalar));
        assert!(!WeightsH5.keeps(&read));
    }

    #[test]
    fn an_optimizer_changes_its_layout_with_the_dialect() {
        let (_, mut model) = testing::bound(&WeightsH5, "tf215", "mlp/model.weights.h5");
        let compile =
            serde_json::json!({"optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.125}}});
        model.training.iter_mut().for_each(|t| t.compile = Some(compile.clone()));
        let options = testing::options(Dialect::Keras3);
        let again = testing::again(&WeightsH5, &model, "m.weights.h5", &options);
        let state = again.training.and_then(|t| t.optimizer).expect("optimizer");
        assert_eq!(state.variables.len(), 10);
        let rate = state.variables.get(1).expect("rate").variable.load().expect("loads");
        assert_eq!(rate.item::<f32>().expect("f32"), 0.125);
    }

    #[test]
    fn slots_follow_from_the_order() {
        let (_, mut model) = testing::bound(&WeightsH5, "tf221", "mlp/model.weights.h5");
        let training = model.training.as_mut().expect("training");
        training.compile = Some(serde_json::json!({"optimizer": "adam"}));
        crate::infer_slots(training, &model.objects);
        let state = training.optimizer.as_ref().expect("optimizer");
        let slots: Vec<&str> =
            state.variables.iter().filter_map(|v| Some(v.slot.as_ref()?.name.as_str())).collect();
        assert_eq!(slots, ["momentum", "velocity"].repeat(4));
    }

    #[test]
    fn a_missing_group_is_named() {
        let (read, _) = testing::bound(&WeightsH5, "tf221", "mlp/model.weights.h5");
        let mut other = testing::mlp(3);
        let list = other.find("layers").expect("layers");
        let extra = other.find("layers/0").expect("layer");
        let copy = other.get(extra).expect("layer").clone();
        let id = other.add(list, "3", copy.kind);
        other.link(id, "kernel", other.find("layers/2/kernel").expect("kernel"));
        let error = WeightsH5.bind(&mut other, &read).expect_err("a layer more").to_string();
        assert!(error.contains("layers/dense_2/vars") && error.contains("layers/dense_1"), "{error}");
    }

    #[test]
    fn shards_are_read_by_their_list() {
        let bytes = std::fs::read(testing::fixture("tf221", "mlp/model.weights.h5")).expect("reads");
        let list = r#"{"metadata": {"total_size": 1}, "weight_map": {"/layers/dense/vars": ["m_00000.weights.h5"], "/vars": "m_00000.weights.h5"}}"#;
        let mut files = Memory::new();
        files.insert("m.weights.json", list.as_bytes());
        let place = Place::in_memory(files.clone(), "m.weights.json");
        assert!(WeightsH5.detect(&place));
        let error = WeightsH5.read(&place, &Limits::default()).expect_err("no shard").to_string();
        assert!(error.contains("m_00000.weights.h5") && error.contains("m.weights.json"), "{error}");
        files.insert("m_00000.weights.h5", bytes);
        let read =
            WeightsH5.read(&Place::in_memory(files, "m.weights.json"), &Limits::default()).expect("reads");
        assert!(read.objects.find("layers/dense/vars/0").is_some());
        assert!(shards(br#"{"weight_map": {"/vars": "../x"}}"#, &Limits::default()).is_err());
    }

    #[test]
    fn numbers_are_in_numeric_order() {
        let names = ["10", "9", "2", "dense_10", "dense", "dense_9"].map(|n| (n, ()));
        let sorted: Vec<&str> = numbered(names.into_iter()).into_iter().map(|(n, ())| n).collect();
        assert_eq!(sorted, ["2", "9", "10", "dense", "dense_9", "dense_10"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn damaged_files_never_panic(
            bytes in testing::damaged(std::fs::read(testing::fixture("tf221", "mlp/model.weights.h5")).expect("reads")),
        ) {
            let _ = testing::read_all(&WeightsH5, "m.weights.h5", bytes);
        }
    }
}
