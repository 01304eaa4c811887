"""Recipe 5: the whole model in HDF5."""

from .whole_file import WholeFile

checks = WholeFile(recipe=5, example="hdf5_model", extension=".h5", form="h5", source="keras").checks
