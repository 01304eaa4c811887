//! Every model through every format: what TensorFlow and Keras wrote (`fixtures/`), what Rust built, and what they
//! must hold and give, whichever way they went.
#![forbid(unsafe_code)]

pub mod compare;
pub mod crash;
pub mod fixtures;
pub mod forms;
pub mod gated;
pub mod hostile;
pub mod matrix;
pub mod models;

/// What a comparison ends with: what was compared, or what is wrong.
pub type Outcome<T = String> = Result<T, String>;
