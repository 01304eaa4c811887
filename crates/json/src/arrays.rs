//! The formats of weights alone: `.npy`, `.npz`, a pickle, `.safetensors`.

use std::io::Write;

use modelark_artifact::tensor::SharedBytes;
use modelark_artifact::{
    Artifact, Dialect, Error, Format, Kind, Limits, Needs, Objects, Place, Report, Result, Salvage,
    SaveOptions, Target, Variable,
};

use crate::array::Items;
use crate::npy::{self, Header};
use crate::order;
use crate::pickle::{self, Item};
use crate::weights::{Weights, bind};
use crate::{npz, safetensors};

/// Weights in a file of arrays, with no architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrays {
    /// `.npy`: an array of objects, each the list of a layer's weights, as `np.save` writes it.
    Npy,
    /// `.npz`: arrays by name.
    Npz,
    /// `.pkl`: the pickled list that `get_weights()` returns.
    Pickle,
    /// `.safetensors`: tensors by name.
    SafeTensors,
}

impl Arrays {
    /// Every such format.
    pub const ALL: [Arrays; 4] = [Arrays::Npy, Arrays::Npz, Arrays::Pickle, Arrays::SafeTensors];

    /// The extensions of its files, the usual one first.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Arrays::Npy => &["npy"],
            Arrays::Npz => &["npz"],
            Arrays::Pickle => &["pkl", "pickle", "p"],
            Arrays::SafeTensors => &["safetensors"],
        }
    }

    /// Reads the arrays of a file.
    ///
    /// # Errors
    /// When the bytes aren't of this format, are damaged, or ask for more than the limits allow.
    pub fn read_bytes(self, bytes: &SharedBytes, limits: &Limits) -> Result<Weights> {
        match self {
            Arrays::Npy => Weights::of_content(npy::read(bytes, limits)?),
            Arrays::Npz => {
                let named = npz::read(bytes, limits)?.into_iter().map(|(name, content)| {
                    let weights =
                        Weights::of_content(content).map_err(|e| e.at(format!("array {name:?}")))?;
                    Ok((name, weights))
                });
                named.collect::<Result<_>>().map(Weights::Named)
            }
            Arrays::Pickle => Weights::of_pickle(pickle::read(bytes, limits)?),
            Arrays::SafeTensors => safetensors::read(bytes, limits).map(Weights::named),
        }
    }

    /// Writes a model's weights as the file `name` of the target.
    ///
    /// # Errors
    /// When a weight has no value or no place in the format, or writing fails.
    pub fn write_file(
        self,
        artifact: &Artifact,
        target: &Target,
        name: &str,
        options: &SaveOptions,
    ) -> Result<Report> {
        let dialect =
            options.dialect.or(artifact.architecture.as_ref().map(|a| a.dialect)).unwrap_or(Dialect::Keras3);
        let mut report = Report::default();
        let mut out = target.create(name)?;
        match self {
            Arrays::Npy | Arrays::Pickle => {
                let weights = listed(&artifact.objects, dialect)?;
                let item = item(&weights);
                match (self, item) {
                    (Arrays::Npy, Item::List(items)) => {
                        out.write_all(&Header::write(&Items::Object, &[items.len()])?)?;
                        pickle::write_object_array(&items, &mut out)?;
                    }
                    (Arrays::Npy, Item::Array(array)) => npy::write(&array.load()?, &mut out)?,
                    _ => {
                        let flat = weights.flatten().into_iter().map(Item::Array).collect();
                        pickle::write(&Item::List(flat), &mut out)?;
                    }
                }
                out.flush()?;
            }
            Arrays::Npz => {
                let mut archive = npz::Writer::new(out, options.compress);
                for (name, variable) in named(&artifact.objects, dialect) {
                    archive.add(&name, &variable.load()?)?;
                }
                archive.finish()?.flush()?;
            }
            Arrays::SafeTensors => {
                safetensors::write(&named(&artifact.objects, dialect), &mut out)?;
                out.flush()?;
            }
        }
        if artifact.training.as_ref().is_some_and(|t| t.optimizer.is_some()) {
            report.note("the optimizer's state was left behind");
        }
        Ok(report)
    }
}

/// Whether objects are those of an architecture.
fn is_layered(objects: &Objects) -> bool {
    matches!(objects.get(Objects::ROOT).map(|o| &o.kind), Some(Kind::Layer(_)))
}

/// A list of weights for each layer in the order of `model.layers`, or the lists that were read.
fn listed(objects: &Objects, dialect: Dialect) -> Result<Weights> {
    if !is_layered(objects) {
        let weights = Weights::of_objects(objects);
        return match weights {
            Weights::Named(_) => {
                Err(Error::unsupported("these variables have names, but no order of layers")
                    .help("write them by name, as .npz or .safetensors"))
            }
            lists => Ok(lists),
        };
    }
    let array = |id| objects.variable(id).cloned().map(Weights::Array);
    let list = |l: order::LayerWeights| Weights::List(l.weights.into_iter().filter_map(array).collect());
    Ok(Weights::List(order::layers(objects, dialect).into_iter().map(list).collect()))
}

