//! One declaration that both reads and writes a config.

use std::collections::BTreeSet;

use modelark_artifact::{Architecture, Dialect, Error, Report, Result};
use serde_json::{Map, Value};

use crate::Registry;
use crate::former::Version;
use crate::model::{StandIns, Weight};

/// A JSON object.
pub type Object = Map<String, Value>;

/// A typed value of a config: how each dialect spells it.
pub trait ConfigValue: Sized {
    /// Reads the value, in whatever form any dialect writes it.
    ///
    /// # Errors
    /// When it is of no such form.
    fn read(value: &Value, reader: &Reader<'_>) -> Result<Self>;

    /// Writes the value in the dialect asked for.
    fn write(&self, writer: &mut Writer) -> Value;
}

/// What reading a value may depend on.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// The dialect of the file.
    pub dialect: Dialect,
    /// The version that wrote it, where it says.
    pub version: Option<Version>,
    /// The classes that layers within a config may be of.
    pub registry: &'a Registry,
    /// What a file holds for layers of other classes, where they are kept as they are rather than refused.
    pub(crate) stand_ins: Option<StandIns<'a>>,
}

impl<'a> Reader<'a> {
    /// What a file in this dialect that names no version is read by.
    pub fn new(dialect: Dialect, registry: &'a Registry) -> Self {
        Reader { dialect, version: None, registry, stand_ins: None }
    }

    /// What an architecture is read by.
    pub fn of(architecture: &Architecture, registry: &'a Registry) -> Self {
        let version = architecture.keras_version.as_deref().and_then(Version::parse);
        Reader { version, ..Reader::new(architecture.dialect, registry) }
    }

    /// What a layer is read by for which a file holds these weights, by [`StandIns::of`].
    pub(crate) fn within<'b>(&'b self, held: Option<&'b [Weight]>, is_model: bool) -> Reader<'b> {
        let inner = |held| Some(StandIns { held, is_model, key: "", ..self.stand_ins? });
        Reader { stand_ins: held.and_then(inner), ..*self }
    }
}

/// What writing a value may depend on, and what is to be said about it afterwards.
#[derive(Debug)]
pub struct Writer {
    /// The dialect to write.
    pub dialect: Dialect,
    /// What changes its meaning or is lost in that dialect.
    pub report: Report,
    /// Why a layer within a config couldn't be written.
    pub(crate) failed: Option<Error>,
}

impl Writer {
    /// Writes in this dialect; nothing was said yet.
    pub fn new(dialect: Dialect) -> Self {
        Writer { dialect, report: Report::default(), failed: None }
    }

    /// Whether this is Keras 3's dialect.
    pub fn is_keras3(&self) -> bool {
        self.dialect == Dialect::Keras3
    }
}

/// The fields of a config while it is read or written: a layer's [`visit`](crate::Layer::visit) names each once.
///
/// When a config is read, a key that is absent leaves the field as the layer's constructor set it. The first error is
/// kept and the rest of the visit does nothing.
#[derive(Debug)]
pub struct Fields<'a> {
    mode: Mode<'a>,
    error: Option<Error>,
}

#[derive(Debug)]
enum Mode<'a> {
    /// `partial` where only what is to change is read.
    Read {
        config: &'a Object,
        reader: Reader<'a>,
        used: BTreeSet<String>,
        partial: bool,
    },
    Write {
        config: Object,
        writer: &'a mut Writer,
    },
}

impl<'a> Fields<'a> {
    /// Fields to be read from `config`.
    pub fn reading(config: &'a Object, reader: Reader<'a>) -> Self {
        Fields { mode: Mode::Read { config, reader, used: BTreeSet::new(), partial: false }, error: None }
    }

    /// Fields to be changed where `config` has them.
    pub(crate) fn changing(config: &'a Object, reader: Reader<'a>) -> Self {
        Fields { mode: Mode::Read { config, reader, used: BTreeSet::new(), partial: true }, error: None }
    }

    /// Fields to be written.
    pub fn writing(writer: &'a mut Writer) -> Self {
        Fields { mode: Mode::Write { config: Object::new(), writer }, error: None }
    }

    /// A field that every dialect has under this key.
    pub fn field<T: ConfigValue>(&mut self, key: &str, value: &mut T) {
        self.visit(&[key], value, |_, _| Some(key));
    }

    /// A field that must be there.
    pub fn required<T: ConfigValue>(&mut self, key: &str, value: &mut T) {
        self.field(key, value);
        if let Mode::Read { config, partial: false, .. } = &self.mode
            && config.get(key).is_none_or(Value::is_null)
        {
            self.fail(Error::missing(format!("the config has no {key:?}")));
        }
    }

