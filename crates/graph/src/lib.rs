//! TensorFlow graphs: ops, the builder that traces, functions, and the engine that runs them.
