//! HDF5 files: groups, datasets and attributes as Keras uses them.
