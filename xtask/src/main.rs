//! Every recurring task of the workspace, as a table of verbs.
//!
//! `cargo xtask VERB` runs one; without a verb it prints the table. A verb is a file of its own
//! and a line in [`VERBS`].

#![forbid(unsafe_code)]

mod bench;
mod ci;
mod crash;
mod fuzz;
mod hostile;
mod interop;
mod proto;
mod roundtrip;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use workspace::Outcome;

/// Name, function, help.
type Verb = (&'static str, fn(&[String]) -> Outcome, &'static str);

const VERBS: &[Verb] = &[
    ("bench", bench::run, "benchmarks of the crates, and figures beside those of Python with TensorFlow"),
    ("ci", ci::run, "everything that must hold before a change lands, but for the tests"),
    ("crash", crash::run, "kill saves at random moments: the old model is there, or the new one"),
    ("fuzz", fuzz::run, "every parser under a fuzzer for some seconds; needs nightly and cargo-fuzz"),
    (
        "hostile",
        hostile::run,
        "damaged files of every format: each is read or refused, soon, in little memory",
    ),
    ("interop", interop::run, "real TensorFlow and Keras load what Modelark wrote, and the other way round"),
    ("proto", proto::run, "generate crates/proto from proto/; --check compares instead"),
    ("roundtrip", roundtrip::run, "the main job: models through every source and target format, compared"),
    ("test", test::run, "all tests, and each format of the facade built alone"),
    ("tidy", tidy::run, "the rules that compilers don't know: arrows, sizes, links"),
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let Some((_, run, _)) = VERBS.iter().find(|(verb, ..)| *verb == name) else {
        eprintln!("usage: cargo xtask VERB [ARGS]\n");
        for (verb, _, help) in VERBS {
            eprintln!("  {verb:<10} {help}");
        }
        return ExitCode::from(2);
    };
    match run(&args.collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error}");
            ExitCode::FAILURE
        }
    }
}
