//! A model of two hundred tensors, 25 MB: saved in every form, opened, and converted into every form, beside writing as many
//! bytes raw.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modelark::nn::layers::{Dense, InputLayer};
use modelark::nn::{Named, Sequential};
use modelark::{Convert, Model, Save};

const TENSORS: usize = 200;
const SIDE: usize = 181;
const BYTES: usize = TENSORS * SIDE * SIDE * 4;

/// The forms of whole models, by their names as files.
const MODELS: [&str; 4] = ["model.keras", "model.h5", "model.json", "saved_model"];
/// Those of weights alone, and what they are called.
const WEIGHTS: [(&str, &str); 3] =
    [("weights", "checkpoint"), ("model.weights.h5", "weights_h5"), ("weights.npz", "npz")];

fn model() -> Model {
    let mut layers = Sequential::new("large").add(InputLayer::new([SIDE]));
    for i in 0..TENSORS {
        layers = layers.add(Dense::new(SIDE).use_bias(false).named(&format!("dense_{i}")));
    }
    Model::from_layers(layers.build().expect("layers")).expect("model")
}

/// A form that names no format in its name.
fn saved_as(format: Option<&str>) -> Save {
    format.map_or_else(Save::new, |format| Save::new().format(format))
}

fn forms() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    let whole = MODELS.iter().map(|name| (*name, (*name == "saved_model").then_some("saved_model")));
    whole.chain(WEIGHTS.iter().map(|(name, format)| (*name, Some(*format))))
}

/// As a save does it: written beside, flushed, moved.
fn write_raw(folder: &Path, bytes: &[u8]) {
    let (beside, path) = (folder.join(".raw"), folder.join("raw"));
    let mut file = File::create(&beside).expect("create");
    file.write_all(bytes).expect("write");
    file.sync_all().expect("flush");
    fs::rename(beside, path).expect("rename");
}

fn files(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("temp dir");
    let dir = dir.path();
    let model = model();
    let mut group = c.benchmark_group("files");
    group.sample_size(20).throughput(Throughput::Bytes(BYTES as u64));
    let bytes = vec![7; BYTES];
    group.bench_function("write raw", |b| b.iter(|| write_raw(dir, &bytes)));
    for (name, format) in forms() {
        let path = dir.join(name);
        group.bench_function(format!("save {name}"), |b| {
            b.iter(|| model.save_with(&path, &saved_as(format)).expect("saves"))
        });
        group.bench_function(format!("open {name}"), |b| {
            b.iter(|| black_box(modelark::open(&path).expect("opens")))
        });
    }
    for from in MODELS {
        for (to, format) in forms() {
            let convert = Convert::new().save(saved_as(format));
            let (from, to) = (dir.join(from), dir.join("converted").join(to));
            let names =
                [&from, &to].map(|p| p.file_name().unwrap_or_default().to_string_lossy().into_owned());
            // A SavedModel without Keras's metadata holds no layers that other forms could be written from.
            if convert.run(&from, &to).is_err() {
                continue;
            }
            group.bench_function(format!("convert {} to {}", names[0], names[1]), |b| {
                b.iter(|| convert.run(&from, &to).expect("converts"))
            });
        }
    }
    group.finish();
}

criterion_group!(benches, files);
criterion_main!(benches);
