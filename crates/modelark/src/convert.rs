//! From any format to any other: read, derive what the target needs, write.

use std::path::{Path, PathBuf};

use modelark_artifact::{
    Artifact, Dialect, Error, ErrorKind, Format, Kind, ObjectId, Objects, Place, Report, Result, SaveOptions,
    Target, Training, Value, Variable,
};
use modelark_nn as nn;

use crate::model::{Load, Save, has_values};
use crate::{Open, formats};

/// How to convert: what [`Load`] and [`Save`] take.
///
/// ```
/// # use modelark::nn::{Sequential, layers::{Dense, InputLayer}};
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// # let layers = Sequential::new("m").add(InputLayer::new([4])).add(Dense::new(2)).build()?;
/// # modelark::Model::from_layers(layers)?.save(folder.join("model.keras"))?;
/// use modelark::{Convert, Dialect, Save};
///
/// let save = Save::new().dialect(Dialect::Keras2);
/// let report = Convert::new().save(save).run(folder.join("model.keras"), folder.join("model.h5"))?;
/// for note in &report.notes {
///     println!("{note}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Convert {
    open: Open,
    load: Load,
    save: Save,
    weights: Option<PathBuf>,
}

impl Convert {
    /// Formats found by content and by name, the source's dialect.
    pub fn new() -> Self {
        Convert::default()
    }

    /// How to read the source.
    pub fn open(mut self, open: Open) -> Self {
        self.load = self.load.open(open.clone());
        self.open = open;
        self
    }

    /// Custom layers that the source may have.
    pub fn registry(mut self, registry: crate::Registry) -> Self {
        self.load = self.load.registry(registry);
        self
    }

    /// Takes the weights from this file.
    pub fn weights(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.load = self.load.weights(path.clone());
        self.weights = Some(path);
        self
    }

    /// How weights go to the layers: what [`Load::by_name`] says.
    pub fn by_name(mut self, skip_mismatch: bool) -> Self {
        self.load = self.load.by_name(skip_mismatch);
        self
    }

    /// Draws weights that no file gives from this seed: what [`Load::initialize`] says.
    pub fn initialize(mut self, seed: u64) -> Self {
        self.load = self.load.initialize(seed);
        self
    }

    /// How to write the target.
    pub fn save(mut self, save: Save) -> Self {
        self.save = save;
        self
    }

    /// Converts the model at `from` into `to`, one variable in memory at a time.
    ///
    /// # Errors
    /// When the source can't be read, the target's format needs what the source lacks and can't be derived, or
    /// writing fails; then what was at `to` stays.
    pub fn run(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Report> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let place = Place::of_path(from);
        let (artifact, source) = self.open.place(&place)?;
        let target = match &self.save.format {
            Some(name) => formats::format(name)?,
            None => formats::format_for_path(to)?,
        };
        let mut report = Report::default();
        // A .json may lead to other files.
        let is_one_file = !place.is_folder() && !place.name.ends_with(".json");
        if self.is_unchanged(&artifact, source, target) && lacks(&artifact, target).is_some() && is_one_file {
            // A file of layers that was not taken apart into them is best kept as it is, to the last unknown key.
            let copy = Target::new(to)?;
            // The system copies from file to file faster than through this process's memory.
            std::fs::copy(from, copy.stage(&copy.name())?).map_err(|e| Error::from(e).in_file(from))?;
            copy.commit()?;
            return Ok(report);
        }
        let artifact =
            self.derive(artifact, source, target, &mut report).map_err(|e| e.in_file(place.label()))?;
        report.extend(write(&artifact, target, to, &self.save.options)?);
        Ok(report)
    }

    /// Whether nothing is asked for but the same again.
    fn is_unchanged(&self, artifact: &Artifact, source: &dyn Format, target: &dyn Format) -> bool {
        let dialect = artifact.architecture.as_ref().map(|a| a.dialect);
        let options = &self.save.options;
        let other_dialect = dialect.is_some() && options.dialect.is_some_and(|d| Some(d) != dialect);
        let plain = !options.without_training && !options.compress && options.entry.is_none();
        source.name() == target.name() && self.weights.is_none() && !other_dialect && plain
    }

    /// Whether `target` can write the artifact as it is: its architecture, too, in the dialect that it has.
    fn can_keep(&self, artifact: &Artifact, target: &dyn Format) -> bool {
        let own = artifact.architecture.as_ref().map(|a| a.dialect);
        let asked = self.save.options.dialect.filter(|_| target.needs().architecture);
        lacks(artifact, target).is_none() && asked.is_none_or(|asked| own == Some(asked))
    }

