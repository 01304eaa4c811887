//! Save, load, run and convert TensorFlow and Keras models without TensorFlow.
