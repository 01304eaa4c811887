//! `cargo xtask ci`: every check but the tests, one after another, and a verdict.

use std::time::{Duration, Instant};

use crate::workspace::{Outcome, cargo};
use crate::{proto, roundtrip, tidy};

type Step = (&'static str, fn() -> Outcome);

/// Cheap ones first: what fails early is seen early.
const STEPS: &[Step] = &[
    ("tidy", || tidy::run(&[])),
    ("proto --check", proto::check),
    ("fmt", || cargo(&["fmt", "--all", "--check"], &[])),
    ("clippy", || {
        let lint = ["clippy", "--workspace", "--all-targets", "--quiet"];
        cargo(&[&lint[..], &["--", "-D", "warnings"]].concat(), &[])
    }),
    ("doc", || {
        let doc = ["doc", "--workspace", "--no-deps", "--quiet"];
        cargo(&doc, &[("RUSTDOCFLAGS", "-D warnings")])
    }),
    ("roundtrip", || roundtrip::run(&[])),
];

/// Runs every step, also after one failed, and fails if any did.
pub fn run(args: &[String]) -> Outcome {
    if let Some(arg) = args.first() {
        return Err(format!("takes no arguments, got {arg}").into());
    }
    let mut results = Vec::new();
    for (name, step) in STEPS {
        eprintln!("== {name}");
        let start = Instant::now();
        let outcome = step().map_err(|error| error.to_string());
        if let Err(error) = &outcome {
            eprintln!("{error}");
        }
        results.push((*name, start.elapsed(), outcome.is_ok()));
    }
    print!("{}", table(&results));
    let failed: Vec<&str> = results.iter().filter(|(.., passed)| !passed).map(|(name, ..)| *name).collect();
    if failed.is_empty() {
        println!("all {} steps passed", results.len());
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")).into())
    }
}

fn table(results: &[(&str, Duration, bool)]) -> String {
    let mut text = format!("\n{:<16} {:>8}  verdict\n", "step", "seconds");
    for (name, time, passed) in results {
        let verdict = if *passed { "passed" } else { "FAILED" };
        text += &format!("{name:<16} {:>8.1}  {verdict}\n", time.as_secs_f64());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_what_failed_and_how_long_it_took() {
        let text = table(&[("fmt", Duration::from_millis(1250), true), ("doc", Duration::ZERO, false)]);
        assert!(text.contains("fmt                   1.2  passed\n"), "{text}");
        assert!(text.contains("doc                   0.0  FAILED\n"), "{text}");
    }
}
