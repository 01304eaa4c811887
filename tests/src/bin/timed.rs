//! `timed MODEL INPUT.npy OUTPUT.npy`: calls a model as often as each line of standard input says, and prints how many
//! nanoseconds each call took. One call comes before, whose output is written.

#![forbid(unsafe_code)]

use std::io::{BufRead, Write};
use std::time::Instant;

use modelark::json::{Arrays, npy};
use modelark::tensor::Tensor;
use modelark::{Limits, Place};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, given, written] = &arguments[..] else {
        return Err("takes a model, an input and where to write the output".into());
    };
    let bytes = Place::of_path(given).open()?;
    let arrays = Arrays::Npy.read_bytes(&bytes, &Limits::default())?;
    let loaded: Result<Vec<Tensor>, modelark::Error> =
        arrays.paths().into_iter().map(|(_, variable)| variable.load()).collect();
    let inputs = loaded?;
    let function = modelark::load(model)?.default_function()?;
    let outputs = function.call(&inputs)?;
    let first = outputs.first().ok_or("the model has no output")?;
    let mut file = std::fs::File::create(written)?;
    npy::write(first, &mut file)?;
    let mut out = std::io::stdout().lock();
    let call = || -> Outcome<u128> {
        let start = Instant::now();
        std::hint::black_box(function.call(&inputs)?);
        Ok(start.elapsed().as_nanos())
    };
    writeln!(out, "{}", call()?)?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let count: usize = line?.trim().parse()?;
        let times = (0..count).map(|_| call()).collect::<Outcome<Vec<_>>>()?;
        let times: Vec<String> = times.iter().map(u128::to_string).collect();
        writeln!(out, "{}", times.join(" "))?;
        out.flush()?;
    }
    Ok(())
}
