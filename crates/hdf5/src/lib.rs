//! HDF5 files as Keras uses them: groups, attributes of text and numbers, and datasets of plain elements.
//!
//! [`File`] reads bytes (mapped ones without copying them) in pure Rust, since the C library hangs on some damaged
//! files and follows links to other local files. [`Writer`] writes with the C library (feature `libhdf5`), or in pure
//! Rust without it, in the layout that h5py writes by default, so that any HDF5 reads it. Nothing here knows Keras.
#![forbid(unsafe_code)]

mod attribute;
mod datatype;
mod reader;
mod writer;

pub use attribute::Attribute;
pub use reader::{Dataset, File, Group, is_hdf5};
pub use writer::{Layout, Writer};
