"""Recipe 8: pickles. Lists of weights are read, anything else is refused and nothing is run."""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from checks import OURS, THEIRS, Check
from world import ModelarkError, World


def checks(world: World) -> Iterator[Check]:
    for protocol in range(2, 6):
        yield Check(8, THEIRS, f"weights pickled with protocol {protocol}", functools.partial(run, world, protocol))
    yield Check(8, THEIRS, "a pickle that calls something is refused", functools.partial(refuse_call, world))
    yield Check(8, THEIRS, "a pickle of an object is refused", functools.partial(refuse_object, world))
    yield Check(8, OURS, "saving as a pickle says what to use instead", functools.partial(refuse_save, world))


def run(world: World, protocol: int) -> str:
    fresh = world.fresh("mlp")
    path = fresh.folder / f"weights-{protocol}.pkl"
    fresh.form("json")
    with path.open("wb") as file:
        pickle.dump(fresh.model.get_weights(), file, protocol=protocol)
    return fresh.agrees(world.run(fresh.form("json"), fresh.fed(), "--weights", path))


class Call:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def refuse_call(world: World) -> str:
    fresh = world.fresh("mlp")
    fresh.form("json")
    proof, path = fresh.folder / "proof", fresh.folder / "hostile.pkl"
    with path.open("wb") as file:
        pickle.dump([np.zeros(3, "float32"), Call(proof)], file)
    said = refusal(world, "run", fresh.form("json"), "--inputs", path, "--outputs", fresh.folder / "o.npz", "--weights", path)
    listed = refusal(world, "weights", path)
    assert not proof.exists(), "it was called"
    assert "mkdir" in said + listed, f"the error doesn't name what is refused: {listed}"
    return listed


def refuse_object(world: World) -> str:
    fresh = world.fresh("mlp")
    fresh.form("json")
    path = fresh.folder / "object.pkl"
    with path.open("wb") as file:
        pickle.dump({"weights": Path("somewhere")}, file)
    said = refusal(world, "weights", path)
    assert "Path" in said, f"the error doesn't name the class: {said}"
    return said


def refuse_save(world: World) -> str:
    fresh = world.fresh("mlp")
    target = world.scratch("pickled") / "model.pkl"
    target.parent.mkdir(parents=True)
    said = refusal(world, "convert", fresh.form("keras"), target)
    assert any(word in said for word in (".keras", ".npz", "safetensors", ".h5")), f"no remedy in: {said}"
    assert not target.exists(), "something was written"
    return said


def refusal(world: World, *args: object) -> str:
    """What the program says when it refuses."""
    try:
        world.modelark(*args)
    except ModelarkError as error:
        assert "panicked" not in str(error), str(error)
        return str(error)
    raise AssertionError(f"it did not refuse {args}")
