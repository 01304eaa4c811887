"""Models that use much of Keras at once, for the recipe that takes them through every pair of forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from world import major

WORDS = ["apple", "pear", "fig", "plum"]
TEXTS = [["a fig, a pear"], ["plum plum apple a"]]
HALF = {"rtol": 2e-2, "atol": 2e-2}


@dataclass(frozen=True)
class Whole:
    """A model with its inputs, in the structure that it takes them in."""

    model: Any
    inputs: Any
    tolerance: Any = None


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype("float32")


def tower(keras: Any, rng: np.random.Generator) -> Whole:
    """Several inputs and outputs, a shared layer, masks, attention, a model within; compiled."""
    la = keras.layers
    question, answer = (keras.Input((6,), dtype="int32", name=name) for name in ("question", "answer"))
    features = keras.Input((4,), name="features")
    embed = la.Embedding(11, 6, mask_zero=True, name="embed")
    state = la.LSTM(4, return_sequences=True, dropout=0.1, name="state")
    both = la.Bidirectional(la.GRU(3, return_sequences=True), merge_mode="sum", name="both")
    q, a = state(embed(question)), state(embed(answer))
    attended = la.MultiHeadAttention(2, 3, name="attended")(q, a)
    # Merged without masks, of which the generations make different things there.
    pooled = [la.GlobalAveragePooling1D(name="first")(both(q)), la.GlobalAveragePooling1D(name="second")(attended)]
    pooled = la.LayerNormalization(name="normal")(la.Concatenate(name="joined")(pooled))
    within = keras.Input((7,), name="within")
    hidden = la.Dense(5, activation="gelu", kernel_regularizer="l2", kernel_constraint="max_norm", name="hidden")(within)
    head = keras.Model(within, [la.Dense(2, name="small")(hidden), hidden], name="head")
    small, hidden = head(pooled)
    score = la.Dense(1, activation="sigmoid", name="score")(la.Concatenate(name="all")([hidden, features]))
    model = keras.Model([question, answer, features], [score, small], name="tower")
    model.compile("adam", ["binary_crossentropy", "mse"], metrics=[["accuracy"], ["mae"]])
    tokens = [rng.integers(1, 11, (3, 6)).astype("int32") for _ in range(2)]
    tokens[0][:, 4:] = 0
    return Whole(model, [*tokens, floats(rng, 3, 4)])


def named(keras: Any, rng: np.random.Generator) -> Whole:
    """Inputs and outputs by name."""
    la = keras.layers
    inputs = {"size": keras.Input((3,), name="size"), "kind": keras.Input((1,), dtype="int32", name="kind")}
    kind = la.Flatten(name="flat")(la.Embedding(5, 2, name="kinds")(inputs["kind"]))
    x = la.Dense(4, activation="relu", name="first")(la.Concatenate(name="joined")([inputs["size"], kind]))
    outputs = {"price": la.Dense(1, name="price")(x), "class": la.Softmax(name="class")(la.Dense(3, name="logits")(x))}
    model = keras.Model(inputs, outputs, name="named")
    # Keras 2 compiles by its outputs' names.
    model.compile("sgd", {"price": "mse", "class": "categorical_crossentropy"})
    return Whole(model, {"size": floats(rng, 4, 3), "kind": rng.integers(0, 5, (4, 1)).astype("int32")})


def deep(keras: Any, rng: np.random.Generator) -> Whole:
    """Models in models in models, one of them called twice."""
    la = keras.layers
    core = keras.Sequential([keras.Input((4,)), la.Dense(4, name="inner"), la.BatchNormalization(name="norm")], name="core")
    x = keras.Input((4,), name="x")
    middle = keras.Model(x, la.Add(name="add")([core(x), x]), name="middle")
    shell = keras.Sequential([keras.Input((4,)), middle, la.Dropout(0.2), la.Dense(3, name="dense")], name="shell")
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    total = la.Subtract(name="total")([shell(left), shell(right)])
    steps = keras.Input((5, 4), name="steps")
    # No Keras knows of its own file that a wrapper shares what it wraps with others.
    apart = keras.Sequential([keras.Input((4,)), la.Dense(2, name="small"), la.LayerNormalization(name="normal")], name="apart")
    each = la.TimeDistributed(apart, name="each")(steps)
    model = keras.Model([left, right, steps], [total, each], name="deep")
    return Whole(model, [floats(rng, 3, 4), floats(rng, 3, 4), floats(rng, 3, 5, 4)])


def vision(keras: Any, rng: np.random.Generator) -> Whole:
    """Images: preprocessing, every kind of convolution, normalizations, squeeze and excitation."""
    la = keras.layers
    image = keras.Input((None, None, 3), name="image")
    x = la.Rescaling(1 / 127.5, -1, name="scaled")(la.Resizing(16, 12, name="sized")(image))
    x = la.RandomFlip(name="flip")(x)
    x = la.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name="conv")(x)
    x = la.Activation("swish", name="swish")(la.BatchNormalization(name="batch")(x))
    y = la.SeparableConv2D(6, 3, padding="same", depth_multiplier=2, name="separable")(x)
    y = la.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(y)
    y = la.GroupNormalization(3, name="group")(y)
    gate = la.GlobalAveragePooling2D(keepdims=True, name="mean")(y)
    gate = la.Conv2D(6, 1, activation="sigmoid", name="excite")(gate)
    x = la.Add(name="add")([x, la.Multiply(name="gated")([y, gate])])
    x = la.PReLU(shared_axes=[1, 2], name="prelu")(la.SpatialDropout2D(0.1, name="drop")(x))
    up = la.Conv2DTranspose(4, 3, strides=2, padding="same", name="up")(x)
    near = la.UpSampling2D(2, interpolation="bilinear", name="near")(la.Conv2D(4, 1, groups=2, name="grouped")(x))
    out = la.Average(name="average")([up, near])
    top = la.Dense(3, name="top")(la.Flatten(name="flat")(la.MaxPooling2D(4, name="pool")(out)))
    model = keras.Model(image, [out, top], name="vision")
    return Whole(model, [rng.uniform(0, 255, (2, 20, 14, 3)).astype("float32")])


def steps(keras: Any, rng: np.random.Generator) -> Whole:
    """An encoder whose states a decoder begins with, stacked cells, convolutions over time, any length."""
    la = keras.layers
    source, target = keras.Input((None, 4), name="source"), keras.Input((None, 3), name="target")
    _, h, c = la.LSTM(5, return_state=True, name="encoder")(source)
    decoded = la.LSTM(5, return_sequences=True, name="decoder")(target, initial_state=[h, c])
    cells = la.RNN([la.GRUCell(4), la.SimpleRNNCell(3)], return_sequences=True, name="cells")(decoded)
    cause = la.Conv1D(4, 3, padding="causal", dilation_rate=2, name="cause")(decoded)
    mixed = la.Attention(use_scale=True, name="mixed")([cause, la.Dense(4, name="keys")(source)])
    film = keras.Input((3, 5, 5, 2), name="film")
    seen = la.GlobalMaxPooling2D(name="seen")(la.ConvLSTM2D(2, 3, padding="same", name="watch")(film))
    model = keras.Model([source, target, film], [cells, mixed, seen, h], name="steps")
    return Whole(model, [floats(rng, 2, 5, 4), floats(rng, 2, 6, 3), floats(rng, 2, 3, 5, 5, 2)])


def preprocess(keras: Any, words: Callable[..., Any]) -> Whole:
    la = keras.layers
    text, word = (keras.Input((1,), dtype="string", name=name) for name in ("text", "word"))
    number, code = keras.Input((2,), name="number"), keras.Input((2,), dtype="int64", name="code")
    made = words(la)
    ids = made["tokens"](text)
    counted = la.Flatten(name="counts")(made["grams"](text))
    known = la.Flatten(name="marks")(made["words"](word))
    coded = made["codes"](code)
    normal = made["normal"](number)
    bins = made["bins"](number)
    crossed = la.HashedCrossing(7, output_mode="one_hot", name="crossed")([word, text])
    hashed = la.CategoryEncoding(6, output_mode="one_hot", name="encoded")(la.Hashing(6, name="hashed")(word))
    embedded = la.Flatten(name="flat")(la.Embedding(9, 2, name="embedded")(ids))
    wide = la.Concatenate(name="wide")([embedded, counted, normal, hashed, known, crossed])
    outputs = [la.Dense(3, name="out")(wide), ids, coded, bins]
    model = keras.Model([text, word, number, code], outputs, name="preprocess")
    inputs = [
        np.array(TEXTS),
        np.array([["fig"], ["quince"]]),
        np.array([[0.5, -1.5], [2.5, 0.1]], "float32"),
        np.array([[7, 3], [5, 5]], "int64"),
    ]
    return Whole(model, inputs)


def words(keras: Any, rng: np.random.Generator) -> Whole:
    """Preprocessing of texts, words and numbers whose vocabularies are in the configs."""

    def made(la: Any) -> dict[str, Any]:
        grams = ["plum plum", "fig", "a", "pear"]
        weights = [0.5, 1.5, 1.0, 2.0]
        return {
            "tokens": la.TextVectorization(8, output_sequence_length=4, vocabulary=WORDS, name="tokens"),
            "grams": la.TextVectorization(6, output_mode="tf_idf", ngrams=2, vocabulary=grams, idf_weights=weights, name="grams"),
            "words": la.StringLookup(vocabulary=WORDS, num_oov_indices=2, output_mode="one_hot", name="words"),
            "codes": la.IntegerLookup(vocabulary=[3, 5], mask_token=0, name="codes"),
            "normal": la.Normalization(mean=[0.1, 0.2], variance=[1.0, 2.0], name="normal"),
            "bins": la.Discretization(bin_boundaries=[-1.0, 0.0, 2.0], name="bins"),
        }

    return preprocess(keras, made)


def learned(keras: Any, rng: np.random.Generator) -> Whole:
    """The same, with vocabularies, means and bins that the layers learned."""

    def made(la: Any) -> dict[str, Any]:
        found = {
            "tokens": la.TextVectorization(8, output_sequence_length=4, name="tokens"),
            "grams": la.TextVectorization(6, output_mode="tf_idf", ngrams=2, name="grams"),
            "words": la.StringLookup(output_mode="one_hot", name="words"),
            "codes": la.IntegerLookup(name="codes"),
            "normal": la.Normalization(name="normal"),
            "bins": la.Discretization(num_bins=3, name="bins"),
        }
        found["tokens"].adapt(np.array(TEXTS))
        found["grams"].adapt(np.array(TEXTS))
        found["words"].adapt(np.array([["fig"], ["pear"], ["fig"]]))
        found["codes"].adapt(np.array([[3, 5], [5, 9]]))
        found["normal"].adapt(floats(rng, 9, 2))
        found["bins"].adapt(floats(rng, 9, 2))
        return found

    return preprocess(keras, made)


def half(keras: Any, rng: np.random.Generator) -> Whole:
    """Mixed precision, with an output in single."""
    la = keras.layers
    x = keras.Input((8, 8, 3), name="x")
    policy = {"dtype": "mixed_float16"}
    y = la.Conv2D(4, 3, padding="same", activation="relu", name="conv", **policy)(x)
    y = la.BatchNormalization(name="norm", **policy)(y)
    y = la.Add(name="add", **policy)([y, la.Conv2D(4, 1, name="one", **policy)(y)])
    y = la.GlobalAveragePooling2D(name="mean", **policy)(y)
    steps = la.LSTM(3, name="steps", **policy)(la.Reshape((2, 2), name="pairs", **policy)(y))
    brain = la.Dense(3, name="brain", dtype="mixed_bfloat16")(la.LayerNormalization(name="normal", dtype="mixed_bfloat16")(steps))
    outputs = [la.Dense(2, activation="softmax", name="out", dtype="float32")(y), la.Activation("linear", dtype="float32", name="b")(brain)]
    return Whole(keras.Model(x, outputs, name="half"), [floats(rng, 2, 8, 8, 3)], tolerance=HALF)


def operators(keras: Any, rng: np.random.Generator) -> Whole:
    """What Python's operators and the backend's functions make of tensors between layers."""
    import tensorflow as tf

    la = keras.layers
    x = keras.Input((4, 6), name="x")
    y = la.Dense(6, name="dense")(x)
    z = (y * 2.0 - x / 3.0)[:, 1:, ::2] + 1.0
    w = -z
    if major(keras) == 3:
        ops = keras.ops
        w = ops.concatenate([w, ops.exp(z), ops.where(z > 0, z, ops.zeros_like(z))], axis=-1)
        w = ops.reshape(ops.transpose(w, (0, 2, 1)), (-1, 27))
        s = ops.matmul(x, ops.transpose(y, (0, 2, 1)))
    else:
        w = tf.concat([w, tf.exp(z), tf.where(z > 0, z, tf.zeros_like(z))], axis=-1)
        w = tf.reshape(tf.transpose(w, (0, 2, 1)), (-1, 27))
        s = tf.matmul(x, y, transpose_b=True)
    return Whole(keras.Model(x, [la.Dense(2, name="out")(w), s], name="operators"), [floats(rng, 3, 4, 6)])


def stateful(keras: Any, rng: np.random.Generator) -> Whole:
    """Layers that keep their states."""
    la = keras.layers
    x = keras.Input((5, 3), batch_size=2, name="x")
    y = la.LSTM(4, stateful=True, return_sequences=True, name="lstm")(x)
    return Whole(keras.Model(x, la.GRU(3, stateful=True, name="gru")(y), name="stateful"), [floats(rng, 2, 5, 3)])


def listed(keras: Any, rng: np.random.Generator) -> Whole:
    """A list of layers that was never given an input."""
    la = keras.layers
    model = keras.Sequential(
        [
            la.Conv1D(4, 3, padding="same", name="conv"),
            la.UnitNormalization(name="unit"),
            la.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", name="einsum"),
            la.TimeDistributed(la.Dense(4), name="each"),
            la.Permute((2, 1), name="turned"),
            la.GlobalMaxPooling1D(name="most"),
        ],
        name="listed",
    )
    x = floats(rng, 2, 6, 3)
    model(x)
    return Whole(model, [x])


def quantized(mode: str) -> Callable[[Any, np.random.Generator], Whole]:
    def make(keras: Any, rng: np.random.Generator) -> Whole:
        la = keras.layers
        tokens, x = keras.Input((4,), dtype="int32", name="tokens"), keras.Input((6,), name="x")
        y = la.GlobalAveragePooling1D(name="mean")(la.Embedding(9, 6, name="embedding")(tokens))
        y = la.Dense(5, activation="relu", name="dense")(la.Add(name="add")([x, y]))
        y = la.EinsumDense("ab,bc->ac", (3,), bias_axes="c", name="einsum")(y)
        model = keras.Model([tokens, x], y, name=mode)
        model.quantize(mode)
        return Whole(model, [rng.integers(0, 9, (3, 4)).astype("int32"), floats(rng, 3, 6)])

    make.__doc__ = f"Weights quantized to {mode}."
    return make


MODELS: dict[str, Callable[[Any, np.random.Generator], Whole]] = {
    "deep": deep,
    "half": half,
    "learned": learned,
    "listed": listed,
    "named": named,
    "operators": operators,
    "stateful": stateful,
    "steps": steps,
    "tower": tower,
    "vision": vision,
    "words": words,
}
QUANTIZED = {"float8": quantized("float8"), "int4": quantized("int4"), "int8": quantized("int8")}


def models(keras: Any) -> dict[str, Callable[[Any, np.random.Generator], Whole]]:
    """Those that this Keras can make."""
    return MODELS | QUANTIZED if major(keras) == 3 else MODELS
