//! `.keras`: an archive of the architecture as JSON, the weights as HDF5, and assets; or the same unzipped.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::time::SystemTime;

use modelark_artifact::tensor::SharedBytes;
use modelark_artifact::{
    Architecture, Artifact, Asset, Error, ErrorKind, Format, Held, Limits, Memory, Needs, Objects, Output,
    Place, Report, Result, Salvage, SaveOptions, Source, Target,
};
use modelark_hdf5 as hdf5;
use rayon::prelude::*;
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::{bins, config, held, vocabulary, weights};

const METADATA: &str = "metadata.json";
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.weights.h5";
const NPZ_WEIGHTS: &str = "model.weights.npz";
const ASSETS: &str = "assets/";
const COMPILE_CONFIG: &str = "compile_config";
/// Members begin at a multiple of this, so that tensors in a mapped archive are aligned.
const ALIGNMENT: u16 = 64;
/// The local header of a member: an archive begins with one.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// Keras's `.keras` archive: architecture, weights, compile config, the optimizer's state and assets.
#[derive(Debug, Clone, Copy, Default)]
pub struct KerasArchive;

impl Format for KerasArchive {
    fn name(&self) -> &'static str {
        "keras"
    }

    fn description(&self) -> &'static str {
        "Keras archive (.keras)"
    }

    fn claims(&self, file_name: &str) -> bool {
        file_name.to_ascii_lowercase().ends_with(".keras")
    }

    fn detect(&self, place: &Place) -> bool {
        if place.is_folder() {
            return place.child(CONFIG).open().is_ok()
                && [METADATA, WEIGHTS, NPZ_WEIGHTS].iter().any(|n| place.files.exists(&place.child(n).name));
        }
        let Ok(bytes) = place.open().map_err(drop) else { return false };
        if !bytes.starts_with(ZIP_MAGIC) {
            return false;
        }
        // A damaged archive is this format's to explain, if its name says that it is one.
        let ours = |archive: &mut ZipArchive<_>| {
            archive.file_names().any(|n| n.is_ok_and(|n| matches!(&*n, CONFIG | METADATA | WEIGHTS)))
        };
        ZipArchive::new(Cursor::new(bytes)).map_or(self.claims(&place.name), |mut a| ours(&mut a))
    }

    fn read(&self, place: &Place, limits: &Limits) -> Result<Artifact> {
        let read = || {
            if place.is_folder() {
                return read_members(
                    place,
                    |name| place.child(name).open(),
                    None,
                    assets_of_folder(place, limits)?,
                    limits,
                );
            }
            let members = unzip(place.open()?, limits)?;
            let checksum = members.iter().find(|m| m.name == WEIGHTS).and_then(|m| m.checksum);
            let mut assets = Vec::new();
            for Member { name, bytes, .. } in &members {
                if let Some(name) = name.strip_prefix(ASSETS).filter(|n| !n.is_empty() && !n.ends_with('/')) {
                    assets.push(Asset { name: name.to_owned(), bytes: bytes.clone() });
                }
            }
            let mut files = Memory::new();
            let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
            let listed = names.join(", ");
            for Member { name, bytes, .. } in &members {
                files.insert(name.clone(), bytes.clone());
            }
            let archive = Place::in_memory(files, "");
            let open = |name: &str| {
                archive.child(name).open().map_err(|_| {
                    Error::missing(format!("the archive has no {name}; it has {listed}"))
                        .help("it isn't a .keras model, or was cut off while it was saved")
                })
            };
            read_members(place, open, checksum, assets, limits)
        };
        read().map_err(|e| e.in_file(place.label()))
    }

    fn salvage(&self, place: &Place, limits: &Limits) -> Result<Salvage> {
        if place.is_folder() {
            return weights::salvaged(place.child(WEIGHTS).open()?, place.label().join(WEIGHTS), limits);
        }
        let read = || -> Result<Salvage> {
            let bytes = place.open()?;
            let (members, mut damage) = match unzip(bytes.clone(), limits) {
                Ok(members) => (members, Vec::new()),
                // Members also stand for themselves, each behind a header of its own.
                Err(e) => (unzip_in_order(&bytes, limits), vec![e]),
            };
            let weights = members.into_iter().find(|m| m.name == WEIGHTS).ok_or_else(|| {
                damage.pop().unwrap_or_else(|| Error::missing(format!("the archive has no {WEIGHTS}")))
            })?;
            if let Some(Err(e)) = weights.checksum.map(|c| compare(&weights.bytes, c)) {
                damage.push(e.at(format!("member {WEIGHTS:?}")));
            }
            let mut salvage = weights::salvaged(weights.bytes, place.label().join(WEIGHTS), limits)?;
            salvage.damage.splice(..0, damage);
            Ok(salvage)
        };
        read().map_err(|e| e.in_file(place.label()))
    }

    fn needs(&self) -> Needs {
        Needs { architecture: true, layers: true, modules: true, ..Needs::default() }
    }

    fn write(&self, artifact: &Artifact, target: &Target, options: &SaveOptions) -> Result<Report> {
        write(artifact, target, options).map_err(|e| e.in_file(target.path().to_owned()))
    }

    fn keeps(&self, artifact: &Artifact) -> bool {
        weights::is_tree(artifact)
    }

    fn bind(&self, model: &mut Objects, read: &Artifact) -> Result<Report> {
        weights::bind_tree(model, &read.objects).map_err(|e| e.in_file(read.source.path.clone()))
    }

    fn held(&self, read: &Artifact, architecture: &Architecture) -> Result<BTreeMap<String, Vec<Held>>> {
        Ok(held::by_path(&read.objects, architecture))
    }
}

