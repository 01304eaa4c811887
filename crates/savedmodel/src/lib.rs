//! TensorFlow SavedModel folders and frozen graphs.