    /// A field that Keras 3 and Keras 2 (with Keras 1) call differently; either name is read.
    pub fn renamed<T: ConfigValue>(&mut self, keras3: &str, keras2: &str, value: &mut T) {
        self.visit(&[keras3, keras2], value, |w, _| Some(if w.is_keras3() { keras3 } else { keras2 }));
    }

    /// A field with other names that old files use; the first is written.
    pub fn aliased<T: ConfigValue>(&mut self, key: &str, aliases: &[&str], value: &mut T) {
        let keys: Vec<&str> = [key].iter().chain(aliases).copied().collect();
        self.visit(&keys, value, |_, _| Some(key));
    }

    /// A field that only Keras 2 has, at its default in Keras 3: anything else can't be said there and is reported.
    pub fn keras2<T: ConfigValue + Default + PartialEq>(&mut self, key: &str, value: &mut T) {
        self.visit(&[key], value, |w, value| {
            if w.is_keras3() && *value != T::default() {
                w.report.note(format!("Keras 3 has no {key:?}, which isn't at its default here"));
            }
            (!w.is_keras3()).then_some(key)
        });
    }

    /// A field that only Keras 3 has; Keras 2 works as with the default, anything else is reported.
    ///
    /// It is left out at its default, because releases older than the key refuse it.
    pub fn keras3<T: ConfigValue + Default + PartialEq>(&mut self, key: &str, value: &mut T) {
        self.visit(&[key], value, |w, value| {
            let told = *value != T::default();
            if told && !w.is_keras3() {
                w.report.note(format!("Keras 2 has no {key:?}, which isn't at its default here"));
            }
            (told && w.is_keras3()).then_some(key)
        });
    }

    /// A field that is left out at its default in every dialect.
    pub fn sparse<T: ConfigValue + Default + PartialEq>(&mut self, key: &str, value: &mut T) {
        self.visit(&[key], value, |_, value| (*value != T::default()).then_some(key));
    }

    /// A field that is read from any dialect and written in none: what it says is said elsewhere, or means nothing
    /// to what a model computes.
    pub fn read_only<T: ConfigValue>(&mut self, key: &str, value: &mut T) {
        self.visit(&[key], value, |_, _| None);
    }

    /// Keys that mean nothing to what a model computes (such as Keras 2's `implementation`); each is written in the
    /// dialect given, with the value given, and never kept.
    pub fn constant(&mut self, key: &str, dialects: &[Dialect], value: Value) {
        match &mut self.mode {
            Mode::Read { used, .. } => drop(used.insert(key.to_owned())),
            Mode::Write { config, writer } if dialects.contains(&writer.dialect) => {
                config.insert(key.to_owned(), value);
            }
            Mode::Write { .. } => {}
        }
    }

    /// All keys that no field asked for yet, taken as they are; nothing when writing.
    pub(crate) fn rest(&mut self) -> Object {
        let Mode::Read { config, used, .. } = &mut self.mode else { return Object::new() };
        let left: Object =
            config.iter().filter(|(k, _)| !used.contains(*k)).map(|(k, v)| (k.clone(), v.clone())).collect();
        used.extend(left.keys().cloned());
        left
    }

    /// Leaves out a key of all layers that a class doesn't take in a dialect.
    pub fn without(&mut self, key: &str, dialect: Dialect) {
        if let Mode::Write { config, writer } = &mut self.mode
            && writer.dialect == dialect
        {
            config.remove(key);
        }
    }

    /// Says that only one dialect has the class: in others it can't be written so that Keras reads it.
    pub fn only_in(&mut self, dialect: Dialect) {
        if let Mode::Write { writer, .. } = &mut self.mode
            && writer.dialect != dialect
        {
            let (only, other) = (dialect, writer.dialect);
            writer.report.note(format!("{only} alone has this class: {other} doesn't load it"));
        }
    }

    /// The dialect that is read or written.
    pub fn dialect(&self) -> Dialect {
        match &self.mode {
            Mode::Read { reader, .. } => reader.dialect,
            Mode::Write { writer, .. } => writer.dialect,
        }
    }

    /// Whether what is being read was written by a Keras from before TensorFlow 2, which computed some things otherwise.
    pub fn is_former(&self) -> bool {
        match &self.mode {
            Mode::Read { reader, .. } => match reader.version {
                Some(version) => version.is_former(),
                None => reader.dialect == Dialect::Keras1,
            },
            Mode::Write { .. } => false,
        }
    }

