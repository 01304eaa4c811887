"""Recipe 6: JSON for the architecture, `.npy` or `.npz` for the weights."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from checks import OURS, THEIRS, Check
from world import World, all_close, predictions, same_bits

CASES = ("mlp", "functional", "conv", "nested", "lstm")


def checks(world: World) -> Iterator[Check]:
    for kind in ("npy", "npz"):
        yield Check(6, OURS, f"model_from_json with .{kind}", functools.partial(take_ours, world, kind))
    for case in CASES:
        yield Check(6, THEIRS, f"{case}: JSON with .npy", functools.partial(run_npy, world, case))
        yield Check(6, THEIRS, f"{case}: JSON with .npz", functools.partial(run_npz, world, case))
        yield Check(6, OURS, f"{case}: .h5 to JSON and .npy", functools.partial(convert, world, case))
    yield Check(6, THEIRS, "arrays of every other form", functools.partial(run_forms, world))


def arrays_of(path: Path) -> list[np.ndarray]:
    """The weights in order: a flat list, a list a layer, or the numbered arrays of an archive."""
    loaded: Any = np.load(path, allow_pickle=path.suffix == ".npy")
    if path.suffix == ".npz":
        return [loaded[name] for name in loaded.files]
    flat: list[np.ndarray] = []
    for item in loaded:
        flat.extend([item] if isinstance(item, np.ndarray) and item.dtype != object else list(item))
    return flat


def take_ours(world: World, kind: str) -> str:
    folder = world.example("json_npy")
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    model = world.keras.models.model_from_json((folder / "model.json").read_text(encoding="utf-8"))
    model.set_weights(arrays_of(folder / f"weights.{kind}"))
    return all_close(predictions(model, [x]), [y])


def run_npy(world: World, case: str) -> str:
    fresh = world.fresh(case)
    return fresh.agrees(world.run(fresh.form("json"), fresh.fed(), "--weights", fresh.form("npy")))


def run_npz(world: World, case: str) -> str:
    fresh = world.fresh(case)
    path = fresh.folder / "weights.npz"
    np.savez(path, *fresh.model.get_weights())
    return fresh.agrees(world.run(fresh.form("json"), fresh.fed(), "--weights", path))


def run_forms(world: World) -> str:
    """A flat object array, and the two-dimensional one that old NumPy made of layers with as many weights each."""
    fresh = world.fresh("mlp")
    weights = fresh.model.get_weights()
    flat = np.empty(len(weights), dtype=object)
    flat[:] = weights
    pairs = np.empty((len(weights) // 2, 2), dtype=object)
    for index, array in enumerate(weights):
        pairs[index // 2, index % 2] = array
    for name, array in (("flat", flat), ("pairs", pairs)):
        path = fresh.folder / f"{name}.npy"
        np.save(path, array, allow_pickle=True)
        fresh.agrees(world.run(fresh.form("json"), fresh.fed(), "--weights", path))
    return None


def convert(world: World, case: str) -> str:
    fresh = world.fresh(case)
    folder = world.scratch(f"{case}-json")
    world.convert(fresh.form("h5"), folder / "model.json")
    world.convert(fresh.form("h5"), folder / "weights.npy")
    model = world.keras.models.model_from_json((folder / "model.json").read_text(encoding="utf-8"))
    model.set_weights(arrays_of(folder / "weights.npy"))
    same_bits(model.get_weights(), fresh.model.get_weights())
    return all_close(predictions(model, fresh.inputs), fresh.outputs)
