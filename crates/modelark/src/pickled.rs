//! Pickled Keras models: a pickle that Keras makes of a model holds the bytes of a `.keras` archive.

use std::collections::BTreeMap;

use modelark_artifact::tensor::SharedBytes;
use modelark_artifact::{
    Architecture, Artifact, Error, Format, Held, Limits, Memory, Needs, Objects, Place, Report, Result,
    Salvage, SaveOptions, Target,
};
use modelark_json::pickle::{Constant, constants};
use modelark_keras::KerasArchive;

/// What `pickle.dumps(model)` makes of a Keras model (Keras 2.13 and later): the archive within it is found by passing
/// over the pickle's opcodes, none of which is executed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PickledKeras;

/// The member's header that an archive begins with.
const ARCHIVE: &[u8] = b"PK\x03\x04";

/// The protocols that pickles of models have: those before them have no header to be known by.
const PROTOCOLS: std::ops::RangeInclusive<u8> = 2..=5;

/// The archives that a pickle has among its constants.
fn archives(pickle: &SharedBytes) -> impl Iterator<Item = Constant> + '_ {
    let is_pickle = matches!(pickle.get(..2), Some([0x80, protocol]) if PROTOCOLS.contains(protocol));
    constants(pickle).take_while(move |_| is_pickle).filter(|c| c.start(ARCHIVE.len()) == ARCHIVE)
}

/// The archive within the pickle at a place.
fn archive(place: &Place) -> Result<Place> {
    let pickle = place.open()?;
    let mut found = archives(&pickle);
    let first = found.next().and_then(|first| first.bytes());
    let bytes = first.ok_or_else(|| Error::unsupported("the pickle holds no archive of a model"))?;
    if found.next().is_some() {
        return Err(Error::unsupported("the pickle holds several models").help("pickle each of them alone"));
    }
    let name = place.label().to_string_lossy().into_owned();
    let mut files = Memory::new();
    files.insert(name.clone(), bytes);
    Ok(Place::in_memory(files, name))
}

impl Format for PickledKeras {
    fn name(&self) -> &'static str {
        "pickled_keras"
    }

    fn description(&self) -> &'static str {
        "pickled Keras model (its archive is read, nothing is executed)"
    }

    fn claims(&self, _: &str) -> bool {
        false
    }

    fn detect(&self, place: &Place) -> bool {
        !place.is_folder() && place.open().is_ok_and(|pickle| archives(&pickle).next().is_some())
    }

    fn read(&self, place: &Place, limits: &Limits) -> Result<Artifact> {
        KerasArchive.read(&archive(place)?, limits)
    }

    fn salvage(&self, place: &Place, limits: &Limits) -> Result<Salvage> {
        KerasArchive.salvage(&archive(place)?, limits)
    }

    fn needs(&self) -> Needs {
        KerasArchive.needs()
    }

    fn write(&self, _: &Artifact, _: &Target, _: &SaveOptions) -> Result<Report> {
        Err(Error::unsupported("models aren't pickled: who opens a pickle executes it")
            .help("save the model as .keras, which Keras opens alike"))
    }

    fn bind(&self, model: &mut Objects, read: &Artifact) -> Result<Report> {
        KerasArchive.bind(model, read)
    }

    fn held(&self, read: &Artifact, architecture: &Architecture) -> Result<BTreeMap<String, Vec<Held>>> {
        KerasArchive.held(read, architecture)
    }
}

#[cfg(test)]
mod tests {
    use modelark_nn::Sequential;
    use modelark_nn::layers::{Dense, InputLayer};

    use super::*;
    use crate::Model;

    /// What Keras 3 makes of a model in protocol 4: `getattr(Sequential, "_unpickle_model")(BytesIO(archive))`, shortened.
    fn pickled(archive: &[u8]) -> Vec<u8> {
        let mut pickle = b"\x80\x04\x8c\x08builtins\x94\x8c\x07getattr\x94\x93\x94B".to_vec();
        pickle.extend(u32::try_from(archive.len()).expect("short").to_le_bytes());
        pickle.extend(archive);
        pickle.extend(b"\x94\x85\x94R\x94.");
        pickle
    }

    #[test]
    fn a_pickled_model_is_opened_and_converted() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let layers = Sequential::new("m").add(InputLayer::new([4])).add(Dense::new(2)).build()?;
        Model::from_layers(layers)?.save(at("m.keras"))?;
        let archive = std::fs::read(at("m.keras"))?;
        std::fs::write(at("m.pkl"), pickled(&archive))?;
        let artifact = crate::open(at("m.pkl"))?;
        assert_eq!((artifact.source.format, artifact.objects.variables().len()), ("pickled_keras", 2));
        assert_eq!(crate::load(at("m.pkl"))?.default_endpoint()?.inputs.len(), 1);
        crate::convert(at("m.pkl"), at("m.h5"))?;
        crate::convert(at("m.pkl"), at("again.keras"))?;
        assert_eq!(crate::open(at("again.keras"))?.source.format, "keras");

        std::fs::write(at("two.pkl"), [pickled(&archive), pickled(&archive)].concat())?;
        assert!(crate::open(at("two.pkl")).is_ok(), "what follows a pickle isn't its own");
        let error = crate::Convert::new()
            .save(crate::Save::new().format("pickled_keras"))
            .run(at("m.keras"), at("n.pkl"))
            .expect_err("it isn't written");
        assert!(error.to_string().contains(".keras"), "{error}");
        Ok(())
    }
}
