//! Saves that are killed: whatever the moment, what is at the path is the model before or the model after.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use modelark::nn::Sequential;
use modelark::nn::layers::{Dense, InputLayer};
use modelark::{Model, Tensor};

use crate::Outcome;

/// What is saved to, by the name of the file or folder.
pub const TARGETS: &[&str] = &[
    "saved_model",
    "model.h5",
    "model.keras",
    "checkpoint/ckpt",
    "model.json",
    "weights.npz",
    "model.weights.h5",
];

/// How many doubles each of the model's three layers has along each side.
const WIDTH: usize = 200;

/// The path of a target in a folder.
fn path(folder: &Path, target: &str) -> PathBuf {
    folder.join(target)
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// The model that is saved.
fn model() -> Outcome<Model> {
    let layer = || Dense::new(WIDTH);
    let layers = Sequential::new("m").add(InputLayer::new([WIDTH])).add(layer()).add(layer()).add(layer());
    Model::from_layers(layers.build().map_err(text)?).map_err(text)
}

/// Saves the model with all its weights set to a number.
fn save(model: &Model, folder: &Path, target: &str, number: u32) -> Outcome<()> {
    for name in model.variables() {
        let shape = model.variable(name).map_err(text)?.shape().to_vec();
        let value = Tensor::full(number as f32, shape).map_err(text)?;
        model.assign(name, value).map_err(text)?;
    }
    model.save(path(folder, target)).map(drop).map_err(text)
}

/// Saves a model to the target, with all its weights set to 2.
///
/// # Errors
/// When the save fails.
pub fn save_once(folder: &Path, target: &str) -> Outcome<()> {
    save(&model()?, folder, target, 2)
}

/// Saves a model to the target again and again, each time with all its weights set to the number of the save, and tells
/// each number on the standard output when the save is done.
///
/// # Errors
/// When a save fails. It ends by being killed.
pub fn save_for_ever(folder: &Path, target: &str) -> Outcome<()> {
    let model = model()?;
    for round in 0u32.. {
        save(&model, folder, target, round)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{round}").and_then(|()| out.flush()).map_err(text)?;
    }
    Ok(())
}

/// Lets `program` (which runs [`save_once`]) save over a model where no file may grow beyond so many blocks, which is what
/// a disk that gets full does to it; then looks at what is there.
///
/// # Errors
/// When the save says that it went well though it can't have, or leaves anything but the model before.
#[cfg(unix)]
pub fn fill(program: &Path, folder: &Path, target: &str, blocks: usize) -> Outcome {
    save(&model()?, folder, target, 1)?;
    let out = Command::new("sh")
        // Without the trap the signal kills; with it, writing fails as it does on a full disk.
        .args(["-c", "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"", "sh", &blocks.to_string()])
        .arg(program)
        .args(["--once".as_ref(), folder.as_os_str(), target.as_ref()])
        .output()
        .map_err(text)?;
    if out.status.success() {
        return Err("the save went well".to_owned());
    }
    let error = String::from_utf8_lossy(&out.stderr);
    if out.status.code() != Some(1) || error.contains("panicked") {
        return Err(format!("the save ended with {}: {error}", out.status));
    }
    let left = left_over(folder, target)?;
    if !left.is_empty() {
        return Err(format!("left over are {}", left.join(", ")));
    }
    match check(&path(folder, target))? {
        1 => Ok(error.trim().to_owned()),
        other => Err(format!("save {other} is there, though it failed")),
    }
}

/// Lets `program` (which runs [`save_for_ever`] on its two arguments) save into `folder` until it is killed some time
/// after its first save; then looks at what is there.
///
/// # Errors
/// When that is neither the last model whose save was done nor the one after, or a part of each.
pub fn kill(program: &Path, folder: &Path, target: &str, after: Duration) -> Outcome {
    let mut child = Command::new(program)
        .args(["--child".as_ref(), folder.as_os_str(), target.as_ref()])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(text)?;
    let (send, done) = mpsc::channel();
    let out = child.stdout.take().ok_or("the child has no output")?;
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(out).lines().map_while(Result::ok);
        for round in lines.filter_map(|l| l.parse::<u32>().ok()) {
            // Nobody listens any more once the child is killed.
            let _ = send.send(round);
        }
    });
    let first = done.recv_timeout(Duration::from_secs(60)).map_err(|e| format!("no save was done: {e}"));
    std::thread::sleep(after);
    child.kill().and_then(|()| child.wait()).map_err(text)?;
    reader.join().map_err(|_| "the reader panicked")?;
    let last = done.try_iter().last().map_or(first, Ok)?;
    let found = check(&path(folder, target)).map_err(|e| format!("after save {last}: {e}"))?;
    if found != last && found != last + 1 {
        return Err(format!("save {last} was done, but save {found} is there"));
    }
    Ok(format!("save {found}"))
}

/// The number of the save that made the model at the path, which must be one for all its weights.
fn check(path: &Path) -> Outcome<u32> {
    let artifact = modelark::open(path).map_err(text)?;
    let mut rounds = Vec::new();
    for (_, name, variable) in artifact.objects.variables() {
        // Counters that the format adds aren't the model's weights.
        if variable.dtype != modelark::DType::F32 {
            continue;
        }
        let tensor = variable.load().map_err(|e| format!("{name}: {e}"))?;
        rounds.extend(tensor.elements::<f32>().map_err(text)?.iter().copied());
    }
    let first = rounds.first().copied().ok_or("there are no weights")?;
    match rounds.iter().find(|r| **r != first) {
        Some(other) => Err(format!("weights of save {first} and of save {other} are mixed")),
        None => Ok(first as u32),
    }
}

/// What is left of killed saves beside the target.
///
/// # Errors
/// When the folder can't be read.
pub fn left_over(folder: &Path, target: &str) -> Outcome<Vec<String>> {
    let path = path(folder, target);
    let parent = path.parent().ok_or("a target has a folder")?;
    let names = std::fs::read_dir(parent).map_err(text)?.flatten();
    let names = names.filter_map(|e| e.file_name().into_string().ok());
    Ok(names.filter(|n| n.starts_with(modelark::artifact::STAGING_PREFIX)).collect())
}
