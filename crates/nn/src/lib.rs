//! Keras layers and models: configs, weights, and the trace of a call.
