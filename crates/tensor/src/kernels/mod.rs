//! The math kernels: pure functions over tensors, with TensorFlow's numerics.
//!
//! [`elementwise`] holds what works element by element, with broadcasting; [`matmul`] products of matrices;
//! [`reduce`] what combines elements along axes, and running sums; [`mod@array`] what only moves elements, and casts.
//! [`linalg`] decomposes and solves; [`signal`] has Fourier transforms.
//! [`conv`], [`pool`] and [`dilation`] slide the windows of [`window`], and [`conv_grad`] and [`pool_grad`] take their
//! gradients; [`norm`] and [`local_norm`] normalize, [`image`] and [`resample`] resize, [`rnn`] goes through sequences,
//! [`attention`] weighs them, [`ctc`] reads labels off them, [`random`] makes numbers from seeds; [`activation`] names the functions that kernels can
//! apply as their last step, and [`packed`] has products and convolutions of weights that were laid out before.
//! Beneath them, `simd` compiles a loop for every instruction set and picks one at run time, `parallel` decides
//! when threads are worth it, and `broadcast` walks operands that repeat. Axes, paddings and other arguments come
//! resolved and typed: names and attributes of ops are the callers' matter.

pub mod activation;
pub mod array;
pub mod attention;
pub mod boxes;
pub(crate) mod broadcast;
pub mod colour;
pub mod conv;
pub mod conv_grad;
pub mod ctc;
pub mod dilation;
pub mod elementwise;
pub mod image;
pub mod linalg;
pub mod local_norm;
pub mod matmul;
pub mod norm;
pub mod packed;
pub(crate) mod parallel;
pub mod patches;
pub mod pool;
pub mod pool_grad;
pub mod random;
pub mod reduce;
pub mod resample;
pub mod rnn;
pub mod signal;
pub(crate) mod simd;
pub(crate) mod team;
pub mod warp;
pub mod window;

pub use broadcast::broadcast_shape;
