"""Keras 2's premade models, which open as Functional ones."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from checks import OURS, THEIRS, Check
from world import World, all_close

FORMS = (".keras", "")
CASES = (
    "linear",
    "linear of a list",
    "linear of a dict",
    "linear within another",
    "linear of a list within another",
    "wide and deep",
    "wide and deep of one",
    "wide and deep within another",
)


def checks(world: World) -> Iterator[Check]:
    """Each of them from both forms that hold it; Keras 3 has none."""
    if world.environment.keras_major != 2:
        return
    for case in CASES:
        for form in FORMS:
            name = f"premade {case}, {form or 'SavedModel'}"
            yield Check(10, THEIRS, f"{name}: run", functools.partial(runs, world, case, form))
            yield Check(10, OURS, f"{name}: .h5", functools.partial(goes, world, case, form))


def made(world: World, case: str, form: str) -> tuple[Path, Any, np.ndarray]:
    """A model's file, what it takes, and what it gave before it was saved."""
    def around(inner: Any, inputs: int = 1) -> Any:
        # A signature has its inputs by their names, sorted.
        given = [world.keras.Input((n,), name=f"in_{i}") for i, n in enumerate((3, 2)[:inputs])]
        return world.keras.Model(given, layers.Dense(2)(inner(given if inputs > 1 else given[0])))

    rng = np.random.default_rng(len(case))
    experimental, layers = world.keras.experimental, world.keras.layers
    a, b = (rng.normal(size=(5, n)).astype("float32") for n in (3, 2))
    deep = world.keras.Sequential([layers.Dense(4, "relu"), layers.Dense(1)])
    model, x = {
        "linear": lambda: (experimental.LinearModel(2, activation="sigmoid"), a),
        "linear of a list": lambda: (experimental.LinearModel(), [a, b]),
        "linear of a dict": lambda: (experimental.LinearModel(3, use_bias=True), {"b": a, "a": b}),
        "wide and deep": lambda: (
            experimental.WideDeepModel(experimental.LinearModel(), deep, activation="tanh"),
            [a, b],
        ),
        "wide and deep of one": lambda: (experimental.WideDeepModel(experimental.LinearModel(), deep), a),
        "linear within another": lambda: (around(experimental.LinearModel(2, "tanh")), a),
        "linear of a list within another": lambda: (around(experimental.LinearModel(2), 2), [a, b]),
        "wide and deep within another": lambda: (
            around(experimental.WideDeepModel(experimental.LinearModel(), deep)),
            a,
        ),
    }[case]()
    model.predict(x, verbose=0)
    model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    path = world.scratch(f"premade-{case.replace(' ', '-')}") / f"model{form}"
    path.parent.mkdir(parents=True, exist_ok=True)
    given = model.predict(x, verbose=0)
    model.save(str(path), **({} if form else {"save_format": "tf"}))
    return path, x, given


def runs(world: World, case: str, form: str) -> str:
    path, x, given = made(world, case, form)
    named = x if isinstance(x, dict) else {f"in_{i}": v for i, v in enumerate(x if isinstance(x, list) else [x])}
    return all_close(list(world.run(path, named).values()), [given])


def goes(world: World, case: str, form: str) -> str:
    path, x, given = made(world, case, form)
    written = world.convert(path, path.parent / f"of{form or '-folder'}.h5")
    return all_close([np.asarray(world.keras.models.load_model(str(written))(x))], [given])
