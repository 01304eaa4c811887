"""Recipe 7: the `.keras` archive."""

from .whole_file import WholeFile

checks = WholeFile(recipe=7, example="keras_archive", extension=".keras", form="keras", source="h5").checks
