//! Files that TensorFlow wrote: read, and written again byte for byte.

use std::path::{Path, PathBuf};

use modelark_artifact::{Limits, Place, Target, Variable};
use modelark_checkpoint::slice::{ShapeAndSlice, Slice};
use modelark_checkpoint::{Bundle, BundleWriter, V1, v1};
use modelark_tensor::{DType, Tensor};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn open(prefix: &Path) -> Bundle {
    Bundle::open(Place::of_path(prefix), &Limits::default()).expect("bundle")
}

/// Writes every tensor of a bundle of one shard again, in the order in which they lie in the file.
fn rewrite(bundle: &Bundle, to: &Path) {
    let target = Target::new(to).expect("target");
    let mut writer = BundleWriter::new(&target, target.name()).expect("writer");
    let mut keys: Vec<&str> = bundle.keys().collect();
    keys.sort_by_key(|k| bundle.entry(k).map(|e| e.offset));
    for key in keys {
        let entry = bundle.entry(key).expect("entry");
        if entry.slices.is_empty() {
            writer.add(key, &bundle.tensor(key).expect("tensor")).expect("add");
        }
        let shape = bundle.variable(key).expect("variable").shape;
        for slice in &entry.slices {
            let slice = Slice::from_proto(slice).expect("slice");
            let tensor = bundle.tensor_slice(key, &slice).expect("slice");
            writer.add_slice(key, &shape, &slice, &tensor).expect("add");
        }
    }
    writer.finish().expect("finish");
    target.commit().expect("commit");
}

fn assert_same_files(a: &Path, b: &Path) {
    for suffix in [".data-00000-of-00001", ".index"] {
        let read = |p: &Path| std::fs::read(format!("{}{suffix}", p.display())).expect("read");
        assert!(read(a) == read(b), "{}{suffix}", a.display());
    }
}

#[test]
fn bundles_are_written_byte_for_byte() {
    let dir = tempfile::tempdir().expect("temp dir");
    for name in ["dtypes", "partitioned", "open_slices"] {
        let to = dir.path().join(name);
        rewrite(&open(&golden(name)), &to);
        assert_same_files(&golden(name), &to);
    }
}

