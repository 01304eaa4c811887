"""Small models with what Keras computes for them, one folder a case under `keras2/` or `keras3/`.

    python generate.py [case ..]  # with tensorflow 2.15 (Keras 2.15) or tensorflow 2.21 (Keras 3.15)

Each folder has `model.json` (to_json, with the version), `weights.npz` (`w_<i>`, in the order of `meta.json`'s names),
`inputs.npz` (`in_<i>`) and `expected.npz` (`out_<i>`, float32). Values are seeded.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers
KERAS3 = keras.__version__.startswith("3")
FOLDER = Path(__file__).parent / ("keras3" if KERAS3 else "keras2")
rng = np.random.default_rng(0)
CASES = {}


def case(make):
    """Registers a function that gives a model and its inputs."""
    CASES[make.__name__] = make
    return make


def floats(*shape):
    return rng.normal(size=shape).astype("float32")


def name_of(variable):
    return getattr(variable, "path", None) or variable.name


def drawn(variable):
    values = floats(*variable.shape) * np.float32(0.4)
    return np.abs(values) + np.float32(0.5) if "variance" in name_of(variable) else values


def write(name, model, inputs):
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    model.set_weights([drawn(v) for v in model.weights])
    arguments = inputs if len(inputs) > 1 else inputs[0]
    if name == "dict_io":
        arguments = dict(zip(("za", "ab"), inputs))
    outputs = model(arguments, training=False)
    if isinstance(outputs, dict):
        outputs = [outputs["y"], outputs["x"]]
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    config = json.loads(model.to_json())
    config["keras_version"] = keras.__version__
    (folder / "model.json").write_text(json.dumps(config, indent=1) + "\n")
    names = [{"key": f"w_{i}", "name": name_of(v)} for i, v in enumerate(model.weights)]
    (folder / "meta.json").write_text(json.dumps({"weights": names}, indent=1) + "\n")
    np.savez(folder / "weights.npz", **{f"w_{i}": w for i, w in enumerate(model.get_weights())})
    np.savez(folder / "inputs.npz", **{f"in_{i}": x for i, x in enumerate(inputs)})
    np.savez(folder / "expected.npz", **{f"out_{i}": np.asarray(y).astype("float32") for i, y in enumerate(outputs)})


@case
def masked_lstm():
    t = keras.Input((6,), dtype="int32", name="t")
    x = layers.Embedding(9, 3, mask_zero=True, name="e")(t)
    a = layers.LSTM(4, return_sequences=True, name="l1")(x)
    a = layers.Dropout(0.2, name="dr")(a)
    b, h, c = layers.LSTM(3, return_state=True, name="l2")(a)
    g = layers.LSTM(2, go_backwards=True, return_sequences=True, name="l3")(x)
    d = layers.LSTM(2, name="l4")(g)
    tokens = [[1, 2, 3, 0, 0, 0], [4, 0, 5, 6, 0, 0], [1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 2, 3]]
    return keras.Model(t, [a, b, h, c, g, d], name="m"), [np.array(tokens, "int32")]


@case
def init_state():
    x, h, c = keras.Input((5, 3), name="x"), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    encoder = layers.LSTM(4, return_sequences=True, return_state=True, name="enc")
    y, s1, s2 = encoder(x, initial_state=[h, c])
    z = layers.LSTM(4, name="dec")(y, initial_state=[s1, s2])
    return keras.Model([x, h, c], [y, z], name="m"), [floats(2, 5, 3), floats(2, 4), floats(2, 4)]


@case
def masking():
    x = floats(3, 5, 2)
    x[0, 3:] = 0
    x[1, :2] = 0
    parts = [
        keras.Input((5, 2), name="x"),
        layers.Masking(0.0, name="mk"),
        layers.LSTM(3, return_sequences=True, name="a"),
        layers.LayerNormalization(name="ln"),
        layers.LSTM(2, name="b"),
    ]
    return keras.Sequential(parts, name="masking"), [x]


@case
def masked_pool():
    t = keras.Input((4,), dtype="int32", name="t")
    x = layers.Embedding(5, 3, mask_zero=True, name="e")(t)
    y = layers.GlobalAveragePooling1D(name="p")(x)
    return keras.Model(t, [y], name="m"), [np.array([[1, 2, 0, 0], [3, 4, 1, 0]], "int32")]


@case
def merges():
    a, b, s = keras.Input((4,), name="a"), keras.Input((4,), name="b"), keras.Input((3, 4), name="s")
    outputs = [
        layers.Add(name="o0")([a, b]),
        layers.Subtract(name="o1")([a, b]),
        layers.Multiply(name="o2")([a, b]),
        layers.Average(name="o3")([a, b, a]),
        layers.Maximum(name="o4")([a, b]),
        layers.Minimum(name="o5")([a, b]),
        layers.Concatenate(name="o6")([a, b]),
        layers.Dot(axes=1, name="o7")([a, b]),
        layers.Dot(axes=-1, normalize=True, name="o8")([a, b]),
        layers.Dot(axes=(2, 1), name="o9")([s, a]),
        layers.Concatenate(axis=1, name="o10")([s, s]),
        layers.Dot(axes=2, name="o11")([s, s]),
    ]
    return keras.Model([a, b, s], outputs, name="m"), [floats(3, 4), floats(3, 4), floats(3, 3, 4)]


@case
def conv1d():
    x = keras.Input((9, 4), name="x")
    outputs = [
        layers.Conv1D(3, 3, name="c0")(x),
        layers.Conv1D(3, 3, padding="causal", dilation_rate=2, name="c1")(x),
        layers.Conv1D(3, 2, strides=2, padding="same", activation="relu", name="c2")(x),
        layers.Conv1D(4, 3, groups=2, name="c3")(x),
        layers.MaxPooling1D(2, name="p0")(x),
        layers.AveragePooling1D(3, strides=2, padding="same", name="p1")(x),
        layers.GlobalMaxPooling1D(name="p2")(x),
        layers.GlobalAveragePooling1D(keepdims=True, name="p3")(x),
        layers.ZeroPadding1D((1, 2), name="z")(x),
    ]
    return keras.Model(x, outputs, name="m"), [floats(2, 9, 4)]


@case
def conv2d():
    x = keras.Input((7, 6, 3), name="x")
    outputs = [
        layers.Conv2D(4, (3, 2), padding="same", strides=(2, 1), activation="gelu", name="c0")(x),
        layers.Conv2D(4, 2, dilation_rate=(2, 2), use_bias=False, name="c1")(x),
        layers.MaxPooling2D((2, 3), padding="same", name="p0")(x),
        layers.AveragePooling2D((2, 2), strides=(1, 2), padding="same", name="p1")(x),
        layers.AveragePooling2D((2, 2), name="p2")(x),
        layers.ZeroPadding2D(((1, 2), (0, 3)), name="z")(x),
        layers.GlobalMaxPooling2D(name="g")(x),
        layers.GlobalAveragePooling2D(keepdims=True, name="g2")(x),
        layers.BatchNormalization(name="bn")(x),
        layers.BatchNormalization(axis=1, scale=False, name="bn1")(x),
        layers.LayerNormalization(axis=[1, 3], name="ln")(x),
        layers.LayerNormalization(center=False, name="ln2")(x),
    ]
    return keras.Model(x, outputs, name="m"), [floats(2, 7, 6, 3)]


@case
def channels_first():
    x = keras.Input((3, 6, 5), name="x")
    outputs = [
        layers.GlobalAveragePooling2D(data_format="channels_first", name="g")(x),
        layers.Flatten(data_format="channels_first", name="f")(x),
    ]
    if KERAS3:
        outputs.append(layers.Conv2D(4, 3, data_format="channels_first", name="c")(x))
    return keras.Model(x, outputs, name="m"), [floats(2, 3, 6, 5)]


@case
def shapes():
    x = keras.Input((4, 6), name="x")
    outputs = [
        layers.Flatten(name="f")(x),
        layers.Reshape((3, 8), name="r")(x),
        layers.Reshape((-1, 2), name="r1")(x),
        layers.Permute((2, 1), name="p")(x),
        layers.RepeatVector(3, name="rv")(layers.Flatten(name="f2")(x)),
        layers.Rescaling(0.5, offset=1.0, name="rs")(x),
        layers.Dense(3, name="d3")(x),
    ]
    return keras.Model(x, outputs, name="m"), [floats(2, 4, 6)]


@case
def activation_classes():
    x = keras.Input((5, 4), name="x")
    outputs = [
        layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2, name="r0")(x),
        layers.ReLU(6.0, name="r1")(x),
        layers.ReLU(name="r2")(x),
        layers.LeakyReLU(0.17, name="r3")(x),
        layers.ELU(0.7, name="r4")(x),
        layers.Softmax(name="s")(x),
        layers.Softmax(axis=1, name="s1")(x),
        layers.Softmax(axis=[1, 2], name="s2")(x),
        layers.PReLU(name="p")(x),
        layers.PReLU(shared_axes=[1], name="p1")(x),
        layers.GaussianNoise(0.1, name="g")(x),
        layers.SpatialDropout1D(0.1, name="sd")(x),
        layers.ActivityRegularization(0.1, name="ar")(x),
    ]
    return keras.Model(x, outputs, name="m"), [floats(2, 5, 4)]


@case
def unknown_time():
    x = keras.Input((None, 3), name="x")
    y = layers.Dense(4, activation="relu", name="d")(x)
    y = layers.LSTM(3, return_sequences=True, name="l")(y)
    z = layers.Conv1D(2, 3, padding="same", name="c")(y)
    flat = layers.Flatten(name="f")(layers.GlobalMaxPooling1D(name="g")(z))
    return keras.Model(x, [y, z, layers.Reshape((-1, 1), name="r")(z), flat], name="m"), [floats(2, 7, 3)]


@case
def nested_deep():
    i = keras.Input((4,), name="ni")
    inner = keras.Model(i, [layers.Dense(3, name="q")(i), layers.Dense(2, name="w")(i)], name="inner")
    middle = keras.Sequential([keras.Input((3,), name="mi"), layers.Dense(4, activation="tanh", name="z")], name="mid")
    a = keras.Input((4,), name="a")
    u, v = inner(a)
    u2, v2 = inner(middle(u))
    return keras.Model(a, [layers.Concatenate(name="c")([v, v2]), u2], name="m"), [floats(3, 4)]


@case
def sequential_nested():
    inner = keras.Sequential([layers.Dense(3, name="q"), layers.Activation("relu", name="r")], name="inner")
    return keras.Sequential([keras.Input((4,), name="x"), inner, layers.Dense(2, name="o")], name="s"), [floats(3, 4)]


@case
def dict_io():
    a, b = keras.Input((4,), name="za"), keras.Input((3,), name="ab")
    outputs = {"y": layers.Dense(2, name="d1")(a), "x": layers.Dense(2, name="d2")(b)}
    return keras.Model({"za": a, "ab": b}, outputs, name="m"), [floats(2, 4), floats(2, 3)]


@case
def mixed_precision():
    x = keras.Input((4,), name="x")
    y = layers.Dense(5, activation="relu", dtype="mixed_bfloat16", name="a")(x)
    y = layers.BatchNormalization(dtype="mixed_bfloat16", name="bn")(y)
    return keras.Model(x, layers.Dense(2, dtype="float32", name="o")(y), name="m"), [floats(3, 4)]


@case
def call_arguments():
    x = keras.Input((4,), name="x")
    y = layers.BatchNormalization(name="bn")(x, training=False)
    return keras.Model(x, layers.Dropout(0.5, name="d")(y, training=False), name="m"), [floats(3, 4)]


@case
def op_nodes():
    x = keras.Input((4,), name="x")
    y = layers.Dense(4, name="d")(x)
    z = y * 2.0 + x - 1.0
    return keras.Model(x, [z, z / y, 3.0 - z, -z, z**2.0], name="m"), [floats(3, 4)]


@case
def op_reductions():
    x = keras.Input((4, 5), name="x")
    y = layers.Dense(3, name="d")(x)
    if KERAS3:
        ops = keras.ops
        outputs = [ops.mean(y, axis=1), ops.max(y, axis=-1, keepdims=True), ops.expand_dims(y, 1), ops.sum(y, axis=[1, 2])]
    else:
        outputs = [
            tf.reduce_mean(y, axis=1),
            tf.reduce_max(y, axis=-1, keepdims=True),
            tf.expand_dims(y, 1),
            tf.reduce_sum(y, axis=[1, 2]),
        ]
    return keras.Model(x, outputs, name="m"), [floats(3, 4, 5)]


if not KERAS3:

    @keras.saving.register_keras_serializable("Modelark")
    class ConstantCell(layers.Layer):
        """A cell that is given a constant at every step; Keras 3 has no such."""

        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = self.state_size = units

        def build(self, shape):
            self.kernel = self.add_weight("kernel", (shape[-1], self.units))
            self.recurrent_kernel = self.add_weight("recurrent_kernel", (self.units, self.units))

        def call(self, x, states, constants=None):
            h = tf.tanh(x @ self.kernel + states[0] @ self.recurrent_kernel + constants[0])
            return h * constants[1], [h]

        def get_config(self):
            return {**super().get_config(), "units": self.units}

    @case
    def rnn_constants():
        x, s = keras.Input((5, 3), name="x"), keras.Input((4,), name="s")
        c, f = keras.Input((4,), name="c"), keras.Input((1,), name="f")
        a = layers.RNN(ConstantCell(4, name="ca"), name="a")(x, initial_state=[s], constants=[c, f])
        b = layers.RNN(ConstantCell(4, name="cb"), return_sequences=True, name="b")(x, constants=[c, f])
        held = layers.RNN(ConstantCell(4, name="cd"), return_sequences=True, name="r")
        d = layers.Bidirectional(held, name="d")(x, initial_state=[s, s], constants=[c, f])
        return keras.Model([x, s, c, f], [a, b, d], name="m"), [floats(2, 5, 3), floats(2, 4), floats(2, 4), floats(2, 1)]

    @case
    def cell_wrappers():
        x = keras.Input((5, 4), name="x")
        cells = [
            tf.nn.RNNCellResidualWrapper(layers.GRUCell(4, name="ga"), name="ra"),
            tf.nn.RNNCellDropoutWrapper(layers.LSTMCell(4, name="gb"), name="rb"),
            tf.nn.RNNCellDeviceWrapper(layers.SimpleRNNCell(4, name="gc"), "cpu:0", name="rc"),
        ]
        outputs = [layers.RNN(cell, return_sequences=True, name=f"l{i}")(x) for i, cell in enumerate(cells)]
        return keras.Model(x, outputs, name="m"), [floats(2, 5, 4)]


if __name__ == "__main__":
    for name, make in CASES.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            write(name, *make())
