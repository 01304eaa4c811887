"""Recipe 10: training goes on in converted files as it would have: one step more gives the same weights, for each optimizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from checks import OURS, Check
from world import World, all_close, iterations

# Steps before the file is written.
STEPS = 3
RATE = 0.02
# Keras 2 and 3 add epsilon at other places in some of them, and sum in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
LOOSE = {"rtol": 1e-2, "atol": 1e-3}

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda o: o.SGD(RATE),
    "SGD-nesterov": lambda o: o.SGD(RATE, momentum=0.9, nesterov=True),
    "Adam": lambda o: o.Adam(RATE),
    "Adam-amsgrad": lambda o: o.Adam(RATE, amsgrad=True, clipnorm=1.0),
    "AdamW": lambda o: o.AdamW(RATE, weight_decay=0.01),
    "Adamax": lambda o: o.Adamax(RATE),
    "Adagrad": lambda o: o.Adagrad(RATE),
    "Adadelta": lambda o: o.Adadelta(RATE),
    "Adafactor": lambda o: o.Adafactor(RATE),
    "Ftrl": lambda o: o.Ftrl(RATE),
    "Lion": lambda o: o.Lion(RATE),
    "Nadam": lambda o: o.Nadam(RATE),
    "RMSprop": lambda o: o.RMSprop(RATE),
    "RMSprop-centered": lambda o: o.RMSprop(RATE, momentum=0.5, centered=True),
    "schedule": lambda o: o.Adam(o.schedules.ExponentialDecay(RATE, 2, 0.5)),
}
LEGACY: dict[str, Callable[[Any], Any]] = {
    "legacy-SGD": lambda o: o.SGD(RATE, momentum=0.9, decay=0.01),
    "legacy-Adam": lambda o: o.Adam(RATE, amsgrad=True),
    "legacy-Adamax": lambda o: o.Adamax(RATE),
    "legacy-Adagrad": lambda o: o.Adagrad(RATE),
    "legacy-Adadelta": lambda o: o.Adadelta(RATE),
    "legacy-Ftrl": lambda o: o.Ftrl(RATE),
    "legacy-Nadam": lambda o: o.Nadam(RATE),
    "legacy-RMSprop": lambda o: o.RMSprop(RATE, momentum=0.5, centered=True),
}
# An optimizer that scales losses, around another one.
SCALED = "Adam-scaled"
# What a file may become on its way: its weights and state alone, for the architecture to take them up again.
BETWEEN = {"checkpoint": ("state", "--to", "checkpoint"), ".weights.h5": ("state.weights.h5",)}
# Where the generations' own rules differ, so that no file can make the step the same.
DIFFER = ("legacy-SGD", "Adafactor", "Nadam")


def checks(world: World) -> Iterator[Check]:
    keras3 = world.environment.keras_major == 3
    for name in [SCALED, *(OPTIMIZERS if keras3 else OPTIMIZERS | LEGACY)]:
        # An archive of Keras 2 has no legacy optimizer's state, and a SavedModel gives it none back of any.
        source = ".h5" if name.startswith("legacy") else ".keras"
        # Keras 3 restores no slots from an `.h5`, whoever wrote it.
        targets = [".keras"] if keras3 else [".h5"] if source == ".h5" else [".keras", ".h5"]
        # Keras 2 forgets Nadam's product of momenta in its own files, too.
        if name == SCALED and not keras3:
            # Nor does it restore from an `.h5` what scales losses around one of its later optimizers.
            targets = [".keras"]
        for target in targets if keras3 or name != "Nadam" else []:
            what = f"{name}: {source} to {target} trains on"
            yield Check(10, OURS, what, functools.partial(goes_on, world, name, source, target))
        for form in BETWEEN if keras3 or name != "Nadam" else []:
            # Legacy optimizers have no place in the weights of archives.
            if name.startswith("legacy") and form != "checkpoint":
                continue
            what = f"{name}: {source} by way of {form} to {targets[-1]} trains on"
            yield Check(10, OURS, what, functools.partial(goes_round, world, name, source, form, targets[-1]))
        if world.other_keras is not None and name not in DIFFER:
            what = f"{name}: {source} to .keras of the other Keras trains on"
            yield Check(10, OURS, what, functools.partial(other, world, name, source))


def goes_on(world: World, name: str, source: str, target: str) -> str:
    it = trained(world, name, source)
    path = world.convert(it.path, world.scratch(f"continued-{name}") / f"model{target}", "--dialect", world.dialect)
    return it.step_agrees(world.keras.models.load_model(str(path)), **CLOSE)


def goes_round(world: World, name: str, source: str, form: str, target: str) -> str:
    it = trained(world, name, source)
    file, *options = BETWEEN[form]
    folder = world.scratch(f"continued-{name}")
    state = world.convert(it.path, folder / file, "--dialect", world.dialect, *options)
    path = world.convert(it.path, folder / f"model{target}", "--weights", state, "--dialect", world.dialect)
    return it.step_agrees(world.keras.models.load_model(str(path)), **CLOSE)


def other(world: World, name: str, source: str) -> str:
    it = trained(world, name, source)
    dialect = "keras2" if world.dialect == "keras3" else "keras3"
    path = world.convert(it.path, world.scratch(f"continued-{name}") / "other.keras", "--dialect", dialect)
    return it.step_agrees(world.other_keras.models.load_model(str(path)), **LOOSE)


class Trained:
    """A model trained a few steps, its file, and the weights after one step more."""

    def __init__(self, world: World, name: str, source: str) -> None:
        keras = world.keras
        keras.backend.clear_session()
        keras.utils.set_random_seed(5)
        rng = np.random.default_rng(6)
        self.x, self.y = (rng.standard_normal(shape).astype("float32") for shape in ((8, 5), (8, 2)))
        model = keras.Sequential(
            [
                keras.Input((5,), name="x"),
                keras.layers.Dense(6, activation="tanh", name="one"),
                keras.layers.BatchNormalization(name="norm"),
                keras.layers.Dense(2, name="two"),
            ],
            name="continued",
        )
        model.compile(optimizer(keras, name), "mean_squared_error")
        for _ in range(STEPS):
            self.step(model)
        self.path = world.work / "continued" / f"{name}{source}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        model.save(str(self.path))
        before = [np.array(w) for w in model.get_weights()]
        self.step(model)
        self.after = [np.array(w) for w in model.get_weights()]
        assert any(not np.array_equal(a, b) for a, b in zip(before, self.after)), "the step changes nothing"

    def step(self, model: Any) -> None:
        model.fit(self.x, self.y, batch_size=len(self.x), epochs=1, verbose=0, shuffle=False)

    def step_agrees(self, model: Any, **tolerance: float) -> str:
        assert iterations(model) == STEPS, f"step {iterations(model)} instead of {STEPS}"
        self.step(model)
        return all_close(model.get_weights(), self.after, **tolerance)


def optimizer(keras: Any, name: str) -> Any:
    if name == SCALED:
        scaled = getattr(keras.optimizers, "LossScaleOptimizer", None) or keras.mixed_precision.LossScaleOptimizer
        return scaled(keras.optimizers.Adam(RATE), initial_scale=8.0, dynamic_growth_steps=2)
    optimizers = keras.optimizers.legacy if name.startswith("legacy") else keras.optimizers
    return (LEGACY | OPTIMIZERS)[name](optimizers)


@functools.lru_cache(maxsize=1)
def trained(world: World, name: str, source: str) -> Trained:
    return Trained(world, name, source)
