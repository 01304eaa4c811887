"""Recipe 10: whole architectures, `keras.applications` with small inputs, from one form to the others."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from checks import OURS, Check
from world import World, all_close, rebuilt, same_bits

# Name -> the side of the least input that makes sense, and options.
APPLICATIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "ConvNeXtTiny": (32, {}),
    "DenseNet121": (32, {}),
    "EfficientNetB0": (32, {}),
    "EfficientNetB1": (32, {}),
    "EfficientNetV2B0": (32, {}),
    "EfficientNetV2B1": (32, {}),
    "InceptionResNetV2": (75, {}),
    "InceptionV3": (75, {}),
    "MobileNet": (32, {"alpha": 0.25}),
    "MobileNetV2": (32, {"alpha": 0.35}),
    "MobileNetV3Large": (32, {"alpha": 0.75, "minimalistic": True}),
    "MobileNetV3Small": (32, {"alpha": 0.75}),
    "NASNetMobile": (32, {}),
    "ResNet50": (32, {}),
    "ResNet50V2": (32, {}),
    "VGG16": (32, {}),
    "Xception": (71, {}),
}
# Keras 3's `.h5` loses where an op's class is, so that not even Keras loads it; and Keras 2 has no `hard_silu`.
OPS_AS_LAYERS = ("MobileNetV3Large", "MobileNetV3Small")
# Deep stacks of normalizations amplify what single precision rounds.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
SEED = 3


def checks(world: World) -> Iterator[Check]:
    for name in APPLICATIONS:
        yield Check(10, OURS, f"{name}: to SavedModel", functools.partial(saved_model, world, name))
        if world.environment.keras_major == 3 and name in OPS_AS_LAYERS:
            continue
        yield Check(10, OURS, f"{name}: .keras to .h5", functools.partial(same_keras, world, name, ".h5"))
        yield Check(10, OURS, f"{name}: .h5 to .keras", functools.partial(same_keras, world, name, ".keras"))
        if world.other_keras is not None:
            yield Check(10, OURS, f"{name}: to the other Keras", functools.partial(other_keras, world, name))


class Built:
    """An application with random weights, its input and output, and the files that Keras made of it."""

    def __init__(self, world: World, name: str) -> None:
        side, options = APPLICATIONS[name]
        world.keras.utils.set_random_seed(SEED)
        make = getattr(world.keras.applications, name)
        self.model = make(weights=None, include_top=False, input_shape=(side, side, 3), pooling="avg", **options)
        self.x = np.random.default_rng(SEED).uniform(0, 1, (2, side, side, 3)).astype("float32")
        self.y = np.asarray(self.model(self.x, training=False))
        self.folder = world.work / "applications" / name
        self.folder.mkdir(parents=True, exist_ok=True)

    def form(self, extension: str) -> Path:
        path = self.folder / f"model{extension}"
        if not path.exists():
            self.model.save(str(path))
        return path


@functools.lru_cache(maxsize=1)
def built(world: World, name: str) -> Built:
    return Built(world, name)


def classes_of(keras: Any) -> dict[str, Any]:
    """The classes of layers that applications bring with them."""
    source = keras.__name__.split(".")[0]
    where = {"convnext": ["LayerScale", "StochasticDepth"], "inception_resnet_v2": ["CustomScaleLayer"]}
    found = {}
    for module, names in where.items():
        module = import_module(f"{source}.src.applications.{module}")
        found |= {name: getattr(module, name) for name in names if hasattr(module, name)}
    return found


def same_keras(world: World, name: str, extension: str) -> str:
    it = built(world, name)
    source = it.form(".keras" if extension == ".h5" else ".h5")
    path = world.convert(source, world.scratch(f"application-{name}") / f"model{extension}")
    # An .h5 has no place for where a class is, and Keras 2.15 and tf_keras have some in different ones.
    model = world.keras.models.load_model(str(path), custom_objects=classes_of(world.keras), compile=False)
    rebuilt(model, world.keras)
    seen = all_close([np.asarray(model(it.x, training=False))], [it.y], **CLOSE)
    return f"{seen}; {same_bits(model.get_weights(), it.model.get_weights())}"


def other_keras(world: World, name: str) -> str:
    it = built(world, name)
    dialect = "keras2" if world.dialect == "keras3" else "keras3"
    path = world.scratch(f"application-{name}") / "other.keras"
    world.convert(it.form(".keras"), path, "--dialect", dialect)
    model = world.other_keras.models.load_model(
        str(path), custom_objects=classes_of(world.other_keras), compile=False
    )
    return all_close([np.asarray(model(it.x, training=False))], [it.y], **CLOSE)


def saved_model(world: World, name: str) -> str:
    import tensorflow as tf

    it = built(world, name)
    path = world.convert(it.form(".keras"), world.scratch(f"application-{name}") / "saved_model", "--dialect", "keras2")
    seen = all_close([tf.saved_model.load(str(path))(tf.constant(it.x)).numpy()], [it.y], **CLOSE)
    if world.environment.keras_major == 3:
        return seen
    model = world.keras.models.load_model(str(path), custom_objects=classes_of(world.keras), compile=False)
    rebuilt(model, world.keras)
    return f"{seen}; rebuilt: {all_close([np.asarray(model(it.x, training=False))], [it.y], **CLOSE)}"