    /// Whether the config is being read.
    pub fn is_reading(&self) -> bool {
        matches!(self.mode, Mode::Read { .. })
    }

    /// Whether the config that is being read has this key.
    pub fn has(&self, key: &str) -> bool {
        matches!(&self.mode, Mode::Read { config, .. } if config.contains_key(key))
    }

    /// Says that the values of the fields don't fit each other.
    pub fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// Says what writing changes or loses; nothing when reading.
    pub fn note(&mut self, line: impl Into<String>) {
        if let Mode::Write { writer, .. } = &mut self.mode {
            writer.report.note(line);
        }
    }

    /// Ends reading: the keys that no field asked for.
    ///
    /// # Errors
    /// The first error of the visit.
    pub fn finish_reading(self) -> Result<Object> {
        if let Some(error) = self.error {
            return Err(error);
        }
        Ok(match self.mode {
            Mode::Read { config, used, .. } => config
                .iter()
                .filter(|(k, _)| !used.contains(*k))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            Mode::Write { .. } => Object::new(),
        })
    }

    /// Ends writing: the config.
    ///
    /// # Errors
    /// The first error of the visit.
    pub fn finish_writing(self) -> Result<Object> {
        if let Some(error) = self.error {
            return Err(error);
        }
        Ok(match self.mode {
            Mode::Write { config, writer } => match writer.failed.take() {
                Some(error) => return Err(error),
                None => config,
            },
            Mode::Read { .. } => Object::new(),
        })
    }

    /// Reads the first of `keys` that is there, or writes under the key that `name` gives.
    fn visit<'k, T: ConfigValue>(
        &mut self,
        keys: &[&'k str],
        value: &mut T,
        name: impl FnOnce(&mut Writer, &T) -> Option<&'k str>,
    ) {
        if self.error.is_some() {
            return;
        }
        match &mut self.mode {
            Mode::Read { config, reader, used, .. } => {
                used.extend(keys.iter().map(|&k| k.to_owned()));
                let Some((key, json)) = keys.iter().find_map(|&k| Some((k, config.get(k)?))) else { return };
                let stand_ins = reader.stand_ins.map(|s| StandIns { key, ..s });
                match T::read(json, &Reader { stand_ins, ..*reader }) {
                    Ok(read) => *value = read,
                    Err(error) => self.error = Some(error.at(format!("config key {key:?}"))),
                }
            }
            Mode::Write { config, writer } => {
                if let Some(key) = name(writer, value) {
                    let json = value.write(writer);
                    config.insert(key.to_owned(), json);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Sample {
        units: usize,
        slope: f64,
        young: bool,
        old: bool,
    }

    fn visit(s: &mut Sample, f: &mut Fields<'_>) {
        f.required("units", &mut s.units);
        f.renamed("negative_slope", "alpha", &mut s.slope);
        f.keras3("young", &mut s.young);
        f.keras2("old", &mut s.old);
    }

    fn read(config: Value) -> Result<(Sample, Object)> {
        let registry = Registry::default();
        let config = config.as_object().cloned().unwrap_or_default();
        let mut fields = Fields::reading(&config, Reader::new(Dialect::Keras3, &registry));
        let mut sample = Sample::default();
        visit(&mut sample, &mut fields);
        Ok((sample, fields.finish_reading()?))
    }

    #[test]
    fn one_declaration_reads_and_writes_every_dialect() {
        let (mut sample, unknown) = read(json!({"units": 3, "alpha": 0.5, "young": true, "x": 1})).unwrap();
        assert_eq!(sample, Sample { units: 3, slope: 0.5, young: true, old: false });
        assert_eq!(Value::from(unknown), json!({"x": 1}));
        for (dialect, wanted, notes) in [
            (Dialect::Keras3, json!({"units": 3, "negative_slope": 0.5, "young": true}), 0),
            (Dialect::Keras2, json!({"units": 3, "alpha": 0.5, "old": false}), 1),
        ] {
            let mut writer = Writer::new(dialect);
            let mut fields = Fields::writing(&mut writer);
            visit(&mut sample, &mut fields);
            assert_eq!(Value::from(fields.finish_writing().unwrap()), wanted);
            assert_eq!(writer.report.notes.len(), notes);
        }
    }

    #[test]
    fn errors_name_the_key() {
        assert!(read(json!({})).unwrap_err().to_string().contains("\"units\""));
        let error = read(json!({"units": "many"})).unwrap_err().to_string();
        assert!(error.starts_with("config key \"units\": "), "{error}");
    }
}
