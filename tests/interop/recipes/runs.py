"""Recipe 10: any SavedModel or frozen graph runs: applications, layers, modules, graphs of TensorFlow 1."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from checks import THEIRS, Check
from world import World

from . import runs_modules, runs_tf1

# Each with the smallest side that it takes.
APPLICATIONS = {
    "VGG16": 32,
    "VGG19": 32,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "ResNet101": 32,
    "Xception": 71,
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "MobileNetV3Large": 64,
    "DenseNet121": 64,
    "DenseNet169": 32,
    "NASNetMobile": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "ConvNeXtTiny": 64,
}


def checks(world: World) -> Iterator[Check]:
    for name in APPLICATIONS:
        yield Check(10, THEIRS, f"application {name}", functools.partial(application, world, name))
    for name, make in layer_models(world.keras).items():
        yield Check(10, THEIRS, f"layer {name}", functools.partial(layer, world, name, make))
    if world.environment.name.endswith("keras2"):
        return  # The same TensorFlow as without; no Keras takes part.
    for name, case in runs_modules.CASES.items():
        yield Check(10, THEIRS, f"module {name}", functools.partial(runs_modules.check, world, name, case))
    for name, case in runs_tf1.CASES.items():
        yield Check(10, THEIRS, f"graph {name}", functools.partial(runs_tf1.check, world, name, case))


def export(world: World, model: Any, name: str) -> Path:
    """The model as a SavedModel, by the way that its Keras has for serving."""
    import tensorflow as tf

    path = world.scratch(f"runs-{name}")
    if world.environment.keras_major == 3:
        model.export(str(path), verbose=False)
    else:
        tf.saved_model.save(model, str(path))
    return path


def application(world: World, name: str) -> str:
    keras = world.keras
    keras.backend.clear_session()
    keras.utils.set_random_seed(11)
    side = APPLICATIONS[name]
    make = getattr(keras.applications, name)
    options = {"include_preprocessing": True} if name.startswith("MobileNetV3") else {}
    model = make(weights=None, input_shape=(side, side, 3), classes=10, classifier_activation=None, **options)
    x = np.random.default_rng(3).uniform(0, 255, (2, side, side, 3)).astype("float32") / (1 if options else 128)
    expected = np.asarray(model(x, training=False))
    outputs = world.run(export(world, model, name), {"in_0": x})
    return close(list(outputs.values()), [expected])


def layer(world: World, name: str, make: Callable[[Any, Any], tuple[Any, list[np.ndarray]]]) -> str:
    keras = world.keras
    keras.backend.clear_session()
    keras.utils.set_random_seed(5)
    model, inputs = make(keras, np.random.default_rng(8))
    expected = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    expected = list(expected) if isinstance(expected, (list, tuple)) else [expected]
    expected = [e.to_tensor().numpy() if hasattr(e, "to_tensor") else np.asarray(e) for e in expected]
    path = export(world, model, f"layer-{name}")
    names = [tensor.name.split(":")[0] for tensor in model.inputs]
    outputs = world.run(path, dict(zip(names, inputs)) if len(inputs) > 1 else {"in_0": inputs[0]})
    return close(list(outputs.values()), expected)


def close(actual: list[np.ndarray], expected: list[np.ndarray]) -> str:
    """Raises unless the arrays agree: within 1e-4 of the value, or of the largest where sums cancel; the rest exactly."""
    assert len(actual) == len(expected), f"{len(actual)} outputs instead of {len(expected)}"
    worst = 0.0
    for index, (one, other) in enumerate(zip(actual, expected)):
        assert one.shape == other.shape, f"output {index} is {one.shape} instead of {other.shape}"
        if other.dtype.kind in "OSU":
            assert [bytes(b) for b in one.ravel()] == [bytes(b) for b in other.ravel()], f"output {index}: {one} {other}"
            continue
        assert one.dtype == other.dtype, f"output {index} is {one.dtype} instead of {other.dtype}"
        if one.dtype.kind not in "fc":
            np.testing.assert_array_equal(one, other, err_msg=f"output {index}")
        elif one.size:
            scale = float(np.nanmax(np.abs(np.where(np.isfinite(other), other, 0)))) or 1.0
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * scale, err_msg=f"output {index}")
            worst = max(worst, float(np.nanmax(np.abs(one - other))) / scale)
    return f"largest difference {worst:.1e}"


def layer_models(keras: Any) -> dict[str, Callable[[Any, Any], tuple[Any, list[np.ndarray]]]]:
    """A model for each kind of layer, which gives the model and its inputs."""
    made = {}

    def case(shape: tuple[int | None, ...], build: Callable[[Any], Any], dtype: str = "float32", high: int = 5) -> Callable:
        def make(keras: Any, rng: Any) -> tuple[Any, list[np.ndarray]]:
            size = (2, *(6 if d is None else d for d in shape))
            if dtype == "string":
                x = np.array([[b"cat sat", b"dog"], [b"A mat!", b"cat"]])[:, : size[1]]
            elif dtype.startswith("int"):
                x = rng.integers(0, high, size).astype(dtype)
            else:
                x = rng.standard_normal(size).astype(dtype)
            given = keras.Input(shape=shape, dtype=dtype, name="given")
            return keras.Model(given, build(keras.layers)(given)), [x]

        return make

    def pair(shape: tuple[int, ...], build: Callable[[Any], Any]) -> Callable:
        def make(keras: Any, rng: Any) -> tuple[Any, list[np.ndarray]]:
            inputs = [keras.Input(shape=shape, name=name) for name in ("left", "right")]
            x = [rng.standard_normal((2, *shape)).astype("float32") for _ in inputs]
            return keras.Model(inputs, build(keras.layers)(inputs)), x

        return make

    image, steps = (8, 8, 3), (6, 4)
    for name in ("relu", "elu", "selu", "gelu", "swish", "softplus", "softsign", "tanh", "sigmoid", "hard_sigmoid", "exponential", "softmax", "mish", "linear"):
        made[f"Activation-{name}"] = case((7,), lambda la, name=name: la.Activation(name))
    made["Dense"] = case((7,), lambda la: la.Dense(5, activation="gelu"))
    made["EinsumDense"] = case(steps, lambda la: la.EinsumDense("abc,cd->abd", output_shape=(None, 3), bias_axes="d"))
    made["Embedding"] = case((6,), lambda la: la.Embedding(9, 4), "int32", 9)
    made["Flatten"] = case(image, lambda la: la.Flatten())
    made["Reshape"] = case((8,), lambda la: la.Reshape((2, -1)))
    made["Permute"] = case(image, lambda la: la.Permute((3, 1, 2)))
    made["RepeatVector"] = case((5,), lambda la: la.RepeatVector(3))
    made["Masking"] = case(steps, lambda la: la.Masking(0.0))
    for name in ("LeakyReLU", "ELU", "ReLU", "PReLU", "Softmax"):
        made[name] = case((7,), lambda la, name=name: getattr(la, name)())
    for rank, shape in ((1, (9, 3)), (2, image), (3, (5, 6, 5, 2))):
        made[f"Conv{rank}D"] = case(shape, lambda la, r=rank: getattr(la, f"Conv{r}D")(4, 3, padding="same", activation="relu"))
        made[f"Conv{rank}DTranspose"] = case(shape, lambda la, r=rank: getattr(la, f"Conv{r}DTranspose")(4, 3, strides=2))
        for pool in ("MaxPooling", "AveragePooling"):
            made[f"{pool}{rank}D"] = case(shape, lambda la, r=rank, p=pool: getattr(la, f"{p}{r}D")(2, padding="same"))
        for pool in ("GlobalMaxPooling", "GlobalAveragePooling"):
            made[f"{pool}{rank}D"] = case(shape, lambda la, r=rank, p=pool: getattr(la, f"{p}{r}D")(keepdims=True))
        made[f"UpSampling{rank}D"] = case(shape, lambda la, r=rank: getattr(la, f"UpSampling{r}D")(2))
        made[f"ZeroPadding{rank}D"] = case(shape, lambda la, r=rank: getattr(la, f"ZeroPadding{r}D")(1))
        made[f"Cropping{rank}D"] = case(shape, lambda la, r=rank: getattr(la, f"Cropping{r}D")(1))
    made["Conv2D-dilated-grouped"] = case((9, 9, 4), lambda la: la.Conv2D(8, 3, dilation_rate=2, groups=2))
    made["UpSampling2D-bilinear"] = case(image, lambda la: la.UpSampling2D(3, interpolation="bilinear"))
    for rank, shape in ((1, (9, 3)), (2, image)):
        made[f"SeparableConv{rank}D"] = case(shape, lambda la, r=rank: getattr(la, f"SeparableConv{r}D")(4, 3))
        made[f"DepthwiseConv{rank}D"] = case(shape, lambda la, r=rank: getattr(la, f"DepthwiseConv{r}D")(3, depth_multiplier=2))
    for name in ("BatchNormalization", "LayerNormalization", "UnitNormalization"):
        made[name] = case(image, lambda la, name=name: getattr(la, name)())
    made["GroupNormalization"] = case((4, 4, 6), lambda la: la.GroupNormalization(3))
    for name in ("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout"):
        made[name] = case(steps, lambda la, name=name: getattr(la, name)(0.3))
    for name in ("LSTM", "GRU", "SimpleRNN"):
        made[name] = case(steps, lambda la, name=name: getattr(la, name)(5, return_sequences=True))
        made[f"{name}-unknown-length"] = case((None, 4), lambda la, name=name: getattr(la, name)(5))
    made["LSTM-masked"] = case((6,), lambda la: lambda x: la.LSTM(5)(la.Embedding(5, 3, mask_zero=True)(x)), "int32")
    made["GRU-unrolled"] = case(steps, lambda la: la.GRU(5, unroll=True))
    made["Bidirectional"] = case(steps, lambda la: la.Bidirectional(la.LSTM(3, return_sequences=True)))
    made["TimeDistributed"] = case(steps, lambda la: la.TimeDistributed(la.Dense(3)))
    made["RNN-stacked"] = case(steps, lambda la: la.RNN([la.LSTMCell(3), la.GRUCell(4)]))
    made["ConvLSTM2D"] = case((3, 6, 6, 2), lambda la: la.ConvLSTM2D(3, 3))
    for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"):
        made[name] = pair((4, 3), lambda la, name=name: getattr(la, name)())
    made["Dot"] = pair((4, 3), lambda la: la.Dot(axes=(2, 2)))
    made["Attention"] = pair((4, 3), lambda la: la.Attention())
    made["AdditiveAttention"] = pair((4, 3), lambda la: la.AdditiveAttention())
    made["MultiHeadAttention"] = pair((4, 6), lambda la: lambda x: la.MultiHeadAttention(2, 3)(x[0], x[1]))
    made["Rescaling"] = case(image, lambda la: la.Rescaling(1 / 127.5, -1))
    made["Resizing"] = case(image, lambda la: la.Resizing(5, 11))
    made["CenterCrop"] = case(image, lambda la: la.CenterCrop(4, 5))
    made["Normalization"] = case((4,), lambda la: la.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 4, 9, 16]))
    made["Discretization"] = case((4,), lambda la: la.Discretization(bin_boundaries=[-1.0, 0.0, 1.0]))
    made["CategoryEncoding"] = case((3,), lambda la: la.CategoryEncoding(6, output_mode="multi_hot"), "int32")
    made["Hashing"] = case((2,), lambda la: la.Hashing(7), "string")
    made["StringLookup"] = case((2,), lambda la: la.StringLookup(vocabulary=["dog", "cat"]), "string")
    made["IntegerLookup"] = case((3,), lambda la: la.IntegerLookup(vocabulary=[3, 1]), "int64")
    made["TextVectorization"] = case((1,), lambda la: la.TextVectorization(vocabulary=["cat", "sat", "mat"], output_sequence_length=4), "string")
    known = {name for name in dir(keras.layers)}
    return {name: make for name, make in made.items() if name.split("-")[0] in known}
