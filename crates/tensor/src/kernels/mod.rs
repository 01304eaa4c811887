//! The math kernels: pure functions over tensors, with TensorFlow's numerics.
