//! Opening a bundle of a gigabyte, reading one tensor of it, and saving, beside writing the same bytes raw.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modelark_artifact::{Limits, Place, Target};
use modelark_checkpoint::{Bundle, BundleWriter};
use modelark_tensor::{DType, Tensor};

const TENSORS: usize = 64;
const SIDE: usize = 2048;

fn tensor(seed: u8) -> Tensor {
    let bytes: Vec<u8> = (0..SIDE * SIDE * 4).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
    Tensor::from_bytes(DType::F32, [SIDE, SIDE], bytes.into()).expect("tensor")
}

fn save(target: &Target, tensors: usize, tensor: &Tensor) {
    let mut writer = BundleWriter::new(target, target.name()).expect("writer");
    for i in 0..tensors {
        writer.add(&format!("layer_{i}/kernel"), tensor).expect("add");
    }
    writer.finish().expect("finish");
}

fn bundle(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("large");
    let one = tensor(7);
    let target = Target::new(&path).expect("target");
    save(&target, TENSORS, &one);
    target.commit().expect("commit");

    let open = |limits: &Limits| Bundle::open(Place::of_path(&path), limits).expect("open");
    let limits = Limits::default();
    let mut unchecked = Limits::default();
    unchecked.verify = false;
    c.bench_function("open a bundle of 1 GiB", |b| b.iter(|| black_box(open(&limits).keys().len())));
    c.bench_function("open it and map one tensor of 16 MiB", |b| {
        b.iter(|| black_box(open(&unchecked).tensor("layer_31/kernel").expect("tensor")));
    });
    let mut group = c.benchmark_group("16 MiB");
    group.throughput(Throughput::Bytes(one.nbytes() as u64));
    let bundle = open(&limits);
    group.bench_function("read with its checksum", |b| {
        b.iter(|| black_box(bundle.tensor("layer_31/kernel").expect("tensor")));
    });
    group.finish();

    let mut group = c.benchmark_group("write 256 MiB");
    group.sample_size(10).throughput(Throughput::Bytes(16 * one.nbytes() as u64));
    group.bench_function("as a bundle", |b| {
        b.iter_with_large_drop(|| {
            let target = Target::new(dir.path().join("saved")).expect("target");
            save(&target, 16, &one);
            target
        });
    });
    group.bench_function("raw", |b| {
        b.iter_with_large_drop(|| {
            let raw = tempfile::tempdir_in(dir.path()).expect("temp dir");
            let mut file = File::create(raw.path().join("raw")).expect("create");
            for _ in 0..16 {
                file.write_all(one.bytes().expect("bytes")).expect("write");
            }
            raw
        });
    });
    group.finish();
}

criterion_group!(benches, bundle);
criterion_main!(benches);
