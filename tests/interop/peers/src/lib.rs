//! `ENGINE MODEL.onnx INPUT.npy OUTPUT.npy`: calls a model as often as each line of standard input says, and prints how many
//! nanoseconds each call took, as the program `timed` does with Modelark.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::time::Instant;

use anyhow::{Context, Result};
use npyz::{NpyFile, WriterBuilder};

/// The input of a model.
pub enum Input {
    /// `float32`.
    Floats(Vec<usize>, Vec<f32>),
    /// `int32`.
    Integers(Vec<usize>, Vec<i32>),
}

/// A shape, and the elements of a model's output.
pub type Output = (Vec<usize>, Vec<f32>);

/// How many threads an engine is to use.
pub fn threads() -> Result<usize> {
    Ok(std::env::var("MODELARK_PEER_THREADS")?.parse()?)
}

/// Makes a model ready with `load`, writes what its first call gives, and calls it as often as it is told.
pub fn serve<Call: FnMut() -> Result<Output>>(load: impl FnOnce(&str, Input) -> Result<Call>) -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, given, written] = &arguments[..] else {
        anyhow::bail!("takes a model, an input and where to write the output");
    };
    let mut call = load(model, read(given)?)?;
    let (shape, elements) = call()?;
    let shape: Vec<u64> = shape.into_iter().map(|length| length as u64).collect();
    let file = BufWriter::new(File::create(written)?);
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd()?;
    writer.extend(elements)?;
    writer.finish()?;
    let mut timed = || -> Result<String> {
        let start = Instant::now();
        std::hint::black_box(call()?);
        Ok(start.elapsed().as_nanos().to_string())
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", timed()?)?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let times = (0..line?.trim().parse()?).map(|_| timed()).collect::<Result<Vec<_>>>()?;
        writeln!(out, "{}", times.join(" "))?;
        out.flush()?;
    }
    Ok(())
}

fn read(path: &str) -> Result<Input> {
    let file = || -> Result<_> { Ok(NpyFile::new(BufReader::new(File::open(path)?))?) };
    let shape = file()?.shape().iter().map(|&length| length as usize).collect();
    match file()?.into_vec() {
        Ok(floats) => Ok(Input::Floats(shape, floats)),
        Err(_) => Ok(Input::Integers(shape, file()?.into_vec().context("neither float32 nor int32")?)),
    }
}
