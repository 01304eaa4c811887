"""Writes the checkpoints beside this file with TensorFlow, and `sums.txt`: length and CRC of those too large to keep.

    python generate.py            everything but Keras's (tensorflow 2.21)
    python generate.py --keras    Keras's own: once with keras 2.15, once with keras 3
"""

import argparse
import os
import pathlib
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import ml_dtypes
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import dtypes as tf_dtypes
from tensorflow.core.protobuf import saver_pb2

ARGUMENTS = argparse.ArgumentParser()
ARGUMENTS.add_argument("--keras", action="store_true")
ARGUMENTS.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
ARGUMENTS = ARGUMENTS.parse_args()
HERE = ARGUMENTS.out
SUMS = {}


def crc32c(data):
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def summed(folder):
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        SUMS[path.name] = (len(data), crc32c(data))


def save(prefix, names, tensors, slices=None):
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=names, shape_and_slices=slices or [""] * len(names), tensors=tensors
    )


def of_bits(dtype, width):
    bits = np.array([[0, 1, 2], [60, 61, 100]], dtype={1: np.uint8, 2: np.uint16}[width])
    return tf.constant(bits.view(dtype))


def dtypes():
    """Every dtype that SaveV2 stores, as 2x3, in an order that isn't the keys', with strings and empty tensors."""
    tensors = {}
    for name in "float64 float32 int64 int32 int16 int8 uint64 uint32 uint16 uint8".split():
        tensors[name] = tf.constant((np.arange(6) * 17 - 40).astype(name).reshape(2, 3))
    tensors["bool"] = tf.constant([[True, False, True], [False, False, True]])
    for name in ("complex64", "complex128"):
        tensors[name] = tf.constant((np.arange(6) - 1.5j).astype(name).reshape(2, 3))
    tensors["float16"] = of_bits(np.float16, 2)
    tensors["bfloat16"] = of_bits(ml_dtypes.bfloat16, 2)
    for name in ("float8_e5m2", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2fnuz"):
        try:
            tensors[name] = of_bits(getattr(ml_dtypes, name), 1)
        except (AttributeError, TypeError, ValueError):
            print("no", name)
    tensors["int4"] = tf.cast(tf.constant([[-8, -1, 0], [1, 2, 7]]), tf_dtypes.int4)
    tensors["uint4"] = tf.cast(tf.constant([[0, 1, 2], [3, 8, 15]]), tf_dtypes.uint4)
    for name, plain in (("qint8", "int8"), ("quint8", "uint8"), ("qint16", "int16"), ("quint16", "uint16"), ("qint32", "int32")):
        tensors[name] = tf.bitcast(tensors[plain], getattr(tf, name))
    tensors["string"] = tf.constant([["", "a", "x" * 300], ["\0\xff", "b", "c"]])
    tensors["string_scalar"] = tf.constant("text")
    tensors["string_empty"] = tf.zeros([0], tf.string)
    tensors["empty"] = tf.zeros([0, 4])
    tensors["scalar"] = tf.constant(3, tf.int64)
    save(HERE / "dtypes", list(tensors), list(tensors.values()))


def slices():
    """Partitioned variables as `Saver` writes them, one in three parts, and both spellings of an extent by SaveV2."""
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        values = np.arange(24, dtype=np.float32).reshape(6, 4)

        def part(shape, dtype=None, partition_info=None):
            start = partition_info.var_offset[0]
            return tf.constant(values[start : start + shape[0]])

        thirds = tf.compat.v1.fixed_size_partitioner(3)
        tf.compat.v1.get_variable("rows", [6, 4], initializer=part, partitioner=thirds, use_resource=False)
        tf.compat.v1.get_variable("plain", initializer=np.float32(2.5), use_resource=False)
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver()
        saver.save(session, str(HERE / "partitioned"), write_meta_graph=False, write_state=False)
        v1 = tf.compat.v1.train.Saver(write_version=saver_pb2.SaverDef.V1)
        v1.save(session, str(HERE / "partitioned_v1"), write_meta_graph=False, write_state=False)
        sharded = tf.compat.v1.train.Saver(sharded=True)
        sharded.save(session, str(HERE / "one_shard"), write_meta_graph=False, write_state=False)
    a, b = tf.constant(np.arange(8).reshape(2, 4)), tf.constant(np.arange(8, 24).reshape(4, 4))
    save(HERE / "open_slices", ["w", "w"], [a, b], ["6 4 0,2:-", "6 4 2,4:-"])


def shards():
    """Two bundles merged into one of two data files."""
    with tempfile.TemporaryDirectory() as folder:
        parts = [f"{folder}/a", f"{folder}/b"]
        save(parts[0], ["x", "t"], [tf.constant([1.0, 2.0]), tf.constant(["s"])])
        save(parts[1], ["y"], [tf.constant([[3, 4]])])
        tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(HERE / "sharded"))


