//! An architecture as JSON, weights as .npy or .npz, and pickled weight lists.
