//! Damaged files give errors, never panics, whatever is damaged and whether or not checksums are compared.

use std::path::Path;

use modelark_artifact::{Format, Kind, Limits, Memory, Objects, Place};
use modelark_checkpoint::slice::Slice;
use modelark_checkpoint::{Checkpoint, Reader};
use proptest::prelude::*;

const CASES: &[&[&str]] = &[
    &["dtypes.index", "dtypes.data-00000-of-00001"],
    &["partitioned.index", "partitioned.data-00000-of-00001"],
    &["sharded.index", "sharded.data-00000-of-00002", "sharded.data-00001-of-00002"],
    &["keras2_adam.index", "keras2_adam.data-00000-of-00001"],
    &["keras2_legacy_adam.index", "keras2_legacy_adam.data-00000-of-00001"],
    &["v1"],
    &["partitioned_v1"],
];

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).expect("golden")
}

/// Reads all that can be read of it.
fn read_all(files: Memory, name: &str, verify: bool) {
    let place = Place::in_memory(files, name);
    let mut limits = Limits::default();
    limits.verify = verify;
    limits.tensor_bytes = 1 << 20;
    let _ = Checkpoint.detect(&place);
    if let Ok(reader) = Reader::open(&place, &limits) {
        for key in reader.keys() {
            let _ = reader.tensor(key);
            if let Reader::Bundle(bundle) = &reader {
                let part: Slice = "1,1:-".parse().expect("slice");
                let _ = bundle.tensor_slice(key, &part);
            }
        }
    }
    if let Ok(artifact) = Checkpoint.read(&place, &limits) {
        let mut model = Objects::default();
        model.add(Objects::ROOT, "layer_with_weights-0", Kind::object());
        let _ = Checkpoint.bind(&mut model, &artifact);
    }
}

proptest! {
    #[test]
    fn no_damage_panics(
        case in 0..CASES.len(),
        which in any::<prop::sample::Index>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        verify in any::<bool>(),
    ) {
        let names = CASES[case];
        let damaged = which.get(names);
        let mut files = Memory::new();
        for name in names {
            let mut bytes = golden(name);
            if name == damaged {
                for (at, byte) in &edits {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                if let Some(cut) = cut {
                    bytes.truncate(cut.index(bytes.len()));
                }
            }
            files.insert(*name, bytes);
        }
        read_all(files, names[0], verify);
    }
}

/// Whether anything is said against the checkpoint when all of it is read.
fn is_noticed(files: Memory) -> bool {
    let Ok(reader) = Reader::open(&Place::in_memory(files, "keras2_adam"), &Limits::default()) else {
        return true;
    };
    reader.keys().into_iter().any(|key| reader.tensor(key).is_err())
}

#[test]
fn a_flip_of_any_byte_is_noticed() {
    let (index, data) = ("keras2_adam.index", "keras2_adam.data-00000-of-00001");
    let whole = [(index, golden(index)), (data, golden(data))];
    let with = |damaged: &str, at: usize, bit: usize| {
        let mut files = Memory::new();
        for (name, bytes) in &whole {
            let mut bytes = bytes.clone();
            if *name == damaged {
                bytes[at] ^= 1 << bit;
            }
            files.insert(*name, bytes);
        }
        files
    };
    for at in 0..whole[1].1.len() {
        assert!(is_noticed(with(data, at, at % 8)), "byte {at} of the data");
    }
    // The footer's handles are followed by zeros that mean nothing, and one handle leads to a block without content.
    let end = whole[0].1.len() - 48;
    for at in 0..end {
        let unused = !is_noticed(with(index, at, at % 8));
        assert!(!unused || at + 13 + 30 > end, "byte {at} of {end} of the index");
    }
}