/// Reads a model whose files `open` gives by name; `checksum` is that of the weights, if it hasn't been compared.
fn read_members(
    place: &Place,
    open: impl Fn(&str) -> Result<SharedBytes>,
    checksum: Option<u32>,
    mut assets: Vec<Asset>,
    limits: &Limits,
) -> Result<Artifact> {
    let mut config = config::parse(&open(CONFIG)?, limits).map_err(|e| e.at(CONFIG))?;
    let metadata = match open(METADATA) {
        Ok(bytes) if !bytes.is_empty() => config::parse(&bytes, limits).map_err(|e| e.at(METADATA))?,
        // Keras reads archives without it.
        _ => Value::Null,
    };
    let keras_version = metadata.get("keras_version").and_then(Value::as_str).map(str::to_owned);
    let dialect = config::dialect(&config, keras_version.as_deref());
    let Some(node) = config.as_object_mut().filter(|n| n.contains_key("class_name")) else {
        return Err(Error::corrupt("it isn't a model's config: it names no class").at(CONFIG));
    };
    let compile = node.shift_remove(COMPILE_CONFIG).filter(|c| c.as_object().is_some_and(|c| !c.is_empty()));
    let weights = open(WEIGHTS).map_err(|e| match open(NPZ_WEIGHTS) {
        Ok(_) => Error::unsupported(format!("the weights are in {NPZ_WEIGHTS}, which isn't read"))
            .help("save the model with the default weight format, HDF5"),
        Err(_) => e,
    })?;
    let label = place.label().join(WEIGHTS);
    let mut tree = weights::Tree::default();
    let file = match checksum {
        Some(checksum) => {
            let bytes = weights.clone();
            hdf5::File::open_checked(weights, label, limits, move || compare(&bytes, checksum))?
        }
        None => hdf5::File::open(weights, label, limits)?,
    };
    tree.merge(file.root())?;
    let training = tree.training(compile, Some(dialect));
    vocabulary::read(&mut config, &mut assets, &mut tree.objects, dialect)?;
    bins::read(&mut config, &mut tree.objects, dialect)?;
    Ok(Artifact {
        source: Source {
            format: KerasArchive.name(),
            path: place.label(),
            writers: keras_version.iter().map(|v| ("keras".to_owned(), v.clone())).collect(),
        },
        architecture: Some(Architecture { config, dialect, keras_version }),
        objects: tree.objects,
        training,
        assets,
        ..Artifact::default()
    })
}

