//! Damages files of every format in many ways, and reads what comes of it.

#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use modelark_tests::hostile::{PATIENCE, Random, TARGETS, Target, mutate};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const HELP: &str = "\
hostile [--files N] [--seed N] [--only TARGET]... [--keep FOLDER]
hostile --seeds TARGET FOLDER
hostile --targets
hostile TARGET FILE...

  --files N      how many damaged files to read, shared by the targets (default 1000)
  --seed N       where chance starts from (default 1)
  --only TARGET  only this parser
  --keep FOLDER  where to write files that are finds
  --seeds        write whole files to start a fuzzer from
  --targets      list the parsers, each with its dictionary
";

/// More memory than this for one file is a find: twice what the limits allow, and what the program itself takes.
const MOST_MEMORY: usize = 512 << 20;

#[derive(Default)]
struct Tally {
    files: usize,
    read: usize,
    refused: usize,
    placed: usize,
    panics: usize,
    slow: usize,
    large: usize,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--seeds", target, folder] => seeds(target, folder),
        ["--targets"] => {
            TARGETS.iter().for_each(|t| println!("{} {}", t.name, t.dictionary));
            Ok(true)
        }
        [target, ..] if Target::of(target).is_some() => replay(target, &args[1..]),
        _ => campaign(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn seeds(target: &str, folder: &str) -> Result<bool, String> {
    let target = Target::of(target).ok_or_else(|| format!("there is no target {target:?}"))?;
    std::fs::create_dir_all(folder).map_err(|e| format!("{folder}: {e}"))?;
    for (i, seed) in target.seeds().iter().enumerate() {
        std::fs::write(PathBuf::from(folder).join(format!("seed-{i:03}")), seed)
            .map_err(|e| format!("{folder}: {e}"))?;
    }
    Ok(true)
}

fn replay(target: &str, files: &[String]) -> Result<bool, String> {
    let target = Target::of(target).ok_or_else(|| format!("there is no target {target:?}"))?;
    for file in files {
        let bytes = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
        match target.run(&bytes) {
            Ok(()) => println!("{file}: read"),
            Err(e) => println!("{file}: {e}"),
        }
    }
    Ok(true)
}

fn campaign(args: &[String]) -> Result<bool, String> {
    let (mut files, mut seed, mut only, mut keep) = (1000usize, 1u64, Vec::new(), None);
    let mut rest = args.iter();
    while let Some(flag) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| HELP.to_owned());
        match flag.as_str() {
            "--files" => files = value()?.parse().map_err(|_| HELP.to_owned())?,
            "--seed" => seed = value()?.parse().map_err(|_| HELP.to_owned())?,
            "--only" => only.push(value()?.clone()),
            "--keep" => keep = Some(PathBuf::from(value()?)),
            _ => return Err(HELP.to_owned()),
        }
    }
    let chosen: Vec<&Target> =
        TARGETS.iter().filter(|t| only.is_empty() || only.iter().any(|o| o == t.name)).collect();
    if chosen.is_empty() {
        return Err(format!(
            "there is no such target; there are {}",
            TARGETS.iter().map(|t| t.name).collect::<Vec<_>>().join(", ")
        ));
    }
    // A panic is counted, and told with its file below.
    std::panic::set_hook(Box::new(|_| {}));
    println!(
        "{:<16} {:>6} {:>6} {:>8} {:>8} {:>7} {:>5} {:>6}",
        "target", "files", "read", "refused", "placed", "panics", "slow", "large"
    );
    let mut whole = true;
    for target in &chosen {
        let tally = torture(target, files / chosen.len(), seed, keep.as_deref());
        let placed = 100.0 * tally.placed as f64 / tally.refused.max(1) as f64;
        println!(
            "{:<16} {:>6} {:>6} {:>8} {:>7.1}% {:>7} {:>5} {:>6}",
            target.name,
            tally.files,
            tally.read,
            tally.refused,
            placed,
            tally.panics,
            tally.slow,
            tally.large
        );
        whole &= tally.panics + tally.slow + tally.large == 0;
    }
    Ok(whole)
}

fn torture(target: &Target, files: usize, seed: u64, keep: Option<&std::path::Path>) -> Tally {
    let seeds = target.seeds();
    let mut random = Random::new(seed);
    let mut tally = Tally::default();
    for number in 0..files {
        let (Some(file), Some(other)) =
            (seeds.get(random.below(seeds.len())), seeds.get(random.below(seeds.len())))
        else {
            break;
        };
        let bytes = mutate(file, other, &mut random);
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| target.run(&bytes)));
        let mut finds = Vec::new();
        tally.files += 1;
        match outcome {
            Ok(Ok(())) => tally.read += 1,
            Ok(Err(e)) => {
                tally.refused += 1;
                // What a run met is told in its text.
                let named = e.file().is_some() || e.to_string().contains(target.file);
                tally.placed += usize::from(named);
            }
            Err(_) => {
                tally.panics += 1;
                finds.push("a panic".to_owned());
            }
        }
        if start.elapsed() > PATIENCE {
            tally.slow += 1;
            finds.push(format!("{:?}", start.elapsed()));
        }
        let used = MEMORY.peak_usage().saturating_sub(before);
        if used > MOST_MEMORY {
            tally.large += 1;
            finds.push(format!("{} MB", used >> 20));
        }
        if !finds.is_empty() {
            println!("  {} file {number} of seed {seed}: {}", target.name, finds.join(", "));
            if let Some(folder) = keep {
                let path = folder.join(format!("{}-{seed}-{number}", target.name));
                if let Err(e) = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, &bytes)) {
                    println!("  {}: {e}", path.display());
                }
            }
        }
    }
    tally
}
