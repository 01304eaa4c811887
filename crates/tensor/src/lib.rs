//! Tensors: dtypes, shapes, shared or mapped storage, and the math kernels.
