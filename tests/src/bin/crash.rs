//! Kills saves at random moments, and lets them meet a full disk, in every format, and looks at what they leave.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use modelark_tests::{Outcome, crash};

const HELP: &str = "\
crash [--kills N] [--seed N]

  --kills N   how many saves to kill in all, over all formats (default 70)
  --seed N    where the moments start from (default 1)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, folder, target] = &args[..]
        && flag == "--child"
    {
        return report(crash::save_for_ever(Path::new(folder), target).map(|()| true));
    }
    if let [flag, folder, target] = &args[..]
        && flag == "--once"
    {
        return report(crash::save_once(Path::new(folder), target).map(|()| true));
    }
    let number = |name: &str, default: u64| match args.iter().position(|a| a == name) {
        Some(at) => args.get(at + 1).and_then(|n| n.parse().ok()),
        None => Some(default),
    };
    match (number("--kills", 70), number("--seed", 1)) {
        (Some(kills), Some(seed)) if !args.iter().any(|a| a == "--help") => report(run(kills, seed)),
        _ => {
            print!("{HELP}");
            ExitCode::from(2)
        }
    }
}

fn report(outcome: Outcome<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(kills: u64, seed: u64) -> Outcome<bool> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let (mut passed, mut failed, mut state) = (0, 0, seed);
    let folders: Vec<tempfile::TempDir> = crash::TARGETS
        .iter()
        .map(|_| tempfile::tempdir().map_err(|e| e.to_string()))
        .collect::<Result<_, _>>()?;
    for kill in 0..kills {
        let at = kill as usize % crash::TARGETS.len();
        let (target, folder) = (crash::TARGETS[at], folders[at].path());
        // A linear congruence is random enough for moments.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = Duration::from_micros((state >> 33) % 60_000);
        match crash::kill(&program, folder, target, after) {
            Ok(_) => passed += 1,
            Err(wrong) => {
                failed += 1;
                println!("{target}, killed after {after:?}: {wrong}");
            }
        }
    }
    for target in crash::TARGETS {
        for blocks in [0, 1, 8, 64, 256] {
            let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
            match crash::fill(&program, folder.path(), target, blocks) {
                Ok(_) => passed += 1,
                Err(wrong) => {
                    failed += 1;
                    println!("{target}, on a disk with {blocks} blocks free: {wrong}");
                }
            }
        }
    }
    // Of any number of killed saves no more is left than of the last: each clears up after the one before.
    for (target, folder) in crash::TARGETS.iter().zip(&folders) {
        let left = crash::left_over(folder.path(), target)?;
        if left.len() > 2 {
            failed += 1;
            println!("{target}: left over are {}", left.join(", "));
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}
