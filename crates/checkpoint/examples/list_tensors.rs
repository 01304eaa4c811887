//! Lists the tensors of a checkpoint: key, dtype, shape, and where a bundle keeps them.
//!
//! `cargo run -p modelark-checkpoint --example list_tensors -- training/model.ckpt-1000`

use modelark_artifact::{Error, Limits, Place, Result};
use modelark_checkpoint::Reader;

fn main() -> Result<()> {
    let path = std::env::args().nth(1).ok_or_else(|| Error::invalid("name a checkpoint"))?;
    let reader = Reader::open(&Place::of_path(path), &Limits::default())?;
    for variable in reader.variables()? {
        let at = match &reader {
            Reader::Bundle(b) => {
                b.entry(&variable.name).map(|e| format!(" at byte {} of shard {}", e.offset, e.shard_id))
            }
            Reader::V1(_) => None,
        };
        println!("{} {} {:?}{}", variable.name, variable.dtype, variable.shape, at.unwrap_or_default());
    }
    Ok(())
}
