//! The parsers of `modelark_tests::hostile` as targets for libFuzzer; `cargo xtask fuzz` runs them.

pub use libfuzzer_sys::fuzz_target;
pub use modelark_tests::hostile::Target;

/// A fuzz target for the parser of this name.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::fuzz_target!(|data: &[u8]| {
            // Errors are what hostile bytes should give.
            let _ = $crate::Target::of($name).expect("a target").run(data);
        });
    };
}
