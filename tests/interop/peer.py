"""Makes the models of `peers.py`, or holds one in another engine and calls it as often as a line of standard input says."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Callable

import numpy as np

THREADS = int(os.environ.get("MODELARK_PEER_THREADS", "1"))
Call = Callable[[], np.ndarray]


def onnxruntime(model: str, x: np.ndarray) -> Call:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, given)[0]


def openvino(model: str, x: np.ndarray) -> Call:
    import openvino as ov

    # Floats stay floats, as in the other engines.
    options = {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.compile_model(ov.Core().read_model(model), "CPU", options).create_infer_request()
    return lambda: request.infer([x])[0]


def tensorflow(model: str, x: np.ndarray) -> Call:
    """With XLA or without, whichever is faster here."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = tf.saved_model.load(model)
    given = tf.constant(x)
    fastest: tuple[float, Call] | None = None
    for xla in (False, True):
        function = tf.function(lambda x: loaded.serve(x), jit_compile=xla)

        def call(function=function) -> np.ndarray:
            return function(given).numpy()

        try:
            call()
        except (tf.errors.OpError, ValueError):
            continue
        times = [timed(call) for _ in range(5)]
        if fastest is None or min(times) < fastest[0]:
            fastest = min(times), call
    return fastest[1]


def timed(call: Call) -> int:
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start


def make(folder: Path) -> None:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    model = {
        "mlp": mlp,
        "resnet50": lambda: keras.applications.ResNet50(weights=None),
        "mobilenetv2": lambda: keras.applications.MobileNetV2(weights=None),
        "lstm": lstm,
        "encoder": encoder,
        "dense4096": dense4096,
        "unet": unet,
    }[folder.name]()
    numbers = np.random.default_rng(0)
    for variable in model.non_trainable_variables:
        if variable.dtype == "float32" and variable.path.rsplit("/")[-1].startswith("moving"):
            variable.assign(numbers.uniform(0.5, 1.5, variable.shape))
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.export(folder / "saved_model", verbose=False)
    to_onnx(model, folder / "model.onnx")


def to_onnx(model, path: Path) -> None:
    import tensorflow as tf
    import tf2onnx

    spec = [tf.TensorSpec(t.shape, t.dtype, name="x") for t in model.inputs]
    function = tf.function(lambda x: model(x, training=False), input_signature=spec)
    tf2onnx.convert.from_function(function, spec, opset=17, output_path=str(path))


def mlp():
    import keras

    dense = keras.layers.Dense
    return keras.Sequential([keras.Input((784,)), dense(128, "relu"), dense(10, "softmax")])


def lstm():
    import keras

    parts = [keras.layers.Embedding(10_000, 128), keras.layers.LSTM(128), keras.layers.Dense(1, "sigmoid")]
    return keras.Sequential([keras.Input((200,), dtype="int32"), *parts])


def encoder():
    import keras
    from keras import layers

    def gelu(x):
        # As Keras 2 spells it: the ops of Keras 3's don't all go to ONNX.
        return 0.5 * x * (1.0 + keras.ops.erf(x / 1.4142135623730951))

    given = x = keras.Input((128, 512))
    for _ in range(6):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(8, 64)(x, x))
        y = layers.Dense(512)(layers.Dense(2048, gelu)(x))
        x = layers.LayerNormalization()(x + y)
    return keras.Model(given, x)


def dense4096():
    import keras

    return keras.Sequential([keras.Input((4096,)), *(keras.layers.Dense(4096, "relu") for _ in range(4))])


def unet():
    import keras
    from keras import layers

    def twice(x, width):
        for _ in range(2):
            x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same")(x)))
        return x

    given = x = keras.Input((256, 256, 3))
    seen = []
    for width in (32, 64, 128, 256):
        x = twice(x, width)
        seen.append(x)
        x = layers.MaxPooling2D()(x)
    x = twice(x, 512)
    for width, across in zip((256, 128, 64, 32), reversed(seen)):
        x = layers.Conv2DTranspose(width, 2, strides=2, padding="same")(x)
        x = twice(layers.Concatenate()([x, across]), width)
    return keras.Model(given, layers.Conv2D(1, 1, activation="sigmoid")(x))


def main() -> None:
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
        return
    engine, model, given, written = sys.argv[1:]
    call = {"onnxruntime": onnxruntime, "openvino": openvino, "tensorflow": tensorflow}[engine](model, np.load(given))
    np.save(written, call())
    print(timed(call), flush=True)
    for line in sys.stdin:
        print(*(timed(call) for _ in range(int(line))), flush=True)


if __name__ == "__main__":
    main()
