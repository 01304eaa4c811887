"""Recipe 4: a compiled model as a SavedModel that Keras 2 rebuilds as a real model."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from checks import OURS, THEIRS, Check
from world import World, all_close, optimizer_arrays, predictions, same_bits

from . import models

# Compiled models, and one that isn't.
CASES = ("mlp", "functional", "conv", "lstm", "nested")


def checks(world: World) -> Iterator[Check]:
    for dialect in ("keras2", "keras3"):
        yield Check(4, OURS, f"{dialect}: tf.saved_model.load", functools.partial(load_functions, world, dialect))
    if world.environment.keras_major == 3:
        return
    for name, check in KERAS2_CHECKS.items():
        yield Check(4, OURS, name, functools.partial(check, world))
    for case in CASES:
        yield Check(4, OURS, f"{case}: .keras to SavedModel", functools.partial(from_keras, world, case))
    for case in ("mlp", "conv", "functional"):
        yield Check(4, THEIRS, f"{case}: SavedModel to .h5", functools.partial(to_h5, world, case))
        yield Check(4, THEIRS, f"{case}: SavedModel to .keras", functools.partial(to_keras, world, case))
    yield Check(4, THEIRS, "inspect tells the training config", functools.partial(inspect, world))


def ours(world: World, dialect: str = "keras2") -> tuple[Path, np.ndarray, np.ndarray]:
    folder = world.example("compiled_saved_model", dialect)
    return folder / "saved_model", np.load(folder / "x.npy"), np.load(folder / "y.npy")


def load_functions(world: World, dialect: str) -> str:
    import tensorflow as tf

    path, x, y = ours(world, dialect)
    loaded = tf.saved_model.load(str(path))
    results = loaded.signatures["serving_default"](tf.constant(x))
    all_close([value.numpy() for value in results.values()], [y])
    return all_close([loaded(tf.constant(x)).numpy()], [y])


def rebuild(world: World) -> str:
    path, x, y = ours(world)
    return models.gives(models.load(path, world.keras), x, y)


def compiled(world: World) -> str:
    """Keras restores no optimizer's state from a SavedModel, of its own or ours; it is in the checkpoint."""
    import tensorflow as tf

    path = ours(world)[0]
    seen = models.is_compiled(models.load(path, world.keras), state=False)
    state = [name for name, _ in tf.train.list_variables(str(path / "variables" / "variables")) if "optimizer" in name]
    assert state, "the checkpoint has nothing of the optimizer"
    return f"{seen}; {len(state)} variables of the optimizer in the checkpoint"


def train(world: World) -> str:
    path, x, y = ours(world)
    return models.trains_on(models.load(path, world.keras), [x], [y])


def save_again(world: World) -> str:
    """What Keras saves from our model, Modelark runs."""
    path, x, y = ours(world)
    model = models.load(path, world.keras)
    again = world.scratch("compiled-again")
    model.save(str(again), save_format="tf")
    world.keras.models.load_model(str(again))
    return all_close(list(world.run(again, {"in_0": x}).values()), [y])


KERAS2_CHECKS = {
    "load_model rebuilds the layers": rebuild,
    "load_model restores the compile config": compiled,
    "fit goes on": train,
    "model.save again": save_again,
}


def from_keras(world: World, case: str) -> str:
    fresh = world.fresh(case)
    path = world.convert(fresh.form("keras"), world.scratch(f"{case}-compiled"), "--to", "saved_model", "--dialect", "keras2")
    return models.is_the_same(fresh, path, world.keras, state=False)


def to_h5(world: World, case: str) -> str:
    fresh = world.fresh(case)
    path = world.convert(fresh.form("model_save"), world.scratch(f"{case}-from-saved") / "model.h5")
    return models.is_the_same(fresh, path, world.keras)


def to_keras(world: World, case: str) -> str:
    fresh = world.fresh(case)
    path = world.convert(fresh.form("model_save"), world.scratch(f"{case}-from-saved-k") / "model.keras")
    model = models.load(path, world.keras)
    same_bits(model.get_weights(), fresh.model.get_weights())
    same_bits(optimizer_arrays(model), optimizer_arrays(fresh.model))
    return all_close(predictions(model, fresh.inputs), fresh.outputs)


def inspect(world: World) -> str:
    shown = world.modelark("inspect", world.fresh("mlp").form("model_save"), "--json")
    for wanted in ("categorical_crossentropy", "Adam", "serving_default"):
        assert wanted in shown, f"no {wanted} in {shown[:400]}"
    return None
