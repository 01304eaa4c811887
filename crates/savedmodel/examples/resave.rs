//! Reads SavedModels and saves them again: `resave FROM TO [FROM TO]...`.

use modelark_artifact::{Format, Limits, Place, SaveOptions, Target};
use modelark_savedmodel::SavedModelFormat;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    for pair in args.chunks_exact(2) {
        match resave(&pair[0], &pair[1]) {
            Ok(()) => println!("ok {} -> {}", pair[0], pair[1]),
            Err(e) => println!("FAILED {}: {e}", pair[0]),
        }
    }
}

fn resave(from: &str, to: &str) -> modelark_artifact::Result<()> {
    let format = SavedModelFormat::default();
    let artifact = format.read(&Place::of_path(from), &Limits::default())?;
    let target = Target::new(to)?;
    format.write(&artifact, &target, &SaveOptions::default())?;
    target.commit()
}
