//! One model called from many threads gives the same numbers as from one; loads and saves of different models don't
//! disturb each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use modelark::Tensor;
use modelark_tests::{fixtures, forms};

/// Models of all kinds: plain ones, recurrent ones (loops, lists), tables and strings.
const CASES: &[(&str, &str)] = &[
    ("tf221/mlp", "model.keras"),
    ("tf221/mlp", "export"),
    ("tf215/mlp", "model_save"),
    ("tf215/lstm", "model.h5"),
    ("tf215/lstm", "export"),
    ("tf221/conv", "model.keras"),
];

#[test]
fn one_model_serves_many_threads() {
    for (case, file) in CASES {
        let case = fixtures::case(case).expect("fixture");
        let model = modelark::load(case.path(file)).expect("loads");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        forms::predicts(&case, &model).unwrap_or_else(|e| panic!("{file}: {e}"));
                    }
                });
            }
        });
    }
}

#[test]
fn a_variable_that_changes_is_old_or_new() {
    let case = fixtures::case("tf221/mlp").expect("fixture");
    let model = modelark::load(case.path("export")).expect("loads");
    let is_bias = |v: &&str| model.variable(v).is_ok_and(|v| v.shape() == [5]);
    let name = model.variables().find(is_bias).expect("a bias").to_owned();
    let old = model.variable(&name).expect("value");
    let shape = old.shape().to_vec();
    let answers = || -> Vec<u8> {
        let inputs = case.inputs().expect("inputs");
        let outputs = model.predict(inputs).expect("answers");
        outputs.iter().flat_map(|(_, t)| t.bytes().expect("numbers").to_vec()).collect()
    };
    let before = answers();
    let new = Tensor::full(3f32, shape).expect("tensor");
    model.assign(&name, new.clone()).expect("assigned");
    let after = answers();
    assert_ne!(before, after);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seen = answers();
                    assert!(seen == before || seen == after, "a mixture of both");
                }
            });
        }
        for round in 0..50 {
            let value = if round % 2 == 0 { &old } else { &new };
            model.assign(&name, value.clone()).expect("assigned");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn loads_and_saves_run_side_by_side() {
    let folder = tempfile::tempdir().expect("folder");
    thread::scope(|scope| {
        for (i, (case, file)) in CASES.iter().enumerate() {
            let folder = folder.path();
            scope.spawn(move || {
                let case = fixtures::case(case).expect("fixture");
                for round in 0..4 {
                    let model = modelark::load(case.path(file)).expect("loads");
                    let name = if model.layers().is_some() && round % 2 == 0 {
                        format!("{i}.keras")
                    } else {
                        format!("{i}")
                    };
                    let path = folder.join(name);
                    model.save(&path).expect("saved");
                    forms::predicts(&case, &modelark::load(&path).expect("loads")).expect("answers");
                }
            });
        }
    });
}
