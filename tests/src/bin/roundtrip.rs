//! The cross-format matrix: every model from every format that it is in to every format that can hold it, in both
//! dialects, and back. Tensors are compared bit for bit, outputs with those that TensorFlow gave, configs key by key.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use modelark::artifact::Dialect;
use modelark_tests::matrix::{Cell, DIALECTS, Reference, TARGETS, Target};
use modelark_tests::models::{self, Source, Subject};
use modelark_tests::{Outcome, fixtures, forms};

const HELP: &str = "\
roundtrip [--only TEXT]... [--verbose]

  --only TEXT   only models whose name, or whose source, contains TEXT
  --verbose     tell what was compared in each cell
";

fn main() -> ExitCode {
    let (mut only, mut verbose) = (Vec::new(), false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), &mut args) {
            ("--only", rest) => only.extend(rest.next()),
            ("--verbose", _) => verbose = true,
            _ => {
                print!("{HELP}");
                return ExitCode::from(if arg == "--help" { 0 } else { 2 });
            }
        }
    }
    match run(&only, verbose) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(only: &[String], verbose: bool) -> Outcome<bool> {
    let chosen = |name: &str| only.is_empty() || only.iter().any(|text| name.contains(text.as_str()));
    let mut failures = Vec::new();

    let (mut read, mut forms_read) = (0, 0);
    for case in fixtures::cases()?.iter().filter(|c| chosen(&c.name)) {
        read += 1;
        for form in forms::of(case) {
            forms_read += 1;
            if let Err(wrong) = form.check(case) {
                failures.push(format!("{} {}: {wrong}", case.name, form.label(case)));
            }
        }
    }
    println!(
        "{read} fixtures: {forms_read} files read and compared with TensorFlow's answers, {} failed\n",
        failures.len()
    );

    let work = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut subjects = models::fixtures()?;
    match models::built(work.path()) {
        Ok(built) => subjects.extend(built),
        Err(wrong) => failures.push(wrong),
    }
    let rows: Vec<(&Subject, &Source)> = subjects
        .iter()
        .flat_map(|subject| subject.sources.iter().map(move |source| (subject, source)))
        .filter(|(subject, source)| chosen(&format!("{} {}", subject.name, source.label)))
        .collect();
    let results = all_rows(&rows);

    print!("{:<44}", "model, source");
    for target in TARGETS {
        print!("{:>13}", target.format);
    }
    println!("\n");
    let (mut passed, mut refused) = (0, 0);
    for ((subject, source), cells) in rows.iter().zip(&results) {
        print!("{:<44}", format!("{} {}", subject.name, source.label));
        if let [Cell::Failed(wrong)] = &**cells {
            failures.push(format!("{} {}: {wrong}", subject.name, source.label));
            println!("   FAILED as a source");
            continue;
        }
        for (target, cells) in TARGETS.iter().zip(cells.chunks(DIALECTS.len())) {
            let marks: Vec<&str> = cells.iter().map(mark).collect();
            print!("{:>13}", marks.join("/"));
            for (dialect, cell) in DIALECTS.iter().zip(cells) {
                match cell {
                    Cell::Passed(_) => passed += 1,
                    Cell::Refused(_) => refused += 1,
                    Cell::Failed(wrong) => failures.push(place(subject, source, target, *dialect, wrong)),
                }
            }
        }
        println!();
    }
    if verbose {
        for ((subject, source), cells) in rows.iter().zip(&results) {
            for (target, cells) in TARGETS.iter().zip(cells.chunks(DIALECTS.len())) {
                for (dialect, cell) in DIALECTS.iter().zip(cells) {
                    if let Cell::Passed(seen) | Cell::Refused(seen) = cell {
                        println!("{}", place(subject, source, target, *dialect, seen));
                    }
                }
            }
        }
    }
    println!(
        "\neach cell: Keras 2's dialect / Keras 3's; - where the source lacks what the target needs, and is told so"
    );
    println!(
        "compared: outputs with TensorFlow's, weights bit for bit, and back in the source's format every tensor's name and bits, and the config"
    );
    for failure in &failures {
        println!("FAILED {failure}");
    }
    let verdict = if failures.is_empty() { "passed" } else { "FAILED" };
    println!(
        "\n{} cells: {passed} passed, {refused} rightly refused; {} failures: {verdict}",
        results.iter().map(Vec::len).sum::<usize>(),
        failures.len()
    );
    Ok(failures.is_empty() && forms_read + results.len() > 0)
}

/// Every row's cells, several rows at a time.
fn all_rows(rows: &[(&Subject, &Source)]) -> Vec<Vec<Cell>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![Vec::new(); rows.len()]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((subject, source)) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let cells = row(subject, source);
                    let at = rows.iter().position(|r| std::ptr::eq(r.1, *source));
                    let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    if let Some(slot) = at.and_then(|at| results.get_mut(at)) {
                        *slot = cells;
                    }
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The cells of a row; one alone when the source itself isn't what it must be.
fn row(subject: &Subject, source: &Source) -> Vec<Cell> {
    let reference = match Reference::new(subject, source) {
        Ok(reference) => reference,
        Err(wrong) => return vec![Cell::Failed(wrong)],
    };
    let cells = TARGETS.iter().flat_map(|target| DIALECTS.iter().map(move |dialect| (target, *dialect)));
    cells
        .map(|(target, dialect)| match tempfile::tempdir() {
            Ok(folder) => reference.cell(target, dialect, folder.path()),
            Err(error) => Cell::Failed(error.to_string()),
        })
        .collect()
}

fn mark(cell: &Cell) -> &'static str {
    match cell {
        Cell::Passed(_) => "ok",
        Cell::Refused(_) => "-",
        Cell::Failed(_) => "FAIL",
    }
}

fn place(subject: &Subject, source: &Source, target: &Target, dialect: Dialect, what: &str) -> String {
    format!("{} {} -> {} {dialect:?}: {what}", subject.name, source.label, target.format)
}