/// Every variable with the name that it has in a file by names, in the order of `get_weights()`.
fn named(objects: &Objects, dialect: Dialect) -> Vec<(String, &Variable)> {
    if is_layered(objects) {
        let names = order::names(objects, dialect).into_iter();
        return names.filter_map(|(id, name)| Some((name, objects.variable(id)?))).collect();
    }
    let variables = objects.variables();
    if matches!(objects.get(Objects::ROOT).map(|o| &o.kind), Some(Kind::List)) {
        return variables.into_iter().enumerate().map(|(i, (.., v))| (format!("arr_{i}"), v)).collect();
    }
    variables.into_iter().map(|(_, path, v)| (path, v)).collect()
}

fn item(weights: &Weights) -> Item<'_> {
    match weights {
        Weights::Array(variable) => Item::Array(variable),
        Weights::List(items) => Item::List(items.iter().map(item).collect()),
        Weights::Named(items) => Item::List(items.iter().map(|(_, w)| item(w)).collect()),
    }
}

impl Format for Arrays {
    fn name(&self) -> &'static str {
        match self {
            Arrays::Npy => "npy",
            Arrays::Npz => "npz",
            Arrays::Pickle => "pickle",
            Arrays::SafeTensors => "safetensors",
        }
    }

    fn description(&self) -> &'static str {
        match self {
            Arrays::Npy => "weights as a NumPy array of lists, one for each layer",
            Arrays::Npz => "weights as an archive of NumPy arrays by name",
            Arrays::Pickle => "weights as a pickled list of NumPy arrays (read as data, never executed)",
            Arrays::SafeTensors => "weights as safetensors by name",
        }
    }

    fn claims(&self, file_name: &str) -> bool {
        file_name.rsplit_once('.').is_some_and(|(_, extension)| {
            self.extensions().iter().any(|known| extension.eq_ignore_ascii_case(known))
        })
    }

    fn detect(&self, place: &Place) -> bool {
        if place.is_folder() {
            return false;
        }
        let Ok(bytes) = place.open() else { return false };
        match self {
            Arrays::Npy => bytes.starts_with(npy::MAGIC) || (bytes.is_empty() && self.claims(&place.name)),
            Arrays::Npz => npz::detect(&bytes),
            // A pickle's start tells little, so it ends with its last opcode and its name says what it is.
            Arrays::Pickle => {
                let protocol = matches!(bytes.get(..2), Some([0x80, 2..=5]));
                bytes.ends_with(b".") && (protocol || self.claims(&place.name))
            }
            Arrays::SafeTensors => safetensors::detect(&bytes, &Limits::default()),
        }
    }

    fn read(&self, place: &Place, limits: &Limits) -> Result<Artifact> {
        let bytes = place.open()?;
        let weights = self.read_bytes(&bytes, limits).map_err(|e| e.in_file(place.label()))?;
        Ok(Artifact { objects: weights.into_objects(), ..Artifact::default() })
    }

    fn salvage(&self, place: &Place, limits: &Limits) -> Result<Salvage> {
        let read = || {
            if !matches!(self, Arrays::Npz) {
                return self.read(place, limits).map(|artifact| Salvage::whole(&artifact.objects));
            }
            let (contents, damage) = npz::salvage(&place.open()?, limits);
            let mut salvage = Salvage { damage, ..Salvage::default() };
            for (name, content) in contents {
                let objects = Weights::Named(vec![(name, Weights::of_content(content)?)]).into_objects();
                salvage.variables.extend(Salvage::whole(&objects).variables);
            }
            Ok(salvage)
        };
        read().map_err(|e: Error| e.in_file(place.label()))
    }

    fn needs(&self) -> Needs {
        let words = !matches!(self, Arrays::SafeTensors);
        Needs { layers: matches!(self, Arrays::Npy | Arrays::Pickle), words, ..Needs::default() }
    }

    fn write(&self, artifact: &Artifact, target: &Target, options: &SaveOptions) -> Result<Report> {
        if matches!(self, Arrays::Pickle) && artifact.architecture.is_some() {
            return Err(Error::unsupported("models aren't saved as pickles: whoever opens one runs what is in it")
                .help("save the model as .keras, .h5 or a SavedModel's folder, its weights as .npz, .npy or .safetensors"));
        }
        let mut report = self.write_file(artifact, target, &target.name(), options)?;
        if artifact.architecture.is_some() {
            report.note("the architecture was left behind; write .json to keep it");
        }
        Ok(report)
    }

    fn bind(&self, model: &mut Objects, read: &Artifact) -> Result<Report> {
        bind(model, read)
    }
}
