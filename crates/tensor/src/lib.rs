//! Tensors: dtypes, shapes, shared or mapped storage, and the math kernels.
//!
//! A [`Tensor`] is a dtype, a shape and elements in C order. Cloning one is cheap: elements are shared
//! and copied only when somebody writes to a shared tensor. Elements may lie in memory of this process or
//! in a mapped file; nothing here knows which file, nor what the tensor is for.
//!
//! ```
//! use modelark_tensor::{DType, Tensor};
//!
//! let t = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0], [2, 2])?;
//! assert_eq!(t.dtype(), DType::F32);
//! assert_eq!(t.shape(), &[2, 2]);
//! assert_eq!(t.to_array::<f32>()?[[1, 0]], 3.0);
//! # Ok::<(), modelark_tensor::Error>(())
//! ```

mod array;
mod bytes;
mod dtype;
mod element;
mod error;
pub mod kernels;
pub mod memory;
mod shape;
mod tensor;

pub use bytes::SharedBytes;
pub use dtype::DType;
pub use element::{Bool, Element};
pub use error::{Error, ErrorKind, Result};
pub use half::{bf16, f16};
pub use num_complex::{Complex32, Complex64};
pub use shape::{PartialShape, Shape, checked_elements, contiguous_strides};
pub use tensor::{ByteString, Tensor};