    /// The artifact with the weights that are given beside it, if any are.
    fn beside(&self, artifact: Artifact) -> Result<Artifact> {
        let Some(path) = &self.weights else { return Ok(artifact) };
        let (weights, _) = self.open.clone().any_format().place(&Place::of_path(path))?;
        let Artifact { architecture, source, training, .. } = artifact;
        let compile = training.and_then(|t| t.compile);
        let optimizer = weights.training.and_then(|t| t.optimizer);
        let training = (compile.is_some() || optimizer.is_some()).then_some(Training { compile, optimizer });
        Ok(Artifact { architecture, source, training, objects: weights.objects, ..Artifact::default() })
    }

    /// What `target` writes from: the artifact as it is, or rebuilt through its layers.
    fn derive(
        &self,
        artifact: Artifact,
        source: &'static dyn Format,
        target: &'static dyn Format,
        report: &mut Report,
    ) -> Result<Artifact> {
        if self.is_unchanged(&artifact, source, target) && lacks(&artifact, target).is_none() {
            return Ok(artifact);
        }
        if artifact.architecture.is_none() {
            if self.weights.is_some() {
                return Err(Error::invalid("there is no architecture here that weights could go into"));
            }
            return lacks(&artifact, target).map_or(Ok(artifact), Err);
        }
        let kept = artifact.clone();
        let alone = target.needs().architecture_alone && self.weights.is_none() && !has_values(&artifact);
        let layers =
            if alone { self.load.bare(artifact, source) } else { self.load.layers(artifact, source) };
        match layers {
            Ok(layers) => assemble(kept, Some(&layers), target, &self.save.options, report),
            // Tensors can be moved without knowing what the layers do.
            Err(e) if e.kind() == ErrorKind::UnknownClass && !target.needs().functions => {
                match self.load.stand_ins(kept.clone(), source) {
                    Ok(layers) => assemble(kept, Some(&layers), target, &self.save.options, report),
                    Err(_) => match self.beside(kept)? {
                        kept if self.can_keep(&kept, target) => {
                            report.note(format!("kept the source's names for the weights, since {e}"));
                            Ok(kept)
                        }
                        _ => Err(e),
                    },
                }
            }
            // Functions run without the classes that they come from.
            Err(e)
                if matches!(e.kind(), ErrorKind::UnknownClass | ErrorKind::Unsupported)
                    && target.needs().functions
                    && self.weights.is_none()
                    && lacks(&kept, target).is_none() =>
            {
                report.note(format!("kept the functions as they were saved, since {e}"));
                Ok(kept)
            }
            Err(e) => Err(e),
        }
    }
}

