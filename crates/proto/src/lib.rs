//! Protocol buffer messages of TensorFlow's files, generated from proto/.