#[test]
fn values_are_what_tensorflow_saved() {
    let b = open(&golden("dtypes"));
    let t = |key: &str| b.tensor(key).expect(key);
    for key in
        ["float64", "float32", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"]
    {
        let tensor = t(key);
        let dtype: DType = key.parse().expect("dtype");
        assert_eq!((tensor.dtype(), tensor.shape()), (dtype, &[2, 3][..]));
    }
    assert_eq!(*t("float32").elements::<f32>().expect("f32"), [-40.0, -23.0, -6.0, 11.0, 28.0, 45.0]);
    assert_eq!(*t("int16").elements::<i16>().expect("i16"), [-40, -23, -6, 11, 28, 45]);
    let int4: Vec<i8> = t("int4").bytes().expect("bytes").iter().map(|b| *b as i8).collect();
    assert_eq!(int4, [-8, -1, 0, 1, 2, 7]);
    assert_eq!(&**t("bool").bytes().expect("bytes"), [1, 0, 1, 0, 0, 1]);
    assert_eq!(t("complex64").elements::<modelark_tensor::Complex32>().expect("c64")[1].re, 1.0);
    let strings = t("string");
    let strings = strings.strings().expect("strings");
    assert_eq!((&*strings[1], strings[2].len(), &*strings[3]), (&b"a"[..], 300, "\0ÿ".as_bytes()));
    assert_eq!(t("empty").shape(), [0, 4]);
    assert_eq!(t("scalar").item::<i64>().expect("scalar"), 3);
}

#[test]
fn slices_and_shards_are_put_together() {
    let rows: Vec<f32> = (0..24).map(|i| i as f32).collect();
    for name in ["partitioned", "one_shard"] {
        let rows_read = open(&golden(name)).tensor("rows").expect("rows");
        assert_eq!((rows_read.shape(), rows_read.as_slice::<f32>().expect("f32")), (&[6, 4][..], &rows[..]));
    }
    let middle =
        open(&golden("open_slices")).tensor_slice("w", &"1,3:1,2".parse().expect("slice")).expect("slice");
    assert_eq!(middle.to_i64_vec().expect("ints"), [5, 6, 9, 10, 13, 14]);
    let b = open(&golden("sharded"));
    assert_eq!(b.num_shards(), 2);
    assert_eq!(b.tensor("y").expect("y").to_i64_vec().expect("ints"), [3, 4]);
    assert_eq!(*b.tensor("x").expect("x").elements::<f32>().expect("f32"), [1.0, 2.0]);
}

#[test]
fn v1_files_are_read_and_written_byte_for_byte() {
    let limits = Limits::default();
    let file = V1::open(&[Place::of_path(golden("v1"))], &limits).expect("v1");
    for key in ["float32", "int32", "uint8", "float16", "complex128"] {
        let (tensor, dtype) = (file.tensor(key).expect(key), key.parse::<DType>().expect("dtype"));
        assert_eq!((tensor.dtype(), tensor.shape()), (dtype, &[2, 3][..]));
    }
    assert_eq!(file.tensor("int8").expect("int8").to_i64_vec().expect("ints"), [-40, -23, -6, 11, 28, 45]);
    assert_eq!(file.tensor("scope/scalar").expect("scalar").item::<i64>().expect("i64"), -3);
    assert_eq!(file.tensor("string").expect("string").strings().expect("strings")[2].len(), 300);
    let parts = V1::open(&[Place::of_path(golden("partitioned_v1"))], &limits).expect("v1");
    let rows = parts.tensor("rows").expect("rows");
    assert!(rows.elements::<f32>().expect("f32").iter().enumerate().all(|(i, &v)| v == i as f32));

    let dir = tempfile::tempdir().expect("temp dir");
    let check = |name: &str, tensors: &[(Variable, Option<ShapeAndSlice>)]| {
        let target = Target::new(dir.path().join(name)).expect("target");
        v1::write(&target, name, tensors).expect("write");
        target.commit().expect("commit");
        let (ours, theirs) = (std::fs::read(dir.path().join(name)), std::fs::read(golden(name)));
        assert!(ours.expect("ours") == theirs.expect("theirs"), "{name}");
    };
    let whole: Vec<_> = file.keys().map(|k| (file.variable(k).expect("variable"), None)).collect();
    check("v1", &whole);
    let plain = (parts.variable("plain").expect("plain"), None);
    let thirds = (0..3).map(|i| {
        let data: Vec<f32> = (8 * i..8 * i + 8).map(|v| v as f32).collect();
        let part = format!("6 4 {},2:0,4", 2 * i).parse().expect("slice");
        (Variable::new("rows", Tensor::from_vec(data, [2, 4]).expect("tensor")), Some(part))
    });
    check("partitioned_v1", &std::iter::once(plain).chain(thirds).collect::<Vec<_>>());
}

#[test]
fn large_tables_have_tensorflows_bytes() {
    let dir = tempfile::tempdir().expect("temp dir");
    let target = Target::new(dir.path().join("many")).expect("target");
    let mut writer = BundleWriter::new(&target, "many").expect("writer");
    for i in 0..12000 {
        writer.add(&format!("block_{}/layer_{i}/kernel", i % 7), &Tensor::scalar(i)).expect("add");
    }
    writer.finish().expect("finish");
    target.commit().expect("commit");
    let target = Target::new(dir.path().join("large_v1")).expect("target");
    let variables: Vec<_> = [300000, 3, 100000, 70000, 5]
        .into_iter()
        .enumerate()
        .map(|(i, n)| {
            let data: Vec<f32> = (0..n as u64).map(|v| (v * (i as u64 + 1)) as f32).collect();
            (Variable::new(format!("v{i}"), Tensor::from_vec(data, [n]).expect("tensor")), None)
        })
        .collect();
    v1::write(&target, "large_v1", &variables).expect("write");
    target.commit().expect("commit");
    for line in std::fs::read_to_string(golden("sums.txt")).expect("sums").lines() {
        let (name, sums) = line.split_once(' ').expect("a name and sums");
        let bytes = std::fs::read(dir.path().join(name)).expect("read");
        assert_eq!(format!("{} {:#010x}", bytes.len(), crc32c::crc32c(&bytes)), sums, "{name}");
    }
    let many = open(&dir.path().join("many"));
    assert_eq!(many.tensor("block_3/layer_8823/kernel").expect("tensor").item::<i32>().expect("i32"), 8823);
    let large = V1::open(&[Place::of_path(dir.path().join("large_v1"))], &Limits::default()).expect("v1");
    assert_eq!(large.tensor("v3").expect("v3").as_slice::<f32>().expect("f32")[69999], 279996.0);
}
