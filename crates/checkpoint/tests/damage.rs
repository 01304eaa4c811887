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
