//! TensorFlow checkpoints: TensorBundle, V1 files, object graphs, Saver.
