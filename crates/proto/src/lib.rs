//! Protocol buffer messages of TensorFlow's files, generated from the sources in `proto/` by
//! `cargo xtask proto`. Nothing here is written by hand but this page.
//!
//! TensorFlow's messages stand at the top level under TensorFlow's names: [`SavedModel`],
//! [`GraphDef`], [`BundleEntryProto`]. What is nested in a message, and the values of its `oneof`s,
//! are in a module of the message's name: [`tensor_shape_proto::Dim`], [`attr_value::Value`],
//! [`saved_object::Kind`]. What Keras 2 adds is in [`keras`].
//!
//! - Reading is [`Message::decode`], writing [`Message::encode_to_vec`].
//! - An enum field is an `i32`, so that a value from a newer version survives. `field()` gives the
//!   enum (its default when unknown) and `set_field` sets it.
//! - Maps are ordered by key: the same message always gives the same bytes.
//! - [`TensorProto::tensor_content`] is a [`bytes::Bytes`]: decoded from a `Bytes` it is a view into
//!   it, not a copy.
//! - [`GraphDef::node`], [`FunctionDef::node_def`] and [`FunctionDefLibrary::function`] are the encoded messages, views as
//!   well: a model has thousands, of which a caller decodes those that it needs.
//! - Fields that are not in the sources are dropped on reading.
//!
//! ```
//! use modelark_proto::{BundleHeaderProto, Message, TensorProto, VersionDef, bytes::Bytes};
//!
//! // The header record of every checkpoint with one data file.
//! let header = BundleHeaderProto::decode(&[0x08, 1, 0x1a, 2, 0x08, 1][..])?;
//! assert_eq!(header.num_shards, 1);
//! assert_eq!(header.version, Some(VersionDef { producer: 1, ..Default::default() }));
//!
//! let file = Bytes::from(vec![0x22, 4, 0, 0, 0x80, 0x3f]);
//! let tensor = TensorProto::decode(file.clone())?;
//! assert_eq!(tensor.tensor_content.as_ptr(), file[2..].as_ptr());
//! # Ok::<(), modelark_proto::DecodeError>(())
//! ```

#![forbid(unsafe_code)]

pub use generated::keras;
pub use generated::tensorflow::*;
pub use prost::{DecodeError, Message, bytes};
pub use prost_types::Any;

/// The descriptors of all messages, a `FileDescriptorSet`: for what works on any message, such as the text form.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    reason = "generated; what a message is for is documented, its fields are TensorFlow's"
)]
#[rustfmt::skip]
mod generated {
    pub mod keras;
    pub mod tensorflow;
}
