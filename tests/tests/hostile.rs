//! Damaged files are read or refused, soon; what fuzzers found once stays mended. `cargo xtask hostile` and
//! `cargo xtask fuzz` go further.

use std::fs;
use std::path::Path;
use std::time::Instant;

use modelark_tests::hostile::{PATIENCE, Random, TARGETS, Target, mutate};

/// Ends with the model or an error, or the test fails.
fn survive(target: &Target, bytes: &[u8], what: &str) -> bool {
    let start = Instant::now();
    let outcome = target.run(bytes);
    assert!(start.elapsed() < PATIENCE, "{}: {what} took {:?}", target.name, start.elapsed());
    if let Err(e) = &outcome {
        assert!(!e.to_string().is_empty(), "{}: {what} is refused without a word", target.name);
    }
    outcome.is_ok()
}

#[test]
fn damaged_files_are_read_or_refused() {
    for target in TARGETS {
        let seeds = target.seeds();
        let mut random = Random::new(11);
        let mut refused = 0;
        for number in 0..60 {
            let (at, other) = (random.below(seeds.len()), random.below(seeds.len()));
            let bytes = mutate(&seeds[at], &seeds[other], &mut random);
            refused += usize::from(!survive(target, &bytes, &format!("damaged file {number}")));
        }
        assert!(refused > 0, "{}: no damage was noticed", target.name);
    }
}

#[test]
fn what_was_found_once_stays_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions");
    for entry in fs::read_dir(&folder).expect("regressions").flatten() {
        let name = entry.file_name().into_string().expect("UTF-8");
        let Some(target) = Target::of(&name) else { continue };
        for find in fs::read_dir(entry.path()).expect("finds").flatten() {
            let bytes = fs::read(find.path()).expect("find");
            survive(target, &bytes, &find.file_name().to_string_lossy());
        }
    }
}
