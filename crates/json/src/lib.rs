//! An architecture as JSON or YAML, weights as .npy or .npz, and pickled weight lists; `.safetensors` too.
//!
//! What Python calls `model.to_json()` and `model.get_weights()`, in the files that people put them into. Arrays that
//! lie in a file as tensors have them are mapped, not copied. A pickle is read as data: see [`pickle`].
#![forbid(unsafe_code)]

use modelark_artifact::Format;

pub mod architecture;
pub mod array;
mod arrays;
mod json_npy;
pub mod literal;
pub mod npy;
pub mod npz;
pub mod order;
pub mod pickle;
pub mod safetensors;
pub mod weights;
pub mod yaml;

pub use arrays::Arrays;
pub use json_npy::Json;
pub use yaml::Yaml;

/// The formats of this crate, in the order in which content is probed.
pub fn formats() -> Vec<Box<dyn Format>> {
    let json = Json::ALL.into_iter().map(|f| Box::new(f) as Box<dyn Format>);
    let json = json.chain([Box::new(Yaml) as Box<dyn Format>]);
    json.chain(Arrays::ALL.into_iter().map(|f| Box::new(f) as Box<dyn Format>)).collect()
}
