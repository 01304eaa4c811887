"""Layers that stand within others, or learned from data: unknown classes, a FeatureSpace, ranges that were adapted."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from checks import OURS, THEIRS, Check
from world import World, all_close, custom_objects, same_bits
from zoo import custom_layers

# A file to another, by their endings. An archive doesn't tell which of a layer's weights are trained, by which an `.h5`
# lists them where they are of several layers.
WAYS = ((".h5", ".keras"), (".h5", ".weights.h5"))
PLACES = ("Sequential", "Functional", "TimeDistributed")


def checks(world: World) -> Iterator[Check]:
    """Each of them, in the forms that hold it."""
    for place in PLACES:
        for source, target in WAYS:
            run = functools.partial(stands_in, world, place, source, target)
            yield Check(10, OURS, f"unknown class in {place}: {source} to {target}", run)
    for mode in ("concat", "dict"):
        yield Check(10, THEIRS, f"FeatureSpace to {mode}: run", functools.partial(space_runs, world, mode))
        yield Check(10, OURS, f"FeatureSpace to {mode}: .h5", functools.partial(space_goes, world, mode))
    for form in (".h5", ".keras"):
        yield Check(10, THEIRS, f"adapted ranges of {form}: run", functools.partial(ranges_run, world, form))
        yield Check(10, OURS, f"adapted ranges of {form}: written otherwise", functools.partial(ranges_go, world, form))


def holder(keras: Any, place: str) -> Any:
    """A model with a layer of a class that the program doesn't know, within another layer."""
    layers, own = keras.layers, custom_layers.classes(keras).GatedDense
    if place == "TimeDistributed":
        x = keras.Input((3, 5))
        y = layers.TimeDistributed(own(4, name="own"), name="each")(x)
    else:
        if place == "Sequential":
            parts = [keras.Input((5,)), layers.Dense(6, name="first"), own(4, name="own"), layers.Dense(2, name="last")]
            inner = keras.Sequential(parts, name="inner")
        else:
            a = keras.Input((5,))
            b = own(4, name="own")(layers.Dense(6, name="first")(a))
            inner = keras.Model(a, layers.BatchNormalization(name="last")(b), name="inner")
        x = keras.Input((5,))
        y = inner(x)
    return keras.Model(x, layers.Dense(3, name="end")(y), name="outer")


def stands_in(world: World, place: str, source: str, target: str) -> str:
    model = holder(world.keras, place)
    folder = world.scratch(f"within-{place}{source}{target}")
    folder.mkdir(parents=True)
    model.save(str(folder / f"model{source}"))
    written = world.convert(folder / f"model{source}", folder / f"out{target}")
    if target == ".weights.h5":
        again = holder(world.keras, place)
        again.load_weights(str(written))
    else:
        again = world.keras.models.load_model(str(written), custom_objects=custom_objects(world.keras))
    same_bits(again.get_weights(), model.get_weights())
    return f"{len(model.get_weights())} weights"


def space(world: World, mode: str) -> tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A FeatureSpace's file, columns, and what it gave for them before it was saved."""
    import tensorflow as tf

    kinds = world.keras.utils.FeatureSpace
    encoded = "one_hot" if mode == "concat" else "int"
    features = {
        "word": kinds.string_categorical(output_mode=encoded),
        "number": kinds.integer_categorical(output_mode=encoded),
        "age": kinds.float_normalized(),
        "size": kinds.float_discretized(num_bins=3),
        "hash": kinds.string_hashed(num_bins=4),
    }
    crosses = [kinds.cross(feature_names=("word", "number"), crossing_dim=8)]
    made = kinds(features=features, crosses=crosses, output_mode=mode)
    columns = {
        "word": np.array([["red"], ["blue"], ["red"], ["green"]]),
        "number": np.array([[1], [2], [3], [1]], "int64"),
        "age": np.array([[20.0], [30.0], [40.0], [55.0]], "float32"),
        "size": np.array([[1.0], [5.0], [2.0], [4.0]], "float32"),
        "hash": np.array([["u"], ["v"], ["w"], ["u"]]),
    }
    made.adapt(tf.data.Dataset.from_tensor_slices(columns).batch(2))
    given = made({name: tf.constant(column) for name, column in columns.items()})
    given = {name: np.asarray(y) for name, y in given.items()} if mode == "dict" else {"": np.asarray(given)}
    path = world.scratch(f"features-{mode}") / "features.keras"
    path.parent.mkdir(parents=True)
    made.save(str(path))
    # Keras 3 takes numbers of categories as int32.
    number = "int64" if world.environment.keras_major == 2 else "int32"
    return path, {**columns, "number": columns["number"].astype(number)}, given


def ordered(given: dict[str, Any]) -> list[np.ndarray]:
    return [np.asarray(given[name]).astype("float32") for name in sorted(given)]


def space_runs(world: World, mode: str) -> str:
    path, columns, given = space(world, mode)
    return all_close(ordered(world.run(path, columns)), ordered(given))


def space_goes(world: World, mode: str) -> str:
    import tensorflow as tf

    path, columns, given = space(world, mode)
    written = world.convert(path, path.with_name("model.h5"))
    model = world.keras.models.load_model(str(written))
    again = model({name: tf.constant(column) for name, column in columns.items()})
    return all_close(ordered(again if mode == "dict" else {"": again}), ordered(given))


def ranges(world: World, form: str) -> tuple[Path, np.ndarray, np.ndarray]:
    """A model whose ranges were learned, one layer within another model; what it gave before it was saved."""
    keras, rng = world.keras, np.random.default_rng(3)
    found = []
    for bins in (3, 49):
        layer = keras.layers.Discretization(num_bins=bins, name=f"bins_{bins}")
        layer.adapt(rng.normal(size=(4000, 1)).astype("float32"))
        found.append(layer)
    a, x = keras.Input((1,)), keras.Input((1,))
    inner = keras.Model(a, found[0](a), name="inner")
    coded = [keras.layers.CategoryEncoding(n)(y) for n, y in ((3, inner(x)), (49, found[1](x)))]
    model = keras.Model(x, keras.layers.Concatenate()(coded))
    values = rng.normal(size=(64, 1)).astype("float32")
    path = world.scratch(f"ranges{form}") / f"model{form}"
    path.parent.mkdir(parents=True)
    given = np.asarray(model(values))
    model.save(str(path))
    return path, values, given


def ranges_run(world: World, form: str) -> str:
    path, x, given = ranges(world, form)
    return all_close(list(world.run(path, {"in_0": x}).values()), [given])


def ranges_go(world: World, form: str) -> str:
    path, x, given = ranges(world, form)
    # Back in its own form a file would be copied as it is.
    written = world.convert(path, path.with_name("other.h5" if form == ".keras" else "other.keras"))
    return all_close([np.asarray(world.keras.models.load_model(str(written))(x))], [given])
