"""What the recipes of `.h5` and `.keras` share: the checks of a whole model in one file."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from checks import OURS, THEIRS, Check
from world import World, same_bits

from . import models


@dataclass(frozen=True)
class WholeFile:
    """One of the formats: its recipe, the example that writes it, its extension, and a format to convert from."""

    recipe: int
    example: str
    extension: str
    form: str
    source: str

    def checks(self, world: World) -> Iterator[Check]:
        ours = functools.partial(Check, self.recipe, OURS)
        theirs = functools.partial(Check, self.recipe, THEIRS)
        for name, check in {
            "load_model and predict": self.predict,
            "compile config and optimizer": self.compiled,
            "fit goes on": self.train,
            "saved again by Keras": self.save_again,
        }.items():
            yield ours(name, functools.partial(check, world))
        for case in models.CASES:
            yield theirs(f"{case}: run", functools.partial(self.run, world, case))
            yield theirs(f"{case}: inspect, verify, weights", functools.partial(self.look, world, case))
            yield ours(f"{case}: written again", functools.partial(self.convert, world, case, self.form))
            yield ours(f"{case}: from .{self.source}", functools.partial(self.convert, world, case, self.source))
            if world.other_keras is not None and case != "activations":
                yield ours(f"{case}: in the other dialect", functools.partial(self.cross, world, case))
        yield theirs("custom: an unknown class is named", functools.partial(self.unknown_class, world))
        yield ours("custom: written again", functools.partial(self.convert, world, "custom", self.form))

    def file(self, world: World) -> tuple[Path, np.ndarray, np.ndarray]:
        folder = world.example(self.example)
        return folder / f"model{self.extension}", np.load(folder / "x.npy"), np.load(folder / "y.npy")

    def predict(self, world: World) -> str:
        path, x, y = self.file(world)
        return models.gives(models.load(path, world.keras), x, y)

    def compiled(self, world: World) -> str:
        return models.is_compiled(models.load(self.file(world)[0], world.keras))

    def train(self, world: World) -> str:
        path, x, y = self.file(world)
        return models.trains_on(models.load(path, world.keras), [x], [y])

    def save_again(self, world: World) -> str:
        from world import all_close

        path, x, y = self.file(world)
        again = world.scratch(f"again-{self.form}") / path.name
        again.parent.mkdir(parents=True)
        models.load(path, world.keras).save(str(again))
        return all_close(list(world.run(again, {"in_0": x}).values()), [y])

    def run(self, world: World, case: str) -> str:
        fresh = world.fresh(case)
        return fresh.agrees(world.run(fresh.form(self.form), fresh.fed()))

    def look(self, world: World, case: str) -> str:
        fresh = world.fresh(case)
        path = fresh.form(self.form)
        shown = world.modelark("inspect", path)
        missing = [layer.name for layer in fresh.model.layers if layer.name not in shown]
        assert not missing, f"inspect doesn't show {missing}"
        world.modelark("verify", path)
        stored = [(a.shape, a.tobytes()) for a in world.extract(path).values()]
        arrays = [np.asarray(v) for v in fresh.model.weights]
        absent = [a.shape for a in arrays if (a.shape, a.tobytes()) not in stored]
        assert not absent, f"weights of shapes {absent} aren't among those extracted"
        return f"{len(arrays)} weights"

    def convert(self, world: World, case: str, source: str) -> str:
        fresh = world.fresh(case)
        target = world.scratch(f"{case}-{source}-to-{self.form}") / f"model{self.extension}"
        path = world.convert(fresh.form(source), target)
        return models.is_the_same(fresh, path, world.keras)

    def cross(self, world: World, case: str) -> str:
        fresh = world.fresh(case)
        other = "keras2" if world.dialect == "keras3" else "keras3"
        target = world.scratch(f"{case}-{self.form}-{other}") / f"model{self.extension}"
        target.parent.mkdir(parents=True)
        said = world.modelark("convert", fresh.form(self.form), target, "--dialect", other)
        if case == "lstm":
            # The other generation has another function of that name, so the outputs can't stay; the report says so.
            assert "hard_sigmoid" in said, f"nothing about hard_sigmoid in: {said}"
            return same_bits(models.load(target, world.other_keras).get_weights(), fresh.model.get_weights())
        return models.is_the_same(fresh, target, world.other_keras)

    def unknown_class(self, world: World) -> str:
        fresh = world.fresh("custom_unregistered")
        try:
            world.run(fresh.form(self.form), fresh.fed())
        except Exception as error:  # noqa: BLE001: its text is what is looked at
            assert "PlainGatedDense" in str(error) and "gated" in str(error), f"unclear: {error}"
            return str(error)[-200:]
        raise AssertionError("a class that isn't known was run")
