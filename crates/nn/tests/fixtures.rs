//! Models that Keras wrote: read, bound, traced, run; written back in both dialects and read again.

mod common;

use common::{architectures, bind, cases, compare, goldens, registry};
use modelark_nn::Model;
use modelark_nn::artifact::Dialect;

const CASES: &[&str] = &[
    "mlp",
    "functional",
    "conv",
    "conv_groups",
    "nested",
    "custom",
    "custom_unregistered",
    "activations",
    "activation_layers",
    "deferred",
    "lstm",
    "lstm_one",
];

/// How far from Keras's outputs a sum of float32 products may be.
const TOLERANCE: f32 = 2e-5;

#[test]
fn outputs_are_keras_own() {
    for case in cases(CASES).into_iter().chain(goldens()) {
        for (file, architecture) in architectures(&case) {
            let place = case.join(&file);
            let mut model = Model::from_architecture(&architecture, &registry())
                .unwrap_or_else(|e| panic!("{}: {e}", place.display()));
            assert_eq!(model.unknown_keys(), Vec::<String>::new(), "{}", place.display());
            if !model.is_built() {
                model.build([None, Some(3)]).unwrap();
            }
            bind(&mut model, &case);
            let worst = compare(&model, &case);
            assert!(worst < TOLERANCE, "{}: {worst}", place.display());
        }
    }
}

#[test]
fn both_dialects_say_the_same_model() {
    for case in cases(CASES).into_iter().chain(goldens()) {
        for (file, architecture) in architectures(&case) {
            let place = case.join(&file).display().to_string();
            let mut model = Model::from_architecture(&architecture, &registry()).unwrap();
            if !model.is_built() {
                model.build([None, Some(3)]).unwrap();
            }
            let (same, report) = model.architecture(architecture.dialect).unwrap();
            assert_eq!((same, report.notes.len()), (architecture.clone(), 0), "{place}");
            let other =
                if architecture.dialect == Dialect::Keras3 { Dialect::Keras2 } else { Dialect::Keras3 };
            let (written, report) = model.architecture(other).unwrap();
            let mut again =
                Model::from_architecture(&written, &registry()).unwrap_or_else(|e| panic!("{place}: {e}"));
            assert_eq!(again.unknown_keys(), Vec::<String>::new(), "{place}");
            // What changes its meaning is said; everything else computes as before.
            let changed = report.notes.iter().any(|n| {
                ["hard_sigmoid", "has no activation", "alone has this class"].iter().any(|w| n.contains(w))
            });
            if !changed {
                bind(&mut again, &case);
                let worst = compare(&again, &case);
                assert!(worst < TOLERANCE, "{place} as {other}: {worst}");
            }
        }
    }
}
