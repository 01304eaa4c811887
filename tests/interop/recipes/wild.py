"""Recipe 9: models that strangers published, where `MODELARK_WILD` names a folder of them.

Each becomes `.keras` and `.h5` in this Keras's dialect, and a SavedModel; Keras and TensorFlow load those.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from checks import OURS, Check
from world import ModelarkError, World, all_close, rebuilt

LAYERED = ("h5", "json_h5", "keras", "json_only")
WEIGHTS = ("ckpt", "h5_weights", "npy")
# An LSTM over a hundred steps adds up what single precision rounds.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
SEED = 7


@dataclass(frozen=True)
class Found:
    """A model of the folder: the file that has its architecture, and the one that has its weights."""

    folder: Path
    meta: dict[str, Any]

    @functools.cached_property
    def files(self) -> list[Path]:
        return [self.folder / name for name in self.meta.get("files", {})]

    def file(self, *endings: str) -> Path | None:
        return next((f for f in self.files if f.name.endswith(endings)), None)

    @property
    def source(self) -> tuple[Path, tuple[object, ...]]:
        """What to convert, and with which options."""
        weights, config = self.file(".h5", ".hdf5", ".keras"), self.file(".json")
        if config is None:
            assert weights is not None, f"nothing to convert among {self.files}"
            return weights, ()
        return config, ("--weights", weights) if weights else ("--initialize", SEED)

    def arrays(self, name: str) -> list[np.ndarray]:
        with np.load(self.folder / name, allow_pickle=True) as arrays:
            return [arrays[key] for key in arrays.files]


def checks(world: World) -> Iterator[Check]:
    folder = os.environ.get("MODELARK_WILD")
    if not folder:
        return
    for path in sorted(Path(folder).iterdir()):
        if not (path / "meta.json").is_file():
            continue
        found = Found(path, json.loads((path / "meta.json").read_text(encoding="utf-8")))
        name = found.meta["id"]
        if found.meta["format"] in WEIGHTS:
            yield Check(9, OURS, f"{name}: its tensors as a checkpoint", functools.partial(to_checkpoint, world, found))
        if found.meta["format"] not in LAYERED:
            continue
        if found.meta.get("lambda"):
            yield Check(9, OURS, f"{name}: Lambda is refused by name", functools.partial(refused, world, found))
            yield Check(9, OURS, f"{name}: its tensors are listed", functools.partial(listed, world, found))
            continue
        for form in (".keras", ".h5"):
            yield Check(9, OURS, f"{name} to {form}", functools.partial(to_keras, world, found, form))
        yield Check(9, OURS, f"{name} to SavedModel", functools.partial(to_saved_model, world, found))
        if world.environment.keras_major == 2:
            yield Check(9, OURS, f"{name}: Keras rebuilds the SavedModel", functools.partial(to_keras, world, found, ""))


def refused(world: World, found: Found) -> str:
    source, options = found.source
    try:
        world.convert(source, world.scratch("wild-refused") / "saved_model", *options)
    except ModelarkError as error:
        assert "Lambda" in str(error) and "lambda_1" in str(error), str(error)
        return str(error)[-200:]
    raise AssertionError("a Lambda was converted")


def listed(world: World, found: Found) -> str:
    tensors = world.extract(found.source[0])
    assert tensors, "no tensors"
    return f"{len(tensors)} tensors"


def to_checkpoint(world: World, found: Found) -> str:
    """TensorFlow reads the same tensors from the checkpoint that is made of the file."""
    import tensorflow as tf

    source = next((f.with_suffix("") for f in found.files if f.suffix == ".index"), None)
    source = source or next(f for f in found.files if f.suffix in (".h5", ".hdf5", ".npy", "") and f.name != "checkpoint")
    path = world.convert(source, world.scratch(f"wild-{found.meta['id']}") / "weights", "--to", "checkpoint")
    reader = tf.train.load_checkpoint(str(path))
    held = [np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()]
    held = sorted((str(a.shape), a.tobytes()) for a in held if a.dtype.kind == "f")
    wanted = found.arrays("expected.npz")
    wanted = sorted((str(a.shape), a.tobytes()) for a in wanted if a.dtype.kind == "f")
    assert wanted and held == wanted, f"{len(held)} tensors, of which some aren't among the file's {len(wanted)}"
    return f"{len(held)} tensors bit for bit"


def to_keras(world: World, found: Found, form: str) -> str:
    source, options = found.source
    path = world.scratch(f"wild-{found.meta['id']}") / f"model{form}"
    try:
        world.convert(source, path, "--dialect", world.dialect, *options)
    except ModelarkError as error:
        return not_built(found, error)
    model = world.keras.models.load_model(str(path), compile=False)
    rebuilt(model, world.keras)
    if not found.meta.get("has_expected"):
        return f"loads, {len(model.weights) if model.built else 'not built, 0'} weights"
    inputs = found.arrays("inputs.npz")
    outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return all_close([np.asarray(o) for o in outputs], found.arrays("expected.npz"), **CLOSE)


def not_built(found: Found, error: ModelarkError) -> str:
    """A model that nobody ever built has nothing to trace."""
    if "doesn't say its input's shape" in str(error) and not found.meta.get("has_expected"):
        return f"refused: {str(error)[-120:]}"
    raise error


def to_saved_model(world: World, found: Found) -> str:
    import tensorflow as tf

    source, options = found.source
    path = world.scratch(f"wild-{found.meta['id']}") / "saved_model"
    try:
        world.convert(source, path, *options)
    except ModelarkError as error:
        return not_built(found, error)
    loaded = tf.saved_model.load(str(path))
    if not found.meta.get("has_expected"):
        return "loads"
    inputs = [tf.constant(a) for a in found.arrays("inputs.npz")]
    outputs = loaded(inputs if len(inputs) > 1 else inputs[0])
    return all_close([o.numpy() for o in tf.nest.flatten(outputs)], found.arrays("expected.npz"), **CLOSE)
