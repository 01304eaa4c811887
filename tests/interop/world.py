"""What every check works with: one TensorFlow with one Keras, the program, and folders."""

from __future__ import annotations

import functools
import importlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fixtures"))

from zoo import custom_layers, keras_forms, models  # noqa: E402
from zoo.environment import Environment  # noqa: E402
from zoo.environment import major as keras_major  # noqa: E402

# Fresh models: not the seed of the committed fixtures.
SEED = 17
UNREADABLE = ("float8_e5m2",)
FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}


def direct_seek(member: Any, offset: int, whence: int = 0) -> int:
    """`ZipExtFile.seek` as Python 3.13 has it: earlier ones read all that is before a place to come to it.

    Keras 2 leaves the weights in the archive while it reads them, which takes most of the time of loading a large model.
    """
    if member._compress_type != zipfile.ZIP_STORED or member._decrypter is not None:
        return slow_seek(member, offset, whence)
    size = member._orig_file_size
    place = min(max((0, member.tell(), size)[whence] + offset, 0), size)
    member._fileobj.seek(member._orig_compress_start + place)
    member._expected_crc, member._readbuffer, member._offset = None, b"", 0
    member._left = member._compress_left = size - place
    member._eof = place == size
    return place


slow_seek = zipfile.ZipExtFile.seek
if sys.version_info < (3, 13):
    zipfile.ZipExtFile.seek = direct_seek


class ModelarkError(Exception):
    """The program ended with an error; the message is what it said."""


