//! Every file that TensorFlow or Keras wrote gives what they gave.

use modelark_tests::{fixtures, forms};

#[test]
fn every_form_of_every_fixture_agrees_with_tensorflow() {
    let mut checked = 0;
    let mut failures = Vec::new();
    for case in fixtures::cases().expect("fixtures") {
        for form in forms::of(&case) {
            checked += 1;
            if let Err(wrong) = form.check(&case) {
                failures.push(format!("{} {}: {wrong}", case.name, form.label(&case)));
            }
        }
    }
    assert!(checked > 150, "only {checked} files");
    assert!(failures.is_empty(), "{} of {checked} failed:\n{}", failures.len(), failures.join("\n"));
}
