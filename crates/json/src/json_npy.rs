//! An architecture as JSON, with weights in a file beside it.

use modelark_artifact::{
    Architecture, Artifact, Error, Format, Limits, Needs, Objects, Place, Report, Result, SaveOptions,
    Target, Training,
};
use serde_json::Value;

use crate::architecture;
use crate::arrays::Arrays;
use crate::weights::bind;

/// The key under which Keras 3 puts the compile config into the model's node.
const COMPILE: &str = "compile_config";

/// `model.json`, and `model.npy` or `model.npz` beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json {
    /// What the weights are written as; without, the architecture is written alone.
    pub weights: Option<Arrays>,
}

impl Json {
    /// The variants by name: weights as `.npy`, as `.npz`, and none.
    pub const ALL: [Json; 3] =
        [Json { weights: Some(Arrays::Npy) }, Json { weights: Some(Arrays::Npz) }, Json { weights: None }];
}

/// The file of weights that goes with `model.json`: `model.npy`, `model_weights.npy`, `weights.npy` and so on.
fn beside(json: &Place) -> Option<(Arrays, Place)> {
    let file = json.name.rsplit('/').next().unwrap_or_default();
    let stem = file.strip_suffix(".json").unwrap_or(file);
    let base = stem.strip_suffix("_architecture").or_else(|| stem.strip_suffix("_config"));
    let mut stems = vec![stem.to_owned(), format!("{stem}_weights"), format!("{stem}.weights")];
    stems.extend(base.iter().flat_map(|b| [(*b).to_owned(), format!("{b}_weights")]));
    let kinds = [Arrays::Npy, Arrays::Npz, Arrays::SafeTensors];
    let candidates = stems.iter().flat_map(|stem| kinds.map(|kind| (kind, stem.as_str())));
    // An archive that is merely called `weights` may hold anything; a list of lists is what `np.save` made of weights.
    let candidates = candidates.chain([(Arrays::Npy, "weights")]).map(|(kind, stem)| {
        let extension = kind.extensions().first().copied().unwrap_or_default();
        (kind, json.sibling(&format!("{stem}.{extension}")))
    });
    candidates.into_iter().find(|(_, place)| place.files.exists(&place.name))
}

/// The only architecture among the files of a folder, if there are weights beside it.
fn in_folder(folder: &Place) -> Option<Place> {
    let names = folder.files.list(&folder.name).ok()?;
    let mut found = names
        .iter()
        .filter(|name| name.ends_with(".json"))
        .map(|name| folder.child(name))
        .filter(|place| is_architecture(place) && beside(place).is_some());
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn is_architecture(place: &Place) -> bool {
    place.open().is_ok_and(|bytes| architecture::detect(&bytes, &Limits::default()))
}

impl Format for Json {
    fn name(&self) -> &'static str {
        match self.weights {
            Some(Arrays::Npy) => "json_npy",
            Some(_) => "json_npz",
            None => "json",
        }
    }

    fn description(&self) -> &'static str {
        match self.weights {
            Some(Arrays::Npy) => "architecture as .json, weights as .npy beside it",
            Some(_) => "architecture as .json, weights as .npz beside it",
            None => "architecture as .json, no weights",
        }
    }

    fn claims(&self, file_name: &str) -> bool {
        // Keras 3's list of sharded weights is a .weights.json.
        self.weights == Some(Arrays::Npy)
            && file_name.ends_with(".json")
            && !file_name.ends_with(".weights.json")
    }

    fn detect(&self, place: &Place) -> bool {
        self.weights == Some(Arrays::Npy)
            && if place.is_folder() { in_folder(place).is_some() } else { is_architecture(place) }
    }

    fn read(&self, place: &Place, limits: &Limits) -> Result<Artifact> {
        let place = if place.is_folder() {
            let missing = || {
                Error::missing("the folder has no single .json with weights beside it").in_file(place.label())
            };
            in_folder(place).ok_or_else(missing)?
        } else {
            place.clone()
        };
        let mut architecture =
            architecture::read(&place.open()?, limits).map_err(|e| e.in_file(place.label()))?;
        let training = compile_config(&mut architecture)
            .map(|compile| Training { compile: Some(compile), optimizer: None });
        let mut artifact = Artifact { training, ..Artifact::default() };
        if let Some(version) = &architecture.keras_version {
            artifact.source.writers.push(("keras".to_owned(), version.clone()));
        }
        artifact.architecture = Some(architecture);
        if let (Some((kind, weights)), Some(_)) = (beside(&place), self.weights) {
            let bytes = weights.open()?;
            let read = kind.read_bytes(&bytes, limits).map_err(|e| e.in_file(weights.label()))?;
            artifact.objects = read.into_objects();
        }
        Ok(artifact)
    }

    fn needs(&self) -> Needs {
        Needs {
            architecture: true,
            architecture_alone: true,
            layers: self.weights.is_some(),
            words: self.weights.is_some(),
            ..Needs::default()
        }
    }

    fn write(&self, artifact: &Artifact, target: &Target, options: &SaveOptions) -> Result<Report> {
        let mut architecture = artifact.architecture.clone().ok_or_else(|| {
            Error::missing("there is no architecture to write as JSON").in_file(target.path())
        })?;
        let compile = artifact.training.as_ref().and_then(|t| t.compile.as_ref());
        let mut report = Report::default();
        if let Some(compile) = compile.filter(|_| !options.without_training) {
            if architecture.dialect == modelark_artifact::Dialect::Keras3
                && compile.get("optimizer").is_some()
            {
                if let Value::Object(node) = &mut architecture.config {
                    node.insert(COMPILE.to_owned(), compile.clone());
                }
            } else {
                report.note("the compile config was left behind: to_json has no place for it");
            }
        }
        let name = target.name();
        target.write(&name, architecture::write(&architecture).as_bytes())?;
        let valued = artifact
            .objects
            .weights()
            .iter()
            .any(|(_, _, v)| !matches!(v.value, modelark_artifact::Value::None));
        match self.weights {
            Some(kind) if valued => {
                let stem = name.strip_suffix(".json").unwrap_or(&name);
                let weights = format!("{stem}.{}", kind.extensions().first().copied().unwrap_or_default());
                report.extend(kind.write_file(artifact, target, &weights, options)?);
                report.note(format!("the weights are in {weights}"));
            }
            Some(_) => report.note("there are no weights to write"),
            None if valued => report.note("the weights were left behind"),
            None => {}
        }
        Ok(report)
    }

    fn bind(&self, model: &mut Objects, read: &Artifact) -> Result<Report> {
        if read.objects.variables().is_empty() {
            return Err(Error::missing("there are no weights beside the architecture")
                .help(
                    "name a file of weights, put them beside it as .npy or .npz of the same name, or have them drawn from a seed",
                ));
        }
        bind(model, read)
    }
}

/// Takes the compile config out of a node of Keras 3.
fn compile_config(architecture: &mut Architecture) -> Option<Value> {
    let Value::Object(node) = &mut architecture.config else { return None };
    let compile = node.shift_remove(COMPILE)?;
    compile.as_object().is_some_and(|c| !c.is_empty()).then_some(compile)
}