def v1():
    """A V1 file with every dtype it can hold."""
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        names = "float32 float64 int64 int32 int16 int8 uint8 complex64 complex128 bool float16".split()
        for name in names:
            value = (np.arange(6) * 17 - 40).astype(name).reshape(2, 3)
            tf.compat.v1.get_variable(name, initializer=value, use_resource=False)
        for name in ("quint8", "qint8", "qint32"):
            value = tf.bitcast(tf.constant([1, 2, 3], getattr(tf, name[1:])), getattr(tf, name))
            tf.compat.v1.get_variable(name, initializer=value, use_resource=False)
        tf.compat.v1.get_variable("string", initializer=tf.constant(["", "a", "x" * 300]), use_resource=False)
        tf.compat.v1.get_variable("scope/scalar", initializer=np.int64(-3), use_resource=False)
        session.run(tf.compat.v1.global_variables_initializer())
        saver = tf.compat.v1.train.Saver(write_version=saver_pb2.SaverDef.V1)
        saver.save(session, str(HERE / "v1"), write_meta_graph=False, write_state=False)


def large():
    """An index of several blocks, and V1 records larger than a block."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        names = [f"block_{i % 7}/layer_{i}/kernel" for i in range(12000)]
        save(folder / "many", names, [tf.constant(i, tf.int32) for i in range(12000)])
        graph = tf.Graph()
        with graph.as_default(), tf.compat.v1.Session() as session:
            for i, n in enumerate([300000, 3, 100000, 70000, 5]):
                value = (np.arange(n) * (i + 1)).astype(np.float32)
                tf.compat.v1.get_variable(f"v{i}", initializer=value, use_resource=False)
            session.run(tf.compat.v1.global_variables_initializer())
            saver = tf.compat.v1.train.Saver(write_version=saver_pb2.SaverDef.V1)
            saver.save(session, str(folder / "large_v1"), write_meta_graph=False, write_state=False)
        summed(folder)


def keras():
    """A trained Sequential as Keras saves it: weights with either kind of optimizer (2), a Checkpoint (3)."""
    import keras

    def trained(optimizer):
        keras.utils.set_random_seed(1)
        layers = keras.layers
        model = keras.Sequential(
            [layers.Input((4,)), layers.Dense(3), layers.BatchNormalization(), layers.ReLU(), layers.Dense(2)]
        )
        model.compile(optimizer, "mse")
        model.fit(np.ones((4, 4), np.float32), np.ones((4, 2), np.float32), verbose=0)
        return model

    if keras.__version__.startswith("2."):
        trained(keras.optimizers.Adam()).save_weights(HERE / "keras2_adam")
        keras.backend.clear_session()
        trained(keras.optimizers.legacy.Adam()).save_weights(HERE / "keras2_legacy_adam")
    else:
        tf.train.Checkpoint(model=trained(keras.optimizers.Adam())).save(str(HERE / "keras3_adam"))
    (HERE / "checkpoint").unlink()


if __name__ == "__main__":
    HERE.mkdir(parents=True, exist_ok=True)
    if ARGUMENTS.keras:
        keras()
    else:
        for make in (dtypes, slices, shards, v1, large):
            make()
        lines = [f"{name} {length} {crc:#010x}\n" for name, (length, crc) in sorted(SUMS.items())]
        (HERE / "sums.txt").write_text("".join(lines))
