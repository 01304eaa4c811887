//! Keras files: `.h5` (whole models and weights), `.weights.h5`, and the `.keras` archive.
//!
//! Three formats over one container, HDF5. The architecture passes through as JSON; no layer's class is known here.
//! Which weight goes where follows from the tree of objects that an architecture describes, by one naming function a
//! layout ([`H5`]: names of layers in order; [`WeightsH5`] and [`KerasArchive`]: paths of objects), which writing and
//! binding share.
#![forbid(unsafe_code)]

mod archive;
mod assign;
mod bins;
mod config;
mod h5;
mod held;
mod naming;
mod optimizer;
mod shards;
#[cfg(test)]
mod testing;
mod vocabulary;
mod weights;

pub use archive::KerasArchive;
pub use bins::learned_ranges;
pub use h5::{H5, bind_by_name};
pub use optimizer::infer_slots;
pub use weights::WeightsH5;

/// The formats of this crate.
pub fn formats() -> Vec<Box<dyn modelark_artifact::Format>> {
    // The archive comes first: the HDF5 file in it may lie where HDF5 itself looks for a file behind a user's block.
    vec![Box::new(KerasArchive), Box::new(H5), Box::new(WeightsH5)]
}