@dataclass(frozen=True)
class World:
    """Where a run of the checks happens."""

    environment: Environment
    program: Path
    examples: Path
    work: Path

    @property
    def keras(self) -> Any:
        """This environment's Keras."""
        return self.environment.keras

    @property
    def dialect(self) -> str:
        """What the program calls this Keras's generation."""
        return f"keras{self.environment.keras_major}"

    @property
    def other_keras(self) -> Any | None:
        """The Keras of the other generation, where this environment has one too."""
        if not self.environment.name.startswith("tf221"):
            return None
        return importlib.import_module("keras" if self.environment.keras_major == 2 else "tf_keras")

    def example(self, name: str, dialect: str | None = None) -> Path:
        """The folder that an example wrote, in this Keras's dialect unless another is asked for."""
        folder = self.examples / f"{name}-{dialect or self.dialect}"
        if not folder.is_dir():
            raise FileNotFoundError(f"the example {name} wrote no {folder}")
        return folder

    def scratch(self, name: str) -> Path:
        """A path in a folder of its own that didn't exist."""
        folder = self.work / "scratch" / name
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder

    def modelark(self, *args: object) -> str:
        """Runs the program and returns what it printed."""
        command = [str(self.program), *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip()
            raise ModelarkError(f"`modelark {' '.join(command[1:])}` ended with {done.returncode}: {said}")
        return done.stdout

    def convert(self, source: Path, target: Path, *options: object) -> Path:
        """Converts with the program."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self.modelark("convert", source, target, *options)
        return target

    def run(self, model: Path, inputs: dict[str, np.ndarray], *options: object) -> dict[str, np.ndarray]:
        """Runs a model with the program; outputs by name in order."""
        folder = self.work / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        fed, given = folder / "in.npz", folder / "out.npz"
        given.unlink(missing_ok=True)
        np.savez(fed, **inputs)
        self.modelark("run", model, "--inputs", fed, "--outputs", given, *options)
        with np.load(given, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def extract(self, path: Path) -> dict[str, np.ndarray]:
        """Every tensor of a file under its name there, as the program reads it."""
        out = self.work / "runs" / "extracted.npz"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.unlink(missing_ok=True)
        self.modelark("weights", path, "--extract", out)
        with np.load(out, allow_pickle=False) as arrays:
            # NumPy can't read this dtype of ml_dtypes, from files of its own neither.
            return {name: arrays[name] for name in arrays.files if not any(w in name for w in UNREADABLE)}

    @functools.cache  # noqa: B019: one world a process
    def fresh(self, case: str) -> Fresh:
        """A model of the zoo, built here and now."""
        built = models.build(case, self.keras, SEED)
        return Fresh(self, case, built.model, built.inputs, built.call(), self.work / "fresh" / case)


@dataclass(frozen=True)
class Fresh:
    """A model that this Keras made, with what it gives for some inputs."""

    world: World
    case: str
    model: Any
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    folder: Path

    def form(self, form: str) -> Path:
        """The model saved in one form of the zoo's, written on first use."""
        path = self.folder / keras_forms.FORMS[form][1]
        if form == "checkpoint":
            path = path.with_name("model-1")
        if not any(path.parent.glob(path.name + "*")):
            path.parent.mkdir(parents=True, exist_ok=True)
            keras_forms.write(self.model, form, str(self.folder / keras_forms.FORMS[form][1]))
        return path

    def fed(self) -> dict[str, np.ndarray]:
        """The inputs by position."""
        return {f"in_{i}": array for i, array in enumerate(self.inputs)}

    def agrees(self, outputs: dict[str, np.ndarray]) -> str:
        """Raises unless these are the model's outputs, in order."""
        return all_close(list(outputs.values()), self.outputs)


def custom_objects(keras: Any) -> dict[str, Any]:
    """The zoo's own layers, for `load_model`."""
    return custom_layers.custom_objects(keras)


def rebuilt(model: Any, keras: Any) -> None:
    """Raises unless the object is a model of layers of the given Keras, not a stand-in for one."""
    assert isinstance(model, keras.Model), f"not a Keras model but {type(model)}"
    modules = {type(layer).__module__ for layer in model.layers}
    stand_ins = [m for m in modules if "saved_model" in m]
    assert not stand_ins, f"layers are stand-ins from {stand_ins}"


def predictions(model: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What `predict` gives, as a list."""
    outputs = model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def optimizer_arrays(model: Any) -> list[np.ndarray]:
    """The optimizer's variables in its own order."""
    variables = model.optimizer.variables
    return [np.asarray(v) for v in (variables() if callable(variables) else variables)]


def iterations(model: Any) -> int:
    """How many steps the optimizer has taken."""
    return int(np.asarray(model.optimizer.iterations))


def all_close(actual: list[np.ndarray], expected: list[np.ndarray], **tolerance: float) -> str:
    """Raises unless the arrays agree in number, dtype, shape and value; tells the largest difference."""
    assert len(actual) == len(expected), f"{len(actual)} arrays instead of {len(expected)}"
    worst = 0.0
    for index, (one, other) in enumerate(zip(actual, expected)):
        one, other = np.asarray(one), np.asarray(other)
        assert one.shape == other.shape, f"array {index} is {one.shape} instead of {other.shape}"
        assert one.dtype == other.dtype, f"array {index} is {one.dtype} instead of {other.dtype}"
        if one.dtype.kind in "fc":
            np.testing.assert_allclose(one, other, **(tolerance or FLOAT32), err_msg=f"array {index}")
            if one.size:
                worst = max(worst, float(np.nanmax(np.abs(one.astype("float64") - other), initial=0.0)))
        else:
            np.testing.assert_array_equal(one, other, err_msg=f"array {index}")
    return f"largest difference {worst:.1e}"


def same_bits(actual: list[np.ndarray], expected: list[np.ndarray]) -> str:
    """Raises unless the arrays are the same bit for bit."""
    assert len(actual) == len(expected), f"{len(actual)} arrays instead of {len(expected)}"
    for index, (one, other) in enumerate(zip(actual, expected)):
        one, other = np.asarray(one), np.asarray(other)
        assert one.shape == other.shape, f"array {index} is {one.shape} instead of {other.shape}"
        assert one.dtype == other.dtype, f"array {index} is {one.dtype} instead of {other.dtype}"
        assert one.tobytes() == other.tobytes(), f"array {index} differs"
    return f"{len(actual)} tensors bit for bit"


def major(keras: Any) -> int:
    """Keras's generation."""
    return keras_major(keras)
