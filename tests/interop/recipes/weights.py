"""Recipe 2: weights alone, as an object-based checkpoint or as `.weights.h5`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from checks import OURS, THEIRS, Check
from world import UNREADABLE, World, all_close, predictions, same_bits

from . import models

CASES = ("mlp", "functional", "conv", "lstm", "nested", "conv_groups")


def checks(world: World) -> Iterator[Check]:
    keras2 = world.environment.keras_major == 2
    if keras2:
        yield Check(2, OURS, "load_weights(checkpoint).assert_consumed()", functools.partial(load_ours, world))
    restore = functools.partial(restore_ours, world)
    yield Check(2, OURS, "tf.train.Checkpoint.restore(...).assert_consumed()", restore)
    yield Check(2, OURS, "load_weights(.weights.h5)", functools.partial(load_ours_h5, world))
    yield Check(2, OURS, "checkpoint read by tf.train.load_checkpoint", functools.partial(read_ours, world))

    forms = ("save_weights", "legacy_weights", "weights", "checkpoint") if keras2 else ("weights", "checkpoint")
    for form in forms:
        for case in ("mlp", "functional", "conv", "lstm", "nested"):
            if form == "checkpoint" and not keras2 and case == "lstm":
                continue  # Keras 3's own checkpoints miss what isn't an attribute of a layer
            run = functools.partial(run_theirs, world, case, form)
            yield Check(2, THEIRS, f"{case}: JSON with weights by {form}", run)
    for form in ("save_weights", "checkpoint") if keras2 else ("checkpoint",):
        for case in (*CASES, "custom", "subclassed"):
            listed = functools.partial(extract_checkpoint, world, case, form)
            yield Check(2, THEIRS, f"{case} by {form}: every tensor by its key", listed)
    for form in ("legacy_weights", "weights") if keras2 else ("weights",):
        for case in (*CASES, "custom"):
            listed = functools.partial(extract_h5, world, case, form)
            yield Check(2, THEIRS, f"{case} by {form}: every dataset by its path", listed)

    for case in CASES:
        to_h5 = functools.partial(convert_to_h5, world, case)
        yield Check(2, OURS, f"{case}: .keras to .weights.h5", to_h5)
        to_restore = functools.partial(convert_to_checkpoint, world, case, True)
        yield Check(2, OURS, f"{case}: .keras to a checkpoint for restore", to_restore)
        if keras2:
            to_load = functools.partial(convert_to_checkpoint, world, case, False)
            yield Check(2, OURS, f"{case}: .keras to a checkpoint for load_weights", to_load)
    yield Check(2, OURS, "a checkpoint's prefix may be a full path", functools.partial(long_prefix, world))


class Ours:
    """What the example wrote, and a model of its architecture that has other weights."""

    def __init__(self, world: World) -> None:
        self.folder = world.example("weights_checkpoint")
        self.x = np.load(self.folder / "x.npy")
        self.y = np.load(self.folder / "y.npy")
        self.model: Any = world.keras.models.model_from_json((self.folder / "model.json").read_text(encoding="utf-8"))
        assert not np.allclose(self.predict(), self.y), "the weights make no difference"

    def predict(self) -> np.ndarray:
        return predictions(self.model, [self.x])[0]


def load_ours(world: World) -> str:
    it = Ours(world)
    it.model.load_weights(str(it.folder / "ckpt" / "model")).assert_consumed()
    return all_close([it.predict()], [it.y])


def restore_ours(world: World) -> str:
    import tensorflow as tf

    it = Ours(world)
    tf.train.Checkpoint(it.model).restore(str(it.folder / "restore" / "model")).assert_consumed()
    return all_close([it.predict()], [it.y])


def load_ours_h5(world: World) -> str:
    it = Ours(world)
    it.model.load_weights(str(it.folder / "model.weights.h5"))
    return all_close([it.predict()], [it.y])


def read_ours(world: World) -> str:
    import tensorflow as tf

    it = Ours(world)
    prefix = it.folder / "ckpt" / "model"
    reader = tf.train.load_checkpoint(str(prefix))
    return agree({key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}, world.extract(prefix))


def run_theirs(world: World, case: str, form: str) -> str:
    fresh = world.fresh(case)
    return fresh.agrees(world.run(fresh.form("json"), fresh.fed(), "--weights", fresh.form(form)))


def extract_checkpoint(world: World, case: str, form: str) -> str:
    import tensorflow as tf

    prefix = world.fresh(case).form(form)
    reader = tf.train.load_checkpoint(str(prefix))
    return agree({key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}, world.extract(prefix))


def extract_h5(world: World, case: str, form: str) -> str:
    import h5py

    path = world.fresh(case).form(form)
    datasets: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            datasets[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(keep)
    read = world.extract(path)
    # The layout of save_weights groups datasets by layer; a weight's own name is the rest of the path.
    short = {name.split("/", 1)[1]: array for name, array in datasets.items() if "/" in name}
    try:
        return agree(datasets, read)
    except AssertionError:
        if form != "legacy_weights":
            raise
        return agree(short, read)


def agree(expected: dict[str, Any], actual: dict[str, np.ndarray]) -> str:
    """The same names with the same bits; strings, which `.npz` holds at a fixed width, by value."""
    expected = {k: np.asarray(v) for k, v in expected.items() if np.asarray(v).dtype.kind != "O" and not isinstance(v, bytes)}
    expected = {k: v for k, v in expected.items() if v.dtype.name not in UNREADABLE}
    missing = sorted(set(expected) - set(actual))
    assert not missing, f"not read: {missing[:5]}; there are {sorted(actual)[:8]}"
    return same_bits([actual[key] for key in expected], list(expected.values()))


def convert_to_h5(world: World, case: str) -> str:
    fresh = world.fresh(case)
    path = world.convert(fresh.form("keras"), world.scratch(f"{case}-weights") / "model.weights.h5")
    model = other_weights(world, case)
    model.load_weights(str(path))
    same_bits(model.get_weights(), fresh.model.get_weights())
    return all_close(predictions(model, fresh.inputs), fresh.outputs)


def convert_to_checkpoint(world: World, case: str, restore: bool) -> str:
    import tensorflow as tf

    fresh = world.fresh(case)
    if restore and world.environment.keras_major == 3 and case == "lstm":
        return restore_some(world, case)
    options = ("--save-counter",) if restore else ()
    name = "restore" if restore else "load"
    prefix = world.scratch(f"{case}-{name}") / "model"
    world.convert(fresh.form("keras"), prefix, "--to", "checkpoint", "--without-training", *options)
    model = other_weights(world, case)
    if restore:
        tf.train.Checkpoint(model).restore(str(prefix)).assert_consumed()
    else:
        model.load_weights(str(prefix)).assert_consumed()
    same_bits(model.get_weights(), fresh.model.get_weights())
    return all_close(predictions(model, fresh.inputs), fresh.outputs)


def restore_some(world: World, case: str) -> str:
    """Where Keras 3 tracks less than Keras 2, what it does track is restored."""
    import tensorflow as tf

    fresh = world.fresh(case)
    prefix = world.scratch(f"{case}-restore") / "model"
    world.convert(fresh.form("keras"), prefix, "--to", "checkpoint", "--without-training", "--save-counter")
    model = other_weights(world, case)
    tf.train.Checkpoint(model).restore(str(prefix)).expect_partial()
    return all_close(predictions(model, fresh.inputs), fresh.outputs)


def other_weights(world: World, case: str) -> Any:
    """The case's architecture with weights that are not those of the file."""
    original = world.fresh(case).model
    # Not from JSON, which compiles the model in Keras 3: then its optimizer would want restoring too.
    model = type(original).from_config(original.get_config())
    model.set_weights([w + 1 for w in model.get_weights()])
    return model


def long_prefix(world: World) -> str:
    """The suffix of a file is understood as its prefix."""
    it = Ours(world)
    one = world.extract(it.folder / "ckpt" / "model")
    other = world.extract(Path(f"{it.folder / 'ckpt' / 'model'}.index"))
    return agree(one, other)


assert set(CASES) <= set(models.CASES)