/// The files under `assets` of an unzipped model.
fn assets_of_folder(place: &Place, limits: &Limits) -> Result<Vec<Asset>> {
    fn gather(place: &Place, name: &str, depth: usize, found: &mut Vec<Asset>) -> Result<()> {
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| Error::limit("its folders nest too deep").at(name.to_owned()))?;
        let folder = place.child(&format!("{ASSETS}{name}"));
        for entry in folder.files.list(&folder.name)? {
            let name = format!("{name}{entry}");
            if entry.ends_with('/') {
                gather(place, &name, depth, found)?;
            } else {
                let bytes = place.child(&format!("{ASSETS}{name}")).open()?;
                found.push(Asset { name, bytes });
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    if place.child(ASSETS.trim_end_matches('/')).is_folder() {
        gather(place, "", limits.depth, &mut found)?;
    }
    Ok(found)
}

/// A file in an archive.
struct Member {
    name: String,
    /// A part of the archive's bytes, or what it expands to.
    bytes: SharedBytes,
    /// What the archive says of its bytes, if that hasn't been compared.
    checksum: Option<u32>,
}

/// Compares the checksum of an archive's member.
fn compare(bytes: &[u8], stored: u32) -> Result<()> {
    let actual = checksum(bytes);
    if actual == stored {
        return Ok(());
    }
    Err(Error::corrupt(format!("its checksum is {actual:#010x}, but {stored:#010x} is stored"))
        .help("the file is damaged: copy it again, or restore it from a backup"))
}

/// The checksum of many bytes, by as many threads as there are.
fn checksum(bytes: &[u8]) -> u32 {
    const CHUNK: usize = 1 << 20;
    let part = |chunk: &[u8]| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(chunk);
        hasher
    };
    if bytes.len() <= 4 * CHUNK {
        return part(bytes).finalize();
    }
    let joined = |mut before: crc32fast::Hasher, after: crc32fast::Hasher| {
        before.combine(&after);
        before
    };
    bytes.par_chunks(CHUNK).map(part).reduce(crc32fast::Hasher::new, joined).finalize()
}

/// The members of an archive in order: stored ones as parts of its bytes, compressed ones expanded. All checksums are
/// compared, if the limits say so, but the one of the weights.
fn unzip(bytes: SharedBytes, limits: &Limits) -> Result<Vec<Member>> {
    let damaged = |e: zip::result::ZipError| {
        Error::corrupt("the zip archive can't be read")
            .because(e)
            .help("the file is truncated or damaged; get it again")
    };
    let mut archive = ZipArchive::new(Cursor::new(bytes.clone())).map_err(damaged)?;
    if archive.has_duplicate_names() {
        return Err(Error::corrupt("the archive has two members of one name"));
    }
    if archive.len() > limits.items {
        return Err(Error::limit(format!("the archive lists {} members", archive.len())));
    }
    let mut left = limits.expanded_bytes;
    let mut members = Vec::new();
    for i in 0..archive.len() {
        let (name, stored, checksum) = {
            let member = archive.by_index_raw(i).map_err(damaged)?;
            let name = String::from_utf8(member.name_raw().to_vec())
                .map_err(|_| Error::corrupt(format!("the name of member {i} isn't UTF-8")))?;
            // What Windows wrote parts its names otherwise.
            let name = name.replace('\\', "/");
            let here = |e: Error| e.at(format!("member {name:?}"));
            let escapes = name.starts_with('/') || name.split('/').any(|p| p == ".." || p == ".");
            if escapes || name.as_bytes().get(1) == Some(&b':') {
                return Err(here(Error::invalid("the member's name leads out of the archive")));
            }
            if member.is_symlink() {
                return Err(here(Error::unsupported("the member is a symbolic link, which isn't followed")));
            }
            if member.encrypted() {
                return Err(
                    here(Error::unsupported("the member is encrypted")).help("decrypt the archive first")
                );
            }
            let stored = (member.compression() == CompressionMethod::Stored).then(|| {
                let start = member.data_start().and_then(|s| usize::try_from(s).ok())?;
                bytes.slice(start..start.checked_add(usize::try_from(member.compressed_size()).ok()?)?)
            });
            match stored {
                Some(None) => {
                    return Err(here(Error::corrupt("the member reaches past the archive's end")));
                }
                Some(Some(part)) => (name, Some(part), limits.verify.then_some(member.crc32())),
                None => (name, None, None),
            }
        };
        let mut checksum = checksum;
        let bytes = match stored {
            Some(part) => {
                if let Some(stored) = checksum.take_if(|_| name != WEIGHTS) {
                    compare(&part, stored).map_err(|e| e.at(format!("member {name:?}")))?;
                }
                part
            }
            None => {
                let here = |e: Error| e.at(format!("member {name:?}"));
                let member = archive.by_index(i).map_err(damaged)?;
                if member.size() > left {
                    return Err(here(Error::limit(format!("it expands to {} bytes", member.size()))));
                }
                let mut content = Vec::new();
                // A member can hold more than it declares.
                let taken = member.take(left.saturating_add(1)).read_to_end(&mut content);
                taken.map_err(|e| here(Error::corrupt("it can't be expanded").because(e)))?;
                left = left
                    .checked_sub(content.len() as u64)
                    .ok_or_else(|| here(Error::limit("the archive expands beyond the limit")))?;
                SharedBytes::from(content)
            }
        };
        members.push(Member { name, bytes, checksum });
    }
    Ok(members)
}

/// The members up to the first that can't be found, by their own headers: for an archive whose directory is damaged.
fn unzip_in_order(bytes: &SharedBytes, limits: &Limits) -> Vec<Member> {
    let mut rest = Cursor::new(bytes.clone());
    let mut members = Vec::new();
    while let Ok(Some(mut member)) = zip::read::read_zipfile_from_stream(&mut rest) {
        let name = String::from_utf8_lossy(member.name_raw()).replace('\\', "/");
        let checksum = Some(member.crc32());
        let mut content = Vec::new();
        // What came before the damage is worth having; the checksum tells that it isn't all.
        let _ = member.by_ref().take(limits.expanded_bytes).read_to_end(&mut content);
        members.push(Member { name, bytes: SharedBytes::from(content), checksum });
    }
    members
}

fn write(artifact: &Artifact, target: &Target, options: &SaveOptions) -> Result<Report> {
    let architecture = artifact.architecture.as_ref().ok_or_else(|| {
        Error::missing("a .keras archive holds an architecture, and this model has none")
            .help("save its weights as .weights.h5, or its functions as a SavedModel")
    })?;
    let dialect = weights::dialect(artifact, options);
    let version = config::version(dialect, architecture.keras_version.as_deref());
    let mut writer = hdf5::Writer::new().compress(options.compress);
    let mut report = weights::write_tree(artifact, dialect, options, &mut writer)?;

    let mut config = config::archive_form(&architecture.config, dialect);
    let compile =
        artifact.training.as_ref().filter(|_| !options.without_training).and_then(|t| t.compile.as_ref());
    if let (Some(node), Some(compile)) = (config.as_object_mut(), compile) {
        node.insert(COMPILE_CONFIG.to_owned(), config::compile_config(compile, dialect));
    }
    let metadata = json!({ "keras_version": version, "date_saved": date(SystemTime::now()) });

    // HDF5 is laid out in a file of its own, which is gone before the commit.
    let weights = writer.lay_out(&target.stage(&format!("{}.{WEIGHTS}", target.name()))?)?;
    let mut zip = ZipWriter::new(Output::create(&target.stage(&target.name())?)?);
    let failed =
        |e: zip::result::ZipError| Error::new(ErrorKind::Io, "the archive can't be written").because(e);
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in [(METADATA, metadata), (CONFIG, config)] {
        zip.start_file(name, stored).map_err(failed)?;
        zip.write_all(config::to_ascii(&content).as_bytes())?;
    }
    let large = weights.len() >= u64::from(u32::MAX);
    zip.start_file(WEIGHTS, stored.large_file(large).with_alignment(ALIGNMENT)).map_err(failed)?;
    weights.move_into(&mut zip)?;
    // Another format's assets mean nothing to Keras's layers.
    if matches!(artifact.source.format, "" | "keras") {
        for asset in &artifact.assets {
            zip.start_file(format!("{ASSETS}{}", asset.name), stored).map_err(failed)?;
            zip.write_all(&asset.bytes)?;
        }
    } else if !artifact.assets.is_empty() {
        report.note(format!("{} assets were left behind", artifact.assets.len()));
    }
    zip.finish().map_err(failed)?.flush()?;
    Ok(report)
}

/// A time as Keras writes it (`date_saved`), in UTC: `2024-02-29@23:59:59`.
fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while lengths.get(month).is_some_and(|&length| days >= length) {
        days -= lengths.get(month).copied().unwrap_or_default();
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{:02}-{:02}@{hour:02}:{minute:02}:{:02}", month + 1, days + 1, second % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use modelark_artifact::Dialect;
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    #[test]
    fn a_checksum_is_the_same_by_many_threads() {
        for len in [0, 100, (4 << 20) + 1, (7 << 20) + 12_345] {
            let bytes: Vec<u8> = (0..len).map(|i: usize| ((i * i) >> 7) as u8).collect();
            assert_eq!(checksum(&bytes), crc32fast::hash(&bytes), "{len}");
        }
    }

    #[test]
    fn archives_of_keras_come_back_as_they_were() {
        for (environment, dialect) in [("tf215", Dialect::Keras2), ("tf221", Dialect::Keras3)] {
            let (mut read, mut model) = testing::bound(&KerasArchive, environment, "mlp/model.keras");
            model.assets = vec![Asset {
                name: "layers/lookup/vocabulary.txt".to_owned(),
                bytes: SharedBytes::copy_from(b"a"),
            }];
            let again = testing::again(&KerasArchive, &model, "m.keras", &SaveOptions::default());
            if let Some(root) = read.objects.get_mut(Objects::ROOT) {
                root.children.retain(|(name, _)| name != "metrics");
            }
            testing::same(&read, &again);
            assert_eq!(again.architecture.as_ref().map(|a| a.dialect), Some(dialect));
            assert_eq!(again.architecture, read.architecture);
            assert_eq!(again.training.and_then(|t| t.compile), read.training.and_then(|t| t.compile));
            assert_eq!(again.assets, model.assets);
        }
    }

    #[test]
    fn an_unzipped_model_is_the_same() {
        let path = testing::fixture("tf221", "mlp/model.keras");
        let zipped = KerasArchive.read(&Place::of_path(&path), &Limits::default()).expect("reads");
        let dir = tempfile::tempdir().expect("dir");
        for Member { name, bytes, .. } in
            unzip(SharedBytes::from(std::fs::read(path).expect("reads")), &Limits::default()).expect("unzips")
        {
            std::fs::write(dir.path().join(name), &*bytes).expect("writes");
        }
        let place = Place::of_path(dir.path());
        assert!(KerasArchive.detect(&place));
        testing::same(&zipped, &KerasArchive.read(&place, &Limits::default()).expect("reads"));
    }

    /// An archive of members with these names.
    fn archive(names: &[&str], options: SimpleFileOptions) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for name in names {
            zip.start_file(*name, options).expect("starts");
            zip.write_all(&[b' '; 5000]).expect("writes");
        }
        zip.finish().expect("finishes").into_inner()
    }

    #[test]
    fn strange_archives_are_refused_by_name() {
        let plain = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let deflated = plain.compression_method(CompressionMethod::Deflated);
        let read = |bytes: Vec<u8>, limits: &Limits| {
            let mut files = Memory::new();
            files.insert("m.keras", bytes);
            KerasArchive.read(&Place::in_memory(files, "m.keras"), limits).expect_err("strange").to_string()
        };
        let limits = Limits::default();
        let missing = read(archive(&[METADATA, WEIGHTS], plain), &limits);
        assert!(
            missing.contains("m.keras") && missing.contains("no config.json") && missing.contains(WEIGHTS),
            "{missing}"
        );
        assert!(read(archive(&["../config.json"], plain), &limits).contains("leads out"));
        let mut small = Limits::default();
        small.expanded_bytes = 4000;
        assert!(read(archive(&[CONFIG], deflated), &small).contains("expands to"));
        let mut twice = archive(&["config.json", "config.jsom"], plain);
        let ends: Vec<usize> =
            (0..twice.len() - 11).filter(|&i| &twice[i..i + 11] == b"config.jsom").collect();
        ends.into_iter().for_each(|i| twice[i + 10] = b'n');
        assert!(read(twice, &limits).contains("two members"));
        assert!(read(b"PK\x03\x04cut".to_vec(), &limits).contains("truncated"));
        // Bit 0 of a member's flags says that it is encrypted.
        let mut encrypted = archive(&[CONFIG], plain);
        let central = encrypted.windows(4).position(|w| w == b"PK\x01\x02").expect("central directory");
        encrypted[6] |= 1;
        encrypted[central + 8] |= 1;
        assert!(read(encrypted, &limits).contains("encrypted"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |s| date(SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "1970-01-01@00:00:00");
        assert_eq!(at(1_709_251_199), "2024-02-29@23:59:59");
        assert_eq!(at(4_102_444_800), "2100-01-01@00:00:00");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn damaged_files_never_panic(
            bytes in testing::damaged(std::fs::read(testing::fixture("tf221", "mlp/model.keras")).expect("reads")),
        ) {
            let _ = testing::read_all(&KerasArchive, "m.keras", bytes);
        }
    }
}