/// Converts the model at `from` into `to`, formats found by content and by name.
///
/// ```
/// # use modelark::nn::{Sequential, layers::{Dense, InputLayer}};
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// # let layers = Sequential::new("m").add(InputLayer::new([4])).add(Dense::new(2)).build()?;
/// # modelark::Model::from_layers(layers)?.save(folder.join("model.keras"))?;
/// modelark::convert(folder.join("model.keras"), folder.join("saved_model"))?;
/// assert!(folder.join("saved_model/saved_model.pb").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`Convert::run`].
pub fn convert(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Report> {
    Convert::new().run(from, to)
}

/// What `artifact` lacks for `format`, as an error that says so.
fn lacks(artifact: &Artifact, format: &dyn Format) -> Option<Error> {
    let needs = format.needs();
    let missing = |what: &str| {
        Error::unsupported(format!("{} needs {what}, which the source doesn't have", format.description()))
            .help("convert to a checkpoint, .npz or .safetensors, or give the architecture")
    };
    let is_layers = matches!(artifact.objects.get(Objects::ROOT).map(|o| &o.kind), Some(Kind::Layer(_)));
    if needs.architecture && artifact.architecture.is_none() {
        return Some(missing("an architecture"));
    }
    if needs.layers && !is_layers && !format.keeps(artifact) {
        return Some(missing("the layers that its weights belong to"));
    }
    (needs.functions && artifact.functions.is_none()).then(|| missing("functions"))
}

/// What is written: the artifact as read, or what its layers give in the dialect asked for.
pub(crate) fn assemble(
    artifact: Artifact,
    layers: Option<&nn::Model>,
    format: &'static dyn Format,
    options: &SaveOptions,
    report: &mut Report,
) -> Result<Artifact> {
    let Some(layers) = layers else {
        return match lacks(&artifact, format) {
            Some(lack) => Err(lack),
            None => Ok(artifact),
        };
    };
    if format.needs().functions {
        // A model that doesn't know its inputs has none.
        layers.inputs()?;
    }
    let dialect = options.dialect.unwrap_or_else(|| layers.dialect());
    let needs = format.needs();
    let current = current(layers, &artifact.objects)?;
    let layers = current.as_ref().unwrap_or(layers);
    let renamed = layers.renamed(dialect);
    let layers = renamed.as_ref().unwrap_or(layers);
    let respelled = layers.respelled(dialect, needs.modules)?;
    let layers = respelled.as_ref().unwrap_or(layers);
    let (mut made, changes) =
        if needs.functions { layers.to_artifact(dialect)? } else { layers.described(dialect)? };
    report.extend(changes);
    if needs.words && dialect != Dialect::Keras3 {
        layers.add_weights_of_words(&mut made.objects)?;
    }
    if artifact.functions.is_none() && needs.functions {
        report.note("traced functions from the layers");
    }
    if artifact.functions.is_some() && !needs.functions {
        report.note(format!("left the functions behind: {} can't hold them", format.description()));
    }
    made.source = artifact.source;
    made.assets = artifact.assets;
    Ok(made)
}

/// The layers with the values that their variables have by now, if any has another: a model that runs may have changed
/// them. Both trees are the layers' own, in one order.
fn current(layers: &nn::Model, objects: &Objects) -> Result<Option<nn::Model>> {
    let now = |id: ObjectId, variable: &Variable| match objects.variable(id) {
        Some(now)
            if now.name == variable.name && now.dtype == variable.dtype && now.shape == variable.shape =>
        {
            matches!(now.value, Value::Tensor(_)).then(|| now.value.clone())
        }
        _ => None,
    };
    let variables = layers.objects().iter().filter_map(|(id, _)| Some((id, layers.objects().variable(id)?)));
    let changed: Vec<_> = variables.filter_map(|(id, variable)| Some((id, now(id, variable)?))).collect();
    if changed.is_empty() {
        return Ok(None);
    }
    let mut own = layers.objects().clone();
    for (id, value) in changed {
        if let Some(variable) = own.variable_mut(id) {
            variable.value = value;
        }
    }
    let mut layers = layers.clone();
    layers.set_objects(own)?;
    Ok(Some(layers))
}

/// Writes an artifact whole or not at all.
pub(crate) fn write(
    artifact: &Artifact,
    format: &dyn Format,
    path: &Path,
    options: &SaveOptions,
) -> Result<Report> {
    if options.entry.is_some() && !format.needs().entry {
        return Err(Error::invalid(format!(
            "{} keeps every function, so that none can be chosen",
            format.description()
        ))
        .help("choose one for a frozen graph, such as graph.pb"));
    }
    let target = Target::new(path)?;
    let report = format.write(artifact, &target, options).map_err(|e| e.in_file(path))?;
    target.commit()?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use modelark_nn::Sequential;
    use modelark_nn::layers::{Dense, InputLayer};

    use super::*;
    use crate::Model;

    #[test]
    fn an_architecture_without_weights_goes_to_an_architecture() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let layers = Sequential::new("m").add(InputLayer::new([4])).add(Dense::new(2)).build()?;
        Model::from_layers(layers)?.save(at("m.keras"))?;
        convert(at("m.keras"), at("m.yaml"))?;
        for target in ["alone.json", "again.yaml"] {
            Convert::new().save(Save::new().dialect(Dialect::Keras2)).run(at("m.yaml"), at(target))?;
            let read = crate::open(at(target))?;
            assert_eq!(read.architecture.map(|a| a.dialect), Some(Dialect::Keras2), "{target}");
            assert!(!at("alone.npy").exists());
        }
        let error = convert(at("m.yaml"), at("m.h5")).expect_err("there are no weights");
        assert!(error.to_string().contains("name a file of weights"), "{error}");
        Ok(())
    }

    #[test]
    #[cfg(feature = "savedmodel")]
    fn functions_are_kept_where_a_class_is_unknown() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let layers = Sequential::new("m").add(InputLayer::new([4])).add(Dense::new(2)).build()?;
        Model::from_layers(layers)?.save(at("m.keras"))?;
        let save = Save::new().dialect(Dialect::Keras2);
        Convert::new().save(save).run(at("m.keras"), at("model"))?;
        let metadata = at("model/keras_metadata.pb");
        let mut bytes = std::fs::read(&metadata)?;
        for i in 0..bytes.len().saturating_sub(5) {
            if bytes[i..].starts_with(b"Dense") {
                bytes[i..i + 5].copy_from_slice(b"Dents");
            }
        }
        std::fs::write(&metadata, bytes)?;
        let report = convert(at("model"), at("graph.pb"))?;
        assert!(report.notes.iter().any(|n| n.contains("Dents")), "{:?}", report.notes);
        assert_eq!(crate::load(at("graph.pb"))?.default_endpoint()?.inputs.len(), 1);
        Ok(())
    }
}
